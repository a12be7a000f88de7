"""`kinalign align ppo`: a model learns what a judge or a reward model likes by PPO, as InstructMotion does.

A token's reward is the step that it takes away from the reference, times a weight that follows a target (Ziegler et al.
2019); the last token of an answer gets the answer's own, in standard deviations of all rewards so far. Values come from
a head on the policy's decoder, or from a network of its own that begins as the reward model. Processes of torchrun
share the weight and the deviations, and whiten advantages each by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from kinalign.alignment.policy_gradient import (
    adapted_kl_weight,
    clipped_policy_loss,
    clipped_value_loss,
    gae,
    is_clipped,
    mean_over,
    whitened,
)
from kinalign.alignment.preference import facts
from kinalign.alignment.reward_model import ModelReward, RewardModel
from kinalign.alignment.rewards import Reward
from kinalign.alignment.rollouts import (
    Batch,
    Learning,
    Part,
    Rollouts,
    judge_reward,
    prompts_of,
    save_adapter,
    settings_of,
)
from kinalign.alignment.watch import Watcher
from kinalign.errors import ConfigError
from kinalign.judge.prompts import EventPrompt
from kinalign.lm.model import Choices
from kinalign.pipeline import TextToMotion, shipped_model
from kinalign.run import RunFolder, sha256_of_weights
from kinalign.training import Draw, accelerated, learned, optimize

GAMMA, LAMBDA = 1.0, 0.95
"""InstructMotion's."""


@dataclass(frozen=True)
class AlignPPO(Learning):
    """Teach a model what a judge or a reward model likes, by proximal policy optimisation."""

    out: Path = Path("ppo")
    """Folder of the run, with the adapter in the end; a run that was stopped goes on there."""
    reward: Path | None = None
    """A reward model of `kinalign align reward`, in the place of the judge."""
    critic: Literal["shared", "separate"] = "shared"
    """Whose states are valued: the policy's, or those of a copy of the reward model that learns too."""
    batch: int = 32
    """Prompts of a batch."""
    candidates: int = 2
    """Answers to each of them."""
    epochs: int = 4
    """Optimizer steps on each batch."""
    kl_weight: float = 0.05
    """What a nat of distance from the reference costs at first, in standard deviations of the reward."""
    kl_target: float = 6.0
    """Nats of an answer that the weight is led by."""
    kl_horizon: float = 10_000.0
    """Answers in which the weight can change by a fifth; infinity keeps it."""
    value_weight: float = 0.1
    """Weight of the values' loss beside the policy's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("kl_weight", "value_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name}={getattr(self, name)} must be 0 or more (--{name.replace('_', '-')})")
        for name in ("kl_target", "kl_horizon"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be positive (--{name.replace('_', '-')})")
        if self.critic == "separate" and self.reward is None:
            raise ConfigError("critic='separate' begins as a reward model, which is absent (--reward)")


class Learner(nn.Module):
    """All that a checkpoint has to hold: what learns, and what follows the rewards and the distance."""

    kl_weight: Tensor
    rewards_seen: Tensor

    def __init__(self, policy: nn.ParameterDict, width: int, *, critic: RewardModel | None, kl_weight: float) -> None:
        super().__init__()
        self.policy, self.critic = policy, critic
        self.head = critic.head if critic is not None else nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("kl_weight", torch.tensor(kl_weight, dtype=torch.float64))
        self.register_buffer("rewards_seen", torch.zeros(3, dtype=torch.float64))
        """How many, their sum and the sum of their squares."""

    def values(self, part: Part, choices: Choices) -> Tensor:
        """What is expected (B, L) of answers before each of their tokens."""
        if self.critic is None:
            return self.head(choices.hidden)[..., 0]
        return self.critic.eval().values(part.instructions, part.answers)

    def normalized(self, rewards: Tensor) -> Tensor:
        """Rewards (N,) in standard deviations from the mean of all so far, these included."""
        rewards = rewards.to(self.rewards_seen)
        sums = torch.stack((torch.ones_like(rewards), rewards, rewards.square())).sum(1)
        self.rewards_seen += accelerated().reduce(sums, "sum")
        number, total, squares = self.rewards_seen.tolist()
        mean = total / number
        return (rewards - mean) / math.sqrt(max(squares / number - mean**2, 1e-8))


class Estimates(NamedTuple):
    """What is known of a part before any of it is learned from, each (B, L)."""

    old_logps: Tensor
    old_values: Tensor
    advantages: Tensor
    returns: Tensor


def align_ppo(config: AlignPPO) -> Path:
    """Teach a model what a judge or a reward model likes, by PPO; prints what was learned and where it is."""
    torch.set_num_threads(config.threads)
    model = TextToMotion.from_pretrained(config.model or shipped_model())
    prompts = prompts_of(config)
    settings = settings_of(config, model)
    reward_model = RewardModel.from_pretrained(config.reward) if config.reward else None
    if reward_model is not None:
        settings["reward"] = sha256_of_weights([reward_model])
    reward = ModelReward(model, reward_model) if reward_model is not None else judge_reward(config, model)
    critic = deepcopy(reward_model) if config.critic == "separate" else None
    run = RunFolder.open(config.out, settings)
    train_ppo(model, prompts, reward, config, run=run, critic=critic)
    folder = save_adapter(model, config)
    print(facts(run.metrics()))
    print(folder)
    return folder


def train_ppo(
    model: TextToMotion,
    prompts: Sequence[EventPrompt],
    reward: Reward,
    config: AlignPPO,
    *,
    run: RunFolder,
    critic: RewardModel | None = None,
) -> None:
    """Put matrices beside the model's own and train them, from where the run folder stands; a `critic` learns too."""
    rollouts = Rollouts(model, prompts, reward, config)
    if critic is not None:
        critic.to(accelerated().device)
    if critic is not None and critic.lm.reader is not None:
        critic.lm.reader.freeze()
        critic.lm.reader.remember(*critic.lm.tokenize([one.instruction.text for one in rollouts.asked]))
    policy = learned(model.lm)
    width = model.lm.t5.config.d_model
    learner = Learner(policy, width, critic=critic, kl_weight=config.kl_weight)
    estimated = _Estimator(rollouts, learner, config)

    def terms_of(draw: Draw) -> Mapping[str, Tensor]:
        batch, part = rollouts.batch(draw), rollouts.part(draw)
        old_logps, old_values, advantages, returns = estimated(batch)[draw.part % rollouts.accumulate]
        choices = rollouts.choices(part)
        logps, entropy, is_choice, _ = choices
        values = learner.values(part, choices)
        policy_loss = mean_over(clipped_policy_loss(logps, old_logps, advantages, clip=config.clip), is_choice)
        value_loss = mean_over(clipped_value_loss(values, old_values, returns, clip=config.clip), is_choice)
        clipped = is_clipped(logps, old_logps, advantages, clip=config.clip)
        terms = {
            "loss": policy_loss + config.value_weight * value_loss,
            "losses/policy": policy_loss,
            "losses/value": value_loss,
            "policy/clipfrac": mean_over(clipped, is_choice),
            "policy/entropy": mean_over(entropy, is_choice),
            "weight": is_choice.sum(),
        }
        return terms | {name: torch.tensor(value) for name, value in {**batch.facts, **estimated.facts}.items()}

    watcher = Watcher(model, run, policy, config.watch, None)
    optimize(run, learner, terms_of, config.optimization, look=watcher)
    watcher.restore()


class _Estimator:
    """Advantages and returns of a batch, once, before it is learned from; the KL's weight moves on after it."""

    def __init__(self, rollouts: Rollouts, learner: Learner, config: AlignPPO) -> None:
        self.rollouts, self.learner, self.config = rollouts, learner, config
        self.facts: dict[str, float] = {}
        self._step = -1
        self._estimates: list[Estimates] = []

    @torch.no_grad()
    def __call__(self, batch: Batch) -> list[Estimates]:
        """Estimates of each part."""
        if self._step == batch.step:
            return self._estimates
        rollouts, learner, config = self.rollouts, self.learner, self.config
        weight = learner.kl_weight.item()
        scores = learner.normalized(batch.rewards.flatten())
        found: list[tuple[Choices, Tensor, Tensor, Tensor]] = []
        distance = torch.zeros(2, dtype=torch.float64)
        for part in batch.parts:
            choices = rollouts.choices(part)
            steps_away = (choices.logps - rollouts.reference(part)) * choices.is_choice
            distance += torch.tensor([steps_away.sum().item(), float(len(part.rows))])
            rewards = token_rewards(scores[part.rows].to(steps_away), steps_away, choices.is_choice, kl_weight=weight)
            values = learner.values(part, choices) * choices.is_choice
            found.append((choices, values, *gae(rewards, values, choices.is_choice, gamma=GAMMA, lam=LAMBDA)))
        is_choice = torch.cat([choices.is_choice.flatten() for choices, *_ in found])
        white = whitened(torch.cat([advantages.flatten() for _, _, advantages, _ in found]), is_choice)
        self._step, self._estimates = batch.step, []
        for (choices, values, advantages, returns), own in zip(
            found, white.split([advantages.numel() for _, _, advantages, _ in found])
        ):
            self._estimates.append(Estimates(choices.logps, values, own.view_as(advantages), returns))
        nats, answers = accelerated().reduce(distance.to(learner.kl_weight), "sum").tolist()
        self.facts = {"policy/kl": nats / answers, "policy/kl_weight": weight}
        learner.kl_weight.fill_(
            adapted_kl_weight(
                weight, nats / answers, target=config.kl_target, horizon=config.kl_horizon, num_answers=int(answers)
            )
        )
        return self._estimates


def token_rewards(scores: Tensor, steps_away: Tensor, is_choice: Tensor, *, kl_weight: float) -> Tensor:
    """Rewards (B, L) after each token: what its step away from the reference costs, and at the last choice the score.

    `scores` (B,) are of answers, `steps_away` (B, L) log-probabilities less the reference's.
    """
    rewards = -kl_weight * steps_away * is_choice
    last = (is_choice * torch.arange(1, is_choice.shape[1] + 1, device=is_choice.device)).argmax(1)
    return rewards.scatter_add(1, last[:, None], scores[:, None])
