# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Node parameters: declared from one dataclass, wrong ones refused in one sentence."""

from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from rcl_interfaces.msg import ParameterType
from rclpy.node import Node
from rclpy.parameter import Parameter
import yaml

from geo_perception.errors import ConfigurationError
from geo_perception.nodes.geometry import GeometryParameters
from geo_perception.nodes.relocalize import RelocalizeParameters
from geo_perception.nodes.stereo_depth import StereoDepthParameters
from geo_perception.ros.parameters import declare_parameters, describe_parameters
from geo_perception.ros.parameters import NodeParameters, parameter, read_overrides
from geo_perception.ros.parameters import read_parameters

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Example(NodeParameters):
    """One of each."""

    rate_hz: float = parameter(10.0, 'How often.', unit='Hz', minimum=0.1, maximum=100.0)
    samples: int = parameter(40, 'How many.', minimum=1, maximum=1000)
    device: str = parameter('auto', 'Where.', choices=('auto', 'cpu'))
    quiet: bool = parameter(False, 'Say nothing.', read_only=True)


class ExampleNode(Node):
    """A node whose parameters can be opened and closed."""

    def __init__(self, **options):
        super().__init__('example', **options)
        self.open = True
        declare_parameters(self, Example)

    def accepts_parameters(self):
        """Tell whether the node is open."""
        return self.open


def refusal(**values):
    """Return the sentence with which overrides are refused."""
    with pytest.raises(ConfigurationError) as caught:
        read_overrides(Example, {n: Parameter(n, value=v) for n, v in values.items()})
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_overrides_replace_defaults():
    """Those not given keep their default."""
    overrides = {'samples': Parameter('samples', value=3),
                 'use_sim_time': Parameter('use_sim_time', value=True),
                 'qos_overrides./a.publisher.depth': Parameter('x', value=1)}
    assert read_overrides(Example, overrides) == Example(samples=3)


def test_a_misspelt_parameter_is_refused_with_the_nearest_name():
    """ROS would ignore it."""
    assert refusal(sample=3) == "there is no parameter 'sample'; did you mean 'samples'?"
    assert refusal(zzz=3).endswith('known are: rate_hz, samples, device, quiet')


def test_an_int_for_a_float_is_refused_with_the_mend():
    """The classical trap of ROS parameters."""
    assert refusal(rate_hz=20) == (
        "parameter 'rate_hz' must be of type double, but 20 is of type integer; write 20.0")


@pytest.mark.parametrize('values, needle', [
    ({'samples': 2.0}, "'samples' must be of type integer, but 2.0 is of type double"),
    ({'device': True}, "'device' must be of type string, but True is of type bool; put the"),
    ({'device': 'gpu'}, "'device' is 'gpu', but must be one of: auto | cpu"),
    ({'samples': 0}, "'samples' is 0, but must be 1 to 1000"),
    ({'rate_hz': 1e9}, "'rate_hz' is 1000000000.0, but must be 0.1 to 100.0 Hz"),
    ({'rate_hz': float('nan')}, "'rate_hz' is nan, but must be 0.1 to 100.0 Hz"),
])
def test_wrong_types_choices_and_ranges_are_named(values, needle):
    """Name, value and what is right."""
    assert needle in refusal(**values)


def test_a_node_declares_descriptions_ranges_and_read_only(graph):
    """As ``ros2 param describe`` shows them."""
    node = graph.make(ExampleNode, samples=7)
    assert read_parameters(node, Example) == Example(samples=7)
    rate = node.describe_parameter('rate_hz')
    assert rate.description == 'How often. Unit: Hz.'
    assert rate.type == ParameterType.PARAMETER_DOUBLE
    assert rate.floating_point_range[0].to_value == 100.0
    assert node.describe_parameter('samples').integer_range[0].from_value == 1
    assert node.describe_parameter('device').description == 'Where. One of: auto | cpu.'
    assert node.describe_parameter('quiet').read_only


def test_a_node_refuses_wrong_overrides_before_it_declares(graph):
    """The exception is ours, not one of rclpy's."""
    with pytest.raises(ConfigurationError, match='did you mean'):
        graph.make(ExampleNode, devise='cpu')


def test_changes_at_run_time_are_checked(graph):
    """With the same rules, and not at all while the node is in use."""
    node = graph.make(ExampleNode)

    def change(**values):
        changes = [Parameter(n, value=v) for n, v in values.items()]
        return node.set_parameters_atomically(changes)

    assert change(samples=5).successful
    assert 'one of: auto | cpu' in change(device='gpu', samples=6).reason
    node.open = False
    assert 'only while the node is unconfigured' in change(samples=6).reason
    assert change(use_sim_time=True).successful
    assert read_parameters(node, Example).samples == 5


def test_the_description_lists_every_field():
    """For the tables of the documentation."""
    rows = describe_parameters(Example)
    assert [row['name'] for row in rows] == [field.name for field in fields(Example)]
    assert rows[0] == {'name': 'rate_hz', 'type': 'double', 'default': 10.0, 'unit': 'Hz',
                       'range': '0.1 to 100.0', 'description': 'How often.', 'read_only': False}
    assert rows[2]['range'] == 'auto | cpu'


@pytest.mark.parametrize('node, parameters_class', [
    ('relocalize', RelocalizeParameters), ('geometry', GeometryParameters),
    ('stereo_depth', StereoDepthParameters)])
def test_the_shipped_yaml_holds_every_parameter_with_its_default(node, parameters_class):
    """The file in ``config/`` and the code agree, in values and in order."""
    text = (ROOT / 'config' / f'{node}.yaml').read_text()
    shipped = yaml.safe_load(text)['/**']['ros__parameters']
    assert list(shipped.items()) == [(f.name, f.default) for f in fields(parameters_class)]
    # 40 == 40.0 in Python, but not in ROS.
    assert [type(value) for value in shipped.values()] == [
        type(f.default) for f in fields(parameters_class)]
    for name in shipped:
        line = next(line for line in text.splitlines() if line.strip().startswith(name + ':'))
        above = text[:text.index(line)].rstrip().splitlines()[-1]
        assert '#' in line or above.strip().startswith('#'), f'{name} has no comment'


def test_publishing_tf_needs_a_base_frame():
    """A rule over two parameters."""
    with pytest.raises(ConfigurationError, match='base_frame'):
        RelocalizeParameters(publish_tf=True)
    with pytest.raises(ConfigurationError, match='no leading slash'):
        RelocalizeParameters(map_frame='/map')
