# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Projection that gradients flow through: ego-motion vectors, rigid flow (sfmlearner.md section 3).

Pixel centres are integers; ``T_source_target`` maps points in the target camera to the source
camera.
"""

import torch

from geo_perception.geometry.constants import constant

# Nearer than this, or behind the camera, a point has no image.
SMALLEST_Z = 1e-3


def pose_vector_to_matrix(poses):
    """
    Return the rigid motions that ego-motion vectors stand for (sfmlearner.md section 3.2).

    Parameters
    ----------
    poses : torch.Tensor
        (tx, ty, tz, rx, ry, rz), radians, shape (..., 6).

    Returns
    -------
    torch.Tensor
        ``T_source_target`` with ``R = Rx Ry Rz``, shape (..., 4, 4).

    """
    t, angles = poses.split(3, -1)
    angles = angles.clamp(-torch.pi, torch.pi)
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(-1), angles.sin().unbind(-1)
    R = torch.stack([cy * cz, -cy * sz, sy,
                     cx * sz + sx * sy * cz, cx * cz - sx * sy * sz, -sx * cy,
                     sx * sz - cx * sy * cz, sx * cz + cx * sy * sz, cx * cy], -1)
    upper = torch.cat([R.unflatten(-1, (3, 3)), t[..., None]], -1)
    lower = constant(upper, 0.0, 0.0, 0.0, 1.0).expand(*upper.shape[:-2], 1, 4)
    return torch.cat([upper, lower], -2)


def matrix_to_pose_vector(T):
    """
    Return the ego-motion vectors of rigid motions, the inverse of `pose_vector_to_matrix`.

    Parameters
    ----------
    T : torch.Tensor
        Turning by less than a quarter about the second axis, shape (..., 4, 4).

    Returns
    -------
    torch.Tensor
        (tx, ty, tz, rx, ry, rz), radians, shape (..., 6).

    """
    R = T[..., :3, :3]
    ry = torch.asin(R[..., 0, 2].clamp(-1 + 1e-6, 1 - 1e-6))
    rx = torch.atan2(-R[..., 1, 2], R[..., 2, 2])
    rz = torch.atan2(-R[..., 0, 1], R[..., 0, 0])
    return torch.cat([T[..., :3, 3], torch.stack([rx, ry, rz], -1)], -1)


def rigid_from_twist(twist):
    """
    Return the rigid motions that small twists stand for: translation, and rotation by Rodrigues.

    Parameters
    ----------
    twist : torch.Tensor
        (translation, rotation vector), radians, shape (..., 6).

    Returns
    -------
    torch.Tensor
        Shape (..., 4, 4).

    """
    t, omega = twist.split(3, -1)
    squared = omega.square().sum(-1)[..., None, None]
    # sin(a) / a and (1 - cos(a)) / a^2 with a gradient at zero.
    angle = (squared + 1e-12).sqrt()
    x, y, z = omega.unbind(-1)
    nothing = torch.zeros_like(x)
    cross = torch.stack([nothing, -z, y, z, nothing, -x, -y, x, nothing], -1).unflatten(-1, (3, 3))
    eye = torch.eye(3, device=twist.device, dtype=twist.dtype)
    R = eye + angle.sin() / angle * cross + (1 - angle.cos()) / angle.square() * (cross @ cross)
    upper = torch.cat([R, t[..., None]], -1)
    lower = constant(upper, 0.0, 0.0, 0.0, 1.0).expand(*upper.shape[:-2], 1, 4)
    return torch.cat([upper, lower], -2)


def invert_rigid(T):
    """
    Return the inverse of rigid motions.

    Parameters
    ----------
    T : torch.Tensor
        Shape (..., 4, 4).

    Returns
    -------
    torch.Tensor
        Shape (..., 4, 4).

    """
    R = T[..., :3, :3].mT
    upper = torch.cat([R, -R @ T[..., :3, 3:]], -1)
    return torch.cat([upper, T[..., 3:, :]], -2)


def pyramid_intrinsics(K, levels, exact=False):
    """
    Return the intrinsics of an image pyramid whose levels halve the size.

    Parameters
    ----------
    K : torch.Tensor
        Intrinsics of the full image, shape (B, 3, 3).
    levels : int
        How many, the full image included.
    exact : bool
        Whether the principal point follows the centres of averaged pixels; published code
        divides it as it does the focal length, up to 0.44 pixels off (section 3.1).

    Returns
    -------
    list of torch.Tensor
        Shapes (B, 3, 3), the full image first.

    """
    pyramid = []
    for level in range(levels):
        scale = constant(K, 1.0, 1.0, 2.0 ** level)[:, None]
        K_level = K * scale / 2.0 ** level
        if exact:
            K_level[:, :2, 2] += 0.5 / 2.0 ** level - 0.5
        pyramid.append(K_level)
    return pyramid


def pixel_grid(height, width, like):
    """
    Return the homogeneous coordinates of all pixels.

    Parameters
    ----------
    height, width : int
        Pixels.
    like : torch.Tensor
        Gives device and dtype.

    Returns
    -------
    torch.Tensor
        (x, y, 1), shape (3, H, W).

    """
    y, x = torch.meshgrid(torch.arange(height, device=like.device, dtype=like.dtype),
                          torch.arange(width, device=like.device, dtype=like.dtype),
                          indexing='ij')
    return torch.stack([x, y, torch.ones_like(x)])


def viewing_rays(T_source_target, K, height, width):
    """
    Return what projection needs besides depth: ``K R K^-1 (x, y, 1)`` and ``K t``.

    Parameters
    ----------
    T_source_target : torch.Tensor
        Shape (..., 4, 4).
    K : torch.Tensor
        Intrinsics of both images, a shape that broadcasts to (..., 3, 3).
    height, width : int
        Pixels of the target.

    Returns
    -------
    rays : torch.Tensor
        Shape (..., 3, H, W).
    offset : torch.Tensor
        Shape (..., 3, 1, 1).

    """
    H = K @ T_source_target[..., :3, :3] @ torch.linalg.inv(K)
    x, y = (torch.arange(n, device=K.device, dtype=H.dtype) for n in (width, height))
    # An affine map of x and y: one addition a pixel instead of a matrix product.
    along_x, along_y, constant = (H[..., i, None] for i in range(3))
    rays = (along_x * x)[..., None, :] + (along_y * y + constant)[..., None]
    return rays, (K @ T_source_target[..., :3, 3:])[..., None]


def project_rays(rays, offset, depth):
    """
    Return where the surfaces on viewing rays lie in the source image.

    Parameters
    ----------
    rays, offset : torch.Tensor
        From `viewing_rays`, shapes (..., 3, H, W) and (..., 3, 1, 1).
    depth : torch.Tensor
        Of the target, a shape that broadcasts to (..., 1, H, W).

    Returns
    -------
    pixels : torch.Tensor
        (x, y) in the source, shape (..., 2, H, W).
    z : torch.Tensor
        Depth in the source, shape (..., 1, H, W); the pixel means nothing where it is below
        `SMALLEST_Z`.

    """
    points = torch.addcmul(offset, rays, depth)
    z = points[..., 2:, :, :]
    return points[..., :2, :, :] / z.clamp_min(SMALLEST_Z), z


def project_pixels(depth, T_source_target, K):
    """
    Return where the surfaces seen in each pixel of the target lie in the source image.

    Parameters
    ----------
    depth : torch.Tensor
        Of the target, shape (B, 1, H, W).
    T_source_target : torch.Tensor
        Shape (B, 4, 4).
    K : torch.Tensor
        Intrinsics of both, shape (B, 3, 3).

    Returns
    -------
    pixels, z : torch.Tensor
        As from `project_rays`, shapes (B, 2, H, W) and (B, 1, H, W).

    """
    return project_rays(*viewing_rays(T_source_target, K, *depth.shape[2:]), depth)


def rigid_flow(depth, T_source_target, K):
    """
    Return the optical flow of a scene that stands still (geonet.md section 3).

    Parameters
    ----------
    depth, T_source_target, K : torch.Tensor
        As for `project_pixels`.

    Returns
    -------
    flow : torch.Tensor
        From target to source, pixels, (u right, v down), shape (B, 2, H, W).
    valid : torch.Tensor
        Whether the point is in front of the source camera, bool, shape (B, 1, H, W).

    """
    pixels, z = project_pixels(depth, T_source_target, K)
    return pixels - pixel_grid(*depth.shape[2:], depth)[:2], z > SMALLEST_Z
