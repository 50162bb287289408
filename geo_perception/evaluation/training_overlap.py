# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Keep models from being scored on what they were trained on.

KITTI's odometry sequences are cut from the drives of KITTI raw, so a model trained on one split
has seen test images of the other (sfmlearner.md section 5.3). The model file says what it was
trained on; here it is compared, drive by drive and frame by frame, with what is evaluated.
"""

import logging
import re

import numpy as np

from geo_perception.datasets.kitti_lists import eigen_test_frames, excluded_scenes
from geo_perception.datasets.readable import first_readable
from geo_perception.datasets.recording import chosen_frames, split_spec
from geo_perception.errors import ConfigurationError, RecordingError

# Odometry sequence: raw drive, its first frame, frames (sfmlearner.md section 5.3).
SEQUENCES = {
    '00': ('2011_10_03_drive_0027', 0, 4541), '01': ('2011_10_03_drive_0042', 0, 1101),
    '02': ('2011_10_03_drive_0034', 0, 4661), '03': ('2011_09_26_drive_0067', 0, 801),
    '04': ('2011_09_30_drive_0016', 0, 271), '05': ('2011_09_30_drive_0018', 0, 2761),
    '06': ('2011_09_30_drive_0020', 0, 1101), '07': ('2011_09_30_drive_0027', 0, 1101),
    '08': ('2011_09_30_drive_0028', 1100, 4071), '09': ('2011_09_30_drive_0033', 0, 1591),
    '10': ('2011_09_30_drive_0034', 0, 1201)}
# More than any drive of KITTI raw has.
_MANY = 10_000

_logger = logging.getLogger(__name__)


def refuse_training_data(model, spec, sequence):
    """
    Raise when a recording shows what a model was trained on.

    Of recordings other than KITTI's only the name is known: the same name is warned of.

    Parameters
    ----------
    model : ModelFile
        ``metadata.data`` holds ``train``, names of recordings with slices, and ``prepared``,
        data set and split of prepared folders (``kitti_raw eigen``, ``kitti_odometry 00,01``).
    spec : str
        The recording that is evaluated, as the user named it.
    sequence : Sequence
        The same, opened: the files of its frames may tell the drive.

    Raises
    ------
    ConfigurationError
        When both show the same frames of a KITTI drive.

    """
    name = first_readable(sequence).name
    evaluated = drive_frames(f'{name}{_slices_of(spec)}') or drive_frames(spec)
    if evaluated is None:
        _warn_of_same_name(model, spec)
        return
    _refuse(model, spec, [evaluated])


def refuse_split_training_data(model, split, root):
    """
    Raise when a model was trained on images of a published test split.

    Parameters
    ----------
    model : ModelFile
        As for `refuse_training_data`.
    split : str
        ``eigen``: its images; ``kitti_2015``: the drives that its pairs are from.
    root : str
        Where they are, for the message.

    Raises
    ------
    ConfigurationError
        When it was.

    """
    name, drives = ("Eigen's test split", _eigen_drives()) if split == 'eigen' else (
        'KITTI 2015', dict.fromkeys(sorted(excluded_scenes('stereo')), np.arange(_MANY)))
    _refuse(model, f'{name} in {root}', drives.items())


def _eigen_drives():
    """Return the numbers of Eigen's test images by drive."""
    drives = {}
    for drive, number in eigen_test_frames():
        drives.setdefault(drive, []).append(number)
    return drives


def drive_frames(name):
    """
    Return which images of KITTI raw a recording shows.

    Parameters
    ----------
    name : str
        Path or name of a drive or an odometry sequence, with slices.

    Returns
    -------
    tuple or None
        Drive, and numbers of frames (np.ndarray); None where it is no recording of KITTI.

    """
    path, slices = split_spec(name)
    raw = re.search(r'2011_\d\d_\d\d_drive_\d{4}', str(path))
    odometry = re.search(r'sequences/(\d\d)(?=$|/)|odometry_(\d\d)(?!\d)|^(\d\d)$', str(path))
    number = odometry and next(filter(None, odometry.groups()))
    if raw:
        return raw[0], _frames(_MANY, slices, name)
    if number in SEQUENCES:
        drive, first, count = SEQUENCES[number]
        return drive, first + _frames(count, slices, name)
    return None


def _recordings(model):
    """Return the names of the recordings that a model was trained on."""
    trained = model.metadata.data.get('train', [])
    return [trained] if isinstance(trained, str) else trained


def _refuse(model, spec, evaluated):
    """Raise when a model has seen one of some frames, pairs of drive and numbers."""
    for name in [*_recordings(model), *(model.metadata.data.get('prepared') or [])]:
        for drive, frames in evaluated:
            if _seen(name, drive, frames):
                raise ConfigurationError(
                    f'{model.path} was trained on {name}, which shows images of {spec} (KITTI '
                    f'drive {drive}): a score there would say nothing; evaluate on images it has '
                    'not seen (KITTI odometry is cut from the drives of KITTI raw)')


def _seen(name, drive, frames):
    """Return whether training on something has seen one of the frames of a drive."""
    split = re.fullmatch(r'(kitti_raw|kitti_odometry) (\S+)', name)
    if split is None:
        trained = drive_frames(name)
        return (trained is not None and trained[0] == drive
                and len(np.intersect1d(trained[1], frames)) > 0)
    if split[1] == 'kitti_raw':
        return drive not in excluded_scenes(split[2])
    return any(_seen(sequence, drive, frames) for sequence in split[2].split(','))


def _frames(count, slices, name):
    """Return the numbers that slices select; all where it depends on an unknown length."""
    counted_from_end = any(
        number is not None and number < 0 for parts in slices for part in parts
        for number in ((part.start, part.stop) if isinstance(part, slice) else (part,)))
    if counted_from_end:
        return np.arange(count)
    try:
        return chosen_frames(count, slices, name)
    except RecordingError:
        return np.arange(count)


def _slices_of(spec):
    return str(spec)[len(str(spec).partition('[')[0]):]


def _warn_of_same_name(model, spec):
    path, slices = split_spec(spec)
    frames = _frames(_MANY, slices, spec)
    for name in _recordings(model):
        other, others = split_spec(name)
        if other.name == path.name and len(np.intersect1d(_frames(_MANY, others, name), frames)):
            _logger.warning('%s was trained on a recording of the same name, %s: if it is the '
                            'same, its score says nothing', model.path, name)
