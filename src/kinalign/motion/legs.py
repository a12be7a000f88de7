"""Legs of a skeleton, and a leg bent so that its foot is where it should be: two-bone inverse kinematics.

Letters: T frames, J joints.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import MotionError
from kinalign.motion.rotations import quaternion_between, quaternion_rotate
from kinalign.motion.skeleton import Skeleton

Array = NDArray[np.floating]

SIDE_FRAMES = 8
STRAIGHT_M = 0.03


class Leg(NamedTuple):
    """Joint indices of a leg from the hip down; `foot` are all beyond the ankle, the toe last."""

    hip: int
    knee: int
    ankle: int
    foot: tuple[int, ...]

    @property
    def toe(self) -> int:
        return self.foot[-1]

    def length(self, joints: Array) -> Array:
        """(T,) metres of thigh and shin together."""
        knee = joints[:, self.knee]
        thigh, shin = knee - joints[:, self.hip], joints[:, self.ankle] - knee
        return np.asarray(np.linalg.norm(thigh, axis=-1) + np.linalg.norm(shin, axis=-1))

    def extent(self, joints: Array) -> Array:
        """(T,) metres from hip to ankle."""
        return np.asarray(np.linalg.norm(joints[:, self.ankle] - joints[:, self.hip], axis=-1))


def legs_of(skeleton: Skeleton) -> tuple[Leg, Leg]:
    """The left and the right leg; raises MotionError where no chain goes from a hip over knee and ankle to the toe."""
    right_hip, left_hip = skeleton.hips
    legs = []
    for hip, (_, toe) in ((left_hip, skeleton.left_foot), (right_hip, skeleton.right_foot)):
        chains = [chain[chain.index(hip) :] for chain in skeleton.chains if hip in chain and chain[-1] == toe]
        if not chains or len(chains[0]) < 4:
            raise MotionError(
                f"skeleton {skeleton.name!r} has no chain of hip, knee, ankle and toe from joint {hip} to {toe}; "
                "its feet cannot be placed"
            )
        _, knee, ankle, *foot = chains[0]
        legs.append(Leg(hip, knee, ankle, tuple(foot)))
    return legs[0], legs[1]


def place_leg(joints: Array, shape: Array, leg: Leg, ankle: Array, reach: Array) -> None:
    """Bend a leg of `joints` (T, J, 3) in place so that its ankle is at `ankle` (T, 3), as near as it reaches.

    `shape` (T, J, 3) is the leg as it was: bones keep its lengths, the knee its side, the foot its direction. `reach`
    (T,) is the longest way from hip to ankle.
    """
    hip, was = joints[:, leg.hip], shape[:, leg.knee] - shape[:, leg.hip]
    thigh, shin = (np.linalg.norm(bone, axis=-1, keepdims=True) for bone in (was, shape[:, leg.ankle] - shape[:, leg.knee]))
    before = shape[:, leg.ankle] - shape[:, leg.hip]
    way = ankle - hip
    length = np.linalg.norm(way, axis=-1, keepdims=True)
    straight = way / length
    length = np.clip(length, np.abs(thigh - shin) + 1e-6, np.minimum(reach[:, None], thigh + shin))
    along = (length**2 + thigh**2 - shin**2) / (2 * length)
    aside = quaternion_rotate(quaternion_between(before, straight), _knee_side(was, before))
    joints[:, leg.knee] = hip + along * straight + np.sqrt(np.maximum(thigh**2 - along**2, 0.0)) * aside
    joints[:, leg.ankle] = hip + length * straight
    for joint in leg.foot:
        joints[:, joint] = joints[:, leg.ankle] + shape[:, joint] - shape[:, leg.ankle]


def _knee_side(thigh: Array, way: Array) -> Array:
    """(T, 3) unit vectors across the way from hip to ankle to where the knee points, as around where it is straight."""
    way = way / np.linalg.norm(way, axis=-1, keepdims=True)
    aside = thigh - np.sum(thigh * way, axis=-1, keepdims=True) * way
    out = np.linalg.norm(aside, axis=-1, keepdims=True)
    kernel = np.hanning(2 * SIDE_FRAMES + 3)[1:-1]
    padded = np.pad(aside, ((SIDE_FRAMES, SIDE_FRAMES), (0, 0)), mode="edge")
    around = np.stack([np.convolve(row, kernel, mode="valid") for row in padded.T], axis=1)
    around -= np.sum(around * way, axis=-1, keepdims=True) * way
    around /= np.maximum(np.linalg.norm(around, axis=-1, keepdims=True), 1e-9)
    side = aside + STRAIGHT_M * np.exp(-((out / STRAIGHT_M) ** 2)) * around
    return np.asarray(side / np.maximum(np.linalg.norm(side, axis=-1, keepdims=True), 1e-9))
