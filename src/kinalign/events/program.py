"""An event program: what shall happen in a motion, in which order, how often, and with which side of the body."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from kinalign.errors import ProgramError

LOCOMOTION = frozenset(
    "walk run jog sprint dash crawl climb climb_stairs march skip hop jump leap step sidestep shuffle stumble tiptoe "
    "sneak limp pace swim skate slide".split()
)
WHOLE_BODY = frozenset(
    "turn spin sit stand_up stand lie_down get_up squat crouch kneel bend lean bow stretch cartwheel flip roll "
    "jumping_jack dance balance fall stagger sway twist lunge push_up sit_up dodge lift_weight pose return".split()
)
ARMS = frozenset(
    "wave raise lower punch throw catch swing clap point reach pick_up put_down place grab pull push carry hold lift "
    "touch wipe wash stir pour open close write drink eat scratch rub shake salute gesture rotate_arm flap hug "
    "play_instrument drum type shoot dribble pat knock wring cross spread extend flex put_hands".split()
)
LEGS = frozenset("kick raise_leg raise_knee lower_leg stomp tap_foot swing_leg".split())
HEAD = frozenset("nod shake_head look".split())
ACTIONS = LOCOMOTION | WHOLE_BODY | ARMS | LEGS | HEAD
"""Every action that has a name of its own; all others are "other:" and a verb, as in other:sneeze."""

SIDES = ("left", "right", "both", "alternate")
DIRECTIONS = (
    "forward backward left right up down around clockwise counterclockwise circle diagonal diagonal_left "
    "diagonal_right straight in_place sideways to_side alternate"
).split()
PARTS = "hand arm elbow leg foot knee head hip shoulder body torso face finger object".split()
MAX_COUNT = 100
_OTHER = re.compile(r"other:[a-z]+(_[a-z]+)*")

OPPOSITE = {"left": "right", "right": "left"}
"""Sides in the mirror."""
BACKWARDS = {"sit": "stand_up", "lie_down": "get_up", "rotate_arm": "rotate_arm"}
"""What an action is when time runs backwards."""
RISING = frozenset({"stand_up", "get_up"})
"""Actions that begin low and end upright."""
DIPS = frozenset("squat crouch bend bow".split())
"""Actions of which rising again is a part: who "squats and stands back up" squats once."""

Count = int | Literal["several"] | None


@dataclass(frozen=True)
class Event:
    """One thing that a body does.

    `side` is that of the limb that does it, `direction` where the movement goes, `count` how often (None: not said;
    "several": more than once), `part` the part of the body that is named, `style` the manner in its own words. Empty
    text where nothing is said. Raises ProgramError for a name that is none of ACTIONS, SIDES, DIRECTIONS, PARTS, and
    for a count outside of 1 to 100.
    """

    action: str
    side: str = ""
    direction: str = ""
    count: Count = None
    part: str = ""
    style: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.action, str) or not (self.action in ACTIONS or _OTHER.fullmatch(self.action)):
            raise ProgramError(
                f"action {self.action!r} is unknown; use one of {', '.join(sorted(ACTIONS))}, or other: and a verb"
            )
        for name, value, known in (
            ("side", self.side, SIDES),
            ("direction", self.direction, DIRECTIONS),
            ("part", self.part, PARTS),
        ):
            if value != "" and value not in known:
                raise ProgramError(
                    f"{name} {value!r} of {self.action} is unknown; use one of {', '.join(known)}, or '' where not said"
                )
        if not isinstance(self.style, str):
            raise ProgramError(f"style {self.style!r} of {self.action} is no text; use '' where not said")
        whole = isinstance(self.count, int) and not isinstance(self.count, bool)
        if self.count not in (None, "several") and not (whole and 1 <= int(self.count) <= MAX_COUNT):
            raise ProgramError(
                f"{self.action} {self.count!r} times cannot be shown; give a count of 1 to {MAX_COUNT}, 'several', or "
                "None where not said"
            )

    @property
    def is_named(self) -> bool:
        """Whether its action has a name of its own."""
        return self.action in ACTIONS

    @property
    def mirrored(self) -> Event:
        """The event in the mirror: left and right are swapped."""
        side, direction = (OPPOSITE.get(where, where) for where in (self.side, self.direction))
        return replace(self, side=side, direction=direction)

    def to_json(self) -> dict[str, Any]:
        """What is said of it: the action and every field that is not empty."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value not in ("", None)}

    @classmethod
    def from_json(cls, values: Any) -> Event:
        """The event from what `to_json` gave. Raises ProgramError for anything else."""
        known = [field.name for field in fields(cls)]
        if not isinstance(values, Mapping) or "action" not in values:
            raise ProgramError(f"an event is an object with 'action' and what is said of it, not {values!r}")
        if unknown := [key for key in values if key not in known]:
            raise ProgramError(f"key {unknown[0]!r} of event {dict(values)!r} is unknown; it has {', '.join(known)}")
        return cls(**values)


@dataclass(frozen=True)
class EventProgram:
    """Events in steps, one after the other; the events of one step happen at the same time.

    Raises ProgramError where there is no step, or a step without an event.

    >>> program = EventProgram(((Event("walk", direction="forward"),), (Event("kick", side="right", count=2),)))
    >>> [event.action for event in program.events]
    ['walk', 'kick']
    >>> EventProgram.from_json(program.to_json()) == program
    True
    """

    steps: tuple[tuple[Event, ...], ...]

    def __post_init__(self) -> None:
        if not isinstance(self.steps, tuple) or not self.steps:
            raise ProgramError(f"an event program is a tuple of one step or more, not {self.steps!r}")
        for number, step in enumerate(self.steps, start=1):
            if not isinstance(step, tuple) or not step or not all(isinstance(event, Event) for event in step):
                raise ProgramError(f"step {number} of an event program is a tuple of one Event or more, not {step!r}")

    @property
    def events(self) -> tuple[Event, ...]:
        """All events, step by step."""
        return tuple(event for step in self.steps for event in step)

    @property
    def step_of_events(self) -> tuple[int, ...]:
        """In which step each of `events` stands."""
        return tuple(number for number, step in enumerate(self.steps) for _ in step)

    def to_json(self) -> list[list[dict[str, Any]]]:
        """The steps as lists of objects, ready for a JSON file."""
        return [[event.to_json() for event in step] for step in self.steps]

    @classmethod
    def from_json(cls, steps: Any) -> EventProgram:
        """The program from what `to_json` gave, or from its JSON text. Raises ProgramError for anything else."""
        if isinstance(steps, str):
            try:
                steps = json.loads(steps)
            except json.JSONDecodeError as error:
                raise ProgramError(f"an event program is a JSON list of steps; this is no JSON ({error})") from error
        if not isinstance(steps, list) or not all(isinstance(step, list) for step in steps):
            raise ProgramError(f"an event program is a list of steps, each a list of events, not {steps!r}")
        return cls(tuple(tuple(Event.from_json(event) for event in step) for step in steps))
