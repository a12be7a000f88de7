"""The training loop: it learns, it stops on nonsense, and a killed run ends like one never killed."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kinalign.errors import ConfigError, KinalignError
from kinalign.run import RunFolder, read_json
from kinalign.training import Draw, Optimization, optimize

SHORT = Optimization(steps=30, learning_rate=0.05, warmup_steps=3, log_every=5, checkpoint_every=10)


class Killed(Exception):
    """A stop in mid-training."""


def line() -> tuple[nn.Linear, Callable[[Draw], dict[str, Tensor]]]:
    """A line to be learned from noisy points, drawn from both generators."""
    torch.manual_seed(0)
    module = nn.Linear(1, 1)

    def terms_of(draw: Draw) -> dict[str, Tensor]:
        x = torch.from_numpy(draw.rng.normal(size=(16, 1))).float()
        noise = 0.01 * torch.randn(16, 1, generator=draw.generator)
        loss = nn.functional.mse_loss(module(x), 2 * x + 1 + noise)
        return {"loss": loss, "step_seen": torch.tensor(float(draw.step))}

    return module, terms_of


def test_it_learns(tmp_path: Path) -> None:
    module, terms_of = line()
    settings = Optimization(steps=200, learning_rate=0.1, log_every=20)
    run = RunFolder.open(tmp_path, settings)
    optimize(run, module, terms_of, settings)
    losses = [row["loss"] for row in run.metrics()]
    assert len(losses) == 10
    assert losses[-1] < 0.01 * losses[0]
    assert module.weight.item() == pytest.approx(2, abs=0.02)
    assert not module.training


def test_half_precision_is_of_products_and_not_of_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Linear(1, 1)
    seen: set[torch.dtype] = set()

    def terms_of(draw: Draw) -> dict[str, Tensor]:
        x = torch.from_numpy(draw.rng.normal(size=(16, 1))).float()
        y = module(x)
        seen.add(y.dtype)
        return {"loss": nn.functional.mse_loss(y.float(), 2 * x + 1)}

    settings = Optimization(steps=200, learning_rate=0.1, precision="bfloat16")
    optimize(RunFolder.open(tmp_path, settings), module, terms_of, settings)
    assert seen == {torch.bfloat16}
    assert module.weight.dtype == torch.float32
    assert module.weight.item() == pytest.approx(2, abs=0.05)


def test_all_terms_are_logged_with_their_step(tmp_path: Path) -> None:
    module, terms_of = line()
    run = RunFolder.open(tmp_path, SHORT)
    optimize(run, module, terms_of, SHORT)
    assert [row["step"] for row in run.metrics()] == [5, 10, 15, 20, 25, 30]
    assert [row["step_seen"] for row in run.metrics()] == [4, 9, 14, 19, 24, 29]


@pytest.mark.parametrize("stop", [1, 9, 10, 11, 25, 29])
def test_a_stopped_run_ends_like_one_never_stopped(stop: int, tmp_path: Path) -> None:
    module, terms_of = line()
    whole = RunFolder.open(tmp_path / "whole", SHORT)
    optimize(whole, module, terms_of, SHORT)

    other, other_terms_of = line()

    def stopping(draw: Draw) -> dict[str, Tensor]:
        if draw.step == stop:
            raise Killed
        return other_terms_of(draw)

    parts = RunFolder.open(tmp_path / "parts", SHORT)
    with pytest.raises(Killed):
        optimize(parts, other, stopping, SHORT)
    again, again_terms_of = line()
    if stop >= 10:
        nn.init.zeros_(again.weight)  # what it was does not matter once there is a checkpoint
    optimize(RunFolder.open(tmp_path / "parts", SHORT), again, again_terms_of, SHORT)

    assert parts.metrics_path.read_bytes() == whole.metrics_path.read_bytes()
    assert torch.equal(again.weight, module.weight)
    assert torch.equal(again.bias, module.bias)
    ours, theirs = whole.load_checkpoint(), parts.load_checkpoint()
    assert ours is not None
    assert theirs is not None
    assert ours.state == theirs.state
    assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in ours.tensors)


def test_a_finished_run_is_only_read(tmp_path: Path) -> None:
    module, terms_of = line()
    run = RunFolder.open(tmp_path, SHORT)
    optimize(run, module, terms_of, SHORT)
    weight, log = module.weight.clone(), run.metrics_path.read_bytes()
    other, _ = line()

    def never(_: Draw) -> dict[str, Tensor]:
        raise AssertionError("a finished run draws nothing")

    optimize(run, other, never, SHORT)
    assert torch.equal(other.weight, weight)
    assert run.metrics_path.read_bytes() == log


def test_frozen_weights_stay(tmp_path: Path) -> None:
    module, terms_of = line()
    module.bias.requires_grad_(False)
    bias = module.bias.clone()
    optimize(RunFolder.open(tmp_path, SHORT), module, terms_of, SHORT)
    assert torch.equal(module.bias, bias)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda loss: loss * float("nan"),
        lambda loss: loss + float("inf"),
        lambda loss: loss + (0 * loss).sqrt(),  # finite, but its slope at 0 is not
    ],
    ids=["NaN", "infinite", "steep without end"],
)
def test_a_loss_that_is_no_number_stops_with_one_clear_error(spoil: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    module, terms_of = line()

    def diverging(draw: Draw) -> dict[str, Tensor]:
        terms = terms_of(draw)
        return terms | {"loss": spoil(terms["loss"])} if draw.step == 12 else terms

    run = RunFolder.open(tmp_path, SHORT)
    with pytest.raises(
        KinalignError, match=r"at step 13 of .*; begin anew in another folder with a lower --learning-rate"
    ):
        optimize(run, module, diverging, SHORT)
    checkpoint = run.load_checkpoint()
    assert checkpoint is not None
    assert checkpoint.step == 10
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint.tensors.values())


def test_long_gradients_are_shortened(tmp_path: Path) -> None:
    settings = Optimization(steps=1, learning_rate=1e-3, max_grad_norm=0.5)
    module, terms_of = line()

    def steep(draw: Draw) -> dict[str, Tensor]:
        return {"loss": 1e6 * terms_of(draw)["loss"]}

    optimize(RunFolder.open(tmp_path, settings), module, steep, settings)
    assert module.weight.grad is not None
    assert module.bias.grad is not None
    assert math.hypot(module.weight.grad.item(), module.bias.grad.item()) == pytest.approx(0.5, rel=1e-4)


def test_the_learning_rate_rises_then_falls() -> None:
    settings = Optimization(steps=1000, learning_rate=1.0, warmup_steps=100)
    rates = [settings.learning_rate_at(step) for step in range(1000)]
    top = rates.index(max(rates))
    assert 90 <= top <= 100
    assert rates[0] == pytest.approx(0.01, rel=0.01)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.03, abs=0.001)


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, SHORT)
    assert read_json(tmp_path / "config.json")["steps"] == 30
    with pytest.raises(ConfigError, match="steps is 30 there and 31 here"):
        RunFolder.open(
            tmp_path, Optimization(steps=31, learning_rate=0.05, warmup_steps=3, log_every=5, checkpoint_every=10)
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, r"steps=0 must be at least 1 \(--steps\)"),
        ({"log_every": 0}, r"log_every=0 must be at least 1 \(--log-every\)"),
        ({"checkpoint_every": -5}, "checkpoint_every=-5 must be at least 1"),
        ({"learning_rate": 0.0}, r"learning_rate=0\.0 must be positive \(--learning-rate\)"),
        ({"learning_rate": float("nan")}, "learning_rate=nan must be positive"),
        ({"learning_rate": float("inf")}, "learning_rate=inf must be positive"),
        ({"max_grad_norm": 0.0}, r"max_grad_norm=0\.0 must be positive"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Optimization(**settings)  # type: ignore[arg-type]


# --- one batch in parts -------------------------------------------------------------------------------------------

SCRIPT = """
import sys
import numpy as np, torch
from torch import nn
from kinalign.run import RunFolder
from kinalign.tokenizer.quantizer import VectorQuantizer
from kinalign.training import Optimization, optimize

torch.set_num_threads(1)
settings = Optimization(steps=6, learning_rate=0.02, warmup_steps=1, log_every=1, accumulate=int(sys.argv[2]))
torch.manual_seed(0)
module = nn.ModuleDict({"layer": nn.Linear(3, 4), "codes": VectorQuantizer(4, 4)})

def terms_of(draw):
    x = torch.from_numpy(draw.rng.normal(size=(8, 3))).float()
    lengths = draw.mine(torch.from_numpy(draw.rng.integers(1, 5, 8)))
    latents = module["layer"](draw.mine(x))[:, None]
    quantized = module["codes"](latents, generator=draw.generator)
    error = ((quantized.vectors[:, 0] - 1) ** 2).mean(-1) + ((latents[:, 0] + 1) ** 2).mean(-1)
    return {"loss": (error * lengths).sum() / lengths.sum(), "weight": lengths.sum()}

optimize(RunFolder.open(sys.argv[1], settings), module, terms_of, settings)
"""


def run_in_parts(tmp_path: Path, *, processes: int, accumulate: int = 1) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and weights after six steps of eight examples, in so many processes and parts."""
    script, out = tmp_path / "train.py", tmp_path / f"{processes}x{accumulate}"
    script.write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, script, out, str(accumulate)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    run = RunFolder(out)
    checkpoint = run.load_checkpoint()
    assert checkpoint is not None
    return [row["loss"] for row in run.metrics()], checkpoint.tensors


@pytest.mark.slow
def test_two_processes_learn_what_one_does_on_the_same_batch(tmp_path: Path) -> None:
    losses, weights = run_in_parts(tmp_path, processes=1)
    theirs, same = run_in_parts(tmp_path, processes=2)
    assert len(losses) == 6 and losses[-1] < losses[0]
    assert theirs == pytest.approx(losses, rel=1e-5)
    for name, tensor in weights.items():
        torch.testing.assert_close(same[name], tensor, rtol=1e-4, atol=1e-6, msg=name)


def test_a_batch_in_parts_gives_the_gradients_of_the_whole(tmp_path: Path) -> None:
    def trained(accumulate: int) -> nn.Linear:
        torch.manual_seed(0)
        module = nn.Linear(2, 1)

        def terms_of(draw: Draw) -> dict[str, Tensor]:
            x, weight = draw.rng.normal(size=(10, 2)), draw.rng.integers(1, 9, 10)
            x, weight = draw.mine(torch.from_numpy(x).float()), draw.mine(torch.from_numpy(weight))
            error = (module(x)[:, 0] - x.sum(1)) ** 2
            return {"loss": (error * weight).sum() / weight.sum(), "weight": weight.sum()}

        settings = Optimization(steps=20, learning_rate=0.05, accumulate=accumulate)
        optimize(RunFolder.open(tmp_path / str(accumulate), settings), module, terms_of, settings)
        return module

    whole = trained(1)
    for accumulate in (2, 3, 10):
        torch.testing.assert_close(trained(accumulate).weight, whole.weight, rtol=1e-4, atol=1e-6)


def test_all_parts_one_after_the_other_are_the_batch() -> None:
    draws = [Draw(np.random.default_rng(0), torch.Generator(), 0, part, 3) for part in range(3)]
    assert [row for draw in draws for row in draw.mine(list(range(8)))] == list(range(8))
    assert torch.equal(torch.cat([draw.mine(torch.arange(8)) for draw in draws]), torch.arange(8))


def test_a_batch_of_fewer_rows_than_parts_is_refused() -> None:
    draw = Draw(np.random.default_rng(0), torch.Generator(), 0, 0, 3)
    with pytest.raises(ConfigError, match="a batch of 2 has no row for each of 3 parts"):
        draw.mine([1, 2])
