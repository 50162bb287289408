# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The node ``relocalize`` says why nothing comes, and whether the camera fits."""

import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from relocalize_scene import Scene, SECOND, values_of
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from geo_perception.ros.diagnostics import ERROR, OK, WARN
from geo_perception.ros.messages import make_header, ns_to_stamp, stamp_to_ns


# The watchdog says why nothing comes


def test_the_watchdog_names_the_topics_there_are(graph):
    """Nobody publishes the one that is asked for."""
    scene = Scene(graph, watchdog_s=0.1)
    assert scene.node.start()
    assert scene.diagnosis('nobody publishes /image;').level == ERROR
    graph.advertise(Image, '/geometry/depth')     # of another node of ours
    status = scene.diagnosis('no camera image is published at all')
    assert status.message.endswith('the same ROS_DOMAIN_ID.')
    graph.advertise(Image, '/front/image_raw')
    scene.diagnosis("remap 'image' to one of: /front/image_raw")


def test_the_watchdog_knows_the_other_transport(graph):
    """The picture is there, but compressed."""
    scene = Scene(graph, watchdog_s=0.1)
    assert scene.node.start()
    graph.advertise(CompressedImage, '/image/compressed')
    scene.diagnosis('set image_transport:=compressed')


def test_the_watchdog_sees_a_wrong_type(two_graphs):
    """Somebody publishes something else under that name."""
    graph, other = two_graphs
    scene = Scene(graph, watchdog_s=0.1)
    assert scene.node.start()
    other.advertise(CompressedImage, '/image')
    scene.diagnosis('/other publishes /image as sensor_msgs/msg/CompressedImage, but '
                    'sensor_msgs/msg/Image is expected; set image_transport:=compressed')


def test_the_watchdog_sees_unequal_reliability(graph):
    """A best-effort camera does not reach a reliable subscriber."""
    scene = Scene(graph, watchdog_s=0.1, image_reliability='reliable')
    assert scene.node.start()
    graph.advertise(Image, '/image', reliable=False)
    scene.diagnosis('set image_reliability:=best_effort')


def test_the_watchdog_sees_a_silent_camera(graph):
    """Everything fits, but nothing comes."""
    scene = Scene(graph, watchdog_s=0.1).start()
    status = scene.diagnosis('/peer publishes /image, but nothing arrives')
    assert status.level == ERROR


def test_a_camera_that_goes_away_is_missed_and_may_come_back(graph):
    """Its driver has crashed, say; the node needs no restart."""
    scene = Scene(graph, watchdog_s=0.1).start()
    scene.fix()
    graph.peer.destroy_publisher(scene.camera)
    assert scene.diagnosis('nobody publishes /image;').level == ERROR
    scene.camera = graph.advertise(Image, '/image')
    graph.spin_until(lambda: scene.camera.get_subscription_count() > 0, what='the match')
    scene.fix()


def test_the_watchdog_misses_the_clock(graph):
    """With use_sim_time and no /clock; a clock that stands still is a pause, not a fault."""
    scene = Scene(graph, watchdog_s=0.1, use_sim_time=True)
    assert scene.node.start()
    assert scene.diagnosis('nobody publishes /clock').level == ERROR
    clock = graph.advertise(Clock, '/clock')
    graph.spin_until(lambda: clock.get_subscription_count() > 0)
    message = Clock()
    message.clock.sec = 7
    clock.publish(message)
    assert scene.diagnosis('/clock stands still').level == OK


def test_a_clock_that_is_missing_is_missed_while_images_come(graph, tf):
    """Without it map -> odom is not broadcast; that begins with the next image after it."""
    scene = Scene(graph, base_frame='base_link', publish_tf=True, use_sim_time=True,
                  transform_tolerance_s=0.5, tf_timeout_s=5.0, watchdog_s=3600.0)
    heard = graph.listen(tf.message_class, '/tf')

    def sent():
        return [stamp_to_ns(t.header.stamp) for message in heard for t in message.transforms
                if t.child_frame_id == 'odom']

    scene.start()
    for parent, child in (('base_link', 'camera'), ('odom', 'base_link')):
        tf(0, parent, child, np.eye(4))
    scene.fix()
    graph.spin_until(sent, what='the first fix at its own stamp')
    status = scene.diagnosis('nobody publishes /clock')
    assert status.level == ERROR and values_of(status)['office -> odom'] == 'waits for /clock'
    clock = graph.advertise(Clock, '/clock')
    graph.spin_until(lambda: clock.get_subscription_count() > 0)

    def tick(now):
        clock.publish(Clock(clock=ns_to_stamp(now)))
        graph.spin_until(lambda: scene.node.get_clock().now().nanoseconds == now, what='the time')

    for seconds in (1, 2, 3):
        tick(scene.stamp + seconds * SECOND)
    scene.stamp += 3 * SECOND

    def broadcast():
        tick(scene.process())
        return len(sent()) > 3

    graph.spin_until(broadcast, what='map -> odom')
    assert max(sent()) <= scene.stamp + SECOND
    status = scene.diagnosis('Relocalizing base_link at')
    assert status.level == OK and values_of(status)['office -> odom'] == 'is broadcast'


# Calibration


def test_calibration_that_was_latched_before_the_start_is_heard(graph):
    """As ``camera_info`` of a driver that says it once; a place file verifies by it."""
    latched = graph.peer.create_publisher(CameraInfo, '/camera_info', QoSProfile(
        depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    info = CameraInfo(header=make_header(0, 'other'), width=64, height=48)
    info.k = np.array([60.0, 0, 32, 0, 60, 24, 0, 0, 1])
    latched.publish(info)
    scene = Scene(graph).start()
    scene.fix()
    assert scene.diagnosis("camera_info is for 'other'").level == WARN


@pytest.mark.parametrize('focal, frame_id, sentence', [
    (60.0, 'camera', 'Relocalizing the camera at'),
    (62.0, 'camera', 'Relocalizing the camera at'),
    (40.0, 'camera', 'The field of view of this camera (62 deg) differs'),
    (60.0, 'other', "camera_info is for 'other', but the image is of 'camera'"),
    (60.0, '', "camera_info has no frame_id and may be of another camera than 'camera'"),
    (0.0, 'camera', 'uncalibrated')])
def test_a_camera_unlike_the_training_camera_is_reported(graph, focal, frame_id, sentence):
    """The network has no intrinsics input; positions would be off."""
    scene = Scene(graph).start()
    info = CameraInfo(header=make_header(0, frame_id), width=64, height=48)
    info.k = np.array([focal, 0, 32, 0, focal, 24, 0, 0, 1])
    publisher = graph.advertise(CameraInfo, '/camera_info')
    graph.spin_until(lambda: publisher.get_subscription_count() > 0)
    publisher.publish(info)
    scene.fix()
    status = scene.diagnosis(sentence)
    assert status.level == (OK if sentence.startswith('Relocalizing') else WARN)
