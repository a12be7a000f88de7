"""Timelines from plans, tasks, sentences and files, and the rows that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinalign.errors import PlanError
from kinalign.events.program import Event, EventProgram
from kinalign.planning.plan import Plan, Scene, Step, Task
from kinalign.planning.timeline import Segment, read_timeline, timeline_of, timeline_of_texts, timeline_to_json

DOCS = Path(__file__).parent.parent / "docs"
WALK, KICK = "A person walks forward.", "A person kicks with the left leg."


def written(tmp_path: Path, text: str, name: str = "timeline.json") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def of_rows(tmp_path: Path, *rows: object) -> tuple[Segment, ...]:
    return read_timeline(written(tmp_path, json.dumps(rows)))


def test_a_timeline_is_read_as_it_was_written(tmp_path: Path) -> None:
    program = EventProgram(((Event("walk"), Event("wave", side="left")), (Event("kick", count=2),)))
    segments = (
        Segment(Step("He strolls, waves and kicks.", program, 4.5), pause_s=1.5, task="He shows off."),
        Segment(Step.of(KICK)),
    )
    path = written(tmp_path, json.dumps(timeline_to_json(segments)))
    assert read_timeline(path) == segments


def test_csv_and_json_rows_say_the_same(tmp_path: Path) -> None:
    table = f'\ufefftext,seconds,pause,task\n"{WALK}",3,1,Warm up\n{KICK},,,\n'
    segments = read_timeline(written(tmp_path, table, "timeline.csv"))
    assert segments == of_rows(tmp_path, {"text": WALK, "seconds": 3, "pause": 1, "task": "Warm up"}, {"text": KICK})
    assert [segment.step.program.events[0].action for segment in segments] == ["walk", "kick"]


def test_a_gap_before_a_start_is_a_pause(tmp_path: Path) -> None:
    rows = [
        {"text": WALK, "seconds": 3, "pause": 0.5},
        {"text": KICK, "start": 5, "seconds": 2},
        {"text": WALK, "start": 7},
    ]
    assert [segment.pause_s for segment in of_rows(tmp_path, *rows)] == [2.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": ""}, "row 2: text='' says nothing"),
        ({"seconds": 2}, "row 2: text=None says nothing"),
        ({"text": "The weather is fine."}, "row 2: .*weather"),
        ({"text": KICK, "speed": 2}, "row 2: field 'speed' is unknown; a row has text, seconds"),
        ({"text": KICK, "seconds": 0}, "row 2: 0.* seconds of step .* above 0"),
        ({"text": KICK, "seconds": -1}, "row 2: -1.* seconds of step"),
        ({"text": KICK, "seconds": "soon"}, "row 2: seconds='soon' is no number"),
        ({"text": KICK, "seconds": True}, "row 2: nan seconds"),
        ({"text": KICK, "pause": -2}, "row 2: a pause of -2.* cannot be"),
        ({"text": KICK, "start": 2.5}, "row 2: start=2.5 overlaps what goes on until 3 s"),
        ({"text": KICK, "start": float("nan")}, "row 2: start=nan overlaps"),
        ({"text": KICK, "task": 7}, "row 2: task=7 is no text"),
        ({"text": KICK, "program": [[{"action": "teleport"}]]}, "row 2: action 'teleport' is unknown"),
        (KICK, "row 2: it is an object with text"),
    ],
)
def test_a_row_that_cannot_be_is_named_by_its_number(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        of_rows(tmp_path, {"text": WALK, "seconds": 3}, row)


def test_a_start_needs_to_know_when_what_is_before_ends(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="row 2: start=4 needs the seconds of all rows before it"):
        of_rows(tmp_path, {"text": WALK}, {"text": KICK, "start": 4})
    with pytest.raises(PlanError, match="row 1: start=1 leaves nothing to do before it"):
        of_rows(tmp_path, {"text": WALK, "start": 1})


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("[", "a.json", "cannot read .*a.json as a timeline"),
        ("7", "a.json", "is no timeline: it holds a list of rows"),
        ("[]", "a.json", "a timeline of no row is none"),
        ("text,seconds\n", "a.csv", "a timeline of no row is none"),
        (f"text,seconds\n{KICK},2,3\n", "a.csv", "row 1: a cell beyond the last column is unknown"),
    ],
)
def test_a_file_that_is_no_timeline_is_refused(tmp_path: Path, text: str, name: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        read_timeline(written(tmp_path, text, name))
    with pytest.raises(PlanError, match=r"absent\.json"):
        read_timeline(tmp_path / "absent.json")


def test_steps_of_a_plan_keep_their_tasks() -> None:
    steps = tuple(map(Step.of, (WALK, KICK)))
    plan = Plan((Task("He warms up.", steps), Task("He goes.", steps[:1])), Scene("A park."))
    assert [(one.step, one.task) for one in timeline_of(plan)] == [
        (steps[0], "He warms up."),
        (steps[1], "He warms up."),
        (steps[0], "He goes."),
    ]
    with pytest.raises(PlanError, match=r"task 2, 'He rests\.', has no steps"):
        timeline_of([Task("He goes.", steps), Task("He rests.")])


def test_sentences_are_segments() -> None:
    assert [segment.step for segment in timeline_of_texts([WALK, KICK])] == [Step.of(WALK), Step.of(KICK)]
    with pytest.raises(PlanError, match="sentence 2: text='  ' says nothing"):
        timeline_of_texts([WALK, "  "])


@pytest.mark.parametrize("seconds", ["four", "4", True, [4], 0, -3, float("nan")])
def test_seconds_of_a_planned_step_are_a_number_above_0(seconds: object) -> None:
    with pytest.raises(PlanError, match=r"seconds of step 'A person kicks\.' cannot be shown; give a time above 0"):
        Plan.from_json({"tasks": [{"text": "He kicks.", "steps": [{"text": "A person kicks.", "seconds": seconds}]}]})


def test_the_timeline_of_the_page_on_long_motion_can_be_read(tmp_path: Path) -> None:
    page = (DOCS / "long_motion.md").read_text(encoding="utf-8")
    segments = read_timeline(written(tmp_path, page.split("```csv\n")[1].split("```")[0], "day.csv"))
    assert [(one.step.seconds, one.pause_s) for one in segments] == [(4.0, 0.0), (3.0, 3.0), (None, 0.0), (None, 5.0)]
