# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How far short pieces of a trajectory are off, as SfMLearner's authors measure (sfmlearner.md 6.2).

A snippet is a few consecutive frames: poses ``T_first_frame`` in the camera of its first one.
"""

import numpy as np

from geo_perception.geometry import se3


def snippet_poses(T_frame_target):
    """
    Return the poses of a predicted snippet in its first frame.

    Parameters
    ----------
    T_frame_target : np.ndarray
        From the target to each frame in order of time, the identity for the target itself,
        shape (L, 4, 4).

    Returns
    -------
    np.ndarray
        ``T_first_frame``, shape (L, 4, 4).

    """
    return T_frame_target[0] @ se3.inverse_transform(T_frame_target)


def snippet_ate(points, truth):
    """
    Return the "ATE" of SfMLearner's authors, which is no RMSE: N stands outside the root.

    The first points are made to coincide and the scale is fitted.

    Parameters
    ----------
    points, truth : np.ndarray
        Positions in the first camera, shape (..., N, 3).

    Returns
    -------
    ate : np.ndarray
        Metres, shape (...); ``sqrt(N)`` times that is the RMSE.
    scale : np.ndarray
        Shape (...), 0 where the estimate does not move.

    """
    points, truth = points - points[..., :1, :], truth - truth[..., :1, :]
    squares = np.sum(points ** 2, axis=(-2, -1))
    scale = np.sum(truth * points, axis=(-2, -1)) / np.where(squares > 0, squares, 1.0)
    difference = scale[..., None, None] * points - truth
    return np.sqrt(np.sum(difference ** 2, axis=(-2, -1))) / truth.shape[-2], scale


def snippet_errors(T_estimate, T_truth, windows):
    """
    Return the errors of short pieces of a trajectory (the protocol of sfmlearner.md 6.2).

    Parameters
    ----------
    T_estimate, T_truth : np.ndarray
        Shape (N, 4, 4).
    windows : np.ndarray
        Indices of consecutive frames, shape (M, L).

    Returns
    -------
    ate : np.ndarray
        `snippet_ate`, metres, shape (M,).
    rotation : np.ndarray
        Mean angle between estimated and true orientation of the frames after the first, degrees,
        shape (M,).

    """
    return compare_snippets(*(se3.inverse_transform(T[windows[:, :1]]) @ T[windows]
                              for T in (T_estimate, T_truth)))


def compare_snippets(snippets, true):
    """
    Return the errors of snippets, each in its first camera (the protocol of sfmlearner.md 6.2).

    Parameters
    ----------
    snippets, true : np.ndarray
        ``T_first_frame``, shape (M, L, 4, 4).

    Returns
    -------
    ate, rotation : np.ndarray
        As of `snippet_errors`, shape (M,).

    """
    ate, _ = snippet_ate(snippets[..., :3, 3], true[..., :3, 3])
    rotation = se3.rotation_angle(snippets[:, 1:, :3, :3], true[:, 1:, :3, :3])
    return ate, np.degrees(rotation.mean(1))
