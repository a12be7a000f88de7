"""How right the detector of events is on real clips of which it is known what happens in them.

detector_truth.json says of an action of phrasings.json which events its clips hold (`is`, with {side} for the clip's
own side and {other} for the other one) and which they may hold besides (`may`, * for any). Every other event that is
detected there is a false one. Of events that labels never speak of, as standing before a kick, only the recall is
known. A clip counts once for an action.

    python -m kinalign.evaluation.detector --split test
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import tyro

from kinalign.data.openmocap import load_openmocap
from kinalign.data.phrasings import meaning_of
from kinalign.data.records import Clip
from kinalign.events.detect import DETECTED, Detection, detect_all
from kinalign.events.program import OPPOSITE

TRUTH = Path(__file__).with_name("detector_truth.json")

UNSPOKEN = frozenset({"stand", "step", "lower"})
"""Events that happen in clips of everything and that no label tells of."""
DETAILS = ("side", "direction", "count", "part")
BANDAI = ("Bandai1", "Bandai2")


@dataclass(frozen=True)
class ClipTruth:
    """The events of a clip, each with its action and what is known of its details, and actions that it may hold."""

    events: tuple[dict[str, Any], ...]
    may: frozenset[str]


@dataclass(frozen=True)
class ActionScore:
    """Clips of an action: those that hold it, those of them where it was found, and those where it was found falsely.

    `detailed` of the clips where it was found tell its side, direction, part or count; in `right` of them one detection
    has all of these as told.
    """

    action: str
    clips: int
    found: int
    false: int
    detailed: int
    right: int

    @property
    def recall(self) -> float | None:
        return self.found / self.clips if self.clips else None

    @property
    def precision(self) -> float | None:
        """None where nothing was detected, and for what labels do not speak of."""
        if self.action in UNSPOKEN or self.found + self.false == 0:
            return None
        return self.found / (self.found + self.false)

    @property
    def right_details(self) -> float | None:
        return self.right / self.detailed if self.detailed else None


def truth_of(clip: Clip) -> ClipTruth | None:
    """What certainly happens in a clip and what may; None where the table does not know all of it."""
    meaning = meaning_of(clip)
    if meaning is None or not all(action in _table() for action in meaning.actions):
        return None
    events: list[dict[str, Any]] = []
    may: set[str] = set()
    for action, side in zip(meaning.actions, meaning.sides, strict=True):
        row, own = _table()[action], {"{side}": side, "{other}": OPPOSITE.get(side, "")}
        events += [{key: own.get(value, value) for key, value in event.items()} for event in row["is"]]
        may |= DETECTED if row["may"] == "*" else set(row["may"].split())
    return ClipTruth(tuple(events), frozenset(may))


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    table = json.loads(TRUTH.read_text(encoding="utf-8"))
    assert isinstance(table, dict)
    return table


def score_detector(clips: Sequence[Clip]) -> list[ActionScore]:
    """Scores of every action that is held or found in one of the clips, in order of their names."""
    known = [(clip, truth) for clip in clips if (truth := truth_of(clip)) is not None]
    counts: dict[str, Counter[str]] = {action: Counter() for action in sorted(DETECTED)}
    for (_, truth), detections in zip(known, detect_all([clip.motion for clip, _ in known])):
        detected = {detection.action for detection in detections}
        expected = {event["action"] for event in truth.events}
        for action in detected - expected - truth.may:
            counts[action]["false"] += 1
        for action in expected:
            told = [event for event in truth.events if event["action"] == action]
            counts[action]["clips"] += 1
            counts[action]["found"] += action in detected
            if action in detected and any(len(event) > 1 for event in told):
                counts[action]["detailed"] += 1
                counts[action]["right"] += all(
                    any(agrees(detection, event) for detection in detections) for event in told
                )
    fields = ("clips", "found", "false", "detailed", "right")
    return [
        ActionScore(action, *(count[field] for field in fields)) for action, count in counts.items() if count.total()
    ]


def agrees(detection: Detection, event: dict[str, Any]) -> bool:
    """Whether a detection has the event's action and every detail that is told of it."""
    return all(getattr(detection, key) == value for key, value in event.items())


def score_table(scores: Sequence[ActionScore]) -> str:
    """A line for each action."""
    lines = [f"{'action':14}{'clips':>7}{'found':>7}{'recall':>8}{'false':>7}{'precision':>11}{'details':>9}"]
    for score in scores:
        recall, precision, details = (
            "-" if share is None else f"{share:.3f}" for share in (score.recall, score.precision, score.right_details)
        )
        lines.append(
            f"{score.action:14}{score.clips:7}{score.found:7}{recall:>8}{score.false:7}{precision:>11}{details:>9}"
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class DetectorSettings:
    """Per-action recall and precision of the event detector on openmocap20."""

    data: Path | None = None
    """Folder of openmocap20; by default it is looked for in the data folder."""
    split: str = "test"
    """train, val or test."""
    json: bool = False
    """Print one JSON object instead of tables."""


def main(settings: DetectorSettings) -> None:
    clips = load_openmocap(settings.data, split=settings.split, cut_events=True)
    groups = {
        "all clips": clips,
        "CMU and HDM05": [clip for clip in clips if clip.source not in BANDAI],
        "Bandai-Namco": [clip for clip in clips if clip.source in BANDAI],
    }
    scores = {name: score_detector(group) for name, group in groups.items()}
    if settings.json:
        print(json.dumps({name: [asdict(score) for score in rows] for name, rows in scores.items()}, indent=1))
        return
    for name, rows in scores.items():
        known = sum(truth_of(clip) is not None for clip in groups[name])
        print(f"{name}, {settings.split} split: {known} of {len(groups[name])} clips are known\n{score_table(rows)}\n")


if __name__ == "__main__":
    main(tyro.cli(DetectorSettings))
