"""Vectors to codes: nearest is nearest, codes follow their vectors, and nothing of the state is forgotten."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from kinalign.errors import ConfigError
from kinalign.tokenizer.quantizer import (
    GroupedQuantizer,
    LibraryQuantizer,
    QuantizerKind,
    ResidualQuantizer,
    VectorQuantizer,
    perplexity,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed))


def drawn(codebook_size: int = 16, code_dim: int = 4, **settings: float) -> VectorQuantizer:
    """A quantiser whose codebook is some vectors of a batch."""
    quantizer = VectorQuantizer(codebook_size, code_dim, **settings)
    quantizer(latents(8, 32, code_dim), generator=seeded())
    return quantizer


# one codebook


def test_a_code_is_the_nearest_vector() -> None:
    quantizer, x = drawn().eval(), latents(3, 50, 4, seed=1)
    distances = (x[:, :, None] - quantizer.codebook).norm(dim=-1)  # (B, N, K), one by one
    assert torch.equal(quantizer.encode(x), distances.argmin(-1))


def test_every_code_is_nearest_to_itself() -> None:
    quantizer = drawn().eval()
    codes = torch.arange(16)[None]
    assert torch.equal(quantizer.encode(quantizer.decode(codes)), codes)


def test_the_codebook_is_drawn_from_the_first_batch() -> None:
    quantizer, x = VectorQuantizer(16, 4, decay=1 - 1e-6), latents(8, 32, 4)
    assert not quantizer.is_drawn
    quantizer(x, generator=seeded())
    assert quantizer.is_drawn
    assert torch.cdist(quantizer.codebook, x.reshape(-1, 4)).amin(1).max() < 1e-3


def test_a_first_batch_smaller_than_the_codebook_gives_different_codes_near_it() -> None:
    quantizer, x = VectorQuantizer(64, 4, decay=1 - 1e-6), latents(1, 5, 4)
    quantizer(x, generator=seeded())
    assert len(quantizer.codebook.unique(dim=0)) == 64
    assert torch.cdist(quantizer.codebook, x[0]).amin(1).max() < 0.1


def test_codes_follow_the_means_of_their_clusters() -> None:
    quantizer, generator = VectorQuantizer(8, 2, decay=0.8), seeded()
    x = latents(1, 400, 2)
    for _ in range(200):
        quantizer(x, generator=generator)
    codes = quantizer.eval().encode(x)
    for code in range(8):
        mine = x[codes == code]
        assert len(mine) > 0
        assert torch.allclose(quantizer.codebook[code], mine.mean(0), atol=1e-4)  # 0.8 ** 50 of the past, and float32


def test_a_code_moves_by_the_running_mean() -> None:
    quantizer = VectorQuantizer(2, 1, decay=0.5)
    quantizer(torch.tensor([[[-1.0], [1.0]]]), generator=seeded())
    quantizer.codebook.copy_(torch.tensor([[-1.0], [1.0]]))
    quantizer.code_sum.copy_(torch.tensor([[-1.0], [1.0]]))
    quantizer.code_count.fill_(1.0)
    quantizer(torch.tensor([[[-3.0], [2.0], [3.0], [4.0]]]), generator=seeded())
    # half the past and half the batch: (-1 - 3) / (1 + 1) and (1 + 2 + 3 + 4) / (1 + 3)
    assert quantizer.codebook.flatten().tolist() == pytest.approx([-2.0, 2.5])


def test_a_code_that_nobody_uses_takes_the_place_of_a_vector_of_the_batch() -> None:
    quantizer, generator = drawn(decay=0.5), seeded(1)
    quantizer.codebook[3] = 1000.0
    quantizer.code_sum[3] = 1000.0 * quantizer.code_count[3]
    x = latents(8, 32, 4, seed=2)
    distances = []
    for _ in range(4):  # its count of 16 is halved each time; below 2, an eighth of the average, it is dead
        quantizer(x, generator=generator)
        distances.append(float((quantizer.codebook[3] - x.reshape(-1, 4)).norm(dim=1).min()))
    assert min(distances[:-1]) > 1000
    assert distances[-1] == 0


def test_good_codes_of_small_batches_are_not_reset() -> None:
    # 16 vectors for 16 codes: the published rule, a count below 1, would reset about half of them in every step
    quantizer, generator = VectorQuantizer(16, 2, decay=0.99), seeded()
    x = latents(1, 16, 2)
    quantizer(x, generator=generator)
    before = quantizer.codebook.clone()
    quantizer(x, generator=generator)
    assert torch.allclose(quantizer.codebook, before)


def test_nothing_moves_while_not_training() -> None:
    quantizer = drawn().eval()
    before = copy.deepcopy(quantizer.state_dict())
    quantizer(latents(2, 9, 4, seed=3))
    assert all(torch.equal(before[name], value) for name, value in quantizer.state_dict().items())


@pytest.mark.parametrize("kind", ["one", "grouped", "residual"])
@pytest.mark.parametrize("steps_before", [0, 3])
def test_a_quantiser_read_back_in_mid_training_goes_on_as_if_nothing_had_happened(kind: str, steps_before: int) -> None:
    make = {
        "one": lambda: VectorQuantizer(16, 4),
        "grouped": lambda: GroupedQuantizer(2, 16, 4),
        "residual": lambda: ResidualQuantizer(2, 16, 4),
    }[kind]
    first, generator = make(), seeded(5)
    for step in range(steps_before):
        first(latents(4, 8, 4, seed=step), generator=generator)
    second, other = make(), torch.Generator()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    other.set_state(generator.get_state())
    for step in range(5):
        x = latents(4, 8, 4, seed=100 + step)
        a, b = first(x, generator=generator), second(x, generator=other)
        assert torch.equal(a.codes, b.codes)
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


# what a quantiser returns


KINDS = ["grouped", "residual", "library-residual", "fsq"]


def quantizer_of(kind: str, *, codes_per_step: int = 2, codebook_size: int = 240, code_dim: int = 8) -> nn.Module:
    if kind == "grouped":
        return GroupedQuantizer(codes_per_step, codebook_size, code_dim)
    if kind == "residual":
        return ResidualQuantizer(codes_per_step, codebook_size, code_dim)
    pytest.importorskip("vector_quantize_pytorch", reason="pip install 'kinalign[quantizers]'")
    library_kind: QuantizerKind = "fsq" if kind == "fsq" else "library-residual"
    torch.manual_seed(0)
    return LibraryQuantizer(library_kind, codes_per_step, codebook_size, code_dim, decay=0.99)


@pytest.mark.parametrize("codes_per_step", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_all_quantisers_speak_alike(kind: str, codes_per_step: int) -> None:
    quantizer, x = quantizer_of(kind, codes_per_step=codes_per_step), latents(4, 20, 8)
    quantizer(x, generator=seeded())
    quantizer.eval()
    result = quantizer(x)
    assert result.vectors.shape == (4, 20, 8)
    assert result.codes.shape == (4, 20, codes_per_step)
    assert result.codes.dtype == torch.int64
    assert 0 <= result.codes.min() <= result.codes.max() < 240
    assert result.commitment_loss.shape == ()
    assert result.perplexity.shape == (codes_per_step,)
    assert ((result.perplexity >= 0.999) & (result.perplexity <= 80)).all()  # of 80 vectors
    assert torch.equal(quantizer.encode(x), result.codes)
    assert torch.allclose(quantizer.decode(result.codes), result.vectors, atol=1e-5)  # float32, values near 1


@pytest.mark.parametrize("kind", ["grouped", "residual"])
def test_gradients_pass_straight_through(kind: str) -> None:
    quantizer = quantizer_of(kind)
    x = latents(4, 20, 8).requires_grad_()
    slope = latents(4, 20, 8, seed=1)
    (quantizer(x, generator=seeded()).vectors * slope).sum().backward()
    assert torch.equal(x.grad, slope)


@pytest.mark.parametrize("kind", ["grouped", "residual"])
def test_the_commitment_loss_draws_latents_to_their_codes(kind: str) -> None:
    quantizer = quantizer_of(kind, codebook_size=16)
    quantizer(latents(4, 20, 8), generator=seeded())
    quantizer.eval()
    x = latents(4, 20, 8, seed=1).requires_grad_()
    before = quantizer(x)
    (gradient,) = torch.autograd.grad(before.commitment_loss, x)
    assert quantizer(x - 5 * gradient).commitment_loss < before.commitment_loss


@pytest.mark.parametrize("kind", ["library-residual", "fsq"])
def test_the_librarys_quantisers_train_the_same_from_the_same_generator(kind: str) -> None:
    def end() -> dict[str, Tensor]:
        quantizer, generator = quantizer_of(kind, codes_per_step=1), seeded(3)
        for step in range(4):
            torch.rand(step)  # what others draw from torch's own generator makes no difference
            quantizer(latents(2, 9, 8, seed=step), generator=generator)
        return quantizer.state_dict()

    first, second = end(), end()
    assert all(torch.equal(first[name], second[name]) for name in first)


# several codebooks


def test_each_level_of_a_residual_quantiser_leaves_less_over() -> None:
    quantizer, generator, x = ResidualQuantizer(4, 32, 4, decay=0.8), seeded(), latents(1, 512, 4)
    for _ in range(20):
        quantizer(x, generator=generator)
    quantizer.eval()
    codes = quantizer.encode(x)
    errors, total = [float(x.pow(2).mean())], torch.zeros_like(x)
    for level, place in zip(quantizer.levels, range(4)):
        total = total + level.decode(codes[..., place])
        errors.append(float((x - total).pow(2).mean()))
    assert all(after < 0.7 * before for before, after in pairwise(errors))


def test_groups_are_quantisers_of_their_own() -> None:
    grouped, x = GroupedQuantizer(2, 16, 6), latents(4, 20, 6)
    alone = [VectorQuantizer(16, 3), VectorQuantizer(16, 3)]
    together, each = seeded(7), seeded(7)
    for _ in range(3):
        result = grouped(x, generator=together)
        parts = [quantizer(part, generator=each) for quantizer, part in zip(alone, (x[..., :3], x[..., 3:]))]
        assert torch.equal(result.codes, torch.cat([part.codes for part in parts], dim=-1))
        assert torch.equal(result.vectors, torch.cat([part.vectors for part in parts], dim=-1))


# perplexity


def test_perplexity_is_one_for_one_code_and_all_for_all_alike() -> None:
    assert perplexity(torch.zeros(50, dtype=torch.int64), 16) == pytest.approx(1)
    assert perplexity(torch.arange(16).repeat(3), 16) == pytest.approx(16, rel=1e-5)
    assert perplexity(torch.tensor([[3, 5], [5, 3]]), 16) == pytest.approx(2, rel=1e-5)


# what cannot be


def test_one_code_is_nothing_to_choose_from() -> None:
    with pytest.raises(ConfigError, match="codebook_size=1 has nothing to choose from"):
        VectorQuantizer(1, 4)


def test_a_vector_that_does_not_fall_into_equal_groups_is_refused() -> None:
    with pytest.raises(ConfigError, match="code_dim=7 is not divisible by the 2 codes of a step"):
        GroupedQuantizer(2, 16, 7)


def test_a_codebook_without_levels_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"codebook_size=500 has no FSQ levels; use one of \[240, 512"):
        quantizer_of("fsq", codebook_size=500)


def test_an_absent_library_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vector_quantize_pytorch", None)
    with pytest.raises(ConfigError, match=r"pip install 'kinalign\[quantizers\]'"):
        LibraryQuantizer("fsq", 1, 512, 8, decay=0.99)
