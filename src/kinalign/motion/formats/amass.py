"""AMASS sequences (SMPL-H, npz) to joints, with a body model that the user supplies; neither can be shipped.

Only joints are computed: the joint regressor on the shaped template, then forward kinematics. Pose-dependent shape
moves the skin and no joint, so it is left out. Body models are read as npz only: the published .pkl files run code when
loaded; the download page of SMPL-H offers both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import FormatError, MotionError
from kinalign.motion.formats.arrays import read_archive
from kinalign.motion.kinematics import world_transforms
from kinalign.motion.motion import FPS, Motion
from kinalign.motion.rotations import axis_angle_to_quaternion
from kinalign.motion.skeleton import HUMANML3D

_RATES = ("mocap_framerate", "mocap_frame_rate")


def read_amass(path: str | Path, body_model_path: str | Path) -> Motion:
    """The motion of an AMASS npz on HumanML3D's 22 joints, y up, taken at every n-th frame to about 20 fps.

    `body_model_path` is a model npz (v_template, shapedirs, J_regressor, kintree_table), or the published folder with
    male/model.npz, female/model.npz and neutral/model.npz, of which the sequence's gender is taken. As published, n is
    floor(rate / 20), and (x, y, z) of the z-up world becomes (-x, z, y); the frame rate is the true one, rate / n.
    Raises FormatError, with the file's name, for a file that is cut short, pickled or of another layout.
    """
    path, body_model_path = Path(path), Path(body_model_path)
    sequence = _fields(path, ("poses", "trans", "betas"), optional=("gender", *_RATES))
    rate = next((float(sequence[name]) for name in _RATES if name in sequence), None)
    if rate is None or not (np.isfinite(rate) and rate > 0):
        raise FormatError(f"{path} has no positive {' or '.join(_RATES)}; it is no AMASS sequence of motion")
    poses, trans = sequence["poses"], sequence["trans"]
    if poses.ndim != 2 or poses.shape[1] % 3 or trans.shape != (len(poses), 3):
        raise FormatError(f"{path}: poses {poses.shape} and trans {trans.shape} should be (T, 3 * joints) and (T, 3)")

    if body_model_path.is_dir():
        body_model_path = body_model_path / _gender(sequence.get("gender")) / "model.npz"
    rest_joints, parents = _rest_joints(body_model_path, betas=sequence["betas"].astype(float))
    num_joints = HUMANML3D.num_joints
    if poses.shape[1] < 3 * num_joints:
        raise FormatError(f"{path}: poses hold {poses.shape[1] // 3} joints; HumanML3D needs the first {num_joints}")

    stride = max(int(rate // FPS), 1)
    axis_angles = poses[::stride, : 3 * num_joints].reshape(-1, num_joints, 3)
    # SMPL-H's first 22 joints are HumanML3D's, in its order
    translations = rest_joints[:num_joints] - np.where(parents[:, None] >= 0, rest_joints[parents], 0.0)
    positions = world_transforms(axis_angle_to_quaternion(axis_angles), translations, parents.tolist()).positions
    positions = positions + trans[::stride, None]
    joints = positions[..., [0, 2, 1]] * np.array([-1.0, 1.0, 1.0])
    try:
        return Motion(joints, fps=rate / stride, skeleton=HUMANML3D)
    except MotionError as error:
        raise FormatError(f"{path}: {error}") from error


def _rest_joints(path: Path, *, betas: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Joints (K, 3) of the shaped body at rest, in metres, and the parents of the first 22."""
    model = _fields(path, ("v_template", "shapedirs", "J_regressor", "kintree_table"))
    template, shapes, regressor = model["v_template"], model["shapedirs"], model["J_regressor"]
    num_vertices, num_betas = len(template), min(len(betas), shapes.shape[-1])
    if shapes.shape[:2] != (num_vertices, 3) or regressor.shape[1:] != (num_vertices,):
        raise FormatError(
            f"{path}: v_template {template.shape}, shapedirs {shapes.shape} and J_regressor {regressor.shape} "
            "do not fit one another; they are (V, 3), (V, 3, betas) and (joints, V)"
        )
    # the root's parent is stored as -1 in an unsigned integer
    parents = model["kintree_table"][0].astype(np.int64)[: HUMANML3D.num_joints].copy()
    parents[0] = -1
    if tuple(parents) != HUMANML3D.parents:
        raise FormatError(f"{path}: kintree_table is not that of SMPL or SMPL-H; its first 22 parents are {parents}")
    return regressor @ (template + shapes[..., :num_betas] @ betas[:num_betas]), parents


def _fields(path: Path, needed: tuple[str, ...], *, optional: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    if path.suffix.lower() in (".pkl", ".pickle"):
        raise FormatError(f"{path} is a pickle: loading one runs its code. Give the npz of the same model")
    fields = read_archive(path, only=(*needed, *optional))
    missing = [name for name in needed if name not in fields]
    if missing:
        raise FormatError(f"{path} lacks {', '.join(missing)}; it is no AMASS sequence or SMPL-H body model (npz)")
    return fields


def _gender(value: NDArray[Any] | None) -> str:
    """'male', 'female' or 'neutral'; some sequences store bytes."""
    gender = value.item() if value is not None else "neutral"
    return gender.decode() if isinstance(gender, bytes) else str(gender)
