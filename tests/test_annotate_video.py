"""Films and motions get captions of three levels; no answer is paid for twice, and one bad file stops no other."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from fake_annotator import annotate
from fake_endpoint import FakeEndpoint, parts_of

from kinalign.cli import main
from kinalign.data.build import BuildConfig, build
from kinalign.data.dataset import load_dataset
from kinalign.errors import BudgetError, ConfigError, DataError, EndpointError
from kinalign.judge import client
from kinalign.judge.client import KEY_VARIABLE
from kinalign.motion.motion import Motion
from kinalign.motion.synthetic import walking, waving
from kinalign.planning.footage import FilmFootage, Wanted, read_footage
from kinalign.planning.video import AnnotateVideo, annotate_video
from kinalign.render.video import write_video

PRICES = {"input_usd": 2.5, "output_usd": 10.0, "tokens_per_picture": 85}


@pytest.fixture(autouse=True)
def quick_and_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A right wave as mp4, webm and gif, and a walk and a left wave of 12 s in all as mp4."""
    folder = tmp_path_factory.mktemp("films")
    for suffix in ("mp4", "webm", "gif"):
        write_video(waving(60), folder / f"wave.{suffix}", size=96, caption=False)
    write_video(Motion.concatenate([walking(120), waving(120, side="left")]), folder / "two.mp4", size=96)
    return folder


@pytest.fixture()
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    with FakeEndpoint(answer=annotate) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        yield endpoint


def config(out: Path, *videos: Path, **settings: Any) -> AnnotateVideo:
    return AnnotateVideo(videos, out, **{"model": "seer", "repeats": 1, "size": 96, **settings})


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def encoded(path: Path, stamps: list[int], *, rate: int = 20) -> Path:
    """A film whose frames of 1 / `rate` s carry these timestamps."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"bf": "0"})
        stream.width = stream.height = 64
        rng = np.random.default_rng(0)
        packets = []
        for number in range(len(stamps)):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (64, 64, 3), np.uint8), format="rgb24")
            frame.pts = number
            packets += stream.encode(frame)
        packets += stream.encode()
        for packet, stamp in zip(packets, stamps):
            packet.time_base = stream.codec_context.time_base
            packet.pts = stamp
            packet.dts = min(packet.dts or 0, stamp)
            container.mux(packet)
    return path


# Films read


@pytest.mark.parametrize("suffix", ["mp4", "webm", "gif"])
def test_a_film_is_cut_to_pieces_and_shown_from_first_to_last_frame(films: Path, suffix: str) -> None:
    film = read_footage(films / f"wave.{suffix}")
    assert film.fps == pytest.approx(20) and film.duration_s == pytest.approx(3.0, abs=0.01)
    assert [(p.start_s, p.end_s, p.start_frame, p.end_frame) for p in film.pieces(2.0)] == [(0.0, 2.0, 0, 40)]
    assert [(p.start_frame, p.end_frame) for p in film.pieces(1.0)] == [(0, 20), (20, 40), (40, 60)]
    (first, last, whole) = film.look(
        [Wanted(film.pieces(1.0)[0], 3), Wanted(film.pieces(1.0)[2], 1000), Wanted(film.whole, 2)], size=48
    )
    assert [round(shown.at_s, 2) for shown in first] == [0.0, 0.5, 0.95]
    assert len(last) == 20 and [round(shown.at_s, 2) for shown in whole] == [0.0, 2.95]
    assert {shown.picture.shape for shown in (*first, *last, *whole)} == {(48, 48, 3)}


def test_pictures_are_those_of_their_seconds(films: Path) -> None:
    film = read_footage(films / "wave.mp4")
    with av.open(str(films / "wave.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    ((*shown,),) = film.look([Wanted(film.whole, 7)], size=1000)
    for at_s, picture in shown:
        np.testing.assert_array_equal(picture, frames[round(at_s * 20)])  # smaller than allowed: not resized


def test_a_film_held_upright_is_shown_upright(films: Path, tmp_path: Path) -> None:
    data = (films / "two.mp4").read_bytes()
    plain = b"".join(n.to_bytes(4, "big") for n in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000))
    turned = b"".join(n.to_bytes(4, "big") for n in (0, 0x10000, 0, 2**32 - 0x10000, 0, 0, 0, 0, 0x40000000))
    at = data.index(plain, data.index(b"tkhd"))  # a quarter turn to the right, as telephones write it
    (tmp_path / "turned.mp4").write_bytes(data[:at] + turned + data[at + len(turned) :])
    shown = [next(read_footage(path).look([Wanted(read_footage(path).whole, 1)], size=96))[0].picture
             for path in (films / "two.mp4", tmp_path / "turned.mp4")]
    np.testing.assert_array_equal(np.rot90(shown[0], -1), shown[1])


def test_a_rest_of_less_than_two_seconds_is_left_out_and_a_longer_one_is_a_piece() -> None:
    def ends(duration_s: float) -> list[float]:
        times_s = [frame / 10 for frame in range(math.ceil(duration_s * 10))]
        return [piece.end_s for piece in FilmFootage(Path("a.mp4"), times_s, 10.0, duration_s, 0.0).pieces(10.0)]

    assert [ends(s) for s in (3.0, 10.0, 11.9, 12.0, 25.0)] == [[3.0], [10.0], [10.0], [10.0, 12.0], [10.0, 20.0, 25.0]]


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def without_frames(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width = stream.height = 64
        container.start_encoding()
    return path


def cut(path: Path, share: float, to: Path) -> Path:
    data = path.read_bytes()
    to.write_bytes(data[: int(len(data) * share)])
    return to


BAD: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "of_text.mp4": (lambda films, path: path.write_text("no film") and path or path, "cannot be read as a film"),
    "empty.webm": (lambda films, path: path.touch() or path, "cannot be read as a film"),
    "without_frames.mov": (lambda films, path: without_frames(path), "no frame|cannot be read as a film"),
    "sound.mp4": (lambda films, path: sound(path), "has no video stream"),
    "tenth.mp4": (lambda films, path: write_video(walking(2), path, size=64), "lasts 0.10 s; 0.5 s or more"),
    "tenth.gif": (lambda films, path: write_video(walking(2), path, size=64), "lasts 0.10 s; 0.5 s or more"),
    "tenth.npy": (lambda films, path: walking(2).save(path), "lasts 0.10 s; 0.5 s or more"),
    "cut.mp4": (lambda films, path: cut(films / "wave.mp4", 0.7, path), "damaged or cut short"),
    "cut.webm": (lambda films, path: cut(films / "wave.webm", 0.7, path), r"cut short: it breaks off after \d.\d\d s"),
    "cut.gif": (lambda films, path: cut(films / "wave.gif", 0.7, path), r"cut short: it breaks off after \d.\d\d s"),
    "jump.mp4": (
        lambda films, path: encoded(path, [*range(20), *range(100_000, 100_020)]),
        "broken timestamps: 4999 s from one frame to the next",
    ),
    "twice.mp4": (lambda films, path: encoded(path, [*range(20), *[19] * 10]), "broken timestamps: .* that of another"),
    "back.mp4": (lambda films, path: encoded(path, [*range(20), *range(39, 19, -1)]), "broken timestamps: after .* comes"),
    "noise.npy": (lambda films, path: np.save(path, np.zeros((4, 4))) or path, "noise.npy"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_clear_error_and_the_others_go_on(
    name: str, films: Path, tmp_path: Path, endpoint: FakeEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    make, message = BAD[name]
    bad = make(films, tmp_path / name)
    with pytest.raises(DataError, match="1 of 2 different files have no captions, the others have; .*report.json"):
        annotate_video(config(tmp_path / "out", bad, films / "wave.mp4"))
    assert (tmp_path / "out" / "raw" / "wave.mp4.json").is_file()
    first, second = read(tmp_path / "out" / "report.json")["files"]
    assert second["pieces"] == 1
    pytest.raises(DataError, _raise, first["error"]).match(message)
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1 and name in warnings[0]


def _raise(text: str) -> None:
    raise DataError(text)
