# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Intrinsics that lie in a file beside images, and whether they can be right.

``cam.txt`` holds the nine numbers of K; ``camera.yaml`` and ``ost.yaml`` are what ROS's camera
calibration writes, with distortion.
"""

import re

import numpy as np
import yaml

from geo_perception.errors import RecordingError
from geo_perception.geometry.camera import Camera

CAMERA_FILES = ('camera.yaml', 'ost.yaml', 'cam.txt')


def checked_camera(K, width, height, source, **others):
    """
    Return a camera, unless its intrinsics cannot be those of any.

    Parameters
    ----------
    K : array_like
        3x3, or nine numbers row by row, pixels.
    width, height : int
        Size of the image, pixels.
    source : str or Path
        Where they come from, for the message.
    **others
        More fields of `Camera`.

    Returns
    -------
    Camera

    Raises
    ------
    RecordingError
        When they are absurd.

    """
    camera = Camera(np.reshape(np.asarray(K, float), (3, 3)), int(width), int(height), **others)
    problem = camera.problem()
    if problem:
        raise RecordingError(f'the intrinsics in {source} cannot be right: {problem}; calibrate '
                             'the camera, or correct them')
    return camera


def read_camera(folder, width, height):
    """
    Return the camera that a file in a folder describes.

    Parameters
    ----------
    folder : Path
        With one of `CAMERA_FILES`, the first of which counts.
    width, height : int
        Size of the images, pixels.

    Returns
    -------
    Camera or None
        Of images of that size; None without such a file.

    Raises
    ------
    RecordingError
        When the file cannot be read, is for images of another shape, or holds absurd intrinsics.

    """
    path = next((folder / name for name in CAMERA_FILES if (folder / name).is_file()), None)
    if path is None:
        return None
    if path.suffix == '.txt':
        return checked_camera(read_numbers(path, 9), width, height, path)
    camera = _read_yaml(path)
    if abs(width * camera.height - height * camera.width) > max(width, height):
        raise RecordingError(f'{path} is for images of {camera.width}x{camera.height} pixels, '
                             f'those in {folder} have {width}x{height}, another shape; calibrate '
                             'with the images that you use')
    return camera.resized(width, height)


def read_numbers(path, count):
    """
    Return the numbers in a text file, separated by blanks or commas.

    Parameters
    ----------
    path : Path
        File.
    count : int
        How many there must be.

    Returns
    -------
    np.ndarray
        float64, shape (count,).

    Raises
    ------
    RecordingError
        When it holds anything else.

    """
    try:
        text = path.read_text(errors='replace')
        numbers = [float(word) for word in re.split(r'[\s,]+', text) if word]
    except (OSError, ValueError) as error:
        raise RecordingError(f'{path} cannot be read as numbers: {error}') from None
    if len(numbers) != count:
        raise RecordingError(f'{path} holds {len(numbers)} numbers, {count} are expected')
    return np.array(numbers)


def _read_yaml(path):
    """Return the camera in a file of ROS's camera_calibration."""
    try:
        content = yaml.safe_load(path.read_text(errors='replace'))
        K = np.reshape(np.asarray(content['camera_matrix']['data'], float), (3, 3))
        width, height = int(content['image_width']), int(content['image_height'])
        distortion = np.asarray((content.get('distortion_coefficients') or {}).get('data', ()),
                                float).ravel()
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordingError(f'{path} is no calibration as ROS writes it (image_width, '
                             'image_height, camera_matrix, distortion_coefficients): '
                             f'{type(error).__name__} {" ".join(str(error).split())}') from None
    model = content.get('distortion_model') or 'plumb_bob'
    return checked_camera(K, width, height, path, distortion=distortion,
                          distortion_model='equidistant' if model == 'fisheye' else model)
