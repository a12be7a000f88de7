"""An event program holds only what can be, and survives JSON."""

from __future__ import annotations

from typing import Any

import pytest

from kinalign.errors import ProgramError
from kinalign.events.program import ACTIONS, DIRECTIONS, MAX_COUNT, PARTS, SIDES, Event, EventProgram


def test_a_program_survives_json() -> None:
    program = EventProgram(
        (
            (
                Event("walk", direction="forward", style="slowly"),
                Event("wave", side="left", count="several", part="hand"),
            ),
            (Event("kick", side="right", count=2, part="foot"),),
            (Event("other:sneeze"),),
        )
    )
    assert EventProgram.from_json(program.to_json()) == program
    assert [event.action for event in program.events] == ["walk", "wave", "kick", "other:sneeze"]


def test_every_name_of_the_vocabulary_is_accepted() -> None:
    for action in ACTIONS:
        assert Event(action).to_json() == {"action": action}
    for side in SIDES:
        assert Event("wave", side=side).side == side
    for direction in DIRECTIONS:
        assert Event("walk", direction=direction).direction == direction
    for part in PARTS:
        assert Event("touch", part=part).part == part


@pytest.mark.parametrize(
    "values",
    [
        {"action": "fly"},
        {"action": "other:"},
        {"action": "other:Sneeze"},
        {"action": 3},
        {"action": "walk", "side": "middle"},
        {"action": "walk", "direction": "north"},
        {"action": "walk", "part": "tail"},
        {"action": "walk", "style": None},
        {"action": "walk", "count": 0},
        {"action": "walk", "count": MAX_COUNT + 1},
        {"action": "walk", "count": True},
        {"action": "walk", "count": 1.5},
        {"action": "walk", "count": "many"},
        {"action": "walk", "speed": "high"},
        {"side": "left"},
        "walk",
        None,
    ],
)
def test_an_event_that_cannot_be_is_refused(values: Any) -> None:
    with pytest.raises(ProgramError):
        Event.from_json(values)


@pytest.mark.parametrize(
    "steps", [[], [[]], ["walk"], {"action": "walk"}, "no json", "[", None, [[{"action": "walk"}], []]]
)
def test_a_program_that_cannot_be_is_refused(steps: Any) -> None:
    with pytest.raises(ProgramError):
        EventProgram.from_json(steps)


def test_steps_are_tuples_of_events() -> None:
    for steps in ([(Event("walk"),)], ((),), (), ((Event("walk"), "run"),)):
        with pytest.raises(ProgramError):
            EventProgram(steps)  # type: ignore[arg-type]
