"""The tokenizer's commands: train, encode, decode, evaluate, sheet, convert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from kinalign.data.dataset import load_dataset
from kinalign.data.records import Clip
from kinalign.data.tokens import TokenizedClip, TokensInfo, write_tokenized
from kinalign.errors import ConfigError, InvalidCodes
from kinalign.motion.motion import Motion
from kinalign.run import progress, sha256_of_file, write_atomically, write_json
from kinalign.tokenizer.convert import from_published, to_published
from kinalign.tokenizer.evaluate import Reconstruction, evaluate_tokenizer
from kinalign.tokenizer.sheet import codebook_sheet
from kinalign.tokenizer.tokenizer import WEIGHTS, MotionTokenizer
from kinalign.tokenizer.train import TokenizerTraining, train_tokenizer


@dataclass(frozen=True)
class Train:
    """Train a motion tokenizer on the train split of a data set; resumes where it was stopped."""

    out: Path
    """Run folder; the tokenizer is written to OUT/tokenizer."""
    data: Path | None = None
    """A data set that `kinalign data build` wrote, or HumanML3D's folder; openmocap20 where it is left out."""
    training: TokenizerTraining = field(default_factory=TokenizerTraining)
    threads: int = 1
    """Processor threads."""


def train(config: Train) -> None:
    """Train a motion tokenizer on the train split of a data set; resumes where it was stopped."""
    torch.set_num_threads(config.threads)
    tokenizer = train_tokenizer(load_dataset(config.data, "train"), config.training, folder=config.out)
    print(tokenizer.save_pretrained(config.out / "tokenizer"))


@dataclass(frozen=True)
class Encode:
    """Turn a motion file, or a data set, into codes."""

    model: Path
    """Tokenizer folder."""
    source: Annotated[Path, tyro.conf.Positional]
    """A motion file (npy, npz, bvh), or the folder of a data set."""
    out: Path
    """A .npy file for a motion; a tokens folder, for `lm train`, for a data set."""
    threads: int = 1


def encode(config: Encode) -> None:
    """Turn a motion file, or a data set, into codes."""
    torch.set_num_threads(config.threads)
    tokenizer = MotionTokenizer.from_pretrained(config.model)
    if config.source.is_file():
        codes = tokenizer.encode(Motion.load(config.source))
        write_atomically(config.out, lambda path: _save_row(path, codes))
        print(f"{len(codes)} codes -> {config.out}")
        return
    clips = tokenize_clips(tokenizer, load_dataset(config.source), mirror=is_unmirrored(config.source))
    write_tokenized(config.out, clips, tokens_info(tokenizer, config.model))
    print(f"{len(clips)} clips, {sum(len(clip.codes) for clip in clips)} codes -> {config.out}")


def _save_row(path: Path, codes: np.ndarray) -> None:
    # given a name rather than a file, numpy would add .npy to another suffix
    with path.open("wb") as file:
        np.save(file, codes)


def is_unmirrored(data: Path | None) -> bool:
    """True of openmocap20; a built data set and HumanML3D's hold mirrored copies of their own."""
    return data is None or (data / "motions.npz").is_file()


def tokens_info(tokenizer: MotionTokenizer, folder: Path) -> TokensInfo:
    """Which codes a tokenizer folder gives."""
    return TokensInfo(
        num_codes=tokenizer.num_codes,
        codes_per_step=tokenizer.codes_per_step,
        frames_per_step=tokenizer.frames_per_step,
        fps=tokenizer.config.fps,
        tokenizer_sha256=sha256_of_file(folder / WEIGHTS),
    )


def tokenize_clips(
    tokenizer: MotionTokenizer, clips: Sequence[Clip], *, shifts: Sequence[int] = (0,), mirror: bool = True
) -> list[TokenizedClip]:
    """Codes of clips and of their mirrored copies, again without the last `shifts` frames; too short ones are left out.

    Steps are whole, so up to frames_per_step frames are lost: the first ones, for the end is where a jump lands.
    Only train clips are mirrored and shifted, and only those of two seconds or more are shifted.
    """
    rows = []
    with progress("encode", total=len(clips)) as advance:
        for clip in clips:
            in_train = clip.split == "train"
            for mirrored in (False, True) if mirror and in_train else (False,):
                motion = clip.motion.mirror() if mirrored else clip.motion
                for shift in shifts if in_train and motion.duration_s >= 2 else (0,):
                    end = len(motion) - shift
                    if end > 2 * tokenizer.frames_per_step:
                        words = (clip.captions, clip.source, clip.split, clip.label, clip.style)
                        codes = tokenizer.encode(motion[(end - 1) % tokenizer.frames_per_step : end])
                        rows.append(TokenizedClip(clip.id, codes, *words, mirrored=mirrored))
            advance()
    return rows


@dataclass(frozen=True)
class Decode:
    """Turn codes back into a motion file."""

    model: Path
    """Tokenizer folder."""
    codes: Annotated[Path, tyro.conf.Positional]
    """A .npy row of integers, as `tokenizer encode` writes."""
    out: Path
    """Motion file; its suffix chooses the format."""


def decode(config: Decode) -> None:
    """Turn codes back into a motion file."""
    try:
        codes = np.load(config.codes, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidCodes(f"{config.codes} cannot be read as a row of codes ({error})") from error
    motion = MotionTokenizer.from_pretrained(config.model).decode(codes)
    print(f"{len(motion)} frames -> {motion.save(config.out)}")


@dataclass(frozen=True)
class Evaluate:
    """Measure how well clips that a tokenizer never saw come back, by source."""

    model: Path
    """Tokenizer folder."""
    data: Path | None = None
    """Folder of a data set; openmocap20 where it is left out."""
    split: Literal["train", "val", "test"] = "test"
    out: Path | None = None
    """JSON file for the numbers."""
    threads: int = 1


def evaluate(config: Evaluate) -> None:
    """Measure how well clips that a tokenizer never saw come back, by source."""
    torch.set_num_threads(config.threads)
    tokenizer = MotionTokenizer.from_pretrained(config.model)
    groups = evaluate_tokenizer(tokenizer, load_dataset(config.data, config.split))
    Console().print(_table(groups, title=f"{config.split} clips; {tokenizer.num_codes} codes"))
    if config.out is not None:
        write_json(config.out, {name: asdict(group) for name, group in groups.items()})


def _table(groups: dict[str, Reconstruction], *, title: str) -> Table:
    table = Table(title=title)
    columns = (
        "source",
        "clips",
        "frames",
        "MPJPE mm",
        "PA-MPJPE mm",
        "ACCEL mm",
        "jitter / real",
        "codes",
        "perplexity",
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "source" else "right")
    for name, group in groups.items():
        table.add_row(
            name,
            f"{group.clips}",
            f"{group.frames}",
            f"{group.mpjpe_mm:.1f}",
            f"{group.pa_mpjpe_mm:.1f}",
            f"{group.accel_mm:.1f}",
            f"{group.jitter_ratio:.2f}",
            f"{group.codes_used}",
            f"{group.perplexity:.0f}",
        )
    return table


@dataclass(frozen=True)
class Sheet:
    """Draw every code of a codebook: what a step of it alone looks like."""

    model: Path
    """Tokenizer folder."""
    out: Path
    """PNG file; with several codes per step one for each, numbered."""
    size: int = 72
    """Pixels of a code's picture."""


def sheet(config: Sheet) -> None:
    """Draw every code of a codebook: what a step of it alone looks like."""
    tokenizer = MotionTokenizer.from_pretrained(config.model)
    for group in range(tokenizer.codes_per_step):
        numbered = config.out.with_stem(f"{config.out.stem}-{group}") if tokenizer.codes_per_step > 1 else config.out
        print(codebook_sheet(tokenizer, numbered, group=group, size=config.size))


@dataclass(frozen=True)
class Convert:
    """Convert a published MotionGPT tokenizer to a Kinalign folder, or with --back the other way."""

    source: Annotated[Path, tyro.conf.Positional]
    """motiongpt_s3_h3d.tar, or with --back a tokenizer folder."""
    out: Path
    """Tokenizer folder, or with --back a checkpoint file."""
    mean: Path | None = None
    """mean.npy that came with the weights."""
    std: Path | None = None
    """std.npy that came with the weights."""
    back: bool = False
    """Write a published checkpoint from a folder."""


def convert(config: Convert) -> None:
    """Convert a published MotionGPT tokenizer to a Kinalign folder, or with --back the other way."""
    if config.back:
        print(to_published(MotionTokenizer.from_pretrained(config.source), config.out))
        return
    if config.mean is None or config.std is None:
        raise ConfigError("published weights need the mean.npy and std.npy that came with them (--mean, --std)")
    print(from_published(config.source, mean=config.mean, std=config.std).save_pretrained(config.out))
