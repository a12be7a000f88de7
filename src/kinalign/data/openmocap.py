"""Reader of openmocap20: 3,628 real clips, 22 joints at 20 fps, with captions, splits and a licence each.

The positions are stored as running differences of 16-bit integers; a clip is their sum times one scale.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinalign.data.records import CaptionSpan, Clip, data_root
from kinalign.errors import DataError
from kinalign.motion.motion import Motion

SOURCES = ("CMU", "CMU8", "HDM05", "Bandai1", "Bandai2")
"""Where clips come from. Bandai's takes are near-identical and split at random: report CMU and HDM05 apart."""


EVENT_CAPTIONS = {
    "ArmCircle": "a person circles both arms",
    "JumpJack": "a person does jumping jacks",
    "Jog": "a person jogs in place",
    "KneeRaise": "a person raises the knees one after the other",
    "Squat": "a person does squats",
    "ToeTouchOneHand": "a person bends down and touches the toes with one hand",
    "ToeTouchTwoHands": "a person bends down and touches the toes with both hands",
    "Twist": "a person twists the upper body from side to side",
    "UpDown": "a person reaches up and then bends down",
    "clap": "a person claps",
    "jump": "a person jumps",
    "leg_kick": "a person kicks",
    "look_around": "a person looks around",
    "punch": "a person punches",
    "stand_and_clap": "a person stands up and claps",
    "walk": "a person walks forward",
    "punch_left": "a person punches once with the left fist",
    "punch_right": "a person punches once with the right fist",
    "kick_front_left": "a person kicks forward once with the left leg",
    "kick_front_right": "a person kicks forward once with the right leg",
    "kick_side_left": "a person kicks to the side once with the left leg",
    "kick_side_right": "a person kicks to the side once with the right leg",
    "kick_round_left": "a person does a roundhouse kick with the left leg",
    "kick_round_right": "a person does a roundhouse kick with the right leg",
    "sit_floor": "a person sits down on the floor",
}
"""What the labelled frame ranges say."""

OUR_EVENTS = Path(__file__).with_name("openmocap_events.json")
"""Ranges that we labelled, clip id -> [start, end, label] each: single punches and kicks of clips with several, and
lying down up to where the person sits. Found by reach, foot height and hip height, then looked at."""


def load_openmocap(
    root: str | Path | None = None,
    *,
    split: str | None = None,
    sources: Collection[str] | None = None,
    licenses: Collection[str] | None = None,
    cut_events: bool = False,
) -> list[Clip]:
    """Clips of openmocap20, those of one split, of some sources and of some licences where given.

    `cut_events` gives the seven CMU trials with labelled frame ranges as one clip for each event, with a caption of its
    own and the id TRIAL@START, and adds such clips for the ranges of OUR_EVENTS.

    `root` is the folder with clips.jsonl and motions.npz; None looks in the data folder. Raises DataError for a file
    that is absent or cut short, and for an unknown split, source or licence.
    """
    root = Path(root) if root is not None else data_root() / "openmocap20"
    rows = _read_rows(root / "clips.jsonl")
    for wanted, known, what in (
        ({split} if split else set(), {row["split"] for row in rows}, "split"),
        (set(sources or ()), {row["source"] for row in rows}, "source"),
        (set(licenses or ()), {row["license"] for row in rows}, "licence"),
    ):
        if wanted - known:
            raise DataError(f"unknown {what} {sorted(wanted - known)} in {root}; it has {', '.join(sorted(known))}")
    joints = _read_joints(root / "motions.npz", num_clips=len(rows))
    clips = [
        Clip(
            id=row["id"],
            motion=Motion(joints(index), fps=float(row["fps"]), caption=row["captions"][0]["text"]),
            captions=tuple(caption["text"] for caption in row["captions"]),
            source=row["source"],
            license=row["license"],
            split=row["split"],
            label=row.get("label", ""),
            style=row.get("style", ""),
            spans=_spans(row["captions"]),
        )
        for index, row in enumerate(rows)
        if (split is None or row["split"] == split)
        and (not sources or row["source"] in sources)
        and (not licenses or row["license"] in licenses)
    ]
    if not cut_events:
        return clips
    theirs = {
        row["id"]: [(event["start"], event["end"], event["label"]) for event in row["events"]]
        for row in rows
        if "events" in row
    }
    ours = json.loads(OUR_EVENTS.read_text(encoding="utf-8"))
    parts = []
    for clip in clips:
        parts += _events_of(clip, theirs[clip.id]) if clip.id in theirs else [clip]
        parts += _events_of(clip, ours.get(clip.id, ()))
    return parts


def _events_of(clip: Clip, events: Iterable[tuple[int, int, str]]) -> list[Clip]:
    parts = []
    for start, end, label in events:
        caption = EVENT_CAPTIONS[label]
        motion = replace(clip.motion[start:end], caption=caption)
        name = f"{clip.id}@{start}"
        parts.append(replace(clip, id=name, motion=motion, captions=(caption,), label=label, spans=(), parent=clip.id))
    return parts


def _spans(captions: list[dict[str, Any]]) -> tuple[CaptionSpan, ...]:
    """The captions that say from which frame to which, those of one range together."""
    ranges: dict[tuple[int, int], list[str]] = {}
    for caption in captions:
        if "start" in caption:
            ranges.setdefault((caption["start"], caption["end"]), []).append(caption["text"])
    return tuple(CaptionSpan(start, end, tuple(texts)) for (start, end), texts in ranges.items())


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise DataError(f"{path} is absent; openmocap20 needs clips.jsonl and motions.npz in one folder")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number} is not JSON ({error}); the file may be cut short") from error
    return rows


def _read_joints(path: Path, *, num_clips: int) -> Callable[[int], NDArray[np.float32]]:
    """A function from a clip's index to its joints (T, 22, 3) float32 in metres."""
    try:
        # opened here, because np.load forgets to close what is no archive
        with path.open("rb") as file, np.load(file) as archive:
            delta, offsets, scale = archive["delta"], archive["offsets"], float(archive["scale"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); it may be absent or cut short") from error
    if len(offsets) != num_clips + 1 or offsets[-1] != len(delta):
        raise DataError(f"{path} holds {len(offsets) - 1} clips and {len(delta)} frames; clips.jsonl lists {num_clips}")

    def joints(index: int) -> NDArray[np.float32]:
        steps = delta[offsets[index] : offsets[index + 1]]
        return np.cumsum(steps, axis=0, dtype=np.int16).astype(np.float32) * np.float32(scale)

    return joints
