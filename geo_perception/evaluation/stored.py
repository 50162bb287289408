# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Results kept in one file, to be looked at again later.

The file is a zip of ``.npy`` arrays, as NumPy's own archives are, with one JSON text that says
how they belong together. Reading it runs no code of the file.
"""

from dataclasses import fields, is_dataclass
import io
import json
from pathlib import Path
import zipfile
import zlib

import numpy as np

from geo_perception.atomic_files import write_atomically
from geo_perception.errors import RunError

_TREE = 'tree.json'
# Levels above squeeze out little more of floating point numbers and take many times longer.
_LEVEL = 1


def store(path, value):
    """
    Write results to a file.

    Parameters
    ----------
    path : str or Path
        The file; its folder is made.
    value : object
        Dataclasses, dictionaries with text or numbers as keys, lists, tuples (read back as lists),
        arrays, bytes, numbers, text, None.

    """
    arrays = {}   # id of an array -> its name and itself: what is shared is written once
    data = io.BytesIO()
    with zipfile.ZipFile(data, 'w', zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        archive.writestr(_TREE, json.dumps(_tree(value, arrays)))
        for name, array in arrays.values():
            with archive.open(f'{name}.npy', 'w', force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    write_atomically(path, data.getvalue())


def load(path, classes):
    """
    Read results back.

    Parameters
    ----------
    path : str or Path
        From `store`.
    classes : iterable of type
        Dataclasses that may be in it.

    Returns
    -------
    object

    Raises
    ------
    RunError
        When it is no such file, is damaged, or was written by another version.

    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {name.removesuffix('.npy'): _array(archive, name)
                      for name in archive.namelist() if name != _TREE}
            tree = json.loads(archive.read(_TREE))
        return _value(tree, arrays, {cls.__name__: cls for cls in classes})
    except OSError as error:
        raise RunError(f'{path} cannot be read: {error.strerror or error}') from error
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError, RecursionError,
            NotImplementedError, RuntimeError, zlib.error) as error:
        raise RunError(f'{path} is damaged, or was written by another version of geo_perception '
                       f'({error}); measure again') from error


def _array(archive, name):
    with archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _tree(value, arrays):
    """Return a value as JSON has it; arrays go into ``arrays``."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_tree(item, arrays) for item in value]
    if isinstance(value, dict):
        # Keys of JSON are text alone.
        return {'pairs': [_tree(pair, arrays) for pair in value.items()]}
    if isinstance(value, bytes):
        value = np.frombuffer(value, np.uint8)
        return {'bytes': _named(value, arrays)}
    if isinstance(value, np.ndarray):
        return {'array': _named(value, arrays)}
    if is_dataclass(value):
        return {'class': type(value).__name__,
                'fields': {field.name: _tree(getattr(value, field.name), arrays)
                           for field in fields(value)}}
    raise TypeError(f'{type(value).__name__} cannot be stored')


def _named(array, arrays):
    name, _ = arrays.setdefault(id(array), (f'array_{len(arrays)}', array))
    return name


def _value(tree, arrays, classes):
    """Return what a tree stands for."""
    if isinstance(tree, list):
        return [_value(item, arrays, classes) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if 'array' in tree:
        return arrays[tree['array']]
    if 'bytes' in tree:
        return arrays[tree['bytes']].tobytes()
    if 'pairs' in tree:
        return dict(_value(tree['pairs'], arrays, classes))
    return classes[tree['class']](**{name: _value(item, arrays, classes)
                                     for name, item in tree['fields'].items()})
