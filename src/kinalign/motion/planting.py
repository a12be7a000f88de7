"""Feet that stand do not slide: a foot keeps its place while it stands, and the leg and a little of the body follow.

Generated feet creep while they stand, by decimetres a second. A foot stands where a joint of it is low and slow for a
while, under a shin that is upright: who lies, kneels or crawls stands on none. What is added to the feet and to the
body over the ground is the answer of one problem of least squares: what stands keeps still, feet are where the body
has them, the body keeps its path, and all of it changes smoothly. Then the legs are bent to it (legs.py).

Letters: T frames, J joints. Two joints or feet are always the left and the right one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinalign.motion.grounding import filtered, floor_heights, grounded
from kinalign.motion.legs import Leg, legs_of, place_leg
from kinalign.motion.motion import Motion

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

SLOW_M_S, FAST_M_S = 0.35, 0.7
"""A joint comes to stand below the first speed, and stands until it is faster than the second."""
SPEED_S = 0.2
"""Speeds are means over this, so that trembling is none."""
LOW_TOE_M, LOW_ANKLE_M = 0.06, 0.12
"""How far over the floor a toe or an ankle may be and stand."""
UPRIGHT_SHIN = 0.5
"""A shin is upright if it rises by this share of its length."""
SHORTEST_S = 0.15
"""Nothing stands for less."""
ROUNDS = 4
"""Feet that are slower by now may stand too: so often they are looked at, at most."""

HOLD = (1.0, 30.0, 1e6)
"""What it costs that a foot which stands moves, held against its being away from where the body has it: in the first
and the last step of a stance, in those next to them, and between, so that it comes to rest and leaves smoothly."""
BODY_STAYS = 0.3
"""What it costs that the body is away from its path, held against the same."""
FOOT_S, BODY_S = 0.12, 0.4
"""What is added to a foot and to the body changes in about this time."""
FIXED = 1e9
"""What it costs that a frame which is kept is changed."""
BLOCK = 8
"""Frames that are solved for at once; 3 at least, for each depends on three before it."""

STRETCHED = 0.998
"""A leg is stretched to this share of the length of its bones at most, unless it was straighter."""
DEEPEST_M = 0.08
"""How far the hips sink at most so that legs reach."""
SINK_S = 0.15
"""How long before and after."""


def settled(motion: Motion) -> Motion:
    """The motion on the floor (`grounded`), with feet that do not slide (`planted`): what people are given."""
    return planted(grounded(motion))


def planted(motion: Motion, *, keep: Sequence[slice] = ()) -> Motion:
    """The motion with feet that keep their places while they stand; bones keep their lengths. Frames `keep` stay.

    Nothing is moved up or down but hips, where a leg does not reach. Of one that never stands nothing changes. Raises
    MotionError for a skeleton without legs (`legs_of`).
    """
    legs = legs_of(motion.skeleton)
    joints = motion.joints.astype(np.float64)
    toes, ankles = (np.stack([joints[:, joint] for joint in pair], axis=1) for pair in zip(*map(_toe_and_ankle, legs)))
    is_kept = np.zeros(len(joints), dtype=bool)
    for frames in keep:
        is_kept[frames] = True
    floor = floor_heights(motion)
    carries = np.stack([_carries(joints, leg) for leg in legs], axis=1)
    low_toes = carries & (toes[..., 1] < floor[:, None] + LOW_TOE_M)
    low_ankles = carries & (ankles[..., 1] < floor[:, None] + LOW_ANKLE_M)
    stances = Stances(np.zeros_like(carries), np.zeros_like(carries))
    feet: Array = np.zeros(toes.shape)
    body: Array = np.zeros((len(joints), 3))
    for _ in range(ROUNDS):
        found = Stances(
            stances.toes | _stands(toes + feet, low_toes, motion.fps),
            stances.ankles | _stands(ankles + feet, low_ankles, motion.fps),
        )
        if all(map(np.array_equal, found, stances)):
            break
        stances = found
        feet, body = _added(toes, ankles, stances, is_kept, motion.fps)
    if not (stances.toes.any() or stances.ankles.any()):
        return motion
    moved = joints + body[:, None]
    reaches = [np.maximum(STRETCHED * leg.length(joints), leg.extent(joints)) for leg in legs]
    moved[..., 1] -= _sunk(moved, legs, ankles + feet, reaches, motion.fps)[:, None]
    for side, leg in enumerate(legs):
        place_leg(moved, joints, leg, ankles[:, side] + feet[:, side], reaches[side])
    moved[is_kept] = joints[is_kept]
    return replace(motion, joints=moved)


# --- what stands --------------------------------------------------------------------------------------------------


class Stances(NamedTuple):
    """(T, 2) each: where toes and where ankles stand."""

    toes: Mask
    ankles: Mask


def _toe_and_ankle(leg: Leg) -> tuple[int, int]:
    return leg.toe, leg.ankle


def _carries(joints: Array, leg: Leg) -> Mask:
    shin = joints[:, leg.knee] - joints[:, leg.ankle]
    return np.asarray(shin[:, 1] > UPRIGHT_SHIN * np.linalg.norm(shin, axis=-1))


def _stands(places: Array, is_low: Mask, fps: float) -> Mask:
    """(T, 2) where joints at places (T, 2, 3) stand: low and slow for long enough."""
    frames = np.arange(len(places))
    half = max(round(SPEED_S / 2 * fps), 1)
    before, after = np.maximum(frames - half, 0), np.minimum(frames + half, len(places) - 1)
    way = np.linalg.norm(places[after] - places[before], axis=-1)
    speed = way * fps / np.maximum(after - before, 1)[:, None]
    may_stand = is_low & (speed < FAST_M_S)
    is_slow = may_stand & (speed < SLOW_M_S)
    stands = np.zeros_like(is_low)
    for side in (0, 1):
        changes = np.flatnonzero(np.diff(may_stand[:, side], prepend=False, append=False))
        for start, end in changes.reshape(-1, 2):
            stands[start:end, side] = end - start >= SHORTEST_S * fps and is_slow[start:end, side].any()
    return stands


# --- where feet and body go ---------------------------------------------------------------------------------------


def _added(toes: Array, ankles: Array, stances: Stances, is_kept: Mask, fps: float) -> tuple[Array, Array]:
    """What is added over the ground to the feet (T, 2, 3) and to the body (T, 3).

    With f for a foot, b for the body and p for where a joint of the foot is, it is least in the sum over frames of
    hold (step of (p + f))^2 + (f - b)^2 + BODY_STAYS b^2 and of the squared third differences of f and b.
    """
    num_frames = len(toes)
    # bands[k] couples each frame with the k-th after it, for the left foot, the right one and the body
    bands, right = np.zeros((4, num_frames, 3)), np.zeros((num_frames, 3, 2))
    bands[0] = np.array([1.0, 1.0, 2.0 + BODY_STAYS]) + FIXED * is_kept[:, None]
    on_toes, on_ankles = _held(stances.toes), _held(stances.ankles)
    for held, places in ((on_toes, toes), (np.where(on_toes > 0, 0.0, on_ankles), ankles)):
        bands[0, :-1, :2] += held
        bands[0, 1:, :2] += held
        bands[1, :-1, :2] -= held
        pull = held[..., None] * np.diff(places[..., [0, 2]], axis=0)
        right[:-1, :2] += pull
        right[1:, :2] -= pull
    smoothness = np.array([FOOT_S, FOOT_S, BODY_S]) ** 6 * fps**6 * np.array([1.0, 1.0, BODY_STAYS])
    third = (-1.0, 3.0, -3.0, 1.0)
    for first in range(4):
        for second in range(first, 4):
            own = slice(first, max(num_frames - 3, 0) + first)
            bands[second - first, own] += third[first] * third[second] * smoothness
    added = np.zeros((num_frames, 3, 3))
    added[..., [0, 2]] = _solved(bands, right)
    return added[:, :2], added[:, 2]


def _held(stands: Mask) -> Array:
    """(T - 1, 2) how strongly a foot is held from one frame to the next, weakly where it comes and where it goes."""
    inner = stands[1:] & stands[:-1]
    held = np.zeros(inner.shape)
    for cost in HOLD:
        held[inner] = cost
        around = np.pad(inner, ((1, 1), (0, 0)), constant_values=True)
        inner = inner & around[:-2] & around[2:]
    return held


def _solved(bands: Array, right: Array) -> Array:
    """(T, 3, 2) the answer of the symmetric system of `bands` (4, T, 3), in which -1 couples each foot to the body.

    Blocks of frames are coupled to the next ones alone and eliminated one by one: time grows with T.
    """
    num_frames, num_blocks = len(right), -(-len(right) // BLOCK)
    more = num_blocks * BLOCK - num_frames
    bands = np.pad(bands, ((0, 0), (0, more), (0, 0)))
    bands[0, num_frames:] = FIXED
    knowns = np.pad(right, ((0, more), (0, 0), (0, 0))).reshape(num_blocks, BLOCK * 3, 2)
    bands = bands.reshape(4, num_blocks, BLOCK, 3)
    within, onwards = np.zeros((2, num_blocks, BLOCK, 3, BLOCK, 3))
    each = np.arange(3)
    for frame in range(BLOCK):
        within[:, frame, :2, frame, 2] = within[:, frame, 2, frame, :2] = -1.0
        for after in range(4):
            other = frame + after
            (within if other < BLOCK else onwards)[:, frame, each, other % BLOCK, each] = bands[after, :, frame]
            if other < BLOCK:
                within[:, other, each, frame, each] = bands[after, :, frame]
    within, onwards = (matrix.reshape(num_blocks, BLOCK * 3, BLOCK * 3) for matrix in (within, onwards))
    eliminated = np.empty((num_blocks, BLOCK * 3, BLOCK * 3 + 2))  # what a block is of the next one, and alone
    for block in range(num_blocks):
        matrix, known = within[block], knowns[block]
        if block:
            before = onwards[block - 1].T @ eliminated[block - 1]
            matrix, known = matrix - before[:, :-2], known - before[:, -2:]
        eliminated[block] = np.linalg.solve(matrix, np.concatenate((onwards[block], known), axis=1))
    answers = eliminated[..., -2:]
    for block in reversed(range(num_blocks - 1)):
        answers[block] -= eliminated[block, :, :-2] @ answers[block + 1]
    return np.asarray(answers.reshape(-1, 3, 2)[:num_frames])


def _sunk(joints: Array, legs: Sequence[Leg], ankles: Array, reaches: Sequence[Array], fps: float) -> Array:
    """(T,) metres that the body sinks, smoothly, so that legs reach ankles (T, 2, 3)."""
    short = np.zeros(len(joints))
    for side, leg in enumerate(legs):
        way = ankles[:, side] - joints[:, leg.hip]
        height = np.sqrt(np.maximum(reaches[side] ** 2 - np.square(way[:, [0, 2]]).sum(axis=-1), 0.0))
        short = np.maximum(short, -way[:, 1] - height)
    reach = round(SINK_S * fps)
    deep = filtered(np.minimum(short, DEEPEST_M), reach, np.max)
    kernel = np.hanning(2 * reach + 3)[1:-1]
    return np.convolve(np.pad(deep, reach, mode="edge"), kernel / kernel.sum(), mode="valid")
