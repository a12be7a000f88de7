"""Long motion read back: what happens when, step by step, what the steps are done for, and where: kinalign understand.

Segments come from segments.py. The motion-language model says each of them in a sentence, which is kept where it says
what the segment shows; else the segment is said in plain words. So is told only what was seen, in the model's words
where these are true. A planner, where there is one, makes tasks of the steps and a scene of both (AvatarGPT's s2t and
s2c).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from kinalign.errors import PlanError
from kinalign.evaluation.learned import EventDetector, shipped_detector
from kinalign.events.detect.detection import Detection
from kinalign.events.program import Event, EventProgram
from kinalign.events.say import label, plain
from kinalign.motion.motion import FPS, Motion
from kinalign.pipeline import MAX_FRAMES, TextToMotion
from kinalign.planning.named import planner_named
from kinalign.planning.plan import MOST_STEPS, Plan, Scene, Step, Task
from kinalign.planning.saying import NO_SIDE, events_said, tells
from kinalign.planning.segments import PAUSE_S, UNNAMED, segments
from kinalign.planning.tasks import Planner, Request
from kinalign.render.player import PlayerEvent, write_player
from kinalign.run import write_json

SHORTEST_READ = 16
"""Frames that the model is shown at least; around a shorter segment it sees what goes before and after."""
MOST_UNSEEN = 2
"""Events of a sentence at most that alone says what happens; one that says more is a guess."""
MOST_TOLD = 20
"""Steps, evenly spread, from which the scene is guessed."""
UNCOUNTED = frozenset("walk run dash wave twist turn spin dance".split())
"""Of these nobody says how often."""
MOST_COUNTED = 5
"""What happens more often happens several times."""
OWN_WAYS = {
    "up": frozenset("raise raise_knee raise_leg jump jumping_jack hop".split()),
    "down": frozenset("put_down pick_up squat crouch sit lie_down".split()),
    "forward": frozenset("bow bend throw kick punch".split()),
}
"""Ways that go without saying."""
Source = Literal["events", "model"]


@dataclass(frozen=True)
class TimedStep:
    """A step with when it happens; whether its words are the model's, and how sure it is that it happens.

    `event` is what was seen, with how often; None where only the model says what happens.
    """

    start_s: float
    end_s: float
    step: Step
    event: Event | None
    confidence: float
    words: Source

    @property
    def is_pause(self) -> bool:
        """Whether nothing is done but standing."""
        return self.event is not None and self.event.action in UNNAMED

    def to_json(self) -> dict[str, Any]:
        """The caption with seconds, the event that was seen and those that the words say."""
        return {
            "start_s": round(self.start_s, 2),
            "end_s": round(self.end_s, 2),
            "text": self.step.text,
            "program": self.step.program.to_json(),
            "seen": self.event.to_json() if self.event is not None else None,
            "confidence": self.confidence,
            "words": self.words,
        }


@dataclass(frozen=True)
class Understanding:
    """A motion read back: its steps in time, and the plan that they may be the steps of.

    `plan` is None without a planner; `problem` says why a planner made none.
    """

    seconds: float
    steps: tuple[TimedStep, ...]
    plan: Plan | None = None
    problem: str = ""

    @property
    def done(self) -> tuple[Step, ...]:
        """The steps without pauses."""
        return tuple(one.step for one in self.steps if not one.is_pause)

    def to_json(self) -> dict[str, Any]:
        plan = self.plan.to_json() if self.plan is not None else {"problem": self.problem} if self.problem else None
        return {"seconds": round(self.seconds, 2), "captions": [one.to_json() for one in self.steps], "plan": plan}


@dataclass(frozen=True)
class Reader:
    """What reads motions back: the detector of events and, where there are, a motion-language model and a planner."""

    detector: EventDetector
    model: TextToMotion | None = None
    planner: Planner | None = None

    def read(self, motion: Motion) -> tuple[TimedStep, ...]:
        """The steps of a motion, one after the other. Raises MotionError for one too short and of another skeleton."""
        found = segments(motion, self.detector)
        motion = motion.resample(FPS)
        gaps = _gaps(found, len(motion)) if self.model is not None else []
        frames = [(one.start, one.end) for one in found] + gaps
        captions = [""] * len(frames) if self.model is None else self.model.captions(_pieces(motion, frames))
        steps = [_seen(one, caption) for one, caption in zip(found, captions)]
        steps += [
            step for gap, caption in zip(gaps, captions[len(found) :]) if (step := _said(gap, caption)) is not None
        ]
        return tuple(sorted(steps, key=lambda step: step.start_s))

    def __call__(self, motion: Motion, *, seed: int = 0) -> Understanding:
        """Steps, and with a planner their tasks and the scene. Raises MotionError as `read`."""
        steps = self.read(motion)
        read = Understanding(motion.duration_s, steps)
        if self.planner is None:
            return read
        try:
            return Understanding(motion.duration_s, steps, self._plan(read.done, seed=seed))
        except PlanError as error:
            return Understanding(motion.duration_s, steps, problem=str(error))

    def _plan(self, steps: tuple[Step, ...], *, seed: int) -> Plan:
        if not steps:
            raise PlanError("nothing is done in this motion that has a name; there is nothing to make a plan of")
        assert self.planner is not None
        tasks = []
        for group in grouped(steps):
            task = self.planner(Request("s2t", steps=group), seed=seed)
            assert isinstance(task, Task)
            tasks.append(Task(task.text, group))
        places = np.linspace(0, len(steps) - 1, min(len(steps), MOST_TOLD)).round().astype(int)
        scene = self.planner(Request("s2c", steps=tuple(steps[place] for place in places)), seed=seed)
        assert isinstance(scene, Scene)
        return Plan(tuple(tasks), scene)


def grouped(steps: Sequence[Step]) -> list[tuple[Step, ...]]:
    """Steps in rows of at most five, all about as long: those of one task.

    >>> [len(group) for group in grouped([Step.of("a person walks")] * 12)]
    [4, 4, 4]
    """
    number = ceil(len(steps) / MOST_STEPS)
    edges = [round(place * len(steps) / number) for place in range(number + 1)]
    return [tuple(steps[start:end]) for start, end in pairwise(edges)]


def event_of(found: Detection) -> Event:
    """What a person would say of a detection: without a way that goes without saying, without steps that were counted.

    >>> event_of(Detection("raise", 0, 9, 1.0, "", "left", "up", 1, "hand"))
    Event(action='raise', side='left', direction='', count=1, part='hand', style='')
    """
    count = None if found.action in UNCOUNTED else found.count
    way = "" if found.action in OWN_WAYS.get(found.direction, ()) else found.direction
    side, part = ("", "") if found.action in NO_SIDE else (found.side, found.part)
    return Event(found.action, side, way, count, part)


def sentence_of(event: Event) -> str:
    """The event in plain words; that it happens once goes without saying, and what is hard to count is not counted."""
    count = event.count
    if isinstance(count, int):
        count = None if count == 1 else count if count <= MOST_COUNTED else "several"
    return plain(EventProgram(((replace(event, count=count),),)))


def _seen(found: Detection, caption: str) -> TimedStep:
    event = event_of(found)
    is_models = tells(caption, found)
    text = _sentence(caption) if is_models else sentence_of(event)
    start_s, end_s = found.start / FPS, found.end / FPS
    step = Step.of(text, end_s - start_s)
    return TimedStep(start_s, end_s, step, event, found.confidence, "model" if is_models else "events")


def _said(frames: tuple[int, int], caption: str) -> TimedStep | None:
    """What only the model says of a stretch; None where its sentence names no event, or too many."""
    if not 0 < len(events_said(caption)) <= MOST_UNSEEN:
        return None
    start_s, end_s = frames[0] / FPS, frames[1] / FPS
    return TimedStep(start_s, end_s, Step.of(_sentence(caption), end_s - start_s), None, 0.0, "model")


def _sentence(caption: str) -> str:
    return caption[0].upper() + caption[1:].rstrip(".") + "."


def _gaps(found: Sequence[Detection], num_frames: int) -> list[tuple[int, int]]:
    """Frames of a second or more in which nothing was seen, not even standing."""
    edges = [0, *(edge for one in found for edge in (one.start, one.end)), num_frames]
    return [(start, end) for start, end in zip(edges[::2], edges[1::2]) if end - start >= PAUSE_S * FPS]


def _pieces(motion: Motion, frames: Sequence[tuple[int, int]]) -> list[Motion]:
    """What the model is shown of each stretch: its middle, as much as it can read, and not too little."""
    pieces = []
    for start, end in frames:
        middle, length = (start + end) // 2, min(max(end - start, SHORTEST_READ), MAX_FRAMES)
        first = max(0, min(middle - length // 2, len(motion) - length))
        pieces.append(motion[first : first + length])
    return pieces


# --- the command ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Understand:
    """Say what happens in a long motion, from when to when; what it is done for; and where."""

    motion: tyro.conf.Positional[Path]
    """A motion of any length: bvh, npy, npz."""
    out: Path | None = None
    """A JSON file for all of it; it is printed in any case."""
    page: Path | None = None
    """An HTML page that plays the motion over its captions."""
    planner: str | None = None
    """Who says what the steps are done for, and where: embedded, llm:MODEL, or MODULE:CLASS; nobody where it is left
    out."""
    model: Path | None = None
    """Model folder; the shipped model where it is left out."""
    seed: int = 0
    threads: int = 1
    """Processor threads."""


def understand(config: Understand) -> Understanding:
    """Say what happens in a long motion, from when to when; what it is done for; and where."""
    import torch

    torch.set_num_threads(config.threads)
    motion = Motion.load(config.motion)
    planner = planner_named(config.planner) if config.planner is not None else None
    reader = Reader(shipped_detector(), TextToMotion.from_pretrained(config.model), planner)
    read = reader(motion, seed=config.seed)
    print("\n".join(told(read)))
    if config.out is not None:
        print(write_json(config.out, {"motion": config.motion.as_posix(), **read.to_json()}))
    if config.page is not None:
        print(write_player(motion, config.page, title=config.motion.name, events=bars(read)))
    return read


def told(read: Understanding) -> list[str]:
    """Lines for the terminal: a caption each, and what they are done for."""
    lines = [
        f"{one.start_s:7.1f} to {one.end_s:5.1f} s  {one.step.text:60}"
        f"{'' if one.event is None else label(one.event)} ({'model' if one.event is None else f'{one.confidence:.2f}'})"
        for one in read.steps
    ] or ["nothing happens here that has a name"]
    if read.plan is not None:
        assert read.plan.scene is not None
        lines += ["", f"scene: {read.plan.scene.text}"]
        lines += [f"task:  {task.text} ({len(task.steps)} steps)" for task in read.plan.tasks]
    if read.problem:
        lines += ["", f"no task and no scene: {read.problem}"]
    return lines


def bars(read: Understanding) -> list[PlayerEvent]:
    """The steps as bars of a player."""
    return [
        PlayerEvent(one.step.text, one.start_s, min(one.end_s, read.seconds), _side(one.event)) for one in read.steps
    ]


def _side(event: Event | None) -> Literal["left", "right"] | None:
    if event is None:
        return None
    return "left" if event.side == "left" else "right" if event.side == "right" else None
