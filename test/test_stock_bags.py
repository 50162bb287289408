# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Bags as ``ros2 bag record`` writes them: either storage, split, compressed; read and played."""

from collections import Counter

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from small_bag import check_frames, IMAGE, INFO, write_everything
import yaml

from geo_perception.datasets import bag_file
from geo_perception.datasets.bag import BagSequence
from geo_perception.datasets.bag_file import ros2_types
from geo_perception.ros.player import BagPlayer

MCAP, SQLITE = StoragePlugin.MCAP, StoragePlugin.SQLITE3
KINDS = {'mcap': (MCAP, None, 1), 'db3': (SQLITE, None, 1),
         'split mcap': (MCAP, None, 3), 'split db3': (SQLITE, None, 3),
         'compressed db3': (SQLITE, CompressionMode.FILE, 1),
         'compressed messages': (SQLITE, CompressionMode.MESSAGE, 1),
         'compressed chunks': (MCAP, CompressionMode.STORAGE, 1),
         'split and compressed': (MCAP, CompressionMode.STORAGE, 3)}


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    """Return the messages of a bag with everything."""
    path = tmp_path_factory.mktemp('bags') / 'full'
    write_everything(path)
    with Reader(path) as reader:
        return [(c.topic, c.msgtype, time, bytes(raw)) for c, time, raw in reader.messages()]


def record(path, messages, storage, compression, files):
    """Write messages the way the recorder does: each file of a split bag is one of its own."""
    bounds = np.linspace(0, len(messages), files + 1).astype(int)
    parts = [messages[a:b] for a, b in zip(bounds, bounds[1:])]
    merged = None
    for i, part in enumerate(parts):
        folder = path if files == 1 else path.parent / f'{path.name}_{i}'
        writer = Writer(folder, version=9, storage_plugin=storage)
        if compression:
            writer.set_compression(compression, CompressionFormat.ZSTD)
        with writer:
            connections = {}
            for topic, msgtype, time, raw in part:
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, msgtype,
                                                               typestore=ros2_types())
                writer.write(connections[topic], time, raw)
        if files > 1:
            merged = merge(merged, folder, path)
    if merged:
        (path / 'metadata.yaml').write_text(yaml.safe_dump(merged))


def merge(merged, folder, path):
    """Move the file of a part into the bag and add its metadata."""
    path.mkdir(exist_ok=True)
    part = yaml.safe_load((folder / 'metadata.yaml').read_text())
    information = part['rosbag2_bagfile_information']
    for name in information['relative_file_paths']:
        (folder / name).rename(path / name)
    if merged is None:
        return part
    whole = merged['rosbag2_bagfile_information']
    whole['relative_file_paths'] += information['relative_file_paths']
    whole['files'] += information['files']
    whole['message_count'] += information['message_count']
    start = whole['starting_time']['nanoseconds_since_epoch']
    whole['duration']['nanoseconds'] = (
        information['starting_time']['nanoseconds_since_epoch']
        + information['duration']['nanoseconds'] - start)
    counts = {topic['topic_metadata']['name']: topic
              for topic in whole['topics_with_message_count']}
    for topic in information['topics_with_message_count']:
        name = topic['topic_metadata']['name']
        if name in counts:
            counts[name]['message_count'] += topic['message_count']
        else:
            whole['topics_with_message_count'].append(topic)
    return merged


def test_every_kind_is_read_and_played(graph, tmp_path, recorded):
    """All frames as they were recorded, one by one in any order, and all messages in theirs."""
    images = [(time, raw) for topic, _, time, raw in recorded if topic == IMAGE]
    infos = sum(topic == INFO for topic, *_ in recorded)
    for name, how in KINDS.items():
        path = tmp_path / name
        record(path, recorded, *how)
        sequence = BagSequence(path)
        check_frames(sequence)
        everything = BagSequence(path, with_poses=False)
        for i in np.random.default_rng(0).permutation(len(everything)):
            assert everything[int(i)].stamp == everything.stamps[i], name
        player = BagPlayer(graph.peer, path, IMAGE, everything.stamps)
        played = list(player.messages())
        assert [(m.time, m.data) for m in played if m.topic == IMAGE] == images, name
        assert Counter(m.topic for m in played)[INFO] == infos, name
        times = [m.time for m in played]
        assert times == sorted(times), name


def test_a_chunk_is_unpacked_once(tmp_path, recorded, monkeypatch):
    """Reading in order asks the bag for each second once, whatever lies beside the images."""
    record(tmp_path / 'bag', recorded, MCAP, CompressionMode.STORAGE, 1)
    asked = []
    window = bag_file._window
    monkeypatch.setattr(bag_file, '_window', lambda *span: asked.append(span) or window(*span))
    sequence = BagSequence(tmp_path / 'bag', with_poses=False)
    topics = {topic for topic, *_ in recorded if topic.startswith('/camera')}
    for frame in sequence:
        assert frame.depth is not None or frame.stamp
    seconds = 1e-9 * (sequence.stamps[-1] - sequence.stamps[0])
    assert 1 <= len(asked) <= 2 + seconds + len(topics)
