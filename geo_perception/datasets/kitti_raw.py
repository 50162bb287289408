# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
KITTI raw: rectified drives with GPS/IMU poses and laser scans.

A drive is ``<date>/<date>_drive_NNNN_sync`` with ``image_0X/data``; its calibration lies beside
it in the folder of the date.
"""

from datetime import datetime, timezone
import logging
import re

import numpy as np

from geo_perception.datasets.image_files import (
    FileSequence, frame_number, keep_usable, list_images, refuse_missing)
from geo_perception.datasets.kitti_calibration import (
    CALIBRATION, camera_poses, oxts_poses, rectified_camera, SCANNER_CALIBRATION, T_camera_imu,
    T_camera_velodyne)
from geo_perception.datasets.kitti_lists import eigen_test_frames
from geo_perception.datasets.picture_files import read_image
from geo_perception.datasets.trajectory import labels_from_matrices
from geo_perception.datasets.velodyne import VelodyneScan
from geo_perception.errors import RecordingError

_NOMINAL_HZ = 10
# Colour first; the left camera of a pair knows its right one.
_CAMERAS = (2, 0, 3, 1)
_RIGHT = {2: 3, 0: 1}
# Depth images that KITTI's depth benchmark made for the raw drives, where they were put inside.
_ANNOTATED = 'proj_depth/groundtruth'
# So many of Eigen's test images have one.
ANNOTATED_TEST_IMAGES = 652

_logger = logging.getLogger(__name__)


def open_kitti_raw(path, with_poses=True, published_depth=False):
    """
    Return one camera of a KITTI raw drive.

    Intrinsics are those of the rectified camera; poses come from GPS and IMU, moved to the
    camera; depth is the annotated one (``proj_depth``) where it is there, else the laser scan;
    times are those of the camera, else 10 Hz by frame number.

    Parameters
    ----------
    path : Path
        A drive (camera 02, else 00), its ``image_0X``, or a folder that holds one drive.
    with_poses : bool
        False keeps all frames and reads no poses.
    published_depth : bool
        Take the scans as published evaluations do, see
        `geo_perception.datasets.velodyne.velodyne_depth`.

    Returns
    -------
    FileSequence or None
        None when the path is nothing of that kind. Without calibration frames have neither
        intrinsics nor depth.

    Raises
    ------
    RecordingError
        When there are no images or no poses, the images are not of the size of the calibration,
        or a file cannot be read.

    """
    found = _camera_folder(path)
    if found is None:
        drives = find_drives(path)
        if len(drives) > 1:
            raise RecordingError(f'{path} holds {len(drives)} KITTI drives; give one of '
                                 f'{_some(drives)}')
        if not drives:
            return None
        found = _camera_folder(drives[0])
    drive, index = found
    if drive.name.endswith('_extract'):
        raise RecordingError(f'{drive} is not rectified; take the drive that ends with _sync')
    folder = drive / f'image_0{index}'
    images = list_images(folder / 'data')
    if not images:
        raise RecordingError(f'{folder / "data"} holds no images')
    numbers = np.array([frame_number(image) for image in images])
    usable, poses = np.arange(len(images)), None
    if with_poses:
        labels = labels_from_matrices(_poses(drive, index, numbers), [str(i) for i in images])
        usable = keep_usable(drive, images, labels)
        poses = labels.poses[usable]
    camera, rights, baseline = None, None, None
    depths = [None] * len(images)
    if (drive.parent / CALIBRATION).is_file():
        camera, _ = rectified_camera(drive.parent, index)
        _check_size(images[0], camera, drive.parent / CALIBRATION)
        depths = _depths(drive, index, camera, numbers, published_depth)
        right = _RIGHT.get(index)
        rights = right and [drive / f'image_0{right}' / 'data' / images[i].name for i in usable]
        if rights and all(file.is_file() for file in rights):
            baseline = _baseline(drive.parent, index)
    else:
        _logger.warning('%s: frames have no intrinsics, for there is no %s', drive,
                        drive.parent / CALIBRATION)
    return FileSequence(
        [images[i] for i in usable], _stamps(folder / 'timestamps.txt', numbers)[usable], poses,
        camera=camera, world_frame='' if poses is None else 'world',
        depths=[depths[i] for i in usable], depth_units=256.0,
        rights=rights if baseline else None, baseline=baseline)


def open_eigen_test(root, annotated=False):
    """
    Return Eigen's 697 test images with their published ground truth (sfmlearner.md section 6.1).

    Parameters
    ----------
    root : Path
        Folder of the dates.
    annotated : bool
        Take the 652 that have annotated depth (``proj_depth`` in the folder of the drive), and
        that for ground truth: it is denser than a scan, and has no wrong points.

    Returns
    -------
    FileSequence
        In the published order, which is none of time: stamps are ten seconds apart. No poses and
        no right images, but the baseline of the rig.

    Raises
    ------
    RecordingError
        When an image, its depth or a calibration is missing: the average would be another.

    """
    if not root.is_dir():
        raise RecordingError(f'{root} is no folder; give that of KITTI raw, with the folders of '
                             'the dates (2011_09_26 and four more) in it')
    drives, numbers = zip(*((root / name[:10] / f'{name}_sync', number)
                            for name, number in eigen_test_frames()))
    images = [drive / 'image_02' / 'data' / f'{number:010d}.png'
              for drive, number in zip(drives, numbers)]
    truth = [drive / _ANNOTATED / 'image_02' / f'{number:010d}.png' if annotated else
             drive / 'velodyne_points' / 'data' / f'{number:010d}.bin'
             for drive, number in zip(drives, numbers)]
    if annotated:
        pairs = [pair for pair in zip(images, truth) if pair[1].is_file()]
        if len(pairs) != ANNOTATED_TEST_IMAGES:
            raise RecordingError(
                f"{len(pairs)} of Eigen's test images in {root} have annotated depth "
                f'({truth[0]}), not {ANNOTATED_TEST_IMAGES}; unpack train and val of '
                "data_depth_annotated into the drives' folders")
        images, truth = map(list, zip(*pairs))
    calibrations = {image.parents[3] / name: None for image in images
                    for name in (CALIBRATION, *([] if annotated else [SCANNER_CALIBRATION]))}
    refuse_missing(root, [*images, *truth], "files of Eigen's test set")
    refuse_missing(root, list(calibrations), "calibration files of Eigen's test set")
    of_day = {file.parent: (*_projection(file.parent, 2), _baseline(file.parent))
              for file in calibrations}
    cameras, projections, baselines = zip(*(of_day[image.parents[3]] for image in images))
    if not annotated:
        truth = [VelodyneScan(scan, P, camera.width, camera.height, True)
                 for scan, camera, P in zip(truth, cameras, projections)]
    return FileSequence(images, np.arange(len(images)) * 10**10, camera=list(cameras),
                        depths=truth, depth_units=256.0, baseline=list(baselines))


def find_drives(root):
    """
    Return the drives below a folder of a date or of dates.

    Parameters
    ----------
    root : Path
        Folder.

    Returns
    -------
    list of Path
        In order of their names.

    """
    pattern = '[0-9]*_drive_[0-9]*_sync'
    return sorted(folder for folder in [*root.glob(pattern), *root.glob(f'*/{pattern}')]
                  if _camera_folder(folder))


def _camera_folder(path):
    """Return (drive, camera) that a path means, or None."""
    path = path.absolute()
    if path.name == 'data':
        path = path.parent
    match = re.fullmatch('image_0([0-3])', path.name)
    if match and (path / 'data').is_dir():
        return path.parent, int(match.group(1))
    return next(((path, index) for index in _CAMERAS
                 if (path / f'image_0{index}' / 'data').is_dir()), None)


def _poses(drive, index, numbers):
    folder = drive / 'oxts' / 'data'
    if not folder.is_dir():
        raise RecordingError(f'the KITTI drive {drive} has no poses: {folder} does not exist')
    T_camera_body = T_camera_imu(drive.parent, index)
    if T_camera_body is None:
        _logger.warning('%s: poses are those of the GPS/IMU unit, not of the camera, for '
                        'calib_imu_to_velo.txt or calib_velo_to_cam.txt is missing', drive)
    return camera_poses(oxts_poses(folder, numbers), T_camera_body)


def _projection(day, index):
    """Return (camera, 3x4 from the frame of the scanner to pixels or None) of a date."""
    camera, _ = rectified_camera(day, index)
    T = T_camera_velodyne(day, index)
    return camera, None if T is None else camera.K @ T[:3]


def _baseline(day, index=2):
    """Return the metres from a camera to the one on its right."""
    left, right = (rectified_camera(day, i)[1] for i in (index, _RIGHT[index]))
    return float((left - right)[0])


def _depths(drive, index, camera, numbers, published):
    """Return for every frame a depth image, a scan, or None."""
    _, P = _projection(drive.parent, index)
    depths = []
    for number in numbers:
        annotated = drive / _ANNOTATED / f'image_0{index}' / f'{number:010d}.png'
        scan = drive / 'velodyne_points' / 'data' / f'{number:010d}.bin'
        if annotated.is_file() and not published:
            depths.append(annotated)
        elif P is not None and scan.is_file():
            depths.append(VelodyneScan(scan, P, camera.width, camera.height, published))
        else:
            depths.append(None)
    return depths


def _check_size(image, camera, path):
    height, width = read_image(image).shape[:2]
    if abs(width * camera.height - height * camera.width) > max(width, height):
        raise RecordingError(f'{image} has {width}x{height} pixels, but {path} is for '
                             f'{camera.width}x{camera.height}; take the calibration of that date')


def _stamps(path, numbers):
    """Return int64 nanoseconds of the numbered frames."""
    if not path.is_file():
        return np.round(numbers * (1e9 / _NOMINAL_HZ)).astype(np.int64)
    lines = path.read_text(errors='replace').split('\n')
    if len(lines) <= numbers.max() or not lines[numbers.max()].strip():
        raise RecordingError(f'{path} holds {sum(bool(line.strip()) for line in lines)} times, '
                             f'but there is an image number {numbers.max()}')
    return np.array([_nanoseconds(lines[number], path) for number in numbers], np.int64)


def _nanoseconds(text, path):
    """Return the time ``2011-09-26 13:02:25.964389445``, which has more digits than a datetime."""
    whole, _, fraction = text.strip().partition('.')
    try:
        seconds = datetime.strptime(whole, '%Y-%m-%d %H:%M:%S').replace(tzinfo=timezone.utc)
        return int(seconds.timestamp()) * 10**9 + int(f'{fraction:0<9.9}')
    except ValueError:
        raise RecordingError(f"{path} holds '{text.strip()}', which is no time") from None


def _some(paths, most=5):
    shown = ', '.join(str(path) for path in paths[:most])
    return shown + (f' and {len(paths) - most} more' if len(paths) > most else '')
