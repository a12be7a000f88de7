"""Processor time of a batch of `kinalign align grpo`, by part: python bench/bench_rl.py"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import process_time

import numpy as np
import torch

from kinalign.alignment.grpo import AlignGRPO
from kinalign.alignment.policy_gradient import clipped_policy_loss, mean_over
from kinalign.alignment.rewards import reward_motions
from kinalign.alignment.rollouts import AS_IT_IS, Rollouts, judge_reward, peak_memory, prompts_of
from kinalign.lm.lora import lora_folded
from kinalign.pipeline import TextToMotion
from kinalign.training import Draw

BATCHES = 3
SECONDS: Counter[str] = Counter()


@contextmanager
def timed(name: str) -> Iterator[None]:
    begun = process_time()
    yield
    SECONDS[name] += (process_time() - begun) / BATCHES  # type: ignore[assignment]


def main() -> None:
    torch.set_num_threads(1)
    config = AlignGRPO(prompts=8 * BATCHES)
    model = TextToMotion.from_pretrained()
    reward = judge_reward(config, model)
    rollouts = Rollouts(model, prompts_of(config), reward, config)
    num_tokens = 0
    for number in range(BATCHES):
        rows = slice(8 * number, 8 * number + 8)
        prompts = [prompt for prompt in rollouts.prompts[rows] for _ in range(config.candidates)]
        with timed("generation"), lora_folded(model.lm.t5):
            drawn = model.answers(
                rollouts.asked[rows], seeds=[number] * 8, num_candidates=config.candidates, sampling=AS_IT_IS
            )
        codes = [row for candidates in drawn for row in candidates if row is not None]
        with timed("decoding"):
            motions = [model.ask(prompt.prompt).finish(row) for prompt, row in zip(prompts, codes)]
        with timed("judging and physics"):
            reward_motions(prompts, motions, reward.judge, config.weights)
        batch = rollouts.batch(Draw(np.random.default_rng(number), torch.Generator(), 2 * number, 0, 4))
        for part in batch.parts:
            num_tokens += sum(map(len, part.answers))
            with timed("reference"):
                rollouts.reference(part)
            with timed("learning, an epoch"):
                logps, _, is_choice, _ = rollouts.choices(part)
                loss = clipped_policy_loss(logps, logps.detach(), torch.ones(len(part.rows), 1), clip=config.clip)
                mean_over(loss, is_choice).backward()
    print(f"{config.batch} prompts x {config.candidates} candidates, {num_tokens / BATCHES:.0f} tokens a batch")
    for name, seconds in SECONDS.items():
        print(f"{name:24}{seconds:6.2f} s")
    whole = sum(SECONDS.values())
    print(f"{'all, 1 epoch':24}{whole:6.2f} s\n{'all, 2 epochs':24}{whole + SECONDS['learning, an epoch']:6.2f} s")
    print(f"{peak_memory()['memory_mb']:.0f} MB")


if __name__ == "__main__":
    main()
