"""Instructions hold the caption and a length in the right unit, and say so when something is missing."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinalign.errors import ConfigError
from kinalign.lm.instructions import BARE, TEMPLATES, Instruction, Task, fill, instruct, prompt_instruction

EVERY_TEMPLATE = [template for templates in TEMPLATES.values() for template in templates]


@pytest.mark.parametrize("template", EVERY_TEMPLATE, ids=lambda template: template.text)
def test_every_template_holds_the_caption_and_leaves_no_placeholder(template):
    text = fill(template, caption="a person waves", num_frames=84, fps=20.0)
    assert "a person waves" in text and "{" not in text and "}" not in text
    said = "80|84" if template.task is Task.TEXT_FRAMES_TO_MOTION else r"\b(4\.2|4|four)\b"
    assert bool(re.search(said, text)) == (template.task is not Task.TEXT_TO_MOTION)


@pytest.mark.parametrize(
    "frames, fps, text, expected",
    [
        (84, 20.0, "{caption} for {duration}", "x for 4.2 seconds"),
        (80, 20.0, "{caption} for {duration}", "x for 4 seconds"),
        (20, 20.0, "{caption} for {duration}", "x for 1 second"),
        (50, 12.5, "{caption}, {seconds}s", "x, 4s"),
        (84, 20.0, "{caption} for about {about}", "x for about 4 seconds"),
        (236, 20.0, "{caption} for {spoken}", "x for twelve seconds"),
        (300, 20.0, "{caption} for {spoken}", "x for 15 seconds"),
    ],
)
def test_seconds_are_frames_over_fps(frames, fps, text, expected):
    assert fill(Instruction(Task.TEXT_SECONDS_TO_MOTION, text), caption="x", num_frames=frames, fps=fps) == expected


def test_frames_are_said_as_they_are():
    template = Instruction(Task.TEXT_FRAMES_TO_MOTION, "{frames} frames: {caption}")
    assert fill(template, caption="x", num_frames=84) == "84 frames: x"


def test_a_prompt_alone_is_said_word_for_word():
    assert prompt_instruction("A person waves.") == "A person waves."


def test_a_length_is_said_after_the_prompt():
    assert prompt_instruction("a person waves.", length_s=4.2) == "a person waves for 4.2 seconds"


@given(st.text(), st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_any_caption_can_be_instructed_braces_too(caption, num_frames, seed):
    text = instruct(caption, num_frames=num_frames, fps=20.0, rng=np.random.default_rng(seed))
    assert caption.rstrip(" .") in text
    assert "zero" not in text.replace(caption, "")


def test_most_training_instructions_are_the_bare_caption():
    rng = np.random.default_rng(0)
    texts = [instruct("a person waves", num_frames=80, fps=20.0, rng=rng) for _ in range(3000)]
    assert 0.5 < np.mean([text == "a person waves" for text in texts]) < 0.7
    assert 0.15 < np.mean(["second" in text or "4s" in text for text in texts]) < 0.3
    assert len(set(texts)) > len(EVERY_TEMPLATE) - 5  # two templates may say the same of this length


@pytest.mark.parametrize("text", ["{caption} {Framelen}", "{caption} {}", "{caption} {seconds} {frame}"])
def test_an_unknown_placeholder_is_refused(text):
    with pytest.raises(ConfigError, match="unknown placeholder"):
        Instruction(Task.TEXT_SECONDS_TO_MOTION, text)


@pytest.mark.parametrize("text", ["{caption}", "{caption} {frames}", "no placeholder", "{seconds}"])
def test_a_template_that_lacks_what_its_task_needs_is_refused(text):
    with pytest.raises(ConfigError, match="caption, seconds"):
        Instruction(Task.TEXT_SECONDS_TO_MOTION, text)


def test_what_nobody_gave_is_named():
    with pytest.raises(ConfigError, match="caption"):
        fill(BARE)
    with pytest.raises(ConfigError, match="seconds"):
        fill(Instruction(Task.TEXT_SECONDS_TO_MOTION, "{caption} {seconds}"), caption="x")


@pytest.mark.parametrize("num_frames, fps", [(0, 20.0), (-4, 20.0), (80, 0.0)])
def test_a_length_that_is_none_is_refused(num_frames, fps):
    template = Instruction(Task.TEXT_SECONDS_TO_MOTION, "{caption} {seconds}")
    with pytest.raises(ConfigError, match="no length"):
        fill(template, caption="x", num_frames=num_frames, fps=fps)


def test_under_half_a_second_is_never_rounded_to_zero():
    with pytest.raises(ConfigError, match="half a second"):
        fill(Instruction(Task.TEXT_SECONDS_TO_MOTION, "{caption} for {about}"), caption="x", num_frames=8)
