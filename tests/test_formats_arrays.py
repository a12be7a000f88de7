from pathlib import Path

import numpy as np
import pytest

from kinalign.errors import FormatError
from kinalign.motion.features import motion_to_features
from kinalign.motion.formats.arrays import read_npy, read_npz, write_npy, write_npz
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import KIT
from kinalign.motion.synthetic import walking


class Trap:
    """Unpickling this would leave a file behind."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return Path.touch, (self.victim,)


def test_npy_holds_the_joints_exactly(tmp_path: Path) -> None:
    motion = walking(20)
    write_npy(motion, tmp_path / "a.npy")
    assert np.load(tmp_path / "a.npy").dtype == np.float32
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy").joints, motion.joints)


def test_npz_holds_everything_exactly(tmp_path: Path) -> None:
    motion = Motion(walking(20).joints, fps=30.0, caption="ein Mensch geht — schnell")
    write_npz(motion, tmp_path / "a.npz")
    back = read_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(back.joints, motion.joints)
    assert (back.fps, back.caption, back.skeleton.name) == (30.0, motion.caption, "humanml3d")


def test_other_programs_read_the_npz_without_pickle(tmp_path: Path) -> None:
    write_npz(walking(5), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert set(archive.files) == {"joints", "fps", "caption", "skeleton"}


def test_an_npz_with_joints_alone_is_a_motion(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", joints=np.ones((4, 21, 3)))
    motion = read_npz(tmp_path / "a.npz")
    assert (motion.skeleton.name, motion.fps) == ("kit", 12.5)


def test_features_are_told_from_joints_by_their_shape(tmp_path: Path) -> None:
    features = motion_to_features(walking(30))
    np.save(tmp_path / "a.npy", features)
    assert read_npy(tmp_path / "a.npy").joints.shape == (29, 22, 3)
    np.save(tmp_path / "kit.npy", np.zeros((5, 251)))
    kit = read_npy(tmp_path / "kit.npy")
    assert kit.skeleton is KIT and kit.fps == 12.5


def test_the_frame_rate_of_an_npy_is_what_the_caller_says(tmp_path: Path) -> None:
    write_npy(walking(5), tmp_path / "a.npy")
    assert read_npy(tmp_path / "a.npy").fps == 20
    assert read_npy(tmp_path / "a.npy", fps=60).fps == 60


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((5, 23, 3)), "23 joints"),
        (np.zeros((5, 22, 2)), "shape"),
        (np.zeros((5, 100)), "width 100"),
        (np.zeros(7), "shape"),
        (np.zeros((2, 5, 22, 3)), "shape"),
        (np.full((5, 22, 3), np.nan), "not finite"),
        (np.zeros((0, 22, 3)), "at least 1 frame"),
        (np.array(["a", "b"]), "<U1"),
    ],
)
def test_arrays_that_are_no_motion_are_one_error_with_the_name_of_the_file(
    tmp_path: Path, array: np.ndarray, words: str
) -> None:
    np.save(tmp_path / "odd.npy", array)
    with pytest.raises(FormatError, match=rf"odd\.npy.*{words}"):
        read_npy(tmp_path / "odd.npy")
    np.savez(tmp_path / "odd.npz", joints=array)
    if array.ndim != 2:
        with pytest.raises(FormatError, match=r"odd\.npz"):
            read_npz(tmp_path / "odd.npz")


@pytest.mark.parametrize(("suffix", "read"), [(".npy", read_npy), (".npz", read_npz)])
@pytest.mark.parametrize("kept", [0, 1, 7, 50, 200, 1000])
def test_a_file_cut_anywhere_is_one_error(tmp_path: Path, suffix: str, read, kept: int) -> None:  # type: ignore[no-untyped-def]
    whole = walking(30).save(tmp_path / f"whole{suffix}").read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole[:kept])
    with pytest.raises(FormatError, match=rf"cut\{suffix}"):
        read(cut)


@pytest.mark.parametrize(("suffix", "read"), [(".npy", read_npy), (".npz", read_npz)])
def test_garbage_and_absent_files_are_one_error(tmp_path: Path, suffix: str, read) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / f"odd{suffix}").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(FormatError, match=rf"odd\{suffix}"):
        read(tmp_path / f"odd{suffix}")
    with pytest.raises(FormatError, match="no such file"):
        read(tmp_path / f"absent{suffix}")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pickles_are_refused_and_never_run(tmp_path: Path) -> None:
    victim = tmp_path / "ran"
    objects = np.array([Trap(victim)], dtype=object)
    np.save(tmp_path / "trap.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "trap.npz", joints=objects)
    for read, name in ((read_npy, "trap.npy"), (read_npz, "trap.npz")):
        with pytest.raises(FormatError, match="pickled objects"):
            read(tmp_path / name)
    assert not victim.exists()


def test_an_archive_of_another_kind_says_what_it_has(tmp_path: Path) -> None:
    np.savez(tmp_path / "amass.npz", poses=np.zeros((4, 156)), trans=np.zeros((4, 3)))
    with pytest.raises(FormatError, match=r"no array 'joints'.*poses.*read_amass"):
        read_npz(tmp_path / "amass.npz")
    np.savez(tmp_path / "dog.npz", joints=np.zeros((4, 22, 3)), skeleton="dog")
    with pytest.raises(FormatError, match=r"'dog'.*humanml3d, kit"):
        read_npz(tmp_path / "dog.npz")
    np.savez(tmp_path / "wrong.npz", joints=np.zeros((4, 22, 3)), skeleton="kit")
    with pytest.raises(FormatError, match=r"wrong\.npz.*21"):
        read_npz(tmp_path / "wrong.npz")
    np.savez(tmp_path / "rate.npz", joints=np.zeros((4, 22, 3)), fps=0)
    with pytest.raises(FormatError, match=r"rate\.npz.*fps"):
        read_npz(tmp_path / "rate.npz")


def test_an_npz_under_the_name_of_an_npy_says_so(tmp_path: Path) -> None:
    write_npz(walking(4), tmp_path / "a.npz")
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(FormatError, match="rename"):
        read_npy(tmp_path / "a.npy")


def test_writing_over_a_file_replaces_it_whole(tmp_path: Path) -> None:
    write_npz(walking(50), tmp_path / "a.npz")
    write_npz(walking(4), tmp_path / "a.npz")
    assert len(read_npz(tmp_path / "a.npz")) == 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.npz"]
