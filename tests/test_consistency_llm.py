"""A language model says which answers of a planner are plausible: each is asked about once, and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_endpoint import FakeEndpoint, parts_of

from kinalign.errors import EvaluationError
from kinalign.judge.client import KEY_VARIABLE, ChatClient, ChatSettings
from kinalign.planning.consistency_llm import QUESTIONS, Plausibility, estimate, plausibility
from kinalign.planning.corpus import load_scenes, rows
from kinalign.planning.plan import Scene
from kinalign.planning.tasks import PLANNING_TASKS, Request


@pytest.fixture()
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChatSettings:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    return ChatSettings(model="sage", cache=tmp_path / "answers", concurrency=1)


def likes_walks(body: dict[str, Any]) -> dict[str, str]:
    """Plausible is to it what walks."""
    question = parts_of(body)[0][1].splitlines()
    said = json.dumps(json.loads(question[2])["answer"])
    return {"reason": said[:40], "answer": "yes" if "walk" in said else "no"}


def test_each_answer_is_asked_about_once_in_the_words_of_its_task(settings: ChatSettings) -> None:
    asked = [(row.request, row.answer) for row in rows(load_scenes("test"))[:400]]
    asked = [next(pair for pair in asked if pair[0].kind == kind) for kind in PLANNING_TASKS]
    with FakeEndpoint(answer=likes_walks) as endpoint:
        client = ChatClient(ChatSettings(**{**vars(settings), "base_url": endpoint.url}))
        scores = plausibility(asked, client)
        assert plausibility(asked, client) == scores
    assert len(endpoint.answered) == 8 == estimate(asked, client).num_calls
    said = [parts_of(body)[0][1].splitlines() for body in endpoint.requests]
    assert [lines[0] for lines in said] == [QUESTIONS[kind] for kind in PLANNING_TASKS]
    answers = [json.loads(lines[2])["answer"] for lines in said]
    assert [scores[kind].plausible for kind in PLANNING_TASKS] == ["walk" in json.dumps(answer) for answer in answers]


def test_refusals_count_against_a_planner_and_unread_verdicts_for_neither(settings: ChatSettings) -> None:
    def asked(*scenes: str | None) -> list[tuple[Request, Scene | None]]:
        request = Request("s2c", steps=load_scenes("test")[0].tasks[0].ways[0])
        return [(request, None if text is None else Scene(text)) for text in scenes]

    with FakeEndpoint(fault=lambda n: "prose" if n == 2 else "", answer=likes_walks) as endpoint:
        client = ChatClient(ChatSettings(**{**vars(settings), "base_url": endpoint.url}))
        scores = plausibility(asked("a walk", "a hall", None, "a wood"), client)
    assert scores == {"s2c": Plausibility(asked=4, plausible=1, invalid=1)}
    assert scores["s2c"].share == pytest.approx(1 / 3)
    with pytest.raises(EvaluationError, match="of 2 answers none was judged"):
        _ = Plausibility(2, 0, 2).share
