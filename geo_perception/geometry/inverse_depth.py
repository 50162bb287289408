# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Points as directions with inverse depths: where a camera sees them, and how far off that is.

A point lies along a direction from the frame that saw it first, its host, at an inverse depth
(Civera et al. 2008). All is computed times that inverse depth, which may be 0. Components come
first, as in (3, N), so that each is in one piece of memory: with a small matrix for every point
NumPy takes twice as long.
"""

import numpy as np

# In parts of the depth: points nearer to a camera than this are behind it.
NEAREST = 1e-3
# Of the tails: Cauchy.
TAIL = 2.385


def rotated_rays(rays, R_hosts):
    """
    Return the directions of points in the axes of the map.

    Parameters
    ----------
    rays : np.ndarray
        (x, y) of each point in its host at depth 1, shape (N, 2).
    R_hosts : np.ndarray
        Rotations ``R_map_camera`` of the hosts, shape (N, 3, 3).

    Returns
    -------
    np.ndarray
        With depth 1 in the host, shape (3, N).

    """
    return np.einsum('nij,nj->in', R_hosts, np.concatenate([rays, np.ones((len(rays), 1))], 1))


def reprojection_errors(seen, q, roots):
    """
    Return how far points are from where they were seen.

    Parameters
    ----------
    seen : np.ndarray
        (x, y) at depth 1, shape (2, N).
    q : np.ndarray
        Points in the axes of the camera, times inverse depth, shape (3, N).
    roots : np.ndarray
        Roots of the information of an observation, shape (2, 2, N).

    Returns
    -------
    errors : np.ndarray
        Of unit variance, shape (2, N); 0 behind the camera.
    by_point : np.ndarray
        Derivatives of the projection by ``q``, in the same unit, shape (3, 2, N).
    front : np.ndarray
        Which points are in front of the camera, bool, shape (N,).

    """
    front = q[2] > NEAREST
    inverse = 1.0 / np.where(front, q[2], 1.0)
    at = q[:2] * inverse
    off = np.where(front, seen - at, 0.0)
    by_point = np.empty((3, *at.shape))
    np.multiply(np.swapaxes(roots, 0, 1), inverse, out=by_point[:2])
    by_point[2] = -by_point[0] * at[0] - by_point[1] * at[1]
    return roots[:, 0] * off[0] + roots[:, 1] * off[1], by_point, front


def by_turn(by_point, v):
    """
    Return derivatives by a small turn of the camera from those by what it sees.

    Parameters
    ----------
    by_point : np.ndarray
        Derivatives by points, shape (3, 2, N).
    v : np.ndarray
        The points, from the camera, in the same axes, shape (3, N).

    Returns
    -------
    np.ndarray
        Shape (3, 2, N).

    """
    x, y, z = by_point
    return np.stack([y * v[2] - z * v[1], z * v[0] - x * v[2], x * v[1] - y * v[0]])


def wide_weights(squares):
    """
    Return weights for a start that may be far off: even what is far pulls.

    Parameters
    ----------
    squares : np.ndarray
        Of the lengths of errors of unit variance, shape (N,), N > 0.

    Returns
    -------
    np.ndarray
        0..1, shape (N,).

    """
    return 1.0 / (1.0 + squares / (TAIL * max(1.0, spread(squares, 0.5))) ** 2)


def spread(squares, part):
    """
    Return the standard deviation of two-dimensional normal errors from the smallest ones.

    Parameters
    ----------
    squares : np.ndarray
        Of their lengths, shape (N,), N > 0.
    part : float
        How many of them are looked at, 0..1.

    Returns
    -------
    float

    """
    k = int(part * len(squares))
    return float(np.sqrt(np.partition(squares, k)[k] / (-2.0 * np.log(1.0 - part))))
