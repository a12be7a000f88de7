"""The field's evaluator from its published files, at tiny size: its numbers, and nothing executed."""

from __future__ import annotations

import math
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kinalign.errors import CheckpointError, EvaluationError, MotionError
from kinalign.evaluation.published import CLASSES, PublishedEvaluator, read_word_vectors
from kinalign.motion.features import motion_to_features
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import KIT
from kinalign.motion.synthetic import jumping, walking, waving

WORDS = ["unk", "sos", "eos", "a", "person", "walk", "slowly", "wave", "left", "hand"]
LINES = [
    "a person walks slowly.#a/DET person/NOUN walk/VERB slowly/ADV#0.0#0.0",
    "a person waves the left hand#a/DET person/NOUN wave/VERB the/DET left/ADJ hand/NOUN",
    "frob#frob/VERB",
]


def made_up_state() -> dict[str, Any]:
    """The published names at tiny widths: 6 for words, 8 and 10 hidden, 12 for texts and motions."""
    generator = torch.Generator().manual_seed(0)

    def tensors(**shapes: tuple[int, ...]) -> OrderedDict[str, Tensor]:
        names = {name.replace("__", "."): shape for name, shape in shapes.items()}
        return OrderedDict(
            (name, torch.randn(shape, generator=generator) / math.prod(shape[1:]) ** 0.5)
            for name, shape in names.items()
        )

    def sequence(row_width: int, hidden: int) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {
            "hidden": (2, 1, hidden),
            "input_emb__weight": (hidden, row_width),
            "input_emb__bias": (hidden,),
            "output_net__0__weight": (hidden, 2 * hidden),
            "output_net__0__bias": (hidden,),
            "output_net__1__weight": (hidden,),
            "output_net__1__bias": (hidden,),
            "output_net__3__weight": (12, hidden),
            "output_net__3__bias": (12,),
        }
        for way in ("", "_reverse"):
            for kind, shape in (("ih", (3 * hidden, hidden)), ("hh", (3 * hidden, hidden))):
                shapes[f"gru__weight_{kind}_l0{way}"] = shape
                shapes[f"gru__bias_{kind}_l0{way}"] = shape[:1]
        return shapes

    movement = {
        "main__0__weight": (7, 259, 4),
        "main__0__bias": (7,),
        "main__3__weight": (9, 7, 4),
        "main__3__bias": (9,),
        "out_net__weight": (9, 9),
        "out_net__bias": (9,),
    }
    return {
        "movement_encoder": tensors(**movement),
        "text_encoder": tensors(pos_emb__weight=(6, 15), pos_emb__bias=(6,), **sequence(6, 8)),
        "motion_encoder": tensors(**sequence(9, 10)),
        "epoch": 5,
    }


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """All published files."""
    rng = np.random.default_rng(0)
    torch.save(made_up_state(), tmp_path / "finest.tar")
    np.save(tmp_path / "our_vab_data.npy", rng.normal(size=(len(WORDS), 6)))
    (tmp_path / "our_vab_words.pkl").write_bytes(pickle.dumps(WORDS[::-1]))
    (tmp_path / "our_vab_idx.pkl").write_bytes(pickle.dumps({word: place for place, word in enumerate(WORDS)}))
    np.save(tmp_path / "mean.npy", rng.normal(size=263))
    np.save(tmp_path / "std.npy", rng.uniform(0.5, 2, size=263))
    return tmp_path


def load(folder: Path) -> PublishedEvaluator:
    return PublishedEvaluator.from_published(
        folder / "finest.tar", glove=folder, mean=folder / "mean.npy", std=folder / "std.npy"
    )


# an independent reading of the same weights: step by step, one sample, no packing


def gru(rows: Tensor, state: dict[str, Tensor], way: str, hidden: Tensor) -> Tensor:
    """The last state of a GRU over rows (L, W), by its equations (Cho et al. 2014, as torch documents them)."""
    weights = (state[f"gru.{kind}_l0{way}"] for kind in ("weight_ih", "bias_ih", "weight_hh", "bias_hh"))
    w_in, b_in, w_hidden, b_hidden = weights
    for row in rows:
        r_in, z_in, n_in = (w_in @ row + b_in).chunk(3)
        r_h, z_h, n_h = (w_hidden @ hidden + b_hidden).chunk(3)
        reset, update = torch.sigmoid(r_in + r_h), torch.sigmoid(z_in + z_h)
        hidden = (1 - update) * torch.tanh(n_in + reset * n_h) + update * hidden
    return hidden


def read_out(rows: Tensor, state: dict[str, Tensor]) -> Tensor:
    rows = rows @ state["input_emb.weight"].T + state["input_emb.bias"]
    forward = gru(rows, state, "", state["hidden"][0, 0])
    backward = gru(rows.flip(0), state, "_reverse", state["hidden"][1, 0])
    x = state["output_net.0.weight"] @ torch.cat((forward, backward)) + state["output_net.0.bias"]
    x = (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()
    x = F.leaky_relu(x * state["output_net.1.weight"] + state["output_net.1.bias"], 0.2)
    return state["output_net.3.weight"] @ x + state["output_net.3.bias"]


def conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(T, C) -> (T / 2, D): kernel 4, stride 2, one zero on either side."""
    padded = torch.cat((torch.zeros(1, x.shape[1]), x, torch.zeros(1, x.shape[1])))
    rows = [torch.einsum("kc,dck->d", padded[t : t + 4], weight) + bias for t in range(0, len(x), 2)]
    return F.leaky_relu(torch.stack(rows), 0.2)


def test_motions_have_the_published_embeddings(folder: Path) -> None:
    state = made_up_state()
    mean, std = np.load(folder / "mean.npy"), np.load(folder / "std.npy")
    motions = [walking(41), waving(63), jumping(1)]
    expected = []
    for motion in motions:
        rows = motion_to_features(motion)
        num_frames = len(rows) // 4 * 4
        padded = np.zeros((196, 263))
        padded[:num_frames] = (rows[:num_frames] - mean) / std
        x = torch.from_numpy(padded[:, :259]).float()
        movement = state["movement_encoder"]
        x = conv(x, movement["main.0.weight"], movement["main.0.bias"])
        x = conv(x, movement["main.3.weight"], movement["main.3.bias"])
        x = x @ movement["out_net.weight"].T + movement["out_net.bias"]
        expected.append(read_out(x[: num_frames // 4], state["motion_encoder"]))
    found = load(folder).encode_motion(motions)
    assert found.dtype == np.float32
    assert found == pytest.approx(torch.stack(expected).numpy(), abs=1e-5)


def test_texts_have_the_published_embeddings(folder: Path) -> None:
    state = made_up_state()["text_encoder"]
    vectors = np.load(folder / "our_vab_data.npy")
    tagged = [
        # word, class: special words go before their tags, and a word without a vector is "unk", which is OTHER
        [("a", "DET"), ("person", "NOUN"), ("walk", "Act_VIP"), ("slowly", "Desc_VIP")],
        [
            ("a", "DET"),
            ("person", "NOUN"),
            ("wave", "VERB"),
            ("unk", "OTHER"),
            ("left", "Loc_VIP"),
            ("hand", "Body_VIP"),
        ],
        [("unk", "OTHER")],
    ]
    classes = "VERB NOUN DET ADP NUM AUX PRON ADJ ADV Loc_VIP Body_VIP Obj_VIP Act_VIP Desc_VIP OTHER".split()
    expected = []
    for sentence in tagged:
        rows = []
        for word, tag in [("sos", "OTHER"), *sentence, ("eos", "OTHER")]:
            one_hot = F.one_hot(torch.tensor(classes.index(tag)), 15).float()
            vector = torch.from_numpy(vectors[WORDS.index(word)]).float()
            rows.append(vector + state["pos_emb.weight"] @ one_hot + state["pos_emb.bias"])
        expected.append(read_out(torch.stack(rows), state))
    assert load(folder).encode_text(LINES) == pytest.approx(torch.stack(expected).numpy(), abs=1e-5)
    assert tuple(classes) == CLASSES


def test_encoding_a_batch_equals_encoding_each(folder: Path) -> None:
    evaluator, motions = load(folder), [walking(20), walking(190), waving(61)]
    apart = np.concatenate([evaluator.encode_motion([motion]) for motion in motions])
    assert evaluator.encode_motion(motions) == pytest.approx(apart, abs=1e-6)
    apart = np.concatenate([evaluator.encode_text([line]) for line in LINES])
    assert evaluator.encode_text(LINES) == pytest.approx(apart, abs=1e-6)


def test_words_after_the_twentieth_are_not_read(folder: Path) -> None:
    evaluator, twenty = load(folder), " ".join(["walk/VERB"] * 20)
    same, longer, shorter = evaluator.encode_text(
        [f"x#{twenty}", f"x#{twenty} slowly/ADV", f"x#{twenty.removesuffix(' walk/VERB')}"]
    )
    assert same == pytest.approx(longer, abs=1e-6)
    assert not np.allclose(same, shorter)


def test_stored_features_are_read_as_they_are(folder: Path) -> None:
    evaluator, motion = load(folder), walking(60)
    rows = motion_to_features(motion)
    assert np.array_equal(evaluator.encode_features([rows]), evaluator.encode_motion([motion]))
    contacts_changed = rows.copy()
    contacts_changed[:, -4:] = 9
    assert np.array_equal(evaluator.encode_features([contacts_changed]), evaluator.encode_features([rows]))


# what is refused


class Mischief:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_code_in_the_checkpoint_is_not_run(folder: Path) -> None:
    torch.save(made_up_state() | {"opt": Mischief(folder / "made")}, folder / "finest.tar")
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        load(folder)
    assert not (folder / "made").exists()


@pytest.mark.parametrize("name", ["our_vab_words.pkl", "our_vab_idx.pkl"])
def test_code_in_the_word_list_is_not_run(folder: Path, name: str) -> None:
    (folder / name).write_bytes(pickle.dumps([Mischief(folder / "made")]))
    with pytest.raises(CheckpointError, match=f"{name} is not opened .*could run code"):
        load(folder)
    assert not (folder / "made").exists()


@pytest.mark.parametrize("name", ["our_vab_words.pkl", "our_vab_data.npy", "mean.npy", "finest.tar"])
def test_files_that_are_absent_or_cut_short_are_named(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=name):
        load(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load(folder)


def test_another_checkpoint_is_no_evaluator(folder: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}}, folder / "finest.tar")
    with pytest.raises(CheckpointError, match="should hold movement_encoder, text_encoder, motion_encoder"):
        load(folder)
    state = made_up_state()
    del state["motion_encoder"]["gru.bias_hh_l0"]
    torch.save(state, folder / "finest.tar")
    with pytest.raises(CheckpointError, match=r"motion_encoder does not fit.*absent \(gru.bias_hh_l0\)"):
        load(folder)


def test_vocabularies_that_do_not_fit_are_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"shape \(10, 6\).*\('any', 300\)"):
        read_word_vectors(folder, width=300)
    (folder / "our_vab_idx.pkl").write_bytes(pickle.dumps(dict.fromkeys(WORDS, 10)))
    with pytest.raises(CheckpointError, match="outside the 10 rows"):
        load(folder)
    (folder / "our_vab_words.pkl").write_bytes(pickle.dumps(["walk"]))
    (folder / "our_vab_idx.pkl").write_bytes(pickle.dumps({"walk": 0}))
    with pytest.raises(CheckpointError, match="no vector for unk, sos, eos"):
        load(folder)


@pytest.mark.parametrize("text", ["", "a person walks", "a person walks#", "a person walks#a person walks"])
def test_a_caption_without_tagged_words_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(EvaluationError, match="text 1 of 2 has no tagged words"):
        load(folder).encode_text([LINES[0], text])


def test_motions_that_it_cannot_read_are_refused(folder: Path) -> None:
    evaluator = load(folder)
    with pytest.raises(
        MotionError, match="motion 1 of 2 has 3 rows of features; the published evaluator reads 4 to 199"
    ):
        evaluator.encode_motion([walking(), walking(4)])
    with pytest.raises(MotionError, match="200 rows"):
        evaluator.encode_motion([walking(201)])
    with pytest.raises(MotionError, match="has 21 joints"):
        evaluator.encode_motion([Motion(np.zeros((9, 21, 3)), skeleton=KIT)])
    with pytest.raises(MotionError, match="give finite"):
        evaluator.encode_features([np.full((40, 263), np.nan, np.float32)])
    with pytest.raises(EvaluationError, match="no motion"):
        evaluator.encode_motion([])
