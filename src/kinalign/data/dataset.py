"""A built data set on disk, and the one door to every kind of data set: `load_dataset`.

manifest.json              written last: settings, counts, licences, rejected takes, sha256 of every file
clips.jsonl                a clip a line: id, captions, source, license, split, label, style, parent, shard, frames
stats.safetensors          mean and std (F,) of the features of the train split
shards/00000.safetensors   joints (frames of all its clips, J, 3) in metres, float32 or float16
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from kinalign.data.humanml3d import load_humanml3d
from kinalign.data.openmocap import load_openmocap
from kinalign.data.records import Clip, Split
from kinalign.errors import CheckpointError, DataError
from kinalign.motion.features import FeatureStats
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import skeleton_for
from kinalign.run import read_json, sha256_of_file, write_atomically

FORMAT = "kinalign-dataset-1"
MANIFEST, CLIPS, STATS = "manifest.json", "clips.jsonl", "stats.safetensors"

Arrays = Mapping[str, NDArray[Any]]


def load_dataset(path: str | Path | None = None, split: Split | None = None, *, verify: bool = False) -> list[Clip]:
    """Clips of a data set, those of one split where given.

    `path` is a folder made by `kinalign data build`, a copy of openmocap20 or a published HumanML3D or KIT-ML folder;
    None is openmocap20 of the data folder. Sizes of built files are always compared with the manifest, hashes where
    `verify` is set. Raises DataError for another folder, an unknown split, and files that are absent or changed.
    """
    if split is not None and split not in get_args(Split):
        raise DataError(f"unknown split {split!r}; use one of {', '.join(get_args(Split))}")
    if path is None:
        return load_openmocap(split=split)
    folder = Path(path)
    if (folder / MANIFEST).is_file():
        return _load_built(folder, split, verify=verify)
    if (folder / ".build").is_dir():
        raise DataError(f"{folder} is half built: it has no {MANIFEST}; give the same `kinalign data build` again")
    if (folder / "motions.npz").is_file():
        return load_openmocap(folder, split=split)
    if (folder / "texts").is_dir() or (folder / "new_joints").is_dir():
        return load_humanml3d(folder, split)
    raise DataError(
        f"{folder} is no data set: it has no {MANIFEST} (made by kinalign data build), no motions.npz (openmocap20) "
        "and no texts/ with new_joints/ (HumanML3D)"
    )


def load_stats(path: str | Path) -> FeatureStats:
    """What features of a built data set are normalised by; raises DataError where it has no train split."""
    arrays = read_arrays(Path(path) / STATS)
    return FeatureStats(arrays["mean"], arrays["std"])


def write_stats(folder: Path, stats: FeatureStats) -> Path:
    return write_arrays(folder / STATS, {"mean": np.asarray(stats.mean), "std": np.asarray(stats.std)})


def read_manifest(folder: Path) -> dict[str, Any]:
    """What was built; raises DataError for another format."""
    try:
        manifest = read_json(folder / MANIFEST)
    except CheckpointError as error:
        raise DataError(str(error)) from error
    if manifest.get("format") != FORMAT:
        raise DataError(f"{folder / MANIFEST} has format {manifest.get('format')!r}; this program reads {FORMAT!r}")
    return manifest


def write_arrays(path: Path, arrays: Arrays) -> Path:
    """Write named arrays as safetensors, whole or not at all. The same arrays give the same bytes."""
    from safetensors.numpy import save

    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return write_atomically(path, lambda temporary: temporary.write_bytes(content))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Named arrays of a safetensors file; raises DataError where it is absent or cut short."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read ({error}); it is absent or cut short") from error


def _load_built(folder: Path, split: Split | None, *, verify: bool) -> list[Clip]:
    manifest = read_manifest(folder)
    for entry in manifest["files"]:
        _require_same(folder / entry["file"], entry, verify=verify)
    skeleton = skeleton_for(manifest["num_joints"])
    clips: list[Clip] = []
    shard, joints = "", np.empty(0)
    for line in (folder / CLIPS).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if split is not None and row["split"] != split:
            continue
        if row["shard"] != shard:
            shard = row["shard"]
            joints = read_arrays(folder / shard)["joints"].astype(np.float32, copy=False)
        start, end = row["frames"]
        captions = tuple(row["captions"])
        clips.append(
            Clip(
                motion=Motion(
                    joints[start:end], fps=manifest["fps"], skeleton=skeleton, caption=captions[0] if captions else ""
                ),
                captions=captions,
                **{name: row[name] for name in ("id", "source", "license", "split", "label", "style", "parent")},
            )
        )
    return clips


def _require_same(path: Path, entry: Mapping[str, Any], *, verify: bool) -> None:
    way_out = "build it again with the same command: what is whole is kept"
    if not path.is_file():
        raise DataError(f"{path} is absent though {MANIFEST} lists it; {way_out}")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise DataError(
            f"{path} has {size} bytes, {MANIFEST} says {entry['bytes']}: it was cut short or changed; {way_out}"
        )
    if verify and sha256_of_file(path) != entry["sha256"]:
        raise DataError(f"{path} is not the file that {MANIFEST} lists: its sha256 differs; {way_out}")
