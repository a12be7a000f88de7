"""Questions to a language model behind any OpenAI-compatible endpoint, answered as filled-in forms.

An answer that was paid for is recorded, whatever it is: asked again, the same question costs nothing. What is no usable
answer (a refusal, no JSON, a value out of range) comes back as an Answer without a value and is never mended; where no
answer can be had, EndpointError or BudgetError ends the run, and the same run goes on later from the recordings.

The key is read from the environment by the openai package and stays there. No streaming, no tools, no conversation.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import random
import re
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from kinalign.errors import BudgetError, ConfigError, EndpointError
from kinalign.judge.recordings import Recordings
from kinalign.render.figure import Picture

if TYPE_CHECKING:
    import openai

    from kinalign.judge.forms import ChatCompletion, Form

T = TypeVar("T", bound="Form")

_ABOUT_THE_QUESTION = re.compile("content.?(filter|policy|management)|context.?length|maximum context", re.IGNORECASE)
"""In a refusal that is about one question and not about all."""

KEY_VARIABLE = "OPENAI_API_KEY"
FIRST_WAIT_S = 1.0
"""Before the second attempt, where the server does not say how long to wait; twice as long before each further one."""
LONGEST_WAIT_S = 300.0
"""A server that asks for a longer wait than this gets no further attempt."""
LOW_DETAIL_PX = 512
"""Side of a picture that OpenAI's models see in full at low detail; larger ones would be shrunk to it."""
BYTES_PER_TOKEN = 4
"""Of English text, about; a token has one byte at least, which is what budgets reckon with."""
TOKENS_PER_PART = 8
"""At most, that a server adds around each part of a message."""


@dataclass(frozen=True)
class ChatSettings:
    """Which language model is asked, and what may be spent on it."""

    model: str = "gpt-4o"
    """As the server calls it; a dated name where there is one, so that the model stays the same."""
    base_url: str | None = None
    """Of the server, up to /v1; OPENAI_BASE_URL or OpenAI's own where it is left out. The key is OPENAI_API_KEY."""
    cache: Path = Path("answers")
    """Folder for recorded answers and spending.jsonl; one for each server."""
    replay: bool = False
    """Only recorded answers: asks no server, needs no key."""
    budget_usd: float | None = None
    """Most that may be spent on what the cache folder records, all runs together; needs the prices."""
    input_usd: float | None = None
    """Price of a million input tokens in US dollars."""
    output_usd: float | None = None
    """Price of a million output tokens in US dollars."""
    tokens_per_picture: int | None = None
    """What one picture counts, by your provider's formula; needed for estimates and budgets."""
    temperature: float | None = None
    """Sampling temperature; the server's own where it is left out, which some models insist on."""
    max_tokens: int = 1500
    """Longest answer in tokens, with the reasoning of models that reason; longer ones are cut off and invalid."""
    concurrency: int = 8
    """Calls under way at the same time."""
    requests_per_minute: float | None = None
    timeout_s: float = 120.0
    """Longest wait for one answer."""
    attempts: int = 4
    """Calls for one answer, where the server is busy or fails; answers that came are never asked for again."""

    def __post_init__(self) -> None:
        for name in ("max_tokens", "concurrency", "requests_per_minute", "timeout_s", "attempts", "tokens_per_picture"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}={value} must be above 0")
        for name in ("budget_usd", "input_usd", "output_usd", "temperature"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigError(f"{name}={value} must be 0 or more")
        if self.base_url is not None:
            parts = urlsplit(self.base_url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ConfigError(
                    f"base_url={_without_secrets(self.base_url)!r} is no address of a server; it looks like "
                    "http://localhost:8000/v1"
                )
        if not self.model.strip():
            raise ConfigError("model is empty; give the name by which the server knows it")
        if self.budget_usd is not None and (self.input_usd is None or self.output_usd is None):
            raise ConfigError(
                f"budget_usd={self.budget_usd} cannot be kept without prices; give those of your provider for a "
                "million tokens (input_usd, output_usd; 0 for a server of your own)"
            )


@dataclass(frozen=True, eq=False)
class Message:
    """What is said in one role: texts and pictures (H, W, 3) uint8, in order."""

    role: Literal["system", "user"]
    parts: tuple[str | Picture, ...]


@dataclass(frozen=True, eq=False)
class Request(Generic[T]):
    """A question, the form that answers it, and which of several votes on it this is; `about` names it in errors."""

    messages: tuple[Message, ...]
    form: type[T]
    vote: int = 0
    about: str = ""


@dataclass(frozen=True)
class Answer(Generic[T]):
    """The filled-in form, or None and the reason why the answer cannot be used; what it cost now, 0 if recorded."""

    value: T | None
    reason: str = ""
    cost_usd: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """What calls need where none is recorded yet; costs are None where prices or tokens_per_picture are unknown.

    `input_usd` is without the answers, whose length nobody knows; `at_most_usd` with the longest ones, and with a token
    for every byte of text.
    """

    num_calls: int
    num_pictures: int
    text_tokens: int
    input_usd: float | None
    at_most_usd: float | None

    def __str__(self) -> str:
        what = f"{self.num_calls} calls, {self.num_pictures} pictures, about {self.text_tokens} tokens of text"
        if self.input_usd is None or self.at_most_usd is None:
            return f"{what}; cost unknown (input_usd, output_usd and tokens_per_picture tell it)"
        return (
            f"{what}: about ${self.input_usd:.4f} and the answers, ${self.at_most_usd:.4f} at most; what is recorded "
            "costs nothing"
        )


@dataclass
class Bill:
    """What a client has used so far."""

    num_paid: int = 0
    num_recorded: int = 0
    num_retried: int = 0
    num_lost: int = 0
    """Calls that were cut off or too slow: the provider may have charged for them."""
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    has_prices: bool = True

    def __str__(self) -> str:
        cost = f"${self.usd:.4f}" if self.has_prices else "cost unknown (input_usd and output_usd tell it)"
        lost = f", {self.num_lost} lost on the way that may have been charged" if self.num_lost else ""
        return (
            f"{self.num_paid} answers paid, {self.num_recorded} from recordings, {self.num_retried} calls "
            f"repeated{lost}; {self.input_tokens} tokens in, {self.output_tokens} out: {cost}"
        )


class _Failure(Exception):
    """An attempt without an answer; `wait_s` is what the server asks for, `is_lost` that it may have been charged."""

    def __init__(self, reason: str, *, wait_s: float | None = None, is_lost: bool = False) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.is_lost = is_lost


class _Unanswerable(Exception):
    """The server takes this one question for too long or unseemly; it would not charge for saying so."""


@dataclass
class _Run:
    """Questions that are asked together: the first error ends them all."""

    is_over: threading.Event = field(default_factory=threading.Event)
    ended_by: BaseException | None = None

    def end(self, error: BaseException | None = None) -> None:
        self.ended_by = self.ended_by or error
        self.is_over.set()

    def go_on_with(self, request: Request[Any]) -> None:
        """Raise what ended the run, if it has ended."""
        if self.is_over.is_set():
            raise self.ended_by or EndpointError(f"{_name_of(request)} is not asked: the run was ended")


class ChatClient:
    """Asks one model. Raises ConfigError where the openai package or the key is absent."""

    def __init__(self, settings: ChatSettings) -> None:
        try:
            import openai
            import pydantic  # noqa: F401
        except ImportError as error:
            raise ConfigError("a language model is asked through a package: pip install 'kinalign[judge]'") from error

        self.settings = settings
        self.bill = Bill(has_prices=settings.input_usd is not None and settings.output_usd is not None)
        self._recordings = Recordings(settings.cache)
        self._key = os.environ.get(KEY_VARIABLE, "")
        self._openai: openai.OpenAI | None = None
        if not settings.replay:
            if not self._key and settings.base_url is None and not os.environ.get("OPENAI_BASE_URL"):
                raise ConfigError(
                    f"the environment has no {KEY_VARIABLE}; set it, name a server that needs none (base_url), or "
                    "use recorded answers only (replay)"
                )
            # a server of one's own wants none, but the package wants a word
            self._openai = openai.OpenAI(api_key=self._key or "none", base_url=settings.base_url, max_retries=0)
            weakref.finalize(self, self._openai.close)
            self._where = _without_secrets(str(self._openai.base_url))
        self._lock = threading.Lock()
        self._calls = threading.Condition()
        self._num_open = 0
        self._next_start_s = 0.0
        self._knows_schemas = True
        self._limit_name = "max_tokens"
        self._excess = 1.0  # what calls cost, over the most that was reckoned

    def ask(self, messages: Iterable[Message], form: type[T], *, vote: int = 0, about: str = "") -> Answer[T]:
        """The one answer to a question: from the recordings, or from the server.

        Raises EndpointError where no answer can be had, BudgetError where it could cost more than is left.
        """
        return self._answer(Request(tuple(messages), form, vote, about), _Run())

    def ask_all(self, requests: Iterable[Request[T]]) -> Iterator[Answer[T]]:
        """Answers in the order of the requests, several calls at a time; requests are taken as calls become free.

        After the first error no further call goes out; those under way are waited for and recorded.
        """
        run = _Run()
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            waiting: deque[Future[Answer[T]]] = deque()
            try:
                for request in requests:
                    waiting.append(pool.submit(self._answer_or_end, request, run))
                    if len(waiting) >= 4 * self.settings.concurrency:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                run.end()
                for future in waiting:
                    future.cancel()

    def estimate(self, calls: Iterable[tuple[Sequence[str], int]], form: type[Form]) -> Estimate:
        """What calls cost that are not recorded yet, each given by its texts and its number of pictures."""
        calls = list(calls)
        num_pictures = sum(number for _, number in calls)
        text_tokens = sum(len(text.encode()) for texts, _ in calls for text in texts) // BYTES_PER_TOKEN
        per_picture = self.settings.tokens_per_picture if num_pictures else 0
        if per_picture is None or not self.bill.has_prices:
            return Estimate(len(calls), num_pictures, text_tokens, None, None)
        return Estimate(
            len(calls),
            num_pictures,
            text_tokens,
            self._usd(num_pictures * per_picture + text_tokens, 0),
            sum(self._at_most_usd(texts, number, form) for texts, number in calls),
        )

    def _answer_or_end(self, request: Request[T], run: _Run) -> Answer[T]:
        try:
            return self._answer(request, run)
        except BaseException as error:
            run.end(error)
            raise

    def _answer(self, request: Request[T], run: _Run) -> Answer[T]:
        key = self._key_of(request)
        record = self._recordings.find(key)
        is_new = False
        if record is None:
            if self.settings.replay:
                raise EndpointError(
                    f"{self.settings.cache} holds no answer of {self.settings.model} to {_name_of(request)} (answer "
                    f"{key[:12]}); run without replay to ask for it"
                )
            with self._recordings.alone_with(key):
                record = self._recordings.find(key)  # somebody else may have asked just now
                if record is None:
                    is_new = True
                    try:
                        record = self._pay(request, key, run)
                    except _Unanswerable as refusal:
                        return Answer(None, str(refusal))
        served = self._recordings.served_model(self.settings.model, record["model"] if is_new else None)
        served = served or record["model"]
        if is_new and record["model"] != served:
            raise EndpointError(
                f"{self._where} answered as model {served!r} before and as {record['model']!r} now; answers of two "
                f"models cannot be compared: name one that stays (model), or begin anew in another folder (cache)"
            )
        with self._lock:
            self.bill.num_paid += is_new
            self.bill.num_recorded += not is_new
            if is_new:
                self.bill.usd += record["usd"] or 0.0
                self.bill.input_tokens += record["input_tokens"] or 0
                self.bill.output_tokens += record["output_tokens"] or 0
        value, reason = _read(record, request.form, served=served)
        return Answer(value, reason, (record["usd"] or 0.0) if is_new else 0.0)

    def _key_of(self, request: Request[T]) -> str:
        """Hash of all that determines the answer. Of pictures the pixels count, because PNG encoders differ."""
        settings = self.settings
        return _sha256(
            {
                "model": settings.model,
                "messages": [
                    [message.role, *(part if isinstance(part, str) else _hash(part) for part in message.parts)]
                    for message in request.messages
                ],
                "form": request.form.model_json_schema(),
                "temperature": settings.temperature,
                "max_tokens": settings.max_tokens,
                "vote": request.vote,
            }
        )

    def _pay(self, request: Request[T], key: str, run: _Run) -> dict[str, Any]:
        """Ask the server, several times if need be, and record what it answers."""
        at_most_usd = self._at_most_usd(*_contents(request.messages), request.form)
        for attempt in range(1, self.settings.attempts + 1):
            self._wait_for_turn(request, run)
            call, reserved_usd = self._open_call(request, at_most_usd, run)
            cost_usd = reserved_usd  # whatever goes wrong: it may have been charged
            try:
                record = self._record(request, key, self._send(request), at_most_usd)
                self._recordings.keep(key, record)
                cost_usd = record["usd"] or 0.0
            except _Failure as failure:
                cost_usd = reserved_usd if failure.is_lost else 0.0
                with self._lock:
                    self.bill.num_lost += failure.is_lost
                    self.bill.num_retried += attempt < self.settings.attempts
                if attempt == self.settings.attempts or (failure.wait_s or 0) > LONGEST_WAIT_S:
                    raise EndpointError(
                        f"{self._where} gave no answer to {_name_of(request)} in {attempt} attempts: {failure}; all "
                        "answers so far are kept: run the same again to go on"
                    ) from None
                self._put_off(failure)
                wait_s = 0.0 if failure.wait_s is not None else FIRST_WAIT_S * 2 ** (attempt - 1)
            except (EndpointError, _Unanswerable):
                cost_usd = 0.0
                raise
            else:
                self._reckon_with(cost_usd, at_most_usd)
                return record
            finally:
                self._close_call(call, cost_usd)
            # apart, so that calls that failed together do not come back together
            run.is_over.wait(wait_s * random.uniform(0.75, 1.25))
        raise AssertionError("the last attempt returns or raises")

    def _open_call(self, request: Request[T], at_most_usd: float, run: _Run) -> tuple[str, float]:
        """Enter a call in the ledger, and what it is entered with.

        Where the budget does not allow for it, it waits for calls under way, which may cost less.
        """
        with self._calls:
            while True:
                run.go_on_with(request)
                reserved_usd = at_most_usd * self._excess
                try:
                    call = self._recordings.open_call(reserved_usd, budget_usd=self.settings.budget_usd)
                except BudgetError:
                    if not self._num_open:
                        raise
                    self._calls.wait()
                else:
                    self._num_open += 1
                    return call, reserved_usd

    def _close_call(self, call: str, usd: float) -> None:
        with self._calls:
            self._recordings.close_call(call, usd)
            self._num_open -= 1
            self._calls.notify_all()

    def _at_most_usd(self, texts: Sequence[str], num_pictures: int, form: type[Form]) -> float:
        """The most that a call can cost: every byte of text a token, and the longest answer; 0 where unknown."""
        per_picture = self.settings.tokens_per_picture if num_pictures else 0
        if per_picture is None:
            if self.settings.budget_usd is None:
                return 0.0
            raise ConfigError(
                f"budget_usd={self.settings.budget_usd} cannot be kept without the tokens that a picture counts; your "
                "provider has a formula for it (tokens_per_picture)"
            )
        # servers tell the model the schema, too
        num_bytes = sum(len(text.encode()) for text in texts) + len(json.dumps(form.model_json_schema()))
        tokens = num_bytes + TOKENS_PER_PART * (len(texts) + num_pictures + 1) + num_pictures * per_picture
        return self._usd(tokens, self.settings.max_tokens)

    def _usd(self, input_tokens: int, output_tokens: int) -> float:
        return (
            input_tokens * (self.settings.input_usd or 0.0) + output_tokens * (self.settings.output_usd or 0.0)
        ) / 1e6

    def _record(self, request: Request[T], key: str, completion: ChatCompletion, at_most_usd: float) -> dict[str, Any]:
        """What is kept of an answer; where the server does not say what it used, the most that it can be."""
        usage, choice = completion.usage, completion.choices[0]
        usd: float | None = None
        if self.bill.has_prices:
            usd = self._usd(usage.prompt_tokens, usage.completion_tokens) if usage else at_most_usd or None
        return {
            "key": key,
            "about": request.about,
            "vote": request.vote,
            "form": request.form.__name__,
            "asked_model": self.settings.model,
            "model": completion.model,
            "content": choice.message.content,
            "refusal": choice.message.refusal,
            "finish_reason": choice.finish_reason,
            "input_tokens": usage.prompt_tokens if usage else None,
            "output_tokens": usage.completion_tokens if usage else None,
            "usd": usd,
        }

    def _reckon_with(self, cost_usd: float, at_most_usd: float) -> None:
        """Learn from an answer that cost more than it can: the next ones are reckoned with as much more."""
        with self._lock:
            is_more = cost_usd > at_most_usd * self._excess > 0
            if is_more:
                self._excess = cost_usd / at_most_usd
        if is_more:
            warnings.warn(
                f"an answer cost ${cost_usd:.4f}, reckoned was ${at_most_usd:.4f} at most: tokens_per_picture="
                f"{self.settings.tokens_per_picture} is too low for {self.settings.model}, or the server does not know "
                "max_tokens; budgets reckon with more from now on",
                stacklevel=2,
            )

    def _wait_for_turn(self, request: Request[T], run: _Run) -> None:
        """Calls start at the rate that is allowed, and all wait while the server asks to."""
        per_minute = self.settings.requests_per_minute
        with self._lock:
            now_s = time.monotonic()
            start_s = max(now_s, self._next_start_s)
            self._next_start_s = start_s + (60 / per_minute if per_minute else 0)
        run.is_over.wait(start_s - now_s)
        run.go_on_with(request)

    def _put_off(self, failure: _Failure) -> None:
        """All calls wait as long as the server asks to."""
        if failure.wait_s is not None:
            with self._lock:
                self._next_start_s = max(self._next_start_s, time.monotonic() + failure.wait_s)

    def _send(self, request: Request[T]) -> ChatCompletion:
        """One call, or more where the server knows another dialect; a call that is refused for that costs nothing."""
        import httpx2
        import openai
        import pydantic

        from kinalign.judge.forms import ChatCompletion

        while True:
            body = self._body(request)
            try:
                text = self._post(body)
            except openai.APIStatusError as error:
                if not self._changes_dialect(error, body):
                    raise self._failure_of(error, request) from None
            except (openai.APIConnectionError, httpx2.HTTPError) as error:
                cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
                is_lost = not isinstance(
                    cause, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol)
                )
                if isinstance(error, openai.APITimeoutError) or isinstance(cause, httpx2.TimeoutException):
                    reason = f"no answer within {self.settings.timeout_s:g} s"
                else:
                    reason = "the connection was cut" if is_lost else "it cannot be reached"
                raise _Failure(self._clean(f"{reason} ({type(cause).__name__}: {cause})"), is_lost=is_lost) from None
            else:
                try:
                    completion = ChatCompletion.model_validate_json(text)
                except pydantic.ValidationError:
                    raise _Failure(f"its answer is no chat completion but {_excerpt(text)!r}") from None
                if not completion.choices:
                    raise _Failure(f"its answer holds no choice: {_excerpt(text)!r}")
                return completion

    def _body(self, request: Request[T]) -> dict[str, Any]:
        """What goes to the server: pictures as PNG in data addresses."""
        schema = request.form.model_json_schema()
        messages = [
            {
                "role": message.role,
                "content": [
                    {"type": "text", "text": part}
                    if isinstance(part, str)
                    else {"type": "image_url", "image_url": {"url": _data_url(part), "detail": _detail(part)}}
                    for part in message.parts
                ],
            }
            for message in request.messages
        ]
        body: dict[str, Any] = {
            "model": self.settings.model,
            "messages": messages,
            self._limit_name: self.settings.max_tokens,
        }
        if self._knows_schemas:
            form = {"name": request.form.__name__, "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        else:
            text = f"Answer with one JSON object and nothing else, by this JSON schema: {json.dumps(schema)}"
            messages[-1]["content"] = [*messages[-1]["content"], {"type": "text", "text": text}]
        if self.settings.temperature is not None:
            body["temperature"] = self.settings.temperature
        return body

    def _post(self, body: dict[str, Any]) -> str:
        """The text that the server answers with, read piece by piece so that one that trickles is too slow, too."""
        import httpx2

        assert self._openai is not None
        deadline_s = time.monotonic() + self.settings.timeout_s
        pieces = []
        with self._openai.chat.completions.with_streaming_response.create(
            **body, timeout=self.settings.timeout_s
        ) as response:
            for piece in response.iter_bytes():
                pieces.append(piece)
                if time.monotonic() > deadline_s:
                    raise httpx2.ReadTimeout("the answer trickles")
        return self._clean(b"".join(pieces).decode("utf-8", errors="replace"))

    def _changes_dialect(self, error: openai.APIStatusError, body: dict[str, Any]) -> bool:
        """Whether a refusal is about how the question is put, and is put otherwise from now on."""
        if error.status_code not in (400, 422):
            return False
        text = _all_of(error)
        if "max_completion_tokens" in text and "max_tokens" in body:
            self._limit_name = "max_completion_tokens"  # OpenAI's newer models know only this, many others only that
            return True
        if re.search("response_format|json_schema|structured output", text) and "response_format" in body:
            with self._lock:
                if self._knows_schemas:
                    warnings.warn(f"{self._where} knows no JSON schemas; it is asked in words", stacklevel=2)
                self._knows_schemas = False
            return True
        return False

    def _failure_of(self, error: openai.APIStatusError, request: Request[T]) -> Exception:
        """What a status of 4xx or 5xx means: worth another attempt, or the end of the run."""
        said = self._clean(_excerpt(_message_of(error)))
        status = error.status_code
        if status == 413 or (status in (400, 422) and _ABOUT_THE_QUESTION.search(_all_of(error))):
            return _Unanswerable(f"the server takes no such question: {said}")
        if status == 429 and "insufficient_quota" in _all_of(error):
            return EndpointError(f"{self._where}: the account is used up ({said})")
        if status in (408, 409, 425, 429) or status >= 500:
            return _Failure(f"status {status}: {said}", wait_s=_retry_after_s(error.response.headers))
        way_out = {
            401: f"set {KEY_VARIABLE} to a key of that server",
            403: f"set {KEY_VARIABLE} to a key that may use {self.settings.model!r}",
            404: f"check the address (base_url) and the model {self.settings.model!r} (model)",
        }.get(status, f"the question was {_name_of(request)}")
        return EndpointError(f"{self._where} refuses with status {status}: {said}; {way_out}")

    def _clean(self, text: str) -> str:
        """The text without the key, should a server send it back."""
        return text.replace(self._key, f"[{KEY_VARIABLE}]") if self._key else text


def _read(record: dict[str, Any], form: type[T], *, served: str) -> tuple[T | None, str]:
    """The form that an answer fills in, or None and why there is none."""
    import pydantic

    if record["model"] != served:
        return None, f"answered by model {record['model']!r}, other questions by {served!r}"
    if record["refusal"]:
        return None, f"refused: {_excerpt(record['refusal'])}"
    if record["finish_reason"] == "length":
        return None, "cut off: longer than max_tokens"
    if record["finish_reason"] == "content_filter":
        return None, "withheld by a content filter"
    # models that reason aloud do so before the answer, and many put a fence of backticks around it
    text = (record["content"] or "").rpartition("</think>")[2]
    text = text[text.find("{") : text.rfind("}") + 1]
    if not text:
        return None, f"no JSON object in {_excerpt(record['content'] or '')!r}"
    try:
        return form.model_validate_json(text), ""
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        told = f"{_excerpt(first['msg'])}, not {_excerpt(repr(first['input']))}"
        return None, f"does not fill in the form: {where + ': ' if where else ''}{told}"


def _contents(messages: Iterable[Message]) -> tuple[list[str], int]:
    """All texts, and the number of pictures."""
    parts = [part for message in messages for part in message.parts]
    texts = [part for part in parts if isinstance(part, str)]
    return texts, len(parts) - len(texts)


def _hash(picture: Picture) -> dict[str, Any]:
    return {"shape": picture.shape, "sha256": hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()}


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _data_url(picture: Picture) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _detail(picture: Picture) -> str:
    """The cheapest look that loses nothing, for servers that know of it."""
    return "low" if max(picture.shape[:2]) <= LOW_DETAIL_PX else "high"


def _name_of(request: Request[T]) -> str:
    return f"{_excerpt(request.about) or 'a question'!r}{f', vote {request.vote + 1}' if request.vote else ''}"


def _without_secrets(url: str) -> str:
    """An address without the user's name and password and without a query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _message_of(error: openai.APIStatusError) -> str:
    """What a server says of its refusal: {"error": {"message": ...}}, {"error": "..."} or any text."""
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        body = inner.get("message", inner) if isinstance(inner, dict) else inner
    return str(body) if body else error.message


def _all_of(error: openai.APIStatusError) -> str:
    """Message, codes and parameters of a refusal, to look for words in."""
    return f"{error.message} {error.body}"


def _excerpt(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 160 else f"{text[:157]}..."


def _retry_after_s(headers: Any) -> float | None:
    """Seconds that a server asks to wait; None where it does not say so as a number."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            wait_s = float(headers.get(name, "")) * unit_s
        except ValueError:
            continue
        if wait_s >= 0:
            return wait_s
    return None
