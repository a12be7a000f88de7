"""What a model said in an evaluation, kept in a folder as it is said: a kill repeats one file's worth of it at most."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch

from kinalign.motion.motion import Motion
from kinalign.pipeline import Asked, TextToMotion
from kinalign.run import read_json, read_tensors, write_atomically, write_json, write_tensors
from kinalign.tokenizer.tokenizer import Codes

ANSWERS_PER_FILE = 256


class Answers(NamedTuple):
    """Codes of `num_candidates` answers to each that was asked, None where one was no motion, and seconds in all."""

    codes: list[list[Codes | None]]
    seconds: float


class Store:
    """Answers of one model in files of one folder, by name; what `reused`, a folder of the same kind, has is taken."""

    def __init__(self, folder: Path, model: TextToMotion, *, reused: Path | None = None) -> None:
        self.folder, self.model, self.reused = folder, model, reused

    def answers(
        self,
        name: str,
        asked: Sequence[Asked],
        *,
        seeds: Sequence[int],
        num_candidates: int = 1,
        constrained: bool = True,
        skip: int = 0,
    ) -> Answers:
        """The model's answers, after `skip` others, read where they were written before."""
        codes: list[list[Codes | None]] = []
        seconds = 0.0
        size = max(1, ANSWERS_PER_FILE // num_candidates)
        for start in range(0, len(asked), size):
            path = self.folder / f"{name}-{start:05d}.safetensors"
            part = slice(start, start + size)
            copy_absent(path, self.reused)
            if not path.exists():
                begun = perf_counter()
                made = self.model.answers(
                    asked[part],
                    seeds=seeds[part],
                    num_candidates=num_candidates,
                    constrained=constrained,
                    skip=skip,
                )
                _write(path, made, perf_counter() - begun)
            tensors = read_tensors(path)
            ends = tensors["ends"].tolist()
            rows = [tensors["codes"][a:b].numpy().astype(np.int64) for a, b in zip([0, *ends], ends)]
            # no motion has no codes
            read = [row if len(row) else None for row in rows]
            codes += [read[first : first + num_candidates] for first in range(0, len(read), num_candidates)]
            seconds += float(tensors["seconds"])
        return Answers(codes, seconds)

    def motions(self, name: str, asked: Sequence[Asked], *, seeds: Sequence[int]) -> tuple[list[Motion], float]:
        """The motion of one answer to each, and how many seconds one took to make, in batches, decoding included."""
        answers = self.answers(name, asked, seeds=seeds)
        begun = perf_counter()
        motions = [one.finish(codes) for one, (codes,) in zip(asked, answers.codes) if codes is not None]
        assert len(motions) == len(asked), "constrained answers are motions"
        return motions, (answers.seconds + perf_counter() - begun) / len(asked)

    def captions(self, motions: Sequence[Motion]) -> tuple[list[str], float]:
        """The model's caption of each motion, and how many seconds one took."""
        said: list[str] = []
        seconds = 0.0
        for start in range(0, len(motions), ANSWERS_PER_FILE):
            path = self.folder / f"m2t-{start:05d}.json"
            if not path.exists():
                begun = perf_counter()
                captions = self.model.captions(motions[start : start + ANSWERS_PER_FILE])
                write_json(path, {"captions": captions, "seconds": perf_counter() - begun})
            kept = read_json(path)
            said += kept["captions"]
            seconds += kept["seconds"]
        return said, seconds / len(motions)


def copy_absent(path: Path, reused: Path | None) -> None:
    """Take a file from another folder, if there is one, where it is there and not here."""
    if reused is not None and (source := reused / path.name).exists() and not path.exists():
        write_atomically(path, lambda temporary: shutil.copyfile(source, temporary))


def _write(path: Path, made: Sequence[Sequence[Codes | None]], seconds: float) -> None:
    rows = [np.empty(0, np.int64) if codes is None else codes for candidates in made for codes in candidates]
    write_tensors(
        path,
        {
            "codes": torch.from_numpy(np.concatenate(rows).astype(np.int32)),
            "ends": torch.tensor([len(row) for row in rows]).cumsum(0),
            "seconds": torch.tensor(seconds, dtype=torch.float64),
        },
    )
