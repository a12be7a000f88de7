"""What docs/planning_llm.md and docs/video.md show runs, against a server made for the tests."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from fake_annotator import annotate
from fake_endpoint import FakeEndpoint

from kinalign.cli import COMMANDS, main
from kinalign.data.dataset import load_dataset
from kinalign.judge.client import KEY_VARIABLE
from kinalign.motion.synthetic import walking, waving
from kinalign.render.video import write_video

DOCS = Path(__file__).parent.parent / "docs"
SERVER = "http://localhost:8000/v1"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """An answer to whatever the pages ask: a new task at each time, steps, a scene, a verdict, captions."""
    schema = body["response_format"]["json_schema"]
    if schema["name"] == "ToldTask":
        answer.tasks += 1  # type: ignore[attr-defined]
        return {"task": f"The goalkeeper does exercise {answer.tasks}."}  # type: ignore[attr-defined]
    if schema["name"] == "ToldSteps":
        return {"steps": [{"step": text, "seconds": None} for text in ("marches", "kicks")], "cannot": ""}
    if schema["name"] == "ToldConsistency":
        return {"reason": "It fits.", "answer": "yes"}
    if schema["name"] == "ToldScene" and body["messages"][0]["content"][0]["text"].startswith("You plan"):
        return {"scene": "A goalkeeper warms up."}
    return annotate(body)


answer.tasks = 0  # type: ignore[attr-defined]


@pytest.fixture()
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    return tmp_path


def write_files(page: str, url: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    for name, content in re.findall(r"<!-- file: (\S+) -->\n```json\n(.*?)```", text, re.DOTALL):
        Path(name).write_text(content.replace(SERVER, url), encoding="utf-8")


def run_commands(page: str) -> None:
    for line in "".join(blocks(page, "sh")).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "kinalign"
        assert main(arguments) == 0, line


def test_the_commands_of_the_page_on_films_and_motions_run(folder: Path) -> None:
    write_video(waving(20), "film.mp4", size=96)
    for name, motion in (("wave", waving(50)), ("walk", walking(50))):
        motion.save(Path("mocap") / f"{name}.npy")
    with FakeEndpoint(answer=answer) as endpoint:
        write_files("video.md", endpoint.url)
        run_commands("video.md")
    raw = json.loads(Path("captions/raw/film.mp4.json").read_text(encoding="utf-8"))
    page = (DOCS / "video.md").read_text(encoding="utf-8")
    assert all(name in page for name in (*raw, *raw["caption_list"][0]["captions"][0]))
    assert {clip.id.removeprefix("M") for clip in load_dataset(Path("dataset"))} == {"wave", "walk"}


def test_the_python_of_the_page_on_plans_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeEndpoint(answer=answer) as endpoint:
        write_files("planning_llm.md", endpoint.url)
        for code in blocks("planning_llm.md", "python"):
            exec(code.replace(SERVER, endpoint.url), {})
    shown = capsys.readouterr().out
    assert "['A person marches.', 'A person kicks.']" in shown and "ct2t: 1.00 of" in shown


def test_the_commands_of_the_page_on_plans_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "plan" not in COMMANDS:
        pytest.skip("this checkout has no kinalign plan")
    with FakeEndpoint(answer=answer) as endpoint:
        write_files("planning_llm.md", endpoint.url)
        run_commands("planning_llm.md")
    assert "marches" in capsys.readouterr().out
