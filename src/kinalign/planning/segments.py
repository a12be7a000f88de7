"""Where one thing ends and the next begins in a motion of any length: two readers of events, and the likeliest path.

The network of evaluation/learned.py says of every tenth of a second how surely each action happens, the rules of
events/detect say from when to when they see one. Both are added up, of two actions that are seen at once the one that
holds the other counts (who waves has raised a hand), and of all ways to cut the time into actions and nothing the one
of the greatest sum is taken, each change costing SWITCH (Viterbi 1967). What is left out: two things done at the same
time are not told apart; the surer one is named.

Letters: L steps of two frames, S states: actions, and nothing as the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from kinalign.errors import MotionError
from kinalign.evaluation.learned import BACKWARD, FRAMES_PER_STEP, LIMBS, SIDED, TURN_LEFT, EventDetector, Told
from kinalign.events.detect import detect
from kinalign.events.detect.detection import Detection
from kinalign.events.detect.stretches import Side
from kinalign.motion.motion import FPS, Motion

Array = NDArray[np.floating]

SHORTEST_S = 0.5
"""A motion that lasts less shows nothing that has a name."""
WINDOW_STEPS, MARGIN_STEPS = 40, 32
"""So many steps are read at a time, with as many around them as the convolutions reach: 4 and 3.2 s."""
SWITCH = 15.0
"""What a change from one thing to another costs, in nats: so sure it takes to be."""
MOST_SURE = 6.0
"""Logits of the network beyond this say no more."""
BY_RULE = 3.0
"""What a rule that is surely met adds, in nats."""
UNTAUGHT = 2.0
"""What an action that only rules know lacks: of two seconds of it they have to be sure."""
LEAST_STEPS = 3
"""What lasts less is not named."""
PAUSE_S = 1.0
"""Who stands still for less only ends one thing and begins the next."""
STILL_M_S = 0.15
"""A body in which no joint is faster does nothing, unless a rule sees what it does: a hand is held up."""
MINOR_SHARE = 0.25
"""A change of side or way that lasts a smaller share of its segment is none."""
UNNAMED = frozenset({"step", "lower", "stand"})
"""What stands in the way of nothing: single steps and hands that sink are part of all that is done; standing is told
of where nothing else is."""
RULES_ALONE = frozenset("spin dance kneel flip leap".split())
"""Actions that the network was never taught, and that no other one is a part of."""

HOLDS: dict[str, frozenset[str]] = {
    action: frozenset(parts.split())
    for action, parts in {
        "kick": "raise_knee hop jump turn walk leap",
        "wave": "raise reach throw punch clap",
        "throw": "raise reach punch walk turn",
        "rotate_arm": "raise reach wave throw",
        "jumping_jack": "raise reach wave jump hop squat kick clap rotate_arm",
        "punch": "raise reach twist",
        "clap": "raise reach wave punch",
        "put_down": "squat bow reach kneel",
        "sit": "put_down squat bow kneel",
        "lie_down": "put_down squat bow kneel sit",
        "cartwheel": "walk run turn spin put_down kick raise_knee raise reach lie_down sit squat jump hop twist bow "
        "throw rotate_arm flip leap dance",
        "flip": "jump hop turn spin kick raise reach squat bow leap dance",
        "run": "walk jump hop leap raise_knee",
        "leap": "jump hop run",
        "twist": "turn",
        "turn": "walk",
        "spin": "turn walk",
        "hop": "jump",
    }.items()
}
"""Actions, and others that are seen in them."""
SEEN, HELD = 1.0, 8.0
"""An action is seen from so many nats on; what others lose while one is that holds them."""


@torch.no_grad()
def segments(motion: Motion, detector: EventDetector) -> list[Detection]:
    """What happens in a motion, one thing after the other, in frames at 20 fps; standing still where nothing else is.

    Raises MotionError for a motion of less than half a second and for another skeleton than HumanML3D's.
    """
    if motion.duration_s < SHORTEST_S:
        raise MotionError(f"a motion of {motion.duration_s:.2f} s shows nothing; give {SHORTEST_S} s or more")
    motion = motion.resample(FPS)
    rules = detect(motion)  # first: it refuses another skeleton
    told = heard(motion, detector)
    names = [name for name in detector.config.actions if name not in UNNAMED]
    places = [detector.config.actions.index(name) for name in names]
    logits = told.actions[:, places].numpy()
    names += sorted(RULES_ALONE)
    path = likeliest_path(scores(logits, rules, names, is_still(motion)[: len(logits)]), switch=SWITCH)
    manners, repetitions = told.manners.sigmoid().numpy(), told.repetitions.numpy()
    found: list[Detection] = []
    for state, start, end in runs(path):
        if state == len(names) or end - start < LEAST_STEPS:
            continue
        name, steps = names[state], slice(start, end)
        frames = range(start * FRAMES_PER_STEP, min(end * FRAMES_PER_STEP, len(motion)))
        seen = [one for one in rules if one.action == name and _shared(one, frames) > (one.end - one.start) / 2]
        if seen:
            found += _by_manner(seen, frames)
        else:
            taught = detector.config.actions.index(name) if name in detector.config.actions else None
            count = None
            if taught is not None and name in detector.config.counted:
                count = max(1, round(float(repetitions[steps, taught].sum())))
            found.append(_by_network(name, frames, manners[steps].mean(axis=0), count, float(logits[steps].max())))
    return sorted([*found, *_pauses(rules, found, len(motion))], key=lambda one: one.start)


def heard(motion: Motion, detector: EventDetector) -> Told:
    """What the network says of each step of a motion at 20 fps, read in windows that overlap by what it looks at.

    It learned from motions of some seconds, each on its own floor. The floor of minutes is where the body was lowest in
    all of them: who once lay a little too deep would hover ever after.
    """
    num_steps = (len(motion) - 1) // FRAMES_PER_STEP
    parts = []
    for start in range(0, num_steps, WINDOW_STEPS):
        end = min(start + WINDOW_STEPS, num_steps)
        first, last = max(start - MARGIN_STEPS, 0), min(end + MARGIN_STEPS, num_steps)
        told = detector(detector.steps(motion[FRAMES_PER_STEP * first : FRAMES_PER_STEP * last + 1])[None])
        parts.append([part[0, start - first : end - first] for part in told])
    return Told(*(torch.cat(part) for part in zip(*parts)))


def is_still(motion: Motion) -> NDArray[np.bool_]:
    """Steps (L,) in which no joint of a motion at 20 fps moves."""
    speed = np.linalg.norm(np.diff(motion.joints, axis=0), axis=-1).max(axis=-1) * FPS
    steps = len(speed) // FRAMES_PER_STEP
    return speed[: steps * FRAMES_PER_STEP].reshape(steps, FRAMES_PER_STEP).max(axis=1) < STILL_M_S


def scores(
    logits: Array, rules: Sequence[Detection], names: Sequence[str], still: NDArray[np.bool_] | None = None
) -> Array:
    """How much more each action is there than not, (L, S) in nats, 0 for nothing.

    `logits` (L, N) are the network's, of the first N of `names`; of the others only rules tell. `still` (L,) says where
    nothing moves.
    """
    total = np.zeros((len(logits), len(names) + 1))
    total[:, : logits.shape[1]] = np.clip(logits, -MOST_SURE, MOST_SURE)
    total[:, logits.shape[1] : -1] = -UNTAUGHT
    by_rule = np.zeros_like(total)
    for one in rules:
        if one.action in names:
            steps = slice(one.start // FRAMES_PER_STEP, -(-one.end // FRAMES_PER_STEP))
            row = by_rule[steps, names.index(one.action)]
            np.maximum(row, BY_RULE * one.confidence, out=row)
    total += by_rule
    held = np.zeros_like(total)
    if still is not None:
        held[:, :-1] = HELD * (still[:, None] & (by_rule[:, :-1] == 0))
    for name, parts in HOLDS.items():
        if name in names:
            places = [names.index(part) for part in sorted(parts) if part in names]
            is_seen = total[:, names.index(name)] > SEEN
            held[:, places] = np.maximum(held[:, places], HELD * is_seen[:, None])
    return total - held


def likeliest_path(score: Array, *, switch: float) -> NDArray[np.intp]:
    """The states (L,) of the greatest sum of scores (L, S), less `switch` for every change of state.

    >>> likeliest_path(np.array([[3.0, 0], [0, 1], [3, 0], [0, 9]]), switch=4).tolist()
    [0, 0, 0, 1]
    """
    num_steps, num_states = score.shape
    came_from = np.zeros((num_steps, num_states), dtype=np.intp)
    best, own = score[0].copy(), np.arange(num_states)
    for step in range(1, num_steps):
        other = int(best.argmax())
        changes = best < best[other] - switch
        came_from[step] = np.where(changes, other, own)
        best = np.where(changes, best[other] - switch, best) + score[step]
    path = np.zeros(num_steps, dtype=np.intp)
    path[-1] = best.argmax()
    for step in range(num_steps - 1, 0, -1):
        path[step - 1] = came_from[step, path[step]]
    return path


def runs(path: NDArray[np.intp]) -> Iterator[tuple[int, int, int]]:
    """State, start and end of each stretch of one state.

    >>> list(runs(np.array([2, 2, 0])))
    [(2, 0, 2), (0, 2, 3)]
    """
    cuts = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    for start, end in pairwise(cuts):
        yield int(path[start]), start, end


def _shared(one: Detection, frames: range) -> int:
    return min(one.end, frames.stop) - max(one.start, frames.start)


def _by_manner(seen: Sequence[Detection], frames: range) -> list[Detection]:
    """One segment for each side and way in turn, with its repetitions; together they fill the frames."""
    least = MINOR_SHARE * len(frames)
    major = [one for one in seen if _shared(one, frames) >= least] or list(seen)
    groups: list[list[Detection]] = []
    for one in sorted(major, key=lambda one: (one.start, one.end)):
        last = groups[-1][-1] if groups else None
        if last is not None and (one.side, one.direction) == (last.side, last.direction):
            groups[-1].append(one)
        elif last is None or one.start >= (last.start + last.end) // 2:
            groups.append([one])
        elif one.end - one.start > last.end - last.start:  # both at once: the longer one is told of
            groups[-1] = [one]
    edges = [(former[-1].end + later[0].start) // 2 for former, later in pairwise(groups)]
    return [
        _together(group, start, end) for group, start, end in zip(groups, [frames.start, *edges], [*edges, frames.stop])
    ]


def _together(group: Sequence[Detection], start: int, end: int) -> Detection:
    counts = [one.count for one in group if one.count is not None]
    angles = [one.angle_deg for one in group if one.angle_deg is not None]
    return replace(
        group[0],
        start=start,
        end=end,
        confidence=round(sum(one.confidence for one in group) / len(group), 2),
        reason="; ".join(dict.fromkeys(one.reason for one in group)),
        count=sum(counts) if counts else None,
        angle_deg=sum(angles) if angles else None,
        repeats=tuple(repeat for one in group for repeat in one.repeats),
    )


def _by_network(name: str, frames: range, manners: Array, count: int | None, logit: float) -> Detection:
    """What the network alone has seen, with the side and the way that it tells."""
    side: Side = ""
    direction = ""
    if name in SIDED:
        left, right = manners[LIMBS] >= 0.5
        side = "both" if left and right else "left" if manners[0] >= manners[1] else "right"
    if name == "turn":
        direction = "left" if manners[TURN_LEFT] >= 0.5 else "right"
    if name in ("walk", "rotate_arm"):
        direction = "backward" if manners[BACKWARD] >= 0.5 else "forward"
    sure = round(float(1 / (1 + np.exp(-logit))), 2)
    return Detection(name, frames.start, frames.stop, sure, "no rule is met", side, direction, count)


def _pauses(rules: Sequence[Detection], found: Sequence[Detection], num_frames: int) -> Iterator[Detection]:
    """Where nothing is found for a second or more and a rule sees that the body stands."""
    busy = np.zeros(num_frames, dtype=bool)
    for one in found:
        busy[one.start : one.end] = True
    for one in rules:
        if one.action != "stand":
            continue
        for is_busy, start, end in runs(busy[one.start : one.end].astype(np.intp)):
            if not is_busy and end - start >= PAUSE_S * FPS:
                yield replace(one, start=one.start + start, end=one.start + end, repeats=())
