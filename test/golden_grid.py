# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The little images of the numeric check points (sfmlearner.md 3.6, geonet.md appendix A)."""

import torch

Y, X = torch.meshgrid(torch.arange(4.0).double(), torch.arange(6.0).double(), indexing='ij')
DEPTH = (5 + 0.1 * X + 0.2 * Y)[None, None]
K = torch.tensor([[[5.0, 0, 2.5], [0, 5, 1.5], [0, 0, 1]]]).double()
POSE = torch.tensor([[0.1, -0.05, 0.2, 0.01, -0.02, 0.03]]).double()
DISPARITY = (0.2 + 0.05 * torch.sin(X) + 0.03 * torch.cos(2 * Y))[None, None]
FLOW = torch.stack([1.5 * torch.sin(0.5 * X) + 0.2 * Y, 0.5 * torch.cos(0.4 * Y) + 0.1 * X])[None]


def image(phase=0.0):
    """Return an image of sines, (1, 3, 4, 6)."""
    return torch.stack([torch.sin(0.7 * X + 0.3 * Y + 0.5 * c + phase) for c in range(3)])[None]
