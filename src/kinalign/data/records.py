"""A clip of a data set: a motion with its captions and where it comes from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kinalign.errors import DataError
from kinalign.motion.motion import Motion

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Clip:
    """A motion, its captions, its source and licence. `label` and `style` are the source's own names where it has any."""

    id: str
    motion: Motion
    captions: tuple[str, ...]
    source: str
    license: str
    split: Split
    label: str = ""
    style: str = ""


def data_root() -> Path:
    """The folder that holds data sets: $KINALIGN_DATA, else `shared/data` beside the current folder or its parent.

    Raises DataError when none is there.
    """
    named = os.environ.get("KINALIGN_DATA")
    places = [Path(named)] if named else [Path("shared/data"), Path("../shared/data")]
    for place in places:
        if place.is_dir():
            return place
    looked = ", ".join(str(place) for place in places)
    raise DataError(f"no data folder (looked at {looked}); set KINALIGN_DATA to the folder that holds openmocap20")
