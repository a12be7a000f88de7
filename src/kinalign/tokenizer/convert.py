"""The motion tokenizer of published MotionGPT weights to a Kinalign folder and back."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinalign.data.humanml3d import KIT_FLAVOUR
from kinalign.errors import CheckpointError
from kinalign.motion.features import FeatureLayout, FeatureStats
from kinalign.motion.skeleton import Skeleton, skeleton_for
from kinalign.published import read_published
from kinalign.run import load_strictly, write_atomically
from kinalign.tokenizer.tokenizer import MotionTokenizer, TokenizerConfig
from kinalign.tokenizer.vqvae import VQVAE, VQVAEConfig

PREFIX = "vae."
CODEBOOK = "quantizer.codebook"
OWN_CODEBOOK = "quantizer.groups.0.codebook"


def from_published(checkpoint: str | Path, *, mean: str | Path, std: str | Path) -> MotionTokenizer:
    """MotionGPT's motion tokenizer from `motiongpt_s3_h3d.tar` and the mean.npy and std.npy that belong to it.

    The file lacks the running sums of the codebook; they are set as if every code had just been seen equally often.
    """
    path = Path(checkpoint)
    tensors = {
        name.removeprefix(PREFIX): tensor for name, tensor in read_published(path).items() if name.startswith(PREFIX)
    }
    if CODEBOOK not in tensors:
        raise CheckpointError(f"{path} has no tensor {PREFIX + CODEBOOK}; it holds no MotionGPT tokenizer")
    codebook = tensors.pop(CODEBOOK)
    count = torch.ones(len(codebook))
    group = OWN_CODEBOOK.removesuffix("codebook")
    tensors |= {
        f"{group}codebook": codebook,
        f"{group}code_sum": codebook.clone(),
        f"{group}code_count": count,
        f"{group}is_drawn": torch.tensor(True),
    }
    config = _published_config(tensors, path)
    network = VQVAE(config)
    load_strictly(network, tensors, origin=str(path))
    skeleton = skeleton_for(FeatureLayout.of_width(config.feature_width).num_joints)
    to_ours = _metres_per_unit(skeleton)
    stats = FeatureStats(
        _statistics(mean, config.feature_width) * to_ours, _statistics(std, config.feature_width) * to_ours
    )
    settings = TokenizerConfig(config, heading="published", fps=skeleton.fps, uniform_bones=False)
    return MotionTokenizer(settings, network, stats, skeleton)


def to_published(tokenizer: MotionTokenizer, checkpoint: str | Path) -> Path:
    """Write a tokenizer of the published network as a checkpoint that MotionGPT's code loads.

    Raises CheckpointError for another network or more than one codebook.
    """
    state = published_state(tokenizer)
    return write_atomically(checkpoint, lambda path: torch.save({"state_dict": state}, path))


def published_state(tokenizer: MotionTokenizer) -> dict[str, Tensor]:
    """The tensors of a tokenizer under their published names; raises as `to_published` does."""
    config = tokenizer.config.network
    if config.network != "published" or config.quantizer != "grouped" or config.codes_per_step != 1:
        raise CheckpointError(
            f"only the published network with one codebook has published names; this one is {config.network!r} with "
            f"{config.codes_per_step} {config.quantizer!r} codes per step"
        )
    own = tokenizer.network.state_dict()
    state = {PREFIX + name: tensor for name, tensor in own.items() if not name.startswith("quantizer.")}
    return state | {PREFIX + CODEBOOK: own[OWN_CODEBOOK]}


def published_stats(tokenizer: MotionTokenizer) -> FeatureStats:
    """The statistics that belong to `published_state`, in the unit of the published features."""
    to_ours = _metres_per_unit(tokenizer.skeleton)
    return FeatureStats(tokenizer.stats.mean / to_ours, tokenizer.stats.std / to_ours)


def _metres_per_unit(skeleton: Skeleton) -> NDArray[np.float32]:
    """(F,) of what a published feature is a multiple: KIT-ML's lengths are millimetres, all else is as ours."""
    layout = FeatureLayout(skeleton.num_joints)
    factors = np.ones(layout.width, dtype=np.float32)
    if skeleton.name == KIT_FLAVOUR.skeleton.name:
        for part in ("root_velocity", "root_height", "joint_positions", "joint_velocities"):
            factors[layout.slices[part]] = KIT_FLAVOUR.metres_per_unit
    return factors


def _published_config(tensors: dict[str, Tensor], path: Path) -> VQVAEConfig:
    """Sizes as the shapes tell them."""
    try:
        width, feature_width, _ = tensors["encoder.model.0.weight"].shape
        codebook_size, code_dim = tensors[OWN_CODEBOOK].shape
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} holds no MotionGPT tokenizer: {error}") from error
    # told by the highest numbers, so that a tensor that is missing between them is named as missing
    layers = [int(found[1]) for name in tensors if (found := re.match(r"encoder\.model\.(\d+)\.", name))]
    units = [int(found[1]) for name in tensors if (found := re.match(r"encoder\.model\.\d+\.1\.model\.(\d+)\.", name))]
    halvings, depth = max(layers) - 2, max(units, default=-1) + 1
    if halvings < 1 or depth < 1:
        raise CheckpointError(f"{path} holds no MotionGPT tokenizer: its encoder never halves time")
    return VQVAEConfig(
        feature_width=feature_width,
        width=width,
        code_dim=code_dim,
        codebook_size=codebook_size,
        halvings=halvings,
        depth=depth,
    )


def _statistics(path: str | Path, width: int) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CheckpointError(f"{path} cannot be read as an array ({error})") from error
    if values.shape != (width,) or not np.isfinite(values).all():
        raise CheckpointError(f"{path} has shape {values.shape}; this network needs {width} finite numbers")
    return np.asarray(values, dtype=np.float32)
