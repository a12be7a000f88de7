"""Pictures of a figure: the same every time, symmetric, whole, and with the right things in front."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinalign.data.records import Clip
from kinalign.errors import ConfigError
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, KIT
from kinalign.motion.synthetic import jumping, walking, waving
from kinalign.render.camera import Camera, cameras_for, following_cameras
from kinalign.render.figure import Body, Look, _cast, render_frame, render_frames

BLACK, WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
# nothing but the body is darker than a shadow
CUT_OUT = Look(
    left=BLACK, right=BLACK, body=BLACK, visor=BLACK, background=WHITE, ground=WHITE, line=WHITE, trail=WHITE
)


def _body_pixels(picture: np.ndarray) -> np.ndarray:
    return picture.max(axis=-1) < 60


def test_pictures_are_bytes_of_the_size_asked_for_one_per_frame() -> None:
    pictures = list(render_frames(walking(7), size=64))
    assert len(pictures) == 7
    assert {(p.shape, p.dtype.name) for p in pictures} == {((64, 64, 3), "uint8")}


def test_the_same_motion_gives_the_same_bytes() -> None:
    motion = walking(5)
    first, second = (np.stack(list(render_frames(motion, size=96))) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_chosen_frames_are_those_of_the_whole_film() -> None:
    motion = walking(30)
    film = list(render_frames(motion, size=64))
    for frame, picture in zip((20, 3), render_frames(motion, size=64, frames=(20, 3))):
        np.testing.assert_array_equal(picture, film[frame])
    np.testing.assert_array_equal(render_frame(motion, 11, size=64, samples=2), film[11])


def test_a_mirrored_motion_gives_the_mirrored_picture_with_the_colours_swapped() -> None:
    motion = waving(30, side="left").face_forward()
    look = Look()
    swapped = replace(look, left=look.right, right=look.left, light_azimuth_deg=-look.light_azimuth_deg)
    straight = render_frame(motion, 15, size=128, azimuth_deg=35)
    mirrored = render_frame(motion.mirror(), 15, size=128, azimuth_deg=-35, look=swapped)
    difference = np.abs(straight.astype(int) - mirrored[:, ::-1].astype(int))
    # float32 rounds differently on the two sides, and where two cones touch the other one may win
    assert np.mean(difference > 2) < 2e-3
    assert np.mean(np.abs(straight.astype(int) - straight[:, ::-1].astype(int)) > 2) > 0.05  # the test can fail


def test_a_moved_motion_gives_the_same_picture() -> None:
    motion = walking(20)
    far = replace(motion, joints=motion.joints + np.array([40, 0, -25], dtype=np.float32))  # whole squares of the grid
    near, moved = (render_frame(m, 10, size=128).astype(int) for m in (motion, far))
    assert np.mean(np.abs(near - moved) > 3) < 5e-3


@pytest.mark.parametrize("azimuth_deg", [0, 60, 120, 180, 270])
@pytest.mark.parametrize("motion", [walking(60), waving(40), jumping(2)], ids=["walk", "wave", "jump"])
@pytest.mark.parametrize("framing", ["follow", "fixed"])
def test_the_figure_is_inside_the_picture_and_fills_it(motion: Motion, azimuth_deg: float, framing: str) -> None:
    frames = range(0, len(motion), 6)
    pictures = render_frames(motion, size=96, camera=framing, azimuth_deg=azimuth_deg, look=CUT_OUT, frames=frames)
    extents = [_extent(picture) for picture in pictures]
    # a fixed camera far behind a walk sees the body small
    assert max(extents) > (0.6 if framing == "follow" else 0.3)


def _extent(picture: np.ndarray) -> float:
    """Height or width of the body as a share of the picture, whichever is larger; the border must be free of it."""
    body = _body_pixels(picture)
    assert not (body[0].any() or body[-1].any() or body[:, 0].any() or body[:, -1].any())
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    return float(max(np.ptp(rows), np.ptp(columns)) + 1) / len(body)


def test_real_clips_are_inside_the_picture(openmocap: Callable[[str], list[Clip]]) -> None:
    clips = [clip for clip in openmocap("test") if clip.source in ("HDM05", "CMU")]
    for number, clip in enumerate(clips[::8]):
        frames = range(0, len(clip.motion), max(1, len(clip.motion) // 5))
        azimuth_deg = 40.0 * number
        for picture in render_frames(clip.motion, size=64, azimuth_deg=azimuth_deg, look=CUT_OUT, frames=frames):
            assert _extent(picture) > 0.1, clip.id


def test_joints_are_under_the_flesh() -> None:
    """The picture agrees with the camera's projection, which is tested on its own."""
    motion, size = waving(30), 128
    cameras = following_cameras(motion)
    for frame in (0, 14, 29):
        body = _body_pixels(render_frame(motion, frame, size=size, look=CUT_OUT))
        x, y, _ = cameras[frame].project(motion.joints[frame])
        columns, rows = ((x + 1) / 2 * size).astype(int), ((1 - y) / 2 * size).astype(int)
        hidden = [n for n, r, c in zip(motion.skeleton.joint_names, rows, columns) if not body[r, c]]
        assert not hidden


@pytest.mark.parametrize(("azimuth_deg", "near_side"), [(90, "left"), (-90, "right")])
def test_the_near_leg_hides_the_far_one(azimuth_deg: float, near_side: str) -> None:
    motion, size = waving(20), 128
    look = Look(left=(1.0, 0.0, 0.0), right=(0.0, 0.0, 1.0))
    camera = cameras_for(motion, azimuth_deg=azimuth_deg)[0]
    picture = render_frame(motion, 0, size=size, azimuth_deg=azimuth_deg, look=look)
    x, y, _ = camera.project(motion.joints[0, HUMANML3D.index("left_knee")])
    red, _, blue = picture[int((1 - y) / 2 * size), int((x + 1) / 2 * size)].astype(int)
    assert (red > blue + 50) if near_side == "left" else (blue > red + 50)


def test_the_face_shows_from_the_front_only() -> None:
    look = replace(CUT_OUT, visor=(1.0, 0.0, 0.0), body=BLACK)
    red = [
        np.sum(picture[..., 0] > picture[..., 1].astype(int) + 60)
        for picture in (render_frame(waving(20), 0, size=128, azimuth_deg=a, look=look) for a in (0, 180))
    ]
    assert red[0] > 20
    assert red[1] == 0


def test_what_is_under_the_ground_is_hidden() -> None:
    motion = walking(4)
    sunk = replace(motion, joints=motion.joints - np.array([0, 3, 0], dtype=np.float32))
    camera = Camera(distance_m=7)
    assert _body_pixels(render_frame(motion, size=96, camera=camera, look=CUT_OUT)).any()
    assert not _body_pixels(render_frame(sunk, size=96, camera=camera, look=CUT_OUT)).any()


def test_a_body_casts_a_shadow_that_grows_paler_as_it_rises() -> None:
    red = (1.0, 0.0, 0.0)
    look = replace(CUT_OUT, left=red, right=red, body=red, visor=red)

    def darkest(height_m: float) -> int:
        motion = walking(1)
        raised = replace(motion, joints=motion.joints + np.array([0, height_m, 0], dtype=np.float32))
        picture = render_frame(raised, size=128, camera=Camera(distance_m=9, elevation_deg=40), look=look).astype(int)
        return int(picture[np.ptp(picture, axis=-1) < 8].min())  # shadows on white are grey

    assert 100 < darkest(0.0) < darkest(1.2) < 255


@pytest.mark.parametrize("frames", [1, 2])
def test_the_shortest_motions_have_pictures(frames: int) -> None:
    assert len(list(render_frames(walking(frames), size=32))) == frames


def test_a_camera_inside_or_behind_the_body_still_gives_a_picture() -> None:
    for distance_m in (0.05, 0.4):
        picture = render_frame(walking(1), size=48, camera=Camera(distance_m=distance_m))
        assert picture.shape == (48, 48, 3)
    assert not _body_pixels(render_frame(walking(1), size=48, camera=Camera((0, 1, 30.0)), look=CUT_OUT)).any()


def test_the_kit_skeleton_and_skeletons_of_unknown_names_have_flesh() -> None:
    kit = Motion(_rest_pose(KIT)[None], skeleton=KIT)
    assert Body.of(kit).head is not None
    unknown = replace(HUMANML3D, joint_names=tuple(f"bone{index}" for index in range(22)))
    rods = Motion(_rest_pose(HUMANML3D)[None], skeleton=unknown)
    for motion in (kit, rods):
        assert _extent(render_frame(motion, size=96, look=CUT_OUT)) > 0.6


def _rest_pose(skeleton) -> np.ndarray:  # type: ignore[no-untyped-def]
    joints = np.zeros((skeleton.num_joints, 3))
    for joint in skeleton.topological_order[1:]:
        joints[joint] = joints[skeleton.parents[joint]] + skeleton.offsets[joint]
    return joints - (0, joints[:, 1].min(), 0)


points = st.tuples(*[st.floats(-0.5, 0.5)] * 3).map(np.array)


@settings(max_examples=60, deadline=None)
@given(points, points, st.floats(0.03, 0.2), st.floats(0.03, 0.2))
def test_rays_meet_a_round_cone_where_marching_along_its_distance_does(
    start: np.ndarray, end: np.ndarray, r0: float, r1: float
) -> None:
    ahead = np.array([0.0, 0.0, 4.0])
    start, end = start + ahead, end + ahead
    across = np.linspace(-0.2, 0.2, 17)
    directions = np.stack((*np.meshgrid(across, across), np.ones((17, 17))))
    directions /= np.linalg.norm(directions, axis=0)
    with np.errstate(all="ignore"):
        cast = _cast(tuple(directions.astype(np.float32)), start, end, r0, r1)  # type: ignore[arg-type]
    marched = _march(directions, start, end, r0, r1)
    sure = np.abs(_closest(directions, start, end, r0, r1)) > 2e-3  # not just touching, where float32 cannot tell
    np.testing.assert_array_equal(np.isfinite(cast)[sure], np.isfinite(marched)[sure])
    both = np.isfinite(cast) & np.isfinite(marched) & sure
    np.testing.assert_allclose(cast[both], marched[both], atol=4e-3)  # float32 cancels at a distance of 4 m


def _balls(start: np.ndarray, end: np.ndarray, r0: float, r1: float) -> tuple[np.ndarray, np.ndarray]:
    """A round cone is the union of balls between its ends; 400 of them."""
    share = np.linspace(0, 1, 400)[:, None]
    return start + share * (end - start), r0 + share[:, 0] * (r1 - r0)


def _march(directions: np.ndarray, start: np.ndarray, end: np.ndarray, r0: float, r1: float) -> np.ndarray:
    centres, radii = _balls(start, end, r0, r1)
    toward = np.einsum("chw,nc->nhw", directions, centres)
    under = toward**2 - np.einsum("nc,nc->n", centres, centres)[:, None, None] + radii[:, None, None] ** 2
    with np.errstate(invalid="ignore"):
        return np.nanmin(np.where(under >= 0, toward - np.sqrt(under), np.inf), axis=0)


def _closest(directions: np.ndarray, start: np.ndarray, end: np.ndarray, r0: float, r1: float) -> np.ndarray:
    """(H, W) least distance of each ray to the surface, negative inside."""
    centres, radii = _balls(start, end, r0, r1)
    toward = np.einsum("chw,nc->nhw", directions, centres)
    apart = np.sqrt(np.maximum(np.einsum("nc,nc->n", centres, centres)[:, None, None] - toward**2, 0))
    return np.asarray((apart - radii[:, None, None]).min(axis=0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 8}, "size=8"),
        ({"size": 10_000}, "size=10000"),
        ({"samples": 0}, "samples=0"),
        ({"backend": "cuda"}, "'cuda' is unknown"),
        ({"frames": [3]}, "frame 3 is not one of the 3"),
    ],
)
def test_settings_that_give_no_picture_are_refused_at_once(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        render_frames(walking(3), **settings)  # type: ignore[arg-type]
