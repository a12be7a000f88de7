"""A motion as pictures: a figure of round cones over a grid on the ground, by analytic ray casting in numpy.

Left limbs and right limbs have two colours, so that a still says which is which. No mesh, no GL context, no
randomness: the same motion gives the same bytes. Left out: shadows that the body throws on itself.

Letters: T frames, J joints, P parts of the body, N samples on the body, H W pixels of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from kinalign.errors import ConfigError
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import Skeleton
from kinalign.render.camera import Camera, Framing, cameras_for

Array = NDArray[np.floating]
Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]
Rgb = tuple[float, float, float]
Backend = Literal["numpy", "gl", "auto"]

SOLE_M = 0.03
"""The ground is drawn this far below y = 0: joints stand on 0, and flesh is under them."""


@dataclass(frozen=True)
class Look:
    """Colours (0 to 1, as displayed) and light of a picture.

    `light_azimuth_deg` counts from the camera towards its right, `light_elevation_deg` from the horizon.
    """

    left: Rgb = (0.93, 0.44, 0.30)
    right: Rgb = (0.20, 0.50, 0.70)
    body: Rgb = (0.87, 0.84, 0.79)
    visor: Rgb = (0.17, 0.19, 0.23)
    background: Rgb = (0.957, 0.949, 0.933)
    ground: Rgb = (0.925, 0.914, 0.894)
    line: Rgb = (0.77, 0.755, 0.725)
    trail: Rgb = (0.52, 0.47, 0.60)
    light_azimuth_deg: float = -38.0
    light_elevation_deg: float = 52.0


@dataclass(frozen=True, eq=False)
class Body:
    """Flesh for a skeleton: P round cones whose two ends are weighted sums of the joints.

    `weights` (2, P, J), `radii_m` (2, P); `sides` (P,) is 1 on the left, -1 on the right and 0 between; `head` is the
    part that has a face, None for a body without one; `casts_shadow` (P,) is False for parts within the shadows of
    others; `shoulders` are joint indices (right, left).
    """

    weights: Array
    radii_m: Array
    sides: NDArray[np.int64]
    head: int | None
    casts_shadow: NDArray[np.bool_]
    shoulders: tuple[int, int]

    @staticmethod
    def of(motion: Motion) -> Body:
        """Flesh that fits the bones of a motion's first frame; a skeleton of unknown names gets a rod for each bone."""
        skeleton = motion.skeleton.with_bone_lengths_of(motion.joints[0])
        parts = _human_parts(skeleton) if set(skeleton.joint_names) >= _HUMAN else _rods(skeleton)
        return Body(
            weights=np.array([[part.start for part in parts], [part.end for part in parts]]),
            radii_m=np.array([part.radii_m for part in parts]).T,
            sides=np.array([part.side for part in parts]),
            head=next((index for index, part in enumerate(parts) if part.is_head), None),
            casts_shadow=np.array([not part.is_filling for part in parts]),
            shoulders=skeleton.shoulders,
        )

    def albedo(self, look: Look) -> Array:
        """(P, 3) shares of light that the parts give back, 0 to 1."""
        return np.array([(look.right, look.body, look.left)[side + 1] for side in self.sides]) ** 2


class _Part(NamedTuple):
    start: Array  # (J,) weights
    end: Array
    radii_m: tuple[float, float]
    side: int = 0
    is_head: bool = False
    is_filling: bool = False  # between other parts, within their shadows


# Joints that HumanML3D and KIT both have.
_LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "foot")
_HUMAN = {"pelvis", "spine1", "spine2", "neck", "head"} | {f"{s}_{n}" for s in ("left", "right") for n in _LIMBS}


def _human_parts(skeleton: Skeleton) -> list[_Part]:
    at = dict(zip(skeleton.joint_names, np.eye(skeleton.num_joints)))
    length = dict(zip(skeleton.joint_names, np.maximum(skeleton.bone_lengths, 0.02)))
    hips, shoulders = ((at[f"left_{name}"] + at[f"right_{name}"]) / 2 for name in ("hip", "shoulder"))
    skull = (at["head"] - at["neck"]) / length["head"]  # a unit vector up the neck
    sternum = 0.55 * at["spine2"] + 0.45 * at["neck"]
    waist = 0.85 * at["spine1"] + 0.15 * at["spine2"]
    half_hip, half_chest = (at["left_hip"] - hips), 0.46 * (at["left_shoulder"] - shoulders)
    parts = [
        _Part(0.85 * at["neck"] + 0.15 * at["spine2"], at["head"] + 0.04 * skull, (0.056, 0.050)),
        _Part(at["head"] + 0.055 * skull, at["head"] + 0.125 * skull, (0.078, 0.098), is_head=True),
        _Part(hips + 0.75 * half_hip, hips - 0.75 * half_hip, (0.110, 0.110)),
        _Part(sternum + half_chest, sternum - half_chest, (0.106, 0.106)),
    ]
    # the trunk is wider than deep: columns side by side, near enough to look like one surface
    for share in (-1.0, -0.5, 0.0, 0.5, 1.0):
        flank = waist + share * 0.42 * half_hip
        inner = abs(share) < 1
        parts.append(_Part(hips + share * 0.75 * half_hip, flank, (0.110, 0.100), is_filling=inner))
        parts.append(_Part(flank, sternum + share * half_chest, (0.100, 0.106), is_filling=inner))
    for side, sign in (("left", 1), ("right", -1)):
        shoulder, elbow, wrist, hip, knee, ankle, foot = (at[f"{side}_{name}"] for name in _LIMBS)
        shin = (ankle - knee) / length[f"{side}_ankle"]
        heel = ankle + 0.055 * shin - 0.2 * (foot - ankle)
        palm = (wrist - elbow) / length[f"{side}_wrist"]
        parts += [
            _Part(0.65 * at["neck"] + 0.15 * sternum + 0.2 * shoulder, shoulder, (0.070, 0.062)),
            _Part(shoulder, elbow, (0.066, 0.046), sign),
            _Part(elbow, wrist, (0.046, 0.032), sign),
            _Part(wrist + 0.03 * palm, wrist + 0.11 * palm, (0.040, 0.032), sign),
            _Part(hip, knee, (0.100, 0.062), sign),
            _Part(knee, 0.65 * knee + 0.35 * ankle, (0.062, 0.063), sign),
            _Part(0.65 * knee + 0.35 * ankle, ankle, (0.063, 0.040), sign),
            _Part(heel, foot, (0.040, 0.040), sign),
            _Part(foot, foot + 0.3 * (foot - heel), (0.040, 0.030), sign),
        ]
    return parts


def _rods(skeleton: Skeleton) -> list[_Part]:
    rows = np.eye(skeleton.num_joints)
    sides = [("left" in name) - ("right" in name) for name in skeleton.joint_names]
    return [
        _Part(rows[parent], rows[joint], (0.04, 0.04), sides[joint])
        for joint, parent in enumerate(skeleton.parents)
        if parent >= 0
    ]


def render_frames(
    motion: Motion,
    *,
    size: int = 256,
    camera: Camera | Framing = "follow",
    azimuth_deg: float = 35.0,
    frames: Sequence[int] | None = None,
    look: Look | None = None,
    samples: int = 2,
    backend: Backend = "numpy",
) -> Iterator[Picture]:
    """Pictures (size, size, 3) uint8 of all frames, or of the frames of some indices, in the order given.

    `azimuth_deg` is where the camera of a framing stands: 0 sees the front of frame 0, 90 its left side. `samples`
    squared rays are cast in every pixel. The backend "gl" needs moderngl, "auto" takes it where a context opens; only
    "numpy" gives the same bytes on every machine. Raises ConfigError for settings that give no picture.
    """
    if not 16 <= size <= 4096:
        raise ConfigError(f"size={size} pixels is outside 16 to 4096")
    if not 1 <= samples <= 8:
        raise ConfigError(f"samples={samples} rays along the side of a pixel is outside 1 to 8")
    if backend not in get_args(Backend):
        raise ConfigError(f"backend {backend!r} is unknown; use one of {', '.join(get_args(Backend))}")
    frames = range(len(motion)) if frames is None else frames
    for frame in frames:
        if not 0 <= frame < len(motion):
            raise ConfigError(f"frame {frame} is not one of the {len(motion)} frames of this motion")
    cameras = cameras_for(motion, camera, azimuth_deg=azimuth_deg)
    if backend != "numpy":
        from kinalign.render import gl  # a small twin of this file, which it builds on

        context = gl.open_context(required=backend == "gl")
        if context is not None:
            return gl.render(context, motion, cameras, frames, size=size, look=look or Look(), samples=samples)
    return _frames(motion, cameras, frames, size=size, look=look or Look(), samples=samples)


def render_frame(
    motion: Motion,
    frame: int = 0,
    *,
    size: int = 256,
    camera: Camera | Framing = "follow",
    azimuth_deg: float = 35.0,
    look: Look | None = None,
    samples: int = 3,
) -> Picture:
    """The picture (size, size, 3) uint8 of one frame, as `render_frames` draws it among the others."""
    pictures = render_frames(
        motion, size=size, camera=camera, azimuth_deg=azimuth_deg, frames=[frame], look=look, samples=samples
    )
    return next(pictures)


def _frames(
    motion: Motion, cameras: list[Camera], frames: Sequence[int], *, size: int, look: Look, samples: int
) -> Iterator[Picture]:
    body = Body.of(motion)
    joints = motion.joints.astype(np.float64)
    for frame in frames:
        camera, pose = cameras[frame], joints[frame]
        ends = body.weights @ pose  # (2, P, 3)
        right, left = (pose[joint] for joint in body.shoulders)
        picture = _empty_scene(size, look)
        ground = _Ground.seen_by(camera, size)
        if ground is not None:
            fade = _draw_ground(picture, ground, camera, look)
            _draw_trail(picture, ground, camera, joints[: frame + 1, 0], motion.fps, fade, look)
            _draw_shadow(picture, ground, camera, ends[:, body.casts_shadow], body.radii_m[:, body.casts_shadow], look)
        _draw_body(picture, camera, body, ends, left - right, look=look, samples=samples)
        yield np.ascontiguousarray((picture + np.float32(0.5)).astype(np.uint8).transpose(1, 2, 0))


def _empty_scene(size: int, look: Look) -> Floats:
    """A picture (3, H, W) of the background, 0 to 255."""
    picture = np.empty((3, size, size), np.float32)
    picture[:] = _displayed(look.background)[:, None, None]
    return picture


# --- the ground: a grid that fades, and the shadow on it ------------------------------------------------------------

GRID_M = 0.5
LINE_M = 0.012
TRAIL_S = 6.0
SHADOW, TOUCH = 0.30, 0.22
LOW_M = 0.35
"""Parts lower than this darken the ground under them."""


class _Ground(NamedTuple):
    """Where the rays through the pixels of `rows` meet the ground, in the world. x and z are (rows, W) metres."""

    rows: slice
    x: Floats
    z: Floats
    width_x: Floats  # (rows, 1) metres that a pixel covers along x
    width_z: Floats

    @staticmethod
    def seen_by(camera: Camera, size: int) -> _Ground | None:
        """None where no ray meets the ground, or only from below."""
        right, up, forward = camera.axes
        position = camera.position
        height = position[1] + SOLE_M
        across = camera.slope * _pixel_centres(size)
        falling = -(forward[1] - across * up[1])  # (H,) metres down per metre of depth
        first = int(np.searchsorted(falling, 1e-3))
        if height <= 0 or first == size:
            return None
        depth = height / falling[first:]
        heights = -across[first:]

        def plane(axis: int) -> tuple[Floats, Floats]:
            ahead = heights * up[axis] + forward[axis]
            where = depth[:, None] * right[axis] * across + (position[axis] + depth * ahead)[:, None]
            # one pixel to the right, one pixel down
            step = camera.slope * 2 / size * depth
            width = np.abs(step * right[axis]) + np.abs(
                step * depth / height * (up[1] * forward[axis] - forward[1] * up[axis])
            )
            return where.astype(np.float32), width[:, None].astype(np.float32)

        (x, width_x), (z, width_z) = plane(0), plane(2)
        return _Ground(slice(first, size), x, z, width_x, width_z)


@lru_cache(maxsize=8)
def _pixel_centres(size: int) -> Array:
    return (np.arange(size) + 0.5) * (2 / size) - 1


def _draw_ground(picture: Floats, ground: _Ground, camera: Camera, look: Look) -> Floats:
    """Draw the grid; the result (rows, W) is 1 under the camera's target and 0 where the ground has faded away."""
    reach = 0.8 * camera.distance_m
    away = (ground.x - np.float32(camera.target[0])) ** 2
    away += (ground.z - np.float32(camera.target[2])) ** 2
    fade = np.maximum(1 - away * np.float32(1 / reach**2), 0)
    fade *= fade
    lines = np.maximum(_grid_lines(ground.x, ground.width_x), _grid_lines(ground.z, ground.width_z))
    lines *= fade
    bare = fade - lines
    for plane, background, floor, line in zip(picture, *map(_displayed, (look.background, look.ground, look.line))):
        plane[ground.rows] += bare * (floor - background) + lines * (line - background)
    return fade


def _grid_lines(where: Floats, pixel_m: Floats) -> Floats:
    """How much of each pixel a line covers, for lines at multiples of GRID_M and pixels of a width in metres."""
    offset = where * np.float32(1 / GRID_M)
    offset -= np.rint(offset)
    np.abs(offset, out=offset)
    offset *= -GRID_M
    offset += (pixel_m + LINE_M) / 2
    offset *= 1 / pixel_m
    return np.clip(offset, 0, np.minimum(LINE_M / pixel_m, 1), out=offset)


def _draw_trail(
    picture: Floats, ground: _Ground, camera: Camera, path: Array, fps: float, fade: Floats, look: Look
) -> None:
    """A thread on the ground under the root's last TRAIL_S seconds, (T, 3): a still shows how far the body came."""
    knots = trail_knots(path, fps)
    ends = np.stack((knots[:-1], knots[1:]))
    width = np.full(ends.shape[:2], trail_width_m(camera, picture.shape[1]))
    thread = _occlusion(ground, camera, ends, width, np.array([0.0, 1.0, 0.0]), width)
    thread *= fade
    for plane, color in zip(picture, _displayed(look.trail)):
        plane[ground.rows] += thread * (color - plane[ground.rows])


def trail_knots(path: Array, fps: float) -> Array:
    """Points (S, 3) on the ground that a thread under a root's path (T, 3) goes through, the newest last."""
    step = max(1, round(fps / 4))
    last = len(path) - 1
    first = max(0, last - round(TRAIL_S * fps))
    # at whole quarters of a second, so that they stay where they are from frame to frame
    return path[sorted({*range(-(-first // step) * step, last, step), last})] * [1, 0, 1] - [0, SOLE_M, 0]


def trail_width_m(camera: Camera, size: int) -> float:
    """Half the width of the thread: never under two pixels, which would leave a dotted line."""
    return max(0.009, 4 * camera.slope * camera.distance_m / size)


def _draw_shadow(picture: Floats, ground: _Ground, camera: Camera, ends: Array, radii_m: Array, look: Look) -> None:
    """Darken the ground where the body keeps the key light off, softer with height, and where it nearly touches."""
    light = light_direction(camera, look)
    above = (ends[..., 1] + SOLE_M).max(axis=0) > 0
    ends, radii_m = ends[:, above], radii_m[:, above]
    heights = np.maximum(ends[..., 1] + SOLE_M, 0)
    dark = _occlusion(ground, camera, ends, radii_m, light, 0.012 + 0.10 * heights)
    low = heights.min(axis=0) < LOW_M
    touch = _occlusion(ground, camera, ends[:, low], radii_m[:, low], np.array([0.0, 1.0, 0.0]), 0.05 + heights[:, low])
    dark *= SHADOW
    touch *= TOUCH
    picture[:, ground.rows] *= (1 - dark) * (1 - touch)


def _occlusion(ground: _Ground, camera: Camera, ends: Array, radii_m: Array, light: Array, blur_m: Array) -> Floats:
    """How much of a light in direction `light` the cones keep off the ground: (rows, W) of 0 to 1.

    Seen along the light everything is flat: the distance of a point from a segment, less the radius, over the blur.
    """
    size = ground.x.shape[1]
    dark = np.zeros_like(ground.x)
    # ground coordinates of the shadow of a point: it slides along the light down to the ground
    fallen = ends - light * ((ends[..., 1] + SOLE_M) / light[1])[..., None]
    boxes = _boxes(camera, fallen, (radii_m + blur_m) / light[1], size)
    # two axes across the light; the first lies in the ground
    first = np.array([light[2], 0.0, -light[0]]) if abs(light[1]) < 0.999 else np.array([1.0, 0.0, 0.0])
    first = first / np.linalg.norm(first)
    second = np.cross(light, first)
    start, end = fallen
    for part, (top, bottom, left, right) in enumerate(boxes):
        top, bottom = max(top - ground.rows.start, 0), bottom - ground.rows.start
        if bottom <= top or right <= left:
            continue
        box = np.s_[top:bottom, left:right]
        x, z = ground.x[box] - np.float32(start[part, 0]), ground.z[box] - np.float32(start[part, 2])
        u = x * np.float32(first[0]) + z * np.float32(first[2])
        v = x * np.float32(second[0]) + z * np.float32(second[2])
        along = end[part] - start[part]
        along_u, along_v = along @ first, along @ second
        share = (u * np.float32(along_u) + v * np.float32(along_v)) * np.float32(1 / (along_u**2 + along_v**2 + 1e-9))
        np.clip(share, 0, 1, out=share)
        u -= share * np.float32(along_u)
        v -= share * np.float32(along_v)
        u *= u
        v *= v
        u += v
        distance = np.sqrt(u, out=u)
        radius, blur = radii_m[:, part], blur_m[:, part]
        edge = share * np.float32(radius[1] + blur[1] - radius[0] - blur[0]) + np.float32(radius[0] + blur[0])
        edge -= distance
        edge /= share * np.float32(2 * (blur[1] - blur[0])) + np.float32(2 * blur[0])
        np.clip(edge, 0, 1, out=edge)
        # a wide blur lets light past a thin limb
        thin = np.minimum(radius / blur, 1)
        edge *= edge * (3 - 2 * edge) * (share * np.float32(thin[1] - thin[0]) + np.float32(thin[0]))
        np.maximum(dark[box], edge, out=dark[box])
    return dark


# --- the body -------------------------------------------------------------------------------------------------------


KEY_COLOR, SKY_COLOR, RIM_COLOR = (0.80, 0.76, 0.69), (0.36, 0.38, 0.42), (0.35, 0.38, 0.42)


def _draw_body(
    picture: Floats, camera: Camera, body: Body, ends: Array, across: Array, *, look: Look, samples: int
) -> None:
    """Draw the body over the ground. `across` (3,) points from the right shoulder to the left."""
    size = picture.shape[1] * samples
    ray_x, ray_y, ray_z = _rays(size, camera.slope)
    seen = camera.view(ends)  # (2, P, 3) metres right, up, forward of the camera
    boxes = _boxes(camera, ends, body.radii_m, size)
    visible = [part for part, (top, bottom, left, right) in enumerate(boxes) if bottom > top and right > left]
    if not visible:
        return
    top, left = (min(boxes[part][side] for part in visible) // samples * samples for side in (0, 2))
    bottom, right = (-(-max(boxes[part][side] for part in visible) // samples) * samples for side in (1, 3))
    away = np.full((bottom - top, right - left), np.inf, np.float32)
    nearest = np.full(away.shape, -1, np.int16)
    for part in visible:
        y0, y1, x0, x1 = boxes[part]
        rays = ray_x[y0:y1, x0:x1], ray_y[y0:y1, x0:x1], ray_z[y0:y1, x0:x1]
        with np.errstate(invalid="ignore", divide="ignore"):
            hit = _cast(rays, seen[0, part], seen[1, part], *body.radii_m[:, part].tolist())
        box = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        nearer = hit < away[box]
        np.copyto(away[box], hit, where=nearer)
        np.copyto(nearest[box], np.int16(part), where=nearer)

    frame = np.s_[top:bottom, left:right]
    hits = np.flatnonzero(nearest >= 0)
    parts = nearest.ravel()[hits]
    distance = away.ravel()[hits]
    points = tuple(ray[frame].ravel()[hits] * distance for ray in (ray_x, ray_y, ray_z))
    colors, above = _shade(points, parts, camera, body, seen, across, look)
    coverage = _gather_samples(above, hits, away.shape, samples)
    inside = np.s_[top // samples : bottom // samples, left // samples : right // samples]
    for plane, color in zip(picture, colors):
        color *= above
        plane[inside] *= 1 - coverage
        plane[inside] += _gather_samples(color, hits, away.shape, samples)


def _gather_samples(values: Floats, hits: NDArray[np.intp], shape: tuple[int, ...], samples: int) -> Floats:
    """Means over the samples of each pixel, of `values` (N,) at `hits` and 0 elsewhere."""
    spread = np.zeros(shape[0] * shape[1], np.float32)
    spread[hits] = values
    plane = spread.reshape(shape)
    rows = sum((plane[k::samples] for k in range(1, samples)), plane[::samples])
    return sum((rows[:, k::samples] for k in range(1, samples)), rows[:, ::samples]) * np.float32(1 / samples**2)


@lru_cache(maxsize=4)
def _rays(size: int, slope: float) -> tuple[Floats, Floats, Floats]:
    """Unit directions through the samples of a picture, as (size, size) planes: right, up and forward."""
    across = (slope * _pixel_centres(size)).astype(np.float32)
    forward = 1 / np.sqrt(1 + across**2 + (across**2)[:, None])
    return across * forward, -across[:, None] * forward, forward


def _boxes(camera: Camera, ends: Array, radii_m: Array, size: int) -> list[tuple[int, int, int, int]]:
    """For each part the rows and columns (top, bottom, left, right) outside of which no ray meets it.

    A part that reaches behind the camera has none.
    """
    seen = camera.view(ends)
    depth = seen[..., 2]
    in_front = (depth > radii_m + 0.05).all(axis=0)
    spans = []
    for axis in (1, 0):
        # the two planes through the camera that touch the ball
        direction = np.arctan2(seen[..., axis], np.maximum(depth, 1e-3))
        reach = np.hypot(seen[..., axis], depth)
        opening = np.arcsin(np.minimum(radii_m / np.maximum(reach, 1e-6), 1))
        low = np.tan(np.maximum(direction - opening, -1.5)).min(axis=0) / camera.slope
        high = np.tan(np.minimum(direction + opening, 1.5)).max(axis=0) / camera.slope
        if axis == 1:
            low, high = -high, -low
        first = np.clip(np.floor((low + 1) / 2 * size), 0, size)
        last = np.clip(np.ceil((high + 1) / 2 * size), 0, size)
        spans += [np.where(in_front, first, 0), np.where(in_front, last, 0)]
    return [(top, bottom, left, right) for top, bottom, left, right in np.stack(spans, axis=-1).astype(int).tolist()]


def _cast(rays: tuple[Floats, Floats, Floats], start: Array, end: Array, r0: float, r1: float) -> Floats:
    """Distances at which unit rays from the origin enter a round cone, infinity where they miss.

    The cone touches the balls (start, r0) and (end, r1). With a axis and o = -start: a point o + t d of the ray lies on
    the cone where k2 t^2 + 2 k1 t + k0 = 0, and is a part of the body where its foot on the axis, shifted by the
    taper, is between the ends; else one of the balls is hit. Same quadratic as in Quilez, "Round Cone - intersection".
    """
    axis = end - start
    x, y, z = rays
    toward = x * np.float32(start[0]) + y * np.float32(start[1]) + z * np.float32(start[2])  # d . start
    squared, taper = float(axis @ axis), r0 - r1
    slant = squared - taper**2
    first = _enter_ball(toward, float(start @ start) - r0**2)
    if slant <= 1e-8:  # one ball holds the other
        return first if r0 >= r1 else _enter_ball(_along(rays, end), float(end @ end) - r1**2)
    ahead = x * np.float32(axis[0]) + y * np.float32(axis[1]) + z * np.float32(axis[2])  # d . axis
    offset = -float(axis @ start)
    k2 = slant - ahead * ahead
    k1 = ahead * np.float32(taper * r0 - offset) - toward * np.float32(slant)
    k0 = slant * float(start @ start) - offset**2 + 2 * offset * taper * r0 - squared * r0**2
    root = k1 * k1
    root -= k2 * np.float32(k0)
    missed = root < 0
    np.sqrt(np.maximum(root, 0, out=root), out=root)
    root += k1
    side = np.divide(-root, k2, out=root)
    foot = ahead * side
    foot += np.float32(offset - taper * r0)
    second = _enter_ball(toward + ahead, float(end @ end) - r1**2)
    balls = np.minimum(first, second, out=first)
    on_side = (foot > 0) & (foot < np.float32(slant)) & ~missed
    return np.where(on_side, side, balls)


def _along(rays: tuple[Floats, Floats, Floats], point: Array) -> Floats:
    return rays[0] * np.float32(point[0]) + rays[1] * np.float32(point[1]) + rays[2] * np.float32(point[2])


def _enter_ball(toward: Floats, power: float) -> Floats:
    """Where rays enter a ball, from d . centre and |centre|^2 - radius^2."""
    root = toward * toward
    root -= np.float32(power)
    np.sqrt(root, out=root)  # not a number where the ray passes by
    np.subtract(toward, root, out=root)
    np.copyto(root, np.inf, where=np.isnan(root))
    return root


def _shade(
    points: tuple[Floats, ...],
    parts: NDArray[np.int16],
    camera: Camera,
    body: Body,
    seen: Array,
    across: Array,
    look: Look,
) -> tuple[list[Floats], Floats]:
    """Colours, three times (N,) of 0 to 255, of points (N,) on the body, and (N,) 1 where above the ground, else 0.

    Points, `seen` (2, P, 3) and all directions below are in camera axes; `across` (3,) is in the world.
    """
    start, axis = seen[0], seen[1] - seen[0]
    radius, taper = body.radii_m[0], body.radii_m[0] - body.radii_m[1]
    squared = np.einsum("pi,pi->p", axis, axis)
    slant = np.maximum(squared - taper**2, 1e-8)
    # the normal points away from the foot on the axis, shifted by the taper: the centre of the ball that touches there
    foot = _dot(points, _take(axis, parts))
    foot -= _take((np.einsum("pi,pi->p", axis, start) + radius * taper)[:, None], parts)[0]
    foot *= _take((1 / slant)[:, None], parts)[0]
    np.clip(foot, 0, 1, out=foot)
    normal = [p - s - foot * a for p, s, a in zip(points, _take(start, parts), _take(axis, parts))]
    scale = 1 / np.sqrt(_dot(normal, normal))
    for component in normal:
        component *= scale

    axes = camera.axes
    up = axes[:, 1]
    height = _dot_constant(points, up) + np.float32(camera.position[1] + SOLE_M)
    key = np.maximum(_dot_constant(normal, axes @ light_direction(camera, look)) * 0.85 + 0.15, 0)
    sky = _dot_constant(normal, up) * 0.5 + 0.5
    # the ground keeps light off what is low and looks down
    sky *= np.minimum(height * np.float32(1.2) + sky * np.float32(0.5) + np.float32(0.35), 1)
    edge = 1 + normal[2]  # forward points away from the camera: 0 where the surface faces it, 1 at the outline
    np.clip(edge, 0, 1, out=edge)
    back = axes @ direction(camera.azimuth_deg + look.light_azimuth_deg + 180, 35)
    rim = edge * edge * np.maximum(_dot_constant(normal, back) + np.float32(0.2), 0)
    half = axes @ light_direction(camera, look) - np.array([0.0, 0.0, 1.0])
    gloss = np.maximum(_dot_constant(normal, half / np.linalg.norm(half)), 0)
    for _ in range(4):
        gloss *= gloss
    gloss *= np.float32(18)

    paint = _take(body.albedo(look), parts)
    if body.head is not None:
        _paint_visor(paint, points, parts == body.head, seen[:, body.head], axes @ across, look)
    colors = []
    for plane, sun, shade, glow in zip(paint, KEY_COLOR, SKY_COLOR, RIM_COLOR):
        plane *= key * np.float32(sun) + sky * np.float32(shade) + rim * np.float32(glow)
        np.sqrt(plane, out=plane)
        plane *= 255
        plane += gloss
        colors.append(np.minimum(plane, 255, out=plane))
    return colors, (height > 0).astype(np.float32)


def _paint_visor(
    paint: list[Floats], points: tuple[Floats, ...], is_head: NDArray[np.bool_], head: Array, across: Array, look: Look
) -> None:
    """Give the head a dark band where the eyes are, so that a still says which way the figure looks.

    `head` (2, 3) are the ends of its cone and `across` (3,) points to the left shoulder, both in camera axes.
    """
    crown = (head[1] - head[0]) / (np.linalg.norm(head[1] - head[0]) + 1e-9)
    # camera axes are left-handed (the third is forward, not backward), so this product goes the other way round
    face = np.cross(crown, across)
    face /= np.linalg.norm(face) + 1e-9
    on_head = np.flatnonzero(is_head)
    local = [component[on_head] - np.float32(middle) for component, middle in zip(points, head.mean(axis=0))]
    front, height = _dot_constant(local, face), _dot_constant(local, crown)  # metres
    band = np.minimum(front - np.float32(0.025), np.float32(0.032) - np.abs(height - np.float32(0.012)))
    band *= 160
    np.clip(band, 0, 1, out=band)
    for plane, dark in zip(paint, look.visor):
        skin = plane[on_head]
        plane[on_head] = skin + band * (np.float32(dark**2) - skin)


def _take(table: Array, parts: NDArray[np.int16]) -> list[Floats]:
    """The columns of a table (P, C), each as (N,)."""
    return [column.take(parts) for column in table.T.astype(np.float32)]


def _dot(a: tuple[Floats, ...] | list[Floats], b: tuple[Floats, ...] | list[Floats]) -> Floats:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _dot_constant(a: tuple[Floats, ...] | list[Floats], b: Array) -> Floats:
    return a[0] * np.float32(b[0]) + a[1] * np.float32(b[1]) + a[2] * np.float32(b[2])


def _displayed(color: Rgb) -> Floats:
    return np.array(color, np.float32) * 255


def light_direction(camera: Camera, look: Look) -> Array:
    """(3,) unit vector to the key light, which stands still as long as the camera keeps its azimuth."""
    return direction(camera.azimuth_deg + look.light_azimuth_deg, look.light_elevation_deg)


def direction(azimuth_deg: float, elevation_deg: float) -> Array:
    azimuth, elevation = np.radians((azimuth_deg, elevation_deg))
    return np.array((np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)))
