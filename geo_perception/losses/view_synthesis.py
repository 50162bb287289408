# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Depth and ego-motion are right when they turn one frame of a video into its neighbour.

One loss with the choices that SfMLearner (sfmlearner.md section 2), GeoNet's first stage
(geonet.md section 2.2) and their successors (sfmlearner.md section 8) made.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Optional, Union

import torch
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError
from geo_perception.geometry.projection import (
    invert_rigid, pose_vector_to_matrix, project_rays, pyramid_intrinsics, SMALLEST_Z,
    viewing_rays)
from geo_perception.geometry.sampling import area_pyramid, sample
from geo_perception.losses.photometric import (
    image_distance, masked_mean, Windows, windows)
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
        # In 32 bits, also in mixed precision: far surfaces are tiny disparities, and products of
        # motions would have 8 bits.
        disparities, masks, source_disparities = (
            None if maps is None else [x.to(K) for x in maps]
            for maps in (disparities, masks, source_disparities))
        with torch.autocast(K.device.type, enabled=False):
            return self._terms(target, sources, K, disparities, poses.to(K), masks,
                               source_disparities)

    def _terms(self, target, sources, K, disparities, poses, masks, source_disparities):
        """Return the loss and its parts, all in one precision."""
        options = self.options
        levels, n = min(options.scales, len(disparities)), sources.shape[1]
        if options.unit_range:
            target, sources = 0.5 * target + 0.5, 0.5 * sources + 0.5
        T = pose_vector_to_matrix(poses)
        targets = area_pyramid(target, levels)
        neighbours = [level.unflatten(0, (-1, n))
                      for level in area_pyramid(sources.flatten(0, 1), levels)]
        intrinsics = pyramid_intrinsics(K, levels, options.exact_pyramid_intrinsics)
        terms, pairs = {}, {}

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
            if at not in pairs:
                pairs[at] = self._pairs(targets[at], neighbours[at], intrinsics[at], T)
            photometric, consistency = self._photometric(
                pairs[at], own, theirs, None if masks is None else masks[level])
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
            away = (disparities[0].mean() / SCALE_ANCHOR).log()
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

    def _pairs(self, target, neighbours, K, T):
        """Return what no depth changes: of targets from sources, and the other way round."""
        images, others = [target[:, None]], [neighbours]
        motions = [T]
        if self.options.both_directions:
            images.append(neighbours)
            others.append(target[:, None].expand_as(neighbours))
            motions.append(invert_rigid(T))
        if self.options.photometric == 'ssim':
            images = [windows(image, self.options.unit_range) for image in images]
        still = None
        if self.options.auto_mask:
            with torch.no_grad():
                still = self._distance(neighbours, images[0])
                still += AUTO_MASK_NOISE * torch.randn_like(still)
        return [_Pair(image, other.flatten(0, 1),
                      *viewing_rays(motion, K[:, None], *target.shape[2:]), still)
                for image, other, motion in zip(images, others, motions)]

    def _photometric(self, pairs, own, theirs, mask):
        """Return what view synthesis costs at one scale, and what inconsistent depth costs."""
        size = pairs[0].other.shape[2:]
        own = self._depth(own, size)[:, None]
        if theirs is None:
            cost, valid, _ = self._compare(pairs[0], own, None)
            weight = None if mask is None else mask.softmax(2)[:, :, 1:]
            return self._reduce(cost, valid, weight), None
        theirs = self._depth(theirs, size).unflatten(0, (len(own), -1))
        compared = [self._compare(pairs[0], own, theirs),
                    self._compare(pairs[1], theirs, own.expand_as(theirs))]
        photometric = 0.5 * sum(self._reduce(cost, valid) for cost, valid, _ in compared)
        if not self.options.depth_consistency_weight:
            return photometric, None
        return photometric, 0.5 * sum(difference for _, _, difference in compared)

    def _depth(self, disparity, size):
        """Return the depth of a disparity, enlarged to a size where it is smaller."""
        if disparity.shape[2:] != size:
            disparity = F.interpolate(disparity, size, mode='bilinear', align_corners=False)
        return 1.0 / disparity

    def _compare(self, pair, depth, other_depth):
        """
        Return cost, where it counts, shapes (B, n, 1, H, W), and the mean difference of depths.

        Depth is that of the image, of the same shape or with one in place of n.
        """
        options = self.options
        pixels, z = project_rays(pair.rays, pair.offset, depth)
        batch, pixels = pixels.shape[:2], pixels.flatten(0, 1)
        seen, valid = sample(pair.other, pixels, options.border)
        valid = valid.unflatten(0, batch) & (z > SMALLEST_Z)
        cost = self._distance(seen.unflatten(0, batch), pair.image)
        difference = None
        if options.depth_consistency_weight:
            # Sampled apart from the image, for which no gradient is wanted.
            there = sample(other_depth.flatten(0, 1), pixels, options.border)[0]
            there = there.unflatten(0, batch)
            difference = ((z - there).abs() / (z + there).clamp_min(SMALLEST_Z)).clamp(0, 1)
            cost = cost * (1 - difference).detach()
            # Outside there is no depth to agree with, whatever the images count below.
            difference = masked_mean(difference, valid)
        if options.border == 'published':
            valid = torch.ones_like(valid)
        if options.auto_mask:
            # Outside, too: there the unwarped image is all there is to say.
            cost, valid = torch.where(valid, torch.minimum(cost, pair.still), pair.still), \
                torch.ones_like(valid)
        return cost, valid, difference

    def _distance(self, x, image):
        """Return how different two images are, shape (..., 1, H, W)."""
        if self.options.photometric == 'l1':
            return (x - image).abs().mean(-3, keepdim=True)
        return image_distance(x, image).mean(-3, keepdim=True)

    def _reduce(self, cost, valid, weight=None):
        """Return one number from the costs of all sources."""
        if weight is not None:
            cost = cost * weight
        if not self.options.minimum_reprojection:
            return cost.shape[1] * masked_mean(cost, valid)
        cost = cost.masked_fill(~valid, torch.inf).amin(1)
        seen = cost.isfinite()
        return masked_mean(cost.masked_fill(~seen, 0.0), seen)


class _Pair(NamedTuple):
    """
    Images and others that are to be turned into them.

    Attributes
    ----------
    image : Windows or torch.Tensor
        Shape (B, n, 3, H, W), or with one in place of n.
    other : torch.Tensor
        Shape (B n, 3, H, W).
    rays, offset : torch.Tensor
        See `geo_perception.geometry.projection.viewing_rays`, shapes (B, n, 3, ...).
    still : torch.Tensor or None
        How different both are without a warp, shape (B, n, 1, H, W).

    """

    image: Union[Windows, torch.Tensor]
    other: torch.Tensor
    rays: torch.Tensor
    offset: torch.Tensor
    still: Optional[torch.Tensor]
