# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Writes TensorFlow checkpoints of version 2, from the description of the format alone."""

from pathlib import Path
import struct

import numpy as np

KINDS = {'float32': 1, 'float64': 2, 'int32': 3, 'int64': 9, 'float16': 19}
MAGIC = 0xDB4775248B80FB57


def slow_crc32c(data):
    """Return the checksum bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data, crc32c=slow_crc32c):
    """Return the checksum as it is stored."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value):
    """Return a number, seven bits a byte."""
    parts = []
    while True:
        parts.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(parts)


def number(field, value):
    """Return a number of a record."""
    return varint(field << 3) + varint(value)


def message(field, data):
    """Return bytes of a record."""
    return varint(field << 3 | 2) + varint(len(data)) + data


def record(kind, shape, shard, offset, size, crc):
    """Return what the index says about a variable."""
    dimensions = b''.join(message(2, number(1, n)) for n in shape)
    return (number(1, kind) + message(2, dimensions) + (number(3, shard) if shard else b'')
            + (number(4, offset) if offset else b'') + number(5, size)
            + varint(6 << 3 | 5) + struct.pack('<I', crc))


def header(shards, endianness=0):
    """Return the first record: files, order of bytes, version."""
    return (number(1, shards) + (number(2, endianness) if endianness else b'')
            + message(3, number(1, 1)))


def block(entries, restart=16, compression=0):
    """Return sorted entries as a block, with compression and checksum behind it."""
    data, restarts, before = b'', [], b''
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i % restart == 0:
            restarts.append(len(data))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        data += (varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:]
                 + value)
        before = key
    restarts = restarts or [0]
    data += struct.pack(f'<{len(restarts) + 1}I', *restarts, len(restarts))
    data += bytes([compression])
    return data + struct.pack('<I', masked(data))


def table(records, per_block=5, magic=MAGIC, compression=0):
    """Return an index file with records by key."""
    entries = sorted(records.items())
    data, handles = b'', []
    for start in range(0, len(entries), per_block):
        part = entries[start:start + per_block]
        content = block(part, compression=compression)
        handles.append((part[-1][0], varint(len(data)) + varint(len(content) - 5)))
        data += content
    ends = b''
    for content in (block([]), block(handles, restart=1)):
        ends += varint(len(data)) + varint(len(content) - 5)
        data += content
    return data + ends.ljust(40, b'\0') + struct.pack('<Q', magic)


def write_checkpoint(prefix, arrays, shards=1, crc32c=slow_crc32c, changed=None):
    """
    Write arrays by name; ``changed`` replaces records of the index, or leaves them out.

    The checksums of large arrays want a fast ``crc32c``.
    """
    files, records = [bytearray() for _ in range(shards)], {b'': header(shards)}
    for i, (name, array) in enumerate(sorted(arrays.items())):
        data, shard = np.ascontiguousarray(array).tobytes(), i % shards
        records[name.encode()] = record(KINDS[array.dtype.name], array.shape, shard,
                                        len(files[shard]), len(data), masked(data, crc32c))
        files[shard] += data
    records.update(changed or {})
    index = table({key: value for key, value in records.items() if value is not None})
    Path(f'{prefix}.index').write_bytes(index)
    for i, data in enumerate(files):
        Path(f'{prefix}.data-{i:05d}-of-{shards:05d}').write_bytes(data)
    return str(prefix)
