"""What a body does in each frame, as numbers that know neither its size nor its place nor its heading.

The frames of many motions stand in one row, so that each number is computed once for all of them. Lengths are in legs
(thigh + shin) or arms (upper arm + forearm), angles in degrees, times in seconds. Of two columns the first is the left
side and the second the right. Directions in a body's own axes are (forward, up, left) or (forward, up, out),
out being away from the other side. Letters: M motions, N frames of all of them, J joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import MotionError
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.skeleton import HUMANML3D

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

STRIDE_WINDOW_S = 0.3
"""Speeds of the whole body and of its heading are taken over this time to either side: the sway of steps cancels."""
MOVING = 0.25
"""Legs a second below which the way of the pelvis has no direction."""
UPRIGHT_DEG = 60.0
"""A trunk that leans farther than this has no heading that could turn."""

_JOINT = {name: index for index, name in enumerate(HUMANML3D.joint_names)}
_PELVIS, _NECK, _HEAD = _JOINT["pelvis"], _JOINT["neck"], _JOINT["head"]


def _pair(name: str) -> list[int]:
    return [_JOINT[f"left_{name}"], _JOINT[f"right_{name}"]]


_HIPS, _KNEES, _ANKLES, _TOES = _pair("hip"), _pair("knee"), _pair("ankle"), _pair("foot")
_SHOULDERS, _ELBOWS, _WRISTS = _pair("shoulder"), _pair("elbow"), _pair("wrist")
_OUT = np.array([1.0, -1.0])


@dataclass(frozen=True, eq=False)
class Frames:
    """Where each motion begins and ends in the row of all frames."""

    bounds: IntArray
    """(M + 1,) first frame of each motion, and the number of all frames."""
    motion: IntArray
    """(N,) which motion a frame belongs to."""
    first: IntArray
    """(N,) first frame of that motion."""
    last: IntArray
    """(N,) last frame of that motion."""

    @staticmethod
    def of_lengths(lengths: Sequence[int]) -> Frames:
        bounds = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        motion = np.repeat(np.arange(len(lengths)), lengths)
        return Frames(bounds, motion, bounds[motion], bounds[motion + 1] - 1)

    def rate(self, values: Array, seconds: float = 1 / FPS) -> Array:
        """Change of (N, ...) values a second, over `seconds` to either side and less at a motion's ends."""
        before, after = self._around(seconds)
        span = np.maximum(after - before, 1) / FPS
        return (values[after] - values[before]) / span.reshape(-1, *[1] * (values.ndim - 1))

    def mean(self, values: Array, seconds: float) -> Array:
        """Mean of (N,) values over `seconds` to either side, less at a motion's ends."""
        before, after = self._around(seconds)
        sums = np.concatenate(([0.0], np.cumsum(values)))
        return (sums[after + 1] - sums[before]) / (after + 1 - before)

    def greatest(self, values: Array, seconds: float) -> Array:
        """The greatest of (N,) values over `seconds` to either side, less at a motion's ends."""
        found = values
        for _ in range(round(seconds * FPS)):
            before, after = self._around(1 / FPS)
            found = np.maximum(np.maximum(found[before], found[after]), found)
        return found

    def lowest(self, values: Array) -> Array:
        """(M,) the least of (N, ...) values in each motion."""
        rows = values.reshape(len(values), -1).min(axis=1)
        return np.minimum.reduceat(rows, self.bounds[:-1])

    def floor(self, values: Array) -> Array:
        """(M,) what the lower of (N, 2) heights is in the lowest twentieth of each motion's frames.

        Feet stand there; who lies down may have them lower for a moment.
        """
        lower = values.min(axis=1)
        parts = np.split(lower, self.bounds[1:-1])
        return np.array([np.partition(part, len(part) // 20)[len(part) // 20] for part in parts])

    def average(self, values: Array) -> Array:
        """(M,) the mean of (N,) values in each motion."""
        return np.add.reduceat(values, self.bounds[:-1]) / np.diff(self.bounds)

    def widened(self, start: int, end: int, seconds: float) -> tuple[int, int]:
        """Frames [start, end) with `seconds` more on either side, within their motion."""
        more = round(seconds * FPS)
        return max(start - more, int(self.first[start])), min(end + more, int(self.last[start]) + 1)

    def _around(self, seconds: float) -> tuple[IntArray, IntArray]:
        here, radius = np.arange(len(self.first)), max(round(seconds * FPS), 1)
        return np.maximum(here - radius, self.first), np.minimum(here + radius, self.last)


@dataclass(frozen=True, eq=False)
class Signals:
    """Numbers of each frame; every field has a row for each frame unless it says otherwise."""

    frames: Frames
    leg_m: Array
    """(M,) metres that one leg is long."""
    arm_m: Array
    """(M,) metres that one arm is long."""
    speed: Array
    """Of the pelvis over the ground, legs a second."""
    velocity: Array
    """(N, 2) the same forward and to the left of where the body faces."""
    course: Array
    """Degrees that the way of the pelvis has turned to the left since the first frame, while it moves."""
    yaw: Array
    """Degrees that the hips have turned to the left since the first frame."""
    yaw_rate: Array
    """Degrees a second of the same."""
    feet_yaw: Array
    """Degrees that the feet, both together, have turned to the left since the first frame."""
    twist: Array
    """Degrees that the shoulders are turned to the left of the hips."""
    hips: Array
    """Height of the hips in legs: 1 where one stands straight, 0 where they are as low as the ankles."""
    hips_behind: Array
    """Distance over the ground of the hips from the middle of the feet, in legs."""
    head: Array
    """Height of the head over the floor in legs."""
    hip_slope: Array
    """Degrees of the line between the hips from level: steep where one goes over sideways, and not over forward."""
    tilt: Array
    """Degrees of the trunk from upright; above 90 the body hangs head down."""
    stoop: Array
    """Degrees that the trunk leans forward, negative backward."""
    lift: Array
    """(N, 2) height of a foot, heel or toe, over where it stands, in legs."""
    foot: Array
    """(N, 2, 3) ankle from its hip in legs: forward, up, out."""
    foot_speed: Array
    """(N, 2) of the ankle from the pelvis in legs a second."""
    ankle_speed: Array
    """(N, 2) of the ankle over the ground and upward, legs a second."""
    leg_raise: Array
    """(N, 2) degrees of the line from hip to ankle from straight down."""
    thigh_raise: Array
    """(N, 2) degrees of the thigh from straight down."""
    knee_bend: Array
    """(N, 2) degrees, 0 where a knee is straight."""
    knee_height: Array
    """(N, 2) over the floor in legs."""
    stride: Array
    """(N, 2) left ankle before the right one, and to the left of it, in legs."""
    hand: Array
    """(N, 2, 3) wrist from its shoulder in arms: forward, up, out."""
    forearm: Array
    """(N, 2, 3) wrist from its elbow in arms: forward, up, out."""
    reach: Array
    """(N, 2) distance of wrist and shoulder in arms."""
    hand_speed: Array
    """(N, 2) of the wrist from the pelvis in arms a second."""
    hand_over_head: Array
    """(N, 2) height of a wrist over the head joint in arms."""
    hand_height: Array
    """(N, 2) height of a wrist over the floor in legs."""
    hands_apart: Array
    """Distance of the wrists in arms."""
    hand_to_foot: Array
    """(N, 2) distance of a wrist from the nearest ankle or toe in legs."""
    elbow_to_knee: Array
    """(N, 2) distance of an elbow from the other side's knee in legs."""

    def leg_at(self, frame: int) -> float:
        """Metres of a leg of the body in that frame."""
        return float(self.leg_m[self.frames.motion[frame]])

    def arm_at(self, frame: int) -> float:
        """Metres of an arm of the body in that frame."""
        return float(self.arm_m[self.frames.motion[frame]])


def measure(motions: Sequence[Motion]) -> Signals:
    """Signals of motions at 20 fps on HumanML3D's 22 joints. Raises MotionError for another skeleton."""
    for motion in motions:
        if motion.skeleton.name != HUMANML3D.name:
            raise MotionError(
                f"events are found on skeleton {HUMANML3D.name!r}; this motion has {motion.skeleton.name!r}"
            )
    frames = Frames.of_lengths([len(motion) for motion in motions])
    world = np.concatenate([motion.joints for motion in motions]).astype(np.float64)
    leg_m = frames.average(_bones(world, _HIPS, _KNEES, _ANKLES))
    arm_m = frames.average(_bones(world, _SHOULDERS, _ELBOWS, _WRISTS))
    if not ((leg_m > 0).all() and (arm_m > 0).all()):
        raise MotionError("events need a body with legs and arms; this one's are of length 0")
    world /= leg_m[frames.motion][:, None, None]
    arm = (arm_m / leg_m)[frames.motion]  # in legs, as all below

    hips_across = world[:, _HIPS[1]] - world[:, _HIPS[0]]
    shoulders_across = world[:, _SHOULDERS[1]] - world[:, _SHOULDERS[0]]
    heading = _unit(_quarter_turn(hips_across + shoulders_across))  # (N, 2) x and z
    left = np.stack((heading[:, 1], -heading[:, 0]), axis=-1)
    floor = frames.lowest(world[..., 1])[frames.motion]
    ground = world[..., ::2] - world[:, :1, ::2]
    body = np.stack(
        (
            np.einsum("njx,nx->nj", ground, heading),
            world[..., 1] - floor[:, None],
            np.einsum("njx,nx->nj", ground, left),
        ),
        axis=-1,
    )

    trunk = body[:, _NECK] - body[:, _PELVIS]
    trunk_length = _length(trunk).clip(1e-9)
    tilt = np.degrees(np.arccos(np.clip(trunk[:, 1] / trunk_length, -1, 1)))
    stoop = np.degrees(np.arctan2(trunk[:, 0], np.maximum(np.hypot(trunk[:, 1], trunk[:, 2]), 1e-9)))
    is_upright = tilt < UPRIGHT_DEG

    pace = frames.rate(world[:, _PELVIS, ::2], STRIDE_WINDOW_S)
    speed = np.hypot(pace[:, 0], pace[:, 1])
    hip_heading = _unit(_quarter_turn(hips_across))
    yaw = _unwrapped(frames, hip_heading, is_upright)
    pointing = (world[:, _TOES] - world[:, _ANKLES]).sum(axis=1)[:, ::2]
    shoulder_heading = _unit(_quarter_turn(shoulders_across))

    ankles, toes, hip_joints, knees = body[:, _ANKLES], body[:, _TOES], body[:, _HIPS], body[:, _KNEES]
    wrists, elbows, shoulders = body[:, _WRISTS], body[:, _ELBOWS], body[:, _SHOULDERS]
    lowest_ankle = frames.lowest(ankles[..., 1])[frames.motion]
    ankle_floor, toe_floor = (frames.floor(joints[..., 1])[frames.motion] for joints in (ankles, toes))
    hips = hip_joints.mean(axis=1)
    feet = 0.5 * (ankles.mean(axis=1) + toes.mean(axis=1))
    leg, thigh, shin = ankles - hip_joints, knees - hip_joints, ankles - knees
    hand, forearm = wrists - shoulders, wrists - elbows
    outward = np.stack((np.ones(2), np.ones(2), _OUT), axis=-1)
    pelvis_frame = body - body[:, _PELVIS : _PELVIS + 1]
    limbs = np.concatenate((pelvis_frame[:, _ANKLES], pelvis_frame[:, _WRISTS]), axis=1)
    limb_speed = _length(frames.rate(limbs))
    tips = np.concatenate((ankles, toes), axis=1)

    return Signals(
        frames=frames,
        leg_m=leg_m,
        arm_m=arm_m,
        speed=speed,
        velocity=np.stack((_dot(pace, heading), _dot(pace, left)), axis=-1),
        course=_unwrapped(frames, _unit(pace), speed > MOVING),
        yaw=yaw,
        yaw_rate=frames.rate(yaw, STRIDE_WINDOW_S),
        feet_yaw=_unwrapped(frames, _unit(pointing), is_upright),
        twist=np.degrees(_angle(hip_heading, shoulder_heading)),
        hips=hips[:, 1] - lowest_ankle,
        hips_behind=np.hypot(hips[:, 0] - feet[:, 0], hips[:, 2] - feet[:, 2]),
        head=body[:, _HEAD, 1],
        hip_slope=np.degrees(np.arctan2(np.abs(hips_across[:, 1]), np.hypot(hips_across[:, 0], hips_across[:, 2]))),
        tilt=tilt,
        stoop=stoop,
        lift=np.minimum(ankles[..., 1] - ankle_floor[:, None], toes[..., 1] - toe_floor[:, None]),
        foot=leg * outward,
        foot_speed=limb_speed[:, :2],
        ankle_speed=_length(frames.rate(world[:, _ANKLES])),
        leg_raise=_from_down(leg),
        thigh_raise=_from_down(thigh),
        knee_bend=_between(thigh, shin),
        knee_height=knees[..., 1],
        stride=ankles[:, 0, ::2] - ankles[:, 1, ::2],
        hand=hand * outward / arm[:, None, None],
        forearm=forearm * outward / arm[:, None, None],
        reach=_length(hand) / arm[:, None],
        hand_speed=limb_speed[:, 2:] / arm[:, None],
        hand_over_head=(wrists[..., 1] - body[:, _HEAD, None, 1]) / arm[:, None],
        hand_height=wrists[..., 1],
        hands_apart=_length(wrists[:, 0] - wrists[:, 1]) / arm,
        hand_to_foot=_length(wrists[:, :, None] - tips[:, None]).min(axis=-1),
        elbow_to_knee=_length(elbows - knees[:, ::-1]),
    )


def _bones(world: Array, *chain: list[int]) -> Array:
    """(N,) mean length over both sides of a chain of three joints."""
    upper, middle, lower = (world[:, joints] for joints in chain)
    lengths = _length(upper - middle) + _length(middle - lower)
    return lengths.mean(axis=1)


def _quarter_turn(across: Array) -> Array:
    """(N, 2) ground vectors (x, z) at right angles to (N, 3) vectors from left to right: where they face."""
    return np.stack((across[:, 2], -across[:, 0]), axis=-1)


def _unit(ground: Array) -> Array:
    return ground / np.maximum(np.hypot(ground[:, 0], ground[:, 1]), 1e-9)[:, None]


def _dot(a: Array, b: Array) -> Array:
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1]


def _angle(a: Array, b: Array) -> Array:
    """Radians to the left from ground directions a to b."""
    return np.arctan2(b[:, 0] * a[:, 1] - b[:, 1] * a[:, 0], _dot(a, b))


def _unwrapped(frames: Frames, directions: Array, counts: BoolArray) -> Array:
    """Degrees turned to the left since the first frame, adding up only between frames that both count."""
    before = np.maximum(np.arange(len(directions)) - 1, frames.first)
    turned = np.cumsum(np.where(counts & counts[before], np.degrees(_angle(directions[before], directions)), 0.0))
    return turned - turned[frames.first]


def _from_down(vectors: Array) -> Array:
    return np.degrees(np.arccos(np.clip(-vectors[..., 1] / _length(vectors).clip(1e-9), -1, 1)))


def _between(a: Array, b: Array) -> Array:
    lengths = (_length(a) * _length(b)).clip(1e-9)
    return np.degrees(np.arccos(np.clip((a * b).sum(axis=-1) / lengths, -1, 1)))


def _length(vectors: Array) -> Array:
    # several times faster than np.linalg.norm over a short last axis
    return np.sqrt(np.einsum("...i,...i->...", vectors, vectors))
