"""EventBench: what is asked is true or false by construction, and always the same for one seed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kinalign.data.openmocap import load_openmocap
from kinalign.data.records import Clip
from kinalign.errors import EvaluationError
from kinalign.evaluation.eventbench import (
    GROUPS,
    BenchCase,
    EventBench,
    Interval,
    Kind,
    atoms_of,
    build_eventbench,
    findings_of,
    join_quality,
    score_of,
)
from kinalign.evaluation.realbench import counted_bench, trial_bench
from kinalign.events.parse import parse
from kinalign.events.program import Event, EventProgram
from kinalign.judge.rubric import SubTask
from kinalign.motion.motion import Motion
from kinalign.motion.synthetic import jumping, kicking, squatting, standing, walking, waving


def clip(name: str, motion: Motion, source: str, label: str) -> Clip:
    """A clip of a made-up motion that trembles as recorded ones do; without, any join jerks more."""
    noise = np.random.default_rng(0).normal(0, 0.003, motion.joints.shape)
    motion = Motion(motion.joints + noise)
    return Clip(name, motion, (f"a person does {name}",), source, "", "test", label=label)


CLIPS = [
    clip("squat", squatting(1), "HDM05", "squat1Reps"),
    clip("kick", kicking(1, side="left"), "HDM05", "kickLFront1Reps"),
    clip("hop", jumping(1), "HDM05", "hopBothLegs1hops"),
    clip("wave", waving(60, side="right"), "Bandai2", "wave-right-hand"),
    clip("walk", walking(100), "Bandai2", "walk"),
]
SMALL: dict[tuple[SubTask, Kind], int] = {
    ("temporal", "order"): 3,
    ("temporal", "dropped"): 2,
    ("integrity", "other"): 1,
    ("integrity", "side"): 2,
    ("integrity", "count"): 2,
    ("frequency", "count"): 3,
    ("frequency", "side"): 1,
    ("frequency", "other"): 1,
}


@pytest.fixture(scope="module")
def bench() -> EventBench:
    return build_eventbench(CLIPS, 0, groups=SMALL)


def lines(bench: EventBench) -> str:
    return "\n".join(json.dumps(case.to_json()) for case in bench.cases)


def test_the_same_seed_gives_the_same_cases_and_frames(bench: EventBench) -> None:
    again = build_eventbench(CLIPS, 0, groups=SMALL)
    assert lines(again) == lines(bench)
    assert all(again.motions[key].joints.tobytes() == motion.joints.tobytes() for key, motion in bench.motions.items())
    assert lines(build_eventbench(CLIPS, 1, groups=SMALL)) != lines(bench)


def test_a_small_bench_is_part_of_a_large_one(bench: EventBench) -> None:
    small = build_eventbench(CLIPS, 0, groups={("temporal", "order"): 1, ("frequency", "count"): 2})
    assert {json.dumps(case.to_json()) for case in small.cases} < set(lines(bench).splitlines())


def test_every_case_says_what_is_asked_what_is_shown_and_when(bench: EventBench) -> None:
    assert len({case.id for case in bench.cases}) == len(bench.cases) == 4 * sum(SMALL.values())
    for case, question in zip(bench.cases, bench.questions()):
        assert parse(case.prompt) == case.program == question.program
        assert question.task == case.task
        for _, (start, end) in case.shown:
            assert 0 <= start < end <= len(question.motion)
        assert [finding.event for finding in case.findings] == list(case.program.events)


def test_partners_differ_in_score_and_share_the_prompt_or_the_motion(bench: EventBench) -> None:
    by_id = {case.id: case for case in bench.cases}
    for case in bench.cases:
        assert case.partners
        for other in map(by_id.__getitem__, case.partners):
            assert other.score != case.score
            assert (other.prompt == case.prompt) != (other.recipe == case.recipe)


def of_kind(bench: EventBench, task: SubTask, kind: Kind) -> list[list[BenchCase]]:
    cases = [case for case in bench.cases if (case.task, case.kind) == (task, kind)]
    return [cases[start : start + 4] for start in range(0, len(cases), 4)]


def test_scores_follow_what_differs(bench: EventBench) -> None:
    for group in of_kind(bench, "temporal", "order"):
        assert [case.score for case in group] == [5, 4, 4, 5]
        assert [case.order_is_right for case in group] == [True, False, False, True]
    for group in of_kind(bench, "temporal", "dropped"):
        assert [case.score for case in group] == [5, 3, 2, 5]
    for group in of_kind(bench, "integrity", "side") + of_kind(bench, "integrity", "count"):
        assert [case.score for case in group] == [5, 4, 4, 5]
    for group in of_kind(bench, "integrity", "other") + of_kind(bench, "frequency", "other"):
        assert [case.score for case in group] == [5, 1, 1, 5]
    for group in of_kind(bench, "frequency", "side"):
        assert [case.score for case in group] == [5, 2, 2, 5]
    for group in of_kind(bench, "frequency", "count"):
        (first,), (second,) = (group[place].program.events for place in (0, 3))
        assert isinstance(first.count, int) and isinstance(second.count, int) and first.count != second.count
        assert [case.score for case in group] == [5, 5 - (off := min(abs(first.count - second.count), 2)), 5 - off, 5]


def test_repetitions_are_seen_in_the_joints(bench: EventBench) -> None:
    squats = [case for case in bench.cases if case.task == "frequency" and case.shown[0][0].action == "squat"]
    for case in squats:
        low = bench.motions[case.recipe].joints[:, 0, 1] < 0.7
        assert int((np.diff(low.astype(int)) == 1).sum()) == case.shown[0][0].count


def test_an_event_that_a_clip_may_hold_is_never_said_to_be_missing(bench: EventBench) -> None:
    held = {atom.clip: atom.holds for atom in bench.atoms}
    for case in bench.cases:
        missing = {finding.event.action for finding in case.findings if finding.seen == "no"}
        assert not any(missing & held[piece.clip] for piece in case.recipe)


def test_what_clips_hold_is_ruled_out_only_where_they_stay_far_from_it() -> None:
    kick, moved = kicking(1, side="left"), walking(25)
    (atom,) = atoms_of([clip("kick", kick, "HDM05", "kickLFront1Reps")])
    assert "raise_knee" in atom.holds and "walk" not in atom.holds
    there = moved.joints[-1, 0] * np.array([1, 0, 1])
    joints = np.concatenate((moved.joints, kick.joints - kick.joints[0, 0] * np.array([1, 0, 1]) + there))
    (atom,) = atoms_of([clip("kick", Motion(joints), "HDM05", "kickLFront1Reps")])
    assert "walk" in atom.holds


def test_a_walk_that_stays_and_an_unknown_label_are_no_atoms() -> None:
    assert atoms_of([clip("walk", standing(60), "Bandai2", "walk"), clip("x", walking(60), "HDM05", "what")]) == []


def test_the_truth_of_a_prompt_about_what_is_shown() -> None:
    shown = (
        (Event("walk", direction="forward"), Interval(0, 40)),
        (Event("kick", side="left", count=2), Interval(50, 90)),
    )

    def score(task: SubTask, *events: Event) -> int:
        findings, order_is_right = findings_of(EventProgram(tuple((event,) for event in events)), shown, task)
        return score_of(task, findings, order_is_right)

    walk, kick, squat = Event("walk"), Event("kick", side="left"), Event("squat")
    assert score("temporal", walk, kick) == 5 and score("temporal", kick, walk) == 4
    assert score("integrity", kick, walk) == 5
    assert score("integrity", walk, Event("kick", side="right")) == 4
    assert score("integrity", walk, Event("kick", count=3)) == 4
    assert score("temporal", walk, kick, squat) == 3 and score("temporal", squat) == 1
    assert [score("frequency", Event("kick", count=count)) for count in (2, 1, 3, 4)] == [5, 4, 4, 3]
    assert score("frequency", Event("kick", side="right", count=2)) == 2
    assert score("frequency", Event("squat", count=2)) == 1


def test_too_few_clips_are_refused() -> None:
    with pytest.raises(
        EvaluationError, match="no cases of temporal that differ in order can be made of clips of squat"
    ):
        build_eventbench(CLIPS[:1], groups={("temporal", "order"): 1})


def test_joins_are_measured(bench: EventBench) -> None:
    quality = join_quality(bench)
    assert quality.joins == sum(len(composed.transitions) for composed in bench.composed.values()) > 0
    median, high, most = quality.jerk_ratio
    assert 0 < median <= high <= most
    with pytest.raises(EvaluationError, match="no motion of this bench is joined"):
        join_quality(EventBench((), {}))


# real clips


def test_counted_clips_are_asked_about_with_right_and_wrong_counts(tmp_path: Path) -> None:
    path = tmp_path / "counted.json"
    rows = [
        {"clip": "squat", "split": "test", "action": "squat", "side": "", "count": 1},
        {"clip": "kick", "split": "test", "start": 2, "end": 20, "action": "kick", "side": "left", "count": 2},
        {"clip": "kick", "split": "test", "action": "kick", "side": "left", "count": 9, "sure": False},
    ]
    path.write_text(json.dumps(rows))
    bench = counted_bench(path, CLIPS)
    assert [case.score for case in bench.cases] == [5, 4, 5, 4, 4]
    assert [case.program.events[0].count for case in bench.cases] == [1, 2, 2, 1, 3]
    assert bench.cases[2].program.events[0].side == "left" and "left" in bench.cases[2].prompt
    assert len(bench.motions[bench.cases[2].recipe]) == 18
    assert bench.cases[2].clips == {"kick"}


@pytest.mark.parametrize(
    "text",
    ["[{", '[{"clip": "nobody", "action": "squat", "count": 1}]', '[{"clip": "squat", "action": "squat", "count": 0}]']
    + ['[{"clip": "squat", "action": "dives", "count": 1}]', '[{"clip": "squat"}]', "[3]"],
)
def test_a_file_that_counts_nothing_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "counted.json"
    path.write_text(text)
    with pytest.raises(EvaluationError, match=r"counted\.json"):
        counted_bench(path, CLIPS)


def test_labelled_trials_are_asked_about_in_order(openmocap: Callable[[str], list[Clip]]) -> None:
    whole = [clip for split in ("train", "val", "test") for clip in openmocap(split)]
    cut = [clip for clip in load_openmocap(sources=("CMU",), cut_events=True) if clip.parent]
    bench = trial_bench([*whole, *cut])
    assert len({clip for case in bench.cases for clip in case.clips}) == 7
    assert Counter(case.score for case in bench.cases).keys() == {3, 4, 5}
    for case in bench.cases:
        starts = [interval.start for _, interval in case.shown]
        assert starts == sorted(starts) and case.shown[-1][1].end == len(bench.motions[case.recipe])


def test_real_clips_make_the_whole_bench(openmocap: Callable[[str], list[Clip]]) -> None:
    assert 4 * sum(GROUPS.values()) >= 2000
    groups = {kind: max(number // 20, 1) for kind, number in GROUPS.items()}
    bench = build_eventbench(load_openmocap(split="test", cut_events=True), 0, groups=groups)
    assert {case.score for case in bench.cases} == {1, 2, 3, 4, 5}
    assert all(composed.jerk <= 1 for composed in bench.composed.values())
    asked = Counter(event.action for case in bench.cases for event in case.program.events)
    assert len(asked) >= 12 and max(asked.values()) < 0.25 * asked.total()
