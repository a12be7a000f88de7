"""Supervised fine-tuning before preferences: half of a batch are composed motions, half is what was learned before.

A model that does one in fifty prompts of two events right gives rewards nothing to choose from. Here it is shown
motions in which all events happen (composed.py), with low-rank matrices beside its weights; the other half of a batch
is practice of the tasks that it was trained on, so that it forgets none. As InstructGPT (Ouyang et al. 2022) did before
its RLHF.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinalign.alignment.composed import compose_motions, excerpts_of
from kinalign.alignment.rollouts import ADAPTER, learned
from kinalign.data.openmocap import load_openmocap
from kinalign.data.tokens import TokenizedClip, TokensInfo
from kinalign.errors import ConfigError
from kinalign.judge.named import judge_named
from kinalign.judge.prompts import grammar_prompts
from kinalign.judge.rubric import SUB_TASKS
from kinalign.lm.instructions import Instruction
from kinalign.lm.lora import TARGETS, Adapter, LoraConfig, add_lora
from kinalign.lm.train import ExampleSampler, LMTraining
from kinalign.pipeline import TextToMotion, shipped_model, tokenized
from kinalign.preference.annotate import weights_of
from kinalign.run import RunFolder, config_to_json, locked, progress
from kinalign.tokenizer.commands import tokenize_clips, tokens_info
from kinalign.training import Draw, Optimization, optimize

COMPOSED = "composed"
"""The source that composed motions are said to be of."""


@dataclass(frozen=True)
class AlignSFT:
    """Show a model motions in which all events of a prompt happen, composed of openmocap20's train clips."""

    out: Path = Path("sft")
    """Folder of the run, with the adapter in the end; a run that was stopped goes on there."""
    model: Path | None = None
    """Model folder; the shipped model where it is left out."""
    judge: str = "kinematic"
    """Who looks at composed motions: only those that it gives a 5 are shown."""
    prompts: int = 6000
    """Prompts that are composed, a quarter of them with three events in a row."""
    copies: int = 2
    """Motions that are tried for each of them."""
    practice: LMTraining = field(
        default_factory=lambda: LMTraining(
            tasks="captions", balance=0.75, crop_share=0.5, word_weight=5.0, batch_size=16
        )
    )
    """What is practised beside; batch_size is that of either half, and `optimization` has no effect here."""
    lora: LoraConfig = field(default_factory=lambda: LoraConfig(rank=32, alpha=64.0, dropout=0.0, targets=TARGETS))
    optimization: Optimization = field(
        default_factory=lambda: Optimization(steps=900, learning_rate=2e-3, betas=(0.9, 0.98), checkpoint_every=100)
    )
    threads: int = 1
    """Processor threads."""

    def __post_init__(self) -> None:
        for name in ("prompts", "copies"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1 (--{name})")


def align_sft(config: AlignSFT) -> Path:
    """Show a model motions in which all events of a prompt happen; prints where what was learned is."""
    torch.set_num_threads(config.threads)
    base = config.model or shipped_model()
    model = TextToMotion.from_pretrained(base)
    info = tokens_info(model.tokenizer, base / "tokenizer")
    with locked(config.out):
        run = RunFolder.open(config.out, _settings(config, model))
        composed = tokenized(config.out / COMPOSED, info, lambda: composed_clips(model, config))
        clips = tokenized(
            config.out / "tokens",
            info,
            lambda: tokenize_clips(model.tokenizer, load_openmocap(split="train", cut_events=True)),
        )
        model.lm.requires_grad_(False)
        torch.manual_seed(config.optimization.seed)
        add_lora(model.lm.t5, config.lora)
        train_sft(model, composed, clips, info, config, run=run)
        folder = Adapter.of(model.lm, base=base.resolve().name).save_pretrained(config.out / ADAPTER)
    print(folder)
    return folder


def _settings(config: AlignSFT, model: TextToMotion) -> dict[str, Any]:
    settings = config_to_json(config)
    for name in ("out", "threads"):
        settings.pop(name)
    return settings | {"model": weights_of(model)}


def composed_clips(model: TextToMotion, config: AlignSFT) -> list[TokenizedClip]:
    """Codes of composed motions, each with its prompt as its caption and its sub-task as its label."""
    seed, number = config.optimization.seed, config.prompts // 4
    prompts = grammar_prompts(SUB_TASKS, config.prompts - number, events=2, seed=seed)
    prompts += grammar_prompts(("temporal", "integrity"), number, events=3, seed=seed)
    excerpts = excerpts_of(load_openmocap(split="train", cut_events=True))
    with progress("compose", total=len(prompts)) as advance:
        made = compose_motions(
            prompts, excerpts, judge_named(config.judge), copies=config.copies, seed=seed, advance=advance
        )
    rows = []
    with progress("encode", total=len(made)) as advance:
        for number, (prompt, motion) in enumerate(made):
            codes = model.tokenizer.encode(motion)
            rows.append(
                TokenizedClip(f"composed-{number:05d}", codes, (prompt.prompt,), COMPOSED, "train", label=prompt.task)
            )
            advance()
    return rows


def train_sft(
    model: TextToMotion,
    composed: Sequence[TokenizedClip],
    clips: Sequence[TokenizedClip],
    info: TokensInfo,
    config: AlignSFT,
    *,
    run: RunFolder,
) -> None:
    """Train the matrices that learn in place, from where the run folder stands: sub-tasks are seen equally often."""
    lm, practice = model.lm.eval(), config.practice
    sampler = ExampleSampler(clips, info, lm, practice)
    instructions = model.instructions([clip.captions[0] for clip in composed])
    answers = [lm.vocab.codes_to_ids(clip.codes).tolist() for clip in composed]
    of_task = Counter(clip.label for clip in composed)
    share = np.array([1 / of_task[clip.label] for clip in composed]) / len(of_task)

    def terms_of(draw: Draw) -> dict[str, Tensor]:
        told, said = sampler.draw(draw.rng)
        for row in draw.rng.choice(len(composed), practice.batch_size, p=share).tolist():
            told.append(instructions[row] if draw.rng.random() >= practice.empty_share else Instruction(""))
            said.append(answers[row])
        told, said = draw.mine(told), draw.mine(said)
        loss = lm.loss(told, said, word_weight=practice.word_weight)
        return {"loss": loss, "weight": torch.tensor(lm.weight_of(said, word_weight=practice.word_weight))}

    optimize(run, learned(lm), terms_of, config.optimization)
