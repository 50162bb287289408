# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""TUM RGB-D (posenet.md section 12.3): colour, registered depth, motion-capture poses."""

from decimal import Decimal, InvalidOperation
import logging
from os.path import isfile

import numpy as np

from geo_perception.datasets.camera_files import CAMERA_FILES
from geo_perception.datasets.image_files import FileSequence, folder_camera, keep_usable
from geo_perception.datasets.trajectory import interpolate_poses, Labels, labels_from_quaternions
from geo_perception.errors import RecordingError
from geo_perception.geometry.camera import Camera

_logger = logging.getLogger(__name__)
# Motion capture runs at 100 Hz; a longer pause means that it lost the markers.
_MAX_GAP_NS = 100_000_000
# The reference tool's limit between a colour and a depth image.
_DEPTH_REACH_NS = 20_000_000
# fx, fy, cx, cy and distortion of the three cameras, by name of the recording.
_CAMERAS = {
    'freiburg1': ((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    'freiburg2': ((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    'freiburg3': ((535.4, 539.2, 320.1, 247.6), ())}
_ROS_DEFAULT = ((525.0, 525.0, 319.5, 239.5), ())


def open_tum(path):
    """
    Return a TUM RGB-D recording.

    Poses are camera-to-world and interpolated to the colour images; images with no ground truth
    within reach are left out. Intrinsics are those of a camera file in the folder (see
    `geo_perception.datasets.camera_files`), else follow its name (``freiburg1``, ``2`` or ``3``),
    else are the ROS default of the Kinect, with a warning.

    Parameters
    ----------
    path : Path
        Folder with ``rgb.txt`` and ``groundtruth.txt``, and perhaps ``depth.txt``.

    Returns
    -------
    FileSequence or None
        None when the path is nothing of that kind.

    Raises
    ------
    RecordingError
        When a line cannot be read or no image has a pose.

    """
    if not path.is_dir() or not (path / 'rgb.txt').is_file() \
            or not (path / 'groundtruth.txt').is_file():
        return None
    stamps, rows = _read_table(path / 'rgb.txt', 1)
    images = [path / row[0] for row in rows]
    poses, valid, problems = _poses_at(path / 'groundtruth.txt', stamps)
    usable = keep_usable(path, images, Labels(poses, valid, problems))
    stamps = stamps[usable]
    images = [images[i] for i in usable]
    return FileSequence(images, stamps, poses[usable], world_frame='world',
                        camera=folder_camera(path, images) or _known_camera(path),
                        depths=_depths(path, stamps), depth_units=5000.0)


def associate(a, b, reach_ns):
    """
    Pair two lists of stamps: the closest pair first, each stamp used once.

    Parameters
    ----------
    a, b : np.ndarray
        int64 nanoseconds, increasing, shapes (N,) and (M,).
    reach_ns : int
        Pairs further apart than this are not made.

    Returns
    -------
    np.ndarray
        For every ``a`` the index of its partner in ``b``, or -1, shape (N,).

    """
    low, high = np.searchsorted(b, a - reach_ns), np.searchsorted(b, a + reach_ns, 'right')
    pairs = sorted((abs(int(a[i] - b[j])), i, j)
                   for i in range(len(a)) for j in range(low[i], high[i]))
    partner, used = np.full(len(a), -1), set()
    for _, i, j in pairs:
        if partner[i] < 0 and j not in used:
            partner[i] = j
            used.add(j)
    return partner


def _poses_at(path, stamps):
    """Return (poses, which are valid, problems) of ground truth at other times."""
    times, rows = _read_table(path, 7)
    try:
        numbers = np.array(rows, float).reshape(-1, 7)
    except ValueError as error:
        raise RecordingError(f'{path} holds something that is not a number: {error}') from None
    labels = labels_from_quaternions(numbers[:, :3], numbers[:, [6, 3, 4, 5]],
                                     [f'ground truth at {time * 1e-9:.4f} s' for time in times])
    times, order = np.unique(times[labels.valid], return_index=True)
    poses, valid = interpolate_poses(times, labels.poses[labels.valid][order], stamps, _MAX_GAP_NS)
    problems = list(labels.problems)
    if not valid.all():
        problems.append(f'{np.sum(~valid)} of {len(valid)} images are left out: {path.name} has '
                        f'no pose within {_MAX_GAP_NS * 1e-9:.1f} s before and after them')
    return poses, valid, problems


def _depths(path, stamps):
    """Return for every stamp the depth image, or None."""
    if not (path / 'depth.txt').is_file():
        return None
    times, rows = _read_table(path / 'depth.txt', 1)
    files = [path / row[0] for row in rows]
    return [files[j] if j >= 0 and isfile(files[j]) else None
            for j in associate(stamps, times, _DEPTH_REACH_NS)]


def _known_camera(path):
    """Return the camera that the name of a folder stands for, else the default."""
    name = path.resolve().name
    known = next((values for word, values in _CAMERAS.items()
                  if word in name or word.replace('freiburg', 'fr') + '_' in name), None)
    if known is None:
        _logger.warning(
            '%s: the focal length is taken to be 525 pixels: there is no %s in the folder, and '
            'its name is none of freiburg1 to 3', path, ' or '.join(CAMERA_FILES))
    (fx, fy, cx, cy), distortion = known or _ROS_DEFAULT
    return Camera(K=np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]), width=640,
                  height=480, distortion=np.array(distortion, float))


def _read_table(path, columns):
    """Return (stamps in ns, other words) of the lines that are not comments, by stamp."""
    stamps, rows = [], []
    for number, line in enumerate(path.read_text(errors='replace').splitlines(), 1):
        words = line.replace(',', ' ').split()
        if not words or words[0].startswith('#'):
            continue
        try:
            # Epoch seconds with decimals need more digits than a float has.
            stamp = int(Decimal(words[0]) * 10**9)
            if not abs(stamp) < 2**62:
                raise OverflowError
            stamps.append(stamp)
        except (InvalidOperation, ValueError, OverflowError):
            raise RecordingError(f'line {number} of {path} does not begin with a time: '
                                 f"'{line.strip()}'") from None
        if len(words) < 1 + columns:
            raise RecordingError(f'line {number} of {path} has {len(words)} columns, '
                                 f"{1 + columns} are expected: '{line.strip()}'")
        rows.append(words[1:1 + columns])
    if not rows:
        raise RecordingError(f'{path} holds no lines of data')
    order = np.argsort(stamps, kind='stable')
    return np.array(stamps, np.int64)[order], [rows[i] for i in order]
