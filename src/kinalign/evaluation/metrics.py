"""Numbers that compare embeddings and joints: the field's metrics as pure functions. How joints of one pose are off
(MPJPE, PA-MPJPE, ACCEL) stands in motion.compare and is only passed on here.

The embedding metrics are those of Guo et al. (Generating Diverse and Natural 3D Human Motions from Text, CVPR 2022;
their utils/metrics.py), which the whole field copies. They come from one evaluator: numbers of two do not compare.
Where chance is used it is handed in: one generator, one number.

Letters: N samples, D width of an embedding, S samples of one prompt, C candidates, T frames, J joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinalign.errors import EvaluationError, MotionError
from kinalign.motion.compare import accel, mpjpe, pa_mpjpe

__all__ = [
    "RPrecision",
    "accel",
    "ade",
    "ade_published",
    "apd",
    "apd_published",
    "diversity",
    "fde",
    "fde_published",
    "fid",
    "mm_dist",
    "mpjpe",
    "multimodality",
    "pa_mpjpe",
    "pool_hits",
    "r_precision",
]

Array = NDArray[np.float64]

_TIE = 1e-12
"""Squared distances are equal within this share of the squared lengths: a few roundings of float64."""


class RPrecision(NamedTuple):
    """Share of texts whose own motion is among the 1, 2, 3 nearest of its pool."""

    top1: float
    top2: float
    top3: float


def fid(real: ArrayLike, generated: ArrayLike) -> float:
    """Fréchet distance between Gaussians fitted to embeddings (N, D) and (M, D); 0 or more, 0 for equal sets.

    |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½) with unbiased covariances (Heusel et al. 2017). Published code takes the
    root of the product C1 C2, which is not symmetric, and returns complex numbers or noise when N is not well above D.
    Here each covariance has its symmetric eigen-decomposition in float64, so any N of 2 or more will do (but the
    fewer the samples, the larger the number: compare only equal N).
    """
    a, b = _embeddings(real, "real embeddings"), _embeddings(generated, "generated embeddings")
    if a.shape[1] != b.shape[1]:
        raise EvaluationError(f"embeddings of widths {a.shape[1]} and {b.shape[1]} cannot be compared; use one encoder")
    if min(len(a), len(b)) < 2:
        raise EvaluationError(f"FID needs 2 samples or more on each side; it has {len(a)} real and {len(b)} generated")
    shift = a.mean(axis=0) - b.mean(axis=0)
    a, b = _covariance_root(a), _covariance_root(b)
    # tr (C1 C2)^½ is the sum of the singular values of this product; the eigenvalues of its square lose half the digits
    overlap = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return max(float(shift @ shift + np.square(a).sum() + np.square(b).sum() - 2 * overlap), 0.0)


def r_precision(text: ArrayLike, motion: ArrayLike, *, rng: np.random.Generator, pool_size: int = 32) -> RPrecision:
    """How often a text (row of (N, D)) finds its own motion (same row) among the nearest of a random pool.

    Pairs are shuffled and cut into pools; those that fill no pool are left out, as published. Chance is k / pool_size.
    Motions at one distance are ranked as if by lot: embeddings that are all the same score chance, where the published
    sorting gives whatever order it finds. Raises EvaluationError for fewer pairs than one pool.
    """
    return RPrecision(*map(float, np.nanmean(pool_hits(text, motion, rng=rng, pool_size=pool_size), axis=0)))


def pool_hits(text: ArrayLike, motion: ArrayLike, *, rng: np.random.Generator, pool_size: int = 32) -> Array:
    """What `r_precision` is the mean of, (N, 3): 1 where a text finds its motion among the 1, 2, 3 nearest, else 0.

    A share of 1 where several motions are at one distance, NaN for a pair that fills no pool.
    """
    a, b = _pairs(text, motion)
    if pool_size < 4:
        raise EvaluationError(f"pool_size={pool_size} leaves top-3 nothing to miss; use 4 or more (the field uses 32)")
    if len(a) < pool_size:
        raise EvaluationError(
            f"R-precision in pools of {pool_size} needs {pool_size} pairs or more; there are {len(a)}: "
            "use a larger split or a smaller pool_size"
        )
    hits = np.full((len(a), 3), np.nan)
    order = rng.permutation(len(a))[: len(a) // pool_size * pool_size]
    centre = b.mean(axis=0)  # what all embeddings share would eat the digits in which they differ
    a, b = ((x[order] - centre).reshape(-1, pool_size, x.shape[1]) for x in (a, b))  # (pools, pool_size, D)
    lengths = np.square(a).sum(-1)[:, :, None] + np.square(b).sum(-1)[:, None, :]
    squared = lengths - 2 * a @ b.swapaxes(1, 2)  # of text i and motion j of a pool
    own, own_lengths = (np.diagonal(x, axis1=1, axis2=2)[..., None] for x in (squared, lengths))
    tolerance = _TIE * np.maximum(lengths, own_lengths)
    nearer = (squared < own - tolerance).sum(axis=-1)
    level = (np.abs(squared - own) <= tolerance).sum(axis=-1)  # its own among them
    shares = [np.clip((k - nearer) / level, 0, 1) for k in (1, 2, 3)]  # each (pools, pool_size)
    hits[order] = np.stack(shares, axis=-1).reshape(-1, 3)
    return hits


def mm_dist(text: ArrayLike, motion: ArrayLike) -> float:
    """Mean distance of each text (row of (N, D)) from its own motion: "matching score" in published code.

    Over all pairs; published code leaves out the up to 31 that fill no pool.
    """
    a, b = _pairs(text, motion)
    return float(np.linalg.norm(a - b, axis=1).mean())


def diversity(embeddings: ArrayLike, *, rng: np.random.Generator, num_pairs: int = 300) -> float:
    """Mean distance of `num_pairs` random pairs of embeddings (N, D); closer to the real motions' is better.

    As published, first and second members are drawn apart, each without repetition: a sample can meet itself.
    Raises EvaluationError unless N is greater than `num_pairs`.
    """
    x = _embeddings(embeddings, "embeddings")
    if not 1 <= num_pairs < len(x):
        raise EvaluationError(
            f"diversity over {num_pairs} pairs needs more samples than pairs and 1 pair or more; there are {len(x)} "
            "samples: set num_pairs lower (AToM uses 200 on small sets) and say so beside the number"
        )
    first, second = (rng.choice(len(x), num_pairs, replace=False) for _ in range(2))
    return float(np.linalg.norm(x[first] - x[second], axis=1).mean())


def multimodality(embeddings: ArrayLike, *, rng: np.random.Generator, num_pairs: int = 10) -> float:
    """Mean distance of `num_pairs` random pairs among samples (N, S, D) of one prompt, over N prompts.

    The field takes 100 prompts x 30 samples. As published, all prompts share one draw, and a sample can meet itself.
    Raises EvaluationError unless S is greater than `num_pairs`.
    """
    x = _embeddings(embeddings, "embeddings", shape="(N, S, D)")
    num_samples = x.shape[1]
    if not 1 <= num_pairs < num_samples:
        raise EvaluationError(
            f"multimodality over {num_pairs} pairs needs more samples of each prompt than pairs and 1 pair or more; "
            f"there are {num_samples}: generate more, or set num_pairs lower"
        )
    first, second = (rng.choice(num_samples, num_pairs, replace=False) for _ in range(2))
    return float(np.linalg.norm(x[:, first] - x[:, second], axis=2).mean())


def ade(predicted: ArrayLike, target: ArrayLike) -> float:
    """Mean distance of joints (T, J, 3) in metres over the frames that were predicted; nothing is aligned.

    Give the true frames of one motion, without padding; average over motions. See `ade_published` for papers' numbers.
    """
    a, b = _joint_pair(predicted, target)
    return float(np.linalg.norm(a - b, axis=-1).mean())


def fde(predicted: ArrayLike, target: ArrayLike) -> float:
    """Mean distance of joints in metres in the last of the predicted frames (T, J, 3)."""
    a, b = _joint_pair(predicted, target)
    return float(np.linalg.norm(a[-1] - b[-1], axis=-1).mean())


def apd(candidates: Sequence[ArrayLike]) -> float:
    """Mean distance of joints in metres over all pairs of C continuations of one beginning, each (T, J, 3).

    Continuations may differ in length: a pair is compared over the frames that both have.
    """
    motions = _candidates(candidates)
    distances = []
    for a, b in combinations(motions, 2):
        both = min(len(a), len(b))
        distances.append(np.linalg.norm(a[:both] - b[:both], axis=-1).mean())
    return float(np.mean(distances))


def ade_published(predicted: ArrayLike, target: ArrayLike) -> float:
    """ADE as MotionGPT's tables have it: mean over frames of the length of all J joints' errors as one vector.

    About √J times `ade`. Its code (PredMetrics in mGPT/metrics/m2m.py) compares from frame int(0.2 · length) to the
    padded end of the batch (in-between: int(0.25 · length) to length - int(0.25 · length)); give those frames to repeat
    its numbers.
    """
    a, b = _joint_pair(predicted, target)
    return float(np.linalg.norm((a - b).reshape(len(a), -1), axis=-1).mean())


def fde_published(predicted: ArrayLike, target: ArrayLike) -> float:
    """FDE as MotionGPT's tables have it: `ade_published` of the last frame given, there the last of the padding."""
    a, b = _joint_pair(predicted, target)
    return float(np.linalg.norm(a[-1] - b[-1]))


def apd_published(candidates: Sequence[ArrayLike]) -> float:
    """APD as in DLow (Yuan & Kitani, ECCV 2020): mean distance of candidates as vectors of all T x J x 3 numbers.

    MotionGPT names this metric and never computes it. All candidates have one length.
    """
    motions = _candidates(candidates)
    lengths = sorted({len(motion) for motion in motions})
    if len(lengths) > 1:
        raise MotionError(f"candidates of {lengths[0]} to {lengths[-1]} frames make no vectors of one size; use apd")
    return float(np.mean([np.linalg.norm(a - b) for a, b in combinations(motions, 2)]))


def _covariance_root(x: Array) -> Array:
    """(R, D) with root.T @ root the covariance of x (N, D) and R its rank: eigenvectors times root eigenvalues."""
    centred = x - x.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / (len(x) - 1))
    # what is 0 but for rounding has a root of 1e-8, in as many directions as samples are missing
    real = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return np.asarray(np.sqrt(values[real])[:, None] * vectors[:, real].T)


def _pairs(text: ArrayLike, motion: ArrayLike) -> tuple[Array, Array]:
    a, b = _embeddings(text, "text embeddings"), _embeddings(motion, "motion embeddings")
    if a.shape != b.shape:
        raise EvaluationError(
            f"text embeddings {a.shape} and motion embeddings {b.shape} are no pairs; row i of both must be one pair"
        )
    return a, b


def _embeddings(value: ArrayLike, name: str, *, shape: str = "(N, D)") -> Array:
    x = np.asarray(value, dtype=np.float64)
    if x.ndim != shape.count(",") + 1 or x.size == 0:
        raise EvaluationError(f"{name} have shape {x.shape}; they must be {shape} and not empty")
    is_bad = ~np.isfinite(x.reshape(len(x), -1)).all(axis=1)
    if is_bad.any():
        raise EvaluationError(
            f"{is_bad.sum()} of {len(x)} {name} hold NaN or infinity, the first in row {is_bad.argmax()}; "
            "leave those motions out and count them as invalid"
        )
    return x


def _joint_pair(predicted: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    a, b = _joints(predicted, "the prediction"), _joints(target, "the target")
    if a.shape != b.shape:
        raise MotionError(f"motions of shapes {a.shape} and {b.shape} cannot be compared; cut both to the same frames")
    return a, b


def _candidates(candidates: Sequence[ArrayLike]) -> list[Array]:
    motions = [_joints(joints, f"candidate {index}") for index, joints in enumerate(candidates)]
    if len(motions) < 2:
        raise MotionError(f"APD needs 2 candidates or more of one beginning; there are {len(motions)}")
    if len({motion.shape[1] for motion in motions}) > 1:
        raise MotionError(f"candidates have {sorted({m.shape[1] for m in motions})} joints; use one skeleton")
    return motions


def _joints(value: ArrayLike, name: str) -> Array:
    joints = np.asarray(value, dtype=np.float64)
    if joints.ndim != 3 or joints.shape[2] != 3 or joints.size == 0:
        raise MotionError(f"{name} has shape {joints.shape}; joints are (T, J, 3) with 1 frame or more")
    if not np.isfinite(joints).all():
        raise MotionError(f"{name} holds NaN or infinity; leave the motion out and count it as invalid")
    return joints
