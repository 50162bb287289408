# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Flow is right when it turns one frame into its neighbour, and back (geonet.md section 2.3).

GeoNet's second stage: only pixels whose flow forward and backward agree are asked to look alike.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from geo_perception.errors import ConfigurationError
from geo_perception.geometry.flow_consistency import (
    consistent, LARGEST_PART, LARGEST_PIXELS, round_trip)
from geo_perception.geometry.sampling import area_pyramid, flow_warp
from geo_perception.losses.photometric import image_distance, masked_mean, windows
from geo_perception.losses.smoothness import edge_aware


@dataclass(frozen=True)
class FlowOptions:
    """
    What is asked of flow.

    Attributes
    ----------
    photometric_weight : float
        Of the distance of warped images.
    smoothness_weight : float
        At the finest scale; half of it at the next, and so on.
    smooth : str
        ``full`` flow as published, or its ``residual``: rigid flow has edges of its own, where
        depth has them.
    consistency_weight : float
        Of what the way there and back misses. With 0 nothing is left out for being inconsistent,
        as published.
    residual_weight : float
        Of the length of the residual in parts of the width of the image, which keeps quiet what
        images say nothing about; 0 as published.
    largest_pixels, largest_part : float
        What counts as consistent, see `geo_perception.geometry.flow_consistency.consistent`.
    border : str
        ``published`` counts what lies outside an image as mid-grey, and as consistent where flow
        is short; ``inclusive`` leaves it out. The network is shown images warped in this way.
    rigid : str
        Rigid flow at coarse scales: of the disparity of ``each_scale``, as published, or the mean
        of that at the ``finest`` one, where the coarse disparities were not trained.
    unit_range : bool
        Compare images in [0, 1] and reflect them at the border; otherwise in [-1, 1].
    scales : int
        How many of the four scales count, the finest first.

    """

    photometric_weight: float = 1.0
    smoothness_weight: float = 0.2
    smooth: Literal['full', 'residual'] = 'full'
    consistency_weight: float = 0.2
    residual_weight: float = 0.0
    largest_pixels: float = LARGEST_PIXELS
    largest_part: float = LARGEST_PART
    border: Literal['inclusive', 'published'] = 'inclusive'
    rigid: Literal['finest', 'each_scale'] = 'finest'
    unit_range: bool = False
    scales: int = 4

    def __post_init__(self):
        """Refuse what would fail or mean nothing later."""
        if not 1 <= self.scales <= 4:
            raise ConfigurationError(f'model.flow_loss.scales is {self.scales}; of the four '
                                     'scales 1 to 4 can count')
        if self.largest_pixels <= 0 or self.largest_part < 0:
            raise ConfigurationError(
                f'model.flow_loss.largest_pixels is {self.largest_pixels} and largest_part '
                f'{self.largest_part}; nothing would count as consistent')


GEONET_FLOW = FlowOptions(border='published', rigid='each_scale')


class FlowLoss:
    """
    The loss of a batch of snippets.

    Parameters
    ----------
    options : FlowOptions
        Which loss.

    """

    def __init__(self, options):
        self.options = options

    def __call__(self, target, sources, flows, residuals=None):
        """
        Return the loss and its parts.

        Parameters
        ----------
        target : torch.Tensor
            In [-1, 1], shape (B, 3, H, W).
        sources : torch.Tensor
            Shape (B, n, 3, H, W).
        flows : list of torch.Tensor
            First from target to sources, then from sources to target, pixels of each scale,
            shapes (2, B, n, 2, H / 2^s, W / 2^s), the finest first.
        residuals : list of torch.Tensor, optional
            What rigid flow lacks of ``flows``, same shapes, where the options ask for it.

        Returns
        -------
        dict of str to torch.Tensor
            ``total`` and, weighted, what it is the sum of: ``photometric``, ``smoothness``,
            ``consistency``, ``residual``, as far as there are any; ``consistent``: the share of
            pixels of the finest scale that counted, not weighted and not part of the sum.

        """
        options, n = self.options, sources.shape[1]
        levels = min(options.scales, len(flows))
        if options.unit_range:
            target, sources = 0.5 * target + 0.5, 0.5 * sources + 0.5
        targets = area_pyramid(target, levels)
        neighbours = [level.unflatten(0, (-1, n))
                      for level in area_pyramid(sources.flatten(0, 1), levels)]
        terms = {'photometric': 0.0, 'smoothness': 0.0}
        if options.consistency_weight:
            terms['consistency'] = 0.0
        share = None
        for level in range(levels):
            own = targets[level][:, None].expand_as(neighbours[level])
            # Both directions in one batch; what all sources share is worked out once.
            images = torch.stack([own, neighbours[level]])
            others = torch.stack([neighbours[level], own])
            flow = flows[level]
            valid, miss = self._check(flow, level)
            cost = self._distance(images, others, flow)
            pixels = 0.5 * n * sum(map(masked_mean, cost, valid))
            terms['photometric'] += options.photometric_weight * pixels
            if miss is not None:
                missed = 0.5 * sum(map(masked_mean, miss, valid))
                terms['consistency'] += options.consistency_weight * missed
            smooth = residuals[level] if options.smooth == 'residual' else flow
            # The mean over both directions is half their sum.
            rough = edge_aware(smooth.flatten(0, 2), images.flatten(0, 2))
            terms['smoothness'] += options.smoothness_weight / 2 ** level * rough
            if share is None:
                share = valid.float().mean()
        if options.residual_weight:
            length = residuals[0].abs().sum(3).mean() / residuals[0].shape[-1]
            terms['residual'] = options.residual_weight * length
        terms['total'] = sum(terms.values())
        return {**terms, 'consistent': share}

    def _check(self, flow, level):
        """Return which pixels count, and what their round trips miss or None."""
        options, shape = self.options, flow.shape[:3]
        there, back = flow.flatten(0, 2), flow.flip(0).flatten(0, 2)
        miss, inside = round_trip(there, back, options.border)
        valid = inside if options.border == 'inclusive' else torch.ones_like(inside)
        if not options.consistency_weight:
            return valid.unflatten(0, shape), None
        valid = valid & consistent(there, miss, level, options.largest_pixels,
                                   options.largest_part)
        miss = miss.abs().mean(1, keepdim=True)
        return valid.unflatten(0, shape), miss.unflatten(0, shape)

    def _distance(self, images, others, flow):
        """Return how different images are from the others seen through flow, (2, B, n, 1, ...)."""
        warped, _ = flow_warp(others.flatten(0, 2), flow.flatten(0, 2), self.options.border)
        distance = image_distance(warped, windows(images.flatten(0, 2), self.options.unit_range))
        return distance.mean(1, keepdim=True).unflatten(0, flow.shape[:3])
