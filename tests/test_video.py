"""Films read back by their own libraries: as many frames, as fast and as large as written, with the same pictures."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from kinalign.errors import ConfigError, FormatError, KinalignError
from kinalign.motion.motion import Motion
from kinalign.motion.synthetic import walking
from kinalign.render import video
from kinalign.render.figure import render_frames
from kinalign.render.video import film, write_video

WALK = walking(13)


def _decoded(path: Path) -> tuple[float, list[np.ndarray]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.average_rate is not None
        return float(stream.average_rate), frames


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".MP4"])
def test_a_film_has_the_frames_the_rate_and_the_pictures_of_the_motion(tmp_path: Path, suffix: str) -> None:
    path = write_video(WALK, tmp_path / f"walk{suffix}", size=96, caption=False)
    rate, frames = _decoded(path)
    assert rate == pytest.approx(20)
    assert len(frames) == len(WALK)
    for decoded, drawn in zip(frames, render_frames(WALK, size=96)):
        assert decoded.shape == drawn.shape
        # lossy codecs, and colours at half the resolution
        assert np.abs(decoded.astype(int) - drawn.astype(int)).mean() < 4


def test_mp4_is_h264_that_every_player_shows(tmp_path: Path) -> None:
    with av.open(str(WALK.save(tmp_path / "walk.mp4"))) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert context.width % 2 == context.height % 2 == 0


def test_the_index_of_an_mp4_stands_before_its_pictures(tmp_path: Path) -> None:
    data = WALK.save(tmp_path / "walk.mp4").read_bytes()
    boxes, at = [], 0
    while at < len(data):  # ISO 14496-12, 4.2: four bytes of size, four of name
        boxes.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4], "big")
    assert at == len(data)
    assert boxes.index(b"moov") < boxes.index(b"mdat")


def test_an_odd_size_gets_a_row_and_a_column_of_paper(tmp_path: Path) -> None:
    _, frames = _decoded(write_video(WALK, tmp_path / "walk.mp4", size=33, caption=False))
    assert frames[0].shape == (34, 34, 3)


@pytest.mark.parametrize("fps", [20.0, 30.0, 12.5])
def test_a_gif_lasts_as_long_as_the_motion(tmp_path: Path, fps: float) -> None:
    motion = walking(25, fps=fps)
    with Image.open(write_video(motion, tmp_path / "walk.gif", size=48)) as image:
        assert image.n_frames == len(motion)
        durations = []
        for frame in range(image.n_frames):
            image.seek(frame)
            durations.append(image.info["duration"])
    assert sum(durations) / 1000 == pytest.approx(motion.duration_s, abs=0.006)  # GIF counts hundredths
    assert max(durations) - min(durations) <= 10


def test_a_gif_shows_the_pictures(tmp_path: Path) -> None:
    with Image.open(write_video(WALK, tmp_path / "walk.gif", size=64, caption=False)) as image:
        for frame, drawn in enumerate(render_frames(WALK, size=64)):
            image.seek(frame)
            shown = np.asarray(image.convert("RGB")).astype(int)
            assert np.abs(shown - drawn.astype(int)).mean() < 4


def test_motions_play_side_by_side_and_the_shorter_holds_its_last_frame() -> None:
    short, long = walking(4), walking(9)
    pages = list(film([short, long], size=48, caption=False))
    assert len(pages) == len(long)
    assert pages[0].shape == (48, 96, 3)
    np.testing.assert_array_equal(pages[-1][:, :48], pages[3][:, :48])
    for page, drawn in zip(pages, render_frames(long, size=48)):
        np.testing.assert_array_equal(page[:, 48:], drawn)


def test_a_caption_strip_stands_above_the_figure() -> None:
    bare, headed = (next(film([WALK], size=64, caption=caption)) for caption in (False, True))
    assert len(headed) > len(bare)
    offset = len(headed) - len(bare) - (len(headed) % 2)
    assert (headed[:offset] < 128).any()


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"walk{suffix}"
    path.write_bytes(b"old")

    def breaks_off(*_: object, **__: object) -> object:
        yield np.zeros((32, 32, 3), np.uint8)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(video, "_film", breaks_off)
    with pytest.raises(KinalignError, match="walk"):
        write_video(WALK, path, size=32)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_gives_no_film_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"'\.avi' is unknown; use \.mp4, \.webm, \.gif"):
        write_video(WALK, tmp_path / "walk.avi")
    with pytest.raises(ConfigError, match=r"20, 30 fps.*resample"):
        write_video([WALK, walking(5, fps=30)], tmp_path / "walk.mp4")
    with pytest.raises(ConfigError, match="at least one motion"):
        write_video([], tmp_path / "walk.mp4")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KinalignError, match="walk"):
        write_video(WALK, tmp_path / "file" / "walk.mp4", size=32)
    with pytest.raises(ConfigError, match=r"fps=1e\+09 .*resample"):
        write_video(Motion(WALK.joints, fps=1e9), tmp_path / "walk.mp4", size=32)
