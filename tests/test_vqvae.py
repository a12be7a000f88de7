"""The tokenizer's network: the published one name by name, and laws that hold for both kinds."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from kinalign.errors import ConfigError
from kinalign.tokenizer.convert import CODEBOOK, OWN_CODEBOOK, PREFIX
from kinalign.tokenizer.losses import LossWeights
from kinalign.tokenizer.vqvae import VQVAE, NetworkKind, VQVAEConfig

NETWORKS = get_args(NetworkKind)


def network(kind: NetworkKind, **settings: int) -> VQVAE:
    torch.manual_seed(0)
    sizes = {"width": 16, "code_dim": 8, "codebook_size": 32, "codes_per_step": 2} | settings
    return VQVAE(VQVAEConfig(network=kind, **sizes))  # type: ignore[arg-type]


def drawn(kind: NetworkKind, **settings: int) -> VQVAE:
    """A network whose codebooks have been drawn."""
    vqvae = network(kind, **settings)
    vqvae(features(8, 32), generator=torch.Generator().manual_seed(0))
    return vqvae.eval()


def features(batch: int, frames: int, *, seed: int = 1) -> Tensor:
    return torch.randn(batch, frames, 263, generator=torch.Generator().manual_seed(seed))


def published_shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of MotionGPT's tokenizer, as its released file lists them."""
    shapes: dict[str, tuple[int, ...]] = {"vae.quantizer.codebook": (512, 512)}

    def layer(name: str, *shape: int) -> None:
        shapes[f"vae.{name}.weight"], shapes[f"vae.{name}.bias"] = shape, shape[:1]

    def stack(name: str) -> None:
        for unit in range(3):
            layer(f"{name}.model.{unit}.conv1", 512, 512, 3)
            layer(f"{name}.model.{unit}.conv2", 512, 512, 1)

    layer("encoder.model.0", 512, 263, 3)
    layer("encoder.model.4", 512, 512, 3)
    layer("decoder.model.0", 512, 512, 3)
    layer("decoder.model.4", 512, 512, 3)
    layer("decoder.model.6", 263, 512, 3)
    for stage in (2, 3):
        layer(f"encoder.model.{stage}.0", 512, 512, 4)
        stack(f"encoder.model.{stage}.1")
        stack(f"decoder.model.{stage}.0")
        layer(f"decoder.model.{stage}.2", 512, 512, 3)
    return shapes


def test_the_default_network_has_the_published_tensors() -> None:
    with torch.device("meta"):
        state = VQVAE(VQVAEConfig()).state_dict()
    not_published = {f"quantizer.groups.0.{name}" for name in ("code_sum", "code_count", "is_drawn")}
    assert not_published <= state.keys()
    ours = {
        PREFIX + (CODEBOOK if name == OWN_CODEBOOK else name): tuple(tensor.shape)
        for name, tensor in state.items()
        if name not in not_published
    }
    assert ours == published_shapes()


def test_units_of_the_published_stack_reach_nine_then_three_then_one_frames() -> None:
    stack = VQVAE(VQVAEConfig(width=8, code_dim=8, codebook_size=8)).encoder.model[2][1].model
    assert [unit.conv1.dilation for unit in stack] == [(9,), (3,), (1,)]


@pytest.mark.parametrize("halvings", [1, 2, 3])
@pytest.mark.parametrize("kind", NETWORKS)
def test_time_is_divided_by_the_frames_of_a_code_and_given_back(kind: NetworkKind, halvings: int) -> None:
    vqvae, x = drawn(kind, halvings=halvings), features(2, 48)
    codes = vqvae.encode(x)
    assert codes.shape == (2, 48 // 2**halvings, 2)
    assert vqvae.decode(codes).shape == x.shape


@pytest.mark.parametrize("kind", NETWORKS)
def test_encoding_and_decoding_a_batch_equals_each(kind: NetworkKind) -> None:
    vqvae, x = drawn(kind), features(4, 32)
    codes, decoded = vqvae.encode(x), vqvae.decode(vqvae.encode(x))
    for row in range(4):
        assert torch.equal(vqvae.encode(x[row : row + 1])[0], codes[row])
        assert torch.allclose(vqvae.decode(codes[row : row + 1])[0], decoded[row], atol=1e-5)  # float32, values near 1


@pytest.mark.parametrize("kind", NETWORKS)
def test_forward_is_encode_then_decode(kind: NetworkKind) -> None:
    vqvae, x = drawn(kind), features(2, 32)
    output = vqvae(x)
    assert torch.equal(output.quantized.codes, vqvae.encode(x))
    assert torch.allclose(output.features, vqvae.decode(vqvae.encode(x)), atol=1e-5)  # float32, values near 1


@pytest.mark.parametrize("kind", NETWORKS)
def test_motion_that_comes_a_step_later_is_spoken_a_step_later(kind: NetworkKind) -> None:
    # shallow, so that what happens at the ends does not reach the middle
    vqvae, x = drawn(kind, depth=1), features(1, 160)
    latents, later = vqvae.latents(x), vqvae.latents(x[:, 4:])
    assert torch.allclose(latents[:, 11:-10], later[:, 10:-10], atol=1e-5)  # float32, values near 1
    codes = torch.randint(32, (1, 60, 2), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(vqvae.decode(codes)[:, 44:-40], vqvae.decode(codes[:, 1:])[:, 40:-40], atol=1e-5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_frames_that_fill_no_step_are_refused(kind: NetworkKind) -> None:
    with pytest.raises(ConfigError, match="30 frames are no multiple of 4"):
        network(kind).encode(features(1, 30))


@pytest.mark.parametrize("kind", NETWORKS)
def test_without_quantising_it_is_an_autoencoder_that_leaves_the_codebook_alone(kind: NetworkKind) -> None:
    vqvae, x = network(kind), features(2, 32)
    output = vqvae(x, quantize=False)
    assert output.features.shape == x.shape
    assert output.quantized.commitment_loss == 0
    assert output.quantized.perplexity.tolist() == [0, 0]
    assert not vqvae.quantizer.groups[0].is_drawn


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_weight_learns(kind: NetworkKind) -> None:
    vqvae = network(kind)
    output = vqvae(features(4, 32), generator=torch.Generator().manual_seed(0))
    loss = output.features.pow(2).mean() + LossWeights().commitment * output.quantized.commitment_loss
    loss.backward()
    still = [
        name for name, weight in vqvae.named_parameters() if weight.grad is None or not weight.grad.abs().sum() > 0
    ]
    assert still == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width=0 must be at least 1"),
        ({"halvings": 0}, "halvings=0 must be at least 1"),
        ({"codes_per_step": -1}, r"codes_per_step=-1 must be at least 1 \(--codes-per-step\)"),
        ({"codebook_size": 1}, "codebook_size=1 has nothing to choose from"),
        ({"decay": 1.0}, r"decay=1\.0 must be in \[0, 1\)"),
        ({"decay": math.nan}, "decay=nan"),
        ({"network": "patches", "width": 15}, "width=15 must be even"),
    ],
)
def test_impossible_sizes_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VQVAEConfig(**settings)  # type: ignore[arg-type]
