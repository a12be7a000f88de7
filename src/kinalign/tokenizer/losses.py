"""What the tokenizer is trained to get right: features, and the joints in the world that they add up to.

Errors of the turning and the velocity of the root pile up over time, and a loss on features does not see it; so the
joints are recovered from both sides and compared too. Pure functions.

Letters: B batch, T frames, F features, J joints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kinalign.motion.features import FeatureLayout


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms. MotionGPT's are features 1, positions 0.5, commitment 0.02 and 0 for the rest."""

    positions: float = 0.5
    """Smooth L1 of normalised joint positions, on top of all features."""
    root_features: float = 0.5
    """Smooth L1 of normalised turning, velocity and height of the root, on top: small errors of them pile up."""
    joints: float = 3.0
    """Metres that joints are off in the world, root aside."""
    fast_joints: float = 0.0
    """Metres that joints are off in the world, times the metres per frame that they move: a kick's height is lost in a
    mean over joints that mostly rest."""
    root: float = 0.3
    """Metres that the root's path is off."""
    velocities: float = 5.0
    """Metres per frame that joints' velocities in the world are off."""
    accelerations: float = 5.0
    """Metres per frame squared that joints' accelerations are off: what the eye sees as jitter."""
    commitment: float = 0.02
    """Squared distance of latents to their codes."""


class WorldJoints(NamedTuple):
    """Joints (B, T, J, 3) in metres with the root at x = z = 0, and the root's path (B, T, 2) as x and z."""

    joints: Tensor
    root_path: Tensor


def features_to_world(features: Tensor) -> WorldJoints:
    """`motion.features.features_to_joints`, differentiable and with the root's path apart; features not normalised."""
    layout = FeatureLayout.of_width(features.shape[-1])
    at = layout.slices
    yaw = -2 * _sum_before(features[..., at["root_yaw_velocity"]].squeeze(-1))  # facing frame -> world
    cosine, sine = torch.cos(yaw), torch.sin(yaw)
    velocity_x, velocity_z = features[..., at["root_velocity"]].unbind(-1)
    # the step that leads to frame t stands in row t - 1, in the facing frame of t
    step_x, step_z = _turn(velocity_x[:, :-1], velocity_z[:, :-1], cosine[:, 1:], sine[:, 1:])
    root_path = F.pad(torch.stack((step_x, step_z), dim=-1).cumsum(1), (0, 0, 1, 0))

    local = features[..., at["joint_positions"]].unflatten(-1, (layout.num_joints - 1, 3))
    x, z = _turn(local[..., 0], local[..., 2], cosine[..., None], sine[..., None])
    height = features[..., at["root_height"]]
    root = torch.stack((torch.zeros_like(height), height, torch.zeros_like(height)), dim=-1)
    return WorldJoints(torch.cat((root, torch.stack((x, local[..., 1], z), dim=-1)), dim=2), root_path)


def reconstruction_losses(
    predicted: Tensor, target: Tensor, commitment: Tensor, *, mean: Tensor, std: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """Terms by name, with "loss" as their weighted sum, of normalised features (B, T, F)."""
    error = F.smooth_l1_loss(predicted, target, reduction="none")
    at = FeatureLayout.of_width(target.shape[-1]).slices
    root = slice(at["root_yaw_velocity"].start, at["root_height"].stop)
    ours, true = features_to_world(predicted * std + mean), features_to_world(target * std + mean)
    error_m, path_error_m = ours.joints - true.joints, ours.root_path - true.root_path
    terms = {
        "features": error.mean(),
        "positions": error[..., at["joint_positions"]].mean(),
        "root_features": error[..., root].mean(),
        "joints": error_m.abs().mean(),
        "fast_joints": (error_m.norm(dim=-1) * _speed_around(true.joints)).mean(),
        "root": path_error_m.abs().mean(),
        "velocities": error_m.diff(dim=1).abs().mean() + path_error_m.diff(dim=1).abs().mean(),
        "accelerations": error_m.diff(n=2, dim=1).abs().mean() + path_error_m.diff(n=2, dim=1).abs().mean(),
        "commitment": commitment,
    }
    loss = terms["features"] + torch.stack([getattr(weights, n) * terms[n] for n in terms if n != "features"]).sum()
    return {"loss": loss, **terms}


SPEED_FRAMES = 3
"""A joint is fast from this many frames before it moves until as many after: a kick is highest where the foot rests."""


def _speed_around(joints: Tensor) -> Tensor:
    """The most metres per frame (B, T, J) that joints (B, T, J, 3) move within SPEED_FRAMES of a frame."""
    speed = F.pad(joints.diff(dim=1).norm(dim=-1).transpose(1, 2), (1, 0))  # (B, J, T)
    return F.max_pool1d(speed, 2 * SPEED_FRAMES + 1, stride=1, padding=SPEED_FRAMES).transpose(1, 2)


def _sum_before(x: Tensor) -> Tensor:
    """Sum of all entries before each, along the last axis."""
    return F.pad(x.cumsum(-1)[..., :-1], (1, 0))


def _turn(x: Tensor, z: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """(x, z) turned about +y: +z goes towards +x."""
    return cosine * x + sine * z, cosine * z - sine * x
