"""The one training loop: draw, compute, step, log, checkpoint; killed and resumed it gives what it would have given.

Single process and float32. Learning rate: linear warm-up, then half a cosine. Everything random after the initial
weights comes from two generators whose states are in the checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from kinalign.errors import ConfigError, KinalignError
from kinalign.run import RunFolder, progress


@dataclass(frozen=True)
class Optimization:
    """How long and how fast to learn; AdamW without weight decay."""

    steps: int = 2000
    """Optimizer steps."""
    learning_rate: float = 4e-4
    """The highest learning rate."""
    warmup_steps: int = 50
    """Optimizer steps until the highest learning rate."""
    betas: tuple[float, float] = (0.9, 0.99)
    max_grad_norm: float = 1.0
    """Gradients longer than this are scaled down to it."""
    log_every: int = 25
    """Optimizer steps between lines of metrics.jsonl."""
    checkpoint_every: int = 200
    """Optimizer steps between checkpoints."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1 (--{name.replace('_', '-')})")
        for name in ("learning_rate", "max_grad_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name}={getattr(self, name)} must be positive (--{name.replace('_', '-')})")

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to 3 % of the highest."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return self.learning_rate * warm * (0.03 + 0.97 * (0.5 + 0.5 * math.cos(math.pi * step / self.steps)))


@dataclass(frozen=True)
class Draw:
    """What a step may use that is random: numpy's generator for data, torch's for the model."""

    rng: np.random.Generator
    generator: torch.Generator
    step: int
    """Optimizer steps taken before this one."""


def optimize(
    run: RunFolder, module: nn.Module, terms_of: Callable[[Draw], Mapping[str, Tensor]], settings: Optimization
) -> None:
    """Train `module` in place to the end of `settings.steps`, from where the run folder stands.

    `terms_of(draw)` draws a batch and returns named scalars; "loss" is the one that is minimised, all are logged.
    Raises KinalignError when the loss or its gradients are no longer finite; no such weights reach a checkpoint.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, betas=settings.betas, weight_decay=0.0)
    rng, generator = np.random.default_rng(settings.seed), torch.Generator().manual_seed(settings.seed)
    first_step = 0
    if checkpoint := run.load_checkpoint():
        first_step = checkpoint.step
        module.load_state_dict(_with_prefix(checkpoint.tensors, "module."))
        _load_optimizer(optimizer, _with_prefix(checkpoint.tensors, "optimizer."))
        generator.set_state(checkpoint.tensors["generator"])
        rng.bit_generator.state = checkpoint.state["rng"]

    module.train()
    with progress(run.path.name, total=settings.steps, done=first_step) as advance:
        for done in range(first_step + 1, settings.steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate_at(done - 1)
            terms = terms_of(Draw(rng, generator, done - 1))
            optimizer.zero_grad(set_to_none=True)
            terms["loss"].backward()
            norm = nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
            if not (torch.isfinite(terms["loss"]) and torch.isfinite(norm)):
                raise KinalignError(
                    f"the loss is {terms['loss'].item()} and its gradient {norm.item()} at step {done} of {run.path}; "
                    "begin anew in another folder with a lower --learning-rate"
                )
            optimizer.step()
            advance(note=f"loss {terms['loss'].item():.3f}")
            if done % settings.log_every == 0 or done == settings.steps:
                run.log(done, **{name: value.item() for name, value in terms.items()})
            if done % settings.checkpoint_every == 0 or done == settings.steps:
                tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
                tensors |= _optimizer_tensors(optimizer)
                tensors["generator"] = generator.get_state()
                run.save_checkpoint(done, tensors, {"rng": rng.bit_generator.state})
    module.eval()


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat named tensors: "optimizer.12.exp_avg" belongs to parameter 12."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, entry in state.items()
        for name, value in entry.items()
    }


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
