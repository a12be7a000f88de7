"""The house's floors stand, and the linter that guards them sees a breach."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.path.insert(0, 'src'); import importlinter.cli as c; c.lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=folder, capture_output=True, text=True, encoding="utf-8"
    )


@pytest.fixture()
def house(tmp_path: Path) -> Path:
    """A copy of the source to break things in."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_floors_stand(house: Path) -> None:
    answer = lint_imports(house)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize(
    ("room", "breach"),
    [
        ("motion/motion.py", "import kinalign.render.figure"),
        ("tokenizer/__init__.py", "import kinalign.lm"),
        ("lm/__init__.py", "import kinalign.motion.motion"),
        ("motion/skeleton.py", "import torch"),
    ],
)
def test_an_import_that_goes_up_or_sideways_is_found(house: Path, room: str, breach: str) -> None:
    file = house / "src" / "kinalign" / room
    file.write_text(f"{file.read_text(encoding='utf-8')}\n{breach}\n", encoding="utf-8")
    answer = lint_imports(house)
    assert answer.returncode == 1
    assert "BROKEN" in answer.stdout


def test_a_room_without_a_floor_is_found(house: Path) -> None:
    (house / "src" / "kinalign" / "attic.py").write_text("", encoding="utf-8")
    answer = lint_imports(house)
    assert answer.returncode == 1
    assert "kinalign.attic" in answer.stdout
