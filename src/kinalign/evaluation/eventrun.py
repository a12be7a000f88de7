"""An evaluation of events from prompts to a report; every part of it is kept, so that a kill repeats little.

A folder holds config.json and environment.json, prompts.json, answers/ (what the model said), motions/ (what it
showed), measures/ (embeddings and physics), verdicts/ (a folder for each judge) and, in the end, the report. Judges may
be asked later about the same motions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from kinalign.data.records import Clip
from kinalign.errors import ConfigError, EvaluationError
from kinalign.evaluation.bench import Bench, EvaluationSettings, sha256_of_arrays
from kinalign.evaluation.embedding import Encoder
from kinalign.evaluation.eventreport import REAL, EventReport, plot_events
from kinalign.evaluation.eventscores import Number
from kinalign.evaluation.eventsets import EventPrompts
from kinalign.evaluation.eventstore import EventFolder
from kinalign.evaluation.eventtruth import SHARES, number_of, tallies
from kinalign.evaluation.store import Store
from kinalign.judge.verdict import Judge, Outcome
from kinalign.pipeline import Asked, TextToMotion
from kinalign.run import RunFolder, progress, read_json, sha256_of_weights, write_atomically, write_json


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
) -> EventReport:
    """Make motions for prompts, ask judges about them, measure them against real clips, and write a report.

    A folder that was stopped goes on; one that has a report may be asked with more judges, and keeps what others said.
    Raises ConfigError where `folder` was begun with another model or other prompts, and EvaluationError for no judge
    and for what gives no numbers.
    """
    if not judges:
        raise EvaluationError("nobody judges; name one judge or more (--judge)")
    bench = Bench(clips, encoder, EvaluationSettings(), fps=model.tokenizer.config.fps)
    stats = model.tokenizer.stats
    config = {
        "system": name,
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
    run = RunFolder.open(folder, config)
    kept = EventFolder(folder, prompts, settings.replications)
    kept.write_prompts()
    store = Store(folder / "answers", model)
    asked = [model.ask(prompt.prompt) for prompt in prompts.all]
    seeds = [
        [settings.seed_of(prompt.prompt, replication) for prompt in prompts.all]
        for replication in range(settings.replications)
    ]
    _make(kept, store, bench, asked, seeds)
    free = store.answers("free", asked, seeds=seeds[0], constrained=False)
    is_none = np.array([[[codes is None, 1.0]] for (codes,) in free.codes])
    said = {judge.name: kept.ask(judge) for judge in judges}
    said |= {name: outcomes for name, outcomes in kept.verdicts().items() if name not in said}
    measured = kept.measured()
    environment = read_json(folder / "environment.json")
    report = EventReport(
        system=name,
        config=read_json(run.config_path),
        environment={key: environment[key] for key in ("python", "platform", "packages", "commit")},
        groups={group: len(places) for group, places in prompts.groups.items()},
        events={name: event_numbers(prompts, outcomes) for name, outcomes in said.items()},
        costs_usd={name: sum(one.cost_usd for row in outcomes for one in row) for name, outcomes in said.items()},
        quality={group: measured.numbers(places) for group, places in prompts.groups.items()}
        | {REAL: measured.real_numbers()},
        invalid=number_of(is_none, is_share=True),
        seconds=kept.seconds(),
    )
    text = report.markdown()
    write_atomically(folder / "report.md", lambda path: path.write_text(text, encoding="utf-8", newline="\n"))
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


def _make(
    kept: EventFolder, store: Store, bench: Bench, asked: Sequence[Asked], seeds: Sequence[Sequence[int]]
) -> None:
    """Make and measure the motions that are missing, one replication after the other."""
    with progress("motions", total=len(seeds) * len(asked)) as advance:
        for replication, own in enumerate(seeds):
            if not kept.has_made(replication):
                motions, seconds = store.motions(f"{replication:03d}", asked, seeds=own)
                kept.keep_made(replication, bench.made(kept.keep_motions(replication, motions)), seconds)
            advance(len(asked))
    if not kept.has_real():
        text = bench.embeddings.texts([prompt.prompt for prompt in kept.prompts.all])
        kept.keep_real(bench.truth, text)
