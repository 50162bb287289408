# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A small geometry model that was never trained, as a model file."""

from functools import lru_cache

import torch

from geo_perception.inference.motion_score import MotionScore
from geo_perception.model_file import Metadata, save_model_file, TrainingCamera
from geo_perception.networks.dispnet import DispNetVGG
from geo_perception.networks.egomotion import EgoMotionNet
from geo_perception.networks.flow import build_flow_network
from geo_perception.preprocessing import Preprocessing

# Fits the pictures of `small_world`, 96x64 pixels with a focal length of 80.
ARGUMENTS = {'depth': {'width': 0.12},
             'egomotion': {'sources': 2, 'width': 0.1}, 'normalise_disparity': False}
PREPROCESSING = Preprocessing(64, (64, 96), mean=(127.5,) * 3, std=(127.5,) * 3)
CALIBRATION = {'metres_per_unit': 2.0, 'metres_per_unit_spread': 0.1}


@lru_cache
def tensors(sources=2):
    """Return the weights."""
    torch.manual_seed(0)
    networks = {'depth': DispNetVGG(**ARGUMENTS['depth']),
                'egomotion': EgoMotionNet(sources=sources, width=0.1)}
    return {f'network.{name}.{weight}': value.float().numpy()
            for name, network in networks.items()
            for weight, value in network.state_dict().items()}


def metadata(**changes):
    """Return the header."""
    entries = {
        'job': 'geometry', 'architecture': 'dispnet_vgg', 'arguments': ARGUMENTS,
        'preprocessing': PREPROCESSING, 'rotation': 'euler_xyz', 'world_frame': 'odom',
        'training_camera': TrainingCamera(96, 64, 80.0, 80.0, 47.5, 31.5),
        'calibration': CALIBRATION,
        'data': {'train': 'made up', 'length': 3, 'step': 1, 'interval': 0.1}}
    return Metadata(**{**entries, **changes})


def write_geometry_model(path, changed_tensors=None, **changes):
    """Write the model file, with parts of it changed; tensors that are None are left out."""
    arguments = changes.get('arguments', ARGUMENTS)
    sources = arguments.get('egomotion', {}).get('sources', 2)
    kept = {**tensors(sources), **(changed_tensors or {})}
    save_model_file(path, metadata(**changes),
                    {name: value for name, value in kept.items() if value is not None})
    return path


def write_flow_model(path, variant='residual', zero_heads=True, calibration=None, seed=0,
                     **score):
    """Write a small model with a flow network that was never trained."""
    torch.manual_seed(seed)
    arguments = {'variant': variant, 'width': 0.3, 'zero_heads': zero_heads}
    network = build_flow_network('resflownet_lite', arguments)
    return write_geometry_model(
        path, {f'network.flow.{name}': value.numpy()
               for name, value in network.state_dict().items()},
        arguments={**ARGUMENTS, 'flow_name': 'resflownet_lite', 'flow': arguments,
                   'flow_border': 'inclusive'},
        calibration={**(calibration or CALIBRATION), **MotionScore(**score).entries()})
