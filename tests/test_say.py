"""Programs are said in words that say the same when they are read again."""

from __future__ import annotations

import random

import pytest

from kinalign.events.parse import parse
from kinalign.events.program import ACTIONS, Event, EventProgram
from kinalign.events.say import plain, say, wordings


def meaning(program: EventProgram) -> list[list[tuple[str, str, str, object]]]:
    """What must survive being said and read: not the part that words may add, nor the order within a step."""
    return [sorted((e.action, e.side, e.direction, str(e.count)) for e in step) for step in program.steps]


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_every_action_is_said_so_that_it_is_read_again(action: str) -> None:
    for seed in range(12):
        program = EventProgram(((Event(action),),))
        text = say(program, seed)
        assert [event.action for event in parse(text).events] == [action], text


COUNTED = "walk jump hop step squat kick punch wave clap jumping_jack push_up lunge turn nod stomp bow".split()


@pytest.mark.parametrize("action", COUNTED)
def test_counts_are_said_so_that_they_are_read_again(action: str) -> None:
    for seed in range(12):
        for count in (1, 2, 3, 7, 25, "several"):
            program = EventProgram(((Event(action, count=count),),))  # type: ignore[arg-type]
            text = say(program, seed)
            assert [event.count for event in parse(text).events] == [count], text


SIDED = "wave raise lower punch throw catch swing kick raise_leg raise_knee hop extend rotate_arm touch".split()


@pytest.mark.parametrize("action", SIDED)
@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_sides_are_said_so_that_they_are_read_again(action: str, side: str) -> None:
    for seed in range(12):
        program = EventProgram(((Event(action, side=side),),))
        text = say(program, seed)
        assert meaning(parse(text)) == meaning(program), text


def test_order_is_said_so_that_it_is_read_again() -> None:
    rng = random.Random(0)
    ways = ["forward", "backward", "left", "right", "clockwise", "in_place", "circle"]
    pool = [Event(action, direction=way) for action in ("walk", "run", "jog") for way in ways]
    pool += [Event(action, count=count) for action in ("jump", "squat", "clap") for count in (None, 2, 5)]
    limbs = (("wave", "hand"), ("kick", "leg"), ("raise", "arm"))
    pool += [Event(action, side=side, part=part) for action, part in limbs for side in ("left", "right", "both")]
    pool += [Event("turn", direction=way) for way in ("left", "right", "around")]
    for seed in range(400):
        steps = [(event,) for event in rng.sample(pool, rng.randint(1, 5))]
        if rng.random() < 0.3:
            steps[0] = (Event("walk", direction="forward"), Event("wave", side="left", part="hand"))
        program = EventProgram(tuple(steps))
        text = say(program, seed)
        assert meaning(parse(text)) == meaning(program), text


def test_one_seed_says_one_text_and_many_seeds_say_many() -> None:
    program = parse("a person walks forward and then kicks twice with the right leg")
    assert say(program, 7) == say(program, 7)
    texts = wordings(program, 20)
    assert len(set(texts)) == 20
    assert wordings(program, 20) == texts


@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_plain_words_are_always_the_same_and_read_again(action: str) -> None:
    program = EventProgram(((Event(action),), (Event("walk", direction="backward"),)))
    text = plain(program)
    assert text.startswith("A person ") and text.endswith(", then walks backward.") and text == plain(program)
    assert [event.action for event in parse(text).events] == [action, "walk"]
