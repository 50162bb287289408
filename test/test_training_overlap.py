# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""No model is scored on the KITTI images that it was trained on, in whatever split they come."""

from types import SimpleNamespace

import pytest

from geo_perception.errors import ConfigurationError
from geo_perception.evaluation.training_overlap import (
    drive_frames, refuse_split_training_data, refuse_training_data)


def refused(train, spec, prepared=(), frame='anything.png'):
    """Return whether a model trained on something is not scored on something else."""
    model = SimpleNamespace(path='drive.safetensors', metadata=SimpleNamespace(
        data={'train': train, 'prepared': list(prepared)}))
    try:
        refuse_training_data(model, spec, [SimpleNamespace(name=frame)])
    except ConfigurationError:
        return True
    return False


@pytest.mark.parametrize('train, prepared, spec, expected', [
    # The leak of sfmlearner.md section 5.3: 09 and 10 lie in Eigen's training set.
    ([], ['kitti_raw eigen'], 'dataset/sequences/09', True),
    ([], ['kitti_raw eigen'], 'dataset/sequences/10[0:100]', True),
    ([], ['kitti_raw eigen'], 'raw/2011_09_26/2011_09_26_drive_0001_sync', True),
    ([], ['kitti_raw eigen'], 'raw/2011_09_26/2011_09_26_drive_0002_sync', False),
    ([], ['kitti_raw stereo'], 'raw/2011_09_26/2011_09_26_drive_0005_sync', False),
    # The other way round: 00 is a drive that holds Eigen test images.
    ([], ['kitti_odometry 00,01,02'], 'raw/2011_10_03_drive_0027_sync', True),
    ([], ['kitti_odometry 00,01,02'], 'raw/2011_09_30_drive_0033_sync', False),
    ([], ['kitti_odometry 00,01,02'], 'sequences/09', False),
    # 08 is the part of its drive from frame 1100 on.
    ([], ['kitti_odometry 08'], '2011_09_30_drive_0028_sync[0:1100]', False),
    ([], ['kitti_odometry 08'], '2011_09_30_drive_0028_sync[0:1101]', True),
    # Part of a recording for training, another for the test.
    (['kitti_odometry_00[0:90]'], [], 'kitti_odometry_00[90:120]', False),
    (['kitti_odometry_00[0:90]'], [], 'kitti_odometry_00[80:120]', True),
    (['kitti_odometry_00[:-30]'], [], 'kitti_odometry_00[90:120]', True),
    (['00[::2]'], [], 'sequences/00[1::2]', False),
    ('kitti_odometry_06_stereo', [], 'kitti_odometry_06_stereo', True),
    (['2011_09_26_drive_0001_sync_02'], [], '2011_09_26_drive_0001_sync', True),
    (['office', 'train.mcap'], [], 'kitchen', False)])
def test_what_was_seen_is_refused(train, prepared, spec, expected):
    """Drive by drive, frame by frame."""
    assert refused(train, spec, prepared) == expected


def test_files_tell_the_drive():
    """A folder may have any name."""
    frame = '/data/mine/sequences/09/image_0/000000.png'
    assert refused([], '/data/mine', ['kitti_raw eigen'], frame)
    assert refused(['09[0:10]'], '/data/mine[5:20]', frame=frame)
    assert not refused(['09[0:10]'], '/data/mine[10:20]', frame=frame)


def test_eigen_split_is_refused_for_one_of_its_images():
    """Any of the 697, in any drive (sfmlearner.md section 5.3)."""
    for data, expected in (
            ({'train': ['2011_10_03_drive_0047_sync[768:769]']}, True),
            ({'train': ['2011_10_03_drive_0047_sync[767:768]']}, False),
            ({'prepared': ['kitti_raw eigen']}, False), ({'prepared': ['kitti_raw all']}, True),
            ({'prepared': ['kitti_odometry 06,08,09']}, False),
            ({'prepared': ['kitti_odometry 06,04']}, True)):
        model = SimpleNamespace(path='m', metadata=SimpleNamespace(data=data))
        try:
            refuse_split_training_data(model, 'eigen', 'kitti')
            assert not expected, data
        except ConfigurationError as error:
            assert expected and "shows images of Eigen's test split in kitti" in str(error), data


def test_same_name_is_warned_of(caplog):
    """Of a bag only the name is known."""
    assert not refused(['monday[0:500]'], 'drives/monday[500:]')
    assert not caplog.records
    assert not refused(['monday[0:500]'], 'drives/monday[400:]')
    assert 'of the same name, monday[0:500]' in caplog.text


def test_drives_of_sequences():
    """Offsets count; a number that is no sequence is none."""
    drive, frames = drive_frames('sequences/08')
    assert (drive, frames[0], frames[-1]) == ('2011_09_30_drive_0028', 1100, 5170)
    assert drive_frames('sequences/11') is None and drive_frames('office/12') is None
