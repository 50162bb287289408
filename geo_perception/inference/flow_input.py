# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What the flow network is shown (geonet.md section 1.4), in training and on the robot alike."""

import torch

from geo_perception.geometry.sampling import flow_warp
from geo_perception.losses.photometric import image_distance

_TINY = 1e-10


def flow_input(image, other, rigid=None, border='inclusive'):
    """
    Return the input of a flow network, without gradient.

    Parameters
    ----------
    image, other : torch.Tensor
        In [-1, 1], shape (B, 3, H, W).
    rigid : torch.Tensor, optional
        Rigid flow from ``image`` to ``other``, pixels, shape (B, 2, H, W); None for the direct
        variant.
    border : str
        How the other image is warped, see `geo_perception.geometry.sampling.sample`.

    Returns
    -------
    torch.Tensor
        Image, other, other warped to the image, rigid flow and how different the warped one is:
        shape (B, 12, H, W). The two images alone, (B, 6, H, W), for the direct variant.

    """
    with torch.no_grad():
        if rigid is None:
            return torch.cat([image, other], 1)
        warped, _ = flow_warp(other, rigid, border)
        distance = image_distance(warped, image) + _TINY
        return torch.cat([image, other, warped, rigid,
                          distance.square().sum(1, keepdim=True).sqrt()], 1)
