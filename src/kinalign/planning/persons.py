"""Whom a text speaks of: "a keeper" in "In the empty goal a keeper gets ready"."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

PRONOUNS = {"she": "she", "he": "he", "somebody": "somebody", "someone": "someone"} | dict.fromkeys(
    "i you we they everybody everyone".split(), "the person"
)
"""Who begins a text, and how an answer speaks of them."""
DETERMINERS = frozenset("a an the this that his her my your our their its".split())
ABOUT = 0.2
"""Words whose log-odds differ by less are about as likely."""
MANY = re.compile(r"(?:.*(?:[^aius]s|men)|children|people|mice|geese)", re.IGNORECASE)
"""A noun of several, of whom one is shown."""


def person_in(text: str, words: Sequence[str], scores: Sequence[float], *, least: float, article: str) -> str:
    """Whom a text is told of, with an article, by the log-odds of its words to be of a person; "" for nobody.

    It is the likeliest word, if that is `least` or more, or one before that is about as likely, with its neighbours
    that are rather of a person than not.

    >>> person_in("In the goal a young keeper yawns", "in the goal a young keeper yawns".split(),
    ...           [-2, -3, 0.5, -1, 0.4, 1.9, -1], least=0.4, article="the")
    'the young keeper'
    >>> person_in("Pupils rehearse", ["pupils", "rehearse"], [1.6, -1], least=0.4, article="the")
    'one of the pupils'
    >>> person_in("she trains", ["she", "trains"], [-1, -1], least=0.4, article="the")
    'she'
    """
    if not words:
        return ""
    if words[0] in PRONOUNS:
        return PRONOUNS[words[0]]
    best = max(scores)
    if best < least:
        return ""
    first = last = next(place for place, score in enumerate(scores) if score > best - ABOUT)
    while first and scores[first - 1] > 0 and words[first - 1] not in DETERMINERS:
        first -= 1
    while last + 1 < len(words) and scores[last + 1] > 0:
        last += 1
    said = re.search(r"\W+".join(map(re.escape, words[first : last + 1])), text, re.IGNORECASE)
    person = said[0] if said else " ".join(words[first : last + 1])
    if MANY.fullmatch(words[last]):
        return f"one of the {person.lower() if not first else person}"
    if first == last == 0 and person[0].isupper():
        return person  # a name: Anna
    if article == "a" and person[0].lower() in "aeiou":
        article = "an"
    return f"{article} {person}"


def whole_words(pieces: Sequence[str], vectors: Tensor) -> tuple[list[str], list[Tensor]]:
    """Pieces of words, ["falcon", "##er"], as words, each with the unit vectors (P, W) of its pieces."""
    words: list[str] = []
    rows: list[list[Tensor]] = []
    for piece, vector in zip(pieces, F.normalize(vectors, dim=1)):
        if piece.startswith("##") and words:
            words[-1] += piece[2:]
            rows[-1].append(vector)
        elif not re.fullmatch(r"\[\w+\]", piece):
            words.append(piece)
            rows.append([vector])
    return words, [torch.stack(row) for row in rows]
