# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Bags of a few small frames, whole or in parts."""

import numpy as np
import pytest

from geo_perception.datasets.bag import BagSequence
from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.errors import RecordingError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.se3 import make_transform, matrix_from_rotation_vector, R_BODY_OPTICAL

EPOCH = 1_700_000_000 * 10**9
PERIOD = 10**8
FRAMES = 6
OPTICAL = 'camera_optical_frame'
CAMERA = Camera(np.array([[20.0, 0, 15.5], [0, 21.0, 11.5], [0, 0, 1]]), 32, 24, frame_id=OPTICAL)
T_BASE_CAMERA = make_transform(R_BODY_OPTICAL, [0.2, 0.05, 0.4])
IMAGE, INFO, TRUTH = '/camera/image_raw', '/camera/camera_info', '/ground_truth/pose'


def stamp(i):
    """Return the stamp of frame i, which may lie between frames."""
    return EPOCH + round(i * PERIOD)


def base_pose(i):
    """Return where the body is at frame i."""
    return make_transform(matrix_from_rotation_vector([0, 0, 0.3 * i]), [0.5 * i, 0.1 * i, 0.0])


def camera_pose(i):
    """Return where the camera is at frame i."""
    return base_pose(i) @ T_BASE_CAMERA


def picture(i):
    """Return an image that tells its number."""
    return np.full((24, 32, 3), [10 * i, 20 * i, 30 * i], np.uint8)


def write_images(bag, count=FRAMES, topic=IMAGE):
    """Write the images and their calibration."""
    for i in range(count):
        bag.image(topic, stamp(i), OPTICAL, picture(i), 'rgb8')
        bag.camera_info(topic.rpartition('/')[0] + '/camera_info', stamp(i), CAMERA)


def write_tf(bag, parent='odom', static=True):
    """Write the body's transforms, half a period before and after the images too."""
    if static:
        bag.transform(EPOCH, 'base_link', OPTICAL, T_BASE_CAMERA, static=True)
    for i in np.arange(-0.5, FRAMES):
        bag.transform(stamp(i), parent, 'base_link', base_pose(i))


def write_everything(path, storage='mcap'):
    """Write a bag like that of the sample world."""
    with BagWriter(path, storage) as bag:
        write_images(bag)
        write_tf(bag)
        for i in range(FRAMES):
            bag.image('/camera/right/image_raw', stamp(i), 'right', 255 - picture(i), 'rgb8')
            bag.camera_info('/camera/right/camera_info', stamp(i), CAMERA, baseline=0.12)
            bag.image('/camera/depth/image', stamp(i), OPTICAL,
                      np.full((24, 32), i + 0.5, np.float32), '32FC1')
            bag.image('/camera/flow', stamp(i), OPTICAL, np.zeros((24, 32, 2), 'f4'), '32FC2')
            bag.image('/camera/motion_mask', stamp(i), OPTICAL, picture(i)[..., 0], 'mono8')
            bag.pose(TRUTH, stamp(i), 'map', camera_pose(i))
            bag.odometry('/odom', stamp(i), 'odom', 'base_link', base_pose(i))


def bag_with(tmp_path, write, name='bag', **options):
    """Write images and whatever the function adds; open the bag."""
    with BagWriter(tmp_path / name, overwrite=True) as bag:
        write_images(bag)
        write(bag)
    return BagSequence(tmp_path / name, **options)


def write_poses(topic=TRUTH, at=range(FRAMES), pose=camera_pose, shift=0):
    """Return a function that writes PoseStamped."""
    return lambda bag: [bag.pose(topic, stamp(i) + shift, 'map', pose(i)) for i in at]


def refused(words, function, *arguments, **options):
    """Assert that a call is refused in one sentence that holds all the words."""
    with pytest.raises(RecordingError) as caught:
        function(*arguments, **options)
    text = str(caught.value)
    assert '\n' not in text
    for word in words:
        assert word in text, text
    return text


def check_frames(sequence, poses=camera_pose, atol=1e-9):
    """Assert that images, poses and stamps are what was written."""
    assert len(sequence) == FRAMES
    for i in (0, 3, 1, -1):
        frame = sequence[i]
        n = i % FRAMES
        np.testing.assert_array_equal(frame.image, picture(n))
        np.testing.assert_allclose(frame.T_world_camera, poses(n), atol=atol)
        assert frame.stamp == stamp(n) == sequence.stamps[i]
        np.testing.assert_array_equal(frame.T_world_camera, sequence.poses[i])
