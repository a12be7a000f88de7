"""Clips as a language model reads them: rows of codes with their words, in a folder of their own.

A tokens folder holds tokens.jsonl, a clip a line, and codes.safetensors, all rows end to end. It says which tokenizer
made it, because codes of another codebook are noise.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kinalign.data.records import Split
from kinalign.errors import DataError
from kinalign.run import config_from_json, read_json, read_tensors, write_json, write_tensors, write_text


@dataclass(frozen=True)
class TokensInfo:
    """Which codes these are."""

    num_codes: int
    codes_per_step: int
    frames_per_step: int
    fps: float
    tokenizer_sha256: str


@dataclass(frozen=True, eq=False)
class TokenizedClip:
    """A row of codes (N,) and the words of the clip it was read from; `mirrored` says that left and right swapped."""

    id: str
    codes: NDArray[np.int64]
    captions: tuple[str, ...]
    source: str
    split: Split
    label: str = ""
    style: str = ""
    mirrored: bool = False


_WORDS = ("id", "captions", "source", "split", "label", "style", "mirrored")


def write_tokenized(folder: str | Path, clips: Sequence[TokenizedClip], info: TokensInfo) -> Path:
    """Write a tokens folder; info.json comes last and marks it as complete. Raises DataError without clips."""
    folder = Path(folder)
    if not clips:
        raise DataError(f"no clip to write to {folder}: none was long enough for a code")
    lines = [json.dumps({name: getattr(clip, name) for name in _WORDS}, ensure_ascii=False) + "\n" for clip in clips]
    rows = [torch.from_numpy(clip.codes.astype(np.int32)) for clip in clips]
    ends = torch.tensor([len(row) for row in rows]).cumsum(0)
    (folder / "info.json").unlink(missing_ok=True)  # a kill from here on leaves no old mark on new codes
    write_tensors(folder / "codes.safetensors", {"codes": torch.cat(rows), "ends": ends})
    write_text(folder / "tokens.jsonl", "".join(lines))
    write_json(folder / "info.json", info.__dict__)
    return folder


def read_tokenized(folder: str | Path) -> tuple[list[TokenizedClip], TokensInfo]:
    """Read a tokens folder; raises DataError when its parts disagree and CheckpointError when one is cut short."""
    folder = Path(folder)
    info = config_from_json(TokensInfo, read_json(folder / "info.json"))
    tensors = read_tensors(folder / "codes.safetensors")
    if tensors.keys() != {"codes", "ends"}:
        raise DataError(f"{folder / 'codes.safetensors'} holds {sorted(tensors)}, not codes and ends; encode again")
    rows = _read_rows(folder / "tokens.jsonl")
    ends = tensors["ends"].tolist()
    codes = tensors["codes"].numpy().astype(np.int64)
    if len(ends) != len(rows) or (ends and ends[-1] != len(codes)):
        raise DataError(
            f"{folder} has {len(rows)} clips, {len(ends)} rows of codes and {len(codes)} codes; encode again"
        )
    starts = [0, *ends[:-1]]
    return [
        TokenizedClip(codes=codes[start:end], **{**row, "captions": tuple(row["captions"])})
        for row, start, end in zip(rows, starts, ends)
    ], info


def _read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        # by "\n" alone: a caption may hold other characters that end a line to splitlines
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        rows = [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); it is absent or cut short, encode again") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or row.keys() != set(_WORDS):
            raise DataError(f"{path}, line {number} is no clip; a clip has {', '.join(_WORDS)}")
    return rows
