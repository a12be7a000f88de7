"""Questions to a language model, asked again with what is wrong where an answer cannot be used, up to three times.

The client records every answer, wrong ones too: the same question ends the same way again, and costs nothing then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kinalign.errors import KinalignError, PlanError
from kinalign.judge.client import Answer, ChatClient, ChatSettings, Message, Request
from kinalign.run import config_from_json, read_json

if TYPE_CHECKING:
    from kinalign.judge.forms import Form

V = TypeVar("V")

NUM_TRIES = 3
SCENE_WORDS = 20
"""Of a scene, at most, as AvatarGPT has its coarse captions written."""
ACTIVITY_WORDS = 30
"""Of a task, at most: AvatarGPT's medium captions, by its script."""
_FOR_EVER = re.compile(r"\b(\w+(?:\W+\w+){0,7})(?:\W+\1\b){2}", re.IGNORECASE)
"""Words that come three times in a row."""


@dataclass(frozen=True, eq=False)
class Question(Generic[V]):
    """What is asked, the form that answers it, and how the filled-in form is read.

    `read` raises KinalignError, which says what is wrong, for an answer that cannot be used. `about` names the question
    in errors; `vote` tells apart several answers to one question.
    """

    messages: tuple[Message, ...]
    form: type[Form]
    read: Callable[[Any], V]
    about: str
    vote: int = 0

    def once_more(self, wrong: str) -> Question[V]:
        """The question after an answer that cannot be used."""
        told = Message("user", (f"You answered, but {wrong}. Answer the same again without that mistake.",))
        return replace(self, messages=(*self.messages, told))


def chat_settings(model: str, **values: Any) -> ChatSettings:
    """Settings for a model's name, or those of a JSON file; `values` are for what the file leaves out."""
    said = read_json(model) if model.endswith(".json") else {"model": model}
    return config_from_json(ChatSettings, {**values, **said})


def insist(client: ChatClient, question: Question[V]) -> V:
    """The answer to a question. Raises PlanError where three tries give none, and what `ChatClient.ask_all` raises."""
    (outcome,) = insist_all(client, [question])
    if isinstance(outcome, PlanError):
        raise outcome
    return outcome


def insist_all(client: ChatClient, questions: Sequence[Question[V]]) -> list[V | PlanError]:
    """An answer to each question, or why three tries gave none; several are under way at a time.

    Raises what `ChatClient.ask_all` raises.
    """
    outcomes: dict[int, V | PlanError] = {}
    due = dict(enumerate(questions))
    for _ in range(NUM_TRIES):
        requests = [Request(asked.messages, asked.form, asked.vote, asked.about) for asked in due.values()]
        again: dict[int, Question[V]] = {}
        for (number, question), answer in zip(due.items(), client.ask_all(requests)):
            try:
                outcomes[number] = question.read(_filled_in(answer))
            except KinalignError as error:
                outcomes[number] = PlanError(
                    f"{client.settings.model} gave no usable answer to {question.about!r} in {NUM_TRIES} tries; the "
                    f"last: {error}; ask another model"
                )
                again[number] = question.once_more(str(error))
        due = again
    return [outcomes[number] for number in range(len(questions))]


def _filled_in(answer: Answer[Any]) -> Form:
    if answer.value is None:
        raise PlanError(answer.reason)
    form: Form = answer.value
    return form


def checked(text: str, what: str, *, words: int) -> str:
    """A model's sentence with white space trimmed; raises PlanError where it says nothing, too much, or no end."""
    text = " ".join(text.split())
    if not re.search("[A-Za-z]", text):
        raise PlanError(f"{what} {text[:80]!r} says nothing in English")
    if len(text.split()) > words:
        raise PlanError(f"{what} of {len(text.split())} words is too long, at most {words}: {text[:80]!r}")
    if repeated := _FOR_EVER.search(text):
        raise PlanError(f"{what} repeats {repeated[1]!r}: {text[:80]!r}")
    return text
