# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The node ``stereo_depth`` on a real ROS graph, with a model that says one distance."""

from dataclasses import replace

from message_checks import check_depth
import numpy as np
import pytest
from ros_harness import picture_message
from sensor_msgs.msg import CameraInfo, Image
from stereo_world import CAMERA
from tiny_stereo_model import metadata, weights

from geo_perception.errors import ConfigurationError
from geo_perception.model_file import save_model_file
from geo_perception.nodes.stereo_depth import StereoDepthNode, StereoDepthParameters
from geo_perception.ros.diagnostics import OK, WARN
from geo_perception.ros.messages import camera_info_message, stamp_to_ns

SECOND = 10 ** 9
EXPECTED = 88 * 0.12 / (0.05 * 128)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Return a model file."""
    path = tmp_path_factory.mktemp('model') / 'flat.safetensors'
    save_model_file(path, metadata(), weights(0.05))
    return str(path)


def start(graph, model, camera=CAMERA, **parameters):
    """Return a running node, the camera before it and what it publishes."""
    node = graph.make(StereoDepthNode, model=model, device='cpu', precision='fp32', **parameters)
    depths = graph.listen(Image, '/stereo_depth/depth')
    infos = graph.listen(CameraInfo, '/stereo_depth/camera_info')
    confidences = graph.listen(Image, '/stereo_depth/confidence')
    assert node.start(), node.last_failure
    images, calibration = graph.advertise(Image, '/image'), graph.advertise(
        CameraInfo, '/camera_info')
    graph.spin_until(lambda: images.get_subscription_count() and
                     calibration.get_subscription_count() and node._depth.get_subscription_count()
                     and node._confidence.get_subscription_count(), what='the match')
    calibration.publish(camera_info_message(SECOND, 'camera', camera))
    graph.spin_until(lambda: node._calibration._info is not None, what='the calibration')
    return node, images, depths, infos, confidences


def test_depth_confidence_and_calibration(graph, model):
    """In metres, of one stamp, frame and size, by the contract of depth images."""
    node, images, depths, infos, confidences = start(graph, model, scale_correction=1.5)
    images.publish(picture_message(100 * SECOND, height=96, width=128))
    graph.spin_until(lambda: depths and infos and confidences, what='the depth')
    check_depth(depths[0], infos[0])
    assert {stamp_to_ns(m.header.stamp) for m in (depths[0], infos[0], confidences[0])} == {
        100 * SECOND}
    depth = np.frombuffer(depths[0].data, np.float32).reshape(96, 128)
    np.testing.assert_allclose(depth, 1.5 * EXPECTED, rtol=1e-3)
    np.testing.assert_allclose(np.reshape(infos[0].k, (3, 3)), CAMERA.K, atol=1e-6)
    confidence = np.frombuffer(confidences[0].data, np.float32)
    assert confidences[0].encoding == '32FC1' and (confidence > 0.99).all()
    values = {pair.key: pair.value for pair in graph.diagnosis(
        node, lambda status: status.level == OK).values}
    assert values['training baseline [m]'] == '0.1200' and 'CPU' in values['engine']


def test_limits_and_the_border(graph, model):
    """What is beyond is infinite; without post-processing the left border is unknown."""
    _, images, depths, _, _ = start(graph, model, post_process=False, max_depth=1.0)
    images.publish(picture_message(100 * SECOND, height=96, width=128))
    graph.spin_until(lambda: depths, what='the depth')
    depth = np.frombuffer(depths[0].data, np.float32).reshape(96, 128)
    assert np.isnan(depth[:, :6]).all() and np.isposinf(depth[:, 6:]).all()


def test_a_camera_unlike_the_training_camera(graph, model):
    """Depth comes, rescaled, and diagnostics say what to think of it."""
    K = CAMERA.K * [[2.0], [2.0], [1.0]]
    K[:2, 2] = CAMERA.K[:2, 2]
    node, images, depths, _, _ = start(graph, model, camera=replace(CAMERA, K=K))
    images.publish(picture_message(100 * SECOND, height=96, width=128))
    graph.spin_until(lambda: depths, what='the depth')
    assert np.frombuffer(depths[0].data, np.float32)[5000] == pytest.approx(2 * EXPECTED, rel=1e-3)
    status = graph.diagnosis(node, lambda status: 'times that of the training' in status.message)
    assert status.level == WARN


@pytest.mark.parametrize('parameters, words', [
    ({'min_depth': 5.0, 'max_depth': 2.0}, 'min_depth 5.0 is not below'),
    ({'camera_frame': '/cam'}, 'no leading slash')])
def test_parameters_contradict(parameters, words):
    """One sentence."""
    with pytest.raises(ConfigurationError, match=words):
        StereoDepthParameters(**parameters)
