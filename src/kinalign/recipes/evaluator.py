"""The shipped evaluator: openmocap20's train split, one command.

    python -m kinalign.recipes.evaluator --out runs/evaluator

One CPU core, about fifty minutes; a GPU is used where there is one. The weights and a card with the evaluator's own
quality on the test split are then in OUT/model. Stopped and started again it goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kinalign.data.openmocap import load_openmocap
from kinalign.evaluation.encoder import TextMotionEncoder
from kinalign.evaluation.quality import EncoderQuality, quality
from kinalign.evaluation.train import EncoderTraining, train_encoder
from kinalign.run import write_atomically

TRAINING = EncoderTraining()


@dataclass(frozen=True)
class Recipe:
    """Train the shipped evaluator from openmocap20."""

    out: Path = Path("runs/evaluator")
    """The run folder training/ and the finished evaluator in model/."""
    steps: int = TRAINING.optimization.steps
    """Optimizer steps."""
    threads: int = 2
    """Processor threads."""


def train(recipe: Recipe) -> Path:
    """Training, weights in half precision, and the card with what the weights as stored are worth."""
    torch.set_num_threads(recipe.threads)
    settings = replace(TRAINING, optimization=replace(TRAINING.optimization, steps=recipe.steps))
    clips = load_openmocap(split="train", cut_events=True)
    trained = train_encoder(clips, settings, folder=recipe.out / "training")
    folder = trained.save_pretrained(recipe.out / "model", dtype=torch.float16)
    stored = TextMotionEncoder.from_pretrained(folder)
    text = card(quality(stored, load_openmocap(split="test", cut_events=True)), folder)
    write_atomically(folder / "README.md", lambda path: path.write_text(text, encoding="utf-8", newline="\n"))
    return folder


def card(measured: EncoderQuality, folder: Path) -> str:
    """README.md of the evaluator's folder."""
    megabytes = (folder / "model.safetensors").stat().st_size / 1e6
    return f"""---
license: cc-by-nc-4.0
language: en
library_name: kinalign
---

# {folder.name}

A sentence and a motion in, two unit vectors of {TRAINING.network.embedding_width} numbers out: near each other where
the sentence is true of the motion. Trained from nothing on the train split of openmocap20 by one recipe,
`python -m kinalign.recipes.evaluator`: TMR's contrastive loss with hard negatives (two events swapped, left and right
swapped, another count). {megabytes:.1f} MB in half precision. Text is read by MiniLM, which is not in here:
`pip install 'kinalign[evaluate]'`.

Its numbers compare only with its own: they are not those of the HumanML3D evaluator that papers print.

## How good it is itself

Held-out real clips, those of the test split. Bandai-Namco's resemble train clips closely; CMU and HDM05 are the real
test. Order: two clips in a row. Side: a clip and its mirror image. Count: one clip once, twice, three times in a row.
Each is asked of both motions, so liking one sentence better whatever happens gives 0.50.

{measured.markdown()}"""


if __name__ == "__main__":
    import tyro

    print(train(tyro.cli(Recipe)))
