# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
7-Scenes (posenet.md section 12.2).

``pose.txt`` holds the camera-to-world pose of the Kinect's *depth* camera, from KinectFusion. As
in the published comparisons it is used for the colour image as it is, its rotation moved to the
nearest true one. The colour camera was never calibrated by the authors; f = 525, centre (320, 240)
is the common choice, where no camera file says better. Depth is measured by another camera 26 mm
beside it: it is registered to the colour image on reading, with the Kinect calibration in common
use (rotation 0.67 degrees).
"""

from functools import partial
from pathlib import Path
import re

import numpy as np

from geo_perception.datasets.image_files import (
    FileSequence, folder_camera, keep_usable, NOMINAL_HZ)
from geo_perception.datasets.trajectory import labels_from_matrices
from geo_perception.errors import RecordingError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.warp import register_depth

_CAMERA = Camera(K=np.array([[525.0, 0.0, 320.0], [0.0, 525.0, 240.0], [0.0, 0.0, 1.0]]),
                 width=640, height=480)
_DEPTH_CAMERA = Camera(K=np.array([[585.0, 0.0, 320.0], [0.0, 585.0, 240.0], [0.0, 0.0, 1.0]]),
                       width=640, height=480)
_T_COLOUR_DEPTH = np.array([[0.99996518, 0.00267651, -0.00790410, -0.02555894],
                            [-0.00274093, 0.99996303, -0.00815045, 0.00010110],
                            [0.00788199, 0.00817183, 0.99993555, 0.00203183],
                            [0.0, 0.0, 0.0, 1.0]])
_FRAME = re.compile(r'frame-(\d+)\.color\.(?:png|jpg)')


def open_seven_scenes(path):
    """
    Return a 7-Scenes recording.

    Parameters
    ----------
    path : Path
        A folder of ``frame-NNNNNN.color.(png|jpg)`` and ``.pose.txt``, a folder of such folders,
        or ``TrainSplit.txt`` or ``TestSplit.txt`` of a scene. There are no recorded times: stamps
        are at a nominal 30 Hz by frame number, sequences one after the other. A camera file (see
        `geo_perception.datasets.camera_files`) counts there, or beside the split.

    Returns
    -------
    FileSequence or None
        None when the path is nothing of that kind.

    Raises
    ------
    RecordingError
        When a split names a missing sequence, a scene is given without a choice of split, no
        image has a pose, or a camera file cannot be used.

    """
    if path.is_file():
        folders = _split(path) if path.name in ('TrainSplit.txt', 'TestSplit.txt') else []
    elif _images(path):
        folders = [path]
    else:
        folders = [folder for folder in sorted(path.iterdir())
                   if folder.is_dir() and _images(folder)]
        if folders and (path / 'TrainSplit.txt').is_file():
            raise RecordingError(f'{path} is a 7-Scenes scene with a published split; give '
                                 f'{path / "TrainSplit.txt"}, {path / "TestSplit.txt"} or one of '
                                 'its sequences')
    if not folders:
        return None

    images, stamps, start = [], [], 0
    for folder in folders:
        numbered = _images(folder)
        images += [image for _, image in numbered]
        stamps += [start + round(number * 10**9 / NOMINAL_HZ) for number, _ in numbered]
        start = stamps[-1] + 10**9
    prefixes = [image.parent / image.name.partition('.')[0] for image in images]
    labels = labels_from_matrices([_pose(Path(f'{prefix}.pose.txt')) for prefix in prefixes],
                                  [str(image) for image in images])
    usable = keep_usable(path, images, labels)
    depths = [Path(f'{prefixes[i]}.depth.png') for i in usable]
    camera = folder_camera(path if path.is_dir() else path.parent, images) or _CAMERA
    return FileSequence(
        [images[i] for i in usable], np.array(stamps, np.int64)[usable], labels.poses[usable],
        camera=camera, world_frame='world',
        depths=[depth if depth.is_file() else None for depth in depths], depth_units=1000.0,
        register=partial(_register, camera=camera))


def _register(depth, camera):
    """Return depth of the depth camera as depth of the colour camera."""
    height, width = depth.shape
    return register_depth(depth, _DEPTH_CAMERA.resized(width, height),
                          camera.resized(width, height), _T_COLOUR_DEPTH)


def _images(folder):
    """Return (number, file) of the colour images in a folder, in order."""
    found = ((_FRAME.fullmatch(file.name), file) for file in folder.iterdir())
    return sorted((int(match.group(1)), file) for match, file in found if match)


def _split(path):
    """Return the folders of a split file: ``sequence3`` means ``seq-03``."""
    folders = []
    for line in path.read_text(errors='replace').splitlines():
        line = line.strip()
        if not line or line.startswith('#'):
            continue
        number = re.fullmatch(r'sequence(\d+)', line)
        folder = path.parent / f'seq-{int(number.group(1)):02d}' if number else None
        if folder is None or not folder.is_dir():
            raise RecordingError(f"{path} names '{line}', but {path.parent} has no such sequence")
        folders.append(folder)
    return folders


def _pose(path):
    """Return the 4x4 matrix in a file, NaN where there is none."""
    try:
        numbers = [float(word) for word in path.read_text(errors='replace').split()]
    except (OSError, ValueError):
        numbers = []
    return np.reshape(numbers, (4, 4)) if len(numbers) == 16 else np.full((4, 4), np.nan)
