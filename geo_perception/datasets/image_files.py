# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Sequences of image files; the formats of public datasets build on them."""

import logging
from pathlib import Path
import re

import cv2
import numpy as np

from geo_perception.datasets.frame import Frame
from geo_perception.errors import ImageError, RecordingError

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.ppm', '.pgm', '.tif', '.tiff', '.webp')
# Frames without recorded times.
NOMINAL_HZ = 30

_logger = logging.getLogger(__name__)


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
    raw = _read(path, cv2.IMREAD_UNCHANGED)
    if raw.dtype != np.uint16 or raw.ndim != 2:
        raise ImageError(f'{path} is not a depth image: 16 bits and one channel are expected, it '
                         f'has {raw.dtype} and shape {raw.shape}')
    invalid = (raw == 0) | (raw == 65535)
    return np.where(invalid, np.float32(np.nan), raw / np.float32(units_per_metre))


def nominal_stamps(count, rate=NOMINAL_HZ):
    """
    Return evenly spaced stamps from zero, for recordings that hold no times.

    Parameters
    ----------
    count : int
        How many.
    rate : float
        Hertz.

    Returns
    -------
    np.ndarray
        int64 nanoseconds, shape (count,).

    """
    return np.array([round(i * 10**9 / rate) for i in range(count)], np.int64)


class FileSequence:
    """
    Frames of which every image is a file.

    Parameters
    ----------
    images : list of Path
        Colour or grey images.
    stamps : np.ndarray
        int64 nanoseconds, shape (N,).
    poses : np.ndarray, optional
        ``T_world_camera``, shape (N, 4, 4).
    camera : Camera, optional
        Intrinsics of every image; rescaled for images of another size but the same shape.
    world_frame : str
        Name of the frame of the poses.
    depths : list of Path or None, optional
        Depth image of every frame, where it has one.
    depth_units : float
        Units per metre of the depth images.
    register : callable, optional
        Turns a depth image of another camera into one of ``camera``.
    rights : list of Path, optional
        Right image of every frame.
    baseline : float, optional
        Metres between left and right camera.

    """

    def __init__(self, images, stamps, poses=None, camera=None, world_frame='', depths=None,
                 depth_units=1000.0, register=None, rights=None, baseline=None):
        self._images, self._depths, self._rights = images, depths, rights
        self._stamps, self._poses = np.asarray(stamps, np.int64), poses
        self._camera, self._depth_units, self._baseline = camera, depth_units, baseline
        self._register = register
        self.world_frame = world_frame

    def __len__(self):
        """Return the number of frames."""
        return len(self._images)

    def __getitem__(self, index):
        """Read one frame."""
        index = range(len(self))[index]
        image = read_image(self._images[index])
        height, width = image.shape[:2]
        return Frame(
            stamp=int(self._stamps[index]), image=image, name=str(self._images[index]),
            camera=self._camera_of(width, height),
            T_world_camera=None if self._poses is None else self._poses[index].copy(),
            depth=self._depth(index),
            right=read_image(self._rights[index]) if self._rights else None,
            baseline=self._baseline if self._rights else None)

    def _depth(self, index):
        if not self._depths or self._depths[index] is None:
            return None
        depth = read_depth(self._depths[index], self._depth_units)
        return depth if self._register is None else self._register(depth)

    @property
    def stamps(self):
        """Stamps of all frames, int64 nanoseconds, shape (N,)."""
        return self._stamps

    @property
    def poses(self):
        """``T_world_camera`` of all frames, shape (N, 4, 4), or None without poses."""
        return self._poses

    def _camera_of(self, width, height):
        camera = self._camera
        if camera is None or (camera.width, camera.height) == (width, height):
            return camera
        same_shape = abs(width * camera.height - height * camera.width) <= max(width, height)
        return camera.resized(width, height) if same_shape else None


def open_image_files(path):
    """
    Return one image, or a folder of images in natural order, without poses.

    Parameters
    ----------
    path : Path
        File or folder.

    Returns
    -------
    Sequence or None
        None when the path is none of these.

    """
    if path.is_dir():
        images = sorted((file for file in path.iterdir() if is_image(file)), key=natural_order)
        return FileSequence(images, nominal_stamps(len(images))) if images else None
    if is_image(path):
        return FileSequence([path], nominal_stamps(1))
    return None


def is_image(path):
    """
    Tell whether a file is named like an image.

    Parameters
    ----------
    path : Path
        File.

    Returns
    -------
    bool

    """
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith('.')


def natural_order(path):
    """
    Return a sorting key that puts ``image_9`` before ``image_10``.

    Parameters
    ----------
    path : Path
        File.

    Returns
    -------
    list

    """
    parts = re.split(r'(\d+)', path.name)
    return [(int(part), '') if part.isdigit() else (-1, part) for part in parts]


def keep_usable(path, images, labels):
    """
    Return which labelled images can be used, and log what is left out.

    Parameters
    ----------
    path : Path
        The recording, for messages.
    images : list of Path
        Image of every label.
    labels : Labels
        Their poses.

    Returns
    -------
    np.ndarray
        Indices of the images that exist and have a valid pose.

    Raises
    ------
    RecordingError
        When none is left.

    """
    problems = list(labels.problems)
    exists = np.array([image.is_file() for image in images], bool)
    if not exists.all():
        missing = images[int(np.argmin(exists))]
        problems.append(f'{np.sum(~exists)} of {len(images)} images are missing and left out '
                        f'(first: {missing})')
    usable = np.flatnonzero(exists & labels.valid)
    if not len(usable):
        raise RecordingError(f'{path} holds no image with a pose'
                             f'{": " if problems else ""}{"; ".join(problems)}')
    for problem in problems:
        _logger.warning('%s: %s', path, problem)
    return usable


def _read(path, flags):
    if not Path(path).is_file():
        raise ImageError(f'the image {path} does not exist')
    picture = cv2.imread(str(path), flags)
    if picture is None:
        raise ImageError(f'the image {path} cannot be decoded: it is damaged or not a picture')
    return picture
