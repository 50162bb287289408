# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
A pose regressor for small computers: a light pretrained trunk and a head that knows geometry.

The trunk is frozen: it runs once over every training view, and a head is trained in minutes on a
CPU. For every cell of the feature map the head says how far the surface there is, where it lies in
the world, and how much to believe that. The pose is the rigid motion that aligns the one with the
other (weighted Kabsch, in closed form, differentiated through). Nothing but the pose is
supervised, as in PoseNet; but a wrong pose is now wrong geometry, and weights shared among cells
have far less to memorise than a fully connected layer.
"""

import torch
from torch import nn
from torch.nn import functional as F

from geo_perception.errors import ConfigurationError
from geo_perception.geometry.constants import constant
from geo_perception.networks.efficientnet import EfficientNetLite, imagenet_weights
from geo_perception.networks.regressor import PoseRegressor

STRIDE = 32
# Metres; the network says by which factor a surface is nearer or farther, within e^3.
TYPICAL_DEPTH = 2.0
LARGEST_LOG_DEPTH = 3.0
# Breaks ties between singular values, where the gradient of the alignment is not defined.
TIE_BREAKER = (1.0e-4, 0.9e-4, 0.8e-4)
# Of a power of two this large nothing is left but the largest eigenvector.
SQUARINGS = 24


class PoseNetLite(PoseRegressor):
    """
    EfficientNet-Lite0 with a pose from aligned surfaces.

    Parameters
    ----------
    input_size : tuple of int
        (height, width), multiples of 32.
    rotation_width : int
        Numbers that describe a rotation; 6, two columns of the matrix, is all it can give.
    width : int
        Channels of the two hidden layers.
    dropout : float
        Drop probability between them.

    Raises
    ------
    ConfigurationError
        When a size is not positive, the input no multiple of 32, or dropout not in [0, 1).

    """

    has_frozen_part = True

    def __init__(self, input_size=(224, 288), rotation_width=6, width=256, dropout=0.1):
        super().__init__()
        if rotation_width != 6:
            raise ConfigurationError('posenet_lite gives its rotation as a matrix; set rotation '
                                     'to "matrix"')
        self.rotation_width = rotation_width
        self.input_size = tuple(input_size)
        if any(size < STRIDE or size % STRIDE for size in self.input_size):
            raise ConfigurationError(f'posenet_lite takes inputs of multiples of {STRIDE} pixels, '
                                     f'not {self.input_size[0]}x{self.input_size[1]}; change '
                                     'preprocessing.crop')
        if width < 1 or not 0 <= dropout < 1:
            raise ConfigurationError(f'posenet_lite needs width ({width}) above 0 and dropout '
                                     f'({dropout}) in [0, 1)')
        self._grid = self.input_size[0] // STRIDE, self.input_size[1] // STRIDE
        self.trunk = EfficientNetLite().requires_grad_(False)
        self.mix = nn.Conv2d(EfficientNetLite.out_channels + 4 * EfficientNetLite.fine_channels,
                             width, 1)
        self.hidden = nn.Conv2d(width, width, 1)
        # Log depth, world point (3) and log weight of each cell.
        self.surface = nn.Conv2d(width, 5, 1)
        nn.init.normal_(self.surface.weight, std=0.01)
        self._drop = dropout
        self.align = align
        cells = self._grid[0] * self._grid[1]
        self.register_buffer('extent', torch.ones(3))
        self.register_buffer('rays', torch.zeros(3, cells))
        self.register_buffer('prior', torch.zeros(3, cells))

    def load_pretrained(self):
        """Take the ImageNet weights of the trunk."""
        self.trunk.load_pretrained(imagenet_weights())

    @torch.no_grad()
    def fit_to_scene(self, mean_position, extent, mean_rotation, K):
        """
        Remember which way the cells look, and begin with the mean pose; see `PoseRegressor`.

        From points on one spot the first rotations would be random, and one that begins half a
        turn off can stay there: a wrong minimum of the alignment.
        """
        self.extent.copy_(extent.clamp_min(TYPICAL_DEPTH))
        height, width = self.input_size
        if K is None:
            # Unknown intrinsics: 60 degrees across. A wrong guess is made up for by the depths.
            f = 0.5 * width / 0.577
            K = torch.tensor([[f, 0.0, 0.5 * width - 0.5], [0.0, f, 0.5 * height - 0.5],
                              [0.0, 0.0, 1.0]])
        v, u = torch.meshgrid(*(torch.arange(n) * STRIDE + 0.5 * (STRIDE - 1)
                                for n in self._grid), indexing='ij')
        pixels = torch.stack([u, v, torch.ones_like(u)]).reshape(3, -1).double()
        self.rays.copy_(torch.linalg.inv(K.double()) @ pixels)
        # The polar factor: a mean of rotations is none, and about the vertical it may vanish.
        U, _, Vt = torch.linalg.svd(mean_rotation.reshape(2, 3).T, full_matrices=False)
        x, y = (U @ Vt).T
        R = torch.stack([x, y, torch.linalg.cross(x, y)], 1).to(self.rays)
        self.prior.copy_(mean_position[:, None] + R @ self.rays * TYPICAL_DEPTH)

    def frozen(self, images):
        """Return both maps of the trunk on the grid of the deep one, (B, 768, H / 32, W / 32)."""
        fine, deep = self.trunk(images)
        return torch.cat([deep, F.pixel_unshuffle(fine, 2)], 1)

    def upper(self, frozen):
        """Return the first hidden layer, (B, width, H / 32, W / 32)."""
        return F.relu(self.mix(frozen))

    def dropout_layers(self):
        """Return shape and probability of the layers; see `PoseRegressor.dropout_layers`."""
        return [((self.mix.out_channels, *self._grid), self._drop)]

    def regress(self, features, masks=None):
        """Return poses for features; see `PoseRegressor.regress`."""
        if masks:
            features = features * masks[0]
        return self._pose(self.hidden(features).flatten(2).mT)

    def sampler(self, masks):
        """
        Return a function that samples; see `PoseRegressor.sampler`.

        The masks drop little: to take off what that little would have added is the same sum as
        to add up the rest, and several times less work.
        """
        samples, channels = masks[0].shape[:2]
        cells = self._grid[0] * self._grid[1]
        dropped = (masks[0] == 0).flatten(2).mT.reshape(samples * cells, channels)
        row, channel = dropped.nonzero(as_tuple=True)
        # Short integers: a table that fits the cache leaves the trunk its place there.
        starts = F.pad(dropped.sum(1).cumsum(0), (1, 0)).int()
        place, channel = (channel * cells + row % cells).int(), channel.int()
        weight = self.hidden.weight.detach().flatten(1)
        minus_weight = -weight.T.contiguous()

        def sample(features):
            scaled = features / (1.0 - self._drop)
            hidden = F.embedding_bag(
                channel, minus_weight, starts, mode='sum', include_last_offset=True,
                per_sample_weights=scaled.flatten().index_select(0, place))
            # In place: fresh memory takes longer than the sums.
            return self._pose(hidden.view(samples, cells, -1).add_(
                F.linear(scaled.flatten(2).mT, weight, self.hidden.bias)))
        return sample

    def _pose(self, hidden):
        """Return poses for the second hidden layer before its activation, (B, cells, width)."""
        hidden = F.relu(hidden, inplace=True)
        # Points in 32 bits even in mixed precision: 16 are centimetres at 3 m.
        with torch.autocast(hidden.device.type, enabled=False):
            output = F.linear(hidden.float(), self.surface.weight.flatten(1), self.surface.bias)
            log_depth = output[..., :1].clamp(-LARGEST_LOG_DEPTH, LARGEST_LOG_DEPTH)
            in_camera = self.rays.T * TYPICAL_DEPTH * torch.exp(log_depth)
            in_world = self.prior.T + self.extent * output[..., 1:4]
            return self.align(in_camera, in_world, torch.softmax(output[..., 4:], 1))

    def heads(self, frozen):
        """Return the training outputs of the one head."""
        return [self.regress(F.dropout(self.upper(frozen), self._drop, self.training))]


def align(in_camera, in_world, weights):
    """
    Return the rigid motions that carry points best from the camera to the world (Kabsch 1976).

    Parameters
    ----------
    in_camera, in_world : torch.Tensor
        The same points in both frames, metres, shape (B, N, 3).
    weights : torch.Tensor
        How much each counts, sum 1, shape (B, N, 1).

    Returns
    -------
    position : torch.Tensor
        Of the camera in the world, metres, shape (B, 3).
    rotation : torch.Tensor
        First two columns of ``R_world_camera``, shape (B, 6).

    """
    centre_camera, centre_world, covariance = _moments(in_camera, in_world, weights)
    U, _, Vt = torch.linalg.svd(covariance)
    # A reflection is no rotation: the least certain axis is flipped.
    flip = torch.ones_like(U[:, 0])
    flip[:, 2] = torch.det(U @ Vt)
    R = (U * flip[:, None]) @ Vt
    position = (centre_world - centre_camera @ R.mT)[:, 0]
    return position, R[:, :, :2].mT.flatten(1)


def align_without_svd(in_camera, in_world, weights):
    """
    Return what `align` does, by products of matrices alone: ONNX knows no singular values.

    The rotation is the largest eigenvector of a symmetric matrix of 4x4 (Horn 1987), of which a
    high power leaves nothing else.

    Parameters
    ----------
    in_camera, in_world, weights : torch.Tensor
        As for `align`.

    Returns
    -------
    position, rotation : torch.Tensor
        As from `align`.

    """
    centre_camera, centre_world, covariance = _moments(in_camera, in_world, weights)
    (xx, yx, zx), (xy, yy, zy), (xz, yz, zz) = (row.unbind(1) for row in covariance.unbind(1))
    N = torch.stack([xx + yy + zz, yz - zy, zx - xz, xy - yx,
                     yz - zy, xx - yy - zz, xy + yx, zx + xz,
                     zx - xz, xy + yx, yy - xx - zz, yz + zy,
                     xy - yx, zx + xz, yz + zy, zz - xx - yy], 1).unflatten(1, (4, 4))
    # No eigenvalue is further below zero than that.
    bound = N.square().sum((1, 2), keepdim=True).sqrt()
    Q = N + bound * torch.eye(4, dtype=N.dtype, device=N.device)
    for _ in range(SQUARINGS):
        Q = Q / Q.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
        Q = Q @ Q
    Q = Q / Q.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    # Q holds the products of the quaternion (w, x, y, z) with itself.
    w, x, y, z = (row.unbind(1) for row in Q.unbind(1))
    first = torch.stack([w[0] + x[1] - y[2] - z[3], 2 * (x[2] + w[3]), 2 * (x[3] - w[2])], 1)
    second = torch.stack([2 * (x[2] - w[3]), w[0] - x[1] + y[2] - z[3], 2 * (y[3] + w[1])], 1)
    R = torch.stack([first, second, torch.linalg.cross(first, second)], 2)
    position = (centre_world - centre_camera @ R.mT)[:, 0]
    return position, torch.cat([first, second], 1)


def _moments(in_camera, in_world, weights):
    """Return both centres, and how the points vary together, ties broken."""
    centre_camera = (weights * in_camera).sum(1, keepdim=True)
    centre_world = (weights * in_world).sum(1, keepdim=True)
    covariance = (weights * (in_world - centre_world)).mT @ (in_camera - centre_camera)
    return (centre_camera, centre_world,
            covariance + torch.diag(constant(covariance, *TIE_BREAKER)))
