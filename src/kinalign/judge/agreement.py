"""How far two judges agree on the same questions: kappa, rank correlation, pairs, confusion, what was invalid, cost.

Formulas on plain sequences come first. None stands for a number that does not exist: agreement on no question, a
correlation with a judge that gives everything one score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import VerdictError
from kinalign.judge.rubric import SUB_TASKS, SubTask
from kinalign.judge.verdict import Invalid, Outcome, Verdict

SCORES = (1, 2, 3, 4, 5)

Array = NDArray[np.float64]
Table = NDArray[np.int64]


def confusion(first: Sequence[int], second: Sequence[int]) -> Table:
    """(5, 5) how often the first judge gave the row's score where the second gave the column's."""
    table = np.zeros((len(SCORES), len(SCORES)), dtype=np.int64)
    np.add.at(table, (np.array(first, dtype=int) - 1, np.array(second, dtype=int) - 1), 1)
    return table


def kappa(first: Sequence[int], second: Sequence[int], *, weighted: bool = False) -> float | None:
    """Cohen's kappa of scores 1 to 5, weighted by the squared distance of two scores if wanted.

    >>> kappa([1, 1, 2, 2], [1, 2, 2, 2]), kappa([1, 5, 3, 3], [1, 5, 1, 5], weighted=True)
    (0.5, 0.6666666666666667)
    """
    if len({*first, *second}) < 2:  # nothing, or nothing but one score
        return None
    return float(cohens_kappa(confusion(first, second).astype(float), quadratic=weighted))


def cohens_kappa(tables: Array, *, quadratic: bool = False) -> Array:
    """Cohen's kappa of tables (..., K, K) of counts, plain or with quadratic weights.

    It is 0 for a judge that always says one thing; 1 where the truth, too, is always that. Source: Cohen, Psychological
    Bulletin 1960 and 1968.
    """
    size = tables.shape[-1]
    apart = np.subtract.outer(np.arange(size), np.arange(size))
    weights = np.square(apart) / (size - 1) ** 2 if quadratic else (apart != 0).astype(float)
    total = tables.sum(axis=(-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = tables / total[..., None, None]
        by_chance = shares.sum(axis=-1)[..., :, None] * shares.sum(axis=-2)[..., None, :]
        seen, expected = (weights * shares).sum(axis=(-2, -1)), (weights * by_chance).sum(axis=(-2, -1))
        kappa = np.where((expected == 0) & (total > 0), 1.0, 1 - seen / expected)
    return np.asarray(kappa)


def wilson_interval(hits: float, total: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Bounds of a share, 95 % by default (Wilson 1927).

    >>> [round(bound, 4) for bound in wilson_interval(42, 50)]
    [0.7149, 0.9166]
    """
    share, spread = hits / total, z**2 / total
    middle, half = share + spread / 2, z * sqrt(share * (1 - share) / total + spread / (4 * total))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rho: the correlation of ranks, ties sharing their mean rank.

    >>> round(spearman([1, 2, 3, 4], [1, 3, 2, 4]), 6)
    0.8
    """
    ours, theirs = _ranks(first), _ranks(second)
    if len(ours) < 2 or not ours.std() or not theirs.std():
        return None
    return float(np.corrcoef(ours, theirs)[0, 1])


def _ranks(values: Sequence[float]) -> Array:
    _, place, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def kendall(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b (1945): pairs in the same order less pairs in the other one, over pairs that are no ties.

    >>> round(kendall([1, 2, 3, 4], [1, 3, 2, 4]), 6)
    0.666667
    """
    if not len(first):
        return None
    rows, ours = np.unique(np.asarray(first, dtype=float), return_inverse=True)
    columns, theirs = np.unique(np.asarray(second, dtype=float), return_inverse=True)
    table = np.zeros((len(rows) + 1, len(columns) + 1))
    np.add.at(table, (ours, theirs), 1)
    after = table[::-1].cumsum(axis=0)[::-1]  # rows from here on
    alike = float((table[:-1, :-1] * after[:, ::-1].cumsum(axis=1)[:, ::-1][1:, 1:]).sum())
    opposed = float((table[:-1, 1:] * after.cumsum(axis=1)[1:, :-1]).sum())
    total = len(first) * (len(first) - 1) / 2
    tied = [float((sums * (sums - 1)).sum()) / 2 for sums in (table.sum(axis=1), table.sum(axis=0))]
    untied = float(np.sqrt((total - tied[0]) * (total - tied[1])))
    return (alike - opposed) / untied if untied else None


class Pairs(NamedTuple):
    """Pairs of motions of one prompt that both judges tell apart, and how many of them they order alike."""

    total: int
    alike: int

    @property
    def share(self) -> float | None:
        return self.alike / self.total if self.total else None


def pairs_alike(prompts: Sequence[str], first: Sequence[int], second: Sequence[int]) -> Pairs:
    """Pairs within a prompt; where one of the judges sees a tie, it prefers neither and the pair says nothing.

    >>> pairs_alike(["a", "a", "a", "b"], [5, 4, 4, 1], [5, 3, 5, 2])
    Pairs(total=1, alike=1)
    """
    groups: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(place)
    signs = [
        int(np.sign((first[a] - first[b]) * (second[a] - second[b])))
        for group in groups.values()
        for a, b in combinations(group, 2)
    ]
    told = [sign for sign in signs if sign]
    return Pairs(len(told), told.count(1))


class Answer(NamedTuple):
    """What a judge said of one motion and its prompt, asked as a sub-task; `motion` names the motion."""

    prompt: str
    motion: str
    task: SubTask
    outcome: Outcome


@dataclass(frozen=True)
class JudgeRecord:
    """Who a judge is, how many of the shared questions it could not answer, and what its answers cost."""

    name: str
    invalid: int
    cost_usd: float


@dataclass(frozen=True)
class Agreement:
    """Two judges on the questions that both were asked; all numbers are of those that both answered with a score."""

    judges: tuple[JudgeRecord, JudgeRecord]
    questions: int
    answered: int
    equal: float | None
    """Share of equal scores."""
    kappa: float | None
    weighted_kappa: float | None
    spearman: float | None
    kendall: float | None
    pairs: Pairs
    confusion: Mapping[SubTask, Table]
    """By sub-task; rows are the first judge's scores 1 to 5, columns the second's."""

    def to_json(self) -> dict[str, Any]:
        return {
            "judges": [
                {"name": judge.name, "invalid": judge.invalid, "cost_usd": round(judge.cost_usd, 6)}
                for judge in self.judges
            ],
            "questions": self.questions,
            "answered": self.answered,
            **{name: getattr(self, name) for name in ("equal", "kappa", "weighted_kappa", "spearman", "kendall")},
            "pairs": {"total": self.pairs.total, "alike": self.pairs.alike, "share": self.pairs.share},
            "confusion": {task: table.tolist() for task, table in self.confusion.items()},
        }

    def markdown(self) -> str:
        """The numbers as a table, and a confusion table for each sub-task."""
        first, second = self.judges
        rows = [
            ("questions that both were asked", str(self.questions)),
            ("answered by both", str(self.answered)),
            ("equal scores", _shown(self.equal)),
            ("Cohen's kappa", _shown(self.kappa)),
            ("kappa, quadratic weights", _shown(self.weighted_kappa)),
            ("Spearman's rho", _shown(self.spearman)),
            ("Kendall's tau-b", _shown(self.kendall)),
            ("pairs of one prompt ordered alike", f"{_shown(self.pairs.share)} of {self.pairs.total}"),
        ]
        for judge in self.judges:
            share = judge.invalid / self.questions
            rows.append((f"{judge.name}: invalid", f"{judge.invalid} ({100 * share:.1f} %)"))
            rows.append((f"{judge.name}: cost", f"{judge.cost_usd:.4f} USD"))
        lines = [f"# {first.name} and {second.name}", "", "| | |", "| --- | --- |"]
        lines += [f"| {name} | {value} |" for name, value in rows]
        for task, table in self.confusion.items():
            lines += ["", f"{task}: rows {first.name}, columns {second.name}", ""]
            lines += ["| | " + " | ".join(map(str, SCORES)) + " |", "| --- |" + " --- |" * len(SCORES)]
            lines += [f"| {score} | " + " | ".join(map(str, row)) + " |" for score, row in zip(SCORES, table.tolist())]
        return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def agreement(first: Sequence[Answer], second: Sequence[Answer]) -> Agreement:
    """How far two judges agree on the questions that both were asked: same prompt, same motion, same sub-task.

    Raises VerdictError where a judge answers one question twice, or where there is no shared question.
    """
    ours, theirs = _by_question(first), _by_question(second)
    shared = [question for question in ours if question in theirs]
    if not shared:
        raise VerdictError(
            f"the judges share no question: {len(ours)} and {len(theirs)} answers, none with the same prompt, motion "
            "and sub-task; have both judge the same motions"
        )
    both = [
        (question, a, b)
        for question in shared
        if isinstance(a := ours[question], Verdict) and isinstance(b := theirs[question], Verdict)
    ]
    a_scores, b_scores = [a.score for _, a, _ in both], [b.score for _, _, b in both]
    tables = {
        task: confusion(*zip(*scores))
        for task in SUB_TASKS
        if (scores := [(a.score, b.score) for (_, _, asked), a, b in both if asked == task])
    }
    return Agreement(
        (_record(ours, shared), _record(theirs, shared)),
        len(shared),
        len(both),
        sum(a == b for a, b in zip(a_scores, b_scores)) / len(both) if both else None,
        kappa(a_scores, b_scores),
        kappa(a_scores, b_scores, weighted=True),
        spearman(a_scores, b_scores),
        kendall(a_scores, b_scores),
        pairs_alike([f"{task} {prompt}" for (prompt, _, task), _, _ in both], a_scores, b_scores),
        tables,
    )


_Question = tuple[str, str, SubTask]


def _by_question(answers: Sequence[Answer]) -> dict[_Question, Outcome]:
    found: dict[_Question, Outcome] = {}
    for prompt, motion, task, outcome in answers:
        if found.setdefault((prompt, motion, task), outcome) is not outcome:
            raise VerdictError(f"{outcome.judge} answers {prompt!r} of {motion} twice; keep one of the two")
    return found


def _record(answers: Mapping[_Question, Outcome], shared: Sequence[_Question]) -> JudgeRecord:
    outcomes = [answers[question] for question in shared]
    invalid = sum(isinstance(outcome, Invalid) for outcome in outcomes)
    return JudgeRecord(outcomes[0].judge, invalid, sum(outcome.cost_usd for outcome in outcomes))
