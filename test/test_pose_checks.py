# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Broken labels and labels in the wrong convention are found; right ones are left alone."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geo_perception.datasets.pose_checks import check_poses, estimate_gravity
from geo_perception.datasets.pose_image_check import check_recording, compare_with_images
from geo_perception.errors import PoseError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.se3 import inverse_transform, make_transform
from geo_perception.geometry.se3 import matrix_from_rotation_vector, R_BODY_OPTICAL

N = 200


def heading(yaw):
    """Return the rotations of upright cameras in a z-up world."""
    zero = np.zeros_like(yaw)
    return matrix_from_rotation_vector(np.stack([zero, zero, yaw], -1)) @ R_BODY_OPTICAL


def drive():
    """Return poses along a figure eight, far from the origin, looking ahead."""
    t = np.linspace(0, 2 * np.pi, N)
    positions = np.stack([5 + 3 * np.cos(t), 2 + 2 * np.sin(2 * t), np.full(N, 1.2)], 1)
    velocity = np.gradient(positions, axis=0)
    return make_transform(heading(np.arctan2(velocity[:, 1], velocity[:, 0])), positions)


def turn_on_the_spot():
    """Return poses of a camera that turns and hardly moves."""
    rng = np.random.default_rng(0)
    return make_transform(heading(np.linspace(0, 6, N)),
                          [3, 2, 1] + 0.01 * rng.normal(size=(N, 3)))


def carried_by_hand():
    """Return poses that wander and look about in all ways, a little tilted."""
    rng = np.random.default_rng(1)

    def wander(scale):
        return scale * np.cumsum(np.cumsum(rng.normal(size=(N, 3)), 0), 0) / N

    tilt = Rotation.from_rotvec(0.15 * np.sin(wander(0.3))).as_matrix()
    return make_transform(heading(np.cumsum(rng.normal(size=N)) * 0.1) @ tilt,
                          [1, 2, 1.5] + wander(0.1))


def in_first_camera(poses):
    """Return the poses in a world with the axes of the first camera."""
    return inverse_transform(poses[0]) @ poses


def rotations_inverted(poses):
    """Return what comes of taking Cambridge quaternions for camera-to-world."""
    return make_transform(np.swapaxes(poses[:, :3, :3], 1, 2), poses[:, :3, 3])


WALKS = [drive, turn_on_the_spot, carried_by_hand]


@pytest.mark.parametrize('walk', WALKS)
@pytest.mark.parametrize('world', [lambda poses: poses, in_first_camera])
def test_right_poses_raise_no_suspicion(walk, world):
    poses = world(walk())
    report = check_poses(poses)
    assert report.findings == [] and report.suspicion is None and report.valid.all()
    down = poses[0, :3, :3] @ walk()[0, :3, :3].T @ [0, 0, -1]
    assert report.gravity_in_world @ down > 0.99


@pytest.mark.parametrize('walk', WALKS)
def test_world_to_camera_is_found_in_a_world_with_z_up(walk):
    report = check_poses(inverse_transform(walk()))
    assert report.suspicion == 'world_to_camera'
    assert len(report.findings) == 1 and 'world-to-camera' in report.findings[0]
    assert report.gravity_in_world is None and report.valid.all()


def test_inverted_quaternions_are_told_from_inverted_poses():
    report = check_poses(rotations_inverted(drive()))
    assert report.suspicion == 'rotation_world_to_camera'
    assert 'quaternion' in report.findings[0]


def test_motion_tells_where_gravity_cannot():
    poses = in_first_camera(drive())
    assert check_poses(inverse_transform(poses)).suspicion == 'world_to_camera'
    assert check_poses(rotations_inverted(poses)).suspicion == 'rotation_world_to_camera'


def test_poses_of_the_body_are_found():
    poses = drive()
    poses[:, :3, :3] = poses[:, :3, :3] @ R_BODY_OPTICAL.T
    report = check_poses(poses)
    assert report.suspicion == 'body_frame' and 'pose_frame' in report.findings[0]
    assert report.gravity_in_world is None


@pytest.mark.parametrize('down', [(0, 0, -1), (0, 1, 0), (0, -0.99, -0.13), (0.03, 1, 0.02)])
def test_gravity_in_any_world(down):
    down = np.array(down) / np.linalg.norm(down)
    R, _ = Rotation.align_vectors([down], [[0, 0, -1]])
    poses = make_transform(R.as_matrix(), np.zeros(3)) @ carried_by_hand()
    assert estimate_gravity(poses) @ down > 0.995


def test_gravity_of_a_camera_that_never_turns():
    poses = np.tile(make_transform(heading(np.array([0.3]))[0], np.zeros(3)), (20, 1, 1))
    poses[:, 0, 3] = np.arange(20)
    np.testing.assert_allclose(check_poses(poses).gravity_in_world, [0, 0, -1], atol=1e-9)


def test_broken_poses_are_marked_and_counted():
    poses = drive()
    poses[3, 0, 0] = np.nan
    poses[7, :3, :3] *= 1.5
    poses[9, 0, 3] = 3.1e9      # as in Great Court
    report = check_poses(poses, [f'frame{i:05d}.png' for i in range(N)])
    assert np.flatnonzero(~report.valid).tolist() == [3, 7, 9]
    broken, outlier = report.findings
    assert '2 of 200 poses' in broken and 'frame00003.png' in broken
    assert '1 of 200 poses' in outlier and 'frame00009.png' in outlier and '3.1e+09' in outlier
    assert report.gravity_in_world @ [0, 0, -1] > 0.99


def test_an_outlier_among_few():
    poses = drive()[:20]
    poses[5, 2, 3] = 1e4
    assert np.flatnonzero(~check_poses(poses).valid).tolist() == [5]


def test_a_standing_camera_has_no_outliers():
    poses = np.tile(np.eye(4), (30, 1, 1))
    poses[3, 0, 3] = 1e-3
    assert check_poses(poses).findings == []


@pytest.mark.parametrize('poses, words', [
    (np.full((3, 4, 4), np.nan), 'no pose can be used'), (np.eye(4), r'shape \(N, 4, 4\)'),
    (np.zeros((0, 4, 4)), r'shape \(N, 4, 4\)'), (np.zeros((2, 3, 4)), r'shape \(N, 4, 4\)')])
def test_hopeless_poses_are_refused(poses, words):
    with pytest.raises(PoseError, match=words):
        check_poses(poses)


@pytest.fixture(scope='module')
def panorama():
    """Return poses and images of a camera that pans and tilts inside a textured sphere."""
    rng = np.random.default_rng(0)
    texture = cv2.resize(rng.integers(0, 256, (90, 180, 3)).astype(np.uint8), (1440, 720),
                         interpolation=cv2.INTER_CUBIC)
    camera = Camera(np.array([[160.0, 0, 119.5], [0, 160.0, 89.5], [0, 0, 1]]), 240, 180)
    t = np.arange(24)
    rotations = Rotation.from_euler('YX', np.stack([0.07 * t, 0.15 * np.sin(t)], 1)).as_matrix()
    images = []
    for R in rotations:
        x, y, z = np.moveaxis(camera.rays() @ R.T, -1, 0)
        u = (np.arctan2(x, z) / (2 * np.pi) + 0.5) * 1440
        v = (np.arctan2(y, np.hypot(x, z)) / np.pi + 0.5) * 720
        images.append(cv2.remap(texture, u.astype(np.float32), v.astype(np.float32),
                                cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP))
    return make_transform(rotations, np.zeros((24, 3))), images, camera


class Recorded(list):
    """Frames with poses."""

    def __init__(self, poses, images, camera):
        super().__init__(SimpleNamespace(image=image, camera=camera) for image in images)
        self.poses = poses


def test_images_contradict_inverted_and_body_poses(panorama):
    poses, images, camera = panorama
    body = poses.copy()
    body[:, :3, :3] = poses[:, :3, :3] @ R_BODY_OPTICAL.T
    for given, expected in ((poses, None), (inverse_transform(poses), 'world_to_camera'),
                            (body, 'body_frame')):
        suspicion, finding = compare_with_images(Recorded(given, images, camera), pairs=5)
        assert suspicion == expected
        assert expected is None or 'images turn otherwise' in finding
    # Without intrinsics it still tells.
    wrong = Recorded(inverse_transform(poses), images, None)
    report = check_recording(wrong, pairs=5)
    assert report.suspicion == 'world_to_camera' and len(report.findings) == 1


def test_images_without_texture_say_nothing(panorama):
    poses, images, camera = panorama
    blank = [np.zeros_like(image) for image in images]
    assert compare_with_images(Recorded(inverse_transform(poses), blank, camera)) == (None, None)
