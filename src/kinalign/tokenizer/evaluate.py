"""How well a tokenizer rebuilds clips that it never saw, source by source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kinalign.data.records import Clip
from kinalign.errors import DataError
from kinalign.motion.compare import accel, jitter, mpjpe, pa_mpjpe
from kinalign.motion.features import features_to_motion
from kinalign.motion.motion import Motion
from kinalign.tokenizer.quantizer import perplexity
from kinalign.tokenizer.tokenizer import Codes, MotionTokenizer

MAX_FRAMES = 196
"""Longer clips are rebuilt in pieces of this length, as the field's evaluation does."""
_SHORTEST = 8


@dataclass(frozen=True)
class Reconstruction:
    """Errors over a group of clips; frames count equally."""

    clips: int
    frames: int
    mpjpe_mm: float
    pa_mpjpe_mm: float
    accel_mm: float
    jitter_ratio: float
    """Jitter of what comes back over jitter of what went in; 1 is as smooth as real."""
    codes_used: int
    """Different codes in this group."""
    perplexity: float
    """exp(entropy) of code usage, mean over the codes of a step."""


def evaluate_tokenizer(tokenizer: MotionTokenizer, clips: Sequence[Clip]) -> dict[str, Reconstruction]:
    """Errors by source, and over "all"; clips of fewer than 8 frames are left out.

    The truth is the clip as the tokenizer reads it: its frame rate, the skeleton's bones, frame 0 facing +z.
    """
    pieces: dict[str, list[tuple[Motion, Motion, Codes]]] = defaultdict(list)
    num_clips: dict[str, int] = defaultdict(int)
    for clip in clips:
        rebuilt = list(_rebuild(tokenizer, clip.motion))
        for group in (clip.source, "all") if rebuilt else ():
            pieces[group] += rebuilt
            num_clips[group] += 1
    if not pieces:
        raise DataError(f"none of {len(clips)} clips has {_SHORTEST} frames; nothing to evaluate")
    return {group: _summary(tokenizer, num_clips[group], rows) for group, rows in sorted(pieces.items())}


def _rebuild(tokenizer: MotionTokenizer, motion: Motion) -> Iterable[tuple[Motion, Motion, Codes]]:
    """(truth, rebuilt, codes) of each piece of a motion."""
    motion = motion.resample(tokenizer.config.fps)
    if len(motion) <= _SHORTEST:
        return
    features = tokenizer.features(motion)
    for start in range(0, len(features), MAX_FRAMES):
        piece = features[start : start + MAX_FRAMES]
        piece = piece[: len(piece) // tokenizer.frames_per_step * tokenizer.frames_per_step]
        if len(piece) >= _SHORTEST:
            codes = tokenizer.encode_features(piece)
            yield features_to_motion(piece, fps=tokenizer.config.fps), tokenizer.decode(codes), codes


def _summary(
    tokenizer: MotionTokenizer, num_clips: int, rows: Sequence[tuple[Motion, Motion, Codes]]
) -> Reconstruction:
    frames = np.array([len(truth) for truth, _, _ in rows])

    def mean(values: Iterable[float]) -> float:
        return float(np.average(list(values), weights=frames))

    codes = torch.cat([tokenizer.unflatten(row) for _, _, row in rows])  # (N, Q)
    use = [float(perplexity(column, tokenizer.codebook_size)) for column in codes.T]
    # a body that stands still has none to compare with
    real = max(mean(jitter(truth.joints) for truth, _, _ in rows), 1e-9)
    return Reconstruction(
        clips=num_clips,
        frames=int(frames.sum()),
        mpjpe_mm=1000 * mean(mpjpe(ours.joints, truth.joints) for truth, ours, _ in rows),
        pa_mpjpe_mm=1000 * mean(pa_mpjpe(ours.joints, truth.joints) for truth, ours, _ in rows),
        accel_mm=1000 * mean(accel(ours.joints, truth.joints) for truth, ours, _ in rows),
        jitter_ratio=mean(jitter(ours.joints) for _, ours, _ in rows) / real,
        codes_used=sum(len(column.unique()) for column in codes.T),
        perplexity=sum(use) / len(use),
    )
