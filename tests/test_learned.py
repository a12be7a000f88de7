"""The judge that learned reads what its network says; lessons say what is known of composed clips, and no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kinalign.errors import CheckpointError
from kinalign.evaluation.eventbench import Atom
from kinalign.evaluation.learned import (
    ACTIONS,
    BACKWARD,
    NUM_MANNERS,
    TURN_LEFT,
    DetectorConfig,
    EventDetector,
    LearnedJudge,
    Seeing,
    learned_judge,
    stretches_of,
)
from kinalign.events.compose import Part, compose
from kinalign.events.parse import parse
from kinalign.events.program import Event
from kinalign.judge.rubric import SubTask
from kinalign.judge.verdict import Case, Invalid, Verdict
from kinalign.motion.features import FeatureLayout, FeatureStats
from kinalign.motion.joining import uniform
from kinalign.motion.motion import Motion
from kinalign.motion.synthetic import jumping, walking, waving
from kinalign.recipes.detector import UNKNOWN, _lesson, taught

WIDTH = FeatureLayout(22).width
STEPS = 60
MOTION = walking(2 * STEPS + 1)


def detector_of(**others: object) -> EventDetector:
    torch.manual_seed(0)
    return EventDetector(replace(DetectorConfig(width=8), **others), FeatureStats(np.zeros(WIDTH), np.ones(WIDTH)))  # type: ignore[arg-type]


class Dreaming(LearnedJudge):
    """Sees what it is told instead of the motion: (action, first step, end, how often, manners) of each event."""

    def __init__(self, *events: tuple[str, int, int, float, dict[int, float]]) -> None:
        super().__init__(detector_of(), name="dreaming")
        self.seen = Seeing(
            np.full((STEPS, len(ACTIONS)), 0.01), np.full((STEPS, NUM_MANNERS), 0.1), np.zeros((STEPS, len(ACTIONS)))
        )
        for action, start, end, times, manners in events:
            place = ACTIONS.index(action)
            self.seen.actions[start:end, place] = 0.9
            self.seen.repetitions[start:end, place] = times / (end - start)
            for manner, value in manners.items():
                self.seen.manners[start:end, manner] = value

    def _seeing(self, motion: Motion) -> Seeing | str:
        return self.seen


def verdict(judge: LearnedJudge, prompt: str, task: SubTask | None = None) -> Verdict:
    (outcome,) = judge.judge_all([Case.of(prompt, MOTION, task=task)])
    assert isinstance(outcome, Verdict), outcome
    return outcome


WALK, SQUAT = ("walk", 0, 20, 0.0, {BACKWARD: 0.0}), ("squat", 30, 40, 1.0, {})


def test_events_in_the_order_that_is_asked_for_are_all_right() -> None:
    judge = Dreaming(WALK, SQUAT)
    found = verdict(judge, "a person walks forward, then squats.")
    assert (found.score, found.order_is_right) == (5, True)
    assert [(one.seen, one.start, one.end) for one in found.findings] == [("yes", 0, 40), ("yes", 60, 80)]


def test_another_order_is_wrong_where_order_is_asked() -> None:
    judge = Dreaming(WALK, SQUAT)
    found = verdict(judge, "a person squats, then walks forward.")
    assert (found.score, found.order_is_right) == (4, False) and "not in the order" in found.reason
    assert verdict(judge, "a person squats, then walks forward.", "integrity").score == 5


def test_a_second_occurrence_can_be_the_one_that_comes_later() -> None:
    again = ("walk", 45, 60, 0.0, {})
    assert verdict(Dreaming(WALK, SQUAT, again), "a person squats, then walks.").order_is_right


def test_what_is_missing_and_what_is_on_another_side_costs_a_score() -> None:
    kick = ("kick", 30, 40, 1.0, {0: 0.1, 1: 0.9})
    judge = Dreaming(WALK, kick)
    assert verdict(judge, "a person walks forward, then kicks with the right leg.").score == 5
    left = verdict(judge, "a person walks forward, then kicks with the left leg.")
    assert left.score == 4 and left.findings[1].seen == "partly" and "right instead of left" in left.findings[1].reason
    assert verdict(judge, "a person walks forward, then bows.").score == 3
    assert verdict(judge, "a person walks backward, then kicks with the right leg.").findings[0].seen == "partly"
    assert verdict(Dreaming(), "a person walks forward, then bows.").score == 1


def test_a_turn_goes_to_its_side() -> None:
    judge = Dreaming(("turn", 5, 25, 0.0, {TURN_LEFT: 0.9}), SQUAT)
    assert verdict(judge, "a person turns left, then squats.").score == 5
    assert verdict(judge, "a person turns right, then squats.").score == 4


@pytest.mark.parametrize(("times", "score"), [(3.2, 5), (2.4, 4), (3.9, 4), (1.2, 3)])
def test_repetitions_that_go_by_are_counted(times: float, score: int) -> None:
    judge = Dreaming(("squat", 5, 20, times / 2, {}), ("squat", 30, 45, times / 2, {}))
    found = verdict(judge, "a person squats three times.")
    assert found.score == score and found.findings[0].count == round(times)


def test_a_hop_shows_a_jump_and_a_run_a_dash() -> None:
    judge = Dreaming(("hop", 5, 20, 2.0, {}), ("run", 30, 50, 0.0, {}))
    assert verdict(judge, "a person jumps twice.").score == 5
    assert verdict(judge, "a person jumps, then dashes forward.").score == 5


def test_what_was_never_taught_is_invalid_and_not_wrong() -> None:
    judge = LearnedJudge(detector_of(actions=("walk", "squat", "wave"), counted=("squat",)))
    outcomes = [judge(prompt, MOTION) for prompt in ("a person swims", "a person waves twice", "hm")]
    assert all(isinstance(one, Invalid) for one in outcomes)
    assert "was not taught 'swim'" in outcomes[0].reason and "to count 'wave'" in outcomes[1].reason
    assert isinstance(judge("a person squats twice", MOTION), Verdict)
    short = judge("a person walks", MOTION[:4])
    assert isinstance(short, Invalid) and "4 frames" in short.reason


def test_a_motion_is_read_the_same_alone_and_among_others() -> None:
    judge = LearnedJudge(detector_of(), name="untaught")
    cases = [Case.of("a person squats twice", motion) for motion in (MOTION, waving(60), MOTION)]
    together = judge.judge_all(cases)
    assert together == [judge.judge_all([case])[0] for case in cases] and together[0] == together[2]


def test_short_breaks_are_bridged_and_short_glimpses_left_out() -> None:
    sure = np.zeros(40)
    sure[[2, 3, 4, 7, 8]] = 0.9
    sure[20:22] = 0.9
    sure[30:34] = 0.9
    assert [(one.start, one.end) for one in stretches_of(sure, 0.5)] == [(2, 9), (30, 34)]
    assert stretches_of(np.zeros(5), 0.5) == []


def test_a_detector_is_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    detector = detector_of(counted=("squat",))
    detector.save_pretrained(tmp_path)
    again = EventDetector.from_pretrained(tmp_path)
    assert again.config == detector.config
    steps = detector.steps(MOTION)
    for ours, theirs in zip(detector(steps[None]), again(steps[None])):
        assert torch.allclose(ours, theirs, atol=0.02)  # half precision
    with pytest.raises(CheckpointError, match="holds no detector"):
        learned_judge(tmp_path / "nothing")


# lessons


def atom(motion: Motion, event: Event, *holds: str) -> Atom:
    return Atom(event.action, uniform(motion), event, frozenset({event.action, *holds}), ends_upright=True)


def test_a_lesson_says_what_happens_in_an_interval_and_what_does_not() -> None:
    walk = atom(walking(60), Event("walk", direction="forward"), "turn")
    jump = atom(jumping(1), Event("jump", count=1), "squat")
    composed = compose([Part(walk.motion, walk.event), Part(jump.motion, jump.event, 2)])
    lesson = _lesson(composed.motion, composed, [walk, jump], scale=1 / 2)
    first, second = composed.intervals
    happens = {name: lesson.actions[:, ACTIONS.index(name)] for name in ("walk", "jump", "turn", "squat", "kick")}
    middle = (first.start + first.end) // 4
    assert happens["walk"][middle] == 1 and happens["kick"][middle] == 0 and happens["jump"][middle] == 0
    assert happens["turn"][middle] == UNKNOWN, "it may be in the clip"
    inside = slice(second.start // 2 + 1, second.end // 2 - 1)
    assert (happens["jump"][inside] == 1).all() and (happens["squat"][inside] == UNKNOWN).all()
    assert (happens["walk"][inside] == 0).all() and (happens["kick"] == 0).all()
    assert lesson.manners[middle, BACKWARD] == 0 and (lesson.manners[inside, BACKWARD] == UNKNOWN).all()
    assert sorted(one.times for one in lesson.counted) == [1, 1, 2]
    whole = max(lesson.counted, key=lambda one: one.times)
    assert abs(whole.start - second.start / 2) <= 1 and abs(whole.end - second.end / 2) <= 1


def test_time_backwards_makes_standing_up_of_sitting_down() -> None:
    sit = replace(atom(walking(30), Event("sit")), ends_upright=False)
    known, backwards = taught([sit, atom(walking(30), Event("dance"))])
    assert known is sit and backwards.event == Event("stand_up") and backwards.ends_upright
    assert np.array_equal(backwards.motion.joints, sit.motion.joints[::-1])
    assert parse("a person stands up").events[0].action in ACTIONS


def test_the_shipped_detector_sees_what_made_up_bodies_do() -> None:
    judge = learned_judge()
    walk = judge("a person walks forward", uniform(walking(80)))
    assert isinstance(walk, Verdict) and walk.score == 5 and judge.name.startswith("learned (")
    squats = judge("a person squats three times", uniform(walking(80)))
    assert isinstance(squats, Verdict) and squats.score == 1
