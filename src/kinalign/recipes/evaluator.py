"""The shipped evaluator: openmocap20's train split, one command.

    python -m kinalign.recipes.evaluator --out runs/evaluator

One CPU core, about fifty minutes; a GPU is used where there is one. The weights and a card with the evaluator's own
quality on the test split are then in OUT/model. Stopped and started again it goes on where it was. `--data FOLDER`
makes one for another data set, on its skeleton: KIT-ML's has 21 joints and 12.5 frames per second.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kinalign.data.dataset import load_dataset
from kinalign.data.openmocap import load_openmocap
from kinalign.data.records import Clip, Split
from kinalign.errors import DataError
from kinalign.evaluation.encoder import TextMotionEncoder
from kinalign.evaluation.quality import EncoderQuality, quality
from kinalign.evaluation.train import EncoderTraining, train_encoder
from kinalign.run import write_text

TRAINING = EncoderTraining()


@dataclass(frozen=True)
class Recipe:
    """Train the shipped evaluator from openmocap20, or one for another data set."""

    out: Path = Path("runs/evaluator")
    """The run folder training/ and the finished evaluator in model/."""
    data: Path | None = None
    """A data set that `kinalign data build` wrote, or HumanML3D's or KIT-ML's folder; openmocap20 where left out."""
    steps: int = TRAINING.optimization.steps
    """Optimizer steps."""
    threads: int = 2
    """Processor threads."""


def train(recipe: Recipe) -> Path:
    """Training, weights in half precision, and the card with what the weights as stored are worth."""
    torch.set_num_threads(recipe.threads)
    clips = _clips(recipe.data, "train")
    settings = replace(
        TRAINING,
        network=replace(TRAINING.network, num_joints=clips[0].motion.skeleton.num_joints),
        optimization=replace(TRAINING.optimization, steps=recipe.steps),
    )
    trained = train_encoder(clips, settings, folder=recipe.out / "training")
    folder = trained.save_pretrained(recipe.out / "model", dtype=torch.float16)
    stored = TextMotionEncoder.from_pretrained(folder)
    text = card(quality(stored, _clips(recipe.data, "test")), folder, data=recipe.data)
    write_text(folder / "README.md", text)
    return folder


def _clips(data: Path | None, split: Split) -> list[Clip]:
    """Clips of a split; raises DataError for none."""
    clips = load_openmocap(split=split, cut_events=True) if data is None else load_dataset(data, split)
    if not clips:
        raise DataError(f"{data} has no clips in its {split} split, which an evaluator needs (--data)")
    return clips


def card(measured: EncoderQuality, folder: Path, *, data: Path | None) -> str:
    """README.md of the evaluator's folder."""
    megabytes = (folder / "model.safetensors").stat().st_size / 1e6
    name, license_ = ("openmocap20", "cc-by-nc-4.0") if data is None else (data.resolve().name, "other")
    resembles = (
        "Bandai-Namco's resemble train clips closely; CMU and HDM05 are the real test.\n" if data is None else ""
    )
    return f"""---
license: {license_}
language: en
library_name: kinalign
---

# {folder.name}

A sentence and a motion in, two unit vectors of {TRAINING.network.embedding_width} numbers out: near each other where
the sentence is true of the motion. Trained from nothing on the train split of {name} by one recipe,
`python -m kinalign.recipes.evaluator`: TMR's contrastive loss with hard negatives (two events swapped, left and right
swapped, another count). {megabytes:.1f} MB in half precision. Text is read by MiniLM, which is not in here:
`pip install 'kinalign[evaluate]'`.

Its numbers compare only with its own: they are not those of the HumanML3D evaluator that papers print.

## How good it is itself

Held-out real clips, those of the test split.
{resembles}Order: two clips in a row. Side: a clip and its mirror image. Count: one clip once, twice, three times.
Each is asked of both motions, so liking one sentence better whatever happens gives 0.50.

{measured.markdown()}"""


if __name__ == "__main__":
    import tyro

    print(train(tyro.cli(Recipe)))
