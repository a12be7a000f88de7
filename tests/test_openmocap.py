"""openmocap20 is read as it is, filtered by what a clip says of itself."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kinalign.data.openmocap import OUR_EVENTS, load_openmocap
from kinalign.data.records import CaptionSpan, Clip, data_root
from kinalign.errors import DataError
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D

Read = Callable[[str], list[Clip]]


def test_bones_keep_their_length(openmocap: Read) -> None:
    for clip in openmocap("test")[::20]:
        bones = np.linalg.norm(clip.motion.joints - clip.motion.joints[:, HUMANML3D.parents], axis=-1)[:, 1:]
        assert np.median(bones.std(axis=0)) < 0.005  # metres; positions are stored to a fraction of a millimetre
        assert 0.1 < bones[:, 3].mean() < 0.6  # a thigh


def test_bodies_stand_upright_and_facing_is_forward(openmocap: Read) -> None:
    walks = [clip for clip in openmocap("test") if clip.label == "walk"]
    assert walks
    for clip in walks:
        joints = clip.motion.joints
        assert (joints[:, HUMANML3D.index("head"), 1] > joints[:, 0, 1] + 0.3).all()
        way = joints[-1, 0] - joints[0, 0]
        assert way @ clip.motion.facing()[len(joints) // 2] > 0


def test_splits_do_not_overlap_and_make_the_whole(openmocap: Read) -> None:
    ids = Counter(clip.id for split in ("train", "val", "test") for clip in openmocap(split))
    assert max(ids.values()) == 1 and len(ids) == 3628


def test_sources_and_licences_filter(openmocap: Read) -> None:
    clips = openmocap("test")
    chosen = load_openmocap(split="test", sources=["HDM05", "CMU"])
    assert {clip.id for clip in chosen} == {clip.id for clip in clips if clip.source in ("HDM05", "CMU")}
    free = load_openmocap(split="test", licenses=["CMU-mocap"])
    assert {clip.source for clip in free} == {"CMU", "CMU8"}


@pytest.mark.parametrize("wanted", [{"split": "dev"}, {"sources": ["Mixamo"]}, {"licenses": ["MIT"]}])
def test_an_unknown_filter_names_what_there_is(openmocap: Read, wanted: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"unknown .* it has "):
        load_openmocap(**wanted)  # type: ignore[arg-type]


def test_captions_of_a_part_know_their_frames(openmocap: Read) -> None:
    (clip,) = (clip for clip in openmocap("test") if clip.id == "cmu_01_03")
    (span,) = clip.spans
    assert (span.start, span.end, len(span.captions)) == (601, 752, 3)
    whole, part = clip.by_captions()
    assert set(whole.captions) | set(part.captions) == set(clip.captions)
    assert not set(whole.captions) & set(part.captions)
    np.testing.assert_array_equal(part.motion.joints, clip.motion.joints[601:752])


def test_labelled_events_can_be_clips_of_their_own() -> None:
    try:
        clips = load_openmocap(data_root() / "openmocap20", sources=["CMU"], cut_events=True)
    except DataError:
        pytest.skip("openmocap20 is not here: set KINALIGN_DATA to the folder that holds it")
    events = [clip for clip in clips if "@" in clip.id]
    trials = {clip.parent for clip in events}
    assert all(len(clip.captions) == 1 and not clip.spans for clip in events)
    # theirs replace the trial, whose captions mix them; ours stand beside the clip that they are cut from
    assert len(trials - {clip.id for clip in clips}) == 7
    assert {"cmu_02_05", "cmu_135_04"} <= trials & {clip.id for clip in clips}


def test_the_ranges_that_we_labelled_show_what_their_captions_say() -> None:
    try:
        clips = {clip.id: clip for clip in load_openmocap(data_root() / "openmocap20", cut_events=True)}
    except DataError:
        pytest.skip("openmocap20 is not here: set KINALIGN_DATA to the folder that holds it")
    ours = json.loads(OUR_EVENTS.read_text(encoding="utf-8"))
    joint = {name: index for index, name in enumerate(HUMANML3D.joint_names)}
    for trial, ranges in ours.items():
        for start, end, label in ranges:
            assert 0 <= start < end <= len(clips[trial].motion), (trial, start)
            joints = clips[f"{trial}@{start}"].motion.on_floor().joints
            side = label.rsplit("_", 1)[-1]
            if label.startswith("punch"):
                arms = {s: _reach(joints, joint[f"{s}_shoulder"], joint[f"{s}_wrist"]) for s in ("left", "right")}
                assert arms[side] == max(arms.values()) > 0.4, (trial, start, arms)
            elif label.startswith("kick"):
                feet = {s: joints[:, joint[f"{s}_foot"], 1].max() for s in ("left", "right")}
                assert feet[side] == max(feet.values()) > 0.8, (trial, start, feet)
            else:
                assert label == "sit_floor" and joints[-1, 0, 1] < 0.25 < 0.7 < joints[0, 0, 1], (trial, start)


def _reach(joints: np.ndarray, shoulder: int, wrist: int) -> float:
    return float(np.linalg.norm(joints[:, wrist] - joints[:, shoulder], axis=-1).max())


def test_a_clip_without_spans_is_its_own_only_part() -> None:
    clip = Clip("a", Motion(np.random.default_rng(0).normal(size=(9, 22, 3))), ("walks",), "x", "y", "train")
    (only,) = clip.by_captions()
    assert (only.id, only.captions, len(only.motion)) == ("a", ("walks",), 9)


def test_a_span_that_ends_late_ends_with_the_clip() -> None:
    motion = Motion(np.random.default_rng(0).normal(size=(9, 22, 3)))
    clip = Clip("a", motion, ("sits",), "x", "y", "train", spans=(CaptionSpan(4, 99, ("sits",)),))
    (part,) = clip.by_captions()
    assert (part.parent, part.captions, len(part.motion)) == ("a", ("sits",), 5)


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Path:
    row = {"id": "a", "source": "CMU", "license": "free", "fps": 20, "split": "train", "captions": [{"text": "walks"}]}
    (tmp_path / "clips.jsonl").write_text(json.dumps(row) + "\n")
    delta = np.random.default_rng(0).integers(-9, 9, (300, 22, 3)).astype(np.int16)
    np.savez_compressed(tmp_path / "motions.npz", delta=delta, offsets=np.array([0, 300]), scale=1e-3)
    return tmp_path


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_motions_cut_short_are_one_error(small: Path, share: float) -> None:
    assert len(load_openmocap(small)) == 1
    content = (small / "motions.npz").read_bytes()
    (small / "motions.npz").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"motions\.npz cannot be read"):
        load_openmocap(small)


def test_a_flipped_byte_is_one_error(small: Path) -> None:
    content = bytearray((small / "motions.npz").read_bytes())
    content[len(content) // 3] ^= 0xFF
    (small / "motions.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"motions\.npz cannot be read"):
        load_openmocap(small)


def test_absent_and_contradicting_files_are_one_error(small: Path, tmp_path: Path) -> None:
    with (small / "clips.jsonl").open("a") as file:
        file.write('{"id": "b", "sou')
    with pytest.raises(DataError, match="line 2 is not JSON"):
        load_openmocap(small)
    (small / "clips.jsonl").write_text("\n".join((small / "clips.jsonl").read_text().splitlines()[:1] * 2))
    with pytest.raises(DataError, match=r"holds 1 clips .* lists 2"):
        load_openmocap(small)
    shutil.copy(small / "motions.npz", tmp_path / "alone.npz")
    (small / "clips.jsonl").unlink()
    with pytest.raises(DataError, match=r"clips\.jsonl is absent"):
        load_openmocap(small)
