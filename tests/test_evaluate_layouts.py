"""Data and evaluators as people have them, HumanML3D's and KIT-ML's, through `kinalign evaluate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_humanml3d import walk
from test_kit import LANGUAGE_MODEL, TOKENIZER
from test_pipeline import lm_of, tokenizer_of
from test_published_evaluator import write_published

from kinalign.commands import TrainLM, train_language_model
from kinalign.data.dataset import load_dataset
from kinalign.data.humanml3d import HumanML3DFolder, flavour_of
from kinalign.errors import CheckpointError, EvaluationError, KinalignError
from kinalign.evaluation.commands import Evaluate, evaluate_command
from kinalign.evaluation.published import PublishedEvaluator
from kinalign.evaluation.report import TASKS, TRUTH, Report
from kinalign.evaluation.tasks import RETRIEVED, THROUGH_TOKENIZER
from kinalign.motion.features import FeatureStats, features_to_joints, motion_to_features
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, KIT, Skeleton
from kinalign.pipeline import TextToMotion
from kinalign.tokenizer.commands import Train, train

ACTIONS = {"walks": "walk/VERB", "waves": "wave/VERB", "turns left": "turn/VERB left/ADV"}
NUM_TEST, NUM_TRAIN = 36, 8


def write_data(root: Path, skeleton: Skeleton) -> Path:
    """A data set in the published layout, with clips enough for a pool; ids as there."""
    unit_m = flavour_of(skeleton).metres_per_unit
    for name in ("texts", "new_joints", "new_joint_vecs"):
        (root / name).mkdir(parents=True)
    ids = [f"{number:06d}" for number in range(NUM_TEST + NUM_TRAIN)]
    for number, clip_id in enumerate(ids):
        joints = walk(skeleton, 45 + number % 9) * np.float32(1 + number % 5 / 20)
        joints[:, 1:, 1] += 0.05 * np.sin(0.2 * number + np.arange(len(joints)) * 0.4)[:, None]
        rows = motion_to_features(joints / unit_m)
        np.save(root / "new_joint_vecs" / f"{clip_id}.npy", rows)
        np.save(root / "new_joints" / f"{clip_id}.npy", features_to_joints(rows).astype(np.float32))
        does, tagged = list(ACTIONS.items())[number % 3]
        style = ("slowly", "fast", "happily")[number // 3 % 3]
        lines = [
            f"a person {does} {style}#a/DET person/NOUN {tagged} {style}/ADV#0.0#0.0",
            f"someone {does} number {number}#someone/PRON {tagged} number/NOUN {number}/NUM#0.0#0.0",
        ]
        (root / "texts" / f"{clip_id}.txt").write_text("\n".join(lines), encoding="utf-8")
    for split, of_split in (("test", ids[:NUM_TEST]), ("train", ids[NUM_TEST:]), ("val", [])):
        (root / f"{split}.txt").write_text("\n".join(of_split), encoding="utf-8")
    return root


@pytest.fixture(scope="module", params=[HUMANML3D, KIT], ids=["HumanML3D", "KIT-ML"])
def skeleton(request: pytest.FixtureRequest) -> Skeleton:
    found: Skeleton = request.param
    return found


@pytest.fixture(scope="module")
def data(skeleton: Skeleton, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / skeleton.name, skeleton)


@pytest.fixture(scope="module")
def model(skeleton: Skeleton, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's folder; KIT's is what training leaves."""
    out = tmp_path_factory.mktemp("model")
    if skeleton is HUMANML3D:
        return TextToMotion(lm_of(), tokenizer_of()).save_pretrained(out)
    train(Train(out=out / "tokenizer", data=data, training=TOKENIZER))
    tokenizer = out / "tokenizer" / "tokenizer"
    train_language_model(TrainLM(tokenizer=tokenizer, out=out / "lm", data=data, training=LANGUAGE_MODEL))
    return out / "lm" / "model"


@pytest.fixture(scope="module")
def published(skeleton: Skeleton, tmp_path_factory: pytest.TempPathFactory) -> Path:
    width = {22: 263, 21: 251}[skeleton.num_joints]
    unit_m = flavour_of(skeleton).metres_per_unit
    meta = {22: "Comp_v6_KLD01/meta", 21: "Comp_v6_KLD005/meta"}[skeleton.num_joints]
    return write_published(tmp_path_factory.mktemp("published"), feature_width=width, unit_m=unit_m, meta=meta)


def asked(model: Path, data: Path, encoder: Path, out: Path) -> Evaluate:
    return Evaluate(
        model,
        data=data,
        encoder=encoder,
        out=out,
        replications=1,
        many_prompts=2,
        many_candidates=2,
        threads=torch.get_num_threads(),
    )


@pytest.fixture(scope="module")
def report_folder(model: Path, data: Path, published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    evaluate_command(asked(model, data, published, out))
    return out


def test_all_tasks_have_their_numbers(report_folder: Path) -> None:
    report = Report.load(report_folder)
    assert {row.task for row in report.rows} == set(TASKS)
    numbers = {(row.task, name): cell for row in report.rows if row.system == "model" for name, cell in row.cells.items()}
    systems = {row.system for row in report.rows if row.task == "t2m"}
    assert systems == {TRUTH, THROUGH_TOKENIZER, RETRIEVED, report.system}
    assert all(cell.mean is None or np.isfinite(cell.mean) for cell in numbers.values())
    for row in report.rows:
        # the classes of captions are openmocap20's, and this evaluator has no vectors of words in context
        without = {name for name, cell in row.cells.items() if cell.mean is None}
        assert without <= {"action_percent", "side_percent", "both_percent", "bert_score"}, row
