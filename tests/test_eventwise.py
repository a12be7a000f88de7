"""Events made one by one and joined: a model that shows one event of each kind, and a judge that looks at the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_pipeline import lm_of, same, tokenizer_of

import kinalign as ka
from kinalign.data.records import Clip
from kinalign.errors import ConfigError, PromptError
from kinalign.events.parse import parse
from kinalign.eventwise import (
    AT_LARGE,
    CANDIDATES,
    CLEAR,
    WHOLES,
    WORDINGS,
    by_events,
    event_takes,
    excerpts_of,
    from_standing,
)
from kinalign.judge.kinematic import KinematicJudge
from kinalign.judge.verdict import Verdict
from kinalign.lm.model import Sampling
from kinalign.motion.joining import UPRIGHT_M, is_upright, uniform
from kinalign.motion.motion import Motion
from kinalign.motion.physics import peak_jerk
from kinalign.motion.synthetic import jumping, kicking, squatting, standing, walking, waving
from kinalign.pipeline import Generated, TextToMotion
from kinalign.selection import SHORTEST_S

SHOWN = {
    "walk": walking(60),
    "kick": kicking(3, side="left"),
    "squat": squatting(2),
    "wave": waving(80, side="left", num_waves=4),
}


class OneEvent(TextToMotion):
    """A model that shows the first event of a text, kicks and waves with the left alone, and else stands."""

    def __init__(self, **shown: Motion) -> None:
        super().__init__(lm_of(), tokenizer_of())
        self.shown = SHOWN | shown
        self.asked: list[str] = []
        self.lengths: list[float | None] = []

    def generate(
        self, prompts: Sequence[str], *, num_candidates: int = 1, length_s: float | None = None, **_: Any
    ) -> list[Generated]:
        self.asked += prompts
        self.lengths.append(length_s)
        shown = [self.shown.get(parse(prompt).events[0].action, standing(60)) for prompt in prompts]
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
    assert 1 < selection.num_drawn <= 2 * WHOLES and selection.best.motion.caption == prompt


def test_each_event_is_asked_for_alone_without_its_count(model: OneEvent) -> None:
    program = parse("a person kicks twice with the left leg and then squats three times and then kicks once more")
    model.asked.clear()
    event_takes(model, program)
    asked = [parse(text).events for text in model.asked]
    assert all(len(events) == 1 and events[0].count is None for events in asked)
    kinds = {replace(event, count=None) for event in program.events}
    assert {events[0].action for events in asked} == {"kick", "squat"} and len(asked) == WORDINGS * len(kinds)


def test_an_event_that_joints_show_by_another_is_asked_for_by_that_too(model: OneEvent) -> None:
    model.asked.clear()
    event_takes(model, parse("a person limps forward"))
    assert {parse(text).events[0].action for text in model.asked} == {"limp", "walk"}


def test_excerpts_are_there_on_both_sides(model: OneEvent) -> None:
    excerpts = list(excerpts_of(event_takes(model, parse("a person kicks"))))
    sides = [one.event.side for one in excerpts if one.event.action == "kick"]
    assert sides.count("left") == sides.count("right") > CANDIDATES


def test_of_an_event_that_no_rule_knows_the_whole_motion_is_taken(model: OneEvent) -> None:
    excerpts = list(excerpts_of(event_takes(model, parse("a person salutes"))))
    assert {one.event for one in excerpts} == set(parse("a person salutes").events)
    assert all(len(one.motion) == len(standing(60)) for one in excerpts)
    walks = by_events(model, "a person walks forward and then salutes").best.motion
    assert len(walks) > 60


def test_what_is_right_at_once_is_asked_for_only_as_it_stands(model: OneEvent) -> None:
    model.asked.clear()
    prompt = "a person squats twice like a robot"
    selection = by_events(model, prompt, 5)
    assert model.asked == [prompt] and selection.num_drawn == 5 and selection.best.is_right


def test_what_is_not_right_at_once_is_asked_for_in_plain_words_and_in_the_mirror(model: OneEvent) -> None:
    selection = by_events(model, "a person angrily kicks with the right leg", 5, plant=False)
    assert selection.best.is_right and selection.best.place >= 5 and selection.num_drawn == 10
    assert same([selection.best.motion], [uniform(SHOWN["kick"]).mirror()])


def test_what_is_seen_dimly_is_asked_for_at_large_unless_a_manner_is_said() -> None:
    dim, clear = waving(60, side="left", num_waves=2), waving(80, side="left", num_waves=4)
    verdicts = [KinematicJudge()("a person waves", motion) for motion in (dim, clear)]
    assert all(isinstance(one, Verdict) and one.is_right for one in verdicts)
    assert [one.findings[0].confidence >= CLEAR for one in verdicts if isinstance(one, Verdict)] == [False, True]

    class AtLarge(OneEvent):
        def generate(self, prompts: Sequence[str], **how: Any) -> list[Generated]:
            made = super().generate(prompts, **how)
            return [
                one._replace(motions=[clear] * len(one.motions)) if AT_LARGE in prompt else one
                for prompt, one in zip(prompts, made)
            ]

    model = AtLarge(wave=dim)
    chosen = by_events(model, "a person waves", 3, plant=False)
    assert chosen.num_drawn == 6 and same([chosen.best.motion], [uniform(clear)])
    model.asked.clear()
    chosen = by_events(model, "a person waves sadly", 3, plant=False)
    assert model.asked == ["a person waves sadly"] and same([chosen.best.motion], [dim])
    # what begins at once is led to from standing, but for longer than is said it does not last
    program = parse("a person waves")
    lengths = [len(take.motion) for take in event_takes(model, program, at_large=True)]
    assert sorted(set(lengths))[:2] == [60, 80] and max(lengths) > 100
    timed = event_takes(model, program, {program.events[0]: 4.0}, at_large=True)
    assert {len(take.motion) for take in timed} == {60, 80}


def test_what_is_not_shown_even_alone_is_the_best_of_all(model: OneEvent) -> None:
    selection = by_events(model, "a person does a cartwheel", 5)
    assert selection.num_drawn == 10 and selection.num_right == 0
    assert same([selection.best.motion], [standing(60)])


def test_a_verb_that_is_not_understood_is_asked_for_only_as_it_stands(model: OneEvent) -> None:
    model.asked.clear()
    assert by_events(model, "a person yodels and then kicks", 3).num_drawn == 3
    assert model.asked == ["a person yodels and then kicks"]


@pytest.fixture(scope="module")
def lying(openmocap: Callable[[str], list[Clip]]) -> OneEvent:
    return OneEvent(lie_down=next(clip.motion for clip in openmocap("test") if clip.label.startswith("lieDown")))


@pytest.mark.parametrize("prompt", ["a person gets up", "a person gets up and walks forward"])
def test_rising_is_going_down_backwards(lying: OneEvent, prompt: str) -> None:
    best = by_events(lying, prompt).best
    assert best.is_right and not is_upright(uniform(best.motion), 0) and is_upright(uniform(best.motion), -1)


def test_who_lies_down_gets_up_from_where_the_body_is(lying: OneEvent) -> None:
    selection = by_events(lying, "a person lies down, then gets up and walks forward")
    assert selection.best.is_right
    hips_m = selection.best.motion.joints[:, 0, 1]
    assert hips_m[0] > UPRIGHT_M > hips_m.min() and hips_m[-1] > UPRIGHT_M


def test_squats_from_which_one_stands_up_are_not_followed_by_another_rising(model: OneEvent) -> None:
    best = by_events(model, "a person kicks with the left leg, then squats three times and stands back up").best
    assert best.is_right and isinstance(best.outcome, Verdict)
    assert [finding.count for finding in best.outcome.findings][1] == 3


def test_a_hop_is_led_to_from_standing_and_longer_motions_are_left_as_they_are() -> None:
    hop = jumping(1)[15:30]
    led = from_standing(hop)
    assert hop.duration_s < SHORTEST_S < led.duration_s
    outcome = KinematicJudge()("a person jumps once", led)
    assert isinstance(outcome, Verdict) and outcome.score == 5
    first, last = (led.joints[frame, 0, 1] for frame in (0, -1))
    assert min(first, last) > UPRIGHT_M and peak_jerk(led) < 1.5 * peak_jerk(uniform(hop))
    assert from_standing(SHOWN["walk"]) is SHOWN["walk"]


def test_seconds_are_those_of_the_motion_or_of_the_event_of_which_they_are_said(model: OneEvent) -> None:
    model.lengths.clear()
    by_events(model, "a person kicks with the right leg for 4 seconds")
    assert set(model.lengths) == {4.0}
    model.lengths.clear()
    by_events(model, "a person walks for 2.5 seconds and then squats twice")
    assert model.lengths[0] is None and set(model.lengths) == {None, 2.5}


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
    made = by_events(model, "a person walks forward, then squats twice").best.motion
    assert isinstance(made, Motion) and np.isfinite(made.joints).all()
    assert peak_jerk(made) < 1.5 * max(peak_jerk(SHOWN["walk"]), peak_jerk(SHOWN["squat"]))
