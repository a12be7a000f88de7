"""GLB out: one file with the skeleton, a body of capsules that moves with it, and the animation.

The body is skinned rigidly, one joint per vertex, so that three.js, Blender, Babylon and game engines play it without
extensions. Units and axes are those of a motion and of glTF: metres, y up, facing +z. Reading GLB is left out: a file
from elsewhere can mean anything by its nodes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pygltflib as gltf
from numpy.typing import ArrayLike, NDArray

from kinalign.motion.formats.bvh import TOLERANCE_M
from kinalign.motion.kinematics import Articulation, positions_to_rotations, t_pose, world_transforms
from kinalign.motion.motion import Motion
from kinalign.motion.rotations import normalize
from kinalign.motion.skeleton import Skeleton
from kinalign.run import write_atomically

Array = NDArray[np.floating]

_COLOR = (0.36, 0.52, 0.72, 1.0)
_NUM_SEGMENTS = 12
# latitudes of the rings of a capsule, in degrees: half a sphere at either end
_CAP_DEG = (-90, -60, -30, 0)

# Half widths of a body 1.7 m tall, in metres: where a bone starts and where it ends, by the joint at its end. The trunk
# is flat: its depth is a share of its width.
_RADII = {
    "hip": (0.095, 0.085),
    "spine1": (0.135, 0.125),
    "spine2": (0.125, 0.135),
    "spine3": (0.135, 0.145),
    "neck": (0.10, 0.05),
    "collar": (0.10, 0.075),
    "head": (0.05, 0.05),
    "knee": (0.085, 0.055),
    "ankle": (0.055, 0.038),
    "heel": (0.035, 0.03),
    "foot": (0.042, 0.034),
    "shoulder": (0.075, 0.058),
    "elbow": (0.055, 0.04),
    "wrist": (0.04, 0.03),
}
_DEPTH = {"hip": 0.9, "spine1": 0.72, "spine2": 0.72, "spine3": 0.72, "neck": 0.8, "collar": 0.75}
_STATURE_LEG_M = 0.84
"""Length of thigh and shin of the body that the radii are for."""


class _Mesh(NamedTuple):
    positions: Array  # (V, 3) metres, in the rest pose
    normals: Array  # (V, 3)
    joints: NDArray[np.integer]  # (V,) the joint that carries the vertex
    triangles: NDArray[np.integer]  # (F, 3)


def write_glb(motion: Motion, path: str | Path) -> None:
    """Write a motion as an animated body: joint nodes with rotations, the root's path, and a skinned capsule mesh.

    Every joint node is within 0.9 mm of the motion: a joint that rotations alone would put further off is moved too.
    """
    body = positions_to_rotations(motion.joints, t_pose(motion.skeleton), stretch_tolerance_m=TOLERANCE_M)
    data = _document(motion, body, _body_mesh(body.skeleton))
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


def _document(motion: Motion, body: Articulation, mesh: _Mesh) -> bytes:
    file = _File()
    skeleton = body.skeleton
    num_joints = skeleton.num_joints
    xyzw = body.rotations[..., [1, 2, 3, 0]].astype(np.float32)
    translations = body.translations.astype(np.float32)

    file.document.nodes = [
        gltf.Node(
            name=name,
            translation=translations[0, joint].tolist(),
            rotation=xyzw[0, joint].tolist(),
            children=list(skeleton.children[joint]) or None,
        )
        for joint, name in enumerate(skeleton.joint_names)
    ]
    rest = world_transforms(np.tile((1.0, 0.0, 0.0, 0.0), (1, num_joints, 1)), skeleton.offsets, skeleton.parents)
    inverse_binds = np.tile(np.eye(4, dtype=np.float32), (num_joints, 1, 1))
    inverse_binds[:, 3, :3] = -rest.positions[0]  # glTF stores matrices by columns
    file.document.skins = [
        gltf.Skin(joints=list(range(num_joints)), skeleton=0, inverseBindMatrices=file.add(inverse_binds, gltf.MAT4))
    ]

    carriers = np.zeros((len(mesh.joints), 4), dtype=np.uint8)
    carriers[:, 0] = mesh.joints
    weights = np.zeros_like(carriers)
    weights[:, 0] = 255
    attributes = gltf.Attributes(
        POSITION=file.add(mesh.positions.astype(np.float32), gltf.VEC3, target=gltf.ARRAY_BUFFER, bounds=True),
        NORMAL=file.add(mesh.normals.astype(np.float32), gltf.VEC3, target=gltf.ARRAY_BUFFER),
        JOINTS_0=file.add(carriers, gltf.VEC4, target=gltf.ARRAY_BUFFER),
        WEIGHTS_0=file.add(weights, gltf.VEC4, target=gltf.ARRAY_BUFFER, normalized=True),
    )
    indices = file.add(mesh.triangles.astype(np.uint16).ravel(), gltf.SCALAR, target=gltf.ELEMENT_ARRAY_BUFFER)
    file.document.materials = [
        gltf.Material(
            name="body",
            pbrMetallicRoughness=gltf.PbrMetallicRoughness(
                baseColorFactor=list(_COLOR), metallicFactor=0.0, roughnessFactor=0.65
            ),
        )
    ]
    primitive = gltf.Primitive(attributes=attributes, indices=indices, material=0)
    file.document.meshes = [gltf.Mesh(name="body", primitives=[primitive])]
    file.document.nodes.append(gltf.Node(name="body", mesh=0, skin=0))
    file.document.scenes = [gltf.Scene(name="scene", nodes=[0, num_joints])]

    times = file.add((np.arange(len(motion)) / motion.fps).astype(np.float32), gltf.SCALAR, bounds=True)
    animation = gltf.Animation(name=motion.caption or "motion", samplers=[], channels=[])
    for joint in range(num_joints):
        tracks = {"rotation": (xyzw[:, joint], gltf.VEC4), "translation": (translations[:, joint], gltf.VEC3)}
        for target, (values, kind) in tracks.items():
            # what never changes stands in the node already; the root always gets its path
            if joint and not np.ptp(values, axis=0).any():
                continue
            sampler = gltf.AnimationSampler(input=times, output=file.add(values, kind), interpolation="LINEAR")
            animation.samplers.append(sampler)
            animation.channels.append(
                gltf.AnimationChannel(
                    sampler=len(animation.samplers) - 1, target=gltf.AnimationChannelTarget(node=joint, path=target)
                )
            )
    file.document.animations = [animation]
    file.document.asset = gltf.Asset(version="2.0", generator="kinalign", extras={"caption": motion.caption})
    return file.to_bytes()


class _File:
    """A glTF document whose arrays go one after the other into one buffer."""

    def __init__(self) -> None:
        self.document = gltf.GLTF2(scene=0)
        self.blob = bytearray()

    def add(
        self,
        values: NDArray[Any],
        kind: str,
        *,
        target: int | None = None,
        bounds: bool = False,
        normalized: bool = False,
    ) -> int:
        """The index of a new accessor on `values`, with `bounds` where glTF asks for minimum and maximum."""
        component = {"f": gltf.FLOAT, "B": gltf.UNSIGNED_BYTE, "H": gltf.UNSIGNED_SHORT}[values.dtype.char]
        self.document.bufferViews.append(
            gltf.BufferView(buffer=0, byteOffset=len(self.blob), byteLength=values.nbytes, target=target)
        )
        self.blob += np.ascontiguousarray(values).tobytes()
        self.blob += bytes(-len(self.blob) % 4)  # every array starts at a multiple of 4 bytes
        rows = values.reshape(len(values), -1)
        self.document.accessors.append(
            gltf.Accessor(
                bufferView=len(self.document.bufferViews) - 1,
                byteOffset=0,
                componentType=component,
                count=len(values),
                type=kind,
                normalized=normalized,
                min=rows.min(axis=0).tolist() if bounds else None,
                max=rows.max(axis=0).tolist() if bounds else None,
            )
        )
        return len(self.document.accessors) - 1

    def to_bytes(self) -> bytes:
        self.document.buffers = [gltf.Buffer(byteLength=len(self.blob))]
        self.document.set_binary_blob(bytes(self.blob))
        return b"".join(self.document.save_to_bytes())


def _body_mesh(skeleton: Skeleton) -> _Mesh:
    """Capsules along the bones, a head, two hands: about 2,300 vertices in the rest pose."""
    unturned = np.tile((1.0, 0.0, 0.0, 0.0), (1, skeleton.num_joints, 1))
    places = world_transforms(unturned, skeleton.offsets, skeleton.parents).positions[0]
    size = float(sum(skeleton.bone_lengths[joint] for joint in skeleton.leg)) / _STATURE_LEG_M
    parts: list[_Mesh] = []
    for joint, parent in enumerate(skeleton.parents):
        if parent < 0:
            continue
        kind = skeleton.joint_names[joint].removeprefix("left_").removeprefix("right_")
        start, end = places[parent], places[joint]
        radii = np.array(_RADII[kind]) * size
        parts.append(_capsule(start, end, radii, carrier=parent, depth=_DEPTH.get(kind, 1.0)))
        along = normalize(end - start) if np.linalg.norm(end - start) > 1e-9 else np.array([0.0, 1.0, 0.0])
        if kind == "head":
            centre = end + along * 0.06 * size
            skull = np.array([0.085, 0.085]) * size
            parts.append(_capsule(centre - along * 0.02 * size, centre + along * 0.05 * size, skull, carrier=joint))
        elif kind == "wrist":
            hand = np.array([0.036, 0.03]) * size
            parts.append(_capsule(end + along * 0.03 * size, end + along * 0.11 * size, hand, carrier=joint))
    starts = np.cumsum([0, *(len(part.positions) for part in parts[:-1])])
    return _Mesh(
        positions=np.concatenate([part.positions for part in parts]),
        normals=np.concatenate([part.normals for part in parts]),
        joints=np.concatenate([part.joints for part in parts]),
        triangles=np.concatenate([part.triangles + start for part, start in zip(parts, starts)]),
    )


def _capsule(start: Array, end: Array, radii: ArrayLike, *, carrier: int, depth: float = 1.0) -> _Mesh:
    """A capsule from start to end (3,) with two radii, flattened to `depth` of its width along z."""
    axis = end - start
    length = np.linalg.norm(axis)
    axis = axis / length if length > 1e-9 else np.array([0.0, 1.0, 0.0])
    across = normalize(np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))]))
    latitude = np.radians(np.concatenate((_CAP_DEG, -np.array(_CAP_DEG[::-1]))))  # (R,)
    longitude = np.arange(_NUM_SEGMENTS) * (2 * np.pi / _NUM_SEGMENTS)
    round_it = np.cos(longitude)[:, None] * across + np.sin(longitude)[:, None] * np.cross(axis, across)
    normals = np.cos(latitude)[:, None, None] * round_it + np.sin(latitude)[:, None, None] * axis  # (R, S, 3)
    is_end = np.arange(len(latitude)) >= len(_CAP_DEG)
    radius = np.asarray(radii)[is_end.astype(int)]
    squash = np.array([1.0, 1.0, depth])
    positions = np.where(is_end[:, None, None], end, start) + radius[:, None, None] * normals * squash
    ring, segment = np.meshgrid(np.arange(len(latitude) - 1), np.arange(_NUM_SEGMENTS), indexing="ij")
    a = (ring * _NUM_SEGMENTS + segment).ravel()
    b = (ring * _NUM_SEGMENTS + (segment + 1) % _NUM_SEGMENTS).ravel()
    c, d = a + _NUM_SEGMENTS, b + _NUM_SEGMENTS
    # the first and the last ring are points: half of the triangles there would have no area
    triangles = np.concatenate(
        (np.stack((a, b, d), axis=-1)[_NUM_SEGMENTS:], np.stack((a, d, c), axis=-1)[:-_NUM_SEGMENTS])
    )
    return _Mesh(
        positions=positions.reshape(-1, 3),
        normals=normalize(normals / squash).reshape(-1, 3),
        joints=np.full(positions.size // 3, carrier),
        triangles=triangles,
    )
