"""A tiny model in a minute, to see alignment work: it jumps, squats and kicks, but seldom as often as one says.

    python -m kinalign.recipes.tiny --out tiny
    kinalign prefer build --model tiny/model --file tiny/prompts.txt --candidates 8 --out tiny/pairs
    kinalign align preference --model tiny/model --data tiny/pairs --out tiny/aligned --loss sigmoid --beta 1 \\
        --sft-weight 5 --batch-size 16 --lora.targets q,k,v,o,wi,wo --lora.dropout 0 \\
        --optimization.steps 80 --optimization.warmup-steps 5 --optimization.learning-rate 2e-3
    python -m kinalign.recipes.tiny --out tiny --adapter tiny/aligned/adapter

One CPU core, about a minute and a half of its time in all; it needs the shipped model's tokenizer and no data. What
it is taught are motions made by rule, of which only a few show the count that their words name, as in real captions.
The judge then says which candidates do. The last command says how often the judge sees what was asked for, before and
after, with people in the prompts that no pair was about, and another seed: all right were 54, 55 and 54 % before and
81, 75 and 78 % after, with three seeds of everything (one core of two, 2026-11-22).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from kinalign.judge.kinematic import KinematicJudge
from kinalign.judge.verdict import Case, Judge, Verdict
from kinalign.lm.instructions import Instruction
from kinalign.lm.model import LMConfig, MotionLM
from kinalign.lm.text import plain_tokenizer
from kinalign.motion.motion import Motion
from kinalign.motion.synthetic import jumping, kicking, squatting
from kinalign.pipeline import TextToMotion, shipped_model
from kinalign.run import RunFolder, config_to_json, write_text
from kinalign.tokenizer.tokenizer import MotionTokenizer
from kinalign.training import Draw, Optimization, learned, optimize

TIMES = ("once", "twice", "three times")
PEOPLE = ("a person", "a man", "the dancer")
"""Whom pairs are about."""
OTHERS = ("a woman", "the athlete", "somebody")
"""Whom nobody but the first training speaks of."""


@dataclass(frozen=True)
class Recipe:
    """Train a tiny model on motions made by rule; or say what an adapter changed of it."""

    out: Path = Path("tiny")
    """model/, and the prompts to learn from and to look at: prompts.txt and held_out.txt."""
    adapter: Path | None = None
    """Train nothing: say what this adapter changed, on the prompts to look at."""
    true_share: float = 0.2
    """Share of motions that show what their words say; the others show any count."""
    candidates: int = 8
    """Motions for each prompt that is looked at."""
    optimization: Optimization = field(
        default_factory=lambda: Optimization(steps=400, learning_rate=3e-3, warmup_steps=20, checkpoint_every=400)
    )
    threads: int = 1
    """Processor threads."""


def run(recipe: Recipe) -> Path:
    """Train the model, or say what an adapter changed; the model's folder."""
    torch.set_num_threads(recipe.threads)
    folder = recipe.out / "model"
    if recipe.adapter is None:
        if not (folder / "config.json").is_file():
            _train(recipe).save_pretrained(folder)
        _write(recipe.out / "prompts.txt", prompts_of(PEOPLE))
        _write(recipe.out / "held_out.txt", prompts_of(OTHERS))
        return folder
    judge = KinematicJudge()
    for name, adapter in (("before", None), ("after", recipe.adapter)):
        score, right = looked_at(TextToMotion.from_pretrained(folder, adapter=adapter), judge, recipe.candidates)
        print(f"{name}: score {score:.2f}, right {100 * right:.1f} %")
    return folder


def prompts_of(people: Sequence[str]) -> list[str]:
    """Every action as often as every count, of some people."""
    return [f"{one} {said} {times}" for one in people for said in _motions() for times in TIMES]


def looked_at(model: TextToMotion, judge: Judge, candidates: int) -> tuple[float, float]:
    """A judge's mean score, and the share that is right, of motions for the prompts that nothing was learned from."""
    prompts = prompts_of(OTHERS)
    made = model.generate(prompts, num_candidates=candidates, seed=1000)
    cases = [Case.of(prompt, motion) for prompt, generated in zip(prompts, made) for motion in generated.motions]
    scores = np.array([one.score for one in judge.judge_all(cases) if isinstance(one, Verdict)])
    return float(scores.mean()), float((scores == 5).mean())


def _write(path: Path, prompts: Sequence[str]) -> None:
    text = "\n".join(prompts) + "\n"
    write_text(path, text)


def _motions() -> dict[str, list[Motion]]:
    """What words say, and motions that show it once, twice and three times."""
    counts = range(1, len(TIMES) + 1)
    return {
        "jumps": [jumping(count) for count in counts],
        "squats": [squatting(count) for count in counts],
        "kicks with the right leg": [kicking(count, side="right") for count in counts],
        "kicks with the left leg": [kicking(count, side="left") for count in counts],
    }


def _train(recipe: Recipe) -> TextToMotion:
    tokenizer = MotionTokenizer.from_pretrained(shipped_model() / "tokenizer")
    codes = {said: [tokenizer.encode(motion) for motion in motions] for said, motions in _motions().items()}
    everybody = (*PEOPLE, *OTHERS)
    words = sorted({word for prompt in prompts_of(everybody) for word in prompt.split()})
    torch.manual_seed(recipe.optimization.seed)
    lm = MotionLM.from_config(
        LMConfig(width=64, feed_forward_width=128, encoder_layers=1, decoder_layers=2, heads=4, dropout=0.0),
        num_codes=tokenizer.num_codes,
        codes_per_step=tokenizer.codes_per_step,
        text_tokenizer=plain_tokenizer(words),
    )
    model = TextToMotion(lm, tokenizer, name="tiny")

    def terms_of(draw: Draw) -> dict[str, Tensor]:
        told, answers = [], []
        for _ in range(32):
            one, said = draw.rng.choice(everybody), draw.rng.choice(list(codes))
            named, shown = draw.rng.integers(len(TIMES), size=2)
            if draw.rng.random() < recipe.true_share:
                shown = named
            # one in ten is asked nothing, for guidance
            empty = draw.rng.random() < 0.1
            told += [Instruction("")] if empty else model.instructions([f"{one} {said} {TIMES[named]}"])
            answers.append(lm.vocab.codes_to_ids(codes[said][shown]).tolist())
        return {"loss": lm.loss(draw.mine(told), draw.mine(answers))}

    settings = config_to_json(recipe.optimization) | {"true_share": recipe.true_share}
    optimize(RunFolder.open(recipe.out / "lm", settings), learned(lm), terms_of, recipe.optimization)
    return model


if __name__ == "__main__":
    print(run(tyro.cli(Recipe)))
