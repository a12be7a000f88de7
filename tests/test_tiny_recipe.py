"""Alignment moves event truth: the README's commands, on a tiny model, raise what a judge sees on held-out prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kinalign.cli import main
from kinalign.errors import CheckpointError
from kinalign.judge.kinematic import KinematicJudge
from kinalign.judge.prompts import read_prompts
from kinalign.pipeline import TextToMotion, shipped_model
from kinalign.recipes.tiny import OTHERS, PEOPLE, Recipe, looked_at, prompts_of, run

pytest.importorskip("pyarrow")
pytest.importorskip("peft", reason="LoRA needs kinalign[lora]")

OPTIONS = (
    "--loss sigmoid --beta 1 --sft-weight 5 --batch-size 16 --lora.targets q,k,v,o,wi,wo --lora.dropout 0 "
    "--optimization.steps 80 --optimization.warmup-steps 5 --optimization.learning-rate 2e-3"
).split()


@pytest.fixture(scope="module", autouse=True)
def tokenizer() -> None:
    try:
        shipped_model()
    except CheckpointError:
        pytest.skip("models/openmocap-base is not in this checkout")


def test_nobody_who_is_looked_at_is_in_a_prompt_to_learn_from(tmp_path: Path) -> None:
    assert set(prompts_of(PEOPLE)).isdisjoint(prompts_of(OTHERS))
    recipe = Recipe(out=tmp_path)
    run(replace(recipe, optimization=replace(recipe.optimization, steps=2)))
    learned, held_out = (read_prompts(tmp_path / f"{name}.txt") for name in ("prompts", "held_out"))
    assert [prompt.prompt for prompt in learned] == prompts_of(PEOPLE)
    assert [prompt.prompt for prompt in held_out] == prompts_of(OTHERS)
    assert {prompt.task for prompt in learned + held_out} == {"frequency"}


@pytest.mark.slow
def test_alignment_raises_what_the_judge_sees_on_held_out_prompts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = run(Recipe(out=tmp_path))
    pairs, aligned = tmp_path / "pairs", tmp_path / "aligned"
    common = ["--model", str(model)]
    build = ["--file", str(tmp_path / "prompts.txt"), "--candidates", "8", "--out", str(pairs)]
    assert main(["prefer", "build", *common, *build]) == 0
    assert main(["align", "preference", *common, "--data", str(pairs), "--out", str(aligned), *OPTIONS]) == 0
    models = [TextToMotion.from_pretrained(model, adapter=adapter) for adapter in (None, aligned / "adapter")]
    before, after = (looked_at(one, KinematicJudge(), 8) for one in models)
    assert after[0] > before[0] + 0.1 and after[1] > before[1] + 0.1
    capsys.readouterr()
    run(Recipe(out=tmp_path, adapter=aligned / "adapter"))
    assert f"after: score {after[0]:.2f}, right {100 * after[1]:.1f} %" in capsys.readouterr().out
