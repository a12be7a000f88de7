"""Held-out prompts share nothing with those that are trained on, and the demo prompts say what their programs are."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from kinalign.errors import ConfigError, DataError, EvaluationError, PromptError
from kinalign.evaluation.eventsets import (
    DEMOS,
    EventPrompts,
    demo_prompts,
    held_out_prompts,
    own_prompts,
    standard_prompts,
)
from kinalign.events.parse import parse
from kinalign.judge.prompts import GRAMMAR, EventPrompt, grammar_prompts, is_held_out
from kinalign.judge.rubric import SUB_TASKS
from kinalign.judge.signs import sign_of

SETS = {"held out": held_out_prompts(40), "demo": demo_prompts()}


def combination(prompt: EventPrompt) -> tuple[tuple[str, str], ...]:
    """The actions of a prompt, each with its count, whatever their order."""
    return tuple(sorted((event.action, str(event.count)) for event in prompt.program.events))


@pytest.mark.parametrize("name", SETS)
def test_no_wording_and_no_combination_of_events_is_in_the_train_split(name: str) -> None:
    words = json.loads(GRAMMAR.read_text(encoding="utf-8"))["held_out"]
    trained: list[EventPrompt] = []
    for events in (2, 3):
        for seed in (0, 1):
            trained += grammar_prompts(SUB_TASKS, 120, events=events, seed=seed)
    texts, combinations = {prompt.prompt for prompt in trained}, set(map(combination, trained))
    for prompt in SETS[name]:
        assert prompt.prompt not in texts and combination(prompt) not in combinations
        # and in no other train prompt: the law by which the splits are made
        assert is_held_out(prompt.program), prompt.prompt
        text = f" {prompt.prompt.lower().replace(',', ' ').replace('.', ' ')} "
        assert any(f" {word} " in text for word in words), prompt.prompt


def test_held_out_prompts_are_balanced_and_repeatable() -> None:
    prompts = held_out_prompts(40)
    assert prompts == SETS["held out"] and prompts != held_out_prompts(40, seed=1)
    sizes = Counter((prompt.task, len(prompt.program.events)) for prompt in prompts)
    assert sizes == {
        ("integrity", 2): 20, ("integrity", 3): 20, ("temporal", 2): 20, ("temporal", 3): 20, ("frequency", 1): 40
    }  # fmt: skip
    assert len({prompt.id for prompt in prompts}) == len({prompt.prompt for prompt in prompts}) == 120


def test_every_demo_prompt_is_read_as_its_program() -> None:
    rows = [json.loads(line) for line in DEMOS.read_text(encoding="utf-8").splitlines()]
    prompts = demo_prompts()
    assert len(rows) == len(prompts) == 60
    assert Counter(prompt.task for prompt in prompts) == dict.fromkeys(SUB_TASKS, 20)
    for row, prompt in zip(rows, prompts):
        assert parse(prompt.prompt) == prompt.program and prompt.program.to_json() == row["program"]
        assert all(sign_of(event) for event in prompt.program.events), "joints show every event"


def test_temporal_demo_prompts_come_in_pairs_of_the_same_events_in_two_orders() -> None:
    temporal = [prompt for prompt in demo_prompts() if prompt.task == "temporal"]
    for one, other in zip(temporal[::2], temporal[1::2]):
        assert one.program != other.program
        assert sorted(map(repr, one.program.events)) == sorted(map(repr, other.program.events))
        assert all(len(step) == 1 for step in one.program.steps)


def test_counted_demo_prompts_count_one_event_and_integrity_ones_name_three() -> None:
    for prompt in demo_prompts():
        counts = [event.count for event in prompt.program.events]
        if prompt.task == "frequency":
            assert len(counts) == 1 and isinstance(counts[0], int)
        elif prompt.task == "integrity":
            assert counts == [None] * 3


def test_groups_are_sets_sub_tasks_and_numbers_of_events() -> None:
    prompts = standard_prompts(4)
    assert {name: len(places) for name, places in prompts.groups.items()} == {
        "all": 12, "integrity": 4, "temporal": 4, "frequency": 4, "1 event": 4, "2 events": 4, "3 events": 4,
        "demo": 60, "demo integrity": 20, "demo temporal": 20, "demo frequency": 20,
    }  # fmt: skip
    three = [prompts.all[place] for place in prompts.groups["3 events"]]
    assert all(len(prompt.program.events) == 3 for prompt in three)
    assert [prompts.all[place].task for place in prompts.groups["demo temporal"]] == ["temporal"] * 20


def test_sets_are_the_same_after_writing_and_reading() -> None:
    prompts = standard_prompts(2)
    again = EventPrompts.from_json(json.loads(json.dumps(prompts.to_json())))
    assert again == prompts and again.sha256 == prompts.sha256 != standard_prompts(2, seed=1).sha256
    with pytest.raises(DataError, match="no prompt"):
        EventPrompts.from_json({"all": [{"prompt": "a person walks"}]})


def test_prompts_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("a person jumps twice\n\na man walks, then sits down\n", encoding="utf-8")
    assert [prompt.task for prompt in own_prompts(path).all] == ["frequency", "temporal"]
    path.write_text("hm\n", encoding="utf-8")
    with pytest.raises(PromptError, match="line 1"):
        own_prompts(path)
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(PromptError, match="no prompt"):
        own_prompts(path)


def test_no_prompt_and_two_of_one_name_are_refused() -> None:
    with pytest.raises(EvaluationError, match="no prompt"):
        EventPrompts({"all": []})
    demo = demo_prompts()
    with pytest.raises(EvaluationError, match="two prompts"):
        EventPrompts({"all": demo, "demo": demo})
    with pytest.raises(ConfigError, match="prompts=0"):
        held_out_prompts(0)
