"""The HumanML3D representation: joints (T, J, 3) -> features (T - 1, F), and back. 263 numbers a frame at 22 joints.

The maths is that of the published processing (Guo et al., CVPR 2022; the notebooks raw_pose_processing and
motion_representation), vectorised over frames and over clips of one length. Quirks that the published vectors have
are kept and named where they stand: rotations run along chains from the root (the arms do not pass the spine), and
the facing direction that rotations and velocities are read in is smoothed over time.

Letters: B clips, T frames, J joints, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinalign.errors import MotionError
from kinalign.motion.motion import Motion, facing_directions
from kinalign.motion.rotations import (
    quaternion_between,
    quaternion_inverse,
    quaternion_multiply,
    quaternion_rotate,
    quaternion_to_6d,
)
from kinalign.motion.skeleton import HUMANML3D, Skeleton, skeleton_for

Array = NDArray[np.floating]

CONTACT_THRESHOLD_M2 = 0.002
"""A foot is down while its squared displacement per frame is less than this (HumanML3D)."""
SMOOTHING_SIGMA_FRAMES = 20
"""Width of the Gaussian that smooths the heading."""

Heading = Literal["published", "body"]


@dataclass(frozen=True)
class FeatureLayout:
    """Where each part of a feature vector stands, for a skeleton of `num_joints`.

    >>> FeatureLayout(22).slices["joint_positions"]
    slice(4, 67, None)
    """

    num_joints: int

    @cached_property
    def widths(self) -> dict[str, int]:
        """Part -> how many numbers, in order."""
        moving = self.num_joints - 1
        return {
            "root_yaw_velocity": 1,  # half the yaw step in radians per frame (arcsin of a quaternion's y)
            "root_velocity": 2,  # x and z in metres per frame, facing frame
            "root_height": 1,  # metres
            "joint_positions": moving * 3,  # metres, facing frame, x and z relative to the root
            "joint_rotations": moving * 6,  # 6-D, local to the chain
            "joint_velocities": self.num_joints * 3,  # metres per frame, facing frame
            "foot_contacts": 4,  # left ankle, left toe, right ankle, right toe
        }

    @cached_property
    def slices(self) -> dict[str, slice]:
        ends = np.cumsum(list(self.widths.values())).tolist()
        return {name: slice(end - width, end) for (name, width), end in zip(self.widths.items(), ends)}

    @property
    def width(self) -> int:
        return sum(self.widths.values())

    @staticmethod
    def of_width(width: int) -> FeatureLayout:
        """The layout of a built-in skeleton by its feature width; raises MotionError when none has it."""
        for skeleton in (HUMANML3D, skeleton_for(21)):
            layout = FeatureLayout(skeleton.num_joints)
            if layout.width == width:
                return layout
        known = ", ".join(str(FeatureLayout(n).width) for n in (21, 22))
        raise MotionError(f"features of width {width} fit no built-in skeleton; known widths are {known}")


def chain_rotations(joints: ArrayLike, skeleton: Skeleton, root_rotations: ArrayLike) -> Array:
    """Quaternions (..., J, 4) that turn each rest direction to the bone of a pose (..., J, 3), along the chains.

    Each chain starts afresh from the root's rotation (..., 4), as published: also the arms, which branch off the spine.
    """
    joints = np.asarray(joints, dtype=float)
    parents = np.array(skeleton.parents)
    bones = joints - joints[..., parents, :]
    bones[..., 0, :] = 1.0
    _require_bones(np.sqrt(np.einsum("...i,...i->...", bones, bones)))
    directions = np.where(np.arange(len(parents))[:, None] == 0, 1.0, skeleton.directions)
    world = quaternion_between(directions, bones)
    before = np.empty_like(world)
    world[..., 0, :] = root_rotations
    for chain in skeleton.chains:
        previous = [0, *chain[1:-1]]
        before[..., list(chain[1:]), :] = world[..., previous, :]
    rotations = quaternion_multiply(quaternion_inverse(before), world)
    rotations[..., 0, :] = root_rotations
    return rotations


def uniform_skeleton(joints: ArrayLike, skeleton: Skeleton, target: Skeleton) -> Array:
    """Poses (..., T, J, 3) carried over to the bones of `target`; the root's path scales with the length of the leg."""
    joints = np.asarray(joints, dtype=float)
    bones = joints[..., :1, :, :] - joints[..., :1, list(skeleton.parents), :]
    source_leg = np.linalg.norm(bones[..., list(skeleton.leg), :], axis=-1).sum(axis=-1)
    target_leg = target.bone_lengths[list(skeleton.leg)].sum()
    carried = with_bone_lengths(joints, target)
    return np.asarray(carried + joints[..., :1, :] * (target_leg / source_leg - 1)[..., None, None])


def with_bone_lengths(joints: ArrayLike, skeleton: Skeleton) -> Array:
    """Poses (..., J, 3) whose bones keep their directions and get the lengths of `skeleton`; the root stays.

    Turning a rest direction to the observed bone and scaling it leaves the observed direction, so no rotation is
    computed: this equals the published inverse kinematics followed by forward kinematics.
    """
    joints = np.asarray(joints, dtype=float)
    bones = joints - joints[..., list(skeleton.parents), :]
    bones[..., 0, :] = 1.0
    lengths = np.sqrt(np.einsum("...i,...i->...", bones, bones))
    _require_bones(lengths)
    bones *= (skeleton.bone_lengths / lengths)[..., None]
    result = np.empty_like(joints)
    result[..., 0, :] = joints[..., 0, :]
    for joint in skeleton.topological_order[1:]:
        result[..., joint, :] = result[..., skeleton.parents[joint], :] + bones[..., joint, :]
    return result


def canonical_joints(motion: Motion | ArrayLike, *, target_skeleton: Skeleton | None = None) -> Array:
    """Joints (..., T, J, 3) as features see them: target bones, on the floor, frame 0 at the origin facing +z."""
    joints, skeleton = _joints_and_skeleton(motion)
    if target_skeleton is not None:
        joints = uniform_skeleton(joints, skeleton, target_skeleton)
    joints = joints - np.array([0.0, 1.0, 0.0]) * joints[..., 1].min(axis=(-2, -1))[..., None, None, None]
    joints = joints - joints[..., :1, :1, :] * np.array([1.0, 0.0, 1.0])
    turn = quaternion_between(facing_directions(joints[..., 0, :, :], skeleton), np.array([0.0, 0.0, 1.0]))
    return quaternion_rotate(turn[..., None, None, :], joints)


def motion_to_features(
    motion: Motion | ArrayLike,
    *,
    target_skeleton: Skeleton | None = None,
    heading: Heading = "published",
    contact_threshold_m2: float = CONTACT_THRESHOLD_M2,
) -> NDArray[np.float32]:
    """Features (T - 1, F) of a motion, or (B, T - 1, F) of a batch of joints (B, T, J, 3).

    `target_skeleton` gives every clip the same bones, as HumanML3D does; None keeps its own. Not normalised.
    `heading` says which direction rotations, velocities and the turning of the root are read in: "published" as in
    HumanML3D's files; "body" steadier, and always recovered exactly. The published one is not where its heading passes
    -z: the sign of one turning step is lost there, and all that follows is turned by twice that step.
    Raises MotionError for fewer than 2 frames and for bones of no length.
    """
    _, skeleton = _joints_and_skeleton(motion)
    joints = canonical_joints(motion, target_skeleton=target_skeleton)
    num_frames = joints.shape[-3]
    if num_frames < 2:
        raise MotionError(
            f"features need at least 2 frames, because they hold velocities; this motion has {num_frames}"
        )

    root_rotations = _heading_rotations(joints, skeleton, heading)  # (..., T, 4) world -> facing frame
    rotations = chain_rotations(joints, skeleton, root_rotations)

    steps = joints[..., 1:, :, :] - joints[..., :-1, :, :]
    after, before = root_rotations[..., 1:, :], root_rotations[..., :-1, :]
    yaw_step = quaternion_multiply(after, quaternion_inverse(before))
    if heading == "body":
        # where the heading passes -z the quaternion changes sign, and the published step with it
        yaw_step = yaw_step * np.copysign(1.0, yaw_step[..., :1])
    local = joints - joints[..., :1, :] * np.array([1.0, 0.0, 1.0])
    local = quaternion_rotate(root_rotations[..., None, :], local)

    contacts = np.einsum("...i,...i->...", steps, steps)[..., list(skeleton.feet)] < contact_threshold_m2
    flat = (*joints.shape[:-3], num_frames - 1, -1)
    parts = {
        "root_yaw_velocity": np.arcsin(yaw_step[..., 2:3]),
        "root_velocity": quaternion_rotate(after, steps[..., 0, :])[..., [0, 2]],
        "root_height": joints[..., :-1, 0, 1:2],
        "joint_positions": local[..., :-1, 1:, :].reshape(flat),
        "joint_rotations": quaternion_to_6d(rotations)[..., :-1, 1:, :].reshape(flat),
        "joint_velocities": quaternion_rotate(before[..., None, :], steps).reshape(flat),
        "foot_contacts": contacts,
    }
    layout = FeatureLayout(skeleton.num_joints)
    return np.concatenate([parts[name] for name in layout.slices], axis=-1).astype(np.float32)


def features_to_joints(features: ArrayLike) -> Array:
    """Joints (..., T, J, 3) in metres from features (..., T, F), by the published recovery from joint positions."""
    features = np.asarray(features, dtype=float)
    layout = FeatureLayout.of_width(features.shape[-1])
    at = layout.slices
    # the step that leads to frame t stands in row t - 1
    half_yaw = _integrate(features[..., at["root_yaw_velocity"]])[..., 0]
    zero = np.zeros_like(half_yaw)
    to_world = np.stack((np.cos(half_yaw), zero, -np.sin(half_yaw), zero), axis=-1)

    velocity = features[..., at["root_velocity"]]
    step = np.zeros((*velocity.shape[:-1], 3))
    step[..., 1:, [0, 2]] = velocity[..., :-1, :]
    root = np.cumsum(quaternion_rotate(to_world, step), axis=-2)
    root[..., 1] = features[..., at["root_height"]][..., 0]

    local = features[..., at["joint_positions"]]
    local = local.reshape(*local.shape[:-1], layout.num_joints - 1, 3)
    joints = quaternion_rotate(to_world[..., None, :], local)
    joints = joints + root[..., None, :] * np.array([1.0, 0.0, 1.0])
    return np.concatenate((root[..., None, :], joints), axis=-2)


def features_to_motion(features: ArrayLike, *, fps: float | None = None, caption: str = "") -> Motion:
    """The motion of features (T, F); the skeleton is told by their width, and the frame rate by it where none is given.

    Raises MotionError on NaN.
    """
    features = np.asarray(features)
    if features.ndim != 2:
        raise MotionError(f"features of one motion are (T, F); this array is {features.shape}")
    joints = features_to_joints(features)
    skeleton = skeleton_for(joints.shape[-2])
    return Motion(joints, fps=skeleton.fps if fps is None else fps, skeleton=skeleton, caption=caption)


@dataclass(frozen=True, eq=False)
class FeatureStats:
    """Mean and standard deviation (F,) that features are normalised by. Two sets of stats never mix silently."""

    mean: Array
    std: Array

    def normalize(self, features: ArrayLike) -> NDArray[np.float32]:
        return np.asarray((np.asarray(features) - self.mean) / self.std, dtype=np.float32)

    def denormalize(self, features: ArrayLike) -> NDArray[np.float32]:
        return np.asarray(np.asarray(features) * self.std + self.mean, dtype=np.float32)

    @staticmethod
    def of(features: ArrayLike) -> FeatureStats:
        """Statistics of rows (N, F), with one standard deviation per part of the layout, as published."""
        rows = np.asarray(features, dtype=np.float64)
        if len(rows) < 2:
            raise MotionError(f"statistics need at least 2 rows of features; there are {len(rows)}")
        layout = FeatureLayout.of_width(rows.shape[-1])
        std = rows.std(axis=0)
        for part in layout.slices.values():
            std[part] = std[part].mean()
        # a part that never changes (feet always down) would divide by zero
        return FeatureStats(rows.mean(axis=0).astype(np.float32), np.maximum(std, 1e-6).astype(np.float32))


def _joints_and_skeleton(motion: Motion | ArrayLike) -> tuple[Array, Skeleton]:
    if isinstance(motion, Motion):
        return motion.joints.astype(np.float64), motion.skeleton
    joints = np.asarray(motion, dtype=np.float64)
    if joints.ndim < 3 or joints.shape[-1] != 3:
        raise MotionError(f"joints have shape {joints.shape}; features need (T, J, 3) or (B, T, J, 3)")
    if not np.isfinite(joints).all():
        raise MotionError("joints are not finite: they hold NaN or infinity")
    return joints, skeleton_for(joints.shape[-2])


def _require_bones(lengths: Array) -> None:
    if not (lengths > 1e-8).all():
        raise MotionError("a bone has no length: two joints lie in one point, so its direction is unknown")


def _heading_rotations(joints: Array, skeleton: Skeleton, heading: Heading) -> Array:
    """(..., T, 4) turns that bring the smoothed heading of each frame to +z; the first is none, as published.

    The published processing hands (right, left) hips to a function that unpacks (left, right), so its heading is that
    of shoulders minus hips: right for a body at rest, jumping by a radian a frame when the trunk twists.
    """
    right_hip, left_hip = skeleton.hips if heading == "body" else skeleton.hips[::-1]
    right_shoulder, left_shoulder = skeleton.shoulders
    across = joints[..., right_hip, :] - joints[..., left_hip, :]
    across = across + joints[..., right_shoulder, :] - joints[..., left_shoulder, :]
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    forward = _smooth(np.stack((across[..., 2], -across[..., 0]), axis=-1))  # up x across, as (x, z)
    # the turn about +y that brings (x, z) to (0, 1), by half angles: no trigonometric function is needed
    cosine = forward[..., 1] / np.hypot(forward[..., 0], forward[..., 1])
    zero = np.zeros_like(cosine)
    half_sine = np.copysign(np.sqrt(np.maximum(1 - cosine, 0) / 2), -forward[..., 0])
    rotations = np.stack((np.sqrt(np.maximum(1 + cosine, 0) / 2), zero, half_sine, zero), axis=-1)
    rotations[..., 0, :] = (1.0, 0.0, 0.0, 0.0)
    return rotations


def _smooth(directions: Array) -> Array:
    """Directions (..., T, 2) blurred over time by a Gaussian cut at 4 sigma, ends repeated."""
    return np.asarray(_blur_matrix(directions.shape[-2]) @ directions)


@lru_cache(maxsize=256)
def _blur_matrix(num_frames: int) -> Array:
    """(T, T) matrix whose rows are the kernel, with what falls off an end added to that end."""
    radius = 4 * SMOOTHING_SIGMA_FRAMES
    reach = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (reach / SMOOTHING_SIGMA_FRAMES) ** 2)
    sources = np.clip(np.arange(num_frames)[:, None] + reach, 0, num_frames - 1)
    blur = np.zeros((num_frames, num_frames))
    np.add.at(blur, (np.arange(num_frames)[:, None], sources), kernel / kernel.sum())
    return blur


def _integrate(steps: Array) -> Array:
    """Sum of all steps (..., T, D) before each frame."""
    total = np.cumsum(steps, axis=-2)
    return np.concatenate((np.zeros_like(total[..., :1, :]), total[..., :-1, :]), axis=-2)
