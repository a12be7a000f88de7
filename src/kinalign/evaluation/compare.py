"""Two reports held against each other, clip by clip: is the difference more than chance?

Two tables that lie side by side do not say: most of what varies is how hard a clip is, and both systems met the same
clips. The paired bootstrap (Efron and Tibshirani 1993; Koehn, EMNLP 2004) draws clips with repetition and looks how the
mean of their differences varies. Numbers of sets, FID and Diversity, have no differences of clips and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kinalign.errors import EvaluationError
from kinalign.evaluation.evaluate import clip_means
from kinalign.evaluation.report import METRICS, TASKS, Report

RESAMPLES = 10_000


class Difference(NamedTuple):
    """Means of two systems over the clips that both have, their difference b - a and its 95 % interval."""

    num_clips: int
    a: float
    b: float
    low: float
    high: float

    @property
    def is_beyond_chance(self) -> bool:
        return self.low > 0 or self.high < 0


class Compared(NamedTuple):
    """One line of a comparison."""

    task: str
    group: str
    metric: str
    difference: Difference


def compare(a: str | Path, b: str | Path, *, seed: int = 0) -> list[Compared]:
    """Differences of two report folders in every task that both have, for groups of a pool of clips or more.

    Raises EvaluationError for reports of other data, prompts or encoders, of models with other vocabularies, and for
    reports that have no task in common.
    """
    folders = Path(a), Path(b)
    reports = [Report.load(folder) for folder in folders]
    _require_comparable(reports)
    lines = (folders[0] / "clips.jsonl").read_text(encoding="utf-8").splitlines()
    groups = [json.loads(line)["groups"] for line in lines]
    least = reports[0].config["settings"]["pool_size"]
    compared = []
    for task in TASKS:
        ours, theirs = (clip_means(folder, task) for folder in folders)
        for group in reports[0].groups:
            rows = [place for place, names in enumerate(groups) if group in names]
            for metric in ours.keys() & theirs.keys() if len(rows) >= least else ():
                difference = paired_difference(ours[metric][rows], theirs[metric][rows], seed=seed)
                if difference is not None:
                    compared.append(Compared(task, group, metric, difference))
    if not compared:
        raise EvaluationError(f"{a} and {b} have no task in common; evaluate both with the same --task")
    order = list(METRICS)
    return sorted(
        compared,
        key=lambda row: (
            list(TASKS).index(row.task),
            list(reports[0].groups).index(row.group),
            order.index(row.metric),
        ),
    )


def paired_difference(a: ArrayLike, b: ArrayLike, *, seed: int = 0) -> Difference | None:
    """How much more b (N,) is than a (N,), in the mean over clips that have both; None for fewer than 2 such clips."""
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    if len(x) < 2:
        return None
    rng = np.random.default_rng(seed)
    differences = y - x
    # how often each clip is drawn: as many numbers as clips at a time, however many clips
    means = [differences @ rng.multinomial(len(x), np.full(len(x), 1 / len(x))) / len(x) for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(len(x), float(x.mean()), float(y.mean()), float(low), float(high))


def comparison_table(rows: Sequence[Compared], name_a: str, name_b: str) -> str:
    """A comparison as Markdown."""
    head = ["task", "clips", "metric", name_a, name_b, "difference", "95 % interval", "verdict"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        metric, difference = METRICS[row.metric], row.difference
        digits = metric.digits
        interval = f"[{difference.low:+.{digits}f}, {difference.high:+.{digits}f}]"
        lines.append(
            [
                row.task,
                f"{row.group} ({difference.num_clips})",
                f"{metric.title} {metric.better}",
                f"{difference.a:.{digits}f}",
                f"{difference.b:.{digits}f}",
                f"{difference.b - difference.a:+.{digits}f}",
                interval,
                _verdict(metric.better, difference, name_a, name_b),
            ]
        )
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"{table}\n\nPaired bootstrap over clips; of 20 lines without any difference one is beyond chance by chance.\n"
    )


def _verdict(better: str, difference: Difference, name_a: str, name_b: str) -> str:
    if not difference.is_beyond_chance:
        return "within chance"
    if better == "→":
        return "beyond chance"
    higher, lower = (name_b, name_a) if difference.low > 0 else (name_a, name_b)
    return f"{higher if better == '↑' else lower} is better, beyond chance"


def _require_comparable(reports: Sequence[Report]) -> None:
    a, b = (report.config for report in reports)
    for what in ("data", "prompts", "encoder"):
        ours, theirs = a["sha256"][what], b["sha256"][what]
        if ours != theirs:
            raise EvaluationError(
                f"the reports are of other {what} (sha256 {ours[:12]} and {theirs[:12]}); evaluate both systems with "
                f"the same data, captions, seed, replications and encoder (--compare)"
            )
    vocabularies = [config["vocabulary"] for config in (a, b) if config["vocabulary"]]
    sizes = {(vocabulary["num_codes"], vocabulary["codes_per_step"]) for vocabulary in vocabularies}
    if len(sizes) > 1:
        said = " and ".join(f"{codes} codes in steps of {steps}" for codes, steps in sorted(sizes))
        raise EvaluationError(
            f"the reports are of models with other vocabularies: {said}; save the motions of one as npy files and "
            "evaluate those (--outputs), then compare"
        )
