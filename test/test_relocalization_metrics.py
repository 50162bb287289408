# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Relocalization errors and metrics: identities, hand-computed numbers, unknown values."""

import csv
from dataclasses import replace
import json

import numpy as np
import pytest

from geo_perception.evaluation.metrics_file import write_metrics
from geo_perception.evaluation.relocalization import nearest_poses, recall_curve, score
from geo_perception.evaluation.relocalization_result import pose_errors, RelocalizationResult
from geo_perception.geometry import se3

KEYS = ['position_median_m', 'orientation_median_deg', 'position_p95_m', 'orientation_p95_deg',
        'within_0.1m_5deg', 'within_0.25m_10deg', 'retrieval_position_median_m',
        'retrieval_orientation_median_deg', 'frames_in', 'frames_processed', 'frames_dropped',
        'delay_p50_ms', 'delay_p95_ms']


def random_poses(rng, n):
    """Return n poses with any rotation, metres."""
    q = rng.normal(size=(n, 4))
    return se3.make_transform(se3.matrix_from_quaternion(q), rng.normal(size=(n, 3)))


def turned(T, axis_angle):
    """Return poses turned about their own axes, radians."""
    turn = se3.make_transform(se3.matrix_from_rotation_vector(axis_angle), np.zeros(3))
    return T @ turn


def result_with(T_truth, T_estimate, **others):
    """Return a result where every frame was processed and accepted."""
    n = len(T_truth)
    result = RelocalizationResult.unanswered(np.arange(n), [f'f{i}' for i in range(n)], T_truth)
    return replace(result, T_estimate=T_estimate, **{
        'processed': np.ones(n, bool), 'accepted': np.ones(n, bool), **others})


def test_angle_ignores_the_sign_of_the_quaternion():
    """The same rotation from q and -q has no error (posenet.md section 10 no. 2)."""
    q = np.random.default_rng(0).normal(size=(50, 4))
    T_plus = se3.make_transform(se3.matrix_from_quaternion(q), np.zeros(3))
    T_minus = se3.make_transform(se3.matrix_from_quaternion(-q), np.zeros(3))
    assert pose_errors(T_plus, T_minus)[1].max() < 1e-6


@pytest.mark.parametrize('degrees', [90.0, 180.0, 5.0])
def test_angle_is_the_whole_angle_in_degrees(degrees):
    """Not half of it (posenet.md section 10 no. 1)."""
    T = random_poses(np.random.default_rng(1), 1)[0]
    _, orientation = pose_errors(turned(T, np.radians([0.0, degrees, 0.0])), T)
    assert orientation == pytest.approx(degrees, abs=1e-6)


def test_tiny_angles_are_not_lost():
    """A micro-radian comes out within 1 %; acos of a trace gives 0 or 40 times too much."""
    T = random_poses(np.random.default_rng(2), 100)
    _, orientation = pose_errors(turned(T, np.array([0.0, 0.0, 1e-6])), T)
    assert np.radians(orientation) == pytest.approx(1e-6, rel=0.01)


def test_position_error_is_the_distance_of_the_camera_centres():
    """The distance of camera-to-world translations, not of the inverses."""
    T = random_poses(np.random.default_rng(3), 1)[0]
    moved = T.copy()
    moved[:3, 3] += [0.3, 0.0, -0.4]
    assert pose_errors(moved, T)[0] == pytest.approx(0.5)


def test_moving_the_world_changes_nothing():
    """Metrics do not depend on where the map's origin is or how it is turned."""
    rng = np.random.default_rng(4)
    T_truth = random_poses(rng, 40)
    T_estimate = turned(T_truth, rng.normal(scale=0.1, size=(40, 3)))
    T_estimate[:, :3, 3] += rng.normal(scale=0.1, size=(40, 3))
    A = rng.normal(size=(40, 6, 6))
    covariance = A @ np.swapaxes(A, 1, 2) * 0.01
    T_map = random_poses(rng, 1)[0]
    rotated = np.stack([se3.rotate_pose_covariance(C, T_map[:3, :3]) for C in covariance])
    before = score(result_with(T_truth, T_estimate, covariance=covariance, T_retrieval=T_truth))
    after = score(result_with(T_map @ T_truth, T_map @ T_estimate, covariance=rotated,
                              T_retrieval=T_map @ T_truth))
    assert before == pytest.approx(after, abs=1e-6)
    assert before['position_normalised_error'] > 0


def test_score_has_the_agreed_keys_and_hand_computed_values():
    """Five frames: errors 0.05, 0.2, 0.4 m answered, one refused, one dropped."""
    T_truth = np.tile(np.eye(4), (5, 1, 1))
    T_estimate = T_truth.copy()
    T_estimate[:, 0, 3] = [0.05, 0.2, 0.4, 9.0, np.nan]
    T_estimate[4] = np.nan
    T_estimate[:2] = turned(T_estimate[:2], np.radians([[4.0, 0, 0], [0, 6.0, 0]]))
    T_retrieval = T_truth.copy()
    T_retrieval[:, 1, 3] = [1.0, 2.0, 3.0, 4.0, 5.0]
    result = result_with(
        T_truth, T_estimate, T_retrieval=T_retrieval,
        processed=np.array([1, 1, 1, 1, 0], bool), accepted=np.array([1, 1, 1, 0, 0], bool),
        delay_ms=np.array([10.0, 20.0, 30.0, np.nan, np.nan]))
    metrics = score(result)
    assert list(metrics)[:len(KEYS)] == KEYS
    expected = {'position_median_m': 0.2, 'orientation_median_deg': 4.0, 'position_p95_m': 0.38,
                'within_0.1m_5deg': 0.25, 'within_0.25m_10deg': 0.5,
                'retrieval_position_median_m': 2.0, 'retrieval_orientation_median_deg': 0.0,
                'frames_in': 5, 'frames_processed': 4, 'frames_dropped': 1,
                'frames_withheld': 1, 'delay_p50_ms': 20.0, 'delay_p95_ms': 29.0,
                'position_median_all_m': 0.3, 'retrieval_position_median_all_m': 2.5}
    assert {key: metrics[key] for key in expected} == pytest.approx(expected, abs=1e-6)


def test_unknown_values_become_null(tmp_path):
    """No answer, no truth, no retrieval: valid JSON with null, no NaN and no warning."""
    for T_truth in (None, np.tile(np.eye(4), (3, 1, 1))):
        metrics = score(RelocalizationResult.unanswered(range(3), ['a', 'b', 'c'], T_truth))
        write_metrics(tmp_path / 'sub' / 'm.json', {'relocalization': metrics},
                      machine={'cores': '2'})
        read = json.loads((tmp_path / 'sub' / 'm.json').read_text())
        assert read['machine'] == {'cores': '2'}
        assert read['relocalization']['position_median_m'] is None
        assert read['relocalization']['frames_dropped'] == 3
    assert metrics['within_0.1m_5deg'] is None   # not 0: no frame was processed


def test_all_median_is_unknown_when_a_refused_pose_is():
    """A live node keeps the poses it refuses; a median over the rest would flatter it."""
    T = np.tile(np.eye(4), (3, 1, 1))
    T_estimate = T.copy()
    T_estimate[1] = np.nan
    metrics = score(result_with(T, T_estimate, accepted=np.array([1, 0, 1], bool)))
    assert metrics['position_median_m'] == 0.0
    assert metrics['position_median_all_m'] is None


def test_calibration_of_errors_drawn_from_their_covariance():
    """Exactly Gaussian errors: 68 % and 95 % inside, normalised error 1; half sigma: 4."""
    rng = np.random.default_rng(5)
    n = 4000
    A = rng.normal(size=(6, 6)) * 0.02
    covariance = A @ A.T + 1e-4 * np.eye(6)
    noise = rng.multivariate_normal(np.zeros(6), covariance, n)
    T_truth = random_poses(rng, n)
    T_estimate = se3.make_transform(   # the error turns about the fixed axes of the world
        se3.matrix_from_rotation_vector(noise[:, 3:]) @ T_truth[:, :3, :3],
        T_truth[:, :3, 3] + noise[:, :3])
    metrics = score(result_with(T_truth, T_estimate,
                                covariance=np.tile(covariance, (n, 1, 1))))
    for name in ('position', 'orientation'):
        assert metrics[f'{name}_in_68_percent_ellipsoid'] == pytest.approx(0.68, abs=0.03)
        assert metrics[f'{name}_in_95_percent_ellipsoid'] == pytest.approx(0.95, abs=0.015)
        assert metrics[f'{name}_normalised_error'] == pytest.approx(1.0, abs=0.08)
    metrics = score(result_with(T_truth, T_estimate,
                                covariance=np.tile(covariance / 4, (n, 1, 1))))
    assert metrics['position_normalised_error'] == pytest.approx(4.0, abs=0.3)


def test_recall_counts_unanswered_frames():
    """Two of four frames answered: the curve ends at one half."""
    error, share = recall_curve(np.array([0.3, np.nan, 0.1, np.nan]), total=4)
    assert error == pytest.approx([0.0, 0.1, 0.3])
    assert share == pytest.approx([0.0, 0.25, 0.5])


def test_nearest_pose_weighs_metres_and_degrees():
    """A pose 0.1 m away beats one at the place that looks 10 degrees elsewhere."""
    far = np.eye(4)
    far[0, 3] = 0.1
    turned_away = turned(np.eye(4), np.radians([0.0, 10.0, 0.0]))
    opposite, other_way, quarter = (turned(np.eye(4), np.radians([0.0, 0.0, angle]))
                                    for angle in (175.0, -175.0, 90.0))
    assert np.array_equal(nearest_poses(np.stack([quarter, other_way]), opposite[None])[0],
                          other_way)   # 10 degrees apart, though the quaternions look opposite
    nearest = nearest_poses(np.stack([turned_away, far]), np.eye(4)[None])
    assert np.array_equal(nearest[0], far)
    assert np.isnan(nearest_poses(np.stack([far]), np.full((1, 4, 4), np.nan))).all()


def test_csv_has_a_row_for_each_frame(tmp_path):
    """Unknown numbers are empty cells; poses can be read back."""
    T = random_poses(np.random.default_rng(6), 2)
    T_estimate = T.copy()
    T_estimate[1] = np.nan
    result = result_with(T, T_estimate, reasons=['', 'too uncertain, sigma 3 m'])
    result.to_csv(tmp_path / 'out' / 'frames.csv')
    rows = list(csv.DictReader((tmp_path / 'out' / 'frames.csv').read_text().splitlines()))
    assert [row['name'] for row in rows] == ['f0', 'f1']
    assert rows[1]['x_m'] == '' and rows[1]['reason'] == 'too uncertain, sigma 3 m'
    assert float(rows[0]['true_y_m']) == pytest.approx(T[0, 1, 3], abs=1e-8)
    assert float(rows[0]['position_error_m']) == 0.0
