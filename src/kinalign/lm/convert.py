"""The language model of published MotionGPT weights, with AToM's LoRA merged in, to a MotionLM and back.

Of the T5 folder only the sizes and the text tokenizer are read: its weights are all in the checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kinalign.errors import CheckpointError
from kinalign.lm.model import MotionLM, read_text_tokenizer
from kinalign.lm.vocab import MotionVocab
from kinalign.published import read_published, require_whole
from kinalign.run import read_json, read_tensors

PREFIX = "lm.language_model."
TABLE, HEAD = "shared.weight", "lm_head.weight"
COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
"""Other names of the table."""

LORA_PREFIX = "base_model.model."
LORA_ALPHA = 16.0
"""AToM's; its file holds matrices only."""
LORA_CONFIG = "adapter_config.json"
NOT_PLAIN = ("use_rslora", "use_dora", "alpha_pattern", "fan_in_fan_out")
"""Settings of peft with which a merged weight is another than W + alpha / r B A."""

MAX_TEXT_TOKENS = 256


def from_published(
    checkpoint: str | Path,
    *,
    t5: str | Path,
    num_codes: int,
    lora: str | Path | None = None,
    lora_alpha: float | None = None,
) -> MotionLM:
    """MotionGPT's language model from `motiongpt_s3_h3d.tar` and the folder of the T5 that it was made from.

    Text takes the ids of the T5's text tokenizer, codes those after it, and three more are start, end and mask. `lora`
    is a file of low-rank changes that are added to the weights; see `merge_lora`. Raises CheckpointError for what is
    absent, of another size, or of another codebook than `num_codes`.
    """
    from transformers import T5Config, T5ForConditionalGeneration

    path, folder = Path(checkpoint), Path(t5)
    state = {
        name.removeprefix(PREFIX): tensor for name, tensor in read_published(path).items() if name.startswith(PREFIX)
    }
    if TABLE not in state:
        raise CheckpointError(f"{path} has no tensor {PREFIX + TABLE}; it holds no MotionGPT language model on T5")
    if lora is not None:
        state = merge_lora(state, read_lora(lora), alpha=alpha_of(lora, lora_alpha), origin=str(lora))
    for name in COPIES:
        if not torch.equal(state.pop(name, state[TABLE]), state[TABLE]):
            raise CheckpointError(f"{path}: {PREFIX + name} differs from {PREFIX + TABLE}; a T5 has one table of words")

    sizes = read_json(folder / "config.json")
    if sizes.get("model_type") != "t5":
        raise CheckpointError(f"{folder} holds a {sizes.get('model_type')!r}, no T5 (--t5)")
    require_whole(folder / "tokenizer.json")  # without it transformers makes up a tokenizer of a few tokens
    text_tokenizer = read_text_tokenizer(folder)
    vocab = MotionVocab(len(text_tokenizer), num_codes)
    if len(state[TABLE]) != vocab.size:
        raise CheckpointError(
            f"{path} has {len(state[TABLE])} tokens; {vocab.num_text} of the text tokenizer in {folder}, {num_codes} "
            f"codes, start, end and mask are {vocab.size}: they are of another codebook or another T5 (--t5)"
        )
    head = state.get(HEAD)
    if head is None:
        raise CheckpointError(f"{path} has no tensor {PREFIX + HEAD}; it is incomplete")
    if torch.equal(head, state[TABLE]):  # the first T5 has no head of its own
        del state[HEAD]
    model = MotionLM(
        T5ForConditionalGeneration(T5Config(**sizes | {"vocab_size": vocab.size})),
        vocab,
        text_tokenizer,
        max_text_tokens=MAX_TEXT_TOKENS,
        instruction_style="motiongpt",
    )
    model.load({f"t5.{name}": tensor for name, tensor in state.items()}, origin=str(path))
    return model.eval()


def published_state(model: MotionLM) -> dict[str, Tensor]:
    """The tensors of a language model under their published names.

    Raises CheckpointError for a model that no T5 alone is: with a reader or an adapter, or with more codes per step.
    """
    if model.reader is not None or model.adapter is not None or model.vocab.codes_per_step != 1:
        raise CheckpointError(
            "only a T5 alone that speaks one code per step has published names; this model has "
            f"{'a' if model.reader is not None else 'no'} reader, {'an' if model.adapter is not None else 'no'} "
            f"adapter and {model.vocab.codes_per_step} codes per step"
        )
    return {PREFIX + name: tensor for name, tensor in model.t5.state_dict().items()}


def read_lora(file: str | Path) -> dict[str, Tensor]:
    """The tensors of a LoRA file, a checkpoint or safetensors; raises CheckpointError."""
    path = Path(file)
    require_whole(path)
    return read_tensors(path) if path.suffix == ".safetensors" else read_published(path)


def alpha_of(file: str | Path, given: float | None = None) -> float:
    """LoRA's alpha: as given, else as adapter_config.json beside the file says, else AToM's 16.

    Raises CheckpointError where that says that the file holds more than plain LoRA.
    """
    path = Path(file).with_name(LORA_CONFIG)
    settings = read_json(path) if path.is_file() else {}
    if wrong := [name for name in NOT_PLAIN if settings.get(name)]:
        raise CheckpointError(f"{path} sets {', '.join(wrong)}; only plain LoRA, W + alpha / r B A, is merged")
    return float(settings.get("lora_alpha", LORA_ALPHA) if given is None else given)


def merge_lora(
    state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], *, alpha: float, origin: str
) -> dict[str, Tensor]:
    """The weights `state` of a T5 with LoRA's changes: W + alpha / r B A (Hu et al. 2021, section 4.1).

    `tensors` has peft's names, with or without `base_model.model.` before and the adapter's name after: A (r, in) and
    B (out, r). What else stands there, as AToM's file has the whole T5, takes the place of the weight of that name.
    Raises CheckpointError, by name, for what belongs to no weight or is of another shape.
    """
    weights: dict[str, Tensor] = {}
    factors: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        name = name.removeprefix(LORA_PREFIX)
        found = re.fullmatch(r"(.+)\.lora_([AB])(?:\.\w+)?\.weight", name)
        if found is None:
            weights[name.replace(".base_layer.", ".")] = tensor
        elif found[2] in factors.setdefault(f"{found[1]}.weight", {}):
            raise CheckpointError(f"{origin} holds two adapters for {found[1]}; save one alone")
        else:
            factors[f"{found[1]}.weight"][found[2]] = tensor
    if not factors:
        raise CheckpointError(f"{origin} has no tensor lora_A or lora_B; it holds no LoRA")
    if unknown := sorted((weights.keys() | factors.keys()) - state.keys()):
        raise CheckpointError(
            f"{origin} changes {len(unknown)} weights that this T5 does not have ({', '.join(unknown[:3])}"
            f"{', ...' if len(unknown) > 3 else ''}); it belongs to another model"
        )
    for name, tensor in weights.items():
        if tensor.shape != state[name].shape:
            raise CheckpointError(
                f"{origin}: {name} has shape {tuple(tensor.shape)}; this T5 has {tuple(state[name].shape)}"
            )
    merged = dict(state) | weights
    for name, pair in factors.items():
        if pair.keys() != {"A", "B"}:
            raise CheckpointError(f"{origin} has only lora_{''.join(pair)} for {name}; it is incomplete")
        down, up = pair["A"].float(), pair["B"].float()
        fits = down.dim() == up.dim() == 2 and down.shape[0] == up.shape[1]
        if not fits or (up.shape[0], down.shape[1]) != merged[name].shape:
            raise CheckpointError(
                f"{origin}: lora_B {tuple(up.shape)} times lora_A {tuple(down.shape)} does not fit {name} "
                f"{tuple(merged[name].shape)}"
            )
        merged[name] = merged[name].float() + alpha / len(down) * up @ down
    return merged
