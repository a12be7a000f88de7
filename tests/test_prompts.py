"""Prompts say what their programs are, in balance, as a body can do it, and two splits share nothing."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from kinalign.errors import ConfigError, PromptError
from kinalign.events.detect import DETECTED
from kinalign.events.parse import parse
from kinalign.judge.prompts import GRAMMAR, EventPrompt, grammar_prompts, is_held_out, read_prompts, write_prompts
from kinalign.judge.rubric import SUB_TASKS, SubTask

TRUTH = Path(__file__).parents[1] / "src/kinalign/evaluation/detector_truth.json"


@pytest.fixture(scope="module")
def prompts() -> list[EventPrompt]:
    return grammar_prompts(SUB_TASKS, 300)


def of(prompts: list[EventPrompt], task: SubTask) -> list[EventPrompt]:
    return [prompt for prompt in prompts if prompt.task == task]


def test_there_are_as_many_as_asked_for_and_no_two_are_equal(prompts: list[EventPrompt]) -> None:
    assert Counter(prompt.task for prompt in prompts) == dict.fromkeys(SUB_TASKS, 100)
    assert len({prompt.prompt for prompt in prompts}) == len({prompt.id for prompt in prompts}) == 300


def test_every_prompt_is_read_back_as_its_program(prompts: list[EventPrompt]) -> None:
    assert all(parse(prompt.prompt) == prompt.program for prompt in prompts)


def test_the_events_of_each_sub_task(prompts: list[EventPrompt]) -> None:
    for prompt in prompts:
        events = prompt.program.events
        if prompt.task == "frequency":
            assert len(events) == 1 and isinstance(events[0].count, int)
        else:
            assert len(events) == len({event.action for event in events}) == 3
            assert all(event.count is None for event in events)
    assert all(len(prompt.program.steps) == 3 for prompt in of(prompts, "temporal"))
    steps = Counter(len(prompt.program.steps) for prompt in of(prompts, "integrity"))
    assert steps[2] > 25 and steps[3] > 25, "some events of integrity prompts happen at once"


def test_a_body_stands_up_before_it_goes_on(prompts: list[EventPrompt]) -> None:
    up = {"sit": "stand_up", "lie_down": "get_up"}
    followed = 0
    for prompt in prompts:
        steps = [step[0].action for step in prompt.program.steps]
        for before, after in pairwise(["", *steps]):
            assert after == up[before] if before in up else after not in up.values(), prompt.prompt
            followed += before in up
    assert followed > 10


def test_actions_sides_and_counts_come_about_equally_often(prompts: list[EventPrompt]) -> None:
    counted = Counter(prompt.program.events[0].action for prompt in of(prompts, "frequency"))
    assert min(counted.values()) >= 5 and max(counted.values()) <= 10
    ordered = Counter(event.action for prompt in of(prompts, "temporal") for event in prompt.program.events)
    upright = [uses for action, uses in ordered.items() if action not in ("stand_up", "get_up")]
    assert min(upright) >= 8 and max(upright) <= 18
    kicks = Counter(e.side for prompt in prompts for e in prompt.program.events if e.action == "kick")
    assert abs(kicks["left"] - kicks["right"]) <= 4


def test_temporal_prompts_have_twins_in_another_order(prompts: list[EventPrompt]) -> None:
    temporal = of(prompts, "temporal")
    twins = sum(
        a.program != b.program and sorted(map(repr, a.program.events)) == sorted(map(repr, b.program.events))
        for a, b in pairwise(temporal)
    )
    assert twins > 30


def test_the_model_was_taught_every_action_and_the_detector_reads_it() -> None:
    grammar = json.loads(GRAMMAR.read_text(encoding="utf-8"))
    actions = {row["action"] for row in grammar["events"]}
    truth = json.loads(TRUTH.read_text(encoding="utf-8"))
    taught = {event["action"] for row in truth.values() for event in row["is"]}
    assert actions <= DETECTED
    assert actions - taught == {"stand_up", "get_up"}, "what a body must do before it can go on"


def test_fewer_prompts_are_the_first_of_more(prompts: list[EventPrompt]) -> None:
    few = grammar_prompts(SUB_TASKS, 31)
    assert [prompt.task for prompt in few].count("integrity") == 11
    assert all(of(prompts, task)[: len(of(few, task))] == of(few, task) for task in SUB_TASKS)
    assert grammar_prompts(SUB_TASKS, 31, seed=1) != few
    assert grammar_prompts(["frequency", "frequency"], 4) == of(prompts, "frequency")[:4]


def test_two_splits_share_neither_combinations_nor_words(prompts: list[EventPrompt]) -> None:
    held_out = grammar_prompts(SUB_TASKS, 120, split="eval")

    def combinations(some: list[EventPrompt]) -> set[tuple[object, ...]]:
        return {tuple(sorted((e.action, str(e.count)) for e in prompt.program.events)) for prompt in some}

    assert not combinations(prompts) & combinations(held_out)
    assert not any(is_held_out(prompt.program) for prompt in prompts)
    assert {p.program.events[0].action for p in of(held_out, "frequency")} == {
        p.program.events[0].action for p in of(prompts, "frequency")
    }, "each action is counted in both"
    words = json.loads(GRAMMAR.read_text(encoding="utf-8"))["held_out"]

    def holds(prompt: EventPrompt) -> bool:
        text = f" {prompt.prompt.lower().replace(',', ' ').replace('.', ' ')} "
        return any(f" {word} " in text for word in words)

    assert all(map(holds, held_out)) and not any(map(holds, prompts))


def test_two_events_instead_of_three() -> None:
    for prompt in grammar_prompts(["temporal", "integrity"], 20, events=2):
        assert len(prompt.program.events) == 2


@pytest.mark.parametrize(
    ("tasks", "number", "events", "message"),
    [
        (("frequency",), 100_000, 3, r"the grammar has \d+ prompts for frequency, not 100000; .*--prompts.*--file"),
        (SUB_TASKS, 2, 3, "prompts=2 is fewer than one for each of 3 sub-tasks"),
        ((), 5, 3, "--task"),
        (("temporal",), 5, 1, "events=1 must be 2 to 5"),
    ],
)
def test_what_the_grammar_cannot_say_is_one_clear_error(
    tasks: tuple[SubTask, ...], number: int, events: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        grammar_prompts(tasks, number, events=events, split="eval")


def test_prompts_of_a_file_are_read_or_taken_as_they_are(tmp_path: Path) -> None:
    lines = tmp_path / "mine.txt"
    lines.write_text("a person jumps twice\n\n  a person   jumps twice \nhe waves, then he sits\n", encoding="utf-8")
    assert [(prompt.prompt, prompt.task) for prompt in read_prompts(lines)] == [
        ("a person jumps twice", "frequency"),
        ("he waves, then he sits", "temporal"),
    ]
    rows = tmp_path / "mine.jsonl"
    row = {"prompt": "la señora salta dos veces", "program": [[{"action": "jump", "count": 2}]], "task": "integrity"}
    rows.write_text(json.dumps(row), encoding="utf-8")
    (prompt,) = read_prompts(rows)
    assert (prompt.task, prompt.program) == ("integrity", parse("a woman jumps twice"))


def test_written_prompts_are_read_again(prompts: list[EventPrompt], tmp_path: Path) -> None:
    assert read_prompts(write_prompts(tmp_path / "prompts.jsonl", prompts)) == prompts


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "a person waves\nthe blue sky\n", r"a\.txt, line 2: .*the blue sky"),
        ("a.txt", "a person jumps 0 times", "line 1"),
        ("a.txt", "a person jumps 1000 times", "line 1"),
        ("a.txt", "\n\n", "holds no prompt"),
        ("a.jsonl", '{"prompt": "a person waves"', "line 1"),
        ("a.jsonl", '["a person waves"]', 'no object with "prompt"'),
        ("a.jsonl", '{"prompt": "a person waves", "task": "beauty"}', "'beauty' is unknown"),
        ("a.jsonl", '{"prompt": "he waves", "id": "x"}\n{"prompt": "he sits", "id": "x"}', "'x' is that of two"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(PromptError, match=message):
        read_prompts(tmp_path / name)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="--file"):
        read_prompts(tmp_path / "absent.txt")
