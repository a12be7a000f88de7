"""MotionLM: transformers' T5 whose vocabulary ends in motion codes.

Sampling is a loop of its own rather than transformers' `generate`, for three things that one lacks: an explicit
torch.Generator; the encoder run once per prompt for all its candidates; and guidance, in which the answer to an empty
prompt is held against the answer to the prompt. Only the rows of the head that are allowed are multiplied.

Letters: B prompts, C candidates, L tokens, D width.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinalign.errors import CheckpointError, ConfigError, PromptError
from kinalign.lm.instructions import Gives, Instruction, Style
from kinalign.lm.reader import Reader, ReaderConfig
from kinalign.lm.vocab import MotionVocab
from kinalign.run import (
    SCALE,
    config_from_json,
    config_to_json,
    load_strictly,
    pack_rows,
    read_json,
    read_tensors,
    unpack_rows,
    write_json,
    write_tensors,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, T5ForConditionalGeneration

    from kinalign.lm.lora import Adapter

WEIGHTS, CONFIG, T5_CONFIG, TEXT = "model.safetensors", "config.json", "t5.json", "text_tokenizer"
READER_TEXT = "reader_tokenizer"


@dataclass(frozen=True)
class LMConfig:
    """Sizes of a T5 built from scratch. The vocabulary comes from the text tokenizer and the motion tokenizer."""

    width: int = 256
    """Numbers of a token's vector."""
    feed_forward_width: int = 1024
    encoder_layers: int = 4
    decoder_layers: int = 4
    heads: int = 4
    dropout: float = 0.1
    max_text_tokens: int = 64
    """Longer instructions are refused."""

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError(f"width={self.width} is no multiple of heads={self.heads} (--width, --heads)")


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn."""

    temperature: float = 1.0
    """Below 1 likelier codes win more often; 0 takes the likeliest."""
    top_p: float = 0.95
    """Draw from the likeliest codes that together have this probability."""
    guidance: float = 1.0
    """Above 1 what the prompt adds over an empty prompt is exaggerated; 1 is off."""
    top_k: int | None = None
    """Draw from this many of the likeliest codes; None is all."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 10:
            raise ConfigError(f"temperature={self.temperature} must be in [0, 10] (--temperature)")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p={self.top_p} must be in (0, 1] (--top-p)")
        if not 1 <= self.guidance <= 20:
            raise ConfigError(f"guidance={self.guidance} must be in [1, 20]; 1 is off (--guidance)")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k={self.top_k} must be at least 1")


class Choices(NamedTuple):
    """Answers as the choices that they were, B answers of L tokens at most; 0 where there was nothing to choose."""

    logps: Tensor
    """Log-probability (B, L) of each token."""
    entropy: Tensor
    """Entropy (B, L) in nats of what it was drawn from, without a gradient."""
    is_choice: Tensor
    """True (B, L) where a token was drawn: not at the start, nor at the end of an answer of the greatest length."""
    hidden: Tensor
    """What the decoder makes (B, L, D) before each token."""


class CodeAdapter(nn.Module):
    """Vectors of motion tokens as a linear map of the tokenizer's own, which are frozen, and a head for them alone.

    `vectors` (N, C) are the codes' in the tokenizer; start, end and mask have learned ones. Source: AvatarGPT (Zhou et
    al. 2024), section 3.2, there with one codebook.
    """

    vectors: Tensor

    def __init__(self, vectors: Tensor, width: int) -> None:
        super().__init__()
        num_codes, code_dim = vectors.shape
        self.register_buffer("vectors", vectors / vectors.std().clamp(min=1e-6))
        self.specials = nn.Parameter(torch.randn(3, code_dim))
        self.embed = nn.Linear(code_dim, width, bias=False)
        self.head = nn.Linear(width, num_codes + 3, bias=False)
        nn.init.normal_(self.embed.weight, std=code_dim**-0.5)
        nn.init.normal_(self.head.weight)  # as T5's table, which is its head too

    def table(self) -> Tensor:
        """Vectors (N + 3, D) of all motion tokens."""
        return self.embed(torch.cat((self.vectors, self.specials)))


class MotionLM(nn.Module):
    """A T5, its text tokenizer, where motion codes stand in its vocabulary, and a reader before it or none.

    Motion tokens are rows of T5's table, or with an `adapter` a map of the motion tokenizer's vectors.
    """

    def __init__(
        self,
        t5: T5ForConditionalGeneration,
        vocab: MotionVocab,
        text_tokenizer: PreTrainedTokenizerBase,
        *,
        max_text_tokens: int = 256,
        reader: Reader | None = None,
        adapter: CodeAdapter | None = None,
        instruction_style: Style = "kinalign",
    ) -> None:
        super().__init__()
        if t5.config.vocab_size < vocab.size:
            raise CheckpointError(
                f"this T5 has {t5.config.vocab_size} tokens; {vocab.num_text} of text and {vocab.num_codes} codes need "
                f"{vocab.size}: it was made for another codebook"
            )
        if len(text_tokenizer) > vocab.num_text:
            raise CheckpointError(
                f"the text tokenizer has {len(text_tokenizer)} tokens, the vocabulary {vocab.num_text} before the codes"
            )
        if reader is not None and reader.config.max_tokens < max_text_tokens:
            raise CheckpointError(f"the reader knows {reader.config.max_tokens} places, not {max_text_tokens}")
        self.t5, self.vocab, self.text_tokenizer, self.max_text_tokens = t5, vocab, text_tokenizer, max_text_tokens
        self.reader, self.adapter, self.instruction_style = reader, adapter, instruction_style
        self.merged: Adapter | None = None
        """What was merged into the weights of the base, where something was."""

    @staticmethod
    def from_config(
        config: LMConfig,
        *,
        num_codes: int,
        codes_per_step: int,
        text_tokenizer: PreTrainedTokenizerBase,
        reader: Reader | None = None,
    ) -> MotionLM:
        """A new model with random weights; seed torch before."""
        from transformers import T5Config, T5ForConditionalGeneration

        vocab = MotionVocab(len(text_tokenizer), num_codes, codes_per_step)
        t5_config = T5Config(
            vocab_size=vocab.size,
            d_model=config.width,
            d_kv=config.width // config.heads,
            d_ff=config.feed_forward_width,
            num_layers=config.encoder_layers,
            num_decoder_layers=config.decoder_layers,
            num_heads=config.heads,
            dropout_rate=config.dropout,
            feed_forward_proj="relu",
            pad_token_id=text_tokenizer.pad_token_id,
            eos_token_id=text_tokenizer.eos_token_id,
        )
        t5_config.decoder_start_token_id = text_tokenizer.pad_token_id
        return MotionLM(
            T5ForConditionalGeneration(t5_config),
            vocab,
            text_tokenizer,
            max_text_tokens=config.max_text_tokens,
            reader=reader,
        )

    @staticmethod
    def from_t5(folder: str | Path, *, num_codes: int, codes_per_step: int = 1, max_text_tokens: int = 256) -> MotionLM:
        """A local or hub T5 or flan-T5 with rows for motion codes added after its text tokenizer's tokens.

        As in the published MotionGPT the first code takes the id after the tokenizer's last, 32,100 for T5, although
        T5's own table is padded to 32,128.
        """
        from transformers import AutoTokenizer, T5ForConditionalGeneration

        try:
            text_tokenizer = AutoTokenizer.from_pretrained(folder)
            t5 = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder} is no T5 that can be read: {error}") from error
        vocab = MotionVocab(len(text_tokenizer), num_codes, codes_per_step)
        # else resizing would put the embedding table in the place of flan-T5's own head
        t5.config.tie_word_embeddings = t5.lm_head.weight is t5.shared.weight
        t5.resize_token_embeddings(vocab.size)
        return MotionLM(t5, vocab, text_tokenizer, max_text_tokens=max_text_tokens)

    def grow_encoder(self, num_layers: int) -> None:
        """Give the encoder more layers, in place, that add nothing before they are trained: the last matrix is zero.

        Raises ConfigError for fewer than it has. Source: Zhang, Dauphin and Ma, Fixup (2019), section 3.
        """
        from transformers import T5ForConditionalGeneration

        before = self.t5.config.num_layers
        if num_layers < before:
            raise ConfigError(f"the encoder has {before} layers and cannot have {num_layers} (--encoder-layers)")
        config = type(self.t5.config).from_dict({**self.t5.config.to_dict(), "num_layers": num_layers})
        grown = T5ForConditionalGeneration(config)
        nn.Module.to(grown, self.t5.device, self.t5.dtype)
        known = dict(self.t5.encoder.named_parameters())
        grown.load_state_dict({**grown.state_dict(), **self.t5.state_dict()})
        with torch.no_grad():
            for name, weight in grown.encoder.named_parameters():
                if name.endswith(("SelfAttention.o.weight", "DenseReluDense.wo.weight")) and name not in known:
                    weight.zero_()
        self.t5 = grown

    @property
    def device(self) -> torch.device:
        return self.t5.device

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and is_token mask (B, L) of texts, each closed by the end-of-text token.

        Raises PromptError for one longer than max_text_tokens: what is cut off would be ignored without a word.
        """
        text_tokenizer = self.text_tokenizer if self.reader is None else self.reader.tokenizer
        encoded = text_tokenizer(list(texts), padding=True, return_tensors="pt")
        token_ids, is_token = encoded["input_ids"], encoded["attention_mask"]
        if token_ids.shape[1] > self.max_text_tokens:
            longest = int(is_token.sum(1).argmax())
            raise PromptError(
                f"{int(is_token[longest].sum())} tokens ({texts[longest][:30]!r}...) is too long: "
                f"this model reads {self.max_text_tokens} of an instruction"
            )
        return token_ids.to(self.device), is_token.to(self.device)

    def encode(self, instructions: Sequence[Instruction | str]) -> tuple[Tensor, Tensor]:
        """What the encoder makes (B, L, D) of instructions, and which places (B, L) are tokens.

        A motion stands after the text that speaks of it, before the end-of-text token where no reader reads the text.
        Instructions that occur more than once are read once.
        """
        given = [Instruction(words) if isinstance(words, str) else words for words in instructions]
        said = list(dict.fromkeys(given))
        token_ids, is_token = self.tokenize([instruction.text for instruction in said])
        read = self.reader(token_ids, is_token) if self.reader is not None else self.embed(token_ids)
        rows = []
        for vectors, length, instruction in zip(read, is_token.sum(1).tolist(), said):
            vectors = vectors[:length]
            if instruction.codes:
                motion_ids = torch.from_numpy(self.vocab.hidden_to_ids(instruction.codes)).to(self.device)
                keep = length if self.reader is not None else length - 1
                vectors = torch.cat((vectors[:keep], self.embed(motion_ids), vectors[keep:]))
            rows.append(vectors)
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        is_place = (torch.arange(padded.shape[1], device=self.device) < lengths[:, None]).long()
        states = self.t5.encoder(inputs_embeds=padded, attention_mask=is_place).last_hidden_state
        if len(said) == len(given):
            return states, is_place
        place_of = {instruction: place for place, instruction in enumerate(said)}
        order = torch.tensor([place_of[instruction] for instruction in given], device=self.device)
        return states[order], is_place[order]

    def embed(self, token_ids: Tensor) -> Tensor:
        """Vectors (..., D) of tokens."""
        if self.adapter is None:
            return self.t5.shared(token_ids)
        words = self.t5.shared(token_ids.clamp(max=self.vocab.num_text - 1))
        codes = F.embedding((token_ids - self.vocab.num_text).clamp(min=0), self.adapter.table())
        return torch.where((token_ids < self.vocab.num_text)[..., None], words, codes)

    def _head(self) -> tuple[Tensor, Tensor]:
        """Rows of the head (., D) for words and for motion tokens."""
        head, first = self.t5.lm_head.weight, self.vocab.num_text
        return head[:first], head[first:] if self.adapter is None else self.adapter.head.weight

    def text_to_ids(self, text: str) -> list[int]:
        """An answer in words as token ids, closed by the end-of-text token."""
        return self.text_tokenizer(text)["input_ids"]

    def ids_to_text(self, token_ids: Sequence[int]) -> str:
        """Words of an answer, up to the end-of-text token."""
        ids = list(token_ids)
        end = self.text_tokenizer.eos_token_id
        ids = ids[: ids.index(end)] if end in ids else ids
        text = self.text_tokenizer.decode([token for token in ids if token < self.vocab.num_text])
        assert isinstance(text, str)
        # a tokenizer that splits at marks would say 4. 2 seconds
        return re.sub(r"(\d) ?\. ?(?=\d)", r"\1.", text.strip())

    def loss(
        self,
        instructions: Sequence[Instruction | str],
        answers: Sequence[Sequence[int]],
        *,
        word_weight: float = 1.0,
    ) -> Tensor:
        """Mean cross-entropy () of answers, rows of token ids, given instructions.

        A motion id is chosen among motion ids only, as in constrained decoding; a word among all tokens, and so is the
        first token, which says whether the answer is a motion or words. Answers in words are far shorter than motions:
        `word_weight` is how many motion ids one of their tokens counts for.
        """
        labels, hidden = self._answered(instructions, answers)
        (words, codes), first = self._head(), self.vocab.num_text
        is_motion, is_free = self._chosen_among(labels)
        total = hidden.new_zeros(())
        kinds = ((is_motion, codes, first, 1.0), (is_free, torch.cat((words, codes)), 0, word_weight))
        for chosen, rows, offset, weight in kinds:
            if chosen.any():
                logits = self._logits(hidden[chosen], rows)
                total = total + weight * F.cross_entropy(logits, labels[chosen] - offset, reduction="sum")
        return total / (is_motion.sum() + word_weight * is_free.sum())

    def token_logps(
        self, instructions: Sequence[Instruction | str], answers: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Log-probability (B, L) of each token of answers, rows of token ids, and which places (B, L) are tokens.

        Among the tokens that `loss` chooses from, at temperature 1 and without guidance; 0 where there is no token.
        """
        labels, hidden = self._answered(instructions, answers)
        return self._token_logps(labels, hidden), labels >= 0

    def _token_logps(self, labels: Tensor, hidden: Tensor) -> Tensor:
        """Log-probabilities (B, L) of labels, 0 where there is none, given what the decoder makes before each."""
        (words, codes), first = self._head(), self.vocab.num_text
        is_motion, is_free = self._chosen_among(labels)
        logps = torch.zeros_like(labels, dtype=torch.float32)
        for chosen, rows, offset in ((is_motion, codes, first), (is_free, torch.cat((words, codes)), 0)):
            if chosen.any():
                logits = self._logits(hidden[chosen], rows).float()
                logps = logps.masked_scatter(
                    chosen, -F.cross_entropy(logits, labels[chosen] - offset, reduction="none")
                )
        return logps

    def choices(
        self, instructions: Sequence[Instruction | str], answers: Sequence[Sequence[int]], *, steps: tuple[int, int]
    ) -> Choices:
        """What the policy that drew `answers`, constrained to motions of so many steps, says of each of their tokens.

        Where `token_logps` chooses among all motion tokens, here it is among those that `generate` could draw, at
        temperature 1 and without guidance: these are the log-probabilities that the answers were drawn with.
        """
        labels, hidden = self._answered(instructions, answers)
        head = torch.cat(self._head())
        logps, entropy = (torch.zeros_like(labels, dtype=torch.float32) for _ in range(2))
        is_choice = torch.zeros_like(labels, dtype=torch.bool)
        places_of: dict[tuple[int, ...], list[int]] = {}
        for place in range(labels.shape[1]):
            places_of.setdefault(tuple(self._allowed(place, steps).tolist()), []).append(place)
        for allowed, places in places_of.items():
            if len(allowed) == 1:  # nothing to choose
                continue
            is_label = (labels >= 0) & torch.isin(
                torch.arange(labels.shape[1], device=self.device), torch.tensor(places, device=self.device)
            )
            rows = torch.tensor(allowed, device=self.device)
            chosen = torch.searchsorted(rows, labels[is_label])
            said = self._logits(hidden[is_label], head[rows]).float().log_softmax(-1)
            logps = logps.masked_scatter(is_label, said.gather(-1, chosen[:, None])[:, 0])
            with torch.no_grad():
                entropy = entropy.masked_scatter(is_label, -(said.exp() * said).sum(-1))
            is_choice |= is_label
        return Choices(logps, entropy, is_choice, hidden)

    def answer_logps(
        self, instructions: Sequence[Instruction | str], answers: Sequence[Sequence[int]], *, rows: int | None = None
    ) -> Tensor:
        """Log-probability (B,) of whole answers: the sum of `token_logps` over their tokens.

        Computed for `rows` answers of about one length at a time, so that little of what is computed is padding: 8
        where they are not given, and on a GPU, which is not busy with so few, all.
        """
        rows = rows or (8 if self.device.type == "cpu" else len(answers))
        states, is_place = self.encode(instructions)
        by_length = sorted(range(len(answers)), key=lambda row: len(answers[row]))
        sums = []
        for start in range(0, len(answers), rows):
            chosen = by_length[start : start + rows]
            told = states[chosen], is_place[chosen]
            sums.append(self._token_logps(*self._answered(told, [answers[row] for row in chosen])).sum(1))
        place_of = {row: place for place, row in enumerate(by_length)}
        return torch.cat(sums)[[place_of[row] for row in range(len(answers))]]

    def _answered(
        self, told: Sequence[Instruction | str] | tuple[Tensor, Tensor], answers: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Answers as labels (B, L), -100 after their ends, and what the decoder makes (B, L, D) before each of them.

        `told` is instructions, or what `encode` made of them.
        """
        labels = torch.full((len(answers), max(map(len, answers))), -100)
        for row, answer in zip(labels, answers):
            row[: len(answer)] = torch.as_tensor(answer)
        labels = labels.to(self.device)
        # T5 starts decoding from pad, so the first label is a real token
        before = labels.roll(1, dims=1).clamp(min=0)
        before[:, 0] = self.t5.config.decoder_start_token_id
        states, is_place = told if isinstance(told, tuple) else self.encode(told)
        hidden = self.t5.decoder(
            inputs_embeds=self.embed(before),
            encoder_hidden_states=states,
            encoder_attention_mask=is_place,
            use_cache=False,
        ).last_hidden_state
        return labels, hidden

    def states(self, instructions: Sequence[Instruction | str], answers: Sequence[Sequence[int]]) -> Tensor:
        """What the decoder makes (B, L, D) before each token of answers, rows of token ids."""
        return self._answered(instructions, answers)[1]

    def _chosen_among(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Which labels (B, L) are chosen among motion ids, and which among all tokens."""
        is_motion = labels >= self.vocab.num_text
        is_motion[:, 0] = False
        return is_motion, (labels >= 0) & ~is_motion

    def weight_of(self, answers: Sequence[Sequence[int]], *, word_weight: float = 1.0) -> float:
        """How much the answers of a part of a batch count: what the mean in `loss` is over."""
        motion = sum(token >= self.vocab.num_text for answer in answers for token in answer[1:])
        return motion + word_weight * (sum(map(len, answers)) - motion)

    def _logits(self, hidden: Tensor, head: Tensor) -> Tensor:
        """The first T5 scales the decoder's output; T5 1.1 and flan-T5, whose head is a table of its own, do not."""
        scale = self.t5.config.d_model**-0.5 if self.t5.config.scale_decoder_outputs else 1.0
        return F.linear(hidden * scale, head)

    @torch.no_grad()
    def gives(self, instruction: Instruction | str) -> Gives:
        """What the model would answer with: a motion, where its start token is likelier than all words together."""
        was_training = self.training
        self.eval()
        states, is_place = self.encode([instruction])
        begin = torch.full((1, 1), self.t5.config.decoder_start_token_id, device=self.device)
        hidden = self.t5.decoder(
            inputs_embeds=self.embed(begin),
            encoder_hidden_states=states,
            encoder_attention_mask=is_place,
            use_cache=False,
        ).last_hidden_state[0, -1]
        logits = self._logits(hidden, torch.cat(self._head()))
        self.train(was_training)
        is_motion = logits[self.vocab.start_id] > logits[: self.vocab.num_text].logsumexp(0)
        return "motion" if is_motion else "text"

    @torch.no_grad()
    def generate(
        self,
        instructions: Sequence[Instruction | str],
        *,
        generator: torch.Generator | Sequence[torch.Generator],
        num_candidates: int = 1,
        sampling: Sampling = Sampling(),
        gives: Gives = "motion",
        min_steps: int = 1,
        max_steps: int = 49,
        known: Sequence[Sequence[int]] | None = None,
        constrained: bool = True,
        skip: int = 0,
    ) -> list[list[list[int]]]:
        """Answers as token ids, `num_candidates` for each instruction: [prompt][candidate][token].

        Constrained answers are motions of min_steps to max_steps steps, or words, by construction. Unconstrained ones
        are whatever the model says, of at most as many tokens; they may be malformed, for the caller to count. `known`
        gives for each prompt the codes of a motion of which only those that are HIDDEN are to be said.

        All chance is drawn from `generator` before: candidate c meets the same chance for every prompt, whatever other
        prompts and however many candidates are asked for. With a generator for each prompt each meets its own. `skip`
        leaves out so many of the first candidates, which have been made before.
        """
        if not instructions:
            return []
        rounds = self.rounds(
            instructions,
            generator=generator,
            num_candidates=num_candidates,
            sampling=sampling,
            gives=gives,
            min_steps=min_steps,
            max_steps=max_steps,
            known=known,
            constrained=constrained,
            skip=skip,
        )
        return next(rounds)

    @torch.no_grad()
    def rounds(
        self,
        instructions: Sequence[Instruction | str],
        *,
        generator: torch.Generator | Sequence[torch.Generator],
        num_candidates: int = 1,
        sampling: Sampling = Sampling(),
        gives: Gives = "motion",
        min_steps: int = 1,
        max_steps: int = 49,
        known: Sequence[Sequence[int]] | None = None,
        constrained: bool = True,
        skip: int = 0,
    ) -> Iterator[list[list[list[int]]]]:
        """What `generate` gives, and for as long as is asked `num_candidates` more; instructions are read once.

        Chance goes on where the round before left it: two rounds of four are the candidates of one of eight.
        """
        if num_candidates < 1:
            raise ConfigError(f"num_candidates={num_candidates} must be at least 1 (--num-candidates)")
        if not 1 <= min_steps <= max_steps:
            raise ConfigError(f"a motion of {min_steps} to {max_steps} steps is impossible")
        was_training = self.training
        self.eval()
        guided = sampling.guidance > 1
        states, is_place = self.encode([*instructions, Instruction("")] if guided else instructions)
        self.train(was_training)
        order = torch.arange(len(instructions)).repeat_interleave(num_candidates)  # (B C,)
        rows = len(order)
        if guided:
            order = torch.cat((order, torch.full_like(order, len(instructions))))
        forced = self._forced(known, num_candidates)
        if forced is not None:
            max_tokens = forced.shape[1]
        else:
            max_tokens = self.max_text_tokens if gives == "text" else max_steps * self.vocab.codes_per_step + 2
        generators = [generator] if isinstance(generator, torch.Generator) else generator
        for each in generators:
            torch.rand(skip, max_tokens, generator=each)
        while True:
            chances = torch.cat([torch.rand(num_candidates, max_tokens, generator=each) for each in generators])
            self.eval()
            answers = self._decode(
                states[order],
                is_place[order],
                chances=chances.repeat(rows // len(chances), 1),
                sampling=sampling,
                gives=gives,
                steps=(min_steps, max_steps) if forced is None else (max_tokens, max_tokens),
                forced=forced,
                constrained=constrained,
            )
            self.train(was_training)
            yield [answers[start : start + num_candidates] for start in range(0, len(answers), num_candidates)]

    def _forced(self, known: Sequence[Sequence[int]] | None, num_candidates: int) -> Tensor | None:
        """Token ids (B C, L) that answers have to hold, and -1 where they are free."""
        if known is None:
            return None
        rows = [torch.from_numpy(self.vocab.hidden_to_ids(codes)) for codes in known]
        rows = [row.where(row != self.vocab.mask_id, -1) for row in rows]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1).repeat_interleave(num_candidates, 0)

    def _decode(
        self,
        states: Tensor,
        is_place: Tensor,
        *,
        chances: Tensor,
        sampling: Sampling,
        gives: Gives,
        steps: tuple[int, int],
        forced: Tensor | None,
        constrained: bool,
    ) -> list[list[int]]:
        """A row of tokens for each row of chances (R, L); with guidance the states' second half is the empty prompt.

        Rows that have ended are left out as soon as they are half of all.
        """
        from transformers import DynamicCache, EncoderDecoderCache

        rows, max_tokens = chances.shape
        row_of = torch.arange(rows)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        token = torch.full((rows,), self.t5.config.decoder_start_token_id, device=self.device)
        is_open = torch.ones(rows, dtype=torch.bool)  # on the CPU, as chances are
        answers: list[list[int]] = [[] for _ in range(rows)]
        ends = (
            [self.vocab.end_id]
            if constrained and gives == "motion"
            else [self.vocab.end_id, self.text_tokenizer.eos_token_id]
        )
        head = torch.cat(self._head())
        for place in range(max_tokens):
            inputs = token.repeat(2) if len(states) > rows else token
            hidden = self.t5.decoder(
                inputs_embeds=self.embed(inputs[:, None]),
                encoder_hidden_states=states,
                encoder_attention_mask=is_place,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
            if not constrained:
                allowed = torch.arange(len(head))
            elif gives == "text":
                allowed = torch.arange(self.vocab.num_text)
            else:
                allowed = self._allowed(place, steps)
            logits = self._logits(hidden, head[allowed]).float()
            if len(states) > rows:
                logits = logits[rows:] + sampling.guidance * (logits[:rows] - logits[rows:])
            token = allowed.to(self.device)[sample(logits.cpu(), sampling, chances[:, place]).to(self.device)]
            if forced is not None:
                said = forced[:, place].to(self.device)
                token = torch.where(said >= 0, said, token)
            for row, said_token, open_ in zip(row_of.tolist(), token.tolist(), is_open.tolist()):
                if open_:
                    answers[row].append(said_token)
            for end in ends:
                is_open &= token.ne(end).cpu()
            if not is_open.any():
                break
            if 2 * int(is_open.sum()) <= rows:
                kept = torch.nonzero(is_open).flatten()
                of_states = torch.cat((kept, kept + rows)) if len(states) > rows else kept
                states, is_place = states[of_states.to(self.device)], is_place[of_states.to(self.device)]
                cache.batch_select_indices(of_states.to(self.device))
                token, row_of, is_open, chances = (
                    token[kept.to(self.device)],
                    row_of[kept],
                    is_open[kept],
                    chances[kept],
                )
                forced = forced[kept] if forced is not None else None
                rows = len(kept)
        return answers

    def _allowed(self, place: int, steps: tuple[int, int]) -> Tensor:
        """Token ids that may stand at a place: start; codes of the place's group; at a step's end, the end."""
        vocab = self.vocab
        if place == 0:
            return torch.tensor([vocab.start_id])
        step, group = divmod(place - 1, vocab.codes_per_step)
        if step >= steps[1]:
            return torch.tensor([vocab.end_id])
        first = vocab.num_text + group * vocab.group_size
        codes = torch.arange(first, first + vocab.group_size)
        may_end = group == 0 and step >= steps[0]
        return torch.cat((codes, torch.tensor([vocab.end_id]))) if may_end else codes

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> Path:
        """Write config.json, t5.json, model.safetensors (weights in `dtype`) and the text tokenizer's files.

        In a half type the embedding table and the reader's matrices, most of all weights, take 8 bits each.
        """
        folder = Path(folder)
        tensors: dict[str, Tensor] = {}
        for name, tensor in self.state_dict().items():
            is_packed = dtype != torch.float32 and (name == "t5.shared.weight" or name.startswith("reader."))
            if name in self._tied_names():
                continue
            if is_packed and tensor.dim() == 2:
                tensors[name], tensors[name + SCALE] = pack_rows(tensor)
            else:
                tensors[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        write_tensors(folder / WEIGHTS, tensors)
        self.text_tokenizer.save_pretrained(str(folder / TEXT))
        if self.reader is not None:
            self.reader.tokenizer.save_pretrained(str(folder / READER_TEXT))
        write_json(folder / T5_CONFIG, self.t5.config.to_diff_dict())
        reader = config_to_json(self.reader.config) if self.reader is not None else None
        code_dim = self.adapter.vectors.shape[1] if self.adapter is not None else None
        settings = {
            "vocab": config_to_json(self.vocab),
            "max_text_tokens": self.max_text_tokens,
            "reader": reader,
            "adapter": code_dim,
            "instruction_style": self.instruction_style,
        }
        write_json(folder / CONFIG, settings)
        return folder

    def _tied_names(self) -> set[str]:
        """Tensors that are the embedding table under another name."""
        tied = {"t5.encoder.embed_tokens.weight", "t5.decoder.embed_tokens.weight"}
        return tied | {"t5.lm_head.weight"} if self.t5.lm_head.weight is self.t5.shared.weight else tied

    @staticmethod
    def from_pretrained(folder: str | Path) -> MotionLM:
        """Read what save_pretrained wrote; computed with in float32 whatever it is stored in.

        Raises CheckpointError for a file that is absent, cut short or of another model.
        """
        from transformers import T5Config, T5ForConditionalGeneration

        folder = Path(folder)
        # a model written before there was a choice is asked in our words, and maps no vectors
        settings: dict[str, Any] = {"instruction_style": "kinalign", "adapter": None} | read_json(folder / CONFIG)
        if set(settings) != {"vocab", "max_text_tokens", "reader", "adapter", "instruction_style"}:
            raise CheckpointError(f"{folder / CONFIG} has keys {sorted(settings)}; it is no language model of Kinalign")
        if settings["instruction_style"] not in get_args(Style):
            raise CheckpointError(
                f"{folder / CONFIG} has instruction_style={settings['instruction_style']!r}; this program knows "
                f"{', '.join(get_args(Style))}"
            )
        vocab = config_from_json(MotionVocab, settings["vocab"])
        t5 = T5ForConditionalGeneration(T5Config(**read_json(folder / T5_CONFIG)))
        reader = None
        if settings["reader"] is not None:
            sizes = config_from_json(ReaderConfig, settings["reader"])
            reader = Reader(sizes, read_text_tokenizer(folder / READER_TEXT), t5.config.d_model)
        text_tokenizer = read_text_tokenizer(folder / TEXT)
        adapter = None
        if settings["adapter"] is not None:
            adapter = CodeAdapter(torch.ones(vocab.num_codes, settings["adapter"]), t5.config.d_model)
        model = MotionLM(
            t5,
            vocab,
            text_tokenizer,
            max_text_tokens=settings["max_text_tokens"],
            reader=reader,
            adapter=adapter,
            instruction_style=settings["instruction_style"],
        )
        model.load(unpack_rows(read_tensors(folder / WEIGHTS)), origin=str(folder / WEIGHTS))
        return model.eval()

    def load(self, tensors: Mapping[str, Tensor], *, origin: str) -> None:
        """Load weights of the same names; with `t5.lm_head.weight` among them the head is a table of its own.

        Raises CheckpointError that names `origin` and what differs.
        """
        if "t5.lm_head.weight" in tensors:
            # T5Config always says that the head is tied
            self.t5.config.tie_word_embeddings = False
            self.t5.lm_head.weight = nn.Parameter(self.t5.lm_head.weight.detach().clone())
        load_strictly(self, tensors, origin=origin, tied=self._tied_names())
        self.t5.tie_weights()


def is_motion_lm(folder: str | Path) -> bool:
    """Whether a folder is one that MotionLM.save_pretrained wrote."""
    return (Path(folder) / CONFIG).is_file() and (Path(folder) / T5_CONFIG).is_file()


def read_text_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The text tokenizer of a folder; raises CheckpointError."""
    from transformers import AutoTokenizer

    if not folder.is_dir():
        raise CheckpointError(f"{folder} is absent; it holds a text tokenizer")
    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise CheckpointError(f"{folder} cannot be read ({error}); it is cut short or incomplete") from error


def sample(logits: Tensor, sampling: Sampling, chances: Tensor) -> Tensor:
    """Places (R,) in logits (R, A), by temperature and nucleus (Holtzman et al. 2020), for chances (R,) in [0, 1)."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    ranked, places = probabilities.sort(dim=-1, descending=True)
    # a token stays while those before it have less than top_p together, so the likeliest always stays
    ranked = ranked * (ranked.cumsum(-1) - ranked < sampling.top_p)
    if sampling.top_k is not None:
        ranked[:, sampling.top_k :] = 0
    reached = ranked.cumsum(-1)
    # a chance below 1 stays below the last of them, in float32 too
    chosen = (reached <= chances[:, None] * reached[:, -1:]).sum(-1, keepdim=True)
    return places.gather(-1, chosen).squeeze(-1)
