"""What was asked of a language model, what it answered and what it cost, on disk: nothing is paid for twice.

An answer is a file named by the hash of all that determines it. Every call is a line in spending.jsonl before it goes
out and another after it: a call that a kill or a cut connection left open counts with the most that it can have cost.
Several threads and, except on Windows, several programs may share one folder.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from kinalign.errors import BudgetError, CheckpointError, KinalignError
from kinalign.run import read_json, write_json

if sys.platform != "win32":
    import fcntl

LEDGER = 0
"""The byte of the lock file that stands for spending.jsonl; answers have bytes of their own, by their hash."""
WAIT_S = 0.02
"""Between two looks at a lock that another program holds."""


@dataclass
class Recordings:
    """The answers in a folder, and the ledger beside them."""

    folder: Path
    _settled_usd: float = 0.0
    _open_usd: dict[str, float] = field(default_factory=dict)
    _read_bytes: int = 0

    @property
    def _ledger_path(self) -> Path:
        return self.folder / "spending.jsonl"

    def path_of(self, key: str) -> Path:
        return self.folder / "answers" / key[:2] / f"{key}.json"

    def find(self, key: str) -> dict[str, Any] | None:
        """The recorded answer, or None; a file that was cut short is as good as none, with a warning."""
        path = self.path_of(key)
        if not path.exists():
            return None
        try:
            return read_json(path)
        except CheckpointError as error:
            warnings.warn(f"{error}; its question counts as not yet answered", stacklevel=2)
            return None

    def keep(self, key: str, record: Mapping[str, Any]) -> None:
        write_json(self.path_of(key), record)

    @contextmanager
    def alone_with(self, key: str) -> Iterator[None]:
        """Nobody else asks the question of that key meanwhile: neither another thread nor another program."""
        with _alone(self.folder, 1 + int(key[:12], 16)):
            yield

    def served_model(self, asked: str, served: str | None = None) -> str | None:
        """The model name by which the endpoint first answered for `asked`; the first `served` that is told stays."""
        path = self.folder / "models.json"
        with _alone(self.folder, LEDGER) if served else _nobody_else():
            names = read_json(path) if path.exists() else {}
            if served and asked not in names:
                write_json(path, names | {asked: served})
            return names.get(asked, served)

    def open_call(self, at_most_usd: float, *, budget_usd: float | None) -> str:
        """Enter a call that is to go out and return its number; raises BudgetError where it could exceed the budget."""
        with _alone(self.folder, LEDGER):
            self._read_ledger()
            left_open = sum(self._open_usd.values())
            spent = self._settled_usd + left_open
            # a millionth of a dollar more or less is rounding
            if budget_usd is not None and spent + at_most_usd > budget_usd + 1e-6:
                raise BudgetError(
                    f"${spent:.4f} of the budget of ${budget_usd:.4f} are spent in {self.folder}"
                    f"{f' (${left_open:.4f} of it for calls without an answer yet)' if left_open else ''}, and the "
                    f"next call may cost ${at_most_usd:.4f}; all answers so far are kept: run the same again with a "
                    "larger budget (budget_usd) to go on"
                )
            call = secrets.token_hex(6)
            self._write_line({"call": call, "at_most_usd": at_most_usd})
            return call

    def close_call(self, call: str, usd: float) -> None:
        """Enter what a call has cost: 0 for one that was not answered and is not charged."""
        with _alone(self.folder, LEDGER):
            self._write_line({"call": call, "usd": usd})

    def _write_line(self, entry: Mapping[str, Any]) -> None:
        path = self._ledger_path
        line = json.dumps(entry).encode() + b"\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read() != b"\n":  # cut short by a full disk or a power failure
                        line = b"\n" + line
                file.write(line)
        except OSError as error:
            raise KinalignError(f"cannot write {path} ({error.strerror}); no call goes out without it") from error

    def _read_ledger(self) -> None:
        """Take in the lines that were added since the last time, by this program or by others."""
        if not self._ledger_path.exists():
            return
        with self._ledger_path.open("rb") as file:
            file.seek(self._read_bytes)
            added = file.read()
        added = added[: added.rfind(b"\n") + 1]
        self._read_bytes += len(added)
        for line in added.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # a line that was cut short
                continue
            if "usd" in entry:
                self._settled_usd += entry["usd"]
                self._open_usd.pop(entry["call"], None)
            else:
                self._open_usd[entry["call"]] = entry["at_most_usd"]


_held: set[tuple[Path, int]] = set()
_released = threading.Condition()


@contextmanager
def _nobody_else() -> Iterator[None]:
    yield


@contextmanager
def _alone(folder: Path, byte: int) -> Iterator[None]:
    """Hold one byte of a folder's lock file, which stands for one thing; the system frees it when a program dies."""
    held = (folder.resolve(), byte)
    with _released:
        while held in _held:
            _released.wait()
        _held.add(held)
    try:
        if sys.platform == "win32":
            yield
            return
        descriptor = _lock_file(held[0])
        while not _try_lock(descriptor, byte):
            time.sleep(WAIT_S)
        try:
            yield
        finally:
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, byte)
    finally:
        with _released:
            _held.remove(held)
            _released.notify_all()


@cache
def _lock_file(folder: Path) -> int:
    """The open lock file of a folder. It is never closed: closing it once would free all locks of this program."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise KinalignError(
            f"cannot write {folder} ({error.strerror}); choose a folder that you may write to"
        ) from error


def _try_lock(descriptor: int, byte: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True
