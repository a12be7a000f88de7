"""A report at a glance: for each number a small panel, a dot for each row and a bar for its 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from kinalign.evaluation.report import METRICS, TASKS, TRUTH, Cell, Metric, Report
from kinalign.run import write_atomically

COLUMNS, SCALE = 5, 2
WIDTH, LINE, TOP, GAP = 264, 20, 34, 18
"""A panel's width, a system's height in it, its title's height, and the space around: pixels before scaling."""
LABEL, NUMBER = 126, 44
"""Pixels of a panel that hold the systems' names, at its left, and their numbers, at its right."""
DARK, PALE, OURS = (40, 40, 40), (200, 200, 200), (200, 80, 30)


class Span(NamedTuple):
    """A number with its 95 % interval, or why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


class Panel(NamedTuple):
    """One metric: a line for each row, by its name."""

    metric: Metric
    rows: dict[str, Span]


def plot_report(report: Report, path: Path) -> Path:
    """Write a PNG with the numbers of all clips together: the evaluated system in colour, the truth as a line."""
    sections = []
    for task in TASKS:
        rows = {row.system: row.cells for row in report.rows if row.task == task and row.group == "all"}
        names = dict.fromkeys(name for cells in rows.values() for name in cells)
        panels = [
            Panel(METRICS[name], {system: _span(cells[name]) for system, cells in rows.items() if name in cells})
            for name in names
        ]
        sections.append((TASKS[task], panels))
    return plot_panels(sections, path, ours=report.system, line=TRUTH)


def _span(cell: Cell) -> Span:
    if cell.mean is None:
        return Span(None, note=cell.note)
    half = cell.interval or 0.0
    return Span(cell.mean, cell.mean - half, cell.mean + half)


def plot_panels(sections: Sequence[tuple[str, list[Panel]]], path: Path, *, ours: str, line: str) -> Path:
    """Sections one under the other; the row `ours` in colour, the place of the row `line` drawn through all."""
    sections = [(title, panels) for title, panels in sections if panels]
    tall = [TOP + LINE * max(len(panel.rows) for panel in panels) for _, panels in sections]
    heights = [TOP + -(-len(panels) // COLUMNS) * (height + GAP) for (_, panels), height in zip(sections, tall)]
    page = Image.new("RGB", (SCALE * (COLUMNS * (WIDTH + GAP) + GAP), SCALE * (sum(heights) + GAP)), "white")
    draw = ImageDraw.Draw(page)
    top = GAP
    for (title, panels), height, section in zip(sections, tall, heights):
        draw.text((SCALE * GAP, SCALE * top), title, fill=DARK, font=_font(15))
        for number, panel in enumerate(panels):
            left = GAP + number % COLUMNS * (WIDTH + GAP)
            _panel(draw, left, top + TOP + number // COLUMNS * (height + GAP), panel, ours=ours, line=line)
        top += section
    return write_atomically(path, lambda temporary: page.save(temporary, format="PNG"))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(SCALE * size)


def _panel(draw: ImageDraw.ImageDraw, left: int, top: int, panel: Panel, *, ours: str, line: str) -> None:
    metric, rows = panel
    title = f"{metric.title} ({_WAYS[metric.better]})".translate(_PLAIN)
    draw.text((SCALE * left, SCALE * top), title, fill=DARK, font=_font(11))
    known = [bound for span in rows.values() for bound in span[:3] if bound is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    margin = 0.08 * (high - low) or 1.0

    def x(value: float) -> float:
        share = (value - low + margin) / (high - low + 2 * margin)
        return SCALE * (left + LABEL + share * (WIDTH - LABEL - NUMBER))

    first, last = SCALE * (top + LINE), SCALE * (top + LINE * (1 + len(rows)))
    through = rows.get(line)
    if through is not None and through.value is not None:
        draw.line((x(through.value), first, x(through.value), last), fill=PALE, width=SCALE)
    for row, (name, span) in enumerate(rows.items(), start=1):
        y = SCALE * (top + LINE * row + LINE // 2)
        colour = OURS if name == ours else DARK
        draw.text((SCALE * left, y - SCALE * 6), name[:24], fill=colour, font=_font(9))
        if span.value is None:
            draw.text((SCALE * (left + LABEL), y - SCALE * 6), span.note, fill=PALE, font=_font(9))
            continue
        if span.low is not None and span.high is not None:
            draw.line((x(span.low), y, x(span.high), y), fill=colour, width=SCALE)
        radius = 3 * SCALE
        draw.ellipse((x(span.value) - radius, y - radius, x(span.value) + radius, y + radius), fill=colour)
        number = f"{span.value:.{metric.digits}f}"
        draw.text((SCALE * (left + WIDTH), y - SCALE * 6), number, fill=colour, font=_font(9), anchor="ra")


_PLAIN = str.maketrans({"³": "^3", "±": "+-", "–": "-"})
"""What the font has not, in what it has."""
_WAYS = {"↑": "higher is better", "↓": "lower is better", "→": "as the real ones"}
