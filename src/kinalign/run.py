"""A run folder: what was asked (config.json), where (environment.json), what happened (metrics.jsonl), where it stands
(checkpoints/). Stop and resume equals never stopped.

Every file is written whole or not at all. Tensors are safetensors and the rest is JSON: nothing read from a disk is
executed. Where two programs in one folder would cost, the first one locks it; else they are the user's mistake.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import platform
import re
import secrets
import subprocess
import sys
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from kinalign.errors import CheckpointError, ConfigError, KinalignError

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a temporary file beside `path`, then put it in place: whole or not at all.

    The temporary name keeps the suffix, by which many writers choose a format. Folders are made where missing. Raises
    KinalignError where the disk is full, read only or the name is a folder; nothing is left behind then.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise KinalignError(_cannot_write(path, error)) from error
    finally:
        # a parent that is a file makes even this an error, which would hide the first one
        if temporary.exists():
            temporary.unlink()
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` in UTF-8, atomically, with the same line ends on every system."""
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_json(path: str | Path, value: Any) -> Path:
    """Write `value` as indented JSON, atomically."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file; raises CheckpointError where it is absent, cut short or no object."""
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({_reason(error)}); it is absent or cut short") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}; it should hold one JSON object")
    return value


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> Path:
    """Write named tensors as safetensors, atomically. Tensors that share memory (tied weights) are written each."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    own: dict[str, Tensor] = {}
    storages = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if storage in storages else tensor
        storages.add(storage)

    def write(temporary: Path) -> None:
        try:
            save_file(own, temporary)
        except SafetensorError as error:  # how it reports a full disk, with the number in the text
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else 0, str(error)) from error

    return write_atomically(path, write)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Named tensors of a safetensors file, on the CPU; raises CheckpointError where it is absent or cut short."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({_reason(error)}); it is absent or cut short") from error


def sha256_of_file(path: Path) -> str:
    """Of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_weights(modules: Iterable[nn.Module]) -> str:
    """Of names, types and values of all tensors of networks, wherever they were read from."""
    return sha256_of_tensors(named for module in modules for named in module.state_dict().items())


def sha256_of_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Of names, types, shapes and values, in their order."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def pack_rows(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix in 8 bits a weight and a scale (rows, 1) for each row, off by at most half a scale."""
    import torch

    scale = (tensor.float().abs().amax(1, keepdim=True) / 127).clamp(min=1e-12)
    return (tensor.float() / scale).round().to(torch.int8), scale


SCALE = ".scale"


def unpack_rows(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Named tensors in which every matrix that pack_rows packed is a matrix of float32 again."""
    return {
        name: tensor.float() * tensors[name + SCALE] if name + SCALE in tensors else tensor
        for name, tensor in tensors.items()
        if not name.endswith(SCALE)
    }


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], *, origin: str, tied: Collection[str] = ()) -> None:
    """Load weights of the same names and shapes, cast to the module's types; CheckpointError names what differs.

    `tied` names tensors that are others under a second name: they are not looked for.
    """
    own = {name: tensor for name, tensor in module.state_dict().items() if name not in tied}
    absent, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if absent or extra:
        raise CheckpointError(
            f"{origin} does not fit this network: {_some('absent', absent)}{_some('unknown', extra)}".strip()
        )
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise CheckpointError(
                f"{origin}: {name} has shape {tuple(tensor.shape)}; this network needs {tuple(own[name].shape)}"
            )
    # names were compared above: not strict lets only the tied ones be absent
    module.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in tensors.items()}, strict=False)


def _some(what: str, names: Sequence[str]) -> str:
    return f"{len(names)} tensors {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}) " if names else ""


class Checkpoint(NamedTuple):
    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A folder that one run writes: config.json, environment.json, metrics.jsonl and checkpoints/."""

    path: Path

    @staticmethod
    def open(path: str | Path, config: Any) -> RunFolder:
        """The run in `path`, begun now or earlier, with `config` a dataclass or a dict.

        Raises ConfigError, naming what differs, where the folder was begun with another configuration.
        """
        run = RunFolder(Path(path))
        wanted = config_to_json(config)
        if run.config_path.exists():
            found = read_json(run.config_path)
            differences = [
                f"{key} is {found.get(key, 'absent')!r} there and {wanted.get(key, 'absent')!r} here"
                for key in sorted(found.keys() | wanted.keys())
                if found.get(key) != wanted.get(key)
            ]
            if differences:
                raise ConfigError(
                    f"{run.path} was begun with another configuration: {'; '.join(differences)}; "
                    "use the same settings to resume it, or another folder to begin anew"
                )
        else:
            write_json(run.path / "environment.json", environment(seed=wanted.get("seed")))
            # last, because a folder with a config.json is a run that began
            write_json(run.config_path, wanted)
        return run

    @property
    def config_path(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def _checkpoint_path(self) -> Path:
        return self.path / "checkpoints" / "checkpoint.json"

    def log(self, step: int, **values: float) -> None:
        """Append one line to metrics.jsonl: `run.log(step, **{"codebook/perplexity": 301.5})`."""
        row = {"step": step} | {name: v if isinstance(v, int) else float(v) for name, v in values.items()}
        try:
            with self.metrics_path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise KinalignError(_cannot_write(self.metrics_path, error)) from error

    def metrics(self) -> list[dict[str, float]]:
        """The rows of metrics.jsonl, in order; a last line that a kill cut short is left out."""
        if not self.metrics_path.exists():
            return []
        lines = self.metrics_path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def save_checkpoint(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Keep tensors (weights, optimiser, generators) and a JSON-able state as of `step`; log `step` before.

        The tensors are written under a new name, then checkpoint.json, which names them, replaces the former one: the
        pair changes in one instant, and a kill leaves the old pair or the new one. Then the former is removed.
        """
        name = f"step-{step:08d}-{secrets.token_hex(4)}.safetensors"
        folder = self._checkpoint_path.parent
        write_tensors(folder / name, tensors)
        write_json(self._checkpoint_path, {"step": step, "tensors": name, "state": dict(state)})
        for other in folder.iterdir():
            if other.name not in (name, self._checkpoint_path.name):
                other.unlink()

    def load_checkpoint(self) -> Checkpoint | None:
        """Where the run stands, or None at its beginning. Log lines of later steps are cut off, to be made again."""
        checkpoint = None
        if self._checkpoint_path.exists():
            saved = read_json(self._checkpoint_path)
            tensors = read_tensors(self._checkpoint_path.parent / saved["tensors"])
            checkpoint = Checkpoint(saved["step"], tensors, saved["state"])
        last_step = checkpoint.step if checkpoint else -1
        kept = [json.dumps(row) + "\n" for row in self.metrics() if row["step"] <= last_step]
        write_text(self.metrics_path, "".join(kept))
        return checkpoint


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Keep other programs that ask for it out of a folder, by a lock that ends with this process, however that ends.

    Raises ConfigError, with the process that holds it, where another one is at work there.
    """
    path = Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            take_lock(file.fileno())
        except OSError as error:
            holder = path.read_text(encoding="utf-8").strip()
            raise ConfigError(
                f"{folder} is in use by process {holder or 'of another program'}; wait until it has ended or choose "
                "another folder (--out)"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def take_lock(descriptor: int) -> None:
    """Take the lock of an open file; raises OSError where another process has it."""
    if sys.platform == "win32":
        import msvcrt

        # Windows keeps locked bytes from being read: one far behind the text
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def environment(*, seed: int | None = None) -> dict[str, Any]:
    """What a run depends on besides its configuration: versions, machine, commit, seed."""
    return {
        "begun": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor_count": os.cpu_count(),
        "packages": {name: version_of(name) for name in ("kinalign", "numpy", "torch", "transformers")},
        "commit": _commit(),
        "seed": seed,
    }


def version_of(package: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Kinalign's own commit; None where it is installed from a wheel, because a repository around that is another."""
    source = Path(__file__)
    if "site-packages" in source.parts:
        return None
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=source.parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return None
    return answer.stdout.strip()


def config_to_json(config: Any) -> dict[str, Any]:
    """A dataclass (nested ones too) or a dict as JSON would give it back: tuples as lists, paths as text."""
    fields = dict(config) if isinstance(config, Mapping) else dataclasses.asdict(config)
    text = json.dumps(fields, default=lambda value: value.as_posix() if isinstance(value, Path) else _refuse(value))
    plain: dict[str, Any] = json.loads(text)
    return plain


def _refuse(value: object) -> Any:
    raise TypeError(f"a configuration holds numbers, text, paths, tuples and dataclasses; {value!r} is none of them")


def config_from_json(cls: type[T], values: Mapping[str, Any], *, at: str = "") -> T:
    """The dataclass `cls` from what `config_to_json` gave.

    Raises ConfigError for an unknown key (with the known ones), an absent key without a default, and a value that the
    field's type does not allow. `at` is where the values stand in an outer configuration, for the message.
    """
    assert dataclasses.is_dataclass(cls)
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    for key in values:
        if key not in fields:
            raise ConfigError(f"unknown key {at + key!r} for {cls.__name__}; it knows {', '.join(fields)}")
    for name, field in fields.items():
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in values and not has_default:
            raise ConfigError(f"{cls.__name__} needs {at + name!r}, which is absent")
    given = {name: _as_type(hints[name], value, at=at + name) for name, value in values.items()}
    return cls(**given)


def _as_type(kind: Any, value: Any, *, at: str) -> Any:
    """`value`, as JSON gives it, as the annotation `kind` wants it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        *choices, last = [choice for choice in arguments if choice is not type(None)]
        for choice in choices:
            try:
                return _as_type(choice, value, at=at)
            except ConfigError:
                pass  # the next choice may fit; the last one's message says what is wrong
        return _as_type(last, value, at=at)
    if origin is Literal:
        if value in arguments:
            return value
        raise ConfigError(f"{at}={value!r} is unknown; use one of {', '.join(map(repr, arguments))}")
    if origin in (tuple, list) and isinstance(value, (list, tuple)):
        kinds = arguments[:1] * len(value) if origin is list or arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise ConfigError(f"{at}={value!r} has {len(value)} values; it needs {len(kinds)}")
        return origin(_as_type(k, v, at=f"{at}[{i}]") for i, (k, v) in enumerate(zip(kinds, value)))
    if origin is dict and isinstance(value, Mapping):
        return {key: _as_type(arguments[1], entry, at=f"{at}.{key}") for key, entry in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return config_from_json(kind, value, at=f"{at}.")  # type: ignore[arg-type]
    if kind is Path and isinstance(value, (str, Path)):
        return Path(value)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    # True is an int to Python, but not to whoever wrote the configuration
    if kind is Any or (
        isinstance(kind, type) and isinstance(value, kind) and (kind is bool) == isinstance(value, bool)
    ):
        return value
    raise ConfigError(f"{at}={value!r} should be {getattr(kind, '__name__', kind)}")


@contextmanager
def progress(what: str, *, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr with the time left; yields `advance(amount=1, note="loss 0.31")`."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("·"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task(what, total=total, completed=done, note="")

        def advance(amount: int = 1, *, note: str = "") -> None:
            bar.update(task, advance=amount, note=note)

        yield advance


def _cannot_write(path: Path, error: OSError) -> str:
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    way_out = "free some space or write to another disk" if is_full else "choose a folder that you may write to"
    return f"cannot write {path} ({_reason(error)}); {way_out}"


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
