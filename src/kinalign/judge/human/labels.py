"""What people said of motions, as JSON lines: which of two is better and how much, or how well one does what it should.

A choice has InstructMotion's fields: `id`, `prompt`, `sample_1`, `sample_2` and `chosen`, a list of votes with `choice`
("sample_1", "sample_2", "skipped"), `degree of preference` and `user`; `time` and `left`, the sample that stood on the
left, are Kinalign's. A score has `id`, `prompt`, `motion`, `task`, `key` and `scores`. A line is one vote, written at
once and never changed: a later one of the same person on the same thing takes its place.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from kinalign.errors import LabelError
from kinalign.judge.rubric import SUB_TASKS, SubTask
from kinalign.motion.motion import Motion
from kinalign.run import take_lock, write_text

Sample = Literal["sample_1", "sample_2"]
Choice = Literal["sample_1", "sample_2", "skipped", "withdrawn"]

DEGREES = ("Much better", "Better", "Slightly better", "Negligibly better/unsure")
"""InstructMotion's degrees of preference, in its words; that of a skipped pair is "skipped"."""


@dataclass(frozen=True)
class Vote:
    """Which sample of a pair `user` found better, and how much; `time` is UTC in ISO 8601."""

    id: str
    prompt: str
    sample_1: Mapping[str, Any]
    sample_2: Mapping[str, Any]
    choice: Choice
    degree: str
    user: str
    time: str
    left: Sample | None = None

    def __post_init__(self) -> None:
        if self.choice not in get_args(Choice):
            raise LabelError(f"choice {self.choice!r} is none of {', '.join(get_args(Choice))}")
        if self.choice in get_args(Sample) and self.degree not in DEGREES:
            raise LabelError(f"degree {self.degree!r} is none of {', '.join(DEGREES)}")

    @property
    def about(self) -> tuple[str, ...]:
        """What was asked: labels of several people with the same one are on the same thing."""
        return ("choice", self.id, self.prompt)

    def what(self) -> tuple[str, str, Mapping[str, Any], Mapping[str, Any]]:
        """The pair."""
        return (self.id, self.prompt, self.sample_1, self.sample_2)

    @property
    def withdrawn(self) -> bool:
        return self.choice == "withdrawn"

    def to_json(self) -> dict[str, Any]:
        vote = {"choice": self.choice, "degree of preference": self.degree, "user": self.user, "time": self.time}
        return {
            "id": self.id,
            "prompt": self.prompt,
            "sample_1": dict(self.sample_1),
            "sample_2": dict(self.sample_2),
            "chosen": [{**vote, "left": self.left} if self.left else vote],
        }


@dataclass(frozen=True)
class Score:
    """What `user` gave a motion, 1 to 5 by the rubric of `task`, or None where they could not tell."""

    id: str
    prompt: str
    motion: Mapping[str, Any]
    task: SubTask
    key: str
    score: int | None
    user: str
    time: str
    withdrawn: bool = False

    def __post_init__(self) -> None:
        if self.score is not None and not (type(self.score) is int and 1 <= self.score <= 5):
            raise LabelError(f"score {self.score!r} is none of 1 to 5, and not null, which is: cannot tell")
        if self.task not in SUB_TASKS:
            raise LabelError(f"sub-task {self.task!r} is none of {', '.join(SUB_TASKS)}")

    @property
    def about(self) -> tuple[str, ...]:
        """What was asked: labels of several people with the same one are on the same thing."""
        return ("score", self.id, self.task, self.key)

    def what(self) -> tuple[str, str, Mapping[str, Any], SubTask, str]:
        """The motion, as what it was scored, and its key."""
        return (self.id, self.prompt, self.motion, self.task, self.key)

    def to_json(self) -> dict[str, Any]:
        given = {"score": self.score, "user": self.user, "time": self.time}
        return {
            "id": self.id,
            "prompt": self.prompt,
            "motion": dict(self.motion),
            "task": self.task,
            "key": self.key,
            "scores": [{**given, "withdrawn": True} if self.withdrawn else given],
        }


Label = Vote | Score


def case_key(prompt: str, motion: Motion) -> str:
    """A name for a prompt with a motion by what they are, wherever the motion is kept: joints count to 0.1 mm."""
    digest = hashlib.sha256(f"{prompt.strip()}\n{motion.skeleton.name}\n{motion.fps:g}\n".encode("utf-8", "replace"))
    digest.update(np.rint(motion.joints.astype(np.float64) * 1e4).astype("<i8").tobytes())
    return digest.hexdigest()[:32]


def read_labels(paths: Path | Sequence[Path]) -> list[Label]:
    """What holds of label files, in order: the last word of each person on each thing, without what was taken back.

    A last line that a kill cut short is left out. Raises LabelError, with the line, for a file of another kind.
    """
    last: dict[tuple[tuple[str, ...], str], Label] = {}
    for path in [paths] if isinstance(paths, Path) else paths:
        for label in _labels_of(path):
            last.pop((label.about, label.user), None)
            last[label.about, label.user] = label
    return [label for label in last.values() if not label.withdrawn]


def write_merged(labels: Iterable[Label], path: Path) -> Path:
    """One line for each pair and each scored motion, with the votes of all people: what other programs train from."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for label in labels:
        row = label.to_json()
        votes = "chosen" if isinstance(label, Vote) else "scores"
        if label.about in rows:
            rows[label.about][votes] += row[votes]
        else:
            rows[label.about] = row
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values())
    return write_text(path, text)


def _labels_of(path: Path) -> Iterator[Label]:
    try:
        # not splitlines: JSON keeps U+2028 and its like inside a line
        *lines, tail = path.read_bytes().split(b"\n")
    except OSError as error:
        raise LabelError(f"cannot read the labels of {path} ({error.strerror or error})") from error
    for number, line in enumerate(lines if _is_torn(tail) else [*lines, tail], start=1):
        if line.strip():
            try:
                yield from _from_json(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, LabelError) as error:
                raise LabelError(
                    f"{path}, line {number} is no label ({type(error).__name__}: {error}); "
                    "mend or delete the line, or name another file"
                ) from error


def _from_json(row: Mapping[str, Any]) -> Iterator[Label]:
    """The labels of a line: one of each vote in it."""
    if "chosen" in row:
        for vote in row["chosen"]:
            yield Vote(
                str(row["id"]),
                str(row["prompt"]),
                row["sample_1"],
                row["sample_2"],
                vote["choice"],
                vote["degree of preference"],
                str(vote["user"]),
                vote.get("time", ""),
                vote.get("left"),
            )
    else:
        for given in row["scores"]:
            what = (str(row["id"]), row["prompt"], row["motion"], row["task"], row["key"])
            yield Score(*what, given["score"], str(given["user"]), given["time"], given.get("withdrawn", False))


@dataclass(frozen=True)
class LabelFile:
    """A label file that one session of `user` adds to; others may add to it at the same time."""

    path: Path
    user: str

    @staticmethod
    @contextmanager
    def opened(path: Path, user: str) -> Iterator[LabelFile]:
        """The file, made where it is absent, for as long as the block lasts or the process lives.

        Raises LabelError where another session of the same user has it open, and for a name that is none.
        """
        if not user.strip() or not user.isprintable() or len(user) > 64:
            raise LabelError(f"user {user!r} is no name; give 1 to 64 printable characters (--user)")
        file = LabelFile(path, user)
        with ExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(_only_session(path, user))
                file._mend()
            except OSError as error:
                raise file._cannot_write(error) from error
            yield file

    def add(self, label: Label) -> None:
        """Append a label as one whole line that is on the disk when this returns."""
        line = json.dumps(label.to_json(), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        try:
            # unbuffered: the line is one write
            with self.path.open("ab", buffering=0) as file:
                if file.write(line) != len(line):
                    self._mend()
                    raise LabelError(f"the disk of {self.path} is full; free some space and answer again")
                os.fsync(file.fileno())
        except OSError as error:
            raise self._cannot_write(error) from error

    def labels(self) -> list[Label]:
        """What holds of the labels of this user."""
        return [label for label in read_labels(self.path) if label.user == self.user]

    def _mend(self) -> None:
        """Cut off a last line that a kill cut short, half an answer being none, and end a whole one."""
        with self.path.open("ab+") as file:
            file.seek(0)
            content = file.read()
            tail = content[content.rfind(b"\n") + 1 :]
            if _is_torn(tail):
                file.truncate(len(content) - len(tail))
            elif tail:
                file.write(b"\n")

    def _cannot_write(self, error: OSError) -> LabelError:
        return LabelError(f"cannot write labels to {self.path} ({error.strerror or error}) (--out)")


def _is_torn(tail: bytes) -> bool:
    """Whether what stands after the last line's end is a part of a line."""
    try:
        json.loads(tail or b"{}")
    except ValueError:
        return True
    return False


@contextmanager
def _only_session(path: Path, user: str) -> Iterator[None]:
    """Holds the lock of a user on a label file; the system frees it when the process ends, however it ends."""
    name = hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()[:12]
    with path.with_name(f".{path.name}.{name}.lock").open("ab+") as lock:
        try:
            take_lock(lock.fileno())
        except OSError as error:
            raise LabelError(
                f"{user} has {path} open in another session; go on there, or close it and come back, "
                "or write to another file (--out)"
            ) from error
        yield
