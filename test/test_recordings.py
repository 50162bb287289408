# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Synthetic trees in every format, and one camera that all of them must agree on."""

import logging
import pickle

import numpy as np
import pytest
from small_recordings import (
    HEADER, label_line, N, picture, pose, POSES, refused, write_bag, write_cambridge, write_image,
    write_kitti, write_seven_scenes, write_tum)

from geo_perception.datasets.picture_files import read_depth
from geo_perception.datasets.recording import open_images, open_recording
from geo_perception.datasets.tum import associate
from geo_perception.geometry.se3 import inverse_transform, make_transform, quaternion_from_matrix


def warned(caplog):
    """Return all warnings as one text."""
    return ' | '.join(r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)


@pytest.mark.parametrize('write', [write_seven_scenes, write_tum, write_cambridge, write_kitti,
                                   write_bag])
def test_every_format_gives_the_same_camera(tmp_path, write):
    sequence = open_recording(str(write(tmp_path / 'data')))
    assert len(sequence) == N and sequence.world_frame in ('map', 'world')
    np.testing.assert_allclose(sequence.poses, POSES, atol=2e-6)
    assert sequence.stamps.dtype == np.int64 and np.all(np.diff(sequence.stamps) > 0)
    copy = pickle.loads(pickle.dumps(sequence))
    for i in (0, N - 1, -2):
        frame, again = sequence[i], copy[i]
        expected = picture(i % N)
        if write is write_kitti:
            expected = np.repeat(expected[..., :1], 3, -1)
        np.testing.assert_array_equal(frame.image, expected)
        np.testing.assert_array_equal(frame.image, again.image)
        np.testing.assert_array_equal(frame.T_world_camera, sequence.poses[i])
        assert frame.stamp == sequence.stamps[i] and frame.name
    with pytest.raises(IndexError):
        sequence[N]


# Test vectors of posenet.md sections 12.1 and 12.2.


def test_cambridge_vectors(tmp_path):
    root = write_cambridge(tmp_path, lines=[
        'seq8/frame00001.png 33.175974 -22.801465 1.445929 0.721892 0.624014 0.169282 -0.246619',
        'seq1/frame00001.png -0.157816 -10.413150 1.832074 0.712261 0.682691 -0.123193 0.106962'])
    kings, shop = open_recording(root).poses
    np.testing.assert_allclose(kings[:3, :3], [
        [0.821045, -0.144796, -0.552195], [0.567334, 0.099570, 0.817446],
        [-0.063381, -0.984439, 0.163899]], atol=1e-5)
    np.testing.assert_allclose(kings[:3, 3], [33.175974, -22.801465, 1.445929])
    np.testing.assert_allclose(inverse_transform(kings)[:3, 3], [-14.211284, 8.497525, 36.721577],
                               atol=1e-4)
    np.testing.assert_allclose(quaternion_from_matrix(kings[:3, :3]) * -1,
                               [-0.721892, 0.624014, 0.169282, -0.246619], atol=1e-5)
    np.testing.assert_allclose(shop[:3, 2], [0.321535, 0.946154, 0.037513], atol=1e-5)
    np.testing.assert_allclose(shop[:3, 1], [-0.015836, 0.044984, -0.998862], atol=1e-5)


def test_seven_scenes_vector(tmp_path):
    write_seven_scenes(tmp_path, count=1)
    (tmp_path / 'frame-000000.pose.txt').write_text(
        '9.9935108e-001 -1.5576084e-002 3.1508941e-002 -1.2323361e-001\n'
        '9.2375092e-003 9.8130137e-001 1.9211653e-001 -1.1206967e+000\n'
        '-3.3912845e-002 -1.9170459e-001 9.8083067e-001 -9.8870575e-001\n0 0 0 1\n')
    T, = open_recording(tmp_path).poses
    np.testing.assert_allclose(T[:3, 3], [-0.1232336, -1.1206967, -0.9887058], atol=1e-6)
    np.testing.assert_allclose(quaternion_from_matrix(T[:3, :3]),
                               [0.995185, -0.096422, 0.016435, 0.006234], atol=1e-5)
    np.testing.assert_allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-12)


def test_seven_scenes_splits(tmp_path):
    for name in ('seq-01', 'seq-02', 'seq-12'):
        write_seven_scenes(tmp_path, name, 3)
    assert len(open_recording(tmp_path)) == 9
    (tmp_path / 'TrainSplit.txt').write_text('sequence1\r\n\r\n# comment\r\nsequence12\r\n')
    (tmp_path / 'TestSplit.txt').write_text('sequence2\n')
    train = open_recording(tmp_path / 'TrainSplit.txt')
    assert len(train) == 6 and 'seq-12' in train[3].name
    assert np.all(np.diff(train.stamps) > 0)
    assert 'seq-02' in open_recording(tmp_path / 'TestSplit.txt[0]')[0].name
    assert len(open_recording(tmp_path / 'seq-02')) == 3
    refused(['TrainSplit.txt', 'TestSplit.txt', 'published split'], tmp_path)
    (tmp_path / 'TestSplit.txt').write_text('sequence7\n')
    refused(["'sequence7'", 'no such sequence'], tmp_path / 'TestSplit.txt')


def test_seven_scenes_depth_and_nominal_stamps(tmp_path):
    write_seven_scenes(tmp_path)
    (tmp_path / 'frame-000001.depth.png').unlink()
    (tmp_path / 'frame-000002.color.png').unlink()
    sequence = open_recording(tmp_path)
    np.testing.assert_array_equal(sequence.stamps, [0, 33333333, 10**8, 133333333, 166666667])
    assert sequence[0].depth.dtype == np.float32
    assert np.nanmedian(sequence[0].depth) == pytest.approx(1.5, abs=0.02)
    raw = read_depth(tmp_path / 'frame-000000.depth.png', 1000)
    assert np.isnan(raw[0, :2]).all() and np.all(raw[1:] == np.float32(1.5))
    assert sequence[1].depth is None
    # f = 525 belongs to 640 columns.
    assert sequence[0].camera.width == 32 and sequence[0].camera.K[0, 0] == pytest.approx(26.25)


def test_seven_scenes_depth_is_registered_to_colour(tmp_path):
    write_seven_scenes(tmp_path, count=1)
    depth = np.zeros((480, 640), np.uint16)
    depth[100:110, 500:510] = 1000
    write_image(tmp_path / 'frame-000000.depth.png', depth)
    v, u = np.argwhere(np.isfinite(open_recording(tmp_path)[0].depth)).mean(axis=0)
    # The colour camera has the shorter lens, sits 25.6 mm to the right and is turned by 0.67 deg.
    x, y, z = (504.5 - 320) / 585, (104.5 - 240) / 585, 1.0
    x, y, z = (x + 0.0027 * y - 0.0079 * z - 0.0256, y - 0.0027 * x - 0.0082 * z + 0.0001,
               z + 0.0079 * x + 0.0082 * y + 0.002)
    assert (u, v) == pytest.approx((525 * x / z + 320, 525 * y / z + 240), abs=1.0)


def test_seven_scenes_camera_file_counts(tmp_path):
    """In a sequence, or beside a split; depth is registered to that camera."""
    write_seven_scenes(tmp_path, 'seq-01', 1)
    (tmp_path / 'TrainSplit.txt').write_text('sequence1\n')
    usual = open_recording(tmp_path / 'seq-01')[0]
    for folder, spec in ((tmp_path, 'TrainSplit.txt'), (tmp_path / 'seq-01', 'seq-01')):
        (folder / 'cam.txt').write_text('20 0 10 0 20 11 0 0 1')
        frame = open_recording(tmp_path / spec)[0]
        assert frame.camera.K[[0, 1, 0, 1], [0, 1, 2, 2]].tolist() == [20, 20, 10, 11]
        assert np.isfinite(frame.depth).sum() < 0.8 * np.isfinite(usual.depth).sum()


def test_seven_scenes_broken_poses_are_left_out(tmp_path, caplog):
    write_seven_scenes(tmp_path)
    (tmp_path / 'frame-000001.pose.txt').write_text(' '.join(['nan'] * 16))
    (tmp_path / 'frame-000003.pose.txt').write_text('1 0 0 0  0 2 0 0  0 0 1 0  0 0 0 1')
    (tmp_path / 'frame-000004.pose.txt').unlink()
    sequence = open_recording(tmp_path)
    np.testing.assert_allclose(sequence.poses, POSES[[0, 2, 5]], atol=1e-6)
    np.testing.assert_array_equal(sequence[1].image, picture(2))
    assert '3 of 6 poses' in warned(caplog) and 'frame-000001' in warned(caplog)
    for i in (0, 2, 5):
        (tmp_path / f'frame-{i:06d}.pose.txt').unlink()
    refused(['no image with a pose', '6 of 6'], tmp_path)
    # Their images are still images.
    assert len(open_images(tmp_path)) > N


def test_tum(tmp_path):
    root = write_tum(tmp_path / 'rgbd_dataset_freiburg1_desk')
    sequence = open_recording(root)
    assert sequence.stamps[0] == 1305031102175304000
    frame = sequence[1]
    np.testing.assert_allclose(frame.depth, 1.5)
    assert frame.camera.K[0, 0] == pytest.approx(517.3 * 32 / 640)
    assert frame.camera.distortion[0] == 0.2624
    (root / 'cam.txt').write_text('30 0 16 0 31 12 0 0 1')
    assert open_recording(root)[1].camera.K[1, 1] == 31
    lines = (root / 'groundtruth.txt').read_text().splitlines()
    (root / 'groundtruth.txt').write_text('\n'.join(lines[:-2]))
    assert len(open_recording(root)) == 5
    (root / 'groundtruth.txt').write_text('\n'.join(lines + ['1305031103.0 1 2 3']))
    refused(['groundtruth.txt', 'line', '4 columns'], root)
    (root / 'groundtruth.txt').write_text('\n'.join(lines + ['soon 1 2 3 0 0 0 1']))
    refused(['groundtruth.txt', "'soon 1 2 3"], root)
    (root / 'groundtruth.txt').write_text('# nothing\n')
    refused(['groundtruth.txt', 'no lines'], root)


def test_tum_of_an_unknown_camera(tmp_path, caplog):
    """The default is told of, for another focal length is a bias that no count shows."""
    assert open_recording(write_tum(tmp_path / 'mine'))[0].camera.K[0, 0] == 525 * 32 / 640
    assert 'focal length is taken to be 525 pixels' in caplog.text


def test_tum_gap_in_the_ground_truth(tmp_path, caplog):
    root = write_tum(tmp_path / 'data')
    lines = (root / 'groundtruth.txt').read_text().splitlines()
    # Poses at -1 ... 11 sixtieths of a second; 1 to 7 vanish.
    (root / 'groundtruth.txt').write_text('\n'.join(lines[:3] + lines[10:]))
    sequence = open_recording(root)
    np.testing.assert_allclose(sequence.poses, POSES[[0, 4, 5]], atol=2e-6)
    assert '3 of 6 images are left out' in warned(caplog)


def test_association_uses_each_stamp_once_and_the_closest_first():
    a, b = np.array([0, 10, 20, 100]), np.array([8, 12, 13, 60])
    np.testing.assert_array_equal(associate(a, b, 10), [-1, 0, 2, -1])
    # Dumb reference on random stamps.
    rng = np.random.default_rng(0)
    a, b = np.unique(rng.integers(0, 400, 40)), np.unique(rng.integers(0, 400, 50))
    pairs = sorted((abs(x - y), i, j) for i, x in enumerate(a) for j, y in enumerate(b)
                   if abs(x - y) <= 7)
    expected, taken = np.full(len(a), -1), set()
    for _, i, j in pairs:
        if expected[i] < 0 and j not in taken:
            expected[i] = j
            taken.add(j)
    np.testing.assert_array_equal(associate(a, b, 7), expected)


def test_cambridge_with_a_camera_file(tmp_path):
    root = write_cambridge(tmp_path)
    assert open_recording(root)[0].camera is None
    (root / 'cam.txt').write_text('30 0 16 0 31 12 0 0 1')
    assert open_recording(root)[0].camera.K[0, 0] == 30


def test_cambridge_untidy_list(tmp_path, caplog):
    lines = [label_line(f'/seq1/frame{i:05d}.png', pose(i), scale=1.0 + 0.2 * (i == 2))
             for i in range(N)]
    root = write_cambridge(tmp_path, lines=lines)
    content = (root / 'dataset_train.txt').read_text()
    flipped = ' '.join([lines[3].split()[0], *lines[3].split()[1:4],
                        *(str(-float(word)) for word in lines[3].split()[4:])])
    broken = 'seq1/frame00001.png 1 2 3 0 0 0 0\nseq1/frame00001.png nan 2 3 1 0 0 0'
    content = content.replace(lines[3], flipped) + broken + '\nseq1/gone.png 1 2 3 1 0 0 0\n\n'
    (root / 'dataset_train.txt').write_bytes(content.replace('\n', '\r\n').encode())
    sequence = open_recording(root)
    np.testing.assert_allclose(sequence.poses, POSES, atol=1e-6)
    text = warned(caplog)
    assert 'unit norm (1.200)' in text and 'norm zero' in text and 'NaN' in text
    assert '1 of 9 images are missing' in text and 'gone.png' in text


def test_cambridge_outlier_is_kept_for_the_pose_check(tmp_path):
    line = 'seq5/frame00297.png 3.1e9 0 0 1 0 0 0'
    lines = [label_line('seq1/frame00000.png', pose(0)), line]
    assert open_recording(write_cambridge(tmp_path, lines=lines)).poses[1, 0, 3] == 3.1e9


def test_cambridge_conventions_and_lists(tmp_path):
    root = write_cambridge(tmp_path, world_to_camera=False)
    sequence = open_recording(root, quaternion='camera_to_world')
    np.testing.assert_allclose(sequence.poses, POSES, atol=1e-6)
    wrong = open_recording(root).poses
    np.testing.assert_allclose(wrong[:, :3, :3], np.swapaxes(POSES[:, :3, :3], 1, 2), atol=1e-6)
    refused(["'upwards'", 'camera_to_world'], root, quaternion='upwards')
    (root / 'dataset_test.txt').write_text((root / 'dataset_train.txt').read_text())
    refused(['dataset_train.txt', 'dataset_test.txt', 'give'], root)
    assert len(open_recording(root / 'dataset_test.txt[:2]')) == 2
    with (root / 'dataset_train.txt').open('a') as file:
        file.write('seq1/frame00001.png 1 2 3\n')
    refused(['line 10', 'dataset_train.txt', "'seq1/frame00001.png 1 2 3'"],
            root / 'dataset_train.txt')


def test_a_seven_scenes_list_must_say_its_convention(tmp_path):
    write_seven_scenes(tmp_path, 'seq-01', 2)
    lines = [label_line(f'/seq-01/frame-{i:06d}.color.png', pose(i), world_to_camera=False)
             for i in range(2)]
    (tmp_path / 'dataset_train.txt').write_text(HEADER + '\n'.join(lines))
    spec = tmp_path / 'dataset_train.txt'
    refused(['7-Scenes', 'camera_to_world', 'quaternion'], spec)
    np.testing.assert_allclose(open_recording(spec, quaternion='camera_to_world').poses,
                               open_recording(tmp_path / 'seq-01').poses, atol=1e-6)


def test_kitti(tmp_path):
    root = write_kitti(tmp_path)
    sequence = open_recording(root / 'sequences' / '00')
    frame = sequence[2]
    assert frame.stamp == 207400000
    assert frame.camera.K[0, 2] == 16 and frame.baseline == pytest.approx(0.54)
    np.testing.assert_array_equal(frame.right, frame.image + 7)
    (root / 'poses' / '00.txt').write_text('\n'.join(
        (root / 'poses' / '00.txt').read_text().splitlines()[:4]))
    assert len(open_recording(root)) == 4
    (root / 'poses' / '00.txt').write_text('1 2 3\n')
    refused(['line 1', '00.txt', '12 numbers'], root)
    (root / 'poses' / '00.txt').unlink()
    refused(['no poses', '00.txt'], root)


@pytest.mark.parametrize('time', ['nan', '-inf', '1e11'])
def test_a_kitti_time_that_is_none(tmp_path, time):
    root = write_kitti(tmp_path)
    times = root / 'sequences' / '00' / 'times.txt'
    times.write_text(times.read_text().replace('2.074000e-01', time))
    refused(['times.txt', str(float(time)), 'image number 2'], root)


def test_kitti_colour_camera_sits_beside_the_grey_one(tmp_path):
    sequence = open_recording(write_kitti(tmp_path, colour=True))
    T_grey_colour = inverse_transform(pose(3)) @ sequence.poses[3]
    np.testing.assert_allclose(T_grey_colour, make_transform(np.eye(3), [-0.06, 0, 0]), atol=1e-6)
    assert sequence[0].baseline == pytest.approx(0.54)


def test_kitti_flat_layout_with_bare_calibration(tmp_path):
    for i in range(3):
        write_image(tmp_path / f'image_l/{i:06d}.png', picture(i)[..., 0])
        write_image(tmp_path / f'image_r/{i:06d}.png', picture(i)[..., 0])
    (tmp_path / 'calib.txt').write_text('20 0 16 0 0 20 12 0 0 0 1 0\n'
                                        '20 0 16 -10 0 20 12 0 0 0 1 0\n')
    (tmp_path / 'poses.txt').write_text('\n'.join(
        ' '.join(str(x) for x in T[:3].reshape(-1)) for T in POSES[:3]))
    sequence = open_recording(tmp_path)
    np.testing.assert_allclose(sequence.poses, POSES[:3], atol=1e-9)
    assert sequence[0].baseline == 0.5
    np.testing.assert_array_equal(sequence.stamps, [0, 10**8, 2 * 10**8])
    (tmp_path / 'calib.txt').unlink()
    (tmp_path / 'K.txt').write_text('20 0 16\n0 20 12\n0 0 1\n\n')
    frame = open_recording(tmp_path)[0]
    assert frame.camera.K[1, 2] == 12 and frame.right is None and frame.baseline is None
