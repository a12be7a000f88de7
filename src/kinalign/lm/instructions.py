"""What is said to the language model and what it shall answer: 18 tasks between words, lengths and motions.

An instruction is text, and after it the motion that the text speaks of, if it does: "describe this motion:" and codes.
instructions.json holds the phrasings; a bare prompt is one too, and the most frequent, so that what a user types is
what the model was trained on. Strings and integers only, no motions. Tasks after MotionGPT (arXiv 2306.14795, table 8).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from kinalign.errors import ConfigError

FPS = 20.0
"""Frames per second of every motion that the model speaks of, when nothing else is said."""
PHRASINGS = Path(__file__).with_name("instructions.json")

Gives = Literal["motion", "text"]
Style = Literal["kinalign", "motiongpt"]
"""In whose words a model is asked: those that it was trained on."""


class Task(Enum):
    """What the model is asked to do: what a phrasing `needs`, whether codes follow it, and what the answer is."""

    TEXT_TO_MOTION = ("caption", "", "motion")
    TEXT_FRAMES_TO_MOTION = ("caption frames", "", "motion")
    TEXT_SECONDS_TO_MOTION = ("caption seconds", "", "motion")
    FRAMES_TO_MOTION = ("frames", "", "motion")
    SECONDS_TO_MOTION = ("seconds", "", "motion")
    RANDOM_MOTION = ("", "", "motion")
    MOTION_TO_TEXT = ("", "whole", "caption")
    MOTION_FRAMES_TO_TEXT = ("frames", "whole", "caption")
    MOTION_SECONDS_TO_TEXT = ("seconds", "whole", "caption")
    MOTION_TO_FRAMES = ("", "whole", "frames")
    MOTION_TO_SECONDS = ("", "whole", "seconds")
    TEXT_TO_FRAMES = ("caption", "", "frames")
    TEXT_TO_SECONDS = ("caption", "", "seconds")
    FRAMES_TO_TEXT = ("frames", "", "caption")
    SECONDS_TO_TEXT = ("seconds", "", "caption")
    RANDOM_TEXT = ("", "", "caption")
    PREDICTION = ("", "head", "motion")
    IN_BETWEEN = ("", "gap", "motion")

    @property
    def needs(self) -> frozenset[str]:
        """What a phrasing has to be filled with: caption, frames, seconds."""
        return frozenset(self.value[0].split())

    @property
    def codes(self) -> str:
        """Which part of the motion follows the text: "" none, "whole", "head" its beginning, "gap" all but a part."""
        return self.value[1]

    @property
    def gives(self) -> Gives:
        return "motion" if self.value[2] == "motion" else "text"

    @property
    def answer_needs(self) -> frozenset[str]:
        """What an answer in words has to be filled with."""
        return frozenset() if self.gives == "motion" else frozenset({self.value[2]})


@dataclass(frozen=True)
class Instruction:
    """What is said to the model: text, and after it codes of the motion it speaks of, HIDDEN where not told."""

    text: str
    codes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Template:
    """Text with placeholders for one task: {caption}; {frames} '80'; and of seconds one of

    {seconds} '4.2', {duration} '4.2 seconds', {about} '4 seconds', {spoken} 'four seconds'.
    """

    task: Task
    text: str
    is_answer: bool = False

    def __post_init__(self) -> None:
        asked = {_NEED_OF.get(name, "") for name in _PLACEHOLDER.findall(self.text)}
        if "" in asked:
            raise ConfigError(f"template {self.text!r} has an unknown placeholder; use {', '.join(_NEED_OF)}")
        needed = self.task.answer_needs if self.is_answer else self.task.needs
        if asked != needed:
            needs = ", ".join(sorted(needed)) or "nothing"
            raise ConfigError(f"template {self.text!r} must speak of {needs} for task {self.task.name.lower()}")


_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_NEED_OF = {
    "caption": "caption",
    "frames": "frames",
    **dict.fromkeys(("seconds", "duration", "about", "spoken"), "seconds"),
}
_ROUNDED = re.compile(r"\{(?:about|spoken)\}")

BARE = Template(Task.TEXT_TO_MOTION, "{caption}")
"""What a user's prompt becomes."""
BARE_WITH_LENGTH = Template(Task.TEXT_SECONDS_TO_MOTION, "{caption} for {duration}")
"""What a user's prompt becomes when a length is asked for beside it."""
UNROUNDED = {
    Task.TEXT_SECONDS_TO_MOTION: BARE_WITH_LENGTH,
    Task.SECONDS_TO_MOTION: Template(Task.SECONDS_TO_MOTION, "a motion of {duration}"),
    Task.MOTION_SECONDS_TO_TEXT: Template(Task.MOTION_SECONDS_TO_TEXT, "describe this motion of {duration}:"),
    Task.SECONDS_TO_TEXT: Template(Task.SECONDS_TO_TEXT, "describe a motion of {duration}"),
}
"""What is said of less than half a second, which others would round to none."""

MOTIONGPT = {
    Task.TEXT_TO_MOTION: "Generate motion: {caption}",
    Task.TEXT_FRAMES_TO_MOTION: "Generate motion with {frames} frames: {caption}",
    Task.MOTION_TO_TEXT: "Generate text:",
    Task.PREDICTION: "Predict motion:",
    Task.IN_BETWEEN: "Complete the masked motion:",
}
"""What MotionGPT's published code puts before a caption or a motion; the caption stays as it is.

It also puts every other caption in quotes, by chance. Here the same prompt is always told alike: without.
"""


@lru_cache(maxsize=1)
def templates() -> dict[Task, tuple[Template, ...]]:
    """Every phrasing of every task, from instructions.json."""
    raw = json.loads(PHRASINGS.read_text(encoding="utf-8"))
    return {task: tuple(Template(task, text) for text in raw[task.name.lower()]["inputs"]) for task in Task}


@lru_cache(maxsize=1)
def answers() -> dict[Task, tuple[Template, ...]]:
    """Every phrasing of the answers in words."""
    raw = json.loads(PHRASINGS.read_text(encoding="utf-8"))
    return {
        task: tuple(Template(task, text, is_answer=True) for text in raw[task.name.lower()]["answers"])
        for task in Task
        if task.gives == "text"
    }


def answer_words() -> frozenset[str]:
    """Every word that an answer can hold beside captions."""
    texts = [*(template.text for options in answers().values() for template in options), "second seconds", *_NUMBERS]
    return frozenset(word for text in texts for word in re.findall(r"[a-z]+", _PLACEHOLDER.sub("", text).lower()))


def phrase_task(
    task: Task, rng: np.random.Generator, *, caption: str = "", num_frames: int | None = None, fps: float = FPS
) -> str:
    """The text of an instruction for `task`, in one of its phrasings."""
    template = _pick(templates()[task], rng)
    if num_frames is not None and round(num_frames / fps) < 1 and _ROUNDED.search(template.text):
        template = UNROUNDED[task]
    return fill(template, caption=caption, num_frames=num_frames, fps=fps)


def phrase_answer(
    task: Task, rng: np.random.Generator, *, caption: str = "", num_frames: int | None = None, fps: float = FPS
) -> str:
    """An answer in words to `task`, in one of its phrasings."""
    return fill(_pick(answers()[task], rng), caption=caption, num_frames=num_frames, fps=fps)


def _pick(options: Sequence[Template], rng: np.random.Generator) -> Template:
    return options[int(rng.random() * len(options))]


def prompt_instruction(
    prompt: str, *, length_s: float | None = None, fps: float = FPS, style: Style = "kinalign"
) -> Instruction:
    """The instruction that a user's prompt becomes, with the length in seconds where one is asked for.

    >>> prompt_instruction("a person waves").text
    'a person waves'
    >>> prompt_instruction("a person waves.", length_s=4.0).text
    'a person waves for 4 seconds'
    >>> prompt_instruction("a person waves.", length_s=4.0, style="motiongpt").text
    'Generate motion with 80 frames: a person waves.'
    """
    num_frames = None if length_s is None else round(length_s * fps)
    if style == "motiongpt":
        task = Task.TEXT_TO_MOTION if num_frames is None else Task.TEXT_FRAMES_TO_MOTION
        return Instruction(MOTIONGPT[task].format(caption=prompt, frames=num_frames))
    if num_frames is None:
        return Instruction(fill(BARE, caption=prompt))
    return Instruction(fill(BARE_WITH_LENGTH, caption=prompt, num_frames=num_frames, fps=fps))


def motion_instruction(task: Task, codes: Sequence[int], *, style: Style = "kinalign") -> Instruction:
    """The instruction that a user's motion becomes for a task that is told nothing else."""
    text = MOTIONGPT[task] if style == "motiongpt" else templates()[task][0].text
    return Instruction(text, tuple(int(code) for code in codes))


def fill(template: Template, *, caption: str | None = None, num_frames: int | None = None, fps: float = FPS) -> str:
    """The template's text with every placeholder filled; seconds are frames / fps.

    A caption inside a longer text loses its last period. Raises ConfigError for something that the task needs and is
    not given, for no frames, and for a length that a template would round to zero seconds.
    """
    given = {"caption": caption, "frames": num_frames, "seconds": num_frames}
    needs = template.task.answer_needs if template.is_answer else template.task.needs
    absent = sorted(need for need in needs if given[need] is None)
    if absent:
        raise ConfigError(f"task {template.task.name.lower()} needs {', '.join(absent)}, which nobody gave")
    values = {"caption": caption or ""}
    if template.text != "{caption}":
        values["caption"] = values["caption"].rstrip(" .")
    if num_frames is not None:
        if num_frames < 1 or not fps > 0:
            raise ConfigError(f"num_frames={num_frames} at fps={fps} is no length; both must be positive")
        values["frames"] = str(num_frames)
        values |= _spoken_seconds(num_frames / fps)
        if values["about"].startswith("0") and _ROUNDED.search(template.text):
            raise ConfigError(f"{num_frames} frames are under half a second; use a template with {{duration}}")
    # in one pass: a caption that itself holds braces stays as it is
    return _PLACEHOLDER.sub(lambda found: values[found.group(1)], template.text)


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
