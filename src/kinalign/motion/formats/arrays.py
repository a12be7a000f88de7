"""Motions as numpy files: .npy holds joints or HumanML3D features and nothing else, .npz also what they mean.

Pickled objects are refused: reading one would run its code.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import FormatError, MotionError
from kinalign.motion.features import features_to_motion
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, KIT, skeleton_for
from kinalign.run import write_atomically

Array = NDArray[Any]


def read_npy(path: str | Path, *, fps: float | None = None) -> Motion:
    """The motion of an npy file: joints (T, J, 3) in metres, or features (T, 263) or (T, 251), told by the shape.

    The file says no frame rate: `fps` does, else its skeleton: 20 with 22 joints, 12.5 with KIT-ML's 21. Raises
    FormatError, with the file's name, for anything else.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FormatError(f"cannot read {path} as npy: {_why(error)}") from error
    if not isinstance(array, np.ndarray):
        raise FormatError(f"{path} is an npz archive under the name of an npy; rename it to .npz")
    if array.dtype.kind not in "fiu" or array.ndim not in (2, 3):
        raise FormatError(
            f"{path} holds {array.dtype} of shape {array.shape}; a motion is joints (T, J, 3) or features (T, F)"
        )
    try:
        if array.ndim == 2:
            return features_to_motion(array, fps=fps)
        skeleton = skeleton_for(array.shape[1])
        return Motion(array, fps=skeleton.fps if fps is None else fps, skeleton=skeleton)
    except MotionError as error:
        raise FormatError(f"{path}: {error}") from error


def write_npy(motion: Motion, path: str | Path) -> None:
    """Joints (T, J, 3) float32 in metres. Frame rate and caption are lost: use .npz to keep them."""
    write_atomically(path, lambda temporary: np.save(temporary, motion.joints.astype(np.float32)))


def read_npz(path: str | Path) -> Motion:
    """The motion of an npz file with `joints` (T, J, 3) and, where given, `fps`, `caption` and `skeleton` (its name).

    Raises FormatError, with the file's name, for an archive of another kind.
    """
    path = Path(path)
    fields = read_archive(path)
    if "joints" not in fields:
        hint = (
            "; this looks like AMASS: use read_amass with a body model" if {"poses", "trans"} <= fields.keys() else ""
        )
        raise FormatError(f"{path} has no array 'joints'; it has {', '.join(fields) or 'nothing'}{hint}")
    joints = fields["joints"]
    known = {skeleton.name: skeleton for skeleton in (HUMANML3D, KIT)}
    name = str(fields["skeleton"]) if "skeleton" in fields else None
    if name is not None and name not in known:
        raise FormatError(f"{path} stands on skeleton {name!r}; known are {', '.join(known)}")
    if joints.dtype.kind not in "fiu" or joints.ndim != 3:
        raise FormatError(f"{path}: 'joints' is {joints.dtype} of shape {joints.shape}; a motion is (T, J, 3) numbers")
    try:
        skeleton = known[name] if name else skeleton_for(joints.shape[1])
        return Motion(
            joints,
            fps=float(fields.get("fps", np.asarray(skeleton.fps))),
            skeleton=skeleton,
            caption=str(fields.get("caption", "")),
        )
    except (MotionError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: {error}") from error


def write_npz(motion: Motion, path: str | Path) -> None:
    """Joints (T, J, 3) float32 in metres with frame rate, caption and the skeleton's name; compressed."""
    fields: dict[str, Any] = {
        "joints": motion.joints.astype(np.float32),
        "fps": np.float64(motion.fps),
        "caption": np.str_(motion.caption),
        "skeleton": np.str_(motion.skeleton.name),
    }
    write_atomically(path, lambda temporary: np.savez_compressed(temporary, **fields))


def read_archive(path: Path, *, only: tuple[str, ...] | None = None) -> dict[str, Array]:
    """The arrays of an npz file, all or those of `only` that are there; FormatError when it is cut short or pickled."""
    try:
        # numpy leaves a file open that it opened itself and could not read
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if only is None or name in only}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise FormatError(f"cannot read {path} as npz: {_why(error)}") from error


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    text = str(error)
    if "pickle" in text:
        return (
            "it is no numpy file, or holds pickled objects, which are never loaded because loading runs their code; "
            "save plain arrays"
        )
    return f"{text or type(error).__name__}; the file may be cut short or of another kind"
