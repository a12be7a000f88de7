"""What a motion is: joint positions over time, on a skeleton. A value: every change is a new Motion.

Axes: y up, metres, right-handed; a body that faces +z has its left side at +x. Shapes: T frames, J joints.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinalign.errors import FormatError, MotionError
from kinalign.motion.rotations import quaternion_between, quaternion_rotate
from kinalign.motion.skeleton import HUMANML3D, Skeleton

Array = NDArray[np.floating]

FPS = HUMANML3D.fps
"""Frames per second of HumanML3D, of openmocap20 and of all that models of its 22 joints speak: 20."""

# Who writes a suffix, by name: figures live two floors up and are loaded only when asked for.
WRITERS = {
    ".npy": "kinalign.motion.formats.arrays:write_npy",
    ".npz": "kinalign.motion.formats.arrays:write_npz",
    ".bvh": "kinalign.motion.formats.bvh:write_bvh",
    ".glb": "kinalign.motion.formats.glb:write_glb",
    ".html": "kinalign.render.player:write_player",
    ".png": "kinalign.render.sheet:write_sheet",
    ".gif": "kinalign.render.video:write_video",
    ".mp4": "kinalign.render.video:write_video",
    ".webm": "kinalign.render.video:write_video",
}
READERS = {
    ".npy": "kinalign.motion.formats.arrays:read_npy",
    ".npz": "kinalign.motion.formats.arrays:read_npz",
    ".bvh": "kinalign.motion.formats.bvh:read_bvh",
}


def _resolve(table: dict[str, str], path: Path, verb: str) -> Any:
    suffix = path.suffix.lower()
    if suffix not in table:
        raise FormatError(f"cannot {verb} {path.name!r}: suffix {suffix!r} is unknown; use one of {', '.join(table)}")
    module, function = table[suffix].split(":")
    return getattr(importlib.import_module(module), function)


@dataclass(frozen=True, eq=False)
class Motion:
    """Joints (T, J, 3) in metres, y up, at `fps` frames per second, on a skeleton; `caption` says what happens.

    Raises MotionError on another shape, on NaN or infinity, on no frames, on a frame rate that is not positive.
    """

    joints: Array
    fps: float = FPS
    skeleton: Skeleton = HUMANML3D
    caption: str = ""

    def __post_init__(self) -> None:
        joints = np.asarray(self.joints)
        expected = f"(T, {self.skeleton.num_joints}, 3) for skeleton {self.skeleton.name!r}"
        if joints.ndim != 3 or joints.shape[1:] != (self.skeleton.num_joints, 3):
            raise MotionError(f"joints have shape {joints.shape}; a motion needs {expected}")
        if len(joints) == 0:
            raise MotionError("a motion needs at least 1 frame; this one has 0")
        joints = joints.astype(np.float32, copy=False)
        if not np.isfinite(joints).all():
            frame = int(np.argmin(np.isfinite(joints).all(axis=(1, 2))))
            raise MotionError(f"joints are not finite: frame {frame} of {len(joints)} holds NaN or infinity")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise MotionError(f"fps={self.fps} must be a positive number of frames per second")
        object.__setattr__(self, "joints", joints)

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def num_frames(self) -> int:
        return len(self.joints)

    @property
    def duration_s(self) -> float:
        """Seconds that the frames last, each for 1 / fps."""
        return len(self.joints) / self.fps

    def __getitem__(self, frames: slice) -> Motion:
        """The frames of a slice, as a motion; `motion[20:60]`."""
        if not isinstance(frames, slice):
            raise TypeError(f"a motion is sliced, motion[a:b]; for frame {frames!r} read motion.joints[{frames!r}]")
        if frames.step not in (None, 1):
            raise MotionError(f"a step of {frames.step} would change the speed; use resample(fps)")
        return replace(self, joints=self.joints[frames])

    def resample(self, fps: float) -> Motion:
        """The same movement at another frame rate, by linear interpolation of positions; the first frame stays."""
        if not (np.isfinite(fps) and fps > 0):
            raise MotionError(f"fps={fps} must be a positive number of frames per second")
        if fps == self.fps:
            return self
        last = len(self.joints) - 1
        # as many frames as fit between the first and the last; the margin keeps 120 -> 20 -> 120 from losing one
        times = np.arange(int(np.floor(last / self.fps * fps + 1e-6)) + 1) * (self.fps / fps)
        before = np.clip(np.floor(times).astype(int), 0, last)
        after = np.minimum(before + 1, last)
        weight = (times - before)[:, None, None]
        joints = self.joints[before] * (1 - weight) + self.joints[after] * weight
        return replace(self, joints=joints, fps=float(fps))

    def mirror(self) -> Motion:
        """Left and right swapped: x is negated and every joint becomes its twin. The caption is not changed."""
        joints = self.joints[:, list(self.skeleton.mirrored_joints)] * np.array([-1, 1, 1], dtype=np.float32)
        return replace(self, joints=joints)

    def backwards(self) -> Motion:
        """The same movement as time runs backwards: who sat down stands up. The caption is not changed."""
        return replace(self, joints=self.joints[::-1].copy())

    def facing(self) -> Array:
        """(T, 3) unit vectors in the ground plane that the body faces, from hips and shoulders."""
        return facing_directions(self.joints, self.skeleton)

    def face_forward(self) -> Motion:
        """Turned as a whole about the vertical so that frame 0 faces +z, and moved so that its root is at x = z = 0."""
        turn = quaternion_between(self.facing()[0], np.array([0.0, 0.0, 1.0]))
        origin = self.joints[0, 0] * np.array([1, 0, 1])
        return replace(self, joints=quaternion_rotate(turn, self.joints - origin))

    def on_floor(self) -> Motion:
        """Moved up or down so that the lowest joint of all frames touches y = 0."""
        return replace(self, joints=self.joints - np.array([0, self.joints[..., 1].min(), 0], dtype=np.float32))

    @staticmethod
    def concatenate(motions: Sequence[Motion]) -> Motion:
        """Motions one after the other, as they are: no blending, no moving. All on one skeleton at one frame rate."""
        if not motions:
            raise MotionError("concatenate needs at least one motion")
        first = motions[0]
        for motion in motions[1:]:
            if motion.skeleton.name != first.skeleton.name:
                raise MotionError(f"cannot join skeletons {first.skeleton.name!r} and {motion.skeleton.name!r}")
            if motion.fps != first.fps:
                raise MotionError(f"cannot join {first.fps} and {motion.fps} fps; resample one of them first")
        return replace(first, joints=np.concatenate([motion.joints for motion in motions]))

    def save(self, path: str | Path) -> Path:
        """Write the motion in the format of the suffix (npy, npz, bvh, glb, html, png, gif, mp4, webm)."""
        path = Path(path)
        _resolve(WRITERS, path, "write")(self, path)
        return path

    @staticmethod
    def load(path: str | Path) -> Motion:
        """Read a motion from npy (joints or features), npz or bvh."""
        path = Path(path)
        motion = _resolve(READERS, path, "read")(path)
        assert isinstance(motion, Motion)
        return motion


def facing_directions(joints: ArrayLike, skeleton: Skeleton) -> Array:
    """Unit vectors (..., 3) in the ground plane that poses (..., J, 3) face: up x (across the hips + shoulders).

    Raises MotionError when hips and shoulders say nothing (all joints in one place).
    """
    joints = np.asarray(joints)
    right_hip, left_hip = skeleton.hips
    right_shoulder, left_shoulder = skeleton.shoulders
    across = joints[..., right_hip, :] - joints[..., left_hip, :]
    across = across + joints[..., right_shoulder, :] - joints[..., left_shoulder, :]
    x, z = across[..., 2], -across[..., 0]
    length = np.hypot(x, z)
    if not (length > 1e-8).all():
        raise MotionError("the body faces nowhere: its hips and shoulders lie in one point or one above the other")
    return np.stack((x / length, np.zeros_like(x), z / length), axis=-1)
