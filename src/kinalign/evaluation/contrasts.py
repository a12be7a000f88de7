"""What differs in one thing only: the order of two events, the side, the count. In motions and in sentences.

An evaluator learns from such pairs and is examined by them. The motions are real clips, one after the other or the same
one again; nothing is made up but the join.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from kinalign.data.mirror_text import mirror_caption
from kinalign.motion.joining import fade, lay_onto
from kinalign.motion.motion import Motion

OVERLAP_FRAMES = 8
"""Frames in which one event becomes the next: 0.4 s."""


def in_a_row(motions: Sequence[Motion]) -> Motion:
    """Motions one after the other without a jump, each where the former ends and faces; give them uniform.

    Each two share `OVERLAP_FRAMES`, or half the frames of the shorter where it has fewer than twice as many.
    """
    joined, *others = motions
    for motion in others:
        overlap = min(OVERLAP_FRAMES, max(1, min(len(joined), len(motion)) // 2))
        laid = lay_onto(motion, slice(0, overlap), joined, slice(len(joined) - overlap, len(joined)))
        joined = fade(joined, laid, overlap)
    return joined


# --- order --------------------------------------------------------------------------------------------------------

SUBJECTS = (
    *["a person"] * 4,
    *["someone", "someone", "somebody", "the person", "the figure", "a man", "a woman", "a human", "he", "she"],
)
ORDERS = (
    *["{who} {first} and then {second}"] * 3,
    *["{who} {first}, then {second}"] * 2,
    "{who} {first}, and after that {second}",
    "{who} {first} and afterwards {second}",
    "{who} first {first}, then {second}",
    "first {who} {first}, then {he} {second}",
    "{who} {first}. then {he} {second}",
    "{who} {first} before {he} {second}",
    "{who} {second} after {he} {first}",
    "after {he} {first}, {who} {second}",
)
"""Sentences about two events, also some that name the later one first."""


def order_contrast(first: str, second: str, rng: np.random.Generator) -> tuple[str, str]:
    """A sentence in which `first` happens before `second`, and the same words with the order swapped.

    >>> order_contrast("waves", "sits down", np.random.default_rng(3))
    ('a person waves before he sits down', 'a person sits down before he waves')
    """
    text, who = ORDERS[rng.integers(len(ORDERS))], SUBJECTS[rng.integers(len(SUBJECTS))]
    he = who if who in ("he", "she") else {"a man": "he", "a woman": "she"}.get(who, ("he", "she")[rng.integers(2)])
    right, wrong = (text.format(who=who, he=he, first=a, second=b) for a, b in ((first, second), (second, first)))
    return right, wrong


# --- side ---------------------------------------------------------------------------------------------------------

_BOTH_SIDES = re.compile(r"\b(left|right) (and|or) (?:(?:to|the|their|his|her) )*(left|right)\b", re.I)


def side_contrast(text: str) -> str | None:
    """The same text with left and right swapped; None where it names no side or says 'left and right' of one thing.

    >>> side_contrast("a person waves with the left hand")
    'a person waves with the right hand'
    """
    mirrored = mirror_caption(text)
    return None if mirrored == text or _BOTH_SIDES.search(text) else mirrored


# --- count --------------------------------------------------------------------------------------------------------

COUNTS = ("once", "twice", "three times", "four times")
_NUMBERS = {"1": 1, "one": 1, "a single": 1, "two": 2, "2": 2, "three": 3, "3": 3, "four": 4, "4": 4, "five": 5, "5": 5}
_COUNT = re.compile(
    r"\b(?:(?:just|only|exactly) )?(?:"
    r"(?P<once>(?<!at )once\b(?! (?:more|again|upon|every|per|each))(?: only\b)?)"
    r"|(?P<twice>twice)|(?P<thrice>thrice)"
    rf"|(?P<number>{'|'.join(_NUMBERS)}) times?\b(?! (?:per|each|every)))",
    re.I,
)


def count_of(text: str) -> int | None:
    """How often the text says that something happens, by its first such word; None where it says nothing.

    >>> count_of("a person squats three times"), count_of("a person squats")
    (3, None)
    """
    match = _COUNT.search(text)
    if match is None:
        return None
    if match["number"]:
        return _NUMBERS[match["number"].lower()]
    return 1 if match["once"] else 2 if match["twice"] else 3


def with_count(text: str, count: int) -> str:
    """The text with the first count in it changed, 1 to 4.

    >>> with_count("a person squats once and stands up", 2)
    'a person squats twice and stands up'
    """
    return _COUNT.sub(COUNTS[count - 1], text, count=1)
