# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Drift of a chain of motions: what is shared grows with the way, what is not with its root."""

import numpy as np
import pytest

from geo_perception.geometry.se3 import make_transform, matrix_from_rotation_vector
from geo_perception.inference.motion_uncertainty import MotionCalibration
from geo_perception.inference.odometry_drift import common_root, Drift, scale_root


def test_common_part_of_a_covariance():
    """Root and rest make up the whole; the rest is positive for any part."""
    motion = make_transform(np.eye(3), [0.1, 0.2, -0.3])
    for part in (0.0, 0.3, 0.95):
        law = MotionCalibration(common_translation=part, common_rotation=part)
        covariance = law.covariance(motion, 0.1, 0.1)
        root = common_root(law, covariance, np.zeros(6))
        assert np.allclose(root @ root.T, part * covariance)
        start = Drift.none()
        drift = start.after(np.eye(4), motion, covariance, root)
        assert np.allclose(drift.covariance, covariance)
        # Ten motions straight ahead: independent errors grow as the root, common ones as the way.
        for _ in range(9):
            drift = drift.after(np.eye(4), motion, covariance, root)
        assert drift.covariance[4, 4] == pytest.approx(
            covariance[4, 4] * (10 * (1 - part) + 100 * part))
        # Of errors of rotation the end is off, too, so that both are correlated.
        factors = [2.0] * 3 + [1.0] * 3
        assert np.allclose(drift.scaled(2.0).covariance,
                           np.outer(factors, factors) * drift.covariance)


def test_drift_after_a_turn_by_hand():
    """Facing y, unsure of the yaw: two ahead, the end is off along x, by how far ahead along y."""
    T = make_transform(matrix_from_rotation_vector([0, 0, np.pi / 2]), [5, 0, 0])
    ahead = make_transform(np.eye(3), [2, 0, 0])
    own, none = np.diag([0.5, 0, 0, 0, 0, 0]), np.zeros((6, 7))
    shared, yaw = none.copy(), none.copy()
    shared[0, 0], yaw[5, 5] = 0.5, 0.1
    x_y_yaw = np.ix_([0, 1, 5], [0, 1, 5])
    for start in (Drift(yaw @ yaw.T, none), Drift(np.zeros((6, 6)), yaw)):
        drift = start.after(T, ahead, own, shared)
        assert np.allclose(drift.covariance[x_y_yaw],
                           [[0.04, 0, -0.02], [0, 0.5, 0], [-0.02, 0, 0.01]])


def test_an_error_of_the_scale_is_one_for_all_motions():
    """Ten ahead: a tenth of the way. Back again: nothing. Then to the side: both go together."""
    law = MotionCalibration(common_translation=0.0, common_rotation=0.0)
    drift, T, stated = Drift.none(), np.eye(4), []
    for step in [[0.0, 0.0, 0.5]] * 10 + [[0.0, 0.0, -0.5]] * 10 + [[0.3, 0.0, 0.4]] * 10:
        motion = make_transform(np.eye(3), np.array(step))
        own, of_scale = 1e-9 * np.eye(6), scale_root(motion, 0.1)
        drift = drift.after(T, motion, own + np.outer(of_scale, of_scale),
                            common_root(law, own, of_scale))
        T = T @ motion
        stated.append(drift.covariance[:3, :3])
    way = 0.1 * np.array([3.0, 0.0, 4.0])
    assert np.allclose(stated[9], np.diag([0, 0, 0.25]), atol=1e-6)
    assert np.allclose(stated[19], 0, atol=1e-6)
    assert np.allclose(stated[29], np.outer(way, way), atol=1e-6)
