from collections.abc import Callable

import numpy as np
import pytest

from kinalign.data.openmocap import SOURCES
from kinalign.data.records import Clip
from kinalign.errors import MotionError
from kinalign.motion.kinematics import (
    continuous,
    forward_kinematics,
    positions_to_rotations,
    t_pose,
    world_transforms,
)
from kinalign.motion.motion import Motion
from kinalign.motion.rotations import normalize, quaternion_to_matrix
from kinalign.motion.skeleton import HUMANML3D, KIT, Skeleton
from kinalign.motion.synthetic import jumping, walking, waving


def by_matrices(rotations: np.ndarray, offsets: np.ndarray, root: np.ndarray, parents: tuple[int, ...]) -> np.ndarray:
    """Forward kinematics by 4 x 4 matrices, one joint of one frame at a time."""
    joints = np.zeros((*rotations.shape[:2], 3))
    for frame in range(len(rotations)):
        world: dict[int, np.ndarray] = {}
        for joint, parent in enumerate(parents):
            local = np.eye(4)
            local[:3, :3] = quaternion_to_matrix(rotations[frame, joint])
            local[:3, 3] = root[frame] if parent < 0 else offsets[joint]
            world[joint] = local if parent < 0 else world[parent] @ local
            joints[frame, joint] = world[joint][:3, 3]
    return joints


def random_pose(skeleton: Skeleton, *, num_frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return normalize(rng.normal(size=(num_frames, skeleton.num_joints, 4))), rng.normal(size=(num_frames, 3))


def turn_angles(rotations: np.ndarray) -> np.ndarray:
    """Radians between each frame and the next, (T - 1, J)."""
    cosine = np.abs(np.einsum("tjc,tjc->tj", rotations[1:], rotations[:-1]))
    return 2 * np.arccos(np.clip(cosine, 0, 1))


@pytest.fixture
def clips(openmocap: Callable[[str], list[Clip]]) -> list[Clip]:
    """The first two test clips of each source."""
    test = openmocap("test")
    return [clip for source in SOURCES for clip in [c for c in test if c.source == source][:2]]


@pytest.mark.parametrize("skeleton", [HUMANML3D, KIT, t_pose(HUMANML3D), t_pose(KIT)])
def test_forward_kinematics_equals_products_of_matrices(skeleton: Skeleton) -> None:
    rotations, root = random_pose(skeleton, num_frames=3)
    expected = by_matrices(rotations, skeleton.offsets, root, skeleton.parents)
    np.testing.assert_allclose(forward_kinematics(rotations, root, skeleton), expected, atol=1e-12)


def test_no_rotation_is_the_rest_pose() -> None:
    rest = t_pose(HUMANML3D)
    none = np.tile([1.0, 0, 0, 0], (1, 22, 1))
    joints = forward_kinematics(none, np.zeros((1, 3)), rest)[0]
    left, right = joints[rest.index("left_wrist")], joints[rest.index("right_wrist")]
    assert left[0] > 0.5 and right[0] < -0.5  # arms to the sides, left at +x
    assert left[1] > joints[rest.index("spine3"), 1]
    assert joints[rest.index("left_foot"), 2] > joints[rest.index("left_ankle"), 2]  # toes to the front


def test_rotations_of_another_shape_are_refused() -> None:
    with pytest.raises(MotionError, match="do not fit"):
        forward_kinematics(np.zeros((3, 21, 4)), np.zeros((3, 3)), HUMANML3D)
    with pytest.raises(MotionError, match="shape"):
        positions_to_rotations(np.zeros((3, 21, 3)), HUMANML3D)
    with pytest.raises(MotionError, match="finite"):
        positions_to_rotations(np.full((3, 22, 3), np.nan), HUMANML3D)


@pytest.mark.parametrize("motion", [walking(), waving(), jumping(2)], ids=lambda m: m.caption)
def test_rigid_motions_come_back_from_their_rotations(motion: Motion) -> None:
    body = positions_to_rotations(motion.joints, t_pose(motion.skeleton))
    joints = forward_kinematics(body.rotations, body.root_positions, body.skeleton)
    assert np.linalg.norm(joints - motion.joints, axis=-1).max() < 1e-5  # float32 positions
    assert body.residual_m < 1e-5
    assert not body.is_stretching.any()


@pytest.mark.parametrize("skeleton", [HUMANML3D, KIT, t_pose(HUMANML3D)])
def test_any_pose_of_rigid_bones_comes_back_whatever_the_rest_pose(skeleton: Skeleton) -> None:
    rotations, root = random_pose(t_pose(skeleton), num_frames=8)
    joints = forward_kinematics(rotations, root, t_pose(skeleton))
    body = positions_to_rotations(joints, skeleton)
    np.testing.assert_allclose(
        forward_kinematics(body.rotations, body.root_positions, body.skeleton), joints, atol=1e-6
    )


def test_leaves_do_not_turn_and_every_quaternion_is_a_rotation() -> None:
    body = positions_to_rotations(jumping(1).joints, t_pose(HUMANML3D))
    leaves = [joint for joint, children in enumerate(HUMANML3D.children) if not children]
    np.testing.assert_array_equal(body.rotations[:, leaves], np.tile([1.0, 0, 0, 0], (len(body.rotations), 5, 1)))
    np.testing.assert_allclose(np.linalg.norm(body.rotations, axis=-1), 1, atol=1e-9)


def test_the_residual_is_the_distance_that_is_left() -> None:
    rng = np.random.default_rng(2)
    joints = walking(40).joints + rng.normal(size=(40, 22, 3)) * 0.01
    body = positions_to_rotations(joints, t_pose(HUMANML3D))
    left = np.linalg.norm(forward_kinematics(body.rotations, body.root_positions, body.skeleton) - joints, axis=-1)
    assert body.residual_m == pytest.approx(left.max())
    assert 0.005 < body.residual_m < 0.1


@pytest.mark.parametrize("tolerance_m", [0.02, 0.0009, 0.0])
def test_stretching_keeps_every_joint_within_the_tolerance(tolerance_m: float) -> None:
    rng = np.random.default_rng(3)
    joints = walking(40).joints + rng.normal(size=(40, 22, 3)) * 0.01
    body = positions_to_rotations(joints, t_pose(HUMANML3D), stretch_tolerance_m=tolerance_m)
    positions = world_transforms(body.rotations, body.translations, HUMANML3D.parents).positions
    assert np.linalg.norm(positions - joints, axis=-1).max() <= tolerance_m + 1e-9
    rigid = ~body.is_stretching
    rigid[0] = False
    np.testing.assert_array_equal(body.translations[:, rigid], np.tile(body.skeleton.offsets[rigid], (40, 1, 1)))


def test_real_clips_keep_within_a_millimetre(clips: list[Clip]) -> None:
    for clip in clips:
        body = positions_to_rotations(clip.motion.joints, t_pose(HUMANML3D), stretch_tolerance_m=0.0009)
        positions = world_transforms(body.rotations, body.translations, HUMANML3D.parents).positions
        assert np.linalg.norm(positions - clip.motion.joints, axis=-1).max() < 0.001, clip.id


def test_real_clips_turn_smoothly(clips: list[Clip]) -> None:
    for clip in clips:
        body = positions_to_rotations(clip.motion.joints, t_pose(HUMANML3D), stretch_tolerance_m=0.0009)
        # 20 fps: a kick turns a joint by some 60 degrees a frame, a flip by 180
        assert np.degrees(turn_angles(body.rotations)).max() < 90, clip.id
        assert np.einsum("tjc,tjc->tj", body.rotations[1:], body.rotations[:-1]).min() > 0


def test_a_child_that_strays_does_not_turn_its_siblings() -> None:
    # the spine bends at the pelvis, the hips stand still: only the spine may need a translation
    joints = np.repeat(walking(1).joints, 30, axis=0).astype(float)
    lower = {0, *HUMANML3D.chains[0], *HUMANML3D.chains[1]}
    above = [joint for joint in range(22) if joint not in lower]
    joints[:, above, 2] += 0.04 * np.sin(np.arange(30) / 4)[:, None]
    body = positions_to_rotations(joints, t_pose(HUMANML3D), stretch_tolerance_m=0.0009)
    assert [HUMANML3D.joint_names[j] for j in np.flatnonzero(body.is_stretching)] == ["spine1"]


def test_knees_bend_about_one_axis_when_a_leg_swings_out() -> None:
    # a thigh turned about itself carries the knee's hinge with it: bending stays about x in the thigh's frame
    rotations = np.tile([1.0, 0, 0, 0], (20, 22, 1))
    bend, spread = np.linspace(0.6, 1.4, 20), 0.7
    thigh = normalize(np.array([np.cos(spread / 2), 0.0, np.sin(spread / 2), 0.0]))
    rotations[:, HUMANML3D.index("left_hip")] = thigh
    knee = HUMANML3D.index("left_knee")
    rotations[:, knee] = np.stack([np.cos(bend / 2), np.sin(bend / 2), 0 * bend, 0 * bend], axis=-1)
    joints = forward_kinematics(rotations, np.zeros((20, 3)), t_pose(HUMANML3D))
    body = positions_to_rotations(joints, t_pose(HUMANML3D))
    axis = normalize(body.rotations[:, knee, 1:])
    assert (axis[:, 0] > 0.98).all()


def test_signs_are_continuous_and_rotations_the_same() -> None:
    rng = np.random.default_rng(4)
    q = normalize(np.cumsum(rng.normal(size=(50, 3, 4)) * 0.05, axis=0) + [1.0, 0, 0, 0])
    flipped = q * rng.choice([-1.0, 1.0], size=(50, 3, 1))
    smooth = continuous(flipped)
    np.testing.assert_allclose(quaternion_to_matrix(smooth), quaternion_to_matrix(q), atol=1e-12)
    assert np.einsum("tjc,tjc->tj", smooth[1:], smooth[:-1]).min() > 0


def test_a_body_in_one_point_has_rotations_too() -> None:
    body = positions_to_rotations(np.ones((3, 22, 3)), t_pose(HUMANML3D))
    assert np.isfinite(body.rotations).all()
    assert body.residual_m < 1e-9
