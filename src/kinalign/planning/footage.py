"""Films and motions in pictures: cut to pieces of some seconds, each shown in a few pictures spread over it.

A film is read twice: without decoding, for the times of its frames, and decoded from beginning to end, of which only
the pictures that are shown are kept. A motion is drawn, as the judge that looks sees it. No sound, no subtitles.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kinalign.errors import FormatError
from kinalign.motion.motion import READERS, Motion
from kinalign.render.figure import Picture, render_frames
from kinalign.render.sheet import frame_indices

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

FILMS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".gif")
MOTIONS = tuple(READERS)

SHORTEST_S = 0.5
"""Less shows no movement."""
SHORTEST_REST_S = 2.0
"""A rest that is shorter than this is no piece of its own."""
LONGEST_STILL_S = 60.0
"""Between two frames of a film; more is taken for broken timestamps."""
MISSING_S = 0.25
"""What may be absent at the end of a film without its being cut short."""
AZIMUTH_DEG = 35.0


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


class Wanted(NamedTuple):
    """A piece, and how many pictures of it."""

    piece: Piece
    num_pictures: int


@dataclass(frozen=True, eq=False)
class Footage(ABC):
    """What can be looked at: the second at which each frame is shown, from 0 on, frames a second, and how long."""

    path: Path
    times_s: Sequence[float]
    fps: float
    duration_s: float

    @property
    def whole(self) -> Piece:
        return Piece(0.0, self.duration_s, 0, len(self.times_s))

    def pieces(self, seconds: float) -> list[Piece]:
        """The footage in pieces of so many seconds; a rest of less than 2 s is left out."""
        if self.duration_s <= seconds:
            return [self.whole]
        bounds_s = [number * seconds for number in range(int(self.duration_s / seconds) + 1)]
        if self.duration_s - bounds_s[-1] >= min(seconds, SHORTEST_REST_S):
            bounds_s.append(self.duration_s)
        # a microsecond, because a second of a film is a fraction that was rounded
        frames = [bisect_left(self.times_s, bound_s - 1e-6) for bound_s in bounds_s]
        return [Piece(*seconds, *numbers) for seconds, numbers in zip(pairwise(bounds_s), pairwise(frames))]

    @abstractmethod
    def look(self, wanted: Sequence[Wanted], *, size: int) -> Iterator[list[Shown]]:
        """Pictures of pieces, which come in the order of their ends: of each from its first frame to its last.

        `size` is the longer side in pixels, at most. A piece with fewer frames gives each of them once. Raises
        FormatError where a film turns out to be damaged.
        """


class MotionFootage(Footage):
    """A motion, drawn piece by piece under a camera that stands still."""

    @staticmethod
    def read(path: Path) -> MotionFootage:
        """Raises FormatError for a file that is no motion, and for one of less than half a second."""
        motion = Motion.load(path)
        times_s = [frame / motion.fps for frame in range(len(motion))]
        return MotionFootage(path, times_s, motion.fps, _long_enough(path, len(motion) / motion.fps))

    def look(self, wanted: Sequence[Wanted], *, size: int) -> Iterator[list[Shown]]:
        motion = Motion.load(self.path)
        for piece, num_pictures in wanted:
            part = motion[piece.start_frame : piece.end_frame]
            frames = frame_indices(part, num_frames=num_pictures)
            pictures = render_frames(part, size=size, camera="fixed", azimuth_deg=AZIMUTH_DEG, frames=frames)
            yield [
                Shown(self.times_s[piece.start_frame + frame], picture) for frame, picture in zip(frames, pictures)
            ]


@dataclass(frozen=True, eq=False)
class FilmFootage(Footage):
    """A film; `origin_s` is the timestamp of its first frame."""

    origin_s: float

    @staticmethod
    def read(path: Path) -> FilmFootage:
        """The times of a film's frames, without decoding them.

        Raises FormatError for a file that is no film, has no picture, ends before its end, lasts less than half a
        second, or whose timestamps are broken.
        """
        with _opened(path) as (container, stream):
            stamps, ends_s = [], [0.0]
            for packet in container.demux():
                if not packet.size or packet.is_discard:  # the mark of the end; a frame before the beginning
                    continue
                if packet.pts is not None and packet.time_base is not None:
                    ends_s.append(float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream is stream:
                    stamps.append(packet.pts)
            told_s = 0.0 if container.duration is None else container.duration / 1e6
            rate, base_s = stream.average_rate, float(stream.time_base or 0)
        if not stamps:
            raise FormatError(f"{path} has no frame; export it again")
        known = sorted(stamp for stamp in stamps if stamp is not None)
        if absent := len(stamps) - len(known):
            raise _broken(path, f"{absent} of {len(stamps)} frames have none")
        if twice := len(known) - len(set(known)):
            raise _broken(path, f"{twice} of {len(stamps)} frames have that of another")
        times_s = [(stamp - known[0]) * base_s for stamp in known]
        still_s = max((later - earlier for earlier, later in pairwise(times_s)), default=0.0)
        if still_s > LONGEST_STILL_S:
            raise _broken(path, f"{still_s:.0f} s from one frame to the next, where {LONGEST_STILL_S:.0f} are allowed")
        if told_s - max(ends_s) > MISSING_S or (path.suffix.lower() == ".gif" and not _has_gif_end(path)):
            raise _cut_short(path, max(ends_s))
        fps = float(rate) if rate else (len(times_s) - 1) / max(times_s[-1], base_s)
        return FilmFootage(
            path, times_s, fps, _long_enough(path, times_s[-1] + 1 / fps), origin_s=known[0] * base_s
        )

    def look(self, wanted: Sequence[Wanted], *, size: int) -> Iterator[list[Shown]]:
        chosen = [_spread(piece, num_pictures) for piece, num_pictures in wanted]
        uses = Counter(frame for frames in chosen for frame in frames)
        decoded = self._decode(sorted(uses), size)
        kept: dict[int, Shown] = {}
        for frames in chosen:
            while frames[-1] not in kept:
                frame, picture = next(decoded)
                kept[frame] = Shown(self.times_s[frame], picture)
            yield [kept[frame] for frame in frames]
            uses.subtract(frames)
            kept = {frame: shown for frame, shown in kept.items() if uses[frame]}

    def _decode(self, frames: Sequence[int], size: int) -> Iterator[tuple[int, Picture]]:
        """Frames by their numbers, each with its picture; where one is missing, the one after it."""
        due = deque(frames)
        with _opened(self.path) as (container, stream):
            frame, at_s = None, -1.0
            for frame in container.decode(stream):
                before_s, at_s = at_s, float(frame.time or 0.0) - self.origin_s
                if frame.time is None or at_s <= before_s:
                    raise _broken(self.path, f"after {before_s:.2f} s comes {at_s:.2f}")
                while due and self.times_s[due[0]] <= at_s + 1e-6:
                    yield due.popleft(), _picture(frame, size)
                if not due:
                    return
            if frame is None or self.times_s[due[0]] - at_s > MISSING_S:
                raise _cut_short(self.path, at_s)
            for number in due:
                yield number, _picture(frame, size)


def read_footage(path: Path) -> Footage:
    """The film or motion in a file; raises FormatError for what is neither, and for one that cannot be shown."""
    suffix = path.suffix.lower()
    if suffix in MOTIONS:
        return MotionFootage.read(path)
    if suffix in FILMS:
        return FilmFootage.read(path)
    raise FormatError(f"cannot look at {path.name!r}: suffix {suffix!r} is unknown; use {', '.join(FILMS + MOTIONS)}")


def _spread(piece: Piece, num_pictures: int) -> list[int]:
    """Frames from the first to the last; of a film that stands still throughout a piece, the one that is shown."""
    last = piece.end_frame - 1
    first = min(piece.start_frame, last)
    return [int(frame) for frame in np.rint(np.linspace(first, last, min(num_pictures, last - first + 1)))]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A film and its pictures; errors of the decoder become FormatError."""
    import av

    try:
        with av.open(str(path)) as container:
            # the picture on the sleeve of a piece of music is none
            streams = [
                stream
                for stream in container.streams.video
                if not stream.disposition & av.stream.Disposition.attached_pic
            ]
            if not streams:
                raise FormatError(f"{path} has no video stream; name a film")
            yield container, streams[0]
    except av.FFmpegError as error:
        raise FormatError(f"{path} cannot be read as a film ({error.strerror}); it is damaged or cut short") from error


def _picture(frame: VideoFrame, size: int) -> Picture:
    """Upright, and no longer side above `size` pixels."""
    scale = min(1.0, size / max(frame.width, frame.height))
    width, height = (max(1, round(scale * side)) for side in (frame.width, frame.height))
    picture = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA")
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))


def _long_enough(path: Path, duration_s: float) -> float:
    if duration_s < SHORTEST_S:
        raise FormatError(f"{path} lasts {duration_s:.2f} s; {SHORTEST_S} s or more can show a movement")
    return duration_s


def _broken(path: Path, what: str) -> FormatError:
    return FormatError(f"{path} has broken timestamps: {what}; encode it again at a constant frame rate")


def _cut_short(path: Path, end_s: float) -> FormatError:
    return FormatError(f"{path} is cut short: it breaks off after {max(end_s, 0):.2f} s; copy or export it again")


def _has_gif_end(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 64), os.SEEK_END)
        return file.read().rstrip(b"\0").endswith(b";")
