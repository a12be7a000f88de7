"""Keeping still as a living body does: it sways about its ankles and breathes, and its feet stay where they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kinalign.events.compose import SHORTEST, place_leg
from kinalign.motion.features import with_bone_lengths
from kinalign.motion.joining import smooth_step
from kinalign.motion.motion import FPS, Motion, facing_directions
from kinalign.motion.skeleton import HUMANML3D

Array = NDArray[np.floating]

SWAY_M = ((0.012, 0.13, 0.0), (0.005, 0.31, 1.1)), ((0.008, 0.19, 0.6), (0.004, 0.43, 2.3))
"""Of the hips to the side and to the front: amplitude in metres, frequency in Hz and phase of each wave. Standing
people sway about a centimetre below half a hertz (Winter 1995)."""
BREATH_M, BREATH_HZ = 0.004, 0.25
"""How far the chest rises."""
HIP_M = 0.9
"""Height at which a joint sways as far as it says above: one that is lower sways less, one on the floor not at all."""
STRAIGHT = 0.98
"""A leg that reaches this share of its length is straight."""
BEGIN_S = 0.8
"""Time in which the sway begins, and ends."""
_CHEST = [HUMANML3D.index(name) for name in ("spine3", "neck", "head")]
_CHEST += [HUMANML3D.index(f"{side}_{name}") for side in ("left", "right") for name in ("collar", "shoulder")]
_CHEST += [HUMANML3D.index(f"{side}_{name}") for side in ("left", "right") for name in ("elbow", "wrist")]


def keeping_still(pose: Array, seconds: float) -> Motion:
    """A pose (22, 3), standing, sitting or lying, kept for `seconds`, 0.4 or more; begins and ends there, at rest."""
    num_frames = max(round(seconds * FPS), SHORTEST)
    time = np.arange(num_frames) / FPS
    grown = smooth_step(np.clip(np.minimum(time, time[-1] - time) / min(BEGIN_S, time[-1] / 2), 0, 1))
    front = facing_directions(pose, HUMANML3D)
    side = np.cross([0.0, 1.0, 0.0], front)
    sway = sum(
        (grown * sum(metres * np.sin(2 * np.pi * hz * time + phase) for metres, hz, phase in waves))[:, None] * way
        for waves, way in zip(SWAY_M, (side, front))
    )
    share = np.clip(pose[:, 1] / HIP_M, 0, None)
    joints = pose + sway[:, None] * share[:, None]
    joints[:, _CHEST, 1] += (grown * BREATH_M * (1 - np.cos(2 * np.pi * BREATH_HZ * time)) / 2)[:, None]
    joints = with_bone_lengths(joints, HUMANML3D)
    for foot, (hip, ankle, toe) in enumerate(((1, *HUMANML3D.left_foot), (2, *HUMANML3D.right_foot))):
        length = HUMANML3D.bone_lengths[[ankle, HUMANML3D.parents[ankle]]].sum()
        # a straight leg leans as a whole; it would have to bend its knee far to give way a little
        if np.linalg.norm(pose[ankle] - pose[hip]) < STRAIGHT * length:
            path = np.broadcast_to(pose[[ankle, toe]], (num_frames, 2, 3))
            place_leg(joints, foot, path, np.full(num_frames, length))
    return Motion(joints, fps=FPS)
