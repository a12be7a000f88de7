"""What people are asked: which of two motions is better, or how well one does what its prompt says; read from files."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from kinalign.errors import LabelError, PromptError
from kinalign.events.parse import parse
from kinalign.judge.human.labels import Sample, case_key
from kinalign.judge.rubric import SUB_TASKS, SubTask, sub_task_of
from kinalign.motion.motion import Motion

SAMPLES: tuple[Sample, Sample] = ("sample_1", "sample_2")
PATH_KEYS = ("motion", "features")
"""Where a sample names its file; `features` is InstructMotion's."""

PREFERENCES = "kinalign.preference.dataset:load_preferences"
"""Who reads a folder of `kinalign prefer build`: it lives floors up, where only its name is known."""


@dataclass(frozen=True)
class PairQuestion:
    """Which of two motions does better what the prompt says."""

    id: str
    prompt: str
    sample_1: Mapping[str, Any]
    sample_2: Mapping[str, Any]
    motions: Callable[[], list[Motion]] = field(compare=False)

    def what(self) -> tuple[str, str, Mapping[str, Any], Mapping[str, Any]]:
        """What a vote on this pair says of it."""
        return (self.id, self.prompt, self.sample_1, self.sample_2)


@dataclass(frozen=True)
class ScoreQuestion:
    """How well, 1 to 5 by the rubric of `task`, a motion does what the prompt says."""

    id: str
    prompt: str
    sample: Mapping[str, Any]
    task: SubTask
    motions: Callable[[], list[Motion]] = field(compare=False)

    def what(self) -> tuple[str, str, Mapping[str, Any], SubTask, str]:
        """What a score of this motion says of it."""
        return (self.id, self.prompt, self.sample, self.task, case_key(self.prompt, self.motions()[0]))


Question = PairQuestion | ScoreQuestion


def read_pairs(path: Path) -> list[PairQuestion]:
    """The pairs of a JSONL file in InstructMotion's layout, or of a folder that `kinalign prefer build` wrote.

    A line has `id`, `prompt`, `sample_1` and `sample_2`; a sample names its file, relative to the JSONL, as `motion`
    or `features` (joints or features as npy, npz, bvh). Of a folder, `sample_1` is the motion that its judge chose.
    Raises LabelError, with the line, for anything else, for a file that is absent and for an id that comes twice.
    """
    if path.is_dir():
        return [
            PairQuestion(pair.id, pair.prompt, _candidate(first), _candidate(second), partial(_shown, first, second))
            for pair in _preferences(path)
            for first, second in [_sides(pair)]
        ]
    return [
        PairQuestion(str(row["id"]), row["prompt"], first, second, partial(_loaded, path, first, second))
        for row, samples in _rows(path, SAMPLES)
        for first, second in [samples.values()]
    ]


def read_scored(path: Path) -> list[ScoreQuestion]:
    """Every motion of such a file or folder alone; a line of a file may also have one `motion` instead of two samples.

    The sub-task is that of the line, as `task`, or the one that the prompt calls for.
    """
    if path.is_dir():
        # a motion may be in several pairs
        asked = {f"{pair.prompt_id}-{side.index}": (pair, side) for pair in _preferences(path) for side in _sides(pair)}
        return [
            ScoreQuestion(
                name, pair.prompt, _candidate(side), pair.task or _task_of(pair.prompt, path), partial(_shown, side)
            )
            for name, (pair, side) in asked.items()
        ]
    questions = []
    for row, samples in _rows(path, ("motion",), SAMPLES):
        task = row.get("task") or _task_of(row["prompt"], path)
        if task not in SUB_TASKS:
            raise LabelError(f"{path}: sub-task {task!r} of {row['id']} is unknown; use one of {', '.join(SUB_TASKS)}")
        for key, sample in samples.items():
            name = str(row["id"]) if key == "motion" else f"{row['id']}/{key}"
            questions.append(ScoreQuestion(name, row["prompt"], sample, task, partial(_loaded, path, sample)))
    return questions


def _preferences(folder: Path) -> list[Any]:
    module, function = PREFERENCES.split(":")
    pairs: list[Any] = getattr(importlib.import_module(module), function)(folder, motions=True)
    if not pairs:
        raise LabelError(f"{folder} holds nothing to label")
    return pairs


def _sides(pair: Any) -> tuple[Any, Any]:
    return pair.chosen, pair.rejected


def _candidate(candidate: Any) -> dict[str, Any]:
    """What a label says of a motion of a preference data set."""
    return {"candidate": candidate.index, "seed": candidate.seed}


def _shown(*candidates: Any) -> list[Motion]:
    return [candidate.motion for candidate in candidates]


def _loaded(path: Path, *samples: Mapping[str, Any]) -> list[Motion]:
    return [Motion.load(path.parent / _path(sample)) for sample in samples]


def _rows(path: Path, *layouts: Sequence[str]) -> Iterator[tuple[dict[str, Any], dict[str, Mapping[str, Any]]]]:
    """Lines of a JSONL file with `id`, `prompt` and the samples of one of the layouts, by name; their files exist."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"cannot read {path} as text ({error}); name a JSONL file of pairs") from error
    seen = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
            name = str(row["id"])
            layout = next(layout for layout in layouts if all(key in row for key in layout))
            samples = {key: row[key] if isinstance(row[key], Mapping) else {"motion": row[key]} for key in layout}
            files = [path.parent / _path(sample) for sample in samples.values()]
            if not isinstance(row["prompt"], str):
                raise TypeError("the prompt is no text")
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            needs = " or ".join(", ".join(("id", "prompt", *layout)) for layout in layouts)
            raise LabelError(f"{where} has not {needs} with a path in each sample ({error})") from error
        if name in seen:
            raise LabelError(f"{where}: id {name} comes twice; each needs its own")
        seen.add(name)
        if absent := [file for file in files if not file.is_file()]:
            raise LabelError(f"{where}: {absent[0]} is absent; paths are relative to the JSONL file's folder")
        yield row, samples
    if not seen:
        raise LabelError(f"{path} holds nothing to label")


def _path(sample: Mapping[str, Any]) -> str:
    """Where a sample's motion is. Raises StopIteration where it does not say."""
    return str(next(sample[key] for key in PATH_KEYS if isinstance(sample.get(key), str)))


def _task_of(prompt: str, path: Path) -> SubTask:
    try:
        return sub_task_of(parse(prompt))
    except PromptError as error:
        raise LabelError(f'{path}: {error}; say which rubric to show, as "task"') from error
