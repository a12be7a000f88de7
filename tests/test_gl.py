"""The shader draws what numpy draws."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from kinalign.errors import ConfigError
from kinalign.motion.synthetic import jumping, walking
from kinalign.render import gl
from kinalign.render.figure import render_frames


def _skip_without_context() -> None:
    pytest.importorskip("moderngl", reason="moderngl is not installed")
    try:
        gl.open_context(required=True).release()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("azimuth_deg", [35, 200])
def test_the_shader_draws_what_numpy_draws(azimuth_deg: float) -> None:
    _skip_without_context()
    motion = walking(30)
    settings = {"size": 64, "azimuth_deg": azimuth_deg, "frames": [2, 29]}
    for ours, theirs in zip(
        render_frames(motion, backend="gl", **settings), render_frames(motion, **settings), strict=True
    ):
        difference = np.abs(ours.astype(int) - theirs.astype(int))
        assert difference.mean() < 0.3
        assert np.mean(difference > 6) < 0.01  # where two cones touch


def test_two_films_can_be_drawn_in_turns() -> None:
    _skip_without_context()
    first, second = walking(3), jumping(1)
    pairs = list(
        zip(*(render_frames(m, size=32, backend="gl", frames=[0, 1, 2]) for m in (first, second)), strict=True)
    )
    for index, motion in enumerate((first, second)):
        alone = list(render_frames(motion, size=32, backend="gl", frames=[0, 1, 2]))
        np.testing.assert_array_equal(np.stack([pair[index] for pair in pairs]), np.stack(alone))


def test_without_moderngl_auto_is_numpy_and_gl_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moderngl", None)
    motion = walking(2)
    auto, plain = (next(render_frames(motion, size=32, backend=backend)) for backend in ("auto", "numpy"))
    np.testing.assert_array_equal(auto, plain)
    with pytest.raises(ConfigError, match=r"pip install \"kinalign\[gl\]\""):
        render_frames(motion, size=32, backend="gl")
