# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
A step of SfMLearner or GeoNet's rigid stage as one writes it down first.

Scale by scale and source by source, in eager PyTorch and its default layout of memory. The graph,
and so the loss, is that of ``geo_perception train``.
"""

from copy import deepcopy

from plain_training import PlainTraining
import torch
from torch import nn
from torch.nn import functional as F

from geo_perception.networks.layers import EvenConv2d, SameConv2d, UpConv2d


class _Same(SameConv2d):
    """Pads every input."""

    def forward(self, x):
        pad = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1],
                                        self.stride[::-1]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pad += [total // 2, total - total // 2]
        return nn.Conv2d.forward(self, F.pad(x, pad))


class _Up(UpConv2d):
    """Enlarges its input before the convolution."""

    def forward(self, x):
        return nn.Conv2d.forward(self, F.interpolate(x, scale_factor=2))


class _Even(EvenConv2d):
    """Leaves all to PyTorch."""

    def forward(self, x):
        return nn.Conv2d.forward(self, x)


_PLAIN = {SameConv2d: _Same, UpConv2d: _Up, EvenConv2d: _Even}


def plain_twin(network):
    """
    Return a copy of a network in its plainest form.

    Parameters
    ----------
    network : torch.nn.Module
        For depth, ego-motion or flow.

    Returns
    -------
    torch.nn.Module

    """
    twin = deepcopy(network).to(memory_format=torch.contiguous_format)
    for layer in twin.modules():
        layer.__class__ = _PLAIN.get(type(layer), type(layer))
    return twin


class PlainStep(PlainTraining):
    """
    Training of twins of a module's networks on one batch in memory.

    Parameters
    ----------
    module : ViewSynthesisModule
        Gives networks and options; stays as it is.
    images : torch.Tensor
        In [-1, 1], shape (B, L, 3, H, W).
    K : torch.Tensor
        Shape (B, 3, 3).

    """

    def __init__(self, module, images, K):
        self._depth, self._egomotion = map(plain_twin, (module.depth, module.egomotion))
        centre = images.shape[1] // 2
        self._target = images[:, centre].contiguous()
        self._sources = [images[:, i].contiguous() for i in range(images.shape[1]) if i != centre]
        self._K, self._options = K, module.loss.options
        super().__init__(2e-4, self._depth, self._egomotion)

    def loss(self):
        """Return the loss."""
        target, sources, options = self._target, self._sources, self._options
        poses, _ = self._egomotion(target, torch.stack(sources, 1))
        frames = [target, *sources] if options.both_directions else [target]
        disparities = [list(d.chunk(len(frames))) for d in self._depth(torch.cat(frames))]
        total = 0.0
        for s in range(4):
            K = self._K.clone()
            K[:, :2] /= 2 ** s
            own = F.avg_pool2d(target, 2 ** s)
            others = [F.avg_pool2d(source, 2 ** s) for source in sources]
            for i, other in enumerate(others):
                T = motion_matrix(poses[:, i])
                seen = sampled(other, *projected(1 / disparities[s][0], T, K))
                cost = _distance(seen, own, options).mean()
                if options.both_directions:
                    back = sampled(own, *projected(1 / disparities[s][i + 1], T.inverse(), K))
                    cost = 0.5 * (cost + _distance(back, other, options).mean())
                total = total + cost
            for image, disparity in zip([own, *others], disparities[s]):
                rough = _roughness(disparity, image, options) / len(disparities[s])
                total = total + options.smoothness_weight / 2 ** s * rough
        return total


def motion_matrix(pose):
    """
    Return 4x4 matrices of motions.

    Parameters
    ----------
    pose : torch.Tensor
        (t, Euler angles) with ``R = Rx Ry Rz``, shape (B, 6).

    Returns
    -------
    torch.Tensor
        Shape (B, 4, 4).

    """
    x, y, z = pose[:, 3], pose[:, 4], pose[:, 5]
    one, nothing = torch.ones_like(x), torch.zeros_like(x)

    def matrix(*rows):
        return torch.stack(rows, 1).reshape(-1, 3, 3)

    Rx = matrix(one, nothing, nothing, nothing, x.cos(), -x.sin(), nothing, x.sin(), x.cos())
    Ry = matrix(y.cos(), nothing, y.sin(), nothing, one, nothing, -y.sin(), nothing, y.cos())
    Rz = matrix(z.cos(), -z.sin(), nothing, z.sin(), z.cos(), nothing, nothing, nothing, one)
    upper = torch.cat([Rx @ Ry @ Rz, pose[:, :3, None]], 2)
    lower = torch.tensor([[[0.0, 0.0, 0.0, 1.0]]], device=pose.device).expand(len(pose), 1, 4)
    return torch.cat([upper, lower], 1)


def grid(like):
    """
    Return the coordinates of all pixels.

    Parameters
    ----------
    like : torch.Tensor
        Image or map, shape (B, C, H, W).

    Returns
    -------
    x, y : torch.Tensor
        Shape (H, W).

    """
    height, width = like.shape[2:]
    y, x = torch.meshgrid(torch.arange(float(height), device=like.device),
                          torch.arange(float(width), device=like.device), indexing='ij')
    return x, y


def projected(depth, T, K):
    """
    Return where the pixels of the target lie in the source.

    Parameters
    ----------
    depth : torch.Tensor
        Of the target, shape (B, 1, H, W).
    T, K : torch.Tensor
        From target to source, and intrinsics, shapes (B, 4, 4) and (B, 3, 3).

    Returns
    -------
    x, y : torch.Tensor
        Pixels, shape (B, H, W).

    """
    batch, _, height, width = depth.shape
    x, y = grid(depth)
    pixels = torch.stack([x, y, torch.ones_like(x)]).reshape(1, 3, -1).expand(batch, 3, -1)
    points = K.inverse() @ pixels * depth.reshape(batch, 1, -1)
    points = torch.cat([points, torch.ones_like(points[:, :1])], 1)
    points = K @ (T @ points)[:, :3]
    x, y = points[:, :2].reshape(batch, 2, height, width).unbind(1)
    z = points[:, 2].reshape(batch, height, width).clamp(min=1e-3)
    return x / z, y / z


def sampled(source, x, y):
    """
    Return an image at fractional pixels, nothing outside.

    Parameters
    ----------
    source : torch.Tensor
        Shape (B, C, H, W).
    x, y : torch.Tensor
        Pixels, shape (B, H, W).

    Returns
    -------
    torch.Tensor
        Shape (B, C, H, W).

    """
    height, width = source.shape[2:]
    x = 2 * x / (width - 1) - 1
    y = 2 * y / (height - 1) - 1
    x = torch.where((x < -1) | (x >= 1), torch.full_like(x, 2.0), x)
    y = torch.where((y < -1) | (y >= 1), torch.full_like(y, 2.0), y)
    return F.grid_sample(source, torch.stack([x, y], 3), padding_mode='zeros',
                         align_corners=True)


def image_distance(x, y):
    """
    Return how different two images are, by SSIM and L1.

    Parameters
    ----------
    x, y : torch.Tensor
        Shape (B, 3, H, W).

    Returns
    -------
    torch.Tensor
        Same shape.

    """
    def mean(image):
        return F.avg_pool2d(image, 3, 1, 1, count_include_pad=False)

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x ** 2) - mean_x ** 2, mean(y ** 2) - mean_y ** 2
    covariance = mean(x * y) - mean_x * mean_y
    ssim = ((2 * mean_x * mean_y + 1e-4) * (2 * covariance + 9e-4)
            / ((mean_x ** 2 + mean_y ** 2 + 1e-4) * (variance_x + variance_y + 9e-4)))
    return 0.85 * ((1 - ssim) / 2).clamp(0, 1) + 0.15 * (x - y).abs()


def edge_aware(values, image):
    """
    Return how much a map changes where the image does not.

    Parameters
    ----------
    values : torch.Tensor
        Disparity or flow, shape (B, C, H, W).
    image : torch.Tensor
        Shape (B, 3, H, W).

    Returns
    -------
    torch.Tensor
        A number.

    """
    return sum((difference(values).abs()
                * torch.exp(-difference(image).abs().mean(1, keepdim=True))).mean()
               for difference in (_along_x, _along_y))


def _along_x(values):
    return values[:, :, :, 1:] - values[:, :, :, :-1]


def _along_y(values):
    return values[:, :, 1:] - values[:, :, :-1]


def _distance(x, y, options):
    """Return how different two images are."""
    return (x - y).abs() if options.photometric == 'l1' else image_distance(x, y)


def _roughness(disparity, image, options):
    """Return the smoothness loss of one map."""
    if options.smoothness == 'second_order':
        dx, dy = _along_x(disparity), _along_y(disparity)
        return (_along_x(dx).abs().mean() + _along_y(dx).abs().mean()
                + _along_x(dy).abs().mean() + _along_y(dy).abs().mean())
    return edge_aware(disparity, image)
