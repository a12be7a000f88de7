"""What an evaluation costs on two cores: each task in batches, beside one by one; and the numbers.

One by one is what a user would write who calls the model in a loop. The model is the shipped one; clips are made up,
five seconds long, which is 25 steps, 50 codes. Numbers are those of HumanML3D's test set: 4,384 motions, embeddings of
width 512, 20 replications.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from kinalign.evaluation.metrics import diversity, fid, mm_dist, multimodality, r_precision
from kinalign.motion.motion import Motion
from kinalign.motion.synthetic import walking
from kinalign.pipeline import Asked, TextToMotion

SECONDS, NUM_MOTIONS, NUM_ALONE = 5.0, 64, 4
FEWEST_PER_S, LIMIT_S = 25.0, 60.0
ACTIONS = ("walks forward", "waves with the right hand", "jumps twice", "kicks with the left leg")


def main() -> int:
    torch.set_num_threads(2)
    model = TextToMotion.from_pretrained()
    model("a person walks", length_s=1.0)  # the first call pays for what is loaded lazily
    clips = [walking(101, steps_per_second=1 + number / NUM_MOTIONS) for number in range(NUM_MOTIONS)]
    prompts = [f"a person {ACTIONS[number % len(ACTIONS)]}" for number in range(NUM_MOTIONS)]
    rate = motions_per_s(model, "text to motion", [model.ask(prompt, length_s=SECONDS) for prompt in prompts])
    motions_per_s(model, "prediction", [model.ask_next(clip[:21], seconds=4.0) for clip in clips])
    motions_per_s(model, "in-between", [gap(model, clip) for clip in clips])
    motions_per_s(model, "four key steps", [model.ask_keys(clip, [0, 8, 16, 24]) for clip in clips])
    begun = time.perf_counter()
    model.captions(clips)
    together = NUM_MOTIONS / (time.perf_counter() - begun)
    begun = time.perf_counter()
    for clip in clips[:NUM_ALONE]:
        model.caption(clip)
    alone = NUM_ALONE / (time.perf_counter() - begun)
    print(f"motion to text      {together:6.1f} captions a second, one by one {alone:5.1f}")
    seconds = numbers_s()
    print(f"numbers             {seconds:6.1f} s for 4,384 motions x 20 replications (limit {LIMIT_S:.0f} s)")
    return 0 if rate >= FEWEST_PER_S and seconds <= LIMIT_S else 1


def gap(model: TextToMotion, clip: Motion) -> Asked:
    return model.ask_between(clip[:25], clip[72:], seconds=2.4, anchored=True)


def motions_per_s(model: TextToMotion, what: str, asked: Sequence[Asked]) -> float:
    """Print and return how many motions a second are made in batches, decoding included."""

    def make(asked: Sequence[Asked]) -> None:
        answers = model.answers(asked, seeds=range(len(asked)))
        for one, (codes,) in zip(asked, answers):
            assert codes is not None
            one.finish(codes)

    def loop() -> None:
        for one in asked[:NUM_ALONE]:
            make([one])

    together, alone = len(asked) / seconds_of(lambda: make(asked)), NUM_ALONE / seconds_of(loop)
    limit = f" (at least {FEWEST_PER_S:.0f})" if what == "text to motion" else ""
    print(f"{what:18}  {together:6.1f} motions a second{limit}, one by one {alone:5.1f}")
    return together


def numbers_s() -> float:
    rng = np.random.default_rng(0)
    text, motion, real = (rng.normal(size=(4384, 512)) for _ in range(3))
    many = rng.normal(size=(100, 30, 512))

    def all_numbers() -> None:
        for _ in range(20):
            fid(real, motion)
            r_precision(text, motion, rng=rng)
            mm_dist(text, motion)
            diversity(motion, rng=rng)
            multimodality(many, rng=rng)

    return seconds_of(all_numbers)


def seconds_of(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
