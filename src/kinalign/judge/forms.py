"""What a language model fills in, as pydantic models; needs the extra "judge".

Every field is required and no other is allowed, which strict structured output asks for; "not said" is null or "".
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from kinalign.judge.rubric import Seen


class Form(BaseModel):
    """Base of all forms."""

    model_config = ConfigDict(extra="forbid", strict=True)


class SeenEvent(Form):
    """What was seen of one event; frames are the numbers that stand before the pictures."""

    event: int
    seen: Seen
    from_frame: int | None
    to_frame: int | None
    count: int | None
    reason: str


class SeenMotion(Form):
    """What was seen of a motion, and its score."""

    events: list[SeenEvent]
    order_is_right: bool | None
    reason: str
    score: Literal[1, 2, 3, 4, 5]


class ToldEvent(Form):
    """One event of a sentence."""

    action: str
    side: str
    direction: str
    count: int | Literal["several"] | None
    part: str
    style: str


class ToldProgram(Form):
    """The events of a sentence in steps; those of one step happen at the same time."""

    steps: list[list[ToldEvent]]


class ToldSentence(Form):
    """What somebody shall do, in one sentence."""

    sentence: str


class ChatMessage(BaseModel):
    content: str | None = None
    refusal: str | None = None


class ChatChoice(BaseModel):
    message: ChatMessage
    finish_reason: str | None = None


class ChatUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int


class ChatCompletion(BaseModel):
    """What is needed of the body of an answer of /chat/completions; servers add much, and leave usage out at times."""

    model: str
    choices: list[ChatChoice]
    usage: ChatUsage | None = None
