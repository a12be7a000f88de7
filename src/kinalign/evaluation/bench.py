"""What an evaluation stands on: the clips, their embeddings, groups of them, and the chance of each replication.

Letters: N clips, D width of an embedding, R replications.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinalign.data.records import Clip
from kinalign.errors import ConfigError, EvaluationError
from kinalign.evaluation.captions import words
from kinalign.evaluation.embedding import Embeddings, Encoder, Vectors
from kinalign.evaluation.naming import Event, events_by_caption
from kinalign.evaluation.report import TASKS
from kinalign.motion.motion import Motion
from kinalign.motion.physics import floating, foot_skating, foot_skating_ratio, jitter, penetration
from kinalign.pipeline import MAX_FRAMES

Array = NDArray[np.floating]
Indices = NDArray[np.intp]

SHORTEST_FRAMES = 9
"""Two steps of four frames, and the frame that features lose."""
HARD_GROUP, HARD_SOURCES = "CMU+HDM05", ("CMU", "CMU8", "HDM05")
"""Real clips of openmocap20 that have no near-copies in its train split; Bandai's have."""


@dataclass(frozen=True)
class EvaluationSettings:
    """How an evaluation is done."""

    tasks: tuple[str, ...] = tuple(TASKS)
    replications: int = 20
    seed: int = 0
    captions: Literal["random", "first"] = "random"
    """Which caption of a clip is the prompt of a replication."""
    true_lengths: bool = False
    """Tell the model how long the real motion is, as many tables of the field do."""
    published_displacement: bool = False
    """ADE, FDE and APD also with all joints as one vector, about the root of their number higher (MotionGPT, DLow)."""
    many_prompts: int = 16
    """Clips for MultiModality, APD and the rate of invalid answers, drawn anew for each replication."""
    many_candidates: int = 12
    """Motions for each of them; MultiModality takes 10 pairs of them, or as many as there are."""
    pool_size: int = 32

    def __post_init__(self) -> None:
        unknown = sorted(set(self.tasks) - TASKS.keys())
        if unknown or not self.tasks:
            raise ConfigError(f"tasks {unknown} are unknown; choose some of {', '.join(TASKS)} (--task)")
        for name, least in (("replications", 1), ("many_prompts", 1), ("many_candidates", 2)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least {least} (--{name.replace('_', '-')})")


class Made(NamedTuple):
    """Motions of one system for N clips, with what is measured of each alone."""

    motions: list[Motion]
    vectors: Vectors
    """(N, D)"""
    physics: dict[str, Array]
    """Metric -> (N,)."""

    def at(self, rows: Sequence[int]) -> Made:
        """Some of them."""
        physics = {metric: values[list(rows)] for metric, values in self.physics.items()}
        return Made([self.motions[row] for row in rows], self.vectors[list(rows)], physics)

    @staticmethod
    def stacked(parts: Sequence[Made]) -> Made:
        """One after the other."""
        physics = {metric: np.concatenate([part.physics[metric] for part in parts]) for metric in parts[0].physics}
        motions = [motion for part in parts for motion in part.motions]
        return Made(motions, np.concatenate([part.vectors for part in parts]), physics)


class Bench:
    """Clips ready to be evaluated on. Raises EvaluationError for too few of them and for captions without words."""

    def __init__(
        self,
        clips: Sequence[Clip],
        encoder: Encoder,
        settings: EvaluationSettings,
        *,
        train: Sequence[Clip] = (),
        references: Mapping[str, Sequence[str]] | None = None,
        fps: float,
    ) -> None:
        self.settings = settings
        self.clips, self.left_out = _prepared(clips, fps)
        self.train, _ = _prepared(train, fps)
        if len(self.clips) < settings.pool_size:
            raise EvaluationError(
                f"{len(self.clips)} clips that can be evaluated (of {len(clips)}) fill no pool of "
                f"{settings.pool_size}; use a larger split (--data, --split)"
            )
        self.references = _references(self.clips, references)
        self.embeddings = Embeddings(encoder)
        self.groups = _groups(self.clips)

    def rng(self, *key: int) -> np.random.Generator:
        """Chance of its own for every purpose: the same whatever else was drawn."""
        return np.random.default_rng([self.settings.seed, *key])

    def prompts(self, replication: int) -> list[str]:
        """The caption of each clip in a replication, of those that are short enough for a prompt."""
        asked = [_short(clip.captions) for clip in self.clips]
        if self.settings.captions == "first":
            return [captions[0] for captions in asked]
        places = self.rng(replication).random(len(self.clips))
        return [captions[int(place * len(captions))] for captions, place in zip(asked, places)]

    def many(self, replication: int, num_clips: int) -> Indices:
        """Places of the clips of which a replication makes many motions."""
        size = min(self.settings.many_prompts, num_clips)
        return np.sort(self.rng(replication, 1).choice(num_clips, size, replace=False))

    def seeds(self, replication: int, task: str, num_clips: int) -> list[int]:
        """A seed for each clip, for what a task makes of it in a replication."""
        sequence = np.random.SeedSequence([self.settings.seed, replication, 2, list(TASKS).index(task)])
        return [int(seed) for seed in sequence.generate_state(num_clips)]

    def made(self, motions: Sequence[Motion]) -> Made:
        """Motions with their embeddings and what is measured of each."""
        of_each = [physics_of(motion) for motion in motions]
        physics = {name: np.array([one[name] for one in of_each]) for name in of_each[0]}
        return Made(list(motions), self.embeddings.motions(motions), physics)

    @cached_property
    def truth(self) -> Made:
        return self.made([clip.motion for clip in self.clips])

    @cached_property
    def train_captions(self) -> tuple[Vectors, Indices]:
        """Embeddings (M, D) of the captions of all train clips, and the place of the clip that each belongs to."""
        captions = [caption for clip in self.train for caption in clip.captions]
        owners = [place for place, clip in enumerate(self.train) for _ in clip.captions]
        return self.embeddings.texts(captions), np.array(owners)

    @cached_property
    def events(self) -> dict[str, set[Event]]:
        """Caption -> what clips with it show, of both splits."""
        return events_by_caption([*self.train, *self.clips])

    @cached_property
    def data_sha256(self) -> str:
        """Of ids, captions and joints of all clips, those of the train split too."""
        digest = hashlib.sha256()
        for clip in (*self.clips, *self.train):
            digest.update(json.dumps([clip.id, *clip.captions], ensure_ascii=False).encode())
            digest.update(np.ascontiguousarray(clip.motion.joints).tobytes())
        for group in self.references:
            digest.update(json.dumps(group, ensure_ascii=False).encode())
        return digest.hexdigest()

    @cached_property
    def prompts_sha256(self) -> str:
        """Of the prompts of all replications: numbers of two systems are paired by these."""
        prompts = [self.prompts(replication) for replication in range(self.settings.replications)]
        ids = [clip.id for clip in self.clips]
        return hashlib.sha256(json.dumps([ids, prompts], ensure_ascii=False).encode()).hexdigest()


LONGEST_PROMPT_WORDS = 40
"""Longer captions are no prompts: models read 64 tokens or a few more, and no one's list of events is that long."""


def _short(captions: Sequence[str]) -> Sequence[str]:
    """The captions that are prompts; where all are too long, the shortest."""
    short = [caption for caption in captions if len(caption.split()) <= LONGEST_PROMPT_WORDS]
    return short or [min(captions, key=len)]


def physics_of(motion: Motion) -> dict[str, float]:
    """How a motion stands and runs, in the units of a report."""
    return {
        "skating_cm_s": 100 * foot_skating(motion),
        "skating_percent": 100 * foot_skating_ratio(motion),
        "floating_mm": 1000 * floating(motion),
        "penetration_mm": 1000 * penetration(motion),
        "jitter_m_s3": jitter(motion),
    }


def sha256_of_arrays(arrays: Iterable[NDArray[np.generic]]) -> str:
    """Of types, shapes and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _prepared(clips: Sequence[Clip], fps: float) -> tuple[list[Clip], int]:
    """Clips and captioned parts of clips at a frame rate, cut to the longest motion; and how many were left out."""
    kept, left_out = [], 0
    for clip in (part for whole in clips for part in whole.by_captions()):
        motion = clip.motion.resample(fps)[:MAX_FRAMES]
        if not clip.captions or len(motion) < SHORTEST_FRAMES:
            left_out += 1
            continue
        for caption in clip.captions:
            _require_words(caption, clip.id)
        kept.append(replace(clip, motion=replace(motion, caption=clip.captions[0])))
    return kept, left_out


def _require_words(caption: str, clip_id: str) -> None:
    if not has_words(caption):
        raise EvaluationError(f"caption {caption!r} of clip {clip_id!r} has no letters; mend it or leave the clip out")


def has_words(caption: str) -> bool:
    return any(letter.isalpha() for word in words(caption) for letter in word)


def _references(clips: Sequence[Clip], given: Mapping[str, Sequence[str]] | None) -> list[list[str]]:
    """The captions that those of a model are held against, for each clip."""
    if given is None:
        return [list(clip.captions) for clip in clips]
    absent = [clip.id for clip in clips if not given.get(clip.id)]
    if absent:
        raise EvaluationError(
            f"the references have captions for {len(clips) - len(absent)} of {len(clips)} motions; the first without "
            f"is {absent[0]!r}: add a line for each (--references)"
        )
    for clip in clips:
        for caption in given[clip.id]:
            _require_words(caption, clip.id)
    return [list(given[clip.id]) for clip in clips]


def _groups(clips: Sequence[Clip]) -> dict[str, Indices]:
    """Places of the clips of all sources, of CMU and HDM05 together, and of each source."""
    sources = np.array([clip.source for clip in clips])
    groups = {"all": np.arange(len(clips))}
    is_hard = np.isin(sources, HARD_SOURCES)
    if len(set(sources[is_hard])) > 1 and not is_hard.all():
        groups[HARD_GROUP] = np.flatnonzero(is_hard)
    names = sorted(set(sources))
    return groups | ({name: np.flatnonzero(sources == name) for name in names} if len(names) > 1 else {})
