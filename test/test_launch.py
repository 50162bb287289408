# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The launch files: arguments, and what reaches the nodes. Skipped without launch_ros."""

from dataclasses import fields
import importlib.util
import inspect
import os
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import yaml

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
    'relocalize': (RelocalizeParameters, COMMON + [
        'rectified', 'map_frame', 'base_frame', 'publish_tf', 'two_d', 'seed']),
    'geometry': (GeometryParameters, COMMON + [
        'rectified', 'scale_source', 'scale', 'camera_height', 'base_frame',
        'odometry', 'motion_smoothing', 'publish_tf', 'two_d', 'wheel_odometry']),
    'stereo_depth': (StereoDepthParameters, COMMON + [
        'rectified', 'post_process', 'scale_correction', 'right_image'])}


def load(name):
    """Return a launch file as a module."""
    spec = importlib.util.spec_from_file_location(
        f'{name}_launch', ROOT / 'launch' / f'{name}.launch.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module', params=NODES)
def module(request):
    """Return the launch file of a node as a module."""
    module = load(request.param)
    module.node = request.param
    return module


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Let launch find this package as a workspace has it: in an index, with its executables."""
    index = tmp_path / 'share' / 'ament_index' / 'resource_index' / 'packages'
    index.mkdir(parents=True)
    (index / 'geo_perception').touch()
    (tmp_path / 'share' / 'geo_perception').symlink_to(ROOT)
    programs = tmp_path / 'lib' / 'geo_perception'
    programs.mkdir(parents=True)
    for name in ('relocalize', 'geometry', 'perception', 'geo_perception'):
        (programs / name).write_text('#!/bin/sh\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    return tmp_path


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


def started(name, **arguments):
    """
    Walk through a launch file as ``ros2 launch`` does, short of starting processes.

    Returns the launch configurations, the parameters and the command of each process, by name.
    """
    context = launch.LaunchContext()
    context.launch_configurations.update(arguments)
    found = {}

    def execute(process, context):
        process.prepare(context)
        key = process.node_executable if isinstance(process, Node) else process.name
        configurations = context.launch_configurations
        found[key] = (dict(configurations), configurations.get('global_params', [])[1:],
                      process.process_details['cmd'])

    def visit(entity):
        for part in entity.visit(context) or []:
            visit(part)

    with mock.patch.dict(os.environ), \
            mock.patch.object(launch.actions.ExecuteLocal, 'execute', execute):
        visit(load(name).generate_launch_description())
    return found


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
    parameters, _ = run_up_to_the_node(module, model='x.safetensors', device='cpu')
    assert parameters == [shipped_yaml(module), ('model', 'x.safetensors'), ('device', 'cpu'),
                          ('use_sim_time', False)]


def test_truth_values_reach_the_node_as_such(module):
    """The text 'false' would be refused as a string."""
    parameters, _ = run_up_to_the_node(module, autostart='false', use_sim_time='true')
    assert parameters[1:] == [('autostart', False), ('use_sim_time', True)]


@pytest.mark.parametrize('own', ['', '/mine.xml'])
def test_the_profile_for_large_images_is_set_unless_there_is_one(module, monkeypatch, installed,
                                                                 own):
    """The user's own profile stays."""
    name = 'FASTRTPS_DEFAULT_PROFILES_FILE'
    monkeypatch.delenv(name, raising=False)
    if own:
        monkeypatch.setenv(name, own)
    assert run_up_to_the_node(module)[1].get(name, '') == own
    _, environment = run_up_to_the_node(module, large_images='true')
    shipped = installed / 'share' / 'geo_perception' / 'config' / 'fastdds_large_images.xml'
    assert environment[name] == (own or str(shipped))
    assert (ROOT / 'config' / shipped.name).exists()


# Several nodes


@pytest.mark.parametrize('name', ['perception', 'replay'])
def test_every_argument_of_the_joint_files_is_described(name):
    """And none but the bag must be given."""
    for argument in load(name).generate_launch_description().entities:
        if isinstance(argument, launch.actions.DeclareLaunchArgument):
            assert len(argument.description) > 20
            assert (argument.default_value is None) == (argument.name == 'bag')


def test_both_nodes_start_and_each_is_told_its_own(installed):
    """Model, parameters and topics; who owns which transform."""
    nodes = started('perception', relocalizer='r.safetensors', geometry='g.safetensors',
                    image='/cam/image', camera_info='/cam/info', namespace='robot1',
                    device='cpu', map_frame='map', two_d='true')
    assert list(nodes) == ['relocalize', 'geometry']
    shared = {('device', 'cpu'), ('two_d', True), ('base_frame', 'base_link'),
              ('use_sim_time', False)}
    assert set(nodes['relocalize'][1]) == shared | {
        ('model', 'r.safetensors'), ('map_frame', 'map'), ('publish_tf', True)}
    assert set(nodes['geometry'][1]) == shared | {
        ('model', 'g.safetensors'), ('publish_tf', False)}
    for node, (configurations, _, command) in nodes.items():
        assert configurations['params_file'] == str(
            installed / 'share' / 'geo_perception' / 'config' / f'{node}.yaml')
        rules = ' '.join(command)
        for rule in ('__ns:=/robot1', f'__node:={node}', 'image:=/cam/image',
                     'camera_info:=/cam/info', '/tf:=tf', '/tf_static:=tf_static'):
            assert f'-r {rule}' in rules


def test_only_arguments_that_are_declared_reach_the_nodes(installed):
    """Launch hands all others on as well, but to included files only, not with one process."""
    declared = {argument.name for argument in load('perception').generate_launch_description()
                .entities if isinstance(argument, launch.actions.DeclareLaunchArgument)}
    models = {'relocalizer': 'r', 'geometry': 'g'}
    others = {*NODES['relocalize'][1], *NODES['geometry'][1]} - declared
    told = started('perception', **models)
    for name, (_, parameters, command) in started(
            'perception', **models, **dict.fromkeys(others, 'other')).items():
        assert (parameters, command) == told[name][1:]


def test_in_one_process_each_node_is_told_the_same_as_in_two(installed):
    """By its own arguments, for a parameter file of one would otherwise reach the other."""
    from geo_perception.nodes.perception import NODES as IN_ONE, split_arguments

    given = {'relocalizer': 'a "b" #1.safetensors', 'geometry': 'g', 'namespace': 'robot1',
             'image': '/cam/image', 'use_sim_time': 'true', **EVERYTHING}
    two = started('perception', **given)
    (name, (_, _, command)), = started('perception', processes='one', **given).items()
    assert name == 'perception' and 'use_sim_time:=True' in command
    assert '__ns:=/robot1' in command and 'image:=/cam/image' in command
    assert not any('__node' in word for word in command)   # it would rename both
    words, _ = split_arguments(command[1:])
    assert list(words) == list(IN_ONE)
    for node, (configurations, expected, _) in two.items():
        assert words[node][:2] == ['--params-file', configurations['params_file']]
        told = [tuple(word.split(':=', 1)) for word in words[node][3::2]]
        assert {key: yaml.safe_load(value) for key, value in told} == {
            key: value for key, value in expected if key != 'use_sim_time'}
        assert words[node][2::2] == ['-p'] * len(told)


@pytest.mark.parametrize('processes', ['two', 'one'])
def test_the_wheels_are_remapped_for_whom_they_concern(installed, processes):
    """However many processes there are."""
    nodes = started('perception', relocalizer='r', geometry='g', processes=processes,
                    wheel_odometry='/diff_drive/odom')
    told = {name: 'wheel_odometry:=/diff_drive/odom' in command
            for name, (_, _, command) in nodes.items()}
    assert told == ({'perception': True} if processes == 'one' else
                    {'relocalize': False, 'geometry': True})


@pytest.mark.parametrize('model, node, other', [
    ('relocalizer', 'relocalize', 'geometry'), ('geometry', 'geometry', 'relocalize')])
def test_a_node_without_a_model_is_not_started(installed, model, node, other):
    """Its parameters file is not even looked for."""
    nodes = started('perception', **{model: 'x.safetensors', 'map_to_odom': 'false',
                                     'odom_to_base': 'true', f'{other}_params_file': '/none'})
    assert list(nodes) == [node]
    assert ('publish_tf', node == 'geometry') in nodes[node][1]


def test_the_camera_alone_can_be_asked_for(installed):
    """An empty frame is not the same as none given; ROS reads the quotes."""
    nodes = started('perception', relocalizer='r', base_frame="''", map_to_odom='false')
    command = nodes['relocalize'][2]
    assert command[command.index('-p', command.index('model:=r')) + 1] == "base_frame:=''"


def test_nothing_to_start_is_an_error(installed):
    """One sentence, for ``ros2 launch`` to print."""
    with pytest.raises(RuntimeError, match='relocalizer:=<file>, geometry:=<file> or both'):
        started('perception')


EVERYTHING = {'seed': 'first_fix', 'image_transport': 'compressed', 'device': 'cpu',
              'image_reliability': 'reliable', 'autostart': 'false', 'rectified': 'true',
              'two_d': 'true', 'map_frame': 'map', 'base_frame': 'base_footprint',
              'odom_to_base': 'true', 'scale_source': 'camera_height', 'camera_height': '0.32',
              'scale': '2.5', 'odometry': 'network', 'motion_smoothing': '0.5'}


def test_the_joint_parameters_are_known_to_the_nodes(installed):
    """Whatever perception.launch.py passes on is an argument of the file it includes."""
    nodes = started('perception', relocalizer='r', geometry='g', **EVERYTHING)
    for node, (_, parameters, _) in nodes.items():
        known = {field.name for field in fields(NODES[node][0])} | {'use_sim_time'}
        assert {name for name, _ in parameters} <= known
        assert ('image_transport', 'compressed') in parameters
        assert ('autostart', False) in parameters and ('rectified', True) in parameters
    assert ('seed', 'first_fix') in nodes['relocalize'][1]


def test_replay_is_given_what_was_given(installed):
    """The rest is left to its own defaults."""
    (_, _, command), = started('replay', bag='drive[0:9]', geometry='g.safetensors', report='out',
                               image='/cam/image').values()
    program = str(installed / 'lib' / 'geo_perception' / 'geo_perception')
    assert command == [program, 'replay', 'drive[0:9]', '--geometry', 'g.safetensors', '--report',
                       'out', '--rate', '1.0', '--lockstep', 'false', '--image_topic',
                       '/cam/image']


def test_the_options_of_replay_are_those_of_the_command_line():
    """By the signature of the function behind it."""
    from geo_perception.commands.replay import replay

    options = {option for option, *_ in load('replay')._ARGUMENTS.values()}
    assert options <= set(inspect.signature(replay).parameters)


def test_the_end_of_replay_is_that_of_the_launch():
    """Success and Ctrl-C end it, a failure is its own."""
    end = load('replay')._end
    for status in (0, 130, -2):
        assert isinstance(end(SimpleNamespace(returncode=status), None), launch.actions.Shutdown)
    with pytest.raises(RuntimeError, match='exit status 1; its last line'):
        end(SimpleNamespace(returncode=1), None)
