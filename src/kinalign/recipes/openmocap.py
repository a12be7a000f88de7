"""The shipped model, models/openmocap-base: openmocap20's train split, one command.

    python -m kinalign.recipes.openmocap --out runs/openmocap

Two quiet CPU cores, about five hours: 45 minutes for the tokenizer, 20 for the reader, 92 for text to motion, 55, 22
and some 60 for all tasks. On the test split the tokenizer promises an MPJPE of 72 mm on CMU, 54 on HDM05, 50 on Bandai1
and 22 on Bandai2. By eye the action is there in 83 % of motions for the gallery's prompts in the data's wording and in
53 % for those in new wordings, and captions name the action of 80 % of Bandai-Namco's and HDM05's clips. Stopped and
started again it goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from torch import nn

from kinalign.data.openmocap import load_openmocap
from kinalign.data.tokens import TokenizedClip
from kinalign.lm.model import LMConfig, MotionLM
from kinalign.lm.train import LMTraining, train_lm
from kinalign.pipeline import TextToMotion, tokenized
from kinalign.tokenizer.commands import tokenize_clips, tokens_info
from kinalign.tokenizer.losses import LossWeights
from kinalign.tokenizer.tokenizer import MotionTokenizer
from kinalign.tokenizer.train import TokenizerTraining, refine_decoder, train_tokenizer
from kinalign.tokenizer.vqvae import VQVAEConfig
from kinalign.training import Optimization

TOKENIZER = TokenizerTraining(
    network=VQVAEConfig(
        network="patches",
        width=256,
        code_dim=64,
        codebook_size=512,
        codes_per_step=2,
        quantizer="residual",
    ),
    source_shares=(("CMU", 0.32), ("CMU8", 0.05), ("HDM05", 0.15), ("Bandai1", 0.13), ("Bandai2", 0.35)),
    windows=(16, 32, 64, 128),
    window_shares=(0.1, 0.2, 0.4, 0.3),
    speeds=(1.0, 0.8, 1.25),
    speed_sources=("CMU", "CMU8", "HDM05", "Bandai1"),
    mix_share=0.15,
    continuous_steps=100,
    optimization=Optimization(steps=2700, learning_rate=1e-3, checkpoint_every=100),
)

DECODER = replace(
    TOKENIZER,
    source_shares=(("CMU", 0.3), ("CMU8", 0.05), ("HDM05", 0.22), ("Bandai1", 0.18), ("Bandai2", 0.25)),
    continuous_steps=0,
    optimization=Optimization(steps=1000, learning_rate=6e-4, checkpoint_every=500),
)
DECODER_STAGES = (
    DECODER,
    replace(DECODER, weights=LossWeights(fast_joints=100)),
    replace(
        DECODER,
        source_shares=(("CMU", 0.3), ("CMU8", 0.04), ("HDM05", 0.3), ("Bandai1", 0.16), ("Bandai2", 0.2)),
        weights=LossWeights(fast_joints=300),
        optimization=replace(DECODER.optimization, steps=1400),
    ),
)
"""The decoder goes on alone, on more of the small sources, and then on what is fast; the codes stay what they are."""

LANGUAGE_MODEL = LMTraining(
    network=LMConfig(width=256, feed_forward_width=1024, encoder_layers=1, decoder_layers=4, heads=4),
    reader_teaching=Optimization(steps=1500, learning_rate=6e-5, betas=(0.9, 0.999), checkpoint_every=200),
    optimization=Optimization(
        steps=6500, learning_rate=1e-3, warmup_steps=100, betas=(0.9, 0.98), checkpoint_every=200
    ),
    balance=0.75,
    crop_share=0.5,
)

INSTRUCTIONS = replace(
    LANGUAGE_MODEL,
    tasks="instructions",
    optimization=replace(LANGUAGE_MODEL.optimization, steps=4000, learning_rate=5e-4),
)
"""The language model goes on from text to motion to all tasks; half of what it sees is still text to motion."""

SPEAKING = replace(
    INSTRUCTIONS,
    word_weight=8.0,
    optimization=replace(INSTRUCTIONS.optimization, steps=1600, learning_rate=4e-4),
)
"""All tasks again, with words that count for more: without, captions were too small a part of what was learned."""

CAPTIONS = replace(
    SPEAKING,
    tasks="captions",
    encoder_layers=3,
    word_weight=5.0,
    optimization=replace(SPEAKING.optimization, steps=3400, learning_rate=8e-4, precision="bfloat16"),
)
"""All tasks once more, a third of them captions, with an encoder of three layers: one could not read a motion."""

FIRST_STAGE_SHARE = 0.25
"""How much of text to motion's weights is put into the next ones: it gives back what the other tasks cost that one."""

AVERAGED_SHARE = 0.5
"""How much of the weights before the last stage is in the finished ones, for the same reason."""


@dataclass(frozen=True)
class Recipe:
    """Train the shipped model from openmocap20."""

    out: Path = Path("runs/openmocap")
    """Run folders tokenizer/, decoder0/ and on, lm/, instructions/, speaking/ and captions/; the finished model/."""
    threads: int = 2
    """Processor threads."""
    lm_steps: int = LANGUAGE_MODEL.optimization.steps
    """Optimizer steps of the language model on text to motion."""
    instruction_steps: int = INSTRUCTIONS.optimization.steps
    """Optimizer steps on all tasks."""
    speaking_steps: int = SPEAKING.optimization.steps
    """Optimizer steps on all tasks with heavier words."""
    caption_steps: int = CAPTIONS.optimization.steps
    """Optimizer steps on all tasks with an encoder of more layers."""


def train(recipe: Recipe) -> Path:
    """Tokenizer, codes, language model on text to motion and then on all tasks, model folder."""
    torch.set_num_threads(recipe.threads)
    folder = recipe.out / "tokenizer-model"
    if not (folder / "config.json").exists():
        clips = load_openmocap(split="train")
        trained = train_tokenizer(clips, TOKENIZER, folder=recipe.out / "tokenizer")
        for number, stage in enumerate(DECODER_STAGES):
            if number:
                clips = load_openmocap(split="train", cut_events=True)
            trained = refine_decoder(trained, clips, stage, folder=recipe.out / f"decoder{number}")
        trained.save_pretrained(folder, dtype=torch.float16)
    # read back, so that the language model learns the codes of the weights as they are stored
    tokenizer = MotionTokenizer.from_pretrained(folder)
    info = tokens_info(tokenizer, folder)

    def tokenize() -> list[TokenizedClip]:
        # ended two frames earlier too: the codes of a step depend on where it begins
        return tokenize_clips(tokenizer, load_openmocap(split="train", cut_events=True), shifts=(0, 2))

    rows = tokenized(recipe.out / "tokens", info, tokenize)

    def language_model(
        name: str, settings: LMTraining, steps: int, *, start: Path | None = None, dtype: torch.dtype = torch.float32
    ) -> Path:
        done = recipe.out / f"{name}-model"
        if not (done / "config.json").exists():
            optimization = replace(settings.optimization, steps=steps)
            settings = replace(settings, start=str(start) if start else None, optimization=optimization)
            train_lm(rows, info, settings, folder=recipe.out / name).save_pretrained(done, dtype=dtype)
        return done

    # the first is stored as it was once shipped, and the second went on from that
    first = language_model("lm", LANGUAGE_MODEL, recipe.lm_steps, dtype=torch.float16)
    second = language_model("instructions", INSTRUCTIONS, recipe.instruction_steps, start=first)
    third = language_model("speaking", SPEAKING, recipe.speaking_steps, start=second)
    averaged = recipe.out / "averaged-model"
    if not (averaged / "config.json").exists():
        lm = MotionLM.from_pretrained(third)
        average(lm, MotionLM.from_pretrained(first), share=FIRST_STAGE_SHARE)
        lm.save_pretrained(averaged)
    last = language_model("captions", CAPTIONS, recipe.caption_steps, start=averaged)
    lm, before = MotionLM.from_pretrained(last), MotionLM.from_pretrained(averaged)
    before.grow_encoder(lm.t5.config.num_layers)
    average(lm, before, share=AVERAGED_SHARE)
    return TextToMotion(lm, tokenizer).save_pretrained(recipe.out / "model", dtype=torch.float16)


@torch.no_grad()
def average(model: nn.Module, other: nn.Module, *, share: float) -> None:
    """Put `share` of another model's weights into a model that was trained on from it (Wortsman et al. 2022)."""
    theirs = other.state_dict()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.lerp_(theirs[name], share)


if __name__ == "__main__":
    print(train(tyro.cli(Recipe)))
