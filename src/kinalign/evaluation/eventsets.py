"""What a model is asked in an evaluation of events: prompts of AToM's three sub-tasks that no training met, in groups.

The held-out ones come from the grammar of judge/prompts.py, whose eval split shares neither combinations of events nor
wordings with the train split. The demo ones were written by hand in the manner of AToM's demo files: each temporal
prompt comes twice, with the same events in two orders. Their combinations and words are held out as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import EvaluationError
from kinalign.judge.prompts import EventPrompt, grammar_prompts, read_prompts
from kinalign.judge.rubric import SUB_TASKS

Indices = NDArray[np.intp]

DEMOS = Path(__file__).with_name("demo_prompts.jsonl")
ALL, DEMO = "all", "demo"
EVENTS = (2, 3)
"""Events of a temporal or integrity prompt: half of them have two, half three."""


@dataclass(frozen=True)
class EventPrompts:
    """Prompts in named sets, of which the first is what a report is about."""

    sets: Mapping[str, Sequence[EventPrompt]]

    def __post_init__(self) -> None:
        if not self.all:
            raise EvaluationError("there is no prompt to evaluate on; give a file with one or more (--prompts)")
        names = [prompt.id for prompt in self.all]
        if twice := [name for name in names if names.count(name) > 1]:
            raise EvaluationError(f"id {twice[0]!r} is that of two prompts; give each its own (--prompts)")

    @cached_property
    def all(self) -> list[EventPrompt]:
        """The prompts of one set after the other."""
        return [prompt for prompts in self.sets.values() for prompt in prompts]

    @cached_property
    def groups(self) -> dict[str, Indices]:
        """Places in `all` of each set, of its sub-tasks, and of the first set's prompts with as many events."""
        groups: dict[str, Indices] = {}
        start = 0
        for number, (name, prompts) in enumerate(self.sets.items()):
            places = np.arange(start, start + len(prompts))
            start += len(prompts)
            groups[name] = places
            prefix = f"{name} " if number else ""
            tasks = np.array([prompt.task for prompt in prompts])
            groups |= {f"{prefix}{task}": places[tasks == task] for task in SUB_TASKS if (tasks == task).any()}
            if not number:
                sizes = np.array([len(prompt.program.events) for prompt in prompts])
                groups |= {_events(int(size)): places[sizes == size] for size in np.unique(sizes)}
        return groups

    @cached_property
    def sha256(self) -> str:
        """Of all prompts with their sets: numbers of two systems are paired by these."""
        return hashlib.sha256(json.dumps(self.to_json(), ensure_ascii=False).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {name: [prompt.to_json() for prompt in prompts] for name, prompts in self.sets.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EventPrompts:
        """The sets from what `to_json` gave. Raises DataError for anything else."""
        return cls({name: [EventPrompt.from_json(prompt) for prompt in prompts] for name, prompts in values.items()})


def _events(number: int) -> str:
    return f"{number} event" + "s" * (number > 1)


def held_out_prompts(per_task: int = 60, *, seed: int = 0) -> list[EventPrompt]:
    """`per_task` prompts of each sub-task that no training met. Raises ConfigError for fewer than 2 and for too many.

    Temporal and integrity prompts have two events or three, half of them each; a frequency prompt has one.
    """
    prompts: list[EventPrompt] = []
    for events in EVENTS:
        number = per_task // 2 if events == EVENTS[0] else per_task - per_task // 2
        prompts += [
            replace(prompt, id=prompt.id.replace("-", f"-{events}-"))
            for prompt in grammar_prompts(("integrity", "temporal"), 2 * number, events=events, seed=seed, split="eval")
        ]
    prompts += grammar_prompts(("frequency",), per_task, seed=seed, split="eval")
    return sorted(prompts, key=lambda prompt: SUB_TASKS.index(prompt.task))


def demo_prompts() -> list[EventPrompt]:
    """Sixty prompts in the manner of AToM's demo files, twenty of each sub-task; temporal ones in pairs."""
    return read_prompts(DEMOS)


def standard_prompts(per_task: int = 60, *, seed: int = 0) -> EventPrompts:
    """The held-out prompts and the demo ones."""
    return EventPrompts({ALL: held_out_prompts(per_task, seed=seed), DEMO: demo_prompts()})


def own_prompts(path: str | Path) -> EventPrompts:
    """The prompts of a file, a sentence a line or JSON lines; PromptError names the line of one without an event."""
    return EventPrompts({ALL: read_prompts(path)})
