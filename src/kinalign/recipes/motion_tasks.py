"""docs/motion_tasks.md: text to motion, motion to text and motion to motion in ten scenes that no training saw.

    python -m kinalign.recipes.motion_tasks

The other eight of the eleven tasks are in docs/planning.md. Needs openmocap20, for what real motion is like. Hardware:
one processor core, a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import tyro

from kinalign.data.openmocap import load_openmocap
from kinalign.judge.named import judge_named
from kinalign.judge.verdict import Case, Judge, Outcome, Verdict
from kinalign.motion.joining import uniform
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.physics import foot_skating, peak_jerk
from kinalign.pipeline import TextToMotion
from kinalign.planning.corpus import load_scenes
from kinalign.planning.named import planner_named
from kinalign.planning.plan import Scene, Step, Task
from kinalign.planning.saying import share_said
from kinalign.planning.tasks import Avatar
from kinalign.recipes.long_motion import write_rows
from kinalign.run import progress, write_text

NUM_SCENES = 10
GAP_S = 1.0
"""What the model fills between two motions."""
AROUND = 5
"""Frames of both motions that belong to a join: a quarter of a second."""
REAL_WINDOWS = 500


@dataclass(frozen=True)
class Recipe:
    """Write the page of the three tasks between text and motion, and its sheet."""

    out: Path = Path("docs/motion_tasks.md")
    sheet: Path = Path("docs/motion_tasks.png")
    """One row for each motion that was made of a text."""
    data: Path | None = None
    """Folder of openmocap20; by default it is looked for in the data folder."""
    threads: int = 1
    """Processor threads."""


class Answers(NamedTuple):
    """What was asked in a scene, and what came: motions of the first and the last step of its first task."""

    scene: Scene
    task: Task
    steps: tuple[Step, Step]
    motions: tuple[Motion, Motion]
    kinematic: Outcome
    learned: Outcome
    caption: str
    """Of the first motion."""
    joined: Motion

    @property
    def join(self) -> Motion:
        """What was filled in, with what is just before and after."""
        end = len(self.joined) - len(self.motions[1].resample(FPS))
        return self.joined[end - round(GAP_S * FPS) - AROUND : end + AROUND]


class Smoothness(NamedTuple):
    """How windows of motion run: means of their greatest jerk (m/s³) and of the speed of toes on the floor (m/s)."""

    jerk: float
    skating: float


def write_answers(recipe: Recipe) -> Path:
    """Ask in every scene, measure, and write the page and the sheet."""
    torch.set_num_threads(recipe.threads)
    avatar = Avatar(TextToMotion.from_pretrained(), planner_named("embedded"))
    scenes = [Scene(scene.wordings[0]) for scene in load_scenes("test")[:NUM_SCENES]]
    judges, found = [judge_named(name) for name in ("kinematic", "learned")], []
    with progress("scenes", total=len(scenes)) as advance:
        for number, scene in enumerate(scenes, start=1):
            found.append(answers(avatar, scene, judges, seed=number))
            advance()
    length = len(found[0].join)
    clips = [clip.motion for clip in load_openmocap(recipe.data, split="test")]
    real = smoothness(windows(clips, length, np.random.default_rng(0)))
    write_rows([row(number, one) for number, one in enumerate(found, start=1)], recipe.sheet)
    text = page(found, real, recipe)
    return write_text(recipe.out, text)


def answers(avatar: Avatar, scene: Scene, judges: Sequence[Judge], *, seed: int) -> Answers:
    """The first task of a scene, as docs/planning.md has it, and what is made of its first and its last step."""
    task = avatar.ct2t(scene)
    steps = avatar.t2s(task)
    first, last = steps[0], steps[-1]
    motions = avatar.t2m(first, seed=seed), avatar.t2m(last, seed=seed)
    case = Case.of(first.text, motions[0], program=first.program)
    kinematic, learned = (judge.judge_all([case])[0] for judge in judges)
    joined = avatar.m2m(*motions, seconds=GAP_S, seed=seed)
    return Answers(scene, task, (first, last), motions, kinematic, learned, avatar.m2t(motions[0]), joined)


def windows(clips: Sequence[Motion], length: int, rng: np.random.Generator) -> list[Motion]:
    """Pieces of `length` frames from anywhere in motions that are long enough."""
    long_enough = [uniform(clip) for clip in clips if clip.duration_s > (length + 1) / FPS]
    chosen = [long_enough[place] for place in rng.integers(len(long_enough), size=REAL_WINDOWS)]
    starts = [int(rng.integers(len(clip) - length + 1)) for clip in chosen]
    return [clip[start : start + length] for clip, start in zip(chosen, starts)]


def smoothness(motions: Sequence[Motion]) -> Smoothness:
    """Means over motions."""
    return Smoothness(*(float(np.mean([of(motion) for motion in motions])) for of in (peak_jerk, foot_skating)))


def row(number: int, one: Answers) -> Motion:
    """The motion of the first step as it stands on the sheet."""
    return replace(one.motions[0], caption=f"{number}: {one.steps[0].text}")


def page(found: Sequence[Answers], real: Smoothness, recipe: Recipe) -> str:
    """The page in Markdown."""
    made = "\n".join(_made(number, one) for number, one in enumerate(found, start=1))
    joined = "\n".join(_joined(number, one, real) for number, one in enumerate(found, start=1))
    mean = smoothness([one.join for one in found])
    kinematic, learned = sum(one.kinematic.is_right for one in found), sum(one.learned.is_right for one in found)
    said = sum(map(_is_said, found))
    return f"""{HEAD}
## Text to motion, and back

The judges score the motion of the task's first step (5: what was asked for is seen). *Said* tells whether the caption
that the model gives its own motion says the event of the step, on its side and to its way. Right by rules are \
{kinematic} of {len(found)},
by the learned judge {learned}; said are {said}.

| | scene → task | t2m: its first step | s | rules | learned | m2t: the caption | said |
| --- | --- | --- | ---: | ---: | ---: | --- | --- |
{made}

![The motions of the table, a row each]({recipe.sheet.name})

## Motion to motion

The motions of the first and the last step of the task, with {GAP_S:g} s between them that the model fills. Peak jerk
and the speed of toes on the floor are those of {len(found[0].join) / FPS:g} s: what was filled in, and a quarter of a
second before and after. {REAL_WINDOWS} windows of real motion of that length have {real.jerk:.0f} m/s³ and \
{real.skating:.2f} m/s.

| | first motion | second motion | frames | peak jerk, x real | skating, m/s |
| --- | --- | --- | ---: | ---: | ---: |
{joined}
| | mean | | | {mean.jerk / real.jerk:.2f} | {mean.skating:.2f} |
"""


def _is_said(one: Answers) -> bool:
    return share_said(one.steps[0].program, one.caption) == 1


def _made(number: int, one: Answers) -> str:
    judged = (one.kinematic, one.learned)
    scores = [str(outcome.score) if isinstance(outcome, Verdict) else "invalid" for outcome in judged]
    seconds, said = f"{one.motions[0].duration_s:.1f}", "yes" if _is_said(one) else "no"
    cells = (f"{one.scene.text}<br>→ {one.task.text}", one.steps[0].text, seconds, *scores, one.caption, said)
    return f"| {number} | {' | '.join(cells)} |"


def _joined(number: int, one: Answers, real: Smoothness) -> str:
    jerk, skating = smoothness([one.join])
    texts = " | ".join(step.text for step in one.steps)
    return f"| {number} | {texts} | {len(one.joined)} | {jerk / real.jerk:.2f} | {skating:.2f} |"


HEAD = """# Between text and motion: t2m, m2t and m2m

Three of the eleven tasks in ten scenes that no training saw; the other eight, in the same scenes, are on
[the planner's page](planning.md). In each scene a first task is planned (ct2t) and broken down (t2s), and steps of it
are made, one motion each, as they come with the scene's number as the seed: nothing is chosen or mended.
`python -m kinalign.recipes.motion_tasks` writes this page (one core of two, 2026-11-22). `kinalign generate` and
`kinalign compose` keep the best of several motions, and `compose` joins them otherwise ([long motion](long_motion.md)).
"""


if __name__ == "__main__":
    print(write_answers(tyro.cli(Recipe)))
