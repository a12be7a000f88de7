import numpy as np
import pytest

from kinalign.errors import MotionError
from kinalign.motion.skeleton import HUMANML3D, KIT, Skeleton, skeleton_for

BOTH = pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda s: s.name)


@BOTH
def test_every_joint_but_the_root_has_one_parent_that_comes_before_it(skeleton: Skeleton) -> None:
    order = skeleton.topological_order
    assert sorted(order) == list(range(skeleton.num_joints))
    assert skeleton.parents[0] == -1
    for joint in range(1, skeleton.num_joints):
        assert order.index(skeleton.parents[joint]) < order.index(joint)


@BOTH
def test_children_are_the_inverse_of_parents(skeleton: Skeleton) -> None:
    for parent, children in enumerate(skeleton.children):
        assert all(skeleton.parents[child] == parent for child in children)
    assert sum(map(len, skeleton.children)) == skeleton.num_joints - 1


@BOTH
def test_mirroring_joints_twice_changes_nothing_and_keeps_the_tree(skeleton: Skeleton) -> None:
    twin = skeleton.mirrored_joints
    assert [twin[t] for t in twin] == list(range(skeleton.num_joints))
    for joint in range(1, skeleton.num_joints):
        assert skeleton.parents[twin[joint]] == twin[skeleton.parents[joint]]


@BOTH
def test_named_pairs_are_twins(skeleton: Skeleton) -> None:
    twin = skeleton.mirrored_joints
    for right, left in (skeleton.hips, skeleton.shoulders):
        assert skeleton.joint_names[right].startswith("right_")
        assert twin[right] == left
    assert [twin[joint] for joint in skeleton.left_foot] == list(skeleton.right_foot)


@BOTH
def test_rest_directions_are_unit_vectors(skeleton: Skeleton) -> None:
    np.testing.assert_allclose(np.linalg.norm(skeleton.directions[1:], axis=1), 1)
    assert not skeleton.directions[0].any()


@BOTH
def test_bone_lengths_of_a_pose_do_not_depend_on_where_it_stands(skeleton: Skeleton) -> None:
    pose = np.random.default_rng(0).normal(size=(skeleton.num_joints, 3))
    here, there = Skeleton.from_joints(pose), Skeleton.from_joints(pose + [3.0, -1.0, 2.0])
    np.testing.assert_allclose(here.bone_lengths, there.bone_lengths, atol=1e-12)
    assert here.name == skeleton.name
    assert here.bone_lengths[0] == 0


def test_a_skeleton_that_is_not_there_is_an_error_that_says_which_are() -> None:
    with pytest.raises(MotionError, match=r"23 joints.*22.*21"):
        skeleton_for(23)
    with pytest.raises(MotionError, match=r"left_paw.*pelvis"):
        HUMANML3D.index("left_paw")


def test_bone_lengths_refuse_another_shape_and_nan() -> None:
    with pytest.raises(MotionError, match="22"):
        HUMANML3D.with_bone_lengths_of(np.zeros((21, 3)))
    with pytest.raises(MotionError, match="finite"):
        HUMANML3D.with_bone_lengths_of(np.full((22, 3), np.nan))
