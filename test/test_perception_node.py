# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Both nodes in one process: images are shared, and nothing else."""

import ast
import inspect
import os
import signal
import textwrap
import threading

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
import geometry_scene
from geometry_scene import CAMERA, SECOND
import numpy as np
import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from ros_harness import picture, picture_message, start_process, TIMEOUT
from sensor_msgs.msg import CompressedImage, Image
import stand_in_relocalizer

from geo_perception.errors import ConfigurationError, ModelFileError
from geo_perception.nodes.geometry import GeometryNode
from geo_perception.nodes.perception import split_arguments
from geo_perception.nodes.relocalize import RelocalizeNode
from geo_perception.nodes.stereo_depth import StereoDepthNode
from geo_perception.ros import shared_images
from geo_perception.ros.shared_images import ReceivedImage, SharedImages

SCRIPT = os.path.join(os.path.dirname(__file__), 'stand_in_perception.py')


class Pair:
    """Both nodes with shared images, a camera before them and listeners behind them."""

    def __init__(self, graph, relocalizer=None):
        images = SharedImages()
        self.graph = graph
        self.relocalizer = graph.make(
            lambda **options: stand_in_relocalizer.StandInNode(images=images, **options),
            **(relocalizer or {}))
        self.poses = graph.listen(PoseStamped, '/relocalize/pose')
        assert self.relocalizer.start()
        self.scene = geometry_scene.Scene(
            graph, node_class=lambda **options: geometry_scene.StandInNode(
                images=images, **options)).start()
        self.geometry = self.scene.node
        graph.spin_until(self.relocalizer.is_wanted)

    @property
    def listening(self):
        """Number of subscriptions to the camera."""
        return self.scene.camera.get_subscription_count()

    def process(self, nodes, message=None):
        """Publish an image and wait until these nodes are done with it."""
        done = [node.statistics.count('processed') for node in nodes]
        self.scene.send(message)
        self.graph.spin_until(lambda: all(
            node.statistics.count('processed') == before + 1
            for node, before in zip(nodes, done)), what='the image')


@pytest.fixture
def decodes(monkeypatch):
    """Return the list of messages that are decoded from now on."""
    decoded, decode = [], shared_images.decode_rgb

    def counted(message):
        decoded.append(message)
        return decode(message)

    monkeypatch.setattr(shared_images, 'decode_rgb', counted)
    return decoded


def test_one_subscription_and_one_decode_serve_both(graph, decodes):
    """Whoever comes first decodes; the diagnostics of both together count each image once."""
    pair = Pair(graph)
    both = pair.relocalizer, pair.geometry
    for number in range(1, 4):
        pair.process(both)
        assert len(decodes) == number
        assert sum(node.statistics.count('decoded') for node in both) == number
    assert pair.listening == 1
    graph.spin_until(lambda: len(pair.poses) == 3 and len(pair.scene.depths) == 3)
    assert np.array_equal(pair.relocalizer.pipeline.images[-1], picture())


def test_who_wants_another_quality_of_service_has_a_subscription_of_its_own(graph):
    """One node may ask for reliable delivery, the other not."""
    pair = Pair(graph, {'image_reliability': 'reliable'})
    graph.spin_until(lambda: pair.listening == 2, what='the second subscription')
    pair.process((pair.relocalizer, pair.geometry))


def test_either_node_may_stop_listening_and_the_other_goes_on(graph):
    """The one that held the subscription, which is then handed over, and the one that did not."""
    pair = Pair(graph)
    for stopped, other in ((pair.relocalizer, pair.geometry), (pair.geometry, pair.relocalizer)):
        received = stopped.statistics.count('received')
        assert stopped.trigger_deactivate()
        graph.spin_until(lambda: pair.listening == 1, what='the match')
        pair.process([other])
        assert stopped.statistics.count('received') == received
        assert stopped.trigger_activate()
        pair.scene.calibrate(CAMERA)
    pair.process((pair.relocalizer, pair.geometry))
    for node in (pair.relocalizer, pair.geometry):
        assert node.trigger_deactivate()
    graph.spin_until(lambda: pair.listening == 0, what='the end of the subscription')


def test_a_damaged_image_is_refused_by_both(graph):
    """And the next one is worked on."""
    pair = Pair(graph)
    both = pair.relocalizer, pair.geometry
    damaged = picture_message(pair.scene.stamp + SECOND // 10)
    damaged.height += 1
    pair.process(both, damaged)
    for node in both:
        assert node.statistics.values()['no result: ImageError'] == '1'
    pair.process(both)
    assert all(node.statistics.count('published') == 1 for node in both)


def test_who_asks_while_another_decodes_waits_for_it(monkeypatch):
    """There is no second decode, and no half decoded picture."""
    begun, go_on, calls = threading.Event(), threading.Event(), []

    def slow(message):
        calls.append(message)
        begun.set()
        assert go_on.wait(TIMEOUT)
        return 'picture'

    monkeypatch.setattr(shared_images, 'decode_rgb', slow)
    image, answers = ReceivedImage(Image()), []
    threads = [threading.Thread(target=lambda: answers.append(image.decode())) for _ in range(2)]
    threads[0].start()
    assert begun.wait(TIMEOUT)
    threads[1].start()
    assert not answers
    go_on.set()
    for thread in threads:
        thread.join(TIMEOUT)
    assert sorted(answers) == [('picture', False), ('picture', True)] and len(calls) == 1


def test_both_transports_are_known(graph):
    """A raw and a compressed stream of one camera are two."""
    images, heard = SharedImages(), []
    for kind, topic in ((Image, '/image'), (CompressedImage, '/image/compressed')):
        images.join(graph.peer, kind, topic, QoSProfile(depth=5), heard.append)
    camera = graph.advertise(Image, '/image')
    graph.spin_until(lambda: camera.get_subscription_count() == 1)
    camera.publish(picture_message(SECOND))
    graph.spin_until(lambda: heard, what='the image')
    assert heard[0].stamp == SECOND and heard[0].frame_id == 'camera'


def test_a_model_that_is_swapped_holds_no_images_back(graph, monkeypatch):
    """While one node loads, the other holds the subscription; if that fails, both go on."""
    pair, holders = Pair(graph), []

    def load():
        holders.append([node.get_name() for node in (pair.relocalizer, pair.geometry)
                        if any(sub.topic_name == '/image' for sub in node.subscriptions)])
        if len(holders) == 1:
            raise ModelFileError('it is a cake')
        return stand_in_relocalizer.StandInRelocalizer()

    monkeypatch.setattr(pair.relocalizer, 'load_pipeline', load)
    for successful in (False, True):
        result, = pair.relocalizer.set_parameters([Parameter('model', value='other')])
        assert result.successful == successful
        graph.spin_until(lambda: pair.listening == 1, what='the match')
        pair.process((pair.relocalizer, pair.geometry))
    assert holders == [['geometry'], ['geometry']]


def test_at_the_end_of_the_process_nothing_is_handed_over(graph):
    """A signal ends the context first; a subscription made then would be an error."""
    images, other = SharedImages(), graph.make(lambda **_: Node('other', context=graph.context))
    leave = [images.join(node, Image, '/image', QoSProfile(depth=5), print)
             for node in (graph.peer, other)]
    graph.context.try_shutdown()
    for ended in leave:
        ended()


def test_each_node_gets_its_share_of_the_cores(graph):
    """Unless its parameter says how many threads it may have."""
    for threads, expected in ((0, 3), (5, 5)):
        node = graph.make(lambda **options: stand_in_relocalizer.StandInNode(
            threads=3, **options), threads=threads)
        assert node.threads == expected
        graph.executor.remove_node(node)


# The process


@pytest.mark.parametrize('words, expected', [
    ([], {'relocalize': [], 'geometry': []}),
    (['--geometry', '-p', 'model:=x'], {'geometry': ['-p', 'model:=x']}),
    (['--geometry', '-p', 'a:=b', '--relocalize', '--params-file', 'c'],
     {'geometry': ['-p', 'a:=b'], 'relocalize': ['--params-file', 'c']})])
def test_each_node_has_arguments_of_its_own(words, expected):
    """In the order in which the nodes are named."""
    common = ['--ros-args', '-r', 'image:=x']
    own, rest = split_arguments(words + common)
    assert list(own.items()) == list(expected.items()) and rest == common


@pytest.mark.parametrize('words, sentence', [
    (['-p', 'model:=x'], "'-p' belongs to no node; begin with --relocalize or --geometry"),
    (['--geometry', '--geometry'], '--geometry is there twice')])
def test_arguments_of_nobody_are_refused(words, sentence):
    """One sentence."""
    with pytest.raises(ConfigurationError, match=sentence):
        split_arguments(words)


@pytest.mark.parametrize('stand_in, sentence', [
    ('no model', 'the model file is a cake'), ('', 'Nobody subscribes')])
def test_one_without_its_model_does_not_stop_the_other(two_graphs, stand_in, sentence):
    """In one process: the first works, the second says what is wrong; a signal ends both."""
    states = {}

    def hear(message):
        states.update((status.name, status.message) for status in message.status)

    graph = two_graphs[0]
    graph.peer.create_subscription(DiagnosticArray, '/diagnostics', hear, 10)
    process = start_process(
        [SCRIPT, '--relocalize', '-p', 'map_frame:=hall', '--geometry', '-p',
         "base_frame:=''", '--ros-args', '-r', '__ns:=/robot'], STAND_IN=stand_in)
    try:
        graph.spin_until(lambda: sentence in states.get('/robot/geometry: geometry', ''),
                         what='the other node')
        poses = graph.listen(PoseStamped, '/robot/relocalize/pose')
        camera = graph.advertise(Image, '/robot/image')

        def answered():
            camera.publish(picture_message(SECOND))
            return poses

        graph.spin_until(answered, what='the pose')
        assert poses[0].header.frame_id == 'hall'
    finally:
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, errors
    assert 'Traceback' not in errors


def test_one_with_a_wrong_parameter_is_left_out():
    """Its sentence names it; where both are wrong the process ends."""
    process = start_process([SCRIPT, '--relocalize', '-p', 'modle:=x', '--geometry', '-p', 'x'])
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2 and 'Traceback' not in errors
    assert "error: relocalize: there is no parameter 'modle'" in errors
    assert 'error: wrong ROS arguments of geometry' in errors


# The classes


def assigned(node_class, package):
    """Return the attributes of itself that a class assigns in the code of one package."""
    trees = [ast.parse(textwrap.dedent(inspect.getsource(base))) for base in node_class.__mro__
             if base.__module__.partition('.')[0] == package]
    return {node.attr for tree in trees for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name) and node.value.id == 'self'}


@pytest.mark.parametrize('node_class', [RelocalizeNode, GeometryNode, StereoDepthNode])
def test_no_attribute_is_one_of_rclpy(node_class):
    """A list of services of our own once replaced that of the node, which then heard none."""
    ours, theirs = (assigned(node_class, package) for package in ('geo_perception', 'rclpy'))
    assert '_services' in theirs and not ours & theirs
