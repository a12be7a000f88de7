"""What a mirrored motion is called: left and right, clockwise and counterclockwise change places in its words.

Words that only look like a side stay: upright and bright, "right away", "all right", "rights himself", and left as the
past of leave ("he left the room", "is left standing").
"""

from __future__ import annotations

import re

_SUBJECT = "he|she|it|they|we|you|who|person|man|woman|people|figure|someone|somebody|guy|girl|boy|individual|character"
_HAVE = "has|have|had"
_KEPT = "|".join(
    (
        # he left the room, a person who has left, he is left standing
        rf"\b(?:{_HAVE}|(?:{_SUBJECT})(?: (?:{_HAVE}|just|then))?) left(?= (?:the|a|an|his|her|their|this|that)\b)",
        rf"\b(?:{_SUBJECT}) (?:{_HAVE}) left(?=[.,;!?]|$)",
        r"\b(?:is|are|was|were|be|been|being|gets) left(?= (?:\w+ing|alone|behind)\b)",
        r"\bright(?= away\b)|\ball right\b|\b(?:right|left)s(?= (?:him|her|it|them|one)sel(?:f|ves)\b)",
    )
)
_SIDE = r"(?P<side>left|right)(?=(?:s|y|most|wards?|side|sided|hand|handed|hander|foot|footed|arm|leg)?\b)"
_TURN = r"(?P<against>(?:counter|anti)[- ]?)?clock[- ]?wise"
_WORDS = re.compile(rf"(?P<kept>{_KEPT})|\b(?:{_SIDE}|(?P<an>an) (?=anti[- ]?clock)|(?P<turn>{_TURN}))", re.IGNORECASE)


def mirror_caption(text: str) -> str:
    """The caption of the mirrored motion, in the same case. Mirrored twice it is itself, but for one spelling:

    anticlockwise and counter-clockwise come back as counterclockwise.

    >>> mirror_caption("He left the room and turns Left, counter-clockwise.")
    'He left the room and turns Right, clockwise.'
    """
    return _WORDS.sub(_mirrored, text)


def mirror_label(label: str) -> str:
    """A source's own name of the mirrored motion: walk-turn-left, jogLeftCircle and HDM05's kickLFront1Reps.

    >>> mirror_label("kickLFront1Reps")
    'kickRFront1Reps'
    """
    label = re.sub(r"(?<![A-Za-z])(?:left|right)(?![a-z])|Left|Right", lambda word: _other_side(word[0]), label)
    # a lone L or R after a small letter, before the next word or what HDM05 says moves first
    letter = r"(?<=[a-z])[LR](?=[A-Z0-9]|$|start|elbow|foot|hand|leg|arm)"
    return re.sub(letter, lambda side: "R" if side[0] == "L" else "L", label)


def _mirrored(match: re.Match[str]) -> str:
    if match["side"]:
        return _other_side(match["side"])
    if match["turn"]:
        return _in_case_of("clockwise" if match["against"] else "counterclockwise", match["turn"])
    if match["an"]:  # an anticlockwise circle becomes a clockwise one
        return _in_case_of("a ", match["an"][0])
    return match[0]


def _other_side(side: str) -> str:
    return _in_case_of("right" if side.lower() == "left" else "left", side)


def _in_case_of(word: str, model: str) -> str:
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word
