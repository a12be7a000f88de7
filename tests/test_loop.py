"""The closed loop: what goes on and why, what is drawn again, what a stopped run makes of it, and on from a motion."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinalign.cli import main
from kinalign.judge.kinematic import KinematicJudge
from kinalign.motion.joining import uniform
from kinalign.motion.motion import Motion
from kinalign.motion.synthetic import squatting, standing, walking, waving
from kinalign.pipeline import TextToMotion
from kinalign.planning.loop import choose
from kinalign.planning.loop_command import Loop, loop
from kinalign.planning.plan import Scene, Step, Task
from kinalign.planning.tasks import Answer, Request
from kinalign.run import read_json

WALK, WAVE, SQUAT = (
    Step.of(text) for text in ("A person walks forward.", "A person waves with the left hand.", "A person squats once.")
)
SHOWN = {WALK.text: walking(50), WAVE.text: waving(50, side="left"), SQUAT.text: squatting(1)}
TRUE = {WALK.text: "a person strides forward", WAVE.text: "a person waves the left hand", SQUAT.text: "someone squats"}


def shown(motion: Motion) -> str:
    """The step that is shown, on its feet by now."""
    alike = {text: one for text, one in SHOWN.items() if len(one) == len(motion)} or {WALK.text: motion}
    return min(alike, key=lambda text: float(np.abs(alike[text].joints - motion.joints).mean()))


class Acting(TextToMotion):
    """Shows what it is asked for from candidate `right_from` on, before that a walk; says what it did, or `says`."""

    def __init__(self, *, right_from: int = 0, says: str = "") -> None:
        self.right_from, self.says, self.name = right_from, says, "acting"
        self.drawn: list[str] = []

    max_length_s = 9.8

    def rounds(self, prompt: str, *, num_candidates: int, seed: int = 0, **_: Any) -> Iterator[list[Motion]]:
        while True:
            motions = []
            for _ in range(num_candidates):
                is_right = self.drawn.count(prompt) >= self.right_from
                self.drawn.append(prompt)
                motions.append(Motion(SHOWN[prompt if is_right else WALK.text].joints, caption=prompt))
            yield motions

    def captions(self, motions: Sequence[Motion], **_: object) -> list[str]:
        return [self.says or TRUE[shown(motion)] for motion in motions]


class Planning:
    """Plans a walk and a wave, then a squat, in turn."""

    name = "planning"

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def __call__(self, request: Request, *, seed: int = 0) -> Answer:
        self.asked.append(request)
        if request.kind == "s2c":
            return Scene("A yard.")
        if request.kind == "s2t":
            return Task("Somebody did something.")
        if request.kind == "ct2t":
            return Task("Somebody exercises." if len(request.tasks) % 2 else "Somebody comes by.")
        return (SQUAT,) if "exercises" in request.tasks[0].text else (WALK, WAVE)


def choice_of(model: Acting, step: Step = WAVE, *, rounds: int = 3) -> Any:
    return choose(model, step, judge=KinematicJudge(), candidates=2, rounds=rounds, seed=[0, 1])


def test_what_is_right_and_says_so_goes_on_at_once() -> None:
    model = Acting()
    choice = choice_of(model)
    assert choice.chosen.fits and choice.num_drawn == 2 and len(model.drawn) == 2
    assert choice.why == "right by the judge, and its caption says the step"


def test_what_the_judge_finds_wrong_is_drawn_again_until_it_is_right() -> None:
    choice = choice_of(Acting(right_from=3))
    assert choice.chosen.fits and choice.num_drawn == 4
    # of the first round the best was read back for the log, of the second what was right
    assert [one.round for one in choice.tried] == [0, 1] and choice.num_right == 1
    assert choice.tried[0].caption == "a person strides forward" and choice.tried[0].said == 0


def test_what_is_right_but_does_not_say_so_is_drawn_again_until_the_budget_is_spent() -> None:
    choice = choice_of(Acting(says="a person sneezes"))
    assert choice.num_drawn == choice.num_right == 6 and not choice.chosen.fits and choice.chosen.score == 5
    assert choice.why.startswith("the budget of 6 motions is spent; the best one is right by the judge, but")
    assert "'a person sneezes'" in choice.why


def test_where_nothing_is_right_the_best_goes_on_with_its_fault() -> None:
    choice = choice_of(Acting(right_from=99), rounds=2)
    assert choice.num_right == 0 and choice.chosen.score == 1
    assert choice.why == "the budget of 4 motions is spent; the best one has 1 of 5: no wave with the left hand seen"


# the command


@pytest.fixture
def acting(monkeypatch: pytest.MonkeyPatch) -> Acting:
    model = Acting()
    monkeypatch.setattr(TextToMotion, "from_pretrained", staticmethod(lambda *_, **__: model))
    return model


def settings(out: Path, **others: Any) -> Loop:
    asked = {"scene": "a yard", "minutes": 0.1, "candidates": 2, "planner": "test_loop:Planning", **others}
    return Loop(out=out, formats=("npy", "html"), **asked)


def test_a_scene_becomes_a_motion_with_a_log_of_every_segment(
    acting: Acting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = loop(settings(tmp_path))
    assert long.motion.duration_s >= 6.0
    log = read_json(tmp_path / "loop.json")
    assert (log["scene"], log["planner"], log["judge"]) == ("a yard", "planning", "kinematic")
    assert [row["text"] for row in log["segments"]] == [one.segment.step.text for one in long.shown]
    assert all(row["fits"] and row["why"].startswith("right by the judge") for row in log["segments"])
    assert [one.segment.step.text for one in long.shown][:3] == [WALK.text, WAVE.text, SQUAT.text]
    assert np.array_equal(Motion.load(tmp_path / "motion.npy").joints, long.motion.joints)
    said = capsys.readouterr().out
    number = len(long.shown)
    assert f"{number} segments: {number} right by the judge, {number} of which the caption says the step too" in said
    assert (tmp_path / "motion.html").exists() and (tmp_path / "plan.json").exists()


def test_a_run_that_was_stopped_goes_on_where_it_was(
    acting: Acting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loop(settings(tmp_path / "whole"))
    log = (tmp_path / "whole" / "loop.json").read_bytes()
    reads = 0

    def stopped(self: Acting, motions: Sequence[Motion], **_: object) -> list[str]:
        nonlocal reads
        reads += 1
        if reads == 3:
            raise KeyboardInterrupt
        return [TRUE[motion.caption] for motion in motions]

    with monkeypatch.context() as context:
        context.setattr(Acting, "captions", stopped)
        with pytest.raises(KeyboardInterrupt):
            loop(settings(tmp_path / "cut"))
    assert len(read_json(tmp_path / "cut" / "loop.json")["segments"]) == 2
    acting.drawn.clear()
    again = loop(settings(tmp_path / "cut"))
    assert np.array_equal(again.motion.joints, whole.motion.joints)
    assert (tmp_path / "cut" / "loop.json").read_bytes() == log
    assert len(acting.drawn) == 2 * (len(whole.shown) - 2), "the first two were kept"


def test_a_step_that_nothing_leads_to_is_left_out_and_told(
    acting: Acting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lying = standing(40).joints[..., [0, 2, 1]] * [1, -1, 1]  # on the back
    monkeypatch.setitem(SHOWN, SQUAT.text, Motion(lying))
    long = loop(settings(tmp_path, rounds=1))
    assert SQUAT.text not in [one.segment.step.text for one in long.shown] and long.motion.duration_s >= 6
    log = read_json(tmp_path / "loop.json")
    assert log["left_out"] and all(SQUAT.text in why and "nothing leads to" in why for why in log["left_out"])
    assert f"{len(log['left_out'])} planned steps left out" in capsys.readouterr().out


def test_from_a_motion_it_goes_on_where_that_ends(acting: Acting, tmp_path: Path) -> None:
    walk = walking(70)
    path = walk.save(tmp_path / "walk.npz")
    long = loop(settings(tmp_path / "out", scene=None, motion=path))
    given = uniform(walk).joints
    assert np.allclose(long.motion.joints[:50], given[:50], atol=1e-4)
    log = read_json(tmp_path / "out" / "loop.json")
    assert log["scene"] == "A yard." and log["given"]["captions"][0]["text"] == "A person strides forward."
    assert [one.segment.step.text for one in long.shown][:2] == ["A person strides forward.", SQUAT.text]
    assert long.shown[0].segment.task == "Somebody did something." and long.shown[0].start == 0
    assert long.motion.duration_s >= walk.duration_s + 6
    tasks = [task["text"] for task in json.loads((tmp_path / "out" / "plan.json").read_text())["tasks"]]
    assert tasks[:2] == ["Somebody did something.", "Somebody exercises."]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a loop begins with a scene or with a motion"),
        (["--scene", " "], "a scene is a text that says something"),
        (["--scene", "a yard", "--minutes", "0"], "minutes=0.0 must be above 0"),
        (["--scene", "a yard", "--rounds", "0"], "rounds=0 must be above 0"),
        (["--scene", "a yard", "--planner", "nobody"], "planner 'nobody' is unknown"),
        (["--motion", "absent.npy"], "absent.npy"),
    ],
)
def test_what_cannot_be_looped_is_one_clear_error(
    arguments: list[str],
    message: str,
    acting: Acting,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["loop", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
