# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Model files with random weights: as fast as trained ones, and made in a second."""

import numpy as np
import torch

from geo_perception.model_file import Metadata, save_model_file
from geo_perception.networks.relocalization import build_regressor
from geo_perception.preprocessing import Preprocessing

# As many thumbnails as a model file keeps at most.
_RETRIEVAL_FRAMES = 2000


def write_untrained_model(path, architecture, crop=None):
    """
    Write a model file with random weights.

    Parameters
    ----------
    path : str or pathlib.Path
        Destination.
    architecture : str
        ``posenet`` (224x224) or ``posenet_lite``.
    crop : tuple of int, optional
        Input size (height, width) of ``posenet_lite``; 224x288 by default.

    """
    if architecture == 'posenet':
        rotation, preprocessing = 'quaternion', Preprocessing()
        arguments = {'rotation_width': 4}
    else:
        crop = crop or (224, 288)
        rotation = 'matrix'
        preprocessing = Preprocessing(short_side=crop[0], crop=crop, std=(128.0,) * 3)
        arguments = {'rotation_width': 6, 'input_size': list(crop)}
    torch.manual_seed(0)
    network = build_regressor(architecture, arguments)
    mean_rotation = torch.tensor([1.0, 0, 0, 0, 1, 0][:arguments['rotation_width']])
    network.fit_to_scene(torch.zeros(3), torch.ones(3), mean_rotation, None)
    tensors = {f'network.{name}': value.numpy() for name, value in network.state_dict().items()}
    random = np.random.default_rng(0)
    thumbnails = random.standard_normal((_RETRIEVAL_FRAMES, 24, 32))
    thumbnails /= np.linalg.norm(thumbnails, axis=(1, 2), keepdims=True)
    tensors['retrieval.thumbnails'] = thumbnails.astype(np.float16)
    tensors['retrieval.poses'] = np.tile(np.eye(4), (_RETRIEVAL_FRAMES, 1, 1))
    save_model_file(path, Metadata('relocalization', architecture, arguments, preprocessing,
                                   rotation, 'map'), tensors)


def camera_image():
    """
    Return an image as a camera gives it.

    Returns
    -------
    np.ndarray
        (480, 640, 3) uint8 RGB.

    """
    return np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
