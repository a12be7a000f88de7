"""The table of losses: what is whole is not made again, what was stopped goes on, and numbers are those of reports."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import _exit
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_evaluate import Stand, StandModule, clip_of
from test_preference_alignment import TINY, model_of, pairs_of

from kinalign.alignment.grpo import AlignGRPO
from kinalign.alignment.ppo import AlignPPO
from kinalign.alignment.preference import AlignPreference, Objective
from kinalign.errors import ConfigError, DataError, EvaluationError, KinalignError
from kinalign.evaluation.commands import Evaluate
from kinalign.evaluation.eventreport import EventReport
from kinalign.judge.prompts import EventPrompt
from kinalign.judge.verdict import Case, Finding, Outcome, Verdict
from kinalign.motion.motion import Motion
from kinalign.recipes import losses
from kinalign.recipes.joined import JoinedMotions
from kinalign.recipes.losses import ARMS, COST, LORA, Arm, Losses, apart, learn, run
from kinalign.run import RunFolder, read_json

pytest.importorskip("pyarrow")
pytest.importorskip("peft", reason="LoRA needs kinalign[lora]")

SHORT = replace(TINY.optimization, steps=4, checkpoint_every=2)
DPO = AlignPreference(loss="sigmoid", lora=TINY.lora, batch_size=6, held_out=0.2, optimization=SHORT)
SMALL = {
    "base": Arm("base", model="base"),
    "best-of-2": Arm("base, best of 2", model="base", choice=Evaluate(best_of=2), reuse="base"),
    "sft": Arm("start"),
    "sigmoid": Arm("DPO", DPO),
    "full": Arm("DPO, no LoRA", replace(DPO, full=True)),
}


class ByLength:
    """Sees events in motions of an odd number of steps."""

    name = "by length"

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        return [self._judge(case) for case in cases]

    def __call__(self, prompt: str, motion: Motion) -> Outcome:
        return self._judge(Case.of(prompt, motion))

    def _judge(self, case: Case) -> Outcome:
        seen: Any = "yes" if len(case.motion) // 4 % 2 else "no"
        findings = tuple(
            Finding(event, seen, 4 * at, 4 * at + 4, count=1) for at, event in enumerate(case.program.events)
        )
        return Verdict(5 if seen == "yes" else 2, case.task, self.name, findings=findings, order_is_right=True)


@pytest.fixture()
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done, here and not apart, with small arms and an encoder and clips that are made up."""
    clips, done = [clip_of(number) for number in range(34)], []
    stand = Stand(clips)

    def here(piece: Callable[..., object], *given: Any) -> None:
        done.append(piece.__name__)
        piece(*given)

    def joined(prompts: Sequence[EventPrompt]) -> JoinedMotions:
        motions = [clip.motion for clip in clips] * 2
        return JoinedMotions(
            motions, np.arange(len(motions)) % len(prompts), stand.encode_motion(motions), len(prompts)
        )

    monkeypatch.setattr(losses, "ARMS", SMALL)
    monkeypatch.setattr(losses, "apart", here)
    monkeypatch.setattr(losses, "_joined", joined)
    monkeypatch.setattr("kinalign.evaluation.commands._encoder", lambda config: StandModule(stand))
    monkeypatch.setattr("kinalign.evaluation.commands.load_dataset", lambda path, split: clips)
    return done


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and pairs of its motions."""
    from kinalign.preference.dataset import write_pairs

    root = tmp_path_factory.mktemp("made")
    model_of().save_pretrained(root / "model")
    write_pairs(root / "pairs" / "preferences.parquet", pairs_of(), num_codes=32)
    return root


def config_of(made: Path, out: Path, *arms: str, **more: Any) -> Losses:
    return Losses(
        out=out,
        start=made / "model",
        base=made / "model",
        pairs=made / "pairs",
        arms=arms,
        examiner="test_losses_recipe:ByLength",
        prompts_per_task=2,
        **more,
    )


def rows_of(text: str, title: str) -> list[list[str]]:
    """The cells of the lines that are about an arm, one of each table."""
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(f"| {title} |")]


def test_its_arms_are_those_of_the_table() -> None:
    pairwise = {name: arm.align for name, arm in ARMS.items() if isinstance(arm.align, AlignPreference)}
    assert {name for name, align in pairwise.items() if align.loss == "sigmoid"} == {"sigmoid", "full", "unfiltered"}
    assert all(name == align.loss for name, align in pairwise.items() if align.loss != "sigmoid")
    assert all(
        (align.beta, align.sft_weight, align.optimization.steps) == (0.1, 0.3, 120) for align in pairwise.values()
    )
    assert [name for name, align in pairwise.items() if align.full] == ["full"]
    assert [name for name, arm in ARMS.items() if arm.pairs == "unfiltered"] == ["unfiltered"]
    learned = {name: arm.align for name, arm in ARMS.items() if arm.align is not None}
    assert {align.optimization.learning_rate for name, align in learned.items() if name != "full"} == {3e-4}
    assert all(align.lora == LORA and align.optimization.warmup_steps == 10 for align in learned.values())
    assert isinstance(learned["grpo"], AlignGRPO) and learned["grpo"].optimization.steps == 80
    assert isinstance(learned["ppo"], AlignPPO) and learned["ppo"].optimization.steps == 160


@pytest.mark.slow
def test_numbers_are_those_of_the_reports_and_nothing_is_made_twice(
    made: Path, work: list[str], tmp_path: Path
) -> None:
    config = config_of(made, tmp_path, *SMALL, seeds=(3, 4))
    text = run(config).read_text(encoding="utf-8")
    # of each seed: five examinations, and two that learn
    assert (work.count("examine"), work.count("learn")) == (10, 4)
    assert read_json(tmp_path / "sigmoid" / "4" / "run" / "config.json")["optimization"]["seed"] == 4
    for name, arm in SMALL.items():
        paths = [tmp_path / name / str(seed) / "events" for seed in (3, 4)]
        reports = [EventReport.load(path) for path in paths]
        seen, looks, *against = rows_of(text, arm.title)
        assert len(against) == len({"base", "sft"} - {name}) and seen[1] == "12", "6 prompts of each of two seeds"
        values = [100 * (report.number("by length", "all_right").value or 0) for report in reports]
        assert seen[6] == ", ".join(f"{value:.1f}" for value in values)
        # as many prompts of each seed, so the mean of both is that of all
        assert seen[5].split(" ")[0] == f"{np.mean(values):.1f}"
        by_teacher = [100 * (report.number("kinematic", "all_right").value or 0) for report in reports]
        assert seen[7].split(" ")[0] == f"{np.mean(by_teacher):.1f}"
        jitter = [report.number("", "jitter_m_s3").value or 0 for report in reports]
        assert float(looks[3].split(" ")[0]) == pytest.approx(np.mean(jitter), abs=0.06)
        assert looks[4] == f"{100 * np.mean([report.invalid.value or 0 for report in reports]):.1f}"
        has_learned = arm.align is not None
        assert all((cell != "–") == has_learned for cell in looks[5:])
    assert all(float(rows_of(text, arm.title)[1][1].split(" ")[0]) > 0 for arm in SMALL.values()), "FID"
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name not in ("README.md", ".lock")}
    work.clear()
    assert run(config).read_text(encoding="utf-8") == text and not work
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    (tmp_path / "sigmoid" / "4" / "events" / "report.json").unlink()
    assert run(config).read_text(encoding="utf-8") == text and work == ["examine"]


def test_what_was_killed_while_it_learned_ends_as_what_was_not(
    made: Path, work: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config_of(made, tmp_path / "whole", "sigmoid", seeds=(0,)))
    config, terms, calls = config_of(made, tmp_path / "killed", "sigmoid", seeds=(0,)), Objective.terms, []

    def killed(self: Objective, rows: Sequence[int]) -> Any:
        calls.append(rows)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return terms(self, rows)

    monkeypatch.setattr(Objective, "terms", killed)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    part = tmp_path / "killed" / "sigmoid" / "0"
    assert not (part / COST).exists() and not (part / "events").exists()
    with pytest.raises(EvaluationError, match="there is no report yet"):
        run(replace(config, table=True))
    work.clear()
    text = run(config).read_text(encoding="utf-8")
    assert work == ["learn", "examine"] and len(calls) == 4 + 2, "two steps were kept"
    whole = tmp_path / "whole" / "sigmoid" / "0"
    assert RunFolder(part / "run").metrics() == RunFolder(whole / "run").metrics()
    assert EventReport.load(part / "events").events == EventReport.load(whole / "events").events
    assert read_json(whole / COST)["is_whole"] and not read_json(part / COST)["is_whole"]
    # what it took is known of a part only
    assert rows_of(text, "DPO")[1][5:] == ["–", "–", "–"]


@pytest.mark.slow
def test_a_report_that_is_there_is_taken_and_the_table_alone_makes_nothing(
    made: Path, work: list[str], tmp_path: Path
) -> None:
    run(config_of(made, tmp_path / "one", "base", "sft", seeds=(0,)))
    work.clear()
    report = tmp_path / "one" / "base" / "0" / "events"
    text = run(config_of(made, tmp_path / "two", "base", "sft", seeds=(0,), reports=(f"base={report}",))).read_text(
        encoding="utf-8"
    )
    assert work == ["examine"] and not (tmp_path / "two" / "base").exists()
    assert rows_of(text, "base") == rows_of((tmp_path / "one" / "README.md").read_text(encoding="utf-8"), "base")
    # both are one model, which was asked the same with one seed
    assert re.fullmatch(r"\| base \|( \+0\.0 \[\+0\.0, \+0\.0\] \|| – \|){4}", text.splitlines()[-3])
    work.clear()
    run(config_of(made, tmp_path / "two", "base", "sft", "sigmoid", seeds=(0, 1), table=True))
    assert not work


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"arms": ("dpo",)}, "arm 'dpo' is unknown; choose some of base, "),
        ({"reports": ("dpo=x",)}, "arm 'dpo' is unknown"),
        ({"reports": ("base",)}, "'base' does not say of which arm it is a report; write ARM=FOLDER"),
        ({"seeds": ()}, "no seed is given"),
    ],
)
def test_impossible_settings_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Losses(**given)


# --- in a process of its own --------------------------------------------------------------------------------------


def test_a_process_that_is_ended_from_outside_is_told_of() -> None:
    with pytest.raises(KinalignError, match=r"at work ended with 9, .* or from outside"):
        apart(_exit, 9)


@pytest.mark.slow
def test_apart_it_says_what_it_took_and_what_is_wrong(made: Path, tmp_path: Path) -> None:
    from time import time

    align = replace(DPO, model=made / "model", data=made / "pairs", out=tmp_path / "run")
    begun = time()
    apart(learn, align, tmp_path, begun)
    cost = read_json(tmp_path / COST)
    assert 0 < cost["seconds"] <= time() - begun and cost["processor_seconds"] > 0
    # torch alone takes more than 100 MB
    assert cost["is_whole"] and 100 < cost["memory_mb"] < 5000
    assert "rewards/accuracies" in (tmp_path / "log").read_text(encoding="utf-8")
    with pytest.raises(DataError, match="nowhere"):
        apart(learn, replace(align, data=Path("nowhere"), out=tmp_path / "other"), tmp_path, time())
