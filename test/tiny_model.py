# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A small relocalization model that was never trained, as a model file."""

from functools import lru_cache

import cv2
from made_weights import published_state
import numpy as np
import torch
from torch import nn

from geo_perception.geometry.se3 import make_transform, matrix_from_rotation_vector
from geo_perception.inference.retrieval import thumbnail
from geo_perception.model_file import Metadata, save_model_file, TrainingCamera
from geo_perception.networks.posenet_lite import PoseNetLite
from geo_perception.preprocessing import Preprocessing

# A level camera that looks along x: the first two columns of its rotation.
LEVEL = torch.tensor([0.0, -1, 0, 0, 0, -1])
ARGUMENTS = {'input_size': [64, 96], 'rotation_width': 6, 'width': 16, 'dropout': 0.3}
PREPROCESSING = Preprocessing(short_side=64, crop=(64, 96), std=(128.0, 128.0, 128.0))
CALIBRATION = {'scale_position': 2.0, 'scale_rotation': 1.5, 'floor_position': 0.05,
               'floor_rotation': 0.02, 'usual_spread': 1e3, 'usual_similarity': 0.5}


@lru_cache
def images():
    """Return six smooth pictures, (6, 120, 180, 3) uint8."""
    random = np.random.default_rng(0)
    return np.stack([cv2.resize(random.integers(40, 220, (8, 12, 3), np.uint8), (180, 120),
                                interpolation=cv2.INTER_CUBIC) for _ in range(6)])


@lru_cache
def network():
    """Return the network."""
    torch.manual_seed(0)
    network = PoseNetLite(**ARGUMENTS).eval()
    network.trunk.load_pretrained(published_state())
    network.fit_to_scene(torch.tensor([1.0, 2.0, 1.5]), torch.tensor([3.0, 2.0, 1.0]),
                         LEVEL, None)
    nn.init.normal_(network.surface.weight, std=0.3)
    return network


def metadata(**changes):
    """Return the header."""
    entries = {
        'job': 'relocalization', 'architecture': 'posenet_lite', 'arguments': ARGUMENTS,
        'preprocessing': PREPROCESSING, 'rotation': 'matrix', 'world_frame': 'office',
        'training_camera': TrainingCamera(180, 120, 150.0, 150.0, 89.5, 59.5),
        'calibration': CALIBRATION, 'data': {'train': 'made up'}, 'metrics': {}, 'versions': {}}
    return Metadata(**{**entries, **changes})


def tensors():
    """Return the weights and the retrieval baseline."""
    poses = make_transform(matrix_from_rotation_vector(np.full((6, 3), 0.1)), np.ones((6, 3)))
    poses[:, 0, 3] = np.arange(6)
    return {**{f'network.{name}': value.numpy() for name, value in network().state_dict().items()},
            'retrieval.thumbnails': np.stack([thumbnail(i) for i in images()]).astype(np.float16),
            'retrieval.poses': poses}


def write_model(path, changed_tensors=None, **changes):
    """Write the model file, with parts of it changed; tensors that are None are left out."""
    kept = {**tensors(), **(changed_tensors or {})}
    save_model_file(path, metadata(**changes),
                    {name: value for name, value in kept.items() if value is not None})
    return path
