# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Which drives the published training sets are made of (sfmlearner.md sections 5.2 to 5.4)."""

import logging

from geo_perception.datasets.cityscapes import frame_of, IMAGES, open_cityscapes
from geo_perception.datasets.image_files import frame_number
from geo_perception.datasets.kitti_lists import excluded_scenes
from geo_perception.datasets.kitti_odometry import open_kitti_odometry
from geo_perception.datasets.kitti_raw import find_drives, open_kitti_raw
from geo_perception.datasets.prepared_writer import Drive
from geo_perception.errors import RecordingError

ODOMETRY_TRAINING = tuple(f'{i:02d}' for i in range(9))

_logger = logging.getLogger(__name__)


def kitti_raw_drives(root, cameras, split, removed):
    """
    Return the drives of KITTI raw that training may see.

    Parameters
    ----------
    root : Path
        Folder of the dates.
    cameras : sequence of str
        ``02`` and ``03``: each is a video of its own.
    split : str
        ``eigen``, ``stereo`` or ``all``; see `geo_perception.datasets.kitti_lists`.
    removed : set of tuple
        (drive, frame) to leave out.

    Returns
    -------
    list of Drive

    Raises
    ------
    RecordingError
        When there is no drive left, or one lacks its calibration.

    """
    if not root.is_dir():
        raise RecordingError(f'{root} is no folder; give that of KITTI raw, with the folders of '
                             'the dates (2011_09_26 ...) in it')
    drives, lacking, kept_out = [], [], 0
    excluded = excluded_scenes(split)
    for path in find_drives(root):
        name = path.name.removesuffix('_sync')
        if name in excluded:
            kept_out += 1
            continue
        for camera in cameras:
            folder = path / f'image_{camera}'
            if not (folder / 'data').is_dir():
                lacking.append(folder)
                continue
            sequence = _with_cameras(open_kitti_raw(folder, False), folder)
            kept = [i for i, image in enumerate(sequence.files)
                    if (name, frame_number(image)) not in removed]
            drives.append(_part(sequence, kept, f'{path.name}_{camera}'))
    if lacking:
        _logger.warning('%d folders of images are missing and left out (first: %s)', len(lacking),
                        lacking[0])
    if not drives:
        raise RecordingError(
            f'{root} holds no drive <date>/<date>_drive_NNNN_sync to prepare: {kept_out} belong '
            f'to the test set of the split {split}, {len(lacking)} folders of images are missing')
    return drives


def kitti_odometry_drives(root, sequences=None):
    """
    Return the training sequences of KITTI odometry, camera 2.

    Parameters
    ----------
    root : Path
        Folder with ``sequences/``.
    sequences : sequence of str, optional
        Which; by default 00 to 08, as far as they are there.

    Returns
    -------
    list of Drive

    Raises
    ------
    RecordingError
        When a requested sequence, every sequence, or a calibration is missing.

    """
    folders = {name: root / 'sequences' / name for name in sequences or ODOMETRY_TRAINING}
    missing = [name for name, folder in folders.items() if not (folder / 'image_2').is_dir()]
    if missing and (sequences or len(missing) == len(folders)):
        raise RecordingError(f'{len(missing)} of {len(folders)} sequences in '
                             f'{root / "sequences"} have no colour images (image_2); the first '
                             f'is {missing[0]}')
    if missing:
        _logger.warning('%s lacks sequences %s', root, ', '.join(missing))
    drives = []
    for name, folder in folders.items():
        if name not in missing:
            sequence = _with_cameras(open_kitti_odometry(folder, False), folder)
            drives.append(_part(sequence, range(len(sequence)), name))
    return drives


def cityscapes_drives(root, split='train'):
    """
    Return the videos of Cityscapes.

    Parameters
    ----------
    root : Path
        Folder with ``leftImg8bit_sequence/`` and ``camera/``.
    split : str
        Part of the data set, as its folders are called.

    Returns
    -------
    list of Drive

    Raises
    ------
    RecordingError
        When there are none, or a camera file is missing.

    """
    folder = root / IMAGES / split
    sequence = open_cityscapes(folder)
    if sequence is None:
        raise RecordingError(f'{folder} holds no city with images '
                             '<city>_<video>_<frame>_leftImg8bit.png')
    videos = {}
    for i, image in enumerate(_with_cameras(sequence, folder).files):
        videos.setdefault(frame_of(image)[:2], []).append(i)
    return [_part(sequence, indices, city, frame_of)
            for (city, _), indices in videos.items()]


def _part(sequence, indices, folder, name=None):
    """Return some frames; ``name`` splits a file into the words of its name, number last."""
    images, cameras = ([items[i] for i in indices] for items in (sequence.files,
                                                                 sequence.cameras))
    frames = [name(image) if name else (image.stem,) for image in images]
    return Drive(folder, images, [int(words[-1]) for words in frames],
                 ['_'.join(words) for words in frames], cameras)


def _with_cameras(sequence, path):
    if None in sequence.cameras:
        image = sequence.files[sequence.cameras.index(None)]
        raise RecordingError(f'{path} lacks the calibration of {image}, and nothing can be '
                             'learned without; it is a download of its own')
    return sequence
