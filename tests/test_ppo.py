"""PPO: the reward rises, the distance follows its target, values learn, and a kill changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_grpo import LORA, ShareOf, comparable, prompts_of
from test_pipeline import lm_of, tokenizer_of

from kinalign.alignment.ppo import AlignPPO, Learner, align_ppo, token_rewards, train_ppo
from kinalign.alignment.reward_model import RewardModel
from kinalign.alignment.rewards import Codes, Rewarded
from kinalign.errors import CheckpointError, ConfigError
from kinalign.events.parse import parse
from kinalign.judge.prompts import EventPrompt
from kinalign.pipeline import TextToMotion
from kinalign.run import RunFolder
from kinalign.training import Optimization

pytest.importorskip("peft", reason="LoRA needs kinalign[lora]")

TINY = AlignPPO(
    batch=3,
    candidates=4,
    prompts=6,
    epochs=2,
    lora=LORA,
    optimization=Optimization(
        steps=8, learning_rate=1e-2, warmup_steps=1, accumulate=2, log_every=1, checkpoint_every=2
    ),
)


def model_of() -> TextToMotion:
    model = TextToMotion(lm_of(), tokenizer_of())
    model.lm.eval().max_text_tokens = 200
    return model


def critic_of() -> RewardModel:
    torch.manual_seed(3)
    lm = lm_of()
    lm.max_text_tokens = 200
    return RewardModel(lm)


@pytest.mark.slow
@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_the_reward_rises(critic: Any, tmp_path: Path) -> None:
    optimization = Optimization(steps=30, learning_rate=2e-2, warmup_steps=1, log_every=1, checkpoint_every=30)
    config = replace(TINY, batch=4, candidates=8, epochs=3, kl_weight=0.0, optimization=optimization)
    run = RunFolder.open(tmp_path, {})
    own = critic_of() if critic == "separate" else None
    train_ppo(model_of(), prompts_of(), ShareOf(), config, run=run, critic=own)
    rewards = [row["rewards/mean"] for row in run.metrics()]
    assert rewards[0] < 0.65
    assert np.mean(rewards[-6:]) > 0.75


def test_the_score_comes_with_the_last_choice_and_distance_costs_where_it_is_taken() -> None:
    is_choice = torch.tensor([[False, True, True, True], [False, True, False, False]])
    steps_away = torch.tensor([[9.0, 1.0, 2.0, 3.0], [9.0, 4.0, 9.0, 9.0]])
    rewards = token_rewards(torch.tensor([10.0, 20.0]), steps_away, is_choice, kl_weight=0.1)
    torch.testing.assert_close(rewards, torch.tensor([[0, -0.1, -0.2, 9.7], [0, 19.6, 0, 0]]))


def test_rewards_are_told_in_deviations_of_all_so_far() -> None:
    learner = Learner(torch.nn.ParameterDict(), 4, critic=None, kl_weight=0.1)
    first, second = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([100.0, 102.0])
    learner.normalized(first)
    told = learner.normalized(second).numpy()
    every = torch.cat((first, second)).double().numpy()
    np.testing.assert_allclose(told, (second.numpy() - every.mean()) / every.std(), rtol=1e-6)


def test_rewards_that_are_all_alike_teach_nothing() -> None:
    learner = Learner(torch.nn.ParameterDict(), 4, critic=None, kl_weight=0.1)
    assert learner.normalized(torch.full((6,), 0.3)).abs().max() < 1e-3


def test_the_weight_of_the_distance_falls_below_its_target_and_is_kept_by_checkpoints(tmp_path: Path) -> None:
    config = replace(TINY, kl_weight=0.5, kl_target=1e6, kl_horizon=12.0)
    run = RunFolder.open(tmp_path, {})
    train_ppo(model_of(), prompts_of(), ShareOf(), config, run=run)
    weights = [row["policy/kl_weight"] for row in run.metrics()]
    # 12 answers a batch, a batch every 2 steps: a fifth less after each
    assert weights == pytest.approx([0.5 * 0.8 ** (step // 2) for step in range(8)])
    checkpoint = run.load_checkpoint()
    assert checkpoint is not None
    assert checkpoint.tensors["module.kl_weight"].item() == pytest.approx(0.5 * 0.8**4)


@pytest.mark.slow
def test_values_come_to_expect_what_is_rewarded(tmp_path: Path) -> None:
    class LikesJumps(ShareOf):
        """Whatever is answered, one of two prompts is worth more: only a value can learn that."""

        def __call__(self, prompts: Sequence[EventPrompt], answers: Sequence[Codes]) -> Rewarded:
            return Rewarded(np.array([float("jumps" in prompt.prompt) for prompt in prompts]), {})

    texts = ("a person walks", "a person jumps")
    prompts = [EventPrompt(text, text, "integrity", parse(text)) for text in texts]
    optimization = Optimization(steps=32, learning_rate=1e-2, warmup_steps=1, log_every=1, checkpoint_every=32)
    config = replace(TINY, kl_weight=0.0, value_weight=1.0, batch=2, candidates=8, epochs=4, optimization=optimization)
    model, critic = model_of(), critic_of()
    train_ppo(model, prompts, LikesJumps(), config, run=RunFolder.open(tmp_path, {}), critic=critic)
    answer = model.lm.vocab.codes_to_ids([1, 17] * 10).tolist()
    with torch.no_grad():
        walks, jumps = critic.values(model.instructions(texts), [answer, answer])[:, -5:].mean(1).tolist()
    # in deviations the rewards are -1 and 1
    assert walks < -0.5 and jumps > 0.5


class Killed(Exception):
    """A stop in mid-training."""


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_stopped_and_resumed_it_learns_what_it_would_have_learned(critic: Any, tmp_path: Path) -> None:
    class StopsAt(ShareOf):
        calls = 0

        def __call__(self, prompts: Sequence[Any], answers: Sequence[Codes]) -> Rewarded:
            self.calls += 1
            if self.calls == 3:
                raise Killed
            return super().__call__(prompts, answers)

    def train(folder: Path, reward: Any) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
        model, run = model_of(), RunFolder.open(folder, {})
        own = critic_of() if critic == "separate" else None
        train_ppo(model, prompts_of(), reward, TINY, run=run, critic=own)
        return comparable(run), {n: w for n, w in model.lm.state_dict().items() if ".lora_" in n}

    whole = train(tmp_path / "whole", ShareOf())
    with pytest.raises(Killed):
        train(tmp_path / "stopped", StopsAt())
    again = train(tmp_path / "stopped", ShareOf())
    assert again[0] == whole[0]
    assert all(torch.equal(weight, again[1][name]) for name, weight in whole[1].items())


def test_the_command_learns_from_a_reward_model_of_the_same_vocabulary_only(tmp_path: Path) -> None:
    model = TextToMotion(lm_of(), tokenizer_of())
    model.lm.max_text_tokens = 200
    folder, reward = model.save_pretrained(tmp_path / "model"), critic_of().save_pretrained(tmp_path / "reward")
    config = replace(TINY, model=folder, out=tmp_path / "run", reward=reward, critic="separate")
    adapter = align_ppo(config)
    assert (adapter / "adapter.safetensors").is_file()
    rows = RunFolder(tmp_path / "run").metrics()
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    other = RewardModel(lm_of(num_codes=16)).save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match="different tokenizers"):
        align_ppo(replace(config, out=tmp_path / "no", reward=other))
    with pytest.raises(CheckpointError, match="holds no reward model"):
        align_ppo(replace(config, out=tmp_path / "no", reward=folder))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kl_weight": -0.1}, "kl_weight=-0.1 must be 0 or more"),
        ({"kl_weight": float("nan")}, "kl_weight=nan"),
        ({"kl_target": 0.0}, "kl_target=0.0 must be positive"),
        ({"kl_horizon": float("nan")}, "kl_horizon=nan"),
        ({"value_weight": -1.0}, "value_weight=-1.0"),
        ({"critic": "separate"}, "begins as a reward model"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(TINY, **settings)
