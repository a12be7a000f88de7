"""What the shipped model can do, one step at a time: measured, not hoped for.

repertoire.json holds steps as a person would ask for them, without the subject ("walks slowly"), and how often the
kinematic judge gave the model's motions of one a 5; `python -m kinalign.recipes.repertoire` measures it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from kinalign.errors import PlanError, PromptError
from kinalign.events.clauses import words_of
from kinalign.events.lexicon import load_lexicon
from kinalign.events.parse import parse
from kinalign.events.program import ARMS, HEAD, LEGS, LOCOMOTION, WHOLE_BODY, Event, EventProgram
from kinalign.planning.plan import Step

REPERTOIRE = Path(__file__).with_name("repertoire.json")
RIGHT = 0.5
"""Share of right motions from which on the model can do a step: of four motions then 15 in 16 times one is right."""
NUM_NEAREST = 3

KINDRED = [
    set(actions.split())
    for actions in (
        "walk march pace limp shuffle stumble stagger tiptoe sneak step sidestep crawl climb climb_stairs swim skate "
        "slide push pull carry return other:hike other:stroll other:wander",
        "run dash jog sprint skip leap other:chase other:race other:ride other:cycle",
        "jump hop leap skip jumping_jack flip other:bounce other:exercise",
        "sit lie_down kneel crouch squat fall get_up stand_up sit_up push_up",
        "sit kneel other:relax",
        "lie_down other:sleep other:rest",
        "squat bow bend lean crouch kneel lift_weight other:stoop other:curtsy",
        "turn spin dance twist roll sway balance cartwheel flip look",
        "kick stomp raise_leg raise_knee lower_leg swing_leg tap_foot",
        "wave raise salute clap gesture swing flap shake point hug touch other:greet other:conduct other:cheer",
        "reach raise pick_up grab pull lift hold catch throw punch hang play_instrument open wipe wash other:hang",
        "put_down place lower pick_up pour carry push drop other:drop",
    )
]
"""Actions that look alike: what can be offered in place of one another, the rather the fewer they are."""
_BODIES = (LOCOMOTION, WHOLE_BODY, ARMS, LEGS, HEAD)
_SAME_PART = {"arm": "hand", "foot": "leg"}


@dataclass(frozen=True)
class Ability:
    """A step that was measured: its words without a subject, its events, share of right motions, mean seconds."""

    text: str
    program: EventProgram
    right: float
    seconds: float

    @property
    def is_known(self) -> bool:
        """Whether the model can do it."""
        return self.right >= RIGHT

    @property
    def prompt(self) -> str:
        """What the model was asked for: "A person walks slowly."."""
        return f"A person {self.text}."

    @property
    def step(self) -> Step:
        """The step of a plan; the model decides on its seconds."""
        return Step(self.prompt, self.program)

    def to_json(self) -> dict[str, Any]:
        return {"text": self.text, "program": self.program.to_json(), "right": self.right, "seconds": self.seconds}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Ability:
        return cls(**{**values, "program": EventProgram.from_json(values["program"])})


@cache
def measured() -> tuple[Ability, ...]:
    """Every step that was measured, also those that the model cannot do."""
    return tuple(Ability.from_json(row) for row in json.loads(REPERTOIRE.read_text(encoding="utf-8"))["rows"])


@cache
def abilities() -> dict[str, Ability]:
    """What the model can do, by its text: "walks slowly"."""
    return {row.text: row for row in measured() if row.is_known}


def knows(program: EventProgram) -> bool:
    """Whether the model can do a program as a whole, said in one way or another."""
    return any(_plain(row.program) == _plain(program) for row in abilities().values())


def ability_of(text: str) -> Ability:
    """What the model can do of a step in any words: "he strolls slowly" is "walks slowly".

    It is the measured step with the same events that has most words in common. Raises PlanError, with the nearest
    steps that the model can do, for what it cannot do and for what nobody measured.
    """
    row = _row_of(text)
    if row is not None and row.is_known:
        return row
    said = repr(text[:80])
    if not (offers := nearest(text)):
        some = "; ".join(islice(abilities(), NUM_NEAREST))
        raise PlanError(f"{said} names nothing that a body does; say one step, as in: {some}")
    if len(program := _program_of(text)) > 1 and all(knows(EventProgram(((event,),))) for event in program):
        raise PlanError(f"{said} is {len(program)} steps in one; give them one by one")
    near = "; ".join(offer.text for offer in offers)
    raise PlanError(f"{said} is nothing that the model can do; the nearest that it can: {near}")


def nearest(text: str, number: int = NUM_NEAREST) -> tuple[Ability, ...]:
    """The steps that the model can do which are most like a text, nearest first.

    Of the action that is asked for one to each side and direction, of every other action one.

    Near is what shares the action, or is kindred to it, then what shares side, direction and count, then words. None
    for a text that shares nothing with any.
    """
    events, words = _program_of(text), _stems(text)

    def nearness(row: Ability) -> tuple[float, ...]:
        likeness = max((_likeness(a, b) for a in events for b in row.program.events), default=0.0)
        return likeness, _overlap(words, _stems(row.text)), row.right

    asked = {event.action for event in events}
    found: dict[tuple[str, ...], Ability] = {}
    for row in sorted(abilities().values(), key=nearness, reverse=True):
        first = row.program.events[0]
        if any(nearness(row)[:2]):
            limb = (first.side, first.direction) if first.action in asked else ()
            found.setdefault((first.action, *limb), row)
    return tuple(found.values())[:number]


def _row_of(text: str) -> Ability | None:
    try:
        program = _plain(parse(text))
    except PromptError:
        return None
    words = _stems(text)
    same = [row for row in measured() if _plain(row.program) == program]
    return max(same, key=lambda row: (_overlap(words, _stems(row.text)), row.right), default=None)


def _plain(program: EventProgram) -> EventProgram:
    """The program with an arm for a hand and a foot for a leg: the model moves the whole limb."""
    return EventProgram(
        tuple(
            tuple(replace(event, part=_SAME_PART.get(event.part, event.part)) for event in step)
            for step in program.steps
        )
    )


def _program_of(text: str) -> tuple[Event, ...]:
    try:
        return parse(text).events
    except PromptError:
        return ()


def _likeness(asked: Event, known: Event) -> float:
    """0 to 1.4: of the action, and of what else is asked."""
    both = {asked.action, known.action}
    if len(both) == 1:
        action = 1.0
    elif sizes := [len(kindred) for kindred in KINDRED if both <= kindred]:
        action = 0.4 + 1 / max(min(sizes), 2.5)
    elif any(both <= body for body in _BODIES):
        action = 0.2
    else:
        return 0.0
    said = [name for name in ("side", "direction", "count", "style") if getattr(asked, name) not in ("", None)]
    return action + 0.4 * sum(getattr(asked, name) == getattr(known, name) for name in said) / max(len(said), 1)


def _stems(text: str) -> frozenset[str]:
    """Words that say what is done and how; verbs in their base form."""
    lexicon = load_lexicon()
    said = [lexicon.forms[word][0] if word in lexicon.forms else word for word in words_of(text)]
    said = [word for word in said if not word.isdigit()]
    return frozenset(said) - lexicon.determiners - lexicon.subjects - {"with", "do", "for", "second", "seconds"}


def _overlap(some: Iterable[str], others: Iterable[str]) -> float:
    """Share of all words that both have."""
    some, others = set(some), set(others)
    return len(some & others) / max(len(some | others), 1)
