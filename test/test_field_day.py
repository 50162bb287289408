# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
A day in the field: whatever goes wrong around a node, it says so and goes on afterwards.

``docs/reliability.md`` is written from these tests, see `field_day`.
"""

import os
from pathlib import Path
import signal
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
from field_day import (
    BOTH, CASES, Day, fault, KINDS, PACE, PAGE, page, ROWS, rows_of, scenery, SECOND, STEP,
    T_BASE_CAMERA)
from lifecycle_msgs.msg import Transition
import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_harness import Graph, picture_message, start_process
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from tiny_geometry_model import CALIBRATION, write_flow_model, write_geometry_model
import tiny_model

from geo_perception.inference.motion_uncertainty import MotionCalibration
from geo_perception.ros.diagnostics import ERROR, OK, WARN
from geo_perception.ros.messages import (
    camera_info_message, image_message, matrix_from_pose, stamp_to_ns)

pytestmark = pytest.mark.usefixtures('without_openvino')

HERE = Path(__file__).parent
WELL = '{verb} at … Hz from images at … Hz.'


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Return the model files: of each node one, and another to swap it for."""
    folder = tmp_path_factory.mktemp('models')
    # With such a residual expected no motion of the untrained network passes for a cut.
    calibration = {**CALIBRATION, **{
        f'motion_{name}': value
        for name, value in vars(MotionCalibration(usual_residual=1.0)).items()}}
    (folder / 'text.safetensors').write_text('no model')
    return {name: str(path) for name, path in {
        'relocalize': tiny_model.write_model(folder / 'office.safetensors'),
        'other relocalize': tiny_model.write_model(folder / 'cellar.safetensors',
                                                   world_frame='cellar'),
        'geometry': write_geometry_model(folder / 'drive.safetensors', calibration=calibration),
        'other geometry': write_flow_model(folder / 'flow.safetensors', calibration=calibration),
        'text': folder / 'text.safetensors'}.items()}


@pytest.fixture
def day(request, models):
    """Return the day of one node, not started; its row must be that of the page."""
    with_others = 'two_graphs' in request.fixturenames
    graph = request.getfixturevalue('two_graphs')[0] if with_others else \
        request.getfixturevalue('graph')
    day = Day(graph, request.function.fault, request.param, models[request.param])
    yield day
    check_row(request, day.fault, day.name)


def check_row(request, *case):
    """Compare what was recorded with what the page says, unless that is being written."""
    if case in ROWS and not request.config.getoption('reliability'):
        assert rows_of(page())[case] == rows_of(PAGE.read_text()).get(case), (
            'docs/reliability.md is not what the tests see; write it with make reliability')


# Camera


@fault('Camera', 'It drops from 10 to 2 Hz.', *BOTH)
def test_two_images_a_second(day):
    day.start().settle()
    stamps = [day.send(step=0.5) for _ in range(4)]
    if day.name == 'relocalize':
        day.wait_for(*stamps)
        day.says(OK, WELL, send=lambda: day.send(step=0.5))
        day.publishes('one pose an image')
    else:
        day.wait_for(*stamps, topic='depth')
        # The first one may be the end of a gap; with the second that is known to be usual.
        day.wait_for(*stamps[1:], topic='odometry')
        day.says(WARN, 'frames are 0.50 s apart, the network was trained on 0.10 s: motion is '
                       'larger than any that it knows', send=lambda: day.send(step=0.5))
        day.publishes('depth with each image; odometry from the second slow image on, goes on '
                      'from the last pose')
    day.recovers()


@fault('Camera', 'It freezes: one image, stamp and all, again and again.', *BOTH)
def test_one_image_again_and_again(day):
    day.start().settle()
    last = day.send()
    for _ in range(10):
        day.send(step=0)
    day.wait_for(last)
    day.says(WARN, 'Images arrive but nothing is published: the image of … s came again; the '
                   'camera is frozen, or its driver sends each image several times: restart it.',
             send=lambda: day.send(step=0))
    day.publishes('nothing')
    day.recovers()


@fault('Camera', 'It freezes: new stamps on one picture.', *BOTH)
def test_one_picture_again_and_again(day):
    day.start().settle()
    picture = scenery(day.name)[0]
    stamps = [day.send(picture=picture) for _ in range(25)]
    day.wait_for(*stamps)
    if day.name == 'geometry':
        poses = [matrix_from_pose(message.pose.pose)
                 for message in day.heard['/geometry/odometry'][-20:]]
        assert np.ptp(poses, axis=0) == pytest.approx(0)
    day.says(WARN, 'The picture has not changed in a single pixel for … s, so the camera is '
                   'frozen: restart its driver.')
    day.publishes('everything; ' + ('the same pose' if day.name == 'relocalize' else
                                    'the robot stands') + ', as in a simulation at rest, where '
                  '(`use_sim_time`) nothing is said')
    day.recovers()


@fault('Camera', 'It sends each image twice.', *BOTH)
def test_each_image_twice(day):
    day.start().settle()
    stamps = []
    for _ in range(5):
        stamps.append(day.send())
        day.send(step=0)
    day.wait_for(*stamps)

    def twice():
        day.send()
        day.send(step=0)

    day.says(OK, WELL, send=twice)
    day.publishes('each image once')
    day.recovers()


@fault('Camera', 'Images overtake each other.', *BOTH)
def test_images_out_of_order(day):
    day.start().settle()
    stamps = []
    for _ in range(4):
        stamps.append(day.send(step=2 * STEP))
        day.send(stamp=day.now - round(STEP * SECOND))
        day.send(stamp=day.now - round(2.5 * STEP * SECOND))
    day.wait_for(*stamps)

    def disorder():
        day.send(step=2 * STEP)
        for late in (1, 2.5, 4):
            day.send(stamp=day.now - round(late * STEP * SECOND))

    day.says(WARN, '{verb} at … Hz from images at … Hz; … of the last … images gave no result: an '
                   'image came … s after a newer one; let one node only publish the images, over '
                   'a network that keeps their order.', send=disorder)
    day.publishes('all but those that come after a newer one; odometry does not begin anew'
                  if day.name == 'geometry' else 'all but those that come after a newer one')
    if day.name == 'geometry':
        assert day.node._resets == 0
    day.recovers()


@fault('Camera', 'Images come 3 s late.', *BOTH)
def test_old_images(day):
    day.now = time.time_ns()
    day.start().settle()
    day.now = time.time_ns() - 3 * SECOND
    day.node.trigger_deactivate()     # so that the clock seems to have been wrong all the time
    day.node.trigger_activate()
    day.graph.spin_until(lambda: day.camera.get_subscription_count()
                         and day.infos.get_subscription_count())
    day.mark()
    stamps = [day.send(step=PACE) for _ in range(3)]
    if day.name == 'relocalize':
        day.wait_for(*stamps)
    else:
        day.wait_for(*stamps, topic='depth')
    day.says(WARN, 'Images arrive … s after they were taken: the network is slow (send compressed '
                   'images), or the clocks of camera and robot differ (synchronise them).',
             send=lambda: day.send(step=PACE))
    day.publishes('everything, with the stamps of the images')
    day.now = time.time_ns()
    day.recovers()


@fault('Camera', 'Its clock is 3 s ahead.', *BOTH)
def test_images_of_the_future(day):
    day.now = time.time_ns() + 3 * SECOND
    day.start()
    day.mark()
    stamps = [day.send(step=PACE) for _ in range(3)]
    day.wait_for(*stamps, topic='depth' if day.name == 'geometry' else '')
    day.says(WARN, 'Images are stamped … s ahead of the clock: synchronise the clocks of camera '
                   'and robot.', send=lambda: day.send(step=PACE))
    day.publishes('everything, with the stamps of the images')
    day.now = time.time_ns()
    day.recovers()


@fault('Camera', 'It turns dark.', *BOTH)
def test_a_covered_lens(day):
    day.start().settle()
    black = np.zeros_like(scenery(day.name)[0])
    for _ in range(3):
        day.send(picture=black)
    day.wait_for()
    why = 'the image looks like no training image (score …, gate …).' \
        if day.name == 'relocalize' else \
        'the image is black or blank: the lens is covered, or it is dark.'
    day.says(WARN, f'Images arrive but nothing is published: {why}',
             send=lambda: day.send(picture=black))
    day.publishes('nothing' if day.name == 'relocalize' else 'nothing; then odometry goes on, '
                  'with a larger covariance')
    day.recovers()


@fault('Camera', 'It is unplugged, or its driver crashes; it comes back.', *BOTH)
def test_a_camera_that_comes_back(day):
    day.start().settle()
    day.unplug()
    day.says(ERROR, 'No image for … s: nobody publishes /image; no image topic is published at '
                    'all; start the camera, or give both sides the same ROS_DOMAIN_ID.')
    day.wait_for()
    day.publishes('nothing')
    day.plug_in()
    day.now += 10 * SECOND
    day.recovers()


@fault('Camera', 'Its driver hangs.', *BOTH)
def test_a_silent_camera(day):
    day.start().settle()
    day.says(ERROR, 'No image for … s: … publishes /image, but nothing arrives: it is idle, or '
                    'its images are too large for the shared memory of the middleware (start it '
                    'with FASTRTPS_DEFAULT_PROFILES_FILE=fastdds_large_images.xml).')
    day.wait_for()
    day.publishes('nothing')
    day.recovers()


@fault('Camera', 'Its images are damaged.', *BOTH)
def test_damaged_images(day):
    day.start().settle()

    def damaged():
        message = picture_message(day.now + SECOND // 10, frame_id=day.kind.frame)
        message.data = message.data[:100]
        day.send(message=message)

    for _ in range(3):
        damaged()
    day.wait_for()
    day.says(ERROR, "Images arrive but none can be used: an image of encoding 'rgb8', …, step …, "
                    '100 bytes is too short: it takes … bytes.', send=damaged)
    day.publishes('nothing')
    day.recovers()


# Calibration


@fault('Calibration', 'camera_info comes no more.', *BOTH)
def test_calibration_that_stops(day):
    day.start().settle()
    day.info = None
    stamps = [day.send() for _ in range(3)]
    day.wait_for(*stamps)
    day.says(OK, WELL, send=day.send)
    day.publishes('everything, by the last calibration')
    day.info = day.kind.camera
    day.recovers()


@fault('Calibration', 'camera_info becomes zero.', *BOTH)
def test_calibration_that_is_lost(day):
    day.start().settle()

    def send():
        return day.send(info=CameraInfo(header=camera_info_message(
            day.now, day.kind.frame, day.kind.camera).header))

    stamps = [send() for _ in range(3)]
    words = 'camera_info is of an uncalibrated camera: its focal length is 0.0 and its size 0x0'
    if day.name == 'relocalize':
        day.wait_for(*stamps)
        day.says(WARN, f'{words}.', send=send)
        day.publishes('everything: the network takes no intrinsics')
    else:
        day.wait_for()
        day.says(ERROR, f'Images arrive but none can be used: {words}.', send=send)
        day.publishes('nothing')
    day.recovers()


@fault('Calibration', 'camera_info never came; then it does.', 'geometry')
def test_calibration_that_never_came(day):
    day.info = None
    day.start()
    day.send()
    day.wait_for()
    day.says(ERROR, 'Images arrive but none can be used: waiting for camera_info: /camera_info is '
                    'published, but nothing has arrived yet.', send=day.send)
    day.publishes('nothing')
    day.info = day.kind.camera
    day.recovers()


@fault('Calibration', 'Images of another size than camera_info.', 'geometry')
def test_calibration_of_another_size(day):
    day.start().settle()
    small = np.ascontiguousarray(scenery(day.name)[0][::2, ::2])
    for _ in range(3):
        day.send(picture=small)
    day.wait_for()
    day.says(ERROR, 'Images arrive but none can be used: camera_info on /camera_info is for 96x64 '
                    'pixels, but the image has 48x32; remap camera_info or publish it scaled.',
             send=lambda: day.send(picture=small))
    day.publishes('nothing')
    day.recovers()


# TF


@fault('TF', 'The place of the camera on the base comes late or never.', *BOTH)
def test_transforms_that_come_late(day, tf):
    day.start(base_frame='base_link', tf_timeout_s=0.0)
    day.mark()
    stamps = [day.send() for _ in range(3)]
    words = "waiting for TF: no transform mentions the frame 'base_link' (known frames: none)"
    if day.name == 'relocalize':
        day.wait_for()
        day.says(WARN, f'Images arrive but nothing is published: {words}.', send=day.send)
        day.publishes('nothing')
    else:
        day.wait_for(*stamps, topic='depth')
        day.wait_for(topic='odometry')
        day.says(WARN, f'the odometry {words.replace("waiting", "waits")}.', send=day.send)
        day.publishes('depth; no odometry')
    tf(0, 'base_link', day.kind.frame, T_BASE_CAMERA)
    day.kind = day.kind._replace(verb=day.kind.verb.replace('the camera', 'base_link'))
    day.recovers()


@fault('TF', 'Transforms come later than their images.', *BOTH)
def test_transforms_that_come_after_the_image(day, tf):
    day.start(base_frame='base_link', tf_timeout_s=10.0)
    day.kind = day.kind._replace(verb=day.kind.verb.replace('the camera', 'base_link'))
    tf(day.now, 'base_link', day.kind.frame, T_BASE_CAMERA)
    stamps = []

    def send():
        stamp = day.now + SECOND // 10
        threading.Timer(0.1, lambda: tf(stamp, 'base_link', day.kind.frame,
                                        T_BASE_CAMERA)).start()
        stamps.append(day.send())

    send()
    send()
    day.wait_for(stamps[-1], *([stamps[0]] if day.name == 'relocalize' else []),
                 topic='odometry' if day.name == 'geometry' else '')
    day.says(OK, WELL, send=send)
    day.publishes('everything, as soon as TF reaches the image, within `tf_timeout_s`')
    tf(0, 'base_link', day.kind.frame, T_BASE_CAMERA)
    day.recovers()


# Time


@pytest.fixture
def simulated(day):
    """Return a day whose time comes from /clock."""
    day.clock = day.graph.advertise(Clock, '/clock')
    day.start(use_sim_time=True)
    day.graph.spin_until(lambda: day.clock.get_subscription_count(), what='the clock')
    day.settle()
    return day


@fault('Time', '/clock and stamps jump back by a minute.', *BOTH)
def test_time_that_jumps_back(simulated):
    day = simulated
    day.now -= 60 * SECOND
    first, second = day.send(), day.send()
    if day.name == 'relocalize':
        day.wait_for(first, second)
    else:
        day.wait_for(first, second, topic='depth')
        day.wait_for(second, topic='odometry')
        pose = matrix_from_pose(day.heard['/geometry/odometry'][-1].pose.pose)
        assert np.linalg.norm(pose[:3, 3]) < 0.5
    day.says(OK, WELL, send=day.send)
    day.publishes('everything' if day.name == 'relocalize' else
                  'depth; odometry begins anew at zero with the second image')
    day.recovers()


@fault('Time', '/clock and stamps jump ahead by a minute.', *BOTH)
def test_time_that_jumps_ahead(simulated):
    day = simulated
    before = None if day.name == 'relocalize' else day.heard['/geometry/odometry'][-1]
    day.now += 60 * SECOND
    first, second = day.send(), day.send()
    if day.name == 'relocalize':
        day.wait_for(first, second)
    else:
        day.wait_for(first, second, topic='depth')
        day.wait_for(second, topic='odometry')
        after = day.heard['/geometry/odometry'][-1]
        assert after.pose.covariance[0] > before.pose.covariance[0] + 100
    day.says(OK, WELL, send=day.send)
    day.publishes('everything' if day.name == 'relocalize' else
                  'depth; odometry from the second image on, from the last pose, with a '
                  'covariance that grew for a minute')
    day.recovers()


@fault('Time', 'The playback is paused.', *BOTH)
def test_a_clock_that_stands(simulated):
    day = simulated
    day.says(OK, '/clock stands still: the playback is paused or over.')
    day.wait_for()
    day.publishes('nothing')
    day.recovers()


# Life of the node


@fault('Life', 'A manager takes it down and up again, 20 times.', *BOTH)
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
            day.camera.publish(image_message(day.now, day.kind.frame, scenery(day.name)[0],
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
        day.wait_for(stamps[-1], *([stamps[0]] if day.name == 'relocalize' else []),
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
    client = day.graph.peer.create_client(SetParameters, f'/{day.name}/set_parameters')
    day.graph.spin_until(client.service_is_ready, what='the service')
    future = client.call_async(SetParameters.Request(
        parameters=[Parameter('model', value=path).to_parameter_msg()]))
    day.graph.spin_until(future.done, what='the answer')
    day.graph.peer.destroy_client(client)
    return future.result().results[0]


@fault('Life', 'Its model is swapped (`ros2 param set … model …`).', *BOTH)
def test_another_model(day, models):
    day.start().settle()
    other = models[f'other {day.name}']
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
    day.publishes('nothing while the file is loaded; then what the new model gives, with the '
                  'topics and frames of that')
    day.recovers()


@fault('Life', 'Its model is swapped for a file that is none.', *BOTH)
def test_another_model_that_is_none(day, models):
    day.start().settle()
    answer = swap(day, models['text'])
    assert not answer.successful and 'is not a geo_perception model file' in answer.reason
    assert day.node.get_parameter('model').value == day.model
    stamps = [day.send() for _ in range(3)]
    day.wait_for(*stamps)
    day.says(OK, WELL, send=day.send)
    day.publishes('everything, with the old model; the service answers with the reason')
    day.recovers()


@fault('Life', 'Its network fails, e.g. for want of memory.', *BOTH)
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
        if day.name == 'relocalize':
            day.wait_for()
            day.says(WARN, f'Images arrive but nothing is published: {why}', send=day.send)
            day.publishes('nothing')
        else:
            day.wait_for(*stamps, topic='depth')
            day.wait_for(topic='odometry')
            day.says(WARN, why, send=day.send)
            day.publishes('depth; no odometry')
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


# Processes

SIGNALS = [('Processes', f'{name} ends it while the other node lives; it is started again.', node)
           for name in ('SIGTERM', 'SIGINT', 'SIGKILL') for node in BOTH]
CASES.extend(SIGNALS)
SCRIPTS = {'relocalize': 'stand_in_relocalizer.py', 'geometry': 'stand_in_geometry.py'}


class Pair:
    """Both nodes as processes of their own, with stand-ins for the networks, and a camera."""

    def __init__(self, graph):
        self.graph = graph
        self.heard = {node: graph.listen(kind, topic) for node in BOTH
                      for topic, (kind, _) in [list(KINDS[node].outputs.items())[0]]}
        self.statuses = graph.listen(DiagnosticArray, '/diagnostics')
        self.camera = graph.advertise(Image, '/image')
        self.infos = graph.advertise(CameraInfo, '/camera_info')
        self.processes, self.now = {}, 100 * SECOND
        for node in BOTH:
            self.start(node)

    def start(self, node):
        """Start a node."""
        base = ['-p', "base_frame:=''"] if node == 'geometry' else []
        self.processes[node] = start_process([str(HERE / SCRIPTS[node]), '--ros-args', *base])

    def send(self):
        """Publish one image."""
        self.now += SECOND // 10
        camera = KINDS['geometry'].camera
        self.infos.publish(camera_info_message(self.now, 'camera', camera))
        self.camera.publish(image_message(
            self.now, 'camera', scenery('geometry')[self.now // 10**8 % 40], 'rgb8'))
        self.graph.spin_for(PACE)

    def wait_for(self, node):
        """Wait until a node answers to an image from now on."""
        began = self.now

        def answered():
            self.send()
            return any(stamp_to_ns(message.header.stamp) > began
                       for message in self.heard[node][-5:])

        self.graph.spin_until(answered, timeout=60.0, what=f'a result of {node}')

    def wait_for_words(self, node, level):
        """Wait until a node says that it is well."""
        self.statuses.clear()

        def said():
            self.send()
            return any(status.level == level and status.name.startswith(f'/{node}:')
                       for message in self.statuses for status in message.status)

        self.graph.spin_until(said, timeout=60.0, what=f'the diagnosis of {node}')

    def close(self):
        """End the processes."""
        for process in self.processes.values():
            process.kill()
            process.communicate()


@pytest.fixture(scope='module')
def pair():
    """Return both nodes, answering."""
    from ros_harness import DOMAIN

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        patch.setenv('ROS_DOMAIN_ID', str(DOMAIN))
        graph = Graph('robot')
        pair = Pair(graph)
        for node in BOTH:
            pair.wait_for(node)
        yield pair
        pair.close()
        graph.close()


@pytest.mark.parametrize('text, node', [case[1:] for case in SIGNALS])
def test_a_signal_to_one_of_two_nodes(pair, request, text, node):
    """The other one goes on without a word; the one is back as soon as it is started."""
    number = getattr(signal, text.split()[0])
    other, = set(BOTH) - {node}
    for each in BOTH:
        if pair.processes[each].poll() is not None:    # after a test that failed
            pair.start(each)
            pair.wait_for(each)
    process = pair.processes[node]
    os.killpg(process.pid, number)
    process.communicate(timeout=30.0)
    assert process.returncode == (-number if number == signal.SIGKILL else 0)
    pair.wait_for(other)
    known = len(pair.heard[node])     # what it said last may have come only now
    pair.wait_for_words(other, OK)
    assert len(pair.heard[node]) == known
    began = time.monotonic()
    pair.start(node)
    pair.wait_for(node)
    seconds = time.monotonic() - began
    ROWS[text, node] = {
        'published': f'nothing; all of `{other}`', 'results': f'{seconds:.1f}',
        'words': f'{seconds:.1f}',
        'diagnostics': f'none, which an aggregator calls stale; `{other}` says OK'}
    check_row(request, text, node)


# The page


def test_the_page_names_the_cases_of_the_suite(request):
    """Each one, and no others."""
    cases = [case[1:] for case in CASES]
    assert len(set(cases)) == len(cases)
    text = page() if request.config.getoption('reliability') else PAGE.read_text()
    assert set(rows_of(text)) == set(cases)
