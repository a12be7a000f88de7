"""Laws of what GRPO, RLOO and PPO are made of."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from kinalign.alignment.policy_gradient import (
    Estimator,
    adapted_kl_weight,
    clipped_policy_loss,
    clipped_value_loss,
    gae,
    group_advantages,
    is_clipped,
    kl_k3,
    mean_over,
    whitened,
)

ESTIMATORS: tuple[Estimator, ...] = ("grpo", "dr-grpo", "rloo")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def choices(*lengths: int, width: int) -> Tensor:
    """Answers of these lengths after a start that is given."""
    places = torch.arange(width)
    return torch.stack([(places >= 1) & (places <= length) for length in lengths])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_advantages_sum_to_0_in_a_group_and_are_of_the_group_alone(estimator: Estimator) -> None:
    rewards = normal(5, 4)
    advantages = group_advantages(rewards, estimator)
    torch.testing.assert_close(advantages.sum(1), torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0)
    for row, own in zip(rewards, advantages):
        torch.testing.assert_close(group_advantages(row[None] + 7.0, estimator)[0], own)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_candidates_that_are_all_alike_teach_nothing(estimator: Estimator) -> None:
    # in float32 their mean is another number than they are
    for reward in (0.3, -1.7, 12.345):
        assert group_advantages(torch.full((2, 6), reward), estimator).abs().max() < 0.02


def test_only_grpo_forgets_how_far_rewards_lie_apart() -> None:
    rewards = normal(3, 5)
    for estimator, times in (("grpo", 1.0), ("dr-grpo", 10.0), ("rloo", 10.0)):
        torch.testing.assert_close(
            group_advantages(10 * rewards, estimator),
            times * group_advantages(rewards, estimator),
            rtol=1e-4,
            atol=1e-4,
        )


def test_rloo_holds_each_candidate_against_the_mean_of_all_others() -> None:
    rewards = normal(3, 4)
    advantages = group_advantages(rewards, "rloo")
    for prompt, candidate in product(range(3), range(4)):
        others = [rewards[prompt, other] for other in range(4) if other != candidate]
        expected = rewards[prompt, candidate] - sum(others) / 3
        torch.testing.assert_close(advantages[prompt, candidate], expected)


def test_gae_is_the_double_sum_of_its_definition() -> None:
    lengths, width, gamma, lam = (5, 1, 3), 7, 0.9, 0.8
    is_choice = choices(*lengths, width=width)
    rewards, values = normal(3, width), normal(3, width, seed=1)
    advantages, returns = gae(rewards, values, is_choice, gamma=gamma, lam=lam)
    for row, length in enumerate(lengths):
        r, v = rewards[row, 1 : length + 1], [*values[row, 1 : length + 1], 0.0]
        delta = [r[t] + gamma * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            expected = sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, length))
            torch.testing.assert_close(advantages[row, 1 + t], expected)
            torch.testing.assert_close(returns[row, 1 + t], expected + v[t])
    assert not advantages[~is_choice].any() and not returns[~is_choice].any()


def test_with_lambda_1_a_return_is_what_is_still_to_come_whatever_the_values() -> None:
    is_choice = choices(4, 6, width=7)
    rewards = normal(2, 7)
    _, returns = gae(rewards, normal(2, 7, seed=3), is_choice, gamma=1.0, lam=1.0)
    to_come = (rewards * is_choice).flip(1).cumsum(1).flip(1) * is_choice
    torch.testing.assert_close(returns, to_come)


def test_at_ratio_1_the_clipped_loss_has_the_plain_policy_gradient() -> None:
    logps, advantages = normal(3, 4).requires_grad_(), normal(3, 4, seed=1)
    clipped_policy_loss(logps, logps.detach(), advantages, clip=0.2).sum().backward()
    torch.testing.assert_close(logps.grad, -advantages)


def test_beyond_the_clip_there_is_no_gradient_and_on_the_way_back_there_is() -> None:
    old = torch.zeros(4)
    logps = torch.tensor([0.5, -0.5, 0.5, -0.5], requires_grad=True)
    advantages = torch.tensor([1.0, -1.0, -1.0, 1.0])
    clipped_policy_loss(logps, old, advantages, clip=0.2).sum().backward()
    assert logps.grad is not None
    assert logps.grad.ne(0).tolist() == [False, False, True, True]
    assert is_clipped(logps, old, advantages, clip=0.2).tolist() == [True, True, False, False]


def test_k3_is_never_negative_and_its_mean_is_the_kl() -> None:
    policy, reference = normal(6).log_softmax(0), normal(6, seed=1).log_softmax(0)
    each = kl_k3(policy, reference)
    assert (each >= 0).all() and kl_k3(policy, policy).abs().max() == 0
    exact = (policy.exp() * (policy - reference)).sum()
    torch.testing.assert_close((policy.exp() * each).sum(), exact)
    # and drawn, not summed: 4 standard errors
    drawn = each[torch.multinomial(policy.exp(), 20_000, True, generator=torch.Generator().manual_seed(0))]
    assert abs(drawn.mean() - exact) < 4 * drawn.std() / 20_000**0.5


def test_a_value_is_held_near_the_old_one_where_that_costs_more() -> None:
    old, returns = torch.zeros(3), torch.tensor([1.0, 1.0, 1.0])
    values = torch.tensor([0.1, 0.9, -0.5], requires_grad=True)
    loss = clipped_value_loss(values, old, returns, clip=0.2)
    torch.testing.assert_close(loss, torch.tensor([0.5 * 0.9**2, 0.5 * 0.8**2, 0.5 * 1.5**2]))
    loss.sum().backward()
    # it has gone far enough to where the return is: nothing pushes it on, and back it may go
    assert values.grad is not None and values.grad.ne(0).tolist() == [True, False, True]


def test_whitened_advantages_have_mean_0_and_variance_1_over_what_was_chosen() -> None:
    is_choice = choices(3, 6, 2, width=8)
    white = whitened(5 * normal(3, 8) + 3, is_choice)
    chosen = white[is_choice]
    assert abs(chosen.mean()) < 1e-9 and chosen.var(correction=0) == pytest.approx(1, abs=1e-4)
    assert not white[~is_choice].any()


def test_a_mean_over_answers_weighs_a_short_one_as_much_as_a_long_one() -> None:
    is_choice = choices(1, 4, width=5)
    terms = torch.tensor([[9.0, 1, 9, 9, 9], [9.0, 3, 3, 3, 3]])
    assert mean_over(terms, is_choice, over="answers") == 2
    assert mean_over(terms, is_choice) == pytest.approx(13 / 5)


def test_the_weight_of_the_kl_follows_the_target_and_no_faster_than_a_fifth_in_a_horizon() -> None:
    def next_weight(kl: float) -> float:
        return adapted_kl_weight(0.2, kl, target=6.0, horizon=100, num_answers=10)

    assert next_weight(6.0) == 0.2
    assert next_weight(6.6) == pytest.approx(0.2 * 1.01)
    assert next_weight(600.0) == pytest.approx(0.2 * 1.02)
    assert next_weight(0.0) == pytest.approx(0.2 * 0.98)
