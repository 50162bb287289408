# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Where everything of a run lies on one map: truth, fixes and odometry."""

from dataclasses import dataclass

import numpy as np

from geo_perception.evaluation.geometry_score import compared_frames
from geo_perception.evaluation.odometry import Alignment, fit_alignment
from geo_perception.geometry import se3

# 95 % of a normal distribution of two dimensions are within the root of this.
CHI2_2_95 = 5.991


def view_axes(T):
    """
    Return which world axes to draw so that a picture is seen from above, not mirrored.

    Worlds that a camera was tracked in often have y down instead of z up; cameras are mostly
    held level, so their mean "down" tells.

    Parameters
    ----------
    T : np.ndarray
        ``T_world_camera``, shape (N, 4, 4).

    Returns
    -------
    right, upward, height : int
        Axis drawn to the right, axis drawn upwards, and the vertical axis, 0..2.
    sign : int
        1 when the vertical axis points up, -1 when it points down.

    """
    down = T[:, :3, 1].mean(0)
    height = int(np.argmax(np.abs(down)))
    sign = -1 if down[height] > 0 else 1
    first, second = (height + 1) % 3, (height + 2) % 3
    return (first, second, height, sign) if sign > 0 else (second, first, height, sign)


@dataclass(frozen=True)
class RunMap:
    """
    Positions of a run in one frame, frame by frame; NaN where unknown.

    Attributes
    ----------
    axes : tuple of int
        The axis drawn to the right and the one drawn upwards, see `view_axes`.
    truth, fixes, odometry : np.ndarray
        Metres, shape (N, 3). Of the fixes only the answered ones.
    refused : np.ndarray
        Bool, shape (N,): a fix was refused.
    refused_at : np.ndarray
        Where that was, as well as it is known, shape (N, 3).
    dropped, reset : np.ndarray
        Bool, shape (N,): nobody looked at the frame; odometry started anew.
    fix_covariance, odometry_covariance : np.ndarray
        Stated for the positions, metres squared, shape (N, 3, 3).
    laid : str
        How the odometry was laid on the map, for people; empty without odometry.

    """

    axes: tuple
    truth: np.ndarray
    fixes: np.ndarray
    odometry: np.ndarray
    refused: np.ndarray
    refused_at: np.ndarray
    dropped: np.ndarray
    reset: np.ndarray
    fix_covariance: np.ndarray
    odometry_covariance: np.ndarray
    laid: str

    @property
    def empty(self):
        """Whether there is nothing to draw."""
        return not any(np.isfinite(points).all(1).any()
                       for points in (self.truth, self.fixes, self.odometry))


def run_map(run):
    """
    Lay everything of a run on one map.

    It is that of the relocalizer, where there is one. Odometry has its own frame: it begins where
    the camera truly was, or, where nobody knows that, lies over the fixes as well as it fits.

    Parameters
    ----------
    run : Run
        After the run.

    Returns
    -------
    RunMap
        One row a frame of ``run.stamps``.

    """
    n = len(run.stamps)
    result, recording = run.relocalization, run.geometry
    unknown = np.full((n, 4, 4), np.nan)
    T_truth = unknown if recording is None else recording.T_truth
    T_fix, fix_covariance = unknown, np.full((n, 3, 3), np.nan)
    refused, dropped, refused_at = np.zeros(n, bool), np.zeros(n, bool), np.full((n, 3), np.nan)
    if result is not None:
        rows = _rows(result.stamps, run.stamps)
        T_truth = _shared_truth(_taken(result.T_truth, rows), T_truth)
        answered = _taken(result.accepted, rows, False)
        processed = _taken(result.processed, rows, False)
        T_estimate = _taken(result.T_estimate, rows)
        T_fix = np.where(answered[:, None, None], T_estimate, np.nan)
        fix_covariance = _taken(result.covariance, rows)[:, :3, :3]
        refused, dropped = processed & ~answered, ~processed
        refused_at = np.where(np.isfinite(T_truth[:, :3, 3]), T_truth[:, :3, 3],
                              T_estimate[:, :3, 3])
    odometry, covariance = np.full((n, 3), np.nan), np.full((n, 3, 3), np.nan)
    reset, laid = np.zeros(n, bool), ''
    if recording is not None:
        alignment, laid = _alignment(recording, T_truth, T_fix)
        odometry = alignment.apply(recording.T_odom_camera)[:, :3, 3]
        scaled = alignment.scale * alignment.R
        covariance = scaled @ recording.pose_covariance[:, :3, :3] @ scaled.T
        reset = np.array([bool(sentence) for sentence in recording.resets])
        dropped = dropped | ~recording.processed
    known = T_truth[np.isfinite(T_truth).all((1, 2))]
    if not len(known):
        known = T_fix[np.isfinite(T_fix).all((1, 2))]
    if not len(known) and recording is not None:
        known = recording.T_odom_camera[np.isfinite(recording.T_odom_camera).all((1, 2))]
    axes = view_axes(known)[:2] if len(known) else (0, 1)
    return RunMap(axes, T_truth[:, :3, 3], T_fix[:, :3, 3], odometry, refused, refused_at, dropped,
                  reset, fix_covariance, covariance, laid)


def ellipse(covariance, axes):
    """
    Return the 95 % ellipse of a position, seen from above.

    Parameters
    ----------
    covariance : np.ndarray
        Metres squared, shape (3, 3).
    axes : tuple of int
        The two that are seen.

    Returns
    -------
    tuple of float or None
        Half axes in metres, the longer first, and the angle of the longer one, degrees
        counter-clockwise from the first axis; None where the covariance is none.

    """
    block = covariance[np.ix_(axes, axes)]
    if not np.isfinite(block).all():
        return None
    values, vectors = np.linalg.eigh(block)
    if not values[0] > 0:
        return None
    a, b = np.sqrt(CHI2_2_95 * values[::-1])
    return float(a), float(b), float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))


def _rows(stamps, wanted):
    """Return the row of each wanted stamp, -1 where there is none."""
    row = {stamp: i for i, stamp in enumerate(stamps.tolist())}
    return np.array([row.get(stamp, -1) for stamp in wanted.tolist()])


def _taken(values, rows, missing=np.nan):
    there = (rows >= 0).reshape(-1, *[1] * (values.ndim - 1))
    return np.where(there, values[rows], missing)


def _shared_truth(T_map, T_world):
    """Return the true poses in the frame of the relocalizer, from both results."""
    both = np.isfinite(T_map).all((1, 2)) & np.isfinite(T_world).all((1, 2))
    if not both.any():
        return np.where(np.isfinite(T_map).all((1, 2), keepdims=True), T_map,
                        T_world if not np.isfinite(T_map).any() else np.nan)
    i = int(np.flatnonzero(both)[0])
    moved = T_map[i] @ se3.inverse_transform(T_world[i]) @ T_world
    return np.where(np.isfinite(T_map).all((1, 2), keepdims=True), T_map, moved)


def _alignment(recording, T_truth, T_fix):
    """Return how odometry is brought on the map, and that in words."""
    used, metric = compared_frames(recording, recording.T_odom_camera)
    scaled = '' if metric else ', with one scale for all of it, for it has no unit of its own'
    if len(used) >= 2:
        T, truth = recording.T_odom_camera[used], T_truth[used]
        scale = 1.0 if metric else fit_alignment(T[:, :3, 3], truth[:, :3, 3], True).scale
        R = truth[0, :3, :3] @ T[0, :3, :3].T
        return (Alignment(scale, R, truth[0, :3, 3] - scale * R @ T[0, :3, 3]),
                f'Odometry begins where the camera truly was{scaled}.')
    metric = bool(recording.metric.any())
    scaled = '' if metric else ' and a scale that fits'
    answered = np.isfinite(recording.T_odom_camera).all((1, 2))
    both = answered & np.isfinite(T_fix).all((1, 2))
    if both.sum() >= 3:
        return (fit_alignment(recording.T_odom_camera[both, :3, 3], T_fix[both, :3, 3],
                              not metric),
                f'Odometry is aligned with the fixes{scaled}.')
    return Alignment(1.0, np.eye(3), np.zeros(3)), (
        'Odometry is in its own frame, which begins with the camera'
        f"{'' if metric else '; it has no unit'}.")
