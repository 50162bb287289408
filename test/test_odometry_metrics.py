# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Trajectory errors: second implementations, invariances, known drift."""

import numpy as np
import pytest

from geo_perception.evaluation.odometry import (
    absolute_errors, fit_alignment, motion_errors, path_length, scaled, segment_drift,
    segment_lengths, steps)
from geo_perception.geometry import se3


def drive(n=400, step=1.013):   # no multiple of it is a segment's length
    """Return a winding path, shape (n, 4, 4)."""
    rng = np.random.default_rng(3)
    turns = np.zeros((n, 3))
    turns[:, 1] = 0.03 * np.sin(np.arange(n) / 17)
    turns += rng.normal(scale=0.002, size=(n, 3))
    T = [np.eye(4)]
    for turn in turns[1:]:
        T.append(T[-1] @ se3.make_transform(se3.matrix_from_rotation_vector(turn), [0, 0, step]))
    return np.stack(T)


def disturbed(T, size=0.01):
    """Return the trajectory of the same steps with noise in each."""
    rng = np.random.default_rng(4)
    out = [np.eye(4)]
    for motion in steps(T):
        noise = se3.make_transform(
            se3.matrix_from_rotation_vector(rng.normal(scale=0.1 * size, size=3)),
            rng.normal(scale=size, size=3))
        out.append(out[-1] @ motion @ noise)
    return np.stack(out)


def anywhere(seed):
    """Return a random pose."""
    rng = np.random.default_rng(seed)
    return se3.make_transform(se3.matrix_from_quaternion(rng.normal(size=4)),
                              10 * rng.normal(size=3))


def test_known_alignment_is_recovered():
    """Scale, rotation and translation of a moved trajectory come back."""
    T = drive(60)
    A = anywhere(1)
    moved = se3.make_transform(A[:3, :3] @ T[:, :3, :3],
                               0.4 * T[:, :3, 3] @ A[:3, :3].T + A[:3, 3])
    found = fit_alignment(moved[:, :3, 3], T[:, :3, 3], with_scale=True)
    assert found.scale == pytest.approx(2.5)
    assert found.apply(moved) == pytest.approx(T, abs=1e-9)
    assert absolute_errors(moved, T, with_scale=True).max() < 1e-9
    assert absolute_errors(moved, T, with_scale=False).max() > 1.0


def test_alignment_is_the_best_there_is():
    """No small turn, shift or scale makes it better; a mirror image stays one."""
    T, noisy = drive(60), disturbed(drive(60), 0.2)
    points, truth = noisy[:, :3, 3], T[:, :3, 3]
    best = fit_alignment(points, truth, with_scale=True)
    error = np.sum((best.scale * points @ best.R.T + best.t - truth) ** 2)
    rng = np.random.default_rng(0)
    for _ in range(50):
        R = se3.matrix_from_rotation_vector(rng.normal(scale=1e-3, size=3)) @ best.R
        scale, t = best.scale * (1 + rng.normal(scale=1e-3)), best.t + rng.normal(scale=1e-2)
        assert np.sum((scale * points @ R.T + t - truth) ** 2) > error
    mirror = fit_alignment(truth * [1, 1, -1], truth, with_scale=False)
    assert np.linalg.det(mirror.R) == pytest.approx(1.0)


def test_standing_estimate_is_not_scaled():
    """No division by zero, and the error is the spread of the truth."""
    T = drive(20)
    errors = absolute_errors(np.tile(np.eye(4), (20, 1, 1)), T, with_scale=True)
    assert errors == pytest.approx(np.linalg.norm(T[:, :3, 3] - T[:, :3, 3].mean(0), axis=1))


def test_rigid_motion_of_the_world_changes_nothing():
    """Neither the frame of the estimate nor that of the truth matters to any number."""
    T, noisy = drive(), disturbed(drive())
    A, B = anywhere(5), anywhere(6)
    lengths, every = segment_lengths(path_length(T)[-1])

    def numbers(estimate, truth):
        drift = segment_drift(estimate, truth, lengths, every)
        return np.concatenate([
            absolute_errors(estimate, truth, True), absolute_errors(estimate, truth, False),
            *motion_errors(steps(estimate), steps(truth)), drift.translation, drift.rotation])

    before = numbers(noisy, T)
    assert numbers(A @ noisy, B @ T) == pytest.approx(before, abs=1e-6)
    assert before.max() > 0.01


@pytest.mark.parametrize('path, expected, every', [
    (3700.0, [100, 200, 300, 400, 500, 600, 700, 800], 10), (393.0, [100, 200, 300], 10),
    (92.0, [10, 20, 30, 40, 50, 60, 70, 80], 1), (60.0, [10, 20, 30, 40, 50], 1),
    (10.3, [1, 2, 3, 4, 5, 6, 7, 8], 1), (0.35, [0.1, 0.2, 0.3], 1),
    (0.009, [], 10), (4e-12, [], 10), (0.0, [], 10)])
def test_segment_lengths(path, expected, every):
    """Those of KITTI where three of them fit, else a tenth of them; none of who stands."""
    lengths, start_every = segment_lengths(path)
    assert lengths == pytest.approx(np.array(expected)) and start_every == every


def test_known_drift_is_found():
    """A scale error of 3 % is 3 % drift on straight segments; a turn shows in degrees."""
    T = np.tile(np.eye(4), (500, 1, 1))
    T[:, 2, 3] = np.arange(500)
    drift = segment_drift(scaled(T, 1.03), T, *segment_lengths(499.0))
    # A segment ends at the first frame that is farther away than its length.
    assert drift.translation == pytest.approx(0.03 * (drift.lengths + 1) / drift.lengths)
    assert drift.rotation == pytest.approx(0.0, abs=1e-9)
    turning = se3.make_transform(
        se3.matrix_from_rotation_vector(np.radians(0.02) * np.outer(np.arange(500), [0, 1, 0])),
        T[:, :3, 3])
    rows = segment_drift(turning, T, *segment_lengths(499.0)).by_length()
    assert [row[0] for row in rows] == [100, 200, 300, 400]
    assert [row[2] for row in rows] == pytest.approx([2.0] * 4, rel=0.02)


def test_drift_is_that_of_a_second_implementation():
    """Loops and 4x4 inverses, as KITTI's development kit goes about it."""
    T, noisy = drive(450), disturbed(drive(450))
    distances = [0.0]
    for i in range(1, len(T)):
        distances.append(distances[-1] + np.linalg.norm(T[i, :3, 3] - T[i - 1, :3, 3]))
    expected = []
    for first in range(0, len(T), 10):
        for length in range(100, 900, 100):
            last = next((i for i in range(first, len(T))
                         if distances[i] > distances[first] + length), None)
            if last is None:
                continue
            truth = np.linalg.inv(T[first]) @ T[last]
            error = np.linalg.inv(np.linalg.inv(noisy[first]) @ noisy[last]) @ truth
            angle = np.arccos((np.trace(error[:3, :3]) - 1) / 2)
            expected.append((length, np.linalg.norm(error[:3, 3]) / length,
                             np.degrees(angle) / length))
    drift = segment_drift(noisy, T, *segment_lengths(path_length(T)[-1]))
    found = sorted(zip(drift.lengths, drift.translation, drift.rotation))
    assert np.array(found) == pytest.approx(np.array(sorted(expected)), abs=1e-7)


def test_segments_that_do_not_fit_are_none():
    """A path shorter than every length has no drift, and nothing fails."""
    assert len(segment_drift(drive(5), drive(5), np.array([100.0]), 1).lengths) == 0
    assert len(segment_drift(drive(5), drive(5), np.array([]), 1).lengths) == 0


def test_motion_errors_by_hand():
    """Half a metre and two degrees beside the truth."""
    motion = se3.make_transform(se3.matrix_from_rotation_vector([0, np.radians(2), 0]),
                                [0.3, 0, 1.4])
    true = se3.make_transform(np.eye(3), [0, 0, 1.0])
    translation, rotation = motion_errors(motion, true)
    assert (translation, rotation) == (pytest.approx(0.5), pytest.approx(2.0))
