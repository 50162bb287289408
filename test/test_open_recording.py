# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What a user may write for a recording: slices, options, images and videos, and mistakes."""

import pickle

import cv2
import numpy as np
import pytest
from small_recordings import N, picture, POSES, refused, write_bag, write_image, write_seven_scenes

from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.datasets.recording import (
    open_images, open_recording, open_with_poses_if_any)
from geo_perception.errors import ImageError, RecordingError


@pytest.mark.parametrize('slices, expected', [
    ('', range(6)), ('[0:3]', [0, 1, 2]), ('[::2]', [0, 2, 4]), ('[-2:]', [4, 5]),
    ('[0:2,4:6]', [0, 1, 4, 5]), ('[1:6][::2]', [1, 3, 5]), ('[3]', [3]), ('[-1, 0]', [5, 0]),
    ('[ 1 : 3 ]', [1, 2]), ('[4:100]', [4, 5]), ('[::-1][0]', [5])])
def test_slices(tmp_path, slices, expected):
    sequence = open_recording(f'{write_seven_scenes(tmp_path / "run")}{slices}')
    np.testing.assert_allclose(sequence.poses, POSES[list(expected)], atol=1e-6)
    np.testing.assert_array_equal(sequence[0].image, picture(list(expected)[0]))
    assert len(sequence) == len(sequence.stamps) == len(list(expected))
    assert len(pickle.loads(pickle.dumps(sequence))) == len(sequence)


@pytest.mark.parametrize('slices, words', [
    ('[0:x]', ['0:x', 'first:end']), ('[]', ['first:end']), ('[1:2:0]', ['1:2:0']),
    ('[1:2:3:4]', ['1:2:3:4']), ('[6]', ['frame 6 of 6']), ('[6:]', ['none of 6 frames']),
    ('[0:2][5]', ['frame 5 of 2'])])
def test_bad_slices(tmp_path, slices, words):
    refused(words, f'{write_seven_scenes(tmp_path / "run")}{slices}')


def test_a_path_that_holds_brackets(tmp_path):
    root = write_seven_scenes(tmp_path / 'run[1]')
    assert len(open_recording(root)) == N
    assert len(open_recording(f'{root}[0:2]')) == 2


def test_what_is_no_recording(tmp_path):
    refused(['does not exist', 'nowhere'], tmp_path / 'nowhere')
    write_image(tmp_path / 'a.png', picture(0))
    for spec in (tmp_path, tmp_path / 'a.png'):
        refused(['looked for', 'ROS bag', 'TUM', '7-Scenes', 'KITTI', 'Cambridge'], spec)
    (tmp_path / 'notes.txt').write_text('buy milk\n')
    refused(['looked for'], tmp_path / 'notes.txt')


def test_options_of_another_format_are_refused(tmp_path):
    root = write_seven_scenes(tmp_path / 'run')
    refused(['pose_topic', '/pose', 'bag'], root, pose_topic='/pose')
    refused(['quaternion', 'camera_to_world'], root, quaternion='camera_to_world')
    refused(['quaternion'], write_bag(tmp_path / 'bag'), quaternion='camera_to_world')


def test_damaged_image_is_named(tmp_path):
    root = write_seven_scenes(tmp_path)
    (root / 'frame-000002.color.png').write_bytes(b'no picture')
    sequence = open_recording(root)
    with pytest.raises(ImageError, match='frame-000002.color.png'):
        sequence[2]
    (root / 'frame-000003.color.png').unlink()
    with pytest.raises(ImageError, match='does not exist'):
        sequence[3]


def test_images_without_poses(tmp_path):
    for i in range(12):
        write_image(tmp_path / f'image_{i}.jpg', picture(i % N))
    folder = open_images(tmp_path)
    assert len(folder) == 12 and folder.poses is None
    assert [folder[i].name.rpartition('_')[2] for i in (1, 2, 10)] == ['1.jpg', '2.jpg', '10.jpg']
    assert folder[0].T_world_camera is None and folder[0].camera is None
    assert len(open_images(f'{tmp_path}[::4]')) == 3
    one = open_images(tmp_path / 'image_3.jpg')
    assert len(one) == 1 and one[0].image.shape == (24, 32, 3)
    bag = open_images(write_bag(tmp_path / 'bag'))
    assert len(bag) == N and bag.poses is None
    assert open_images(write_seven_scenes(tmp_path / 'scene')).poses is not None
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'notes').mkdir()
    (tmp_path / 'notes' / 'todo.txt').touch()
    for spec, word in ((tmp_path / 'empty', 'empty is empty'), (
            tmp_path / 'notes', 'neither an image'), (tmp_path / 'gone.jpg', 'does not exist')):
        with pytest.raises(RecordingError, match=word):
            open_images(spec)


def test_poses_where_there_are_any(tmp_path, caplog):
    """Without them the images, and a warning where there might have been; not where asked for."""
    bag = write_bag(tmp_path / 'bag')
    assert open_with_poses_if_any(bag).poses is not None
    write_image(tmp_path / 'image.jpg', picture(0))
    assert open_with_poses_if_any(tmp_path / 'image.jpg').poses is None and not caplog.records
    with BagWriter(tmp_path / 'video') as video:
        for i in range(3):
            video.image('/camera/image_raw', 10**9 + i, 'camera', picture(i), 'rgb8')
    assert len(open_with_poses_if_any(tmp_path / 'video')) == 3
    assert 'video is taken without poses: the bag' in caplog.text
    with pytest.raises(RecordingError, match='/amcl_pose'):
        open_with_poses_if_any(tmp_path / 'video', pose_topic='/amcl_pose')


def test_video(tmp_path):
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 20.0, (64, 48))
    if not writer.isOpened():
        pytest.skip('this OpenCV writes no videos')
    for i in range(10):
        writer.write(np.full((48, 64, 3), [20 * i, 0, 0], np.uint8))
    writer.release()
    video = open_images(path)
    assert len(video) == 10 and video.poses is None
    np.testing.assert_array_equal(video.stamps[:3], [0, 50_000_000, 100_000_000])
    for i in (7, 0, 1, 9):
        blue = video[i].image[..., 2].astype(int)
        assert np.abs(blue - 20 * i).max() <= 6
    copy = pickle.loads(pickle.dumps(video))
    np.testing.assert_array_equal(copy[4].image, video[4].image)
    # A header that announces a billion frames, in both places where AVI says so.
    damaged = bytearray(path.read_bytes())
    for place, skipped in ((b'avih', 24), (b'strh', 40)):
        start = damaged.index(place) + skipped
        assert damaged[start:start + 4] == (10).to_bytes(4, 'little')
        damaged[start:start + 4] = (10 ** 9).to_bytes(4, 'little')
    path.write_bytes(damaged)
    assert len(open_images(path)) == 10
    path.write_bytes(b'no video')
    with pytest.raises(RecordingError, match='clip.avi'):
        open_images(path)
