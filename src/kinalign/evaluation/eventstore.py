"""What an evaluation of events keeps in its folder: prompts, motions, what is measured of them, and verdicts.

prompts.json                      the prompts of each set, with their event programs
motions/000.safetensors           the motion of every prompt in replication 0, by the prompt's id
measures/000.safetensors          their embeddings and physics; measures/real.safetensors: those of the real clips
verdicts/JUDGE/000-00000.jsonl    what a judge said of 64 of them

Where they are chosen of many (eventchoice.py), choices/JUDGE/ holds what whoever chose said of all.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinalign.data.motions import read_motions, write_motions
from kinalign.errors import EvaluationError, KinalignError, VerdictError
from kinalign.evaluation.bench import Made
from kinalign.evaluation.embedding import Vectors
from kinalign.evaluation.eventquality import PHYSICS, Measured
from kinalign.evaluation.eventsets import EventPrompts
from kinalign.judge.kinematic import SHORTEST_S
from kinalign.judge.prompts import EventPrompt
from kinalign.judge.verdict import Case, Finding, Judge, Outcome, Verdict, outcome_from_json
from kinalign.motion.motion import Motion
from kinalign.run import progress, read_json, read_tensors, write_json, write_tensors, write_text

CASES_PER_FILE = 64
"""Verdicts that a kill can lose."""


@dataclass(frozen=True)
class Spent:
    """What motions took."""

    seconds: float
    """With all that was drawn and judged to choose them."""
    drawn: float = 1.0
    """Candidates."""
    usd: float = 0.0
    """The price of whoever chose."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.seconds + other.seconds, self.drawn + other.drawn, self.usd + other.usd)

    def of_one(self, number: int) -> Spent:
        """The share of one of so many motions."""
        return Spent(self.seconds / number, self.drawn / number, self.usd / number)


class EventFolder:
    """The folder of an evaluation: R replications of P prompts."""

    def __init__(self, path: Path, prompts: EventPrompts, replications: int) -> None:
        self.path, self.prompts, self.replications = path, prompts, replications

    @staticmethod
    def load(path: str | Path) -> EventFolder:
        """A folder that holds a whole evaluation; raises EvaluationError for another one."""
        path = Path(path)
        try:
            prompts = EventPrompts.from_json(read_json(path / "prompts.json"))
            settings = read_json(path / "config.json")["settings"]
            folder = EventFolder(path, prompts, settings["replications"])
        except (KinalignError, KeyError, TypeError) as error:
            raise EvaluationError(
                f"{path} holds no evaluation of events ({error}); kinalign evaluate --events --out {path} writes one"
            ) from error
        absent = [name for name in folder.measures if not name.is_file()]
        if absent:
            raise EvaluationError(
                f"{path} holds a part of an evaluation: {absent[0].name} is absent; give the command that began it"
            )
        return folder

    def write_prompts(self) -> None:
        write_json(self.path / "prompts.json", self.prompts.to_json())

    # motions and what is measured of them

    @property
    def measures(self) -> list[Path]:
        """The files that are all there when the motions are."""
        return [self._measures(str(name)) for name in ("real", *map(_number, range(self.replications)))]

    def _measures(self, name: str) -> Path:
        return self.path / "measures" / f"{name}.safetensors"

    def has_made(self, replication: int) -> bool:
        return self._measures(_number(replication)).is_file()

    def has_real(self) -> bool:
        return self._measures("real").is_file()

    def keep_motions(self, replication: int, motions: list[Motion]) -> list[Motion]:
        """Write the motions of all prompts, and give them back as they are read: what is judged is what is kept."""
        names = [prompt.id for prompt in self.prompts.all]
        write_motions(self._motions(replication), dict(zip(names, motions, strict=True)))
        return self.motions(replication)

    def motions(self, replication: int) -> list[Motion]:
        """The motion of each prompt; raises DataError where the file is absent or cut short."""
        motions = read_motions(self._motions(replication))
        return [motions[prompt.id] for prompt in self.prompts.all]

    def _motions(self, replication: int) -> Path:
        return self.path / "motions" / f"{_number(replication)}.safetensors"

    def keep_made(self, replication: int, made: Made, spent: Spent) -> None:
        """Write what is measured of a replication's motions; last, for by it the replication is known to be whole."""
        took = {name: torch.tensor(float(value)) for name, value in asdict(spent).items()}
        write_tensors(self._measures(_number(replication)), _tensors(made) | took)

    def keep_real(self, made: Made, text: Vectors) -> None:
        """Write what is measured of real clips, and the embeddings of the prompts."""
        write_tensors(self._measures("real"), _tensors(made) | {"text": torch.from_numpy(text)})

    def measured(self) -> Measured:
        """What is measured of all replications."""
        real, *made = (read_tensors(path) for path in self.measures)
        return Measured(
            real["text"].numpy(),
            np.stack([one["vectors"].numpy() for one in made], axis=1),
            {name: np.stack([one[name].numpy() for one in made], axis=1) for name in PHYSICS},
            real["vectors"].numpy(),
            {name: real[name].numpy() for name in PHYSICS},
        )

    def spent(self) -> Spent:
        """What one motion took."""
        tensors = [read_tensors(path) for path in self.measures[1:]]
        # folders of before there was a choice know of seconds only
        whole = [name for name in asdict(Spent(0.0)) if all(name in one for one in tensors)]
        return Spent(**{name: float(np.mean([one[name].item() for one in tensors])) for name in whole})

    # verdicts

    def ask(self, judge: Judge) -> list[list[Outcome]]:
        """The judge's answers (P lists of R); only what it has not judged yet is asked, and what it could not judge.

        Whoever has another name, as another model or other settings, is another judge with a folder of its own.
        """
        of_judge = self.path / "verdicts" / name_of_judge(judge.name)
        write_json(of_judge / "judge.json", {"judge": judge.name})
        total = self.replications * len(self.prompts.all)
        with progress(f"judging, {judge.name}", total=total) as advance:
            for replication in range(self.replications):
                motions: list[Motion] = []
                for start, prompts in self._parts():
                    path = of_judge / f"{_number(replication)}-{start:05d}.jsonl"
                    said: list[Outcome | None] = list(_verdicts(path, prompts) or [])
                    said += [None] * (len(prompts) - len(said))
                    unsaid = [place for place, one in enumerate(said) if not isinstance(one, Verdict)]
                    if unsaid:
                        motions = motions or self.motions(replication)
                        asked = [(prompts[place], motions[start + place]) for place in unsaid]
                        cases = [Case(prompt.prompt, motion, prompt.program, prompt.task) for prompt, motion in asked]
                        for place, answer in zip(unsaid, _answers(judge, cases), strict=True):
                            said[place] = answer
                        _write_verdicts(path, prompts, [one for one in said if one is not None])
                    advance(len(prompts))
        return self.verdicts()[judge.name]

    def verdicts(self) -> dict[str, list[list[Outcome]]]:
        """Judge -> answers (P lists of R), of every judge who has said everything."""
        found = {}
        for file in sorted((self.path / "verdicts").glob("*/judge.json")):
            columns = [self._replication(file.parent, replication) for replication in range(self.replications)]
            whole = [column for column in columns if column is not None]
            if len(whole) == len(columns):
                found[str(read_json(file)["judge"])] = [list(row) for row in zip(*whole)]
        return found

    def _replication(self, of_judge: Path, replication: int) -> list[Outcome] | None:
        said: list[Outcome] = []
        for start, prompts in self._parts():
            part = _verdicts(of_judge / f"{_number(replication)}-{start:05d}.jsonl", prompts)
            if part is None:
                return None
            said += part
        return said

    def _parts(self) -> Iterator[tuple[int, list[EventPrompt]]]:
        for start in range(0, len(self.prompts.all), CASES_PER_FILE):
            yield start, self.prompts.all[start : start + CASES_PER_FILE]


def _answers(judge: Judge, cases: list[Case]) -> list[Outcome]:
    """The judge's answers; what is too short to show anything shows nothing, whoever judges."""
    long = [case for case in cases if case.motion.duration_s >= SHORTEST_S]
    answers = iter(judge.judge_all(long) if long else [])
    return [next(answers) if case.motion.duration_s >= SHORTEST_S else _nothing(judge, case) for case in cases]


def _nothing(judge: Judge, case: Case) -> Verdict:
    findings = tuple(Finding(event, "no") for event in case.program.events)
    return Verdict(1, case.task, judge.name, f"the motion lasts {case.motion.duration_s:.2f} s", findings)


def _number(replication: int) -> str:
    return f"{replication:03d}"


def name_of_judge(name: str) -> str:
    """A judge's name as that of a folder: no two names have the same."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{plain[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _tensors(made: Made) -> dict[str, torch.Tensor]:
    physics = {name: torch.from_numpy(made.physics[name].astype(np.float32)) for name in PHYSICS}
    return {"vectors": torch.from_numpy(made.vectors), **physics}


def _write_verdicts(path: Path, prompts: list[EventPrompt], outcomes: list[Outcome]) -> None:
    rows: list[dict[str, Any]] = [
        {"id": p.id, **outcome.to_json()} for p, outcome in zip(prompts, outcomes, strict=True)
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(path, text)


def _verdicts(path: Path, prompts: list[EventPrompt]) -> list[Outcome] | None:
    """What was said of these prompts, or None where it was not. Raises VerdictError for a file of another kind."""
    if not path.is_file():
        return None
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if [row.pop("id") for row in rows] != [prompt.id for prompt in prompts]:
            raise VerdictError("it is about other prompts")
        return [outcome_from_json(row) for row in rows]
    except (ValueError, KeyError, VerdictError) as error:
        raise VerdictError(f"{path} cannot be read ({error}); remove it, and the judge is asked again") from error
