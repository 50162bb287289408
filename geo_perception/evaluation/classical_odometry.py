# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
What odometry has to beat: motion that never changes, and geometry without learning.

Neither knows how long a step is. The five-point method is given the length of every step by
whoever calls it, so that it is compared at the same scale.
"""

import cv2
import numpy as np

from geo_perception.evaluation.odometry import scaled, steps
from geo_perception.geometry import se3

# Corners that are followed from one image to the next.
FEATURES = 1500
CORNER_QUALITY = 0.005
# Of the shorter side of the image, between corners.
CORNER_DISTANCE = 0.015
# Pixels that a corner followed forth and back may be off.
LARGEST_ROUND_TRIP = 0.5
# Pixels that an inlier may be off its epipolar line.
EPIPOLAR_TOLERANCE = 0.5
# Correspondences that a relative pose is trusted with.
FEWEST_INLIERS = 20
# Steps: by default OpenCV ignores points farther than 50, all there are where steps are small.
FARTHEST = 1e6
# Of the width of the image: half of the corners move so far between references.
REFERENCE_FLOW = 0.008
# Pixels that half of the corners move at least while the camera moves.
SMALLEST_FLOW = 0.25


def constant_motion(stamps, T_truth):
    """
    Return the trajectory of a camera that always moves as it did on average.

    The mean odometry of the literature: the average is that of the *true* steps of this very
    recording, as velocity and rate of turn, so it knows more than any method may.

    Parameters
    ----------
    stamps : np.ndarray
        Nanoseconds, shape (N,).
    T_truth : np.ndarray
        ``T_world_camera``, shape (N, 4, 4), NaN where unknown.

    Returns
    -------
    np.ndarray
        ``T_odom_camera``, shape (N, 4, 4); the first pose is the identity.

    """
    seconds = np.diff(stamps) * 1e-9
    known = np.isfinite(T_truth).all((1, 2))
    usable = known[1:] & known[:-1] & (seconds > 0)
    T = np.tile(np.eye(4), (len(stamps), 1, 1))
    if not usable.any():
        return T
    motion = steps(T_truth)[usable]
    # Long steps count for as long as they last.
    total = seconds[usable].sum()
    velocity = motion[:, :3, 3].sum(0) / total
    rate = se3.rotation_vector_from_matrix(motion[:, :3, :3]).sum(0) / total
    for i, duration in enumerate(seconds):
        T[i + 1] = T[i] @ se3.make_transform(
            se3.matrix_from_rotation_vector(rate * duration), velocity * duration)
    return T


class FivePointOdometry:
    """
    Corners followed by Lucas-Kanade, essential matrix by five points, `cv2.recoverPose`.

    Every image is compared with a reference, which is replaced once half of the corners have
    moved far enough: neighbouring images are too alike to tell the direction of motion. Where
    too few corners agree the camera is said to have stayed, and the image is the new reference.
    """

    def __init__(self):
        self._reference = self._index = None
        self._count = 0

    def __call__(self, image, camera):
        """
        Return how the camera moved.

        Parameters
        ----------
        image : np.ndarray
            (H, W, 3) uint8 RGB.
        camera : Camera
            Of that image.

        Returns
        -------
        reference : int
            Number of the image that this one is compared with, counted from 0.
        motion : np.ndarray
            ``T_reference_current``, 4x4, of length 1 or 0.

        """
        grey, index = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), self._count
        self._count += 1
        if self._reference is None or self._reference.shape != grey.shape:
            self._take(grey, index)
            return max(index - 1, 0), np.eye(4)
        reference = self._index
        before, after = follow_corners(self._reference, grey)
        flow = np.median(np.linalg.norm(after - before, axis=1)) if len(after) else np.inf
        if flow < SMALLEST_FLOW:
            return reference, np.eye(4)
        motion = _relative_pose(before, after, camera)
        if motion is None:
            self._take(grey, index)
            return index - 1, np.eye(4)
        if flow > REFERENCE_FLOW * grey.shape[1]:
            self._take(grey, index)
        return reference, motion

    def _take(self, grey, index):
        self._reference, self._index = grey, index


def _relative_pose(before, after, camera):
    """Return ``T_before_after`` of length 1, or None where too few corners agree."""
    if len(after) < FEWEST_INLIERS:
        return None
    before, after = (_straight(points, camera) for points in (before, after))
    focal = np.sqrt(camera.K[0, 0] * camera.K[1, 1])
    # Plain RANSAC returns the model of five corners; this refines it with all that agree.
    E, inliers = cv2.findEssentialMat(before, after, np.eye(3), cv2.USAC_ACCURATE, 0.9999,
                                      EPIPOLAR_TOLERANCE / focal)
    if E is None or E.shape != (3, 3) or inliers.sum() < FEWEST_INLIERS:
        return None
    _, R, t, *_ = cv2.recoverPose(E, before, after, np.eye(3), distanceThresh=FARTHEST,
                                  mask=inliers)
    # OpenCV gives the points of the first camera in the second.
    return se3.inverse_transform(se3.make_transform(R, t[:, 0]))


def follow_corners(before, after):
    """
    Return corners of one image and where they are in the next.

    Parameters
    ----------
    before, after : np.ndarray
        Grey uint8, shape (H, W).

    Returns
    -------
    points_before, points_after : np.ndarray
        (x, y) pixels, float32, shape (M, 2).

    """
    corners = cv2.goodFeaturesToTrack(before, FEATURES, CORNER_QUALITY,
                                      max(3.0, CORNER_DISTANCE * min(before.shape)))
    if corners is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    window = {'winSize': (21, 21), 'maxLevel': 4}
    moved, there, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, **window)
    back, again, _ = cv2.calcOpticalFlowPyrLK(after, before, moved, None, **window)
    good = ((there[:, 0] == 1) & (again[:, 0] == 1)
            & (np.linalg.norm(back - corners, axis=-1)[:, 0] < LARGEST_ROUND_TRIP))
    return corners[good, 0], moved[good, 0]


def chain(references, motions, T_scale):
    """
    Return the trajectory of motions that know no length.

    Parameters
    ----------
    references : list of int
        Frame that each is compared with, an earlier one.
    motions : list of np.ndarray
        ``T_reference_current``, 4x4, of length 1 or 0.
    T_scale : np.ndarray
        Poses that lend the distance between both frames, shape (N, 4, 4), NaN where unknown: the
        motion has no length then.

    Returns
    -------
    np.ndarray
        ``T_odom_camera``, shape (N, 4, 4), NaN where ``T_scale`` is.

    """
    T = np.tile(np.eye(4), (len(motions), 1, 1))
    for i, (j, motion) in enumerate(zip(references, motions)):
        length = np.nan_to_num(np.linalg.norm(T_scale[i, :3, 3] - T_scale[j, :3, 3]))
        T[i] = T[j] @ scaled(motion, length) if i else np.eye(4)
    return np.where(np.isfinite(T_scale).all((1, 2))[:, None, None], T, np.nan)


def _straight(points, camera):
    """Return normalised image points without distortion, shape (M, 2)."""
    return (camera.undistort_pixels(points) - camera.K[:2, 2]) / np.diag(camera.K)[:2]
