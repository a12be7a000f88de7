"""Captions name actions and sides: by looking them up."""

from __future__ import annotations

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
    action, side = names_right(said, [WAVE] * 5, known)
    assert action.tolist() == [1, 1, 0, 0, 0]
    assert side.tolist() == [1, 0, 0, 0, 0]


def test_what_is_not_known_is_not_counted() -> None:
    action, side = names_right(["a person juggles", "a person squats"], [UNKNOWN, SQUAT], events_by_caption([SQUAT]))
    np.testing.assert_array_equal(action, [np.nan, 1])
    np.testing.assert_array_equal(side, [np.nan, np.nan])


def test_a_caption_that_is_false_of_its_clip_names_nothing() -> None:
    known = events_by_caption([BYE])
    said = ["a person waves bye-bye with a hand", "a person waves goodbye with both hands"]
    action, _ = names_right(said, [BYE, BYE], known)
    assert action.tolist() == [0, 1]
