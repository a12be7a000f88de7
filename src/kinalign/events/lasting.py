"""How long a text says that something lasts: "for 4 seconds", "for about six seconds"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kinalign.errors import PromptError
from kinalign.events.lexicon import load_lexicon
from kinalign.events.parse import parse
from kinalign.events.program import EventProgram

_LASTING = re.compile(
    r"\b(?:for|during|lasting)(?: (?:about|around|roughly|approximately|nearly|almost|some|exactly|another|a|the"
    r"|total|of|at|least|most|up|to))* (?P<number>\d+(?:\.\d+)?|[a-z]+)(?: |-)?(?:seconds?|secs?|s)\b"
)


def seconds_in(text: str) -> float | None:
    """The seconds that a text says first; None where it says none. It need not name an event.

    >>> seconds_in("grooving for about six seconds"), seconds_in("waves after 2 seconds"), seconds_in("runs for 2.5 s")
    (6.0, None, 2.5)
    """
    return next((seconds for _, seconds in _said(text)), None)


def seconds_of_events(text: str, program: EventProgram) -> tuple[float | None, ...]:
    """How long each of the program's events lasts by the text that it was read from; None where that is not said.

    >>> text = "he walks for 4 seconds, then kicks and waves for three seconds"
    >>> seconds_of_events(text, parse(text))
    (4.0, None, 3.0)
    """
    lasts: list[float | None] = [None] * len(program.events)
    for end, seconds in _said(text):
        try:
            before = parse(text[:end]).events
        except PromptError:  # "for 3 seconds she waves": what follows lasts so long
            before = program.events[:1]
        same = [place for place, event in enumerate(program.events) if event == before[-1]]
        lasts[same[0] if same else min(len(before), len(lasts)) - 1] = seconds
    return tuple(lasts)


def _said(text: str) -> Iterator[tuple[int, float]]:
    """Where in the text seconds have been said, and how many."""
    for found in _LASTING.finditer(text.lower()):
        number = found["number"]
        seconds = load_lexicon().numbers.get(number) if number.isalpha() else float(number)
        if seconds:
            yield found.end(), float(seconds)
