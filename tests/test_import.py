"""`import kinalign` is quick, and every public name is there when it is used."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import pytest

import kinalign


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_kinalign_takes_under_0_3_s() -> None:
    code = "import time; t = time.perf_counter(); import kinalign; print(time.perf_counter() - t)"
    # the best of three: the first may find a cold disk, and other tests run beside it
    assert min(float(run_python(code)) for _ in range(3)) < 0.3


def test_importing_kinalign_loads_no_torch() -> None:
    assert run_python("import kinalign, sys; print('torch' in sys.modules)").strip() == "False"


def test_a_motion_loads_no_torch() -> None:
    code = """
import sys, kinalign as ka
ka.Motion, ka.motion_to_features, ka.load_openmocap
print("torch" in sys.modules)
"""
    assert run_python(code).strip() == "False"


@pytest.mark.parametrize("name", kinalign.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(kinalign, name) is not None
    assert name in dir(kinalign)


def test_type_checkers_and_the_interpreter_find_a_name_in_the_same_module() -> None:
    for_type_checkers = {
        alias.name: node.module
        for node in ast.walk(ast.parse(inspect.getsource(kinalign)))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kinalign.")
        for alias in node.names
    }
    assert for_type_checkers == kinalign._HOMES
    assert {*for_type_checkers, "__version__"} == set(kinalign.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Moton'"):
        kinalign.Moton  # noqa: B018
