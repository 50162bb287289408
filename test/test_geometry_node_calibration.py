# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The node ``geometry`` and camera_info: late, missing, wrong, binned, rectified."""

import itertools

from geometry_scene import CAMERA, Scene, SECOND
import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_harness import picture_message
from sensor_msgs.msg import CameraInfo, Image
from stand_in_geometry import StandInNode

from geo_perception.ros.diagnostics import ERROR, WARN
from geo_perception.ros.messages import camera_info_message, make_header


# Calibration


def test_without_calibration_the_node_waits_and_says_what_is_missing(graph):
    """With what there is to remap to."""
    scene = Scene(graph, calibrated=False).start()
    graph.peer.destroy_publisher(scene.info)
    graph.spin_until(lambda: graph.peer.count_publishers('/camera_info') == 0)
    scene.process()
    scene.diagnosis('waiting for camera_info: nobody publishes /camera_info', ERROR)
    scene.diagnosis('let its driver publish it')
    graph.advertise(CameraInfo, '/front/camera_info')
    scene.process()
    scene.diagnosis("remap 'camera_info' to one of: /front/camera_info", ERROR)
    assert scene.pipeline.seen == []


def test_calibration_that_comes_after_the_image_is_waited_for(graph):
    """Drivers publish it in either order."""
    scene = Scene(graph, calibrated=False).start()
    scene.send()
    graph.spin_until(lambda: scene.count('received') == 1)
    scene.calibrate(CAMERA)
    graph.spin_until(lambda: scene.depths, what='the depth')


def test_calibration_that_was_published_once_and_kept_is_heard(graph):
    """Transient local, before the node was there."""
    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    latched = graph.peer.create_publisher(CameraInfo, '/camera_info', qos)
    latched.publish(camera_info_message(1, 'camera_optical_frame', CAMERA))
    scene = Scene(graph, calibrated=False).start()

    def seen():
        scene.process()
        return scene.depths

    graph.spin_until(seen, what='the depth')


def test_calibration_beside_the_image_goes_before_that_under_its_own_name(graph):
    """Which counts while there is no other, whether asked for or not: ROS tells no difference."""
    node = graph.add(StandInNode(
        context=graph.context, parameter_overrides=[Parameter('base_frame', value='')],
        cli_args=['--ros-args', '-r', 'image:=/camera/image', '-r', 'camera_info:=/camera_info']))
    depths = graph.listen(Image, '/geometry/depth')
    assert node.start()
    camera = graph.advertise(Image, '/camera/image')
    graph.spin_until(lambda: camera.get_subscription_count() > 0 and node.is_wanted())
    stamps = itertools.count(SECOND, SECOND // 10)

    def focal_by(info, focal):
        """Publish calibration and an image; return the focal length of the last image."""
        message = camera_info_message(1, 'camera_optical_frame', CAMERA)
        message.k = np.where(message.k == 60, focal, message.k)
        info.publish(message)
        camera.publish(picture_message(next(stamps), frame_id='camera_optical_frame'))
        graph.executor.spin_once(timeout_sec=0.02)
        return depths and node.pipeline.cameras[-1].K[0, 0]

    named = graph.advertise(CameraInfo, '/camera_info')
    graph.spin_until(lambda: focal_by(named, 50.0) == 50, what='the one that there is')
    beside = graph.advertise(CameraInfo, '/camera/camera_info')
    graph.spin_until(lambda: focal_by(beside, 60.0) == 60, what='the one beside the image')
    graph.peer.destroy_publisher(beside)
    graph.spin_until(lambda: node.count_publishers('/camera/camera_info') == 0, what='its end')
    known = len(depths)
    graph.spin_until(lambda: focal_by(named, 50.0) and len(depths) > known + 5, what='the depth')
    assert node.pipeline.cameras[-1].K[0, 0] == 60


@pytest.mark.parametrize('camera, changes, sentence', [
    (CAMERA, {'k': np.zeros(9)}, 'camera_info is of an uncalibrated camera'),
    (CAMERA, {'k': np.array([60.0, 0, 500, 0, 60, 24, 0, 0, 1])}, 'K of camera_info cannot be'),
    (CAMERA.resized(128, 96), {}, 'camera_info on /camera_info is for 128x96 pixels, but the '
                                  'image has 64x48; remap camera_info or publish it scaled'),
    (CAMERA, {'binning_x': 2, 'binning_y': 2}, '32x24 pixels (after binning and region of '
                                               'interest of 64x48), but the image has 64x48'),
    (CAMERA, {'header': make_header(0, 'other')},
     "camera_info is for 'other', but the image is of 'camera_optical_frame'")])
def test_wrong_calibration_is_refused_in_one_sentence(graph, camera, changes, sentence):
    """And the right one mends it."""
    scene = Scene(graph, calibrated=False).start()
    scene.calibrate(camera, **changes)
    scene.process()
    scene.diagnosis(sentence, ERROR)
    assert scene.depths == [] and scene.pipeline.seen == []
    scene.calibrate(CAMERA)
    scene.look()


def test_calibration_without_a_frame_is_used_with_a_warning(graph):
    """It may be of another camera."""
    scene = Scene(graph, calibrated=False).start()
    scene.calibrate(CAMERA, header=make_header(0, ''))
    scene.look()
    scene.diagnosis("has no frame_id and may be of another camera than 'camera_optical_frame'",
                    WARN)


def test_binned_images_have_the_calibration_of_all_pixels(graph):
    """The message has the size of the calibration, the image half of it."""
    scene = Scene(graph, calibrated=False).start()
    scene.calibrate(CAMERA.resized(128, 96), binning_x=2, binning_y=2)
    scene.look()
    assert scene.pipeline.cameras[0].K == pytest.approx(CAMERA.K)


@pytest.mark.parametrize('rectified, focal', [(False, 60.0), (True, 50.0)])
def test_raw_images_have_K_rectified_ones_P(graph, rectified, focal):
    """With a warning where the name of the topic says otherwise."""
    scene = Scene(graph, rectified=rectified, calibrated=False).start()
    scene.calibrate(CAMERA, d=[-0.2, 0.0, 0.0, 0.0, 0.0],
                    p=np.array([50.0, 0, 31, 0, 0, 50, 23, 0, 0, 0, 1, 0]))
    scene.look()
    camera = scene.pipeline.cameras[0]
    assert camera.K[0, 0] == focal and camera.distortion.any() == (not rectified)
    if rectified:
        scene.diagnosis('rectified is true, but /image is not called so', WARN)


def test_an_image_without_a_frame_needs_one(graph):
    """By parameter."""
    scene = Scene(graph).start()
    scene.process(frame_id='')
    scene.diagnosis('the image has no frame_id; set camera_frame', ERROR)
    assert scene.depths == []
