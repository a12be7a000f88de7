"""The evaluator that the field's tables come from (Guo et al., CVPR 2022), from its published files.

    text_mot_match/model/finest.tar       movement_encoder, text_encoder, motion_encoder
    glove/our_vab_words.pkl, _idx.pkl, _data.npy     word vectors (300,)
    Comp_v6_KLD01/meta/mean.npy, std.npy  the evaluator's own statistics; of KIT-ML's evaluator in Comp_v6_KLD005/meta

Only with these files are numbers those of papers. Nothing in them is executed: the checkpoint goes through torch's
weights-only reader, the pickled word list through one that knows plain containers and refuses all else.

It reads words with their parts of speech, which stand in texts/ of HumanML3D and KIT-ML. Other sentences, such as the
captions of a model, papers tag with spaCy; here every word gets the part of speech that it mostly has in texts/.

Letters: B texts or motions, T frames, F features, D width of an embedding.
"""

from __future__ import annotations

import io
import pickle
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from kinalign.data.humanml3d import flavour_of
from kinalign.errors import CheckpointError, EvaluationError, MotionError
from kinalign.evaluation.captions import base_words
from kinalign.evaluation.embedding import Vectors
from kinalign.motion.features import FeatureLayout, FeatureStats, motion_to_features
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, skeleton_for
from kinalign.published import read_weights_only
from kinalign.run import load_strictly

ENCODERS = ("movement_encoder", "text_encoder", "motion_encoder")
FRAMES_PER_MOVEMENT = 4
MAX_FRAMES = 196
"""Motions are padded with zeros to this length before the convolutions, which see two frames into the padding."""
MAX_WORDS = 20
AT_ONCE = 64
"""What goes through the networks together."""
NUM_CONTACTS = FeatureLayout(HUMANML3D.num_joints).widths["foot_contacts"]

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

GLOVE = ("our_vab_words.pkl", "our_vab_idx.pkl", "our_vab_data.npy")
FILES: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("text_mot_match/model/finest.tar",), ("finest.tar",)),
    (tuple(f"glove/{name}" for name in GLOVE), GLOVE),
    (
        ("Comp_v6_KLD01/meta/mean.npy", "Comp_v6_KLD01/meta/std.npy"),
        ("Comp_v6_KLD005/meta/mean.npy", "Comp_v6_KLD005/meta/std.npy"),
        ("mean_eval.npy", "std_eval.npy"),  # beside those that a model was trained with
        ("mean.npy", "std.npy"),
    ),
)
"""Checkpoint, words and statistics: where each may lie in a folder, as published first."""


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


class PublishedFiles(NamedTuple):
    """Where the files of a published evaluator lie."""

    checkpoint: Path
    glove: Path
    mean: Path
    std: Path

    @staticmethod
    def in_folder(folder: str | Path) -> PublishedFiles | None:
        """Those of a folder, as published or all side by side; None where there is none of them.

        Raises CheckpointError that names every absent one where there are some.
        """
        folder = Path(folder)
        lacks, found = [], []
        for places in FILES:
            files = next((one for one in places if all((folder / name).is_file() for name in one)), None)
            lacks += [] if files else [name for name in places[0] if not (folder / name).is_file()]
            found += [folder / name for name in files or ()]
        if not found and not any((folder / name).exists() for places in FILES for one in places for name in one):
            return None
        if lacks:
            raise CheckpointError(
                f"{folder} lacks {', '.join(lacks)} of the published evaluator; copy the whole folder that holds "
                "text_mot_match, with glove/ in it (--encoder)"
            )
        checkpoint, words, _, _, mean, std = found
        return PublishedFiles(checkpoint, words.parent, mean, std)


class PublishedEvaluator(nn.Module):
    """Captions with tagged words and motions to the published embeddings (N, D); compare them by distance.

    They are no unit vectors. `word_vectors` holds "unk", "sos" and "eos" too; `stats` are the evaluator's own; `tagged`
    are the words with parts of speech of known captions, "a/DET man/NOUN walk/VERB", from which others are tagged.
    """

    mean: Tensor
    std: Tensor
    vectors: Tensor

    def __init__(
        self,
        encoders: tuple[MovementEncoder, TextEncoder, SequenceEncoder],
        word_vectors: Mapping[str, NDArray[np.float32]],
        stats: FeatureStats,
        tagged: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.movement, self.text, self.motion = encoders
        self.stats, self.tagged = stats, tagged or {}
        self.skeleton = skeleton_for(FeatureLayout.of_width(len(stats.mean)).num_joints)
        self._place = {word: place for place, word in enumerate(word_vectors)}
        # buffers, so that whoever hashes the weights hashes these too
        self.register_buffer("vectors", torch.from_numpy(np.stack(list(word_vectors.values()))))
        self.register_buffer("mean", torch.from_numpy(stats.mean))
        self.register_buffer("std", torch.from_numpy(stats.std))
        self.eval()

    @staticmethod
    def from_pretrained(folder: str | Path, *, tagged: Mapping[str, str] | None = None) -> PublishedEvaluator:
        """From a folder of published files; raises CheckpointError that names what is absent, damaged or no fit."""
        files = PublishedFiles.in_folder(folder)
        if files is None:
            raise CheckpointError(f"{folder} holds no published evaluator: {FILES[0][0][0]} and the rest are absent")
        checkpoint, glove, mean, std = files
        return PublishedEvaluator.from_published(checkpoint, glove=glove, mean=mean, std=std, tagged=tagged)

    @staticmethod
    def from_published(
        checkpoint: str | Path,
        *,
        glove: str | Path,
        mean: str | Path,
        std: str | Path,
        tagged: Mapping[str, str] | None = None,
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
            width = FeatureLayout.of_width(feature_width + NUM_CONTACTS).width
        except (KeyError, AttributeError, ValueError, TypeError, MotionError) as error:
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
        stats = FeatureStats(*(_array(place, (width,)) for place in (mean, std)))
        if not (stats.std > 0).all():
            raise CheckpointError(f"{std} holds a standard deviation that is not positive; it is damaged")
        return PublishedEvaluator(encoders, read_word_vectors(glove, width=word_width), stats, tagged)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Vectors:
        """Vectors (N, D) of known captions, of others tagged word by word, and of lines of HumanML3D's texts.

        A line is "a man walks#a/DET man/NOUN walk/VERB", more # or none. As published, words after the 20th are not
        read. Raises EvaluationError for a caption that has no tagged words where none are known.
        """
        if not texts:
            raise EvaluationError("there is no text to encode; give one text or more")
        sentences = [self._words(text, place, len(texts)) for place, text in enumerate(texts)]
        embedded = []
        for start in range(0, len(sentences), AT_ONCE):
            part = sentences[start : start + AT_ONCE]
            words = pad_sequence([self.vectors[rows] for rows, _ in part], batch_first=True)
            classes = pad_sequence([torch.eye(len(CLASSES))[kinds] for _, kinds in part], batch_first=True)
            embedded.append(self.text.embed(words, classes, torch.tensor([len(rows) for rows, _ in part])))
        return np.asarray(torch.cat(embedded).numpy())

    def encode_motion(self, motions: Sequence[Motion]) -> Vectors:
        """Vectors (N, D) of motions in metres on the evaluator's skeleton, read at its frame rate.

        The last frame has no next one, which features need; a movement that goes on as it was stands in for it, so that
        T frames are T rows, as in data sets. KIT-ML's evaluator reads millimetres. Raises MotionError for another
        skeleton.
        """
        rows = []
        for place, motion in enumerate(motions):
            skeleton = motion.skeleton
            if skeleton.num_joints != self.skeleton.num_joints:
                raise MotionError(
                    f"motion {place} of {len(motions)} has {skeleton.num_joints} joints ({skeleton.name!r}); this "
                    f"published evaluator reads {self.skeleton.num_joints} ({self.skeleton.name!r}) (--encoder)"
                )
            if len(motion) < 2:
                raise MotionError(f"motion {place} of {len(motions)} has {len(motion)} frames; give 2 or more")
            joints = motion.resample(self.skeleton.fps).joints.astype(np.float64)
            joints = np.concatenate((joints, 2 * joints[-1:] - joints[-2:-1])) / flavour_of(skeleton).metres_per_unit
            rows.append(motion_to_features(joints, heading="published"))
        return self.encode_features(rows)

    @torch.no_grad()
    def encode_features(self, features: Sequence[NDArray[np.float32]]) -> Vectors:
        """Vectors (N, D) of features (T, F), not normalised, of 4 to 199 frames: new_joint_vecs as it is.

        As published, frames that fill no group of 4 are left out; unlike there, no further group is left out by lot.
        Raises MotionError for other lengths and widths.
        """
        if not features:
            raise EvaluationError("there is no motion to encode; give one motion or more")
        for place, rows in enumerate(features):
            num_frames = len(rows) // FRAMES_PER_MOVEMENT * FRAMES_PER_MOVEMENT
            if rows.ndim != 2 or rows.shape[1] != len(self.mean) or not np.isfinite(rows).all():
                raise MotionError(
                    f"motion {place} of {len(features)} has features {rows.shape}; give finite (T, {len(self.mean)})"
                )
            if not FRAMES_PER_MOVEMENT <= num_frames <= MAX_FRAMES:
                raise MotionError(
                    f"motion {place} of {len(features)} has {len(rows)} rows of features; the published evaluator "
                    f"reads {FRAMES_PER_MOVEMENT} to {MAX_FRAMES + FRAMES_PER_MOVEMENT - 1}: cut it"
                )
        seen = self.movement.feature_width  # contacts, which stand last, are not looked at
        embedded = []
        for start in range(0, len(features), AT_ONCE):
            part = features[start : start + AT_ONCE]
            batch = torch.zeros(len(part), MAX_FRAMES, len(self.mean))
            lengths = torch.tensor([len(rows) // FRAMES_PER_MOVEMENT for rows in part])
            for line, (rows, length) in enumerate(zip(part, (lengths * FRAMES_PER_MOVEMENT).tolist())):
                batch[line, :length] = torch.from_numpy(self.stats.normalize(rows[:length]))
            embedded.append(self.motion(self.movement(batch[..., :seen]), lengths))
        return np.asarray(torch.cat(embedded).numpy())

    @cached_property
    def _usual_class(self) -> dict[str, str]:
        """Word -> the part of speech that it mostly has in the known captions."""
        seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for tagged in self.tagged.values():
            for word, tag in _split(tagged):
                seen[word][tag] += 1
        return {word: tags.most_common(1)[0][0] for word, tags in seen.items()}

    def _words(self, text: str, place: int, num: int) -> tuple[list[int], list[int]]:
        """Rows of a caption's words in the table of vectors, between sos and eos, and their classes."""
        line = text.split("#")[1] if "#" in text else self.tagged.get(text, "")
        tagged = list(_split(line)) if all("/" in token for token in line.split()) else []
        usual = self._usual_class
        if not tagged and usual:
            tagged = [(word, usual.get(word, OTHER)) for word in base_words(text)]
        elif not tagged:
            raise EvaluationError(
                f"text {place} of {num} has no tagged words: {text!r}; the published evaluator reads lines of "
                "HumanML3D's texts, such as a man walks#a/DET man/NOUN walk/VERB"
            )
        rows, classes = [], []
        for word, tag in (("sos", OTHER), *tagged[:MAX_WORDS], ("eos", OTHER)):
            if word not in self._place:
                word, tag = "unk", OTHER
            name = _SPECIAL_CLASS.get(word, tag)
            rows.append(self._place[word])
            classes.append(CLASSES.index(name if name in CLASSES else OTHER))
        return rows, classes


def _split(tagged: str) -> Iterable[tuple[str, str]]:
    """ "a/DET man/NOUN" as words and tags."""
    for token in tagged.split():
        word, _, tag = token.rpartition("/")
        yield word, tag


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
