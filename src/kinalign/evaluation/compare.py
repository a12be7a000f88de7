"""Two reports held against each other, clip by clip: is the difference more than chance?

Two tables that lie side by side do not say: most of what varies is how hard a clip is, and both systems met the same
clips. The paired bootstrap (Efron and Tibshirani 1993; Koehn, EMNLP 2004) draws clips with repetition and looks how the
mean of their differences varies. Numbers of sets, FID and Diversity, have no differences of clips and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinalign.errors import EvaluationError
from kinalign.evaluation.evaluate import clip_means
from kinalign.evaluation.report import METRICS, TASKS, Report

RESAMPLES = 10_000


class Difference(NamedTuple):
    """Means of two systems over the clips that both have, and the 95 % interval of their difference b - a."""

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


def compare(a: str | Path, b: str | Path) -> list[Compared]:
    """Differences of two report folders in every task that both have, for groups of a pool of clips or more.

    Raises EvaluationError for reports of other data, prompts or encoders, of models with other vocabularies, and for
    reports that have no task in common.
    """
    folders = Path(a), Path(b)
    reports = [Report.load(folder) for folder in folders]
    _require_comparable(reports)
    lines = (folders[0] / "clips.jsonl").read_text(encoding="utf-8").splitlines()
    groups_of_clips = [json.loads(line)["groups"] for line in lines]
    compared = []
    for task in TASKS:
        ours, theirs = (clip_means(folder, task) for folder in folders)
        for group, num_clips in reports[0].groups.items():
            if num_clips < reports[0].config["settings"]["pool_size"]:
                continue
            rows = [place for place, groups in enumerate(groups_of_clips) if group in groups]
            for metric in METRICS:
                if metric in ours and metric in theirs:
                    difference = paired_difference(ours[metric][rows], theirs[metric][rows])
                    if difference is not None:
                        compared.append(Compared(task, group, metric, difference))
    if not compared:
        raise EvaluationError(f"{a} and {b} have no task in common; evaluate both with the same --task")
    return compared


def paired_difference(a: ArrayLike, b: ArrayLike) -> Difference | None:
    """How much more b (N,) is than a (N,), in the mean over clips that have both; None for fewer than 2 such clips."""
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    if len(x) < 2:
        return None
    means = np.concatenate([counts @ (y - x) for counts in draws(len(x))]) / len(x)
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(len(x), float(x.mean()), float(y.mean()), float(low), float(high))


@lru_cache(maxsize=4)
def draws(num_clips: int) -> list[NDArray[np.uint8]]:
    """How often each clip is drawn in every resample, (1000, N) at a time."""
    rng = np.random.default_rng(0)
    shares = np.full(num_clips, 1 / num_clips)
    return [rng.multinomial(num_clips, shares, size=1000).astype(np.uint8) for _ in range(RESAMPLES // 1000)]


def comparison_table(rows: Sequence[Compared], name_a: str, name_b: str) -> str:
    """A comparison as Markdown."""
    head = ["task", "clips", "metric", name_a, name_b, "difference", "95 % interval", "verdict"]
    lines = [head, ["---"] * len(head)]
    for task, group, name, difference in rows:
        metric = METRICS[name]
        digits = metric.digits
        lines.append(
            [
                task,
                f"{group} ({difference.num_clips})",
                f"{metric.title} {metric.better}",
                f"{difference.a:.{digits}f}",
                f"{difference.b:.{digits}f}",
                f"{difference.b - difference.a:+.{digits}f}",
                f"{difference.low:+.{digits}f} to {difference.high:+.{digits}f}",
                _verdict(metric.better, difference, name_a, name_b),
            ]
        )
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\nPaired bootstrap over clips. Of 20 lines of equal systems one is beyond chance by chance.\n"


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
                "the same data, captions, seed, replications and encoder (--compare)"
            )
    vocabularies = [config["vocabulary"] for config in (a, b) if config["vocabulary"]]
    sizes = {(vocabulary["num_codes"], vocabulary["codes_per_step"]) for vocabulary in vocabularies}
    if len(sizes) > 1:
        said = " and ".join(f"{codes} codes in steps of {steps}" for codes, steps in sorted(sizes))
        raise EvaluationError(
            f"the reports are of models with other vocabularies: {said}; save the motions of one as npy files, "
            "evaluate those and the other with --captions first, then compare (--outputs)"
        )
