"""Long motion: segments made one by one, the best of several each, joined without end and given away as they are made.

AvatarGPT makes all segments, lets the model fill between neighbours and decodes the whole (arXiv 2311.16468, section
3.5). Here frames are final as soon as the next segment is there, so length costs no memory; what the ways to join are
worth is measured in docs/long_motion.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import PlanError, PostureError
from kinalign.events.compose import SHORTEST, Interval
from kinalign.events.say import label
from kinalign.judge.kinematic import KinematicJudge
from kinalign.judge.verdict import Judge, Verdict
from kinalign.lm.model import Sampling
from kinalign.motion.joining import is_upright, uniform
from kinalign.motion.motion import FPS, Motion
from kinalign.pipeline import TextToMotion
from kinalign.planning.joiner import Joined, Joiner
from kinalign.planning.plan import Step
from kinalign.planning.timeline import Segment
from kinalign.render.player import PlayerEvent
from kinalign.selection import best_of

Joints = NDArray[np.float32]

TRIES = 4
"""How often candidates are drawn until one can follow what was before."""


class Take(NamedTuple):
    """A motion that was chosen for a segment, with the judge's score and reason; None where it gave no verdict."""

    motion: Motion
    score: int | None
    reason: str


class Store(Protocol):
    """Where takes are kept, so that they need not be made again. A segment has several where one would be too long."""

    def get(self, number: int, piece: int, made_of: Mapping[str, Any]) -> Take | None:
        """The take of a segment, by its number and that of the piece, if it was made of the same."""
        ...

    def put(self, number: int, piece: int, made_of: Mapping[str, Any], take: Take) -> None:
        """Keep a take."""
        ...


@dataclass(frozen=True)
class Shown:
    """A segment and the frames of the long motion in which it happens, [start, end) at 20 fps."""

    number: int
    """From 1."""
    segment: Segment
    start: int
    end: int
    transition: Interval
    """Made-up frames that lead to it."""
    gets_up: Interval | None = None
    """Frames of the transition in which the body gets up."""
    pause: Interval | None = None
    """Frames of keeping still after it."""
    score: int | None = None
    """Of the judge; the lowest where the segment is made of several motions, None where one has no verdict."""
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Frames and seconds, and what the judge said."""
        values: dict[str, Any] = {
            "number": self.number,
            "text": self.segment.step.text,
            "frames": [self.start, self.end],
            "time_s": [self.start / FPS, self.end / FPS],
            "transition_frames": list(self.transition),
            "score": self.score,
            "reason": self.reason,
        }
        for name, interval in (("gets_up_frames", self.gets_up), ("pause_frames", self.pause)):
            if interval is not None:
                values[name] = list(interval)
        return values

    @property
    def caption(self) -> PlayerEvent:
        """The segment in its own words, at its time."""
        return PlayerEvent(self.segment.step.text, self.start / FPS, self.end / FPS)

    @property
    def player_events(self) -> list[PlayerEvent]:
        """The segment as bars of a player: what happens in few words, and getting up where that comes before."""
        words = ", ".join(map(label, self.segment.step.program.events))
        bars = [replace(self.caption, label=words)]
        if self.gets_up is not None:
            bars.insert(0, PlayerEvent("(get up)", self.gets_up.start / FPS, self.gets_up.end / FPS))
        return bars


class Part(NamedTuple):
    """What is final after one segment more: frames (T, 22, 3) at 20 fps, and the segments that have ended in them."""

    joints: Joints
    shown: tuple[Shown, ...]
    num_frames: int
    """Frames of the whole if it ended now."""
    is_last: bool = False


@dataclass(frozen=True)
class LongMotion:
    """A motion of many segments, and when each of them happens."""

    motion: Motion
    shown: tuple[Shown, ...]

    def player_events(self) -> list[PlayerEvent]:
        """The segments as the events of a player."""
        return [event for one in self.shown for event in one.player_events]

    def captions(self) -> list[PlayerEvent]:
        """The segments in their own words, at their times."""
        return [one.caption for one in self.shown]


def compose(
    model: TextToMotion,
    segments: Iterable[Segment],
    *,
    num_candidates: int = 4,
    judge: Judge | None = None,
    seed: int = 0,
    sampling: Sampling | None = None,
    plant: bool = True,
) -> LongMotion:
    """One motion of all segments, the best of `num_candidates` each by the judge (None: by rules on the joints).

    Candidates are set on their feet (`settled`) before the judge looks, unless `plant` is False. The same seed gives
    the same motion. Segments without seconds last as long as the model makes them; those of more than it can make in
    one are made of several, unless they count something: then what is left is kept still. Raises PlanError for no
    segment, for one of fewer than 0.4 s, and for one of which no candidate can follow what is before.
    """
    parts = list(
        stream(model, segments, num_candidates=num_candidates, judge=judge, seed=seed, sampling=sampling, plant=plant)
    )
    joints = np.concatenate([part.joints for part in parts])
    return LongMotion(Motion(joints, fps=FPS), tuple(shown for part in parts for shown in part.shown))


def stream(
    model: TextToMotion,
    segments: Iterable[Segment],
    *,
    num_candidates: int = 4,
    judge: Judge | None = None,
    seed: int = 0,
    sampling: Sampling | None = None,
    plant: bool = True,
    rolls: Mapping[int, int] | None = None,
    store: Store | None = None,
) -> Iterator[Part]:
    """The long motion of `compose`, part by part: after each segment what is final then, and at last the rest.

    Segments are asked for one by one, so that they may be planned while the motion is made. `rolls` says of segments,
    by their numbers from 1, how often they were made anew: each roll is another motion. Takes in the `store` are not
    made again.
    """
    maker = _Maker(model, num_candidates, judge or KinematicJudge(), seed, sampling, plant, rolls or {}, store)
    joiner = Joiner()
    opened: Shown | None = None
    for number, segment in enumerate(segments, start=1):
        frames: list[Joints] = []
        ended: list[Shown] = []
        lasted_s = 0.0
        for piece, length_s in enumerate(_lengths(segment, number, model.max_length_s)):
            take = maker.take(joiner, number, piece, segment.step, length_s)
            joined = joiner.append(take.motion)
            frames.append(joined.joints)
            lasted_s += take.motion.duration_s
            if piece == 0:
                if opened is not None:
                    ended.append(_ended(opened, joined.transition.start))
                opened = _begun(number, segment, joined, take)
            elif opened is not None and opened.score is not None and (take.score or 0) < opened.score:
                opened = replace(opened, score=take.score, reason=take.reason)
            # who has sat down does not sit down again
            if not is_upright(take.motion, -1):
                break
        assert opened is not None
        pause_s, asked_s = segment.pause_s, segment.step.seconds
        if asked_s is not None and asked_s > model.max_length_s:
            pause_s += max(asked_s - lasted_s, 0.0)
        if pause_s > 0:
            joined = joiner.pause(pause_s)
            frames.append(joined.joints)
            opened = replace(opened, end=joined.transition.start, pause=joined.transition)
        yield Part(np.concatenate(frames), tuple(ended), joiner.num_frames)
    if opened is None:
        raise PlanError("a long motion of no segment is none; give one or more")
    rest = joiner.finish()
    yield Part(rest, (_ended(opened, joiner.num_final),), joiner.num_frames, is_last=True)


def _begun(number: int, segment: Segment, joined: Joined, take: Take) -> Shown:
    """The segment when it begins; its end is not known yet."""
    start = joined.transition.end
    return Shown(
        number,
        segment,
        start,
        start,
        joined.transition,
        gets_up=joined.gets_up,
        score=take.score,
        reason=take.reason,
    )


def _ended(shown: Shown, frame: int) -> Shown:
    """The segment when what follows begins to be led to."""
    if shown.pause is None:
        return replace(shown, end=frame)
    return replace(shown, pause=Interval(shown.pause.start, frame))


def check_seconds(segments: Iterable[Segment]) -> None:
    """Raise PlanError, with the segment's number, for a time that is too short to be joined."""
    for number, segment in enumerate(segments, start=1):
        _check_seconds(segment, number)


def _check_seconds(segment: Segment, number: int) -> None:
    seconds = segment.step.seconds
    if seconds is not None and seconds < SHORTEST / FPS:
        raise PlanError(f"{seconds} s of segment {number} are too few; give {SHORTEST / FPS} s or more")


def _lengths(segment: Segment, number: int, longest_s: float) -> list[float | None]:
    """Seconds of the motions that a segment is made of, None where the model decides."""
    _check_seconds(segment, number)
    seconds = segment.step.seconds
    if seconds is None:
        return [None]
    if seconds > longest_s and any(isinstance(event.count, int) for event in segment.step.program.events):
        return [None]
    pieces = ceil(seconds / longest_s)
    return [seconds / pieces] * pieces


def seed_of(*parts: int) -> int:
    """One seed made of several numbers; others give another."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0]) >> 1


@dataclass(frozen=True)
class _Maker:
    """How the motions of segments are made, and where they are kept."""

    model: TextToMotion
    num_candidates: int
    judge: Judge
    seed: int
    sampling: Sampling | None
    plant: bool
    rolls: Mapping[int, int]
    store: Store | None

    def take(self, joiner: Joiner, number: int, piece: int, step: Step, length_s: float | None) -> Take:
        """The motion of a segment, or of a piece of it: the one that is kept, if it can follow what is before."""
        seed = [self.seed, number, piece, self.rolls.get(number, 0)]
        made_of = {
            **step.to_json(),
            "length_s": length_s,
            "num_candidates": self.num_candidates,
            "judge": self.judge.name,
            "seed": seed,
            "sampling": None if self.sampling is None else asdict(self.sampling),
            "plant": self.plant,
        }
        kept = self.store.get(number, piece, made_of) if self.store else None
        if kept is not None and joiner.takes(kept.motion):
            return kept
        take = self._drawn(joiner, step, length_s, seed)
        if self.store:
            self.store.put(number, piece, made_of, take)
        return take

    def _drawn(self, joiner: Joiner, step: Step, length_s: float | None, seed: list[int]) -> Take:
        """The best candidate that can follow what is before."""
        for attempt in range(TRIES):
            selection = best_of(
                self.model,
                step.text,
                self.num_candidates,
                judge=self.judge,
                program=step.program,
                keep=self.num_candidates,
                seed=seed_of(*seed, attempt),
                length_s=length_s,
                sampling=self.sampling,
                plant=self.plant,
            )
            for one in selection.kept:
                motion = replace(uniform(one.motion), caption=step.text)
                if len(motion) >= SHORTEST and joiner.takes(motion):
                    score = one.outcome.score if isinstance(one.outcome, Verdict) else None
                    return Take(motion, score, one.outcome.reason)
        raise PostureError(
            f"segment {seed[1]}, {step.text!r}, begins in a posture that nothing leads to, or is too short, in all "
            f"{TRIES * self.num_candidates} candidates; put before it how the body gets there, or word it otherwise"
        )
