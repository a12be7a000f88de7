"""How much the best of n is worth: one judge chooses, the same judge and another one look at what was chosen.

With the shipped model, on prompts that no training saw, 60 of them in some four minutes on one core:

    python examples/best_of.py

That the judge who chose finds the chosen ones better is no proof. The other judge, an encoder of sentences and motions,
knows what happens and in which order, and is blind to counts. --out writes a sheet for each prompt with the first
candidate above the best one, for your own eyes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, comb, sqrt
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from kinalign.evaluation.judging import embedding_judge
from kinalign.evaluation.report import t_quantile
from kinalign.judge.embedding import Nearness, nearness_of
from kinalign.judge.kinematic import KinematicJudge
from kinalign.judge.prompts import EventPrompt, grammar_prompts
from kinalign.judge.rubric import SUB_TASKS
from kinalign.judge.verdict import Case, Verdict
from kinalign.motion.physics import foot_skating, jitter
from kinalign.pipeline import TextToMotion
from kinalign.render.sheet import write_sheet
from kinalign.run import progress
from kinalign.selection import ROUND, Judged, judged, merit

SIZES = (1, 2, 4, 8, 16)
CROSS = 8
"""Candidates of which the other judge chooses too."""


@dataclass(frozen=True)
class Settings:
    """Say what the best of n candidates is worth, for n of 1 to 16."""

    prompts: int = 60
    events: int = 2
    """Of an integrity or temporal prompt; a frequency prompt has one that is counted."""
    seed: int = 0
    """The first prompt's; the second one has the next."""
    out: Path | None = None
    """Folder for sheets of the first candidate and the best of 8."""


def main(settings: Settings) -> None:
    torch.set_num_threads(1)
    model, rules, other = TextToMotion.from_pretrained(), KinematicJudge(), embedding_judge()
    prompts = grammar_prompts(SUB_TASKS, settings.prompts, events=settings.events, split="eval")
    drawn: list[Sequence[Judged]] = []
    near: list[list[float]] = []
    with progress("candidates", total=len(prompts)) as advance:
        for number, one in enumerate(prompts):
            motions = model(one.prompt, num_candidates=SIZES[-1], seed=settings.seed + number)
            drawn.append(judged(one.prompt, motions, rules, task=one.task).kept)
            asked = [Case(one.prompt, motion, one.program, one.task) for motion in motions]
            found = nearness_of(other.encoder, asked)
            near.append([value.case if isinstance(value, Nearness) else -1.0 for value in found])
            advance(note=one.prompt[:40])
    tasks = np.array([one.task for one in prompts])
    best = {size: [max(some[:size], key=merit).place for some in drawn] for size in SIZES}
    right = [sum(one.is_right for one in some) for some in drawn]

    print("All right by rules, expected of n of the 16 candidates:")
    table("n", *SUB_TASKS, "all")
    for size in SIZES:
        # of all ways to draw n, the share with one that is right (Chen et al. 2021, pass@k)
        chances = [1 - comb(SIZES[-1] - hits, size) / comb(SIZES[-1], size) for hits in right]
        print(row(str(size), *(mean(np.array(chances)[tasks == task]) for task in SUB_TASKS), mean(chances)))

    print("\nWhat is chosen of the first n:")
    table("chosen by", "all right, by rules", "mean score", "skating cm/s", "jerk m/s³", "seconds")
    for size in SIZES:
        print(looks(f"rules, of {size}" if size > 1 else "nobody", drawn, best[size]))
    print(looks(f"encoder, of {CROSS}", drawn, [int(np.argmax(values[:CROSS])) for values in near]))

    print("\nHow often the encoder prefers what the rules chose, where that is not the first:")
    table("of n", "to the first", "to the others of n", *(f"{task}, to the others" for task in SUB_TASKS))
    for size in SIZES[1:]:
        wins = [preferred(values[:size], place) for values, place in zip(near, best[size])]
        moved = np.array(best[size]) > 0
        first = [win[0] for win, is_moved in zip(wins, moved) if is_moved]
        others = np.array([win.mean() for win in wins])
        cells = [mean(others[moved & (tasks == task)]) for task in SUB_TASKS]
        print(row(str(size), mean(first), mean(others[moved]), *cells))

    print("\nHow often the encoder agrees on two candidates of a prompt, by how far apart the rules score them:")
    table("apart", *SUB_TASKS, "all")
    for apart in (1, 2, 3, 4):
        agreed = [agreement(some, values, apart=apart) for some, values in zip(drawn, near)]
        of_task = [[a for a, one in zip(agreed, tasks) if a is not None and one == task] for task in SUB_TASKS]
        print(row(str(apart), *map(mean, [*of_task, [a for a in agreed if a is not None]])))

    ends = [next((one.place + 1 for one in some if one.is_right), SIZES[-1]) for some in drawn]
    rounds = [ceil(end / ROUND) * ROUND for end in ends]
    print(f"\n--until-right {SIZES[-1]} draws {np.mean(rounds):.1f} a prompt on average.")
    if settings.out is not None:
        write_sheets(settings.out, prompts, drawn, best[CROSS])


def looks(name: str, drawn: Sequence[Sequence[Judged]], places: list[int]) -> str:
    chosen = [some[place] for some, place in zip(drawn, places)]
    right = [one.is_right for one in chosen]
    scores = [one.outcome.score for one in chosen if isinstance(one.outcome, Verdict)]
    motions = [one.motion for one in chosen]
    return row(
        name,
        f"{sum(right)} of {len(right)}",
        f"{np.mean(scores):.2f}",
        f"{100 * np.mean([foot_skating(motion) for motion in motions]):.1f}",
        f"{np.mean([jitter(motion) for motion in motions]):.0f}",
        f"{np.mean([motion.duration_s for motion in motions]):.1f}",
    )


def agreement(some: Sequence[Judged], values: Sequence[float], *, apart: int) -> float | None:
    """Share of pairs whose better one by the rules is nearer to the prompt; None where no scores are so far apart."""
    scored = [(one.outcome.score, near) for one, near in zip(some, values) if isinstance(one.outcome, Verdict)]
    agreed = [near > other for score, near in scored for lower, other in scored if score - lower == apart]
    return float(np.mean(agreed)) if agreed else None


def preferred(values: Sequence[float], place: int) -> NDArray[np.floating]:
    """1 for each other candidate that is farther from the prompt than the one at `place`, half where as near."""
    others = np.delete(np.array(values), place)
    return (values[place] > others) + 0.5 * (values[place] == others)


def mean(values: Sequence[float] | NDArray[np.floating]) -> str:
    """With its interval of 95 % over prompts, and their number."""
    if len(values) < 2:
        return "–"
    spread = t_quantile(len(values) - 1) * float(np.std(values, ddof=1)) / sqrt(len(values))
    return f"{np.mean(values):.2f} ± {spread:.2f} ({len(values)})"


def table(*names: str) -> None:
    print(row(*names))
    print(row("---", *["---:"] * (len(names) - 1)))


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def write_sheets(
    out: Path, prompts: Sequence[EventPrompt], drawn: Sequence[Sequence[Judged]], places: list[int]
) -> None:
    for one, some, place in zip(prompts, drawn, places):
        told = [
            replace(some[at].motion, caption=f"{one.prompt}  [{name}] {some[at].outcome.reason}")
            for name, at in (("first", 0), (f"best of {CROSS}: candidate {place}", place))
        ]
        write_sheet(told, out / f"{one.id}.png", num_frames=12, size=160)


if __name__ == "__main__":
    main(tyro.cli(Settings))
