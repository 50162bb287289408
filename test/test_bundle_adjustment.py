# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Frames and points are fitted to what was seen; what leaves the window is not forgotten."""

from dataclasses import replace

import numpy as np
import pytest

from geo_perception.geometry.bundle_adjustment import (
    adjust, moved, Prior, Window, without_oldest)
from geo_perception.geometry.se3 import (
    inverse_transform, make_transform, matrix_from_rotation_vector, transform_points)

FOCAL = 200.0


def window(frames=5, points=120, noise=0.0, factors=None):
    """Return a window in which all is true, but for noise (pixels) and factors of the depth."""
    random = np.random.default_rng(0)
    turns = np.concatenate([np.zeros((1, 3)), random.normal(0, 0.03, (frames - 1, 3))])
    way = np.arange(frames)[:, None] * [0.1, 0.0, 0.05]
    T = make_transform(matrix_from_rotation_vector(turns), way)
    host = np.sort(random.integers(0, frames - 2, points))
    rays, inverse = random.uniform(-0.6, 0.6, (points, 2)), 1 / random.uniform(1, 5, points)
    seen, network = np.full((points, frames, 2), np.nan), np.full((points, frames), np.nan)
    in_host = np.concatenate([rays, np.ones((points, 1))], 1) / inverse[:, None]
    world = np.array([transform_points(T[h], p[None])[0] for h, p in zip(host, in_host)])
    for k in range(frames):
        p = transform_points(inverse_transform(T[k]), world)
        visible = host <= k
        seen[visible, k] = (p[:, :2] / p[:, 2:])[visible]
        network[visible, k] = 1 / p[visible, 2]
        if factors is not None:
            network[:, k] *= factors[k]
    error = random.normal(0, noise / FOCAL, seen.shape)
    error[np.arange(points), host] = 0.0
    return Window(T, np.zeros(frames), host, rays, inverse,
                  np.tile(FOCAL / 0.3 * np.eye(2), (points, 1, 1)), seen + error, network,
                  replace(Prior.origin(T[0]), H=np.pad(Prior.origin(T[0]).H,
                                                       (0, 7 * (frames - 1))),
                          b=np.zeros(7 * frames), T=T, factors=np.zeros(frames)))


def disturbed(true):
    """Return a window whose frames, but for the first, and points are off."""
    random = np.random.default_rng(1)
    step = random.normal(0, 0.02, (len(true.T), 6))
    step[0] = 0
    return replace(true, T=moved(true.T, step), inverse_depths=true.inverse_depths * np.exp(
        random.normal(0, 0.1, len(true.host))))


def test_truth_is_found():
    """From 2 cm, 1 degree and a tenth of the depth away."""
    true = window()
    found = adjust(disturbed(true), 8).window
    assert np.allclose(found.T, true.T, atol=1e-9)
    assert np.allclose(found.inverse_depths, true.inverse_depths, rtol=1e-7)


def test_a_wrong_observation_is_named_and_changes_little():
    """One corner in five jumped to something else by 20 pixels."""
    true = window(noise=0.1)
    wrong = np.arange(0, len(true.host), 5)
    true.seen[wrong, -1] += 20 / FOCAL
    adjusted = adjust(disturbed(true), 10)
    assert adjusted.wrong[wrong, -1].all() and adjusted.wrong.sum() < 1.2 * len(wrong)
    assert np.abs(adjusted.window.T[-1, :3, 3] - true.T[-1, :3, 3]).max() < 0.01


def test_scale_is_the_mean_of_what_the_network_says_of_each_frame():
    """Frame by frame it errs by a tenth; together they do not."""
    true = window(points=600, factors=np.exp([0.1, -0.1, 0.1, -0.1, 0.0]))
    found = adjust(disturbed(true), 10).window
    assert np.linalg.norm(found.T[-1, :3, 3]) == pytest.approx(
        np.linalg.norm(true.T[-1, :3, 3]), rel=0.03)
    assert np.allclose(np.diff(found.factors), [-0.2, 0.2, -0.2, 0.1], atol=0.02)


def test_what_leaves_the_window_still_counts():
    """Without the oldest frame the others stay where all together put them."""
    true = window(noise=0.2)
    whole = adjust(disturbed(true), 15).window
    rest, kept = without_oldest(whole)
    assert kept.sum() == len(rest.host) < len(whole.host) and len(rest.T) == 4
    again = adjust(rest, 10).window
    assert np.abs(again.T - whole.T[1:]).max() < 1e-3
    without = adjust(replace(rest, prior=replace(rest.prior, H=0 * rest.prior.H)), 10).window
    assert np.abs(without.T - whole.T[1:]).max() > 1e-2


def test_rotations_stay_rotations():
    """A hundred small steps and products do not stretch the camera."""
    T = np.eye(4)
    for _ in range(100):
        T = moved(T, np.full(6, 0.3))
    assert np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-12)
