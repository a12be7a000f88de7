"""What happens in a motion, read off its joints: which action, when, how often, on which side and in which direction.

Every action has a rule: a number of the body (signals.py) that is followed while it stays beyond one bound and counts
where it gets beyond a second one (stretches.py), and a few conditions that tell the action from its neighbours. Bounds
are in legs, arms, degrees and seconds, so that a child, a giant and a scaled motion are read alike. Detections are not
exclusive: who waves has raised a hand, and a deep bow is a bend. Joints show no things: picking up and putting down
look the same and are both reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from kinalign.events.detect import body, going, limbs
from kinalign.events.detect.detection import Detection
from kinalign.events.detect.signals import Signals, measure
from kinalign.events.detect.stretches import Stretch
from kinalign.motion.motion import FPS, Motion

__all__ = ["DETECTED", "Detection", "detect", "detect_all"]

DETECTED = frozenset(
    "walk run dash step hop jump leap turn spin stand dance squat crouch kneel sit lie_down stand_up get_up bow bend "
    "twist jumping_jack cartwheel flip put_down pick_up touch kick raise_leg raise_knee raise lower reach wave punch "
    "throw clap rotate_arm".split()
)
"""Every action that can be found; of all others the detector knows nothing."""

PARTS_OF: dict[str, frozenset[str]] = {
    "cartwheel": frozenset(
        "kick raise_leg raise_knee raise lower reach wave punch throw rotate_arm put_down pick_up touch bend bow jump "
        "hop leap squat crouch kneel turn spin run twist clap stand_up sit lie_down get_up dance".split()
    ),
    "flip": frozenset(
        "kick raise_leg raise_knee wave punch throw rotate_arm put_down pick_up touch bend bow hop leap turn spin run "
        "twist clap lie_down sit get_up stand_up kneel dance".split()
    ),
    "jumping_jack": frozenset(
        "rotate_arm clap wave throw punch raise lower raise_leg kick walk run dance hop reach".split()
    ),
    "twist": frozenset({"bow"}),
    "lie_down": frozenset("put_down pick_up touch bend bow squat crouch kick raise_knee raise_leg walk dance".split()),
}
"""Events that are seen as a part of another one and are then not reported beside it."""

SWINGS = {"throw": 3, "punch": 6}
"""A thrust of a hand that swings this often is a part of its wave; a hand that swings less sways around the thrust."""

BATCH_FRAMES = 8_192
"""Frames that are computed at a time: few enough for a processor's cache, so many that single calls cost nothing."""


def detect(motion: Motion) -> list[Detection]:
    """Events of one motion in order of their starts. Raises MotionError unless it has HumanML3D's 22 joints."""
    return detect_all([motion])[0]


def detect_all(motions: Sequence[Motion]) -> list[list[Detection]]:
    """`detect` of each motion, many times faster than one by one: the frames of many are computed together."""
    found: list[list[Detection]] = []
    for batch in _batches(motions):
        s = measure([motion.resample(FPS) for motion in batch])
        events: list[list[Detection]] = [[] for _ in batch]
        for event in _events(s):
            events[int(s.frames.motion[event.start])].append(event)
        found += map(_in_own_frames, batch, s.frames.bounds.tolist(), events)
    return found


def _batches(motions: Sequence[Motion]) -> Iterator[Sequence[Motion]]:
    start, num_frames = 0, 0
    for index, motion in enumerate(motions):
        num_frames += len(motion)
        if num_frames >= BATCH_FRAMES or index == len(motions) - 1:
            yield motions[start : index + 1]
            start, num_frames = index + 1, 0


def _events(s: Signals) -> Iterator[Detection]:
    """All events of all motions, in frames of the row of all frames."""
    flown = going.flights(s)
    gaits, is_running = going.gaits(s, flown)
    yield from gaits
    yield from going.turns(s)
    yield from going.stands(s)
    yield from going.jumps(s, flown, is_running)
    yield from going.dances(s)
    yield from body.dips(s, flown)
    yield from body.stoops(s)
    yield from body.low_hands(s)
    yield from body.elbows_to_knees(s)
    yield from body.twists(s)
    yield from body.jumping_jacks(s)
    yield from body.overturns(s)
    yield from limbs.kicks(s, is_running)
    yield from limbs.knees(s)
    yield from limbs.raised_hands(s)
    yield from limbs.waves(s)
    yield from limbs.thrusts(s, is_running)
    yield from limbs.claps(s)
    yield from limbs.arm_circles(s)


def _in_own_frames(motion: Motion, first: int, events: list[Detection]) -> list[Detection]:
    """Events of the row of all frames as those of their motion, without those that are part of others."""
    wholes = [event for event in events if event.action in PARTS_OF or event.action in ("wave", *SWINGS)]
    kept = []
    for event in events:
        if any(_is_part(event, whole) for whole in wholes):
            continue
        start, end = _in_frames_of(motion, event.start - first, event.end - first)
        repeats = []
        for repeat in event.repeats or _evenly(event):
            repeat_start, repeat_end = _in_frames_of(motion, repeat.start - first, repeat.end - first)
            repeats.append(repeat._replace(start=repeat_start, end=repeat_end))
        kept.append(replace(event, start=start, end=end, repeats=tuple(repeats)))
    return sorted(kept, key=lambda event: (event.start, event.end, event.action))


def _is_part(event: Detection, whole: Detection) -> bool:
    middle = (event.start + event.end) // 2
    if event.action in PARTS_OF.get(whole.action, ()):
        return whole.start <= middle < whole.end
    wave, thrust = (event, whole) if event.action == "wave" else (whole, event)
    if wave.action != "wave" or thrust.action not in SWINGS or {wave.side, thrust.side} == {"left", "right"}:
        return False
    middle, more = (thrust.start + thrust.end) // 2, round(0.5 * FPS) if whole is wave else 0
    is_swing = (wave.count or 0) >= SWINGS[thrust.action]
    return wave.start - more <= middle < wave.end + more and is_swing == (whole is wave)


def _in_frames_of(motion: Motion, start: int, end: int) -> tuple[int, int]:
    """Frames [start, end) at 20 fps as those of the motion; at least one."""
    first = min(round(start * motion.fps / FPS), len(motion) - 1)
    return first, min(max(round(end * motion.fps / FPS), first + 1), len(motion))


def _evenly(event: Detection) -> list[Stretch]:
    """Repetitions of an event that goes on without a break, as turns of an arm: all of one length."""
    bounds = np.linspace(event.start, event.end, (event.count or 0) + 1).round().astype(int).tolist()
    return [Stretch(start, end, 1.0, event.side) for start, end in pairwise(bounds)]
