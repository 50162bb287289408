# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A geometry pipeline whose networks know the truth: all but them is the real one."""

from unittest import mock

import cv2
import numpy as np
from small_world import CAMERA, view
from tiny_geometry_model import write_geometry_model

from geo_perception.datasets.frame import Frame
from geo_perception.geometry.se3 import (
    inverse_transform, make_transform, matrix_from_rotation_vector, R_BODY_OPTICAL)
from geo_perception.inference.geometry import GeometryPipeline
from geo_perception.inference.motion_uncertainty import MotionCalibration
from geo_perception.inference.rectification import Rectifier
from geo_perception.inference.scale import ScaleOptions
from geo_perception.model_file import load_model_file
from geo_perception.preprocessing import Preprocessing

# Of the networks that know everything but the size of the world.
METRES_PER_UNIT = 2.0
SECOND = 10 ** 9
TENTH = SECOND // 10


class _TrueNetworks:
    """Knows the depth and the pose of each crop that it is given."""

    memory, keeps_key_frames = 1, False

    def __init__(self, frames, preprocessing):
        self.frames = {}
        rectify = Rectifier(preprocessing)
        for frame in frames:
            crop, _ = rectify(frame.image, frame.camera)
            size = preprocessing.resized_size(*frame.image.shape[1::-1])
            depth = cv2.resize(frame.depth, size, interpolation=cv2.INTER_NEAREST)
            depth = np.array(preprocessing.centre_crop(depth) / METRES_PER_UNIT, np.float32)
            self.frames[crop.tobytes()] = depth, frame.T_world_camera

    def describe(self):
        """Return what the real one says about its engine."""
        return 'truth'

    def focal_ratio(self, camera):
        """Return that all cameras are alike."""
        return 1.0

    def depth(self, crop):
        """Return the depth of a crop."""
        return self.frames[crop.tobytes()][0]

    def motion(self, earlier, previous, current, guess):
        """Return the motion between two views."""
        T, T_now = (self.frames[view.crop.tobytes()][1] for view in (previous, current))
        motion = inverse_transform(T) @ T_now
        motion[:3, 3] /= METRES_PER_UNIT
        return motion

    def __call__(self, *arguments):
        """Return depth of (crop, focal ratio), motion of (earlier, previous, current, guess)."""
        return self.depth(arguments[0]) if len(arguments) == 2 else self.motion(*arguments)


def true_pipeline(folder, frames, preprocessing=None, scale=ScaleOptions('constant', 2.0),
                  calibration=MotionCalibration(), odometry='network', others=()):
    """
    Return a pipeline for the given frames, each with image, camera, pose and depth.

    Its networks say the truth in units of 2 m; with the default scale depth and odometry are
    exact, with ``ScaleOptions('none')`` they are half as large. With ``odometry='hybrid'`` corners
    are followed, at the scale of the true depth.
    """
    changes = {} if preprocessing is None else {'preprocessing': preprocessing}
    path = write_geometry_model(
        folder / 'true.safetensors',
        calibration={'metres_per_unit': METRES_PER_UNIT, **calibration.entries(), **dict(others)},
        **changes)
    model = load_model_file(path)
    networks = _TrueNetworks(frames, model.metadata.preprocessing)

    def truth(*arguments):
        return networks

    with mock.patch.multiple('geo_perception.inference.geometry', DepthNetwork=truth,
                             build_motion=truth):
        return GeometryPipeline(model, scale=scale, odometry=odometry)


def pose(x=0.0, y=0.0, z=1.0, yaw=0.0):
    """Return the pose of a level camera in front of the wall."""
    R = matrix_from_rotation_vector([0, 0, yaw]) @ R_BODY_OPTICAL
    return make_transform(R, [x, y, z])


def drive(poses):
    """Return frames along a way, a tenth of a second apart."""
    frames = []
    for i, T in enumerate(poses):
        image, depth = view(T)
        frames.append(Frame(SECOND + i * TENTH, cv2.GaussianBlur(image, (7, 7), 0), f'{i}',
                            CAMERA, T, depth))
    return frames


def curved_drive():
    """Return frames of a curved drive."""
    a = np.linspace(0, 1.5, 12)
    return drive([pose(0.4 * s, 0.5 * np.sin(s), 1 + 0.1 * s, 0.2 * np.cos(3 * s)) for s in a])


def run(pipeline, frames, **changes):
    """Return the results of frames."""
    return [pipeline(f.image, f.camera, f.stamp, **changes) for f in frames]


# For images of the sample world, 320x240 pixels.
SAMPLE_PREPROCESSING = Preprocessing(96, (96, 128), mean=(127.5,) * 3, std=(127.5,) * 3)
