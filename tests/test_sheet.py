"""A contact sheet shows frames in time order, under their caption."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kinalign.errors import ConfigError, FormatError, KinalignError
from kinalign.motion.synthetic import walking, waving
from kinalign.render.figure import render_frames
from kinalign.render.sheet import GAP, caption_strip, contact_sheet, frame_indices, gallery, write_sheet

WALK = walking(41)


@given(st.integers(1, 60), st.integers(1, 20))
def test_frames_run_from_the_first_to_the_last_without_repeats(length: int, num_frames: int) -> None:
    frames = frame_indices(walking(length), num_frames=num_frames)
    assert len(frames) == min(length, num_frames)
    assert frames[0] == 0
    assert frames == sorted(set(frames))
    assert frames[-1] == (length - 1 if len(frames) > 1 else 0)


def test_one_in_every_eight() -> None:
    assert frame_indices(WALK, every=8) == [0, 8, 16, 24, 32, 40]


def test_cells_are_the_frames_in_time_order_left_to_right_then_down() -> None:
    size = 64
    sheet = contact_sheet(WALK, num_frames=5, size=size, columns=3, caption=False)
    assert sheet.shape == (2 * size + GAP, 3 * size + 2 * GAP, 3)
    pictures = list(render_frames(WALK, size=size, frames=[0, 10, 20, 30, 40], samples=3))
    for number, picture in enumerate(pictures):
        row, column = divmod(number, 3)
        top, left = row * (size + GAP), column * (size + GAP)
        cell = sheet[top : top + size, left : left + size]
        label = 16  # the time stands at the lower edge
        np.testing.assert_array_equal(cell[:-label], picture[:-label])
        assert (cell[-label:] != picture[-label:]).any()
    assert (sheet[size + GAP :, 2 * (size + GAP) :] == 255).all()  # the cell that is left over


def test_times_differ_from_frame_to_frame() -> None:
    """Of a body that does not move only the label changes."""
    still = type(WALK)(np.repeat(WALK.joints[:1], 21, axis=0))
    sheet = contact_sheet(still, num_frames=2, size=96, caption=False)
    first, last = sheet[:, :96], sheet[:, 96 + GAP :]
    np.testing.assert_array_equal(first[:-20], last[:-20])
    assert (first[-20:] != last[-20:]).any()


def test_a_caption_is_a_header_and_none_is_none() -> None:
    bare = contact_sheet(WALK, num_frames=2, size=64, caption=False)
    headed = contact_sheet(WALK, num_frames=2, size=64)
    np.testing.assert_array_equal(headed[-len(bare) :], bare)
    header = headed[: -len(bare)]
    assert (header < 128).any()  # ink
    silent = type(WALK)(WALK.joints)
    np.testing.assert_array_equal(contact_sheet(silent, num_frames=2, size=64), bare)


@pytest.mark.parametrize(
    "text", ["a person walks " * 3, "walk" * 40, "walk " * 10_000, "ein Mensch geht früh, 人が歩く"]
)
def test_any_caption_fits_its_strip(text: str) -> None:
    strip = caption_strip(text, 200)
    assert strip.shape[1] == 200
    assert strip.shape[0] < 140
    assert (strip[:, -4:] == 255).all()  # nothing runs over the edge
    assert (strip < 128).any()


def test_a_gallery_has_a_row_for_each_motion() -> None:
    motions = [walking(30), waving(30), walking(2)]
    page = gallery(motions, num_frames=4, size=96)
    assert page.shape[1] == 4 * 96 + 3 * GAP
    heights = [len(gallery([motion], num_frames=4, size=96)) for motion in motions]
    assert len(page) == sum(heights)


def test_fixed_and_following_cameras_give_different_sheets() -> None:
    fixed, follow = (contact_sheet(WALK, num_frames=2, size=48, camera=c) for c in ("fixed", "follow"))
    assert (fixed != follow).any()


def test_the_file_holds_the_sheet(tmp_path: Path) -> None:
    path = WALK.save(tmp_path / "walk.png")
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), contact_sheet(WALK))
    write_sheet([WALK, WALK], tmp_path / "two.PNG", size=32, num_frames=3)
    with Image.open(tmp_path / "two.PNG") as image:
        np.testing.assert_array_equal(np.asarray(image), gallery([WALK, WALK], size=32, num_frames=3))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "walk.png"
    path.write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(KinalignError, match=r"walk\.png"):
        write_sheet(WALK, path, size=32)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_gives_no_sheet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"'\.jpg' is unknown; use \.png"):
        write_sheet(WALK, tmp_path / "walk.jpg")
    with pytest.raises(ConfigError, match="num_frames=0"):
        contact_sheet(WALK, num_frames=0)
    with pytest.raises(ConfigError, match="every=0"):
        contact_sheet(WALK, every=0)
    with pytest.raises(ConfigError, match="columns=0"):
        contact_sheet(WALK, columns=0)
    with pytest.raises(ConfigError, match="at least one motion"):
        gallery([])
