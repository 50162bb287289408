# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Metres per unit: every source, the ground plane, and what is said about it."""

from types import SimpleNamespace

import numpy as np
import pytest

from geo_perception.errors import ConfigurationError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.se3 import matrix_from_rotation_vector
from geo_perception.inference.ground_plane import camera_height, down, height_over_points
from geo_perception.inference.scale import ScaleEstimator, ScaleOptions

CAMERA = Camera(np.array([[110.0, 0, 63.5], [0, 110, 47.5], [0, 0, 1]]), 128, 96)
MODEL = SimpleNamespace(metadata=SimpleNamespace(
    calibration={'metres_per_unit': 3.0, 'metres_per_unit_spread': 0.2}))


def room(height, pitch=0.0, roll=0.0, wall=4.0, clutter=0):
    """Return the depth of a floor and a wall, seen from a height, metres."""
    gravity, rays = down(pitch, roll), CAMERA.rays()
    with np.errstate(divide='ignore'):
        depth = height / (rays @ gravity)
    depth = np.where((depth > 0) & (depth < wall), depth, wall).astype(np.float32)
    random = np.random.default_rng(1)
    for _ in range(clutter):
        u, v = random.integers(0, 100), random.integers(50, 80)
        depth[v:v + 16, u:u + 16] *= random.uniform(0.4, 0.9)
    return depth


def test_gravity_of_a_turned_camera():
    """What is down in the optical frame, against rotations of the camera."""
    assert np.allclose(down(0, 0), [0, 1, 0])
    # Looking down by 0.3, then turned clockwise by 0.2 about the optical axis.
    R = matrix_from_rotation_vector([-0.3, 0, 0]) @ matrix_from_rotation_vector([0, 0, 0.2])
    assert np.allclose(down(0.3, 0.2), R.T @ [0, 1, 0])


@pytest.mark.parametrize('pitch,roll', [(0, 0), (0.2, 0), (0, 0.1), (0.4, -0.2)])
def test_height_of_exact_depth(pitch, roll):
    """The height over an exact floor comes out, tilted cameras and clutter or not."""
    for clutter in (0, 4):
        depth = room(0.6, pitch, roll, clutter=clutter) / 2.5
        assert camera_height(depth, CAMERA, pitch, roll) == pytest.approx(0.24, rel=0.01)


def test_small_unknown_tilt_does_not_matter():
    """The plane is fitted, not assumed."""
    assert camera_height(room(0.6, 0.1, 0.05), CAMERA) == pytest.approx(0.6, rel=0.01)


def test_noise_averages_out():
    """Five per cent of noise on each pixel is one per cent of the height, or two."""
    noise = np.random.default_rng(0).normal(1, 0.05, (96, 128)).astype(np.float32)
    assert camera_height(room(0.6) * noise, CAMERA) == pytest.approx(0.6, rel=0.02)


@pytest.mark.parametrize('depth', [
    np.full((96, 128), 2.0, np.float32), np.full((96, 128), np.nan, np.float32),
    np.random.default_rng(0).uniform(1, 9, (96, 128)).astype(np.float32)],
    ids=['wall', 'unknown', 'noise'])
def test_no_ground_is_said(depth):
    """A wall, nothing at all and noise are no floor."""
    assert camera_height(depth, CAMERA) is None


def test_scale_of_camera_height():
    """Depth of a known floor in other units gives the unit within one per cent."""
    estimator = ScaleEstimator(ScaleOptions('camera_height', camera_height=0.6), MODEL)
    before = estimator.current()
    assert before.metres_per_unit is None and before.confidence == 0
    for _ in range(5):
        estimator.observe_depth(room(0.6) / 2.5, CAMERA)
    scale = estimator.current()
    assert scale.metres_per_unit == pytest.approx(2.5, rel=0.01)
    assert scale.confidence == pytest.approx(0.5)
    assert 'ground' in scale.sentence and '5 estimates' in scale.sentence
    estimator.observe_depth(np.full((96, 128), np.nan, np.float32), CAMERA)
    assert estimator.current() == scale


def test_height_over_points():
    """Of a tilted camera, among points of walls and noise; too few, and walls alone, tell none."""
    random = np.random.default_rng(2)
    to_camera = matrix_from_rotation_vector([0.3, 0, 0]).T   # looks down by 0.3
    floor = random.uniform((-1, 0.6, 1), (1, 0.6, 5), (40, 3))
    walls = random.uniform((-2, -1.0, 4), (2, 0.5, 6), (60, 3))
    ground, others = (points @ to_camera for points in (floor, walls))
    noisy = ground * random.normal(1, 0.01, (40, 1))
    assert height_over_points(np.concatenate([noisy, others]), 0.3) == pytest.approx(0.6, rel=0.02)
    assert height_over_points(noisy, -0.3) is None   # not what lies below a camera that looks up
    assert height_over_points(noisy[:10], 0.3) is None
    assert height_over_points(random.uniform((-2, 0, 2), (2, 0.5, 6), (60, 3))) is None
    assert height_over_points(np.zeros((0, 3))) is None


def test_scale_of_points_is_better():
    """Depth images count until three key frames have told the height by parallax."""
    estimator = ScaleEstimator(ScaleOptions('camera_height', camera_height=0.6), MODEL)
    random = np.random.default_rng(2)
    points = random.uniform((-1, 0.6, 1), (1, 0.6, 5), (40, 3)) / 2.0
    scales = []
    for _ in range(6):
        estimator.observe_depth(room(0.6) / 2.5, CAMERA)
        scales.append(estimator.current().metres_per_unit)
        estimator.observe_points(points)
    assert np.allclose(scales, [2.5] * 3 + [2.0] * 3, rtol=0.01)
    other = ScaleEstimator(ScaleOptions(), MODEL)
    other.observe_points(points)
    assert other.current().metres_per_unit == 3.0


def test_scale_of_odometry():
    """The median of ratios counts; tiny, wrong and unknown distances do not."""
    estimator = ScaleEstimator(ScaleOptions('odometry'), MODEL)
    assert estimator.current().metres_per_unit is None
    for distance, true in [(0.1, 0.4), (0.1, 0.42), (0.1, 0.38), (0.1, 4.0), (0.1, 0.4),
                           (0.1, 0.001), (0.0, 0.4), (np.nan, 0.4), (0.1, np.nan)]:
        estimator.observe_motion(distance, true)
        estimator.observe_depth(room(0.6), CAMERA)
    scale = estimator.current()
    assert scale.metres_per_unit == pytest.approx(4.0)
    assert scale.spread == pytest.approx(0.05)
    assert '5 estimates' in scale.sentence


def test_other_sources():
    """A constant is what was set, the model says what it learned, none is none."""
    scale = ScaleEstimator(ScaleOptions('constant', 0.7), MODEL).current()
    assert (scale.metres_per_unit, scale.confidence) == (0.7, 1.0)
    scale = ScaleEstimator(ScaleOptions(), MODEL).current()
    assert (scale.metres_per_unit, scale.spread, scale.confidence) == (3.0, 0.2, 0.8)
    unscaled = SimpleNamespace(metadata=SimpleNamespace(calibration={}))
    scale = ScaleEstimator(ScaleOptions(), unscaled).current()
    assert scale.metres_per_unit is None and 'without poses' in scale.sentence
    scale = ScaleEstimator(ScaleOptions('none'), MODEL).current()
    assert scale.metres_per_unit is None and 'up to scale' in scale.sentence
    for source in ('none', 'constant', 'model'):
        estimator = ScaleEstimator(ScaleOptions(source), MODEL)
        before = estimator.current()
        estimator.observe_motion(1.0, 9.0)
        estimator.observe_depth(room(0.6), CAMERA)
        assert estimator.current() == before


@pytest.mark.parametrize('options,words', [
    ({'source': 'guess'}, 'guess'), ({'source': 'constant', 'constant': 0.0}, 'constant'),
    ({'source': 'camera_height'}, 'camera_height'),
    ({'source': 'constant', 'constant': float('nan')}, 'nan'),
    ({'camera_pitch': float('inf')}, 'camera_pitch')])
def test_impossible_options_are_refused(options, words):
    """What cannot give a scale is told at once."""
    with pytest.raises(ConfigurationError, match=words):
        ScaleOptions(**options)
