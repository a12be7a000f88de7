"""Events made one by one and joined: a model that shows one event of each kind, and a judge that looks at the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_pipeline import lm_of, same, tokenizer_of

import kinalign as ka
from kinalign.errors import ConfigError, PromptError
from kinalign.events.parse import parse
from kinalign.eventwise import CANDIDATES, WHOLES, WORDINGS, by_events, event_excerpts
from kinalign.judge.kinematic import KinematicJudge
from kinalign.judge.verdict import Verdict
from kinalign.lm.model import Sampling
from kinalign.motion.motion import Motion
from kinalign.motion.synthetic import kicking, squatting, standing, walking, waving
from kinalign.pipeline import Generated, TextToMotion

SHOWN = {
    "walk": walking(60),
    "kick": kicking(3, side="left"),
    "squat": squatting(2),
    "wave": waving(80, side="left", num_waves=4),
}


class OneEvent(TextToMotion):
    """A model that shows the first event of a text, kicks and waves with the left alone, and else stands."""

    def __init__(self) -> None:
        super().__init__(lm_of(), tokenizer_of())
        self.asked: list[str] = []

    def generate(self, prompts: Sequence[str], *, num_candidates: int = 1, **_: Any) -> list[Generated]:
        self.asked += prompts
        shown = [SHOWN.get(parse(prompt).events[0].action, standing(60)) for prompt in prompts]
        return [Generated([motion] * num_candidates, 0) for motion in shown]


@pytest.fixture(scope="module")
def model() -> OneEvent:
    return OneEvent()


@pytest.mark.parametrize(
    "prompt",
    [
        "a person walks forward, then kicks twice with the right leg and then squats three times",
        "a person squats four times",
        "someone waves with the right hand, then kicks once with the left leg",
    ],
)
def test_a_model_of_single_events_shows_all_of_them_in_order_and_as_often_as_said(model: OneEvent, prompt: str) -> None:
    alone = KinematicJudge()(prompt, model.generate([prompt])[0].motions[0])
    assert isinstance(alone, Verdict) and alone.score < 5
    selection = by_events(model, prompt)
    again = KinematicJudge()(prompt, selection.best.motion)
    assert selection.best.is_right and isinstance(again, Verdict) and again.score == 5, again
    assert 1 < selection.num_drawn <= WHOLES and selection.best.motion.caption == prompt


def test_each_event_is_asked_for_alone_without_its_count(model: OneEvent) -> None:
    program = parse("a person kicks twice with the left leg and then squats three times and then kicks once more")
    model.asked.clear()
    list(event_excerpts(model, program))
    asked = [parse(text).events for text in model.asked]
    assert all(len(events) == 1 and events[0].count is None for events in asked)
    kinds = {replace(event, count=None) for event in program.events}
    assert {events[0].action for events in asked} == {"kick", "squat"} and len(asked) == WORDINGS * len(kinds)


def test_excerpts_are_there_on_both_sides(model: OneEvent) -> None:
    excerpts = list(event_excerpts(model, parse("a person kicks")))
    sides = [one.event.side for one in excerpts if one.event.action == "kick"]
    assert sides.count("left") == sides.count("right") > CANDIDATES


def test_of_an_event_that_no_rule_knows_the_whole_motion_is_taken(model: OneEvent) -> None:
    excerpts = list(event_excerpts(model, parse("a person salutes")))
    assert {one.event for one in excerpts} == set(parse("a person salutes").events)
    assert all(len(one.motion) == len(standing(60)) for one in excerpts)
    walks = by_events(model, "a person walks forward and then salutes").best.motion
    assert len(walks) > 60


def test_what_is_not_shown_even_alone_is_made_at_once(model: OneEvent) -> None:
    selection = by_events(model, "a person does a cartwheel", 5)
    assert model.asked[-1] == "a person does a cartwheel" and selection.num_drawn == 5
    assert same([selection.best.motion], [standing(60)])


def test_events_that_can_be_shown_are_shown_without_the_others(model: OneEvent) -> None:
    best = by_events(model, "a person squats twice, then does a cartwheel and then kicks once with the left leg").best
    assert isinstance(best.outcome, Verdict)
    assert [finding.seen for finding in best.outcome.findings] == ["yes", "no", "yes"]


def test_one_seed_gives_the_same_motions_and_another_one_others() -> None:
    model = TextToMotion(lm_of(), tokenizer_of())
    how: dict[str, Any] = {"sampling": Sampling(temperature=1.0), "keep": 3}
    first, again, other = (ka.by_events(model, "a person salutes", 4, seed=seed, **how) for seed in (1, 1, 2))
    assert same(first.motions, again.motions) and not same(first.motions, other.motions)


def test_better_wholes_come_first(model: OneEvent) -> None:
    kept = by_events(model, "a person walks forward, then squats twice", keep=3).kept
    scores = [one.outcome.score for one in kept if isinstance(one.outcome, Verdict)]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(("n", "keep"), [(0, 1), (4, 5)])
def test_numbers_that_leave_nothing_are_refused(model: OneEvent, n: int, keep: int) -> None:
    with pytest.raises(ConfigError, match=r"must be|leaves nothing"):
        by_events(model, "a person walks", n, keep=keep)


def test_a_prompt_that_names_no_event_is_refused(model: OneEvent) -> None:
    with pytest.raises(PromptError, match="names nothing that a body does"):
        by_events(model, "the weather is fine")


def test_joined_motions_jerk_no_more_than_what_they_are_made_of(model: OneEvent) -> None:
    from kinalign.motion.physics import peak_jerk

    made = by_events(model, "a person walks forward, then squats twice").best.motion
    assert isinstance(made, Motion) and np.isfinite(made.joints).all()
    assert peak_jerk(made) < 1.5 * max(peak_jerk(SHOWN["walk"]), peak_jerk(SHOWN["squat"]))
