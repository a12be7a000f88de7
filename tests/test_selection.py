"""The best of many candidates, with a tiny model and judges whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from test_pipeline import lm_of, same, tokenizer_of

import kinalign as ka
from kinalign.errors import ConfigError, PromptError
from kinalign.events.program import Event
from kinalign.judge.kinematic import KinematicJudge
from kinalign.judge.timeline import player_events
from kinalign.judge.verdict import Case, Finding, Invalid, Outcome, Verdict
from kinalign.motion.motion import Motion
from kinalign.motion.synthetic import kicking, standing, walking, waving
from kinalign.pipeline import TextToMotion
from kinalign.selection import ROUND, Judged, Selection, best_of, judged, merit

PROMPT = "a person walks"
BUDGET = 24


@dataclass
class Giver:
    """A judge whose scores are given in the order of its questions, None for Invalid; the last one goes on."""

    scores: Sequence[int | None] = (1,)
    name: str = "giver"
    asked: list[Case] = field(default_factory=list)

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        outcomes = []
        for case in cases:
            score = self.scores[min(len(self.asked), len(self.scores) - 1)]
            self.asked.append(case)
            outcomes.append(Invalid(self.name, "unseen") if score is None else Verdict(score, case.task, self.name))
        return outcomes

    def __call__(self, prompt: str, motion: Motion) -> Outcome:
        return self.judge_all([Case.of(prompt, motion)])[0]


class ByJoints:
    """A judge whose answer depends on the motion alone: in one of six none, else a score."""

    name = "by joints"

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        lots = [int(abs(case.motion.joints.sum()) * 1e4) % 6 for case in cases]
        return [
            Verdict(lot, case.task, self.name) if lot else Invalid(self.name, "no luck")
            for lot, case in zip(lots, cases)
        ]

    def __call__(self, prompt: str, motion: Motion) -> Outcome:
        return self.judge_all([Case.of(prompt, motion)])[0]


@pytest.fixture(scope="module")
def model() -> TextToMotion:
    return TextToMotion(lm_of(), tokenizer_of())


def choose(model: TextToMotion, n: int, judge: Any = None, **options: Any) -> Selection:
    return best_of(model, PROMPT, n, judge=judge or ByJoints(), **{"length_s": 1.0, **options})


def score_of(one: Judged) -> int:
    return one.outcome.score if isinstance(one.outcome, Verdict) else 0


# what is drawn


@pytest.mark.parametrize("until_right", [False, True])
@pytest.mark.parametrize("n", [1, 5, 20])
def test_candidates_are_those_that_a_plain_call_gives(n: int, until_right: bool, model: TextToMotion) -> None:
    selection = choose(model, n, Giver(), keep=n, until_right=until_right, seed=3)
    assert sorted(one.place for one in selection.kept) == list(range(n))
    in_place = sorted(selection.kept, key=lambda one: one.place)
    assert same([one.motion for one in in_place], model(PROMPT, num_candidates=n, seed=3, length_s=1.0))


def test_a_prompt_is_read_once_however_many_rounds_there_are(
    model: TextToMotion, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    encode = model.lm.encode
    monkeypatch.setattr(model.lm, "encode", lambda said: read.append(len(said)) or encode(said))
    assert choose(model, BUDGET, Giver(), until_right=True).num_drawn == BUDGET
    assert read == [2]  # the prompt, and the empty one for guidance


@pytest.mark.parametrize("n", [1, 7, 8, 9, 21, 100])
@pytest.mark.parametrize("until_right", [False, True])
def test_no_more_than_the_budget_is_drawn_and_judged(n: int, until_right: bool, model: TextToMotion) -> None:
    judge = Giver()
    selection = choose(model, n, judge, until_right=until_right, length_s=0.4)
    assert selection.num_drawn == len(judge.asked) == n


def test_drawing_ends_with_the_round_in_which_enough_are_right(model: TextToMotion) -> None:
    scores = [1] * 9 + [5] + [4] * 5 + [5, 1]
    found = choose(model, BUDGET, Giver(scores), until_right=True)
    assert (found.num_drawn, found.num_right, found.is_exhausted) == (2 * ROUND, 2, False)
    assert found.best.place in (9, 15)
    both = choose(model, BUDGET, Giver(scores), until_right=True, keep=2)
    assert (both.num_drawn, {one.place for one in both.kept}) == (2 * ROUND, {9, 15})
    three = choose(model, BUDGET, Giver(scores), until_right=True, keep=3)
    assert (three.num_drawn, three.is_exhausted) == (BUDGET, True)


def test_a_budget_that_ends_in_vain_says_so_and_the_best_is_there(model: TextToMotion) -> None:
    selection = choose(model, 12, Giver([2, 4, 1]), until_right=True)
    assert selection.is_exhausted
    assert (selection.best.place, score_of(selection.best), selection.num_drawn) == (1, 4, 12)
    assert selection.to_json()["exhausted"] is True
    assert not choose(model, 12, Giver([2, 4, 1])).is_exhausted


# what is chosen


@pytest.mark.parametrize("until_right", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_more_candidates_are_never_worse_and_none_is_worse_than_the_first(
    seed: int, until_right: bool, model: TextToMotion
) -> None:
    scores = [score_of(choose(model, n, seed=seed, until_right=until_right).best) for n in range(1, BUDGET + 1, 2)]
    assert scores[0] == score_of(judged(PROMPT, model(PROMPT, seed=seed, length_s=1.0), ByJoints()).best)
    assert all(more >= fewer for fewer, more in pairwise(scores))
    assert scores[-1] > scores[0] or scores[0] == 5


def test_the_best_by_rounds_is_the_best_of_all(model: TextToMotion) -> None:
    for seed in range(3):
        everything = judged(PROMPT, model(PROMPT, num_candidates=BUDGET, seed=seed, length_s=1.0), ByJoints())
        top = sorted(everything.kept, key=lambda one: (-score_of(one), one.place))
        assert merit(choose(model, BUDGET, seed=seed).best) == max(map(merit, everything.kept))
        in_turn = choose(model, BUDGET, seed=seed, keep=6)
        assert [score_of(one) for one in in_turn.kept] == [score_of(one) for one in top[:6]]
        assert (in_turn.num_invalid, in_turn.num_right) == (everything.num_invalid, everything.num_right)


def test_the_same_seed_chooses_the_same_and_another_seed_others(model: TextToMotion) -> None:
    first, again, other = (choose(model, 6, keep=3, seed=seed) for seed in (4, 4, 5))
    assert same(first.motions, again.motions)
    assert first.to_json() == again.to_json()
    assert not same(first.motions, other.motions)


def test_what_cannot_be_judged_is_never_chosen_over_what_can(model: TextToMotion) -> None:
    selection = choose(model, 8, Giver([None, None, 1, None, 2]), keep=8)
    assert [one.place for one in selection.kept][-3:] == [0, 1, 3]
    assert selection.num_invalid == 3
    assert all(isinstance(one.outcome, Verdict) for one in selection.kept[:5])


@pytest.mark.parametrize("until_right", [False, True])
def test_where_nothing_can_be_judged_the_first_ones_stay_and_no_second_round_is_drawn(
    until_right: bool, model: TextToMotion
) -> None:
    judge = Giver([None])
    selection = choose(model, 100, judge, until_right=until_right, keep=2)
    assert [one.place for one in selection.kept] == [0, 1]
    assert selection.num_invalid == selection.num_drawn == len(judge.asked) < 100
    kept = choose(model, 20, Giver([None]), until_right=True, keep=15).kept
    assert [one.place for one in kept] == list(range(15))


def test_an_action_that_rules_cannot_see_keeps_the_plain_motion(model: TextToMotion) -> None:
    selection = best_of(model, "a person sneezes", 4, length_s=1.0)
    assert same(selection.motions, model("a person sneezes", length_s=1.0))
    assert "joints do not show" in selection.captioned()[0].caption
    assert selection.timeline() == [[]]


# what makes one better than another

KICKS = Event("kick", side="right", count=3)
WAVE, WALK = Event("wave"), Event("walk")


def seen(event: Event, how: Any = "yes", *, count: int | None = None, confidence: float = 0.9) -> Finding:
    return Finding(event, how, 0, 20, count, confidence)


def verdict(score: int, *findings: Finding, order: bool | None = None) -> Verdict:
    return Verdict(score, "integrity", "fake", "", findings, order)


BETTER_FIRST = [
    (verdict(5), verdict(4)),
    (verdict(1), Invalid("fake", "unseen")),
    (verdict(4, seen(WAVE, "partly"), order=True), verdict(4, seen(WAVE), order=False)),
    (verdict(4, seen(WAVE), seen(KICKS, "partly")), verdict(4, seen(WAVE, "partly"), seen(KICKS, "partly"))),
    (verdict(3, seen(WAVE, "partly"), seen(KICKS, "no")), verdict(3, seen(WAVE, "no"), seen(KICKS, "no"))),
    (verdict(3, seen(KICKS, count=5)), verdict(3, seen(KICKS, count=6))),
    (verdict(3, seen(KICKS, count=1)), verdict(3, seen(KICKS, count=6))),
    (verdict(5, seen(WAVE, confidence=0.9)), verdict(5, seen(WAVE, confidence=0.7))),
]


@pytest.mark.parametrize(("better", "worse"), BETTER_FIRST)
def test_the_better_verdict_wins_wherever_it_stands(better: Outcome, worse: Outcome) -> None:
    one, other = Judged(0, walking(), better), Judged(1, walking(), worse)
    assert merit(one) > merit(other)


def test_equals_in_words_are_told_apart_by_feet_that_skate_and_then_by_jerk_that_is_rare() -> None:
    skating = walking()
    skating = replace(skating, joints=skating.joints + np.arange(len(skating))[:, None, None] * [0.1, 0, 0])
    noise = np.random.default_rng(0).normal(0, 0.01, walking().joints.shape) * [1, 0, 0]
    shaking = replace(standing(), joints=standing().joints + 10 * noise[: len(standing())])
    # a confidence of 0.94 is no more than one of 0.93
    sure, less_sure = verdict(5, seen(WAVE, confidence=0.94)), verdict(5, seen(WAVE, confidence=0.93))
    assert merit(Judged(0, walking(), less_sure)) > merit(Judged(1, skating, sure))
    assert merit(Judged(0, standing(), less_sure)) > merit(Judged(1, shaking, sure))
    # standing about after it makes neither less
    longer = replace(skating, joints=np.concatenate((skating.joints, np.repeat(skating.joints[-1:], 200, axis=0))))
    assert merit(Judged(0, longer, sure)) == pytest.approx(merit(Judged(1, skating, sure)), rel=0.05)


def test_what_the_last_frame_cuts_off_is_worse_unless_it_may_go_on() -> None:
    ended, cut = Judged(0, waving(60), verdict(5, seen(WAVE))), Judged(1, waving(60)[:20], verdict(5, seen(WAVE)))
    assert cut.outcome.findings[0].end == 20 and merit(ended) > merit(cut)  # type: ignore[union-attr]
    going = [Judged(0, walking()[:n], verdict(5, seen(WALK))) for n in (20, 40)]
    assert merit(going[0])[6] == merit(going[1])[6]


def test_who_kicks_besides_is_worse_than_who_is_seen_less_surely() -> None:
    sure, less_sure = verdict(5, seen(WAVE, confidence=0.9)), verdict(5, seen(WAVE, confidence=0.5))
    assert merit(Judged(0, walking(), less_sure)) > merit(Judged(1, walking(), sure, besides=1))
    assert merit(Judged(0, walking(), verdict(4, seen(WAVE, "partly")))) < merit(Judged(1, walking(), sure, besides=1))


def test_of_equals_the_one_that_was_drawn_first_stays(model: TextToMotion) -> None:
    greedy = ka.TextToMotion.sampling(model, temperature=0.0)  # every candidate is the same motion
    selection = choose(model, 20, Giver([4]), keep=3, sampling=greedy, until_right=True)
    assert [one.place for one in selection.kept] == [0, 1, 2]


def test_rules_find_the_motion_that_shows_what_is_said() -> None:
    motions = [standing(), kicking(1), kicking(2), walking(), kicking(3)]
    looked_at = judged("a person kicks twice with the right leg", motions, KinematicJudge())
    assert [one.place for one in looked_at.kept] == [0, 1, 2, 3, 4]
    assert max(looked_at.kept, key=merit).place == 2
    assert (looked_at.num_right, looked_at.best.is_right) == (1, False)


# what is told


def test_bars_stand_where_events_are_and_say_what_is_not_as_asked_for() -> None:
    motion = walking(60)
    findings = (
        Finding(KICKS, "yes", 4, 20, 2),
        Finding(Event("wave", side="left"), "partly", 20, 60, 1),
        Finding(Event("walk", direction="forward"), "yes", 0, 10, 2),
        Finding(Event("jump"), "no"),
    )
    bars = player_events(verdict(3, *findings), motion)
    assert [(bar.label, bar.start_s, bar.end_s, bar.side) for bar in bars] == [
        ("kick right ×3 (counted 2)", 0.2, 1.0, "right"),
        ("wave left (in part)", 1.0, 3.0, "left"),
        ("walk forward", 0.0, 0.5, None),
    ]
    assert player_events(Invalid("fake", "unseen"), motion) == player_events(None, motion) == []


def test_intervals_of_the_timeline_are_where_the_movement_is() -> None:
    (bars,) = judged("a person waves", [waving(80)], KinematicJudge()).timeline()
    assert [bar.label for bar in bars] == ["wave"]
    assert 0 <= bars[0].start_s < bars[0].end_s <= waving(80).duration_s


# what cannot be


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n": 0}, ConfigError, r"n=0 leaves nothing to choose from; use 1 or more \(--best-of, --until-right\)"),
        ({"n": -3}, ConfigError, "n=-3 leaves nothing"),
        ({"n": 4, "keep": 5}, ConfigError, "keep=5 must be 1 to 4"),
        ({"n": 4, "keep": 0}, ConfigError, "keep=0 must be 1 to 4"),
        ({"n": 4, "prompt": "hmm"}, PromptError, "names nothing that a body does"),
        ({"n": 4, "prompt": ""}, PromptError, "''"),
        ({"n": 4, "prompt": "walks " * 60}, PromptError, "too long"),
        ({"n": 4, "length_s": 99.0}, ConfigError, r"length_s=99\.0 must be between"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_a_judge_is_asked(
    options: dict[str, Any], error: type[Exception], message: str, model: TextToMotion
) -> None:
    judge = Giver()
    with pytest.raises(error, match=message):
        best_of(model, **{"prompt": PROMPT, "judge": judge, **options})
    assert judge.asked == []
