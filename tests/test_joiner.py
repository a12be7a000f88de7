"""Motions joined one by one: nothing jumps, floats or freezes, and only the last one is held."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from kinalign.data.records import Clip
from kinalign.errors import MotionError
from kinalign.motion.joining import UPRIGHT_M, uniform
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.physics import peak_jerk
from kinalign.motion.skeleton import HUMANML3D, KIT
from kinalign.motion.synthetic import jumping, kicking, squatting, standing, walking, waving
from kinalign.planning.joiner import Joined, Joiner
from kinalign.planning.still import keeping_still

TOES = [HUMANML3D.left_foot[1], HUMANML3D.right_foot[1]]


def crouching() -> Motion:
    """A body goes down and stays there for a second."""
    down = uniform(squatting(1))[:17]
    still = keeping_still(down.joints[-1].astype(np.float64), 1.0)
    return Motion.concatenate([down, still])


MOTIONS = [walking(60), waving(60), jumping(1), kicking(1, side="left"), squatting(1)]


def joined(motions: Sequence[Motion]) -> tuple[Motion, list[Joined]]:
    joiner = Joiner()
    parts = [joiner.append(motion) for motion in motions]
    return Motion(np.concatenate([*(part.joints for part in parts), joiner.finish()]), fps=FPS), parts


def test_frames_given_away_are_counted_and_are_the_whole() -> None:
    joiner, num_frames = Joiner(), 0
    for motion in MOTIONS:
        num_frames += len(joiner.append(motion).joints)
        assert joiner.num_final == num_frames < joiner.num_frames
    whole = joiner.num_frames
    assert num_frames + len(joiner.finish()) == whole == joiner.num_final
    assert len(joiner.finish()) == 0


def test_nothing_jumps_or_jerks_where_motions_are_joined() -> None:
    whole, parts = joined(MOTIONS)
    clips = [uniform(motion) for motion in MOTIONS]
    for part in parts[1:]:
        start, end = part.transition
        assert 0 < start < end < len(whole)
        # made-up squats are smoother than any person; real clips have 47 to 9,000 m/s³
        assert peak_jerk(whole, joins=[start, end]) <= max(150.0, *map(peak_jerk, clips))
    steps = np.abs(np.diff(whole.joints, axis=0)).max()
    assert steps <= 1.25 * max(np.abs(np.diff(clip.joints, axis=0)).max() for clip in clips)
    lengths = np.linalg.norm(whole.joints[:, 1:] - whole.joints[:, HUMANML3D.parents[1:]], axis=-1)
    assert np.abs(lengths - HUMANML3D.bone_lengths[1:]).max() < 1e-4


def test_a_motion_begins_where_the_last_one_ended_and_faces_as_it_did() -> None:
    first, second = uniform(walking(60)), uniform(walking(60))
    joiner = Joiner()
    joiner.append(first)
    joiner.append(second)
    last = joiner.finish()
    assert last[0, 0, 2] > 0.6 * first.joints[-1, 0, 2]  # walks on, from where the first had come
    assert last[-1, 0, 2] > last[0, 0, 2] + 0.5


def test_memory_does_not_grow_with_the_number_of_motions() -> None:
    joiner = Joiner()

    def held_after(number: int) -> int:
        for _ in range(number):
            joiner.append(MOTIONS[0])
        gc.collect()  # what others left behind is not held
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        few, many = held_after(3), held_after(9)
    finally:
        tracemalloc.stop()
    assert many < few + MOTIONS[0].joints.nbytes


def test_who_is_down_gets_up_the_way_they_came() -> None:
    whole, (_, part) = joined([crouching(), walking(60)])
    assert part.gets_up is not None
    start, end = part.gets_up
    assert part.transition.start == start < end < part.transition.end
    heights = whole.joints[:, 0, 1]
    assert heights[start] < UPRIGHT_M <= heights[end]
    rise = whole.joints[start : part.transition.end]
    assert np.abs(np.diff(rise[:, 0, 1])).max() * FPS < 2.0  # as fast as the squat goes down
    assert rise[:, TOES, 1].min(axis=1).max() < 0.1  # one foot at least is on the floor


def test_who_is_down_and_pauses_there_still_finds_the_way_up() -> None:
    joiner = Joiner()
    joiner.append(crouching())
    pause = joiner.pause(3.0)
    part = joiner.append(walking(60))
    assert part.gets_up is not None
    assert part.joints[0, 0, 1] < UPRIGHT_M <= part.joints[-1, 0, 1]
    assert part.transition.start - pause.transition.start == pytest.approx(3.0 * FPS, abs=8)


def test_a_deep_stance_on_both_feet_is_entered_and_left_by_a_transition() -> None:
    low = uniform(squatting(1))[13:21]
    assert low.joints[:, 0, 1].max() < 0.65
    whole, parts = joined([standing(20), low, standing(20)])
    assert [part.gets_up for part in parts] == [None] * 3
    for part in parts[1:]:
        made = whole.joints[part.transition.start : part.transition.end]
        assert made[:, TOES, 1].max() < 0.15
        assert np.abs(np.diff(made[:, 0, 1])).max() * FPS < 3.0


def test_what_no_transition_leads_to_is_refused() -> None:
    lying = Motion(standing(20).joints[..., [0, 2, 1]] * [1, -1, 1])  # on the back
    joiner = Joiner()
    joiner.append(walking(60))
    assert joiner.takes(kicking(1)) and not joiner.takes(lying)
    before = joiner.num_final
    with pytest.raises(MotionError, match=r"begins with its hips at .* cannot follow one that ends with them at"):
        joiner.append(lying)
    assert joiner.num_final == before and joiner.takes(kicking(1))


def test_motions_of_another_skeleton_and_of_few_frames_are_refused() -> None:
    joiner = Joiner()
    with pytest.raises(MotionError, match="joined on the 22 joints"):
        joiner.append(Motion(np.ones((20, 21, 3)), skeleton=KIT))
    with pytest.raises(MotionError, match="7 frames is too short; joining needs 8"):
        joiner.append(walking(7))
    with pytest.raises(MotionError, match="nothing to pause after"):
        joiner.pause(1.0)


# keeping still


@pytest.mark.parametrize("pose", [standing(1), crouching()[-1:]], ids=["standing", "low"])
def test_who_keeps_still_lives(pose: Motion) -> None:
    pose = uniform(pose)
    still = keeping_still(pose.joints[0].astype(np.float64), 6.0)
    moved = np.linalg.norm(still.joints - pose.joints[0], axis=-1)
    assert 0.003 < moved.max() < 0.04
    assert moved[:, [*HUMANML3D.left_foot, *HUMANML3D.right_foot]].max() < 3e-3  # ankles sway as well
    assert moved[[0, -1]].max() < 1e-5
    steps = np.linalg.norm(np.diff(still.joints, axis=0), axis=-1).max(axis=1)
    assert steps[5:-5].min() > 1e-5  # no frame is frozen
    assert peak_jerk(still) < 20.0


def test_a_pause_after_a_walk_is_standing_and_lasts_as_long_as_asked() -> None:
    joiner = Joiner()
    joiner.append(walking(60))
    pause = joiner.pause(4.0)
    rest = joiner.finish()
    assert len(pause.joints) + len(rest) - pause.transition.start == pytest.approx(4.0 * FPS, abs=8)
    assert np.linalg.norm(np.diff(rest[4:], axis=0), axis=-1).max() * FPS < 0.2
    assert rest[:, TOES, 1].max() < 0.1


def test_real_motions_are_joined_no_rougher_than_they_are(openmocap: Callable[[str], list[Clip]]) -> None:
    clips = [clip.motion for clip in openmocap("test") if len(clip.motion) >= 40][:40:4]
    real = [uniform(motion) for motion in clips]
    upright = [one for one in real if one.joints[[0, -1], 0, 1].min() >= UPRIGHT_M]
    whole, parts = joined(upright)
    peaks = [peak_jerk(whole, joins=list(part.transition)) for part in parts[1:]]
    assert np.mean(peaks) <= 1.5 * np.mean([peak_jerk(one) for one in upright])
