"""The planning corpus: scenes with their tasks, tasks with their steps, and the rows that a planner learns from.

scenes.json is written by hand for this project. Every scene and every task is said in three ways, every task is done in
two; tasks stand in an order that makes sense, and all steps are such that the shipped model can do them.

A row is a question and one right answer: a Request of any of the eight planning tasks, and the Answer that a planner
shall give. What was done before ("past") are the tasks up to the one that is asked for, or the last few of them; the
steps before are those of these tasks. Who says each scene and task in which of its ways, how much of the past is told
and in which of the two ways a task is done is drawn anew for every row:

    ct2t   scene, past tasks          -> the next task
    cs2t   scene, steps of the past   -> the next task
    ct2s   scene, past tasks          -> the steps of the next task
    cs2s   scene, steps of the past   -> the steps of the next task
    t2s    a task                     -> its steps
    s2t    steps                      -> their task
    t2c    tasks in a row             -> the scene
    s2c    steps of tasks in a row    -> the scene

A task in a request or an answer is its text alone, without steps. One scene in six is held out, with all its rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

from kinalign.errors import PlanError
from kinalign.planning.plan import Scene, Step, Task
from kinalign.planning.repertoire import abilities
from kinalign.planning.tasks import KINDS, PLANNING_TASKS, Answer, PlanningTask, Request

SCENES = Path(__file__).with_name("scenes.json")
HELD_OUT_ONE_IN = 6
ROWS_PER_TASK = 6
MOST_PAST = 4
"""Tasks of the past that a request tells, at most."""

Split = Literal["train", "test"]


@dataclass(frozen=True)
class WrittenTask:
    """A task in several wordings, and several ways to do it."""

    wordings: tuple[str, ...]
    ways: tuple[tuple[Step, ...], ...]


@dataclass(frozen=True)
class WrittenScene:
    """A scene in several wordings, and its tasks in their order."""

    wordings: tuple[str, ...]
    tasks: tuple[WrittenTask, ...]

    @property
    def split(self) -> Split:
        """By a hash of the first wording, so that scenes written later move no other."""
        digest = sha256(self.wordings[0].encode()).digest()
        return "test" if int.from_bytes(digest[:4], "big") % HELD_OUT_ONE_IN == 0 else "train"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> WrittenScene:
        """The scene from its object in scenes.json; raises PlanError for a step that the model cannot do."""
        return cls(
            tuple(values["scene"]),
            tuple(
                WrittenTask(tuple(task["task"]), tuple(tuple(map(_step, way)) for way in task["steps"]))
                for task in values["tasks"]
            ),
        )


class Row(NamedTuple):
    """A question, a right answer, and the scene that both are of."""

    request: Request
    answer: Answer
    scene: WrittenScene


@cache
def load_scenes(split: Split | None = None) -> tuple[WrittenScene, ...]:
    """The scenes of a split, in the order of the file; of both where none is named."""
    written = map(WrittenScene.from_json, json.loads(SCENES.read_text(encoding="utf-8")))
    return tuple(scene for scene in written if split in (None, scene.split))


def rows(
    scenes: Sequence[WrittenScene],
    *,
    kinds: Sequence[PlanningTask] = PLANNING_TASKS,
    per_task: int = ROWS_PER_TASK,
    seed: int = 0,
) -> list[Row]:
    """Rows of every planning task, up to `per_task` different ones about each task of each scene.

    The same seed gives the same rows of a scene, whatever other scenes are there.
    """
    return [row for scene in scenes for kind in kinds for row in _rows_of(scene, kind, per_task, seed)]


def _rows_of(scene: WrittenScene, kind: PlanningTask, per_task: int, seed: int) -> Iterator[Row]:
    rng = Random(f"{seed}|{kind}|{scene.wordings[0]}")
    for at in range(len(scene.tasks)):
        drawn: dict[tuple[object, ...], Row] = {}
        # some are drawn twice; of a first task, with no past, there are few
        for _ in range(4 * per_task):
            if len(drawn) < per_task:
                row = _drawn(scene, kind, at, rng)
                drawn.setdefault(_texts(row), row)
        yield from drawn.values()


def _drawn(scene: WrittenScene, kind: PlanningTask, at: int, rng: Random) -> Row:
    """A row about the task at a place."""
    first = max(0, at - rng.randint(1, MOST_PAST))
    ways = [rng.choice(task.ways) for task in scene.tasks[first : at + 1]]
    said = tuple(Task(rng.choice(task.wordings)) for task in scene.tasks[first : at + 1])
    context = Scene(rng.choice(scene.wordings))
    done = tuple(step for way in ways[:-1] for step in way)
    match kind:
        case "ct2t" | "ct2s":
            request = Request(kind, context, said[:-1])
        case "cs2t" | "cs2s":
            request = Request(kind, context, steps=done)
        case "t2s":
            request = Request(kind, tasks=said[-1:])
        case "s2t":
            request = Request(kind, steps=ways[-1])
        case "t2c":
            request = Request(kind, tasks=said)
        case "s2c":
            request = Request(kind, steps=(*done, *ways[-1]))
    answers: dict[str, Answer] = {"scene": context, "task": said[-1], "steps": ways[-1]}
    return Row(request, answers[KINDS[kind].gives], scene)


def _texts(row: Row) -> tuple[object, ...]:
    """What a row says: two that say the same are one."""
    request, answer = row.request, row.answer
    return (
        request.scene and request.scene.text,
        *(task.text for task in request.tasks),
        *(step.text for step in request.steps),
        tuple(step.text for step in answer) if isinstance(answer, tuple) else answer.text,
    )


def _step(text: str) -> Step:
    if text not in abilities():
        raise PlanError(f"step {text!r} of the planning corpus is none that the model can do; see repertoire.json")
    return abilities()[text].step
