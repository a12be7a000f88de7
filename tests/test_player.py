"""The player page: what is in the file, and what a browser makes of it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kinalign.render
from kinalign.errors import ConfigError, KinalignError
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, KIT, Skeleton
from kinalign.render.player import PlayerEvent, write_player

ASSETS = Path(kinalign.render.__file__).parent / "assets"
MILLIMETRE = 1e-3
NASTY = "\"quotes\" 'n' </script><script>window.broken = 1</script> <!-- & $script ${css} \u2028 é"


def stroll(
    num_frames: int = 60, *, fps: float = 20.0, skeleton: Skeleton = HUMANML3D, speed_m_s: float = 1.0
) -> Motion:
    """The rest pose on its way along +z, each joint swaying at its own rate."""
    pose = np.zeros((skeleton.num_joints, 3))
    for joint in skeleton.topological_order[1:]:
        pose[joint] = pose[skeleton.parents[joint]] + skeleton.offsets[joint]
    time = np.arange(num_frames)[:, None] / fps
    joints = np.repeat(pose[None], num_frames, axis=0)
    joints[..., 2] += speed_m_s * time
    joints[..., 0] += 0.05 * np.sin(time * np.linspace(0, 4, skeleton.num_joints))  # at most 4 rad/s
    return Motion(joints, fps=fps, skeleton=skeleton, caption="a person strolls").on_floor()


def embedded(path: Path) -> list[dict[str, Any]]:
    """The motions in a page, read as a stranger would: by the page's JSON and base64."""
    (scene,) = re.findall(r'<script type="application/json" id="scene">(.*?)</script>', path.read_text("utf-8"), re.S)
    motions = json.loads(scene)["motions"]
    for motion in motions:
        root = np.frombuffer(base64.b64decode(motion["root"]), "<f4").reshape(-1, 1, 3)
        steps = np.frombuffer(base64.b64decode(motion["offsets"]), "<i2").reshape(len(root), -1, 3)
        motion["joints"] = root + steps * motion["scale"]
    return motions


# ---- the file


@pytest.mark.parametrize("speed_m_s", [0.0, 1.0, 200.0], ids=["in place", "walking", "2 km away"])
def test_the_page_holds_the_joints_within_a_millimetre(tmp_path: Path, speed_m_s: float) -> None:
    motion = stroll(200, speed_m_s=speed_m_s)
    (found,) = embedded(write_player(motion, tmp_path / "page.html"))
    np.testing.assert_allclose(found["joints"], motion.joints, atol=0.5 * MILLIMETRE)
    assert found["fps"] == motion.fps


def test_a_page_of_ten_seconds_is_below_900_kilobytes(tmp_path: Path) -> None:
    assert write_player(stroll(200), tmp_path / "page.html").stat().st_size < 900_000


def test_a_motion_saves_itself_as_a_page(tmp_path: Path) -> None:
    motion = stroll()
    motion.save(tmp_path / "saved.html")
    assert (tmp_path / "saved.html").read_bytes() == write_player(motion, tmp_path / "written.html").read_bytes()


def test_the_page_names_no_address_to_load_from(tmp_path: Path) -> None:
    page = write_player(stroll(), tmp_path / "page.html").read_text("utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["']?(?!data:)[\w/.]""", page.split("<script>")[0])
    assert set(re.findall(r"https?://[^\s\"'`)]+", page)) <= {
        "http://www.w3.org/1999/xhtml",
        "http://www.w3.org/2000/svg",
    }
    assert "default-src 'none'" in page


def test_the_bundle_is_built_from_the_sources_beside_it() -> None:
    sources = sorted((ASSETS / "src").glob("*.js"))
    sha = hashlib.sha256("".join(source.read_text("utf-8") for source in sources).encode()).hexdigest()
    bundle = (ASSETS / "player.bundle.js").read_text("utf-8")
    assert sha in bundle, "run src/kinalign/render/assets/build.sh and commit player.bundle.js"
    assert (ASSETS / "three.LICENSE.txt").read_text("utf-8") in bundle


def test_a_page_that_cannot_be_written_leaves_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_player(stroll(), tmp_path / "page.html")
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(KinalignError, match=r"page\.html"):
        write_player(stroll(90), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_half_a_character_in_a_caption_does_not_lose_the_page(tmp_path: Path) -> None:
    (found,) = embedded(write_player(replace(stroll(), caption="half \ud800"), tmp_path / "page.html"))
    assert found["caption"] == "half \ud800"


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_s": 2.0, "end_s": 1.0},
        {"start_s": -0.1},
        {"end_s": float("nan")},
        {"end_s": float("inf")},
        {"side": "top"},
        {"colour": "red;background:url(x)"},
    ],
)
def test_an_event_that_makes_no_sense_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="'kick'"):
        PlayerEvent(**{"label": "kick", "start_s": 0.5, "end_s": 1.0, **wrong})


def test_events_must_fit_their_motions(tmp_path: Path) -> None:
    kick = PlayerEvent("kick", 0.5, 1.0)
    page = tmp_path / "page.html"
    with pytest.raises(ConfigError, match="ends at 9 s"):
        write_player(stroll(60), page, events=[PlayerEvent("kick", 0.5, 9)])
    with pytest.raises(ConfigError, match="1 lists of events for 2 motions"):
        write_player([stroll(), stroll()], page, events=[[kick]])
    for motions, events in ((stroll(), [[kick]]), ([stroll()], [kick])):
        with pytest.raises(ConfigError, match="a motion takes a list of PlayerEvent, a list of motions a list of such"):
            write_player(motions, page, events=events)
    with pytest.raises(ConfigError, match="at least 1 motion"):
        write_player([], page)
    assert not page.exists()


# ---- in a browser


@contextmanager
def opened(browser: Any, path: Path, *, width: int = 480, height: int = 400) -> Iterator[Any]:
    """A paused page in the browser; when it is left, it must have asked for no other address and not complained."""
    asked: list[str] = []
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": height})
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri())
    page.evaluate("kinalign.pause()")
    yield page
    page.close()
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert complaints == []


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`show(motions, title=..., events=...)` writes a page and opens it, in a window of 480 x 400 px."""
    with ExitStack() as stack:

        def show(motions: Motion | list[Motion], *, width: int = 480, height: int = 400, **options: Any) -> Any:
            path = write_player(motions, tmp_path / "page.html", **options)
            return stack.enter_context(opened(browser, path, width=width, height=height))

        yield show


EVENTS = [PlayerEvent("kick", 0.6, 1.2, side="right"), PlayerEvent("turn", 1.5, 2.5, colour="#5a9a5a")]


@pytest.fixture(scope="module")
def page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One page of 60 frames with two events, for all tests that leave it paused."""
    path = write_player(stroll(60), tmp_path_factory.mktemp("player") / "page.html", events=EVENTS)
    with opened(browser, path) as page:
        yield page


def shown(page: Any, motion: int = 0) -> np.ndarray:
    return np.array(page.evaluate(f"kinalign.joints({motion})"))


def two_frames(page: Any) -> None:
    """Wait until what was asked for is drawn."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def wait_until(page: Any, condition: str) -> None:
    """Looks at every drawn frame (the page's policy forbids the eval that Playwright's own waiting uses)."""
    page.evaluate(
        f"new Promise(done => {{ (function look() {{ {condition} ? done() : requestAnimationFrame(look) }})() }})"
    )


def picture_of(page: Any) -> np.ndarray:
    """The canvas as it is seen, (H, W, 3), with what lies over it."""
    return np.asarray(Image.open(io.BytesIO(page.locator("#view").screenshot())).convert("RGB"), dtype=int)


def test_the_page_shows_every_frame_of_the_motion(page: Any) -> None:
    motion = stroll(60)
    for frame in (0, 1, 17, 59):
        page.evaluate(f"kinalign.seek({frame / motion.fps})")
        np.testing.assert_allclose(shown(page), motion.joints[frame], atol=MILLIMETRE)


def test_between_frames_the_body_is_between_them(page: Any) -> None:
    page.evaluate("kinalign.seek(1.025)")
    np.testing.assert_allclose(shown(page), stroll(60).joints[20:22].mean(axis=0), atol=MILLIMETRE)


def test_the_canvas_shows_a_left_and_a_right_side(page: Any) -> None:
    page.evaluate("kinalign.seek(1.0)")
    two_frames(page)
    picture = picture_of(page)
    height, width, _ = picture.shape
    red, _, blue = np.moveaxis(picture[height // 5 :, width // 4 : -width // 4], -1, 0)
    assert ((red - blue) > 50).sum() > 150  # px of the coral left limbs
    assert ((blue - red) > 50).sum() > 150  # px of the blue right limbs


def test_the_picture_moves_with_the_time(page: Any) -> None:
    pictures = []
    for time in (0.0, 2.0):
        page.evaluate(f"kinalign.seek({time})")
        two_frames(page)
        pictures.append(picture_of(page))
    assert np.abs(pictures[0] - pictures[1]).max() > 30


PACE = """() => new Promise(done => {
  kinalign.seek(0); kinalign.play();
  let frames = 0, start;
  const look = now => {
    if (++frames === 2) start = [now, kinalign.time];
    if (frames < 6) return requestAnimationFrame(look);
    done((kinalign.time - start[1]) / (now - start[0]) * 1000);
  };
  requestAnimationFrame(look);
})"""
"""Seconds of motion that pass in a second of the page's own clock, however slowly it draws."""


def test_playing_advances_the_time_and_a_slower_speed_does_so_more_slowly(page: Any) -> None:
    pace = {}
    for speed in ("0.25", "1"):
        page.select_option("#speed", speed)
        pace[speed] = page.evaluate(PACE)
        page.evaluate("kinalign.pause()")
    assert 0 < pace["0.25"] < 0.5 * pace["1"]


def test_at_the_end_it_starts_again_only_when_it_loops(page: Any) -> None:
    page.select_option("#speed", "1")
    page.evaluate("kinalign.seek(2.95); kinalign.play()")
    wait_until(page, "kinalign.time < 2.9")
    page.click("#loop")
    page.evaluate("kinalign.seek(2.95); kinalign.play()")
    wait_until(page, "!kinalign.playing")
    assert page.evaluate("kinalign.time") == pytest.approx(3.0)
    page.click("#loop")


def test_the_scrub_bar_seeks(page: Any) -> None:
    page.locator("#scrub").fill("1.5")
    np.testing.assert_allclose(shown(page), stroll(60).joints[30], atol=MILLIMETRE)
    track = page.locator("#track").bounding_box()
    page.mouse.click(track["x"] + track["width"] / 4, track["y"] + track["height"] / 2)
    assert page.evaluate("kinalign.time") == pytest.approx(3.0 / 4, abs=3.0 / track["width"] * 2)  # 2 px


def test_keys_step_by_one_frame_and_play(page: Any) -> None:
    page.evaluate("kinalign.seek(0.5)")
    for key, time in (("ArrowRight", 0.55), ("ArrowRight", 0.6), ("ArrowLeft", 0.55), ("Home", 0.0), ("End", 2.95)):
        page.keyboard.press(key)
        assert page.evaluate("kinalign.time") == pytest.approx(time)
    page.locator("#view").focus()
    page.keyboard.press("Space")
    assert page.evaluate("kinalign.playing")
    page.keyboard.press("Space")
    assert not page.evaluate("kinalign.playing")


def test_a_click_on_an_event_seeks_to_it_and_names_it_in_the_picture(page: Any) -> None:
    page.get_by_role("button", name="turn, 1.50 to 2.50 s").click()
    assert page.evaluate("kinalign.time") == pytest.approx(1.5)
    assert page.locator(".happening span").all_inner_texts() == ["turn"]
    bars = [page.locator(".event").nth(i).bounding_box() for i in (0, 1)]
    lane = page.locator(".lane").bounding_box()
    for bar, event in zip(bars, EVENTS):
        assert (bar["x"] - lane["x"]) / lane["width"] == pytest.approx(event.start_s / 3.0, abs=0.01)
        assert bar["width"] / lane["width"] == pytest.approx((event.end_s - event.start_s) / 3.0, abs=0.01)


def test_every_control_has_a_name(page: Any) -> None:
    nameless = "e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.[0]?.textContent.trim())"
    controls = page.locator("button, input, select, canvas")
    assert controls.count() >= 12
    assert not any(control.evaluate(nameless) for control in controls.all())


@pytest.mark.parametrize("button", ["ghosts", "follow"])
def test_a_switch_changes_the_picture_and_back(page: Any, button: str) -> None:
    pictures = []
    page.evaluate("kinalign.seek(2.9)")
    page.click("#reset")
    for _ in range(3):
        two_frames(page)
        pictures.append(picture_of(page))
        page.click(f"#{button}")
    page.click(f"#{button}")
    assert np.abs(pictures[0] - pictures[1]).max() > 30
    np.testing.assert_array_equal(pictures[0], pictures[2])


def test_two_motions_of_other_rates_lengths_and_skeletons_share_a_clock(show: Callable[..., Any]) -> None:
    slow, fast = stroll(40, fps=20), stroll(180, fps=60, skeleton=KIT)
    page = show([slow, fast], title="Two", events=[[], [PlayerEvent("stop", 2.5, 3.0)]])
    assert page.evaluate("kinalign.duration") == pytest.approx(3.0)
    for time, slow_frame, fast_frame in ((0.5, 10, 30), (1.9, 38, 114), (2.5, 39, 150)):
        page.evaluate(f"kinalign.seek({time})")
        np.testing.assert_allclose(shown(page, 0), slow.joints[slow_frame], atol=MILLIMETRE)
        np.testing.assert_allclose(shown(page, 1), fast.joints[fast_frame], atol=MILLIMETRE)
    two_frames(page)
    half = picture_of(page).shape[1] // 2
    for side in (picture_of(page)[60:, :half], picture_of(page)[60:, half:]):
        assert ((side[..., 0] - side[..., 2]) > 50).any() and ((side[..., 2] - side[..., 0]) > 50).any()
    before = picture_of(page)
    page.click("#together")
    two_frames(page)
    assert np.abs(picture_of(page) - before).max() > 30
    page.keyboard.press("ArrowRight")
    assert page.evaluate("kinalign.time") == pytest.approx(2.5 + 1 / 60)


def test_a_caption_is_shown_as_it_is_whatever_it_holds(show: Callable[..., Any]) -> None:
    motion = replace(stroll(20), caption=NASTY)
    page = show([motion, replace(motion, caption="other")], title=NASTY, events=[[PlayerEvent(NASTY, 0, 0.5)], []])
    assert page.evaluate("window.broken") is None
    assert page.evaluate("kinalign.numMotions") == 2
    for where in ("#title", ".event span"):
        assert page.locator(where).first.text_content() == NASTY


@pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda skeleton: skeleton.name)
def test_one_frame_is_a_page_too(show: Callable[..., Any], skeleton: Skeleton) -> None:
    motion = stroll(1, skeleton=skeleton)
    page = show(motion)
    page.evaluate("kinalign.play()")
    two_frames(page)
    page.evaluate("kinalign.pause()")
    np.testing.assert_allclose(shown(page), motion.joints[0], atol=MILLIMETRE)


def test_joints_all_in_one_place_are_shown_without_complaint(show: Callable[..., Any]) -> None:
    page = show(Motion(np.zeros((5, 22, 3))))
    two_frames(page)
    assert not shown(page).any()


def test_on_a_phone_nothing_hangs_over_the_edge(show: Callable[..., Any]) -> None:
    page = show([stroll(), stroll()], title="word " * 80, width=360, height=640)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for control in page.locator("#controls button:visible, #speed").all():
        box = control.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["y"] + box["height"] <= 640
    assert page.locator("#stage").bounding_box()["height"] > 300
