"""The planning corpus: what holds of every scene in it, and of the rows that are made of them."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations, pairwise

import pytest

from kinalign.errors import PlanError
from kinalign.planning.consistency import DOWN, GOING
from kinalign.planning.corpus import MOST_PAST, Row, WrittenScene, WrittenTask, load_scenes, rows
from kinalign.planning.plan import Scene, Step, Task
from kinalign.planning.repertoire import abilities
from kinalign.planning.tasks import KINDS, PLANNING_TASKS

SURE = 0.7
"""Share of right motions of a step that a plan may use often."""
SMALL_WORDS = frozenset(
    "a an the of and to in on at is are for with by from his her its he she it they their who that as into up off out "
    "over be one somebody someone has gets".split()
)


@pytest.fixture(scope="module")
def scenes() -> tuple[WrittenScene, ...]:
    return load_scenes()


@pytest.fixture(scope="module")
def some_rows(scenes: tuple[WrittenScene, ...]) -> list[Row]:
    return rows(scenes[:10])


def tasks_of(scenes: tuple[WrittenScene, ...]) -> list[WrittenTask]:
    return [task for scene in scenes for task in scene.tasks]


def wordings_of(scene: WrittenScene) -> list[str]:
    return [*scene.wordings, *(wording for task in scene.tasks for wording in task.wordings)]


def first_action(step: Step) -> str:
    return step.program.events[0].action


def content(texts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(word for text in texts for word in re.findall(r"[a-z]+", text.lower())) - SMALL_WORDS


def alike(some: frozenset[str], others: frozenset[str]) -> float:
    return len(some & others) / max(1, len(some | others))


def test_there_are_scenes_enough_to_learn_from(scenes: tuple[WrittenScene, ...]) -> None:
    assert len(scenes) >= 150
    assert all(5 <= len(scene.tasks) <= 8 for scene in scenes)


def test_scenes_and_tasks_are_said_in_three_short_ways(scenes: tuple[WrittenScene, ...]) -> None:
    for scene in scenes:
        assert len(scene.wordings) == 3 and all(len(wording.split()) <= 20 for wording in scene.wordings), scene
        for task in scene.tasks:
            assert len(task.wordings) == 3 and all(len(wording.split()) <= 15 for wording in task.wordings), task
        for wording in wordings_of(scene):
            assert wording[0].isupper() and wording[-1] in ".!?" and wording == wording.strip(), wording


def test_no_two_wordings_of_the_corpus_are_the_same(scenes: tuple[WrittenScene, ...]) -> None:
    said = Counter(wording.lower() for scene in scenes for wording in wordings_of(scene))
    assert [wording for wording, times in said.items() if times > 1] == []


def test_no_scene_is_another_one_with_some_words_exchanged(scenes: tuple[WrittenScene, ...]) -> None:
    words = [(scene.wordings[0], content(scene.wordings)) for scene in scenes]
    assert [(one, other) for (one, a), (other, b) in combinations(words, 2) if alike(a, b) > 0.3] == []
    tasks = [(scene, content(task.wordings)) for scene in scenes for task in scene.tasks]
    same = [(a, b) for (one, a), (other, b) in combinations(tasks, 2) if one is not other and alike(a, b) > 0.5]
    assert same == []


def test_every_task_is_done_in_two_ways_of_two_to_five_steps(scenes: tuple[WrittenScene, ...]) -> None:
    for task in tasks_of(scenes):
        assert len(task.ways) == 2 and task.ways[0] != task.ways[1], task.wordings
        assert all(2 <= len(way) <= 5 for way in task.ways), task.wordings
        assert all(one != following for way in task.ways for one, following in pairwise(way)), task.wordings


def test_steps_that_the_model_does_less_surely_are_at_most_one_in_eight(scenes: tuple[WrittenScene, ...]) -> None:
    right = {row.prompt: row.right for row in abilities().values()}
    shares = [right[step.text] for task in tasks_of(scenes) for way in task.ways for step in way]
    assert sum(share < SURE for share in shares) <= len(shares) / 8


def test_almost_every_ability_is_in_some_plan(scenes: tuple[WrittenScene, ...]) -> None:
    used = {step.text for task in tasks_of(scenes) for way in task.ways for step in way}
    assert len(used) >= 0.9 * len(abilities())


def test_who_sits_or_lies_ends_the_task_and_walks_off_in_the_next(scenes: tuple[WrittenScene, ...]) -> None:
    for scene in scenes:
        for task in scene.tasks:
            for way in task.ways:
                assert not any(first_action(step) in DOWN for step in way[:-1]), task.wordings
        for before, after in pairwise(scene.tasks):
            if any(first_action(way[-1]) in DOWN for way in before.ways):
                assert all(first_action(way[0]) in GOING for way in after.ways), after.wordings


def test_about_one_scene_in_six_is_held_out_with_all_its_wordings(scenes: tuple[WrittenScene, ...]) -> None:
    held_out, train = load_scenes("test"), load_scenes("train")
    assert len(held_out) + len(train) == len(scenes)
    assert 1 / 9 < len(held_out) / len(scenes) < 1 / 4.5
    seen = {wording.lower() for scene in train for wording in wordings_of(scene)}
    assert not [wording for scene in held_out for wording in wordings_of(scene) if wording.lower() in seen]


def test_a_step_that_the_model_cannot_do_is_refused() -> None:
    task = {"task": ["She plays a waltz."], "steps": [["walks forward", "plays the violin"]]}
    with pytest.raises(PlanError, match="'plays the violin'"):
        WrittenScene.from_json({"scene": ["A violinist plays at a wedding."], "tasks": [task]})


def test_rows_are_thousands_of_all_eight_planning_tasks_and_all_different() -> None:
    made = rows(load_scenes("train")[:60])
    kinds = Counter(row.request.kind for row in made)
    assert set(kinds) == set(PLANNING_TASKS)
    assert min(kinds.values()) > 1500
    said = [(row.request, row.answer) for row in made[:2000]]
    assert all(one != other for one, other in pairwise(sorted(map(repr, said))))


def test_an_answer_is_of_its_kind_and_of_its_own_scene(some_rows: list[Row]) -> None:
    for row in some_rows:
        match KINDS[row.request.kind].gives, row.answer:
            case "scene", Scene(text):
                assert text in row.scene.wordings
            case "task", Task(text, ()):
                assert any(text in task.wordings for task in row.scene.tasks)
            case "steps", tuple():
                assert any(row.answer in task.ways for task in row.scene.tasks)
            case _:
                pytest.fail(f"{row.request.kind} is answered by {row.answer}")


def test_the_next_task_is_the_one_after_the_last_of_the_past(some_rows: list[Row]) -> None:
    lengths = set()
    for row in some_rows:
        if row.request.kind == "ct2t" and isinstance(row.answer, Task):
            places = {wording: at for at, task in enumerate(row.scene.tasks) for wording in task.wordings}
            past = [places[task.text] for task in row.request.tasks]
            next_place = places[row.answer.text]
            assert [*past, next_place] == list(range(next_place - len(past), next_place + 1))
            assert past or next_place == 0
            lengths.add(len(past))
    assert lengths == set(range(MOST_PAST + 1))


def test_the_steps_of_a_task_are_ways_to_do_it_and_both_occur(some_rows: list[Row]) -> None:
    ways = {wording: task.ways for row in some_rows for task in row.scene.tasks for wording in task.wordings}
    found: dict[str, set[tuple[Step, ...]]] = {}
    for row in some_rows:
        if row.request.kind == "t2s" and isinstance(row.answer, tuple):
            assert row.answer in ways[row.request.tasks[0].text]
            found.setdefault(row.request.tasks[0].text, set()).add(row.answer)
    assert sum(len(answers) == 2 for answers in found.values()) > 0.8 * len(found)


def test_rows_depend_on_the_seed_alone_and_not_on_other_scenes(scenes: tuple[WrittenScene, ...]) -> None:
    assert rows(scenes[3:5], seed=1)[-20:] == rows(scenes[4:5], seed=1)[-20:]
    assert rows(scenes[4:5], seed=1) != rows(scenes[4:5], seed=2)
