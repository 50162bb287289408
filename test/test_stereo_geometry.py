# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A model trained on stereo pairs as the depth of the geometry pipeline: odometry in metres."""

import json

import cv2
import numpy as np
import pytest
from stereo_world import CAMERA
from tiny_stereo_model import metadata, REACH, weights

from geo_perception.cli import main
from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.errors import ModelFileError
from geo_perception.geometry.se3 import make_transform, R_BODY_OPTICAL
from geo_perception.inference.geometry import GeometryPipeline
from geo_perception.inference.geometry_model import load_geometry_model
from geo_perception.inference.stereo_depth import StereoDepthPipeline
from geo_perception.model_file import save_model_file

DISTANCE = 88 * 0.12 / (0.05 * 128)


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Return a folder with a model that says one distance, and one that says many."""
    folder = tmp_path_factory.mktemp('models')
    save_model_file(folder / 'flat.safetensors', metadata(), weights(0.05))
    save_model_file(folder / 'random.safetensors', metadata(), weights())
    return folder


def wall(shift):
    """Return the picture of a wall after the camera went by so many pixels to the right."""
    noise = np.random.default_rng(3).integers(0, 256, (24, 40, 3), np.uint8)
    picture = cv2.resize(noise, (160, 96), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(picture[:, 8 + shift:136 + shift])


def test_depth_is_that_of_the_stereo_pipeline(models):
    """The same metres, and where they come from."""
    options = {'device': 'cpu', 'precision': 'fp32'}
    geometry, stereo = (pipeline.load(models / 'random.safetensors', **options)
                        for pipeline in (GeometryPipeline, StereoDepthPipeline))
    found, expected = geometry.depth_only(wall(0), CAMERA), stereo(wall(0), CAMERA)
    assert found.metric
    disparity = cv2.resize(REACH / found.depth, (128, 96), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(disparity, expected.disparity, atol=1e-5)
    assert geometry.scale().sentence == '0.0825 metres per unit, by the stereo camera of training.'


def test_odometry_has_metres(models):
    """A wall at a known distance that passes by some pixels tells how far the camera went."""
    pipeline = GeometryPipeline.load(models / 'flat.safetensors', device='cpu', precision='fp32')
    for i in range(3):
        result = pipeline(wall(2 * i), CAMERA, 10**9 + i * 10**8)
    x, y, z = result.odometry.T_odom_camera[:3, 3]
    assert result.odometry.metric and not result.odometry.standing
    assert x == pytest.approx(4 * DISTANCE / 88, rel=0.05)
    assert abs(y) < 0.01 and abs(z) < 0.02
    # A sidestep between two frames is not known better than to millimetres.
    assert 1e-3 < np.sqrt(result.odometry.motion_covariance[0, 0]) < DISTANCE * 2 / 88


def test_evaluate_odometry(models, tmp_path, monkeypatch, capsys):
    """The verb takes the same file; the scale is not fitted to the poses."""
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *_: (None, None, None))
    with BagWriter(tmp_path / 'drive') as bag:
        for i in range(8):
            stamp, T = 10**9 + i * 10**8, make_transform(R_BODY_OPTICAL, np.zeros(3))
            T[1, 3] = -2 * i * DISTANCE / 88
            bag.image('/camera/image_raw', stamp, 'camera', wall(2 * i), 'rgb8')
            bag.camera_info('/camera/camera_info', stamp, CAMERA)
            bag.pose('/pose', stamp, 'map', T)
    assert main(['evaluate', 'odometry', str(models / 'flat.safetensors'),
                 str(tmp_path / 'drive'), '--json', str(tmp_path / 'm.json'), '--baselines',
                 'false', '--device', 'cpu']) == 0
    found = json.loads((tmp_path / 'm.json').read_text())['odometry']
    assert found['frames_answered'] == 8
    assert found['ate_m'] < 0.02 and found['sim3_scale'] == pytest.approx(1, abs=0.05)
    assert 'by the stereo camera of training' in ' '.join(capsys.readouterr().out.split())


def test_what_is_no_model_for_it(models, tmp_path):
    """One sentence."""
    save_model_file(tmp_path / 'a.safetensors', metadata(job='relocalization'), weights(0.05))
    with pytest.raises(ModelFileError, match='is for relocalization, not for geometry or stereo'):
        load_geometry_model(tmp_path / 'a.safetensors')
    save_model_file(tmp_path / 'b.safetensors', metadata(calibration={}), weights(0.05))
    with pytest.raises(ModelFileError, match='which rig it was trained with'):
        load_geometry_model(tmp_path / 'b.safetensors')
