"""Rotations as arrays: quaternions in wxyz order, 3x3 matrices, the 6-D form, axis-angle vectors.

Every function is vectorised over leading axes and works in the precision it is given. A quaternion and its negative
are the same rotation. The 6-D form is the first two columns of the matrix, one after the other (Zhou et al. 2019,
arXiv 1812.07035), as in HumanML3D's features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]


def normalize(vectors: ArrayLike) -> Array:
    """Vectors (..., D) scaled to length 1."""
    v = np.asarray(vectors)
    return np.asarray(v / np.sqrt(np.einsum("...i,...i->...", v, v))[..., None])


def quaternion_multiply(a: ArrayLike, b: ArrayLike) -> Array:
    """Hamilton product of (..., 4) and (..., 4): first b turns, then a."""
    aw, ax, ay, az = np.moveaxis(np.asarray(a), -1, 0)
    bw, bx, by, bz = np.moveaxis(np.asarray(b), -1, 0)
    return np.stack(
        (
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ),
        axis=-1,
    )


def quaternion_inverse(q: ArrayLike) -> Array:
    """Inverse of unit quaternions (..., 4)."""
    q = np.asarray(q)
    return q * np.array([1, -1, -1, -1], dtype=q.dtype)


def quaternion_rotate(q: ArrayLike, vectors: ArrayLike) -> Array:
    """Vectors (..., 3) turned by unit quaternions (..., 4); leading axes broadcast."""
    w, x, y, z = np.moveaxis(np.asarray(q), -1, 0)
    vx, vy, vz = np.moveaxis(np.asarray(vectors), -1, 0)
    # v + 2 w (u x v) + 2 u x (u x v), written out: np.cross is several times slower on short axes
    tx, ty, tz = 2 * (y * vz - z * vy), 2 * (z * vx - x * vz), 2 * (x * vy - y * vx)
    return np.stack(
        (
            vx + w * tx + y * tz - z * ty,
            vy + w * ty + z * tx - x * tz,
            vz + w * tz + x * ty - y * tx,
        ),
        axis=-1,
    )


def quaternion_between(a: ArrayLike, b: ArrayLike) -> Array:
    """The shortest unit quaternion that turns direction a (..., 3) into direction b (..., 3).

    Opposite directions leave the axis free; a perpendicular of a is taken then.
    """
    a, b = np.broadcast_arrays(np.asarray(a, dtype=float), np.asarray(b, dtype=float))
    (ax, ay, az), (bx, by, bz) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    dot = ax * bx + ay * by + az * bz
    lengths = np.sqrt((ax * ax + ay * ay + az * az) * (bx * bx + by * by + bz * bz))
    q = np.stack((lengths + dot, ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx), axis=-1)
    norm = np.sqrt(np.einsum("...i,...i->...", q, q))
    opposite = norm <= 1e-12 * np.maximum(lengths, 1e-300)
    if opposite.any():
        # a perpendicular: a x (the axis along which a is shortest)
        axis = np.eye(3)[np.argmin(np.abs(a[opposite]), axis=-1)]
        perpendicular = normalize(np.cross(a[opposite], axis))
        q[opposite] = np.concatenate((np.zeros((*perpendicular.shape[:-1], 1)), perpendicular), axis=-1)
        norm = np.where(opposite, 1.0, norm)
    return np.asarray(q / norm[..., None])


def yaw_quaternion(angle: ArrayLike) -> Array:
    """Quaternions (..., 4) that turn by `angle` radians (...) about +y: +z goes towards +x."""
    half = np.asarray(angle, dtype=float) / 2
    zero = np.zeros_like(half)
    return np.stack((np.cos(half), zero, np.sin(half), zero), axis=-1)


def quaternion_to_matrix(q: ArrayLike) -> Array:
    """Unit quaternions (..., 4) as rotation matrices (..., 3, 3)."""
    w, x, y, z = np.moveaxis(np.asarray(q), -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def matrix_to_quaternion(matrix: ArrayLike) -> Array:
    """Rotation matrices (..., 3, 3) as unit quaternions (..., 4) with w >= 0.

    Of the four formulas of Shepperd (1978) the one with the largest divisor is taken, entry by entry.
    """
    m = np.asarray(matrix)
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    squares = np.stack((1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22), axis=-1)
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    candidates = np.stack(
        [
            np.stack((squares[..., 0], a, b, c), axis=-1),
            np.stack((a, squares[..., 1], d, e), axis=-1),
            np.stack((b, d, squares[..., 2], f), axis=-1),
            np.stack((c, e, f, squares[..., 3]), axis=-1),
        ],
        axis=-2,
    )
    best = np.argmax(squares, axis=-1)[..., None, None]
    q = normalize(np.take_along_axis(candidates, best, axis=-2)[..., 0, :])
    return np.where(q[..., :1] < 0, -q, q)


def quaternion_to_6d(q: ArrayLike) -> Array:
    """Unit quaternions (..., 4) as the first two matrix columns (..., 6)."""
    w, x, y, z = np.moveaxis(np.asarray(q), -1, 0)
    return np.stack(
        (
            1 - 2 * (y * y + z * z),
            2 * (x * y + w * z),
            2 * (x * z - w * y),
            2 * (x * y - w * z),
            1 - 2 * (x * x + z * z),
            2 * (y * z + w * x),
        ),
        axis=-1,
    )


def matrix_from_6d(columns: ArrayLike) -> Array:
    """Rotation matrices (..., 3, 3) from two columns (..., 6), made orthonormal by Gram-Schmidt."""
    c = np.asarray(columns)
    x = normalize(c[..., :3])
    y = c[..., 3:]
    y = normalize(y - np.einsum("...i,...i->...", x, y)[..., None] * x)
    return np.stack((x, y, np.cross(x, y)), axis=-1)


def axis_angle_to_quaternion(axis_angle: ArrayLike) -> Array:
    """Rotation vectors (..., 3), axis times radians, as unit quaternions (..., 4)."""
    v = np.asarray(axis_angle, dtype=float)
    half = np.sqrt(np.einsum("...i,...i->...", v, v))[..., None] / 2
    # sin(h)/(2h) by numpy's sinc, smooth at 0
    return np.concatenate((np.cos(half), v * np.sinc(half / np.pi) / 2), axis=-1)


def quaternion_to_axis_angle(q: ArrayLike) -> Array:
    """Unit quaternions (..., 4) as rotation vectors (..., 3) of at most pi radians."""
    q = np.asarray(q, dtype=float)
    q = np.where(q[..., :1] < 0, -q, q)
    sine = np.sqrt(np.einsum("...i,...i->...", q[..., 1:], q[..., 1:]))
    angle = 2 * np.arctan2(sine, q[..., 0])
    scale = np.where(sine > 1e-9, angle / np.maximum(sine, 1e-12), 2.0)
    return np.asarray(q[..., 1:] * scale[..., None])
