"""An evaluation of events from prompts to a report; every part of it is kept, so that a kill repeats little.

A folder holds config.json and environment.json, prompts.json, answers/ (what the model said), motions/ (what it
showed), measures/ (embeddings and physics), verdicts/ (a folder for each judge) and, in the end, the report. Judges may
be asked later about the same motions. Where a motion is chosen of many, choices/ holds what was said of all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinalign.data.records import Clip
from kinalign.errors import ConfigError, EvaluationError
from kinalign.evaluation.bench import Bench, EvaluationSettings, sha256_of_arrays
from kinalign.evaluation.embedding import Encoder
from kinalign.evaluation.eventchoice import Choice, Chooser
from kinalign.evaluation.eventreport import REAL, EventReport, plot_events
from kinalign.evaluation.eventscores import Number
from kinalign.evaluation.eventsets import EventPrompts
from kinalign.evaluation.eventstore import EventFolder, Spent
from kinalign.evaluation.eventtruth import SHARES, number_of, tallies
from kinalign.evaluation.store import Store
from kinalign.judge.kinematic import KinematicJudge
from kinalign.judge.verdict import Judge, Outcome
from kinalign.pipeline import Asked, TextToMotion
from kinalign.run import RunFolder, config_to_json, progress, read_json, sha256_of_weights, write_json, write_text

ANSWERS, CHOICES = "answers", "choices"


@dataclass(frozen=True)
class EventSettings:
    """How an evaluation of events is done."""

    replications: int = 3
    """Motions of each prompt."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.replications < 1:
            raise ConfigError(f"replications={self.replications} must be at least 1 (--replications)")

    def seed_of(self, prompt: str, replication: int) -> int:
        """What a motion is drawn with: the same wherever its prompt stands."""
        words = f"{self.seed} {replication} {prompt}"
        return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big") >> 1


DEFAULT_SETTINGS = EventSettings()


def evaluate_events(
    model: TextToMotion,
    prompts: EventPrompts,
    judges: Sequence[Judge],
    clips: Sequence[Clip],
    encoder: Encoder,
    *,
    folder: Path,
    name: str,
    encoder_sha256: str,
    settings: EventSettings = DEFAULT_SETTINGS,
    data: str = "",
    choice: Choice | None = None,
    chosen_by: Judge | None = None,
    reuse: Path | None = None,
) -> EventReport:
    """Make motions for prompts, ask judges about them, measure them against real clips, and write a report.

    With a `choice` each motion is that of many which `chosen_by` likes best; None is the judge by rules on the joints.
    `reuse` is a folder of the same model, prompts and seeds: what was drawn and chosen there is taken, not made anew.
    A folder that was stopped goes on; one that has a report may be asked with more judges, and keeps what others said.
    Raises ConfigError where `folder` was begun with another model or other prompts or `reuse` is of others, and
    EvaluationError for no judge and for what gives no numbers.
    """
    if not judges:
        raise EvaluationError("nobody judges; name one judge or more (--judge)")
    bench = Bench(clips, encoder, EvaluationSettings(), fps=model.tokenizer.config.fps)
    stats = model.tokenizer.stats
    chooser = chosen_by or KinematicJudge()
    config: dict[str, Any] = {
        "system": name if choice is None else f"{name}, {choice} by {chooser.name}",
        "data": data,
        "settings": asdict(settings),
        "sampling": asdict(model.default_sampling),
        "sha256": {
            "weights": sha256_of_weights([model.lm, model.tokenizer.network]),
            "statistics": sha256_of_arrays([stats.mean, stats.std]),
            "encoder": encoder_sha256,
            "data": bench.data_sha256,
            "prompts": prompts.sha256,
        },
        "device": str(model.lm.device),
        "threads": torch.get_num_threads(),
    }
    if choice is not None:
        config["choice"] = {**asdict(choice), "by": chooser.name}
    if reuse is not None:
        _require_same(reuse, config)
    run = RunFolder.open(folder, config)
    kept = EventFolder(folder, prompts, settings.replications)
    kept.write_prompts()
    store = Store(folder / ANSWERS, model, reused=reuse and reuse / ANSWERS)
    asked = [model.ask(prompt.prompt) for prompt in prompts.all]
    seeds = [
        [settings.seed_of(prompt.prompt, replication) for prompt in prompts.all]
        for replication in range(settings.replications)
    ]
    many = None
    if choice is not None:
        many = Chooser(choice, chooser, store, folder / CHOICES, reused=reuse and reuse / CHOICES)
    _make(kept, store, bench, asked, seeds, many)
    free = store.answers("free", asked, seeds=seeds[0], constrained=False)
    is_none = np.array([[[codes is None, 1.0]] for (codes,) in free.codes])
    said = {judge.name: kept.ask(judge) for judge in judges}
    said |= {name: outcomes for name, outcomes in kept.verdicts().items() if name not in said}
    measured = kept.measured()
    spent = kept.spent()
    costs = {name: sum(one.cost_usd for row in outcomes for one in row) for name, outcomes in said.items()}
    if spent.usd:
        costs[f"{chooser.name}, choosing,"] = spent.usd * settings.replications * len(asked)
    environment = read_json(folder / "environment.json")
    report = EventReport(
        system=config["system"],
        config=read_json(run.config_path),
        environment={key: environment[key] for key in ("python", "platform", "packages", "commit")},
        groups={group: len(places) for group, places in prompts.groups.items()},
        events={name: event_numbers(prompts, outcomes) for name, outcomes in said.items()},
        costs_usd=costs,
        quality={group: measured.numbers(places) for group, places in prompts.groups.items()}
        | {REAL: measured.real_numbers()},
        invalid=number_of(is_none, is_share=True),
        seconds=spent.seconds,
        drawn=spent.drawn,
    )
    text = report.markdown()
    write_text(folder / "report.md", text)
    plot_events(report, folder / "report.png")
    # last: by it a report is known to be whole
    write_json(folder / "report.json", report.to_json())
    return report


def event_numbers(prompts: EventPrompts, outcomes: Sequence[Sequence[Outcome]]) -> dict[str, dict[str, Number]]:
    """Group -> metric of EVENT_METRICS -> number, of one judge's answers to all prompts."""
    counted = tallies(prompts.all, outcomes)
    return {
        group: {metric: number_of(tally[places], is_share=metric in SHARES) for metric, tally in counted.items()}
        for group, places in prompts.groups.items()
    }


def _require_same(reuse: Path, config: Mapping[str, Any]) -> None:
    """Raise ConfigError where a folder has not the same model, prompts and seeds."""
    found = read_json(reuse / "config.json")
    for what in ("settings", "sampling", "sha256"):
        if found.get(what) != config_to_json(config)[what]:
            raise ConfigError(f"{reuse} is of other {what}: nothing that was made there can be reused here (--reuse)")


def _make(
    kept: EventFolder,
    store: Store,
    bench: Bench,
    asked: Sequence[Asked],
    seeds: Sequence[Sequence[int]],
    chooser: Chooser | None,
) -> None:
    """Make and measure the motions that are missing, one replication after the other."""
    with progress("motions", total=len(seeds) * len(asked)) as advance:
        for replication, own in enumerate(seeds):
            name = f"{replication:03d}"
            if kept.has_made(replication):
                advance(len(asked))
                continue
            if chooser is not None:
                motions, spent = chooser.motions(name, kept.prompts.all, asked, own, advance=advance)
            else:
                motions, seconds = store.motions(name, asked, seeds=own)
                spent = Spent(seconds)
                advance(len(asked))
            kept.keep_made(replication, bench.made(kept.keep_motions(replication, motions)), spent)
    if not kept.has_real():
        text = bench.embeddings.texts([prompt.prompt for prompt in kept.prompts.all])
        kept.keep_real(bench.truth, text)
