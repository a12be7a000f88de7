"""The numbers of reading back: who tells the truth gets all of it, and what is late, missing or too much costs."""

from __future__ import annotations

import numpy as np
import pytest

from kinalign.evaluation.captions import bleu
from kinalign.evaluation.eventscores import Number
from kinalign.evaluation.eventtruth import number_of
from kinalign.events.compose import Composed, Part, compose
from kinalign.events.program import Event
from kinalign.motion.joining import uniform
from kinalign.motion.synthetic import squatting, walking, waving
from kinalign.planning.understand import sentence_of
from kinalign.recipes.cycle import _others, bleu_1
from kinalign.recipes.understand import Scores, Told, matched, score

PARTS = [
    (walking(60), Event("walk", direction="forward")),
    (waving(60, side="left"), Event("wave", side="left")),
    (squatting(2), Event("squat", count=2)),
]


@pytest.fixture(scope="module")
def composed() -> list[Composed]:
    parts = [Part(uniform(motion), event) for motion, event in PARTS]
    return [compose(parts), compose(parts[1:]), compose([parts[2], parts[0]])]


def truth(composed: Composed, *, late: int = 0) -> list[Told]:
    return [
        Told(event, start + late, end + late, sentence_of(event))
        for event, (start, end) in zip(composed.program.events, composed.intervals)
    ]


def value(number: Number) -> float:
    assert number.value is not None and number.low is not None and number.high is not None
    assert number.low <= number.value <= number.high
    return number.value


def recall(scores: Scores) -> float:
    return value(number_of(scores.found.sum(axis=1, keepdims=True), is_share=True))


def precision(scores: Scores) -> float:
    return value(number_of(scores.true.sum(axis=1, keepdims=True), is_share=True))


def test_who_tells_the_truth_gets_all_of_it(composed: list[Composed]) -> None:
    scores = score(composed, [truth(one) for one in composed])
    assert recall(scores) == precision(scores) == 1
    assert value(number_of(scores.details)) == value(number_of(scores.worded)) == 1
    assert value(scores.median_error()) == 0 and value(number_of(scores.boundaries)) == 1
    assert scores.median_error().of == 4


def test_what_is_late_is_found_but_for_its_boundaries(composed: list[Composed]) -> None:
    scores = score(composed, [truth(one, late=8) for one in composed])
    assert recall(scores) == 1 and value(scores.median_error()) == pytest.approx(0.4)
    assert value(number_of(scores.boundaries)) == value(number_of(scores.cuts)) == 0


def test_who_says_nothing_finds_nothing_and_its_boundaries_are_endlessly_far(composed: list[Composed]) -> None:
    scores = score(composed, [[] for _ in composed])
    assert recall(scores) == 0 and np.isinf(value(scores.median_error()))


def test_what_is_told_twice_counts_once(composed: list[Composed]) -> None:
    scores = score(composed, [[*truth(one), *truth(one)] for one in composed])
    assert recall(scores) == 1 and precision(scores) == 0.5
    assert matched(composed[0], truth(composed[0])) == [0, 1, 2]


def test_another_action_side_or_count_is_wrong_each_in_its_column(composed: list[Composed]) -> None:
    def of(change: Event) -> Scores:
        told = [truth(one) for one in composed]
        return score(
            composed,
            [[one._replace(event=change) if one.event.action == "squat" else one for one in row] for row in told],
        )

    assert recall(of(Event("bow", count=2))) == pytest.approx(4 / 7)
    assert recall(of(Event("squat", count=3))) == 1
    assert value(number_of(of(Event("squat", count=3)).details)) == pytest.approx(4 / 7)
    right = truth(composed[1])
    mirrored = [one._replace(event=one.event.mirrored, text=sentence_of(one.event.mirrored)) for one in right]
    scores = score(composed[1:2], [mirrored])
    assert scores.details.tolist() == [[[1, 2]]] and scores.worded.tolist() == [[[1, 2]]]


# cycles


def test_bleu_of_a_corpus_lies_in_its_interval_and_is_the_evaluations_own() -> None:
    texts = ["a person walks", "someone jumps up", "a man waves his hand", ""]
    prompts = ["a person walks slowly", "a person jumps", "a man waves his left hand", "a person bows"]
    number = bleu_1(texts, prompts)
    assert value(number) == bleu([*texts[:3], "nothing"], [[one] for one in prompts]).bleu_1
    assert value(bleu_1(prompts, prompts)) == pytest.approx(1)


def test_by_chance_everybody_has_what_is_anothers() -> None:
    rows = list(range(9))
    others = _others(rows, np.random.default_rng(0))
    assert sorted(others) == rows and all(one != other for one, other in zip(rows, others))
