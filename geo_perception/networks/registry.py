# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Networks by the names that configurations and model files give them.

``build_depth_network``, ``build_stereo_network``, ``build_flow_network`` and ``build_regressor``
are `build_by_name` for the names that they know.
"""

from geo_perception.errors import ConfigurationError


def build_by_name(kind, known, name, arguments):
    """
    Return a network by name, freshly initialised.

    Parameters
    ----------
    kind : str
        What the names stand for, for messages.
    known : dict of str to type
        Class by name.
    name : str
        Which.
    arguments : dict
        Its arguments.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ConfigurationError
        When the name or an argument is unknown.

    """
    if name not in known:
        raise ConfigurationError(f'{kind} "{name}" is unknown; choose one of {", ".join(known)}')
    try:
        return known[name](**arguments)
    except TypeError as error:
        raise ConfigurationError(
            f'{kind} "{name}" does not take these arguments: {error}') from error
