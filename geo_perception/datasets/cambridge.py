# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Cambridge Landmarks and other label files in PoseNet's text format (posenet.md section 12.1).

A line is ``image X Y Z W P Q R``: the camera centre in the world and a quaternion, w first. In
Cambridge Landmarks the quaternion turns world into camera; in the 7-Scenes lists of the same
format it turns camera into world, and nothing in the file tells.
"""

import re

import numpy as np

from geo_perception.datasets.image_files import (
    FileSequence, folder_camera, keep_usable, nominal_stamps)
from geo_perception.datasets.trajectory import labels_from_quaternions
from geo_perception.errors import RecordingError

_LISTS = ('dataset_train.txt', 'dataset_test.txt')
_HEADER_LINES = 3
_SAMPLED_HZ = 2
_SEVEN_SCENES_NAME = re.compile(r'frame-\d+\.color\.')


def open_cambridge(path, quaternion=None):
    """
    Return a recording in PoseNet's text format.

    Parameters
    ----------
    path : Path
        ``dataset_train.txt`` or ``dataset_test.txt``, image names in it relative to its folder; or
        a folder with just one of them. There are no recorded times: stamps are at a nominal 2 Hz.
    quaternion : str, optional
        ``world_to_camera`` (default, right for Cambridge Landmarks) or ``camera_to_world``.

    Returns
    -------
    FileSequence or None
        None when the path is nothing of that kind.

    Raises
    ------
    RecordingError
        When a line cannot be read, no image has a pose, a folder holds both lists, or the list
        looks like 7-Scenes and ``quaternion`` was not given.

    """
    if path.is_dir():
        lists = [path / name for name in _LISTS if (path / name).is_file()]
        if len(lists) > 1:
            raise RecordingError(f'{path} holds a training and a test list; give {lists[0]} or '
                                 f'{lists[1]}')
        if not lists:
            return None
        path = lists[0]
    if path.suffix != '.txt':
        return None
    if quaternion not in (None, 'world_to_camera', 'camera_to_world'):
        raise RecordingError(f"quaternion '{quaternion}' is unknown; use world_to_camera or "
                             'camera_to_world')
    names, numbers = _read_lines(path)
    if not names:
        return None
    if quaternion is None and _SEVEN_SCENES_NAME.search(names[0]):
        raise RecordingError(f'{path} lists 7-Scenes images, whose quaternions are usually '
                             'camera_to_world, in a format where Cambridge has world_to_camera; '
                             'set quaternion to one of them')
    images = [path.parent / name.lstrip('/') for name in names]
    quaternions = numbers[:, 3:].copy()
    if quaternion != 'camera_to_world':
        quaternions[:, 1:] *= -1
    labels = labels_from_quaternions(numbers[:, :3], quaternions, names)
    usable = keep_usable(path, images, labels)
    stamps, images = nominal_stamps(len(names), _SAMPLED_HZ), [images[i] for i in usable]
    return FileSequence(images, stamps[usable], labels.poses[usable], world_frame='world',
                        camera=folder_camera(path.parent, images))


def _read_lines(path):
    """Return (image names, (N, 7) numbers); nothing if no line has the format."""
    names, rows, foreign = [], [], []
    for number, line in enumerate(path.read_text(errors='replace').splitlines(), 1):
        if not line.strip():
            continue
        name, *words = line.strip().rsplit(maxsplit=7)
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if len(row) == 7:
            names.append(name)
            rows.append(row)
        else:
            foreign.append((number, line.strip()))
    wrong = [entry for entry in foreign if entry[0] > _HEADER_LINES]
    if names and wrong:
        number, line = wrong[0]
        raise RecordingError(f"line {number} of {path} is not 'image X Y Z W P Q R': '{line}'")
    return names, np.array(rows, float).reshape(-1, 7)
