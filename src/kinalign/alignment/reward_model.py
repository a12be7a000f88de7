"""`kinalign align reward`: a network that says how good a motion is for a prompt, learned from pairs.

InstructMotion's reward model (arXiv 2404.09445; T5 for sequence classification): -log sigmoid(r_c - r_r - m), with a
margin m that is the larger the surer the label is, and half of either where the annotator was unsure. Unlike there the
motion goes through the decoder, not behind the prompt through the encoder: its last state is the motion's, and the same
network values every beginning of a motion, as PPO's separate critic needs. No noise is put onto the words (NEFTune).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinalign.alignment.preference import (
    DEGREES,
    UNSURE,
    Example,
    PreferenceConfig,
    degree_of,
    examples_of,
    facts,
    sha256_of_examples,
    split,
)
from kinalign.alignment.rewards import Codes, Rewarded
from kinalign.alignment.rollouts import settings_of
from kinalign.errors import CheckpointError, ConfigError
from kinalign.judge.prompts import EventPrompt
from kinalign.lm.instructions import Instruction
from kinalign.lm.model import MotionLM
from kinalign.pipeline import BATCH_SIZE, TextToMotion, shipped_model
from kinalign.preference.dataset import load_preferences
from kinalign.preference.records import PreferencePair
from kinalign.run import (
    RunFolder,
    load_strictly,
    progress,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from kinalign.training import Draw, Optimization, accelerated, optimize

CONFIG, HEAD, LM = "config.json", "head.safetensors", "lm"
REPORT = "report.json"

Margins = Literal["big", "small", "none"]
MARGINS: dict[Margins, dict[str, float]] = {
    "big": dict(zip(DEGREES, (3.0, 2.0, 1.0, 0.0))),
    "small": dict(zip(DEGREES, (1.0, 2 / 3, 1 / 3, 0.0))),
    "none": dict.fromkeys(DEGREES, 0.0),
}
"""By degree of preference, as in InstructMotion's release."""


class RewardModel(nn.Module):
    """A language model that says nothing: its decoder reads a motion, and a head makes a number of each state."""

    def __init__(self, lm: MotionLM) -> None:
        super().__init__()
        self.lm = lm
        self.head = nn.Linear(lm.t5.config.d_model, 1)
        nn.init.zeros_(self.head.bias)
        nn.init.normal_(self.head.weight, std=lm.t5.config.d_model**-0.5)

    def values(self, instructions: Sequence[Instruction], answers: Sequence[Sequence[int]]) -> Tensor:
        """A number (B, L) for what an answer was before each of its tokens, and after the last one at its end."""
        return self.head(self.lm.states(instructions, answers))[..., 0]

    def forward(self, instructions: Sequence[Instruction], answers: Sequence[Sequence[int]]) -> Tensor:
        """How good (B,) whole answers, rows of token ids, are."""
        ends = torch.tensor([len(answer) - 1 for answer in answers], device=self.lm.device)
        # the state before the end token has seen all of the motion
        return self.values(instructions, answers).gather(1, ends[:, None])[:, 0]

    @torch.no_grad()
    def rate(self, instructions: Sequence[Instruction], answers: Sequence[Sequence[int]]) -> Tensor:
        """The same of any number of answers, without a gradient."""
        starts = range(0, len(answers), BATCH_SIZE)
        return torch.cat([self(instructions[s : s + BATCH_SIZE], answers[s : s + BATCH_SIZE]) for s in starts]).cpu()

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write config.json, head.safetensors and lm/."""
        folder = Path(folder)
        self.lm.save_pretrained(folder / LM)
        write_tensors(folder / HEAD, self.head.state_dict())
        write_json(folder / CONFIG, {"model": "RewardModel", "lm": LM})
        return folder

    @staticmethod
    def from_pretrained(folder: str | Path) -> RewardModel:
        """Read what save_pretrained wrote; raises CheckpointError where it is absent, cut short or something else."""
        folder = Path(folder)
        if read_json(folder / CONFIG).get("model") != "RewardModel":
            raise CheckpointError(f"{folder} holds no reward model; `kinalign align reward` makes one")
        model = RewardModel(MotionLM.from_pretrained(folder / LM))
        load_strictly(model.head, read_tensors(folder / HEAD), origin=str(folder / HEAD))
        return model.eval()


class ModelReward:
    """A reward model in the loop, in the place of a judge; motions need not even be decoded."""

    def __init__(self, model: TextToMotion, reward_model: RewardModel) -> None:
        if reward_model.lm.vocab != model.lm.vocab:
            raise CheckpointError(
                f"the reward model reads {reward_model.lm.vocab} and the model says {model.lm.vocab}: they are of "
                "different tokenizers (--reward)"
            )
        self.model, self.reward_model = model, reward_model.to(accelerated().device).eval()

    def __call__(self, prompts: Sequence[EventPrompt], answers: Sequence[Codes]) -> Rewarded:
        """See Reward."""
        instructions = self.model.instructions([prompt.prompt for prompt in prompts])
        rows = [self.model.lm.vocab.codes_to_ids(codes).tolist() for codes in answers]
        return Rewarded(self.reward_model.rate(instructions, rows).double().numpy(), {})


def ranking_loss(chosen: Tensor, rejected: Tensor, margins: Tensor, is_unsure: Tensor) -> Tensor:
    """-log sigmoid(r_c - r_r - m) of pairs (B,), and of unsure ones the mean of both ways round, m being 0."""
    difference = chosen - rejected - margins
    return torch.where(
        is_unsure,
        -(F.logsigmoid(difference) + F.logsigmoid(-difference)) / 2,
        -F.logsigmoid(difference),
    )


@dataclass(frozen=True)
class AlignReward:
    """Teach a network how good a motion is for a prompt, from pairs of which the first is better."""

    data: Path = Path("preferences")
    """What `kinalign prefer build` wrote, or a preference_labels.jsonl of InstructMotion or AToM."""
    out: Path = Path("reward")
    """Run folder; the network is OUT/model. A run that was stopped goes on there."""
    model: Path | None = None
    """Model or adapter folder to begin with; the shipped model where it is left out."""
    margins: Margins = "small"
    """How far the better one shall lead: by 3, 2 or 1 with the degree of preference; by a third of that; or not."""
    unsure: bool = True
    """Whether pairs are learned from whose annotator was unsure, as ties."""
    batch_size: int = 32
    """Pairs of a batch."""
    held_out: float = 0.1
    """Share of the prompts whose pairs are not learned from but counted."""
    optimization: Optimization = field(
        default_factory=lambda: Optimization(
            steps=300, learning_rate=2e-4, warmup_steps=30, betas=(0.9, 0.999), log_every=10, checkpoint_every=50
        )
    )
    threads: int = 1
    """Processor threads."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size={self.batch_size} must be at least 1 (--batch-size)")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"held_out={self.held_out} must be in (0, 1): it is what accuracy is of (--held-out)")


class Accuracy(NamedTuple):
    """Share of pairs whose better motion gets more."""

    share: float
    of: int


def align_reward(config: AlignReward) -> Path:
    """Teach a network how good a motion is for a prompt, from pairs; prints how often it is right on others."""
    torch.set_num_threads(config.threads)
    pairs = load_preferences(config.data)
    model = TextToMotion.from_pretrained(config.model or shipped_model())
    reward_model, accuracies = train_reward_model(model, pairs, config)
    folder = reward_model.save_pretrained(config.out / "model")
    write_json(config.out / REPORT, {name: accuracy._asdict() for name, accuracy in accuracies.items()})
    print(facts(RunFolder(config.out).metrics()))
    for name, (share, number) in accuracies.items():
        print(f"{name}: right on {share:.1%} of {number} pairs")
    print(folder)
    return folder


def train_reward_model(
    model: TextToMotion, pairs: Sequence[PreferencePair], config: AlignReward
) -> tuple[RewardModel, dict[str, Accuracy]]:
    """A reward model that has learned from pairs, or goes on in `config.out`; and how right it is on those held out.

    Raises DataError for pairs that cannot be learned from: see `examples_of`; and for one whose degree nobody told.
    """
    pairs = [pair for pair in pairs if config.unsure or pair.degree != UNSURE]
    examples = examples_of(model, pairs, PreferenceConfig())
    degrees = [degree_of(pair) for pair in pairs]
    places = split(examples, config.held_out)
    settings = settings_of(config, model) | {"pairs": sha256_of_examples(examples)}
    del settings["data"]  # the pairs are what it holds
    run = RunFolder.open(config.out, settings)
    lm = deepcopy(model.lm).to(accelerated().device).requires_grad_(True)
    if lm.reader is not None:
        lm.reader.freeze()
        lm.reader.remember(*lm.tokenize(sorted({example.instruction.text for example in examples})))
    torch.manual_seed(config.optimization.seed)
    reward_model = RewardModel(lm)
    margins = torch.tensor([MARGINS[config.margins][degree] for degree in degrees])
    is_unsure = torch.tensor([degree == UNSURE for degree in degrees])

    def terms_of(draw: Draw) -> Mapping[str, Tensor]:
        torch.manual_seed(int(draw.rng.integers(2**31)))  # dropout draws from torch's own generator
        size = min(config.batch_size, len(places.train))
        rows = draw.mine(draw.rng.choice(places.train, size, replace=False).tolist())
        chosen, rejected = _rated(reward_model, [examples[row] for row in rows])
        losses = ranking_loss(chosen, rejected, margins[rows].to(chosen), is_unsure[rows].to(chosen.device))
        return {
            "loss": losses.mean(),
            "rewards/margins": (chosen - rejected).mean(),
            "rewards/accuracies": (chosen > rejected).float().mean(),
            "weight": torch.tensor(float(len(rows))),
        }

    optimize(run, reward_model, terms_of, config.optimization)
    return reward_model, accuracies_of(reward_model, [(examples[place], degrees[place]) for place in places.held_out])


def _rated(reward_model: RewardModel, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    instructions = [example.instruction for example in examples]
    answers = [example.chosen for example in examples] + [example.rejected for example in examples]
    chosen, rejected = reward_model([*instructions, *instructions], answers).split(len(examples))
    return chosen, rejected


@torch.no_grad()
def accuracies_of(reward_model: RewardModel, held_out: Sequence[tuple[Example, str]]) -> dict[str, Accuracy]:
    """How often the better motion gets more: over all pairs, and over those of each degree and sub-task."""
    is_right: dict[str, list[bool]] = {"all": []}
    with progress("held out", total=len(held_out)) as advance:
        for start in range(0, len(held_out), BATCH_SIZE // 2):
            rows = held_out[start : start + BATCH_SIZE // 2]
            chosen, rejected = _rated(reward_model, [example for example, _ in rows])
            for (example, degree), right in zip(rows, (chosen > rejected).tolist()):
                for name in ("all", degree, example.task or "no sub-task"):
                    is_right.setdefault(name, []).append(right)
            advance(len(rows))
    return {name: Accuracy(float(np.mean(rights)), len(rights)) for name, rights in is_right.items()}
