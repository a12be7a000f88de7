"""Prompts of AToM's three sub-tasks, each with its event program: from a grammar, or from a file.

As AToM has it, a prompt joins labels of single movements by conjunctions: three events in order (temporal), three
events of which some may happen at once (integrity), or one event so many times (frequency). Where AToM asks a language
model for a sentence, events/say.py says the program here, and only what events/parse.py reads back as the same program
is kept: a prompt and its program never differ. Half of the temporal prompts are the one before in another order.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any, Literal

from kinalign.errors import ConfigError, DataError, KinalignError, PromptError
from kinalign.events.parse import parse
from kinalign.events.program import Event, EventProgram
from kinalign.events.say import say, wordings
from kinalign.judge.rubric import SUB_TASKS, SubTask, sub_task_of
from kinalign.run import write_text

GRAMMAR = Path(__file__).with_name("grammar.json")

PromptSplit = Literal["train", "eval"]

MOST_EVENTS = 5
"""Events of a temporal or integrity prompt, at most: a motion of 9.8 s has no room for more."""
EVAL_SHARE = 6
"""One in so many combinations of actions belongs to the eval split."""
TRIES = 200
"""Draws for one prompt before it is said that there are no more."""

Steps = tuple[tuple[Event, ...], ...]


@dataclass(frozen=True)
class EventPrompt:
    """What shall be seen, in words and as a program, and which of AToM's questions is asked about it."""

    id: str
    """Its sub-task and its number: temporal-00007."""
    prompt: str
    task: SubTask
    program: EventProgram

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "prompt": self.prompt, "task": self.task, "program": self.program.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EventPrompt:
        """The prompt from what `to_json` gave. Raises DataError for anything else."""
        try:
            if values["task"] not in SUB_TASKS:
                raise DataError(f"sub-task {values['task']!r} is unknown; use one of {', '.join(SUB_TASKS)}")
            program = EventProgram.from_json(values["program"])
            return cls(str(values["id"]), str(values["prompt"]), values["task"], program)
        except (KeyError, TypeError, KinalignError) as error:
            raise DataError(f"this is no prompt with an event program: {str(values)[:200]} ({error})") from error


@dataclass(frozen=True)
class _Pattern:
    """An event of the grammar, in all ways to say it."""

    action: str
    sides: tuple[str, ...]
    directions: tuple[str, ...]
    counts: tuple[int, ...]
    before: str
    after: str
    meanwhile: tuple[str, ...]


@dataclass(frozen=True)
class _Grammar:
    patterns: dict[str, _Pattern]
    alike: tuple[frozenset[str], ...]
    held_out: re.Pattern[str]

    def fits(self, action: str, others: Sequence[str]) -> bool:
        """Whether an action can stand beside others in one prompt and still be told from them."""
        return action not in others and not any(
            action in row and other in row for row in self.alike for other in others
        )


@cache
def _grammar() -> _Grammar:
    raw = json.loads(GRAMMAR.read_text(encoding="utf-8"))
    patterns = [
        _Pattern(
            row["action"],
            tuple(row.get("sides", [""])),
            tuple(row.get("directions", [""])),
            tuple(row.get("counts", [])),
            row.get("from", "standing"),
            row.get("to", "standing"),
            tuple(row.get("while", [])),
        )
        for row in raw["events"]
    ]
    return _Grammar(
        {pattern.action: pattern for pattern in patterns},
        tuple(frozenset(row.split()) for row in raw["alike"]),
        re.compile(rf"\b({'|'.join(raw['held_out'])})\b"),
    )


def grammar_prompts(
    tasks: Sequence[SubTask], number: int, *, events: int = 3, seed: int = 0, split: PromptSplit = "train"
) -> list[EventPrompt]:
    """`number` different prompts, as many of each sub-task; fewer or more are the same ones, cut or gone on with.

    A temporal or integrity prompt has `events` events, in AToM three. Actions, sides, directions and counts come about
    equally often. No combination of events of one split is in the other, and texts of `eval` hold words that those of
    `train` never do. Raises ConfigError where the grammar cannot say so many.
    """
    if number < len(tasks) or not tasks:
        raise ConfigError(f"prompts={number} is fewer than one for each of {len(tasks)} sub-tasks (--prompts, --task)")
    if not 2 <= events <= MOST_EVENTS:
        raise ConfigError(f"events={events} must be 2 to {MOST_EVENTS}: one has no order, more have no room (--events)")
    prompts = []
    for place, task in enumerate(tasks := tuple(dict.fromkeys(tasks))):
        wanted = number // len(tasks) + (place < number % len(tasks))
        drawn = _Drawing(task, random.Random(f"{seed} {split} {task}"), split, events).prompts(wanted)
        prompts += [EventPrompt(f"{task}-{index:05d}", text, task, parse(text)) for index, text in enumerate(drawn)]
    return prompts


def is_held_out(program: EventProgram) -> bool:
    """Whether a combination of events belongs to the eval split: one count of each action, some actions together.

    The order of events does not matter, so that prompts with the same events in another order are in one split.
    """
    actions = sorted(event.action for event in program.events)
    lot = hashlib.sha256("\n".join(actions).encode()).digest()[0]
    if len(actions) > 1 or program.events[0].count is None:
        return lot % EVAL_SHARE == 0
    pattern = _grammar().patterns.get(actions[0])
    counts = pattern.counts if pattern and pattern.counts else range(1, EVAL_SHARE + 1)
    return program.events[0].count == counts[lot % len(counts)]


class _Drawing:
    """Programs of one sub-task and their texts, those first that were drawn least."""

    def __init__(self, task: SubTask, rng: random.Random, split: PromptSplit, events: int) -> None:
        self.task, self.rng, self.split, self.events = task, rng, split, events
        self.grammar = _grammar()
        self.uses: Counter[Any] = Counter()
        self.said: set[str] = set()
        self.failures = 0

    def prompts(self, number: int) -> list[str]:
        """Different texts that are read back as what was drawn."""
        texts: list[str] = []
        while len(texts) < number:
            self.failures += 1
            for program in self._programs():
                if is_held_out(program) != (self.split == "eval"):
                    continue
                # counted also where no new text is found, so that it is not drawn again and again
                self._count(program)
                text = self._text(program)
                if text is not None:
                    self.failures = 0
                    texts.append(text)
            if self.failures > TRIES:
                raise ConfigError(
                    f"the grammar has {len(texts)} prompts for {self.task}, not {number}; ask for fewer (--prompts) or "
                    "bring prompts of your own (--file)"
                )
        return texts[:number]

    def _programs(self) -> Iterator[EventProgram]:
        """One program, and where order is asked about, the same events in another order as well."""
        if self.task == "frequency":
            yield EventProgram(((self._counted(),),))
            return
        steps = self._steps(with_meanwhile=self.task == "integrity" and self.rng.random() < 0.5)
        if steps is None:
            return
        yield EventProgram(steps)
        if self.task == "temporal":
            others = [order for order in permutations(steps) if order != steps and self._can_be(order)]
            if others:
                yield EventProgram(self.rng.choice(others))

    def _counted(self) -> Event:
        pattern = self._least([p for p in self.grammar.patterns.values() if p.counts], "action")
        of_eval = {
            count: is_held_out(EventProgram(((Event(pattern.action, count=count),),))) for count in pattern.counts
        }
        counts = [count for count in pattern.counts if of_eval[count] == (self.split == "eval")]
        count = self._least(counts, f"{pattern.action} count")
        return self._event(pattern, count=count)

    def _steps(self, *, with_meanwhile: bool) -> Steps | None:
        """Events that a body can do one after the other; two of them at once where it is asked for."""
        patterns, posture = self.grammar.patterns, "standing"
        steps: list[tuple[Event, ...]] = []
        actions: list[str] = []
        at_once = self.rng.randrange(self.events - 1) if with_meanwhile else -1
        while len(actions) < self.events:
            options = [p for p in patterns.values() if p.before == posture and self.grammar.fits(p.action, actions)]
            if len(steps) == at_once:
                options = [p for p in options if p.meanwhile]
            if not options:
                return None
            pattern = self._least(options, "action")
            step = [self._event(pattern)]
            actions.append(pattern.action)
            if len(steps) == at_once:
                arms = [patterns[name] for name in pattern.meanwhile if self.grammar.fits(name, actions)]
                if not arms:
                    return None
                arm = self._least(arms, "action")
                step.append(self._event(arm))
                actions.append(arm.action)
            steps.append(tuple(step))
            posture = pattern.after
        return tuple(steps)

    def _can_be(self, steps: Steps) -> bool:
        """Whether each event finds the body as the one before it leaves it."""
        posture = "standing"
        for step in steps:
            pattern = self.grammar.patterns[step[0].action]
            if pattern.before != posture:
                return False
            posture = pattern.after
        return True

    def _event(self, pattern: _Pattern, *, count: int | None = None) -> Event:
        side = self._least(pattern.sides, f"{pattern.action} side")
        direction = self._least(pattern.directions, f"{pattern.action} direction")
        return Event(pattern.action, side=side, direction=direction, count=count)

    def _least(self, options: Sequence[Any], what: str) -> Any:
        """One of those that came least often so far, give or take two, and more where these lead nowhere."""
        play = 2 + self.failures / 10

        def uses(option: Any) -> float:
            return self.uses[what, getattr(option, "action", option)] + play * self.rng.random()

        return min(options, key=uses)

    def _count(self, program: EventProgram) -> None:
        for event in program.events:
            self.uses["action", event.action] += 1
            self.uses[f"{event.action} count", event.count] += 1
            self.uses[f"{event.action} side", event.side] += 1
            self.uses[f"{event.action} direction", event.direction] += 1

    def _text(self, program: EventProgram) -> str | None:
        """A new text in the words of the split that means the program, or None where tries find none."""
        for _ in range(40):
            text = say(program, self.rng.getrandbits(32), ordered=self.task != "integrity")
            is_new = text not in self.said
            in_split = bool(self.grammar.held_out.search(text.lower())) == (self.split == "eval")
            if is_new and in_split and meaning(parse(text)) == meaning(program):
                self.said.add(text)
                return text
        return None


def meaning(program: EventProgram) -> list[list[tuple[str, str, str, object]]]:
    """What a text must not change: words may name the part of the body that the action needs."""
    return [[(event.action, event.side, event.direction, event.count) for event in step] for step in program.steps]


def other_wordings(prompt: EventPrompt, number: int, seed: int = 0) -> list[str]:
    """A prompt and up to `number` - 1 other texts of the train split that mean the same."""
    texts = {prompt.prompt: None}
    for text in wordings(prompt.program, 2 * number, seed, ordered=prompt.task != "integrity"):
        if not _grammar().held_out.search(text.lower()) and meaning(parse(text)) == meaning(prompt.program):
            texts[text] = None
    return list(texts)[:number]


def write_prompts(path: Path, prompts: Sequence[EventPrompt]) -> Path:
    """A JSON line for each prompt."""
    text = "".join(json.dumps(prompt.to_json(), ensure_ascii=False) + "\n" for prompt in prompts)
    return write_text(path, text)


def read_prompts(path: str | Path) -> list[EventPrompt]:
    """Prompts of a file, each once: a sentence a line, or where it ends in .jsonl objects with "prompt".

    An object may have "task", "program" and "id" too; what is absent is read from the prompt or counted. Raises
    PromptError, with the line, for what names no event.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"cannot read the lines of {path} as text ({error}) (--file)") from error
    prompts: dict[str, EventPrompt] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line) if path.suffix == ".jsonl" else {"prompt": line}
            prompt = _read(values, f"line-{number:05d}")
        except (KinalignError, ValueError, KeyError, TypeError) as error:
            raise PromptError(f"{path}, line {number}: {error} (--file)") from error
        prompts.setdefault(prompt.prompt, prompt)
    if not prompts:
        raise PromptError(f"{path} holds no prompt; write one a line (--file)")
    ids = Counter(prompt.id for prompt in prompts.values())
    if twice := [name for name, times in ids.items() if times > 1]:
        raise PromptError(f"{path}: id {twice[0]!r} is that of two prompts; give each its own, or none (--file)")
    return list(prompts.values())


def _read(values: Any, usual_id: str) -> EventPrompt:
    if not isinstance(values, dict) or not isinstance(values.get("prompt"), str):
        raise PromptError(f'{str(values)[:80]} is no object with "prompt"')
    text = " ".join(values["prompt"].split())
    program = EventProgram.from_json(values["program"]) if "program" in values else parse(text)
    task = values.get("task", sub_task_of(program))
    if task not in SUB_TASKS:
        raise PromptError(f"sub-task {task!r} is unknown; use one of {', '.join(SUB_TASKS)}")
    return EventPrompt(str(values.get("id", usual_id)), text, task, program)
