"""A table that says what happens in motion files: CSV or JSONL, a row a caption, several rows a file."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

from kinalign.data.records import Split
from kinalign.errors import DataError


class Timed(NamedTuple):
    """Captions of a part of a file, from when up to when in seconds."""

    start_s: float
    end_s: float
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """What the table says about one file."""

    captions: tuple[str, ...] = ()
    parts: tuple[Timed, ...] = ()
    """Captions that speak of a part only; they stand in `captions` too."""
    split: Split | None = None
    label: str = ""
    style: str = ""


def read_words(path: Path) -> dict[str, Words]:
    """File name (with its folders, without .bvh, .npz or .npy) -> its words.

    Columns are `file` or `id`, `caption` (in JSONL also a list, `captions`) and, where given, `split`, `label`, `style`
    and, for a caption of a part of the file, `start` and `end` in seconds. Raises DataError that names the file and the
    line.
    """
    words: dict[str, Words] = {}
    for number, row in _rows(path):
        where = f"{path}, line {number}"
        name = row.get("file") or row.get("id")
        captions = row.get("captions") or [row.get("caption")]
        if not name or not isinstance(captions, list) or not all(isinstance(c, str) and c.strip() for c in captions):
            raise DataError(f"{where} needs `file` (or `id`) and `caption`; it has {row}")
        split = row.get("split") or None
        if split not in (None, *get_args(Split)):
            raise DataError(f"{where} has split {split!r}; use one of {', '.join(get_args(Split))}")
        key = _without_suffix(str(name))
        old = words.get(key, Words())
        if None not in (split, old.split) and split != old.split:
            raise DataError(f"{where} puts {name} into {split}; an earlier line says {old.split}")
        captions = [caption.strip() for caption in captions]
        part = _part(row, captions, where)
        words[key] = replace(
            old,
            captions=(*old.captions, *captions),
            parts=_with(old.parts, part) if part else old.parts,
            split=split or old.split,
            label=row.get("label") or old.label,
            style=row.get("style") or old.style,
        )
    if not words:
        raise DataError(f"{path} holds no captions")
    return words


def _part(row: dict[str, Any], captions: list[str], where: str) -> Timed | None:
    """The part of the file that a row speaks of, or None where it speaks of all."""
    start, end = (row.get(name) for name in ("start", "end"))
    if start in (None, "") and end in (None, ""):
        return None
    try:
        part = Timed(float(start), float(end), tuple(captions))  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} has start {start!r} and end {end!r}; give both in seconds, or neither") from error
    if not 0 <= part.start_s < part.end_s < float("inf"):
        raise DataError(f"{where} has start {start!r} and end {end!r}; a part begins at 0 s or later and then ends")
    return part


def _with(parts: tuple[Timed, ...], new: Timed) -> tuple[Timed, ...]:
    """Parts with the captions of one more row, which may speak of the same part as an earlier one."""
    same = next((part for part in parts if part[:2] == new[:2]), None)
    if same is None:
        return (*parts, new)
    joined = same._replace(captions=same.captions + new.captions)
    return tuple(joined if part is same else part for part in parts)


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); it should be CSV or JSONL in UTF-8") from error
    lines = text.splitlines()
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(lines)
        columns = set(reader.fieldnames or ())
        if not columns & {"file", "id"} or "caption" not in columns:
            raise DataError(f"{path} has columns {sorted(columns)}; it needs `file` (or `id`) and `caption`")
        return [(reader.line_num, row) for row in reader]
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number} is not JSON ({error}); captions are CSV or JSONL") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number} should be an object with `file` and `caption`")
        rows.append((number, row))
    return rows


def _without_suffix(name: str) -> str:
    name = name.strip().replace("\\", "/")
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and suffix.lower() in ("bvh", "npz", "npy") else name
