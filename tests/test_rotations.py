import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kinalign.motion.rotations import (
    axis_angle_to_quaternion,
    matrix_from_6d,
    matrix_to_quaternion,
    normalize,
    quaternion_between,
    quaternion_inverse,
    quaternion_multiply,
    quaternion_rotate,
    quaternion_to_6d,
    quaternion_to_axis_angle,
    quaternion_to_matrix,
    yaw_quaternion,
)

number = st.floats(-1, 1, allow_nan=False, width=64)
vectors = arrays(np.float64, 3, elements=st.floats(-10, 10, width=64))
directions = arrays(np.float64, 3, elements=number).filter(lambda v: np.linalg.norm(v) > 1e-3)
quaternions = arrays(np.float64, 4, elements=number).filter(lambda q: np.linalg.norm(q) > 1e-3).map(normalize)
# the angles where formulas break: none, almost none, almost half a turn, half a turn
angles = st.one_of(
    st.sampled_from([0.0, 1e-12, 1e-8, 1e-4, np.pi - 1e-4, np.pi - 1e-8, np.pi]), st.floats(0, np.pi, width=64)
)


def same_rotation(a: np.ndarray, b: np.ndarray, atol: float = 1e-9) -> None:
    np.testing.assert_allclose(quaternion_to_matrix(a), quaternion_to_matrix(b), atol=atol)


@given(quaternions)
def test_a_rotation_and_its_inverse_are_none(q: np.ndarray) -> None:
    np.testing.assert_allclose(quaternion_multiply(q, quaternion_inverse(q)), [1, 0, 0, 0], atol=1e-12)


@given(quaternions, quaternions, quaternions)
def test_multiplication_is_associative(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    left = quaternion_multiply(quaternion_multiply(a, b), c)
    np.testing.assert_allclose(left, quaternion_multiply(a, quaternion_multiply(b, c)), atol=1e-12)


@given(quaternions, quaternions, vectors)
def test_a_product_turns_first_by_its_right_factor(a: np.ndarray, b: np.ndarray, v: np.ndarray) -> None:
    together = quaternion_rotate(quaternion_multiply(a, b), v)
    np.testing.assert_allclose(together, quaternion_rotate(a, quaternion_rotate(b, v)), atol=1e-10)


@given(quaternions, vectors, vectors)
def test_turning_keeps_lengths_angles_and_handedness(q: np.ndarray, u: np.ndarray, v: np.ndarray) -> None:
    turned_u, turned_v = quaternion_rotate(q, u), quaternion_rotate(q, v)
    np.testing.assert_allclose(turned_u @ turned_v, u @ v, atol=1e-9)
    np.testing.assert_allclose(np.cross(turned_u, turned_v), quaternion_rotate(q, np.cross(u, v)), atol=1e-9)


@given(quaternions, vectors)
def test_a_quaternion_and_its_matrix_turn_alike(q: np.ndarray, v: np.ndarray) -> None:
    np.testing.assert_allclose(quaternion_to_matrix(q) @ v, quaternion_rotate(q, v), atol=1e-10)


@given(quaternions)
def test_matrix_and_back(q: np.ndarray) -> None:
    back = matrix_to_quaternion(quaternion_to_matrix(q))
    assert back[0] >= 0
    same_rotation(back, q)


@given(directions, angles)
def test_axis_angle_and_matrix_round_trip_also_near_none_and_near_half_a_turn(axis: np.ndarray, angle: float) -> None:
    vector = normalize(axis) * angle
    q = axis_angle_to_quaternion(vector)
    np.testing.assert_allclose(np.linalg.norm(q), 1, atol=1e-12)
    same_rotation(axis_angle_to_quaternion(quaternion_to_axis_angle(q)), q)
    same_rotation(matrix_to_quaternion(quaternion_to_matrix(q)), q)
    assert np.linalg.norm(quaternion_to_axis_angle(q)) == pytest.approx(angle, abs=1e-9)


@given(quaternions)
def test_six_numbers_are_the_first_two_columns_and_hold_the_rotation(q: np.ndarray) -> None:
    six = quaternion_to_6d(q)
    matrix = quaternion_to_matrix(q)
    np.testing.assert_allclose(six, np.concatenate((matrix[:, 0], matrix[:, 1])), atol=1e-12)
    np.testing.assert_allclose(matrix_from_6d(six), matrix, atol=1e-9)


@given(quaternions, st.floats(0.5, 2), st.floats(0.5, 2), st.floats(-0.4, 0.4))
def test_six_numbers_are_made_orthonormal(q: np.ndarray, a: float, b: float, skew: float) -> None:
    six = quaternion_to_6d(q)
    x, y = six[:3], six[3:]
    matrix = matrix_from_6d(np.concatenate((a * x, b * y + skew * x)))
    np.testing.assert_allclose(matrix, quaternion_to_matrix(q), atol=1e-9)


@given(directions, directions)
def test_the_turn_between_two_directions_brings_one_to_the_other(a: np.ndarray, b: np.ndarray) -> None:
    q = quaternion_between(a, b)
    np.testing.assert_allclose(np.linalg.norm(q), 1, atol=1e-9)
    np.testing.assert_allclose(quaternion_rotate(q, normalize(a)), normalize(b), atol=1e-6)


@given(directions, st.floats(0.1, 5))
def test_the_turn_between_opposite_directions_is_half_a_turn(a: np.ndarray, factor: float) -> None:
    q = quaternion_between(a, -factor * a)
    np.testing.assert_allclose(quaternion_rotate(q, normalize(a)), -normalize(a), atol=1e-6)
    assert abs(q[0]) < 1e-6


@given(directions, directions)
def test_the_turn_between_two_directions_is_the_shortest(a: np.ndarray, b: np.ndarray) -> None:
    q = quaternion_between(a, b)
    angle = np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)
    assert 2 * np.arccos(min(abs(q[0]), 1.0)) == pytest.approx(angle, abs=1e-5)


@given(angles, angles)
def test_turns_about_the_vertical_add_up(a: float, b: float) -> None:
    same_rotation(quaternion_multiply(yaw_quaternion(a), yaw_quaternion(b)), yaw_quaternion(a + b))


def test_a_quarter_turn_about_the_vertical_brings_z_to_x() -> None:
    np.testing.assert_allclose(quaternion_rotate(yaw_quaternion(np.pi / 2), [0, 0, 1]), [1, 0, 0], atol=1e-12)


def test_a_batch_equals_each() -> None:
    rng = np.random.default_rng(1)
    a, b = normalize(rng.normal(size=(2, 5, 7, 4)))
    u, v = rng.normal(size=(2, 5, 7, 3))
    for function, arguments in (
        (quaternion_multiply, (a, b)),
        (quaternion_rotate, (a, v)),
        (quaternion_between, (u, v)),
        (quaternion_to_matrix, (a,)),
        (quaternion_to_6d, (a,)),
        (quaternion_to_axis_angle, (a,)),
        (axis_angle_to_quaternion, (v,)),
        (lambda q: matrix_to_quaternion(quaternion_to_matrix(q)), (a,)),
    ):
        whole = function(*arguments)
        for index in np.ndindex(5, 7):
            np.testing.assert_allclose(whole[index], function(*(part[index] for part in arguments)), atol=1e-12)
