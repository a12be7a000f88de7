"""A conversation about motions, with a tiny model of random weights."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from test_pipeline import lm_of, tokenizer_of

from kinalign.chat import Chat, Conversation, chat
from kinalign.errors import KinalignError, MotionError, PromptError
from kinalign.lm.instructions import Instruction
from kinalign.lm.model import MotionLM
from kinalign.motion.motion import Motion
from kinalign.motion.synthetic import walking
from kinalign.pipeline import TextToMotion


@pytest.fixture(scope="module")
def model() -> TextToMotion:
    return TextToMotion(lm_of(), tokenizer_of())


@pytest.fixture
def talk(model: TextToMotion) -> Conversation:
    return Conversation(model)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Instruction]:
    """The model gives words where a motion is spoken of and "what" is asked; what it was told is kept."""
    told: list[Instruction] = []

    def gives(self: MotionLM, instruction: Instruction) -> str:
        told.append(instruction)
        return "text" if "what" in instruction.text else "motion"

    monkeypatch.setattr(MotionLM, "gives", gives)
    return told


def test_a_sentence_becomes_a_motion_with_a_number(talk: Conversation, answers: list[Instruction]) -> None:
    assert re.fullmatch(r"#1  \d+\.\d s  a person walks", talk.reply("a person walks"))
    assert talk.reply("a person waves").startswith("#2 ")
    assert talk.reply("list").splitlines()[1].startswith("#2 ")
    assert answers[0] == Instruction("a person walks")


def test_a_loaded_motion_can_be_asked_about_continued_and_saved(
    talk: Conversation, answers: list[Instruction], tmp_path: Path
) -> None:
    walk = walking(61).save(tmp_path / "my walk.bvh")
    assert talk.reply(f"load {walk}").startswith("#1  3.0")
    assert isinstance(talk.reply("what happens in #1?"), str)
    assert answers[-1].text == "what happens in this motion?"
    assert answers[-1].codes == tuple(talk.model.codes(talk.motions[0]))
    talk.reply("what is it?")
    assert answers[-1].codes == tuple(talk.model.codes(talk.motions[0]))
    assert len(talk.motions) == 1
    talk.reply("continue #1 for 2 seconds")
    assert len(talk.motions[1]) == 60 + 40
    talk.reply("from #1 to #2 in 1.4 s")
    assert len(talk.motions[2]) == 60 + 28 + 100
    talk.reply(f"save #2 {tmp_path / 'next.npy'}")
    assert np.array_equal(Motion.load(tmp_path / "next.npy").joints, talk.motions[1].joints)
    page = tmp_path / "next.html"
    assert talk.reply(f"save #3 {page}") == str(page)
    assert page.read_text(encoding="utf-8").lower().startswith("<!doctype")


def test_a_motion_too_long_to_read_is_continued_and_not_described(
    talk: Conversation, answers: list[Instruction]
) -> None:
    talk.motions.append(walking(250))
    talk.reply("continue #1 for 2 seconds")
    assert len(talk.motions[1]) == 249 + 40
    with pytest.raises(MotionError, match="too long"):
        talk.reply("what happens in #1?")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("what is #3", "there is no #3; there are 1 motions"),
        ("from #1 to #1 to #1", "3 motions in one sentence"),
        ("load nowhere.bvh", "nowhere.bvh"),
        ("from #1 to #1 in 60 s", "seconds=60.0 must be between"),
        ("save #1 walk.fbx", "suffix '.fbx' is unknown"),
        ("x" * 501, "characters is too long"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(line: str, message: str, talk: Conversation) -> None:
    talk.motions.append(walking(60))
    with pytest.raises(KinalignError, match=message):
        talk.reply(line)
    assert len(talk.motions) == 1


def test_nothing_said_is_nothing_answered(talk: Conversation) -> None:
    assert talk.reply("  ") == ""
    assert talk.reply("list") == "no motion yet"
    assert "load FILE" in talk.reply("help")
    with pytest.raises(PromptError):
        talk.reply("...")


def test_a_script_can_talk_too(
    model: TextToMotion,
    answers: list[Instruction],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = model.save_pretrained(tmp_path / "model")
    monkeypatch.setattr("sys.stdin", io.StringIO("a person walks\nwhat is #7\nquit\na person waves\n"))
    chat(Chat(model=folder))
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("#1 ") and said[1] == "cannot do that: there is no #7; there are 1 motions (list)"
    assert len(said) == 2
