# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The node ``geometry`` on a real ROS graph, with a stand-in that knows the truth."""

import sys

from geometry_scene import CAMERA, Scene, SECOND
from nav_msgs.msg import Odometry
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from stand_in_geometry import base_at, camera_at, DEPTH, SPEED, T_BASE_CAMERA, TURN

from geo_perception.errors import ConfigurationError
from geo_perception.geometry import se3
from geo_perception.geometry.point_cloud import coloured_points
from geo_perception.ros.diagnostics import OK, WARN
from geo_perception.ros.localization import uncouple_plane
from geo_perception.ros.messages import (
    image_message, make_header, matrix_from_pose, matrix_from_transform, ns_to_stamp,
    odometry_message, stamp_to_ns)
from geo_perception.ros.validators import odometry_problems


def black(stamp):
    """Return what a camera with a lens cap gives."""
    return image_message(stamp, 'camera_optical_frame', np.zeros((48, 64, 3), np.uint8), 'rgb8')


def twist_of(message):
    """Return linear and angular velocity, shape (6,)."""
    twist = message.twist.twist
    return np.array([twist.linear.x, twist.linear.y, twist.linear.z,
                     twist.angular.x, twist.angular.y, twist.angular.z])


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
    assert odometry_problems(message, scene.odometry[-2]) == []
    covariance = np.reshape(message.twist.covariance, (6, 6))
    assert covariance[0, 0] > 3e-6 / 0.1 ** 2 and abs(covariance[0, 4]) > 1e-6


def test_a_transform_that_nobody_waits_for_any_more_is_not_missed(graph):
    """Neither without a listener nor in a node that is not active."""
    scene = Scene(graph, listen=(), base_frame='base_link', tf_timeout_s=0.0).start()
    listener = graph.peer.create_subscription(Odometry, '/geometry/odometry', print, 10)
    graph.spin_until(scene.node.is_wanted, what='the listener')
    scene.process()
    scene.process()
    scene.diagnosis('the odometry waits for TF', WARN)
    graph.peer.destroy_subscription(listener)
    graph.spin_until(lambda: not scene.node.is_wanted(), what='its end')
    scene.diagnosis('Nobody subscribes', OK)
    assert scene.node.trigger_deactivate()
    scene.diagnosis('The node is inactive', OK)


def test_in_a_plane_height_and_tilt_are_correlated_with_nothing(graph, tf):
    """As two_d_mode of robot_localization wants it; the lever arm would couple them."""
    scene = Scene(graph, base_frame='base_link', two_d=True, tf_timeout_s=5.0).start()
    tf(0, 'base_link', 'camera_optical_frame', T_BASE_CAMERA)
    scene.look()
    for covariance in (scene.move().twist.covariance, scene.move().pose.covariance):
        covariance = np.reshape(covariance, (6, 6))
        assert np.array_equal(covariance, uncouple_plane(covariance))
        assert abs(covariance[0, 1]) + abs(covariance[1, 5]) > 0


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


@pytest.mark.parametrize('child, base_frame', [('base_footprint', ''), ('', 'base_footprint')])
def test_wheels_give_the_scale(graph, tf, child, base_frame):
    """The distance of the camera, not of the base, though the messages come late."""
    scene = Scene(graph, scale_source='odometry', base_frame=base_frame).start()
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
        wheels.publish(odometry_message(stamp, 'wheel_odom', child, base_at(stamp),
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


def test_wheels_that_do_not_say_what_they_move_are_heard_of(graph):
    """Where there is no base_frame to take for it; they have come, so nobody looks for a topic."""
    pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is not installed')
    scene = Scene(graph, scale_source='odometry').start()
    wheels = graph.advertise(Odometry, '/wheel_odometry')
    graph.spin_until(lambda: wheels.get_subscription_count() > 0, what='the match')

    def told():
        wheels.publish(Odometry(header=make_header(scene.process(), 'wheel_odom')))
        return 'ignored' in scene.node.describe()[2]

    scene.process()
    graph.spin_until(told, what='the reason')
    scene.diagnosis("ignored an odometry on /wheel_odometry: a transform from 'wheel_odom' to '' "
                    'lacks a frame name', WARN)


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
    assert (values['tracking'], values['corners']) == ('hybrid', '123')


@pytest.mark.parametrize('unseen', [0, 60])
def test_a_jump_back_in_time_starts_anew(graph, unseen):
    """Odom, too, even if motion is seen again only when time has caught up."""
    scene = Scene(graph).start()
    scene.process()
    for _ in range(5):
        scene.move()
    scene.stamp -= 50 * SECOND
    scene.process(message=black(scene.stamp + SECOND // 10))
    scene.stamp += unseen * SECOND
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


def test_with_images_of_another_size_transforms_are_remembered(graph, tf):
    """They do not come again, and odometry of the base needs them."""
    scene = Scene(graph, base_frame='base_link', tf_timeout_s=5.0).start()
    for second in (99, 102):
        tf(second * SECOND, 'base_link', 'camera_optical_frame', T_BASE_CAMERA)
    scene.process()
    scene.move()
    scene.calibrate(CAMERA.resized(32, 24))
    scene.process(height=24, width=32)
    scene.move(height=24, width=32)


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
