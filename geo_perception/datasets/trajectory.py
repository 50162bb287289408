# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Recorded poses: from numbers to rigid transforms, and to the times of images."""

from dataclasses import dataclass

import numpy as np

from geo_perception.errors import PoseError
from geo_perception.geometry.se3 import make_transform, matrix_from_quaternion
from geo_perception.geometry.se3 import matrix_from_rotation_vector, project_to_rigid
from geo_perception.geometry.se3 import rotation_vector_from_matrix

# Labels are rounded decimals; a norm this far from one is an error of whoever wrote them.
_UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Labels:
    """
    Recorded poses as rigid transforms.

    Attributes
    ----------
    poses : np.ndarray
        (N, 4, 4) float64; the identity where ``valid`` is False.
    valid : np.ndarray
        (N,) bool: finite, and a rotation.
    problems : list of str
        One sentence for each kind of fault, with its count and first example.

    """

    poses: np.ndarray
    valid: np.ndarray
    problems: list


def labels_from_quaternions(positions, quaternions, names):
    """
    Turn recorded positions and quaternions into poses.

    Quaternions are normalised, as released label files hold some with norms up to 2
    (posenet.md section 10 number 7); those of norm zero or not finite are refused.

    Parameters
    ----------
    positions : np.ndarray
        Metres, shape (N, 3).
    quaternions : np.ndarray
        (w, x, y, z), shape (N, 4).
    names : sequence of str
        What each pose is called in messages.

    Returns
    -------
    Labels

    """
    positions = np.asarray(positions, float).reshape(-1, 3)
    quaternions = np.asarray(quaternions, float).reshape(-1, 4)
    # What is beyond that is damage, and would overflow when squared.
    finite = np.isfinite(positions).all(1) & (np.abs(quaternions) < 1e9).all(1)
    norms = np.linalg.norm(np.where(finite[:, None], quaternions, 1.0), axis=1)
    valid = finite & (norms > 1e-6)
    uneven = valid & (np.abs(norms - 1) > _UNIT_TOLERANCE)
    identity = [1.0, 0.0, 0.0, 0.0]
    poses = make_transform(matrix_from_quaternion(np.where(valid[:, None], quaternions, identity)),
                           np.where(valid[:, None], positions, 0.0))
    problems = []
    if not finite.all():
        problems.append(_count(~finite, names, 'a NaN or infinite number and is left out',
                               'NaN or infinite numbers and are left out', 'hold'))
    if (finite & ~valid).any():
        problems.append(_count(finite & ~valid, names, 'a quaternion of norm zero and is left out',
                               'quaternions of norm zero and are left out', 'have'))
    if uneven.any():
        worst = norms[np.flatnonzero(uneven)[np.argmax(np.abs(norms[uneven] - 1))]]
        problems.append(_count(uneven, names, 'a quaternion that was not of unit norm '
                               f'({worst:.3f}) and is normalised', 'quaternions that were not of '
                               f'unit norm (worst {worst:.3f}) and are normalised', 'have'))
    return Labels(poses, valid, problems)


def labels_from_matrices(matrices, names):
    """
    Turn recorded 4x4 matrices into poses, each rotation moved to the nearest true one.

    Parameters
    ----------
    matrices : np.ndarray
        Shape (N, 4, 4).
    names : sequence of str
        What each pose is called in messages.

    Returns
    -------
    Labels

    """
    poses = np.tile(np.eye(4), (len(matrices), 1, 1))
    valid = np.zeros(len(matrices), bool)
    reason = ''
    for i, matrix in enumerate(matrices):
        try:
            poses[i] = project_to_rigid(matrix)
            valid[i] = True
        except PoseError as error:
            reason = reason or str(error)
    problems = []
    if not valid.all():
        problems.append(_count(~valid, names, f'no usable pose and is left out: {reason}',
                               f'no usable pose and are left out: {reason}', 'have'))
    return Labels(poses, valid, problems)


def interpolate_poses(stamps, poses, query, max_gap_ns):
    """
    Return the poses at other times: linear in position, slerp in rotation.

    Parameters
    ----------
    stamps : np.ndarray
        Times of the poses, strictly increasing, int64 nanoseconds, shape (N,).
    poses : np.ndarray
        Shape (N, 4, 4).
    query : np.ndarray
        Wanted times, int64 nanoseconds, shape (M,).
    max_gap_ns : int
        Longest time between two neighbouring poses that is interpolated over.

    Returns
    -------
    poses : np.ndarray
        Shape (M, 4, 4).
    valid : np.ndarray
        (M,) bool: False before the first pose, after the last, and in gaps. Nothing is ever
        extrapolated.

    """
    query = np.asarray(query, np.int64)
    if len(stamps) == 0:
        return np.tile(np.eye(4), (len(query), 1, 1)), np.zeros(len(query), bool)
    after = np.clip(np.searchsorted(stamps, query), 0, len(stamps) - 1)
    exact = stamps[after] == query
    before = np.where(exact, after, np.maximum(after - 1, 0))
    gap = stamps[after] - stamps[before]
    valid = exact | ((query > stamps[before]) & (query < stamps[after]) & (gap <= max_gap_ns))
    alpha = ((query - stamps[before]) / np.where(gap > 0, gap, 1))[:, None]
    R0, R1 = poses[before, :3, :3], poses[after, :3, :3]
    omega = rotation_vector_from_matrix(np.swapaxes(R0, -1, -2) @ R1)
    alpha = np.where(valid[:, None], alpha, 0.0)
    position = (1 - alpha) * poses[before, :3, 3] + alpha * poses[after, :3, 3]
    return make_transform(R0 @ matrix_from_rotation_vector(alpha * omega), position), valid


def _count(mask, names, one, many, verb):
    """Return '3 of 9 poses <verb> <many> (first: x)', or the singular."""
    first = names[int(np.argmax(mask))]
    if mask.sum() == 1:
        return f"the pose of {first} {'has' if verb == 'have' else 'holds'} {one}"
    return f'{mask.sum()} of {len(mask)} poses {verb} {many} (first: {first})'
