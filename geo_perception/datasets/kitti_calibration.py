# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Calibration files of KITTI raw, and its GPS/IMU measurements as poses."""

import numpy as np

from geo_perception.datasets.camera_files import checked_camera
from geo_perception.errors import RecordingError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.se3 import inverse_transform, make_transform, R_BODY_OPTICAL

CALIBRATION, SCANNER_CALIBRATION = 'calib_cam_to_cam.txt', 'calib_velo_to_cam.txt'
_EARTH_RADIUS = 6378137.0
# fx = fy, cx, cy of the rectified left colour camera on the five recording days, by image size.
_DAYS = {(1242, 375): (721.5377, 609.5593, 172.854), (1224, 370): (707.0493, 604.0814, 180.5066),
         (1238, 374): (718.3351, 600.3891, 181.5122), (1226, 370): (707.0912, 601.8873, 183.1104),
         (1241, 376): (718.856, 607.1928, 185.2157)}


def camera_by_size(width, height):
    """
    Return the left colour camera of KITTI by the size of its images.

    Every recording day had its own calibration and so its own size.

    Parameters
    ----------
    width, height : int
        Pixels.

    Returns
    -------
    Camera or None
        None when no day had that size.

    """
    if (width, height) not in _DAYS:
        return None
    f, cx, cy = _DAYS[width, height]
    return Camera(np.array([[f, 0, cx], [0, f, cy], [0, 0, 1]]), width, height)


def read_calibration(path):
    """
    Return the named numbers of a calibration file.

    Parameters
    ----------
    path : Path
        Lines of ``name: numbers``; those of words and dates are left out.

    Returns
    -------
    dict
        Name to float64 array.

    """
    values = {}
    for line in path.read_text(errors='replace').splitlines():
        name, _, rest = line.partition(':')
        try:
            values[name.strip()] = np.array([float(word) for word in rest.split()])
        except ValueError:
            continue
    return values


def rectified_camera(day, index):
    """
    Return a rectified camera of a recording day.

    Parameters
    ----------
    day : Path
        Folder with `CALIBRATION`.
    index : int
        0, 1 (grey), 2, 3 (colour).

    Returns
    -------
    camera : Camera
        Intrinsics.
    offset : np.ndarray
        Position of camera 0 in this camera, metres, shape (3,).

    Raises
    ------
    RecordingError
        When the file lacks the camera or holds nonsense.

    """
    return camera_in_file(day / CALIBRATION, index)


def camera_in_file(path, index):
    """
    Return a rectified camera of a calibration file, see `rectified_camera`.

    Parameters
    ----------
    path : Path
        File like `CALIBRATION`.
    index : int
        0, 1 (grey), 2, 3 (colour).

    Returns
    -------
    camera, offset
        As from `rectified_camera`.

    Raises
    ------
    RecordingError
        When the file lacks the camera or holds nonsense.

    """
    values = read_calibration(path)
    P = _value(values, f'P_rect_0{index}', 12, path).reshape(3, 4)
    width, height = _value(values, f'S_rect_0{index}', 2, path)
    camera = checked_camera(P[:, :3], width, height, f'P_rect_0{index} of {path}')
    return camera, np.linalg.solve(P[:, :3], P[:, 3])


def T_camera_velodyne(day, index):
    """
    Return where the scanner is in a rectified camera.

    Parameters
    ----------
    day : Path
        Folder of the calibration files.
    index : int
        Of the camera.

    Returns
    -------
    np.ndarray or None
        4x4; None without ``calib_velo_to_cam.txt``.

    Raises
    ------
    RecordingError
        When a file lacks a number.

    """
    path = day / SCANNER_CALIBRATION
    if not path.is_file():
        return None
    cameras = day / CALIBRATION
    rectify = _value(read_calibration(cameras), 'R_rect_00', 9, cameras).reshape(3, 3)
    _, offset = rectified_camera(day, index)
    return make_transform(np.eye(3), offset) @ make_transform(rectify, np.zeros(3)) @ _rigid(path)


def T_camera_imu(day, index):
    """
    Return where the GPS/IMU unit is in a rectified camera.

    Parameters
    ----------
    day : Path
        Folder of the calibration files.
    index : int
        Of the camera.

    Returns
    -------
    np.ndarray or None
        4x4; None without ``calib_imu_to_velo.txt`` and ``calib_velo_to_cam.txt``.

    Raises
    ------
    RecordingError
        When a file lacks a number.

    """
    path = day / 'calib_imu_to_velo.txt'
    scanner = T_camera_velodyne(day, index) if (day / CALIBRATION).is_file() else None
    return scanner @ _rigid(path) if scanner is not None and path.is_file() else None


def oxts_poses(folder, numbers):
    """
    Return the poses of the GPS/IMU unit, as KITTI's development kit computes them.

    Mercator projection at the latitude of the first frame; the world is the unit at the first
    frame (x forward, y left, z up).

    Parameters
    ----------
    folder : Path
        ``oxts/data``, a file a frame.
    numbers : np.ndarray
        Frame numbers, shape (N,).

    Returns
    -------
    np.ndarray
        ``T_world_imu``, shape (N, 4, 4), NaN where a file is missing or damaged.

    """
    rows = np.full((len(numbers), 6), np.nan)
    for row, number in zip(rows, numbers):
        try:
            row[:] = [float(word) for word in
                      (folder / f'{number:010d}.txt').read_text(errors='replace').split()[:6]]
        except (OSError, ValueError):
            continue
    lat, lon, altitude, roll, pitch, yaw = rows.T
    known = np.flatnonzero(np.isfinite(rows).all(1))
    if not len(known):
        return np.full((len(numbers), 4, 4), np.nan)
    scale = np.cos(np.deg2rad(lat[known[0]]))
    position = np.stack([
        scale * _EARTH_RADIUS * np.deg2rad(lon),
        scale * _EARTH_RADIUS * np.log(np.tan(np.deg2rad(90 + lat) / 2)), altitude], 1)
    poses = make_transform(_about(2, yaw) @ _about(1, pitch) @ _about(0, roll), position)
    return inverse_transform(poses[known[0]]) @ poses


def camera_poses(poses, T_camera_body):
    """
    Return poses of a camera from those of the body that carries it.

    Parameters
    ----------
    poses : np.ndarray
        ``T_world_body``, shape (N, 4, 4).
    T_camera_body : np.ndarray or None
        4x4; None takes a camera in the place of the body that looks forward.

    Returns
    -------
    np.ndarray
        ``T_world_camera``, shape (N, 4, 4).

    """
    if T_camera_body is None:
        return poses @ make_transform(R_BODY_OPTICAL, np.zeros(3))
    return poses @ inverse_transform(T_camera_body)


def _about(axis, angles):
    """Return rotations about a coordinate axis, shape (N, 3, 3)."""
    c, s = np.cos(angles), np.sin(angles)
    R = np.zeros((len(angles), 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    R[:, axis, axis] = 1
    R[:, i, i] = R[:, j, j] = c
    R[:, j, i], R[:, i, j] = s, -s
    return R


def _rigid(path):
    values = read_calibration(path)
    return make_transform(_value(values, 'R', 9, path).reshape(3, 3), _value(values, 'T', 3, path))


def _value(values, name, count, path):
    if name not in values or len(values[name]) != count:
        raise RecordingError(f'{path} lacks {name} with {count} numbers; is it the calibration of '
                             'the day as KITTI publishes it?')
    return values[name]
