"""What all tests share: one thread, and the real clips and a browser where they are there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch

from kinalign.data.openmocap import load_openmocap
from kinalign.data.records import Clip, data_root
from kinalign.errors import DataError

# several test processes with several threads each stand in one another's way
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def openmocap() -> Callable[[str], list[Clip]]:
    """`openmocap("test")` is the clips of that split; the test is skipped where openmocap20 is not on this machine."""
    try:
        root = data_root() / "openmocap20"
    except DataError:
        root = None
    if root is None or not root.is_dir():
        pytest.skip("openmocap20 is not here: set KINALIGN_DATA to the folder that holds it")

    @cache
    def clips(split: str) -> list[Clip]:
        return load_openmocap(root, split=split)

    return clips


BROWSER_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_ARGS = (
    "--no-sandbox --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader --disable-background-networking "
    "--no-first-run --disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    chromium = os.environ.get("KINALIGN_CHROMIUM") or next(filter(None, map(shutil.which, BROWSER_NAMES)), None)
    if chromium is None:
        pytest.skip("no Chromium or Chrome found; install one or set KINALIGN_CHROMIUM to its path")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=BROWSER_ARGS)
        yield browser
        browser.close()
