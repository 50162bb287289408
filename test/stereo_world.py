# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Stereo pairs of the sample world as a small bag."""

import numpy as np

from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.datasets.sample_world.world import BASELINE, SampleWorld
from geo_perception.geometry.camera import Camera

CAMERA = Camera(np.array([[88.0, 0, 63.9], [0, 88.0, 47.6], [0, 0, 1]]), 128, 96,
                frame_id='camera')
SPACING = 12   # frames of the world between two pairs


def write_pairs(path, name, pairs, alter=None, told=BASELINE):
    """Write pairs with true depth and a baseline as told; ``alter`` may change each frame."""
    drive = SampleWorld(0, CAMERA).drive(name, SPACING * pairs)
    with BagWriter(path) as bag:
        for i in range(pairs):
            frame = drive[SPACING * i]
            left, right = frame.image, frame.right
            if alter is not None:
                left, right = alter(left, right)
            for eye, image, baseline in (('left', left, 0.0), ('right', right, told)):
                bag.image(f'/{eye}/image_rect', frame.stamp, 'camera', image, 'rgb8')
                bag.camera_info(f'/{eye}/camera_info', frame.stamp, CAMERA, baseline)
            bag.image('/left/depth/image', frame.stamp, 'camera', frame.depth, '32FC1')
    return path
