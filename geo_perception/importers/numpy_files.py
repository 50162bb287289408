# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Reading weights that NumPy wrote: ``.npz`` of arrays, and the ``.npy`` of a dictionary.

The latter is a pickle, which may do anything when it is loaded. Here it is gone through before
that, and what may stand in it is a dictionary of arrays and nothing else: no name that it uses
stands for code of Python or NumPy.
"""

import io
import math
import os
import pickle
import pickletools
import tokenize
import zipfile
import zlib

import numpy as np

from geo_perception.errors import WeightsError
from geo_perception.importers.stored import KINDS, StoredArray

LARGEST_HEADER = 10_000
# What pickles of dictionaries, strings, numbers and arrays are made of.
OPCODES = frozenset(
    'PROTO FRAME STOP MARK POP GLOBAL STACK_GLOBAL REDUCE BUILD '
    'PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET '
    'NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT '
    'STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE '
    'BINBYTES SHORT_BINBYTES BINBYTES8 '
    'EMPTY_DICT DICT SETITEM SETITEMS EMPTY_LIST LIST APPEND APPENDS '
    'EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3'.split())


def read_npz(path):
    """
    Return the arrays of an ``.npz`` file.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    dict of str to StoredArray
        By their names, without ``:0`` at the end.

    Raises
    ------
    WeightsError
        When it is damaged or holds Python objects.

    """
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix('.npy').removesuffix(':0')
                with archive.open(member) as file:
                    start = file.read(LARGEST_HEADER)
                shape, fortran, dtype, header = _npy_header(start)
                if dtype.hasobject:
                    raise WeightsError(f'{path} holds Python objects ({name}), which may run code '
                                       'when they are read; save arrays alone')
                size = math.prod(shape) * dtype.itemsize
                if member.file_size != header + size:
                    raise ValueError(f'{name} of shape {shape} has {member.file_size - header} '
                                     f'bytes instead of {size}')
                arrays[name] = StoredArray(path, shape, dtype.name, _Member(
                    path, member.filename, shape, fortran, dtype, header))
    except (OSError, ValueError, RuntimeError, NotImplementedError, EOFError, LookupError,
            zipfile.BadZipFile, zlib.error) as error:
        raise WeightsError(f'cannot read {path}: {error}') from error
    return arrays


class _Member:
    """Reads one array of an archive."""

    def __init__(self, path, name, shape, fortran, dtype, header):
        self._path, self._name, self._header = path, name, header
        self._shape, self._order, self._dtype = shape, 'F' if fortran else 'C', dtype

    def __call__(self):
        """Return the array."""
        size = math.prod(self._shape) * self._dtype.itemsize
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(self._name) as file:
                file.read(self._header)
                # To the end, where the checksum is verified.
                data = file.read(size + 1)
        except (OSError, ValueError, RuntimeError, EOFError, KeyError, zipfile.BadZipFile,
                zlib.error) as error:
            raise WeightsError(f'cannot read {self._name} in {self._path}: {error}') from error
        if len(data) != size:
            raise WeightsError(f'{self._path} is damaged: {self._name} has {len(data)} bytes '
                               f'instead of {size}')
        return np.frombuffer(data, self._dtype).reshape(self._shape, order=self._order)


def _npy_header(start):
    """Return shape, order, type and length of a header, from the beginning of an array's file."""
    file = io.BytesIO(start)
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0,
               (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f'an array is stored in version {version} of the format')
    try:
        shape, fortran, dtype = readers[version](file, max_header_size=LARGEST_HEADER)
    except (SyntaxError, tokenize.TokenError) as error:
        raise ValueError(f'the header of an array is damaged: {error}') from error
    if min(shape, default=0) < 0:
        raise ValueError(f'an array has the shape {shape}')
    return shape, fortran, dtype, file.tell()


def read_npy_dictionary(path):
    """
    Return the arrays of an ``.npy`` file with a dictionary of dictionaries of arrays.

    Parameters
    ----------
    path : str
        The file, as the TensorFlow port of PoseNet has it (posenet.md section 4.2).

    Returns
    -------
    dict of str to StoredArray
        By ``layer/weights``.

    Raises
    ------
    WeightsError
        When it is damaged or holds anything but arrays.

    """
    try:
        with open(path, 'rb') as file:
            start = file.read(LARGEST_HEADER)
            shape, _, dtype, header = _npy_header(start)
            if not dtype.hasobject or math.prod(shape) != 1:
                raise ValueError(f'it holds an array of {dtype.name} and shape {shape} where a '
                                 'dictionary of layers is expected')
            # Read twice, and never kept beside its arrays, which are as large.
            rest = _Rest(file, os.fstat(file.fileno()).st_size)
            file.seek(header)
            _check_pickle(rest)
            file.seek(header)
            content = _ArrayUnpickler(rest, encoding='latin1').load()
        return _flattened(path, content)
    except OSError as error:
        raise WeightsError(f'cannot read {path}: {error.strerror}') from error
    # All that pickle raises on damaged data.
    except (pickle.UnpicklingError, ValueError, LookupError, TypeError, AttributeError, EOFError,
            OverflowError, MemoryError) as error:
        raise WeightsError(f'cannot read {path}: {error}') from error


def read_mean_image(path):
    """
    Return a mean image.

    Parameters
    ----------
    path : str
        ``.npy`` of numbers, shape (H, W, 3).

    Returns
    -------
    np.ndarray
        float32, shape (H, W, 3).

    Raises
    ------
    WeightsError
        When it is missing, damaged or no such image.

    """
    try:
        size = os.stat(path).st_size
        with open(path, 'rb') as file:
            shape, fortran, dtype, header = _npy_header(file.read(LARGEST_HEADER))
            if (dtype.kind not in 'fiu' or len(shape) != 3 or shape[2] != 3
                    or math.prod(shape) * dtype.itemsize != size - header):
                raise ValueError(f'it holds {dtype.name} of shape {shape}, expected numbers of '
                                 'shape (H, W, 3)')
            file.seek(header)
            array = np.frombuffer(file.read(), dtype).reshape(shape, order='F' if fortran else 'C')
    except OSError as error:
        raise WeightsError(f'cannot read {path}: {error.strerror}') from error
    except ValueError as error:
        raise WeightsError(f'{path} is no mean image: {error}') from error
    if not np.isfinite(array).all():
        raise WeightsError(f'{path} is no mean image: it holds a NaN or infinite number')
    return array.astype(np.float32)


class _Rest:
    """What is left of a file: to be asked for more than that makes no room for it."""

    def __init__(self, file, size):
        self._file, self._size = file, size
        self.readline, self.tell = file.readline, file.tell

    def read(self, n):
        """Return at most so many bytes."""
        return self._file.read(max(min(n, self._size - self._file.tell()), 0))


def _check_pickle(file):
    """Refuse a pickle that could do more than make dictionaries of arrays."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name not in OPCODES:
            raise ValueError(f'its pickle does more than hold arrays ({opcode.name}), and may run '
                             'code')
        # The table of what is referred to grows up to the largest number in it.
        if 'PUT' in opcode.name and not 0 <= int(argument) <= count:
            raise ValueError(f'its pickle counts {argument} objects, and has {count}')


class _Array:
    """Stands in for an array in a pickle: takes its state, if that is one."""

    def __init__(self, *_):
        self.shape, self.kind, self.data = (), None, None

    def __setstate__(self, state):
        """Take shape, type and numbers."""
        _, shape, kind, fortran, data = state
        if (not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape)
                or not isinstance(kind, _Kind) or fortran not in (True, False)):
            raise ValueError('an array in its pickle has a state that no array has')
        if not isinstance(data, list):
            if kind.name not in ('f2', 'f4', 'f8') or kind.order not in ('<', '>', '='):
                raise ValueError(f'an array in its pickle is of type {kind.name}, not of numbers')
            # Of Python 2, whose bytes are strings.
            data = data.encode('latin1') if isinstance(data, str) else data
            size = math.prod(shape) * int(kind.name[1])
            if not isinstance(data, bytes) or len(data) != size:
                raise ValueError(f'an array of shape {shape} in its pickle has other than {size} '
                                 'bytes')
        self.shape, self.kind, self.data = shape, kind, data
        self._order = 'F' if fortran else 'C'

    def __call__(self):
        """Return the array."""
        dtype = np.dtype(self.kind.name).newbyteorder(self.kind.order)
        return np.frombuffer(self.data, dtype).reshape(self.shape, order=self._order)


class _Kind:
    """Stands in for the element type of an array in a pickle."""

    def __init__(self, name, *_):
        self.name, self.order = str(name), '='

    def __setstate__(self, state):
        """Take the order of bytes."""
        self.order = str(state[1])


class _ArrayUnpickler(pickle.Unpickler):
    """Knows arrays, by stand-ins, and nothing else."""

    def find_class(self, module, name):
        """Return what stands in for a name of NumPy's."""
        multiarray = module in ('numpy.core.multiarray', 'numpy._core.multiarray')
        if multiarray and name == '_reconstruct':
            # A new function every time: a pickle may set attributes of what it gets.
            return lambda *arguments: _Array()
        if (module, name) == ('numpy', 'ndarray'):
            return None
        if (module, name) == ('numpy', 'dtype'):
            return lambda *arguments: _Kind(*arguments)
        raise ValueError(f'its pickle asks for {module}.{name}, which is no array and may run '
                         'code')


def _flattened(path, content):
    """Return the arrays in the one element of an array of objects."""
    if not isinstance(content, _Array) or not isinstance(content.data, list) or (
            len(content.data) != 1 or not isinstance(content.data[0], dict)):
        raise ValueError('it holds no dictionary of layers')
    arrays = {}
    for layer, parts in content.data[0].items():
        for name, array in (parts.items() if isinstance(parts, dict) else [('', parts)]):
            if not isinstance(array, _Array) or not isinstance(array.data, bytes):
                raise ValueError(f'layer {layer} holds something that is no array')
            kind = KINDS[('f2', 'f4', 'f8').index(array.kind.name)]
            arrays[f'{layer}/{name}'] = StoredArray(path, array.shape, kind, array)
    return arrays
