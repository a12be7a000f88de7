"""Captions name actions and sides: by looking them up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kinalign.data.records import Clip
from kinalign.evaluation.naming import events_by_caption, names_right
from kinalign.motion.synthetic import walking

WAVE = Clip("w", walking(), ("a person waves the left hand",), "Bandai2", "", "train", label="wave-left-hand")
SQUAT = Clip("s", walking(), ("a person squats",), "HDM05", "", "train", label="squat1Reps")
BYE = Clip("b", walking(), ("a person waves bye-bye with a hand",), "Bandai1", "", "train", label="byebye")
UNKNOWN = Clip("u", walking(), ("a person juggles",), "mine", "", "train", label="juggling")


def test_a_caption_of_the_same_action_names_it_and_its_mirror_image_the_other_side() -> None:
    known = events_by_caption([WAVE, SQUAT])
    said = [
        "A person waves the left hand.",
        "a person waves the right hand",
        "a person squats",
        "",
        "he waves his left",
    ]
    right = names_right(said, [WAVE] * 5, known)
    assert right.action.tolist() == [1, 1, 0, 0, 0]
    assert right.side.tolist() == right.both.tolist() == [1, 0, 0, 0, 0]


def test_the_side_of_another_action_is_the_right_side_and_not_the_right_event() -> None:
    lifted = replace(WAVE, captions=("a person raises the left hand",), label="raise-up-left-hand")
    right = names_right(["a person raises the left hand"], [WAVE], events_by_caption([WAVE, lifted]))
    assert (right.action[0], right.side[0], right.both[0]) == (0, 1, 0)


def test_what_is_not_known_is_not_counted() -> None:
    action, side, both = names_right(
        ["a person juggles", "a person squats"], [UNKNOWN, SQUAT], events_by_caption([SQUAT])
    )
    np.testing.assert_array_equal(action, [np.nan, 1])
    np.testing.assert_array_equal(side, [np.nan, np.nan])
    np.testing.assert_array_equal(both, [np.nan, np.nan])


def test_a_caption_that_is_false_of_its_clip_names_nothing() -> None:
    known = events_by_caption([BYE])
    said = ["a person waves bye-bye with a hand", "a person waves goodbye with both hands"]
    assert names_right(said, [BYE, BYE], known).action.tolist() == [0, 1]
