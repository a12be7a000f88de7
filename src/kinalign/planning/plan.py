"""What is planned: a scene, the tasks that somebody does there, and the steps of a task, which a motion shows.

A scene is AvatarGPT's coarse level, a task its medium and a step its fine one (arXiv 2311.16468, section 3). A step is
a sentence with its event program: what a model is asked for, and what a judge looks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kinalign.errors import PlanError
from kinalign.events.parse import parse
from kinalign.events.program import EventProgram

MOST_CHARACTERS = 300
"""Of a scene, a task or a step."""
MOST_STEPS = 5
"""Steps of a task, at most, as in AvatarGPT."""


@dataclass(frozen=True)
class Scene:
    """Where somebody is and what goes on: "a goalkeeper warms up". Raises PlanError for empty and for endless text."""

    text: str

    def __post_init__(self) -> None:
        _check(self.text, "scene")


@dataclass(frozen=True)
class Step:
    """One sentence that a motion shows, with its events; `seconds` are None where the model decides.

    Raises PlanError for a text that says nothing and for a time that is not above 0.
    """

    text: str
    program: EventProgram
    seconds: float | None = None

    def __post_init__(self) -> None:
        _check(self.text, "step")
        if self.seconds is not None and not (_is_number(self.seconds) and 0 < self.seconds < float("inf")):
            raise PlanError(
                f"{self.seconds!r} seconds of step {self.text!r} cannot be shown; give a time above 0, or none"
            )

    @classmethod
    def of(cls, text: str, seconds: float | None = None) -> Step:
        """The step with its program read from the text; raises PromptError for one that names no event."""
        return cls(text, parse(text), seconds)

    def to_json(self) -> dict[str, Any]:
        values = {"text": self.text, "program": self.program.to_json()}
        return values if self.seconds is None else {**values, "seconds": self.seconds}

    @classmethod
    def from_json(cls, values: Any) -> Step:
        """The step from what `to_json` gave; without a program it is read from the text. Raises PlanError."""
        known = _fields(values, "step", needs=("text",), may_have=("program", "seconds"))
        if "program" not in known:
            return cls.of(known["text"], known.get("seconds"))
        return cls(known["text"], EventProgram.from_json(known["program"]), known.get("seconds"))


@dataclass(frozen=True)
class Task:
    """One activity, "he stretches his legs", and the steps that it is done in; none before it is decomposed."""

    text: str
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        _check(self.text, "task")

    def to_json(self) -> dict[str, Any]:
        return {"text": self.text, "steps": [step.to_json() for step in self.steps]}

    @classmethod
    def from_json(cls, values: Any) -> Task:
        """The task from what `to_json` gave. Raises PlanError for anything else."""
        known = _fields(values, "task", needs=("text",), may_have=("steps",))
        return cls(known["text"], tuple(Step.from_json(step) for step in known.get("steps", [])))


@dataclass(frozen=True)
class Plan:
    """Tasks in their order, in a scene where there is one. Raises PlanError for no task."""

    tasks: tuple[Task, ...]
    scene: Scene | None = None

    def __post_init__(self) -> None:
        if not self.tasks:
            raise PlanError("a plan of no task is none; give one task or more")

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, task by task."""
        return tuple(step for task in self.tasks for step in task.steps)

    def to_json(self) -> dict[str, Any]:
        tasks = {"tasks": [task.to_json() for task in self.tasks]}
        return {"scene": self.scene.text, **tasks} if self.scene else tasks

    @classmethod
    def from_json(cls, values: Any) -> Plan:
        """The plan from what `to_json` gave. Raises PlanError for anything else."""
        known = _fields(values, "plan", needs=("tasks",), may_have=("scene",))
        scene = Scene(known["scene"]) if "scene" in known else None
        return cls(tuple(Task.from_json(task) for task in known["tasks"]), scene)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check(text: Any, what: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise PlanError(f"a {what} is a text that says something, not {text!r}")
    if len(text) > MOST_CHARACTERS:
        raise PlanError(
            f"a {what} of {len(text)} characters is too long; use {MOST_CHARACTERS} at most: {text[:60]!r}..."
        )


def _fields(values: Any, what: str, *, needs: tuple[str, ...], may_have: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise PlanError(f"a {what} is an object with {', '.join(needs)}, not {values!r}")
    if missing := [name for name in needs if name not in values]:
        raise PlanError(f"a {what} needs {missing[0]!r}; this one has {', '.join(values) or 'nothing'}")
    if unknown := [name for name in values if name not in (*needs, *may_have)]:
        raise PlanError(f"{unknown[0]!r} of a {what} is unknown; it has {', '.join((*needs, *may_have))}")
    return values
