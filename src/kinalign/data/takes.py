"""Takes: recordings of the kinds of source that `kinalign data build` knows, found first and read later.

Finding them reads no motion of a folder of files, so that a plan for thousands is made in a moment.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from kinalign.data.captions import Words
from kinalign.data.humanml3d import HumanML3DFolder
from kinalign.data.openmocap import load_openmocap
from kinalign.data.records import CaptionSpan, Clip, Split, data_root
from kinalign.errors import ConfigError, DataError
from kinalign.motion.motion import Motion


class Take(NamedTuple):
    """One recording, before it is read."""

    id: str
    source: str
    reader: Literal["openmocap20", "humanml3d", "files"]
    root: Path
    file: str
    """Below root; empty where the id is enough."""
    words: Words | None
    """From the table of captions; None where the source has its own."""


def takes_of(source: str, *, body_model: Path | None) -> tuple[list[Take], list[Path]]:
    """Takes of one SOURCE in a fixed order, and the files whose change would change them.

    Raises DataError where there is nothing to read, ConfigError for AMASS files without a body model.
    """
    name, _, chosen = source.partition(":")
    if name == "openmocap20" or (Path(source) / "motions.npz").is_file():
        root = data_root() / "openmocap20" if name == "openmocap20" else Path(source)
        names = [part.strip() for part in chosen.split(",") if part.strip()] if name == "openmocap20" else []
        clips = _openmocap(root)
        known = {clip.source for clip in clips.values()}
        if unknown := set(names) - known:
            raise DataError(f"openmocap20 has no source {sorted(unknown)}; it has {', '.join(sorted(known))}")
        takes = [
            Take(clip.id, clip.source, "openmocap20", root, "", None)
            for clip in clips.values()
            if not names or clip.source in names
        ]
        return takes, [root / "clips.jsonl", root / "motions.npz"]
    root = Path(source)
    if not root.is_dir():
        raise DataError(f"source {source!r} is neither openmocap20 nor a folder")
    if (root / "texts").is_dir() and (root / "new_joints").is_dir():
        folder = _humanml3d(root)
        # their own mirrored copies are left out: --mirror makes them
        ids = [name for split in get_args(Split) for name in folder.ids(split) if not name.startswith("M")]
        takes = [Take(name, folder.flavour.source, "humanml3d", root, "", None) for name in ids]
        texts, joints = root / "texts", root / "new_joints"
        return takes, [
            path for name in ids for path in (texts / f"{name}.txt", joints / f"{name}.npy") if path.is_file()
        ]
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in (".bvh", ".npz", ".npy"))
    if not paths:
        raise DataError(f"{root} holds no .bvh, .npz or .npy file")
    if body_model is None and (needing := next((path for path in paths if _is_amass(path)), None)):
        raise ConfigError(f"{needing} is an AMASS sequence and needs a body model; name one with --body-model")
    files = [path.relative_to(root) for path in paths]
    label = root.resolve().name
    return [Take(file.with_suffix("").as_posix(), label, "files", root, file.as_posix(), None) for file in files], paths


def with_words(takes: list[Take], words: dict[str, Words]) -> tuple[list[Take], list[str]]:
    """Takes of files with their rows of the table, and the rows that fit no file.

    A row is found by the name below the source folder, or by the bare name where only one file has it.
    """
    bare = Counter(take.id.rsplit("/", 1)[-1] for take in takes if take.reader == "files")
    used = set()
    result = []
    for take in takes:
        if take.reader == "files":
            name = take.id.rsplit("/", 1)[-1]
            key = take.id if take.id in words else name
            if key != take.id and key in words and bare[name] > 1:
                raise DataError(
                    f"captions of {name!r} fit {bare[name]} files; write the folder too, as in {take.file!r}"
                )
            used.add(key)
            take = take._replace(words=words.get(key, Words()))
        result.append(take)
    return result, sorted(set(words) - used)


@lru_cache(maxsize=1)
def _openmocap(root: Path) -> dict[str, Clip]:
    return {clip.id: clip for clip in load_openmocap(root)}


@lru_cache(maxsize=1)
def _humanml3d(root: Path) -> HumanML3DFolder:
    return HumanML3DFolder.open(root)


def read_take(take: Take, *, body_model: Path | None, license: str) -> Clip:
    """The clip of a take as it is; raises KinalignError with what is wrong."""
    if take.reader == "openmocap20":
        return _openmocap(take.root)[take.id]
    if take.reader == "humanml3d":
        return _humanml3d(take.root).clip(take.id)
    path = take.root / take.file
    if _is_amass(path):
        from kinalign.motion.formats.amass import read_amass

        assert body_model is not None
        motion = read_amass(path, body_model)
    else:
        motion = Motion.load(path)
    words = take.words or Words(captions=(motion.caption,) if motion.caption else ())
    if late := [part for part in words.parts if round(part.start_s * motion.fps) >= len(motion)]:
        raise DataError(
            f"{take.file} ends at {motion.duration_s:.2f} s; a caption of it starts at {late[0].start_s:g} s"
        )
    return Clip(
        id=take.id,
        motion=replace(motion, caption=words.captions[0] if words.captions else ""),
        captions=words.captions,
        source=take.source,
        license=license,
        split="train",
        label=words.label,
        style=words.style,
        spans=tuple(
            CaptionSpan(
                round(part.start_s * motion.fps), min(round(part.end_s * motion.fps), len(motion)), part.captions
            )
            for part in words.parts
        ),
    )


def _is_amass(path: Path) -> bool:
    # a broken archive is no AMASS file; reading it will say what is wrong with it
    if path.suffix.lower() != ".npz" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return "poses.npy" in archive.namelist()
