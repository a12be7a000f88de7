"""AMASS and SMPL-H may not be shipped: a made-up body of the same layout stands in for them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kinalign.errors import FormatError
from kinalign.motion.formats.amass import read_amass
from kinalign.motion.skeleton import HUMANML3D

NUM_JOINTS, NUM_VERTICES, NUM_BETAS = 52, 104, 16


def body_model(seed: int = 0) -> dict[str, np.ndarray]:
    """52 joints, each the mean of its own two vertices, as SMPL-H lays them out."""
    rng = np.random.default_rng(seed)
    regressor = np.zeros((NUM_JOINTS, NUM_VERTICES))
    for joint in range(NUM_JOINTS):
        regressor[joint, [2 * joint, 2 * joint + 1]] = 0.5
    parents = np.concatenate((HUMANML3D.parents, rng.integers(20, 22, NUM_JOINTS - 22))).astype(np.int64)
    table = np.stack((parents, np.arange(NUM_JOINTS)))
    return {
        "v_template": rng.normal(size=(NUM_VERTICES, 3)),
        "shapedirs": rng.normal(size=(NUM_VERTICES, 3, NUM_BETAS)) * 0.1,
        "J_regressor": regressor,
        "kintree_table": table.astype(np.uint32),  # the root's parent wraps round to 4294967295
        "weights": np.ones((NUM_VERTICES, NUM_JOINTS)) / NUM_JOINTS,
    }


def sequence(num_frames: int = 30, *, rate: float = 120.0, seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "poses": np.cumsum(rng.normal(size=(num_frames, NUM_JOINTS * 3)) * 0.05, axis=0),
        "trans": np.cumsum(rng.normal(size=(num_frames, 3)) * 0.01, axis=0),
        "betas": rng.normal(size=NUM_BETAS),
        "mocap_framerate": np.float64(rate),
        "gender": np.str_("female"),
        "dmpls": np.zeros((num_frames, 8)),
    }


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    np.savez(tmp_path / "clip.npz", **sequence())
    np.savez(tmp_path / "model.npz", **body_model())
    return tmp_path / "clip.npz", tmp_path / "model.npz"


def joints_by_scipy(model: dict[str, np.ndarray], clip: dict[str, Any], frame: int) -> np.ndarray:
    """The first 22 joints in AMASS's own z-up world."""
    shaped = model["v_template"] + np.tensordot(model["shapedirs"], clip["betas"], axes=1)
    rest = model["J_regressor"] @ shaped
    turns: dict[int, Rotation] = {}
    places = np.zeros((22, 3))
    for joint in range(22):
        parent = HUMANML3D.parents[joint]
        turn = Rotation.from_rotvec(clip["poses"][frame, 3 * joint : 3 * joint + 3])
        if parent < 0:
            turns[joint], places[joint] = turn, rest[joint] + clip["trans"][frame]
        else:
            turns[joint] = turns[parent] * turn
            places[joint] = places[parent] + turns[parent].apply(rest[joint] - rest[parent])
    return places


def test_joints_are_those_of_the_body_model_with_y_up(files: tuple[Path, Path]) -> None:
    motion = read_amass(*files)
    for frame in range(len(motion)):
        x, y, z = joints_by_scipy(body_model(), sequence(), 6 * frame).T
        np.testing.assert_allclose(motion.joints[frame], np.stack((-x, z, y), axis=-1), atol=1e-5)


@pytest.mark.parametrize(
    ("rate", "fps", "num_frames"), [(120.0, 20.0, 5), (100.0, 20.0, 6), (59.0, 29.5, 15), (10.0, 10.0, 30)]
)
def test_frames_are_taken_at_a_whole_stride_to_about_20_fps(
    tmp_path: Path, files: tuple[Path, Path], rate: float, fps: float, num_frames: int
) -> None:
    np.savez(tmp_path / "other.npz", **sequence(rate=rate))
    motion = read_amass(tmp_path / "other.npz", files[1])
    assert (motion.fps, len(motion)) == (fps, num_frames)


def test_newer_files_spell_the_frame_rate_otherwise(tmp_path: Path, files: tuple[Path, Path]) -> None:
    clip = sequence()
    clip["mocap_frame_rate"] = clip.pop("mocap_framerate")
    np.savez(tmp_path / "new.npz", **clip)
    np.testing.assert_array_equal(read_amass(tmp_path / "new.npz", files[1]).joints, read_amass(*files).joints)


@pytest.mark.parametrize("gender", ["female", b"female"])
def test_the_published_folder_of_models_is_searched_by_gender(
    tmp_path: Path, files: tuple[Path, Path], gender: str | bytes
) -> None:
    for seed, name in enumerate(("male", "female")):
        (tmp_path / "smplh" / name).mkdir(parents=True)
        np.savez(tmp_path / "smplh" / name / "model.npz", **body_model(seed=1 - seed))
    np.savez(tmp_path / "clip.npz", **{**sequence(), "gender": np.array(gender)})
    np.testing.assert_array_equal(
        read_amass(tmp_path / "clip.npz", tmp_path / "smplh").joints, read_amass(*files).joints
    )


def test_a_model_with_fewer_shape_directions_uses_as_many_betas(tmp_path: Path, files: tuple[Path, Path]) -> None:
    model = body_model()
    np.savez(tmp_path / "ten.npz", **{**model, "shapedirs": model["shapedirs"][..., :10]})
    betas = np.where(np.arange(NUM_BETAS) < 10, sequence()["betas"], 0.0)
    np.savez(tmp_path / "zeros.npz", **{**sequence(), "betas": betas})
    np.testing.assert_allclose(
        read_amass(files[0], tmp_path / "ten.npz").joints, read_amass(tmp_path / "zeros.npz", files[1]).joints
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"poses": np.zeros((30, 155))}, r"clip\.npz.*poses"),
        ({"poses": np.zeros((30, 60))}, r"clip\.npz.*20 joints.*22"),
        ({"trans": np.zeros((29, 3))}, r"clip\.npz.*trans"),
        ({"mocap_framerate": np.float64(0)}, r"clip\.npz.*mocap_framerate"),
        ({"poses": np.full((30, 156), np.nan)}, r"clip\.npz.*not finite"),
    ],
)
def test_a_sequence_that_is_wrong_is_one_error(
    tmp_path: Path, files: tuple[Path, Path], change: dict[str, Any], words: str
) -> None:
    np.savez(tmp_path / "clip.npz", **{**sequence(), **change})
    with pytest.raises(FormatError, match=words):
        read_amass(tmp_path / "clip.npz", files[1])


def test_shape_files_and_cut_files_say_what_they_lack(tmp_path: Path, files: tuple[Path, Path]) -> None:
    np.savez(tmp_path / "shape.npz", betas=np.zeros(16), gender="male")
    with pytest.raises(FormatError, match=r"shape\.npz lacks poses, trans"):
        read_amass(tmp_path / "shape.npz", files[1])
    (tmp_path / "cut.npz").write_bytes(files[0].read_bytes()[:500])
    with pytest.raises(FormatError, match=r"cut\.npz"):
        read_amass(tmp_path / "cut.npz", files[1])
    with pytest.raises(FormatError, match=r"absent\.npz"):
        read_amass(files[0], tmp_path / "absent.npz")


def test_models_of_another_layout_are_refused(tmp_path: Path, files: tuple[Path, Path]) -> None:
    model = body_model()
    np.savez(tmp_path / "other.npz", **{**model, "J_regressor": model["J_regressor"][:, :50]})
    with pytest.raises(FormatError, match=r"other\.npz.*do not fit"):
        read_amass(files[0], tmp_path / "other.npz")
    np.savez(tmp_path / "tree.npz", **{**model, "kintree_table": np.zeros((2, NUM_JOINTS), dtype=np.uint32)})
    with pytest.raises(FormatError, match=r"tree\.npz.*kintree_table"):
        read_amass(files[0], tmp_path / "tree.npz")


def test_pickled_models_are_never_loaded(tmp_path: Path, files: tuple[Path, Path]) -> None:
    (tmp_path / "model.pkl").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(FormatError, match=r"pickle.*npz"):
        read_amass(files[0], tmp_path / "model.pkl")
    np.savez(tmp_path / "objects.npz", **{**body_model(), "J_regressor": np.array([{}], dtype=object)})
    with pytest.raises(FormatError, match="pickled objects"):
        read_amass(files[0], tmp_path / "objects.npz")
