"""docs/long-motion.html: two minutes from one scene, the plan beside the motion, and sheets of all joins.

    python -m kinalign.recipes.long_motion

On a sheet each row is one join: the last frames of one segment, what was made up, the first frames of the next. The
tables that are printed, of the page's motion and of a scene that the planner does not know, are those of
docs/long_motion.md. Hardware: one processor core, two minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import tyro

from kinalign.judge.named import judge_named
from kinalign.judge.verdict import Case, Invalid, Judge
from kinalign.motion.motion import FPS, Motion
from kinalign.planning.compose import LongMotion, Shown
from kinalign.planning.compose_command import Compose, compose_command
from kinalign.planning.page import write_plan_page
from kinalign.render.sheet import write_sheet
from kinalign.run import progress

MINUTES = 2.0
ASKED = "a man exercises in the park"
"""The scene of the table: none of the planner's."""
ASKED_SEEDS = (1, 2)
ASKED_BEST_OF = {1: "the first motion of each step", 4: "the best of 4"}
AROUND = 6
"""Frames of the two segments that are shown before and after what was made up."""
FRAMES, ROWS, SIZE = 11, 8, 112
"""Frames in a row, rows on a sheet, pixels of a frame."""


@dataclass(frozen=True)
class LongMotionPage:
    """Write the page of a long motion and the sheets of its joins, and print how many steps are there."""

    scene: str = "A goalkeeper warms up before a match."
    seed: int = 5
    run: Path = Path("runs/long-motion")
    """Where the motions are made."""
    out: Path = Path("docs/long-motion.html")
    sheets: Path = Path("docs/long-motion")
    """Folder for the sheets, joins-1.png and so on."""


class Right(NamedTuple):
    """How many steps there are, and how many are right in their own frames, by the judge that chose and by another."""

    steps: int
    kinematic: int
    learned: int
    unknown: int
    """Steps that the learned judge cannot tell: it was never taught them."""


def write_page(config: LongMotionPage) -> list[Path]:
    """Make the motion, write the page and the sheets, and print the tables."""
    judges = [judge_named(name) for name in ("kinematic", "learned")]
    long = composed(config.scene, config.run / "page", seed=config.seed)
    right = steps_right([long], judges)
    written = [write_plan_page(long, config.out, title=config.scene, facts=facts(long, right))]
    written += write_sheets(long, config.sheets)
    lines = ["| | steps | right, kinematic | right, learned | unknown to it |", "| --- | ---: | ---: | ---: | ---: |"]
    lines += [_line("the page", right)]
    for best_of, name in ASKED_BEST_OF.items():
        folders = [(config.run / f"asked-{best_of}-{seed}", seed) for seed in ASKED_SEEDS]
        asked = [composed(ASKED, folder, seed=seed, best_of=best_of) for folder, seed in folders]
        lines += [_line(f"{ASKED}, {name}", steps_right(asked, judges))]
    print("\n".join(lines))
    return written


def composed(scene: str, out: Path, *, seed: int, best_of: int = 4) -> LongMotion:
    """Two minutes of a scene, as `kinalign compose` makes them."""
    return compose_command(Compose(scene=scene, minutes=MINUTES, best_of=best_of, seed=seed, out=out, formats=("npz",)))


def steps_right(motions: Sequence[LongMotion], judges: Sequence[Judge]) -> Right:
    """How many steps of motions two judges find right where they happen, looking at the finished motion."""
    cases = []
    for long in motions:
        for shown in long.shown:
            step, motion = shown.segment.step, long.motion[shown.start : shown.end]
            cases.append(Case.of(step.text, motion, program=step.program))
    kinematic, learned = (judge.judge_all(cases) for judge in judges)
    return Right(
        len(cases),
        kinematic=sum(one.is_right for one in kinematic),
        learned=sum(one.is_right for one in learned),
        unknown=sum(isinstance(one, Invalid) for one in learned),
    )


def facts(long: LongMotion, right: Right) -> str:
    """What there is, and how much of it is there by two judges."""
    tasks = len({shown.segment.task for shown in long.shown})
    return (
        f"{tasks} tasks, {right.steps} steps, {long.motion.duration_s / 60:.1f} minutes, planned and made offline, the "
        f"best of 4 motions each. In its own frames, the judge by rules, which chose, finds {right.kinematic} of "
        f"{right.steps} steps right; the learned one finds {right.learned}, and cannot tell {right.unknown}."
    )


def _line(name: str, right: Right) -> str:
    kinematic, learned, unknown = (f"{number / right.steps:.2f}" for number in right[1:])
    return f"| {name} | {right.steps} | {kinematic} | {learned} | {unknown} |"


def write_sheets(long: LongMotion, folder: Path) -> list[Path]:
    """Sheets of all joins, a row each."""
    rows = [_row(long.motion, *shown) for shown in pairwise(long.shown)]
    paths = []
    starts = range(0, len(rows), ROWS)
    with progress("sheets", total=len(starts)) as advance:
        for number, start in enumerate(starts, start=1):
            paths.append(write_rows(rows[start : start + ROWS], folder / f"joins-{number}.png"))
            advance()
    return paths


def _row(motion: Motion, one: Shown, other: Shown) -> Motion:
    """Frames from before the end of one segment until after the beginning of the next, with a pause between them."""
    around = motion[max(one.end - AROUND, 0) : other.start + AROUND]
    made_s = (other.start - one.end) / FPS
    texts = (one.segment.step.text, other.segment.step.text)
    return replace(around, caption=f"{one.number}: {texts[0]} ({made_s:.1f} s) {texts[1]}")


def write_rows(rows: Sequence[Motion], path: Path) -> Path:
    """A sheet with a row for each motion, in 64 colours: sheets should not weigh down a repository."""
    return write_sheet(rows, path, num_frames=FRAMES, size=SIZE, colours=64)


if __name__ == "__main__":
    for written in write_page(tyro.cli(LongMotionPage)):
        print(written)
