# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Points as directions with inverse depths: where a camera sees them, and how far off that is.

A point lies along a direction from the frame that saw it first, its host, at an inverse depth
(Civera et al. 2008). All is computed times that inverse depth, which may be 0.
"""

import numpy as np

# In parts of the depth: points nearer to a camera than this are behind it.
NEAREST = 1e-3
# Of the tails: Cauchy.
TAIL = 2.385


def rotated_rays(rays, T_hosts):
    """
    Return the directions of points in the axes of the map.

    Parameters
    ----------
    rays : np.ndarray
        (x, y) of each point in its host at depth 1, shape (N, 2).
    T_hosts : np.ndarray
        Poses ``T_map_camera`` of the hosts, shape (N, 4, 4).

    Returns
    -------
    np.ndarray
        With depth 1 in the host, shape (N, 3).

    """
    rays = np.concatenate([rays, np.ones((len(rays), 1))], 1)
    return (T_hosts[:, :3, :3] @ rays[:, :, None])[..., 0]


def in_camera(rotated, rho, origins, T):
    """
    Return where points are from a camera.

    Parameters
    ----------
    rotated : np.ndarray
        From `rotated_rays`, shape (N, 3).
    rho : np.ndarray
        Inverse depths in the hosts, shape (N,).
    origins : np.ndarray
        Where the hosts are, shape (N, 3).
    T : np.ndarray
        Poses ``T_map_camera``, shape (N, 4, 4) or (1, 4, 4).

    Returns
    -------
    v, q : np.ndarray
        Points from the camera times inverse depth, in axes of the map and of the camera, shape
        (N, 3).
    front : np.ndarray
        Whether they are in front of it, bool, shape (N,).

    """
    v = rotated + rho[:, None] * (origins - T[:, :3, 3])
    q = (np.swapaxes(T[:, :3, :3], 1, 2) @ v[:, :, None])[..., 0]
    return v, q, q[:, 2] > NEAREST


def reprojection_errors(seen, q, front, roots):
    """
    Return how far points are from where they were seen.

    Parameters
    ----------
    seen : np.ndarray
        (x, y) at depth 1, shape (N, 2).
    q, front : np.ndarray
        From `in_camera`.
    roots : np.ndarray
        Roots of the information of an observation, shape (N, 2, 2).

    Returns
    -------
    errors : np.ndarray
        Of unit variance, shape (N, 2); 0 behind the camera.
    D : np.ndarray
        Derivatives of the projection by ``q``, in the same unit, shape (N, 2, 3).

    """
    z = np.where(front, q[:, 2], 1.0)
    x, y = q[:, 0] / z, q[:, 1] / z
    D = np.zeros((len(q), 2, 3))
    D[:, 0, 0] = D[:, 1, 1] = 1.0 / z
    D[:, 0, 2], D[:, 1, 2] = -x / z, -y / z
    error = np.where(front[:, None], seen - np.stack([x, y], 1), 0.0)
    return (roots @ error[:, :, None])[..., 0], roots @ D


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
