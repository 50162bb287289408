# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What befalls a node itself, and others on its graph, see `field_day`."""

import os
import threading

from field_day import ALL, BOTH, CAMERA, fault, scenery, SECOND, WELL
from lifecycle_msgs.msg import Transition
import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_harness import Graph
from sensor_msgs.msg import Image

from geo_perception.ros.diagnostics import ERROR, OK, WARN
from geo_perception.ros.messages import image_message

pytestmark = pytest.mark.usefixtures('without_openvino')


# Life of the node


@fault('Life', 'A manager takes it down and up again, 20 times.', *ALL)
def test_twenty_lives(day):
    day.start().settle()
    node = day.node
    pipeline = node.pipeline
    node.load_pipeline = lambda: pipeline
    marks = []
    for life in range(20):
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
            assert day.graph.change_state(node, transition)
        if life == 0:
            day.mark()
            day.camera.publish(image_message(day.now, CAMERA.frame_id, scenery()[0],
                                             'rgb8'))
            day.says(OK, 'The node is unconfigured; it does nothing until activated.')
            day.wait_for()
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            assert day.graph.change_state(node, transition)
        day.graph.spin_until(lambda: day.camera.get_subscription_count()
                             and day.infos.get_subscription_count() and node.is_wanted(),
                             what='the match')
        day.mark()
        day.now += SECOND
        stamps = [day.send(), day.send()]
        day.wait_for(stamps[-1], *([] if day.name == 'geometry' else [stamps[0]]),
                     topic='odometry' if day.name == 'geometry' else '')
        marks.append((threading.active_count(), len(list(node.publishers)),
                      len(list(node.subscriptions)), len(list(node.services)),
                      len(list(node.timers)), len(os.listdir('/proc/self/fd'))))
    # The garbage of earlier tests may go meanwhile, but there is no more of anything.
    assert all(np.subtract(marks[-1], marks[5]) <= 0), 'threads, entities or files add up'
    day.publishes('nothing while down; each life as the first, with as many threads, topics and '
                  'open files')
    day.recovers()


def swap(day, path):
    """Ask the node for another model by service, as ``ros2 param set`` does."""
    return day.graph.call(SetParameters, f'/{day.name}/set_parameters', parameters=[
        Parameter('model', value=path).to_parameter_msg()]).results[0]


@fault('Life', 'Its model is swapped (`ros2 param set … model …`).', *ALL)
def test_another_model(day, field_models):
    day.start().settle()
    other = field_models[f'other {day.name}']
    assert swap(day, other).successful
    assert day.node.get_parameter('model').value == day.node.parameters.model == other
    assert day.node.pipeline.model.path == other and day.node.phase == 'active'
    day.graph.spin_until(lambda: day.camera.get_subscription_count()
                         and day.infos.get_subscription_count() and day.node.is_wanted(),
                         what='the match')
    if day.name == 'geometry':
        day.kind = day.kind._replace(verb='Depth, odometry and flow')
    day.says(OK, WELL, send=day.send)
    if day.name == 'relocalize':
        poses = day.heard['/relocalize/pose_with_covariance']
        assert [pose.header.frame_id for pose in (poses[0], poses[-1])] == ['office', 'cellar']
    if day.name == 'stereo_depth':
        depths = day.heard['/stereo_depth/depth']
        assert [np.frombuffer(depth.data, np.float32)[3000] for depth in (
            depths[0], depths[-1])] == pytest.approx([3.0, 1.5], rel=1e-3)
    day.publishes('nothing while the file is loaded; then what the new model gives, with the '
                  'topics and frames of that')
    day.recovers()


@fault('Life', 'Its model is swapped for a file that is none.', *ALL)
def test_another_model_that_is_none(day, field_models):
    day.start().settle()
    answer = swap(day, field_models['text'])
    assert not answer.successful and 'is not a geo_perception model file' in answer.reason
    assert day.node.get_parameter('model').value == day.model
    stamps = [day.send() for _ in range(3)]
    day.wait_for(*stamps)
    day.says(OK, WELL, send=day.send)
    day.publishes('everything, with the old model; the service answers with the reason')
    day.recovers()


@fault('Life', 'Its network fails, e.g. for want of memory.', *ALL)
def test_an_error_of_the_network(day, monkeypatch):
    day.start().settle()

    def fail(*_, **__):
        raise RuntimeError('out of memory')

    with monkeypatch.context() as patch:
        patch.setattr(type(day.node.pipeline), '__call__', fail)
        for _ in range(3):
            day.send()
        day.wait_for()
        day.says(ERROR, 'Images arrive but none can be used: internal error: '
                        "RuntimeError('out of memory').", send=day.send)
    day.publishes('nothing')
    day.recovers()


@fault('Life', 'It finds what breaks a rule of its readers, e.g. a covariance of zero.', *BOTH)
def test_a_result_that_misleads(day, monkeypatch):
    day.start().settle()
    found = type(day.node.pipeline).__call__

    def spoil(*arguments, **options):
        result = found(*arguments, **options)
        if day.name == 'relocalize':
            result.covariance[:] = 0
        elif result.odometry is not None:
            result.odometry.motion_covariance[:] = 0
        return result

    with monkeypatch.context() as patch:
        patch.setattr(type(day.node.pipeline), '__call__', spoil)
        stamps = [day.send() for _ in range(3)]
        why = 'what was found would mislead its readers: a pose covariance must be symmetric ' \
              'and positive definite (smallest eigenvalue 0).'
        day.withholds_poses(stamps, why, why)
    day.recovers()


# Others on the graph


@fault('Graph', 'Listeners and cameras come and go.', *BOTH)
def test_peers_that_come_and_go(day, two_graphs):
    day.start().settle()
    topic, (kind, _) = next(iter(day.kind.outputs.items()))
    for i in range(4):
        visitor = Graph(f'visitor_{i}')
        heard = visitor.listen(kind, topic)
        camera = visitor.advertise(Image, '/image')
        day.graph.spin_until(
            lambda: day.graph.peer.count_subscribers(topic) == 2
            and day.graph.peer.count_publishers('/image') == 2
            and day.node.count_subscribers(topic) == 2, what='the visitor')
        visitor.spin_until(lambda: camera.get_subscription_count(), what='the visitor')
        stamp = day.send()
        day.graph.spin_until(lambda: stamp in day.stamps(), what='the result')
        if i % 2:
            visitor.spin_until(lambda: heard, what='the result of the visitor')
        visitor.close()
        day.graph.spin_until(lambda: day.graph.peer.count_publishers('/image') == 1
                             and day.graph.peer.count_subscribers(topic) == 1,
                             what='the end of the visitor')
    day.says(OK, WELL, send=day.send)
    day.publishes('everything, to those who are there')
    day.recovers()


@fault('Graph', 'Another node has the same name.', *BOTH)
def test_a_namesake(day, two_graphs):
    day.start().settle()
    other = two_graphs[1]
    namesake = Node(day.name, context=other.context)
    day.says(WARN, f'Another node is called /{day.name}, too, so that topics, parameters and '
                   'diagnostics of both are mixed up: end one of them, or rename it with -r '
                   '__node:=other. One that was killed is remembered for half a minute.',
             send=day.send)
    stamp = day.send()
    day.graph.spin_until(lambda: stamp in day.stamps())
    day.publishes('everything, of both')
    namesake.destroy_node()
    day.graph.spin_until(lambda: len([name for name in day.node.get_node_names()
                                      if name == day.name]) == 1, what='the end of the namesake')
    day.recovers()
