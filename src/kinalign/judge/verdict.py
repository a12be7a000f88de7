"""What a judge is asked and what it answers; one protocol for rules, language models, embeddings and people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from kinalign.errors import KinalignError, VerdictError
from kinalign.events.parse import parse
from kinalign.events.program import Event, EventProgram
from kinalign.judge.rubric import SUB_TASKS, Seen, SubTask, sub_task_of
from kinalign.motion.motion import Motion


@dataclass(frozen=True)
class Case:
    """A question for a judge: does the motion show what the prompt says, asked as one of the three sub-tasks."""

    prompt: str
    motion: Motion
    program: EventProgram
    task: SubTask

    @classmethod
    def of(
        cls, prompt: str, motion: Motion, *, program: EventProgram | None = None, task: SubTask | None = None
    ) -> Case:
        """The question with its program read from the prompt and the sub-task that the program calls for.

        Raises PromptError for a prompt that names no event.
        """
        program = program or parse(prompt)
        return cls(prompt, motion, program, task or sub_task_of(program))


@dataclass(frozen=True)
class Finding:
    """What was seen of one event: whether, in which frames [start, end) of the motion, how often, and by what sign."""

    event: Event
    seen: Seen
    start: int | None = None
    end: int | None = None
    count: int | None = None
    confidence: float = 1.0
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "event": self.event.to_json(),
            "seen": self.seen,
            "start": self.start,
            "end": self.end,
            "count": self.count,
            "confidence": round(self.confidence, 4),
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Finding:
        return cls(**{**values, "event": Event.from_json(values["event"])})


@dataclass(frozen=True)
class Verdict:
    """A score of 1 to 5 by the rubric of `task`, with what was seen of each event and in what order.

    `findings` are in the order of the program's events, or empty where a judge gives none. `order_is_right` is None
    where there is nothing to order. `cost_usd` is what this answer cost; one from a cache costs 0.
    """

    score: int
    task: SubTask
    judge: str
    reason: str = ""
    findings: tuple[Finding, ...] = ()
    order_is_right: bool | None = None
    cost_usd: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.score, bool) or not isinstance(self.score, int) or not 1 <= self.score <= 5:
            raise VerdictError(f"score {self.score!r} is none of 1 to 5; what cannot be judged is Invalid, not a score")
        if self.task not in SUB_TASKS:
            raise VerdictError(f"sub-task {self.task!r} is unknown; use one of {', '.join(SUB_TASKS)}")

    @property
    def is_right(self) -> bool:
        """Whether everything is as it is asked for: a score of 5."""
        return self.score == 5

    def to_json(self) -> dict[str, Any]:
        return {
            "score": self.score,
            "task": self.task,
            "judge": self.judge,
            "reason": self.reason,
            "findings": [finding.to_json() for finding in self.findings],
            "order_is_right": self.order_is_right,
            "cost_usd": self.cost_usd,
        }


@dataclass(frozen=True)
class Invalid:
    """No verdict could be had, and why: it is counted, never turned into a score."""

    judge: str
    reason: str
    cost_usd: float = 0.0

    @property
    def is_right(self) -> bool:
        """Never: nobody knows."""
        return False

    def to_json(self) -> dict[str, Any]:
        return {"invalid": True, "judge": self.judge, "reason": self.reason, "cost_usd": self.cost_usd}


Outcome = Verdict | Invalid


def outcome_from_json(values: Any) -> Outcome:
    """What `to_json` of either gave. Raises VerdictError for anything else."""
    try:
        if values.get("invalid"):
            return Invalid(values["judge"], values["reason"], values["cost_usd"])
        verdict = Verdict(**{**values, "findings": ()})
        return replace(verdict, findings=tuple(Finding.from_json(finding) for finding in values["findings"]))
    except (AttributeError, KeyError, TypeError) as error:
        raise VerdictError(f"this is no verdict: {str(values)[:200]} ({error})") from error


def judge_one(judge: Judge, prompt: str, motion: Motion) -> Outcome:
    """`judge_all` of the one case that a prompt makes; Invalid for a prompt that names no event."""
    try:
        case = Case.of(prompt, motion)
    except KinalignError as error:
        return Invalid(judge.name, str(error))
    return judge.judge_all([case])[0]


class Judge(Protocol):
    """Whoever answers. `name` says who, with the model and settings that the answers depend on."""

    @property
    def name(self) -> str: ...

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        """An answer for each case, in their order; a case that cannot be judged is Invalid and stops no other."""
        ...

    def __call__(self, prompt: str, motion: Motion) -> Outcome:
        """`judge_all` of the one case that the prompt makes."""
        ...
