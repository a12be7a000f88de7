"""What all tests share: one thread, and the real clips where they are there."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

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
