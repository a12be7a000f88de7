import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from kinalign.data.openmocap import SOURCES
from kinalign.data.records import Clip
from kinalign.errors import FormatError
from kinalign.motion.formats.bvh import JOINT_MAPS, ROTATION_ORDERS, parse_bvh, read_bvh, write_bvh
from kinalign.motion.motion import Motion
from kinalign.motion.skeleton import HUMANML3D
from kinalign.motion.synthetic import jumping, walking, waving

with warnings.catch_warnings():
    # its vector library warns that its own name will change
    warnings.simplefilter("ignore", PendingDeprecationWarning)
    import bvhio

TWO_JOINTS = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Chest
  {
    OFFSET 0 10 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 5 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.05
0 90 0 0 0 0 0 0 0
1 90 2 90 0 0 0 0 0
"""


def read_by_bvhio(path: Path, names: tuple[str, ...], *, num_frames: int, step: int = 1) -> np.ndarray:
    """World positions (frames, joints, 3) in the file's unit, by an independent library."""
    root = bvhio.readAsHierarchy(str(path))
    nodes = {node.Name: node for node, _, _ in root.layout()}
    frames = []
    for frame in range(0, num_frames, step):
        root.loadPose(frame)
        frames.append([list(nodes[name].PositionWorld) for name in names])
    return np.array(frames)


def y_up(points: np.ndarray, up: str) -> np.ndarray:
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack({"y": (x, y, z), "z": (x, z, -y), "x": (-y, x, z)}[up], axis=-1)


def noisy_walk() -> Motion:
    """As generated motion is: every bone varies in length."""
    walk = walking(40)
    return Motion(walk.joints + np.random.default_rng(0).normal(size=walk.joints.shape) * 0.01)


def bvh_of(tree: list[tuple[int, str, tuple[float, float, float]]], frame: str = "") -> str:
    """A one-frame BVH of (depth, name, offset) rows; a row named End is an end site."""
    lines, depth = ["HIERARCHY"], -1
    num_joints = 0
    for level, name, offset in tree:
        lines += ["}"] * (depth - level + 1)
        place = f"OFFSET {offset[0]} {offset[1]} {offset[2]}"
        if name == "End":
            lines += ["End Site", "{", place]
        else:
            channels = "6 Xposition Yposition Zposition" if level == 0 else "3"
            lines += ["JOINT " + name if level else "ROOT " + name, "{", place]
            lines += [f"CHANNELS {channels} Zrotation Yrotation Xrotation"]
            num_joints += 1
        depth = level
    lines += ["}"] * (depth + 1)
    return "\n".join([*lines, "MOTION", "Frames: 1", "Frame Time: 0.05", frame or "0 " * (3 + 3 * num_joints)])


@pytest.mark.parametrize("motion", [walking(40), waving(40), jumping(1), noisy_walk(), walking(1)])
@pytest.mark.parametrize(("order", "up"), [("ZYX", "y"), ("XYZ", "z"), ("YXZ", "x")])
def test_an_independent_library_reads_the_motion_within_a_millimetre(
    tmp_path: Path, motion: Motion, order: str, up: str
) -> None:
    write_bvh(motion, tmp_path / "a.bvh", rotation_order=order, up=up)  # type: ignore[arg-type]
    points = read_by_bvhio(tmp_path / "a.bvh", HUMANML3D.joint_names, num_frames=len(motion))
    assert np.linalg.norm(y_up(points, up) / 100 - motion.joints, axis=-1).max() < 0.001


def test_an_independent_library_reads_real_clips_within_a_millimetre(
    tmp_path: Path, openmocap: Callable[[str], list[Clip]]
) -> None:
    for source in SOURCES:
        clip = next(clip for clip in openmocap("test") if clip.source == source)
        motion = clip.motion[:150]
        write_bvh(motion, tmp_path / "a.bvh")
        points = read_by_bvhio(tmp_path / "a.bvh", HUMANML3D.joint_names, num_frames=len(motion), step=7)
        assert np.linalg.norm(points / 100 - motion.joints[::7], axis=-1).max() < 0.001, clip.id


@pytest.mark.parametrize("order", ROTATION_ORDERS)
@pytest.mark.parametrize(("up", "scale"), [("y", 100.0), ("z", 1.0), ("x", 1000.0)])
def test_a_motion_comes_back_from_its_own_file(tmp_path: Path, order: str, up: str, scale: float) -> None:
    motion = jumping(1, fps=30)
    write_bvh(motion, tmp_path / "a.bvh", rotation_order=order, up=up, scale=scale)  # type: ignore[arg-type]
    back = read_bvh(tmp_path / "a.bvh", up=up)  # type: ignore[arg-type]
    assert back.fps == 30
    np.testing.assert_allclose(back.joints, motion.joints, atol=1e-4)  # six decimals of a degree and of a unit


def test_rigid_files_have_no_position_channels_but_the_root_s(tmp_path: Path) -> None:
    motion = noisy_walk()
    write_bvh(motion, tmp_path / "stretching.bvh")
    write_bvh(motion, tmp_path / "rigid.bvh", rigid=True)
    stretching = (tmp_path / "stretching.bvh").read_text()
    rigid = (tmp_path / "rigid.bvh").read_text()
    assert stretching.count("CHANNELS 6") > 1
    assert rigid.count("CHANNELS 6") == 1
    error = np.linalg.norm(read_bvh(tmp_path / "rigid.bvh").joints - motion.joints, axis=-1)
    assert error.mean() < 0.02


def test_angles_never_jump_between_frames(tmp_path: Path) -> None:
    write_bvh(waving(120), tmp_path / "a.bvh")
    bvh = parse_bvh((tmp_path / "a.bvh").read_text())
    assert np.abs(np.diff(bvh.frames[:, 3:], axis=0)).max() < 45


def test_the_file_as_it_stands() -> None:
    bvh = parse_bvh(TWO_JOINTS)
    assert bvh.names == ("Hips", "Chest", "Chest_end")
    assert bvh.parents == (-1, 0, 1)
    assert bvh.channels[2] == ()
    assert (len(bvh.frames), bvh.frame_time) == (2, 0.05)
    # a quarter turn about z brings the spine from +y to -x
    np.testing.assert_allclose(bvh.world.positions[1], [[1, 90, 2], [-9, 90, 2], [-14, 90, 2]], atol=1e-9)


def test_position_channels_replace_the_offset() -> None:
    text = TWO_JOINTS.replace(
        "CHANNELS 3 Zrotation Xrotation Yrotation\n    End", "CHANNELS 2 Yposition Zrotation\n    End"
    )
    text = text.replace("0 90 0 0 0 0 0 0 0", "0 90 0 0 0 0 12 0").replace("1 90 2 90 0 0 0 0 0", "0 0 0 0 0 0 10 0")
    np.testing.assert_allclose(parse_bvh(text).world.positions[0], [[0, 90, 0], [0, 102, 0], [0, 107, 0]])


@st.composite
def hierarchies(draw: st.DrawFn) -> tuple[str, np.ndarray]:
    """A BVH text with any tree, orders and channels, and the world positions of its joints worked out by scipy."""
    number = st.floats(-50, 50).map(lambda x: round(x, 3))
    num_joints, num_frames = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    parents = [-1] + [draw(st.integers(0, joint - 1)) for joint in range(1, num_joints)]
    offsets = [[draw(number) for _ in range(3)] for _ in range(num_joints)]
    channels, values = [], []
    for _ in range(num_joints):
        order = draw(st.sampled_from(ROTATION_ORDERS))
        names = [f"{axis}rotation" for axis in order[: draw(st.integers(0, 3))]]
        places = [f"{axis}position" for axis in draw(st.permutations("XYZ"))[: draw(st.integers(0, 3))]]
        channels.append(places + names)
        values.append(
            [[draw(number) * (4 if "rot" in name else 1) for name in channels[-1]] for _ in range(num_frames)]
        )
    assume(any(channels))  # a file without channels has no frames

    file_order: list[int] = []
    lines: list[str] = ["HIERARCHY"]

    def describe(joint: int) -> None:
        file_order.append(joint)
        x, y, z = offsets[joint]
        lines.extend([f"{'ROOT' if joint == 0 else 'JOINT'} j{joint}", "{", f"OFFSET {x} {y} {z}"])
        lines.append(f"CHANNELS {len(channels[joint])} {' '.join(channels[joint])}")
        for child in range(num_joints):
            if parents[child] == joint:
                describe(child)
        lines.append("}")

    describe(0)
    lines += ["MOTION", f"Frames: {num_frames}", "Frame Time: 0.01"]
    for frame in range(num_frames):
        row = [str(value) for joint in file_order for value in values[joint][frame]]
        lines.append(" ".join(row))
    positions = np.zeros((num_frames, num_joints, 3))
    for frame in range(num_frames):
        world: dict[int, Rotation] = {}
        for joint in range(num_joints):
            place, turn = np.array(offsets[joint]), Rotation.identity()
            for name, value in zip(channels[joint], values[joint][frame]):
                if name.endswith("position"):
                    place["XYZ".index(name[0])] = value
                else:
                    turn = turn * Rotation.from_euler(name[0], value, degrees=True)
            parent = parents[joint]
            above = world[parent] if parent >= 0 else Rotation.identity()
            positions[frame, joint] = above.apply(place) + (positions[frame, parent] if parent >= 0 else 0)
            world[joint] = above * turn
    return "\n".join(lines), positions[:, file_order]


@settings(max_examples=60, deadline=None)
@given(hierarchies())
def test_any_hierarchy_order_and_channel_set_is_read_as_scipy_works_it_out(case: tuple[str, np.ndarray]) -> None:
    text, expected = case
    np.testing.assert_allclose(parse_bvh(text).world.positions, expected, atol=1e-6)


# Offsets of a body in metres by part, in the tree of each convention.
CMU_TREE = [
    (0, "Hips", (0, 0, 0)), (1, "LHipJoint", (0, 0, 0)), (2, "LeftUpLeg", (1.4, -1.8, 0.8)),
    (3, "LeftLeg", (2.4, -6.7, 0)), (4, "LeftFoot", (2.6, -7.0, 0)), (5, "LeftToeBase", (0.2, -0.4, 2.3)),
    (6, "End", (0, 0, 1.2)), (1, "RHipJoint", (0, 0, 0)), (2, "RightUpLeg", (-1.4, -1.8, 0.8)),
    (3, "RightLeg", (-2.4, -6.7, 0)), (4, "RightFoot", (-2.6, -7.0, 0)), (5, "RightToeBase", (-0.2, -0.4, 2.3)),
    (6, "End", (0, 0, 1.2)), (1, "LowerBack", (0, 0, 0)), (2, "Spine", (0, 2.0, -0.2)), (3, "Spine1", (0, 2.1, 0)),
    (4, "Neck", (0, 0, 0)), (5, "Neck1", (0, 1.7, 0.2)), (6, "Head", (0, 1.8, -0.1)), (7, "End", (0, 1.8, 0)),
    (4, "LeftShoulder", (0, 0, 0)), (5, "LeftArm", (3.4, 1.2, -0.3)), (6, "LeftForeArm", (5.0, 0, 0)),
    (7, "LeftHand", (3.5, 0, 0)), (8, "End", (0.7, 0, 0)), (4, "RightShoulder", (0, 0, 0)),
    (5, "RightArm", (-3.4, 1.2, -0.3)), (6, "RightForeArm", (-5.0, 0, 0)), (7, "RightHand", (-3.5, 0, 0)),
    (8, "End", (-0.7, 0, 0)),
]  # fmt: skip


def test_cmu_files_get_their_thorax_back_and_their_unit_is_known(tmp_path: Path) -> None:
    (tmp_path / "cmu.bvh").write_text(bvh_of(CMU_TREE))
    pose = read_bvh(tmp_path / "cmu.bvh").joints[0]
    unit = 0.0254 / 0.45

    def height(name: str) -> float:
        return float(pose[HUMANML3D.index(name), 1])

    assert height("spine2") == pytest.approx(4.1 * unit, abs=1e-5)
    # the thorax is as long as the bone below it: neck and shoulders stand 2.1 units higher than in the file
    assert height("neck") == pytest.approx((4.1 + 2.1 + 3.5) * unit, abs=1e-5)
    assert height("left_shoulder") == pytest.approx((4.1 + 2.1 + 1.2) * unit, abs=1e-5)
    assert 1.4 < height("head") - height("left_foot") < 1.9


def test_a_cmu_file_that_has_its_thorax_keeps_it(tmp_path: Path) -> None:
    lifted = [
        (depth, name, (0, 2.5, 0) if name in ("Neck", "LeftShoulder", "RightShoulder") else offset)
        for depth, name, offset in CMU_TREE
    ]
    (tmp_path / "cmu.bvh").write_text(bvh_of(lifted))
    pose = read_bvh(tmp_path / "cmu.bvh", scale=1.0).joints[0]
    assert pose[HUMANML3D.index("left_shoulder"), 1] == pytest.approx(4.1 + 2.5 + 1.2, abs=1e-5)


@pytest.mark.parametrize("convention", ["mixamo", "bandai-namco", "smpl", "humanml3d"])
@pytest.mark.parametrize("prefix", ["", "mixamorig:", "Armature:"])
def test_joint_names_are_recognised_with_any_prefix_and_case(tmp_path: Path, convention: str, prefix: str) -> None:
    motion = walking(5)
    write_bvh(motion, tmp_path / "a.bvh")
    text = (tmp_path / "a.bvh").read_text()
    for joint in sorted(HUMANML3D.joint_names, key=len, reverse=True):
        target = JOINT_MAPS[convention][joint]
        name = target if isinstance(target, str) else f"between_{joint}"
        text = text.replace(f" {joint}\n", f" {prefix}{name}\n")
    (tmp_path / "b.bvh").write_text(text)
    back = read_bvh(tmp_path / "b.bvh")
    exact = [j for j, name in enumerate(HUMANML3D.joint_names) if isinstance(JOINT_MAPS[convention][name], str)]
    np.testing.assert_allclose(back.joints[:, exact], motion.joints[:, exact], atol=1e-4)


def test_every_table_names_every_joint() -> None:
    for table in JOINT_MAPS.values():
        assert set(table) == set(HUMANML3D.joint_names)


def test_a_user_s_map_may_average_joints(tmp_path: Path) -> None:
    motion = walking(5)
    write_bvh(motion, tmp_path / "a.bvh")
    joint_map: dict[str, str | list[str]] = {name: name for name in HUMANML3D.joint_names}
    joint_map["spine3"] = ["spine2", "neck", "neck"]
    back = read_bvh(tmp_path / "a.bvh", joint_map)
    middle = motion.joints[:, [HUMANML3D.index("spine2"), HUMANML3D.index("neck")]]
    expected = middle[:, 0] / 3 + middle[:, 1] * 2 / 3
    np.testing.assert_allclose(back.joints[:, HUMANML3D.index("spine3")], expected, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 100.0, 1000.0, 1 / 0.0254])
def test_units_are_told_by_the_height_of_the_body(tmp_path: Path, scale: float) -> None:
    write_bvh(walking(5), tmp_path / "a.bvh", scale=scale)
    np.testing.assert_allclose(read_bvh(tmp_path / "a.bvh").joints, walking(5).joints, atol=1e-4)


def test_a_body_of_no_known_unit_asks_for_the_scale(tmp_path: Path) -> None:
    write_bvh(walking(5), tmp_path / "a.bvh", scale=7.0)
    with pytest.raises(FormatError, match=r"a\.bvh.*scale="):
        read_bvh(tmp_path / "a.bvh")
    np.testing.assert_allclose(read_bvh(tmp_path / "a.bvh", scale=1 / 7).joints, walking(5).joints, atol=1e-4)


def test_names_that_fit_nothing_are_an_error_that_lists_them(tmp_path: Path) -> None:
    (tmp_path / "dog.bvh").write_text(TWO_JOINTS)
    with pytest.raises(FormatError, match=r"dog\.bvh.*no known naming.*lacks.*Hips, Chest.*joint_map"):
        read_bvh(tmp_path / "dog.bvh")
    with pytest.raises(FormatError, match=r"lacks left_hip"):
        read_bvh(tmp_path / "dog.bvh", {"pelvis": "Hips"})
    with pytest.raises(FormatError, match=r"no joint 'Tail'"):
        read_bvh(tmp_path / "dog.bvh", dict.fromkeys(HUMANML3D.joint_names, "Tail"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("1 90 2 90 0 0 0 0 0\n", "", r"2 frames and holds 1; it is cut short"),
        ("1 90 2 90 0 0 0 0 0\n", "1 90 2 90 0", r"line 20.*frame 1 has 5 values; the channels need 9"),
        ("1 90 2 90 0 0 0 0 0\n", "1 90 2 90 0 0 0 0 nan\n", r"line 20.*NaN"),
        ("1 90 2 90 0 0 0 0 0\n", "1 90 2 90 0 0 0 0 x\n", r"line 20.*no number"),
        ("Frames: 2", "Frames: 1", r"says 1 frames and holds more"),
        ("Frames: 2", "Frames: 0", r"0 frames"),
        ("Frames: 2", "Frames: 2.5", r"line 17.*whole number"),
        ("Frame Time: 0.05", "Frame Time: 0", r"line 18.*positive"),
        ("JOINT Chest", "JOINT Hips", r"line 6: joint 'Hips' stands already in line 2"),
        ("    CHANNELS 3 Zrotation Xrotation Yrotation\n    End", "    End", r"line 9.*'Chest' has no CHANNELS"),
        ("CHANNELS 3 Zrotation Xrotation", "CHANNELS 3 Zrotation Wrotation", r"line 9.*'Wrotation'.*Xposition"),
        ("CHANNELS 3 Zrotation Xrotation", "CHANNELS 3 Zrotation Zrotation", r"line 9.*twice"),
        ("CHANNELS 3 Zrotation", "CHANNELS 4 Zrotation", r"line 9.*promises 4 channels and names 3"),
        ("CHANNELS 3 Zrotation", "CHANNELS 2 Zrotation", r"line 9.*promises 2 channels and names more"),
        ("OFFSET 0 10 0", "OFFSET 0 ten 0", r"line 8.*expected a number, found 'ten'"),
        ("OFFSET 0 10 0", "OFFSET 0 inf 0", r"line 8.*finite"),
        ("HIERARCHY", "HIERARCHIE", r"line 1.*expected HIERARCHY"),
        ("MOTION", "ROOT Other", r"second ROOT"),
        ("JOINT Chest", "JOINT", r"line 6.*no name"),
    ],
)
def test_a_file_that_is_wrong_is_one_error_that_names_the_line(old: str, new: str, words: str) -> None:
    assert old in TWO_JOINTS
    with pytest.raises(FormatError, match=rf"odd\.bvh, (?s:.*){words}"):
        parse_bvh(TWO_JOINTS.replace(old, new, 1), name="odd.bvh")


@settings(max_examples=80, deadline=None)
@given(st.integers(0, len(TWO_JOINTS) - 20))
def test_a_file_cut_anywhere_is_one_error(kept: int) -> None:
    with pytest.raises(FormatError, match="line"):
        parse_bvh(TWO_JOINTS[:kept])


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_one_error(text: str) -> None:
    with pytest.raises(FormatError):
        parse_bvh(text)


def test_bytes_that_are_no_text_and_absent_files_are_one_error(tmp_path: Path) -> None:
    (tmp_path / "odd.bvh").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(FormatError, match=r"odd\.bvh"):
        read_bvh(tmp_path / "odd.bvh")
    with pytest.raises(FormatError, match=r"absent\.bvh"):
        read_bvh(tmp_path / "absent.bvh")


def test_a_file_may_nest_deeper_than_python_recurses() -> None:
    tree = [(depth, f"j{depth}", (0.0, 1.0, 0.0)) for depth in range(3000)]
    assert len(parse_bvh(bvh_of(tree)).names) == 3000


def test_layouts_seen_in_the_wild_are_read() -> None:
    text = TWO_JOINTS.replace("\n{", " {").replace("Frames: 2", "Frames:\t2").replace("\n", "\r\n")
    text = text.replace("Xposition", "XPosition").replace("End Site", "End site")
    text = text.replace("JOINT Chest", "JOINT my chest")
    bvh = parse_bvh(text + "\r\n\r\n")
    assert bvh.names == ("Hips", "my chest", "my chest_end")
    np.testing.assert_array_equal(bvh.frames, parse_bvh(TWO_JOINTS).frames)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="rotation_order='ZZX'"):
        write_bvh(walking(3), tmp_path / "a.bvh", rotation_order="ZZX")
    with pytest.raises(FormatError, match="up='w'"):
        write_bvh(walking(3), tmp_path / "a.bvh", up="w")  # type: ignore[arg-type]
    with pytest.raises(FormatError, match="scale=0"):
        write_bvh(walking(3), tmp_path / "a.bvh", scale=0)
    assert not list(tmp_path.iterdir())
