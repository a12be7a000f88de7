"""Films and motions in pictures: cut to pieces of some seconds, each shown in a few pictures spread over it.

A film is read twice: once without decoding, for the times of its frames, and once decoded, from beginning to end, of
which only the pictures that are shown are kept. A motion is drawn, as judges see it. No sound, no subtitles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import FormatError, KinalignError
from kinalign.motion.motion import READERS, Motion
from kinalign.render.figure import Picture, render_frames

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

FILMS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".gif")
MOTIONS = tuple(READERS)

SHORTEST_S = 0.5
"""Less shows no movement."""
SHORTEST_REST_S = 2.0
"""What is left over at the end and shorter than this is no piece of its own and is left out."""
LONGEST_STILL_S = 60.0
"""Between two frames of a film; more is taken for a broken clock."""
MISSING_S = 0.25
"""By which frames may end before the film says that it does."""
AZIMUTH_DEG = 35.0


class Piece(NamedTuple):
    """From when to when, in seconds and in frames, the end not included."""

    start_s: float
    end_s: float
    start_frame: int
    end_frame: int


@dataclass(frozen=True, eq=False)
class Footage(ABC):
    """A film or a motion: its name, frames a second, and when each frame is shown, (T,) seconds from the first."""

    path: Path
    name: str
    fps: float
    times_s: NDArray[np.float64]
    duration_s: float

    @property
    @abstractmethod
    def is_drawn(self) -> bool:
        """Whether it is a motion."""

    @property
    def whole(self) -> Piece:
        return Piece(0.0, self.duration_s, 0, len(self.times_s))

    def pieces(self, seconds: float) -> list[Piece]:
        """The whole in pieces of so many seconds; a rest of less than 2 s is left out."""
        starts = np.arange(0.0, self.duration_s - 1e-6, seconds)
        ends = [min(start + seconds, self.duration_s) for start in starts]
        return [
            Piece(float(start), float(end), *(int(n) for n in np.searchsorted(self.times_s, (start, end) - np.array(1e-6))))
            for start, end in zip(starts, ends)
            if end - start >= min(SHORTEST_REST_S, seconds) - 1e-6 or len(starts) == 1
        ]

    @abstractmethod
    def pictures(
        self, pieces: Sequence[Piece], *, number: int | Sequence[int], size: int
    ) -> Iterator[tuple[int, list[tuple[float, Picture]]]]:
        ...
