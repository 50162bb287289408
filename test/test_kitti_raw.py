# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""KITTI raw: intrinsics, poses and laser depth against a second way to compute them."""

import pickle

import numpy as np
from public_trees import (
    BASELINE, body_poses, CAMERA, dumb_depth, FIRST, OFFSET, P, picture, R_RECT, scan,
    T_CAMERA0_VELODYNE, T_VELODYNE_IMU, write_calibration, write_image, write_kitti_odometry,
    write_kitti_raw)
import pytest

from geo_perception.datasets import kitti_raw
from geo_perception.datasets.kitti_calibration import camera_by_size
from geo_perception.datasets.kitti_lists import (
    eigen_test_frames, excluded_scenes, static_frames)
from geo_perception.datasets.kitti_raw import open_eigen_test, open_kitti_raw
from geo_perception.datasets.recording import open_images, open_recording
from geo_perception.datasets.snippets import consecutive_snippets
from geo_perception.datasets.velodyne import velodyne_depth
from geo_perception.errors import ImageError, RecordingError
from geo_perception.geometry.se3 import inverse_transform, make_transform


def test_published_lists():
    """As many as published, in the published order, and none twice."""
    frames = eigen_test_frames()
    assert len(frames) == len(set(frames)) == 697
    assert frames[0] == ('2011_09_26_drive_0002', 69)
    assert frames[-1] == ('2011_10_03_drive_0047', 768)
    assert len(excluded_scenes('eigen')) == 28 and len(excluded_scenes('stereo')) == 29
    assert excluded_scenes('eigen') == {drive for drive, _ in frames}
    assert excluded_scenes('all') == set()
    ours, geonet = static_frames(), static_frames('geonet')
    assert len(ours) == 8044 and len(geonet) == 8051
    assert geonet - ours == {('2011_09_26_drive_0018', 76), ('2011_09_29_drive_0071', 943), *(
        ('2011_09_26_drive_0051', frame) for frame in (230, 282, 302, 312, 322))}
    assert ('2011_09_26_drive_0009', 394) in ours and ('2011_09_26_drive_0009', 393) not in ours


def test_a_drive(tmp_path):
    """Left colour images with times, intrinsics, right images and poses of the camera."""
    sequence = open_recording(write_kitti_raw(tmp_path))
    assert sequence.stamps.tolist() == [FIRST + i * 10**8 for i in range(6)]
    frame = pickle.loads(pickle.dumps(sequence))[2]
    np.testing.assert_array_equal(frame.image, picture(2))
    np.testing.assert_array_equal(frame.right, picture(5))
    assert frame.baseline == pytest.approx(BASELINE)
    np.testing.assert_allclose(frame.camera.K, CAMERA.K)
    assert (frame.camera.width, frame.camera.height) == (CAMERA.width, CAMERA.height)
    bodies = [T for T, _ in body_poses(6)]
    T_camera_imu = make_transform(R_RECT, OFFSET) @ T_CAMERA0_VELODYNE @ T_VELODYNE_IMU
    expected = [inverse_transform(bodies[0]) @ T @ inverse_transform(T_camera_imu)
                for T in bodies]
    # A degree of latitude has 11 decimals in a millimetre.
    np.testing.assert_allclose(sequence.poses, expected, atol=1e-4)


def test_without_the_lever_arm(tmp_path, caplog):
    """Poses of the unit then, looking forward: it is said."""
    drive = write_kitti_raw(tmp_path)
    (drive.parent / 'calib_imu_to_velo.txt').unlink()
    pose = open_recording(drive).poses[0]
    np.testing.assert_allclose(pose[:3, :3] @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(pose[:3, 3], 0, atol=1e-12)
    assert 'calib_imu_to_velo.txt' in caplog.text


@pytest.mark.parametrize('part', ['image_03', 'image_03/data'])
def test_the_right_camera_is_chosen_by_its_folder(tmp_path, part):
    """It has no camera to its own right."""
    frame = open_recording(write_kitti_raw(tmp_path) / part)[1]
    np.testing.assert_array_equal(frame.image, picture(4))
    assert frame.right is None and frame.baseline is None
    assert open_recording(tmp_path)[1].camera.K[0, 2] == frame.camera.K[0, 2]


@pytest.mark.parametrize('published', [False, True])
def test_laser_depth_equals_point_by_point(published):
    """With several points on a pixel, and points behind."""
    points = np.concatenate([scan(0), scan(0) * [0.5, 0.5, 0.5, 1]])
    depth = velodyne_depth(points, P, CAMERA.width, CAMERA.height, published)
    assert depth.dtype == np.float32 and np.isfinite(depth).sum() > 500
    np.testing.assert_allclose(depth, dumb_depth(points, published), rtol=1e-6)


def test_laser_depth_by_hand():
    """A point ahead: the published value is a quarter of a metre more, and a pixel off."""
    forward = CAMERA.K @ np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, -0.27]])
    for published, row, column, value in ((False, 58, 203, 9.73), (True, 57, 202, 10.0)):
        depth = velodyne_depth(np.array([[10.0, 0, 0]]), forward, 414, 126, published)
        assert depth[row, column] == np.float32(value) and np.isfinite(depth).sum() == 1


def test_depth_of_a_drive(tmp_path):
    """The scan of the frame; annotated depth where it is there; nothing where neither is."""
    drive = write_kitti_raw(tmp_path)
    (drive / 'velodyne_points' / 'data' / '0000000003.bin').unlink()
    annotated = np.full((CAMERA.height, CAMERA.width), 2560, np.uint16)
    annotated[0] = 0
    write_image(drive / 'proj_depth/groundtruth/image_02/0000000004.png', annotated)
    sequence = open_recording(drive)
    np.testing.assert_allclose(sequence[1].depth, dumb_depth(scan(1), False), rtol=1e-6)
    assert sequence[3].depth is None
    assert np.isnan(sequence[4].depth[0]).all() and (sequence[4].depth[1:] == 10).all()
    published = open_kitti_raw(drive, published_depth=True)
    np.testing.assert_allclose(published[4].depth, dumb_depth(scan(4), True), rtol=1e-6)


def test_eigen_test_set(tmp_path, monkeypatch):
    """All of it in its order, or nothing: a mean over fewer images is another number."""
    monkeypatch.setattr(kitti_raw, 'eigen_test_frames', lambda: [
        ('2011_09_26_drive_0002', 4), ('2011_09_28_drive_0002', 1), ('2011_09_26_drive_0002', 2)])
    drive = write_kitti_raw(tmp_path, 2)
    with pytest.raises(RecordingError, match='2 of 6 files of Eigen.*2011_09_28.*0000000001.png'):
        open_eigen_test(tmp_path)
    write_kitti_raw(tmp_path, 2, day='2011_09_28')
    write_calibration(tmp_path / '2011_09_28', CAMERA.cropped(1, 2, CAMERA.width, CAMERA.height))
    (tmp_path / '2011_09_28' / 'calib_velo_to_cam.txt').rename(tmp_path / 'kept')
    with pytest.raises(RecordingError, match='1 of 4 calibration files.*2011_09_28/calib_velo_to'):
        open_eigen_test(tmp_path)
    (tmp_path / 'kept').rename(tmp_path / '2011_09_28' / 'calib_velo_to_cam.txt')
    sequence = open_eigen_test(tmp_path)
    assert [sequence[i].name[-7:] for i in range(3)] == ['004.png', '001.png', '002.png']
    assert str(drive) in sequence[0].name
    np.testing.assert_allclose(sequence[0].depth, dumb_depth(scan(4), True), rtol=1e-6)
    assert sequence[1].camera.K[0, 2] == pytest.approx(CAMERA.K[0, 2] - 1)
    assert (np.diff(sequence.stamps) >= 10**10).all() and sequence.poses is None


def test_eigen_test_set_with_annotated_depth(tmp_path, monkeypatch):
    """Those images that have it, and no scan; a number other than the published is refused."""
    monkeypatch.setattr(kitti_raw, 'eigen_test_frames', lambda: [
        ('2011_09_26_drive_0002', i) for i in (4, 0, 2)])
    drive = write_kitti_raw(tmp_path, 2, scans=False)
    for i in (2, 4):
        write_image(drive / f'proj_depth/groundtruth/image_02/{i:010d}.png',
                    np.full((CAMERA.height, CAMERA.width), 256 * i, np.uint16))
    with pytest.raises(RecordingError, match="2 of Eigen's test images.* not 652; unpack"):
        open_eigen_test(tmp_path, annotated=True)
    monkeypatch.setattr(kitti_raw, 'ANNOTATED_TEST_IMAGES', 2)
    (drive.parent / 'calib_velo_to_cam.txt').unlink()
    sequence = open_eigen_test(tmp_path, annotated=True)
    assert [sequence[i].name[-7:] for i in range(2)] == ['004.png', '002.png']
    assert [np.unique(sequence[i].depth).tolist() for i in range(2)] == [[4.0], [2.0]]


def test_no_snippet_crosses_a_missing_frame(tmp_path):
    """With times, and at the nominal rate."""
    drive = write_kitti_raw(tmp_path, n=9)
    (drive / 'image_02' / 'data' / '0000000004.png').unlink()
    for _ in range(2):
        stamps = open_images(drive).stamps
        assert len(stamps) == 8 and len(consecutive_snippets(stamps)) == 4
        (drive / 'image_02' / 'timestamps.txt').unlink(missing_ok=True)
    assert stamps[4] == 5 * 10**8


def test_damaged_measurements_leave_a_frame_out(tmp_path, caplog):
    """One file of GPS is half written; without poses all frames count."""
    drive = write_kitti_raw(tmp_path)
    (drive / 'oxts' / 'data' / '0000000002.txt').write_text('49.0 8.4')
    assert len(open_recording(drive)) == 5 and '0000000002.png' in caplog.text
    assert len(open_kitti_raw(drive, with_poses=False)) == 6


def test_images_without_poses_or_calibration(tmp_path, caplog):
    """Images can still be used; it is said what is missing."""
    drive = write_kitti_raw(tmp_path, poses=False)
    with pytest.raises(RecordingError, match='has no poses: .*oxts/data does not exist'):
        open_recording(drive)
    assert open_images(drive).poses is None
    (drive.parent / 'calib_cam_to_cam.txt').unlink()
    frame = open_images(drive)[0]
    assert frame.camera is None and frame.depth is None
    assert 'no intrinsics, for there is no' in caplog.text


def break_size(drive):
    """Take the calibration of another camera."""
    write_calibration(drive.parent, CAMERA.cropped(0, 0, 400, 200))


def break_focal_length(drive):
    """Put zero where the focal length is."""
    K = CAMERA.K * [[0.0, 1, 1], [1, 1, 1], [1, 1, 1]]
    path = drive.parent / 'calib_cam_to_cam.txt'
    P2 = ' '.join(str(v) for v in np.hstack([K, np.zeros((3, 1))]).ravel())
    path.write_text(path.read_text() + f'P_rect_02: {P2}\n')


def break_calibration(drive):
    """Lose a line."""
    path = drive.parent / 'calib_cam_to_cam.txt'
    path.write_text(path.read_text().replace('P_rect_02', 'P_other'))


def break_times(drive):
    """Lose the last times."""
    path = drive / 'image_02' / 'timestamps.txt'
    path.write_text(''.join(path.read_text().splitlines(True)[:4]))


def break_time(drive):
    """Write another date format."""
    (drive / 'image_02' / 'timestamps.txt').write_text('26.09.2011 13:02\n' * 6)


def break_images(drive):
    """Empty the drive."""
    for image in (drive / 'image_02' / 'data').iterdir():
        image.unlink()


def break_name(drive):
    """Rename an image."""
    (drive / 'image_02/data/0000000000.png').rename(drive / 'image_02/data/first.png')


@pytest.mark.parametrize('change, words', [
    (break_size, '414x126.*calib_cam_to_cam.txt is for 400x200'),
    (break_focal_length, 'cannot be right: the focal lengths are 0 and 240'),
    (break_calibration, 'lacks P_rect_02 with 12 numbers'),
    (break_times, 'holds 4 times, but there is an image number 5'),
    (break_time, "holds '26.09.2011 13:02', which is no time"),
    (break_images, 'holds no images'), (break_name, 'first.png holds no frame number')])
def test_what_is_broken_is_named(tmp_path, change, words):
    """One sentence, with or without poses."""
    drive = write_kitti_raw(tmp_path)
    change(drive)
    for read in (open_recording, open_images):
        with pytest.raises(RecordingError, match=words) as caught:
            read(drive)
        assert '\n' not in str(caught.value)


def test_broken_files_of_a_frame(tmp_path):
    """Named when the frame is read."""
    drive = write_kitti_raw(tmp_path)
    (drive / 'image_02/data/0000000002.png').write_bytes(b'no picture')
    (drive / 'velodyne_points/data/0000000004.bin').write_bytes(b'01234567')
    sequence = open_recording(drive)
    with pytest.raises(ImageError, match='0000000002.png'):
        sequence[2]
    with pytest.raises(RecordingError, match='0000000004.bin is truncated'):
        sequence[4]


def test_several_drives_and_unrectified_ones(tmp_path):
    """A folder of several does not say which is meant."""
    write_kitti_raw(tmp_path)
    drive = write_kitti_raw(tmp_path, 2)
    for folder in (tmp_path, drive.parent):
        with pytest.raises(RecordingError, match='2 KITTI drives; give one of .*0001.*0002'):
            open_recording(folder)
    raw = drive.rename(drive.with_name(drive.name.replace('sync', 'extract')))
    with pytest.raises(RecordingError, match='not rectified'):
        open_images(raw)


def test_odometry_sequences_without_poses(tmp_path):
    """Sequences 11 to 21 have none, and are videos all the same."""
    folder = write_kitti_odometry(tmp_path, '11')
    sequence = open_images(folder)
    assert len(sequence) == 8 and sequence.poses is None
    np.testing.assert_allclose(sequence[3].camera.K, CAMERA.K)
    for image in (folder / 'image_2').iterdir():
        image.unlink()
    with pytest.raises(RecordingError, match='holds no images'):
        open_images(folder)


def test_cameras_by_size():
    """Five recording days, five sizes."""
    assert camera_by_size(1242, 375).K[1, 2] == 172.854
    assert camera_by_size(1226, 370).K[0, 0] == 707.0912
    assert camera_by_size(640, 480) is None
