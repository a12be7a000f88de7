"""The labels of real clips whose repetitions were counted by eye: well-formed, and of clips that are there."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kinalign.data.records import Clip
from kinalign.events.program import ACTIONS, MAX_COUNT, SIDES

COUNTED = Path(__file__).with_name("counted_clips.json")
KEYS = {"clip", "split", "action", "side", "count", "sure", "note"}
RANGE = {"start", "end"}


@pytest.fixture(scope="module")
def labels() -> list[dict[str, Any]]:
    rows = json.loads(COUNTED.read_text(encoding="utf-8"))
    assert isinstance(rows, list)
    return rows


def test_every_label_says_which_clip_what_is_done_and_how_often(labels: list[dict[str, Any]]) -> None:
    for label in labels:
        assert set(label) in (KEYS, KEYS | RANGE), label
        assert label["action"] in ACTIONS, label
        assert label["side"] in ("", *SIDES), label
        assert type(label["count"]) is int and 1 <= label["count"] <= MAX_COUNT, label
        assert type(label["sure"]) is bool and isinstance(label["note"], str), label


def test_at_least_eighty_counts_are_sure(labels: list[dict[str, Any]]) -> None:
    assert sum(label["sure"] for label in labels) >= 80


def test_no_frame_is_counted_twice_for_one_action(labels: list[dict[str, Any]]) -> None:
    ranges: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for label in labels:
        whole = (label.get("start", 0), label.get("end", float("inf")))
        ranges.setdefault((label["clip"], label["action"]), []).append(whole)
    for key, found in ranges.items():
        found.sort()
        assert all(end <= start for (_, end), (start, _) in pairwise(found)), key


def test_every_label_is_of_frames_that_its_clip_has(
    labels: list[dict[str, Any]], openmocap: Callable[[str], list[Clip]]
) -> None:
    clips = {clip.id: clip for split in ("test", "val", "train") for clip in openmocap(split)}
    for label in labels:
        clip = clips[label["clip"]]
        assert label["split"] == clip.split, label
        assert 0 <= label.get("start", 0) < label.get("end", len(clip.motion)) <= len(clip.motion), label
