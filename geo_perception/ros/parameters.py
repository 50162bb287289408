# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Node parameters declared from one frozen dataclass.

A node states its parameters once, as the fields of a dataclass made with :func:`parameter`.
The ROS declaration (description, range, read-only), the checks, the shipped YAML and the
documentation all come from there.
"""

import dataclasses
import difflib
import traceback

from rcl_interfaces.msg import FloatingPointRange, IntegerRange
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.parameter import Parameter

from geo_perception.errors import ConfigurationError, GeoPerceptionError

_ROS_TYPES = {bool: Parameter.Type.BOOL, int: Parameter.Type.INTEGER,
              float: Parameter.Type.DOUBLE, str: Parameter.Type.STRING}
# Declared by rclpy itself, so they are legitimate overrides of any node.
_FOREIGN_NAMES = ('use_sim_time', 'start_type_description_service')


def parameter(default, description, *, unit='', minimum=None, maximum=None, choices=(),
              read_only=False, live=False):
    """
    Return a dataclass field that states one node parameter.

    Parameters
    ----------
    default : bool, int, float or str
        Its type is the parameter's type.
    description : str
        What it does, for ``ros2 param describe`` and the documentation.
    unit : str
        SI unit, empty for none.
    minimum, maximum : float, optional
        Both or neither; inclusive. For numbers only.
    choices : tuple of str
        The values allowed; empty for any.
    read_only : bool
        True when it counts at start only.
    live : bool
        True when it may be changed at any time: the node asks ROS for it when it is needed, or
        learns of it, see :func:`declare_parameters`.

    Returns
    -------
    dataclasses.Field

    """
    return dataclasses.field(default=default, metadata={
        'description': description, 'unit': unit, 'minimum': minimum, 'maximum': maximum,
        'choices': tuple(choices), 'read_only': read_only, 'live': live})


class NodeParameters:
    """Base of the parameter dataclasses: checks choices and ranges when one is made."""

    def __post_init__(self):
        """Raise ConfigurationError where a value is not among the choices or out of range."""
        for field in dataclasses.fields(self):
            _check_value(field, getattr(self, field.name))


def read_overrides(parameters_class, overrides):
    """
    Return the parameters with the values given from outside, or say what is wrong with them.

    ROS ignores a misspelt parameter name without a word and answers a wrong type with a
    traceback (ros2_runtime.md section 8); here both are one sentence.

    Parameters
    ----------
    parameters_class : type
        Dataclass made of :func:`parameter` fields.
    overrides : dict
        Name to ``rclpy.parameter.Parameter``, from files and the command line.

    Returns
    -------
    NodeParameters
        An instance of ``parameters_class``.

    Raises
    ------
    ConfigurationError
        On an unknown name, a wrong type, a value out of range or not among the choices.

    """
    fields = {field.name: field for field in dataclasses.fields(parameters_class)}
    values = {}
    for name, override in overrides.items():
        if name in fields:
            _check_type(fields[name], override)
            values[name] = override.value
        elif name not in _FOREIGN_NAMES and not name.startswith('qos_overrides.'):
            raise ConfigurationError(_unknown_name(name, fields))
    return parameters_class(**values)


def declare_parameters(node, parameters_class, on_change=None):
    """
    Declare every parameter on a node, with the values given from outside.

    Afterwards :func:`read_parameters` gives the values. A change at run time is refused unless
    ``node.accepts_parameters()``, so that the values a running pipeline was built with and the
    values ROS shows are always the same.

    Parameters
    ----------
    node : rclpy.node.Node
        With a method ``accepts_parameters() -> bool``.
    parameters_class : type
        Dataclass made of :func:`parameter` fields.
    on_change : callable, optional
        Called with the parameters as they would be and the names of those that change, before
        ROS shows them; what it raises refuses the change.

    Raises
    ------
    ConfigurationError
        See :func:`read_overrides`; nothing is declared then.

    """
    read_overrides(parameters_class, node._parameter_overrides)
    for field in dataclasses.fields(parameters_class):
        node.declare_parameter(field.name, field.default, _descriptor(field))
    names = {field.name for field in dataclasses.fields(parameters_class)}
    live = {field.name for field in dataclasses.fields(parameters_class)
            if field.metadata['live']}

    def check(changes):
        ours = {change.name: change for change in changes if change.name in names}
        fixed = [name for name in ours if name not in live]
        if fixed and not node.accepts_parameters():
            return SetParametersResult(successful=False, reason=(
                f"'{fixed[0]}' can be changed only while the node is unconfigured; "
                'deactivate and clean it up first'))
        try:
            changed = dataclasses.replace(
                read_parameters(node, parameters_class),
                **{name: change.value for name, change in ours.items()})
            if on_change is not None:
                on_change(changed, set(ours))
        except GeoPerceptionError as error:
            return SetParametersResult(successful=False, reason=str(error))
        except Exception as error:
            node.get_logger().error(f'internal error in a change of parameters:\n'
                                    f'{traceback.format_exc()}')
            return SetParametersResult(successful=False, reason=f'internal error: {error!r}')
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(check)


def read_parameters(node, parameters_class):
    """
    Return the declared parameters of a node.

    Parameters
    ----------
    node : rclpy.node.Node
        After :func:`declare_parameters`.
    parameters_class : type
        The same class.

    Returns
    -------
    NodeParameters

    """
    return parameters_class(**{field.name: node.get_parameter(field.name).value
                               for field in dataclasses.fields(parameters_class)})


def describe_parameters(parameters_class):
    """
    Return the documentation of the parameters, for tables and tests.

    Parameters
    ----------
    parameters_class : type
        Dataclass made of :func:`parameter` fields.

    Returns
    -------
    list of dict
        In order of declaration: name, type, default, unit, range, description, read_only.

    """
    return [{'name': field.name, 'type': _ros_type(field).name.lower(),
             'default': field.default, 'unit': field.metadata['unit'],
             'range': _range_text(field), 'description': field.metadata['description'],
             'read_only': field.metadata['read_only']}
            for field in dataclasses.fields(parameters_class)]


def _ros_type(field):
    return _ROS_TYPES[type(field.default)]


def _range_text(field):
    if field.metadata['choices']:
        return ' | '.join(choice or "''" for choice in field.metadata['choices'])
    if field.metadata['minimum'] is None:
        return ''
    return f"{field.metadata['minimum']} to {field.metadata['maximum']}"


def _descriptor(field):
    metadata = field.metadata
    notes = [metadata['description']]
    if metadata['unit']:
        notes.append(f"Unit: {metadata['unit']}.")
    if metadata['choices']:
        notes.append(f'One of: {_range_text(field)}.')
    descriptor = ParameterDescriptor(description=' '.join(notes),
                                     read_only=metadata['read_only'])
    if metadata['minimum'] is not None:
        bounds = {'from_value': metadata['minimum'], 'to_value': metadata['maximum']}
        if isinstance(field.default, float):
            descriptor.floating_point_range = [FloatingPointRange(**bounds)]
        else:
            descriptor.integer_range = [IntegerRange(**bounds, step=1)]
    return descriptor


def _check_type(field, override):
    expected = _ros_type(field)
    if override.type_ == expected:
        return
    sentence = (f"parameter '{field.name}' must be of type {expected.name.lower()}, "
                f'but {override.value!r} is of type {override.type_.name.lower()}')
    if (expected, override.type_) == (Parameter.Type.DOUBLE, Parameter.Type.INTEGER):
        sentence += f'; write {override.value}.0'
    elif expected == Parameter.Type.STRING:
        sentence += '; put the value in quotes'
    raise ConfigurationError(sentence)


def _check_value(field, value):
    choices, minimum = field.metadata['choices'], field.metadata['minimum']
    if choices and value not in choices:
        raise ConfigurationError(f"parameter '{field.name}' is {value!r}, "
                                 f'but must be one of: {_range_text(field)}')
    # The comparison is written so that NaN fails it.
    if minimum is not None and not minimum <= value <= field.metadata['maximum']:
        unit = field.metadata['unit'] and ' ' + field.metadata['unit']
        raise ConfigurationError(f"parameter '{field.name}' is {value}, "
                                 f'but must be {_range_text(field)}{unit}')


def _unknown_name(name, fields):
    nearest = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"known are: {', '.join(fields)}"
    return f"there is no parameter '{name}'; {hint}"
