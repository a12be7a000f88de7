"""What a planner of few words says: tasks and scenes that it has learned, told of whomever a request names.

A network of a few million weights that learned from a thousand tasks writes sentences of its own that make no sense.
So it says sentences that it knows: those of scenes and tasks that mean the like are held against one another, and the
network weighs which of them comes next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kinalign.planning.plan import Step
from kinalign.planning.repertoire import abilities

SHARPNESS = 0.06
"""Of a cosine: what is nearer by this much counts e times as much."""
COMMON = 0.1
"""Share of all tasks, near or not, in what is usual in near ones."""
SLOT = "{}"
"""Where a saying names whom it is told of."""


@dataclass(frozen=True)
class KnownTask:
    """Wordings of a task, "{} stretches the legs.", and all steps of all ways to do it."""

    says: tuple[str, ...]
    steps: tuple[str, ...]


@dataclass(frozen=True)
class KnownScene:
    """Wordings of a scene, "{} warms up before a match.", and its tasks in their order."""

    says: tuple[str, ...]
    tasks: tuple[KnownTask, ...]


class Saying(NamedTuple):
    """A sentence that could be the answer, and how well what it means goes with what was asked."""

    text: str
    fits: float


class Sayings:
    """Scenes and tasks that can be said, and vectors (N, W) of what scenes and tasks mean."""

    def __init__(self, scenes: Sequence[KnownScene], *, of_scenes: Tensor, of_tasks: Tensor) -> None:
        self.scenes, self.tasks = tuple(scenes), tuple(task for scene in scenes for task in scene.tasks)
        self.of_scenes, self.of_tasks = F.normalize(of_scenes, dim=1), F.normalize(of_tasks, dim=1)
        self._scene_of = torch.tensor([place for place, scene in enumerate(scenes) for _ in scene.tasks])
        keys = {key: place for place, key in enumerate(abilities())}
        self._steps = torch.zeros(len(self.tasks), len(keys))
        """(T, K) which steps of the repertoire a task has."""
        for row, task in zip(self._steps, self.tasks):
            row[[keys[step] for step in task.steps]] = 1.0

    def tasks_in(self, scene: Tensor, number: int) -> Iterator[Saying]:
        """Sayings of the tasks that suit a scene of this meaning (W,) best: by themselves, and by their own scene."""
        fits = (self.of_tasks @ scene + (self.of_scenes @ scene)[self._scene_of]) / 2
        return self._best(self.tasks, fits, number)

    def tasks_of(self, steps: Sequence[Step], number: int) -> Iterator[Saying]:
        """Sayings of the tasks that are done in steps most like these: the share of all that both have."""
        given = self._given(steps)
        both = self._steps @ given
        return self._best(self.tasks, both / (self._steps.sum(1) + given.sum() - both), number)

    def scenes_of_tasks(self, tasks: Tensor, number: int) -> Iterator[Saying]:
        """Sayings of the scenes in which tasks of these meanings (T, W) are done, or the like of them."""
        like = torch.stack(
            [rows.amax(0).mean() for rows in (self.of_tasks @ tasks.T).split([len(s.tasks) for s in self.scenes])]
        )
        return self._best(self.scenes, (like + self.of_scenes @ F.normalize(tasks.mean(0), dim=0)) / 2, number)

    def scenes_of_steps(self, steps: Sequence[Step], number: int) -> Iterator[Saying]:
        """Sayings of the scenes that have most of the steps, rare ones counting for more."""
        rare = (len(self.tasks) / (1 + self._steps.sum(0))).log()
        given = self._given(steps) * rare
        rows = self._steps.split([len(scene.tasks) for scene in self.scenes])
        have = torch.stack([(row.amax(0) * given).sum() for row in rows])
        return self._best(self.scenes, have / given.sum().clamp(min=1e-6), number)

    def habit(self, meaning: Tensor, *, of_scene: bool = False) -> Tensor:
        """How much likelier (K,) each step of the repertoire is in tasks, or in scenes, that mean the like than in all.

        Logarithms, above 0 where it is usual there. After Khandelwal et al., Generalization through Memorization
        (ICLR 2020), with a bag of steps for the next word.
        """
        near = (self.of_scenes @ meaning)[self._scene_of] if of_scene else self.of_tasks @ meaning
        shares = self._steps / self._steps.sum(1, keepdim=True)
        everywhere = shares.mean(0)
        there = (near / SHARPNESS).softmax(0) @ shares
        return ((1 - COMMON) * there + COMMON * everywhere).clamp(min=1e-6).log() - everywhere.clamp(min=1e-6).log()

    def _given(self, steps: Sequence[Step]) -> Tensor:
        """(K,) 1 for each step of the repertoire that is among these."""
        programs = [step.program for step in steps]
        return torch.tensor([float(able.program in programs) for able in abilities().values()])

    def _best(self, known: Sequence[KnownTask] | Sequence[KnownScene], fits: Tensor, number: int) -> Iterator[Saying]:
        for place in fits.topk(min(number, len(known))).indices.tolist():
            yield from (Saying(text, float(fits[place])) for text in known[place].says)


def told_of(saying: str, person: str) -> str:
    """A saying with whom it is told of, as a sentence.

    >>> told_of("{} stretches the legs.", "the goalkeeper")
    'The goalkeeper stretches the legs.'
    """
    text = saying.replace(SLOT, person, 1)
    return text[0].upper() + text[1:]


def says_again(text: str, saying: str) -> bool:
    """Whether a text is a saying, told of anybody."""
    begin, end = (re.escape(part) for part in saying.rstrip(".").split(SLOT, 1))
    return re.fullmatch(rf"{begin}.+{end}\.?", text.strip(), re.IGNORECASE) is not None
