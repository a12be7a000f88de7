"""What somebody does in a scene, task by task, for as long as it is asked: a planner says what comes next, and how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kinalign.errors import PlanError
from kinalign.planning.consistency import DOWN, GOING
from kinalign.planning.plan import MOST_STEPS, Scene, Step, Task
from kinalign.planning.repertoire import abilities
from kinalign.planning.tasks import Answer, Planner, Request

TOLD_TASKS = 6
"""Of what was done, the latest tasks that the planner is told."""
TRIES = 4
"""Seeds with which the planner is asked before its error counts."""
MOST_REPEATS = 3
"""A task that a planner says so often in a row it says for ever."""


def tasks_in(scene: Scene, planner: Planner, *, seed: int = 0, after: Sequence[Task] = ()) -> Iterator[Task]:
    """Tasks with their steps, one after the other and without end: ct2t and t2s in turn; `after` were done before.

    Whoever sits or lies after a task begins the next one by walking off. The same seed gives the same tasks. Raises
    PlanError where the planner cannot plan, answers something else than it was asked for, gives a task no step or says
    one task for ever.
    """
    done = list(after)
    for number in range(1 << 31):
        said = _ask(planner, Request("ct2t", scene, tuple(done[-TOLD_TASKS:])), seed, number)
        if not isinstance(said, Task):
            raise PlanError(f"{planner.name} was asked for the next task and answered {said!r}")
        latest = [task.text for task in done[1 - MOST_REPEATS :]]
        if latest == [said.text] * (MOST_REPEATS - 1):
            raise PlanError(
                f"{planner.name} plans {said.text!r} {MOST_REPEATS} times in a row; take another seed (--seed) or "
                "another planner (--planner)"
            )
        steps = said.steps or _ask(planner, Request("t2s", tasks=(Task(said.text),)), seed, number)
        if not isinstance(steps, tuple) or not steps or not all(isinstance(step, Step) for step in steps):
            raise PlanError(f"{planner.name} was asked for the steps of {said.text!r} and answered {steps!r}")
        if done and done[-1].steps[-1].program.events[-1].action in DOWN:
            steps = _going(steps)
        done.append(Task(said.text, steps))
        yield done[-1]


def _going(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Steps of somebody who sits or lies, of which a planner that breaks down one task alone is not told."""
    if steps[0].program.events[0].action in GOING:
        return steps
    return (abilities()["walks forward"].step, *steps[: MOST_STEPS - 1])


def _ask(planner: Planner, request: Request, seed: int, number: int) -> Answer:
    """The answer, with another seed where there is none."""
    for attempt in range(TRIES):
        try:
            return planner(request, seed=(seed * 1009 + number) * TRIES + attempt)
        except PlanError:
            if attempt == TRIES - 1:
                raise
    raise AssertionError  # the last attempt returned or raised
