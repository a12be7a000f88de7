"""`kinalign plan`: a scene becomes tasks and steps, a task becomes steps, steps become a task."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import tyro

from kinalign.errors import PlanError
from kinalign.planning.acting import tasks_in
from kinalign.planning.named import planner_named
from kinalign.planning.plan import Plan, Scene, Step, Task
from kinalign.planning.tasks import Planner, Request
from kinalign.run import write_json


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
    """Steps to sum up, each in quotes: --steps "a man squats" --steps "he jumps"."""
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
        scene = Scene(config.scene)
        plan = Plan(tuple(islice(tasks_in(scene, planner, seed=config.seed), config.tasks)), scene)
    elif config.task:
        plan = Plan((_broken_down(planner, Task(config.task), seed=config.seed),))
    else:
        plan = Plan((_summed_up(planner, tuple(map(Step.of, config.steps)), seed=config.seed),))
    print(as_text(plan))
    if config.out is not None:
        print(f"\n{write_json(config.out, plan.to_json())}")
    return plan


def _broken_down(planner: Planner, task: Task, *, seed: int) -> Task:
    steps = planner(Request("t2s", tasks=(task,)), seed=seed)
    assert isinstance(steps, tuple)
    return Task(task.text, steps)


def _summed_up(planner: Planner, steps: tuple[Step, ...], *, seed: int) -> Task:
    task = planner(Request("s2t", steps=steps), seed=seed)
    assert isinstance(task, Task)
    return Task(task.text, steps)


def as_text(plan: Plan) -> str:
    """A plan to be read: scene, numbered tasks, their steps below them."""
    lines = [plan.scene.text] if plan.scene else []
    for number, task in enumerate(plan.tasks, start=1):
        lines.append(f"{number}. {task.text}")
        lines += [f"   - {step.text}" for step in task.steps]
    return "\n".join(lines)
