# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What every absolute pose regressor has in common."""

from typing import Optional, Tuple

import torch
from torch import nn


class PoseLayer(nn.Linear):
    """A linear output in 32 bits even in mixed precision: 16 bits are centimetres at 3 m."""

    def forward(self, x):
        """Return the output, float32."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class PoseRegressor(nn.Module):
    """
    A trunk that runs once an image, and a stochastic tail that runs many times.

    ``regress(features(images))`` is the deterministic answer; with ``samples`` it is a
    Monte-Carlo dropout estimate that costs one trunk pass (posenet.md section 8.1).

    Attributes
    ----------
    rotation_width : int
        Numbers that describe a rotation, see `geo_perception.networks.rotation`.
    input_size : tuple of int or None
        (height, width) the architecture is fixed to, None where it is free.
    head_weights : tuple of float
        Weight of each head's loss, the main head last.
    training_only : tuple of str
        Prefixes of parameters that inference does not need.
    has_frozen_part : bool
        Whether `frozen` is a pretrained trunk whose output is worth keeping.

    """

    input_size: Optional[Tuple[int, int]] = None
    head_weights: Tuple[float, ...] = (1.0,)
    training_only: Tuple[str, ...] = ()
    has_frozen_part = False

    def load_pretrained(self):
        """Take pretrained weights, where the architecture has any."""

    def frozen(self, images):
        """
        Return the output of the layers that are not trained: without any, the images.

        Parameters
        ----------
        images : torch.Tensor
            Normalised images, shape (B, 3, H, W).

        Returns
        -------
        torch.Tensor
            Shape (B, ...).

        """
        return images

    def upper(self, frozen):
        """
        Return what comes between `frozen` and the first dropout layer.

        Parameters
        ----------
        frozen : torch.Tensor
            From `frozen`.

        Returns
        -------
        torch.Tensor
            Shape (B, ...).

        """
        raise NotImplementedError

    def features(self, images):
        """
        Return what comes before the first dropout layer.

        Parameters
        ----------
        images : torch.Tensor
            Normalised images, shape (B, 3, H, W).

        Returns
        -------
        torch.Tensor
            Shape (B, ...).

        """
        return self.upper(self.frozen(images))

    def regress(self, features, masks=None):
        """
        Return position and rotation for features.

        Parameters
        ----------
        features : torch.Tensor
            From `features`, shape (B, ...); B must be 1 when sampling.
        masks : list of torch.Tensor, optional
            From `draw_masks`; without them dropout is off.

        Returns
        -------
        position : torch.Tensor
            Metres, shape (B, 3), or (samples, 3).
        rotation : torch.Tensor
            In the parametrisation of the model, shape (B, k), or (samples, k).

        """
        raise NotImplementedError

    def sampler(self, masks):
        """
        Return `regress` with one set of masks, made ready for many calls.

        Parameters
        ----------
        masks : list of torch.Tensor
            From `draw_masks`.

        Returns
        -------
        callable
            From features, shape (1, ...), to position and rotation of the samples. It keeps the
            weights of the time it was made.

        """
        return lambda features: self.regress(features, masks)

    def draw_masks(self, samples, generator=None):
        """
        Return dropout masks for `regress`.

        Parameters
        ----------
        samples : int
            Number of Monte-Carlo samples.
        generator : torch.Generator, optional
            Source of chance; the same state gives the same masks.

        Returns
        -------
        list of torch.Tensor
            One tensor a dropout layer, shape (samples, ...), 0 or 1 / keep probability.

        """
        masks = []
        for shape, probability in self.dropout_layers():
            keep = torch.rand((samples, *shape), generator=generator) >= probability
            masks.append(keep / (1.0 - probability))
        return masks

    def dropout_layers(self):
        """
        Return the dropout layers behind `features`, in order.

        Returns
        -------
        list of (tuple of int, float)
            Shape that each acts on, without the batch, and its drop probability.

        """
        raise NotImplementedError

    def heads(self, frozen):
        """
        Return what the training loss sees.

        Parameters
        ----------
        frozen : torch.Tensor
            From `frozen`.

        Returns
        -------
        list of (torch.Tensor, torch.Tensor)
            Position (B, 3) and rotation (B, k) of every head, the main head last.

        """
        raise NotImplementedError

    def forward(self, images):
        """Return position and rotation of the main head, dropout off."""
        return self.regress(self.features(images))

    def fit_to_scene(self, mean_position, extent, mean_rotation, K):
        """
        Start from what is known of the scene before training.

        Parameters
        ----------
        mean_position : torch.Tensor
            Mean training position, metres, shape (3,).
        extent : torch.Tensor
            Size of the scene along each axis, metres, shape (3,).
        mean_rotation : torch.Tensor
            Mean rotation target in the parametrisation of the model, shape (k,).
        K : torch.Tensor or None
            Intrinsics of the network's input, shape (3, 3).

        """
        raise NotImplementedError
