"""A page of a long motion and its plan side by side: each step is a way to its moment in the player."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from kinalign.motion.motion import FPS
from kinalign.planning.compose import LongMotion, Shown
from kinalign.render.player import asset, fill_page, json_for_html, player_page
from kinalign.run import write_atomically


def write_plan_page(long: LongMotion, path: str | Path, *, title: str, facts: str = "") -> Path:
    """Write one self-contained page: the motion in a player, its tasks and steps beside it, `facts` under the title."""
    grouped = groupby(long.shown, key=lambda shown: shown.segment.task)
    player = player_page([long.motion], title="", events=[long.player_events()])
    page = {
        "title": title,
        "facts": facts,
        "tasks": [{"text": text, "steps": [_row(shown) for shown in group]} for text, group in grouped],
        "player": player.decode("utf-8"),
    }
    script = asset("frame.js") + asset("plan.js")
    text = fill_page("plan", title=title, data=json_for_html(page), script=script)
    return write_atomically(path, lambda temporary: temporary.write_bytes(text.encode("utf-8", errors="replace")))


def _row(shown: Shown) -> dict[str, Any]:
    return {
        "text": shown.segment.step.text,
        "start": shown.start / FPS,
        "end": shown.end / FPS,
        "score": shown.score,
        "reason": shown.reason,
    }
