"""Candidate motions of a model for prompts: drawn in large batches, each from a seed of its own.

A candidate depends on the prompt's words, its place among the candidates and the seed of the data set. Batches are cut
the same way whenever they are made, so that a data set whose making was stopped anywhere ends as one that never was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from kinalign.errors import CheckpointError, ConfigError
from kinalign.judge.prompts import EventPrompt
from kinalign.lm.model import Sampling
from kinalign.motion.motion import Motion
from kinalign.pipeline import TextToMotion
from kinalign.preference.records import Candidate
from kinalign.run import read_tensors, write_tensors

ANSWERS_PER_CHUNK = 256
"""Of one file, and what a kill can lose: four batches of the language model."""


@dataclass(frozen=True)
class Draws:
    """How candidates are drawn."""

    num_candidates: int = 10
    """Motions for each prompt; AToM has 10."""
    seed: int = 0
    sampling: Sampling | None = None
    """None is the model's own way to draw."""
    constrained: bool = True
    """False lets the model say what is no motion, as AToM's did: such answers are counted and are in no pair."""

    def __post_init__(self) -> None:
        if self.num_candidates < 2:
            raise ConfigError(f"candidates={self.num_candidates} make no pair; use 2 or more (--candidates)")

    def chunks(self, prompts: Sequence[EventPrompt]) -> list[list[EventPrompt]]:
        """The prompts of each file."""
        size = max(1, ANSWERS_PER_CHUNK // self.num_candidates)
        return [list(prompts[start : start + size]) for start in range(0, len(prompts), size)]

    def seed_of(self, prompt: str, index: int) -> int:
        """What a candidate is drawn with, in [0, 2^31): the same wherever the prompt stands."""
        words = f"{self.seed} {index} {prompt}"
        return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big") >> 1


def draw(model: TextToMotion, prompts: Sequence[EventPrompt], draws: Draws) -> list[list[Candidate]]:
    """Candidates of each prompt, not decoded: their codes are None where the answer was no motion."""
    places = [(prompt, index) for prompt in prompts for index in range(draws.num_candidates)]
    seeds = [draws.seed_of(prompt.prompt, index) for prompt, index in places]
    asked = {prompt.prompt: model.ask(prompt.prompt) for prompt in prompts}
    answers = model.answers(
        [asked[prompt.prompt] for prompt, _ in places],
        seeds=seeds,
        sampling=draws.sampling,
        constrained=draws.constrained,
    )
    candidates = [
        Candidate(index, seed, None if codes is None else tuple(codes.tolist()))
        for (_, index), seed, (codes,) in zip(places, seeds, answers)
    ]
    return _by_prompt(candidates, draws.num_candidates)


def decoded(model: TextToMotion, prompt: str, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Candidates with their motions; those that are none stay without."""
    return [
        candidate if candidate.codes is None else replace(candidate, motion=motion_of(model, prompt, candidate))
        for candidate in candidates
    ]


def motion_of(model: TextToMotion, prompt: str, candidate: Candidate) -> Motion:
    """The motion of a candidate's codes."""
    return model.ask(prompt).finish(np.array(candidate.codes, np.int64))


def write_candidates(path: Path, candidates: Sequence[Sequence[Candidate]]) -> Path:
    """Codes (all in a row), where each candidate's end, and seeds, as safetensors; no codes are no motion."""
    rows = [candidate.codes or () for of_prompt in candidates for candidate in of_prompt]
    seeds = [candidate.seed for of_prompt in candidates for candidate in of_prompt]
    return write_tensors(
        path,
        {
            "codes": torch.tensor([code for row in rows for code in row], dtype=torch.int32),
            "ends": torch.tensor([len(row) for row in rows]).cumsum(0),
            "seeds": torch.tensor(seeds),
        },
    )


def read_candidates(path: Path, prompts: Sequence[EventPrompt], draws: Draws) -> list[list[Candidate]]:
    """What `write_candidates` wrote for these prompts.

    Raises CheckpointError where the file is absent, cut short or of other prompts.
    """
    tensors = read_tensors(path)
    expected = [draws.seed_of(prompt.prompt, index) for prompt in prompts for index in range(draws.num_candidates)]
    if tensors.get("seeds", torch.empty(0)).tolist() != expected:
        raise CheckpointError(f"{path} holds candidates of other prompts or seeds; remove it")
    codes, ends = tensors["codes"].tolist(), tensors["ends"].tolist()
    rows = [tuple(codes[start:end]) for start, end in zip([0, *ends], ends)]
    candidates = [
        Candidate(place % draws.num_candidates, seed, row or None)
        for place, (seed, row) in enumerate(zip(expected, rows))
    ]
    return _by_prompt(candidates, draws.num_candidates)


def _by_prompt(candidates: Sequence[Candidate], size: int) -> list[list[Candidate]]:
    return [list(candidates[start : start + size]) for start in range(0, len(candidates), size)]
