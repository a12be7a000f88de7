"""The whole path on one page: clips, a tokenizer, a language model, a sentence, a motion, a picture.

On made-up clips of two actions, with small networks, it takes about two minutes on one core:

    python examples/story.py

With real data and more patience the same calls make the shipped model: src/kinalign/recipes/openmocap.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from kinalign.data.records import Clip
from kinalign.data.tokens import TokensInfo
from kinalign.lm.model import LMConfig, Sampling
from kinalign.lm.train import LMTraining, train_lm
from kinalign.motion.synthetic import walking, waving
from kinalign.pipeline import TextToMotion
from kinalign.tokenizer.commands import tokenize_clips
from kinalign.tokenizer.train import TokenizerTraining, train_tokenizer
from kinalign.tokenizer.vqvae import VQVAEConfig
from kinalign.training import Optimization


def main(out: Path, *, tokenizer_steps: int = 150, lm_steps: int = 150) -> None:
    torch.set_num_threads(1)

    # Clips: motions with captions. These are computed; kinalign.load_openmocap() reads real ones.
    walks = [walking(80, steps_per_second=1.6 + 0.1 * n) for n in range(6)]
    waves = [waving(60, num_waves=n) for n in range(2, 8)]
    clips = [
        Clip(f"{caption}-{number}", motion, (f"a person {caption}",), "made-up", "MIT", "train")
        for caption, motions in (("walks forward", walks), ("waves", waves))
        for number, motion in enumerate(motions)
    ]

    # A tokenizer: a motion becomes a row of integers, and a row becomes a motion.
    settings = TokenizerTraining(
        network=VQVAEConfig(
            network="patches", width=64, code_dim=16, codebook_size=64, codes_per_step=2, quantizer="residual"
        ),
        windows=(32,),
        window_shares=(1.0,),
        batch_frames=1024,
        continuous_steps=30,
        optimization=Optimization(steps=tokenizer_steps, learning_rate=2e-3),
    )
    tokenizer = train_tokenizer(clips, settings, folder=out / "tokenizer")
    codes = tokenizer.encode(walks[0])
    print(f"{len(walks[0])} frames -> {len(codes)} codes {codes[:6]}... -> {len(tokenizer.decode(codes))} frames")

    # A language model: a sentence becomes such a row.
    info = TokensInfo(tokenizer.num_codes, tokenizer.codes_per_step, tokenizer.frames_per_step, 20.0, "made here")
    learning = LMTraining(
        network=LMConfig(width=64, feed_forward_width=128, encoder_layers=2, decoder_layers=2),
        word_vectors="random",
        freeze_words=False,
        batch_size=16,
        optimization=Optimization(steps=lm_steps, learning_rate=3e-3),
    )
    rows = tokenize_clips(tokenizer, clips, mirror=False)
    model = TextToMotion(train_lm(rows, info, learning, folder=out / "lm"), tokenizer)

    # A sentence in, a motion out, and a picture to look at.
    for prompt in ("a person walks forward", "a person waves"):
        motion = model(prompt, length_s=3.0, sampling=Sampling(temperature=0.5))[0]
        print(prompt, "->", motion.save(out / f"{prompt.replace(' ', '-')}.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("output/story"))
