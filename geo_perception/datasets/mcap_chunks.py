# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Messages of an MCAP file with an index, its chunks unpacked no further than is asked for.

A chunk holds what all topics recorded in a moment, packed together. What comes after the last
message that is wanted stays packed: of a camera beside depth and flow that is most of it.
"""

from dataclasses import dataclass
import heapq
import importlib
import os
import struct

import yaml

_MAGIC = b'\x89MCAP0\r\n'
_FOOTER = struct.Struct('<BQQQI8s')
_RECORD = struct.Struct('<BQ')
_CHUNK_INDEX = struct.Struct('<QQQQ')
_MESSAGE = struct.Struct('<BQHIQQ')
# Of what rosbags needs anyway, by version of Python.
_UNPACKERS = {'zstd': ('compression.zstd:ZstdDecompressor', 'backports.zstd:ZstdDecompressor'),
              'lz4': ('lz4.frame:LZ4FrameDecompressor',)}


@dataclass(frozen=True)
class _Chunk:
    """Where a chunk is, and of what channels it holds messages."""

    start: int         # nanoseconds, of its first message
    end: int           # of its last one
    offset: int        # in the file
    length: int
    channels: frozenset
    index_length: int
    compression: str
    packed: int        # bytes
    unpacked: int


def open_chunks(path):
    """
    Return the files of a bag, if all of them can be read by chunks.

    Parameters
    ----------
    path : Path
        Folder of a ROS 2 bag that is known to be whole, or a single file.

    Returns
    -------
    list of McapChunks or None
        In the order of recording.

    """
    try:
        if not path.is_dir():
            return [McapChunks(path)]
        about = yaml.load((path / 'metadata.yaml').read_text(), getattr(
            yaml, 'CSafeLoader', yaml.SafeLoader))['rosbag2_bagfile_information']
        if about.get('compression_mode', '').lower() not in ('', 'none', 'storage'):
            return None
        return [McapChunks(path / os.path.basename(name)) for name in about['relative_file_paths']]
    except (ValueError, KeyError, OSError, struct.error, yaml.YAMLError):
        return None


class McapChunks:
    """
    Random access to the messages of a file.

    Parameters
    ----------
    path : Path
        An MCAP file.

    Raises
    ------
    ValueError
        When it has no index, or packs messages in a way that is unknown here.

    """

    def __init__(self, path):
        self._file = path.open('rb')
        self._topics, self._chunks = self._read_index()
        self._unpackers = {name: _unpacker(name)
                           for name in {chunk.compression for chunk in self._chunks} - {''}}
        for chunk in self._chunks:
            if not chunk.channels <= self._topics.keys():
                raise ValueError('the index does not name all channels')

    def messages(self, topics, start, stop):
        """
        Yield messages in order of time, those of one time as they lie in the file.

        Parameters
        ----------
        topics : collection of str
            Which.
        start, stop : int
            Nanoseconds, without the latter.

        Yields
        ------
        topic : str
            Its topic.
        time : int
            When it was recorded.
        raw : bytes
            As recorded.

        Raises
        ------
        ValueError
            When the file is damaged.

        """
        channels = frozenset(id_ for id_, topic in self._topics.items() if topic in topics)
        waiting = []
        for chunk in self._chunks:
            if start <= chunk.end and chunk.start < stop and channels & chunk.channels:
                while waiting and waiting[0][0] < chunk.start:
                    time, _, _, channel, raw = heapq.heappop(waiting)
                    yield self._topics[channel], time, raw
                for message in self._unpack(chunk, channels, start, stop):
                    heapq.heappush(waiting, message)
        while waiting:
            time, _, _, channel, raw = heapq.heappop(waiting)
            yield self._topics[channel], time, raw

    def _read(self, offset, size):
        # Without a place in the file that others could move.
        data = os.pread(self._file.fileno(), size, offset)
        if len(data) != size:
            raise ValueError(f'{size} bytes expected at {offset}, got {len(data)}')
        return data

    def _read_index(self):
        """Return the topic of each channel, and the chunks by time."""
        size = os.fstat(self._file.fileno()).st_size
        footer = size - _FOOTER.size
        _, _, summary, _, _, magic = _FOOTER.unpack(self._read(footer, _FOOTER.size))
        if magic != _MAGIC or not 0 < summary <= footer:
            raise ValueError('no index')
        topics, chunks = {}, []
        for kind, record in _records(self._read(summary, footer - summary)):
            if kind == 0x04:
                topics[struct.unpack_from('<H', record)[0]] = _string(record, 4)[0]
            elif kind == 0x08:
                start, end, offset, length = _CHUNK_INDEX.unpack_from(record)
                channels = bytes(_sized(record, 32))
                place = 36 + len(channels)
                compression, place = _string(record, place + 8)
                chunks.append(_Chunk(
                    start, end, offset, length,
                    frozenset(id_ for id_, _ in struct.iter_unpack('<HQ', channels)),
                    struct.unpack_from('<Q', record, 36 + len(channels))[0], compression,
                    *struct.unpack_from('<QQ', record, place)))
        if not chunks:
            raise ValueError('no chunks')
        if any(chunk.offset + chunk.length + chunk.index_length > footer for chunk in chunks):
            raise ValueError('the index leads out of the file')
        return topics, sorted(chunks, key=lambda chunk: (chunk.start, chunk.offset))

    def _unpack(self, chunk, channels, start, stop):
        """Return time, chunk, place in it, channel and content of the messages of a chunk."""
        places, wanted = [], []
        for kind, record in _records(self._read(chunk.offset + chunk.length, chunk.index_length)):
            if kind == 0x07:
                channel, = struct.unpack_from('<H', record)
                for time, place in struct.iter_unpack('<QQ', _sized(record, 2)):
                    places.append(place)
                    if channel in channels and start <= time < stop:
                        wanted.append((time, place, channel))
        if not wanted:
            return []
        last = max(place for _, place, _ in wanted)
        data = self._begin(chunk, min((p for p in places if p > last), default=chunk.unpacked))
        messages = []
        for time, place, channel in wanted:
            kind, size, its_channel, _, its_time, _ = _MESSAGE.unpack_from(data, place)
            end = place + _RECORD.size + size
            if (kind, its_channel, its_time) != (0x05, channel, time) or end > len(data):
                raise ValueError(f'no message of channel {channel} at {place} of the chunk at '
                                 f'{chunk.offset}')
            messages.append((time, chunk.offset, place, channel,
                             bytes(data[place + _MESSAGE.size:end])))
        return messages

    def _begin(self, chunk, size):
        """Return so many bytes of a chunk."""
        offset = chunk.offset + chunk.length - chunk.packed
        if not chunk.compression:
            return memoryview(self._read(offset, size))
        unpack = self._unpackers[chunk.compression]().decompress
        data = unpack(self._read(offset, chunk.packed), max_length=size)
        if len(data) != size:
            raise ValueError(f'the chunk at {chunk.offset} holds {len(data)} bytes of {size}')
        return memoryview(data)


def _unpacker(compression):
    """Return the class that unpacks a chunk bit by bit."""
    for name in _UNPACKERS.get(compression, ()):
        module, _, name = name.partition(':')
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError:
            continue
    raise ValueError(f'unknown compression {compression!r}')


def _records(data):
    """Yield kind and content of the records that something is made of."""
    data, place = memoryview(data), 0
    while place < len(data):
        kind, size = _RECORD.unpack_from(data, place)
        place += _RECORD.size
        yield kind, data[place:place + size]
        place += size


def _sized(record, place):
    """Return what lies behind its number of bytes."""
    size, = struct.unpack_from('<I', record, place)
    return record[place + 4:place + 4 + size]


def _string(record, place):
    """Return a text and where it ends."""
    text = _sized(record, place)
    return bytes(text).decode(), place + 4 + len(text)
