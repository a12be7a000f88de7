"""What a policy does while it learns: its loss on pairs held out, event truth by a judge, and how well bodies move.

A policy can buy what its loss asks for with ugly motion. Where feet slide, joints tremble or answers are no motion
more often than the guard lets them, learning ends, and the weights go back to where they were when last all was well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from kinalign.errors import ConfigError
from kinalign.judge.named import judge_named
from kinalign.judge.prompts import EventPrompt, grammar_prompts
from kinalign.judge.rubric import SUB_TASKS
from kinalign.judge.verdict import Case, Judge, Verdict
from kinalign.motion.motion import Motion
from kinalign.motion.physics import foot_skating, jitter
from kinalign.pipeline import TextToMotion
from kinalign.run import RunFolder, read_tensors, write_tensors
from kinalign.training import Look, accelerated

GOOD = "good.safetensors"
"""What was learned when the guard was last content."""
GUARDED = ("quality/skating", "quality/jitter", "quality/invalid")


@dataclass(frozen=True)
class Watch:
    """When and at what it is looked while a model learns."""

    every: int = 0
    """Optimizer steps between looks; 0 never looks."""
    prompts: int = 24
    """Prompts of the eval split that motions are made for."""
    events: int = 2
    """Events of a temporal or integrity prompt."""
    candidates: int = 4
    """Motions for each of them."""
    judge: str = "kinematic"
    """Who says whether the events happen; another than made the pairs, if there is one."""
    guard: float = 0.1
    """Ends learning where feet slide or joints tremble by more than this share more than the base's, or more than this
    share more of the answers are no motion."""

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ConfigError(f"every={self.every} must be 0, for no looks, or more (--watch.every)")
        for name in ("prompts", "candidates"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1 (--watch.{name})")
        if not 0 <= self.guard < math.inf:
            raise ConfigError(f"guard={self.guard} must be 0 or more (--watch.guard)")


class Watcher:
    """Looks at a policy every so many steps; see `training.optimize`."""

    def __init__(
        self,
        model: TextToMotion,
        run: RunFolder,
        learned: nn.Module,
        settings: Watch,
        held_out: Callable[[], Mapping[str, float]] | None,
    ) -> None:
        self.model, self.run, self.learned, self.settings, self.held_out = model, run, learned, settings, held_out
        if settings.every:
            self.prompts = grammar_prompts(SUB_TASKS, settings.prompts, events=settings.events, split="eval")
            self.judge = judge_named(settings.judge)

    def __call__(self, step: int) -> Look | None:
        """What is found at a step; where it is the last one, the guard is not content."""
        if not self.settings.every or step % self.settings.every:
            return None
        self.model.lm.eval()
        values = events_and_quality(self.model, self.prompts, self.judge, num_candidates=self.settings.candidates)
        if self.held_out is not None:
            values |= {f"eval/{name}": value for name, value in self.held_out().items()}
        is_well = step == 0 or self._is_well(values)
        if is_well and accelerated().is_main_process:
            write_tensors(self.run.path / GOOD, dict(self.learned.state_dict()))
        return Look(values, is_last=not is_well)

    def _is_well(self, values: Mapping[str, float]) -> bool:
        base, guard = next(row for row in self.run.metrics() if row["step"] == 0), self.settings.guard
        worse = {name: values[name] - base[name] for name in GUARDED}
        return all(more <= (guard if name == "quality/invalid" else guard * base[name]) for name, more in worse.items())

    def restore(self) -> None:
        """Put back what was learned when the guard was last content, where it ended learning."""
        checkpoint = self.run.load_checkpoint()
        if checkpoint is not None and checkpoint.state["is_ended"]:
            self.learned.load_state_dict(read_tensors(self.run.path / GOOD))


def events_and_quality(
    model: TextToMotion, prompts: Sequence[EventPrompt], judge: Judge, *, num_candidates: int
) -> dict[str, float]:
    """Means over motions: the judge's score, the share that is all right, and how bodies move.

    quality/invalid is the share of answers that are no motion where nothing makes them one. The same seeds each time:
    two policies differ by what they learned. Motions without a verdict count for quality, and not for events.
    """
    texts = [prompt.prompt for prompt in prompts]
    made = model.generate(texts, num_candidates=num_candidates)
    free = model.generate(texts, num_candidates=num_candidates, constrained=False)
    motions = [(prompt, motion) for prompt, of_prompt in zip(prompts, made) for motion in of_prompt.motions]
    outcomes = judge.judge_all([Case(one.prompt, motion, one.program, one.task) for one, motion in motions])
    scores = [outcome.score for outcome in outcomes if isinstance(outcome, Verdict)]
    return {
        "events/score": float(np.mean(scores)) if scores else 0.0,
        "events/right": float(np.mean([score == 5 for score in scores])) if scores else 0.0,
        "quality/skating": _mean([motion for _, motion in motions], foot_skating),
        "quality/jitter": _mean([motion for _, motion in motions], jitter),
        "quality/invalid": sum(one.num_invalid for one in free) / (num_candidates * len(free)),
    }


def _mean(motions: Sequence[Motion], number: Callable[[Motion], float]) -> float:
    return float(np.mean([number(motion) for motion in motions]))
