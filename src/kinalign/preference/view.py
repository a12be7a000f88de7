"""The page of pairs: one HTML file to leaf through preference pairs, opened from disk, with nothing to load.

It shows the prompt, both motions in step, and what the judge says of each: score, reason, and when which event was
seen. Joints are kept to the millimetre, as steps from frame to frame, deflated: about 65 bytes a frame of 22 joints.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from kinalign.errors import ConfigError, DataError
from kinalign.events.say import label
from kinalign.judge.rubric import SubTask
from kinalign.judge.timeline import shown_events
from kinalign.judge.verdict import Outcome, Verdict
from kinalign.motion.motion import Motion
from kinalign.preference.dataset import load_preferences
from kinalign.preference.records import Candidate, PreferencePair
from kinalign.render.player import asset, fill_page, json_for_html, player_shell
from kinalign.run import write_atomically

MILLIMETRE = 1e-3


@dataclass(frozen=True)
class PreferView:
    """Make one HTML page to leaf through preference pairs."""

    folder: tyro.conf.Positional[Path]
    """What `kinalign prefer build` wrote, or a preference_labels.jsonl of InstructMotion or AToM."""
    out: Path | None = None
    """The page; pairs.html in the folder where it is left out."""
    limit: int = 300
    """Pairs on the page at most: the first ones of each sub-task. A pair takes about 13 kB."""


def prefer_view(config: PreferView) -> Path:
    """Make one HTML page to leaf through preference pairs: both motions, verdicts, and when which event was seen."""
    if config.limit < 1:
        raise ConfigError(f"limit={config.limit} leaves nothing to see; use 1 or more (--limit)")
    beside = config.folder if config.folder.is_dir() else config.folder.parent
    pairs = load_preferences(config.folder, motions=True)
    shown = spread(pairs, config.limit)
    title = f"Pairs of {config.folder.resolve().name}"
    path = write_pairs_page(shown, config.out or beside / "pairs.html", title=title)
    print(f"{len(shown)} of {len(pairs)} pairs, {path.stat().st_size / 1e6:.1f} MB")
    print(path)
    return path


def spread(pairs: Sequence[PreferencePair], limit: int) -> list[PreferencePair]:
    """At most `limit` pairs in their order: the first ones of each sub-task, as many of each as there are."""
    of_task: dict[SubTask | None, list[int]] = {}
    for place, pair in enumerate(pairs):
        of_task.setdefault(pair.task, []).append(place)
    in_turn = [place for turn in zip_longest(*of_task.values()) for place in turn if place is not None]
    return [pairs[place] for place in sorted(in_turn[:limit])]


def write_pairs_page(
    pairs: Iterable[PreferencePair],
    path: str | Path,
    *,
    title: str = "Preference pairs",
    names: tuple[str, str] = ("Chosen", "Rejected"),
) -> Path:
    """Write one self-contained page with all pairs, whose sides it calls `names`; candidates must carry their motions.

    Raises DataError for no pairs and for a pair without motions, KinalignError when the file cannot be written.
    """
    page = {"title": title, "names": names, "player": player_shell(), "pairs": [_pair(pair) for pair in pairs]}
    if not page["pairs"]:
        raise DataError("there are no pairs to show")
    script = asset("frame.js") + asset("pairs.js")
    text = fill_page("pairs", title=title, data=json_for_html(page), script=script)
    return write_atomically(path, lambda temporary: temporary.write_bytes(text.encode("utf-8", errors="replace")))


def _pair(pair: PreferencePair) -> dict[str, Any]:
    return {
        "id": pair.id,
        "prompt": pair.prompt,
        "task": pair.task,
        "steps": [[label(event) for event in step] for step in pair.program.steps] if pair.program else [],
        "judge": pair.judge,
        "degree": pair.degree,
        "chosen": _side(pair, pair.chosen),
        "rejected": _side(pair, pair.rejected),
    }


def _side(pair: PreferencePair, candidate: Candidate) -> dict[str, Any]:
    if candidate.motion is None:
        raise DataError(
            f"candidate {candidate.index} of pair {pair.id} has no motion to show; read the data with motions"
        )
    return {
        "seed": candidate.seed,
        **_said(candidate.outcome),
        "events": [event._asdict() for event in shown_events(candidate.outcome, candidate.motion)],
        "motion": packed(candidate.motion),
    }


def _said(outcome: Outcome | None) -> dict[str, Any]:
    """The verdict on a motion without its findings."""
    if isinstance(outcome, Verdict):
        return {"score": outcome.score, "reason": outcome.reason, "ordered": outcome.order_is_right}
    return {"score": None, "reason": outcome.reason if outcome else "", "ordered": None}


def packed(motion: Motion) -> dict[str, Any]:
    """A motion as the page keeps it: steps of whole millimetres from frame to frame, joint by joint, deflated.

    All low bytes stand before all high ones. It begins at x = z = 0. Where a joint steps farther than 32 m between
    two frames, the unit is as much larger.
    """
    joints = motion.joints.astype(np.float64) - motion.joints[0, 0] * [1, 0, 1]
    farthest = float(np.abs(np.diff(joints, axis=0, prepend=0)).max())
    unit = max(MILLIMETRE, farthest / (np.iinfo(np.int16).max - 1))
    steps = np.diff(np.rint(joints / unit).astype(np.int64), axis=0, prepend=0).astype("<i2")
    by_joint = np.ascontiguousarray(steps.transpose(1, 2, 0))
    planes = by_joint.view(np.uint8).reshape(-1, 2).T.tobytes()
    return {
        "fps": motion.fps,
        "names": motion.skeleton.joint_names,
        "parents": motion.skeleton.parents,
        "frames": len(motion),
        "unit": unit,
        "steps": base64.b64encode(zlib.compress(planes, 9)).decode("ascii"),
    }
