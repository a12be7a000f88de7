"""Motions composed of parts of clips for prompts of the grammar."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kinalign.alignment.composed import compose_motions, excerpts_of
from kinalign.data.records import Clip
from kinalign.errors import DataError
from kinalign.events.detect import detect
from kinalign.events.excerpts import MOST_FRAMES, Composer, with_arms_of
from kinalign.events.parse import parse
from kinalign.judge.kinematic import KinematicJudge
from kinalign.judge.prompts import EventPrompt, grammar_prompts
from kinalign.judge.rubric import sub_task_of
from kinalign.judge.verdict import Case, Verdict
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D
from kinalign.motion.synthetic import kicking, squatting, walking, waving


def clip(name: str, motion: Motion, caption: str) -> Clip:
    return Clip(name, motion, (caption,), "made-up", "", "train")


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [
        clip("walk", walking(100), "a person walks forward"),
        clip("kick", kicking(3, side="right"), "a person kicks with the right leg three times"),
        clip("squat", squatting(2), "someone squats two times"),
        clip("wave", waving(80, side="left", num_waves=4), "a person waves with the left hand"),
        clip("silent", kicking(2, side="left"), "a person stands around"),
    ]


def prompt(text: str) -> EventPrompt:
    program = parse(text)
    return EventPrompt("p", text, sub_task_of(program), program)


def test_an_excerpt_holds_as_many_repetitions_as_it_says(clips: list[Clip]) -> None:
    excerpts = excerpts_of(clips)
    counted = [one for one in excerpts if one.event.action in ("kick", "squat")]
    assert {(one.event.action, one.event.count) for one in counted} == {
        ("kick", 1),
        ("kick", 2),
        ("kick", 3),
        ("squat", 1),
        ("squat", 2),
    }
    for one in counted:
        seen = [found for found in detect(one.motion) if found.action == one.event.action]
        assert sum(found.count or 0 for found in seen) == one.event.count
        assert {found.side for found in seen} == {one.event.side or "both"} or one.event.action == "squat"


def test_what_no_word_of_a_clip_names_is_not_cut_out(clips: list[Clip]) -> None:
    assert not [one for one in excerpts_of(clips) if one.source == "silent"]


def test_every_excerpt_is_there_mirrored_too(clips: list[Clip]) -> None:
    kicks = [one for one in excerpts_of(clips) if one.event.action == "kick"]
    assert sorted(one.event.side for one in kicks) == ["left"] * (len(kicks) // 2) + ["right"] * (len(kicks) // 2)


@pytest.mark.parametrize(
    "text",
    [
        "a person kicks with the right leg and then squats twice",
        "a person squats, then kicks twice with the left leg",
        "a person walks forward, then kicks with the left leg",
        "a person kicks three times with the right leg",
        "a person squats four times",
    ],
)
def test_a_composed_motion_shows_what_its_prompt_says(clips: list[Clip], text: str) -> None:
    asked = prompt(text)
    made = compose_motions([asked], excerpts_of(clips), KinematicJudge(), copies=3)
    assert made
    for one in made:
        assert one.prompt is asked and len(one.motion) <= MOST_FRAMES
        again = KinematicJudge()(text, one.motion)
        assert isinstance(again, Verdict) and again.score == 5, again


def test_the_same_seed_gives_the_same_motions_and_another_one_others(clips: list[Clip]) -> None:
    asked, excerpts = prompt("a person walks forward, then squats"), excerpts_of(clips)
    first, again, other = (Composer(excerpts, seed).motion(asked.program) for seed in (0, 0, 3))
    assert first is not None and again is not None and other is not None
    np.testing.assert_array_equal(first.joints, again.joints)
    assert first.joints.shape != other.joints.shape or np.abs(first.joints - other.joints).max() > 0.01


def test_what_parts_do_not_show_is_an_error_that_names_it(clips: list[Clip]) -> None:
    with pytest.raises(DataError, match=r"no motion of 1 prompts.*cartwheel \(2\)"):
        compose_motions([prompt("a person does a cartwheel")], excerpts_of(clips), KinematicJudge())


def test_arms_of_another_motion_keep_their_bones_and_leave_the_rest_as_it_is() -> None:
    walk, wave = walking(60), waving(50, side="left")
    both = with_arms_of(walk, wave)
    arms = [HUMANML3D.index(f"{side}_{joint}") for joint in ("elbow", "wrist") for side in ("left", "right")]
    others = [joint for joint in range(22) if joint not in arms and joint not in (16, 17)]
    assert len(both) == 50
    np.testing.assert_array_equal(both.joints[:, others], walk.joints[:50, others])
    parents = [HUMANML3D.parents[joint] for joint in arms]
    for made, own in ((both.joints, wave.joints[:50]),):
        lengths = [np.linalg.norm(joints[:, arms] - joints[:, parents], axis=-1) for joints in (made, own)]
        np.testing.assert_allclose(lengths[0], lengths[1], atol=1e-5)
    # the hand is as high over the chest as in the wave, for both chests are upright
    over = [joints[:, 20, 1] - joints[:, 9, 1] for joints in (both.joints, wave.joints[:50])]
    np.testing.assert_allclose(over[0], over[1], atol=0.05)


def test_real_clips_give_motions_of_most_kinds_of_prompts(openmocap: Callable[[str], list[Clip]]) -> None:
    excerpts = excerpts_of([one for one in openmocap("train") if one.source in ("HDM05", "Bandai1")])
    prompts = grammar_prompts(("temporal", "frequency"), 40, events=2, seed=5)
    made = compose_motions(prompts, excerpts, KinematicJudge(), copies=1)
    assert len(made) >= 15
    assert {one.prompt.task for one in made} == {"temporal", "frequency"}
    cases = [Case(one.prompt.prompt, one.motion, one.prompt.program, one.prompt.task) for one in made]
    assert all(isinstance(said, Verdict) and said.score == 5 for said in KinematicJudge().judge_all(cases))
