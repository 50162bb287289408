# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A box with random pictures on its walls: exact images, depth and poses in milliseconds."""

from functools import lru_cache

import cv2
import numpy as np

from geo_perception.datasets.frame import Frame
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.se3 import make_transform, matrix_from_rotation_vector, R_BODY_OPTICAL

CAMERA = Camera(np.array([[260.0, 0, 159.5], [0, 260.0, 119.5], [0, 0, 1]]), 320, 240)
HALF = np.array([3.0, 2.5, 1.5])   # of the room, metres
_TEXELS_PER_METRE = 160


@lru_cache(maxsize=4)
def _walls(seed):
    """Return six pictures, (axis, side) to grey."""
    random = np.random.default_rng(seed)
    walls = {}
    for axis in range(3):
        for side in (-1, 1):
            size = np.delete(HALF, axis)[::-1] * 2 * _TEXELS_PER_METRE
            picture = np.zeros(size.astype(int), np.float32)
            for cell in (8, 20, 60):
                small = random.uniform(size=(int(size[0] / cell) + 2, int(size[1] / cell) + 2))
                picture += cv2.resize(small.astype(np.float32), picture.shape[::-1],
                                      interpolation=cv2.INTER_CUBIC)
            walls[axis, side] = np.clip(picture * 85, 0, 255)
    return walls


def render(T_world_camera, seed=0):
    """Return the image (H, W, 3) and the depth (H, W) from a pose inside."""
    rays = CAMERA.rays() @ T_world_camera[:3, :3].T
    origin = T_world_camera[:3, 3]
    image = np.zeros(rays.shape[:2], np.float32)
    depth = np.full(rays.shape[:2], np.inf)
    for (axis, side), picture in _walls(seed).items():
        with np.errstate(divide='ignore', invalid='ignore'):
            z = (side * HALF[axis] - origin[axis]) / rays[..., axis]
        hit = origin + z[..., None] * rays
        others = [i for i in range(3) if i != axis]
        inside = (z > 0) & (np.abs(hit[..., others]) <= HALF[others] + 1e-9).all(-1) & (z < depth)
        u, v = (((hit[..., i] + HALF[i]) * _TEXELS_PER_METRE).astype(np.float32) for i in others)
        seen = cv2.remap(picture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        image = np.where(inside, seen, image)
        depth = np.where(inside, z, depth)
    return np.repeat(image[..., None], 3, 2).astype(np.uint8), depth.astype(np.float32)


def look_around(count, seed=0, turn=0.0):
    """Return poses along a path that turns through the room, shape (N, 4, 4)."""
    random = np.random.default_rng(seed)
    t = np.linspace(0, 1, count)
    phase = random.uniform(-0.3, 0.3, 3)
    poses = []
    for s in t:
        yaw = turn + 1.6 * s + 0.1 * np.sin(9 * s + phase[0])
        position = (1.2 * np.cos(2 * s + phase[1]) - 1.0, 1.1 * np.sin(3 * s + phase[2]),
                    0.2 * np.sin(5 * s))
        R = matrix_from_rotation_vector([0.0, 0.0, yaw]) @ matrix_from_rotation_vector(
            [0.0, 0.1 * np.sin(7 * s), 0.0]) @ R_BODY_OPTICAL
        poses.append(make_transform(R, position))
    return np.array(poses)


class Recording:
    """A Sequence of rendered frames; only some rows of each where asked for."""

    world_frame = 'room'

    def __init__(self, poses, seed=0, with_depth=True, rows=slice(None)):
        self.poses = np.asarray(poses)
        self.stamps = np.arange(len(self.poses), dtype=np.int64) * 33_000_000
        self._noise, self._with_depth, self._rows = seed, with_depth, rows
        self._frames = {}

    def __len__(self):
        return len(self.poses)

    def __getitem__(self, index):
        if index not in self._frames:
            image, depth = render(self.poses[index])
            noise = np.random.default_rng((self._noise, index)).normal(0, 3, image.shape)
            image = np.clip(image + noise, 0, 255).astype(np.uint8)[self._rows]
            top = self._rows.start or 0
            camera = CAMERA.cropped(0, top, 320, len(image))
            self._frames[index] = Frame(
                int(self.stamps[index]), image, f'frame {index}', camera, self.poses[index],
                depth[self._rows] if self._with_depth else None)
        return self._frames[index]
