"""Two evaluations of events held against each other: who wins on the same prompts and seeds, and what differs.

Of each prompt and replication both systems' motions have a judge's score: the higher one wins, and equal scores are
half a win for each. A judge who was not there when the reports were made is asked about the motions that they kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kinalign.errors import EvaluationError
from kinalign.evaluation.compare import Difference
from kinalign.evaluation.eventquality import QUALITY_METRICS
from kinalign.evaluation.eventreport import EventReport, markdown_table, number_shown
from kinalign.evaluation.eventscores import Number
from kinalign.evaluation.eventstore import EventFolder
from kinalign.evaluation.eventtruth import (
    EVENT_METRICS,
    SHARES,
    Array,
    difference_of,
    number_of,
    scores_of,
    tallies,
    wins,
)
from kinalign.evaluation.report import Metric
from kinalign.judge.human.labels import DEGREES, Vote, read_labels
from kinalign.judge.prompts import EventPrompt
from kinalign.judge.verdict import Judge, Outcome
from kinalign.run import write_text

WIN = Metric("Wins %", "↑", 1)
PEOPLE = "people who chose"
UNSURE = DEGREES[-1]
"""The degree of a choice that is none."""


class WinRate(NamedTuple):
    """How often b beats a, ties being half, and how many pairs of motions are ties; shares of pairs with two scores."""

    wins: Number
    ties: Number


@dataclass(frozen=True)
class EventComparison:
    """What the second of two systems does better or worse than the first, by each judge and group of prompts."""

    systems: tuple[str, str]
    groups: dict[str, int]
    wins: dict[str, dict[str, WinRate]]
    """Judge -> group -> how often the second wins."""
    events: dict[str, dict[str, dict[str, Difference]]]
    """Judge -> group -> metric of EVENT_METRICS -> difference; none by people who chose between two motions."""
    quality: dict[str, dict[str, Difference]]
    """Group -> metric of QUALITY_METRICS -> difference."""

    def markdown(self) -> str:
        """The comparison as people read it."""
        a, b = self.systems
        parts = [f"# {b} against {a}", ABOUT.format(a=a, b=b)]
        for judge, groups in self.wins.items():
            lines = [["prompts", f"{b} wins % (ties are half)", "ties %"], ["---"] * 3]
            lines += [
                [
                    f"{group} ({self.groups[group]})",
                    number_shown(WIN, rate.wins, is_share=True),
                    number_shown(WIN, rate.ties, is_share=True),
                ]
                for group, rate in groups.items()
            ]
            parts += [f"## By {judge}", markdown_table(lines)]
            if judge in self.events:
                parts.append(self._table(EVENT_METRICS, self.events[judge]))
        parts += ["## Quality of the motions", self._table(QUALITY_METRICS, self.quality)]
        return "\n\n".join(parts) + "\n"

    def _table(self, metrics: Mapping[str, Metric], groups: Mapping[str, Mapping[str, Difference]]) -> str:
        lines = [["prompts", "metric", *self.systems, "difference", "95 % interval", "beyond chance"], ["---"] * 7]
        for group, rows in groups.items():
            for name, row in rows.items():
                metric, factor = metrics[name], 100 if name in SHARES else 1
                a, b, low, high = (factor * value for value in (row.a, row.b, row.low, row.high))
                digits = metric.digits
                lines.append(
                    [
                        f"{group} ({self.groups[group]})",
                        f"{metric.title} {metric.better}",
                        f"{a:.{digits}f}",
                        f"{b:.{digits}f}",
                        f"{b - a:+.{digits}f}",
                        f"{low:+.{digits}f} to {high:+.{digits}f}",
                        "yes" if row.is_beyond_chance else "no",
                    ]
                )
        return markdown_table(lines)


ABOUT = """\
Both systems met the same prompts with the same seeds. Intervals draw prompts with repetition; FID's leaves out a \
twentieth of the prompts at a time. Differences are {b} less {a}. Of 20 lines of equal systems one is beyond chance by \
chance."""


def compare_events(
    a: str | Path, b: str | Path, *, judges: Sequence[Judge] = (), votes: Path | None = None
) -> EventComparison:
    """Win rates and differences of two report folders, by the judges given, or by all who judged both.

    `votes` are labels that people gave to the pairs that `write_pairs` wrote. Raises EvaluationError for reports of
    other prompts, seeds, data or encoders, and where nobody judged both.
    """
    reports, folders = _comparable(a, b)
    if judges:
        said = {judge.name: (folders[0].ask(judge), folders[1].ask(judge)) for judge in judges}
    else:
        first, second = (folder.verdicts() for folder in folders)
        said = {name: (first[name], second[name]) for name in first if name in second}
    if not said and votes is None:
        raise EvaluationError(f"nobody judged both {a} and {b}; name who shall, and both are judged (--judge)")
    groups = folders[0].prompts.groups
    measured = folders[0].measured(), folders[1].measured()
    names = reports[0].system, reports[1].system
    if names[0] == names[1]:
        names = f"{names[0]} (A)", f"{names[1]} (B)"
    return EventComparison(
        names,
        reports[0].groups,
        {name: _wins(folders[0], scores_of(first), scores_of(second)) for name, (first, second) in said.items()}
        | ({PEOPLE: _wins(folders[0], *_chosen(folders[0], votes))} if votes else {}),
        {name: _differences(folders[0], *both) for name, both in said.items()},
        {group: measured[0].differences(measured[1], places) for group, places in groups.items()},
    )


Answers = Sequence[Sequence[Outcome]]


def write_pairs(a: str | Path, b: str | Path, out: Path) -> Path:
    """Write the motions of two report folders for people to choose between: OUT/pairs.jsonl and npy files beside it.

    `kinalign judge label OUT/pairs.jsonl` shows them side by side, without names; `sample_1` is of the first report.
    Raises EvaluationError as `compare_events`.
    """
    _, folders = _comparable(a, b)
    rows = []
    for replication in range(folders[0].replications):
        names = [_pair(prompt, replication) for prompt in folders[0].prompts.all]
        for number, folder in enumerate(folders, start=1):
            for name, motion in zip(names, folder.motions(replication)):
                motion.save(out / f"{name}-{number}.npy")
        for name, prompt in zip(names, folders[0].prompts.all):
            samples = {f"sample_{number}": {"motion": f"{name}-{number}.npy"} for number in (1, 2)}
            rows.append({"id": name, "prompt": prompt.prompt, "task": prompt.task, **samples})
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return write_text(out / "pairs.jsonl", text)


def _pair(prompt: EventPrompt, replication: int) -> str:
    return f"{prompt.id}-{replication:03d}"


def _chosen(folder: EventFolder, votes: Path) -> tuple[Array, Array]:
    """Votes as scores (P, R) of both systems, of which the higher was chosen; equal where people are unsure or differ.

    Raises EvaluationError for votes on none of the pairs.
    """
    favour: dict[str, list[float]] = {}
    for label in read_labels(votes):
        if isinstance(label, Vote):
            side = {"sample_1": -1.0, "sample_2": 1.0}.get(label.choice, 0.0)
            favour.setdefault(label.id, []).append(0.0 if label.degree == UNSURE else side)
    names = [[_pair(prompt, at) for at in range(folder.replications)] for prompt in folder.prompts.all]
    if favour.keys().isdisjoint(name for row in names for name in row):
        raise EvaluationError(f"{votes} holds votes on none of the pairs of these reports (--votes)")
    second = np.array([[float(np.mean(favour[name])) if name in favour else np.nan for name in row] for row in names])
    return -second, second


def _wins(folder: EventFolder, a: Array, b: Array) -> dict[str, WinRate]:
    won, tied = wins(a, b)
    return {
        group: WinRate(number_of(won[places], is_share=True), number_of(tied[places], is_share=True))
        for group, places in folder.prompts.groups.items()
    }


def _differences(folder: EventFolder, a: Answers, b: Answers) -> dict[str, dict[str, Difference]]:
    ours, theirs = (tallies(folder.prompts.all, answers) for answers in (a, b))
    found: dict[str, dict[str, Difference]] = {}
    for group, places in folder.prompts.groups.items():
        rows = {metric: difference_of(ours[metric][places], theirs[metric][places]) for metric in EVENT_METRICS}
        found[group] = {metric: row for metric, row in rows.items() if row is not None}
    return found


def _comparable(
    first: str | Path, second: str | Path
) -> tuple[tuple[EventReport, EventReport], tuple[EventFolder, EventFolder]]:
    """Reports and folders, if both are of the same prompts, seeds, data and encoder."""
    a, b = EventReport.load(first), EventReport.load(second)
    for what in ("prompts", "data", "encoder"):
        ours, theirs = a.config["sha256"][what], b.config["sha256"][what]
        if ours != theirs:
            raise EvaluationError(
                f"the reports are of other {what} (sha256 {ours[:12]} and {theirs[:12]}); evaluate both systems with "
                "the same prompts, data and encoder (--compare)"
            )
    if a.config["settings"] != b.config["settings"]:
        raise EvaluationError(
            f"the reports have other settings ({a.config['settings']} and {b.config['settings']}); evaluate both "
            "systems with the same --replications and --seed (--compare)"
        )
    return (a, b), (EventFolder.load(first), EventFolder.load(second))
