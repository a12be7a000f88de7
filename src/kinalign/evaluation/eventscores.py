"""How right a judge is on questions whose answers are known: events, order, counts, contrasts and scores.

Every number has a 95 % interval. Cases that share a clip are not independent, so the intervals come from leaving out
one source clip at a time (the delete-one jackknife; Efron and Stein 1981); a share's is widened to Wilson's (1927), so
that a judge without a fault is not certain. Answers that are Invalid are counted and left out of every other number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinalign.evaluation.eventbench import KINDS, BenchCase
from kinalign.judge.agreement import cohens_kappa, wilson_interval
from kinalign.judge.rubric import SUB_TASKS
from kinalign.judge.verdict import Finding, Outcome, Verdict

Array = NDArray[np.float64]

Z_95 = 1.959964
"""Standard errors that 95 % of a normal distribution lie within."""
LEAST_OVERLAP = 0.5
"""A judge has found an event where its interval and the true one share half of the shorter."""
SCORES = 5


class Number(NamedTuple):
    """A value with its 95 % interval, of so many things; None where a judge does not answer, or nothing was asked."""

    value: float | None
    low: float | None
    high: float | None
    of: int


NOTHING = Number(None, None, None, 0)


@dataclass(frozen=True)
class ActionScores:
    """What a judge makes of the events of one action."""

    action: str
    precision: Number
    recall: Number
    count_exact: Number


@dataclass(frozen=True)
class JudgeScores:
    """Numbers of one judge on one set of cases.

    `precision` and `recall` are of events, `iou` is the mean overlap of intervals that were found. `order` is asked
    where every event is there, `count_exact` and `count_within_1` where a counted event is. `pairwise` is of
    contrasts by kind and of all; equal scores count half. `kappa` and `quadratic_kappa` are Cohen's, on scores of 1
    to 5, of each sub-task and of all.
    """

    judge: str
    cases: int
    invalid: Number
    precision: Number
    recall: Number
    iou: Number
    order: Number
    count_exact: Number
    count_within_1: Number
    pairwise: dict[str, Number]
    same_score: Number
    kappa: dict[str, Number]
    quadratic_kappa: dict[str, Number]
    confusion: list[list[int]]
    """How often a true score of 1 to 5 (rows) got which score."""
    actions: list[ActionScores]
    seconds_per_motion: float
    cost_usd: float

    def to_json(self) -> dict[str, Any]:
        return {name: _plain(value) for name, value in vars(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Number):
        return {name: round(part, 4) if isinstance(part, float) else part for name, part in value._asdict().items()}
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, ActionScores):
        return {name: _plain(part) for name, part in vars(value).items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def score_judge(cases: Sequence[BenchCase], outcomes: Sequence[Outcome], *, seconds: float = 0.0) -> JudgeScores:
    """Numbers of a judge from its answers to the cases, in their order; `seconds` is what all took."""
    judged = [(case, outcome) for case, outcome in zip(cases, outcomes, strict=True) if isinstance(outcome, Verdict)]
    gives_findings = any(verdict.findings for _, verdict in judged)
    events = [event for case, verdict in judged for event in _events(case, verdict)] if gives_findings else []
    orders = [(case, verdict.order_is_right) for case, verdict in judged if _asks_order(case)]
    gives_order = any(answer is not None for _, answer in orders)
    counts = [event for event in events if event.true.count is not None and isinstance(event.true.event.count, int)]
    gives_counts = any(event.found.count is not None for event in counts)
    off_by = [
        (event, np.inf if event.found.count is None else abs(event.found.count - (event.true.count or 0)))
        for event in counts
    ]
    pairs = list(_pairs(judged))
    by_task = {task: [(case, verdict) for case, verdict in judged if case.task == task] for task in SUB_TASKS}
    groups: dict[str, list[tuple[BenchCase, Verdict]]] = {task: rows for task, rows in by_task.items() if rows}
    groups["all"] = judged
    confusion = np.zeros((SCORES, SCORES), dtype=int)
    for case, verdict in judged:
        confusion[case.score - 1, verdict.score - 1] += 1
    actions = sorted({event.true.event.action for event in events})
    return JudgeScores(
        judge=outcomes[0].judge if outcomes else "",
        cases=len(cases),
        invalid=_share((case, 1.0 - isinstance(outcome, Verdict)) for case, outcome in zip(cases, outcomes)),
        precision=_share(_precision(events)),
        recall=_share(_recall(events)),
        iou=_mean([(event.case, event.overlap.iou) for event in events if event.overlap is not None and event.is_hit]),
        order=_share((case, float(answer == case.order_is_right)) for case, answer in orders)
        if gives_order
        else NOTHING,
        count_exact=_share((event.case, float(off == 0)) for event, off in off_by) if gives_counts else NOTHING,
        count_within_1=_share((event.case, float(off <= 1)) for event, off in off_by) if gives_counts else NOTHING,
        pairwise={
            kind: _share((pair.cases, pair.value) for pair in pairs if kind in (pair.kind, "all"))
            for kind in (*KINDS, "all")
            if kind == "all" or any(pair.kind == kind for pair in pairs)
        },
        same_score=_share((case, float(case.score == verdict.score)) for case, verdict in judged),
        kappa={name: _kappa(rows, quadratic=False) for name, rows in groups.items()},
        quadratic_kappa={name: _kappa(rows, quadratic=True) for name, rows in groups.items()},
        confusion=confusion.tolist(),
        actions=[
            ActionScores(
                action,
                _share(_precision([event for event in events if event.true.event.action == action])),
                _share(_recall([event for event in events if event.true.event.action == action])),
                _share((event.case, float(off == 0)) for event, off in off_by if event.true.event.action == action)
                if gives_counts
                else NOTHING,
            )
            for action in actions
        ],
        seconds_per_motion=seconds / len(cases) if cases else 0.0,
        cost_usd=sum(outcome.cost_usd for outcome in outcomes),
    )


# --- what is counted ----------------------------------------------------------------------------------------------


class _Overlap(NamedTuple):
    iou: float
    of_shorter: float


class _Event(NamedTuple):
    """One event that was asked for: what is true of it and what the judge found."""

    case: BenchCase
    true: Finding
    found: Finding
    overlap: _Overlap | None
    """None where one of the two has no interval."""

    @property
    def is_there(self) -> bool:
        return self.true.seen != "no"

    @property
    def is_hit(self) -> bool:
        """Seen where it is there, and where it is said to be if that is said."""
        right_place = self.overlap is None or self.overlap.of_shorter >= LEAST_OVERLAP
        return self.is_there and self.found.seen != "no" and right_place


def _events(case: BenchCase, verdict: Verdict) -> list[_Event]:
    """The events of a case; an answer that does not speak of each has seen none."""
    is_full = len(verdict.findings) == len(case.findings)
    findings = verdict.findings if is_full else [Finding(event, "no") for event in case.program.events]
    return [_Event(case, true, found, _overlap(true, found)) for true, found in zip(case.findings, findings)]


def _overlap(true: Finding, found: Finding) -> _Overlap | None:
    if true.start is None or true.end is None or found.start is None or found.end is None:
        return None
    shared = max(min(true.end, found.end) - max(true.start, found.start), 0)
    lengths = true.end - true.start, max(found.end - found.start, 1)
    return _Overlap(shared / (sum(lengths) - shared), shared / min(lengths))


def _precision(events: Sequence[_Event]) -> list[tuple[BenchCase, float]]:
    return [(event.case, float(event.is_hit)) for event in events if event.found.seen != "no"]


def _recall(events: Sequence[_Event]) -> list[tuple[BenchCase, float]]:
    return [(event.case, float(event.is_hit)) for event in events if event.is_there]


def _asks_order(case: BenchCase) -> bool:
    is_complete = all(finding.seen != "no" for finding in case.findings)
    return case.task == "temporal" and case.order_is_right is not None and is_complete


class _Pair(NamedTuple):
    cases: tuple[BenchCase, BenchCase]
    kind: str
    value: float


def _pairs(judged: Sequence[tuple[BenchCase, Verdict]]) -> Iterable[_Pair]:
    """Two cases that differ in one thing: 1 where the right one scores higher, 0.5 where both score the same."""
    by_id = {case.id: (case, verdict) for case, verdict in judged}
    for case, verdict in judged:
        for name in case.partners:
            if name in by_id and case.score > by_id[name][0].score:
                other, its = by_id[name]
                value = 0.5 if verdict.score == its.score else float(verdict.score > its.score)
                yield _Pair((case, other), case.kind, value)


# --- intervals ----------------------------------------------------------------------------------------------------

Rows = Iterable[tuple["BenchCase | tuple[BenchCase, ...]", float]]
"""Values, each with the case or the cases that it comes from."""


def _share(rows: Rows) -> Number:
    """The mean of values from 0 to 1; its interval is the wider of the jackknife's and Wilson's."""
    number = _mean(rows)
    if number.value is None or number.low is None or number.high is None:
        return number
    low, high = wilson_interval(number.value * number.of, number.of)
    return number._replace(low=max(min(low, number.low), 0.0), high=min(max(high, number.high), 1.0))


def _mean(rows: Rows) -> Number:
    rows = list(rows)
    if not rows:
        return NOTHING
    values = np.array([value for _, value in rows])
    return _jackknife([where for where, _ in rows], np.stack((values, np.ones_like(values)), axis=1), _ratio)


def _kappa(rows: Sequence[tuple[BenchCase, Verdict]], *, quadratic: bool) -> Number:
    if not rows:
        return NOTHING
    tables = np.zeros((len(rows), SCORES, SCORES))
    for at, (case, verdict) in enumerate(rows):
        tables[at, case.score - 1, verdict.score - 1] = 1.0
    statistic: Callable[[Array], Array] = lambda table: cohens_kappa(  # noqa: E731
        table.reshape(-1, SCORES, SCORES), quadratic=quadratic
    )
    number = _jackknife([case for case, _ in rows], tables.reshape(len(rows), -1), statistic)
    if number.low is None or number.high is None:
        return number
    return number._replace(low=max(number.low, -1.0), high=min(number.high, 1.0))


def _jackknife(
    where: Sequence[BenchCase | tuple[BenchCase, ...]], parts: Array, statistic: Callable[[Array], Array]
) -> Number:
    """A statistic of sums of rows (N, K), which it takes as (..., K), and its interval by leaving out clips."""
    rows_of: dict[str, list[int]] = {}
    for row, cases in enumerate(where):
        for clip in {clip for case in (cases if isinstance(cases, tuple) else (cases,)) for clip in case.clips}:
            rows_of.setdefault(clip, []).append(row)
    total = parts.sum(axis=0)
    value = float(statistic(total[None])[0])
    without = statistic(np.stack([total - parts[rows].sum(axis=0) for rows in rows_of.values()]))
    without = without[np.isfinite(without)]
    if len(without) < 2:
        return Number(value, None, None, len(parts))
    error = float(np.sqrt((len(without) - 1) / len(without) * np.square(without - without.mean()).sum()))
    return Number(value, value - Z_95 * error, value + Z_95 * error, len(parts))


def _ratio(sums: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return sums[..., 0] / sums[..., 1]
