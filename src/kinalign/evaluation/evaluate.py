"""An evaluation from clips to a report: replications one after the other, each kept, so that a kill repeats nothing.

A folder holds config.json and environment.json, clips.jsonl (what was asked for each clip), answers/ (what the model
said), replications/ (numbers of each, those of the evaluated system clip by clip) and, in the end, the report.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinalign.data.records import Clip
from kinalign.errors import ConfigError, EvaluationError
from kinalign.evaluation.bench import Array, Bench, EvaluationSettings, sha256_of_arrays
from kinalign.evaluation.embedding import Encoder
from kinalign.evaluation.plot import plot_report
from kinalign.evaluation.report import Report, rows_of
from kinalign.evaluation.store import Store
from kinalign.evaluation.tasks import BASELINES, Tables
from kinalign.motion.formats.arrays import read_npy
from kinalign.motion.motion import Motion
from kinalign.pipeline import MAX_FRAMES, TextToMotion
from kinalign.run import RunFolder, progress, read_json, sha256_of_weights, write_json, write_text

DEFAULT_SETTINGS = EvaluationSettings()
ONCE = ("tokenizer",)
"""Tasks in which nothing is left to chance."""
FEWEST_FRAMES = 4
"""Jerk needs them."""


def evaluate(
    clips: Sequence[Clip],
    encoder: Encoder,
    subject: TextToMotion | Path,
    *,
    folder: Path,
    name: str,
    encoder_sha256: str,
    settings: EvaluationSettings = DEFAULT_SETTINGS,
    train: Sequence[Clip] = (),
    references: Mapping[str, Sequence[str]] | None = None,
    outputs_fps: float | None = None,
    data: str = "",
) -> Report:
    """Evaluate a model, or motions of any system in a folder of npy files named as the clips, and write a report.

    Outputs are scored in text to motion, for the first caption of each clip; `outputs_fps` is their frame rate, the
    clips' where it is left out. `train` are clips for the retrieval baseline, `references` by clip id the captions that
    a model's are held against, `name` and `data` what the report calls the subject and the clips. Raises
    EvaluationError for what gives no numbers and ConfigError where `folder` was begun with something else.
    """
    if not clips:
        raise EvaluationError(f"there are no clips to evaluate on{f' in {data}' if data else ''} (--data, --split)")
    if name in BASELINES:
        raise ConfigError(f"name={name!r} is what the report calls a baseline; name the folder otherwise")
    store: Store | None = None
    outputs: list[Motion] = []
    if isinstance(subject, TextToMotion):
        _require_skeleton(subject, clips)
        fps = subject.tokenizer.config.fps
        bench = Bench(clips, encoder, settings, train=train, references=references, fps=fps)
        store = Store(folder / "answers", subject)
        stats = subject.tokenizer.stats
        own_sha256 = {
            "weights": sha256_of_weights([subject.lm, subject.tokenizer.network]),
            "statistics": sha256_of_arrays([stats.mean, stats.std]),
        }
    else:
        if tuple(settings.tasks) != ("t2m",) or settings.captions != "first" or settings.true_lengths:
            raise ConfigError(
                "outputs are scored in text to motion, for first captions, at their own lengths: leave out MODEL, "
                "--task, --captions and --true-lengths, or leave out --outputs"
            )
        fps = clips[0].motion.fps
        bench = Bench(clips, encoder, settings, train=train, references=references, fps=fps)
        outputs = read_outputs(subject, bench, folder, fps=outputs_fps or fps)
        own_sha256 = {"outputs": sha256_of_arrays([motion.joints for motion in outputs])}
    device = str(subject.lm.device) if isinstance(subject, TextToMotion) else "cpu"
    config = {
        "system": name,
        "data": data,
        "left_out": bench.left_out,
        "settings": asdict(settings),
        "sampling": asdict(subject.default_sampling) if isinstance(subject, TextToMotion) else None,
        "vocabulary": asdict(subject.lm.vocab) if isinstance(subject, TextToMotion) else None,
        "sha256": own_sha256 | {"encoder": encoder_sha256, "data": bench.data_sha256, "prompts": bench.prompts_sha256},
        "device": device,
        "threads": torch.get_num_threads(),
    }
    run = RunFolder.open(folder, config)
    write_clips(bench, folder)
    tables = Tables(bench, name, store=store, outputs=outputs)
    rows, times = [], {}
    for task in settings.tasks:
        done = _replications(tables, task, 1 if task in ONCE else settings.replications, folder)
        rows += rows_of(task, [replication["scores"] for replication in done])
        seconds = [replication["seconds"] for replication in done if replication["seconds"] is not None]
        if seconds:
            times[task] = float(np.mean(seconds))
    environment = read_json(folder / "environment.json")
    report = Report(
        system=name,
        config=read_json(run.config_path),
        environment={key: environment[key] for key in ("python", "platform", "packages", "commit")},
        groups={group: len(places) for group, places in bench.groups.items()},
        rows=rows,
        times=times,
    )
    text = report.markdown()
    write_text(folder / "report.md", text)
    plot_report(report, folder / "report.png")
    # last: by it a report is known to be whole
    write_json(folder / "report.json", asdict(report))
    return report


def read_outputs(outputs: Path, bench: Bench, folder: Path, *, fps: float) -> list[Motion]:
    """The motion that another system made for each clip of a bench, from OUTPUTS/ID.npy, at the bench's frame rate.

    Each file holds joints (T, J, 3) in metres, y up. Raises EvaluationError where some are absent, after writing to
    `folder` what they should show, and where one stands on another skeleton.
    """
    absent = [clip.id for clip in bench.clips if not (outputs / f"{clip.id}.npy").is_file()]
    if absent:
        if not (folder / "config.json").exists():  # another evaluation's list stays
            write_clips(bench, folder)
        raise EvaluationError(
            f"{outputs} has motions for {len(bench.clips) - len(absent)} of {len(bench.clips)} clips; the first absent "
            f"is {absent[0]}.npy: make one for every prompt of {folder / 'clips.jsonl'} (--outputs)"
        )
    motions = []
    for clip in bench.clips:
        motion = read_npy(outputs / f"{clip.id}.npy", fps=fps).resample(clip.motion.fps)
        num_joints = clip.motion.skeleton.num_joints
        if motion.skeleton.num_joints != num_joints or len(motion) < FEWEST_FRAMES:
            raise EvaluationError(
                f"{clip.id}.npy has {len(motion)} frames of {motion.skeleton.num_joints} joints; the clips have "
                f"{num_joints} joints, and numbers need {FEWEST_FRAMES} frames (--outputs)"
            )
        motions.append(motion[:MAX_FRAMES])
    return motions


def write_clips(bench: Bench, folder: Path) -> Path:
    """Write clips.jsonl: which clips, in order, of which groups, and what the first replication asks for."""
    members = {group: set(places.tolist()) for group, places in bench.groups.items()}
    rows = [
        {
            "id": clip.id,
            "prompt": prompt,
            "seconds": clip.motion.duration_s,
            "groups": [group for group, places in members.items() if place in places],
        }
        for place, (clip, prompt) in enumerate(zip(bench.clips, bench.prompts(0)))
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return write_text(folder / "clips.jsonl", text)


def clip_means(folder: Path, task: str) -> dict[str, Array]:
    """Metric -> numbers (N,) of the evaluated system for each clip, mean over replications; NaN where it has none."""
    rows: dict[str, list[list[float | None]]] = defaultdict(list)
    for path in sorted((folder / "replications").glob(f"{task}-*.json")):
        for metric, values in read_json(path)["clips"].items():
            rows[metric].append(values)
    means = {}
    for metric, replications in rows.items():
        numbers = np.array(replications, dtype=float)  # (R, N); None becomes NaN
        count = np.isfinite(numbers).sum(axis=0)
        means[metric] = np.where(count > 0, np.nansum(numbers, axis=0) / np.maximum(count, 1), np.nan)
    return means


def _replications(tables: Tables, task: str, count: int, folder: Path) -> list[dict[str, Any]]:
    done = []
    with progress(task, total=count) as advance:
        for replication in range(count):
            path = folder / "replications" / f"{task}-{replication:03d}.json"
            if not path.exists():
                write_json(path, tables.run(task, replication)._asdict())
            # read back in any case, so that a run that was stopped is the same to the last digit
            done.append(read_json(path))
            advance()
    return done


def _require_skeleton(model: TextToMotion, clips: Sequence[Clip]) -> None:
    ours = model.tokenizer.skeleton
    for clip in clips:
        theirs = clip.motion.skeleton
        if theirs.num_joints != ours.num_joints:
            raise EvaluationError(
                f"the model's statistics and skeleton are of {ours.num_joints} joints ({ours.name!r}), clip "
                f"{clip.id!r} has {theirs.num_joints} ({theirs.name!r}); evaluate on data of the model's skeleton"
            )
