"""A model learns from pairs: what it is asked, what is kept, and that a killed run ends like one never killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_pipeline import same, tokenizer_of

import kinalign
from kinalign.alignment import preference, watch
from kinalign.alignment.preference import (
    DEGREES,
    Loss,
    Mix,
    Objective,
    Order,
    PreferenceConfig,
    Reference,
    align,
    examples_of,
    partners,
    read_reference,
    split,
    write_reference,
)
from kinalign.alignment.watch import Examination, Watch, fid_to_real
from kinalign.cli import main
from kinalign.data.records import Clip
from kinalign.errors import CheckpointError, ConfigError, DataError, KinalignError
from kinalign.evaluation.bench import Bench, EvaluationSettings
from kinalign.evaluation.encoder import TextMotionEncoder, shipped_encoder
from kinalign.evaluation.metrics import fid
from kinalign.judge.rubric import SUB_TASKS
from kinalign.judge.verdict import Verdict
from kinalign.lm.lora import LoraConfig
from kinalign.lm.model import LMConfig, MotionLM
from kinalign.lm.reader import Reader, ReaderConfig
from kinalign.lm.text import plain_tokenizer
from kinalign.pipeline import TextToMotion
from kinalign.preference.records import Candidate, PreferencePair
from kinalign.run import RunFolder, read_json, sha256_of_weights
from kinalign.training import Optimization

pytest.importorskip("peft", reason="LoRA needs kinalign[lora]")

WORDS = ("walks", "waves", "jumps", "turns", "kicks", "bows")


def model_of(seed: int = 1, *, with_reader: bool = True) -> TextToMotion:
    torch.manual_seed(seed)
    words = ["a", "person", *WORDS]
    sizes = ReaderConfig(width=8, feed_forward_width=16, layers=1, heads=2, max_tokens=200)
    reader = Reader(sizes, plain_tokenizer(words), 16) if with_reader else None
    config = LMConfig(width=16, feed_forward_width=32, encoder_layers=1, decoder_layers=1, heads=2, max_text_tokens=200)
    lm = MotionLM.from_config(
        config, num_codes=32, codes_per_step=2, text_tokenizer=plain_tokenizer(words), reader=reader
    )
    return TextToMotion(lm.eval(), tokenizer_of(), name="tiny")


def pairs_of(number: int = 24, *, seed: int = 0, scores: tuple[int, int] = (5, 2)) -> list[PreferencePair]:
    """The chosen motion of a prompt says low codes, the rejected one high codes; lengths differ."""
    rng = np.random.default_rng(seed)

    def candidate(index: int, high: bool, score: int) -> Candidate:
        steps = int(rng.integers(3, 12))
        codes = [int(rng.integers(8 * high, 8 * high + 8)) + 16 * group for _ in range(steps) for group in (0, 1)]
        return Candidate(index, index, tuple(codes), Verdict(score, "temporal", "made up"))

    return [
        PreferencePair(
            f"pair-{n:03d}-0-1",
            f"a person {WORDS[n % len(WORDS)]}",
            SUB_TASKS[n % 3],
            None,
            candidate(0, False, scores[0]),
            candidate(1, True, scores[1]),
            "made up",
        )
        for n in range(number)
    ]


TINY = PreferenceConfig(
    lora=LoraConfig(rank=2, dropout=0.2),
    batch_size=6,
    held_out=0.2,
    optimization=Optimization(steps=12, learning_rate=0.02, warmup_steps=2, log_every=1, checkpoint_every=5),
)


def run_of(folder: Path) -> list[dict[str, float]]:
    return RunFolder(folder).metrics()


# what is learned


def test_it_learns_which_is_better_and_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = model_of()
    before = sha256_of_weights([model.lm])
    longer = replace(TINY, optimization=replace(TINY.optimization, steps=40))
    aligned = align(model, pairs_of(), longer, folder=tmp_path)
    assert sha256_of_weights([model.lm]) == before != sha256_of_weights([aligned.lm])
    rows = run_of(tmp_path)
    assert rows[0]["loss"] == pytest.approx(25.0, rel=1e-5)  # (1 / 2β)² where the policy is the reference
    assert abs(rows[0]["rewards/margins"]) < 1e-6
    assert rows[-1]["loss"] < 20
    assert rows[-1]["rewards/accuracies"] == 1.0
    assert rows[-1]["logps/chosen"] > rows[-1]["logps/rejected"]
    assert set(rows[0]) == {"step", "loss"} | {
        f"{kind}/{of}"
        for kind, names in (("rewards", "chosen rejected margins accuracies"), ("logps", "chosen rejected"))
        for of in names.split()
    }


LOSSES: tuple[Loss, ...] = ("sigmoid", "ipo", "hinge", "kto_pair", "kto", "orpo")


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_falls_and_moves_the_sides_apart(loss: Loss, tmp_path: Path) -> None:
    steps = replace(TINY.optimization, steps=25)
    config = replace(TINY, loss=loss, optimization=steps, lora=LoraConfig(rank=4, dropout=0.0))
    align(model_of(), pairs_of(), config, folder=tmp_path)
    rows = run_of(tmp_path)
    assert np.mean([row["loss"] for row in rows[-4:]]) < np.mean([row["loss"] for row in rows[:2]])
    assert rows[-1]["rewards/margins"] > rows[0]["rewards/margins"] + 1e-3
    assert np.mean([row["rewards/accuracies"] for row in rows[-4:]]) > 0.9


def test_what_is_taught_is_said_in_the_end_to_prompts_that_were_held_out() -> None:
    config = replace(TINY, loss="sigmoid", sft_weight=1.0, optimization=replace(TINY.optimization, steps=60))
    model = model_of()
    aligned = align(model, pairs_of(48), config)

    def share_of_low(of: TextToMotion) -> float:
        answers = of.answers([of.ask("a person jumps")], seeds=[0], num_candidates=20)[0]
        return float(np.mean([np.mean(codes % 16 < 8) for codes in answers if codes is not None]))

    assert share_of_low(aligned) > share_of_low(model) + 0.2


def test_an_sft_term_keeps_the_chosen_likely(tmp_path: Path) -> None:
    chosen = {}
    for weight in (0.0, 2.0):
        align(model_of(), pairs_of(), replace(TINY, loss="sigmoid", sft_weight=weight), folder=tmp_path / str(weight))
        chosen[weight] = run_of(tmp_path / str(weight))[-1]["logps/chosen"]
    assert chosen[2.0] > chosen[0.0]
    assert run_of(tmp_path / "2.0")[0]["nll_loss"] > 0


def test_all_weights_of_the_t5_can_be_tuned(tmp_path: Path) -> None:
    model = model_of()
    aligned = align(model, pairs_of(), replace(TINY, full=True), folder=tmp_path)
    assert aligned.lm.merged is None
    assert set(aligned.lm.state_dict()) == set(model.lm.state_dict())
    changed = {
        name for name, weight in aligned.lm.named_parameters() if not torch.equal(weight, model.lm.get_parameter(name))
    }
    assert changed and all(name.startswith("t5.") for name in changed)  # the reader stays
    assert run_of(tmp_path)[-1]["rewards/accuracies"] > 0.8


def test_the_models_own_dropout_is_off_unless_asked_for(tmp_path: Path) -> None:
    still = replace(TINY, lora=LoraConfig(rank=2, dropout=0.0))
    losses = {}
    for name, config in (("off", still), ("on", replace(still, dropout=True))):
        align(model_of(), pairs_of(), config, folder=tmp_path / name)
        losses[name] = run_of(tmp_path / name)[0]["loss"]
    assert losses["off"] == pytest.approx(25.0, rel=1e-5)
    assert abs(losses["on"] - 25.0) > 1e-3


# what is asked


@pytest.mark.parametrize("style", ["kinalign", "motiongpt"])
def test_a_pair_is_asked_about_in_the_very_words_of_inference(style: str) -> None:
    model = model_of()
    model.lm.instruction_style = style  # type: ignore[assignment]
    pairs = pairs_of(6)
    asked = [model.ask(pair.prompt).instruction for pair in pairs]
    assert [example.instruction for example in examples_of(model, pairs, TINY)] == asked
    assert [list(example.chosen[1:-1]) for example in examples_of(model, pairs, TINY)] == [
        [code + model.lm.vocab.num_text for code in pair.chosen.codes or ()] for pair in pairs
    ]


@torch.no_grad()
def test_log_probabilities_of_answers_are_sums_over_their_tokens_in_parts_of_any_size() -> None:
    model = model_of()
    examples = examples_of(model, pairs_of(9), TINY)
    instructions, answers = [one.instruction for one in examples], [one.chosen for one in examples]
    expected = model.lm.token_logps(instructions, answers)[0].sum(1)
    for rows in (1, 4, 100):
        torch.testing.assert_close(model.lm.answer_logps(instructions, answers, rows=rows), expected)


@torch.no_grad()
def test_what_a_reader_remembers_is_what_it_would_read() -> None:
    model = model_of()
    texts = ["a person walks", "a person waves and bows and jumps"]
    expected = model.lm.encode(texts)[0]
    reader = model.lm.reader
    assert reader is not None
    reader.remember(*model.lm.tokenize(texts[:1]))
    torch.testing.assert_close(model.lm.encode(texts)[0], expected)  # one is not known: all are read
    reader.remember(*model.lm.tokenize(texts))
    reader.bert.embeddings.word_embeddings.weight.zero_()  # so that it shows if anything is read
    torch.testing.assert_close(model.lm.encode(texts)[0], expected)
    assert not torch.allclose(model.lm.encode(["a person jumps"])[0][0, :3], expected[0, :3])


def test_a_prompts_pairs_are_learned_from_or_held_out_together() -> None:
    examples = examples_of(model_of(), pairs_of(36), TINY)
    places = split(examples, 0.34)
    texts = [{examples[place].instruction.text for place in side} for side in places]
    assert not texts[0] & texts[1] and len(texts[1]) == 2
    assert sorted([*places.train, *places.held_out]) == list(range(36))
    assert split(examples, 0.34) == places
    assert split(examples, 0.0).held_out == []


def test_an_epoch_has_every_pair_once_and_the_order_does_not_depend_on_what_was_asked_before() -> None:
    examples = examples_of(model_of(), pairs_of(24), TINY)
    order = Order(examples, range(24), TINY)
    batches = [order.batch(step) for step in range(8)]
    for epoch in (batches[:4], batches[4:]):
        assert sorted(place for batch in epoch for place in batch) == list(range(24))
    assert batches[:4] != batches[4:]
    assert Order(examples, range(24), TINY).batch(6) == batches[6]


def test_sub_tasks_are_seen_as_often_as_the_mix_says() -> None:
    config = replace(TINY, mix=Mix(integrity=0.0, temporal=1.5, frequency=1.0))
    examples = examples_of(model_of(), pairs_of(30), config)
    assert len(examples) == 20  # integrity is left out
    order = Order(examples, range(20), config)
    seen = Counter(examples[place].task for step in range(200) for place in order.batch(step))
    assert seen["temporal"] / seen["frequency"] == pytest.approx(1.5, rel=0.05)


def test_labels_are_smoothed_by_degree() -> None:
    config = replace(TINY, loss="sigmoid", label_smoothing="degree")
    labelled = [replace(pair, degree=degree) for pair, degree in zip(pairs_of(4), DEGREES)]
    assert [one.swapped for one in examples_of(model_of(), labelled, config)] == [0.0, 0.2, 0.3, 0.5]
    for gap, expected in ((1, 0.3), (2, 0.2), (3, 0.0), (4, 0.0)):
        (example,) = examples_of(model_of(), pairs_of(1, scores=(5, 5 - gap)), config)
        assert example.swapped == expected
    sure = examples_of(model_of(), labelled, replace(config, unsure=False))
    assert [one.swapped for one in sure] == [0.0, 0.2, 0.3]
    silent = replace(pairs_of(1)[0], chosen=replace(pairs_of(1)[0].chosen, outcome=None))
    with pytest.raises(DataError, match=r"pair pair-000-0-1 does not say by how much .*--label-smoothing"):
        examples_of(model_of(), [silent], config)


def test_an_unsure_pair_teaches_neither_side() -> None:
    slopes = []
    for degree in ("Much better", "Negligibly better/unsure"):
        config = replace(TINY, loss="sigmoid", label_smoothing="degree")
        model, pairs = model_of(), [replace(pair, degree=degree) for pair in pairs_of()]
        objective = Objective(model.lm, examples_of(model, pairs, config), config)
        objective.reference = objective.ask_reference()
        objective.terms(range(24))["loss"].backward()
        grads = [weight.grad for weight in model.lm.t5.parameters() if weight.grad is not None]
        slopes.append(sum(float(grad.square().sum()) for grad in grads) ** 0.5)
    assert slopes[0] > 0.01
    assert slopes[1] < 1e-4 * slopes[0]  # at the reference the loss is at its least, to rounding


def test_partners_are_of_other_prompts_and_nobodys_twice() -> None:
    examples = examples_of(model_of(), pairs_of(20), TINY)
    found = partners(examples)
    assert sorted(found) == list(range(20))
    assert all(examples[a].instruction != examples[b].instruction for a, b in enumerate(found))
    with pytest.raises(DataError, match=r"3 of 4 pairs are of one prompt; .* \(--loss kto_pair does without\)"):
        partners([examples[0], examples[6], examples[12], examples[1]])


# the reference


def test_the_cached_reference_is_the_live_one(tmp_path: Path) -> None:
    model = model_of()
    for loss in ("ipo", "kto"):
        config = replace(TINY, loss=loss)
        align(model, pairs_of(), config, folder=tmp_path / loss)
        examples = examples_of(model, pairs_of(), config)
        model.lm.eval()
        live = Objective(model.lm, examples, config).ask_reference()
        cached = read_reference(
            tmp_path / loss / "reference.safetensors",
            model=read_json(tmp_path / loss / "config.json")["model"],
            pairs=read_json(tmp_path / loss / "config.json")["pairs"],
        )
        assert cached is not None
        for ours, theirs in zip(cached, live):
            torch.testing.assert_close(ours, theirs)
        assert bool(cached.chosen_elsewhere.any()) == (loss == "kto")


def test_a_cache_of_another_model_or_of_other_pairs_is_refused(tmp_path: Path) -> None:
    ours, theirs = "ab" * 32, "cd" * 32
    reference = Reference(*(torch.full((3,), float(n)) for n in range(4)))
    path = write_reference(tmp_path / "reference.safetensors", reference, model=ours, pairs=theirs)
    back = read_reference(path, model=ours, pairs=theirs)
    assert back is not None and all(torch.equal(a, b) for a, b in zip(back, reference))
    with pytest.raises(
        CheckpointError, match=r"of another model \(abababababab\.\.\. there, cdcdcdcdcdcd\.\.\. here\)"
    ):
        read_reference(path, model=theirs, pairs=theirs)
    with pytest.raises(CheckpointError, match=r"for other pairs .* remove it, or choose another folder \(--out\)"):
        read_reference(path, model=ours, pairs=ours)
    assert read_reference(tmp_path / "none", model=ours, pairs=ours) is None


def test_a_cache_that_another_models_run_left_is_refused(tmp_path: Path) -> None:
    align(model_of(1), pairs_of(), TINY, folder=tmp_path / "one")
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "one" / "reference.safetensors").rename(other / "reference.safetensors")
    with pytest.raises(CheckpointError, match="holds log-probabilities of another model"):
        align(model_of(2), pairs_of(), TINY, folder=other)


# a run


def ends_alike(one: Path, other: Path) -> None:
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    ours, theirs = RunFolder(one).load_checkpoint(), RunFolder(other).load_checkpoint()
    assert ours is not None and theirs is not None
    assert ours.state == theirs.state
    assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in ours.tensors)


class Killed(Exception):
    """A stop in mid-epoch."""


@pytest.mark.parametrize("stop", [0, 4, 7, 11])
def test_a_run_stopped_in_mid_epoch_ends_like_one_never_stopped(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = align(model_of(), pairs_of(), TINY, folder=tmp_path / "whole")
    terms, seen = Objective.terms, 0

    def stopping(self: Objective, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        nonlocal seen
        if seen == stop:
            raise Killed
        seen += 1
        return terms(self, rows)

    with monkeypatch.context() as patched:
        patched.setattr(Objective, "terms", stopping)
        with pytest.raises(Killed):
            align(model_of(), pairs_of(), TINY, folder=tmp_path / "parts")
    resumed = align(model_of(), pairs_of(), TINY, folder=tmp_path / "parts")
    ends_alike(tmp_path / "whole", tmp_path / "parts")
    assert sha256_of_weights([resumed.lm]) == sha256_of_weights([whole.lm])


ALIGN = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
from test_preference_alignment import LONGER, STILL, align, model_of, pairs_of
align(model_of(), pairs_of(), {"longer": LONGER, "still": STILL}[sys.argv[3]], folder=sys.argv[2])
"""
LONGER = replace(TINY, optimization=replace(TINY.optimization, steps=80, checkpoint_every=10))
STILL = replace(TINY, lora=LoraConfig(rank=2, dropout=0.0))


def started(folder: Path, name: str, *, processes: int = 1) -> subprocess.Popen[bytes]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    script = folder.parent / "align.py"
    script.write_text(ALIGN)
    command = [sys.executable, *launcher, str(script), str(Path(__file__).parent), str(folder), name]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_run_ended_by_kill_9_ends_like_one_never_killed(tmp_path: Path) -> None:
    align(model_of(), pairs_of(), LONGER, folder=tmp_path / "whole")
    process = started(tmp_path / "killed", "longer")
    log, deadline = tmp_path / "killed" / "metrics.jsonl", time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") >= 13) and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    process.kill()
    assert process.wait() != 0
    assert 13 <= log.read_text().count("\n") < 80
    align(model_of(), pairs_of(), LONGER, folder=tmp_path / "killed")
    ends_alike(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_two_processes_and_two_parts_learn_what_one_does(tmp_path: Path) -> None:
    align(model_of(), pairs_of(), STILL, folder=tmp_path / "one")
    assert started(tmp_path / "two", "still", processes=2).wait() == 0
    in_parts = replace(STILL, optimization=replace(STILL.optimization, accumulate=3))
    align(model_of(), pairs_of(), in_parts, folder=tmp_path / "parts")
    expected = RunFolder(tmp_path / "one").load_checkpoint()
    assert expected is not None
    for name in ("two", "parts"):
        losses = [[row["loss"] for row in run_of(tmp_path / folder)] for folder in ("one", name)]
        assert len(losses[0]) == 12 and losses[0][-1] < losses[0][0]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
        found = RunFolder(tmp_path / name).load_checkpoint()
        assert found is not None
        for key in (key for key in expected.tensors if key.startswith("module.")):
            torch.testing.assert_close(found.tensors[key], expected.tensors[key], rtol=1e-3, atol=1e-5, msg=key)


def test_a_finished_run_gives_its_model_again(tmp_path: Path) -> None:
    first = align(model_of(), pairs_of(), TINY, folder=tmp_path)
    again = align(model_of(), pairs_of(), TINY, folder=tmp_path)
    assert sha256_of_weights([again.lm]) == sha256_of_weights([first.lm])


def test_a_folder_of_other_settings_or_pairs_is_refused(tmp_path: Path) -> None:
    align(model_of(), pairs_of(), TINY, folder=tmp_path)
    with pytest.raises(ConfigError, match=r"beta is 0\.1 there and 0\.2 here"):
        align(model_of(), pairs_of(), replace(TINY, beta=0.2), folder=tmp_path)
    with pytest.raises(ConfigError, match="pairs is '"):
        align(model_of(), pairs_of(seed=4), TINY, folder=tmp_path)
    with pytest.raises(ConfigError, match="model is '"):
        align(model_of(2), pairs_of(), TINY, folder=tmp_path)


# looking on


LOOKING = replace(TINY, watch=Watch(every=4, prompts=3, candidates=2, fid=False))


def test_it_is_looked_at_pairs_events_and_quality_and_resumed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    align(model_of(), pairs_of(), LOOKING, folder=tmp_path / "whole")
    looks = [row for row in run_of(tmp_path / "whole") if "eval/loss" in row]
    assert [row["step"] for row in looks] == [0, 4, 8, 12]
    assert looks[0]["eval/loss"] == pytest.approx(25.0, rel=1e-5)
    assert looks[-1]["eval/loss"] < 25 and looks[-1]["eval/rewards/accuracies"] > 0.5
    for row in looks:
        assert {"events/score", "events/right", "quality/skating", "quality/jitter", "quality/invalid"} < set(row)
        assert 0 <= row["quality/invalid"] <= 1 and row["quality/jitter"] > 0
    unlooked = align(model_of(), pairs_of(), TINY, folder=tmp_path / "unlooked")
    assert [row for row in run_of(tmp_path / "whole") if "eval/loss" not in row] == run_of(tmp_path / "unlooked")

    save = RunFolder.save_checkpoint

    def killing(self: RunFolder, step: int, *rest: Any) -> None:
        save(self, step, *rest)
        if step == 5:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "save_checkpoint", killing)
        with pytest.raises(Killed):
            align(model_of(), pairs_of(), LOOKING, folder=tmp_path / "parts")
    resumed = align(model_of(), pairs_of(), LOOKING, folder=tmp_path / "parts")
    ends_alike(tmp_path / "whole", tmp_path / "parts")
    assert sha256_of_weights([resumed.lm]) == sha256_of_weights([unlooked.lm])


@pytest.mark.parametrize(
    ("name", "values", "ends_at"),
    [
        ("quality/jitter", [10.0, 10.9, 11.2, 10.0], 8),
        ("quality/skating", [1.0, 1.2, 1.0, 1.0], 4),
        ("quality/invalid", [0.0, 0.1, 0.1, 0.11], 12),
        ("quality/fid", [0.5, 0.59, 0.59, 0.61], 12),
        ("quality/fid", [0.5, 0.61, 0.4, 0.4], 4),
        ("quality/jitter", [10.0, 9.0, 8.0, 11.0], None),
    ],
)
def test_where_bodies_move_worse_than_the_guard_allows_learning_ends_and_goes_back(
    name: str, values: list[float], ends_at: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"events/score": 1.0, "quality/skating": 1.0, "quality/jitter": 10.0, "quality/invalid": 0.0}
    given = iter(values)
    monkeypatch.setattr(watch, "events_and_quality", lambda *_, **__: {**found, name: next(given)})
    config = replace(LOOKING, optimization=replace(TINY.optimization, checkpoint_every=3))
    guarded = align(model_of(), pairs_of(), config, folder=tmp_path / "guarded")
    last_step = run_of(tmp_path / "guarded")[-1]["step"]
    assert last_step == (ends_at or 12)
    kept_step = 12 if ends_at is None else ends_at - 4
    if kept_step:
        plain = replace(TINY, optimization=replace(TINY.optimization, checkpoint_every=1))
        save, kept = RunFolder.save_checkpoint, {}
        monkeypatch.setattr(
            RunFolder,
            "save_checkpoint",
            lambda self, step, tensors, state: kept.update({step: tensors}) or save(self, step, tensors, state),
        )
        align(model_of(), pairs_of(), plain, folder=tmp_path / "plain")
        weights = {key: tensor for key, tensor in kept[kept_step].items() if key.startswith("module.")}
        assert len(weights) > 3
        again = align(model_of(), pairs_of(), config, folder=tmp_path / "guarded")  # nothing more is learned
        assert run_of(tmp_path / "guarded")[-1]["step"] == last_step
        assert sha256_of_weights([again.lm]) == sha256_of_weights([guarded.lm])
    else:
        torch.testing.assert_close(dict(guarded.lm.state_dict()), dict(model_of().lm.state_dict()))


def test_fid_is_that_of_the_evaluators_embeddings_of_the_val_split(openmocap: Callable[[str], list[Clip]]) -> None:
    if not (shipped_encoder()).is_dir():
        pytest.skip("models/openmocap-evaluator is not in this checkout")
    real = openmocap("val")
    distance = fid_to_real(Watch(), model_of())
    assert distance is not None
    encoder = TextMotionEncoder.from_pretrained(shipped_encoder())
    bench = Bench(real, encoder, EvaluationSettings(), fps=20.0)
    motions = [clip.motion for clip in bench.clips]
    assert distance(motions) == pytest.approx(0, abs=1e-6)
    some = motions[::5]
    vectors = bench.embeddings.motions(motions)
    assert distance(some) == pytest.approx(fid(vectors, vectors[::5]), rel=1e-4)
    still = [replace(motion, joints=np.repeat(motion.joints[:1], len(motion), 0)) for motion in some]
    assert distance(still) > 2 * distance(some)


def test_what_is_found_holds_fid_where_it_can_be_had_and_a_warning_says_where_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(watch, "fid_to_real", lambda *_: lambda motions: float(len(motions)))
    model = model_of()
    examination = Examination(Watch(prompts=3, candidates=2), model)
    assert examination(model)["quality/fid"] == 6.0
    monkeypatch.undo()
    monkeypatch.setattr(watch, "shipped_encoder", lambda: tmp_path / "none")
    absent = Examination(Watch(prompts=3, candidates=2), model)
    assert "warning: FID is not looked at" in capsys.readouterr().err
    assert "quality/fid" not in absent(model)
    with pytest.raises(CheckpointError, match="cannot be read"):
        Examination(Watch(encoder=tmp_path), model)


# bad input


def spoiled(side: str, codes: Sequence[int] | None) -> list[PreferencePair]:
    pairs = pairs_of(6)
    candidate = replace(getattr(pairs[2], side), codes=None if codes is None else tuple(codes))
    return [*pairs[:2], replace(pairs[2], **{side: candidate}), *pairs[3:]]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (spoiled("chosen", pairs_of(6)[2].rejected.codes), "both sides of pair pair-002-0-1 are the same motion"),
        (spoiled("rejected", ()), "candidate 1 of pair pair-002-0-1 has no codes"),
        (spoiled("chosen", None), "candidate 0 of pair pair-002-0-1 has no codes"),
        (spoiled("chosen", [1, 17] * 50), "candidate 0 of pair pair-002-0-1 has 100 codes; this model says 98 at most"),
        (spoiled("rejected", [1, 99]), r"is of another vocabulary \(code 99 at place 1 .*\(--model\)"),
        (spoiled("rejected", [1, 17, 3]), r"is of another vocabulary \(3 codes are no whole number of steps"),
        ([], r"none of 0 pairs is left to learn from"),
    ],
)
def test_pairs_that_cannot_be_learned_from_are_refused_by_name(
    pairs: list[PreferencePair], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        align(model_of(), pairs, TINY, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pairs_of_one_prompt_leave_none_to_hold_out() -> None:
    one = [pair for pair in pairs_of() if "walks" in pair.prompt]
    with pytest.raises(DataError, match=r"pairs of 1 prompts leave none .*--held-out 0"):
        align(model_of(), one, TINY)
    assert align(model_of(), one, replace(TINY, held_out=0.0)).lm.merged is not None


def test_a_loss_that_is_no_number_stops_with_the_pairs_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = Objective.terms
    calls = 0

    def spoiling(self: Objective, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        found = terms(self, rows)
        return found | {"loss": found["loss"] * float("nan")} if calls == 8 else found

    monkeypatch.setattr(Objective, "terms", spoiling)
    with pytest.raises(KinalignError) as caught:
        align(model_of(), pairs_of(), TINY, folder=tmp_path)
    examples = examples_of(model_of(), pairs_of(), TINY)
    batch = Order(examples, split(examples, TINY.held_out).train, TINY).batch(7)
    assert (
        f"the loss of step 8 of {tmp_path} is nan, over the pairs {', '.join(examples[n].id for n in batch)};"
        in str(caught.value)
    )
    checkpoint = RunFolder(tmp_path).load_checkpoint()
    assert checkpoint is not None and checkpoint.step == 5
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint.tensors.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 0.0}, r"beta=0\.0 must be positive \(--beta\)"),
        ({"beta": -0.1}, r"beta=-0\.1 must be positive"),
        ({"beta": float("nan")}, "beta=nan must be positive"),
        ({"label_smoothing": 0.6}, r"label_smoothing=0\.6 must be in \[0, 0\.5\]"),
        ({"label_smoothing": 0.1, "loss": "kto"}, "label_smoothing=0.1 is for sigmoid, ipo, hinge, not for kto"),
        ({"sft_weight": -1.0}, r"sft_weight=-1\.0 must be 0 or more"),
        ({"batch_size": 0}, r"batch_size=0 must be at least 1 \(--batch-size\)"),
        ({"held_out": 1.0}, r"held_out=1\.0 must be in \[0, 1\)"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Watch(every=-1), r"every=-1 must be 0, for no looks, or more \(--watch\.every\)"),
        (lambda: Watch(candidates=0), r"candidates=0 must be at least 1 \(--watch\.candidates\)"),
        (lambda: Watch(guard=float("nan")), "guard=nan must be 0 or more"),
        (lambda: Watch(guard_fid=-0.1), r"guard_fid=-0\.1 must be 0 or more \(--watch\.guard-fid\)"),
        (lambda: Mix(temporal=-1.0), r"temporal=-1\.0 must be 0 or more \(--mix\.temporal\)"),
    ],
)
def test_impossible_looks_and_mixes_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


# folders and the command


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pyarrow")
    from kinalign.preference.dataset import write_pairs

    folder = tmp_path_factory.mktemp("preferences")
    write_pairs(folder / "preferences.parquet", pairs_of(), num_codes=32)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_of().save_pretrained(tmp_path_factory.mktemp("models") / "tiny-base")


OPTIONS = "--lora.rank 2 --batch-size 6 --optimization.steps 6 --optimization.learning-rate 0.02".split()


def command(data: Path, base: Path, out: Path, *more: str) -> int:
    return main(["align", "preference", "--data", str(data), "--model", str(base), "--out", str(out), *OPTIONS, *more])


def test_the_command_writes_an_adapter_that_generate_takes(
    data: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(data, base, tmp_path / "out", "--merge") == 0
    printed = capsys.readouterr().out
    adapter = tmp_path / "out" / "adapter"
    assert "rewards/accuracies" in printed and printed.rstrip().endswith(str(adapter))
    assert read_json(adapter / "config.json")["base"] == "tiny-base"
    by_adapter = TextToMotion.from_pretrained(base, adapter=adapter)
    merged = TextToMotion.from_pretrained(tmp_path / "out" / "model")
    said = by_adapter("a person walks", num_candidates=3, seed=2)
    assert same(merged("a person walks", num_candidates=3, seed=2), said)
    assert not same(TextToMotion.from_pretrained(base)("a person walks", num_candidates=3, seed=2), said)
    options = ["--model", str(base), "--adapter", str(adapter), "--formats", "npy", "--out", str(tmp_path / "made")]
    assert main(["generate", "a person walks", *options]) == 0
    assert (adapter / "adapter.safetensors").stat().st_size < (base / "lm" / "model.safetensors").stat().st_size / 2


def test_a_second_round_begins_at_an_adapter_and_gives_one_for_the_same_base(
    data: Path, base: Path, tmp_path: Path
) -> None:
    assert command(data, base, tmp_path / "first") == 0
    adapter = base.parent / "first-adapter"
    (tmp_path / "first" / "adapter").rename(adapter)
    assert command(data, adapter, tmp_path / "second") == 0
    configs = [read_json(folder / "config.json") for folder in (adapter, tmp_path / "second" / "adapter")]
    assert configs[0]["base_sha256"] == configs[1]["base_sha256"]
    assert (configs[0]["rank"], configs[1]["rank"]) == (2, 4)
    one, two = (TextToMotion.from_pretrained(base, adapter=a) for a in (adapter, tmp_path / "second" / "adapter"))
    assert not same(one("a person walks", num_candidates=3), two("a person walks", num_candidates=3))


def test_full_tuning_writes_a_model(data: Path, base: Path, tmp_path: Path) -> None:
    assert command(data, base, tmp_path / "out", "--full") == 0
    tuned = TextToMotion.from_pretrained(tmp_path / "out" / "model")
    assert not (tmp_path / "out" / "adapter").exists()
    plain = TextToMotion.from_pretrained(base)
    assert not same(tuned("a person walks", num_candidates=3), plain("a person walks", num_candidates=3))


def test_a_parquet_that_lacks_a_column_is_refused_with_one_line(
    data: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(data / "preferences.parquet").drop_columns(["rejected_codes", "prompt"])
    parquet.write_table(table, tmp_path / "preferences.parquet")
    assert command(tmp_path, base, tmp_path / "out") == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert "lacks 2 of its columns (prompt, rejected_codes)" in error


def test_align_is_there_in_python() -> None:
    assert kinalign.align is preference.align
    assert kinalign.PreferenceConfig(loss="ipo", beta=0.1).lora.rank == 8
