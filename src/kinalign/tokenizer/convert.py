"""Published MotionGPT weights to a Kinalign tokenizer folder and back.

A Lightning checkpoint is a pickle. It is read with torch's weights-only reader, which builds tensors and refuses
everything else; nothing in the file is executed.
"""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinalign.errors import CheckpointError
from kinalign.motion.features import FeatureLayout, FeatureStats
from kinalign.motion.skeleton import skeleton_for
from kinalign.run import load_strictly, write_atomically
from kinalign.tokenizer.tokenizer import MotionTokenizer, TokenizerConfig
from kinalign.tokenizer.vqvae import VQVAE, VQVAEConfig

PREFIX = "vae."
CODEBOOK = "quantizer.codebook"
OWN_CODEBOOK = "quantizer.groups.0.codebook"
OTHERS = ("_buffers", "metrics.", "datamodule.")
"""What else a Lightning checkpoint may hold, tensors or not; of no use here."""


def read_weights_only(checkpoint: str | Path) -> Any:
    """What torch saved in a file, tensors and plain containers, without executing anything in it.

    Raises CheckpointError where it is absent, damaged, or holds anything else.
    """
    path = Path(checkpoint)
    if not path.is_file():
        raise CheckpointError(f"{path} is absent")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of other versions
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, or is no checkpoint, and is not opened, because reading it could run "
            "code in it; save its state_dict alone with the program that made it"
        ) from error
    except Exception as error:  # damaged bytes lead to anything: KeyError, UnicodeDecodeError, AssertionError
        raise CheckpointError(f"{path} cannot be read ({error}); it is cut short or damaged") from error


def read_published(checkpoint: str | Path) -> dict[str, Tensor]:
    """The state dict of a published checkpoint, without executing anything in it; raises CheckpointError."""
    path, content = Path(checkpoint), read_weights_only(checkpoint)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is no checkpoint: it holds no dictionary of tensors")
    tensors = {str(name): value for name, value in state.items() if not str(name).startswith(OTHERS)}
    if wrong := [name for name, value in tensors.items() if not isinstance(value, Tensor)]:
        raise CheckpointError(f"{path} is no checkpoint: {', '.join(wrong[:3])} are no tensors")
    return tensors


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
    stats = FeatureStats(_statistics(mean, config.feature_width), _statistics(std, config.feature_width))
    skeleton = skeleton_for(FeatureLayout.of_width(config.feature_width).num_joints)
    settings = TokenizerConfig(config, heading="published", uniform_bones=False)
    return MotionTokenizer(settings, network, stats, skeleton)


def to_published(tokenizer: MotionTokenizer, checkpoint: str | Path) -> Path:
    """Write a tokenizer of the published network as a checkpoint that MotionGPT's code loads.

    Raises CheckpointError for another network or more than one codebook.
    """
    config = tokenizer.config.network
    if config.network != "published" or config.quantizer != "grouped" or config.codes_per_step != 1:
        raise CheckpointError(
            f"only the published network with one codebook has published names; this one is {config.network!r} with "
            f"{config.codes_per_step} {config.quantizer!r} codes per step"
        )
    state = {
        PREFIX + name: tensor
        for name, tensor in tokenizer.network.state_dict().items()
        if not name.startswith("quantizer.")
    }
    state[PREFIX + CODEBOOK] = tokenizer.network.state_dict()[OWN_CODEBOOK]
    return write_atomically(checkpoint, lambda path: torch.save({"state_dict": state}, path))


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
