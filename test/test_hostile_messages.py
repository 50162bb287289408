# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Messages as nobody means them: the nodes live on, say why, and publish what is right or nothing.

A few cases of each field here, thousands in ``make nightly``.
"""

import sys

from field_day import ALL, BASELINE, BOTH, CAMERA, KINDS, other_eye, scenery, SECOND, T_BASE_CAMERA
from hostile import is_sentence, NUMBERS, refused_or_fine, WORDS
from hypothesis import given, strategies as st
from nav_msgs.msg import Odometry
import numpy as np
import pytest
from rclpy.parameter import Parameter
from ros_harness import Graph
from sensor_msgs.msg import CompressedImage
import small_bag

from geo_perception.image_codec import decode_depth, decode_flow, decode_rgb
from geo_perception.ros.diagnostics import FrameStatistics, Outcome
from geo_perception.ros.disparity import right_camera_info
from geo_perception.ros.image_stream import ImageStream
from geo_perception.ros.messages import (
    camera_info_message, image_message, odometry_message, transform_stamped)
from geo_perception.ros.shared_images import ReceivedImage
from geo_perception.ros.true_motion import WheelMotion

pytestmark = pytest.mark.hostile
tf2_msgs = pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is not installed')

UINT8, UINT32 = st.integers(0, 255), st.sampled_from([0, 1, 2, 3, 64, 2 ** 31, 2 ** 32 - 1]) \
    | st.integers(0, 2 ** 32 - 1)
INT32 = st.sampled_from([0, -1, 2 ** 31 - 1, -2 ** 31]) | st.integers(-2 ** 31, 2 ** 31 - 1)
FLOAT = st.sampled_from([float(value) for value in NUMBERS]) | st.floats()
TEXT = st.sampled_from([word.replace('\x00', '') for word in WORDS]) \
    | st.text(st.characters(exclude_characters='\x00', exclude_categories=('Cs',)), max_size=20)
FRAMES = st.sampled_from(['base_link', 'camera', 'odom', 'map', '', '/', '/camera']) | TEXT
ENCODINGS = st.sampled_from([
    'rgb8', 'bgr8', 'mono8', 'mono16', 'rgba8', 'bayer_rggb8', 'bayer_gbrg16', 'yuv422', 'yuyv',
    'nv12', 'nv21', '8UC3', '8UC2', '16UC1', '32FC1', '32FC2', '64FC4', '8UC0',
    '8UC99999999999']) | TEXT


class Rig:
    """An active node with listeners on everything, fed without the middleware."""

    def __init__(self, name, model):
        self.kind, self.name = KINDS[name], name
        self.graph = Graph()
        frames = {'base_frame': 'base_link', 'publish_tf': True, 'tf_timeout_s': 0.0}
        self.node = self.graph.make(
            self.kind.node_class, model=model, precision='fp32', threads=1,
            **(frames if name in BOTH else {}))
        self.heard = {topic: self.graph.listen(message_class, topic)
                      for topic, (message_class, _) in self.kind.outputs.items()}
        assert self.node.start(), self.node.last_failure
        self.now = 100 * SECOND
        self.graph.spin_until(lambda: all(publisher.get_subscription_count()
                                          for publisher in self.outputs()), what='the listeners')
        self.reset()

    def outputs(self):
        """Return the publishers that are listened to."""
        return [output for output in self.node._outputs if output.topic_name in self.heard]

    def reset(self):
        """Let the camera be known, and time be where it was."""
        if self.name in BOTH:
            self.node._listener.reset()
            self.node._listener._on_tf_static(tf2_msgs.TFMessage(transforms=[
                transform_stamped(0, 'base_link', CAMERA.frame_id, T_BASE_CAMERA)]))
        self.inform(camera_info_message(self.now, CAMERA.frame_id, CAMERA))

    def inform(self, message):
        """Give the node a calibration."""
        calibration = self.node._calibration
        getattr(calibration, '_input', calibration)._on_info(message)

    def good(self):
        """Return the next image of a good camera."""
        self.now += SECOND // 10
        return self.picture(scenery())

    def picture(self, pictures):
        """Return the image of now, of one of the eyes."""
        return image_message(self.now, CAMERA.frame_id,
                             pictures[self.now // 10**8 % len(pictures)], 'rgb8')

    def feed(self, message):
        """Give the node an image, and see that it takes it."""
        statistics = self.node.statistics = FrameStatistics(5.0)
        done = statistics.count('processed')
        with refused_or_fine() as refusal:
            self.node._on_image(ReceivedImage(message))
            self.graph.spin_until(lambda: statistics.count('processed') > done, what='the frame')
        assert not refusal
        self.look()

    def look(self):
        """See that all that was said is sentences and all that was published is right."""
        statistics = self.node.statistics
        for outcome in (Outcome.FAILED, Outcome.REJECTED):
            for sentence in statistics.recent(outcome):
                assert is_sentence(sentence) and 'internal error' not in sentence, sentence
        level, sentence, values, _ = self.node._report()
        assert is_sentence(sentence) and all(isinstance(text, str) for text in values.values())
        for topic, (_, problems) in self.kind.outputs.items():
            for message in self.heard[topic]:
                assert problems(message) == []
            self.heard[topic].clear()

    def works(self):
        """See that good images give results."""
        for _ in range(3):
            self.feed(self.good())
        assert self.node.statistics.count('published') == 1


@pytest.fixture(scope='module', params=ALL)
def rig(request, field_models):
    """Return a node at work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, 'openvino', None)
        rig = Rig(request.param, field_models[request.param])
        yield rig
        rig.graph.close()


def changed(data, message, fields):
    """Return a message with one or two fields, named with dots, set to something drawn."""
    for name in data.draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=2)):
        *owners, last = name.split('.')
        owner = message
        for part in owners:
            owner = getattr(owner, part)
        setattr(owner, last, data.draw(fields[name], label=name))
    return message


IMAGE = {'header.stamp.sec': INT32, 'header.stamp.nanosec': UINT32, 'header.frame_id': FRAMES,
         'height': UINT32, 'width': UINT32, 'encoding': ENCODINGS, 'is_bigendian': UINT8,
         'step': UINT32, 'data': st.binary(max_size=100) | st.sampled_from([
             b'', bytes(10_000), bytes(64_800)])}


@given(data=st.data())
def test_images(rig, data):
    """Every field; afterwards good images give results."""
    rig.feed(changed(data, rig.good(), IMAGE))
    rig.node._stream = ImageStream()     # whatever stamp that had
    rig.reset()
    rig.works()


def numbers(count):
    """Return a strategy for matrices."""
    return st.lists(FLOAT, min_size=count, max_size=count)


INFO = {'header.frame_id': FRAMES, 'height': UINT32, 'width': UINT32, 'k': numbers(9),
        'p': numbers(12), 'r': numbers(9), 'd': st.lists(FLOAT, max_size=15),
        'distortion_model': st.sampled_from(['plumb_bob', 'equidistant', 'rational_polynomial'])
        | TEXT, 'binning_x': UINT32, 'binning_y': UINT32, 'roi.x_offset': UINT32,
        'roi.y_offset': UINT32, 'roi.height': UINT32, 'roi.width': UINT32,
        'roi.do_rectify': st.booleans()}


@given(data=st.data())
def test_calibrations(rig, data):
    """Every field, then one number of a good matrix."""
    info = camera_info_message(rig.now, CAMERA.frame_id, CAMERA)
    if data.draw(st.booleans(), label='one number'):
        name = data.draw(st.sampled_from(['k', 'p']))
        matrix = np.array(getattr(info, name))
        matrix[data.draw(st.integers(0, len(matrix) - 1))] = data.draw(FLOAT)
        setattr(info, name, matrix)
        info.d = data.draw(st.lists(FLOAT, min_size=4, max_size=5))
    else:
        changed(data, info, INFO)
    rig.inform(info)
    rig.feed(rig.good())
    rig.reset()
    rig.feed(rig.good())


TRANSFORM = {'header.stamp.sec': INT32, 'header.stamp.nanosec': UINT32, 'header.frame_id': FRAMES,
             'child_frame_id': FRAMES,
             **{f'transform.translation.{axis}': FLOAT for axis in 'xyz'},
             **{f'transform.rotation.{axis}': FLOAT for axis in 'xyzw'}}


@pytest.mark.parametrize('rig', ['stereo_depth'], indirect=True)
@given(data=st.data())
def test_the_other_eye(rig, data):
    """Its image and its calibration: depth goes on, and is checked again by a good pair."""
    node = rig.node
    for damaged in (True, False):
        node.reset()
        left, right = rig.good(), rig.picture(other_eye())
        info = right_camera_info(rig.now, CAMERA.frame_id, CAMERA, BASELINE)
        if damaged:
            changed(data, *data.draw(st.sampled_from([(right, IMAGE), (info, INFO)])))
        node._right_calibration._on_info(info)
        node._on_right(ReceivedImage(right))
        rig.feed(left)
        assert node.statistics.count('published') == 1
    assert node._check is not None and not node._check_problem


@pytest.mark.parametrize('rig', BOTH, indirect=True)
@given(data=st.data())
def test_transforms(rig, data):
    """Of whatever frames, static or not."""
    for _ in range(2):
        message = tf2_msgs.TFMessage(transforms=[changed(
            data, transform_stamped(rig.now, 'odom', 'base_link', np.eye(4)), TRANSFORM)])
        listener = rig.node._listener
        data.draw(st.sampled_from([listener._on_tf, listener._on_tf_static]))(message)
    rig.feed(rig.good())
    listener._tree._links.clear()
    rig.reset()
    rig.works()


ODOMETRY = {'header.stamp.sec': INT32, 'header.stamp.nanosec': UINT32, 'header.frame_id': FRAMES,
            'child_frame_id': FRAMES,
            **{f'pose.pose.position.{axis}': FLOAT for axis in 'xyz'},
            **{f'pose.pose.orientation.{axis}': FLOAT for axis in 'xyzw'},
            'pose.covariance': numbers(36), 'twist.covariance': numbers(36)}


@pytest.fixture(scope='module')
def wheels():
    """Return what listens to the odometry of wheels."""
    graph = Graph()
    yield WheelMotion(graph.peer, 'wheel_odometry', 'base_link', lambda frame, stamp: np.eye(4))
    graph.close()


@given(data=st.data())
def test_wheel_odometry(wheels, data):
    """Distances are finite, or missing with a reason."""
    wheels._tree._links.clear()
    for i in range(3):
        message = odometry_message(i * SECOND, 'odom', 'base_link', np.eye(4), np.eye(6) * 2,
                                   np.zeros(6), np.eye(6) * 2)
        assert isinstance(message, Odometry)
        wheels._on_odometry(changed(data, message, ODOMETRY) if i else message)
        with refused_or_fine():
            assert np.isfinite(wheels.distance(0, i * SECOND))


PICTURE = image_message(0, 'camera', small_bag.picture(3), 'rgb8')


@given(data=st.binary(max_size=200) | st.just(b'\x89PNG\r\n\x1a\n'), text=TEXT | st.sampled_from(
    ['jpeg', 'png', '16UC1; compressedDepth png', '32FC1; compressedDepth png',
     'rgb8; jpeg compressed rgb8']))
def test_compressed_images(data, text):
    """As picture and as depth."""
    message = CompressedImage(format=text)
    message.data.frombytes(data)
    for decode in (decode_rgb, decode_depth):
        with refused_or_fine():
            assert decode(message).ndim in (2, 3)


@given(data=st.data())
def test_depth_and_flow_images(data):
    """The other two kinds of images that are read."""
    message = changed(data, image_message(0, 'c', np.ones((4, 5), np.float32), '32FC1'), IMAGE)
    for decode in (decode_depth, decode_flow, decode_rgb):
        with refused_or_fine():
            assert decode(message).dtype in (np.float32, np.uint8)


@given(data=st.data())
def test_parameters(rig, data):
    """Every one, of every type: refused with a reason, or taken; the node lives on."""
    name = data.draw(st.sampled_from(sorted(vars(rig.node.parameters))))
    value = data.draw(FLOAT | INT32 | TEXT | st.booleans() | st.lists(INT32, max_size=2))
    if isinstance(value, list) and not value:
        value = ['']
    with refused_or_fine():
        result, = rig.node.set_parameters([Parameter(name, value=value)])
        assert result.successful or is_sentence(result.reason)
    assert rig.node.phase == 'active'
