"""A motion read back: which words are taken, what a planner is told, and what the command writes and refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from test_pipeline import lm_of, tokenizer_of

from kinalign.cli import main
from kinalign.errors import PlanError
from kinalign.evaluation.learned import shipped_detector
from kinalign.events.compose import Part, compose
from kinalign.events.detect import Detection
from kinalign.events.parse import parse
from kinalign.events.program import Event
from kinalign.motion.joining import uniform
from kinalign.motion.motion import Motion
from kinalign.motion.synthetic import squatting, standing, walking, waving
from kinalign.pipeline import TextToMotion
from kinalign.planning.plan import Scene, Step, Task
from kinalign.planning.saying import share_said, tells
from kinalign.planning.tasks import Answer, Request
from kinalign.planning.understand import Reader, Understand, event_of, grouped, sentence_of, told, understand
from kinalign.run import read_json


class Guessing:
    """A planner that says how many steps it was told of."""

    name = "guessing"

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def __call__(self, request: Request, *, seed: int = 0) -> Answer:
        self.asked.append(request)
        if request.kind == "s2c":
            return Scene(f"A place for {len(request.steps)} steps.")
        return Task(f"Somebody takes {len(request.steps)} steps.")


class Refusing(Guessing):
    def __call__(self, request: Request, *, seed: int = 0) -> Answer:
        raise PlanError("such steps are unknown")


class Saying(TextToMotion):
    """Says the same of every motion."""

    def __init__(self, text: str) -> None:
        self.text = text

    def captions(self, motions: Sequence[Motion], **_: object) -> list[str]:
        return [self.text] * len(motions)


@pytest.fixture(scope="module")
def story() -> Motion:
    parts = [
        (walking(60), Event("walk", direction="forward")),
        (waving(60, side="left"), Event("wave", side="left")),
        (squatting(2), Event("squat", count=2)),
    ]
    return compose([Part(uniform(motion), event) for motion, event in parts]).motion


# words


def wave(side: str = "left") -> Detection:
    return Detection("wave", 0, 40, 1.0, "", side, part="hand")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "is_told"),
    [
        ("a person waves the left hand in an exhausted way", True),
        ("a person raises the left arm and waves with the left hand", True),
        ("a person waves", False),
        ("a person waves with the right hand", False),
        ("a person waves the left hand, then kicks", False),
        ("a person kicks", False),
        ("hm", False),
    ],
)
def test_a_caption_is_taken_where_it_says_what_was_seen_and_nothing_else(text: str, is_told: bool) -> None:
    assert tells(text, wave()) is is_told


def test_a_turn_needs_its_way_said_and_may_be_taken_in_a_walk() -> None:
    turn = Detection("turn", 0, 40, 1.0, "", direction="left", angle_deg=90.0)
    assert tells("someone walks, then makes a left turn", turn)
    assert not tells("a person turns right", turn) and not tells("a person turns", turn)


def test_a_program_is_said_by_what_shows_it_on_its_side_to_its_way_and_as_often() -> None:
    program = parse("a person raises the left hand, then jumps twice")
    assert share_said(program, "a person lifts the left arm and hops two times") == 1.0
    assert share_said(program, "a person lifts the right arm and jumps twice") == 0.5
    assert share_said(program, "a person raises the left hand, then jumps three times") == 0.5
    assert share_said(program, "") == 0.0
    assert share_said(parse("a person puts something down"), "a person bends down and places it on the floor") == 1.0
    assert share_said(parse("a person places a box"), "a person places it on the floor") == 1.0
    assert share_said(parse("a person reaches up with the left hand"), "a person raises the left arm") == 1.0


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (Detection("raise", 0, 9, 1.0, "", "left", "up", 1, "hand"), "A person raises the left hand."),
        (Detection("hop", 0, 9, 1.0, "", "both", "forward", 2), "A person hops forward twice."),
        (Detection("clap", 0, 9, 1.0, "", "both", count=13, part="hand"), "A person claps several times."),
        (Detection("walk", 0, 9, 1.0, "", direction="backward", count=7), "A person walks backward."),
        (Detection("put_down", 0, 9, 1.0, "", "right", "down", 1, "hand"),
         "A person puts something down with the right hand."),
        (Detection("stand", 0, 9, 1.0, ""), "A person stands still."),
    ],
)  # fmt: skip
def test_what_was_seen_is_said_plainly_and_read_again_as_the_same(found: Detection, sentence: str) -> None:
    assert sentence_of(event_of(found)) == sentence
    (event,) = parse(sentence).events
    assert (event.action, event.side, event.direction) == (
        found.action,
        event_of(found).side,
        event_of(found).direction,
    )


# reading


def test_without_a_model_and_a_planner_there_are_steps_in_plain_words(story: Motion) -> None:
    read = Reader(shipped_detector())(story)
    assert [step.text for step in read.done] == [
        "A person walks forward.",
        "A person waves with the left hand.",
        "A person squats twice.",
    ]
    assert read.plan is None and read.problem == "" and all(one.words == "events" for one in read.steps)
    for one in read.steps:
        assert 0 <= one.start_s < one.end_s <= read.seconds
        assert one.step.seconds == pytest.approx(one.end_s - one.start_s)


def test_a_caption_stands_only_where_it_is_true(story: Motion) -> None:
    steps = Reader(shipped_detector(), Saying("a person waves the left hand happily")).read(story)
    assert [(one.words, one.step.text) for one in steps if one.event and one.event.action in ("walk", "wave")] == [
        ("events", "A person walks forward."),
        ("model", "A person waves the left hand happily."),
    ]


def test_what_only_the_model_sees_is_told_as_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [Detection("walk", 0, 30, 1.0, "", direction="forward")]
    monkeypatch.setattr("kinalign.planning.understand.segments", lambda *_: seen)
    for caption, texts in (
        ("a person sneezes", ["A person walks forward.", "A person sneezes."]),
        ("hm", ["A person walks forward."]),
        ("a person walks, kicks and jumps", ["A person walks forward."]),
    ):
        steps = Reader(shipped_detector(), Saying(caption)).read(walking(80))
        assert [one.step.text for one in steps] == texts
    unseen = Reader(shipped_detector(), Saying("a person sneezes")).read(walking(80))[-1]
    assert (unseen.start_s, unseen.end_s, unseen.event, unseen.words) == (1.5, 4.0, None, "model")


def test_a_planner_is_told_rows_of_five_steps_at_most_and_its_error_is_told(story: Motion) -> None:
    planner = Guessing()
    read = Reader(shipped_detector(), planner=planner)(story, seed=3)
    assert read.plan is not None and read.plan.scene == Scene("A place for 3 steps.")
    assert [task.text for task in read.plan.tasks] == ["Somebody takes 3 steps."] and read.plan.steps == read.done
    assert [len(group) for group in grouped([Step.of("a person walks")] * 11)] == [4, 3, 4]
    refused = Reader(shipped_detector(), planner=Refusing())(story)
    assert refused.plan is None and refused.problem == "such steps are unknown" and len(refused.done) == 3
    assert told(refused)[-1] == "no task and no scene: such steps are unknown"


def test_of_who_only_stands_no_plan_is_made() -> None:
    read = Reader(shipped_detector(), planner=Guessing())(standing(80))
    assert [one.step.text for one in read.steps] == ["A person stands still."] and read.done == ()
    assert "nothing is done" in read.problem


# the command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TextToMotion(lm_of(), tokenizer_of()).save_pretrained(tmp_path_factory.mktemp("model"))


def test_the_command_prints_captions_and_writes_them_with_a_page(
    story: Motion, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = story.save(tmp_path / "story.npz")
    out, page = tmp_path / "read.json", tmp_path / "read.html"
    read = understand(Understand(path, out, page, planner="test_understand:Guessing", model=folder))
    said = capsys.readouterr().out
    assert "A person squats twice." in said and "scene: A place for 3 steps." in said and str(page) in said
    values = read_json(out)
    assert values["motion"] == path.as_posix() and len(values["captions"]) == len(read.steps)
    assert values["plan"]["tasks"][0]["text"] == "Somebody takes 3 steps."
    for row, one in zip(values["captions"], read.steps):
        assert (row["text"], row["start_s"]) == (one.step.text, round(one.start_s, 2))
    assert '"label":"A person squats twice."' in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("motion", "message"),
    [
        (walking(8), "a motion of 0.40 s shows nothing; give 0.5 s or more"),
        (np.full((40, 22, 3), np.nan), "holds NaN or infinity"),
        (np.zeros((40, 21, 3)), "this motion has 'kit'"),
        (np.zeros((40, 19, 3)), "19"),
    ],
)
def test_a_motion_that_cannot_be_read_is_one_clear_error(
    motion: Motion | np.ndarray, message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "motion.npy"
    np.save(path, motion.joints if isinstance(motion, Motion) else motion)
    assert main(["understand", str(path), "--model", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("kinalign: error: ") and message in error and error.count("\n") == 1


def test_a_step_told_as_json_has_its_times_and_its_events(story: Motion) -> None:
    rows = [one.to_json() for one in Reader(shipped_detector()).read(story)]
    squat = rows[-1] if rows[-1]["seen"]["action"] == "squat" else rows[-2]
    assert squat["seen"] == {"action": "squat", "count": 2} and squat["end_s"] > squat["start_s"]
    assert json.loads(json.dumps(rows)) == rows
