"""A reward model learns which motions are better, from pairs, and is measured on others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_pipeline import lm_of, tokenizer_of

from kinalign.alignment.reward_model import (
    MARGINS,
    AlignReward,
    ModelReward,
    RewardModel,
    ranking_loss,
    train_reward_model,
)
from kinalign.errors import CheckpointError, ConfigError, DataError
from kinalign.events.parse import parse
from kinalign.judge.prompts import grammar_prompts
from kinalign.judge.rubric import SubTask
from kinalign.judge.verdict import Verdict
from kinalign.pipeline import TextToMotion
from kinalign.preference.records import Candidate, PreferencePair
from kinalign.run import RunFolder
from kinalign.training import Optimization

TASKS: tuple[SubTask, ...] = ("temporal", "frequency")
TINY = AlignReward(
    batch_size=16,
    held_out=0.2,
    optimization=Optimization(
        steps=12, learning_rate=1e-2, warmup_steps=2, log_every=1, checkpoint_every=4, betas=(0.9, 0.999)
    ),
)


def model_of() -> TextToMotion:
    lm = lm_of()
    lm.max_text_tokens = 200
    return TextToMotion(lm, tokenizer_of())


def pairs_of(number: int = 60, *, degree: str = "", scores: tuple[int, int] = (5, 3)) -> list[PreferencePair]:
    """Pairs whose better motion says codes of the lower half of the first codebook."""
    rng = np.random.default_rng(0)

    def candidate(index: int, *, low: bool, score: int, task: SubTask) -> Candidate:
        steps = int(rng.integers(3, 8))
        codes = np.stack((rng.integers(0, 8, steps) + (0 if low else 8), rng.integers(16, 32, steps)), axis=1)
        return Candidate(index, 0, tuple(codes.flatten().tolist()), Verdict(score, task, "made up"))

    pairs = []
    for prompt in grammar_prompts(TASKS, number):
        better, worse = (candidate(at, low=at == 0, score=score, task=prompt.task) for at, score in enumerate(scores))
        pairs.append(
            PreferencePair(
                f"{prompt.id}-0-1",
                prompt.prompt,
                prompt.task,
                parse(prompt.prompt),
                better,
                worse,
                "made up",
                degree=degree,
            )
        )
    return pairs


def test_it_learns_which_motions_are_better_and_says_how_often_it_is_right_on_other_prompts(tmp_path: Path) -> None:
    config = replace(TINY, out=tmp_path, optimization=replace(TINY.optimization, steps=60))
    _, accuracies = train_reward_model(model_of(), pairs_of(), config)
    assert accuracies["all"].of == 12
    assert accuracies["all"].share > 0.9
    assert accuracies["temporal"].of + accuracies["frequency"].of == accuracies["Better"].of == 12
    losses = [row["loss"] for row in RunFolder(tmp_path).metrics()]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_the_loss_is_that_of_bradley_and_terry_with_the_margin_taken_off() -> None:
    chosen, rejected, margins = torch.tensor([2.0, 0.5]), torch.tensor([1.0, 1.0]), torch.tensor([0.0, 2.0])
    loss = ranking_loss(chosen, rejected, margins, torch.tensor([False, False]))
    lead = (chosen - rejected - margins).double()
    torch.testing.assert_close(loss.double(), torch.log1p(torch.exp(-lead)))


def test_an_unsure_pair_is_learned_as_a_tie() -> None:
    difference = torch.linspace(-3, 3, 13, requires_grad=True)
    loss = ranking_loss(difference, torch.zeros(13), torch.zeros(13), torch.ones(13, dtype=torch.bool))
    torch.testing.assert_close(loss, loss.flip(0))
    assert loss.argmin() == 6
    loss.sum().backward()
    assert difference.grad is not None and difference.grad[6].abs() < 1e-7
    assert (difference.grad[7:] > 0).all() and (difference.grad[:6] < 0).all()


def test_surer_labels_have_larger_margins_and_unsure_ones_none() -> None:
    for name in ("big", "small"):
        values = list(MARGINS[name].values())
        assert values == sorted(values, reverse=True) and values[-1] == 0
    assert not any(MARGINS["none"].values())


def test_kept_and_read_again_it_rates_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = RewardModel(lm_of()).eval()
    answers = [model.lm.vocab.codes_to_ids(row).tolist() for row in ([1, 17], [2, 18, 3, 19], [4, 20])]
    prompts = ["a person walks"] * 3
    again = RewardModel.from_pretrained(model.save_pretrained(tmp_path))
    rated = model.rate(prompts, answers)
    assert torch.equal(rated, again.rate(prompts, answers))
    # a batch is padded, and an answer alone is not
    alone = torch.cat([model.rate(prompts[:1], [answer]) for answer in answers])
    torch.testing.assert_close(rated, alone)


def test_a_rating_depends_on_the_whole_motion_and_on_the_prompt() -> None:
    torch.manual_seed(0)
    model = RewardModel(lm_of()).eval()

    def rate(prompt: str, *codes: int) -> float:
        return model.rate([prompt], [model.lm.vocab.codes_to_ids(codes).tolist()]).item()

    base = rate("a person walks", 1, 17, 2, 18)
    assert base != rate("a person walks", 1, 17, 2, 19)
    assert base != rate("a person waves", 1, 17, 2, 18)


def test_as_a_reward_it_rates_codes() -> None:
    torch.manual_seed(0)
    model, reward_model = model_of(), RewardModel(lm_of()).eval()
    reward_model.lm.max_text_tokens = 200
    prompts = grammar_prompts(("frequency",), 3)
    codes = [np.array([1, 17]), np.array([2, 18, 3, 19]), np.array([4, 20])]
    rewards, _ = ModelReward(model, reward_model)(prompts, codes)
    rows = [model.lm.vocab.codes_to_ids(row).tolist() for row in codes]
    expected = reward_model.rate(model.instructions([prompt.prompt for prompt in prompts]), rows)
    np.testing.assert_allclose(rewards, expected.numpy())


def test_stopped_and_resumed_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = train_reward_model(model_of(), pairs_of(), replace(TINY, out=tmp_path / "whole"))
    forward, calls = RewardModel.forward, []

    def dies(self: RewardModel, *arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return forward(self, *arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RewardModel, "forward", dies)
        train_reward_model(model_of(), pairs_of(), replace(TINY, out=tmp_path / "killed"))
    again, _ = train_reward_model(model_of(), pairs_of(), replace(TINY, out=tmp_path / "killed"))
    assert RunFolder(tmp_path / "killed").metrics() == RunFolder(tmp_path / "whole").metrics()
    ours, theirs = whole.state_dict(), again.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


def test_unsure_pairs_can_be_left_out(tmp_path: Path) -> None:
    unsure = pairs_of(30, degree="Negligibly better/unsure")
    with pytest.raises(DataError, match="none of 0 pairs is left"):
        train_reward_model(model_of(), unsure, replace(TINY, out=tmp_path, unsure=False))
    _, accuracies = train_reward_model(
        model_of(), unsure, replace(TINY, out=tmp_path / "kept", optimization=replace(TINY.optimization, steps=1))
    )
    assert set(accuracies) == {"all", "Negligibly better/unsure", *TASKS}


def test_pairs_that_say_nothing_of_their_degree_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not say by how much"):
        train_reward_model(model_of(), pairs_of(10, scores=(3, 3)), replace(TINY, out=tmp_path))


@pytest.mark.parametrize("settings", [{"held_out": 0.0}, {"held_out": 1.0}, {"batch_size": 0}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(TINY, **settings)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        RewardModel.from_pretrained(tmp_path)
