"""Instructions hold the caption and a length in the right unit, and say so when something is missing."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinalign.errors import ConfigError
from kinalign.lm.instructions import (
    BARE,
    Instruction,
    Task,
    Template,
    answers,
    fill,
    phrase_answer,
    phrase_task,
    prompt_instruction,
    templates,
)

EVERY_TEMPLATE = [template for group in (templates(), answers()) for row in group.values() for template in row]


@pytest.mark.parametrize("template", EVERY_TEMPLATE, ids=lambda template: f"{template.task.name}-{template.text}")
def test_every_template_says_what_its_task_needs_and_leaves_no_placeholder(template):
    text = fill(template, caption="a person waves", num_frames=84, fps=20.0)
    assert "{" not in text
    assert "}" not in text
    needs = template.task.answer_needs if template.is_answer else template.task.needs
    assert ("a person waves" in text) == ("caption" in needs)
    assert ("84" in text) == ("frames" in needs)
    assert bool(re.search(r"\b(4\.2|4|four)\b", text)) == ("seconds" in needs)


def test_there_are_eighteen_tasks_each_with_several_wordings():
    assert len(Task) == 18
    for task in Task:
        texts = [template.text for template in templates()[task]]
        assert len(texts) >= 5, task
        # a length is said in several ways, the rest once
        assert len(set(texts)) >= len(texts) - 1, task
        assert (task in answers()) == (task.gives == "text")


def test_no_two_tasks_share_a_wording():
    seen = {}
    for task, row in templates().items():
        for template in row:
            assert seen.setdefault(template.text, task) is task


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
    assert fill(Template(Task.TEXT_SECONDS_TO_MOTION, text), caption="x", num_frames=frames, fps=fps) == expected


def test_frames_are_said_as_they_are():
    template = Template(Task.TEXT_FRAMES_TO_MOTION, "{frames} frames: {caption}")
    assert fill(template, caption="x", num_frames=84) == "84 frames: x"


def test_a_prompt_alone_is_said_word_for_word():
    assert prompt_instruction("A person waves.") == Instruction("A person waves.")


def test_a_length_is_said_after_the_prompt():
    assert prompt_instruction("a person waves.", length_s=4.2).text == "a person waves for 4.2 seconds"


@given(st.sampled_from(Task), st.text(), st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_any_caption_and_length_can_be_said_braces_too(task, caption, num_frames, seed):
    rng = np.random.default_rng(seed)
    said = [phrase_task(task, rng, caption=caption, num_frames=num_frames, fps=20.0)]
    needs = [task.needs]
    if task.gives == "text":
        said.append(phrase_answer(task, rng, caption=caption, num_frames=num_frames, fps=20.0))
        needs.append(task.answer_needs)
    for text, need in zip(said, needs):
        assert (caption.rstrip(" .") in text) or "caption" not in need
        assert "zero" not in text.replace(caption, "")


def test_a_motion_follows_the_text_where_a_task_speaks_of_one():
    assert {task for task in Task if task.codes} == {
        Task.MOTION_TO_TEXT,
        Task.MOTION_FRAMES_TO_TEXT,
        Task.MOTION_SECONDS_TO_TEXT,
        Task.MOTION_TO_FRAMES,
        Task.MOTION_TO_SECONDS,
        Task.PREDICTION,
        Task.IN_BETWEEN,
    }


@pytest.mark.parametrize("text", ["{caption} {Framelen}", "{caption} {}", "{caption} {seconds} {frame}"])
def test_an_unknown_placeholder_is_refused(text):
    with pytest.raises(ConfigError, match="unknown placeholder"):
        Template(Task.TEXT_SECONDS_TO_MOTION, text)


@pytest.mark.parametrize("text", ["{caption}", "{caption} {frames}", "no placeholder", "{seconds}"])
def test_a_template_that_lacks_what_its_task_needs_is_refused(text):
    with pytest.raises(ConfigError, match="caption, seconds"):
        Template(Task.TEXT_SECONDS_TO_MOTION, text)


def test_what_nobody_gave_is_named():
    with pytest.raises(ConfigError, match="caption"):
        fill(BARE)
    with pytest.raises(ConfigError, match="seconds"):
        fill(Template(Task.TEXT_SECONDS_TO_MOTION, "{caption} {seconds}"), caption="x")


@pytest.mark.parametrize("num_frames, fps", [(0, 20.0), (-4, 20.0), (80, 0.0)])
def test_a_length_that_is_none_is_refused(num_frames, fps):
    template = Template(Task.TEXT_SECONDS_TO_MOTION, "{caption} {seconds}")
    with pytest.raises(ConfigError, match="no length"):
        fill(template, caption="x", num_frames=num_frames, fps=fps)


def test_under_half_a_second_is_never_rounded_to_zero():
    with pytest.raises(ConfigError, match="half a second"):
        fill(Template(Task.TEXT_SECONDS_TO_MOTION, "{caption} for {about}"), caption="x", num_frames=8)
