# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Covariance of motion: the law is found again, and is never degenerate."""

from types import SimpleNamespace

import numpy as np
import pytest

from geo_perception.errors import ModelFileError
from geo_perception.geometry.se3 import make_transform, matrix_from_rotation_vector
from geo_perception.inference.motion_uncertainty import (
    fit_motion_calibration, motion_errors, MotionCalibration)

LAW = MotionCalibration(
    floor_translation=0.002, along=0.2, across=0.05, floor_rotation=0.003, per_angle=0.1,
    usual_residual=0.06, power_translation=1.2, power_rotation=0.5, common_translation=0.0,
    common_rotation=0.0, usual_interval=0.1)


def drive(n, law=LAW):
    """Return motions, residuals, and errors drawn from a law."""
    random = np.random.default_rng(0)
    angles = random.normal(0, 0.05, (n, 3))
    motions = make_transform(matrix_from_rotation_vector(angles),
                             random.normal(0, 0.02, (n, 3)) * np.array([0.3, 0.3, 1]))
    residuals = law.usual_residual * np.exp(random.normal(0, 0.4, n))
    errors = np.array([random.multivariate_normal(np.zeros(6), law.covariance(T, r, 0.1))
                       for T, r in zip(motions, residuals)])
    return errors, motions, residuals


def test_fit_finds_the_law():
    """From two thousand motions every number comes out."""
    errors, motions, residuals = drive(2000)
    found = fit_motion_calibration(errors, motions, residuals, 0.1)
    for name in ('floor_translation', 'along', 'across', 'floor_rotation', 'per_angle',
                 'power_translation', 'power_rotation'):
        assert getattr(found, name) == pytest.approx(getattr(LAW, name), rel=0.2), name
    assert found.usual_residual == pytest.approx(0.06, rel=0.05)
    assert found.usual_interval == 0.1


def test_fitted_covariance_is_consistent():
    """The normalised square of 6-dimensional errors is 6 in the mean, on other motions, too."""
    errors, motions, residuals = drive(400)
    found = fit_motion_calibration(errors[::2], motions[::2], residuals[::2], 0.1)
    squares = [e @ np.linalg.solve(found.covariance(T, r, 0.1), e)
               for e, T, r in zip(errors[1::2], motions[1::2], residuals[1::2])]
    assert np.mean(squares) == pytest.approx(6, rel=0.15)


def test_common_errors_are_told_from_independent_ones():
    """Errors that stay the same for a hundred motions are found, those of their own are not."""
    errors, motions, residuals = drive(2000)
    found = fit_motion_calibration(errors, motions, residuals)
    assert found.common_translation < 0.05 and found.common_rotation < 0.05
    shared = np.random.default_rng(1).normal(0, 0.0092, (20, 3)).repeat(100, 0)
    errors[:, 3:] = np.sqrt(0.4) * errors[:, 3:] + np.sqrt(0.6) * shared
    found = fit_motion_calibration(errors, motions, residuals)
    assert found.common_translation < 0.05
    assert found.common_rotation == pytest.approx(0.6, abs=0.15)


def test_perfect_motion_and_few_motions():
    """Errors of zero give tiny numbers, never zero; a handful of frames gives nothing."""
    errors, motions, residuals = drive(50)
    found = fit_motion_calibration(0 * errors, motions, residuals)
    assert (np.linalg.eigvalsh(found.covariance(np.eye(4), 0.05, 0.1)) > 0).all()
    assert fit_motion_calibration(errors[:5], motions[:5], residuals[:5]) is None


@pytest.mark.parametrize('motion', [
    np.eye(4), make_transform(np.eye(3), [0, 0, 1e-300]), make_transform(np.eye(3), [3, 0, -4]),
    make_transform(matrix_from_rotation_vector([0, np.pi, 0]), [0, 0, 0])],
    ids=['standing', 'tiny', 'far', 'turn'])
@pytest.mark.parametrize('residual', [0.0, 0.05, 1.0])
def test_covariance_is_positive(motion, residual):
    """Symmetric positive definite whatever comes."""
    for law in (LAW, MotionCalibration()):
        covariance = law.covariance(motion, residual, 0.1)
        assert np.allclose(covariance, covariance.T, rtol=0, atol=0)
        assert (np.linalg.eigvalsh(covariance) > 0).all()


def test_trust_falls_with_way_residual_and_unusual_intervals():
    """Longer ways, worse fits and other intervals give larger errors; along is not across."""
    motion = make_transform(np.eye(3), [0, 0, 0.1])
    usual = LAW.covariance(motion, 0.06, 0.1)
    assert usual[2, 2] == pytest.approx(0.002 ** 2 + 0.02 ** 2)
    assert usual[0, 0] == pytest.approx(0.002 ** 2 + 0.005 ** 2)
    assert usual[3, 3] == pytest.approx(0.003 ** 2)
    assert LAW.covariance(motion, 0.12, 0.1)[2, 2] == pytest.approx(usual[2, 2] * 2 ** 2.4)
    assert np.allclose(LAW.covariance(motion, 0.06, 0.2), 4 * usual)
    assert np.allclose(LAW.covariance(motion, 0.06, 0.05), 4 * usual)


def test_errors_of_motion():
    """The truth is the error on top of the motion, in axes of the previous camera."""
    motion = make_transform(matrix_from_rotation_vector([0.1, 0.2, 0.3]), [0.1, 0, 0.2])
    more = matrix_from_rotation_vector([0.01, -0.02, 0.005])
    true = make_transform(more @ motion[:3, :3], 4.0 * (motion[:3, 3] + [0.01, 0, -0.02]))
    assert np.allclose(motion_errors(motion[None], true[None], 4.0)[0],
                       [0.01, 0, -0.02, 0.01, -0.02, 0.005])


def model(**calibration):
    """Return a model with a calibration."""
    return SimpleNamespace(path='m.safetensors',
                           metadata=SimpleNamespace(calibration=calibration))


def test_calibration_travels_in_the_model_file():
    """What was fitted is what is loaded; without one the guess stands in."""
    assert MotionCalibration.from_model(model(metres_per_unit=2.0, **LAW.entries())) == LAW
    assert MotionCalibration.from_model(model(metres_per_unit=2.0)) == MotionCalibration()


@pytest.mark.parametrize('change', [
    {'motion_along': float('nan')}, {'motion_floor_translation': 0.0}, {'motion_across': -1.0},
    {'motion_usual_residual': 'small'}, {'motion_common_rotation': 1.0},
    {'motion_unheard_of': 1.0}])
def test_damaged_calibration_is_refused(change):
    """One sentence names the entry."""
    with pytest.raises(ModelFileError, match=next(iter(change)).partition('_')[2]):
        MotionCalibration.from_model(model(**{**LAW.entries(), **change}))
