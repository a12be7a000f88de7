"""Alignment moves event truth: the README's commands, on a tiny model, raise what a judge sees on held-out prompts."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from test_readme import SHELL, run_lines

from kinalign.errors import CheckpointError
from kinalign.judge.kinematic import KinematicJudge
from kinalign.judge.prompts import read_prompts
from kinalign.pipeline import TextToMotion, shipped_model
from kinalign.recipes.tiny import OTHERS, PEOPLE, Recipe, looked_at, prompts_of, run

pytest.importorskip("pyarrow")
pytest.importorskip("peft", reason="LoRA needs kinalign[lora]")


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
def test_alignment_raises_what_the_judge_sees_on_held_out_prompts(tmp_path: Path) -> None:
    (block,) = (block for block in SHELL if "recipes.tiny" in block.code)
    said = run_lines(block, tmp_path)
    found = re.findall(r"^(before|after): score ([\d.]+), right ([\d.]+) %$", said, re.MULTILINE)
    (first, *before), (last, *after) = ((when, float(score), float(right)) for when, score, right in found)
    assert (first, last) == ("before", "after")
    assert after[0] > before[0] + 0.1 and after[1] > before[1] + 10
    tiny = tmp_path / "output" / "tiny"
    for printed, adapter in ((before, None), (after, tiny / "aligned" / "adapter")):
        score, right = looked_at(TextToMotion.from_pretrained(tiny / "model", adapter=adapter), KinematicJudge(), 8)
        assert printed == [pytest.approx(score, abs=0.006), pytest.approx(100 * right, abs=0.06)]
