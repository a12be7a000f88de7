"""Distances between motions: hand numbers, laws, and Procrustes by another road."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from kinalign.errors import MotionError
from kinalign.motion.compare import accel, jitter, mpjpe, pa_mpjpe

Joints = NDArray[np.float64]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def still(num_frames: int) -> Joints:
    """Three joints that do not move."""
    return np.tile(np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 2.0, 0.0]]), (num_frames, 1, 1))


def test_a_motion_is_at_no_distance_from_itself(rng: np.random.Generator) -> None:
    joints = rng.normal(size=(6, 22, 3))
    assert mpjpe(joints, joints) == accel(joints, joints) == 0
    assert pa_mpjpe(joints, joints) == pytest.approx(0, abs=1e-12)


def test_mpjpe_is_the_mean_distance_of_joints() -> None:
    moved = still(2)
    moved[0, 1] += [0.3, 0.4, 0.0]  # 0.5 m, one of six joints of two frames
    assert mpjpe(moved, still(2)) == pytest.approx(0.5 / 6)


def test_mpjpe_lays_the_roots_on_each_other_in_every_frame(rng: np.random.Generator) -> None:
    joints = rng.normal(size=(6, 22, 3))
    path = rng.normal(size=(6, 1, 3))
    assert mpjpe(joints + path, joints) == pytest.approx(0, abs=1e-12)
    assert mpjpe(joints + path, joints, root=3) == pytest.approx(0, abs=1e-12)


def test_a_root_that_is_off_moves_all_other_joints() -> None:
    moved = still(1)
    moved[0, 0] += [0.0, 0.1, 0.0]
    assert mpjpe(moved, still(1)) == pytest.approx(2 * 0.1 / 3)


def test_pa_mpjpe_does_not_see_a_turn_a_scale_or_a_shift_of_any_frame(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(5, 22, 3)), rng.normal(size=(5, 22, 3))
    turns = Rotation.random(5, random_state=1).as_matrix()
    similar = rng.uniform(0.5, 2, (5, 1, 1)) * a @ turns + rng.normal(size=(5, 1, 3))
    assert pa_mpjpe(similar, a) == pytest.approx(0, abs=1e-9)
    assert pa_mpjpe(similar, b) == pytest.approx(pa_mpjpe(a, b), abs=1e-9)


def test_pa_mpjpe_sees_a_reflection(rng: np.random.Generator) -> None:
    joints = rng.normal(size=(3, 22, 3))
    assert pa_mpjpe(joints * np.array([-1, 1, 1]), joints) > 0.1


def test_pa_mpjpe_equals_procrustes_of_each_frame_by_scipy(rng: np.random.Generator) -> None:
    a = rng.normal(size=(8, 22, 3))
    # near, far, and mirrored poses, of which the last must not be reflected back
    b = a * np.repeat([[1.0, 1, 1], [-1.0, 1, 1]], 4, axis=0)[:, None] + rng.normal(size=a.shape) * 0.5
    errors = []
    for pose, true in zip(a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)):
        turn, _ = Rotation.align_vectors(true, pose)
        turned = turn.apply(pose)
        scale = (turned * true).sum() / (pose**2).sum()  # least squares of one number
        errors.append(np.linalg.norm(scale * turned - true, axis=-1).mean())
    assert pa_mpjpe(a, b) == pytest.approx(np.mean(errors), abs=1e-6)  # scipy's own optimum is good to about 1e-8


def test_accel_does_not_see_steady_movement() -> None:
    drifting = still(5) + np.arange(5)[:, None, None] * np.array([0.1, 0.0, 0.2])
    assert accel(drifting, still(5)) == pytest.approx(0, abs=1e-12)


def test_accel_of_a_jump_of_one_joint_is_known() -> None:
    jumping = still(3)
    jumping[1, 2] += [0.0, 0.25, 0.0]  # second difference -0.5 in one of three joints
    assert accel(jumping, still(3)) == pytest.approx(0.5 / 3)


def test_jitter_of_a_parabola_is_zero_and_of_a_cubic_its_third_difference() -> None:
    time = np.arange(6)[:, None, None] * np.ones((1, 4, 3))
    assert jitter(time**2) == pytest.approx(0, abs=1e-12)
    assert jitter(time**3) == pytest.approx(6 * np.sqrt(3))  # d3(t^3) = 6 in each of three coordinates


@pytest.mark.parametrize("measure", [mpjpe, pa_mpjpe, accel])
def test_motions_of_different_shapes_are_refused(measure) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(MotionError, match=r"\(4, 3, 3\) and \(5, 3, 3\) cannot be compared"):
        measure(still(4), still(5))
    with pytest.raises(MotionError, match="cannot be compared"):
        measure(still(4)[0], still(4)[0])


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(MotionError, match="3 frames; these motions have 2"):
        accel(still(2), still(2))
    with pytest.raises(MotionError, match="4 frames; this motion has 3"):
        jitter(still(3))
