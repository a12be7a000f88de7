"""Published MotionGPT weights, and AToM's LoRA over them, become a folder that answers as they do, and go back."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_tokenizer_convert import CODES, Payload, plain_codes, published_state
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

from kinalign.cli import main
from kinalign.commands import Generate
from kinalign.convert import FromMotionGPT, ToMotionGPT, from_motiongpt, to_motiongpt
from kinalign.errors import CheckpointError
from kinalign.lm.convert import LORA_PREFIX, PREFIX, alpha_of, from_published
from kinalign.lm.convert import published_state as lm_published_state
from kinalign.lm.instructions import Instruction, Task, motion_instruction, prompt_instruction
from kinalign.lm.model import CodeAdapter, MotionLM, Sampling, sample
from kinalign.lm.vocab import HIDDEN
from kinalign.motion.synthetic import walking
from kinalign.pipeline import DEFAULT_SAMPLING, TextToMotion
from kinalign.run import read_json, write_json, write_tensors
from kinalign.tokenizer.convert import from_published as tokenizer_from_published

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 1064960000\n"
ATOL = 1e-5  # float32, two layers
RANK = 2
LOW_RANK = ("SelfAttention.q", "SelfAttention.v", "EncDecAttention.q", "EncDecAttention.v")
"""Where peft puts LoRA into a T5 when nothing is said."""


def t5_tokenizer() -> T5Tokenizer:
    """A text tokenizer that cuts and joins as T5's does, with few pieces."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [*letters, *"G.:,", *"0123456789", *(f"▁{letter}" for letter in letters), "▁Generate", "▁motion", "▁walks"]
    extra = [f"<extra_id_{number}>" for number in (3, 2, 1, 0)]
    scores = [(piece, 0.0) for piece in ("<pad>", "</s>", "<unk>")]
    scores += [("▁", -2.0), *((piece, -3.0 - len(piece) / 9) for piece in pieces), *((name, 0.0) for name in extra)]
    return T5Tokenizer(vocab=scores, extra_ids=4)


def t5_config(*, own_head: bool, **sizes: int) -> dict[str, object]:
    """config.json of a tiny flan-T5, or of the first T5, whose head is its table and whose output is scaled."""
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2} | sizes
    rest = {"vocab_size": 128, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "model_type": "t5"}
    return {
        "feed_forward_proj": "gated-gelu" if own_head else "relu",
        "tie_word_embeddings": not own_head,
        "architectures": ["T5ForConditionalGeneration"],
        "torch_dtype": "float32",
        "n_positions": 512,
        "output_past": True,
        "task_specific_params": {"summarization": {"max_length": 200, "num_beams": 4, "prefix": "summarize: "}},
        "transformers_version": "4.23.1",
        "relative_attention_num_buckets": 8,
        **shape,
        **rest,
    }


def source_of(num_tokens: int, *, own_head: bool = True) -> T5ForConditionalGeneration:
    """The T5 of a published checkpoint: transformers' own, with loud weights."""
    torch.manual_seed(3)
    t5 = T5ForConditionalGeneration(T5Config(**t5_config(own_head=own_head) | {"vocab_size": num_tokens}))
    if own_head:
        t5.config.tie_word_embeddings = False
        t5.lm_head.weight = nn.Parameter(torch.randn(num_tokens, 16))
    with torch.no_grad():
        for weight in t5.parameters():
            if weight.dim() == 2 and weight.shape[0] != num_tokens:
                weight += 0.2 * torch.randn(weight.shape)
    return t5.eval()


class Published:
    """What a user has: the checkpoint, the T5 folder and the statistics; and the model that they were written from."""

    def __init__(self, folder: Path, *, own_head: bool = True) -> None:
        self.checkpoint, self.t5, self.stats = folder / "motiongpt_s3_h3d.tar", folder / "t5", folder / "meta"
        self.stats.mkdir(parents=True)
        tokenizer = t5_tokenizer()
        tokenizer.save_pretrained(self.t5)
        (self.t5 / "spiece.model").write_bytes(POINTER)  # in git-lfs at the publisher's, and not read
        write_json(self.t5 / "config.json", t5_config(own_head=own_head))
        self.num_text = len(tokenizer)
        self.source = source_of(self.num_text + CODES + 3, own_head=own_head)
        self.state = {PREFIX + name: weight for name, weight in self.source.state_dict().items()} | published_state()
        rng = np.random.default_rng(0)
        for name, values in (("mean", rng.normal(size=263)), ("std", rng.uniform(0.1, 1, 263))):
            np.save(self.stats / f"{name}.npy", values.astype(np.float32))
        self.write()

    def write(self) -> None:
        others = {"_buffers": {}, "metrics.TM2TMetrics.count": torch.zeros(()), "datamodule.mean": torch.zeros(263)}
        torch.save({"state_dict": self.state | others, "epoch": 3}, self.checkpoint)

    def convert(self, out: Path, **options: object) -> TextToMotion:
        from_motiongpt(FromMotionGPT(self.checkpoint, self.t5, self.stats, out, **options))
        return TextToMotion.from_pretrained(out)


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return Published(tmp_path / "published")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Published, Path]:
    folder = tmp_path_factory.mktemp("convert")
    theirs = Published(folder / "published")
    theirs.convert(folder / "model")
    return theirs, folder / "model"


@torch.no_grad()
def logits_of(t5: nn.Module, num_tokens: int) -> Tensor:
    """What a T5 says (2, 9, V) of some ids, of words and of motion."""
    generator = torch.Generator().manual_seed(5)
    token_ids = torch.randint(3, num_tokens, (2, 12), generator=generator)
    is_token = torch.ones_like(token_ids)
    is_token[1, 7:] = 0
    answer = torch.randint(3, num_tokens, (2, 9), generator=generator)
    return t5(input_ids=token_ids, attention_mask=is_token, decoder_input_ids=answer).logits


# as exact as the source


@pytest.mark.parametrize("own_head", [True, False], ids=["flan-t5", "t5"])
def test_logits_are_those_of_the_source(own_head: bool, tmp_path: Path) -> None:
    published = Published(tmp_path / "published", own_head=own_head)
    lm = published.convert(tmp_path / "model").lm
    assert (lm.vocab.num_text, lm.vocab.num_codes) == (published.num_text, CODES)
    ours, theirs = (logits_of(t5, lm.vocab.size) for t5 in (lm.t5, published.source))
    assert theirs.std() > 0.1  # the source has something to say
    assert torch.allclose(ours, theirs, atol=ATOL)
    assert (lm.t5.lm_head.weight is lm.t5.shared.weight) == (not own_head)


def test_codes_are_those_of_the_source(converted: tuple[Published, Path]) -> None:
    published, folder = converted
    tokenizer = TextToMotion.from_pretrained(folder).tokenizer
    mean, std = (np.load(published.stats / f"{name}.npy") for name in ("mean", "std"))
    normalized = np.random.default_rng(1).normal(size=(80, 263))
    theirs = plain_codes(published.state, normalized)
    assert len(set(theirs)) > 3
    assert tokenizer.encode_features(normalized * std + mean).tolist() == theirs


def test_there_and_back_is_bit_for_bit(converted: tuple[Published, Path], tmp_path: Path) -> None:
    published, folder = converted
    to_motiongpt(ToMotionGPT(folder, tmp_path / "back"))
    back = torch.load(tmp_path / "back" / "motiongpt.tar", weights_only=True)["state_dict"]
    assert back.keys() == published.state.keys()
    for name, tensor in published.state.items():
        assert torch.equal(back[name], tensor), name
    for name in ("mean", "std"):
        for file in (f"{name}.npy", f"{name}_eval.npy"):
            assert np.array_equal(np.load(tmp_path / "back" / file), np.load(published.stats / f"{name}.npy"))


def test_what_went_back_is_converted_again(converted: tuple[Published, Path], tmp_path: Path) -> None:
    published, folder = converted
    back = to_motiongpt(ToMotionGPT(folder, tmp_path / "back"))
    from_motiongpt(FromMotionGPT(back, published.t5, tmp_path / "back", tmp_path / "again"))
    for part in ("lm", "tokenizer"):
        ours, theirs = (root / part / "model.safetensors" for root in (tmp_path / "again", folder))
        assert ours.read_bytes() == theirs.read_bytes()


# told and drawn from as it was


@pytest.mark.parametrize(
    ("instruction", "told"),
    [
        (prompt_instruction("a man walks.", style="motiongpt"), "Generate motion: a man walks."),
        (prompt_instruction("jump", length_s=2.0, style="motiongpt"), "Generate motion with 40 frames: jump"),
        (prompt_instruction("jump", length_s=2.0, fps=12.5, style="motiongpt"), "Generate motion with 25 frames: jump"),
        (prompt_instruction("a {caption}", style="motiongpt"), "Generate motion: a {caption}"),
        (
            motion_instruction(Task.MOTION_TO_TEXT, [3, 0, 7], style="motiongpt"),
            "Generate text: <motion_id_20><motion_id_3><motion_id_0><motion_id_7><motion_id_21>",
        ),
        (
            motion_instruction(Task.PREDICTION, [3, 4], style="motiongpt"),
            "Predict motion: <motion_id_20><motion_id_3><motion_id_4><motion_id_21>",
        ),
        (
            motion_instruction(Task.IN_BETWEEN, [3, HIDDEN, 4], style="motiongpt"),
            "Complete the masked motion: <motion_id_20><motion_id_3><motion_id_22><motion_id_4><motion_id_21>",
        ),
    ],
)
def test_the_encoder_reads_what_the_published_code_writes(
    instruction: Instruction, told: str, converted: tuple[Published, Path]
) -> None:
    """There, codes are words that are added to the text tokenizer."""
    published, folder = converted
    tokenizer = t5_tokenizer()
    tokenizer.add_tokens([f"<motion_id_{number}>" for number in range(CODES + 3)])
    token_ids = tokenizer(told, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        theirs = published.source.encoder(input_ids=token_ids).last_hidden_state
        ours, is_place = MotionLM.from_pretrained(folder / "lm").encode([instruction])
    assert is_place.all()
    assert ours.shape == theirs.shape
    assert torch.allclose(ours, theirs, atol=ATOL)


def test_the_folder_remembers_in_whose_words_its_model_is_asked(converted: tuple[Published, Path]) -> None:
    model = TextToMotion.from_pretrained(converted[1])
    assert model.lm.instruction_style == "motiongpt"
    assert model.instructions(["walk"]) == [Instruction("Generate motion: walk")]
    assert model.default_sampling == Sampling(temperature=1.0, top_p=1.0, guidance=1.0, top_k=50)
    asked = Generate(temperature=0.5).sampling(model)
    assert asked == Sampling(temperature=0.5, top_p=1.0, guidance=1.0, top_k=50)


def test_a_model_folder_that_says_nothing_of_words_is_asked_in_ours(
    converted: tuple[Published, Path], tmp_path: Path
) -> None:
    shutil.copytree(converted[1], tmp_path / "model")
    settings = read_json(tmp_path / "model" / "lm" / "config.json")
    del settings["instruction_style"]
    write_json(tmp_path / "model" / "lm" / "config.json", settings)
    model = TextToMotion.from_pretrained(tmp_path / "model")
    assert model.instructions(["walk"]) == [Instruction("walk")]
    assert model.default_sampling == DEFAULT_SAMPLING


def test_words_that_nobody_knows_are_refused(converted: tuple[Published, Path], tmp_path: Path) -> None:
    shutil.copytree(converted[1] / "lm", tmp_path / "lm")
    settings = read_json(tmp_path / "lm" / "config.json")
    write_json(tmp_path / "lm" / "config.json", settings | {"instruction_style": "pirate"})
    with pytest.raises(CheckpointError, match=r"instruction_style='pirate'; this program knows kinalign, motiongpt"):
        MotionLM.from_pretrained(tmp_path / "lm")


def test_a_converted_model_does_every_task(converted: tuple[Published, Path]) -> None:
    model = TextToMotion.from_pretrained(converted[1])
    assert len(model("a man walks", length_s=1.0)[0]) == 20
    assert isinstance(model.caption(walking(41)), str)
    assert len(model.predict(walking(41), seconds=0.8)[0]) == 40 + 16
    assert len(model.inbetween(walking(41), walking(41), seconds=0.8)[0]) == 40 + 16 + 41


def test_only_the_likeliest_are_drawn() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0]]).repeat(400, 1)
    chances = torch.rand(400, generator=torch.Generator().manual_seed(0))
    drawn = sample(logits, Sampling(temperature=1.0, top_p=1.0, top_k=2), chances)
    assert set(drawn.tolist()) == {1, 3}
    share = (drawn == 1).float().mean().item()
    assert share == pytest.approx(1 / (1 + np.exp(-1)), abs=0.06)  # 400 draws


# LoRA


def low_rank(source: T5ForConditionalGeneration) -> dict[str, tuple[Tensor, Tensor]]:
    """A (r, in) and B (out, r) for the layers that LoRA changes."""
    generator = torch.Generator().manual_seed(9)
    return {
        name: (
            torch.randn(RANK, layer.in_features, generator=generator) * 0.05,
            torch.randn(layer.out_features, RANK, generator=generator) * 0.05,
        )
        for name, layer in source.named_modules()
        if name.endswith(LOW_RANK)
    }


def atom_state(published: Published) -> dict[str, Tensor]:
    """A state dict as peft wraps the whole T5, which is what AToM publishes."""
    changes = low_rank(published.source)
    state = {}
    for name, weight in published.source.state_dict().items():
        layer = name.removesuffix(".weight")
        state[LORA_PREFIX + (f"{layer}.base_layer.weight" if layer in changes else name)] = weight
    for layer, (down, up) in changes.items():
        state[f"{LORA_PREFIX}{layer}.lora_A.default.weight"] = down
        state[f"{LORA_PREFIX}{layer}.lora_B.default.weight"] = up
    return state


def adapter_state(published: Published) -> dict[str, Tensor]:
    """The low-rank matrices alone, as peft saves them."""
    return {
        f"{LORA_PREFIX}{layer}.lora_{letter}.weight": tensor
        for layer, pair in low_rank(published.source).items()
        for letter, tensor in zip("AB", pair)
    }


def adapted(published: Published, scale: float) -> T5ForConditionalGeneration:
    """The source with LoRA beside its layers, not merged: W x + scale B A x."""
    for name, (down, up) in low_rank(published.source).items():

        def hook(_: nn.Module, inputs: tuple[Tensor], output: Tensor, down: Tensor = down, up: Tensor = up) -> Tensor:
            x = inputs[0]
            return output + scale * (x @ down.to(x).T) @ up.to(x).T

        published.source.get_submodule(name).register_forward_hook(hook)
    return published.source


def exact_logits_of(t5: nn.Module, num_tokens: int) -> Tensor:
    """Computed in float64: merged and beside, LoRA then differs by the rounding of the merged weights alone."""
    return logits_of(t5.double(), num_tokens)


def test_atoms_file_is_merged_over_the_checkpoint(published: Published, tmp_path: Path) -> None:
    torch.save(atom_state(published), tmp_path / "general_finetuned.pt")
    plain = exact_logits_of(published.source, published.num_text + CODES)
    lm = published.convert(tmp_path / "model", lora=tmp_path / "general_finetuned.pt").lm
    theirs = exact_logits_of(adapted(published, 16 / RANK), published.num_text + CODES)
    assert (theirs - plain).abs().max() > 0.1  # it changes something
    assert torch.allclose(exact_logits_of(lm.t5, published.num_text + CODES), theirs, atol=ATOL)


def test_weights_in_atoms_file_take_the_place_of_the_checkpoints(published: Published, tmp_path: Path) -> None:
    state = atom_state(published)
    state[f"{LORA_PREFIX}lm_head.weight"] = state[f"{LORA_PREFIX}lm_head.weight"] * 2
    torch.save(state, tmp_path / "general_finetuned.pt")
    lm = published.convert(tmp_path / "model", lora=tmp_path / "general_finetuned.pt").lm
    assert torch.equal(lm.t5.lm_head.weight, 2 * published.source.lm_head.weight)


@pytest.mark.parametrize(("written", "given", "alpha"), [(32, None, 32), (32, 4.0, 4), (None, None, 16)])
def test_an_adapter_alone_brings_its_alpha_or_is_given_one(
    written: int | None, given: float | None, alpha: float, published: Published, tmp_path: Path
) -> None:
    file = tmp_path / "adapter_model.safetensors"
    write_tensors(file, adapter_state(published))
    if written is not None:
        write_json(tmp_path / "adapter_config.json", {"lora_alpha": written, "r": RANK, "use_rslora": False})
    lm = published.convert(tmp_path / "model", lora=file, lora_alpha=given).lm
    theirs = exact_logits_of(adapted(published, alpha / RANK), published.num_text + CODES)
    assert torch.allclose(exact_logits_of(lm.t5, published.num_text + CODES), theirs, atol=ATOL)


def test_what_is_more_than_plain_lora_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "adapter_config.json", {"lora_alpha": 16, "use_rslora": True})
    with pytest.raises(CheckpointError, match=r"sets use_rslora; only plain LoRA"):
        alpha_of(tmp_path / "adapter_model.safetensors")


LAYER = "encoder.block.1.layer.0.SelfAttention.q"


def renamed(state: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {name.replace(old, new): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s | {f"{LORA_PREFIX}{LAYER}.lora_A.weight": torch.ones(RANK, 24)}, r"lora_A \(2, 24\) does not fit"),
        (lambda s: s | {f"{LORA_PREFIX}{LAYER}.lora_B.weight": torch.ones(24, RANK)}, r"lora_B \(24, 2\) times"),
        (lambda s: s | {f"{LORA_PREFIX}{LAYER}.lora_A.weight": torch.ones(3, 16)}, r"lora_A \(3, 16\) does not fit"),
        (
            lambda s: renamed(s, "encoder.block.1", "encoder.block.7"),
            r"changes 2 weights that this T5 does not have \(encoder\.block\.7\.layer\.0\.SelfAttention\.q\.weight,",
        ),
        (lambda s: renamed(s, "SelfAttention", "attn"), r"changes 8 weights that .*, \.\.\.\); it belongs to another"),
        (lambda s: {n: t for n, t in s.items() if "lora_A" not in n}, r"has only lora_B for .*; it is incomplete"),
        (lambda s: s | {f"{LAYER}.lora_A.other.weight": torch.ones(RANK, 16)}, "holds two adapters for encoder"),
        (lambda s: {"shared.weight": torch.ones(3, 2)}, "has no tensor lora_A or lora_B; it holds no LoRA"),
        (lambda s: s | {"shared.weight": torch.ones(3, 16)}, r"shared\.weight has shape \(3, 16\); this T5 has"),
    ],
)
def test_a_lora_file_that_does_not_fit_is_one_clear_error(
    spoil: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str, published: Published, tmp_path: Path
) -> None:
    torch.save(spoil(adapter_state(published)), tmp_path / "lora.pt")
    with pytest.raises(CheckpointError, match=rf"lora\.pt.*{message}"):
        published.convert(tmp_path / "model", lora=tmp_path / "lora.pt")
    assert not (tmp_path / "model").exists()


# what is refused


@pytest.mark.parametrize("which", ["checkpoint", "tokenizer", "lora", "safetensors"])
def test_a_git_lfs_pointer_is_named_as_one(which: str, published: Published, tmp_path: Path) -> None:
    paths = {"checkpoint": published.checkpoint, "tokenizer": published.t5 / "tokenizer.json"}
    path = paths.get(which, tmp_path / f"lora.{'pt' if which == 'lora' else which}")
    path.write_bytes(POINTER)
    options = {} if which in paths else {"lora": path}
    with pytest.raises(CheckpointError, match=rf"{path.name} is a git-lfs pointer of 1\d\d bytes.*git lfs pull"):
        published.convert(tmp_path / "model", **options)


@pytest.mark.parametrize("which", ["checkpoint", "lora"])
def test_code_in_a_pickle_is_refused_and_not_executed(which: str, published: Published, tmp_path: Path) -> None:
    state = {"state_dict": published.state, "callbacks": Payload(tmp_path / "executed")}
    path = published.checkpoint if which == "checkpoint" else tmp_path / "lora.pt"
    path.write_bytes(pickle.dumps(state))
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        published.convert(tmp_path / "model", **({"lora": path} if which == "lora" else {}))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda p: p.state.update({"vae.quantizer.codebook": torch.ones(CODES + 4, 8)}),
            r"has \d+ tokens; \d+ of the text tokenizer in .*t5, 24 codes, start, end and mask are \d+: .*codebook",
        ),
        (lambda p: p.state.pop(f"{PREFIX}shared.weight"), r"no tensor lm\.language_model\.shared\.weight; it holds no"),
        (lambda p: p.state.pop(f"{PREFIX}lm_head.weight"), r"has no tensor lm\.language_model\.lm_head\.weight"),
        (
            lambda p: p.state.pop(f"{PREFIX}decoder.block.1.layer.2.DenseReluDense.wo.weight"),
            r"1 tensors absent \(t5\.decoder\.block\.1\.layer\.2\.DenseReluDense\.wo\.weight\)",
        ),
        (lambda p: p.state.pop("vae.decoder.model.6.bias"), r"1 tensors absent \(decoder\.model\.6\.bias\)"),
        (lambda p: p.state.update({f"{PREFIX}mood.weight": torch.ones(2)}), r"1 tensors unknown \(t5\.mood\.weight\)"),
        (
            lambda p: p.state.update({f"{PREFIX}encoder.embed_tokens.weight": torch.ones(3, 16)}),
            r"encoder\.embed_tokens\.weight differs from",
        ),
        (
            lambda p: write_json(p.t5 / "config.json", t5_config(own_head=True, d_ff=48)),
            r"wi_0\.weight has shape \(32, 16\); this network needs \(48, 16\)",
        ),
        (
            lambda p: write_json(p.t5 / "config.json", t5_config(own_head=True, num_layers=3)),
            r"9 tensors absent \(t5\.encoder\.block\.2",
        ),
        (lambda p: write_json(p.t5 / "config.json", {"model_type": "gpt2"}), r"t5 holds a 'gpt2', no T5 \(--t5\)"),
        (lambda p: (p.t5 / "config.json").unlink(), r"config\.json"),
        (lambda p: (p.t5 / "tokenizer.json").unlink(), r"t5.tokenizer\.json is absent"),
        (lambda p: shutil.rmtree(p.t5), r"t5"),
        (lambda p: (p.stats / "std.npy").unlink(), r"std\.npy cannot be read"),
    ],
)
def test_what_does_not_belong_together_is_one_clear_error(
    spoil: Callable[[Published], object], message: str, published: Published, tmp_path: Path
) -> None:
    spoil(published)
    published.write()
    with pytest.raises(CheckpointError, match=message):
        published.convert(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_only_a_t5_alone_has_published_names(converted: tuple[Published, Path], tmp_path: Path) -> None:
    from test_pipeline import lm_of, tokenizer_of

    TextToMotion(lm_of(), tokenizer_of()).save_pretrained(tmp_path / "own")
    with pytest.raises(CheckpointError, match="only a T5 alone that speaks one code per step has published names"):
        to_motiongpt(ToMotionGPT(tmp_path / "own", tmp_path / "back"))
    assert not (tmp_path / "back").exists()
    lm = MotionLM.from_pretrained(converted[1] / "lm")
    lm.adapter = CodeAdapter(torch.randn(CODES, 4), 16)
    with pytest.raises(CheckpointError, match="no reader, an adapter and 1 codes per step"):
        lm_published_state(lm)


# the command


def test_the_command_line_does_both(published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(atom_state(published), tmp_path / "lora.pt")
    folders = ["--t5", str(published.t5), "--stats", str(published.stats)]
    wish = ["convert", "motiongpt", str(published.checkpoint), *folders, "--lora", str(tmp_path / "lora.pt")]
    assert main([*wish, "--out", str(tmp_path / "model")]) == 0
    assert main(["convert", "to-motiongpt", str(tmp_path / "model"), "--out", str(tmp_path / "back")]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "model"), str(tmp_path / "back" / "motiongpt.tar")]
    published.checkpoint.write_bytes(POINTER)
    assert main([*wish, "--out", str(tmp_path / "again")]) == 2
    assert "git-lfs pointer" in capsys.readouterr().err


def test_the_two_parts_of_a_checkpoint_are_the_same_model(converted: tuple[Published, Path]) -> None:
    """The parts are converted each from the whole file, and fit."""
    published, folder = converted
    names = {name: published.stats / f"{name}.npy" for name in ("mean", "std")}
    tokenizer = tokenizer_from_published(published.checkpoint, **names)
    lm = from_published(published.checkpoint, t5=published.t5, num_codes=tokenizer.num_codes)
    ours = TextToMotion(lm, tokenizer)("a man walks", seed=4)[0]
    assert np.array_equal(ours.joints, TextToMotion.from_pretrained(folder)("a man walks", seed=4)[0].joints)
