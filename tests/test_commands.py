"""The commands that make, continue, join and describe motions, with a tiny model of random weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_pipeline import lm_of, tokenizer_of
from test_selection import ByJoints

from kinalign.commands import (
    Caption,
    Generate,
    InBetween,
    Predict,
    answers,
    caption,
    generate,
    inbetween,
    predict,
    slug,
)
from kinalign.errors import CheckpointError, ConfigError, FormatError, KinalignError, PromptError
from kinalign.events.parse import parse
from kinalign.eventwise import by_events
from kinalign.motion.motion import Motion
from kinalign.motion.planting import settled
from kinalign.motion.synthetic import walking, waving
from kinalign.pipeline import TextToMotion
from kinalign.run import read_json
from kinalign.selection import best_of

QUICK = ("npy", "bvh")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TextToMotion(lm_of(), tokenizer_of()).save_pretrained(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return walking(61).save(tmp_path_factory.mktemp("motions") / "walk.bvh")


# the command


def settings(folder: Path, out: Path, *prompts: str, **others: object) -> Generate:
    return replace(Generate(prompts=prompts, model=folder, out=out, formats=QUICK, length_seconds=1.0), **others)


def test_files_of_every_prompt_and_candidate_are_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = generate(settings(folder, tmp_path, "a person walks", "Jumps, twice!", num_candidates=2, seed=4))
    names = [f"{stem}-{n}.{s}" for stem in ("001-a-person-walks", "002-jumps-twice") for n in (1, 2) for s in QUICK]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "prompts.json"])
    assert capsys.readouterr().out.splitlines() == [str(path) for path in written]
    assert read_json(tmp_path / "prompts.json")["motions"][1] == {
        "prompt": "Jumps, twice!",
        "seed": 4,
        "files": names[4:],
    }
    walks = TextToMotion.from_pretrained(folder)("a person walks", num_candidates=2, seed=4, length_s=1.0)
    assert np.array_equal(Motion.load(written[0]).joints, settled(walks[0]).joints)
    assert np.array_equal(Motion.load(written[2]).joints, settled(walks[1]).joints)


def test_without_planting_motions_are_as_the_model_makes_them(folder: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"plant": False, "seed": 4, "formats": ("npy",)}
    model = TextToMotion.from_pretrained(folder)
    (alone,) = generate(settings(folder, tmp_path / "plain", "a person walks", **how))
    assert np.array_equal(Motion.load(alone).joints, model("a person walks", seed=4, length_s=1.0)[0].joints)
    (best,) = generate(settings(folder, tmp_path / "best", "a person walks", best_of=3, judge=BY_JOINTS, **how))
    chosen = best_of(model, "a person walks", 3, judge=ByJoints(), seed=4, length_s=1.0)
    assert np.array_equal(Motion.load(best).joints, chosen.best.motion.joints)
    how |= {"length_seconds": None, "best_of": 2}
    (whole,) = generate(settings(folder, tmp_path / "events", "a person salutes", by_events="yes", **how))
    assert np.array_equal(
        Motion.load(whole).joints, by_events(model, "a person salutes", 2, seed=4, plant=False).best.motion.joints
    )


def test_every_format_is_written(folder: Path, tmp_path: Path) -> None:
    formats = ("mp4", "webm", "gif", "png", "bvh", "glb", "npy", "npz", "html")
    written = generate(settings(folder, tmp_path, "a person walks", formats=formats, length_seconds=0.4))
    assert [path.suffix[1:] for path in written] == [*formats]
    beginnings = {path.suffix: path.read_bytes()[:12] for path in written}
    assert beginnings[".png"].startswith(b"\x89PNG")
    assert beginnings[".gif"].startswith(b"GIF8")
    assert beginnings[".glb"].startswith(b"glTF")
    assert beginnings[".mp4"][4:8] == b"ftyp"
    assert beginnings[".webm"].startswith(b"\x1a\x45\xdf\xa3")
    assert beginnings[".html"].lower().startswith(b"<!doctype")
    assert len(Motion.load(tmp_path / "001-a-person-walks.bvh")) == 8


def test_one_page_holds_all_candidates_of_a_prompt(folder: Path, tmp_path: Path) -> None:
    written = generate(settings(folder, tmp_path, "a person walks", formats=("html",), num_candidates=3))
    assert [path.name for path in written] == ["001-a-person-walks.html"]


def test_prompts_come_from_a_file_too(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeffa person waves\n\n   \nа человек идёт\r\n", encoding="utf-8")
    written = generate(settings(folder, tmp_path / "out", "a person walks", file=file, formats=("npy",)))
    assert [path.name for path in written] == ["001-a-person-walks.npy", "002-a-person-waves.npy", "003-prompt.npy"]


def test_candidates_of_a_prompt_do_not_depend_on_the_prompts_beside_it(folder: Path, tmp_path: Path) -> None:
    alone = generate(settings(folder, tmp_path / "a", "a person walks", formats=("npy",)))
    beside = generate(settings(folder, tmp_path / "b", "a person waves", "a person walks", formats=("npy",)))
    assert alone[0].read_bytes() == beside[1].read_bytes()


BY_JOINTS = "test_selection:ByJoints"


def test_the_best_of_many_are_written_with_what_the_judge_says(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(folder, tmp_path, "a person walks", best_of=6, num_candidates=2, judge=BY_JOINTS, seed=1)
    written = generate(replace(config, formats=("npy", "html")))
    chosen = best_of(
        TextToMotion.from_pretrained(folder),
        "a person walks",
        6,
        judge=ByJoints(),
        keep=2,
        seed=1,
        length_s=1.0,
        plant=True,
    )
    assert [path.name for path in written] == [
        "001-a-person-walks-1.npy",
        "001-a-person-walks-2.npy",
        "001-a-person-walks.html",
    ]
    for path, motion in zip(written, chosen.motions):
        assert np.array_equal(Motion.load(path).joints, motion.joints)
    (row,) = read_json(tmp_path / "prompts.json")["motions"]
    assert row == {
        "prompt": "a person walks",
        "seed": 1,
        "files": [path.name for path in written],
        **chosen.to_json(),
    }
    said = capsys.readouterr().out
    assert f"by joints: {chosen.num_right} of 6 drawn all right" in said
    assert f"{tmp_path / '001-a-person-walks-1'}: {chosen.best.outcome.score} of 5" in said
    page = written[-1].read_text(encoding="utf-8")
    assert page.count(f'"caption":"{chosen.best.outcome.score} of 5: "') >= 1
    assert [one.caption for one in chosen.motions] == ["a person walks"] * 2  # in the files the prompt stays


def test_each_event_is_told_with_its_interval(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextToMotion, "__call__", lambda *_, **__: [waving(80)])
    generate(settings(folder, tmp_path, "a person waves, then jumps", judge="kinematic", formats=("html",)))
    (row,) = read_json(tmp_path / "prompts.json")["motions"]
    (told,) = row["verdicts"]
    wave, jump = told["findings"]
    assert (row["judge"], row["drawn"], told["candidate"], told["fps"]) == ("kinematic", 1, 0, 20.0)
    assert wave["seen"] == "yes"
    assert 0 <= wave["start"] < wave["end"] <= 80
    assert (jump["seen"], jump["start"]) == ("no", None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a person waves, then jumps"
    times = f"{wave['start'] / 20:.1f} to {wave['end'] / 20:.1f} s"
    assert [line.split()[:2] for line in lines[3:5]] == [["yes", "wave"], ["no", "jump"]]
    assert times in lines[3]
    page = (tmp_path / "001-a-person-waves-then-jumps.html").read_text(encoding="utf-8")
    assert f'"label":"wave","start":{wave["start"] / 20}' in page


def test_a_judge_alone_changes_no_motion_and_no_order(folder: Path, tmp_path: Path) -> None:
    plain = generate(settings(folder, tmp_path / "a", "a person walks", num_candidates=3))
    looked_at = generate(settings(folder, tmp_path / "b", "a person walks", num_candidates=3, judge=BY_JOINTS))
    assert [path.read_bytes() for path in plain] == [path.read_bytes() for path in looked_at]
    (row,) = read_json(tmp_path / "b" / "prompts.json")["motions"]
    assert [one["candidate"] for one in row["verdicts"]] == [0, 1, 2]


def test_a_budget_in_vain_and_a_judge_that_sees_nothing_say_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ("a person sneezes", "a person does five cartwheels")
    generate(settings(folder, tmp_path, *prompts, until_right=12, formats=("npy",)))
    said = capsys.readouterr().out
    assert "kinematic: none of 8 drawn could be judged: nothing was chosen" in said
    assert "kinematic: 0 of 12 drawn all right; no more may be drawn (--until-right)" in said


def test_a_prompt_without_an_event_is_made_without_a_judge_and_with_a_warning(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ("hmm", "a person walks")
    plain = generate(settings(folder, tmp_path / "a", *prompts, formats=("npy",)))
    best = generate(settings(folder, tmp_path / "b", *prompts, formats=("npy",), best_of=3, judge=BY_JOINTS))
    assert plain[0].read_bytes() == best[0].read_bytes()
    warned = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warned) == 1
    assert warned[0].startswith("kinalign: warning: 'hmm' names nothing")
    assert warned[0].endswith("; its motions are made without a judge")
    rows = read_json(tmp_path / "b" / "prompts.json")["motions"]
    assert ["drawn" in row for row in rows] == [False, True]


@pytest.mark.parametrize(
    ("prompts", "others", "error", "message"),
    [
        ((), {}, PromptError, "no prompt; give one in quotes"),
        (("",), {}, PromptError, "the prompt '' says nothing"),
        (("a person walks", "walks " * 10_000), {}, PromptError, "a prompt of 59999 characters is too long"),
        (("a person walks", "walks " * 40), {}, PromptError, r"\d+ tokens .* too long"),
        (("a person walks",), {"formats": ()}, ConfigError, "formats is empty; name one or more of mp4"),
        (("a person walks",), {"length_seconds": 0.0}, ConfigError, r"length_s=0\.0 must be between"),
        (("a person walks",), {"length_seconds": 1000.0}, ConfigError, r"length_s=1000\.0 must be between"),
        (("a person walks",), {"num_candidates": 0}, ConfigError, "num_candidates=0"),
        (("a person walks",), {"best_of": 0}, ConfigError, r"n=0 leaves nothing to choose from; .*--best-of"),
        (("a person walks",), {"until_right": -1}, ConfigError, "n=-1 leaves nothing to choose from"),
        (("a person walks",), {"best_of": 2, "num_candidates": 3}, ConfigError, r"keep=3 must be 1 to 2.*--num-cand"),
        (
            ("a person walks",),
            {"by_events": "yes", "length_seconds": 2.0},
            ConfigError,
            "leave out --until-right and --le",
        ),
        (("a person walks",), {"best_of": 8, "until_right": 8}, ConfigError, "say one of --best-of"),
        (("a person walks",), {"judge": "nobody"}, ConfigError, "judge 'nobody' is unknown; use one of kinematic"),
        (("a person walks",), {"judge": "human"}, ConfigError, "judge 'human' cannot be made .*'labels'.* a colon"),
        (("a person walks",), {"temperature": -1.0}, ConfigError, r"temperature=-1\.0 must be"),
        (("a person walks",), {"top_p": 0.0}, ConfigError, r"top_p=0\.0 must be"),
        (("a person walks",), {"guidance": 0.0}, ConfigError, r"guidance=0\.0 must be"),
        (("a person walks",), {"model": Path("no/such/model")}, CheckpointError, "is no model folder"),
        (("a person walks",), {"file": Path("no/such/file")}, PromptError, "cannot read the lines of no"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    prompts: tuple[str, ...],
    others: dict[str, object],
    error: type[KinalignError],
    message: str,
    folder: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        generate(settings(folder, tmp_path / "out", *prompts, **others))
    assert not (tmp_path / "out").exists()


def test_a_file_of_prompts_that_is_no_text_is_one_clear_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_bytes(b"\xff\xfe\x00walks")
    with pytest.raises(PromptError, match=r"prompts\.txt as text"):
        generate(settings(folder, tmp_path / "out", file=tmp_path / "prompts.txt"))


def test_an_empty_file_of_prompts_is_one_clear_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\n \n")
    with pytest.raises(PromptError, match="no prompt"):
        generate(settings(folder, tmp_path / "out", file=tmp_path / "prompts.txt"))


def test_a_folder_that_cannot_be_written_is_one_clear_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file is in the way")
    with pytest.raises(KinalignError, match=r"cannot write .*; choose a folder that you may write to"):
        generate(settings(folder, tmp_path / "out", "a person walks"))


# reading, going on, filling in


def test_a_motion_file_is_continued(folder: Path, walk: Path, tmp_path: Path) -> None:
    written = predict(
        Predict(motions=(walk,), model=folder, out=tmp_path, formats=QUICK, seconds=1.0, num_candidates=2)
    )
    assert [path.name for path in written] == [f"001-walk-{n}.{suffix}" for n in (1, 2) for suffix in QUICK]
    assert len(Motion.load(written[0])) == 60 + 20
    assert read_json(tmp_path / "prompts.json")["motions"][0]["motion"] == str(walk)


def test_motions_come_from_a_list_too(folder: Path, walk: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{walk}\n\n{walk.with_name('walk.bvh')}\n", encoding="utf-8")
    said = caption(Caption(file=tmp_path / "list.txt", model=folder, out=tmp_path / "said.jsonl"))
    rows = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["caption"] for row in rows] == said
    assert rows[0]["motion"] == str(walk)


def test_a_hidden_part_is_made_anew_and_the_rest_stays_where_it_was(folder: Path, walk: Path, tmp_path: Path) -> None:
    (path,) = inbetween(InBetween(motions=(walk,), hide=(1.0, 2.0), model=folder, out=tmp_path, formats=("npy",)))
    motion, given = Motion.load(path), Motion.load(walk)
    assert len(motion) == len(given) == 61
    assert np.abs(motion.joints[:10] - given.joints[:10]).max() < 1e-4
    assert np.abs(motion.joints[-10:] - given.joints[-10:]).max() < 1e-3


def test_two_motions_are_joined(folder: Path, walk: Path, tmp_path: Path) -> None:
    (path,) = inbetween(InBetween(motions=(walk, walk), seconds=0.8, model=folder, out=tmp_path, formats=("npy",)))
    assert path.name == "001-walk-walk.npy"
    assert len(Motion.load(path)) == 60 + 16 + 61


def test_gaps_come_from_a_list_too(folder: Path, walk: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{walk}\t{walk}\n{walk}\t{walk}\n", encoding="utf-8")
    config = InBetween(file=tmp_path / "list.txt", seconds=0.8, model=folder, out=tmp_path, formats=("npy",))
    assert [path.name for path in inbetween(config)] == ["001-walk-walk.npy", "002-walk-walk.npy"]


def test_a_motion_is_made_anew_between_key_moments(folder: Path, walk: Path, tmp_path: Path) -> None:
    config = InBetween(motions=(walk,), keys=(0.0, 1.4, 2.9), model=folder, out=tmp_path, formats=("npy",))
    (path,) = inbetween(config)
    assert len(Motion.load(path)) == 60
    assert Motion.load(path).caption == Motion.load(walk).caption
    with pytest.raises(ConfigError, match=r"steps=\[15\] must be some of 0 to 14"):
        inbetween(replace(config, keys=(3.0,)))


@pytest.mark.parametrize(
    ("wish", "error", "message"),
    [
        (lambda walk: inbetween(InBetween(motions=(walk,))), ConfigError, "say one of --hide START END and --keys"),
        (lambda walk: inbetween(InBetween(motions=(walk,), hide=(1, 2), seconds=1)), ConfigError, "say one of --hide"),
        (lambda walk: inbetween(InBetween(motions=(walk,), seconds=1)), ConfigError, "1 motions, .*: here it takes 2"),
        (lambda walk: inbetween(InBetween(hide=(1, 2))), PromptError, "no motion; name"),
        (
            lambda walk: inbetween(InBetween(motions=(walk,), hide=(2.0, 1.0))),
            ConfigError,
            "must lie inside the 3.05 s",
        ),
        (lambda walk: inbetween(InBetween(motions=(walk,), hide=(1.0, 9.0))), ConfigError, r"hide=1\.0 9\.0 must lie"),
        (lambda walk: predict(Predict()), PromptError, "no motion; name a bvh, npy or npz file: kinalign predict"),
        (lambda walk: caption(Caption()), PromptError, "no motion; name"),
        (lambda walk: predict(Predict(motions=(walk.with_suffix(".fbx"),))), FormatError, "suffix '.fbx' is unknown"),
    ],
)
def test_what_cannot_be_read_or_filled_is_refused(
    wish: object, error: type[KinalignError], message: str, walk: Path
) -> None:
    with pytest.raises(error, match=message):
        wish(walk)  # type: ignore[operator]


# names and prompts


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A person walks, then kicks twice.", "a-person-walks-then-kicks-twice"),
        ("../../etc/passwd", "etc-passwd"),
        ("人が歩く", "prompt"),
        ("w" * 100, "w" * 40),
        ("a person walks slowly forward and then - turns", "a-person-walks-slowly-forward-and-then-t"),
    ],
)
def test_a_prompt_becomes_a_short_plain_name(prompt: str, name: str) -> None:
    assert slug(prompt) == name


@pytest.mark.parametrize(
    ("prompt", "options", "is_by_events"),
    [
        ("a person walks", {}, True),
        ("a person walks", {"by_events": "no"}, False),
        ("a person kicks twice", {}, True),
        ("a person salutes", {}, False),
        ("a person salutes", {"by_events": "yes"}, True),
        ("a person walks, then kicks", {}, True),
        ("a person salutes, then kicks", {}, True),
        ("a person yodels, then kicks", {}, False),
        ("a person walks, then kicks", {"by_events": "no"}, False),
        ("a person walks, then kicks", {"best_of": 4}, False),
        ("a person walks, then kicks", {"length_seconds": 3.0}, False),
        ("a person walks, then kicks", {"best_of": 4, "by_events": "yes"}, True),
    ],
)
def test_events_that_can_be_read_and_seen_are_made_one_by_one_unless_told_otherwise(
    prompt: str, options: dict[str, Any], is_by_events: bool
) -> None:
    assert Generate(prompts=(prompt,), **options).is_by_events(parse(prompt)) == is_by_events


def test_a_prompt_of_several_events_is_made_event_by_event(folder: Path, tmp_path: Path) -> None:
    prompt = "a person salutes and then nods"
    (path,) = generate(
        settings(folder, tmp_path, prompt, formats=("npy",), judge=BY_JOINTS, seed=2, length_seconds=None)
    )
    chosen = by_events(TextToMotion.from_pretrained(folder), prompt, judge=ByJoints(), seed=2)
    assert np.array_equal(np.load(path), chosen.best.motion.joints)


@pytest.mark.parametrize(
    ("prompt", "options", "seconds"),
    [
        ("a person salutes for 2 seconds", {}, 2.0),
        ("a person salutes for about two seconds", {"best_of": 2}, 2.0),
        ("the weather is fine for 2 seconds", {}, 2.0),
        ("a person salutes for 2 seconds", {"by_events": "yes"}, 2.0),
        ("a person salutes for 60 seconds", {}, 9.8),
        ("a person salutes for 2 seconds", {"length_seconds": 1.0}, 1.0),
    ],
)
def test_seconds_that_the_prompt_says_are_the_length_unless_another_is_given(
    folder: Path, prompt: str, options: dict[str, Any], seconds: float
) -> None:
    config = Generate(prompts=(prompt,), **options)
    judge = ByJoints() if config.num_drawn or config.by_events == "yes" else None
    made = answers(TextToMotion.from_pretrained(folder), prompt, config, judge=judge)
    motions = made if isinstance(made, list) else made.motions
    assert [round(motion.duration_s, 1) for motion in motions] == [seconds]
