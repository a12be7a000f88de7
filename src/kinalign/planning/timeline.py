"""A timeline: segments one after the other, each one step that a motion shows, with a pause after it.

It comes from a plan, from tasks, from sentences, or from a JSON or CSV file with a row for each segment.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kinalign.errors import KinalignError, PlanError
from kinalign.events.parse import parse
from kinalign.events.program import EventProgram
from kinalign.planning.plan import Plan, Step, Task

COLUMNS = ("text", "seconds", "pause", "start", "task", "program")
"""What a row of a file may have; only the text is needed. `start` is a time in seconds, all others last."""
CLOSE_S = 1e-6


@dataclass(frozen=True)
class Segment:
    """A step of a long motion, `pause_s` seconds of standing still after it, and the task that it belongs to.

    Raises PlanError for a pause that is negative or endless.
    """

    step: Step
    pause_s: float = 0.0
    task: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.pause_s < float("inf"):
            raise PlanError(f"a pause of {self.pause_s} s after {self.step.text!r} cannot be; give 0 s or more")

    def to_json(self) -> dict[str, Any]:
        """The row of the segment in a timeline file."""
        row = {**self.step.to_json()}
        if self.pause_s:
            row["pause"] = self.pause_s
        return {**row, "task": self.task} if self.task else row


Timeline = tuple[Segment, ...]


def timeline_of(plan: Plan | Iterable[Task]) -> Timeline:
    """The steps of a plan or of tasks, in their order; raises PlanError where a task has none."""
    tasks = plan.tasks if isinstance(plan, Plan) else tuple(plan)
    for number, task in enumerate(tasks, start=1):
        if not task.steps:
            raise PlanError(f"task {number}, {task.text!r}, has no steps; decompose it first (t2s)")
    return tuple(Segment(step, task=task.text) for task in tasks for step in task.steps)


def timeline_of_texts(texts: Sequence[str]) -> Timeline:
    """Sentences as segments; raises PlanError, with the number, for one that names no event."""
    return _timeline([{"text": text} for text in texts], "sentence")


def read_timeline(path: str | Path) -> Timeline:
    """The timeline of a JSON or CSV file, told by the suffix.

    A row has `text` and, where wanted, `seconds`, `pause` (seconds after it), `start` (seconds from the beginning; the
    gap before it becomes a pause, and all rows before it need seconds), `task` and, in JSON, `program`. A CSV file
    names its columns in the first line; a JSON file holds a list of rows, or an object with such a list, "segments".
    Raises PlanError, with the row's number, for a row that cannot be.
    """
    path = Path(path)
    try:
        # with or without the mark that some editors put first
        text = path.read_text(encoding="utf-8-sig")
        rows = _csv_rows(text) if path.suffix.lower() == ".csv" else json.loads(text)
    except (OSError, ValueError, csv.Error) as error:
        raise PlanError(f"cannot read {path} as a timeline ({error}); it is CSV (.csv) or JSON") from error
    if isinstance(rows, Mapping):
        rows = rows.get("segments")
    if not isinstance(rows, list):
        raise PlanError(f"{path} is no timeline: it holds a list of rows, or an object with 'segments'")
    try:
        return _timeline(rows, "row")
    except PlanError as error:
        raise PlanError(f"{path}, {error}") from error


def timeline_to_json(segments: Iterable[Segment]) -> dict[str, Any]:
    """What `read_timeline` reads again from a JSON file."""
    return {"segments": [segment.to_json() for segment in segments]}


def _csv_rows(text: str) -> list[dict[str, Any]]:
    """Rows without their empty cells; what stands beyond the last column is under the name None."""
    reader = csv.DictReader(text.splitlines(), strict=True)
    return [{name: cell for name, cell in row.items() if cell not in ("", None)} for row in reader]


def _timeline(rows: Sequence[Any], what: str) -> Timeline:
    if not rows:
        raise PlanError(f"a timeline of no {what} is none; give one or more")
    segments: list[Segment] = []
    end_s: float | None = 0.0
    for number, row in enumerate(rows, start=1):
        try:
            segment, start_s = _segment(row)
            if start_s is not None:
                segments, end_s = _started_at(start_s, segments, end_s), start_s
        except KinalignError as error:
            raise PlanError(f"{what} {number}: {error}") from error
        segments.append(segment)
        lasts_s = segment.step.seconds
        end_s = None if end_s is None or lasts_s is None else end_s + lasts_s + segment.pause_s
    return tuple(segments)


def _segment(row: Any) -> tuple[Segment, float | None]:
    """The segment of a row and where it starts, None where that is not said."""
    if not isinstance(row, Mapping):
        raise PlanError(f"it is an object with {', '.join(COLUMNS)}, not {row!r}")
    if unknown := [name for name in row if name not in COLUMNS]:
        named = "a cell beyond the last column" if unknown[0] is None else f"field {unknown[0]!r}"
        raise PlanError(f"{named} is unknown; a row has {', '.join(COLUMNS)}")
    text, task, seconds = row.get("text"), row.get("task", ""), _number(row, "seconds")
    if not isinstance(text, str) or not text.strip():
        raise PlanError(f"text={text!r} says nothing; write what happens")
    if not isinstance(task, str):
        raise PlanError(f"task={task!r} is no text")
    program = EventProgram.from_json(row["program"]) if "program" in row else parse(text)
    return Segment(Step(text, program, seconds), _number(row, "pause") or 0.0, task), _number(row, "start")


def _number(row: Mapping[str, Any], name: str) -> float | None:
    """A number of a row, from text too, as CSV has it; None where it is not there."""
    value = row.get(name)
    if value is None:
        return None
    try:
        return float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError) as error:
        raise PlanError(f"{name}={value!r} is no number of seconds") from error


def _started_at(start_s: float, segments: list[Segment], end_s: float | None) -> list[Segment]:
    """The segments before one that starts at `start_s`, where they end at `end_s`: the gap is a pause of the last."""
    if end_s is None:
        raise PlanError(f"start={start_s:g} needs the seconds of all rows before it; give them, or leave out the start")
    if not start_s >= end_s - CLOSE_S:
        raise PlanError(f"start={start_s:g} overlaps what goes on until {end_s:g} s; start there or later")
    gap_s = start_s - end_s
    if gap_s <= CLOSE_S:
        return segments
    if not segments:
        raise PlanError(f"start={start_s:g} leaves nothing to do before it; the first one starts at 0")
    *before, last = segments
    return [*before, replace(last, pause_s=last.pause_s + gap_s)]
