"""Clips of single events joined into one longer motion whose events and their intervals are known by construction.

Between two clips stand a few made-up frames. They take the path of least jerk from the last frames of one clip to the
first frames of the next (Flash and Hogan 1985, in discrete time), bones keep their lengths, and the feet are planned: a
foot that stands stays where it is or takes one step, and the leg follows by two-bone inverse kinematics. Where a clip
is left and the next one entered is chosen among the frames that the events do not need.

Letters: T frames, J joints. Motions are at 20 fps on HumanML3D's bones, as `joining.uniform` makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import MotionError
from kinalign.events.program import Event, EventProgram
from kinalign.motion.features import with_bone_lengths
from kinalign.motion.legs import bent, legs_of
from kinalign.motion.motion import FPS, Motion, facing_directions
from kinalign.motion.rotations import quaternion_between, quaternion_rotate
from kinalign.motion.skeleton import HUMANML3D

Array = NDArray[np.floating]

SHORTEST = 8
"""Frames that a clip needs to be joined with others."""
STILL_JERK = 10.0
"""Jerk in m/s³ that any body has; what is made up can stand like a statue."""
IDLE_SHARE = 0.15
"""A body is idle while no joint is faster than this share of the clip's fast ones (90th percentile)."""
KEPT_IDLE = 5
"""Idle frames that may stay before and after an event: a quarter of a second."""
SPARE_M = 0.1
"""Frames at either end of a clip can be spared as long as no joint gets further than this in them."""
LENGTHS = (4, 5, 6, 8, 11, 14, 18, 22)
"""Numbers of frames that a transition is tried with."""
STANDING_M_S = 0.35
"""A toe that is slower than this stands, if it is low."""
LOW_M = 0.1
"""How far over its lowest place in the clip a toe may be and still stand."""
STEP_M = 0.04
"""A foot that has to get further than this steps; nearer, it creeps there unseen."""
HIGHEST_LIFT_M = 0.12
DEEPEST_M = 0.08
"""How far the hips sink at most so that both feet reach the floor."""
STRETCHED = 0.998
"""A leg is stretched to this share of the length of its bones at most, unless it is straighter before or after."""
SPEED_FRAMES = 3.0
"""Speeds count in the choice of a cut as much as the way that they go in so many frames."""
NOT_STANDING = 0.1
"""What a cut without a standing foot costs, in square metres of a joint's distance."""
TRIED, TRIED_AT_MOST = 3, 12
"""Cuts that a transition is made for, and where all of them jerk too much."""
MORE_THAN_REAL = 5.0
"""How much worse jerk is that is more than the clips' own."""
SKATING_HEIGHT_M = 0.05
"""A toe below this is on the floor (GMD; OmniControl), and slides if it moves."""
JERK_OF_A_FRAME = 10.0
"""A transition may be a frame longer for this much less jerk, in m/s³."""
JERK_OF_DETOUR, SHORT_DETOUR_M = 5000.0, 0.75
"""Swinging out costs so much a metre from here on: arms that come fast would else go round once more."""

_LEGS = legs_of(HUMANML3D)
_HIPS, _KNEES, _ANKLES = ([leg[bone] for leg in _LEGS] for bone in range(3))
_TOES = [leg.toe for leg in _LEGS]


@dataclass(frozen=True)
class Footwork:
    """How feet go from one clip to the next."""

    lift_share: float = 0.3
    """How high a stepping foot goes, as a share of its way."""
    lift_power: int = 3
    """The lower, the sooner a foot is high; 2 at least, for it leaves the floor slowly."""
    jerk_of_skating: float = 1000.0
    """A transition may jerk more by this many m/s³ where feet skate 1 m/s less."""


@dataclass(frozen=True)
class Part:
    """A clip of one event, `times` in a row.

    The count of the event is that of one clip: a clip of one squat three times is three squats. It is None where the
    clip has no count; then it cannot be had more than once. `spare` is how many frames at either end the event does
    not need, many of a walk; where it is None, only those near the first and the last pose are spared.
    """

    motion: Motion
    event: Event
    times: int = 1
    spare: int | None = None


class Interval(NamedTuple):
    """Frames [start, end)."""

    start: int
    end: int


@dataclass(frozen=True)
class Composed:
    """Joined clips: the motion, what happens in it, when each event happens, and the frames that are made up.

    `intervals` go with `program.events`; `repeats` holds the single repetitions of each.
    """

    motion: Motion
    program: EventProgram
    intervals: tuple[Interval, ...]
    repeats: tuple[tuple[Interval, ...], ...]
    transitions: tuple[Interval, ...]
    jerk: float
    """The greatest jerk at a join, over that of the two clips it joins; 0 where nothing is joined."""


def compose(parts: Sequence[Part]) -> Composed:
    """The parts one after the other, as one motion.

    Raises MotionError for no part, for less than one time, for several times of an event without a count, for another
    skeleton, frame rate or bones, and for a clip of fewer than 8 frames.
    """
    if not parts:
        raise MotionError("nothing to compose; give one part or more")
    clips = [clip for part in parts for clip in [_clip_of(part)] * max(part.times, 1)]
    first = clips[0]
    joints, at = first.joints[first.heads[0] :], -first.heads[0]  # `at`: where frame 0 of the last clip would be
    repeats, transitions, jerk = [], [], 0.0
    for before, after in pairwise(clips):
        made = join(joints, at, before, after)
        left, entered = at + made.tail + 1, at + made.tail + 1 + len(made.between)
        repeats.append(_within(before.core, at, left))
        transitions.append(Interval(left, entered))
        joints = np.concatenate((joints[:left], made.between, made.laid[made.head :]))
        at = entered - made.head
        jerk = max(jerk, made.jerk / max(before.peak_jerk, after.peak_jerk))
    joints = joints[: at + clips[-1].tails[-1] + 1]
    repeats.append(_within(clips[-1].core, at, len(joints)))
    entries = [0, *(transition.end for transition in transitions)]
    repeats = [Interval(max(own.start, entry), own.end) for own, entry in zip(repeats, entries)]

    steps, grouped = [], []
    for part in parts:
        grouped.append(tuple(repeats[: part.times]))
        repeats = repeats[part.times :]
        count = part.event.count
        steps.append((replace(part.event, count=count * part.times if isinstance(count, int) else count),))
    return Composed(
        Motion(joints.astype(np.float32), fps=FPS),
        EventProgram(tuple(steps)),
        tuple(Interval(own[0].start, own[-1].end) for own in grouped),
        tuple(grouped),
        tuple(transitions),
        jerk,
    )


def _within(core: Interval, at: int, end: int) -> Interval:
    return Interval(core.start + at, min(core.end + at, end))


@dataclass(frozen=True, eq=False)
class Clip:
    """A uniform clip with the frames at which it may be entered and those at which it may be left."""

    joints: Array
    stands: NDArray[np.bool_]
    """(T, 2): whether the left and the right foot stand."""
    core: Interval
    """What is left without idle frames."""
    heads: tuple[int, ...]
    """First frames that may be kept."""
    tails: tuple[int, ...]
    """Last frames that may be kept."""
    peak_jerk: float
    """Greatest jerk of a joint in m/s³."""

    @staticmethod
    def of(motion: Motion, *, spare: int | None = None) -> Clip:
        """The clip of a motion; `spare` frames at either end are not needed, None tells them by how still they are.

        Raises MotionError for another skeleton, frame rate or bones, and for fewer than 8 frames.
        """
        _require_joinable(motion)
        joints = motion.joints.astype(np.float64)
        core = _core(joints)
        latest, earliest = len(joints) // 2 - 3, len(joints) // 2 + 2  # so that frames are left to tell speeds from
        first = min(max(core.start - KEPT_IDLE, 0), latest)
        last = max(min(core.end - 1 + KEPT_IDLE, len(joints) - 1), earliest)
        moving = joints[core.start : core.end]
        at_start, at_end = (_spare(each) if spare is None else spare for each in (moving, moving[::-1]))
        heads = range(first, max(first, min(core.start + at_start, latest)) + 1)
        tails = range(min(last, max(core.end - 1 - at_end, earliest)), last + 1)
        return Clip(joints, _standing(joints), core, tuple(heads), tuple(tails), max(_peak_jerk(joints), STILL_JERK))


def _clip_of(part: Part) -> Clip:
    event = part.event
    if part.times < 1 or (part.times > 1 and not isinstance(event.count, int)):
        raise MotionError(
            f"{event.action} {part.times} times cannot be composed; give 1 or more, and 1 for an event without a count"
        )
    try:
        return Clip.of(part.motion, spare=part.spare)
    except MotionError as error:
        raise MotionError(f"{event.action}: {error}") from error


def _require_joinable(motion: Motion) -> None:
    if motion.skeleton.num_joints != HUMANML3D.num_joints or motion.fps != FPS:
        raise MotionError(
            f"clips are joined on the {HUMANML3D.num_joints} joints of {HUMANML3D.name!r} at {FPS:g} fps; this one has "
            f"{motion.skeleton.num_joints} at {motion.fps:g} fps"
        )
    if len(motion) < SHORTEST:
        raise MotionError(f"a clip of {len(motion)} frames is too short; joining needs {SHORTEST} or more")
    lengths = HUMANML3D.with_bone_lengths_of(motion.joints[0]).bone_lengths
    if np.abs(lengths - HUMANML3D.bone_lengths).max() > 1e-3:
        raise MotionError("a clip has other bones than HumanML3D's; make it uniform first")


def _peak_jerk(joints: Array) -> float:
    return float(np.linalg.norm(np.diff(joints, n=3, axis=0), axis=-1).max()) * FPS**3


def _core(joints: Array) -> Interval:
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(axis=1)
    moving = np.flatnonzero(speed > IDLE_SHARE * np.quantile(speed, 0.9))
    return Interval(int(moving[0]), int(moving[-1]) + 2) if len(moving) else Interval(0, len(joints))


def _spare(joints: Array) -> int:
    """How many frames can be left out before a joint gets far from where it is in the first."""
    is_far = np.linalg.norm(joints - joints[0], axis=-1).max(axis=1) > SPARE_M
    return int(np.argmax(is_far)) - 1 if is_far.any() else 0


def _standing(joints: Array) -> NDArray[np.bool_]:
    toes = joints[:, _TOES]
    speed = np.linalg.norm(np.gradient(toes, axis=0), axis=-1) * FPS
    return (speed < STANDING_M_S) & (toes[..., 1] < toes[..., 1].min(axis=0) + LOW_M)


# --- one join -----------------------------------------------------------------------------------------------------


class Join(NamedTuple):
    """How two clips are joined.

    The first is left after frame `tail`, the second entered at frame `head` of its joints as they are laid.
    """

    tail: int
    head: int
    between: Array
    laid: Array
    jerk: float


def join(joints: Array, at: int, before: Clip, after: Clip, footwork: Footwork = Footwork()) -> Join:
    """The join of least jerk and skating, of a few at which poses and speeds are alike and a foot stands.

    `joints` are those made so far, in which frame 0 of the clip `before` is at `at`. More joins are tried where all of
    the first few jerk more than the clips do.
    """
    best, least = None, np.inf
    real = max(before.peak_jerk, after.peak_jerk)
    for place, (tail, head, foot) in enumerate(_cuts(before, after)):
        if place >= TRIED and least < real:
            break
        laid = _laid(after.joints, head, foot, joints[at + tail])
        stands = np.stack((before.stands[tail], after.stands[head]))
        past, future = joints[at + tail - 4 : at + tail + 1], laid[head : head + 5]
        for number in LENGTHS:
            between = _between(past[-3:], future[:3], stands, number, footwork)
            around = np.concatenate((past, between, future))
            jerk = _peak_jerk(around)
            detour = _detour(around[len(past) - 1 : 1 - len(future)])
            cost = jerk + MORE_THAN_REAL * max(jerk - real, 0.0) + JERK_OF_A_FRAME * number
            cost += footwork.jerk_of_skating * _skating(around) + JERK_OF_DETOUR * max(detour - SHORT_DETOUR_M, 0.0)
            if cost < least:
                best, least = Join(tail, head, between, laid, jerk), cost
    assert best is not None
    return best


def _skating(joints: Array) -> float:
    """Mean speed in m/s of toes over the floor while they are low, over all frames."""
    toes = joints[:, _TOES]
    speed = np.linalg.norm(np.diff(toes[..., [0, 2]], axis=0), axis=-1) * FPS
    is_low = toes[..., 1] < SKATING_HEIGHT_M
    return float((speed * (is_low[1:] & is_low[:-1])).mean())


def _detour(joints: Array) -> float:
    """How much farther in metres a joint goes, seen from the hips, than from its first place straight to its last."""
    seen = joints - joints[:, :1]
    way = np.linalg.norm(np.diff(seen, axis=0), axis=-1).sum(axis=0)
    return float((way - np.linalg.norm(seen[-1] - seen[0], axis=-1)).max())


def _cuts(before: Clip, after: Clip) -> list[tuple[int, int, int]]:
    """The best few ways to join: last frame of the first clip, first frame of the second, foot that both share."""
    ends, begins = np.array(before.tails), np.array(after.heads)
    costs = []
    for foot in (0, 1):
        ours = _seen_from_foot(before.joints, ends, foot)
        theirs = _seen_from_foot(after.joints, begins, foot)
        away = np.square(ours[:, None] - theirs).sum(axis=-1).mean(axis=-1)  # (tails, heads)
        stand = before.stands[ends, foot][:, None] & after.stands[begins, foot]
        costs.append(away + np.where(stand, 0.0, NOT_STANDING))
    order = np.argsort(np.stack(costs), axis=None, kind="stable")[:TRIED_AT_MOST]
    feet, last, first = np.unravel_index(order, (2, len(ends), len(begins)))
    return [(int(ends[a]), int(begins[b]), int(foot)) for foot, a, b in zip(feet, last, first)]


def _seen_from_foot(joints: Array, frames: NDArray[np.integer], foot: int) -> Array:
    """(F, 2 J, 3) places and, scaled, speeds of the joints, seen from a foot of a body that faces +z."""
    speeds = (joints[np.minimum(frames + 1, len(joints) - 1)] - joints[np.maximum(frames - 1, 0)]) / 2
    facing = facing_directions(joints[frames], HUMANML3D)
    turn = quaternion_between(facing, np.array([0.0, 0.0, 1.0]))[:, None]
    places = joints[frames] - _foot(joints[frames], foot)[:, None] * np.array([1.0, 0.0, 1.0])
    return np.concatenate((quaternion_rotate(turn, places), SPEED_FRAMES * quaternion_rotate(turn, speeds)), axis=1)


def _foot(joints: Array, foot: int) -> Array:
    return (joints[..., _ANKLES[foot], :] + joints[..., _TOES[foot], :]) / 2


def _laid(joints: Array, frame: int, foot: int, target: Array) -> Array:
    """The joints turned so that in `frame` the body faces as the target pose, and moved so that the foot is there."""
    ground = np.array([1.0, 0.0, 1.0])
    turn = quaternion_between(facing_directions(joints[frame], HUMANML3D), facing_directions(target, HUMANML3D))
    turned = quaternion_rotate(turn, joints)
    return turned + (_foot(target, foot) - _foot(turned[frame], foot)) * ground


# --- the frames between -------------------------------------------------------------------------------------------


def _between(past: Array, future: Array, stands: NDArray[np.bool_], number: int, footwork: Footwork) -> Array:
    """(number, J, 3) frames between the three past ones and the three future ones; `stands` is (2, 2): when, foot."""
    joints = with_bone_lengths(_smoothest(past, future, number), HUMANML3D)
    share = np.arange(1, number + 1) / (number + 1)
    feet = [_feet_path(past, future, number, foot, stands[:, foot], footwork) for foot in (0, 1)]
    reaches = [_reach(past[-1], future[0], share, foot) for foot in (0, 1)]
    joints[..., 1] -= (_shortfall(joints, feet, reaches) * _bump(share))[:, None]
    for foot, (path, reach) in enumerate(zip(feet, reaches)):
        place_leg(joints, foot, path, reach)
    return joints


def _smoothest(past: Array, future: Array, number: int) -> Array:
    """The frames between of least jerk, in the sum of squares; of any shape (3, ...)."""
    ends = np.concatenate((past, future))
    return np.tensordot(_smoothing(number), ends, axes=1)


@lru_cache(maxsize=64)
def _smoothing(number: int) -> Array:
    """(number, 6): the linear map from three frames before and three after to the frames of least jerk between."""
    third = np.diff(np.eye(number + 6), n=3, axis=0)
    known = np.r_[0:3, number + 3 : number + 6]
    between = np.arange(3, number + 3)
    return -np.linalg.lstsq(third[:, between], third[:, known], rcond=None)[0]


def _feet_path(
    past: Array, future: Array, number: int, foot: int, stands: NDArray[np.bool_], footwork: Footwork
) -> Array:
    """(number, 2, 3) where ankle and toe go: they stay, step, leave the floor or come to it."""
    pair = [_ANKLES[foot], _TOES[foot]]
    past, future = past[:, pair], future[:, pair]
    stays_before, stays_after = stands
    if stays_before:
        past = np.broadcast_to(past[-1], past.shape)
    if stays_after:
        future = np.broadcast_to(future[0], future.shape)
    way = float(np.linalg.norm((future[0] - past[-1]).mean(axis=0)[[0, 2]]))
    path = _smoothest(past, future, number)
    if way > STEP_M:
        share = np.arange(1, number + 1) / (number + 1)
        lift_m = min(footwork.lift_share * way, HIGHEST_LIFT_M)
        path[..., 1] += (lift_m * _bump(share, footwork.lift_power))[:, None]
    return path


def _bump(share: Array, power: int = 3) -> Array:
    """From 0 to 1 and back to 0, with as many derivatives of 0 at both ends as the power, less one."""
    return (4 * share * (1 - share)) ** power


def _reach(last: Array, first: Array, share: Array, foot: int) -> Array:
    """(number,) how far from hip to ankle a leg reaches: nearly its length, or as far as it does before and after."""
    before, after = (float(np.linalg.norm(pose[_ANKLES[foot]] - pose[_HIPS[foot]])) for pose in (last, first))
    length = HUMANML3D.bone_lengths[[_KNEES[foot], _ANKLES[foot]]].sum()
    return np.maximum(STRETCHED * length, before + (after - before) * share)


def _shortfall(joints: Array, feet: Sequence[Array], reaches: Sequence[Array]) -> float:
    """How far in metres the hips are too high at most for the legs to reach the feet."""
    most = 0.0
    for foot, (path, reach) in enumerate(zip(feet, reaches)):
        way = path[:, 0] - joints[:, _HIPS[foot]]
        height = np.sqrt(np.maximum(reach**2 - np.square(way[:, [0, 2]]).sum(axis=-1), 0.0))
        most = max(most, float((-way[:, 1] - height).max()))
    return min(most, DEEPEST_M)


def place_leg(joints: Array, foot: int, path: Array, reach: Array) -> None:
    """Bends a leg, 0 left or 1 right, in place so that its ankle is where the path says, as near as it reaches.

    `path` is (T, 2, 3), ankle and toe, `reach` (T,) the longest way from hip to ankle. The knee points as it did.
    """
    hip, knee = joints[:, _HIPS[foot]], joints[:, _KNEES[foot]]
    thigh, shin = HUMANML3D.bone_lengths[[_KNEES[foot], _ANKLES[foot]]]
    joints[:, _KNEES[foot]], joints[:, _ANKLES[foot]] = bent(hip, path[:, 0], knee - hip, thigh, shin, reach)
    toes = path[:, 1] - path[:, 0]
    toes *= HUMANML3D.bone_lengths[_TOES[foot]] / np.linalg.norm(toes, axis=-1, keepdims=True)
    joints[:, _TOES[foot]] = joints[:, _ANKLES[foot]] + toes
