# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Bags: what is written is read back, and everything that can be wrong with one."""

from dataclasses import replace
import multiprocessing
import pickle
import resource
import shutil

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer

from geo_perception.datasets.bag import BagSequence, camera_from_info
from geo_perception.datasets.bag_file import BagFile, ros1_types, ros2_types
from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.datasets.frame import SlicedSequence
from geo_perception.errors import GeoPerceptionError, ImageError, RecordingError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.se3 import interpolate_transform, make_transform
from geo_perception.geometry.se3 import matrix_from_rotation_vector, R_BODY_OPTICAL

EPOCH = 1_700_000_000 * 10**9
PERIOD = 10**8
FRAMES = 6
OPTICAL = 'camera_optical_frame'
CAMERA = Camera(np.array([[20.0, 0, 15.5], [0, 21.0, 11.5], [0, 0, 1]]), 32, 24, frame_id=OPTICAL)
T_BASE_CAMERA = make_transform(R_BODY_OPTICAL, [0.2, 0.05, 0.4])
IMAGE, INFO, TRUTH = '/camera/image_raw', '/camera/camera_info', '/ground_truth/pose'


def stamp(i):
    """Return the stamp of frame i, which may lie between frames."""
    return EPOCH + round(i * PERIOD)


def base_pose(i):
    """Return where the body is at frame i."""
    return make_transform(matrix_from_rotation_vector([0, 0, 0.3 * i]), [0.5 * i, 0.1 * i, 0.0])


def camera_pose(i):
    """Return where the camera is at frame i."""
    return base_pose(i) @ T_BASE_CAMERA


def picture(i):
    """Return an image that tells its number."""
    return np.full((24, 32, 3), [10 * i, 20 * i, 30 * i], np.uint8)


def write_images(bag, count=FRAMES, topic=IMAGE):
    """Write the images and their calibration."""
    for i in range(count):
        bag.image(topic, stamp(i), OPTICAL, picture(i), 'rgb8')
        bag.camera_info(topic.rpartition('/')[0] + '/camera_info', stamp(i), CAMERA)


def write_tf(bag, parent='odom', static=True):
    """Write the body's transforms, half a period before and after the images too."""
    if static:
        bag.transform(EPOCH, 'base_link', OPTICAL, T_BASE_CAMERA, static=True)
    for i in np.arange(-0.5, FRAMES):
        bag.transform(stamp(i), parent, 'base_link', base_pose(i))


def write_everything(path, storage='mcap'):
    """Write a bag like that of the sample world."""
    with BagWriter(path, storage) as bag:
        write_images(bag)
        write_tf(bag)
        for i in range(FRAMES):
            bag.image('/camera/right/image_raw', stamp(i), 'right', 255 - picture(i), 'rgb8')
            bag.camera_info('/camera/right/camera_info', stamp(i), CAMERA, baseline=0.12)
            bag.image('/camera/depth/image', stamp(i), OPTICAL,
                      np.full((24, 32), i + 0.5, np.float32), '32FC1')
            bag.image('/camera/flow', stamp(i), OPTICAL, np.zeros((24, 32, 2), 'f4'), '32FC2')
            bag.image('/camera/motion_mask', stamp(i), OPTICAL, picture(i)[..., 0], 'mono8')
            bag.pose(TRUTH, stamp(i), 'map', camera_pose(i))
            bag.odometry('/odom', stamp(i), 'odom', 'base_link', base_pose(i))


@pytest.fixture(scope='module')
def full(tmp_path_factory):
    """Return the path of a full bag that nobody changes."""
    path = tmp_path_factory.mktemp('bags') / 'full'
    write_everything(path)
    return path


def bag_with(tmp_path, write, name='bag', **options):
    """Write images and whatever the function adds; open the bag."""
    with BagWriter(tmp_path / name, overwrite=True) as bag:
        write_images(bag)
        write(bag)
    return BagSequence(tmp_path / name, **options)


def write_poses(topic=TRUTH, at=range(FRAMES), pose=camera_pose, shift=0):
    """Return a function that writes PoseStamped."""
    return lambda bag: [bag.pose(topic, stamp(i) + shift, 'map', pose(i)) for i in at]


def refused(words, function, *arguments, **options):
    """Assert that a call is refused in one sentence that holds all the words."""
    with pytest.raises(RecordingError) as caught:
        function(*arguments, **options)
    text = str(caught.value)
    assert '\n' not in text
    for word in words:
        assert word in text, text
    return text


def check_frames(sequence, poses=camera_pose, atol=1e-9):
    """Assert that images, poses and stamps are what was written."""
    assert len(sequence) == FRAMES
    for i in (0, 3, 1, -1):
        frame = sequence[i]
        n = i % FRAMES
        np.testing.assert_array_equal(frame.image, picture(n))
        np.testing.assert_allclose(frame.T_world_camera, poses(n), atol=atol)
        assert frame.stamp == stamp(n) == sequence.stamps[i]
        np.testing.assert_array_equal(frame.T_world_camera, sequence.poses[i])


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


def test_leaving_depth_and_right_image_out(full):
    frame = BagSequence(full, image_only=True)[0]
    assert frame.depth is None and frame.right is None and frame.baseline is None
    assert frame.flow is None and frame.motion_mask is None
    assert frame.camera is not None


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


@pytest.mark.parametrize('fx, cx, words', [
    (0.0, 16.0, 'not calibrated'), (-20.0, 16.0, 'focal lengths are -20'),
    (20.0, 70.0, 'principal point'), (0.3, 0.5, 'far too small'), (np.nan, 16.0, 'NaN')])
def test_intrinsics_that_cannot_be_right(tmp_path, caplog, fx, cx, words):
    """Frames come without; asked for by name they are refused."""
    wrong = replace(CAMERA, K=np.array([[fx, 0, cx], [0, abs(fx), 12], [0, 0, 1]]))

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


def test_empty_and_missing_bags(tmp_path):
    for storage in ('mcap', 'sqlite3'):
        with BagWriter(tmp_path / storage, storage):
            pass
        refused(['is empty', storage], BagSequence, tmp_path / storage)
    Ros1Writer(tmp_path / 'run.bag').open()
    (tmp_path / 'nothing.bag').write_bytes(b'')
    refused(['damaged or truncated', 'nothing.bag'], BagSequence, tmp_path / 'nothing.bag')


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_damaged_bags_are_one_sentence(tmp_path, storage):
    write_everything(tmp_path / 'whole', storage)
    suffix = 'mcap' if storage == 'mcap' else 'db3'
    content = (tmp_path / 'whole' / f'whole.{suffix}').read_bytes()
    for keep in (0, 7, 100, len(content) // 2, len(content) - 20):
        shutil.copytree(tmp_path / 'whole', tmp_path / 'cut')
        file = next((tmp_path / 'cut').glob(f'*.{suffix}'))
        file.write_bytes(content[:keep])
        if storage == 'sqlite3' and keep == len(content) - 20:
            shutil.rmtree(tmp_path / 'cut')
            continue    # nothing of use stood there
        refused(['cut', 'damaged or truncated', 'ros2 bag reindex' if suffix == 'db3'
                 else 'mcap recover'], BagSequence, tmp_path / 'cut')
        shutil.rmtree(tmp_path / 'cut')
    (tmp_path / 'whole' / 'metadata.yaml').unlink()
    refused(['metadata.yaml', 'ros2 bag reindex'], BagSequence, tmp_path / 'whole')


def test_garbage_anywhere_in_a_bag_never_escapes_as_another_error(tmp_path, full):
    rng = np.random.default_rng(0)
    content = np.frombuffer((full / 'full.mcap').read_bytes(), np.uint8)
    shutil.copytree(full, tmp_path / 'full')
    for _ in range(12):
        damaged = content.copy()
        at = rng.integers(0, len(content) - 64)
        damaged[at:at + 64] = rng.integers(0, 256, 64)
        (tmp_path / 'full' / 'full.mcap').write_bytes(damaged.tobytes())
        try:
            sequence = BagSequence(tmp_path / 'full')
            for i in range(len(sequence)):
                sequence[i]
        except GeoPerceptionError as error:
            assert '\n' not in str(error)


def test_a_bad_image_names_its_frame(tmp_path):
    def write(bag):
        write_poses()(bag)
        bag.write(IMAGE, stamp(2.5), bag._new(
            'sensor_msgs/msg/Image', header=bag._header(stamp(2.5), OPTICAL), height=24, width=32,
            encoding='rgb8', is_bigendian=0, step=50, data=np.zeros(2304, np.uint8)))

    sequence = bag_with(tmp_path, write)
    assert len(sequence) == FRAMES + 1
    with pytest.raises(ImageError, match=f'frame {IMAGE}@{stamp(2.5)} of .*step 50'):
        sequence[3]
    np.testing.assert_array_equal(sequence[4].image, picture(3))


def test_transforms_that_contradict_are_ignored_with_a_warning(tmp_path, caplog):
    def write(bag):
        write_tf(bag)
        bag.transform(EPOCH, 'elsewhere', 'base_link', np.eye(4))

    check = bag_with(tmp_path, write)
    assert len(check) == FRAMES
    assert "two parents, 'odom' and 'elsewhere'" in caplog.text


def sums(sequence):
    """Return the sum of every image, many times over."""
    return [int(sequence[i % FRAMES].image.sum()) for i in range(40 * FRAMES)]


def read_in_child(sequence, queue):
    """Send the sums, or what went wrong."""
    try:
        queue.put(sums(sequence))
    except RecordingError as error:
        queue.put(str(error))


def test_forked_processes_read_side_by_side(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (FRAMES, 100, 200, 3), np.uint8)
    with BagWriter(tmp_path / 'bag') as bag:
        for i, image in enumerate(images):
            bag.image(IMAGE, stamp(i), OPTICAL, image, 'rgb8')
    sequence = BagSequence(tmp_path / 'bag', with_poses=False)
    sequence[0]     # the file is open in this process
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    child = context.Process(target=read_in_child, args=(sequence, queue))
    child.start()
    expected = 40 * [int(image.sum()) for image in images]
    assert sums(sequence) == expected
    assert queue.get(timeout=60) == expected
    child.join(60)


def test_pickle_is_small_and_reads(full):
    data = pickle.dumps(BagSequence(full))
    assert len(data) < 20_000
    check_frames(pickle.loads(data))


def test_reading_one_frame_does_not_read_the_others(tmp_path, monkeypatch):
    with BagWriter(tmp_path / 'bag') as bag:
        for i in range(40):
            bag.image(IMAGE, stamp(i), OPTICAL, np.zeros((400, 640, 3), np.uint8), 'rgb8')
            bag.pose(TRUTH, stamp(i), 'map', camera_pose(i))
    sequence = BagSequence(tmp_path / 'bag')
    reads = []
    bio = sequence._bag._reader.storage.storages[0].bio

    class Counting:
        """Count bytes."""

        def read(self, size=-1):
            data = bio.read(size)
            reads.append(len(data))
            return data

        def __getattr__(self, name):
            return getattr(bio, name)

    monkeypatch.setattr(sequence._bag._reader.storage.storages[0], 'bio', Counting())
    sequence[20]
    assert 0 < sum(reads) < 3 * 400 * 640 * 3


def test_writer_keeps_what_is_there(tmp_path, full):
    refused(['exists already'], BagWriter, full)
    (tmp_path / 'precious').mkdir()
    refused(['is not a bag'], BagWriter, tmp_path / 'precious', overwrite=True)
    refused(["'rosbag3'", 'mcap'], BagWriter, tmp_path / 'new', storage='rosbag3')


def test_an_interrupted_writer_leaves_nothing_half_made(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with BagWriter(tmp_path / 'bag') as bag:
            write_images(bag)
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with BagWriter(tmp_path / 'bag') as bag:
        write_images(bag)
        write_poses()(bag)
    with pytest.raises(KeyboardInterrupt):
        with BagWriter(tmp_path / 'bag', overwrite=True):
            raise KeyboardInterrupt
    check_frames(BagSequence(tmp_path / 'bag'))
    assert [path.name for path in tmp_path.iterdir()] == ['bag']


def test_a_full_disk_is_one_sentence_and_costs_no_data(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        write_images(bag)
        write_poses()(bag)

    def write():
        with BagWriter(tmp_path / 'bag', overwrite=True) as bag:
            noise = np.random.default_rng(0)
            for i in range(100):
                bag.image(IMAGE, i, OPTICAL, noise.integers(0, 256, (99, 99, 3), np.uint8), 'rgb8')

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        refused(['cannot write the bag', str(tmp_path / 'bag'), 'File too large'], write)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    check_frames(BagSequence(tmp_path / 'bag'))
    assert [path.name for path in tmp_path.iterdir()] == ['bag']


def test_a_bag_where_nothing_can_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    refused(['cannot write the bag', 'Not a directory'],
            lambda: BagWriter(tmp_path / 'file/folder/bag').__enter__())


def test_latched_topics_are_offered_as_such(full):
    with Reader(full) as reader:
        durability = {c.topic: c.ext.offered_qos_profiles[0].durability.name
                      for c in reader.connections}
    assert durability['/tf_static'] == 'TRANSIENT_LOCAL' and durability['/tf'] == 'VOLATILE'
