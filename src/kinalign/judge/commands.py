"""`kinalign judge score` and `kinalign judge agreement`: verdicts on motions, and how far two judges agree."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from kinalign.errors import PromptError
from kinalign.judge.named import judge_named
from kinalign.judge.verdict import Case, Finding, Invalid, Outcome
from kinalign.motion.motion import Motion


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
            print("\n".join(_told(path, case.motion.fps, outcome)))


def row_of(case: Case, path: Path, outcome: Outcome) -> dict[str, Any]:
    """A line of a file of verdicts: the question and the answer."""
    return {
        "prompt": case.prompt,
        "motion": str(path),
        "task": case.task,
        "program": case.program.to_json(),
        **outcome.to_json(),
    }


def _told(path: Path, fps: float, outcome: Outcome) -> list[str]:
    if isinstance(outcome, Invalid):
        return [f"{path}: invalid: {outcome.reason}"]
    lines = [f"{path}: {outcome.score} of 5 ({outcome.task}): {outcome.reason}"]
    return lines + [f"  {line}" for line in _table(outcome.findings, fps)]


def _table(findings: Sequence[Finding], fps: float) -> list[str]:
    lines = []
    for finding in findings:
        event = finding.event
        asked = " ".join(str(value) for value in event.to_json().values()).replace("_", " ")
        when = ""
        if finding.start is not None and finding.end is not None:
            when = f"{finding.start / fps:.1f} to {finding.end / fps:.1f} s"
        count = "" if finding.count is None else f"x{finding.count}"
        lines.append(f"{finding.seen:7}{asked:32}{when:16}{count:5}{finding.reason}")
    return lines
