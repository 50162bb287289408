# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What the launch files of the nodes have in common; nothing else imports this."""

import json

from launch.actions import (
    DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, SetEnvironmentVariable)
from launch.condition import Condition
from launch.conditions import IfCondition
from launch.launch_description import LaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node, SetParameter, SetParametersFromFile
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

_PROFILES = 'FASTRTPS_DEFAULT_PROFILES_FILE'
BOOLEAN = ['', 'true', 'false']
# Arguments that are parameters of every node as well.
OVERRIDES = {
    'model': ('Model file (.safetensors); must be given here or in params_file.', None),
    'device': ('Where the network runs: auto, cpu, cuda or cuda:1.', None),
    'image_transport': ('compressed listens on <image>/compressed.', ['', 'raw', 'compressed']),
    'image_reliability': ('best_effort hears every camera; reliable is for bag replay.',
                          ['', 'best_effort', 'reliable']),
    'autostart': ('Bring the node to active; false leaves that to a lifecycle manager.', BOOLEAN),
}


def node_description(name, overrides, topics):
    """
    Return arguments, environment and one node of this package.

    Parameters
    ----------
    name : str
        Of the node, its executable and its parameter file.
    overrides : dict of str to (str, list or None)
        Arguments that are parameters of the node as well, with description and choices: given,
        they win over ``params_file``.
    topics : dict of str to str
        What is remapped by an argument of the same name, with its description.

    Returns
    -------
    launch.LaunchDescription

    """
    share = FindPackageShare('geo_perception')
    arguments = [
        *(DeclareLaunchArgument(argument, default_value='', choices=choices,
                                description=f'{text} Empty: as in params_file.')
          for argument, (text, choices) in overrides.items()),
        *(DeclareLaunchArgument(topic, default_value=topic, description=text)
          for topic, text in topics.items()),
        DeclareLaunchArgument(
            'namespace', default_value='',
            description='Namespace of the node and of its /tf and /tf_static.'),
        DeclareLaunchArgument(
            'params_file', default_value=PathJoinSubstitution([share, 'config', f'{name}.yaml']),
            description='YAML file with the parameters of the node.'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='false', choices=['true', 'false'],
            description='Take the time from /clock, for simulation and bag replay.'),
        DeclareLaunchArgument(
            'log_level', default_value='info',
            choices=['debug', 'info', 'warn', 'error', 'fatal'],
            description='Least severity that is logged.'),
        DeclareLaunchArgument(
            'large_images', default_value='true', choices=['true', 'false'],
            description='Give Fast DDS a shared memory that holds large images, unless '
                        f'{_PROFILES} is set. The camera driver needs the same.'),
    ]
    parameters = [
        SetParametersFromFile(LaunchConfiguration('params_file')),
        *(SetParameter(argument, _value(argument), condition=_is_given(argument))
          for argument in overrides),
        SetParameter('use_sim_time', LaunchConfiguration('use_sim_time')),
    ]
    return LaunchDescription([*arguments, GroupAction([
        *_environment(), *parameters, _process(name, topics, name=name)])])


def included_node(name, arguments):
    """
    Return the launch file of a node, included.

    Parameters
    ----------
    name : str
        Of the node and of its launch file.
    arguments : dict of str to str
        Argument of the included file -> that of the including one.

    Returns
    -------
    launch.actions.GroupAction
        A scope of its own: what one node is told does not reach the next.

    """
    folder = [FindPackageShare('geo_perception'), 'launch']
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PathJoinSubstitution([*folder, f'{name}.launch.py'])),
        launch_arguments=[(theirs, LaunchConfiguration(ours))
                          for theirs, ours in arguments.items()])
    return GroupAction([include])


def one_process(context, nodes):
    """
    Return the process of several nodes.

    Parameters
    ----------
    context : launch.LaunchContext
        In which the launch file is visited.
    nodes : dict of str to (str, str, dict of str to str)
        Name -> the argument that holds the model, that of the parameter file, and parameter ->
        argument for all that wins over this file where it is given.

    Returns
    -------
    launch.actions.GroupAction

    """
    words = []
    for name, (model, params_file, parameters) in nodes.items():
        words += [f'--{name}', '--params-file', LaunchConfiguration(params_file).perform(context),
                  # A quoted string is one for YAML too, whatever the path looks like.
                  '-p', f'model:={json.dumps(LaunchConfiguration(model).perform(context))}']
        for parameter, argument in parameters.items():
            value = LaunchConfiguration(argument).perform(context)
            if value:
                words += ['-p', f'{parameter}:={value}']
    return GroupAction([
        *_environment(), SetParameter('use_sim_time', LaunchConfiguration('use_sim_time')),
        _process('perception', ('image', 'camera_info', 'wheel_odometry'), arguments=words)])


def _environment():
    """Return what sets the environment of a node."""
    profile = PathJoinSubstitution(
        [FindPackageShare('geo_perception'), 'config', 'fastdds_large_images.xml'])
    return [
        SetEnvironmentVariable(
            _PROFILES, EnvironmentVariable(_PROFILES, default_value=profile),
            condition=IfCondition(LaunchConfiguration('large_images')))]


def _process(executable, topics, **options):
    """Return a process of this package; topics have arguments of the same name."""
    return Node(
        package='geo_perception', executable=executable,
        namespace=LaunchConfiguration('namespace'), output='screen', emulate_tty=True,
        remappings=[*((topic, LaunchConfiguration(topic)) for topic in topics),
                    ('/tf', 'tf'), ('/tf_static', 'tf_static')],
        ros_arguments=['--log-level', LaunchConfiguration('log_level')], **options)


def _value(name):
    """Return what an argument sets; paths and frames as they are, whatever YAML makes of them."""
    value = LaunchConfiguration(name)
    as_it_is = name == 'model' or name.endswith('_frame')
    return ParameterValue(value, value_type=str) if as_it_is else value


def _is_given(name):
    """Return a condition; the ready-made ones are too new for Humble or deprecated since."""
    argument = LaunchConfiguration(name)
    return Condition(predicate=lambda context: argument.perform(context) != '')
