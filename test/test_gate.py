# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What verified poses are believed, and how sure they say they are, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from geo_perception.inference.fix_covariance import (
    FixCalibration, GROWTH_VIEW, LARGEST_GROWTH, SMALLEST_VARIANCE)
from geo_perception.inference.gate import Evidence, Gate

GOOD = Evidence(50, 0.5, 80, 0.8, 0.6, 0.004, 1.0, 0.002)
GATE = Gate(tuple(GOOD.numbers()), (1.0, 2.0, 1.0, 2.0, 1.0, -1.0, -1.0, -1.0), -2.0, 12.0, 3e-4)


def test_usual_evidence_is_believed_and_worse_is_less():
    """By the logistic function of what is above the threshold; whatever gets worse."""
    assert GATE.score(GOOD) == pytest.approx(1 / (1 + np.exp(-2.0)))
    for worse in ({'first_inliers': 5}, {'first_share': 0.1}, {'inliers': 20}, {'share': 0.3},
                  {'spread': 0.1}, {'error': 0.02}, {'disagreement': 20.0}, {'uncertainty': 0.1}):
        assert GATE.score(replace(GOOD, **worse)) < GATE.score(GOOD)
    assert GATE.score(replace(GOOD, error=0.004 * np.exp(2.0))) == pytest.approx(0.5)


def test_too_few_points_are_never_believed():
    """Though all else were perfect; the reason says so, and otherwise what is worst."""
    few = Evidence(11, 1.0, 11, 1.0, 1.0, 1e-5, 0.0, 1e-5)
    assert GATE.score(few) == 0.0 and GATE.score(replace(few, inliers=12)) > 0.5
    assert GATE.reason(few) == 'only 11 points of the map fit (usual 80)'
    assert 'standard deviations from the coarse pose' in GATE.reason(
        replace(GOOD, disagreement=50.0))


def test_covariance_has_a_floor_and_grows_with_the_distance_to_the_map():
    """Position and orientation apart; no farther than three times, never to nothing."""
    calibration = FixCalibration(2.0, 3.0, 0.1, 0.02, 1.0, 2.0)
    raw = 1e-4 * (np.eye(6) + 0.5 * np.eye(6, k=3) + 0.5 * np.eye(6, k=-3))
    for view, growth in ((0.0, 1.0), (GROWTH_VIEW, 2.0), (100.0, LARGEST_GROWTH)):
        covariance = calibration.covariance(raw, view)
        expected = [(4e-4 + 0.01) * growth ** 2] * 3 + [(9e-4 + 4e-4) * growth ** 4] * 3
        np.testing.assert_allclose(np.diag(covariance), expected)
        # Position and orientation still err together.
        np.testing.assert_allclose(np.diag(covariance, 3), 3e-4 * growth ** 3)
    nothing = FixCalibration(1.0, 1.0, 0.0, 0.0, 1.0, 1.0).covariance(0 * raw, 0.0)
    np.testing.assert_allclose(nothing, SMALLEST_VARIANCE * np.eye(6))
