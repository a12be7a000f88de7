"""Labelling: people say which of two motions is better and how much, or score one; here and in the terminal."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from kinalign.errors import LabelError, PromptError
from kinalign.events.parse import parse
from kinalign.judge.labels import DEGREES, Label, LabelFile, Sample, Score, Vote, case_key
from kinalign.judge.rubric import RUBRICS, SUB_TASKS, SubTask, sub_task_of
from kinalign.motion.motion import Motion

SAMPLES: tuple[Sample, Sample] = ("sample_1", "sample_2")
PATH_KEYS = ("motion", "features")
"""Where a sample names its file; `features` is InstructMotion's."""


@dataclass(frozen=True)
class PairQuestion:
    """Which of two motions does better what the prompt says."""

    id: str
    prompt: str
    sample_1: Mapping[str, Any]
    sample_2: Mapping[str, Any]
    folder: Path

    def motions(self) -> list[Motion]:
        return [_load(sample, self.folder) for sample in (self.sample_1, self.sample_2)]

    def what(self) -> tuple[str, str, Mapping[str, Any], Mapping[str, Any]]:
        """What a vote on this pair says of it."""
        return (self.id, self.prompt, self.sample_1, self.sample_2)


@dataclass(frozen=True)
class ScoreQuestion:
    """How well, 1 to 5 by the rubric of `task`, a motion does what the prompt says."""

    id: str
    prompt: str
    sample: Mapping[str, Any]
    task: SubTask
    folder: Path

    def motions(self) -> list[Motion]:
        return [_load(self.sample, self.folder)]

    def what(self) -> tuple[str, str, Mapping[str, Any], SubTask, str]:
        """What a score of this motion says of it."""
        return (self.id, self.prompt, self.sample, self.task, case_key(self.prompt, self.motions()[0]))


Question = PairQuestion | ScoreQuestion


def read_pairs(path: Path) -> list[PairQuestion]:
    """The pairs of a JSONL file in InstructMotion's layout: `id`, `prompt`, `sample_1` and `sample_2`.

    A sample names its file, relative to the JSONL, as `motion` or `features` (joints or features as npy, npz, bvh).
    Raises LabelError, with the line, for anything else, for a file that is absent and for an id that comes twice.
    """
    return [
        PairQuestion(str(row["id"]), row["prompt"], samples["sample_1"], samples["sample_2"], path.parent)
        for row, samples in _rows(path, SAMPLES)
    ]


def read_scored(path: Path) -> list[ScoreQuestion]:
    """Every motion of a JSONL file alone: the `motion` of a line, or both samples of a pair.

    The sub-task is that of the line, as `task`, or the one that the prompt calls for.
    """
    questions = []
    for row, samples in _rows(path, ("motion",), SAMPLES):
        task = row.get("task") or _task_of(row["prompt"], path)
        if task not in SUB_TASKS:
            raise LabelError(f"{path}: sub-task {task!r} of {row['id']} is unknown; use one of {', '.join(SUB_TASKS)}")
        for key, sample in samples.items():
            name = str(row["id"]) if key == "motion" else f"{row['id']}/{key}"
            questions.append(ScoreQuestion(name, row["prompt"], sample, task, path.parent))
    return questions


class Session:
    """One person's way through questions: what comes next, what they said, and the way back. Safe for threads.

    What is labelled in the file already is not asked again. In a pair, `seed`, the user and the id say which sample
    stands on the left.
    """

    def __init__(self, questions: Sequence[Question], file: LabelFile, *, seed: int = 0) -> None:
        self.questions = questions
        self.file = file
        self.seed = seed
        self._lock = threading.RLock()
        self._answered: dict[int, Label] = {}
        by_id = {question.id: place for place, question in enumerate(questions)}
        kind = Vote if isinstance(questions[0], PairQuestion) else Score
        for label in file.labels():
            if not isinstance(label, kind) or label.id not in by_id:
                continue
            question = questions[by_id[label.id]]
            if label.what() != question.what():
                raise LabelError(
                    f"{file.path} holds a label of {label.id}, {label.prompt!r}, which is not the {label.id} here, "
                    f"{question.prompt!r}, with its files: write to another file (--out)"
                )
            self._answered[by_id[label.id]] = label

    @property
    def place(self) -> int | None:
        """The first question without an answer, or None where all have one."""
        return next((place for place in range(len(self.questions)) if place not in self._answered), None)

    @property
    def num_answered(self) -> int:
        return len(self._answered)

    def sides(self, place: int) -> tuple[Sample, Sample]:
        """The samples of a pair, left and right."""
        question = self.questions[place]
        is_swapped = random.Random(f"{self.seed} {self.file.user} {question.id}").random() < 0.5
        return (SAMPLES[1], SAMPLES[0]) if is_swapped else SAMPLES

    def motions(self, place: int) -> list[Motion]:
        """What is shown of a question, from left to right."""
        motions = self.questions[place].motions()
        if len(motions) == 2 and self.sides(place) != SAMPLES:
            motions.reverse()
        return [replace(motion, caption="") for motion in motions]

    def choose(self, place: int, choice: Sample | None, degree: str = "") -> None:
        """Answer a pair: which sample and how much better, or None, where both are unrealistic."""
        question = self.questions[place]
        if not isinstance(question, PairQuestion):
            raise LabelError("this question asks for a score of 1 to 5, not for a choice")
        degree = degree if choice else "skipped"
        vote = Vote(*question.what(), choice or "skipped", degree, self.file.user, _now(), self.sides(place)[0])
        self._answer(place, vote)

    def score(self, place: int, score: int | None) -> None:
        """Answer with a score of 1 to 5, or None, where one cannot tell."""
        question = self.questions[place]
        if not isinstance(question, ScoreQuestion):
            raise LabelError("this question asks which motion is better, not for a score")
        self._answer(place, Score(*question.what(), score, self.file.user, _now()))

    def undo(self) -> bool:
        """Take the last answer back, and say whether there was one; its question is the next again."""
        with self._lock:
            if not self._answered:
                return False
            place = next(reversed(self._answered))
            label = self._answered[place]
            if isinstance(label, Vote):
                self.file.add(replace(label, choice="withdrawn", degree="withdrawn", time=_now()))
            else:
                self.file.add(replace(label, score=None, withdrawn=True, time=_now()))
            del self._answered[place]
            return True

    def _answer(self, place: int, label: Label) -> None:
        with self._lock:
            if place != self.place:
                raise LabelError(f"question {place + 1} is not the one that is asked now; look at the page again")
            self.file.add(label)
            self._answered[place] = label


def ask_in_terminal(session: Session, folder: Path, *, ask: Callable[[str], str] = input) -> None:
    """Go through the questions line by line; the motions are sheets of frames in `folder`, to be opened beside it."""
    from kinalign.render.sheet import write_sheet

    while (place := session.place) is not None:
        question = session.questions[place]
        print(f"\n{place + 1} of {len(session.questions)}: {question.prompt}")
        for number, motion in enumerate(session.motions(place), start=1):
            path = folder / f"{place + 1:04d}-{number}.png"
            write_sheet(motion, path)
            print(f"  {number if isinstance(question, PairQuestion) else 'motion'}: {path}")
        try:
            _ask_pair(session, place, ask) if isinstance(question, PairQuestion) else _ask_score(session, place, ask)
        except EOFError:
            return


def _ask_pair(session: Session, place: int, ask: Callable[[str], str]) -> None:
    answer = _one_of(ask, "better: 1 or 2, s skip (both unrealistic), u undo, q quit > ", "12suq")
    if answer in "uq":
        _go_back_or_end(session, answer)
    elif answer == "s":
        session.choose(place, None)
    else:
        degrees = ", ".join(f"{number} {degree}" for number, degree in enumerate(DEGREES, start=1))
        degree = _one_of(ask, f"how much: {degrees} > ", "1234")
        session.choose(place, session.sides(place)[int(answer) - 1], DEGREES[int(degree) - 1])


def _ask_score(session: Session, place: int, ask: Callable[[str], str]) -> None:
    question = session.questions[place]
    assert isinstance(question, ScoreQuestion)
    for score, meaning in enumerate(RUBRICS[question.task], start=1):
        print(f"  {score}  {meaning}")
    answer = _one_of(ask, "score: 1 to 5, 0 cannot tell, u undo, q quit > ", "012345uq")
    if answer in "uq":
        _go_back_or_end(session, answer)
    else:
        session.score(place, int(answer) or None)


def _go_back_or_end(session: Session, answer: str) -> None:
    if answer == "q":
        raise EOFError
    if not session.undo():
        print("  there is nothing to take back")


def _one_of(ask: Callable[[str], str], text: str, known: str) -> str:
    while (answer := ask(text).strip().lower()) not in list(known):
        print(f"  {answer!r} is none of {', '.join(known)}")
    return answer


def _rows(path: Path, *layouts: Sequence[str]) -> Iterator[tuple[dict[str, Any], dict[str, Mapping[str, Any]]]]:
    """Lines of a JSONL file with `id`, `prompt` and the samples of one of the layouts, by name; their files exist."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"cannot read {path} as text ({error}); name a JSONL file of pairs") from error
    seen = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
            name = str(row["id"])
            layout = next(layout for layout in layouts if all(key in row for key in layout))
            samples = {key: row[key] if isinstance(row[key], Mapping) else {"motion": row[key]} for key in layout}
            files = [path.parent / _path(sample) for sample in samples.values()]
            if not isinstance(row["prompt"], str):
                raise TypeError("the prompt is no text")
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            needs = " or ".join(", ".join(("id", "prompt", *layout)) for layout in layouts)
            raise LabelError(f"{where} has not {needs} with a path in each sample ({error})") from error
        if name in seen:
            raise LabelError(f"{where}: id {name} comes twice; each needs its own")
        seen.add(name)
        if absent := [file for file in files if not file.is_file()]:
            raise LabelError(f"{where}: {absent[0]} is absent; paths are relative to the JSONL file's folder")
        yield row, samples
    if not seen:
        raise LabelError(f"{path} holds nothing to label")


def _path(sample: Mapping[str, Any]) -> str:
    """Where a sample's motion is. Raises StopIteration where it does not say."""
    return str(next(sample[key] for key in PATH_KEYS if isinstance(sample.get(key), str)))


def _load(sample: Mapping[str, Any], folder: Path) -> Motion:
    return Motion.load(folder / _path(sample))


def _task_of(prompt: str, path: Path) -> SubTask:
    try:
        return sub_task_of(parse(prompt))
    except PromptError as error:
        raise LabelError(f'{path}: {error}; say which rubric to show, as "task"') from error


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
