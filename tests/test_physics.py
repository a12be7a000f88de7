"""Motions whose skating, floating and jerk are known by construction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import uniform_filter1d

from kinalign.data.records import Clip
from kinalign.errors import MotionError
from kinalign.motion.motion import Motion
from kinalign.motion.physics import (
    floating,
    foot_skating,
    foot_skating_ratio,
    foot_stillness,
    jitter,
    peak_jerk,
    penetration,
)
from kinalign.motion.rotations import axis_angle_to_quaternion, quaternion_rotate
from kinalign.motion.skeleton import KIT
from kinalign.motion.synthetic import jumping, walking, waving

FPS = 20.0


def still(num_frames: int = 40, *, fps: float = FPS) -> Motion:
    """One standing pose, its lowest joint on the floor."""
    return Motion(np.repeat(waving().joints[:1], num_frames, axis=0), fps=fps)


def moved(motion: Motion, offset: np.ndarray) -> Motion:
    """Each frame moved as a whole; offset is (3,) or (T, 3) metres."""
    joints = motion.joints + np.broadcast_to(offset, (len(motion), 3))[:, None]
    return Motion(joints, fps=motion.fps, skeleton=motion.skeleton)


def gliding(speed_m_s: float, *, fps: float = FPS, num_frames: int = 40) -> Motion:
    """A standing pose pushed along x over the floor."""
    path = np.zeros((num_frames, 3))
    path[:, 0] = np.arange(num_frames) * speed_m_s / fps
    return moved(still(num_frames, fps=fps), path)


def turned(motion: Motion, angle: float) -> Motion:
    return Motion(quaternion_rotate(axis_angle_to_quaternion(np.array([0, angle, 0])), motion.joints), fps=motion.fps)


# --- Skating


def test_who_stands_still_does_not_skate() -> None:
    assert foot_skating(still()) == 0
    assert foot_skating_ratio(still()) == 0


@pytest.mark.parametrize("fps", [12.5, 20.0, 60.0])
def test_who_glides_skates_at_that_speed(fps: float) -> None:
    assert foot_skating(gliding(0.8, fps=fps)) == pytest.approx(0.8, abs=1e-3)  # float32 positions, times fps


def test_who_creeps_does_not_stand_still() -> None:
    assert foot_stillness(still()) == foot_stillness(gliding(0.04)) == 1
    assert foot_stillness(gliding(0.1)) == foot_stillness(moved(still(), np.array([0, 0.2, 0]))) == 0


def test_feet_in_the_air_do_not_skate() -> None:
    flying = moved(gliding(2.0), np.array([0, 0.2, 0]))
    assert foot_skating(flying) == 0
    assert foot_skating_ratio(flying) == 0


def test_only_steps_with_both_frames_on_the_floor_count() -> None:
    motion = gliding(1.0, num_frames=10)
    lifted = np.zeros((10, 3))
    lifted[5:, 1] = 0.5
    height = moved(motion, lifted)
    assert foot_skating(height) == pytest.approx(1.0, abs=1e-3)
    assert foot_skating_ratio(height) == pytest.approx(4 / 9)


def test_the_skating_ratio_is_the_published_number(rng: np.random.Generator) -> None:
    joints = np.zeros((60, 22, 3))
    joints[:, :, 0] = np.cumsum(rng.exponential(0.025, size=(60, 22)), axis=0)
    joints[:, :, 1] = rng.uniform(0, 0.07, size=(60, 22))
    toes = joints[:, [10, 11]]
    # OmniControl's procedure, with scipy's filter for the mean over 5 steps
    speed = np.linalg.norm(toes[1:][..., [0, 2]] - toes[:-1][..., [0, 2]], axis=-1) * 20
    mean = uniform_filter1d(speed, size=5, axis=0, mode="constant")
    down = (toes[:-1, :, 1] < 0.05) & (toes[1:, :, 1] < 0.05)
    expected = (down & (speed > 0.5) & (mean > 0.5)).any(axis=1).sum() / 59
    assert 0.1 < expected < 0.9
    assert foot_skating_ratio(Motion(joints)) == pytest.approx(expected)


def test_kits_toes_are_looked_at_on_kits_skeleton() -> None:
    joints = np.ones((30, 21, 3))
    joints[:, KIT.joint_names.index("left_foot")] = 0
    joints[:, KIT.joint_names.index("left_foot"), 2] = np.arange(30) * 0.1
    assert foot_skating(Motion(joints, fps=12.5, skeleton=KIT)) == pytest.approx(1.25, abs=1e-4)
    assert foot_skating_ratio(Motion(joints, fps=12.5, skeleton=KIT)) > 0.9


def test_a_walk_whose_feet_stick_skates_less_than_one_that_is_pushed() -> None:
    walk = walking(80)
    pushed = moved(walk, np.arange(80)[:, None] / FPS * np.array([0.0, 0.0, 0.7]))
    assert foot_skating(pushed) > foot_skating(walk) + 0.3
    assert foot_skating_ratio(pushed) > foot_skating_ratio(walk)


# --- The floor


def test_who_stands_on_the_floor_neither_floats_nor_sinks() -> None:
    assert floating(still()) == penetration(still()) == 0
    assert floating(walking()) == penetration(walking()) == 0


@pytest.mark.parametrize("lift_m", [0.01, 0.1, 1.0])
def test_a_motion_lifted_by_some_height_floats_at_that_height_and_lowered_sinks(lift_m: float) -> None:
    up, down = (moved(waving(), np.array([0, sign * lift_m, 0])) for sign in (1, -1))
    assert floating(up) == pytest.approx(lift_m, abs=1e-6)
    assert penetration(down) == pytest.approx(lift_m, abs=1e-6)
    assert penetration(up) == floating(down) == 0


def test_five_millimetres_are_forgiven() -> None:
    for offset in (0.004, -0.004):
        near = moved(still(), np.array([0, offset, 0]))
        assert floating(near) == penetration(near) == 0


def test_a_quarter_of_the_frames_in_the_air_floats_a_quarter_as_much() -> None:
    lift = np.zeros((40, 3))
    lift[:10, 1] = 0.2
    assert floating(moved(still(), lift)) == pytest.approx(0.05)


def test_a_jump_floats() -> None:
    assert floating(jumping(2, height_m=0.3)) > 0.01


# --- Jerk


def cubic(num_frames: int = 30, *, fps: float = FPS, third_derivative: float = 6.0) -> Motion:
    """A pose that moves along x with a constant jerk, in m/s³."""
    time = np.arange(num_frames) / fps
    return moved(still(num_frames, fps=fps), np.stack([third_derivative / 6 * time**3, 0 * time, 0 * time], axis=1))


@pytest.mark.parametrize("fps", [12.5, 20.0])
def test_jerk_of_a_cubic_is_its_third_derivative_at_any_frame_rate(fps: float) -> None:
    # float32 positions of a metre or so are known to 1e-7, the difference of four times fps³ to 5e-3
    assert jitter(cubic(fps=fps)) == pytest.approx(6.0, abs=0.02)
    assert peak_jerk(cubic(fps=fps)) == pytest.approx(6.0, abs=0.05)


def test_steady_movement_has_no_jerk() -> None:
    assert jitter(gliding(1.0)) == pytest.approx(0, abs=0.02)
    assert peak_jerk(still()) == 0


def test_jerk_is_the_same_however_the_body_is_turned() -> None:
    walk = walking()
    assert peak_jerk(turned(walk, 0.7)) == pytest.approx(peak_jerk(walk), rel=1e-3)
    assert jitter(turned(walk, 0.7)) == pytest.approx(jitter(walk), rel=1e-3)


def jumping_cut(at: int, *, num_frames: int = 60, by_m: float = 0.1) -> Motion:
    """A pose that is moved at once by some way from one frame on: third differences d, -2d, d around the cut."""
    path = np.zeros((num_frames, 3))
    path[at:, 0] = by_m
    return moved(still(num_frames), path)


def test_a_cut_has_a_peak_of_twice_its_way_per_frame_cubed() -> None:
    assert peak_jerk(jumping_cut(30)) == pytest.approx(2 * 0.1 * FPS**3, rel=1e-4)


def test_a_join_is_looked_at_on_both_sides_and_no_further() -> None:
    cut = jumping_cut(30)
    peak = peak_jerk(cut)
    for join in (30, 27, 33):
        assert peak_jerk(cut, joins=[join]) == pytest.approx(peak)
    for join in (20, 40):
        assert peak_jerk(cut, joins=[join]) == 0
    assert peak_jerk(cut, joins=[10, 30]) == pytest.approx(peak)


@pytest.mark.parametrize("at", [1, 2, 58, 59])
def test_joins_near_the_ends_are_seen(at: int) -> None:
    assert peak_jerk(jumping_cut(at), joins=[at]) >= 0.1 * FPS**3 * 0.999


def test_one_joint_that_jumps_is_enough() -> None:
    joints = still().joints.copy()
    joints[20:, 15, 2] += 0.05
    assert peak_jerk(Motion(joints)) == pytest.approx(2 * 0.05 * FPS**3, rel=1e-4)
    assert jitter(Motion(joints)) < peak_jerk(Motion(joints)) / 100


# --- Bad input, and real people


def test_too_few_frames_are_refused() -> None:
    for measure in (foot_skating, foot_skating_ratio):
        with pytest.raises(MotionError, match="at least 2 frames; this motion has 1"):
            measure(still(1))
    for measure in (jitter, peak_jerk):
        with pytest.raises(MotionError, match="at least 4 frames; this motion has 3"):
            measure(still(3))


@pytest.mark.parametrize("join", [0, -1, 40])
def test_a_join_with_nothing_on_one_side_is_refused(join: int) -> None:
    with pytest.raises(MotionError, match=rf"joins \[{join}\] join nothing; in 40 frames give some of 1 to 39"):
        peak_jerk(still(), joins=[20, join])
    with pytest.raises(MotionError, match="join nothing"):
        peak_jerk(still(), joins=[])


def test_real_people_skate_float_and_sink_little(openmocap: Callable[[str], list[Clip]]) -> None:
    motions = [clip.motion for clip in openmocap("val") if clip.source == "CMU"][:20]
    assert np.median([foot_skating_ratio(motion) for motion in motions]) < 0.1
    assert np.median([floating(motion.on_floor()) for motion in motions]) < 0.05
    assert max(penetration(motion.on_floor()) for motion in motions) == 0


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
