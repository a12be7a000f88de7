"""Rewards: what is right is worth more, what is ugly, too long or no motion less, and nothing ugly pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kinalign.alignment.rewards import (
    JITTER_M_S3,
    PEAK_JERK_M_S3,
    SKATING_M_S,
    RewardWeights,
    asked_seconds,
    reward_motions,
    share_right,
)
from kinalign.data.records import Clip
from kinalign.errors import ConfigError, VerdictError
from kinalign.events.parse import parse
from kinalign.judge.kinematic import KinematicJudge
from kinalign.judge.prompts import EventPrompt
from kinalign.judge.rubric import Seen, sub_task_of
from kinalign.judge.verdict import Case, Finding, Invalid, Outcome, Verdict
from kinalign.motion.motion import Motion
from kinalign.motion.physics import foot_skating, jitter, peak_jerk
from kinalign.motion.synthetic import jumping, walking, waving


def prompt_of(text: str) -> EventPrompt:
    program = parse(text)
    return EventPrompt("a", text, sub_task_of(program), program)


def verdict_of(
    text: str,
    seen: Sequence[Seen],
    *,
    starts: Sequence[int | None] = (),
    counts: Sequence[int | None] = (),
    **others: Any,
) -> tuple[Case, Verdict]:
    """A verdict with findings as given, on a motion that does not matter."""
    case = Case.of(text, waving(60))
    findings = tuple(
        Finding(event, one, start=start, count=count)
        for event, one, start, count in zip(
            case.program.events, seen, starts or [None] * len(seen), counts or [None] * len(seen), strict=True
        )
    )
    return case, Verdict(others.pop("score", 3), case.task, "told", findings=findings, **others)


def share(*arguments: Any, **settings: Any) -> float:
    return share_right(*verdict_of(*arguments, **settings))


class Told:
    """A judge that gives the outcomes that it was told."""

    name = "told"

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = outcomes

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        return list(self.outcomes)

    def __call__(self, prompt: str, motion: Motion) -> Outcome:
        return self.outcomes[0]


def trembling(motion: Motion, metres: float) -> Motion:
    noise = np.random.default_rng(0).normal(scale=metres, size=motion.joints.shape)
    return replace(motion, joints=(motion.joints + noise).astype(np.float32))


def sliding(motion: Motion, metres_per_second: float) -> Motion:
    way = metres_per_second * np.arange(len(motion)) / motion.fps
    return replace(motion, joints=(motion.joints + way[:, None, None] * [1, 0, 0]).astype(np.float32))


# what is right


def test_every_event_more_and_its_order_are_worth_something() -> None:
    text = "a person walks forward, then waves, then jumps"
    rising = [
        share(text, ["no", "no", "no"]),
        share(text, ["partly", "no", "no"], starts=[0, None, None]),
        share(text, ["yes", "no", "no"], starts=[0, None, None]),
        share(text, ["yes", "yes", "no"], starts=[20, 0, None], order_is_right=False),
        share(text, ["yes", "yes", "no"], starts=[0, 20, None], order_is_right=True),
        share(text, ["yes", "yes", "yes"], starts=[40, 20, 0], order_is_right=False),
        share(text, ["yes", "yes", "yes"], starts=[0, 40, 20], order_is_right=False),
        share(text, ["yes", "yes", "yes"], starts=[0, 20, 40], order_is_right=True),
    ]
    assert rising[0] == 0 and rising[-1] == 1
    assert rising == sorted(set(rising))


def test_order_matters_only_where_it_is_asked_for() -> None:
    text = "a person waves while walking forward"
    assert share(text, ["yes", "yes"], starts=[20, 0]) == 1


def test_a_count_is_worth_more_the_nearer_it_comes() -> None:
    text = "a person jumps four times"
    shares = [share(text, ["yes"], counts=[count]) for count in (1, 2, 3, 4, 5, 6, 9)]
    assert shares[:4] == sorted(set(shares[:4])) and shares[3] == 1
    assert shares[2] == shares[4] and shares[1] == shares[5]
    assert shares[6] == 0.5 > share(text, ["no"])


def test_a_judge_without_findings_is_taken_at_its_score() -> None:
    case, verdict = verdict_of("a person jumps", ["yes"], score=4)
    assert share_right(case, replace(verdict, findings=())) == 0.75


def test_motions_that_show_more_of_the_prompt_get_more_from_the_kinematic_judge() -> None:
    prompts = [prompt_of("a person jumps three times")] * 3
    motions = [waving(60), jumping(1), jumping(3)]
    weights = RewardWeights(jitter=0, peak_jerk=0)  # made up jumps land hard
    rewards, facts = reward_motions(prompts, motions, KinematicJudge(), weights)
    assert rewards[0] < rewards[1] < rewards[2]
    assert facts["all_right"] == pytest.approx(1 / 3) and facts["invalid"] == 0
    assert facts["rewards/score"] == pytest.approx(np.mean([0, 2, 4]) / 4)


# what does not pay


def test_events_cannot_be_bought_with_ugly_motion() -> None:
    text = "a person walks, then waves"
    case, right = verdict_of(text, ["yes", "yes"], starts=[0, 20], order_is_right=True, score=5)
    _, half = verdict_of(text, ["yes", "no"], starts=[0, None], score=3)
    _, wrong = verdict_of(text, ["no", "no"], score=1)
    clean, trembles, slides = case.motion, trembling(case.motion, 0.03), sliding(case.motion, 3.0)
    (nothing, all_trembling, half_sliding, all_there), _ = reward_motions(
        [prompt_of(text)] * 4, [clean, trembles, slides, clean], Told(wrong, right, half, right), RewardWeights()
    )
    assert max(all_trembling, half_sliding) <= nothing < all_there


def test_seconds_beyond_what_is_asked_cost_and_those_within_do_not() -> None:
    prompt, weights = prompt_of("a person walks forward"), RewardWeights()
    _, right = verdict_of(prompt.prompt, ["yes"], score=5)
    assert asked_seconds(prompt.program) == 3.5
    motions = [waving(num_frames) for num_frames in (40, 70, 90, 150, 190)]
    rewards, _ = reward_motions([prompt] * 5, motions, Told(*[right] * 5), weights)
    assert rewards[0] == pytest.approx(rewards[1])
    assert rewards[1] - rewards[2] == pytest.approx(weights.length / 4)
    assert rewards[1] - rewards[3] == pytest.approx(rewards[1] - rewards[4]) == pytest.approx(weights.length)


def test_what_is_asked_for_takes_time() -> None:
    def seconds(text: str) -> float:
        return asked_seconds(parse(text))

    assert seconds("a person walks, then waves") == seconds("a person walks") + 2.5
    assert seconds("a person jumps six times") == seconds("a person jumps") + 3.5
    assert seconds("a person waves while walking") == seconds("a person walks")


def test_no_verdict_gives_the_least_that_any_answer_can_get() -> None:
    prompt, weights = prompt_of("a person walks forward"), RewardWeights()
    _, wrong = verdict_of(prompt.prompt, ["no"], score=1)
    worst = sliding(trembling(walking(196), 0.1), 5.0)
    rewards, facts = reward_motions(
        [prompt] * 2, [walking(40), worst], Told(Invalid("told", "too dark"), wrong), weights
    )
    assert rewards[0] == weights.least <= rewards[1]
    assert facts["invalid"] == 0.5


def test_a_judge_that_is_silent_about_all_is_an_error_that_says_why() -> None:
    silent = Told(*[Invalid("told", "it is too dark")] * 2)
    with pytest.raises(VerdictError, match="no verdict on any of 2 motions, for instance: it is too dark"):
        reward_motions([prompt_of("a person jumps")] * 2, [walking(40)] * 2, silent, RewardWeights())


def test_a_weight_scales_its_term_alone() -> None:
    prompts, motions = [prompt_of("a person jumps twice")] * 2, [jumping(2), trembling(jumping(1), 0.01)]
    nothing = RewardWeights(events=1e-12, score=0, length=0, skating=0, jitter=0, peak_jerk=0)
    for name in ("events", "score", "length", "skating", "jitter", "peak_jerk"):
        rewards, facts = reward_motions(prompts, motions, KinematicJudge(), replace(nothing, **{name: 2.0}))
        assert rewards.mean() == pytest.approx(2 * facts[f"rewards/{name}"], abs=1e-9)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"events": 0, "score": 0}, "leave nothing to learn"),
        ({"jitter": -1.0}, "jitter=-1.0 must be 0 or more"),
        ({"length": float("nan")}, "length=nan"),
        ({"score": float("inf")}, "score=inf"),
    ],
)
def test_weights_that_teach_nothing_are_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RewardWeights(**settings)


def test_the_limits_are_those_of_real_clips(openmocap: Callable[[str], list[Clip]]) -> None:
    motions = [clip.motion.resample(20.0)[:196].on_floor() for clip in openmocap("train")]
    for measure, band in ((foot_skating, SKATING_M_S), (jitter, JITTER_M_S3), (peak_jerk, PEAK_JERK_M_S3)):
        usual, extreme = np.percentile([measure(motion) for motion in motions], (90, 99))
        assert band == pytest.approx((usual, extreme), rel=0.02)
