"""A clip of a data set: a motion with its captions and where it comes from."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kinalign.errors import DataError
from kinalign.motion.motion import Motion

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class CaptionSpan:
    """Captions of a part of a clip: of its frames from `start` up to, not including, `end`."""

    start: int
    end: int
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Clip:
    """A motion, its captions, its source and licence. `label` and `style` are the source's own names where it has any.

    `spans` are the captions that speak of a part only; they stand in `captions` too. `parent` is the id of the clip
    that this one is a piece or a mirror image of.
    """

    id: str
    motion: Motion
    captions: tuple[str, ...]
    source: str
    license: str
    split: Split
    label: str = ""
    style: str = ""
    spans: tuple[CaptionSpan, ...] = ()
    parent: str = ""

    def by_captions(self) -> list[Clip]:
        """The clip with the captions of its whole, and each span as a clip of its own, named ID@START-END.

        Where all captions speak of parts, only the parts are left. A span that ends after the clip ends with it.
        """
        of_parts = {caption for span in self.spans for caption in span.captions}
        of_whole = tuple(caption for caption in self.captions if caption not in of_parts)
        clips = [replace(self, captions=of_whole, spans=())] if of_whole or not self.spans else []
        for span in self.spans:
            motion = replace(self.motion[span.start : span.end], caption=span.captions[0])
            name = f"{self.id}@{span.start}-{span.end}"
            clips.append(
                replace(self, id=name, motion=motion, captions=span.captions, spans=(), parent=self.parent or self.id)
            )
        return clips


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
