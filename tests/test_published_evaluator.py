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
from test_humanml3d import walk
from torch import Tensor

from kinalign.data.records import data_root
from kinalign.errors import CheckpointError, DataError, EvaluationError, MotionError
from kinalign.evaluation.published import CLASSES, PublishedEvaluator, PublishedFiles, read_word_vectors
from kinalign.motion.features import motion_to_features
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import KIT
from kinalign.motion.synthetic import jumping, walking, waving
from kinalign.run import sha256_of_weights

WORDS = ["unk", "sos", "eos", "a", "person", "walk", "slowly", "wave", "left", "hand"]
LINES = [
    "a person walks slowly.#a/DET person/NOUN walk/VERB slowly/ADV#0.0#0.0",
    "a person waves the left hand#a/DET person/NOUN wave/VERB the/DET left/ADJ hand/NOUN",
    "frob#frob/VERB",
]


def made_up_state(feature_width: int = 263) -> dict[str, Any]:
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
        "main__0__weight": (7, feature_width - 4, 4),
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


def write_published(root: Path, *, feature_width: int = 263, unit_m: float = 1.0, **places: str) -> Path:
    """All published files, in the folders of the release or elsewhere."""
    where = {"weights": "text_mot_match/model", "glove": "glove", "meta": "Comp_v6_KLD01/meta"} | places
    weights, glove, meta = (root / where[name] for name in ("weights", "glove", "meta"))
    for folder in (weights, glove, meta):
        folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    torch.save(made_up_state(feature_width), weights / "finest.tar")
    np.save(glove / "our_vab_data.npy", rng.normal(size=(len(WORDS), 6)))
    (glove / "our_vab_words.pkl").write_bytes(pickle.dumps(WORDS[::-1]))
    (glove / "our_vab_idx.pkl").write_bytes(pickle.dumps({word: place for place, word in enumerate(WORDS)}))
    np.save(meta / "mean.npy", rng.normal(size=feature_width) / unit_m)
    np.save(meta / "std.npy", rng.uniform(0.5, 2, size=feature_width) / unit_m)
    return root


FLAT = {"weights": ".", "glove": ".", "meta": "."}


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """All published files, side by side."""
    return write_published(tmp_path, **FLAT)


def load(folder: Path) -> PublishedEvaluator:
    return PublishedEvaluator.from_pretrained(folder)


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


def test_rows_have_the_published_embeddings(folder: Path) -> None:
    state = made_up_state()
    mean, std = np.load(folder / "mean.npy"), np.load(folder / "std.npy")
    stored = [motion_to_features(motion) for motion in (walking(41), waving(63), jumping(1))]
    expected = []
    for rows in stored:
        num_frames = len(rows) // 4 * 4
        padded = np.zeros((196, 263))
        padded[:num_frames] = (rows[:num_frames] - mean) / std
        x = torch.from_numpy(padded[:, :259]).float()
        movement = state["movement_encoder"]
        x = conv(x, movement["main.0.weight"], movement["main.0.bias"])
        x = conv(x, movement["main.3.weight"], movement["main.3.bias"])
        x = x @ movement["out_net.weight"].T + movement["out_net.bias"]
        expected.append(read_out(x[: num_frames // 4], state["motion_encoder"]))
    found = load(folder).encode_features(stored)
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


def test_contacts_are_not_looked_at(folder: Path) -> None:
    evaluator, rows = load(folder), motion_to_features(walking(61))
    contacts_changed = rows.copy()
    contacts_changed[:, -4:] = 9
    assert np.array_equal(evaluator.encode_features([contacts_changed]), evaluator.encode_features([rows]))


def test_a_motion_has_as_many_rows_as_frames(folder: Path) -> None:
    evaluator = load(folder)
    # rows of the same 60 frames, whose last velocities are known, and of one movement of 4 frames less
    rows = motion_to_features(walking(61))
    found = evaluator.encode_motion([walking(61)[:60]])
    off, off_without = (np.linalg.norm(found - evaluator.encode_features([some])) for some in (rows, rows[:59]))
    assert off < 0.05 * off_without


def test_joints_of_a_data_set_are_embedded_as_its_rows_are(folder: Path) -> None:
    try:
        path = data_root().parent / "golden" / "humanml3d_features.npz"
    except DataError:
        path = Path("golden")
    if not path.is_file():
        pytest.skip(f"the golden features are not here ({path.name})")
    golden = np.load(path)
    evaluator, ids = load(folder), sorted({name.split("/")[0] for name in golden.files if "/" in name})
    rows = [golden[f"{clip}/features"] for clip in ids]
    joints = [Motion(golden[f"{clip}/recovered"]) for clip in ids]
    of_rows, of_joints = evaluator.encode_features(rows), evaluator.encode_motion(joints)
    apart = np.linalg.norm(of_rows[0] - of_rows[1])
    # the heading is smoothed once more, over the end of the clip too
    assert np.linalg.norm(of_rows - of_joints, axis=1).max() < 0.01 * apart


def test_kit_is_read_in_millimetres_at_its_own_rate(tmp_path: Path) -> None:
    evaluator = load(write_published(tmp_path, feature_width=251, unit_m=0.001))
    assert evaluator.skeleton is KIT
    metres = walk(KIT, 61)
    in_millimetres = motion_to_features(metres * 1000.0)
    motion = Motion(metres[:60], fps=12.5, skeleton=KIT)
    assert evaluator.encode_motion([motion]) == pytest.approx(evaluator.encode_features([in_millimetres]), abs=1e-3)
    faster = motion.resample(25)
    assert evaluator.encode_motion([faster]) == pytest.approx(evaluator.encode_motion([motion]), abs=1e-3)
    with pytest.raises(MotionError, match=r"motion 0 of 1 has 22 joints .*this published evaluator reads 21"):
        evaluator.encode_motion([walking()])


def test_more_than_a_batch_is_embedded_as_each_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, motions = load(folder), [walking(20 + 3 * number) for number in range(7)]
    texts = [LINES[number % 3] for number in range(7)]
    together = evaluator.encode_motion(motions), evaluator.encode_text(texts)
    monkeypatch.setattr("kinalign.evaluation.published.AT_ONCE", 3)
    assert evaluator.encode_motion(motions) == pytest.approx(together[0], abs=1e-6)
    assert evaluator.encode_text(texts) == pytest.approx(together[1], abs=1e-6)


# sentences without parts of speech


TAGGED = {
    "A person walks slowly.": "a/DET person/NOUN walk/VERB slowly/ADV",
    "a person, left": "a/DET person/NOUN left/ADJ",
    "a wave": "a/DET wave/NOUN",
    "they wave, they wave!": "they/PRON wave/VERB they/PRON wave/VERB",
}


def test_a_caption_of_the_data_is_read_with_its_own_tags(folder: Path) -> None:
    evaluator = PublishedEvaluator.from_pretrained(folder, tagged=TAGGED)
    lines = [f"{caption}#{tagged}" for caption, tagged in TAGGED.items()]
    assert np.array_equal(evaluator.encode_text(list(TAGGED)), evaluator.encode_text(lines))


def test_another_sentence_is_tagged_as_its_words_mostly_are(folder: Path) -> None:
    evaluator = PublishedEvaluator.from_pretrained(folder, tagged=TAGGED)
    # wave is a verb twice and a noun once; frob is no word at all
    ours, theirs = evaluator.encode_text(["Persons waved; a frob", "#person/NOUN wave/VERB a/DET frob/OTHER"])
    assert np.array_equal(ours, theirs)
    # what a model says may hold anything
    assert evaluator.encode_text(["persons # waved; a frob"])[0] == pytest.approx(ours, abs=1e-6)
    otherwise = evaluator.encode_text(["#person/NOUN wave/NOUN a/DET frob/OTHER"])[0]
    assert not np.allclose(ours, otherwise, atol=1e-3)


# files in folders


@pytest.mark.parametrize(
    "places",
    [{}, FLAT, {"meta": "Comp_v6_KLD005/meta"}, {"meta": "."}, {"weights": "."}],
    ids=["published", "flat", "kit's statistics", "statistics above", "weights above"],
)
def test_files_are_found_where_people_have_them(places: dict[str, str], tmp_path: Path, folder: Path) -> None:
    other = load(write_published(tmp_path / "other", **places))
    assert np.array_equal(other.encode_text(LINES), load(folder).encode_text(LINES))


def test_the_statistics_of_the_evaluator_go_before_a_models(folder: Path) -> None:
    (folder / "mean.npy").rename(folder / "mean_eval.npy")
    (folder / "std.npy").rename(folder / "std_eval.npy")
    before = load(folder)
    for name in ("mean.npy", "std.npy"):
        np.save(folder / name, np.full(263, 9.0))
    assert np.array_equal(load(folder).stats.mean, before.stats.mean)


@pytest.mark.parametrize("name", ["weights", "words", "statistics"])
def test_a_half_folder_names_what_it_lacks(name: str, tmp_path: Path) -> None:
    root = write_published(tmp_path)
    absent = {
        "weights": ["text_mot_match/model/finest.tar"],
        "words": ["glove/our_vab_idx.pkl"],
        "statistics": ["Comp_v6_KLD01/meta/std.npy"],
    }[name]
    for file in absent:
        (root / file).unlink()
    with pytest.raises(CheckpointError, match=f"{root} lacks {', '.join(absent)} of the published evaluator"):
        load(root)


def test_a_folder_of_something_else_is_not_taken_for_one(tmp_path: Path) -> None:
    assert PublishedFiles.in_folder(tmp_path) is None
    with pytest.raises(CheckpointError, match="holds no published evaluator"):
        load(tmp_path)


def test_the_hash_knows_weights_words_and_statistics(folder: Path) -> None:
    before = sha256_of_weights([load(folder)])
    assert sha256_of_weights([load(folder)]) == before
    for name in ("our_vab_data.npy", "std.npy"):
        values = np.load(folder / name)
        np.save(folder / name, values + 0.5)
        after = sha256_of_weights([load(folder)])
        assert after != before
        before = after


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
        PublishedEvaluator.from_published(
            folder / "finest.tar", glove=folder, mean=folder / "mean.npy", std=folder / "std.npy"
        )


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
        evaluator.encode_motion([walking(), walking(3)])
    with pytest.raises(MotionError, match="200 rows"):
        evaluator.encode_motion([walking(200)])
    with pytest.raises(MotionError, match="motion 0 of 1 has 1 frames"):
        evaluator.encode_motion([walking(1)])
    with pytest.raises(MotionError, match="has 21 joints"):
        evaluator.encode_motion([Motion(np.zeros((9, 21, 3)), skeleton=KIT)])
    with pytest.raises(MotionError, match="give finite"):
        evaluator.encode_features([np.full((40, 263), np.nan, np.float32)])
    with pytest.raises(EvaluationError, match="no motion"):
        evaluator.encode_motion([])
