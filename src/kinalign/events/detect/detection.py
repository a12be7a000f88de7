"""One event that was seen in a motion, and the words in which its reason is given."""

from __future__ import annotations

from dataclasses import dataclass

from kinalign.events.detect.stretches import Series, Side, Stretch


@dataclass(frozen=True)
class Detection:
    """An event: frames [start, end) of the motion, `count` repetitions, degrees that it turns to the left.

    `action`, `side`, `direction` and `part` are those of an event program. `count` is None for what has no
    repetitions, as standing; of a walk and a run it is the number of steps. `confidence` is 0.5 where the rule is
    just met and 1 where it is far exceeded; `reason` says by which numbers. `repeats` are the repetitions one by one,
    as many as `count`.
    """

    action: str
    start: int
    end: int
    confidence: float
    reason: str
    side: Side = ""
    direction: str = ""
    count: int | None = None
    part: str = ""
    angle_deg: float | None = None
    repeats: tuple[Stretch, ...] = ()


def repeated(
    action: str,
    group: Series,
    confidence: float,
    reason: str,
    direction: str = "",
    *,
    part: str = "",
    bounds: tuple[int, int] | None = None,
) -> Detection:
    """The event that a series of repetitions is, on its side; `bounds` are its frames if not the series' own."""
    start, end = bounds or (group.start, group.end)
    return Detection(
        action, start, end, confidence, reason, group.side, direction, group.repeats, part=part, repeats=group.each
    )


def times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def wrists(side: Side) -> str:
    return {"both": "both wrists", "alternate": "the wrists in turn"}.get(side, f"{side} wrist")
