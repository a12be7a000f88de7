"""A chunk of a data set in the making: some prompts with their candidates and verdicts, in two files.

Whoever computes, this process or a cluster, a chunk is made whole and in the same batches: so its bytes are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kinalign.errors import CheckpointError
from kinalign.judge.prompts import EventPrompt
from kinalign.judge.verdict import Case, Judge, Outcome
from kinalign.pipeline import TextToMotion
from kinalign.preference.annotate import cases_of, judged, read_verdicts, verdict_key, write_verdicts
from kinalign.preference.candidates import Draws, decoded, draw, read_candidates, write_candidates
from kinalign.preference.records import Candidate

Candidates = Sequence[Sequence[Candidate]]
"""Of each prompt."""


@dataclass(frozen=True)
class Chunk:
    """Prompts, their candidates, None before these are drawn, and the verdicts that are known, by `verdict_key`."""

    number: int
    prompts: tuple[EventPrompt, ...]
    candidates: Candidates | None = None
    known: Mapping[str, Outcome] = field(default_factory=dict)

    @property
    def is_judged(self) -> bool:
        """Whether every candidate is there and has its verdict."""
        return self.candidates is not None and all(
            verdict_key(prompt, candidate) in self.known
            for prompt, of_prompt in zip(self.prompts, self.candidates)
            for candidate in of_prompt
        )

    def cases(self) -> list[Case]:
        """What a judge is asked about: every candidate that is a motion, decoded, and has no verdict yet."""
        assert self.candidates is not None
        return list(cases_of(self.prompts, self.candidates, self.known).values())

    def judged_candidates(self) -> Candidates:
        """Candidates with their verdicts; all of them are known."""
        assert self.candidates is not None
        return [
            [replace(candidate, outcome=self.known[verdict_key(prompt, candidate)]) for candidate in of_prompt]
            for prompt, of_prompt in zip(self.prompts, self.candidates)
        ]

    def write_candidates(self, folder: Path) -> None:
        assert self.candidates is not None
        write_candidates(_candidates(folder, self.number), self.candidates)

    def write_verdicts(self, folder: Path) -> None:
        write_verdicts(_verdicts(folder, self.number), self.prompts, self.judged_candidates())


def read_chunk(folder: Path, number: int, prompts: Sequence[EventPrompt], draws: Draws) -> Chunk:
    """What a folder holds of a chunk: a file of candidates that is cut short counts as none."""
    try:
        candidates = read_candidates(_candidates(folder, number), prompts, draws)
    except CheckpointError:
        candidates = None
    return Chunk(number, tuple(prompts), candidates, read_verdicts(_verdicts(folder, number)))


def with_candidates(chunk: Chunk, model: TextToMotion, draws: Draws) -> Chunk:
    """The chunk with its candidates drawn."""
    return replace(chunk, candidates=draw(model, chunk.prompts, draws))


def with_motions(chunk: Chunk, model: TextToMotion) -> Chunk:
    """The chunk with its candidates decoded."""
    assert chunk.candidates is not None
    motions = [decoded(model, prompt.prompt, own) for prompt, own in zip(chunk.prompts, chunk.candidates)]
    return replace(chunk, candidates=motions)


def with_verdicts(chunk: Chunk, judge: Judge) -> Chunk:
    """The chunk with the judge's verdicts on the motions that have none yet; the motions are left out again."""
    assert chunk.candidates is not None
    candidates = judged(judge, chunk.prompts, chunk.candidates, chunk.known)
    known = {
        verdict_key(prompt, candidate): candidate.outcome
        for prompt, of_prompt in zip(chunk.prompts, candidates)
        for candidate in of_prompt
        if candidate.outcome is not None
    }
    without = [[replace(candidate, motion=None, outcome=None) for candidate in of_prompt] for of_prompt in candidates]
    return replace(chunk, candidates=without, known=known)


def _candidates(folder: Path, number: int) -> Path:
    return folder / "candidates" / f"{number:05d}.safetensors"


def _verdicts(folder: Path, number: int) -> Path:
    return folder / "verdicts" / f"{number:05d}.jsonl"
