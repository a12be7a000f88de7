"""What the shipped model can do, measured again: the numbers of planning/repertoire.json.

    python -m kinalign.recipes.repertoire --out runs/repertoire

One CPU core, about five minutes. Every step of the file is asked for as "A person ...", and the kinematic judge looks
at 16 motions of each. OUT/repertoire.json then takes the file's place. Stopped and started again it goes on where it
was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinalign.errors import ConfigError
from kinalign.judge.kinematic import NAME, KinematicJudge
from kinalign.judge.verdict import Case
from kinalign.pipeline import BATCH_SIZE, TextToMotion
from kinalign.planning.repertoire import Ability, measured
from kinalign.run import progress, read_json, write_json


@dataclass(frozen=True)
class Recipe:
    """Measure how often a model does each step of the repertoire."""

    out: Path = Path("runs/repertoire")
    """Folder for repertoire.json."""
    model: Path | None = None
    """Model folder; the shipped model where it is left out."""
    motions: int = 16
    """Motions of each step."""
    seed: int = 0
    threads: int = 1
    """Processor threads."""


def measure(recipe: Recipe) -> Path:
    """The share of right motions of every step and their mean seconds; raises ConfigError for another run's folder."""
    torch.set_num_threads(recipe.threads)
    model = TextToMotion.from_pretrained(recipe.model)
    head: dict[str, Any] = {"model": model.name, "judge": NAME, "motions": recipe.motions, "seed": recipe.seed}
    path = recipe.out / "repertoire.json"
    rows = [Ability.from_json(row) for row in _begun(path, head)]
    size = max(1, BATCH_SIZE // recipe.motions)
    with progress("steps", total=len(measured()), done=len(rows)) as advance:
        while len(rows) < len(measured()):
            rows += _tried(model, measured()[len(rows) : len(rows) + size], recipe)
            write_json(path, {**head, "rows": [row.to_json() for row in rows]})
            advance(len(rows[-size:]), note=f"{rows[-1].text}: {rows[-1].right}")
    return path


def _begun(path: Path, head: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows that are measured already, with the same settings."""
    if not path.exists():
        return []
    found = read_json(path)
    rows: list[dict[str, Any]] = found.pop("rows")
    if found != head:
        raise ConfigError(f"{path} was measured with {found}, not with {head}; use another folder (--out)")
    return rows


def _tried(model: TextToMotion, asked: tuple[Ability, ...], recipe: Recipe) -> list[Ability]:
    judge, rows = KinematicJudge(), []
    prompts = [row.prompt for row in asked]
    for row, generated in zip(asked, model.generate(prompts, num_candidates=recipe.motions, seed=recipe.seed)):
        cases = [Case.of(row.prompt, motion, program=row.program) for motion in generated.motions]
        right = [outcome.is_right for outcome in judge.judge_all(cases)]
        seconds = np.mean([motion.duration_s for motion in generated.motions])
        rows.append(replace(row, right=round(sum(right) / recipe.motions, 3), seconds=round(float(seconds), 1)))
    return rows


if __name__ == "__main__":
    import tyro

    print(measure(tyro.cli(Recipe)))
