# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How a network writes a rotation, and how that becomes a unit quaternion again.

Quaternions are (w, x, y, z), w >= 0 in targets.
"""

import torch
from torch.nn import functional as F

WIDTHS = {'quaternion': 4, 'log_quaternion': 3, 'matrix': 6}


def encode_rotation(quaternion, kind):
    """
    Return the training target of unit quaternions.

    Parameters
    ----------
    quaternion : torch.Tensor
        Canonical unit quaternions, shape (B, 4).
    kind : str
        ``quaternion`` (Kendall 2015); ``log_quaternion``: axis times half angle (Brahmbhatt
        2018, posenet.md section 8.4); ``matrix``: first two columns of the rotation matrix,
        which is continuous all the way round (Zhou 2019, posenet.md section 8.5).

    Returns
    -------
    torch.Tensor
        Shape (B, 4), (B, 3) or (B, 6).

    """
    if kind == 'quaternion':
        return quaternion
    w, v = quaternion[:, :1], quaternion[:, 1:]
    if kind == 'log_quaternion':
        norm = v.norm(dim=1, keepdim=True)
        factor = torch.where(norm > 1e-8, torch.atan2(norm, w) / norm.clamp_min(1e-8), 1.0 / w)
        return v * factor
    x, y, z = v.unbind(1)
    w = w[:, 0]
    return torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y),
                        2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)], 1)


def normalise_rotation(raw, kind):
    """
    Return a network output put onto the manifold of its target.

    Parameters
    ----------
    raw : torch.Tensor
        Network output, shape (B, 4), (B, 3) or (B, 6).
    kind : str
        Parametrisation, as in `encode_rotation`.

    Returns
    -------
    torch.Tensor
        Same shape: unit quaternions, unchanged log-quaternions, or orthonormal columns.

    """
    if kind == 'quaternion':
        return F.normalize(raw, dim=1)
    if kind == 'log_quaternion':
        return raw
    first = F.normalize(raw[:, :3], dim=1)
    second = raw[:, 3:] - (first * raw[:, 3:]).sum(1, keepdim=True) * first
    return torch.cat([first, F.normalize(second, dim=1)], 1)


def decode_rotation(raw, kind):
    """
    Return the rotation matrices that a network output stands for.

    Parameters
    ----------
    raw : torch.Tensor
        Network output, shape (B, 4), (B, 3) or (B, 6).
    kind : str
        Parametrisation, as in `encode_rotation`.

    Returns
    -------
    torch.Tensor
        Shape (B, 3, 3).

    """
    if kind == 'matrix':
        columns = normalise_rotation(raw, kind)
        first, second = columns[:, :3], columns[:, 3:]
        return torch.stack([first, second, torch.linalg.cross(first, second)], 2)
    if kind == 'log_quaternion':
        norm = raw.norm(dim=1, keepdim=True)
        raw = torch.cat([torch.cos(norm), torch.sinc(norm / torch.pi) * raw], 1)
    q = F.normalize(raw, dim=1)
    first = encode_rotation(q, 'matrix')
    return decode_rotation(first, 'matrix')
