# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Open a recording of any known format by its path, and part of it by a slice."""

import logging
from os.path import exists
from pathlib import Path

import numpy as np

from geo_perception.datasets.annotated_depth import open_annotated_depth
from geo_perception.datasets.bag import BagSequence, BESIDE
from geo_perception.datasets.bag_file import is_bag
from geo_perception.datasets.cambridge import open_cambridge
from geo_perception.datasets.cityscapes import open_cityscapes
from geo_perception.datasets.frame import SlicedSequence
from geo_perception.datasets.image_files import open_image_files
from geo_perception.datasets.kitti_odometry import open_kitti_odometry
from geo_perception.datasets.kitti_raw import open_kitti_raw
from geo_perception.datasets.prepared import open_prepared
from geo_perception.datasets.seven_scenes import open_seven_scenes
from geo_perception.datasets.stereo_lists import open_stereo_pairs
from geo_perception.datasets.tum import open_tum
from geo_perception.datasets.video import is_video, VideoSequence
from geo_perception.errors import RecordingError

_logger = logging.getLogger(__name__)


def open_recording(spec, image_topic=None, pose_topic=None, camera_info_topic=None,
                   quaternion=None, pose_frame=None, beside=BESIDE):
    """
    Return a recording with poses; its format is known by its content.

    Formats: ROS 2 bag (folder, ``.mcap`` or ``.db3``), ROS 1 ``.bag``, TUM RGB-D, 7-Scenes
    (folder or ``TrainSplit.txt``/``TestSplit.txt``), Cambridge Landmarks (``dataset_train.txt`` or
    ``dataset_test.txt``), KITTI odometry, KITTI raw.

    Parameters
    ----------
    spec : str or Path
        Path, with slices after it if wanted: ``run[0:500]``, ``run[::10]``,
        ``run[0:80,160:240]``, ``run[0:500][::10]``. They select frames as in Python.
    image_topic, pose_topic, camera_info_topic : str, optional
        Topics of a bag where the choice is not clear; ``pose_topic`` may be ``/tf``.
    quaternion : str, optional
        ``world_to_camera`` or ``camera_to_world``, for label lists in PoseNet's text format.
    pose_frame : str, optional
        Frame whose pose the pose topic of a bag gives, e.g. ``base_link``; see ``BagSequence``.
    beside : collection of str
        What else is read of a bag: of ``depth``, ``flow`` and ``right``.

    Returns
    -------
    Sequence
        Every frame has ``T_world_camera``.

    Raises
    ------
    RecordingError
        When nothing fits or the recording is damaged; it says what was looked for.

    """
    path, slices = split_spec(spec)
    topics = {'image_topic': image_topic, 'pose_topic': pose_topic,
              'camera_info_topic': camera_info_topic, 'pose_frame': pose_frame,
              'beside': beside}
    return _sliced(_open_posed(path, topics, quaternion), slices, spec)


def open_images(spec, image_topic=None, camera_info_topic=None, beside=BESIDE):
    """
    Return the images of anything: an image file, a folder of them, a video, or a recording.

    Beside the formats of ``open_recording``: prepared folders, Cityscapes, and images with
    annotated depth.

    Of a bag all images are returned, without poses, so that none is left out for want of one.

    Parameters
    ----------
    spec : str or Path
        Path, with slices after it if wanted, as for ``open_recording``.
    image_topic, camera_info_topic : str, optional
        Topics of a bag where the choice is not clear.
    beside : collection of str
        What else is read of a bag: of ``depth``, ``flow`` and ``right``.

    Returns
    -------
    Sequence
        ``poses`` is None except for datasets that come with them.

    Raises
    ------
    RecordingError
        When nothing fits or the recording is damaged; it says what was looked for.

    """
    path, slices = split_spec(spec)
    topics = {'image_topic': image_topic, 'camera_info_topic': camera_info_topic,
              'with_poses': False, 'beside': beside}
    try:
        sequence = _open_posed(path, topics, None)
    except RecordingError as error:
        # A folder of images may look like a dataset of which the poses are missing.
        sequence = _open_unposed(path) if exists(path) else None
        if sequence is None and isinstance(error, _NothingFits):
            if path.is_dir() and not any(path.iterdir()):
                raise RecordingError(f'the folder {path} is empty') from None
            raise RecordingError(f'{path} is neither an image, a folder of images or a video, nor '
                                 'a bag, a prepared folder, nor a TUM, 7-Scenes, Cambridge, KITTI '
                                 'or Cityscapes recording') from None
        if sequence is None:
            raise
    return _sliced(sequence, slices, spec)


def open_with_poses_if_any(spec, image_topic=None, pose_topic=None, camera_info_topic=None,
                           quaternion=None, pose_frame=None, beside=BESIDE):
    """
    Return a recording with its poses where it has any, as `open_images` does where it has none.

    A warning says why there are none, where there might have been.

    Parameters
    ----------
    spec, image_topic, pose_topic, camera_info_topic, quaternion, pose_frame, beside
        As for `open_recording`.

    Returns
    -------
    Sequence
        ``poses`` may be None.

    Raises
    ------
    RecordingError
        When nothing fits, the recording is damaged, or poses that were asked for by an option
        are not there.

    """
    try:
        return open_recording(spec, image_topic, pose_topic, camera_info_topic, quaternion,
                              pose_frame, beside)
    except RecordingError as error:
        if pose_topic or pose_frame or quaternion:
            raise
        sequence = open_images(spec, image_topic, camera_info_topic, beside)
        if not isinstance(error, _NothingFits):
            _logger.warning('%s is taken without poses: %s', spec, error)
        return sequence


def open_stereo(spec, image_topic=None, right_topic=None, camera_info_topic=None):
    """
    Return the stereo pairs of a recording, as they are: `check_rig` finds what is wrong.

    Formats: ROS bags with two image topics, KITTI raw and odometry, KITTI 2015 stereo, lists
    of pairs and folders ``left/`` and ``right/`` (`geo_perception.datasets.stereo_lists`).

    Parameters
    ----------
    spec : str or Path
        Path, with slices after it if wanted, as for ``open_recording``.
    image_topic, right_topic, camera_info_topic : str, optional
        Topics of a bag where the choice is not clear; the last one is of the left camera.

    Returns
    -------
    Sequence
        Frames have ``right`` and ``baseline`` as far as the recording has them.

    Raises
    ------
    RecordingError
        When nothing fits or the recording is damaged; it says what was looked for.

    """
    path, slices = split_spec(spec)
    if not is_bag(path):
        _refuse({'right_topic': right_topic}, 'a bag', path)
        return open_images(spec, image_topic, camera_info_topic)
    return _sliced(BagSequence(path, image_topic, camera_info_topic=camera_info_topic,
                               with_poses=False, stereo=True, right_topic=right_topic),
                   slices, spec)


def _open_unposed(path):
    if is_video(path):
        return VideoSequence(path)
    return open_stereo_pairs(path) or open_prepared(path) or open_cityscapes(path) \
        or open_kitti_raw(path, False) or open_kitti_odometry(path, False) \
        or open_annotated_depth(path) or open_image_files(path)


class _NothingFits(RecordingError):
    """No format with poses fits."""


def _open_posed(path, topics, quaternion):
    if not exists(path):
        raise RecordingError(f'the recording {path} does not exist')
    if is_bag(path):
        _refuse({'quaternion': quaternion}, "a label list in PoseNet's text format", path)
        return BagSequence(path, **topics)
    sequence = open_tum(path) or open_kitti_odometry(path) or open_kitti_raw(path) \
        or open_seven_scenes(path)
    if sequence is not None:
        _refuse({'quaternion': quaternion}, "a label list in PoseNet's text format", path)
    else:
        sequence = open_cambridge(path, quaternion)
    if sequence is None:
        raise _NothingFits(
            f'{path} is no recording with poses: looked for a ROS bag (metadata.yaml, .mcap, '
            '.db3, .bag), TUM RGB-D (rgb.txt, groundtruth.txt), 7-Scenes (frame-000000.color.png '
            'and .pose.txt), KITTI odometry (image_0 or image_2, and poses), KITTI raw '
            '(image_02/data, and oxts) and Cambridge Landmarks (dataset_train.txt)')
    _refuse({name: value for name, value in topics.items() if isinstance(value, str)},
            'a bag', path)
    return sequence


def _refuse(options, kind, path):
    for name, value in options.items():
        if value is not None:
            raise RecordingError(f"{name} '{value}' belongs to {kind}, which {path} is not; "
                                 'leave it out')


def split_spec(spec):
    """
    Return the path and the slices of what a user wrote.

    Parameters
    ----------
    spec : str or Path
        As for `open_recording`.

    Returns
    -------
    path : Path
        Without slices.
    slices : list of list
        One after the other, each of slice objects and integers, see `chosen_frames`.

    Raises
    ------
    RecordingError
        When a slice is not understood.

    """
    text = str(spec)
    path, slices = text, []
    while path.endswith(']') and not exists(Path(path).expanduser()):
        head, bracket, inside = path[:-1].rpartition('[')
        if not bracket:
            break
        path = head
        slices.insert(0, [_parse_part(part, text) for part in inside.split(',')])
    return Path(path).expanduser(), slices


def _parse_part(part, text):
    words = [word.strip() for word in part.split(':')]
    try:
        numbers = [int(word) if word else None for word in words]
        if len(numbers) == 1 and numbers[0] is not None:
            return numbers[0]
        if 2 <= len(numbers) <= 3 and numbers[2:] != [0]:
            return slice(*numbers)
    except ValueError:
        pass
    raise RecordingError(f"the slice '{part}' in '{text}' is not understood; write first:end, "
                         'first:end:step, ::step, a frame number, or several of them with commas')


def _sliced(sequence, slices, spec):
    if not slices:
        return sequence
    indices = chosen_frames(len(sequence), slices, spec)
    if not len(indices):
        raise RecordingError(f"'{spec}' selects none of {len(sequence)} frames")
    return SlicedSequence(sequence, indices)


def chosen_frames(count, slices, spec):
    """
    Return which frames slices select.

    Parameters
    ----------
    count : int
        Frames there are.
    slices : list of list
        From `split_spec`.
    spec : str
        For messages.

    Returns
    -------
    np.ndarray
        Indices in order.

    Raises
    ------
    RecordingError
        When a single frame is asked for that is not there.

    """
    indices = np.arange(count)
    for parts in slices:
        chosen = []
        for part in parts:
            if isinstance(part, int) and not -len(indices) <= part < len(indices):
                raise RecordingError(f"'{spec}' asks for frame {part} of {len(indices)}")
            chosen.append(np.atleast_1d(indices[part]))
        indices = np.concatenate(chosen)
    return indices
