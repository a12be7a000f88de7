"""Motions joined without a jump."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinalign.errors import MotionError
from kinalign.motion.joining import bend, fade, lay_onto, smooth_step, through
from kinalign.motion.motion import Motion
from kinalign.motion.physics import peak_jerk
from kinalign.motion.rotations import axis_angle_to_quaternion, quaternion_rotate
from kinalign.motion.synthetic import walking


def moved(motion: Motion, angle: float, shift: tuple[float, float]) -> Motion:
    turn = axis_angle_to_quaternion(np.array([0, angle, 0]))
    return replace(motion, joints=quaternion_rotate(turn, motion.joints) + np.array([shift[0], 0, shift[1]]))


@given(st.floats(-3.1, 3.1), st.floats(-5, 5), st.floats(-5, 5))
def test_a_motion_laid_onto_its_moved_self_is_its_moved_self(angle: float, x: float, z: float) -> None:
    motion = walking(40)
    there = moved(motion, angle, (x, z))
    back = lay_onto(motion, slice(10, 20), there, slice(10, 20))
    assert np.abs(back.joints - there.joints).max() < 1e-4


def test_laying_onto_moves_nothing_up_or_down() -> None:
    motion, target = walking(40), replace(walking(40), joints=walking(40).joints + np.array([0, 0.5, 0]))
    assert np.array_equal(lay_onto(motion, slice(5), target, slice(5)).joints[..., 1], motion.joints[..., 1])


def test_no_other_turn_or_shift_lies_nearer() -> None:
    rng = np.random.default_rng(0)
    motion, target = walking(30), moved(walking(30)[:30], 0.7, (1, 2))
    target = replace(target, joints=target.joints + rng.normal(0, 0.05, target.joints.shape))
    laid = lay_onto(motion, slice(30), target, slice(30))
    best = np.square(laid.joints - target.joints).sum()
    for _ in range(20):
        other = moved(laid, rng.normal(0, 0.02), tuple(rng.normal(0, 0.02, 2)))
        assert np.square(other.joints - target.joints).sum() >= best


def test_a_fade_begins_as_the_first_and_ends_as_the_second() -> None:
    motion = walking(60)
    other = replace(motion, joints=motion.joints + np.array([0, 0, 0.05]))
    faded = fade(motion[:40], other[30:], 10)
    assert len(faded) == 60
    assert np.array_equal(faded.joints[:30], motion.joints[:30])
    assert np.abs(faded.joints[40:] - other.joints[40:]).max() < 1e-5
    forward = (faded.joints - motion.joints)[30:40, 0, 2]
    assert (np.diff(forward) > 0).all() and 0 < forward[0] < forward[-1] < 0.05


def test_a_motion_faded_into_itself_stays_as_it_is() -> None:
    motion = walking(60)
    assert np.abs(fade(motion[:40], motion[30:], 10).joints - motion.joints).max() < 1e-5


def test_a_fade_jerks_less_than_a_cut() -> None:
    motion = walking(60)
    other = replace(motion, joints=motion.joints + np.array([0.05, 0, 0]))

    def peak(joints: np.ndarray) -> float:  # of what the join adds to the walk
        return float(np.linalg.norm(np.diff(joints - motion.joints, 3, axis=0), axis=-1).max())

    cut = Motion.concatenate([motion[:40], other[40:]])
    assert peak(fade(motion[:40], other[28:], 12).joints) < 0.1 * peak(cut.joints)


def test_a_fade_keeps_the_bones_of_the_first() -> None:
    motion = walking(60)
    longer = replace(motion, joints=motion.joints * 1.1)
    faded = fade(motion[:40], longer[30:], 10)
    parents = motion.skeleton.parents
    lengths = np.linalg.norm(faded.joints[:, 1:] - faded.joints[:, parents[1:]], axis=-1)
    assert np.abs(lengths - lengths[0]).max() < 1e-4


@given(st.floats(-2.5, 2.5), st.floats(-2, 2), st.floats(-2, 2))
def test_a_bent_motion_begins_where_it_was_and_ends_on_its_target(angle: float, x: float, z: float) -> None:
    motion = walking(60)
    there = moved(motion, angle, (x, z))
    bent = bend(motion, slice(40, 60), there, slice(40, 60), over=slice(20, 40))
    assert np.abs(bent.joints[:20] - motion.joints[:20]).max() < 1e-5
    assert np.abs(bent.joints[40:] - there.joints[40:]).max() < 1e-4
    assert np.array_equal(bent.joints[..., 1], motion.joints[..., 1])


KEYS = [slice(0, 4), slice(20, 24), slice(36, 40)]


@given(st.floats(-3.1, 3.1), st.floats(-5, 5), st.floats(-5, 5))
def test_a_motion_led_through_its_moved_self_is_its_moved_self(angle: float, x: float, z: float) -> None:
    motion = walking(40)
    there = moved(motion, angle, (x, z))
    assert np.abs(through(motion, KEYS, there, reach=8).joints - there.joints).max() < 1e-4


def test_a_motion_is_led_through_the_keys_of_another_and_jerks_there_as_little_as_both() -> None:
    motion, target = walking(40), moved(walking(48)[8:], 0.6, (1.0, -2.0))
    target = replace(target, joints=target.joints + 0.2 * np.linspace(0, 1, 40)[:, None, None] * np.array([1, 0, 0]))
    led = through(motion, KEYS, target, reach=8)
    for key in KEYS:
        assert np.array_equal(led.joints[key], target.joints[key].astype(led.joints.dtype))
    joins = [4, 20, 24, 36]
    assert peak_jerk(led, joins=joins) < 2.5 * max(peak_jerk(motion, joins=joins), peak_jerk(target, joins=joins))
    cut = motion.joints.copy()
    for key in KEYS:
        cut[key] = target.joints[key]
    assert peak_jerk(led, joins=joins) < 0.2 * peak_jerk(replace(motion, joints=cut), joins=joins)


def test_a_motion_led_through_one_key_is_laid_onto_it_with_its_bones() -> None:
    motion, target = walking(40), moved(walking(40), 1.0, (2, 1))
    led = through(motion, [slice(16, 20)], target, reach=8)
    assert np.abs(led.joints - target.joints).max() < 1e-4
    with pytest.raises(MotionError, match="one key or more"):
        through(motion, [], target, reach=8)


def test_a_step_is_smooth_at_both_ends() -> None:
    assert np.array_equal(smooth_step([0, 0.5, 1]), [0, 0.5, 1])
    near = smooth_step([1e-3, 1 - 1e-3])
    assert near[0] < 1e-7
    assert 1 - near[1] < 1e-7


@pytest.mark.parametrize("overlap", [0, 31, -1])
def test_an_overlap_that_cannot_be_is_refused(overlap: int) -> None:
    with pytest.raises(MotionError, match=f"overlap={overlap} must be from 1 to the shorter motion's 30 frames"):
        fade(walking(40), walking(30), overlap)


def test_other_frames_are_refused() -> None:
    with pytest.raises(MotionError, match=r"cannot be laid onto"):
        lay_onto(walking(40), slice(5), walking(40), slice(6))
    with pytest.raises(MotionError, match=r"cannot fade from .* 20\.0 fps to .* 30"):
        fade(walking(40), replace(walking(40), fps=30.0), 4)
