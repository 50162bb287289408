# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Start what a robot with one camera needs: where it is, how it moves, and how far everything is.

    ros2 launch geo_perception perception.launch.py relocalizer:=office.safetensors \
        geometry:=drive.safetensors image:=/camera/image_raw camera_info:=/camera/camera_info

A node whose model is not given is not started. Each has a process of its own, unless
``processes:=one``. For several robots start it once for each, with ``namespace``.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from geo_perception.ros.launching import BOOLEAN, included_node, one_process, OVERRIDES

_CONFIG = [FindPackageShare('geo_perception'), 'config']
_SWITCH = ['true', 'false']
# Node -> the argument that holds its model.
_NODES = {'relocalize': 'relocalizer', 'geometry': 'geometry'}
_FILES = 'Empty: as in the parameter files.'
_GEOMETRY_FILE = 'Empty: as in geometry_params_file.'
# Name -> default, choices, description.
_ARGUMENTS = {
    'relocalizer': ('', None, 'Model file for the node relocalize; empty: it is not started.'),
    'geometry': ('', None, 'Model file for the node geometry; empty: it is not started.'),
    'image': ('image', None, 'Image topic of the camera.'),
    'camera_info': ('camera_info', None,
                    'Calibration topic; by default the one beside the image topic.'),
    'wheel_odometry': ('wheel_odometry', None, 'Odometry topic that gives the metres, for '
                       'scale_source odometry.'),
    'scale_source': ('', ['', 'model', 'camera_height', 'odometry', 'constant', 'none'],
                     f'Where the metres of the node geometry come from. {_GEOMETRY_FILE}'),
    'scale': ('', None, 'Metres per unit, for scale_source constant; with a decimal point. '
              f'{_GEOMETRY_FILE}'),
    'camera_height': ('', None, 'Metres from the ground to the lens, for scale_source '
                      f'camera_height; with a decimal point. {_GEOMETRY_FILE}'),
    'odometry': ('', ['', 'hybrid', 'network'], 'How the node geometry finds motion; network '
                 f'leaves corners alone. {_GEOMETRY_FILE}'),
    'motion_smoothing': ('', None, 'How much of the motion score of the frame before is carried '
                         f'along, 0 to 0.99; with a decimal point. {_GEOMETRY_FILE}'),
    'map_frame': ('', None, "Frame of the poses; empty takes the model's world frame."),
    'base_frame': ('base_link', None, 'Robot frame, which TF connects with the camera frame; Nav2 '
                   "and AMCL often call it base_footprint. '' means the camera itself."),
    'map_to_odom': ('true', _SWITCH, 'The relocalizer broadcasts map -> odom; false where AMCL, '
                    'SLAM or a filter does.'),
    'odom_to_base': ('false', _SWITCH, 'Our odometry is broadcast as odom -> base_frame; only '
                     'where neither wheels nor a filter do.'),
    'two_d': ('', BOOLEAN, 'The robot moves in a plane: map -> odom is x, y and yaw only, and '
              f'covariances are as two_d_mode of robot_localization wants them. {_FILES}'),
    'seed': ('', ['', 'never', 'first_fix'], 'first_fix sends the first fix to AMCL, once, on '
             'initialpose. Empty: as in relocalizer_params_file.'),
    'processes': ('two', ['two', 'one'], 'two: a process for each node, which is faster, and a '
                  'crash of one cannot take the other. one: both share a process, which decodes '
                  'each image once and needs less memory.'),
    'relocalizer_params_file': (PathJoinSubstitution([*_CONFIG, 'relocalize.yaml']), None,
                                'YAML file with the parameters of the node relocalize.'),
    'geometry_params_file': (PathJoinSubstitution([*_CONFIG, 'geometry.yaml']), None,
                             'YAML file with the parameters of the node geometry.'),
    'device': ('', None, f"{OVERRIDES['device'][0]} {_FILES}"),
    'image_transport': ('', OVERRIDES['image_transport'][1],
                        f"{OVERRIDES['image_transport'][0]} {_FILES}"),
    'image_reliability': ('', OVERRIDES['image_reliability'][1],
                          f"{OVERRIDES['image_reliability'][0]} {_FILES}"),
    'rectified': ('', BOOLEAN,
                  f'The images are rectified, so P of camera_info is theirs. {_FILES}'),
    'autostart': ('', BOOLEAN, f"{OVERRIDES['autostart'][0]} {_FILES}"),
    'namespace': ('', None, 'Namespace of the nodes and of their /tf, /tf_static; one a robot.'),
    'use_sim_time': ('false', _SWITCH, 'Take the time from /clock, as in simulation and replay.'),
    'log_level': ('info', ['debug', 'info', 'warn', 'error', 'fatal'],
                  'Least severity that is logged.'),
    'large_images': ('true', _SWITCH, 'Give Fast DDS a shared memory that holds large images. The '
                     'camera driver needs the same.'),
    'rviz': ('false', _SWITCH, 'Start rviz2 with config/perception.rviz.'),
}
# What both nodes are told alike: parameters, and what concerns their process.
_SHARED = ('base_frame', 'device', 'image_transport', 'image_reliability', 'rectified',
           'autostart', 'two_d')
_PROCESS = ('image', 'camera_info', 'namespace', 'use_sim_time', 'log_level', 'large_images')
# Parameter of one node -> argument, and topics that it alone listens to. Nothing that the included
# files declare is missing: with two processes they would take it from the command line.
_OWN = {
    'relocalize': {'map_frame': 'map_frame', 'publish_tf': 'map_to_odom', 'seed': 'seed'},
    'geometry': {'publish_tf': 'odom_to_base', **{name: name for name in (
        'scale_source', 'scale', 'camera_height', 'odometry', 'motion_smoothing')}}}
_TOPICS = {'relocalize': (), 'geometry': ('wheel_odometry',)}


def generate_launch_description():
    """Return arguments, the nodes and RViz."""
    rviz = Node(
        package='rviz2', executable='rviz2', namespace=LaunchConfiguration('namespace'),
        condition=IfCondition(LaunchConfiguration('rviz')),
        arguments=['-d', PathJoinSubstitution([*_CONFIG, 'perception.rviz'])],
        parameters=[{'use_sim_time': LaunchConfiguration('use_sim_time')}],
        remappings=[('image', LaunchConfiguration('image')),
                    ('/tf', 'tf'), ('/tf_static', 'tf_static')])
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=default, choices=choices, description=text)
          for name, (default, choices, text) in _ARGUMENTS.items()),
        OpaqueFunction(function=_start),
        rviz])


def _start(context):
    """Return the nodes that have a model; refuse to start nothing."""
    given = {node: model for node, model in _NODES.items()
             if LaunchConfiguration(model).perform(context)}
    if not given:
        raise RuntimeError('there is no model, so there is nothing to start: give '
                           'relocalizer:=<file>, geometry:=<file> or both')
    parameters = {node: {**{name: name for name in _SHARED}, **_OWN[node]} for node in given}
    if len(given) > 1 and LaunchConfiguration('processes').perform(context) == 'one':
        return [one_process(context, {
            node: (given[node], f'{given[node]}_params_file', parameters[node])
            for node in given})]
    return [included_node(node, {
        'model': given[node], 'params_file': f'{given[node]}_params_file', **parameters[node],
        **{name: name for name in (*_PROCESS, *_TOPICS[node])}}) for node in given]
