"""Prompts in the words of a language model, as AToM has them written: only those that still mean the same are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from kinalign.errors import KinalignError
from kinalign.events.parse import parse
from kinalign.events.program import EventProgram
from kinalign.judge.client import ChatClient, ChatSettings, Message, Request
from kinalign.judge.prompts import EventPrompt, meaning
from kinalign.run import config_from_json, progress, read_json

TASK = """You say what a person's motion shall be, for a program that makes motions from sentences.

You are given the events as steps in order of time (those of one step happen at the same time) and a plain sentence \
that says them. Say the same in one fluent English sentence of your own, of at most 40 words. Keep every event and its \
side, direction and count, in this order, and add no event. Answer with one JSON object with the key "sentence"."""


def writer_of(path: Path) -> ChatClient:
    """A client for the language model whose settings (ChatSettings) a JSON file holds."""
    return ChatClient(config_from_json(ChatSettings, read_json(path)))


def reworded(
    prompts: Sequence[EventPrompt], writer: ChatClient, *, check: Callable[[str], object]
) -> list[EventPrompt]:
    """The prompts in the writer's words; in their own where it gives none that are new and read as the same program.

    `check` raises KinalignError for a sentence that cannot be used. Answers are recorded: the same prompts cost once.
    Raises what `ChatClient.ask_all` raises.
    """
    from kinalign.judge.forms import ToldSentence

    requests = [Request(_messages(prompt), ToldSentence, about=prompt.prompt) for prompt in prompts]
    said = {prompt.prompt for prompt in prompts}
    written: list[EventPrompt] = []
    with progress("wording", total=len(prompts)) as advance:
        for prompt, answer in zip(prompts, writer.ask_all(requests)):
            text = " ".join(answer.value.sentence.split()) if answer.value else ""
            program = _program(text, check)
            if program is not None and text not in said and meaning(program) == meaning(prompt.program):
                said.add(text)
                prompt = replace(prompt, prompt=text, program=program)
            written.append(prompt)
            advance()
    return written


def _program(text: str, check: Callable[[str], object]) -> EventProgram | None:
    """What a sentence means, or None where it means nothing or cannot be used."""
    try:
        check(text)
        return parse(text)
    except KinalignError:
        return None


def _messages(prompt: EventPrompt) -> tuple[Message, ...]:
    asked = {"steps": prompt.program.to_json(), "sentence": prompt.prompt}
    return Message("system", (TASK,)), Message("user", (json.dumps(asked, ensure_ascii=False),))
