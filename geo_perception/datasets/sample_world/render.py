# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
The renderer: exact ray casting against textured rectangles, in NumPy and OpenCV.

On the image of a plane, inverse depth and texture coordinate times inverse depth are linear in
the pixel coordinates. So each rectangle costs a few linear functions over the pixel box of its
projection, and a depth buffer of inverse depth keeps the nearest. Truth is cast through pixel
centres; colour through 2x2 rays a pixel, from mip levels, then averaged over the pixel.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from geo_perception.datasets.sample_world import textures
from geo_perception.geometry.se3 import inverse_transform

_NEAR = 0.02   # metres
# Flow is rounded to this fraction of a pixel: far below what matters, and bags compress to half.
_FLOW_STEPS = np.float32(1024)
_SPOT_STRENGTH, _SPOT_RADIUS = 0.30, 1.5   # relative to the gain, metres


@dataclass(frozen=True)
class View:
    """
    What one camera sees at one instant.

    Attributes
    ----------
    image : np.ndarray
        (H, W, 3) uint8 RGB.
    depth : np.ndarray
        (H, W) float64 metres along the optical axis, at pixel centres.
    body : np.ndarray
        (H, W) uint8, the body each pixel centre sees; 0 stands still.

    """

    image: np.ndarray
    depth: np.ndarray
    body: np.ndarray


def render_view(scene, camera, T_world_camera, body_poses, light):
    """
    Render what a camera inside the room sees.

    Parameters
    ----------
    scene : Scene
        The surfaces.
    camera : Camera
        Intrinsics, no distortion.
    T_world_camera : np.ndarray
        4x4, optical frame.
    body_poses : np.ndarray
        ``T_world_body`` of all bodies at this instant, shape (B, 4, 4).
    light : tuple
        Gain and spot centre, from ``Light.at``.

    Returns
    -------
    View

    """
    planes = _Planes(scene, camera, T_world_camera, body_poses)
    inverse_depth, _, _, face = _cast(planes, camera.width, camera.height, np.float64)
    depth = 1.0 / inverse_depth
    # A texel of a surface seen at a slant covers |ray|^2 / inverse_depth^2 times this constant
    # of a pixel along the slant; half of that, because colour takes two rays a pixel each way.
    rays = camera.rays().astype(np.float32)
    footprint = (planes.footprints[face] * np.sum(rays ** 2, -1)
                 * np.float32(depth) ** 2) / 2
    level = np.log2(np.maximum(footprint, 1.0))
    albedo = _sample(scene.atlas, _cast(planes.supersampled(), 2 * camera.width,
                                        2 * camera.height, np.float32), level)
    brightness = _brightness(rays, np.float32(depth), T_world_camera, light)
    image = cv2.multiply(albedo, cv2.merge([brightness] * 3), dtype=cv2.CV_8U)
    return View(image, depth, planes.bodies[face])


def flow_to(view, camera, T_world_camera, body_poses, T_world_next, body_poses_next):
    """
    Return where every visible surface point is in another image, as pixel displacement.

    Each point rides on its own body, so that moving objects are exact.

    Parameters
    ----------
    view : View
        The view whose pixels are followed.
    camera : Camera
        Intrinsics of both images.
    T_world_camera, T_world_next : np.ndarray
        Camera poses at this and the other instant, 4x4.
    body_poses, body_poses_next : np.ndarray
        ``T_world_body`` at both instants, shape (B, 4, 4).

    Returns
    -------
    np.ndarray
        (H, W, 2) float32 pixels to 1/1024, u right, v down; NaN where the point is then behind the
        camera. Points outside the other image and hidden points keep their true flow.

    """
    v, u = np.mgrid[:camera.height, :camera.width].astype(float)
    flow = np.empty(view.depth.shape + (2,), np.float32)
    for body in np.unique(view.body):
        # K T K^-1 acts on (u, v, 1) and inverse depth; plain sums keep this single-threaded.
        motion = (inverse_transform(T_world_next) @ body_poses_next[body]
                  @ inverse_transform(body_poses[body]) @ T_world_camera)
        A = camera.K @ motion[:3, :3] @ np.linalg.inv(camera.K)
        b = camera.K @ motion[:3, 3]
        seen = view.body == body
        us, vs, inverse = u[seen], v[seen], 1.0 / view.depth[seen]
        x, y, z = (A[i, 0] * us + A[i, 1] * vs + A[i, 2] + b[i] * inverse for i in range(3))
        z[z <= 0] = np.nan
        flow[seen] = np.stack([x / z - us, y / z - vs], -1)
    return np.rint(flow * _FLOW_STEPS) / _FLOW_STEPS


class _Planes:
    """
    The linear functions (a, b, c): a u + b v + c of the faces that may be seen.

    Attributes
    ----------
    inverse_depths : np.ndarray
        Gives 1 / depth, shape (F, 3).
    across, down : np.ndarray
        Gives the texture coordinate in face units (0..1) over depth, shape (F, 3).
    columns, rows : np.ndarray
        Gives the atlas coordinate over depth, outer-edge convention, shape (F, 3).
    boxes : np.ndarray
        Pixel box of each projection: left, right, top, bottom, float, shape (F, 4).
    footprints : np.ndarray
        Texels a pixel, for unit ray and unit depth, shape (F,).
    bodies : np.ndarray
        Body of each face, shape (F,).

    """

    def __init__(self, scene, camera, T_world_camera, body_poses):
        R, t = body_poses[scene.bodies, :3, :3], body_poses[scene.bodies, :3, 3]
        corners, rights, downs, normals = (
            (R @ vectors[..., None])[..., 0]
            for vectors in (scene.corners, scene.rights, scene.downs, scene.normals))
        towards = corners + t - T_world_camera[:3, 3]
        distances = -np.sum(normals * towards, -1)   # of the camera in front of the plane
        R_camera = T_world_camera[:3, :3]
        quads = _quads(towards @ R_camera, rights @ R_camera, downs @ R_camera, scene.sizes)
        boxes, seen = _pixel_boxes(quads, camera, distances > _NEAR)
        towards, rights, downs, normals, distances, sizes = (
            values[seen] for values in (towards, rights, downs, normals, distances,
                                        scene.sizes))
        pixel_rays = R_camera @ np.linalg.inv(camera.K)   # columns: d ray / d(u, v, 1)
        self.inverse_depths = -(normals @ pixel_rays) / distances[:, None]
        offsets = scene.atlas.offsets[seen]
        density = scene.densities[seen]
        self.across, self.down = (
            (axes @ pixel_rays - np.sum(axes * towards, -1)[:, None] * self.inverse_depths)
            / sizes[:, k, None] for k, axes in enumerate((rights, downs)))
        self.columns, self.rows = (
            part * (sizes[:, k] * density)[:, None] + offsets[:, k, None] * self.inverse_depths
            for k, part in enumerate((self.across, self.down)))
        self.boxes = boxes[seen]
        self.footprints = (density / (camera.K[0, 0] * distances)).astype(np.float32)
        self.bodies = scene.bodies[seen].astype(np.uint8)

    def supersampled(self):
        """Return the same planes over the pixels of an image of twice the size."""
        fine = object.__new__(_Planes)
        for name in ('inverse_depths', 'across', 'down', 'columns', 'rows'):
            a, b, c = getattr(self, name).T
            setattr(fine, name, np.stack([a / 2, b / 2, c - (a + b) / 4], -1))
        fine.boxes = self.boxes * 2 + 0.5
        return fine


def _quads(towards, rights, downs, sizes):
    """Return the corners of all faces in the optical frame, shape (F, 4, 3)."""
    across, down = rights * sizes[:, :1], downs * sizes[:, 1:]
    return np.stack([towards, towards + across, towards + across + down, towards + down], 1)


def _pixel_boxes(quads, camera, facing):
    """Return pixel boxes (F, 4) and the indices of the faces that may be in the image."""
    boxes = np.full((len(quads), 4), np.nan)
    for index in np.flatnonzero(facing & (quads[..., 2].max(1) > _NEAR)):
        corners = quads[index]
        z = corners[:, 2]
        if z.min() <= _NEAR:
            following = np.roll(corners, -1, 0)
            crossing = (z > _NEAR) != (following[:, 2] > _NEAR)
            a, b = corners[crossing], following[crossing]
            share = (_NEAR - a[:, 2]) / (b[:, 2] - a[:, 2])
            corners = np.concatenate([corners[z > _NEAR], a + share[:, None] * (b - a)])
        pixels = corners @ camera.K[:2].T / corners[:, 2:]
        boxes[index, 0::2], boxes[index, 1::2] = pixels.min(0), pixels.max(0)
    seen = ((boxes[:, 0] < camera.width) & (boxes[:, 1] > -1)
            & (boxes[:, 2] < camera.height) & (boxes[:, 3] > -1))
    return boxes, np.flatnonzero(seen)


def _cast(planes, width, height, dtype):
    """
    Return the inverse depth, atlas column and row times it, and face of the nearest surface.

    Each has shape (height, width). The room is closed, so every pixel sees a face.
    """
    nearest = np.zeros((height, width), dtype)
    column, row = np.empty_like(nearest), np.empty_like(nearest)
    face = np.empty((height, width), np.uint8)
    # A ray through the very edge of two walls must not slip between them.
    slack = 1e-6
    for index, box in enumerate(planes.boxes):
        left, top = (max(0, int(np.floor(box[k]))) for k in (0, 2))
        right, bottom = (min(n, int(np.ceil(box[k])) + 1)
                         for k, n in ((1, width), (3, height)))
        part = np.s_[top:bottom, left:right]
        u, v = np.arange(left, right, dtype=float), np.arange(top, bottom, dtype=float)

        def linear(coefficients):
            a, b, c = coefficients
            return np.add.outer((b * v + c).astype(dtype), (a * u).astype(dtype))

        inverse = linear(planes.inverse_depths[index])
        hit = inverse > nearest[part]
        reach = inverse * dtype(1 + slack)
        for coordinate in (planes.across[index], planes.down[index]):
            value = linear(coordinate)
            hit &= value <= reach
            value += inverse * dtype(slack)
            hit &= value >= 0
        np.copyto(nearest[part], inverse, where=hit)
        np.copyto(column[part], linear(planes.columns[index]), where=hit)
        np.copyto(row[part], linear(planes.rows[index]), where=hit)
        face[part][hit] = index
    return nearest, column, row, face


def _sample(atlas, cast, level):
    """Return the filtered albedo, (H, W, 3) float32 in 0..255, of rays cast at twice the size."""
    inverse_depth, column, row, _ = cast
    column, row = column / inverse_depth, row / inverse_depth
    size = column.shape[::-1]
    level = np.minimum(level, textures.MIP_LEVELS - 1)
    lower = np.minimum(level.astype(np.intp), textures.MIP_LEVELS - 2)
    colours = []
    for index in (lower, lower + 1):
        scale = cv2.resize(np.float32(0.5) ** index.astype(np.float32), size,
                           interpolation=cv2.INTER_NEAREST)
        maps = [coordinate * scale + cv2.resize(
            atlas.level_offsets[index, axis].astype(np.float32) - np.float32(0.5), size,
            interpolation=cv2.INTER_NEAREST) for axis, coordinate in enumerate((column, row))]
        colour = cv2.remap(atlas.image, *maps, interpolation=cv2.INTER_LINEAR)
        colours.append(cv2.resize(colour, level.shape[::-1], interpolation=cv2.INTER_AREA))
    share = (level - lower)[..., None].astype(np.float32)
    return colours[0] * (1 - share) + colours[1] * share


def _brightness(rays, depth, T_world_camera, light):
    """Return the factor of the light on the albedo of each pixel, (H, W) float32."""
    gain, spot = light
    x, y, z = np.float32((spot - T_world_camera[:3, 3]) @ T_world_camera[:3, :3])
    squared = ((rays[..., 0] * depth - x) ** 2 + (rays[..., 1] * depth - y) ** 2
               + (depth - z) ** 2)
    return np.float32(gain) * (1 + np.float32(_SPOT_STRENGTH) * cv2.exp(
        squared * np.float32(-0.5 / _SPOT_RADIUS ** 2)))
