# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Prepared folders for training (sfmlearner.md section 5.1), as recordings.

Published layout: ``<folder>/<frame>.jpg`` is a strip, the frames of one snippet side by side in
order of time; ``<frame>_cam.txt`` holds K of one tile; ``train.txt`` and ``val.txt`` list
``<folder> <frame>``. Modern layout: the lists name folders, each with single frames and one file
of intrinsics.
"""

import json
from pathlib import Path

import numpy as np

from geo_perception.datasets.camera_files import checked_camera, read_numbers
from geo_perception.datasets.frame import Frame
from geo_perception.datasets.image_files import (
    FileSequence, folder_camera, list_images, nominal_stamps, refuse_missing)
from geo_perception.datasets.picture_files import read_image
from geo_perception.errors import RecordingError

LISTS = ('train.txt', 'val.txt')
# How a folder was prepared; ours alone have it.
SETTINGS = 'prepared.json'
# Nominal, as KITTI; strips and folders lie ten frames apart, so that no snippet joins two.
_HZ = 10
_APART = 10


def open_prepared(path):
    """
    Return a prepared folder as a recording without poses.

    Parameters
    ----------
    path : Path
        Folder, of which both lists are taken, or one of its lists.

    Returns
    -------
    Sequence or None
        None when the path is nothing of that kind. Stamps are at a nominal 10 Hz; only frames of
        the same strip (or the same folder) follow each other.

    Raises
    ------
    RecordingError
        When listed files are missing or a strip is not what it should be.

    """
    if path.is_dir():
        root, lists = path, [path / name for name in LISTS if (path / name).is_file()]
    else:
        root, lists = path.parent, [path] if path.name in LISTS else []
    lines = [line.split() for file in lists
             for line in file.read_text(errors='replace').splitlines() if line.strip()]
    if not lines:
        return None
    if all(len(words) == 2 for words in lines):
        return _Strips(root, [root / folder / frame for folder, frame in lines])
    scenes = [root / words[0] for words in lines if len(words) == 1]
    if len(scenes) < len(lines) or not any(scene.is_dir() for scene in scenes):
        return None
    return _open_scenes(root, scenes)


def split_lists(spec):
    """
    Return the training and the validation list of a prepared folder.

    Parameters
    ----------
    spec : str
        What a person gave as recording.

    Returns
    -------
    tuple of str or None
        Paths of both lists; None when it is no such folder or one list is missing or empty.

    """
    folder = Path(spec).expanduser()
    lists = [folder / name for name in LISTS]
    if all(file.is_file() and file.stat().st_size for file in lists):
        return str(lists[0]), str(lists[1])
    return None


class _Strips:
    """
    The tiles of strips.

    Parameters
    ----------
    root : Path
        Prepared folder.
    strips : list of Path
        Without ``.jpg``.

    """

    world_frame = ''
    poses = None

    def __init__(self, root, strips):
        self._strips = strips
        refuse_missing(root, [file for strip in strips for file in strip_files(strip)],
                       'files that the lists name')
        self._length = self._find_length(root)
        starts = np.arange(len(strips))[:, None] * (self._length + _APART)
        self._stamps = (starts + np.arange(self._length)).reshape(-1) * (10**9 // _HZ)
        self._last = None, None

    def __len__(self):
        """Return the number of tiles."""
        return len(self._stamps)

    def __getitem__(self, index):
        """Read one tile."""
        index = range(len(self))[index]
        number, tile = divmod(index, self._length)
        strip, camera_file = strip_files(self._strips[number])
        # The next tile is asked for next.
        if self._last[0] != number:
            self._last = number, read_image(strip)
        picture = self._last[1]
        height, width = picture.shape[0], picture.shape[1] // self._length
        if picture.shape[1] % self._length:
            raise RecordingError(f'{strip} is {picture.shape[1]} pixels wide, which are not '
                                 f'{self._length} tiles; the folder mixes lengths, prepare it '
                                 'again')
        return Frame(stamp=int(self._stamps[index]), name=f'{strip}#{tile}',
                     image=np.ascontiguousarray(picture[:, tile * width:(tile + 1) * width]),
                     camera=checked_camera(read_numbers(camera_file, 9), width, height,
                                           camera_file))

    @property
    def stamps(self):
        """Stamps of all tiles, int64 nanoseconds, shape (N,)."""
        return self._stamps

    def _find_length(self, root):
        """Return how many tiles a strip has: as written down, else by the principal point."""
        if (root / SETTINGS).is_file():
            return read_settings(root)['length']
        strip, camera_file = strip_files(self._strips[0])
        width, cx = read_image(strip).shape[1], read_numbers(camera_file, 9)[2]
        length = round(width / (2 * cx)) if cx > 0 else 0
        if length < 3 or length % 2 == 0 or width % length:
            raise RecordingError(f'{strip} is {width} pixels wide and {camera_file} has the '
                                 f'principal point at {cx:g}: that is no strip of 3 or 5 tiles')
        return length


def read_settings(root):
    """
    Return how a folder was prepared.

    Parameters
    ----------
    root : Path
        Prepared folder with `SETTINGS`.

    Returns
    -------
    dict
        With ``length`` among others.

    Raises
    ------
    RecordingError
        When the file is damaged.

    """
    try:
        settings = json.loads((root / SETTINGS).read_text(errors='replace'))
        settings['length'] = length = int(settings['length'])
        if length < 3 or length % 2 == 0:
            raise ValueError(f'length is {length}, no odd number of at least 3')
        return settings
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise RecordingError(f'{root / SETTINGS} is damaged: {type(error).__name__} {error}; '
                             'prepare the folder again') from None


def strip_files(strip):
    """
    Return the files of a strip.

    Parameters
    ----------
    strip : Path
        Without suffix.

    Returns
    -------
    tuple of Path
        Picture and intrinsics.

    """
    return strip.with_name(strip.name + '.jpg'), strip.with_name(strip.name + '_cam.txt')


def _open_scenes(root, scenes):
    """Return folders of single frames, one after the other."""
    missing = [scene for scene in scenes if not scene.is_dir()]
    if missing:
        raise RecordingError(f'{len(missing)} of {len(scenes)} folders that the lists name are '
                             f'missing in {root}; the first is {missing[0]}')
    images, cameras, stamps = [], [], np.zeros(0, np.int64)
    for scene in scenes:
        found = list_images(scene)
        if not found:
            raise RecordingError(f'{scene} holds no images')
        start = stamps[-1] + _APART * 10**9 // _HZ if len(stamps) else 0
        images += found
        cameras += [folder_camera(scene, found)] * len(found)
        stamps = np.concatenate([stamps, start + nominal_stamps(len(found), _HZ)])
    return FileSequence(images, stamps, camera=cameras)
