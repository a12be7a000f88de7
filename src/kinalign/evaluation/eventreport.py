"""A report on events: what each judge saw of what was asked, and beside it how good the motions are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinalign.errors import EvaluationError
from kinalign.evaluation.eventquality import QUALITY_METRICS
from kinalign.evaluation.eventscores import Number
from kinalign.evaluation.eventtruth import EVENT_METRICS, SHARES
from kinalign.evaluation.plot import Panel, Span, plot_panels
from kinalign.evaluation.report import Metric
from kinalign.run import read_json

REAL = "real clips"
CONDITIONAL = frozenset({"order", "order_of_pairs"})
"""Asked only where events are seen: it is said of how many."""


@dataclass(frozen=True)
class EventReport:
    """All numbers of an evaluation of events, and what they depend on."""

    system: str
    config: dict[str, Any]
    """Settings, and sha256 of weights, statistics, encoder, data and prompts."""
    environment: dict[str, Any]
    groups: dict[str, int]
    """How many prompts a group has."""
    events: dict[str, dict[str, dict[str, Number]]]
    """Judge -> group -> metric of EVENT_METRICS -> number, shares from 0 to 1."""
    costs_usd: dict[str, float]
    """What a judge's answers cost."""
    quality: dict[str, dict[str, Number]]
    """Group, and the real clips -> metric of QUALITY_METRICS -> number."""
    invalid: Number
    """Share of the model's answers that are no motion, when it is left to say what it likes."""
    seconds: float
    """That one motion took, made in batches, with all that was drawn and judged to choose it; the only number that two
    runs differ in."""
    drawn: float = 1.0
    """Candidates that one motion was chosen of."""

    def number(self, judge: str, metric: str, *, group: str = "all") -> Number:
        """A number of the report; raises EvaluationError where it has none of that name."""
        try:
            return self.quality[group][metric] if metric in QUALITY_METRICS else self.events[judge][group][metric]
        except KeyError as error:
            raise EvaluationError(f"the report has no {metric!r} by {judge!r} on {group!r}") from error

    def to_json(self) -> dict[str, Any]:
        return {name: _plain(value) for name, value in vars(self).items()}

    @staticmethod
    def load(folder: str | Path) -> EventReport:
        """The report of a folder; raises EvaluationError where there is none, or one of another kind."""
        path = Path(folder) / "report.json"
        if not path.is_file():
            raise EvaluationError(
                f"{folder} holds no report.json; kinalign evaluate --events --out {folder} writes one"
            )
        values = read_json(path)
        if "events" not in values:
            raise EvaluationError(f"{path} is a report on other things than events; leave out --events")
        numbers: Any = lambda rows: {name: Number(**number) for name, number in rows.items()}  # noqa: E731
        values["events"] = {
            judge: {group: numbers(rows) for group, rows in groups.items()}
            for judge, groups in values["events"].items()
        }
        values["quality"] = {group: numbers(rows) for group, rows in values["quality"].items()}
        values["invalid"] = Number(**values["invalid"])
        return EventReport(**values)

    def markdown(self) -> str:
        """The report as people read it."""
        parts = [f"# Events of {self.system}", self._about()]
        chose = self.config.get("choice", {}).get("by")
        for judge, groups in self.events.items():
            title = f"## Seen by {judge}" + (", who chose them" if judge == chose else "")
            parts += [title, self._table(EVENT_METRICS, groups)]
        parts += ["## Quality of the motions", self._table(QUALITY_METRICS, self.quality)]
        invalid = number_shown(EVENT_METRICS["unjudged"], self.invalid, is_share=True)
        parts.append(
            f"Answers that are no motion, of decoding without constraints: {invalid} % of {self.invalid.of}. "
            f"{1000 * self.seconds:.0f} ms a motion, made in batches"
            + (f": {self.drawn:.1f} candidates are drawn and judged for one." if chose else ".")
        )
        return "\n\n".join(parts) + "\n"

    def _table(self, metrics: Mapping[str, Metric], groups: Mapping[str, Mapping[str, Number]]) -> str:
        names = [name for name in metrics if any(rows[name].value is not None for rows in groups.values())]
        head = ["prompts", *(f"{metrics[name].title} {metrics[name].better}" for name in names)]
        lines = [head, ["---"] * len(head)]
        for group, rows in groups.items():
            number = f" ({self.groups[group]})" if group in self.groups else ""
            cells = [
                number_shown(metrics[name], rows[name], is_share=name in SHARES, with_of=name in CONDITIONAL)
                for name in names
            ]
            lines.append([f"{group}{number}", *cells])
        return markdown_table(lines)

    def _about(self) -> str:
        config, environment = self.config, self.environment
        packages = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
        hashes = "\n".join(f"- {name}: sha256 {value}" for name, value in config["sha256"].items())
        costs = "".join(f"\n- {judge} cost ${cost:.2f}." for judge, cost in self.costs_usd.items() if cost)
        return f"""\
{config["settings"]["replications"]} motions of each prompt, seed {config["settings"]["seed"]}. With 95 % intervals: \
prompts drawn with repetition
(bootstrap), for shares at least Wilson's; FID by leaving out a twentieth of the prompts at a time. ↑ higher is \
better, ↓ lower, → nearer to the real clips'.

- Order is asked of temporal prompts all of whose events are seen; by chance it is right in 50 % of two events and in
  17 % of three. Pairs: each two events of them that are seen, whatever else is missing. In brackets, of how many.
- An event that is not seen has a wrong count. All right: score 5.
- FID, Diversity and the last row: against {config["data"]}. FID grows as motions get fewer: compare equal numbers.
- On {config["device"]}, {config["threads"]} threads, Python {environment["python"]}, {packages}.
{hashes}{costs}"""


def plot_events(report: EventReport, path: Path) -> Path:
    """Write a PNG with what each judge saw and with the quality of the motions, a line for each group of prompts."""
    tables = [(f"Seen by {judge}", EVENT_METRICS, groups) for judge, groups in report.events.items()]
    sections = [
        (title, [_event_panel(name, metric, groups) for name, metric in metrics.items()])
        for title, metrics, groups in (*tables, ("Quality of the motions", QUALITY_METRICS, report.quality))
    ]
    shown = [(title, [panel for panel in panels if panel.rows]) for title, panels in sections]
    return plot_panels(shown, path, ours="all", line=REAL)


def _event_panel(name: str, metric: Metric, groups: Mapping[str, Mapping[str, Number]]) -> Panel:
    factor = 100 if name in SHARES else 1

    def scaled(value: float | None) -> float | None:
        return None if value is None else factor * value

    known = {group: rows[name] for group, rows in groups.items() if rows[name].value is not None}
    spans = {group: Span(scaled(one.value), scaled(one.low), scaled(one.high)) for group, one in known.items()}
    return Panel(metric, spans)


def number_shown(metric: Metric, number: Number, *, is_share: bool = False, with_of: bool = False) -> str:
    """23.4 [20.1, 27.0] (48), a share in percent; – where nothing was asked or a judge does not say."""
    if number.value is None:
        return "–"
    factor, digits = 100 if is_share else 1, metric.digits
    text = f"{factor * number.value:.{digits}f}"
    if number.low is None or number.high is None:
        return text
    low, high = (round(factor * bound, digits) + 0.0 for bound in (number.low, number.high))  # no -0.0
    return f"{text} [{low:.{digits}f}, {high:.{digits}f}]" + (f" ({number.of})" if with_of else "")


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(value: Any) -> Any:
    if isinstance(value, Number):
        return value._asdict()
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value
