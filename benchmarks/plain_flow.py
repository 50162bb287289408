# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
A step of GeoNet's second stage as one writes it down first.

Pair by pair, scale by scale and direction by direction, in eager PyTorch and its default layout
of memory. Depth and ego-motion are frozen, as published, and no gradient is kept for them. The
graph, and so the loss, is that of ``geo_perception train``.
"""

from plain_training import PlainTraining
from plain_view_synthesis import (
    edge_aware, grid, image_distance, motion_matrix, plain_twin, projected, sampled)
import torch
from torch.nn import functional as F


class PlainFlowStep(PlainTraining):
    """
    Training of a twin of a module's flow network on one batch in memory.

    Parameters
    ----------
    module : FlowModule
        Gives networks and options; stays as it is.
    images : torch.Tensor
        In [-1, 1], shape (B, L, 3, H, W).
    K : torch.Tensor
        Shape (B, 3, 3).

    """

    def __init__(self, module, images, K):
        self._depth, self._egomotion, self._flow = map(
            plain_twin, (module.depth, module.egomotion, module.flow))
        centre = images.shape[1] // 2
        self._target = images[:, centre].contiguous()
        self._sources = [images[:, i].contiguous() for i in range(images.shape[1]) if i != centre]
        self._K, self._options = K, module.flow_loss.options
        super().__init__(2e-4, self._flow)

    def loss(self):
        """Return the loss."""
        n = len(self._sources)
        rigid = self._rigid_flows()
        # First all ways to the sources, then all ways back, in one batch that shares statistics.
        pairs = ([(self._target, source) for source in self._sources]
                 + [(source, self._target) for source in self._sources])
        shown = torch.cat([self._shown(a, b, flow) for (a, b), flow in zip(pairs, rigid[0])])
        full = [[still + residual for still, residual in zip(rigid[s], maps.chunk(2 * n))]
                for s, maps in enumerate(self._flow(shown))]
        total = 0.0
        for s in range(4):
            images = [F.avg_pool2d(a, 2 ** s) for a, _ in pairs]
            others = [F.avg_pool2d(b, 2 ** s) for _, b in pairs]
            ways, backs = full[s], full[s][n:] + full[s][:n]
            for one_way in (range(n), range(n, 2 * n)):
                terms = [self._pair(images[i], others[i], ways[i], backs[i], s) for i in one_way]
                cost, miss, valid = (torch.cat(parts) for parts in zip(*terms))
                count = valid.sum().clamp(min=1)
                total = total + 0.5 * n * (cost * valid).sum() / count
                total = total + 0.5 * self._options.consistency_weight * (
                    (miss * valid).sum() / count)
                for i in one_way:
                    total = total + self._options.smoothness_weight / 2 ** (s + 1) / n * (
                        edge_aware(ways[i], images[i]))
        return total

    def _rigid_flows(self):
        """Return the flow of a scene that stands still, by scale and pair."""
        poses, _ = self._egomotion(self._target, torch.stack(self._sources, 1))
        motions = [motion_matrix(poses[:, i]) for i in range(len(self._sources))]
        scales = []
        for s, disparity in enumerate(self._depth(torch.cat([self._target, *self._sources]))):
            K = self._K.clone()
            K[:, :2] /= 2 ** s
            own, *theirs = (1 / disparity).chunk(len(self._sources) + 1)
            ways = ([(own, T) for T in motions]
                    + [(depth, T.inverse()) for depth, T in zip(theirs, motions)])
            x, y = grid(own)
            flows = []
            for depth, T in ways:
                u, v = projected(depth, T, K)
                flows.append(torch.stack([u - x, v - y], 1))
            scales.append(flows)
        return scales

    def _shown(self, image, other, flow):
        """Return what the flow network sees of one pair."""
        warped = _warped(other, flow)
        error = ((image_distance(warped, image) + 1e-10) ** 2).sum(1, keepdim=True).sqrt()
        return torch.cat([image, other, warped, flow, error], 1)

    def _pair(self, image, other, flow, back, s):
        """Return what is different, what the way there and back misses, and where both count."""
        options = self._options
        miss = flow + _warped(back, flow)
        bound = (options.largest_part * 2 ** s * _length(flow)).clamp(min=options.largest_pixels)
        valid = (_length(miss) * 2 ** s < bound).detach()
        cost = image_distance(_warped(other, flow), image).mean(1, keepdim=True)
        return cost, miss.abs().mean(1, keepdim=True), valid


def _warped(source, flow):
    """Return an image seen through flow."""
    x, y = grid(flow)
    return sampled(source, x + flow[:, 0], y + flow[:, 1])


def _length(flow):
    """Return how long flow is."""
    return ((flow ** 2).sum(1, keepdim=True) + 1e-10).sqrt()
