"""Low-rank matrices beside a T5's own: off they change nothing, kept they come back, and only for their base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kinalign.errors import CheckpointError, ConfigError
from kinalign.lm.lora import (
    TARGETS,
    Adapter,
    LoraConfig,
    add_lora,
    base_sha256,
    is_adapter,
    lora_layers,
    lora_off,
    merge_lora,
    mixed,
    read_mixed,
    use_lora,
)
from kinalign.lm.model import LMConfig, MotionLM
from kinalign.lm.text import plain_tokenizer
from kinalign.run import read_json, sha256_of_weights, write_json

pytest.importorskip("peft", reason="LoRA needs kinalign[lora]")

PROMPTS = ["a person walks", "a person waves", ""]


def lm_of(seed: int = 1) -> MotionLM:
    torch.manual_seed(seed)
    config = LMConfig(width=16, feed_forward_width=32, encoder_layers=1, decoder_layers=1, heads=2, max_text_tokens=40)
    tokenizer = plain_tokenizer(["a", "person", "walks", "waves"])
    return MotionLM.from_config(config, num_codes=32, codes_per_step=2, text_tokenizer=tokenizer).eval()


@torch.no_grad()
def said(lm: MotionLM) -> Tensor:
    answers = [lm.vocab.codes_to_ids([1, 17, 3, 20][: 2 * (1 + row % 2)]).tolist() for row in range(len(PROMPTS))]
    return lm.token_logps(PROMPTS, answers)[0]


def learned(lm: MotionLM, seed: int, *, name: str = "default", **settings: Any) -> MotionLM:
    """With matrices that change what the model says, as if they had learned."""
    torch.manual_seed(seed)
    add_lora(lm.t5, LoraConfig(**{"rank": 2, "targets": TARGETS, **settings}), name=name)
    for place, weight in lm.t5.named_parameters():
        if f"lora_B.{name}." in place:
            weight.data = 0.3 * torch.randn(weight.shape)
    return lm.eval()


def test_matrices_that_have_learned_nothing_change_nothing_and_are_all_that_learns() -> None:
    lm = lm_of()
    before, names = said(lm), set(dict(lm.t5.named_parameters()))
    add_lora(lm.t5, LoraConfig(targets=("q", "wo")))
    torch.testing.assert_close(said(lm), before, rtol=0, atol=0)
    learns = {name for name, weight in lm.t5.named_parameters() if weight.requires_grad}
    assert {name.rsplit(".", 4)[1] for name in learns} == {"q", "wo"}
    assert all(".lora_" in name for name in learns)
    assert len(set(dict(lm.t5.named_parameters())) - names) > 0


def test_rank_and_alpha_are_what_they_say() -> None:
    lm = lm_of()
    add_lora(lm.t5, LoraConfig(rank=3, alpha=6.0, dropout=0.5))
    for layer in lora_layers(lm.t5).values():
        assert layer.lora_A["default"].weight.shape == (3, 16)
        assert layer.scaling["default"] == 2.0
        assert layer.lora_dropout["default"].p == 0.5


def test_switched_off_they_leave_the_base_and_what_learns_stays_so() -> None:
    base, lm = said(lm_of()), learned(lm_of(), 0)
    lm.t5.shared.requires_grad_(True)
    learns = [weight.requires_grad for weight in lm.parameters()]
    on = said(lm)
    assert (on - base).abs().max() > 0.05
    with lora_off(lm.t5):
        torch.testing.assert_close(said(lm), base, rtol=0, atol=0)
    torch.testing.assert_close(said(lm), on, rtol=0, atol=0)
    assert [weight.requires_grad for weight in lm.parameters()] == learns


def test_they_are_on_again_after_an_error() -> None:
    lm = learned(lm_of(), 0)
    on = said(lm)
    with pytest.raises(KeyError), lora_off(lm.t5):
        raise KeyError
    torch.testing.assert_close(said(lm), on, rtol=0, atol=0)


def test_of_several_the_one_that_is_named_is_at_work_and_learns() -> None:
    alone = [said(learned(lm_of(), 0)), said(learned(lm_of(), 5, targets=("q", "wi")))]
    lm = learned(learned(lm_of(), 0, name="first"), 5, name="second", targets=("q", "wi"))
    torch.testing.assert_close(said(lm), alone[1])
    use_lora(lm.t5, "first")
    torch.testing.assert_close(said(lm), alone[0])
    assert all(".first." in name for name, weight in lm.t5.named_parameters() if weight.requires_grad)
    assert Adapter.of(lm, name="second").factors.keys() < Adapter.of(lm, name="first").factors.keys()
    with pytest.raises(ConfigError, match="no learned matrices of the name 'third'"):
        Adapter.of(lm, name="third")


def test_kept_and_merged_into_the_base_they_say_the_same(tmp_path: Path) -> None:
    lm = learned(lm_of(), 0, alpha=5.0)
    folder = Adapter.of(lm, base="tiny").save_pretrained(tmp_path / "adapter")
    assert is_adapter(folder) and not is_adapter(tmp_path)
    back, again = Adapter.from_pretrained(folder), lm_of()
    back.merge_into(again)
    torch.testing.assert_close(said(again), said(lm), rtol=1e-5, atol=1e-5)  # float32: (W + B A) x and W x + B (A x)
    assert (back.base, back.base_sha256) == ("tiny", sha256_of_weights([lm_of()]))
    merge_lora(lm.t5)
    torch.testing.assert_close(said(again), said(lm), rtol=1e-5, atol=1e-5)
    assert set(again.state_dict()) == set(lm.state_dict())


def test_the_hash_is_that_of_the_base_whatever_is_beside_it_or_in_it() -> None:
    expected = sha256_of_weights([lm_of()])
    lm = learned(lm_of(), 0)
    assert base_sha256(lm_of()) == base_sha256(lm) == expected
    merged = lm_of()
    Adapter.of(lm).merge_into(merged)
    assert sha256_of_weights([merged]) != expected == base_sha256(merged)
    assert base_sha256(lm_of(2)) != expected


def test_what_is_learned_upon_an_adapter_is_kept_with_it_for_the_same_base() -> None:
    first = Adapter.of(learned(lm_of(), 0))
    lm = lm_of()
    first.merge_into(lm)
    both = Adapter.of(learned(lm, 7, targets=("o",)))
    again = lm_of()
    both.merge_into(again)
    assert both.base_sha256 == first.base_sha256
    torch.testing.assert_close(said(again), said(lm), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (2.0, -1.0)])
def test_a_mixture_changes_weights_by_the_weighted_sum(shares: Sequence[float], tmp_path: Path) -> None:
    adapters = [Adapter.of(learned(lm_of(), 0)), Adapter.of(learned(lm_of(), 5, rank=3, targets=("q", "wi")))]
    names = [str(adapter.save_pretrained(tmp_path / f"{n}")) for n, adapter in enumerate(adapters)]
    base, models = lm_of(), [lm_of(), lm_of()]
    for adapter, model in zip(adapters, models):
        adapter.merge_into(model)
    lm = lm_of()
    read_mixed(dict(zip(names, shares))).merge_into(lm)
    for name, weight in lm.t5.named_parameters():
        own = base.t5.get_parameter(name)
        change = sum(share * (model.t5.get_parameter(name) - own) for share, model in zip(shares, models))
        torch.testing.assert_close(weight - own, change, rtol=1e-4, atol=1e-6)


# bad input


def test_an_adapter_of_another_base_is_refused_before_anything_changes() -> None:
    adapter, other = Adapter.of(learned(lm_of(), 0), base="tiny"), lm_of(2)
    before = sha256_of_weights([other])
    with pytest.raises(
        CheckpointError,
        match=rf"for a base with weights {adapter.base_sha256[:12]}\.\.\. \(tiny\), and the model's are {before[:12]}.*"
        r"\(--model\)",
    ):
        adapter.merge_into(other)
    assert sha256_of_weights([other]) == before


def test_adapters_of_different_bases_are_not_mixed() -> None:
    with pytest.raises(CheckpointError, match="of different bases cannot be mixed"):
        mixed([Adapter.of(learned(lm_of(1), 0)), Adapter.of(learned(lm_of(2), 0))], [0.5, 0.5])


def test_a_second_adapter_is_not_merged_upon_a_first() -> None:
    adapter, lm = Adapter.of(learned(lm_of(), 0)), lm_of()
    adapter.merge_into(lm)
    with pytest.raises(ConfigError, match="has an adapter merged into it already"):
        adapter.merge_into(lm)


def test_a_folder_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is no adapter: .* \(--adapter\)"):
        Adapter.from_pretrained(tmp_path / "nothing")
    folder = Adapter.of(learned(lm_of(), 0)).save_pretrained(tmp_path / "adapter")
    weights = folder / "adapter.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cut short"):
        Adapter.from_pretrained(folder)
    weights.write_bytes(whole)
    write_json(
        folder / "config.json", {k: v for k, v in read_json(folder / "config.json").items() if k != "base_sha256"}
    )
    with pytest.raises(CheckpointError, match="lacks 'base_sha256'"):
        Adapter.from_pretrained(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, r"rank=0 must be at least 1"),
        ({"alpha": 0.0}, r"alpha=0\.0 must be positive"),
        ({"alpha": float("nan")}, "alpha=nan must be positive"),
        ({"dropout": 1.0}, r"dropout=1\.0 must be in \[0, 1\)"),
        ({"targets": ()}, "targets is empty; name some of q, k, v"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LoraConfig(**settings)


def test_targets_that_a_t5_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"this T5 has no matrix of wi_0 \(--lora\.targets\)"):
        add_lora(lm_of().t5, LoraConfig(targets=("wi_0",)))


def test_what_tuning_changed_is_an_adapter_of_the_base_exact_at_full_rank_and_nearer_with_more(tmp_path: Path) -> None:
    base, tuned = lm_of(), lm_of()
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in tuned.t5.parameters():
            weight += 0.1 * torch.randn(weight.shape)
    wanted, errors = said(tuned), []
    for rank in (1, 4, 32):
        lm = lm_of()
        Adapter.between(base, tuned, rank, name="base").save_pretrained(tmp_path / str(rank))
        Adapter.from_pretrained(tmp_path / str(rank)).merge_into(lm)
        errors.append((said(lm) - wanted).abs().max().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-4
    torch.testing.assert_close(lm.t5.encoder.final_layer_norm.weight, tuned.t5.encoder.final_layer_norm.weight)


def test_an_adapter_between_models_of_other_shapes_is_refused() -> None:
    torch.manual_seed(0)
    config = LMConfig(width=32, feed_forward_width=32, encoder_layers=1, decoder_layers=1, heads=2, max_text_tokens=40)
    other = MotionLM.from_config(
        config, num_codes=32, codes_per_step=2, text_tokenizer=plain_tokenizer(["a", "person", "walks", "waves"])
    )
    with pytest.raises(CheckpointError, match="is not that of its base"):
        Adapter.between(lm_of(), other, 4)


def test_an_adapter_of_a_lower_rank_is_the_nearest_one() -> None:
    whole = Adapter.of(learned(lm_of(), 2, rank=4))
    assert whole.rank == 4 and whole.of_rank(4).factors == whole.factors
    lower = whole.of_rank(2)
    assert lower.rank == 2 and lower.base_sha256 == whole.base_sha256
    for place, (a, b) in whole.factors.items():
        change, nearest = b @ a, lower.factors[place].b @ lower.factors[place].a
        assert torch.linalg.matrix_rank(nearest) <= 2
        # Eckart and Young: what is lost are the strengths that are left out
        lost = torch.linalg.svdvals(change)[2:].square().sum().sqrt()
        torch.testing.assert_close(torch.linalg.norm(change - nearest), lost, rtol=1e-4, atol=1e-6)
