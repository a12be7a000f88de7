"""`kinalign annotate-video`: captions of three levels for films and motions, by a language model that sees pictures.

As AvatarGPT has its data made (arXiv 2311.16468, section 4): a film is cut to pieces of 10 s, each piece is described
in words by two prompts, three times each, from 8 pictures, the whole film so from 16, and a description is shortened to
five steps of the body at most (fine), to one activity in three wordings (medium), and that of the whole to a scene
(coarse). Beyond that, nothing is asked twice: not of the same file, of pieces that look alike, of descriptions that say
the same.

config.json, environment.json  what was asked, and where
answers/                       every answer that was paid for
raw/NAME.json, training/NAME.json   AvatarGPT's two layouts
captions.csv                   of motion files, for `kinalign data build --captions`
report.json                    written last: what became of every file

Killed anywhere and started again, the same command asks what has no answer yet and ends with the same files.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image

from kinalign.errors import ConfigError, DataError, FormatError, KinalignError, MotionError, PlanError
from kinalign.judge.client import ChatClient, ChatSettings, Estimate, Message
from kinalign.planning.asking import ACTIVITY_WORDS, SCENE_WORDS, Question, chat_settings, checked, insist, insist_all
from kinalign.planning.footage import FILMS, MOTIONS, Footage, MotionFootage, Piece, Shown, Wanted, read_footage
from kinalign.planning.plan import MOST_STEPS
from kinalign.render.figure import GRID_M, Picture
from kinalign.run import RunFolder, locked, progress, sha256_of_file, write_atomically, write_json

if TYPE_CHECKING:
    from kinalign.planning.forms import ToldCaptions, ToldPiece, ToldScene

WHOLE_PICTURES = 16
"""Of a film of several pieces as a whole."""
STEP_WORDS = 10
DESCRIPTION_WORDS = 120
PIECES_AT_ONCE = 8
"""Whose pictures are kept in memory."""
THUMB = 32
"""Side, in cells, of the small pictures by which pieces are compared."""
SAME_LEVELS = 8
"""Of 255, by which no cell of pieces differs that look alike: what codecs change, less than a hand that moves."""
SAME_WORDS = 0.8
"""Share of words that descriptions have in common which say the same."""
_FILLER = DESCRIPTION_WORDS * "word "

_LOOKS = (
    "Describe what the body of the person does, movement after movement in order of time: which limb of which side, "
    "where to, how fast and how often.",
    "Say where the person is and which activity goes on, and then its movements in order of time.",
)


@dataclass(frozen=True)
class AnnotateVideo:
    """Write captions of three levels for films and motions."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Films (mp4, m4v, mov, webm, mkv, gif), motions (bvh, npy, npz), or folders of them."""
    out: Path
    """Folder for the captions; an unfinished one is gone on with."""
    model: str = ChatSettings.model
    """A language model that sees pictures, by its name, or a JSON file with ChatSettings: model, base_url, prices,
    budget. Answers are kept in OUT/answers unless the file names another cache."""
    piece_seconds: float = 10.0
    """A film is cut to pieces of so many seconds; a rest of less than 2 s is left out."""
    pictures: int = 8
    """Of each piece, from its first to its last frame."""
    repeats: int = 3
    """How often each of the two prompts is asked about a piece."""
    size: int = 384
    """Longer side of a picture in pixels."""
    dry_run: bool = False
    """Write and ask nothing: say how much there is to do and what it costs at most."""

    def validate(self) -> None:
        """Raises ConfigError for settings that cannot be."""
        if not self.videos:
            raise ConfigError("nothing to annotate; name films, motions or folders: kinalign annotate-video film.mp4")
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


@dataclass(frozen=True)
class Captions:
    """One description of a piece, and what it was shortened to."""

    detail: str
    steps: tuple[str, ...]
    activity: tuple[str, ...]


@dataclass(frozen=True)
class Described:
    """All descriptions of a piece in which somebody is seen, and captions of those that differ."""

    descriptions: tuple[str, ...] = ()
    captions: tuple[Captions, ...] = ()


@dataclass(frozen=True)
class Annotation:
    """Captions of a film or a motion in three levels."""

    name: str
    fps: float
    descriptions: tuple[str, ...]
    """Of the whole."""
    scene: str
    pieces: tuple[tuple[Piece, tuple[Captions, ...]], ...]

    def raw(self) -> dict[str, Any]:
        """AvatarGPT's raw layout; frames and seconds count from 0, the end is not included."""
        pieces = [
            {
                **_times(piece),
                "captions": [
                    {"detail": one.detail, "executable": list(one.steps), "simplified": list(one.activity)}
                    for one in captions
                ],
            }
            for piece, captions in self.pieces
        ]
        return {**self._head, "description": list(self.descriptions), "caption_list": pieces}

    def training(self) -> dict[str, Any]:
        """AvatarGPT's training layout, without pieces in which nobody is seen."""
        actions = [
            {
                **_times(piece),
                "captions": [
                    {
                        "detail": one.detail,
                        "executable_steps": list(one.steps),
                        "executable_simplified": list(one.activity),
                    }
                    for one in captions
                ],
            }
            for piece, captions in self.pieces
            if captions
        ]
        return {**self._head, "contexts": [self.scene], "actions": actions}

    def rows(self, name: str) -> Iterator[dict[str, Any]]:
        """Rows of captions.csv: each wording of the activity once, with its times where there are several pieces."""
        for piece, captions in self.pieces:
            times = {"start": round(piece.start_s, 3), "end": round(piece.end_s, 3)} if len(self.pieces) > 1 else {}
            for text in dict.fromkeys(text for one in captions for text in one.activity):
                yield {"file": name, "caption": text, **times}

    @property
    def _head(self) -> dict[str, Any]:
        return {"video_name": self.name, "video_fps": round(self.fps, 3)}


def _times(piece: Piece) -> dict[str, Any]:
    return {
        "start_time": round(piece.start_s, 3),
        "start_frame": piece.start_frame,
        "end_time": round(piece.end_s, 3),
        "end_frame": piece.end_frame,
    }


def annotate_video(config: AnnotateVideo) -> Path:
    """Write captions of three levels for films and motions; goes on where it was stopped.

    A file that cannot be annotated is told of and left out, and the others are done; then DataError ends the command.
    Raises ConfigError for settings that cannot be, EndpointError and BudgetError where no more answers can be had.
    """
    config.validate()
    settings = chat_settings(config.model, cache=str(config.out / "answers"))
    if config.repeats > 1 and settings.temperature == 0:
        raise ConfigError(
            f"repeats={config.repeats} with temperature=0 pays {config.repeats} times for one answer; use a "
            "temperature above 0, or --repeats 1"
        )
    client = ChatClient(replace(settings, replay=True) if config.dry_run else settings)
    sources = _sources(config.videos)
    firsts = {source.sha256: source for source in reversed(sources)}
    told = _Told()
    films: dict[str, int] = {}
    estimate = client.estimate([], _form())
    for source in firsts.values():
        with told.of(source):
            footage = read_footage(source.path)
            pieces = footage.pieces(config.piece_seconds)
            films[source.sha256] = len(pieces)
            estimate += _estimate(footage, pieces, config, client)
    if config.dry_run:
        print(f"{len(sources)} files, {len(firsts)} of them different, {sum(films.values())} pieces")
        print(f"{estimate}; answers that have to be asked for again come on top")
    return config.out
