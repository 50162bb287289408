# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Flow and what moves from the node ``geometry``, on a real ROS graph."""

import sys

from geometry_scene import is_newest, Scene, SECOND
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image, TimeReference
import small_world
from stand_in_geometry import flow_estimate, StandInFlowNode
from tiny_geometry_model import write_flow_model, write_geometry_model

from geo_perception.errors import ConfigurationError
from geo_perception.image_codec import decode_array
from geo_perception.nodes.geometry import GeometryNode
from geo_perception.ros.diagnostics import OK, WARN
from geo_perception.ros.flow_output import FLOW_IMAGES
from geo_perception.ros.messages import image_message, stamp_to_ns

TYPES = {'flow': '32FC2', 'rigid_flow': '32FC2', 'flow_valid': 'mono8', 'motion_mask': 'mono8',
         'motion_score': '32FC1'}


def listen(scene, *names):
    """Return lists that the messages of these topics go into, once they are connected."""
    heard = {name: scene.graph.listen(Image, f'/geometry/{name}') for name in names}
    publishers = [scene.node._flow._images[name] for name in names]
    scene.graph.spin_until(
        lambda: all(publisher.get_subscription_count() for publisher in publishers))
    return heard


def arrive(scene, stamp, heard):
    """Wait until all topics have a message with a stamp."""
    scene.graph.spin_until(lambda: all(is_newest(messages, stamp) for messages in heard.values()),
                           what='the flow')


def test_flow_is_that_of_the_newest_image_to_the_one_before(graph):
    """Types, stamps, frames, sizes and numbers; the depth and its calibration go on."""
    scene = Scene(graph, node_class=StandInFlowNode, listen=('depth',)).start()
    references = graph.listen(TimeReference, '/geometry/flow_reference')
    heard = listen(scene, *TYPES)
    first, _ = scene.look()
    graph.spin_for(0.1)
    assert not any(heard.values()) and not references   # the first frame has none before
    depth, info = scene.look()
    arrive(scene, scene.stamp, heard)
    expected = flow_estimate(scene.pipeline.cameras[-1].resized(32, 24),
                             stamp_to_ns(first.header.stamp), scene.stamp).backward
    for name, array in (('flow', expected.flow), ('rigid_flow', expected.rigid),
                        ('flow_valid', 255 * expected.valid), ('motion_score', expected.score),
                        ('motion_mask', 255 * expected.moving)):
        message, = heard[name]
        assert message.header == depth.header and message.encoding == TYPES[name]
        assert (message.width, message.height) == (info.width, info.height) == (32, 24)
        np.testing.assert_array_equal(decode_array(message), array)
    assert set(np.unique(decode_array(heard['motion_mask'][0]))) == {0, 255}
    graph.spin_until(lambda: references, what='the reference')
    assert references[0].header == depth.header and references[0].time_ref == first.header.stamp
    assert len(scene.infos) == 2   # not one for each of depth and flow
    values = scene.diagnosis('Depth, odometry and flow at', OK)
    assert values['what moves'] == 'told'


def test_flow_is_computed_only_while_somebody_listens(graph):
    """To one of its images; the first listener is served at once where odometry runs."""
    scene = Scene(graph, node_class=StandInFlowNode).start()
    graph.listen(TimeReference, '/geometry/flow_reference')
    graph.spin_until(lambda: scene.node._flow._reference.get_subscription_count() > 0)
    scene.process()
    scene.move()
    assert scene.pipeline.seen == ['all', 'all']
    assert 'what moves' not in scene.diagnosis('Depth, odometry and flow', OK)
    heard = listen(scene, 'motion_mask')
    scene.move()
    arrive(scene, scene.stamp, heard)
    assert scene.pipeline.seen[2:] == ['all and flow'] and scene.pipeline.resets == 1


@pytest.mark.parametrize('name', TYPES)
def test_each_topic_alone_is_enough(graph, name):
    """With the calibration, without any listener to depth or odometry, and then no more."""
    scene = Scene(graph, node_class=StandInFlowNode, listen=()).start()
    infos = graph.listen(CameraInfo, '/geometry/camera_info')
    graph.spin_until(lambda: scene.node._info.get_subscription_count() > 0)
    scene.send()
    graph.spin_until(lambda: scene.count('skipped') == 1)
    assert scene.pipeline.seen == [] and not scene.node.is_wanted()
    heard = listen(scene, name)
    scene.process()
    scene.process()
    arrive(scene, scene.stamp, {**heard, 'info': infos})
    assert scene.pipeline.seen == ['all and flow'] * 2 and len(heard[name]) == len(infos) == 1
    scene.diagnosis('Depth, odometry and flow at', OK)
    graph.peer.destroy_subscription(next(
        s for s in graph.peer.subscriptions if s.topic_name == f'/geometry/{name}'))
    graph.spin_until(lambda: not scene.node.is_wanted(), what='the end of the listener')
    scene.send()
    graph.spin_until(lambda: scene.count('skipped') == 2)
    scene.diagnosis('Nobody subscribes', OK)


def test_flow_needs_no_metres(graph):
    """Depth and odometry are withheld, pixels are pixels."""
    scene = Scene(graph, node_class=StandInFlowNode, scale_source='odometry', listen=('depth',),
                  scale_frame='wheel_odom').start()
    heard = listen(scene, 'flow')
    scene.process()
    scene.process()
    arrive(scene, scene.stamp, heard)
    assert not scene.depths
    scene.diagnosis('No scale yet', WARN)


def test_it_is_said_when_it_cannot_be_told_what_moves(graph):
    """As a warning once it is usual, as a key-value at once; the mask is empty."""
    scene = Scene(graph, node_class=StandInFlowNode, listen=()).start()
    heard = listen(scene, 'motion_mask', 'flow')
    scene.process()
    scene.process()
    scene.pipeline.undecided = '80 % of the image move otherwise than the camera says'
    scene.process()
    arrive(scene, scene.stamp, heard)
    values = scene.diagnosis('Depth, odometry and flow at', OK)
    assert values['what moves'].startswith('80 % of the image')
    assert not decode_array(heard['motion_mask'][-1]).any()
    assert decode_array(heard['flow'][-1]).any()
    for _ in range(3):
        scene.process()
    scene.diagnosis('It cannot be told what moves: 80 % of the image', WARN)
    scene.pipeline.undecided = ''
    for _ in range(6):
        scene.process()
    assert scene.diagnosis('Depth, odometry and flow at', OK)['what moves'] == 'told'


def test_frames_without_a_motion_have_no_flow(graph):
    """Some of them are no fault, none for more than a second is one."""
    scene = Scene(graph, node_class=StandInFlowNode, listen=()).start()
    heard = listen(scene, 'flow')
    scene.process()
    scene.process()

    def cover():
        stamp = scene.stamp + SECOND // 10
        scene.process(message=image_message(stamp, 'camera_optical_frame',
                                            np.zeros((48, 64, 3), np.uint8), 'rgb8'))

    for _ in range(4):
        cover()
    assert scene.count('left out') == 5 and scene.count('rejected') == 0
    scene.diagnosis('Depth, odometry and flow at', OK)
    for _ in range(11):
        cover()
    scene.diagnosis('the image is black', WARN)
    assert len(heard['flow']) == 1


def test_depth_that_is_not_confirmed_is_left_out(graph):
    """If asked for; flow is made for it, and without flow nothing confirms it."""
    scene = Scene(graph, node_class=StandInFlowNode, listen=('depth',),
                  confirmed_depth=True).start()
    scene.process()
    assert not scene.depths and scene.count('left out') == 1
    scene.process()
    graph.spin_until(lambda: scene.depths, what='the depth')
    depth = decode_array(scene.depths[0])
    valid = flow_estimate(scene.pipeline.cameras[-1].resized(32, 24), 0, 1).backward.valid
    assert np.isnan(depth[~valid]).all() and not valid.all()
    assert np.isfinite(depth[valid]).all()
    assert scene.pipeline.seen == ['all and flow'] * 2


def test_confirmed_depth_needs_flow(graph, tmp_path):
    """And the node says so before it does anything."""
    path = str(write_geometry_model(tmp_path / 'm.safetensors'))
    node = graph.make(GeometryNode, model=path, confirmed_depth=True, precision='fp32')
    assert not node.start()
    assert node.last_failure.startswith(f'confirmed_depth needs flow, and model file {path} has')


def test_a_model_without_flow_has_no_such_topics(graph):
    """And nothing odd in the diagnostics."""
    scene = Scene(graph).start()
    scene.process()
    scene.move()
    topics = {name for name, _ in graph.peer.get_topic_names_and_types()}
    assert not topics & {f'/geometry/{name}' for name in (*FLOW_IMAGES, 'flow_reference')}
    values = scene.diagnosis('Depth and odometry at', OK)
    assert not [name for name in values if 'move' in name or 'flow' in name]
    assert scene.pipeline.seen == ['all', 'all']


def test_topics_come_and_go_with_the_model(graph):
    """Cleaned up, nothing is left; configured again, all is back."""
    scene = Scene(graph, node_class=StandInFlowNode, listen=()).start()
    listen(scene, 'flow')
    assert scene.node.trigger_deactivate() and scene.node.trigger_cleanup()
    assert scene.node._flow is None and not scene.node._outputs
    assert scene.node.trigger_configure() and scene.node.trigger_activate()
    assert len(scene.node._outputs) == 4 + len(TYPES) + 1


def test_the_smoothing_is_checked(graph):
    """It is a share, and all of it would never forget."""
    with pytest.raises(ConfigurationError, match="parameter 'motion_smoothing' is 1.0"):
        graph.make(StandInFlowNode, motion_smoothing=1.0)


def test_the_node_gives_the_flow_that_the_pipeline_gives(graph, tmp_path, monkeypatch):
    """The network is there before the first listener, with the smoothing that was asked for."""
    monkeypatch.setitem(sys.modules, 'openvino', None)   # converting for it takes seconds
    from geo_perception.inference.geometry import GeometryPipeline

    path = str(write_flow_model(tmp_path / 'flow.safetensors', zero_heads=False))
    scene = Scene(graph, node_class=GeometryNode, model=path, precision='fp32', threads=1,
                  motion_smoothing=0.5, listen=(), calibrated=False).start()
    network = scene.pipeline._flow_network
    assert network is not None and network._smoothing == 0.5
    scene.calibrate(small_world.CAMERA)
    heard = listen(scene, *TYPES)
    pipeline = GeometryPipeline.load(path, precision='fp32', threads=1)
    pipeline.prepare_flow(0.5)
    for T in small_world.poses(40)[:3]:
        image = small_world.view(T)[0]
        stamp = scene.process(message=image_message(scene.stamp + SECOND // 10, 'camera', image,
                                                    'rgb8'))
        expected = pipeline(image, small_world.CAMERA, stamp, flow=True).flow
        if expected is None:
            continue
        arrive(scene, stamp, heard)
        field = expected.backward
        for name, array in (('flow', field.flow), ('rigid_flow', field.rigid),
                            ('flow_valid', 255 * field.valid), ('motion_score', field.score),
                            ('motion_mask', 255 * field.moving)):
            np.testing.assert_array_equal(decode_array(heard[name][-1]), array)
    assert len(heard['flow']) == 2 and scene.pipeline._flow_network is network
