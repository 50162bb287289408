# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The flow networks by name."""

from typing import Dict, Type

from torch import nn

from geo_perception.networks.registry import build_by_name
from geo_perception.networks.resflownet import ResFlowNet
from geo_perception.networks.resflownet_lite import ResFlowNetLite

FLOW_NETWORKS: Dict[str, Type[nn.Module]] = {
    'resflownet': ResFlowNet, 'resflownet_lite': ResFlowNetLite}


def build_flow_network(name, arguments):
    """
    Return a flow network by name, freshly initialised.

    Parameters
    ----------
    name : str
        ``resflownet`` or ``resflownet_lite``.
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
    return build_by_name('flow network', FLOW_NETWORKS, name, arguments)
