"""The evaluator that the field's tables come from (Guo et al., CVPR 2022), from its published files.

    text_mot_match/model/finest.tar       movement_encoder, text_encoder, motion_encoder
    glove/our_vab_words.pkl, _idx.pkl, _data.npy     word vectors (300,)
    mean.npy, std.npy                     the evaluator's own statistics, of Comp_v6_KLD01/meta

Only with these files are numbers those of papers. Nothing in them is executed: the checkpoint goes through torch's
weights-only reader, the pickled word list through one that knows plain containers and refuses all else.

Letters: B texts or motions, T frames, F features, D width of an embedding.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from kinalign.errors import CheckpointError, EvaluationError, MotionError
from kinalign.evaluation.embedding import Vectors
from kinalign.motion.features import FeatureLayout, FeatureStats, motion_to_features
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.skeleton import HUMANML3D
from kinalign.published import read_weights_only
from kinalign.run import load_strictly

ENCODERS = ("movement_encoder", "text_encoder", "motion_encoder")
FRAMES_PER_MOVEMENT = 4
MAX_FRAMES = 196
"""Motions are padded with zeros to this length before the convolutions, which see two frames into the padding."""
MAX_WORDS = 20

PARTS_OF_SPEECH = ("VERB", "NOUN", "DET", "ADP", "NUM", "AUX", "PRON", "ADJ", "ADV")
SPECIAL_WORDS = {
    "Loc_VIP": "left right clockwise counterclockwise anticlockwise forward back backward up down straight curve",
    "Body_VIP": "arm chin foot feet face hand mouth leg waist eye knee shoulder thigh",
    "Obj_VIP": "stair dumbbell chair window floor car ball handrail baseball basketball",
    "Act_VIP": "walk run swing pick bring kick put squat throw hop dance jump turn stumble stop sit lift lower raise "
    "wash stand kneel stroll rub bend balance flap jog shuffle lean rotate spin spread climb",
    "Desc_VIP": "slowly carefully fast careful slow quickly happy angry sad happily angrily sadly",
}
"""Words that are a class of their own whatever part of speech they are tagged with."""
OTHER = "OTHER"
CLASSES = (*PARTS_OF_SPEECH, *SPECIAL_WORDS, OTHER)
_SPECIAL_CLASS = {word: name for name, words in SPECIAL_WORDS.items() for word in words.split()}


class MovementEncoder(nn.Module):
    """Features without contacts (B, T, F - 4) to movements (B, T / 4, D): two convolutions that halve time."""

    def __init__(self, feature_width: int, hidden: int, width: int) -> None:
        super().__init__()
        self.feature_width = feature_width
        self.main = nn.Sequential(
            nn.Conv1d(feature_width, hidden, 4, 2, 1),
            nn.Dropout(0.2),
            nn.LeakyReLU(0.2),
            nn.Conv1d(hidden, width, 4, 2, 1),
            nn.Dropout(0.2),
            nn.LeakyReLU(0.2),
        )
        self.out_net = nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        return self.out_net(self.main(features.mT).mT)


class SequenceEncoder(nn.Module):
    """Rows (B, L, W), the first `lengths` of each real, to embeddings (B, D): a GRU both ways from a learned state."""

    def __init__(self, row_width: int, hidden: int, width: int) -> None:
        super().__init__()
        self.input_emb = nn.Linear(row_width, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.output_net = nn.Sequential(
            nn.Linear(2 * hidden, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, width)
        )
        self.hidden = nn.Parameter(torch.zeros(2, 1, hidden))

    def forward(self, rows: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.input_emb(rows), lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, last = self.gru(packed, self.hidden.repeat(1, len(rows), 1))
        return self.output_net(torch.cat((last[0], last[1]), dim=-1))


class TextEncoder(SequenceEncoder):
    """Word vectors (B, L, W) and classes of words (B, L, 15), one-hot, to embeddings."""

    def __init__(self, word_width: int, num_classes: int, hidden: int, width: int) -> None:
        super().__init__(word_width, hidden, width)
        self.pos_emb = nn.Linear(num_classes, word_width)

    def embed(self, words: Tensor, classes: Tensor, lengths: Tensor) -> Tensor:
        return self(words + self.pos_emb(classes), lengths)


class PublishedEvaluator:
    """Captions with tagged words and motions to the published embeddings (N, D); compare them by distance.

    They are no unit vectors. `word_vectors` holds "unk", "sos" and "eos" too; `stats` are the evaluator's own.
    """

    def __init__(
        self,
        encoders: tuple[MovementEncoder, TextEncoder, SequenceEncoder],
        word_vectors: Mapping[str, NDArray[np.float32]],
        stats: FeatureStats,
    ) -> None:
        movement, text, motion = encoders
        self.movement, self.text, self.motion = movement.eval(), text.eval(), motion.eval()
        self.word_vectors, self.stats = word_vectors, stats

    @staticmethod
    def from_published(
        checkpoint: str | Path, *, glove: str | Path, mean: str | Path, std: str | Path
    ) -> PublishedEvaluator:
        """From finest.tar, the folder with the word vectors, and mean.npy and std.npy.

        Sizes are told by the tensors. Raises CheckpointError that names what is absent, damaged or does not fit.
        """
        path = Path(checkpoint)
        content = read_weights_only(path)
        if not isinstance(content, dict) or any(not isinstance(content.get(name), dict) for name in ENCODERS):
            raise CheckpointError(f"{path} is no published evaluator: it should hold {', '.join(ENCODERS)}")
        movement, text, motion = (content[name] for name in ENCODERS)
        try:
            hidden, feature_width, _ = movement["main.0.weight"].shape
            movements = len(movement["main.3.weight"])
            text_width, motion_width = len(text["output_net.3.weight"]), len(motion["output_net.3.weight"])
            word_width, num_classes = text["pos_emb.weight"].shape
            text_hidden, motion_hidden = len(text["input_emb.weight"]), len(motion["input_emb.weight"])
        except (KeyError, AttributeError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is no published evaluator: {error}") from error
        if num_classes != len(CLASSES):
            raise CheckpointError(
                f"{path} knows {num_classes} classes of words; the published one knows {len(CLASSES)}"
            )
        encoders = (
            MovementEncoder(feature_width, hidden, movements),
            TextEncoder(word_width, num_classes, text_hidden, text_width),
            SequenceEncoder(movements, motion_hidden, motion_width),
        )
        for encoder, name in zip(encoders, ENCODERS):
            load_strictly(encoder, content[name], origin=f"{path}, {name}")
        contacts = FeatureLayout(HUMANML3D.num_joints).widths["foot_contacts"]
        stats = FeatureStats(*(_array(place, (feature_width + contacts,)) for place in (mean, std)))
        if not (stats.std > 0).all():
            raise CheckpointError(f"{std} holds a standard deviation that is not positive; it is damaged")
        return PublishedEvaluator(encoders, read_word_vectors(glove, width=word_width), stats)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Vectors:
        """Vectors (N, D) of lines of HumanML3D's texts: "a man walks#a/DET man/NOUN walk/VERB", more # or none.

        As published, words after the 20th are not read. Raises EvaluationError for a caption without tagged words.
        """
        if not texts:
            raise EvaluationError("there is no text to encode; give one text or more")
        sentences = [self._words(text, place, len(texts)) for place, text in enumerate(texts)]
        words = pad_sequence([torch.from_numpy(vectors) for vectors, _ in sentences], batch_first=True)
        classes = pad_sequence([torch.from_numpy(one_hot) for _, one_hot in sentences], batch_first=True)
        lengths = torch.tensor([len(vectors) for vectors, _ in sentences])
        return np.asarray(self.text.embed(words, classes, lengths).numpy())

    def encode_motion(self, motions: Sequence[Motion]) -> Vectors:
        """Vectors (N, D) of motions of 22 joints in metres, read at 20 fps.

        A motion of T frames has T - 1 rows of features; where a data set stores the rows, `encode_features` reads them,
        and only it reads KIT-ML's, which are in millimetres. Raises MotionError for another skeleton.
        """
        for place, motion in enumerate(motions):
            if motion.skeleton.num_joints != HUMANML3D.num_joints:
                raise MotionError(
                    f"motion {place} of {len(motions)} has {motion.skeleton.num_joints} joints; the published one "
                    f"of HumanML3D reads {HUMANML3D.num_joints} (for KIT-ML give its rows to encode_features)"
                )
        return self.encode_features(
            [motion_to_features(motion.resample(FPS), heading="published") for motion in motions]
        )

    @torch.no_grad()
    def encode_features(self, features: Sequence[NDArray[np.float32]]) -> Vectors:
        """Vectors (N, D) of features (T, F), not normalised, of 4 to 199 frames: new_joint_vecs as it is.

        As published, frames that fill no group of 4 are left out; unlike there, no further group is left out by lot.
        Raises MotionError for other lengths and widths.
        """
        if not features:
            raise EvaluationError("there is no motion to encode; give one motion or more")
        width = len(self.stats.mean)
        batch, lengths = torch.zeros(len(features), MAX_FRAMES, width), []
        for place, rows in enumerate(features):
            num_frames = len(rows) // FRAMES_PER_MOVEMENT * FRAMES_PER_MOVEMENT
            if rows.ndim != 2 or rows.shape[1] != width or not np.isfinite(rows).all():
                raise MotionError(
                    f"motion {place} of {len(features)} has features {rows.shape}; give finite (T, {width})"
                )
            if not FRAMES_PER_MOVEMENT <= num_frames <= MAX_FRAMES:
                raise MotionError(
                    f"motion {place} of {len(features)} has {len(rows)} rows of features; the published evaluator "
                    f"reads {FRAMES_PER_MOVEMENT} to {MAX_FRAMES + FRAMES_PER_MOVEMENT - 1}: cut it"
                )
            batch[place, :num_frames] = torch.from_numpy(self.stats.normalize(rows[:num_frames]))
            lengths.append(num_frames // FRAMES_PER_MOVEMENT)
        seen = self.movement.feature_width  # contacts, which stand last, are not looked at
        return np.asarray(self.motion(self.movement(batch[..., :seen]), torch.tensor(lengths)).numpy())

    def _words(self, text: str, place: int, num: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vectors (L, W) of a caption's words between sos and eos, and their classes (L, 15)."""
        tagged = text.split("#")[1].split() if "#" in text else []
        if not tagged or not all("/" in token for token in tagged):
            raise EvaluationError(
                f"text {place} of {num} has no tagged words: {text!r}; the published evaluator reads lines of "
                "HumanML3D's texts, such as a man walks#a/DET man/NOUN walk/VERB"
            )
        vectors, one_hot = [], []
        for token in (f"sos/{OTHER}", *tagged[:MAX_WORDS], f"eos/{OTHER}"):
            word, _, tag = token.rpartition("/")
            if word not in self.word_vectors:
                word, tag = "unk", OTHER
            name = _SPECIAL_CLASS.get(word, tag)
            vectors.append(self.word_vectors[word])
            one_hot.append(np.eye(len(CLASSES), dtype=np.float32)[CLASSES.index(name if name in CLASSES else OTHER)])
        return np.stack(vectors), np.stack(one_hot)


def read_word_vectors(folder: str | Path, *, width: int) -> dict[str, NDArray[np.float32]]:
    """Word -> vector (width,), from our_vab_words.pkl, our_vab_idx.pkl and our_vab_data.npy; executes nothing.

    Raises CheckpointError for files that are absent, damaged, do not fit each other or hold more than words.
    """
    folder = Path(folder)
    words = _read_plain_pickle(folder / "our_vab_words.pkl")
    places = _read_plain_pickle(folder / "our_vab_idx.pkl")
    is_list = isinstance(words, (list, tuple)) and all(isinstance(word, str) for word in words)
    if not is_list or not isinstance(places, dict) or not set(words) <= set(places):
        raise CheckpointError(f"{folder}: our_vab_words.pkl should be a list of words and our_vab_idx.pkl their places")
    vectors = _array(folder / "our_vab_data.npy", (None, width))
    if any(not (isinstance(places[word], int) and 0 <= places[word] < len(vectors)) for word in words):
        raise CheckpointError(
            f"{folder}: a place in our_vab_idx.pkl is outside the {len(vectors)} rows of our_vab_data.npy"
        )
    if absent := [word for word in ("unk", "sos", "eos") if word not in words]:
        raise CheckpointError(f"{folder} has no vector for {', '.join(absent)}; it is not the evaluator's vocabulary")
    return {word: vectors[places[word]] for word in words}


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, dicts, text and numbers; whatever would import or call anything is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _read_plain_pickle(path: Path) -> Any:
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); it is absent") from error
    except Exception as error:  # damaged bytes lead to anything
        raise CheckpointError(
            f"{path} is not opened ({error}): it is damaged, or holds more than words, and reading that could run code"
        ) from error


def _array(path: str | Path, shape: tuple[int | None, ...]) -> NDArray[np.float32]:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CheckpointError(f"{path} cannot be read as an array ({error})") from error
    fits = values.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, values.shape))
    if not fits or not np.isfinite(values).all():
        wanted = tuple("any" if n is None else n for n in shape)
        raise CheckpointError(f"{path} has shape {values.shape}; this evaluator needs finite numbers of shape {wanted}")
    return np.asarray(values, dtype=np.float32)
