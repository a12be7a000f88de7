"""Tokens folders: rows of codes with their words come back as they were, or are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kinalign.data.tokens import TokenizedClip, TokensInfo, read_tokenized, write_tokenized
from kinalign.errors import CheckpointError, ConfigError, DataError, KinalignError
from kinalign.run import write_tensors

INFO = TokensInfo(num_codes=16, codes_per_step=2, frames_per_step=4, fps=20.0, tokenizer_sha256="ab")
CLIPS = [
    TokenizedClip("one", np.array([0, 9, 3, 15]), ("a person walks", "iemand loopt één keer"), "CMU", "train"),
    # the second caption holds a line separator, which is no end of a JSON line
    TokenizedClip("two", np.array([1, 8]), ("jumps\u2028twice",), "Bandai1", "test", "jump", "proud", mirrored=True),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tokenized(tmp_path / "tokens", CLIPS, INFO)


def test_clips_come_back_as_they_were(folder: Path) -> None:
    clips, info = read_tokenized(folder)
    assert info == INFO
    for back, clip in zip(clips, CLIPS, strict=True):
        assert back.codes.dtype == np.int64
        assert back.codes.tolist() == clip.codes.tolist()
        assert {k: v for k, v in vars(back).items() if k != "codes"} == {
            k: v for k, v in vars(clip).items() if k != "codes"
        }


def test_a_person_can_read_the_words(folder: Path) -> None:
    lines = (folder / "tokens.jsonl").read_text(encoding="utf-8").split("\n")
    assert "iemand loopt één keer" in lines[0]
    assert json.loads(lines[1])["mirrored"] is True


def test_no_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no clip to write"):
        write_tokenized(tmp_path, [], INFO)


def cut(name: str, num_bytes: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:num_bytes])


def without_a_clip(folder: Path) -> None:
    text = (folder / "tokens.jsonl").read_text(encoding="utf-8")
    (folder / "tokens.jsonl").write_text(text[: text.index("\n") + 1], encoding="utf-8")


def with_another_word(folder: Path) -> None:
    text = (folder / "tokens.jsonl").read_text(encoding="utf-8")
    (folder / "tokens.jsonl").write_text(text.replace('"source"', '"sauce"'), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (cut("codes.safetensors", -4), CheckpointError, "codes.safetensors cannot be read"),
        (cut("tokens.jsonl", 60), DataError, "tokens.jsonl cannot be read"),
        (cut("tokens.jsonl", 0), DataError, "tokens.jsonl cannot be read"),
        (cut("info.json", 20), CheckpointError, "info.json cannot be read"),
        (lambda folder: (folder / "tokens.jsonl").unlink(), DataError, "tokens.jsonl cannot be read"),
        (lambda folder: (folder / "info.json").unlink(), CheckpointError, "info.json cannot be read"),
        (without_a_clip, DataError, "has 1 clips, 2 rows of codes and 6 codes; encode again"),
        (with_another_word, DataError, "line 1 is no clip; a clip has id, captions, source"),
        (lambda f: (f / "info.json").write_text('{"codebook": 512}'), ConfigError, "unknown key 'codebook'"),
        (
            lambda f: write_tensors(f / "codes.safetensors", {"codes": torch.zeros(6)}),
            DataError,
            "not codes and ends; encode again",
        ),
    ],
)
def test_a_spoilt_folder_is_one_clear_error(
    spoil: Callable[[Path], object], error: type[KinalignError], message: str, folder: Path
) -> None:
    spoil(folder)
    with pytest.raises(error, match=message):
        read_tokenized(folder)


def test_new_codes_never_stand_under_an_old_mark(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kinalign.data.tokens.write_tensors", killed)
    with pytest.raises(KeyboardInterrupt):
        write_tokenized(folder, CLIPS[:1], INFO)
    with pytest.raises(CheckpointError, match=r"info\.json cannot be read"):
        read_tokenized(folder)
