"""Pictures of a figure per second at 256 pixels on one core: ours, and a stick figure of matplotlib's 3-D axes."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is loaded

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from kinalign.motion.motion import Motion
from kinalign.motion.synthetic import walking
from kinalign.render.figure import render_frames

SIZE = 256
LIMIT_FPS = 60.0


def draw_ours(motion: Motion) -> int:
    return sum(1 for _ in render_frames(motion, size=SIZE))


def draw_with_matplotlib(motion: Motion, *, redraw: bool) -> int:
    """What a user would write. `redraw` clears the axes and plots ground, path and bones anew in every frame, as the
    scripts that come with published models do; else lines are made once and moved.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    figure = Figure(figsize=(SIZE / 100, SIZE / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection="3d")
    low, high = motion.joints.min(axis=(0, 1)), motion.joints.max(axis=(0, 1))
    corners = [(x, z, 0.0) for x, z in ((low[0], low[2]), (low[0], high[2]), (high[0], high[2]), (high[0], low[2]))]
    lines = [axes.plot([], [], [])[0] for _ in motion.skeleton.chains]
    for frame, pose in enumerate(motion.joints):
        if redraw:
            axes.clear()
            axes.add_collection3d(Poly3DCollection([corners], facecolor=(0.5, 0.5, 0.5, 0.5)))
            path = motion.joints[: frame + 1, 0]
            axes.plot(path[:, 0], path[:, 2], np.zeros(len(path)))
            lines = [axes.plot([], [], [], linewidth=3)[0] for _ in motion.skeleton.chains]
        axes.set(xlim=(low[0], high[0]), ylim=(low[2], high[2]), zlim=(low[1], high[1]))
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
    for redraw, how in ((True, "axes redrawn, as published scripts do"), (False, "lines moved")):
        draw = partial(draw_with_matplotlib, redraw=redraw)
        theirs = frames_per_second(draw, motion[:20], repeats=3)
        print(f"  matplotlib stick figure, {how}: {theirs:.0f} frames/s; ratio {ours / theirs:.1f}")
    return 0 if ours >= LIMIT_FPS else 1


if __name__ == "__main__":
    sys.exit(main())
