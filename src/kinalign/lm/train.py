"""Train a motion language model on tokenized clips: an instruction in, the clip's codes out.

Rare actions are drawn more often than their share, long clips give a new window each time, and a tenth of the
instructions are empty, which is what guidance compares with.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinalign.data.phrasings import meaning_of, phrase, plain_caption, spoken_words
from kinalign.data.tokens import TokenizedClip, TokensInfo
from kinalign.errors import CheckpointError, ConfigError, DataError
from kinalign.lm.instructions import Gives, Instruction, Task, answer_words, phrase_answer, phrase_task
from kinalign.lm.lora import TARGETS, LoraConfig, add_lora, merge_lora
from kinalign.lm.model import CodeAdapter, LMConfig, MotionLM, is_motion_lm
from kinalign.lm.teach import teach_reader
from kinalign.lm.text import minilm_reader, plain_tokenizer
from kinalign.lm.vocab import HIDDEN
from kinalign.run import RunFolder
from kinalign.training import Draw, Optimization, optimize

Stage = Literal["text-to-motion", "pre-training", "instructions", "captions"]


@dataclass(frozen=True)
class LMTraining:
    """Settings of a language model's training."""

    network: LMConfig = field(default_factory=LMConfig)
    optimization: Optimization = field(default_factory=Optimization)
    batch_size: int = 32
    """Examples of a batch."""
    max_steps: int = 49
    """Longest answer in steps of the tokenizer; a longer clip gives a window of this length."""
    start: str | None = None
    """Folder of a language model to go on from, or folder or hub name of a T5 or flan-T5; in the place of `network`."""
    encoder_layers: int | None = None
    """Give the encoder of `start` so many layers; those that are new begin as if they were not there."""
    code_rows: Literal["insert", "adapter"] = "insert"
    """Motion tokens as new rows of the table, or as a map of the tokenizer's vectors with a head of their own."""
    lora_rank: int = 0
    """Above 0 T5's matrices stay and others of this rank are learned beside them (Hu et al. 2021)."""
    checkpoint_activations: bool = False
    """Compute activations again in the backward pass: less memory, a third more time."""
    reader: Literal["minilm", "none"] = "minilm"
    """Who reads instructions before T5's encoder; with none the vectors of words are learned from nothing."""
    reader_teaching: Optimization = field(
        default_factory=lambda: Optimization(steps=800, learning_rate=1e-4, betas=(0.9, 0.999))
    )
    """How the reader is taught which sentences mean the same, before the rest is trained."""
    balance: float = 0.5
    """How far rare actions are drawn more often: 0 by clips, 1 every action equally."""
    word_balance: float = 0.5
    """The same where the answer is words: what a motion is taken for leans on how often its kind was seen."""
    tasks: Stage = "text-to-motion"
    """What is trained: text to motion; that, captions and restoring what is dropped of both; all tasks, half of them
    text to motion; or all tasks, a third of them captions."""
    word_weight: float = 1.0
    """How many motion tokens a token of an answer in words counts for: such answers are short."""
    span_corruption: bool = True
    """Whether pre-training also restores what is dropped of sentences and motions."""
    empty_share: float = 0.1
    """Share of empty instructions, for guidance."""
    crop_share: float = 0.3
    """Share of repetitive motions (walking, waving) that a random part is taken of, so that lengths vary."""

    def __post_init__(self) -> None:
        for name in ("balance", "word_balance", "empty_share", "crop_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be in [0, 1] (--{name.replace('_', '-')})")
        if self.lora_rank < 0:
            raise ConfigError(f"lora_rank={self.lora_rank} must be 0, for no LoRA, or more (--lora-rank)")
        for name, least in (("batch_size", 1), ("max_steps", 2)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least {least} (--{name.replace('_', '-')})")


CYCLIC_WORDS = frozenset(
    "walk walks walking run runs running jog jogs jogging dash sprint sprints "
    "wave waves waving dance dances salsa dribbles".split()
)
"""A part of a motion with one of these words is still that motion."""
SHORTEST_CROP_STEPS = 8
KEY_STEPS_SHARE = 0.25
"""Share of in-between examples that tell a few steps only."""

NOISE_SHARE, MEAN_SPAN = 0.15, 3
"""How much of a sentence and of a motion is dropped for the model to restore, and in spans of which mean length."""
BLANK = "_"
"""Stands in a sentence where words were dropped."""

Kind = Task | Literal["prompt", "restore text", "restore motion"]
"""A task in one of its phrasings; a caption and nothing else, as a user types it; or span corruption."""

SPAN_CORRUPTION: tuple[Kind, ...] = ("restore text", "restore motion")

WITHOUT_CAPTION: dict[Kind, float] = dict.fromkeys(
    (Task.FRAMES_TO_MOTION, Task.SECONDS_TO_MOTION, Task.RANDOM_MOTION), 0.01
)
ABOUT_LENGTHS: dict[Kind, float] = dict.fromkeys(
    (
        Task.MOTION_FRAMES_TO_TEXT,
        Task.MOTION_SECONDS_TO_TEXT,
        Task.MOTION_TO_FRAMES,
        Task.MOTION_TO_SECONDS,
        Task.TEXT_TO_FRAMES,
        Task.TEXT_TO_SECONDS,
        Task.FRAMES_TO_TEXT,
        Task.SECONDS_TO_TEXT,
        Task.RANDOM_TEXT,
    ),
    0.01,
)
"""Shares of the tasks that need little practice, in both stages that have all tasks."""

TASK_SHARES: dict[Stage, dict[Kind, float]] = {
    "text-to-motion": {
        "prompt": 0.6,
        Task.TEXT_TO_MOTION: 0.1,
        Task.TEXT_FRAMES_TO_MOTION: 0.05,
        Task.TEXT_SECONDS_TO_MOTION: 0.25,
    },
    "pre-training": {
        "prompt": 0.3,
        Task.TEXT_TO_MOTION: 0.05,
        Task.TEXT_SECONDS_TO_MOTION: 0.15,
        Task.MOTION_TO_TEXT: 0.3,
        "restore text": 0.05,
        "restore motion": 0.15,
    },
    "instructions": {
        "prompt": 0.3,
        Task.TEXT_TO_MOTION: 0.05,
        Task.TEXT_FRAMES_TO_MOTION: 0.03,
        Task.TEXT_SECONDS_TO_MOTION: 0.13,
        **WITHOUT_CAPTION,
        Task.MOTION_TO_TEXT: 0.16,
        **ABOUT_LENGTHS,
        Task.PREDICTION: 0.1,
        Task.IN_BETWEEN: 0.11,
    },
    "captions": {
        "prompt": 0.2,
        Task.TEXT_TO_MOTION: 0.03,
        Task.TEXT_FRAMES_TO_MOTION: 0.02,
        Task.TEXT_SECONDS_TO_MOTION: 0.15,
        **WITHOUT_CAPTION,
        Task.MOTION_TO_TEXT: 0.34,
        **ABOUT_LENGTHS,
        Task.PREDICTION: 0.07,
        Task.IN_BETWEEN: 0.07,
    },
}
"""Shares of training examples by stage."""


class ExampleSampler:
    """Draws (instruction, answer) pairs: text and token ids."""

    def __init__(self, clips: Sequence[TokenizedClip], info: TokensInfo, model: MotionLM, config: LMTraining) -> None:
        self.clips, self.info, self.vocab, self.config = clips, info, model.vocab, config
        first_captions = [clip.captions[0] if clip.captions else "" for clip in clips]
        kinds = [_action(clip) for clip in clips]
        count = Counter(kinds)
        self.weight, self.word_weight = (
            _shares(np.array([count[kind] ** -balance for kind in kinds]))
            for balance in (config.balance, config.word_balance)
        )
        self.num_steps = np.array([min(len(clip.codes) // info.codes_per_step, config.max_steps) for clip in clips])
        self.text_to_ids = model.text_to_ids
        shares = TASK_SHARES[config.tasks]
        if not config.span_corruption:
            shares = {kind: share for kind, share in shares.items() if kind not in SPAN_CORRUPTION}
        self.kinds, self.shares = list(shares), np.array(list(shares.values())) / sum(shares.values())
        self.is_cyclic = [not CYCLIC_WORDS.isdisjoint(caption.lower().split()) for caption in first_captions]

    def draw(self, rng: np.random.Generator) -> tuple[list[Instruction], list[list[int]]]:
        """A batch of clips of about one length: little of a batch is then padding."""
        pivot = self.num_steps[rng.choice(len(self.clips), p=self.weight)]
        is_near = np.abs(self.num_steps - pivot) <= max(2, 0.15 * pivot)
        shares, word_shares = _shares(self.weight * is_near), _shares(self.word_weight * is_near)
        examples = []
        for at in rng.choice(len(self.kinds), self.config.batch_size, p=self.shares):
            kind = self.kinds[at]
            index = rng.choice(len(self.clips), p=word_shares if _gives(kind) == "text" else shares)
            examples.append(self._example(kind, index, rng))
        return [instruction for instruction, _ in examples], [answer for _, answer in examples]

    def _example(self, kind: Kind, index: int, rng: np.random.Generator) -> tuple[Instruction, list[int]]:
        clip = self.clips[index]
        codes = self._part(clip.codes, self.is_cyclic[index], rng)
        is_of_words = kind == "prompt" or (isinstance(kind, Task) and kind.gives == "motion" and not kind.codes)
        if is_of_words and rng.random() < self.config.empty_share:
            return Instruction(""), self.vocab.codes_to_ids(codes).tolist()
        if isinstance(kind, Task):
            return self._task(kind, clip, codes, rng)
        if kind == "prompt":
            return Instruction(phrase(clip, rng, mirrored=clip.mirrored)), self.vocab.codes_to_ids(codes).tolist()
        caption = plain_caption(clip, rng, mirrored=clip.mirrored)
        told = np.repeat(keep(len(codes) // self.info.codes_per_step, rng), self.info.codes_per_step)
        said = Instruction(f"{kind}: {blank(caption, rng)}", tuple(np.where(told, codes, HIDDEN).tolist()))
        return said, self.text_to_ids(caption) if kind == "restore text" else self.vocab.codes_to_ids(codes).tolist()

    def _task(
        self, task: Task, clip: TokenizedClip, codes: np.ndarray, rng: np.random.Generator
    ) -> tuple[Instruction, list[int]]:
        num_frames, fps = len(codes) // self.info.codes_per_step * self.info.frames_per_step, self.info.fps
        told, said = self._told_and_said(task, codes, rng)
        caption = phrase(clip, rng, mirrored=clip.mirrored) if "caption" in task.needs else ""
        text = phrase_task(task, rng, caption=caption, num_frames=num_frames, fps=fps)
        if task.gives == "motion":
            return Instruction(text, told), self.vocab.codes_to_ids(said).tolist()
        caption = plain_caption(clip, rng, mirrored=clip.mirrored) if "caption" in task.answer_needs else ""
        answer = phrase_answer(task, rng, caption=caption, num_frames=num_frames, fps=fps)
        return Instruction(text, told), self.text_to_ids(answer)

    def _told_and_said(
        self, task: Task, codes: np.ndarray, rng: np.random.Generator
    ) -> tuple[tuple[int, ...], np.ndarray]:
        """The codes that the instruction tells of a motion, and those that the answer says."""
        per_step = self.info.codes_per_step
        num_steps = len(codes) // per_step
        if task.codes == "head":
            head = per_step * int(rng.integers(1, max(2, num_steps * 3 // 4)))
            return tuple(codes[:head].tolist()), codes[head:]
        if task.codes == "gap":
            told = hide(num_steps, rng)
            return tuple(np.where(np.repeat(told, per_step), codes, HIDDEN).tolist()), codes
        return (tuple(codes.tolist()) if task.codes else ()), codes

    def _part(self, codes: np.ndarray, is_cyclic: bool, rng: np.random.Generator) -> np.ndarray:
        """All codes, or whole steps of them: of a clip that is too long, and sometimes of one that repeats itself."""
        num_steps = len(codes) // self.info.codes_per_step
        length = min(num_steps, self.config.max_steps)
        if is_cyclic and length > SHORTEST_CROP_STEPS and rng.random() < self.config.crop_share:
            length = int(rng.integers(SHORTEST_CROP_STEPS, length + 1))
        start = int(rng.integers(0, num_steps - length + 1))
        return codes[start * self.info.codes_per_step : (start + length) * self.info.codes_per_step]


def _shares(weight: NDArray[np.floating]) -> NDArray[np.floating]:
    return weight / weight.sum()


def _gives(kind: Kind) -> Gives:
    if isinstance(kind, Task):
        return kind.gives
    return "text" if kind == "restore text" else "motion"


def _action(clip: TokenizedClip) -> object:
    """What is drawn equally often: clips of one action, whatever their source calls it, are of one kind."""
    meaning = meaning_of(clip)
    return meaning.actions if meaning else clip.label or clip.captions[:1]


def hide(num_steps: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which steps (S,) of a motion are told: all but one span anywhere, or only a few key steps of it."""
    if num_steps > 4 and rng.random() < KEY_STEPS_SHARE:
        told = np.zeros(num_steps, bool)
        told[rng.choice(num_steps, int(rng.integers(2, max(3, num_steps // 4 + 1))), replace=False)] = True
        return told
    told = np.ones(num_steps, bool)
    length = int(rng.integers(1, max(2, num_steps * 3 // 4)))
    start = int(rng.integers(0, num_steps - length + 1))
    told[start : start + length] = num_steps == 1  # of a single step nothing can be hidden
    return told


def keep(length: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which of `length` places (L,) are kept when random spans are dropped (T5, Raffel et al. 2020, section 3.1.4)."""
    num_dropped = max(1, round(NOISE_SHARE * length))
    num_spans = max(1, round(num_dropped / MEAN_SPAN))
    if length < 2 * num_spans:
        return np.ones(length, bool)
    kept = _random_parts(length - num_dropped, num_spans, rng)
    dropped = _random_parts(num_dropped, num_spans, rng)
    begins_kept = bool(rng.random() < 0.5)
    lengths = np.stack((kept, dropped) if begins_kept else (dropped, kept), axis=1).ravel()
    return np.repeat(np.tile((begins_kept, not begins_kept), num_spans), lengths)


def _random_parts(total: int, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`number` positive integers that sum to `total`, all such rows equally likely."""
    cuts = np.sort(rng.choice(np.arange(1, total), number - 1, replace=False))
    return np.diff(np.concatenate(([0], cuts, [total])))


def blank(caption: str, rng: np.random.Generator) -> str:
    """A sentence with BLANK in the place of each dropped span of words."""
    words = caption.split()
    told = keep(len(words), rng)
    kept = [word if is_kept else BLANK for word, is_kept in zip(words, told)]
    return " ".join(word for place, word in enumerate(kept) if word != BLANK or place == 0 or kept[place - 1] != BLANK)


def build_lm(
    clips: Sequence[TokenizedClip], info: TokensInfo, config: LMTraining, *, code_vectors: Tensor | None = None
) -> MotionLM:
    """A language model as it is before training: a new one, or where `start` says so one to go on from.

    `code_vectors` (N, C) are what an adapter maps: `MotionTokenizer.code_vectors()`. Raises ConfigError where they are
    needed and not given, and CheckpointError for a model of another codebook.
    """
    torch.manual_seed(config.optimization.seed)
    model = _new_lm(clips, info, config) if config.start is None else _started_lm(config.start, info)
    if config.encoder_layers is not None:
        if config.start is None:
            raise ConfigError(
                f"encoder_layers={config.encoder_layers} is said of a model to go on from, which is absent; a new one "
                "has --network.encoder-layers (--encoder-layers, --start)"
            )
        model.grow_encoder(config.encoder_layers)
    if config.code_rows == "adapter" and model.adapter is None:
        if code_vectors is None:
            raise ConfigError("code_rows='adapter' needs the tokenizer's code vectors, which nobody gave (--code-rows)")
        model.adapter = CodeAdapter(code_vectors.float(), model.t5.config.d_model)
    if config.lora_rank:
        rank = config.lora_rank
        add_lora(model.t5, LoraConfig(rank, 2 * rank, 0.0, TARGETS), with_table=True)
    if config.checkpoint_activations:
        # transformers 5.21 gave it a new name, and warns of the old one
        getattr(model.t5, "activation_checkpointing_enable", model.t5.gradient_checkpointing_enable)()
    return model


def _new_lm(clips: Sequence[TokenizedClip], info: TokensInfo, config: LMTraining) -> MotionLM:
    captions = " ".join(caption for clip in clips for caption in clip.captions)
    words = {*re.findall(r"[a-z]+", captions.lower())}
    if config.tasks != "text-to-motion":
        words |= answer_words()
    if config.reader == "none":
        reader, words = None, words | spoken_words()
    else:
        reader = minilm_reader(config.network.width, max_tokens=config.network.max_text_tokens)
    return MotionLM.from_config(
        config.network,
        num_codes=info.num_codes,
        codes_per_step=info.codes_per_step,
        text_tokenizer=plain_tokenizer(words),
        reader=reader,
    )


def _started_lm(start: str, info: TokensInfo) -> MotionLM:
    if not is_motion_lm(start):
        return MotionLM.from_t5(start, num_codes=info.num_codes, codes_per_step=info.codes_per_step)
    model = MotionLM.from_pretrained(start)
    if (model.vocab.num_codes, model.vocab.codes_per_step) != (info.num_codes, info.codes_per_step):
        raise CheckpointError(
            f"{start} speaks {model.vocab.num_codes} codes in steps of {model.vocab.codes_per_step}, the clips "
            f"{info.num_codes} in steps of {info.codes_per_step}: they are of different tokenizers (--start)"
        )
    if model.reader is not None:
        model.reader.freeze()
    return model


def train_lm(
    clips: Sequence[TokenizedClip],
    info: TokensInfo,
    config: LMTraining,
    *,
    folder: str | Path,
    code_vectors: Tensor | None = None,
) -> MotionLM:
    """Train on tokenized clips, or go on where the run in `folder` was stopped; returns the model.

    `code_vectors` are for an adapter, see `build_lm`. Raises DataError without clips and ConfigError for a folder of
    other settings.
    """
    run = RunFolder.open(folder, config)
    if not clips:
        raise DataError("no tokenized clip to train on; encode a train split first")
    model = build_lm(clips, info, config, code_vectors=code_vectors)
    sampler = ExampleSampler(clips, info, model, config)
    if model.reader is not None and config.start is None:
        teaching = RunFolder.open(Path(folder) / "reader", config.reader_teaching)
        teach_reader(model, clips, sampler.weight, config.reader_teaching, run=teaching)

    def terms_of(draw: Draw) -> dict[str, Tensor]:
        torch.manual_seed(int(draw.rng.integers(2**31)))  # dropout draws from torch's own generator
        instructions, answers = sampler.draw(draw.rng)
        answers = draw.mine(answers)
        loss = model.loss(draw.mine(instructions), answers, word_weight=config.word_weight)
        return {"loss": loss, "weight": torch.tensor(model.weight_of(answers, word_weight=config.word_weight))}

    optimize(run, model, terms_of, config.optimization)
    if config.lora_rank:
        merge_lora(model.t5)
    return model
