"""Motions joined one by one into one without end: what is final is given away, only the last motion is held.

Joins are those of events/compose.py. What is put behind is laid where the motion has come, faces as it does, and a few
made-up frames lead over. A body that sits or lies does not float to its feet: it gets up the way it came down, which is
the motion in which it went down, backwards.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import MotionError
from kinalign.events.compose import SHORTEST, Clip, Footwork, Interval, join
from kinalign.motion.grounding import grounded
from kinalign.motion.joining import UPRIGHT_M, uniform
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.skeleton import HUMANML3D
from kinalign.motion.synthetic import standing
from kinalign.planning.still import keeping_still

Array = NDArray[np.floating]
Joints = NDArray[np.float32]

FOOTWORK = Footwork(lift_share=0.4, lift_power=2, jerk_of_skating=4000.0)
"""Of 60 joins (bench/bench_compose.py), feet skate a fifth less than with the one that event sets are made with, and
nothing jerks more."""
RISE_M = 0.3
"""A transition may bring the hips so much higher or lower; beyond that a body gets up or is not there. Who stands over
his feet, as in a deep stance, sinks and rises further."""
BALANCED_M = 0.2
"""A body stands over its feet while its middle, the mean of its joints, is so near to the line between them."""
NEAR_M = 0.25
"""Between two postures on the floor a transition may move joints so far, on average."""
SETTLED_M = 0.1
"""A body that stays so near to its last pose, on average over joints, has come down."""
CALM_M_S = 0.5
"""A pose in which no joint is faster may be kept."""
RUN_UP = 8
"""Frames of standing that getting up ends with."""
_TOES = [HUMANML3D.left_foot[1], HUMANML3D.right_foot[1]]
_ON_FLOOR_M = 0.1


class Joined(NamedTuple):
    """What one motion more makes of a long one."""

    joints: Joints
    """(T, 22, 3) frames at 20 fps that follow those given before and are final now; none for the first motion."""
    transition: Interval
    """Made-up frames [start, end) of the whole between the motion before and the new one, which begins at its end."""
    gets_up: Interval | None = None
    """Frames of the transition in which the body gets up."""


class _Held(NamedTuple):
    """The last motion, as it is laid; its frames before `head` are left out."""

    clip: Clip
    laid: Array
    head: int

    @property
    def kept(self) -> Array:
        """Its frames (T, 22, 3) that are not given away yet, if nothing follows."""
        return self.laid[self.head : self.clip.tails[-1] + 1]

    @property
    def end(self) -> Array:
        """The pose (22, 3) that it ends in."""
        return self.laid[self.clip.tails[-1]]


class Joiner:
    """Puts one motion behind the other; memory does not grow with their number.

    >>> joiner = Joiner()
    >>> from kinalign.motion.synthetic import squatting, walking
    >>> [len(joiner.append(motion).joints) > 0 for motion in (walking(60), squatting(1))]
    [False, True]
    >>> joiner.finish().shape[1:]
    (22, 3)
    """

    def __init__(self) -> None:
        self.num_final = 0
        """Frames given away so far."""
        self._held: _Held | None = None
        self._way_up: Clip | None = None

    @property
    def num_frames(self) -> int:
        """Frames of the whole if it were finished now."""
        return self.num_final + (0 if self._held is None else len(self._held.kept))

    def takes(self, motion: Motion) -> bool:
        """Whether the motion can follow: it begins about as high as the body is, or as it is when it has got up."""
        if self._held is None:
            return True
        clip = _clip_of(motion)
        return self._follows(clip) or (self._way_up is not None and _is_near(self._way_up.joints[-1], clip.joints[0]))

    def append(self, motion: Motion) -> Joined:
        """Put a motion behind; it is made uniform (20 fps, HumanML3D's bones) and set on the floor.

        Raises MotionError for another skeleton, for fewer than 8 frames and for a motion that `takes` refuses.
        """
        clip = _clip_of(motion)
        if self._held is None or self._follows(clip):
            return self._put(clip)
        if self._way_up is None or not _is_near(self._way_up.joints[-1], clip.joints[0]):
            before, after = (float(pose[0, 1]) for pose in (self._held.end, clip.joints[0]))
            raise MotionError(
                f"a motion that begins with its hips at {after:.2f} m cannot follow one that ends with them at "
                f"{before:.2f} m, {RISE_M} m apart at most; put between them how the body gets there, or choose another"
            )
        first = self._put(self._way_up)
        second = self._put(clip)
        return Joined(
            np.concatenate((first.joints, second.joints)),
            Interval(first.transition.start, second.transition.end),
            gets_up=Interval(first.transition.start, second.transition.start),
        )

    def pause(self, seconds: float) -> Joined:
        """Keep still for about `seconds`: in the pose that the motion ends in where that is calm, else standing.

        Coming to rest is part of it. Raises MotionError where nothing was put before.
        """
        if self._held is None:
            raise MotionError("nothing to pause after; append a motion first")
        held = self._held
        pose = held.end if self._is_calm(held) else uniform(standing(1)).joints[0].astype(np.float64)
        still = Clip.of(keeping_still(pose, seconds), spare=0)
        comes_to_rest_s = len(join(held.laid, 0, held.clip, still, FOOTWORK).between) / FPS
        return self._put(Clip.of(keeping_still(pose, seconds - comes_to_rest_s), spare=0))

    def finish(self) -> Joints:
        """The last frames; the joiner is empty then."""
        if self._held is None:
            return np.empty((0, HUMANML3D.num_joints, 3), np.float32)
        held, self._held, self._way_up = self._held, None, None
        return self._final(held.kept)

    def _put(self, clip: Clip) -> Joined:
        if self._held is None:
            self._hold(_Held(clip, clip.joints, clip.heads[0]))
            return Joined(self._final(clip.joints[:0]), Interval(0, 0))
        held = self._held
        made = join(held.laid, 0, held.clip, clip, FOOTWORK)
        joints = self._final(np.concatenate((held.laid[held.head : made.tail + 1], made.between)))
        self._hold(_Held(clip, made.laid, made.head))
        return Joined(joints, Interval(self.num_final - len(made.between), self.num_final))

    def _final(self, joints: Array) -> Joints:
        self.num_final += len(joints)
        return joints.astype(np.float32)

    def _hold(self, held: _Held) -> None:
        self._held = held
        upright = np.flatnonzero(held.laid[: held.clip.tails[-1] + 1, 0, 1] >= UPRIGHT_M)
        if _is_upright(held.end):
            self._way_up = None
        elif len(upright):  # one that stays down keeps the way up of the one before
            first, last = max(int(upright[-1]) - RUN_UP, 0), held.clip.tails[-1]
            down = held.clip.joints[first : max(_settled(held.clip.joints[: last + 1]), first + SHORTEST) + 1]
            self._way_up = Clip.of(Motion(down, fps=FPS).backwards(), spare=0)

    def _follows(self, clip: Clip) -> bool:
        """Whether a transition alone leads from the held motion to the clip."""
        held = self._held
        assert held is not None
        is_near = _is_near(held.end, clip.joints[0])
        if is_near and (_is_upright(held.end) or _is_upright(clip.joints[0])):
            return True
        has_way_up = self._way_up is not None and _is_balanced(self._way_up.joints[-1])
        if not has_way_up and _is_balanced(held.end) and _is_balanced(clip.joints[0]):
            return True
        if not is_near:
            return False
        made = join(held.laid, 0, held.clip, clip, FOOTWORK)
        return float(np.linalg.norm(made.laid[made.head] - held.laid[made.tail], axis=-1).mean()) <= NEAR_M

    def _is_calm(self, held: _Held) -> bool:
        """Whether the motion ends in a pose to be kept: slow, and, where it stands, on both feet."""
        last = held.laid[: held.clip.tails[-1] + 1][-3:]
        speed = float(np.linalg.norm(np.diff(last, axis=0), axis=-1).max()) * FPS
        stands_on_both = bool((held.end[_TOES, 1] < _ON_FLOOR_M).all())
        return not _is_upright(held.end) or (speed <= CALM_M_S and stands_on_both)


def _clip_of(motion: Motion) -> Clip:
    return Clip.of(grounded(uniform(motion)))


def _settled(joints: Array) -> int:
    """The frame from which on a motion stays near the pose in which it ends."""
    away = np.linalg.norm(joints - joints[-1], axis=-1).mean(axis=-1) > SETTLED_M
    return int(np.flatnonzero(away)[-1]) + 1 if away.any() else 0


def _is_upright(pose: Array) -> bool:
    return bool(pose[0, 1] >= UPRIGHT_M)


def _is_near(before: Array, after: Array) -> bool:
    return abs(float(after[0, 1] - before[0, 1])) <= RISE_M


def _is_balanced(pose: Array) -> bool:
    """Whether a pose (22, 3) is on both feet and on nothing else, its middle over them."""
    feet = [*HUMANML3D.left_foot, *HUMANML3D.right_foot]
    others = np.delete(pose[:, 1], feet)
    left, right = (pose[list(foot)][:, [0, 2]].mean(axis=0) for foot in (HUMANML3D.left_foot, HUMANML3D.right_foot))
    way, middle = right - left, pose[:, [0, 2]].mean(axis=0)
    share = np.clip(np.dot(middle - left, way) / max(float(np.dot(way, way)), 1e-9), 0.0, 1.0)
    away = float(np.linalg.norm(left + share * way - middle))
    return bool((pose[_TOES, 1] < _ON_FLOOR_M).all() and others.min() > _ON_FLOOR_M and away <= BALANCED_M)
