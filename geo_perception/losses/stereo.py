# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Depth is right when it turns one eye's image into the other's (monodepth.md sections 9 and 17).

Monodepth's loss rebuilds both images from each other and asks both disparities to agree.
Monodepth2's, as an option, rebuilds one image at full size whatever the scale of the disparity.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError
from geo_perception.geometry.sampling import area_pyramid, shift_columns
from geo_perception.losses.photometric import (
    image_distance, masked_mean, ssim_distance, SSIM_SHARE, windows)
from geo_perception.losses.smoothness import edge_aware, mean_normalised
from geo_perception.losses.view_synthesis import AUTO_MASK_NOISE


@dataclass(frozen=True)
class StereoOptions:
    """
    What is asked of disparity.

    Attributes
    ----------
    objective : str
        ``left_right``: Monodepth's. ``one_view``: Monodepth2's; the disparity of the right eye
        is not trained then.
    smoothness_weight : float
        At the finest scale; half of it at the next, and so on. 0.1 for ``left_right``, 0.001 for
        ``one_view``, which divides each disparity by its mean before.
    smoothness_axes : str
        ``xy`` as in the paper, ``x`` as in the released code; of ``left_right``.
    consistency_weight : float
        Of the difference between both disparities, of ``left_right``.
    border : str
        ``published`` counts what lies outside the other image as black; ``inclusive`` leaves it
        out. ``one_view`` always repeats the border.
    auto_mask : bool
        Leave out what the other image explains better as it is, of ``one_view``.
    scales : int
        How many of the four disparities count, the finest first.

    Raises
    ------
    ConfigurationError
        When options contradict each other.

    """

    objective: Literal['left_right', 'one_view'] = 'left_right'
    smoothness_weight: float = 0.1
    smoothness_axes: Literal['xy', 'x'] = 'xy'
    consistency_weight: float = 1.0
    border: Literal['inclusive', 'published'] = 'inclusive'
    auto_mask: bool = False
    scales: int = 4

    def __post_init__(self):
        """Refuse what would fail or mean nothing later."""
        if not 1 <= self.scales <= 4:
            raise ConfigurationError(f'model.loss.scales is {self.scales}; of the four scales 1 '
                                     'to 4 can count')
        if self.auto_mask and self.objective == 'left_right':
            raise ConfigurationError('model.loss.auto_mask belongs to the objective one_view; '
                                     'left_right has nothing like it')


class StereoLoss:
    """
    The loss of a batch of stereo pairs.

    Parameters
    ----------
    options : StereoOptions
        Which loss.

    """

    def __init__(self, options):
        self.options = options

    def __call__(self, left, right, disparities, side=None):
        """
        Return the loss and its parts.

        Parameters
        ----------
        left, right : torch.Tensor
            In [0, 1], shape (B, 3, H, W), multiples of 8. Disparity was predicted from the first.
        disparities : list of torch.Tensor
            Of the left and the right eye, parts of the width, shapes
            (B, 2, H / 2^s, W / 2^s), the finest first.
        side : torch.Tensor, optional
            1 where ``left`` is what the left eye saw, -1 where it is what the right one saw and
            ``right`` is the image of the left one, shape (B, 1, 1, 1); of ``one_view``.

        Returns
        -------
        dict of str to torch.Tensor
            ``total`` and, weighted, what it is the sum of: ``photometric``, ``smoothness``,
            ``consistency`` (of ``left_right``).

        """
        # Geometry in 32 bits, also in mixed precision: far surfaces are tiny disparities.
        disparities = [d.to(left) for d in disparities[:self.options.scales]]
        terms = (self._left_right(left, right, disparities)
                 if self.options.objective == 'left_right' else
                 self._one_view(left, right, disparities, side))
        terms['total'] = sum(terms.values())
        return terms

    def _left_right(self, left, right, disparities):
        """Return Monodepth's terms, sums over scales and eyes."""
        options, levels = self.options, len(disparities)
        photometric = smoothness = consistency = 0.0
        pyramids = area_pyramid(left, levels), area_pyramid(right, levels)
        for level, (images, both) in enumerate(zip(zip(*pyramids), disparities)):
            # Left and right at once: what is sampled for one eye is the other's, and from there
            # the way to it is to the right.
            own = torch.cat([both[:, :1], both[:, 1:]])
            other = torch.cat([both[:, 1:], both[:, :1]])
            way = torch.cat([-both[:, :1], both[:, 1:]])
            image, source = torch.cat(images), torch.cat(images[::-1])
            seen, valid = shift_columns(torch.cat([source, other], 1), way, options.border)
            rebuilt, agreeing = seen[:, :3], seen[:, 3:]
            # Each is a mean over both eyes, and the sum is wanted.
            photometric += 2 * self._photometric(rebuilt, image, valid)
            smoothness += 2 * edge_aware(own, image, options.smoothness_axes) / 2 ** level
            consistency += 2 * self._mean((agreeing - own).abs(), valid)
        return {'photometric': photometric,
                'smoothness': options.smoothness_weight * smoothness,
                'consistency': options.consistency_weight * consistency}

    def _photometric(self, rebuilt, image, valid):
        """Return how different a rebuilt image is from the true one."""
        if self.options.border == 'inclusive':
            return masked_mean(image_distance(rebuilt, image, True).mean(1, keepdim=True), valid)
        # Published: only whole windows count.
        ssim = ssim_distance(rebuilt, image)[..., 1:-1, 1:-1].mean()
        return SSIM_SHARE * ssim + (1 - SSIM_SHARE) * (rebuilt - image).abs().mean()

    def _mean(self, values, valid):
        return masked_mean(values, valid) if self.options.border == 'inclusive' else values.mean()

    def _one_view(self, target, source, disparities, side):
        """Return Monodepth2's terms, means over scales."""
        options, share = self.options, 1.0 / len(disparities)
        photometric = smoothness = 0.0
        statistics, still = windows(target, True), None
        if options.auto_mask:
            with torch.no_grad():
                still = image_distance(source, statistics).mean(1, keepdim=True)
                still += AUTO_MASK_NOISE * torch.randn_like(still)
        pyramid = area_pyramid(target, len(disparities))
        for level, (image, both) in enumerate(zip(pyramid, disparities)):
            own = both[:, :1]
            smoothness += share / 2 ** level * edge_aware(mean_normalised(own), image)
            full = own if level == 0 else F.interpolate(own, target.shape[2:], mode='bilinear',
                                                        align_corners=False)
            rebuilt, _ = shift_columns(source, -full if side is None else -side * full)
            cost = image_distance(rebuilt, statistics).mean(1, keepdim=True)
            photometric += share * (cost if still is None else torch.minimum(cost, still)).mean()
        return {'photometric': photometric,
                'smoothness': options.smoothness_weight * smoothness}
