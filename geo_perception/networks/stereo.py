# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The networks that learn depth from stereo pairs, by name."""

from functools import partial
from typing import Dict, Type

from torch import nn

from geo_perception.networks.monodepth import MonodepthResNet50, MonodepthVGG
from geo_perception.networks.monodepth_lite import MonodepthLite
from geo_perception.networks.registry import build_by_name

STEREO_NETWORKS: Dict[str, Type[nn.Module]] = {
    'monodepth_vgg': MonodepthVGG, 'monodepth_resnet50': MonodepthResNet50,
    'monodepth_lite': MonodepthLite}

build_stereo_network = partial(build_by_name, 'stereo-trained network', STEREO_NETWORKS)
