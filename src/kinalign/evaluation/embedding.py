"""What numbers are read off: an encoder of sentences and motions, and its answers, checked.

Any network will do that puts a sentence and the motion it tells of near each other. Numbers of two do not compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import EvaluationError
from kinalign.motion.motion import Motion

Vectors = NDArray[np.float32]


class Encoder(Protocol):
    """Sentences and motions as vectors (N, D) of one space, compared by distance; ours are unit vectors."""

    def encode_text(self, captions: list[str], /) -> Vectors: ...

    def encode_motion(self, motions: list[Motion], /) -> Vectors: ...


@runtime_checkable
class WordEncoder(Protocol):
    """An encoder that also gives vectors (L, W) of the words of each sentence."""

    def encode_words(self, captions: list[str], /) -> list[Vectors]: ...


class Embeddings:
    """Answers of an encoder, each sentence asked once. Raises EvaluationError for NaN and for other shapes."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._of_text: dict[str, Vectors] = {}

    def texts(self, captions: Sequence[str]) -> Vectors:
        """A row (N, D) for each sentence."""
        new = sorted(set(captions) - self._of_text.keys())
        if new:
            self._of_text |= dict(zip(new, _checked(self.encoder.encode_text(new), new, "caption")))
        return np.stack([self._of_text[caption] for caption in captions])

    def motions(self, motions: Sequence[Motion]) -> Vectors:
        """A row (N, D) for each motion."""
        return _checked(self.encoder.encode_motion(list(motions)), [motion.caption for motion in motions], "motion of")


def _checked(vectors: Vectors, names: Sequence[str], what: str) -> Vectors:
    if vectors.ndim != 2 or len(vectors) != len(names):
        raise EvaluationError(
            f"the encoder gave embeddings of shape {vectors.shape} for {len(names)}; it must give one row for each"
        )
    is_bad = ~np.isfinite(vectors).all(axis=1)
    if is_bad.any():
        raise EvaluationError(
            f"the encoder gave NaN or infinity for {is_bad.sum()} of {len(vectors)}, first for the {what} "
            f"{names[int(is_bad.argmax())]!r}: its weights are damaged (--encoder)"
        )
    return vectors
