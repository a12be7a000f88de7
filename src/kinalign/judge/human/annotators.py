"""How far people agree: share of equal answers, Cohen's kappa of two, Krippendorff's alpha of any number.

Krippendorff, Computing Krippendorff's alpha-reliability, 2011.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations
from typing import TypeVar

from kinalign.errors import LabelError
from kinalign.judge.agreement import kappa, wilson_interval
from kinalign.judge.human.labels import Label, Score, Vote

Answer = TypeVar("Answer", bound=Hashable)


def krippendorff_alpha(
    units: Sequence[Sequence[Answer]], *, distance: Callable[[Answer, Answer], float] = lambda a, b: float(a != b)
) -> float | None:
    """Agreement of any number of people; a unit is what they said of one thing, and not all need say something.

    `distance` is 0 for equal answers: 1 for all others by default, the squared difference for scores. None where
    nobody shares a unit or all answers are the same one.
    """
    units = [unit for unit in units if len(unit) > 1]
    values = Counter(answer for unit in units for answer in unit)
    total = values.total()
    expected = sum(values[a] * values[b] * distance(a, b) for a in values for b in values)
    if not expected:
        return None
    observed = sum(sum(distance(a, b) for a in unit for b in unit) / (len(unit) - 1) for unit in units)
    return 1 - (total - 1) * observed / expected


def agreement_report(labels: Sequence[Label]) -> str:
    """A text for the terminal: each two people's agreement, that of all, and how often each chose the left side.

    Raises LabelError where there are no labels.
    """
    if not labels:
        raise LabelError("there are no labels in these files")
    choices = {(vote.about, vote.user): vote.choice for vote in labels if isinstance(vote, Vote)}
    scores = {
        (score.about, score.user): score.score
        for score in labels
        if isinstance(score, Score) and score.score is not None
    }
    parts = []
    if choices:
        parts.append(_section("choices (sample_1, sample_2, skipped)", choices, lambda a, b: float(a != b)))
        parts.append(_sides([vote for vote in labels if isinstance(vote, Vote)]))
    if scores:
        parts.append(_section("scores (1 to 5; alpha by squared difference)", scores, lambda a, b: float(a - b) ** 2))
    return "\n\n".join(parts)


def _section(
    title: str, said: Mapping[tuple[tuple[str, ...], str], Answer], distance: Callable[[Answer, Answer], float]
) -> str:
    users = sorted({user for _, user in said})
    things = list(dict.fromkeys(about for about, _ in said))
    units = [[said[about, user] for user in users if (about, user) in said] for about in things]
    lines = [f"{title}: {len(said)} by {len(users)} people on {len(things)}"]
    codes = {answer: code for code, answer in enumerate(sorted(set(said.values()), key=str), start=1)}
    for user in users:
        answers = Counter(str(answer) for (_, by), answer in said.items() if by == user)
        lines.append(f"  {user}: " + ", ".join(f"{answer} ×{count}" for answer, count in sorted(answers.items())))
    for a, b in combinations(users, 2):
        shared = [about for about in things if (about, a) in said and (about, b) in said]
        if shared:
            first, second = [said[about, a] for about in shared], [said[about, b] for about in shared]
            equal = sum(x == y for x, y in zip(first, second))
            agreed = _number(kappa([codes[answer] for answer in first], [codes[answer] for answer in second]))
            lines.append(
                f"  {a} and {b}: {equal} of {len(shared)} equal ({equal / len(shared):.3f}), Cohen's kappa {agreed}"
            )
    if shared_units := [unit for unit in units if len(unit) > 1]:
        alpha = _number(krippendorff_alpha(shared_units, distance=distance))
        lines.append(f"  all, on {len(shared_units)} that two or more answered: Krippendorff's alpha {alpha}")
    else:
        lines.append("  no two people answered the same")
    return "\n".join(lines)


def _sides(votes: Sequence[Vote]) -> str:
    """How often each chose what stood on the left: far from a half, the place decides and not the motion."""
    lines = ["chosen on the left, with a 95 % interval (Wilson)"]
    for user in sorted({vote.user for vote in votes}):
        own = [vote for vote in votes if vote.user == user and vote.left and vote.choice != "skipped"]
        if own:
            left = sum(vote.choice == vote.left for vote in own)
            low, high = wilson_interval(left, len(own))
            lines.append(f"  {user}: {left} of {len(own)} ({left / len(own):.3f}; {low:.3f} to {high:.3f})")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "undefined: all answers are the same" if value is None else f"{value:.3f}"
