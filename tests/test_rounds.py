"""Rounds of preference learning by a tiny model and a judge that likes short motions: they grow shorter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from test_pipeline import same
from test_preference_alignment import model_of

from kinalign.alignment import rounds as rounds_module
from kinalign.alignment import watch
from kinalign.alignment.rounds import AlignRounds, align_rounds
from kinalign.alignment.watch import Examination, Watch
from kinalign.errors import ConfigError, DataError, KinalignError
from kinalign.judge.verdict import Case, Outcome, Verdict
from kinalign.lm.lora import Adapter, LoraConfig
from kinalign.motion.motion import Motion
from kinalign.pipeline import TextToMotion
from kinalign.preference import chunks
from kinalign.preference.dataset import load_preferences
from kinalign.run import RunFolder, read_json
from kinalign.training import Optimization

pytest.importorskip("pyarrow")
pytest.importorskip("peft", reason="LoRA needs kinalign[lora]")


class LikesShort:
    """Five points for less than three seconds, one less for each second more."""

    name = "likes short"

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        return [Verdict(min(5, max(1, 7 - int(case.motion.duration_s))), case.task, self.name) for case in cases]

    def __call__(self, prompt: str, motion: Motion) -> Outcome:
        return self.judge_all([Case.of(prompt, motion)])[0]


class LikesNone(LikesShort):
    """Gives everything the same."""

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        return [Verdict(1, case.task, self.name) for case in cases]


JUDGE = "test_rounds:LikesShort"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_of().save_pretrained(tmp_path_factory.mktemp("models") / "tiny-base")


def settings(base: Path, out: Path, **others: Any) -> AlignRounds:
    given: dict[str, Any] = {
        "out": out,
        "model": base,
        "rounds": 2,
        "prompts": 9,
        "candidates": 6,
        "judge": JUDGE,
        "max_rank": 3,
        "loss": "sigmoid",
        "lora": LoraConfig(rank=2, dropout=0.0),
        "batch_size": 6,
        # what it does in less time it may do as it likes
        "watch": Watch(prompts=6, candidates=4, judge=JUDGE, guard=9.0, fid=False),
        "optimization": Optimization(steps=20, learning_rate=0.003, warmup_steps=2, log_every=1, checkpoint_every=5),
    }
    return AlignRounds(**{**given, **others})


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return align_rounds(settings(base, tmp_path_factory.mktemp("rounds") / "whole")).parent


def looks(folder: Path) -> list[float]:
    return [read_json(path)["events/score"] for path in sorted(folder.glob("round-*/look.json"))]


def test_each_round_draws_from_the_one_before_and_the_judge_likes_it_better(whole: Path, base: Path) -> None:
    scores = looks(whole)
    assert len(scores) == 3 and scores[0] + 0.3 < scores[1] < scores[2] - 0.2
    first, second = (load_preferences(whole / f"round-{number}" / "pairs") for number in (1, 2))
    assert {pair.prompt for pair in first} != {pair.prompt for pair in second}
    assert {pair.model for pair in first}.isdisjoint(pair.model for pair in second)
    reference = read_json(whole / "round-2" / "aligned" / "config.json")["model"]
    assert {pair.model for pair in second} == {reference}, "the reference is the model that drew"


def test_all_rounds_are_in_one_adapter_of_the_rank_that_was_asked_for(whole: Path, base: Path) -> None:
    first, last = (Adapter.from_pretrained(whole / place / "adapter") for place in ("round-1", "."))
    assert (first.rank, last.rank) == (2, 3) and first.base_sha256 == last.base_sha256
    kept, of_round = (whole / place / "adapter" / "adapter.safetensors" for place in (".", "round-2"))
    assert kept.read_bytes() == of_round.read_bytes()
    aligned = TextToMotion.from_pretrained(base, adapter=whole / "adapter")
    found = Examination(settings(base, whole).watch, aligned)(aligned)
    assert found == read_json(whole / "round-2" / "look.json"), "what was looked at is what is kept"


def test_it_says_what_every_round_brought_and_a_finished_run_says_it_again(
    whole: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (whole / "adapter" / "adapter.safetensors").read_bytes()
    align_rounds(settings(base, whole))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["before", "round 1", "round 2"]
    assert f"score {looks(whole)[1]:.2f}, right " in lines[1] and lines[-1] == str(whole / "adapter")
    assert (whole / "adapter" / "adapter.safetensors").read_bytes() == before


class Killed(BaseException):
    """Nobody catches it."""


@pytest.mark.parametrize(
    ("place", "name", "calls"),
    [
        (chunks.Chunk, "write_verdicts", 1),
        (RunFolder, "save_checkpoint", 5),
        (Adapter, "save_pretrained", 3),
    ],
)
def test_rounds_that_are_stopped_anywhere_end_as_those_that_are_not(
    place: Any, name: str, calls: int, base: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, function = [0], getattr(place, name)

    def killing(*arguments: Any, **named: Any) -> Any:
        done[0] += 1
        if done[0] == calls:
            raise Killed
        return function(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(place, name, killing)
        with pytest.raises(Killed):
            align_rounds(settings(base, tmp_path))
    align_rounds(settings(base, tmp_path))
    assert looks(tmp_path) == looks(whole)
    for file in ("adapter/adapter.safetensors", "round-1/adapter/adapter.safetensors"):
        assert (tmp_path / file).read_bytes() == (whole / file).read_bytes()


@pytest.mark.slow
def test_rounds_ended_by_kill_9_end_as_those_that_are_not(base: Path, whole: Path, tmp_path: Path) -> None:
    script = (
        "import test_rounds as t, torch; from pathlib import Path; torch.set_num_threads(1)\n"
        f"t.align_rounds(t.settings(Path({str(base)!r}), Path({str(tmp_path / 'out')!r})))"
    )
    source = Path(rounds_module.__file__).parents[2]
    paths = os.pathsep.join([str(source), str(Path(__file__).parent)])
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    waited = tmp_path / "out" / "round-2" / "pairs" / "candidates"
    while not waited.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    align_rounds(settings(base, tmp_path / "out"))
    assert looks(tmp_path / "out") == looks(whole)
    kept, wanted = (folder / "adapter" / "adapter.safetensors" for folder in (tmp_path / "out", whole))
    assert kept.read_bytes() == wanted.read_bytes()


def test_more_rounds_go_on_where_fewer_ended_and_a_round_may_begin_at_an_adapter(
    base: Path, whole: Path, tmp_path: Path
) -> None:
    align_rounds(settings(base, tmp_path / "out", rounds=1))
    align_rounds(settings(base, tmp_path / "out", rounds=2))
    assert looks(tmp_path / "out") == looks(whole)
    adapter = base.parent / "begun"
    Adapter.from_pretrained(whole / "round-1" / "adapter").save_pretrained(adapter)
    align_rounds(settings(adapter, tmp_path / "again", rounds=1, seed=1))
    motions = [
        TextToMotion.from_pretrained(base, adapter=folder / "adapter")("a person waves", num_candidates=4)
        for folder in (tmp_path / "again", whole)
    ]
    assert same(*motions), "its first round is the second one of the others"


QUALITY = {"events/score": 1.0, "events/right": 0.0, "quality/skating": 1.0, "quality/invalid": 0.0}


@pytest.mark.parametrize("worse", [1, 2])
def test_rounds_end_where_the_guard_is_not_content_and_the_one_before_is_kept(
    worse: int, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jitters = iter([10.0] * worse + [12.0])
    monkeypatch.setattr(watch, "events_and_quality", lambda *_, **__: {**QUALITY, "quality/jitter": next(jitters)})
    guarded = settings(base, tmp_path, rounds=4, watch=Watch(prompts=3, candidates=1, fid=False))
    if worse == 1:
        with pytest.raises(KinalignError, match=r"the first round in .* made motions worse"):
            align_rounds(guarded)
        assert not (tmp_path / "adapter").exists()
        return
    align_rounds(guarded)
    assert "round 2 is worse than the guard allows: round 1 is kept" in capsys.readouterr().out
    assert not (tmp_path / "round-3").exists()
    kept, first = (tmp_path / place / "adapter" / "adapter.safetensors" for place in (".", "round-1"))
    assert kept.read_bytes() == first.read_bytes()


def test_bad_settings_and_rounds_without_pairs_are_refused(base: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rounds=0 must be at least 1 \(--rounds\)"):
        settings(base, tmp_path, rounds=0)
    with pytest.raises(ConfigError, match=r"max_rank=0 must be at least 1 \(--max-rank\)"):
        settings(base, tmp_path, max_rank=0)
    with pytest.raises(ConfigError, match="full=True gives no adapter"):
        settings(base, tmp_path, full=True)
    with pytest.raises(ConfigError, match=r"begun with another configuration: beta is 0\.1 there"):
        align_rounds(settings(base, whole, beta=0.2))
    with pytest.raises(DataError, match="none of 0 pairs is left"):
        align_rounds(settings(base, tmp_path / "none", judge="test_rounds:LikesNone"))
