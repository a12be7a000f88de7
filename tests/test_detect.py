"""Events that are seen in joints: counts, sides, laws of symmetry and scale, and silence where nothing happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinalign.data.records import Clip
from kinalign.errors import MotionError
from kinalign.events.detect import DETECTED, PARTS_OF, Detection, detect, detect_all
from kinalign.events.detect.signals import Frames
from kinalign.events.detect.stretches import Rule, series, stretches, together, turning_points
from kinalign.motion.joining import fade, lay_onto
from kinalign.motion.kinematics import t_pose
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.skeleton import HUMANML3D, KIT
from kinalign.motion.synthetic import jumping, kicking, squatting, standing, walking, waving

MADE_UP = {
    "walking": walking(),
    "walking slowly": walking(120, steps_per_second=1.2),
    "waving left": waving(80, side="left"),
    "waving right": waving(80, side="right", num_waves=4),
    "jumping": jumping(3),
    "squatting": squatting(2),
    "kicking left": kicking(2, side="left"),
    "kicking right": kicking(1, side="right"),
    "standing": standing(),
}
made_up = pytest.mark.parametrize("motion", MADE_UP.values(), ids=MADE_UP.keys())

MIRRORED = {"left": "right", "right": "left", "clockwise": "counterclockwise", "counterclockwise": "clockwise"}


def of(action: str, motion: Motion) -> list[Detection]:
    return [event for event in detect(motion) if event.action == action]


def one(action: str, motion: Motion) -> Detection:
    found = of(action, motion)
    assert len(found) == 1, found
    return found[0]


def what(events: list[Detection]) -> list[tuple[object, ...]]:
    """All of an event but its confidence and reason, which are numbers that rounding touches."""
    return sorted(
        (event.start, event.end, event.action, event.side, event.direction, event.count or 0, event.part)
        for event in events
    )


def turned(motion: Motion, angle: np.ndarray | float) -> Motion:
    """Turned about the vertical axis through the origin by radians to the left, each frame by its own."""
    sin, cos = np.sin(angle), np.cos(angle)
    sin, cos = (np.broadcast_to(part, len(motion))[:, None] for part in (sin, cos))
    x, y, z = np.moveaxis(motion.joints, -1, 0)
    return replace(motion, joints=np.stack((cos * x + sin * z, y, cos * z - sin * x), axis=-1))


# --- what happens, on which side and how often ---------------------------------------------------------------------


def test_who_walks_walks_forward_and_every_step_counts() -> None:
    for steps_per_second in (1.5, 1.8):
        motion = walking(120, steps_per_second=steps_per_second)
        walk = one("walk", motion)
        assert walk.direction == "forward"
        assert abs((walk.count or 0) - steps_per_second * motion.duration_s) <= 1
        assert one("step", motion).count == walk.count
        assert walk.start <= 10
        assert walk.end >= len(motion) - 10


def test_a_walk_seen_backwards_is_a_walk_backward() -> None:
    motion = walking(120)
    backward = one("walk", replace(motion, joints=motion.joints[::-1]))
    # a foot that is in the air at one end of the motion makes a step of it, and at the other end none
    assert backward.direction == "backward"
    assert backward.count == pytest.approx(one("walk", motion).count, abs=1)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_waves_count_on_their_side(side: str, count: int) -> None:
    wave = one("wave", waving(40 + 20 * count, side=side, num_waves=count))
    assert (wave.side, wave.count) == (side, count)
    assert f"{side} wrist" in wave.reason
    assert "reversals" in wave.reason


def test_a_leg_that_is_up_when_the_motion_begins_is_not_raised_in_it() -> None:
    motion = kicking(1, side="left")
    highest = int(motion.joints[:, HUMANML3D.joint_names.index("left_ankle"), 1].argmax())
    assert one("kick", motion).side == "left"
    assert not {"kick", "raise_knee", "raise_leg"} & {event.action for event in detect(motion[highest:])}


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_waving_hand_has_been_raised_before_and_is_lowered_after(side: str) -> None:
    motion = waving(100, side=side)
    wave, up, down = (one(action, motion) for action in ("wave", "raise", "lower"))
    assert up.side == down.side == side
    assert up.start < wave.start
    assert down.end > wave.end


@pytest.mark.parametrize("count", [1, 2, 4])
def test_jumps_and_squats_count(count: int) -> None:
    assert one("jump", jumping(count)).count == count
    assert one("squat", squatting(count)).count == count
    assert not of("squat", jumping(count))
    assert not of("jump", squatting(count))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("count", [1, 3])
def test_kicks_count_on_their_side(side: str, count: int) -> None:
    kick = one("kick", kicking(count, side=side))
    assert (kick.side, kick.direction, kick.count) == (side, "forward", count)


HANGING, HOLDING, OVER = ((0.0, -1.0), (0.0, -1.0)), ((0.25, -0.97), (0.97, 0.25)), ((0.6, 0.8), (0.4, 0.92))
"""Upper arm and forearm, forward and up."""


def moving_both_arms(*poses: tuple[int, tuple[tuple[float, float], tuple[float, float]]]) -> Motion:
    """Who stands with both arms in these poses at these frames, and on the way between."""
    still = standing(poses[-1][0] + 1)
    joints, frames = still.joints.copy(), np.arange(len(still))
    angles = np.unwrap(np.array([[np.arctan2(up, ahead) for ahead, up in pose] for _, pose in poses]), axis=0)
    upper, fore = (np.interp(frames, [frame for frame, _ in poses], column) for column in angles.T)
    for shoulder, elbow, wrist in ((16, 18, 20), (17, 19, 21)):
        for near, far, angle in ((shoulder, elbow, upper), (elbow, wrist, fore)):
            length = np.linalg.norm(still.joints[0, far] - still.joints[0, near])
            way = np.stack((np.zeros_like(angle), np.sin(angle), np.cos(angle)), axis=-1)
            joints[:, far] = joints[:, near] + length * way
    return replace(still, joints=joints)


def test_a_ball_is_shot_with_both_hands_from_the_chest_over_the_head_and_down_again() -> None:
    shot = moving_both_arms(
        (0, HANGING), (10, HANGING), (20, HOLDING), (26, HOLDING), (34, OVER), (42, OVER), (54, HANGING), (64, HANGING)
    )
    found = one("throw", shot)
    assert (found.side, found.count, found.direction) == ("both", 1, "forward") and 20 <= found.start < found.end <= 54
    assert of("throw", shot[:43]) == [], "hands that stay up"
    raised = moving_both_arms((0, HANGING), (10, HANGING), (26, OVER), (34, OVER), (50, HANGING), (60, HANGING))
    assert of("throw", raised) == [] and one("raise", raised).side == "both"


def test_real_balls_that_are_shot_are_thrown_and_hands_that_are_raised_are_not(
    openmocap: Callable[[str], list[Clip]],
) -> None:
    clips = openmocap("train") + openmocap("test")
    shots = [clip for clip in clips if "shoot" in clip.motion.caption]
    raised = [clip for clip in clips if "raises both hands" in clip.motion.caption]
    assert len(shots) >= 2 and len(raised) > 100
    assert all(of("throw", clip.motion) for clip in shots)
    assert not any(event.action == "throw" for found in detect_all([clip.motion for clip in raised]) for event in found)


@pytest.mark.parametrize("degrees", [-180, -90, 90, 180, 400])
def test_a_turn_tells_its_angle(degrees: int) -> None:
    motion = standing(80)
    share = np.clip((np.arange(80) - 20) / 40, 0, 1)
    motion = turned(motion, np.radians(degrees) * share)
    turn = one("turn", motion)
    assert turn.direction == ("left" if degrees > 0 else "right")
    assert turn.angle_deg == pytest.approx(degrees, abs=5)
    assert [spin.count for spin in of("spin", motion)] == ([1] if degrees == 400 else [])


def test_nothing_but_standing_is_seen_of_who_stands_still() -> None:
    assert [event.action for event in detect(standing(100))] == ["stand"]
    stands = one("stand", standing(100))
    assert (stands.start, stands.end) == (0, 100)


def test_a_pose_held_for_any_time_does_nothing() -> None:
    pose = Motion(np.repeat(walking().joints[17:18], 60, axis=0))
    assert {event.action for event in detect(pose)} <= {"stand"}


def test_a_single_frame_holds_no_event() -> None:
    for motion in MADE_UP.values():
        assert detect(motion[20:21]) == []


# --- joined repetitions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize(
    ("action", "single"),
    [("jump", jumping(1)), ("squat", squatting(1)), ("kick", kicking(1, side="left"))],
    ids=["jump", "squat", "kick"],
)
def test_joined_repetitions_are_counted(action: str, single: Motion, count: int) -> None:
    # those that lie farther apart are events of their own
    assert sum(event.count or 0 for event in of(action, repeated(single, count))) == count


def test_real_single_events_are_counted_when_joined(openmocap: Callable[[str], list[Clip]]) -> None:
    singles = {"squat1Reps": "squat", "kickLFront1Reps": "kick", "hopBothLegs1hops": "hop"}
    clips = [clip for clip in openmocap("test") if clip.label in singles]
    assert len(clips) >= 6
    right = 0
    for clip in clips:
        counts = [event.count for event in of(singles[clip.label], repeated(clip.motion, 3)) if event.count]
        right += sum(counts) == 3
    assert right >= 0.85 * len(clips)


def repeated(motion: Motion, count: int, overlap: int = 6) -> Motion:
    joined = motion
    for _ in range(count - 1):
        joined = fade(joined, lay_onto(motion, slice(0, overlap), joined, slice(len(joined) - overlap, None)), overlap)
    return joined


# --- laws ----------------------------------------------------------------------------------------------------------


@made_up
def test_the_mirror_image_does_the_same_on_the_other_side(motion: Motion) -> None:
    assert_mirrored(motion)


def test_mirror_images_of_real_clips_do_the_same_on_the_other_side(openmocap: Callable[[str], list[Clip]]) -> None:
    clips = [clip for clip in openmocap("test") if clip.source not in ("Bandai1", "Bandai2")]
    assert len(clips) >= 30
    for clip in clips[:60]:
        assert_mirrored(clip.motion)


def assert_mirrored(motion: Motion) -> None:
    swapped = [
        replace(
            event,
            side=MIRRORED.get(event.side, event.side),
            direction=MIRRORED.get(event.direction, event.direction),
        )
        for event in detect(motion.mirror())
    ]
    assert what(swapped) == what(detect(motion))


@made_up
def test_a_child_and_a_giant_do_the_same(motion: Motion) -> None:
    for scale in (0.5, 2.0):
        assert what(detect(replace(motion, joints=scale * motion.joints))) == what(detect(motion))


@made_up
def test_place_and_heading_change_nothing(motion: Motion) -> None:
    elsewhere = turned(motion, 2.0)
    elsewhere = replace(elsewhere, joints=elsewhere.joints + np.array([3.0, 0.5, -2.0], dtype=np.float32))
    assert what(detect(elsewhere)) == what(detect(motion))


@made_up
@pytest.mark.parametrize("fps", [30.0, 60.0, 120.0])
def test_another_frame_rate_tells_the_same_events_at_the_same_times(motion: Motion, fps: float) -> None:
    ours, theirs = detect(motion), detect(motion.resample(fps))
    assert [event.action for event in sorted(ours, key=order)] == [event.action for event in sorted(theirs, key=order)]
    for event, other in zip(sorted(ours, key=order), sorted(theirs, key=order)):
        assert (event.side, event.direction) == (other.side, other.direction)
        # and with them the moment in which the last foot comes down
        late = event.action in ("walk", "run", "step") and event.end / FPS > motion.duration_s - 0.1
        assert event.count == (pytest.approx(other.count, abs=1) if late else other.count)
        # the last frames may be lost; a bound may be passed one frame of 20 fps earlier or later
        assert other.start / fps == pytest.approx(event.start / FPS, abs=0.1)
        assert other.end / fps == pytest.approx(event.end / FPS, abs=0.1)


def order(event: Detection) -> tuple[str, str, int]:
    return event.action, event.side, event.start


def test_many_motions_at_once_are_read_as_each_alone() -> None:
    motions = [*MADE_UP.values(), walking(1), walking(2), walking(37, fps=30.0)]
    assert [what(events) for events in detect_all(motions)] == [what(detect(motion)) for motion in motions]
    assert detect_all([]) == []


@made_up
def test_every_event_lies_in_its_motion_with_a_confidence_and_a_reason(motion: Motion) -> None:
    for event in detect(motion):
        assert 0 <= event.start < event.end <= len(motion)
        assert 0.5 <= event.confidence <= 1
        assert event.reason
        assert event.action in DETECTED


def test_actions_are_those_of_event_programs() -> None:
    program = pytest.importorskip("kinalign.events.program")
    assert DETECTED <= program.ACTIONS
    assert len(DETECTED) >= 30
    for motion in MADE_UP.values():
        for event in detect(motion):
            program.Event(event.action, event.side, event.direction, event.count, event.part)


def test_a_skeleton_without_these_joints_is_refused() -> None:
    with pytest.raises(MotionError, match="humanml3d"):
        detect(Motion(np.zeros((4, KIT.num_joints, 3)) + t_pose(HUMANML3D).offsets[0], skeleton=KIT))


def test_a_body_without_size_is_refused() -> None:
    with pytest.raises(MotionError, match="length 0"):
        detect(Motion(np.zeros((4, HUMANML3D.num_joints, 3))))


# --- stretches -----------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=12), min_size=1, max_size=4))
def test_stretches_are_those_of_a_plain_loop(motions: list[list[int]]) -> None:
    frames = Frames.of_lengths([len(motion) for motion in motions])
    signal = np.array([value for motion in motions for value in motion], dtype=float)
    expected, offset = [], 0
    for motion in motions:
        start = None
        for index, value in enumerate([*motion, 0]):
            if value > 1 and start is None:
                start = index
            elif value <= 1 and start is not None:
                if max(motion[start:index]) > 2:
                    expected.append((offset + start, offset + index, float(max(motion[start:index]))))
                start = None
        offset += len(motion)
    found = stretches(frames, signal, Rule(1.0, 2.0, 4.0))
    assert [(stretch.start, stretch.end, stretch.peak) for stretch in found] == expected


def test_breaks_are_bridged_but_not_from_one_motion_to_the_next() -> None:
    frames = Frames.of_lengths([6, 6])
    signal = np.array([3, 3, 0, 3, 3, 3] * 2, dtype=float)
    rule = Rule(1.0, 2.0, 4.0, gap_s=1 / FPS)
    assert [(stretch.start, stretch.end) for stretch in stretches(frames, signal, rule)] == [(0, 6), (6, 12)]


def test_both_hands_at_once_are_one_event_and_hands_in_turn_a_series() -> None:
    frames = Frames.of_lengths([100])
    columns = np.zeros((100, 2))
    columns[10:20] = 3
    columns[30:40, 0] = 3
    columns[50:60, 1] = 3
    rule = Rule(1.0, 2.0, 4.0)
    found = together(stretches(frames, columns[:, 0], rule, "left") + stretches(frames, columns[:, 1], rule, "right"))
    assert [stretch.side for stretch in found] == ["both", "left", "right"]
    assert [(group.side, group.repeats) for group in series(frames, found[1:])] == [("alternate", 2)]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40))
def test_turning_points_go_up_and_down_in_turn_by_the_amplitude(numbers: list[float]) -> None:
    values = np.array(numbers)
    points = turning_points(values, 1.0)
    steps = np.diff(values[points])
    assert (np.abs(steps) >= 1.0).all()
    assert (np.sign(steps[1:]) == -np.sign(steps[:-1])).all()


def test_events_that_are_part_of_others_are_known_actions() -> None:
    for whole, parts in PARTS_OF.items():
        assert {whole} | parts <= DETECTED
        assert whole not in parts
