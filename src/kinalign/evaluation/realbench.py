"""Questions about motions that nobody composed: trials with labelled frame ranges, and clips counted by eye.

They are asked as EventBench's are, so that a judge's accuracy there can be held against that on composed clips.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kinalign.data.records import Clip
from kinalign.errors import EvaluationError, ProgramError
from kinalign.evaluation.detector import truth_of
from kinalign.evaluation.eventbench import (
    BenchCase,
    EventBench,
    Kind,
    Piece,
    Prompt,
    Shown,
    as_worded,
    with_partners,
    worded,
)
from kinalign.events.compose import Interval
from kinalign.events.program import Event, EventProgram
from kinalign.events.say import say
from kinalign.judge.rubric import SubTask
from kinalign.motion.motion import Motion

TRIALS = ("cmu_13_29", "cmu_13_30", "cmu_13_31", "cmu_14_14", "cmu_14_20", "cmu_86_01", "cmu_86_09")
"""CMU trials in which frame ranges are labelled."""
LABELS = {
    "ArmCircle": "rotate_arm",
    "Jog": "run",
    "JumpJack": "jumping_jack",
    "KneeRaise": "raise_knee",
    "Squat": "squat",
    "ToeTouchOneHand": "bend",
    "ToeTouchTwoHands": "bend",
    "Twist": "twist",
    "UpDown": "reach",
    "clap": "clap",
    "jump": "jump",
    "leg_kick": "kick",
    "look_around": "look",
    "punch": "punch",
    "stand_and_clap": "clap",
    "walk": "walk",
}
"""What a prompt calls the ranges."""
EVENTS = 3
"""Ranges in a row that one prompt is about, as AToM's prompts name three events."""


def trial_bench(clips: Sequence[Clip]) -> EventBench:
    """Each three ranges in a row of the labelled trials, with a right prompt, a wrong order, and an event too many.

    `clips` are whole clips and cut ones, as `load_openmocap` gives them without and with `cut_events`. Three of which
    two show the same are left out. The event too many is one of other trials that none of the three ranges may hold.
    """
    whole = {clip.id: clip.motion for clip in clips if clip.id in TRIALS}
    ranges: dict[str, list[Clip]] = {name: [] for name in whole}
    for clip in clips:
        if clip.parent in ranges:
            ranges[clip.parent].append(clip)
    known = dict.fromkeys(LABELS[clip.label] for parts in ranges.values() for clip in parts)
    cases: list[BenchCase] = []
    motions: dict[tuple[Piece, ...], Motion] = {}
    for name, parts in ranges.items():
        for at in range(len(parts) - EVENTS + 1):
            three = parts[at : at + EVENTS]
            events = [as_worded(Event(LABELS[clip.label])) for clip in three]
            if any(a is not b and LABELS[a.label] in _certain(b) for a in three for b in three):
                continue
            first, last = _range(three[0]), _range(three[-1])
            recipe = (Piece(f"{name}@{first.start}-{last.end}", False, 1),)
            motions[recipe] = whole[name][first.start : last.end]
            shown = tuple(
                (event, Interval(start - first.start, end - first.start))
                for event, (start, end) in zip(events, map(_range, three))
            )
            held = {action for clip in three for action in _possible(clip)}
            strangers = [action for action in known if action not in held | {"look"}]  # who moves also looks
            stranger = as_worded(Event(strangers[at % len(strangers)]))
            swapped = [events[1], events[0], events[2]] if at % 2 else [events[0], events[2], events[1]]
            replaced = [stranger if place == at % EVENTS else event for place, event in enumerate(events)]
            wrong: tuple[tuple[Kind, list[Event]], ...] = (("order", swapped), ("dropped", replaced))
            for kind, other in wrong:
                prompts = _spoken(
                    [EventProgram(tuple((event,) for event in row)) for row in (events, other)], len(cases)
                )
                cases += _asked(f"{recipe[0].clip}-{kind}", "temporal", kind, prompts, recipe, shown)
    return EventBench(tuple(cases), motions)


def _range(clip: Clip) -> Interval:
    """The frames of a clip TRIAL@START in its trial."""
    start = int(clip.id.rpartition("@")[2])
    return Interval(start, start + len(clip.motion))


def _certain(clip: Clip) -> set[str]:
    """Actions that happen in a labelled range."""
    truth = truth_of(clip)
    return {LABELS[clip.label], *(event["action"] for event in (truth.events if truth else ()))}


def _possible(clip: Clip) -> set[str]:
    """Actions that may happen in a labelled range."""
    truth = truth_of(clip)
    return _certain(clip) | (truth.may if truth else set())


def counted_bench(path: Path, clips: Sequence[Clip]) -> EventBench:
    """Clips counted by eye, each with the right count and with counts that are off by one.

    The file is a JSON list of {"clip", "action", "side", "count"}, with "start" and "end" where a part of the clip was
    counted; counts whose "sure" is false are left out. Raises EvaluationError for a file of another kind and for clips
    that are not there.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} cannot be read as JSON ({error}) (--counted)") from error
    by_id = {clip.id: clip for clip in clips}
    cases: list[BenchCase] = []
    motions: dict[tuple[Piece, ...], Motion] = {}
    for number, row in enumerate(rows):
        try:
            if not row.get("sure", True):
                continue
            clip, start, end = by_id[row["clip"]], row.get("start") or 0, row.get("end")
            times = int(row["count"])
            event = as_worded(Event(row["action"], row.get("side") or "", count=times))
        except (AttributeError, KeyError, TypeError, ValueError, ProgramError) as error:
            raise EvaluationError(
                f"{path}, entry {number} is {row!r}, which counts no event of a clip of this data ({error!r})"
            ) from error
        motion = clip.motion[start : len(clip.motion) if end is None else end]
        name = f"{clip.id}@{start}-{start + len(motion)}"
        recipe = (Piece(name, False, 1),)
        motions[recipe] = motion
        counts = [times, *(count for count in (times - 1, times + 1) if count >= 1)]
        prompts = _spoken([EventProgram(((replace(event, count=count),),)) for count in counts], number)
        shown = ((event, Interval(0, len(motion))),)
        cases += _asked(f"{name}-{event.action}", "frequency", "count", prompts, recipe, shown)
    return EventBench(tuple(cases), motions)


def _spoken(programs: Sequence[EventProgram], seed: int) -> list[Prompt]:
    return worded(programs, seed) or [Prompt(say(program, seed), program) for program in programs]


def _asked(
    name: str, task: SubTask, kind: Kind, prompts: Sequence[Prompt], recipe: tuple[Piece, ...], shown: Shown
) -> list[BenchCase]:
    """One motion with a right prompt and wrong ones."""
    return with_partners(
        [BenchCase.of(f"{name}-{'abc'[at]}1", task, kind, prompt, recipe, shown) for at, prompt in enumerate(prompts)]
    )
