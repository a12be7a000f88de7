"""Codes in the vocabulary of a language model: strict both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinalign.errors import ConfigError, InvalidCodes
from kinalign.lm.vocab import MotionVocab

ONE = MotionVocab(num_text=100, num_codes=8)
TWO = MotionVocab(num_text=100, num_codes=8, codes_per_step=2)
START, END, MASK = 108, 109, 110


def test_ids_stand_where_the_published_weights_have_them() -> None:
    vocab = MotionVocab(num_text=32100, num_codes=512)
    assert vocab.codes_to_ids([0, 511]).tolist() == [32612, 32100, 32611, 32613]
    assert (vocab.start_id, vocab.end_id, vocab.mask_id, vocab.size) == (32612, 32613, 32614, 32615)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=60))
def test_codes_come_back(codes: list[int]) -> None:
    assert ONE.ids_to_codes(ONE.codes_to_ids(codes)).tolist() == codes


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(4, 7)), min_size=1, max_size=30))
def test_steps_of_two_codes_come_back(steps: list[tuple[int, int]]) -> None:
    codes = [code for step in steps for code in step]
    assert TWO.ids_to_codes(TWO.codes_to_ids(codes)).tolist() == codes


@given(st.lists(st.integers(95, 115), max_size=12), st.sampled_from([ONE, TWO]))
def test_an_answer_is_refused_or_says_exactly_its_codes(ids: list[int], vocab: MotionVocab) -> None:
    try:
        codes = vocab.ids_to_codes(ids)
    except InvalidCodes:
        return
    assert vocab.codes_to_ids(codes).tolist() == ids[: ids.index(END) + 1]


def test_what_follows_the_end_is_ignored() -> None:
    assert ONE.ids_to_codes([START, 103, END, 5, MASK, START, END]).tolist() == [3]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], r"begins with token 108; this answer begins with \[\]"),
        ([103, END], r"begins with token 108; this answer begins with \[103\]"),
        ([START], "ends with token 109; this answer of 1 tokens has none"),
        ([START, 103, 104], "ends with token 109; this answer of 3 tokens has none"),
        ([START, END], "0 codes are no whole number of steps"),
        ([START, 99, END], r"code -1 at place 0 is outside \[0, 8\)"),
        ([START, 103, MASK, END], r"code 10 at place 1 is outside \[0, 8\)"),
        ([START, 103, START, 103, END], r"code 8 at place 1 is outside \[0, 8\)"),
        ([START, 111, END], "code 11 at place 0"),
        ([[START, 103, END]], "one row of integers"),
        (START, "one row of integers"),
        ([108.0, 103.0, 109.0], "one row of integers; these are float64"),
        ([108.0, float("nan"), 109.0], "one row of integers"),
        (["<motion_id_3>"], "one row of integers"),
    ],
)
def test_a_malformed_answer_is_refused_with_its_reason(ids: Any, message: str) -> None:
    with pytest.raises(InvalidCodes, match=message):
        ONE.ids_to_codes(ids)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([], "0 codes are no whole number of steps of 2"),
        ([0], "1 codes are no whole number of steps of 2"),
        ([0, 4, 1], "3 codes are no whole number"),
        ([4, 0], r"code 4 at place 0 is outside \[0, 4\)"),
        ([0, 4, 1, 3], r"code 3 at place 3 is outside \[4, 8\)"),
        ([0, 8], "code 8 at place 1"),
        ([-1, 4], "code -1 at place 0"),
        ([0.0, 4.0], "one row of integers"),
    ],
)
def test_codes_that_no_motion_gives_are_refused(codes: Any, message: str) -> None:
    with pytest.raises(InvalidCodes, match=message):
        TWO.codes_to_ids(codes)
    with pytest.raises(InvalidCodes):
        TWO.ids_to_codes([START, *(np.asarray(codes) + 100).tolist(), END])


@pytest.mark.parametrize("sizes", [(0, 8, 1), (100, 1, 1), (100, 8, 0), (100, 8, 3)])
def test_an_impossible_vocabulary_is_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="cannot be"):
        MotionVocab(*sizes)
