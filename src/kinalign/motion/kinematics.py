"""Rotations to positions and back, in the true hierarchy of a skeleton (arms hang on the spine, not on the pelvis).

Positions leave two things open: how a bone is twisted about itself, and what a parent of several children should do
when these do not keep still relative to one another (in mocap the spine bends at the pelvis). Twist is taken from the
bend of knees and elbows and is otherwise none; a parent follows those children that move together, and what no
rotation can follow is either said (`residual_m`) or kept as translations of single joints (`stretch_tolerance_m`).

Letters: T frames, J joints. Quaternions are wxyz, local to the parent, identity in the rest pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinalign.errors import MotionError
from kinalign.motion.rotations import (
    axis_angle_to_quaternion,
    matrix_to_quaternion,
    normalize,
    quaternion_between,
    quaternion_inverse,
    quaternion_multiply,
    quaternion_rotate,
)
from kinalign.motion.skeleton import Skeleton

Array = NDArray[np.floating]


class Transforms(NamedTuple):
    """Where joints are and how they are turned in the world: positions (T, J, 3), rotations (T, J, 4)."""

    positions: Array
    rotations: Array


class Articulation(NamedTuple):
    """A motion as rotations on a rest pose.

    `rotations` (T, J, 4) local; `root_positions` (T, 3) metres; `skeleton` carries the rest pose that they refer to;
    `translations` (T, J, 3) metres from parent to joint in the parent's frame: the skeleton's offsets in every frame,
    except for joints that stretch (`is_stretching` (J,) True) and for the root, whose translation is its position;
    `residual_m` is the largest distance of any joint in any frame from where the motion has it.
    """

    rotations: Array
    root_positions: Array
    skeleton: Skeleton
    translations: Array
    is_stretching: NDArray[np.bool_]
    residual_m: float


# Rest directions of a body in T-pose by joint, from its parent; left side, the right one is mirrored. Collars, hips and
# the chest are only starting values: where a joint has several children their places are taken from the motion.
_T_POSE = {
    "spine1": (0.0, 1.0, 0.0),
    "spine2": (0.0, 1.0, 0.0),
    "spine3": (0.0, 1.0, 0.0),
    "neck": (0.0, 1.0, 0.0),
    "head": (0.0, 1.0, 0.0),
    "left_collar": (0.6, 0.8, 0.0),
    "left_shoulder": (1.0, 0.0, 0.0),
    "left_elbow": (1.0, 0.0, 0.0),
    "left_wrist": (1.0, 0.0, 0.0),
    "left_hip": (0.8, -0.6, 0.0),
    "left_knee": (0.0, -1.0, 0.0),
    "left_ankle": (0.0, -1.0, 0.0),
    "left_heel": (0.0, -0.8, -0.6),
    "left_foot": (0.0, -0.5, np.sqrt(0.75)),
}
# Where the bone beyond a hinge goes when the hinge bends, in T-pose.
_BENDS_TOWARDS = {"knee": (0.0, 0.0, -1.0), "elbow": (0.0, 0.0, 1.0)}
_STRAIGHTNESS = 0.15
"""How strongly a limb that is nearly straight is left without twist; the sine of the bend that outweighs it."""
_TWIST_SIGMA_FRAMES = 2.0
_RIGIDITY_ROUNDS = 5
_NEGLIGIBLE_M = 1e-4


def t_pose(skeleton: Skeleton) -> Skeleton:
    """The skeleton with a T-pose at rest: y up, facing +z, left at +x, arms to the sides, as animation tools expect.

    The published rest directions define features but make no body to look at (arms fold into the chest, KIT has its
    left at -x), so files and synthetic motions stand on this one. Raises MotionError for a joint of another name.
    """
    directions = np.zeros((skeleton.num_joints, 3))
    for joint, name in enumerate(skeleton.joint_names[1:], start=1):
        left = name.replace("right_", "left_")
        if left not in _T_POSE:
            raise MotionError(f"no T-pose for joint {name!r} of skeleton {skeleton.name!r}; give it rest directions")
        directions[joint] = np.array(_T_POSE[left]) * ((-1, 1, 1) if name.startswith("right_") else (1, 1, 1))
    return replace(skeleton, directions=directions)


def world_transforms(rotations: ArrayLike, translations: ArrayLike, parents: Sequence[int]) -> Transforms:
    """World positions (T, J, 3) and rotations (T, J, 4) from local rotations (T, J, 4) and translations.

    Translations are (T, J, 3), or (J, 3) where they never change. Parents stand before their children; a root has
    parent -1.
    """
    rotations = np.asarray(rotations, dtype=float)
    translations = np.broadcast_to(np.asarray(translations, dtype=float), (*rotations.shape[:-1], 3))
    positions, world = np.array(translations), np.array(rotations)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            turned = quaternion_rotate(world[..., parent, :], translations[..., joint, :])
            positions[..., joint, :] = positions[..., parent, :] + turned
            world[..., joint, :] = quaternion_multiply(world[..., parent, :], rotations[..., joint, :])
    return Transforms(positions, world)


def forward_kinematics(rotations: ArrayLike, root_positions: ArrayLike, skeleton: Skeleton) -> Array:
    """Joints (T, J, 3) in metres from local rotations (T, J, 4) and root positions (T, 3)."""
    rotations, root_positions = np.asarray(rotations, dtype=float), np.asarray(root_positions, dtype=float)
    if rotations.shape[1:] != (skeleton.num_joints, 4) or root_positions.shape != (len(rotations), 3):
        raise MotionError(
            f"rotations {rotations.shape} and root positions {root_positions.shape} do not fit skeleton "
            f"{skeleton.name!r}; they are (T, {skeleton.num_joints}, 4) and (T, 3)"
        )
    translations = np.repeat(skeleton.offsets[None], len(rotations), axis=0)
    translations[:, 0] = root_positions
    return world_transforms(rotations, translations, skeleton.parents).positions


def positions_to_rotations(
    joints: ArrayLike, skeleton: Skeleton, *, stretch_tolerance_m: float | None = None
) -> Articulation:
    """Local rotations whose forward kinematics returns joints (T, J, 3), over the rest directions of `skeleton`.

    Bone lengths are the means over all frames. Each bone is aimed from where its parent really came to lie, so errors
    do not add up along a limb. With `stretch_tolerance_m` a joint that would still miss by more is moved as well.
    """
    joints = np.asarray(joints, dtype=np.float64)
    if joints.ndim != 3 or joints.shape[1:] != (skeleton.num_joints, 3):
        raise MotionError(f"joints have shape {joints.shape}; {skeleton.name!r} needs (T, {skeleton.num_joints}, 3)")
    if len(joints) == 0 or not np.isfinite(joints).all():
        raise MotionError("rotations need at least 1 frame and finite joints")
    rest = _with_rest_offsets_of(joints, skeleton)
    offsets, parents, children = rest.offsets, rest.parents, rest.children

    rotations = np.zeros((*joints.shape[:2], 4))
    rotations[..., 0] = 1.0
    translations = np.repeat(offsets[None], len(joints), axis=0)
    translations[:, 0] = joints[:, 0]
    is_stretching = np.zeros(rest.num_joints, dtype=bool)
    positions, world = joints.copy(), rotations.copy()
    for joint in rest.topological_order:
        parent = parents[joint]
        above = world[:, parent] if parent >= 0 else world[:, joint]
        if parent >= 0:
            to_joint = quaternion_rotate(quaternion_inverse(above), joints[:, joint] - positions[:, parent])
            miss_m = np.linalg.norm(to_joint - offsets[joint], axis=-1).max()
            if stretch_tolerance_m is not None and miss_m > stretch_tolerance_m:
                is_stretching[joint] = True
                translations[:, joint] = to_joint
            positions[:, joint] = positions[:, parent] + quaternion_rotate(above, translations[:, joint])
        below = list(children[joint])
        if below:
            # where the children should be, seen from this joint before it turns
            bones = joints[:, below] - positions[:, joint, None]
            bones = quaternion_rotate(quaternion_inverse(above)[:, None], bones)
            if len(below) == 1:
                turn = _swing(offsets[below[0]], bones[:, 0])
                turn = quaternion_multiply(turn, _limb_twist(joints, rest, joint, quaternion_multiply(above, turn)))
            else:
                turn = matrix_to_quaternion(_align(offsets[below], bones, _rigidity(offsets[below], bones)))
            rotations[:, joint] = continuous(turn)
        world[:, joint] = quaternion_multiply(above, rotations[:, joint]) if parent >= 0 else rotations[:, joint]
    residual_m = float(np.linalg.norm(positions - joints, axis=-1).max())
    return Articulation(rotations, joints[:, 0], rest, translations, is_stretching, residual_m)


def continuous(quaternions: ArrayLike) -> Array:
    """The same rotations (T, ..., 4) with signs chosen so that no frame is far from the one before."""
    q = np.asarray(quaternions)
    flips = np.einsum("...i,...i->...", q[1:], q[:-1]) < 0
    signs = np.cumprod(np.where(flips, -1.0, 1.0), axis=0)
    return np.concatenate((q[:1], q[1:] * signs[..., None]))


def _with_rest_offsets_of(joints: Array, skeleton: Skeleton) -> Skeleton:
    """The skeleton with mean bone lengths, and with the shape that several children of one joint really have."""
    bones = joints - joints[:, list(skeleton.parents)]
    lengths = np.linalg.norm(bones, axis=-1).mean(axis=0)
    lengths[0] = 0.0
    offsets = skeleton.directions * lengths[:, None]
    for children in skeleton.children:
        if len(children) < 2:
            continue
        below = list(children)
        for _ in range(_RIGIDITY_ROUNDS):
            weights = _rigidity(offsets[below], bones[:, below])
            inverse = np.swapaxes(_align(offsets[below], bones[:, below], weights), -1, -2)
            offsets[below] = np.einsum("tij,tkj->tki", inverse, bones[:, below]).mean(axis=0)
    lengths = np.linalg.norm(offsets, axis=-1)
    directions = np.where(lengths[:, None] > 1e-9, offsets / np.maximum(lengths, 1e-9)[:, None], skeleton.directions)
    return replace(skeleton, directions=directions, bone_lengths=lengths)


def _rigidity(offsets: Array, bones: Array) -> Array:
    """Weights (K,) of K children: those that keep their distances to the others count, a child that strays does not."""
    weights = np.ones(len(offsets))
    for _ in range(_RIGIDITY_ROUNDS):
        turned = np.einsum("tij,kj->tki", _align(offsets, bones, weights), offsets)
        stray_m = np.sqrt(np.square(turned - bones).sum(axis=-1).mean(axis=0))
        weights = 1 / (stray_m**2 + _NEGLIGIBLE_M**2)
        weights /= weights.max()
    return weights


def _align(offsets: Array, bones: Array, weights: Array) -> Array:
    """Rotation matrices (T, 3, 3) that bring offsets (K, 3) closest to bones (T, K, 3) (Kabsch 1976, by SVD)."""
    covariance = np.einsum("k,tki,kj->tij", weights, bones, offsets)
    u, _, vt = np.linalg.svd(covariance)
    u[..., -1] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return np.asarray(u @ vt)


def _swing(offset: Array, bones: Array) -> Array:
    """The shortest turns (T, 4) from a rest offset (3,) to bones (T, 3); none where a bone has no length."""
    if np.linalg.norm(offset) < 1e-9:
        return np.tile((1.0, 0.0, 0.0, 0.0), (len(bones), 1))
    has_length = np.linalg.norm(bones, axis=-1, keepdims=True) > 1e-9
    return quaternion_between(offset, np.where(has_length, bones, offset))


def _limb_twist(joints: Array, rest: Skeleton, joint: int, world: Array) -> Array:
    """Turns (T, 4) about a thigh or an upper arm that let its knee or elbow bend the way it does; none elsewhere.

    `world` (T, 4) is the joint's rotation without twist. The bend is read as a vector in the plane across the bone; a
    constant towards the rest direction and a blur over time carry the twist through frames where the limb is straight.
    """
    none = np.array((1.0, 0.0, 0.0, 0.0))
    (hinge,) = rest.children[joint]
    towards = _BENDS_TOWARDS.get(rest.joint_names[hinge].removeprefix("left_").removeprefix("right_"))
    if towards is None or len(rest.children[hinge]) != 1 or rest.bone_lengths[hinge] < 1e-9:
        return none
    (end,) = rest.children[hinge]
    axis = rest.directions[hinge]
    forward = normalize(np.array(towards) - np.dot(towards, axis) * axis)
    sideways = np.cross(axis, forward)
    beyond = quaternion_rotate(quaternion_inverse(world), joints[:, end] - joints[:, hinge])
    beyond = beyond / max(rest.bone_lengths[end], 1e-9)
    bend = np.stack((beyond @ forward, beyond @ sideways), axis=-1)
    # the square of the sine: a slight bend is mostly noise
    bend = bend * np.linalg.norm(bend, axis=-1, keepdims=True) + (_STRAIGHTNESS**2, 0.0)
    bend = _blurred(bend)
    angle = np.arctan2(bend[:, 1], bend[:, 0])
    return axis_angle_to_quaternion(angle[:, None] * axis)


def _blurred(signal: Array) -> Array:
    """A signal (T, D) blurred over time by a narrow Gaussian, ends repeated."""
    radius = int(np.ceil(3 * _TWIST_SIGMA_FRAMES))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / _TWIST_SIGMA_FRAMES) ** 2)
    padded = np.pad(signal, ((radius, radius), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=0)
    return np.asarray(windows @ (kernel / kernel.sum()))
