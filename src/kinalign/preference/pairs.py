"""Which candidates make a pair: AToM's algorithm 1 (arXiv 2411.18654), and a choice of a few pairs of each prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from kinalign.errors import ConfigError
from kinalign.judge.prompts import EventPrompt
from kinalign.judge.verdict import Verdict
from kinalign.motion.motion import Motion
from kinalign.motion.physics import foot_skating, jitter
from kinalign.preference.records import Candidate, PreferencePair


@dataclass(frozen=True)
class PairRule:
    """What makes a pair, and how many of them a prompt gives."""

    gap: int = 0
    """The winner's score is higher by more than this: delta, which AToM does not tell. With 1, the right order (5) does
    not win over a wrong one (4), nor the right count over one too many."""
    min_winner: int = 3
    """The winner's score is higher than this, as in AToM."""
    max_pairs: int = 3
    """At most so many pairs of a prompt; AToM's released data have about 3."""
    smoother: float = 0.0
    """Of two winners of one score the one wins that is smoother by this share (`roughness`); 0 makes no such pairs."""

    def __post_init__(self) -> None:
        if not 0 <= self.gap <= 3:
            raise ConfigError(f"gap={self.gap} must be 0 to 3: scores are 1 to 5, and 4 is never exceeded (--gap)")
        if not 0 <= self.min_winner <= 4:
            raise ConfigError(f"min_winner={self.min_winner} must be 0 to 4: the best score is 5 (--min-winner)")
        if self.max_pairs < 1:
            raise ConfigError(f"max_pairs={self.max_pairs} leaves no pair; use 1 or more (--max-pairs)")
        if not 0 <= self.smoother < 1:
            raise ConfigError(f"smoother={self.smoother} must be a share from 0 to below 1 (--smoother)")


class Places(NamedTuple):
    """Where a prompt's two candidates of a pair stand among its scores."""

    winner: int
    loser: int


def choose_pairs(scores: Sequence[int | None], rule: PairRule, *, rough: Sequence[float] | None = None) -> list[Places]:
    """Pairs of a prompt's candidates by their scores; None, of what has no score, is in none.

    Pairs with the largest gap come first, among them those whose candidates were chosen least, then better winners:
    three pairs of ten candidates seldom repeat one motion. How `rough` each one is decides between equal scores.

    >>> choose_pairs([5, 1, 3, None, 5, 2], PairRule(gap=1, max_pairs=3))
    [Places(winner=0, loser=1), Places(winner=4, loser=1), Places(winner=0, loser=5)]
    """
    left: dict[Places, tuple[int, int]] = {}
    for (a, score_a), (b, score_b) in combinations(enumerate(scores), 2):
        if score_a is None or score_b is None:
            continue
        winner, loser = (a, b) if score_a > score_b else (b, a)
        if score_a == score_b and rule.smoother and rough is not None:
            winner, loser = (a, b) if rough[a] < rough[b] else (b, a)
            is_pair = rough[winner] < (1 - rule.smoother) * rough[loser]
        else:
            is_pair = abs(score_a - score_b) > rule.gap
        if is_pair and max(score_a, score_b) > rule.min_winner:
            left[Places(winner, loser)] = (abs(score_a - score_b), max(score_a, score_b))
    uses: Counter[int] = Counter()
    chosen: list[Places] = []
    while left and len(chosen) < rule.max_pairs:
        best = min(left, key=lambda p: (-left[p][0], uses[p.winner] + uses[p.loser], -left[p][1], p))
        del left[best]
        uses.update(best)
        chosen.append(best)
    return chosen


def roughness(motion: Motion) -> float:
    """How much a motion's feet slide and its joints tremble: the geometric mean of m/s and m/s³, for comparisons."""
    return float(np.sqrt(foot_skating(motion) * jitter(motion)))


def pairs_of(
    prompt: EventPrompt, candidates: Sequence[Candidate], rule: PairRule, *, model: str, judge: str
) -> list[PreferencePair]:
    """Pairs of one prompt's judged candidates, without what has no verdict and what repeats a candidate before it."""
    scores: list[int | None] = []
    seen: set[tuple[int, ...] | None] = set()
    for one in candidates:
        scores.append(one.outcome.score if isinstance(one.outcome, Verdict) and one.codes not in seen else None)
        seen.add(one.codes)
    rough = [roughness(one.motion) if one.motion else 0.0 for one in candidates] if rule.smoother else None
    return [
        PreferencePair(
            id=f"{prompt.id}-{candidates[winner].index}-{candidates[loser].index}",
            prompt=prompt.prompt,
            task=prompt.task,
            program=prompt.program,
            chosen=candidates[winner],
            rejected=candidates[loser],
            judge=judge,
            model=model,
        )
        for winner, loser in choose_pairs(scores, rule, rough=rough)
    ]
