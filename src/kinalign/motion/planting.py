"""Feet that stand do not slide: each stance of a foot gets one place, and the leg and a little of the body follow.

Generated feet creep while they stand, by centimetres a second and sometimes decimetres. A foot stands where it is low,
under a shin that is upright, and slow, for a while. What is added to the places of both feet and of the body over the
ground is one smooth answer of least squares: feet that stand keep still, feet come back to where the body has them,
and the body to its path. Two-bone inverse kinematics then puts the ankles there (legs.py).

Letters: T frames, J joints; distances in metres, times in seconds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kinalign.motion.legs import Leg, legs_of, place_leg
from kinalign.motion.motion import Motion

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SLOW_M_S, STILL_SLOW_M_S = 0.35, 0.7
"""A foot begins to stand below the first speed and stands until it is above the second."""
LOW_M = 0.06
"""How far over its lowest place around a joint of a foot may be and still carry."""
LOWEST_WITHIN_S = 1.0
"""Its lowest place around is looked for in so much time before and after."""
UPRIGHT_SHIN = 0.5
"""A foot carries under a shin that rises by this share of its length at least: not of who lies, kneels or crawls."""
SHORTEST_S = 0.15
"""Nothing stands for less."""
SPEED_WINDOW_S = 0.15
"""Speeds are means over this, so that trembling is none."""
EDGE = (1e-3, 3e-2)
"""How little the first and last frames of a stance hold a foot, so that it comes to rest and leaves smoothly."""

ROUNDS = 4
MISSED=0
HOLD = 1e3
"""What a foot that stands must not do costs so much, held against being where the body has it: 1."""
FOOT_S, BODY_S = 0.12, 0.4
"""How fast what is added to a foot and to the body may change."""
BODY_STAYS = 0.3
"""What it costs to move the body off its path, held against moving a foot off the body."""
STRETCHED = 0.998
DEEPEST_M = 0.08
"""How far the hips sink at most so that legs reach."""
SINK_S = 0.15


class Stances(NamedTuple):
    """(T, 2) for the left and the right foot: whether its toe stands, and whether its ankle."""

    toe: Mask
    ankle: Mask


def planted(motion: Motion) -> Motion:
    """The motion with feet that keep still while they stand; bones keep their lengths, what does not stand is as it was.

    It is best on the floor already (grounding.py). Raises MotionError for a skeleton without legs of a hip, a knee, an
    ankle and a toe in a chain.
    """
    legs = legs_of(motion.skeleton)
    joints = motion.joints.astype(np.float64)
    shins = np.stack([_carries(joints, leg) for leg in legs], axis=1)
    toes, ankles = (np.stack([joints[:, getattr(leg, name)] for leg in legs], axis=1) for name in ("toe", "ankle"))
    feet, body = np.zeros(toes.shape), np.zeros((len(joints), 3))
    stances = Stances(np.zeros(shins.shape, dtype=bool), np.zeros(shins.shape, dtype=bool))
    for _ in range(ROUNDS):
        found = Stances(*(stands | _stands(places + feet, shins, motion.fps) for stands, places in zip(stances, (toes, ankles))))
        if all(np.array_equal(*pair) for pair in zip(found, stances)):
            break
        stances = found
        feet, body = _added(joints, legs, stances, motion.fps)
    else:
        global MISSED
        MISSED += 1
    if not (stances.toe.any() or stances.ankle.any()):
        return motion
    moved = joints + body[:, None]
    reaches = [np.maximum(STRETCHED * leg.length(joints), leg.extent(joints)) for leg in legs]
    ankles = [joints[:, leg.ankle] + feet[:, side] for side, leg in enumerate(legs)]
    moved[..., 1] -= _sunk(moved, legs, ankles, reaches, motion.fps)[:, None]
    for leg, ankle, reach in zip(legs, ankles, reaches):
        place_leg(moved, joints, leg, ankle, reach)
    return replace(motion, joints=moved)


def _carries(joints: Array, leg: Leg) -> Mask:
    shin = joints[:, leg.knee] - joints[:, leg.ankle]
    return shin[:, 1] > UPRIGHT_SHIN * np.linalg.norm(shin, axis=-1)


def _stands(places: Array, carries: Mask, fps: float) -> Mask:
    """(T, 2) where joints (T, 2, 3) are low and slow for long enough."""
    if len(places) < 2:
        return np.zeros(carries.shape, dtype=bool)
    reach = round(LOWEST_WITHIN_S * fps)
    heights = places[..., 1]
    lowest = np.minimum(_filtered(heights, reach, np.min), heights.min(axis=1, keepdims=True) + 1.0)
    is_low = carries & (heights < lowest + LOW_M)
    steps = np.diff(places, axis=0) * fps
    half = max(round(SPEED_WINDOW_S * fps / 2), 1)
    padded = np.concatenate((np.repeat(steps[:1], half, axis=0), steps, np.repeat(steps[-1:], half - 1 + 0, axis=0)))
    padded = np.concatenate((padded, np.repeat(steps[-1:], 1, axis=0)))
    speed = np.linalg.norm(sliding_window_view(padded, 2 * half, axis=0).mean(axis=-1), axis=-1)[: len(places)]
    may = is_low & (speed < STILL_SLOW_M_S)
    surely = is_low & (speed < SLOW_M_S)
    shortest = max(round(SHORTEST_S * fps), 2)
    result = np.zeros(may.shape, dtype=bool)
    for side in (0, 1):
        edges = np.flatnonzero(np.diff(np.concatenate(([False], may[:, side], [False])).astype(int)))
        for start, end in edges.reshape(-1, 2):
            if end - start >= shortest and surely[start:end, side].any():
                result[start:end, side] = True
    return result


def _filtered(values: Array, reach: int, choose) -> Array:
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    return np.asarray(choose(sliding_window_view(padded, 2 * reach + 1, axis=0), axis=-1))


def _holds(stands: Mask) -> Array:
    """(T - 1, 2) how strongly a foot is held from one frame to the next."""
    pairs = (stands[1:] & stands[:-1]).astype(float)
    held = pairs.copy()
    for depth, share in enumerate(EDGE, start=1):
        before = np.concatenate((np.ones((depth, 2)), pairs[:-depth])) if depth < len(pairs) else np.ones_like(pairs)
        after = np.concatenate((pairs[depth:], np.ones((depth, 2)))) if depth < len(pairs) else np.ones_like(pairs)
        near = (before == 0) | (after == 0)
        held = np.where((pairs > 0) & near, np.minimum(held, share), held)
    return held


def _added(joints: Array, legs: tuple[Leg, Leg], stances: Stances, fps: float) -> tuple[Array, Array]:
    """What is added over the ground: to the feet (T, 2, 3) and to the body (T, 3)."""
    num_frames = len(joints)
    on_toe, on_ankle = _holds(stances.toe), _holds(stances.ankle)
    on_ankle = np.where(on_toe > 0, 0.0, on_ankle)
    toes, ankles = (np.stack([joints[:, getattr(leg, name)] for leg in legs], axis=1) for name in ("toe", "ankle"))
    ground = [0, 2]
    bands = np.zeros((4, num_frames, 3))  # of the symmetric matrix: frame to frame + k, for each of foot, foot, body
    right = np.zeros((num_frames, 3, 2))
    for held, places in ((on_toe, toes), (on_ankle, ankles)):
        weight = HOLD * held
        bands[0, :-1, :2] += weight
        bands[0, 1:, :2] += weight
        bands[1, :-1, :2] -= weight
        pull = weight[..., None] * np.diff(places[..., ground], axis=0)
        right[:-1, :2] += pull
        right[1:, :2] -= pull
    smooth = np.array([(FOOT_S * fps) ** 6] * 2 + [BODY_STAYS * (BODY_S * fps) ** 6])
    if num_frames > 3:
        third = np.array([-1.0, 3.0, -3.0, 1.0])
        for a in range(4):
            for b in range(a, 4):
                bands[b - a, a : num_frames - 3 + a] += third[a] * third[b] * smooth
    bands[0] += np.array([1.0, 1.0, 2.0 + BODY_STAYS])
    added = np.zeros((num_frames, 3, 3))
    added[..., ground] = _solved(bands, -1.0, right)
    return added[:, :2], added[:, 2]


BLOCK = 8


def _solved(bands: Array, coupling: float, right: Array) -> Array:
    """Block tridiagonal elimination."""
    num_frames, size = len(right), BLOCK * 3
    num_blocks = -(-num_frames // BLOCK)
    total = num_blocks * BLOCK
    full = np.zeros((4, total, 3))
    full[:, :num_frames] = bands
    full[0, num_frames:] = 3.0
    rhs = np.zeros((total, 3, right.shape[-1]))
    rhs[:num_frames] = right
    frames, variables = np.arange(BLOCK), np.arange(3)
    diagonal = np.zeros((num_blocks, BLOCK, 3, BLOCK, 3))
    above = np.zeros((num_blocks, BLOCK, 3, BLOCK, 3))
    per = full.reshape(4, num_blocks, BLOCK, 3)
    for offset in range(4):
        for frame in frames:
            other = frame + offset
            target = diagonal if other < BLOCK else above
            target[:, frame, variables, other % BLOCK, variables] = per[offset, :, frame]
            if offset and other < BLOCK:
                diagonal[:, other, variables, frame, variables] = per[offset, :, frame]
    for frame in frames:
        for foot in (0, 1):
            diagonal[:, frame, foot, frame, 2] = diagonal[:, frame, 2, frame, foot] = coupling
    diagonal, above = diagonal.reshape(num_blocks, size, size), above.reshape(num_blocks, size, size)
    rhs = rhs.reshape(num_blocks, size, -1)
    carried = np.empty((num_blocks, size, size + rhs.shape[-1]))
    for block in range(num_blocks):
        matrix, known = diagonal[block], rhs[block]
        if block:
            lower = above[block - 1].T
            matrix = matrix - lower @ carried[block - 1, :, :size]
            known = known - lower @ carried[block - 1, :, size:]
        carried[block] = np.linalg.solve(matrix, np.concatenate((above[block], known), axis=1))
    result = np.empty_like(rhs)
    for block in reversed(range(num_blocks)):
        result[block] = carried[block, :, size:]
        if block < num_blocks - 1:
            result[block] -= carried[block, :, :size] @ result[block + 1]
    return result.reshape(total, 3, -1)[:num_frames]


def _sunk(joints: Array, legs: tuple[Leg, Leg], ankles: list[Array], reaches: list[Array], fps: float) -> Array:
    """(T,) how far the body sinks so that the legs reach."""
    short = np.zeros(len(joints))
    for leg, ankle, reach in zip(legs, ankles, reaches):
        way = ankle - joints[:, leg.hip]
        height = np.sqrt(np.maximum(reach**2 - np.square(way[:, [0, 2]]).sum(axis=-1), 0.0))
        short = np.maximum(short, -way[:, 1] - height)
    if not short.any():
        return short
    radius = round(SINK_S * fps)
    widest = _filtered(np.minimum(short, DEEPEST_M)[:, None], radius, np.max)[:, 0]
    kernel = np.hanning(2 * radius + 3)[1:-1]
    return np.convolve(np.pad(widest, radius, mode="edge"), kernel / kernel.sum(), mode="valid")
