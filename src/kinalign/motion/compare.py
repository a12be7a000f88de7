"""How far one motion is from another: joint errors in metres, and how much a motion jitters. Pure functions.

Joints are (T, J, 3) in metres. The definitions are those of MotionGPT's tables (PoseUtils of the TM2T code family),
which quote millimetres.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinalign.errors import MotionError

Array = NDArray[np.floating]


def mpjpe(predicted: ArrayLike, target: ArrayLike, *, root: int = 0) -> float:
    """Mean distance of joints in metres after the root joints are laid on each other, frame by frame."""
    a, b = _pair(predicted, target)
    return float(np.linalg.norm((a - a[:, root, None]) - (b - b[:, root, None]), axis=-1).mean())


def pa_mpjpe(predicted: ArrayLike, target: ArrayLike) -> float:
    """Mean distance in metres after the best turn, scale and shift of each frame (Procrustes)."""
    a, b = _pair(predicted, target)
    a_mean, b_mean = a.mean(1, keepdims=True), b.mean(1, keepdims=True)
    a, b = a - a_mean, b - b_mean
    u, s, vt = np.linalg.svd(np.einsum("tji,tjk->tik", a, b))
    # a reflection is no turn: flip the weakest direction where the best map is one
    sign = np.sign(np.linalg.det(u @ vt))
    s[:, -1] *= sign
    vt[:, -1] *= sign[:, None]
    scale = s.sum(-1) / np.maximum((a**2).sum((1, 2)), 1e-12)
    return float(np.linalg.norm(scale[:, None, None] * (a @ (u @ vt)) - b, axis=-1).mean())


def accel(predicted: ArrayLike, target: ArrayLike) -> float:
    """Mean distance of accelerations (second differences) of joints in metres per frame squared; 3 frames at least."""
    a, b = _pair(predicted, target)
    if len(a) < 3:
        raise MotionError(f"accelerations need at least 3 frames; these motions have {len(a)}")
    return float(np.linalg.norm(np.diff(a, n=2, axis=0) - np.diff(b, n=2, axis=0), axis=-1).mean())


def jitter(joints: ArrayLike) -> float:
    """Mean length of third differences in metres per frame cubed, jerk as the eye sees it; 4 frames at least."""
    a = np.asarray(joints, dtype=float)
    if len(a) < 4:
        raise MotionError(f"jitter needs at least 4 frames; this motion has {len(a)}")
    return float(np.linalg.norm(np.diff(a, n=3, axis=0), axis=-1).mean())


def _pair(predicted: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    a, b = np.asarray(predicted, dtype=float), np.asarray(target, dtype=float)
    if a.shape != b.shape or a.ndim != 3:
        raise MotionError(f"motions of shapes {a.shape} and {b.shape} cannot be compared; both must be one (T, J, 3)")
    return a, b
