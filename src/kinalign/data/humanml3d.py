"""Reader of HumanML3D and KIT-ML in the folder layout that their authors publish, as it is.

    texts/ID.txt            a line a caption: caption#word/POS word/POS ...#start#end, in seconds; 0.0#0.0 is the whole
    new_joints/ID.npy       joints (T, 22, 3) in metres at 20 fps; KIT-ML (T, 21, 3) in millimetres at 12.5 fps
    new_joint_vecs/ID.npy   features (T, 263); KIT-ML (T, 251); the joints are recovered from them, frame by frame
    Mean.npy, Std.npy       what the features are normalised by
    train.txt, val.txt, test.txt, train_val.txt, all.txt     an id a line; ids with M are mirrored clips

The words with their parts of speech stand in no clip: only the published evaluator reads them (`tagged_captions`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kinalign.data.records import CaptionSpan, Clip, Split
from kinalign.errors import DataError, MotionError
from kinalign.motion.features import FeatureStats
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, KIT, Skeleton

SplitList = Literal["train", "val", "test", "train_val", "all"]


@dataclass(frozen=True)
class Flavour:
    """What differs between the two published data sets; the published loaders leave out clips of other lengths."""

    source: str
    license: str
    skeleton: Skeleton
    metres_per_unit: float
    min_frames: int
    max_frames: int


HUMANML3D_FLAVOUR = Flavour("HumanML3D", "AMASS", HUMANML3D, 1.0, min_frames=40, max_frames=199)
KIT_FLAVOUR = Flavour("KIT-ML", "KIT-ML", KIT, 0.001, min_frames=24, max_frames=199)


def flavour_of(skeleton: Skeleton) -> Flavour:
    """The published data set of a built-in skeleton."""
    return KIT_FLAVOUR if skeleton.num_joints == KIT.num_joints else HUMANML3D_FLAVOUR


def load_humanml3d(root: str | Path, split: SplitList | None = None, *, any_length: bool = False) -> list[Clip]:
    """Clips of a published folder: of one list, or of train, val and test. See HumanML3DFolder.clips."""
    return list(HumanML3DFolder.open(root).clips(split, any_length=any_length))


@dataclass(frozen=True)
class HumanML3DFolder:
    """A published folder, opened: its lists and texts are read when asked for, its motions one by one."""

    root: Path
    flavour: Flavour

    @staticmethod
    def open(root: str | Path) -> HumanML3DFolder:
        """Look at what is there and tell HumanML3D from KIT-ML by the number of joints.

        Raises DataError that names every missing piece at once.
        """
        root = Path(root)
        missing = [f"{name}/" for name in ("texts", "new_joints") if not (root / name).is_dir()]
        missing += [f"{name}.txt" for name in ("train", "val", "test") if not (root / f"{name}.txt").is_file()]
        if missing:
            raise DataError(
                f"{root} lacks {', '.join(missing)}; the published layout has texts/, new_joints/, new_joint_vecs/, "
                "Mean.npy, Std.npy, train.txt, val.txt and test.txt in one folder"
            )
        first = min((root / "new_joints").glob("*.npy"), default=None)
        if first is None:
            raise DataError(f"{root / 'new_joints'} holds no .npy file; it should hold the joints of each clip")
        shape = _read_array(first).shape
        for flavour in (HUMANML3D_FLAVOUR, KIT_FLAVOUR):
            if shape[1:] == (flavour.skeleton.num_joints, 3):
                return HumanML3DFolder(root, flavour)
        raise DataError(f"{first} has shape {shape}; HumanML3D has (T, 22, 3) and KIT-ML (T, 21, 3)")

    def ids(self, split: SplitList) -> tuple[str, ...]:
        """Ids of one list, in its order; raises DataError where the list is absent."""
        path = self.root / f"{split}.txt"
        if not path.is_file():
            raise DataError(f"{path} is absent; it lists the ids of {split}, one a line")
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())

    def clips(self, split: SplitList | None = None, *, any_length: bool = False) -> Iterator[Clip]:
        """Clips one by one, in the order of the list; None is train, then val, then test.

        Captions with time tags make clips of their own, ID@START-END in frames, as in the published loaders. Left out
        as there: motions shorter than 40 frames (KIT-ML 24) or longer than 199, unless `any_length`; and, with one
        warning that names them, motions with NaN or without captions. Raises DataError where listed files are absent,
        naming the first ones, before any motion is read.
        """
        ids = [clip_id for name in ([split] if split else ("train", "val", "test")) for clip_id in self.ids(name)]
        self._require_files(ids)
        unusable: list[str] = []
        for clip_id in ids:
            try:
                clip = self.clip(clip_id)
            except MotionError as error:
                unusable.append(f"{clip_id} ({error})")
                continue
            if not clip.captions:
                unusable.append(f"{clip_id} (no caption)")
                continue
            for part in clip.by_captions():
                if any_length or self.flavour.min_frames <= len(part.motion) <= self.flavour.max_frames:
                    yield part
        if unusable:
            warnings.warn(f"{len(unusable)} clips of {self.root} are left out: {', '.join(unusable)}", stacklevel=2)

    def clip(self, clip_id: str) -> Clip:
        """One motion in metres with all its captions, those with time tags as spans; raises MotionError on NaN."""
        flavour = self.flavour
        joints = _read_array(self.root / "new_joints" / f"{clip_id}.npy") * np.float32(flavour.metres_per_unit)
        captions = _read_captions(self.root / "texts" / f"{clip_id}.txt")
        texts = tuple(caption.text for caption in captions)
        motion = Motion(joints, fps=flavour.skeleton.fps, skeleton=flavour.skeleton, caption=texts[0] if texts else "")
        return Clip(
            id=clip_id,
            motion=motion,
            captions=texts,
            source=flavour.source,
            license=flavour.license,
            split=self._split_of.get(clip_id, "train"),
            spans=_spans(captions, motion),
            parent=clip_id[1:] if clip_id.startswith("M") else "",
        )

    def tagged_captions(self) -> dict[str, str]:
        """Each caption's words in base form with parts of speech, "a/DET man/NOUN walk/VERB", of all splits."""
        return {
            caption.text: caption.tagged
            for clip_id in self._split_of
            for caption in _read_captions(self.root / "texts" / f"{clip_id}.txt")
        }

    def features(self, clip_id: str) -> NDArray[np.float32]:
        """Rows (T, F) as stored, not normalised, in the folder's own unit; of a sub-clip ID@START-END its rows."""
        name, _, span = clip_id.partition("@")
        rows = _read_array(self.root / "new_joint_vecs" / f"{name}.npy").astype(np.float32)
        if not span:
            return rows
        start, _, end = span.partition("-")
        return rows[int(start) : int(end)]

    @property
    def stats(self) -> FeatureStats:
        """Mean.npy and Std.npy; raises DataError where one is absent."""
        return FeatureStats(_read_array(self.root / "Mean.npy"), _read_array(self.root / "Std.npy"))

    @cached_property
    def _split_of(self) -> dict[str, Split]:
        names: tuple[Split, ...] = ("train", "val", "test")
        return {clip_id: name for name in names for clip_id in self.ids(name)}

    def _require_files(self, ids: list[str]) -> None:
        names = [
            f"{folder}/{clip_id}{suffix}"
            for folder, suffix in (("texts", ".txt"), ("new_joints", ".npy"))
            for present in [{path.name for path in (self.root / folder).iterdir()}]
            for clip_id in ids
            if f"{clip_id}{suffix}" not in present
        ]
        if names:
            more = ", ..." if len(names) > 5 else ""
            raise DataError(
                f"{self.root} lists clips whose files are absent: {len(names)} files, {', '.join(names[:5])}{more}; "
                "copy them or take their ids off the lists"
            )


@dataclass(frozen=True)
class _TimedCaption:
    text: str
    tagged: str
    start_s: float
    end_s: float


def _read_captions(path: Path) -> list[_TimedCaption]:
    captions = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.strip().split("#")
        if len(fields) != 4:
            raise DataError(f"{path}, line {number} has {len(fields)} fields; it should be caption#tokens#start#end")
        try:
            start, end = (0.0 if math.isnan(float(field)) else float(field) for field in fields[2:])
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {fields[2]!r} and {fields[3]!r} should be seconds") from error
        captions.append(_TimedCaption(fields[0].strip(), fields[1].strip(), start, end))
    return captions


def _spans(captions: list[_TimedCaption], motion: Motion) -> tuple[CaptionSpan, ...]:
    """The captions with time tags, those of one range together; a range ends with the motion at the latest."""
    ranges: dict[tuple[int, int], list[str]] = {}
    for caption in captions:
        # the margin keeps 4.35 s x 20 fps from being frame 86
        start, end = (int(time_s * motion.fps + 1e-6) for time_s in (caption.start_s, caption.end_s))
        if start < min(end, len(motion)):
            ranges.setdefault((start, min(end, len(motion))), []).append(caption.text)
    return tuple(CaptionSpan(*frames, tuple(texts)) for frames, texts in ranges.items())


def _read_array(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}); it is absent or cut short") from error
