# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Errors of snippets: published numbers, a second implementation, invariances."""

import numpy as np
import pytest
import torch

from geo_perception.evaluation.snippet_errors import snippet_ate, snippet_errors, snippet_poses
from geo_perception.geometry import se3
from geo_perception.geometry.projection import pose_vector_to_matrix


def wandering(seed):
    """Return twelve poses of a way that turns at random, shape (12, 4, 4)."""
    rng = np.random.default_rng(seed)
    T = [np.eye(4)]
    for turn in rng.normal(scale=0.05, size=(11, 3)):
        T.append(T[-1] @ se3.make_transform(se3.matrix_from_rotation_vector(turn),
                                            [0, 0, 1] + rng.normal(scale=0.1, size=3)))
    return np.stack(T)


def windows(n, length):
    """Return all windows of consecutive frames."""
    return np.arange(n - length + 1)[:, None] + np.arange(length)


def test_published_snippet_ate():
    """The check of sfmlearner.md section 6.2 step 4."""
    truth = np.array([(0, 0, 0), (.1, -.02, .9), (.25, -.03, 1.85), (.45, -.05, 2.75),
                      (.7, -.06, 3.6)])
    points = np.array([(0, 0, 0), (.002, -.0005, .018), (.006, -.0004, .036),
                       (.010, -.001, .055), (.013, -.0015, .073)])
    ate, scale = snippet_ate(points, truth)
    assert (ate, scale) == (pytest.approx(0.022319, abs=1e-6), pytest.approx(49.803532, abs=1e-5))
    again, _ = snippet_ate(points + 7.0, truth - 3.0)
    assert again == pytest.approx(ate)
    rmse = np.sqrt(np.mean(np.sum((scale * points - truth) ** 2, 1)))
    assert rmse == pytest.approx(np.sqrt(5) * ate)


def test_published_snippet_poses():
    """The check of sfmlearner.md section 6.2 step 2."""
    vectors = torch.tensor([(0.02, -0.01, 0.30, 0.001, 0.02, -0.003),
                            (0.01, -0.005, 0.15, 0.0005, 0.01, -0.001), (0.0,) * 6,
                            (-0.01, 0.004, -0.16, -0.0004, -0.011, 0.002),
                            (-0.02, 0.008, -0.31, -0.001, -0.021, 0.003)], dtype=torch.float64)
    positions = snippet_poses(pose_vector_to_matrix(vectors).numpy())[:, :3, 3]
    assert positions == pytest.approx(np.array([
        (0, 0, 0), (0.008510, -0.004908, 0.150110), (0.02, -0.01, 0.30),
        (0.034934, -0.014282, 0.459608), (0.052639, -0.018778, 0.608904)]), abs=1e-6)


def test_standing_snippet_has_the_error_of_not_moving():
    """An estimate that stays is no division by zero."""
    truth = np.cumsum(np.ones((3, 3)), 0)
    ate, scale = snippet_ate(np.zeros((3, 3)), truth)
    assert scale == 0 and ate == pytest.approx(np.sqrt(3 + 12) / 3)


def test_snippets_are_cut_out_right():
    """As the published script does it: one snippet after the other, in its first camera."""
    T, noisy = wandering(1), wandering(2)
    ate, rotation = snippet_errors(noisy, T, windows(len(T), 5))
    for i in range(8):
        true, said = (np.linalg.inv(P[i]) @ P[i:i + 5] for P in (T, noisy))
        truth, points = true[:, :3, 3], said[:, :3, 3]
        scale = np.sum(truth * points) / np.sum(points ** 2)
        assert ate[i] == pytest.approx(np.sqrt(np.sum((scale * points - truth) ** 2)) / 5)
        angles = [np.degrees(np.arccos((np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2))
                  for a, b in zip(said[1:], true[1:])]
        assert rotation[i] == pytest.approx(np.mean(angles))
    assert len(ate) == 8 and rotation.min() > 1


def test_rigid_motion_of_the_world_changes_nothing():
    """Neither the frame of the estimate nor that of the truth matters, nor the unit."""
    T, noisy, (A, B) = wandering(1), wandering(2), wandering(3)[-2:]
    before = snippet_errors(noisy, T, windows(len(T), 5))
    moved = A @ noisy
    moved[:, :3, 3] *= 0.02
    assert np.array(snippet_errors(moved, B @ T, windows(len(T), 5))) == pytest.approx(
        np.array(before))
