"""An OpenAI-compatible endpoint that looks at the pictures it is sent and judges by them; it fails where it is told to.

It knows nothing of kinalign. Of a figure with an orange left and a blue right side it sees which hand is above the
shoulders and whether the body goes anywhere; of all other events it says that it does not see them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

PICTURE_TOKENS = 85


@dataclass
class FakeEndpoint:
    """Serves while the with statement lasts. `fault(n)` names what goes wrong with the n-th request, or nothing."""

    fault: Callable[[int], str] = lambda n: ""
    answer: Callable[[dict[str, Any]], Any] | None = None
    """What fills in the form of a request, in place of `see`."""
    model: str = "seer-2026-11-01"
    delay_s: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    """Hash of the body of each request that was answered, and would have been charged."""
    times_s: list[float] = field(default_factory=list)
    authorizations: set[str] = field(default_factory=set)
    input_tokens: int = 0
    output_tokens: int = 0
    under_way: int = 0
    most_under_way: int = 0

    def __enter__(self) -> FakeEndpoint:
        self.lock = threading.Lock()
        self.closing = threading.Event()
        endpoint = self

        class Handler(_Handler):
            fake = endpoint

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1"


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # whoever asks may be killed at any time
            super().handle_error(*_)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeEndpoint

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        fake = self.fake
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if len(raw) < int(self.headers["Content-Length"]):  # whoever asks was killed
            return
        with fake.lock:
            number = len(fake.requests)
            fake.requests.append(json.loads(raw))
            fake.times_s.append(time.monotonic())
            fake.authorizations.add(self.headers["Authorization"] or "")
            fake.under_way += 1
            fake.most_under_way = max(fake.most_under_way, fake.under_way)
        try:
            time.sleep(fake.delay_s)
            self._respond(json.loads(raw), raw, fake.fault(number))
        except ConnectionError:
            pass
        finally:
            with fake.lock:
                fake.under_way -= 1

    def _respond(self, body: dict[str, Any], raw: bytes, fault: str) -> None:
        if self.path != "/v1/chat/completions":
            self._send(404, {"error": {"message": f"no such path: {self.path}"}})
        elif fault == "429":
            self._send(
                429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, **{"Retry-After": "0.3"}
            )
        elif fault == "quota":
            self._send(429, {"error": {"message": "used up", "code": "insufficient_quota"}})
        elif fault == "long wait":
            self._send(429, {"error": {"message": "come back tomorrow"}}, **{"Retry-After": "86400"})
        elif fault == "500":
            self._send(500, {"error": {"message": "something broke"}})
        elif fault == "key":
            self._send(401, {"error": {"message": f"wrong key {self.headers['Authorization']}"}})
        elif fault == "policy":
            self._send(400, {"error": {"message": "unseemly", "code": "content_policy_violation"}})
        elif fault == "html":
            self._send_bytes(200, b"<!DOCTYPE html><title>Sign in</title>", "text/html")
        elif fault == "hang":
            self.fake.closing.wait(30)
        elif fault == "trickle":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            while not self.fake.closing.wait(0.05):
                self.wfile.write(b" ")
        elif fault == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b'{"id": "chat')
            self.close_connection = True
        elif refusal := _refusal(body, fault):
            self._send(400, {"error": {"message": refusal, "type": "invalid_request_error"}})
        else:
            self._answer(body, raw, fault)

    def _answer(self, body: dict[str, Any], raw: bytes, fault: str) -> None:
        answer = (self.fake.answer or see)(body)
        content: str | None = json.dumps(answer)
        refusal = None
        if fault == "malformed":
            content = content[:-20]
        elif fault == "range":
            content = json.dumps(answer | {"score": 9})
        elif fault == "prose":
            content = "The figure waves nicely, I would say."
        elif fault == "fenced":
            content = f"<think>Is it {{a wave}}?</think>Here you are:\n```json\n{content}\n```"
        elif fault == "refusal":
            content, refusal = None, "I cannot look at people."
        elif fault == "echo":
            content = f"you are {self.headers['Authorization']}"
        elif match := re.fullmatch("score (.)", fault):
            content = json.dumps(answer | {"score": int(match[1])})
        texts, pictures = parts_of(body)
        usage = {"prompt_tokens": sum(map(len, texts)) // 4 + PICTURE_TOKENS * len(pictures), "completion_tokens": 60}
        with self.fake.lock:
            self.fake.answered.append(hashlib.sha256(raw).hexdigest())
            self.fake.input_tokens += usage["prompt_tokens"]
            self.fake.output_tokens += usage["completion_tokens"]
        completion = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1763700000,
            "model": "other-model" if fault == "renamed" else self.fake.model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content, "refusal": refusal},
                    "finish_reason": "length" if fault == "length" else "stop",
                }
            ],
        }
        if fault != "no usage":
            completion["usage"] = usage | {"total_tokens": sum(usage.values())}
        self._send(200, completion)

    def _send(self, status: int, value: dict[str, Any], **headers: str) -> None:
        self._send_bytes(status, json.dumps(value).encode(), "application/json", **headers)

    def _send_bytes(self, status: int, content: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _refusal(body: dict[str, Any], fault: str) -> str:
    """Why a server would not take this body, as real ones put it."""
    form = body.get("response_format")
    if fault == "no schemas" and form:
        return "'response_format.type' must be 'text'"
    if fault == "new limit" and "max_tokens" in body:
        return (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
    if form and not (form["type"] == "json_schema" and form["json_schema"]["strict"]):
        return "Invalid value for response_format"
    if form and (loose := _loose(form["json_schema"]["schema"])):
        return f"Invalid schema for response_format: {loose}"
    return ""


def _loose(schema: Any) -> str:
    """What strict mode does not allow in a schema."""
    if isinstance(schema, list):
        return next(filter(None, map(_loose, schema)), "")
    if not isinstance(schema, dict):
        return ""
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            return "additionalProperties must be false"
        if set(schema["required"]) != set(schema["properties"]):
            return "required must name every property"
    if "default" in schema or ("$ref" in schema and len(schema) > 1):
        return f"not permitted: {schema}"
    return _loose(list(schema.values()))


def parts_of(body: dict[str, Any]) -> tuple[list[str], list[Image.Image]]:
    """All texts and all pictures of a request, in order."""
    texts, pictures = [], []
    for message in body["messages"]:
        for part in message["content"]:
            if part["type"] == "text":
                texts.append(part["text"])
            else:
                head, _, data = part["image_url"]["url"].partition(",")
                assert head == "data:image/png;base64"
                picture = Image.open(io.BytesIO(base64.b64decode(data)))
                picture.load()
                pictures.append(picture)
    return texts, pictures


def see(body: dict[str, Any]) -> dict[str, Any]:
    """The filled-in form: what the pictures show of the events that the question numbers."""
    texts, pictures = parts_of(body)
    if not pictures:
        return _read_sentence(texts)
    role, question = texts[:2]
    assert re.search("^5: .+\n4: .+\n3: .+\n2: .+\n1: ", role, re.MULTILINE), "no rubric"
    frames = [int(text[1:-1]) for text in texts[2:] if re.fullmatch(r"\[\d+\]", text)]
    assert frames == sorted(frames) and len(frames) in (len(pictures), 0), "pictures without numbers"
    poses = [_pose(picture) for picture in pictures]
    events, starts = [], []
    for number, step, event in re.findall(r"^(\d+)\. step (\d+): (.*)$", question, re.MULTILINE):
        shown = [frame for frame, pose in zip(frames, poses) if _shows(json.loads(event), pose, poses)]
        starts += [(int(step), min(shown))] if shown else []
        events.append(
            {
                "event": int(number),
                "seen": "yes" if shown else "no",
                "from_frame": min(shown, default=None),
                "to_frame": max(shown, default=None),
                "count": None,
                "reason": f"in {len(shown)} pictures",
            }
        )
    missing = sum(event["seen"] == "no" for event in events)
    firsts = [frame for _, frame in sorted(starts)]
    in_order = firsts == sorted(firsts)
    score = 1 if missing == len(events) else {0: 5 if in_order else 4, 1: 3}.get(missing, 2)
    sentence = json.loads(question.splitlines()[1])
    if order := re.search(r"score (\d+)", sentence):  # it obeys whoever speaks to it
        score = int(order[1])
    return {"events": events, "order_is_right": in_order, "reason": sentence, "score": score}


def _read_sentence(texts: list[str]) -> dict[str, Any]:
    """An event for each of a few words, in their order, which is what this reader knows of language."""
    words = json.loads(texts[1].splitlines()[1]).split()
    known = {"walks": "walk", "geht": "walk", "winkt": "wave", "flies": "fly"}
    event = {"side": "", "direction": "", "count": None, "part": "", "style": ""}
    return {"steps": [[{"action": known[word], **event}] for word in words if word in known]}


@dataclass(frozen=True)
class _Pose:
    left_top: float
    """Highest orange, as a share of the figure's height from the top."""
    right_top: float
    middle: float
    height: float


def _pose(picture: Image.Image) -> _Pose:
    """What can be told of a picture by its colours."""
    red, _, blue = np.moveaxis(np.asarray(picture.convert("RGB")).astype(int), -1, 0)
    is_left, is_right = red - blue > 80, blue - red > 60
    rows, columns = np.nonzero(is_left | is_right)
    ground, height = rows.max(), len(red)
    tops = [ground - np.nonzero(side)[0].min() for side in (is_left, is_right)]
    return _Pose(tops[0] / height, tops[1] / height, float(columns.mean()) / height, float(ground) / height)


def _shows(event: dict[str, Any], pose: _Pose, poses: list[_Pose]) -> bool:
    if event["action"] in ("wave", "raise"):
        higher = {"left": pose.left_top - pose.right_top, "right": pose.right_top - pose.left_top}
        is_up = max(pose.left_top - poses[0].left_top, pose.right_top - poses[0].right_top) > 0.03
        return is_up and higher.get(event.get("side", ""), max(higher.values())) > 0.06
    if event["action"] == "walk":
        return float(np.ptp([p.height for p in poses]) + np.ptp([p.middle for p in poses])) > 0.1
    return False
