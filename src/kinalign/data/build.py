"""`kinalign data build`: recordings of many kinds become one data set that can be checked, resumed and read fast.

    sources -> takes (one recording each) -> shards of 64 takes -> clips.jsonl, stats, manifest.json

A take is read, cut, turned to face +z, put on the floor and mirrored. Shards do not know each other, so they run in
parallel, and what is finished is not done again: a shard counts as finished when its note in `.build/` is there and
its hash is right. The manifest comes last. A take that cannot be used is never dropped silently: the manifest lists it
with the reason.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tyro
from numpy.typing import NDArray

from kinalign.data.captions import read_words
from kinalign.data.dataset import CLIPS, FORMAT, MANIFEST, write_arrays, write_stats
from kinalign.data.mirror_text import mirror_caption, mirror_label
from kinalign.data.records import Clip, Split
from kinalign.data.takes import Take, read_take, takes_of, with_words
from kinalign.errors import CheckpointError, ConfigError, DataError, KinalignError, MotionError
from kinalign.motion.features import FeatureStats, motion_to_features, uniform_skeleton
from kinalign.motion.motion import FPS
from kinalign.motion.skeleton import HUMANML3D, KIT
from kinalign.run import config_to_json, progress, read_json, sha256_of_file, write_json, write_text

TAKES_PER_SHARD = 64
"""What a kill can cost: at most this many takes of each worker are done again."""

_TEMPORARY = ".*." + 8 * "[0-9a-f]" + ".*"
_SKELETONS = {"humanml3d": HUMANML3D, "kit": KIT}


@dataclass(frozen=True)
class BuildConfig:
    """What goes into a data set and where it is written."""

    sources: tyro.conf.Positional[tuple[str, ...]]
    """openmocap20, or some of it (openmocap20:CMU,HDM05); folders of BVH, AMASS npz or joints npy (20 fps, KIT-ML's
    joints 12.5); a published HumanML3D or KIT-ML folder."""
    out: Path
    """Folder of the data set; an unfinished build in it is continued."""
    captions: Path | None = None
    """CSV or JSONL with columns file (or id) and caption, a row a caption; split, label, style and, for a caption of a
    part, start and end in seconds are read where given. For folders of files; files without a row are rejected."""
    body_model: Path | None = None
    """Body model npz, or the published folder of models, that AMASS files need."""
    license: str = "unknown"
    """Licence of folders of files; it goes into every clip."""
    min_frames: int = 40
    """Shorter clips are rejected, unless their source is in --keep-short."""
    max_frames: int = 196
    """Longer clips are cut into equal pieces; what is left over is dropped where it is shorter than --min-frames."""
    keep_short: tuple[str, ...] = ("HDM05",)
    """Sources whose short clips are kept because they are whole actions; "all" keeps those of every source."""
    fps: float = FPS
    """Frames per second that everything is resampled to."""
    mirror: bool = True
    """Add a mirrored copy of every clip, with left and right swapped in its words; its id begins with M."""
    uniform_skeleton: bool = False
    """Give every clip the bones of the built-in skeleton, as HumanML3D does."""
    skeleton: Literal["humanml3d", "kit"] = "humanml3d"
    """Joints of the data set; takes on another skeleton are rejected."""
    splits: tuple[float, float, float] = (0.8, 0.05, 0.15)
    """Shares of train, val and test for takes whose source has no split of its own."""
    seed: int = 0
    """Which takes go to which split; pieces and mirror images stay with their take."""
    dtype: Literal["float32", "float16"] = "float32"
    """How joints are stored; float16 is half as large and off by up to 2 mm at 4 m from the origin."""
    workers: int = 1
    """Processes that build side by side; the result is the same."""

    def validate(self) -> None:
        """Raises ConfigError for settings that contradict each other."""
        if not self.sources:
            raise ConfigError("nothing to build from; name a source, such as openmocap20 or a folder of BVH files")
        if not 2 <= self.min_frames <= self.max_frames:
            raise ConfigError(
                f"--min-frames {self.min_frames} and --max-frames {self.max_frames} must be 2 or more, in this order"
            )
        if min(self.splits) < 0 or abs(sum(self.splits) - 1) > 1e-6:
            raise ConfigError(f"--splits {self.splits} must be three shares of 0 or more that add up to 1")
        if not 0 < self.fps < 1000:
            raise ConfigError(f"--fps {self.fps} must be more than 0 and less than 1000")
        if self.workers < 1:
            raise ConfigError(f"--workers {self.workers} must be 1 or more")

    @property
    def content(self) -> dict[str, Any]:
        """The settings that decide what the files hold: neither where they lie nor who makes them."""
        return {name: value for name, value in config_to_json(self).items() if name not in ("out", "workers")}


def build(config: BuildConfig) -> Path:
    """Make a data set of `config.sources` in `config.out`, or finish one, and return its folder.

    Start it again after an interruption: finished shards are kept and the result is the same, byte for byte. Raises
    ConfigError for settings that contradict, DataError for a source that is absent and for a folder that holds
    something else, KinalignError where it cannot write.
    """
    config.validate()
    plan = _plan(config)
    _open(config, plan)
    shards = [plan.takes[i : i + TAKES_PER_SHARD] for i in range(0, len(plan.takes), TAKES_PER_SHARD)]
    notes = {number: note for number in range(len(shards)) if (note := _finished(config.out, number))}
    due = [number for number in range(len(shards)) if number not in notes]

    done = sum(len(shards[number]) for number in notes)
    with progress("data build", total=len(plan.takes), done=done) as advance:
        for number, note in _run(due, shards, config):
            notes[number] = note
            rejected = sum(len(note["rejected"]) for note in notes.values())
            advance(len(shards[number]), note=f"{rejected} rejected" if rejected else "")
    manifest = _finish(config, plan, [notes[number] for number in range(len(shards))])
    _report(config.out, manifest)
    return config.out


class Plan(NamedTuple):
    takes: list[Take]
    inputs_sha256: str
    """Of the names, sizes and times of all files that are read."""
    unmatched_captions: list[str]
    """Rows of the table of captions that fit no file."""


class Rejected(NamedTuple):
    """A take, or a piece of it, that is not in the data set. `why` is short enough to count by."""

    id: str
    source: str
    why: Literal["unreadable", "no motion", "too short", "short rest", "no caption", "other skeleton"]
    reason: str


@dataclass(frozen=True, eq=False)
class Moments:
    """Number, mean (F,) and summed squared deviation (F,) of rows of features; two are merged by Chan's formula."""

    count: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @staticmethod
    def of(rows: NDArray[np.float32]) -> Moments:
        values = rows.astype(np.float64)
        mean = values.mean(axis=0)
        return Moments(len(values), mean, ((values - mean) ** 2).sum(axis=0))

    def merge(self, other: Moments) -> Moments:
        count = self.count + other.count
        step = other.mean - self.mean
        return Moments(
            count,
            self.mean + step * (other.count / count),
            self.squares + other.squares + step**2 * (self.count * other.count / count),
        )

    def stats(self) -> FeatureStats:
        # two rows at mean - std and mean + std have this mean and this deviation, so the published averaging over
        # parts of the layout stays in one place
        deviation = np.sqrt(self.squares / self.count)
        return FeatureStats.of(np.stack((self.mean - deviation, self.mean + deviation)))


# --- what there is -----------------------------------------------------------------------------------------------


def _plan(config: BuildConfig) -> Plan:
    words = read_words(config.captions) if config.captions else None
    takes: list[Take] = []
    files: list[Path] = [config.captions] if config.captions else []
    for source in config.sources:
        found, read = takes_of(source, body_model=config.body_model)
        takes += found
        files += read
    ids = Counter(take.id for take in takes)
    twice = [name for name, count in ids.items() if count > 1 or (config.mirror and f"M{name}" in ids)]
    if twice:
        raise DataError(
            f"{len(twice)} names stand for two takes, such as {twice[0]!r} (a mirrored copy is called M{twice[0]}); "
            "rename files, or give the folder above as one source"
        )
    unmatched: list[str] = []
    if words is not None:
        takes, unmatched = with_words(takes, words)
    facts = [f"{path.as_posix()} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    return Plan(takes, hashlib.sha256("\n".join(facts).encode()).hexdigest(), unmatched)


# --- the folder --------------------------------------------------------------------------------------------------


def _open(config: BuildConfig, plan: Plan) -> None:
    """Begin the folder, or go on with that of the same build. Raises DataError for anything else in `out`."""
    out, state = config.out, config.out / ".build"
    wanted: dict[str, Any] = {"format": FORMAT, "config": config.content, "inputs_sha256": plan.inputs_sha256}
    if not (state / "plan.json").is_file():
        if out.exists() and (not out.is_dir() or any(path.name != ".build" for path in out.iterdir())):
            raise DataError(f"{out} is not empty and was not made by this command; choose another --out")
        write_json(state / "plan.json", wanted)
        return
    try:
        found = read_json(state / "plan.json")
    except CheckpointError as error:
        raise DataError(str(error)) from error
    if found != wanted:
        theirs, ours = found.get("config", {}), wanted["config"]
        keys = [key for key in ours if theirs.get(key) != ours[key]]
        what = "; ".join(f"{key} is {theirs.get(key)!r} there and {ours[key]!r} now" for key in keys)
        raise DataError(
            f"{out} holds a build of {'other settings' if keys else 'files that have changed since'}"
            f"{': ' + what if keys else ''}; choose another --out, or remove that folder"
        )
    for leftover in (
        path for folder in (out, out / "shards", state) if folder.is_dir() for path in folder.glob(_TEMPORARY)
    ):
        leftover.unlink()  # of a write that was killed


def _shard_name(number: int) -> str:
    return f"shards/{number:05d}.safetensors"


def _finished(out: Path, number: int) -> dict[str, Any] | None:
    """The note of a shard, where the shard is whole."""
    note = out / ".build" / f"{number:05d}.json"
    shard = out / _shard_name(number)
    if not note.is_file():
        return None
    value = read_json(note)
    if value["file"] is None:
        return value
    return value if shard.is_file() and sha256_of_file(shard) == value["file"]["sha256"] else None


# --- the work ----------------------------------------------------------------------------------------------------


def _run(due: list[int], shards: list[list[Take]], config: BuildConfig) -> Iterator[tuple[int, dict[str, Any]]]:
    """Notes of the shards that are due, in the order in which they are ready."""
    if config.workers == 1 or len(due) < 2:
        for number in due:
            yield number, _build_shard(number, shards[number], config)
        return
    # spawn: the same on every system, and no half-copied state of threads
    with ProcessPoolExecutor(min(config.workers, len(due)), mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_build_shard, number, shards[number], config): number for number in due}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise KinalignError(
                "a worker process died, perhaps for want of memory; start again with fewer --workers, "
                "finished shards are kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _build_shard(number: int, takes: Sequence[Take], config: BuildConfig) -> dict[str, Any]:
    """Read and cut the takes of one shard, write their joints, and write and return the note about it."""
    rows: list[dict[str, Any]] = []
    joints: list[NDArray[np.float32]] = []
    rejected: list[Rejected] = []
    moments: Moments | None = None
    num_frames = 0
    for take in takes:
        for piece in _pieces(take, config):
            if isinstance(piece, Rejected):
                rejected.append(piece)
                continue
            clip, features = piece
            if clip.split == "train":
                moments = Moments.of(features) if moments is None else moments.merge(Moments.of(features))
            rows.append(_row(clip, shard=_shard_name(number), frames=(num_frames, num_frames + len(clip.motion))))
            joints.append(clip.motion.joints)
            num_frames += len(clip.motion)
    file = None
    if rows:
        path = write_arrays(config.out / _shard_name(number), {"joints": np.concatenate(joints).astype(config.dtype)})
        file = _entry(config.out, path)
    note = {
        "file": file,
        "rows": rows,
        "rejected": [entry._asdict() for entry in rejected],
        "moments": moments and {"count": moments.count, "mean": list(moments.mean), "squares": list(moments.squares)},
    }
    write_json(config.out / ".build" / f"{number:05d}.json", note)
    return note


def _pieces(take: Take, config: BuildConfig) -> Iterator[tuple[Clip, NDArray[np.float32]] | Rejected]:
    """The clips of a take with their features (T - 1, F), or why there are none."""
    if take.words is not None and not take.words.captions:
        yield Rejected(take.id, take.source, "no caption", f"{config.captions} has no row for it")
        return
    try:
        whole = read_take(take, body_model=config.body_model, license=config.license)
    except KinalignError as error:
        yield Rejected(take.id, take.source, "unreadable", str(error))
        return
    for part in whole.by_captions():
        motion = part.motion.resample(config.fps)
        if motion.skeleton.num_joints != _SKELETONS[config.skeleton].num_joints:
            reason = f"it has the {motion.skeleton.num_joints} joints of {motion.skeleton.name}, not {config.skeleton}"
            yield Rejected(part.id, part.source, "other skeleton", reason)
            continue
        keep_short = part.source in config.keep_short or "all" in config.keep_short
        if len(motion) < (2 if keep_short else config.min_frames):
            reason = f"{len(motion)} frames at {config.fps:g} fps, fewer than {2 if keep_short else config.min_frames}"
            yield Rejected(part.id, part.source, "too short", reason)
            continue
        cuts = cut(len(motion), min_frames=config.min_frames, max_frames=config.max_frames)
        if (end := cuts[-1].stop) < len(motion):
            reason = f"frames {end} to {len(motion)} are fewer than {config.min_frames}; the rest of it is kept"
            yield Rejected(part.id, part.source, "short rest", reason)
        for number, frames in enumerate(cuts):
            name = part.id if len(cuts) == 1 else f"{part.id}_p{number}"
            parent = "" if name == take.id else take.id
            clip = replace(part, id=name, motion=motion[frames], split=_split(whole, take, config), parent=parent)
            try:
                made = list(_canonical(clip, take, config))
            except MotionError as error:
                yield Rejected(name, part.source, "no motion", str(error))
                continue
            yield from made


def _canonical(clip: Clip, take: Take, config: BuildConfig) -> Iterator[tuple[Clip, NDArray[np.float32]]]:
    """The clip facing +z on the floor, and its mirror image, each with features; raises MotionError."""
    motion = clip.motion.face_forward().on_floor()
    if config.uniform_skeleton:
        target = _SKELETONS[config.skeleton]
        motion = replace(motion, joints=uniform_skeleton(motion.joints, motion.skeleton, target), skeleton=target)
        motion = motion.on_floor()
    yield replace(clip, motion=motion), motion_to_features(motion)
    if config.mirror:
        mirrored = motion.mirror().face_forward()
        yield (
            replace(
                clip,
                id=f"M{clip.id}",
                motion=mirrored,
                captions=tuple(mirror_caption(caption) for caption in clip.captions),
                label=mirror_label(clip.label),
                parent=take.id,
            ),
            motion_to_features(mirrored),
        )


def cut(num_frames: int, *, min_frames: int, max_frames: int) -> list[slice]:
    """Equal pieces of at most `max_frames`. A rest shorter than `min_frames` is dropped.

    >>> cut(460, min_frames=40, max_frames=196)
    [slice(0, 153, None), slice(153, 307, None), slice(307, 460, None)]
    >>> cut(200, min_frames=40, max_frames=196)
    [slice(0, 196, None)]
    """
    if num_frames <= max_frames:
        return [slice(0, num_frames)]
    whole, rest = divmod(num_frames, max_frames)
    if rest < min_frames:
        return [slice(i * max_frames, (i + 1) * max_frames) for i in range(whole)]
    ends = [round(num_frames * i / (whole + 1)) for i in range(whole + 2)]
    return [slice(start, end) for start, end in pairwise(ends)]


def _split(clip: Clip, take: Take, config: BuildConfig) -> Split:
    if take.reader != "files":
        return clip.split
    if take.words is not None and take.words.split is not None:
        return take.words.split
    digest = hashlib.sha256(f"{config.seed}/{take.source}/{take.id}".encode()).digest()
    drawn = int.from_bytes(digest[:8], "big") / 2**64
    train, val, _ = config.splits
    return "train" if drawn < train else "val" if drawn < train + val else "test"


def _row(clip: Clip, *, shard: str, frames: tuple[int, int]) -> dict[str, Any]:
    names = ("id", "captions", "source", "license", "split", "label", "style", "parent")
    return {**{name: getattr(clip, name) for name in names}, "shard": shard, "frames": frames}


# --- the end -----------------------------------------------------------------------------------------------------


def _finish(config: BuildConfig, plan: Plan, notes: list[dict[str, Any]]) -> dict[str, Any]:
    """Write clips.jsonl, the statistics and, last, the manifest, which is returned."""
    out = config.out
    rows = [row for note in notes for row in note["rows"]]
    rejected = [entry for note in notes for entry in note["rejected"]]
    if not rows:
        reasons = ", ".join(
            f"{count} {why}" for why, count in Counter(entry["why"] for entry in rejected).most_common()
        )
        raise DataError(f"no take can be used ({reasons}); the first: {rejected[0]['id']}: {rejected[0]['reason']}")
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    clips = write_text(out / CLIPS, lines)
    files = [note["file"] for note in notes if note["file"]] + [_entry(out, clips)]
    moments: Moments | None = None
    for note in notes:
        if note["moments"]:
            values = note["moments"]
            shard = Moments(values["count"], np.array(values["mean"]), np.array(values["squares"]))
            moments = shard if moments is None else moments.merge(shard)
    if moments is not None:
        files.append(_entry(out, write_stats(out, moments.stats())))
    manifest = {
        "format": FORMAT,
        "config": config.content,
        "skeleton": config.skeleton,
        "num_joints": _SKELETONS[config.skeleton].num_joints,
        "fps": config.fps,
        "counts": _counts(rows, config.fps),
        "licenses": {
            name: sum(row["license"] == name for row in rows) for name in sorted({r["license"] for r in rows})
        },
        "rejected_counts": dict(Counter(entry["why"] for entry in rejected)),
        "rejected": rejected,
        "unmatched_captions": plan.unmatched_captions,
        "files": files,
    }
    write_json(out / MANIFEST, manifest)
    return manifest


def _entry(out: Path, path: Path) -> dict[str, Any]:
    return {"file": path.relative_to(out).as_posix(), "bytes": path.stat().st_size, "sha256": sha256_of_file(path)}


def _counts(rows: list[dict[str, Any]], fps: float) -> dict[str, Any]:
    """Clips and minutes by source and split, mirror images included, and all in all."""
    groups: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        start, end = row["frames"]
        groups.setdefault((row["source"], row["split"]), []).append(end - start)
    return {
        "clips": len(rows),
        "minutes": round(sum(sum(lengths) for lengths in groups.values()) / fps / 60, 2),
        "captions": sum(len(row["captions"]) for row in rows),
        "by_source_and_split": [
            {"source": source, "split": split, "clips": len(lengths), "minutes": round(sum(lengths) / fps / 60, 2)}
            for (source, split), lengths in sorted(groups.items())
        ],
    }


def _report(out: Path, manifest: dict[str, Any]) -> None:
    """Print what was made and, above all, what was not."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    counts = manifest["counts"]
    console.print(f"{escape(str(out))}: {counts['clips']} clips, {counts['minutes']:.1f} minutes")
    for why, count in manifest["rejected_counts"].items():
        console.print(f"  {count} rejected: {why}", style="yellow")
    for entry in [entry for entry in manifest["rejected"] if entry["why"] not in ("too short", "short rest")][:10]:
        console.print(f"    {escape(entry['id'])}: {escape(entry['reason'])}")
    if manifest["unmatched_captions"]:
        names = manifest["unmatched_captions"]
        console.print(f"  {len(names)} rows of captions fit no file, such as {escape(names[0])}", style="yellow")
    if manifest["rejected"]:
        console.print(f"  all of them, with reasons: {escape(str(out / MANIFEST))}")
