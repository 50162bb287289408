# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Run the part of a network that is not trained once, over every training view."""

import numpy as np
import torch

from geo_perception.inference.engine import Engine
from geo_perception.progress import track
from geo_perception.training.augmentation import augment, Augmentation
from geo_perception.training.scratch import scratch_array

BATCH = 16


class _Frozen(torch.nn.Module):
    """From float crops to the output of the layers that are not trained."""

    def __init__(self, network, preprocessing):
        super().__init__()
        self.network, self._preprocessing = network, preprocessing

    def forward(self, crops):
        """Return frozen features of crops, shape (B, h, w, 3)."""
        return self.network.frozen(self._preprocessing.normalise(crops))


class FrozenFeatures:
    """
    The frozen layers of a network in the inference engine.

    Parameters
    ----------
    model : RelocalizationModule
        Network, preprocessing, augmentation and seed.

    """

    def __init__(self, model):
        self._crop, self._augmentation = model.preprocessing.crop, model.augmentation
        self._seed = model.seed
        self._example = np.random.default_rng(0).uniform(
            0, 255, (BATCH, *self._crop, 3)).astype(np.float32)
        self._engine = Engine(_Frozen(model.network, model.preprocessing), self._example,
                              precision='fp32')

    def __call__(self, images, poses, K, views):
        """
        Return features of augmented views of images.

        The first view is the image itself, so that what was recorded is always learned.

        Parameters
        ----------
        images : np.ndarray
            Resized images, uint8, shape (N, H, W, 3).
        poses : np.ndarray
            Their ``T_world_camera``, shape (N, 4, 4).
        K : torch.Tensor or None
            Intrinsics of the resized images.
        views : int
            Views of each image.

        Returns
        -------
        features : np.ndarray
            float16, memory-mapped, shape (views N, ...).
        poses : np.ndarray
            ``T_world_camera`` of the views, shape (views N, 4, 4).

        """
        n = len(images)
        views = max(views, 1)
        generator = torch.Generator().manual_seed(self._seed)
        poses, features = np.tile(poses, (views, 1, 1)), None
        starts = [(view, start) for view in range(views) for start in range(0, n, BATCH)]
        for view, start in track(starts, 'Running the frozen layers'):
            stop = min(start + BATCH, n)
            rows = slice(view * n + start, view * n + stop)
            crops, R, _ = augment(
                torch.from_numpy(np.array(images[start:stop])),
                torch.from_numpy(poses[rows, :3, :3]).float(), K, self._crop,
                self._augmentation if view else Augmentation(random_crop=False), generator)
            batch = np.zeros_like(self._example)
            batch[:stop - start] = crops.numpy()
            result = self._engine(batch)[:stop - start].half().numpy()
            if features is None:
                features = scratch_array(np.float16, (views * n, *result.shape[1:]))
            features[rows] = result
            if view:
                poses[rows, :3, :3] = R.numpy()
        return features, poses
