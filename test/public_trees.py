# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Small trees of files as KITTI and Cityscapes lay them out, with drawings that move."""

import json

import cv2
import numpy as np

from geo_perception.geometry.camera import Camera
from geo_perception.geometry.se3 import make_transform, matrix_from_rotation_vector

# A third of KITTI's size.
CAMERA = Camera(np.array([[240.0, 0, 203.2], [0, 240.0, 57.6], [0, 0, 1]]), 414, 126)
BASELINE = 0.54
# Position of camera 0 in camera 2.
OFFSET = np.array([0.06, -0.001, 0.003])
R_RECT = matrix_from_rotation_vector([0.01, -0.02, 0.005])
T_CAMERA0_VELODYNE = make_transform(
    matrix_from_rotation_vector([0.01, 0.02, -0.01])
    @ np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), [0.0, -0.08, -0.27])
T_VELODYNE_IMU = make_transform(matrix_from_rotation_vector([0.0, 0.01, 0.02]), [-0.8, 0.3, -0.8])
# From the frame of the scanner to pixels of camera 2.
P = CAMERA.K @ np.hstack([np.eye(3), OFFSET[:, None]]) @ make_transform(R_RECT, np.zeros(3)) \
    @ T_CAMERA0_VELODYNE
EARTH = 6378137.0
DAY = '2011_09_26'
FIRST = 1317042145_964389445   # of the stamps, nanoseconds


def picture(i, size=(CAMERA.width, CAMERA.height), speed=6):
    """Return a textured wall that has passed by ``i`` steps."""
    width, height = size
    blocks = np.random.default_rng(7).integers(0, 255, (height // 8 + 1, 120, 3), np.uint8)
    wall = cv2.resize(blocks, (960, 8 * len(blocks)), interpolation=cv2.INTER_LINEAR)
    return wall[:height, speed * i:speed * i + width]


def write_image(path, image):
    """Write an RGB or 16-bit picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)


def body_poses(n):
    """Return poses of the GPS/IMU unit in a map of east, north, up."""
    rotations = np.stack([[0.01 * i, -0.02 * i, 0.4 + 0.05 * i] for i in range(n)])
    return [(make_transform(_rotation(*angles), [3.0 * i, 1.0 * i, 100 + 0.1 * i]), angles)
            for i, angles in enumerate(rotations)]


def _rotation(roll, pitch, yaw):
    x, y, z = np.diag([roll, pitch, yaw])
    return (matrix_from_rotation_vector(z) @ matrix_from_rotation_vector(y)
            @ matrix_from_rotation_vector(x))


def scan(i):
    """Return points of the laser: a wall ahead, some behind, some beside."""
    points = np.random.default_rng(i).uniform([-5, -12, -2, 0], [40, 12, 2, 1], (3000, 4))
    return points.astype('<f4')


def dumb_depth(points, published):
    """Return laser depth point by point."""
    depth = np.full((CAMERA.height, CAMERA.width), np.nan)
    for x, y, z, _ in points.astype(float):
        u, v, w = P @ [x, y, z, 1]
        if x < 0 or (w <= 0 and not published):
            continue
        column, row = round(u / w), round(v / w)
        if published:
            column, row = column - 1, row - 1
        if 0 <= column < CAMERA.width and 0 <= row < CAMERA.height:
            value = x if published else w
            if not depth[row, column] <= value:
                depth[row, column] = value
    return depth


def write_kitti_raw(root, number=1, n=6, cameras=(2, 3), day=DAY, poses=True, scans=True,
                    speed=6):
    """Write a drive and the calibration of its day; return the drive."""
    drive = root / day / f'{day}_drive_{number:04d}_sync'
    for camera in cameras:
        folder = drive / f'image_0{camera}'
        for i in range(n):
            write_image(folder / 'data' / f'{i:010d}.png', picture(i + 3 * (camera - 2),
                                                                   speed=speed))
        (folder / 'timestamps.txt').write_text(''.join(
            f'2011-09-26 13:02:{25 + (964389445 + i * 10**8) // 10**9}.'
            f'{(964389445 + i * 10**8) % 10**9:09d}\n' for i in range(n)))
    if scans:
        (drive / 'velodyne_points' / 'data').mkdir(parents=True)
        for i in range(n):
            scan(i).tofile(drive / 'velodyne_points' / 'data' / f'{i:010d}.bin')
    if poses:
        (drive / 'oxts' / 'data').mkdir(parents=True)
        scale = np.cos(np.deg2rad(49.0))
        for i, (T, angles) in enumerate(body_poses(n)):
            x, y, z = T[:3, 3]
            # The scale is that of the first latitude, which is where y is 0.
            north = scale * EARTH * np.log(np.tan(np.pi / 4 + np.deg2rad(49.0) / 2)) + y
            lat = np.rad2deg(2 * np.arctan(np.exp(north / (scale * EARTH))) - np.pi / 2)
            lon = 8.4 + np.rad2deg(x / (scale * EARTH))
            numbers = [lat, lon, z, *angles, *range(24)]
            (drive / 'oxts' / 'data' / f'{i:010d}.txt').write_text(
                ' '.join(f'{v:.14f}' for v in numbers) + '\n')
    write_calibration(drive.parent)
    return drive


def write_calibration(day, camera=CAMERA):
    """Write the three calibration files of a date."""
    def line(name, values):
        return f'{name}: ' + ' '.join(f'{v:.12e}' for v in np.ravel(values)) + '\n'

    text = 'calib_time: 09-Jan-2012 13:57:47\ncorner_dist: 9.95e-02\n' + line('R_rect_00', R_RECT)
    for index, shift in ((2, 0.0), (3, -BASELINE)):
        P = camera.K @ np.hstack([np.eye(3), (OFFSET + [shift, 0, 0])[:, None]])
        text += line(f'S_rect_0{index}', [camera.width, camera.height])
        text += line(f'P_rect_0{index}', P)
    (day / 'calib_cam_to_cam.txt').write_text(text)
    for name, T in (('velo_to_cam', T_CAMERA0_VELODYNE), ('imu_to_velo', T_VELODYNE_IMU)):
        (day / f'calib_{name}.txt').write_text(
            'calib_time: 15-Mar-2012 11:37:16\n' + line('R', T[:3, :3]) + line('T', T[:3, 3]))


def write_kitti_odometry(root, name='00', n=8):
    """Write the colour images and calibration of a sequence; no poses."""
    folder = root / 'sequences' / name
    for i in range(n):
        write_image(folder / 'image_2' / f'{i:06d}.png', picture(i))
    P = np.hstack([CAMERA.K, [[4.5], [0], [0]]])
    (folder / 'calib.txt').write_text(''.join(
        f'{row}: ' + ' '.join(f'{v:.12e}' for v in P.ravel()) + '\n' for row in ('P0', 'P2')))
    return folder


def write_cityscapes(root, city='aachen', videos=2, n=7, size=(416, 208)):
    """Write videos of a city with their camera; frames count from 0."""
    width, height = size
    for video in range(videos):
        for i in range(n):
            write_image(root / 'leftImg8bit_sequence' / 'train' / city
                        / f'{city}_{video:06d}_{i:06d}_leftImg8bit.png',
                        picture(i + 10 * video, size))
        cameras = root / 'camera' / 'train' / city
        cameras.mkdir(parents=True, exist_ok=True)
        (cameras / f'{city}_{video:06d}_{n - 1:06d}_camera.json').write_text(json.dumps(
            {'extrinsic': {'baseline': 0.2}, 'intrinsic': {
                'fx': 450.0 + video, 'fy': 452.0, 'u0': 209.5, 'v0': 101.5}}))
    return root / 'leftImg8bit_sequence' / 'train' / city
