# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How far a trajectory is off: the whole, from frame to frame, and drift (sfmlearner.md 6.2).

Trajectories are poses ``T_world_camera``, shape (N, 4, 4), of the estimate in a world of its own.
"""

from dataclasses import dataclass

import numpy as np

from geo_perception.geometry import se3

# KITTI's lengths are 1 to 8 times this, metres.
KITTI_UNIT = 100.0
# Of a shorter path at least so many lengths shall fit.
FEWEST_LENGTHS = 3
# Metres that are the noise of a robot that stands, and no path.
STANDING = 0.01
# KITTI starts a segment at every tenth frame: a second.
KITTI_START_EVERY = 10


@dataclass(frozen=True)
class Alignment:
    """
    The similarity that brings an estimate closest to the truth.

    Attributes
    ----------
    scale : float
        Above zero.
    R : np.ndarray
        Rotation, shape (3, 3).
    t : np.ndarray
        Translation, metres, shape (3,).

    """

    scale: float
    R: np.ndarray
    t: np.ndarray

    def apply(self, T):
        """
        Return aligned poses.

        Parameters
        ----------
        T : np.ndarray
            Shape (..., 4, 4).

        Returns
        -------
        np.ndarray
            Same shape.

        """
        return se3.make_transform(self.R @ T[..., :3, :3],
                                  self.scale * T[..., :3, 3] @ self.R.T + self.t)


def fit_alignment(points, truth, with_scale):
    """
    Return the least-squares similarity or rigid transform between two point lists (Umeyama 1991).

    Parameters
    ----------
    points, truth : np.ndarray
        Estimated and true positions, metres, shape (N, 3).
    with_scale : bool
        Whether the scale is free; else it is 1.

    Returns
    -------
    Alignment
        Of scale 1 where the estimate does not move at all.

    """
    centre, true_centre = points.mean(0), truth.mean(0)
    p, g = points - centre, truth - true_centre
    U, D, Vt = np.linalg.svd(g.T @ p)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(U) * np.linalg.det(Vt))])
    R = (U * signs) @ Vt
    moved = np.sum(p ** 2)
    scale = float(D @ signs / moved) if with_scale and moved > 1e-12 else 1.0
    return Alignment(scale, R, true_centre - scale * R @ centre)


def absolute_errors(T_estimate, T_truth, with_scale):
    """
    Return the distance of every aligned position from the true one; its RMS is the ATE.

    Parameters
    ----------
    T_estimate, T_truth : np.ndarray
        Shape (N, 4, 4).
    with_scale : bool
        Sim(3), or SE(3).

    Returns
    -------
    np.ndarray
        Metres, shape (N,).

    """
    alignment = fit_alignment(T_estimate[:, :3, 3], T_truth[:, :3, 3], with_scale)
    return np.linalg.norm(alignment.apply(T_estimate)[:, :3, 3] - T_truth[:, :3, 3], axis=1)


def steps(T):
    """
    Return the motion from each frame to the next.

    Parameters
    ----------
    T : np.ndarray
        Poses, shape (N, 4, 4).

    Returns
    -------
    np.ndarray
        ``T_previous_current``, shape (N - 1, 4, 4).

    """
    return se3.inverse_transform(T[:-1]) @ T[1:]


def path_length(T):
    """
    Return the way along the positions.

    Parameters
    ----------
    T : np.ndarray
        Poses, metres, shape (N, 4, 4).

    Returns
    -------
    np.ndarray
        Metres from the start to each, shape (N,).

    """
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(T[:, :3, 3], axis=0),
                                                           axis=1))])


def motion_errors(motion, true_motion):
    """
    Return how far motions are off, independent of where they were made.

    Parameters
    ----------
    motion, true_motion : np.ndarray
        ``T_before_after``, shape (..., 4, 4).

    Returns
    -------
    translation : np.ndarray
        Metres, shape (...).
    rotation : np.ndarray
        Degrees, shape (...).

    """
    error = se3.inverse_transform(motion) @ true_motion
    return (np.linalg.norm(error[..., :3, 3], axis=-1),
            np.degrees(se3.rotation_angle(motion[..., :3, :3], true_motion[..., :3, :3])))


def segment_lengths(path):
    """
    Return over which lengths drift is measured, and how often a segment starts.

    On KITTI: 100, 200 ... 800 m, from every tenth frame. A path on which fewer than three of
    them fit is measured in tenths of that, or hundredths ..., from every frame. A robot that
    stands has no drift.

    Parameters
    ----------
    path : float
        Length of the true path, metres.

    Returns
    -------
    lengths : np.ndarray
        Metres, those that fit.
    start_every : int
        Frames.

    """
    unit = KITTI_UNIT
    while STANDING < path < FEWEST_LENGTHS * unit:
        unit /= 10.0
    lengths = np.round(unit * np.arange(1, 9), 9)
    return lengths[lengths < path], KITTI_START_EVERY if unit == KITTI_UNIT else 1


@dataclass(frozen=True)
class Drift:
    """
    KITTI's segment errors.

    Attributes
    ----------
    lengths : np.ndarray
        Of each segment, metres, shape (M,).
    translation : np.ndarray
        Error over length, shape (M,).
    rotation : np.ndarray
        Degrees per metre, shape (M,).

    """

    lengths: np.ndarray
    translation: np.ndarray
    rotation: np.ndarray

    def by_length(self):
        """
        Return means for each length that occurs.

        Returns
        -------
        list of tuple
            Length (m), error (percent), error (degrees per 100 m), segments.

        """
        rows = []
        for length in np.unique(self.lengths):
            chosen = self.lengths == length
            rows.append((float(length), 100 * float(self.translation[chosen].mean()),
                         100 * float(self.rotation[chosen].mean()), int(chosen.sum())))
        return rows


def segment_drift(T_estimate, T_truth, lengths, start_every):
    """
    Return how far the end of every segment is off when its start is right, as KITTI does.

    Parameters
    ----------
    T_estimate, T_truth : np.ndarray
        Shape (N, 4, 4).
    lengths : np.ndarray
        Of the segments, along the true path, metres.
    start_every : int
        Frames between starts.

    Returns
    -------
    Drift
        Empty where no length fits.

    """
    way, n = path_length(T_truth), len(T_truth)
    first = np.tile(np.arange(0, n, start_every), len(lengths))
    length = np.repeat(lengths, len(first) // max(len(lengths), 1))
    last = np.searchsorted(way, way[first] + length, side='right')
    fits = last < n
    first, last, length = first[fits], last[fits], length[fits]
    translation, rotation = motion_errors(
        se3.inverse_transform(T_estimate[first]) @ T_estimate[last],
        se3.inverse_transform(T_truth[first]) @ T_truth[last])
    return Drift(length, translation / length, rotation / length)


def scaled(T, scale):
    """
    Return poses with their translations multiplied.

    Parameters
    ----------
    T : np.ndarray
        Shape (..., 4, 4).
    scale : float
        Factor.

    Returns
    -------
    np.ndarray
        Same shape.

    """
    return se3.make_transform(T[..., :3, :3], scale * T[..., :3, 3])


def step_ratios(T_estimate, T_truth, windows=40):
    """
    Return how many times longer the true way is than the estimated one, along the recording.

    Parameters
    ----------
    T_estimate, T_truth : np.ndarray
        Shape (N, 4, 4).
    windows : int
        Pieces that the way is cut into; single steps are too noisy.

    Returns
    -------
    middle : np.ndarray
        Index of the middle frame of each piece, shape (M,).
    ratio : np.ndarray
        Shape (M,), NaN where the estimate does not move.

    """
    true, said = path_length(T_truth), path_length(T_estimate)
    ends = np.unique(np.searchsorted(true, np.linspace(0, true[-1], windows + 1)))
    length = np.diff(said[ends])
    ratio = np.diff(true[ends]) / np.where(length > 0, length, np.nan)
    return (ends[1:] + ends[:-1]) // 2, ratio
