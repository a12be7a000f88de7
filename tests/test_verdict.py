"""Scores follow AToM's rule, and a verdict survives JSON."""

from __future__ import annotations

import pytest

from kinalign.errors import VerdictError
from kinalign.events.parse import parse
from kinalign.events.program import Event
from kinalign.judge.rubric import RUBRICS, SUB_TASKS, score_events, score_frequency, sub_task_of
from kinalign.judge.verdict import Case, Finding, Invalid, Outcome, Verdict, outcome_from_json
from kinalign.motion.synthetic import walking


def test_atoms_rule_for_three_events() -> None:
    assert score_events(["yes", "yes", "yes"]) == 5
    assert score_events(["yes", "yes", "yes"], order_is_right=False) == 4
    assert score_events(["yes", "no", "yes"]) == score_events(["partly", "no", "yes"]) == 3
    assert score_events(["no", "no", "partly"]) == 2
    assert score_events(["no", "no", "no"]) == 1


def test_other_numbers_of_events() -> None:
    assert score_events(["no"]) == 1 and score_events(["partly"]) == 4 and score_events(["yes"]) == 5
    assert score_events(["yes", "no"]) == 3 and score_events(["no", "no"]) == 1
    assert score_events(["yes", "no", "no", "no", "no"]) == 2


def test_frequency_counts_how_far_off() -> None:
    assert [score_frequency("yes", off_by=n) for n in (0, 1, -1, 2, -7)] == [5, 4, 4, 3, 3]
    assert score_frequency("partly", off_by=0) == 2 and score_frequency("no", off_by=0) == 1


def test_every_score_has_its_words() -> None:
    assert set(RUBRICS) == set(SUB_TASKS) and all(len(set(words)) == 5 for words in RUBRICS.values())


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("a person kicks three times", "frequency"),
        ("a person kicks", "integrity"),
        ("a person walks while waving", "integrity"),
        ("a person jumps twice, then waves", "temporal"),
    ],
)
def test_the_question_that_a_prompt_asks(text: str, task: str) -> None:
    assert sub_task_of(parse(text)) == task
    assert Case.of(text, walking()).task == task


@pytest.mark.parametrize(
    "outcome",
    [
        Verdict(
            4,
            "temporal",
            "rules",
            "jump too late",
            (Finding(Event("jump", count=2), "yes", 3, 19, 2, 0.75, "flight of 0.4 s"), Finding(Event("wave"), "no")),
            order_is_right=False,
            cost_usd=0.01,
        ),
        Invalid("rules", "no such action", 0.5),
    ],
)
def test_an_outcome_survives_json(outcome: Outcome) -> None:
    assert outcome_from_json(outcome.to_json()) == outcome


@pytest.mark.parametrize("score", [0, 6, 4.0, True, None])
def test_a_score_out_of_range_is_no_verdict(score: object) -> None:
    with pytest.raises(VerdictError, match="1 to 5"):
        Verdict(score, "temporal", "rules")  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [None, [], "5", {}, {"score": 5}, {"invalid": True}])
def test_what_is_no_verdict_is_refused(values: object) -> None:
    with pytest.raises(VerdictError):
        outcome_from_json(values)
