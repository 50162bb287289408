# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Files of bags: damaged ones, several readers of one, and how one is written."""

from contextlib import suppress
import gc
import multiprocessing
import os
from pathlib import Path
import pickle
import resource
import shutil

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import Reader
from small_bag import (
    bag_with, camera_pose, check_frames, FRAMES, IMAGE, OPTICAL, picture, refused, stamp, TRUTH,
    write_everything, write_images, write_poses)

from geo_perception.datasets.bag import BagSequence
from geo_perception.datasets.bag_file import BagFile, ros1_types
from geo_perception.datasets.bag_writer import BagWriter
from geo_perception.errors import GeoPerceptionError, ImageError, RecordingError


def files_open_below(folder):
    """Return what this process has open there."""
    found = []
    for descriptor in Path('/proc/self/fd').iterdir():
        with suppress(OSError):   # that of the list itself
            found.append(os.readlink(descriptor))
    return [name for name in found if name.startswith(str(folder))]


@pytest.fixture(scope='module')
def full(tmp_path_factory):
    """Return the path of a full bag that nobody changes."""
    path = tmp_path_factory.mktemp('bags') / 'full'
    write_everything(path)
    return path


def test_empty_and_missing_bags(tmp_path):
    for storage in ('mcap', 'sqlite3'):
        with BagWriter(tmp_path / storage, storage):
            pass
        refused(['is empty', storage], BagSequence, tmp_path / storage)
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
    refused(['metadata.yaml', 'still being recorded', 'ros2 bag reindex'], BagSequence,
            tmp_path / 'whole')


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


@pytest.mark.filterwarnings('error::ResourceWarning',
                            'error::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize('storage', ['mcap', 'sqlite3', 'ros1'])
def test_a_bag_is_closed_with_its_last_reader(tmp_path, storage):
    """Also one that refers to itself, and one that turns out to be of no use."""
    path = tmp_path / 'bag.bag'
    if storage == 'ros1':
        with Ros1Writer(path) as writer:
            types = ros1_types()
            connection = writer.add_connection('/a', 'std_msgs/msg/String', typestore=types)
            writer.write(connection, 1, types.serialize_ros1(
                types.types['std_msgs/msg/String']('a'), 'std_msgs/msg/String'))
    else:
        path = tmp_path / 'bag'
        write_everything(path, storage)
    bag = BagFile(path)
    topic = min(bag.topics)
    _, position, _ = next(bag.messages([topic]))
    bag.read(topic, position)
    bag.itself = bag
    assert files_open_below(tmp_path)
    del bag
    gc.collect()
    assert not files_open_below(tmp_path)


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
