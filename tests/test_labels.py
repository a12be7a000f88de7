"""Labels of people: kept whole, gone on with, compared, and answered with as a judge."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinalign.cli import main
from kinalign.errors import KinalignError, LabelError
from kinalign.judge.agreement import wilson_interval
from kinalign.judge.human import HumanJudge
from kinalign.judge.human.annotators import agreement_report, krippendorff_alpha
from kinalign.judge.human.labels import DEGREES, LabelFile, Score, Vote, case_key, read_labels, write_merged
from kinalign.judge.human.questions import read_pairs, read_scored
from kinalign.judge.human.session import Session, ask_in_terminal
from kinalign.judge.verdict import Case, Invalid, Verdict
from kinalign.motion.motion import Motion
from kinalign.motion.synthetic import jumping, walking, waving
from kinalign.preference.dataset import load_labels

PROMPT = "a person walks forward and then waves"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three pairs of walking and waving in InstructMotion's layout."""
    walking(20).save(tmp_path / "walk.npy")
    waving(20).save(tmp_path / "wave.npy")
    sample = {"gif": "x.gif", "from": "test", "seed": 1}
    rows = [
        {
            "id": number,
            "prompt": PROMPT,
            "sample_1": {**sample, "features": "walk.npy"},
            "sample_2": {**sample, "features": "wave.npy"},
        }
        for number in range(3)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return tmp_path / "labels.jsonl"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# ---- the file


def test_a_choice_has_the_fields_that_instructmotion_reads(pairs: Path, labels: Path) -> None:
    with LabelFile.opened(labels, "ann") as file:
        session = Session(read_pairs(pairs), file)
        session.choose(0, "sample_2", "Slightly better")
        session.choose(1, None)
    first, second = lines(labels)
    asked = lines(pairs)[0]
    assert {key: first[key] for key in ("prompt", "sample_1", "sample_2")} == {
        key: asked[key] for key in ("prompt", "sample_1", "sample_2")
    }
    vote = first["chosen"][-1]
    assert (vote["choice"], vote["degree of preference"], vote["user"]) == ("sample_2", "Slightly better", "ann")
    assert vote["left"] in ("sample_1", "sample_2")
    assert second["chosen"][-1]["choice"] == second["chosen"][-1]["degree of preference"] == "skipped"


def test_a_session_goes_on_where_the_last_one_ended(pairs: Path, labels: Path) -> None:
    for place in range(3):
        with LabelFile.opened(labels, "ann") as file:
            session = Session(read_pairs(pairs), file)
            assert session.place == place
            session.choose(place, "sample_1", "Better")
    with LabelFile.opened(labels, "ann") as file:
        assert Session(read_pairs(pairs), file).place is None
    assert len(lines(labels)) == 3


@pytest.mark.parametrize("kept", [1, 40, -2, -1])
def test_a_line_that_a_kill_cut_short_is_asked_again_and_no_other(pairs: Path, labels: Path, kept: int) -> None:
    with LabelFile.opened(labels, "ann") as file:
        session = Session(read_pairs(pairs), file)
        session.choose(0, "sample_1", "Better")
        whole = len(labels.read_bytes())
        session.choose(1, "sample_2", "Better")
    content = labels.read_bytes()
    labels.write_bytes(content[: (whole if kept > 0 else 0) + kept])
    is_whole = kept == -1  # only the end of the line is lost
    assert len(read_labels(labels)) == 1 + is_whole
    with LabelFile.opened(labels, "ann") as file:
        session = Session(read_pairs(pairs), file)
        assert session.place == 1 + is_whole
        session.choose(session.place, None)
    assert [label.choice for label in read_labels(labels) if isinstance(label, Vote)] == [
        "sample_1",
        *(["sample_2"] if is_whole else []),
        "skipped",
    ]


def test_one_user_has_one_session_at_a_time_and_others_may_join(pairs: Path, labels: Path) -> None:
    with LabelFile.opened(labels, "ann") as file:
        with pytest.raises(LabelError, match=r"ann has .* open in another session"), LabelFile.opened(labels, "ann"):
            pass
        with LabelFile.opened(labels, "ben") as other:
            Session(read_pairs(pairs), other).choose(0, "sample_1", "Better")
        Session(read_pairs(pairs), file).choose(0, "sample_2", "Better")
    with LabelFile.opened(labels, "ann") as file:
        assert Session(read_pairs(pairs), file).place == 1
    assert {label.user for label in read_labels(labels)} == {"ann", "ben"}


def test_undo_takes_back_the_last_answer_and_nothing_is_erased(pairs: Path, labels: Path) -> None:
    with LabelFile.opened(labels, "ann") as file:
        session = Session(read_pairs(pairs), file)
        assert not session.undo()
        session.choose(0, "sample_1", "Better")
        session.choose(1, "sample_1", "Better")
        assert session.undo() and session.place == 1
        assert [label.id for label in read_labels(labels)] == ["0"]
        session.choose(1, "sample_2", "Much better")
    assert [label.choice for label in read_labels(labels) if isinstance(label, Vote)] == ["sample_1", "sample_2"]
    assert len(lines(labels)) == 4


def test_an_answer_to_another_question_than_the_one_asked_is_refused(pairs: Path, labels: Path) -> None:
    with LabelFile.opened(labels, "ann") as file:
        session = Session(read_pairs(pairs), file)
        session.choose(0, "sample_1", "Better")
        with pytest.raises(LabelError, match="question 1 is not the one"):
            session.choose(0, "sample_2", "Better")
        with pytest.raises(LabelError, match="degree 'Awful'"):
            session.choose(1, "sample_2", "Awful")
    assert len(lines(labels)) == 1


def test_labels_of_other_pairs_under_the_same_ids_are_not_mixed_in(pairs: Path, labels: Path) -> None:
    with LabelFile.opened(labels, "ann") as file:
        Session(read_pairs(pairs), file).choose(0, "sample_1", "Better")
    pairs.write_text(pairs.read_text().replace("walks", "runs"))
    with LabelFile.opened(labels, "ann") as file, pytest.raises(LabelError, match="write to another file"):
        Session(read_pairs(pairs), file)


def test_each_side_is_as_often_left_and_the_same_at_every_start(pairs: Path, labels: Path) -> None:
    questions = [replace(read_pairs(pairs)[0], id=str(number)) for number in range(400)]
    with LabelFile.opened(labels, "ann") as file:
        sides = [Session(questions, file, seed=3).sides(place) for place in range(400)]
        again = [Session(questions, file, seed=3).sides(place) for place in range(400)]
        others = [Session(questions, file, seed=4).sides(place) for place in range(400)]
        session = Session(questions, file, seed=3)
        swapped = sides.index(("sample_2", "sample_1"))
        np.testing.assert_array_equal(session.motions(swapped)[0].joints, waving(20).joints)
        np.testing.assert_array_equal(
            session.motions(sides.index(("sample_1", "sample_2")))[0].joints, walking(20).joints
        )
    assert sides == again != others
    assert 160 < sum(left == "sample_1" for left, _ in sides) < 240  # 4 sigma about a half


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 1 has not id, prompt, sample_1, sample_2"),
        ('{"id": 1, "prompt": "x", "sample_1": {}, "sample_2": {}}', "line 1 has not"),
        ('{"id": 1, "prompt": 5, "sample_1": "walk.npy", "sample_2": "wave.npy"}', "the prompt is no text"),
        ('{"id": 1, "prompt": "x", "sample_1": "walk.npy", "sample_2": "gone.npy"}', r"gone\.npy is absent"),
        ("", "nothing to label"),
    ],
)
def test_a_file_of_pairs_that_is_none_is_refused_with_its_line(pairs: Path, line: str, complaint: str) -> None:
    pairs.write_text(line + "\n")
    with pytest.raises(LabelError, match=complaint):
        read_pairs(pairs)


@pytest.mark.parametrize("line", ["[1]", "{}", '{"id": 1, "scores": [{"score": 7}]}', "half a line", '"text"'])
def test_a_label_file_that_is_none_is_refused_with_its_line(labels: Path, line: str) -> None:
    labels.write_text(line + "\n")
    with pytest.raises(LabelError, match="line 1 is no label"):
        read_labels(labels)


def test_a_label_file_in_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabelError, match="cannot write labels"), LabelFile.opened(tmp_path / "file" / "x", "ann"):
        pass
    with pytest.raises(LabelError, match="is no name"), LabelFile.opened(tmp_path / "x", " "):
        pass


# ---- agreement


def test_alpha_is_that_of_the_literature() -> None:
    # Krippendorff 2011, example C: 4 observers, 12 units, nominal alpha 0.743, interval alpha 0.849
    rows = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    units = [[value for value in unit if value is not None] for unit in zip(*rows)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(units, distance=lambda a, b: float(a - b) ** 2) == pytest.approx(0.849, abs=5e-4)


def test_agreement_by_chance_is_about_zero_and_full_agreement_one() -> None:
    rng = random.Random(0)
    a, b = ([rng.choice("lrs") for _ in range(5000)] for _ in range(2))
    assert krippendorff_alpha(list(zip(a, b))) == pytest.approx(0, abs=0.05)  # 3 sigma
    assert krippendorff_alpha(list(zip(a, a))) == 1
    assert krippendorff_alpha(["ll", "ll"]) is None
    assert krippendorff_alpha([["l"], ["r"]]) is None


def test_a_wilson_interval_holds_the_shares_that_would_not_be_rejected() -> None:
    low, high = wilson_interval(31, 50)
    for bound in (low, high):  # (share - bound) / sigma(bound) is z there
        assert abs(31 / 50 - bound) / (bound * (1 - bound) / 50) ** 0.5 == pytest.approx(1.959964)


def choices_of(user: str, choices: str) -> Iterator[Vote]:
    for number, choice in enumerate(choices):
        sample = "skipped" if choice == "s" else f"sample_{choice}"
        degree = "skipped" if choice == "s" else DEGREES[1]
        yield Vote(str(number), PROMPT, {}, {}, sample, degree, user, "", "sample_1")  # type: ignore[arg-type]


def test_the_report_names_every_two_people_and_who_prefers_a_side() -> None:
    said = {"ann": "1122s", "ben": "1121s", "cem": "1111"}
    report = agreement_report([vote for user, choices in said.items() for vote in choices_of(user, choices)])
    assert "ann: sample_1 ×2, sample_2 ×2, skipped ×1" in report
    # by chance 9 of 25: two each of the samples and one skip against three, one and one
    assert "ann and ben: 4 of 5 equal (0.800), Cohen's kappa 0.688" in report
    assert "ann and cem: 2 of 4 equal (0.500)" in report
    assert "all, on 5 that two or more answered: Krippendorff's alpha" in report
    assert "cem: 4 of 4 (1.000; 0.510 to 1.000)" in report


def test_the_command_prints_agreement_and_merges_the_votes_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for user, choices in (("ann", "112"), ("ben", "111")):
        files.append(tmp_path / f"{user}.jsonl")
        with LabelFile.opened(files[-1], user) as file:
            for vote in choices_of(user, choices):
                file.add(vote)
    merged = tmp_path / "merged.jsonl"
    assert main(["judge", "label", "--agreement", *map(str, files), "--out", str(merged)]) == 0
    assert "ann and ben: 2 of 3 equal" in capsys.readouterr().out
    assert [[vote["user"] for vote in row["chosen"]] for row in lines(merged)] == [["ann", "ben"]] * 3
    assert sorted(read_labels(merged), key=str) == sorted(read_labels(files), key=str)
    assert main(["judge", "label", "--agreement", str(merged), "--out", str(merged)]) == 2
    assert "is one of the label files" in capsys.readouterr().err
    assert main(["judge", "label", "--agreement", str(files[0])]) == 0
    assert "no two people answered the same" in capsys.readouterr().out


def test_merged_labels_are_read_as_preference_data(pairs: Path, labels: Path, tmp_path: Path) -> None:
    with LabelFile.opened(labels, "ann") as file:
        session = Session(read_pairs(pairs), file)
        session.choose(0, "sample_2", "Much better")
        session.choose(1, None)
        session.choose(2, "sample_1", "Better")
        session.undo()
        session.choose(2, "sample_2", "Slightly better")
    read = load_labels(write_merged(read_labels(labels), tmp_path / "preference_labels.jsonl"))
    assert [(pair.prompt_id, pair.chosen.index, pair.degree, pair.judge) for pair in read] == [
        ("0", 2, "Much better", "human (ann)"),
        ("2", 2, "Slightly better", "human (ann)"),
    ]


# ---- the judge


def scored(pairs: Path, labels: Path, **scores: list[int | None]) -> None:
    """Each user's scores of the first motions of the file."""
    for user, own in scores.items():
        with LabelFile.opened(labels, user) as file:
            session = Session(read_scored(pairs), file)
            for place, score in enumerate(own):
                session.score(place, score)


def test_a_human_judge_gives_the_median_of_what_people_gave(pairs: Path, labels: Path) -> None:
    scored(pairs, labels, ann=[5, 2], ben=[4, None], cem=[1, 3])
    judge = HumanJudge(labels)
    cases = [Case.of(PROMPT, motion) for motion in (waving(20), walking(20))]
    wave, walk = judge.judge_all(cases)
    assert isinstance(walk, Verdict) and isinstance(wave, Verdict)
    assert (walk.score, wave.score, walk.task, walk.judge) == (4, 2, "temporal", judge.name)
    assert wave.reason == "ann: 2, cem: 3"
    assert judge(PROMPT, walking(20)) == walk


def test_what_nobody_scored_or_could_tell_is_invalid_and_never_a_score(pairs: Path, labels: Path) -> None:
    scored(pairs, labels, ann=[None, 4])
    judge = HumanJudge([labels])
    unlabelled = judge(PROMPT, jumping(1))
    assert isinstance(unlabelled, Invalid) and "not labelled yet" in unlabelled.reason
    unclear = judge(PROMPT, walking(20))
    assert isinstance(unclear, Invalid) and unclear.reason == "ann could not tell"
    assert isinstance(judge("a person waves", waving(20)), Invalid)
    other_task = Case.of(PROMPT, waving(20), task="integrity")
    (outcome,) = judge.judge_all([other_task])
    assert isinstance(outcome, Invalid) and "integrity" in outcome.reason


def test_a_case_is_known_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    motion = walking(20)
    motion.save(tmp_path / "motion.npz")
    assert case_key(PROMPT, Motion.load(tmp_path / "motion.npz")) == case_key(f" {PROMPT} ", motion)
    keys = {
        case_key(prompt, moved)
        for prompt, moved in product(
            (PROMPT, PROMPT + " twice"),
            (motion, motion[1:], motion.mirror(), replace(motion, fps=30.0)),
        )
    }
    assert len(keys) == 8


def test_a_score_taken_back_is_none(pairs: Path, labels: Path) -> None:
    with LabelFile.opened(labels, "ann") as file:
        session = Session(read_scored(pairs), file)
        session.score(0, 5)
        session.undo()
    assert read_labels(labels) == []
    assert isinstance(HumanJudge(labels)(PROMPT, walking(20)), Invalid)
    with pytest.raises(LabelError, match="score 6"):
        Score("1", PROMPT, {}, "integrity", "", 6, "ann", "")


def test_a_prompt_that_names_no_event_needs_its_rubric_named(pairs: Path) -> None:
    row = {"id": 1, "prompt": "xyzzy", "motion": "walk.npy"}
    pairs.write_text(json.dumps(row) + "\n")
    with pytest.raises(KinalignError, match='as "task"'):
        read_scored(pairs)
    pairs.write_text(json.dumps({**row, "task": "frequency"}) + "\n")
    assert read_scored(pairs)[0].task == "frequency"


# ---- the terminal


def test_in_the_terminal_one_is_asked_until_all_is_said(
    pairs: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = iter(["7", "1", "2", "u", "2", "4", "s", "q"])
    with LabelFile.opened(labels, "ann") as file:
        session = Session(read_pairs(pairs), file)
        ask_in_terminal(session, tmp_path / "sheets", ask=lambda text: next(said))
        assert session.place == 2
        side = session.sides(0)[1]
    votes = [label for label in read_labels(labels) if isinstance(label, Vote)]
    assert [(vote.choice, vote.degree) for vote in votes] == [
        (side, "Negligibly better/unsure"),
        ("skipped", "skipped"),
    ]
    out = capsys.readouterr().out
    assert PROMPT in out and "'7' is none of" in out
    assert sorted(path.name for path in (tmp_path / "sheets").iterdir()) == [
        f"{place:04d}-{number}.png" for place in (1, 2, 3) for number in (1, 2)
    ]


def test_the_command_scores_in_the_terminal_by_the_rubric(
    pairs: Path, labels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("4\n0\n"))  # and there it ends, as at Ctrl-D
    asked = ["judge", "label", str(pairs), "--out", str(labels), "--user", "ann", "--scores", "--terminal"]
    assert main(asked) == 0
    assert [label.score for label in read_labels(labels) if isinstance(label, Score)] == [4, None]
    out = capsys.readouterr().out
    assert "every event is there, in the order that is asked for" in out
    assert "2 of 6 are labelled by ann" in out


def test_the_command_says_what_it_needs(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", "label", str(pairs)]) == 2
    assert "kinalign judge label PAIRS --out FILE --user NAME" in capsys.readouterr().err
