# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
KITTI odometry: rectified stereo and poses of the left grey camera.

Poses are camera-to-world with the first camera as the world, z forward, y down. For the colour
camera they are moved by the offset between the cameras that the calibration gives.
"""

import numpy as np

from geo_perception.datasets.camera_files import checked_camera
from geo_perception.datasets.image_files import (
    FileSequence, frame_number, keep_usable, list_images)
from geo_perception.datasets.picture_files import read_image
from geo_perception.datasets.trajectory import labels_from_matrices
from geo_perception.errors import RecordingError
from geo_perception.geometry.se3 import make_transform

_NOMINAL_HZ = 10
# Seconds; more nanoseconds do not fit into 64 bits.
_LATEST = 9e9
# Left folder, right folder, and their rows in calib.txt; colour first.
_PAIRS = (('image_2', 'image_3', 'P2', 'P3'), ('image_0', 'image_1', 'P0', 'P1'),
          ('image_l', 'image_r', 'P0', 'P1'))


def open_kitti_odometry(path, with_poses=True):
    """
    Return a KITTI odometry sequence.

    Colour is preferred to grey, which is replicated to RGB. Calibration comes from ``calib.txt``
    (``P0:`` to ``P3:``, or bare rows) or ``K.txt``; stamps from ``times.txt``, else 10 Hz.

    Parameters
    ----------
    path : Path
        ``sequences/NN`` with its poses in ``poses/NN.txt`` two folders up or ``poses.txt`` inside;
        or a folder with ``sequences/`` that holds one sequence.
    with_poses : bool
        False keeps all frames and reads no poses, which sequences 11 to 21 do not have.

    Returns
    -------
    FileSequence or None
        None when the path is nothing of that kind.

    Raises
    ------
    RecordingError
        When poses or images are missing, or a file cannot be read.

    """
    if not path.is_dir():
        return None
    if (path / 'sequences').is_dir():
        found = sorted(folder for folder in (path / 'sequences').iterdir() if _pair(folder))
        if len(found) > 1:
            raise RecordingError(f'{path} holds several KITTI sequences; give one of '
                                 f'{", ".join(str(folder) for folder in found)}')
        if not found:
            return None
        path = found[0]
    pair = _pair(path)
    if pair is None:
        return None
    left, right, left_row, right_row = pair
    images = list_images(path / left)
    if not images:
        raise RecordingError(f'{path / left} holds no images')
    numbers = np.array([frame_number(image) for image in images])
    usable, poses = np.arange(len(images)), None
    if with_poses:
        matrices = _read_poses(path)
        poses = np.full((len(images), 4, 4), np.nan)
        known = numbers < len(matrices)
        poses[known] = matrices[numbers[known]]
        labels = labels_from_matrices(poses, [str(image) for image in images])
        usable = keep_usable(path, images, labels)
        poses = labels.poses[usable]

    P = _read_calibration(path)
    camera = baseline = None
    if left_row in P:
        height, width = read_image(images[0]).shape[:2]
        camera = checked_camera(P[left_row][:, :3], width, height, f'the calibration of {path}')
        if poses is not None:
            # P = K [I | t] with t the position of camera 0 in this camera.
            poses = poses @ make_transform(np.eye(3), -np.linalg.solve(camera.K,
                                                                       P[left_row][:, 3]))
        if right_row in P:
            baseline = float((P[left_row][0, 3] - P[right_row][0, 3]) / P[left_row][0, 0])
    rights = [path / right / images[i].name for i in usable]
    stereo = baseline is not None and all(file.is_file() for file in rights)
    return FileSequence([images[i] for i in usable], _read_times(path, numbers)[usable], poses,
                        camera=camera, world_frame='' if poses is None else 'world',
                        rights=rights if stereo else None, baseline=baseline)


def _pair(path):
    return next((pair for pair in _PAIRS if (path / pair[0]).is_dir()), None)


def _read_poses(path):
    """Return (N, 4, 4) from lines of 3x4 numbers, row by row."""
    outside = path.parent.parent / 'poses' / f'{path.name}.txt'
    file = next((f for f in (path / 'poses.txt', outside) if f.is_file()), None)
    if file is None:
        raise RecordingError(f'the KITTI sequence {path} has no poses: neither '
                             f'{path / "poses.txt"} nor {outside} exists')
    rows = _read_rows(file)
    if any(len(row) != 12 for row in rows.values()):
        number = next(i for i, row in enumerate(rows.values(), 1) if len(row) != 12)
        raise RecordingError(f'line {number} of {file} does not hold 12 numbers')
    top = np.array(list(rows.values()), float).reshape(-1, 3, 4)
    return make_transform(top[:, :, :3], top[:, :, 3])


def _read_calibration(path):
    """Return the 3x4 projection matrices by name."""
    if (path / 'calib.txt').is_file():
        return {name: np.reshape(row, (3, 4)) for name, row in
                _read_rows(path / 'calib.txt').items() if len(row) == 12}
    if (path / 'K.txt').is_file():
        K = np.concatenate(list(_read_rows(path / 'K.txt').values()))
        if K.size == 9:
            P = np.hstack([K.reshape(3, 3), np.zeros((3, 1))])
            return {'P0': P}
    return {}


def _read_times(path, numbers):
    """Return int64 nanoseconds of the numbered frames."""
    if not (path / 'times.txt').is_file():
        return np.array([round(n * 10**9 / _NOMINAL_HZ) for n in numbers], np.int64)
    times = np.concatenate([[], *_read_rows(path / 'times.txt').values()])
    if len(times) <= numbers.max():
        raise RecordingError(f'{path / "times.txt"} holds {len(times)} times, but there is an '
                             f'image number {numbers.max()}')
    seconds = times[numbers]
    if not (np.abs(seconds) < _LATEST).all():
        wrong = numbers[~(np.abs(seconds) < _LATEST)][0]
        raise RecordingError(f'{path / "times.txt"} says {times[wrong]} for image number {wrong}; '
                             'a number of seconds is expected')
    return np.round(seconds * 1e9).astype(np.int64)


def _read_rows(path):
    """Return the numbers of each line by the name before its colon, else P0, P1, ..."""
    rows = {}
    for number, line in enumerate(path.read_text(errors='replace').splitlines(), 1):
        name, colon, rest = line.rpartition(':')
        if not rest.strip():
            continue
        try:
            rows[name.strip() if colon else f'P{len(rows)}'] = [float(w) for w in rest.split()]
        except ValueError:
            raise RecordingError(f'line {number} of {path} holds something that is not a number: '
                                 f"'{line.strip()}'") from None
    return rows
