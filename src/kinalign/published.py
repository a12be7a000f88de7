"""Checkpoints that others published. Most are pickles, which can hold code: only tensors are taken out of them.

torch's weights-only reader builds tensors and refuses everything else; nothing in a file is executed.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinalign.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

OTHERS = ("_buffers", "metrics.", "datamodule.")
"""What else a Lightning checkpoint may hold, tensors or not; of no use here."""
POINTER = b"version https://git-lfs.github.com/spec/"
"""How a file begins that stands where git-lfs has not yet put the real one."""


def read_weights_only(checkpoint: str | Path) -> Any:
    """What torch saved in a file, tensors and plain containers, without executing anything in it.

    Raises CheckpointError where it is absent, damaged, or holds anything else.
    """
    import torch

    path = Path(checkpoint)
    require_whole(path)
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
    from torch import Tensor

    path, content = Path(checkpoint), read_weights_only(checkpoint)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is no checkpoint: it holds no dictionary of tensors")
    tensors = {str(name): value for name, value in state.items() if not str(name).startswith(OTHERS)}
    if wrong := [name for name, value in tensors.items() if not isinstance(value, Tensor)]:
        raise CheckpointError(f"{path} is no checkpoint: {', '.join(wrong[:3])} are no tensors")
    return tensors


def require_whole(path: Path) -> None:
    """Raises CheckpointError where a file is absent or is git-lfs's pointer to the real one."""
    if not path.is_file():
        raise CheckpointError(f"{path} is absent")
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise CheckpointError(
                f"{path} is a git-lfs pointer of {path.stat().st_size} bytes, not the file itself; fetch it with "
                "`git lfs install && git lfs pull` where it was cloned, or download it"
            )
