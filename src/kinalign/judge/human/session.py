"""One person's way through the questions, and the same in the terminal."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from kinalign.errors import LabelError
from kinalign.judge.human.labels import DEGREES, Label, LabelFile, Sample, Score, Vote
from kinalign.judge.human.questions import SAMPLES, PairQuestion, Question, ScoreQuestion
from kinalign.judge.rubric import RUBRICS
from kinalign.motion.motion import Motion

SHEET_FPS = 4
"""Frames that a sheet shows of a second: enough to count by."""


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
            write_sheet(motion, path, num_frames=round(SHEET_FPS * motion.duration_s) + 1, size=192)
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


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
