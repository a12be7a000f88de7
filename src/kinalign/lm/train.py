"""Train a motion language model on tokenized clips: an instruction in, the clip's codes out.

Rare actions are drawn more often than their share, long clips give a new window each time, and a tenth of the
instructions are empty, which is what guidance compares with.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from kinalign.data.phrasings import phrase, spoken_words
from kinalign.data.tokens import TokenizedClip, TokensInfo
from kinalign.errors import ConfigError, DataError
from kinalign.lm.instructions import instruct
from kinalign.lm.model import LMConfig, MotionLM
from kinalign.lm.text import minilm_text_side, plain_tokenizer
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
    word_vectors: Literal["minilm", "random"] = "minilm"
    """Where the vectors of words come from."""
    freeze_words: bool = True
    """Keep the vectors of words as they are, so that a word never trained on stays beside its synonyms."""
    balance: float = 0.5
    """How far rare labels are drawn more often: 0 by clips, 1 every label equally."""
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
        self.is_cyclic = [not CYCLIC_WORDS.isdisjoint(caption.lower().split()) for caption in first_captions]

    def draw(self, rng: np.random.Generator) -> tuple[list[str], list[list[int]]]:
        """A batch of clips of about one length: little of a batch is then padding."""
        pivot = self.num_steps[rng.choice(len(self.clips), p=self.weight)]
        weight = self.weight * (np.abs(self.num_steps - pivot) <= max(2, 0.15 * pivot))
        instructions, answers = [], []
        for index in rng.choice(len(self.clips), self.config.batch_size, p=weight / weight.sum()):
            clip = self.clips[index]
            codes = self._part(clip.codes, self.is_cyclic[index], rng)
            num_frames = len(codes) // self.info.codes_per_step * self.info.frames_per_step
            if rng.random() < self.config.empty_share:
                instructions.append("")
            else:
                caption = phrase(clip, rng, mirrored=clip.mirrored)
                instructions.append(instruct(caption, num_frames=num_frames, fps=self.info.fps, rng=rng))
            answers.append(self.vocab.codes_to_ids(codes).tolist())
        return instructions, answers

    def _part(self, codes: np.ndarray, is_cyclic: bool, rng: np.random.Generator) -> np.ndarray:
        """All codes, or whole steps of them: of a clip that is too long, and sometimes of one that repeats itself."""
        num_steps = len(codes) // self.info.codes_per_step
        length = min(num_steps, self.config.max_steps)
        if is_cyclic and length > SHORTEST_CROP_STEPS and rng.random() < self.config.crop_share:
            length = int(rng.integers(SHORTEST_CROP_STEPS, length + 1))
        start = int(rng.integers(0, num_steps - length + 1))
        return codes[start * self.info.codes_per_step : (start + length) * self.info.codes_per_step]


def build_lm(
    clips: Sequence[TokenizedClip], info: TokensInfo, config: LMTraining, *, extra_words: Collection[str] = ()
) -> MotionLM:
    """A new language model for the codes of a tokenizer, with word vectors as the settings ask.

    Words are those that training will speak, and `extra_words` that it will not.
    """
    captions = " ".join(caption for clip in clips for caption in clip.captions)
    words = {*spoken_words(), *re.findall(r"[a-z]+", captions.lower()), *extra_words}
    torch.manual_seed(config.optimization.seed)
    vectors = None
    if config.word_vectors == "minilm":
        text_tokenizer, vectors = minilm_text_side(config.network.width, corpus_words=words)
    else:
        text_tokenizer = plain_tokenizer(words)
    model = MotionLM.from_config(
        config.network, num_codes=info.num_codes, codes_per_step=info.codes_per_step, text_tokenizer=text_tokenizer
    )
    if vectors is not None:
        with torch.no_grad():
            model.t5.shared.weight[: len(vectors)] = vectors
    return model


def freeze_words(model: MotionLM) -> None:
    """Let no gradient reach the vectors of text tokens; those of motion codes learn on."""

    def keep_motion(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[: model.vocab.num_text] = 0
        return gradient

    weight = model.t5.shared.weight
    assert isinstance(weight, nn.Parameter)
    weight.register_hook(keep_motion)


def train_lm(
    clips: Sequence[TokenizedClip],
    info: TokensInfo,
    config: LMTraining,
    *,
    folder: str | Path,
    extra_words: Collection[str] = (),
) -> MotionLM:
    """Train on tokenized clips, or go on where the run in `folder` was stopped; returns the model.

    Raises DataError without clips and ConfigError for a folder of other settings.
    """
    run = RunFolder.open(folder, config)
    if not clips:
        raise DataError("no tokenized clip to train on; encode a train split first")
    model = build_lm(clips, info, config, extra_words=extra_words)
    if config.freeze_words:
        freeze_words(model)
    sampler = ExampleSampler(clips, info, model, config)

    def terms_of(draw: Draw) -> dict[str, Tensor]:
        torch.manual_seed(int(draw.rng.integers(2**31)))  # dropout draws from torch's own generator
        instructions, answers = sampler.draw(draw.rng)
        return {"loss": model.loss(instructions, answers)}

    optimize(run, model, terms_of, config.optimization)
    return model
