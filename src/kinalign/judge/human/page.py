"""The page on which people label: a server on this machine alone, for one session, with the players of render/.

It listens on 127.0.0.1. Every address starts with a random token, and a request that another site's page sends is
refused: by its Host, its Origin, or a content type that no form can send.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from kinalign.errors import KinalignError, LabelError
from kinalign.judge.human.labels import DEGREES
from kinalign.judge.human.questions import ScoreQuestion
from kinalign.judge.human.session import Session
from kinalign.judge.rubric import RUBRICS
from kinalign.render.player import asset, fill_page, json_for_html, player_page

HOST = "127.0.0.1"
MAX_REQUEST_BYTES = 10_000
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


class LabelServer(ThreadingHTTPServer):
    """Serves one session at `address`, until `shutdown`. Raises LabelError where the port is taken."""

    daemon_threads = True
    allow_reuse_address = False

    def __init__(self, session: Session, *, port: int = 0) -> None:
        self.session = session
        self.token = secrets.token_urlsafe(16)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise LabelError(f"port {port} cannot be used ({error}); leave out --port for a free one") from error

    @property
    def origin(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}"

    @property
    def address(self) -> str:
        return f"{self.origin}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        # a browser that leaves in mid-answer is no error
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(session: Session, *, port: int = 0) -> Iterator[tuple[LabelServer, Thread]]:
    """The page of a session, and the thread that serves it, for as long as the block lasts."""
    with LabelServer(session, port=port) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield server, thread
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: LabelServer
    timeout = 30

    def do_GET(self) -> None:
        what = self._asked_for()
        if what == "":
            self._send(_page(self.server.session), "text/html")
        elif what == "state":
            self._send_json(_state(self.server.session))
        elif what and what.startswith("player/"):
            self._send_player(what.removeprefix("player/"))
        elif what is not None:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")

    def do_POST(self) -> None:
        what = self._asked_for()
        if what is None:
            return
        if self.headers.get("Content-Type") != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "an answer is JSON")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_REQUEST_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"an answer has at most {MAX_REQUEST_BYTES} bytes")
            return
        try:
            answer = json.loads(self.rfile.read(int(length)))
            _take(self.server.session, what, answer)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, f"this is no answer ({type(error).__name__}: {error})")
        except KinalignError as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))
        else:
            self._send_json(_state(self.server.session))

    def _asked_for(self) -> str | None:
        """The path after the token; None, and answered, where the request is none of this page's own."""
        own = self.server.origin.removeprefix("http://")
        if self.headers.get("Host") != own or self.headers.get("Origin", self.server.origin) != self.server.origin:
            self._refuse(HTTPStatus.FORBIDDEN, "this page answers to itself alone")
            return None
        _, token, *rest = f"{self.path}/".split("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            self._refuse(HTTPStatus.FORBIDDEN, "open the whole address that kinalign judge label printed")
            return None
        return "/".join(rest).rstrip("/")

    def _send_player(self, place: str) -> None:
        session = self.server.session
        if not place.isdecimal() or int(place) >= len(session.questions):
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such question")
            return
        try:
            page = player_page(session.motions(int(place)), title="")
        except KinalignError as error:
            self._send(f"These motions cannot be shown: {error}".encode("utf-8", "replace"), "text/plain")
        else:
            self._send(page, "text/html")

    def _send_json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send_json({"error": why}, status)

    def _send(self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(content)),
            "Content-Security-Policy": POLICY,
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the terminal is the user's."""


def _take(session: Session, what: str, answer: dict[str, Any]) -> None:
    """Give an answer of the page to the session; the page says left and right, which the session knows as samples."""
    if what == "choose":
        side = None if answer["better"] is None else ("left", "right").index(answer["better"])
        place = answer["place"]
        session.choose(place, None if side is None else session.sides(place)[side], answer.get("degree", ""))
    elif what == "score":
        session.score(answer["place"], answer["score"])
    elif what == "undo":
        session.undo()
    else:
        raise LabelError("this is no answer that the page gives")


def _state(session: Session) -> dict[str, Any]:
    """What is asked next, and how far it is."""
    place = session.place
    state: dict[str, Any] = {"place": place, "answered": session.num_answered, "total": len(session.questions)}
    if place is not None:
        question = session.questions[place]
        state["prompt"] = question.prompt
        if isinstance(question, ScoreQuestion):
            state |= {"task": question.task, "rubric": RUBRICS[question.task]}
    return state


def _page(session: Session) -> bytes:
    known = {"degrees": DEGREES, "user": session.file.user, "file": session.file.path.name}
    script = asset("frame.js") + asset("label.js")
    page = fill_page("label", title="Kinalign: labelling", labelling=json_for_html(known), script=script)
    return page.encode("utf-8", errors="replace")
