"""What a policy does while it learns: its loss on pairs held out, event truth by a judge, and how good motions are.

A policy can buy what its loss asks for with ugly motion. Where feet slide, joints tremble, answers are no motion or
motions are unlike real ones (FID) more than the guard lets them, learning ends, and the weights go back to where they
were when last all was well.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from kinalign.data.dataset import load_dataset
from kinalign.errors import ConfigError, EvaluationError, KinalignError
from kinalign.evaluation.bench import Bench, EvaluationSettings
from kinalign.evaluation.encoder import TextMotionEncoder, shipped_encoder
from kinalign.evaluation.metrics import fid
from kinalign.judge.named import judge_named
from kinalign.judge.prompts import EventPrompt, grammar_prompts
from kinalign.judge.rubric import SUB_TASKS
from kinalign.judge.verdict import Case, Judge, Verdict
from kinalign.motion.motion import Motion
from kinalign.motion.physics import foot_skating, jitter
from kinalign.motion.skeleton import HUMANML3D
from kinalign.pipeline import TextToMotion
from kinalign.run import RunFolder, read_tensors, write_tensors
from kinalign.training import Look, accelerated

GOOD = "good.safetensors"
"""What was learned when the guard was last content."""

Fid = Callable[[Sequence[Motion]], float]
"""Of motions, against real ones."""


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
    fid: bool = True
    """Look at FID against the real clips of the val split too, where there are an evaluator and data."""
    guard_fid: float = 0.2
    """Ends learning where FID is higher by more than this share. By chance two draws of 96 motions differ by 0.06."""
    data: Path | None = None
    """Data set of the real clips; openmocap20 where it is left out."""
    encoder: Path | None = None
    """Evaluator folder; the shipped one where it is left out."""

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ConfigError(f"every={self.every} must be 0, for no looks, or more (--watch.every)")
        for name in ("prompts", "candidates"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1 (--watch.{name})")
        for name in ("guard", "guard_fid"):
            if not 0 <= getattr(self, name) < math.inf:
                option = name.replace("_", "-")
                raise ConfigError(f"{name}={getattr(self, name)} must be 0 or more (--watch.{option})")

    def is_well(self, found: Mapping[str, float], base: Mapping[str, float]) -> bool:
        """Whether the guard is content with what was found, held against what was found of the base."""
        limits = {
            "quality/skating": self.guard * base["quality/skating"],
            "quality/jitter": self.guard * base["quality/jitter"],
            "quality/invalid": self.guard,
            "quality/fid": self.guard_fid * base.get("quality/fid", 0.0),
        }
        return all(
            found[name] - base[name] <= limit for name, limit in limits.items() if name in found and name in base
        )


class Examination:
    """What is looked at: the same prompts, seeds and judge for every policy."""

    def __init__(self, settings: Watch, model: TextToMotion) -> None:
        self.prompts = grammar_prompts(SUB_TASKS, settings.prompts, events=settings.events, split="eval")
        self.judge = judge_named(settings.judge)
        self.num_candidates = settings.candidates
        self.fid = fid_to_real(settings, model) if settings.fid else None

    def __call__(self, model: TextToMotion) -> dict[str, float]:
        """What is found of a policy, see `events_and_quality`."""
        return events_and_quality(model, self.prompts, self.judge, num_candidates=self.num_candidates, fid_of=self.fid)


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
            self.examination = Examination(settings, model)

    def __call__(self, step: int) -> Look | None:
        """What is found at a step; where it is the last one, the guard is not content."""
        if not self.settings.every or step % self.settings.every:
            return None
        self.model.lm.eval()
        values = self.examination(self.model)
        if self.held_out is not None:
            values |= {f"eval/{name}": value for name, value in self.held_out().items()}
        is_well = step == 0 or self._is_well(values)
        if is_well and accelerated().is_main_process:
            write_tensors(self.run.path / GOOD, dict(self.learned.state_dict()))
        return Look(values, is_last=not is_well)

    def _is_well(self, values: Mapping[str, float]) -> bool:
        return self.settings.is_well(values, next(row for row in self.run.metrics() if row["step"] == 0))

    def restore(self) -> None:
        """Put back what was learned when the guard was last content, where it ended learning."""
        checkpoint = self.run.load_checkpoint()
        if checkpoint is not None and checkpoint.state["is_ended"]:
            self.learned.load_state_dict(read_tensors(self.run.path / GOOD))


def fid_to_real(settings: Watch, model: TextToMotion) -> Fid | None:
    """FID of a model's motions against the real clips that the settings name.

    None, with a warning, where nothing is named and what is looked for is not here.
    """
    try:
        if model.tokenizer.skeleton.num_joints != HUMANML3D.num_joints:
            raise EvaluationError(f"the evaluator reads {HUMANML3D.num_joints} joints")
        encoder = TextMotionEncoder.from_pretrained(settings.encoder or shipped_encoder())
        fps = model.tokenizer.config.fps
        bench = Bench(load_dataset(settings.data, "val"), encoder, EvaluationSettings(), fps=fps)
        real = bench.embeddings.motions([clip.motion for clip in bench.clips])
    except KinalignError as error:
        if settings.data is not None or settings.encoder is not None:
            raise
        print(f"kinalign: warning: FID is not looked at: {error} (--watch.no-fid)", file=sys.stderr)
        return None
    return lambda motions: fid(real, bench.embeddings.motions(motions))


def events_and_quality(
    model: TextToMotion,
    prompts: Sequence[EventPrompt],
    judge: Judge,
    *,
    num_candidates: int,
    fid_of: Fid | None = None,
) -> dict[str, float]:
    """Means over motions: the judge's score, the share that is all right, and how bodies move; with `fid_of` their FID.

    quality/invalid is the share of answers that are no motion where nothing makes them one. The same seeds each time:
    two policies differ by what they learned. Motions without a verdict count for quality, and not for events.
    """
    texts = [prompt.prompt for prompt in prompts]
    made = model.generate(texts, num_candidates=num_candidates)
    free = model.generate(texts, num_candidates=num_candidates, constrained=False)
    motions = [(prompt, motion) for prompt, of_prompt in zip(prompts, made) for motion in of_prompt.motions]
    outcomes = judge.judge_all([Case(one.prompt, motion, one.program, one.task) for one, motion in motions])
    scores = [outcome.score for outcome in outcomes if isinstance(outcome, Verdict)]
    found = {
        "events/score": float(np.mean(scores)) if scores else 0.0,
        "events/right": float(np.mean([score == 5 for score in scores])) if scores else 0.0,
        "quality/skating": _mean([motion for _, motion in motions], foot_skating),
        "quality/jitter": _mean([motion for _, motion in motions], jitter),
        "quality/invalid": sum(one.num_invalid for one in free) / (num_candidates * len(free)),
    }
    return found if fid_of is None else found | {"quality/fid": fid_of([motion for _, motion in motions])}


def _mean(motions: Sequence[Motion], number: Callable[[Motion], float]) -> float:
    return float(np.mean([number(motion) for motion in motions]))
