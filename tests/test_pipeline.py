"""From a sentence to files, with a tiny model of random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kinalign.cli import main
from kinalign.data.tokens import TokenizedClip, TokensInfo
from kinalign.errors import CheckpointError, ConfigError, MotionError, PromptError
from kinalign.lm.lora import Adapter, Factors, base_sha256
from kinalign.lm.model import LMConfig, MotionLM, Sampling
from kinalign.lm.text import plain_tokenizer
from kinalign.motion.features import FeatureStats, motion_to_features
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D
from kinalign.motion.synthetic import walking
from kinalign.pipeline import TextToMotion, checked_prompt, shipped_model, tokenized
from kinalign.run import write_json
from kinalign.tokenizer.tokenizer import MotionTokenizer, TokenizerConfig
from kinalign.tokenizer.vqvae import VQVAE, VQVAEConfig

FADE_FRAMES = 8
"""0.4 s at 20 frames per second."""
FREE = Sampling(temperature=2.0, top_p=1.0, guidance=1.0)


def tokenizer_of(*, codebook_size: int = 16) -> MotionTokenizer:
    config = VQVAEConfig(
        network="patches", width=16, code_dim=8, codebook_size=codebook_size, codes_per_step=2, quantizer="residual"
    )
    torch.manual_seed(0)
    network = VQVAE(config)
    network(torch.randn(8, 32, config.feature_width), generator=torch.Generator().manual_seed(0))
    stats = FeatureStats.of(motion_to_features(walking(60), target_skeleton=HUMANML3D))
    return MotionTokenizer(TokenizerConfig(config), network, stats, HUMANML3D)


def lm_of(*, num_codes: int = 32, codes_per_step: int = 2) -> MotionLM:
    torch.manual_seed(1)
    config = LMConfig(width=16, feed_forward_width=32, encoder_layers=1, decoder_layers=1, heads=2, max_text_tokens=40)
    tokenizer = plain_tokenizer(["a", "person", "walks", "waves", "jumps", "for", "seconds"])
    return MotionLM.from_config(config, num_codes=num_codes, codes_per_step=codes_per_step, text_tokenizer=tokenizer)


@pytest.fixture(scope="module")
def model() -> TextToMotion:
    return TextToMotion(lm_of(), tokenizer_of())


@pytest.fixture(scope="module")
def folder(model: TextToMotion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model.save_pretrained(tmp_path_factory.mktemp("model"))


def same(ours: list[Motion], theirs: list[Motion]) -> bool:
    return len(ours) == len(theirs) and all(np.array_equal(a.joints, b.joints) for a, b in zip(ours, theirs))


# Python


def test_a_sentence_becomes_motions(model: TextToMotion) -> None:
    motions = model("a person walks", num_candidates=3)
    assert len(motions) == 3
    for motion in motions:
        assert motion.joints.shape[1:] == (22, 3)
        assert 8 <= len(motion) <= 196
        assert len(motion) % 4 == 0
        assert (motion.fps, motion.caption) == (20.0, "a person walks")
        assert motion.joints[..., 1].min() == pytest.approx(0, abs=1e-6)


def test_the_same_seed_gives_the_same_motions_whatever_else_is_asked_for(model: TextToMotion) -> None:
    first = model("a person walks", num_candidates=3, seed=5)
    assert same(model("a person walks", num_candidates=3, seed=5), first)
    assert same(model("a person walks", num_candidates=2, seed=5), first[:2])
    assert not same(model("a person walks", num_candidates=3, seed=6), first)
    both = model.generate(["a person waves", "a person walks"], num_candidates=3, seed=5)
    assert same(both[1].motions, first)
    assert [generated.num_invalid for generated in both] == [0, 0]


def test_white_space_around_a_prompt_says_nothing(model: TextToMotion) -> None:
    assert same(model("  a person \n walks\t"), model("a person walks"))


@pytest.mark.parametrize(("length_s", "num_frames"), [(0.4, 8), (1.0, 20), (1.09, 20), (3.0, 60), (9.8, 196)])
def test_a_length_in_seconds_is_kept_to_a_step(length_s: float, num_frames: int, model: TextToMotion) -> None:
    motions = model("a person walks", num_candidates=2, length_s=length_s)
    assert [len(motion) for motion in motions] == [num_frames, num_frames]


@pytest.mark.parametrize("length_s", [0.0, -1.0, 0.39, 9.9, 1000.0, float("nan"), float("inf")])
def test_a_length_that_no_motion_has_is_refused(length_s: float, model: TextToMotion) -> None:
    with pytest.raises(ConfigError, match=r"length_s=.* must be between 0\.4 and 9\.8 seconds \(--length-seconds\)"):
        model("a person walks", length_s=length_s)


def test_answers_that_are_no_motion_are_counted_and_not_repaired(model: TextToMotion) -> None:
    (generated,) = model.generate(["a person walks"], num_candidates=20, sampling=FREE, constrained=False)
    assert generated.num_invalid > 0
    assert len(generated.motions) + generated.num_invalid == 20


def test_no_prompts_give_nothing(model: TextToMotion) -> None:
    assert model.generate([]) == []


def test_no_candidates_are_refused(model: TextToMotion) -> None:
    with pytest.raises(ConfigError, match=r"num_candidates=0 must be at least 1 \(--num-candidates\)"):
        model("a person walks", num_candidates=0)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "the prompt '' says nothing"),
        (" \n\t", "says nothing; describe what a person does"),
        ("?!...", "says nothing"),
        ("a person walks " * 10_000, "a prompt of 149999 characters is too long; at most 500"),
        ("walks " * 40, "41 tokens .* too long: this model reads 40"),
    ],
    ids=["empty", "spaces", "marks", "10,000 words", "more tokens than the model reads"],
)
def test_a_prompt_that_cannot_be_spoken_is_refused(prompt: str, message: str, model: TextToMotion) -> None:
    with pytest.raises(PromptError, match=message):
        model(prompt)


def test_prompts_of_any_language_and_sign_are_taken(model: TextToMotion) -> None:
    for prompt in ("un homme marche", "人が歩く", "🚶 walks", "<motion_id_3> [PAD] a person walks", "{caption}"):
        assert len(model(prompt, length_s=1.0)) == 1


# reading, going on, filling in


def test_a_caption_is_words_and_the_same_each_time(model: TextToMotion) -> None:
    said = model.captions([walking(60), walking(40)])
    assert said == [model.caption(walking(60)), model.caption(walking(40))]
    assert all(isinstance(text, str) and "[" not in text for text in said)


def test_a_motion_too_long_to_read_is_refused(model: TextToMotion) -> None:
    with pytest.raises(MotionError, match=r"a motion of 10\.\d s is too long: this model reads 9\.8 s"):
        model.caption(walking(210))


@pytest.mark.parametrize("frames", [17, 60, 300])
def test_a_continued_motion_begins_as_it_was_given(frames: int, model: TextToMotion) -> None:
    given = walking(frames)
    first, second = model.predict(given, seconds=1.0, num_candidates=2)
    kept = frames - 1 - FADE_FRAMES
    for motion in (first, second):
        assert len(motion) == frames - 1 + 20
        assert np.array_equal(motion.joints[:kept], given.joints[:kept])
    assert not np.array_equal(first.joints, second.joints)
    # the rest goes on from there: no joint moves farther in a frame than a decoded motion does
    steps = np.linalg.norm(np.diff(first.joints, axis=0), axis=-1)
    assert steps[kept - 1 :].max() < 3 * max(steps[:kept].max(), steps[kept + FADE_FRAMES :].max())


def test_a_long_continuation_is_as_long_as_asked_for(model: TextToMotion) -> None:
    (motion,) = model.predict(walking(200), seconds=9.0)
    assert len(motion) == 199 + 180
    with pytest.raises(ConfigError, match=r"seconds=9\.8 must be between 0\.4 and 9\.6 seconds \(--seconds\)"):
        model.predict(walking(200), seconds=9.8)


def test_a_motion_at_another_frame_rate_goes_on_at_the_models(model: TextToMotion) -> None:
    (motion,) = model.predict(walking(60).resample(30), seconds=0.4)
    assert motion.fps == 20
    assert len(motion) == len(walking(60).resample(30).resample(20)) - 1 + 8


@pytest.mark.parametrize("anchored", [False, True])
def test_what_is_filled_in_joins_what_was_given(anchored: bool, model: TextToMotion) -> None:
    head, tail = walking(41), walking(50)
    tail = replace(tail, joints=tail.joints + np.array([1.0, 0, 3.0]))
    (motion,) = model.inbetween(head, tail, seconds=1.0, anchored=anchored)
    assert len(motion) == 40 + 20 + 50
    kept = 40 - FADE_FRAMES
    assert np.array_equal(motion.joints[:kept], head.joints[:kept])
    ours, theirs = motion.joints[-40:], tail.joints[-40:]
    if anchored:
        assert np.abs(ours - theirs).max() < 1e-3
    else:  # the same movement somewhere else
        distance = np.linalg.norm(ours[:, :, None] - ours[:, None], axis=-1)
        assert np.abs(distance - np.linalg.norm(theirs[:, :, None] - theirs[:, None], axis=-1)).max() < 1e-3
        assert np.abs(np.diff(ours[..., 1] - theirs[..., 1])).max() < 1e-3


@pytest.mark.parametrize("seconds", [0.0, 0.05, 20.0, float("nan")])
def test_a_gap_that_cannot_be_filled_is_refused(seconds: float, model: TextToMotion) -> None:
    with pytest.raises(ConfigError, match=r"must be between 0\.2 and 9\.4 \(--seconds\)"):
        model.inbetween(walking(40), walking(40), seconds=seconds)


def test_what_is_asked_together_is_answered_as_if_alone(model: TextToMotion, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, seeds = ["a person walks", "a person waves", "a person jumps", "a person walks"], [5, 6, 7, 8]
    asked = [model.ask(prompt) for prompt in prompts]
    together = model.answers(asked, seeds=seeds)
    for one, seed, (codes,) in zip(asked, seeds, together):
        assert np.array_equal(model.answers([one], seeds=[seed])[0][0], codes)
    # another seed is another motion, of the same prompt too
    assert not np.array_equal(together[0][0], together[3][0])
    monkeypatch.setattr("kinalign.pipeline.BATCH_SIZE", 2)
    for few, many in zip(model.answers(asked, seeds=seeds), together):
        assert np.array_equal(few[0], many[0])


def test_lengths_that_are_asked_together_are_each_kept(model: TextToMotion) -> None:
    lengths = [3.0, 0.4, None, 9.8, 1.0]
    asked = [model.ask("a person walks", length_s=length_s) for length_s in lengths]
    for one, length_s, (codes,) in zip(asked, lengths, model.answers(asked, seeds=[3] * 5)):
        assert codes is not None
        (alone,) = model("a person walks", length_s=length_s, seed=3)
        assert same([one.finish(codes)], [alone])


def test_continuations_and_gaps_are_answered_together(model: TextToMotion) -> None:
    motions = [walking(41), walking(60), walking(33)]
    asked = [model.ask_next(motion, seconds=1.0) for motion in motions]
    asked += [model.ask_between(motion, motion, seconds=0.2 * n, anchored=True) for n, motion in enumerate(motions, 1)]
    answers = model.answers(asked, seeds=[4] * 6)
    made = [one.finish(codes) for one, (codes,) in zip(asked, answers) if codes is not None]
    alone = [model.predict(motion, seconds=1.0, seed=4)[0] for motion in motions]
    alone += [model.inbetween(m, m, seconds=0.2 * n, anchored=True, seed=4)[0] for n, m in enumerate(motions, 1)]
    assert same(made, alone)


def test_what_is_between_key_steps_is_filled_in(model: TextToMotion) -> None:
    motion = replace(walking(42), joints=walking(42).joints + np.array([3.0, 0, -2.0]))
    codes = model.tokenizer.encode(motion).reshape(-1, 2)
    asked = model.ask_keys(motion, [0, 4, 9])
    (answers,) = model.answers([asked], seeds=[0], num_candidates=2)
    for answer in answers:
        assert answer is not None
        rows = answer.reshape(-1, 2)
        assert rows.shape == (10, 2)
        assert np.array_equal(rows[[0, 4, 9]], codes[[0, 4, 9]])
        filled = asked.finish(answer)
        assert len(filled) == 40
        known = np.r_[0:4, 16:20, 36:40]
        assert np.array_equal(filled.joints[known], motion.joints[known].astype(filled.joints.dtype))
        assert np.abs(np.diff(filled.joints, axis=0)).max() < 0.6


@pytest.mark.parametrize("steps", [[], [10], [-1, 3], list(range(10))])
def test_key_steps_that_leave_nothing_or_everything_to_fill_are_refused(steps: list[int], model: TextToMotion) -> None:
    with pytest.raises(ConfigError, match=r"must be some of 0 to 9, not none and not all"):
        model.ask_keys(walking(41), steps)


def test_a_motion_too_short_to_go_on_from_is_refused(model: TextToMotion) -> None:
    with pytest.raises(MotionError, match="too short for one code"):
        model.predict(walking(4), seconds=1.0)


# folders


def test_a_model_comes_back_as_it_was(model: TextToMotion, folder: Path) -> None:
    back = TextToMotion.from_pretrained(folder)
    assert same(back("a person walks", num_candidates=2, seed=3), model("a person walks", num_candidates=2, seed=3))


def test_half_the_size_still_speaks(model: TextToMotion, folder: Path, tmp_path: Path) -> None:
    half = model.save_pretrained(tmp_path, dtype=torch.float16)
    sizes = [sum(f.stat().st_size for f in path.rglob("*.safetensors")) for path in (half, folder)]
    assert sizes[0] < 0.7 * sizes[1]
    assert len(TextToMotion.from_pretrained(half)("a person walks", length_s=1.0)[0]) == 20


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def truncated(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:200])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("config.json"), r"is no model folder: it has no config\.json \(--model\)"),
        (lambda f: write_json(f / "config.json", {"model": "GPT"}), "holds something else than a whole model"),
        (truncated("lm/model.safetensors"), r"lm.model\.safetensors cannot be read"),
        (truncated("tokenizer/model.safetensors"), r"tokenizer.model\.safetensors cannot be read"),
        (without("lm/config.json"), r"lm.config\.json cannot be read"),
        (lambda f: tokenizer_of(codebook_size=32).save_pretrained(f / "tokenizer"), "they are of different models"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_refused(
    spoil: Callable[[Path], object], message: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "model")
    spoil(tmp_path / "model")
    with pytest.raises(CheckpointError, match=message):
        TextToMotion.from_pretrained(tmp_path / "model")


def test_a_tokenizer_alone_is_no_model(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="holds something else than a whole model"):
        TextToMotion.from_pretrained(folder / "tokenizer")


@pytest.mark.parametrize(("num_codes", "codes_per_step"), [(64, 2), (32, 1)])
def test_a_language_model_of_another_codebook_is_refused(num_codes: int, codes_per_step: int) -> None:
    lm = lm_of(num_codes=num_codes, codes_per_step=codes_per_step)
    with pytest.raises(CheckpointError, match="they are of different models"):
        TextToMotion(lm, tokenizer_of())


def test_the_shipped_model_can_be_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINALIGN_MODEL", str(folder))
    assert shipped_model() == folder
    monkeypatch.setenv("KINALIGN_MODEL", str(tmp_path / "no"))
    with pytest.raises(CheckpointError, match=r"no is no model folder"):
        TextToMotion.from_pretrained()


def adapter_of(folder: Path, *, seed: int = 0, base: str = "") -> Adapter:
    """A random change of the cross-attention of the model in a folder."""
    lm = TextToMotion.from_pretrained(folder).lm
    place, generator = "decoder.block.0.layer.1.EncDecAttention.v", torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 16, generator=generator), torch.randn(16, 2, generator=generator)
    return Adapter(base_sha256(lm), {place: Factors(a, b)}, base)


def test_an_adapter_finds_its_base_beside_it_and_else_it_is_the_shipped_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "base")
    beside = adapter_of(folder, base="base").save_pretrained(tmp_path / "beside")
    far = adapter_of(folder, base="base").save_pretrained(tmp_path / "elsewhere" / "far")
    said = TextToMotion.from_pretrained(folder, adapter=far)("a person walks", seed=3)
    assert not same(said, TextToMotion.from_pretrained(folder)("a person walks", seed=3))
    for model in (TextToMotion.from_pretrained(beside), TextToMotion.from_pretrained(adapter=beside)):
        assert same(model("a person walks", seed=3), said)
    monkeypatch.setenv("KINALIGN_MODEL", str(folder))
    assert same(TextToMotion.from_pretrained(far)("a person walks", seed=3), said)


def test_an_adapter_of_another_base_is_refused(folder: Path, tmp_path: Path) -> None:
    other = TextToMotion(lm_of(), tokenizer_of())
    other.lm.t5.shared.weight.data += 1
    adapter = adapter_of(folder, base="tiny").save_pretrained(tmp_path / "adapter")
    with pytest.raises(CheckpointError, match=r"is for a base with weights .*\(tiny\), and the model's are"):
        TextToMotion.from_pretrained(other.save_pretrained(tmp_path / "other"), adapter=adapter)


def test_an_adapter_on_an_adapter_is_refused_with_the_way_out(folder: Path, tmp_path: Path) -> None:
    adapter = adapter_of(folder).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ConfigError, match=r"is an adapter itself; give all of them with their shares \(--adapter\)"):
        TextToMotion.from_pretrained(adapter, adapter=adapter)


def test_generate_takes_adapters_with_shares(folder: Path, tmp_path: Path) -> None:
    names = [str(adapter_of(folder, seed=n).save_pretrained(tmp_path / f"adapter{n}")) for n in range(2)]
    options = ["--model", str(folder), "--formats", "npy", "--length-seconds", "1", "--no-plant"]
    options += ["--out", str(tmp_path / "out")]
    adapters = ["--adapter", names[0], "--adapter", f"{names[1]}=0.5"]
    assert main(["generate", "a person walks", *options, *adapters]) == 0
    expected = TextToMotion.from_pretrained(folder, adapter={names[0]: 1.0, names[1]: 0.5})
    made = Motion.load(tmp_path / "out" / "001-a-person-walks.npy")
    np.testing.assert_allclose(made.joints, expected("a person walks", length_s=1.0)[0].joints, atol=1e-6)
    plain = TextToMotion.from_pretrained(folder)("a person walks", length_s=1.0)[0].joints
    assert np.abs(made.joints - plain).max() > 1e-3


def test_codes_are_made_once_and_only_for_their_tokenizer(tmp_path: Path) -> None:
    info = TokensInfo(num_codes=32, codes_per_step=2, frames_per_step=4, fps=20.0, tokenizer_sha256="ab")
    clips = [TokenizedClip("a", np.array([3, 20]), ("a person walks",), "CMU", "train")]
    assert [row.id for row in tokenized(tmp_path, info, lambda: clips)] == ["a"]

    def never() -> list[TokenizedClip]:
        raise AssertionError("they are there already")

    assert [row.codes.tolist() for row in tokenized(tmp_path, info, never)] == [[3, 20]]
    with pytest.raises(CheckpointError, match="holds codes of another tokenizer"):
        tokenized(tmp_path, replace(info, tokenizer_sha256="cd"), never)


# names and folders


def test_a_checked_prompt_is_one_line() -> None:
    assert checked_prompt(" a\tperson \n walks ") == "a person walks"
    assert checked_prompt("x" * 500) == "x" * 500


def test_a_model_folder_is_read_by_people_and_programs(folder: Path) -> None:
    assert json.loads((folder / "config.json").read_text())["model"] == "TextToMotion"
    assert not list(folder.rglob("*.bin")) + list(folder.rglob("*.pt")) + list(folder.rglob("*.pkl"))
