"""A preference data set is made in a folder, survives a kill anywhere and says where it comes from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from fake_endpoint import FakeEndpoint
from test_pipeline import FREE, tokenizer_of

from kinalign.cli import main
from kinalign.errors import ConfigError, DataError, KinalignError
from kinalign.events.parse import parse
from kinalign.judge import client
from kinalign.judge.forms import ToldSentence
from kinalign.judge.prompts import grammar_prompts, read_prompts
from kinalign.judge.rubric import SUB_TASKS
from kinalign.judge.verdict import Case, Invalid, Outcome, Verdict
from kinalign.lm.model import LMConfig, MotionLM
from kinalign.lm.text import plain_tokenizer
from kinalign.motion.motion import Motion
from kinalign.pipeline import TextToMotion
from kinalign.preference import build as build_module
from kinalign.preference import candidates as candidates_module
from kinalign.preference.annotate import annotate
from kinalign.preference.build import PreferBuild, prefer_build
from kinalign.preference.dataset import load_preferences, motion_text
from kinalign.preference.pairs import PairRule
from kinalign.run import read_json

pytest.importorskip("pyarrow")
pytest.importorskip("openai")

MADE = ("preferences.parquet", "README.md", "build.json", "prompts.jsonl")


class HashJudge:
    """Scores by what the joints' bytes happen to be; some motions it will not judge."""

    name = "hash"
    asked: ClassVar[Counter[str]] = Counter()

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        return [self._judge(case) for case in cases]

    def __call__(self, prompt: str, motion: Motion) -> Outcome:
        return self._judge(Case.of(prompt, motion))

    def _judge(self, case: Case) -> Outcome:
        digest = hashlib.sha256(case.motion.joints.tobytes() + case.prompt.encode()).digest()
        self.asked[digest.hex()] += 1
        if digest[0] % 7 == 0:
            return Invalid(self.name, "it looks away", 0.25)
        return Verdict(1 + digest[0] % 5, case.task, self.name, f"byte {digest[0]}", cost_usd=0.5)


JUDGE = "test_preference_build:HashJudge"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    config = LMConfig(width=16, feed_forward_width=32, encoder_layers=1, decoder_layers=1, heads=2, max_text_tokens=200)
    lm = MotionLM.from_config(config, num_codes=32, codes_per_step=2, text_tokenizer=plain_tokenizer(["a", "person"]))
    return TextToMotion(lm, tokenizer_of()).save_pretrained(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two prompts a file, so that a small data set has several; and no call is counted twice."""
    monkeypatch.setattr(candidates_module, "ANSWERS_PER_CHUNK", 8)
    HashJudge.asked.clear()
    yield


def settings(model: Path, out: Path, **others: Any) -> PreferBuild:
    return PreferBuild(**{"out": out, "model": model, "judge": JUDGE, "prompts": 7, "candidates": 4, **others})


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(candidates_module, "ANSWERS_PER_CHUNK", 8)
        return prefer_build(settings(model, tmp_path_factory.mktemp("whole") / "set"))


def content(folder: Path) -> dict[str, bytes]:
    """Every file but those that tell of the run."""
    run = ("environment.json", ".lock")
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in run]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_data_set_holds_pairs_with_all_that_they_come_from(whole: Path, model: Path) -> None:
    pairs = load_preferences(whole, motions=True)
    assert len(pairs) > 3
    maker = TextToMotion.from_pretrained(model)
    for pair in pairs:
        assert pair.program == parse(pair.prompt) and pair.task in pair.prompt_id
        assert (pair.judge, pair.model) == ("hash", read_json(whole / "config.json")["model"])
        chosen, rejected = pair.chosen, pair.rejected
        assert isinstance(chosen.outcome, Verdict) and isinstance(rejected.outcome, Verdict)
        assert chosen.outcome.score > max(3, rejected.outcome.score)
        for candidate in (chosen, rejected):
            (again,) = maker(pair.prompt, seed=candidate.seed)
            assert candidate.motion is not None and candidate.motion.caption == pair.prompt
            assert (
                candidate.motion.fps == again.fps
                and candidate.motion.skeleton.joint_names == again.skeleton.joint_names
            )
            # float16 of at most 2 m from the pelvis
            np.testing.assert_allclose(candidate.motion.joints, again.joints, atol=1e-3)
            assert maker.lm.vocab.codes_to_ids(np.array(candidate.codes)).size == len(candidate.codes or ()) + 2


def test_trl_finds_its_columns(whole: Path) -> None:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(whole / "preferences.parquet")
    assert {"prompt", "chosen", "rejected"} <= set(table.column_names)
    row = table.to_pylist()[0]
    assert row["chosen"] == motion_text(row["chosen_codes"], 32)
    assert row["cost_usd"] == 1.0 and json.loads(row["chosen_verdict"])["score"] == row["chosen_score"]
    assert row["chosen_score"] > row["rejected_score"]


def test_counts_add_up(whole: Path) -> None:
    counts = read_json(whole / "build.json")["counts"]
    assert sum(count["prompts"] for count in counts.values()) == 7
    for count in counts.values():
        assert sum(count["scores"].values()) + count["no_verdict"] + count["no_motion"] == count["candidates"]
        assert sum(count["gaps"].values()) == count["pairs"]
    assert sum(count["pairs"] for count in counts.values()) == len(load_preferences(whole))
    lines = [json.loads(line) for path in (whole / "verdicts").iterdir() for line in path.read_text().splitlines()]
    assert sum(count["cost_usd"] for count in counts.values()) == sum(line["outcome"]["cost_usd"] for line in lines)
    card = (whole / "README.md").read_text(encoding="utf-8")
    assert "license: other" in card and "| judge | hash |" in card


def test_nobody_judges_twice(model: Path, tmp_path: Path) -> None:
    prefer_build(settings(model, tmp_path / "set"))
    assert HashJudge.asked.total() == 28
    prefer_build(settings(model, tmp_path / "set"))
    assert HashJudge.asked.total() == 28


class Killed(BaseException):
    """Ends a build where it stands, as a kill does: nothing catches it."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_build_that_is_killed_at_any_file_ends_like_one_never_killed(
    when: str, whole: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen, deaths = Path.replace, set(), 0

    def kill_at_a_new_file(self: Path, target: Path) -> Path:
        """Lets every file be written at the second attempt."""
        if target not in seen:
            seen.add(target)
            if when == "after":
                real(self, target)
            raise Killed
        return real(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", kill_at_a_new_file)
        while not (tmp_path / "set" / "build.json").exists():
            with suppress(Killed):
                prefer_build(settings(model, tmp_path / "set"))
            deaths += 1
    assert deaths >= len(content(whole))
    assert content(tmp_path / "set") == content(whole)


@pytest.mark.slow
def test_a_kill_9_leaves_no_lock_and_nothing_is_judged_twice(whole: Path, model: Path, tmp_path: Path) -> None:
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import test_preference_build as t
t.candidates_module.ANSWERS_PER_CHUNK = 8
from kinalign.preference import annotate
write = annotate.write_text
def slow(path, text):
    done = write(path, text)
    if path.name == "00001.jsonl":
        print("now", flush=True)
        time.sleep(60)
    return done
annotate.write_text = slow
t.prefer_build(t.settings(Path({str(model)!r}), Path({str(tmp_path / "set")!r})))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "now\n"
        with pytest.raises(ConfigError, match=rf"in use by process {process.pid} .*another folder \(--out\)"):
            prefer_build(settings(model, tmp_path / "set"))
        process.kill()
    prefer_build(settings(model, tmp_path / "set"))
    assert content(tmp_path / "set") == content(whole)
    assert HashJudge.asked.total() == 28 - 16, "two of four files of verdicts were written before the kill"


def test_a_file_that_was_cut_short_is_made_again(whole: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "set")
    names = sorted(name for name in content(whole) if name not in ("config.json", "build.json"))
    for name in names:
        path = tmp_path / "set" / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"preferences\.parquet cannot be read .*cut short"):
        load_preferences(tmp_path / "set")
    prefer_build(settings(model, tmp_path / "set"))
    assert content(tmp_path / "set") == content(whole)
    assert 0 < HashJudge.asked.total() < 28, "verdicts that can still be read are not asked for again"


def test_a_line_of_verdicts_that_is_gone_is_the_only_one_judged_again(whole: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "set")
    (tmp_path / "set" / "build.json").unlink()
    path = tmp_path / "set" / "verdicts" / "00002.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:3], "{half a li\n", *lines[4:]]), encoding="utf-8")
    prefer_build(settings(model, tmp_path / "set"))
    assert HashJudge.asked.total() == 1
    assert content(tmp_path / "set") == content(whole)


def test_other_settings_in_the_same_folder_are_refused(whole: Path, model: Path) -> None:
    for others, named in (({"seed": 1}, "seed"), ({"gap": 1}, "gap"), ({"judge": "kinematic"}, "judge")):
        with pytest.raises(ConfigError, match=f"another configuration: .*{named}.* another folder"):
            prefer_build(settings(model, whole, **others))


def test_a_dry_run_writes_nothing_and_tells_what_there_is_to_do(
    model: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefer_build(settings(model, tmp_path / "set", dry_run=True))
    told = capsys.readouterr().out
    assert not (tmp_path / "set").exists()
    assert "motions: 28 of 4 seeds each, 28 of them still to be made" in told and "cost: nothing" in told
    prefer_build(settings(model, whole, dry_run=True))
    assert "verdicts: 28 by hash, 0 of them still to be given" in capsys.readouterr().out


def test_answers_that_are_no_motion_are_counted_and_in_no_pair(model: Path, tmp_path: Path) -> None:
    wild = {"temperature": FREE.temperature, "guidance": FREE.guidance, "constrained": False}
    prefer_build(settings(model, tmp_path / "set", **wild))
    counts = read_json(tmp_path / "set" / "build.json")["counts"]
    no_motion = sum(count["no_motion"] for count in counts.values())
    assert no_motion > 0
    assert HashJudge.asked.total() == 28 - no_motion, "the judge never sees them"


def test_prompts_of_ones_own(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = tmp_path / "mine.txt"
    lines.write_text("a person jumps twice\na person walks, then waves\n", encoding="utf-8")
    arguments = ["prefer", "build", "--file", str(lines), "--out", str(tmp_path / "set"), "--model", str(model)]
    assert main([*arguments, "--judge", JUDGE, "--candidates", "8", "--task", "temporal"]) == 0
    assert "temporal: " in capsys.readouterr().out
    assert {pair.prompt for pair in load_preferences(tmp_path / "set")} == {"a person walks, then waves"}
    lines.write_text("a person walks, then sits\n", encoding="utf-8")
    assert main([*arguments, "--judge", JUDGE, "--candidates", "8", "--task", "temporal"]) == 2
    assert "file_sha256" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"candidates": 1}, "candidates=1 make no pair"),
        ({"judge": "oracle"}, "'oracle' is unknown"),
        ({"task": ("frequency",), "file": "temporal.txt"}, "no prompt for frequency"),
        ({"temperature": 99.0}, "temperature=99"),
        ({"bench": "absent.json"}, "--bench"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    others: dict[str, Any], message: str, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "temporal.txt").write_text("a person walks, then waves", encoding="utf-8")
    paths = {key: tmp_path / value for key, value in others.items() if key in ("file", "bench")}
    with pytest.raises(KinalignError, match=message):
        prefer_build(settings(model, tmp_path / "set", **{**others, **paths}))
    assert not (tmp_path / "set").exists()


def test_the_judges_measured_accuracy_is_on_the_card(model: Path, tmp_path: Path) -> None:
    number = {"value": 0.9, "low": 0.85, "high": 0.93, "of": 120}
    names = ("precision", "recall", "order", "count_exact", "count_within_1")
    scores = {"judge": "hash", "cases": 240, **dict.fromkeys(names, number)}
    scores |= {"pairwise": {"all": {**number, "value": 0.875}}, "quadratic_kappa": {"all": {**number, "value": None}}}
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"sets": {"composed": scores}}), encoding="utf-8")
    prefer_build(settings(model, tmp_path / "set", bench=report, prompts=3))
    card = (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    assert "| of two motions the better one | 0.875 [0.850, 0.930] (120) |" in card
    report.write_text(json.dumps({"sets": {"composed": {**scores, "judge": "other"}}}), encoding="utf-8")
    with pytest.raises(ConfigError, match="is about other, not hash"):
        prefer_build(settings(model, tmp_path / "other", bench=report))


def test_annotate_gives_the_pairs_of_a_build(whole: Path, model: Path) -> None:
    built = load_preferences(whole)
    prompts = [json.loads(line)["prompt"] for line in (whole / "prompts.jsonl").read_text().splitlines()]
    temporal = [pair for pair in built if pair.task == "temporal"]
    asked = [prompt for prompt in prompts if prompt in {pair.prompt for pair in temporal}]
    pairs = annotate(TextToMotion.from_pretrained(model), asked, HashJudge(), num_candidates=4, rule=PairRule())
    assert all(pair.chosen.motion is not None for pair in pairs)
    assert [replace(pair, id="") for pair in pairs] == [replace(pair, id="") for pair in temporal]


# --- data sets of others ------------------------------------------------------------------------------------------


@pytest.fixture
def released(tmp_path: Path) -> Callable[..., Path]:
    """Writes files in InstructMotion's layout."""

    def write(*chosen: list[dict[str, str]]) -> Path:
        rows = []
        for folder in ("features", "tokens"):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for at, votes in enumerate(chosen):
            row: dict[str, Any] = {"id": at, "prompt": "a person waves", "chosen": votes}
            for number in (1, 2):
                name = f"{at}_{number}"
                np.save(tmp_path / "data" / "features" / f"{name}.npy", rng.normal(size=(1, 12, 263)))
                np.save(tmp_path / "data" / "tokens" / f"{name}_token.npy", np.array([[at, number, 7]]))
                row[f"sample_{number}"] = {
                    "gif": f"data/gifs/{name}.gif",
                    "features": f"data/features/{name}.npy",
                    "from": "motiongpt",
                    "seed": 100 + number,
                }
            rows.append(json.dumps(row) + "\n")
        path = tmp_path / "preference_labels.jsonl"
        path.write_text("".join(rows), encoding="utf-8")
        return path

    return write


def vote(choice: str, degree: str = "Better", user: str = "u") -> dict[str, str]:
    return {"choice": choice, "degree of preference": degree, "user": user}


def test_released_labels_are_read_and_the_last_vote_counts(released: Callable[..., Path]) -> None:
    path = released(
        [vote("sample_1")],
        [vote("sample_1"), vote("sample_2", "Much better", "v")],
        [vote("skipped", "skipped")],
    )
    first, second = load_preferences(path.parent, motions=True)
    assert (first.chosen.codes, first.rejected.codes) == ((0, 1, 7), (0, 2, 7))
    assert (second.chosen.codes, second.degree, second.judge) == ((1, 2, 7), "Much better", "human (v)")
    assert (second.chosen.seed, second.prompt_id, second.program) == (102, "1", None)
    assert first.chosen.motion is not None and first.chosen.motion.joints.shape == (12, 22, 3)
    assert load_preferences(path)[0].chosen.motion is None


@pytest.mark.parametrize("line", ["{}", "[1]", '{"id": 1', '{"id": 1, "prompt": "x", "chosen": []}'])
def test_a_row_that_is_no_labelled_pair_is_named(line: str, released: Callable[..., Path]) -> None:
    path = released([vote("sample_1")])
    path.write_text(path.read_text() + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2 is no labelled pair"):
        load_preferences(path)


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no preference data set, or not finished"):
        load_preferences(tmp_path)


# --- on a cluster -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_ray_workers_make_the_same_data_set_and_leave_no_process_behind(
    whole: Path, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    tests = str(Path(__file__).parent)
    code = f"""
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_preference_build as t
t.candidates_module.ANSWERS_PER_CHUNK = 8
t.prefer_build(t.settings(Path({str(model)!r}), Path({str(tmp_path / "set")!r}), ray=True))
"""
    mark = f"made for {tmp_path}"
    path = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "KINALIGN_TEST": mark}
    subprocess.run([sys.executable, "-c", code], env=environment, timeout=400, check=True)
    assert content(tmp_path / "set") == content(whole)
    deadline = time.monotonic() + 120
    while (left := processes_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not left


def processes_with(mark: str) -> list[str]:
    """Commands of the processes that inherited the mark, where the system tells of them."""
    left = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                left.append((folder / "cmdline").read_text())
    return left


# --- with a judge that is paid ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_judge_that_is_paid_is_paid_once_within_its_budget_and_what_it_refuses_is_counted(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)
    faults = {1: "429", 3: "500", 4: "refusal", 6: "malformed", 9: "cut", 12: "refusal"}
    out, asked = tmp_path / "set", tmp_path / "judge.json"

    def build(*options: str, budget_usd: float) -> int:
        judge = {"model": "seer", "base_url": endpoint.url, "cache": str(tmp_path / "answers"), "look": "sheet"}
        judge |= {"size": 48, "timeout_s": 20.0, "concurrency": 2, "max_tokens": 300, "budget_usd": budget_usd}
        judge |= {"input_usd": 2.5, "output_usd": 10.0, "tokens_per_picture": 85}
        asked.write_text(json.dumps(judge), encoding="utf-8")
        words = ["prefer", "build", "--prompts", "5", "--candidates", "4", "--model", str(model), "--out", str(out)]
        return main([*words, "--judge", f"lvlm:{asked}", *options])

    with FakeEndpoint(fault=lambda n: faults.get(n, "")) as endpoint:
        assert build("--dry-run", budget_usd=1.0) == 0
        assert "cost: 20 calls, 20 pictures" in capsys.readouterr().out and not endpoint.requests
        assert build(budget_usd=0.04) == 2
        assert "budget" in capsys.readouterr().err
        first = len(endpoint.answered)
        assert 0 < first < 20
        assert build(budget_usd=1.0) == 0
        charged_usd = (endpoint.input_tokens * 2.5 + endpoint.output_tokens * 10) / 1e6
    assert "answers paid" in capsys.readouterr().out
    assert len(endpoint.answered) == len(set(endpoint.answered)), "no question was paid twice"
    counts = read_json(out / "build.json")["counts"]
    assert sum(count["no_verdict"] for count in counts.values()) > 0
    assert sum(count["cost_usd"] for count in counts.values()) <= charged_usd <= 1.0


class Writer:
    """Says some prompts well, some in words that mean something else, and some not at all."""

    settings = client.ChatSettings(model="writer")
    bill = client.Bill()

    def ask_all(self, requests: Iterable[client.Request[ToldSentence]]) -> Iterator[client.Answer[ToldSentence]]:
        for number, request in enumerate(requests):
            asked = json.loads(str(request.messages[1].parts[0]))
            good = f"{asked['sentence'].rstrip('.')} in a hurry!"
            said = [good, "someone waves", "", "x " * 400][number % 4]
            yield client.Answer(ToldSentence(sentence=said) if number % 5 else None, "refused")


def test_a_language_models_words_are_taken_only_where_they_mean_the_same(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "writer_of", lambda path: Writer())
    prefer_build(settings(model, tmp_path / "set", writer=tmp_path / "writer.json", prompts=9))
    written = read_prompts(tmp_path / "set" / "prompts.jsonl")
    plain = grammar_prompts(SUB_TASKS, 9)
    assert [prompt.id for prompt in written] == [prompt.id for prompt in plain]
    new = [at for at, (ours, theirs) in enumerate(zip(plain, written)) if ours.prompt != theirs.prompt]
    assert new == [4, 8]
    assert all(parse(prompt.prompt) == prompt.program for prompt in written)
    with pytest.raises(ConfigError, match="writer is 'writer' there"):
        prefer_build(settings(model, tmp_path / "set", prompts=9))
