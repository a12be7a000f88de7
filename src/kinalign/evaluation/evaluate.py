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
from kinalign.errors import EvaluationError
from kinalign.evaluation.bench import Bench, EvaluationSettings, sha256_of_arrays, sha256_of_weights
from kinalign.evaluation.embedding import Encoder
from kinalign.evaluation.plot import plot_report
from kinalign.evaluation.report import Report, rows_of
from kinalign.evaluation.store import Store
from kinalign.evaluation.tasks import Subject, Tables
from kinalign.motion.formats.arrays import read_npy
from kinalign.motion.motion import Motion
from kinalign.pipeline import DEFAULT_SAMPLING, MAX_LENGTH_S, TextToMotion
from kinalign.run import RunFolder, config_to_json, progress, read_json, write_atomically, write_json

DEFAULT_SETTINGS = EvaluationSettings()
ONCE = ("tokenizer",)
"""Tasks in which nothing is left to chance."""


def evaluate(
    clips: Sequence[Clip],
    encoder: Encoder,
    subject: TextToMotion | Path,
    *,
    name: str,
    folder: Path,
    encoder_sha256: str,
    train: Sequence[Clip] = (),
    settings: EvaluationSettings = DEFAULT_SETTINGS,
    references: Mapping[str, Sequence[str]] | None = None,
    outputs_fps: float | None = None,
    data: str = "",
) -> Report:
    """Evaluate a model, or motions of any system in a folder of npy files named as the clips, and write a report.

    `train` are clips for the retrieval baseline. `name` and `data` are what the report calls the subject and the clips.
    Outputs are scored in text to motion only. Raises EvaluationError for what gives no numbers and ConfigError where
    `folder` was begun with something else.
    """
    model = subject if isinstance(subject, TextToMotion) else None
    if not clips:
        raise EvaluationError(f"there are no clips to evaluate on{f' in {data}' if data else ''} (--data, --split)")
    if model is not None:
        _require_skeleton(model, clips)
    fps = model.tokenizer.config.fps if model is not None else clips[0].motion.fps
    bench = Bench(clips, encoder, settings, train=train, references=references, fps=fps)
    environment = _environment(model)
    sha256 = {"encoder": encoder_sha256, "data": bench.data_sha256, "prompts": bench.prompts_sha256}
    if model is not None:
        sha256["weights"] = sha256_of_weights([model.lm, model.tokenizer.network])
        sha256["statistics"] = sha256_of_arrays([model.tokenizer.stats.mean, model.tokenizer.stats.std])
        outputs: list[Motion] = []
    else:
        assert isinstance(subject, Path)
        _write_clips(bench, folder)
        outputs = read_outputs(subject, bench.clips, fps=outputs_fps or fps, wanted_fps=fps, asked=folder)
        sha256["outputs"] = sha256_of_arrays([motion.joints for motion in outputs])
    config = config_to_json(
        {
            "system": name,
            "data": data,
            "left_out": bench.left_out,
            "settings": asdict(settings),
            "sampling": asdict(DEFAULT_SAMPLING),
            "vocabulary": asdict(model.lm.vocab) if model is not None else None,
            "sha256": sha256,
            "device": environment["device"],
            "threads": environment["threads"],
        }
    )
    run = RunFolder.open(folder, config)
    environment |= {key: value for key, value in read_json(run.path / "environment.json").items() if key in _SHOWN}
    _write_clips(bench, folder)
    store = Store(folder / "answers", model) if model is not None else None
    tables = Tables(bench, Subject(name, model=model, store=store, outputs=outputs))
    rows, times = [], {}
    for task in settings.tasks:
        done = _replications(tables, task, 1 if task in ONCE else settings.replications, folder)
        rows += rows_of(task, [replication["scores"] for replication in done])
        seconds = [replication["seconds"] for replication in done if replication["seconds"] is not None]
        if seconds:
            times[task] = float(np.mean(seconds))
    groups = {group: len(places) for group, places in bench.groups.items()}
    report = Report(name, config, environment, groups, rows, times)
    text = report.markdown()
    write_atomically(folder / "report.md", lambda path: path.write_text(text, encoding="utf-8", newline="\n"))
    plot_report(report, folder / "report.png")
    # last: by it a report is known to be whole
    write_json(folder / "report.json", asdict(report))
    return report


_SHOWN = ("python", "platform", "packages", "commit")


def read_outputs(folder: Path, clips: Sequence[Clip], *, fps: float, wanted_fps: float, asked: Path) -> list[Motion]:
    """The motion that another system made for each clip, from FOLDER/ID.npy: joints (T, J, 3), metres, y up.

    Raises EvaluationError where some are absent or stand on another skeleton.
    """
    absent = [clip.id for clip in clips if not (folder / f"{clip.id}.npy").is_file()]
    if absent:
        raise EvaluationError(
            f"{folder} has motions for {len(clips) - len(absent)} of {len(clips)} clips; the first absent is "
            f"{absent[0]}.npy: make one for every prompt of {asked / 'clips.jsonl'} (--outputs)"
        )
    motions = []
    for clip in clips:
        motion = read_npy(folder / f"{clip.id}.npy", fps=fps).resample(wanted_fps)
        if motion.skeleton.num_joints != clip.motion.skeleton.num_joints or len(motion) < 4:
            raise EvaluationError(
                f"{clip.id}.npy has {len(motion)} frames of {motion.skeleton.num_joints} joints; clips have "
                f"{clip.motion.skeleton.num_joints} joints, and numbers need 4 frames or more (--outputs)"
            )
        motions.append(motion[: int(MAX_LENGTH_S * wanted_fps + 1e-6)])
    return motions


def clip_means(folder: Path, task: str) -> dict[str, np.ndarray]:
    """Metric -> numbers (N,) of the evaluated system for each clip, mean over replications; NaN where it has none."""
    rows: dict[str, list[list[float | None]]] = defaultdict(list)
    for path in sorted((folder / "replications").glob(f"{task}-*.json")):
        for metric, values in read_json(path)["clips"].items():
            rows[metric].append(values)
    means = {}
    for metric, values in rows.items():
        numbers = np.array(values, dtype=float)  # (R, N), None becomes NaN
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


def _write_clips(bench: Bench, folder: Path) -> Path:
    """Which clips, in order, of which groups, and what was asked for in the first replication."""
    members = {group: set(places.tolist()) for group, places in bench.groups.items()}
    lines = [
        json.dumps(
            {
                "id": clip.id,
                "prompt": prompt,
                "seconds": clip.motion.duration_s,
                "groups": [group for group, places in members.items() if place in places],
            },
            ensure_ascii=False,
        )
        + "\n"
        for place, (clip, prompt) in enumerate(zip(bench.clips, bench.prompts(0)))
    ]
    text = "".join(lines)
    return write_atomically(folder / "clips.jsonl", lambda path: path.write_text(text, encoding="utf-8", newline="\n"))


def _require_skeleton(model: TextToMotion, clips: Sequence[Clip]) -> None:
    ours = model.tokenizer.skeleton
    for clip in clips:
        theirs = clip.motion.skeleton
        if theirs.num_joints != ours.num_joints:
            raise EvaluationError(
                f"the model's statistics and skeleton are of {ours.num_joints} joints ({ours.name!r}), clip "
                f"{clip.id!r} has {theirs.num_joints} ({theirs.name!r}); evaluate on data of the model's skeleton"
            )


def _environment(model: TextToMotion | None) -> dict[str, Any]:
    device = str(model.lm.device) if model is not None else "cpu"
    return {"device": device, "threads": torch.get_num_threads()}
