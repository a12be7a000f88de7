"""What the language model's options are worth, on a small budget: the table of docs/method.md.

    python -m kinalign.recipes.ablation --model models/openmocap-base --out runs/ablation

Two quiet CPU cores, about half an hour. All runs take the same number of optimizer steps on the same codes; those with
two stages share them between these. Stopped and started again it goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from kinalign.data.openmocap import load_openmocap
from kinalign.data.phrasings import plain_caption
from kinalign.data.tokens import TokenizedClip, TokensInfo
from kinalign.lm.instructions import Instruction, Task, phrase_task
from kinalign.lm.model import LMConfig, MotionLM
from kinalign.lm.train import LMTraining, Stage, train_lm
from kinalign.pipeline import shipped_model, tokenized
from kinalign.run import write_text
from kinalign.tokenizer.commands import tokenize_clips, tokens_info
from kinalign.tokenizer.tokenizer import MotionTokenizer
from kinalign.training import Optimization

BASE = LMTraining(
    network=LMConfig(width=256, feed_forward_width=1024, encoder_layers=1, decoder_layers=4, heads=4),
    # the reader stays MiniLM as it is: how well it is taught is another question
    reader_teaching=Optimization(steps=1, learning_rate=1e-6),
    balance=0.75,
)


@dataclass(frozen=True)
class Variant:
    """A line of the table: what differs from BASE, and the stages one after the other."""

    name: str
    settings: LMTraining = BASE
    stages: tuple[Stage, ...] = ("text-to-motion",)


VARIANTS = (
    Variant("rows of the table, MiniLM reads"),
    Variant("adapter for codes, MiniLM reads", replace(BASE, code_rows="adapter")),
    Variant("rows of the table, words learned from nothing", replace(BASE, reader="none")),
    Variant(
        "both ways first, no span corruption",
        replace(BASE, span_corruption=False),
        stages=("pre-training", "text-to-motion"),
    ),
    Variant("both ways first, with span corruption", stages=("pre-training", "text-to-motion")),
)


@dataclass(frozen=True)
class Recipe:
    """Train small language models that differ in one thing each, and compare them on the val split."""

    out: Path = Path("runs/ablation")
    """A run folder for each line, and table.md."""
    model: Path | None = None
    """Model folder whose tokenizer makes the codes; the shipped model where it is left out."""
    steps: int = 500
    """Optimizer steps of each line, over all its stages."""
    learning_rate: float = 1e-3
    seeds: tuple[int, ...] = (0,)
    threads: int = 2
    """Processor threads."""


def run(recipe: Recipe) -> Path:
    """Train every variant at every seed, and write table.md: loss per code of held-out clips, in nats."""
    torch.set_num_threads(recipe.threads)
    folder = (recipe.model or shipped_model()) / "tokenizer"
    tokenizer = MotionTokenizer.from_pretrained(folder)
    info = tokens_info(tokenizer, folder)
    rows = tokenized(
        recipe.out / "train",
        info,
        lambda: tokenize_clips(tokenizer, load_openmocap(split="train", cut_events=True), shifts=(0, 2)),
    )
    held_out = tokenized(
        recipe.out / "val", info, lambda: tokenize_clips(tokenizer, load_openmocap(split="val", cut_events=True))
    )
    lines = ["| language model | text to motion | by seed |", "| --- | ---: | --- |"]
    for number, variant in enumerate(VARIANTS, start=1):
        losses = []
        for seed in recipe.seeds:
            model = _train(recipe, variant, recipe.out / f"{number}-seed{seed}", rows, info, tokenizer, seed)
            losses.append(loss_of(model, held_out))
        lines.append(f"| {variant.name} | {np.mean(losses):.3f} | {', '.join(f'{loss:.3f}' for loss in losses)} |")
        print(lines[-1], flush=True)
    path = recipe.out / "table.md"
    write_text(path, "\n".join(lines) + "\n")
    return path


def _train(
    recipe: Recipe,
    variant: Variant,
    folder: Path,
    rows: Sequence[TokenizedClip],
    info: TokensInfo,
    tokenizer: MotionTokenizer,
    seed: int,
) -> MotionLM:
    start = None
    steps = recipe.steps // len(variant.stages)
    for stage in variant.stages:
        optimization = Optimization(
            steps=steps, learning_rate=recipe.learning_rate, betas=(0.9, 0.98), precision="bfloat16", seed=seed
        )
        settings = replace(variant.settings, tasks=stage, start=start, optimization=optimization)
        model = train_lm(rows, info, settings, folder=folder / stage, code_vectors=tokenizer.code_vectors())
        start = str(model.save_pretrained(folder / f"{stage}-model"))
    return model


@torch.no_grad()
def loss_of(model: MotionLM, clips: Sequence[TokenizedClip]) -> float:
    """Mean negative log-likelihood of held-out codes and the end, in nats a token, for a plain caption of each clip."""
    total = number = 0.0
    for instructions, answers in _batches(model, clips):
        size = sum(map(len, answers))
        total += float(model.loss(instructions, answers)) * size
        number += size
    return total / number


def _batches(
    model: MotionLM, clips: Sequence[TokenizedClip], size: int = 32
) -> Iterator[tuple[list[Instruction], list[list[int]]]]:
    rng = np.random.default_rng(0)
    most = BASE.max_steps * model.vocab.codes_per_step
    ordered = sorted(clips, key=lambda clip: len(clip.codes))
    for start in range(0, len(ordered), size):
        part = ordered[start : start + size]
        captions = [plain_caption(clip, rng, mirrored=clip.mirrored) for clip in part]
        texts = [phrase_task(Task.TEXT_TO_MOTION, rng, caption=text) for text in captions]
        yield (
            [Instruction(text) for text in texts],
            [model.vocab.codes_to_ids(clip.codes[:most]).tolist() for clip in part],
        )


if __name__ == "__main__":
    import tyro

    print(run(tyro.cli(Recipe)))
