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
from pathlib import Path

import numpy as np
import torch
import tyro

from kinalign.evaluation.judging import embedding_judge
from kinalign.judge.agreement import wilson_interval
from kinalign.judge.embedding import Nearness, nearness_of
from kinalign.judge.kinematic import KinematicJudge
from kinalign.judge.rubric import SUB_TASKS
from kinalign.judge.verdict import Case, Verdict
from kinalign.motion.physics import foot_skating, jitter
from kinalign.pipeline import TextToMotion
from kinalign.preference.prompts import grammar_prompts
from kinalign.preference.records import PreferencePrompt
from kinalign.render.sheet import write_sheet
from kinalign.run import progress
from kinalign.selection import Judged, judged, merit

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
    best = {size: [max(some[:size], key=merit).place for some in drawn] for size in SIZES}
    nearest = [int(np.argmax(values[:CROSS])) for values in near]

    print("| chosen by | all right, by rules | " + " | ".join(SUB_TASKS) + " | mean score | skating cm/s | jerk m/s³ |")
    print("| --- | ---: | " + "---: | " * (len(SUB_TASKS) + 3))
    for size in SIZES:
        print(row(f"rules, best of {size}" if size > 1 else "nobody, the first", prompts, drawn, best[size]))
    print(row(f"encoder, best of {CROSS}", prompts, drawn, nearest))

    print("\n| the encoder prefers | to the first | " + " | ".join(SUB_TASKS) + " |")
    print("| --- | ---: | " + "---: | " * len(SUB_TASKS))
    print(preference("the second", prompts, near, [1] * len(prompts)))
    for size in SIZES[1:]:
        print(preference(f"rules' best of {size}", prompts, near, best[size]))

    ends = [next((one.place + 1 for one in some if one.is_right), SIZES[-1]) for some in drawn]
    rounds = [-(-end // 8) * 8 for end in ends]
    print(f"\n--until-right {SIZES[-1]} draws {np.mean(rounds):.1f} a prompt in rounds of 8.")
    if settings.out is not None:
        write_sheets(settings.out, prompts, drawn, best[CROSS])


def row(name: str, prompts: Sequence[PreferencePrompt], drawn: Sequence[Sequence[Judged]], places: list[int]) -> str:
    """Of what was chosen: the share that is all right with its interval, by sub-task, and how it looks."""
    chosen = [some[place] for some, place in zip(drawn, places)]
    right = [one.is_right for one in chosen]
    of_task = [f"{sum(r for r, p in zip(right, prompts) if p.task == task)}" for task in SUB_TASKS]
    scores = [one.outcome.score if isinstance(one.outcome, Verdict) else 1 for one in chosen]
    skating = 100 * np.mean([foot_skating(one.motion) for one in chosen])
    jerk = np.mean([jitter(one.motion) for one in chosen])
    cells = [name, share(sum(right), len(right)), *of_task, f"{np.mean(scores):.2f}", f"{skating:.1f}", f"{jerk:.0f}"]
    return "| " + " | ".join(cells) + " |"


def preference(
    name: str, prompts: Sequence[PreferencePrompt], near: Sequence[Sequence[float]], places: list[int]
) -> str:
    """How often the chosen one is nearer to the prompt than the first, where it is another one."""
    cells = []
    for task in (None, *SUB_TASKS):
        pairs = [
            (values[place], values[0])
            for one, values, place in zip(prompts, near, places)
            if place != 0 and task in (None, one.task)
        ]
        wins = sum((chosen > first) + 0.5 * (chosen == first) for chosen, first in pairs)
        cells.append(share(wins, len(pairs)) if pairs else "–")
    return "| " + " | ".join([name, *cells]) + " |"


def share(hits: float, total: int) -> str:
    low, high = (min(max(bound, 0.0), 1.0) for bound in wilson_interval(hits, total))
    return f"{hits / total:.2f} [{low:.2f}, {high:.2f}] ({total})"


def write_sheets(
    out: Path, prompts: Sequence[PreferencePrompt], drawn: Sequence[Sequence[Judged]], places: list[int]
) -> None:
    for one, some, place in zip(prompts, drawn, places):
        told = [
            replace(some[at].motion, caption=f"{one.prompt}  [{name}] {some[at].outcome.reason}")
            for name, at in (("first", 0), (f"best of {CROSS}: candidate {place}", place))
        ]
        write_sheet(told, out / f"{one.id}.png", num_frames=12, size=160)


if __name__ == "__main__":
    main(tyro.cli(Settings))
