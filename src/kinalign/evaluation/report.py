"""A report: numbers of systems side by side, with 95 % intervals over replications, and all that they depend on.

report.json is for programs, report.md for people, report.png for the eye. A number that cannot be given says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kinalign.errors import EvaluationError
from kinalign.run import config_from_json, read_json

TRUTH = "ground truth"

Scores = dict[str, dict[str, dict[str, "float | str"]]]
"""System -> group of clips -> metric -> number, or the reason why there is none."""


class Metric(NamedTuple):
    """How a metric is printed, and which way is better: up, down, or towards the ground truth's."""

    title: str
    better: str
    digits: int


METRICS = {
    "fid": Metric("FID", "↓", 3),
    "r_precision_1": Metric("R@1", "↑", 3),
    "r_precision_2": Metric("R@2", "↑", 3),
    "r_precision_3": Metric("R@3", "↑", 3),
    "mm_dist": Metric("MM-Dist", "↓", 3),
    "diversity": Metric("Diversity", "→", 3),
    "multimodality": Metric("MultiModality", "→", 3),
    "skating_cm_s": Metric("Skating cm/s", "↓", 1),
    "skating_percent": Metric("Skating %", "↓", 1),
    "floating_mm": Metric("Floating mm", "→", 1),
    "penetration_mm": Metric("Penetration mm", "↓", 1),
    "jitter_m_s3": Metric("Jitter m/s³", "→", 1),
    "invalid_percent": Metric("Invalid %", "↓", 1),
    "action_percent": Metric("Action %", "↑", 1),
    "side_percent": Metric("Side %", "↑", 1),
    "both_percent": Metric("Both %", "↑", 1),
    "bleu_1": Metric("BLEU-1", "↑", 1),
    "bleu_4": Metric("BLEU-4", "↑", 1),
    "rouge_l": Metric("ROUGE-L", "↑", 1),
    "cider": Metric("CIDEr", "↑", 1),
    "bert_score": Metric("BERTScore", "↑", 1),
    "bleu_1_processed": Metric("BLEU-1 processed", "↑", 1),
    "bleu_4_processed": Metric("BLEU-4 processed", "↑", 1),
    "rouge_l_processed": Metric("ROUGE-L processed", "↑", 1),
    "cider_processed": Metric("CIDEr processed", "↑", 1),
    "ade_m": Metric("ADE m", "↓", 3),
    "fde_m": Metric("FDE m", "↓", 3),
    "apd_m": Metric("APD m", "→", 3),
    "ade_published_m": Metric("ADE published m", "↓", 3),
    "fde_published_m": Metric("FDE published m", "↓", 3),
    "apd_published_m": Metric("APD published m", "→", 3),
    "join_jerk_ratio": Metric("Jerk at joins / real", "→", 2),
    "join_jerk_m_s3": Metric("Jerk at joins m/s³", "→", 0),
    "mpjpe_mm": Metric("MPJPE mm", "↓", 1),
    "pa_mpjpe_mm": Metric("PA-MPJPE mm", "↓", 1),
    "accel_mm": Metric("ACCEL mm", "↓", 1),
    "jitter_ratio": Metric("Jitter / real", "→", 2),
    "codes_used": Metric("Codes used", "↑", 0),
    "perplexity": Metric("Perplexity", "↑", 0),
}

TASKS = {
    "t2m": "Text to motion",
    "m2t": "Motion to text",
    "pred": "Prediction from the first 20 %",
    "inbetween": "In-between, middle half hidden",
    "keyframes": "In-between from four key steps",
    "tokenizer": "Tokenizer",
}


@dataclass(frozen=True)
class Cell:
    """A number over replications: its mean and the half width of its 95 % interval, or why there is no number."""

    mean: float | None = None
    interval: float | None = None
    """None for what is computed once."""
    note: str = ""


@dataclass(frozen=True)
class Row:
    """Numbers of one system on one group of clips."""

    task: str
    group: str
    system: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Report:
    """All rows of an evaluation, and what they depend on."""

    system: str
    """What was evaluated; other rows are there to hold it against."""
    config: dict[str, Any]
    """Settings, and sha256 of weights, statistics, encoder, data and prompts."""
    environment: dict[str, Any]
    groups: dict[str, int]
    """How many clips a group has."""
    rows: list[Row]
    times: dict[str, float]
    """Seconds that one motion, or one caption, took; the only thing that two runs differ in."""

    def cell(self, task: str, system: str, metric: str, *, group: str = "all") -> Cell:
        """A number of the report; raises EvaluationError where it has none of that name."""
        for row in self.rows:
            if (row.task, row.group, row.system) == (task, group, system) and metric in row.cells:
                return row.cells[metric]
        raise EvaluationError(f"the report has no {metric!r} of {system!r} on {group!r} in task {task!r}")

    @staticmethod
    def load(folder: str | Path) -> Report:
        """The report of a folder; raises EvaluationError where there is none."""
        path = Path(folder) / "report.json"
        if not path.is_file():
            raise EvaluationError(f"{folder} holds no report.json; kinalign evaluate --out {folder} writes one")
        return config_from_json(Report, read_json(path))

    def markdown(self) -> str:
        """The report as Markdown."""
        parts = [f"# Evaluation of {self.system}", self._about()]
        for task, title in TASKS.items():
            rows = [row for row in self.rows if row.task == task]
            if not rows:
                continue
            parts.append(f"## {title}")
            if task in self.times:
                parts.append(f"{1000 * self.times[task]:.0f} ms each, made in batches.")
            for group in dict.fromkeys(row.group for row in rows):
                parts.append(f"### {group} ({self.groups[group]} clips)")
                parts.append(_table([row for row in rows if row.group == group]))
        return "\n\n".join(parts) + "\n"

    def _about(self) -> str:
        config, environment = self.config, self.environment
        settings = config["settings"]
        packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
        hashes = "\n".join(f"- {name}: sha256 {value}" for name, value in config["sha256"].items())
        return f"""\
Mean ± 95 % interval of {settings["replications"]} replications (Student's t), seed \
{settings["seed"]}. A replication draws a caption for each clip (captions: {settings["captions"]}),
new motions and new pools of {settings["pool_size"]}. ↑ higher is better, ↓ lower, → nearer to the ground \
truth.

- Data: {config["data"]}; left out: {config["left_out"]} clips without captions or under half a second.
- Lengths: {"told to the model, as the real motions'" if settings["true_lengths"] else "the system's own"}.
- MultiModality, APD and invalid answers (of decoding without constraints): {settings["many_prompts"]} clips in each
  replication, {settings["many_candidates"]} motions of each. Diversity: 300 pairs, or half as many as clips.
- A model's motions are put on the floor, so what would sink floats. Processed captions are in base forms.
- On {config["device"]}, {config["threads"]} threads, Python {environment["python"]}, {packages}.
{hashes}"""


def _table(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row.cells))
    head = ["system", *(f"{METRICS[name].title} {METRICS[name].better}" for name in names)]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        lines.append([row.system, *(shown(name, row.cells.get(name)) for name in names)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(metric: str, cell: Cell | None) -> str:
    """A number as it is printed: 0.512 ± 0.004; – where the metric says nothing of a system."""
    if cell is None:
        return "–"
    if cell.mean is None:
        return cell.note
    digits = METRICS[metric].digits
    return f"{cell.mean:.{digits}f}" + (f" ± {cell.interval:.{digits}f}" if cell.interval else "")


def rows_of(task: str, replications: Sequence[Scores]) -> list[Row]:
    """Rows of a task, in the order in which systems and groups came; a number has to be there in all replications."""
    rows = []
    for system, groups in replications[0].items():
        for group, metrics in groups.items():
            values = {name: [scores[system][group][name] for scores in replications] for name in metrics}
            rows.append(Row(task, group, system, {name: cell_of(each) for name, each in values.items()}))
    return rows


def cell_of(values: Sequence[float | str]) -> Cell:
    """Mean and 95 % interval of replications; the first reason where one of them has no number."""
    notes = [value for value in values if isinstance(value, str)]
    if notes:
        return Cell(note=notes[0])
    numbers = np.array(values, dtype=float)
    interval = None
    if len(numbers) > 1:
        interval = float(t_quantile(len(numbers) - 1) * numbers.std(ddof=1) / np.sqrt(len(numbers)))
    return Cell(float(numbers.mean()), interval)


@lru_cache
def t_quantile(degrees: int) -> float:
    """How many standard errors 95 % lie within: the 97.5 % point of Student's t of 1 degree of freedom or more.

    With t = sqrt(n) tan a the density in a is cos(a)^(n - 1), up to a factor; the angle is found by halving.

    >>> round(t_quantile(19), 3)
    2.093
    """
    nodes, weights = np.polynomial.legendre.leggauss(200)

    def mass(angle: float) -> float:
        return float(angle / 2 * (weights * np.cos(angle / 2 * (nodes + 1)) ** (degrees - 1)).sum())

    low, high = 0.0, np.pi / 2
    wanted = 0.95 * mass(high)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mass(middle) < wanted else (low, middle)
    return float(np.sqrt(degrees) * np.tan(low))
