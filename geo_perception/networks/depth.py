# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The depth networks by name."""

from functools import partial
from typing import Dict, Type

from torch import nn

from geo_perception.networks.dispnet import DispNetVGG
from geo_perception.networks.dispnet_lite import DispNetLite
from geo_perception.networks.dispnet_resnet import DispNetResNet50
from geo_perception.networks.registry import build_by_name

DEPTH_NETWORKS: Dict[str, Type[nn.Module]] = {
    'dispnet_vgg': DispNetVGG, 'dispnet_resnet50': DispNetResNet50, 'dispnet_lite': DispNetLite}

build_depth_network = partial(build_by_name, 'depth network', DEPTH_NETWORKS)
