"""The interpreter: what a text asks for, in whatever words; beside the rules, which know the words of captions.

People who are not told how say "has a seat" or "off he bolts", and of that the rules of events/parse.py read a third.
The language model's reader has read English before. Linear layers on what it makes of a text, on what the rules found
and on the words that say sides and ways tell which action it asks for, of which side, to which way, and whether a
number in it counts repetitions. Of a text of several events each part is read by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kinalign.errors import CheckpointError, PromptError
from kinalign.events.lexicon import load_lexicon
from kinalign.events.parse import parse
from kinalign.events.program import MAX_COUNT, SIDES, Event, EventProgram
from kinalign.lm.reader import Reader
from kinalign.run import config_from_json, config_to_json, read_json, read_tensors, write_json, write_tensors

CONFIG, WEIGHTS = "config.json", "model.safetensors"

OTHER, SEVERAL = "other", "several"
"""Readings that are no action: something that is none of them, and more than one of them."""
WAYS = ("backward", "left", "right", "around", "circle")
"""Directions that are told apart; whatever else is said of the way is forward, or as the action goes."""
SAID = (
    "left right lefty both two hands arms palms fists back backward backwards backing reverse behind retreat circle "
    "ring around round about clockwise counterclockwise anticlockwise leftward rightward leftwards rightwards then and "
    "before after , ."
).split()
"""Words and stops whose mere presence counts."""
SIDES_SAID, WAYS_SAID = ("", *SIDES[:3]), ("", *WAYS)
LAYERS = (0, 3, 6)
"""Of the reader: its words, and what its layers make of them."""

GOING = frozenset("walk turn spin run jump hop skip march sneak lunge crawl".split())
"""Actions that have a way."""
LIMBED = frozenset(
    "kick punch wave raise throw catch pick_up grab put_down push pull rotate_arm raise_knee stretch hop lunge".split()
)
"""Actions that have a side."""
_KIN = tuple(
    frozenset(kin.split())
    for kin in (
        "run jog sprint dash",
        "jump leap",
        "squat crouch",
        "pick_up lift grab reach",
        "raise reach lift",
        "walk pace step sidestep shuffle limp",
        "get_up stand_up",
        "sneak tiptoe",
        "turn spin",
        "put_down place",
        "climb climb_stairs",
        "kick raise_leg swing_leg",
        "raise_knee raise_leg",
    )
)
_TIMES = {
    "once": 1,
    "single": 1,
    "twice": 2,
    "double": 2,
    "couple": 2,
    "pair": 2,
    "thrice": 3,
    "triple": 3,
    "dozen": 12,
}
_MEASURE = re.compile(r"\b[a-z0-9.]+[ -]?(?:seconds?|secs?|s|minutes?|degrees?|met(?:er|re)s?|m|feet|inches)\b")
"""What a number measures is not how often something is done."""
_SENTENCE = re.compile(r"[.;:!?]+(?:\s+|$)")
_LINK = re.compile(
    r"\s*,?\s*\b(?:(?:and|but|only) )*(?P<link>then|next|before|after (?:that|this|which)|afterwards?|after|followed by"
    r"|until|finally|lastly|once(?= (?:he|she|it|they|you|we|i|the|that|this)\b))\b[\s,]*"
    r"|\s*,\s+(?:and\s+)?|\s+and\s+(?!again\b|round\b|over and\b)",
    re.IGNORECASE,
)
"""What joins two parts of a sentence; not what repeats, as in "again and again"."""


@dataclass(frozen=True)
class InterpreterConfig:
    """What the rows of its layers stand for, and how sure it must be."""

    actions: tuple[str, ...]
    """Of readings, with OTHER and SEVERAL."""
    rules: tuple[str, ...]
    """Actions that rules find."""
    sure: float = 0.3
    """From which probability on a text is taken for what it seems to ask for."""
    sure_of_part: float = 0.6
    """The same, of a part of a text."""
    sure_of_one: float = 0.9
    """From which probability on a text of parts that show several actions asks for one."""

    @property
    def answers(self) -> dict[str, tuple[object, ...]]:
        """What each of its layers tells apart, a row of its weights for each answer."""
        return {"action": self.actions, "side": SIDES_SAID, "way": WAYS_SAID, "counted": (False, True)}


class Reading(NamedTuple):
    """What one text asks for, as a whole, and how likely that is."""

    action: str
    probability: float
    side: str
    way: str
    times: int | None


class Interpreter:
    """The event program of a text, by rules where these are at home and by what was taught where they are not."""

    def __init__(self, config: InterpreterConfig, weights: Mapping[str, Tensor], reader: Reader) -> None:
        self.config, self.weights, self.reader = config, dict(weights), reader

    def __call__(self, text: str) -> EventProgram:
        """The program of a text in English. Raises PromptError where neither rules nor what was taught find one."""
        ruled = program_by_rules(text)
        parts = parts_of(text)
        whole, *pieces = self.readings([text, *(parts if len(parts) > 1 else ())])
        steps = self._steps(pieces)
        if len(steps) > 1 and (whole.action == SEVERAL or whole.probability < self.config.sure_of_one):
            return self._held_against(steps, ruled)
        if ruled is not None and len(ruled.events) > 1 and whole.action == SEVERAL:
            return ruled
        best = whole if whole.action not in (OTHER, SEVERAL) and whole.probability >= self.config.sure else None
        best = best or next(iter(steps), None)
        if best is None:
            return ruled or parse(text)
        if ruled is not None and (len(ruled.events) == 1 or best.probability < self.config.sure_of_one):
            return self._held_against([best], ruled)
        return EventProgram(((_event(best),),))

    def _steps(self, parts: Sequence[Reading]) -> list[Reading]:
        """What the parts of a text show one after the other: what is likely, and is not what was shown just before."""
        sure = self.config.sure_of_part
        shown = [one for one in parts if one.action not in (OTHER, SEVERAL) and one.probability >= sure]
        return [one for before, one in zip((None, *shown), shown) if before is None or _event(before) != _event(one)]

    def _held_against(self, steps: Sequence[Reading], ruled: EventProgram | None) -> EventProgram:
        """The program of what was read one after the other: that of the rules, completed, where it holds all of it."""
        events: list[Event] = []
        left = list(steps)
        for event in ruled.events if ruled is not None else ():
            events.append(_completed(event, left.pop(0)) if left and self._agree(event, left[0]) else event)
        if ruled is None or left:
            return EventProgram(tuple((_event(step),) for step in steps))
        completed = iter(events)
        return EventProgram(tuple(tuple(next(completed) for _ in step) for step in ruled.steps))

    def _agree(self, event: Event, reading: Reading) -> bool:
        """Whether rules mean what was read, if perhaps by a nearer name: a jog, where all that runs is a run."""
        is_taught = event.action in self.config.actions
        return event.action == reading.action if is_taught else are_kin(event.action, reading.action)

    @torch.no_grad()
    def readings(self, texts: Sequence[str]) -> list[Reading]:
        """What each text asks for, taken as a whole."""
        if not texts:
            return []
        said = self.features(texts)
        scores = {
            name: said @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"] for name in self.config.answers
        }
        found = []
        for row, text in enumerate(texts):
            likely, action = (value.item() for value in scores["action"][row].softmax(-1).max(-1))
            name = self.config.actions[int(action)]
            side = SIDES_SAID[int(scores["side"][row].argmax())] if name in LIMBED else ""
            way = WAYS_SAID[int(scores["way"][row].argmax())] if name in GOING else ""
            count = number_in(text) if scores["counted"][row].argmax() else None
            found.append(Reading(name, likely, side, way, count))
        return found

    def features(self, texts: Sequence[str]) -> Tensor:
        """(N, D): the mean of each layer's vectors less the usual one, which words are there, what rules find."""
        vectors = F.normalize(meanings(self.reader, texts) - self.weights["usual"], dim=-1).flatten(1)
        return torch.cat([vectors, _flags(texts), _found(texts, self.config.rules)], dim=1)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write config.json and model.safetensors, 16 bits a weight; the reader is the language model's to keep."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / WEIGHTS, {name: value.half() for name, value in self.weights.items()})
        write_json(folder / CONFIG, config_to_json(self.config))
        return folder

    @staticmethod
    def from_pretrained(folder: str | Path, reader: Reader) -> Interpreter:
        """Read a folder; raises CheckpointError where it is cut short or its layers do not fit the reader."""
        folder = Path(folder)
        if reader.config.layers < LAYERS[-1]:
            raise CheckpointError(f"{folder} needs a reader of {LAYERS[-1]} layers, this has {reader.config.layers}")
        config = config_from_json(InterpreterConfig, read_json(folder / CONFIG))
        weights = {name: value.float() for name, value in read_tensors(folder / WEIGHTS).items()}
        width = len(LAYERS) * reader.config.width + len(SAID) + len(config.rules) + 2
        wanted: dict[str, tuple[int, ...]] = {"usual": (len(LAYERS), reader.config.width)}
        for name, answers in config.answers.items():
            wanted |= {f"{name}.weight": (len(answers), width), f"{name}.bias": (len(answers),)}
        shapes = {name: tuple(value.shape) for name, value in weights.items()}
        if shapes != wanted:
            wrong = sorted(name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name))
            raise CheckpointError(
                f"{folder / WEIGHTS} does not fit this reader: {wrong[0]} is {shapes.get(wrong[0], 'absent')} and must "
                f"be {wanted.get(wrong[0], 'absent')}; python -m kinalign.recipes.interpreter makes it anew"
            )
        return Interpreter(config, weights, reader)


def program_by_rules(text: str) -> EventProgram | None:
    """What the rules read; None where they read nothing, or only verbs without a name of their own."""
    try:
        program = parse(text)
    except PromptError:
        return None
    return program if any(event.is_named for event in program.events) else None


@torch.no_grad()
def meanings(reader: Reader, texts: Sequence[str]) -> Tensor:
    """(N, LAYERS, W): the mean of each text's tokens in some layers of the reader."""
    rows = []
    for start in range(0, len(texts), 64):
        encoded = reader.tokenizer(
            list(texts[start : start + 64]),
            padding=True,
            truncation=True,
            max_length=reader.config.max_tokens,
            return_tensors="pt",
        )
        is_token = encoded["attention_mask"]
        hidden = reader.bert(
            input_ids=encoded["input_ids"], attention_mask=is_token, output_hidden_states=True
        ).hidden_states
        weights = (is_token / is_token.sum(1, keepdim=True))[..., None]
        rows.append(torch.stack([(hidden[layer] * weights).sum(1) for layer in LAYERS], dim=1))
    return torch.cat(rows)


def number_in(text: str) -> int | None:
    """The only number that a text says, as a count; None where it says none, several, or more than can be shown.

    >>> number_in("a couple of hops"), number_in("one, two, three"), number_in("hops 1000 times"), number_in("for 4 s")
    (2, None, None, None)
    """
    words = re.findall(r"[a-z]+|\d+", _MEASURE.sub("", text.lower()))
    numbers = load_lexicon().numbers
    said = [int(word) if word.isdigit() else _TIMES.get(word, numbers.get(word)) for word in words]
    found = {number for number in said if number is not None}
    number = found.pop() if len(found) == 1 else None
    return number if number is not None and 1 <= number <= MAX_COUNT else None


def parts_of(text: str) -> list[str]:
    """The parts of a text in the order in which they happen, cut at stops, commas and words that join.

    >>> parts_of("After he has waved, she sits down. Then a bow")
    ['he has waved', 'she sits down', 'a bow']
    >>> parts_of("he sits, but only after a bow")
    ['a bow', 'he sits']
    """
    return [part for sentence in _SENTENCE.split(text) for part in _in_order(sentence)]


def _in_order(sentence: str) -> list[str]:
    told: list[str] = []
    later: list[str] = []  # "before X, Y": Y comes first
    start, link = 0, ""
    for found in (*_LINK.finditer(sentence), None):
        part = sentence[start : found.start() if found else None].strip(" ,")
        if part and link == "before" and not told:
            later.append(part)
        elif part and link in ("after", "once") and told:
            told.insert(len(told) - 1, part)
        elif part:
            told += [part, *later]
            later = []
        if found:
            start, link = found.end(), (found["link"] or ("" if part else link)).lower()
    return told + later


def are_kin(one: str, other: str) -> bool:
    return one == other or any(one in kin and other in kin for kin in _KIN)


def _event(reading: Reading) -> Event:
    return Event(reading.action, side=reading.side, direction=reading.way, count=reading.times)


def _completed(event: Event, reading: Reading) -> Event:
    """The rules' event with what was taught of it where the rules say nothing."""
    return replace(
        event,
        side=event.side or reading.side,
        direction=event.direction or reading.way,
        count=event.count if event.count is not None else reading.times,
    )


def _flags(texts: Iterable[str]) -> Tensor:
    words = [set(re.findall(r"[a-z]+|[,.]", text.lower())) for text in texts]
    return torch.tensor([[float(word in said) for word in SAID] for said in words])


def _found(texts: Iterable[str], known: Sequence[str]) -> Tensor:
    """(N, K + 2): which actions the rules find, whether verbs without a name, and whether nothing; halved."""
    rows = []
    for text in texts:
        try:
            events = parse(text).events
        except PromptError:
            events = ()
        found, is_named = {event.action for event in events}, all(event.is_named for event in events)
        rows.append([*(float(action in found) for action in known), float(not is_named), float(not events)])
    return torch.tensor(rows) / 2
