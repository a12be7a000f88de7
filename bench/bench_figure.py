"""Pictures of a figure per second at 256 pixels on one core: ours, and a stick figure of matplotlib's 3-D axes."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is loaded

import time
from collections.abc import Callable

import numpy as np

from kinalign.motion.motion import Motion
from kinalign.motion.synthetic import walking
from kinalign.render.figure import render_frames

SIZE = 256
LIMIT_FPS = 60.0


def draw_ours(motion: Motion) -> int:
    return sum(1 for _ in render_frames(motion, size=SIZE))


def draw_with_matplotlib(motion: Motion) -> int:
    """What a user would write: axes made once, lines moved in every frame, pixels read back."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE / 100, SIZE / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection="3d")
    low, high = motion.joints.min(axis=(0, 1)), motion.joints.max(axis=(0, 1))
    axes.set(xlim=(low[0], high[0]), ylim=(low[2], high[2]), zlim=(low[1], high[1]))
    lines = [axes.plot([], [], [])[0] for _ in motion.skeleton.chains]
    for pose in motion.joints:
        for line, chain in zip(lines, motion.skeleton.chains):
            x, y, z = pose[list(chain)].T
            line.set_data_3d(x, z, y)
        canvas.draw()
        np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return len(motion)


def frames_per_second(draw: Callable[[Motion], int], motion: Motion, *, repeats: int) -> float:
    """The best of some repeats: what else the machine does only ever slows a run down."""
    draw(motion[:2])
    best = 0.0
    for _ in range(repeats):
        started = time.perf_counter()
        best = max(best, draw(motion) / (time.perf_counter() - started))
    return best


def main() -> int:
    motion = walking(60)
    ours = frames_per_second(draw_ours, motion, repeats=5)
    print(f"  figure at {SIZE} px: {ours:.0f} frames/s (at least {LIMIT_FPS:.0f})")
    try:
        theirs = frames_per_second(draw_with_matplotlib, motion[:20], repeats=3)
    except ImportError:
        print("  matplotlib is not installed; nothing to compare with")
    else:
        print(f"  matplotlib stick figure: {theirs:.0f} frames/s; ratio {ours / theirs:.1f}")
    return 0 if ours >= LIMIT_FPS else 1


if __name__ == "__main__":
    sys.exit(main())
