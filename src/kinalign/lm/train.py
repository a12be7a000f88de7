"""Train a motion language model on tokenized clips: an instruction in, the clip's codes out.

Rare actions are drawn more often than their share, long clips give a new window each time, and a tenth of the
instructions are empty, which is what guidance compares with.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinalign.data.phrasings import phrase, plain_caption, spoken_words
from kinalign.data.tokens import TokenizedClip, TokensInfo
from kinalign.errors import ConfigError, DataError
from kinalign.lm.instructions import Instruction, Task, phrase_answer, phrase_task
from kinalign.lm.model import LMConfig, MotionLM
from kinalign.lm.teach import teach_reader
from kinalign.lm.text import minilm_reader, plain_tokenizer
from kinalign.lm.vocab import HIDDEN
from kinalign.run import RunFolder
from kinalign.training import Draw, Optimization, optimize


@dataclass(frozen=True)
class LMTraining:
    """Settings of a language model's training."""

    network: LMConfig = field(default_factory=LMConfig)
    optimization: Optimization = field(default_factory=Optimization)
    batch_size: int = 32
    """Examples of a batch."""
    max_steps: int = 49
    """Longest answer in steps of the tokenizer; a longer clip gives a window of this length."""
    reader: Literal["minilm", "none"] = "minilm"
    """Who reads instructions before T5's encoder; with none the vectors of words are learned from nothing."""
    reader_teaching: Optimization = field(
        default_factory=lambda: Optimization(steps=800, learning_rate=1e-4, betas=(0.9, 0.999))
    )
    """How the reader is taught which sentences mean the same, before the rest is trained."""
    balance: float = 0.5
    """How far rare labels are drawn more often: 0 by clips, 1 every label equally."""
    tasks: Literal["text-to-motion", "all"] = "text-to-motion"
    """What is trained: text to motion, or all tasks between text, lengths and motions."""
    empty_share: float = 0.1
    """Share of empty instructions, for guidance."""
    crop_share: float = 0.3
    """Share of repetitive motions (walking, waving) that a random part is taken of, so that lengths vary."""

    def __post_init__(self) -> None:
        for name in ("balance", "empty_share", "crop_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be in [0, 1] (--{name.replace('_', '-')})")
        for name in ("batch_size", "max_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1 (--{name.replace('_', '-')})")


CYCLIC_WORDS = frozenset(
    "walk walks walking run runs running jog jogs jogging dash sprint sprints "
    "wave waves waving dance dances salsa dribbles".split()
)
"""A part of a motion with one of these words is still that motion."""
SHORTEST_CROP_STEPS = 8
KEY_STEPS_SHARE = 0.25
"""Share of in-between examples that tell a few steps only."""

TASK_SHARES: dict[str, dict[Task | None, float]] = {
    "text-to-motion": {
        None: 0.6,
        Task.TEXT_TO_MOTION: 0.1,
        Task.TEXT_FRAMES_TO_MOTION: 0.05,
        Task.TEXT_SECONDS_TO_MOTION: 0.25,
    },
    "all": {
        None: 0.3,
        Task.TEXT_TO_MOTION: 0.05,
        Task.TEXT_FRAMES_TO_MOTION: 0.03,
        Task.TEXT_SECONDS_TO_MOTION: 0.13,
        Task.FRAMES_TO_MOTION: 0.01,
        Task.SECONDS_TO_MOTION: 0.01,
        Task.RANDOM_MOTION: 0.01,
        Task.MOTION_TO_TEXT: 0.16,
        Task.MOTION_FRAMES_TO_TEXT: 0.01,
        Task.MOTION_SECONDS_TO_TEXT: 0.01,
        Task.MOTION_TO_FRAMES: 0.01,
        Task.MOTION_TO_SECONDS: 0.01,
        Task.TEXT_TO_FRAMES: 0.01,
        Task.TEXT_TO_SECONDS: 0.01,
        Task.FRAMES_TO_TEXT: 0.01,
        Task.SECONDS_TO_TEXT: 0.01,
        Task.RANDOM_TEXT: 0.01,
        Task.PREDICTION: 0.1,
        Task.IN_BETWEEN: 0.11,
    },
}
"""Shares of training examples; None is a caption and nothing else, as a user types it."""


class ExampleSampler:
    """Draws (instruction, answer) pairs: text and token ids."""

    def __init__(self, clips: Sequence[TokenizedClip], info: TokensInfo, model: MotionLM, config: LMTraining) -> None:
        self.clips, self.info, self.vocab, self.config = clips, info, model.vocab, config
        first_captions = [clip.captions[0] if clip.captions else "" for clip in clips]
        kinds = [clip.label or caption for clip, caption in zip(clips, first_captions)]
        count = Counter(kinds)
        weight = np.array([count[kind] ** -config.balance for kind in kinds])
        self.weight = weight / weight.sum()
        self.num_steps = np.array([min(len(clip.codes) // info.codes_per_step, config.max_steps) for clip in clips])
        self.text_to_ids = model.text_to_ids
        shares = TASK_SHARES[config.tasks]
        self.tasks, self.shares = list(shares), np.array(list(shares.values())) / sum(shares.values())
        self.is_cyclic = [not CYCLIC_WORDS.isdisjoint(caption.lower().split()) for caption in first_captions]

    def draw(self, rng: np.random.Generator) -> tuple[list[Instruction], list[list[int]]]:
        """A batch of clips of about one length: little of a batch is then padding."""
        pivot = self.num_steps[rng.choice(len(self.clips), p=self.weight)]
        weight = self.weight * (np.abs(self.num_steps - pivot) <= max(2, 0.15 * pivot))
        indices = rng.choice(len(self.clips), self.config.batch_size, p=weight / weight.sum())
        examples = [self._example(index, rng) for index in indices]
        return [instruction for instruction, _ in examples], [answer for _, answer in examples]

    def _example(self, index: int, rng: np.random.Generator) -> tuple[Instruction, list[int]]:
        clip, task = self.clips[index], self.tasks[rng.choice(len(self.tasks), p=self.shares)]
        codes = self._part(clip.codes, self.is_cyclic[index], rng)
        is_made_of_words = task is None or (task.gives == "motion" and not task.codes)
        if is_made_of_words and rng.random() < self.config.empty_share:
            return Instruction(""), self.vocab.codes_to_ids(codes).tolist()
        if task is None:
            return Instruction(phrase(clip, rng, mirrored=clip.mirrored)), self.vocab.codes_to_ids(codes).tolist()
        num_frames, fps = len(codes) // self.info.codes_per_step * self.info.frames_per_step, self.info.fps
        told, said = self._told_and_said(task, codes, rng)
        caption = phrase(clip, rng, mirrored=clip.mirrored) if "caption" in task.needs else ""
        text = phrase_task(task, rng, caption=caption, num_frames=num_frames, fps=fps)
        if task.gives == "motion":
            return Instruction(text, told), self.vocab.codes_to_ids(said).tolist()
        caption = plain_caption(clip, rng, mirrored=clip.mirrored) if "caption" in task.answer_needs else ""
        answer = phrase_answer(task, rng, caption=caption, num_frames=num_frames, fps=fps)
        return Instruction(text, told), self.text_to_ids(answer)

    def _told_and_said(
        self, task: Task, codes: np.ndarray, rng: np.random.Generator
    ) -> tuple[tuple[int, ...], np.ndarray]:
        """The codes that the instruction tells of a motion, and those that the answer says."""
        per_step = self.info.codes_per_step
        num_steps = len(codes) // per_step
        if task.codes == "head":
            head = per_step * int(rng.integers(1, max(2, num_steps * 3 // 4)))
            return tuple(codes[:head].tolist()), codes[head:]
        if task.codes == "gap":
            told = hide(num_steps, rng)
            return tuple(np.where(np.repeat(told, per_step), codes, HIDDEN).tolist()), codes
        return (tuple(codes.tolist()) if task.codes else ()), codes

    def _part(self, codes: np.ndarray, is_cyclic: bool, rng: np.random.Generator) -> np.ndarray:
        """All codes, or whole steps of them: of a clip that is too long, and sometimes of one that repeats itself."""
        num_steps = len(codes) // self.info.codes_per_step
        length = min(num_steps, self.config.max_steps)
        if is_cyclic and length > SHORTEST_CROP_STEPS and rng.random() < self.config.crop_share:
            length = int(rng.integers(SHORTEST_CROP_STEPS, length + 1))
        start = int(rng.integers(0, num_steps - length + 1))
        return codes[start * self.info.codes_per_step : (start + length) * self.info.codes_per_step]


def hide(num_steps: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which steps (S,) of a motion are told: all but one span anywhere, or only a few key steps of it."""
    if num_steps > 4 and rng.random() < KEY_STEPS_SHARE:
        told = np.zeros(num_steps, bool)
        told[rng.choice(num_steps, int(rng.integers(2, max(3, num_steps // 4 + 1))), replace=False)] = True
        return told
    told = np.ones(num_steps, bool)
    length = int(rng.integers(1, max(2, num_steps * 3 // 4)))
    start = int(rng.integers(0, num_steps - length + 1))
    told[start : start + length] = num_steps == 1  # of a single step nothing can be hidden
    return told


def build_lm(clips: Sequence[TokenizedClip], info: TokensInfo, config: LMTraining) -> MotionLM:
    """A new language model for the codes of a tokenizer, with a reader as the settings ask."""
    torch.manual_seed(config.optimization.seed)
    captions = " ".join(caption for clip in clips for caption in clip.captions)
    words = {*re.findall(r"[a-z]+", captions.lower())}
    if config.reader == "none":
        reader, words = None, words | spoken_words()
    else:
        reader = minilm_reader(config.network.width, max_tokens=config.network.max_text_tokens)
    return MotionLM.from_config(
        config.network,
        num_codes=info.num_codes,
        codes_per_step=info.codes_per_step,
        text_tokenizer=plain_tokenizer(words),
        reader=reader,
    )


def train_lm(clips: Sequence[TokenizedClip], info: TokensInfo, config: LMTraining, *, folder: str | Path) -> MotionLM:
    """Train on tokenized clips, or go on where the run in `folder` was stopped; returns the model.

    Raises DataError without clips and ConfigError for a folder of other settings.
    """
    run = RunFolder.open(folder, config)
    if not clips:
        raise DataError("no tokenized clip to train on; encode a train split first")
    model = build_lm(clips, info, config)
    sampler = ExampleSampler(clips, info, model, config)
    if model.reader is not None:
        teaching = RunFolder.open(Path(folder) / "reader", config.reader_teaching)
        teach_reader(model, clips, sampler.weight, config.reader_teaching, run=teaching)

    def terms_of(draw: Draw) -> dict[str, Tensor]:
        torch.manual_seed(int(draw.rng.integers(2**31)))  # dropout draws from torch's own generator
        instructions, answers = sampler.draw(draw.rng)
        answers = draw.mine(answers)
        weight = torch.tensor(float(sum(map(len, answers))))
        return {"loss": model.loss(draw.mine(instructions), answers), "weight": weight}

    optimize(run, model, terms_of, config.optimization)
    return model
