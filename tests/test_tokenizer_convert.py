"""Published weights become a tokenizer folder and go back bit for bit; nothing in a file is executed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_humanml3d import walk
from torch import Tensor

from kinalign.errors import CheckpointError
from kinalign.motion.features import CONTACT_THRESHOLD_M2, motion_to_features
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import KIT
from kinalign.motion.synthetic import walking
from kinalign.published import read_published
from kinalign.tokenizer.convert import from_published, published_stats, to_published
from kinalign.tokenizer.tokenizer import MotionTokenizer, TokenizerConfig
from kinalign.tokenizer.vqvae import VQVAE, VQVAEConfig

WIDTH, CODES, CODE_DIM = 12, 20, 8


def published_state(*, seed: int = 0, num_features: int = 263) -> dict[str, Tensor]:
    """The state dict of a MotionGPT checkpoint, all names of it, but narrow."""
    generator = torch.Generator().manual_seed(seed)
    state = {"vae.quantizer.codebook": torch.randn(CODES, CODE_DIM, generator=generator)}

    def layer(name: str, *shape: int) -> None:
        state[f"vae.{name}.weight"] = torch.randn(shape, generator=generator) * 0.1
        state[f"vae.{name}.bias"] = torch.randn(shape[:1], generator=generator) * 0.1

    def stack(name: str) -> None:
        for unit in range(3):
            layer(f"{name}.model.{unit}.conv1", WIDTH, WIDTH, 3)
            layer(f"{name}.model.{unit}.conv2", WIDTH, WIDTH, 1)

    layer("encoder.model.0", WIDTH, num_features, 3)
    layer("encoder.model.4", CODE_DIM, WIDTH, 3)
    layer("decoder.model.0", WIDTH, CODE_DIM, 3)
    layer("decoder.model.4", WIDTH, WIDTH, 3)
    layer("decoder.model.6", num_features, WIDTH, 3)
    for stage in (2, 3):
        layer(f"encoder.model.{stage}.0", WIDTH, WIDTH, 4)
        stack(f"encoder.model.{stage}.1")
        stack(f"decoder.model.{stage}.0")
        layer(f"decoder.model.{stage}.2", WIDTH, WIDTH, 3)
    return state


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A checkpoint with what else such a file holds, and its statistics."""
    others = {
        "_buffers": {},
        "lm.language_model.shared.weight": torch.zeros(3, 2),
        "metrics.TM2TMetrics.count": torch.zeros(()),
        "metrics.TM2TMetrics.pred": [torch.zeros(2)],  # a metric's list of batches
        "datamodule.mean": torch.zeros(263),
    }
    torch.save({"state_dict": published_state() | others, "epoch": 3}, tmp_path / "motiongpt.tar")
    rng = np.random.default_rng(0)
    np.save(tmp_path / "mean.npy", rng.normal(size=263).astype(np.float32))
    np.save(tmp_path / "std.npy", rng.uniform(0.1, 1, 263).astype(np.float32))
    return {name: tmp_path / f"{name}{suffix}" for name, suffix in (("mean", ".npy"), ("std", ".npy"))} | {
        "checkpoint": tmp_path / "motiongpt.tar"
    }


def test_there_and_back_is_bit_for_bit(files: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = from_published(**files)
    folder = tokenizer.save_pretrained(tmp_path / "folder")
    back = torch.load(to_published(MotionTokenizer.from_pretrained(folder), tmp_path / "back.tar"), weights_only=True)[
        "state_dict"
    ]
    state = published_state()
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(back[name], tensor), name


def test_sizes_are_told_by_the_shapes(files: dict[str, Path]) -> None:
    config = from_published(**files).config
    assert config.heading == "published"
    network = config.network
    assert (network.width, network.codebook_size, network.code_dim) == (WIDTH, CODES, CODE_DIM)
    assert (network.halvings, network.depth, network.codes_per_step) == (2, 3, 1)


def test_statistics_come_along(files: dict[str, Path]) -> None:
    stats = from_published(**files).stats
    assert np.array_equal(stats.mean, np.load(files["mean"]))
    assert np.array_equal(stats.std, np.load(files["std"]))


def test_a_converted_tokenizer_speaks(files: dict[str, Path]) -> None:
    tokenizer = from_published(**files)
    codes = tokenizer.encode(walking(41))
    assert codes.shape == (10,)
    assert tokenizer.decode(codes).joints.shape == (40, 22, 3)


def plain_codes(state: dict[str, Tensor], normalized: np.ndarray) -> list[int]:
    """The encoder written out once more, layer by layer, from the published description."""
    conv = torch.nn.functional.conv1d

    def weights(name: str) -> tuple[Tensor, Tensor]:
        return state[f"vae.encoder.model.{name}.weight"], state[f"vae.encoder.model.{name}.bias"]

    x = torch.from_numpy(normalized).float().T[None]
    x = conv(x, *weights("0"), padding=1).relu()
    for stage in (2, 3):
        x = conv(x, *weights(f"{stage}.0"), stride=2, padding=1)
        for unit, reach in enumerate((9, 3, 1)):
            y = conv(x.relu(), *weights(f"{stage}.1.model.{unit}.conv1"), padding=reach, dilation=reach)
            x = x + conv(y.relu(), *weights(f"{stage}.1.model.{unit}.conv2"))
    x = conv(x, *weights("4"), padding=1)[0].T
    return torch.cdist(x, state["vae.quantizer.codebook"]).argmin(1).tolist()


def test_codes_are_those_of_plain_convolutions(files: dict[str, Path]) -> None:
    tokenizer = from_published(**files)
    normalized = (tokenizer.features(walking(41)) - np.load(files["mean"])) / np.load(files["std"])
    assert tokenizer.encode(walking(41)).tolist() == plain_codes(published_state(), normalized)


def test_kits_published_weights_read_millimetres(tmp_path: Path) -> None:
    """Codes are those of a network that is shown features of joints in millimetres, as KIT-ML's files hold them."""
    state, motion = published_state(num_features=251), Motion(walk(KIT, 41), fps=12.5, skeleton=KIT)
    torch.save(state, tmp_path / "kit.tar")
    theirs = replace(motion, joints=motion.joints * 1000)
    rows = motion_to_features(theirs, heading="published", contact_threshold_m2=CONTACT_THRESHOLD_M2 * 1e6)
    mean, std = rows.mean(0), rows.std(0) + 1
    np.save(tmp_path / "mean.npy", mean)
    np.save(tmp_path / "std.npy", std)
    tokenizer = from_published(tmp_path / "kit.tar", mean=tmp_path / "mean.npy", std=tmp_path / "std.npy")
    assert (tokenizer.config.fps, tokenizer.skeleton.name) == (12.5, "kit")
    assert tokenizer.encode(motion).tolist() == plain_codes(state, (rows - mean) / std)
    stats = published_stats(tokenizer)
    np.testing.assert_allclose(stats.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(stats.std, std, rtol=1e-6)


def test_a_state_dict_alone_is_read_too(files: dict[str, Path]) -> None:
    torch.save(published_state(), files["checkpoint"])
    assert from_published(**files).codebook_size == CODES


# what is refused


class Payload:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_in_a_pickle_is_refused_and_not_executed(writer: str, files: dict[str, Path], tmp_path: Path) -> None:
    content = {"state_dict": published_state(), "hyper_parameters": Payload(tmp_path / "executed")}
    if writer == "torch":
        torch.save(content, files["checkpoint"])
    else:
        files["checkpoint"].write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        from_published(**files)
    assert not (tmp_path / "executed").exists()


def test_the_payload_of_that_test_is_a_real_one(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"\x80\x04", bytes(range(256)), b"PK\x03\x04" + bytes(40)]
)
def test_a_file_that_is_no_checkpoint_is_one_clear_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.tar").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"file\.tar"):
        read_published(tmp_path / "file.tar")


def test_a_damaged_checkpoint_is_read_or_is_one_clear_error(tmp_path: Path) -> None:
    path, rng = tmp_path / "file.tar", np.random.default_rng(0)
    torch.save({"state_dict": {"w": torch.ones(3)}}, path, _use_new_zipfile_serialization=False)
    whole, num_refused = path.read_bytes(), 0
    for _ in range(200):
        damaged = bytearray(whole)
        for place in rng.integers(len(whole), size=3):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            read_published(path)
        except CheckpointError:
            num_refused += 1
    assert num_refused > 100


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_checkpoint_is_one_clear_error(share: float, files: dict[str, Path]) -> None:
    content = files["checkpoint"].read_bytes()
    files["checkpoint"].write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"motiongpt\.tar"):
        from_published(**files)


def test_an_absent_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no\.tar is absent"):
        read_published(tmp_path / "no.tar")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vae.quantizer.codebook", r"has no tensor vae\.quantizer\.codebook"),
        ("vae.encoder.model.0.weight", r"encoder\.model\.0\.weight"),
        ("vae.encoder.model.3.0.weight", r"1 tensors absent \(encoder\.model\.3\.0\.weight\)"),
        (
            "vae.encoder.model.2.1.model.2.conv1.bias",
            r"1 tensors absent \(encoder\.model\.2\.1\.model\.2\.conv1\.bias\)",
        ),
        ("vae.decoder.model.6.bias", r"1 tensors absent \(decoder\.model\.6\.bias\)"),
    ],
)
def test_a_missing_tensor_is_named(name: str, message: str, files: dict[str, Path]) -> None:
    state = published_state()
    del state[name]
    torch.save({"state_dict": state}, files["checkpoint"])
    with pytest.raises(CheckpointError, match=message):
        from_published(**files)


def test_an_unknown_tensor_of_the_tokenizer_is_named(files: dict[str, Path]) -> None:
    torch.save({"state_dict": published_state() | {"vae.encoder.mood": torch.ones(2)}}, files["checkpoint"])
    with pytest.raises(CheckpointError, match=r"1 tensors unknown \(encoder\.mood\)"):
        from_published(**files)


def test_a_tensor_of_another_shape_is_named(files: dict[str, Path]) -> None:
    torch.save({"state_dict": published_state() | {"vae.decoder.model.6.bias": torch.ones(251)}}, files["checkpoint"])
    with pytest.raises(
        CheckpointError, match=r"decoder\.model\.6\.bias has shape \(251,\); this network needs \(263,\)"
    ):
        from_published(**files)


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": 3}, {"state_dict": {"vae.quantizer.codebook": 3}}])
def test_a_checkpoint_without_tensors_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file.tar")
    with pytest.raises(CheckpointError, match=r"file\.tar is no checkpoint"):
        read_published(tmp_path / "file.tar")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: np.save(path, np.ones(251)), r"has shape \(251,\); this network needs 263 finite numbers"),
        (lambda path: np.save(path, np.full(263, np.nan)), "263 finite numbers"),
        (lambda path: np.save(path, np.zeros(263)), "a standard deviation that is not positive"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), r"std\.npy cannot be read"),
        (lambda path: path.unlink(), r"std\.npy cannot be read"),
        (lambda path: np.save(path, np.array([Payload(path)], dtype=object)), r"std\.npy cannot be read"),
    ],
)
def test_statistics_that_do_not_belong_are_refused(
    spoil: Callable[[Path], object], message: str, files: dict[str, Path]
) -> None:
    spoil(files["std"])
    with pytest.raises(CheckpointError, match=message):
        from_published(**files)


@pytest.mark.parametrize(
    "config",
    [
        VQVAEConfig(width=8, code_dim=8, codebook_size=8, network="patches"),
        VQVAEConfig(width=8, code_dim=8, codebook_size=8, codes_per_step=2),
        VQVAEConfig(width=8, code_dim=8, codebook_size=8, quantizer="residual"),
    ],
)
def test_only_the_published_network_has_published_names(config: VQVAEConfig, files: dict[str, Path]) -> None:
    stats, skeleton = from_published(**files).stats, from_published(**files).skeleton
    tokenizer = MotionTokenizer(TokenizerConfig(config), VQVAE(config), stats, skeleton)
    with pytest.raises(CheckpointError, match="only the published network with one codebook has published names"):
        to_published(tokenizer, files["checkpoint"].with_name("back.tar"))
