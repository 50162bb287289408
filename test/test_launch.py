# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The launch files: arguments, and what reaches the nodes. Skipped without launch_ros."""

from dataclasses import fields
import importlib.util
import os
from pathlib import Path
from unittest import mock

import pytest

from geo_perception.nodes.geometry import GeometryParameters
from geo_perception.nodes.relocalize import RelocalizeParameters
from geo_perception.nodes.stereo_depth import StereoDepthParameters

REASON = 'launch and launch_ros are not installed (they have no wheel)'
launch = pytest.importorskip('launch', reason=REASON)
Node = pytest.importorskip('launch_ros.actions', reason=REASON).Node

ROOT = Path(__file__).parents[1]
COMMON = ['model', 'image', 'camera_info', 'namespace', 'params_file', 'use_sim_time', 'log_level',
          'autostart', 'device', 'image_transport', 'image_reliability', 'large_images']
NODES = {
    'relocalize': (RelocalizeParameters, COMMON),
    'geometry': (GeometryParameters, COMMON + [
        'rectified', 'scale_source', 'scale', 'camera_height', 'base_frame',
        'odometry', 'motion_smoothing', 'publish_tf', 'wheel_odometry']),
    'stereo_depth': (StereoDepthParameters, COMMON + [
        'rectified', 'post_process', 'scale_correction', 'right_image'])}


@pytest.fixture(scope='module', params=NODES)
def module(request):
    """Return a launch file as a module."""
    spec = importlib.util.spec_from_file_location(
        f'{request.param}_launch', ROOT / 'launch' / f'{request.param}.launch.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.node = request.param
    return module


def shipped_yaml(module):
    """Return the parameter file of a launch file."""
    return str(ROOT / 'config' / f'{module.node}.yaml')


def run_up_to_the_node(module, **arguments):
    """Execute what comes before the node; return parameters and environment."""
    context = launch.LaunchContext()
    context.launch_configurations.update(
        {'params_file': shipped_yaml(module), 'large_images': 'false', **arguments})
    *declarations, group = module.generate_launch_description().entities
    assert isinstance(group, launch.actions.GroupAction)
    with mock.patch.dict(os.environ):   # launch sets variables in this very process
        for entity in [*declarations, *group.get_sub_entities()]:
            if isinstance(entity, Node):
                return context.launch_configurations['global_params'], dict(os.environ)
            entity.visit(context)
    raise AssertionError('there is no node')


def test_every_argument_is_described(module):
    """``ros2 launch --show-args`` is the manual."""
    arguments = [entity for entity in module.generate_launch_description().entities
                 if isinstance(entity, launch.actions.DeclareLaunchArgument)]
    names = [argument.name for argument in arguments]
    print(*names)
    assert sorted(names) == sorted(NODES[module.node][1])
    for argument in arguments:
        assert len(argument.description) > 20 and argument.default_value is not None


def test_arguments_that_are_parameters_are_known_to_the_node(module):
    """A parameter that is renamed must be renamed here too."""
    overrides = {argument.name for argument in module.generate_launch_description().entities
                 if isinstance(argument, launch.actions.DeclareLaunchArgument)
                 and argument.description.endswith('Empty: as in params_file.')}
    assert 'model' in overrides and overrides <= {
        field.name for field in fields(NODES[module.node][0])}


def test_an_argument_wins_over_the_file_only_where_it_is_given(module):
    """Else the values of the user's params_file would be lost without a word."""
    parameters, environment = run_up_to_the_node(module, model='x.safetensors', device='cpu')
    assert parameters == [shipped_yaml(module), ('model', 'x.safetensors'), ('device', 'cpu'),
                          ('use_sim_time', False)]
    assert environment['OMP_WAIT_POLICY'] == 'PASSIVE'


def test_truth_values_reach_the_node_as_such(module):
    """The text 'false' would be refused as a string."""
    parameters, _ = run_up_to_the_node(module, autostart='false', use_sim_time='true')
    assert parameters[1:] == [('autostart', False), ('use_sim_time', True)]


@pytest.mark.parametrize('own', ['', '/mine.xml'])
def test_the_profile_for_large_images_is_set_unless_there_is_one(module, monkeypatch, tmp_path,
                                                                 own):
    """The user's own profile stays."""
    name = 'FASTRTPS_DEFAULT_PROFILES_FILE'
    monkeypatch.delenv(name, raising=False)
    if own:
        monkeypatch.setenv(name, own)
    index = tmp_path / 'share' / 'ament_index' / 'resource_index' / 'packages'
    index.mkdir(parents=True)
    (index / 'geo_perception').touch()
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    assert run_up_to_the_node(module)[1].get(name, '') == own
    _, environment = run_up_to_the_node(module, large_images='true')
    shipped = tmp_path / 'share' / 'geo_perception' / 'config' / 'fastdds_large_images.xml'
    assert environment[name] == (own or str(shipped))
    assert (ROOT / 'config' / shipped.name).exists()
