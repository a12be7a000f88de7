"""Several reports on events as one: seeds of training, each with motions and maybe with prompts of its own.

A prompt is what intervals are about, so all motions of a prompt are one row of a tally, whichever report asked it; a
report that did not ask it has 0 of 0 there. What several seeds show of a prompt comes and goes together.

Letters: P prompts of all reports together, R replications of all reports of a system, N motions, D width of an
embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kinalign.errors import EvaluationError
from kinalign.evaluation.compare import Difference
from kinalign.evaluation.eventreport import EventReport
from kinalign.evaluation.eventscores import Number
from kinalign.evaluation.eventsets import ALL, Indices
from kinalign.evaluation.eventstore import EventFolder
from kinalign.evaluation.eventtruth import SHARES, Array, difference_of, number_of, tallies
from kinalign.judge.prompts import EventPrompt
from kinalign.judge.verdict import Outcome


@dataclass(frozen=True)
class Pool:
    """Reports of one system. Numbers are of the prompts of the first set, as in a report's first line."""

    reports: Sequence[EventReport]
    folders: Sequence[EventFolder]
    places: Sequence[Indices]
    """Of each report's prompts among those of all systems."""
    num_prompts: int
    """Of all systems."""

    def tallies(self, judge: str) -> dict[str, Array]:
        """Metric of EVENT_METRICS -> tally (P, R, 2); raises EvaluationError where the judge was not asked."""
        return self._pooled([tallies(folder.prompts.all, _said(folder, judge)) for folder in self.folders])

    def events(self, judge: str) -> dict[str, Number]:
        """Metric of EVENT_METRICS -> what a judge saw."""
        return {name: number_of(tally, is_share=name in SHARES) for name, tally in self.tallies(judge).items()}

    def differences(self, other: Pool, judge: str) -> dict[str, Difference | None]:
        """Metric of EVENT_METRICS -> how much more a judge saw of another system; None where one was not asked."""
        ours, theirs = self.tallies(judge), other.tallies(judge)
        return {name: difference_of(tally, theirs[name]) for name, tally in ours.items()}

    def quality(self) -> dict[str, Number]:
        """Metric of QUALITY_METRICS -> number, of those that are means over motions."""
        everything = [np.arange(len(folder.prompts.all)) for folder in self.folders]
        parts = [folder.measured().tallies(places) for folder, places in zip(self.folders, everything)]
        return {name: number_of(tally) for name, tally in self._pooled(parts).items()}

    def invalid(self) -> float:
        """Share of all answers that are no motion, where nothing makes them one."""
        shares = [report.invalid for report in self.reports]
        return float(np.average([share.value or 0.0 for share in shares], weights=[share.of for share in shares]))

    def vectors(self) -> tuple[Array, Indices]:
        """Embeddings (N, D) of the motions for the prompts of all sets, and the places (N,) of their prompts."""
        parts = [folder.measured().vectors for folder in self.folders]
        places = [np.repeat(places, part.shape[1]) for places, part in zip(self.places, parts)]
        return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts]), np.concatenate(places)

    def _pooled(self, parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """Tallies of each report's prompts as tallies of the prompts of all systems."""
        pooled = {}
        for name in parts[0]:
            columns = []
            for folder, places, part in zip(self.folders, self.places, parts):
                rows = folder.prompts.groups[ALL]
                column = np.zeros((self.num_prompts, *part[name].shape[1:]))
                np.add.at(column, places[rows], part[name][rows])
                columns.append(column)
            pooled[name] = np.concatenate(columns, axis=1)
        return pooled


def pools_of(paths: Mapping[str, Sequence[Path]]) -> tuple[dict[str, Pool], list[EventPrompt]]:
    """Name -> the report folders of a system as one, and the prompts of all of them, whose ids are their places.

    Raises EvaluationError for no folder, a folder without a report, and reports of other data or encoders.
    """
    if not paths or not all(paths.values()):
        raise EvaluationError("there is no report yet; kinalign evaluate --events writes one")
    reports = {name: [EventReport.load(path) for path in rows] for name, rows in paths.items()}
    for what in ("data", "encoder"):
        found = {report.config["sha256"][what] for rows in reports.values() for report in rows}
        if len(found) > 1:
            said = " and ".join(sorted(value[:12] for value in found))
            raise EvaluationError(
                f"the reports are of other {what} (sha256 {said}); evaluate all systems with the same data and encoder"
            )
    folders = {name: [EventFolder.load(path) for path in rows] for name, rows in paths.items()}
    place_of: dict[EventPrompt, int] = {}
    places: dict[str, list[Indices]] = {}
    for name, rows in folders.items():
        # without ids, which two reports may give to different prompts
        asked = [[replace(prompt, id="") for prompt in folder.prompts.all] for folder in rows]
        places[name] = [np.array([place_of.setdefault(one, len(place_of)) for one in part]) for part in asked]
    pools = {name: Pool(reports[name], folders[name], places[name], len(place_of)) for name in paths}
    return pools, [replace(prompt, id=str(place)) for prompt, place in place_of.items()]


def _said(folder: EventFolder, judge: str) -> list[list[Outcome]]:
    said = folder.verdicts()
    if judge not in said:
        raise EvaluationError(
            f"{judge} has not judged {folder.path}, but {', '.join(said) or 'nobody'} has; give the command that made "
            "it once more, with this judge (--judge)"
        )
    return said[judge]
