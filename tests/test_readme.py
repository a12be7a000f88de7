"""The README's code runs. A comment before a block says what it needs: model, data, or `not run: why`."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from kinalign.data.records import data_root
from kinalign.errors import DataError

ROOT = Path(__file__).parent.parent
SHIPPED_MODEL = ROOT / "models" / "openmocap-base" / "config.json"
README = (ROOT / "README.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    language: str
    code: str
    note: str
    """What the comment before it says, such as "needs: model"."""


BLOCKS = [
    Block(language=match["language"], code=match["code"], note=match["note"] or "")
    for match in re.finditer(
        r"(?:<!-- (?P<note>(?:needs|not run): .*?) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```", README, re.DOTALL
    )
]
PYTHON = [block for block in BLOCKS if block.language == "python"]
SHELL = [block for block in BLOCKS if block.language == "sh" and "kinalign " in block.code]
IN_TURN = """
import io, json, runpy, sys
from kinalign.cli import main
for words, lines in json.loads(sys.argv[1]):
    sys.stdin = io.StringIO(lines)
    if words[0] == "kinalign":
        assert main(words[1:]) == 0, words
    else:
        sys.argv = words[2:]
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
"""
"""Runs lines one after the other in a process of their own: starting one for each would take longer than the lines."""


def why_not(block: Block) -> str:
    """Why a block cannot run here; empty where it can."""
    if block.note.startswith("not run"):
        return f"the README says: {block.note}"
    if block.note == "needs: model" and not SHIPPED_MODEL.is_file():
        return "models/openmocap-base is not in this checkout"
    if block.note == "needs: data":
        try:
            data_root()
        except DataError as error:
            return str(error)
    return ""


def run_in(folder: Path, arguments: list[str]) -> str:
    try:
        data = {"KINALIGN_DATA": str(data_root().resolve())}
    except DataError:
        data = {}
    environment = {**os.environ, **data, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    answer = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def run_lines(block: Block, folder: Path) -> str:
    """What the commands of a block print, one after the other, in a folder that is like a clone."""
    for name in set(re.findall(r"models/[\w-]+", block.code)):
        shutil.copytree(ROOT / name, folder / name)
    in_turn = []
    for line in block.code.replace("\\\n", " ").splitlines():
        said, _, command = line.rpartition(" | ")
        words = shlex.split(command)
        assert words[0] == "kinalign" or words[:2] == ["python", "-m"]
        # printf 'one\ntwo\n' | kinalign chat
        in_turn.append((words, ast.literal_eval(f'"{shlex.split(said)[1]}"') if said else ""))
    return run_in(folder, ["-c", IN_TURN, json.dumps(in_turn)])


def test_each_python_block_runs_by_itself(tmp_path: Path) -> None:
    each = "import json, sys\nfor code in json.loads(sys.argv[1]):\n    exec(code, {'__name__': '__main__'})"
    able = [block.code for block in PYTHON if not why_not(block)]
    run_in(tmp_path, ["-c", each, json.dumps(able)])
    if len(able) < len(PYTHON):
        pytest.skip("; ".join(dict.fromkeys(filter(None, map(why_not, PYTHON)))))


# what the tiny model's block prints is asked in test_tiny_recipe.py, where it runs
@pytest.mark.parametrize(
    "block",
    [block for block in SHELL if "recipes.tiny" not in block.code],
    ids=lambda block: " ".join(block.code.split()[:3]),
)
def test_a_shell_block_runs_line_by_line(block: Block, tmp_path: Path) -> None:
    if reason := why_not(block):
        pytest.skip(reason)
    run_lines(block, tmp_path)


def test_a_note_is_one_that_is_understood() -> None:
    known = ("", "needs: model", "needs: data")
    assert all(block.note in known or block.note.startswith("not run: ") for block in BLOCKS)


def test_there_are_two_commands_to_set_up() -> None:
    assert [line.split("#")[0].strip() for line in BLOCKS[0].code.splitlines()] == ["make demo", "make test"]


def test_every_file_that_the_map_names_is_there() -> None:
    named = [ROOT / path for path in re.findall(r"^\| `([^`]+)` \|", README, re.MULTILINE)]
    assert named
    assert [path for path in named if not path.exists()] == []


def test_every_link_leads_to_a_file() -> None:
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    dead = [
        f"{document.name}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert dead == []
