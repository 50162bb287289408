# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The life of the node ``geometry``: its transitions, its real pipeline, its process."""

import os
import signal
import sys
import threading

from geometry_scene import CAMERA, is_newest, Scene, SECOND
import numpy as np
import pytest
from rclpy.parameter import Parameter
from ros_harness import start_process, TIMEOUT
import small_world
from tiny_geometry_model import write_geometry_model

from geo_perception.geometry import se3
from geo_perception.nodes.geometry import GeometryNode
from geo_perception.ros.diagnostics import ERROR
from geo_perception.ros.messages import image_message, matrix_from_pose, ns_to_stamp
from geo_perception.ros.validators import odometry_problems


# Lifecycle


def test_deactivating_waits_for_the_inference_and_silences_the_node(graph):
    """No result comes out after the transition; activated again, odometry goes on."""
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
    scene.move()
    assert len(scene.odometry) == known + 1


def swap(node):
    """Give a node another model, as ``ros2 param set`` does."""
    assert node.set_parameters_atomically([Parameter('model', value='another')]).successful


def pause(node):
    """Deactivate a node and activate it."""
    assert node.trigger_deactivate() and node.trigger_activate()


def begin_again(node):
    """Clean a node up and start it."""
    assert node.trigger_deactivate() and node.trigger_cleanup() and node.start()


@pytest.mark.parametrize('change, scale_source, goes_on', [
    (swap, 'model', True), (pause, 'model', True), (pause, 'none', True),
    (swap, 'none', False), (begin_again, 'model', False)])
def test_odom_stays_where_it_is(graph, change, scale_source, goes_on):
    """Whatever lies in it would move along; only another unit or a clean slate begin at zero."""
    scene = Scene(graph, listen=('odometry',), scale_source=scale_source).start()
    scene.process()
    before = [scene.move() for _ in range(8)][-1]
    change(scene.node)
    graph.spin_until(lambda: scene.camera.get_subscription_count() > 0
                     and scene.info.get_subscription_count() > 0
                     and scene.node._odometry_is_wanted(), what='the match')
    scene.calibrate(CAMERA)
    scene.process()
    after = scene.move()
    way, known = (np.linalg.norm(matrix_from_pose(message.pose.pose)[:3, 3])
                  for message in (after, before))
    assert known > 0.35 and (way > known if goes_on else way < 0.1)
    assert (after.pose.covariance[0] > 1.5 * before.pose.covariance[0]) == goes_on


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
            assert odometry_problems(scene.odometry[-1]) == []
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
