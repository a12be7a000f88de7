"""The planner's networks: a reader of what texts are about, and a small T5 that answers in words or in steps.

The language model's reader was taught to tell movements from one another, and its upper layers no longer tell a harbour
from a kitchen. The planner reads with its lower layers and with upper ones of its own, MiniLM's as they were published
(all-MiniLM-L6-v2, Apache-2.0).

A word of an answer is chosen among those that the corpus held, or pointed at in the request and copied: See, Liu and
Manning, Get To The Point (2017, arXiv 1704.04368), equations 8 and 9. So a goalkeeper stays a goalkeeper, and a
falconer, of whom no scene told, a falconer.

Letters: B requests, S places of a request, L tokens of an answer, D width, W width of the reader, G tokens there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinalign.errors import ConfigError
from kinalign.lm.model import Sampling, sample
from kinalign.lm.reader import Reader
from kinalign.planning.tasks import KINDS, PLANNING_TASKS, PlanningTask

ROLES = ("scene", "tasks", "steps")
END = 0
"""The token that ends an answer; steps come after it, then the words of the reader."""
MOST_KEPT = 64
"""Texts that are remembered when nothing is said about it: those of a few requests."""
NOTHING = -100
"""Where a row is no label, and where a place of a request is no word that could be copied."""


@dataclass(frozen=True)
class PlannerConfig:
    """Sizes of the planner's networks."""

    width: int = 192
    feed_forward_width: int = 768
    encoder_layers: int = 1
    decoder_layers: int = 2
    heads: int = 4
    dropout: float = 0.1
    shared_layers: int = 2
    """Lower layers that are the language model's reader's; the others are the planner's own."""

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError(f"width={self.width} is no multiple of heads={self.heads}")


class Text(NamedTuple):
    """A text that was read."""

    vectors: Tensor
    """(L, W), of each token in its sentence."""
    token_ids: Tensor
    """(L,) in the reader's vocabulary."""

    @property
    def meaning(self) -> Tensor:
        """Unit vector (W,) of the whole text."""
        return F.normalize(self.vectors.mean(0), dim=0)

    @property
    def doing(self) -> Tensor:
        """Unit vector (W,) of what comes after the first two words, which say of whom a task is told."""
        inner = self.vectors[1:-1]
        return F.normalize((inner[2:] if len(inner) > 4 else inner).mean(0), dim=0)


class MeaningReader(nn.Module):
    """What texts are about: a reader with its upper layers replaced by the planner's own. It never learns."""

    def __init__(self, reader: Reader, shared_layers: int, *, most_kept: int = MOST_KEPT) -> None:
        super().__init__()
        from transformers import BertModel

        bert = reader.bert
        self.tokenizer, self.max_tokens = reader.tokenizer, reader.config.max_tokens
        self.bert = BertModel(bert.config, add_pooling_layer=False)
        self.bert.embeddings = bert.embeddings
        for place in range(shared_layers):
            self.bert.encoder.layer[place] = bert.encoder.layer[place]
        self.requires_grad_(False)
        self.own = nn.ModuleList(self.bert.encoder.layer[shared_layers:])
        """The layers that are the planner's."""
        self.most_kept = most_kept
        self._kept: dict[str, Text] = {}
        self.eval()

    @property
    def words(self) -> Tensor:
        """The reader's vectors (V, W) of its tokens."""
        return self.bert.embeddings.word_embeddings.weight

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> list[Text]:
        """Each text token by token, cut off where the reader knows no more places; `most_kept` are not read twice."""
        found = {text: self._kept[text] for text in texts if text in self._kept}
        new = sorted(set(texts) - found.keys(), key=lambda text: (len(text), text))
        for start in range(0, len(new), 64):
            some = new[start : start + 64]
            encoded = self.tokenizer(
                some, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
            )
            token_ids, is_token = encoded["input_ids"], encoded["attention_mask"]
            hidden = self.bert(input_ids=token_ids, attention_mask=is_token).last_hidden_state
            for text, vectors, ids, length in zip(some, hidden, token_ids, is_token.sum(1).tolist()):
                found[text] = Text(vectors[:length].clone(), ids[:length].clone())
        if len(self._kept) + len(new) > self.most_kept:
            self._kept.clear()
        self._kept |= found
        return [found[text] for text in texts]


class Told(NamedTuple):
    """A request as the network is told it."""

    kind: PlanningTask
    vectors: Tensor
    """(S, W)"""
    roles: Tensor
    """(S,) places in ROLES."""
    words: Tensor
    """(S,) the token that a place would give when copied, NOTHING where it gives none."""


class PlannerNetwork(nn.Module):
    """Requests in, answers out: T5 between maps of the reader's vectors, and a pointer at what may be copied.

    `words` (V, W) are the reader's vectors of its tokens, of which those in `spoken` may be said without being copied.
    Tokens: END, `num_steps` steps, then the reader's.
    """

    words: Tensor
    spoken: Tensor

    def __init__(self, config: PlannerConfig, *, words: Tensor, spoken: Tensor, num_steps: int) -> None:
        super().__init__()
        from transformers import T5Config, T5ForConditionalGeneration

        self.config, self.num_steps = config, num_steps
        self.register_buffer("words", words.detach() / words.std(), persistent=False)
        self.register_buffer("spoken", spoken, persistent=False)
        t5 = T5Config(
            vocab_size=1,
            eos_token_id=None,
            d_model=config.width,
            d_kv=config.width // config.heads,
            d_ff=config.feed_forward_width,
            num_layers=config.encoder_layers,
            num_decoder_layers=config.decoder_layers,
            num_heads=config.heads,
            dropout_rate=config.dropout,
            feed_forward_proj="relu",
        )
        whole = T5ForConditionalGeneration(t5)
        self.encoder, self.decoder = whole.encoder, whole.decoder
        for stack in (self.encoder, self.decoder):
            stack.embed_tokens = nn.Identity()  # type: ignore[assignment]  # both are given vectors
        reader_width, width = words.shape[1], config.width
        self.narrow = nn.Linear(reader_width, width)
        self.embed_word = nn.Linear(reader_width, width, bias=False)
        self.roles = nn.Embedding(len(ROLES), width)
        self.kinds = nn.Embedding(len(PLANNING_TASKS), width)
        self.steps = nn.Embedding(1 + num_steps, width)  # END and the steps
        self.say_word = nn.Linear(width, reader_width, bias=False)
        self.often = nn.Parameter(torch.zeros(len(spoken)))
        self.point = nn.Linear(width, width, bias=False)
        self.copies = nn.Linear(width, 1)
        nn.init.constant_(self.copies.bias, -2.0)  # most words are not copied

    @property
    def first_word(self) -> int:
        """The token of the reader's token 0."""
        return 1 + self.num_steps

    @property
    def num_tokens(self) -> int:
        return self.first_word + len(self.words)

    def encode(self, told: Sequence[Told]) -> tuple[Tensor, Tensor, Tensor]:
        """States (B, S + 1, D) of requests, which places are any (B, S + 1), and words (B, S + 1) to copy.

        The first place says what is asked.
        """
        device = self.narrow.weight.device
        kinds = torch.tensor([[PLANNING_TASKS.index(one.kind)] for one in told], device=device)

        def padded(rows: Sequence[Tensor], value: float) -> Tensor:
            return nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value).to(device)

        read = self.narrow(padded([one.vectors for one in told], 0.0))
        inputs = torch.cat((self.kinds(kinds), read + self.roles(padded([one.roles for one in told], 0))), dim=1)
        lengths = torch.tensor([1 + len(one.roles) for one in told], device=device)
        is_place = (torch.arange(inputs.shape[1], device=device) < lengths[:, None]).long()
        words = F.pad(padded([one.words for one in told], NOTHING), (1, 0), value=NOTHING)
        return self.encoder(inputs_embeds=inputs, attention_mask=is_place).last_hidden_state, is_place, words

    def embed(self, tokens: Tensor) -> Tensor:
        """Vectors (..., D) of tokens."""
        words = self.embed_word(self.words[(tokens - self.first_word).clamp(min=0)])
        steps = self.steps(tokens.clamp(min=0, max=self.num_steps))
        return torch.where((tokens >= self.first_word)[..., None], words, steps)

    def decode(self, told: Sequence[Told], states: Tensor, is_place: Tensor, before: Tensor) -> Tensor:
        """What the decoder makes (B, L + 1, D) before each next token, after tokens (B, L)."""
        kinds = torch.tensor([PLANNING_TASKS.index(one.kind) for one in told], device=states.device)
        inputs = torch.cat((self.kinds(kinds)[:, None], self.embed(before)), dim=1)
        return self.decoder(
            inputs_embeds=inputs, encoder_hidden_states=states, encoder_attention_mask=is_place, use_cache=False
        ).last_hidden_state

    def step_logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., 1 + num_steps) of END and the steps."""
        return F.linear(hidden, self.steps.weight) * self.config.width**-0.5

    def loss(self, told: Sequence[Told], answers: Sequence[Sequence[int]]) -> tuple[Tensor, int]:
        """Mean cross-entropy () of answers, tokens with END, and over how many tokens."""
        total = self.narrow.weight.new_zeros(())
        for gives_steps in (True, False):
            rows = [row for row, one in enumerate(told) if (KINDS[one.kind].gives == "steps") == gives_steps]
            if not rows:
                continue
            asked, said = [told[row] for row in rows], [torch.tensor(answers[row]) for row in rows]
            labels = nn.utils.rnn.pad_sequence(said, batch_first=True, padding_value=NOTHING).to(total.device)
            states, is_place, words = self.encode(asked)
            hidden = self.decode(asked, states, is_place, labels[:, :-1].clamp(min=0))
            if gives_steps:
                logits = self.step_logits(hidden)
                total = total + F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
            else:
                total = total - self._label_logps(hidden, states, words, labels).sum()
        number = sum(map(len, answers))
        return total / number, number

    def _label_logps(self, hidden: Tensor, states: Tensor, words: Tensor, labels: Tensor) -> Tensor:
        """Log-probabilities (B, L) of labels, of all that are tokens, 0 elsewhere: said, or copied."""
        said, pointed, copies = self._text(hidden, states, words)
        place_of = torch.full((self.num_tokens,), -1, device=labels.device)
        place_of[END] = 0
        place_of[self.first_word + self.spoken] = torch.arange(1, 1 + len(self.spoken), device=labels.device)
        places = place_of[labels.clamp(min=0)]
        own = said.gather(-1, places.clamp(min=0)[..., None])[..., 0] * (places >= 0)
        copied = (pointed * (words[:, None] == labels[..., None])).sum(-1)
        logps = (own * (1 - copies[..., 0]) + copied * copies[..., 0]).clamp(min=1e-9).log()
        return logps * (labels != NOTHING)

    def _text(self, hidden: Tensor, states: Tensor, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities (B, L, 1 + spoken) of END and words, (B, L, S) of places, and (B, L, 1) of copying at all."""
        scale = self.config.width**-0.5
        end = F.linear(hidden, self.steps.weight[:1]) * scale
        spoken = F.linear(self.say_word(hidden * scale), self.words[self.spoken]) * scale + self.often
        said = torch.cat((end, spoken), dim=-1).softmax(-1)
        scores = self.point(hidden) @ states.transpose(1, 2) * scale
        can = (words != NOTHING)[:, None]
        pointed = scores.masked_fill(~can, -1e4).softmax(-1) * can
        copies = self.copies(hidden).sigmoid() * can.any(-1, keepdim=True)
        return said, pointed, copies

    @torch.no_grad()
    def steps_after(
        self,
        told: Told,
        *,
        generator: torch.Generator,
        sampling: Sampling,
        may_follow: Tensor,
        habit: Tensor,
        fewest: int,
        most: int,
    ) -> list[int]:
        """`fewest` to `most` steps, tokens, that answer a request; `habit` (num_steps,) is added to their logits.

        `may_follow` (1 + num_steps, 1 + num_steps) says which token may stand after which; row END is the beginning.
        """
        states, is_place, _ = self.encode([told])
        tokens = torch.zeros(1, 0, dtype=torch.long)
        for place, chance in enumerate(torch.rand(most, 1, generator=generator)):
            hidden = self.decode([told], states, is_place, tokens)[:, -1]
            last = int(tokens[0, -1]) if place else END
            logits = self.step_logits(hidden) + F.pad(habit, (1, 0))
            logits = logits.masked_fill(~may_follow[last], -torch.inf)
            if place < fewest:
                logits[:, END] = -torch.inf
            chosen = sample(logits, sampling, chance)
            if int(chosen) == END:
                break
            tokens = torch.cat((tokens, chosen[:, None]), dim=1)
        return tokens[0].tolist()

    @torch.no_grad()
    def likelihoods(self, told: Told, answers: Sequence[Sequence[int]]) -> Tensor:
        """Mean log-probability (N,) of the tokens of each of N answers in words to one request."""
        number = len(answers)
        states, is_place, words = (part.expand(number, *part.shape[1:]) for part in self.encode([told]))
        labels = nn.utils.rnn.pad_sequence(
            [torch.tensor(answer) for answer in answers], batch_first=True, padding_value=NOTHING
        )
        hidden = self.decode([told] * number, states, is_place, labels[:, :-1].clamp(min=0))
        return self._label_logps(hidden, states, words, labels).sum(1) / (labels != NOTHING).sum(1)
