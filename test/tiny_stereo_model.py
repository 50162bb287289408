# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A model for depth from stereo pairs that has learned nothing, of the rig of stereo_world."""

from dataclasses import replace

import numpy as np
import torch

from geo_perception.model_file import Metadata, TrainingCamera
from geo_perception.networks.stereo import build_stereo_network
from geo_perception.preprocessing import Preprocessing

ARGUMENTS = {'width': 0.05}
PREPROCESSING = Preprocessing(64, (64, 128), mean=(0.0,) * 3, std=(255.0,) * 3, stretch=True)
REACH = 88 / 128 * 0.12


def metadata(**others):
    """Return the header of a model of the sample world's rig."""
    header = Metadata(
        job='stereo_depth', architecture='monodepth_resnet50', arguments={'network': ARGUMENTS},
        preprocessing=PREPROCESSING, rotation='', world_frame='',
        training_camera=TrainingCamera(128, 96, 88.0, 88.0, 63.9, 47.6),
        calibration={'reach': REACH}, data={'train': ['elsewhere']})
    return replace(header, **others)


def weights(constant=None):
    """Return random weights; or such that disparity is the same everywhere."""
    torch.manual_seed(0)
    network = build_stereo_network('monodepth_resnet50', ARGUMENTS)
    if constant is not None:
        head = network.predict[-1]
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.constant_(head.bias, float(np.log(constant / (0.3 - constant))))
    else:
        torch.nn.init.normal_(network.predict[-1].weight, std=30.0)
    return {f'network.{name}': value.numpy() for name, value in network.state_dict().items()}
