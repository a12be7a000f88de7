"""Low-rank matrices beside a T5's own (LoRA, Hu et al. 2021): learned by the peft library, kept and merged without it.

An adapter is a folder of config.json, which names its base by the sha256 of its weights, and adapter.safetensors: of
every weight W (out, in) that it changes, A (r, in) and B (out, r), where W + B A is the changed one; a row of numbers
is a W of one column. What tuning all weights has changed is one too, nearly. Adapters of one base can be mixed; a
mixture is an adapter too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from kinalign.errors import CheckpointError, ConfigError
from kinalign.run import read_json, read_tensors, sha256_of_tensors, write_json, write_tensors

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer
    from transformers import T5ForConditionalGeneration

    from kinalign.lm.model import MotionLM

Target = Literal["q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"]
TARGETS: tuple[Target, ...] = get_args(Target)
"""Every matrix of attention and feed-forward layers, under T5's and flan-T5's names."""

CONFIG, WEIGHTS = "config.json", "adapter.safetensors"


@dataclass(frozen=True)
class LoraConfig:
    """Which matrices are learned beside a T5's own; AToM's."""

    rank: int = 8
    alpha: float = 16.0
    """What they add is multiplied by alpha / rank."""
    dropout: float = 0.05
    """Share of the inputs of these matrices that is dropped in training."""
    targets: tuple[Target, ...] = ("q", "v")
    """Beside which of T5's matrices, with commas between."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"rank={self.rank} must be at least 1 (--lora.rank)")
        if not self.alpha > 0:
            raise ConfigError(f"alpha={self.alpha} must be positive (--lora.alpha)")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout={self.dropout} must be in [0, 1) (--lora.dropout)")
        if not self.targets:
            raise ConfigError(f"targets is empty; name some of {', '.join(TARGETS)} (--lora.targets)")


# learning


def add_lora(
    t5: T5ForConditionalGeneration, config: LoraConfig, *, name: str = "default", with_table: bool = False
) -> None:
    """Freeze a T5 and put learned matrices beside its own; nothing it says changes yet. Seed torch before.

    Several of different names may be there: the last one is at work until `use_lora`. `with_table` lets the table of
    tokens learn too. Raises ConfigError where peft is absent and where T5 has none of the targets.
    """
    try:
        from peft import LoraConfig as PeftConfig
        from peft import inject_adapter_in_model
    except ImportError as error:
        raise ConfigError("LoRA needs a package: pip install 'kinalign[lora]' (--lora-rank 0 does without)") from error
    # peft says int of alpha, and only ever divides it
    alpha: Any = config.alpha
    peft_config = PeftConfig(
        r=config.rank, lora_alpha=alpha, lora_dropout=config.dropout, target_modules=list(config.targets)
    )
    with warnings.catch_warnings():
        # a second adapter is meant
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        try:
            inject_adapter_in_model(peft_config, t5, adapter_name=name)
        except ValueError as error:
            raise ConfigError(f"this T5 has no matrix of {', '.join(config.targets)} (--lora.targets)") from error
    use_lora(t5, name)
    if with_table:
        t5.shared.requires_grad_(True)
        t5.lm_head.requires_grad_(True)


def use_lora(t5: T5ForConditionalGeneration, *names: str) -> None:
    """Put the matrices of these names to work, and them alone; they are what learns."""
    for layer in lora_layers(t5).values():
        layer.set_adapter(list(names))


@contextmanager
def lora_off(t5: T5ForConditionalGeneration) -> Iterator[None]:
    """Answer as the base, as if no matrices were beside its own: the reference of preference learning."""
    layers = lora_layers(t5).values()
    learned = [weight for weight in t5.parameters() if weight.requires_grad]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        t5.requires_grad_(False)
        for weight in learned:
            weight.requires_grad_(True)


@contextmanager
def lora_folded(t5: T5ForConditionalGeneration) -> Iterator[None]:
    """Answer as before, to rounding, but as fast as the base and without learning: W + B A stands in the place of W.

    Afterwards the base's weights are the very ones that they were, however often.
    """
    layers = lora_layers(t5).values()
    with torch.no_grad(), lora_off(t5):
        own = []
        for layer in layers:
            weight = layer.get_base_layer().weight
            assert isinstance(weight, Tensor)
            own.append((weight, weight.data))
            for name in layer.active_adapters:
                weight.data = weight.data + layer.get_delta_weight(name)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            for weight, before in own:
                weight.data = before


def merge_lora(t5: T5ForConditionalGeneration) -> None:
    """Add what the matrices at work have learned to T5's own and take all out: a T5 as any other, that answers so."""
    for name, layer in lora_layers(t5).items():
        layer.merge()
        base = layer.get_base_layer()
        assert isinstance(base, nn.Module)
        t5.set_submodule(name, base)
    t5.requires_grad_(True)


def lora_layers(t5: T5ForConditionalGeneration) -> dict[str, LoraLayer]:
    """Places in a T5 that have learned matrices beside their own, by name; empty where there are none."""
    if not any(".lora_A." in name for name, _ in t5.named_parameters()):
        return {}
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in t5.named_modules() if isinstance(module, LoraLayer)}


# keeping


class Factors(NamedTuple):
    """A weight's change B A; the scale is in B."""

    a: Tensor
    """(r, in)"""
    b: Tensor
    """(out, r)"""


@dataclass(frozen=True)
class Adapter:
    """A change of a language model's weights, in low rank, by names of T5's modules; for one base only."""

    base_sha256: str
    """Of the base's weights, see `base_sha256`."""
    factors: Mapping[str, Factors]
    base: str = ""
    """Name of the base's folder, where it is known: where to look for it."""

    @staticmethod
    def of(lm: MotionLM, *, name: str = "default", base: str = "") -> Adapter:
        """What the matrices of a name in a model have learned; with what was merged into the model before, if any."""
        factors = {}
        for place, layer in lora_layers(lm.t5).items():
            if name in layer.lora_A:
                a, b = (lm.t5.get_parameter(f"{place}.lora_{side}.{name}.weight").detach().cpu() for side in "AB")
                factors[place] = Factors(a.clone(), b * layer.scaling[name])
        if not factors:
            raise ConfigError(f"this model has no learned matrices of the name {name!r}")
        learned = Adapter(base_sha256(lm), factors, base)
        return learned if lm.merged is None else mixed([lm.merged, learned], [1.0, 1.0])

    @staticmethod
    @torch.no_grad()
    def between(base: MotionLM, tuned: MotionLM, rank: int, *, name: str = "") -> Adapter:
        """What tuning has changed of a base's weights, in the nearest matrices of a rank; `name` is the base's.

        Raises CheckpointError for models of other shapes.
        """
        theirs, factors = _changeable(tuned), {}
        for place, weight in _changeable(base).items():
            other = theirs.get(place)
            if other is None or other.shape != weight.shape:
                raise CheckpointError(f"the tuned model's {place} is not that of its base, or is absent")
            change = (other.to(weight) - weight).float().cpu().view(len(weight), -1)
            if change.any():
                factors[place] = _nearest(change, rank)
        return Adapter(base_sha256(base), factors, name)

    @property
    def rank(self) -> int:
        """Of the change of the weight that changes most freely."""
        return max(len(factors.a) for factors in self.factors.values())

    def of_rank(self, rank: int) -> Adapter:
        """The nearest adapter whose matrices are of this rank at most; where they are, this one."""
        factors = {
            place: _nearest(one.b @ one.a, rank) if len(one.a) > rank else one for place, one in self.factors.items()
        }
        return replace(self, factors=factors)

    @staticmethod
    def from_pretrained(folder: str | Path) -> Adapter:
        """Read what save_pretrained wrote; raises CheckpointError where it is absent, cut short or no adapter."""
        folder = Path(folder)
        if not is_adapter(folder):
            raise CheckpointError(f"{folder} is no adapter: it has no {CONFIG} that says so (--adapter)")
        config, tensors = read_json(folder / CONFIG), read_tensors(folder / WEIGHTS)
        places = sorted({name.rsplit(".", 1)[0] for name in tensors})
        try:
            factors = {place: Factors(tensors[f"{place}.A"].float(), tensors[f"{place}.B"].float()) for place in places}
            return Adapter(config["base_sha256"], factors, config["base"])
        except KeyError as error:
            raise CheckpointError(f"{folder} is no whole adapter: it lacks {error}") from error

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> Path:
        """Write config.json and adapter.safetensors."""
        folder = Path(folder)
        tensors = {f"{place}.A": factors.a for place, factors in self.factors.items()}
        tensors |= {f"{place}.B": factors.b for place, factors in self.factors.items()}
        write_tensors(folder / WEIGHTS, {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()})
        config = {"model": "Adapter", "base": self.base, "base_sha256": self.base_sha256, "rank": self.rank}
        write_json(folder / CONFIG, config)
        return folder

    def merge_into(self, lm: MotionLM) -> None:
        """Change a model's weights in place; it remembers by what.

        Raises CheckpointError, before anything is changed, where the model is not the base or has other shapes.
        """
        if lm.merged is not None:
            raise ConfigError("this model has an adapter merged into it already; mix adapters, then merge the mixture")
        if (found := base_sha256(lm)) != self.base_sha256:
            named = f" ({self.base})" if self.base else ""
            raise CheckpointError(
                f"this adapter is for a base with weights {self.base_sha256[:12]}...{named}, and the model's are "
                f"{found[:12]}...: name the base that it was learned on (--model)"
            )
        weights = _changeable(lm)
        for place, (a, b) in self.factors.items():
            weight = weights.get(place)
            if weight is None or (len(b), a.shape[1]) != weight.view(len(weight), -1).shape:
                raise CheckpointError(f"this adapter changes {place}, which this model does not have in that shape")
        with torch.no_grad():
            for place, (a, b) in self.factors.items():
                weight = weights[place]
                weight.add_((b @ a).view_as(weight).to(weight))
        lm.merged = self


def _nearest(change: Tensor, rank: int) -> Factors:
    """Of a change (out, in) the nearest of a rank. Source: Eckart and Young (1936)."""
    left, strengths, right = torch.linalg.svd(change, full_matrices=False)
    root = strengths[:rank].sqrt()
    return Factors(root[:, None] * right[:rank], left[:, :rank] * root)


def _changeable(lm: MotionLM) -> dict[str, nn.Parameter]:
    """Weights that an adapter may change, by names of T5's modules; of the reader its last map, as reader.narrow."""
    weights = {name.removesuffix(".weight"): weight for name, weight in lm.t5.named_parameters()}
    if lm.reader is not None:
        weights |= {f"reader.narrow.{name}": weight for name, weight in lm.reader.narrow.named_parameters()}
    return weights


def mixed(adapters: Sequence[Adapter], shares: Sequence[float]) -> Adapter:
    """The adapter that changes every weight by the sum of what `adapters` change it by, each times its share.

    Exact: its rank is the sum of theirs. Raises CheckpointError for adapters of different bases.
    """
    first, *others = adapters
    for other in others:
        if other.base_sha256 != first.base_sha256:
            raise CheckpointError(
                f"adapters of different bases cannot be mixed: one is for weights {first.base_sha256[:12]}..., another "
                f"for {other.base_sha256[:12]}..."
            )
    factors = {}
    for place in sorted({place for adapter in adapters for place in adapter.factors}):
        found = [
            (adapter.factors[place], share) for adapter, share in zip(adapters, shares) if place in adapter.factors
        ]
        factors[place] = Factors(torch.cat([one.a for one, _ in found]), torch.cat([one.b * s for one, s in found], 1))
    return replace(first, factors=factors)


def read_mixed(shares: Mapping[str, float]) -> Adapter:
    """The mixture of the adapters of some folders: {"a": 0.5, "b": 0.5}."""
    return mixed([Adapter.from_pretrained(folder) for folder in shares], list(shares.values()))


def base_sha256(lm: MotionLM) -> str:
    """Of a model's weights as they were before anything was learned beside them or merged into them."""
    if lm.merged is not None:
        return lm.merged.base_sha256
    return sha256_of_tensors(
        (name.replace(".base_layer.", "."), tensor) for name, tensor in lm.state_dict().items() if ".lora_" not in name
    )


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder is one that Adapter.save_pretrained wrote."""
    path = Path(folder) / CONFIG
    return path.is_file() and read_json(path).get("model") == "Adapter"
