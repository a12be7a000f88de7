"""Teach a reader which sentences ask for the same motion: from phrasings alone, without a motion.

The mean of what it reads in a sentence shall tell the action, its side and the style (cross-entropy each). That takes
minutes, where learning it through a decoder takes hours, and it carries over to words that no phrasing holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinalign.data.phrasings import Meaning, meaning_of, phrase
from kinalign.data.tokens import TokenizedClip
from kinalign.events.program import OPPOSITE
from kinalign.lm.model import MotionLM
from kinalign.run import RunFolder
from kinalign.training import Draw, Optimization, optimize

SIDES = ("", "left", "right")
QUESTIONS = ("action", "side", "style")
HEAD_SCALE = 20.0
"""New heads learn that much faster than the reader, which knows much already."""


class Pupil(nn.Module):
    """A reader and what it is asked about a sentence."""

    def __init__(self, model: MotionLM, answers: dict[str, tuple[str, ...]]) -> None:
        super().__init__()
        assert model.reader is not None
        self.reader = model.reader
        heads = {question: nn.Linear(self.reader.config.width, len(answers[question])) for question in QUESTIONS}
        for head in heads.values():
            nn.init.zeros_(head.weight)  # as good as any, and no louder than what is to be learned
        self.heads = nn.ModuleDict(heads)

    def forward(self, token_ids: Tensor, is_token: Tensor) -> dict[str, Tensor]:
        hidden = self.reader.read(token_ids, is_token)
        pooled = (hidden * is_token[..., None]).sum(1) / is_token.sum(1, keepdim=True)
        return {question: HEAD_SCALE * head(pooled) for question, head in self.heads.items()}


class Lesson:
    """Draws sentences with what they mean, of clips with one known action, rare ones as often as `weight` says."""

    def __init__(self, clips: Sequence[TokenizedClip], weight: np.ndarray) -> None:
        meanings = [meaning_of(clip) for clip in clips]
        self.rows: list[tuple[TokenizedClip, Meaning]] = [
            (clip, meaning) for clip, meaning in zip(clips, meanings) if _is_one(meaning)
        ]
        known = weight[[_is_one(meaning) for meaning in meanings]]
        self.weight = known / known.sum()
        self.answers: dict[str, tuple[str, ...]] = {
            "action": tuple(sorted({meaning.actions[0] for _, meaning in self.rows})),
            "side": SIDES,
            "style": tuple(sorted({clip.style for clip, _ in self.rows})),
        }

    def draw(self, rng: np.random.Generator, size: int) -> tuple[list[str], dict[str, Tensor]]:
        """Sentences and, for every question, the place of the right answer."""
        sentences, right = [], []
        for place in rng.choice(len(self.rows), size, p=self.weight):
            clip, meaning = self.rows[place]
            side = meaning.sides[0]
            if clip.mirrored:
                side = OPPOSITE.get(side, side)
            sentences.append(phrase(clip, rng, mirrored=clip.mirrored))
            said = {"action": meaning.actions[0], "side": side, "style": clip.style}
            right.append([self.answers[question].index(said[question]) for question in QUESTIONS])
        return sentences, dict(zip(QUESTIONS, torch.tensor(right).T))


def _is_one(meaning: Meaning | None) -> TypeGuard[Meaning]:
    return meaning is not None and len(meaning.actions) == 1


def teach_reader(
    model: MotionLM,
    clips: Sequence[TokenizedClip],
    weight: np.ndarray,
    settings: Optimization,
    *,
    run: RunFolder,
    batch_size: int = 64,
) -> None:
    """Teach the model's reader in place, or go on where the run stands, and freeze it.

    Clips of which phrasings.json does not know one action teach nothing; where all are such, the reader stays as it is.
    """
    assert model.reader is not None
    if not any(_is_one(meaning_of(clip)) for clip in clips):
        model.reader.freeze()
        return
    lesson = Lesson(clips, weight)
    torch.manual_seed(settings.seed)
    pupil = Pupil(model, lesson.answers)

    def terms_of(draw: Draw) -> dict[str, Tensor]:
        torch.manual_seed(int(draw.rng.integers(2**31)))  # dropout draws from torch's own generator
        sentences, right = lesson.draw(draw.rng, batch_size)
        sentences = draw.mine(sentences)
        said = pupil(*model.tokenize(sentences))
        terms = {
            question: F.cross_entropy(said[question], draw.mine(right[question]).to(model.device))
            for question in QUESTIONS
        }
        return {"loss": torch.stack(list(terms.values())).sum(), **terms, "weight": torch.tensor(float(len(sentences)))}

    optimize(run, pupil, terms_of, settings)
    model.reader.freeze()
