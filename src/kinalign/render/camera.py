"""Where a picture is taken from: a camera that looks at a point, one that follows a body, one that sees a whole clip.

Pictures are square. Picture coordinates are x to the right and y up, both -1 to 1 from edge to edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinalign.errors import ConfigError
from kinalign.motion.motion import Motion, facing_directions

Array = NDArray[np.floating]
Framing = Literal["follow", "fixed"]

FLESH_M = 0.22
"""How far the drawn figure reaches beyond its joints, at most: the crown above the head joint, the fingertips."""
MARGIN = 1.04
"""Air around the figure, as a factor on its size."""
FOLLOW_SIGMA_S = 0.45
"""Width of the Gaussian that the path of a following camera is smoothed with; small steps and sways stay visible."""


class Projected(NamedTuple):
    """Picture x and y (...) in -1..1 and the depth (...) in metres along the camera's axis."""

    x: Array
    y: Array
    depth_m: Array


@dataclass(frozen=True)
class Camera:
    """A camera that looks at `target`, in metres, without roll.

    `azimuth_deg` 0 stands on the +z side of the target, 90 on its +x side; `elevation_deg` is above the horizon;
    `fov_deg` is the angle from edge to edge. Raises ConfigError for values that give no picture.
    """

    target: tuple[float, float, float] = (0.0, 0.9, 0.0)
    azimuth_deg: float = 30.0
    elevation_deg: float = 12.0
    distance_m: float = 5.0
    fov_deg: float = 28.0

    def __post_init__(self) -> None:
        numbers = (*self.target, self.azimuth_deg, self.elevation_deg, self.distance_m, self.fov_deg)
        if len(self.target) != 3 or not np.isfinite(numbers).all():
            raise ConfigError(f"a camera needs a target of three numbers and finite angles; this is {self}")
        if not -89 <= self.elevation_deg <= 89:
            raise ConfigError(f"elevation_deg={self.elevation_deg} leaves no up in the picture; use -89 to 89")
        if not 1 <= self.fov_deg <= 120:
            raise ConfigError(f"fov_deg={self.fov_deg} is outside 1 to 120")
        if self.distance_m <= 0:
            raise ConfigError(f"distance_m={self.distance_m} must be positive")

    @property
    def axes(self) -> Array:
        """(3, 3) unit rows: right, up and forward of the picture, in the world."""
        azimuth, elevation = np.radians((self.azimuth_deg, self.elevation_deg))
        sin_a, cos_a, sin_e, cos_e = np.sin(azimuth), np.cos(azimuth), np.sin(elevation), np.cos(elevation)
        return np.array(
            (
                (cos_a, 0.0, -sin_a),
                (-sin_a * sin_e, cos_e, -cos_a * sin_e),
                (-sin_a * cos_e, -sin_e, -cos_a * cos_e),
            )
        )

    @property
    def position(self) -> Array:
        """(3,) metres."""
        return np.asarray(self.target) - self.distance_m * self.axes[2]

    @property
    def slope(self) -> float:
        """Tangent of half the field of view: the half width of the picture at 1 m of depth, in metres."""
        return float(np.tan(np.radians(self.fov_deg) / 2))

    def view(self, points: ArrayLike) -> Array:
        """Points (..., 3) as metres to the right, up and forward of the camera."""
        return np.asarray((np.asarray(points, dtype=np.float64) - self.position) @ self.axes.T)

    def project(self, points: ArrayLike) -> Projected:
        """Where points (..., 3) stand in the picture; those with a depth of 0 or less are behind the camera."""
        right, up, depth = np.moveaxis(self.view(points), -1, 0)
        return Projected(right / (depth * self.slope), up / (depth * self.slope), depth)


def following_cameras(
    motion: Motion, *, azimuth_deg: float = 35.0, elevation_deg: float = 12.0, fov_deg: float = 28.0
) -> list[Camera]:
    """One camera per frame that glides along with the body, near enough to fill the picture and never to cut it.

    `azimuth_deg` counts from the direction that the body faces in frame 0: 0 sees its front, 90 its left side. Height
    and distance are those of the whole clip, so that a jump is seen as a jump.
    """
    low, high = motion.joints.min(axis=1), motion.joints.max(axis=1)  # (T, 3)
    targets = _smooth((low + high).astype(np.float64) / 2, sigma=FOLLOW_SIGMA_S * motion.fps)
    targets[:, 1] = (low[:, 1].min() + high[:, 1].max()) / 2
    return _cameras(motion, targets, azimuth_deg, elevation_deg, fov_deg)


def fixed_camera(
    motion: Motion, *, azimuth_deg: float = 35.0, elevation_deg: float = 12.0, fov_deg: float = 28.0
) -> Camera:
    """One camera that sees the body in every frame; `azimuth_deg` counts as in `following_cameras`."""
    middle = (motion.joints.min(axis=(0, 1)) + motion.joints.max(axis=(0, 1))).astype(np.float64) / 2
    targets = np.repeat(middle[None], len(motion), axis=0)
    return _cameras(motion, targets, azimuth_deg, elevation_deg, fov_deg)[0]


def cameras_for(
    motion: Motion, camera: Camera | Framing = "follow", *, azimuth_deg: float = 35.0, elevation_deg: float = 12.0
) -> list[Camera]:
    """One camera per frame: the given one throughout, or those of a framing by its name."""
    if isinstance(camera, Camera):
        return [camera] * len(motion)
    if camera == "follow":
        return following_cameras(motion, azimuth_deg=azimuth_deg, elevation_deg=elevation_deg)
    if camera == "fixed":
        return [fixed_camera(motion, azimuth_deg=azimuth_deg, elevation_deg=elevation_deg)] * len(motion)
    raise ConfigError(f"camera {camera!r} is unknown; use a Camera or one of {', '.join(get_args(Framing))}")


def _cameras(motion: Motion, targets: Array, azimuth_deg: float, elevation_deg: float, fov_deg: float) -> list[Camera]:
    """Cameras at (T, 3) targets, all as far away as the frame that needs most room."""
    facing = facing_directions(motion.joints[0], motion.skeleton)
    turned = float(np.degrees(np.arctan2(facing[0], facing[2])) + azimuth_deg)
    probe = Camera((0.0, 0.0, 0.0), turned, elevation_deg, distance_m=1.0, fov_deg=fov_deg)
    right, up, forward = np.moveaxis((motion.joints - targets[:, None]) @ probe.axes.T, -1, 0)
    # a ball of FLESH_M around each joint touches the side of the picture's pyramid from inside at this distance
    half = np.radians(fov_deg) / 2
    reach = MARGIN * np.maximum(np.abs(right), np.abs(up))
    distance = float(((reach * np.cos(half) + FLESH_M) / np.sin(half) - forward).max())
    return [
        Camera((x, y, z), turned, elevation_deg, distance_m=distance, fov_deg=fov_deg) for x, y, z in targets.tolist()
    ]


def _smooth(path: Array, *, sigma: float) -> Array:
    """A path (T, 3) blurred over time by a Gaussian of `sigma` frames, cut at 3 sigma, ends repeated."""
    radius = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(path, ((radius, radius), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel, mode="valid") for column in padded.T], axis=-1)
