"""Logical consistency by rules: the share of a planner's answers that make sense, for any planner, offline.

AvatarGPT asks a language model whether an answer is plausible (arXiv 2311.16468, section 4). Here an answer makes sense
where it breaks none of RULES. Most rules are about the order of steps and what the model can do: no right answer breaks
them. Two ask whether task, steps and scene go together, and weigh it on a scale: how near sentences are by MiniLM, and
how much likelier steps are in like tasks of the corpus than in all of its tasks. Their bounds, one for each planning
task, are set so that 19 of 20 answers of the corpus' training part pass. `python -m kinalign.recipes.consistency` sets
them, and measures what held-out answers and exchanged ones get: a score means nothing without the two.

Steps say little about a scene: somebody walks forward and turns left anywhere. Where only a scene and steps are held
against each other (ct2s, cs2s, s2c), most exchanged answers pass, and rightly so.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import KinalignError, PlanError
from kinalign.events.program import Event
from kinalign.planning.corpus import Row, WrittenScene, load_scenes
from kinalign.planning.plan import MOST_STEPS, Scene, Step, Task
from kinalign.planning.repertoire import ability_of
from kinalign.planning.tasks import KINDS, PLANNING_TASKS, Answer, Planner, PlanningTask, Request

Vectors = NDArray[np.float32]
SentenceReader = Callable[[Sequence[str]], Vectors]
"""Sentences to unit vectors (N, D), near each other where they mean the like."""

BOUNDS = Path(__file__).with_name("consistency.json")
PASSES = 0.95
"""Share of the corpus' own answers that pass a bound."""
DOWN = frozenset(("sit", "lie_down"))
GOING = frozenset(("walk", "march", "run", "dash", "sneak"))
"""How somebody who sat or lay gets going: the model does not stand up by itself."""
SHARPNESS = 0.1
"""A task that is nearer by this much counts e times as much among like tasks."""
COMMON = 0.3
"""Share of all tasks, like or not, in what steps are expected of like ones."""


class Rule(NamedTuple):
    """What holds of an answer that makes sense, and why it must."""

    name: str
    reason: str
    holds: Callable[[Request, Answer, Meaning], bool]


class Meaning:
    """What sentences mean, and the steps with which the tasks of the corpus' training part are done.

    What a text says that stands in the corpus itself is not looked up in its own scene. `bounds` are the least
    belonging of each planning task, those of consistency.json where none are given.
    """

    def __init__(
        self,
        read: SentenceReader,
        scenes: Sequence[WrittenScene] | None = None,
        *,
        bounds: Mapping[PlanningTask, float] | None = None,
    ) -> None:
        scenes = load_scenes("train") if scenes is None else scenes
        self.bounds = shipped_bounds() if bounds is None else bounds
        self._read, self._known = read, dict[str, Vectors]()
        tasks = [(place, task) for place, scene in enumerate(scenes) for task in scene.tasks]
        self._remember({text for scene in scenes for text in _texts(scene)})
        self._places = np.array([place for place, _ in tasks])
        self._place_of = {text: place for place, scene in enumerate(scenes) for text in _texts(scene)}
        self._of_task = np.stack([self.of(task.wordings) for _, task in tasks])
        self._of_scene = np.stack([self.of(scenes[place].wordings) for place, _ in tasks])
        shares = [_shares(task.ways) for _, task in tasks]
        self._columns = {key: at for at, key in enumerate(sorted({key for row in shares for key in row}))}
        self._steps = np.zeros((len(tasks), len(self._columns)))
        for row, share in zip(self._steps, shares):
            for key, value in share.items():
                row[self._columns[key]] = value

    def of(self, texts: Sequence[str]) -> Vectors:
        """What texts mean together (D,)."""
        self._remember(set(texts) - self._known.keys())
        mean = np.mean([self._known[text] for text in texts], axis=0)
        return mean / max(float(np.linalg.norm(mean)), 1e-9)

    def nearness(self, text: str, others: Sequence[str]) -> float:
        """How near a text is to others together, from -1 to 1."""
        return float(self.of([text]) @ self.of(others))

    def habit(self, steps: Sequence[Step], *, task: str = "", scene: str = "") -> float:
        """How much likelier steps are in tasks like this one, or in scenes like this one, than in all tasks.

        The mean logarithm of the ratio over steps: above 0 where they are usual there, 0 for no steps. A step that no
        task of the corpus has counts as equally likely.
        """
        text, rows = (task, self._of_task) if task else (scene, self._of_scene)
        weights = np.exp(rows @ self.of([text]) / SHARPNESS)
        weights[self._places == self._place_of.get(text, -1)] = 0
        everywhere = self._steps.mean(axis=0)
        expected = (1 - COMMON) * (weights / weights.sum()) @ self._steps + COMMON * everywhere
        ratios = np.log(expected / everywhere)
        found = [ratios[self._columns[key]] if (key := _key(step)) in self._columns else 0.0 for step in steps]
        return float(np.mean(found)) if found else 0.0

    def _remember(self, texts: set[str]) -> None:
        if texts:
            # of about one length in a batch
            ordered = sorted(texts, key=lambda text: (len(text), text))
            self._known |= dict(zip(ordered, self._read(ordered)))


def belonging(request: Request, answer: Answer, meaning: Meaning) -> float:
    """How well an answer goes with what was given: words with words where there are both, else steps with words."""
    scene = request.scene.text if request.scene else ""
    match request.kind, answer:
        case "ct2t", Task(text):
            return meaning.nearness(text, [scene, *(task.text for task in request.tasks)])
        case "cs2t", Task(text):
            return meaning.nearness(text, [scene])
        case "t2c", Scene(text):
            return meaning.nearness(text, [task.text for task in request.tasks])
        case "t2s", tuple():
            return meaning.habit(answer, task=request.tasks[0].text)
        case "s2t", Task(text):
            return meaning.habit(request.steps, task=text)
        case "s2c", Scene(text):
            return meaning.habit(request.steps, scene=text)
        case _, tuple():
            return meaning.habit(answer, scene=scene)
    raise PlanError(f"{request.kind} is answered by a {KINDS[request.kind].gives}, not by {answer!r}")


def _is_of_its_kind(request: Request, answer: Answer, meaning: Meaning) -> bool:
    return isinstance(answer, {"scene": Scene, "task": Task, "steps": tuple}[KINDS[request.kind].gives])


def _has_a_few_steps(request: Request, answer: Answer, meaning: Meaning) -> bool:
    return not isinstance(answer, tuple) or 1 <= len(answer) <= MOST_STEPS


def _can_be_done(request: Request, answer: Answer, meaning: Meaning) -> bool:
    return all(_is_ability(step) for step in _steps_of(answer))


def _goes_on_from_step_to_step(request: Request, answer: Answer, meaning: Meaning) -> bool:
    steps = _steps_of(answer)
    return all(one.program != following.program for one, following in pairwise(steps))


def _rests_last(request: Request, answer: Answer, meaning: Meaning) -> bool:
    steps = _steps_of(answer)
    is_begun = bool(request.tasks or request.steps)
    return not any(_last(step).action in DOWN for step in (steps[:-1] if is_begun else steps))


def _gets_going_again(request: Request, answer: Answer, meaning: Meaning) -> bool:
    steps = _steps_of(answer)
    is_down = KINDS[request.kind].needs[0] == "scene" and request.steps and _last(request.steps[-1]).action in DOWN
    return not (is_down and steps) or steps[0].program.events[0].action in GOING


def _is_new(request: Request, answer: Answer, meaning: Meaning) -> bool:
    if isinstance(answer, Task):
        return _task_of(answer.text) not in {_task_of(task.text) for task in request.tasks}
    if isinstance(answer, tuple):
        # as words: one step may well come twice, not all of them
        return request.kind != "cs2s" or _words(answer) != _words(request.steps[-len(answer) :])
    return True


def _fits_the_words(request: Request, answer: Answer, meaning: Meaning) -> bool:
    return request.kind not in BY_WORDS or belonging(request, answer, meaning) >= meaning.bounds[request.kind]


def _fits_the_steps(request: Request, answer: Answer, meaning: Meaning) -> bool:
    return request.kind in BY_WORDS or belonging(request, answer, meaning) >= meaning.bounds[request.kind]


BY_WORDS = frozenset(("ct2t", "cs2t", "t2c"))
"""Planning tasks whose answer has words to hold against words."""

OF_ITS_KIND = Rule("of its kind", "who is asked for steps needs steps, not a scene", _is_of_its_kind)
RULES = (
    OF_ITS_KIND,
    Rule("a few steps", f"a task is done in 1 to {MOST_STEPS} steps", _has_a_few_steps),
    Rule("can be done", "a step that the model cannot do is never seen", _can_be_done),
    Rule("goes on", "a step right after itself adds nothing", _goes_on_from_step_to_step),
    Rule("rests last", "nobody jumps while lying down, or rests before anything is done", _rests_last),
    Rule("gets going again", "who sits or lies has to walk off before anything else", _gets_going_again),
    Rule("is new", "what was just done is not what comes next", _is_new),
    Rule("words fit", "a task is part of its scene, and not as well of most others", _fits_the_words),
    Rule("steps fit", "a task is done as like tasks are done", _fits_the_steps),
)


@dataclass(frozen=True)
class Consistency:
    """Of answers to one planning task: how many, how many break no rule, and how often each rule was broken.

    What a planner refused with a PlanError counts as asked, and as broken under "answers".
    """

    asked: int
    consistent: int
    broken: Mapping[str, int]

    @property
    def share(self) -> float:
        return self.consistent / self.asked


def broken_rules(request: Request, answer: Answer, meaning: Meaning) -> tuple[str, ...]:
    """Names of the rules that an answer breaks; of one of the wrong kind nothing else is asked."""
    if not OF_ITS_KIND.holds(request, answer, meaning):
        return (OF_ITS_KIND.name,)
    return tuple(rule.name for rule in RULES if not rule.holds(request, answer, meaning))


def score(asked: Iterable[tuple[Request, Answer | None]], meaning: Meaning) -> dict[PlanningTask, Consistency]:
    """The consistency of answers by planning task, those that were asked for; None is a refusal."""
    found: dict[PlanningTask, list[tuple[str, ...]]] = {}
    for request, answer in asked:
        broken = ("answers",) if answer is None else broken_rules(request, answer, meaning)
        found.setdefault(request.kind, []).append(broken)
    return {
        kind: Consistency(
            len(found[kind]),
            found[kind].count(()),
            Counter(name for names in found[kind] for name in names),
        )
        for kind in PLANNING_TASKS
        if kind in found
    }


def mean_share(scores: Mapping[PlanningTask, Consistency]) -> float:
    """The score as one number: every planning task counts as much as every other."""
    return float(np.mean([one.share for one in scores.values()]))


def answered(planner: Planner, requests: Iterable[Request], *, seed: int = 0) -> list[tuple[Request, Answer | None]]:
    """Requests with a planner's answers; None where it raised a PlanError."""

    def answer(request: Request) -> Answer | None:
        try:
            return planner(request, seed=seed)
        except PlanError:
            return None

    return [(request, answer(request)) for request in requests]


def exchanged(rows: Sequence[Row], *, seed: int = 0) -> list[tuple[Request, Answer | None]]:
    """Every request with the answer to another scene's request of its kind: what a score is worth that guesses."""
    rng = Random(seed)
    by_kind: dict[PlanningTask, list[Row]] = {}
    for row in rows:
        by_kind.setdefault(row.request.kind, []).append(row)
    pairs: list[tuple[Request, Answer | None]] = []
    for row in rows:
        others = [other for other in by_kind[row.request.kind] if other.scene is not row.scene]
        if not others:
            raise PlanError("answers of one scene cannot be exchanged; give rows of two or more")
        pairs.append((row.request, rng.choice(others).answer))
    return pairs


def calibrate(rows: Iterable[Row], meaning: Meaning) -> dict[PlanningTask, float]:
    """The bound of each planning task that PASSES of these answers reach."""
    found: dict[PlanningTask, list[float]] = {}
    for request, answer, _ in rows:
        found.setdefault(request.kind, []).append(belonging(request, answer, meaning))
    return {kind: round(float(np.quantile(values, 1 - PASSES)), 4) for kind, values in found.items()}


@cache
def shipped_bounds() -> dict[PlanningTask, float]:
    """Those of consistency.json."""
    bounds: dict[PlanningTask, float] = json.loads(BOUNDS.read_text(encoding="utf-8"))
    return bounds


def minilm() -> SentenceReader:
    """all-MiniLM-L6-v2 from its package; raises ConfigError, naming the way to install it, where that is absent."""
    import torch

    from kinalign.evaluation.encoder import TextBackbone

    backbone = TextBackbone.minilm()

    def read(texts: Sequence[str]) -> Vectors:
        parts = []
        for start in range(0, len(texts), 64):
            states, is_token = backbone.read(texts[start : start + 64], device=torch.device("cpu"))
            means = (states * is_token[..., None]).sum(1) / is_token.sum(1, keepdim=True)
            parts.append(torch.nn.functional.normalize(means, dim=-1).numpy())
        return np.concatenate(parts)

    return read


def _steps_of(answer: Answer) -> tuple[Step, ...]:
    if isinstance(answer, tuple):
        return answer
    return answer.steps if isinstance(answer, Task) else ()


def _is_ability(step: Step) -> bool:
    """Whether the model can do it, and it is what its text says."""
    try:
        return Step.of(step.text).program == step.program and ability_of(step.text).is_known
    except KinalignError:
        return False


def _last(step: Step) -> Event:
    return step.program.events[-1]


def _words(steps: Iterable[Step]) -> list[str]:
    return [_plain(step.text) for step in steps]


def _task_of(text: str) -> str:
    """The task that a text names: wordings of one task in the corpus are one."""
    return _first_wordings().get(_plain(text), _plain(text))


@cache
def _first_wordings() -> dict[str, str]:
    return {
        _plain(wording): _plain(task.wordings[0])
        for scene in load_scenes()
        for task in scene.tasks
        for wording in task.wordings
    }


def _plain(text: str) -> str:
    return " ".join(text.lower().strip(" .!?").split())


def _texts(scene: WrittenScene) -> tuple[str, ...]:
    return (*scene.wordings, *(wording for task in scene.tasks for wording in task.wordings))


def _shares(ways: Sequence[Sequence[Step]]) -> dict[tuple[str, ...], float]:
    """How much of a task each step is."""
    shares: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for way in ways:
        for step in way:
            shares[_key(step)] += 1 / (len(way) * len(ways))
    return shares


def _key(step: Step) -> tuple[str, ...]:
    """What a step is, however often it is done."""
    event = step.program.events[0]
    return (event.action, event.side, event.direction, event.style)
