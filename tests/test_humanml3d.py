"""The published folder layout is read as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinalign.data.humanml3d import HumanML3DFolder, load_humanml3d
from kinalign.errors import DataError
from kinalign.motion.features import features_to_joints, motion_to_features
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, KIT, Skeleton

TEXTS = {
    "000021": "a person walks#a/DET person/NOUN walk/VERB#0.0#0.0\nwalking straight#walk/VERB straight/ADV#nan#nan\n",
    "M000021": "a person walks#a/DET person/NOUN walk/VERB#0.0#0.0\n",
    "000022": "a man waves, then sits#a/DET man/NOUN#0.0#0.0\nhe sits#sit/VERB#1.0#4.05\nsitting#sit/VERB#1.0#4.05\n",
    "000023": "only the end is told#only/ADV#2.0#99.0\n",
    "000024": "too short#too/ADV#0.0#0.0\n",
}
FRAMES = {"000021": 50, "M000021": 50, "000022": 120, "000023": 100, "000024": 30}


def walk(skeleton: Skeleton, num_frames: int) -> np.ndarray:
    """A rest pose that sways and moves along z."""
    pose = np.zeros((skeleton.num_joints, 3))
    for joint in skeleton.topological_order[1:]:
        pose[joint] = pose[skeleton.parents[joint]] + skeleton.offsets[joint]
    times = np.arange(num_frames)[:, None]
    joints = np.repeat(pose[None], num_frames, axis=0)
    joints[..., 2] += times * 0.02 + 0.01 * np.sin(times * 0.3 + np.arange(skeleton.num_joints))
    return joints.astype(np.float32)


def write_folder(root: Path, *, skeleton: Skeleton = HUMANML3D, unit_m: float = 1.0) -> Path:
    for name in ("texts", "new_joints", "new_joint_vecs"):
        (root / name).mkdir(parents=True)
    rows = []
    for clip_id, num_frames in FRAMES.items():
        features = motion_to_features(Motion(walk(skeleton, num_frames + 1), skeleton=skeleton))
        joints = features_to_joints(features)
        rows.append(features)
        np.save(root / "new_joints" / f"{clip_id}.npy", (joints / unit_m).astype(np.float32))
        np.save(root / "new_joint_vecs" / f"{clip_id}.npy", features)
        (root / "texts" / f"{clip_id}.txt").write_text(TEXTS[clip_id], encoding="utf-8")
    np.save(root / "Mean.npy", np.concatenate(rows).mean(axis=0))
    np.save(root / "Std.npy", np.concatenate(rows).std(axis=0) + 0.1)
    lists = {"train": ["000021", "M000021", "000024"], "val": ["000022"], "test": ["000023"]}
    lists |= {"train_val": lists["train"] + lists["val"], "all": list(FRAMES)}
    for name, ids in lists.items():
        (root / f"{name}.txt").write_text("\n".join(ids) + "\n")
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "HumanML3D")


def test_a_list_gives_its_clips_in_order_with_their_captions(folder: Path) -> None:
    clips = load_humanml3d(folder, "train")
    assert [clip.id for clip in clips] == ["000021", "M000021"]
    assert clips[0].captions == ("a person walks", "walking straight")
    assert {clip.split for clip in clips} == {"train"}
    assert clips[1].parent == "000021"
    assert len(clips[0].motion) == 50 and clips[0].motion.fps == 20


def test_captions_with_time_tags_are_clips_of_their_own(folder: Path) -> None:
    whole, part = load_humanml3d(folder, "val")
    assert whole.id == "000022" and whole.captions == ("a man waves, then sits",) and len(whole.motion) == 120
    assert part.id == "000022@20-81" and part.captions == ("he sits", "sitting") and part.parent == "000022"
    np.testing.assert_array_equal(part.motion.joints, whole.motion.joints[20:81])


def test_a_clip_whose_captions_are_all_timed_gives_only_parts(folder: Path) -> None:
    (part,) = load_humanml3d(folder, "test")
    assert part.id == "000023@40-100" and len(part.motion) == 60 and part.split == "test"


def test_lengths_are_the_published_ones_unless_any_is_asked_for(folder: Path) -> None:
    assert "000024" not in [clip.id for clip in load_humanml3d(folder, "all")]
    assert "000024" in [clip.id for clip in load_humanml3d(folder, "all", any_length=True)]


def test_no_list_means_the_three_splits_and_the_split_of_a_clip_is_known_in_any_list(folder: Path) -> None:
    splits = {clip.id: clip.split for clip in load_humanml3d(folder)}
    assert splits == {clip.id: clip.split for clip in load_humanml3d(folder, "all")}
    assert set(splits.values()) == {"train", "val", "test"}


def test_stored_features_belong_to_the_joints_of_clip_and_part(folder: Path) -> None:
    data = HumanML3DFolder.open(folder)
    rows = data.features("000022")
    assert rows.shape == (120, 263)
    np.testing.assert_array_equal(data.features("000022@20-81"), rows[20:81])
    np.testing.assert_allclose(features_to_joints(rows), data.clip("000022").motion.joints, atol=1e-6)
    assert data.stats.mean.shape == data.stats.std.shape == (263,)


def test_kit_is_told_by_its_joints_and_comes_in_metres(tmp_path: Path) -> None:
    clips = load_humanml3d(write_folder(tmp_path / "KIT-ML", skeleton=KIT, unit_m=0.001), "train")
    assert {clip.source for clip in clips} == {"KIT-ML"}
    assert clips[0].motion.fps == 12.5 and clips[0].motion.skeleton.name == "kit"
    assert "000024" in [clip.id for clip in clips]  # 30 frames are enough there
    head = clips[0].motion.joints[0, KIT.index("head"), 1]
    assert head == pytest.approx(np.ptp(walk(KIT, 1)[0, :, 1]), abs=1e-3)  # the sway moves nothing up or down


def test_all_missing_pieces_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "val.txt").touch()
    with pytest.raises(DataError, match=r"lacks new_joints/, train\.txt, test\.txt"):
        load_humanml3d(tmp_path, "train")


def test_listed_clips_without_files_are_counted_and_named(folder: Path) -> None:
    (folder / "new_joints" / "000021.npy").unlink()
    (folder / "texts" / "000024.txt").unlink()
    with pytest.raises(DataError, match=r"2 files, texts/000024\.txt, new_joints/000021\.npy"):
        load_humanml3d(folder, "train")


def test_motions_with_nan_are_left_out_by_name(folder: Path) -> None:
    joints = walk(HUMANML3D, 50)
    joints[7, 3] = np.nan
    np.save(folder / "new_joints" / "M000021.npy", joints)
    with pytest.warns(UserWarning, match=r"1 clips .* M000021 .*frame 7"):
        assert [clip.id for clip in load_humanml3d(folder, "train")] == ["000021"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("no fields", r"line 1 has 1 fields"), ("a#b/NOUN#one#2", r"'one' and '2' should be seconds")],
)
def test_a_malformed_text_names_file_and_line(folder: Path, text: str, complaint: str) -> None:
    (folder / "texts" / "000021.txt").write_text(text)
    with pytest.raises(DataError, match=rf"000021\.txt, .*{complaint}|000021\.txt, {complaint}"):
        load_humanml3d(folder, "train")


def test_a_file_cut_short_is_named(folder: Path) -> None:
    path = folder / "new_joints" / "000022.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"000022\.npy cannot be read"):
        load_humanml3d(folder, "val")
