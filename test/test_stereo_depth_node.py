# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The node ``stereo_depth`` on a real ROS graph, with a model that says one distance."""

from dataclasses import replace
import shutil

import cv2
import numpy as np
import pytest
from rclpy.parameter import Parameter
from ros_harness import picture_message
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger
from stereo_msgs.msg import DisparityImage
from stereo_world import CAMERA
from tiny_stereo_model import metadata, weights

from geo_perception.errors import ConfigurationError
from geo_perception.model_file import save_model_file
from geo_perception.nodes.stereo_depth import StereoDepthNode, StereoDepthParameters
from geo_perception.ros.diagnostics import OK, WARN
from geo_perception.ros.disparity import right_camera_info
from geo_perception.ros.messages import camera_info_message, image_message, stamp_to_ns
from geo_perception.ros.validators import depth_problems

SECOND = 10 ** 9
EXPECTED = 88 * 0.12 / (0.05 * 128)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Return a model file."""
    path = tmp_path_factory.mktemp('model') / 'flat.safetensors'
    save_model_file(path, metadata(), weights(0.05))
    return str(path)


def start(graph, model, camera=CAMERA, frame='camera', **parameters):
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
    calibration.publish(camera_info_message(SECOND, frame, camera))
    graph.spin_until(lambda: node._calibration._info is not None, what='the calibration')
    return node, images, depths, infos, confidences


def test_depth_confidence_and_calibration(graph, model):
    """In metres, of one stamp, frame and size, by the contract of depth images."""
    node, images, depths, infos, confidences = start(graph, model, scale_correction=1.5)
    images.publish(picture_message(100 * SECOND, height=96, width=128))
    graph.spin_until(lambda: depths and infos and confidences, what='the depth')
    assert depth_problems(depths[0], infos[0]) == []
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


def test_calibration_without_a_frame_is_used_with_a_warning(graph, model):
    """It may be of another camera."""
    node, images, depths, _, _ = start(graph, model, frame='')
    images.publish(picture_message(100 * SECOND, height=96, width=128))
    graph.spin_until(lambda: depths, what='the depth')
    assert graph.diagnosis(
        node, lambda status: 'camera_info has no frame_id' in status.message).level == WARN


def test_disparity_as_a_stereo_camera_says_it(graph, model):
    """What consumers reproject is the depth; what is unknown has the one value they know."""
    node = graph.make(StereoDepthNode, model=model, device='cpu', precision='fp32',
                      post_process=False, scale_correction=1.5)
    found = graph.listen(DisparityImage, '/stereo_depth/disparity')
    rights, lefts = (graph.listen(CameraInfo, f'/stereo_depth/{name}camera_info')
                     for name in ('right/', ''))
    assert node.start(), node.last_failure
    images, calibration = graph.advertise(Image, '/image'), graph.advertise(
        CameraInfo, '/camera_info')
    graph.spin_until(lambda: images.get_subscription_count() and
                     calibration.get_subscription_count() and
                     node._disparity.get_subscription_count(), what='the match')
    calibration.publish(camera_info_message(SECOND, 'camera', CAMERA))
    graph.spin_until(lambda: node._calibration._info is not None, what='the calibration')
    images.publish(picture_message(100 * SECOND, height=96, width=128))
    graph.spin_until(lambda: found and rights and lefts, what='the disparity')
    message, right, left = found[0], rights[0], lefts[0]
    disparity = np.frombuffer(message.image.data, np.float32).reshape(96, 128)
    # 5 % of the width is what the network says; the left border is no answer.
    assert message.f == 88.0 and message.t == pytest.approx(0.18)
    np.testing.assert_allclose(disparity[:, 6:], 0.05 * 128, rtol=1e-3)
    assert (disparity[:, :6] == -1.0).all()
    window = message.valid_window
    assert (window.x_offset, window.width, window.height) == (6, 122, 96)
    assert message.min_disparity == pytest.approx(88 * 0.18 / 80)
    assert message.max_disparity == pytest.approx(0.3 * 128, rel=1e-3)
    assert message.delta_d == 0.125 and message.image.encoding == '32FC1'
    assert message.header == message.image.header == right.header == left.header
    assert right.p[3] == pytest.approx(-88 * 0.18) and left.p[3] == 0
    assert list(right.k) == list(left.k) and right.width == 128
    # The consumers' way back, with Q of both calibrations: OpenCV's, as image_geometry has it.
    Q = np.array([[1, 0, 0, -left.p[2]], [0, 1, 0, -left.p[6]], [0, 0, 0, left.p[0]],
                  [0, 0, -1 / (right.p[3] / right.p[0]), 0]])
    points = cv2.reprojectImageTo3D(disparity, Q, handleMissingValues=True)
    np.testing.assert_allclose(points[:, 6:, 2], 1.5 * EXPECTED, rtol=1e-3)
    assert (points[:, :6, 2] == 10000).all()


def test_calibration_by_a_tape_measure(graph, model, tmp_path):
    """At once, kept for the next start, and forgotten on demand."""
    own = str(shutil.copy(model, tmp_path / 'own.safetensors'))
    node, images, depths, _, _ = start(graph, own)
    answer = graph.call(Trigger, '/stereo_depth/calibrate_scale')
    assert not answer.success and 'there is no depth yet' in answer.message
    images.publish(picture_message(100 * SECOND, height=96, width=128))
    graph.spin_until(lambda: depths, what='the depth')
    answer = graph.call(Trigger, '/stereo_depth/calibrate_scale')
    assert not answer.success and 'has to be above 0' in answer.message
    result = node.set_parameters([Parameter('measured_distance', value=2 * EXPECTED),
                                  Parameter('measured_region', value='60,40,10,10')])
    assert all(each.successful for each in result)
    assert not node.set_parameters([Parameter('max_depth', value=9.0)])[0].successful
    answer = graph.call(Trigger, '/stereo_depth/calibrate_scale')
    assert answer.success and 'multiplied by 2.0000' in answer.message
    for name in ('after', 'restarted'):
        if name == 'restarted':
            node.destroy_node()
            node, images, depths, _, _ = start(graph, own)
        depths.clear()
        images.publish(picture_message(101 * SECOND, height=96, width=128))
        graph.spin_until(lambda: depths, what='the depth')
        depth = np.frombuffer(depths[-1].data, np.float32)
        assert depth[5000] == pytest.approx(2 * EXPECTED, rel=1e-3)
    assert graph.call(Trigger, '/stereo_depth/reset_scale').success
    assert node.pipeline.scale == 1.0 and not (tmp_path / 'own.scale.json').exists()


@pytest.mark.parametrize('baseline, level, words', [
    (0.12, OK, ''), (0.06, WARN, 'Depth is 2.00 times what both eyes see')])
def test_the_other_eye_checks_depth(graph, model, baseline, level, words):
    """A live figure where both eyes are there, and a warning where they disagree."""
    node, images, depths, _, _ = start(graph, model)
    noise = np.random.default_rng(3).integers(0, 256, (24, 40, 3), np.uint8)
    wide = cv2.resize(noise, (160, 96), interpolation=cv2.INTER_CUBIC)
    # The network says 6.4 pixels for a baseline of 0.12 m.
    right = cv2.warpAffine(wide, np.float32([[1, 0, -6.4], [0, 1, 0]]), (128, 96))
    rights = graph.advertise(Image, '/right_image')
    # Beside both image topics.
    infos = graph.advertise(CameraInfo, '/camera_info')
    graph.spin_until(lambda: rights.get_subscription_count() and
                     infos.get_subscription_count() == 2, what='the match')
    infos.publish(right_camera_info(SECOND, 'camera', CAMERA, baseline))
    graph.spin_until(node._right_calibration.baseline, what='the baseline')
    for i in range(3):
        stamp = (100 + 2 * i) * SECOND
        rights.publish(image_message(stamp + 10 ** 6, 'right', right, 'rgb8'))
        images.publish(image_message(stamp, 'camera', np.ascontiguousarray(wide[:, :128]),
                                     'rgb8'))
        graph.spin_until(lambda: len(depths) > i, what='the depth')
    graph.spin_until(lambda: node._check is not None, what='the check')
    status = graph.diagnosis(node, lambda status: any(
        pair.key == 'left-right error' for pair in status.values))
    values = {pair.key: pair.value for pair in status.values}
    assert status.level == level and words in status.message
    assert float(values['depth over that of both eyes']) == pytest.approx(
        0.12 / baseline, rel=0.05)
    assert (float(values['left-right error']) < 0.03) == (level == OK)


@pytest.mark.parametrize('parameters, words', [
    ({'min_depth': 5.0, 'max_depth': 2.0}, 'min_depth 5.0 is not below'),
    ({'camera_frame': '/cam'}, 'no leading slash')])
def test_parameters_contradict(parameters, words):
    """One sentence."""
    with pytest.raises(ConfigurationError, match=words):
        StereoDepthParameters(**parameters)
