"""GRPO, Dr. GRPO and RLOO with a judge in the loop: candidates of one prompt are held against each other.

No value network: the others of a group are the baseline. As in Shao et al. (2024, eq. 3) the ratio is clipped by token
and the distance from the reference, which is the same model with its adapter off, is a term of the loss. Unlike there a
mean over tokens is over those of the batch with dr-grpo and rloo, where Liu et al. divide by a constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kinalign.alignment.policy_gradient import (
    MEAN_OVER,
    Estimator,
    clipped_policy_loss,
    group_advantages,
    is_clipped,
    kl_k3,
    mean_over,
)
from kinalign.alignment.preference import facts
from kinalign.alignment.rewards import Reward
from kinalign.alignment.rollouts import (
    Learning,
    Rollouts,
    judge_reward,
    prompts_of,
    save_adapter,
    settings_of,
)
from kinalign.alignment.watch import Watcher
from kinalign.errors import ConfigError
from kinalign.judge.prompts import EventPrompt
from kinalign.pipeline import TextToMotion, shipped_model
from kinalign.run import RunFolder
from kinalign.training import Draw, learned, optimize


@dataclass(frozen=True)
class AlignGRPO(Learning):
    """Teach a model what a judge likes, by holding its answers to a prompt against each other."""

    out: Path = Path("grpo")
    """Folder of the run, with the adapter in the end; a run that was stopped goes on there."""
    estimator: Estimator = "grpo"
    """grpo divides by a group's standard deviation; dr-grpo does not; rloo leaves each answer out of its baseline."""
    beta: float = 0.02
    """What a nat of distance from the reference costs; 0 saves its time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidates < 2:
            raise ConfigError(f"candidates={self.candidates} make no group; use 2 or more (--candidates)")
        if not 0 <= self.beta < math.inf:
            raise ConfigError(f"beta={self.beta} must be 0 or more (--beta)")


def align_grpo(config: AlignGRPO) -> Path:
    """Teach a model what a judge likes, by GRPO or RLOO; prints what was learned and where it is."""
    torch.set_num_threads(config.threads)
    model = TextToMotion.from_pretrained(config.model or shipped_model())
    prompts, reward = prompts_of(config), judge_reward(config, model)
    run = RunFolder.open(config.out, settings_of(config, model))
    train_grpo(model, prompts, reward, config, run=run)
    folder = save_adapter(model, config)
    print(facts(run.metrics()))
    print(folder)
    return folder


def train_grpo(
    model: TextToMotion, prompts: Sequence[EventPrompt], reward: Reward, config: AlignGRPO, *, run: RunFolder
) -> None:
    """Put matrices beside the model's own and train them, from where the run folder stands."""
    rollouts = Rollouts(model, prompts, reward, config)

    def terms_of(draw: Draw) -> Mapping[str, Tensor]:
        batch, part = rollouts.batch(draw), rollouts.part(draw)
        advantages = group_advantages(batch.rewards, config.estimator).flatten()[part.rows, None]
        logps, entropy, is_choice, _ = rollouts.choices(part)
        if draw.step == batch.step:
            # nothing was learned since they were drawn
            part.old_logps = logps.detach()
        assert part.old_logps is not None
        over = MEAN_OVER[config.estimator]
        loss = mean_over(clipped_policy_loss(logps, part.old_logps, advantages, clip=config.clip), is_choice, over=over)
        terms = {"loss": loss}
        if config.beta:
            distance = mean_over(kl_k3(logps, rollouts.reference(part)), is_choice, over=over)
            terms = {"loss": loss + config.beta * distance, "policy/kl": distance}
        clipped = is_clipped(logps, part.old_logps, advantages, clip=config.clip)
        terms |= {
            "policy/clipfrac": mean_over(clipped, is_choice, over=over),
            "policy/entropy": mean_over(entropy, is_choice, over=over),
            "weight": is_choice.sum() if over == "batch" else torch.tensor(len(part.rows)),
        }
        return terms | {name: torch.tensor(value) for name, value in batch.facts.items()}

    policy = learned(model.lm)
    watcher = Watcher(model, run, policy, config.watch, None)
    optimize(run, policy, terms_of, config.optimization, look=watcher)
    watcher.restore()
