"""An event program in fluent English, in many wordings; works on the standard library alone."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from kinalign.english import inflect
from kinalign.events.program import LOCOMOTION, Event, EventProgram

PHRASES = Path(__file__).with_name("phrases.json")
_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()


@dataclass(frozen=True)
class _Subject:
    """Who does it: "a man", then "he", with "his" arms; they walk, he walks."""

    name: str
    pronoun: str
    own: str


class _Doing(NamedTuple):
    """A verb in its base form, and all that is said around it."""

    ahead: str
    verb: str
    rest: str


def say(program: EventProgram, seed: int = 0, *, ordered: bool = True) -> str:
    """The program as a text, always the same for one seed; other seeds give other words.

    Reading it again with `parse` gives the same actions, sides, directions, counts and order. A body part that the
    action needs and the program does not name is named: "raises a hand". Where it is not `ordered`, steps are a list
    that tells no order but that of its words: "jumps, claps and turns left".

    >>> say(EventProgram(((Event("walk", direction="forward"),), (Event("kick", side="right", count=2),))), seed=3)
    'A farmer strolls forwards. Then, they kick with their right leg two times.'
    """
    rng = random.Random(seed)
    subject = _Subject(*rng.choice(_phrases()["subjects"]).split("|"))
    steps = program.steps
    if not ordered:
        text = _list(steps, subject, rng)
    elif len(steps) == 2 and rng.random() < 0.4:
        text = _in_one(steps, subject, rng)
    else:
        text = _chain(steps, subject, rng)
    return ". ".join(sentence[0].upper() + sentence[1:] for sentence in text.split(". ")) + "."


class _Plainest(random.Random):
    """Draws the first of all choices, which are the plainest words."""

    def choice(self, seq: Any) -> Any:
        return seq[0]

    def random(self) -> float:
        return 1.0


def plain(program: EventProgram) -> str:
    """The program in the plainest words, always the same: those in which steps of a plan are said.

    >>> plain(EventProgram(((Event("kick", side="left", part="leg", count=2),),)))
    'A person kicks twice with the left leg.'
    """
    text = _chain(program.steps, _Subject("a person", "they", "the"), _Plainest())
    return text[0].upper() + text[1:] + "."


def named(event: Event) -> str:
    """An event in a few words, always the same, without its count.

    >>> named(Event("kick", side="right", part="foot")), named(Event("walk", direction="in_place"))
    ('kick with the right foot', 'walk in place')
    """
    part = event.part or usual_part(event.action)
    limbs = {
        "": "",
        "both": f"with both {_phrases()['plural'][part]}",
        "alternate": f"with one {part} after the other",
    }
    limb = limbs.get(event.side, f"with the {event.side} {part}")
    return " ".join(filter(None, (event.action.removeprefix("other:"), event.direction, limb))).replace("_", " ")


def label(event: Event) -> str:
    """An event in a few words.

    >>> label(Event("raise_knee", side="right", part="knee", count=2)), label(Event("raise", side="both", part="hand"))
    ('raise knee right ×2', 'raise both hands')
    """
    part = "" if event.part in event.action.split("_") else event.part
    if part and event.side == "both":
        part = "feet" if part == "foot" else f"{part}s"
    words = [event.action.removeprefix("other:"), event.side, part, event.direction]
    count = f"×{event.count}" if isinstance(event.count, int) else event.count or ""
    return " ".join(word.replace("_", " ") for word in [*words, count] if word)


def wordings(program: EventProgram, number: int, seed: int = 0, *, ordered: bool = True) -> list[str]:
    """Up to `number` different texts of the program; fewer where 20 tries for each find no more."""
    texts: dict[str, None] = {}
    for at in range(20 * number):
        texts[say(program, seed + at, ordered=ordered)] = None
        if len(texts) == number:
            break
    return list(texts)


@cache
def _phrases() -> dict[str, Any]:
    phrases: dict[str, Any] = json.loads(PHRASES.read_text(encoding="utf-8"))
    return phrases


def _in_one(steps: tuple[tuple[Event, ...], ...], subject: _Subject, rng: random.Random) -> str:
    """Two steps with before or after: "after waving, a man sits down"."""
    first, second = steps
    if len(first) == 1 and rng.random() < 0.5:
        return f"after {_in_ing(first, subject, rng)}, {_sentence(second, subject, rng)}"
    return f"{_sentence(first, subject, rng)} before {_in_ing(second, subject, rng)}"


def _chain(steps: tuple[tuple[Event, ...], ...], subject: _Subject, rng: random.Random) -> str:
    """Step after step: "..., then ... and then ...", in one sentence or several."""
    text = rng.choice(["", "", "first, " if len(steps) > 1 else ""]) + _sentence(steps[0], subject, rng)
    apart = rng.random() < 0.3
    for number, step in enumerate(steps[1:], start=2):
        last = number == len(steps)
        if apart or (number > 4 and number % 3 == 2):
            opening = rng.choice(["finally", "at last"] if last and number > 2 else ["then", "after that", "next"])
            text += f". {opening}, {_pronoun_sentence(step, subject, rng)}"
            continue
        link = rng.choice([", then ", " and then ", ", and then ", ", followed by ", ", after which "])
        if link == ", followed by ":
            text += link + _in_ing(step, subject, rng)
        elif link == ", after which ":
            text += link + _pronoun_sentence(step, subject, rng)
        else:
            text += link + _finite(step, subject, rng)
    return text


def _list(steps: tuple[tuple[Event, ...], ...], subject: _Subject, rng: random.Random) -> str:
    """Steps with nothing but commas and "and" between them."""
    said = [_sentence(steps[0], subject, rng)] + [_finite(step, subject, rng) for step in steps[1:]]
    comma = rng.choice([", and ", " and "]) if len(said) > 2 else " and "
    return ", ".join(said[:-1]) + comma + said[-1] if len(said) > 1 else said[0]


def _sentence(step: tuple[Event, ...], subject: _Subject, rng: random.Random) -> str:
    return f"{subject.name} {_finite(step, subject, rng)}"


def _pronoun_sentence(step: tuple[Event, ...], subject: _Subject, rng: random.Random) -> str:
    return f"{subject.pronoun} {_finite(step, subject, rng, plural=subject.pronoun == 'they')}"


def _finite(step: tuple[Event, ...], subject: _Subject, rng: random.Random, *, plural: bool = False) -> str:
    """walks forward while waving, or for they: walk forward while waving."""
    first = _doing(step[0], subject, rng)
    verb = first.verb if plural else inflect(first.verb).third
    return " ".join(filter(None, (first.ahead, verb, first.rest))) + _meanwhile(step, subject, rng)


def _in_ing(step: tuple[Event, ...], subject: _Subject, rng: random.Random) -> str:
    return _ing(step[0], subject, rng) + _meanwhile(step, subject, rng)


def _meanwhile(step: tuple[Event, ...], subject: _Subject, rng: random.Random) -> str:
    return "".join(f" {'while' if at == 0 else 'and'} {_ing(event, subject, rng)}" for at, event in enumerate(step[1:]))


def _ing(event: Event, subject: _Subject, rng: random.Random) -> str:
    doing = _doing(event, subject, rng)
    return " ".join(filter(None, (doing.ahead, inflect(doing.verb).ing, doing.rest)))


def _doing(event: Event, subject: _Subject, rng: random.Random) -> _Doing:
    phrases = _phrases()
    said = phrases["verbs"].get(event.action) or event.action.removeprefix("other:").replace("_", " ")
    verb, _, rest = rng.choice(said.split("|")).partition(" ")
    count, style, ahead, limb = _times(event.count, rng), event.style, "", ""
    noun = phrases["nouns"].get(event.action)
    steps = event.action == "step"
    if noun and event.count is not None and (steps or (event.count != "several" and rng.random() < 0.5)):
        verb, one, many = noun.split("|")
        number = rng.choice(["several", "a few"]) if event.count == "several" else _number(event.count)
        adjective = style if style in phrases["adjectives"].split() else ""
        rest = " ".join(filter(None, (number, adjective, one if event.count == 1 else many)))
        count, style = "", "" if adjective else style
    if "%" in rest.replace("%%", ""):
        rest = _with_limb(rest, event, subject)
    elif event.side or event.part:
        limb = "with " + _limb(event.side, event.part or usual_part(event.action), subject)
    if style.endswith("ly") and " " not in style and rng.random() < 0.5:
        ahead, style = style, ""
    way = _way(event, rng)
    around = [rest, way, limb, count, style] if rng.random() < 0.6 else [rest, way, count, limb, style]
    return _Doing(ahead, verb, " ".join(filter(None, around)).replace("%%", subject.own))


def _with_limb(rest: str, event: Event, subject: _Subject) -> str:
    """Fills "%arm" with the limb of the event: its own part where it names one."""
    words = []
    for word in rest.split():
        if word.startswith("%") and word != "%%":
            usual = word[1:].removesuffix("s")
            side = event.side or ("both" if word.endswith("s") and not event.part else "")
            words.append(_limb(side, event.part or usual, subject))
        else:
            words.append(word)
    return " ".join(words)


def _limb(side: str, part: str, subject: _Subject) -> str:
    many = _phrases()["plural"][part]
    if side == "both":
        return f"both {many}"
    if side == "alternate":
        return f"alternating {many}"
    return f"{subject.own} {side} {part}" if side else f"{subject.own} {part}"


def usual_part(action: str) -> str:
    """The limb that does it where none is named."""
    legs = LOCOMOTION | {"kick", "stomp", "tap_foot", "lunge", "kneel", "balance", "stand", "raise_leg", "lower_leg"}
    return "leg" if action in legs else "hand"


def _way(event: Event, rng: random.Random) -> str:
    if not event.direction:
        return ""
    ways: list[str] = _phrases()["ways"][event.direction].split("|")
    return rng.choice(ways if event.action in LOCOMOTION else ways[:1])


def _times(count: int | str | None, rng: random.Random) -> str:
    if count is None:
        return ""
    if count == "several":
        return rng.choice(["several times", "repeatedly", "a few times"])
    usual = {1: "once", 2: "twice"}.get(int(count), "")
    return rng.choice([usual or f"{_number(int(count))} times", f"{_number(int(count))} time{'s' * (count != 1)}"])


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)
