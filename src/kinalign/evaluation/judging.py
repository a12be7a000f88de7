"""The embedding judge with its encoder and its calibration, which lie in one folder.

Calibration asks about EventBench's cases, made of the validation split, and sets bounds by quantiles:

    python -m kinalign.evaluation.judging
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from kinalign.data.openmocap import load_openmocap
from kinalign.data.records import Split
from kinalign.errors import CheckpointError, EvaluationError
from kinalign.evaluation.encoder import TextMotionEncoder, shipped_encoder
from kinalign.evaluation.eventbench import GROUPS, BenchCase, build_eventbench
from kinalign.judge.embedding import Calibration, EmbeddingJudge, Nearness, calibrate, nearness_of
from kinalign.judge.verdict import Case
from kinalign.run import config_from_json, config_to_json, progress, read_json, sha256_of_weights, write_json

CALIBRATION = "judge.json"


def embedding_judge(folder: str | Path = "") -> EmbeddingJudge:
    """The embedding judge of an evaluator's folder, the shipped one where none is named.

    Raises CheckpointError for an evaluator without calibration, or with that of other weights.
    """
    folder = Path(folder) if folder else shipped_encoder()
    encoder = TextMotionEncoder.from_pretrained(folder)
    weights = sha256_of_weights([encoder])
    file = folder / CALIBRATION
    if not file.is_file():
        raise CheckpointError(
            f"{file} is absent; calibrate the judge with python -m kinalign.evaluation.judging --encoder {folder}"
        )
    values = read_json(file)
    if values.get("encoder_sha256") != weights:
        raise CheckpointError(
            f"{file} was made for other weights than those in {folder}; calibrate the judge anew with "
            f"python -m kinalign.evaluation.judging --encoder {folder}"
        )
    calibration = config_from_json(Calibration, values["calibration"])
    return EmbeddingJudge(encoder, calibration, name=f"embedding ({weights[:8]})")


@dataclass(frozen=True)
class CalibrationSettings:
    """Set the embedding judge's bounds, so that each score is given as often as it is true."""

    encoder: Path | None = None
    """Evaluator folder, where judge.json is written; the shipped one where it is left out."""
    data: Path | None = None
    """Folder of openmocap20; by default it is looked for in the data folder."""
    split: Split = "val"
    seed: int = 0


def main(settings: CalibrationSettings) -> None:
    folder = settings.encoder or shipped_encoder()
    encoder = TextMotionEncoder.from_pretrained(folder)
    cases, questions = known_cases(settings)
    near: list[float] = []
    nearest: list[float] = []
    scores, seen = [], []
    with progress("judging", total=len(questions)) as advance:
        for case, question in zip(cases, questions):
            (found,) = nearness_of(encoder, [question])
            assert isinstance(found, Nearness), found
            near.append(found.case)
            scores.append(case.score)
            nearest += [window.nearness for window in found.windows]
            seen += [finding.seen for finding in case.findings]
            advance()
    calibration = calibrate(near, scores, nearest, seen)
    write_json(
        folder / CALIBRATION,
        {
            "encoder_sha256": sha256_of_weights([encoder]),
            "calibration": config_to_json(calibration),
            "cases": len(cases),
            "split": settings.split,
            "seed": settings.seed,
        },
    )
    print(folder / CALIBRATION)


def known_cases(settings: CalibrationSettings) -> tuple[list[BenchCase], list[Case]]:
    """Cases of EventBench made of a split, of every kind that its clips suffice for, and what a judge is asked."""
    clips = load_openmocap(settings.data, split=settings.split, cut_events=True)
    cases: list[BenchCase] = []
    questions: list[Case] = []
    for group, number in GROUPS.items():
        try:
            bench = build_eventbench(clips, settings.seed, groups={group: max(number // 4, 1)})
        except EvaluationError as error:
            print(f"left out: {error}")
            continue
        cases += bench.cases
        questions += bench.questions()
    return cases, questions


if __name__ == "__main__":
    main(tyro.cli(CalibrationSettings))
