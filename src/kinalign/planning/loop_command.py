"""`kinalign loop`: a long motion that is read back while it is made, from a scene, or on from a motion that is there.

OUT holds what `kinalign compose` writes, and loop.json: for every segment what was tried, what the judge and the
caption said, and why it went on. A run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch

from kinalign.commands import adapter_shares
from kinalign.errors import ConfigError, PlanError, PostureError
from kinalign.evaluation.learned import shipped_detector
from kinalign.events.compose import Clip
from kinalign.events.program import EventProgram
from kinalign.judge.named import judge_named
from kinalign.judge.verdict import Judge
from kinalign.motion.joining import uniform
from kinalign.motion.motion import FPS, Motion
from kinalign.pipeline import TextToMotion
from kinalign.planning.compose import LongMotion, Shown, stream
from kinalign.planning.compose_command import (
    FolderOfTakes,
    LongFormat,
    LongMaking,
    Reel,
    planned,
    told,
    write_long,
)
from kinalign.planning.loop import Chooser, Log
from kinalign.planning.named import planner_named
from kinalign.planning.plan import MOST_CHARACTERS, Scene, Step, Task
from kinalign.planning.tasks import Planner
from kinalign.planning.timeline import Segment
from kinalign.planning.understand import Reader, Understanding
from kinalign.run import locked, progress

MOST_LEFT_OUT = 8
"""Steps, at most, without which it goes on, because no motion of them begins where the body is."""


@dataclass(frozen=True)
class Loop(LongMaking):
    """Plan, move, look at it, and go on: a long motion of which every step was read back."""

    scene: str | None = None
    """Where somebody is and what goes on; guessed from the motion where that is given."""
    motion: Path | None = None
    """A motion to go on from: bvh, npy, npz."""
    minutes: float = 1.0
    """How much to make, at least."""
    candidates: int = 4
    """Motions that are drawn in a round for a step."""
    rounds: int = 3
    """Rounds for a step, at most, until one motion is right and says so when it is read back."""


class Given(NamedTuple):
    """A motion to go on from, what was read in it, and the segment that it is."""

    motion: Motion
    read: Understanding
    segment: Segment

    @property
    def tasks(self) -> tuple[Task, ...]:
        return self.read.plan.tasks if self.read.plan is not None else ()

    def shown(self, whole: Shown) -> tuple[Shown, ...]:
        """The steps that were read in it, in frames of the long motion in which it is `whole`."""
        head = Clip.of(uniform(self.motion)).heads[0]  # idle frames before it are left out
        task_of = {id(step): task.text for task in self.tasks for step in task.steps}
        rows = []
        for one in self.read.steps:
            start, end = (min(max(round(time * FPS) - head, 0), whole.end) for time in (one.start_s, one.end_s))
            if not one.is_pause and start < end:
                segment = Segment(one.step, task=task_of.get(id(one.step), ""))
                rows.append(replace(whole, segment=segment, start=start, end=end, reason="given"))
        return tuple(rows) or (whole,)


def loop(config: Loop) -> LongMotion:
    """Plan, move, look at it, and go on; prints what happens when, why it went on, and what was written."""
    if not config.formats:
        raise ConfigError(f"formats is empty; name one or more of {', '.join(get_args(LongFormat))} (--formats)")
    if config.scene is None and config.motion is None:
        raise ConfigError("a loop begins with a scene or with a motion; give one of them (--scene, --motion)")
    for name in ("minutes", "candidates", "rounds"):
        value = getattr(config, name)
        if not 0 < value < float("inf"):
            raise ConfigError(f"{name}={value} must be above 0 (--{name})")
    scene = None if config.scene is None else Scene(config.scene)
    start = None if config.motion is None else Motion.load(config.motion)
    judge, planner = judge_named(config.judge), planner_named(config.planner)
    torch.set_num_threads(config.threads)
    model = TextToMotion.from_pretrained(config.model, adapter=adapter_shares(config.adapter) or None)
    given = None if start is None else read_given(start, Reader(shipped_detector(), model, planner), seed=config.seed)
    if scene is None:
        assert given is not None
        scene = scene_of(given.read)
    with locked(config.out):
        long, log = _made(config, scene, given, model, judge, planner)
        written = [log.path, *write_long(long, config, scene=scene.text)]
    for shown in long.shown:
        print(told(shown))
        if (row := log.rows.get(str(shown.number))) is not None:
            print(f"      {row['why']}")
    print(_summary(log))
    for path in written:
        print(path)
    return long


def read_given(motion: Motion, reader: Reader, *, seed: int) -> Given:
    """A motion read back, so that one can go on from it. Raises MotionError for one that cannot be read."""
    read = reader(motion, seed=seed)
    if not read.done:
        raise PlanError("nothing is done in this motion that has a name; there is nothing to go on from (--motion)")
    text = read.done[0].text
    for step in read.done[1:]:
        if len(text) + len(step.text) < MOST_CHARACTERS:
            text += f" {step.text}"
    program = EventProgram(tuple(events for step in read.done for events in step.program.steps))
    return Given(motion, read, Segment(Step(text, program)))


def scene_of(read: Understanding) -> Scene:
    """The scene that was read in a motion; raises PlanError, with why, where there is none."""
    if read.plan is None or read.plan.scene is None:
        raise PlanError(f"no scene was read in the motion: {read.problem or 'there is no planner'}; say it (--scene)")
    return read.plan.scene


def _made(
    config: Loop, scene: Scene, given: Given | None, model: TextToMotion, judge: Judge, planner: Planner
) -> tuple[LongMotion, Log]:
    asked: dict[str, Any] = {
        "scene": scene.text,
        "planner": planner.name,
        "judge": judge.name,
        "candidates": config.candidates,
        "rounds": config.rounds,
        "seed": config.seed,
    }
    if given is not None:
        asked["given"] = {"motion": str(config.motion), **given.read.to_json()}
    log = Log(config.out / "loop.json", asked)
    takes = FolderOfTakes(config.out / "takes", {"model": model.name, "adapter": list(config.adapter)})
    body = None if given is None else uniform(given.motion)
    wanted = (0 if body is None else len(body)) + round(60 * FPS * config.minutes)
    past = () if given is None else given.tasks

    def run(left_out: Collection[int]) -> LongMotion:
        """The motion of all steps that are planned but some, by their places in the plan."""
        reel = Reel(config.out, title=scene.text, with_page="html" in config.formats)

        def segments() -> Iterator[Segment]:
            if given is not None:
                yield given.segment
            plan = planned(scene, planner, reel, wanted, seed=config.seed, after=past)
            for place, segment in enumerate(plan):
                if place not in left_out:
                    places.append(place)
                    yield segment

        chooser = Chooser(model, judge, takes, log, rounds=config.rounds, given=body)
        parts = stream(
            model, segments(), num_candidates=config.candidates, judge=judge, seed=config.seed, store=chooser
        )
        with progress("loop", total=wanted) as advance:
            for part in parts:
                before = reel.num_frames
                reel.add(part)
                advance(reel.num_frames - before, note=f"{reel.num_frames / FPS:.0f} s")
        return reel.finish()

    places: list[int] = []
    left_out: dict[int, str] = {}
    while True:
        try:
            long = run(left_out)
            break
        except PostureError as error:
            # the takes before it are kept: only joining them is done again
            if len(left_out) == MOST_LEFT_OUT:
                raise
            left_out[places[-1]] = str(error)
    log.asked["left_out"] = list(left_out.values())
    log.finish({shown.number for shown in long.shown})
    if given is not None:
        first, *later = long.shown
        long = replace(long, shown=(*given.shown(first), *later))
    return long, log


def _summary(log: Log) -> str:
    rows = list(log.rows.values())
    fits = sum(row["fits"] for row in rows)
    right = sum(row["score"] == 5 for row in rows)
    drawn = sum(row["drawn"] for row in rows)
    without = (
        f"; {number} planned steps left out, which nothing leads to" if (number := len(log.asked["left_out"])) else ""
    )
    return (
        f"{len(rows)} segments: {right} right by the judge, {fits} of which the caption says the step too; "
        f"{drawn} motions drawn{without}"
    )
