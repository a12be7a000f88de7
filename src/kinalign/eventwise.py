"""A prompt whole, and where nothing of that is right, event by event: each made by itself, cut out and joined.

A model that was taught on clips of one action in the words of their captions does one event in such words well, of
several it shows one or two, and counts it follows loosely. So a prompt is asked for as it stands, a few times; where no
motion of that is right, it is read and each of its events asked for alone, a few times and in a few plain wordings.
One event is a whole motion of these. For several and for counts the detector says where an event is in what comes, with
which repetitions; these excerpts are put together as the prompt's program asks (events/excerpts.py), several times
over. A judge keeps the best of all. Long motion from plans is planning/compose.py's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from kinalign.events.compose import SHORTEST, Part, compose
from kinalign.events.detect import DETECTED, detect_all
from kinalign.events.excerpts import MOST_FRAMES, ROUGHEST, Composer, Excerpt, cut, shown_by
from kinalign.events.lasting import seconds_in, seconds_of_events
from kinalign.events.program import BACKWARDS, DIPS, RISING, Event, EventProgram
from kinalign.events.say import plain, wordings
from kinalign.judge.kinematic import KinematicJudge
from kinalign.judge.rubric import SubTask, sub_task_of
from kinalign.judge.signs import sign_of
from kinalign.judge.verdict import Case, Judge, Verdict
from kinalign.lm.model import Sampling
from kinalign.motion.joining import is_upright, uniform
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.planting import settled
from kinalign.motion.skeleton import HUMANML3D
from kinalign.motion.synthetic import standing
from kinalign.pipeline import TextToMotion
from kinalign.selection import SHORTEST_S, Judged, Selection, check_numbers, chosen

WORDINGS = 4
"""Texts in which the model is asked for an event, the plainest first."""
CANDIDATES = 4
"""Motions that are made for each of them."""
WHOLES = 8
"""Motions of a prompt as it stands, and as many of its events made one by one, for a judge to choose from."""
MARGINS = (12, 4)
"""Frames that are kept before and after an event: a limb comes and goes in many, few join more often."""
EVENT_FRAMES = 65
"""Frames that each event, and each repetition of it, may take where all are more than one motion of the model holds."""
CLEAR = 0.95
"""Confidence from which on an event is plain to see; a raised hand that stops at the chin is not."""
AT_LARGE = "energetically"
"""The manner in which movements are largest: hands go all the way up, and bows deep down."""
STANDING_FRAMES = 10
"""Frames of standing before and after what is over before one has seen it."""

_DOWN = {up: down for down, up in BACKWARDS.items() if up in RISING}


def is_readable(program: EventProgram) -> bool:
    """Whether a program says enough of its prompt that its events can be asked for in its stead.

    A verb that has no name of its own is more than what is read of it, and of a single event that joints do not show
    nobody can say which motion is better.
    """
    if not all(event.is_named for event in program.events):
        return False
    return len(program.events) > 1 or sign_of(program.events[0]) is not None


def by_events(
    model: TextToMotion,
    prompt: str,
    n: int = WHOLES,
    *,
    judge: Judge | None = None,
    program: EventProgram | None = None,
    task: SubTask | None = None,
    keep: int = 1,
    seed: int = 0,
    sampling: Sampling | None = None,
    plant: bool = True,
) -> Selection:
    """The best of `n` motions of a prompt where `keep` are right, else the best of these and `n` of its events alone.

    The judge says what is right; None is the one by rules. A single event of which no manner is said must be plain to
    see as well. What cannot be judged is made of its events, the `program`, read from the prompt where it is left out.
    Where the prompt says for how many seconds, its one event lasts so long, or that of several of which it is said; the
    model's longest motion at most. Events that the model does not show even alone are left out. All are set on their
    feet (`settled`) before the judge looks, unless `plant` is False. The same seed gives the same motions. Raises
    PromptError for a prompt that names no event, ConfigError as `best_of`.
    """
    check_numbers(n, keep)
    judge, program = judge or KinematicJudge(), program or model.program_of(prompt)
    task = task or sub_task_of(program)
    lasts = {
        event: _within(model, seconds)
        for event, seconds in zip(program.events, seconds_of_events(prompt, program))
        if seconds is not None
    }

    def best(motions: Sequence[Motion], after: Selection | None = None) -> Selection:
        feet = [settled(motion) for motion in motions] if plant else motions
        cases = [Case(prompt, replace(motion, caption=prompt), program, task) for motion in feet]
        return chosen(prompt, judge, cases, keep=keep, after=after)

    only = program.events[0] if len(program.events) == 1 else None
    length_s = length_said(model, prompt, program)
    own = model(prompt, num_candidates=n, seed=seed, length_s=length_s, sampling=sampling)
    whole = best(own if length_s is not None else [from_standing(motion) for motion in own])
    are_right = all(one.is_right and one.motion.duration_s >= SHORTEST_S for one in whole.kept)
    is_done_whole = only is not None and only.count is None and only.action not in RISING
    is_plain = is_done_whole and not any(event.style for event in program.events)
    # several events put together of pieces look worse than a whole motion with a hop too many
    if only is not None:
        are_right &= not any(one.besides for one in whole.kept)
    if is_plain:
        are_right &= all(_is_clear(one) for one in whole.kept)
    if are_right or not is_readable(program):
        return whole
    takes = event_takes(model, program, lasts, at_large=is_plain, seed=seed, sampling=sampling)
    if is_done_whole:
        cases = [Case(prompt, motion, program, task) for motion in _both_ways(takes)]
        motions = chosen(prompt, KinematicJudge(), cases, keep=n).motions
    else:
        if only:
            takes = [*(Take(only, prompt, uniform(motion)) for motion in own), *takes]
        motions = _composed(program, takes, lasts, n, seed)
    if whole.num_invalid == whole.num_drawn and len(motions) >= keep:
        return best(motions)
    return best(motions, after=whole)


def _is_clear(one: Judged) -> bool:
    return isinstance(one.outcome, Verdict) and all(finding.confidence >= CLEAR for finding in one.outcome.findings)


def from_standing(motion: Motion) -> Motion:
    """A motion of less than a second, as a hop, between standing before and after; any other one as it is.

    So it is too where it begins or ends low, or cannot be joined to a body that stands without jerking.
    """
    if motion.duration_s >= SHORTEST_S or motion.skeleton.num_joints != HUMANML3D.num_joints:
        return motion
    return _between_standing(uniform(motion)) or motion


def _between_standing(motion: Motion) -> Motion | None:
    if len(motion) < SHORTEST or not (is_upright(motion, 0) and is_upright(motion, -1)):
        return None
    stand = Part(uniform(standing(STANDING_FRAMES)), Event("stand"))
    made = compose([stand, Part(motion, Event("stand")), stand])
    return replace(made.motion, caption=motion.caption) if made.jerk <= ROUGHEST else None


def length_said(model: TextToMotion, prompt: str, program: EventProgram | None) -> float | None:
    """How long a motion of the whole prompt lasts by its own words, as near as the model comes; None if nothing says.

    Seconds of one event of several say nothing of the whole. `program` is None where no event can be read.
    """
    seconds = seconds_in(prompt) if program is None or len(program.events) == 1 else None
    return None if seconds is None else _within(model, seconds)


def _within(model: TextToMotion, seconds: float) -> float:
    """The length nearest to `seconds` that the model makes."""
    return min(max(seconds, model.min_length_s), model.max_length_s)


class Take(NamedTuple):
    """A uniform motion that was made for an event, and the text of which."""

    event: Event
    text: str
    motion: Motion


def event_takes(
    model: TextToMotion,
    program: EventProgram,
    lasts: Mapping[Event, float] = MappingProxyType({}),
    *,
    at_large: bool = False,
    seed: int = 0,
    sampling: Sampling | None = None,
) -> list[Take]:
    """Motions for each of the program's events alone, without its count, in a few wordings; `lasts` seconds.

    An event of a name that the detector does not know, but signs of it, is asked for by the first of these as well, and
    with `at_large` each in the manner in which movements are largest; as these begin at once, they are led to from
    standing as well, unless it is said how long they last. One that rises is another one backwards: models of single
    actions see few that begin low.
    """
    takes = []
    for event in dict.fromkeys(replace(event, count=None) for event in program.events):
        length_s = next((lasts[one] for one in lasts if replace(one, count=None) == event), None)
        down = _DOWN.get(event.action)
        asked = [Event(down) if down else event]
        sign = sign_of(event)
        if sign is not None and not down and event.action not in sign.actions:
            asked.append(replace(event, action=sign.actions[0]))
        if at_large:
            asked.append(replace(asked[0], style=AT_LARGE))
        by_text = {text: one for one in asked for text in _texts(one, seed)}
        answers = model.generate([*by_text], num_candidates=CANDIDATES, seed=seed, length_s=length_s, sampling=sampling)
        for (text, one), generated in zip(by_text.items(), answers):
            motions = [uniform(motion) for motion in generated.motions]
            if at_large and one.style == AT_LARGE and length_s is None:
                motions += [led for motion in motions if (led := _between_standing(motion)) is not None]
            takes += [Take(event, text, motion.backwards() if down else motion) for motion in motions]
    return takes


def _texts(event: Event, seed: int) -> tuple[str, ...]:
    program = EventProgram(((event,),))
    return plain(program), *wordings(program, WORDINGS - 1, seed)


def excerpts_of(takes: Sequence[Take], lasts: Mapping[Event, float] = MappingProxyType({})) -> Iterator[Excerpt]:
    """What shows the events of takes in them.

    Each one is there mirrored too: a model that punches with one hand alone then punches with both. Of an event that
    the detector does not know all of each motion is taken: that it is there only the model says. So it is of one that
    lasts for seconds that are said, where it is found.
    """
    known = {take.event.action for take in takes} & DETECTED
    timed = {event.action for event in lasts}
    for (event, text, motion), detections in zip(takes, detect_all([take.motion for take in takes])):
        upright = is_upright(motion, 0), is_upright(motion, -1)
        for detection in detections:
            if detection.action not in known:
                continue
            found = list(cut(text, motion, detection, margin=MARGINS[0]))
            found += cut(text, motion, detection, margin=MARGINS[1])
            if detection.action == event.action in timed:
                found.append(Excerpt(text, motion, shown_by(detection), *upright))
            for excerpt in found:
                yield excerpt
                yield excerpt.mirrored
        if event.action not in DETECTED:
            yield Excerpt(text, motion, event, *upright)


def _both_ways(takes: Sequence[Take]) -> Iterator[Motion]:
    """The motions, and those of events with a side or a way to one in the mirror too."""
    for event, _, motion in takes:
        yield motion
        if event.mirrored != event:
            yield motion.mirror()


def _composed(
    program: EventProgram, takes: Sequence[Take], lasts: Mapping[Event, float], n: int, seed: int
) -> list[Motion]:
    """Up to `n` motions put together of excerpts, without events of which there is none."""
    times = sum(event.count if isinstance(event.count, int) else 1 for event in program.events)
    frames = max(MOST_FRAMES, EVENT_FRAMES * times + sum(round(seconds * FPS) for seconds in lasts.values()))
    composer = Composer(list(excerpts_of(takes, lasts)), seed, most_frames=frames)
    steps = []
    for before, step in zip(((), *program.steps), program.steps):
        # who squats comes up again by that
        has_risen = any(event.action in DIPS for event in before)
        events = [event for event in step if composer.shows(event) and not (has_risen and event.action in RISING)]
        steps.append(tuple(events))
    if not any(steps):
        return []
    shown = EventProgram(tuple(filter(None, steps)))
    made = (composer.motion(shown, lasts) for _ in range(n))
    return [from_standing(motion) for motion in made if motion is not None]
