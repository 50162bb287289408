# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Cityscapes: short videos of many cities (sfmlearner.md section 5.4).

``leftImg8bit_sequence/<split>/<city>/<city>_<snippet>_<frame>_leftImg8bit.png``, and the camera of
each video in ``camera/<split>/<city>/<city>_<snippet>_<frame>_camera.json``.
"""

import json
import logging
import re

import numpy as np

from geo_perception.datasets.camera_files import checked_camera
from geo_perception.datasets.image_files import FileSequence
from geo_perception.datasets.picture_files import read_image
from geo_perception.errors import RecordingError

IMAGES = 'leftImg8bit_sequence'
_NAME = re.compile(r'(.+)_(\d{6})_(\d{6})_leftImg8bit\.(?:png|jpg)')
_HZ = 17

_logger = logging.getLogger(__name__)


def open_cityscapes(path):
    """
    Return the videos of a city, or of all cities of a split, one after the other.

    Frames are at a nominal 17 Hz; between two videos lies more time, so that no snippet joins
    them. A step of 2 gives about the rate of KITTI.

    Parameters
    ----------
    path : Path
        ``leftImg8bit_sequence/<split>`` or a city in it.

    Returns
    -------
    FileSequence or None
        None when the path is nothing of that kind. Without camera files frames have no
        intrinsics.

    Raises
    ------
    RecordingError
        When a camera file cannot be read.

    """
    if not path.is_dir():
        return None
    images = city_images(path)
    if not images:
        images = [image for city in sorted(path.iterdir()) if city.is_dir()
                  for image in city_images(city)]
    if not images:
        return None
    videos, cameras, stamps, start = {}, [], [], 0
    for image in images:
        city, video, frame = frame_of(image)
        if (city, video) not in videos:
            start = stamps[-1] + 10**9 if stamps else 0
            videos[city, video] = _camera(image), int(frame)
        camera, first = videos[city, video]
        cameras.append(camera)
        stamps.append(start + round((int(frame) - first) * 10**9 / _HZ))
    if None in cameras:
        _logger.warning('%s: %d of %d frames have no intrinsics, for camera files are missing',
                        path, cameras.count(None), len(cameras))
    return FileSequence(images, np.array(stamps, np.int64), camera=cameras)


def city_images(folder):
    """
    Return the images of a city.

    Parameters
    ----------
    folder : Path
        Folder of the city.

    Returns
    -------
    list of Path
        By video and frame.

    """
    return sorted(file for file in folder.iterdir() if _NAME.fullmatch(file.name))


def frame_of(image):
    """
    Return which frame an image is.

    Parameters
    ----------
    image : Path
        Named as Cityscapes does.

    Returns
    -------
    tuple of str
        (city, video, frame); the latter two with six digits.

    """
    return _NAME.fullmatch(image.name).groups()


def _camera(image):
    """Return the camera of a video, of which one image has a file, or None."""
    city, video, _ = frame_of(image)
    folder = image.absolute().parent
    cameras = folder.parents[2] / 'camera' / folder.parent.name / folder.name
    files = sorted(cameras.glob(f'{city}_{video}_*_camera.json'))
    if not files:
        return None
    try:
        values = json.loads(files[0].read_text(errors='replace'))['intrinsic']
        fx, fy, cx, cy = (float(values[name]) for name in ('fx', 'fy', 'u0', 'v0'))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordingError(f'{files[0]} is no camera file of Cityscapes (intrinsic with fx, fy, '
                             f'u0, v0): {type(error).__name__} {error}') from None
    height, width = read_image(image).shape[:2]
    return checked_camera([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], width, height, files[0])
