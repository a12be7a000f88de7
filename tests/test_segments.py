"""Segments of a long motion: the likeliest path, and what made-up bodies do one after the other."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from kinalign.errors import MotionError
from kinalign.evaluation.learned import EventDetector, shipped_detector
from kinalign.events.compose import Composed, Part, compose
from kinalign.events.detect import Detection
from kinalign.events.program import Event
from kinalign.motion.joining import uniform
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import KIT
from kinalign.motion.synthetic import squatting, standing, walking, waving
from kinalign.planning.segments import heard, likeliest_path, runs, scores, segments


@pytest.fixture(scope="module")
def detector() -> EventDetector:
    return shipped_detector()


@pytest.fixture(scope="module")
def story() -> Composed:
    parts = [
        (walking(60), Event("walk", direction="forward")),
        (waving(60, side="left"), Event("wave", side="left")),
        (squatting(2), Event("squat", count=2)),
        (walking(50), Event("walk", direction="forward")),
    ]
    return compose([Part(uniform(motion), event) for motion, event in parts])


def test_the_likeliest_path_is_the_best_of_all_paths() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        score, switch = rng.normal(size=(6, 3)), float(rng.uniform(0, 2))
        best = max(
            product(range(3), repeat=6),
            key=lambda path: (
                sum(score[step, state] for step, state in enumerate(path))
                - switch * sum(a != b for a, b in pairwise(path))
            ),
        )
        assert likeliest_path(score, switch=switch).tolist() == list(best)


def test_runs_cover_all_steps_and_two_in_a_row_differ() -> None:
    path = np.random.default_rng(1).integers(0, 2, 50)
    found = list(runs(path))
    assert np.concatenate([[state] * (end - start) for state, start, end in found]).tolist() == path.tolist()
    assert all(a[0] != b[0] and a[2] == b[1] for a, b in pairwise(found))


def test_of_two_actions_the_one_that_holds_the_other_is_seen() -> None:
    names = ["raise", "wave"]
    both = np.full((4, 2), 3.0)
    score = scores(both, [], names)
    assert (score.argmax(axis=1) == 1).all()
    # a wave that nobody sees takes nothing from a raised hand
    score = scores(np.array([[3.0, -3.0]] * 4), [], names)
    assert (score.argmax(axis=1) == 0).all()


def test_a_rule_counts_only_while_it_is_met() -> None:
    rule = Detection("wave", 2, 6, 1.0, "")
    assert scores(np.zeros((4, 1)), [rule], ["wave"])[:, 0].tolist() == [0, 3, 3, 0]


def test_what_happens_one_after_the_other_is_found_in_order_with_its_times(
    story: Composed, detector: EventDetector
) -> None:
    found = [one for one in segments(story.motion, detector) if one.action != "stand"]
    assert [(one.action, one.side) for one in found] == [("walk", ""), ("wave", "left"), ("squat", ""), ("walk", "")]
    assert found[2].count == 2
    ours, true = ([(a.end + b.start) / 2 for a, b in pairwise(parts)] for parts in (found, story.intervals))
    assert np.abs(np.subtract(ours, true)).max() <= 12  # 0.6 s: the network never saw made-up bodies
    assert all(former.end <= later.start for former, later in pairwise(found))


def test_in_the_mirror_sides_are_swapped(story: Composed, detector: EventDetector) -> None:
    sides = [one.side for one in segments(story.motion.mirror(), detector) if one.action == "wave"]
    assert sides == ["right"]


def test_the_frame_rate_does_not_matter(story: Composed, detector: EventDetector) -> None:
    slow = [one.action for one in segments(story.motion, detector)]
    assert [one.action for one in segments(story.motion.resample(60), detector)] == slow


def test_who_once_was_too_deep_does_not_hover_ever_after(story: Composed, detector: EventDetector) -> None:
    stood = uniform(standing(100))
    deep = replace(stood, joints=stood.joints - np.array([0, 0.15, 0], np.float32))
    whole = Motion.concatenate([deep, stood, story.motion])
    later = [one.action for one in segments(whole, detector) if one.start >= 200 and one.action != "stand"]
    assert later == ["walk", "wave", "squat", "walk"]


def test_what_is_read_in_windows_is_what_is_read_at_once_on_one_floor(story: Composed, detector: EventDetector) -> None:
    at_once = detector(detector.steps(story.motion)[None])
    in_windows = heard(story.motion, detector)
    assert in_windows.actions.shape == at_once.actions[0].shape
    # bones and heading are those of a window's own first frame
    agree = (in_windows.actions > 0) == (at_once.actions[0] > 0)
    assert agree.float().mean() > 0.95


def test_who_stands_for_long_is_said_to_stand(detector: EventDetector) -> None:
    assert [one.action for one in segments(standing(80), detector)] == ["stand"]


def test_left_and_right_in_turn_are_two_segments(detector: EventDetector) -> None:
    left, right = uniform(waving(60, side="left")), uniform(waving(60, side="right"))
    both = compose([Part(left, Event("wave")), Part(right, Event("wave"))])
    found = [one for one in segments(both.motion, detector) if one.action == "wave"]
    assert [one.side for one in found] == ["left", "right"]


def test_a_motion_too_short_or_of_another_skeleton_is_refused(detector: EventDetector) -> None:
    with pytest.raises(MotionError, match=r"0\.45 s shows nothing; give 0\.5 s"):
        segments(walking(9), detector)
    kit = Motion(np.zeros((40, KIT.num_joints, 3)), skeleton=KIT)
    with pytest.raises(MotionError, match="on skeleton 'humanml3d'; this motion has 'kit'"):
        segments(kit, detector)
    joints = walking(40).joints.copy()
    joints[3, 4] = np.nan
    with pytest.raises(MotionError, match="frame 3 of 40 holds NaN"):
        replace(walking(40), joints=joints)
