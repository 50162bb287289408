# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Depth and ego-motion are right when they turn one frame of a video into its neighbour.

One loss with the choices that SfMLearner (sfmlearner.md section 2), GeoNet's first stage
(geonet.md section 2.2) and their successors (sfmlearner.md section 8) made.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError
from geo_perception.geometry.projection import (
    invert_rigid, pose_vector_to_matrix, project_pixels, pyramid_intrinsics, SMALLEST_Z)
from geo_perception.geometry.sampling import area_pyramid, sample
from geo_perception.losses.photometric import image_distance
from geo_perception.losses.smoothness import edge_aware, mean_normalised, second_order

# Breaks ties between warped and unwarped images that are equally good.
AUTO_MASK_NOISE = 1e-5
# Mean inverse depth where the scale is held: far from both ends of the range of the networks.
SCALE_ANCHOR = 0.5


@dataclass(frozen=True)
class ViewSynthesisOptions:
    """
    What makes two images alike, and what else is asked of depth.

    Attributes
    ----------
    photometric : str
        ``l1`` (SfMLearner) or ``ssim``, with 15 % L1 (GeoNet).
    smoothness : str
        ``second_order`` (SfMLearner) or ``edge_aware`` (GeoNet).
    smoothness_weight : float
        At the finest scale; half of it at the next, and so on.
    explainability_weight : float
        Of the cross-entropy that keeps masks from excusing everything; 0.2 in the paper.
    both_directions : bool
        Whether sources are also made from the target, with a depth of their own (GeoNet).
    normalise_disparity : bool
        Divide each disparity by its mean before anything else (GeoNet's ``scale_normalize``).
    normalise_smoothness : bool
        Divide it for the smoothness only.
    border : str
        ``published`` counts what lies outside an image as mid-grey; ``inclusive`` leaves it out.
    exact_pyramid_intrinsics : bool
        See `geo_perception.geometry.projection.pyramid_intrinsics`.
    unit_range : bool
        Compare images in [0, 1] and reflect them at the border; otherwise in [-1, 1].
    minimum_reprojection : bool
        Of several sources each pixel believes the one that explains it best.
    auto_mask : bool
        Leave out what the unwarped source explains better: it moves with the camera.
    full_resolution : bool
        Compare at the size of the input whatever the scale of the disparity, and average over
        the scales instead of summing them up.
    scales : int
        How many of the four disparities count, the finest first.
    depth_consistency_weight : float
        Of the difference between the depths of two frames, which gives all snippets one scale;
        needs ``both_directions``.
    scale_anchor_weight : float
        Of the squared logarithm of the mean disparity of a batch, in units of `SCALE_ANCHOR`.
        Images do not say the scale, so without it depth may wander to the end of its range.

    """

    photometric: Literal['l1', 'ssim'] = 'ssim'
    smoothness: Literal['second_order', 'edge_aware'] = 'edge_aware'
    smoothness_weight: float = 0.5
    explainability_weight: float = 0.0
    both_directions: bool = False
    normalise_disparity: bool = False
    normalise_smoothness: bool = False
    border: Literal['inclusive', 'published'] = 'inclusive'
    exact_pyramid_intrinsics: bool = True
    unit_range: bool = False
    minimum_reprojection: bool = False
    auto_mask: bool = False
    full_resolution: bool = False
    scales: int = 4
    depth_consistency_weight: float = 0.0
    scale_anchor_weight: float = 0.0

    def __post_init__(self):
        """Refuse what would fail or mean nothing later."""
        if not 1 <= self.scales <= 4:
            raise ConfigurationError(f'model.loss.scales is {self.scales}; of the four scales 1 '
                                     'to 4 can count')


SFMLEARNER = ViewSynthesisOptions(
    photometric='l1', smoothness='second_order', border='published',
    exact_pyramid_intrinsics=False)
GEONET_RIGID = ViewSynthesisOptions(
    both_directions=True, border='published', exact_pyramid_intrinsics=False)


class ViewSynthesisLoss:
    """
    The loss of a batch of snippets.

    Parameters
    ----------
    options : ViewSynthesisOptions
        Which loss.

    """

    def __init__(self, options):
        self.options = options

    def __call__(self, target, sources, K, disparities, poses, masks=None,
                 source_disparities=None):
        """
        Return the loss and its parts.

        Parameters
        ----------
        target : torch.Tensor
            In [-1, 1], shape (B, 3, H, W).
        sources : torch.Tensor
            Shape (B, n, 3, H, W).
        K : torch.Tensor
            Intrinsics of all, shape (B, 3, 3).
        disparities : list of torch.Tensor
            Of the target, shapes (B, 1, H / 2^s, W / 2^s), the finest first.
        poses : torch.Tensor
            Vectors of ``T_source_target``, shape (B, n, 6).
        masks : list of torch.Tensor, optional
            From `geo_perception.networks.egomotion.EgoMotionNet`.
        source_disparities : list of torch.Tensor, optional
            Of the sources, shapes (B, n, 1, H / 2^s, W / 2^s); needed for both directions.

        Returns
        -------
        dict of str to torch.Tensor
            ``total`` and, weighted, what it is the sum of: ``photometric``, ``smoothness``,
            ``explainability``, ``depth_consistency``, ``scale_anchor``, as far as there are any.

        """
        options = self.options
        levels, n = min(options.scales, len(disparities)), sources.shape[1]
        if options.unit_range:
            target, sources = 0.5 * target + 0.5, 0.5 * sources + 0.5
        # Geometry in the precision of K, 32 bits, also in mixed precision: far surfaces are tiny
        # disparities.
        T = pose_vector_to_matrix(poses.to(K)).flatten(0, 1)
        targets = area_pyramid(target, levels)
        neighbours = [level.unflatten(0, (-1, n))
                      for level in area_pyramid(sources.flatten(0, 1), levels)]
        intrinsics = pyramid_intrinsics(K, levels, options.exact_pyramid_intrinsics)
        terms = {}

        def add(name, value):
            terms[name] = terms.get(name, 0.0) + value

        share = 1.0 / levels if options.full_resolution else 1.0
        for level in range(levels):
            own = disparities[level]
            theirs = (source_disparities[level].flatten(0, 1)
                      if options.both_directions else None)
            if options.normalise_disparity:
                own = mean_normalised(own)
                theirs = None if theirs is None else mean_normalised(theirs)
            smooth = self._smoothness(own, targets[level], theirs, neighbours[level])
            add('smoothness', options.smoothness_weight / 2 ** level * smooth * share)
            at = 0 if options.full_resolution else level
            photometric, consistency = self._photometric(
                targets[at], neighbours[at], intrinsics[at], own, theirs, T,
                None if masks is None else masks[level])
            add('photometric', share * photometric)
            if consistency is not None:
                add('depth_consistency',
                    options.depth_consistency_weight * share * consistency)
            if masks is not None:
                logits = masks[level].flatten(0, 1)
                explained = torch.ones_like(logits[:, 0], dtype=torch.long)
                add('explainability', options.explainability_weight * n
                    * F.cross_entropy(logits, explained))
        if options.scale_anchor_weight:
            away = (disparities[0].to(K).mean() / SCALE_ANCHOR).log()
            add('scale_anchor', options.scale_anchor_weight * away.square())
        terms['total'] = sum(terms.values())
        return terms

    def _smoothness(self, own, target, theirs, neighbours):
        """Return the roughness of the disparities at one scale."""
        values, images = own, target
        if theirs is not None:
            values, images = torch.cat([own, theirs]), torch.cat([target,
                                                                  neighbours.flatten(0, 1)])
        if self.options.normalise_smoothness:
            values = mean_normalised(values)
        if self.options.smoothness == 'second_order':
            return second_order(values)
        return edge_aware(values, images)

    def _photometric(self, target, neighbours, K, own, theirs, T, mask):
        """Return what view synthesis costs at one scale, and what inconsistent depth costs."""
        options, n = self.options, neighbours.shape[1]
        size = target.shape[2:]
        depth = self._depth(own.to(K), size).repeat_interleave(n, 0)
        target, source = target.repeat_interleave(n, 0), neighbours.flatten(0, 1)
        K = K.repeat_interleave(n, 0)
        if theirs is None:
            cost, valid, _ = self._compare(target, source, depth, None, T, K)
            weight = None if mask is None else mask.flatten(0, 1).softmax(1)[:, 1:]
            return self._reduce(cost, valid, n, weight), None
        source_depth = self._depth(theirs.to(K), size)
        forward, backward = (
            self._compare(target, source, depth, source_depth, T, K),
            self._compare(source, target, source_depth, depth, invert_rigid(T), K))
        photometric = 0.5 * (self._reduce(*forward[:2], n) + self._reduce(*backward[:2], n))
        if not options.depth_consistency_weight:
            return photometric, None
        return photometric, 0.5 * sum(_masked_mean(difference, valid)
                                      for _, valid, difference in (forward, backward))

    def _depth(self, disparity, size):
        """Return the depth of a disparity, enlarged to a size where it is smaller."""
        if disparity.shape[2:] != size:
            disparity = F.interpolate(disparity, size, mode='bilinear', align_corners=False)
        return 1.0 / disparity

    def _compare(self, image, other, depth, other_depth, T, K):
        """Return cost (N, 1, H, W), where it counts, and the difference of both depths."""
        options = self.options
        pixels, z = project_pixels(depth, T, K)
        consistent = options.depth_consistency_weight and other_depth is not None
        stack = torch.cat([other, other_depth], 1) if consistent else other
        seen, valid = sample(stack, pixels, options.border)
        cost = self._distance(seen[:, :3], image)
        valid = valid & (z > SMALLEST_Z)
        difference = None
        if consistent:
            there = seen[:, 3:]
            difference = ((z - there).abs() / (z + there).clamp_min(SMALLEST_Z)).clamp(0, 1)
            cost = cost * (1 - difference).detach()
        if options.border == 'published':
            valid = torch.ones_like(valid)
        if options.auto_mask:
            still = self._distance(other, image).detach()
            still = still + AUTO_MASK_NOISE * torch.randn_like(still)
            # Outside, too: there the unwarped image is all there is to say.
            cost, valid = torch.where(valid, torch.minimum(cost, still), still), \
                torch.ones_like(valid)
        return cost, valid, difference

    def _distance(self, x, y):
        """Return how different two images are, shape (N, 1, H, W)."""
        if self.options.photometric == 'l1':
            return (x - y).abs().mean(1, keepdim=True)
        return image_distance(x, y, self.options.unit_range).mean(1, keepdim=True)

    def _reduce(self, cost, valid, n, weight=None):
        """Return one number from the costs of n sources each."""
        if weight is not None:
            cost = cost * weight
        if not self.options.minimum_reprojection:
            return n * _masked_mean(cost, valid)
        cost = cost.masked_fill(~valid, torch.inf).unflatten(0, (-1, n)).amin(1)
        seen = cost.isfinite()
        return _masked_mean(cost.masked_fill(~seen, 0.0), seen)


def _masked_mean(values, valid):
    """Return the mean of valid values, 0 where there is none."""
    return (values * valid).sum() / valid.sum().clamp_min(1)
