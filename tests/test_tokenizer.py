"""The motion tokenizer: lengths, strict codes, folders that come back, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinalign.errors import CheckpointError, ConfigError, InvalidCodes, KinalignError, MotionError
from kinalign.motion.features import FeatureLayout, FeatureStats, motion_to_features
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, KIT, Skeleton
from kinalign.motion.synthetic import walking
from kinalign.run import read_json, read_tensors, write_json, write_tensors
from kinalign.tokenizer.quantizer import QuantizerKind
from kinalign.tokenizer.tokenizer import MotionTokenizer, TokenizerConfig
from kinalign.tokenizer.vqvae import VQVAE, VQVAEConfig


def tokenizer_of(
    skeleton: Skeleton = HUMANML3D, *, codes_per_step: int = 2, quantizer: QuantizerKind = "grouped"
) -> MotionTokenizer:
    """A tiny tokenizer that has learned nothing, but has codebooks drawn from something."""
    width = FeatureLayout(skeleton.num_joints).width
    config = VQVAEConfig(
        feature_width=width,
        width=16,
        code_dim=8,
        codebook_size=240 if quantizer == "fsq" else 32,
        codes_per_step=codes_per_step,
        network="patches",
        quantizer=quantizer,
    )
    torch.manual_seed(0)
    network = VQVAE(config)
    network(torch.randn(8, 32, width), generator=torch.Generator().manual_seed(0))
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=width).astype(np.float32) * 0.1, rng.uniform(0.05, 0.2, width).astype(np.float32)
    return MotionTokenizer(TokenizerConfig(config), network, FeatureStats(mean, std), skeleton)


@pytest.fixture(scope="module")
def tokenizer() -> MotionTokenizer:
    return tokenizer_of()


@pytest.fixture
def folder(tokenizer: MotionTokenizer, tmp_path: Path) -> Path:
    return tokenizer.save_pretrained(tmp_path / "tokenizer")


def kit_walk(num_frames: int) -> Motion:
    """A walk on KIT's joints: its rest pose, carried along."""
    pose = np.zeros((KIT.num_joints, 3))
    for joint in KIT.topological_order[1:]:
        pose[joint] = pose[KIT.parents[joint]] + KIT.offsets[joint]
    sway = 0.02 * np.random.default_rng(0).normal(size=(num_frames, KIT.num_joints, 3))
    return Motion(pose + sway + np.arange(num_frames)[:, None, None] * [0, 0, 0.05], skeleton=KIT)


# there and back


@pytest.mark.parametrize(("num_frames", "num_steps"), [(5, 1), (8, 1), (9, 2), (80, 19), (81, 20), (197, 49)])
@pytest.mark.parametrize("codes_per_step", [1, 2])
def test_a_step_is_four_frames_after_the_first(num_frames: int, num_steps: int, codes_per_step: int) -> None:
    tokenizer = tokenizer_of(codes_per_step=codes_per_step)
    codes = tokenizer.encode(walking(num_frames))
    assert codes.shape == (num_steps * codes_per_step,)
    assert codes.dtype == np.int64
    motion = tokenizer.decode(codes, caption="a walk")
    assert motion.joints.shape == (4 * num_steps, 22, 3)
    assert (motion.fps, motion.caption, motion.skeleton.name) == (20.0, "a walk", "humanml3d")


def test_each_place_of_a_step_speaks_its_own_part_of_the_codes(tokenizer: MotionTokenizer) -> None:
    codes = tokenizer.encode(walking(81))
    assert tokenizer.num_codes == 64
    assert ((codes[0::2] >= 0) & (codes[0::2] < 32)).all()
    assert ((codes[1::2] >= 32) & (codes[1::2] < 64)).all()


def test_a_row_of_codes_is_unfolded_and_folded_again(tokenizer: MotionTokenizer) -> None:
    codes = tokenizer.encode(walking(41))
    assert np.array_equal(tokenizer.flatten(tokenizer.unflatten(codes)), codes)


def test_codes_do_not_change_when_the_person_walks_elsewhere(tokenizer: MotionTokenizer) -> None:
    motion = walking(81)
    turned = motion.joints @ np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]]) + [3.0, 0.5, -2.0]
    assert np.array_equal(tokenizer.encode(replace(motion, joints=turned)), tokenizer.encode(motion))


def test_another_frame_rate_says_the_same(tokenizer: MotionTokenizer) -> None:
    # 40 fps and back drops every other frame, by linear interpolation at the very same times
    assert np.array_equal(tokenizer.encode(walking(61).resample(40)), tokenizer.encode(walking(61)))


def test_decoded_bones_are_the_skeletons(tokenizer: MotionTokenizer) -> None:
    joints = tokenizer.decode(tokenizer.encode(walking(41))).joints
    bones = np.linalg.norm(joints[:, 1:] - joints[:, list(HUMANML3D.parents[1:])], axis=-1)
    assert np.allclose(bones, HUMANML3D.bone_lengths[1:], atol=1e-5)  # float32, metres


def test_a_code_is_four_frames_wherever_it_is_decoded(tokenizer: MotionTokenizer) -> None:
    assert tokenizer.codes_per_second == pytest.approx(10)
    assert len(tokenizer.decode([3, 40])) == 4


def test_kits_joints_are_spoken_too() -> None:
    tokenizer = tokenizer_of(KIT)
    codes = tokenizer.encode(kit_walk(41))
    motion = tokenizer.decode(codes)
    assert motion.joints.shape == (40, 21, 3)
    assert motion.skeleton.name == "kit"


def test_published_features_are_read_with_the_published_heading_and_own_bones() -> None:
    tokenizer, motion = tokenizer_of(), walking(41)
    published = MotionTokenizer(
        replace(tokenizer.config, heading="published", uniform_bones=False),
        tokenizer.network,
        tokenizer.stats,
        HUMANML3D,
    )
    assert np.array_equal(published.features(motion), motion_to_features(motion))


# codes that no motion gives


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([], "codes are one row of integers"),
        (np.zeros(0, dtype=np.int64), "0 codes are no whole number of steps of 2, 1 at least"),
        ([3], "1 codes are no whole number of steps of 2"),
        ([3, 40, 4], "3 codes are no whole number"),
        ([40, 3], r"code 40 at place 0 is outside \[0, 32\)"),
        ([3, 40, 4, 5], r"code 5 at place 3 is outside \[32, 64\)"),
        ([3, 64], r"code 64 at place 1 is outside \[32, 64\)"),
        ([-1, 40], "code -1 at place 0"),
        ([3.0, 40.0], "one row of integers; these are float64"),
        ([True, True], "one row of integers; these are bool"),
        ([[3, 40]], r"one row of integers; these are int64 of shape \(1, 2\)"),
        (3, "one row of integers"),
        (["<motion_id_3>"], "one row of integers"),
        (np.array([3, 2**64 - 1], dtype=np.uint64), "at place 1 is outside"),
    ],
)
def test_codes_that_no_motion_gives_are_refused(codes: Any, message: str, tokenizer: MotionTokenizer) -> None:
    with pytest.raises(InvalidCodes, match=message):
        tokenizer.decode(codes)


# motions that cannot be spoken


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: walking(1), "need at least 2 frames"),
        (lambda: walking(4), "a motion of 4 frames at 20.0 fps is too short for one code; it needs 5 frames"),
        (lambda: walking(20, fps=100.0), "a motion of 20 frames at 100.0 fps is too short for one code"),
        (lambda: Motion(np.zeros((40, 22, 3))), "a bone has no length|faces nowhere"),
        (lambda: Motion(np.full((40, 22, 3), np.nan)), "frame 0 of 40 holds NaN"),
        (lambda: kit_walk(40), "reads the 22 joints of 'humanml3d'; the motion has 21"),
    ],
    ids=["one frame", "four frames", "a fifth of a second", "one point", "NaN", "KIT"],
)
def test_a_motion_that_has_no_codes_is_refused(
    make: Callable[[], Motion], message: str, tokenizer: MotionTokenizer
) -> None:
    with pytest.raises(MotionError, match=message):
        tokenizer.encode(make())


# folders


@pytest.mark.parametrize("quantizer", ["grouped", "residual", "library-residual", "fsq"])
def test_a_tokenizer_comes_back_as_it_was(quantizer: QuantizerKind, tmp_path: Path) -> None:
    if quantizer in ("library-residual", "fsq"):
        pytest.importorskip("vector_quantize_pytorch", reason="pip install 'kinalign[quantizers]'")
    tokenizer = tokenizer_of(quantizer=quantizer)
    back = MotionTokenizer.from_pretrained(tokenizer.save_pretrained(tmp_path))
    assert back.config == tokenizer.config
    codes = tokenizer.encode(walking(61))
    assert np.array_equal(back.encode(walking(61)), codes)
    assert np.array_equal(back.decode(codes).joints, tokenizer.decode(codes).joints)
    ours, theirs = tokenizer.network.state_dict(), back.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_the_size_is_nearly_the_same_and_computed_in_float32(
    dtype: torch.dtype, tokenizer: MotionTokenizer, tmp_path: Path
) -> None:
    full, half = tokenizer.save_pretrained(tmp_path / "full"), tokenizer.save_pretrained(tmp_path / "half", dtype=dtype)
    assert (half / "model.safetensors").stat().st_size < 0.7 * (full / "model.safetensors").stat().st_size
    back = MotionTokenizer.from_pretrained(half)
    assert next(back.network.parameters()).dtype == torch.float32
    codes = tokenizer.encode(walking(61))
    away = np.linalg.norm(back.decode(codes).joints - tokenizer.decode(codes).joints, axis=-1)
    assert away.mean() < (0.002 if dtype == torch.float16 else 0.02)  # metres, the path of the root included


def test_kits_tokenizer_comes_back(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(KIT)
    back = MotionTokenizer.from_pretrained(tokenizer.save_pretrained(tmp_path))
    assert back.skeleton.name == "kit"
    assert np.array_equal(back.encode(kit_walk(41)), tokenizer.encode(kit_walk(41)))


def change_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        tensors = read_tensors(folder / "model.safetensors")
        change(tensors)
        write_tensors(folder / "model.safetensors", tensors)

    return spoil


def change_config(**network: Any) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        config = read_json(folder / "config.json")
        write_json(folder / "config.json", config | {"network": config["network"] | network})

    return spoil


def truncate(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:300])


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (truncate("model.safetensors"), CheckpointError, r"model\.safetensors cannot be read"),
        (truncate("config.json"), CheckpointError, r"config\.json cannot be read"),
        (lambda folder: (folder / "model.safetensors").unlink(), CheckpointError, r"model\.safetensors cannot be read"),
        (lambda folder: (folder / "config.json").unlink(), CheckpointError, r"config\.json cannot be read"),
        (change_config(mu=0.99), ConfigError, r"unknown key 'network\.mu' for VQVAEConfig; it knows feature_width"),
        (
            change_config(codebook_size=64),
            CheckpointError,
            r"quantizer\.groups\.0\.code_count has shape \(32,\); .* needs \(64,\)",
        ),
        (change_config(codes_per_step=1), CheckpointError, r"unknown \(quantizer\.groups\.1"),
        (change_config(network="published"), CheckpointError, r"tensors absent \(decoder\.model\.0\.bias"),
        (change_config(width=0), ConfigError, "width=0 must be at least 1"),
        (
            change_tensors(lambda t: t.pop("network.encoder.patch.weight")),
            CheckpointError,
            r"1 tensors absent \(encoder\.patch\.weight\)",
        ),
        (change_tensors(lambda t: t.update(mood=torch.ones(1))), CheckpointError, r"1 tensors unknown \(mood\)"),
        (change_tensors(lambda t: t.pop("stats.std")), CheckpointError, "has no tensor 'stats.std'"),
        (
            change_tensors(lambda t: t.update({"skeleton.bone_lengths": torch.ones(21)})),
            CheckpointError,
            "skeleton of 21 joints 251: they are of different models",
        ),
        (
            change_tensors(lambda t: t.update({"stats.std": torch.ones(1)})),
            CheckpointError,
            "they are of different models",
        ),
        (
            change_tensors(lambda t: t["stats.std"].fill_(0)),
            CheckpointError,
            "a standard deviation that is not positive",
        ),
        (change_tensors(lambda t: t["stats.mean"].fill_(float("nan"))), CheckpointError, "the statistics hold NaN"),
    ],
)
def test_a_spoilt_folder_is_one_clear_error(
    spoil: Callable[[Path], object], error: type[KinalignError], message: str, folder: Path
) -> None:
    spoil(folder)
    with pytest.raises(error, match=message):
        MotionTokenizer.from_pretrained(folder)


def test_weights_of_nan_give_an_error_rather_than_a_motion(folder: Path) -> None:
    change_tensors(lambda t: t["network.decoder.out.weight"].fill_(float("nan")))(folder)
    with pytest.raises(CheckpointError, match="answers NaN or infinity: its weights are damaged"):
        MotionTokenizer.from_pretrained(folder).decode([3, 40])
