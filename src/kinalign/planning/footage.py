"""Films and motions in pictures: cut to pieces of some seconds, each shown in a few pictures spread over it.

A film is read twice: without decoding, for the times of its frames, and decoded from beginning to end, of which only
the pictures that are shown are kept. A motion is drawn, as the judge that looks sees it. No sound, no subtitles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import FormatError
from kinalign.motion.motion import READERS, Motion
from kinalign.render.figure import Picture, render_frames
from kinalign.render.sheet import frame_indices

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer

FILMS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".gif")
MOTIONS = tuple(READERS)

SHORTEST_S = 0.5
"""Less shows no movement."""
SHORTEST_REST_S = 2.0
"""A rest that is shorter than this is no piece of its own."""
LONGEST_STILL_S = 60.0
"""Between two frames of a film; more is taken for broken timestamps."""
MISSING_S = 0.25
"""What may be absent at the end of a film that says how long it is."""
GIF_END = b";"


class Piece(NamedTuple):
    """From when up to when, in seconds and in frames."""

    start_s: float
    end_s: float
    start_frame: int
    end_frame: int


class Shown(NamedTuple):
    """A picture (H, W, 3) uint8 and its second in the footage."""

    at_s: float
    picture: Picture


@dataclass(frozen=True, eq=False)
class Footage(ABC):
    """What can be looked at: frames a second, when each of its frames is shown, (T,) seconds, and how long it lasts."""

    path: Path
    fps: float
    times_s: NDArray[np.float64]
    duration_s: float

    @property
    def whole(self) -> Piece:
        return Piece(0.0, self.duration_s, 0, len(self.times_s))

    def pieces(self, seconds: float) -> list[Piece]:
        """The footage in pieces of so many seconds; a rest of less than 2 s is left out."""
        if self.duration_s <= seconds + SHORTEST_REST_S / 4:
            return [self.whole]
        bounds_s = [*np.arange(0.0, self.duration_s - 1e-6, seconds), self.duration_s]
        frames = np.searchsorted(self.times_s, np.array(bounds_s) - 1e-6)
        return [
            Piece(float(bounds_s[n]), float(bounds_s[n + 1]), int(frames[n]), int(frames[n + 1]))
            for n in range(len(bounds_s) - 1)
            if bounds_s[n + 1] - bounds_s[n] >= min(seconds, SHORTEST_REST_S) - 1e-6
        ]

    @abstractmethod
    def look(self, pieces: Sequence[Piece], *, num_pictures: Sequence[int], size: int) -> Iterator[list[Shown]]:
        """Of each piece as many pictures as are asked for, from its first to its last frame, `size` pixels at most.

        A piece with fewer frames gives each once. Pieces come in the order of their ends, and one of another's end
        after it in the order given. Raises FormatError where the film cannot be decoded.
        """
