"""What GRPO, RLOO and PPO are made of: pure functions of rewards, values and log-probabilities, each under its formula.

Letters: B answers, L tokens, P prompts, C candidates. `is_choice` (B, L) is True where a token was drawn: the start of
an answer is given, and so is the end of one that may not be longer.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Estimator = Literal["grpo", "dr-grpo", "rloo"]
MeanOver = Literal["answers", "batch"]
MEAN_OVER: dict[Estimator, MeanOver] = {"grpo": "answers", "dr-grpo": "batch", "rloo": "batch"}
"""Whether every answer weighs the same, or every token."""

TINY = 1e-4
"""Beside a standard deviation: candidates whose rewards differ by rounding alone differ in nothing."""


def group_advantages(rewards: Tensor, estimator: Estimator) -> Tensor:
    """How much better (P, C) each candidate is than the others of its prompt, of rewards (P, C).

    "grpo" is the distance from the mean in standard deviations (Shao et al. 2024, section 4.1.2); "dr-grpo" leaves the
    division out, which weighs prompts by how alike their candidates are (Liu et al. 2025); "rloo" is the distance from
    the mean of all others (Ahmadian et al. 2024, eq. 4). All sum to 0 in a group, and are 0 where all rewards are one.
    """
    distance = rewards - rewards.mean(1, keepdim=True)
    if estimator == "grpo":
        return distance / (rewards.std(1, keepdim=True) + TINY)
    if estimator == "rloo":
        num_candidates = rewards.shape[1]
        # r - (sum - r) / (C - 1) = (r - mean) C / (C - 1)
        return distance * num_candidates / (num_candidates - 1)
    return distance


def kl_k3(logps: Tensor, reference: Tensor) -> Tensor:
    """An estimate, never negative, of KL(policy || reference) at tokens that the policy drew: k3 of Schulman (2020)."""
    ratio = reference - logps
    # k3 = r - 1 - log r, with r = reference / policy; its mean is the KL, for r has mean 1
    return torch.expm1(ratio) - ratio


def clipped_policy_loss(logps: Tensor, old_logps: Tensor, advantages: Tensor, *, clip: float) -> Tensor:
    """-min(ratio A, clip(ratio) A) of each token (B, L) (Schulman et al. 2017, eq. 7); at ratio 1 its gradient is
    -A grad log p, and none where the ratio is beyond 1 +- clip to the side that A asks for."""
    ratio = (logps - old_logps).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def is_clipped(logps: Tensor, old_logps: Tensor, advantages: Tensor, *, clip: float) -> Tensor:
    """Where (B, L) the clipped loss has no gradient."""
    ratio = (logps - old_logps).exp()
    return ((ratio > 1 + clip) & (advantages > 0)) | ((ratio < 1 - clip) & (advantages < 0))


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float) -> Tensor:
    """Half the squared error of values (B, L), or of values held within `clip` of the old ones where that is more."""
    held = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns).square(), (held - returns).square())


class Estimated(NamedTuple):
    advantages: Tensor
    returns: Tensor


def gae(rewards: Tensor, values: Tensor, is_choice: Tensor, *, gamma: float, lam: float) -> Estimated:
    """Advantages and returns (B, L), of rewards after each token and values before it; 0 where nothing was chosen.

    A_t = sum over k of (gamma lam)^k delta_(t+k), delta_t = r_t + gamma V_(t+1) - V_t, and V is 0 after the last choice
    (Schulman et al. 2016, eq. 16).
    """
    advantages = torch.zeros_like(rewards)
    following, carried = rewards.new_zeros(len(rewards)), rewards.new_zeros(len(rewards))
    for place in reversed(range(rewards.shape[1])):
        chosen = is_choice[:, place]
        delta = rewards[:, place] + gamma * following - values[:, place]
        advantage = delta + gamma * lam * carried
        advantages[:, place] = advantage * chosen
        carried = torch.where(chosen, advantage, carried)
        following = torch.where(chosen, values[:, place], following)
    return Estimated(advantages, (advantages + values) * is_choice)


def whitened(advantages: Tensor, is_choice: Tensor) -> Tensor:
    """Mean 0 and variance 1 over all choices; 0 elsewhere."""
    mean = mean_over(advantages, is_choice)
    variance = mean_over((advantages - mean).square(), is_choice)
    return (advantages - mean) * torch.rsqrt(variance + 1e-8) * is_choice


def mean_over(terms: Tensor, is_choice: Tensor, *, over: MeanOver = "batch") -> Tensor:
    """Mean () of terms (B, L) over all choices, or of the means of answers, in which a short one weighs as much."""
    if over == "batch":
        return (terms * is_choice).sum() / is_choice.sum().clamp(min=1)
    return ((terms * is_choice).sum(1) / is_choice.sum(1).clamp(min=1)).mean()


def adapted_kl_weight(weight: float, kl: float, *, target: float, horizon: float, num_answers: int) -> float:
    """The weight of the KL for the next batch, higher after one that went too far from the reference, at most by a
    fifth in `horizon` answers (Ziegler et al. 2019, eq. 5)."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return weight * (1 + error * num_answers / horizon)
