"""Films and motions get captions of three levels; no answer is paid for twice, and one bad file stops no other."""

from __future__ import annotations

import csv
import json
import math
import os
import re
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
from kinalign.render.video import film, write_video

PRICES = {"input_usd": 2.5, "output_usd": 10.0, "tokens_per_picture": 85}


@pytest.fixture(autouse=True)
def quick_and_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A right wave as mp4, webm and gif, and a walk and a left wave of 4 s in all as mp4."""
    folder = tmp_path_factory.mktemp("films")
    for suffix in ("mp4", "webm", "gif"):
        write_video(waving(60), folder / f"wave.{suffix}", size=160, caption=False)
    write_video(Motion.concatenate([walking(40), waving(40, side="left")]), folder / "two.mp4", size=160, caption=False)
    return folder


@pytest.fixture()
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    with FakeEndpoint(answer=annotate) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        yield endpoint


def config(out: Path, *videos: Path, **settings: Any) -> AnnotateVideo:
    return AnnotateVideo(videos, out, **{"model": "seer", "repeats": 1, "size": 160, **settings})


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def encoded(path: Path, stamps: list[int], *, rate: int = 20) -> Path:
    """A film whose frames of 1 / `rate` s carry these timestamps."""
    with av.open(str(path), "w") as container:
        if path.suffix == ".webm":
            stream = container.add_stream("libvpx-vp9", rate=rate, options={"lag-in-frames": "0", "cpu-used": "8"})
        else:
            stream = container.add_stream("libx264", rate=rate, options={"bf": "0"})
        stream.width = stream.height = 64
        rng = np.random.default_rng(0)
        packets = []
        for number in range(len(stamps)):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (64, 64, 3), np.uint8), format="rgb24")
            frame.pts = number
            packets += stream.encode(frame)
        packets += stream.encode()
        for number, (packet, stamp) in enumerate(zip(packets, stamps)):
            # in the order of decoding times goes up, as every format asks
            packet.pts, packet.dts = stamp + len(stamps), number
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
    shown = [
        next(read_footage(path).look([Wanted(read_footage(path).whole, 1)], size=96))[0].picture
        for path in (films / "two.mp4", tmp_path / "turned.mp4")
    ]
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
    with av.open(str(path), "w", options={"movflags": "empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=20)
        stream.width = stream.height = 64
        container.start_encoding()
    return path


def write_bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def write_array(path: Path) -> Path:
    np.save(path, np.zeros((4, 4)))
    return path


def cut(path: Path, share: float, to: Path) -> Path:
    data = path.read_bytes()
    return write_bytes(to, data[: int(len(data) * share)])


BAD: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "of_text.mp4": (lambda films, path: write_bytes(path, b"no film"), "cannot be read as a film"),
    "empty.webm": (lambda films, path: write_bytes(path, b""), "cannot be read as a film"),
    "without_frames.mp4": (lambda films, path: without_frames(path), "has no frame"),
    "sound.mp4": (lambda films, path: sound(path), "has no video stream"),
    "tenth.mp4": (lambda films, path: write_video(walking(2), path, size=64), "lasts 0.10 s; 0.5 s or more"),
    "tenth.gif": (lambda films, path: write_video(walking(2), path, size=64), "lasts 0.10 s; 0.5 s or more"),
    "tenth.npy": (lambda films, path: walking(2).save(path), "lasts 0.10 s; 0.5 s or more"),
    "cut.mp4": (lambda films, path: cut(films / "wave.mp4", 0.7, path), r"cut short: it breaks off after \d.\d\d s"),
    "cut_index.mp4": (  # as cameras write them, with the index at the end
        lambda films, path: cut(encoded(path.with_name("whole.mp4"), range(40)), 0.7, path),
        "damaged or cut short",
    ),
    "cut.webm": (lambda films, path: cut(films / "wave.webm", 0.7, path), r"cut short: it breaks off after \d.\d\d s"),
    "cut.gif": (lambda films, path: cut(films / "wave.gif", 0.7, path), r"cut short: it breaks off after \d.\d\d s"),
    "jump.mp4": (
        lambda films, path: encoded(path, [*range(20), *range(100_000, 100_020)]),
        "broken timestamps: 4999 s from one frame to the next",
    ),
    "twice.mp4": (lambda films, path: encoded(path, [*range(20), *[19] * 10]), "broken timestamps: .* that of another"),
    "back.webm": (
        lambda films, path: encoded(path, [*range(20), *range(39, 19, -1)]),
        "broken timestamps: after 0.95 s comes 1.95 s",
    ),
    "noise.npy": (lambda films, path: write_array(path), "noise.npy"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_clear_error_and_the_others_go_on(
    name: str, films: Path, tmp_path: Path, endpoint: FakeEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    make, message = BAD[name]
    bad = make(films, tmp_path / name)
    with pytest.raises(DataError, match=r"1 of 2 different files have no captions, the others have; .*report\.json"):
        annotate_video(config(tmp_path / "out", bad, films / "wave.mp4"))
    assert (tmp_path / "out" / "raw" / "wave.mp4.json").is_file()
    first, second = read(tmp_path / "out" / "report.json")["files"]
    assert second["pieces"] == 1
    assert re.search(message, first["error"])
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1 and name in warnings[0]


# Captions


def test_three_levels_come_in_the_published_layouts(films: Path, tmp_path: Path, endpoint: FakeEndpoint) -> None:
    annotate_video(config(tmp_path, films / "two.mp4", piece_seconds=2.0))
    raw, training = (read(tmp_path / name / "two.mp4.json") for name in ("raw", "training"))
    assert list(raw) == ["video_name", "video_fps", "description", "caption_list"]
    assert (raw["video_name"], raw["video_fps"], len(raw["description"])) == ("two.mp4", 20.0, 2)
    times = [(p["start_time"], p["start_frame"], p["end_time"], p["end_frame"]) for p in raw["caption_list"]]
    assert times == [(0.0, 0, 2.0, 40), (2.0, 40, 4.0, 80)]
    walk, wave = ([caption["executable"] for caption in piece["captions"]] for piece in raw["caption_list"])
    assert walk == [["walks along"]] * 2 and wave == [["waves with the left hand"]] * 2
    assert raw["caption_list"][1]["captions"][0] == {
        "detail": "A person waves with the left hand. It goes up, then down.",
        "executable": ["waves with the left hand"],
        "simplified": [f"{who} waves with the left hand" for who in ("a person", "someone", "a figure")],
    }
    assert list(training) == ["video_name", "video_fps", "contexts", "actions"]
    assert training["contexts"] == ["On a plain floor, a person waves with the left hand."]
    first = training["actions"][1]["captions"][0]
    assert list(first) == ["detail", "executable_steps", "executable_simplified"]
    assert first["executable_steps"] == ["waves with the left hand"] and len(first["executable_simplified"]) == 3


def test_each_prompt_is_asked_as_often_as_wanted_with_eight_pictures_and_sixteen_of_the_whole(
    films: Path, tmp_path: Path, endpoint: FakeEndpoint
) -> None:
    annotate_video(config(tmp_path, films / "two.mp4", piece_seconds=2.0, repeats=3))
    looks = [parts_of(body) for body in endpoint.requests if parts_of(body)[1]]
    assert sorted(len(pictures) for _, pictures in looks) == [8] * 12 + [16] * 6
    assert all(max(picture.size) == 160 for _, pictures in looks for picture in pictures)
    labels = [text for text in looks[0][0] if text.startswith("[")]
    assert labels[0] == "[0.00 s]" and labels[-1] == "[1.95 s]"
    assert len(read(tmp_path / "raw" / "two.mp4.json")["description"]) == 6


def test_descriptions_that_say_the_same_are_shortened_once(films: Path, tmp_path: Path, endpoint: FakeEndpoint) -> None:
    annotate_video(config(tmp_path, films / "wave.mp4", repeats=3))
    kinds = [body["response_format"]["json_schema"]["name"] for body in endpoint.requests]
    assert (kinds.count("ToldPiece"), kinds.count("ToldCaptions"), kinds.count("ToldScene")) == (6, 2, 1)
    (piece,) = read(tmp_path / "raw" / "wave.mp4.json")["caption_list"]
    assert len(piece["captions"]) == 2


def test_the_same_film_twice_is_annotated_once(films: Path, tmp_path: Path, endpoint: FakeEndpoint) -> None:
    shutil.copy(films / "wave.mp4", tmp_path / "copy.mp4")
    out = tmp_path / "out"
    annotate_video(config(out, films / "wave.mp4", tmp_path / "copy.mp4", films / "wave.mp4"))
    first, second = read(out / "report.json")["files"]
    assert second == {"file": "copy.mp4", "sha256": first["sha256"], "same_as": "wave.mp4"}
    assert [path.name for path in (out / "raw").iterdir()] == ["wave.mp4.json"]
    assert len(endpoint.answered) == 5


def test_pieces_that_look_alike_are_asked_about_once(films: Path, tmp_path: Path, endpoint: FakeEndpoint) -> None:
    annotate_video(config(tmp_path, *(films / f"wave.{suffix}" for suffix in ("mp4", "webm", "gif"))))
    mp4, webm, gif = (read(tmp_path / "raw" / f"wave.{suffix}.json") for suffix in ("mp4", "webm", "gif"))
    assert (
        mp4["caption_list"][0]["captions"] == webm["caption_list"][0]["captions"] == gif["caption_list"][0]["captions"]
    )
    assert len(endpoint.answered) == 5  # two looks, two to shorten, a scene
    annotate_video(config(tmp_path, films / "two.mp4"))
    assert len(endpoint.answered) > 5


def test_a_piece_in_which_nobody_is_seen_has_no_captions(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    def black(number: int) -> np.ndarray:
        return np.zeros((160, 160, 3), np.uint8)

    wave = film([waving(60)], size=160, caption=False)
    write_film(tmp_path / "half.mp4", [*wave, *map(black, range(60))])
    write_film(tmp_path / "none.mp4", [*map(black, range(60))])
    with pytest.raises(DataError, match="1 of 2"):
        annotate_video(config(tmp_path / "out", tmp_path / "half.mp4", tmp_path / "none.mp4", piece_seconds=3.0))
    raw, training = (read(tmp_path / "out" / name / "half.mp4.json") for name in ("raw", "training"))
    assert [len(piece["captions"]) for piece in raw["caption_list"]] == [2, 0]
    assert len(training["actions"]) == 1
    assert "shows nobody, says seer" in read(tmp_path / "out" / "report.json")["files"][1]["error"]


def write_film(path: Path, pictures: list[np.ndarray]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20)
        stream.height, stream.width = pictures[0].shape[:2]
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("bad", "wrong"),
    [
        ({"steps": [], "activity": ["a", "b", "c"]}, "steps: List should have at least 1 item"),
        ({"steps": ["walks"] * 6, "activity": ["a", "b", "c"]}, "steps: List should have at most 5"),
        ({"steps": ["walks on and on over there to see who is at home"], "activity": ["a", "b", "c"]}, "12 words"),
        ({"steps": ["walks"], "activity": ["he walks", "He walks", "she walks"]}, "said twice in the same words"),
        ({"steps": ["walks"], "activity": ["he walks"]}, "activity: List should have at least 3"),
        ({"steps": ["walks"], "activity": ["on and " * 3, "b", "c"]}, "repeats 'on and'"),
    ],
)
def test_captions_that_break_a_limit_are_asked_for_again(
    bad: Any, wrong: str, films: Path, tmp_path: Path, endpoint: FakeEndpoint
) -> None:
    first = [True]

    def once_bad(body: dict[str, Any]) -> Any:
        is_first = first and "ToldCaptions" in json.dumps(body["response_format"])
        return bad if is_first and first.pop() else annotate(body)

    endpoint.answer = once_bad
    annotate_video(config(tmp_path, films / "wave.mp4"))
    assert len(endpoint.answered) == 6
    complaints = [text for body in endpoint.requests for text in parts_of(body)[0] if text.startswith("You answered")]
    assert len(complaints) == 1 and wrong in complaints[0]


def test_a_model_that_only_answers_prose_leaves_a_film_out_with_one_error(
    films: Path, tmp_path: Path, endpoint: FakeEndpoint
) -> None:
    endpoint.fault = lambda n: "prose"
    with pytest.raises(DataError, match="1 of 1"):
        annotate_video(config(tmp_path, films / "wave.mp4"))
    (row,) = read(tmp_path / "report.json")["files"]
    assert re.search(r"wave.mp4, 0 to 3 s: seer gave no usable answer .* in 3 tries; .*no JSON object", row["error"])
    assert len(endpoint.answered) == 6  # two looks, three tries each


def test_a_film_that_was_left_out_leaves_nothing_behind(films: Path, tmp_path: Path, endpoint: FakeEndpoint) -> None:
    def no_left(body: dict[str, Any]) -> Any:
        said = annotate(body)
        is_left = "ToldCaptions" in json.dumps(body["response_format"]) and "left" in json.dumps(said)
        return {"steps": [], "activity": []} if is_left else said

    endpoint.answer = no_left
    shutil.copy(films / "two.mp4", tmp_path / "a.mp4")
    videos = (tmp_path / "a.mp4", films / "wave.mp4", films / "wave.webm")
    with pytest.raises(DataError, match="1 of 3"):
        annotate_video(config(tmp_path / "out", *videos, piece_seconds=2.0))
    for suffix in ("mp4", "webm"):
        (piece,) = read(tmp_path / "out" / "raw" / f"wave.{suffix}.json")["caption_list"]
        assert piece["captions"][0]["executable"] == ["waves with the right hand"]


# Money and interruptions


def test_a_dry_run_asks_and_writes_nothing_and_says_at_least_what_it_costs(
    films: Path, tmp_path: Path, endpoint: FakeEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.json"
    file.write_text(json.dumps({"model": "seer", "base_url": endpoint.url, "max_tokens": 300, **PRICES}))
    out = tmp_path / "out"
    settings: dict[str, Any] = {"model": str(file), "piece_seconds": 2.0, "repeats": 2}
    annotate_video(config(out, films / "two.mp4", films / "wave.mp4", dry_run=True, **settings))
    assert not endpoint.requests and not out.exists()
    shown = capsys.readouterr().out
    told = re.search(r"2 files, 2 of them different, 3 pieces\n(\d+) calls, (\d+) pictures.*\$([\d.]+) at most", shown)
    assert told is not None
    annotate_video(config(out, films / "two.mp4", films / "wave.mp4", **settings))
    num_pictures = sum(len(parts_of(body)[1]) for body in endpoint.requests)
    assert len(endpoint.answered) <= int(told[1]) and num_pictures == int(told[2])
    usd = (endpoint.input_tokens * 2.5 + endpoint.output_tokens * 10) / 1e6
    assert usd < float(told[3])
    assert f"${usd:.4f}" in capsys.readouterr().out


def test_a_budget_ends_the_run_and_a_larger_one_goes_on(films: Path, tmp_path: Path, endpoint: FakeEndpoint) -> None:
    def budget(usd: float) -> str:
        values = {"model": "seer", "max_tokens": 100, "budget_usd": usd, "concurrency": 1, **PRICES}
        (tmp_path / "model.json").write_text(json.dumps(values))
        return str(tmp_path / "model.json")

    out = tmp_path / "out"
    with pytest.raises(BudgetError, match="larger budget"):
        annotate_video(config(out, films / "two.mp4", piece_seconds=2.0, model=budget(0.02)))
    paid = len(endpoint.answered)
    assert paid > 0 and not (out / "report.json").exists()
    annotate_video(config(out, films / "two.mp4", piece_seconds=2.0, model=budget(1.0)))
    assert len(endpoint.answered) == len(set(endpoint.answered)) > paid


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_run_killed_in_the_middle_goes_on_and_pays_for_nothing_twice(
    films: Path, tmp_path: Path, endpoint: FakeEndpoint
) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"model": "seer", "concurrency": 2}))
    settings: dict[str, Any] = {"piece_seconds": 2.0, "model": str(tmp_path / "model.json")}
    endpoint.fault = lambda n: "hang" if n in (6, 7) else ""
    killed = tmp_path / "killed"
    arguments = [*map(str, (films / "wave.mp4", films / "two.mp4")), "--out", str(killed), "--repeats", "1"]
    arguments += ["--size", "160", "--piece-seconds", "2", "--model", settings["model"]]
    run = subprocess.Popen(
        [sys.executable, "-m", "kinalign.cli", "annotate-video", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline_s = time.monotonic() + 100
    # six answers are on the disk and two calls hang
    while len(list(killed.rglob("answers/*/*.json"))) < 6 or len(endpoint.requests) < 8:
        assert run.poll() is None and time.monotonic() < deadline_s
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert (killed / "raw" / "wave.mp4.json").is_file() and not (killed / "report.json").exists()
    endpoint.fault = lambda n: ""
    annotate_video(config(killed, films / "wave.mp4", films / "two.mp4", **settings))
    assert len(endpoint.answered) == len(set(endpoint.answered))
    whole = tmp_path / "whole"
    annotate_video(config(whole, films / "wave.mp4", films / "two.mp4", **settings))
    for name in ("report.json", "raw/wave.mp4.json", "raw/two.mp4.json", "training/two.mp4.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_recorded_answers_replay_without_a_server(
    films: Path, tmp_path: Path, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    annotate_video(config(out, films / "wave.mp4"))
    raw = (out / "raw" / "wave.mp4.json").read_bytes()
    shutil.rmtree(out / "raw")
    monkeypatch.delenv("OPENAI_BASE_URL")
    (tmp_path / "model.json").write_text(json.dumps({"model": "seer", "replay": True}))
    annotate_video(config(out, films / "wave.mp4", model=str(tmp_path / "model.json")))
    assert (out / "raw" / "wave.mp4.json").read_bytes() == raw
    with pytest.raises(EndpointError, match="holds no answer of seer"):
        annotate_video(config(out, films / "two.mp4", model=str(tmp_path / "model.json")))


def test_a_server_that_keeps_failing_ends_the_run_and_what_was_paid_is_kept(
    films: Path, tmp_path: Path, endpoint: FakeEndpoint
) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"model": "seer", "attempts": 2, "concurrency": 1}))
    endpoint.fault = lambda n: "500" if n >= 3 else ""
    with pytest.raises(EndpointError, match="status 500"):
        annotate_video(config(tmp_path / "out", films / "wave.mp4", model=str(tmp_path / "model.json")))
    endpoint.fault = lambda n: ""
    annotate_video(config(tmp_path / "out", films / "wave.mp4", model=str(tmp_path / "model.json")))
    assert len(endpoint.answered) == len(set(endpoint.answered)) == 5


# Motions


def test_a_folder_of_motions_without_words_becomes_a_data_set_with_captions(
    tmp_path: Path, endpoint: FakeEndpoint
) -> None:
    mocap = tmp_path / "mocap"
    for name, motion in {
        "ann/wave.bvh": waving(40),
        "ben/wave.npz": waving(40, side="left"),
        "long.npy": Motion.concatenate([walking(40), waving(40, side="left")]),
        "ann/again.bvh": waving(40),
    }.items():
        motion.save(mocap / name)
    out = annotate_video(config(tmp_path / "captions", mocap, piece_seconds=2.0))
    with (out / "captions.csv").open(encoding="utf-8", newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert rows[0] == ("ann/again.bvh", "a person waves with the right hand", "", "")
    assert ("long.npy", "a person walks along", "0.0", "2.0") in rows and len(rows) == 12
    folder = build(BuildConfig((str(mocap),), tmp_path / "data", captions=out / "captions.csv", mirror=False))
    clips = {clip.id: clip for clip in load_dataset(folder)}
    assert set(clips) == {"ann/again", "ben/wave", "long@0-40", "long@40-80"}  # ann/wave is again's copy
    assert clips["ben/wave"].captions[0] == "a person waves with the left hand"
    assert clips["long@0-40"].captions[0] == "a person walks along"
    assert clips["long@40-80"].captions[0] == "a person waves with the left hand"


def test_captions_of_a_motion_whose_rest_is_left_out_hold_for_its_piece(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    walking(60).save(tmp_path / "walk.npy")
    annotate_video(config(tmp_path / "out", tmp_path / "walk.npy", piece_seconds=2.0))
    with (tmp_path / "out" / "captions.csv").open(encoding="utf-8", newline="") as file:
        assert {(row["start"], row["end"]) for row in csv.DictReader(file)} == {("0.0", "2.0")}
    (row,) = read(tmp_path / "out" / "report.json")["files"]
    assert (row["seconds"], row["pieces"]) == (3.0, 1)


def test_a_description_may_repeat_itself(films: Path, tmp_path: Path, endpoint: FakeEndpoint) -> None:
    steps = {"is_person": True, "description": "He walks. Steps left, right, left, right, left, right."}
    endpoint.answer = lambda body: steps if parts_of(body)[1] else annotate(body)
    annotate_video(config(tmp_path, films / "wave.mp4"))
    assert not any(text.startswith("You answered") for body in endpoint.requests for text in parts_of(body)[0])


def test_the_model_is_told_how_a_motion_is_drawn_and_of_a_film_nothing_of_it(
    films: Path, tmp_path: Path, endpoint: FakeEndpoint
) -> None:
    waving(60).save(tmp_path / "wave.npy")
    annotate_video(config(tmp_path / "a", tmp_path / "wave.npy"))
    assert "left arm and leg are orange" in parts_of(endpoint.requests[0])[0][0]
    annotate_video(config(tmp_path / "b", films / "wave.mp4"))
    assert "orange" not in parts_of(endpoint.requests[-5])[0][0]


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"piece_seconds": 0.5}, "piece_seconds=0.5"),
        ({"piece_seconds": float("nan")}, "piece_seconds=nan"),
        ({"pictures": 0}, "pictures=0"),
        ({"repeats": 0}, "repeats=0"),
        ({"size": 8}, "size=8"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        annotate_video(config(tmp_path, tmp_path, **settings))


def test_what_is_not_there_holds_nothing_or_has_the_name_of_another_is_one_error(
    films: Path, tmp_path: Path, endpoint: FakeEndpoint
) -> None:
    with pytest.raises(ConfigError, match="nothing to annotate"):
        annotate_video(config(tmp_path / "out"))
    with pytest.raises(DataError, match=r"gone.mp4 is not there"):
        annotate_video(config(tmp_path / "out", tmp_path / "gone.mp4"))
    with pytest.raises(DataError, match="holds no film and no motion"):
        annotate_video(config(tmp_path / "out", tmp_path))
    shutil.copy(films / "wave.gif", tmp_path / "wave.mp4")
    with pytest.raises(DataError, match=r"two files are called wave.mp4; name the folder above"):
        annotate_video(config(tmp_path / "out", tmp_path / "wave.mp4", films / "wave.mp4"))
    assert not endpoint.requests and not (tmp_path / "out").exists()


def test_a_folder_of_other_settings_is_not_mixed_with(films: Path, tmp_path: Path, endpoint: FakeEndpoint) -> None:
    annotate_video(config(tmp_path, films / "wave.mp4"))
    with pytest.raises(ConfigError, match="pictures is 8 there and 4 here"):
        annotate_video(config(tmp_path, films / "wave.mp4", pictures=4))


def test_the_command_exits_with_2_where_a_file_has_no_captions(
    films: Path, tmp_path: Path, endpoint: FakeEndpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"")
    arguments = ["--out", str(tmp_path / "out"), "--model", "seer", "--repeats", "1", "--size", "96"]
    assert main(["annotate-video", str(films / "wave.mp4"), str(tmp_path / "bad.mp4"), *arguments]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("kinalign: error: 1 of 2 different files")
    assert main(["annotate-video", str(films / "wave.mp4"), *arguments]) == 0
