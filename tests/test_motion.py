import numpy as np
import pytest

from kinalign.errors import FormatError, KinalignError, MotionError
from kinalign.motion.motion import Motion
from kinalign.motion.rotations import quaternion_rotate, yaw_quaternion
from kinalign.motion.skeleton import KIT
from kinalign.motion.synthetic import jumping, walking, waving


def turned(motion: Motion, angle: float, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Motion:
    joints = quaternion_rotate(yaw_quaternion(angle), motion.joints.astype(float)) + shift
    return Motion(joints, fps=motion.fps, caption=motion.caption)


def test_joints_are_kept_as_float32_and_never_shared_with_a_change() -> None:
    motion = walking(20)
    assert motion.joints.dtype == np.float32
    before = motion.joints.copy()
    motion.mirror(), motion.face_forward(), motion.on_floor(), motion.resample(30)
    np.testing.assert_array_equal(motion.joints, before)


@pytest.mark.parametrize(
    ("joints", "words"),
    [
        (np.zeros((5, 21, 3)), "humanml3d"),
        (np.zeros((22, 3)), "shape"),
        (np.zeros((0, 22, 3)), "at least 1 frame"),
        (np.where(np.arange(5)[:, None, None] == 3, np.nan, np.zeros((5, 22, 3))), "frame 3 of 5"),
    ],
)
def test_joints_that_are_no_motion_are_refused_with_a_reason(joints: np.ndarray, words: str) -> None:
    with pytest.raises(MotionError, match=words):
        Motion(joints)


@pytest.mark.parametrize("fps", [0.0, -20.0, np.nan, np.inf])
def test_a_frame_rate_that_is_none_is_refused(fps: float) -> None:
    with pytest.raises(MotionError, match="fps"):
        Motion(np.zeros((2, 22, 3)), fps=fps)
    with pytest.raises(MotionError, match="fps"):
        walking(4).resample(fps)


def test_one_frame_is_a_motion() -> None:
    motion = walking(1)
    assert len(motion) == 1
    assert len(motion.resample(60)) == 1
    assert motion.mirror().on_floor().face_forward().duration_s == pytest.approx(0.05)


def test_slices_joined_again_are_the_whole() -> None:
    motion = walking(50)
    joined = Motion.concatenate([motion[:20], motion[20:]])
    np.testing.assert_array_equal(joined.joints, motion.joints)
    assert joined.caption == motion.caption


def test_slicing_refuses_a_step_an_index_and_no_frames() -> None:
    with pytest.raises(MotionError, match="resample"):
        walking(10)[::2]
    with pytest.raises(TypeError, match="joints"):
        walking(10)[3]  # type: ignore[index]
    with pytest.raises(MotionError, match="at least 1 frame"):
        walking(10)[5:5]


def test_motions_of_another_rate_or_skeleton_are_not_joined() -> None:
    with pytest.raises(MotionError, match="fps"):
        Motion.concatenate([walking(5), walking(5, fps=30)])
    with pytest.raises(MotionError, match="skeletons"):
        Motion.concatenate([walking(5), Motion(np.zeros((5, 21, 3)), skeleton=KIT)])
    with pytest.raises(MotionError, match="at least one"):
        Motion.concatenate([])


def test_resampling_up_and_down_again_returns_every_frame() -> None:
    motion = walking(33)
    there_and_back = motion.resample(120).resample(20)
    np.testing.assert_allclose(there_and_back.joints, motion.joints, atol=1e-5)  # float32, twice rounded


def test_resampling_keeps_speed_and_duration() -> None:
    time = np.arange(61) / 60
    joints = np.zeros((61, 22, 3)) + (time * 1.5)[:, None, None]
    slow = Motion(joints, fps=60).resample(20)
    assert len(slow) == 21
    np.testing.assert_allclose(np.diff(slow.joints[:, 0, 0]) * 20, 1.5, rtol=1e-4)  # float32


def test_mirroring_twice_changes_nothing_and_once_swaps_the_sides() -> None:
    motion = waving(30, side="right")
    mirrored = motion.mirror()
    np.testing.assert_array_equal(mirrored.mirror().joints, motion.joints)
    np.testing.assert_allclose(mirrored.joints, waving(30, side="left").joints, atol=1e-6)


def test_backwards_begins_with_the_end_and_twice_changes_nothing() -> None:
    motion = walking(30)
    np.testing.assert_array_equal(motion.backwards().joints[0], motion.joints[-1])
    np.testing.assert_array_equal(motion.backwards().backwards().joints, motion.joints)


def test_a_body_that_faces_z_has_its_left_at_x() -> None:
    motion = walking(10)
    np.testing.assert_allclose(motion.facing()[0], [0, 0, 1], atol=1e-6)
    skeleton = motion.skeleton
    assert motion.joints[0, skeleton.index("left_hip"), 0] > motion.joints[0, skeleton.index("right_hip"), 0]


@pytest.mark.parametrize("angle", [0.3, 1.7, np.pi, -2.2])
def test_facing_forward_undoes_any_turn_and_any_step(angle: float) -> None:
    motion = walking(30)
    back = turned(motion, angle, (4.0, 0.0, -2.0)).face_forward()
    np.testing.assert_allclose(back.joints, motion.face_forward().joints, atol=1e-5)  # float32 at 4 m
    np.testing.assert_allclose(back.facing()[0], [0, 0, 1], atol=1e-6)


def test_a_motion_put_on_the_floor_touches_it() -> None:
    lifted = turned(jumping(1), 0.0, (0.0, 1.3, 0.0)).on_floor()
    assert lifted.joints[..., 1].min() == 0
    np.testing.assert_allclose(lifted.joints, jumping(1).joints, atol=1e-6)


def test_a_body_in_one_point_faces_nowhere() -> None:
    with pytest.raises(MotionError, match="nowhere"):
        Motion(np.zeros((2, 22, 3))).face_forward()


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".bvh"])
def test_a_saved_motion_is_loaded_again(tmp_path, suffix: str) -> None:  # type: ignore[no-untyped-def]
    motion = walking(25)
    loaded = Motion.load(motion.save(tmp_path / f"walk{suffix}"))
    assert loaded.fps == motion.fps
    np.testing.assert_allclose(loaded.joints, motion.joints, atol=1e-3)


def test_an_unknown_suffix_names_the_known_ones(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FormatError, match=r"\.fbx.*\.bvh"):
        walking(3).save(tmp_path / "walk.fbx")
    with pytest.raises(FormatError, match=r"\.txt"):
        Motion.load(tmp_path / "walk.txt")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".bvh", ".glb"])
def test_a_folder_that_cannot_be_is_one_clear_error_and_leaves_nothing(tmp_path, suffix: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(KinalignError, match="cannot write"):
        walking(3).save(tmp_path / "file" / f"walk{suffix}")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_synthetic_motions_have_rigid_bones_and_stand_on_the_floor() -> None:
    for motion in (walking(), waving(), jumping(3)):
        bones = motion.joints[:, 1:] - motion.joints[:, list(motion.skeleton.parents[1:])]
        lengths = np.linalg.norm(bones, axis=-1)
        assert np.ptp(lengths, axis=0).max() < 1e-5
        assert motion.joints[..., 1].min() == pytest.approx(0, abs=1e-6)


def test_a_synthetic_walk_goes_forward_and_a_jump_leaves_the_floor_as_often_as_said() -> None:
    walk = walking(80)
    assert walk.joints[-1, 0, 2] > 1.0
    lowest = jumping(3).joints[..., 1].min(axis=1)
    assert np.sum(np.diff((lowest > 0.05).astype(int)) == 1) == 3
