"""What is said to the language model: a caption, alone or with the length that its motion shall have.

A task knows what its templates need; a template is text with placeholders. A bare prompt is a template too, and the
most frequent one, so that what a user types is what the model was trained on. Strings and numbers only, no motions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

import numpy as np

from kinalign.errors import ConfigError

FPS = 20.0
"""Frames per second of every motion that the model speaks of, when nothing else is said."""


class Task(Enum):
    """What the model is asked to do; `needs` names what a template of the task has to be filled with."""

    TEXT_TO_MOTION = frozenset({"caption"})
    TEXT_FRAMES_TO_MOTION = frozenset({"caption", "frames"})
    TEXT_SECONDS_TO_MOTION = frozenset({"caption", "seconds"})

    @property
    def needs(self) -> frozenset[str]:
        return self.value


@dataclass(frozen=True)
class Instruction:
    """Text with placeholders for one task: {caption}; {frames} '80'; and of seconds one of

    {seconds} '4.2', {duration} '4.2 seconds', {about} '4 seconds', {spoken} 'four seconds'.
    """

    task: Task
    text: str

    def __post_init__(self) -> None:
        asked = {_NEED_OF.get(name, "") for name in _PLACEHOLDER.findall(self.text)}
        if "" in asked:
            raise ConfigError(f"template {self.text!r} has an unknown placeholder; use {', '.join(_NEED_OF)}")
        if asked != self.task.needs:
            needs = ", ".join(sorted(self.task.needs))
            raise ConfigError(f"template {self.text!r} must speak of {needs} for task {self.task.name.lower()}")


_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_NEED_OF = {
    "caption": "caption",
    "frames": "frames",
    **dict.fromkeys(("seconds", "duration", "about", "spoken"), "seconds"),
}
_ROUNDED = re.compile(r"\{(?:about|spoken)\}")

BARE = Instruction(Task.TEXT_TO_MOTION, "{caption}")
"""What a user's prompt becomes."""
BARE_WITH_LENGTH = Instruction(Task.TEXT_SECONDS_TO_MOTION, "{caption} for {duration}")
"""What a user's prompt becomes when a length is asked for beside it."""

TEMPLATES: dict[Task, tuple[Instruction, ...]] = {
    task: tuple(Instruction(task, text) for text in texts)
    for task, texts in {
        Task.TEXT_TO_MOTION: (
            "motion: {caption}",
            "generate a motion: {caption}",
            "show {caption}",
            "create this movement: {caption}",
            "animate this: {caption}",
            "make a motion of this: {caption}",
            "a motion that shows {caption}",
            "please generate the motion of {caption}",
            "what does it look like: {caption}",
            "move like this: {caption}",
        ),
        Task.TEXT_FRAMES_TO_MOTION: (
            "{caption}, {frames} frames",
            "{caption} for {frames} frames",
            "{caption} ({frames} frames)",
            "{caption} within {frames} frames",
            "{caption}. length: {frames} frames",
            "{frames} frames: {caption}",
            "in {frames} frames, {caption}",
            "a motion of {frames} frames: {caption}",
            "generate {frames} frames of this: {caption}",
            "make it {frames} frames long: {caption}",
        ),
        Task.TEXT_SECONDS_TO_MOTION: (
            "{caption} for {duration}",
            "{caption} for {duration}",
            "{caption} for {about}",
            "{caption} for about {about}",
            "{caption} for {spoken}",
            "{caption} for about {spoken}",
            "{caption} for around {about}",
            "{caption}, {duration}",
            "{caption}, lasting {duration}",
            "{caption} during {duration}",
            "{caption} in {about}",
            "{caption} ({seconds}s)",
            "{caption}, {seconds}s",
            "{caption}. it takes {duration}",
            "{caption}. length: {duration}",
            "for {duration}, {caption}",
            "for {spoken}, {caption}",
            "{duration}: {caption}",
            "a motion of {duration}: {caption}",
            "make a motion of about {about}: {caption}",
            "generate {duration} of this: {caption}",
            "it lasts {spoken}: {caption}",
            "{duration} long: {caption}",
        ),
    }.items()
}

TASK_SHARES = {Task.TEXT_TO_MOTION: 0.1, Task.TEXT_FRAMES_TO_MOTION: 0.05, Task.TEXT_SECONDS_TO_MOTION: 0.25}
"""Shares of training examples; the others are the caption and nothing else."""


def instruct(caption: str, *, num_frames: int, fps: float, rng: np.random.Generator) -> str:
    """An instruction to train on: the bare caption or one of many phrasings, some of which name the motion's length."""
    template = _draw(rng)
    if round(num_frames / fps) < 1 and _ROUNDED.search(template.text):  # half a second is not "zero seconds"
        template = BARE_WITH_LENGTH
    return fill(template, caption=caption, num_frames=num_frames, fps=fps)


def _draw(rng: np.random.Generator) -> Instruction:
    share = rng.random()
    for task, width in TASK_SHARES.items():
        if share < width:
            return TEMPLATES[task][int(share / width * len(TEMPLATES[task]))]
        share -= width
    return BARE


def prompt_instruction(prompt: str, *, length_s: float | None = None) -> str:
    """The instruction that a user's prompt becomes, with the length in seconds where one is asked for.

    >>> prompt_instruction("a person waves")
    'a person waves'
    >>> prompt_instruction("a person waves.", length_s=4.0)
    'a person waves for 4 seconds'
    """
    if length_s is None:
        return fill(BARE, caption=prompt)
    return fill(BARE_WITH_LENGTH, caption=prompt, num_frames=round(length_s * FPS))


def fill(
    instruction: Instruction, *, caption: str | None = None, num_frames: int | None = None, fps: float = FPS
) -> str:
    """The template's text with every placeholder filled; seconds are frames / fps.

    A caption inside a longer text loses its last period. Raises ConfigError for something that the task needs and is
    not given, for no frames, and for a length that a template would round to zero seconds.
    """
    given = {"caption": caption, "frames": num_frames, "seconds": num_frames}
    absent = sorted(need for need in instruction.task.needs if given[need] is None)
    if absent:
        raise ConfigError(f"task {instruction.task.name.lower()} needs {', '.join(absent)}, which nobody gave")
    values = {"caption": caption or ""}
    if instruction is not BARE:
        values["caption"] = values["caption"].rstrip(" .")
    if num_frames is not None:
        if num_frames < 1 or not fps > 0:
            raise ConfigError(f"num_frames={num_frames} at fps={fps} is no length; both must be positive")
        values["frames"] = str(num_frames)
        values |= _spoken_seconds(num_frames / fps)
        if values["about"].startswith("0") and _ROUNDED.search(instruction.text):
            raise ConfigError(f"{num_frames} frames are under half a second; use a template with {{duration}}")
    # in one pass: a caption that itself holds braces stays as it is
    return _PLACEHOLDER.sub(lambda found: values[found.group(1)], instruction.text)


_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()


def _spoken_seconds(seconds: float) -> dict[str, str]:
    exact = f"{seconds:.1f}".removesuffix(".0")
    whole = round(seconds)
    word = _NUMBERS[whole] if whole < len(_NUMBERS) else str(whole)
    return {
        "seconds": exact,
        "duration": f"{exact} second" + "s" * (exact != "1"),
        "about": f"{whole} second" + "s" * (whole != 1),
        "spoken": f"{word} second" + "s" * (whole != 1),
    }
