"""What a language model that sees pictures would fill in when films are annotated: it looks at colours."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from fake_endpoint import parts_of
from PIL import Image


def annotate(body: dict[str, Any]) -> dict[str, Any]:
    """The filled-in form of a request: about pictures, about one description, or about several."""
    texts, pictures = parts_of(body)
    if pictures:
        return _looked_at(texts, pictures)
    if "steps" in body["response_format"]["json_schema"]["schema"]["properties"]:
        return _shortened(texts[1])
    return {"scene": f"On a plain floor, {json.loads(texts[1])[0].partition('.')[0].lower()}."}


def _looked_at(texts: list[str], pictures: list[Image.Image]) -> dict[str, Any]:
    """Which side goes up, by the heights of orange (left) and blue (right); without them nobody is seen."""
    heights = list(filter(None, map(_heights, pictures)))
    if not heights:
        return {"is_person": False, "description": ""}
    rises = {side: max(tops) - tops[0] for side, tops in zip(("left", "right"), zip(*heights))}
    side = max(rises, key=lambda side: rises[side])
    doing = f"A person waves with the {side} hand." if rises[side] > 0.12 else "A person walks along."
    manner = "Somebody exercises in an empty place." if "which activity" in texts[0] else "It goes up, then down."
    return {"is_person": True, "description": f"{doing} {manner}"}


def _heights(picture: Image.Image) -> tuple[float, ...]:
    """How high orange and blue reach above the lowest of both, as shares of the picture; none without both."""
    red, _, blue = np.moveaxis(np.asarray(picture.convert("RGB")).astype(int), -1, 0)
    rows = [np.nonzero(mask)[0] for mask in (red - blue > 80, blue - red > 60)]
    if not all(len(row) for row in rows):
        return ()
    ground = max(row.max() for row in rows)
    return tuple(float(ground - row.min()) / len(red) for row in rows)


def _shortened(description: str) -> dict[str, Any]:
    first, *_ = description.lower().split(".")
    doing = first.removeprefix("a person ")
    return {"steps": [doing], "activity": [first, f"someone {doing}", f"a figure {doing}"]}
