"""The one training loop: draw, compute, step, log, checkpoint; killed and resumed it gives what it would have given.

One process, or many under `torchrun`, or a batch in parts: each sees the same draws and computes its part of the batch,
and the gradients of all are summed, so that 2 x 4 examples teach what 1 x 8 do. Processes, devices and half precision
are accelerate's. Learning rate: linear warm-up, then half a cosine. Everything random after the initial weights comes
from two generators whose states are in the checkpoint.
"""

from __future__ import annotations

import atexit
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from kinalign.errors import ConfigError, KinalignError
from kinalign.run import RunFolder, progress

if TYPE_CHECKING:
    from accelerate import Accelerator

Precision = Literal["auto", "float32", "bfloat16"]
Rows = TypeVar("Rows", Tensor, list[Any])


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
    accumulate: int = 1
    """Parts that a batch is computed in, one after the other; more take less memory."""
    max_grad_norm: float = 1.0
    """Gradients longer than this are scaled down to it."""
    precision: Precision = "auto"
    """Of matrix products; auto is bfloat16 on GPUs that have it. Weights and their updates are float32 always."""
    log_every: int = 25
    """Optimizer steps between lines of metrics.jsonl."""
    checkpoint_every: int = 200
    """Optimizer steps between checkpoints."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "log_every", "checkpoint_every"):
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
    """What a step may use that is random: numpy's generator for data, torch's for the model. All parts see the same."""

    rng: np.random.Generator
    generator: torch.Generator
    step: int
    """Optimizer steps taken before this one."""
    part: int = 0
    parts: int = 1
    device: torch.device | str = "cpu"

    def mine(self, batch: Rows) -> Rows:
        """The rows of a batch that are this part's to compute; all parts one after the other are the batch.

        Raises ConfigError for a batch of fewer rows than parts: a part of nothing has no mean.
        """
        if len(batch) < self.parts:
            raise ConfigError(
                f"a batch of {len(batch)} has no row for each of {self.parts} parts; make it larger, or fewer parts "
                "(--accumulate) and processes"
            )
        return batch[len(batch) * self.part // self.parts : len(batch) * (self.part + 1) // self.parts]


def learned(module: nn.Module) -> nn.ParameterDict:
    """The weights of a module that learn, as a module of their own: what a checkpoint has to hold."""
    return nn.ParameterDict(
        {name.replace(".", "/"): weight for name, weight in module.named_parameters() if weight.requires_grad}
    )


class Look(NamedTuple):
    """What was found when training was looked at: numbers to log, and whether it shall end here."""

    values: Mapping[str, float]
    is_last: bool = False


def optimize(
    run: RunFolder,
    module: nn.Module,
    terms_of: Callable[[Draw], Mapping[str, Tensor]],
    settings: Optimization,
    *,
    look: Callable[[int], Look | None] | None = None,
) -> None:
    """Train `module` in place to the end of `settings.steps`, from where the run folder stands.

    `terms_of(draw)` draws a batch, takes `draw.mine` of it and returns named scalars: "loss" is the one that is
    minimised, all are logged. They are means; where parts of a batch are means over unequally much, "weight" says over
    how much. Raises KinalignError when the loss or a gradient is no longer finite; such weights reach no checkpoint.

    `look(step)` is asked before the first step, as step 0, and after each one, in every process; it may only read.
    """
    accelerator = accelerated()
    module.to(accelerator.device)
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
    is_main = accelerator.is_main_process

    def ends(step: int) -> bool:
        """Whether a look at this step, which is logged, says that it is the last one."""
        found = look(step) if look else None
        if found is None:
            return False
        if is_main:
            run.log(step, **found.values)
        module.train()
        return found.is_last

    is_ended = ends(0) if checkpoint is None else checkpoint.state.get("is_ended", False)
    last_step = first_step if is_ended else settings.steps
    module.train()
    bar = progress(run.path.name, total=settings.steps, done=first_step) if is_main else nullcontext(_say_nothing)
    with bar as advance:
        for done in range(first_step + 1, last_step + 1):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate_at(done - 1)
            optimizer.zero_grad(set_to_none=True)
            terms = _backward(accelerator, trained, terms_of, Draw(rng, generator, done - 1), settings)
            norm = nn.utils.clip_grad_norm_(trained, settings.max_grad_norm).item()
            if not (math.isfinite(terms["loss"]) and math.isfinite(norm)):
                raise KinalignError(
                    f"the loss is {terms['loss']} and its gradient {norm} at step {done} of {run.path}; "
                    "begin anew in another folder with a lower --learning-rate"
                )
            optimizer.step()
            advance(note=f"loss {terms['loss']:.3f}")
            if is_main and (done % settings.log_every == 0 or done == settings.steps):
                run.log(done, **terms)
            is_ended = ends(done)
            if is_main and (done % settings.checkpoint_every == 0 or done == settings.steps or is_ended):
                tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
                tensors |= _optimizer_tensors(optimizer)
                tensors["generator"] = generator.get_state()
                run.save_checkpoint(done, tensors, {"rng": rng.bit_generator.state, "is_ended": is_ended})
            if is_ended:
                break
    accelerator.wait_for_everyone()
    module.eval()


def accelerated() -> Accelerator:
    """This process among all, and its device."""
    from accelerate import Accelerator

    has_gpu = torch.cuda.is_available()
    # told that there is no GPU, or processes on a processor alone would not find each other
    accelerator = Accelerator(cpu=not has_gpu)
    if accelerator.num_processes > 1:
        atexit.register(_leave_group)
    return accelerator


def _leave_group() -> None:
    """At the end of the program: threads that still wait for other processes would abort it."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _say_nothing(amount: int = 1, *, note: str = "") -> None:
    """In the place of a progress bar, where another process shows one."""


def _backward(
    accelerator: Accelerator,
    trained: Sequence[nn.Parameter],
    terms_of: Callable[[Draw], Mapping[str, Tensor]],
    draw: Draw,
    settings: Optimization,
) -> dict[str, float]:
    """Gradients of the whole batch, into `trained`, and its terms: weighted means over all parts of all processes."""
    accumulate, device = settings.accumulate, accelerator.device
    parts = accelerator.num_processes * accumulate
    before = deepcopy(draw.rng.bit_generator.state), draw.generator.get_state()
    sums: dict[str, Tensor] = {}
    for turn in range(accumulate):
        draw.rng.bit_generator.state = before[0]
        draw.generator.set_state(before[1])
        part = accelerator.process_index * accumulate + turn
        mine = Draw(draw.rng, draw.generator, draw.step, part, parts, device)
        with autocast(settings.precision, device):
            terms = dict(terms_of(mine))
        weight = terms.pop("weight", torch.ones(())).to(device)
        (terms["loss"] * weight).backward()
        for name, value in (*terms.items(), ("weight", weight)):
            value = value.detach() if name == "weight" else value.detach() * weight
            sums[name] = sums.get(name, torch.zeros((), device=accelerator.device)) + value
    total = accelerator.reduce(torch.stack(list(sums.values())), "sum")
    found = dict(zip(sums, total.tolist()))
    _sum_gradients(accelerator, trained)
    for parameter in trained:
        if parameter.grad is not None:
            parameter.grad /= found["weight"]
    return {name: value / found["weight"] for name, value in found.items() if name != "weight"}


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """In which matrix products are of this precision. Not accelerate's, which is set once while stages may differ."""
    is_half = precision == "bfloat16" or (
        precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    return torch.autocast(device.type, torch.bfloat16, enabled=is_half)


def _sum_gradients(accelerator: Accelerator, trained: Sequence[nn.Parameter]) -> None:
    """Gradients of all processes summed, in one message."""
    if accelerator.num_processes == 1:
        return
    own = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    summed = accelerator.reduce(torch.cat([grad.flatten() for grad in own]), "sum")
    for parameter, grad in zip(trained, summed.split([grad.numel() for grad in own])):
        parameter.grad = grad.view_as(parameter)


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
