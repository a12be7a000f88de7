"""Sentences and motions that differ in one thing: order, side, count."""

from __future__ import annotations

import numpy as np
import pytest

from kinalign.errors import MotionError
from kinalign.evaluation.contrasts import (
    COUNTS,
    ORDERS,
    count_of,
    in_a_row,
    order_contrast,
    side_contrast,
    with_count,
)
from kinalign.motion.joining import is_upright, uniform
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, KIT
from kinalign.motion.synthetic import jumping, walking, waving


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# motions


def test_a_uniform_motion_has_humanml3d_s_bones_stands_on_the_floor_and_faces_forward() -> None:
    taller = Motion(1.2 * walking().joints[::2], fps=10.0)
    motion = uniform(taller)
    assert motion.fps == 20
    assert motion.joints[..., 1].min() == pytest.approx(0, abs=1e-6)
    assert motion.facing()[0] == pytest.approx([0, 0, 1], abs=1e-6)
    bones = HUMANML3D.with_bone_lengths_of(motion.joints[10]).bone_lengths
    assert bones == pytest.approx(HUMANML3D.bone_lengths, abs=1e-5)


def test_motions_in_a_row_are_as_long_as_all_without_what_they_share() -> None:
    parts = [uniform(motion) for motion in (walking(50), waving(40), jumping(1))]
    assert len(in_a_row(parts)) == sum(map(len, parts)) - 2 * 8
    assert len(in_a_row(parts[:1])) == 50


def test_a_join_jumps_no_more_than_the_motions_do() -> None:
    first, second = uniform(walking(60)), uniform(waving(60))
    joined = in_a_row([first, second]).joints
    fastest = max(np.abs(np.diff(motion.joints, axis=0)).max() for motion in (first, second))
    assert np.abs(np.diff(joined, axis=0)).max() < 2 * fastest


def test_what_comes_first_stays_as_it_is() -> None:
    first = uniform(walking(60))
    assert np.array_equal(in_a_row([first, uniform(waving(60))]).joints[:52], first.joints[:52])


def test_very_short_motions_can_be_joined_too() -> None:
    assert len(in_a_row([uniform(walking(3)), uniform(walking(3))])) == 5


def test_a_lying_body_does_not_stand() -> None:
    standing = uniform(walking())
    lying = Motion(standing.joints[..., [0, 2, 1]] * np.float32(0.2))
    assert is_upright(standing, 0)
    assert not is_upright(lying, 0)


# order


def test_the_words_of_an_order_contrast_are_the_same_and_their_order_is_not() -> None:
    for seed in range(100):
        right, wrong = order_contrast("waves", "sits down", rng(seed))
        assert right != wrong
        assert sorted(right.replace(",", "").replace(".", "").split()) == sorted(
            wrong.replace(",", "").replace(".", "").split()
        )


def test_most_sentences_name_the_first_event_first_and_some_the_later_one() -> None:
    rights = [order_contrast("waves", "sits down", rng(seed))[0] for seed in range(200)]
    named_first = [text.index("waves") < text.index("sits") for text in rights]
    assert 0.6 < np.mean(named_first) < 0.97
    assert all("after" in text for text, first in zip(rights, named_first) if not first)


def test_every_pattern_names_both_events_and_someone() -> None:
    for text in ORDERS:
        assert {"{first}", "{second}", "{who}"} <= set(text.replace(",", " ").replace(".", " ").split())


# side


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("a person waves with the left hand", "a person waves with the right hand"),
        ("he turns clockwise", "he turns counterclockwise"),
        ("touches the left knee with the right elbow", "touches the right knee with the left elbow"),
        ("a person waves", None),
        ("a person looks left and right", None),
        ("a person looks to the left and to the right", None),
        ("he looks to the left and then to the right", "he looks to the right and then to the left"),
        ("he left the room", None),
    ],
)
def test_a_side_contrast_swaps_the_side_where_there_is_one(text: str, other: str | None) -> None:
    assert side_contrast(text) == other


# count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a person squats once", 1),
        ("a person kicks just one time", 1),
        ("Exactly 1 time someone hops", 1),
        ("a single time he hops", 1),
        ("she jumps twice.", 2),
        ("she jumps 3 times", 3),
        ("she jumps thrice", 3),
        ("five times the man bows", 5),
        ("a person squats", None),
        ("a person waves with one hand", None),
        ("all at once he falls", None),
        ("once more he falls", None),
        ("he walks three steps", None),
        ("sometimes he walks", None),
    ],
)
def test_counts_are_read(text: str, count: int | None) -> None:
    assert count_of(text) == count


@pytest.mark.parametrize("count", range(1, 5))
def test_a_changed_count_is_read_back(count: int) -> None:
    for text in ("a person squats once and rises", "just one time, he bows", "he jumps 3 times", "she hops once only"):
        changed = with_count(text, count)
        assert count_of(changed) == count
        assert COUNTS[count - 1] in changed


def test_only_the_first_count_is_changed() -> None:
    assert with_count("squats once, then jumps twice", 3) == "squats three times, then jumps twice"


def test_another_skeleton_cannot_be_joined() -> None:
    with pytest.raises(MotionError, match="on the 22 joints"):
        uniform(Motion(np.zeros((9, 21, 3)), skeleton=KIT))
