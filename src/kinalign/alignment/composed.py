"""Motions in which the events of a prompt happen, made of real clips: what a model is shown before it is given rewards.

Excerpts are cut out of clips (events/excerpts.py): what a clip's words name and the detector finds. Those of a prompt
are put together as its program asks, a judge looks at the whole, and only what is all right is kept. The clips are
those that the model has learned from already; only their combinations are new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from kinalign.data.records import Clip
from kinalign.errors import DataError, KinalignError
from kinalign.evaluation.detector import truth_of
from kinalign.events.detect import detect_all
from kinalign.events.excerpts import Composer, Excerpt, cut
from kinalign.events.parse import parse
from kinalign.judge.prompts import EventPrompt
from kinalign.judge.verdict import Case, Judge
from kinalign.motion.joining import uniform
from kinalign.motion.motion import Motion

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
                found += cut(clip.id, motion, detection)
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
        motions = [composer.motion(prompt.program) for _ in range(copies)]
        made += [ComposedMotion(prompt, motion) for motion in motions if motion is not None]
        advance()
    outcomes = judge.judge_all(
        [Case(one.prompt.prompt, one.motion, one.prompt.program, one.prompt.task) for one in made]
    )
    right = [one for one, said in zip(made, outcomes) if said.is_right]
    if not right:
        missing = ", ".join(f"{action} ({times})" for action, times in composer.missing.most_common(5))
        raise DataError(
            f"no motion of {len(prompts)} prompts could be composed of {len(excerpts)} parts of clips; "
            f"parts are missing for {missing or 'nothing, but they do not fit together'}"
        )
    return right
