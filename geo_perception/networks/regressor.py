# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What every absolute pose regressor has in common."""

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
    input_size : tuple of int or None
        (height, width) the architecture is fixed to, None where it is free.
    head_weights : tuple of float
        Weight of each head's loss, the main head last.
    training_only : tuple of str
        Prefixes of parameters that inference does not need.
    has_frozen_part : bool
        Whether `frozen` is a pretrained trunk whose output is worth keeping.

    """

    input_size = None
    head_weights = (1.0,)
    training_only = ()
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

    def regressors(self):
        """
        Return the linear output layers of every head.

        Returns
        -------
        list of (torch.nn.Linear, torch.nn.Linear)
            Position and rotation layer of every head, the main head last.

        """
        raise NotImplementedError

    def forward(self, images):
        """Return position and rotation of the main head, dropout off."""
        return self.regress(self.features(images))

    @torch.no_grad()
    def initialise_outputs(self, mean_position, extent, mean_rotation):
        """
        Start the output layers at the mean training pose (posenet.md section 2.7).

        Parameters
        ----------
        mean_position : torch.Tensor
            Metres, shape (3,).
        extent : torch.Tensor
            Size of the scene along each axis, metres, shape (3,): position rows are drawn in
            proportion to it.
        mean_rotation : torch.Tensor
            Mean rotation target in the parametrisation of the model, shape (k,).

        """
        for position, rotation in self.regressors():
            scale = position.weight.std() * extent / extent.max()
            position.weight.copy_(torch.randn_like(position.weight) * scale[:, None])
            position.bias.copy_(mean_position)
            rotation.bias.copy_(mean_rotation)
