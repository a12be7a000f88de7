"""Preference losses: what they are at the reference, under a swap and at their zeros; slopes; other people's formulas.

The independent side is written with numpy and scipy in float64, row by row as in the papers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit, log_expit
from torch import Tensor

from kinalign.alignment.losses import (
    PAIR_LOSSES,
    PairLoss,
    dpo_loss,
    hinge_loss,
    ipo_loss,
    kto_kl,
    kto_loss,
    kto_pair_loss,
    odds_ratio_loss,
    sft_loss,
    smoothed,
)

Array = NDArray[np.float64]
NAMES: tuple[PairLoss, ...] = ("sigmoid", "ipo", "hinge")
BETAS = (0.05, 0.1, 0.7)


def logps(rows: int = 50, *, seed: int = 0) -> list[Array]:
    """Policy's and reference's log-probabilities of chosen and rejected answers (4, B), as far apart as real ones."""
    rng = np.random.default_rng(seed)
    reference = -rng.gamma(8, 6, (2, rows))
    return [*(reference + rng.normal(0, 4, (2, rows))).clip(max=-0.01), *reference]


def ratios(rows: int = 50, *, seed: int = 0) -> tuple[Array, Array]:
    policy_w, policy_l, reference_w, reference_l = logps(rows, seed=seed)
    return policy_w - reference_w, policy_l - reference_l


def tensor(values: Array | float) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


# laws


@pytest.mark.parametrize("beta", BETAS)
def test_where_the_policy_is_the_reference_nothing_but_the_loss_is_said(beta: float) -> None:
    zeros = tensor(np.zeros(7))
    torch.testing.assert_close(dpo_loss(zeros, beta=beta), tensor(np.full(7, math.log(2))))
    torch.testing.assert_close(ipo_loss(zeros, beta=beta), tensor(np.full(7, 1 / (4 * beta**2))))
    torch.testing.assert_close(hinge_loss(zeros, beta=beta), tensor(np.ones(7)))
    torch.testing.assert_close(kto_pair_loss(zeros, zeros, beta=beta), tensor(np.full(7, 0.5)))
    desirable = torch.arange(7) % 2 == 0
    torch.testing.assert_close(kto_loss(zeros, desirable, tensor(0.0), beta=beta), tensor(np.full(7, 0.5)))


@pytest.mark.parametrize("beta", BETAS)
def test_ipo_is_zero_at_half_of_one_over_beta_and_nowhere_else(beta: float) -> None:
    margins = tensor(np.linspace(-30, 30, 6001))
    losses = ipo_loss(margins, beta=beta)
    assert margins[losses.argmin()].item() == pytest.approx(1 / (2 * beta), abs=0.01)
    assert ipo_loss(tensor(1 / (2 * beta)), beta=beta).item() == 0
    assert (losses > 0).sum() >= 6000


@pytest.mark.parametrize("beta", BETAS)
def test_hinge_is_zero_from_one_over_beta_on(beta: float) -> None:
    margins = tensor(np.array([0.999, 1.0, 1.001, 50.0]) / beta)
    assert (hinge_loss(margins, beta=beta) > 1e-12).tolist() == [True, False, False, False]


@pytest.mark.parametrize("beta", BETAS)
def test_a_swap_of_the_sides_is_a_change_of_sign(beta: float) -> None:
    w, left = map(tensor, ratios())
    margin = w - left
    # σ(x) + σ(-x) = 1, (x - t)² - (-x - t)² = -4 x t, max(0, 1 - x) - max(0, 1 + x) = -2 x up to 1
    torch.testing.assert_close(
        (-dpo_loss(margin, beta=beta)).exp() + (-dpo_loss(-margin, beta=beta)).exp(), torch.ones_like(margin)
    )
    torch.testing.assert_close(ipo_loss(margin, beta=beta) - ipo_loss(-margin, beta=beta), -2 * margin / beta)
    odd = hinge_loss(margin, beta=beta) - hinge_loss(-margin, beta=beta)
    far = (beta * margin).abs()
    torch.testing.assert_close(odd, -margin.sign() * torch.where(far <= 1, 2 * far, 1 + far))
    # KTO's sides are held against each other's mean: without these a swap gives 1 - loss
    zero = tensor(0.0)
    yes, no = (kto_loss(w, torch.full((50,), side), zero, beta=beta) for side in (True, False))
    torch.testing.assert_close(yes + no, torch.ones_like(w))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("beta", BETAS)
def test_a_better_margin_never_costs_more_up_to_where_the_loss_is_content(name: PairLoss, beta: float) -> None:
    margins = tensor(np.linspace(-20, 1 / (2 * beta), 400))
    assert (PAIR_LOSSES[name](margins, beta=beta).diff() < 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_label_that_is_as_likely_wrong_as_right_prefers_neither_side(name: PairLoss) -> None:
    margins = tensor(np.linspace(-20, 20, 401))
    even = smoothed(name, margins, beta=0.1, swapped=0.5)
    torch.testing.assert_close(even, even.flip(0))
    assert even.argmin() == 200 or torch.isclose(even.min(), even[200])
    torch.testing.assert_close(smoothed(name, margins, beta=0.1, swapped=0.0), PAIR_LOSSES[name](margins, beta=0.1))


@pytest.mark.parametrize("swapped", [0.0, 0.2, 0.3])
@pytest.mark.parametrize("beta", BETAS)
def test_smoothing_moves_the_margin_that_is_aimed_at(swapped: float, beta: float) -> None:
    margins = tensor(np.linspace(-40, 40, 80001))
    aims = {
        # where its slope is 0: (1 - ε) σ(-βm) = ε σ(βm), so βm = log((1 - ε) / ε)
        "sigmoid": math.inf if swapped == 0 else math.log((1 - swapped) / swapped) / beta,
        # the mean of ± 1 / (2β)
        "ipo": (1 - 2 * swapped) / (2 * beta),
    }
    for name, aim in aims.items():
        if aim > 40:
            continue
        found = margins[smoothed(name, margins, beta=beta, swapped=swapped).argmin()].item()  # type: ignore[arg-type]
        assert found == pytest.approx(aim, abs=0.002)


def test_each_pair_may_have_its_own_smoothing() -> None:
    margin, swapped = tensor(np.array([1.0, 1.0, -2.0])), tensor(np.array([0.0, 0.5, 0.2]))
    together = smoothed("sigmoid", margin, beta=0.1, swapped=swapped)
    alone = [smoothed("sigmoid", margin[n : n + 1], beta=0.1, swapped=float(swapped[n])) for n in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_the_kl_of_kto_is_never_negative_and_has_no_slope() -> None:
    away = tensor(np.array([-3.0, 1.0])).requires_grad_()
    assert kto_kl(away).item() == 0
    assert kto_kl(-away).item() == 1
    assert not kto_kl(-away).requires_grad


def test_a_sure_answer_costs_no_sft_and_a_longer_one_no_more_a_token() -> None:
    lengths = tensor(np.array([5.0, 10.0]))
    torch.testing.assert_close(sft_loss(-2 * lengths, lengths), tensor(np.array([2.0, 2.0])))
    assert sft_loss(tensor(0.0), tensor(3.0)).item() == 0


def test_equal_odds_cost_log_2_and_better_odds_less() -> None:
    even = tensor(np.array([-0.5, -1.0, -3.0]))
    torch.testing.assert_close(odds_ratio_loss(even, even), tensor(np.full(3, math.log(2))))
    assert (odds_ratio_loss(even, even - 0.1) < math.log(2)).all()


# slopes

SLOPED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dpo": lambda w, left: dpo_loss(w - left, beta=0.3),
    "smoothed dpo": lambda w, left: smoothed("sigmoid", w - left, beta=0.3, swapped=0.2),
    "ipo": lambda w, left: ipo_loss(w - left, beta=0.3),
    "hinge": lambda w, left: hinge_loss(w - left, beta=0.3),
    "kto_pair": lambda w, left: kto_pair_loss(w, left, beta=0.3),
    "kto": lambda w, left: kto_loss(torch.cat((w, left)), torch.arange(16) < 8, tensor(0.4), beta=0.3),
    "orpo": lambda w, left: odds_ratio_loss(-w.abs() - 0.1, -left.abs() - 0.1),
    "sft": lambda w, left: sft_loss(w + left, tensor(np.arange(1.0, 9.0))),
}


@pytest.mark.parametrize("name", SLOPED)
def test_slopes_are_those_of_finite_differences(name: str) -> None:
    w, left = (tensor(side).requires_grad_() for side in ratios(8, seed=3))
    assert torch.autograd.gradcheck(lambda *sides: SLOPED[name](*sides).mean(), (w, left), eps=1e-6, atol=1e-7)


# other people's formulas, in numpy and scipy


def numpy_pair(name: PairLoss, policy: list[Array], reference: list[Array], beta: float, eps: float) -> Array:
    """DPO eq. 7 with eq. 3 of conservative DPO, IPO eq. 17, SLiC, written from the four log-probabilities."""
    h = (policy[0] - policy[1]) - (reference[0] - reference[1])
    if name == "sigmoid":
        return -(1 - eps) * log_expit(beta * h) - eps * log_expit(-beta * h)
    if name == "ipo":
        return (1 - eps) * np.square(h - 0.5 / beta) + eps * np.square(h + 0.5 / beta)
    return (1 - eps) * np.maximum(0, 1 - beta * h) + eps * np.maximum(0, 1 + beta * h)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("eps", [0.0, 0.3])
def test_pair_losses_are_those_of_the_papers(name: PairLoss, beta: float, eps: float) -> None:
    w, left, ref_w, ref_l = logps(seed=1)
    expected = numpy_pair(name, [w, left], [ref_w, ref_l], beta, eps)
    margin = tensor(w) - tensor(ref_w) - (tensor(left) - tensor(ref_l))
    np.testing.assert_allclose(smoothed(name, margin, beta=beta, swapped=eps), expected, rtol=1e-12)


@pytest.mark.parametrize("beta", BETAS)
def test_kto_pair_is_that_of_trl_0_8_row_by_row(beta: float) -> None:
    for seed in range(6):  # with means of either sign
        w, left = ratios(seed=seed)
        kl_w, kl_l = max(w.mean(), 0.0), max(left.mean(), 0.0)
        expected = [
            ((1 - expit(beta * (r_w - kl_l))) + (1 - expit(beta * (kl_w - r_l)))) / 2 for r_w, r_l in zip(w, left)
        ]
        np.testing.assert_allclose(kto_pair_loss(tensor(w), tensor(left), beta=beta), expected, rtol=1e-12)


@pytest.mark.parametrize("beta", BETAS)
def test_kto_is_that_of_the_paper_row_by_row(beta: float) -> None:
    w, left = ratios(seed=2)
    mismatched = np.random.default_rng(5).normal(0.5, 1, 50)
    z = max(float(np.mean(mismatched)), 0.0)
    expected = []
    for ratio, desirable in [(r, True) for r in w] + [(r, False) for r in left]:
        value = expit(beta * (ratio - z)) if desirable else expit(beta * (z - ratio))
        expected.append(1 - value)  # λ_y - v(x, y) with both λ = 1
    found = kto_loss(tensor(np.concatenate((w, left))), torch.arange(100) < 50, kto_kl(tensor(mismatched)), beta=beta)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_odds_ratio_is_that_of_probabilities() -> None:
    rng = np.random.default_rng(0)
    p_w, p_l = rng.uniform(0.02, 0.9, (2, 50))
    expected = -np.log(expit(np.log((p_w / (1 - p_w)) / (p_l / (1 - p_l)))))
    np.testing.assert_allclose(odds_ratio_loss(tensor(np.log(p_w)), tensor(np.log(p_l))), expected, rtol=1e-9)


def test_far_from_the_reference_nothing_overflows() -> None:
    far = torch.tensor([-1e4, 1e4])
    for name in NAMES:
        assert torch.isfinite(smoothed(name, far, beta=10.0, swapped=0.1)).all()
    assert torch.isfinite(kto_pair_loss(far, -far, beta=10.0)).all()
