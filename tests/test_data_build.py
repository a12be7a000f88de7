"""A data set is built from any source, survives a kill and hides nothing that it left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinalign.data.build import TAKES_PER_SHARD, BuildConfig, Moments, build, cut
from kinalign.data.dataset import load_dataset, load_stats, read_manifest
from kinalign.data.openmocap import load_openmocap
from kinalign.errors import ConfigError, DataError, KinalignError
from kinalign.motion.features import FeatureStats, motion_to_features
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, KIT, Skeleton


def sway(num_frames: int, seed: int = 0, skeleton: Skeleton = HUMANML3D) -> np.ndarray:
    """(T, J, 3) metres: a rest pose that walks its own way and swings, no two seeds alike."""
    rng = np.random.default_rng(seed)
    pose = np.zeros((skeleton.num_joints, 3))
    for joint in skeleton.topological_order[1:]:
        pose[joint] = pose[skeleton.parents[joint]] + skeleton.offsets[joint]
    times = np.arange(num_frames)[:, None, None] / 20
    swing = 0.05 * np.sin(times * rng.uniform(2, 5) + rng.uniform(0, 6, (1, skeleton.num_joints, 3)))
    return (pose + swing + times * rng.uniform(-0.5, 0.5, 3) * [1, 0, 1]).astype(np.float32)


def write_openmocap(root: Path, clips: list[dict[str, Any]]) -> Path:
    """A folder of openmocap20's layout; each clip says its frames and what differs from the default row."""
    root.mkdir(parents=True)
    rows, deltas, offsets = [], [], [0]
    for number, clip in enumerate(clips):
        row = {"id": f"clip_{number:03d}", "source": "CMU", "license": "free", "fps": 20, "split": "train"} | clip
        row.setdefault("captions", [{"text": "a person turns left", "origin": "own"}])
        steps = np.round(sway(row["frames"], number) / 1e-3).astype(np.int16)
        deltas.append(np.diff(steps, axis=0, prepend=np.zeros_like(steps[:1])))
        offsets.append(offsets[-1] + row["frames"])
        rows.append(json.dumps(row))
    (root / "clips.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    np.savez(root / "motions.npz", delta=np.concatenate(deltas), offsets=np.array(offsets), scale=1e-3)
    return root


def write_npy_folder(root: Path, lengths: dict[str, int]) -> Path:
    for number, (name, num_frames) in enumerate(lengths.items()):
        path = root / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, sway(num_frames, number))
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def config(*sources: Path | str, out: Path, **settings: Any) -> BuildConfig:
    return BuildConfig(sources=tuple(map(str, sources)), out=out, **settings)


# --- what is in it -----------------------------------------------------------------------------------------------


def test_clips_come_back_facing_forward_on_the_floor_with_their_words(tmp_path: Path) -> None:
    source = write_openmocap(tmp_path / "o", [{"frames": 60, "label": "turn-left", "style": "old", "split": "val"}])
    clips = load_dataset(build(config(source, out=tmp_path / "d", mirror=False)))
    (clip,) = clips
    (original,) = load_openmocap(source)
    assert (clip.id, clip.captions, clip.label, clip.style, clip.split, clip.license, clip.parent) == (
        *("clip_000", ("a person turns left",), "turn-left", "old", "val", "free", ""),
    )
    assert clip.motion.facing()[0] == pytest.approx([0, 0, 1], abs=1e-5)
    assert clip.motion.joints[..., 1].min() == pytest.approx(0, abs=1e-6)
    apart = np.linalg.norm(original.motion.joints[7, 3] - original.motion.joints[20, 15])
    assert np.linalg.norm(clip.motion.joints[7, 3] - clip.motion.joints[20, 15]) == pytest.approx(apart, abs=1e-5)


def test_mirrored_copies_swap_sides_in_joints_words_and_label(tmp_path: Path) -> None:
    source = write_openmocap(tmp_path / "o", [{"frames": 60, "label": "walk-left"}])
    clip, mirrored = load_dataset(build(config(source, out=tmp_path / "d")))
    assert (mirrored.id, mirrored.parent, mirrored.label) == ("Mclip_000", "clip_000", "walk-right")
    assert mirrored.captions == ("a person turns right",)
    left, right = HUMANML3D.index("left_wrist"), HUMANML3D.index("right_wrist")
    np.testing.assert_allclose(
        mirrored.motion.joints[:, left], clip.motion.joints[:, right] * [-1, 1, 1], atol=1e-5
    )  # a clip that faces +z does so in the mirror


def test_long_clips_are_cut_and_short_ones_stay_only_where_they_are_whole_actions(tmp_path: Path) -> None:
    rows = [{"frames": 450}, {"frames": 30}, {"frames": 30, "source": "HDM05"}, {"frames": 205}]
    out = build(config(write_openmocap(tmp_path / "o", rows), out=tmp_path / "d", mirror=False))
    lengths = {clip.id: len(clip.motion) for clip in load_dataset(out)}
    assert lengths == {"clip_000_p0": 150, "clip_000_p1": 150, "clip_000_p2": 150, "clip_002": 30, "clip_003": 196}
    manifest = read_manifest(out)
    assert manifest["rejected_counts"] == {"too short": 1, "short rest": 1}
    assert manifest["rejected"][0]["id"] == "clip_001" and "30 frames" in manifest["rejected"][0]["reason"]


@pytest.mark.parametrize("num_frames", [*range(2, 1000, 7), 196, 197, 235, 236, 392, 393])
def test_pieces_follow_each_other_within_the_limits(num_frames: int) -> None:
    pieces = cut(num_frames, min_frames=40, max_frames=196)
    lengths = [piece.stop - piece.start for piece in pieces]
    assert pieces[0].start == 0 and [p.stop for p in pieces[:-1]] == [p.start for p in pieces[1:]]
    assert max(lengths) <= 196 and num_frames - sum(lengths) < 40
    assert num_frames < 40 or min(lengths) >= 40


def test_captions_of_a_part_make_a_clip_of_that_part(tmp_path: Path) -> None:
    captions = [{"text": "walks, then sits"}, {"text": "sits", "start": 100, "end": 160}]
    source = write_openmocap(tmp_path / "o", [{"frames": 180, "captions": captions, "split": "test"}])
    whole, part = load_dataset(build(config(source, out=tmp_path / "d", mirror=False)))
    assert whole.captions == ("walks, then sits",) and len(whole.motion) == 180
    assert part.captions == ("sits",) and len(part.motion) == 60 and part.parent == "clip_000" and part.split == "test"


def test_a_table_of_captions_names_files_with_and_without_folders(tmp_path: Path) -> None:
    source = write_npy_folder(tmp_path / "takes", {"a/walk": 50, "b/walk": 50, "b/jump": 50, "b/lost": 50})
    table = tmp_path / "captions.csv"
    table.write_text(
        'file,caption,split,label\na/walk.npy,"a person walks, slowly",test,walk\n'
        "a/walk,someone walks,,\nb/walk.npy,a man strolls,train,\njump.npy,a jump,val,\ngone.npy,nothing,,\n"
    )
    out = build(config(source, out=tmp_path / "d", captions=table, mirror=False, license="CC0"))
    clips = {clip.id: clip for clip in load_dataset(out)}
    assert set(clips) == {"a/walk", "b/walk", "b/jump"}
    assert clips["a/walk"].captions == ("a person walks, slowly", "someone walks")
    assert (clips["a/walk"].split, clips["a/walk"].label, clips["a/walk"].license) == ("test", "walk", "CC0")
    assert clips["b/jump"].captions == ("a jump",) and clips["b/jump"].source == "takes"
    manifest = read_manifest(out)
    assert [(entry["id"], entry["why"]) for entry in manifest["rejected"]] == [("b/lost", "no caption")]
    assert manifest["unmatched_captions"] == ["gone"]


def test_captions_of_a_part_of_a_file_make_a_clip_of_that_part(tmp_path: Path) -> None:
    source = write_npy_folder(tmp_path / "takes", {"walk": 180})
    table = tmp_path / "captions.csv"
    table.write_text("file,caption,start,end\nwalk.npy,one,0,4\nwalk.npy,two,0,4\nwalk.npy,three,4.0,9.5\n")
    first, second = load_dataset(build(config(source, out=tmp_path / "d", captions=table, mirror=False)))
    assert (first.id, first.captions, len(first.motion)) == ("walk@0-80", ("one", "two"), 80)
    assert (second.id, second.captions, len(second.motion)) == ("walk@80-180", ("three",), 100)
    assert first.parent == second.parent == "walk" and first.split == second.split


def test_a_caption_of_a_part_after_the_end_rejects_its_file(tmp_path: Path) -> None:
    source = write_npy_folder(tmp_path / "takes", {"walk": 60, "hop": 60})
    table = tmp_path / "captions.jsonl"
    table.write_text('{"file": "walk", "caption": "a", "start": 3, "end": 4}\n{"file": "hop", "caption": "b"}\n')
    out = build(config(source, out=tmp_path / "d", captions=table, mirror=False))
    assert [clip.id for clip in load_dataset(out)] == ["hop"]
    (rejected,) = read_manifest(out)["rejected"]
    assert rejected["id"] == "walk" and "ends at 3.00 s; a caption of it starts at 3 s" in rejected["reason"]


def test_jsonl_captions_may_be_one_or_several_a_row(tmp_path: Path) -> None:
    source = write_npy_folder(tmp_path / "takes", {"walk": 50})
    table = tmp_path / "captions.jsonl"
    table.write_text('{"id": "walk", "captions": ["one", "two"]}\n{"file": "walk.npy", "caption": "three"}\n')
    (clip,) = load_dataset(build(config(source, out=tmp_path / "d", captions=table, mirror=False)))
    assert clip.captions == ("one", "two", "three")


def test_bvh_files_are_read_and_resampled(tmp_path: Path) -> None:
    (tmp_path / "takes").mkdir()
    Motion(sway(150), fps=30).save(tmp_path / "takes" / "walk.bvh")
    (clip,) = load_dataset(build(config(tmp_path / "takes", out=tmp_path / "d", mirror=False)))
    assert clip.motion.fps == 20 and len(clip.motion) == 100


def test_pieces_and_mirror_images_stay_in_the_split_of_their_take(tmp_path: Path) -> None:
    source = write_npy_folder(tmp_path / "takes", {f"t{number}": 440 for number in range(60)})
    clips = load_dataset(build(config(source, out=tmp_path / "d", splits=(0.5, 0.2, 0.3))))
    assert len(clips) == 60 * 3 * 2
    splits: dict[str, set[str]] = {}
    for clip in clips:
        splits.setdefault(clip.parent, set()).add(clip.split)
    assert len(splits) == 60 and all(len(of_take) == 1 for of_take in splits.values())
    shares = [sum(of_take == {split} for of_take in splits.values()) for split in ("train", "val", "test")]
    assert 18 <= shares[0] <= 42 and min(shares) >= 3  # 60 draws: 30 ± 3 sigma, and none is empty
    other = load_dataset(build(config(source, out=tmp_path / "e", splits=(0.5, 0.2, 0.3), seed=1)))
    assert [clip.split for clip in other] != [clip.split for clip in clips]


def test_a_uniform_skeleton_gives_all_clips_the_same_bones(tmp_path: Path) -> None:
    source = write_npy_folder(tmp_path / "takes", {"a": 50, "b": 50})
    np.save(source / "big.npy", sway(50) * 1.3)
    for clip in load_dataset(build(config(source, out=tmp_path / "d", uniform_skeleton=True))):
        bones = np.linalg.norm(clip.motion.joints - clip.motion.joints[:, HUMANML3D.parents], axis=-1)[:, 1:]
        np.testing.assert_allclose(bones, np.broadcast_to(HUMANML3D.bone_lengths[1:], bones.shape), atol=1e-4)


def test_statistics_are_those_of_all_rows_of_the_train_split(tmp_path: Path) -> None:
    rows = [{"frames": 60, "split": split} for split in ("train", "test", "train", "train")]
    out = build(config(write_openmocap(tmp_path / "o", rows), out=tmp_path / "d"))
    train = load_dataset(out, split="train")
    assert len(train) == 6
    expected = FeatureStats.of(np.concatenate([motion_to_features(clip.motion) for clip in train]))
    np.testing.assert_allclose(load_stats(out).mean, expected.mean, atol=1e-4)  # float32 joints in between
    np.testing.assert_allclose(load_stats(out).std, expected.std, atol=1e-4)


def test_moments_merged_in_any_grouping_are_those_of_all_rows() -> None:
    rows = np.random.default_rng(0).normal(3, 2, (90, 263)).astype(np.float32)
    left = Moments.of(rows[:7]).merge(Moments.of(rows[7:40])).merge(Moments.of(rows[40:]))
    np.testing.assert_allclose(left.mean, rows.astype(float).mean(axis=0))
    np.testing.assert_allclose(left.squares / left.count, rows.astype(float).var(axis=0))


def test_float16_halves_the_file_and_moves_joints_by_millimetres_at_most(tmp_path: Path) -> None:
    source = write_npy_folder(tmp_path / "takes", {"a": 100})
    exact, half = (build(config(source, out=tmp_path / dtype, dtype=dtype)) for dtype in ("float32", "float16"))
    for one, other in zip(load_dataset(exact), load_dataset(half)):
        assert other.motion.joints.dtype == np.float32
        np.testing.assert_allclose(one.motion.joints, other.motion.joints, atol=2e-3)
    size = {folder: (folder / "shards/00000.safetensors").stat().st_size for folder in (exact, half)}
    assert size[half] / size[exact] == pytest.approx(0.5, abs=0.01)


# --- interruptions -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten shards of takes."""
    root = tmp_path_factory.mktemp("many")
    return write_npy_folder(root / "takes", {f"t{number:04d}": 150 for number in range(10 * TAKES_PER_SHARD)})


@pytest.fixture(scope="module")
def whole(many: Path) -> Path:
    """The data set of an uninterrupted build."""
    return build(config(many, out=many.parent / "whole"))


def test_a_build_killed_in_the_middle_ends_like_one_never_killed(many: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "d"
    command = [sys.executable, "-m", "kinalign.cli", "data", "build", str(many), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out / ".build" / "00001.json").is_file():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (out / "manifest.json").exists()
    with pytest.raises(DataError, match="half built"):
        load_dataset(out)
    first = out / "shards" / "00000.safetensors"
    written = first.stat().st_mtime_ns

    build(config(many, out=out))
    assert first.stat().st_mtime_ns == written  # a finished shard is not done again
    assert contents(out) == contents(whole)


def test_several_workers_make_the_same_files(many: Path, whole: Path, tmp_path: Path) -> None:
    assert contents(build(config(many, out=tmp_path / "d", workers=2))) == contents(whole)


def test_building_again_changes_nothing(many: Path, whole: Path) -> None:
    before = contents(whole)
    shards = [path.stat().st_mtime_ns for path in sorted((whole / "shards").iterdir())]
    build(config(many, out=whole))
    assert contents(whole) == before
    assert [path.stat().st_mtime_ns for path in sorted((whole / "shards").iterdir())] == shards


def test_a_damaged_shard_is_found_and_made_again(tmp_path: Path) -> None:
    source = write_npy_folder(tmp_path / "takes", {"a": 50, "b": 60})
    out = build(config(source, out=tmp_path / "d"))
    good = contents(out)
    shard = out / "shards" / "00000.safetensors"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    assert len(load_dataset(out)) == 4
    with pytest.raises(DataError, match="sha256 differs"):
        load_dataset(out, verify=True)
    shard.write_bytes(content[:-100])
    with pytest.raises(DataError, match="cut short or changed"):
        load_dataset(out)
    shard.unlink()
    with pytest.raises(DataError, match="absent"):
        load_dataset(out)
    build(config(source, out=out))
    assert contents(out) == good


# --- bad input ---------------------------------------------------------------------------------------------------


def test_files_that_cannot_be_used_are_named_with_their_reason(tmp_path: Path) -> None:
    source = write_npy_folder(tmp_path / "takes", {"good": 50})
    np.save(source / "nan.npy", np.where(np.arange(50)[:, None, None] == 9, np.nan, sway(50)))
    np.save(source / "point.npy", np.zeros((50, 22, 3)))
    np.save(source / "kit.npy", sway(50, skeleton=KIT))
    np.save(source / "other.npy", np.zeros((50, 17, 3)))
    np.save(source / "single.npy", sway(1))
    (source / "cut.npy").write_bytes((source / "good.npy").read_bytes()[:900])
    (source / "empty.bvh").touch()
    (source / "short.npz").write_bytes(b"PK\x03\x04")
    out = build(config(source, out=tmp_path / "d"))
    assert {clip.id for clip in load_dataset(out)} == {"good", "Mgood"}
    rejected = {entry["id"]: entry for entry in read_manifest(out)["rejected"]}
    assert {name: entry["why"] for name, entry in rejected.items()} == {
        "nan": "unreadable",
        "point": "no motion",
        "kit": "other skeleton",
        "other": "unreadable",
        "single": "too short",
        "cut": "unreadable",
        "empty": "unreadable",
        "short": "unreadable",
    }
    assert "frame 9" in rejected["nan"]["reason"] and "cut.npy" in rejected["cut"]["reason"]


def test_a_folder_without_one_usable_take_is_an_error(tmp_path: Path) -> None:
    source = write_npy_folder(tmp_path / "takes", {"a": 5})
    with pytest.raises(DataError, match=r"1 too short.*5 frames"):
        build(config(source, out=tmp_path / "d"))


def test_other_settings_are_refused_in_a_folder_that_is_begun(tmp_path: Path) -> None:
    source = write_npy_folder(tmp_path / "takes", {"a": 50})
    settings = config(source, out=tmp_path / "d")
    build(settings)
    with pytest.raises(DataError, match="min_frames is 40 there and 24 now"):
        build(replace(settings, min_frames=24))
    np.save(source / "b.npy", sway(50))
    with pytest.raises(DataError, match="files that have changed since"):
        build(settings)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    source = write_npy_folder(tmp_path / "takes", {"a": 50})
    with pytest.raises(DataError, match="not empty and was not made by this command"):
        build(config(source, out=source))
    assert [path.name for path in source.iterdir()] == ["a.npy"]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"sources": ()}, "nothing to build from"),
        ({"min_frames": 200}, "--min-frames 200 and --max-frames 196"),
        ({"splits": (0.5, 0.1, 0.1)}, "add up to 1"),
        ({"fps": 0.0}, "--fps 0"),
        ({"workers": 0}, "--workers 0"),
    ],
)
def test_settings_that_contradict_are_refused(settings: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=complaint):
        build(replace(config("openmocap20", out=tmp_path / "d"), **settings))
    assert not (tmp_path / "d").exists()


def test_sources_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, complaint in (("nowhere", "neither openmocap20 nor a folder"), (tmp_path / "empty", "holds no .bvh")):
        with pytest.raises(DataError, match=complaint):
            build(config(source, out=tmp_path / "d"))


def test_amass_files_need_a_body_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "walk_poses.npz", poses=np.zeros((5, 156)))
    with pytest.raises(ConfigError, match="--body-model"):
        build(config(tmp_path, out=tmp_path / "d"))


def test_two_takes_of_one_name_are_refused(tmp_path: Path) -> None:
    one, other = (write_npy_folder(tmp_path / name, {"walk": 50}) for name in "ab")
    with pytest.raises(DataError, match="'walk'"):
        build(config(one, other, out=tmp_path / "d"))
    np.save(one / "Mwalk.npy", sway(50))
    with pytest.raises(DataError, match="called Mwalk"):
        build(config(one, out=tmp_path / "d"))
    build(config(one, out=tmp_path / "d", mirror=False))


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("c.csv", "name,text\na,b\n", r"columns \['name', 'text'\]"),
        ("c.csv", "file,caption\n", "holds no captions"),
        ("c.csv", "file,caption\nwalk,\n", "line 2 needs"),
        ("c.csv", "file,caption,split\nwalk,walks,dev\n", "line 2 has split 'dev'"),
        ("c.csv", "file,caption,split\nwalk,walks,val\nwalk,goes,test\n", "line 3 puts walk into test"),
        ("c.csv", "file,caption,start,end\nwalk,walks,1,\n", "line 2 has start '1' and end ''; give both"),
        ("c.csv", "file,caption,start,end\nwalk,walks,2,1\n", "line 2 has start '2' and end '1'; a part begins"),
        ("c.jsonl", '{"file": "walk"', "line 1 is not JSON"),
        ("c.jsonl", "[1]", "line 1 should be an object"),
        ("c.csv", "file,caption\nwalk,walks\n", "fit 2 files; write the folder too"),
    ],
)
def test_a_malformed_table_of_captions_names_its_line(name: str, text: str, complaint: str, tmp_path: Path) -> None:
    source = write_npy_folder(tmp_path / "takes", {"a/walk": 50, "b/walk": 50})
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=complaint):
        build(config(source, out=tmp_path / "d", captions=tmp_path / name))


def test_a_place_that_cannot_be_written_to_is_one_error(tmp_path: Path) -> None:
    source = write_npy_folder(tmp_path / "takes", {"a": 50})
    (tmp_path / "file").touch()
    with pytest.raises(KinalignError, match="cannot write"):
        build(config(source, out=tmp_path / "file" / "d"))


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are set by resource, which Windows lacks")
def test_a_full_disk_is_one_error_and_building_goes_on_later(many: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "d"
    # a limit of 1 MB a file: notes fit, a shard of 64 takes of 150 frames does not
    program = (
        "import resource, sys; from kinalign.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6)); sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "data", "build", str(many), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TERM": "dumb"})
    assert done.returncode == 2
    assert "cannot write" in done.stderr and "free some space" in done.stderr and "Traceback" not in done.stderr
    build(config(many, out=out))
    assert contents(out) == contents(whole)


# --- the real thing ----------------------------------------------------------------------------------------------


def test_a_source_of_openmocap20_is_built_with_its_splits_and_licence(openmocap: Any, tmp_path: Path) -> None:
    out = build(config("openmocap20:HDM05", out=tmp_path / "d"))
    clips = load_dataset(out, split="test", verify=True)
    expected = {clip.id for clip in openmocap("test") if clip.source == "HDM05"}
    assert {clip.id for clip in clips if clip.id[0] != "M"} == expected
    assert len(clips) == 2 * len(expected) and {clip.license for clip in clips} == {"CC-BY-SA-3.0"}
    assert {len(clip.motion) < 40 for clip in clips} == {True, False}


def test_an_unknown_source_of_openmocap20_is_refused(openmocap: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no source \['CMU9'\]; it has .*HDM05"):
        build(config("openmocap20:CMU9", out=tmp_path / "d"))
