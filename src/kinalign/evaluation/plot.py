"""A report at a glance: for each number a small panel, a dot for each system and a bar for its 95 % interval."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from kinalign.evaluation.report import METRICS, TASKS, TRUTH, Cell, Report
from kinalign.run import write_atomically

COLUMNS, SCALE = 5, 2
WIDTH, LINE, TOP, GAP = 264, 20, 34, 18
"""A panel's width, a system's height in it, its title's height, and the space around: pixels before scaling."""
LABEL, NUMBER = 126, 44
"""Pixels of a panel that hold the systems' names, at its left, and their numbers, at its right."""
DARK, PALE, OURS = (40, 40, 40), (200, 200, 200), (200, 80, 30)


def plot_report(report: Report, path: Path) -> Path:
    """Write a PNG with the numbers of all clips together: the evaluated system in colour, the truth as a line."""
    sections = []
    for task in TASKS:
        rows = {row.system: row.cells for row in report.rows if row.task == task and row.group == "all"}
        names = dict.fromkeys(name for cells in rows.values() for name in cells)
        panels = [(name, {system: cells[name] for system, cells in rows.items() if name in cells}) for name in names]
        if panels:
            sections.append((TASKS[task], panels, TOP + LINE * len(rows)))
    heights = [TOP + -(-len(panels) // COLUMNS) * (height + GAP) for _, panels, height in sections]
    page = Image.new("RGB", (SCALE * (COLUMNS * (WIDTH + GAP) + GAP), SCALE * (sum(heights) + GAP)), "white")
    draw = ImageDraw.Draw(page)
    top = GAP
    for (title, panels, height), section in zip(sections, heights):
        draw.text((SCALE * GAP, SCALE * top), title, fill=DARK, font=_font(15))
        for number, (name, cells) in enumerate(panels):
            left = GAP + number % COLUMNS * (WIDTH + GAP)
            _panel(draw, left, top + TOP + number // COLUMNS * (height + GAP), name, cells, ours=report.system)
        top += section
    return write_atomically(path, lambda temporary: page.save(temporary, format="PNG"))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(SCALE * size)


def _panel(draw: ImageDraw.ImageDraw, left: int, top: int, name: str, cells: dict[str, Cell], *, ours: str) -> None:
    metric = METRICS[name]
    title = f"{metric.title} ({_WAYS[metric.better]})".replace("³", "^3")  # which the font has not
    draw.text((SCALE * left, SCALE * top), title, fill=DARK, font=_font(11))
    spans = [(cell.mean, cell.interval or 0.0) for cell in cells.values() if cell.mean is not None]
    low = min((mean - half for mean, half in spans), default=0.0)
    high = max((mean + half for mean, half in spans), default=1.0)
    margin = 0.08 * (high - low) or 1.0

    def x(value: float) -> float:
        share = (value - low + margin) / (high - low + 2 * margin)
        return SCALE * (left + LABEL + share * (WIDTH - LABEL - NUMBER))

    first, last = SCALE * (top + LINE), SCALE * (top + LINE * (1 + len(cells)))
    truth = cells.get(TRUTH)
    if truth is not None and truth.mean is not None:
        draw.line((x(truth.mean), first, x(truth.mean), last), fill=PALE, width=SCALE)
    for row, (system, cell) in enumerate(cells.items(), start=1):
        y = SCALE * (top + LINE * row + LINE // 2)
        colour = OURS if system == ours else DARK
        draw.text((SCALE * left, y - SCALE * 6), system[:24], fill=colour, font=_font(9))
        if cell.mean is None:
            draw.text((SCALE * (left + LABEL), y - SCALE * 6), cell.note, fill=PALE, font=_font(9))
            continue
        half = cell.interval or 0.0
        draw.line((x(cell.mean - half), y, x(cell.mean + half), y), fill=colour, width=SCALE)
        radius = 3 * SCALE
        draw.ellipse((x(cell.mean) - radius, y - radius, x(cell.mean) + radius, y + radius), fill=colour)
        number = f"{cell.mean:.{metric.digits}f}"
        draw.text((SCALE * (left + WIDTH), y - SCALE * 6), number, fill=colour, font=_font(9), anchor="ra")


_WAYS = {"↑": "higher is better", "↓": "lower is better", "→": "as the real ones"}
