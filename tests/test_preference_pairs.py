"""Pairs follow AToM's algorithm 1: a gap, a good winner, a few of each prompt."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import pytest

from kinalign.errors import ConfigError
from kinalign.events.parse import parse
from kinalign.judge.prompts import EventPrompt
from kinalign.judge.verdict import Invalid, Verdict
from kinalign.preference.pairs import PairRule, choose_pairs, pairs_of
from kinalign.preference.records import Candidate

ALL = 100


@pytest.mark.parametrize("gap", [0, 1, 2])
@pytest.mark.parametrize("min_winner", [0, 3, 4])
def test_without_a_limit_every_pair_that_the_rule_allows_is_there_once(gap: int, min_winner: int) -> None:
    rng = random.Random(gap)
    for _ in range(50):
        scores = [rng.choice([None, 1, 2, 3, 4, 5]) for _ in range(8)]
        pairs = choose_pairs(scores, PairRule(gap, min_winner, ALL))
        expected = {
            frozenset((a, b))
            for a, b in combinations([place for place, score in enumerate(scores) if score is not None], 2)
            if abs((scores[a] or 0) - (scores[b] or 0)) > gap and max(scores[a] or 0, scores[b] or 0) > min_winner
        }
        assert {frozenset(pair) for pair in pairs} == expected and len(pairs) == len(expected)
        assert all((scores[winner] or 0) > (scores[loser] or 0) for winner, loser in pairs)


def test_the_few_pairs_are_those_with_the_largest_gaps() -> None:
    rng = random.Random(1)
    for _ in range(50):
        scores = [rng.randint(1, 5) for _ in range(10)]
        gaps = sorted((scores[a] - scores[b] for a, b in choose_pairs(scores, PairRule(max_pairs=ALL))), reverse=True)
        assert [scores[a] - scores[b] for a, b in choose_pairs(scores, PairRule(max_pairs=3))] == gaps[:3]


def test_pairs_of_equal_gap_are_of_different_motions() -> None:
    pairs = choose_pairs([5, 5, 5, 1, 1, 1], PairRule(max_pairs=3))
    assert max(Counter(place for pair in pairs for place in pair).values()) == 1


PROMPT = EventPrompt("frequency-00001", "a person jumps twice", "frequency", parse("a person jumps twice"))


def candidate(index: int, score: int | None, codes: tuple[int, ...] | None = None) -> Candidate:
    outcome = Invalid("j", "dark") if score is None else Verdict(score, "frequency", "j")
    return Candidate(index, 7, codes or (index,), outcome)


def test_what_has_no_verdict_is_in_no_pair() -> None:
    candidates = [candidate(0, 5), candidate(1, None), candidate(2, 1)]
    (pair,) = pairs_of(PROMPT, candidates, PairRule(), model="m", judge="j")
    assert (pair.id, pair.prompt_id) == ("frequency-00001-0-2", "frequency-00001")
    assert (pair.chosen, pair.rejected) == (candidates[0], candidates[2])


def test_a_motion_that_comes_twice_is_taken_once() -> None:
    candidates = [candidate(0, 5, (4, 4)), candidate(1, 1, (4, 4)), candidate(2, 1, (9,)), candidate(3, 5, (9,))]
    pairs = pairs_of(PROMPT, candidates, PairRule(max_pairs=ALL), model="m", judge="j")
    assert [pair.id for pair in pairs] == ["frequency-00001-0-2"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [({"gap": 4}, "gap=4"), ({"gap": -1}, "--gap"), ({"min_winner": 5}, "5"), ({"max_pairs": 0}, "0")],
)
def test_a_rule_that_allows_no_pair_is_refused(rule: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PairRule(**rule)
