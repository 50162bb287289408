# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Ego-motion while depth is learned: by a network, as published, or by direct alignment."""

from typing import Dict, Type

import torch
from torch import nn

from geo_perception.geometry.direct_alignment import align_images
from geo_perception.geometry.projection import matrix_to_pose_vector
from geo_perception.networks.egomotion import EgoMotionNet


class DirectEgoMotion(nn.Module):
    """
    Ego-motion without weights: images aligned through the depth of the target (DDVO 2018).

    No gradient goes through the alignment: depth is learned for the motion that fits it best.

    Parameters
    ----------
    sources : int
        Neighbours; each is aligned with the target alone.

    """

    uses_depth = True

    def __init__(self, sources=2):
        super().__init__()
        self.sources = sources

    @torch.no_grad()
    def forward(self, target, sources, disparity, K):
        """
        Return motions.

        Parameters
        ----------
        target : torch.Tensor
            In [-1, 1], shape (B, 3, H, W).
        sources : torch.Tensor
            Shape (B, n, 3, H, W).
        disparity : torch.Tensor
            Inverse depth of the target, shape (B, 1, H, W).
        K : torch.Tensor
            Intrinsics, pixels, shape (B, 3, 3).

        Returns
        -------
        poses : torch.Tensor
            As of `EgoMotionNet`, shape (B, n, 6).
        masks : None
            There are none.

        """
        batch, n = sources.shape[:2]
        # In mixed precision too: far surfaces are tiny disparities.
        with torch.autocast(target.device.type, enabled=False):
            target, depth, K = (x.float().repeat_interleave(n, 0)
                                for x in (target, 1.0 / disparity.float(), K))
            T, _ = align_images(target, sources.float().flatten(0, 1), depth, K)
        return matrix_to_pose_vector(T).unflatten(0, (batch, n)), None


EGOMOTION: Dict[str, Type[nn.Module]] = {'network': EgoMotionNet, 'direct': DirectEgoMotion}
