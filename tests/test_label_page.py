"""The labelling page: what its server takes and refuses, and what keys in a browser write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kinalign.cli import main
from kinalign.errors import LabelError
from kinalign.judge.human.labels import LabelFile, Score, Vote, read_labels
from kinalign.judge.human.page import LabelServer, serving
from kinalign.judge.human.questions import read_pairs, read_scored
from kinalign.judge.human.session import Session
from kinalign.judge.rubric import RUBRICS
from kinalign.motion.synthetic import walking, waving

NASTY = "a person waves </script><script>window.broken = 1</script> <b>twice</b> & \"then\" 'walks'"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    walking(20).save(tmp_path / "walk.npz")
    waving(20).save(tmp_path / "wave.npz")
    samples = {"sample_1": {"motion": "walk.npz"}, "sample_2": {"motion": "wave.npz"}}
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"id": n, "prompt": NASTY, **samples}) + "\n" for n in range(3)))
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return tmp_path / "labels.jsonl"


@contextmanager
def page_of(pairs: Path, labels: Path, *, scores: bool = False) -> Iterator[LabelServer]:
    with LabelFile.opened(labels, "ann") as file:
        questions = read_scored(pairs) if scores else read_pairs(pairs)
        with serving(Session(questions, file)) as (server, _):
            yield server


def ask(url: str, answer: Any = None, **headers: str) -> tuple[int, Any]:
    """Status and JSON of a GET, or of a POST where there is an answer."""
    data = None if answer is None else json.dumps(answer).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def votes(labels: Path) -> list[tuple[str, str]]:
    return [(label.choice, label.degree) for label in read_labels(labels) if isinstance(label, Vote)]


def test_answers_are_written_under_the_sample_that_stood_on_that_side(pairs: Path, labels: Path) -> None:
    with page_of(pairs, labels) as server:
        _, state = ask(server.address + "state")
        assert state == {"place": 0, "answered": 0, "total": 3, "prompt": NASTY}
        for place, side in enumerate(("left", "right")):
            status, state = ask(server.address + "choose", {"place": place, "better": side, "degree": "Much better"})
            assert (status, state["place"], state["answered"]) == (200, place + 1, place + 1)
        status, state = ask(server.address + "choose", {"place": 2, "better": None})
        assert (state["place"], state["answered"]) == (None, 3)
        lefts, rights = zip(*map(server.session.sides, range(3)))
    assert votes(labels) == [(lefts[0], "Much better"), (rights[1], "Much better"), ("skipped", "skipped")]


def test_scores_are_asked_with_the_rubric_and_undo_asks_again(pairs: Path, labels: Path) -> None:
    with page_of(pairs, labels, scores=True) as server:
        _, state = ask(server.address + "state")
        assert state["rubric"] == list(RUBRICS[state["task"]]) and state["total"] == 6
        ask(server.address + "score", {"place": 0, "score": 5})
        ask(server.address + "score", {"place": 1, "score": None})
        assert ask(server.address + "undo", {})[1]["place"] == 1
        assert ask(server.address + "score", {"place": 1, "score": 2})[0] == 200
    assert [label.score for label in read_labels(labels) if isinstance(label, Score)] == [5, 2]


@pytest.mark.parametrize(
    ("what", "answer", "status"),
    [
        ("choose", {"place": 1, "better": "left", "degree": "Better"}, 409),
        ("choose", {"place": 0, "better": "left", "degree": "Perfect"}, 409),
        ("choose", {"place": 0, "better": "above", "degree": "Better"}, 400),
        ("choose", {"place": "0", "better": "left", "degree": "Better"}, 400),
        ("choose", {"better": "left"}, 400),
        ("choose", ["left"], 400),
        ("choose", {"place": 99, "better": "left", "degree": "Better"}, 400),
        ("score", {"place": 0, "score": 5}, 409),
        ("erase", {}, 409),
        ("choose", {"place": 0, "better": "left", "degree": "x" * 20_000}, 413),
    ],
)
def test_an_answer_that_is_none_is_refused_and_not_written(
    pairs: Path, labels: Path, what: str, answer: Any, status: int
) -> None:
    with page_of(pairs, labels) as server:
        found, reply = ask(server.address + what, answer)
        assert found == status and reply["error"]
        assert ask(server.address + "state")[1]["answered"] == 0
    assert labels.read_bytes() == b""


def test_only_the_page_itself_may_ask_and_answer(pairs: Path, labels: Path) -> None:
    answer = {"place": 0, "better": "left", "degree": "Better"}
    with page_of(pairs, labels) as server:
        assert server.server_address[0] == "127.0.0.1"
        choose = server.address + "choose"
        assert ask(choose, answer, Origin="https://example.org")[0] == 403
        assert ask(choose, answer, Origin="null")[0] == 403
        assert ask(choose, answer, Host="example.org")[0] == 403  # a name that was made to point here
        assert ask(choose, answer, **{"Content-Type": "text/plain"})[0] == 415  # all that a foreign form can send
        assert ask(f"{server.origin}/choose", answer)[0] == 403
        assert ask(f"{server.origin}/{'x' * 22}/state")[0] == 403
        assert ask(f"{server.address}player/7")[0] == 404
        assert labels.read_bytes() == b""
        assert ask(choose, answer, Origin=server.origin)[0] == 200


def test_every_session_has_another_token_and_a_taken_port_is_named(pairs: Path, labels: Path) -> None:
    with LabelFile.opened(labels, "ann") as file:
        session = Session(read_pairs(pairs), file)
        with serving(session) as (server, _), serving(session) as (other, _):
            assert server.token != other.token
            with pytest.raises(LabelError, match=f"port {server.server_address[1]} cannot be used"):
                LabelServer(session, port=server.server_address[1])


def test_a_motion_that_cannot_be_read_is_said_and_the_next_one_comes(pairs: Path, labels: Path, tmp_path: Path) -> None:
    (tmp_path / "walk.npz").write_bytes(b"cut short")
    with page_of(pairs, labels) as server:
        with urllib.request.urlopen(f"{server.address}player/0", timeout=10) as response:
            assert b"cannot be shown" in response.read()
        assert ask(server.address + "choose", {"place": 0, "better": None})[1]["place"] == 1


def test_a_session_that_is_killed_loses_nothing_and_goes_on(pairs: Path, labels: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "kinalign.cli",
        "judge",
        "label",
        str(pairs),
        "--out",
        str(labels),
        "--user",
        "ann",
    ]
    for place in range(2):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert ask(address + "state")[1]["place"] == place
            assert ask(address + "choose", {"place": place, "better": "left", "degree": "Better"})[0] == 200
            assert main(["judge", "label", str(pairs), "--out", str(labels), "--user", "ann"]) == 2  # it is in use
        finally:
            process.kill()
            process.communicate()
    assert len(votes(labels)) == 2


# ---- in a browser


@contextmanager
def opened(browser: Any, server: LabelServer) -> Iterator[Any]:
    """The page in a browser; when it is left, it must have asked no other server and not complained."""
    asked: list[str] = []
    complaints: list[str] = []
    # with less movement the motions wait to be played, and no processor is busy drawing them
    page = browser.new_page(viewport={"width": 700, "height": 640}, reduced_motion="reduce")
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(server.address)
    page.wait_for_selector("#choices button")
    yield page
    page.close()
    assert [url for url in asked if not url.startswith((server.address, "data:"))] == []
    assert complaints == []


def press(page: Any, server: LabelServer, *keys: str, answered: int) -> None:
    """Press keys, and wait until the page shows that so many are answered."""
    for key in keys:
        page.keyboard.press(key)
    page.locator(f"#progress[value='{answered}']").wait_for()


def test_keys_choose_grade_skip_and_undo(browser: Any, pairs: Path, labels: Path) -> None:
    with page_of(pairs, labels) as server, opened(browser, server) as page:
        assert page.locator("#prompt").text_content() == NASTY
        assert page.evaluate("window.broken") is None
        press(page, server, "1", "4", answered=1)
        press(page, server, "ArrowRight", "Escape", "ArrowRight", "1", answered=2)
        press(page, server, "u", answered=1)
        press(page, server, "s", answered=2)
        press(page, server, "2", "2", answered=3)
        assert "All are answered" in page.locator("#prompt").text_content()
        sides = [server.session.sides(place) for place in range(3)]
    assert votes(labels) == [
        (sides[0][0], "Negligibly better/unsure"),
        ("skipped", "skipped"),
        (sides[2][1], "Better"),
    ]


def test_both_motions_play_in_step_and_keys_reach_the_page_from_within_the_player(
    browser: Any, pairs: Path, labels: Path
) -> None:
    with page_of(pairs, labels) as server, opened(browser, server) as page:
        player = page.frame_locator("#player")
        player.locator("#view").wait_for()
        frame = page.frames[1]
        assert frame.evaluate("kinalign.numMotions") == 2
        for number, motion in enumerate(server.session.motions(0)):
            frame.evaluate("kinalign.pause(); kinalign.seek(0.5)")
            shown = frame.evaluate(f"kinalign.joints({number})")
            assert abs(motion.joints[10] - shown).max() < 1e-3  # of 1 mm
        page.keyboard.press(".")
        assert frame.evaluate("kinalign.time") == pytest.approx(0.55)
        page.keyboard.press("Space")
        assert frame.evaluate("kinalign.playing")
        player.locator("#view").click()  # now the player has the keyboard
        press(page, server, "ArrowLeft", "3", answered=1)
    assert votes(labels)[0][1] == "Slightly better"


def test_keys_score_by_the_rubric(browser: Any, pairs: Path, labels: Path) -> None:
    with page_of(pairs, labels, scores=True) as server, opened(browser, server) as page:
        shown = page.locator("#choices button").all_inner_texts()
        assert [text.split("\n")[-1] for text in shown] == [*RUBRICS["temporal"], "cannot tell"]
        press(page, server, "5", answered=1)
        press(page, server, "0", answered=2)
    assert [label.score for label in read_labels(labels) if isinstance(label, Score)] == [5, None]


def test_an_answer_that_is_not_saved_is_said(browser: Any, pairs: Path, labels: Path) -> None:
    with page_of(pairs, labels) as server:
        page = browser.new_page()
        page.goto(server.address)
        page.wait_for_selector("#choices button")
    page.keyboard.press("s")  # the server is gone
    page.locator("#alert:visible").wait_for()
    assert "not saved" in page.locator("#alert").text_content()
    page.close()
    assert labels.read_bytes() == b""
