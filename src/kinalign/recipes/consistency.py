"""What the score of logical consistency is worth: its bounds, its ceiling and its floor.

    python -m kinalign.recipes.consistency --out runs/consistency

One CPU core, about two minutes. OUT/consistency.json has the bounds that 19 of 20 answers of the corpus' training part
reach, to take the place of planning/consistency.json. The table says what share of held-out answers makes sense by
them: the corpus' own (ceiling), and the same exchanged between scenes (floor).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from kinalign.planning.consistency import Consistency, Meaning, calibrate, exchanged, mean_share, minilm, score
from kinalign.planning.corpus import load_scenes, rows
from kinalign.planning.tasks import PlanningTask
from kinalign.run import write_json, write_text


@dataclass(frozen=True)
class Recipe:
    """Set the bounds of logical consistency, and measure its ceiling and its floor."""

    out: Path = Path("runs/consistency")
    """Folder for consistency.json and table.md."""
    per_task: int = 3
    """Rows of each planning task about each task of the corpus."""
    seed: int = 0
    threads: int = 1
    """Processor threads."""


def measure(recipe: Recipe) -> Path:
    """Bounds of the training part, and a table of the held-out one."""
    torch.set_num_threads(recipe.threads)
    meaning = Meaning(minilm(), bounds={})
    seen = rows(load_scenes("train"), per_task=recipe.per_task, seed=recipe.seed)
    meaning.bounds = calibrate(seen, meaning)
    write_json(recipe.out / "consistency.json", meaning.bounds)
    held_out = rows(load_scenes("test"), per_task=recipe.per_task, seed=recipe.seed)
    own = score([(row.request, row.answer) for row in held_out], meaning)
    text = table(own, score(exchanged(held_out, seed=recipe.seed), meaning))
    path = recipe.out / "table.md"
    write_text(path, text)
    print(text)
    return path


def table(own: Mapping[PlanningTask, Consistency], guessed: Mapping[PlanningTask, Consistency]) -> str:
    """Shares of answers that break no rule, by planning task and as their mean."""
    lines = [
        "| planning task | answers | the corpus' own | exchanged | broken most often |",
        "|---|---:|---:|---:|---|",
    ]
    for kind, one in own.items():
        most = max(one.broken.items(), key=lambda item: item[1], default=("none", 0))[0]
        lines.append(f"| {kind} | {one.asked} | {one.share:.3f} | {guessed[kind].share:.3f} | {most} |")
    lines.append(f"| mean | | {mean_share(own):.3f} | {mean_share(guessed):.3f} | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import tyro

    print(measure(tyro.cli(Recipe)))
