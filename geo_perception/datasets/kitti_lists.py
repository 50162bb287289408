# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
The published lists of KITTI raw.

Test images and standing frames (sfmlearner.md appendices B and C), and the drives that GeoNet's
flow split keeps out (geonet.md appendix C). Drives are named without ``_sync``.
"""

from pathlib import Path

_FOLDER = Path(__file__).with_name('data')


def eigen_test_frames():
    """
    Return Eigen's 697 test images, in the order of evaluation.

    Returns
    -------
    list of tuple
        (drive, frame number) in camera 02.

    """
    return [(drive, int(frame)) for drive, *frames in _rows('kitti_eigen_test.txt')
            for frame in frames]


def excluded_scenes(split):
    """
    Return the drives that a split keeps out of training.

    Parameters
    ----------
    split : str
        ``eigen`` (28 drives), ``stereo`` (29) or ``all`` (none).

    Returns
    -------
    set of str

    """
    if split == 'all':
        return set()
    return {row[0] for row in _rows({'eigen': 'kitti_eigen_test.txt',
                                     'stereo': 'kitti_stereo_scenes.txt'}[split])}


def static_frames(system='sfmlearner'):
    """
    Return the frames in which the car stands; they count for both colour cameras.

    Parameters
    ----------
    system : str
        ``sfmlearner`` (8044 frames) or ``geonet`` (7 more).

    Returns
    -------
    set of tuple
        (drive, frame number).

    """
    found = set()
    for drive, *runs in _rows('kitti_static_frames.txt'):
        for run in runs:
            if run.endswith('*') and system != 'geonet':
                continue
            first, _, last = run.rstrip('*').partition('-')
            found.update((drive, frame) for frame in range(int(first), int(last or first) + 1))
    return found


def _rows(name):
    """Return the words of each line that is no comment."""
    return [line.split() for line in (_FOLDER / name).read_text().splitlines()
            if not line.startswith('#')]
