"""Data and evaluators as people have them, HumanML3D's and KIT-ML's, through `kinalign evaluate`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_encoder import TINY, backbone
from test_humanml3d import walk
from test_kit import LANGUAGE_MODEL, TOKENIZER
from test_pipeline import lm_of, tokenizer_of
from test_published_evaluator import write_published

from kinalign.commands import TrainLM, train_language_model
from kinalign.data.dataset import load_dataset
from kinalign.data.humanml3d import HumanML3DFolder, flavour_of
from kinalign.errors import CheckpointError, EvaluationError, KinalignError, MotionError
from kinalign.evaluation.commands import Evaluate, evaluate_command
from kinalign.evaluation.encoder import TextBackbone, TextMotionEncoder
from kinalign.evaluation.metrics import mm_dist
from kinalign.evaluation.published import PublishedEvaluator
from kinalign.evaluation.report import TASKS, TRUTH, Report
from kinalign.evaluation.store import Store
from kinalign.evaluation.tasks import HELD, INTERPOLATED, RETRIEVED, THROUGH_TOKENIZER
from kinalign.evaluation.train import EncoderTraining
from kinalign.motion.features import features_to_joints, motion_to_features
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, KIT, Skeleton
from kinalign.pipeline import TextToMotion
from kinalign.recipes import evaluator
from kinalign.tokenizer.commands import Train, train
from kinalign.training import Optimization

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


def of_test(data: Path) -> list[str]:
    return (data / "test.txt").read_text(encoding="utf-8").split()


def test_all_tasks_have_their_numbers(report_folder: Path) -> None:
    report = Report.load(report_folder)
    assert {row.task for row in report.rows} == set(TASKS)
    systems = {row.system for row in report.rows if row.task == "t2m"}
    assert systems == {TRUTH, THROUGH_TOKENIZER, RETRIEVED, report.system}
    for row in report.rows:
        # the kinds of captions are openmocap20's
        without = {name for name, cell in row.cells.items() if cell.mean is None}
        assert without <= {"action_percent", "side_percent", "both_percent", "bert_score"}, row
        assert all(np.isfinite(cell.mean) for name, cell in row.cells.items() if name not in without)


def test_real_motions_have_the_numbers_of_the_published_rows(report_folder: Path, data: Path, published: Path) -> None:
    """R-precision and MM-Dist from new_joint_vecs and texts alone, as papers compute them."""
    folder, evaluator = HumanML3DFolder.open(data), PublishedEvaluator.from_pretrained(published)
    prompts = [json.loads(line)["prompt"] for line in (report_folder / "clips.jsonl").read_text().splitlines()]
    lines = []
    for clip_id, prompt in zip(of_test(data), prompts):
        of_clip = (data / "texts" / f"{clip_id}.txt").read_text(encoding="utf-8").splitlines()
        lines += [line for line in of_clip if line.startswith(f"{prompt}#")]
    text = evaluator.encode_text(lines)
    motion = evaluator.encode_features([folder.features(clip_id) for clip_id in of_test(data)])
    report = Report.load(report_folder)
    assert report.cell("t2m", TRUTH, "mm_dist").mean == pytest.approx(mm_dist(text, motion), rel=1e-3)


def test_numbers_of_joints_are_in_metres_and_seconds(report_folder: Path, data: Path, skeleton: Skeleton) -> None:
    joints = [np.load(data / "new_joints" / f"{clip_id}.npy").astype(float) for clip_id in of_test(data)]
    joints = [one * flavour_of(skeleton).metres_per_unit for one in joints]
    report = Report.load(report_folder)
    jerks = [np.linalg.norm(np.diff(one, n=3, axis=0), axis=-1).mean() * skeleton.fps**3 for one in joints]
    assert report.cell("t2m", TRUTH, "jitter_m_s3").mean == pytest.approx(np.mean(jerks), rel=1e-3)
    held, straight = [], []
    for one in joints:
        steps = (len(one) - 1) // 4
        start = 4 * max(1, round(steps / 5))
        held.append(np.linalg.norm(one[start : 4 * steps] - one[start - 1], axis=-1).mean())
        start, stop = 4 * (steps // 4), 4 * (steps // 4 + steps // 2)
        share = (np.arange(start, stop) - start + 1)[:, None, None] / (stop - start + 1)
        way = (1 - share) * one[start - 1] + share * one[stop]
        straight.append(np.linalg.norm(way - one[start:stop], axis=-1).mean())
    assert report.cell("pred", HELD, "ade_m").mean == pytest.approx(np.mean(held), rel=1e-4)
    assert report.cell("inbetween", INTERPOLATED, "ade_m").mean == pytest.approx(np.mean(straight), rel=1e-4)


def test_lengths_that_are_told_are_kept_in_seconds(
    model: Path, data: Path, published: Path, skeleton: Skeleton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Motion] = []
    motions = Store.motions

    def seeing(self: Store, *args: Any, **others: Any) -> Any:
        made = motions(self, *args, **others)
        seen.extend(made[0])
        return made

    monkeypatch.setattr(Store, "motions", seeing)
    evaluate_command(replace(asked(model, data, published, tmp_path), task="t2m", true_lengths=True))
    assert {(motion.fps, motion.joints.shape[1]) for motion in seen} == {(skeleton.fps, skeleton.num_joints)}
    real = [clip.motion.duration_s for clip in load_dataset(data, "test")]
    step_s = 4 / skeleton.fps
    assert [motion.duration_s for motion in seen] == pytest.approx(real, abs=step_s / 2 + 1e-6)


def test_motions_of_another_system_are_scored(data: Path, published: Path, tmp_path: Path) -> None:
    for clip in load_dataset(data, "test"):
        clip.motion.save(tmp_path / "made" / f"{clip.id}.npy")
    evaluate_command(
        Evaluate(data=data, encoder=published, outputs=tmp_path / "made", out=tmp_path / "report", replications=2)
    )
    cells = {row.system: row.cells for row in Report.load(tmp_path / "report").rows}
    assert cells["made"] == cells[TRUTH]


def test_an_evaluator_of_ours_is_trained_on_the_data_and_reads_it(
    model: Path, data: Path, skeleton: Skeleton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextBackbone, "minilm", staticmethod(lambda: backbone(places=1024)))
    small = EncoderTraining(
        network=TINY, optimization=Optimization(steps=2, warmup_steps=1, log_every=1, checkpoint_every=2), batch_size=4
    )
    monkeypatch.setattr(evaluator, "TRAINING", small)
    recipe = evaluator.Recipe(tmp_path / "evaluator", data=data, steps=2, threads=torch.get_num_threads())
    folder = evaluator.train(recipe)
    assert f"on the train split of {skeleton.name} by" in (folder / "README.md").read_text(encoding="utf-8")
    assert TextMotionEncoder.from_pretrained(folder).skeleton is skeleton
    evaluate_command(replace(asked(model, data, folder, tmp_path / "report"), task="m2t"))
    report = Report.load(tmp_path / "report")
    assert report.cell("m2t", TRUTH, "r_precision_3").mean is not None
    assert report.cell("m2t", TRUTH, "bert_score").mean is not None


# what is refused


def test_a_wrong_or_half_folder_is_one_clear_error(model: Path, data: Path, published: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no evaluator: neither config\.json .*\(--encoder\)"):
        evaluate_command(asked(model, data, tmp_path, tmp_path / "out"))
    half = tmp_path / "half"
    shutil.copytree(published, half)
    shutil.rmtree(half / "glove")
    with pytest.raises(CheckpointError, match=r"half lacks glove/our_vab_words\.pkl, .* of the published evaluator"):
        evaluate_command(asked(model, data, half, tmp_path / "out"))
    # a model is no evaluator
    with pytest.raises(KinalignError, match="for EncoderConfig"):
        evaluate_command(asked(model, data, model, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_data_without_parts_of_speech_is_refused(model: Path, published: Path, tmp_path: Path) -> None:
    with pytest.raises(
        EvaluationError, match=r"parts of speech, which stand in texts/ .* not in openmocap20; .*--data"
    ):
        evaluate_command(replace(asked(model, tmp_path, published, tmp_path / "out"), data=None))
    with pytest.raises(EvaluationError, match=f"not in {tmp_path}"):
        evaluate_command(asked(model, tmp_path, published, tmp_path / "out"))


def test_an_evaluator_of_another_skeleton_is_refused(
    model: Path, data: Path, skeleton: Skeleton, tmp_path: Path
) -> None:
    width, theirs = {22: (251, 21), 21: (263, 22)}[skeleton.num_joints]
    other = write_published(tmp_path / "other", feature_width=width)
    message = f"motion 0 of 36 has {skeleton.num_joints} joints .*this published evaluator reads {theirs}"
    with pytest.raises(MotionError, match=message):
        evaluate_command(replace(asked(model, data, other, tmp_path / "out"), task="t2m"))
