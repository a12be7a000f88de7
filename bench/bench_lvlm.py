"""What a question to a vision-language model holds: pictures, text, bytes, and a core's time to make and send it."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is loaded

import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from kinalign.judge.lvlm import LVLMJudge
from kinalign.judge.verdict import Case
from kinalign.motion.motion import FPS
from kinalign.motion.synthetic import walking

SENTENCE = "a person walks forward, then turns left and waves twice"
LIMIT_MS_PER_FRAME = 60


class Refuses(BaseHTTPRequestHandler):
    """Takes a question, tells its bytes and answers that it is too long."""

    num_bytes = 0

    def do_POST(self) -> None:
        Refuses.num_bytes = len(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(413)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main() -> int:
    server = HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        judge = LVLMJudge("any", base_url=f"http://127.0.0.1:{server.server_port}/v1", cache=Path(folder) / "frames")
        sheets = LVLMJudge(judge.settings, look="sheet")
        judge(SENTENCE, walking(9))  # loads what is loaded once
        slowest_ms = max(measured(one, seconds) for one in (judge, sheets) for seconds in (2, 5, 10))
    server.shutdown()
    print(f"at most {slowest_ms:.0f} ms a frame (limit {LIMIT_MS_PER_FRAME})")
    return 0 if slowest_ms <= LIMIT_MS_PER_FRAME else 1


def measured(judge: LVLMJudge, seconds: int) -> float:
    """Milliseconds of a core for each frame that is drawn."""
    case = Case.of(SENTENCE, walking(int(FPS * seconds)))
    estimate = judge.estimate([case])
    start = time.process_time()
    judge.judge_all([case])
    took_ms = (time.process_time() - start) * 1e3
    print(
        f"{judge.settings.look:7}{seconds:3} s {estimate.num_pictures:4} pictures, about {estimate.text_tokens} tokens "
        f"of text, {Refuses.num_bytes / 1e6:.2f} MB, {took_ms:.0f} ms"
    )
    return took_ms / -(-len(case.motion) // judge.settings.every)


if __name__ == "__main__":
    sys.exit(main())
