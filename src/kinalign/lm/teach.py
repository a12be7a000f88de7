"""Teach a reader which sentences ask for the same motion: from phrasings alone, without a motion.

The mean of what it reads in a sentence shall tell the action, its side and the style (cross-entropy each). That takes
minutes, where learning it through a decoder takes hours, and it carries over to words that no phrasing holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinalign.data.phrasings import Meaning, meaning_of, phrase
from kinalign.data.tokens import TokenizedClip
from kinalign.errors import DataError
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
        self.heads = nn.ModuleDict(
            {question: nn.Linear(self.reader.config.width, len(answers[question])) for question in QUESTIONS}
        )
        nn.init.zeros_(self.heads["action"].weight)

    def forward(self, token_ids: Tensor, is_token: Tensor) -> dict[str, Tensor]:
        hidden = self.reader.read(token_ids, is_token)
        pooled = (hidden * is_token[..., None]).sum(1) / is_token.sum(1, keepdim=True)
        return {question: HEAD_SCALE * head(pooled) for question, head in self.heads.items()}


class Lesson:
    """Draws sentences with what they mean, rare actions as often as `weight` says."""

    def __init__(self, clips: Sequence[TokenizedClip], weight: np.ndarray) -> None:
        meanings = [meaning_of(clip) for clip in clips]
        known = [place for place, meaning in enumerate(meanings) if meaning is not None]
        if not known:
            raise DataError(
                "no clip has a meaning that phrasings.json knows, so a reader cannot be taught (--reader none)"
            )
        self.rows: list[tuple[TokenizedClip, Meaning]] = [(clips[place], meanings[place]) for place in known]  # type: ignore[misc]
        self.weight = weight[known] / weight[known].sum()
        self.answers: dict[str, tuple[str, ...]] = {
            "action": tuple(sorted({meaning.actions[0] for _, meaning in self.rows})),
            "side": SIDES,
            "style": tuple(sorted({clip.style for clip, _ in self.rows})),
        }

    def draw(self, rng: np.random.Generator, size: int) -> tuple[list[str], dict[str, Tensor]]:
        """Sentences and, for every question, the place of the right answer; -100 where a sentence has several."""
        sentences, right = [], []
        for place in rng.choice(len(self.rows), size, p=self.weight):
            clip, meaning = self.rows[place]
            side = meaning.sides[0]
            if clip.mirrored:
                side = {"left": "right", "right": "left"}.get(side, side)
            sentences.append(phrase(clip, rng, mirrored=clip.mirrored))
            is_one = len(meaning.actions) == 1
            right.append(
                (
                    self.answers["action"].index(meaning.actions[0]) if is_one else -100,
                    SIDES.index(side) if is_one else -100,
                    self.answers["style"].index(clip.style),
                )
            )
        return sentences, dict(zip(QUESTIONS, torch.tensor(right).T))


def teach_reader(
    model: MotionLM,
    clips: Sequence[TokenizedClip],
    weight: np.ndarray,
    settings: Optimization,
    *,
    run: RunFolder,
    batch_size: int = 64,
) -> None:
    """Teach the model's reader in place, or go on where the run stands, and freeze it. Raises DataError."""
    lesson = Lesson(clips, weight)
    torch.manual_seed(settings.seed)
    pupil = Pupil(model, lesson.answers)

    def terms_of(draw: Draw) -> dict[str, Tensor]:
        torch.manual_seed(int(draw.rng.integers(2**31)))  # dropout draws from torch's own generator
        sentences, right = lesson.draw(draw.rng, batch_size)
        said = pupil(*model.tokenize(sentences))
        terms = {question: F.cross_entropy(said[question], right[question]) for question in QUESTIONS}
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    optimize(run, pupil, terms_of, settings)
    pupil.reader.freeze()
