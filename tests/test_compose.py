"""Clips joined into one motion whose events are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinalign.data.records import Clip
from kinalign.errors import MotionError
from kinalign.evaluation.eventbench import atoms_of
from kinalign.events.compose import Part, compose
from kinalign.events.program import Event
from kinalign.motion.joining import uniform
from kinalign.motion.motion import Motion
from kinalign.motion.physics import foot_skating, peak_jerk
from kinalign.motion.skeleton import HUMANML3D, KIT
from kinalign.motion.synthetic import jumping, kicking, squatting, walking, waving

PARTS = {
    "walk": Part(uniform(walking(60)), Event("walk", direction="forward"), spare=12),
    "wave": Part(uniform(waving(60)), Event("wave", side="right")),
    "jump": Part(uniform(jumping(1)), Event("jump", count=1)),
    "squat": Part(uniform(squatting(1)), Event("squat", count=1)),
    "kick": Part(uniform(kicking(1, side="left")), Event("kick", side="left", count=1)),
}
rows = st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=4)


@given(rows)
@settings(max_examples=15, deadline=None)
def test_what_happens_and_when_is_known_by_construction(names: list[str]) -> None:
    composed = compose([PARTS[name] for name in names])
    assert [event.action for event in composed.program.events] == names
    assert len(composed.intervals) == len(names) and len(composed.transitions) == len(names) - 1
    # events and transitions follow one another, inside the motion
    ends = [0]
    for event, transition in zip(composed.intervals, (*composed.transitions, None)):
        assert ends[-1] <= event.start < event.end <= len(composed.motion)
        ends.append(event.end)
        if transition is not None:
            assert ends[-1] <= transition.start < transition.end
            ends.append(transition.end)
    kept = len(composed.motion) - sum(end - start for start, end in composed.transitions)
    assert (
        0.6 * sum(len(PARTS[name].motion) for name in names) <= kept <= sum(len(PARTS[name].motion) for name in names)
    )


@given(rows)
@settings(max_examples=10, deadline=None)
def test_bones_keep_their_lengths(names: list[str]) -> None:
    joints = compose([PARTS[name] for name in names]).motion.joints
    lengths = np.linalg.norm(joints[:, 1:] - joints[:, HUMANML3D.parents[1:]], axis=-1)
    assert np.abs(lengths - HUMANML3D.bone_lengths[1:]).max() < 1e-4


@given(st.lists(st.sampled_from(sorted(PARTS)), min_size=2, max_size=3))
@settings(max_examples=10, deadline=None)
def test_a_join_jerks_no_more_than_the_clips_and_nothing_jumps(names: list[str]) -> None:
    composed = compose([PARTS[name] for name in names])
    joins = [frame for transition in composed.transitions for frame in transition]
    clips = [PARTS[name].motion for name in names]
    # made-up squats are smoother than any person; real clips have 47 to 9,000 m/s³
    assert peak_jerk(composed.motion, joins=joins) <= max(150.0, *map(peak_jerk, clips))
    steps = np.abs(np.diff(composed.motion.joints, axis=0)).max()
    assert steps <= 1.25 * max(np.abs(np.diff(clip.joints, axis=0)).max() for clip in clips)


def test_frames_of_the_clips_are_not_changed() -> None:
    composed = compose([PARTS["squat"], PARTS["kick"]])
    (transition,) = composed.transitions
    assert np.array_equal(composed.motion.joints[: transition.start], PARTS["squat"].motion.joints[: transition.start])
    # the second is only turned and moved: all distances within a frame are kept
    rest = composed.motion.joints[transition.end :]
    whole = PARTS["kick"].motion.joints

    def between(joints: np.ndarray) -> np.ndarray:
        return np.linalg.norm(joints[:, :, None] - joints[:, None], axis=-1)

    apart = [
        np.abs(between(rest) - between(whole[at : at + len(rest)])).max() for at in range(len(whole) - len(rest) + 1)
    ]
    assert min(apart) < 1e-4


def test_repetitions_are_counted_and_found_one_after_the_other() -> None:
    composed = compose([replace(PARTS["squat"], times=3), PARTS["kick"]])
    assert [event.count for event in composed.program.events] == [3, 1]
    (squats, kicks), (whole, _) = composed.repeats, composed.intervals
    assert len(squats) == 3 and len(kicks) == 1
    assert whole == (squats[0].start, squats[-1].end)
    pelvis = composed.motion.joints[:, 0, 1]
    assert all(pelvis[start:end].min() < 0.75 * pelvis[0] for start, end in squats)
    assert all(a.end <= b.start for a, b in pairwise(squats))


def test_standing_feet_do_not_slide_between_two_stances() -> None:
    wide = uniform(squatting(1))
    composed = compose([Part(wide, Event("squat", count=1)), PARTS["wave"]])
    (transition,) = composed.transitions
    assert foot_skating(composed.motion[transition.start - 1 : transition.end + 1]) < 0.1


def test_idle_frames_are_no_part_of_an_event_and_most_are_left_out() -> None:
    kick = uniform(kicking(1)).joints
    motion = uniform(Motion(np.concatenate((np.repeat(kick[:1], 30, axis=0), kick, np.repeat(kick[-1:], 30, axis=0)))))
    composed = compose([Part(motion, Event("kick", count=1))])
    assert len(composed.motion) <= len(kick) + 10
    (event,) = composed.intervals
    assert event.end - event.start <= len(kick)


def test_the_same_clips_give_the_same_motion() -> None:
    parts = [PARTS[name] for name in ("walk", "kick", "wave")]
    assert compose(parts).motion.joints.tobytes() == compose(parts).motion.joints.tobytes()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "nothing to compose"),
        ([replace(PARTS["squat"], times=0)], "squat 0 times cannot be composed"),
        ([replace(PARTS["wave"], times=2)], "wave 2 times cannot be composed; .* 1 for an event without a count"),
        (
            [replace(PARTS["squat"], motion=PARTS["squat"].motion[:7])],
            "squat: a clip of 7 frames is too short; joining needs 8",
        ),
        ([replace(PARTS["squat"], motion=squatting(1, fps=30))], "at 20 fps; this one has 22 at 30 fps"),
        ([replace(PARTS["squat"], motion=Motion(np.ones((20, 21, 3)), skeleton=KIT))], "has 21 at 20 fps"),
        ([replace(PARTS["squat"], motion=Motion(1.1 * PARTS["squat"].motion.joints))], "has other bones"),
    ],
)
def test_what_cannot_be_composed_is_refused(parts: list[Part], message: str) -> None:
    with pytest.raises(MotionError, match=message):
        compose(parts)


def test_real_clips_are_joined_without_more_jerk_or_skating(openmocap: Callable[[str], list[Clip]]) -> None:
    atoms = [atom for atom in atoms_of(openmocap("test")) if atom.ends_upright]
    rng = np.random.default_rng(0)
    skating, jerks = [], []
    for _ in range(30):
        two = [atoms[place] for place in rng.choice(len(atoms), 2, replace=False)]
        composed = compose([Part(atom.motion, atom.event, spare=atom.spare) for atom in two])
        (transition,) = composed.transitions
        skating.append(foot_skating(composed.motion[transition.start - 1 : transition.end + 1]))
        jerks.append(composed.jerk)
    assert np.mean(skating) < 1.1 * np.mean([foot_skating(atom.motion) for atom in atoms])
    assert np.median(jerks) < 0.75 and np.mean(np.array(jerks) > 1) < 0.2


def test_fast_arms_do_not_go_round_once_more(openmocap: Callable[[str], list[Clip]]) -> None:
    for atom in atoms_of([clip for clip in openmocap("test") if clip.label == "rotateArmsBothBackward1Reps"]):
        composed = compose([Part(atom.motion, atom.event, times=3)])
        over_head = composed.motion.joints[:, 21, 1] > composed.motion.joints[:, 15, 1]
        assert int((np.diff(over_head.astype(int)) == 1).sum()) == 3
