# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The node ``geometry`` on a real ROS graph, with a stand-in that knows the truth."""

import os
import signal
import sys
import threading

import message_checks
from message_checks import check_depth, check_odometry
from nav_msgs.msg import Odometry
import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_harness import picture_message, start_process, TIMEOUT
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
import small_world
from stand_in_geometry import (
    base_at, camera_at, DEPTH, SPEED, StandInNode, T_BASE_CAMERA, TURN)
from tiny_geometry_model import write_geometry_model

from geo_perception.errors import ConfigurationError
from geo_perception.geometry import se3
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.point_cloud import coloured_points
from geo_perception.nodes.geometry import GeometryNode
from geo_perception.ros.diagnostics import ERROR, OK, WARN
from geo_perception.ros.messages import camera_info_message, image_message, make_header
from geo_perception.ros.messages import matrix_from_pose, matrix_from_transform, ns_to_stamp
from geo_perception.ros.messages import odometry_message, stamp_to_ns, transform_stamped

SECOND = 1_000_000_000
CAMERA = Camera(np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]), 64, 48,
                frame_id='camera_optical_frame')


class Scene:
    """A node under test with a camera before it and listeners behind it."""

    def __init__(self, graph, *, listen=('depth', 'odometry'), node_class=StandInNode,
                 calibrated=True, base_frame='', **parameters):
        self.graph = graph
        self.node = graph.make(node_class, base_frame=base_frame, **parameters)
        self.suffix = '_relative' if parameters.get('scale_source') == 'none' else ''
        self.depths, self.infos, self.odometry = [], [], []
        if 'depth' in listen:
            self.depths = graph.listen(Image, f'/geometry/depth{self.suffix}')
            self.infos = graph.listen(CameraInfo, '/geometry/camera_info')
        if 'odometry' in listen:
            self.odometry = graph.listen(Odometry, f'/geometry/odometry{self.suffix}')
        self.listens, self.calibrated = bool(listen), calibrated
        self.stamp = 100 * SECOND

    def start(self, reliable=True):
        """Bring the node up and connect a camera."""
        assert self.node.start(), self.node.last_failure
        self.camera = self.graph.advertise(Image, '/image', reliable)
        self.info = self.graph.advertise(CameraInfo, '/camera_info', reliable)
        self.graph.spin_until(lambda: self.camera.get_subscription_count() > 0, what='the match')
        self.graph.spin_until(lambda: self.info.get_subscription_count() > 0, what='the match')
        wanted = [topic for topic, heard in (
            (self.node._depth, self.depths), (self.node._odometry, self.odometry))
            if heard is not None]
        self.graph.spin_until(
            lambda: not self.listens or self.node.is_wanted(), what='the listener')
        self.graph.spin_until(lambda: all(
            topic.get_subscription_count() == self.graph.peer.count_subscribers(topic.topic_name)
            for topic in wanted), what='all listeners')
        if self.calibrated:
            self.calibrate(CAMERA)
        return self

    def calibrate(self, camera, **changes):
        """Publish calibration and wait until it has arrived."""
        message = camera_info_message(self.stamp, camera.frame_id, camera)
        for name, value in changes.items():
            setattr(message, name, value)
        known = self.node._calibration._info
        self.info.publish(message)
        self.graph.spin_until(lambda: self.node._calibration._info is not known,
                              what='the calibration')

    @property
    def pipeline(self):
        """The stand-in inside the node."""
        return self.node.pipeline

    def send(self, message=None, frame_id='camera_optical_frame', **how):
        """Publish an image; return its stamp."""
        self.stamp += SECOND // 10
        self.camera.publish(message or picture_message(self.stamp, frame_id=frame_id, **how))
        return self.stamp

    def count(self, name):
        """Return a counter of the node."""
        return self.node.statistics.count(name)

    def process(self, message=None, **how):
        """Publish an image and wait until the node is done with it; return its stamp."""
        done = self.count('processed')
        stamp = self.send(message, **how)
        self.graph.spin_until(lambda: self.count('processed') > done, what='the frame')
        return stamp

    def move(self, **how):
        """Publish an image and return the odometry that comes of it."""
        stamp = self.process(**how)
        self.graph.spin_until(lambda: is_newest(self.odometry, stamp), what='the odometry')
        check_odometry(self.odometry[-1])
        return self.odometry[-1]

    def look(self, **how):
        """Publish an image and return depth and calibration that come of it."""
        stamp = self.process(**how)
        self.graph.spin_until(lambda: is_newest(self.depths, stamp)
                              and is_newest(self.infos, stamp), what='the depth')
        check_depth(self.depths[-1], self.infos[-1])
        return self.depths[-1], self.infos[-1]

    def diagnosis(self, text, level=None):
        """Wait for a diagnosis that holds a text; return its key-values."""
        status = self.graph.diagnosis(self.node, lambda status: text in status.message)
        assert level in (None, status.level)
        return {pair.key: pair.value for pair in status.values}


def is_newest(messages, stamp):
    """Tell whether the last message has a stamp."""
    return bool(messages) and stamp_to_ns(messages[-1].header.stamp) == stamp


def black(stamp):
    """Return what a camera with a lens cap gives."""
    return image_message(stamp, 'camera_optical_frame', np.zeros((48, 64, 3), np.uint8), 'rgb8')


def twist_of(message):
    """Return linear and angular velocity, shape (6,)."""
    twist = message.twist.twist
    return np.array([twist.linear.x, twist.linear.y, twist.linear.z,
                     twist.angular.x, twist.angular.y, twist.angular.z])


@pytest.fixture
def tf(graph):
    """Return a function that publishes transforms, where tf2_msgs is installed."""
    TFMessage = pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is not installed').TFMessage
    qos = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    static = graph.peer.create_publisher(TFMessage, '/tf_static', qos)
    moving = graph.peer.create_publisher(TFMessage, '/tf', 10)

    def publish(stamp, parent, child, T):
        publisher = moving if stamp else static
        publisher.publish(TFMessage(transforms=[transform_stamped(stamp, parent, child, T)]))

    publish.message_class = TFMessage
    return publish


# Depth


def test_depth_comes_with_its_own_calibration(graph):
    """In metres, NaN where unknown, half the size here, in the frame of the camera."""
    scene = Scene(graph).start()
    depth, info = scene.look()
    assert depth.header.frame_id == 'camera_optical_frame'
    values = np.frombuffer(depth.data, np.float32).reshape(24, 32)
    assert np.isnan(values[0, 0]) and np.all(values.ravel()[1:] == np.float32(DEPTH))
    assert (info.k[0], info.k[2]) == (30.0, 15.5)
    assert scene.pipeline.cameras[0].K == pytest.approx(CAMERA.K)


@pytest.mark.parametrize('camera_reliable, listener_reliable',
                         [(False, True), (False, False), (True, False)])
def test_peers_of_either_reliability_are_served(graph, camera_reliable, listener_reliable):
    """A camera that is best effort is heard, and listeners of both kinds hear."""
    scene = Scene(graph, listen=())
    depths = graph.listen(Image, '/geometry/depth', reliable=listener_reliable)
    odometry = graph.listen(Odometry, '/geometry/odometry', reliable=listener_reliable)
    scene.start(reliable=camera_reliable)
    graph.spin_until(scene.node.is_wanted)

    def arrived():
        scene.send()
        graph.executor.spin_once(timeout_sec=0.05)
        return depths and odometry

    graph.spin_until(arrived, what='depth and odometry')


def test_depth_alone_takes_no_motion(graph):
    """And nobody at all takes nothing; a listener to odometry begins anew."""
    scene = Scene(graph, listen=()).start()
    scene.send()
    graph.spin_until(lambda: scene.count('skipped') == 1)
    scene.diagnosis('Nobody subscribes', OK)
    infos = graph.listen(CameraInfo, '/geometry/camera_info')
    graph.spin_until(lambda: scene.node._info.get_subscription_count() > 0)
    scene.send()
    graph.spin_until(lambda: scene.count('skipped') == 2)
    assert scene.pipeline.seen == []
    scene.depths, scene.infos = graph.listen(Image, '/geometry/depth'), infos
    graph.spin_until(scene.node.is_wanted)
    scene.look()
    scene.look()
    assert scene.pipeline.seen == ['depth', 'depth'] and scene.pipeline.resets == 0
    scene.odometry = graph.listen(Odometry, '/geometry/odometry')
    graph.spin_until(scene.node._odometry_is_wanted)
    scene.process()
    scene.move()
    assert scene.pipeline.seen[2:] == ['all', 'all'] and scene.pipeline.resets == 1


def test_points_are_made_only_while_somebody_looks(graph, monkeypatch):
    """Coloured, from the depth, organised."""
    made = []
    monkeypatch.setattr('geo_perception.nodes.geometry.coloured_points',
                        lambda *images: made.append(images) or coloured_points(*images))
    scene = Scene(graph).start()
    scene.look()
    points = graph.listen(PointCloud2, '/geometry/points')
    graph.spin_until(lambda: scene.node._points.get_subscription_count() > 0)
    scene.look()
    graph.spin_until(lambda: points, what='the points')
    cloud = points[0]
    assert cloud.header == scene.depths[-1].header and (cloud.width, cloud.height) == (32, 24)
    xyz = np.frombuffer(cloud.data, np.float32).reshape(24, 32, 4)[..., :3]
    assert np.isnan(xyz[0, 0]).all()
    rays = CAMERA.resized(32, 24).rays()
    assert xyz[5, 7] == pytest.approx(DEPTH * rays[5, 7], rel=1e-6)
    assert len(points) == len(made) == 1


# Odometry


@pytest.mark.parametrize('scale_source, suffix', [('model', ''), ('none', '_relative')])
def test_what_has_no_unit_has_another_name(graph, scale_source, suffix):
    """Nobody takes it for metres, and the diagnostics say so."""
    scene = Scene(graph, scale_source=scale_source).start()
    scene.look()
    scene.move()
    topics = {name for name, _ in graph.peer.get_topic_names_and_types()}
    for name in ('depth', 'odometry', 'points'):
        assert f'/geometry/{name}{suffix}' in topics
        other = '' if suffix else '_relative'
        assert f'/geometry/{name}{other}' not in topics
    values = scene.diagnosis('Depth and odometry' + (' up to scale' if suffix else ' at'), OK)
    assert values['scale source'] == scale_source
    assert ('scale [m/unit]' in values) == (not suffix)


def test_without_a_scale_nothing_is_published(graph):
    """What will be metres is withheld until it is."""
    scene = Scene(graph).start()
    scene.pipeline.metres_per_unit = None
    scene.process()
    scene.process()
    values = scene.diagnosis('nothing is published: No scale yet', WARN)
    assert values['no result: scale'] == '2'
    assert scene.depths == scene.odometry == []
    scene.pipeline.metres_per_unit = 1.5
    scene.move()
    assert float(scene.diagnosis('Depth and odometry at')['scale confidence']) == 0.8


def test_the_camera_alone_has_body_axes_and_another_frame(graph):
    """What looks like the odometry of a body is one: x forward, not z."""
    scene = Scene(graph).start()
    scene.process()
    start = scene.stamp
    for _ in range(3):
        message = scene.move()
    assert (message.header.frame_id, message.child_frame_id) == ('odom', 'camera_frame')
    T_body_camera = se3.make_transform(se3.R_BODY_OPTICAL, np.zeros(3))
    expected = T_body_camera @ se3.inverse_transform(camera_at(start)) @ camera_at(scene.stamp) \
        @ se3.inverse_transform(T_body_camera)
    assert matrix_from_pose(message.pose.pose) == pytest.approx(expected)
    assert twist_of(message)[0] > 0.3   # the camera looks ahead, more or less
    assert scene.diagnosis('Depth and odometry')['odometry of'] == 'camera_frame'


def test_odometry_is_that_of_the_base_where_tf_knows_the_camera(graph, tf):
    """Pose in odom, twist in the base: forward at 0.5 m/s, left at 0.4 rad/s."""
    scene = Scene(graph, base_frame='base_link', tf_timeout_s=0.0).start()
    scene.look()
    scene.look()
    values = scene.diagnosis('the odometry waits for TF', WARN)
    assert scene.odometry == [] and values['published'] == '2'   # depth goes on
    tf(0, 'base_link', 'camera_optical_frame', T_BASE_CAMERA)

    def arrived():
        scene.process()
        return scene.odometry

    graph.spin_until(arrived, what='the odometry')
    start = stamp_to_ns(scene.odometry[0].header.stamp) - SECOND // 10
    for _ in range(4):
        message = scene.move()
    assert (message.header.frame_id, message.child_frame_id) == ('odom', 'base_link')
    T = matrix_from_pose(message.pose.pose)
    assert T == pytest.approx(se3.inverse_transform(base_at(start)) @ base_at(scene.stamp))
    assert T[0, 3] > 0.1 and T[1, 3] > 0 and T[1, 0] > 0.1   # ahead, to the left, turned left
    assert twist_of(message) == pytest.approx([SPEED, 0, 0, 0, 0, TURN], abs=1e-6)
    # The lever arm turns uncertain rotation into uncertain velocity.
    covariance = message_checks.check_covariance(message.twist.covariance)
    assert covariance[0, 0] > 3e-6 / 0.1 ** 2 and abs(covariance[0, 4]) > 1e-6


def test_a_camera_that_pans_on_a_standing_base_is_no_motion(graph, tf):
    """TF is asked at both stamps."""
    scene = Scene(graph, base_frame='base_link', tf_timeout_s=5.0).start()

    def mounted_at(stamp):
        pan = se3.matrix_from_rotation_vector([0, 0, 0.3e-9 * (stamp - 100 * SECOND)])
        return se3.make_transform(pan, np.zeros(3)) @ T_BASE_CAMERA

    scene.pipeline._camera_at = mounted_at
    for i in range(6):
        stamp = scene.stamp + i * SECOND // 10
        tf(stamp, 'base_link', 'camera_optical_frame', mounted_at(stamp))
    scene.process()
    scene.move()
    message = scene.move()
    assert matrix_from_pose(message.pose.pose) == pytest.approx(np.eye(4), abs=1e-6)
    assert twist_of(message) == pytest.approx(np.zeros(6), abs=1e-6)


def test_the_transform_is_broadcast_where_asked_for(graph, tf):
    """Without any listener to odometry, and only with a frame to move and metres."""
    scene = Scene(graph, listen=(), base_frame='base_link', publish_tf=True)
    heard = graph.listen(tf.message_class, '/tf')
    scene.start()
    tf(0, 'base_link', 'camera_optical_frame', T_BASE_CAMERA)

    def sent():
        scene.process()
        return [t for message in heard for t in message.transforms]

    graph.spin_until(sent, what='odom -> base_link')
    transform = sent()[0]
    assert (transform.header.frame_id, transform.child_frame_id) == ('odom', 'base_link')
    stamp = stamp_to_ns(transform.header.stamp)
    step = se3.inverse_transform(base_at(stamp - SECOND // 10)) @ base_at(stamp)
    assert matrix_from_transform(transform.transform) == pytest.approx(step)


@pytest.mark.parametrize('parameters, sentence', [
    ({'publish_tf': True, 'base_frame': ''}, "publish_tf needs 'base_frame'"),
    ({'publish_tf': True, 'base_frame': 'base_link', 'scale_source': 'none'}, 'needs metres'),
    ({'publish_tf': True, 'base_frame': 'base_link', 'scale_source': 'odometry',
      'scale_frame': 'odom'}, 'measured by what it scales'),
    ({'scale_source': 'camera_height'}, "needs 'camera_height'"),
    ({'base_frame': '/base_link'}, 'no leading slash'),
    ({'scale': 0.0}, "parameter 'scale' is 0.0"),
    ({'scale_source': 'guess'}, 'must be one of: model')])
def test_parameters_that_contradict_each_other_are_refused(graph, parameters, sentence):
    """Before anything starts."""
    with pytest.raises(ConfigurationError, match=sentence):
        Scene(graph, **parameters)


def test_tf_without_tf2_msgs_is_one_clear_error(graph, monkeypatch):
    """At configure, not at import."""
    monkeypatch.setitem(sys.modules, 'tf2_msgs.msg', None)
    scene = Scene(graph, base_frame='base_link')
    assert not scene.node.start()
    assert 'tf2_msgs is not installed' in scene.node.last_failure


# Metres from elsewhere


def test_wheels_give_the_scale(graph, tf):
    """The distance of the camera, not of the base, though the messages come late."""
    scene = Scene(graph, scale_source='odometry').start()
    tf(0, 'base_footprint', 'camera_optical_frame', T_BASE_CAMERA)
    wheels = graph.advertise(Odometry, '/wheel_odometry')
    graph.spin_until(lambda: wheels.get_subscription_count() > 0)
    scene.process()
    scene.process()
    scene.diagnosis('No scale yet', WARN)
    first = scene.stamp
    tree = scene.node._true_motion._tree

    def ride(stamp):
        known = len(tree._links['base_footprint'].stamps) if tree.frames else 0
        wheels.publish(odometry_message(stamp, 'wheel_odom', 'base_footprint', base_at(stamp),
                                        1e-3 * np.eye(6), np.zeros(6), 1e-3 * np.eye(6)))
        graph.spin_until(lambda: tree.frames and len(
            tree._links['base_footprint'].stamps) > known, what='the wheels')

    ride(first - SECOND)
    scene.process()
    for offset in (0, SECOND // 10):
        ride(first + offset)

    def known():
        ride(scene.process())
        return scene.pipeline.distances

    graph.spin_until(known, what='a distance')
    stamp = scene.stamp - SECOND // 10
    ends = camera_at(stamp - SECOND // 10), camera_at(stamp)
    # Between the messages of the wheels the way is taken for straight.
    assert scene.pipeline.distances[0] == pytest.approx(
        np.linalg.norm(ends[1][:3, 3] - ends[0][:3, 3]), rel=1e-3)
    scene.move()


def test_tf_gives_the_scale(graph, tf):
    """From the frame that was named."""
    scene = Scene(graph, scale_source='odometry', scale_frame='wheel_odom').start()

    def known():
        stamp = scene.process()
        tf(stamp, 'wheel_odom', 'camera_optical_frame', camera_at(stamp))
        return scene.pipeline.distances

    graph.spin_until(known, what='a distance')
    assert scene.pipeline.distances[0] == pytest.approx(np.linalg.norm(
        camera_at(SECOND // 10)[:3, 3] - camera_at(0)[:3, 3]), rel=1e-6)


def test_wheels_that_do_not_come_are_missed(graph):
    """By name."""
    pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is not installed')
    scene = Scene(graph, scale_source='odometry').start()
    for _ in range(3):
        scene.process()
    scene.diagnosis('no odometry has come on /wheel_odometry; remap wheel_odometry', WARN)


# Continuity


def test_after_a_restart_of_the_pipeline_odometry_goes_on(graph):
    """No jump of odom, a larger covariance, one line, and it is told."""
    scene = Scene(graph).start()
    scene.process()
    before = scene.move()
    scene.pipeline.next_reset = 'a cut in the video'
    scene.process()
    after = scene.move()
    assert len(scene.odometry) == 2
    step = np.linalg.norm(matrix_from_pose(after.pose.pose)[:3, 3]
                          - matrix_from_pose(before.pose.pose)[:3, 3])
    assert step < 0.1
    assert after.pose.covariance[0] > before.pose.covariance[0] + 0.04 ** 2
    values = scene.diagnosis('Depth and odometry')
    assert (values['resets'], values['last reset']) == ('1', 'a cut in the video')
    assert values['photometric residual'] == '0.070'


def test_a_jump_back_in_time_starts_anew(graph):
    """Odom, too."""
    scene = Scene(graph).start()
    scene.process()
    for _ in range(5):
        scene.move()
    scene.stamp -= 50 * SECOND
    scene.process()
    message = scene.move()
    assert np.linalg.norm(matrix_from_pose(message.pose.pose)[:3, 3]) < 0.1
    # One reset for the start, one for the jump.
    assert scene.pipeline.resets == 2 and scene.diagnosis('Depth')['resets'] == '1'


def test_another_size_needs_another_calibration(graph):
    """Refused in one sentence until it comes; then odometry goes on."""
    scene = Scene(graph).start()
    scene.process()
    before = scene.move()
    refused = scene.process(height=24, width=32)
    failed = scene.node.statistics.values()
    assert failed['no result: CalibrationError'] == '1'
    scene.calibrate(CAMERA.resized(32, 24))
    scene.process(height=24, width=32)
    after = scene.move(height=24, width=32)
    assert ns_to_stamp(refused) not in [depth.header.stamp for depth in scene.depths]
    assert np.linalg.norm(matrix_from_pose(after.pose.pose)[:3, 3]) > np.linalg.norm(
        matrix_from_pose(before.pose.pose)[:3, 3])


def test_a_covered_lens_publishes_nothing_and_says_so(graph):
    """Neither depth nor motion."""
    scene = Scene(graph).start()
    scene.process()
    scene.move()
    graph.spin_until(lambda: len(scene.depths) == 2)
    for _ in range(12):
        scene.process(message=black(scene.stamp + SECOND // 10))
    values = scene.diagnosis('the image is black', WARN)
    assert values['no result: depth'] == '12'
    assert len(scene.depths) == 2 and len(scene.odometry) == 1


def test_frames_that_come_too_soon_for_the_network_are_no_fault(graph):
    """A camera of 30 Hz before a network for 10 Hz: odometry with every third, and all is well."""
    scene = Scene(graph, listen=('odometry',)).start()
    scene.process()
    scene.move()
    for _ in range(3):
        scene.process(message=black(scene.stamp + SECOND // 30))
        scene.stamp -= SECOND // 15
    scene.diagnosis('Depth and odometry at', OK)
    assert scene.count('left out') == 4 and scene.count('published') == 1


def test_motion_that_is_missing_for_long_is_a_fault(graph):
    """For more than a second."""
    scene = Scene(graph, listen=('odometry',)).start()
    scene.process()
    scene.move()
    for _ in range(15):
        scene.process(message=black(scene.stamp + SECOND // 10))
    scene.diagnosis('the image is black', WARN)
    assert scene.count('rejected') == 5


def test_a_doubt_of_the_pipeline_is_passed_on(graph):
    """As a warning, with results; not for one image in between."""
    scene = Scene(graph).start()
    for doubts in (1, 3):
        for warning in ['', ''] + doubts * ['frames are far apart']:
            scene.pipeline.warning = warning
            scene.process()
        scene.diagnosis('frames are far apart' if doubts > 1 else 'Depth and odometry at',
                        WARN if doubts > 1 else OK)
        scene.node._doubts.clear()
    scene.pipeline.warning = ''
    scene.move()


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


# Lifecycle


def test_deactivating_waits_for_the_inference_and_silences_the_node(graph):
    """No result comes out after the transition; activated again, it starts anew."""
    scene = Scene(graph).start()
    scene.look()
    scene.pipeline.gate.clear()
    scene.send()
    graph.spin_until(lambda: len(scene.pipeline.seen) == 2)
    threading.Timer(0.2, scene.pipeline.gate.set).start()
    assert scene.node.trigger_deactivate() and scene.count('processed') == 2
    graph.spin_for(0.1)
    known = len(scene.odometry)
    assert scene.node.trigger_activate()
    graph.spin_until(lambda: scene.camera.get_subscription_count() > 0
                     and scene.info.get_subscription_count() > 0)
    scene.calibrate(CAMERA)
    scene.process()
    message = scene.move()
    assert len(scene.odometry) == known + 1
    assert np.linalg.norm(matrix_from_pose(message.pose.pose)[:3, 3]) < 0.1


@pytest.mark.parametrize('model, sentence', [
    ('', 'no model file was given'), ('/no/such/model.safetensors', '/no/such/model')])
def test_without_a_model_the_node_stays_unconfigured(graph, model, sentence):
    """And can be mended without a restart."""
    scene = Scene(graph, node_class=GeometryNode, model=model)
    assert not scene.node.start()
    assert scene.node.phase == 'unconfigured'
    scene.diagnosis(sentence, ERROR)
    change = [Parameter('model', value='other.safetensors')]
    assert scene.node.set_parameters_atomically(change).successful


def test_an_error_inside_the_pipeline_does_not_end_the_node(graph):
    """It is reported as ours."""
    scene = Scene(graph).start()
    scene.pipeline.error = RuntimeError('out of memory')
    scene.process()
    scene.diagnosis('internal error', ERROR)
    scene.pipeline.error = None
    scene.look()


def test_images_that_come_too_fast_are_dropped(graph):
    """The newest is worked on, in one thread beside the executor."""
    scene = Scene(graph).start()
    scene.process()
    scene.pipeline.gate.clear()
    scene.send()
    graph.spin_until(lambda: len(scene.pipeline.seen) == 2)
    for number in range(3):
        scene.send()
        graph.spin_until(lambda: scene.count('received') == 3 + number)
    newest = scene.stamp
    scene.pipeline.gate.set()
    graph.spin_until(lambda: scene.depths and scene.depths[-1].header.stamp
                     == ns_to_stamp(newest), what='the newest')
    assert scene.count('dropped') == 2 and len(scene.pipeline.threads) == 1
    assert scene.pipeline.threads != {threading.get_ident()}


# The real pipeline


def test_the_node_gives_what_the_pipeline_gives(graph, tmp_path, monkeypatch):
    """Same frames, same numbers, offline and live; a covered lens has no depth either."""
    monkeypatch.setitem(sys.modules, 'openvino', None)   # converting for it takes seconds
    from geo_perception.inference.geometry import GeometryPipeline
    from geo_perception.inference.motion_uncertainty import MotionCalibration

    # With such a residual expected no motion of the untrained network passes for a cut.
    path = str(write_geometry_model(
        tmp_path / 'untrained.safetensors',
        calibration={'metres_per_unit': 2.0, **{
            f'motion_{name}': value
            for name, value in vars(MotionCalibration(usual_residual=1.0)).items()}}))
    pipeline = GeometryPipeline.load(path, precision='fp32', threads=1)
    scene = Scene(graph, node_class=GeometryNode, model=path, precision='fp32', threads=1,
                  calibrated=False).start()
    scene.calibrate(small_world.CAMERA)
    T_start = None
    for T in small_world.poses(40)[:4]:
        stamp = scene.stamp + SECOND // 10
        image = small_world.view(T)[0]
        expected = pipeline(image, small_world.CAMERA, stamp)
        depth, _ = scene.look(message=image_message(stamp, 'camera', image, 'rgb8'))
        assert np.array_equal(np.frombuffer(depth.data, np.float32),
                              expected.depth.depth.ravel(), equal_nan=True)
        if expected.odometry is not None:
            graph.spin_until(lambda: is_newest(scene.odometry, stamp), what='the odometry')
            check_odometry(scene.odometry[-1])
            T_odom_body = matrix_from_pose(scene.odometry[-1].pose.pose)
            R = se3.make_transform(se3.R_BODY_OPTICAL, np.zeros(3))
            assert T_odom_body == pytest.approx(
                R @ expected.odometry.T_odom_camera @ se3.inverse_transform(R), abs=1e-6)
            T_start = T_odom_body
    assert T_start is not None
    values = scene.diagnosis('Depth and odometry')
    assert values['scale [m/unit]'] == '2' and values['engine'] == pipeline.describe()
    assert values['model sha256'] == pipeline.model.sha256
    scene.process(message=image_message(scene.stamp + SECOND // 10, 'camera',
                                        np.zeros((64, 96, 3), np.uint8), 'rgb8'))
    assert scene.node.statistics.values()['no result: depth'] == '1'


# The process


def test_a_signal_ends_the_process_cleanly():
    """Exit code 0, no traceback."""
    process = start_process([os.path.join(os.path.dirname(__file__), 'stand_in_geometry.py'),
                             '--ros-args', '-p', 'watchdog_s:=0.1', '-p', "base_frame:=''"])
    assert any('nobody publishes /image' in line for line in process.stderr)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, errors
    assert 'Traceback' not in errors
