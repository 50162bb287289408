# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Single pictures in files: colours, depth, or numbers as they are."""

from pathlib import Path

import cv2
import numpy as np

from geo_perception.errors import ImageError


def read_image(path):
    """
    Return the picture in a file; grey ones are replicated, 16 bits scaled to 8.

    Parameters
    ----------
    path : str or Path
        PNG, JPEG or whatever else OpenCV reads.

    Returns
    -------
    np.ndarray
        (H, W, 3) uint8 RGB.

    Raises
    ------
    ImageError
        When it is not a whole picture.

    """
    return cv2.cvtColor(_read(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_depth(path, units_per_metre):
    """
    Return the depth in a 16-bit PNG; 0 and 65535 mean unknown (posenet.md section 12.2).

    Parameters
    ----------
    path : str or Path
        One-channel 16-bit picture.
    units_per_metre : float
        1000 for millimetres.

    Returns
    -------
    np.ndarray
        (H, W) float32 metres, NaN where unknown.

    Raises
    ------
    ImageError
        When it is not such a picture.

    """
    raw = read_raw(path)
    if raw.dtype != np.uint16 or raw.ndim != 2:
        raise ImageError(f'{path} is not a depth image: 16 bits and one channel are expected, it '
                         f'has {raw.dtype} and shape {raw.shape}')
    invalid = (raw == 0) | (raw == 65535)
    return np.where(invalid, np.float32(np.nan), raw / np.float32(units_per_metre))


def read_raw(path):
    """
    Return the numbers in a picture as they are.

    Parameters
    ----------
    path : str or Path
        Any picture that OpenCV reads.

    Returns
    -------
    np.ndarray
        (H, W) or (H, W, C), uint8 or uint16; channels in OpenCV's order.

    Raises
    ------
    ImageError
        When it is not a whole picture.

    """
    return _read(path, cv2.IMREAD_UNCHANGED)


def _read(path, flags):
    if not Path(path).is_file():
        raise ImageError(f'the image {path} does not exist')
    try:
        picture = cv2.imread(str(path), flags)
    except cv2.error:   # Its header says a size that no picture has.
        picture = None
    if picture is None:
        raise ImageError(f'the image {path} cannot be decoded: it is damaged or not a picture')
    return picture
