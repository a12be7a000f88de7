"""The shipped model: openmocap20's train split."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from kinalign.data.openmocap import load_openmocap
from kinalign.tokenizer.losses import LossWeights
from kinalign.tokenizer.train import TokenizerTraining, train_tokenizer
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
    weights=LossWeights(),
    source_shares=(("CMU", 0.32), ("CMU8", 0.05), ("HDM05", 0.15), ("Bandai1", 0.13), ("Bandai2", 0.35)),
    windows=(16, 32, 64, 128),
    window_shares=(0.1, 0.2, 0.4, 0.3),
    speeds=(1.0, 0.8, 1.25),
    speed_sources=("CMU", "CMU8", "HDM05", "Bandai1"),
    mix_share=0.15,
    continuous_steps=100,
    optimization=Optimization(steps=2700, learning_rate=1e-3, checkpoint_every=100),
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    tokenizer = train_tokenizer(load_openmocap(split="train"), TOKENIZER, folder="runs/openmocap-tokenizer")
    tokenizer.save_pretrained(Path(sys.argv[1]) / "tokenizer", dtype=torch.float16)
