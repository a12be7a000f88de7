"""The shipped detector of events, an examiner that shares no rule with the kinematic judge: one command.

    python -m kinalign.recipes.detector --out runs/detector

Clips of openmocap20's train split of which a label tells the one event are shown alone, mirrored, faster and slower, as
the shipped tokenizer gives them back, and joined by events/compose.py, where intervals and counts are known. Sitting
down backwards in time is standing up. Clips counted by eye, of the validation split too, teach how often. What a clip
may hold besides its event is neither taught nor forbidden. About eight minutes of one CPU core. The weights and a card
are then in OUT/model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from kinalign.data.openmocap import load_openmocap
from kinalign.errors import MotionError
from kinalign.evaluation.encoder import evaluator_features
from kinalign.evaluation.eventbench import FEW_CLIPS, SHOWN, Atom, atoms_of
from kinalign.evaluation.learned import (
    ACTIONS,
    BACKWARD,
    COUNTED,
    FRAMES_PER_STEP,
    NUM_MANNERS,
    SHOWN_BY,
    SIDED,
    TURN_LEFT,
    DetectorConfig,
    EventDetector,
)
from kinalign.events.compose import Composed, Interval, Part, compose
from kinalign.events.program import BACKWARDS, Event, EventProgram
from kinalign.motion.features import FeatureStats
from kinalign.motion.joining import uniform
from kinalign.motion.motion import FPS, Motion
from kinalign.pipeline import TextToMotion
from kinalign.run import RunFolder, progress, write_text
from kinalign.tokenizer.tokenizer import MotionTokenizer
from kinalign.training import Draw, Optimization, optimize

TAUGHT = SHOWN | {
    "walk_back": "walk",
    "walk_side": "walk",
    "dash": "run",
    "jump_once": "jump",
    "soccer_kick": "kick",
    "goodbye_hand": "wave",
    "goodbye_both": "wave",
}
"""Labels of clips that are shown, and which of their events is meant; EventBench's and a few more."""
MOST_ALONE = 60
"""Clips of one action and side that are shown alone."""
SPEEDS = (0.75, 1.35)
CROP = 96
"""Steps of an example: 9.6 s."""
BATCH, SHARES = 32, (0.25, 0.55, 0.2)
"""Examples of a batch, and shares of clips alone, of joined ones and of those counted by eye."""
VIEWS = 4
"""Speeds at which a clip that was counted by eye is shown."""
TIMES = (1, 1, 1, 2, 2, 3, 4)
LONGEST = 260
"""Frames of the clips that are joined."""
UNKNOWN = -1.0


@dataclass(frozen=True)
class Recipe:
    """Train the shipped detector of events."""

    out: Path = Path("runs/detector")
    """The run folder training/ and the finished detector in model/."""
    steps: int = 900
    """Optimizer steps."""
    joined: int = 900
    """Motions that are joined of several clips."""
    counted: Path = Path("tests/counted_clips.json")
    """Clips counted by eye; those of the test split are left out."""
    seed: int = 0
    threads: int = 1
    """Processor threads."""


class Counted(NamedTuple):
    """An action happens so many times in steps [start, end)."""

    action: int
    start: int
    end: int
    times: float


@dataclass(frozen=True, eq=False)
class Lesson:
    """A motion and what is true of each of its L steps: 1, 0, or -1 where nothing is known."""

    features: NDArray[np.float32]
    actions: NDArray[np.float32]
    """(L, A)"""
    manners: NDArray[np.float32]
    """(L, 4)"""
    counted: tuple[Counted, ...]


def train(recipe: Recipe) -> Path:
    """Lessons, training, weights in half precision and a card."""
    torch.set_num_threads(recipe.threads)
    tokenizer = TextToMotion.from_pretrained().tokenizer
    alone, joined = lessons(recipe, tokenizer)
    counted = counted_lessons(recipe, tokenizer)
    stats = FeatureStats.of(np.concatenate([lesson.features for lesson in (*alone, *joined, *counted)]))
    torch.manual_seed(recipe.seed)
    detector = EventDetector(DetectorConfig(), stats)
    settings = Optimization(steps=recipe.steps, learning_rate=2e-3, checkpoint_every=100, seed=recipe.seed)
    run = RunFolder.open(recipe.out / "training", {"steps": recipe.steps, "joined": recipe.joined, "seed": recipe.seed})
    optimize(run, detector, lambda draw: _terms(detector, draw, (alone, joined, counted)), settings)
    folder = detector.save_pretrained(recipe.out / "model")
    text = card(folder, alone, joined, counted)
    write_text(folder / "README.md", text)
    return folder


# --- lessons ------------------------------------------------------------------------------------------------------


def lessons(recipe: Recipe, tokenizer: MotionTokenizer) -> tuple[list[Lesson], list[Lesson]]:
    """Clips alone, and joined ones; each as it is and as the tokenizer gives it back."""
    rng = np.random.default_rng(recipe.seed)
    atoms = taught(atoms_of(load_openmocap(split="train", cut_events=True), TAUGHT))
    few: dict[tuple[str, ...], list[Atom]] = {}
    for atom in atoms:
        few.setdefault((atom.event.action, atom.event.side, atom.event.direction), []).append(atom)
    shown = [own[place] for own in few.values() for place in rng.permutation(len(own))[:MOST_ALONE]]
    alone: list[Lesson] = []
    joined: list[Lesson] = []
    with progress("clips alone", total=len(shown)) as advance:
        for atom in shown:
            for one in (atom, atom.mirrored):
                alone += _lessons(_composed([one], [1]), [one], rng, tokenizer)
            advance()
    by_action: dict[str, list[Atom]] = {}
    for atom in atoms:
        by_action.setdefault(atom.event.action, []).append(atom)
    with progress("joined clips", total=recipe.joined) as advance:
        while len(joined) < 2 * recipe.joined:
            row = _row(by_action, rng)
            if not row:
                continue
            chosen = [atom for atom, _ in row]
            joined += _lessons(_composed(chosen, [times for _, times in row]), chosen, rng, tokenizer)
            advance()
    return alone, joined


def taught(atoms: Sequence[Atom]) -> list[Atom]:
    """The clips of actions that the detector knows, with those that are others when time runs backwards."""
    known = [atom for atom in atoms if atom.event.action in ACTIONS]
    backwards = []
    for atom in known:
        if action := BACKWARDS.get(atom.event.action):
            way = {"backward": "forward", "forward": "backward"}.get(atom.event.direction, atom.event.direction)
            event = replace(atom.event, action=action, direction=way)
            holds = atom.holds | {action}
            backwards.append(Atom(f"{atom.clip}~", atom.motion.backwards(), event, holds, ends_upright=True))
    return [*known, *backwards]


def _row(by_action: Mapping[str, Sequence[Atom]], rng: np.random.Generator) -> list[tuple[Atom, int]]:
    """Clips of different actions and how often each is shown; nothing where they cannot be told apart or joined."""
    names = [name for name in by_action if name not in ("stand_up", "get_up")]
    weights = np.array([min(len(by_action[name]), FEW_CLIPS) / FEW_CLIPS for name in names])
    number = int(rng.choice((1, 2, 2, 3)))
    row: list[tuple[Atom, int]] = []
    for place in rng.choice(len(names), number, replace=False, p=weights / weights.sum()):
        atom = _one_of(by_action[names[place]], rng)
        times = int(rng.choice(TIMES)) if atom.event.count is not None and atom.ends_upright else 1
        row.append((atom, times))
        if not atom.ends_upright:
            up = BACKWARDS.get(atom.event.action)
            if up is None or rng.random() < 0.3:
                break
            row.append((_one_of(by_action[up], rng), 1))
    frames = sum(len(atom.motion) * times for atom, times in row)
    clash = any(a is not b and a.event.action in b.holds for a, _ in row for b, _ in row)
    return [] if clash or frames > LONGEST else row


def _one_of(atoms: Sequence[Atom], rng: np.random.Generator) -> Atom:
    atom = atoms[int(rng.integers(len(atoms)))]
    return atom.mirrored if rng.random() < 0.5 else atom


def _composed(atoms: Sequence[Atom], times: Sequence[int]) -> Composed:
    return compose([Part(atom.motion, atom.event, many, atom.spare) for atom, many in zip(atoms, times)])


def _lessons(
    composed: Composed, atoms: Sequence[Atom], rng: np.random.Generator, tokenizer: MotionTokenizer
) -> list[Lesson]:
    """A motion at some speed, and as the tokenizer gives it back at another one."""
    found = []
    for is_coded in (False, True):
        speed = float(np.exp(rng.uniform(*np.log(SPEEDS))))
        motion = Motion(composed.motion.joints, fps=FPS * speed).resample(FPS)
        if is_coded:
            try:
                motion = tokenizer.decode(tokenizer.encode(motion))
            except MotionError:  # shorter than a code
                continue
        found.append(_lesson(motion, composed, atoms, scale=1 / speed / FRAMES_PER_STEP))
    return found


def _lesson(motion: Motion, composed: Composed, atoms: Sequence[Atom], *, scale: float) -> Lesson:
    """What is true of a motion's steps; `scale` makes steps of the frames of what was composed."""
    features = evaluator_features(motion)
    num_steps = len(features) // FRAMES_PER_STEP
    actions = np.zeros((num_steps, len(ACTIONS)), np.float32)
    manners = np.full((num_steps, NUM_MANNERS), UNKNOWN, np.float32)
    counted: list[Counted] = []

    def steps(interval: Interval) -> tuple[int, int]:
        start = min(round(interval.start * scale), num_steps)
        return start, max(min(round(interval.end * scale), num_steps), start)

    # around an event, up to the middle of the way to its neighbours, nothing is said of it and of what it may hold
    middles = [(former.end + later.start) // 2 for former, later in zip(composed.intervals, composed.intervals[1:])]
    edges = [0, *middles, len(composed.motion)]
    for atom, first, last in zip(atoms, edges, edges[1:]):
        start, end = steps(Interval(first, last))
        unsaid = [ACTIONS.index(action) for action in _perhaps(atom) if action in ACTIONS]
        actions[start:end, unsaid] = UNKNOWN
    for atom, whole, repeats in zip(atoms, composed.intervals, composed.repeats):
        start, end = steps(whole)
        place = ACTIONS.index(atom.event.action)
        actions[start:end, place] = 1.0
        for manner, value in _manners(atom.event).items():
            manners[start:end, manner] = value
        if atom.event.action in COUNTED and isinstance(atom.event.count, int):
            counted += [Counted(place, *steps(one), float(atom.event.count)) for one in repeats]
            if len(repeats) > 1:
                counted.append(Counted(place, start, end, float(atom.event.count * len(repeats))))
    return Lesson(features, actions, manners, tuple(counted))


def _perhaps(atom: Atom) -> set[str]:
    """Actions that a clip may hold, its own among them, with those that look the same; who goes also steps."""
    held = {kin for action in atom.holds for kin in (action, *SHOWN_BY.get(action, ()))}
    return held | ({"step"} if held & {"walk", "run", "turn"} else set())


def counted_lessons(recipe: Recipe, tokenizer: MotionTokenizer) -> list[Lesson]:
    """Real clips of the train and the validation split that were counted by eye; of other events nothing is known."""
    rng = np.random.default_rng([recipe.seed, 1])
    clips = {clip.id: clip for split in ("train", "val") for clip in load_openmocap(split=split)}
    found = []
    rows = json.loads(recipe.counted.read_text(encoding="utf-8"))
    for row in rows:
        if not row.get("sure", True) or row["clip"] not in clips or row["action"] not in ACTIONS:
            continue
        clip = clips[row["clip"]].motion
        motion = uniform(clip[row.get("start") or 0 : len(clip) if row.get("end") is None else row["end"]])
        event = Event(row["action"], row.get("side") or "", count=row["count"])
        atom = Atom(row["clip"], motion, event, frozenset(), ends_upright=True)
        for one in (atom, atom.mirrored):
            whole = Interval(0, len(one.motion))
            composed = Composed(one.motion, EventProgram(((one.event,),)), (whole,), ((whole,),), (), 0.0)
            for _ in range(VIEWS):
                for lesson in _lessons(composed, [one], rng, tokenizer):
                    own = ACTIONS.index(one.event.action)
                    is_own = np.arange(len(ACTIONS)) == own
                    found.append(replace(lesson, actions=np.where(is_own, lesson.actions, UNKNOWN)))
    return found


def _manners(event: Event) -> dict[int, float]:
    """What is known of sides and ways in an event."""
    known: dict[int, float] = {}
    if event.action in SIDED and event.side in ("left", "right", "both"):
        known = {0: float(event.side != "right"), 1: float(event.side != "left")}
    if event.action == "turn" and event.direction in ("left", "right"):
        known[TURN_LEFT] = float(event.direction == "left")
    if event.action in ("walk", "rotate_arm") and event.direction in ("forward", "backward"):
        known[BACKWARD] = float(event.direction == "backward")
    return known


# --- training -----------------------------------------------------------------------------------------------------


def _terms(detector: EventDetector, draw: Draw, pools: Sequence[Sequence[Lesson]]) -> dict[str, Tensor]:
    """Losses on a batch: what happens, on which side and way, and how often."""
    chosen = []
    for place in draw.rng.choice(len(pools), BATCH, p=SHARES):
        pool = pools[int(place)]
        chosen.append((pool[int(draw.rng.integers(len(pool)))], float(draw.rng.random())))
    steps = torch.zeros(BATCH, CROP, FRAMES_PER_STEP * len(detector.mean))
    actions = torch.full((BATCH, CROP, len(ACTIONS)), UNKNOWN)
    manners = torch.full((BATCH, CROP, NUM_MANNERS), UNKNOWN)
    counted: list[tuple[int, Counted]] = []
    for row, (lesson, lot) in enumerate(chosen):
        whole = detector.normalize(lesson.features)
        start = int(lot * max(len(whole) - CROP + 1, 1))
        length = min(len(whole) - start, CROP)
        steps[row, :length] = whole[start : start + length]
        actions[row, :length] = torch.from_numpy(lesson.actions[start : start + length])
        manners[row, :length] = torch.from_numpy(lesson.manners[start : start + length])
        counted += [
            (row, one._replace(start=one.start - start, end=one.end - start))
            for one in lesson.counted
            if start <= one.start and one.end <= start + length
        ]
    steps = steps + 0.1 * torch.randn(steps.shape, generator=draw.generator)
    told = detector(steps)
    happens = _masked_bce(told.actions, actions)
    manner = _masked_bce(told.manners, manners)
    passed = F.pad(told.repetitions.cumsum(1), (0, 0, 1, 0))  # (B, L + 1, A)
    rows = torch.tensor([row for row, _ in counted])
    places, starts, ends, times = (torch.tensor([one[at] for _, one in counted]) for at in range(4))
    sums = passed[rows, (ends + 1).clamp(max=CROP), places] - passed[rows, (starts - 1).clamp(min=0), places]
    times_off = F.smooth_l1_loss(sums, times, beta=0.3)
    elsewhere = (told.repetitions * (actions == 0)).sum() / (actions == 0).sum()
    loss = happens + 0.3 * manner + 0.5 * times_off + 2.0 * elsewhere
    return {"loss": loss, "happens": happens, "manner": manner, "times": times_off}


def _masked_bce(logits: Tensor, truth: Tensor) -> Tensor:
    is_known = (truth >= 0).float()
    each = F.binary_cross_entropy_with_logits(logits, truth.clamp(min=0), reduction="none")
    # what happens is rare among all that could
    weight = is_known * (1 + 2 * (truth > 0).float())
    return (each * weight).sum() / weight.sum().clamp(min=1)


def card(folder: Path, alone: Sequence[Lesson], joined: Sequence[Lesson], counted: Sequence[Lesson]) -> str:
    """README.md of the detector's folder."""
    size = (folder / "model.safetensors").stat().st_size / 1e6
    return f"""---
license: cc-by-nc-4.0
library_name: kinalign
---

# {folder.name}

A motion in; for every tenth of a second out: which of {len(ACTIONS)} actions happen, on which side, and how much of a
repetition goes by. {size:.1f} MB in half precision. Trained from nothing on the train split of openmocap20, on
{len(alone)} motions of one event and {len(joined)} joined ones, and on {len(counted)} of clips of the train and the
validation split that were counted by eye, by `python -m kinalign.recipes.detector`. It is the judge `learned`: an
examiner that shares no rule with the kinematic judge. How right it is stands in docs/judges.md.

Actions: {", ".join(ACTIONS)}. It counts {", ".join(sorted(COUNTED))}; of other actions no label says how often.
"""


if __name__ == "__main__":
    import tyro

    print(train(tyro.cli(Recipe)))
