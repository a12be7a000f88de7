"""The motion language model, against transformers' own T5 and the laws of sampling. Models are tiny and untrained."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration

from kinalign.errors import CheckpointError, ConfigError, InvalidCodes, KinalignError, PromptError
from kinalign.lm.model import LMConfig, MotionLM, Sampling, sample
from kinalign.lm.text import plain_tokenizer
from kinalign.run import read_json, read_tensors, write_json, write_tensors

NUM_CODES = 12
PROMPTS = ["a person walks", "jump", "a person waves with the left hand"]
PLAIN = Sampling(temperature=1.0, top_p=1.0, guidance=1.0)


def model_of(*, codes_per_step: int = 1, dropout: float = 0.0, max_text_tokens: int = 32) -> MotionLM:
    torch.manual_seed(0)
    config = LMConfig(
        width=16,
        feed_forward_width=32,
        encoder_layers=1,
        decoder_layers=2,
        heads=2,
        dropout=dropout,
        max_text_tokens=max_text_tokens,
    )
    tokenizer = plain_tokenizer(["a", "person", "walks", "jump", "waves", "with", "the", "left", "hand"])
    model = MotionLM.from_config(config, num_codes=NUM_CODES, codes_per_step=codes_per_step, text_tokenizer=tokenizer)
    sharpen(model)
    return model.eval()


def sharpen(model: MotionLM) -> None:
    """Make an untrained model depend on what it is told and prefer some codes."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.t5.parameters():
            if weight.dim() == 2:
                weight += 0.3 * torch.randn(weight.shape, generator=generator)


@pytest.fixture(scope="module")
def model() -> MotionLM:
    return model_of()


def generate(model: MotionLM, prompts: list[str], *, seed: int = 0, **options: Any) -> list[list[list[int]]]:
    options.setdefault("sampling", PLAIN)
    options.setdefault("max_steps", 9)
    return model.generate(prompts, generator=torch.Generator().manual_seed(seed), **options)


def t5_folder(
    folder: Path, *, own_head: bool = False, is_scaled: bool = True, dtype: torch.dtype = torch.float32
) -> Path:
    """A tiny T5 as users have them: its table of words padded, its head that table or one of its own."""
    tokenizer = plain_tokenizer(["a", "person", "walks"])
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=-(-len(tokenizer) // 64) * 64 + 64,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu" if own_head else "relu",
        pad_token_id=0,
        eos_token_id=2,
    )
    config.decoder_start_token_id = 0
    T5ForConditionalGeneration(config).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if own_head:  # as the files of T5 1.1 and flan-T5 are, which this transformers would not write
        tensors = read_tensors(folder / "model.safetensors")
        head = torch.randn(tensors["shared.weight"].shape, generator=torch.Generator().manual_seed(7)).to(dtype)
        write_tensors(folder / "model.safetensors", tensors | {"lm_head.weight": head})
    if own_head or not is_scaled:
        settings = read_json(folder / "config.json")
        settings.pop("scale_decoder_outputs", None)
        write_json(folder / "config.json", settings | {"tie_word_embeddings": False})
    return folder


# the loss


def own_loss_of_t5(model: MotionLM, prompts: list[str], answers: list[list[int]]) -> Tensor:
    """What transformers says the loss is."""
    token_ids, is_token = model.tokenize(prompts)
    labels = torch.full((len(answers), max(map(len, answers))), -100)
    for row, answer in zip(labels, answers):
        row[: len(answer)] = torch.tensor(answer)
    with torch.no_grad():
        return model.t5(input_ids=token_ids, attention_mask=is_token, labels=labels).loss


TEXT_ANSWERS = [[5, 6, 7, 2], [9, 2], [10, 11, 2]]


def test_the_loss_over_all_tokens_is_that_of_transformers(model: MotionLM) -> None:
    ours = model.loss(PROMPTS, TEXT_ANSWERS)
    assert ours.item() == pytest.approx(own_loss_of_t5(model, PROMPTS, TEXT_ANSWERS).item(), rel=1e-5)


@pytest.mark.parametrize(("own_head", "is_scaled"), [(False, True), (True, False), (False, False)])
def test_the_loss_of_a_t5_that_users_have_is_that_of_transformers(
    own_head: bool, is_scaled: bool, tmp_path: Path
) -> None:
    folder = t5_folder(tmp_path / "t5", own_head=own_head, is_scaled=is_scaled)
    model = MotionLM.from_t5(folder, num_codes=NUM_CODES).eval()
    ours = model.loss(PROMPTS, TEXT_ANSWERS)
    assert ours.item() == pytest.approx(own_loss_of_t5(model, PROMPTS, TEXT_ANSWERS).item(), rel=1e-5)
    back = MotionLM.from_pretrained(model.save_pretrained(tmp_path / "saved"))
    assert back.loss(PROMPTS, TEXT_ANSWERS).item() == pytest.approx(ours.item())


def test_motions_are_chosen_among_motion_tokens_only_but_for_their_start(model: MotionLM) -> None:
    answers = [model.vocab.codes_to_ids([1, 2, 3]).tolist(), model.vocab.codes_to_ids([4]).tolist()]
    with torch.no_grad():
        token_ids, is_token = model.tokenize(PROMPTS[:2])
        labels = torch.full((2, 5), -100)
        for row, answer in zip(labels, answers):
            row[: len(answer)] = torch.tensor(answer)
        logits = model.t5(input_ids=token_ids, attention_mask=is_token, labels=labels).logits
    logits[:, 1:, : model.vocab.num_text] = -torch.inf
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert model.loss(PROMPTS[:2], answers).item() == pytest.approx(expected.item(), rel=1e-5)


def test_log_probabilities_of_tokens_are_those_that_the_loss_is_the_mean_of(model: MotionLM) -> None:
    codes = [model.vocab.codes_to_ids([1, 2, 3]).tolist(), model.vocab.codes_to_ids([4]).tolist()]
    for instructions, answers in ((PROMPTS[:2], codes), (PROMPTS, TEXT_ANSWERS)):
        logps, is_token = model.token_logps(instructions, answers)
        assert is_token.sum(1).tolist() == [len(answer) for answer in answers]
        assert (logps[~is_token] == 0).all() and (logps[is_token] < 0).all()
        assert -logps.sum().item() / is_token.sum().item() == pytest.approx(model.loss(instructions, answers).item())
        for row, (instruction, answer) in enumerate(zip(instructions, answers)):
            alone, _ = model.token_logps([instruction], [answer])
            torch.testing.assert_close(alone[0], logps[row, : len(answer)])
    (grad,) = torch.autograd.grad(model.token_logps(PROMPTS[:2], codes)[0].sum(), [model.t5.shared.weight])
    assert grad.abs().sum() > 0


def test_a_model_says_whether_it_will_answer_with_a_motion_or_words() -> None:
    model = model_of().train()
    asked = ["walks", "how long"]
    answers = [model.vocab.codes_to_ids([1, 2, 3]).tolist(), [5, 6, 2]]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(asked, answers).backward()
        optimizer.step()
    assert [model.gives(text) for text in asked] == ["motion", "text"]
    assert model.training


def test_padding_costs_nothing(model: MotionLM) -> None:
    answers = [model.vocab.codes_to_ids(codes).tolist() for codes in ([1, 2, 3, 4, 5, 6], [7])]
    prompts = [PROMPTS[1], PROMPTS[2]]
    lengths = [len(answer) for answer in answers]
    alone = [model.loss([prompt], [answer]).item() for prompt, answer in zip(prompts, answers)]
    together = sum(loss * length for loss, length in zip(alone, lengths)) / sum(lengths)
    assert model.loss(prompts, answers).item() == pytest.approx(together, rel=1e-5)


def test_two_examples_can_be_learned_by_heart() -> None:
    model = model_of(codes_per_step=2).train()
    rows = [[0, 6, 1, 7, 2, 8], [5, 11, 4, 10]]
    answers = [model.vocab.codes_to_ids(row).tolist() for row in rows]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        model.loss(PROMPTS[:2], answers).backward()
        optimizer.step()
    assert model.loss(PROMPTS[:2], answers) < 0.05
    said = generate(model, PROMPTS[:2], sampling=Sampling(temperature=0))
    assert [model.vocab.ids_to_codes(row).tolist() for (row,) in said] == rows
    said = generate(model, PROMPTS[:2], sampling=Sampling(temperature=0), constrained=False)
    assert [model.vocab.ids_to_codes(row).tolist() for (row,) in said] == rows


# answers


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("codes_per_step", [1, 2, 3])
@pytest.mark.parametrize(("min_steps", "max_steps"), [(1, 1), (1, 6), (4, 4), (3, 8)])
def test_constrained_answers_are_motions(guidance: float, codes_per_step: int, min_steps: int, max_steps: int) -> None:
    model = model_of(codes_per_step=codes_per_step)
    answers = generate(
        model,
        PROMPTS,
        num_candidates=6,
        sampling=Sampling(temperature=10.0, top_p=1.0, guidance=guidance),
        min_steps=min_steps,
        max_steps=max_steps,
    )
    assert [len(rows) for rows in answers] == [6, 6, 6]
    lengths = {len(model.vocab.ids_to_codes(row)) / codes_per_step for rows in answers for row in rows}
    assert lengths <= set(range(min_steps, max_steps + 1))
    if (min_steps, max_steps) == (1, 6):
        assert len(lengths) > 1


def test_an_answer_ends_where_it_says_so(model: MotionLM) -> None:
    for rows in generate(model, PROMPTS, num_candidates=8):
        for row in rows:
            assert row.count(model.vocab.end_id) == 1
            assert row[-1] == model.vocab.end_id


def test_unconstrained_answers_may_be_malformed_and_are_handed_over_as_they_are(model: MotionLM) -> None:
    rows = [row for rows in generate(model, PROMPTS, num_candidates=10, constrained=False) for row in rows]
    num_invalid = 0
    for row in rows:
        assert 1 <= len(row) <= 9 + 2
        try:
            model.vocab.ids_to_codes(row)
        except InvalidCodes:
            num_invalid += 1
    assert num_invalid > 20  # it has learned nothing


def test_the_likeliest_unconstrained_answer_is_that_of_transformers(model: MotionLM) -> None:
    token_ids, is_token = model.tokenize(PROMPTS)
    theirs = model.t5.generate(
        input_ids=token_ids,
        attention_mask=is_token,
        do_sample=False,
        max_new_tokens=11,
        eos_token_id=[2, model.vocab.end_id],
        use_cache=False,  # every token computed anew
    )[:, 1:].tolist()
    ours = generate(model, PROMPTS, sampling=Sampling(temperature=0), constrained=False)
    for (row,), other in zip(ours, theirs):
        assert row == other[: len(row)]
        assert set(other[len(row) :]) <= {0}


def test_the_same_seed_gives_the_same_answers_and_another_gives_others(model: MotionLM) -> None:
    answers = generate(model, PROMPTS, num_candidates=4)
    assert generate(model, PROMPTS, num_candidates=4) == answers
    assert generate(model, PROMPTS, num_candidates=4, seed=1) != answers


def test_a_candidate_does_not_depend_on_what_else_is_asked_for(model: MotionLM) -> None:
    for guidance in (1.0, 2.0):
        sampling = Sampling(temperature=1.0, top_p=0.9, guidance=guidance)
        many = generate(model, PROMPTS, num_candidates=5, sampling=sampling)
        for prompt, rows in zip(PROMPTS, many):
            assert generate(model, [prompt], num_candidates=5, sampling=sampling)[0] == rows
            assert generate(model, [prompt], num_candidates=2, sampling=sampling)[0] == rows[:2]


def test_rounds_are_the_candidates_of_one_larger_draw(model: MotionLM) -> None:
    options: dict[str, Any] = {"sampling": Sampling(guidance=2.0), "max_steps": 9}
    many = generate(model, PROMPTS[:1], num_candidates=6, **options)
    rounds = model.rounds(PROMPTS[:1], generator=torch.Generator().manual_seed(0), num_candidates=2, **options)
    assert [row for _ in range(3) for row in next(rounds)[0]] == many[0]


def test_candidates_and_prompts_differ(model: MotionLM) -> None:
    many = generate(model, PROMPTS, num_candidates=5)
    assert all(len({tuple(row) for row in rows}) > 1 for rows in many)
    assert many[0] != many[2]


def test_temperature_zero_takes_no_chance(model: MotionLM) -> None:
    likeliest = generate(model, PROMPTS, sampling=Sampling(temperature=0), num_candidates=3)
    assert all(rows[0] == rows[1] == rows[2] for rows in likeliest)
    assert generate(model, PROMPTS, sampling=Sampling(temperature=0), num_candidates=3, seed=5) == likeliest
    nearly = Sampling(temperature=0.01, top_p=1.0)
    assert generate(model, PROMPTS, sampling=nearly, num_candidates=3) == likeliest


def test_generating_leaves_a_model_in_training_as_it_was() -> None:
    model = model_of(dropout=0.5).train()
    state, answers = torch.get_rng_state(), generate(model, PROMPTS)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert answers == generate(model.eval(), PROMPTS)


def test_guidance_prefers_what_the_prompt_adds() -> None:
    model = model_of()
    logp = {}
    for prompt in ("jump", ""):
        token_ids, is_token = model.tokenize([prompt])
        before = torch.tensor([[0, model.vocab.start_id]])
        with torch.no_grad():
            logits = model.t5(input_ids=token_ids, attention_mask=is_token, decoder_input_ids=before).logits[0, -1]
        logp[prompt] = logits[model.vocab.num_text :][:NUM_CODES].log_softmax(-1)
    expected = int((logp[""] + 20 * (logp["jump"] - logp[""])).argmax())
    assert expected != int(logp["jump"].argmax())  # else this test would say nothing
    sampling = Sampling(temperature=0, guidance=20)
    assert model.vocab.ids_to_codes(generate(model, ["jump"], sampling=sampling, min_steps=2)[0][0])[0] == expected


def test_no_prompts_give_no_answers(model: MotionLM) -> None:
    assert generate(model, []) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_steps": 0}, "a motion of 0 to 9 steps is impossible"),
        ({"min_steps": 10}, "a motion of 10 to 9 steps is impossible"),
        ({"num_candidates": 0}, r"num_candidates=0 must be at least 1 \(--num-candidates\)"),
    ],
)
def test_impossible_wishes_are_refused(options: dict[str, int], message: str, model: MotionLM) -> None:
    with pytest.raises(ConfigError, match=message):
        generate(model, PROMPTS, **options)


def test_a_text_that_does_not_fit_is_refused_rather_than_cut(model: MotionLM) -> None:
    with pytest.raises(PromptError, match=r"41 tokens \('walks walks walks .* too long: this model reads 32"):
        generate(model, ["jump", " ".join(["walks"] * 40)])


# sampling


def sample_shares(logits: list[float], sampling: Sampling, *, draws: int = 20_000) -> list[float]:
    chances = torch.rand(draws, generator=torch.Generator().manual_seed(0))
    chosen = Counter(sample(torch.tensor([logits]).expand(draws, -1), sampling, chances).tolist())
    return [chosen[place] / draws for place in range(len(logits))]


# 4 standard deviations of a share of 20,000 draws are at most 0.014
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_answers_are_drawn_by_their_probability(temperature: float) -> None:
    logits = [0.0, 1.0, -1.0, 2.0, 0.5]
    expected = torch.softmax(torch.tensor(logits) / temperature, -1).tolist()
    assert sample_shares(logits, Sampling(temperature=temperature, top_p=1.0)) == pytest.approx(expected, abs=0.014)


def test_a_nucleus_keeps_the_likeliest_that_together_reach_top_p() -> None:
    logits = torch.tensor([0.1, 0.5, 0.05, 0.3, 0.05]).log().tolist()
    shares = sample_shares(logits, Sampling(top_p=0.7))
    assert shares == pytest.approx([0, 0.5 / 0.8, 0, 0.3 / 0.8, 0], abs=0.014)
    assert shares[0] == shares[2] == shares[4] == 0
    assert sample_shares(logits, Sampling(top_p=0.4))[1] == 1
    assert sample_shares(logits, Sampling(top_p=1e-6))[1] == 1


def test_a_chance_near_one_stays_in_the_nucleus() -> None:
    torch.manual_seed(0)
    logits = torch.randn(500, 300)
    chances = torch.full((500,), 1 - 2**-24)  # the highest that torch.rand gives
    ranked, places = logits.softmax(-1).sort(descending=True)
    chosen = sample(logits, Sampling(top_p=0.5), chances)
    rank = (places == chosen[:, None]).int().argmax(1)
    assert (ranked.cumsum(1) - ranked).gather(1, rank[:, None]).max() < 0.5


def test_rows_are_drawn_apart() -> None:
    logits = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
    assert sample(logits, PLAIN, torch.tensor([0.5, 0.5])).tolist() == [0, 1]
    assert sample(logits, PLAIN, torch.tensor([0.9999, 0.0001])).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, r"temperature=-0\.1 must be in \[0, 10\]"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_p": 0.0}, r"top_p=0\.0 must be in \(0, 1\]"),
        ({"top_p": 1.1}, r"top_p=1\.1 must be"),
        ({"guidance": 0.5}, r"guidance=0\.5 must be in \[1, 20\]; 1 is off"),
    ],
)
def test_impossible_sampling_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sampling(**settings)


# where a model comes from


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="width=30 is no multiple of heads=4"):
        LMConfig(width=30)


def test_a_t5_keeps_what_it_knows_and_codes_follow_its_words(tmp_path: Path) -> None:
    folder = t5_folder(tmp_path)
    model = MotionLM.from_t5(folder, num_codes=NUM_CODES, codes_per_step=2)
    table = read_tensors(folder / "model.safetensors")["shared.weight"]
    num_words = len(model.text_tokenizer)
    assert model.vocab.num_text == num_words < len(table)  # the padding of T5's own table makes place
    assert model.t5.shared.weight.shape == (num_words + NUM_CODES + 3, 16)
    assert torch.equal(model.t5.shared.weight[:num_words], table[:num_words])
    assert model.t5.lm_head.weight is model.t5.shared.weight


def test_a_t5_with_a_head_of_its_own_keeps_it(tmp_path: Path) -> None:
    folder = t5_folder(tmp_path / "t5", own_head=True)
    model = MotionLM.from_t5(folder, num_codes=NUM_CODES).eval()
    head = read_tensors(folder / "model.safetensors")["lm_head.weight"]
    num_words = len(model.text_tokenizer)
    assert torch.equal(model.t5.lm_head.weight[:num_words], head[:num_words])
    assert model.t5.lm_head.weight.shape == model.t5.shared.weight.shape
    back = MotionLM.from_pretrained(model.save_pretrained(tmp_path / "saved"))
    assert torch.equal(back.t5.lm_head.weight, model.t5.lm_head.weight)


def test_a_t5_stored_in_half_precision_is_computed_in_float32(tmp_path: Path) -> None:
    model = MotionLM.from_t5(t5_folder(tmp_path, dtype=torch.bfloat16), num_codes=NUM_CODES)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: folder.mkdir()], ids=["absent", "empty"])
def test_a_folder_without_a_t5_is_one_clear_error(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "t5")
    with pytest.raises(CheckpointError, match="is no T5 that can be read"):
        MotionLM.from_t5(tmp_path / "t5", num_codes=NUM_CODES)


# folders


@pytest.fixture
def folder(model: MotionLM, tmp_path: Path) -> Path:
    return model.save_pretrained(tmp_path / "lm")


@pytest.mark.parametrize("codes_per_step", [1, 2])
def test_a_model_comes_back_as_it_was(codes_per_step: int, tmp_path: Path) -> None:
    model = model_of(codes_per_step=codes_per_step)
    back = MotionLM.from_pretrained(model.save_pretrained(tmp_path))
    assert back.vocab == model.vocab
    assert back.max_text_tokens == model.max_text_tokens
    assert generate(back, PROMPTS, num_candidates=3) == generate(model, PROMPTS, num_candidates=3)
    ours, theirs = model.state_dict(), back.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert back.t5.lm_head.weight is back.t5.shared.weight is back.t5.encoder.embed_tokens.weight


def test_the_embedding_table_is_stored_once(folder: Path) -> None:
    names = read_tensors(folder / "model.safetensors").keys()
    tables = [name for name in names if "embed_tokens" in name or "head" in name or "shared" in name]
    assert tables == ["t5.shared.weight"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_the_size_says_nearly_the_same(dtype: torch.dtype, model: MotionLM, tmp_path: Path) -> None:
    back = MotionLM.from_pretrained(model.save_pretrained(tmp_path, dtype=dtype))
    assert {weight.dtype for weight in back.parameters()} == {torch.float32}
    assert back.loss(PROMPTS, TEXT_ANSWERS).item() == pytest.approx(model.loss(PROMPTS, TEXT_ANSWERS).item(), rel=0.02)


def change_json(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        settings = read_json(folder / name)
        change(settings)
        write_json(folder / name, settings)

    return spoil


def change_tensors(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        tensors = read_tensors(folder / "model.safetensors")
        change(tensors)
        write_tensors(folder / "model.safetensors", tensors)

    return spoil


def truncate(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:100])


def remove_text_tokenizer(folder: Path) -> None:
    for file in (folder / "text_tokenizer").iterdir():
        file.unlink()
    (folder / "text_tokenizer").rmdir()


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (truncate("model.safetensors"), CheckpointError, r"model\.safetensors cannot be read"),
        (truncate("t5.json"), CheckpointError, r"t5\.json cannot be read"),
        (lambda folder: (folder / "config.json").unlink(), CheckpointError, r"config\.json cannot be read"),
        (lambda folder: write_json(folder / "config.json", {"model": "x"}), CheckpointError, "it is no language model"),
        (change_json("config.json", lambda s: s["vocab"].update(mood=1)), ConfigError, "unknown key 'mood'"),
        (
            change_json("config.json", lambda s: s["vocab"].update(num_codes=512)),
            CheckpointError,
            "for another codebook",
        ),
        (
            change_json("t5.json", lambda s: s.update(d_ff=64)),
            CheckpointError,
            r"has shape \(32, 16\); this network needs \(64, 16\)",
        ),
        (
            change_json("t5.json", lambda s: s.update(num_layers=2)),
            CheckpointError,
            "does not fit this network: .* tensors absent",
        ),
        (
            change_tensors(lambda t: t.pop("t5.shared.weight")),
            CheckpointError,
            r"1 tensors absent \(t5\.shared\.weight\)",
        ),
        (change_tensors(lambda t: t.update(mood=torch.ones(2))), CheckpointError, r"1 tensors unknown \(mood\)"),
        (remove_text_tokenizer, CheckpointError, "text_tokenizer is absent; it holds a text tokenizer"),
        (truncate("text_tokenizer/tokenizer.json"), CheckpointError, "text_tokenizer cannot be read"),
        (lambda f: (f / "text_tokenizer/tokenizer.json").unlink(), CheckpointError, "text_tokenizer cannot be read"),
    ],
)
def test_a_spoilt_folder_is_one_clear_error(
    spoil: Callable[[Path], object], error: type[KinalignError], message: str, folder: Path
) -> None:
    spoil(folder)
    with pytest.raises(error, match=message):
        MotionLM.from_pretrained(folder)


def test_a_text_tokenizer_that_would_speak_in_codes_is_refused(model: MotionLM, folder: Path) -> None:
    plain_tokenizer([f"word{chr(97 + i)}{chr(97 + j)}" for i in range(20) for j in range(20)]).save_pretrained(
        folder / "text_tokenizer"
    )
    with pytest.raises(CheckpointError, match=r"the text tokenizer has \d+ tokens, the vocabulary"):
        MotionLM.from_pretrained(folder)


def test_what_is_saved_can_be_read_by_a_person(model: MotionLM, folder: Path) -> None:
    assert json.loads((folder / "config.json").read_text()) == {
        "vocab": {"num_text": model.vocab.num_text, "num_codes": NUM_CODES, "codes_per_step": 1},
        "max_text_tokens": 32,
        "reader": None,
        "adapter": None,
        "instruction_style": "kinalign",
    }
