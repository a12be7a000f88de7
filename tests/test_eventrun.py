"""An evaluation of events by a tiny model: repeatable, resumable, open to more judges, and held against another one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_evaluate import Stand, clip_of
from test_pipeline import lm_of, tokenizer_of

from kinalign.data.records import Clip
from kinalign.errors import ConfigError, EvaluationError, VerdictError
from kinalign.evaluation.commands import Evaluate, evaluate_command
from kinalign.evaluation.eventchoice import Choice
from kinalign.evaluation.eventcompare import compare_events, write_pairs
from kinalign.evaluation.eventreport import REAL, EventReport
from kinalign.evaluation.eventrun import EventSettings, evaluate_events
from kinalign.evaluation.eventsets import EventPrompts
from kinalign.evaluation.eventstore import EventFolder
from kinalign.events.parse import parse
from kinalign.eventwise import by_events
from kinalign.judge.human.labels import Vote, write_merged
from kinalign.judge.human.questions import read_pairs
from kinalign.judge.prompts import EventPrompt
from kinalign.judge.rubric import sub_task_of
from kinalign.judge.verdict import Case, Finding, Invalid, Outcome, Verdict
from kinalign.motion.motion import Motion
from kinalign.pipeline import TextToMotion
from kinalign.selection import best_of

TEXTS = (
    "a person walks forward, then sits down.",
    "a person sits down, then stands up, then waves.",
    "a person jumps twice.",
    "a person waves while walking.",
)
TWO = EventSettings(replications=2)


class Counting:
    """A judge that sees events in motions of an even number of frames, and remembers how often it was asked."""

    def __init__(self, name: str = "counting", *, bonus: int = 0) -> None:
        self.name, self.bonus, self.asked = name, bonus, 0

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        self.asked += len(cases)
        return [self._judge(case) for case in cases]

    def __call__(self, prompt: str, motion: Motion) -> Outcome:
        return self.judge_all([Case.of(prompt, motion)])[0]

    def _judge(self, case: Case) -> Outcome:
        findings = tuple(Finding(event, "yes", 0, 4, count=1) for event in case.program.events)
        score = min(1 + len(case.motion) // 4 % 4 + self.bonus, 5)
        return Verdict(score, case.task, self.name, findings=findings, order_is_right=True, cost_usd=0.25)


class Killed(Counting):
    """Stops the program at its second batch."""

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        if self.asked:
            raise KeyboardInterrupt
        return super().judge_all(cases)


def prompts_of(texts: Sequence[str] = TEXTS) -> EventPrompts:
    programs = [parse(text) for text in texts]
    rows = [EventPrompt(f"own-{at}", texts[at], sub_task_of(program), program) for at, program in enumerate(programs)]
    return EventPrompts({"all": rows})


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [clip_of(number) for number in range(34)]


@pytest.fixture(scope="module")
def models() -> tuple[TextToMotion, TextToMotion]:
    other = lm_of()
    torch.manual_seed(2)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return TextToMotion(lm_of(), tokenizer_of()), TextToMotion(other, tokenizer_of())


def run(model: TextToMotion, folder: Path, clips: list[Clip], *judges: Any, **others: Any) -> EventReport:
    given: dict[str, Any] = {"settings": TWO, "name": folder.name, "encoder_sha256": "e" * 64, **others}
    prompts = given.pop("prompts", prompts_of())
    return evaluate_events(model, prompts, judges, clips, Stand(clips), folder=folder, **given)


@pytest.fixture(scope="module")
def folders(
    models: tuple[TextToMotion, TextToMotion], clips: list[Clip], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    a, b = (tmp_path_factory.mktemp("reports") / name for name in ("first", "second"))
    run(models[0], a, clips, Counting())
    run(models[1], b, clips, Counting())
    return a, b


def same(a: EventReport, b: EventReport) -> bool:
    return all(vars(a)[name] == vars(b)[name] for name in ("events", "quality", "invalid", "groups"))


def test_a_report_has_numbers_of_every_judge_group_and_of_real_clips(folders: tuple[Path, Path]) -> None:
    report = EventReport.load(folders[0])
    assert list(report.events) == ["counting"] and set(report.quality) == {*report.groups, REAL}
    assert report.groups == {
        "all": 4, "integrity": 1, "temporal": 2, "frequency": 1, "1 event": 1, "2 events": 2, "3 events": 1
    }  # fmt: skip
    number = report.number("counting", "event_recall", group="temporal")
    assert number.value is not None and number.of == 2 * (2 + 3)
    assert report.number("counting", "mm_dist").value is not None
    asked = sum(motion.duration_s >= 0.5 for at in range(2) for motion in EventFolder.load(folders[0]).motions(at))
    assert report.costs_usd == {"counting": 0.25 * asked} and asked > 0
    with pytest.raises(EvaluationError, match="no 'wit' by 'counting'"):
        report.number("counting", "wit")
    text = (folders[0] / "report.md").read_text(encoding="utf-8")
    assert "## Seen by counting" in text and "| temporal (2) |" in text and "nan" not in text
    assert (folders[0] / "report.png").stat().st_size > 10_000


def test_an_evaluation_that_is_killed_while_it_judges_ends_as_one_that_is_not(
    folders: tuple[Path, Path], models: tuple[TextToMotion, TextToMotion], clips: list[Clip], tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        run(models[0], folder, clips, Killed())
    assert not (folder / "report.json").exists()
    judge = Counting()
    report = run(models[0], folder, clips, judge)
    assert same(report, EventReport.load(folders[0]))
    assert 0 < judge.asked <= 4, "the first replication was judged before"


def test_motions_are_made_once_and_verdicts_given_once(
    folders: tuple[Path, Path], models: tuple[TextToMotion, TextToMotion], clips: list[Clip], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders[0], tmp_path / "first"))
    before = {path: path.read_bytes() for path in folder.glob("*s/**/*.*")}
    judge = Counting()
    report = run(models[0], folder, clips, judge)
    assert judge.asked == 0 and same(report, EventReport.load(folders[0]))
    assert {path: path.read_bytes() for path in folder.glob("*s/**/*.*")} == before


def test_another_judge_is_asked_everything_and_the_first_one_keeps_its_word(
    folders: tuple[Path, Path], models: tuple[TextToMotion, TextToMotion], clips: list[Clip], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders[0], tmp_path / "first"))
    kinder = Counting("kinder", bonus=2)
    report = run(models[0], folder, clips, kinder)
    assert set(report.events) == {"counting", "kinder"} and kinder.asked > 0
    first = EventReport.load(folders[0])
    assert report.events["counting"] == first.events["counting"]
    ours, theirs = (report.number(name, "score").value for name in ("kinder", "counting"))
    assert ours is not None and theirs is not None and ours > theirs


def test_another_model_or_other_prompts_are_refused_in_a_folder_that_was_begun(
    folders: tuple[Path, Path], models: tuple[TextToMotion, TextToMotion], clips: list[Clip], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders[0], tmp_path / "first"))
    with pytest.raises(ConfigError, match="another configuration: sha256"):
        run(models[1], folder, clips, Counting())
    with pytest.raises(ConfigError, match="another configuration: sha256"):
        run(models[0], folder, clips, Counting(), prompts=prompts_of(TEXTS[:2]))
    with pytest.raises(ConfigError, match="another configuration: settings"):
        run(models[0], folder, clips, Counting(), settings=EventSettings(3))


def test_what_is_kept_is_what_was_judged(folders: tuple[Path, Path]) -> None:
    kept = EventFolder.load(folders[0])
    verdicts = kept.verdicts()["counting"]
    for replication in range(2):
        for motion, row in zip(kept.motions(replication), verdicts):
            outcome = row[replication]
            assert isinstance(outcome, Verdict)
            assert outcome.score == (1 if motion.duration_s < 0.5 else 1 + len(motion) // 4 % 4)


def test_what_is_too_short_shows_nothing_whoever_judges(folders: tuple[Path, Path], tmp_path: Path) -> None:
    kept = EventFolder.load(shutil.copytree(folders[0], tmp_path / "short"))
    for replication in range(2):
        kept.keep_motions(replication, [motion[:8] for motion in kept.motions(replication)])
    judge = Counting("never asked")
    answers = kept.ask(judge)
    assert judge.asked == 0
    assert all(
        isinstance(one, Verdict) and one.score == 1 and all(finding.seen == "no" for finding in one.findings)
        for row in answers
        for one in row
    )


def test_verdicts_on_other_prompts_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders[0], tmp_path / "first"))
    (path,) = folder.glob("verdicts/*/000-00000.jsonl")
    path.write_text(path.read_text(encoding="utf-8").replace("own-0", "own-9"), encoding="utf-8")
    with pytest.raises(VerdictError, match="other prompts"):
        EventFolder.load(folder).verdicts()


# one against another


def test_a_report_against_itself_wins_half_and_differs_in_nothing(folders: tuple[Path, Path]) -> None:
    found = compare_events(folders[0], folders[0])
    rate = found.wins["counting"]["all"]
    assert rate.wins.value == 0.5 and rate.ties.value == 1.0
    assert all(row.a == row.b for group in found.events["counting"].values() for row in group.values())
    assert all(row.a == row.b for group in found.quality.values() for row in group.values())
    assert found.systems == ("first (A)", "first (B)")


def test_swapped_reports_give_one_less_the_win_rate(folders: tuple[Path, Path]) -> None:
    there, back = compare_events(*folders), compare_events(*folders[::-1])
    for group, rate in there.wins["counting"].items():
        assert rate.wins.value == pytest.approx(1 - (back.wins["counting"][group].wins.value or 0))
        assert rate.ties == back.wins["counting"][group].ties
    row, swapped = there.events["counting"]["all"]["score"], back.events["counting"]["all"]["score"]
    assert (row.a, row.b) == (swapped.b, swapped.a)
    assert "second against first" in there.markdown() and "nan" not in there.markdown()


def test_wins_are_those_of_the_scores_that_were_given(folders: tuple[Path, Path]) -> None:
    scores = []
    for folder in folders:
        verdicts = EventFolder.load(folder).verdicts()["counting"]
        scores.append(np.array([[one.score for one in row if isinstance(one, Verdict)] for row in verdicts]))
    expected = np.mean((scores[1] > scores[0]) + 0.5 * (scores[1] == scores[0]))
    assert compare_events(*folders).wins["counting"]["all"].wins.value == pytest.approx(expected)


def test_a_judge_can_be_asked_later_about_the_motions_of_both(folders: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = (Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in folders)
    later = Counting("later")
    found = compare_events(a, b, judges=[later])
    assert list(found.wins) == ["later"] and later.asked > 0
    assert found.wins["later"] == compare_events(*folders).wins["counting"]
    asked = later.asked
    compare_events(a, b, judges=[later])
    assert later.asked == asked, "what it said is kept"


def test_pairs_without_two_scores_are_left_out(folders: tuple[Path, Path], tmp_path: Path) -> None:
    class Unwilling(Counting):
        def _judge(self, case: Case) -> Outcome:
            if case.task == "frequency":
                return Invalid(self.name, "who counts?")
            return super()._judge(case)

    a, b = (Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in folders)
    rates = compare_events(a, b, judges=[Unwilling("unwilling")]).wins["unwilling"]
    assert rates["temporal"].wins.of == 4 and rates["frequency"].wins.of < 2


def test_what_could_not_be_judged_is_asked_again_and_nothing_else(folders: tuple[Path, Path], tmp_path: Path) -> None:
    class Moody(Counting):
        """Judges nothing about counts at first."""

        mood = "bad"

        def _judge(self, case: Case) -> Outcome:
            if case.task == "frequency" and self.mood == "bad":
                return Invalid(self.name, "the endpoint is down")
            return super()._judge(case)

    kept = EventFolder.load(shutil.copytree(folders[0], tmp_path / "first"))
    judge = Moody("moody")
    assert sum(isinstance(one, Invalid) for row in kept.ask(judge) for one in row) == (invalid := judge.asked // 4)
    judge.mood, asked = "good", judge.asked
    answers = kept.ask(judge)
    assert judge.asked == asked + invalid and not any(isinstance(one, Invalid) for row in answers for one in row)
    scores = [[one.score for one in row if isinstance(one, Verdict)] for row in answers]
    assert scores == [[one.score for one in row if isinstance(one, Verdict)] for row in kept.verdicts()["moody"]]


def test_people_choose_between_the_motions_of_two_reports(folders: tuple[Path, Path], tmp_path: Path) -> None:
    path = write_pairs(*folders, tmp_path / "pairs")
    questions = {question.id: question for question in read_pairs(path)}
    assert len(questions) == 8
    kept = [EventFolder.load(folder) for folder in folders]
    for question, number in ((questions["own-2-001"], 2), (questions["own-0-001"], 0)):
        assert question.prompt == TEXTS[number]
        for shown, folder in zip(question.motions(), kept):
            assert np.array_equal(shown.joints, folder.motions(1)[number].joints)

    def vote(name: str, choice: Any, degree: str, user: str = "ann") -> Vote:
        return Vote(*questions[name].what(), choice, degree, user, "")

    votes = [
        vote("own-0-000", "sample_2", "Much better"),
        vote("own-0-001", "sample_1", "Better"),
        vote("own-1-000", "sample_2", "Negligibly better/unsure"),
        vote("own-2-000", "sample_2", "Better"),
        vote("own-2-001", "sample_2", "Better"),
        vote("own-2-001", "sample_1", "Better", "ben"),
        vote("own-2-001", "sample_2", "Slightly better", "cem"),
    ]
    labels = write_merged(votes, tmp_path / "labels.jsonl")
    rates = compare_events(*folders, votes=labels).wins["people who chose"]
    assert (rates["all"].wins.value, rates["all"].wins.of) == ((1 + 0 + 0.5 + 1 + 1) / 5, 5)
    assert rates["frequency"].wins.value == 1.0 and rates["all"].ties.value == 1 / 5
    (tmp_path / "others.jsonl").write_text(
        labels.read_text(encoding="utf-8").replace("own-", "other-"), encoding="utf-8"
    )
    with pytest.raises(EvaluationError, match="none of the pairs"):
        compare_events(*folders, votes=tmp_path / "others.jsonl")


def test_reports_that_cannot_be_compared_are_refused(
    folders: tuple[Path, Path], models: tuple[TextToMotion, TextToMotion], clips: list[Clip], tmp_path: Path
) -> None:
    run(models[0], tmp_path / "other", clips, Counting(), prompts=prompts_of(TEXTS[:3]))
    with pytest.raises(EvaluationError, match="other prompts"):
        compare_events(folders[0], tmp_path / "other")
    run(models[0], tmp_path / "once", clips, Counting(), settings=EventSettings(1))
    with pytest.raises(EvaluationError, match="other settings"):
        compare_events(folders[0], tmp_path / "once")
    run(models[0], tmp_path / "judged", clips, Counting("somebody else"))
    with pytest.raises(EvaluationError, match="nobody judged both"):
        compare_events(folders[0], tmp_path / "judged")
    with pytest.raises(EvaluationError, match=r"holds no report\.json"):
        compare_events(folders[0], tmp_path)
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "report.json").write_text(json.dumps({"rows": []}), encoding="utf-8")
    with pytest.raises(EvaluationError, match="other things than events"):
        compare_events(folders[0], tmp_path / "plain")
    torn = Path(shutil.copytree(folders[0], tmp_path / "torn"))
    (torn / "measures" / "001.safetensors").unlink()
    with pytest.raises(EvaluationError, match=r"001\.safetensors is absent"):
        compare_events(folders[0], torn)


# what cannot be asked


def test_bad_input_is_refused_before_anything_is_made(
    models: tuple[TextToMotion, TextToMotion], clips: list[Clip], tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match="nobody judges"):
        run(models[0], tmp_path / "out", clips)
    with pytest.raises(ConfigError, match="replications=0"):
        EventSettings(0)
    with pytest.raises(ConfigError, match="'weather' is unknown"):
        evaluate_command(Evaluate(events=True, judge=("weather",), out=tmp_path / "out"))
    with pytest.raises(ConfigError, match="leave out --outputs"):
        evaluate_command(Evaluate(events=True, outputs=tmp_path, out=tmp_path / "out"))
    with pytest.raises(ConfigError, match="give --events too"):
        evaluate_command(Evaluate(judge=("kinematic",), out=tmp_path / "out"))
    with pytest.raises(ConfigError, match="pairs and votes are of two reports"):
        evaluate_command(Evaluate(events=True, pairs=tmp_path / "out"))
    with pytest.raises(ConfigError, match="--best-of is said of an evaluation of events"):
        evaluate_command(Evaluate(best_of=8, out=tmp_path / "out"))
    with pytest.raises(ConfigError, match="give --best-of, which draws a number, or --until-right"):
        evaluate_command(Evaluate(events=True, best_of=8, until_right=8, out=tmp_path / "out"))
    with pytest.raises(ConfigError, match="n=0 leaves nothing"):
        evaluate_command(Evaluate(events=True, best_of=0, out=tmp_path / "out"))
    with pytest.raises(ConfigError, match="leave out --best-of"):
        evaluate_command(Evaluate(events=True, best_of=8, compare=(tmp_path, tmp_path)))
    assert not (tmp_path / "out").exists()


# the best of many


class Late(Counting):
    """Finds one of twelve motions right, by its joints, and is unwilling about one of seven."""

    def _judge(self, case: Case) -> Outcome:
        lot = int(abs(case.motion.joints.sum()) * 1e4)
        if lot % 7 == 0:
            return Invalid(self.name, "no luck", 0.25)
        return Verdict(5 if lot % 12 == 0 else 1 + lot % 4, case.task, self.name, cost_usd=0.25)


CHOICES = (Choice(8), Choice(20), Choice(24, until_right=True))


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_an_evaluation_chooses_as_best_of_does(
    choice: Choice, models: tuple[TextToMotion, TextToMotion], clips: list[Clip], tmp_path: Path
) -> None:
    run(models[0], tmp_path / "many", clips, Counting(), choice=choice, chosen_by=Late("late"))
    kept = EventFolder.load(tmp_path / "many")
    drawn = 0
    for replication in range(2):
        for prompt, motion in zip(kept.prompts.all, kept.motions(replication)):
            seed = TWO.seed_of(prompt.prompt, replication)
            alone = best_of(
                models[0], prompt.prompt, choice.n, judge=Late("late"), until_right=choice.until_right, seed=seed
            )
            assert np.allclose(motion.joints, alone.best.motion.joints, atol=1e-3)
            drawn += alone.num_drawn
    assert kept.spent().drawn == pytest.approx(drawn / 8)
    if choice.until_right:
        assert 8 < drawn / 8 < 24, "some are right before the others"


def test_an_evaluation_makes_events_one_by_one_as_by_events_does(
    models: tuple[TextToMotion, TextToMotion], clips: list[Clip], tmp_path: Path
) -> None:
    choice = Choice(3, by_events=True)
    report = run(models[0], tmp_path / "one", clips, Counting(), choice=choice, chosen_by=Late("late"))
    assert report.system == "one, event by event, best of 3 by late"
    kept = EventFolder.load(tmp_path / "one")
    for prompt, motion in list(zip(kept.prompts.all, kept.motions(1)))[::3]:
        alone = by_events(models[0], prompt.prompt, 3, judge=Late("late"), seed=TWO.seed_of(prompt.prompt, 1))
        assert np.allclose(motion.joints, alone.best.motion.joints, atol=1e-3)
    with pytest.raises(ConfigError, match="leave out --until-right"):
        Choice(3, until_right=True, by_events=True)


def test_a_report_on_chosen_motions_says_who_chose_of_how_many_and_at_what_price(
    folders: tuple[Path, Path], models: tuple[TextToMotion, TextToMotion], clips: list[Clip], tmp_path: Path
) -> None:
    folder = tmp_path / "first"
    report = run(models[0], folder, clips, Counting(), Late("late"), choice=Choice(8), chosen_by=Late("late"))
    assert report.system == "first, best of 8 by late" and report.drawn == 8
    assert report.costs_usd["late, choosing,"] == pytest.approx(0.25 * 8 * 8)
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "## Seen by late, who chose them" in text and "## Seen by counting\n" in text
    assert "8.0 candidates are drawn and judged for one" in text
    assert EventReport.load(folder).drawn == 8 and EventReport.load(folders[0]).drawn == 1
    late, plain = report.number("late", "score").value, run(models[0], tmp_path / "plain", clips, Late("late"))
    assert (late or 0) > (plain.number("late", "score").value or 5)
    found = compare_events(folders[0], folder)
    assert found.systems == ("first", "first, best of 8 by late")
    assert "best of 8 by late against first" in found.markdown()


def test_a_choice_that_is_killed_ends_as_one_that_is_not_and_asks_little_again(
    models: tuple[TextToMotion, TextToMotion], clips: list[Clip], tmp_path: Path
) -> None:
    class Stopped(Late):
        def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
            if self.asked:
                raise KeyboardInterrupt
            return super().judge_all(cases)

    choice = Choice(24, until_right=True)
    whole = run(models[0], tmp_path / "first", clips, Counting(), choice=choice, chosen_by=Late("late"))
    with pytest.raises(KeyboardInterrupt):
        run(models[0], tmp_path / "killed", clips, Counting(), choice=choice, chosen_by=Stopped("late"), name="first")
    later = Late("late")
    again = run(models[0], tmp_path / "killed", clips, Counting(), choice=choice, chosen_by=later, name="first")
    assert same(whole, again) and whole.drawn == again.drawn
    assert later.asked == whole.drawn * 8 - 4 * 8, "the first round of the first replication was judged before"
    (path, *_) = sorted((tmp_path / "killed" / "choices").glob("*/*.json"))
    path.write_text(path.read_text(encoding="utf-8").replace("own-0", "own-9"), encoding="utf-8")
    (tmp_path / "killed" / "measures" / "000.safetensors").unlink()
    with pytest.raises(VerdictError, match="other prompts"):
        run(models[0], tmp_path / "killed", clips, Counting(), choice=choice, chosen_by=Late("late"), name="first")


def test_what_was_drawn_and_chosen_for_another_evaluation_is_not_made_anew(
    folders: tuple[Path, Path],
    models: tuple[TextToMotion, TextToMotion],
    clips: list[Clip],
    tmp_path: Path,
) -> None:
    best, right = Choice(8), Choice(24, until_right=True)
    run(models[0], tmp_path / "best", clips, Counting(), choice=best, chosen_by=Late("late"), reuse=folders[0])
    plain, taken = (folder / "answers" / "000-00000.safetensors" for folder in (folders[0], tmp_path / "best"))
    assert plain.read_bytes() == taken.read_bytes(), "with the seconds that it took there"
    alone = run(models[0], tmp_path / "alone", clips, Counting(), choice=right, chosen_by=Late("late"))
    judge = Late("late")
    shared = run(
        models[0], tmp_path / "right", clips, Counting(), choice=right, chosen_by=judge, reuse=tmp_path / "best"
    )
    assert same(shared, alone) and judge.asked == alone.drawn * 8 - 8 * 8
    with pytest.raises(ConfigError, match="is of other sha256"):
        run(models[1], tmp_path / "other", clips, Counting(), choice=best, chosen_by=judge, reuse=folders[0])


def test_of_a_prompt_that_nobody_can_read_the_plain_motion_stays(
    models: tuple[TextToMotion, TextToMotion], clips: list[Clip], tmp_path: Path
) -> None:
    program = parse(TEXTS[0])
    odd = EventPrompts({"all": [EventPrompt("odd", "gribble the wug", "temporal", program), *prompts_of().all[1:]]})
    run(models[0], tmp_path / "plain", clips, Counting(), prompts=odd)
    run(models[0], tmp_path / "best", clips, Counting(), prompts=odd, choice=Choice(8), chosen_by=Late("late"))
    plain, best = (EventFolder.load(tmp_path / name).motions(0) for name in ("plain", "best"))
    assert np.array_equal(plain[0].joints, best[0].joints)
    assert any(len(a) != len(b) or not np.allclose(a.joints, b.joints) for a, b in zip(plain[1:], best[1:]))
