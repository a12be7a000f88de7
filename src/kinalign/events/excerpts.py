"""Motions put together of excerpts: parts of motions in which one event happens, as often as is wanted.

An excerpt is cut out where the detector finds an event (events/detect), with all of its repetitions or the first or the
last few. For a program, excerpts are drawn, joined with themselves where they do not show enough, given the arms of
another where two things happen at once, and joined (events/compose.py). Where motions come from does not matter here.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import MotionError
from kinalign.events.compose import SHORTEST, Part, compose
from kinalign.events.detect import Detection
from kinalign.events.program import RISING, Event, EventProgram
from kinalign.motion.joining import is_upright
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.skeleton import HUMANML3D

GOING = frozenset({"walk", "run", "dash"})
"""Actions of which any part is one, so that a part of a random length is taken."""
WHOLE = GOING | RISING | {"turn", "sit", "lie_down", "put_down"}
"""Actions that happen once, as long as they last."""
MARGIN = 4
"""Frames that are kept before and after an event."""
GOING_FRAMES = (28, 70)
"""Fewest and most frames of a part of a walk or a run."""
MOST_TIMES = 6
"""Repetitions that are cut out of a clip, at most."""
MOST_FRAMES = 196
"""A longer motion is none that the model speaks of."""
SPARE_FRAMES = 40
"""Joining leaves out frames at the ends of parts: so many more than fit are tried."""
ROUGHEST = 1.2
"""How much more than its clips a motion may jerk where they are joined."""
TRIES = 4
"""Choices of parts that are tried for one motion."""
NEAR_M = 0.4
"""So far may joints be, on average, between a pose on the floor and the one in which the next part goes on from it."""
OFF_S = 0.5
"""By so much may a part be shorter or longer than an event shall last."""


CHEST, NECK = HUMANML3D.index("spine3"), HUMANML3D.index("neck")
COLLARS = [HUMANML3D.index(f"{side}_collar") for side in ("left", "right")]
ARMS = [HUMANML3D.index(f"{side}_{joint}") for joint in ("shoulder", "elbow", "wrist") for side in ("left", "right")]


@dataclass(frozen=True, eq=False)
class Excerpt:
    """A part of a motion in which one event happens, `event.count` times where it has a count."""

    source: str
    """Of which motion: the id of a clip, or what was asked for."""
    recorded: Motion
    event: Event
    starts_upright: bool
    ends_upright: bool
    is_mirrored: bool = False

    @property
    def mirrored(self) -> Excerpt:
        return replace(self, event=self.event.mirrored, is_mirrored=not self.is_mirrored)

    @cached_property
    def motion(self) -> Motion:
        """What is shown; mirrored only when it is asked for, for few of many are drawn."""
        return self.recorded.mirror() if self.is_mirrored else self.recorded

    def pose(self, frame: int) -> NDArray[np.floating]:
        """Joints (J, 3) of a frame, turned and moved over the floor so that the body faces +z at the origin."""
        frames = slice(frame, frame + 1 or None)
        return self.motion[frames].face_forward().joints[0]


def shown_by(found: Detection) -> Event:
    """The event that a detection shows, without its count."""
    return Event(found.action, found.side if found.side in ("left", "right", "both") else "", found.direction)


def cut(source: str, motion: Motion, found: Detection, *, margin: int = MARGIN) -> Iterator[Excerpt]:
    """What can be cut out of a detection: all of it, or its first and its last repetitions, 1 to 6 of them.

    `margin` frames are kept before and after, where they do not reach into another repetition.
    """
    event = shown_by(found)
    spans: list[tuple[int, int, Event]] = []
    if found.action in WHOLE:
        spans.append((max(found.start - margin, 0), min(found.end + margin, len(motion)), event))
    # who walks takes steps, and with this foot as much as with that
    counted = replace(event, action="step", side="") if found.action == "walk" else event
    if found.action == "walk" or found.action not in WHOLE:
        repeats = found.repeats
        # halfway to the repetition before, and to the one behind
        halves = [0, *((one.end + other.start) // 2 for one, other in pairwise(repeats)), len(motion)]
        for times in range(1, min(MOST_TIMES, len(repeats)) + 1):
            for first in {0, len(repeats) - times}:
                last = first + times - 1
                start, end = repeats[first].start - margin, repeats[last].end + margin
                start, end = max(start, halves[first]), min(end, halves[last + 1])
                spans.append((start, end, replace(counted, count=times)))
    for start, end, what in spans:
        if SHORTEST <= end - start <= MOST_FRAMES:
            yield Excerpt(source, motion[start:end], what, is_upright(motion, start), is_upright(motion, end - 1))


class Composer:
    """Draws parts for the programs of prompts and joins them; the same seed gives the same motions."""

    def __init__(self, excerpts: Sequence[Excerpt], seed: int = 0, *, most_frames: int = MOST_FRAMES) -> None:
        self.rng, self.most_frames = random.Random(seed), most_frames
        self.by_action: dict[tuple[str, object], list[Excerpt]] = {}
        for excerpt in excerpts:
            self.by_action.setdefault((excerpt.event.action, excerpt.event.count), []).append(excerpt)
        self.missing: Counter[str] = Counter()
        """Events for which there was no part."""

    def motion(self, program: EventProgram, lasts: Mapping[Event, float] = MappingProxyType({})) -> Motion | None:
        """A motion of the program's events one after the other; None where the parts do not give one.

        What shall happen at the same time is the first event with the arms of the second. `lasts` are seconds of
        events that shall last so long, where there is a part for it.
        """
        steps = program.steps
        options = [[self._lasting(self._options(event), event, lasts) for event in step] for step in steps]
        if not all(found for step in options for found in step):
            without = [e for step, found in zip(steps, options) for e, some in zip(step, found) if not some]
            self.missing.update(event.action for event in without)
            return None
        for _ in range(TRIES):
            chosen = self._chosen(steps, options)
            if chosen is None:
                continue
            parts = [self._part(excerpts, step, lasts) for excerpts, step in zip(chosen, steps)]
            if sum(len(part.motion) * part.times for part in parts) > self.most_frames + SPARE_FRAMES:
                continue
            try:
                composed = compose(parts)
            except MotionError:  # nothing fits together here: other parts may
                continue
            if len(composed.motion) <= self.most_frames and composed.jerk <= ROUGHEST:
                return composed.motion
        return None

    def shows(self, event: Event) -> bool:
        """Whether there is a part for an event."""
        return bool(self._options(event))

    def _options(self, event: Event) -> list[Excerpt]:
        """Parts that show an event as often as it asks, else once, to be joined with themselves, else uncounted."""
        if event.action in WHOLE:
            counts: list[object] = [None]
        elif event.count is None:
            counts = [2, 3, 4] if event.action == "wave" else [1, 2]  # a hand that swings once does not wave
        else:
            counts = [event.count]
        return self._fitting(event, counts) or self._fitting(event, [1]) or self._fitting(event, [None])

    def _fitting(self, event: Event, counts: Sequence[object]) -> list[Excerpt]:
        return [
            excerpt
            for count in counts
            for excerpt in self.by_action.get((event.action, count), ())
            if event.side in ("", excerpt.event.side) and _goes(excerpt.event.direction, event.direction)
        ]

    def _chosen(
        self, steps: Sequence[Sequence[Event]], options: Sequence[Sequence[list[Excerpt]]]
    ) -> list[list[Excerpt]] | None:
        """An excerpt for each event, each beginning as the one before ends; None where there is none for one.

        Who rises first begins low. What goes on from the floor begins near the pose that is there.
        """
        chosen: list[list[Excerpt]] = []
        for step, found in zip(steps, options):
            first = self.rng.choice(found[0])
            if chosen and not chosen[-1][0].ends_upright:
                before = chosen[-1][0].pose(-1)
                near = [one for one in found[0] if not one.starts_upright and _gap(before, one.pose(0)) <= NEAR_M]
                if not near:
                    return None
                first = self.rng.choice(near)
            elif not first.starts_upright and (chosen or step[0].action not in RISING):
                return None
            chosen.append([first, *(self.rng.choice(others) for others in found[1:])])
        return chosen

    def _lasting(self, found: list[Excerpt], event: Event, lasts: Mapping[Event, float]) -> list[Excerpt]:
        """Those of the excerpts that last as long as the event shall, or all where none does."""
        if event not in lasts:
            return found
        least, most = lasts[event] - OFF_S, float("inf") if event.action in GOING else lasts[event] + OFF_S
        return [one for one in found if least <= len(one.recorded) / FPS <= most] or found

    def _part(self, excerpts: Sequence[Excerpt], step: Sequence[Event], lasts: Mapping[Event, float]) -> Part:
        """The part of a step: an excerpt as often as is wanted, with the arms of another where two things happen."""
        (excerpt, *arms), event = excerpts, step[0]
        motion, times = excerpt.motion, 1
        if event.action in GOING:
            motion = self._window(motion, lasts.get(event))
        if isinstance(event.count, int) and isinstance(excerpt.event.count, int):
            times = event.count // excerpt.event.count
        for other in arms:
            motion = with_arms_of(motion, other.motion)
        return Part(motion, excerpt.event, times)

    def _window(self, motion: Motion, seconds: float | None) -> Motion:
        fewest, most = GOING_FRAMES if seconds is None else (round(seconds * FPS),) * 2
        length = self.rng.randint(min(fewest, len(motion)), min(most, len(motion)))
        start = self.rng.randint(0, len(motion) - length)
        return motion[start : start + length]


def _gap(pose: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """How far joints of two poses (J, 3) are from each other in metres, on average."""
    return float(np.linalg.norm(pose - other, axis=-1).mean())


def with_arms_of(motion: Motion, other: Motion) -> Motion:
    """A motion with the arms of another of the same bones, as they are held to the chest; as long as the shorter one.

    >>> from kinalign.motion.synthetic import walking
    >>> bool(np.allclose(with_arms_of(walking(), walking()).joints, walking().joints, atol=1e-5))
    True
    """
    length = min(len(motion), len(other))
    motion, other = motion[:length], other[:length]
    joints = motion.joints.astype(np.float64)
    held = np.einsum("tij,taj->tai", _chest(other).swapaxes(1, 2), other.joints[:, ARMS] - other.joints[:, [CHEST]])
    joints[:, ARMS] = np.einsum("tij,taj->tai", _chest(motion), held) + joints[:, [CHEST]]
    return replace(motion, joints=joints.astype(np.float32))


def _chest(motion: Motion) -> NDArray[np.floating]:
    """Axes (T, 3, 3), in columns, of the bone that neck and collars hang on: they move with it as one."""
    joints = motion.joints.astype(np.float64)
    left, right = joints[:, COLLARS].swapaxes(0, 1)
    across, up = left - right, joints[:, NECK] - joints[:, CHEST]
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    ahead = np.cross(across, up)
    ahead /= np.linalg.norm(ahead, axis=-1, keepdims=True)
    return np.stack((across, np.cross(ahead, across), ahead), axis=-1)


def _goes(shown: str, wanted: str) -> bool:
    """Whether a part goes where an event shall go; around is a turn to either side, far enough if the judge says so."""
    return wanted in ("", shown) or (wanted == "around" and shown in ("left", "right"))
