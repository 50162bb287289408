# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Objectives of absolute pose regression (posenet.md sections 5 and 8)."""

import torch
from torch import nn

from geo_perception.errors import ConfigurationError
from geo_perception.networks.rotation import decode_rotation, normalise_rotation

KINDS = ('learned', 'weighted', 'caffe', 'reprojection')
NEAREST_POINT_M = 0.1
LARGEST_REPROJECTION = 10.0


def euclidean_norm(x):
    """
    Return the norm of each row, with a finite gradient at zero.

    Parameters
    ----------
    x : torch.Tensor
        Shape (B, n).

    Returns
    -------
    torch.Tensor
        Shape (B,).

    """
    return (x.square().sum(1) + 1e-12).sqrt()


def reprojection_error(position, R, points, position_label, R_label):
    """
    Return how far points move in the image when seen from the wrong pose.

    Kendall & Cipolla 2017 (posenet.md section 8.3), normalised image coordinates (K = I), L1.
    Points nearer than 0.1 m in either view are left out, and single errors are clamped.

    Parameters
    ----------
    position, position_label : torch.Tensor
        Camera centres in the world, metres, shape (B, 3).
    R, R_label : torch.Tensor
        ``R_world_camera``, shape (B, 3, 3).
    points : torch.Tensor
        Points in the world, metres, shape (B, G, 3); NaN rows are left out.

    Returns
    -------
    torch.Tensor
        Mean error an image, shape (B,).

    """
    # What is unknown is made safe first: a masked NaN still poisons gradients.
    known = points.isfinite().all(-1)
    points = torch.where(known[..., None], points, torch.zeros_like(points))
    seen = (points - position[:, None]) @ R
    true = (points - position_label[:, None]) @ R_label
    valid = (seen[..., 2] > NEAREST_POINT_M) & (true[..., 2] > NEAREST_POINT_M)
    valid = valid & known
    seen = torch.where(valid[..., None], seen, torch.ones_like(seen))
    true = torch.where(valid[..., None], true, torch.ones_like(true))
    error = (seen[..., :2] / seen[..., 2:] - true[..., :2] / true[..., 2:]).abs().sum(-1)
    error = error.clamp_max(LARGEST_REPROJECTION) * valid
    return error.sum(1) / valid.sum(1).clamp_min(1)


class PoseLoss(nn.Module):
    """
    Position and rotation error of every head, weighted into one number.

    Parameters
    ----------
    kind : str
        ``learned``: homoscedastic weights (Kendall & Cipolla 2017, section 8.2; the optimum is
        ``s = ln L``, so the loss may go below zero). ``weighted``: unsquared norms and beta
        (Kendall 2015, eq. 2). ``caffe``: the released squared form. ``reprojection``: geometric,
        for fine-tuning a model that is trained already (section 8.3).
    beta : float
        Weight of the rotation term in ``weighted`` and ``caffe``; not portable between the two
        (section 5.1).
    head_weights : tuple of float
        Weight of each head, the main head last.
    rotation : str
        Parametrisation, see `geo_perception.networks.rotation`.
    sign_invariant : bool
        Take the nearer of q and -q (section 5.5); quaternions only.

    """

    def __init__(self, kind='learned', beta=500.0, head_weights=(1.0,), rotation='quaternion',
                 sign_invariant=False):
        super().__init__()
        if kind not in KINDS:
            raise ConfigurationError(
                f'loss kind "{kind}" is unknown; choose one of {", ".join(KINDS)}')
        self.kind, self.beta, self.rotation = kind, beta, rotation
        self.head_weights = tuple(head_weights)
        self.sign_invariant = sign_invariant and rotation == 'quaternion'
        # (s_position, s_rotation) = log variances, shared among heads; never decayed.
        self.log_variance = nn.Parameter(torch.tensor([0.0, -3.0]), kind == 'learned')

    def forward(self, heads, position, rotation, points=None):
        """
        Return the weighted loss.

        Parameters
        ----------
        heads : list of (torch.Tensor, torch.Tensor)
            Predicted position (B, 3) and raw rotation (B, k), the main head last.
        position : torch.Tensor
            Labels, metres, shape (B, 3).
        rotation : torch.Tensor
            Labels as `encode_rotation` gives them, shape (B, k).
        points : torch.Tensor, optional
            World points seen in each image, shape (B, G, 3), for ``reprojection``.

        Returns
        -------
        torch.Tensor
            Scalar, mean over the batch.

        """
        total = 0.0
        for weight, (x, raw) in zip(self.head_weights, heads):
            total = total + weight * self._head_loss(x, raw, position, rotation, points)
        return total

    def _head_loss(self, x, raw, position, rotation, points):
        """Return the loss of one head."""
        if self.kind == 'reprojection':
            return reprojection_error(x, decode_rotation(raw, self.rotation), points, position,
                                      decode_rotation(rotation, self.rotation)).mean()
        if self.kind == 'caffe':
            # Caffe's EuclideanLoss is squared and halved, and the output stays unnormalised.
            squares = (x - position).square().sum(1)
            squares = squares + self.beta * (raw - rotation).square().sum(1)
            return 0.5 * squares.mean()
        predicted = normalise_rotation(raw, self.rotation)
        residual = predicted - rotation
        if self.sign_invariant:
            flipped = -predicted - rotation
            nearer = (predicted * rotation).sum(1, keepdim=True) >= 0
            residual = torch.where(nearer, residual, flipped)
        if self.kind == 'weighted':
            return (euclidean_norm(x - position) + self.beta * euclidean_norm(residual)).mean()
        losses = torch.stack([(x - position).abs().sum(1).mean(), residual.abs().sum(1).mean()])
        return (losses * torch.exp(-self.log_variance) + self.log_variance).sum()
