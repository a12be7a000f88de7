"""Seconds that a text says, and of which event."""

from __future__ import annotations

import pytest

from kinalign.events.lasting import seconds_in, seconds_of_events
from kinalign.events.parse import parse


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("a person walks forward for 4 seconds", 4.0),
        ("a person walks for about seven seconds", 7.0),
        ("it hums for at least 2.5 s", 2.5),
        ("For around twelve seconds, they sway.", 12.0),
        ("dancing for 1 second", 1.0),
        ("a person waves after 4 seconds", None),
        ("a person jumps every two seconds", None),
        ("a person waits for a few seconds", None),
        ("a person jumps for four steps", None),
        ("a person walks", None),
    ],
)
def test_seconds_are_read_in_figures_and_in_words(text: str, seconds: float | None) -> None:
    assert seconds_in(text) == seconds


@pytest.mark.parametrize(
    ("text", "lasts"),
    [
        ("a person walks for 4 seconds", (4.0,)),
        ("a person walks for 4 seconds and then waves", (4.0, None)),
        ("a person walks and then waves for 4 seconds", (None, 4.0)),
        ("for two seconds she waves, then she sits down", (2.0, None)),
        ("before walking for three seconds, he waves", (None, 3.0)),
        ("he walks for 4 seconds, then kicks twice and waves for two seconds", (4.0, None, 2.0)),
        ("he walks, then waves", (None, None)),
    ],
)
def test_seconds_are_those_of_the_event_that_they_are_said_of(text: str, lasts: tuple[float | None, ...]) -> None:
    assert seconds_of_events(text, parse(text)) == lasts


@pytest.mark.parametrize("text", ["a person walks{}", "a person waves the left hand{}", "he does a cartwheel{}"])
def test_seconds_change_nothing_else_of_what_is_read(text: str) -> None:
    assert parse(text.format(" for 4 seconds")) == parse(text.format(""))
