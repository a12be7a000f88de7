"""A camera obeys the laws of perspective, and framings keep the body in the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinalign.errors import ConfigError
from kinalign.motion.motion import Motion
from kinalign.motion.rotations import quaternion_rotate, yaw_quaternion
from kinalign.motion.synthetic import jumping, walking
from kinalign.render.camera import Camera, cameras_for, fixed_camera, following_cameras

angles = st.floats(-180, 180)
cameras = st.builds(
    Camera,
    target=st.tuples(*[st.floats(-5, 5)] * 3),
    azimuth_deg=angles,
    elevation_deg=st.floats(-80, 80),
    distance_m=st.floats(1, 20),
    fov_deg=st.floats(10, 90),
)


@given(cameras)
def test_the_target_stands_in_the_middle_at_the_cameras_distance(camera: Camera) -> None:
    x, y, depth = camera.project(camera.target)
    np.testing.assert_allclose((x, y, depth), (0, 0, camera.distance_m), atol=1e-9)


@given(cameras)
def test_axes_are_a_right_angled_frame_without_roll(camera: Camera) -> None:
    right, up, forward = camera.axes
    np.testing.assert_allclose(camera.axes @ camera.axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.cross(right, up), -forward, atol=1e-12)
    assert right[1] == 0
    assert up[1] > 0


@given(cameras, st.floats(0.1, 5), st.floats(0.1, 5))
def test_what_is_twice_as_far_is_half_as_large(camera: Camera, width: float, depth: float) -> None:
    right, _, forward = camera.axes
    near = camera.project(camera.position + depth * forward + width * right).x
    far = camera.project(camera.position + 2 * depth * forward + width * right).x
    np.testing.assert_allclose(far, near / 2)


@given(cameras)
def test_projection_equals_that_of_4x4_matrices(camera: Camera) -> None:
    """The textbook's way: look-at matrix, perspective matrix, division by w."""
    eye, target = camera.position, np.array(camera.target)
    backward = (eye - target) / np.linalg.norm(eye - target)
    side = np.cross((0, 1, 0), backward)
    side /= np.linalg.norm(side)
    look_at = np.eye(4)
    look_at[:3, :3] = side, np.cross(backward, side), backward
    look_at[:3, 3] = -look_at[:3, :3] @ eye
    focal, near, far = 1 / np.tan(np.radians(camera.fov_deg) / 2), 0.1, 100.0
    perspective = np.zeros((4, 4))
    perspective[0, 0] = perspective[1, 1] = focal
    perspective[2, 2:] = (far + near) / (near - far), 2 * far * near / (near - far)
    perspective[3, 2] = -1
    point = target + (0.3, -0.2, 0.1)
    x, y, _, w = perspective @ look_at @ (*point, 1)
    np.testing.assert_allclose(camera.project(point), (x / w, y / w, w), atol=1e-9)


def test_from_the_front_the_left_side_is_on_the_right_of_the_picture() -> None:
    assert Camera(azimuth_deg=0).project((1, 0.9, 0)).x > 0
    assert abs(Camera(azimuth_deg=90).project((1, 0.9, 0)).x) < 1e-12


@pytest.mark.parametrize("azimuth_deg", [0, 90, 215])
@pytest.mark.parametrize("turned_deg", [0, 130])
def test_azimuth_counts_from_where_the_body_faces_first(azimuth_deg: float, turned_deg: float) -> None:
    motion = walking(20)
    turn = yaw_quaternion(np.radians(turned_deg))
    motion = replace(motion, joints=quaternion_rotate(turn, motion.joints))
    camera = following_cameras(motion, azimuth_deg=azimuth_deg)[0]
    seen_from = (camera.position - camera.target) * (1, 0, 1)
    expected = quaternion_rotate(yaw_quaternion(np.radians(azimuth_deg)), motion.facing()[0])
    np.testing.assert_allclose(seen_from / np.linalg.norm(seen_from), expected, atol=1e-6)


def _reach(motion: Motion, cameras: list[Camera]) -> np.ndarray:
    """(T,) how far joints stand from the middle of the picture; 1 is the edge."""
    seen = [camera.project(pose) for camera, pose in zip(cameras, motion.joints)]
    return np.array([max(np.abs(x).max(), np.abs(y).max()) for x, y, _ in seen])


@pytest.mark.parametrize("framing", ["follow", "fixed"])
@pytest.mark.parametrize("azimuth_deg", [0, 35, 90, 180, 260])
@pytest.mark.parametrize("motion", [walking(100), jumping(2), walking(1)], ids=["walk", "jump", "one frame"])
def test_every_joint_is_in_every_picture(framing: str, azimuth_deg: float, motion: Motion) -> None:
    reach = _reach(motion, cameras_for(motion, framing, azimuth_deg=azimuth_deg))
    assert reach.max() < 0.95
    assert reach.max() > 0.6  # and not lost in it


def test_a_fixed_camera_stands_still_and_a_following_one_keeps_its_distance() -> None:
    motion = walking(100)
    assert len(set(cameras_for(motion, "fixed"))) == 1
    following = following_cameras(motion)
    assert len({(c.distance_m, c.azimuth_deg, c.target[1]) for c in following}) == 1
    assert following[0].distance_m < fixed_camera(motion).distance_m


def test_a_following_camera_glides_more_smoothly_than_the_root() -> None:
    motion = jumping(3)
    path = np.array([camera.target for camera in following_cameras(motion)])
    shake = np.abs(np.diff(path, n=2, axis=0)).max()
    assert shake < 0.2 * np.abs(np.diff(motion.joints[:, 0], n=2, axis=0)).max()


@pytest.mark.parametrize(
    "settings",
    [{"fov_deg": 0}, {"fov_deg": 179}, {"elevation_deg": 90}, {"distance_m": 0}, {"azimuth_deg": np.nan}],
)
def test_a_camera_that_sees_nothing_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings)) if settings != {"azimuth_deg": np.nan} else "finite"):
        Camera(**settings)


def test_an_unknown_framing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'orbit' is unknown.*follow, fixed"):
        cameras_for(walking(3), "orbit")  # type: ignore[arg-type]
