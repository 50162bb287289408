# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The node ``relocalize`` on a real ROS graph, with a stand-in for the network."""

import sys
import threading

import cv2
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
import numpy as np
import pytest
from rclpy.parameter import Parameter
from relocalize_scene import Scene, SECOND, values_of
from ros_harness import picture, picture_message
from sensor_msgs.msg import CompressedImage, Image
from stand_in_relocalizer import COVARIANCE, StandInNode, StandInRelocalizer, T_MAP_CAMERA

from geo_perception.errors import ConfigurationError
from geo_perception.geometry import se3
from geo_perception.inference import verified
from geo_perception.nodes.relocalize import RelocalizeNode
from geo_perception.ros.diagnostics import ERROR, OK, WARN
from geo_perception.ros.localization import uncouple_plane
from geo_perception.ros.messages import (
    make_header, matrix_from_pose, matrix_from_transform, stamp_to_ns)


# The normal way


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'mono8'])
def test_an_image_becomes_a_pose_of_the_camera(graph, encoding):
    """Stamp of the image, frame of the model, pose and covariance of the pipeline, RGB inside."""
    scene = Scene(graph).start()
    pose, with_covariance = scene.fix(encoding=encoding)
    assert pose.header.frame_id == 'office'
    assert np.allclose(matrix_from_pose(pose.pose), T_MAP_CAMERA)
    assert np.allclose(matrix_from_pose(with_covariance.pose.pose), T_MAP_CAMERA)
    assert np.allclose(np.reshape(with_covariance.pose.covariance, (6, 6)), COVARIANCE)
    expected = picture()
    if encoding == 'mono8':
        expected = np.repeat(expected[..., :1], 3, axis=2)
    assert np.array_equal(scene.pipeline.images[0], expected)


def test_a_compressed_image_becomes_a_pose(graph):
    """On ``<image>/compressed``."""
    scene = Scene(graph, image_transport='compressed').start()
    image = picture()
    message = CompressedImage(header=make_header(5 * SECOND, 'camera'), format='png')
    message.data.frombytes(cv2.imencode('.png', image[..., ::-1])[1].tobytes())
    scene.process(message)
    graph.spin_until(lambda: scene.poses)
    assert stamp_to_ns(scene.poses[0].header.stamp) == 5 * SECOND
    assert np.array_equal(scene.pipeline.images[0], image)


@pytest.mark.parametrize('image_reliable, listener_reliable',
                         [(False, True), (False, False), (True, False)])
def test_peers_of_either_reliability_are_served(graph, image_reliable, listener_reliable):
    """A camera that is best effort is heard, and listeners of both kinds hear."""
    scene = Scene(graph, listen=False)
    poses = graph.listen(PoseStamped, '/relocalize/pose', reliable=listener_reliable)
    scene.start(reliable=image_reliable)
    graph.spin_until(scene.node.is_wanted)

    def arrived():
        scene.send()
        graph.executor.spin_once(timeout_sec=0.05)
        return poses

    graph.spin_until(arrived, what='a pose')


def test_inference_runs_in_one_thread_beside_the_executor(graph):
    """Services stay alive meanwhile, and images that come too fast are dropped and counted."""
    scene = Scene(graph).start()
    scene.process()
    scene.pipeline.gate.clear()
    scene.send()
    graph.spin_until(lambda: len(scene.pipeline.images) == 2, what='the second inference')
    for number in range(3):
        scene.send()
        graph.spin_until(lambda: scene.count('received') == 3 + number)
    newest = scene.stamp
    scene.pipeline.gate.set()
    graph.spin_until(lambda: scene.poses and
                     stamp_to_ns(scene.poses[-1].header.stamp) == newest, what='the newest')
    assert len(scene.poses) == 3 and scene.count('dropped') == 2
    assert len(scene.pipeline.threads) == 1
    assert scene.pipeline.threads != {threading.get_ident()}


def test_in_lock_step_every_image_is_worked_on_in_order(graph):
    """Also those that come while another is in work."""
    scene = Scene(graph, queue='lock_step').start()
    scene.pipeline.gate.clear()
    stamps = []
    for number in range(10):
        stamps.append(scene.send())
        graph.spin_until(lambda: scene.count('received') == number + 1)
    scene.pipeline.gate.set()
    graph.spin_until(lambda: len(scene.poses) == 10, what='all poses')
    assert [stamp_to_ns(pose.header.stamp) for pose in scene.poses] == stamps
    assert scene.count('dropped') == 0


def test_nobody_listens_so_nothing_is_computed(graph):
    """And the diagnostics say so; with a listener work begins."""
    scene = Scene(graph, listen=False).start()
    scene.send()
    graph.spin_until(lambda: scene.count('skipped') == 1)
    status = scene.diagnosis('Nobody subscribes')
    assert status.level == OK and scene.pipeline.images == []
    graph.listen(PoseStamped, '/relocalize/pose')
    graph.spin_until(scene.node.is_wanted)
    scene.process()
    assert len(scene.pipeline.images) == 1


# Bad input


def test_images_that_cannot_be_decoded_are_counted_and_explained(graph):
    """Unknown encoding, wrong step, zero size; then a good one."""
    scene = Scene(graph).start()
    for change in ({'encoding': 'rgb9'}, {'step': 1}, {'height': 0}, {'data': b''}):
        message = picture_message(scene.stamp)
        for field, value in change.items():
            setattr(message, field, value)
        scene.process(message)
    status = scene.diagnosis('none can be used')
    assert status.level == ERROR and '0 bytes' in status.message
    assert values_of(status)['no result: ImageError'] == '4'
    scene.fix()


def test_an_error_inside_the_pipeline_does_not_end_the_node(graph):
    """It is reported as ours."""
    scene = Scene(graph).start()
    scene.pipeline.error = RuntimeError('out of memory')
    scene.process()
    status = scene.diagnosis('internal error')
    assert status.level == ERROR and 'out of memory' in status.message
    scene.pipeline.error = None
    scene.fix()


def test_a_jump_in_time_starts_anew(graph):
    """Once, and poses go on; they do with another size, for which nothing is to be forgotten."""
    resets = []

    class Node(StandInNode):

        def reset(self):
            resets.append(True)
            super().reset()

    scene = Scene(graph, node_class=Node).start()
    scene.fix()
    scene.fix(height=24, width=32)
    assert not resets and scene.pipeline.images[-1].shape == (24, 32, 3)
    scene.stamp -= 50 * SECOND
    scene.fix()
    scene.fix()
    assert len(resets) == 1


# Lifecycle


def test_the_lifecycle_can_be_walked_twice(graph):
    """By a manager, with a fix each time, and memory is given back in between."""
    scene = Scene(graph)
    assert scene.node.pipeline is None
    for _ in range(2):
        assert graph.change_state(scene.node, Transition.TRANSITION_CONFIGURE)
        assert graph.change_state(scene.node, Transition.TRANSITION_ACTIVATE)
        scene.camera = graph.advertise(Image, '/image')
        graph.spin_until(lambda: scene.camera.get_subscription_count() > 0)
        graph.spin_until(scene.node.is_wanted)
        scene.fix()
        assert graph.change_state(scene.node, Transition.TRANSITION_DEACTIVATE)
        assert scene.diagnosis('inactive').level == OK
        assert graph.change_state(scene.node, Transition.TRANSITION_CLEANUP)
        assert scene.node.pipeline is None
        assert 'frame worker' not in [thread.name for thread in threading.enumerate()]
        graph.peer.destroy_publisher(scene.camera)
    assert graph.change_state(scene.node, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)


def test_an_illegal_transition_is_refused_and_survived(graph):
    """In rclpy 7.1 it would end the process."""
    scene = Scene(graph)
    assert not graph.change_state(scene.node, Transition.TRANSITION_ACTIVATE)
    assert not graph.change_state(scene.node, 99)
    scene.start().fix()
    assert not graph.change_state(scene.node, Transition.TRANSITION_CONFIGURE)
    scene.fix()


def test_deactivating_waits_for_the_inference_and_silences_the_node(graph):
    """No pose comes out after the transition, and none is lost to a crash."""
    scene = Scene(graph).start()
    scene.pipeline.gate.clear()
    scene.send()
    graph.spin_until(lambda: scene.pipeline.images)
    scene.send()
    graph.spin_until(lambda: scene.count('received') == 2)
    threading.Timer(0.2, scene.pipeline.gate.set).start()
    pipeline = scene.pipeline
    assert graph.change_state(scene.node, Transition.TRANSITION_DEACTIVATE)
    assert len(pipeline.images) == 1 and scene.count('processed') == 1
    assert graph.change_state(scene.node, Transition.TRANSITION_ACTIVATE)
    graph.spin_until(lambda: scene.camera.get_subscription_count() > 0)
    scene.fix()


def test_a_destroyed_node_leaves_the_graph(graph):
    """At once, though somebody still holds it; rclpy would leave that to the garbage collector."""
    node = StandInNode(context=graph.context)
    graph.spin_until(lambda: 'relocalize' in graph.peer.get_node_names(), what='the node')
    node.destroy_node()
    graph.spin_until(lambda: 'relocalize' not in graph.peer.get_node_names(), what='its end')


@pytest.mark.parametrize('model, sentence', [
    ('', 'no model file was given'), ('/no/such/model.safetensors', '/no/such/model')])
def test_without_a_model_the_node_stays_unconfigured(graph, model, sentence):
    """And can be mended without a restart."""
    scene = Scene(graph, node_class=RelocalizeNode, model=model)
    assert not graph.change_state(scene.node, Transition.TRANSITION_CONFIGURE)
    assert scene.node.phase == 'unconfigured'
    assert 'frame worker' not in [thread.name for thread in threading.enumerate()]
    status = scene.diagnosis(sentence)
    assert status.level == ERROR
    change = [Parameter('model', value='other.safetensors')]
    assert scene.node.set_parameters_atomically(change).successful


def test_a_failure_is_over_with_the_shutdown(graph):
    """It succeeds from any state."""
    scene = Scene(graph, node_class=RelocalizeNode, model='')
    assert not scene.node.start()
    assert scene.node.trigger_shutdown()
    assert scene.diagnosis('The node is finalized; it does nothing').level == OK


def test_parameters_are_fixed_while_the_node_is_configured(graph):
    """What ROS shows is what runs."""
    scene = Scene(graph).start()
    result = scene.node.set_parameters_atomically([Parameter('gate', value='inflate')])
    assert not result.successful and 'unconfigured' in result.reason


# Gate


def test_the_gate_withholds_a_doubtful_pose_and_says_why(graph):
    """Nothing on the pose topics."""
    scene = Scene(graph).start()
    scene.pipeline.accepted = False
    scene.process()
    status = scene.diagnosis('the place is unknown')
    assert status.level == WARN and values_of(status)['no result: gate'] == '1'
    assert scene.poses == [] and scene.covariances == []
    scene.pipeline.accepted = True
    scene.fix()
    assert len(scene.poses) == 1


def test_the_gate_can_inflate_instead(graph):
    """The pose comes, but only where it can be marked, and does not count as a result."""
    scene = Scene(graph, gate='inflate').start()
    scene.fix()
    scene.pipeline.accepted = False
    for number in (2, 3):
        scene.process()
        graph.spin_until(lambda: len(scene.covariances) == number, what='the marked pose')
        assert np.allclose(np.reshape(scene.covariances[-1].pose.covariance, (6, 6)),
                           9999.0 * np.eye(6))
    status = scene.diagnosis('2 of the last 3 images gave no result: the place is unknown.')
    assert status.level == WARN and values_of(status)['no result: gate'] == '2'
    scene.pipeline.accepted = True
    stamp = scene.process()
    graph.spin_until(lambda: stamp_to_ns(scene.poses[-1].header.stamp) == stamp, what='the pose')
    assert len(scene.poses) == 2


@pytest.mark.parametrize('threshold, passes', [(0.39, True), (0.41, False)])
def test_the_threshold_of_the_gate_can_be_set(graph, threshold, passes):
    """The stand-in has a score of 0.4, whatever its own gate says."""
    scene = Scene(graph, gate_threshold=threshold).start()
    scene.pipeline.accepted = not passes
    scene.process()
    assert scene.count('published') == int(passes)
    if not passes:
        scene.diagnosis('score 0.40 is below gate_threshold 0.41')


# TF
T_BASE_CAMERA = se3.make_transform(se3.R_BODY_OPTICAL, [0.3, 0.1, 0.5])
T_ODOM_BASE = se3.make_transform(se3.matrix_from_rotation_vector([0, 0, 1.0]), [5.0, 6.0, 0.0])


def test_tf_without_tf2_msgs_is_one_clear_error(graph, monkeypatch):
    """At configure, not at import."""
    monkeypatch.setitem(sys.modules, 'tf2_msgs.msg', None)
    scene = Scene(graph, base_frame='base_link')
    assert not scene.node.start()
    assert 'tf2_msgs is not installed' in scene.node.last_failure
    with pytest.raises(ConfigurationError):
        Scene(graph, publish_tf=True)


@pytest.fixture
def broadcaster(graph, tf, monkeypatch):
    """Return a function that makes a scene of a node that broadcasts, with its own loading."""
    monkeypatch.setattr(verified, 'load_relocalizer', lambda *_, **__: StandInRelocalizer())
    return lambda map_frame: Scene(graph, node_class=RelocalizeNode, base_frame='base_link',
                                   publish_tf=True, map_frame=map_frame)


@pytest.mark.parametrize('name, frame', [('odom_frame', 'odom'), ('base_frame', 'base_link')])
def test_a_map_frame_that_odometry_owns_is_refused(broadcaster, name, frame):
    """At configure: TF would have a loop."""
    scene = broadcaster(frame)
    assert not scene.node.start()
    assert f"map_frame and {name} are both '{frame}'; set map_frame" in scene.node.last_failure


def test_a_model_of_the_odometry_frame_is_refused(broadcaster, monkeypatch):
    """Its world frame is taken where map_frame is empty; the old model goes on."""
    scene = broadcaster('').start()
    pipeline = StandInRelocalizer()
    pipeline.world_frame = 'odom'
    monkeypatch.setattr(verified, 'load_relocalizer', lambda *_, **__: pipeline)
    result, = scene.node.set_parameters([Parameter('model', value='other.safetensors')])
    assert not result.successful
    assert "map_frame and odom_frame are both 'odom'; set map_frame" in result.reason
    assert scene.pipeline.world_frame == 'office' and scene.node.phase == 'active'
    scene.process()


@pytest.mark.parametrize('two_d', [False, True])
def test_the_pose_is_that_of_the_base_where_tf_knows_the_camera(graph, tf, two_d):
    """Nothing before, then the base; the lever arm moves the covariance."""
    scene = Scene(graph, base_frame='base_link', map_frame='map', two_d=two_d,
                  tf_timeout_s=0.0).start()
    scene.process()
    assert scene.diagnosis('waiting for TF').level == WARN
    assert scene.poses == []
    tf(0, 'base_link', 'camera', T_BASE_CAMERA)

    def arrived():
        scene.process()
        return scene.poses

    graph.spin_until(arrived, what='the pose of the base')
    pose, message = scene.fix()
    assert pose.header.frame_id == 'map'
    T_map_base = T_MAP_CAMERA @ se3.inverse_transform(T_BASE_CAMERA)
    assert np.allclose(matrix_from_pose(pose.pose), T_map_base)
    lever_arm = T_map_base[:3, 3] - T_MAP_CAMERA[:3, 3]
    expected = se3.move_pose_covariance(COVARIANCE, lever_arm)
    assert np.allclose(np.reshape(message.pose.covariance, (6, 6)),
                       uncouple_plane(expected) if two_d else expected)


def test_static_transforms_from_before_the_start_count(graph, tf):
    """They are latched; robot_state_publisher says them once."""
    tf(0, 'base_link', 'camera', T_BASE_CAMERA)
    graph.spin_for(0.1)
    scene = Scene(graph, base_frame='base_link', tf_timeout_s=5.0).start()
    pose, _ = scene.fix()
    assert np.allclose(matrix_from_pose(pose.pose) @ T_BASE_CAMERA, T_MAP_CAMERA)


def test_the_correction_of_odometry_is_broadcast_and_kept_alive(graph, tf):
    """From the first fix on, stamped ahead, also when the camera has stopped."""
    scene = Scene(graph, listen=False, base_frame='base_link', publish_tf=True,
                  transform_tolerance_s=0.5, tf_timeout_s=5.0)
    heard = graph.listen(tf.message_class, '/tf')

    def sent():
        return [t for message in heard for t in message.transforms if t.child_frame_id == 'odom']

    scene.start()
    tf(0, 'base_link', 'camera', T_BASE_CAMERA)
    first = scene.send()
    # The transform at the image's stamp comes late: the node waits for it.
    graph.spin_until(lambda: scene.pipeline.images)
    for stamp in (first - SECOND, first + 5 * SECOND):
        tf(stamp, 'odom', 'base_link', T_ODOM_BASE)
    # No second image: the stamps go on with the clock.
    graph.spin_until(lambda: len(sent()) >= 4, what='map -> odom again and again')
    stamps = [stamp_to_ns(t.header.stamp) for t in sent()]
    # The first one holds from the fix on, so that tf2 need not guess up to the one ahead.
    assert stamps[0] == first
    assert stamps[1] >= first + SECOND // 2 and (np.diff(stamps) > 0).all()
    assert sent()[0].header.frame_id == 'office'
    assert values_of(graph.diagnosis(scene.node))['office -> odom'] == 'is broadcast'
    for transform in sent():
        T_map_odom = matrix_from_transform(transform.transform)
        assert np.allclose(T_map_odom @ T_ODOM_BASE @ T_BASE_CAMERA, T_MAP_CAMERA)
    # Stamps are of the images: one that is ahead takes the broadcast along.
    scene.stamp += 5 * SECOND
    scene.pipeline.accepted = False
    ahead = scene.process()
    graph.spin_until(lambda: stamp_to_ns(sent()[-1].header.stamp) >= ahead, what='the new time')
    # A node that is not active owns no transform.
    assert scene.node.trigger_deactivate()
    graph.spin_for(0.3)
    known = len(sent())
    graph.spin_for(0.5)
    assert len(sent()) == known


def test_without_odometry_the_correction_is_not_broadcast_any_more(graph, tf):
    """It says so; when odometry is back, which may be from elsewhere, it takes another fix."""
    scene = Scene(graph, listen=False, base_frame='base_link', publish_tf=True,
                  transform_tolerance_s=0.0, tf_timeout_s=0.0).start()
    heard = graph.listen(tf.message_class, '/tf')

    def sent():
        return [t for message in heard for t in message.transforms if t.child_frame_id == 'odom']

    def state():
        return values_of(graph.diagnosis(scene.node))['office -> odom']

    tf(0, 'base_link', 'camera', T_BASE_CAMERA)
    for second in (100, 106):
        tf(second * SECOND, 'odom', 'base_link', T_ODOM_BASE)
    assert state() == 'waits for a fix'

    def corrected():
        scene.process()   # until the transforms have arrived
        return sent()

    graph.spin_until(corrected, what='map -> odom')
    scene.pipeline.accepted = False
    scene.stamp = 109 * SECOND
    scene.process()
    status = scene.diagnosis('TF odom -> base_link ended')
    assert status.level == WARN and state() == 'interrupted'
    known = len(sent())
    for second in (109, 115):
        tf(second * SECOND, 'odom', 'base_link', T_ODOM_BASE)
    graph.spin_until(lambda: state() == 'waits for a fix', what='odometry')
    assert len(sent()) == known
    scene.pipeline.accepted = True
    scene.process()
    graph.spin_until(lambda: len(sent()) > known, what='map -> odom')


def test_missing_odometry_is_reported_and_the_pose_still_published(graph, tf):
    """The transform is not invented."""
    scene = Scene(graph, base_frame='base_link', publish_tf=True, tf_timeout_s=0.0).start()
    tf(0, 'base_link', 'camera', T_BASE_CAMERA)

    def arrived():
        scene.process()
        return scene.poses

    graph.spin_until(arrived, what='the pose of the base')
    status = scene.diagnosis('odom is not corrected')
    assert status.level == WARN and 'odom' in status.message
