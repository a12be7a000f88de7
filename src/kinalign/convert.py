"""Whole published models to model folders and back: tokenizer, language model and statistics together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from kinalign.lm import convert as lm_convert
from kinalign.pipeline import TextToMotion
from kinalign.run import write_atomically
from kinalign.tokenizer import convert as tokenizer_convert

CHECKPOINT, MEAN, STD = "motiongpt.tar", "mean.npy", "std.npy"
MEAN_AGAIN, STD_AGAIN = "mean_eval.npy", "std_eval.npy"
"""The evaluator's statistics, which are the same numbers in MotionGPT's folder; its web page asks for all four."""


@dataclass(frozen=True)
class FromMotionGPT:
    """Convert MotionGPT's published weights, with AToM's LoRA on top or without, to a model folder."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """motiongpt_s3_h3d.tar, or another of its kind."""
    t5: Path
    """Folder of the T5 that it was made from (flan-t5-base): config.json and tokenizer.json are read."""
    stats: Path
    """Folder with mean.npy and std.npy of the weights: MotionGPT's assets/meta."""
    out: Path
    """Model folder."""
    lora: Path | None = None
    """LoRA file that is merged into the language model: AToM's general_finetuned.pt."""
    lora_alpha: float | None = None
    """LoRA's alpha where adapter_config.json does not lie beside the file and it is not AToM's 16."""


def from_motiongpt(config: FromMotionGPT) -> Path:
    """Convert MotionGPT's published weights, with AToM's LoRA on top or without, to a model folder."""
    tokenizer = tokenizer_convert.from_published(config.checkpoint, mean=config.stats / MEAN, std=config.stats / STD)
    lm = lm_convert.from_published(
        config.checkpoint,
        t5=config.t5,
        num_codes=tokenizer.num_codes,
        lora=config.lora,
        lora_alpha=config.lora_alpha,
    )
    folder = TextToMotion(lm, tokenizer).save_pretrained(config.out)
    print(folder)
    return folder


@dataclass(frozen=True)
class ToMotionGPT:
    """Convert a model folder to the published layout of MotionGPT: motiongpt.tar and its statistics."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model folder: a T5 without a reader or an adapter, and a tokenizer of the published network."""
    out: Path
    """Folder for the files."""


def to_motiongpt(config: ToMotionGPT) -> Path:
    """Convert a model folder to the published layout of MotionGPT: motiongpt.tar and its statistics."""
    model = TextToMotion.from_pretrained(config.model)
    state = lm_convert.published_state(model.lm) | tokenizer_convert.published_state(model.tokenizer)
    checkpoint = write_atomically(config.out / CHECKPOINT, lambda path: torch.save({"state_dict": state}, path))
    stats = tokenizer_convert.published_stats(model.tokenizer)
    for name, values in ((MEAN, stats.mean), (STD, stats.std), (MEAN_AGAIN, stats.mean), (STD_AGAIN, stats.std)):
        _write_row(config.out / name, values)
    print(checkpoint)
    return checkpoint


def _write_row(path: Path, values: NDArray[np.floating]) -> None:
    write_atomically(path, lambda temporary: np.save(temporary, values))
