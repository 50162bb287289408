# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Optical flow in files: Middlebury's ``.flo`` and KITTI's 16-bit PNG (geonet.md section 6)."""

from pathlib import Path
import struct

import cv2
import numpy as np

from geo_perception.datasets.picture_files import read_raw
from geo_perception.errors import ImageError

FLO_MAGIC = 202021.25
# Middlebury: longer than this is unknown.
LONGEST = 1e9
# Of KITTI: units a pixel, and the unit of no flow.
UNITS, ZERO = 64.0, 32768.0


def read_flow(path):
    """
    Return the flow in a file, whose name says its kind.

    Parameters
    ----------
    path : str or Path
        ``.flo``, or ``.png`` as KITTI has it.

    Returns
    -------
    np.ndarray
        Pixels, u right, v down, float32, shape (H, W, 2), NaN where unknown; it may be unknown
        everywhere.

    Raises
    ------
    ImageError
        When it is missing, damaged or no flow.

    """
    path = Path(path)
    if path.suffix.lower() == '.flo':
        return _read_flo(path)
    raw = read_raw(path)
    if raw.dtype != np.uint16 or raw.ndim != 3 or raw.shape[2] != 3:
        raise ImageError(f'{path} is not optical flow: 16 bits and three channels are expected, '
                         f'it has {raw.dtype} and shape {raw.shape}')
    # OpenCV returns the channels backwards: valid, v, u.
    flow = (raw[..., 2:0:-1].astype(np.float32) - np.float32(ZERO)) / np.float32(UNITS)
    return np.where(raw[..., :1] > 0, flow, np.float32(np.nan))


def read_flow_of(path, image, name):
    """
    Return the flow of an image, of the same size.

    Parameters
    ----------
    path : str or Path
        As for `read_flow`.
    image : np.ndarray
        (H, W, 3).
    name : str
        Of the image, for messages.

    Returns
    -------
    np.ndarray
        As from `read_flow`.

    Raises
    ------
    ImageError
        When it cannot be read or has another size.

    """
    flow = read_flow(path)
    if flow.shape[:2] != image.shape[:2]:
        (rows, columns), (height, width) = flow.shape[:2], image.shape[:2]
        raise ImageError(f'the flow {path} has {columns}x{rows} pixels, but {name} has '
                         f'{width}x{height}; it belongs to another image')
    return flow


def flo_bytes(flow):
    """
    Return flow as a file of Middlebury's ``.flo``, unquantised.

    Parameters
    ----------
    flow : np.ndarray
        Pixels, NaN where unknown, shape (H, W, 2).

    Returns
    -------
    bytes

    """
    height, width = flow.shape[:2]
    known = np.isfinite(flow).all(-1, keepdims=True)
    content = np.where(known, flow, 2 * LONGEST).astype('<f4').tobytes()
    return struct.pack('<fii', FLO_MAGIC, width, height) + content


def kitti_flow_bytes(flow):
    """
    Return flow as a file of KITTI's PNG: 1/64 pixels, rounded; unknown beyond 512 pixels.

    Parameters
    ----------
    flow : np.ndarray
        Pixels, NaN where unknown, shape (H, W, 2).

    Returns
    -------
    bytes

    """
    values = flow.astype(float) * UNITS + ZERO
    known = (np.isfinite(values) & (values >= 0) & (values < 65535.5)).all(-1, keepdims=True)
    values = np.where(known, values, 0.0).round()
    content = np.concatenate([known, values[..., ::-1]], -1).astype(np.uint16)
    # OpenCV takes the channels backwards: valid, v, u.
    return cv2.imencode('.png', content)[1].tobytes()


def _read_flo(path):
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f'cannot read the flow {path}: {error.strerror}') from error
    magic, width, height = struct.unpack('<fii', data[:12]) if len(data) >= 12 else (0, 0, 0)
    if magic != FLO_MAGIC or width <= 0 or height <= 0:
        raise ImageError(f'{path} is not optical flow: it does not begin as a .flo file')
    needed = 12 + 8 * width * height
    if len(data) != needed:
        raise ImageError(f'{path} is damaged: flow of {width}x{height} pixels takes {needed} '
                         f'bytes, it has {len(data)}')
    flow = np.frombuffer(data, '<f4', offset=12).reshape(height, width, 2)
    known = (np.abs(flow) < LONGEST).all(-1, keepdims=True)
    return np.where(known, flow, np.float32(np.nan))
