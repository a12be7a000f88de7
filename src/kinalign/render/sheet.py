"""A motion on one page: frames in time order with their times, as a judge or a reader sees it.

Time runs from left to right, then down. Several motions make a gallery, one row each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kinalign.errors import ConfigError, FormatError
from kinalign.motion.motion import Motion
from kinalign.render.camera import Camera, Framing
from kinalign.render.figure import Picture, render_frames
from kinalign.run import write_atomically

INK = (38, 40, 48)
FAINT = (117, 115, 110)
PAPER = (255, 255, 255)
GAP = 2
"""Pixels of paper between frames."""
MAX_CAPTION_LINES = 4


def frame_indices(motion: Motion, *, num_frames: int = 8, every: int | None = None) -> list[int]:
    """Indices of frames in time order: `num_frames` from the first to the last, or one in `every`.

    A motion with fewer frames than asked for gives each of its frames once. Raises ConfigError for numbers below 1.
    """
    if num_frames < 1 or (every is not None and every < 1):
        raise ConfigError(f"num_frames={num_frames} and every={every} must be 1 or more")
    if every is not None:
        return list(range(0, len(motion), every))
    spread = np.linspace(0, len(motion) - 1, min(num_frames, len(motion)))
    return [int(frame) for frame in np.rint(spread)]


def contact_sheet(
    motion: Motion,
    *,
    num_frames: int = 8,
    every: int | None = None,
    size: int = 256,
    columns: int | None = None,
    camera: Camera | Framing = "follow",
    azimuth_deg: float = 35.0,
    caption: bool = True,
) -> Picture:
    """A sheet (H, W, 3) uint8 of frames in time order, each with its second and its index, under the caption.

    `size` is the side of a frame in pixels; there are at most 4 `columns` unless given. The camera "fixed" shows how
    far a body goes, "follow" shows it larger. Raises ConfigError for settings that give no picture.
    """
    frames = frame_indices(motion, num_frames=num_frames, every=every)
    columns = min(4, len(frames)) if columns is None else columns
    if columns < 1:
        raise ConfigError(f"columns={columns} must be 1 or more")
    cells = _cells(motion, frames, size=size, camera=camera, azimuth_deg=azimuth_deg)
    page = _stack([_row(cells[first : first + columns], columns) for first in range(0, len(cells), columns)])
    if not (caption and motion.caption):
        return page
    return np.vstack((caption_strip(motion.caption, page.shape[1], font_px=_font_px(size)), page))


def gallery(
    motions: Sequence[Motion],
    *,
    num_frames: int = 8,
    size: int = 192,
    camera: Camera | Framing = "follow",
    azimuth_deg: float = 35.0,
) -> Picture:
    """A sheet (H, W, 3) uint8 of several motions, one row each under its caption; time runs from left to right."""
    if not motions:
        raise ConfigError("a gallery needs at least one motion; this list is empty")
    chosen = [frame_indices(motion, num_frames=num_frames) for motion in motions]
    columns = max(map(len, chosen))
    strips = []
    for motion, frames in zip(motions, chosen):
        row = _row(_cells(motion, frames, size=size, camera=camera, azimuth_deg=azimuth_deg), columns)
        strips += [caption_strip(motion.caption, row.shape[1], font_px=_font_px(size)), row]
    return np.vstack(strips)


def write_sheet(
    motion: Motion | Sequence[Motion],
    path: str | Path,
    *,
    num_frames: int = 8,
    size: int = 256,
    camera: Camera | Framing = "follow",
    azimuth_deg: float = 35.0,
    colours: int | None = None,
) -> Path:
    """Write the contact sheet of a motion, or the gallery of several, as PNG; the file is whole or not there at all.

    So many `colours`, 64 for instance, make a file small enough for a repository; None keeps them all.
    """
    path = Path(path)
    require_suffix(path, (".png",))
    if isinstance(motion, Motion):
        sheet = contact_sheet(motion, num_frames=num_frames, size=size, camera=camera, azimuth_deg=azimuth_deg)
    else:
        sheet = gallery(motion, num_frames=num_frames, size=size, camera=camera, azimuth_deg=azimuth_deg)
    picture = Image.fromarray(sheet) if colours is None else Image.fromarray(sheet).quantize(colours)
    return write_atomically(path, lambda temporary: picture.save(temporary, optimize=True))


def require_suffix(path: Path, suffixes: Sequence[str]) -> None:
    """Raise FormatError unless `path` ends in one of `suffixes`, in any case."""
    if path.suffix.lower() not in suffixes:
        raise FormatError(f"cannot write {path.name!r}: suffix {path.suffix!r} is unknown; use {', '.join(suffixes)}")


def caption_strip(text: str, width: int, *, font_px: int = 18) -> Picture:
    """A white strip (H, width, 3) uint8 with a text, broken into as many lines as it needs, up to a few."""
    font, margin = _font(font_px), font_px // 2 + 2
    lines = _wrapped(text, font, width - 2 * margin)
    strip = Image.new("RGB", (width, 2 * margin + round(1.3 * font_px * len(lines))), PAPER)
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(lines):
        draw.text((margin, margin + round(1.3 * font_px * number)), line, fill=INK, font=font)
    return np.asarray(strip)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Lines that fit a width in pixels; a word that does not is broken, and what is too long ends in dots."""
    lines, line = [], ""
    for word in text.split():
        while word:
            joined = f"{line} {word}".strip()
            if font.getlength(joined) <= width:
                line, word = joined, ""
            elif line:
                lines.append(line)
                line = ""
            else:
                fits = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or font.getlength(word[:n]) <= width)
                lines.append(word[:fits])
                word = word[fits:]
            if len(lines) > MAX_CAPTION_LINES:
                last = lines[MAX_CAPTION_LINES - 1]
                return [*lines[: MAX_CAPTION_LINES - 1], f"{last[: max(len(last) - 3, 1)]} ..."]
    return [*lines, line] if line else lines


def _cells(
    motion: Motion, frames: Sequence[int], *, size: int, camera: Camera | Framing, azimuth_deg: float
) -> list[Picture]:
    """Pictures of frames, each with its time and its index in the lower corners."""
    pictures = render_frames(motion, size=size, camera=camera, azimuth_deg=azimuth_deg, frames=frames, samples=3)
    font_px = max(9, round(0.8 * _font_px(size)))
    font, baseline = _font(font_px), size - font_px // 2
    cells = []
    for frame, picture in zip(frames, pictures):
        cell = Image.fromarray(picture)
        draw = ImageDraw.Draw(cell)
        draw.text((font_px // 2, baseline), f"{frame / motion.fps:.2f} s", fill=INK, font=font, anchor="ls")
        draw.text((size - font_px // 2, baseline), f"frame {frame}", fill=FAINT, font=font, anchor="rs")
        cells.append(np.asarray(cell))
    return cells


def _row(cells: Sequence[Picture], columns: int) -> Picture:
    """Cells side by side, with paper in place of those that are missing."""
    size = cells[0].shape[0]
    row = np.full((size, columns * (size + GAP) - GAP, 3), PAPER, np.uint8)
    for column, cell in enumerate(cells):
        row[:, column * (size + GAP) : column * (size + GAP) + size] = cell
    return row


def _stack(rows: Sequence[Picture]) -> Picture:
    gap = np.full((GAP, rows[0].shape[1], 3), PAPER, np.uint8)
    return np.vstack([strip for row in rows for strip in (row, gap)][:-1])


def _font_px(size: int) -> int:
    return max(11, size // 15)


@lru_cache(maxsize=8)
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size_px)
