"""A prompt event by event: each event is made by itself, cut to what shows it, and joined to the others.

A model that was taught on clips of one action does one event well and of several shows one or two; counts it follows
loosely. So it is asked for each event alone, a few times and in a few wordings; the detector says where the event is in
what comes, with which repetitions; these excerpts are put together as the prompt's program asks (events/excerpts.py),
several times over, and a judge keeps the best whole. Long motion from plans is planning/compose.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kinalign.events.detect import DETECTED, detect_all
from kinalign.events.excerpts import MOST_FRAMES, Composer, Excerpt, cut
from kinalign.events.parse import parse
from kinalign.events.program import EventProgram
from kinalign.events.say import wordings
from kinalign.judge.kinematic import KinematicJudge
from kinalign.judge.rubric import SubTask, sub_task_of
from kinalign.judge.verdict import Case, Judge
from kinalign.lm.model import Sampling
from kinalign.motion.joining import is_upright, uniform
from kinalign.motion.motion import Motion
from kinalign.motion.planting import settled
from kinalign.pipeline import TextToMotion
from kinalign.selection import Selection, check_numbers, chosen

WORDINGS = 4
"""Texts in which the model is asked for an event."""
CANDIDATES = 4
"""Motions that are made for each of them."""
WHOLES = 8
"""Motions that are put together of what was made, for a judge to choose from."""
MARGINS = (12, 4)
"""Frames that are kept before and after an event: a limb comes and goes in many, few join more often."""
EVENT_FRAMES = 65
"""Frames that each event, and each repetition of it, may take where all are more than one motion of the model holds."""


def by_events(
    model: TextToMotion,
    prompt: str,
    n: int = WHOLES,
    *,
    judge: Judge | None = None,
    task: SubTask | None = None,
    keep: int = 1,
    seed: int = 0,
    sampling: Sampling | None = None,
    plant: bool = True,
) -> Selection:
    """The best of `n` motions that are put together of events made one by one, by the judge; None is the one by rules.

    Events that the model does not show even alone are left out, and `n` motions of the whole prompt are looked at too:
    so it is where nothing can be put together. All are set on their feet (`settled`) before the judge looks, unless
    `plant` is False. The same seed gives the same motions. Raises PromptError for a prompt
    that names no event, ConfigError as `best_of`.
    """
    check_numbers(n, keep)
    judge, program = judge or KinematicJudge(), parse(prompt)
    task = task or sub_task_of(program)
    times = sum(event.count if isinstance(event.count, int) else 1 for event in program.events)
    excerpts = list(event_excerpts(model, program, seed=seed, sampling=sampling))
    composer = Composer(excerpts, seed, most_frames=max(MOST_FRAMES, EVENT_FRAMES * times))
    steps = tuple(tuple(event for event in step if composer.shows(event)) for step in program.steps)
    motions: list[Motion] = []
    if any(steps):
        shown = EventProgram(tuple(filter(None, steps)))
        motions = [replace(motion, caption=prompt) for _ in range(n) if (motion := composer.motion(shown)) is not None]
    if steps != program.steps or len(motions) < keep:
        motions += model(prompt, num_candidates=n, seed=seed, sampling=sampling)
    if plant:
        motions = [settled(motion) for motion in motions]
    return chosen(prompt, judge, [Case(prompt, motion, program, task) for motion in motions], keep=keep)


def event_excerpts(
    model: TextToMotion, program: EventProgram, *, seed: int = 0, sampling: Sampling | None = None
) -> Iterator[Excerpt]:
    """What shows the program's events in motions that are made for each of them alone.

    Each one is there mirrored too: a model that punches with one hand alone then punches with both. Of an event that
    the detector does not know all of each motion is taken: that it is there only the model says.
    """
    events = list(dict.fromkeys(replace(event, count=None) for event in program.events))
    asked = [(event, text) for event in events for text in wordings(EventProgram(((event,),)), WORDINGS, seed)]
    answers = model.generate([text for _, text in asked], num_candidates=CANDIDATES, seed=seed, sampling=sampling)
    known = {event.action for event in events} & DETECTED
    for (event, text), generated in zip(asked, answers):
        motions = [uniform(motion) for motion in generated.motions]
        for motion, detections in zip(motions, detect_all(motions)):
            for detection in detections:
                if detection.action in known:
                    for excerpt in (one for margin in MARGINS for one in cut(text, motion, detection, margin=margin)):
                        yield excerpt
                        yield excerpt.mirrored
            if event.action not in DETECTED:
                yield Excerpt(text, motion, event, is_upright(motion, 0), is_upright(motion, -1))
