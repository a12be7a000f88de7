"""What a judge saw, in seconds: the rows of a page and the bars of a player."""

from __future__ import annotations

from typing import Literal, NamedTuple

from kinalign.events.detect import detect
from kinalign.events.program import Event
from kinalign.events.say import label
from kinalign.judge.rubric import Seen
from kinalign.judge.verdict import Finding, Outcome, Verdict
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D
from kinalign.render.player import PlayerEvent


class ShownEvent(NamedTuple):
    """An event with what was seen of it and from when to when, in seconds; None where that is not said."""

    label: str
    seen: Seen | None
    start: float | None
    end: float | None
    reason: str


def shown_events(outcome: Outcome | None, motion: Motion) -> list[ShownEvent]:
    """What the judge found of each event of the program; where it names none, all that the detector sees."""
    if isinstance(outcome, Verdict) and outcome.findings:
        return [_found(finding, motion.fps) for finding in outcome.findings]
    if motion.skeleton.name != HUMANML3D.name:
        return []
    return [
        ShownEvent(
            label(Event(seen.action, seen.side, seen.direction, seen.count, seen.part)),
            None,
            seen.start / motion.fps,
            seen.end / motion.fps,
            seen.reason,
        )
        for seen in detect(motion)
    ]


def player_events(outcome: Outcome | None, motion: Motion) -> list[PlayerEvent]:
    """What was seen at some time, as bars of a player that say so where it is in part or not as often as asked for."""
    bars = []
    for finding in outcome.findings if isinstance(outcome, Verdict) else ():
        event, name = finding.event, label(finding.event)
        if finding.seen == "no" or finding.start is None or finding.end is None:
            continue
        if isinstance(event.count, int) and finding.count not in (None, event.count):
            name += f" (counted {finding.count})"
        elif finding.seen == "partly":
            name += " (in part)"
        bars.append(PlayerEvent(name, finding.start / motion.fps, finding.end / motion.fps, _side(event)))
    return bars


def _side(event: Event) -> Literal["left", "right"] | None:
    return "left" if event.side == "left" else "right" if event.side == "right" else None


def _found(finding: Finding, fps: float) -> ShownEvent:
    counted = "" if finding.count is None or finding.event.count is None else f"counted {finding.count}: "
    return ShownEvent(
        label(finding.event),
        finding.seen,
        None if finding.start is None else finding.start / fps,
        None if finding.end is None else finding.end / fps,
        counted + finding.reason,
    )
