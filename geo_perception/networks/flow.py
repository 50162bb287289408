# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The flow networks by name."""

from functools import partial
from typing import Dict, Type

from torch import nn

from geo_perception.networks.registry import build_by_name
from geo_perception.networks.resflownet import ResFlowNet
from geo_perception.networks.resflownet_lite import ResFlowNetLite

FLOW_NETWORKS: Dict[str, Type[nn.Module]] = {
    'resflownet': ResFlowNet, 'resflownet_lite': ResFlowNetLite}

build_flow_network = partial(build_by_name, 'flow network', FLOW_NETWORKS)
