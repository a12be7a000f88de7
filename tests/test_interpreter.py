"""What prompts ask for in whatever words: parts in order, numbers, held-out writers, and folders that do not fit."""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from pathlib import Path

import pytest
import torch

from kinalign.errors import CheckpointError, PromptError
from kinalign.events.parse import parse
from kinalign.lm.interpreter import OTHER, SEVERAL, Interpreter, number_in, parts_of
from kinalign.lm.reader import Reader, ReaderConfig
from kinalign.lm.text import plain_tokenizer
from kinalign.pipeline import TextToMotion, shipped_model
from kinalign.recipes.interpreter import (
    HELD_OUT,
    Wording,
    page,
    taught,
    wordings,
)
from kinalign.run import read_json, write_json

PROMPTS = Path(__file__).parents[1] / "src" / "kinalign" / "recipes" / "gallery_prompts.json"
DEMO = Path(__file__).parents[1] / "src" / "kinalign" / "evaluation" / "demo_prompts.jsonl"


@pytest.fixture(scope="module")
def model() -> TextToMotion:
    return TextToMotion.from_pretrained()


@pytest.fixture(scope="module")
def interpreter(model: TextToMotion) -> Interpreter:
    assert model.interpreter is not None
    return model.interpreter


def small_reader(layers: int = 6, width: int = 24) -> Reader:
    torch.manual_seed(0)
    words = "a man the has seat takes bolts off away he she runs sits down and then bows".split()
    config = ReaderConfig(width=width, feed_forward_width=32, layers=layers, heads=2, max_tokens=32)
    return Reader(config, plain_tokenizer(words), 16).eval()


# parts and numbers


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("she bows", ["she bows"]),
        ("Do this. After that, do that; do more", ["Do this", "do that", "do more"]),
        ("before he sits, he waves", ["he waves", "he sits"]),
        ("he waves before sitting down", ["he waves", "sitting down"]),
        ("he sits after a bow", ["a bow", "he sits"]),
        ("after a bow, he sits", ["a bow", "he sits"]),
        ("once he is up he runs", ["he is up he runs"]),
        ("he hops once and sits", ["he hops once", "sits"]),
        ("round and round, again and again", ["round and round", "again and again"]),
        ("turns around and lies down", ["turns around", "lies down"]),
        ("two jabs followed by a kick", ["two jabs", "a kick"]),
        (" , and . ", []),
    ],
)
def test_parts_come_in_the_order_in_which_they_happen(text: str, parts: list[str]) -> None:
    assert parts_of(text) == parts


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("three hops", 3),
        ("twice", 2),
        ("for 4 seconds", None),
        ("a 90 degrees turn", None),
        ("two for six seconds", 2),
        ("one, two, three", None),
        ("hop", None),
        ("0 times", None),
    ],
)
def test_a_number_counts_unless_it_measures(text: str, number: int | None) -> None:
    assert number_in(text) == number


# the shipped one


@pytest.mark.slow
def test_a_writer_of_whom_nothing_was_learned_is_understood_as_the_card_says(interpreter: Interpreter) -> None:
    card, measured = (shipped_model() / "interpreter" / "README.md").read_text(encoding="utf-8"), page(interpreter)
    said, found = ([float(number) for number in re.findall(r"\d+\.\d\d", text)] for text in (card, measured))
    assert found == pytest.approx(said, abs=0.011)
    rules, by_it, rules_of_several, by_it_of_several = (found[start : start + 3] for start in range(0, 12, 3))
    assert by_it[0] > 0.8 > 0.4 > rules[0] and by_it[1] > 0.75
    assert by_it_of_several[0] > 1.8 * rules_of_several[0]
    assert int(re.search(r"in\s+(\d+) by it", measured)[1]) < 18  # type: ignore[index]


def test_no_sentence_that_is_learned_comes_near_to_a_held_out_prompt_of_the_gallery() -> None:
    gallery = [row["prompt"].lower() for row in read_json(PROMPTS)["gallery"] if row["wording"] == "held-out"]
    learned = [row.text.lower() for row in wordings() if row.writer not in HELD_OUT]
    assert len(gallery) == 20 and len(learned) > 4000
    assert not [prompt for prompt in gallery if get_close_matches(prompt, learned, 1, 0.7)]


def test_what_rules_read_well_is_read_as_by_rules(interpreter: Interpreter) -> None:
    prompts = [json.loads(line)["prompt"] for line in DEMO.read_text(encoding="utf-8").splitlines()]
    assert len(prompts) == 60
    for prompt in prompts:
        assert [event.action for event in interpreter(prompt).events] == [
            event.action for event in parse(prompt).events
        ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a person jogs for 4 seconds", [("jog", "", None)]),
        ("the toddler has a seat", [("sit", "", None)]),
        ("the boxer lands a single uppercut with his left", [("punch", "left", 1)]),
        ("she rises from her stool, then gives a round of applause", [("stand_up", "", None), ("clap", "", None)]),
        ("a person leans to the left", [("lean", "", None)]),
    ],
)
def test_whatever_the_words_the_event_is_the_same(
    interpreter: Interpreter, text: str, said: list[tuple[str, str, int | None]]
) -> None:
    assert [(event.action, event.side, event.count) for event in interpreter(text).events] == said


@pytest.mark.parametrize("text", ["", "?!", "the sky is blue", "x" * 3000])
def test_what_asks_for_nothing_is_an_error_that_says_so(interpreter: Interpreter, text: str) -> None:
    with pytest.raises(PromptError, match=r"say|names nothing|no English"):
        interpreter(text)


def test_a_model_without_one_reads_by_rules(model: TextToMotion) -> None:
    bare = TextToMotion(model.lm, model.tokenizer)
    assert bare.program_of("a man jumps twice") == parse("a man jumps twice")
    with pytest.raises(PromptError):
        bare.program_of("the toddler has a nap")


# teaching and folders


def test_a_few_sentences_are_learned_and_come_back(tmp_path: Path) -> None:
    reader = small_reader()
    rows = [
        Wording("", "sit", "", "", None, text)
        for text in ("a man has a seat", "he takes a seat", "the man takes the seat")
    ] + [Wording("", "run", "", "", None, text) for text in ("he bolts", "she bolts off", "the man bolts away")]
    rows += [Wording("", SEVERAL, "", "", None, "he sits down and then bows"), Wording("", OTHER, "", "", None, "off")]
    made = taught(reader, rows)
    assert [reading.action for reading in made.readings([row.text for row in rows])] == [row.action for row in rows]
    again = Interpreter.from_pretrained(made.save_pretrained(tmp_path), reader)
    assert [event.action for event in again("the man bolts off").events] == ["run"]
    assert again.config == made.config


def test_a_folder_that_does_not_fit_is_named(interpreter: Interpreter, tmp_path: Path) -> None:
    folder = interpreter.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"6 layers, this has 2"):
        Interpreter.from_pretrained(folder, small_reader(layers=2))
    with pytest.raises(CheckpointError, match=r"does not fit this reader"):
        Interpreter.from_pretrained(folder, small_reader())
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"actions": config["actions"][1:]})
    with pytest.raises(CheckpointError, match=r"does not fit .* action"):
        Interpreter.from_pretrained(folder, interpreter.reader)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError):
        Interpreter.from_pretrained(folder, interpreter.reader)
