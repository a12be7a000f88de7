"""How a motion stands on the floor and how smoothly it runs: one number for one motion, in metres and seconds.

Joints stand for the body, so no number is 0 for real people: toes roll, pass close over the floor, and jump. Always
compare with the same number of real motions. The floor is y = 0 (`Motion.on_floor` where it is not).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kinalign.errors import MotionError
from kinalign.motion import compare
from kinalign.motion.motion import Motion

Array = NDArray[np.float64]

CONTACT_HEIGHT_M = 0.05
"""A toe below this in two frames running is on the floor (GMD; OmniControl)."""
SKATING_SPEED_M_S = 0.5
"""A toe on the floor that is faster skates: 2.5 cm a frame at 20 fps (GMD; OmniControl)."""
SKATING_WINDOW_S = 0.25
STILL_SPEED_M_S = 0.05
"""A toe on the floor that is slower stands still: 2.5 mm a frame at 20 fps."""
FLOOR_TOLERANCE_M = 0.005
"""Nearer to the floor than this counts as on it (PhysDiff)."""
JOIN_WINDOW_S = 0.25
"""How far from a join its jerk is looked for, on either side."""


def foot_skating(motion: Motion) -> float:
    """Mean horizontal speed in m/s of toes that are on the floor; 0 where none ever is.

    PhysDiff's Skate (Yuan et al., ICCV 2023), which quotes millimetres a frame, with toe joints for mesh vertices.
    Raises MotionError for fewer than 2 frames.
    """
    speeds, is_down = _toes(motion)
    return float(speeds[is_down].mean()) if is_down.any() else 0.0


def foot_skating_ratio(motion: Motion) -> float:
    """Share of the steps from frame to frame in which a toe on the floor moves faster than 0.5 m/s, also on average.

    The foot skating ratio of GMD (Karunratanakul et al., ICCV 2023) as OmniControl computes it: the speed and its mean
    over a quarter of a second around (5 steps at 20 fps; nothing moves beyond the ends) must both be too high.
    Raises MotionError for fewer than 2 frames.
    """
    speeds, is_down = _toes(motion)
    reach = int(SKATING_WINDOW_S / 2 * motion.fps)
    around = sliding_window_view(np.pad(speeds, ((reach, reach), (0, 0))), 2 * reach + 1, axis=0).mean(axis=-1)
    skates = is_down & (speeds > SKATING_SPEED_M_S) & (around > SKATING_SPEED_M_S)
    return float(skates.any(axis=1).mean())


def foot_stillness(motion: Motion) -> float:
    """Share of the steps from frame to frame of toes on the floor in which they stand still; 0 where none ever is.

    It tells feet that creep while they stand from feet that swing low over the floor, which the other two do not.
    Raises MotionError for fewer than 2 frames.
    """
    speeds, is_down = _toes(motion)
    return float((speeds[is_down] < STILL_SPEED_M_S).mean()) if is_down.any() else 0.0


def floating(motion: Motion) -> float:
    """Mean height in metres of the lowest joint over the floor, frames within 5 mm of it as 0. A jump floats as well.

    PhysDiff's Float (Yuan et al., ICCV 2023), with joints for mesh vertices.
    """
    lowest = motion.joints[..., 1].min(axis=1).astype(np.float64)
    return float(np.where(lowest > FLOOR_TOLERANCE_M, lowest, 0.0).mean())


def penetration(motion: Motion) -> float:
    """Mean depth in metres of the lowest joint under the floor, frames within 5 mm of it as 0.

    PhysDiff's Penetrate (Yuan et al., ICCV 2023), with joints for mesh vertices: soles sink before joints do.
    """
    lowest = motion.joints[..., 1].min(axis=1).astype(np.float64)
    return float(np.where(lowest < -FLOOR_TOLERANCE_M, -lowest, 0.0).mean())


def jitter(motion: Motion) -> float:
    """Mean jerk of joints in m/s³ (TransPose, Yi et al. 2021, quotes it in 100 m/s³); 4 frames at least."""
    return compare.jitter(motion.joints) * motion.fps**3


def peak_jerk(motion: Motion, *, joins: Sequence[int] | None = None) -> float:
    """Greatest jerk of any joint in m/s³: of the whole motion, or within a quarter of a second of its `joins`.

    A join is the index of the first frame of what was put behind. After FlowMDM's Peak Jerk (Barquero et al., CVPR
    2024), which adds up |x| + |y| + |z| in metres per frame cubed: the length is the same however the body is turned.
    Raises MotionError for fewer than 4 frames and for a join with no frame before it.
    """
    num_frames = len(motion)
    if num_frames < 4:
        raise MotionError(f"jerk needs at least 4 frames; this motion has {num_frames}")
    reach = max(round(JOIN_WINDOW_S * motion.fps), 3)  # 3: all the differences of four frames that span the join
    windows = [slice(None)]
    if joins is not None:
        wrong = [join for join in joins if not 1 <= join < num_frames]
        if wrong or not joins:
            raise MotionError(f"joins {wrong} join nothing; in {num_frames} frames give some of 1 to {num_frames - 1}")
        windows = [slice(max(join - reach, 0), join + reach - 3) for join in joins]
    jerk = np.linalg.norm(np.diff(motion.joints.astype(np.float64), n=3, axis=0), axis=-1)  # (T - 3, J)
    return float(max(jerk[window].max() for window in windows)) * motion.fps**3


def _toes(motion: Motion) -> tuple[Array, NDArray[np.bool_]]:
    """From frame to frame (T - 1, 2): horizontal speeds of both toes in m/s, and True where a toe is on the floor."""
    if len(motion) < 2:
        raise MotionError(f"skating needs at least 2 frames; this motion has {len(motion)}")
    toes = motion.joints[:, [motion.skeleton.left_foot[1], motion.skeleton.right_foot[1]]].astype(np.float64)
    speeds = np.linalg.norm(np.diff(toes[..., [0, 2]], axis=0), axis=-1) * motion.fps
    is_low = toes[..., 1] < CONTACT_HEIGHT_M
    return speeds, is_low[1:] & is_low[:-1]
