# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Check whether the poses of a recording are fit to train on.

Broken labels ruin training, and labels in the wrong convention train well and localize nonsense:
errors computed in label space do not reveal them (posenet.md section 10 number 4). Cameras are
mostly held upright, so that their right axes lie in the horizontal plane and their down axes
point down; and what carries them mostly moves one way as the camera sees it.
"""

from dataclasses import dataclass, field
from typing import List, Optional

import numpy as np

from geo_perception.datasets.trajectory import labels_from_matrices
from geo_perception.errors import PoseError
from geo_perception.geometry.se3 import inverse_transform, make_transform

_OUTLIER_FACTOR = 10.0
# Mean cosine between the cameras' down axes and gravity: upright, and not at all.
_UPRIGHT, _NOT_UPRIGHT = 0.7, 0.3
# Length of the mean direction of motion in the camera: 1 for a car, about 0.3 hand-held.
_ONE_WAY = 0.8
_MIN_POSES = 10


@dataclass(frozen=True)
class PoseReport:
    """
    What the poses of a recording look like.

    Attributes
    ----------
    valid : np.ndarray
        (N,) bool: False for poses that must not be used.
    gravity_in_world : np.ndarray, optional
        Unit vector that points down in the world frame, shape (3,); None where the cameras do not
        tell, as when they look straight down.
    suspicion : str, optional
        ``world_to_camera`` (the whole matrix is inverted), ``rotation_world_to_camera`` (the
        position is right, as when Cambridge quaternions are taken for camera-to-world) or
        ``body_frame`` (x forward, z up instead of the optical axes).
    findings : list of str
        One sentence for a person each; empty when all is well.

    """

    valid: np.ndarray = field(repr=False)
    gravity_in_world: Optional[np.ndarray]
    suspicion: Optional[str]
    findings: List[str]


def check_poses(poses, names=None):
    """
    Check camera-to-world poses for broken entries and for a wrong convention.

    Parameters
    ----------
    poses : np.ndarray
        ``T_world_camera``, metres, shape (N, 4, 4).
    names : sequence of str, optional
        What each pose is called in findings.

    Returns
    -------
    PoseReport

    Raises
    ------
    PoseError
        When the array has another shape or no pose can be used.

    """
    poses = np.asarray(poses, float)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not len(poses):
        raise PoseError(f'poses must have shape (N, 4, 4) with N > 0, these have {poses.shape}')
    names = [f'frame {i}' for i in range(len(poses))] if names is None else names
    labels = labels_from_matrices(poses, names)
    findings = list(labels.problems)
    valid = labels.valid.copy()
    if not valid.any():
        raise PoseError(f'no pose can be used: {findings[0]}')
    findings += _remove_outliers(labels.poses, valid, names)
    good = labels.poses[valid]
    gravity = suspicion = None
    if len(good) >= _MIN_POSES:
        gravity = estimate_gravity(good)
        suspicion, finding = _suspect(good)
        findings += [finding] if finding else []
    return PoseReport(valid, gravity, suspicion, findings)


def estimate_gravity(poses):
    """
    Return the direction of gravity, assuming that cameras are held upright.

    It is the direction that the right axes r avoid, the eigenvector of the smallest eigenvalue of
    sum r r^T, with the sign of the mean down axis (posenet.md section 12.4). Where the camera
    hardly turns that direction is not defined, and the mean down axis is taken.

    Parameters
    ----------
    poses : np.ndarray
        ``T_world_camera``, shape (N, 4, 4).

    Returns
    -------
    np.ndarray or None
        Unit vector in the world frame, shape (3,); None when the cameras are not upright.

    """
    gravity, upright = _gravity(poses[:, :3, :3])
    return gravity if upright > _NOT_UPRIGHT else None


def _remove_outliers(poses, valid, names):
    """Clear ``valid`` for positions out of all proportion; return the findings."""
    positions = poses[:, :3, 3]
    radius = np.linalg.norm(positions - np.median(positions[valid], axis=0), axis=1)
    # The lower neighbour, so that a single outlier among few poses does not set its own limit.
    limit = _OUTLIER_FACTOR * np.percentile(radius[valid], 99, method='lower')
    out = valid & (radius > limit) & (limit > 0)
    if not out.any():
        return []
    worst = int(np.argmax(np.where(out, radius, 0)))
    valid &= ~out
    return [f'{np.sum(out)} of {len(out)} poses lie more than {limit:.4g} m from the others and '
            f'are left out (farthest: {names[worst]} at {radius[worst]:.4g} m)']


def _gravity(R):
    """Return (gravity, mean cosine of the down axes with it) for camera-to-world rotations."""
    right, down = R[:, :, 0], R[:, :, 1]
    values, vectors = np.linalg.eigh(right.T @ right / len(right))
    gravity = vectors[:, 0]
    mean_down = down.mean(axis=0)
    # The second eigenvalue is the mean squared sine of the turning about gravity.
    if values[1] < 0.02 and np.linalg.norm(mean_down) > _UPRIGHT:
        gravity = mean_down / np.linalg.norm(mean_down)
    if mean_down @ gravity < 0:
        gravity = -gravity
    return gravity, float(np.mean(down @ gravity))


def _motion(poses):
    """Return (mean unit direction of motion in the camera, length of the path)."""
    positions = poses[:, :3, 3]
    extent = np.linalg.norm(np.ptp(positions, axis=0))
    # Steps of a hundredth of the extent, so that jitter of a standing camera does not count.
    kept = [0]
    for i in range(1, len(positions)):
        if np.linalg.norm(positions[i] - positions[kept[-1]]) > 0.01 * extent:
            kept.append(i)
    steps = np.diff(positions[kept], axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    if len(lengths) < _MIN_POSES:
        return np.zeros(3), float(lengths.sum())
    # Seen half way, as the camera may have turned meanwhile.
    seen = [np.einsum('nji,nj->ni', poses[k, :3, :3], steps / lengths[:, None])
            for k in (kept[:-1], kept[1:])]
    return np.mean(seen, axis=(0, 1)), float(lengths.sum())


def _suspect(poses):
    """Return (kind of wrong convention, sentence), or (None, None)."""
    inverse = inverse_transform(poses)
    readings = {
        'world_to_camera': inverse,
        'rotation_world_to_camera': make_transform(inverse[:, :3, :3], poses[:, :3, 3])}
    # What each name says should be done.
    remedies = {'world_to_camera': 'invert the poses',
                'rotation_world_to_camera': 'invert the quaternions, not the positions (for a '
                                            'label list set quaternion to the other convention)'}
    _, upright = _gravity(poses[:, :3, :3])
    _, upright_inverse = _gravity(inverse[:, :3, :3])
    direction, path = _motion(poses)
    motions = {name: _motion(reading) for name, reading in readings.items()}
    one_way = {name: np.linalg.norm(motion) for name, (motion, _) in motions.items()}
    best = max(one_way, key=one_way.get)
    if motions['world_to_camera'][1] < 0.8 * path:
        # Inverting a turning camera's poses adds motion about the origin.
        best = 'world_to_camera'

    if upright < _NOT_UPRIGHT and upright_inverse > _UPRIGHT:
        return best, ('the poses look like world-to-camera, camera-to-world is expected: the '
                      f'cameras stand upright only if inverted (mean cosine with gravity '
                      f'{upright_inverse:.2f} instead of {upright:.2f}); {remedies[best]}')
    forward = np.linalg.norm(poses[:, :3, 2].mean(axis=0))
    if upright < _NOT_UPRIGHT and forward > 0.95:
        return 'body_frame', (
            'every camera looks straight up or down (its z axis hardly moves): unless it does, '
            'these are poses of the robot body (x forward, z up) and not of the optical frame '
            '(z forward, y down); for a bag set pose_frame to the body frame, e.g. base_link')
    # Where the world has the axes of a camera, being upright tells nothing, but motion does;
    # unless the other reading is the longer path, or the camera never turned.
    spread = 1 - np.linalg.norm(direction)
    tighter = spread > 0.02 and 1 - one_way[best] < 0.5 * spread
    if one_way[best] > _ONE_WAY and tighter and motions[best][1] <= 1.05 * path:
        return best, ('the poses look like world-to-camera, camera-to-world is expected: the '
                      'camera moves one way in its own view only if they are inverted (mean '
                      f'direction {one_way[best]:.2f} instead of '
                      f'{np.linalg.norm(direction):.2f}); {remedies[best]}')
    return None, None
