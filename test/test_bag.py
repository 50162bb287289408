# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Bags: what is written is read back, whatever the topics say."""

from dataclasses import replace

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from small_bag import (
    bag_with, base_pose, CAMERA, camera_pose, check_frames, EPOCH, FRAMES, IMAGE, INFO, OPTICAL,
    PERIOD, picture, refused, stamp, T_BASE_CAMERA, TRUTH, write_everything, write_images,
    write_poses, write_tf)

from geo_perception.datasets.bag import BagSequence, camera_from_info
from geo_perception.datasets.bag_file import BagFile, ros1_types, ros2_types
from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.datasets.frame import SlicedSequence
from geo_perception.errors import ConfigurationError, ImageError
from geo_perception.geometry.se3 import interpolate_transform


@pytest.fixture(scope='module')
def full(tmp_path_factory):
    """Return the path of a full bag that nobody changes."""
    path = tmp_path_factory.mktemp('bags') / 'full'
    write_everything(path)
    return path


def test_flow_leads_to_the_next_frame_or_is_left_out(tmp_path):
    """After an image without a pose, and in slices, the next frame is another one."""
    flow = np.full((24, 32, 2), 1.5, np.float32)
    flow[3, 4, 0] = np.inf

    with BagWriter(tmp_path / 'bag') as bag:
        write_images(bag, 14)
        # Too far apart in the middle for the images there to have a pose.
        write_poses(at=[0, 1, 2, 10, 11, 12, 13])(bag)
        for i in range(14):
            bag.image('/camera/flow', stamp(i), OPTICAL, flow, '32FC2')
            bag.image('/camera/rigid_flow', stamp(i), OPTICAL, flow + 1, '32FC2')
    everything = BagSequence(tmp_path / 'bag', with_poses=False)
    assert np.isnan(everything[0].flow[3, 4]).all() and everything[0].flow[0, 0, 1] == 1.5
    sliced = SlicedSequence(everything, [0, 1, 3, 4])
    assert [sliced[i].flow is not None for i in range(4)] == [True, False, True, True]
    posed = BagSequence(tmp_path / 'bag')
    assert [posed[i].flow is not None for i in range(7)] == [
        True, True, False, True, True, True, True]


def test_flow_of_another_size_is_refused(tmp_path):
    sequence = bag_with(tmp_path, lambda bag: bag.image(
        '/camera/flow', stamp(0), OPTICAL, np.zeros((12, 16, 2), np.float32), '32FC2'),
        with_poses=False)
    with pytest.raises(ImageError, match='/camera/flow.* has 16x12 pixels, .* has 32x24'):
        sequence[0]


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_full_bag_needs_no_options(tmp_path, storage):
    write_everything(tmp_path / 'bag', storage)
    sequence = BagSequence(tmp_path / 'bag')
    assert (sequence.image_topic, sequence.pose_topic) == (IMAGE, TRUTH)
    assert sequence.world_frame == 'map'
    check_frames(sequence)
    frame = sequence[2]
    assert frame.name == f'{IMAGE}@{stamp(2)}'
    np.testing.assert_array_equal(frame.camera.K, CAMERA.K)
    assert (frame.camera.width, frame.camera.height, frame.camera.frame_id) == (32, 24, OPTICAL)
    np.testing.assert_array_equal(frame.depth, np.full((24, 32), 2.5))
    np.testing.assert_array_equal(frame.right, 255 - picture(2))
    np.testing.assert_array_equal(frame.flow, np.zeros((24, 32, 2)))
    np.testing.assert_array_equal(frame.motion_mask, picture(2)[..., 0])
    assert frame.baseline == pytest.approx(0.12)
    with pytest.raises(IndexError):
        sequence[FRAMES]


def test_broken_images_at_the_start_cost_no_others(tmp_path):
    """They are told of when they are read; a bag of nothing else says so at once."""
    topic = '/camera/image_raw/compressed'

    def write(name, good):
        with BagWriter(tmp_path / name) as bag:
            for i in range(3):
                bag.write(topic, stamp(i), bag.typestore.types['sensor_msgs/msg/CompressedImage'](
                    header=bag._header(stamp(i), OPTICAL), format='rgb8; jpeg compressed bgr8',
                    data=np.zeros(40, np.uint8)))
            for i in range(3, 3 + good):
                bag.compressed_image(topic, stamp(i), OPTICAL, picture(i))
        return BagSequence(tmp_path / name, with_poses=False)

    sequence = write('mixed', 1)
    assert len(sequence) == 4 and sequence[3].image.shape == (24, 32, 3)
    with pytest.raises(ImageError):
        sequence[0]
    with pytest.raises(ImageError, match=f'images on {topic} of .*broken cannot be read: '):
        write('broken', 0)


def test_leaving_depth_and_right_image_out(full):
    frame = BagSequence(full, beside=())[0]
    assert frame.depth is None and frame.right is None and frame.baseline is None
    assert frame.flow is None and frame.motion_mask is None
    assert frame.camera is not None
    frame = BagSequence(full, beside=('depth',))[0]
    assert frame.depth is not None and frame.right is None and frame.flow is None
    with pytest.raises(ConfigurationError, match='Depth cannot be read beside'):
        BagSequence(full, beside=('Depth',))


def test_images_without_poses(full):
    sequence = BagSequence(full, with_poses=False)
    assert len(sequence) == FRAMES and sequence.poses is None and sequence.world_frame == ''
    assert sequence[0].T_world_camera is None


@pytest.mark.parametrize('mode', [CompressionMode.FILE, CompressionMode.MESSAGE,
                                  CompressionMode.STORAGE])
def test_compressed_bags(tmp_path, full, mode):
    plugin = StoragePlugin.MCAP if mode == CompressionMode.STORAGE else StoragePlugin.SQLITE3
    writer = Writer(tmp_path / 'packed', version=9, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with Reader(full) as reader, writer:
        connections = {}
        for connection, time, raw in reader.messages():
            topic, msgtype = connection.topic, connection.msgtype
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, msgtype, typestore=ros2_types())
            writer.write(connections[topic], time, raw)
    check_frames(BagSequence(tmp_path / 'packed'))


@pytest.mark.parametrize('suffix', ['.mcap', '.db3'])
def test_a_storage_file_by_itself(tmp_path, suffix):
    write_everything(tmp_path / 'bag', 'mcap' if suffix == '.mcap' else 'sqlite3')
    check_frames(BagSequence(tmp_path / 'bag' / f'bag{suffix}'))


def test_compressed_images(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for i in range(FRAMES):
            bag.compressed_image(f'{IMAGE}/compressed', stamp(i), OPTICAL, picture(i), 'png')
            bag.camera_info(INFO, stamp(i), CAMERA)
            bag.pose(TRUTH, stamp(i), 'map', camera_pose(i))
    sequence = BagSequence(tmp_path / 'bag')
    check_frames(sequence)
    np.testing.assert_array_equal(sequence[0].camera.K, CAMERA.K)


def ros1_message(store, message):
    """Return a ROS 1 message with the fields of a ROS 2 one."""
    cls = store.types[message.__msgtype__]
    fields = {}
    for name in cls.__dataclass_fields__:
        if name == '__msgtype__':
            continue
        if name == 'seq':
            fields[name] = 0
            continue
        value = getattr(message, name if hasattr(message, name) else name.lower())
        if hasattr(value, '__msgtype__'):
            value = ros1_message(store, value)
        elif isinstance(value, list):
            value = [ros1_message(store, item) for item in value]
        fields[name] = value
    return cls(**fields)


def test_ros1_bag(tmp_path, full):
    store = ros1_types()
    bag = BagFile(full)
    with Ros1Writer(tmp_path / 'run.bag') as writer:
        connections = {}
        for topic, (time, _), message in bag.messages(list(bag.topics)):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__,
                                                           typestore=store)
            raw = store.serialize_ros1(ros1_message(store, message), message.__msgtype__)
            writer.write(connections[topic], time, raw)
    sequence = BagSequence(tmp_path / 'run.bag')
    check_frames(sequence)
    np.testing.assert_array_equal(sequence[1].camera.K, CAMERA.K)
    check_frames(BagSequence(tmp_path / 'run.bag', pose_topic='/odom'))


def test_poses_are_interpolated_to_the_image_stamps(tmp_path):
    every = np.arange(-1, FRAMES + 1)
    sequence = bag_with(tmp_path, write_poses(at=every, shift=PERIOD // 4))
    check_frames(sequence, lambda i: interpolate_transform(camera_pose(i - 1), camera_pose(i),
                                                           0.75))


def test_odometry_of_the_body_is_moved_to_the_camera(full):
    sequence = BagSequence(full, pose_topic='/odom')
    assert sequence.world_frame == 'odom'
    check_frames(sequence)


def test_odometry_without_the_mounting_is_refused(tmp_path):
    refused(['/odom', "'base_link'", OPTICAL, '/tf_static', 'pose_frame'], bag_with, tmp_path,
            lambda bag: [bag.odometry('/odom', stamp(i), 'odom', 'base_link', base_pose(i))
                         for i in range(FRAMES)])


def test_pose_frame_tells_what_the_message_does_not(tmp_path):
    def write(bag):
        write_poses('/pose', pose=base_pose)(bag)
        bag.transform(EPOCH, 'base_link', OPTICAL, T_BASE_CAMERA, static=True)

    check_frames(bag_with(tmp_path, write), base_pose)
    check_frames(BagSequence(tmp_path / 'bag', pose_frame='base_link'), camera_pose)
    check_frames(BagSequence(tmp_path / 'bag', pose_frame=OPTICAL), base_pose)


@pytest.mark.parametrize('parent', ['map', 'world', 'odom', 'room'])
def test_poses_from_tf(tmp_path, parent):
    sequence = bag_with(tmp_path, lambda bag: write_tf(bag, parent))
    assert sequence.world_frame == parent and sequence.pose_topic == '/tf'

    def halfway(i):
        return interpolate_transform(base_pose(i - 0.5), base_pose(i + 0.5), 0.5) @ T_BASE_CAMERA

    assert len(sequence) == FRAMES
    np.testing.assert_allclose(sequence[2].T_world_camera, halfway(2), atol=1e-9)
    check_frames(BagSequence(tmp_path / 'bag', pose_topic='/tf'), halfway)


def test_the_map_is_the_world_even_below_another_frame(tmp_path):
    def write(bag):
        write_tf(bag, 'map')
        bag.transform(EPOCH, 'earth', 'map', camera_pose(3), static=True)

    sequence = bag_with(tmp_path, write)
    assert sequence.world_frame == 'map'
    T = interpolate_transform(base_pose(-0.5), base_pose(0.5), 0.5) @ T_BASE_CAMERA
    np.testing.assert_allclose(sequence.poses[0], T, atol=1e-9)


def test_a_pose_with_covariance(tmp_path):
    def write(bag):
        for i in range(FRAMES):
            pose = bag._new('geometry_msgs/msg/PoseWithCovariance',
                            pose=bag._pose(camera_pose(i)), covariance=np.zeros(36))
            bag.write('/localization', stamp(i), bag._new(
                'geometry_msgs/msg/PoseWithCovarianceStamped',
                header=bag._header(stamp(i), 'map'), pose=pose))

    sequence = bag_with(tmp_path, write)
    assert (sequence.pose_topic, sequence.world_frame) == ('/localization', 'map')
    check_frames(sequence)


def test_frames_out_of_reach_are_left_out_with_one_warning(tmp_path, caplog):
    sequence = bag_with(tmp_path, write_poses(at=range(1, FRAMES - 1), shift=PERIOD // 2))
    assert sequence.stamps.tolist() == [stamp(i) for i in range(2, FRAMES - 1)]
    np.testing.assert_array_equal(sequence[0].image, picture(2))
    warnings = [r.getMessage() for r in caplog.records if r.levelname == 'WARNING']
    assert len(warnings) == 1 and '3 of 6 frames' in warnings[0] and TRUTH in warnings[0]


def test_long_gaps_are_not_bridged(tmp_path):
    assert len(bag_with(tmp_path, write_poses(at=[0, 4], shift=-PERIOD // 10))) == 4
    refused(['no image', TRUTH], bag_with, tmp_path, write_poses(at=[0, 6], shift=-PERIOD // 10))


def test_no_pose_in_reach_of_any_image(tmp_path):
    refused(['no image', '1700000000.000 to 1700000000.500', TRUTH], bag_with, tmp_path,
            write_poses(shift=3600 * 10**9))


def test_broken_poses_are_left_out_and_counted(tmp_path, caplog):
    def write(bag):
        for i in range(-1, FRAMES + 1):
            T = camera_pose(i)
            if i == 2:
                T[0, 3] = np.nan
            bag.pose(TRUTH, stamp(i), 'map', T)

    sequence = bag_with(tmp_path, write)
    assert len(sequence) == FRAMES
    np.testing.assert_allclose(sequence[2].T_world_camera,
                               interpolate_transform(camera_pose(1), camera_pose(3), 0.5),
                               atol=1e-9)
    assert 'NaN' in caplog.text and '/ground_truth/pose at 1700000000.200 s' in caplog.text


def raw_poses(quaternion):
    """Return a function that writes poses with one quaternion (x, y, z, w)."""
    def write(bag):
        for i in range(FRAMES):
            message = bag._new('geometry_msgs/msg/PoseStamped', pose=bag._pose(camera_pose(i)),
                               header=bag._header(stamp(i), 'map'))
            for name, value in zip('xyzw', quaternion):
                setattr(message.pose.orientation, name, value)
            bag.write(TRUTH, stamp(i), message)
    return write


def test_quaternions_are_normalised_and_those_of_norm_zero_refused(tmp_path, caplog):
    sequence = bag_with(tmp_path, raw_poses((0.0, 0.0, 2.0, 0.0)))
    np.testing.assert_allclose(sequence.poses[0, :3, :3], np.diag([-1.0, -1, 1]), atol=1e-12)
    assert '6 of 6 poses' in caplog.text and 'unit norm' in caplog.text
    refused(['norm zero', '6 of 6'], bag_with, tmp_path, raw_poses((0.0, 0.0, 0.0, 0.0)))


def test_stamps_that_go_back(tmp_path):
    def write(path, order, jump=0):
        with BagWriter(path) as bag:
            for recorded, i in enumerate(order):
                image = bag._new('sensor_msgs/msg/Image', header=bag._header(
                    stamp(i) - (jump if recorded > 3 else 0), OPTICAL), height=24, width=32,
                    encoding='rgb8', is_bigendian=0, step=96, data=picture(i).reshape(-1))
                bag.write(IMAGE, stamp(recorded), image)
            write_poses(at=range(-1, FRAMES + 1))(bag)

    write(tmp_path / 'mixed', [0, 2, 1, 3, 5, 4])
    check_frames(BagSequence(tmp_path / 'mixed'))
    write(tmp_path / 'jump', range(FRAMES), jump=5 * 10**9)
    refused([IMAGE, 'go back by 4.9', 'message 4'], BagSequence, tmp_path / 'jump')


def test_images_without_stamps_use_the_time_of_recording(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        for i in range(FRAMES):
            fields = {'height': 24, 'width': 32, 'encoding': 'rgb8', 'is_bigendian': 0,
                      'step': 96, 'data': picture(i).reshape(-1)}
            bag.write(IMAGE, stamp(i), bag._new('sensor_msgs/msg/Image',
                                                header=bag._header(0, OPTICAL), **fields))
        write_poses()(bag)
    check_frames(BagSequence(tmp_path / 'bag'))


def test_choice_of_the_image_topic(tmp_path, full):
    def cameras(*topics, encoding='rgb8'):
        with BagWriter(tmp_path / 'bag', overwrite=True) as bag:
            for topic in topics:
                write_images(bag, 1, topic)
                grey = picture(1)[..., 0]
                bag.image(f'{topic}_grey', stamp(0), OPTICAL, grey, 'mono8')
            write_poses()(bag)
        return tmp_path / 'bag'

    assert BagSequence(cameras('/left/image_raw', '/back/image_raw')).image_topic \
        == '/left/image_raw'
    text = refused(['several cameras', 'image_topic'], BagSequence,
                   cameras('/front/image_raw', '/back/image_raw'))
    assert '/front/image_raw' in text and '/back/image_raw' in text
    assert BagSequence(tmp_path / 'bag', '/back/image_raw').image_topic == '/back/image_raw'
    assert BagSequence(tmp_path / 'bag', '/back/image_raw_grey').image_topic \
        == '/back/image_raw_grey'
    refused(['/nowhere', 'is not in it', IMAGE], BagSequence, full, image_topic='/nowhere')
    refused(['/odom', 'nav_msgs/msg/Odometry', IMAGE], BagSequence, full, image_topic='/odom')


def test_only_what_can_be_a_camera_is_offered_as_one(tmp_path):
    """Not depth, flow and masks; with no camera among them the message says so."""
    def write(*cameras):
        with BagWriter(tmp_path / 'bag', overwrite=True) as bag:
            for topic in cameras:
                bag.image(topic, stamp(0), OPTICAL, picture(0), 'rgb8')
            bag.image('/camera/flow', stamp(0), OPTICAL, np.zeros((24, 32, 2), 'f4'), '32FC2')
            bag.image('/camera/motion_mask', stamp(0), OPTICAL, picture(0)[..., 0], 'mono8')
            bag.image('/camera/range', stamp(0), OPTICAL, np.ones((24, 32), 'f4'), '32FC1')
        return tmp_path / 'bag'

    offered = '/back/image_raw, /camera/right/image_raw, /front/image_raw'
    cameras = offered.split(', ')
    for options in ({}, {'image_topic': '/nowhere'},
                    {'image_topic': cameras[0], 'right_topic': '/nowhere'}):
        text = refused(['topic to one of'], BagSequence, write(*cameras), **options)
        assert text.endswith(f' to one of {offered}'), text
    text = refused(['no images of a camera', '/camera/flow, /camera/motion_mask, /camera/range'],
                   BagSequence, write())
    assert 'image_topic' not in text
    text = refused(['no picture of a main camera'], BagSequence, write('/camera/right/image_raw'))
    assert text.endswith(' to one of /camera/right/image_raw')


def test_choice_of_the_pose_topic(tmp_path, full):
    def both(bag):
        write_poses('/slam/pose')(bag)
        write_poses('/other/pose')(bag)
        write_poses('/goal_pose')(bag)

    refused(['several sources', 'pose_topic', '/slam/pose', '/other/pose'],
            bag_with, tmp_path, both)
    assert BagSequence(tmp_path / 'bag', pose_topic='/slam/pose').pose_topic == '/slam/pose'
    truth = bag_with(tmp_path, lambda bag: [write_poses()(bag), both(bag)])
    assert truth.pose_topic == TRUTH
    only = bag_with(tmp_path, lambda bag: [write_poses('/goal_pose')(bag),
                                           write_poses('/slam/pose')(bag)])
    assert only.pose_topic == '/slam/pose'
    refused(['does not say where the camera was', OPTICAL], bag_with, tmp_path,
            write_poses('/goal_pose'))
    refused(['/nowhere', TRUTH, '/odom', '/tf'], BagSequence, full, pose_topic='/nowhere')


def test_a_bag_without_images(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        write_poses()(bag)
    refused(['holds no images', TRUTH], BagSequence, tmp_path / 'bag')


def test_calibration_that_does_not_fit(tmp_path, caplog):
    def write(bag):
        write_poses()(bag)
        bag.camera_info('/other/camera_info', EPOCH, CAMERA.resized(64, 48))

    bag_with(tmp_path, write)
    refused(['64x48', '32x24', '/other/camera_info'], BagSequence, tmp_path / 'bag',
            camera_info_topic='/other/camera_info')
    refused(['/missing', 'camera_info_topic'], BagSequence, tmp_path / 'bag',
            camera_info_topic='/missing')
    with BagWriter(tmp_path / 'small') as bag:
        for i in range(FRAMES):
            bag.image(IMAGE, stamp(i), OPTICAL, picture(i), 'rgb8')
            bag.camera_info(INFO, stamp(i), CAMERA.resized(64, 48))
        write_poses()(bag)
    assert BagSequence(tmp_path / 'small')[0].camera is None
    assert '64x48' in caplog.text


@pytest.mark.parametrize('fx, cx, distortion, words', [
    (0.0, 16.0, (), 'not calibrated'), (-20.0, 16.0, (), 'focal lengths are -20'),
    (20.0, 70.0, (), 'principal point'), (0.3, 0.5, (), 'far too small'),
    (np.nan, 16.0, (), 'NaN'), (20.0, 16.0, (0.1, 0.0, 0.0), '3 coefficients of the distortion')])
def test_intrinsics_that_cannot_be_right(tmp_path, caplog, fx, cx, distortion, words):
    """Frames come without; asked for by name they are refused."""
    wrong = replace(CAMERA, K=np.array([[fx, 0, cx], [0, abs(fx), 12], [0, 0, 1]]),
                    distortion=np.array(distortion))

    with BagWriter(tmp_path / 'bag') as bag:
        bag.image(IMAGE, stamp(0), OPTICAL, picture(0), 'rgb8')
        bag.camera_info(INFO, stamp(0), wrong)
    assert BagSequence(tmp_path / 'bag', with_poses=False)[0].camera is None
    assert words in caplog.text
    refused([words, INFO], BagSequence, tmp_path / 'bag', camera_info_topic=INFO,
            with_poses=False)


def test_calibration_with_binning_region_and_rectified_image(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.camera_info(INFO, EPOCH, CAMERA, baseline=0.5)
    info = BagFile(tmp_path / 'bag').first(INFO)
    info.k, info.d, info.p = 7 * info.k, np.array([0.1, 0, 0, 0, 0]), info.p.copy()
    info.p[0] = 33.0
    raw, rectified = camera_from_info(info, False), camera_from_info(info, True)
    assert raw.K[0, 0] == 140 and raw.distortion[0] == 0.1
    assert rectified.K[0, 0] == 33 and rectified.distortion.size == 0
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 4, 2, 16, 12
    info.binning_x = info.binning_y = 2
    binned = camera_from_info(info, True)
    assert (binned.width, binned.height) == (8, 6)
    # A point of the region, in the full and in the binned image.
    full = rectified.project(np.array([-0.1, -0.2, 1.0])) - [4, 2]
    np.testing.assert_allclose(binned.project(np.array([-0.1, -0.2, 1.0])), (full + 0.5) / 2 - 0.5)


def test_transforms_that_contradict_are_ignored_with_a_warning(tmp_path, caplog):
    def write(bag):
        write_tf(bag)
        bag.transform(EPOCH, 'elsewhere', 'base_link', np.eye(4))

    check = bag_with(tmp_path, write)
    assert len(check) == FRAMES
    assert "two parents, 'odom' and 'elsewhere'" in caplog.text
