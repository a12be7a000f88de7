"""Whether the named events happen, of a judge's answers: recall, order, counts, and who wins of two systems.

Every number is a ratio of sums over prompts and replications. Its 95 % interval is a bootstrap over prompts (Efron and
Tibshirani 1993): all motions of a prompt come and go together, for they are alike. A share's interval is at least
Wilson's (1927), so that a system without a fault is not certain.

Letters: P prompts, R replications. A tally is (P, R, 2): what is counted, and out of how much; 0 of 0 is not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from kinalign.evaluation.compare import Difference, draws
from kinalign.evaluation.eventscores import NOTHING, Number
from kinalign.evaluation.report import Metric
from kinalign.judge.agreement import wilson_interval
from kinalign.judge.prompts import EventPrompt
from kinalign.judge.verdict import Outcome, Verdict

Array = NDArray[np.floating]

EVENT_METRICS = {
    "event_recall": Metric("Events seen %", "↑", 1),
    "all_seen": Metric("All seen %", "↑", 1),
    "order": Metric("Order right %", "↑", 1),
    "order_of_pairs": Metric("Pairs in order %", "↑", 1),
    "count_exact": Metric("Count exact %", "↑", 1),
    "count_within_1": Metric("Count ±1 %", "↑", 1),
    "all_right": Metric("All right %", "↑", 1),
    "score": Metric("Score 1–5", "↑", 2),
    "unjudged": Metric("Unjudged %", "↓", 1),
}
"""Order: of temporal prompts all of whose events are seen; pairs in order: of each two events of them that are seen,
by when they begin, whatever else is missing. Counts: of counted events, an event that is not seen being
wrong. All right: score 5. Unjudged: answers that are Invalid, which are left out of all else."""

SHARES = frozenset(EVENT_METRICS) - {"score"}


def tallies(prompts: Sequence[EventPrompt], outcomes: Sequence[Sequence[Outcome]]) -> dict[str, Array]:
    """Metric -> tally (P, R, 2) of a judge's answers, R for each prompt.

    What a judge never says, as how often, is not asked of it; an answer that does not speak of each event saw none.
    """
    judged = [one for row in outcomes for one in row if isinstance(one, Verdict)]
    tells = {
        "event_recall": any(verdict.findings for verdict in judged),
        "order": any(verdict.order_is_right is not None for verdict in judged),
        "count": any(finding.count is not None for verdict in judged for finding in verdict.findings),
    }
    tells["all_seen"] = tells["event_recall"]
    tells["order_of_pairs"] = any(finding.start is not None for one in judged for finding in one.findings)
    counted: dict[str, Array] = {metric: np.zeros((len(prompts), len(outcomes[0]), 2)) for metric in EVENT_METRICS}
    for row, (prompt, answers) in enumerate(zip(prompts, outcomes, strict=True)):
        for column, outcome in enumerate(answers):
            for metric, pair in _tally(prompt, outcome).items():
                if tells.get(metric.split("_")[0] if metric.startswith("count") else metric, True):
                    counted[metric][row, column] = pair
    return counted


def _tally(prompt: EventPrompt, outcome: Outcome) -> dict[str, tuple[float, float]]:
    if not isinstance(outcome, Verdict):
        return {"unjudged": (1, 1)}
    events = prompt.program.events
    findings = outcome.findings if len(outcome.findings) == len(events) else ()
    seen = [finding for finding in findings if finding.seen != "no"]
    asks_order = prompt.task == "temporal" and len(seen) == len(events) and outcome.order_is_right is not None
    begun = [
        (step, finding.start)
        for step, finding in zip(prompt.program.step_of_events, findings)
        if prompt.task == "temporal" and finding.seen != "no" and finding.start is not None
    ]
    pairs = [start < later for (step, start), (next_step, later) in combinations(begun, 2) if step < next_step]
    numbered = [at for at, event in enumerate(events) if isinstance(event.count, int)]
    off_by = [
        abs(findings[at].count - events[at].count)  # type: ignore[operator]
        for at in numbered
        if findings and findings[at].seen != "no" and findings[at].count is not None
    ]
    return {
        "event_recall": (len(seen), len(events)),
        "all_seen": (len(seen) == len(events), 1),
        "order": (float(bool(outcome.order_is_right)), 1) if asks_order else (0, 0),
        "order_of_pairs": (sum(pairs), len(pairs)),
        "count_exact": (sum(off == 0 for off in off_by), len(numbered)),
        "count_within_1": (sum(off <= 1 for off in off_by), len(numbered)),
        "all_right": (outcome.is_right, 1),
        "score": (outcome.score, 1),
        "unjudged": (0, 1),
    }


def wins(a: Array, b: Array) -> tuple[Array, Array]:
    """Tallies of how often b beats a, a tie being half, and of ties; of scores (P, R), NaN where there is none."""
    both = np.isfinite(a) & np.isfinite(b)
    won = np.where(both, 0.5 + 0.5 * np.sign(np.nan_to_num(b) - np.nan_to_num(a)), 0.0)
    tied = both & (a == b)
    return np.stack((won, both), axis=-1).astype(float), np.stack((tied, both), axis=-1).astype(float)


def scores_of(outcomes: Sequence[Sequence[Outcome]]) -> Array:
    """Scores (P, R); NaN where an answer is Invalid."""
    return np.array([[one.score if isinstance(one, Verdict) else np.nan for one in row] for row in outcomes])


def number_of(tally: Array, *, is_share: bool = False) -> Number:
    """The ratio of a tally's sums with its interval; `of` is out of how much."""
    sums = tally.sum(axis=1)  # (P, 2)
    sums = sums[sums[:, 1] > 0]
    if not len(sums):
        return NOTHING
    value, of = float(sums[:, 0].sum() / sums[:, 1].sum()), round(float(sums[:, 1].sum()))
    low = high = None
    if len(sums) > 1:
        low, high = map(float, np.nanquantile(_ratios(sums), [0.025, 0.975]))
    if is_share:
        least, most = wilson_interval(value * of, of)
        low, high = max(min(least, value if low is None else low), 0.0), min(max(most, high or value), 1.0)
    return Number(value, low, high, of)


def difference_of(a: Array, b: Array) -> Difference | None:
    """How much more the ratio of tally b is than that of a, both on the same prompts; None where one is not asked."""
    sums = np.concatenate((a.sum(axis=1), b.sum(axis=1)), axis=1)  # (P, 4)
    sums = sums[(sums[:, 1] > 0) | (sums[:, 3] > 0)]
    if len(sums) < 2 or not sums[:, 1].sum() or not sums[:, 3].sum():
        return None
    gaps = _ratios(sums[:, 2:]) - _ratios(sums[:, :2])
    low, high = np.nanquantile(gaps, [0.025, 0.975])
    first, second = (float(sums[:, at].sum() / sums[:, at + 1].sum()) for at in (0, 2))
    return Difference(len(sums), first, second, float(low), float(high))


def _ratios(sums: Array) -> Array:
    """Ratios of sums (P, 2) in every draw of prompts; NaN where a draw has none of it."""
    totals = np.concatenate([counts @ sums for counts in draws(len(sums))])
    with np.errstate(invalid="ignore"):
        return totals[:, 0] / totals[:, 1]
