"""Motions joined without a jump: made uniform, laid onto each other, faded, and bent to end where they should.

Letters: T frames, J joints. Everything turns about the vertical only: up stays up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

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


def through(motion: Motion, keys: Sequence[slice], target: Motion, *, reach: int) -> Motion:
    """The motion led through the target's frames at `keys`, slices in their order that are equal there afterwards.

    Each key is laid onto the target as by `lay_onto`; between two keys the turn about the pelvis and its way go over
    smoothly from one to the other, and so does what the poses still lack. How that changed in a key goes on for at most
    `reach` frames before and after it, so that nothing jerks there. Raises MotionError for no key.
    """
    if not keys:
        raise MotionError("a motion is led through one key or more; there is none")
    laid: Array = _laid_between(motion, keys, target)
    led: Array = laid + _lacking(laid, keys, [target.joints[key] for key in keys], reach)
    led = with_bone_lengths(led, motion.skeleton.with_bone_lengths_of(motion.joints[0]))
    for key in keys:
        led[key] = target.joints[key]
    return replace(motion, joints=led)


def _laid_between(motion: Motion, keys: Sequence[slice], target: Motion) -> Array:
    """Joints (T, J, 3) of the motion, turned and moved over the ground so that every key lies on the target's."""
    ground, pelvis = _on_ground(motion.joints), _on_ground(motion.joints[:, :1])
    angles, places = np.empty(len(keys)), np.empty((len(keys), len(motion), 1), dtype=complex)
    for number, key in enumerate(keys):
        ours, theirs = ground[key], _on_ground(target.joints[key])
        angles[number] = np.angle(np.vdot(ours - ours.mean(), theirs - theirs.mean()))
        places[number] = theirs.mean() + (pelvis - ours.mean()) * np.exp(1j * angles[number])
    angles = np.unwrap(angles)
    angle, place = np.full((len(motion), 1), angles[0]), places[0].copy()
    for number, (key, after) in enumerate(pairwise(keys)):
        later = slice(key.stop, None)
        share = smooth_step(np.minimum(np.arange(1, len(motion) - key.stop + 1) / (after.start - key.stop + 1), 1))
        angle[later] = angles[number] + (angles[number + 1] - angles[number]) * share[:, None]
        place[later] = places[number, later] + (places[number + 1] - places[number])[later] * share[:, None]
    return _from_ground(place + (ground - pelvis) * np.exp(1j * angle), motion.joints[..., 1].astype(float))


def _lacking(joints: Array, keys: Sequence[slice], wanted: Sequence[Array], reach: int) -> Array:
    """What joints (T, J, 3) lack to be as wanted at keys, and smoothly less or more between them."""
    off = [there - joints[key] for key, there in zip(keys, wanted)]
    lacking = np.empty(joints.shape)
    lacking[: keys[0].start], lacking[keys[-1].stop :] = off[0][0], off[-1][-1]
    for number, (key, after) in enumerate(pairwise(keys)):
        share = smooth_step(np.arange(1, after.start - key.stop + 1) / (after.start - key.stop + 1))[:, None, None]
        lacking[key.stop : after.start] = off[number][-1] * (1 - share) + off[number + 1][0] * share
    stops, starts = [0, *(key.stop for key in keys)], [*(key.start for key in keys), len(joints)]
    for number, key in enumerate(keys):
        lacking[key] = off[number]
        if len(off[number]) > 1:
            before = np.arange(1, min(reach, key.start - stops[number]) + 1)
            behind = np.arange(1, min(reach, starts[number + 1] - key.stop) + 1)
            lacking[key.start - before] -= _fading(before) * (off[number][1] - off[number][0])
            lacking[key.stop - 1 + behind] += _fading(behind) * (off[number][-1] - off[number][-2])
    return lacking


def _fading(frames: NDArray[np.integer]) -> Array:
    """A way of one a frame that comes to its end and goes back to 0 in the last of the frames 1 to N: (N, 1, 1)."""
    return (frames * (1 - smooth_step(frames / (len(frames) + 1))))[:, None, None]


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
