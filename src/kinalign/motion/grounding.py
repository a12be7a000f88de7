"""A body that hovers is set on the floor: generated motions rise and sink by centimetres, which people do not.

What is taken away is what changes slowly: the height of the lowest joint, without the flights above it. Jumps stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kinalign.motion.motion import Motion

Array = NDArray[np.floating]

FLIGHT_S = 1.0
"""What is above the floor for less than this flies; nobody jumps longer."""
SMOOTH_S = 0.2
"""Width of the Gaussian that the height is smoothed with, so that a correction is never abrupt."""


def grounded(motion: Motion) -> Motion:
    """The motion with its lowest joint at y = 0 throughout, but for flights: each frame is moved up or down."""
    return replace(motion, joints=motion.joints - floor_heights(motion)[:, None, None] * np.array([0.0, 1.0, 0.0]))


def floor_heights(motion: Motion) -> Array:
    """(T,) heights in metres of the floor under the body: of its lowest joint without flights, smoothly."""
    lowest = motion.joints[..., 1].min(axis=1).astype(np.float64)
    reach = round(FLIGHT_S / 2 * motion.fps)
    # an opening, in the words of morphology: peaks narrower than the window are cut off
    floor = filtered(filtered(lowest, reach, np.min), reach, np.max)
    radius = round(3 * SMOOTH_S * motion.fps)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / (SMOOTH_S * motion.fps)) ** 2)
    padded = np.pad(floor, radius, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def filtered(heights: Array, reach: int, choose: Callable[..., Array]) -> Array:
    """The least or the greatest (np.min, np.max) of heights (T,) within `reach` frames of each frame."""
    windows = sliding_window_view(np.pad(heights, reach, mode="edge"), 2 * reach + 1)
    return np.asarray(choose(windows, axis=-1))
