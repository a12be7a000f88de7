"""`kinalign annotate-video`: captions of three levels for films, and for motions, which are drawn first.

config.json, environment.json       what was asked, and where
answers/                            every answer that was paid for, and what was spent
raw/NAME.json, training/NAME.json   the captions in AvatarGPT's two layouts
captions.csv                        those of motions, for `kinalign data build --captions`
report.json                         written last: what became of each file

Killed anywhere and started again, the same command asks what has no answer yet and ends with the same files.
"""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from kinalign.errors import ConfigError, DataError, FormatError, KinalignError, MotionError, PlanError
from kinalign.judge.client import ChatClient, ChatSettings, Estimate
from kinalign.planning.asking import chat_settings
from kinalign.planning.captioning import Annotation, Captioner
from kinalign.planning.footage import FILMS, MOTIONS, read_footage
from kinalign.run import RunFolder, locked, progress, sha256_of_file, write_json, write_text

CAPTIONS = "captions.csv"
REPORT = "report.json"
OF_ONE_FILE = (DataError, FormatError, MotionError, PlanError)
"""Errors that are about a file and leave the others alone."""


@dataclass(frozen=True)
class AnnotateVideo:
    """Write captions of three levels for films and motions."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Films (mp4, m4v, mov, webm, mkv, gif), motions (bvh, npy, npz), or folders of them."""
    out: Path
    """Folder for the captions; an unfinished one is gone on with."""
    model: str = ChatSettings.model
    """A language model that sees pictures: its name, or a JSON file with ChatSettings, such as base_url, prices and a
    budget. Answers are kept in OUT/answers unless the file names another cache."""
    piece_seconds: float = 10.0
    """Films are cut to pieces of so many seconds; a rest of less than 2 s is left out."""
    pictures: int = 8
    """Of each piece, from its first frame to its last."""
    repeats: int = 3
    """How often each of the two prompts is asked about a piece."""
    size: int = 384
    """Longer side of a picture in pixels, at most."""
    dry_run: bool = False
    """Write and ask nothing: say how much there is to do and what it costs at most."""

    def validate(self) -> None:
        """Raises ConfigError for settings that cannot be."""
        if not self.videos:
            raise ConfigError("nothing to annotate; name a film, a motion or a folder: kinalign annotate-video a.mp4")
        if not self.piece_seconds >= 1:
            raise ConfigError(f"piece_seconds={self.piece_seconds} must be 1 or more (--piece-seconds)")
        if self.pictures < 1 or self.repeats < 1 or not 32 <= self.size <= 2048:
            raise ConfigError(
                f"pictures={self.pictures} and repeats={self.repeats} must be 1 or more, and size={self.size} 32 to "
                "2048 (--pictures, --repeats, --size)"
            )


class Source(NamedTuple):
    """A file, its name below the folder that was named, and the hash of its bytes."""

    path: Path
    name: str
    sha256: str


class Work(NamedTuple):
    """What there is to do for files of different bytes, by their hashes: pieces, or why there are none; the cost."""

    num_pieces: dict[str, int]
    failures: dict[str, str]
    estimate: Estimate


def annotate_video(config: AnnotateVideo) -> Path:
    """Write captions of three levels for films and motions; goes on where it was stopped.

    A file that cannot be annotated is told of and left out; after the others DataError ends the command then. Raises
    ConfigError for settings that cannot be, EndpointError and BudgetError where no more answers can be had.
    """
    config.validate()
    settings = chat_settings(config.model, cache=str(config.out / "answers"))
    if config.repeats > 1 and settings.temperature == 0:
        raise ConfigError(
            f"repeats={config.repeats} with temperature=0 pays {config.repeats} times for one answer; use a "
            "temperature above 0, or --repeats 1"
        )
    client = ChatClient(replace(settings, replay=True) if config.dry_run else settings)
    captioner = Captioner(client, config.piece_seconds, config.pictures, config.repeats, config.size)
    sources = _sources(config.videos)
    work = _work(sources, captioner)
    num_different = len(work.num_pieces) + len(work.failures)
    print(f"{len(sources)} files, {num_different} of them different, {sum(work.num_pieces.values())} pieces")
    print(work.estimate)
    if config.dry_run:
        return config.out
    with locked(config.out):
        RunFolder.open(config.out, _settings(config, settings))
        annotations = _annotate(config.out, sources, work, captioner)
        _finish(config.out, sources, work, annotations)
    print(f"{captioner.num_alike} pieces look like an earlier one, {captioner.num_unusable} answers cannot be used")
    print(client.bill)
    if work.failures:
        others = ", the others have" if len(work.failures) < num_different else ""
        raise DataError(
            f"{len(work.failures)} of {num_different} different files have no captions{others}; "
            f"{config.out / REPORT} says why"
        )
    print(config.out)
    return config.out


def _sources(videos: Sequence[Path]) -> list[Source]:
    """The files that are named, and those of folders, each once. Raises DataError where two have one name."""
    named: dict[Path, tuple[Path, str]] = {}
    for video in videos:
        if video.is_dir():
            found = sorted(path for path in video.rglob("*") if path.suffix.lower() in FILMS + MOTIONS)
            if not found:
                raise DataError(f"{video} holds no film and no motion; they end in {', '.join(FILMS + MOTIONS)}")
            for path in found:
                named.setdefault(path.resolve(), (path, path.relative_to(video).as_posix()))
        elif video.is_file():
            named.setdefault(video.resolve(), (video, video.name))
        else:
            raise DataError(f"{video} is not there; name a film, a motion or a folder of them")
    twice = [name for name, count in Counter(name for _, name in named.values()).items() if count > 1]
    if twice:
        raise DataError(f"two files are called {twice[0]}; name the folder above both instead of the two")
    return [Source(path, name, sha256_of_file(path)) for path, name in named.values()]


def _work(sources: Sequence[Source], captioner: Captioner) -> Work:
    """How much there is to do; reads every file, decodes no film and asks nothing."""
    num_pieces: dict[str, int] = {}
    failures: dict[str, str] = {}
    estimate = Estimate(0, 0, 0, 0.0, 0.0)
    for source in _different(sources).values():
        try:
            footage = read_footage(source.path)
        except OF_ONE_FILE as error:
            failures[source.sha256] = _told(error)
        else:
            num_pieces[source.sha256] = len(footage.pieces(captioner.piece_s))
            estimate += captioner.estimate(footage)
    return Work(num_pieces, failures, estimate)


def _annotate(out: Path, sources: Sequence[Source], work: Work, captioner: Captioner) -> dict[str, Annotation]:
    """Captions of files by their hashes, each written when it is done; notes in `work` which cannot be had."""
    at_most_usd = work.estimate.at_most_usd
    cost = "cost unknown" if at_most_usd is None else f"at most ${at_most_usd:.4f}"
    annotations: dict[str, Annotation] = {}
    failures: dict[str, KinalignError] = {}
    with progress(f"annotate-video, {cost}", total=sum(work.num_pieces.values())) as advance:
        for source in _different(sources).values():
            if source.sha256 in work.failures:
                continue
            try:
                annotation = captioner.annotate(read_footage(source.path), advance=advance)
            except OF_ONE_FILE as error:
                failures[source.sha256] = error
                continue
            annotations[source.sha256] = annotation
            write_json(out / "raw" / f"{source.name}.json", annotation.raw(source.name))
            write_json(out / "training" / f"{source.name}.json", annotation.training(source.name))
    work.failures.update({sha256: _told(error) for sha256, error in failures.items()})
    return annotations


def _finish(out: Path, sources: Sequence[Source], work: Work, annotations: dict[str, Annotation]) -> None:
    """Write the captions of motions, and what became of each file."""
    firsts = _different(sources)
    lines: list[dict[str, Any]] = []
    report = []
    for source in sources:
        row: dict[str, Any] = {"file": source.name, "sha256": source.sha256}
        if (first := firsts[source.sha256]) is not source:
            report.append({**row, "same_as": first.name})
            continue
        if source.sha256 in work.failures:
            report.append({**row, "error": work.failures[source.sha256]})
            continue
        annotation = annotations[source.sha256]
        report.append({**row, "seconds": round(annotation.duration_s, 3), "pieces": len(annotation.pieces)})
        if source.path.suffix.lower() in MOTIONS:
            lines += _lines(source.name, annotation)
    if lines:
        text = io.StringIO()
        table = csv.DictWriter(text, ("file", "caption", "start", "end"), lineterminator="\n")
        table.writeheader()
        table.writerows(lines)
        write_text(out / CAPTIONS, text.getvalue())
    write_json(out / REPORT, {"files": report})


def _lines(name: str, annotation: Annotation) -> Iterator[dict[str, Any]]:
    """Every wording of an activity, with its seconds where they are not all of the file."""
    for piece, captions in annotation.pieces:
        times = {"start": round(piece.start_s, 3), "end": round(piece.end_s, 3)}
        for text in dict.fromkeys(text for one in captions for text in one.activity):
            yield {
                "file": name,
                "caption": text,
                **(times if piece.end_s - piece.start_s < annotation.duration_s else {}),
            }


def _settings(config: AnnotateVideo, settings: ChatSettings) -> dict[str, Any]:
    """What decides the captions: films may be added to a folder later."""
    return {
        "model": settings.model,
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
        "piece_seconds": config.piece_seconds,
        "pictures": config.pictures,
        "repeats": config.repeats,
        "size": config.size,
    }


def _different(sources: Sequence[Source]) -> dict[str, Source]:
    """Of files with the same bytes the first, by their hash."""
    firsts: dict[str, Source] = {}
    for source in sources:
        firsts.setdefault(source.sha256, source)
    return firsts


def _told(error: KinalignError) -> str:
    """The error's message, which is also printed: the command goes on."""
    print(f"kinalign: warning: {error}; it is left out", file=sys.stderr)
    return str(error)
