"""The gallery's page and its reviewers: what is counted of each way to make motions, and what nobody has looked at."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kinalign.data.records import Clip
from kinalign.errors import DataError
from kinalign.motion.synthetic import kicking, squatting
from kinalign.recipes.gallery import by_most, table
from kinalign.recipes.gallery_review import Count, count, write_review
from kinalign.run import read_json, write_json

PROMPTS = [
    {"id": "data-walk", "wording": "data", "prompt": "a person walks"},
    {"id": "new-walk", "wording": "held-out", "prompt": "a person ambles"},
]


def test_each_way_has_its_counts_and_what_nobody_has_looked_at_is_a_dash() -> None:
    counts = {
        "model": {row["id"]: {"found": 4, "seconds": 2.0, "took_s": 0.1} for row in PROMPTS},
        "generate": {row["id"]: {"found": 8, "seconds": 3.5, "took_s": 1.0} for row in PROMPTS},
    }
    eye = {
        "model": {"data-walk": [[1, 1, 1, 1, 1, 1, 0, 0]]},
        "generate": {"new-walk": [[1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 1, 0, 0, 0], [1, 0, 1, 0, 0, 1, 0, 0]]},
    }
    lines = table(
        PROMPTS,
        counts,
        eye,
        {"walk": (5, 6)},
        {"model": {"real": [3, 4], "other": [0, 6]}, "generate": {"real": [4, 5], "other": [0, 6]}},
    ).splitlines()
    assert "| [a person walks](data-walk.png) | data | 4 | 8 | 6 | – | 3.5 |" in lines
    assert "| [a person ambles](new-walk.png) | held-out | 4 | 8 | – | 3 | 3.5 |" in lines
    assert "| data | 0.50 | 1.00 | 0.75 | – | 0.10 | 1.00 |" in lines
    assert "| held-out | 0.50 | 1.00 | – | 0.38 | 0.10 | 1.00 |" in lines
    assert "walk 5 of 6." in lines
    assert [line for line in lines if "7 of 9 times" in line] and [line for line in lines if "0 of 12 times" in line]


# before reviewers

REVIEWED = [
    {"id": "data-squat", "prompt": "a person squats", "see": {"action": "squat"}},
    {"id": "new-squat", "prompt": "down he goes", "see": {"action": "squat"}},
    {"id": "data-kick", "prompt": "a person kicks", "see": {"action": "kick"}},
]
MOTIONS = {row["id"]: [squatting()] * 8 if "squat" in row["id"] else [kicking()] * 8 for row in REVIEWED}
REAL_SQUAT = replace(squatting(2), caption="a person squats")


@pytest.fixture(scope="module")
def sheets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sheets")
    write_review(REVIEWED, MOTIONS, [Clip("one", REAL_SQUAT, ("a person squats",), "CMU", "free", "test")], folder)
    return folder


@pytest.fixture()
def review(sheets: Path, tmp_path: Path) -> Path:
    """The same, of which nobody has answered yet."""
    return Path(shutil.copytree(sheets, tmp_path / "review"))


def told(review: Path, name: str, sees: Callable[[str | int], int]) -> None:
    key = read_json(review / "key.json")
    write_json(review / f"answers-{name}.json", {sheet: [sees(row) for row in key[sheet]["rows"]] for sheet in key})


def test_a_sheet_holds_its_motions_one_of_another_prompt_and_a_real_one_in_no_order(review: Path) -> None:
    key = read_json(review / "key.json")
    assert sorted(sheet["id"] for sheet in key.values()) == sorted(MOTIONS)
    for number, sheet in key.items():
        controls = ["other"] if sheet["id"] == "data-kick" else ["other", "real"]
        assert sorted(map(str, sheet["rows"])) == sorted([*map(str, range(8)), *controls])
        assert sheet["rows"] != sorted(sheet["rows"], key=str)
        assert len(list(review.glob(f"sheet-{int(number):02d}-*.png"))) == 2
    assert "squat" not in (review / "BRIEF.md").read_text(encoding="utf-8")


def test_what_most_reviewers_saw_is_there_and_controls_are_counted(review: Path, tmp_path: Path) -> None:
    told(review, "a", lambda row: int(row != "other"))
    told(review, "b", lambda row: int(row in (0, 1)))
    told(review, "c", lambda row: int(row in (0, 2, "real")))
    out = tmp_path / "gallery"
    assert count(Count(review=review, out=out)) == {"real": (4, 6), "other": (0, 9)}
    assert count(Count(review=review, by="model", out=out))["real"] == (4, 6)
    assert read_json(out / "by_eye_controls.json").keys() == {"model", "generate"}
    votes = read_json(out / "by_eye.json")
    assert votes.keys() == MOTIONS.keys()
    assert by_most(votes["new-squat"]) == [True, True, True, False, False, False, False, False]


@pytest.mark.parametrize("answers", [{}, {"1": [1, 0]}, {"1": [2] * 10}])
def test_answers_that_are_missing_or_no_0_or_1_are_named(review: Path, answers: dict[str, list[int]]) -> None:
    write_json(review / "answers-a.json", answers)
    with pytest.raises(DataError, match=r"sheet 1 has .* a 0 or 1 for each of its (9|10) rows"):
        count(Count(review=review, out=review))
    assert not (review / "by_eye.json").exists()
