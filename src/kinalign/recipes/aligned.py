"""docs/aligned.html and docs/by_events.html: two systems side by side on held-out prompts, with what a judge sees.

    kinalign evaluate --events --out base
    kinalign evaluate --events --adapter models/openmocap-aligned --out aligned
    kinalign evaluate --events --by-events --out by-events
    python -m kinalign.recipes.aligned base aligned
    python -m kinalign.recipes.aligned base by-events --out docs/by_events.html --names "Event by event" Base

The prompts are the first of each sub-task, as many of each, and the motions those of the first replication: nothing is
chosen by how it came out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from kinalign.errors import EvaluationError
from kinalign.evaluation.eventrun import EventSettings
from kinalign.evaluation.eventstore import EventFolder
from kinalign.judge.named import judge_named
from kinalign.judge.verdict import Case
from kinalign.preference.records import Candidate, PreferencePair
from kinalign.preference.view import spread, write_pairs_page
from kinalign.run import read_json


@dataclass(frozen=True)
class AlignedPage:
    """Show two evaluations of events side by side."""

    base: tyro.conf.Positional[Path]
    """Report folder of the model as it was."""
    aligned: tyro.conf.Positional[Path]
    """Report folder of the aligned model, or of another system, of the same prompts."""
    out: Path = Path("docs/aligned.html")
    names: tuple[str, str] = ("Aligned", "Base")
    """What the two are called, the second report first."""
    judge: str = "kinematic"
    """Whose findings are shown."""
    prompts: int = 20


def write_page(config: AlignedPage) -> Path:
    """Write the page; raises EvaluationError for reports of different prompts."""
    folders = [EventFolder.load(path) for path in (config.aligned, config.base)]
    prompts = folders[0].prompts.all
    if prompts != folders[1].prompts.all:
        raise EvaluationError(f"{config.base} and {config.aligned} asked different prompts; evaluate both alike")
    judge = judge_named(config.judge)
    sides = []
    for folder in folders:
        motions = folder.motions(0)
        cases = [Case(one.prompt, motion, one.program, one.task) for one, motion in zip(prompts, motions)]
        settings = EventSettings(**read_json(folder.path / "config.json")["settings"])
        seeds = [settings.seed_of(one.prompt, 0) for one in prompts]
        rows = zip(seeds, judge.judge_all(cases), motions)
        sides.append([Candidate(0, seed, None, said, motion) for seed, said, motion in rows])
    pairs = [
        PreferencePair(one.id, one.prompt, one.task, one.program, aligned, base, judge.name)
        for one, aligned, base in zip(prompts, *sides)
    ]
    shown = spread(pairs, config.prompts)
    return write_pairs_page(shown, config.out, title=" and ".join(config.names), names=config.names)


if __name__ == "__main__":
    print(write_page(tyro.cli(AlignedPage)))
