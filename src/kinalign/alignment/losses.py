"""Losses of preference learning, as pure functions of log-probabilities; each stands beside its equation.

log π is the policy's log-probability of a whole answer, log π_ref the reference's; w is the chosen, l the rejected one.
A ratio is log π - log π_ref, a margin is the ratio of w less that of l. All take and give tensors (B,), a row a pair,
and are meaned by the caller. Length-averaged or summed is up to the caller too: pass log-probabilities divided by the
number of tokens, or as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

PairLoss = Literal["sigmoid", "ipo", "hinge"]


def dpo_loss(margin: Tensor, *, beta: float) -> Tensor:
    """-log σ(β margin). Source: DPO (Rafailov et al. 2023), equation 7."""
    return -F.logsigmoid(beta * margin)


def ipo_loss(margin: Tensor, *, beta: float) -> Tensor:
    """(margin - 1 / (2β))². Source: IPO (Azar et al. 2023), equation 17, whose τ is β.

    The paper's log-probabilities are summed; AToM's and TRL's are averaged over tokens, which its authors confirmed.
    """
    return (margin - 1 / (2 * beta)) ** 2


def hinge_loss(margin: Tensor, *, beta: float) -> Tensor:
    """max(0, 1 - β margin). Source: SLiC-HF (Zhao et al. 2023), of ratios as in RSO (Liu et al. 2023)."""
    return torch.relu(1 - beta * margin)


PAIR_LOSSES: dict[PairLoss, Callable[..., Tensor]] = {"sigmoid": dpo_loss, "ipo": ipo_loss, "hinge": hinge_loss}


def smoothed(loss: PairLoss, margin: Tensor, *, beta: float, swapped: Tensor | float) -> Tensor:
    """(1 - ε) loss(margin) + ε loss(-margin), where ε in [0, 1/2], () or (B,), is how likely the label is wrong.

    Source: conservative DPO (Mitchell 2023), for the sigmoid; InstructMotion sets ε by the degree of preference.
    """
    of_margin = PAIR_LOSSES[loss]
    return (1 - swapped) * of_margin(margin, beta=beta) + swapped * of_margin(-margin, beta=beta)


def kto_pair_loss(ratio_chosen: Tensor, ratio_rejected: Tensor, *, beta: float) -> Tensor:
    """1 - σ(β (r_w - KL_l)) and 1 - σ(β (KL_w - r_l)), meaned; KL_w and KL_l are the ratios' means over B, 0 at least.

    Each side is held against the batch of the other one. Source: kto_pair of TRL up to 0.8, which AToM has.
    """
    kl_chosen, kl_rejected = (ratio.mean().clamp(min=0) for ratio in (ratio_chosen, ratio_rejected))
    chosen = 1 - torch.sigmoid(beta * (ratio_chosen - kl_rejected))
    rejected = 1 - torch.sigmoid(beta * (kl_chosen - ratio_rejected))
    return (chosen + rejected) / 2


def kto_loss(ratio: Tensor, is_desirable: Tensor, kl: Tensor, *, beta: float) -> Tensor:
    """1 - σ(β (r - z)) of desirable answers, 1 - σ(β (z - r)) of others (B,), which need no partner; λ_D = λ_U = 1.

    z is 0 or more: the distance () of policy and reference, see `kto_kl`. Source: KTO (Ethayarajh et al. 2024),
    equation 8.
    """
    gain = beta * (ratio - kl)
    return 1 - torch.sigmoid(torch.where(is_desirable, gain, -gain))


def kto_kl(ratio_mismatched: Tensor) -> Tensor:
    """max(0, mean ratio) () of answers (B,) to prompts that they were not made for. Source: KTO, section 4.1."""
    return ratio_mismatched.detach().mean().clamp(min=0)


def sft_loss(logps: Tensor, num_tokens: Tensor) -> Tensor:
    """-log π / tokens, which keeps answers likely. Source: CPO (Xu et al. 2024) and ORPO (Hong et al. 2024)."""
    return -logps / num_tokens


def odds_ratio_loss(logps_chosen: Tensor, logps_rejected: Tensor) -> Tensor:
    """-log σ(log odds(w) - log odds(l)), odds = p / (1 - p), of length-averaged log-probabilities, without a reference.

    Source: ORPO (Hong et al. 2024), equations 6 and 7; it stands beside `sft_loss` there, weighted by λ.
    """
    log_odds = [logps - torch.log1p(-logps.exp()) for logps in (logps_chosen, logps_rejected)]
    return -F.logsigmoid(log_odds[0] - log_odds[1])
