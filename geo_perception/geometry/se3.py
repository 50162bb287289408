# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Rigid transforms in NumPy, float64.

``T_a_b`` is a 4x4 matrix that maps points of frame b to frame a. Quaternions are
(w, x, y, z). Rotation vectors are axis times angle in radians. Every function is vectorised
over leading dimensions.
"""

import numpy as np

from geo_perception.errors import PoseError

# Columns are the optical axes in the body frame: x_opt -> -y, y_opt -> -z, z_opt -> +x (REP 103).
R_BODY_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
# The largest element by which a recorded transform may be off the nearest rigid one.
ROUNDING = 0.02


def skew(v):
    """
    Return the matrix [v]x whose product with u is the cross product of v and u.

    Parameters
    ----------
    v : np.ndarray
        Vectors, shape (..., 3).

    Returns
    -------
    np.ndarray
        Shape (..., 3, 3).

    """
    v = np.asarray(v, float)
    m = np.zeros(v.shape[:-1] + (3, 3))
    m[..., 0, 1], m[..., 0, 2], m[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    return m - np.swapaxes(m, -1, -2)


def matrix_from_rotation_vector(omega):
    """
    Return the rotation by ``|omega|`` radians about ``omega`` (Rodrigues' formula).

    Parameters
    ----------
    omega : np.ndarray
        Rotation vectors, radians, shape (..., 3).

    Returns
    -------
    np.ndarray
        Rotation matrices, shape (..., 3, 3).

    """
    omega = np.asarray(omega, float)
    K = skew(omega)
    angle = np.linalg.norm(omega, axis=-1)[..., None, None]
    # np.sinc(x) = sin(pi x) / (pi x) is exact at zero.
    return (np.eye(3) + np.sinc(angle / np.pi) * K
            + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * (K @ K))


def rotation_vector_from_matrix(R):
    """
    Return the rotation vector of a rotation matrix, angle in [0, pi].

    Parameters
    ----------
    R : np.ndarray
        Rotation matrices, shape (..., 3, 3).

    Returns
    -------
    np.ndarray
        Radians, shape (..., 3).

    """
    return rotation_vector_from_quaternion(quaternion_from_matrix(R))


def rotation_vector_from_quaternion(q):
    """
    Return the rotation vector of a unit quaternion, on the short way round.

    Uses ``atan2(|v|, w)``, which is well conditioned where ``acos(w)`` is not.

    Parameters
    ----------
    q : np.ndarray
        Unit quaternions (w, x, y, z), shape (..., 4).

    Returns
    -------
    np.ndarray
        Radians, shape (..., 3), norm in [0, pi].

    """
    q = canonical_quaternion(q)
    w, v = q[..., :1], q[..., 1:]
    norm = np.linalg.norm(v, axis=-1, keepdims=True)
    safe = np.where(norm > 1e-12, norm, 1.0)
    return np.where(norm > 1e-12, 2.0 * np.arctan2(norm, w) / safe, 2.0) * v


def canonical_quaternion(q):
    """
    Return the same rotations with w >= 0 (w = 0: first non-zero component positive).

    Parameters
    ----------
    q : np.ndarray
        Quaternions (w, x, y, z), shape (..., 4); their norm is kept.

    Returns
    -------
    np.ndarray
        Shape (..., 4).

    """
    q = np.asarray(q, float)
    first = np.argmax(q != 0, axis=-1)[..., None]
    return np.where(np.take_along_axis(q, first, -1) < 0, -q, q)


def matrix_from_quaternion(q):
    """
    Return the rotation matrix of a quaternion of any non-zero norm.

    Parameters
    ----------
    q : np.ndarray
        Quaternions (w, x, y, z), shape (..., 4).

    Returns
    -------
    np.ndarray
        Shape (..., 3, 3).

    """
    q = np.asarray(q, float)
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    w, v = q[..., 0, None, None], q[..., 1:]
    K = skew(v)
    return np.eye(3) + 2.0 * w * K + 2.0 * K @ K


def quaternion_from_matrix(R):
    """
    Return the canonical unit quaternion (w, x, y, z) of a rotation matrix.

    The largest of the four components is computed first (Shepperd), so that the result is
    accurate near rotations by pi.

    Parameters
    ----------
    R : np.ndarray
        Rotation matrices, shape (..., 3, 3).

    Returns
    -------
    np.ndarray
        Shape (..., 4), w >= 0.

    """
    R = np.asarray(R, float)
    xx, yy, zz = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    a, b, c = (R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0],
               R[..., 1, 0] - R[..., 0, 1])
    d, e, f = (R[..., 0, 1] + R[..., 1, 0], R[..., 0, 2] + R[..., 2, 0],
               R[..., 1, 2] + R[..., 2, 1])
    # Rows of 4 q q^T: each is the quaternion up to scale, the longest is the best conditioned.
    rows = np.moveaxis(np.array([[1 + xx + yy + zz, a, b, c],
                                 [a, 1 + xx - yy - zz, d, e],
                                 [b, d, 1 - xx + yy - zz, f],
                                 [c, e, f, 1 - xx - yy + zz]]), (0, 1), (-2, -1))
    best = np.argmax(np.diagonal(rows, axis1=-2, axis2=-1), axis=-1)[..., None, None]
    q = np.take_along_axis(rows, best, -2)[..., 0, :]
    return canonical_quaternion(q / np.linalg.norm(q, axis=-1, keepdims=True))


def make_transform(R, t):
    """
    Return the 4x4 transform with rotation R and translation t.

    Parameters
    ----------
    R : np.ndarray
        Rotation matrices, shape (..., 3, 3).
    t : np.ndarray
        Translations, metres, shape (..., 3).

    Returns
    -------
    np.ndarray
        Shape (..., 4, 4).

    """
    R, t = np.asarray(R, float), np.asarray(t, float)
    T = np.zeros(np.broadcast_shapes(R.shape[:-2], t.shape[:-1]) + (4, 4))
    T[..., :3, :3], T[..., :3, 3], T[..., 3, 3] = R, t, 1.0
    return T


def inverse_transform(T):
    """
    Return the inverse of rigid transforms, exactly rigid again.

    Parameters
    ----------
    T : np.ndarray
        ``T_a_b``, shape (..., 4, 4).

    Returns
    -------
    np.ndarray
        ``T_b_a``, shape (..., 4, 4).

    """
    T = np.asarray(T, float)
    R_inv = np.swapaxes(T[..., :3, :3], -1, -2)
    return make_transform(R_inv, -(R_inv @ T[..., :3, 3:])[..., 0])


def transform_points(T, points):
    """
    Return points of frame b expressed in frame a.

    Parameters
    ----------
    T : np.ndarray
        ``T_a_b``, shape (4, 4).
    points : np.ndarray
        Points in b, metres, shape (..., 3).

    Returns
    -------
    np.ndarray
        Points in a, shape (..., 3).

    """
    return points @ T[:3, :3].T + T[:3, 3]


def interpolate_transform(T0, T1, alpha):
    """
    Return the pose between two poses: linear in position, slerp in rotation.

    Parameters
    ----------
    T0, T1 : np.ndarray
        Poses of one moving frame in one fixed frame, shape (4, 4).
    alpha : float
        0 gives T0, 1 gives T1.

    Returns
    -------
    np.ndarray
        Shape (4, 4).

    """
    omega = rotation_vector_from_matrix(T0[:3, :3].T @ T1[:3, :3])
    return make_transform(T0[:3, :3] @ matrix_from_rotation_vector(alpha * omega),
                          (1 - alpha) * T0[:3, 3] + alpha * T1[:3, 3])


def twist_of_motion(T):
    """
    Return the constant twist, in the axes of the moving body, that takes unit time for a motion.

    It is the logarithm of SE(3): the inverse left Jacobian of the rotation turns the chord of
    the translation into the arc.

    Parameters
    ----------
    T : np.ndarray
        ``T_before_after``, the pose of the body after the motion in the body before, shape
        (4, 4).

    Returns
    -------
    np.ndarray
        Linear, then angular velocity, shape (6,), metres and radians per unit of time.

    """
    omega = rotation_vector_from_matrix(T[:3, :3])
    angle = np.linalg.norm(omega)
    K = skew(omega)
    # (1 - a/2 cot(a/2)) / a^2, which tends to 1/12.
    c = 1 / 12 if angle < 1e-4 else (1 - 0.5 * angle / np.tan(0.5 * angle)) / angle ** 2
    return np.concatenate([(np.eye(3) - 0.5 * K + c * K @ K) @ T[:3, 3], omega])


def project_to_rigid(T):
    """
    Return the nearest rigid transform to a nearly rigid 4x4 matrix (SVD).

    Recorded rotations are orthogonal to 1e-4 at best, which an angle formula turns into
    degrees; every reader passes its matrices through here.

    Parameters
    ----------
    T : np.ndarray
        Shape (4, 4).

    Returns
    -------
    np.ndarray
        Shape (4, 4), float64.

    Raises
    ------
    PoseError
        When the matrix is not finite, not of that shape, or not rigid within `ROUNDING`;
        a matrix stored column by column is told from its last row.

    """
    T = np.asarray(T, float)
    if T.shape != (4, 4):
        raise PoseError(f'a pose must be a 4x4 matrix, this one has shape {T.shape}')
    if not np.all(np.isfinite(T)):
        raise PoseError('the pose holds a NaN or infinite number')
    U, _, Vt = np.linalg.svd(T[:3, :3])
    R = U @ Vt
    if np.linalg.det(R) < 0 or np.abs(R - T[:3, :3]).max() > ROUNDING:
        raise PoseError('the 3x3 part of the pose is not a rotation '
                        f'(determinant {np.linalg.det(T[:3, :3]):.3f}, expected 1)')
    if np.abs(T[3] - [0.0, 0.0, 0.0, 1.0]).max() > ROUNDING:
        raise PoseError(f'the last row of the pose is {T[3].tolist()}, expected 0 0 0 1; a '
                        'matrix stored column by column has to be transposed')
    return make_transform(R, T[:3, 3])


def rotation_angle(R_a, R_b):
    """
    Return the angle between rotations, ``2 atan2(|vec|, |w|)`` of the relative quaternion.

    Unlike ``acos`` of a trace it is exact for tiny angles and never NaN
    (posenet.md section 3).

    Parameters
    ----------
    R_a, R_b : np.ndarray
        Rotation matrices, shape (..., 3, 3).

    Returns
    -------
    np.ndarray
        Radians in [0, pi], shape (...).

    """
    R_a, R_b = np.asarray(R_a, float), np.asarray(R_b, float)
    q = quaternion_from_matrix(np.swapaxes(R_a, -1, -2) @ R_b)
    return 2.0 * np.arctan2(np.linalg.norm(q[..., 1:], axis=-1), np.abs(q[..., 0]))


def rotation_between(a, b):
    """
    Return the smallest rotation that turns one direction into another.

    Parameters
    ----------
    a, b : np.ndarray
        Vectors of any length but zero, shape (3,).

    Returns
    -------
    np.ndarray
        R with ``R a`` parallel to ``b``, shape (3, 3).

    """
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis)
    if sine < 1e-9:
        # Parallel: nothing to turn; opposite: half a turn about anything across.
        axis = np.cross(a, np.eye(3)[np.argmin(np.abs(a))])
        sine = np.linalg.norm(axis)
    return matrix_from_rotation_vector(axis / sine * np.arctan2(np.linalg.norm(np.cross(a, b)),
                                                                a @ b))


def move_pose_covariance(covariance, lever_arm):
    """
    Return the covariance of a second point of the same rigid body.

    With the pose error written as (dx, dtheta) in fixed axes, the second point moves by
    ``dx - [r]x dtheta`` (posenet.md section 8.1).

    Parameters
    ----------
    covariance : np.ndarray
        6x6, order (x, y, z, rot X, rot Y, rot Z), fixed axes, SI units squared.
    lever_arm : np.ndarray
        From the first to the second point, in the fixed axes, metres, shape (3,).

    Returns
    -------
    np.ndarray
        6x6, same order.

    """
    J = np.eye(6)
    J[:3, 3:] = -skew(lever_arm)
    return J @ covariance @ J.T


def rotate_pose_covariance(covariance, R):
    """
    Return a pose covariance expressed in other fixed axes.

    Parameters
    ----------
    covariance : np.ndarray
        6x6 in the axes of frame b.
    R : np.ndarray
        ``R_a_b``, shape (3, 3).

    Returns
    -------
    np.ndarray
        6x6 in the axes of frame a.

    """
    J = np.zeros((6, 6))
    J[:3, :3] = J[3:, 3:] = R
    return J @ covariance @ J.T
