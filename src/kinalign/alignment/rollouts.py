"""Answers that a policy draws in the middle of its own training, with their rewards: what GRPO and PPO learn from.

A batch is drawn once and learned from for some epochs, in parts of about one length: little of a part is padding, and
only one part's activations are in memory. Dropout is off, or the policy would not be what the answers were drawn from.
Processes of torchrun draw the answers of different prompts, the same ones as a single process would.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinalign.alignment.preference import ADAPTER
from kinalign.alignment.rewards import JudgeReward, Reward, RewardWeights
from kinalign.alignment.watch import Watch
from kinalign.errors import ConfigError, KinalignError
from kinalign.judge.named import judge_named
from kinalign.judge.prompts import EventPrompt, grammar_prompts, read_prompts
from kinalign.judge.rubric import SUB_TASKS, SubTask
from kinalign.lm.instructions import Instruction
from kinalign.lm.lora import Adapter, LoraConfig, add_lora, lora_folded, lora_off
from kinalign.lm.model import Choices, Sampling
from kinalign.pipeline import TextToMotion
from kinalign.preference.annotate import weights_of
from kinalign.run import config_to_json, sha256_of_file
from kinalign.training import Draw, Optimization, accelerated

AS_IT_IS = Sampling(temperature=1.0, top_p=1.0, guidance=1.0)
"""The policy's own distribution, which `MotionLM.choices` gives the log-probabilities of."""


@dataclass(frozen=True)
class Learning:
    """What GRPO and PPO are both asked."""

    out: Path = Path("aligned")
    """Folder of the run, with the adapter in the end; a run that was stopped goes on there."""
    model: Path | None = None
    """Model or adapter folder, which is also the reference; the shipped model where it is left out."""
    judge: str = "kinematic"
    """Who rewards: kinematic, embedding, lvlm:MODEL, lvlm:FILE.json with its settings, or your own as MODULE:CLASS."""
    weights: RewardWeights = field(default_factory=RewardWeights)
    """How much each term of the reward counts."""
    task: tuple[SubTask, ...] = SUB_TASKS
    """Sub-tasks of the prompts, with commas between."""
    prompts: int = 600
    """Prompts to draw from, as many of each sub-task."""
    events: int = 2
    """Events of a temporal or integrity prompt."""
    file: Path | None = None
    """Prompts of your own instead: a sentence a line, or JSON lines as of `kinalign prefer build`."""
    batch: int = 8
    """Prompts of a batch."""
    candidates: int = 8
    """Answers to each of them."""
    epochs: int = 2
    """Optimizer steps on each batch."""
    clip: float = 0.2
    """How far the probability of a token may move from what it was drawn with, as a share, before nothing pushes it."""
    lora: LoraConfig = field(default_factory=lambda: LoraConfig(dropout=0.0))
    """Which matrices are learned beside the T5's own."""
    watch: Watch = field(default_factory=Watch)
    optimization: Optimization = field(
        default_factory=lambda: Optimization(
            steps=300, learning_rate=1e-3, warmup_steps=10, accumulate=4, log_every=2, checkpoint_every=20
        )
    )
    threads: int = 1
    """Processor threads."""

    def __post_init__(self) -> None:
        for name in ("batch", "candidates", "epochs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1 (--{name})")
        if self.lora.dropout:
            raise ConfigError(
                f"dropout={self.lora.dropout} would make the policy another than the one that drew (--lora.dropout 0)"
            )
        if not 0 < self.clip < 1:
            raise ConfigError(f"clip={self.clip} must be in (0, 1) (--clip)")
        if self.batch * self.candidates < self.optimization.accumulate:
            raise ConfigError(
                f"{self.batch} prompts x {self.candidates} candidates are fewer answers than "
                f"accumulate={self.optimization.accumulate} parts (--optimization.accumulate)"
            )
        if self.optimization.checkpoint_every % self.epochs:
            raise ConfigError(
                f"checkpoint_every={self.optimization.checkpoint_every} must be a multiple of epochs={self.epochs}: in "
                "the middle of a batch nothing can be resumed (--optimization.checkpoint-every)"
            )


@dataclass
class Part:
    """Answers of about one length, and what is known of them before any of them is learned from."""

    rows: list[int]
    """Their places in the batch."""
    instructions: list[Instruction]
    answers: list[list[int]]
    """Token ids."""
    reference: Tensor | None = None
    """Log-probabilities (B, L) of the reference."""
    old_logps: Tensor | None = None
    """Log-probabilities (B, L) that the answers were drawn with."""


@dataclass(frozen=True)
class Batch:
    """Answers in the order of their prompts, C to each."""

    step: int
    rewards: Tensor
    """(P, C)"""
    parts: list[Part]
    facts: Mapping[str, float]


class Rollouts:
    """A policy, its prompts and who rewards it: the batch of a step, the same in all its epochs and parts.

    The model gets new matrices beside its own, which are all that learns.
    """

    def __init__(self, model: TextToMotion, prompts: Sequence[EventPrompt], reward: Reward, config: Learning) -> None:
        if len(prompts) < config.batch:
            raise ConfigError(
                f"{len(prompts)} prompts are fewer than the {config.batch} of a batch (--prompts, --file, --batch)"
            )
        self.model, self.lm, self.prompts, self.reward = model, model.lm, prompts, reward
        self.config, self.accumulate = config, config.optimization.accumulate
        self.asked = [model.ask(prompt.prompt) for prompt in prompts]
        self.steps = self.asked[0].steps
        self.lm.to(accelerated().device).eval().requires_grad_(False)
        torch.manual_seed(config.optimization.seed)
        add_lora(self.lm.t5, config.lora)
        if self.lm.reader is not None:
            self.lm.reader.remember(*self.lm.tokenize([one.instruction.text for one in self.asked]))
        self._batch: Batch | None = None
        self._drawn_at = perf_counter()

    def batch(self, draw: Draw) -> Batch:
        """The answers of this process at a step; drawn at the first epoch's first part, then remembered."""
        if draw.step % self.config.epochs == 0:
            # every part and every process draws the same
            chosen = draw.rng.choice(len(self.prompts), self.config.batch, replace=False)
            seeds = draw.rng.integers(2**31, size=self.config.batch)
            if self._batch is None or self._batch.step != draw.step:
                self._batch = self._drawn(draw, chosen.tolist(), seeds.tolist())
        assert self._batch is not None, "checkpoints are between batches"
        return self._batch

    def part(self, draw: Draw) -> Part:
        """The answers of this part."""
        return self.batch(draw).parts[draw.part % self.accumulate]

    def choices(self, part: Part) -> Choices:
        """What the policy says of a part's answers."""
        return self.lm.choices(part.instructions, part.answers, steps=self.steps)

    @torch.no_grad()
    def reference(self, part: Part) -> Tensor:
        """Log-probabilities (B, L) by the policy as it was before all learning."""
        if part.reference is None:
            with lora_off(self.lm.t5):
                part.reference = self.choices(part).logps
        return part.reference

    def _drawn(self, draw: Draw, chosen: list[int], seeds: list[int]) -> Batch:
        process, processes = draw.part // self.accumulate, draw.parts // self.accumulate
        mine = slice(len(chosen) * process // processes, len(chosen) * (process + 1) // processes)
        chosen, seeds = chosen[mine], seeds[mine]
        if not chosen:
            raise ConfigError(f"{self.config.batch} prompts leave one of {processes} processes without any (--batch)")
        begun = perf_counter()
        with lora_folded(self.lm.t5):
            answers = self.model.answers(
                [self.asked[place] for place in chosen],
                seeds=seeds,
                num_candidates=self.config.candidates,
                sampling=AS_IT_IS,
            )
        generated = perf_counter()
        codes = [row for candidates in answers for row in candidates if row is not None]
        assert len(codes) == len(chosen) * self.config.candidates, "constrained answers are motions"
        of_answer = [place for place in chosen for _ in range(self.config.candidates)]
        rewards, facts = self.reward([self.prompts[place] for place in of_answer], codes)
        if not np.isfinite(rewards).all():
            bad = self.prompts[of_answer[int(np.argmin(np.isfinite(rewards)))]]
            raise KinalignError(
                f"the reward of an answer to {bad.prompt!r} is not a number; the last checkpoint stands"
            )
        by_length = sorted(range(len(codes)), key=lambda row: len(codes[row]))
        bounds = [len(codes) * turn // self.accumulate for turn in range(self.accumulate + 1)]
        parts = [
            Part(
                rows := by_length[start:stop],
                [self.asked[of_answer[row]].instruction for row in rows],
                [self.lm.vocab.codes_to_ids(codes[row]).tolist() for row in rows],
            )
            for start, stop in pairwise(bounds)
        ]
        facts = {
            "rewards/mean": float(rewards.mean()),
            "rewards/std_in_group": float(rewards.reshape(len(chosen), -1).std(1).mean()),
            **facts,
            "time/generate_s": generated - begun,
            "time/reward_s": perf_counter() - generated,
            # on the batch before this one
            "time/learn_s": begun - self._drawn_at,
            **peak_memory(),
        }
        self._drawn_at = perf_counter()
        in_groups = torch.from_numpy(rewards).float().view(len(chosen), -1)
        return Batch(draw.step, in_groups.to(draw.device), parts, facts)


def peak_memory() -> dict[str, float]:
    """The most memory that this process has had so far, in megabytes, where the system tells."""
    found = {}
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        found["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    if torch.cuda.is_available():
        found["gpu_memory_mb"] = torch.cuda.max_memory_allocated() / 1e6
    return found


def prompts_of(config: Learning) -> list[EventPrompt]:
    """The prompts of a command."""
    if config.file is None:
        seed = config.optimization.seed
        return grammar_prompts(config.task, config.prompts, events=config.events, seed=seed, split="train")
    found = [prompt for prompt in read_prompts(config.file) if prompt.task in config.task]
    if not found:
        raise ConfigError(f"{config.file} has no prompt for {', '.join(config.task) or 'no sub-task'} (--task, --file)")
    return found


def judge_reward(config: Learning, model: TextToMotion) -> JudgeReward:
    """The reward of a command."""
    return JudgeReward(model, judge_named(config.judge), config.weights)


def settings_of(config: Any, model: TextToMotion) -> dict[str, Any]:
    """All that a command's run depends on, as config.json keeps it: a file by what it holds, not where it is made."""
    settings = config_to_json(config)
    for name in ("out", "threads"):
        settings.pop(name)
    if settings.get("file"):
        settings["file"] = sha256_of_file(config.file)
    return settings | {"model": weights_of(model)}


def save_adapter(model: TextToMotion, config: Learning) -> Path:
    """Write what was learned; returns the folder."""
    return Adapter.of(model.lm, base=model.name).save_pretrained(config.out / ADAPTER)
