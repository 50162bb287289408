# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The depth networks by name."""

from typing import Dict, Type

from torch import nn

from geo_perception.errors import ConfigurationError
from geo_perception.networks.dispnet import DispNetVGG
from geo_perception.networks.dispnet_lite import DispNetLite
from geo_perception.networks.dispnet_resnet import DispNetResNet50

DEPTH_NETWORKS: Dict[str, Type[nn.Module]] = {
    'dispnet_vgg': DispNetVGG, 'dispnet_resnet50': DispNetResNet50, 'dispnet_lite': DispNetLite}


def build_depth_network(name, arguments):
    """
    Return a depth network by name, freshly initialised.

    Parameters
    ----------
    name : str
        ``dispnet_vgg``, ``dispnet_resnet50`` or ``dispnet_lite``.
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
    if name not in DEPTH_NETWORKS:
        raise ConfigurationError(f'depth network "{name}" is unknown; choose one of '
                                 f'{", ".join(DEPTH_NETWORKS)}')
    try:
        return DEPTH_NETWORKS[name](**arguments)
    except TypeError as error:
        raise ConfigurationError(
            f'depth network "{name}" does not take these arguments: {error}') from error
