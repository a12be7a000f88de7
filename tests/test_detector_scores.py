"""Recall and precision of the detector: what counts as found, as false and as not to be known."""

from __future__ import annotations

import json
from collections.abc import Callable

from kinalign.data.phrasings import load_language
from kinalign.data.records import Clip
from kinalign.evaluation.detector import TRUTH, score_detector, score_table, truth_of
from kinalign.events.detect import DETECTED
from kinalign.motion.motion import Motion
from kinalign.motion.synthetic import jumping, kicking, squatting, standing, walking


def clip(name: str, motion: Motion, source: str, label: str) -> Clip:
    return Clip(name, motion, ("a person does something",), source, "", "test", label=label)


SQUAT, KICK = ("HDM05", "squat1Reps"), ("HDM05", "kickLFront1Reps")


def test_an_event_that_is_there_is_found_and_one_that_is_not_is_missed() -> None:
    clips = [clip("a", squatting(1), *SQUAT), clip("b", standing(60), *SQUAT)]
    score = next(score for score in score_detector(clips) if score.action == "squat")
    assert (score.clips, score.found, score.false) == (2, 1, 0)
    assert (score.recall, score.precision) == (0.5, 1.0)


def test_an_event_of_another_clip_is_false_unless_it_may_happen() -> None:
    scores = {score.action: score for score in score_detector([clip("a", jumping(1), *KICK)])}
    assert (scores["kick"].found, scores["kick"].clips) == (0, 1)
    assert scores["jump"].false == 1
    assert scores["jump"].precision == 0.0
    walked = {score.action: score for score in score_detector([clip("a", walking(60), *KICK)])}
    assert "walk" not in walked  # somebody may walk before a kick


def test_details_must_be_right_together() -> None:
    left, right = kicking(1, side="left"), kicking(1, side="right")
    twice = kicking(2, side="left")
    for motion, is_right in ((left, 1), (right, 0), (twice, 0)):
        score = next(row for row in score_detector([clip("a", motion, *KICK)]) if row.action == "kick")
        assert (score.found, score.detailed, score.right) == (1, 1, is_right)


def test_clips_that_the_table_does_not_know_are_left_out() -> None:
    unknown = clip("a", walking(60), "HDM05", "no such label")
    assert truth_of(unknown) is None
    assert score_detector([unknown]) == []


def test_the_table_speaks_of_known_actions_only() -> None:
    table = json.loads(TRUTH.read_text(encoding="utf-8"))
    assert set(table) <= set(load_language().actions)
    for row in table.values():
        assert {event["action"] for event in row["is"]} <= DETECTED
        assert row["may"] == "*" or set(row["may"].split()) <= DETECTED


def test_the_printed_table_has_a_line_for_each_action() -> None:
    scores = score_detector([clip("a", squatting(1), *SQUAT), clip("b", kicking(1, side="left"), *KICK)])
    lines = score_table(scores).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [score.action for score in scores]


def test_common_actions_are_found_on_real_clips_and_nowhere_else(openmocap: Callable[[str], list[Clip]]) -> None:
    scores = {score.action: score for score in score_detector(openmocap("test"))}
    for action in ("walk", "run", "kick", "wave", "raise", "squat", "turn"):
        recall, precision = scores[action].recall, scores[action].precision
        assert scores[action].clips >= 5
        assert recall is not None
        assert recall >= 0.9, action
        assert precision is not None
        assert precision >= 0.9, action
