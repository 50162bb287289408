# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Chunks of MCAP files: the messages of rosbags, and no more unpacked than is asked for."""

import struct

from backports import zstd
import lz4.frame
import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from geo_perception.datasets import mcap_chunks
from geo_perception.datasets.bag_file import BagFile
from geo_perception.datasets.mcap_chunks import McapChunks, open_chunks
from geo_perception.errors import RecordingError

PACKERS = {'': bytes, 'zstd': zstd.compress, 'lz4': lz4.frame.compress}
TOPICS = {1: '/image', 2: '/depth', 7: '/pose'}
# In each chunk channel and time: out of order, the same time again, chunks that overlap.
CHUNKS = [[(1, 100), (2, 100), (2, 100), (7, 105), (1, 90)],
          [(7, 105), (1, 103), (7, 300), (2, 200), (1, 105)],
          [(2, 150), (2, 100), (7, 150)], [(7, 400), (7, 401)]]


def record(kind, content):
    """Return a record of a file."""
    return struct.pack('<BQ', kind, len(content)) + content


def text(content):
    """Return a text with its length."""
    return struct.pack('<I', len(content)) + content.encode()


def content(i, j):
    """Return what is in a message, which cannot be packed well."""
    return np.random.default_rng([i, j]).bytes(5000 + 100 * j)


def write_mcap(path, compression, index=True):
    """Write `CHUNKS`."""
    channels = record(0x03, struct.pack('<H', 1) + text('std_msgs/msg/String') + text('ros2msg')
                      + text('string data'))
    channels += b''.join(
        record(0x04, struct.pack('<HH', id_, 1) + text(topic) + text('cdr') + text(''))
        for id_, topic in TOPICS.items())
    data = b'\x89MCAP0\r\n' + record(0x01, text('ros2') + text('test')) + channels
    summary = channels
    for i, messages in enumerate(CHUNKS):
        unpacked, places = b'', {}
        for j, (channel, time) in enumerate(messages):
            places.setdefault(channel, []).append((time, len(unpacked)))
            unpacked += record(0x05, struct.pack('<HIQQ', channel, j, time, time) + content(i, j))
        packed = PACKERS[compression](unpacked)
        times = min(time for _, time in messages), max(time for _, time in messages)
        start = len(data)
        data += record(0x06, struct.pack('<QQQI', *times, len(unpacked), 0) + text(compression)
                       + struct.pack('<Q', len(packed)) + packed)
        indexed, offsets = len(data), b''
        for channel, entries in places.items():
            offsets += struct.pack('<HQ', channel, len(data))
            entries = b''.join(struct.pack('<QQ', *entry) for entry in entries)
            data += record(0x07, struct.pack('<HI', channel, len(entries)) + entries)
        summary += record(0x08, struct.pack('<QQQQI', *times, start, indexed - start,
                                            len(offsets)) + offsets
                          + struct.pack('<Q', len(data) - indexed) + text(compression)
                          + struct.pack('<QQ', len(packed), len(unpacked)))
    data += record(0x0f, struct.pack('<I', 0))
    start = len(data) if index else 0
    data += summary if index else b''
    path.write_bytes(data + record(0x02, struct.pack('<QQI', start, 0, 0)) + b'\x89MCAP0\r\n')
    return path


@pytest.mark.parametrize('compression', PACKERS)
def test_messages_are_those_of_rosbags(tmp_path, compression):
    """In its order, for all topics and one, from anywhere to anywhere."""
    path = write_mcap(tmp_path / 'drive.mcap', compression)
    chunks, = open_chunks(path)
    with Reader(path) as reader:
        for topics in (set(TOPICS.values()), {'/depth'}, {'/image', '/pose'}):
            for start, stop in ((0, 1000), (100, 150), (103, 106), (150, 301), (302, 400)):
                expected = [(c.topic, time, bytes(raw)) for c, time, raw in reader.messages(
                    [c for c in reader.connections if c.topic in topics], start, stop)]
                assert list(chunks.messages(topics, start, stop)) == expected
                assert all(type(raw) is bytes for _, _, raw in expected)
    assert len(list(chunks.messages({'/pose'}, 0, 1000))) == 6


@pytest.mark.parametrize('compression', ['zstd', 'lz4'])
def test_what_comes_after_stays_packed(tmp_path, compression, monkeypatch):
    """Of the chunk that begins last the first message alone is unpacked, of the others all."""
    chunks = McapChunks(write_mcap(tmp_path / 'drive.mcap', compression))
    sizes = []
    begin = McapChunks._begin
    monkeypatch.setattr(McapChunks, '_begin', lambda self, chunk, size: (
        sizes.append(size), begin(self, chunk, size))[1])
    assert [time for _, time, _ in chunks.messages({'/pose'}, 105, 200)] == [105, 105, 150]
    assert sizes == [4 * 5031 + 100 * 6, 3 * 5031 + 100 * 3, 5031]


def test_files_without_an_index_are_left_to_rosbags(tmp_path):
    """So are unknown compressions; none is a fault."""
    assert open_chunks(write_mcap(tmp_path / 'bare.mcap', '', index=False)) is None
    path = write_mcap(tmp_path / 'drive.mcap', 'zstd')
    path.write_bytes(path.read_bytes().replace(b'zstd', b'best'))
    assert open_chunks(path) is None
    assert open_chunks(tmp_path / 'nothing.mcap') is None


def test_damage_is_one_sentence(tmp_path):
    """An index that leads elsewhere, a chunk that is cut off, a file that grew shorter."""
    path = write_mcap(tmp_path / 'drive.mcap', 'zstd')
    whole = path.read_bytes()
    entry = struct.pack('<QQ', 103, 5031)
    assert whole.count(entry) == 1
    for damaged in (whole.replace(entry, struct.pack('<QQ', 103, 5032)),
                    whole.replace(entry, struct.pack('<QQ', 103, 1 << 40))):
        path.write_bytes(damaged)
        with pytest.raises(RecordingError, match='damaged or truncated'):
            BagFile(path).read('/image', (103, 0))
    path.write_bytes(whole)
    bag = BagFile(path)
    path.write_bytes(whole[:9000])
    with pytest.raises(RecordingError, match='damaged or truncated'):
        bag.read('/image', (103, 0))


def test_either_home_of_a_library_will_do(monkeypatch):
    """Python 3.14 has its own zstd; what is nowhere is unknown."""
    monkeypatch.setitem(mcap_chunks._UNPACKERS, 'zstd', ('nowhere:Unpacker', 'builtins:dict'))
    assert mcap_chunks._unpacker('zstd') is dict
    with pytest.raises(ValueError, match="unknown compression 'zip'"):
        mcap_chunks._unpacker('zip')
