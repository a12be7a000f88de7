"""Numbers of judges: perfect for who knows the truth, chance for who does not look, and never a score for no answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from test_eventbench import CLIPS, SMALL

from kinalign.errors import ConfigError
from kinalign.evaluation import eventbench_command
from kinalign.evaluation.eventbench import BenchCase, EventBench, Piece, build_eventbench
from kinalign.evaluation.eventbench_command import EventsBench, ask, events_bench, markdown, scaled_groups
from kinalign.evaluation.eventscores import JudgeScores, Number, score_judge
from kinalign.judge.agreement import cohens_kappa, wilson_interval
from kinalign.judge.named import judge_named
from kinalign.judge.verdict import Case, Invalid, Outcome, Verdict
from kinalign.motion.motion import Motion


@pytest.fixture(scope="module")
def bench() -> EventBench:
    return build_eventbench(CLIPS, 0, groups=SMALL)


def truth(case: BenchCase) -> Verdict:
    return Verdict(case.score, case.task, "oracle", findings=case.findings, order_is_right=case.order_is_right)


def all_numbers(scores: JudgeScores) -> list[Number]:
    return [
        *(scores.precision, scores.recall, scores.iou, scores.order, scores.count_exact, scores.count_within_1),
        *(scores.same_score, *scores.pairwise.values(), *scores.kappa.values(), *scores.quadratic_kappa.values()),
        *(number for row in scores.actions for number in (row.precision, row.recall)),
    ]


def test_who_knows_the_truth_is_right_everywhere(bench: EventBench) -> None:
    scores = score_judge(bench.cases, [truth(case) for case in bench.cases])
    assert all(number.value in (None, 1.0) for number in all_numbers(scores))
    assert sum(number.value is None for number in all_numbers(scores)) == 0
    assert scores.invalid.value == 0 and set(scores.pairwise) == {"order", "dropped", "other", "count", "side", "all"}
    assert np.array(scores.confusion).sum() == np.trace(scores.confusion) == len(bench.cases)


def test_who_always_says_three_agrees_by_chance_only(bench: EventBench) -> None:
    scores = score_judge(bench.cases, [Verdict(3, case.task, "three") for case in bench.cases])
    assert {number.value for number in scores.kappa.values()} == {0.0}
    assert {number.value for number in scores.quadratic_kappa.values()} == {0.0}
    assert {number.value for number in scores.pairwise.values()} == {0.5}
    assert scores.precision == scores.recall == scores.order == scores.count_exact == Number(None, None, None, 0)


def test_no_answer_is_counted_and_never_scored(bench: EventBench) -> None:
    nothing = [Invalid("silent", "no answer", cost_usd=0.5) for _ in bench.cases]
    scores = score_judge(bench.cases, nothing)
    assert scores.invalid.value == 1 and scores.cost_usd == 0.5 * len(bench.cases)
    assert all(number.value is None for number in all_numbers(scores))
    half = [truth(case) if place % 2 else Invalid("half", "") for place, case in enumerate(bench.cases)]
    scores = score_judge(bench.cases, half)
    assert scores.invalid.value == 0.5 and scores.kappa["all"].value == 1 and scores.recall.value == 1
    # a pair of which one has no answer is no pair
    assert (
        scores.pairwise["all"].of < score_judge(bench.cases, [truth(case) for case in bench.cases]).pairwise["all"].of
    )


def test_faults_show_where_they_are(bench: EventBench) -> None:
    def spoil(case: BenchCase, **fault: int | None) -> Verdict:
        findings = tuple(
            replace(found, **fault) if found.seen != "no" else found  # type: ignore[arg-type]
            for found in case.findings
        )
        return replace(truth(case), findings=findings)

    moved = score_judge(bench.cases, [spoil(case, start=9000, end=9010) for case in bench.cases])
    assert moved.precision.value == moved.recall.value == 0 and moved.count_exact.value == 1
    whole = score_judge(bench.cases, [spoil(case, start=0, end=10_000) for case in bench.cases])
    assert whole.recall.value == 1 and whole.iou.value is not None and whole.iou.value < 0.05
    unplaced = score_judge(bench.cases, [spoil(case, start=None, end=None) for case in bench.cases])
    assert unplaced.recall.value == 1 and unplaced.iou.value is None
    uncounted = score_judge(bench.cases, [spoil(case, count=None) for case in bench.cases])
    assert uncounted.count_exact.value is None
    one_more = [replace(truth(case), findings=tuple(
        replace(found, count=found.count + 1) if found.count is not None else found for found in case.findings
    )) for case in bench.cases]  # fmt: skip
    counted = score_judge(bench.cases, one_more)
    assert counted.count_exact.value == 0 and counted.count_within_1.value == 1
    turned = [replace(truth(case), order_is_right=not case.order_is_right) for case in bench.cases]
    assert score_judge(bench.cases, turned).order.value == 0


def test_who_sees_everything_has_recall_without_precision(bench: EventBench) -> None:
    def everything(case: BenchCase) -> Verdict:
        findings = tuple(replace(found, seen="yes") for found in case.findings)
        return Verdict(5, case.task, "yes", findings=findings, order_is_right=True)

    scores = score_judge(bench.cases, [everything(case) for case in bench.cases])
    there = [finding.seen != "no" for case in bench.cases for finding in case.findings]
    assert scores.recall.value == 1 and scores.precision.value == pytest.approx(np.mean(there))
    assert scores.pairwise["all"].value == 0.5


def test_more_noise_is_worse(bench: EventBench) -> None:
    def noisy(share: float) -> JudgeScores:
        rng = np.random.default_rng(0)
        answers: list[Outcome] = [
            replace(truth(case), score=int(rng.integers(1, 6))) if rng.random() < share else truth(case)
            for case in bench.cases
        ]
        return score_judge(bench.cases, answers)

    kappas = [noisy(share).kappa["all"].value or 0.0 for share in (0.0, 0.3, 0.9)]
    assert kappas[0] == 1 > kappas[1] > kappas[2]


def test_many_cases_of_few_clips_say_less_than_as_many_of_many_clips(bench: EventBench) -> None:
    def scores(num_clips: int) -> Number:
        cases = [
            replace(case, id=f"{at}", recipe=(Piece(f"clip{at % num_clips}", False, 1),), partners=())
            for at, case in enumerate(bench.cases)
        ]
        # half of four clips are judged right, or every second pair of many
        right = [at % 4 < 2 for at in range(len(cases))]
        return score_judge(
            cases, [replace(truth(case), score=case.score if ok else 6 - case.score) for case, ok in zip(cases, right)]
        ).quadratic_kappa["all"]

    few, many = scores(4), scores(len(bench.cases))
    for number in (few, many):
        assert number.value is not None and number.low is not None and number.high is not None
        assert number.low < number.value < number.high
    assert few.value == many.value and (few.high or 0) - (few.low or 0) > 1.5 * ((many.high or 0) - (many.low or 0))


def test_of_independent_values_the_interval_is_that_of_the_mean(bench: EventBench) -> None:
    cases = [replace(case, recipe=(Piece(case.id, False, 1),)) for case in bench.cases if case.task == "frequency"]
    cases = [case for case in cases if case.findings[0].seen != "no"]
    answers, overlaps = [], []
    for at, case in enumerate(cases):
        (found,) = case.findings
        assert found.start is not None and found.end is not None
        longer = (found.end - found.start) * (at % 3)
        answers.append(replace(truth(case), findings=(replace(found, end=found.end + longer),)))
        overlaps.append(1 / (1 + at % 3))
    iou = score_judge(cases, answers).iou
    error = np.std(overlaps, ddof=1) / np.sqrt(len(overlaps))
    assert iou.value == pytest.approx(np.mean(overlaps))
    assert iou.high == pytest.approx(np.mean(overlaps) + 1.959964 * error)


def test_wilson_is_scipys() -> None:
    for right, number in ((0, 5), (7, 10), (95, 100), (3, 3)):
        expected = stats.binomtest(right, number).proportion_ci(method="wilson")
        assert wilson_interval(right, number) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_kappa_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(1, 20, (5, 5)).astype(float)
    rows = [(i, j) for i in range(5) for j in range(5) for _ in range(int(table[i, j]))]
    a, b = np.array(rows).T
    # agreement of the two, and of all pairs of one's answers with the other's
    plain = 1 - np.mean(a != b) / np.mean(a[:, None] != b)
    weighted = 1 - np.mean((a - b) ** 2) / np.mean((a[:, None] - b) ** 2)
    assert cohens_kappa(table[None])[0] == pytest.approx(plain)
    assert cohens_kappa(table[None], quadratic=True)[0] == pytest.approx(weighted)


# judges by name, and the command


class Three:
    """Always says 3."""

    name = "three"

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        return [Verdict(3, case.task, self.name) for case in cases]

    def __call__(self, prompt: str, motion: Motion) -> Outcome:
        return self.judge_all([Case.of(prompt, motion)])[0]


def test_a_judge_is_found_by_its_name() -> None:
    assert judge_named(f"{__name__}:Three").name == "three"
    for name, message in (("guess", "judge 'guess' is unknown; use one of kinematic"), ("no.such:Judge", "cannot be")):
        with pytest.raises(ConfigError, match=message):
            judge_named(name)
    with pytest.raises(ConfigError, match="cannot be loaded"):
        judge_named(f"{__name__}:Four")


def test_answers_come_in_the_order_of_the_cases(bench: EventBench) -> None:
    outcomes, seconds = ask(Three(), bench, "composed")
    assert len(outcomes) == len(bench.cases) and seconds > 0
    assert [outcome.task for outcome in outcomes if isinstance(outcome, Verdict)] == [case.task for case in bench.cases]


def test_fewer_cases_keep_every_kind() -> None:
    assert 4 * sum(scaled_groups(300).values()) <= 300 and all(scaled_groups(300).values())
    assert scaled_groups(None) == scaled_groups(10_000)
    with pytest.raises(ConfigError, match="cases=39 is too few; one group of each of 10 kinds has 40"):
        scaled_groups(39)


def test_the_command_writes_a_report_cases_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = tmp_path / "counted.json"
    counted.write_text('[{"clip": "squat", "action": "squat", "side": "", "count": 1}]')
    monkeypatch.setattr(eventbench_command, "load_openmocap", lambda *_, **__: CLIPS)
    monkeypatch.setattr(eventbench_command, "scaled_groups", lambda _: SMALL)
    events_bench(EventsBench(judge=f"{__name__}:Three", out=tmp_path / "out", counted=counted))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["sets"]["composed"]["pairwise"]["all"]["value"] == 0.5
    assert report["sets"]["counted"]["cases"] == 2
    text = (tmp_path / "out" / "report.md").read_text()
    assert text in capsys.readouterr().out
    assert "How right three is" in text and "| pairwise, order | 0.500" in text
    cases = (tmp_path / "out" / "composed_cases.jsonl").read_text().splitlines()
    answers = (tmp_path / "out" / "composed_answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in cases] == [json.loads(line)["id"] for line in answers]


def test_a_number_that_is_not_there_is_a_dash(bench: EventBench) -> None:
    text = markdown({"composed": score_judge(bench.cases, [Verdict(3, case.task, "three") for case in bench.cases])})
    assert "| order | – |" in text
