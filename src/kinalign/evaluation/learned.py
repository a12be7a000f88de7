"""A judge that learned what events look like: a small network over frames, which shares no rule with the kinematic one.

One-dimensional convolutions read a motion's features and say of every tenth of a second which actions happen, on which
side, to which way, and how much of a repetition goes by (the sum over an event is its count). Its truth are labels of
clips (detector_truth.json) and the intervals of composed clips, never what the rules of events/detect see: so it can
examine what was taught by them. recipes/detector.py trains it.

Letters: B motions, L steps of two frames, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kinalign.errors import CheckpointError, ConfigError, KinalignError
from kinalign.evaluation.encoder import evaluator_features
from kinalign.events.program import Event, EventProgram
from kinalign.judge.rubric import Seen, score_events, score_frequency
from kinalign.judge.verdict import Case, Finding, Invalid, Outcome, Verdict, judge_one
from kinalign.motion.features import FeatureLayout, FeatureStats
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.skeleton import HUMANML3D
from kinalign.pipeline import shipped_model
from kinalign.run import (
    config_from_json,
    config_to_json,
    load_strictly,
    read_json,
    read_tensors,
    sha256_of_weights,
    write_json,
    write_tensors,
)

Array = NDArray[np.floating]

SHIPPED_DETECTOR = "detector"
"""Stands beside the shipped model."""
WEIGHTS, CONFIG = "model.safetensors", "config.json"
STATS = ("mean", "std")

ACTIONS = (
    "walk run turn squat hop jump kick raise_knee punch raise wave put_down reach rotate_arm throw bow sit lie_down "
    "stand_up get_up jumping_jack cartwheel twist step clap"
).split()
"""What the network was taught."""
COUNTED = frozenset(
    "squat hop jump kick raise_knee punch raise put_down reach rotate_arm throw bow cartwheel wave jumping_jack twist "
    "step clap".split()
)
"""What it was taught to count: of other actions no label says how often."""
SHOWN_BY = {
    "dash": ("run",),
    "jump": ("jump", "hop"),
    "hop": ("hop", "jump"),
    "stand_up": ("stand_up", "get_up"),
    "get_up": ("get_up", "stand_up"),
    "reach": ("reach", "raise"),
    "raise": ("raise", "reach"),
    "step": ("step", "walk"),
}
"""Actions that are a sign of another one; all others are a sign of themselves."""
LIMBS, TURN_LEFT, BACKWARD = slice(0, 2), 2, 3
"""Places of what is said besides: a left and a right limb, a turn to the left, a way or a circle backward."""
NUM_MANNERS = 4
SIDED = frozenset("kick raise_knee punch raise wave".split())

FRAMES_PER_STEP = 2
BRIDGED, LEAST = 4, 3
"""Steps that may lack within an event, and steps that an event lasts at least."""


@dataclass(frozen=True)
class DetectorConfig:
    """config.json of a detector's folder."""

    width: int = 96
    kernel: int = 5
    dilations: tuple[int, ...] = (1, 2, 4, 8, 1)
    dropout: float = 0.1
    actions: tuple[str, ...] = tuple(ACTIONS)
    """What it was taught."""
    counted: tuple[str, ...] = tuple(sorted(COUNTED))
    """What of it it was taught to count."""
    threshold: float = 0.5
    """How sure it is of an action that it sees."""


class Told(NamedTuple):
    """What a network says of steps (B, L): logits of actions and manners, and repetitions that go by."""

    actions: Tensor
    """(B, L, A)"""
    manners: Tensor
    """(B, L, 4): a left limb, a right limb, a turn to the left, backward."""
    repetitions: Tensor
    """(B, L, A), 0 or more."""


class _Block(nn.Module):
    def __init__(self, config: DetectorConfig, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.mix = nn.Conv1d(
            config.width, config.width, config.kernel, padding=dilation * (config.kernel // 2), dilation=dilation
        )
        self.leave = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.dropout(self.leave(torch.relu(y)))


class EventDetector(nn.Module):
    """Features (B, L, 2 F) of two frames a step to what happens in each step."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: DetectorConfig, stats: FeatureStats) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.from_numpy(stats.mean.astype(np.float32)))
        self.register_buffer("std", torch.from_numpy(stats.std.astype(np.float32)))
        self.enter = nn.Linear(FRAMES_PER_STEP * len(stats.mean), config.width)
        self.blocks = nn.ModuleList(_Block(config, dilation) for dilation in config.dilations)
        self.norm = nn.LayerNorm(config.width)
        self.leave = nn.Linear(config.width, 2 * len(config.actions) + NUM_MANNERS)
        self.eval()

    def forward(self, steps: Tensor) -> Told:
        x = self.enter(steps)
        for block in self.blocks:
            x = block(x)
        number = len(self.config.actions)
        actions, manners, rates = self.leave(self.norm(x)).split((number, NUM_MANNERS, number), dim=-1)
        # from about a repetition in two seconds on
        return Told(actions, manners, nn.functional.softplus(rates - 3))

    def steps(self, motion: Motion) -> Tensor:
        """Normalised features (L, 2 F) of a motion; raises MotionError for one that cannot be read."""
        return self.normalize(evaluator_features(motion))

    def normalize(self, features: NDArray[np.float32]) -> Tensor:
        """Features (T, F) as the network reads them, (T // 2, 2 F)."""
        rows = ((torch.from_numpy(features) - self.mean) / self.std).clamp(-6, 6)
        return rows[: len(rows) // FRAMES_PER_STEP * FRAMES_PER_STEP].reshape(-1, FRAMES_PER_STEP * rows.shape[1])

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write config.json and model.safetensors, weights in half precision."""
        folder = Path(folder)
        weights = {name: tensor if name in STATS else tensor.half() for name, tensor in self.state_dict().items()}
        write_tensors(folder / WEIGHTS, weights)
        write_json(folder / CONFIG, config_to_json(self.config))
        return folder

    @staticmethod
    def from_pretrained(folder: str | Path) -> EventDetector:
        """Read what save_pretrained wrote; raises CheckpointError where it is absent, cut short or of other sizes."""
        folder = Path(folder)
        if not (folder / CONFIG).is_file():
            raise CheckpointError(f"{folder} holds no detector; python -m kinalign.recipes.detector trains one")
        config = config_from_json(DetectorConfig, read_json(folder / CONFIG))
        width = FeatureLayout(HUMANML3D.num_joints).width
        detector = EventDetector(config, FeatureStats(np.zeros(width), np.ones(width)))
        load_strictly(detector, read_tensors(folder / WEIGHTS), origin=str(folder / WEIGHTS))
        return detector


class Seeing(NamedTuple):
    """What the detector says of one motion, step by step."""

    actions: Array
    """Probabilities (L, A)."""
    manners: Array
    """Probabilities (L, 4)."""
    repetitions: Array
    """(L, A)"""


class Stretch(NamedTuple):
    """Steps [start, end) in which an action is seen, and how surely."""

    start: int
    end: int
    confidence: float


class LearnedJudge:
    """Judges by what a network learned to see. An action, or a count, that it was not taught makes a case Invalid."""

    def __init__(self, detector: EventDetector, *, name: str = "learned") -> None:
        self.detector, self.name = detector, name
        self._places = {action: place for place, action in enumerate(detector.config.actions)}

    def __call__(self, prompt: str, motion: Motion) -> Outcome:
        """The verdict on one motion; Invalid for a prompt that names no event."""
        return judge_one(self, prompt, motion)

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        """A verdict for each case, in their order; a motion that occurs in many is read once."""
        seen: dict[int, Seeing | str] = {}
        for case in cases:
            if id(case.motion) not in seen:
                seen[id(case.motion)] = self._seeing(case.motion)
        outcomes: list[Outcome] = []
        for case in cases:
            seeing = seen[id(case.motion)]
            problem = seeing if isinstance(seeing, str) else self._untaught(case)
            outcomes.append(
                Invalid(self.name, problem) if isinstance(seeing, str) or problem else self._judged(case, seeing)
            )
        return outcomes

    @torch.no_grad()
    def _seeing(self, motion: Motion) -> Seeing | str:
        try:
            steps = self.detector.steps(motion)
        except KinalignError as error:
            return str(error)
        if len(steps) < LEAST:
            return f"the motion has {len(motion)} frames; it takes {FRAMES_PER_STEP * LEAST + 1} to see something"
        told = self.detector(steps[None])
        return Seeing(told.actions[0].sigmoid().numpy(), told.manners[0].sigmoid().numpy(), told.repetitions[0].numpy())

    def _untaught(self, case: Case) -> str:
        """What a case asks that the network was never taught, or nothing."""
        unknown = [event.action for event in case.program.events if not self._shown_by(event)]
        if unknown:
            return f"the detector was not taught {unknown[0]!r}; it sees {', '.join(self._places)}"
        uncounted = [
            event.action for event in case.program.events if event.count is not None and not self._counted_as(event)
        ]
        return f"the detector was not taught to count {uncounted[0]!r}" if uncounted else ""

    def _shown_by(self, event: Event) -> list[int]:
        """Places of the actions that are a sign of an event."""
        return [self._places[a] for a in SHOWN_BY.get(event.action, (event.action,)) if a in self._places]

    def _counted_as(self, event: Event) -> list[int]:
        """Places of the actions whose repetitions are counted as those of an event: of a walk, its steps."""
        known = self.detector.config.counted
        return [place for place in self._shown_by(event) if self.detector.config.actions[place] in known]

    def _judged(self, case: Case, seeing: Seeing) -> Verdict:
        stretches = [self._stretches(event, seeing) for event in case.program.events]
        chosen = _in_order(case.program, stretches)
        order = None
        if sum(map(bool, stretches)) > 1 and len(case.program.steps) > 1:
            order = chosen is not None
        if chosen is None:
            chosen = [max(own, key=_length) if own else None for own in stretches]
        fps = case.motion.fps
        findings = tuple(
            self._finding(case, event, own, stretch, seeing, fps)
            for event, own, stretch in zip(case.program.events, stretches, chosen)
        )
        seen: list[Seen] = [finding.seen for finding in findings]
        if case.task == "frequency" and len(findings) == 1 and isinstance(findings[0].event.count, int):
            score = score_frequency(seen[0], off_by=(findings[0].count or 0) - findings[0].event.count)
        else:
            score = score_events(seen, order_is_right=case.task != "temporal" or order is not False)
        missing = [finding.event.action for finding in findings if finding.seen == "no"]
        reason = f"no {' and no '.join(missing)} seen" if missing else "all events are seen"
        if order is False:
            reason += ", not in the order that is asked for"
        return Verdict(score, case.task, self.name, reason, findings, order)

    def _stretches(self, event: Event, seeing: Seeing) -> list[Stretch]:
        """Where an event is seen, on whatever side and to whatever way."""
        sure = seeing.actions[:, self._shown_by(event)].max(axis=1)
        return stretches_of(sure, self.detector.config.threshold)

    def _finding(
        self, case: Case, event: Event, own: list[Stretch], stretch: Stretch | None, seeing: Seeing, fps: float
    ) -> Finding:
        if stretch is None:
            return Finding(event, "no", reason=f"no {event.action} seen")
        # of how often, all stretches tell; of an event among others, its own one
        parts = own if case.task == "frequency" else [stretch]
        wrong = [why for part in parts for why in _wrong_manner(event, part, seeing)]
        count = None
        if places := self._counted_as(event):
            rates = seeing.repetitions[:, places].max(axis=1)
            count = max(1, round(sum(float(rates[max(part.start - 1, 0) : part.end + 1].sum()) for part in parts)))
        is_off = case.task != "frequency" and isinstance(event.count, int) and count != event.count
        if is_off:
            wrong.append(f"{count} instead of {event.count}")
        start, end = min(part.start for part in parts), max(part.end for part in parts)
        frames = FRAMES_PER_STEP * fps / FPS
        return Finding(
            event,
            "partly" if wrong else "yes",
            round(start * frames),
            min(round(end * frames), len(case.motion)),
            count,
            round(stretch.confidence, 2),
            "; ".join(dict.fromkeys(wrong)),
        )


def stretches_of(sure: Array, threshold: float) -> list[Stretch]:
    """Runs of steps (L,) at or above a threshold, short breaks bridged and short runs left out.

    >>> stretches_of(np.array([0, 0.9, 0.9, 0, 0.9, 0.9, 0, 0]), 0.5)
    [Stretch(start=1, end=6, confidence=0.72)]
    """
    on = np.flatnonzero(sure >= threshold)
    if not len(on):
        return []
    cuts = np.flatnonzero(np.diff(on) > BRIDGED)
    starts, ends = on[[0, *(cuts + 1)]], on[[*cuts, len(on) - 1]] + 1
    return [
        Stretch(int(start), int(end), round(float(sure[start:end].mean()), 4))
        for start, end in zip(starts, ends)
        if end - start >= LEAST
    ]


def _length(stretch: Stretch) -> float:
    return stretch.confidence * (stretch.end - stretch.start)


def _in_order(program: EventProgram, stretches: Sequence[Sequence[Stretch]]) -> list[Stretch | None] | None:
    """A stretch for each event that is seen, so that later steps begin later; None where there is no such choice."""
    chosen: list[Stretch | None] = []
    after = -1.0
    at = 0
    for step in program.steps:
        own = []
        for _ in step:
            options = [one for one in stretches[at] if one.start > after]
            if stretches[at] and not options:
                return None
            # the first one leaves most room for what follows
            own.append(min(options, key=lambda one: one.start) if options else None)
            at += 1
        chosen += own
        seen = [one.start for one in own if one is not None]
        after = max([after, *seen])
    return chosen


def _wrong_manner(event: Event, stretch: Stretch, seeing: Seeing) -> list[str]:
    """What of the side and the way of a stretch is not as asked for."""
    manners = seeing.manners[stretch.start : stretch.end].mean(axis=0)
    if event.action in SIDED and event.side in ("left", "right", "both"):
        left, right = manners[LIMBS] >= 0.5
        told = {(True, False): "left", (False, True): "right", (True, True): "both"}.get((bool(left), bool(right)))
        if told is None:
            told = "left" if manners[0] >= manners[1] else "right"
        return [f"{told} instead of {event.side}"] if told != event.side else []
    if event.action == "turn" and event.direction in ("left", "right"):
        told = "left" if manners[TURN_LEFT] >= 0.5 else "right"
        return [f"{told} instead of {event.direction}"] if told != event.direction else []
    if event.action in ("walk", "rotate_arm") and event.direction in ("forward", "backward"):
        told = "backward" if manners[BACKWARD] >= 0.5 else "forward"
        return [f"{told} instead of {event.direction}"] if told != event.direction else []
    return []


def learned_judge(folder: str | Path = "") -> LearnedJudge:
    """The judge of a detector's folder, the shipped one where none is named; CheckpointError where there is none."""
    folder = Path(folder) if folder else shipped_model().parent / SHIPPED_DETECTOR
    detector = EventDetector.from_pretrained(folder)
    if set(detector.config.actions) - set(ACTIONS):
        raise ConfigError(f"{folder} names actions that no label tells; it knows some of {', '.join(ACTIONS)}")
    return LearnedJudge(detector, name=f"learned ({sha256_of_weights([detector])[:8]})")


def shipped_detector() -> EventDetector:
    """The detector beside the shipped model; raises CheckpointError where there is none."""
    return EventDetector.from_pretrained(shipped_model().parent / SHIPPED_DETECTOR)
