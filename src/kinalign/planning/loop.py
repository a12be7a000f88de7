"""The closed loop: a scene, the next task, its steps, a motion of each, what the model says of it, and whether it fits.

Of each step motions are drawn in rounds. A judge looks at all of them, the motion-language model reads those back that
are right, and the first whose caption says the step goes on; where none does within the budget, the best one does, and
the log says why. (AvatarGPT closes its loop without looking; arXiv 2311.16468, section 3.5.) The other way round, a
given motion is read back to tasks and a scene, and the loop goes on from where it ends.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kinalign.judge.verdict import Judge, Verdict
from kinalign.lm.model import Sampling
from kinalign.motion.joining import uniform
from kinalign.motion.motion import Motion
from kinalign.pipeline import TextToMotion
from kinalign.planning.compose import Store, Take, seed_of
from kinalign.planning.plan import Step
from kinalign.planning.saying import share_said
from kinalign.run import read_json, write_json
from kinalign.selection import Judged, best_of, merit


@dataclass(frozen=True)
class Read:
    """A motion that was drawn in some round, and what the model says of it: the share of the step's events."""

    round: int
    judged: Judged
    caption: str
    said: float

    @property
    def fits(self) -> bool:
        """Whether the judge finds everything as asked, and the caption says all of it."""
        return self.judged.is_right and self.said == 1.0

    @property
    def score(self) -> int | None:
        outcome = self.judged.outcome
        return outcome.score if isinstance(outcome, Verdict) else None

    def to_json(self) -> dict[str, Any]:
        return {
            "round": self.round,
            "candidate": self.judged.place,
            "score": self.score,
            "reason": self.judged.outcome.reason,
            "caption": self.caption,
            "said": round(self.said, 3),
        }


@dataclass(frozen=True)
class Choice:
    """The motion that a step goes on with, and all that was tried for it."""

    chosen: Read
    tried: tuple[Read, ...]
    """Of every round, those that were read back."""
    num_drawn: int
    num_right: int

    @property
    def why(self) -> str:
        """Why it goes on."""
        if self.chosen.fits:
            return "right by the judge, and its caption says the step"
        spent = f"the budget of {self.num_drawn} motions is spent"
        if self.chosen.judged.is_right:
            return f"{spent}; the best one is right by the judge, but its caption says {self.chosen.caption!r}"
        score = "no score" if self.chosen.score is None else f"{self.chosen.score} of 5"
        return f"{spent}; the best one has {score}: {self.chosen.judged.outcome.reason}"

    def to_json(self) -> dict[str, Any]:
        return {
            "score": self.chosen.score,
            "fits": self.chosen.fits,
            "drawn": self.num_drawn,
            "right": self.num_right,
            "tried": [one.to_json() for one in self.tried],
            "chosen": {"round": self.chosen.round, "candidate": self.chosen.judged.place},
            "why": self.why,
        }


def choose(
    model: TextToMotion,
    step: Step,
    *,
    judge: Judge,
    candidates: int,
    rounds: int,
    seed: list[int],
    length_s: float | None = None,
    sampling: Sampling | None = None,
) -> Choice:
    """A motion of a step that the judge finds right and whose caption says the step, of `rounds` of `candidates` each.

    Drawing ends with the first round that has one. Where none has, the best is taken: what is right by the judge before
    what is not, then what says most, then as in `best_of`. Raises PromptError where the model cannot read the step.
    """
    tried: list[Read] = []
    num_drawn = num_right = 0
    for number in range(rounds):
        selection = best_of(
            model,
            step.text,
            candidates,
            judge=judge,
            program=step.program,
            keep=candidates,
            seed=seed_of(*seed, number),
            length_s=length_s,
            sampling=sampling,
            plant=True,
        )
        num_drawn += selection.num_drawn
        num_right += selection.num_right
        # where nothing is right, the best one is read back for the log
        looked_at = [one for one in selection.kept if one.is_right] or [selection.best]
        captions = model.captions([one.motion for one in looked_at])
        read = [
            Read(number, one, caption, share_said(step.program, caption)) for one, caption in zip(looked_at, captions)
        ]
        tried += read
        if fitting := [one for one in read if one.fits]:
            return Choice(fitting[0], tuple(tried), num_drawn, num_right)
    best = max(tried, key=lambda one: (one.judged.is_right, one.said, *merit(one.judged)))
    return Choice(best, tuple(tried), num_drawn, num_right)


class Log:
    """loop.json: what was asked, and for each segment, by its number, what was tried and why it went on.

    It is written after each segment; what an earlier run wrote is read, whatever that was asked.
    """

    def __init__(self, path: Path, asked: Mapping[str, Any]) -> None:
        self.path, self.asked = path, dict(asked)
        self.rows: dict[str, dict[str, Any]] = {}
        if path.exists():
            self.rows = {str(row["number"]): row for row in read_json(path).get("segments", [])}

    def add(self, number: str, row: Mapping[str, Any]) -> None:
        """Put down a segment, anew where it is there."""
        self.rows[number] = {"number": number, **row}
        write_json(self.path, {**self.asked, "segments": list(self.rows.values())})

    def finish(self, numbers: Collection[int]) -> None:
        """Leave out segments of an earlier run that are none of this one, and put the others in order."""
        rows = {name: row for name, row in self.rows.items() if int(name.partition(".")[0]) in numbers}
        self.rows = dict(sorted(rows.items(), key=lambda row: tuple(map(int, row[0].split(".")))))
        write_json(self.path, {**self.asked, "segments": list(self.rows.values())})


class Chooser:
    """A store of takes in which what is not kept is chosen by the loop, and logged.

    A motion that is `given`, made uniform, is the take of the first segment.
    """

    def __init__(
        self,
        model: TextToMotion,
        judge: Judge,
        kept: Store,
        log: Log,
        *,
        rounds: int,
        given: Motion | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self.model, self.judge, self.kept, self.log = model, judge, kept, log
        self.rounds, self.given, self.sampling = rounds, given, sampling

    def get(self, number: int, piece: int, made_of: Mapping[str, Any]) -> Take | None:
        """The take of a segment: the given motion, one that is kept, or one that is chosen now."""
        if self.given is not None and number == 1:
            return Take(self.given, None, "given")
        name, asked = _name(number, piece), self._asked(made_of)
        take = self.kept.get(number, piece, asked)
        if take is not None and name in self.log.rows:
            return take
        step = Step.from_json({key: made_of[key] for key in ("text", "program")})
        choice = choose(
            self.model,
            step,
            judge=self.judge,
            candidates=made_of["num_candidates"],
            rounds=self.rounds,
            seed=made_of["seed"],
            length_s=made_of["length_s"],
            sampling=self.sampling,
        )
        chosen = choice.chosen
        motion = replace(uniform(chosen.judged.motion), caption=step.text)
        take = Take(motion, chosen.score, chosen.judged.outcome.reason)
        self.log.add(name, {"text": step.text, **choice.to_json()})
        self.kept.put(number, piece, asked, take)
        return take

    def put(self, number: int, piece: int, made_of: Mapping[str, Any], take: Take) -> None:
        """Keep a take that was made because the chosen one cannot follow what is before it."""
        name = _name(number, piece)
        why = f"the chosen one cannot follow what is before it; of others the best that can was taken: {take.reason}"
        self.log.add(name, {**self.log.rows[name], "score": take.score, "fits": False, "why": why})
        self.kept.put(number, piece, self._asked(made_of), take)

    def _asked(self, made_of: Mapping[str, Any]) -> dict[str, Any]:
        return {**made_of, "rounds": self.rounds}


def _name(number: int, piece: int) -> str:
    return f"{number}" if piece == 0 else f"{number}.{piece}"
