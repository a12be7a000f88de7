"""Motions joined without a jump: made uniform, laid onto each other, faded, and bent to end where they should.

Letters: T frames, J joints. Everything turns about the vertical only: up stays up.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinalign.errors import MotionError
from kinalign.motion.features import canonical_joints, with_bone_lengths
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.skeleton import HUMANML3D

Array = NDArray[np.floating]
Frames = slice | NDArray[np.integer]

UPRIGHT_M = 0.75
"""A body with HumanML3D's bones stands while its pelvis is at least this high; standing still it is at 0.9 m or so."""


def uniform(motion: Motion) -> Motion:
    """The motion at 20 fps with HumanML3D's bones, on the floor and facing +z, so that any two can be joined.

    Raises MotionError for another skeleton than HumanML3D's.
    """
    if motion.skeleton.num_joints != HUMANML3D.num_joints:
        raise MotionError(
            f"motions are joined on the {HUMANML3D.num_joints} joints of {HUMANML3D.name!r}; this one has "
            f"{motion.skeleton.num_joints} ({motion.skeleton.name!r})"
        )
    motion = motion.resample(FPS)
    return Motion(canonical_joints(motion, target_skeleton=HUMANML3D), fps=FPS)


def is_upright(motion: Motion, frame: int) -> bool:
    """Whether a uniform motion stands in a frame, so that another one can begin or end there."""
    return bool(motion.joints[frame, 0, 1] >= UPRIGHT_M)


def lay_onto(motion: Motion, frames: Frames, target: Motion, target_frames: Frames) -> Motion:
    """The whole motion turned and moved so that its `frames` lie on the target's, nearest in least squares.

    Both are slices or rows of indices of equally many frames. It is moved over the ground only, never up or down.
    Source: Kovar, Gleicher and Pighin, Motion Graphs (2002), section 3.1, in the ground plane as complex numbers.
    """
    ours, theirs = motion.joints[frames], target.joints[target_frames]
    if ours.shape != theirs.shape or len(ours) == 0:
        raise MotionError(
            f"frames of shape {ours.shape} cannot be laid onto {theirs.shape}; choose slices of one length"
        )
    moving, fixed = _on_ground(ours), _on_ground(theirs)
    angle = float(np.angle(np.vdot(moving - moving.mean(), fixed - fixed.mean())))
    return _turned(motion, angle, pivot=moving.mean(), shift=fixed.mean() - moving.mean())


def fade(first: Motion, second: Motion, overlap: int) -> Motion:
    """`first`, then `second`, whose first `overlap` frames happen with the last ones of `first`: one becomes the other.

    The weight is a polynomial whose first and second derivatives vanish at both ends, so that a fade adds no jump of
    speed or acceleration. Bones keep the lengths of `first` throughout. Raises MotionError for an overlap that is
    longer than either, and for another skeleton or frame rate.
    """
    if not 1 <= overlap <= min(len(first), len(second)):
        raise MotionError(
            f"overlap={overlap} must be from 1 to the shorter motion's {min(len(first), len(second))} frames"
        )
    if (first.skeleton.name, first.fps) != (second.skeleton.name, second.fps):
        raise MotionError(
            f"cannot fade from {first.skeleton.name!r} at {first.fps} fps to {second.skeleton.name!r} at {second.fps}"
        )
    weight = smooth_step(np.arange(1, overlap + 1) / (overlap + 1))[:, None, None]
    both = first.joints[-overlap:] * (1 - weight) + second.joints[:overlap] * weight
    joints = np.concatenate((first.joints[:-overlap], both, second.joints[overlap:]))
    bones = first.skeleton.with_bone_lengths_of(first.joints[0])
    faded = joints[len(first) - overlap :]
    joints = np.concatenate((first.joints[:-overlap], with_bone_lengths(faded, bones)))
    return replace(first, joints=joints)


def bend(motion: Motion, frames: slice, target: Motion, target_frames: slice, *, over: slice) -> Motion:
    """The motion bent during the frames `over`, so that its later `frames` lie on the target's, as in `lay_onto`.

    Before `over` nothing moves, after it all does; in between, the turn and the way grow smoothly.
    """
    start, stop, _ = over.indices(len(motion))
    ours, theirs = _on_ground(motion.joints[frames]), _on_ground(target.joints[target_frames])
    if ours.shape != theirs.shape or ours.size == 0:
        raise MotionError(
            f"frames of shape {ours.shape} cannot be laid onto {theirs.shape}; choose slices of one length"
        )
    angle = float(np.angle(np.vdot(ours - ours.mean(), theirs - theirs.mean())))
    pivot = _on_ground(motion.joints[start : start + 1, :1]).mean()
    shift = theirs.mean() - (pivot + (ours.mean() - pivot) * np.exp(1j * angle))
    share = smooth_step(np.clip((np.arange(len(motion)) - start + 1) / (stop - start + 1), 0, 1))[:, None]
    bent = pivot + (_on_ground(motion.joints) - pivot) * np.exp(1j * angle * share) + shift * share
    return replace(motion, joints=_from_ground(bent, motion.joints[..., 1]))


def smooth_step(share: ArrayLike) -> Array:
    """From 0 to 1 with first and second derivatives of 0 at both: 6 s^5 - 15 s^4 + 10 s^3."""
    s = np.asarray(share, dtype=float)
    return s**3 * (s * (s * 6 - 15) + 10)


def _turned(motion: Motion, angle: float, *, pivot: complex, shift: complex) -> Motion:
    ground = pivot + (_on_ground(motion.joints) - pivot) * np.exp(1j * angle) + shift
    return replace(motion, joints=_from_ground(ground, motion.joints[..., 1]))


def _on_ground(joints: Array) -> NDArray[np.complexfloating]:
    """(T, J) z + i x: a turn about y by an angle is a product with exp(i angle)."""
    return joints[..., 2].astype(float) + 1j * joints[..., 0]


def _from_ground(ground: NDArray[np.complexfloating], height: Array) -> Array:
    return np.stack((ground.imag, height, ground.real), axis=-1)
