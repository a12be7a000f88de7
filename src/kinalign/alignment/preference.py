"""`kinalign align preference`: a model learns from pairs of motions of which the first is better (DPO, IPO and kin).

The policy is the model with learned matrices beside its own (LoRA), or the model itself; the reference is the model as
it came. What the reference says of the pairs is computed once and kept in the run folder, and so is, in memory, what
the frozen reader makes of the prompts: a step is one pass of the policy. A pair's instruction is the one that the same
prompt gets at inference. A run folder:

config.json, environment.json  what was asked and where
split.json                     ids of the pairs that are learned from, and of those held out
reference.safetensors          log-probabilities of the reference
metrics.jsonl, checkpoints/    in TRL's words
adapter/ or model/             what was learned
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kinalign.alignment.losses import (
    PAIR_LOSSES,
    PairLoss,
    kto_kl,
    kto_loss,
    kto_pair_loss,
    odds_ratio_loss,
    sft_loss,
    smoothed,
)
from kinalign.alignment.watch import Watch, Watcher
from kinalign.errors import CheckpointError, ConfigError, DataError, InvalidCodes, KinalignError
from kinalign.judge.rubric import SubTask
from kinalign.judge.verdict import Verdict
from kinalign.lm.instructions import Instruction
from kinalign.lm.lora import Adapter, LoraConfig, add_lora, lora_layers, merge_lora
from kinalign.lm.model import MotionLM
from kinalign.pipeline import MAX_FRAMES, TextToMotion, shipped_model
from kinalign.preference.annotate import weights_of
from kinalign.preference.dataset import load_preferences
from kinalign.preference.records import Candidate, PreferencePair
from kinalign.run import RunFolder, config_to_json, progress, read_tensors, write_json, write_tensors
from kinalign.training import Draw, Optimization, accelerated, autocast, learned, optimize

Loss = PairLoss | Literal["kto_pair", "kto", "orpo"]

DEGREES = {"Much better": 0.0, "Better": 0.2, "Slightly better": 0.3, "Negligibly better/unsure": 0.5}
"""How likely a label is wrong, by what InstructMotion's annotators said, and in its release."""
UNSURE = "Negligibly better/unsure"
DEGREE_OF_GAP = {1: "Slightly better", 2: "Better", 3: "Much better", 4: "Much better"}
"""A judge's scores from 1 to 5 say by how much: ours."""

SPLIT_SEED = 2222
"""As in InstructMotion and AToM. The same pairs are held out whatever the run's own seed is."""
REFERENCE, SPLIT, ADAPTER, MODEL = "reference.safetensors", "split.json", "adapter", "model"
ROWS = 64
"""Answers of which the reference is asked at once."""


@dataclass(frozen=True)
class Mix:
    """How often the pairs of each sub-task are seen, against once an epoch; 0 leaves them out."""

    integrity: float = 1.0
    temporal: float = 1.0
    frequency: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name}={value} must be 0 or more (--mix.{name})")

    def of(self, task: SubTask | None) -> float:
        """The share of a sub-task; pairs of none are seen once an epoch."""
        return 1.0 if task is None else float(getattr(self, task))


@dataclass(frozen=True)
class PreferenceConfig:
    """How a model learns from pairs; as AToM does but for the number of steps."""

    loss: Loss = "ipo"
    """sigmoid (DPO), ipo, hinge (SLiC), kto_pair (AToM's), kto, or orpo, which needs --sft-weight beside it."""
    beta: float = 0.1
    """How closely the policy is held to the reference: larger is closer. Of orpo, the weight of its loss."""
    average_logps: bool | None = None
    """Log-probabilities a token, or of whole motions; left out, a token for ipo and orpo, as AToM and TRL have it."""
    label_smoothing: float | Literal["degree"] = 0.0
    """How likely a label is wrong, from 0 to 0.5; degree: by how much better the chosen motion is (InstructMotion)."""
    unsure: bool = True
    """Whether pairs are learned from whose annotator was unsure."""
    sft_weight: float = 0.0
    """Weight of a term that keeps the chosen motions likely (CPO, ORPO)."""
    full: bool = False
    """Tune all weights of the T5, not matrices beside them."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Which matrices are learned beside the T5's own."""
    dropout: bool = False
    """Whether the model's own dropout is on; AToM's is off."""
    mix: Mix = field(default_factory=Mix)
    batch_size: int = 32
    """Pairs of a batch."""
    held_out: float = 0.1
    """Share of the prompts whose pairs are not learned from."""
    watch: Watch = field(default_factory=Watch)
    optimization: Optimization = field(
        default_factory=lambda: Optimization(
            steps=300, learning_rate=1e-3, warmup_steps=30, betas=(0.9, 0.999), log_every=5, checkpoint_every=25
        )
    )

    def __post_init__(self) -> None:
        if not 0 < self.beta < math.inf:
            raise ConfigError(f"beta={self.beta} must be positive (--beta)")
        if self.label_smoothing != "degree" and not 0 <= self.label_smoothing <= 0.5:
            raise ConfigError(
                f"label_smoothing={self.label_smoothing} must be in [0, 0.5], or 'degree' (--label-smoothing)"
            )
        if self.label_smoothing and self.loss not in PAIR_LOSSES:
            raise ConfigError(
                f"label_smoothing={self.label_smoothing} is for {', '.join(PAIR_LOSSES)}, not for {self.loss} "
                "(--label-smoothing, --loss)"
            )
        if not 0 <= self.sft_weight < math.inf:
            raise ConfigError(f"sft_weight={self.sft_weight} must be 0 or more (--sft-weight)")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size={self.batch_size} must be at least 1 (--batch-size)")
        if not 0 <= self.held_out < 1:
            raise ConfigError(f"held_out={self.held_out} must be in [0, 1) (--held-out)")

    @property
    def is_averaged(self) -> bool:
        """Whether log-probabilities are those of a token."""
        return self.loss in ("ipo", "orpo") if self.average_logps is None else self.average_logps


# pairs


class Example(NamedTuple):
    """A pair as the language model sees it."""

    id: str
    prompt_id: str
    task: SubTask | None
    instruction: Instruction
    chosen: list[int]
    """Token ids of a whole answer."""
    rejected: list[int]
    swapped: float
    """How likely the two are the wrong way round."""


def examples_of(model: TextToMotion, pairs: Sequence[PreferencePair], config: PreferenceConfig) -> list[Example]:
    """Pairs as the language model sees them, without those that the configuration leaves out.

    Raises DataError for a pair with sides that are equal, without codes, too long or of another vocabulary, and where
    no pair is left.
    """
    examples = []
    for pair in pairs:
        if (pair.degree == UNSURE and not config.unsure) or not config.mix.of(pair.task):
            continue
        chosen, rejected = _answer(model, pair, pair.chosen), _answer(model, pair, pair.rejected)
        if chosen == rejected:
            raise DataError(f"both sides of pair {pair.id} are the same motion; leave it out, it teaches nothing")
        (instruction,) = model.instructions([pair.prompt])
        examples.append(
            Example(pair.id, pair.prompt_id, pair.task, instruction, chosen, rejected, _swapped(pair, config))
        )
    if not examples:
        raise DataError(f"none of {len(pairs)} pairs is left to learn from (--data, --mix, --unsure)")
    return examples


def _answer(model: TextToMotion, pair: PreferencePair, candidate: Candidate) -> list[int]:
    if not candidate.codes:
        raise DataError(f"candidate {candidate.index} of pair {pair.id} has no codes; its motion has to be tokenized")
    longest = MAX_FRAMES // model.tokenizer.frames_per_step * model.tokenizer.codes_per_step
    if len(candidate.codes) > longest:
        raise DataError(
            f"candidate {candidate.index} of pair {pair.id} has {len(candidate.codes)} codes; this model says "
            f"{longest} at most"
        )
    try:
        return model.lm.vocab.codes_to_ids(candidate.codes).tolist()
    except InvalidCodes as error:
        raise DataError(
            f"candidate {candidate.index} of pair {pair.id} is of another vocabulary ({error}); align the model whose "
            "tokenizer made these motions (--model)"
        ) from error


def _swapped(pair: PreferencePair, config: PreferenceConfig) -> float:
    return DEGREES[degree_of(pair)] if config.label_smoothing == "degree" else config.label_smoothing


def degree_of(pair: PreferencePair) -> str:
    """By how much the chosen motion is better, as an annotator said or by its judge's scores; raises DataError."""
    degree = pair.degree
    if not degree:
        outcomes = pair.chosen.outcome, pair.rejected.outcome
        scores = [outcome.score for outcome in outcomes if isinstance(outcome, Verdict)]
        degree = DEGREE_OF_GAP.get(scores[0] - scores[1], "") if len(scores) == 2 else ""
    if degree not in DEGREES:
        raise DataError(
            f"pair {pair.id} does not say by how much its chosen motion is better: it has no degree and no two scores "
            "(--label-smoothing, --margins)"
        )
    return degree


class Split(NamedTuple):
    """Places of pairs that are learned from, and of those held out."""

    train: list[int]
    held_out: list[int]


def split(examples: Sequence[Example], share: float) -> Split:
    """Hold out a share of the prompts, with all their pairs; the same ones for the same data. Raises DataError."""
    prompts = sorted({example.instruction.text for example in examples})
    number = max(1, round(share * len(prompts))) if share else 0
    if number == len(prompts):
        raise DataError(f"pairs of {len(prompts)} prompts leave none to hold out; give more, or --held-out 0")
    held = {prompts[place] for place in np.random.default_rng(SPLIT_SEED).permutation(len(prompts))[:number]}
    places: Split = Split([], [])
    for place, example in enumerate(examples):
        places[example.instruction.text in held].append(place)
    return places


class Order:
    """Which pairs a batch holds: all in one order, then all in another, and so on, each as often as the mix says."""

    def __init__(self, examples: Sequence[Example], places: Sequence[int], config: PreferenceConfig) -> None:
        self.places = np.array(places)
        self.times = np.array([config.mix.of(examples[place].task) for place in places])
        self.batch_size, self.seed = config.batch_size, config.optimization.seed
        self._drawn: list[int] = []
        self._epoch = 0

    def batch(self, step: int) -> list[int]:
        """Places of the pairs of a step; the same whatever was asked before."""
        stop = (step + 1) * self.batch_size
        while len(self._drawn) < stop:
            rng = np.random.default_rng([self.seed, self._epoch])
            # a share of 1.5 is once, and once more in every second epoch
            whole = np.floor(self.times).astype(int)
            seen = np.repeat(self.places, whole + (rng.random(len(self.places)) < self.times - whole))
            self._drawn += rng.permutation(seen).tolist()
            self._epoch += 1
        return self._drawn[stop - self.batch_size : stop]


# the reference


class Reference(NamedTuple):
    """Log-probabilities (P,) of whole answers by the reference, a row for each pair."""

    chosen: Tensor
    rejected: Tensor
    chosen_elsewhere: Tensor
    """Of the chosen motion of another prompt's pair; zeros but for kto."""
    rejected_elsewhere: Tensor


def read_reference(path: Path, *, model: str, pairs: str) -> Reference | None:
    """What `write_reference` kept, or None; raises CheckpointError where it is of another model or of other pairs."""
    if not path.exists():
        return None
    tensors = read_tensors(path)
    for name, wanted, what in (("model_sha256", model, "of another model"), ("pairs_sha256", pairs, "for other pairs")):
        found = bytes(tensors.get(name, torch.empty(0)).to(torch.uint8).tolist()).hex()
        if found != wanted:
            raise CheckpointError(
                f"{path} holds log-probabilities {what} ({found[:12] or 'unknown'}... there, {wanted[:12]}... here); "
                "remove it, or choose another folder (--out)"
            )
    return Reference(**{name: tensors[name] for name in Reference._fields})


def write_reference(path: Path, reference: Reference, *, model: str, pairs: str) -> Path:
    """Keep log-probabilities with the hashes of the model and of the pairs that they are of."""
    hashes = {"model_sha256": model, "pairs_sha256": pairs}
    tensors = {name: torch.tensor(list(bytes.fromhex(value)), dtype=torch.uint8) for name, value in hashes.items()}
    return write_tensors(path, tensors | reference._asdict())


def sha256_of_examples(examples: Sequence[Example]) -> str:
    """Of all that a reference is asked."""
    rows = [[one.instruction.text, one.chosen, one.rejected] for one in examples]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def partners(examples: Sequence[Example]) -> list[int]:
    """For each pair one of another prompt, which no other pair has; raises DataError where there is none.

    Sorted by prompt and moved on by the most pairs that a prompt has, nobody meets their own.
    """
    order = sorted(range(len(examples)), key=lambda place: examples[place].instruction.text)
    texts = [examples[place].instruction.text for place in order]
    most = max(texts.count(text) for text in set(texts))
    if 2 * most > len(texts):
        raise DataError(
            f"{most} of {len(texts)} pairs are of one prompt; kto compares answers with those to other prompts "
            "(--loss kto_pair does without)"
        )
    partner = {place: order[(rank + most) % len(order)] for rank, place in enumerate(order)}
    return [partner[place] for place in range(len(examples))]


# learning


class Objective:
    """What is minimised, over any pairs: the policy's log-probabilities against the reference's, in TRL's words."""

    def __init__(self, lm: MotionLM, examples: Sequence[Example], config: PreferenceConfig) -> None:
        self.lm, self.examples, self.config = lm, examples, config
        self.partner = partners(examples) if config.loss == "kto" else []
        self.reference: Reference | None = None
        """As long as it is None `terms` cannot be asked for."""

    @torch.no_grad()
    def ask_reference(self) -> Reference:
        """What the model as it is now says of all pairs."""
        said: list[tuple[Tensor, ...]] = []
        with progress("reference", total=len(self.examples)) as advance:
            for start in range(0, len(self.examples), ROWS // 2):
                rows = list(range(start, min(start + ROWS // 2, len(self.examples))))
                own = self.logps(rows, rows)
                said.append(own + (self.logps(rows, self._others(rows)) if self.partner else self._none(rows)))
                advance(len(rows))
        return Reference(*(torch.cat(parts).cpu() for parts in zip(*said)))

    def _others(self, rows: Sequence[int]) -> list[int]:
        return [self.partner[row] for row in rows]

    def _none(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(rows)), torch.zeros(len(rows))

    def logps(self, prompts: Sequence[int], answers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B,) of the chosen and rejected motions of some pairs, asked for by the prompts of some."""
        instructions = [self.examples[place].instruction for place in prompts]
        sides = [self.examples[place].chosen for place in answers] + [
            self.examples[place].rejected for place in answers
        ]
        chosen, rejected = self.lm.answer_logps([*instructions, *instructions], sides).split(len(answers))
        return chosen, rejected

    def terms(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Means over pairs: the loss, and what TRL logs beside it."""
        assert self.reference is not None
        config, chosen, rejected = self.config, *self.logps(rows, rows)
        lengths = [self._lengths(rows, side).to(chosen) for side in ("chosen", "rejected")]
        known = [side[list(rows)].to(chosen) for side in self.reference]
        policy, reference = [chosen, rejected], known[:2]
        if config.is_averaged:
            policy, reference = ([logps / n for logps, n in zip(side, lengths)] for side in (policy, reference))
        ratios = [ours - theirs for ours, theirs in zip(policy, reference)]
        terms = {"loss": self._loss(rows, policy, ratios, known[2:]).mean()}
        if config.sft_weight:
            terms["nll_loss"] = sft_loss(chosen, lengths[0]).mean()
            terms["loss"] = terms["loss"] + config.sft_weight * terms["nll_loss"]
        rewards = [config.beta * ratio for ratio in ratios]
        return terms | {
            "rewards/chosen": rewards[0].mean(),
            "rewards/rejected": rewards[1].mean(),
            "rewards/margins": (rewards[0] - rewards[1]).mean(),
            "rewards/accuracies": (rewards[0] > rewards[1]).float().mean(),
            "logps/chosen": policy[0].mean(),
            "logps/rejected": policy[1].mean(),
        }

    def _lengths(self, rows: Sequence[int], side: Literal["chosen", "rejected"]) -> Tensor:
        return torch.tensor([len(getattr(self.examples[row], side)) for row in rows])

    def _loss(
        self, rows: Sequence[int], policy: Sequence[Tensor], ratios: Sequence[Tensor], elsewhere: Sequence[Tensor]
    ) -> Tensor:
        """Losses (B,) of pairs."""
        config, beta = self.config, self.config.beta
        if config.loss == "kto_pair":
            return kto_pair_loss(*ratios, beta=beta)
        if config.loss == "orpo":
            return beta * odds_ratio_loss(*policy)
        if config.loss == "kto":
            others = self._others(rows)
            with torch.no_grad():
                said = self.logps(rows, others)
            lengths = [self._lengths(others, side).to(said[0]) for side in ("chosen", "rejected")]
            away = [ours - theirs for ours, theirs in zip(said, elsewhere)]
            kl = kto_kl(torch.cat([ratio / n if config.is_averaged else ratio for ratio, n in zip(away, lengths)]))
            is_desirable = torch.tensor([[True], [False]], device=kl.device)
            return kto_loss(torch.stack(list(ratios)), is_desirable, kl, beta=beta).mean(0)
        swapped = torch.tensor([self.examples[row].swapped for row in rows]).to(ratios[0])
        return smoothed(config.loss, ratios[0] - ratios[1], beta=beta, swapped=swapped)


def align(
    model: TextToMotion,
    pairs: Sequence[PreferencePair],
    config: PreferenceConfig | None = None,
    *,
    folder: str | Path | None = None,
) -> TextToMotion:
    """A model that has learned from pairs, or goes on learning where the run in `folder` was stopped.

    `model` stays as it is: it is the reference. Without a folder nothing is kept on disk. Raises DataError for pairs
    that cannot be learned from, ConfigError for a folder of other settings, and KinalignError, which names the pairs,
    for a loss that is not finite.
    """
    if folder is None:
        with TemporaryDirectory() as temporary:
            return align(model, pairs, config, folder=temporary)
    config = config or PreferenceConfig()
    examples, weights = examples_of(model, pairs, config), weights_of(model)
    places, hashed = split(examples, config.held_out), sha256_of_examples(examples)
    run = RunFolder.open(folder, config_to_json(config) | {"model": weights, "pairs": hashed})
    names = [[examples[place].id for place in side] for side in places]
    write_json(run.path / SPLIT, dict(zip(Split._fields, names)))

    process = accelerated()
    lm = deepcopy(model.lm).to(process.device).eval().requires_grad_(False)
    if lm.reader is not None:
        texts = sorted({example.instruction.text for example in examples})
        lm.reader.remember(*lm.tokenize(texts))
    objective = Objective(lm, examples, config)
    with autocast(config.optimization.precision, process.device):
        objective.reference = _reference(run, objective, model=weights, pairs=hashed, is_main=process.is_main_process)
    process.wait_for_everyone()

    torch.manual_seed(config.optimization.seed)
    if config.full:
        lm.t5.requires_grad_(True)
        lm.merged = None
    else:
        add_lora(lm.t5, config.lora)
    order = Order(examples, places.train, config)

    def terms_of(draw: Draw) -> Mapping[str, Tensor]:
        _set_dropout(lm, config)
        torch.manual_seed(int(draw.rng.integers(2**31)))  # dropout draws from torch's own generator
        rows = draw.mine(order.batch(draw.step))
        terms = objective.terms(rows)
        if not torch.isfinite(terms["loss"]):
            raise KinalignError(
                f"the loss of step {draw.step + 1} of {run.path} is {terms['loss'].item()}, over the pairs "
                f"{', '.join(examples[row].id for row in rows)}; the last checkpoint stands: begin anew in another "
                "folder with a lower --optimization.learning-rate, or without these pairs"
            )
        return terms | {"weight": torch.tensor(float(len(rows)))}

    aligned = TextToMotion(lm, model.tokenizer, name=model.name)
    policy = learned(lm)

    @torch.no_grad()
    def held_out() -> dict[str, float]:
        with autocast(config.optimization.precision, process.device):
            return {name: float(value) for name, value in objective.terms(places.held_out).items()}

    watcher = Watcher(aligned, run, policy, config.watch, held_out if places.held_out else None)
    optimize(run, policy, terms_of, config.optimization, look=watcher)
    watcher.restore()
    if lm.reader is not None:
        lm.reader.known.clear()
    if not config.full:
        adapter = Adapter.of(lm, base=model.name)
        merge_lora(lm.t5)
        lm.merged = adapter
    lm.eval()
    return aligned


def _reference(run: RunFolder, objective: Objective, *, model: str, pairs: str, is_main: bool) -> Reference:
    path = run.path / REFERENCE
    found = read_reference(path, model=model, pairs=pairs)
    if found is None:
        found = objective.ask_reference()
        if is_main:
            write_reference(path, found, model=model, pairs=pairs)
    return found


def _set_dropout(lm: MotionLM, config: PreferenceConfig) -> None:
    """The model's own dropout as configured, that of learned matrices on."""
    lm.t5.train(config.dropout)
    for layer in lora_layers(lm.t5).values():
        layer.lora_dropout.train()


# the command


@dataclass(frozen=True)
class AlignPreference(PreferenceConfig):
    """Teach a model which motions are better, from pairs."""

    data: Path = Path("preferences")
    """What `kinalign prefer build` wrote, or a preference_labels.jsonl of InstructMotion or AToM."""
    model: Path | None = None
    """Model or adapter folder; the shipped model where it is left out."""
    out: Path = Path("aligned")
    """Run folder; what was learned is OUT/adapter, or OUT/model. A run that was stopped goes on there."""
    merge: bool = False
    """Write the whole model too, as OUT/model."""
    threads: int = 1
    """Processor threads."""


def align_preference(config: AlignPreference) -> Path:
    """Teach a model which motions are better, from pairs, by DPO, IPO, SLiC or KTO; resumes where it was stopped."""
    torch.set_num_threads(config.threads)
    pairs = load_preferences(config.data)
    model = TextToMotion.from_pretrained(config.model or shipped_model())
    settings = PreferenceConfig(**{name: getattr(config, name) for name in PreferenceConfig.__dataclass_fields__})
    aligned = align(model, pairs, settings, folder=config.out)
    folder = config.out / (MODEL if config.full else ADAPTER)
    if config.full or config.merge:
        aligned.save_pretrained(config.out / MODEL)
    if not config.full:
        assert aligned.lm.merged is not None
        aligned.lm.merged.save_pretrained(folder)
    print(facts(RunFolder(config.out).metrics()))
    print(folder)
    return folder


def facts(rows: Sequence[Mapping[str, float]]) -> str:
    """What a run's metrics were at first and at last, a line each."""
    first_of: dict[str, float] = {}
    last_of: dict[str, float] = {}
    for row in rows:
        first_of = {**row, **first_of}
        last_of = {**last_of, **row}
    return "\n".join(
        f"{name:28} {first_of[name]:10.4f} -> {last_of[name]:10.4f}" for name in first_of if name != "step"
    )
