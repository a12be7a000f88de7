"""Agreement of judges, against scipy and examples worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kinalign.cli import main
from kinalign.errors import VerdictError
from kinalign.judge.agreement import (
    Answer,
    Pairs,
    agreement,
    confusion,
    kappa,
    kendall,
    pairs_alike,
    spearman,
)
from kinalign.judge.asking import read_answers, read_cases
from kinalign.judge.verdict import Invalid, Verdict
from kinalign.motion.synthetic import kicking, waving

scores = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=40)


@given(scores)
@settings(max_examples=100, deadline=None)
def test_rank_correlations_are_scipys(pairs: list[tuple[int, int]]) -> None:
    first, second = (list(column) for column in zip(*pairs))
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert spearman(first, second) is None
        assert kendall(first, second) is None
        return
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)
    assert kendall(first, second) == pytest.approx(stats.kendalltau(first, second).statistic, abs=1e-12)


@given(scores)
@settings(max_examples=50, deadline=None)
def test_kappa_is_the_same_whoever_is_named_first_and_1_with_oneself(pairs: list[tuple[int, int]]) -> None:
    first, second = (list(column) for column in zip(*pairs))
    for weighted in (False, True):
        ours, theirs = kappa(first, second, weighted=weighted), kappa(second, first, weighted=weighted)
        assert ours == (None if theirs is None else pytest.approx(theirs, abs=1e-12))
        assert kappa(first, first, weighted=weighted) == (1 if len(set(first)) > 1 else None)


def test_kappa_by_hand() -> None:
    # Cohen's 2 x 2: 20 and 15 equal, 5 and 10 not, of 50: observed 0.7, by chance 0.5
    first = [1] * 25 + [2] * 25
    second = [1] * 20 + [2] * 5 + [1] * 10 + [2] * 15
    assert kappa(first, second) == pytest.approx(0.4)
    assert confusion(first, second)[:2, :2].tolist() == [[20, 5], [10, 15]]
    # with two scores side by side every disagreement weighs the same
    assert kappa(first, second, weighted=True) == pytest.approx(0.4)
    # squares of 1 and 16 off; each judge says 1, 3 and 5 once: by chance (0 + 4 + 16 + 4 + 0 + 4 + 16 + 4 + 0) / 3
    assert kappa([1, 3, 5], [1, 5, 3], weighted=True) == pytest.approx(1 - 8 / 16)


def test_weighted_kappa_forgives_a_score_next_to_it() -> None:
    first = [1, 2, 3, 4, 5] * 4
    near, far = [min(score + 1, 5) for score in first], [6 - score for score in first]
    assert (kappa(first, near, weighted=True) or 0) > 0.7 > (kappa(first, near) or 0)
    assert kappa(first, far, weighted=True) == pytest.approx(-1)


def test_pairs_are_those_of_one_prompt_that_both_judges_tell_apart() -> None:
    prompts = ["a", "a", "a", "b", "b"]
    assert pairs_alike(prompts, [5, 3, 3, 1, 2], [4, 2, 5, 2, 1]) == Pairs(total=3, alike=1)
    assert pairs_alike(["a", "b"], [1, 2], [1, 2]).share is None


def answers(judge: str, values: list[int | None], *, cost_usd: float = 0.0) -> list[Answer]:
    return [
        Answer(
            f"prompt {place // 2}",
            f"{place}.npy",
            "temporal" if place < 4 else "frequency",
            Invalid(judge, "no", cost_usd)
            if value is None
            else Verdict(value, "temporal" if place < 4 else "frequency", judge, cost_usd=cost_usd),
        )
        for place, value in enumerate(values)
    ]


def test_what_one_judge_could_not_answer_is_counted_and_not_scored() -> None:
    found = agreement(answers("a", [5, 4, None, 1, 2, 3]), answers("b", [5, 3, 1, 1, 2, None], cost_usd=0.25))
    assert (found.questions, found.answered) == (6, 4)
    assert found.equal == 0.75
    assert [(judge.name, judge.invalid, judge.cost_usd) for judge in found.judges] == [("a", 1, 0.0), ("b", 1, 1.5)]
    assert {task: int(table.sum()) for task, table in found.confusion.items()} == {"temporal": 3, "frequency": 1}
    assert found.confusion["temporal"][4 - 1, 3 - 1] == 1
    assert found.pairs == Pairs(1, 1)
    text = found.markdown()
    assert "invalid | 1 (16.7 %)" in text and "1.5000 USD" in text


def test_judges_that_answer_nothing_in_common_have_no_numbers() -> None:
    found = agreement(answers("a", [5, None]), answers("b", [None, 3]))
    assert (found.answered, found.equal, found.kappa, found.spearman, found.kendall) == (0, None, None, None, None)
    json.dumps(found.to_json())
    with pytest.raises(VerdictError, match="no question"):
        agreement(answers("a", [5]), [answer._replace(motion="other") for answer in answers("b", [5])])
    with pytest.raises(VerdictError, match="twice"):
        agreement(answers("a", [5]) * 2 + answers("a", [4]), answers("b", [5]))


def test_verdicts_that_were_printed_are_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(motion.save(tmp_path / f"{name}.npy")) for name, motion in (("k", kicking(2)), ("w", waving()))]
    assert main(["judge", "score", "a person kicks twice, then waves", *paths, "--json"]) == 0
    file = tmp_path / "verdicts.jsonl"
    file.write_text(capsys.readouterr().out, encoding="utf-8")
    found = read_answers(file)
    assert [answer.motion for answer in found] == paths
    assert [isinstance(answer.outcome, Verdict) and answer.outcome.score for answer in found] == [3, 3]

    assert main(["judge", "agreement", str(file), str(file)]) == 0
    assert "| equal scores | 1.000 |" in capsys.readouterr().out
    assert main(["judge", "agreement", "kinematic", str(file), "--data", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["equal"] == 1.0
    assert [name for name, _ in read_cases(file)] == paths


def test_a_folder_of_generated_motions_is_judged_once_a_motion(tmp_path: Path) -> None:
    for name in ("001-kick.npy", "001-kick.bvh", "001-kick.gif"):
        (tmp_path / name).touch()
    kicking().save(tmp_path / "001-kick.npy")
    kicking().save(tmp_path / "001-kick.bvh")
    rows = [{"prompt": "a person kicks", "files": ["001-kick.npy", "001-kick.gif", "001-kick.bvh"]}]
    (tmp_path / "prompts.json").write_text(json.dumps({"motions": rows}), encoding="utf-8")
    ((name, case),) = read_cases(tmp_path)
    assert Path(name).stem == "001-kick"
    assert case.prompt == "a person kicks"


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ('{"prompt": "a", "motion": "b"', "line 2 is no JSON"),
        ("[1]", "line 2 is no JSON object"),
        ('{"prompt": "a", "motion": "b"}', "has no 'task'"),
        ('{"prompt": "a", "motion": "b", "task": "temporal", "score": 9}', "no verdict"),
    ],
)
def test_a_file_that_is_no_verdicts_is_refused_with_its_line(tmp_path: Path, line: str, match: str) -> None:
    file = tmp_path / "verdicts.jsonl"
    good = {"prompt": "a", "motion": "b", "task": "temporal", **Verdict(5, "temporal", "x").to_json()}
    file.write_text(json.dumps(good) + "\n" + line, encoding="utf-8")
    with pytest.raises(VerdictError, match=match):
        read_answers(file)


def test_a_judge_by_name_needs_motions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", "agreement", "kinematic", "kinematic"]) == 2
    assert "--data" in capsys.readouterr().err
    assert main(["judge", "agreement", "nobody", "kinematic"]) == 2
    assert "neither a file of verdicts nor a judge" in capsys.readouterr().err
