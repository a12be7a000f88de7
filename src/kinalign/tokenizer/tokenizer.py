"""MotionTokenizer: a Motion to codes and back. Network, statistics, skeleton and heading in one folder.

Codes of a motion are one row of integers in time order. With Q codes per step the row is interleaved, and code q of a
step lies in [q K, (q + 1) K): each position of a step speaks its own part of the vocabulary, so a row in the wrong
order is recognised and refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from kinalign.errors import CheckpointError, InvalidCodes, MotionError
from kinalign.motion.features import (
    FeatureLayout,
    FeatureStats,
    Heading,
    features_to_joints,
    motion_to_features,
    with_bone_lengths,
)
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.skeleton import Skeleton, skeleton_for
from kinalign.run import (
    config_from_json,
    config_to_json,
    load_strictly,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from kinalign.tokenizer.vqvae import VQVAE, VQVAEConfig

Codes = NDArray[np.int64]

WEIGHTS, CONFIG = "model.safetensors", "config.json"


@dataclass(frozen=True)
class TokenizerConfig:
    """config.json of a tokenizer folder."""

    network: VQVAEConfig
    heading: Heading = "body"
    """Direction that features are read in; "published" for weights trained on HumanML3D's files."""
    fps: float = FPS
    uniform_bones: bool = True
    """Give every motion the skeleton's bones before encoding and after decoding."""


class MotionTokenizer:
    """A Motion to codes and back.

    `network` works on features normalised by `stats`, of bodies with the bones of `skeleton`. Everything is on the
    device and in the precision of the network's weights.
    """

    def __init__(self, config: TokenizerConfig, network: VQVAE, stats: FeatureStats, skeleton: Skeleton) -> None:
        width = config.network.feature_width
        if (
            stats.mean.shape != (width,)
            or stats.std.shape != (width,)
            or FeatureLayout(skeleton.num_joints).width != width
        ):
            raise CheckpointError(
                f"the network has {width} features a frame, its statistics {stats.mean.shape} and a skeleton of "
                f"{skeleton.num_joints} joints {FeatureLayout(skeleton.num_joints).width}: they are of different models"
            )
        if not (np.isfinite(stats.mean).all() and np.isfinite(stats.std).all() and (stats.std > 0).all()):
            raise CheckpointError("the statistics hold NaN, infinity or a standard deviation that is not positive")
        self.config, self.network, self.stats, self.skeleton = config, network.eval(), stats, skeleton

    @property
    def num_codes(self) -> int:
        """How many different integers a row of codes may hold: Q K."""
        return self.config.network.codes_per_step * self.config.network.codebook_size

    @property
    def codebook_size(self) -> int:
        return self.config.network.codebook_size

    @property
    def codes_per_step(self) -> int:
        return self.config.network.codes_per_step

    @property
    def frames_per_step(self) -> int:
        return self.config.network.frames_per_code

    @property
    def codes_per_second(self) -> float:
        return self.codes_per_step * self.config.fps / self.frames_per_step

    def features(self, motion: Motion) -> NDArray[np.float32]:
        """Features (T - 1, F) of a motion as this tokenizer reads them, at its frame rate and with its bones."""
        if motion.skeleton.num_joints != self.skeleton.num_joints:
            raise MotionError(
                f"this tokenizer reads the {self.skeleton.num_joints} joints of {self.skeleton.name!r}; the motion has "
                f"{motion.skeleton.num_joints} ({motion.skeleton.name!r})"
            )
        target = self.skeleton if self.config.uniform_bones else None
        return motion_to_features(motion.resample(self.config.fps), target_skeleton=target, heading=self.config.heading)

    def encode(self, motion: Motion) -> Codes:
        """Codes (N,) of a motion; frames that fill no step at its end are left out.

        Raises MotionError for a motion of fewer than frames_per_step + 1 frames and for another skeleton.
        """
        features = self.features(motion)
        num_frames = len(features) // self.frames_per_step * self.frames_per_step
        if num_frames == 0:
            raise MotionError(
                f"a motion of {len(motion)} frames at {motion.fps} fps is too short for one code; "
                f"it needs {self.frames_per_step + 1} frames at {self.config.fps} fps"
            )
        return self.encode_features(features[:num_frames])

    @torch.no_grad()
    def encode_features(self, features: ArrayLike) -> Codes:
        """Codes (N,) of features (T, F) as `features` gives them, T a multiple of frames_per_step."""
        weight = next(self.network.parameters())
        normalized = torch.from_numpy(self.stats.normalize(features)).to(weight)
        return self.flatten(self.network.encode(normalized[None])[0])

    def flatten(self, codes: Tensor) -> Codes:
        """A row (N Q,) of codes (N, Q) in [0, K)."""
        offset = torch.arange(self.codes_per_step, device=codes.device) * self.config.network.codebook_size
        return (codes + offset).flatten().cpu().numpy().astype(np.int64)

    def unflatten(self, row: ArrayLike) -> Tensor:
        """Codes (N, Q) in [0, K) of a row (N Q,); raises InvalidCodes for what no motion gives."""
        codes = np.asarray(row)
        if codes.ndim != 1 or not np.issubdtype(codes.dtype, np.integer):
            raise InvalidCodes(f"codes are one row of integers; these are {codes.dtype} of shape {codes.shape}")
        if len(codes) == 0 or len(codes) % self.codes_per_step:
            raise InvalidCodes(f"{len(codes)} codes are no whole number of steps of {self.codes_per_step}, 1 at least")
        steps = codes.reshape(-1, self.codes_per_step) - np.arange(self.codes_per_step) * self.codebook_size
        wrong = (steps < 0) | (steps >= self.codebook_size)
        if wrong.any():
            place = int(np.argmax(wrong.flatten()))
            first = place % self.codes_per_step * self.codebook_size
            raise InvalidCodes(
                f"code {codes[place]} at place {place} is outside [{first}, {first + self.codebook_size})"
            )
        return torch.from_numpy(steps.astype(np.int64))

    @torch.no_grad()
    def code_vectors(self) -> Tensor:
        """A vector (Q K, D) for each code: what the quantiser makes of a step whose other codes are their first."""
        places = torch.arange(self.num_codes, device=next(self.network.parameters()).device)
        codes = places.new_zeros((self.num_codes, 1, self.codes_per_step))
        codes[places, 0, places // self.codebook_size] = places % self.codebook_size
        return self.network.quantizer.decode(codes)[:, 0]

    @torch.no_grad()
    def decode(self, codes: ArrayLike, *, caption: str = "") -> Motion:
        """The motion of a row of codes (N Q,): 4 frames a step with the published network.

        Raises InvalidCodes, and CheckpointError where damaged weights give no finite motion.
        """
        weight = next(self.network.parameters())
        normalized = self.network.decode(self.unflatten(codes).to(weight.device)[None])[0]
        features = self.stats.denormalize(normalized.float().cpu().numpy())
        if not np.isfinite(features).all():
            raise CheckpointError("the network answers NaN or infinity: its weights are damaged")
        joints = features_to_joints(features)
        if self.config.uniform_bones:
            joints = with_bone_lengths(joints, self.skeleton)
        return Motion(joints, fps=self.config.fps, skeleton=self.skeleton, caption=caption)

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> Path:
        """Write config.json and model.safetensors (weights in `dtype`, statistics and bones as they are)."""
        folder = Path(folder)
        weights = {
            f"network.{name}": tensor.to(dtype) if tensor.is_floating_point() else tensor
            for name, tensor in self.network.state_dict().items()
        }
        weights["stats.mean"] = torch.from_numpy(self.stats.mean.astype(np.float32))
        weights["stats.std"] = torch.from_numpy(self.stats.std.astype(np.float32))
        weights["skeleton.bone_lengths"] = torch.from_numpy(self.skeleton.bone_lengths.astype(np.float64))
        write_tensors(folder / WEIGHTS, weights)
        write_json(folder / CONFIG, config_to_json(self.config))
        return folder

    @staticmethod
    def from_pretrained(folder: str | Path) -> MotionTokenizer:
        """Read what save_pretrained wrote; weights are computed with in float32 whatever they are stored in.

        Raises CheckpointError for absent, truncated or extra tensors and ConfigError for an unknown key.
        """
        folder = Path(folder)
        config = config_from_json(TokenizerConfig, read_json(folder / CONFIG))
        tensors = read_tensors(folder / WEIGHTS)
        try:
            stats = FeatureStats(tensors.pop("stats.mean").numpy(), tensors.pop("stats.std").numpy())
            lengths = tensors.pop("skeleton.bone_lengths").numpy().astype(np.float64)
        except KeyError as error:
            raise CheckpointError(
                f"{folder / WEIGHTS} has no tensor {error}; it is no tokenizer of Kinalign"
            ) from error
        network = VQVAE(config.network)
        load_strictly(
            network,
            {name.removeprefix("network."): tensor for name, tensor in tensors.items()},
            origin=str(folder / WEIGHTS),
        )
        skeleton = replace(skeleton_for(len(lengths)), bone_lengths=lengths)
        return MotionTokenizer(config, network, stats, skeleton)
