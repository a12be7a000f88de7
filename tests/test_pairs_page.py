"""The page of preference pairs: what is in the file, and what a browser makes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinalign.cli import main
from kinalign.data.motions import write_motions
from kinalign.errors import DataError, KinalignError
from kinalign.events.parse import parse
from kinalign.judge.human.labels import LabelFile
from kinalign.judge.human.questions import read_pairs, read_scored
from kinalign.judge.human.session import Session
from kinalign.judge.rubric import sub_task_of
from kinalign.judge.verdict import Finding, Invalid, Outcome, Verdict
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import KIT
from kinalign.motion.synthetic import jumping, standing, walking, waving
from kinalign.preference.dataset import motion_name, write_pairs
from kinalign.preference.records import Candidate, PreferencePair
from kinalign.preference.view import packed, spread, write_pairs_page

MILLIMETRE = 1e-3
NASTY = "\"quotes\" 'n' </script><script>window.broken = 1</script> <!-- & $script ${css} \u2028 é"


def verdict(prompt: str, score: int, *spans: tuple[int, int] | None) -> Verdict:
    program = parse(prompt)
    findings = tuple(
        Finding(event, "yes" if span else "no", *(span or (None, None)), reason=f"{event.action} because")
        for event, span in zip(program.events, spans)
    )
    return Verdict(score, sub_task_of(program), "test", f"score {score} it is", findings)


def pair(
    number: int, prompt: str, chosen: tuple[Motion, Outcome | None], rejected: tuple[Motion, Outcome | None]
) -> PreferencePair:
    program = parse(prompt)
    sides = [
        Candidate(index, 70 + index, None, outcome, motion)
        for index, (motion, outcome) in enumerate((chosen, rejected))
    ]
    return PreferencePair(f"test-{number:05d}-0-1", prompt, sub_task_of(program), program, *sides, "test")


WALK_WAVE, JUMP = "a person walks forward and then waves", "a man jumps twice"


def three_pairs() -> list[PreferencePair]:
    walk_wave = Motion.concatenate([walking(40), waving(60)])
    return [
        pair(
            1,
            WALK_WAVE,
            (walk_wave, verdict(WALK_WAVE, 5, (0, 40), (40, 100))),
            (walking(60), verdict(WALK_WAVE, 3, (0, 60), None)),
        ),
        pair(2, JUMP, (jumping(2), verdict(JUMP, 5, (5, 40))), (standing(30), verdict(JUMP, 1, None))),
        pair(3, WALK_WAVE, (walk_wave, None), (walking(20), Invalid("test", NASTY))),
    ]


def test_a_page_of_pairs_holds_the_player_once(tmp_path: Path) -> None:
    few = write_pairs_page(three_pairs()[:1], tmp_path / "few.html").stat().st_size
    many = write_pairs_page(three_pairs()[:1] * 11, tmp_path / "many.html").stat().st_size
    assert (many - few) / 10 < 160 * 100  # bytes for 160 frames of 22 joints in three axes


def test_the_page_names_no_address_to_load_from(tmp_path: Path) -> None:
    page = write_pairs_page(three_pairs(), tmp_path / "page.html").read_text("utf-8")
    assert set(re.findall(r"https?://[^\s\"'`)\\]+", page)) <= {
        "http://www.w3.org/1999/xhtml",
        "http://www.w3.org/2000/svg",
    }
    assert "default-src 'none'" in page


def test_pairs_that_cannot_be_shown_are_named(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    with pytest.raises(DataError, match="no pairs"):
        write_pairs_page([], page)
    (first, *_) = three_pairs()
    with pytest.raises(DataError, match="test-00001-0-1 has no motion"):
        write_pairs_page([replace(first, rejected=replace(first.rejected, motion=None))], page)
    with pytest.raises(KinalignError, match="cannot write"):
        write_pairs_page([first], tmp_path)
    assert not page.exists()


# ---- in a browser


@contextmanager
def opened(browser: Any, path: Path, link: str = "", *, width: int = 700, height: int = 640) -> Iterator[Any]:
    """The page in a browser; when it is left, it must have asked for no other address and not complained."""
    asked: list[str] = []
    complaints: list[str] = []
    # with less movement the motions wait to be played, and no processor is busy drawing them
    page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri() + link)
    yield page
    page.close()
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert complaints == []


def player_of(page: Any, duration_s: float) -> Any:
    """The player's frame once it holds motions of that length."""
    page.evaluate(
        """duration => new Promise(done => (function look() {
            const player = document.getElementById("player").contentWindow.kinalign;
            player && Math.abs(player.duration - duration) < 1e-6 ? done() : setTimeout(look, 20);
        })())""",
        duration_s,
    )
    return page.frames[-1]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs_page(three_pairs(), tmp_path_factory.mktemp("pairs") / "page.html")


def test_arrows_leaf_through_pairs_and_both_motions_play(browser: Any, path: Path) -> None:
    first, second, _ = three_pairs()
    with opened(browser, path) as page:
        for shown, key in ((first, None), (second, "ArrowRight"), (first, "ArrowLeft")):
            if key:
                page.keyboard.press(key)
            motions = [shown.chosen.motion, shown.rejected.motion]
            player = player_of(page, max(motion.duration_s for motion in motions if motion))
            assert page.locator("#prompt").text_content() == shown.prompt
            player.evaluate("kinalign.seek(0.75)")
            for number, motion in enumerate(motions):
                assert motion is not None
                began = motion.joints[0, 0] * [1, 0, 1]
                joints = np.array(player.evaluate(f"kinalign.joints({number})"))
                np.testing.assert_allclose(joints, motion.joints[15] - began, atol=MILLIMETRE)


def test_each_side_shows_its_verdict_and_a_bar_for_what_was_seen(browser: Any, path: Path) -> None:
    with opened(browser, path) as page:
        player = player_of(page, 5.0)
        assert page.locator(".score").all_inner_texts() == ["5", "3"]
        assert page.locator(".reason").all_inner_texts() == ["score 5 it is", "score 3 it is"]
        assert page.locator(".event b").all_inner_texts() == ["walk forward", "wave"] * 2
        bars, tracks = page.locator(".track button"), page.locator(".track")
        assert bars.count() == 3  # the rejected one does not wave
        bar, track = bars.nth(1).bounding_box(), tracks.nth(1).bounding_box()
        assert (bar["x"] - track["x"]) / track["width"] == pytest.approx(2 / 5, abs=0.01)
        assert bar["width"] / track["width"] == pytest.approx(3 / 5, abs=0.01)
        assert "wave because" in page.locator(".event").nth(1).get_attribute("title")
        assert page.locator(".event.no em").inner_text() == "wave because"
        bars.nth(1).click()
        assert player.evaluate("kinalign.time") == pytest.approx(2.0)
        page.locator(".event:nth-child(2) button.now").first.wait_for()
        for events in page.locator(".events").all():  # 2 s of 5
            assert events.evaluate("e => Number(e.style.getPropertyValue('--at'))") == pytest.approx(0.4)


def test_filters_leave_the_pairs_that_they_say(browser: Any, path: Path) -> None:
    with opened(browser, path) as page:
        assert page.locator("#tasks option").all_inner_texts() == ["All sub-tasks (3)", "frequency (1)", "temporal (2)"]
        page.select_option("#tasks", "frequency")
        assert page.locator("#prompt").text_content() == JUMP
        assert page.locator("#place").text_content() == "1 of 1"
        assert page.locator("#after").is_disabled() and page.locator("#before").is_disabled()
        page.select_option("#tasks", "")
        page.select_option("#scores", "5 over 3")
        assert page.locator("#prompt").text_content() == WALK_WAVE
        page.select_option("#tasks", "frequency")  # has no such scores: they are all shown again
        assert page.locator("#place").text_content() == "1 of 1"
        assert page.input_value("#scores") == ""


def test_a_link_with_a_number_opens_that_pair(browser: Any, path: Path) -> None:
    with opened(browser, path, "#2") as page:
        assert page.locator("#prompt").text_content() == JUMP
        page.keyboard.press("ArrowRight")
        assert page.evaluate("location.hash") == "#3"
        page.select_option("#tasks", "frequency")
        page.evaluate("location.hash = '#1'")
        page.locator("#place:has-text('1 of 3')").wait_for()
    with opened(browser, path, "#99") as page:
        assert page.evaluate("location.hash") == "#1"


def test_a_pair_without_verdicts_shows_what_the_detector_sees(browser: Any, path: Path) -> None:
    with opened(browser, path, "#3") as page:
        assert page.locator(".score").all_inner_texts() == ["–", "–"]
        assert page.locator(".reason").all_inner_texts()[0] == "no verdict"
        assert page.locator(".reason").nth(1).text_content() == NASTY
        assert page.evaluate("window.broken") is None
        assert any(
            text.startswith("wave") for text in page.locator(".verdict").first.locator(".event b").all_inner_texts()
        )


def test_speed_and_switches_stay_from_pair_to_pair(browser: Any, path: Path) -> None:
    with opened(browser, path) as page:
        player = player_of(page, 5.0)
        player.select_option("#speed", "2")
        player.click("#loop")
        page.keyboard.press("ArrowRight")
        player = player_of(page, jumping(2).duration_s)
        assert player.input_value("#speed") == "2"
        assert player.get_attribute("#loop", "aria-pressed") == "false"
        assert player.get_attribute("#follow", "aria-pressed") == "true"


def test_a_motion_of_one_frame_of_another_skeleton_or_far_away_is_shown(browser: Any, tmp_path: Path) -> None:
    body = standing(1)
    far = Motion(np.concatenate([body.joints, body.joints + np.float32([90, 0, 0])]))
    kit = Motion(np.random.default_rng(0).normal(size=(3, 21, 3)), skeleton=KIT, fps=12.5)
    shown = [pair(1, JUMP, (body, None), (far, None)), pair(2, JUMP, (kit, None), (body, Invalid("test", "-")))]
    assert packed(far)["unit"] == pytest.approx(90 / 32767, rel=1e-3)
    with opened(browser, write_pairs_page(shown, tmp_path / "page.html")) as page:
        player = player_of(page, far.duration_s)
        player.evaluate("kinalign.step(1)")
        began = far.joints[0, 0] * [1, 0, 1]
        np.testing.assert_allclose(player.evaluate("kinalign.joints(1)"), far.joints[1] - began, atol=4 * MILLIMETRE)
        page.keyboard.press("ArrowRight")
        player = player_of(page, kit.duration_s)
        player.evaluate("kinalign.seek(0)")
        began = kit.joints[0, 0] * [1, 0, 1]
        np.testing.assert_allclose(player.evaluate("kinalign.joints(0)"), kit.joints[0] - began, atol=MILLIMETRE)


def test_on_a_phone_nothing_hangs_over_the_edge(browser: Any, path: Path) -> None:
    with opened(browser, path, width=360, height=640) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        for control in page.locator("nav select, nav button").all():
            box = control.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 360


# ---- the command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A preference data set of two pairs as `kinalign prefer build` writes it."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'kinalign[preference]'")
    pairs = [replace(pair, chosen=coded(pair.chosen), rejected=coded(pair.rejected)) for pair in three_pairs()[:2]]
    write_pairs(tmp_path / "data" / "preferences.parquet", pairs, num_codes=8)
    motions = {
        motion_name(pair.prompt_id, side): side.motion
        for pair in pairs
        for side in (pair.chosen, pair.rejected)
        if side.motion
    }
    write_motions(tmp_path / "data" / "motions" / "00000.safetensors", motions)
    return tmp_path / "data"


def coded(candidate: Candidate) -> Candidate:
    return replace(candidate, codes=(1, 2))


def test_the_command_makes_a_page_of_a_data_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prefer", "view", str(folder)]) == 0
    assert "2 of 2 pairs" in capsys.readouterr().out
    assert WALK_WAVE in (folder / "pairs.html").read_text("utf-8")
    assert main(["prefer", "view", str(folder), "--limit", "1", "--out", str(folder / "few.html")]) == 0
    few = (folder / "few.html").read_text("utf-8")
    assert WALK_WAVE in few and JUMP not in few
    assert main(["prefer", "view", str(folder), "--limit", "0"]) == 2
    assert main(["prefer", "view", str(folder / "motions")]) == 2
    assert "no preference data set" in capsys.readouterr().err


def test_a_limit_takes_of_each_sub_task_in_turn() -> None:
    walk, jump, _ = three_pairs()
    pairs = [replace(walk, id=f"w-{number}-0-1") for number in range(5)] + [replace(jump, id="j-0-0-1")]
    assert [pair.id for pair in spread(pairs, 3)] == ["w-0-0-1", "w-1-0-1", "j-0-0-1"]
    assert spread(pairs, 99) == pairs


def test_people_are_asked_about_the_pairs_of_a_data_set_blind(folder: Path, tmp_path: Path) -> None:
    walk, jump, _ = three_pairs()
    with LabelFile.opened(tmp_path / "labels.jsonl", "ann") as file:
        session = Session(read_pairs(folder), file)
        assert [question.prompt for question in session.questions] == [WALK_WAVE, JUMP]
        session.choose(0, "sample_1", "Better")
        for question, pair in zip(session.questions, (walk, jump)):
            for shown, side in zip(question.motions(), (pair.chosen, pair.rejected)):
                assert side.motion is not None
                np.testing.assert_allclose(shown.joints, side.motion.joints, atol=MILLIMETRE)  # float16 in the folder
        assert all(motion.caption == "" for motion in session.motions(1))
    with LabelFile.opened(tmp_path / "labels.jsonl", "ann") as file:
        assert Session(read_pairs(folder), file).place == 1
    scored = read_scored(folder)
    assert [(question.id, question.task) for question in scored] == [
        ("test-00001-0", "temporal"),
        ("test-00001-1", "temporal"),
        ("test-00002-0", "frequency"),
        ("test-00002-1", "frequency"),
    ]


def test_the_two_sides_are_called_what_one_says(browser: Any, tmp_path: Path) -> None:
    page = write_pairs_page(three_pairs(), tmp_path / "named.html", names=("Aligned", "Base"))
    with opened(browser, page) as shown:
        titles = shown.locator(".verdict h2")
        titles.first.wait_for()
        assert [text.partition("seed")[0] for text in titles.all_inner_texts()] == ["Aligned", "Base"]
