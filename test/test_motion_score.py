# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The score of independent motion: what went in comes out, and false alarms are as promised."""

from types import SimpleNamespace

import numpy as np
import pytest

from geo_perception.errors import ModelFileError
from geo_perception.inference.motion_score import fit_motion_score, MotionScore


def pixels(n=40000, noise=0.5, depth_error=0.15, moving=0.0, seed=0):
    """Return lengths of lack and parallax, pixels, of which some move by themselves."""
    random = np.random.default_rng(seed)
    parallax = random.gamma(1.5, 3.0, n)
    sigma = np.hypot(noise, depth_error * parallax)
    lack = np.linalg.norm(random.normal(0, 1, (n, 2)) * sigma[:, None], axis=1)
    moves = random.random(n) < moving
    lack[moves] = np.abs(lack[moves]) + 8
    return lack, parallax, moves


def test_what_went_in_comes_out():
    """Noise and depth error to a few percent, false alarms to a few thousandths."""
    lack, parallax, moves = pixels(moving=0.1)
    score = fit_motion_score(lack, parallax, 128, moves, false_alarms=0.02)
    assert score.noise * 128 == pytest.approx(0.5, rel=0.1)
    assert score.depth_error == pytest.approx(0.15, rel=0.1)
    lack, parallax, _ = pixels(seed=1)
    flow = np.stack([lack, 0 * lack], -1).reshape(200, 200, 2)
    far = np.stack([0 * parallax, parallax], -1).reshape(200, 200, 2)
    # The image is wider here: noise is a part of the width.
    found = score(flow * 200 / 128, 0 * flow, far * 200 / 128)
    assert np.mean(found > score.threshold) == pytest.approx(0.02, abs=0.005)


def test_without_labels_few_moving_pixels_change_little():
    """Medians; the threshold is that of a normal distribution."""
    lack, parallax, _ = pixels(moving=0.1)
    score = fit_motion_score(lack, parallax, 128)
    assert score.noise * 128 == pytest.approx(0.5, rel=0.25)
    assert score.depth_error == pytest.approx(0.15, rel=0.25)
    assert score.threshold == pytest.approx(np.sqrt(-2 * np.log(0.01)))


@pytest.mark.parametrize('noise, depth_error', [(0.5, 0.0), (0.0, 0.2)])
def test_one_of_both_may_be_nothing(noise, depth_error):
    """Never negative, never NaN."""
    lack, parallax, _ = pixels(noise=noise, depth_error=depth_error)
    score = fit_motion_score(lack, parallax, 100)
    assert score.noise * 100 == pytest.approx(max(noise, 0.01), abs=0.03)
    assert score.depth_error == pytest.approx(depth_error, abs=0.03)


def test_too_few_pixels_say_nothing():
    """Nor do pixels that all move."""
    lack, parallax, moves = pixels(100)
    assert fit_motion_score(lack, parallax, 100) is None
    lack, parallax, moves = pixels(1000, moving=1.0)
    assert fit_motion_score(lack, parallax, 100, moves) is None


def test_model_file():
    """There and back; damaged entries are refused."""
    score = MotionScore(0.003, 0.2, 5.5, 0.02)
    model = SimpleNamespace(path='m', metadata=SimpleNamespace(
        calibration={'metres_per_unit': 2.0, **score.entries()}))
    assert MotionScore.from_model(model) == score
    model.metadata.calibration['moving_noise'] = 'much'
    with pytest.raises(ModelFileError, match="moving_noise is 'much'"):
        MotionScore.from_model(model)
    assert MotionScore.from_model(SimpleNamespace(metadata=SimpleNamespace(
        calibration={}))) == MotionScore()
