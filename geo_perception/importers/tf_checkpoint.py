# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Reading TensorFlow checkpoints of version 2 without TensorFlow (sfmlearner.md appendix A).

``<prefix>.index`` is a table of LevelDB's kind, with a record for each variable; the numbers lie
in ``<prefix>.data-*``. Whatever a file says about sizes is compared with its own before anything
is made room for.
"""

from dataclasses import dataclass
import math
import os
from pathlib import Path
import struct
from typing import Dict, Tuple

import numpy as np

from geo_perception.errors import WeightsError
from geo_perception.importers.crc32c import masked_crc32c
from geo_perception.importers.stored import StoredArray

FOOTER_SIZE = 48
MAGIC = 0xDB4775248B80FB57
# Behind each block: how it is compressed, and its checksum.
TRAILER_SIZE = 5
# Names of variables have a few dozen characters; each record may repeat one.
LONGEST_NAME = 4096
LARGEST_DIMENSION = 2 ** 40
KINDS = {1: 'float32', 2: 'float64', 3: 'int32', 9: 'int64', 19: 'float16'}
COMPRESSIONS = {1: 'Snappy'}


def read_tf_checkpoint(prefix):
    """
    Return the variables of a checkpoint.

    Parameters
    ----------
    prefix : str
        Path without ``.index`` and ``.data-*``.

    Returns
    -------
    dict of str to StoredArray
        By the name of the variable.

    Raises
    ------
    WeightsError
        When a file is missing, damaged, of another kind or format.

    """
    path = f'{prefix}.index'
    try:
        index = Path(path).read_bytes()
    except OSError as error:
        raise WeightsError(f'cannot read {path}: {error.strerror}; a checkpoint is named by what '
                           'its .index and .data files have in common') from error
    try:
        records = dict(_table(index))
        header = records.pop(b'', None)
        if header is None:
            raise ValueError('it has no header')
        shards = _shards(_fields(header))
        sizes: Dict[int, int] = {}
        variables = {}
        for name, value in records.items():
            record = _record(value)
            if not record.shard < shards:
                raise ValueError(f'variable {_text(name)} is said to lie in file {record.shard} '
                                 f'of {shards}')
            data = f'{prefix}.data-{record.shard:05d}-of-{shards:05d}'
            if record.shard not in sizes:
                sizes[record.shard] = _size(data)
            _check_extent(_text(name), record, sizes[record.shard], data)
            variables[_text(name)] = StoredArray(
                data, record.shape, record.kind, _Loader(data, _text(name), record))
    except ValueError as error:
        raise WeightsError(f'{path} is damaged, or no checkpoint of TensorFlow: {error}; copy it '
                           'again') from error
    return variables


@dataclass(frozen=True)
class _Record:
    """What the index says about a variable."""

    kind: str
    shape: Tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    sliced: bool


class _Loader:
    """Reads one variable."""

    def __init__(self, path, name, record):
        self._path, self._name, self._record = path, name, record

    def __call__(self):
        """Return the array, its checksum verified."""
        record = self._record
        if record.sliced or record.kind not in KINDS.values():
            raise WeightsError(f'variable {self._name} in {self._path} is stored in slices or as '
                               f'{record.kind}, which is not read here; save it whole, as float32')
        try:
            with open(self._path, 'rb') as file:
                file.seek(record.offset)
                data = file.read(record.size)
        except OSError as error:
            raise WeightsError(f'cannot read {self._path}: {error.strerror}') from error
        if len(data) != record.size or masked_crc32c(data) != record.checksum:
            raise WeightsError(f'{self._path} is damaged: the checksum of variable {self._name} '
                               'is wrong; copy it again')
        return np.frombuffer(data, np.dtype(record.kind).newbyteorder('<')).reshape(record.shape)


def _size(path):
    """Return the size of a file."""
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise WeightsError(f'cannot read {path}: {error.strerror}; a checkpoint needs all of its '
                           'files in one folder') from error


def _check_extent(name, record, file_size, path):
    """Refuse a variable that does not fit where it is said to lie."""
    if record.offset + record.size > file_size:
        raise WeightsError(f'{path} is truncated: variable {name} ends at byte '
                           f'{record.offset + record.size}, the file at {file_size}; copy it '
                           'again')
    if record.kind in KINDS.values() and not record.sliced:
        expected = math.prod(record.shape) * np.dtype(record.kind).itemsize
        if record.size != expected:
            raise ValueError(f'variable {name} of shape {record.shape} has {record.size} bytes '
                             f'instead of {expected}')


def _table(data):
    """Yield the keys and values of a table."""
    if len(data) < FOOTER_SIZE or struct.unpack('<Q', data[-8:])[0] != MAGIC:
        raise ValueError('it does not end with the mark of a table')
    footer = data[-FOOTER_SIZE:-8]
    position = 0
    for _ in range(2):
        _, position = _varint(footer, position)
    # The meta index is empty; that it is sound shows that nothing was cut out before the end.
    _block(data, footer)
    for _, value in _entries(_block(data, footer[position:])):
        yield from _entries(_block(data, value))


def _block(data, handle):
    """Return a block, its checksum verified, without what follows its entries."""
    offset, position = _varint(handle, 0)
    size, _ = _varint(handle, position)
    end = offset + size
    if end + TRAILER_SIZE > len(data) - FOOTER_SIZE or size < 4:
        raise ValueError(f'a block of {size} bytes is said to lie at byte {offset} of {len(data)}')
    compression = data[end]
    if masked_crc32c(data[offset:end + 1]) != struct.unpack('<I', data[end + 1:end + 5])[0]:
        raise ValueError(f'the checksum of the block at byte {offset} is wrong')
    if compression:
        how = COMPRESSIONS.get(compression, f'method {compression}')
        raise ValueError(f'a block is compressed ({how}), which TensorFlow does to no checkpoint')
    restarts = struct.unpack('<I', data[end - 4:end])[0]
    if 4 * (restarts + 1) > size:
        raise ValueError(f'the block at byte {offset} is too short for {restarts} restart points')
    return data[offset:end - 4 * (restarts + 1)]


def _entries(block):
    """Yield the keys and values of a block; keys share their beginnings and are sorted."""
    position, key = 0, None
    while position < len(block):
        shared, position = _varint(block, position)
        length, position = _varint(block, position)
        value_length, position = _varint(block, position)
        if (shared > len(key or b'') or shared + length > LONGEST_NAME
                or position + length + value_length > len(block)):
            raise ValueError('an entry is longer than its block')
        before, key = key, (key or b'')[:shared] + block[position:position + length]
        if before is not None and key <= before:
            raise ValueError(f'{_text(key)} comes after {_text(before)}')
        position += length
        yield key, block[position:position + value_length]
        position += value_length


def _varint(data, position):
    """Return a number of variable length, and the position behind it."""
    value = 0
    for i in range(10):
        if position + i >= len(data):
            break
        byte = data[position + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, position + i + 1
    raise ValueError('a number has no end')


def _fields(message):
    """Return the fields of a protocol buffer: lists of numbers or bytes by field number."""
    fields: Dict[int, list] = {}
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        wire = tag & 7
        if wire == 0:
            value, position = _varint(message, position)
        else:
            length = {1: 8, 5: 4}.get(wire)
            if wire == 2:
                length, position = _varint(message, position)
            if length is None or position + length > len(message):
                raise ValueError('a record has a field that it cannot have')
            value = message[position:position + length]
            position += length
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _number(fields, field):
    """Return a number of a record, 0 where it is left out."""
    value = fields.get(field, [0])[-1]
    if not isinstance(value, int):
        raise ValueError('a record has text where a number belongs')
    return value


def _shards(header):
    """Return the number of data files."""
    if _number(header, 2):
        raise ValueError('it was written on a big-endian machine, which is not read here')
    return _number(header, 1)


def _record(value):
    """Return what a record says."""
    fields = _fields(value)
    checksum = fields.get(6, [b'\0' * 4])[-1]
    shape = []
    for message in fields.get(2, []):
        for dimension in _sub(message).get(2, []):
            shape.append(_number(_sub(dimension), 1))
    if any(n > LARGEST_DIMENSION for n in shape) or len(shape) > 16 or not (
            isinstance(checksum, bytes) and len(checksum) == 4):
        raise ValueError(f'a record has the shape {tuple(shape[:16])}')
    kind = _number(fields, 1)
    return _Record(KINDS.get(kind, f'type {kind}'), tuple(shape), _number(fields, 3),
                   _number(fields, 4), _number(fields, 5), struct.unpack('<I', checksum)[0],
                   7 in fields)


def _sub(message):
    """Return the fields of a message within a message."""
    if not isinstance(message, bytes):
        raise ValueError('a record has a number where a message belongs')
    return _fields(message)


def _text(name):
    """Return a name for a person."""
    return name.decode('utf-8', 'backslashreplace')
