"""The GLB is read back by a few lines written from the glTF 2.0 specification, and by trimesh."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from kinalign.data.openmocap import SOURCES
from kinalign.data.records import Clip
from kinalign.motion.formats.glb import write_glb
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D, KIT
from kinalign.motion.synthetic import jumping, walking, waving

COMPONENTS = {5121: np.dtype("u1"), 5123: np.dtype("<u2"), 5126: np.dtype("<f4")}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Glb:
    """A GLB 2.0 container, its accessors and its node transforms at a key frame."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        json_length, json_type = struct.unpack_from("<I4s", data, 12)
        assert json_type == b"JSON" and json_length % 4 == 0
        self.json: dict[str, Any] = json.loads(data[20 : 20 + json_length])
        bin_length, bin_type = struct.unpack_from("<I4s", data, 20 + json_length)
        assert bin_type == b"BIN\0" and bin_length % 4 == 0
        self.binary = data[28 + json_length :]
        assert len(self.binary) == bin_length

    def accessor(self, index: int) -> np.ndarray:
        accessor = self.json["accessors"][index]
        view = self.json["bufferViews"][accessor["bufferView"]]
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        dtype, width = COMPONENTS[accessor["componentType"]], WIDTHS[accessor["type"]]
        assert start % dtype.itemsize == 0
        assert accessor["count"] * width * dtype.itemsize <= view["byteLength"]
        values = np.frombuffer(self.binary, dtype, accessor["count"] * width, start)
        return values.reshape(accessor["count"], width)

    def times(self) -> np.ndarray:
        animation = self.json["animations"][0]
        return self.accessor(animation["samplers"][0]["input"])[:, 0]

    def node_matrices(self, key: int) -> dict[int, np.ndarray]:
        """Global 4 x 4 transforms of the nodes at a key of the animation: parent's times T R."""
        nodes = self.json["nodes"]
        moves = [{"translation": (0, 0, 0), "rotation": (0, 0, 0, 1), **node} for node in nodes]
        animation = self.json["animations"][0]
        for channel in animation["channels"]:
            output = self.accessor(animation["samplers"][channel["sampler"]]["output"])
            target = channel["target"]
            moves[target["node"]] = {**moves[target["node"]], target["path"]: output[key]}
        matrices: dict[int, np.ndarray] = {}

        def visit(node: int, parent: np.ndarray) -> None:
            x, y, z, w = np.asarray(moves[node]["rotation"], dtype=float)
            matrix = np.eye(4)
            matrix[:3, :3] = [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
            matrix[:3, 3] = moves[node]["translation"]
            matrices[node] = parent @ matrix
            for child in nodes[node].get("children", ()):
                visit(child, matrices[node])

        for root in self.json["scenes"][self.json["scene"]]["nodes"]:
            visit(root, np.eye(4))
        return matrices

    def joints(self, names: tuple[str, ...]) -> np.ndarray:
        index = {node["name"]: number for number, node in enumerate(self.json["nodes"])}
        frames = [self.node_matrices(key) for key in range(len(self.times()))]
        return np.array([[frame[index[name]][:3, 3] for name in names] for frame in frames])

    def body(self, key: int) -> tuple[np.ndarray, np.ndarray]:
        """Skinned vertices (V, 3) and triangles (F, 3) at a key: sum of weight x joint x inverse bind."""
        primitive, skin = self.json["meshes"][0]["primitives"][0], self.json["skins"][0]
        attributes = primitive["attributes"]
        points = self.accessor(attributes["POSITION"])
        weights = self.accessor(attributes["WEIGHTS_0"]) / 255.0
        np.testing.assert_allclose(weights.sum(axis=1), 1)
        binds = self.accessor(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        frame = self.node_matrices(key)
        matrices = np.array([frame[joint] @ bind for joint, bind in zip(skin["joints"], binds)])
        blended = np.einsum("vk,vkij->vij", weights, matrices[self.accessor(attributes["JOINTS_0"])])
        homogeneous = np.concatenate((points, np.ones((len(points), 1))), axis=1)
        skinned = np.einsum("vij,vj->vi", blended, homogeneous)[:, :3]
        return skinned, self.accessor(primitive["indices"]).reshape(-1, 3)


def written(motion: Motion, folder: Path) -> Glb:
    write_glb(motion, folder / "a.glb")
    return Glb(folder / "a.glb")


def noisy_walk() -> Motion:
    walk = walking(40)
    return Motion(walk.joints + np.random.default_rng(0).normal(size=walk.joints.shape) * 0.01)


@pytest.mark.parametrize("motion", [walking(40), waving(40), jumping(1, fps=30), noisy_walk(), walking(1)])
def test_every_joint_is_within_a_millimetre(tmp_path: Path, motion: Motion) -> None:
    glb = written(motion, tmp_path)
    assert np.linalg.norm(glb.joints(HUMANML3D.joint_names) - motion.joints, axis=-1).max() < 0.001
    np.testing.assert_allclose(glb.times(), np.arange(len(motion)) / motion.fps, atol=1e-6)


def test_real_clips_are_within_a_millimetre(tmp_path: Path, openmocap: Callable[[str], list[Clip]]) -> None:
    for source in SOURCES:
        clip = next(clip for clip in openmocap("test") if clip.source == source)
        motion = clip.motion[:100]
        glb = written(motion, tmp_path)
        assert np.linalg.norm(glb.joints(HUMANML3D.joint_names) - motion.joints, axis=-1).max() < 0.001, clip.id


def test_trimesh_finds_the_first_frame_in_the_scene(tmp_path: Path) -> None:
    motion = waving(20)
    write_glb(motion, tmp_path / "a.glb")
    graph = trimesh.load(tmp_path / "a.glb").graph
    places = np.array([graph.get(name)[0][:3, 3] for name in HUMANML3D.joint_names])
    assert np.linalg.norm(places - motion.joints[0], axis=-1).max() < 0.001


def test_the_body_surrounds_the_joints_in_every_frame(tmp_path: Path) -> None:
    motion = jumping(1)
    glb = written(motion, tmp_path)
    for key in (0, 8, len(motion) - 1):
        points, _ = glb.body(key)
        low, high = points.min(axis=0), points.max(axis=0)
        assert (low < motion.joints[key].min(axis=0)).all()
        assert (high > motion.joints[key].max(axis=0)).all()
        assert (high - low).max() < 2.2
        # every joint has skin nearby
        distance = np.linalg.norm(points[:, None] - motion.joints[key][None], axis=-1).min(axis=0)
        assert distance.max() < 0.16


def test_triangles_look_outwards(tmp_path: Path) -> None:
    glb = written(walking(3), tmp_path)
    points, triangles = glb.body(0)
    mesh = trimesh.Trimesh(points, triangles, process=True)
    assert all(part.volume > 0 for part in mesh.split(only_watertight=False))


def test_normals_have_length_one_and_bounds_are_true(tmp_path: Path) -> None:
    glb = written(walking(10), tmp_path)
    attributes = glb.json["meshes"][0]["primitives"][0]["attributes"]
    np.testing.assert_allclose(np.linalg.norm(glb.accessor(attributes["NORMAL"]), axis=1), 1, atol=1e-5)
    for index in (attributes["POSITION"], glb.json["animations"][0]["samplers"][0]["input"]):
        values, accessor = glb.accessor(index), glb.json["accessors"][index]
        np.testing.assert_allclose(accessor["min"], values.min(axis=0))
        np.testing.assert_allclose(accessor["max"], values.max(axis=0))


def test_quaternions_are_rotations_and_take_the_short_way(tmp_path: Path) -> None:
    glb = written(jumping(2), tmp_path)
    animation = glb.json["animations"][0]
    tracks = [c for c in animation["channels"] if c["target"]["path"] == "rotation"]
    assert len(tracks) > 10
    for channel in tracks:
        q = glb.accessor(animation["samplers"][channel["sampler"]]["output"])
        np.testing.assert_allclose(np.linalg.norm(q, axis=1), 1, atol=1e-5)
        assert (q[1:] * q[:-1]).sum(axis=1).min() > 0


def test_ten_seconds_are_under_300_kb_even_when_every_bone_stretches(tmp_path: Path) -> None:
    walk = walking(200)
    noisy = Motion(walk.joints + np.random.default_rng(0).normal(size=walk.joints.shape) * 0.01)
    for motion in (walk, noisy):
        write_glb(motion, tmp_path / "a.glb")
        assert (tmp_path / "a.glb").stat().st_size < 300_000


def test_the_caption_names_the_animation(tmp_path: Path) -> None:
    glb = written(waving(10, side="left"), tmp_path)
    assert glb.json["animations"][0]["name"] == "a person waves with the left hand"
    assert glb.json["asset"]["version"] == "2.0"


def test_kit_s_skeleton_is_written_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    motion = Motion(rng.normal(size=(3, 21, 3)), skeleton=KIT)
    glb = written(motion, tmp_path)
    assert np.linalg.norm(glb.joints(KIT.joint_names) - motion.joints, axis=-1).max() < 0.001
