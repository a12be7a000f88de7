"""Feet that stand keep their places; all else is as it was: laws on made-up motions, and on real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from kinalign.data.records import Clip
from kinalign.errors import MotionError
from kinalign.motion.grounding import grounded
from kinalign.motion.joining import smooth_step, uniform
from kinalign.motion.legs import legs_of
from kinalign.motion.motion import Motion
from kinalign.motion.physics import foot_skating, jitter, peak_jerk
from kinalign.motion.planting import planted, settled
from kinalign.motion.rotations import axis_angle_to_quaternion, quaternion_rotate
from kinalign.motion.skeleton import HUMANML3D, KIT
from kinalign.motion.synthetic import jumping, squatting, standing, walking

LEFT, RIGHT = legs_of(HUMANML3D)


def pushed(motion: Motion, m_s: float) -> Motion:
    """The motion that slides to its left as a whole."""
    way = np.arange(len(motion))[:, None, None] / motion.fps * np.array([m_s, 0.0, 0.0])
    return replace(motion, joints=motion.joints + way)


def trembling(motion: Motion, metres: float = 0.004) -> Motion:
    noise = np.random.default_rng(0).normal(scale=metres, size=(len(motion), 1, 3)) * np.array([1.0, 0.0, 1.0])
    return replace(motion, joints=motion.joints + noise)


def turned(motion: Motion, axis_angle: list[float]) -> Motion:
    return replace(motion, joints=quaternion_rotate(axis_angle_to_quaternion(np.array(axis_angle)), motion.joints))


def apart(motion: Motion, other: Motion) -> float:
    """Mean distance of joints in metres."""
    return float(np.linalg.norm(motion.joints.astype(float) - other.joints, axis=-1).mean())


def standing_speed(motion: Motion, before: Motion) -> float:
    """Mean speed of toes over the floor in m/s while they are slow in the motion before."""
    toes = [leg.toe for leg in legs_of(motion.skeleton)]
    speeds = [np.linalg.norm(np.diff(one.joints[:, toes], axis=0), axis=-1) for one in (motion, before)]
    return float(speeds[0][speeds[1] * before.fps < 0.3].mean()) * motion.fps


def bones(motion: Motion) -> np.ndarray:
    return np.linalg.norm(motion.joints[:, 1:] - motion.joints[:, list(motion.skeleton.parents[1:])], axis=-1)


def as_kit(motion: Motion) -> Motion:
    """The motion on KIT's 21 joints, with heels behind the ankles."""
    theirs = [HUMANML3D.index(name.replace("heel", "ankle")) for name in KIT.joint_names]
    joints = motion.joints[:, theirs]
    for leg in legs_of(KIT):
        joints[:, leg.foot[0]] += 0.3 * (joints[:, leg.ankle] - joints[:, leg.toe]) - np.array([0.0, 0.03, 0.0])
    return Motion(joints, fps=motion.fps, skeleton=KIT)


SLIDING = {
    "who stands": pushed(standing(80), 0.2),
    "who trembles": trembling(pushed(standing(80), 0.1)),
    "who walks": pushed(walking(100), 0.25),
    "who squats": pushed(squatting(2), 0.15),
}


@pytest.mark.parametrize("motion", SLIDING.values(), ids=SLIDING)
def test_feet_that_stand_slide_no_more_and_nothing_jerks(motion: Motion) -> None:
    still = planted(motion)
    # of short stances the first and the last steps are held weakly
    assert standing_speed(still, motion) < 0.5 * standing_speed(motion, motion)
    assert jitter(still) < jitter(motion) + 1 and peak_jerk(still) < 1.1 * peak_jerk(motion) + 30


@pytest.mark.parametrize("motion", SLIDING.values(), ids=SLIDING)
def test_bones_keep_their_lengths(motion: Motion) -> None:
    assert bones(planted(motion)) == pytest.approx(bones(motion), abs=1e-5)


@pytest.mark.parametrize("motion", SLIDING.values(), ids=SLIDING)
def test_planted_feet_stay_where_they_are(motion: Motion) -> None:
    once = planted(motion)
    assert apart(planted(once), once) < 1e-3 < apart(once, motion)


@pytest.mark.parametrize("motion", SLIDING.values(), ids=SLIDING)
def test_it_does_not_matter_where_a_motion_is_how_it_faces_and_that_it_is_mirrored(motion: Motion) -> None:
    moved = turned(motion, [0.0, 1.0, 0.0])
    moved = replace(moved, joints=moved.joints + np.array([2.0, 0.5, -3.0]))
    answer = turned(planted(motion), [0.0, 1.0, 0.0]).joints + np.array([2.0, 0.5, -3.0])
    assert planted(moved).joints == pytest.approx(answer, abs=2e-4)
    assert planted(motion.mirror()).joints == pytest.approx(planted(motion).mirror().joints, abs=2e-4)


def test_who_stands_still_is_left_alone() -> None:
    assert planted(standing(60)).joints == pytest.approx(standing(60).joints, abs=1e-5)


def test_what_stands_on_no_foot_is_returned_as_it_is() -> None:
    lying = pushed(turned(standing(60), [np.pi / 2, 0.0, 0.0]), 0.1).on_floor()
    head_down = pushed(turned(standing(60), [np.pi, 0.0, 0.0]), 0.1).on_floor()
    fast = pushed(standing(60), 2.0)
    for motion in (lying, head_down, fast):
        assert planted(motion) is motion


def test_in_flight_legs_are_as_they_were() -> None:
    motion = pushed(jumping(2, height_m=0.3), 0.2)
    still = planted(motion)
    assert foot_skating(still) < 0.5 * foot_skating(motion)
    lowest = motion.joints[..., 1].min(axis=1)
    assert still.joints[..., 1].min(axis=1) == pytest.approx(lowest, abs=0.005)
    legs = [joint for leg in (LEFT, RIGHT) for joint in (leg.knee, leg.ankle, leg.toe)]
    seen = [(one.joints[:, legs] - one.joints[:, :1])[lowest > 0.2] for one in (still, motion)]
    assert len(seen[0]) > 2 and np.abs(seen[0] - seen[1]).max() < 0.025


def test_a_foot_may_turn_on_its_toe() -> None:
    motion = standing(60)
    toe = motion.joints[:, [LEFT.toe]]
    angles = (
        3 * smooth_step(np.clip(np.arange(len(motion)) / 24 - 0.75, 0, 1))[:, None, None] * np.array([0.0, 1.0, 0.0])
    )
    joints = toe + quaternion_rotate(axis_angle_to_quaternion(angles), motion.joints - toe)
    still = planted(replace(motion, joints=joints)).joints
    assert np.abs(still[:, LEFT.toe] - toe[:, 0]).max() < 0.01
    assert np.linalg.norm(still[-1, LEFT.ankle] - still[0, LEFT.ankle]) > 0.05


def test_frames_that_are_kept_stay_as_they_are() -> None:
    motion = SLIDING["who stands"]
    still = planted(motion, keep=[slice(0, 20)])
    assert np.array_equal(still.joints[:20], motion.joints[:20])
    after = still.joints[25:, LEFT.toe]
    assert np.linalg.norm(after - after[0], axis=-1).max() < 0.01
    assert peak_jerk(still) < 300  # straight legs bend a little
    # who stands from one end to the other and is kept at both cannot stand still
    both = planted(motion, keep=[slice(0, 20), slice(-5, None)])
    assert both.joints == pytest.approx(motion.joints, abs=1e-3)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4])
def test_the_shortest_motions_are_taken(num_frames: int) -> None:
    for motion in (walking(60)[:num_frames], SLIDING["who stands"][:num_frames]):
        assert len(planted(motion)) == num_frames and apart(planted(motion), motion) < 0.02


@pytest.mark.parametrize("fps", [12.5, 60.0])
def test_other_skeletons_and_frame_rates_are_planted_too(fps: float) -> None:
    motion = as_kit(pushed(walking(100), 0.25)).resample(fps)
    assert standing_speed(planted(motion), motion) < 0.6 * standing_speed(motion, motion)
    assert bones(planted(motion)) == pytest.approx(bones(motion), abs=1e-4)


def test_a_skeleton_without_legs_is_refused() -> None:
    legless = replace(HUMANML3D, name="legless", left_foot=(20, 21))
    with pytest.raises(MotionError, match="'legless' has no chain from its left hip"):
        planted(replace(standing(20), skeleton=legless))


def test_who_hovers_and_slides_is_set_on_the_floor_and_stands() -> None:
    hovering = SLIDING["who stands"]
    hovering = replace(hovering, joints=hovering.joints + np.array([0.0, 0.08, 0.0]))
    assert settled(hovering).joints == pytest.approx(planted(SLIDING["who stands"]).joints, abs=1e-4)


def test_real_motions_hardly_change(openmocap: Callable[[str], list[Clip]]) -> None:
    clips = [clip for clip in openmocap("val") if "walk" in clip.motion.caption and len(clip.motion) > 20]
    real = [uniform(clip.motion) for clip in clips]
    still = [planted(motion) for motion in real]
    assert np.median([apart(*pair) for pair in zip(still, real)]) < 0.01
    assert np.median([apart(planted(motion), motion) for motion in still]) < 1e-3
    assert np.mean([*map(foot_skating, still)]) < np.mean([*map(foot_skating, real)])
    assert np.mean([*map(jitter, still)]) < 1.01 * np.mean([*map(jitter, real)])
    assert np.quantile([peak_jerk(a) / peak_jerk(b) for a, b in zip(still, real)], 0.9) < 1.1


def test_real_motions_that_are_pushed_stand_again(openmocap: Callable[[str], list[Clip]]) -> None:
    real = [grounded(uniform(clip.motion)) for clip in openmocap("val")[::10] if len(clip.motion) > 20]
    slides = [pushed(motion, 0.2) for motion in real]
    excess = [foot_skating(slid) - foot_skating(motion) for slid, motion in zip(slides, real)]
    left = [foot_skating(planted(slid)) - foot_skating(motion) for slid, motion in zip(slides, real)]
    assert np.mean(excess) > 0.1 and np.mean(left) < 0.3 * np.mean(excess)
