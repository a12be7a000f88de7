"""Every code of a codebook, decoded and drawn: whether it is a pose that a body can take is seen at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from kinalign.motion.motion import Motion
from kinalign.render.figure import render_frame
from kinalign.run import progress, write_atomically
from kinalign.tokenizer.tokenizer import MotionTokenizer

STEPS = 3
"""A code is decoded between copies of itself, and the middle step is drawn."""
COLUMNS = 32


def code_motions(tokenizer: MotionTokenizer, *, group: int = 0) -> list[Motion]:
    """For each code of a group the motion of one step of it.

    Other codes of the step are those nearest to nothing, so that what is seen is this code's doing.
    """
    network = tokenizer.network
    weight = next(network.parameters())
    with torch.no_grad():
        neutral = network.quantizer.encode(weight.new_zeros(1, 1, network.config.code_dim))[0, 0]  # (Q,)
    middle = slice(STEPS // 2 * tokenizer.frames_per_step, (STEPS // 2 + 1) * tokenizer.frames_per_step)
    motions = []
    for code in range(tokenizer.codebook_size):
        step = neutral.clone()
        step[group] = code
        row = tokenizer.flatten(step.repeat(STEPS, 1))
        motions.append(tokenizer.decode(row)[middle].face_forward())
    return motions


def codebook_sheet(tokenizer: MotionTokenizer, path: str | Path, *, group: int = 0, size: int = 72) -> Path:
    """Write a PNG with the last frame of every code of a group, numbered, 32 a row."""
    motions = code_motions(tokenizer, group=group)
    rows = -(-len(motions) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * size, rows * size), "white")
    with progress("codebook", total=len(motions)) as advance:
        for code, motion in enumerate(motions):
            tile = Image.fromarray(np.asarray(render_frame(motion, len(motion) - 1, size=size)))
            ImageDraw.Draw(tile).text((3, 1), str(code), fill=(90, 90, 90))
            page.paste(tile, (code % COLUMNS * size, code // COLUMNS * size))
            advance()
    return write_atomically(path, lambda temporary: page.save(temporary, format="PNG"))
