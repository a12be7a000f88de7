"""Motions in which the events of a prompt happen, made of real clips: what a model is shown before it is given rewards.

Parts are cut out of clips: what a clip's words name and the detector finds, with as many repetitions as are wanted. The
parts of a prompt are joined as its program asks (events/compose.py), a judge looks at the whole, and only what is all
right is kept. The clips are those that the model has learned from already; only their combinations are new.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinalign.data.records import Clip
from kinalign.errors import DataError, KinalignError, MotionError
from kinalign.evaluation.detector import truth_of
from kinalign.events.compose import SHORTEST, Part, compose
from kinalign.events.detect import Detection, detect_all
from kinalign.events.parse import parse
from kinalign.events.program import Event
from kinalign.judge.prompts import EventPrompt
from kinalign.judge.verdict import Case, Judge, Verdict
from kinalign.motion.joining import is_upright, uniform
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D

GOING = frozenset({"walk", "run", "dash"})
"""Actions of which any part is one, so that a part of a random length is taken."""
WHOLE = GOING | {"turn", "sit", "lie_down", "stand_up", "get_up", "put_down"}
"""Actions that happen once, as long as they last."""
ALIKE = {
    "walk": {"walk", "sneak", "march"},
    "step": {"walk", "step", "run"},
    "run": {"run", "dash", "jog"},
    "dash": {"run", "dash", "jog"},
    "turn": {"turn", "walk", "spin"},
    "hop": {"hop", "jump"},
    "jump": {"jump", "hop", "leap"},
    "raise": {"raise", "wave", "reach"},
    "put_down": {"put_down", "pick_up"},
    "stand_up": {"stand_up", "get_up", "sit"},
    "get_up": {"get_up", "stand_up", "lie_down"},
}
"""What words have to name so that a detection is believed; the action itself where it is not here."""
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

CHEST, NECK = HUMANML3D.index("spine3"), HUMANML3D.index("neck")
COLLARS = [HUMANML3D.index(f"{side}_collar") for side in ("left", "right")]
ARMS = [HUMANML3D.index(f"{side}_{joint}") for joint in ("shoulder", "elbow", "wrist") for side in ("left", "right")]


@dataclass(frozen=True, eq=False)
class Excerpt:
    """A part of a clip in which one event happens, `event.count` times where it has a count."""

    clip: str
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


class ComposedMotion(NamedTuple):
    """A prompt and a motion that shows all of it."""

    prompt: EventPrompt
    motion: Motion


def excerpts_of(clips: Sequence[Clip]) -> list[Excerpt]:
    """Every event that a clip's words name and the detector finds in it, once as it is and once mirrored."""
    motions = [uniform(clip.motion) for clip in clips]
    found: list[Excerpt] = []
    for clip, motion, detections in zip(clips, motions, detect_all(motions)):
        named = _named_in(clip)
        for detection in detections:
            if named & ALIKE.get(detection.action, {detection.action}):
                found += _cut(clip.id, motion, detection)
    return [one for excerpt in found for one in (excerpt, excerpt.mirrored)]


def _named_in(clip: Clip) -> set[str]:
    """Actions that a clip's label or its captions name."""
    truth = truth_of(clip)
    named = {str(event["action"]) for event in truth.events} if truth else set()
    for caption in clip.captions:
        try:
            named |= {event.action for event in parse(caption).events}
        except KinalignError:  # a caption that names no event
            continue
    return named


def _cut(clip: str, motion: Motion, found: Detection) -> Iterator[Excerpt]:
    """What can be cut out of a detection: all of it, or its first and its last repetitions, 1 to 6 of them."""
    event = Event(found.action, found.side if found.side in ("left", "right", "both") else "", found.direction)
    spans: list[tuple[int, int, Event]] = []
    if found.action in WHOLE:
        spans.append((found.start, found.end, event))
    # who walks takes steps, and with this foot as much as with that
    counted = replace(event, action="step", side="") if found.action == "walk" else event
    if found.action == "walk" or found.action not in WHOLE:
        for times in range(1, min(MOST_TIMES, len(found.repeats)) + 1):
            for first in {0, len(found.repeats) - times}:
                start, end = found.repeats[first].start, found.repeats[first + times - 1].end
                spans.append((start, end, replace(counted, count=times)))
    for start, end, what in spans:
        start, end = max(start - MARGIN, 0), min(end + MARGIN, len(motion))
        if SHORTEST <= end - start <= MOST_FRAMES:
            yield Excerpt(clip, motion[start:end], what, is_upright(motion, start), is_upright(motion, end - 1))


class Composer:
    """Draws parts for the programs of prompts and joins them; the same seed gives the same motions."""

    def __init__(self, excerpts: Sequence[Excerpt], seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.by_action: dict[tuple[str, object], list[Excerpt]] = {}
        for excerpt in excerpts:
            self.by_action.setdefault((excerpt.event.action, excerpt.event.count), []).append(excerpt)
        self.missing: Counter[str] = Counter()
        """Events for which there was no part."""

    def motion(self, prompt: EventPrompt) -> Motion | None:
        """A motion of the prompt's events one after the other; None where the parts do not give one.

        What shall happen at the same time is the first event with the arms of the second.
        """
        steps = prompt.program.steps
        options = [[self._options(event) for event in step] for step in steps]
        if not all(found for step in options for found in step):
            without = [e for step, found in zip(steps, options) for e, some in zip(step, found) if not some]
            self.missing.update(event.action for event in without)
            return None
        for _ in range(TRIES):
            chosen = [[self.rng.choice(found) for found in step] for step in options]
            upright = [True, *(excerpts[0].ends_upright for excerpts in chosen)]
            if any(excerpts[0].starts_upright != before for excerpts, before in zip(chosen, upright)):
                continue
            parts = [self._part(excerpts, step) for excerpts, step in zip(chosen, steps)]
            if sum(len(part.motion) * part.times for part in parts) > MOST_FRAMES + SPARE_FRAMES:
                continue
            try:
                composed = compose(parts)
            except MotionError:  # nothing fits together here: other parts may
                continue
            if len(composed.motion) <= MOST_FRAMES and composed.jerk <= ROUGHEST:
                return composed.motion
        return None

    def _options(self, event: Event) -> list[Excerpt]:
        """Parts that show an event as often as it asks, or else once, to be joined with themselves."""
        if event.action in WHOLE:
            counts: list[object] = [None]
        elif event.count is None:
            counts = [2, 3, 4] if event.action == "wave" else [1, 2]  # a hand that swings once does not wave
        else:
            counts = [event.count]
        return self._fitting(event, counts) or self._fitting(event, [1])

    def _fitting(self, event: Event, counts: Sequence[object]) -> list[Excerpt]:
        return [
            excerpt
            for count in counts
            for excerpt in self.by_action.get((event.action, count), ())
            if event.side in ("", excerpt.event.side) and _goes(excerpt.event.direction, event.direction)
        ]

    def _part(self, excerpts: Sequence[Excerpt], step: Sequence[Event]) -> Part:
        """The part of a step: an excerpt as often as is wanted, with the arms of another where two things happen."""
        (excerpt, *arms), event = excerpts, step[0]
        motion, times = excerpt.motion, 1
        if event.action in GOING:
            motion = self._window(motion)
        if isinstance(event.count, int) and isinstance(excerpt.event.count, int):
            times = event.count // excerpt.event.count
        for other in arms:
            motion = with_arms_of(motion, other.motion)
        return Part(motion, excerpt.event, times)

    def _window(self, motion: Motion) -> Motion:
        fewest, most = GOING_FRAMES
        length = self.rng.randint(min(fewest, len(motion)), min(most, len(motion)))
        start = self.rng.randint(0, len(motion) - length)
        return motion[start : start + length]


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


def compose_motions(
    prompts: Sequence[EventPrompt],
    excerpts: Sequence[Excerpt],
    judge: Judge,
    *,
    copies: int = 2,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> list[ComposedMotion]:
    """Up to `copies` motions for every prompt, each of which the judge gives a score of 5.

    `advance` is called after each prompt. Raises DataError where there is not one.
    """
    composer = Composer(excerpts, seed)
    made: list[ComposedMotion] = []
    for prompt in prompts:
        motions = [composer.motion(prompt) for _ in range(copies)]
        made += [ComposedMotion(prompt, motion) for motion in motions if motion is not None]
        advance()
    outcomes = judge.judge_all(
        [Case(one.prompt.prompt, one.motion, one.prompt.program, one.prompt.task) for one in made]
    )
    right = [one for one, said in zip(made, outcomes) if isinstance(said, Verdict) and said.score == 5]
    if not right:
        missing = ", ".join(f"{action} ({times})" for action, times in composer.missing.most_common(5))
        raise DataError(
            f"no motion of {len(prompts)} prompts could be composed of {len(excerpts)} parts of clips; "
            f"parts are missing for {missing or 'nothing, but they do not fit together'}"
        )
    return right
