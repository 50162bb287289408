# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The node ``relocalize`` with its real pipeline, and as a process."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.executors import ExternalShutdownException
from relocalize_scene import Scene, values_of
from ros_harness import picture, start_process, TIMEOUT

from geo_perception.model_file import Metadata, save_model_file
from geo_perception.networks.relocalization import build_regressor
from geo_perception.nodes.relocalize import RelocalizeNode
from geo_perception.preprocessing import Preprocessing
from geo_perception.ros.messages import matrix_from_pose
from geo_perception.ros.run import run_node, spin

HERE = os.path.dirname(__file__)


# The real pipeline


@pytest.fixture(scope='module')
def model_file(tmp_path_factory):
    """Return the path of a small model that has learnt nothing."""
    network = build_regressor('posenet_lite', {'input_size': (64, 96), 'width': 16})
    tensors = {f'network.{name}': value.numpy() for name, value in network.state_dict().items()}
    rng = np.random.default_rng(0)
    tensors['retrieval.thumbnails'] = rng.normal(size=(4, 24, 32)).astype(np.float32)
    tensors['retrieval.poses'] = np.tile(np.eye(4), (4, 1, 1))
    metadata = Metadata(
        job='relocalization', architecture='posenet_lite',
        arguments={'input_size': (64, 96), 'width': 16}, rotation='matrix', world_frame='cellar',
        preprocessing=Preprocessing(short_side=64, crop=(64, 96)))
    path = tmp_path_factory.mktemp('model') / 'untrained.safetensors'
    save_model_file(path, metadata, tensors)
    return str(path)


def test_the_node_gives_what_the_pipeline_gives(graph, model_file, monkeypatch):
    """Same frames, same numbers, offline and live."""
    monkeypatch.setitem(sys.modules, 'openvino', None)   # converting for it takes seconds
    from geo_perception.inference.relocalizer import Relocalizer

    pipeline = Relocalizer.load(model_file, precision='fp32', threads=1)
    scene = Scene(graph, node_class=RelocalizeNode, model=model_file, precision='fp32',
                  threads=1, gate_threshold=0.0).start()
    for seed in range(3):
        expected = pipeline(picture(seed, height=96, width=128))
        pose, message = scene.fix(seed=seed, height=96, width=128)
        assert pose.header.frame_id == 'cellar'
        assert np.allclose(matrix_from_pose(pose.pose), expected.T_world_camera, atol=1e-6)
        assert np.allclose(np.reshape(message.pose.covariance, (6, 6)), expected.covariance)
    values = values_of(scene.diagnosis('Relocalizing the camera'))
    assert values['engine'] == pipeline.describe()
    assert values['model sha256'] == pipeline.model.sha256


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_model_loads_ends_the_process_cleanly(model_file, number):
    """The real node, interrupted somewhere between its first line of log and being active."""
    process = start_process(['-m', 'geo_perception.nodes.relocalize', '--ros-args', '-p',
                             f'model:={model_file}', '--log-level', 'debug'])
    process.stderr.readline()
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=2 * TIMEOUT)
    assert process.returncode == 0, errors
    assert 'Traceback' not in errors


# The process


@pytest.mark.parametrize('shut_down', [False, True])
def test_an_exception_in_a_callback_is_logged_and_not_the_end(shut_down):
    """Unless the ROS context is gone: then it is only the end of the process."""
    ends = iter([RuntimeError('a callback'), ExternalShutdownException()])
    alive, logged = [True], []

    def work():
        alive[0] = not shut_down
        raise next(ends)

    executor = SimpleNamespace(context=SimpleNamespace(ok=lambda: alive[0]), spin=work)
    logger = SimpleNamespace(error=lambda text, **_: logged.append(text))
    spin(executor, logger)
    assert len(list(ends)) == (1 if shut_down else 0)
    assert ['a callback' in text for text in logged] == ([] if shut_down else [True])


@pytest.mark.parametrize('times', [1, 5])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_cleanly(number, times):
    """Exit code 0, no traceback, also for who presses Ctrl-C again and again."""
    process = start_process([os.path.join(HERE, 'stand_in_relocalizer.py'),
                             '--ros-args', '-p', 'watchdog_s:=0.1'])
    # The watchdog speaks: the node is up and spinning.
    assert any('nobody publishes /image' in line for line in process.stderr)
    for _ in range(times):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, errors
    assert 'Traceback' not in errors


@pytest.mark.parametrize('arguments, mended', [
    (['model:=x'], 'relocalize --ros-args -p model:=x ('),
    (['image:=/camera', '--ros-args', '-p', 'model:=x'], '--ros-args -r image:=/camera'),
    (['--ros-args', '-p', 'model:=x', '--', '--samples', '3'],
     "'--samples' is outside of --ros-args; write relocalize --ros-args -p name:=value")])
def test_arguments_that_ros_would_ignore_are_refused(capsys, arguments, mended):
    """Exit code 2, and how it is written."""
    assert run_node(RelocalizeNode, ['bin/relocalize', *arguments]) == 2
    assert mended in capsys.readouterr().err


def test_help_lists_the_parameters(capsys):
    """With type, default, unit and range."""
    assert run_node(RelocalizeNode, ['bin/relocalize', '--help']) == 0
    out = capsys.readouterr().out
    assert out.startswith('usage: relocalize --ros-args -p model:=<file>')
    assert '  watchdog_s (double, default 5.0, s, 0.1 to 3600.0)\n      Without an image' in out
    assert all(f'  {field.name} (' in out for field in dataclasses.fields(
        RelocalizeNode.parameters_class))


@pytest.mark.parametrize('arguments, sentence', [
    (['-p', 'modle:=x'], "error: there is no parameter 'modle'; did you mean 'model'?"),
    (['-p', 'watchdog_s:=5'], "error: parameter 'watchdog_s' must be of type double, but 5 is of "
                              'type integer; write 5.0'),
    (['model:=x'], 'a parameter is given as -p name:=value'),
    (['-p', 'model=x'], "error: wrong ROS arguments: failed to initialize rcl: Couldn't parse")])
def test_wrong_parameters_end_the_process_with_one_sentence(arguments, sentence):
    """Exit code 2, no traceback."""
    process = start_process([os.path.join(HERE, 'stand_in_relocalizer.py'), '--ros-args',
                             *arguments])
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    assert sentence in errors and 'Traceback' not in errors
