# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Single images with depth beside them, as KITTI's depth benchmark and its users lay them out."""

import logging

import numpy as np

from geo_perception.datasets.camera_files import checked_camera, read_numbers
from geo_perception.datasets.image_files import (
    FileSequence, folder_camera, list_images, nominal_stamps)
from geo_perception.datasets.kitti_calibration import camera_by_size
from geo_perception.datasets.picture_files import read_image
from geo_perception.errors import RecordingError

# Image folder, depth folder, and how the name of an image becomes that of its depth.
_LAYOUTS = (('rgb', 'depth', ('', '')),
            ('image', 'groundtruth_depth', ('_sync_image_', '_sync_groundtruth_depth_')))
_UNITS = 256.0
# Not a video: far enough apart that no frame follows another.
_RATE_HZ = 0.1

_logger = logging.getLogger(__name__)


def open_annotated_depth(path):
    """
    Return a folder of images with depth images, value / 256 metres.

    Layouts: ``rgb/`` and ``depth/`` with the same names; ``image/``, ``groundtruth_depth/`` and
    ``intrinsics/`` as in KITTI's selection for validation. Intrinsics come from ``intrinsics/``,
    or from a file in the folder (`geo_perception.datasets.camera_files`), else from the size of
    the images where KITTI had such a camera.

    Parameters
    ----------
    path : Path
        Folder.

    Returns
    -------
    FileSequence or None
        None when the path is nothing of that kind. The images follow no time.

    Raises
    ------
    RecordingError
        When no image has depth, or intrinsics cannot be used.

    """
    layout = next((layout for layout in _LAYOUTS
                   if all((path / name).is_dir() for name in layout[:2])), None)
    # TUM RGB-D has these folders, too, with other units.
    if layout is None or (path / 'rgb.txt').is_file():
        return None
    images = list_images(path / layout[0])
    depths = [(path / layout[1] / image.name.replace(*layout[2])).with_suffix('.png')
              for image in images]
    if not any(depth.is_file() for depth in depths):
        raise RecordingError(f'none of the {len(images)} images in {path / layout[0]} has a depth '
                             f'image of its name in {path / layout[1]}')
    return FileSequence(images, nominal_stamps(len(images), _RATE_HZ),
                        camera=_cameras(path, images), depth_units=_UNITS,
                        depths=[depth if depth.is_file() else None for depth in depths])


def _cameras(path, images):
    files = [path / 'intrinsics' / f'{image.stem}.txt' for image in images]
    if all(file.is_file() for file in files):
        sizes = [read_image(image).shape for image in images]
        return [checked_camera(read_numbers(file, 9), width, height, file)
                for file, (height, width, _) in zip(files, sizes)]
    camera = folder_camera(path, images)
    if camera is None:
        height, width = read_image(images[0]).shape[:2]
        camera = camera_by_size(width, height)
        _logger.warning('%s holds no intrinsics; %s', path, 'write them to cam.txt' if camera is
                        None else f'images of {width}x{height} pixels are taken as those of '
                        f"KITTI's left colour camera, f = {np.round(camera.K[0, 0], 1)}")
    return camera
