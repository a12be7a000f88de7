"""Supervised fine-tuning on composed motions, with a tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_pipeline import lm_of, tokenizer_of

from kinalign.alignment.sft import COMPOSED, AlignSFT, train_sft
from kinalign.data.tokens import TokenizedClip, TokensInfo
from kinalign.errors import ConfigError
from kinalign.lm.train import LMTraining
from kinalign.pipeline import TextToMotion
from kinalign.run import RunFolder
from kinalign.training import Optimization

TINY = AlignSFT(
    batch_size=6,
    practice=LMTraining(tasks="text-to-motion", batch_size=2),
    optimization=Optimization(
        steps=30, learning_rate=1e-2, warmup_steps=2, log_every=1, checkpoint_every=10, precision="float32"
    ),
)


def model_of() -> TextToMotion:
    model = TextToMotion(lm_of(), tokenizer_of())
    model.lm.eval().max_text_tokens = 200
    model.lm.requires_grad_(True)
    return model


def clip(model: TextToMotion, name: str, text: str, codes: list[int], *, source: str, label: str = "") -> TokenizedClip:
    return TokenizedClip(name, np.array(codes), (text,), source, "train", label=label)


def rows(model: TextToMotion) -> tuple[list[TokenizedClip], list[TokenizedClip], TokensInfo]:
    """Two composed motions, as different as their prompts, and one that was learned before."""
    group, tokenizer = model.lm.vocab.group_size, model.tokenizer
    step = [[low + group * place for place in range(model.lm.vocab.codes_per_step)] for low in range(4)]
    composed = [
        clip(model, "a", "a person walks, then waves", step[0] * 2 + step[1] * 2, source=COMPOSED, label="temporal"),
        clip(model, "b", "a person waves two times", step[2] * 4, source=COMPOSED, label="frequency"),
    ]
    old = [clip(model, "c", "a person walks", step[3] * 4, source="made-up")]
    info = TokensInfo(
        tokenizer.num_codes, tokenizer.codes_per_step, tokenizer.frames_per_step, tokenizer.config.fps, "0" * 64
    )
    return composed, old, info


def loss_of(model: TextToMotion, clips: list[TokenizedClip]) -> float:
    answers = [model.lm.vocab.codes_to_ids(one.codes).tolist() for one in clips]
    with torch.no_grad():
        return model.lm.loss(model.instructions([one.captions[0] for one in clips]), answers).item()


def test_composed_motions_and_what_was_practised_are_both_learned_and_prompts_are_told_apart(tmp_path: Path) -> None:
    model = model_of()
    composed, old, info = rows(model)
    before = loss_of(model, composed), loss_of(model, old)
    train_sft(model, composed, old, info, TINY, run=RunFolder.open(tmp_path, {}))
    assert loss_of(model, composed) < 0.6 * before[0]
    assert loss_of(model, old) < 0.8 * before[1]
    swapped = [replace(composed[0], captions=composed[1].captions), replace(composed[1], captions=composed[0].captions)]
    assert loss_of(model, swapped) > loss_of(model, composed)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    ends = []
    for steps in ((30,), (30, 30)):
        model = model_of()
        composed, old, info = rows(model)
        for turn, _ in enumerate(steps):
            run = RunFolder.open(tmp_path / str(len(steps)), {})
            if len(steps) == 2 and turn == 0:
                with pytest.raises(KeyboardInterrupt):
                    train_sft(model, _stopping(composed, after=18), old, info, TINY, run=run)
                model = model_of()
                continue
            train_sft(model, composed, old, info, TINY, run=run)
        ends.append({name: weight.clone() for name, weight in model.lm.t5.named_parameters()})
    for name, weight in ends[0].items():
        torch.testing.assert_close(ends[1][name], weight, rtol=0, atol=0)


class _stopping(list):  # type: ignore[type-arg]
    """Composed motions that stop the program when they are counted for the nth time."""

    def __init__(self, clips: list[TokenizedClip], *, after: int) -> None:
        super().__init__(clips)
        self.left = after * 2

    def __len__(self) -> int:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().__len__()


@pytest.mark.parametrize("name", ["prompts", "copies", "batch_size", "rank"])
def test_nothing_to_learn_from_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}=0 must be at least 1"):
        AlignSFT(**{name: 0})
