# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Covariance of motions by corners: the law is found again, the error of the scale apart."""

from types import SimpleNamespace

import numpy as np
import pytest

from geo_perception.errors import ModelFileError
from geo_perception.geometry.se3 import make_transform
from geo_perception.inference.corner_uncertainty import (
    CornerCalibration, fit_corner_calibration)

LAW = CornerCalibration(1.5, 3.0, 0.002, 0.001, 0.0, 0.03, 0.03)


def drive(n, scale_error=0.0):
    """Return errors drawn from a law, motions, and what corners leave open of them."""
    random = np.random.default_rng(0)
    roots = 1e-3 * random.normal(size=(n, 6, 6)) * np.exp(random.normal(size=(n, 1, 1)))
    raw = roots @ np.swapaxes(roots, 1, 2)
    ways = random.normal(0, 0.05, (n, 3))
    errors = np.array([random.multivariate_normal(np.zeros(6), C) for C in LAW.covariance(raw)])
    errors[:, :3] += scale_error * ways
    return errors, make_transform(np.eye(3), ways), raw


@pytest.mark.parametrize('scale_error', [0.0, 0.3])
def test_fit_finds_the_law(scale_error):
    """Also where all ways are too short: that is the scale's, and no motion's own."""
    found = fit_corner_calibration(*drive(3000, scale_error))
    for name in ('scale_translation', 'scale_rotation', 'floor_translation', 'floor_rotation'):
        assert getattr(found, name) == pytest.approx(getattr(LAW, name), rel=0.15), name
    assert found.scale_error == pytest.approx(scale_error, abs=0.01)
    assert max(found.common_translation, found.common_rotation) < 0.05


def test_what_neighbours_share_is_found():
    """An error that stays for a hundred motions."""
    random = np.random.default_rng(1)
    errors = 1e-3 * random.normal(size=(2000, 6))
    shared = 1e-3 * random.normal(size=(20, 3)).repeat(100, 0)
    errors[:, 3:] = np.sqrt(0.5) * (errors[:, 3:] + shared)
    motions = make_transform(np.eye(3), random.normal(size=(2000, 3)))
    found = fit_corner_calibration(errors, motions, np.tile(1e-6 * np.eye(6), (2000, 1, 1)))
    assert found.common_translation < 0.05
    assert found.common_rotation == pytest.approx(0.5, abs=0.15)


def test_perfect_motion_and_few_motions():
    """Errors of zero give tiny numbers, never zero; a handful of motions gives nothing."""
    errors, motions, raw = drive(50)
    found = fit_corner_calibration(0 * errors, motions, raw)
    assert (np.linalg.eigvalsh(found.covariance(np.zeros((6, 6)))) > 0).all()
    assert fit_corner_calibration(errors[:5], motions[:5], raw[:5]) is None


def model(**calibration):
    """Return a model with a calibration."""
    return SimpleNamespace(path='m.safetensors',
                           metadata=SimpleNamespace(calibration=calibration))


def test_calibration_travels_in_the_model_file():
    """What was fitted is what is loaded; without one a guess stands in."""
    assert CornerCalibration.from_model(model(metres_per_unit=2.0, **LAW.entries())) == LAW
    assert CornerCalibration.from_model(model(motion_along=2.0)) == CornerCalibration()


@pytest.mark.parametrize('change', [
    {'corner_motion_scale_rotation': float('nan')}, {'corner_motion_scale_translation': 0.0},
    {'corner_motion_floor_rotation': -1.0}, {'corner_motion_common_rotation': 1.0},
    {'corner_motion_unheard_of': 1.0}])
def test_damaged_calibration_is_refused(change):
    """One sentence names the entry."""
    with pytest.raises(ModelFileError, match=next(iter(change))[len('corner_motion_'):]):
        CornerCalibration.from_model(model(**{**LAW.entries(), **change}))
