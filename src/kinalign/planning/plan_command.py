"""`kinalign plan`: a scene becomes tasks and steps, a task becomes steps, steps become a task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from kinalign.errors import PlanError
from kinalign.planning.named import planner_named
from kinalign.planning.plan import Plan, Scene, Step, Task
from kinalign.planning.tasks import Planner, Request
from kinalign.run import write_json

DOWN = ("sit", "lie_down")
MOST_REFUSED = 12
"""Tasks and their steps that are thrown away for one of a plan, before it is given up."""


@dataclass(frozen=True)
class PlanSettings:
    """Plan what somebody does in a scene; or break a task into steps, or say what steps are done for."""

    scene: str = ""
    """Where somebody is and what goes on: "a goalkeeper warms up"."""
    tasks: int = 4
    """Tasks of a scene."""
    task: str = ""
    """A task to break into steps: "the goalkeeper loosens the legs"."""
    steps: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Steps to sum up, each in quotes: --steps "a man squats" --steps "he jumps"; of a scene, what was done before."""
    planner: str = "embedded"
    """Who plans: embedded, llm:MODEL, or a JSON file with settings of a language model."""
    seed: int = 0
    """Another one gives another plan."""
    out: Path | None = None
    """JSON file for the plan; nothing is written where it is left out."""

    def __post_init__(self) -> None:
        given = [name for name in ("scene", "task", "steps") if getattr(self, name)]
        if len(given) != 1:
            raise PlanError(
                f"one of --scene, --task and --steps says what to plan; {' and '.join(given) or 'none'} given"
            )
        if self.tasks < 1:
            raise PlanError(f"a plan of {self.tasks} tasks is none; give 1 or more (--tasks)")


def plan_command(config: PlanSettings) -> Plan:
    """Plan what somebody does in a scene; or break a task into steps, or say what steps are done for."""
    planner = planner_named(config.planner)
    if config.scene:
        plan = planned(planner, Scene(config.scene), config.tasks, seed=config.seed)
    elif config.task:
        plan = Plan((steps_of(planner, Task(config.task), seed=config.seed),))
    else:
        steps = tuple(Step.of(text) for text in config.steps)
        task, scene = (planner(Request(kind, steps=steps), seed=config.seed) for kind in ("s2t", "s2c"))
        assert isinstance(task, Task) and isinstance(scene, Scene)
        plan = Plan((Task(task.text, steps),), scene)
    print(as_text(plan))
    if config.out is not None:
        print(f"\n{write_json(config.out, plan.to_json())}")
    return plan


def planned(planner: Planner, scene: Scene, number: int, *, seed: int = 0) -> Plan:
    """`number` tasks in a scene, one after the other, each with its steps: ct2t and t2s in turn.

    A task that the planner cannot break into steps, and steps after which somebody sits or lies before the last task,
    are thrown away for others. Raises PlanError where that goes on, and for a scene that cannot be planned.
    """
    tasks: list[Task] = []
    while len(tasks) < number:
        tasks.append(_next(planner, scene, tuple(tasks), seed=seed, is_last=len(tasks) + 1 == number))
    return Plan(tuple(tasks), scene)


def _next(planner: Planner, scene: Scene, past: tuple[Task, ...], *, seed: int, is_last: bool) -> Task:
    refused = ""
    for attempt in range(MOST_REFUSED):
        own_seed = seed + 1_000_003 * len(past) + 7_919 * attempt
        task = planner(Request("ct2t", scene, past), seed=own_seed)
        assert isinstance(task, Task)
        try:
            whole = steps_of(planner, task, seed=own_seed)
        except PlanError as error:
            refused = str(error)
            continue
        if is_last or whole.steps[-1].program.events[-1].action not in DOWN:
            return whole
        refused = f"{task.text!r} ends on the ground, and more is to come"
    raise PlanError(
        f"no task number {len(past) + 1} of {scene.text!r} was found ({refused}); take another seed (--seed)"
    )


def steps_of(planner: Planner, task: Task, *, seed: int = 0) -> Task:
    """A task with its steps."""
    steps = planner(Request("t2s", tasks=(task,)), seed=seed)
    assert isinstance(steps, tuple)
    return Task(task.text, steps)


def as_text(plan: Plan) -> str:
    """A plan to be read: scene, numbered tasks, their steps below them."""
    lines = [plan.scene.text] if plan.scene else []
    for number, task in enumerate(plan.tasks, start=1):
        lines.append(f"{number}. {task.text}")
        lines += [f"   - {step.text}" for step in task.steps]
    return "\n".join(lines)
