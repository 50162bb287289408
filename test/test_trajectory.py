# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Poses between poses, and labels that are no poses."""

import numpy as np
from small_recordings import POSES

from geo_perception.datasets.trajectory import (
    interpolate_poses, labels_from_matrices, labels_from_quaternions)
from geo_perception.geometry.se3 import interpolate_transform


def test_interpolation_equals_one_pose_at_a_time():
    stamps = np.array([0, 100, 200, 1000, 1100], np.int64)
    query = np.array([-1, 0, 30, 100, 199, 500, 1000, 1099, 1100, 1101], np.int64)
    poses, valid = interpolate_poses(stamps, POSES[:5], query, max_gap_ns=100)
    np.testing.assert_array_equal(valid, [0, 1, 1, 1, 1, 0, 1, 1, 1, 0])
    for q, T, ok in zip(query, poses, valid):
        i = int(np.searchsorted(stamps, q, 'right')) - 1
        if ok:
            j = min(i + 1, 4)
            alpha = (q - stamps[i]) / max(stamps[j] - stamps[i], 1)
            np.testing.assert_allclose(T, interpolate_transform(POSES[i], POSES[j], alpha),
                                       atol=1e-12)
    assert not interpolate_poses(stamps[:0], POSES[:0], query, 100)[1].any()


def test_labels_count_their_faults():
    quaternions = np.array([[1.0, 0, 0, 0], [0, 0, 0, 0], [0, 2, 0, 0], [np.inf, 0, 0, 0]])
    labels = labels_from_quaternions(np.zeros((4, 3)), quaternions, list('abcd'))
    np.testing.assert_array_equal(labels.valid, [True, False, True, False])
    np.testing.assert_allclose(labels.poses[2, :3, :3], np.diag([1.0, -1, -1]))
    assert [p for p in labels.problems if ' b ' in p and 'norm zero' in p]
    assert [p for p in labels.problems if ' c ' in p and '2.000' in p]
    assert [p for p in labels.problems if ' d ' in p and 'NaN' in p]
    matrices = np.stack([np.eye(4), -np.eye(4), np.full((4, 4), np.nan)])
    labels = labels_from_matrices(matrices, list('abc'))
    np.testing.assert_array_equal(labels.valid, [True, False, False])
    assert '2 of 3 poses' in labels.problems[0] and 'first: b' in labels.problems[0]
