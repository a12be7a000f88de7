"""The embedding judge, with an encoder that knows hands over heads and lifted feet only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kinalign.errors import CheckpointError, ConfigError, EvaluationError, MotionError
from kinalign.evaluation.contrasts import in_a_row
from kinalign.evaluation.encoder import shipped_encoder
from kinalign.evaluation.judging import CALIBRATION, embedding_judge
from kinalign.judge.embedding import WINDOW_S, Calibration, EmbeddingJudge, Nearness, calibrate, nearness_of
from kinalign.judge.verdict import Case, Invalid, Verdict
from kinalign.motion.joining import uniform
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D
from kinalign.motion.synthetic import kicking, standing, waving
from kinalign.run import read_json

CALIBRATED = Calibration((0.2, 0.4, 0.6, 0.8), (0.5, 0.7))


class HandsAndFeet:
    """Unit vectors of how long a hand is raised, a foot is lifted, and neither."""

    def __init__(self) -> None:
        self.motions = 0

    def encode_text(self, texts: list[str], /) -> NDArray[np.float32]:
        if any("?" in text for text in texts):
            raise EvaluationError("a text is a question")
        return unit([[("wav" in text.lower()), ("kick" in text.lower()), 0.1] for text in texts])

    def encode_motion(self, motions: list[Motion], /) -> NDArray[np.float32]:
        self.motions += len(motions)
        rows = []
        for motion in motions:
            if len(motion) < 2:
                raise MotionError("one frame does not move")
            wrist, shoulder = (motion.joints[:, HUMANML3D.index(f"right_{name}"), 1] for name in ("wrist", "shoulder"))
            ankle = motion.joints[:, HUMANML3D.index("right_ankle"), 1]
            rows.append([float((wrist > shoulder).mean()), float((ankle > 0.3).mean()), 0.1])
        return unit(rows)


def unit(rows: list[list[float]]) -> NDArray[np.float32]:
    vectors = np.array(rows, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


KICK_WAVE = in_a_row([uniform(kicking(3)), uniform(waving(80))])


def judge() -> EmbeddingJudge:
    return EmbeddingJudge(HandsAndFeet(), CALIBRATED)


def test_what_is_near_scores_high_and_what_is_not_scores_low() -> None:
    good, bad = judge()("a person waves", waving(80)), judge()("a person kicks", waving(80))
    assert isinstance(good, Verdict) and isinstance(bad, Verdict)
    assert (good.score, bad.score) == (5, 1)
    assert [good.findings[0].seen, bad.findings[0].seen] == ["yes", "no"]


def test_an_event_is_where_its_nearest_window_is() -> None:
    outcome = judge()("a person kicks, then waves", KICK_WAVE)
    assert isinstance(outcome, Verdict)
    kick, wave = outcome.findings
    assert kick.end is not None and kick.start is not None and wave.start is not None
    assert kick.start < wave.start
    assert kick.end - kick.start == WINDOW_S * 20
    assert outcome.order_is_right is True
    swapped = judge()("a person waves, then kicks", KICK_WAVE)
    assert isinstance(swapped, Verdict)
    assert swapped.order_is_right is False
    assert swapped.score <= 4
    assert "not in the order" in swapped.reason


def test_each_motion_is_encoded_once() -> None:
    encoder = HandsAndFeet()
    motion = waving(80)  # 4 s: the whole and 5 windows
    EmbeddingJudge(encoder, CALIBRATED).judge_all([Case.of(f"a person waves {n} times", motion) for n in (2, 3, 4)])
    assert encoder.motions == 6


def test_what_the_encoder_cannot_read_is_invalid_and_stops_no_other() -> None:
    cases = [
        Case.of("a person waves", waving(80)),
        Case.of("a person waves", waving(80)[:1]),
        Case.of("a person waves, right?", waving(80)),
        Case.of("a person waves", standing(20)),
    ]
    outcomes = judge().judge_all(cases)
    assert [type(outcome) for outcome in outcomes] == [Verdict, Invalid, Invalid, Verdict]
    assert [outcome.reason for outcome in outcomes[1:3]] == ["one frame does not move", "a text is a question"]
    assert isinstance(judge()("blue", waving(80)), Invalid)
    assert judge().judge_all([]) == []


def test_calibrated_scores_are_given_as_often_as_they_are_true() -> None:
    rng = np.random.default_rng(0)
    near = rng.normal(size=500).tolist()
    scores = rng.choice([1, 2, 3, 4, 5], 500, p=[0.1, 0.1, 0.2, 0.2, 0.4]).tolist()
    seen = rng.choice(["no", "partly", "yes"], 500).tolist()
    found = calibrate(near, scores, near, seen)
    given = np.bincount([found.score(value) for value in near], minlength=6)
    assert given.tolist() == np.bincount(scores, minlength=6).tolist()
    assert sum(found.see(value) == "partly" for value in near) == seen.count("partly")


def test_a_score_that_never_occurs_is_never_given() -> None:
    found = calibrate([0.1, 0.2, 0.3], [1, 3, 3], [0.1, 0.2], ["no", "no"])
    assert [found.score(value) for value in (0.1, 0.2, 0.3, 0.31)] == [1, 3, 3, 5]
    assert [found.see(value) for value in (0.1, 0.2)] == ["no", "no"]


def test_bounds_that_fall_are_refused() -> None:
    with pytest.raises(ConfigError, match="rise"):
        Calibration((0.4, 0.3, 0.6, 0.8), (0.5, 0.7))
    with pytest.raises(ConfigError, match="seen"):
        Calibration((0.1, 0.3, 0.6, 0.8), (0.5,))


def test_nearness_is_that_of_whole_and_windows() -> None:
    encoder = HandsAndFeet()
    (found,) = nearness_of(encoder, [Case.of("a person waves", waving(40))])  # 2 s: one window, which is the whole
    assert isinstance(found, Nearness)
    near = float(encoder.encode_text(["wave"])[0] @ encoder.encode_motion([waving(40)])[0])
    assert found.case == pytest.approx(near, abs=1e-6)
    assert [(window.start, window.end) for window in found.windows] == [(0, 40)]


def test_the_shipped_judge_has_the_calibration_of_its_own_weights(tmp_path: Path) -> None:
    assert (shipped_encoder() / CALIBRATION).is_file()
    assert embedding_judge().name.startswith("embedding (")
    values = read_json(shipped_encoder() / CALIBRATION)
    assert values["cases"] >= 300
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to((shipped_encoder() / name).resolve())
    with pytest.raises(CheckpointError, match="absent"):
        embedding_judge(tmp_path)
    (tmp_path / CALIBRATION).write_text('{"encoder_sha256": "other", "calibration": {}}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="other weights"):
        embedding_judge(tmp_path)
