"""Long motion: what joins are worth beside other ways to join, and what length costs in time and memory.

    python bench/bench_compose.py                    the table of joins, and a minute of motion against the clock
    python bench/bench_compose.py --minutes 10 --plot docs/long_motion.png

Time is processor time of one core, which other programs on the machine do not change.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import tyro

from kinalign.data.openmocap import load_openmocap
from kinalign.motion.grounding import grounded
from kinalign.motion.joining import lay_onto, uniform
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.physics import foot_skating, foot_skating_ratio, jitter, peak_jerk
from kinalign.pipeline import TextToMotion
from kinalign.planning.compose import stream
from kinalign.planning.joiner import Joiner
from kinalign.planning.timeline import Segment, timeline_of_texts
from kinalign.run import write_atomically
from kinalign.selection import best_of

TEXTS = [
    f"A person {does}."
    for does in (
        "walks forward",
        "waves with the right hand",
        "kicks with the left leg",
        "runs forward",
        "raises both hands",
        "walks backward",
        "squats",
        "jumps",
        "does jumping jacks",
        "turns left",
        "raises the left hand",
        "walks slowly",
        "marches",
        "turns right",
        "hops",
        "walks like an old person",
        "waves with both hands",
        "walks and turns right",
        "reaches up with the left hand",
        "puts something down with the left hand",
    )
]
"""What the shipped model does well, each of it upright from beginning to end."""
NUM_JOINS = 60
GAP_S = 1.0
AROUND = 5
"""Frames before and after what is made up that belong to a join: a quarter of a second."""
JERK_LIMIT, REAL_TIME_LIMIT = 1.5, 0.5


@dataclass(frozen=True)
class Bench:
    minutes: float = 1.0
    """Length of the motion that is made against the clock."""
    plot: Path | None = None
    """A PNG of time and memory against length."""
    joins: int = NUM_JOINS
    """0 leaves out the table of joins."""


class Window(NamedTuple):
    """A motion, and the frames [start, end) around one of its joins."""

    motion: Motion
    start: int
    end: int

    @property
    def cut(self) -> Motion:
        return self.motion[max(self.start, 0) : self.end]


def main(config: Bench) -> int:
    torch.set_num_threads(1)
    model = TextToMotion.from_pretrained()
    is_quick = print_speed(model, config)  # first, because real clips take memory
    is_smooth = not config.joins or print_joins(model, config.joins)
    return 0 if is_quick and is_smooth else 1


# --- joins ---------------------------------------------------------------------------------------------------------


def print_joins(model: TextToMotion, number: int) -> bool:
    order = np.random.default_rng(0).permutation(np.arange(number + 1) % len(TEXTS))
    texts = [TEXTS[index] for index in order]
    chosen = [best_of(model, text, 4, seed=place).best.motion for place, text in enumerate(texts)]
    motions = [grounded(uniform(motion)) for motion in chosen]
    pairs = list(pairwise(motions))
    ways: dict[str, Callable[[int, Motion, Motion], Window]] = {
        "plain concatenation": lambda _, first, second: concatenated(first, second),
        "codes concatenated, one decode": lambda _, first, second: decoded_at_once(model, first, second),
        "the model fills 1 s": lambda seed, first, second: filled(model, first, second, seed),
        "the model fills 1 s, joined by least jerk": lambda seed, a, b: filled_and_joined(model, a, b, seed),
        "least jerk, feet planned (ours)": lambda _, first, second: joined(first, second),
    }
    made = {name: [way(seed, *pair) for seed, pair in enumerate(pairs)] for name, way in ways.items()}
    ours = made["least jerk, feet planned (ours)"]
    lengths = [len(window.cut) for window in ours]
    real = [uniform(clip.motion) for clip in load_openmocap(split="test")]
    rows = {
        "real motion, as many frames anywhere": at_random(real, lengths, seed=1),
        "inside the segments": at_random(motions, lengths, seed=2),
        **{name: [window.cut for window in windows] for name, windows in made.items()},
    }
    measured = {name: measures(cuts) for name, cuts in rows.items()}
    base = next(iter(measured.values()))
    print(f"\n{number} joins of {len(TEXTS)} actions, windows of {np.mean(lengths) / FPS:.2f} s on average")
    print(f"{'':44}peak jerk  x real  highest  jitter  skating m/s  skating share")
    for name, (peak, highest, jerk, speed, share) in measured.items():
        print(f"{name:44}{peak:9.0f}{peak / base[0]:8.2f}{highest:9.0f}{jerk:8.1f}{speed:13.3f}{share:15.3f}")
    inside, mine = measured["inside the segments"], measured["least jerk, feet planned (ours)"]
    return bool(mine[0] <= JERK_LIMIT * base[0] and mine[3] <= inside[3])


def measures(cuts: Sequence[Motion]) -> tuple[float, ...]:
    """Means over joins of peak jerk, its highest, jitter (m/s³), speed of toes on the floor, share of skating steps."""
    peaks = [peak_jerk(cut) for cut in cuts]
    others = [np.mean([of(cut) for cut in cuts]) for of in (jitter, foot_skating, foot_skating_ratio)]
    return float(np.mean(peaks)), max(peaks), *map(float, others)


def at_random(motions: Sequence[Motion], lengths: Sequence[int], *, seed: int) -> list[Motion]:
    """Pieces of these lengths, each from anywhere in a motion that is long enough."""
    rng = np.random.default_rng(seed)
    cuts = []
    for length in lengths:
        long_enough = [motion for motion in motions if len(motion) >= length]
        motion = long_enough[rng.integers(len(long_enough))]
        start = int(rng.integers(len(motion) - length + 1))
        cuts.append(motion[start : start + length])
    return cuts


def concatenated(first: Motion, second: Motion) -> Window:
    """The second laid onto the last pose of the first, nothing between."""
    laid = lay_onto(second, slice(0, 1), first, slice(-1, None))
    whole = Motion.concatenate([first, laid])
    return Window(whole, len(first) - AROUND, len(first) + AROUND)


def decoded_at_once(model: TextToMotion, first: Motion, second: Motion) -> Window:
    """AvatarGPT's way without in-between: the codes of both in a row."""
    codes = [model.codes(motion) for motion in (first, second)]
    whole = uniform(model.tokenizer.decode(np.array(codes[0] + codes[1])))
    at = len(codes[0]) // model.tokenizer.codes_per_step * model.tokenizer.frames_per_step
    return Window(whole, at - AROUND, at + AROUND)


def filled(model: TextToMotion, first: Motion, second: Motion, seed: int) -> Window:
    (whole,) = model.inbetween(first, second, seconds=GAP_S, seed=seed)
    return Window(whole, len(first) - 1 - AROUND, len(first) - 1 + round(GAP_S * FPS) + AROUND)


def filled_and_joined(model: TextToMotion, first: Motion, second: Motion, seed: int) -> Window:
    window = filled(model, first, second, seed)
    between = uniform(window.motion[window.start + AROUND : window.end - AROUND])
    joiner = Joiner()
    parts = [joiner.append(motion) for motion in (first, between, second)]
    whole = Motion(np.concatenate([*(part.joints for part in parts), joiner.finish()]))
    return Window(whole, parts[1].transition.start - AROUND, parts[2].transition.end + AROUND)


def joined(first: Motion, second: Motion) -> Window:
    joiner = Joiner()
    parts = [joiner.append(first), joiner.append(second)]
    whole = Motion(np.concatenate([*(part.joints for part in parts), joiner.finish()]))
    return Window(whole, parts[1].transition.start - AROUND, parts[1].transition.end + AROUND)


# --- speed ---------------------------------------------------------------------------------------------------------


class Mark(NamedTuple):
    """How far it was: seconds of motion, processor seconds, megabytes that the process had at most."""

    motion_s: float
    processor_s: float
    memory_mb: float


def print_speed(model: TextToMotion, config: Bench) -> bool:
    marks = list(marks_of(model, config.minutes))
    print(f"{config.minutes:g} minutes, best of 4 each, given away as they are made")
    print(f"{'motion':>10}{'processor':>12}{'real-time factor':>18}{'peak memory':>14}")
    for share in (0.1, 0.25, 0.5, 0.75, 1.0):
        mark = next(mark for mark in marks if mark.motion_s >= share * marks[-1].motion_s)
        factor = mark.processor_s / mark.motion_s
        print(f"{mark.motion_s:8.0f} s{mark.processor_s:10.1f} s{factor:18.3f}{mark.memory_mb:11.0f} MB")
    if config.plot is not None:
        plot(marks, config.plot)
    return marks[-1].processor_s <= REAL_TIME_LIMIT * marks[-1].motion_s


def marks_of(model: TextToMotion, minutes: float) -> Iterator[Mark]:
    """Marks after each segment of a motion of so many minutes, of which no frame is kept."""
    num_frames = 0

    def segments() -> Iterator[Segment]:
        while num_frames < minutes * 60 * FPS:
            yield from timeline_of_texts(TEXTS)

    start = time.process_time()
    for part in stream(model, segments()):
        num_frames += len(part.joints)
        memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if num_frames:
            yield Mark(num_frames / FPS, time.process_time() - start, memory_mb)
        if num_frames >= minutes * 60 * FPS:
            return


def plot(marks: Sequence[Mark], path: Path) -> None:
    """Time and memory against length."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    minutes = [mark.motion_s / 60 for mark in marks]
    left.plot(minutes, [mark.processor_s / 60 for mark in marks], color="#c85014")
    left.plot(minutes, minutes, color="#c8c8c8")
    left.annotate("as long as the motion", (minutes[-1] / 2, minutes[-1] / 2), ha="right", color="#808080")
    left.set(xlabel="minutes of motion", ylabel="processor minutes", ylim=(0, None))
    right.plot(minutes, [mark.memory_mb for mark in marks], color="#c85014")
    right.set(xlabel="minutes of motion", ylabel="peak memory, MB", ylim=(0, None))
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=120))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Bench)))
