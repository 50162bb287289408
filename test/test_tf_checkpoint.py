# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""TensorFlow's checkpoints: what is in them, and what files can lie about."""

from pathlib import Path
import struct

import numpy as np
import pytest
from tf_checkpoint_writer import (
    block, header, message, number, record, slow_crc32c, table, varint, write_checkpoint)

from geo_perception.errors import WeightsError
from geo_perception.importers.crc32c import crc32c, masked_crc32c
from geo_perception.importers.sources import read_source
from geo_perception.importers.tf_checkpoint import read_tf_checkpoint


def arrays():
    """Return variables of several types, names with common beginnings."""
    random = np.random.default_rng(0)
    result = {f'net/Conv_{i}/weights': random.normal(size=(3, 3, i + 1, 2)).astype(np.float32)
              for i in range(8)}
    result['net/half'] = random.normal(size=(5,)).astype(np.float16)
    result['net/double'] = random.normal(size=(2, 2))
    result['global_step'] = np.array(190532, np.int64)
    return result


def test_checksum():
    """The vectors of RFC 3720, and the definition for every length around those of the lanes."""
    for data, expected in ((b'123456789', 0xE3069283), (bytes(32), 0x8A9136AA),
                           (b'\xff' * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)):
        assert crc32c(data) == expected == slow_crc32c(data)
    random = np.random.default_rng(0)
    for n in (*range(9), 252, 255, 256, 257, 511, 512, 513, 3000):
        data = random.bytes(n)
        assert crc32c(data) == slow_crc32c(data), n
    assert masked_crc32c(b'123456789') == 0xC78AB0E5


@pytest.mark.parametrize('shards', [1, 3])
def test_arrays_come_back(tmp_path, shards):
    """Bit for bit, whatever block or file they lie in; also when a file's own name is given."""
    expected = arrays()
    prefix = write_checkpoint(tmp_path / 'model-7', expected, shards)
    found = read_tf_checkpoint(prefix)
    assert found.keys() == expected.keys() and len(found) > 10
    for name, array in expected.items():
        stored = found[name]
        assert (stored.shape, stored.kind) == (array.shape, array.dtype.name)
        assert np.array_equal(stored.load(), array)
    for name in (prefix, f'{prefix}.index', f'{prefix}.meta'):
        source = read_source(name)
        assert source.kind == 'checkpoint' and source.arrays.keys() == expected.keys()


def test_other_types_are_listed_and_not_read(tmp_path):
    """A text is of no use, and no reason to refuse the rest."""
    prefix = write_checkpoint(tmp_path / 'm', arrays(), changed={
        b'_CHECKPOINTABLE_OBJECT_GRAPH': record(7, (), 0, 0, 10, 0)})
    found = read_tf_checkpoint(prefix)
    assert found['_CHECKPOINTABLE_OBJECT_GRAPH'].kind == 'type 7'
    with pytest.raises(WeightsError, match='type 7'):
        found['_CHECKPOINTABLE_OBJECT_GRAPH'].load()


def whole(kind=1, shape=(2, 2), shard=0, offset=0, size=16, crc=0):
    """Return a record of four numbers, with parts of it changed."""
    return record(kind, shape, shard, offset, size, crc)


@pytest.mark.parametrize('value, words', [
    (whole(size=2 ** 62), 'is truncated: variable x ends at byte 46116860'),
    (whole(offset=2 ** 63), 'is truncated'),
    (whole(size=12), r'x of shape \(2, 2\) has 12 bytes instead of 16'),
    (whole(shape=(2 ** 39, 2 ** 39)), 'bytes instead of'),
    (whole(shape=(2 ** 62,)), 'a record has the shape'),
    (whole(shape=(1,) * 17), 'a record has the shape'),
    (whole(shard=2), 'in file 2 of 1'),
    (whole()[:-2], 'a field that it cannot have'),
    (b'\x0b', 'a field that it cannot have'),
    (b'\xff' * 11, 'a number has no end'),
    (number(2, 3), 'a number where a message belongs'),
    (message(1, b'x'), 'text where a number belongs')])
def test_records_that_lie(tmp_path, value, words):
    """Sizes are compared with the file before anything is made room for."""
    prefix = write_checkpoint(tmp_path / 'm', arrays(), changed={b'x': value})
    with pytest.raises(WeightsError, match=words):
        read_tf_checkpoint(prefix)


@pytest.mark.parametrize('value, words', [
    (None, 'has no header'), (header(1, endianness=1), 'big-endian'), (header(0), 'of 0'),
    (header(2 ** 60), 'cannot read .*of-1152921504606846976')])
def test_headers_that_lie(tmp_path, value, words):
    """So many files are not there."""
    prefix = write_checkpoint(tmp_path / 'm', arrays(), changed={b'': value})
    with pytest.raises(WeightsError, match=words):
        read_tf_checkpoint(prefix)


def small(entries):
    """Return entries as a table of one block, whatever their order."""
    content, meta = block(entries), block([])
    index = block([(b'z', varint(0) + varint(len(content) - 5))])
    handles = (varint(len(content)) + varint(len(meta) - 5)
               + varint(len(content) + len(meta)) + varint(len(index) - 5))
    return (content + meta + index + handles.ljust(40, b'\0')
            + struct.pack('<Q', 0xDB4775248B80FB57))


@pytest.mark.parametrize('index, words', [
    (b'', 'the mark of a table'), (b'\x57' * 60, 'the mark of a table'),
    (table({b'': header(1)}, magic=7), 'the mark of a table'),
    (table({b'': header(1)}, compression=1), 'compressed .Snappy.'),
    (table({b'': header(1)}, compression=9), 'compressed .method 9.'),
    (small([(b'b', b''), (b'a', b'')]), 'a comes after b'),
    (small([(b'a', b''), (b'a', b'')]), 'a comes after a'),
    (small([(b'a' * 5000, b'')]), 'longer than its block'),
    (small([(b'a', b'')])[:3] + small([(b'a', b'')])[4:], 'at byte'),
    (b'\0' * 40 + struct.pack('<Q', 0xDB4775248B80FB57), 'a block of 0 bytes'),
    (varint(2 ** 60) * 4 + b'\0' * 4 + struct.pack('<Q', 0xDB4775248B80FB57), 'a block of')])
def test_tables_that_lie(tmp_path, index, words):
    """Each is refused in one sentence, compressed ones with the reason."""
    (tmp_path / 'm.index').write_bytes(index)
    with pytest.raises(WeightsError, match=words):
        read_tf_checkpoint(str(tmp_path / 'm'))


def test_every_changed_byte_is_noticed(tmp_path):
    """In the index by checksums of blocks or the mark, in the data by those of variables."""
    prefix = write_checkpoint(tmp_path / 'm', {'a': np.ones((2, 3), np.float32),
                                               'b': np.zeros(4, np.float32)})
    for end in ('.index', '.data-00000-of-00001'):
        path = Path(prefix + end)
        data = path.read_bytes()
        used = len(data) - 48 + len(data[-48:-8].rstrip(b'\0'))
        unused = range(used, len(data) - 8) if end == '.index' else ()
        for i in range(len(data)):
            if i in unused:   # padding
                continue
            path.write_bytes(data[:i] + bytes([data[i] ^ 0x10]) + data[i + 1:])
            with pytest.raises(WeightsError):
                for stored in read_tf_checkpoint(prefix).values():
                    stored.load()
        path.write_bytes(data)


def test_truncated_files(tmp_path):
    """At every length, in the index and in the data."""
    prefix = write_checkpoint(tmp_path / 'm', {'a': np.ones((2, 3), np.float32)})
    for end in ('.index', '.data-00000-of-00001'):
        path = Path(prefix + end)
        data = path.read_bytes()
        for n in range(len(data)):
            path.write_bytes(data[:n])
            with pytest.raises(WeightsError):
                read_tf_checkpoint(prefix)
        path.unlink()
        with pytest.raises(WeightsError, match='cannot read'):
            read_tf_checkpoint(prefix)
        path.write_bytes(data)


def test_slices_are_refused(tmp_path):
    """A variable that is stored in parts has no place of its own."""
    prefix = write_checkpoint(tmp_path / 'm', arrays(), changed={
        b'x': whole() + message(7, message(1, b''))})
    with pytest.raises(WeightsError, match='variable x .*slices'):
        read_tf_checkpoint(prefix)['x'].load()


def test_what_else_a_person_may_name(tmp_path):
    """A folder, a checkpoint of version 1, something else, nothing."""
    write_checkpoint(tmp_path / 'model-7', arrays())
    old = table({b'': b''})
    (tmp_path / 'old').write_bytes(old)
    (tmp_path / 'text').write_text('weights')
    for name, words in (('.', 'is a folder; name the checkpoint in it, such as .*model-7$'),
                        ('old', 'version 1'), ('text', 'no weights of a kind'),
                        ('none', 'cannot read .*none.index: No such file')):
        with pytest.raises(WeightsError, match=words):
            read_source(tmp_path / name)
