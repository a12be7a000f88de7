"""The reader: a small pretrained BERT in front of T5's encoder, for what no caption of a motion data set can teach.

A few hundred captions hold a few hundred words. The reader has read the language before, with a tokenizer and a table
of words of its own: it gives each word of an instruction what it means in its sentence, so that "a boy sprints off" and
"somebody tears down the road" look alike to the layers behind it. It is made from the MiniLM package (all-MiniLM-L6-v2,
Apache-2.0) at training time and saved with the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class ReaderConfig:
    """Sizes of a reader; MiniLM's where nothing is said."""

    width: int = 384
    feed_forward_width: int = 1536
    layers: int = 6
    heads: int = 12
    max_tokens: int = 64
    """Places that it knows."""


class Reader(nn.Module):
    """Tokens (B, L) of its tokenizer to vectors (B, L, D) of words in their sentence; its word table never learns."""

    def __init__(self, config: ReaderConfig, tokenizer: PreTrainedTokenizerBase, width: int) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        self.config, self.tokenizer = config, tokenizer
        bert = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            intermediate_size=config.feed_forward_width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.max_tokens,
        )
        self.bert = BertModel(bert, add_pooling_layer=False)
        self.bert.embeddings.word_embeddings.requires_grad_(False)
        self.narrow = nn.Linear(config.width, width)
        self.known: dict[tuple[int, ...], Tensor] = {}
        """What BERT makes (L, D) of texts that it shall remember, by their tokens."""

    def forward(self, token_ids: Tensor, is_token: Tensor) -> Tensor:
        return self.narrow(self.read(token_ids, is_token))

    def read(self, token_ids: Tensor, is_token: Tensor) -> Tensor:
        """The same at BERT's own width, without a graph where BERT is frozen, and from memory where all are known."""
        if self.known:
            found = [self.known.get(text) for text in _texts(token_ids, is_token)]
            known = [vectors for vectors in found if vectors is not None]
            if len(known) == len(found):
                return nn.utils.rnn.pad_sequence(known, batch_first=True)
        learns = any(weight.requires_grad for weight in self.bert.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
            return self.bert(input_ids=token_ids, attention_mask=is_token).last_hidden_state

    @torch.no_grad()
    def remember(self, token_ids: Tensor, is_token: Tensor) -> None:
        """Read texts now, and never again: only for as long as BERT's weights stay as they are."""
        read = self.bert(input_ids=token_ids, attention_mask=is_token).last_hidden_state
        self.known |= {text: row[: len(text)] for text, row in zip(_texts(token_ids, is_token), read)}

    def freeze(self) -> None:
        """Keep what was read before; only `narrow` learns on."""
        self.bert.requires_grad_(False)


def _texts(token_ids: Tensor, is_token: Tensor) -> list[tuple[int, ...]]:
    """Rows of tokens without their padding."""
    return [tuple(row[:length]) for row, length in zip(token_ids.tolist(), is_token.sum(1).tolist())]
