"""Learning from a judge in the loop: rewards rise, what was drawn is what is learned from, a kill changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_pipeline import lm_of, tokenizer_of

from kinalign.alignment.grpo import AlignGRPO, align_grpo, train_grpo
from kinalign.alignment.rewards import Codes, Rewarded
from kinalign.alignment.rollouts import AS_IT_IS, Rollouts
from kinalign.cli import main
from kinalign.errors import ConfigError, KinalignError, VerdictError
from kinalign.judge.prompts import EventPrompt, grammar_prompts
from kinalign.judge.verdict import Case, Invalid, Outcome, Verdict
from kinalign.lm.lora import LoraConfig, add_lora, lora_folded, lora_layers
from kinalign.motion.motion import Motion
from kinalign.pipeline import TextToMotion
from kinalign.run import RunFolder
from kinalign.training import Draw, Optimization

pytest.importorskip("peft", reason="LoRA needs kinalign[lora]")

LORA = LoraConfig(rank=4, dropout=0.0, targets=("q", "k", "v", "o", "wi", "wo"))
TINY = AlignGRPO(
    batch=3,
    candidates=4,
    prompts=6,
    lora=LORA,
    optimization=Optimization(
        steps=8, learning_rate=1e-2, warmup_steps=1, accumulate=2, log_every=1, checkpoint_every=2
    ),
)


def prompts_of(number: int = 6) -> list[EventPrompt]:
    """Prompts of words that the tiny model knows few of."""
    return grammar_prompts(("frequency",), number)


def model_of() -> TextToMotion:
    model = TextToMotion(lm_of(), tokenizer_of())
    model.lm.eval().max_text_tokens = 200
    return model


class ShareOf:
    """A reward that anyone can check: the share of a step's first codes that are in the lower half."""

    def __call__(self, prompts: Sequence[EventPrompt], answers: Sequence[Codes]) -> Rewarded:
        return Rewarded(np.array([(codes[::2] < 8).mean() for codes in answers]), {"all_right": 0.0})


def draw_of(step: int = 0, *, part: int = 0, parts: int = 2, seed: int = 0) -> Draw:
    return Draw(np.random.default_rng(seed), torch.Generator(), step, part, parts)


def comparable(run: RunFolder) -> list[dict[str, float]]:
    """What was logged, but how long it took."""
    return [
        {name: value for name, value in row.items() if not name.startswith(("time/", "memory"))}
        for row in run.metrics()
    ]


@pytest.mark.parametrize("estimator", ["grpo", "dr-grpo", "rloo"])
def test_the_reward_rises(estimator: Any, tmp_path: Path) -> None:
    optimization = Optimization(steps=30, learning_rate=3e-2, warmup_steps=1, log_every=1, checkpoint_every=30)
    config = replace(TINY, estimator=estimator, candidates=8, epochs=3, beta=0.0, optimization=optimization)
    run = RunFolder.open(tmp_path, {})
    train_grpo(model_of(), prompts_of(), ShareOf(), config, run=run)
    rewards = [row["rewards/mean"] for row in run.metrics()]
    # chance is a half, all is one
    assert rewards[0] < 0.6
    assert np.mean(rewards[-6:]) > 0.7


def test_a_high_beta_keeps_the_policy_where_it_was(tmp_path: Path) -> None:
    distances = []
    for beta in (0.01, 10.0):
        optimization = replace(TINY.optimization, steps=12)
        config = replace(TINY, beta=beta, optimization=optimization)
        run = RunFolder.open(tmp_path / str(beta), {})
        train_grpo(model_of(), prompts_of(), ShareOf(), config, run=run)
        distances.append(np.mean([row["policy/kl"] for row in run.metrics()[-6:]]))
    assert 0 <= distances[1] < 0.2 * distances[0]


def test_log_probabilities_are_those_that_answers_were_drawn_with() -> None:
    model = model_of()
    # of 2 steps at most, so that how often each is drawn can be counted
    asked = model.ask("a person walks")._replace(steps=(1, 2))
    rows = model.answers([asked], seeds=[0], num_candidates=8_000, sampling=AS_IT_IS)[0]
    first = np.array([row[0] for row in rows if row is not None])
    with torch.no_grad():
        answers = [model.lm.vocab.codes_to_ids([code, 16]).tolist() for code in range(16)]
        choices = model.lm.choices([asked.instruction] * 16, answers, steps=(1, 2))
    told = choices.logps[:, 1].exp().numpy()
    drawn = np.bincount(first, minlength=16) / len(first)
    assert told.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(drawn, told, atol=4 * 0.5 / 8_000**0.5)
    assert choices.is_choice[0].tolist() == [False, True, True, True]
    entropy = -(told * np.log(told)).sum()
    assert choices.entropy[0, 1].item() == pytest.approx(entropy, abs=1e-5)


def test_an_end_that_had_to_come_and_a_start_are_no_choices() -> None:
    model = model_of()
    short, long = ([model.lm.vocab.codes_to_ids(row).tolist()] for row in ([1, 17], [1, 17, 2, 18]))
    is_choice = [model.lm.choices(["a person walks"], row, steps=(1, 2)).is_choice[0].tolist() for row in (short, long)]
    assert is_choice == [[False, True, True, True], [False, True, True, True, True, False]]


def test_folded_matrices_answer_the_same_and_leave_no_trace() -> None:
    model = model_of()
    model.lm.requires_grad_(False)
    add_lora(model.lm.t5, LORA)
    for layer in lora_layers(model.lm.t5).values():
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.3)
    before = {name: weight.clone() for name, weight in model.lm.state_dict().items()}
    answers = [model.lm.vocab.codes_to_ids([1, 17, 2, 18]).tolist()]
    with torch.no_grad():
        apart = model.lm.token_logps(["a person walks"], answers)[0]
        with lora_folded(model.lm.t5):
            folded = model.lm.token_logps(["a person walks"], answers)[0]
    torch.testing.assert_close(folded, apart, atol=1e-4, rtol=1e-4)
    after = model.lm.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    assert {name for name, weight in model.lm.named_parameters() if weight.requires_grad} == {
        name for name in before if ".lora_" in name
    }


def test_a_batch_is_drawn_once_for_its_epochs_and_parts_and_every_answer_is_in_one_part() -> None:
    rollouts = Rollouts(model_of(), prompts_of(), ShareOf(), TINY)
    batch = rollouts.batch(draw_of(0))
    assert rollouts.batch(draw_of(0, part=1)) is batch is rollouts.batch(draw_of(1))
    assert rollouts.batch(draw_of(2, seed=1)) is not batch
    assert sorted(row for part in batch.parts for row in part.rows) == list(range(12))
    lengths = [len(answer) for part in batch.parts for answer in part.answers]
    assert lengths == sorted(lengths)
    for part in batch.parts:
        for row, answer in zip(part.rows, part.answers):
            codes = rollouts.lm.vocab.ids_to_codes(answer)
            assert batch.rewards.flatten()[row] == pytest.approx((codes[::2] < 8).mean())


def test_processes_draw_together_what_one_draws_alone() -> None:
    def answers(parts: int) -> list[list[int]]:
        found: list[list[int]] = []
        for process in range(parts // 2):
            rollouts = Rollouts(model_of(), prompts_of(), ShareOf(), TINY)
            batch = rollouts.batch(draw_of(part=2 * process, parts=parts))
            found += [answer for part in batch.parts for answer in part.answers]
        return sorted(found)

    assert answers(2) == answers(4) == answers(6)


def test_a_batch_too_small_for_its_processes_is_refused() -> None:
    rollouts = Rollouts(model_of(), prompts_of(), ShareOf(), TINY)
    with pytest.raises(ConfigError, match="leave one of 4 processes without any"):
        rollouts.batch(draw_of(part=0, parts=8))


class Killed(Exception):
    """A stop in mid-training."""


@pytest.mark.parametrize("stop", [1, 2, 5])
def test_stopped_and_resumed_it_learns_what_it_would_have_learned(stop: int, tmp_path: Path) -> None:
    def train(folder: Path, reward: Any) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
        model, run = model_of(), RunFolder.open(folder, {})
        train_grpo(model, prompts_of(), reward, TINY, run=run)
        return comparable(run), {n: w for n, w in model.lm.state_dict().items() if ".lora_" in n}

    whole = train(tmp_path / "whole", ShareOf())

    class StopsAt(ShareOf):
        calls = 0

        def __call__(self, prompts: Sequence[EventPrompt], answers: Sequence[Codes]) -> Rewarded:
            self.calls += 1
            if self.calls == stop:
                raise Killed
            return super().__call__(prompts, answers)

    stops = StopsAt()
    if stop <= 4:
        with pytest.raises(Killed):
            train(tmp_path / "stopped", stops)
    again = train(tmp_path / "stopped", ShareOf())
    assert again[0] == whole[0]
    assert all(torch.equal(weight, again[1][name]) for name, weight in whole[1].items())


def test_a_reward_that_is_no_number_stops_and_names_the_prompt(tmp_path: Path) -> None:
    class Broken(ShareOf):
        def __call__(self, prompts: Sequence[EventPrompt], answers: Sequence[Codes]) -> Rewarded:
            rewards, facts = super().__call__(prompts, answers)
            return Rewarded(np.where(np.arange(len(rewards)) == 5, np.nan, rewards), facts)

    with pytest.raises(KinalignError, match=r"the reward of an answer to '.+' is not a number"):
        train_grpo(model_of(), prompts_of(), Broken(), TINY, run=RunFolder.open(tmp_path, {}))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"candidates": 1}, "candidates=1 make no group"),
        ({"beta": -0.1}, "beta=-0.1 must be 0 or more"),
        ({"beta": float("nan")}, "beta=nan"),
        ({"clip": 0.0}, "clip=0.0"),
        ({"epochs": 3}, "must be a multiple of epochs=3"),
        ({"batch": 0}, "batch=0"),
        ({"lora": LoraConfig(dropout=0.1)}, "dropout=0.1"),
        ({"optimization": Optimization(accumulate=100)}, "fewer answers than"),
    ],
)
def test_settings_that_teach_nothing_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(TINY, **settings)


def test_fewer_prompts_than_a_batch_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 prompts are fewer than the 3 of a batch"):
        Rollouts(model_of(), prompts_of(2), ShareOf(), TINY)


# the command


class LikesLong:
    """A judge that likes a motion the more the longer it is."""

    name = "likes-long"

    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        return [Verdict(1 + min(4, int(case.motion.duration_s / 2)), case.task, self.name) for case in cases]

    def __call__(self, prompt: str, motion: Motion) -> Outcome:
        return self.judge_all([Case.of(prompt, motion)])[0]


class Silent(LikesLong):
    def judge_all(self, cases: Sequence[Case]) -> list[Outcome]:
        return [Invalid(self.name, "it is asleep") for _ in cases]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = TextToMotion(lm_of(), tokenizer_of())
    model.lm.max_text_tokens = 200
    return model.save_pretrained(tmp_path_factory.mktemp("model"))


def settings(folder: Path, out: Path, **others: Any) -> AlignGRPO:
    return replace(TINY, **{"model": folder, "out": out, "judge": "test_grpo:LikesLong", **others})


def test_the_command_leaves_an_adapter_that_changes_the_model(folder: Path, tmp_path: Path, capsys: Any) -> None:
    adapter = align_grpo(settings(folder, tmp_path / "run"))
    assert adapter == tmp_path / "run" / "adapter"
    told = capsys.readouterr().out
    assert "rewards/mean" in told and "memory_mb" in told
    aligned, base = TextToMotion.from_pretrained(folder, adapter=adapter), TextToMotion.from_pretrained(folder)
    assert not torch.equal(
        *(next(w for n, w in m.lm.t5.named_parameters() if n.endswith("q.weight")) for m in (aligned, base))
    )
    rows = RunFolder(tmp_path / "run").metrics()
    assert [row["step"] for row in rows] == list(range(1, 9))
    for name in ("rewards/events", "rewards/skating", "all_right", "invalid", "policy/kl", "policy/entropy"):
        assert all(np.isfinite(row[name]) for row in rows)


def test_a_silent_judge_ends_the_command(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VerdictError, match="no verdict on any of 12 motions, for instance: it is asleep"):
        align_grpo(settings(folder, tmp_path, judge="test_grpo:Silent"))


def test_another_judge_or_model_does_not_go_on_in_the_same_folder(folder: Path, tmp_path: Path) -> None:
    align_grpo(settings(folder, tmp_path))
    with pytest.raises(ConfigError, match="judge is 'test_grpo:LikesLong' there"):
        align_grpo(settings(folder, tmp_path, judge="kinematic"))


def test_the_command_line_knows_it(tmp_path: Path, capsys: Any) -> None:
    assert main(["align", "grpo", "--candidates", "1", "--out", str(tmp_path)]) == 2
    assert "candidates=1" in capsys.readouterr().err
    assert main(["align", "grpo", "--weights.events", "0", "--weights.score", "0", "--out", str(tmp_path)]) == 2
    assert "leave nothing to learn" in capsys.readouterr().err


def run_in(folder: Path, out: Path, *, processes: int) -> list[dict[str, float]]:
    """What is logged by the command with 4 prompts a batch, under torchrun where there are more processes than one."""
    script = out.with_suffix(".py")
    script.write_text(
        "import sys\nfrom dataclasses import replace\nfrom pathlib import Path\nimport torch\nimport test_grpo\n"
        "torch.set_num_threads(1)\n"
        "test_grpo.align_grpo(replace(test_grpo.settings(*map(Path, sys.argv[1:])), batch=4))\n"
    )
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    subprocess.run(
        [sys.executable, *launcher, str(script), str(folder), str(out)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        timeout=300,
    )
    return comparable(RunFolder(out))


@pytest.mark.slow
def test_two_processes_learn_what_one_does(folder: Path, tmp_path: Path) -> None:
    alone, together = (run_in(folder, tmp_path / str(number), processes=number) for number in (1, 2))
    assert len(alone) == len(together) == 8
    for one, other in zip(alone, together):
        # rounding: the same answers, added up in another order
        assert other == pytest.approx(one, rel=1e-3, abs=1e-5)


@pytest.mark.slow
def test_killed_for_good_it_goes_on(folder: Path, tmp_path: Path) -> None:
    align_grpo(settings(folder, tmp_path / "whole"))
    arguments = json.dumps({"model": str(folder), "out": str(tmp_path / "killed")})
    script = f"""
import json, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import test_grpo
from kinalign.alignment import rollouts
given = {{name: Path(value) for name, value in json.loads({arguments!r}).items()}}
drawn = rollouts.Rollouts._drawn
def dies(self, draw, *rest):
    if draw.step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return drawn(self, draw, *rest)
rollouts.Rollouts._drawn = dies
test_grpo.align_grpo(test_grpo.settings(given["model"], given["out"]))
"""
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, timeout=120
    )
    assert done.returncode == -9, done.stderr.decode()[-2000:]
    align_grpo(settings(folder, tmp_path / "killed"))
    assert comparable(RunFolder(tmp_path / "killed")) == comparable(RunFolder(tmp_path / "whole"))
    weights = [(tmp_path / name / "adapter" / "adapter.safetensors").read_bytes() for name in ("killed", "whole")]
    assert weights[0] == weights[1]
