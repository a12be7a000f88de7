"""Supervised fine-tuning before preferences: motions that show all events, beside what was learned before.

A model that does one in fifty prompts of two events right gives rewards nothing to choose from. Here it is shown
motions in which all events happen (composed.py); the rest of a batch is practice of the tasks that it was trained on,
so that it forgets none. As InstructGPT (Ouyang et al. 2022) did before its RLHF.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kinalign.alignment.composed import compose_motions, excerpts_of
from kinalign.alignment.preference import ADAPTER
from kinalign.alignment.rollouts import settings_of
from kinalign.data.openmocap import load_openmocap
from kinalign.data.tokens import TokenizedClip, TokensInfo
from kinalign.errors import ConfigError
from kinalign.judge.named import judge_named
from kinalign.judge.prompts import grammar_prompts, other_wordings
from kinalign.judge.rubric import SUB_TASKS
from kinalign.lm.instructions import Instruction
from kinalign.lm.lora import Adapter
from kinalign.lm.train import ExampleSampler, LMTraining
from kinalign.pipeline import TextToMotion, shipped_model, tokenized
from kinalign.run import RunFolder, progress
from kinalign.tokenizer.commands import tokenize_clips, tokens_info
from kinalign.training import Draw, Optimization, accelerated, learned, optimize

COMPOSED = "composed"
"""The source that composed motions are said to be of."""
WORDINGS = 4
"""Texts that say a composed motion."""


@dataclass(frozen=True)
class AlignSFT:
    """Show a model motions in which all events of a prompt happen, composed of openmocap20's train clips."""

    out: Path = Path("sft")
    """Folder of the run, with the adapter in the end; a run that was stopped goes on there."""
    model: Path | None = None
    """Model folder; the shipped model where it is left out."""
    judge: str = "kinematic"
    """Who looks at composed motions: only those that it gives a 5 are shown."""
    prompts: int = 8000
    """Prompts that are composed, a quarter of them with three events in a row."""
    copies: int = 3
    """Motions that are tried for each of them."""
    batch_size: int = 24
    """Composed motions of a batch."""
    practice: LMTraining = field(
        default_factory=lambda: LMTraining(
            tasks="captions", balance=0.75, crop_share=0.5, word_weight=5.0, batch_size=8
        )
    )
    """What is practised beside, in the same batch; its network and its optimization have no effect here."""
    rank: int = 64
    """All weights of T5 learn, and what they have changed is kept in matrices of this rank, an adapter."""
    optimization: Optimization = field(
        default_factory=lambda: Optimization(
            steps=2900, learning_rate=6e-4, warmup_steps=100, betas=(0.9, 0.98), checkpoint_every=200
        )
    )
    threads: int = 1
    """Processor threads."""

    def __post_init__(self) -> None:
        for name in ("prompts", "copies", "batch_size", "rank"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1 (--{name.replace('_', '-')})")


def align_sft(config: AlignSFT) -> Path:
    """Show a model motions in which all events of a prompt happen; prints where what was learned is."""
    torch.set_num_threads(config.threads)
    base = config.model or shipped_model()
    model = TextToMotion.from_pretrained(base)
    info = tokens_info(model.tokenizer, base / "tokenizer")
    run = RunFolder.open(config.out, settings_of(config, model))
    composed = tokenized(config.out / COMPOSED, info, lambda: composed_clips(model, config))
    clips = tokenized(config.out / "tokens", info, lambda: _practised(model))
    before = deepcopy(model.lm)
    model.lm.to(accelerated().device).requires_grad_(True)
    if model.lm.reader is not None:
        model.lm.reader.freeze()
    train_sft(model, composed, clips, info, config, run=run)
    folder = Adapter.between(before, model.lm, config.rank, name=model.name).save_pretrained(config.out / ADAPTER)
    print(folder)
    return folder


def _practised(model: TextToMotion) -> list[TokenizedClip]:
    # as models/openmocap-base saw them: ended two frames earlier too
    return tokenize_clips(model.tokenizer, load_openmocap(split="train", cut_events=True), shifts=(0, 2))


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
            texts = tuple(other_wordings(prompt, WORDINGS, seed))
            rows.append(TokenizedClip(f"composed-{number:05d}", codes, texts, COMPOSED, "train", label=prompt.task))
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
    """Train the weights that learn, in place, from where the run folder stands: sub-tasks are seen equally often."""
    lm, practice = model.lm.eval(), config.practice
    sampler = ExampleSampler(clips, info, lm, practice)
    instructions = [model.instructions(clip.captions) for clip in composed]
    answers = [lm.vocab.codes_to_ids(clip.codes).tolist() for clip in composed]
    lengths = np.array([len(answer) for answer in answers])
    of_task = Counter(clip.label for clip in composed)
    share = np.array([1 / of_task[clip.label] for clip in composed]) / len(of_task)

    def terms_of(draw: Draw) -> dict[str, Tensor]:
        told, said = sampler.draw(draw.rng)
        # of about one length: little of a batch is then padding
        pivot = lengths[draw.rng.choice(len(composed), p=share)]
        near = share * (np.abs(lengths - pivot) <= 0.15 * pivot)
        for row in draw.rng.choice(len(composed), config.batch_size, p=near / near.sum()).tolist():
            is_empty = draw.rng.random() < practice.empty_share
            told.append(Instruction("") if is_empty else instructions[row][draw.rng.integers(len(instructions[row]))])
            said.append(answers[row])
        told, said = draw.mine(told), draw.mine(said)
        loss = lm.loss(told, said, word_weight=practice.word_weight)
        return {"loss": loss, "weight": torch.tensor(lm.weight_of(said, word_weight=practice.word_weight))}

    optimize(run, learned(lm), terms_of, config.optimization)
