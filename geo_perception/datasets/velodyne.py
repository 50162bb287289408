# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Depth from the laser scanner of KITTI."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geo_perception.errors import RecordingError


def velodyne_depth(points, P, width, height, published=False):
    """
    Return the depth image of a laser scan: where no point falls, nothing is known.

    Parameters
    ----------
    points : np.ndarray
        In the frame of the scanner (x forward), metres, shape (N, 3) or wider.
    P : np.ndarray
        ``P_rect R_rect T_velo_to_cam``: from there to pixels, 3x4.
    width, height : int
        Size of the image, pixels.
    published : bool
        True gives the ground truth that published numbers are measured with (sfmlearner.md
        section 6.1): the value is the distance *forward of the scanner*, which stands a quarter
        of a metre behind the camera; pixels are counted from one; points between scanner and
        camera are not left out. (There a few points at the left border are also merged with
        some at the right, outside of any crop; here not.)

    Returns
    -------
    np.ndarray
        float32 metres, shape (height, width), NaN where unknown; the nearest of several points.

    """
    points = np.asarray(points, float)[:, :3]
    points = points[points[:, 0] >= 0]
    u, v, z = P[:, :3] @ points.T + P[:, 3:]
    with np.errstate(divide='ignore', invalid='ignore'):
        u, v = np.round(u / z) - published, np.round(v / z) - published
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    if not published:
        inside &= z > 0
    values = points[:, 0] if published else z
    depth = np.full((height, width), np.inf)
    np.minimum.at(depth, (v[inside].astype(int), u[inside].astype(int)), values[inside])
    return np.where(np.isinf(depth), np.nan, depth).astype(np.float32)


@dataclass(frozen=True)
class VelodyneScan:
    """
    A scan that is read and projected when it is called; see `velodyne_depth`.

    Attributes
    ----------
    path : Path
        Four float32 a point: x, y, z, reflectance.
    P : np.ndarray
        From the frame of the scanner to pixels, 3x4.
    width, height : int
        Size of the image, pixels.
    published : bool
        Whether the ground truth of published numbers is wanted.

    """

    path: Path
    P: np.ndarray
    width: int
    height: int
    published: bool = False

    def __call__(self):
        """
        Return the depth image.

        Raises
        ------
        RecordingError
            When the file is no scan.

        """
        try:
            numbers = np.fromfile(self.path, '<f4')
        except OSError as error:
            raise RecordingError(f'the scan {self.path} cannot be read: {error.strerror}') \
                from None
        if numbers.size % 4:
            raise RecordingError(f'the scan {self.path} is truncated: it holds {numbers.size} '
                                 'numbers, not four for each point')
        return velodyne_depth(numbers.reshape(-1, 4), self.P, self.width, self.height,
                              self.published)
