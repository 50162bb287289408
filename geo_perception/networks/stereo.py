# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The networks that learn depth from stereo pairs, by name."""

from typing import Dict, Type

from torch import nn

from geo_perception.networks.monodepth import MonodepthResNet50, MonodepthVGG
from geo_perception.networks.monodepth_lite import MonodepthLite
from geo_perception.networks.registry import build_by_name

STEREO_NETWORKS: Dict[str, Type[nn.Module]] = {
    'monodepth_vgg': MonodepthVGG, 'monodepth_resnet50': MonodepthResNet50,
    'monodepth_lite': MonodepthLite}


def build_stereo_network(name, arguments):
    """
    Return a network by name, freshly initialised.

    Parameters
    ----------
    name : str
        ``monodepth_vgg``, ``monodepth_resnet50`` or ``monodepth_lite``.
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
    return build_by_name('stereo-trained network', STEREO_NETWORKS, name, arguments)
