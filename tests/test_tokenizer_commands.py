"""The tokenizer's commands as a user gives them, on a tiny data set of openmocap20's form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kinalign.cli import main
from kinalign.data.dataset import load_dataset
from kinalign.data.tokens import read_tokenized
from kinalign.motion.motion import Motion
from kinalign.motion.synthetic import jumping, walking, waving
from kinalign.pipeline import TextToMotion
from kinalign.tokenizer.commands import tokenize_clips
from kinalign.tokenizer.tokenizer import MotionTokenizer

SETTINGS = (
    "--training.network.network patches --training.network.width 16 --training.network.code-dim 8 "
    "--training.network.codebook-size 8 --training.network.codes-per-step 2 --training.batch-frames 64 "
    "--training.windows 16 --training.window-shares 1 --training.optimization.steps 3"
).split()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips, three of each split, of two sources."""
    folder = tmp_path_factory.mktemp("data")
    motions = [walking(60), waving(40), jumping(1), walking(45), waving(33), walking(5)]
    scale, rows, steps = 1e-3, [], []
    for number, motion in enumerate(motions):
        row = {"id": f"clip{number}", "fps": 20, "captions": [{"text": motion.caption}], "license": "CC0"}
        row |= {"source": "CMU" if number % 2 else "HDM05", "split": "train" if number < 3 else "test"}
        rows.append(json.dumps(row) + "\n")
        steps.append(np.diff(np.round(motion.joints / scale), axis=0, prepend=0).astype(np.int16))
    (folder / "clips.jsonl").write_text("".join(rows))
    ends = np.cumsum([0, *map(len, steps)])
    np.savez(folder / "motions.npz", delta=np.concatenate(steps), offsets=ends, scale=scale)
    return folder


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    assert kinalign("tokenizer train --out", run, "--data", data, *SETTINGS) == 0
    return run / "tokenizer"


def kinalign(*words: str | Path) -> int:
    """Give a command; the first word may be several."""
    return main([*str(words[0]).split(), *map(str, words[1:])])


def error_of(capsys: pytest.CaptureFixture[str], words: Sequence[str | Path]) -> str:
    """The one line that a command fails with."""
    capsys.readouterr()
    assert kinalign(*words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("kinalign: error")]
    return line


def test_training_writes_a_tokenizer_and_says_where(model: Path) -> None:
    tokenizer = MotionTokenizer.from_pretrained(model)
    assert (tokenizer.num_codes, tokenizer.codes_per_step, tokenizer.frames_per_step) == (16, 2, 4)
    assert (model.parent / "metrics.jsonl").exists()


def test_the_same_command_again_only_reads(model: Path, data: Path) -> None:
    before = (model / "model.safetensors").read_bytes()
    assert kinalign("tokenizer train --out", model.parent, "--data", data, *SETTINGS) == 0
    assert (model / "model.safetensors").read_bytes() == before


def test_other_settings_in_the_folder_are_refused(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tokenizer train --out", model.parent, "--data", data, *SETTINGS, "--training.no-mirror"]
    assert "was begun with another configuration: mirror is True there and False here" in error_of(capsys, words)


@pytest.mark.parametrize("out", ["codes.npy", "codes.dat"])
def test_a_motion_is_encoded_and_decoded(out: str, model: Path, tmp_path: Path) -> None:
    walking(81).save(tmp_path / "walk.npy")
    assert kinalign("tokenizer encode --model", model, tmp_path / "walk.npy", "--out", tmp_path / out) == 0
    codes = np.load(tmp_path / out)
    assert np.array_equal(codes, MotionTokenizer.from_pretrained(model).encode(walking(81)))
    assert kinalign("tokenizer decode --model", model, tmp_path / out, "--out", tmp_path / "back.npy") == 0
    assert Motion.load(tmp_path / "back.npy").joints.shape == (80, 22, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"walk.npy", "back.npy", out}


def test_a_data_set_is_encoded_with_mirrored_copies_of_what_is_trained_on(
    model: Path, data: Path, tmp_path: Path
) -> None:
    assert kinalign("tokenizer encode --model", model, data, "--out", tmp_path / "tokens") == 0
    clips, info = read_tokenized(tmp_path / "tokens")
    # clip5 has 5 frames, too few to learn from
    assert [(clip.id, clip.mirrored) for clip in clips] == [
        ("clip0", False), ("clip0", True), ("clip1", False), ("clip1", True), ("clip2", False), ("clip2", True),
        ("clip3", False), ("clip4", False),
    ]  # fmt: skip
    assert (info.num_codes, info.codes_per_step, info.frames_per_step, info.fps) == (16, 2, 4, 20.0)
    assert clips[0].captions == ("a person walks forward",)
    tokenizer, first = MotionTokenizer.from_pretrained(model), load_dataset(data)[0].motion
    first = first[(len(first) - 1) % 4 :]  # whole steps up to the last frame
    assert np.array_equal(clips[0].codes, tokenizer.encode(first))
    assert np.array_equal(clips[1].codes, tokenizer.encode(first.mirror()))


def test_codes_end_where_they_are_told_to_and_whole_steps_are_counted_from_there(model: Path, data: Path) -> None:
    tokenizer, clips = MotionTokenizer.from_pretrained(model), load_dataset(data)
    train = replace(clips[0], motion=Motion.concatenate([clips[0].motion] * 3)[:54])
    rows = tokenize_clips(tokenizer, [train, clips[3]], shifts=(0, 3), mirror=False)
    assert [row.id for row in rows] == [train.id, train.id, clips[3].id]  # only what is trained on is shifted
    # a feature lies between two frames: 53 frames are 13 steps of 4
    assert len(rows[0].codes) == 13 * tokenizer.codes_per_step
    assert np.array_equal(rows[0].codes, tokenizer.encode(train.motion[1:54]))
    assert np.array_equal(rows[1].codes, tokenizer.encode(train.motion[2:51]))
    brief = replace(train, motion=train.motion[:39])
    (only,) = tokenize_clips(tokenizer, [brief], shifts=(0, 3), mirror=False)
    assert np.array_equal(only.codes, tokenizer.encode(brief.motion[2:]))


def test_a_tokenizer_is_measured_by_source(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "numbers.json"
    assert kinalign("tokenizer evaluate --model", model, "--data", data, "--out", out) == 0
    groups = json.loads(out.read_text())
    assert set(groups) == {"all", "CMU", "HDM05"}
    assert groups["all"]["clips"] == 2
    assert "16 codes" in capsys.readouterr().out


def test_a_language_model_learns_to_speak_the_codes(model: Path, data: Path, tmp_path: Path) -> None:
    settings = (
        "--training.network.width 16 --training.network.feed-forward-width 32 --training.network.encoder-layers 1 "
        "--training.network.decoder-layers 1 --training.network.heads 2 --training.batch-size 2 "
        "--training.reader none --training.optimization.steps 3"
    ).split()
    assert kinalign("lm train --tokenizer", model, "--data", data, "--out", tmp_path, *settings) == 0
    walk = TextToMotion.from_pretrained(tmp_path / "model")("a person walks", length_s=1.0)[0]
    assert walk.joints.shape == (20, 22, 3)
    # again, and with the codes of another tokenizer in the way
    assert kinalign("lm train --tokenizer", model, "--data", data, "--out", tmp_path, *settings) == 0
    other = MotionTokenizer.from_pretrained(model).save_pretrained(tmp_path / "other", dtype=torch.float16)
    assert kinalign("lm train --tokenizer", other, "--data", data, "--out", tmp_path, *settings) == 2


def test_every_code_is_drawn(model: Path, tmp_path: Path) -> None:
    assert kinalign("tokenizer sheet --model", model, "--out", tmp_path / "sheet.png", "--size", "24") == 0
    for name in ("sheet-0.png", "sheet-1.png"):
        page = np.asarray(Image.open(tmp_path / name))
        assert page.shape == (24, 32 * 24, 3)
        tiles = page.reshape(24, 32, 24, 3).transpose(1, 0, 2, 3)
        assert all(tile.std() > 5 for tile in tiles[:8])  # eight codes
        assert all((tile == 255).all() for tile in tiles[8:])


def test_published_weights_are_converted_and_back(tmp_path: Path) -> None:
    from test_tokenizer_convert import published_state

    state = published_state()
    torch.save({"state_dict": state}, tmp_path / "published.tar")
    np.save(tmp_path / "mean.npy", np.zeros(263, dtype=np.float32))
    np.save(tmp_path / "std.npy", np.ones(263, dtype=np.float32))
    statistics = ["--mean", tmp_path / "mean.npy", "--std", tmp_path / "std.npy"]
    assert kinalign("tokenizer convert", tmp_path / "published.tar", "--out", tmp_path / "own", *statistics) == 0
    assert kinalign("tokenizer convert --back", tmp_path / "own", "--out", tmp_path / "back.tar") == 0
    back = torch.load(tmp_path / "back.tar", weights_only=True)["state_dict"]
    assert all(torch.equal(back[name], state[name]) for name in state)


def spoilt(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_what_cannot_be_done_is_one_line(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    walking(81).save(tmp_path / "walk.npy")
    walking(3).save(tmp_path / "short.npy")
    np.save(tmp_path / "wrong.npy", np.array([8, 0]))
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object))
    np.savez(tmp_path / "several.npz", a=np.arange(3))
    file = spoilt(tmp_path / "file", b"not a folder")
    encode, decode = ["tokenizer encode --model", model], ["tokenizer decode --model", model]
    back = ["--out", tmp_path / "back.npy"]
    for words, message in (
        ([*encode, tmp_path / "no.npy", "--out", tmp_path / "codes.npy"], "no.npy"),
        ([*encode, tmp_path / "short.npy", "--out", tmp_path / "codes.npy"], "too short for one code"),
        ([*encode, spoilt(tmp_path / "cut.npy", b"\x93NUMPY"), "--out", tmp_path / "codes.npy"], "cut.npy"),
        ([*encode, tmp_path / "walk.npy", "--out", file / "codes.npy"], "cannot write"),
        ([*decode, tmp_path / "wrong.npy", *back], "code 8 at place 0 is outside [0, 8)"),
        ([*decode, tmp_path / "walk.npy", *back], "codes are one row of integers"),
        ([*decode, tmp_path / "pickled.npy", *back], "pickled.npy cannot be read as a row of codes"),
        ([*decode, tmp_path / "several.npz", *back], "codes are one row of integers"),
        ([*decode, tmp_path / "no.npy", *back], "no.npy cannot be read as a row of codes"),
        (["tokenizer evaluate --model", tmp_path / "no", "--data", data], "config.json cannot be read"),
        (["tokenizer evaluate --model", model, "--data", tmp_path / "no"], "is no data set"),
        (["tokenizer convert", tmp_path / "x.tar", "--out", tmp_path / "own"], "need the mean.npy and std.npy"),
        (["tokenizer convert --back", model, "--out", tmp_path / "x.tar"], "only the published network"),
    ):
        assert message in error_of(capsys, words), words
    assert not (tmp_path / "back.npy").exists()
    assert not (tmp_path / "codes.npy").exists()
