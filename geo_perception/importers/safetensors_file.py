# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Reading weights from safetensors files of others."""

from safetensors import safe_open, SafetensorError

from geo_perception.errors import WeightsError
from geo_perception.importers.stored import StoredArray

_KINDS = {'F16': 'float16', 'F32': 'float32', 'F64': 'float64'}


def read_safetensors(path):
    """
    Return the tensors of a file.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    dict of str to StoredArray
        By name, without ``module.`` in front.

    Raises
    ------
    WeightsError
        When it is damaged.

    """
    arrays = {}
    try:
        with safe_open(path, 'numpy') as file:
            for name in file.keys():
                part = file.get_slice(name)
                kind = part.get_dtype()
                arrays[name.removeprefix('module.')] = StoredArray(
                    path, tuple(part.get_shape()), _KINDS.get(kind, kind), _Loader(path, name))
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f'cannot read {path}: {error}; copy it again') from error
    return arrays


class _Loader:
    """Reads one tensor."""

    def __init__(self, path, name):
        self._path, self._name = path, name

    def __call__(self):
        """Return the array."""
        try:
            with safe_open(self._path, 'numpy') as file:
                return file.get_tensor(self._name)
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(f'cannot read {self._name} in {self._path}: {error}') from error
