"""Whether a sentence says what happens: of an event that was asked for, and of one that was seen."""

from __future__ import annotations

from dataclasses import replace

from kinalign.errors import PromptError
from kinalign.events.detect.detection import Detection
from kinalign.events.parse import parse
from kinalign.events.program import Event, EventProgram
from kinalign.judge.signs import shows, side_agrees, sign_of, way_agrees
from kinalign.planning.segments import HOLDS

BESIDE = frozenset("bend stand_up stand touch step lower".split())
"""What a sentence may say beside what was seen, with what that holds: who puts something down bends."""
NO_SIDE = frozenset("hop jump clap twist jumping_jack".split())
"""Actions of both sides, of which nobody says so."""
SAME = {"place": "put_down"}
"""What captions call an action: joints show no difference between placing and putting down."""
UNSAID_WAY = {"raise": "up", "raise_knee": "up", "raise_leg": "up", "jump": "up", "put_down": "down", "squat": "down"}
"""Ways that go without saying."""
TURNS = frozenset({"turn", "spin"})


def events_said(text: str) -> tuple[Event, ...]:
    """The events of a sentence; none where it names none."""
    try:
        return parse(text).events
    except PromptError:
        return ()


def share_said(program: EventProgram, text: str) -> float:
    """The share of a program's events that a sentence says, each on its side, to its way and as often.

    >>> program = EventProgram(((Event("turn", direction="left"),), (Event("wave", side="right"),)))
    >>> share_said(program, "a person makes a left turn and waves")
    0.5
    """
    said = events_said(text)
    return sum(any(is_said(event, other) for other in said) for event in program.events) / len(program.events)


def is_said(asked: Event, said: Event) -> bool:
    """Whether one event says another: the same action or one that shows it, and no other side, way or count."""
    asked, said = (replace(event, action=SAME.get(event.action, event.action)) for event in (asked, said))
    ours, theirs = sign_of(asked), sign_of(said)
    is_same = asked.action == said.action
    is_kin = (ours is not None and said.action in ours.actions) or (
        theirs is not None and asked.action in theirs.actions
    )
    is_counted = isinstance(asked.count, int) and isinstance(said.count, int)
    return (
        (is_same or is_kin)
        and (asked.side in ("", said.side) or asked.action in NO_SIDE)
        and asked.direction in ("", said.direction or UNSAID_WAY.get(said.action, ""))
        and (asked.count == said.count or not is_counted)
    )


def tells(text: str, found: Detection) -> bool:
    """Whether a sentence says what was detected, on the side and to the way that it was, and nothing else."""
    others = [event.action for event in events_said(text) if not _is_told(found, event)]
    return len(others) < len(events_said(text)) and BESIDE.union(HOLDS.get(found.action, ())).issuperset(others)


def _is_told(found: Detection, event: Event) -> bool:
    sign = sign_of(event)
    if sign is None or not shows(event, sign, found):
        return False
    # a sentence that leaves the side out says less than what was seen
    says_side = found.side not in ("left", "right", "both") or found.action in NO_SIDE or event.side == found.side
    says_way = found.action not in TURNS or event.direction != ""
    return says_side and says_way and side_agrees(event, found.side) and way_agrees(event, found)
