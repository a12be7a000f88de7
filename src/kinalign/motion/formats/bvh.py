"""BVH files: read any hierarchy, rotation order and channel set; write what Blender and other readers agree on.

Two layers: `parse_bvh` and `Bvh` are the file as it is, in its own units and axes; `read_bvh` and `write_bvh` are
motions. Position channels replace a joint's offset, as in Blender and Maya.

What is particular about files seen in the wild:
- cgspeed's conversion of CMU drops the thorax bone (Neck, LeftShoulder and RightShoulder lie on Spine1). It is put
  back with the length of the bone below it, which it has in the original within a few millimetres. The first frame is
  a T-pose (leave it out: `motion[1:]`), and some trials are 60 fps though the file says 120.
- Bandai-Namco gives every joint six channels and Mixamo puts a prefix before every name: both are read as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinalign.errors import FormatError, MotionError
from kinalign.motion.kinematics import Transforms, continuous, positions_to_rotations, t_pose, world_transforms
from kinalign.motion.motion import Motion
from kinalign.motion.rotations import quaternion_multiply, quaternion_to_matrix
from kinalign.motion.skeleton import HUMANML3D
from kinalign.run import write_text

Array = NDArray[np.floating]
Axis = Literal["x", "y", "z"]
JointMap = Mapping[str, str | Sequence[str]]

ROTATION_ORDERS = tuple("".join(order) for order in permutations("XYZ"))
TOLERANCE_M = 9e-4
"""A joint that a rotation would put further off than this gets position channels too: files keep within 1 mm."""

_CHANNELS = {f"{axis}{kind}".lower(): f"{axis}{kind}" for kind in ("position", "rotation") for axis in "XYZ"}


@dataclass(frozen=True, eq=False)
class Bvh:
    """A BVH file: N joints in file order (parents first, end sites included, without channels), T frames.

    `parents` is -1 at the root; `offsets` (N, 3) and position channels are in the file's unit, rotations in degrees;
    `channels` names the channels of each joint in order; `frames` (T, C) holds their values; `frame_time` is seconds.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Array
    channels: tuple[tuple[str, ...], ...]
    frames: Array
    frame_time: float

    def local_transforms(self) -> Transforms:
        """Positions (T, N, 3) and rotations (T, N, 4) of each joint in its parent's frame."""
        positions = np.repeat(self.offsets[None].astype(float), len(self.frames), axis=0)
        rotations = np.zeros((*positions.shape[:2], 4))
        rotations[..., 0] = 1.0
        column = 0
        for joint, channels in enumerate(self.channels):
            for channel in channels:
                values = self.frames[:, column]
                axis = "XYZ".index(channel[0])
                if channel.endswith("position"):
                    positions[:, joint, axis] = values
                else:
                    turn = _about_axis(np.radians(values), axis)
                    rotations[:, joint] = quaternion_multiply(rotations[:, joint], turn)
                column += 1
        return Transforms(positions, rotations)

    @cached_property
    def world(self) -> Transforms:
        """Positions (T, N, 3) in the file's unit and rotations (T, N, 4) in the world, by forward kinematics."""
        positions, rotations = self.local_transforms()
        return world_transforms(rotations, positions, self.parents)


def parse_bvh(text: str, *, name: str = "BVH text") -> Bvh:
    """The text of a BVH file as it stands. Raises FormatError naming `name` and the line."""
    return _Parser(text, name).parse()


def read_bvh(
    path: str | Path, joint_map: JointMap | None = None, *, scale: float | None = None, up: Axis = "y"
) -> Motion:
    """The motion of a BVH file on HumanML3D's 22 joints, at the file's frame rate.

    `joint_map` gives for each HumanML3D joint the file's joint, or several whose mean it is (a name may stand twice to
    weigh double; the end site below Head is Head_end). None recognises the names of CMU/cgspeed, Mixamo, Bandai-Namco,
    SMPL and of Kinalign. `scale` is metres per unit of the file; None tells millimetres, centimetres, inches, metres
    and CMU's unit apart by the height of the body. `up` is the file's vertical axis. Raises FormatError.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror}") from error
    bvh = parse_bvh(text, name=str(path))
    if joint_map is None:
        joint_map = _recognise(bvh, path)
    bvh = _with_thorax(bvh)
    weights = _joint_weights(bvh, joint_map, path)  # (22, N)
    joints = np.einsum("jn,tnc->tjc", weights, bvh.world.positions)
    joints = _from_up(joints, up) * (_guess_scale(joints, path) if scale is None else scale)
    try:
        return Motion(joints, fps=round(1 / bvh.frame_time, 3), skeleton=HUMANML3D)
    except MotionError as error:
        raise FormatError(f"{path}: {error}") from error


def write_bvh(
    motion: Motion,
    path: str | Path,
    *,
    up: Axis = "y",
    scale: float = 100.0,
    rotation_order: str = "ZYX",
    rigid: bool = False,
) -> None:
    """Write a motion as BVH: a T-pose with mean bone lengths, local rotations, `scale` units per metre (100: cm).

    Bones of mocap and of generated motion vary in length; a joint that would be more than 0.9 mm off gets position
    channels, so that every joint is where the motion has it. `rigid` leaves those out, for tools that take rotations
    only. Raises FormatError for an unknown order or axis or a scale that is not positive.
    """
    if rotation_order not in ROTATION_ORDERS:
        raise FormatError(f"rotation_order={rotation_order!r} is none of {', '.join(ROTATION_ORDERS)}")
    if not (np.isfinite(scale) and scale > 0):
        raise FormatError(f"scale={scale} must be a positive number of units per metre")
    skeleton = motion.skeleton
    body = positions_to_rotations(motion.joints, t_pose(skeleton), stretch_tolerance_m=None if rigid else TOLERANCE_M)
    offsets = _to_up(body.skeleton.offsets, up) * scale
    positions = _to_up(body.translations, up) * scale
    rotations = np.concatenate((body.rotations[..., :1], _to_up(body.rotations[..., 1:], up)), axis=-1)
    degrees = np.degrees(_euler_angles(rotations, rotation_order))  # (T, J, 3) in the order of the channels
    has_position = body.is_stretching | (np.arange(skeleton.num_joints) == 0)

    order: list[int] = []
    lines = ["HIERARCHY"]

    def describe(joint: int, depth: int) -> None:
        order.append(joint)
        indent = "\t" * depth
        places = ["Xposition", "Yposition", "Zposition"] if has_position[joint] else []
        channels = [*places, *(f"{axis}rotation" for axis in rotation_order)]
        lines.extend(
            (
                f"{indent}{'JOINT' if depth else 'ROOT'} {skeleton.joint_names[joint]}",
                f"{indent}{{",
                f"{indent}\tOFFSET {_numbers(offsets[joint])}",
                f"{indent}\tCHANNELS {len(channels)} {' '.join(channels)}",
            )
        )
        for child in skeleton.children[joint]:
            describe(child, depth + 1)
        if not skeleton.children[joint]:
            # the bone goes on in its direction; a third of its length looks like a hand, a toe, a crown
            end = f"{indent}\t\tOFFSET {_numbers(offsets[joint] / 3)}"
            lines.extend((f"{indent}\tEnd Site", f"{indent}\t{{", end, f"{indent}\t}}"))
        lines.append(f"{indent}}}")

    describe(0, 0)
    columns = [
        part[:, joint] for joint in order for part in ((positions, degrees) if has_position[joint] else (degrees,))
    ]
    frames = np.concatenate(columns, axis=1)
    lines += ["MOTION", f"Frames: {len(frames)}", f"Frame Time: {1 / motion.fps:.8f}"]
    lines += [_numbers(frame) for frame in frames]
    text = "\n".join(lines) + "\n"
    write_text(path, text)


def _numbers(values: Array) -> str:
    return " ".join([f"{value:.6f}" for value in values.tolist()])


class _Parser:
    """Reads a BVH text token by token; every complaint names the file and the line."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.lines = text.splitlines()
        self.line = 0  # index of the line that is read next
        self.tokens: list[str] = []
        self.joint_lines: dict[str, int] = {}
        self.names: list[str] = []
        self.parents: list[int] = []
        self.offsets: list[list[float]] = []
        self.channels: list[tuple[str, ...]] = []

    def fail(self, what: str) -> FormatError:
        return FormatError(f"{self.name}, line {max(self.line, 1)}: {what}")

    def next(self) -> str:
        while not self.tokens:
            if self.line >= len(self.lines):
                raise self.fail("the file ends too early; it is cut short, get it anew")
            self.tokens = self.lines[self.line].split()
            self.line += 1
        return self.tokens.pop(0)

    def expect(self, *words: str) -> str:
        token = self.next()
        if token.upper() not in (word.upper() for word in words):
            raise self.fail(f"expected {' or '.join(words)}, found {token!r}")
        return token.upper()

    def number(self) -> float:
        token = self.next()
        try:
            value = float(token)
        except ValueError as error:
            raise self.fail(f"expected a number, found {token!r}") from error
        if not np.isfinite(value):
            raise self.fail(f"{token!r} is not a finite number")
        return value

    def count(self, what: str) -> int:
        value = self.number()
        if value < 0 or value != int(value):
            raise self.fail(f"{what} is {value}; it must be a whole number")
        return int(value)

    def parse(self) -> Bvh:
        self.expect("HIERARCHY")
        self.expect("ROOT")
        self.hierarchy()
        if self.expect("MOTION", "ROOT") == "ROOT":
            raise self.fail("a second ROOT; a motion has one body, write each root to its own file")
        self.expect("Frames:")
        num_frames = self.count("the number of frames")
        self.expect("Frame")
        self.expect("Time:")
        frame_time = self.number()
        if frame_time <= 0:
            raise self.fail(f"the frame time is {frame_time} s; it must be positive")
        if num_frames == 0:
            raise self.fail("the file holds 0 frames; a motion needs at least 1")
        return Bvh(
            names=tuple(self.names),
            parents=tuple(self.parents),
            offsets=np.array(self.offsets),
            channels=tuple(self.channels),
            frames=self.frames(num_frames),
            frame_time=frame_time,
        )

    def hierarchy(self) -> None:
        """The root and all below it; a stack instead of recursion, because a file may nest as deep as it likes."""
        open_joints: list[int] = []
        self.open_joint(self.joint_name(), parent=-1)
        open_joints.append(0)
        while open_joints:
            word = self.expect("JOINT", "End", "}")
            if word == "}":
                open_joints.pop()
                continue
            parent = open_joints[-1]
            if word == "END":
                self.expect("Site")
                self.end_site(parent)
            else:
                self.open_joint(self.joint_name(), parent=parent)
                open_joints.append(len(self.names) - 1)

    def joint_name(self) -> str:
        if not self.tokens:
            raise self.fail("a joint has no name")
        # names with blanks are seen in exports; a brace on the same line is not part of the name
        name = " ".join(self.tokens).removesuffix("{").strip()
        self.tokens = ["{"] if self.tokens[-1].endswith("{") else []
        if name in self.joint_lines:
            first = self.joint_lines[name]
            raise self.fail(f"joint {name!r} stands already in line {first}; rename one of them")
        self.joint_lines[name] = self.line
        return name

    def open_joint(self, name: str, *, parent: int) -> None:
        self.expect("{")
        self.expect("OFFSET")
        offset = [self.number() for _ in range(3)]
        word = self.next()
        if word.upper() != "CHANNELS":
            raise self.fail(f"joint {name!r} has no CHANNELS (found {word!r}); write 'CHANNELS 0' if it never moves")
        num_channels = self.count("the number of channels")
        channels: list[str] = []
        for _ in range(num_channels):
            if not self.tokens:
                raise self.fail(f"joint {name!r} promises {num_channels} channels and names {len(channels)}")
            token = self.next()
            if token.lower() not in _CHANNELS:
                raise self.fail(f"unknown channel {token!r}; known are {', '.join(_CHANNELS.values())}")
            channels.append(_CHANNELS[token.lower()])
        if self.tokens:
            raise self.fail(f"joint {name!r} promises {num_channels} channels and names more: {self.tokens[0]!r}")
        if len(set(channels)) != len(channels):
            raise self.fail(f"joint {name!r} names a channel twice: {' '.join(channels)}")
        self.add(name, parent, offset, tuple(channels))

    def end_site(self, parent: int) -> None:
        self.expect("{")
        self.expect("OFFSET")
        offset = [self.number() for _ in range(3)]
        self.expect("}")
        self.add(f"{self.names[parent]}_end", parent, offset, ())

    def add(self, name: str, parent: int, offset: list[float], channels: tuple[str, ...]) -> None:
        self.names.append(name)
        self.parents.append(parent)
        self.offsets.append(offset)
        self.channels.append(channels)

    def frames(self, num_frames: int) -> Array:
        num_channels = sum(map(len, self.channels))
        rows: list[Array] = []
        while self.line < len(self.lines):
            values = self.lines[self.line].split()
            self.line += 1
            if not values:
                continue
            if len(rows) == num_frames:
                raise self.fail(f"the file says {num_frames} frames and holds more; correct 'Frames:'")
            if len(values) != num_channels:
                cut = "; the file is cut short" if len(rows) + 1 < num_frames and self.line == len(self.lines) else ""
                raise self.fail(f"frame {len(rows)} has {len(values)} values; the channels need {num_channels}{cut}")
            try:
                row = np.array(values, dtype=np.float64)
            except ValueError as error:
                raise self.fail(f"frame {len(rows)} holds what is no number: {error}") from error
            if not np.isfinite(row).all():
                raise self.fail(f"frame {len(rows)} holds NaN or infinity")
            rows.append(row)
        if len(rows) < num_frames:
            raise self.fail(f"the file says {num_frames} frames and holds {len(rows)}; it is cut short, get it anew")
        return np.stack(rows)


def _sides(left: Mapping[str, str | tuple[str, ...]], swap: tuple[str, str]) -> dict[str, str | tuple[str, ...]]:
    """A table with its left joints repeated for the right; `swap` is how the file says left and right."""

    def right(target: str) -> str:
        return target.replace(*swap)

    both = dict(left)
    for joint, target in left.items():
        if joint.startswith("left_"):
            mirrored = right(target) if isinstance(target, str) else tuple(map(right, target))
            both[joint.replace("left_", "right_")] = mirrored
    return both


_LIMBS = {
    "left_hip": "LeftUpLeg",
    "left_knee": "LeftLeg",
    "left_ankle": "LeftFoot",
    "left_foot": "LeftToeBase",
    "left_shoulder": "LeftArm",
    "left_elbow": "LeftForeArm",
    "left_wrist": "LeftHand",
}
# Several names are a mean. HumanML3D's joints follow SMPL, whose spine has one joint more than most rigs.
JOINT_MAPS: dict[str, dict[str, str | tuple[str, ...]]] = {
    "cmu": _sides(
        {
            "pelvis": "Hips",
            "spine1": "Spine",
            "spine2": "Spine1",
            "spine3": ("Spine1", "Neck"),
            "neck": "Head",
            "head": "Head_end",
            "left_collar": ("Neck", "Neck", "Neck", "LeftArm", "LeftArm"),  # two fifths of the clavicle
            **_LIMBS,
        },
        ("Left", "Right"),
    ),
    "mixamo": _sides(
        {
            "pelvis": "Hips",
            "spine1": "Spine",
            "spine2": "Spine1",
            "spine3": "Spine2",
            "neck": "Neck",
            "head": "Head",
            "left_collar": "LeftShoulder",
            **_LIMBS,
        },
        ("Left", "Right"),
    ),
    "bandai-namco": _sides(
        {
            "pelvis": "Hips",
            "spine1": "Spine",
            "spine2": "Chest",
            "spine3": ("Chest", "Chest", "Neck"),
            "neck": "Neck",
            "head": "Head",
            "left_collar": "Shoulder_L",
            "left_shoulder": "UpperArm_L",
            "left_elbow": "LowerArm_L",
            "left_wrist": "Hand_L",
            "left_hip": "UpperLeg_L",
            "left_knee": "LowerLeg_L",
            "left_ankle": "Foot_L",
            "left_foot": "Toes_L",
        },
        ("_L", "_R"),
    ),
    "smpl": {name: name.replace("left_", "L_").replace("right_", "R_").title() for name in HUMANML3D.joint_names},
    "humanml3d": {name: name for name in HUMANML3D.joint_names},
}
# "mixamorig:Hips", "m_avg_Pelvis", "Character1_Hips"
_PREFIX = re.compile(r"^(?:.*:|[mf]_avg_|mixamorig\d*_?|Character\d+_)", re.IGNORECASE)


def _plain(name: str) -> str:
    return _PREFIX.sub("", name).lower()


def _recognise(bvh: Bvh, path: Path) -> JointMap:
    """The table whose joints the file has, in the file's spelling; the CMU one first, because Mixamo's has less."""
    spelling = {_plain(name): name for name in bvh.names}
    missing: dict[str, list[str]] = {}
    for convention, table in JOINT_MAPS.items():
        targets = {joint: (target,) if isinstance(target, str) else target for joint, target in table.items()}
        wanted = {name for names in targets.values() for name in names}
        if convention == "cmu":
            wanted.add("LowerBack")  # tells it from Mixamo-like rigs with two spine joints
        missing[convention] = sorted(name for name in wanted if name.lower() not in spelling)
        if not missing[convention]:
            return {joint: [spelling[name.lower()] for name in names] for joint, names in targets.items()}
    nearest = min(missing, key=lambda convention: len(missing[convention]))
    raise FormatError(
        f"{path}: the joints fit no known naming ({', '.join(JOINT_MAPS)}). Nearest is {nearest}, which lacks "
        f"{', '.join(missing[nearest][:8])}. The file has {', '.join(bvh.names[:40])}. Give "
        "joint_map={'pelvis': ..., ...} with a joint, or a list of joints to average, for each HumanML3D joint"
    )


def _with_thorax(bvh: Bvh) -> Bvh:
    """The bone that cgspeed's CMU files lost, put back: Neck and shoulders lie on Spine1 there, with no offset."""
    index = {_plain(name): joint for joint, name in enumerate(bvh.names)}
    tops = [index.get(name, -1) for name in ("neck", "leftshoulder", "rightshoulder")]
    chest = index.get("spine1", -1)
    if "lowerback" not in index or chest < 0 or any(top < 0 or bvh.parents[top] != chest for top in tops):
        return bvh
    if np.abs(bvh.offsets[tops]).max() > 1e-6:
        return bvh
    offsets = bvh.offsets.copy()
    offsets[tops] = offsets[chest]
    return replace(bvh, offsets=offsets)


def _joint_weights(bvh: Bvh, joint_map: JointMap, path: Path) -> Array:
    unknown = sorted(set(joint_map) - set(HUMANML3D.joint_names))
    lacking = [name for name in HUMANML3D.joint_names if name not in joint_map]
    if unknown or lacking:
        raise FormatError(
            f"{path}: joint_map must name each of the 22 HumanML3D joints"
            + (f"; it lacks {', '.join(lacking)}" if lacking else "")
            + (f"; {', '.join(unknown)} are none" if unknown else "")
        )
    weights = np.zeros((HUMANML3D.num_joints, len(bvh.names)))
    for joint, name in enumerate(HUMANML3D.joint_names):
        targets = joint_map[name]
        targets = [targets] if isinstance(targets, str) else list(targets)
        for target in targets:
            if target not in bvh.names:
                raise FormatError(f"{path}: no joint {target!r} (for {name}); the file has {', '.join(bvh.names)}")
            weights[joint, bvh.names.index(target)] += 1 / len(targets)
    return weights


# metres per unit, the likely ones first; CMU's ASF unit is 1 / 0.45 inches
_UNITS_M = (1.0, 0.01, 0.001, 0.0254, 0.0254 / 0.45)
_BODY_M = (0.9, 2.4)


def _guess_scale(joints: Array, path: Path) -> float:
    """Metres per unit, from the length of a leg and the spine together in the first frame."""
    chain = [HUMANML3D.index(name) for name in ("left_ankle", "left_knee", "left_hip", "pelvis")]
    chain += [HUMANML3D.index(name) for name in ("spine1", "spine2", "spine3", "neck", "head")]
    height = float(np.linalg.norm(np.diff(joints[0, chain], axis=0), axis=-1).sum())
    for unit_m in _UNITS_M:
        if _BODY_M[0] <= height * unit_m <= _BODY_M[1]:
            return unit_m
    raise FormatError(
        f"{path}: a body {height:.4g} units tall is {_BODY_M[0]} to {_BODY_M[1]} m in no usual unit "
        "(m, cm, mm, inch, CMU); say scale=metres per unit"
    )


def _to_up(vectors: Array, up: Axis) -> Array:
    """Vectors (..., 3) of a y-up world in one whose vertical is `up`: the axes go round, so handedness stays."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    if up == "y":
        return vectors
    if up == "z":
        return np.stack((x, -z, y), axis=-1)  # forward +z becomes -y, Blender's front
    if up == "x":
        return np.stack((y, -x, z), axis=-1)
    raise FormatError(f"up={up!r} is no axis; use 'y', 'z' or 'x'")


def _from_up(vectors: Array, up: Axis) -> Array:
    """The inverse of `_to_up`."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    if up == "y":
        return vectors
    if up == "z":
        return np.stack((x, z, -y), axis=-1)
    if up == "x":
        return np.stack((-y, x, z), axis=-1)
    raise FormatError(f"up={up!r} is no axis; use 'y', 'z' or 'x'")


def _about_axis(angles: Array, axis: int) -> Array:
    quaternions = np.zeros((*angles.shape, 4))
    quaternions[..., 0] = np.cos(angles / 2)
    quaternions[..., axis + 1] = np.sin(angles / 2)
    return quaternions


def _euler_angles(rotations: ArrayLike, order: str) -> Array:
    """Angles (T, J, 3) in radians with R = R_first R_second R_third, each frame near the one before.

    Every rotation has two sets of angles, (a, b, c) and (a + pi, pi - b, c + pi); a joint that passes b = 90 degrees
    keeps its set, so that a program that interpolates angles between frames sees no jump.
    """
    i, j, k = ("XYZ".index(axis) for axis in order)
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    m = quaternion_to_matrix(continuous(rotations))
    cosine = np.hypot(m[..., i, i], m[..., i, j])
    second = np.arctan2(sign * m[..., i, k], cosine)
    locked = cosine < 1e-7  # first and third turn about one axis: give it all to the first
    first = np.where(
        locked,
        np.arctan2(sign * m[..., k, j], m[..., j, j]),
        np.arctan2(-sign * m[..., j, k], m[..., k, k]),
    )
    third = np.where(locked, 0.0, np.arctan2(-sign * m[..., i, j], m[..., i, i]))
    one = np.stack((first, second, third), axis=-1)
    other = np.stack((first + np.pi, np.pi - second, third + np.pi), axis=-1)
    angles = one.copy()
    for frame in range(1, len(angles)):
        before = angles[frame - 1]
        near = [before + (new[frame] - before + np.pi) % (2 * np.pi) - np.pi for new in (one, other)]
        distance = [np.abs(new - before).sum(axis=-1) for new in near]
        angles[frame] = np.where((distance[1] < distance[0])[:, None], near[1], near[0])
    return angles
