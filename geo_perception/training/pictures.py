# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Pictures that a training shows in TensorBoard."""

import cv2
import numpy as np

SIZE, MARGIN = 320, 20
BLUE, GREY = (200, 90, 0), (120, 120, 120)   # BGR


def trajectory_picture(motions, true_motions, metres_per_unit=None):
    """
    Return the paths that chained motions describe, seen from above.

    Parameters
    ----------
    motions : np.ndarray
        ``T_previous_current`` of snippets that follow each other, units of the network, shape
        (N, 4, 4).
    true_motions : np.ndarray
        The same, metres, NaN where unknown; the true path is drawn where all are known.
    metres_per_unit : float, optional
        Scale of the predicted path, 1 where unknown.

    Returns
    -------
    np.ndarray
        uint8 BGR: blue is predicted, grey is true, the first camera looks up.

    """
    motions = motions.copy()
    motions[:, :3, 3] *= metres_per_unit or 1.0
    paths = [(_chain(motions), BLUE)]
    if np.isfinite(true_motions).all():
        paths.insert(0, (_chain(true_motions), GREY))
    points = np.concatenate([path for path, _ in paths])
    low, extent = points.min(0), max(np.ptp(points, 0).max(), 1e-9)
    picture = np.full((SIZE, SIZE, 3), 255, np.uint8)
    for path, colour in paths:
        x, y = ((path - low) * (SIZE - 2 * MARGIN) / extent + MARGIN).T
        corners = np.stack([x, SIZE - y], 1).round().astype(np.int32)
        cv2.polylines(picture, [corners], False, colour, 2, cv2.LINE_AA)
        cv2.circle(picture, corners[0].tolist(), 4, colour, -1, cv2.LINE_AA)
    return picture


def _chain(motions):
    """Return positions right and ahead of the first camera, shape (N + 1, 2)."""
    pose, positions = np.eye(4), [np.zeros(2)]
    for motion in motions:
        pose = pose @ motion
        positions.append(pose[[0, 2], 3])
    return np.array(positions)
