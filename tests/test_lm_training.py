"""Training a language model: what is drawn, what stays frozen, and that a killed run ends like one never killed."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinalign.data.tokens import TokenizedClip, TokensInfo
from kinalign.errors import CheckpointError, ConfigError, DataError
from kinalign.lm.instructions import Instruction, Task
from kinalign.lm.model import LMConfig, MotionLM, Sampling
from kinalign.lm.train import (
    BLANK,
    NOISE_SHARE,
    ExampleSampler,
    Kind,
    LMTraining,
    Stage,
    blank,
    build_lm,
    keep,
    train_lm,
)
from kinalign.lm.vocab import HIDDEN
from kinalign.training import Optimization

INFO = TokensInfo(num_codes=16, codes_per_step=2, frames_per_step=4, fps=20.0, tokenizer_sha256="ab")
TINY = LMTraining(
    network=LMConfig(width=16, feed_forward_width=32, encoder_layers=1, decoder_layers=1, heads=2, dropout=0.1),
    optimization=Optimization(steps=12, learning_rate=3e-3, warmup_steps=2, log_every=1, checkpoint_every=5),
    batch_size=4,
    max_steps=20,
    reader="none",
)


def tokenized(name: str, num_steps: int, caption: str, *, code: int = 0, label: str = "") -> TokenizedClip:
    """A clip that says `code` of each group over and over, and the number of its step in the second group."""
    codes = np.array([(code, 8 + step % 8) for step in range(num_steps)]).ravel()
    return TokenizedClip(name, codes, (caption,), "made up", "train", label)


def clips() -> list[TokenizedClip]:
    return [
        tokenized("a", 12, "a person frobs", code=1),
        tokenized("b", 12, "somebody grutches twice", code=2),
        tokenized("c", 30, "a person walks around", code=3),
        tokenized("d", 3, "someone zibbles", code=4),
    ]


def sampler_of(rows: list[TokenizedClip], **settings: Any) -> ExampleSampler:
    config = replace(TINY, **settings)
    return ExampleSampler(rows, INFO, build_lm(rows, INFO, config), config)


def draws(sampler: ExampleSampler, number: int = 60) -> list[tuple[str, np.ndarray]]:
    """(instruction, codes (N, Q)) of many batches."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(number):
        instructions, answers = sampler.draw(rng)
        rows += [
            (said.text, sampler.vocab.ids_to_codes(ids).reshape(-1, 2)) for said, ids in zip(instructions, answers)
        ]
    return rows


# what is drawn


def test_answers_are_the_codes_of_the_clip_that_the_instruction_names() -> None:
    code_of = {"frobs": 1, "grutches": 2, "walks": 3, "zibbles": 4}
    rows = draws(sampler_of(clips(), empty_share=0.0))
    assert len(rows) == 240
    for text, codes in rows:
        (word,) = [word for word in code_of if word in text]
        assert set(codes[:, 0]) == {code_of[word]}


def test_a_long_clip_gives_whole_windows_of_it() -> None:
    rows = [codes for text, codes in draws(sampler_of(clips(), empty_share=0.0, crop_share=0.0)) if "walks" in text]
    assert {len(codes) for codes in rows} == {20}
    starts = {codes[0, 1] for codes in rows}
    assert len(starts) > 4
    assert all((np.diff(codes[:, 1]) % 8 == 1).all() for codes in rows)


def test_parts_are_taken_of_what_repeats_itself_only() -> None:
    rows = draws(sampler_of(clips(), empty_share=0.0, crop_share=1.0))
    lengths = {word: {len(codes) for text, codes in rows if word in text} for word in ("frobs", "grutches", "walks")}
    assert lengths["frobs"] == lengths["grutches"] == {12}
    assert min(lengths["walks"]) >= 8
    assert len(lengths["walks"]) > 4


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_instructions_is_empty(share: float) -> None:
    texts = [text for text, _ in draws(sampler_of(clips(), empty_share=share), 250)]
    assert np.mean([text == "" for text in texts]) == pytest.approx(share, abs=0.065)  # 4 sigma of 1000 draws


@pytest.mark.parametrize(("balance", "share"), [(0.0, 1 / 10), (1.0, 1 / 2)])
def test_rare_labels_are_drawn_more_often_as_far_as_asked(balance: float, share: float) -> None:
    rows = [tokenized(f"{i}", 12, "a person frobs", code=1, label="frob") for i in range(9)]
    rows.append(tokenized("rare", 12, "a person zibbles", code=4, label="zibble"))
    codes = [codes[0, 0] for _, codes in draws(sampler_of(rows, balance=balance), 250)]
    assert np.mean(np.array(codes) == 4) == pytest.approx(share, abs=0.065)  # 4 sigma of 1000 draws


def test_a_batch_has_clips_of_about_one_length() -> None:
    sampler, rng = sampler_of(clips(), crop_share=0.0), np.random.default_rng(0)
    for _ in range(30):
        lengths = [len(ids) for ids in sampler.draw(rng)[1]]
        assert max(lengths) <= 1.5 * min(lengths)


def test_the_same_generator_draws_the_same() -> None:
    first, second = (sampler_of(clips()).draw(np.random.default_rng(3)) for _ in range(2))
    assert first == second


# all tasks


def examples_of(task: Task, number: int = 40) -> list[tuple[Instruction, list[int]]]:
    return examples_of_kind(task, "instructions", number)


def examples_of_kind(kind: Kind, stage: Stage, number: int) -> list[tuple[Instruction, list[int]]]:
    sampler = sampler_of(clips(), tasks=stage, empty_share=0.0)
    sampler.kinds, sampler.shares = [kind], np.ones(1)
    rng = np.random.default_rng(1)
    return [example for _ in range(number // 4) for example in zip(*sampler.draw(rng))]


MODEL_FOR_ALL = build_lm(clips(), INFO, replace(TINY, tasks="instructions"))


def says(answer: list[int]) -> np.ndarray:
    return MODEL_FOR_ALL.vocab.ids_to_codes(answer)


@pytest.mark.parametrize("task", [task for task in Task if task.gives == "motion"])
def test_tasks_that_give_a_motion_answer_with_one(task: Task) -> None:
    for instruction, answer in examples_of(task):
        assert len(says(answer)) % 2 == 0
        assert bool(instruction.codes) == bool(task.codes)


def test_a_prediction_goes_on_where_what_was_told_ends() -> None:
    for instruction, answer in examples_of(Task.PREDICTION):
        whole = [*instruction.codes, *says(answer).tolist()]
        steps = (np.array(whole[1::2]) - 8) % 8  # clips count their steps in the second group
        assert (np.diff(steps) % 8 == 1).all()
        assert len(set(whole[::2])) == 1


def test_in_between_tells_what_the_answer_says_but_for_whole_steps_that_are_hidden() -> None:
    shares = []
    for instruction, answer in examples_of(Task.IN_BETWEEN, 200):
        told, said = np.array(instruction.codes), says(answer)
        hidden = told == HIDDEN
        assert told.shape == said.shape
        assert np.array_equal(told[~hidden], said[~hidden])
        assert np.array_equal(hidden[::2], hidden[1::2])
        assert not hidden.all()
        shares.append(hidden.mean())
    assert min(shares) < 0.2
    assert max(shares) > 0.6


def test_a_caption_is_asked_for_with_the_whole_motion_and_said_in_the_words_of_the_data() -> None:
    for instruction, answer in examples_of(Task.MOTION_TO_TEXT):
        code = instruction.codes[0]
        (clip,) = (clip for clip in clips() if clip.codes[0] == code)
        assert MODEL_FOR_ALL.ids_to_text(answer) == clip.captions[0]


NUMBERS = "zero one two three four five six".split()
SAID = re.compile(r"\b\d+(?:\.\d+)?|\b(?:" + "|".join(NUMBERS) + r")\b")
WITH_A_LENGTH = [task for task in Task if {"frames", "seconds"} & {*task.needs, *task.answer_needs}]


@pytest.mark.parametrize("task", WITH_A_LENGTH)
def test_every_length_is_that_of_the_motion_in_the_unit_named(task: Task) -> None:
    in_seconds = "seconds" in {*task.needs, *task.answer_needs}
    is_told = bool({"frames", "seconds"} & {*task.needs})
    for instruction, answer in examples_of(task):
        if task.gives == "motion":
            num_steps = len(says(answer)) // 2
        elif instruction.codes:
            num_steps = len(instruction.codes) // 2
        else:  # a caption alone: the length is that of its clip, or of a window of it
            words = f"{instruction.text} {MODEL_FOR_ALL.ids_to_text(answer)}"
            (clip,) = (clip for clip in clips() if clip.captions[0] in words)
            num_steps = min(len(clip.codes) // 2, TINY.max_steps)
            if "walks" in words:  # of which parts are taken too
                continue
        text = instruction.text if is_told else MODEL_FOR_ALL.ids_to_text(answer)
        assert ("frame" in text) != in_seconds, text
        (said,) = SAID.findall(text)
        value = float(NUMBERS.index(said) if said in NUMBERS else said)
        if in_seconds:  # some wordings round to whole seconds
            assert value == pytest.approx(num_steps * 4 / 20, abs=0.01 if "." in said else 0.5)
        else:
            assert value == num_steps * 4


def test_twelve_tasks_speak_of_a_length() -> None:
    assert len(WITH_A_LENGTH) == 12


# span corruption


@pytest.mark.parametrize("length", [1, 2, 3, 7, 20, 49, 200])
def test_a_share_of_a_row_is_dropped_in_spans(length: int) -> None:
    rng = np.random.default_rng(0)
    rows = [keep(length, rng) for _ in range(200)]
    assert {len(row) for row in rows} == {length}
    dropped = {int((~row).sum()) for row in rows}
    assert dropped == {max(1, round(NOISE_SHARE * length)) if length > 1 else 0}
    if length == 200:
        spans = [int((np.diff(np.concatenate(([True], row)).astype(int)) == -1).sum()) for row in rows]
        assert set(spans) == {10}
        assert 0.4 < np.mean(rows, axis=0).min() <= np.mean(rows, axis=0).max() < 1.0  # none never, and none always
        assert np.mean(rows, axis=0).max() < 1


def test_a_dropped_span_of_words_is_one_blank() -> None:
    sentence, rng = "a person walks to the left and then waves with both hands at somebody", np.random.default_rng(0)
    for _ in range(50):
        blanked = blank(sentence, rng)
        assert f"{BLANK} {BLANK}" not in blanked and BLANK in blanked
        known = [re.escape(part.strip()) for part in blanked.split(BLANK)]
        assert re.fullmatch(r".*".join(known).replace(r"\ ", " "), sentence), blanked


@pytest.mark.parametrize("kind", ["restore text", "restore motion"])
def test_what_is_restored_agrees_with_what_is_left_of_it(kind: Kind) -> None:
    model = build_lm(clips(), INFO, replace(TINY, tasks="pre-training"))
    for instruction, answer in examples_of_kind(kind, "pre-training", 40):
        told = np.array(instruction.codes)
        assert 0 < (told == HIDDEN).mean() < 0.4
        name, text = instruction.text.split(": ")
        assert name == kind
        if kind == "restore motion":
            assert np.array_equal(told[told != HIDDEN], says(answer)[told != HIDDEN])
        else:
            code = told[::2][told[::2] != HIDDEN][0]
            (clip,) = (clip for clip in clips() if clip.codes[0] == code)
            assert model.ids_to_text(answer) == clip.captions[0]
            assert set(text.split()) - {BLANK} <= set(clip.captions[0].split())


# other ways to begin


def loss_of(model: MotionLM) -> float:
    model.eval()
    with torch.no_grad():
        return float(model.loss(["a person frobs"], [model.vocab.codes_to_ids([1, 9, 1, 8]).tolist()]))


def test_training_goes_on_from_another_model(tmp_path: Path) -> None:
    first = train_lm(clips(), INFO, TINY, folder=tmp_path / "first")
    first.save_pretrained(tmp_path / "model")
    config = replace(TINY, start=str(tmp_path / "model"), tasks="instructions")
    assert loss_of(build_lm(clips(), INFO, config)) == pytest.approx(loss_of(first), abs=1e-6)
    second = train_lm(clips(), INFO, config, folder=tmp_path / "second")
    assert loss_of(second) != loss_of(first)
    with pytest.raises(CheckpointError, match=r"speaks 16 codes in steps of 2, the clips 32 in steps of 2"):
        build_lm(clips(), replace(INFO, num_codes=32), config)


def test_a_grown_encoder_begins_as_it_was_and_its_new_layers_learn(tmp_path: Path) -> None:
    first = train_lm(clips(), INFO, TINY, folder=tmp_path / "first")
    first.save_pretrained(tmp_path / "model")
    config = replace(TINY, start=str(tmp_path / "model"), encoder_layers=3)
    grown = build_lm(clips(), INFO, config)
    assert len(grown.t5.encoder.block) == 3
    assert loss_of(grown) == pytest.approx(loss_of(first), abs=1e-6)
    trained = train_lm(clips(), INFO, config, folder=tmp_path / "second")
    assert loss_of(trained) < loss_of(first)
    for block in trained.t5.encoder.block[1:]:
        assert block.layer[0].SelfAttention.o.weight.abs().max() > 0
        assert block.layer[1].DenseReluDense.wo.weight.abs().max() > 0
    trained.save_pretrained(tmp_path / "grown")
    assert loss_of(MotionLM.from_pretrained(tmp_path / "grown")) == pytest.approx(loss_of(trained), abs=1e-6)
    with pytest.raises(ConfigError, match="has 1 layers and cannot have 0"):
        build_lm(clips(), INFO, replace(config, encoder_layers=0))
    with pytest.raises(ConfigError, match="encoder_layers=3 is said of a model to go on from"):
        build_lm(clips(), INFO, replace(TINY, encoder_layers=3))


def test_motion_tokens_can_be_a_map_of_the_tokenizers_vectors(tmp_path: Path) -> None:
    vectors = torch.randn(16, 5, generator=torch.Generator().manual_seed(0))
    config = replace(TINY, code_rows="adapter")
    before = build_lm(clips(), INFO, config, code_vectors=vectors)
    assert before.adapter is not None
    frozen = before.adapter.vectors.clone()
    model = train_lm(clips(), INFO, config, folder=tmp_path / "run", code_vectors=vectors)
    assert model.adapter is not None
    assert torch.equal(model.adapter.vectors, frozen)
    assert loss_of(model) < loss_of(before)
    model.save_pretrained(tmp_path / "model")
    again = MotionLM.from_pretrained(tmp_path / "model")
    assert loss_of(again) == loss_of(model)
    answers = [
        m.generate(["a person frobs"], generator=torch.Generator().manual_seed(0), max_steps=4) for m in (model, again)
    ]
    assert answers[0] == answers[1]
    with pytest.raises(ConfigError, match="needs the tokenizer's code vectors"):
        build_lm(clips(), INFO, config)


def test_lora_learns_beside_matrices_that_stay_and_is_merged_into_them(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="LoRA needs kinalign[lora]")
    config = replace(TINY, lora_rank=2)
    plain, model = build_lm(clips(), INFO, TINY), build_lm(clips(), INFO, config)
    assert loss_of(model) == pytest.approx(loss_of(plain), abs=1e-6)  # begins as it is
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all("lora" in name or "shared" in name or "lm_head" in name for name in trained)
    merged = train_lm(clips(), INFO, config, folder=tmp_path / "run")
    assert loss_of(merged) < loss_of(plain)
    assert set(merged.state_dict()) == set(plain.state_dict())
    merged.save_pretrained(tmp_path / "model")
    assert loss_of(MotionLM.from_pretrained(tmp_path / "model")) == pytest.approx(loss_of(merged), abs=1e-6)


def test_activations_computed_again_teach_the_same(tmp_path: Path) -> None:
    config = replace(TINY, network=replace(TINY.network, dropout=0.0))
    whole = train_lm(clips(), INFO, config, folder=tmp_path / "whole")
    again = train_lm(clips(), INFO, replace(config, checkpoint_activations=True), folder=tmp_path / "again")
    assert loss_of(again) == pytest.approx(loss_of(whole), rel=1e-5)


# the model


def test_words_of_the_captions_and_of_the_phrasings_are_known() -> None:
    model = build_lm(clips(), INFO, TINY)
    for word in ("frobs", "grutches", "zibbles", "cartwheel"):
        assert model.text_tokenizer.tokenize(word) == [word]


def test_the_seed_makes_the_model() -> None:
    first, second = (build_lm(clips(), INFO, TINY).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = build_lm(clips(), INFO, replace(TINY, optimization=replace(TINY.optimization, seed=1)))
    assert not torch.equal(other.t5.shared.weight, first["t5.shared.weight"])


def test_what_was_trained_is_said(tmp_path: Path) -> None:
    config = replace(
        TINY,
        network=replace(TINY.network, width=32, dropout=0.0),
        optimization=Optimization(steps=120, learning_rate=1e-2, warmup_steps=5),
        batch_size=8,
        crop_share=0.0,
        empty_share=0.0,
    )
    rows = [clips()[0], clips()[1], clips()[3]]
    model = train_lm(rows, INFO, config, folder=tmp_path)
    prompts = ["a person frobs", "somebody grutches twice", "someone zibbles"]
    answers = model.generate(
        prompts, generator=torch.Generator().manual_seed(0), sampling=Sampling(temperature=0), max_steps=20
    )
    for row, (ids,) in zip(rows, answers):
        assert set(model.vocab.ids_to_codes(ids)[::2]) == set(row.codes[::2])


# a run


TRAIN = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
from test_lm_training import INFO, LONGER, clips
from kinalign.lm.train import train_lm
train_lm(clips(), INFO, LONGER, folder=sys.argv[2])
"""
LONGER = replace(TINY, optimization=replace(TINY.optimization, steps=80, checkpoint_every=10))


@pytest.mark.slow
def test_a_run_ended_by_kill_9_ends_like_one_never_killed(tmp_path: Path) -> None:
    whole = train_lm(clips(), INFO, LONGER, folder=tmp_path / "whole")

    command = [sys.executable, "-c", TRAIN, str(Path(__file__).parent), str(tmp_path / "killed")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    log, deadline = tmp_path / "killed" / "metrics.jsonl", time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") >= 13) and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    process.kill()
    assert process.wait() != 0
    assert 13 <= log.read_text().count("\n") < 80

    resumed = train_lm(clips(), INFO, LONGER, folder=tmp_path / "killed")
    assert log.read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    files = [model.save_pretrained(tmp_path / name) for model, name in ((whole, "a"), (resumed, "b"))]
    assert (files[0] / "model.safetensors").read_bytes() == (files[1] / "model.safetensors").read_bytes()


def test_a_trained_model_comes_back(tmp_path: Path) -> None:
    model = train_lm(clips(), INFO, TINY, folder=tmp_path / "run")
    back = MotionLM.from_pretrained(model.save_pretrained(tmp_path / "lm"))
    answers = [m.generate(["a person frobs"], generator=torch.Generator().manual_seed(0)) for m in (model, back)]
    assert answers[0] == answers[1]


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    train_lm(clips(), INFO, TINY, folder=tmp_path)
    with pytest.raises(ConfigError, match=r"balance is 0\.5 there and 1\.0 here"):
        train_lm(clips(), INFO, replace(TINY, balance=1.0), folder=tmp_path)


def test_no_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tokenized clip to train on"):
        train_lm([], INFO, TINY, folder=tmp_path)


def test_a_clip_that_nothing_is_said_of_is_refused(tmp_path: Path) -> None:
    silent = replace(clips()[0], captions=())
    with pytest.raises(DataError, match="clip 'a' has no caption"):
        train_lm([silent], INFO, TINY, folder=tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"balance": 1.5}, r"balance=1\.5 must be in \[0, 1\]"),
        ({"empty_share": -0.1}, r"empty_share=-0\.1 must be in \[0, 1\] \(--empty-share\)"),
        ({"crop_share": float("nan")}, "crop_share=nan must be"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"max_steps": 0}, r"max_steps=0 must be at least 2 \(--max-steps\)"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **settings)  # type: ignore[arg-type]
