# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Rotations and rigid transforms: invariants, numbers worked out by hand, and the edges."""

import numpy as np
from numpy.testing import assert_allclose
import pytest
from scipy.spatial.transform import Rotation

from geo_perception.errors import PoseError
from geo_perception.geometry import se3

RNG = np.random.default_rng(0)
AXES = RNG.normal(size=(200, 3))
AXES /= np.linalg.norm(AXES, axis=1, keepdims=True)
# Zero, the numerically tiny, the ordinary, and up to half a turn.
ANGLES = np.concatenate([[0.0, 1e-300, 1e-12, 1e-9, 1e-6, 1e-3, np.pi - 1e-3, np.pi - 1e-6,
                          np.pi - 1e-9], RNG.uniform(0, np.pi, 191)])
VECTORS = AXES * ANGLES[:, None]
MATRICES = se3.matrix_from_rotation_vector(VECTORS)
QUATERNIONS = np.roll(Rotation.from_rotvec(VECTORS).as_quat(), 1, axis=1)


def reference_matrix(q):
    """Return the matrix of a quaternion (w, x, y, z), from another library."""
    return Rotation.from_quat(np.roll(q, -1)).as_matrix()


def random_transform():
    """Return any rigid transform."""
    return se3.make_transform(MATRICES[RNG.integers(200)], RNG.normal(size=3))


def test_skew_is_the_cross_product():
    """With a known sign."""
    v, u = RNG.normal(size=(2, 5, 3))
    assert_allclose((se3.skew(v) @ u[..., None])[..., 0], np.cross(v, u))
    assert_allclose(se3.skew([1, 2, 3]), [[0, -3, 2], [3, 0, -1], [-2, 1, 0]])


def test_rotation_matrices_are_those_of_scipy():
    """All of the road from vectors to matrices, one by one."""
    for vector, R, q in zip(VECTORS, MATRICES, QUATERNIONS):
        assert_allclose(R, Rotation.from_rotvec(vector).as_matrix(), atol=1e-15)
        assert_allclose(R, reference_matrix(q), atol=1e-15)


def test_a_quarter_turn_about_z():
    """X goes to y, by hand."""
    R = se3.matrix_from_rotation_vector([0, 0, np.pi / 2])
    assert_allclose(R, [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-15)
    assert_allclose(se3.quaternion_from_matrix(R), [np.sqrt(0.5), 0, 0, np.sqrt(0.5)])


def test_rotation_vectors_come_back():
    """From quaternions and matrices, also tiny ones and those of nearly half a turn."""
    assert_allclose(se3.rotation_vector_from_quaternion(QUATERNIONS), VECTORS, rtol=1e-12,
                    atol=1e-300)
    # The sine of a matrix near half a turn is all that tells the sign: an ulp is 1e-16 there.
    assert_allclose(se3.rotation_vector_from_matrix(MATRICES), VECTORS, atol=1e-7)
    far = np.abs(ANGLES - np.pi) > 1e-2
    assert_allclose(se3.rotation_vector_from_matrix(MATRICES[far]), VECTORS[far], atol=1e-13)


def test_half_a_turn_has_a_vector_of_either_sign():
    """Of length pi, and the same rotation."""
    for axis in np.concatenate([np.eye(3), -np.eye(3), AXES[:20]]):
        R = 2 * np.outer(axis, axis) - np.eye(3)
        vector = se3.rotation_vector_from_matrix(R)
        assert np.linalg.norm(vector) == pytest.approx(np.pi)
        assert_allclose(se3.matrix_from_rotation_vector(vector), R, atol=1e-12)


def test_a_vector_of_more_than_half_a_turn_takes_the_short_way():
    """270 degrees one way are 90 the other."""
    q = np.array([np.cos(0.75 * np.pi), 0, 0, np.sin(0.75 * np.pi)])
    assert_allclose(se3.rotation_vector_from_quaternion(q), [0, 0, -0.5 * np.pi], atol=1e-15)


def test_quaternions_come_back_from_matrices():
    """Whichever of the four components is the largest."""
    quaternions = np.concatenate([np.eye(4), RNG.normal(size=(500, 4))])
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    quaternions = se3.canonical_quaternion(quaternions)
    matrices = np.stack([reference_matrix(q) for q in quaternions])
    assert_allclose(se3.quaternion_from_matrix(matrices), quaternions, atol=1e-14)
    assert se3.quaternion_from_matrix(matrices).shape == (504, 4)


def test_canonical_quaternions_have_one_sign():
    """W is positive; if it is zero, the first component that is not."""
    q = RNG.normal(size=(50, 4))
    assert_allclose(se3.canonical_quaternion(q), se3.canonical_quaternion(-q))
    assert (se3.canonical_quaternion(q)[:, 0] >= 0).all()
    assert_allclose(np.linalg.norm(se3.canonical_quaternion(q), axis=1),
                    np.linalg.norm(q, axis=1))
    assert_allclose(se3.canonical_quaternion([0, 0, -1, 1]), [0, 0, 1, -1])
    assert_allclose(se3.canonical_quaternion([0, 0, 0, -1]), [0, 0, 0, 1])


def test_matrix_does_not_depend_on_the_norm_or_sign_of_the_quaternion():
    """Labels are not of unit norm."""
    for factor in (-1.0, 2.01, 1e-3):
        assert_allclose(se3.matrix_from_quaternion(factor * QUATERNIONS), MATRICES, atol=1e-15)


def test_inverse_of_transforms():
    """Times itself is nothing, from either side, and stays rigid."""
    T = np.stack([random_transform() for _ in range(20)])
    assert_allclose(T @ se3.inverse_transform(T), np.tile(np.eye(4), (20, 1, 1)), atol=1e-14)
    assert_allclose(se3.inverse_transform(T) @ T, np.tile(np.eye(4), (20, 1, 1)), atol=1e-14)
    assert_allclose(se3.inverse_transform(T)[3], se3.inverse_transform(T[3]))


def test_transform_points_is_the_matrix_product():
    """For any shape of points."""
    T, points = random_transform(), RNG.normal(size=(4, 5, 3))
    expected = [[(T @ [*point, 1.0])[:3] for point in row] for row in points]
    assert_allclose(se3.transform_points(T, points), expected)


def test_interpolation_is_linear_and_slerp():
    """Ends exactly, constant speed between, and independent of the world's axes."""
    T0, T1, world = random_transform(), random_transform(), random_transform()
    assert_allclose(se3.interpolate_transform(T0, T1, 0.0), T0)
    assert_allclose(se3.interpolate_transform(T0, T1, 1.0), T1, atol=1e-14)
    whole = se3.rotation_angle(T0[:3, :3], T1[:3, :3])
    for alpha in (0.1, 0.5, 0.8):
        T = se3.interpolate_transform(T0, T1, alpha)
        assert_allclose(T[:3, 3], (1 - alpha) * T0[:3, 3] + alpha * T1[:3, 3])
        assert se3.rotation_angle(T0[:3, :3], T[:3, :3]) == pytest.approx(alpha * whole)
        assert_allclose(se3.interpolate_transform(world @ T0, world @ T1, alpha), world @ T,
                        atol=1e-13)


def test_interpolation_by_hand():
    """A third of the way through 90 degrees about x is 30 degrees."""
    T1 = se3.make_transform(se3.matrix_from_rotation_vector([np.pi / 2, 0, 0]), [3, 0, -3])
    T = se3.interpolate_transform(np.eye(4), T1, 1 / 3)
    assert_allclose(T[:3, 3], [1, 0, -1])
    assert_allclose(se3.rotation_vector_from_matrix(T[:3, :3]), [np.pi / 6, 0, 0], atol=1e-15)


def test_project_to_rigid_finds_the_nearest_rotation():
    """Rounding goes; what is rigid stays as it is."""
    T = random_transform()
    rounded = np.round(T, 3)
    projected = se3.project_to_rigid(rounded)
    assert_allclose(projected[:3, :3] @ projected[:3, :3].T, np.eye(3), atol=1e-15)
    assert np.abs(projected - T).max() < 1e-3
    assert_allclose(se3.project_to_rigid(T), T, atol=1e-15)
    for _ in range(20):
        other = projected[:3, :3] @ se3.matrix_from_rotation_vector(1e-3 * RNG.normal(size=3))
        assert (np.linalg.norm(projected[:3, :3] - rounded[:3, :3])
                <= np.linalg.norm(other - rounded[:3, :3]))


@pytest.mark.parametrize('change, words', [
    (lambda T: T[:3], 'shape'),
    (lambda T: np.where(np.eye(4, k=3), np.nan, T), 'NaN'),
    (lambda T: np.where(np.eye(4, k=3), np.inf, T), 'NaN or infinite'),
    (lambda T: T * [[1], [1], [-1], [1]], 'determinant -1.000'),
    (lambda T: T * 1.1, 'determinant 1.331'),
    (lambda T: np.zeros((4, 4)), 'not a rotation'),
    (lambda T: T.T, 'transposed'),
])
def test_project_to_rigid_refuses(change, words):
    """What is no pose, and says why."""
    T = se3.make_transform(MATRICES[20], [1.0, 2.0, 3.0])
    with pytest.raises(PoseError, match=words):
        se3.project_to_rigid(change(T))


def test_angle_between_rotations():
    """Exact at 90 degrees, right to 1 % at a microradian, and never affected by a sign."""
    quarter = se3.matrix_from_rotation_vector([0, np.pi / 2, 0])
    assert se3.rotation_angle(np.eye(3), quarter) == np.pi / 2
    assert se3.rotation_angle(quarter, quarter) == 0
    for R in MATRICES[10:20]:
        turned = R @ se3.matrix_from_rotation_vector(1e-6 * AXES[0])
        assert se3.rotation_angle(R, turned) == pytest.approx(1e-6, rel=0.01)
    q = QUATERNIONS[30]
    both = se3.matrix_from_quaternion(q), se3.matrix_from_quaternion(-q)
    assert se3.rotation_angle(*both) == 0
    assert_allclose(se3.rotation_angle(np.eye(3), MATRICES), ANGLES, atol=1e-7)


def test_rotation_between_directions():
    """The smallest one, also for parallel and opposite directions."""
    for a, b in zip(AXES[:20], np.concatenate([AXES[20:36], AXES[:2], -AXES[18:20]])):
        R = se3.rotation_between(3.0 * a, 0.1 * b)
        assert_allclose(R @ a, b, atol=1e-12)
        assert se3.rotation_angle(np.eye(3), R) == pytest.approx(
            np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b), abs=1e-7)
    assert_allclose(se3.rotation_between(AXES[0], AXES[0]), np.eye(3), atol=1e-15)
    half = se3.rotation_between(AXES[0], -AXES[0])
    assert_allclose(half @ AXES[0], -AXES[0], atol=1e-12)
    assert np.linalg.det(half) == pytest.approx(1.0)


def test_optical_axes_of_an_upright_camera():
    """REP 103: right is -y, down is -z, forward is x of the body; the quaternion of the spec."""
    assert_allclose(se3.R_BODY_OPTICAL @ [1, 0, 0], [0, -1, 0])
    assert_allclose(se3.R_BODY_OPTICAL @ [0, 1, 0], [0, 0, -1])
    assert_allclose(se3.R_BODY_OPTICAL @ [0, 0, 1], [1, 0, 0])
    assert_allclose(se3.quaternion_from_matrix(se3.R_BODY_OPTICAL), [0.5, -0.5, 0.5, -0.5])


def pose_errors(covariance, n):
    """Return draws of (dx, dtheta)."""
    return np.random.default_rng(1).multivariate_normal(np.zeros(6), covariance, n)


def some_covariance():
    """Return a full covariance of small errors."""
    A = np.random.default_rng(2).normal(size=(6, 6)) * 0.01
    return A @ A.T


def test_covariance_of_another_point_is_that_of_monte_carlo():
    """A point on a lever arm moves when the body turns about fixed axes."""
    covariance, arm = some_covariance(), np.array([1.0, -2.0, 0.5])
    errors = pose_errors(covariance, 200_000)
    turned = (se3.matrix_from_rotation_vector(errors[:, 3:]) @ arm) - arm
    moved = np.concatenate([errors[:, :3] + turned, errors[:, 3:]], 1)
    result = se3.move_pose_covariance(covariance, arm)
    assert_allclose(result, np.cov(moved.T), atol=0.02 * np.abs(result).max())
    assert_allclose(se3.move_pose_covariance(result, -arm), covariance, atol=1e-15)


def test_covariance_in_other_axes_is_that_of_monte_carlo():
    """Position and rotation errors turn alike."""
    covariance, R = some_covariance(), MATRICES[50]
    errors = pose_errors(covariance, 200_000)
    turned = np.concatenate([errors[:, :3] @ R.T, errors[:, 3:] @ R.T], 1)
    result = se3.rotate_pose_covariance(covariance, R)
    assert_allclose(result, np.cov(turned.T), atol=0.02 * np.abs(result).max())
