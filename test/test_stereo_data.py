# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Stereo pairs of every format: lists, folders, KITTI 2015, Cityscapes, two topics of a bag."""

import json

import cv2
import numpy as np
import pytest

from geo_perception.datasets.bag import BESIDE
from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.datasets.recording import open_images, open_stereo
from geo_perception.errors import RecordingError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.se3 import make_transform

CAMERA = Camera(np.array([[30.0, 0, 15.5], [0, 30, 11.5], [0, 0, 1]]), 32, 24, frame_id='left')


def write_picture(path, value, size=(32, 24)):
    """Write a grey picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(size[::-1], value, np.uint8))


def calibration(f, baseline):
    """Return the lines of KITTI's calibration that the colour cameras need."""
    lines = []
    for index, x in ((2, 0.0), (3, baseline)):
        lines += [f'S_rect_0{index}: 3.2e+01 2.4e+01',
                  f'P_rect_0{index}: {f} 0 15.5 {-f * x} 0 {f} 11.5 0 0 0 1 0']
    return '\n'.join(lines) + '\n'


def test_list_of_kitti_raw(tmp_path):
    """Each day has its own rig; what the list calls jpg may be png."""
    rows = []
    for day, f in (('2011_09_26', 30.0), ('2011_09_28', 20.0)):
        drive = f'{day}/{day}_drive_0001_sync'
        (tmp_path / day).mkdir()
        (tmp_path / day / 'calib_cam_to_cam.txt').write_text(calibration(f, 0.5))
        for index, value in ((2, 100), (3, 50)):
            write_picture(tmp_path / drive / f'image_0{index}/data/0000000005.png', value)
        rows.append(' '.join(f'{drive}/image_0{index}/data/0000000005.jpg' for index in (2, 3)))
    (tmp_path / 'lists').mkdir()
    (tmp_path / 'lists/train.txt').write_text('\n'.join(rows) + '\n\n')
    sequence = open_stereo(tmp_path / 'lists/train.txt')
    assert len(sequence) == 2
    for frame, f in zip(sequence, (30.0, 20.0)):
        assert frame.camera.K[0, 0] == f and frame.baseline == pytest.approx(0.5)
        assert frame.image[0, 0, 0] == 100 and frame.right[0, 0, 0] == 50
    assert open_stereo(f'{tmp_path}/lists/train.txt[1:]')[0].camera.K[0, 0] == 20.0
    (tmp_path / '2011_09_28/2011_09_28_drive_0001_sync/image_03/data/0000000005.png').unlink()
    with pytest.raises(RecordingError, match='1 of 4 files that .*train.txt names are missing'):
        open_stereo(tmp_path / 'lists/train.txt')
    (tmp_path / 'lists/train.txt').write_text(rows[0] + '\nnothing\n')
    with pytest.raises(RecordingError, match='line 2 of .* is no pair of images: "nothing"'):
        open_stereo(tmp_path / 'lists/train.txt')
    (tmp_path / 'lists/train.txt').write_text('a/b.png c/d.png\n')
    with pytest.raises(RecordingError, match='put the list where its paths begin'):
        open_stereo(tmp_path / 'lists/train.txt')


def test_kitti_2015(tmp_path):
    """The first of two instants, and depth from disparity by the rig of the image."""
    root = tmp_path / 'training'
    for instant in (10, 11):
        for folder in ('image_2', 'image_3'):
            write_picture(root / folder / f'000007_{instant}.png', 80)
    (root / 'calib_cam_to_cam').mkdir()
    (root / 'calib_cam_to_cam/000007.txt').write_text(calibration(30.0, 0.5))
    (root / 'disp_occ_0').mkdir()
    disparity = np.zeros((24, 32), np.uint16)
    disparity[3, 4] = 5 * 256
    cv2.imwrite(str(root / 'disp_occ_0/000007_10.png'), disparity)
    sequence = open_images(root)
    assert len(sequence) == 1
    frame = sequence[0]
    assert frame.depth[3, 4] == pytest.approx(30 * 0.5 / 5) and frame.baseline == 0.5
    assert np.isfinite(frame.depth).sum() == 1


def test_odometry_of_kitti_is_not_taken_for_it(tmp_path):
    """Its folders have the same names."""
    for folder in ('image_2', 'image_3'):
        write_picture(tmp_path / folder / '000000.png', 80)
    (tmp_path / 'calib.txt').write_text('P2: 30 0 15.5 0 0 30 11.5 0 0 0 1 0\n'
                                        'P3: 30 0 15.5 -15 0 30 11.5 0 0 0 1 0\n')
    frame = open_stereo(tmp_path)[0]
    assert frame.baseline == 0.5 and frame.name.endswith('000000.png')


def test_cityscapes(tmp_path):
    """Without the bonnet, with the camera of the video; nominal numbers without a file."""
    name = 'bonn/bonn_000001_000019_{}Img8bit.png'
    for eye, value in (('left', 90), ('right', 60)):
        write_picture(tmp_path / f'leftImg8bit/train/{name.format(eye)}'.replace(
            'leftImg8bit/', f'{eye}Img8bit/', 1), value)
    row = ' '.join(f'{eye}Img8bit/train/{name.format(eye)}' for eye in ('left', 'right'))
    (tmp_path / 'cs.txt').write_text(row + '\n')
    frame = open_stereo(tmp_path / 'cs.txt')[0]
    assert frame.camera.K[0, 0] == pytest.approx(32 * 2262 / 2048) and frame.baseline == 0.22
    camera = tmp_path / 'camera/train/bonn/bonn_000001_000019_camera.json'
    camera.parent.mkdir(parents=True)
    camera.write_text(json.dumps({'intrinsic': {'fx': 31, 'fy': 32, 'u0': 15, 'v0': 11},
                                  'extrinsic': {'baseline': 0.21}}))
    frame = open_stereo(tmp_path / 'cs.txt')[0]
    assert frame.camera.K[0, 0] == 31 and frame.baseline == 0.21
    assert frame.image.shape == frame.right.shape == (19, 32, 3) and frame.camera.height == 19
    assert frame.image[0, 0, 0] == 90 and frame.right[0, 0, 0] == 60


YAML = """
image_width: 32
image_height: 24
projection_matrix: {{rows: 3, cols: 4, data: [30, 0, 15.5, {}, 0, 30, 11.5, 0, 0, 0, 1, 0]}}
"""


def test_own_rig(tmp_path):
    """Two folders, with what ROS's calibration writes, or two files of plain numbers."""
    for eye in ('left', 'right'):
        write_picture(tmp_path / eye / 'a.png', 70)
    frame = open_stereo(tmp_path)[0]
    assert frame.camera is None and frame.baseline is None and frame.right is not None
    (tmp_path / 'cam.txt').write_text('30 0 15 0 30 11 0 0 1')
    (tmp_path / 'baseline.txt').write_text('0.1\n')
    assert open_stereo(tmp_path)[0].baseline == 0.1
    for eye, x in (('left', 0), ('right', -6)):
        (tmp_path / f'{eye}.yaml').write_text(YAML.format(x))
    frame = open_stereo(tmp_path)[0]
    assert frame.baseline == pytest.approx(0.2) and frame.camera.K[0, 2] == 15.5
    (tmp_path / 'right.yaml').write_text('image_width: 3\n')
    with pytest.raises(RecordingError, match='right.yaml is no calibration of one eye'):
        open_stereo(tmp_path)
    (tmp_path / 'right/a.png').unlink()
    with pytest.raises(RecordingError, match='1 of 1 right images are missing'):
        open_stereo(tmp_path)


def write_bag(path, baseline=0.12, late=0, frame='right', infra=False, tf=None, skip=()):
    """Write three pairs; the right eye is late by so many nanoseconds."""
    left, right = ('infra1', 'infra2') if infra else ('left', 'right')
    with BagWriter(path) as bag:
        if tf is not None:
            bag.transform(10**9, 'left', frame, make_transform(np.eye(3), [tf, 0, 0]), True)
        for i in range(3):
            stamp = 10**9 * (i + 1)
            bag.image(f'/{left}/image_rect', stamp, 'left', np.full((24, 32, 3), 90 + i, np.uint8),
                      'rgb8')
            bag.camera_info(f'/{left}/camera_info', stamp, CAMERA)
            if i in skip:
                continue
            bag.image(f'/{right}/image_rect', stamp + late, frame,
                      np.full((24, 32, 3), 40 + i, np.uint8), 'rgb8')
            if baseline is not None:
                bag.camera_info(f'/{right}/camera_info', stamp + late, CAMERA, baseline)
    return path


@pytest.mark.parametrize('infra', [False, True])
def test_two_topics_of_a_bag(tmp_path, infra):
    """Matched in time, baseline from P; how far they are apart is told."""
    sequence = open_stereo(write_bag(tmp_path / 'bag', late=30_000_000, infra=infra))
    frame = sequence[1]
    assert frame.image[0, 0, 0] == 91 and frame.right[0, 0, 0] == 41
    assert frame.right_stamp - frame.stamp == 30_000_000
    assert frame.baseline == pytest.approx(0.12)
    # For everything else that is no pair.
    assert open_images(tmp_path / 'bag', beside=BESIDE)[1].right is None


def test_sign_and_absence_of_the_baseline(tmp_path):
    """They come as they are, for the check of the rig; others see no pair."""
    sequence = open_stereo(write_bag(tmp_path / 'sign', baseline=-0.12))
    assert sequence[0].baseline == pytest.approx(-0.12) and sequence[0].right is not None
    assert open_images(tmp_path / 'sign', beside=BESIDE)[0].right is None
    assert open_stereo(write_bag(tmp_path / 'none', baseline=None))[0].baseline is None
    sequence = open_stereo(write_bag(tmp_path / 'tf', baseline=0.0, tf=0.07))
    assert sequence[0].baseline == pytest.approx(0.07)


def test_a_missing_right_image(tmp_path):
    """The left one comes alone."""
    sequence = open_stereo(write_bag(tmp_path / 'bag', skip=(1,)))
    assert [frame.right is None for frame in sequence] == [False, True, False]
    assert sequence[1].right_stamp is None


def test_topics_by_name(tmp_path):
    """A topic that is not there is named; other formats have none."""
    write_bag(tmp_path / 'bag')
    sequence = open_stereo(tmp_path / 'bag', image_topic='/right/image_rect',
                           right_topic='/left/image_rect')
    assert sequence[0].image[0, 0, 0] == 40 and sequence[0].right[0, 0, 0] == 90
    with pytest.raises(RecordingError, match='/middle .* is not in it; set right_topic to one'):
        open_stereo(tmp_path / 'bag', right_topic='/middle')
    with pytest.raises(RecordingError, match='right_topic .* belongs to a bag'):
        open_stereo(tmp_path, right_topic='/right')
