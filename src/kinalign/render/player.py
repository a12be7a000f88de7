"""The player: one HTML file in which motions move, to be opened from disk, mailed or put on a page.

Everything is inside: the drawing code (assets/, three.js under its MIT licence) and the joints. The page's own policy
forbids it to load anything from anywhere.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Literal

import numpy as np

from kinalign.errors import ConfigError
from kinalign.motion.motion import Motion
from kinalign.run import write_atomically

_COLOURS = {"left": "var(--left)", "right": "var(--right)", None: "var(--accent)"}
_HEX_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class PlayerEvent:
    """Something that happens in a motion, as a bar on the timeline: from `start_s` to `end_s` seconds.

    A bar has the colour of the limb on its `side`, or `colour` ("#rrggbb"), or is grey. Raises ConfigError for times
    that are negative, not finite or in the wrong order, for another side and for a colour of another form.
    """

    label: str
    start_s: float
    end_s: float
    side: Literal["left", "right"] | None = None
    colour: str | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.end_s) and 0 <= self.start_s <= self.end_s):
            raise ConfigError(
                f"event {self.label!r} lasts from {self.start_s} to {self.end_s} s; it needs 0 <= start_s <= end_s"
            )
        if self.side not in _COLOURS:
            raise ConfigError(f"event {self.label!r} has side={self.side!r}; use 'left', 'right' or None")
        if self.colour is not None and not _HEX_COLOUR.fullmatch(self.colour):
            raise ConfigError(f"event {self.label!r} has colour={self.colour!r}; use the form '#3f86ab'")


def write_player(
    motions: Motion | Sequence[Motion],
    path: str | Path,
    *,
    title: str | None = None,
    events: Sequence[PlayerEvent] | Sequence[Sequence[PlayerEvent]] | None = None,
) -> Path:
    """Write one self-contained HTML page that plays a motion, or several side by side on one clock.

    `title` stands above them (None: the caption, if all have the same). `events` are the events of a single motion, or
    one sequence of events per motion. Joints are kept within 0.1 mm for a body of usual size. Lengths, frame rates and
    skeletons may differ. Raises ConfigError for no motions and for events that fit no motion or end after it,
    KinalignError when the file cannot be written; a file that was there before stays whole.
    """
    if isinstance(motions, Motion):
        page = player_page([motions], title=title, events=[events or ()])
    else:
        page = player_page(motions, title=title, events=events)
    return write_atomically(path, lambda temporary: temporary.write_bytes(page))


def player_page(motions: Sequence[Motion], *, title: str | None = None, events: Sequence[Any] | None = None) -> bytes:
    """The page that `write_player` writes of several motions, in UTF-8."""
    events = [()] * len(motions) if events is None else events
    if not motions:
        raise ConfigError("a player needs at least 1 motion; this list has 0")
    if len(events) != len(motions):
        raise ConfigError(f"{len(events)} lists of events for {len(motions)} motions; give one list per motion")
    for of in events:
        if isinstance(of, PlayerEvent) or not all(isinstance(event, PlayerEvent) for event in of):
            raise ConfigError(
                f"events={of!r}: a motion takes a list of PlayerEvent, a list of motions a list of such lists"
            )
    if title is None:
        captions = {motion.caption for motion in motions}
        title = captions.pop() if len(captions) == 1 else ""
    scene = {"title": title, "motions": [_record(motion, of) for motion, of in zip(motions, events)]}
    page = fill_page("player", title=title or "Kinalign", scene=json_for_html(scene), script=asset("player.bundle.js"))
    return page.encode("utf-8", errors="replace")  # a lone surrogate in a caption is no reason to lose the page


def player_shell() -> tuple[str, str]:
    """What stands before and after the scene's JSON in a player: a page that holds many scenes needs it once."""
    mark = "@@scene@@"
    page = fill_page("player", title="Kinalign", scene=mark, script=asset("player.bundle.js"))
    before, after = page.split(mark)
    return before, after


def fill_page(name: str, *, title: str, **parts: str) -> str:
    """The page NAME.html of the assets with its title, its own style after the palette that all pages share, and parts.

    Parts stand in the page as they are; the title is escaped.
    """
    css = asset("palette.css") + asset(f"{name}.css")
    head = Template(asset("head.html")).substitute(title=html.escape(title), css=css)
    return Template(asset(f"{name}.html")).substitute(head=head, **parts)


def asset(name: str) -> str:
    """The text of a file that the pages are made of."""
    return (files("kinalign.render") / "assets" / name).read_text(encoding="utf-8")


def _record(motion: Motion, events: Sequence[PlayerEvent]) -> dict[str, Any]:
    """A motion as the page reads it: the root's path in float32, the joints about it in steps of `scale` metres."""
    for event in events:
        if event.end_s > motion.duration_s + 1e-6:
            raise ConfigError(f"event {event.label!r} ends at {event.end_s} s, its motion at {motion.duration_s:.2f} s")
    root = motion.joints[:, 0]
    about_root = motion.joints.astype(np.float64) - root[:, None]
    scale = max(float(np.abs(about_root).max()), 1e-6) / np.iinfo(np.int16).max
    return {
        "caption": motion.caption,
        "fps": motion.fps,
        "names": motion.skeleton.joint_names,
        "parents": motion.skeleton.parents,
        "root": _base64(root.astype("<f4")),
        "offsets": _base64(np.rint(about_root / scale).astype("<i2")),
        "scale": scale,
        "events": [
            {
                "label": event.label,
                "start": float(event.start_s),
                "end": float(event.end_s),
                "colour": event.colour or _COLOURS[event.side],
            }
            for event in sorted(events, key=lambda event: event.start_s)
        ],
    }


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def json_for_html(value: Any) -> str:
    """JSON in which no caption can end the script element: "<" and its like are written as escapes."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
