# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Check whether the poses of a recording turn the way its images do."""

from dataclasses import replace

import cv2
import numpy as np

from geo_perception.datasets.pose_checks import check_poses
from geo_perception.errors import ImageError, RecordingError
from geo_perception.geometry.se3 import R_BODY_OPTICAL, rotation_angle

_DEGREE = np.pi / 180
# Enough to tell from noise, not so much that the views no longer overlap.
_MIN_TURN, _MAX_TURN = 4 * _DEGREE, 15 * _DEGREE
_MAX_FRAMES_APART = 60
_MIN_MATCHES = 40
_MIN_PAIRS = 4
_WIDTH = 640

_SENTENCES = {
    'world_to_camera': 'the rotations look like world-to-camera, camera-to-world is expected: '
                       'invert the poses, or only their quaternions if the positions are right',
    'body_frame': 'these look like poses of the robot body (x forward, z up) and not of the '
                  'optical frame (z forward, y down); for a bag set pose_frame to the body frame, '
                  'e.g. base_link'}


def check_recording(sequence, pairs=8):
    """
    Check the poses of a recording by themselves and against its images.

    Parameters
    ----------
    sequence : Sequence
        Recording with poses, frames in the order of time.
    pairs : int
        How many pairs of images to compare; about 0.3 s each.

    Returns
    -------
    PoseReport
        With the finding of the images, where they contradict the poses.

    Raises
    ------
    PoseError
        When no pose can be used.

    """
    names = [f'frame {i}' for i in range(len(sequence))]
    report = check_poses(sequence.poses, names)
    if report.suspicion:
        return report
    suspicion, finding = compare_with_images(sequence, report.valid, pairs)
    if suspicion is None:
        return report
    return replace(report, suspicion=suspicion, findings=[*report.findings, finding])


def compare_with_images(sequence, valid=None, pairs=8):
    """
    Compare how the poses turn with how matched features turn (essential matrix).

    Unlike gravity and motion this tells whichever way the world frame lies: a rotation taken the
    wrong way round turns against the images.

    Parameters
    ----------
    sequence : Sequence
        Recording with poses, frames in the order of time.
    valid : np.ndarray, optional
        (N,) bool, poses that may be used.
    pairs : int
        How many pairs of images to compare.

    Returns
    -------
    suspicion : str or None
        ``world_to_camera`` or ``body_frame``; None when the images agree or do not tell.
    finding : str or None
        One sentence.

    """
    R = sequence.poses[:, :3, :3]
    errors = {name: [] for name in ('as given', *_SENTENCES)}
    for i, j in _turning_pairs(R, valid):
        if len(errors['as given']) >= pairs:
            break
        try:
            seen = _rotation_between(sequence[i], sequence[j])
        except (ImageError, RecordingError):
            continue   # Others tell as much.
        if seen is None:
            continue
        # All map directions of camera i to camera j.
        given = R[j].T @ R[i]
        readings = {'as given': given, 'world_to_camera': R[j] @ R[i].T,
                    'body_frame': R_BODY_OPTICAL.T @ given @ R_BODY_OPTICAL}
        for name, rotation in readings.items():
            errors[name].append(float(rotation_angle(rotation, seen)))
    if len(errors['as given']) < _MIN_PAIRS:
        return None, None
    medians = {name: float(np.median(values)) for name, values in errors.items()}
    best = min(medians, key=medians.get)
    if medians[best] < 2.5 * _DEGREE and medians[best] < 0.5 * medians['as given']:
        return best, (f'the images turn otherwise than the poses (by '
                      f'{medians["as given"] / _DEGREE:.1f} deg in the median of '
                      f'{len(errors[best])} pairs, only {medians[best] / _DEGREE:.1f} deg with '
                      f'the other reading): {_SENTENCES[best]}')
    return None, None


def _turning_pairs(R, valid):
    """Return (i, j) of neighbouring frames between which the camera turned, in mixed order."""
    valid = np.ones(len(R), bool) if valid is None else valid
    found = []
    for i in np.unique(np.linspace(0, len(R) - 1, 60).astype(int)):
        later = np.arange(i + 1, min(i + 1 + _MAX_FRAMES_APART, len(R)))
        if not valid[i] or not len(later):
            continue
        turn = rotation_angle(R[i], R[later])
        good = later[(turn > _MIN_TURN) & (turn < _MAX_TURN) & valid[later]]
        if len(good):
            found.append((int(i), int(good[0])))
    order = np.random.default_rng(0).permutation(len(found))
    return [found[k] for k in order]


def _rotation_between(a, b):
    """Return the rotation from camera a to camera b that their features tell, or None."""
    (points_a, words_a, K), (points_b, words_b, _) = _features(a), _features(b)
    if words_a is None or words_b is None or len(words_b) < 2:
        return None
    matches = [pair[0] for pair in cv2.BFMatcher().knnMatch(words_a, words_b, k=2)
               if pair[0].distance < 0.8 * pair[1].distance]
    if len(matches) < _MIN_MATCHES:
        return None
    points_a = np.array([points_a[m.queryIdx].pt for m in matches])
    points_b = np.array([points_b[m.trainIdx].pt for m in matches])
    rotation = _pure_rotation(points_a, points_b, K)
    return _general_rotation(points_a, points_b, K) if rotation is None else rotation


def _pure_rotation(points_a, points_b, K):
    """Return the rotation if it explains the points by itself; E is not defined then."""
    H, inliers = cv2.findHomography(points_a, points_b, cv2.RANSAC, 2.0)
    if H is None or inliers.mean() < 0.8:
        return None
    M = np.linalg.solve(K, H @ K)
    M = M / np.cbrt(np.linalg.det(M))
    U, _, Vt = np.linalg.svd(M)
    rotation = U @ Vt
    return rotation if np.abs(M - rotation).max() < 0.02 else None


def _general_rotation(points_a, points_b, K):
    """Return the rotation of the essential matrix."""
    E, inliers = cv2.findEssentialMat(points_a, points_b, K, cv2.RANSAC, 0.999, 1.0)
    if E is None or E.shape != (3, 3):
        return None
    count, rotation, _, _ = cv2.recoverPose(E, points_a, points_b, K, mask=inliers)
    return rotation if count >= _MIN_MATCHES // 2 else None


def _features(frame):
    """Return (key points, descriptors, K) of an image of at most 640 columns."""
    height, width = frame.image.shape[:2]
    scale = min(1.0, _WIDTH / width)
    grey = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, (round(width * scale), round(height * scale)),
                      interpolation=cv2.INTER_AREA)
    if frame.camera is not None:
        K = frame.camera.resized(grey.shape[1], grey.shape[0]).K
    else:
        # A lens of 60 degrees: far enough from right to tell a rotation from its inverse.
        f = 0.87 * max(grey.shape)
        K = np.array([[f, 0, grey.shape[1] / 2], [0, f, grey.shape[0] / 2], [0, 0, 1]])
    points, words = cv2.SIFT_create(nfeatures=800).detectAndCompute(grey, None)
    return points, words, K
