# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Sequences of image files; the formats of public datasets build on them."""

import logging
from os.path import isfile
import re

import numpy as np

from geo_perception.datasets.camera_files import CAMERA_FILES, read_camera
from geo_perception.datasets.frame import Frame
from geo_perception.datasets.picture_files import read_depth, read_image
from geo_perception.errors import RecordingError

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.ppm', '.pgm', '.tif', '.tiff', '.webp')
# Frames without recorded times.
NOMINAL_HZ = 30

_logger = logging.getLogger(__name__)


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
    camera : Camera or list of Camera, optional
        Intrinsics of every image, or one for each; rescaled for images of another size but the
        same shape, left out of those of another shape, the first of which is told of.
    world_frame : str
        Name of the frame of the poses.
    depths : list of Path, callable or None, optional
        Depth image of every frame, where it has one, or what returns the depth when called.
    depth_units : float
        Units per metre of the depth images.
    register : callable, optional
        Turns a depth image of another camera into one of ``camera``.
    rights : list of Path, optional
        Right image of every frame.
    baseline : float or list of float, optional
        Metres between left and right camera, of every pair, or one for each.

    """

    def __init__(self, images, stamps, poses=None, camera=None, world_frame='', depths=None,
                 depth_units=1000.0, register=None, rights=None, baseline=None):
        self._images, self._depths, self._rights = images, depths, rights
        self._stamps, self._poses = np.asarray(stamps, np.int64), poses
        self._camera, self._depth_units, self._baseline = camera, depth_units, baseline
        self._register, self._told = register, False
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
            camera=self._camera_of(index, width, height),
            T_world_camera=None if self._poses is None else self._poses[index].copy(),
            depth=self._depth(index),
            right=read_image(self._rights[index]) if self._rights else None,
            baseline=self._baseline_of(index))

    @property
    def files(self):
        """Files of the images, list of Path."""
        return self._images

    @property
    def cameras(self):
        """Intrinsics of each image at the size that they were given for, or None."""
        return self._camera if isinstance(self._camera, list) else [self._camera] * len(self)

    def _depth(self, index):
        if not self._depths or self._depths[index] is None:
            return None
        source = self._depths[index]
        depth = source() if callable(source) else read_depth(source, self._depth_units)
        return depth if self._register is None else self._register(depth)

    @property
    def stamps(self):
        """Stamps of all frames, int64 nanoseconds, shape (N,)."""
        return self._stamps

    @property
    def poses(self):
        """``T_world_camera`` of all frames, shape (N, 4, 4), or None without poses."""
        return self._poses

    def _baseline_of(self, index):
        return self._baseline[index] if isinstance(self._baseline, list) else self._baseline

    def _camera_of(self, index, width, height):
        camera = self._camera[index] if isinstance(self._camera, list) else self._camera
        if camera is None or (camera.width, camera.height) == (width, height):
            return camera
        if abs(width * camera.height - height * camera.width) <= max(width, height):
            return camera.resized(width, height)
        if not self._told:
            self._told = True
            _logger.warning('the intrinsics are for images of %dx%d pixels, %s has %dx%d, another '
                            'shape: images like it are taken for ones without intrinsics',
                            camera.width, camera.height, self._images[index], width, height)
        return None


def open_image_files(path):
    """
    Return one image, or a folder of images in natural order, without poses.

    Images have no times of their own: stamps are at a nominal 30 Hz. Intrinsics of a folder come
    from a file in it, see `geo_perception.datasets.camera_files`.

    Parameters
    ----------
    path : Path
        File or folder.

    Returns
    -------
    Sequence or None
        None when the path is none of these.

    Raises
    ------
    RecordingError
        When there is a file of intrinsics that cannot be used.

    """
    if path.is_dir():
        images = list_images(path)
        return FileSequence(images, nominal_stamps(len(images)),
                            camera=folder_camera(path, images)) if images else None
    if is_image(path):
        return FileSequence([path], nominal_stamps(1))
    return None


def list_images(folder):
    """
    Return the images in a folder.

    Parameters
    ----------
    folder : Path
        Folder.

    Returns
    -------
    list of Path
        In natural order.

    """
    return sorted((file for file in folder.iterdir() if is_image(file)), key=natural_order)


def folder_camera(folder, images):
    """
    Return the camera that a file in a folder of images describes.

    Parameters
    ----------
    folder : Path
        Where the file would be.
    images : list of Path
        The images, of which the first tells the size.

    Returns
    -------
    Camera or None
        None without such a file.

    Raises
    ------
    RecordingError
        When the file cannot be used.

    """
    if not any((folder / name).is_file() for name in CAMERA_FILES):
        return None
    height, width = read_image(images[0]).shape[:2]
    return read_camera(folder, width, height)


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


def frame_number(path):
    """
    Return the number that the name of an image ends with.

    Parameters
    ----------
    path : Path
        File.

    Returns
    -------
    int

    Raises
    ------
    RecordingError
        When there is none.

    """
    digits = re.findall(r'\d+', path.stem)
    if not digits:
        raise RecordingError(f'the name of {path} holds no frame number')
    return int(digits[-1])


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


def refuse_missing(path, files, what):
    """
    Raise when files are missing.

    Parameters
    ----------
    path : Path
        Where they were looked for.
    files : list of Path
        All of them.
    what : str
        What they are, for the message.

    Raises
    ------
    RecordingError
        It names the first and says how many.

    """
    missing = [file for file in files if not isfile(file)]
    if missing:
        raise RecordingError(f'{len(missing)} of {len(files)} {what} are missing in {path}; the '
                             f'first is {missing[0]}')


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
    exists = np.array([isfile(image) for image in images], bool)
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
