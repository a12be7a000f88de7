from collections.abc import Callable

import numpy as np
import pytest

from kinalign.data.records import Clip, data_root
from kinalign.errors import DataError, MotionError
from kinalign.motion.features import (
    FeatureLayout,
    FeatureStats,
    canonical_joints,
    features_to_joints,
    features_to_motion,
    motion_to_features,
    uniform_skeleton,
)
from kinalign.motion.motion import Motion
from kinalign.motion.rotations import matrix_from_6d, quaternion_rotate, yaw_quaternion
from kinalign.motion.skeleton import HUMANML3D, KIT, Skeleton
from kinalign.motion.synthetic import jumping, walking, waving


def turned(motion: Motion, angle: float, shift: tuple[float, float, float]) -> Motion:
    return Motion(quaternion_rotate(yaw_quaternion(angle), motion.joints.astype(float)) + shift, fps=motion.fps)


def kit_walk() -> Motion:
    """KIT's 21 joints out of HumanML3D's: the spine has one joint less, feet have heels."""
    walk = walking(40)
    joints = np.zeros((40, 21, 3))
    for joint, name in enumerate(KIT.joint_names):
        if "heel" in name:
            joints[:, joint] = walk.joints[:, HUMANML3D.index(name.replace("heel", "ankle"))] - [0, 0.04, 0.03]
        else:
            joints[:, joint] = walk.joints[:, HUMANML3D.index(name)]
    return Motion(joints, skeleton=KIT)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    """Inputs and outputs of the published processing on real clips."""
    try:
        path = data_root().parent / "golden" / "humanml3d_features.npz"
    except DataError as error:
        pytest.skip(str(error))
    if not path.is_file():
        pytest.skip(f"the golden features are not here ({path.name})")
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def golden_ids(golden: dict[str, np.ndarray]) -> list[str]:
    return sorted({name.split("/")[0] for name in golden if "/" in name})


def test_features_are_those_of_the_published_processing(golden: dict[str, np.ndarray]) -> None:
    target = Skeleton.from_joints(golden["template"])
    for clip in golden_ids(golden):
        features = motion_to_features(Motion(golden[f"{clip}/joints"]), target_skeleton=target)
        np.testing.assert_allclose(features, golden[f"{clip}/features"], atol=1e-4)


def test_joints_come_back_as_in_the_published_recovery(golden: dict[str, np.ndarray]) -> None:
    for clip in golden_ids(golden):
        motion = features_to_motion(golden[f"{clip}/features"])
        np.testing.assert_allclose(motion.joints, golden[f"{clip}/recovered"], atol=1e-4)


def test_widths_are_the_published_ones() -> None:
    assert FeatureLayout(22).width == 263
    assert FeatureLayout(21).width == 251
    assert FeatureLayout.of_width(263) == FeatureLayout(22)
    assert FeatureLayout.of_width(251) == FeatureLayout(21)
    with pytest.raises(MotionError, match=r"262.*251, 263"):
        FeatureLayout.of_width(262)


def test_the_slices_of_a_layout_cover_every_number_once() -> None:
    layout = FeatureLayout(22)
    covered = np.concatenate([np.arange(layout.width)[part] for part in layout.slices.values()])
    np.testing.assert_array_equal(covered, np.arange(layout.width))
    assert layout.slices["joint_positions"] == slice(4, 67)
    assert layout.slices["foot_contacts"] == slice(259, 263)


@pytest.mark.parametrize("motion", [walking(60), waving(40), jumping(2), kit_walk()], ids=lambda m: m.caption or "kit")
def test_joints_come_back_from_features_where_features_put_them(motion: Motion) -> None:
    back = features_to_motion(motion_to_features(motion))
    assert back.skeleton.name == motion.skeleton.name
    np.testing.assert_allclose(back.joints, canonical_joints(motion)[:-1], atol=1e-5)  # float32 sums over the clip


def test_real_clips_come_back_from_the_body_heading(openmocap: Callable[[str], list[Clip]]) -> None:
    # the published heading loses a little each time it passes -z, where its quaternion changes sign
    for clip in openmocap("test")[::40]:
        back = features_to_motion(motion_to_features(clip.motion, heading="body"))
        expected = canonical_joints(clip.motion)[:-1]
        np.testing.assert_allclose(back.joints, expected, atol=1e-4, err_msg=clip.id)  # float32 sums over the clip


def test_a_batch_equals_each() -> None:
    clips = np.stack([walking(40).joints, waving(40).joints, jumping(2).joints[:40]])
    together = motion_to_features(clips, target_skeleton=HUMANML3D)
    for clip, features in zip(clips, together):
        np.testing.assert_allclose(features, motion_to_features(clip, target_skeleton=HUMANML3D), atol=1e-6)
    np.testing.assert_allclose(features_to_joints(together)[1], features_to_joints(together[1]), atol=1e-12)


@pytest.mark.parametrize("angle", [0.5, -2.0, np.pi])
def test_where_a_clip_stands_and_looks_changes_nothing(angle: float) -> None:
    motion = walking(50)
    features = motion_to_features(motion)
    np.testing.assert_allclose(
        motion_to_features(turned(motion, angle, (1.0, 0.5, -2.0))),
        features,
        atol=1e-4,  # float32 joints at 3 m, divided by short bones
    )


def test_a_body_of_another_size_has_the_same_features_on_one_skeleton() -> None:
    motion = walking(50)
    small = Motion(motion.joints * 0.7)
    ours = motion_to_features(motion, target_skeleton=HUMANML3D)
    np.testing.assert_allclose(motion_to_features(small, target_skeleton=HUMANML3D), ours, atol=1e-4)


def test_the_uniform_skeleton_has_the_target_bones_and_the_observed_directions() -> None:
    joints = walking(20).joints * 1.3
    carried = uniform_skeleton(joints, HUMANML3D, HUMANML3D)
    parents = list(HUMANML3D.parents)
    bones, observed = (carried - carried[:, parents])[:, 1:], (joints - joints[:, parents])[:, 1:]
    lengths = np.linalg.norm(bones, axis=-1)
    np.testing.assert_allclose(lengths, np.tile(HUMANML3D.bone_lengths[1:], (20, 1)), atol=1e-6)
    np.testing.assert_allclose(
        bones / lengths[..., None], observed / np.linalg.norm(observed, axis=-1, keepdims=True), atol=1e-5
    )


def test_mirroring_a_motion_swaps_the_sides_of_its_features() -> None:
    motion = walking(50)
    layout = FeatureLayout(22)
    twins = list(HUMANML3D.mirrored_joints)
    plain, mirrored = motion_to_features(motion), motion_to_features(motion.mirror())

    def part(features: np.ndarray, name: str) -> np.ndarray:
        return features[:, layout.slices[name]]

    np.testing.assert_allclose(part(mirrored, "root_yaw_velocity"), -part(plain, "root_yaw_velocity"), atol=1e-5)
    np.testing.assert_allclose(part(mirrored, "root_velocity"), part(plain, "root_velocity") * [-1, 1], atol=1e-5)
    np.testing.assert_allclose(part(mirrored, "root_height"), part(plain, "root_height"), atol=1e-5)
    for name, joints in (("joint_positions", twins[1:]), ("joint_velocities", twins)):
        first = 1 if name == "joint_positions" else 0
        ours = part(plain, name).reshape(len(plain), -1, 3)[:, [joint - first for joint in joints]] * [-1, 1, 1]
        np.testing.assert_allclose(part(mirrored, name).reshape(ours.shape), ours, atol=1e-5)
    np.testing.assert_array_equal(part(mirrored, "foot_contacts"), part(plain, "foot_contacts")[:, [2, 3, 0, 1]])


def test_rotation_features_are_rotations() -> None:
    features = motion_to_features(jumping(1))
    six = features[:, FeatureLayout(22).slices["joint_rotations"]].reshape(-1, 6).astype(float)
    matrices = matrix_from_6d(six)
    np.testing.assert_allclose(np.concatenate((matrices[..., 0], matrices[..., 1]), axis=-1), six, atol=1e-5)


def test_feet_are_down_while_they_stand_and_up_while_the_body_flies() -> None:
    motion = jumping(1, height_m=0.4)
    contacts = motion_to_features(motion)[:, FeatureLayout(22).slices["foot_contacts"]]
    assert contacts[:5].all()
    speed = np.diff(motion.joints[:, HUMANML3D.index("left_foot")], axis=0)
    fast = np.square(speed).sum(axis=-1) > 0.01
    assert fast.any()
    assert not contacts[fast, 1].any()


@pytest.mark.parametrize(
    ("joints", "words"),
    [
        (walking(1).joints, "at least 2 frames"),
        (np.zeros((5, 22, 3)), "no length|nowhere"),
        (np.full((5, 22, 3), np.nan), "finite"),
        (np.zeros((5, 23, 3)), "23 joints"),
        (np.zeros((5, 22, 2)), "shape"),
    ],
)
def test_what_has_no_features_is_refused_with_a_reason(joints: np.ndarray, words: str) -> None:
    with pytest.raises(MotionError, match=words):
        motion_to_features(joints)


def test_features_that_are_no_motion_are_refused() -> None:
    with pytest.raises(MotionError, match="fit no built-in skeleton"):
        features_to_motion(np.zeros((5, 100)))
    with pytest.raises(MotionError, match=r"\(T, F\)"):
        features_to_motion(np.zeros((2, 5, 263)))
    with pytest.raises(MotionError, match="finite"):
        features_to_motion(np.full((5, 263), np.nan))


def test_normalising_and_back_changes_nothing_and_gives_each_part_one_spread() -> None:
    rows = np.concatenate([motion_to_features(m) for m in (walking(60), jumping(3))])
    stats = FeatureStats.of(rows)
    np.testing.assert_allclose(stats.denormalize(stats.normalize(rows)), rows, atol=1e-5)
    np.testing.assert_allclose(stats.normalize(rows).mean(axis=0), 0, atol=1e-4)
    for part in FeatureLayout(22).slices.values():
        assert np.ptp(stats.std[part]) == 0
    with pytest.raises(MotionError, match="2 rows"):
        FeatureStats.of(rows[:1])
