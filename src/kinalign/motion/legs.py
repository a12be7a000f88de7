"""Legs of a skeleton, and a leg bent so that its foot is where it should be: inverse kinematics of two bones.

Letters: T frames, J joints; metres.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinalign.errors import MotionError
from kinalign.motion.rotations import quaternion_between, quaternion_rotate
from kinalign.motion.skeleton import Skeleton

Array = NDArray[np.floating]

STRAIGHT_M = 0.03
"""A leg whose knee is nearer to the line from hip to ankle is straight, and says little of where the knee points."""
AROUND = 8
"""Frames before and after in which it is looked up then."""
TOES_SHARE = 1e-3
"""Where all of them are straight, a knee points where the toes do: so much counts the way to them."""


class Leg(NamedTuple):
    """Joint indices of a leg; `foot` are all beyond the ankle, the toe last."""

    hip: int
    knee: int
    ankle: int
    foot: tuple[int, ...]

    @property
    def toe(self) -> int:
        return self.foot[-1]

    def length(self, joints: Array) -> Array:
        """(T,) metres of thigh and shin of joints (T, J, 3)."""
        thigh = joints[:, self.knee] - joints[:, self.hip]
        shin = joints[:, self.ankle] - joints[:, self.knee]
        return np.asarray(np.linalg.norm(thigh, axis=-1) + np.linalg.norm(shin, axis=-1))

    def extent(self, joints: Array) -> Array:
        """(T,) metres from hip to ankle."""
        return np.asarray(np.linalg.norm(joints[:, self.ankle] - joints[:, self.hip], axis=-1))


def legs_of(skeleton: Skeleton) -> tuple[Leg, Leg]:
    """The left and the right leg; raises MotionError where no chain goes from hip over knee and ankle to a toe."""
    right_hip, left_hip = skeleton.hips
    legs = []
    for side, hip, (_, toe) in (("left", left_hip, skeleton.left_foot), ("right", right_hip, skeleton.right_foot)):
        chains = [chain[chain.index(hip) :] for chain in skeleton.chains if hip in chain and chain[-1] == toe]
        if not chains or len(chains[0]) < 4:
            raise MotionError(
                f"skeleton {skeleton.name!r} has no chain from its {side} hip (joint {hip}) over knee and ankle to "
                f"its toe (joint {toe}); give it chains and feet as HumanML3D's 22 joints or KIT's 21 have them"
            )
        _, knee, ankle, *foot = chains[0]
        legs.append(Leg(hip, knee, ankle, tuple(foot)))
    return legs[0], legs[1]


def place_leg(joints: Array, shape: Array, leg: Leg, ankle: Array, reach: Array) -> None:
    """Bend a leg of `joints` (T, J, 3) in place so that its ankle is at `ankle` (T, 3), or as near as it reaches.

    `shape` (T, J, 3) is the leg as it was: bones keep its lengths, the knee its side, the foot its direction. `reach`
    (T,) is the longest way from hip to ankle.
    """
    hip, before = joints[:, leg.hip], shape[:, leg.ankle] - shape[:, leg.hip]
    thigh = np.linalg.norm(shape[:, leg.knee] - shape[:, leg.hip], axis=-1, keepdims=True)
    shin = np.linalg.norm(shape[:, leg.ankle] - shape[:, leg.knee], axis=-1, keepdims=True)
    aside = quaternion_rotate(quaternion_between(before, ankle - hip), _knee_side(shape, leg))
    joints[:, leg.knee], joints[:, leg.ankle] = bent(hip, ankle, aside, thigh, shin, reach)
    for joint in leg.foot:
        joints[:, joint] = joints[:, leg.ankle] + shape[:, joint] - shape[:, leg.ankle]


def bent(
    hip: Array, ankle: Array, aside: Array, thigh: ArrayLike, shin: ArrayLike, reach: Array
) -> tuple[Array, Array]:
    """Knee and ankle (T, 3) of a leg from `hip` to `ankle`, as near as it reaches, with bones of lengths (T, 1) or one.

    The knee is to that side of the way from hip to ankle where `aside` (T, 3) points.
    """
    way = ankle - hip
    length = np.linalg.norm(way, axis=-1, keepdims=True)
    straight = way / length
    length = np.minimum(length, reach[:, None])
    along = (length**2 + np.square(thigh) - np.square(shin)) / (2 * length)
    aside = _unit(aside - np.sum(aside * straight, axis=-1, keepdims=True) * straight)
    knee = hip + along * straight + np.sqrt(np.maximum(np.square(thigh) - along**2, 0.0)) * aside
    return knee, hip + length * straight


def _knee_side(joints: Array, leg: Leg) -> Array:
    """(T, 3) unit vectors across the way from hip to ankle to where the knee points."""
    way = _unit(joints[:, leg.ankle] - joints[:, leg.hip])

    def across(vectors: Array) -> Array:
        return np.asarray(vectors - np.sum(vectors * way, axis=-1, keepdims=True) * way)

    aside = across(joints[:, leg.knee] - joints[:, leg.hip])
    kernel = np.hanning(2 * AROUND + 3)[1:-1]
    padded = np.pad(aside, ((AROUND, AROUND), (0, 0)), mode="edge")
    around = np.stack([np.convolve(column, kernel, mode="valid") for column in padded.T], axis=1)
    around = _unit(across(around + TOES_SHARE * (joints[:, leg.toe] - joints[:, leg.ankle])))
    out = np.linalg.norm(aside, axis=-1, keepdims=True)
    return _unit(aside + STRAIGHT_M * np.exp(-np.square(out / STRAIGHT_M)) * around)


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))
