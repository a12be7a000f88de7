"""Motions before judges: `kinalign judge score` gives verdicts, `kinalign judge agreement` compares two judges."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from kinalign.errors import PromptError, VerdictError
from kinalign.events.program import EventProgram
from kinalign.events.say import named
from kinalign.judge.agreement import Answer, agreement
from kinalign.judge.named import JUDGES, judge_named
from kinalign.judge.verdict import Case, Finding, Invalid, Outcome, outcome_from_json
from kinalign.motion.motion import READERS, Motion
from kinalign.run import read_json


@dataclass(frozen=True)
class Score:
    """Judge how far motions show what a prompt says, event by event."""

    prompt: tyro.conf.Positional[str]
    """What shall happen: "a person walks forward, then kicks twice"."""
    motions: tyro.conf.Positional[tuple[Path, ...]]
    """Motions as bvh, npy or npz."""
    judge: str = "kinematic"
    """Who judges: kinematic, embedding, or lvlm:MODEL."""
    json: bool = False
    """Print one JSON object a line."""


def score(config: Score) -> None:
    """Judge how far motions show what a prompt says, event by event."""
    if not config.motions:
        raise PromptError('no motion; name a bvh, npy or npz file: kinalign judge score "a person waves" wave.bvh')
    cases = [Case.of(config.prompt, Motion.load(path)) for path in config.motions]
    outcomes = judge_named(config.judge).judge_all(cases)
    for path, case, outcome in zip(config.motions, cases, outcomes):
        if config.json:
            print(json.dumps(row_of(case, path, outcome)))
        else:
            print("\n".join(told(path, case.motion.fps, outcome)))


def row_of(case: Case, path: Path, outcome: Outcome) -> dict[str, Any]:
    """A line of a file of verdicts: the question and the answer."""
    return {
        "prompt": case.prompt,
        "motion": str(path),
        "task": case.task,
        "program": case.program.to_json(),
        **outcome.to_json(),
    }


def told(path: Path, fps: float, outcome: Outcome) -> list[str]:
    """Lines for the terminal: the score of a motion, and what was seen of each event from when to when."""
    if isinstance(outcome, Invalid):
        return [f"{path}: invalid: {outcome.reason}"]
    lines = [f"{path}: {outcome.score} of 5 ({outcome.task}): {outcome.reason}"]
    return lines + [f"  {line}" for line in _table(outcome.findings, fps)]


def _table(findings: Sequence[Finding], fps: float) -> list[str]:
    lines = []
    for finding in findings:
        asked = named(finding.event)
        if finding.event.count is not None:
            asked += f" x{finding.event.count}" if isinstance(finding.event.count, int) else " several times"
        when = ""
        if finding.start is not None and finding.end is not None:
            when = f"{finding.start / fps:.1f} to {finding.end / fps:.1f} s"
        count = "" if finding.count is None else f"x{finding.count}"
        lines.append(f"{finding.seen:7}{asked:36}{when:16}{count:5}{finding.reason}")
    return lines


@dataclass(frozen=True)
class Agree:
    """Say how far two judges agree, over verdicts or over motions that both judge now."""

    first: tyro.conf.Positional[str]
    """A file of verdicts, a JSON line each as `kinalign judge score --json` prints them, or a judge's name."""
    second: tyro.conf.Positional[str]
    """The same of the other judge."""
    data: Path | None = None
    """What named judges judge: a folder that `kinalign generate` wrote, or JSON lines with "prompt" and "motion"."""
    json: bool = False
    """Print one JSON object instead of tables."""


def agree(config: Agree) -> None:
    """Say how far two judges agree: kappa, rank correlation, pairs, confusion by sub-task, what was invalid, cost."""
    found = agreement(*(_answers(name, config.data) for name in (config.first, config.second)))
    print(json.dumps(found.to_json()) if config.json else found.markdown())


def _answers(name: str, data: Path | None) -> list[Answer]:
    if Path(name).is_file():
        return read_answers(Path(name))
    if name.partition(":")[0] not in JUDGES:
        raise VerdictError(f"{name!r} is neither a file of verdicts nor a judge; judges are {', '.join(JUDGES)}")
    if data is None:
        raise VerdictError(f"judge {name!r} needs motions to judge: --data with a folder or a file of JSON lines")
    asked = read_cases(data)
    outcomes = judge_named(name).judge_all([case for _, case in asked])
    return [Answer(case.prompt, motion, case.task, outcome) for (motion, case), outcome in zip(asked, outcomes)]


def read_answers(path: Path) -> list[Answer]:
    """Verdicts of a file with a JSON object a line; raises VerdictError, naming the line, for anything else."""
    answers = []
    for at, row in _rows(path):
        try:
            question = {name: row.pop(name) for name in ("prompt", "motion", "task")}
        except KeyError as error:
            raise VerdictError(f"{at} has no {error}; it needs prompt, motion, task and a verdict") from error
        row.pop("program", None)
        if not row.get("invalid"):
            row["task"] = question["task"]
        answers.append(Answer(**question, outcome=outcome_from_json(row)))
    return answers


def read_cases(data: Path) -> list[tuple[str, Case]]:
    """Questions of a folder with prompts.json, as `kinalign generate` writes it, or of JSON lines with prompt, motion.

    Motions stand beside the file unless their path leads elsewhere. A line may have its program and its task. Each
    case comes with the name of its motion; only joints in npy, npz and bvh are read.
    """
    folder = data if data.is_dir() else data.parent
    cases = []
    for at, row in _generated(data) if data.is_dir() else _rows(data):
        if not isinstance(row.get("prompt"), str) or not isinstance(row.get("motion"), str):
            raise VerdictError(f"{at} has no prompt or no motion; each line is an object with both")
        path = folder / row["motion"]
        program = EventProgram.from_json(row["program"]) if "program" in row else None
        motion = Motion.load(path if path.exists() else row["motion"])
        cases.append((row["motion"], Case.of(row["prompt"], motion, program=program, task=row.get("task"))))
    return cases


def _generated(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The motions that prompts.json names, each in one of its formats."""
    path = folder / "prompts.json"
    for row in read_json(path).get("motions", []):
        readable = {Path(name).stem: name for name in row["files"] if Path(name).suffix in READERS}
        for name in readable.values():
            yield str(path), {"prompt": row.get("prompt"), "motion": name}


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSONL file, each with where it stands."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise VerdictError(f"{path}, line {number} is no JSON ({error}); was the file cut short?") from error
        if not isinstance(row, dict):
            raise VerdictError(f"{path}, line {number} is no JSON object: {line[:80]}")
        yield f"{path}, line {number}", row
