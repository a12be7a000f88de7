"""A body that hovers is set on the floor; one that jumps still jumps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from kinalign.data.records import Clip
from kinalign.motion.grounding import grounded
from kinalign.motion.joining import uniform
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.physics import jitter
from kinalign.motion.synthetic import jumping, standing, walking


def lowest(motion: Motion) -> np.ndarray:
    return motion.joints[..., 1].min(axis=1)


def raised(motion: Motion, height_m: np.ndarray | float) -> Motion:
    return replace(motion, joints=motion.joints + np.reshape(height_m, (-1, 1, 1)) * np.array([0.0, 1.0, 0.0]))


def test_who_stands_above_the_floor_is_set_on_it() -> None:
    still = standing(60)
    assert grounded(raised(still, 0.19)).joints == pytest.approx(still.joints, abs=1e-5)


def test_slow_rising_and_sinking_is_taken_away() -> None:
    time = np.arange(120) / FPS
    drift = 0.05 + 0.04 * np.sin(2 * np.pi * 0.1 * time)
    assert np.abs(lowest(grounded(raised(walking(120), drift)))).max() < 0.02


def test_a_jump_is_as_high_as_before() -> None:
    motion = jumping(2, height_m=0.25)
    assert lowest(motion).max() > 0.2
    assert lowest(grounded(raised(motion, 0.1))) == pytest.approx(lowest(motion), abs=0.01)


def test_real_motions_hardly_change(openmocap: Callable[[str], list[Clip]]) -> None:
    clips = [uniform(clip.motion) for clip in openmocap("test")[::20] if len(clip.motion) > 20]
    moved = [np.abs(lowest(motion) - lowest(grounded(motion))) for motion in clips]
    assert np.median(np.concatenate(moved)) < 0.02
    assert np.mean([jitter(grounded(motion)) for motion in clips]) < 1.02 * np.mean([jitter(one) for one in clips])
