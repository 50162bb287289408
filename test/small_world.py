# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A drive along a textured wall, as a ROS 2 bag: small enough to train on within a test."""

import cv2
import numpy as np

from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.se3 import (
    make_transform, matrix_from_rotation_vector, R_BODY_OPTICAL)

CAMERA = Camera(np.array([[80.0, 0, 47.5], [0, 80, 31.5], [0, 0, 1]]), 96, 64,
                frame_id='camera')
# Of the positions, metres.
EXTENT = np.linalg.norm([0.6, 1.0])


def poses(n, phase=0.0):
    """Return poses on an ellipse in front of the wall, looking at it, z up."""
    a = 2 * np.pi * (np.arange(n) + phase) / n
    yaw = np.stack([0 * a, 0 * a, 0.3 * np.sin(a + 0.5)], 1)
    position = np.stack([0.3 * np.cos(a), 0.5 * np.sin(a), np.full(n, 1.0)], 1)
    return make_transform(matrix_from_rotation_vector(yaw) @ R_BODY_OPTICAL, position)


def view(T):
    """Return image and depth from a pose; the wall is the plane x = 3 of the world."""
    random = np.random.default_rng(0)
    texture = cv2.resize(random.integers(0, 255, (40, 80, 3), np.uint8), (1600, 800),
                         interpolation=cv2.INTER_CUBIC)
    rays = CAMERA.rays() @ T[:3, :3].T
    depth = (3 - T[0, 3]) / rays[..., 0]
    point = T[:3, 3] + rays * depth[..., None]
    u = (800 + point[..., 1] * 250).astype(np.float32)
    v = (400 - (point[..., 2] - 1) * 250).astype(np.float32)
    image = cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return image, depth.astype(np.float32)


def write_damaged_image(bag, topic, stamp):
    """Write an image of which most is missing."""
    bag.write(topic, stamp, bag.typestore.types['sensor_msgs/msg/Image'](
        header=bag._header(stamp, 'camera'), height=64, width=96, encoding='rgb8',
        is_bigendian=0, step=3 * 96, data=np.zeros(40, np.uint8)))


def write_drive(path, n, phase=0.0, with_poses=True, change=None, damaged=()):
    """Write the bag; ``change`` may replace any pose, given its index and itself."""
    with BagWriter(path) as bag:
        for i, T in enumerate(poses(n, phase)):
            image, depth = view(T)
            stamp = 10 ** 9 + i * 10 ** 8
            if i in damaged:
                write_damaged_image(bag, '/camera/image_raw', stamp)
            else:
                bag.image('/camera/image_raw', stamp, 'camera', image, 'rgb8')
            bag.camera_info('/camera/camera_info', stamp, CAMERA)
            bag.image('/camera/depth/image', stamp, 'camera', depth, '32FC1')
            if with_poses:
                bag.pose('/pose', stamp, 'map', T if change is None else change(i, T))
    return path
