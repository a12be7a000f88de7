"""A pretrained reader before the encoder: what it changes, what stays frozen, and how it is taught."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kinalign.data.phrasings import spoken_words
from kinalign.data.tokens import TokenizedClip, TokensInfo
from kinalign.errors import CheckpointError
from kinalign.lm.model import LMConfig, MotionLM
from kinalign.lm.reader import Reader, ReaderConfig
from kinalign.lm.teach import Lesson, Pupil, teach_reader
from kinalign.lm.text import plain_tokenizer
from kinalign.lm.train import LMTraining, train_lm
from kinalign.run import RunFolder, read_json, read_tensors, write_json
from kinalign.training import Optimization

INFO = TokensInfo(num_codes=16, codes_per_step=2, frames_per_step=4, fps=20.0, tokenizer_sha256="ab")
CONFIG = LMConfig(
    width=16, feed_forward_width=32, encoder_layers=1, decoder_layers=1, heads=2, dropout=0.0, max_text_tokens=128
)
SIZES = ReaderConfig(width=24, feed_forward_width=32, layers=2, heads=2, max_tokens=128)
LABELS = ("walk", "bow", "punch")


def clip(label: str, *, mirrored: bool = False, style: str = "normal", source: str = "Bandai1") -> TokenizedClip:
    codes = np.array([[1, 9]] * 6).ravel()
    return TokenizedClip(label, codes, (f"a person {label}s",), source, "train", label, style, mirrored)


def clips() -> list[TokenizedClip]:
    return [clip(label) for label in LABELS]


def model_with_reader(words: Collection[str] = ("a", "person", "bows", "he", "punches")) -> MotionLM:
    torch.manual_seed(0)
    reader = Reader(SIZES, plain_tokenizer(words), CONFIG.width)
    speaking = plain_tokenizer({"person", "bows"})
    return MotionLM.from_config(CONFIG, num_codes=16, codes_per_step=2, text_tokenizer=speaking, reader=reader)


def answers_of(model: MotionLM) -> list[list[list[int]]]:
    return model.generate(["a person bows", "he punches"], generator=torch.Generator().manual_seed(0), max_steps=6)


def test_what_is_read_does_not_depend_on_the_padding_beside_it() -> None:
    model = model_with_reader().eval()
    alone, beside = ["a person bows"], ["a person bows", "someone walks forward and bows down, punching"]
    short = model.encode(alone)[0][0]
    assert torch.allclose(model.encode(beside)[0][0, : len(short)], short, atol=1e-5)


def test_a_reader_changes_what_the_encoder_reads_and_comes_back_as_it_was(tmp_path: Path) -> None:
    model = model_with_reader().eval()
    back = MotionLM.from_pretrained(model.save_pretrained(tmp_path))
    assert back.reader is not None
    assert back.reader.config == SIZES
    assert answers_of(back) == answers_of(model)
    ours, theirs = model.state_dict(), back.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with torch.no_grad():
        model.reader.narrow.weight.mul_(-1)  # type: ignore[union-attr]
    assert not torch.allclose(model.encode(["a person bows"])[0], back.encode(["a person bows"])[0], atol=1e-2)


def test_in_half_precision_a_reader_takes_eight_bits_and_reads_nearly_the_same(tmp_path: Path) -> None:
    model = model_with_reader().eval()
    stored = read_tensors(model.save_pretrained(tmp_path, dtype=torch.float16) / "model.safetensors")
    assert stored["reader.narrow.weight"].dtype == stored["t5.shared.weight"].dtype == torch.int8
    assert stored["t5.encoder.final_layer_norm.weight"].dtype == torch.float16
    back = MotionLM.from_pretrained(tmp_path)
    said = ["a person bows", "he punches forward"]
    ours, theirs = model.encode(said)[0], back.encode(said)[0]
    assert torch.cosine_similarity(ours, theirs, dim=-1).min() > 0.99


def test_a_reader_without_its_weights_or_of_other_sizes_is_one_clear_error(tmp_path: Path) -> None:
    folder = model_with_reader().save_pretrained(tmp_path)
    settings = read_json(folder / "config.json")
    assert any(name.startswith("reader.bert.") for name in read_tensors(folder / "model.safetensors"))
    write_json(folder / "config.json", settings | {"reader": None})
    with pytest.raises(CheckpointError, match=r"tensors unknown \(reader\.bert"):
        MotionLM.from_pretrained(folder)
    write_json(folder / "config.json", settings | {"reader": settings["reader"] | {"max_tokens": 8}})
    with pytest.raises(CheckpointError, match="the reader knows 8 places, not 128"):
        MotionLM.from_pretrained(folder)
    write_json(folder / "config.json", settings)
    (folder / "reader_tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="reader_tokenizer cannot be read"):
        MotionLM.from_pretrained(folder)


def test_a_frozen_reader_learns_only_where_it_hands_over() -> None:
    model = model_with_reader()
    reader = model.reader
    assert reader is not None

    def learning() -> set[str]:
        model.zero_grad()
        model.loss(["a person bows"], [model.vocab.codes_to_ids([1, 9]).tolist()]).backward()
        return {name for name, weight in reader.named_parameters() if weight.grad is not None}

    assert "bert.encoder.layer.0.output.dense.weight" in learning()
    assert "bert.embeddings.word_embeddings.weight" not in learning()
    reader.freeze()
    assert learning() == {"narrow.weight", "narrow.bias"}


def test_a_lesson_tells_the_action_the_side_and_the_style_of_what_it_says() -> None:
    rows = [
        clip("walk-left", style="sad"),
        clip("walk-left", mirrored=True, style="sad"),
        clip("bow", style="happy"),
    ]
    lesson = Lesson(rows, np.ones(3))
    sentences, right = lesson.draw(np.random.default_rng(0), 200)
    for sentence, action, side, style in zip(sentences, *(right[question].tolist() for question in right)):
        name = lesson.answers["action"][action]
        assert name in {"walk_side", "bow"}
        told = tuple(bool(re.search(rf"\b{word}", sentence, re.IGNORECASE)) for word in ("left", "right"))
        assert told == (side == 1, side == 2)
        assert side == 0 or name == "walk_side"
        assert lesson.answers["style"][style] == ("happy" if name == "bow" else "sad")


def test_clips_that_nothing_is_known_of_leave_a_reader_as_it_is(tmp_path: Path) -> None:
    model, before = model_with_reader(), model_with_reader()
    settings = Optimization(steps=3)
    unknown = [clip("frob", source="made up")]
    teach_reader(model, unknown, np.ones(1), settings, run=RunFolder.open(tmp_path, settings))
    assert model.reader is not None
    assert not any(weight.requires_grad for weight in model.reader.bert.parameters())
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model.parameters(), before.parameters()))
    assert len(Lesson([clip("bow"), *unknown], np.ones(2)).rows) == 1


@pytest.mark.slow
def test_a_taught_reader_tells_actions_apart_in_sentences_it_did_not_see(tmp_path: Path) -> None:
    model = model_with_reader(spoken_words())
    settings = Optimization(steps=400, learning_rate=4e-3, warmup_steps=5, checkpoint_every=400)
    run = RunFolder.open(tmp_path, settings)
    teach_reader(model, clips(), np.ones(3), settings, run=run, batch_size=32)
    assert not any(weight.requires_grad for weight in model.reader.bert.parameters())  # type: ignore[union-attr]

    lesson = Lesson(clips(), np.ones(3))
    pupil = Pupil(model, lesson.answers)
    tensors = run.load_checkpoint().tensors  # type: ignore[union-attr]
    pupil.load_state_dict({name[7:]: tensor for name, tensor in tensors.items() if name.startswith("module.")})
    sentences, right = lesson.draw(np.random.default_rng(99), 200)
    ids, is_token = model.tokenize(sentences)
    with torch.no_grad():
        said = pupil.eval()(ids, is_token)["action"].argmax(1)
    assert (said == right["action"]).float().mean() > 0.65  # by chance a third


def test_teaching_that_was_stopped_ends_like_teaching_that_was_not(tmp_path: Path) -> None:
    whole, stopped, resumed = (model_with_reader() for _ in range(3))
    settings = Optimization(steps=12, learning_rate=1e-3, checkpoint_every=5)
    teach_reader(whole, clips(), np.ones(3), settings, run=RunFolder.open(tmp_path / "a", settings), batch_size=4)

    run, draws = RunFolder.open(tmp_path / "b", settings), 0
    draw = Lesson.draw

    def stop_at_eight(self: Lesson, rng: np.random.Generator, size: int) -> object:
        nonlocal draws
        draws += 1
        if draws == 9:
            raise KeyboardInterrupt
        return draw(self, rng, size)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Lesson, "draw", stop_at_eight)
        teach_reader(stopped, clips(), np.ones(3), settings, run=run, batch_size=4)
    teach_reader(resumed, clips(), np.ones(3), settings, run=run, batch_size=4)
    ours, theirs = resumed.state_dict(), whole.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_training_teaches_the_reader_before_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinalign.lm.train.build_lm", lambda *args, **kwargs: model_with_reader())
    short = Optimization(steps=3, learning_rate=1e-3, log_every=1)
    config = LMTraining(network=CONFIG, optimization=short, reader_teaching=replace(short, steps=5), batch_size=2)
    train_lm(clips(), INFO, config, folder=tmp_path)
    taught = RunFolder.open(tmp_path / "reader", config.reader_teaching)
    assert [row["step"] for row in taught.metrics()] == [1, 2, 3, 4, 5]
    assert {"action", "side", "style", "loss"} <= taught.metrics()[0].keys()
