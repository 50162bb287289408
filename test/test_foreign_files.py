# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Weights in files of NumPy and PyTorch: what is read, and what is refused before it can act."""

import io
import os
import pickle
import pickletools
import resource
import struct
import zipfile

import numpy as np
import pytest
import torch

from geo_perception.errors import WeightsError
from geo_perception.importers.numpy_files import read_npy_dictionary
from geo_perception.importers.sources import read_source


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        """Return the call."""
        return os.mkdir, (self.path,)


def layers():
    """Return a dictionary as the TensorFlow port of PoseNet has it."""
    random = np.random.default_rng(0)
    return {f'conv{i}': {'weights': random.normal(size=(3, 3, i, 2)).astype(np.float32),
                         'biases': random.normal(size=(2,)).astype(np.float32)}
            for i in range(1, 5)}


def write_npy(path, content, protocol=2):
    """Write an object array of one element, with a pickle as a given Python wrote it."""
    array = np.empty((), object)
    array[()] = content
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {'descr': '|O', 'fortran_order': False, 'shape': ()})
    path.write_bytes(buffer.getvalue() + (content if isinstance(content, bytes)
                                          else pickle.dumps(array, protocol=protocol)))
    return path


def python2(array):
    """Return the pickle of an array whose bytes are the strings of Python 2."""
    def string(data):
        return b'T' + struct.pack('<i', len(data)) + data

    dims = b''.join(b'J' + struct.pack('<i', n) for n in array.shape)
    dtype = (b'cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xff'
             b'J\xff\xff\xff\xffK\x00tb')
    return (b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01('
            + dims + b't' + dtype + b'\x89' + string(array.tobytes()) + b'tb')


def python2_layers(content):
    """Return the pickle that Python 2 made of an object array with a dictionary."""
    items = b''.join(b'U' + bytes([len(name)]) + name.encode() + b'}('
                     + b''.join(b'U' + bytes([len(part)]) + part.encode() + python2(array)
                                for part, array in parts.items()) + b'u'
                     for name, parts in content.items())
    return (b'\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR('
            b'K\x01(tcnumpy\ndtype\n(U\x02O8K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xff'
            b'J\xff\xff\xff\xffK?tb\x89]}(' + items + b'uatb.')


def check_layers(source):
    """Compare with `layers`."""
    expected = {f'{layer}/{name}': array for layer, parts in layers().items()
                for name, array in parts.items()}
    assert source.arrays.keys() == expected.keys()
    for name, array in expected.items():
        stored = source.arrays[name]
        assert (stored.shape, stored.kind) == (array.shape, 'float32')
        assert np.array_equal(stored.load(), array)


@pytest.mark.parametrize('protocol', [3, 4])
def test_dictionary_of_layers(tmp_path, protocol):
    """As this NumPy writes it."""
    check_layers(read_source(write_npy(tmp_path / 'p.npy', layers(), protocol)))
    np.save(tmp_path / 'q.npy', layers(), allow_pickle=True)
    check_layers(read_source(tmp_path / 'q.npy'))


def test_dictionary_of_python_2(tmp_path):
    """As the published file has it: bytes are strings, 90 of 100 of them no text."""
    data = python2_layers(layers())
    path = write_npy(tmp_path / 'p.npy', data)
    check_layers(read_source(path))
    # NumPy itself takes this pickle for one of its own.
    loaded = np.load(path, allow_pickle=True, encoding='latin1').item()
    assert np.array_equal(loaded['conv2']['weights'], layers()['conv2']['weights'])


def test_orders_of_axes_and_bytes(tmp_path):
    """Columns first, and the bytes of another machine."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = {'a': {'weights': np.asfortranarray(x), 'biases': x.astype('>f4')}}
    arrays = read_source(write_npy(tmp_path / 'p.npy', content, 4)).arrays
    assert all(np.array_equal(stored.load(), x) for stored in arrays.values())
    np.savez(tmp_path / 'p.npz', **{'a:0': np.asfortranarray(x), 'b': x.astype('>f4')})
    arrays = read_source(tmp_path / 'p.npz').arrays
    assert arrays.keys() == {'a', 'b'}
    assert all(np.array_equal(stored.load(), x) for stored in arrays.values())


def huge_memo():
    """Return a pickle whose table of objects would be huge."""
    return b'\x80\x02}r\xff\xff\xff\x7f.'


@pytest.mark.parametrize('content, words', [
    (huge_memo(), 'counts 2147483647 objects'),
    (b'\x80\x02cos\nsystem\n(U\x05false' b'tR.', 'asks for os.system'),
    (b'(S"false"\nios\nsystem\n.', 'INST'), (b'\x80\x02c__builtin__\neval\n.', 'builtin'),
    (b'\x80\x04\x8c\x02os\x8c\x06system\x93.', 'asks for os.system'),
    (b'\x80\x02cnumpy\nload\n.', 'asks for numpy.load'), (b'\x80\x02\x82\x01.', 'EXT1'),
    (b'\x80\x02U\x01xQ.', 'BINPERSID'), (b'\x80\x02}\x81.', 'NEWOBJ'),
    (b'\x80\x04\x8e' + struct.pack('<Q', 2 ** 50) + b'x.', 'p.npy'),
    (b'\x80\x02T\xff\xff\xff\x7fx.', 'p.npy'), (b'', 'p.npy'), (b'\x80\x02}.', 'dictionary'),
    (b'\x80\x02cnumpy\ndtype\n(tR.', 'p.npy'), (b'0' * 50 + b'.', 'p.npy'),
    (python2_layers(layers())[:-200], 'p.npy'),
    (python2_layers(layers()).replace(b'f4', b'V4'), 'of type V4'),
    (python2_layers(layers()).replace(b'J\x03\0\0\0', b'J\x03\0\0\x40'), 'other than'),
    (python2_layers(layers()).replace(b'J\x03\0\0\0', b'J\xff\xff\xff\xff'), 'that no array has')])
def test_hostile_pickles(tmp_path, content, words):
    """Refused before anything in them is called or made room for."""
    path = write_npy(tmp_path / 'p.npy', content)
    with pytest.raises(WeightsError, match=words):
        read_npy_dictionary(path)


def test_code_is_never_run(tmp_path):
    """Wherever it stands: in a dictionary, in an archive of arrays, in a file of PyTorch."""
    target = tmp_path / 'made'
    content = {'conv1': {'weights': Evil(target)}}
    for protocol in range(5):
        with pytest.raises(WeightsError, match='code'):
            read_source(write_npy(tmp_path / 'p.npy', content, protocol))
    np.savez(tmp_path / 'p.npz', good=np.ones(3), bad=np.array([Evil(target)], object))
    with pytest.raises(WeightsError, match='Python objects .bad.'):
        read_source(tmp_path / 'p.npz')
    for new in (True, False):
        torch.save({'state_dict': {'conv1': Evil(target)}}, tmp_path / 'p.pth.tar',
                   _use_new_zipfile_serialization=new)
        with pytest.raises(WeightsError, match='wants code to be run'):
            read_source(tmp_path / 'p.pth.tar')
    assert not target.exists()
    pickle.loads(pickle.dumps(Evil(target)))
    assert target.exists()


def test_all_that_is_allowed_is_an_opcode():
    """A misspelt name would allow nothing."""
    from geo_perception.importers.numpy_files import OPCODES
    assert OPCODES <= {opcode.name for opcode in pickletools.opcodes}


def npz(path, name, header, data, **changes):
    """Write an archive of one array with a header of one's own."""
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, header)
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr(name, array.getvalue() + data)


def header(**changes):
    """Return the header of two float32."""
    return {'descr': '<f4', 'fortran_order': False, 'shape': (2,), **changes}


@pytest.mark.parametrize('changes, words', [
    ({'shape': (2 ** 50,)}, r'has 8 bytes instead of 4503599627370496'),
    ({'shape': (-2, -1)}, 'shape'), ({'shape': (1,)}, 'instead of 4'),
    ({'descr': '|O'}, 'Python objects')])
def test_arrays_that_lie(tmp_path, changes, words):
    """About their size, or what they hold."""
    npz(tmp_path / 'p.npz', 'a.npy', header(**changes), bytes(8))
    with pytest.raises(WeightsError, match=words):
        read_source(tmp_path / 'p.npz')


def test_damaged_archives(tmp_path):
    """A changed number is noticed when it is read; a cut file at once."""
    path = tmp_path / 'p.npz'
    np.savez(path, a=np.full(100, 7.0, np.float32))
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack('<f', 7.0), struct.pack('<f', 8.0), 1))
    with pytest.raises(WeightsError, match='CRC'):
        read_source(path).arrays['a'].load()
    for n in range(2, len(data), 29):
        path.write_bytes(data[:n])
        with pytest.raises(WeightsError):
            read_source(path)


def test_plain_array_is_no_dictionary(tmp_path):
    """An array of numbers has no layers."""
    np.save(tmp_path / 'p.npy', np.ones(3))
    with pytest.raises(WeightsError, match='float64 and shape .3,. where a dictionary'):
        read_source(tmp_path / 'p.npy')


@pytest.mark.parametrize('new', [True, False])
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_torch_files(tmp_path, new, prefix):
    """Of both formats, of one or many GPUs, with what training keeps beside the weights."""
    weight = torch.arange(6.0).reshape(2, 3)
    path = tmp_path / 'dispnet.pth.tar'
    torch.save({'epoch': 3, 'state_dict': {f'{prefix}conv.weight': weight}}, path,
               _use_new_zipfile_serialization=new)
    source = read_source(path)
    assert source.kind == 'torch' and source.arrays.keys() == {'conv.weight'}
    stored = source.arrays['conv.weight']
    assert (stored.shape, stored.kind) == ((2, 3), 'float32')
    assert np.array_equal(stored.load(), weight.numpy())
    data = path.read_bytes()
    for n in range(6, len(data), max(len(data) // 20, 1)):
        path.write_bytes(data[:n])
        with pytest.raises(WeightsError):
            read_source(path)
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match='no file of weights'):
        read_source(path)
    torch.save({'epoch': 3}, path)
    with pytest.raises(WeightsError, match='holds no tensors'):
        read_source(path)


@pytest.mark.parametrize('new', [True, False])
def test_torch_files_that_lie(tmp_path, new):
    """A tensor of 280 kB that claims eight gigabytes is refused, and no room is made for it."""
    buffer = io.BytesIO()
    torch.save({'a': torch.zeros(70_000)}, buffer, _use_new_zipfile_serialization=new)
    true, false = (b'J' + n.to_bytes(4, 'little') for n in (70_000, 2 ** 31 - 1))
    data, path = buffer.getvalue(), tmp_path / 'p.pth'
    if new:
        with zipfile.ZipFile(buffer) as archive, zipfile.ZipFile(path, 'w') as changed:
            for member in archive.infolist():
                changed.writestr(member.filename, archive.read(member).replace(true, false))
    else:
        path.write_bytes(data.replace(true, false))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match='is damaged'):
        read_source(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
