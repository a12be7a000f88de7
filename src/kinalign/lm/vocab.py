"""Motion codes in the vocabulary of a language model: an offset, then start, end and mask. Strict both ways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinalign.errors import ConfigError, InvalidCodes

HIDDEN = -1
"""Stands in a row of codes where the motion is hidden."""


@dataclass(frozen=True)
class MotionVocab:
    """Token ids: text in [0, num_text), codes in [num_text, num_text + num_codes), then start, end, mask.

    The published MotionGPT weights have num_text 32,100 and num_codes 512. With more than one code per step, place i of
    a row speaks codes of group i mod codes_per_step only.

    >>> MotionVocab(num_text=100, num_codes=8).codes_to_ids([0, 7]).tolist()
    [108, 100, 107, 109]
    """

    num_text: int
    num_codes: int
    codes_per_step: int = 1

    def __post_init__(self) -> None:
        if self.num_text < 1 or self.num_codes < 2 or self.codes_per_step < 1 or self.num_codes % self.codes_per_step:
            raise ConfigError(
                f"a vocabulary of {self.num_text} words and {self.num_codes} codes in {self.codes_per_step} groups "
                "cannot be; num_codes must be a multiple of codes_per_step"
            )

    @property
    def start_id(self) -> int:
        return self.num_text + self.num_codes

    @property
    def end_id(self) -> int:
        return self.start_id + 1

    @property
    def mask_id(self) -> int:
        return self.start_id + 2

    @property
    def size(self) -> int:
        return self.start_id + 3

    @property
    def group_size(self) -> int:
        return self.num_codes // self.codes_per_step

    def codes_to_ids(self, codes: ArrayLike) -> NDArray[np.int64]:
        """Token ids (N + 2,) of a row of codes (N,): start, codes, end.

        Raises InvalidCodes for what `ids_to_codes` would not give back: no codes, or one out of range.
        """
        row = _integers(codes)
        self._check(row)
        return np.concatenate(([self.start_id], row + self.num_text, [self.end_id]))

    def hidden_to_ids(self, codes: ArrayLike) -> NDArray[np.int64]:
        """The same for a row in which HIDDEN codes are told by the mask id, one for one, as MotionGPT does.

        Raises InvalidCodes for codes that are no motion where they are told, and for a row that is hidden altogether.
        """
        row = _integers(codes)
        self._check(row, hidden=row == HIDDEN)
        return np.concatenate(
            ([self.start_id], np.where(row == HIDDEN, self.mask_id, row + self.num_text), [self.end_id])
        )

    def ids_to_codes(self, token_ids: ArrayLike) -> NDArray[np.int64]:
        """Codes (N,) between the start id that opens `token_ids` and the first end id; what follows it is ignored.

        Raises InvalidCodes when the start or the end is missing, when nothing is between them, and for a text token, a
        mask or a code of another group: an answer that is no motion is counted by the caller, never mended.
        """
        ids = _integers(token_ids)
        if len(ids) == 0 or ids[0] != self.start_id:
            raise InvalidCodes(
                f"a motion begins with token {self.start_id}; this answer begins with {ids[:1].tolist()}"
            )
        ends = np.flatnonzero(ids == self.end_id)
        if len(ends) == 0:
            raise InvalidCodes(f"a motion ends with token {self.end_id}; this answer of {len(ids)} tokens has none")
        codes = ids[1 : ends[0]] - self.num_text
        self._check(codes)
        return codes

    def _check(self, codes: NDArray[np.int64], *, hidden: NDArray[np.bool_] | None = None) -> None:
        if len(codes) == 0 or len(codes) % self.codes_per_step:
            raise InvalidCodes(f"{len(codes)} codes are no whole number of steps of {self.codes_per_step}, 1 at least")
        group = np.arange(len(codes)) % self.codes_per_step
        wrong = (codes < group * self.group_size) | (codes >= (group + 1) * self.group_size)
        if hidden is not None:
            wrong &= ~hidden
            if hidden.all():
                raise InvalidCodes(f"all {len(codes)} codes are hidden: there is nothing to go by")
        if wrong.any():
            place = int(np.argmax(wrong))
            low = int(group[place]) * self.group_size
            raise InvalidCodes(f"code {codes[place]} at place {place} is outside [{low}, {low + self.group_size})")


def _integers(row: ArrayLike) -> NDArray[np.int64]:
    """A row of integers as it is: rounding a fraction would mend an answer."""
    values = np.asarray(row)
    if values.ndim != 1 or not (len(values) == 0 or np.issubdtype(values.dtype, np.integer)):
        raise InvalidCodes(f"codes and token ids are one row of integers; these are {values.dtype} of {values.shape}")
    return values.astype(np.int64)
