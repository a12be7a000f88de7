"""docs/long-motion.html: two minutes from one scene, the plan beside the motion, and sheets of all joins.

    python -m kinalign.recipes.long_motion --scene "a man exercises in the park"
    python -m kinalign.recipes.long_motion --timeline docs/long-motion/timeline.csv --title "A man in the park"

On a sheet each row is one join: the last frames of one segment, what was made up, the first frames of the next.
Hardware: one processor core, a minute or two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import tyro
from PIL import Image

from kinalign.motion.motion import FPS, Motion
from kinalign.planning.compose import LongMotion, Shown
from kinalign.planning.compose_command import Compose, compose_command
from kinalign.planning.page import write_plan_page
from kinalign.render.sheet import gallery
from kinalign.run import progress, write_atomically

AROUND = 6
"""Frames of the two segments that are shown before and after what was made up."""
FRAMES, ROWS, SIZE = 11, 8, 112
"""Frames in a row, rows on a sheet, pixels of a frame."""


@dataclass(frozen=True)
class LongMotionPage:
    """Write the page of a long motion and the sheets of its joins."""

    scene: str | None = None
    timeline: Path | None = None
    """In place of a scene: a JSON or CSV file with a row for each segment."""
    title: str | None = None
    """Of the page; the scene where it is left out."""
    minutes: float = 2.0
    planner: str = "embedded"
    seed: int = 0
    run: Path = Path("runs/long-motion")
    """Where the motion is made."""
    out: Path = Path("docs/long-motion.html")
    sheets: Path = Path("docs/long-motion")
    """Folder for the sheets, joins-1.png and so on."""


def write_page(config: LongMotionPage) -> list[Path]:
    """Make the motion, write the page and the sheets."""
    long = compose_command(
        Compose(
            scene=config.scene,
            minutes=None if config.scene is None else config.minutes,
            timeline=config.timeline,
            planner=config.planner,
            seed=config.seed,
            out=config.run,
            formats=("npz",),
        )
    )
    title = config.title or config.scene or "A long motion"
    return [write_plan_page(long, config.out, title=title, facts=facts(long)), *write_sheets(long, config.sheets)]


def facts(long: LongMotion) -> str:
    """What there is, and how much of it a judge found right when it was chosen."""
    scores = [shown.score for shown in long.shown]
    tasks = len({shown.segment.task for shown in long.shown})
    right = sum(score == 5 for score in scores)
    return (
        f"{tasks} tasks, {len(scores)} steps, {long.motion.duration_s / 60:.1f} minutes. The judge by rules found "
        f"{right} of {len(scores)} steps right."
    )


def write_sheets(long: LongMotion, folder: Path) -> list[Path]:
    """Sheets of all joins, a row each."""
    rows = [_row(long.motion, *shown) for shown in pairwise(long.shown)]
    paths = []
    starts = range(0, len(rows), ROWS)
    with progress("sheets", total=len(starts)) as advance:
        for number, start in enumerate(starts, start=1):
            paths.append(_write_sheet(rows[start : start + ROWS], folder / f"joins-{number}.png"))
            advance()
    return paths


def _row(motion: Motion, one: Shown, other: Shown) -> Motion:
    """Frames from before the end of one segment until after the beginning of the next, with a pause between them."""
    around = motion[max(one.end - AROUND, 0) : other.start + AROUND]
    made_s = (other.start - one.end) / FPS
    texts = (one.segment.step.text, other.segment.step.text)
    return replace(around, caption=f"{one.number}: {texts[0]} ({made_s:.1f} s) {texts[1]}")


def _write_sheet(rows: Sequence[Motion], path: Path) -> Path:
    """In 64 colours: sheets should not weigh down a repository."""
    picture = Image.fromarray(gallery(rows, num_frames=FRAMES, size=SIZE)).quantize(64)
    return write_atomically(path, lambda temporary: picture.save(temporary, format="PNG", optimize=True))


if __name__ == "__main__":
    for written in write_page(tyro.cli(LongMotionPage)):
        print(written)
