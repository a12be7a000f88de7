"""The eleven tasks of AvatarGPT behind one interface: three between text and motion, eight of planning.

Keys are those of the published code: c is the scene (context), t tasks, s steps; what stands before the 2 is given,
what stands behind it is answered. Source: Zhou et al., AvatarGPT (CVPR 2024, arXiv 2311.16468), table 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

from kinalign.errors import PlanError
from kinalign.motion.motion import Motion
from kinalign.pipeline import TextToMotion
from kinalign.planning.plan import Scene, Step, Task

PlanningTask = Literal["ct2t", "cs2s", "ct2s", "cs2t", "t2c", "s2c", "t2s", "s2t"]
PLANNING_TASKS: tuple[PlanningTask, ...] = get_args(PlanningTask)

Answer = Scene | Task | tuple[Step, ...]


class Kind(NamedTuple):
    """What a planning task is given, and what it answers."""

    needs: tuple[Literal["scene", "tasks", "steps"], ...]
    gives: Literal["scene", "task", "steps"]


KINDS: dict[PlanningTask, Kind] = {
    "ct2t": Kind(("scene", "tasks"), "task"),
    "cs2s": Kind(("scene", "steps"), "steps"),
    "ct2s": Kind(("scene", "tasks"), "steps"),
    "cs2t": Kind(("scene", "steps"), "task"),
    "t2c": Kind(("tasks",), "scene"),
    "s2c": Kind(("steps",), "scene"),
    "t2s": Kind(("tasks",), "steps"),
    "s2t": Kind(("steps",), "task"),
}
"""Of ct2t and ct2s the tasks, and of cs2s and cs2t the steps, are what was done so far: none at the beginning."""


@dataclass(frozen=True)
class Request:
    """What a planner is asked. Raises PlanError where something is missing that the kind needs, or given in vain."""

    kind: PlanningTask
    scene: Scene | None = None
    tasks: tuple[Task, ...] = ()
    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise PlanError(f"planning task {self.kind!r} is unknown; use one of {', '.join(KINDS)}")
        needs = KINDS[self.kind].needs
        for name in ("scene", "tasks", "steps"):
            value = getattr(self, name)
            if value and name not in needs:
                raise PlanError(f"{self.kind} is told {' and '.join(needs)}; leave out {name}")
            # in a scene, nothing may have been done before
            if not value and name in needs and not (name != "scene" and "scene" in needs):
                raise PlanError(f"{self.kind} needs {' and '.join(needs)}; give {name}")
        if self.kind == "t2s" and len(self.tasks) != 1:
            raise PlanError(f"t2s decomposes one task; it was given {len(self.tasks)}")


class Planner(Protocol):
    """Whoever plans. `name` says who, with the model and settings that answers depend on."""

    @property
    def name(self) -> str: ...

    def __call__(self, request: Request, *, seed: int = 0) -> Answer:
        """What the request asks for: the same answer for one seed. Raises PlanError where it cannot be planned."""
        ...


@dataclass(frozen=True)
class Avatar:
    """A motion-language model and a planner: all eleven tasks, each a method under its published key."""

    model: TextToMotion
    planner: Planner

    def t2m(self, step: Step, *, seed: int = 0) -> Motion:
        """The motion of a step."""
        return self.model(step.text, length_s=step.seconds, seed=seed)[0]

    def m2t(self, motion: Motion) -> str:
        """What happens in a motion, in one sentence."""
        return self.model.caption(motion)

    def m2m(self, start: Motion, end: Motion, *, seconds: float = 1.0, seed: int = 0) -> Motion:
        """Both motions with `seconds` between them that the model fills."""
        return self.model.inbetween(start, end, seconds=seconds, seed=seed)[0]

    def ct2t(self, scene: Scene, past: tuple[Task, ...] = (), *, seed: int = 0) -> Task:
        """The next task in a scene, after those that are done."""
        return self._task(Request("ct2t", scene, past), seed)

    def cs2s(self, scene: Scene, steps: tuple[Step, ...] = (), *, seed: int = 0) -> tuple[Step, ...]:
        """The next steps in a scene, after those that are done."""
        return self._steps(Request("cs2s", scene, steps=steps), seed)

    def ct2s(self, scene: Scene, past: tuple[Task, ...] = (), *, seed: int = 0) -> tuple[Step, ...]:
        """The steps of what comes next in a scene, after the tasks that are done."""
        return self._steps(Request("ct2s", scene, past), seed)

    def cs2t(self, scene: Scene, steps: tuple[Step, ...] = (), *, seed: int = 0) -> Task:
        """The next task in a scene, after the steps that are done."""
        return self._task(Request("cs2t", scene, steps=steps), seed)

    def t2c(self, tasks: tuple[Task, ...], *, seed: int = 0) -> Scene:
        """The scene in which somebody does such tasks."""
        return self._scene(Request("t2c", tasks=tasks), seed)

    def s2c(self, steps: tuple[Step, ...], *, seed: int = 0) -> Scene:
        """The scene in which somebody does such steps."""
        return self._scene(Request("s2c", steps=steps), seed)

    def t2s(self, task: Task, *, seed: int = 0) -> tuple[Step, ...]:
        """The steps of a task."""
        return self._steps(Request("t2s", tasks=(task,)), seed)

    def s2t(self, steps: tuple[Step, ...], *, seed: int = 0) -> Task:
        """The task that steps are done for."""
        return self._task(Request("s2t", steps=steps), seed)

    def _scene(self, request: Request, seed: int) -> Scene:
        answer = self.planner(request, seed=seed)
        assert isinstance(answer, Scene)
        return answer

    def _task(self, request: Request, seed: int) -> Task:
        answer = self.planner(request, seed=seed)
        assert isinstance(answer, Task)
        return answer

    def _steps(self, request: Request, seed: int) -> tuple[Step, ...]:
        answer = self.planner(request, seed=seed)
        assert isinstance(answer, tuple)
        return answer
