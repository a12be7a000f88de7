"""A step of preference learning with the shipped model, 32 pairs, on one core: reference cached, and live.

Cached, a step is one pass of the policy: what the reference says of the pairs was computed once, and what the frozen
reader makes of the prompts too. Live is the same step as a user would write it, and as AToM has it: the policy's pass
and another one with the adapter off, each from the words on. Time is the processor's: other programs do not count.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from kinalign.alignment.preference import Objective, PreferenceConfig, Reference, examples_of
from kinalign.judge.prompts import EventPrompt, grammar_prompts
from kinalign.judge.rubric import SUB_TASKS
from kinalign.lm.lora import add_lora, lora_off
from kinalign.pipeline import TextToMotion
from kinalign.preference.records import Candidate, PreferencePair

PAIRS, LIMIT = 32, 0.6
STEPS = (3, 5, 8, 14, 20, 38, 49)
"""Lengths of motions, in steps of two codes, as they are in pairs of the shipped model: half are below 15."""


def main() -> int:
    torch.set_num_threads(1)
    model, config, rng = TextToMotion.from_pretrained(), PreferenceConfig(), np.random.default_rng(0)
    prompts = grammar_prompts(SUB_TASKS, PAIRS)
    examples = examples_of(model, [pair(model, prompt, rng) for prompt in prompts], config)
    lm, rows = model.lm.requires_grad_(False), range(PAIRS)
    add_lora(lm.t5, config.lora)
    objective = Objective(lm, examples, config)
    assert lm.reader is not None
    words = lm.tokenize([example.instruction.text for example in examples])

    def refer() -> None:
        with torch.no_grad(), lora_off(lm.t5):
            said, none = objective.logps(rows, rows), torch.zeros(PAIRS)
        objective.reference = Reference(*said, none, none)

    def learn() -> None:
        objective.terms(rows)["loss"].backward()

    def live() -> None:
        refer()
        learn()

    refer()
    cached_s = live_s = shared_s = float("inf")
    for _ in range(6):  # in turn, so that neither has the quieter time
        lm.reader.known.clear()
        live_s = min(live_s, processor_s(live))
        lm.reader.remember(*words)
        shared_s = min(shared_s, processor_s(live))
        cached_s = min(cached_s, processor_s(learn))
    ratio = cached_s / live_s
    print(f"cached reference   {cached_s:6.2f} s a step of {PAIRS} pairs, {ratio:.2f} of live (limit {LIMIT})")
    print(f"live reference     {live_s:6.2f} s")
    print(f"  prompts read once {shared_s:5.2f} s, of which cached is {cached_s / shared_s:.2f}")
    return 0 if ratio <= LIMIT else 1


def pair(model: TextToMotion, prompt: EventPrompt, rng: np.random.Generator) -> PreferencePair:
    sides = [Candidate(index, index, codes(model, rng)) for index in range(2)]
    return PreferencePair(f"{prompt.id}-0-1", prompt.prompt, prompt.task, prompt.program, *sides, "made up")


def codes(model: TextToMotion, rng: np.random.Generator) -> tuple[int, ...]:
    vocab = model.lm.vocab
    groups = np.arange(vocab.codes_per_step) * vocab.group_size
    return tuple((rng.integers(vocab.group_size, size=(rng.choice(STEPS), len(groups))) + groups).ravel().tolist())


def processor_s(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    sys.exit(main())
