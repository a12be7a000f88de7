"""A body's topology: joint names, parents, chains, left and right, feet, rest offsets in metres.

Two skeletons are built in, HumanML3D's 22 joints (SMPL's body without hands) and KIT's 21. The chains and rest
directions are those of the published HumanML3D processing, because features are defined by them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinalign.errors import MotionError

Array = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Topology and rest pose of a body.

    `chains` lists joint indices from the root or a branch outwards; every joint but the root is in exactly one chain
    after its first place. `directions` (J, 3) are unit vectors from parent to joint in the rest pose, y up and facing
    +z; `bone_lengths` (J,) are metres, 0 at the root. `hips` and `shoulders` are (right, left); `left_foot` and
    `right_foot` are (ankle, toe); `leg` are the two joints whose bones measure the size of the body.
    """

    name: str
    joint_names: tuple[str, ...]
    chains: tuple[tuple[int, ...], ...]
    directions: Array = field(repr=False)
    bone_lengths: Array = field(repr=False)
    hips: tuple[int, int]
    shoulders: tuple[int, int]
    left_foot: tuple[int, int]
    right_foot: tuple[int, int]
    leg: tuple[int, int]
    fps: float
    """Frames per second of the data set that the skeleton is of: what a file that says none is read at, and what a
    tokenizer of the skeleton works at."""

    @property
    def num_joints(self) -> int:
        return len(self.joint_names)

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """Parent index of each joint; -1 at the root. Parents stand before their children in `topological_order`."""
        parents = [-1] * self.num_joints
        for chain in self.chains:
            for parent, child in pairwise(chain):
                parents[child] = parent
        return tuple(parents)

    @cached_property
    def topological_order(self) -> tuple[int, ...]:
        """Joint indices, every parent before its children."""
        order, waiting = [0], set(range(1, self.num_joints))
        while waiting:
            ready = [j for j in sorted(waiting) if self.parents[j] in order]
            order += ready
            waiting -= set(ready)
        return tuple(order)

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(j for j, p in enumerate(self.parents) if p == i) for i in range(self.num_joints))

    @cached_property
    def offsets(self) -> Array:
        """(J, 3) vectors in metres from parent to joint in the rest pose."""
        return np.asarray(self.directions * self.bone_lengths[:, None])

    @cached_property
    def mirrored_joints(self) -> tuple[int, ...]:
        """For each joint the index of its twin on the other side; the joint itself on the midline."""
        swap = {"left": "right", "right": "left"}
        twins = ["_".join(swap.get(word, word) for word in name.split("_")) for name in self.joint_names]
        return tuple(self.joint_names.index(twin) for twin in twins)

    @property
    def feet(self) -> tuple[int, int, int, int]:
        """Left ankle, left toe, right ankle, right toe: the order of the four contact features."""
        return (*self.left_foot, *self.right_foot)

    def index(self, joint_name: str) -> int:
        """Index of a joint by its name; raises MotionError with the known names."""
        if joint_name not in self.joint_names:
            raise MotionError(
                f"no joint {joint_name!r} in skeleton {self.name!r}; it has {', '.join(self.joint_names)}"
            )
        return self.joint_names.index(joint_name)

    def with_bone_lengths_of(self, joints: ArrayLike) -> Skeleton:
        """This topology with the bone lengths of one frame, `joints` (J, 3) in metres."""
        pose = np.asarray(joints, dtype=np.float64)
        if pose.shape != (self.num_joints, 3):
            raise MotionError(f"one frame of {self.name} is ({self.num_joints}, 3), not {pose.shape}")
        if not np.isfinite(pose).all():
            raise MotionError("bone lengths need finite joints; this frame holds NaN or infinity")
        lengths = np.zeros(self.num_joints)
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                lengths[joint] = np.linalg.norm(pose[joint] - pose[parent])
        return replace(self, bone_lengths=lengths)

    @staticmethod
    def from_joints(joints: ArrayLike) -> Skeleton:
        """HumanML3D's or KIT's topology, told by the number of joints, with the bone lengths of one frame (J, 3)."""
        num_joints = len(np.asarray(joints))
        return skeleton_for(num_joints).with_bone_lengths_of(joints)


def skeleton_for(num_joints: int) -> Skeleton:
    """The built-in skeleton with that many joints; raises MotionError when there is none."""
    for skeleton in (HUMANML3D, KIT):
        if skeleton.num_joints == num_joints:
            return skeleton
    raise MotionError(
        f"{num_joints} joints fit no built-in skeleton; HumanML3D has {HUMANML3D.num_joints} and KIT {KIT.num_joints}"
    )


_UP, _DOWN = (0.0, 1.0, 0.0), (0.0, -1.0, 0.0)
_LEFT, _RIGHT = (1.0, 0.0, 0.0), (-1.0, 0.0, 0.0)
_FRONT, _ROOT = (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)

# (name, rest direction, rest length in metres: an adult of 1.7 m)
_HUMANML3D_JOINTS = (
    ("pelvis", _ROOT, 0.0),
    ("left_hip", _LEFT, 0.142),
    ("right_hip", _RIGHT, 0.142),
    ("spine1", _UP, 0.116),
    ("left_knee", _DOWN, 0.428),
    ("right_knee", _DOWN, 0.428),
    ("spine2", _UP, 0.117),
    ("left_ankle", _DOWN, 0.41),
    ("right_ankle", _DOWN, 0.41),
    ("spine3", _UP, 0.058),
    ("left_foot", _FRONT, 0.126),
    ("right_foot", _FRONT, 0.126),
    ("neck", _UP, 0.234),
    ("left_collar", _LEFT, 0.111),
    ("right_collar", _RIGHT, 0.111),
    ("head", _FRONT, 0.092),
    ("left_shoulder", _DOWN, 0.123),
    ("right_shoulder", _DOWN, 0.123),
    ("left_elbow", _DOWN, 0.279),
    ("right_elbow", _DOWN, 0.279),
    ("left_wrist", _DOWN, 0.19),
    ("right_wrist", _DOWN, 0.19),
)

# Published rest directions point KIT's right side along +x; features need them as they are.
# KIT's own unit is the millimetre; the lengths here are its proportions in metres.
_KIT_JOINTS = (
    ("pelvis", _ROOT, 0.0),
    ("spine1", _UP, 0.12),
    ("spine2", _UP, 0.24),
    ("neck", _UP, 0.21),
    ("head", _UP, 0.11),
    ("right_shoulder", _LEFT, 0.2),
    ("right_elbow", _DOWN, 0.27),
    ("right_wrist", _DOWN, 0.22),
    ("left_shoulder", _RIGHT, 0.2),
    ("left_elbow", _DOWN, 0.27),
    ("left_wrist", _DOWN, 0.22),
    ("right_hip", _LEFT, 0.09),
    ("right_knee", _DOWN, 0.42),
    ("right_ankle", _DOWN, 0.42),
    ("right_heel", _FRONT, 0.05),
    ("right_foot", _FRONT, 0.13),
    ("left_hip", _RIGHT, 0.09),
    ("left_knee", _DOWN, 0.42),
    ("left_ankle", _DOWN, 0.42),
    ("left_heel", _FRONT, 0.05),
    ("left_foot", _FRONT, 0.13),
)

HUMANML3D = Skeleton(
    name="humanml3d",
    joint_names=tuple(name for name, _, _ in _HUMANML3D_JOINTS),
    chains=((0, 2, 5, 8, 11), (0, 1, 4, 7, 10), (0, 3, 6, 9, 12, 15), (9, 14, 17, 19, 21), (9, 13, 16, 18, 20)),
    directions=np.array([direction for _, direction, _ in _HUMANML3D_JOINTS]),
    bone_lengths=np.array([length for _, _, length in _HUMANML3D_JOINTS]),
    hips=(2, 1),
    shoulders=(17, 16),
    left_foot=(7, 10),
    right_foot=(8, 11),
    leg=(5, 8),
    fps=20.0,
)

KIT = Skeleton(
    name="kit",
    joint_names=tuple(name for name, _, _ in _KIT_JOINTS),
    chains=((0, 11, 12, 13, 14, 15), (0, 16, 17, 18, 19, 20), (0, 1, 2, 3, 4), (3, 5, 6, 7), (3, 8, 9, 10)),
    directions=np.array([direction for _, direction, _ in _KIT_JOINTS]),
    bone_lengths=np.array([length for _, _, length in _KIT_JOINTS]),
    hips=(11, 16),
    shoulders=(5, 8),
    left_foot=(19, 20),
    right_foot=(14, 15),
    leg=(17, 18),
    fps=12.5,
)
