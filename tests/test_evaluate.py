"""Numbers of a tiny model on made-up clips: repeatable, resumable, fair, and refused where they would say nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from test_pipeline import lm_of, tokenizer_of

from kinalign.data.records import Clip, Split
from kinalign.errors import ConfigError, EvaluationError, FormatError, KinalignError
from kinalign.evaluation import store, tasks
from kinalign.evaluation.bench import Bench, EvaluationSettings
from kinalign.evaluation.commands import Evaluate, evaluate_command
from kinalign.evaluation.compare import compare, comparison_table, paired_difference
from kinalign.evaluation.embedding import Vectors
from kinalign.evaluation.evaluate import clip_means, evaluate
from kinalign.evaluation.report import TASKS, TRUTH, Cell, Report, cell_of, rows_of, shown, t_quantile
from kinalign.evaluation.tasks import HELD, INTERPOLATED, RETRIEVED, THROUGH_TOKENIZER
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import KIT
from kinalign.motion.synthetic import jumping, walking, waving
from kinalign.pipeline import TextToMotion

QUICK = EvaluationSettings(replications=3, many_prompts=3, many_candidates=3)


def clip_of(number: int, split: Split = "test", *, source: str = "CMU") -> Clip:
    """A clip that differs from all others in its movement and in its words."""
    movement = (
        walking(33 + number % 7, steps_per_second=1 + number / 40),
        waving(30 + number % 5, num_waves=1 + number % 4, side=("left", "right")[number % 2]),
        jumping(1, height_m=0.1 + number / 200),
    )[number % 3]
    action = ("walks", "waves", "jumps")[number % 3]
    captions = (f"a person {action} in way {number}", f"someone {action} in way {number}")
    motion = movement[: 33 + number % 7]
    return Clip(f"{split}_{number:02d}", motion, captions, source, "made up", split)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [clip_of(number, source="CMU" if number < 34 else "HDM05") for number in range(40)]


@pytest.fixture(scope="module")
def train() -> list[Clip]:
    return [clip_of(number, "train") for number in range(50, 60)]


class Stand:
    """Stands in for an evaluator: a sentence lies where its own motion does, a motion where its poses say."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.projection = np.random.default_rng(0).normal(size=(6 * 22 * 3, 8))
        self.places = {caption: self.encode_motion([clip.motion])[0] for clip in clips for caption in clip.captions}

    def encode_text(self, captions: Sequence[str], /) -> Vectors:
        elsewhere = np.eye(8, dtype=np.float32)[0]
        return np.stack([self.places.get(caption, elsewhere) for caption in captions])

    def encode_motion(self, motions: Sequence[Motion], /) -> Vectors:
        rows = []
        for motion in motions:
            frames = np.linspace(0, len(motion) - 1, 6).astype(int)
            poses = motion.joints[frames] - motion.joints[frames][:, :1] * [1, 0, 1]
            rows.append(poses.flatten() @ self.projection)
        vectors = np.array(rows)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def encoder(clips: list[Clip], train: list[Clip]) -> Stand:
    return Stand([*clips, *train])


@pytest.fixture(scope="module")
def model() -> TextToMotion:
    return TextToMotion(lm_of(), tokenizer_of())


def run(subject: TextToMotion | Path, folder: Path, clips: list[Clip], encoder: Any, **others: Any) -> Report:
    given = {"settings": QUICK, "name": "tiny", "encoder_sha256": "e" * 64, **others}
    return evaluate(clips, encoder, subject, folder=folder, **given)


@pytest.fixture(scope="module")
def folder(
    model: TextToMotion,
    clips: list[Clip],
    train: list[Clip],
    encoder: Stand,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("report")
    run(model, out, clips, encoder, train=train)
    return out


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    return Report.load(folder)


def test_smoke(report: Report) -> None:
    print(report.markdown())
