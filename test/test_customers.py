# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The files for robot_localization and Nav2: what they name is what there is."""

import json
import re

import numpy as np
import pytest
from rclpy.node import Node
from source_tree import ROOT
import stand_in_geometry
import stand_in_relocalizer
import yaml

from geo_perception.nodes.geometry import GeometryParameters
from geo_perception.nodes.relocalize import RelocalizeParameters

CONFIG = ROOT / 'config'
FILTERS = ('ekf_odom', 'ekf_map')
# Of robot_localization's documentation (state_estimation_nodes) and its examples.
FILTER_PARAMETERS = {
    'frequency', 'sensor_timeout', 'two_d_mode', 'transform_time_offset', 'transform_timeout',
    'print_diagnostics', 'debug', 'debug_out_file', 'permit_corrected_publication',
    'publish_acceleration', 'publish_tf', 'map_frame', 'odom_frame', 'base_link_frame',
    'world_frame', 'use_control', 'stamped_control', 'control_timeout', 'control_config',
    'acceleration_limits', 'deceleration_limits', 'acceleration_gains', 'deceleration_gains',
    'smooth_lagged_data', 'history_length', 'reset_on_time_jump', 'predict_to_current_time',
    'disabled_at_startup', 'initial_state', 'process_noise_covariance',
    'dynamic_process_noise_covariance', 'initial_estimate_covariance'}
SENSOR_PARAMETERS = {
    'odom': {'config', 'queue_size', 'differential', 'relative', 'pose_use_child_frame',
             'pose_rejection_threshold', 'twist_rejection_threshold'},
    'pose': {'config', 'queue_size', 'differential', 'relative', 'rejection_threshold'}}
STATES = ('x', 'y', 'z', 'roll', 'pitch', 'yaw', 'vx', 'vy', 'vz', 'vroll', 'vpitch', 'vyaw',
          'ax', 'ay', 'az')
# Of Nav2's configuration guide.
NAV2_PARAMETERS = {
    'amcl': {'global_frame_id', 'odom_frame_id', 'base_frame_id', 'tf_broadcast',
             'set_initial_pose', 'scan_topic', 'robot_model_type'},
    'map_server': {'yaml_filename'},
    'lifecycle_manager_localization': {'autostart', 'node_names', 'bond_timeout'},
    'bt_navigator': {'global_frame', 'robot_base_frame', 'odom_topic'},
    'controller_server': {'odom_topic'}}


def filter_of(name):
    """Return the parameters of one filter."""
    return yaml.safe_load((CONFIG / 'robot_localization.yaml').read_text())[f'/**/{name}'][
        'ros__parameters']


def nav2(file):
    """Return the parameters of a file for Nav2, by node."""
    content = yaml.safe_load((CONFIG / file).read_text())
    assert all(list(part) == ['ros__parameters'] for part in content.values())
    return {node: part['ros__parameters'] for node, part in content.items()}


def sensors(parameters):
    """Return the topics of a filter, by the name of the sensor."""
    return {name: value for name, value in parameters.items()
            if re.fullmatch(r'(odom|pose|twist|imu)\d', name)}


@pytest.fixture
def topics(graph):
    """Return what our nodes publish, topic to type, as the graph knows it."""
    nodes = [graph.make(stand_in_geometry.StandInNode),
             graph.make(stand_in_relocalizer.StandInNode, base_frame='base_link')]
    found = {}
    for node in nodes:
        assert node.start(), node.last_failure
        for topic, types in node.get_publisher_names_and_types_by_node(
                node.get_name(), node.get_namespace()):
            found[topic] = types[0]
    return found


@pytest.mark.parametrize('name', FILTERS)
@pytest.mark.parametrize('namespace', ['', '/robot1'])
def test_ros_reads_the_file_for_the_filters(graph, name, namespace):
    """By the real parser, for a node of that name in any namespace, with the types it needs."""
    node = graph.add(Node(name, namespace=namespace, context=graph.context, cli_args=[
        '--ros-args', '--params-file', str(CONFIG / 'robot_localization.yaml')],
        automatically_declare_parameters_from_overrides=True))
    for key, value in filter_of(name).items():
        read = node.get_parameter(key).value
        assert list(read) == value if isinstance(value, list) else read == value
        assert isinstance(value, list) or type(read) is type(value)


@pytest.mark.parametrize('name', FILTERS)
def test_the_filters_know_every_parameter(name):
    """A misspelt one would be ignored without a word."""
    parameters = filter_of(name)
    sensor_names = sensors(parameters)
    for key in parameters:
        sensor, _, rest = key.partition('_')
        if sensor in sensor_names:
            assert key == sensor or rest in SENSOR_PARAMETERS[sensor[:-1]], key
        else:
            assert key in FILTER_PARAMETERS, key
    for sensor in sensor_names:
        assert f'{sensor}_config' in parameters
    assert not any(parameters[f'{sensor}_{how}'] for sensor in sensor_names
                   for how in ('differential', 'relative'))


@pytest.mark.parametrize('name', FILTERS)
def test_a_filter_can_be_reset(name):
    """Its service takes the process noise of the file: it has none after that if none is given."""
    parameters = filter_of(name)
    noise = np.reshape(parameters['process_noise_covariance'], (len(STATES), len(STATES)))
    assert np.array_equal(noise, np.diag(np.diag(noise))) and np.diag(noise).min() > 0
    assert 'reset_on_time_jump' not in parameters   # it does nothing


@pytest.mark.parametrize('name', FILTERS)
def test_the_filters_take_what_our_nodes_publish(topics, name):
    """Velocities of odometry; position and yaw of fixes, and those in the map only."""
    parameters = filter_of(name)
    types = {'odom': 'nav_msgs/msg/Odometry',
             'pose': 'geometry_msgs/msg/PoseWithCovarianceStamped'}
    used = {sensor: {state for state, use in zip(STATES, parameters[f'{sensor}_config']) if use}
            for sensor in sensors(parameters)}
    for sensor, topic in sensors(parameters).items():
        assert len(parameters[f'{sensor}_config']) == len(STATES)
        if topic != 'wheel_odometry':
            assert topics[f'/{topic}'] == types[sensor[:-1]]
    velocities = {'vx', 'vy', 'vyaw'}
    fixes = {} if name == 'ekf_odom' else {'pose0': {'x', 'y', 'yaw'}}
    assert used == {'odom0': velocities, 'odom1': velocities, **fixes}


@pytest.mark.parametrize('name', FILTERS)
def test_the_frames_of_the_filters_are_ours(name):
    """Each broadcasts one link of map -> odom -> base_link."""
    parameters = filter_of(name)
    assert parameters['base_link_frame'] == GeometryParameters().base_frame
    assert parameters['odom_frame'] == GeometryParameters().odom_frame \
        == RelocalizeParameters().odom_frame
    assert parameters['world_frame'] == parameters[
        'odom_frame' if name == 'ekf_odom' else 'map_frame']
    assert parameters['publish_tf']


def test_a_filter_without_a_start_takes_the_first_fix():
    """Its covariance is one; the prior lets any fix in the map pass the rejection threshold."""
    parameters = filter_of('ekf_map')
    covariance = np.reshape(parameters['initial_estimate_covariance'], (15, 15))
    assert np.array_equal(covariance, covariance.T) and np.linalg.eigvalsh(covariance)[0] > 0
    reach = parameters['pose0_rejection_threshold'] * np.sqrt(covariance[0, 0])
    assert reach > 100 and covariance[5, 5] >= np.pi ** 2


@pytest.mark.parametrize('file', ['nav2_amcl.yaml', 'nav2_without_amcl.yaml'])
def test_nav2_knows_every_parameter(file):
    """And the frames are those of our nodes."""
    for node, parameters in nav2(file).items():
        assert set(parameters) <= NAV2_PARAMETERS[node], node


def test_amcl_has_one_owner_of_its_transform():
    """It broadcasts where it is seeded, and does not where we do; frames are REP 105's."""
    seeded, beside = (nav2(file)['amcl'] for file in ('nav2_amcl.yaml', 'nav2_without_amcl.yaml'))
    assert seeded['tf_broadcast'] and not beside['tf_broadcast']
    assert not seeded['set_initial_pose']
    assert seeded['odom_frame_id'] == RelocalizeParameters().odom_frame
    text = (ROOT / 'docs' / 'navigation.md').read_text()
    assert f"base_frame:={seeded['base_frame_id']}" in text
    assert f"map_frame:={seeded['global_frame_id']}" in text


def test_nav2_hears_odometry(topics):
    """That of the wheels; the comment offers what the filter and our node publish as well."""
    files = nav2('nav2_without_amcl.yaml')
    for node in ('bt_navigator', 'controller_server'):
        assert files[node]['odom_topic'] == 'odom', node
    text = (CONFIG / 'nav2_without_amcl.yaml').read_text()
    offered = re.search(r'# Speed(.*?)odom_topic', text, re.DOTALL).group(1)
    ours = re.search(r'(\w+/odometry), ours', offered).group(1)
    assert topics[f'/{ours}'] == 'nav_msgs/msg/Odometry'
    filtered = re.search(r'(\w+/\w+), the filter ekf_odom', offered).group(1)
    assert f'odometry/filtered:={filtered}' in (CONFIG / 'robot_localization.yaml').read_text()
    assert files['bt_navigator']['robot_base_frame'] == GeometryParameters().base_frame


def test_foxglove_shows_what_our_nodes_publish(topics):
    """By absolute names, as that program has them; every panel of the layout has its settings."""
    text = (CONFIG / 'perception.foxglove.json').read_text()
    content = json.loads(text)
    ours = set(re.findall(r'/(?:relocalize|geometry)/[a-z_]+', text))
    assert {'/geometry/depth', '/geometry/points', '/geometry/odometry',
            '/relocalize/pose_with_covariance'} <= ours
    assert ours - {'/geometry/motion_mask'} <= set(topics)   # only with a flow network

    def panels(part):
        if isinstance(part, str):
            return {part}
        return panels(part['first']) | panels(part['second'])

    assert panels(content['layout']) == set(content['configById'])


def test_rviz_shows_what_our_nodes_publish(topics):
    """With topics that follow the namespace, and reliability that matches."""
    content = yaml.safe_load((CONFIG / 'perception.rviz').read_text())
    manager = content['Visualization Manager']
    shown = {display['Topic']['Value'] for display in manager['Displays'] if 'Topic' in display}
    assert {'geometry/depth', 'geometry/points', 'geometry/odometry', 'geometry/motion_mask',
            'relocalize/pose_with_covariance'} == shown - {'image'}
    for topic in shown - {'image', 'geometry/motion_mask'}:   # only with a flow network
        assert f'/{topic}' in topics
    tools = {tool['Topic']['Value'] for tool in manager['Tools'] if 'Topic' in tool}
    assert tools == {'initialpose', 'goal_pose'}
