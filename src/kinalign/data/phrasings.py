"""Many true sentences about one clip: the hand-written phrasings that teach the model words its captions never use.

`phrasings.json` holds the language: patterns of verb phrases and of whole sentences for every action, subjects, places,
sentence frames, styles, and a table from clips to actions. A pattern is plain text with `(this|that)` alternatives,
`{slots}` and `*verbs`, which are inflected to the sentence. A sentence is drawn in some thirty microseconds, so that
training draws a new one each time it sees a clip. Words that measure generalisation, those of the gallery's new
wordings (recipes/gallery_prompts.json), never occur.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kinalign.data.mirror_text import mirror_caption
from kinalign.english import Verb, inflect
from kinalign.errors import DataError
from kinalign.events.program import OPPOSITE

LANGUAGE = Path(__file__).with_name("phrasings.json")

VERBATIM_SHARE = 0.25
"""Share of samples that are one of the clip's own captions, word for word."""
STYLED_SUBJECT_SHARE = 0.35
"""Share of styled samples whose style is in the subject ('an old man walks') and not in an adverb."""
SENTENCE_SHARE = 0.35
"""Share of samples, of actions that have them, that are a whole sentence with a subject and a scene of its own."""
OTHER_SUBJECT_SHARE = 0.4
"""Share of usual subjects that are somebody in particular: a librarian, anna, the man in a blue coat."""
PLACE_SHARE = 0.15
PERIOD_SHARE, CAPITAL_SHARE, TYPO_SHARE = 0.2, 0.2, 0.01

Pattern = list[Any]  # str | Alternatives | Slot | Verb, in reading order


@dataclass(frozen=True, eq=False)
class Alternatives:
    options: list[Pattern]


@dataclass(frozen=True)
class Slot:
    name: str


@dataclass(frozen=True, eq=False)
class Subject:
    """Who does it: 'he' in 'he walks', 'him' in 'make him walk', 'his' in 'raises his hand'; they walk, he walks."""

    name: str
    object: str
    their: Pattern
    themselves: str
    plural: bool


@dataclass(frozen=True, eq=False)
class Frame:
    """A sentence around a verb phrase in one form, or around a noun phrase: 'make {object} {what}'."""

    form: str
    text: Pattern
    their: Pattern | None = None


@dataclass(frozen=True, eq=False)
class Style:
    """How an action is done: as a subject ('an old man'), an adverb ('slowly') or an adjective ('a slow walk')."""

    subjects: list[Subject]
    usual_subjects: list[Subject]
    other_subjects: list[Subject]
    adverbs: list[Pattern]
    adjectives: Pattern

    def everybody(self) -> list[Subject]:
        return self.subjects + self.usual_subjects + self.other_subjects


@dataclass(frozen=True, eq=False)
class Action:
    verbs: list[Pattern]
    nouns: list[Pattern]
    sentences: list[Pattern]

    def patterns(self) -> list[Pattern]:
        return self.verbs + self.nouns + self.sentences


@dataclass(frozen=True, eq=False)
class Meaning:
    """What happens in a clip: actions one after the other, with the side of each ('left', 'right' or '').

    `verbatim` says that the clip's captions may be used as they are: Bandai's "with a hand" is false of byebye, where
    both hands wave, and some captions of CMU speak of a part of their clip only. `caption` is what to say instead.
    """

    actions: tuple[str, ...]
    sides: tuple[str, ...]
    verbatim: bool = True
    caption: str = ""


class Words(Protocol):
    """What a clip says of itself, with or without its motion: a data set's Clip or the codes of one."""

    @property
    def id(self) -> str: ...
    @property
    def captions(self) -> tuple[str, ...]: ...
    @property
    def source(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def style(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Language:
    macros: dict[str, Pattern]
    places: list[Pattern]
    frames: list[Frame]
    frame_weights: list[float] = field(repr=False)
    styles: dict[str, Style]
    actions: dict[str, Action]
    clips: dict[str, Meaning]

    def patterns(self) -> list[Pattern]:
        """Every pattern but those of styles."""
        spoken = [pattern for action in self.actions.values() for pattern in action.patterns()]
        return spoken + [frame.text for frame in self.frames] + list(self.macros.values()) + self.places


def phrase(clip: Words, rng: np.random.Generator, *, mirrored: bool = False) -> str:
    """One sentence that is true of the clip, or of its mirror image where `mirrored`.

    A quarter are the clip's own captions; the others are drawn from its actions' patterns. A clip whose label
    or style the table does not know speaks only through its captions; raises DataError where it has none.

    >>> from kinalign.data.records import Clip
    >>> from kinalign.motion.synthetic import walking
    >>> clip = Clip("a", walking(), ("a person squats",), "HDM05", "", "train", label="squat1Reps")
    >>> phrase(clip, np.random.default_rng(10))
    'one person dips down with bent knees and comes up'
    """
    language = load_language()
    meaning, style = meaning_of(clip), language.styles.get(clip.style or "plain")
    if meaning is None or style is None or (meaning.verbatim and clip.captions and rng.random() < VERBATIM_SHARE):
        if not clip.captions:
            raise DataError(f"clip {clip.id!r} has no caption, and phrasings.json knows no label {clip.label!r}")
        caption = _pick(clip.captions, rng)
        return mirror_caption(caption) if mirrored else caption
    sides = tuple(OPPOSITE.get(side, side) for side in meaning.sides) if mirrored else meaning.sides
    return _noisy(_sentence(language, meaning.actions, sides, style, rng), rng)


def plain_caption(clip: Words, rng: np.random.Generator, *, mirrored: bool = False) -> str:
    """One sentence about the clip as its data set would say it: a caption of its own where those are true of it.

    Raises DataError where nothing is known of the clip.
    """
    captions = plain_captions(clip)
    if not captions:
        return phrase(clip, rng, mirrored=mirrored)
    caption = _pick(captions, rng)
    return mirror_caption(caption) if mirrored else caption


def plain_captions(clip: Words) -> tuple[str, ...]:
    """The captions of a clip that are true of it, or what is said in their place; none where only patterns are."""
    meaning = meaning_of(clip)
    if meaning is None or meaning.verbatim:
        return clip.captions
    return (meaning.caption,) if meaning.caption else ()


def verb_phrases(meaning: Meaning, rng: np.random.Generator, *, mirrored: bool = False) -> list[str]:
    """What one person does, an entry for each action and without style: ['waves with the left hand'].

    >>> verb_phrases(Meaning(("squat_once",), ("",)), np.random.default_rng(1))
    ['dips their hips toward the floor and rises']
    """
    sides = tuple(OPPOSITE.get(side, side) for side in meaning.sides) if mirrored else meaning.sides
    slots = {
        "subject": "a person",
        "object": "a person",
        "is": "is",
        "their": "their",
        "themselves": "themselves",
        "adjective": "",
    }
    return [_AN.sub("an", text) for text in _phrases(load_language(), meaning.actions, sides, slots, "third", rng)]


def meaning_of(clip: Words) -> Meaning | None:
    """What the table says happens in the clip, by its id, its source's label or its first caption; None if nothing."""
    clips = load_language().clips
    known = clips.get(clip.id) or clips.get(f"{clip.source}/{clip.label}")
    if known is None and clip.captions:
        known = clips.get(clip.captions[0]) or _sequence(clip.captions[0])
    return known


@lru_cache(maxsize=1024)
def _sequence(caption: str) -> Meaning | None:
    """'a person claps and then walks' from the meanings of its parts, where each is known."""
    parts = [part if part.startswith("a person ") else f"a person {part}" for part in caption.split(" and then ")]
    meanings = [load_language().clips.get(part) for part in parts]
    if len(parts) < 2 or None in meanings:
        return None
    known = [meaning for meaning in meanings if meaning is not None]
    return Meaning(
        actions=tuple(action for meaning in known for action in meaning.actions),
        sides=tuple(side for meaning in known for side in meaning.sides),
    )


def all_actions() -> tuple[str, ...]:
    """Names of the actions that have phrasings, sorted."""
    return tuple(sorted(load_language().actions))


def spoken_words() -> frozenset[str]:
    """Every word, in lower case, that a phrasing can hold beside the clips' own captions."""
    language = load_language()
    styles = language.styles.values()
    patterns = language.patterns()
    patterns += [pattern for style in styles for pattern in (*style.adverbs, style.adjectives)]
    texts = ["left right an yourself is are"]
    for subject in (subject for style in styles for subject in style.everybody()):
        texts += [subject.name, subject.object, subject.themselves]
        patterns.append(subject.their)
    for part in (part for pattern in patterns for part in parts_of(pattern)):
        if isinstance(part, Verb):
            texts += [part.base, part.third, part.ing, part.past]
        elif isinstance(part, str):
            texts.append(part)
    return frozenset(word for text in texts for word in re.findall(r"[a-z]+", text.lower()))


# --- one sentence -----------------------------------------------------------------------------------------------


def _sentence(
    language: Language, actions: tuple[str, ...], sides: tuple[str, ...], style: Style, rng: np.random.Generator
) -> str:
    frame = language.frames[
        int(np.searchsorted(language.frame_weights, rng.random() * language.frame_weights[-1], side="right"))
    ]
    nouns = language.actions[actions[0]].nouns
    if frame.form == "noun" and (len(actions) > 1 or not nouns):
        frame = language.frames[0]
    styled = bool(style.subjects) and frame.their is None and rng.random() < STYLED_SUBJECT_SHARE
    usual = style.other_subjects if rng.random() < OTHER_SUBJECT_SHARE else style.usual_subjects
    subject = _pick(style.subjects if styled else usual, rng)
    form = "base" if frame.form == "third" and subject.plural else frame.form

    slots: dict[str, Any] = {
        "subject": subject.name,
        "object": subject.object,
        "is": "are" if subject.plural else "is",
        "their": frame.their or subject.their,
        "themselves": subject.themselves if frame.their is None else "yourself" if form == "base" else "themselves",
        "adjective": style.adjectives,
    }
    sentences = language.actions[actions[0]].sentences
    if len(actions) == 1 and sentences and rng.random() < SENTENCE_SHARE:
        slots |= {"side": sides[0], "other": OPPOSITE.get(sides[0], ""), "their": "the"}
        text = _text(_pick(sentences, rng), slots, "base", language.macros, rng).rstrip(".!?")
        if style.adverbs:
            adverb = _text(_pick(style.adverbs, rng), slots, "ing", language.macros, rng)
            text = f"{adverb}, {text}" if adverb and rng.random() < 0.2 else f"{text}, {adverb}".rstrip(" ,")
        return _AN.sub("an", text)
    phrases = _phrases(language, actions, sides, slots, form, rng)
    slots["what"] = _text(language.macros["then"], slots, form, language.macros, rng).join(phrases)

    adverb = ""
    if style.adverbs and form != "noun" and not (styled and rng.random() < 0.8):
        adverb = _text(_pick(style.adverbs, rng), slots, "ing", language.macros, rng)
    place = rng.random() if adverb else 1.0
    if place < 0.2 and adverb.endswith("ly") and " " not in adverb:
        slots["what"] = f"{adverb} {slots['what']}"  # angrily walks
    elif 0.1 < place < 1:
        slots["what"] = f"{slots['what']} {adverb}"  # walks angrily
    text = _text(frame.text, slots, form, language.macros, rng)
    if rng.random() < PLACE_SHARE:
        text = f"{text} {_text(_pick(language.places, rng), slots, form, language.macros, rng)}"
    if place <= 0.1 and not text.startswith(adverb) and f" {adverb} " not in text:
        text = f"{adverb}, {text}"  # angrily, a person walks
    return _AN.sub("an", text)


def _phrases(
    language: Language,
    actions: tuple[str, ...],
    sides: tuple[str, ...],
    slots: dict[str, Any],
    form: str,
    rng: np.random.Generator,
) -> list[str]:
    """One verb or noun phrase for each action."""
    phrases = []
    for action, side in zip(actions, sides, strict=True):
        choices = language.actions[action].nouns if form == "noun" else language.actions[action].verbs
        spoken = slots | {"side": side, "other": OPPOSITE.get(side, "")}
        phrases.append(_text(_pick(choices, rng), spoken, form, language.macros, rng))
    return phrases


_AN = re.compile(r"\ba(?= [aeiou])(?! (?:one|uni|use|usual))")  # an old man, but a one-handed wave


def _text(
    pattern: Pattern, slots: dict[str, Any], form: str, macros: dict[str, Pattern], rng: np.random.Generator
) -> str:
    words: list[str] = []

    def write(part: Any) -> None:
        kind = type(part)
        if kind is str:
            words.append(part)
        elif kind is Verb:
            words.append(getattr(part, "base" if form == "noun" else form))
        elif kind is Alternatives:
            for chosen in _pick(part.options, rng):
                write(chosen)
        elif kind is Slot:
            value = slots[part.name] if part.name in slots else macros[part.name]
            write(value)
        else:
            for inner in part:
                write(inner)

    write(pattern)
    return " ".join("".join(words).split())


def _pick(options: Any, rng: np.random.Generator) -> Any:
    return options[int(rng.random() * len(options))]


def _noisy(text: str, rng: np.random.Generator) -> str:
    """As people type: some end with a period, some begin with a capital, a few swap two letters of a long word."""
    if rng.random() < TYPO_SHARE:
        long_words = list(re.finditer(r"\b(?!left|right)[a-z]{6,}", text))
        if long_words:
            start = _pick(long_words, rng).start() + 2
            text = text[:start] + text[start + 1] + text[start] + text[start + 2 :]
    if rng.random() < CAPITAL_SHARE:
        text = text[0].upper() + text[1:]
    return text + "." if rng.random() < PERIOD_SHARE else text


# --- the language, read once ------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def load_language() -> Language:
    """Everything in phrasings.json, compiled. Raises DataError for an unknown slot, action or subject group."""
    raw = json.loads(LANGUAGE.read_text(encoding="utf-8"))
    usual = {name: _subjects(group) for name, group in raw["subjects"].items()}
    others = {name: _subjects(group, "others") for name, group in raw["subjects"].items()}
    language = Language(
        macros={name: parse(text) for name, text in raw["macros"].items()},
        places=[parse(text) for text in raw["places"]],
        frames=[
            Frame(row["form"], parse(row["text"]), parse(row["their"]) if "their" in row else None)
            for row in raw["frames"]
        ],
        frame_weights=list(accumulate(row["weight"] for row in raw["frames"])),
        styles={name: _style(row, usual, others) for name, row in raw["styles"].items()},
        actions={
            name: Action(*([parse(text) for text in row.get(kind, ())] for kind in ("verbs", "nouns", "sentences")))
            for name, row in raw["actions"].items()
        },
        clips={key: _meaning(row) for key, row in raw["clips"].items()},
    )
    _check(language)
    return language


def _subjects(group: dict[str, Any], key: str = "names") -> list[Subject]:
    subjects = []
    for name in group.get(key, ()):
        nominative, _, accusative = name.partition("/")
        their = parse(group["their"])
        subjects.append(
            Subject(nominative, accusative or nominative, their, group["themselves"], group.get("plural", False))
        )
    return subjects


def _style(row: dict[str, Any], usual: dict[str, list[Subject]], others: dict[str, list[Subject]]) -> Style:
    return Style(
        subjects=[subject for group in row.get("who", ()) for subject in _subjects(group)],
        usual_subjects=[subject for name in row.get("usual", usual) for subject in usual[name]],
        other_subjects=[subject for name in row.get("usual", others) for subject in others[name]],
        adverbs=[parse(text) for text in row["adverbs"]],
        adjectives=parse(row["adjectives"]),
    )


def _meaning(row: dict[str, Any]) -> Meaning:
    return Meaning((row["action"],), (row.get("side", ""),), row.get("verbatim", True), row.get("caption", ""))


def _check(language: Language) -> None:
    """Every slot has a value and every clip an action that exists; a side is asked for only where it is known."""
    known = {"subject", "object", "is", "their", "themselves", "adjective", "side", "other", "what"} | set(
        language.macros
    )
    for part in (part for pattern in language.patterns() for part in parts_of(pattern)):
        if isinstance(part, Slot) and part.name not in known:
            raise DataError(f"phrasings.json: slot {{{part.name}}} is unknown; use one of {', '.join(sorted(known))}")
    for key, meaning in language.clips.items():
        for action, side in zip(meaning.actions, meaning.sides, strict=True):
            if action not in language.actions:
                raise DataError(f"phrasings.json: {key!r} does {action!r}, which has no phrasings")
            entry = language.actions[action]
            slots = {
                part.name for p in entry.patterns() for part in parts_of(p, language.macros) if isinstance(part, Slot)
            }
            if slots & {"side", "other"} and not side:
                raise DataError(f"phrasings.json: {key!r} gives no side, and {action!r} speaks of one")


def parts_of(pattern: Pattern, macros: dict[str, Pattern] | None = None) -> Iterator[str | Verb | Slot]:
    """Every text, verb and slot of a pattern, through all its alternatives, and through macros where given."""
    for part in pattern:
        if isinstance(part, Alternatives):
            for option in part.options:
                yield from parts_of(option, macros)
        else:
            yield part
            if macros and isinstance(part, Slot) and part.name in macros:
                yield from parts_of(macros[part.name], macros)


_TOKEN = re.compile(r"[(|)]|\{\w+\}|\*[a-z]+|[^(|){}*]+")


def parse(text: str) -> Pattern:
    """A pattern from its text. Raises DataError for a parenthesis that opens or closes alone.

    >>> parse("*walk (fast|)")[0].third
    'walks'
    """
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != text:
        raise DataError(f"pattern {text!r} holds a stray brace or star")
    pattern, rest = _parse_options(tokens, text)
    if rest or len(pattern) > 1:
        raise DataError(f"pattern {text!r} has a | or ) outside of parentheses")
    return pattern[0]


def _parse_options(tokens: list[str], text: str, *, nested: bool = False) -> tuple[list[Pattern], list[str]]:
    options: list[Pattern] = [[]]
    while tokens:
        token, tokens = tokens[0], tokens[1:]
        if token == "(":
            inner, tokens = _parse_options(tokens, text, nested=True)
            options[-1].append(Alternatives(inner))
        elif token == "|":
            options.append([])
        elif token == ")":
            return options, tokens if nested else [token, *tokens]
        elif token[0] == "{":
            options[-1].append(Slot(token[1:-1]))
        elif token[0] == "*":
            options[-1].append(inflect(token[1:]))
        else:
            options[-1].append(token)
    if nested:
        raise DataError(f"pattern {text!r} opens a parenthesis that it does not close")
    return options, tokens
