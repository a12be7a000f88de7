"""Motions by name in one safetensors file: small, exact to less than a millimetre, readable without Kinalign."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from kinalign.errors import CheckpointError, DataError
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import skeleton_for
from kinalign.run import read_tensors, write_tensors


def write_motions(path: Path, motions: Mapping[str, Motion]) -> Path:
    """Motions by name, as safetensors: joints (T, J, 3) from the pelvis' place on the ground, float16, and that place
    (T, 2), x and z in metres, float32: off by less than a millimetre however far the body goes."""
    tensors = {}
    for name, motion in motions.items():
        ground = motion.joints[:, :1] * [1, 0, 1]
        tensors[f"{name}.joints"] = torch.from_numpy((motion.joints - ground).astype(np.float16))
        tensors[f"{name}.ground"] = torch.from_numpy(ground[:, 0, ::2].astype(np.float32))
        tensors[f"{name}.fps"] = torch.tensor(motion.fps)
    return write_tensors(path, tensors)


def read_motions(path: Path) -> dict[str, Motion]:
    """What `write_motions` wrote. Raises DataError where the file is absent or cut short."""
    try:
        tensors = read_tensors(path)
    except CheckpointError as error:
        raise DataError(f"{error}; give the command that writes it again, which makes it anew") from error
    motions = {}
    for name in (key.removesuffix(".joints") for key in tensors if key.endswith(".joints")):
        joints = tensors[f"{name}.joints"].numpy().astype(np.float32)
        joints[..., ::2] += tensors[f"{name}.ground"].numpy()[:, None]
        motions[name] = Motion(joints, float(tensors[f"{name}.fps"]), skeleton_for(joints.shape[1]))
    return motions
