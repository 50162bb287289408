# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Start the node ``geometry`` and bring it to active.

    ros2 launch geo_perception geometry.launch.py model:=drive.safetensors \
        image:=/camera/image_raw camera_info:=/camera/camera_info
"""

from launch import Condition, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node, SetParameter, SetParametersFromFile
from launch_ros.substitutions import FindPackageShare

_PROFILES = 'FASTRTPS_DEFAULT_PROFILES_FILE'
# Arguments that are parameters of the node as well: given, they win over params_file.
_OVERRIDES = {
    'model': ('Model file (.safetensors); must be given here or in params_file.', None),
    'device': ('Where the network runs: auto, cpu, cuda or cuda:1.', None),
    'image_transport': ('compressed listens on <image>/compressed.', ['', 'raw', 'compressed']),
    'image_reliability': ('best_effort hears every camera; reliable is for bag replay.',
                          ['', 'best_effort', 'reliable']),
    'autostart': ('Bring the node to active; false leaves that to a lifecycle manager.',
                  ['', 'true', 'false']),
    'rectified': ('The images are rectified, so P of camera_info is theirs.',
                  ['', 'true', 'false']),
    'scale_source': ('Where metres come from; none publishes without unit, under other names.',
                     ['', 'model', 'camera_height', 'odometry', 'constant', 'none']),
    'scale': ('Metres per unit, for scale_source constant; with a decimal point.', None),
    'camera_height': ('Metres from the ground to the lens, for scale_source camera_height; with '
                      'a decimal point.', None),
    'base_frame': ('Robot frame whose odometry is published, through TF.', None),
    'publish_tf': ('Broadcast odom -> base_frame, where nobody else does.',
                   ['', 'true', 'false']),
}


def _is_given(name):
    """Return a condition; the ready-made ones are too new for Humble or deprecated since."""
    argument = LaunchConfiguration(name)
    return Condition(predicate=lambda context: argument.perform(context) != '')


def generate_launch_description():
    """Return arguments, environment and the node."""
    share = FindPackageShare('geo_perception')
    arguments = [
        DeclareLaunchArgument(name, default_value='', choices=choices,
                              description=f'{text} Empty: as in params_file.')
        for name, (text, choices) in _OVERRIDES.items()]
    arguments += [
        DeclareLaunchArgument(
            'image', default_value='image', description='Image topic of the camera.'),
        DeclareLaunchArgument(
            'camera_info', default_value='camera_info',
            description='Calibration topic; by default the one beside the image topic.'),
        DeclareLaunchArgument(
            'wheel_odometry', default_value='wheel_odometry',
            description='Odometry topic that gives the metres, for scale_source odometry.'),
        DeclareLaunchArgument(
            'namespace', default_value='',
            description='Namespace of the node and of its /tf and /tf_static.'),
        DeclareLaunchArgument(
            'params_file',
            default_value=PathJoinSubstitution([share, 'config', 'geometry.yaml']),
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
        *(SetParameter(name, LaunchConfiguration(name), condition=_is_given(name))
          for name in _OVERRIDES),
        SetParameter('use_sim_time', LaunchConfiguration('use_sim_time')),
    ]
    environment = [
        # Spinning OpenMP threads make inference several times slower on shared cores.
        SetEnvironmentVariable('OMP_WAIT_POLICY', 'PASSIVE'),
        SetEnvironmentVariable(
            _PROFILES,
            EnvironmentVariable(_PROFILES, default_value=PathJoinSubstitution(
                [share, 'config', 'fastdds_large_images.xml'])),
            condition=IfCondition(LaunchConfiguration('large_images'))),
    ]
    node = Node(
        package='geo_perception', executable='geometry', name='geometry',
        namespace=LaunchConfiguration('namespace'), output='screen', emulate_tty=True,
        remappings=[('image', LaunchConfiguration('image')),
                    ('camera_info', LaunchConfiguration('camera_info')),
                    ('wheel_odometry', LaunchConfiguration('wheel_odometry')),
                    ('/tf', 'tf'), ('/tf_static', 'tf_static')],
        ros_arguments=['--log-level', LaunchConfiguration('log_level')])
    return LaunchDescription([*arguments, GroupAction([*environment, *parameters, node])])
