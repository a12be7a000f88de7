"""AToM's three questions about a motion, and what each score from 1 to 5 means; works on the standard library alone.

AToM (arXiv 2411.18654, figure 2) shows its rule for temporal order; those for integrity and frequency follow it here.
Where AToM presumes three events, any number may stand: 5 is all right, 1 is nothing there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from kinalign.events.program import EventProgram

SubTask = Literal["integrity", "temporal", "frequency"]
Seen = Literal["yes", "partly", "no"]

SUB_TASKS: tuple[SubTask, ...] = get_args(SubTask)

RUBRICS: dict[SubTask, tuple[str, ...]] = {
    "integrity": (
        "no event is there",
        "two events or more are missing",
        "one event is missing",
        "every event is there, one or more only partly: cut off, too few, too many, on a wrong side or to a wrong way",
        "every event is there as it is asked for",
    ),
    "temporal": (
        "no event is there",
        "two events or more are missing",
        "one event is missing",
        "every event is there, but in another order, or one or more only partly",
        "every event is there, in the order that is asked for",
    ),
    "frequency": (
        "the action is not there",
        "the action is there only partly: cut off, on the wrong side or to the wrong way",
        "the action is there, two times or more too few or too many",
        "the action is there, once too few or too many",
        "the action is there exactly as often as asked for",
    ),
}
"""What scores 1 to 5 mean, in this order."""


def sub_task_of(program: EventProgram) -> SubTask:
    """Which question a program asks: how often one event, in which order several steps, or whether all are there.

    >>> from kinalign.events.parse import parse
    >>> [sub_task_of(parse(text)) for text in ("a man hops twice", "she sits, then waves", "he waves while walking")]
    ['frequency', 'temporal', 'integrity']
    """
    if len(program.events) == 1 and program.events[0].count is not None:
        return "frequency"
    return "temporal" if len(program.steps) > 1 else "integrity"


def score_events(seen: Sequence[Seen], *, order_is_right: bool = True) -> int:
    """Score of integrity and temporal order, of what is seen of each event; order counts in temporal order only.

    >>> [score_events(["yes"] * 3), score_events(["yes", "partly"]), score_events(["yes", "no", "no"])]
    [5, 4, 2]
    """
    missing = seen.count("no")
    if missing == len(seen):
        return 1
    if missing:
        return max(2, 4 - missing)
    return 5 if order_is_right and "partly" not in seen else 4


def score_frequency(seen: Seen, *, off_by: int) -> int:
    """Score of frequency: what is seen of the action, and how far its count is from the one asked for.

    >>> [score_frequency("yes", off_by=n) for n in (0, -1, 2)], score_frequency("no", off_by=3)
    ([5, 4, 3], 1)
    """
    if seen == "yes":
        return 5 - min(abs(off_by), 2)
    return 2 if seen == "partly" else 1
