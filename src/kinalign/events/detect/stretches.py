"""Stretches of a signal that stay beyond a bound, their repetitions, and the turning points inside them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from kinalign.events.detect.signals import Array, BoolArray, Frames, IntArray
from kinalign.motion.motion import FPS

Side = Literal["", "left", "right", "both", "alternate"]
SIDES: tuple[Side, Side] = ("left", "right")

SERIES_S = 1.2
"""Repetitions that follow each other within this time are one event with a count."""


class Rule(NamedTuple):
    """Hysteresis: an event lasts while its signal is above `leave`, and counts if the signal gets above `enter`.

    `sure` is where confidence reaches 1. Breaks of at most `gap_s` are bridged; an event lasts `min_s` to `max_s`.
    """

    leave: float
    enter: float
    sure: float
    min_s: float = 0.0
    gap_s: float = 0.0
    max_s: float = float("inf")

    def confidence(self, peak: float) -> float:
        """0.5 for a signal that just gets above `enter`, 1 from `sure` on."""
        return round(0.5 + 0.5 * min(max((peak - self.enter) / (self.sure - self.enter), 0.0), 1.0), 2)


class Stretch(NamedTuple):
    """Frames [start, end) of the row of all frames, the signal's greatest value in them, and whose limb it is."""

    start: int
    end: int
    peak: float
    side: Side = ""

    @property
    def frames(self) -> slice:
        return slice(self.start, self.end)


class Series(NamedTuple):
    """Repetitions of one event: frames [start, end) of all, the greatest peak, the side, and each of them."""

    start: int
    end: int
    peak: float
    side: Side
    each: tuple[Stretch, ...]

    @property
    def frames(self) -> slice:
        return slice(self.start, self.end)

    @property
    def repeats(self) -> int:
        return len(self.each)


def stretches(frames: Frames, signal: Array, rule: Rule, side: Side = "") -> list[Stretch]:
    """Where a rule's signal (N,) says that something happens, in order; never across the end of a motion."""
    starts, ends = _bounds_of(frames, signal > rule.leave)
    if not len(starts):
        return []
    if rule.gap_s:
        near = starts[1:] - ends[:-1] <= rule.gap_s * FPS
        joined = near & (frames.motion[starts[1:]] == frames.motion[starts[:-1]])
        starts, ends = starts[np.append(True, ~joined)], ends[np.append(~joined, True)]
    peaks = np.maximum.reduceat(np.append(signal, -np.inf), np.stack((starts, ends), axis=1).ravel())[::2]
    seconds = (ends - starts) / FPS
    kept = (peaks > rule.enter) & (seconds >= rule.min_s) & (seconds <= rule.max_s)
    return [
        Stretch(start, end, peak, side)
        for start, end, peak in zip(starts[kept].tolist(), ends[kept].tolist(), peaks[kept].tolist())
    ]


def of_both_sides(frames: Frames, signal: Array, rule: Rule) -> list[Stretch]:
    """Stretches of the two columns of a signal (N, 2), the left and the right side's, in order of their starts."""
    left, right = (stretches(frames, signal[:, column], rule, side) for column, side in enumerate(SIDES))
    return sorted(left + right)


def together(found: Iterable[Stretch]) -> list[Stretch]:
    """Stretches of the left and of the right side that mostly overlap, as one of both sides."""
    merged: list[Stretch] = []
    for stretch in sorted(found):
        if merged and {merged[-1].side, stretch.side} == {"left", "right"}:
            last = merged[-1]
            overlap = min(last.end, stretch.end) - stretch.start
            if 2 * overlap >= min(last.end - last.start, stretch.end - stretch.start):
                end, peak = max(last.end, stretch.end), min(last.peak, stretch.peak)
                merged[-1] = Stretch(last.start, end, peak, "both")
                continue
        merged.append(stretch)
    return merged


def series(frames: Frames, found: Iterable[Stretch], gap_s: float = SERIES_S) -> list[Series]:
    """Stretches that follow each other within `gap_s`, as one event each: one side's, both sides', or in turn."""
    merged: list[Series] = []
    for stretch in sorted(found):
        start, end, peak, side = stretch
        last = merged[-1] if merged else None
        if last is not None and start - last.end <= gap_s * FPS and frames.motion[start] == frames.motion[last.start]:
            sides: Side = side if side == last.side else "both" if "both" in (side, last.side) else "alternate"
            merged[-1] = Series(last.start, max(end, last.end), max(peak, last.peak), sides, (*last.each, stretch))
        else:
            merged.append(Series(start, end, peak, side, (stretch,)))
    return merged


def turning_points(values: Array, amplitude: float) -> list[int]:
    """Indices of the alternating highs and lows of (T,) values that lie at least `amplitude` apart, ends included.

    >>> turning_points(np.array([0.0, 0.1, 1.0, 0.9, 1.0, 0.0, 2.0]), 0.5)
    [0, 2, 5, 6]
    """
    points: list[int] = []
    low = high = direction = 0  # low and high: since the last turning point
    numbers = values.tolist()
    for index, value in enumerate(numbers):
        if value > numbers[high]:
            high = index
        if value < numbers[low]:
            low = index
        if direction >= 0 and numbers[high] - value >= amplitude:
            points.append(high)
            direction, low = -1, index
        elif direction <= 0 and value - numbers[low] >= amplitude:
            points.append(low)
            direction, high = 1, index
    if direction:
        points.append(high if direction > 0 else low)
    return points


def _bounds_of(frames: Frames, holds: BoolArray) -> tuple[IntArray, IntArray]:
    before, after = np.zeros_like(holds), np.zeros_like(holds)
    before[1:], after[:-1] = holds[:-1], holds[1:]
    before[frames.bounds[:-1]] = False
    after[frames.bounds[1:] - 1] = False
    return np.flatnonzero(holds & ~before), np.flatnonzero(holds & ~after) + 1
