"""Numbers of a tiny model on made-up clips: repeatable, resumable, fair, and refused where they would say nothing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from test_pipeline import lm_of, tokenizer_of

from kinalign.data.records import Clip, Split
from kinalign.errors import ConfigError, EvaluationError, FormatError, KinalignError
from kinalign.evaluation import store
from kinalign.evaluation.bench import Bench, EvaluationSettings
from kinalign.evaluation.commands import Evaluate, evaluate_command
from kinalign.evaluation.compare import compare, comparison_table, paired_difference
from kinalign.evaluation.embedding import Vectors
from kinalign.evaluation.evaluate import clip_means, evaluate
from kinalign.evaluation.report import TASKS, TRUTH, Cell, Report, cell_of, shown, t_quantile
from kinalign.evaluation.tasks import HELD, INTERPOLATED, RETRIEVED, THROUGH_TOKENIZER
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import KIT
from kinalign.motion.synthetic import jumping, walking, waving
from kinalign.pipeline import TextToMotion
from kinalign.run import read_tensors

QUICK = EvaluationSettings(replications=3, many_prompts=3, many_candidates=3)
T2M = replace(QUICK, tasks=("t2m",))
OUTPUTS = replace(T2M, captions="first")


def clip_of(number: int, split: Split = "test", *, source: str = "CMU") -> Clip:
    """A clip that differs from all others in its movement and in its words."""
    movement = (
        walking(33 + number % 7, steps_per_second=1 + number / 40),
        waving(30 + number % 5, num_waves=1 + number % 4, side=("left", "right")[number % 2]),
        jumping(1, height_m=0.1 + number / 200),
    )[number % 3]
    action = ("walks", "waves", "jumps")[number % 3]
    captions = (f"a person {action} in way {number}", f"someone {action} in way {number}")
    return Clip(f"{split}_{number:02d}", movement, captions, source, "made up", split)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    sources = ["CMU"] * 27 + ["HDM05"] * 7 + ["Bandai1"] * 6
    return [clip_of(number, source=source) for number, source in enumerate(sources)]


@pytest.fixture(scope="module")
def train() -> list[Clip]:
    return [clip_of(number, "train") for number in range(50, 60)]


class Stand:
    """Stands in for an evaluator: a motion lies where its poses say, a sentence where its own motion does."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.projection = np.random.default_rng(0).normal(size=(12 * 22 * 3, 8))
        self.places = {caption: self.encode_motion([clip.motion])[0] for clip in clips for caption in clip.captions}

    def encode_text(self, captions: Sequence[str], /) -> Vectors:
        elsewhere = np.eye(8, dtype=np.float32)[0]
        return np.stack([self.places.get(caption, elsewhere) for caption in captions])

    def encode_motion(self, motions: Sequence[Motion], /) -> Vectors:
        rows = []
        for motion in motions:
            frames = np.linspace(0, len(motion) - 1, 12).astype(int)  # some of them in the air
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


def run(subject: TextToMotion | Path, folder: Path, clips: Sequence[Clip], encoder: Any, **others: Any) -> Report:
    given: dict[str, Any] = {"settings": QUICK, "name": "tiny", "encoder_sha256": "e" * 64, **others}
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


def untimed_files(folder: Path) -> dict[str, bytes]:
    """Every file of a report's folder, without what says how long something took or when."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name == "environment.json":  # which holds a date
            continue
        content = path.read_bytes()
        if path.suffix == ".md":
            content = re.sub(rb"\d+ ms each", b"", content)
        elif path.suffix == ".safetensors":
            content = b"".join(t.numpy().tobytes() for key, t in read_tensors(path).items() if key != "seconds")
        elif path.suffix == ".json":
            timed = {key: value for key, value in json.loads(content).items() if key not in ("times", "seconds")}
            content = json.dumps(timed).encode()
        files[name] = content
    return files


def mean(report: Report, task: str, system: str, metric: str, *, group: str = "all") -> float:
    value = report.cell(task, system, metric, group=group).mean
    assert value is not None
    return value


def write_outputs(folder: Path, clips: Sequence[Clip], motions: Sequence[Motion]) -> Path:
    for clip, motion in zip(clips, motions):
        motion.save(folder / f"{clip.id}.npy")
    return folder


# what is in a report


def test_every_task_has_its_systems_and_the_ground_truth(report: Report) -> None:
    systems = {task: list(dict.fromkeys(row.system for row in report.rows if row.task == task)) for task in TASKS}
    assert systems == {
        "t2m": [TRUTH, THROUGH_TOKENIZER, RETRIEVED, "tiny"],
        "m2t": [TRUTH, "tiny"],
        "pred": [TRUTH, HELD, "tiny"],
        "inbetween": [TRUTH, INTERPOLATED, "tiny"],
        "keyframes": [TRUTH, INTERPOLATED, "tiny"],
        "tokenizer": [TRUTH, "tiny"],
    }


def test_every_task_has_its_numbers(report: Report) -> None:
    metrics = {row.task: list(row.cells) for row in report.rows if row.group == "all" and row.system == "tiny"}
    retrieval = ["r_precision_1", "r_precision_2", "r_precision_3", "mm_dist"]
    physics = ["skating_cm_s", "skating_percent", "floating_mm", "penetration_mm", "jitter_m_s3"]
    spoken = ["bleu_1", "bleu_4", "rouge_l", "cider"]
    assert metrics["t2m"] == ["fid", *retrieval, "diversity", *physics, "multimodality", "invalid_percent"]
    assert metrics["m2t"] == [
        *retrieval,
        *spoken,
        *(f"{name}_processed" for name in spoken),
        "bert_score",
        "invalid_percent",
        "action_percent",
        "side_percent",
        "both_percent",
    ]
    for task in ("pred", "inbetween", "keyframes"):
        assert metrics[task] == ["ade_m", "fde_m", "join_jerk_ratio", "fid", "apd_m"]
    rebuilt = ["mpjpe_mm", "pa_mpjpe_mm", "accel_mm", "jitter_ratio", "codes_used", "perplexity"]
    assert metrics["tokenizer"] == ["fid", *rebuilt]


def test_the_ground_truth_is_perfect_and_a_random_model_is_not(report: Report) -> None:
    assert mean(report, "t2m", TRUTH, "fid") == pytest.approx(0, abs=1e-6)
    # every sentence lies where its own motion does
    assert mean(report, "t2m", TRUTH, "r_precision_1") == 1
    assert mean(report, "t2m", "tiny", "r_precision_3") < 0.5
    assert mean(report, "t2m", "tiny", "fid") > mean(report, "t2m", RETRIEVED, "fid") > 1e-4
    assert mean(report, "t2m", "tiny", "invalid_percent") > 0
    for task in ("pred", "inbetween", "keyframes"):
        assert mean(report, task, TRUTH, "ade_m") == 0 < mean(report, task, "tiny", "ade_m")
        assert mean(report, task, TRUTH, "join_jerk_ratio") == 1
        assert mean(report, task, "tiny", "apd_m") > 0


def test_a_group_that_fills_no_pool_says_so(report: Report) -> None:
    assert report.groups == {"all": 40, "CMU+HDM05": 34, "Bandai1": 6, "CMU": 27, "HDM05": 7}
    assert report.cell("t2m", "tiny", "r_precision_1", group="CMU").note == "needs 32, has 27"
    assert report.cell("t2m", "tiny", "fid", group="HDM05").mean is None
    assert report.cell("t2m", "tiny", "jitter_m_s3", group="HDM05").mean is not None
    assert report.cell("t2m", "tiny", "r_precision_1", group="CMU+HDM05").mean is not None


def test_the_held_pose_is_as_far_off_as_the_body_went(report: Report, clips: list[Clip]) -> None:
    errors = []
    for clip in clips:
        steps = (len(clip.motion) - 1) // 4
        start = 4 * max(1, round(steps / 5))
        truth = clip.motion.joints[: 4 * steps].astype(float)
        errors.append(np.sqrt(((truth[start:] - truth[start - 1]) ** 2).sum(-1)).mean())
    assert mean(report, "pred", HELD, "ade_m") == pytest.approx(float(np.mean(errors)), rel=1e-5)


def test_published_displacements_stand_beside_ours_where_asked_for(
    report: Report, model: TextToMotion, clips: list[Clip], train: list[Clip], encoder: Stand, tmp_path: Path
) -> None:
    settings = replace(QUICK, tasks=("pred", "keyframes"), published_displacement=True)
    asked = run(model, tmp_path, clips, encoder, train=train, settings=settings)
    average, final = [], []
    for clip in clips:
        steps = (len(clip.motion) - 1) // 4
        start = 4 * max(1, round(steps / 5))
        flat = clip.motion.joints[: 4 * steps].astype(float).reshape(4 * steps, 66)
        distances = np.sqrt(((flat[start:] - flat[start - 1]) ** 2).sum(-1))
        average.append(distances.mean())
        final.append(distances[-1])
    assert mean(asked, "pred", HELD, "ade_published_m") == pytest.approx(float(np.mean(average)), rel=1e-5)
    assert mean(asked, "pred", HELD, "fde_published_m") == pytest.approx(float(np.mean(final)), rel=1e-5)
    for task in ("pred", "keyframes"):
        # of 22 joints and 20 frames and more
        assert mean(asked, task, "tiny", "apd_published_m") > 10 * mean(asked, task, "tiny", "apd_m") > 0
        assert mean(asked, task, "tiny", "ade_m") == mean(report, task, "tiny", "ade_m")
    with pytest.raises(EvaluationError, match="has no 'ade_published_m'"):
        report.cell("pred", HELD, "ade_published_m")


def test_a_straight_way_meets_the_truth_on_both_sides(clips: list[Clip], report: Report) -> None:
    errors = []
    for clip in clips:
        steps = (len(clip.motion) - 1) // 4
        start, stop = 4 * (steps // 4), 4 * (steps // 4 + steps // 2)
        truth = clip.motion.joints.astype(float)
        share = (np.arange(start, stop) - start + 1)[:, None, None] / (stop - start + 1)
        straight = (1 - share) * truth[start - 1] + share * truth[stop]
        if steps >= 6:
            errors.append(np.linalg.norm(straight - truth[start:stop], axis=-1).mean())
    assert mean(report, "inbetween", INTERPOLATED, "ade_m") == pytest.approx(float(np.mean(errors)), rel=1e-5)


def test_a_report_says_what_it_depends_on(report: Report) -> None:
    assert set(report.config["sha256"]) == {"encoder", "data", "prompts", "weights", "statistics"}
    assert report.config["settings"]["replications"] == 3
    assert report.config["vocabulary"]["num_codes"] == 32
    assert {"numpy", "torch", "transformers", "kinalign"} <= set(report.environment["packages"])
    assert (report.config["device"], report.config["threads"]) == ("cpu", torch.get_num_threads())
    assert set(report.times) == set(TASKS) - {"tokenizer"}
    assert all(seconds > 0 for seconds in report.times.values())


def test_a_report_is_read_by_people_and_programs(folder: Path, report: Report) -> None:
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert text == report.markdown()
    cell = report.cell("t2m", "tiny", "jitter_m_s3")
    assert f"{cell.mean:.1f} ± {cell.interval:.1f}" in text
    assert "needs 32, has 7" in text
    assert report.config["sha256"]["weights"] in text
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["system"] == "tiny"


def test_a_number_that_a_report_has_not_is_one_clear_error(report: Report) -> None:
    with pytest.raises(EvaluationError, match="the report has no 'bleu_1' of 'tiny' on 'all' in task 't2m'"):
        report.cell("t2m", "tiny", "bleu_1")


# replications


@pytest.mark.slow
def test_two_runs_of_all_tasks_with_one_seed_write_the_same_bytes_except_for_times(
    folder: Path, model: TextToMotion, clips: list[Clip], train: list[Clip], encoder: Stand, tmp_path: Path
) -> None:
    run(model, tmp_path, clips, encoder, train=train)
    one, two = (untimed_files(root) for root in (folder, tmp_path))
    assert list(one) == list(two)
    assert [name for name in one if one[name] != two[name]] == []
    tasks = {name.split("/")[1].split("-")[0] for name in one if name.startswith("replications/")}
    assert tasks == set(TASKS)
    assert {"report.json", "report.md", "report.png", "clips.jsonl", "config.json"} <= set(one)


def test_another_seed_gives_other_numbers(
    report: Report, model: TextToMotion, clips: list[Clip], train: list[Clip], encoder: Stand, tmp_path: Path
) -> None:
    other = run(model, tmp_path, clips, encoder, train=train, settings=replace(T2M, seed=1))
    for metric in ("fid", "multimodality", "diversity", "jitter_m_s3"):
        assert mean(other, "t2m", "tiny", metric) != mean(report, "t2m", "tiny", metric)
    assert other.config["sha256"]["prompts"] != report.config["sha256"]["prompts"]
    assert other.config["sha256"]["data"] == report.config["sha256"]["data"]


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 4, 6])
def test_a_run_that_was_stopped_repeats_nothing_that_was_finished(
    at: int,
    report: Report,
    model: TextToMotion,
    clips: list[Clip],
    train: list[Clip],
    encoder: Stand,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, calls = model.answers, []

    def counted(*args: Any, **others: Any) -> Any:
        calls.append(args)
        if len(calls) == at:
            raise KeyboardInterrupt
        return answers(*args, **others)

    monkeypatch.setattr(model, "answers", counted)
    with pytest.raises(KeyboardInterrupt):
        run(model, tmp_path, clips, encoder, train=train, settings=T2M)
    assert not (tmp_path / "report.json").exists()
    resumed = run(model, tmp_path, clips, encoder, train=train, settings=T2M)
    # in each replication a motion for each clip, many for a few, free answers; and the call that was cut off
    assert len(calls) == 3 * 3 + 1
    assert resumed.rows == [row for row in report.rows if row.task == "t2m"]
    run(model, tmp_path, clips, encoder, train=train, settings=T2M)
    assert len(calls) == 3 * 3 + 1


def test_a_folder_of_another_evaluation_is_not_gone_on_with(
    folder: Path, model: TextToMotion, clips: list[Clip], encoder: Stand, train: list[Clip], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="was begun with another configuration: settings is"):
        run(model, folder, clips, encoder, train=train, settings=replace(QUICK, many_prompts=5))
    with pytest.raises(ConfigError, match="was begun with another configuration: sha256 is"):
        run(model, folder, clips, encoder, train=train, encoder_sha256="f" * 64)
    before = (folder / "clips.jsonl").read_bytes()
    with pytest.raises(EvaluationError, match="0 of 40 clips"):
        run(tmp_path, folder, clips, encoder, train=train, settings=OUTPUTS)
    assert (folder / "clips.jsonl").read_bytes() == before


@pytest.mark.parametrize("degrees", [1, 2, 5, 19, 99, 1000])
def test_the_interval_is_students(degrees: int) -> None:
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-9)
    values = np.random.default_rng(degrees).normal(3, 2, degrees + 1)
    low, high = stats.t.interval(0.95, degrees, loc=values.mean(), scale=stats.sem(values))
    cell = cell_of(values.tolist())
    assert (cell.mean, cell.interval) == (pytest.approx(values.mean()), pytest.approx((high - low) / 2))


def test_a_number_that_is_there_once_has_no_interval() -> None:
    assert cell_of([2.0]) == Cell(2.0)
    assert cell_of([2.0, "needs 32, has 3"]) == Cell(note="needs 32, has 3")
    assert shown("fid", Cell(0.12345, 0.0678)) == "0.123 ± 0.068"
    assert shown("fid", Cell(0.12345)) == "0.123"
    assert shown("fid", None) == "–"


# prompts and lengths


def test_replications_draw_captions_and_first_captions_stay(clips: list[Clip], encoder: Stand) -> None:
    bench = Bench(clips, encoder, QUICK, fps=20.0)
    first = [clip.captions[0] for clip in clips]
    drawn = bench.prompts(0)
    assert drawn != bench.prompts(1)
    assert drawn == Bench(clips, encoder, QUICK, fps=20.0).prompts(0)
    assert all(prompt in clip.captions for prompt, clip in zip(drawn, clips))
    assert 10 < sum(prompt == other for prompt, other in zip(drawn, first)) < 30
    assert Bench(clips, encoder, OUTPUTS, fps=20.0).prompts(1) == first


def test_captions_that_are_stories_are_no_prompts(clips: list[Clip], encoder: Stand) -> None:
    story = " ".join(["a person walks"] * 30)
    told = [replace(clip, captions=(story, *clip.captions)) for clip in clips]
    for replication in range(3):
        assert story not in Bench(told, encoder, QUICK, fps=20.0).prompts(replication)
    first = Bench(told, encoder, OUTPUTS, fps=20.0).prompts(0)
    assert first == [clip.captions[0] for clip in clips]
    only = [replace(clip, captions=(story + " home", story)) for clip in clips]
    assert set(Bench(only, encoder, QUICK, fps=20.0).prompts(0)) == {story}


def test_long_clips_are_cut_and_short_or_unsaid_ones_left_out(clips: list[Clip], encoder: Stand) -> None:
    long = replace(clips[0], motion=walking(300))
    unsaid = replace(clips[1], captions=())
    short = replace(clips[2], motion=walking(8))
    bench = Bench([long, unsaid, short, *clips[3:]], encoder, QUICK, fps=20.0)
    assert len(bench.clips[0].motion) == 196
    assert (len(bench.clips), bench.left_out) == (38, 2)


def test_a_model_can_be_told_the_real_lengths(
    model: TextToMotion, clips: list[Clip], encoder: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    motions = store.Store.motions

    def seeing(self: store.Store, *args: Any, **others: Any) -> Any:
        made = motions(self, *args, **others)
        seen.extend(len(motion) for motion in made[0])
        return made

    monkeypatch.setattr(store.Store, "motions", seeing)
    run(model, tmp_path, clips, encoder, settings=replace(T2M, replications=1, true_lengths=True))
    assert np.abs(np.array(seen) - [len(clip.motion) for clip in clips]).max() <= 2


def test_without_train_clips_nothing_is_retrieved(
    model: TextToMotion, clips: list[Clip], encoder: Stand, tmp_path: Path
) -> None:
    report = run(model, tmp_path, clips, encoder, settings=replace(T2M, replications=1))
    assert {row.system for row in report.rows} == {TRUTH, THROUGH_TOKENIZER, "tiny"}
    assert report.cell("t2m", "tiny", "fid").interval is None


# other systems


@pytest.fixture(scope="module")
def scored(
    clips: list[Clip], train: list[Clip], encoder: Stand, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Reports on outputs: the truth, the truth of other clips, and the truth with trembling joints."""
    root = tmp_path_factory.mktemp("outputs")
    rng = np.random.default_rng(0)
    truth = [clip.motion for clip in clips]
    trembling = [replace(motion, joints=motion.joints + rng.normal(0, 0.002, motion.joints.shape)) for motion in truth]
    folders = {}
    for name, motions in {"truth": truth, "shuffled": truth[7:] + truth[:7], "trembling": trembling}.items():
        write_outputs(root / name, clips, motions)
        folders[name] = root / f"{name}-report"
        run(root / name, folders[name], clips, encoder, train=train, name=name, settings=OUTPUTS)
    return folders


def test_the_ground_truth_as_outputs_scores_as_the_ground_truth(scored: dict[str, Path]) -> None:
    report = Report.load(scored["truth"])
    cells = {row.system: row.cells for row in report.rows if row.group == "all"}
    assert cells["truth"] == cells[TRUTH]
    assert set(cells) == {TRUTH, RETRIEVED, "truth"}
    assert "outputs" in report.config["sha256"]


def test_the_ground_truth_beats_shuffled_ground_truth(scored: dict[str, Path]) -> None:
    report = Report.load(scored["shuffled"])
    assert mean(report, "t2m", "shuffled", "fid") == pytest.approx(0, abs=1e-6)  # as a set it is the same
    assert mean(report, "t2m", TRUTH, "r_precision_1") == 1
    assert mean(report, "t2m", "shuffled", "r_precision_1") < 0.3
    assert mean(report, "t2m", "shuffled", "mm_dist") > mean(report, "t2m", TRUTH, "mm_dist") + 0.01


def test_outputs_of_another_frame_rate_are_resampled(clips: list[Clip], encoder: Stand, tmp_path: Path) -> None:
    write_outputs(tmp_path / "fast", clips, [clip.motion.resample(40) for clip in clips])
    report = run(tmp_path / "fast", tmp_path / "out", clips, encoder, settings=OUTPUTS, outputs_fps=40.0)
    assert mean(report, "t2m", "tiny", "r_precision_1") == 1
    jitter = mean(report, "t2m", TRUTH, "jitter_m_s3")
    assert mean(report, "t2m", "tiny", "jitter_m_s3") == pytest.approx(jitter, rel=1e-3)


# two reports


def test_a_planted_difference_is_found_and_no_other(scored: dict[str, Path]) -> None:
    rows = compare(scored["truth"], scored["trembling"])
    found = {row.metric: row.difference for row in rows if row.group == "all"}
    assert found["jitter_m_s3"].is_beyond_chance
    assert found["jitter_m_s3"].b > found["jitter_m_s3"].a + 10
    assert not found["r_precision_3"].is_beyond_chance
    lines = comparison_table(rows, "truth", "trembling").splitlines()
    verdicts = {line.split("|")[3].strip(): line.split("|")[8].strip() for line in lines if "| all (" in line}
    assert verdicts["Jitter m/s³ →"] == "beyond chance"
    assert verdicts["R@3 ↑"] == "within chance"


def test_equal_systems_do_not_differ(scored: dict[str, Path]) -> None:
    rows = compare(scored["truth"], scored["truth"])
    assert {row.group for row in rows} == {"all", "CMU+HDM05"}
    assert not any(row.difference.is_beyond_chance for row in rows)


def test_that_shuffled_motions_fit_worse_is_beyond_chance(scored: dict[str, Path]) -> None:
    rows = compare(scored["truth"], scored["shuffled"])
    (hits,) = [row.difference for row in rows if (row.metric, row.group) == ("r_precision_1", "all")]
    assert hits.high < 0
    assert "truth is better, beyond chance" in comparison_table(rows, "truth", "shuffled")


def test_the_paired_bootstrap_agrees_with_another() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=60)
    b = a + rng.normal(0.05, 0.3, 60)
    ours = paired_difference(a, b)
    assert ours is not None
    theirs = stats.bootstrap((b - a,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    # of 10,000 means with a deviation of 0.04 the 2.5 % point is known to 0.001
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, abs=0.005), pytest.approx(theirs.high, abs=0.005))


def test_pairing_finds_what_unpaired_numbers_hide() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(0, 10, 80)
    b = a + rng.normal(0.1, 0.1, 80)
    found = paired_difference(a, b)
    assert found is not None and found.is_beyond_chance
    assert stats.ttest_ind(a, b).pvalue > 0.5


def test_clips_without_a_number_are_no_pairs() -> None:
    found = paired_difference([1, np.nan, 2, 3], [1, 5, np.nan, 3])
    assert found is not None
    assert (found.num_clips, found.a, found.b) == (2, 2, 2)
    assert paired_difference([1, np.nan], [np.nan, 1]) is None


def changed(folder: Path, to: Path, **config: Any) -> Path:
    """A copy of a report folder whose report says something else of itself."""
    shutil.copytree(folder, to)
    report = json.loads((to / "report.json").read_text(encoding="utf-8"))
    for name, values in config.items():
        report["config"][name] |= values
    (to / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return to


@pytest.mark.parametrize("what", ["data", "prompts", "encoder"])
def test_reports_of_other_data_prompts_or_encoder_are_not_compared(
    what: str, scored: dict[str, Path], tmp_path: Path
) -> None:
    other = changed(scored["truth"], tmp_path / "other", sha256={what: "0" * 64})
    with pytest.raises(EvaluationError, match=f"the reports are of other {what} .*000000000000"):
        compare(scored["truth"], other)


def test_models_of_different_vocabularies_are_not_compared(folder: Path, tmp_path: Path) -> None:
    other = changed(folder, tmp_path / "other", vocabulary={"num_codes": 512, "codes_per_step": 1})
    with pytest.raises(
        EvaluationError, match=r"other vocabularies: 32 codes in steps of 2 and 512 codes in steps of 1"
    ):
        compare(folder, other)


def test_a_folder_without_a_report_is_one_clear_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"holds no report\.json"):
        compare(folder, tmp_path)


# captions


def test_a_model_that_says_what_people_said_is_perfect(
    model: TextToMotion, clips: list[Clip], encoder: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_joints = {clip.motion.joints.tobytes(): clip.captions[1] for clip in clips}
    monkeypatch.setattr(model, "captions", lambda motions: [by_joints[motion.joints.tobytes()] for motion in motions])
    report = run(model, tmp_path, clips, encoder, settings=replace(QUICK, tasks=("m2t",)))
    assert mean(report, "m2t", "tiny", "bleu_4") == pytest.approx(100)
    assert mean(report, "m2t", "tiny", "rouge_l") == pytest.approx(100)
    assert mean(report, "m2t", "tiny", "r_precision_1") == 1
    assert mean(report, "m2t", "tiny", "invalid_percent") == 0
    # people are held against one another
    assert mean(report, "m2t", TRUTH, "bleu_4") < 90


@pytest.mark.parametrize("num_empty", [2, 40])
def test_captions_without_words_are_counted_and_left_out(
    num_empty: int,
    model: TextToMotion,
    clips: list[Clip],
    encoder: Stand,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captions = [*("", "12") * (num_empty // 2), *(clip.captions[0] for clip in clips[num_empty:])]
    monkeypatch.setattr(model, "captions", lambda motions: captions)
    report = run(model, tmp_path, clips, encoder, settings=replace(QUICK, tasks=("m2t",)))
    assert mean(report, "m2t", "tiny", "invalid_percent") == pytest.approx(100 * num_empty / 40)
    if num_empty == 2:
        assert mean(report, "m2t", "tiny", "bleu_1") == pytest.approx(100)
    else:
        assert report.cell("m2t", "tiny", "bleu_1").note == "needs 2, has 0"
        assert report.cell("m2t", "tiny", "r_precision_1").note == "needs 32, has 0"
    means = clip_means(tmp_path, "m2t")
    assert np.isnan(means["rouge_l"][:num_empty]).all()
    assert means["rouge_l"][num_empty:] == pytest.approx(100)


def test_captions_are_held_against_references_of_a_file(
    model: TextToMotion, clips: list[Clip], encoder: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "captions", lambda motions: [f"figure {n} moves" for n in range(len(motions))])
    references = {clip.id: [f"figure {n} moves"] for n, clip in enumerate(clips)}
    settings = replace(QUICK, tasks=("m2t",), replications=1)
    report = run(model, tmp_path, clips, encoder, settings=settings, references=references)
    assert mean(report, "m2t", "tiny", "rouge_l") == pytest.approx(100)
    # one reference leaves people nothing to be held against
    assert report.cell("m2t", TRUTH, "rouge_l").note == "needs 2, has 0"


# bad input


def test_an_empty_split_is_refused(model: TextToMotion, encoder: Stand, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"there are no clips to evaluate on in my data \(--data, --split\)"):
        run(model, tmp_path, [], encoder, data="my data")


def test_a_split_smaller_than_a_pool_is_refused(
    model: TextToMotion, clips: list[Clip], encoder: Stand, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match=r"31 clips that can be evaluated \(of 31\) fill no pool of 32"):
        run(model, tmp_path, clips[:31], encoder)
    assert not list(tmp_path.iterdir())


def test_a_caption_without_letters_is_refused(
    model: TextToMotion, clips: list[Clip], encoder: Stand, tmp_path: Path
) -> None:
    bad = [replace(clips[0], captions=("a person walks", "42 !")), *clips[1:]]
    with pytest.raises(EvaluationError, match="caption '42 !' of clip 'test_00' has no letters"):
        run(model, tmp_path, bad, encoder)


def test_references_of_fewer_motions_are_refused(
    model: TextToMotion, clips: list[Clip], encoder: Stand, tmp_path: Path
) -> None:
    references = {clip.id: list(clip.captions) for clip in clips[:-1]}
    with pytest.raises(EvaluationError, match="captions for 39 of 40 motions; the first without is 'test_39'"):
        run(model, tmp_path, clips, encoder, references=references)


class Broken(Stand):
    """Says NaN of a caption or infinity of a motion, or has one row too few."""

    def __init__(self, clips: Sequence[Clip], what: str) -> None:
        super().__init__(clips)
        self.what = what

    def encode_text(self, captions: Sequence[str], /) -> Vectors:
        vectors = super().encode_text(captions)
        if self.what == "text":
            vectors[3] = np.nan
        return vectors[:-1] if self.what == "short" else vectors

    def encode_motion(self, motions: Sequence[Motion], /) -> Vectors:
        vectors = super().encode_motion(motions)
        if len(vectors) > 5 and self.what == "motion":
            vectors[5] = np.inf
        return vectors


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("text", r"NaN or infinity for 1 of \d+, first for the caption '.* in way"),
        ("motion", r"NaN or infinity for 1 of 40, first for the motion of 'a person jumps in way 5'"),
        ("short", r"embeddings of shape \(\d+, 8\) for \d+; it must give one row for each"),
    ],
)
def test_embeddings_that_are_no_numbers_are_refused(
    what: str, message: str, model: TextToMotion, clips: list[Clip], tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match=message):
        run(model, tmp_path, clips, Broken(clips, what), settings=T2M)


def test_clips_of_another_skeleton_are_refused(model: TextToMotion, encoder: Stand, tmp_path: Path) -> None:
    motion = Motion(np.random.default_rng(0).normal(size=(30, 21, 3)), fps=12.5, skeleton=KIT)
    clips = [replace(clip_of(number), motion=motion) for number in range(40)]
    with pytest.raises(EvaluationError, match=r"statistics and skeleton are of 22 joints .* clip 'test_00' has 21"):
        run(model, tmp_path, clips, encoder)


def test_clips_too_short_to_hide_a_part_are_refused(model: TextToMotion, encoder: Stand, tmp_path: Path) -> None:
    clips = [replace(clip_of(number), motion=walking(24)) for number in range(40)]
    with pytest.raises(EvaluationError, match="none of 40 clips has the 25 frames of which a part can be hidden"):
        run(model, tmp_path, clips, encoder, settings=replace(QUICK, tasks=("inbetween",)))


def test_outputs_that_are_absent_or_of_another_body_are_refused(
    clips: list[Clip], encoder: Stand, tmp_path: Path
) -> None:
    made, out = tmp_path / "made", tmp_path / "out"
    write_outputs(made, clips[:-2], [clip.motion for clip in clips])
    with pytest.raises(EvaluationError, match=r"38 of 40 clips; the first absent is test_38\.npy: make one for every"):
        run(made, out, clips, encoder, settings=OUTPUTS)
    rows = [json.loads(line) for line in (out / "clips.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["id"], row["prompt"]) for row in rows] == [(clip.id, clip.captions[0]) for clip in clips]
    write_outputs(made, clips, [clip.motion for clip in clips])
    np.save(made / "test_07.npy", np.zeros((30, 21, 3)))
    with pytest.raises(EvaluationError, match=r"test_07\.npy has 30 frames of 21 joints; the clips have 22"):
        run(made, out, clips, encoder, settings=OUTPUTS)
    np.save(made / "test_07.npy", np.full((30, 22, 3), np.nan))
    with pytest.raises(FormatError, match=r"test_07\.npy: joints are not finite"):
        run(made, out, clips, encoder, settings=OUTPUTS)


@pytest.mark.parametrize("settings", [QUICK, T2M, replace(OUTPUTS, true_lengths=True)])
def test_outputs_are_asked_nothing_that_they_cannot_answer(
    settings: EvaluationSettings, clips: list[Clip], encoder: Stand, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="outputs are scored in text to motion, for first captions"):
        run(tmp_path, tmp_path, clips, encoder, settings=settings)


def test_a_system_cannot_be_called_as_a_baseline_is(model: TextToMotion, clips: list[Clip], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name='ground truth' is what the report calls a baseline"):
        run(model, tmp_path, clips, None, name=TRUTH)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"replications": 0}, r"replications=0 must be at least 1 \(--replications\)"),
        ({"many_candidates": 1}, r"many_candidates=1 must be at least 2 \(--many-candidates\)"),
        ({"tasks": ("t2m", "m2m")}, r"tasks \['m2m'\] are unknown; choose some of t2m, m2t"),
        ({"tasks": ()}, "choose some of t2m, m2t"),
    ],
)
def test_settings_that_cannot_be_are_refused(others: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvaluationSettings(**others)


# the command


class StandModule(torch.nn.Module):
    """The stand-in as a network, with weights that can be hashed."""

    def __init__(self, stand: Stand) -> None:
        super().__init__()
        self.register_buffer("projection", torch.from_numpy(stand.projection))
        self.encode_text, self.encode_motion = stand.encode_text, stand.encode_motion


@pytest.fixture()
def at_hand(clips: list[Clip], train: list[Clip], encoder: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data and an evaluator for the command to find."""

    def found(config: Evaluate) -> StandModule:
        assert config.encoder == Path("my-evaluator")
        return StandModule(encoder)

    monkeypatch.setattr("kinalign.evaluation.commands._encoder", found)
    monkeypatch.setattr(
        "kinalign.evaluation.commands.load_dataset", lambda path, split: train if split == "train" else clips
    )


def test_the_command_evaluates_a_model_folder_and_compares(
    model: TextToMotion, at_hand: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = model.save_pretrained(tmp_path / "my-model")
    config = Evaluate(
        saved,
        task="t2m",
        out=tmp_path / "a",
        encoder=Path("my-evaluator"),
        replications=2,
        many_prompts=2,
        many_candidates=2,
        threads=torch.get_num_threads(),
    )
    evaluate_command(config)
    printed = capsys.readouterr().out
    assert "# Evaluation of my-model" in printed
    assert "| ground truth |" in printed
    assert "openmocap20, test split" in printed
    evaluate_command(replace(config, out=tmp_path / "b"))
    capsys.readouterr()
    evaluate_command(Evaluate(compare=(tmp_path / "a", tmp_path / "b")))
    printed = capsys.readouterr().out
    assert "| t2m | all (40) | MM-Dist ↓ |" in printed
    assert "my-model (A)" in printed
    assert "is better" not in printed


def test_the_command_reads_references(at_hand: None, tmp_path: Path) -> None:
    file = tmp_path / "references.jsonl"
    config = Evaluate(encoder=Path("my-evaluator"), references=file, outputs=tmp_path, out=tmp_path / "out")
    file.write_text('\n{"id": "test_00", "captions": ["a person walks"]}\n', encoding="utf-8")
    with pytest.raises(EvaluationError, match="captions for 1 of 40 motions"):
        evaluate_command(config)
    for line in ('{"id": "test_00"}', '{"id": "test_00", "captions": "a person walks"}', "walks"):
        file.write_text(f"{line}\n", encoding="utf-8")
        with pytest.raises(EvaluationError, match=r"references\.jsonl, line 1 is not"):
            evaluate_command(config)
    with pytest.raises(EvaluationError, match=r"cannot read .*no\.jsonl as text"):
        evaluate_command(replace(config, references=tmp_path / "no.jsonl"))


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"model": Path("model")}, "MODEL and --outputs are two things to evaluate"),
        ({"captions": "random"}, "outputs are scored in text to motion, for first captions"),
        ({"task": "pred"}, "outputs are scored in text to motion, for first captions"),
        ({"outputs": None, "fps": 20.0}, r"fps=20\.0 is said of --outputs, which are absent"),
    ],
)
def test_wishes_that_contradict_one_another_are_refused(others: dict[str, Any], message: str, at_hand: None) -> None:
    with pytest.raises(KinalignError, match=message):
        evaluate_command(replace(Evaluate(outputs=Path("outputs"), encoder=Path("my-evaluator")), **others))
