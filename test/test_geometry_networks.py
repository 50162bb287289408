# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Depth and odometry with the real networks, which were never trained, and with alignment."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from small_world import CAMERA, view
from tiny_geometry_model import ARGUMENTS, PREPROCESSING, tensors, write_geometry_model
import torch
from true_geometry import curved_drive, pose, run, SECOND

from geo_perception.errors import ConfigurationError, ImageError, ModelFileError
from geo_perception.geometry.projection import pose_vector_to_matrix
from geo_perception.geometry.se3 import (
    inverse_transform, make_transform, matrix_from_rotation_vector, rotation_angle,
    rotation_vector_from_matrix)
from geo_perception.inference.geometry import GeometryPipeline
from geo_perception.inference.motion import correct_focal_length, DirectMotion, newest_motion, View
from geo_perception.inference.scale import ScaleOptions
from geo_perception.networks.egomotion import EgoMotionNet


@pytest.fixture(autouse=True)
def plain_pytorch(monkeypatch):
    """Leave OpenVINO out, whose conversion takes seconds a model."""
    monkeypatch.setattr('geo_perception.inference.engine._openvino',
                        lambda *arguments: (None, None, None))


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """Return the path of a model file."""
    return write_geometry_model(tmp_path_factory.mktemp('model') / 'tiny.safetensors')


@pytest.fixture(scope='module')
def way():
    """Return frames of a curved drive."""
    return curved_drive()


def test_what_the_network_is_shown(tiny, way):
    """Three frames in order of time, each as the pipeline got it; at the start the first twice."""
    pipeline = GeometryPipeline.load(tiny, device='cpu', odometry='network')
    network, shown = pipeline._odometry._network, []
    engine = network._engine
    network._engine = lambda crops: shown.append(crops.copy()) or engine(crops)
    run(pipeline, way[:4])
    images = np.stack([frame.image for frame in way])
    assert len(shown) == 3
    for crops, expected in zip(shown, ([0, 0, 1], [0, 1, 2], [1, 2, 3])):
        assert np.array_equal(crops, images[expected])


def test_newest_motion_of_three_and_five_frames():
    """From the motions of all sources against the target, the one between the last two."""
    random = np.random.default_rng(0)
    way = [np.eye(4)]
    for _ in range(4):
        way.append(way[-1] @ make_transform(
            matrix_from_rotation_vector(random.normal(0, 0.1, 3)), random.normal(0, 1, 3)))
    for length in (3, 5):
        frames, centre = way[-length:], length // 2
        sources = torch.from_numpy(np.array(
            [inverse_transform(T) @ frames[centre]
             for i, T in enumerate(frames) if i != centre]))
        assert np.allclose(newest_motion(sources), inverse_transform(frames[-2]) @ frames[-1])


def test_other_focal_length_is_a_stretched_world():
    """Flow that a long camera sees, read by a short one, gives the true motion back."""
    ratio = 1.7
    K = np.diag([100.0, 100.0, 1.0])
    stretch = np.diag([1, 1, 1 / ratio])
    random = np.random.default_rng(0)
    points = random.uniform([-0.3, -0.3, 3], [0.3, 0.3, 6], (50, 3))
    motion = make_transform(matrix_from_rotation_vector([0.001, -0.002, 0.003]),
                            [0.001, -0.002, 0.004])

    def flow(points, motion, f):
        moved = (points - motion[:3, 3]) @ motion[:3, :3]
        return f * (moved[:, :2] / moved[:, 2:] - points[:, :2] / points[:, 2:])

    seen = flow(points, motion, ratio * K[0, 0])
    # What the training camera would have to do in the stretched world to see the same.
    omega = rotation_vector_from_matrix(motion[:3, :3]) * [ratio, ratio, 1]
    believed = make_transform(matrix_from_rotation_vector(omega),
                              motion[:3, 3] * [1, 1, 1 / ratio])
    assert np.allclose(flow(points @ stretch, believed, K[0, 0]), seen, atol=0.01)
    assert np.abs(seen).max() > 0.2
    assert np.allclose(correct_focal_length(believed, ratio), motion, atol=1e-9)


# From here on with the real networks, which were never trained.


def test_real_networks_and_their_scale(tiny, way):
    """Depth is the inverse of the network's disparity, motion is what the network says."""
    pipeline = GeometryPipeline.load(tiny, device='cpu', precision='fp32', odometry='network')
    results = run(pipeline, way[:4])
    network = pipeline._depth_network._engine
    disparity = network(np.array(way[3].image)[None])[0, 0].numpy()
    assert np.allclose(results[3].depth.depth, 2.0 / disparity, rtol=1e-3)
    crops = np.stack([frame.image for frame in way[1:4]])
    with torch.inference_mode():
        images = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1
        module = egomotion_network()
        poses = module(images[1:2], images[[0, 2]][None])[0]
    expected = np.linalg.inv(pose_vector_to_matrix(poses[0, 1].double()).numpy())
    expected[:3, 3] *= 2.0
    assert np.allclose(results[3].odometry.motion, expected, atol=1e-6)
    assert 'fp32' in pipeline.describe()


def test_snippet_agrees_with_odometry_for_any_focal_length(tiny, way):
    """Its last motion is the one that odometry takes; nothing is remembered."""
    longer = replace(CAMERA, K=CAMERA.K * [[1.5], [1.5], [1]])
    for camera in (CAMERA, longer):
        pipeline = GeometryPipeline.load(tiny, device='cpu', precision='fp32',
                                         scale=ScaleOptions('none'), odometry='network')
        results = [pipeline(frame.image, camera, frame.stamp) for frame in way[:3]]
        snippet = pipeline.snippet([frame.image for frame in way[:3]], camera)
        assert pipeline.snippet_length == len(snippet) == 3
        assert np.array_equal(snippet[1], np.eye(4))
        assert np.allclose(inverse_transform(snippet[2]), results[2].odometry.motion, atol=1e-9)
        again = pipeline(way[3].image, camera, way[3].stamp)
        assert again.reset == '' and again.odometry is not None
    assert np.abs(snippet[0] - np.eye(4)).max() > 1e-4


def egomotion_network():
    """Return the ego-motion network of the tiny model, by PyTorch alone."""
    network = EgoMotionNet(**ARGUMENTS['egomotion'])
    prefix = 'network.egomotion.'
    network.load_state_dict({name[len(prefix):]: torch.from_numpy(value)
                             for name, value in tensors().items() if name.startswith(prefix)})
    return network.eval()


def test_normalised_disparity(tmp_path, tiny, way):
    """A model that was trained on normalised disparity has a mean inverse depth of one."""
    path = write_geometry_model(tmp_path / 'n.safetensors', calibration={},
                                arguments={**ARGUMENTS, 'normalise_disparity': True})
    depth = GeometryPipeline.load(path, device='cpu').depth_only(way[0].image, CAMERA)
    assert (1 / depth.depth).mean() == pytest.approx(1, rel=1e-3)
    plain = GeometryPipeline.load(tiny, device='cpu').depth_only(way[0].image, CAMERA)
    assert (2 / plain.depth).mean() != pytest.approx(1, rel=0.1)


def test_longer_focal_length_means_deeper(tiny, way):
    """The same image by a camera of twice the focal length shows what is twice as far."""
    longer = replace(CAMERA, K=CAMERA.K * [[2], [2], [1]])
    depths = [GeometryPipeline.load(tiny, device='cpu').depth_only(way[0].image, camera).depth
              for camera in (CAMERA, longer)]
    assert np.allclose(depths[1], 2 * depths[0], rtol=1e-4)
    pipeline = GeometryPipeline.load(tiny, device='cpu')
    assert pipeline(way[0].image, CAMERA, SECOND).warning == ''
    assert '2.00 times' in pipeline(way[0].image, longer, 2 * SECOND).warning


def test_larger_and_distorted_images(tiny):
    """Distortion is removed at the full size; intrinsics follow undistortion, resize and crop."""
    camera = replace(CAMERA.resized(320, 200), distortion=np.array([-0.25, 0.05, 0, 0, 0]))
    image = cv2.resize(view(pose())[0], (320, 200))
    pipeline = GeometryPipeline.load(tiny, device='cpu')
    depth = pipeline.depth_only(image, camera)
    assert depth.depth.shape == (64, 96) and not depth.camera.distortion.any()
    straight, plain = camera.undistort(image)
    again = pipeline.depth_only(straight, plain)
    assert np.array_equal(depth.depth, again.depth)
    assert not np.allclose(depth.depth, pipeline.depth_only(image, plain).depth)
    # 320x200 -> 102x64, of which the middle 96 columns.
    expected = plain.resized(102, 64).cropped(3, 0, 96, 64)
    assert np.allclose(depth.camera.K, expected.K)


@pytest.mark.parametrize('image,camera,error,words', [
    (np.zeros((64, 96), np.uint8), CAMERA, ImageError, r'\(64, 96\)'),
    (np.zeros((64, 90, 3), np.uint8), CAMERA, ImageError, '90x64.*96x64'),
    (np.zeros((64, 96, 3), np.uint8), replace(CAMERA, K=np.zeros((3, 3))), ConfigurationError,
     'lengths are 0 and 0'),
    (np.zeros((64, 96, 3), np.uint8), replace(CAMERA, K=CAMERA.K * [[1, 1, 90], [1] * 3, [1] * 3]),
     ConfigurationError, r'principal point \(4275'),
    (np.zeros((64, 96, 3), np.uint8), replace(CAMERA, K=CAMERA.K * np.nan), ConfigurationError,
     'NaN'),
    (np.zeros((64, 96, 3), np.uint8), replace(CAMERA, distortion=np.array([0.1, 0.0, 0.0])),
     ConfigurationError, "3 coefficients of the distortion model 'plumb_bob'")])
def test_bad_input_is_named(tiny, image, camera, error, words):
    """What cannot be an image of that camera is refused, in a sentence with the values."""
    with pytest.raises(error, match=words):
        GeometryPipeline.load(tiny, device='cpu')(image, camera, SECOND)


DIRECT = {'depth': ARGUMENTS['depth'], 'egomotion_name': 'direct', 'egomotion': {'sources': 2}}


def test_model_whose_motion_is_by_alignment(tmp_path, way):
    """It needs no weights for motion; with true depth the motion of smooth images is right."""
    no_weights = {name: None for name in tensors() if name.startswith('network.egomotion.')}
    path = write_geometry_model(tmp_path / 'm.safetensors', no_weights, arguments=DIRECT)
    pipeline = GeometryPipeline.load(path, device='cpu', odometry='network')
    align = pipeline._odometry._network
    assert isinstance(align, DirectMotion)
    result = run(pipeline, way[:3])[-1]
    assert np.isfinite(result.odometry.motion).all()
    for before, now in zip(way, way[1:]):
        truth = inverse_transform(before.T_world_camera) @ now.T_world_camera
        motion = align((), *(View(f.image, f.depth, CAMERA, f.stamp) for f in (before, now)),
                       np.eye(4))
        assert np.allclose(motion[:3, 3], truth[:3, 3], atol=0.02)
        assert rotation_angle(motion[:3, :3], truth[:3, :3]) < 0.005
        assert np.linalg.norm(truth[:3, 3]) > 0.05


def test_alignment_that_finds_nothing(way):
    """Depth that is no number gives a motion that is none, which the odometry takes care of."""
    depth = np.full((64, 96), np.nan, np.float32)
    motion = DirectMotion('cpu')(
        (), *(View(f.image, depth, CAMERA, f.stamp) for f in way[:2]), np.eye(4))
    assert motion.shape == (4, 4) and not np.isfinite(motion).all()


NAN = {'network.egomotion.pose.2.weight': np.full((12, 26, 1, 1), np.nan, np.float32)}


@pytest.mark.parametrize('changes,words', [
    ({'architecture': 'dispnet_huge'}, 'dispnet_huge'),
    ({'arguments': {'depth': {}}}, 'egomotion network'),
    ({'arguments': {**ARGUMENTS, 'depth': {'width': 0.5}}}, 'should be'),
    ({'arguments': {**ARGUMENTS, 'depth': {'wdith': 0.5}}}, 'wdith'),
    ({'arguments': {**ARGUMENTS, 'egomotion': {'sources': 3, 'width': 0.1}}}, '3 sources'),
    ({'changed_tensors': {'network.depth.predict.0.weight': None}}, 'predict.0.weight.*None'),
    ({'changed_tensors': NAN}, 'NaN'),
    ({'preprocessing': replace(PREPROCESSING, crop=(60, 96))}, 'multiples of 16'),
    ({'data': {'interval': -1}}, '-1 s apart'),
    ({'arguments': {**ARGUMENTS, 'egomotion_name': 'guess'}}, 'guess'),
    ({'calibration': {'metres_per_unit': float('nan')}}, 'metres_per_unit'),
    ({'calibration': {'motion_along': 1.0}}, 'motion calibration')])
def test_unusable_model_files_are_refused(tmp_path, changes, words):
    """One sentence says what is wrong."""
    path = write_geometry_model(tmp_path / 'm.safetensors', **changes)
    with pytest.raises(ModelFileError, match=words):
        GeometryPipeline.load(path, device='cpu')


def test_model_for_another_job(tmp_path):
    """A relocalization model is no geometry model."""
    path = write_geometry_model(tmp_path / 'm.safetensors', job='relocalization')
    with pytest.raises(ModelFileError, match='for relocalization, not for geometry'):
        GeometryPipeline.load(path)
