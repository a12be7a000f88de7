"""TextToMotion: sentences to motions and back. A language model that speaks codes and a tokenizer that reads them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from kinalign.data.tokens import TokenizedClip, TokensInfo, read_tokenized, write_tokenized
from kinalign.errors import CheckpointError, ConfigError, InvalidCodes, MotionError, PromptError
from kinalign.events.parse import parse
from kinalign.events.program import EventProgram
from kinalign.lm.instructions import Instruction, Task, motion_instruction, prompt_instruction
from kinalign.lm.interpreter import Interpreter
from kinalign.lm.lora import Adapter, is_adapter, read_mixed
from kinalign.lm.model import MotionLM, Sampling
from kinalign.lm.vocab import HIDDEN, MotionVocab
from kinalign.motion.features import uniform_skeleton
from kinalign.motion.joining import bend, fade, lay_onto, through
from kinalign.motion.motion import Motion
from kinalign.run import read_json, write_json, write_text
from kinalign.tokenizer.tokenizer import Codes, MotionTokenizer

SHIPPED_MODEL = "openmocap-base"
MAX_PROMPT_CHARACTERS = 500
MAX_FRAMES = 196
"""The longest clip of the field's training data: 9.8 s at 20 frames per second, 15.68 s at KIT-ML's 12.5."""

MAX_TOLD_STEPS = 24
"""Steps that the model is told of a motion that it shall continue or join."""
NEAR_S = 1.0
"""Time over which a decoded motion is laid onto the given one."""
FADE_S = 0.4
"""Time in which one becomes the other."""

BATCH_SIZE = 64
"""Answers that are made together; more make a CPU no faster."""

CAPTION_SAMPLING = Sampling(temperature=0.0)
DEFAULT_SAMPLING = Sampling(temperature=1.0, top_p=1.0, guidance=2.0)
MOTIONGPT_SAMPLING = Sampling(temperature=1.0, top_p=1.0, top_k=50)
"""As in the published code. No guidance: these models have never been asked nothing."""


class Asked(NamedTuple):
    """What the language model is asked for one motion, and how the codes of its answer become the motion."""

    instruction: Instruction
    steps: tuple[int, int]
    """Fewest and most steps of the answer."""
    finish: Callable[[Codes], Motion]
    known: tuple[int, ...] = ()
    """All codes of the motion, HIDDEN where they are to be said; empty where nothing is known."""

    @property
    def kind(self) -> tuple[int, int]:
        """Answers of one kind are made together: fixed lengths, for longer ones can be cut, and filled gaps."""
        if self.known:
            return (0, 0)
        return (1, 1) if self.steps[0] == self.steps[1] else self.steps


class Generated(NamedTuple):
    """Candidates of one prompt: motions that could be read, and how many answers could not."""

    motions: list[Motion]
    num_invalid: int


class TextToMotion:
    """A sentence in, motions out.

    >>> model = TextToMotion.from_pretrained()                              # doctest: +SKIP
    >>> model("a person jumps twice", num_candidates=4, seed=0)[0].joints.shape  # doctest: +SKIP
    (48, 22, 3)
    """

    def __init__(
        self, lm: MotionLM, tokenizer: MotionTokenizer, *, interpreter: Interpreter | None = None, name: str = ""
    ) -> None:
        if (lm.vocab.num_codes, lm.vocab.codes_per_step) != (tokenizer.num_codes, tokenizer.codes_per_step):
            raise CheckpointError(
                f"the language model speaks {lm.vocab.num_codes} codes in steps of {lm.vocab.codes_per_step}, the "
                f"tokenizer {tokenizer.num_codes} in steps of {tokenizer.codes_per_step}: they are of different models"
            )
        self.lm, self.tokenizer, self.interpreter = lm, tokenizer, interpreter
        self.name = name
        """Of the folder that it was read from."""

    @property
    def default_sampling(self) -> Sampling:
        """How motions are drawn when nothing is said about it."""
        return MOTIONGPT_SAMPLING if self.lm.instruction_style == "motiongpt" else DEFAULT_SAMPLING

    @property
    def min_length_s(self) -> float:
        """Seconds of the shortest motion that can be asked for."""
        return 2 * self.tokenizer.frames_per_step / self.tokenizer.config.fps

    @property
    def max_length_s(self) -> float:
        """Seconds of the longest motion that can be asked for."""
        return MAX_FRAMES / self.tokenizer.config.fps

    def program_of(self, prompt: str) -> EventProgram:
        """What a prompt asks for, by the model's interpreter, or by rules where it has none.

        Raises PromptError where no event can be read.
        """
        return (self.interpreter or parse)(prompt)

    def __call__(
        self,
        prompt: str,
        *,
        num_candidates: int = 1,
        seed: int = 0,
        length_s: float | None = None,
        sampling: Sampling | None = None,
    ) -> list[Motion]:
        """Candidates for one prompt; the same seed gives the same motions, whatever else is asked for.

        `length_s` fixes the length in seconds, to a step of the tokenizer (0.2 s). Raises PromptError for a prompt that
        is empty or too long.
        """
        (generated,) = self.generate(
            [prompt], num_candidates=num_candidates, seed=seed, length_s=length_s, sampling=sampling
        )
        return generated.motions

    def generate(
        self,
        prompts: Sequence[str],
        *,
        num_candidates: int = 1,
        seed: int = 0,
        length_s: float | None = None,
        sampling: Sampling | None = None,
        constrained: bool = True,
    ) -> list[Generated]:
        """Candidates for many prompts at once; unconstrained answers that are no motion are counted in num_invalid."""
        asked = [self.ask(prompt, length_s=length_s) for prompt in prompts]
        answers = self.answers(
            asked,
            seeds=[seed] * len(asked),
            num_candidates=num_candidates,
            sampling=sampling,
            constrained=constrained,
        )
        return [_read(one, rows) for one, rows in zip(asked, answers)]

    def rounds(
        self,
        prompt: str,
        *,
        num_candidates: int,
        seed: int = 0,
        length_s: float | None = None,
        sampling: Sampling | None = None,
    ) -> Iterator[list[Motion]]:
        """Rounds of candidates for one prompt, for as long as they are asked for; the prompt is read once.

        Together they are the candidates that a call with as many and the same seed gives.
        """
        asked = self.ask(prompt, length_s=length_s)
        rounds = self.lm.rounds(
            [asked.instruction],
            generator=torch.Generator().manual_seed(seed),
            num_candidates=num_candidates,
            sampling=sampling or self.default_sampling,
            min_steps=asked.steps[0],
            max_steps=asked.steps[1],
        )
        for (answers,) in rounds:
            yield [asked.finish(self.lm.vocab.ids_to_codes(row)) for row in answers]

    def ask(self, prompt: str, *, length_s: float | None = None) -> Asked:
        """What a prompt asks of the language model; raises PromptError for one that says nothing or too much."""
        (instruction,) = self.instructions([prompt], length_s=length_s)
        return Asked(
            instruction,
            self._steps(length_s),
            lambda codes: self.tokenizer.decode(codes, caption=prompt).on_floor(),
        )

    def answers(
        self,
        asked: Sequence[Asked],
        *,
        seeds: Sequence[int],
        num_candidates: int = 1,
        sampling: Sampling | None = None,
        constrained: bool = True,
        skip: int = 0,
    ) -> list[list[Codes | None]]:
        """Codes of the answers, `num_candidates` to each; None for an unconstrained answer that is no motion.

        All are made in batches of about one length. The first candidate depends on what is asked and on its seed, not
        on what is asked beside it; so do all where no length is fixed. `skip` leaves out so many of the first ones.
        """
        order = sorted(range(len(asked)), key=lambda index: (asked[index].kind, asked[index].steps))
        size = max(1, BATCH_SIZE // max(1, num_candidates))
        made: dict[int, list[Codes | None]] = {}
        for _, group in groupby(order, key=lambda index: asked[index].kind):
            indices = list(group)
            for batch in (indices[start : start + size] for start in range(0, len(indices), size)):
                rows = self.lm.generate(
                    [asked[index].instruction for index in batch],
                    generator=[torch.Generator().manual_seed(seeds[index]) for index in batch],
                    num_candidates=num_candidates,
                    sampling=sampling or self.default_sampling,
                    min_steps=max(asked[index].steps[0] for index in batch),
                    max_steps=max(asked[index].steps[1] for index in batch),
                    known=[asked[index].known for index in batch] if asked[batch[0]].known else None,
                    constrained=constrained,
                    skip=skip,
                )
                for index, candidates in zip(batch, rows):
                    # a motion that had to be longer began no differently
                    end = asked[index].steps[1] * self.lm.vocab.codes_per_step
                    made[index] = [_codes_or_none(self.lm.vocab, row, end=end) for row in candidates]
        return [made[index] for index in range(len(asked))]

    def sampling(
        self, *, temperature: float | None = None, top_p: float | None = None, guidance: float | None = None
    ) -> Sampling:
        """The model's own way to draw, but for what is given."""
        own = self.default_sampling
        return replace(
            own,
            temperature=own.temperature if temperature is None else temperature,
            top_p=own.top_p if top_p is None else top_p,
            guidance=own.guidance if guidance is None else guidance,
        )

    def instructions(self, prompts: Sequence[str], *, length_s: float | None = None) -> list[Instruction]:
        """What the language model is told of prompts; raises PromptError for one that says nothing or too much."""
        self._steps(length_s)
        fps, style = self.tokenizer.config.fps, self.lm.instruction_style
        instructions = [
            prompt_instruction(checked_prompt(prompt), length_s=length_s, fps=fps, style=style) for prompt in prompts
        ]
        for instruction in instructions:
            self.lm.tokenize([instruction.text])
        return instructions

    def caption(self, motion: Motion, *, seed: int = 0, sampling: Sampling = CAPTION_SAMPLING) -> str:
        """What happens in a motion, in one sentence; raises MotionError for one too short or too long to read."""
        return self.captions([motion], seed=seed, sampling=sampling)[0]

    def captions(self, motions: Sequence[Motion], *, seed: int = 0, sampling: Sampling = CAPTION_SAMPLING) -> list[str]:
        """A sentence for each motion, read in batches."""
        asked = [self._about(Task.MOTION_TO_TEXT, self.codes(motion)) for motion in motions]
        return self._said(asked, seed=seed, sampling=sampling)

    def say(self, instruction: Instruction, *, seed: int = 0, sampling: Sampling = CAPTION_SAMPLING) -> str:
        """An answer in words to any instruction."""
        return self._said([instruction], seed=seed, sampling=sampling)[0]

    def _said(self, asked: Sequence[Instruction], *, seed: int, sampling: Sampling) -> list[str]:
        said: list[str] = []
        for start in range(0, len(asked), BATCH_SIZE):
            batch, generator = asked[start : start + BATCH_SIZE], torch.Generator().manual_seed(seed)
            answers = self.lm.generate(batch, generator=generator, gives="text", sampling=sampling)
            said += [self.lm.ids_to_text(row) for (row,) in answers]
        return said

    def predict(
        self,
        motion: Motion,
        *,
        seconds: float | None = None,
        num_candidates: int = 1,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> list[Motion]:
        """The motion and what comes next, for `seconds` or until the model ends it, at the tokenizer's frame rate.

        The model reads the last seconds of a long motion. What was given stays as it is but for its last 0.4 s, where
        it becomes what the model makes of it. Raises MotionError for a motion that is too short for a code, ConfigError
        for a time that the model cannot fill.
        """
        asked = self.ask_next(motion, seconds=seconds)
        return self._motions(asked, num_candidates=num_candidates, seed=seed, sampling=sampling)

    def ask_next(self, motion: Motion, *, seconds: float | None = None) -> Asked:
        """What the continuation of a motion asks of the language model, as in `predict`."""
        per_step, frames_per_step = self.lm.vocab.codes_per_step, self.tokenizer.frames_per_step
        longest_s = (self._longest - 1) * frames_per_step / self.tokenizer.config.fps
        fewest, most = self._steps(seconds, longest_s=longest_s, names=("seconds", "--seconds"))
        # the longer the way to go, the less the model is told of what was
        room = MAX_TOLD_STEPS if seconds is None else self._longest - most
        given, told = self._end(motion, most=min(room, MAX_TOLD_STEPS))
        most = min(most, self._longest - len(told) // per_step)
        frames = len(told) // per_step * frames_per_step

        def continued(codes: Codes) -> Motion:
            whole = self._decoded([*told, *codes.tolist()], given[-frames:])
            near, overlap = min(frames, self._frames(NEAR_S)), min(frames, self._frames(FADE_S))
            whole = lay_onto(whole, slice(frames - near, frames), given, slice(-near, None))
            return fade(given, whole[frames - overlap :], overlap)

        return Asked(self._about(Task.PREDICTION, told), (fewest, most), continued)

    def inbetween(
        self,
        head: Motion,
        tail: Motion,
        *,
        seconds: float,
        anchored: bool = False,
        num_candidates: int = 1,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> list[Motion]:
        """`head`, then `seconds` that the model fills in, then `tail`, at the tokenizer's frame rate.

        The tail is moved over the ground to where the motion has come; `anchored` leaves it where it is and bends the
        way there. Raises ConfigError for a gap that the model cannot fill and MotionError for too short a motion.
        """
        asked = self.ask_between(head, tail, seconds=seconds, anchored=anchored)
        return self._motions(asked, num_candidates=num_candidates, seed=seed, sampling=sampling)

    def ask_between(self, head: Motion, tail: Motion, *, seconds: float, anchored: bool = False) -> Asked:
        """What a gap asks of the language model, as in `inbetween`."""
        step_s = self.tokenizer.frames_per_step / self.tokenizer.config.fps
        longest = self._longest - 2
        if not step_s / 2 < seconds < (longest + 0.5) * step_s:
            raise ConfigError(f"seconds={seconds} must be between {step_s} and {longest * step_s:.1f} (--seconds)")
        gap = round(seconds / step_s)
        room = (self._longest - gap) // 2
        given, before = self._end(head, most=min(room, MAX_TOLD_STEPS))
        tail = replace(tail.resample(self.tokenizer.config.fps), skeleton=given.skeleton)
        after = self.codes(tail, most=min(room, MAX_TOLD_STEPS))
        hidden = [HIDDEN] * (gap * self.lm.vocab.codes_per_step)
        known = (*before, *hidden, *after)
        per_step, frames_per_step = self.lm.vocab.codes_per_step, self.tokenizer.frames_per_step
        start, stop = (len(codes) // per_step * frames_per_step for codes in (before, [*before, *hidden]))

        def joined(codes: Codes) -> Motion:
            whole = self._decoded(codes.tolist(), given[-start:])
            near, overlap = min(start, self._frames(NEAR_S)), min(start, self._frames(FADE_S))
            whole = lay_onto(whole, slice(start - near, start), given, slice(-near, None))
            near = min(len(whole) - stop, self._frames(NEAR_S))
            if anchored:
                whole = bend(whole, slice(stop, stop + near), tail, slice(near), over=slice(start, stop))
                placed = tail
            else:
                placed = lay_onto(tail, slice(near), whole, slice(stop, stop + near))
            end = min(len(whole) - stop, self._frames(FADE_S))
            first = fade(given, whole[start - overlap : stop + end], overlap)
            return fade(first, placed, end)

        steps = len(known) // per_step
        return Asked(self._about(Task.IN_BETWEEN, known), (steps, steps), joined, known)

    def fill(
        self,
        motion: Motion,
        *,
        keys: Sequence[float],
        num_candidates: int = 1,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> list[Motion]:
        """A motion that is at its moments `keys`, in seconds, where the given one is, and made anew between.

        A moment is a step of the tokenizer (0.2 s). Raises ConfigError for a moment outside the motion.
        """
        seconds_per_step = self.tokenizer.frames_per_step / self.tokenizer.config.fps
        asked = self.ask_keys(motion, [int(key / seconds_per_step + 1e-6) for key in keys])
        return self._motions(asked, num_candidates=num_candidates, seed=seed, sampling=sampling)

    def ask_keys(self, motion: Motion, steps: Sequence[int]) -> Asked:
        """What a motion of which only some `steps` are known asks of the language model: all that is between them.

        The answer is a motion as long as the whole steps of this one, and equal to it where it is known. Raises
        ConfigError for no step, for all of them and for one outside the motion, MotionError for too long a motion.
        """
        motion = motion.resample(self.tokenizer.config.fps)
        per_step, frames_per_step = self.lm.vocab.codes_per_step, self.tokenizer.frames_per_step
        codes = np.array(self.codes(motion)).reshape(-1, per_step)
        kept = sorted(set(steps))
        if not kept or kept[0] < 0 or kept[-1] >= len(codes) or len(kept) == len(codes):
            raise ConfigError(f"steps={kept} must be some of 0 to {len(codes) - 1}, not none and not all")
        known = np.full_like(codes, HIDDEN)
        known[kept] = codes[kept]
        keys = [slice(step * frames_per_step, (step + 1) * frames_per_step) for step in kept]

        def led(codes: Codes) -> Motion:
            return through(self._decoded(codes.tolist(), motion), keys, motion, reach=self._frames(FADE_S))

        row = tuple(known.flatten().tolist())
        return Asked(self._about(Task.IN_BETWEEN, row), (len(codes), len(codes)), led, row)

    def _motions(self, asked: Asked, *, num_candidates: int, seed: int, sampling: Sampling | None) -> list[Motion]:
        (answers,) = self.answers([asked], seeds=[seed], num_candidates=num_candidates, sampling=sampling)
        return _read(asked, answers).motions

    def _about(self, task: Task, codes: Sequence[int]) -> Instruction:
        return motion_instruction(task, codes, style=self.lm.instruction_style)

    @property
    def _longest(self) -> int:
        """Steps of the longest motion that the model speaks of."""
        return MAX_FRAMES // self.tokenizer.frames_per_step

    def _frames(self, seconds: float) -> int:
        return round(seconds * self.tokenizer.config.fps)

    def codes(self, motion: Motion, *, most: int | None = None) -> list[int]:
        """Codes of a motion, or of its first `most` steps; raises MotionError for one too long to read whole."""
        motion = motion.resample(self.tokenizer.config.fps)
        if most is not None:
            motion = motion[: most * self.tokenizer.frames_per_step + 1]
        codes = self.tokenizer.encode(motion).tolist()
        if len(codes) > self._longest * self.tokenizer.codes_per_step:
            raise MotionError(
                f"a motion of {motion.duration_s:.1f} s is too long: "
                f"this model reads {self.max_length_s:.1f} s; cut it, motion[a:b]"
            )
        return codes

    def _end(self, motion: Motion, *, most: int) -> tuple[Motion, list[int]]:
        """The motion at the tokenizer's frame rate, up to where its last step ends, and codes of its last steps."""
        motion = motion.resample(self.tokenizer.config.fps)
        per_step = self.tokenizer.frames_per_step
        steps = min(most, (len(motion) - 1) // per_step)
        codes = self.codes(motion[max(0, len(motion) - 1 - max(steps, 1) * per_step) :])
        return motion[: len(motion) - 1], codes

    def _decoded(self, codes: Sequence[int], like: Motion) -> Motion:
        """The motion of codes on the body and the floor of the one that some of them were read from."""
        motion = self.tokenizer.decode(np.array(codes), caption=like.caption)
        body = like.skeleton.with_bone_lengths_of(like.joints[0])
        joints = uniform_skeleton(motion.joints, motion.skeleton, body)
        joints[..., 1] += like.joints[..., 1].min()  # the tokenizer puts its floor there
        return replace(motion, joints=joints, skeleton=like.skeleton)

    def _steps(
        self,
        length_s: float | None,
        *,
        longest_s: float | None = None,
        names: tuple[str, str] = ("length_s", "--length-seconds"),
    ) -> tuple[int, int]:
        """Fewest and most steps of an answer; `names` are those of the length in Python and at the command line."""
        step_s = self.tokenizer.frames_per_step / self.tokenizer.config.fps
        longest_s = self.max_length_s if longest_s is None else longest_s
        if length_s is None:
            return 2, self._longest
        if not self.min_length_s <= length_s <= longest_s:
            raise ConfigError(
                f"{names[0]}={length_s} must be between {self.min_length_s} and {longest_s} seconds ({names[1]})"
            )
        steps = round(length_s / step_s)
        return steps, steps

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> Path:
        """Write a model folder: config.json, tokenizer/, lm/, interpreter/ if there is one, and a card, README.md.

        The card holds what the model itself tells.

        A card that is there already is left as it is: what a model was trained on and what it may be used for only its
        author knows.
        """
        folder = Path(folder)
        self.tokenizer.save_pretrained(folder / "tokenizer", dtype=dtype)
        self.lm.save_pretrained(folder / "lm", dtype=dtype)
        if self.interpreter is not None:
            self.interpreter.save_pretrained(folder / "interpreter")
        write_json(folder / "config.json", {"model": "TextToMotion", "tokenizer": "tokenizer", "lm": "lm"})
        card = folder / "README.md"
        if not card.exists():
            write_text(card, self.facts())
        return folder

    def facts(self) -> str:
        """The part of a model card that the model itself tells."""
        network, vocab, t5 = self.tokenizer.config.network, self.lm.vocab, self.lm.t5.config
        sizes = [sum(p.numel() for p in module.parameters()) / 1e6 for module in (self.tokenizer.network, self.lm)]
        per_step, per_second = network.codes_per_step, self.tokenizer.codes_per_second
        reader = self.lm.reader
        reads = f"BERT, {reader.config.layers} layers, {len(reader.tokenizer)} tokens" if reader else "none"
        return f"""# A text-to-motion model for Kinalign

- Tokenizer: {sizes[0]:.1f} M weights; {per_step} codes of {network.codebook_size} per step, {per_second:g} a second.
- Reader: {reads}.
- Language model: T5, width {t5.d_model}, {t5.num_layers} + {t5.num_decoder_layers} layers.
- Reader and language model together: {sizes[1]:.1f} M weights.
- Vocabulary: {vocab.num_text} text tokens, {vocab.num_codes} codes, start, end and mask.
- Output: {self.tokenizer.skeleton.num_joints} joints in metres, {self.tokenizer.config.fps:g} frames per second, y up.

Data, licence, tests and limits: not stated by the author.
"""

    @staticmethod
    def from_pretrained(
        folder: str | Path | None = None, *, adapter: str | Path | Mapping[str, float] | None = None
    ) -> TextToMotion:
        """Read a model folder; None is the shipped model, or with an `adapter` the base that it was learned on.

        `adapter` is the folder of one, or folders with shares: {"a": 0.5, "b": 0.5}. `folder` may be that of an adapter
        too. The base of an adapter is looked for beside it, then it is the shipped model. Raises CheckpointError where
        a folder is absent or cut short, and for an adapter of another base.
        """
        if folder is not None and is_adapter(folder):
            if adapter is not None:
                raise ConfigError(f"{folder} is an adapter itself; give all of them with their shares (--adapter)")
            folder, adapter = None, folder
        if adapter is None:
            return _read_whole(Path(folder) if folder is not None else shipped_model())
        shares = adapter if isinstance(adapter, Mapping) else {str(adapter): 1.0}
        mixture = read_mixed(shares)
        model = _read_whole(Path(folder) if folder is not None else base_of(mixture, beside=Path(next(iter(shares)))))
        mixture.merge_into(model.lm)
        return model


def _read_whole(folder: Path) -> TextToMotion:
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} is no model folder: it has no config.json (--model)")
    if read_json(folder / "config.json").get("model") != "TextToMotion":
        raise CheckpointError(f"{folder} holds something else than a whole model with its lm and tokenizer (--model)")
    lm, place = MotionLM.from_pretrained(folder / "lm"), folder / "interpreter"
    return TextToMotion(
        lm,
        MotionTokenizer.from_pretrained(folder / "tokenizer"),
        interpreter=Interpreter.from_pretrained(place, lm.reader) if lm.reader and place.is_dir() else None,
        name=folder.resolve().name,
    )


def base_of(adapter: Adapter, *, beside: Path) -> Path:
    """The folder of the model that an adapter was learned on: of its name beside the adapter, or the shipped one."""
    named = beside.resolve().parent / adapter.base
    return named if adapter.base and (named / "config.json").is_file() else shipped_model()


def _codes_or_none(vocab: MotionVocab, row: Sequence[int], *, end: int) -> Codes | None:
    try:
        return vocab.ids_to_codes(row)[:end]
    except InvalidCodes:
        return None


def _read(asked: Asked, answers: Sequence[Codes | None]) -> Generated:
    motions = [asked.finish(codes) for codes in answers if codes is not None]
    return Generated(motions, len(answers) - len(motions))


def shipped_model() -> Path:
    """The folder of the shipped model: $KINALIGN_MODEL, else models/openmocap-base here or in Kinalign's repository."""
    if named := os.environ.get("KINALIGN_MODEL"):
        return Path(named)
    places = [Path("models"), Path(__file__).resolve().parents[2] / "models"]
    for place in places:
        if (place / SHIPPED_MODEL / "config.json").is_file():
            return place / SHIPPED_MODEL
    raise CheckpointError(
        f"the shipped model is not in models/{SHIPPED_MODEL}; run inside a clone of Kinalign, or name a folder "
        "(--model, or KINALIGN_MODEL)"
    )


def checked_prompt(prompt: str) -> str:
    """The prompt with white space trimmed; raises PromptError when it says nothing or far too much."""
    text = " ".join(prompt.split())
    if not re.search(r"\w", text):
        raise PromptError(f"the prompt {prompt!r} says nothing; describe what a person does")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise PromptError(
            f"a prompt of {len(text)} characters is too long; at most {MAX_PROMPT_CHARACTERS}. "
            "Give longer stories sentence by sentence"
        )
    return text


def tokenized(folder: Path, info: TokensInfo, tokenize: Callable[[], list[TokenizedClip]]) -> list[TokenizedClip]:
    """The clips of a tokens folder, which is made by `tokenize` where it is absent.

    Raises CheckpointError when it holds codes of another tokenizer.
    """
    if not (folder / "info.json").exists():
        write_tokenized(folder, tokenize(), info)
    rows, written = read_tokenized(folder)
    if written != info:
        raise CheckpointError(f"{folder} holds codes of another tokenizer; remove it or choose another folder (--out)")
    return rows
