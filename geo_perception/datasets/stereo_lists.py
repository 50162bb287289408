# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Stereo pairs that are files: lists of pairs, two folders, KITTI 2015 (monodepth.md section 11).

A list has a pair a line, ``<left> <right>``, and may have the disparity of the left image behind
it (16 bits, value / 256 pixels, 0 = unknown). Paths begin at the folder of the list or at one
above it. Cameras and baseline are found where KITTI and Cityscapes have them; an own rig has
``left.yaml`` and ``right.yaml``, as ROS's camera calibration writes them, or ``cam.txt`` (K) and
``baseline.txt`` (metres), in the folder where the paths begin.
"""

from dataclasses import replace
import json
import logging
from os.path import isfile
from pathlib import Path
import re

import numpy as np
import yaml

from geo_perception.datasets.camera_files import CAMERA_FILES, checked_camera, read_numbers
from geo_perception.datasets.image_files import (
    FileSequence, folder_camera, IMAGE_SUFFIXES, list_images, nominal_stamps, refuse_missing)
from geo_perception.datasets.kitti_calibration import (
    CALIBRATION, camera_by_size, camera_in_file, rectified_camera)
from geo_perception.datasets.picture_files import read_image, read_raw
from geo_perception.errors import ImageError, RecordingError

DISPARITY_UNITS = 256.0
# Metres, of KITTI's and Cityscapes' rigs where no calibration lies beside (monodepth.md 12.2).
KITTI_BASELINE, CITYSCAPES_BASELINE = 0.54, 0.22
CITYSCAPES_FOCAL = 2262 / 2048   # of the width
# Of KITTI 2015.
BENCHMARK_PAIRS = 200
# The bonnet is below (monodepth.md section 11.3).
CITYSCAPES_ROWS = 0.8
# Not a video: far enough apart that no frame follows another.
_RATE_HZ = 0.1
_RAW = re.compile(r'(\d{4}_\d\d_\d\d)/\1_drive_\d{4}_sync/image_0([0-3])/')
_BENCHMARK = re.compile(r'image_2/(\d{6})_1[01]\.')
_CITY = re.compile(r'([^/]+)_(\d{6})_(\d{6})_leftImg8bit\.')

_logger = logging.getLogger(__name__)


def open_stereo_pairs(path):
    """
    Return the pairs of a list, of two folders, or of KITTI's stereo benchmark of 2015.

    Parameters
    ----------
    path : Path
        A list (``.txt``); a folder with ``left/`` and ``right/``, images of the same names; or
        KITTI 2015's ``training``, with ``image_2``, ``image_3`` and ``disp_occ_0``.

    Returns
    -------
    Sequence or None
        None when the path is nothing of that kind. The pairs follow no time.

    Raises
    ------
    RecordingError
        When listed files are missing, or a calibration cannot be used.

    """
    if path.is_dir():
        for left, right, truth in (('image_2', 'image_3', 'disp_occ_0'),
                                   ('left', 'right', 'disparity')):
            if (path / left).is_dir() and (path / right).is_dir():
                return _open_folders(path, left, right, truth)
        return None
    lines = _pairs_in(path)
    if not lines:
        return None
    return _open_pairs(path, *_located(path, lines))


def open_kitti_2015(root):
    """
    Return the pairs of KITTI 2015 as published numbers take them (monodepth.md section 13).

    Truth is the disparity of what both eyes see (``disp_noc_0``); focal lengths are known by the
    size of the image, and the baseline is 0.54 m.

    Parameters
    ----------
    root : Path
        ``training``, or the folder that holds it.

    Returns
    -------
    FileSequence

    Raises
    ------
    RecordingError
        When a file is missing: the average would be another; or when an image has no size of
        KITTI's.

    """
    folder = root / 'training' if (root / 'training').is_dir() else root
    left, right, truth = (
        [folder / name / f'{i:06d}_10.png' for i in range(BENCHMARK_PAIRS)]
        for name in ('image_2', 'image_3', 'disp_noc_0'))
    refuse_missing(folder, [*left, *right, *truth], "files of KITTI 2015's 200 pairs")
    cameras = []
    for image in left:
        height, width = read_image(image).shape[:2]
        cameras.append(camera_by_size(width, height))
        if cameras[-1] is None:
            raise RecordingError(f'{image} has {width}x{height} pixels, a size that no camera of '
                                 'KITTI has; take the original images')
    depths = [DisparityFile(file, camera.K[0, 0] * KITTI_BASELINE)
              for file, camera in zip(truth, cameras)]
    return FileSequence(left, nominal_stamps(len(left), _RATE_HZ), camera=cameras, depths=depths,
                        rights=right, baseline=KITTI_BASELINE)


class DisparityFile:
    """
    Depth from a picture of disparity, when called.

    Parameters
    ----------
    path : Path
        16 bits, value / 256 pixels, 0 = unknown.
    focal_baseline : float
        Focal length in pixels of that picture times baseline in metres.

    """

    def __init__(self, path, focal_baseline):
        self.path, self._focal_baseline = path, focal_baseline

    def __call__(self):
        """Return depth, metres, float32, NaN where unknown, shape (H, W)."""
        raw = read_raw(self.path)
        if raw.dtype != np.uint16 or raw.ndim != 2:
            raise ImageError(f'{self.path} is not a picture of disparity: 16 bits and one channel '
                             f'are expected, it has {raw.dtype} and shape {raw.shape}')
        with np.errstate(divide='ignore'):
            depth = self._focal_baseline * DISPARITY_UNITS / raw
        return np.where(raw > 0, depth, np.nan).astype(np.float32)


class TopRows:
    """
    A recording without the lowest rows of its images.

    Parameters
    ----------
    sequence : FileSequence
        The whole.
    share : float
        Of the rows, that is kept.

    """

    poses = None

    def __init__(self, sequence, share):
        self._sequence, self._share = sequence, share
        self.world_frame, self.files = sequence.world_frame, sequence.files

    def __len__(self):
        """Return the number of frames."""
        return len(self._sequence)

    def __getitem__(self, index):
        """Read one frame."""
        frame = self._sequence[index]
        height, width = frame.image.shape[:2]
        rows = int(self._share * height)
        return replace(frame, image=frame.image[:rows], right=frame.right[:rows],
                       camera=frame.camera and frame.camera.cropped(0, 0, width, rows),
                       depth=None)

    @property
    def stamps(self):
        """Stamps of all frames, int64 nanoseconds, shape (N,)."""
        return self._sequence.stamps


def _pairs_in(path):
    """Return the lines of a list as words, or None when it is no list of pairs."""
    if path.suffix != '.txt' or not path.is_file():
        return None
    try:
        lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    except UnicodeDecodeError:
        return None
    images = [len(words) >= 2 and all(Path(word).suffix.lower() in IMAGE_SUFFIXES
                                      for word in words[:2]) for words in lines]
    if not any(images):
        return None
    if not all(images):
        number = images.index(False)
        raise RecordingError(f'line {number + 1} of {path} is no pair of images: '
                             f'"{" ".join(lines[number])}"; each line is "<left> <right>"')
    return lines


def _located(path, lines):
    """Return the folder where paths begin, and all files, of a suffix that exists."""
    first = Path(lines[0][0])
    names = [first, *(first.with_suffix(suffix) for suffix in ('.png', '.jpg'))]
    folders = [path.absolute().parent, *path.absolute().parents]
    root = next((folder for folder in folders for name in names
                 if isfile(folder / name)), None)
    if root is None:
        raise RecordingError(f'{path} names {first}, which is neither in its folder nor in one '
                             'above; put the list where its paths begin')
    suffix = next(name.suffix for name in names if isfile(root / name))
    # Published lists say jpg; what one downloads is png.
    changed = suffix != first.suffix
    files = [[root / (Path(word).with_suffix(suffix) if changed and i < 2 else word)
              for i, word in enumerate(words[:3])] for words in lines]
    refuse_missing(root, [file for row in files for file in row], f'files that {path} names')
    return root, files


def _open_folders(path, left, right, truth):
    images = list_images(path / left)
    if left == 'image_2':
        # Of two instants the first counts. Odometry has such folders, too, and other names.
        images = [image for image in images if _BENCHMARK.search(image.as_posix())
                  and image.stem.endswith('_10')]
        if not images:
            return None
    if not images:
        raise RecordingError(f'{path / left} holds no images')
    rows = []
    for image in images:
        found = (path / truth / image.name).with_suffix('.png')
        rows.append([image, path / right / image.name, *([found] if found.is_file() else [])])
    refuse_missing(path, [row[1] for row in rows], 'right images')
    return _open_pairs(path, path, rows)


def _open_pairs(path, root, rows):
    """Return rows of left, right and perhaps disparity as a recording."""
    rigs, rig_of = [], _Rigs(root)
    for left, *_ in rows:
        rigs.append(rig_of(left))
    cameras, baselines = map(list, zip(*rigs))
    if None in cameras or None in baselines:
        _logger.warning('%s: %s', path, 'no calibration was found; write left.yaml and '
                        'right.yaml, or cam.txt and baseline.txt, where the paths begin')
    depths = [DisparityFile(row[2], _focal(row[2], camera) * baseline)
              if len(row) > 2 and camera is not None and baseline else None
              for row, (camera, baseline) in zip(rows, rigs)]
    sequence = FileSequence([row[0] for row in rows], nominal_stamps(len(rows), _RATE_HZ),
                            camera=cameras, depths=depths, rights=[row[1] for row in rows],
                            baseline=baselines)
    if _CITY.search(rows[0][0].name):
        return TopRows(sequence, CITYSCAPES_ROWS)
    return sequence


def _focal(file, camera):
    """Return the focal length in pixels of a picture of disparity."""
    return camera.K[0, 0] * read_raw(file).shape[1] / camera.width


class _Rigs:
    """Finds camera and baseline of images, every calibration once."""

    def __init__(self, root):
        self._root, self._known = root, {}

    def __call__(self, image):
        """Return (camera, baseline) of a left image, None where unknown."""
        name = image.as_posix()
        raw, benchmark = _RAW.search(name), _BENCHMARK.search(name)
        city = _CITY.search(image.name)
        if raw:
            day = image.parents[3]
            return self._once((day, raw[2]), lambda: _raw_rig(day, int(raw[2]), image))
        if benchmark:
            return _benchmark_rig(image, benchmark[1])
        if city:
            return self._once((image.parent, city[1], city[2]), lambda: _city_rig(image, city))
        return self._once(self._root, lambda: _own_rig(self._root, image))

    def _once(self, key, find):
        if key not in self._known:
            self._known[key] = find()
        return self._known[key]


def _raw_rig(day, index, image):
    """Return the rig of a day of KITTI raw; nominal numbers where no calibration is there."""
    if not (day / CALIBRATION).is_file():
        return _nominal_kitti(image)
    camera, offset = rectified_camera(day, index)
    _, right = rectified_camera(day, index + 1)
    return camera, float((offset - right)[0])


def _benchmark_rig(image, number):
    """Return the rig of an image of KITTI 2015."""
    file = image.parents[1] / 'calib_cam_to_cam' / f'{number}.txt'
    if not file.is_file():
        return _nominal_kitti(image)
    camera, offset = camera_in_file(file, 2)
    return camera, float((offset - camera_in_file(file, 3)[1])[0])


def _nominal_kitti(image):
    height, width = read_image(image).shape[:2]
    camera = camera_by_size(width, height)
    _logger.warning('%s has no calibration beside it; %s', image, 'images of this size are none '
                    "of KITTI's" if camera is None else "taken as KITTI's, by its size, with "
                    f'a baseline of {KITTI_BASELINE} m')
    return camera, None if camera is None else KITTI_BASELINE


def _city_rig(image, match):
    """Return the rig of a video of Cityscapes."""
    city, video, _ = match.groups()
    split = image.parents[1].name
    folders = [parent / 'camera' / split / city for parent in image.parents[2:4]]
    files = [file for folder in [*folders, image.parent]
             for file in sorted(folder.glob(f'{city}_{video}_*_camera.json'))]
    height, width = read_image(image).shape[:2]
    if not files:
        _logger.warning('%s has no camera file; taken as the usual one of Cityscapes', image)
        f = CITYSCAPES_FOCAL * width
        return checked_camera([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1]], width, height,
                              image), CITYSCAPES_BASELINE
    try:
        content = json.loads(files[0].read_text(errors='replace'))
        fx, fy, cx, cy = (float(content['intrinsic'][name]) for name in ('fx', 'fy', 'u0', 'v0'))
        baseline = float(content['extrinsic']['baseline'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordingError(f'{files[0]} is no camera file of Cityscapes (intrinsic with fx, fy, '
                             f'u0, v0; extrinsic with baseline): {type(error).__name__} {error}'
                             ) from None
    return checked_camera([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], width, height,
                          files[0]), baseline


def _own_rig(root, image):
    """Return the rig that files where the paths begin describe."""
    files = root / 'left.yaml', root / 'right.yaml'
    if all(file.is_file() for file in files):
        left, right = (_projection(file) for file in files)
        camera = checked_camera(left[0][:, :3], *left[1], files[0])
        return camera, float(-right[0][0, 3] / right[0][0, 0])
    if not any((root / name).is_file() for name in CAMERA_FILES):
        return None, None
    camera = folder_camera(root, [image])
    baseline = root / 'baseline.txt'
    return camera, float(read_numbers(baseline, 1)[0]) if baseline.is_file() else None


def _projection(file):
    """Return P and (width, height) of a calibration as ROS writes it."""
    try:
        content = yaml.safe_load(file.read_text(errors='replace'))
        P = np.reshape(np.asarray(content['projection_matrix']['data'], float), (3, 4))
        size = int(content['image_width']), int(content['image_height'])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordingError(f'{file} is no calibration of one eye as ROS writes it (image_width, '
                             f'image_height, projection_matrix): {type(error).__name__} '
                             f'{" ".join(str(error).split())}') from None
    if not P[0, 0] > 0:
        raise RecordingError(f'{file} holds no rectified camera: P[0, 0] is {P[0, 0]:g}; run '
                             "ROS's stereo calibration")
    return P, size
