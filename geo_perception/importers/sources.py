# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Files with weights, told apart by what they begin with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict
import zipfile

from geo_perception.errors import WeightsError
from geo_perception.importers.numpy_files import read_npy_dictionary, read_npz
from geo_perception.importers.safetensors_file import read_safetensors
from geo_perception.importers.stored import StoredArray
from geo_perception.importers.tf_checkpoint import FOOTER_SIZE, MAGIC, read_tf_checkpoint
from geo_perception.importers.torch_file import read_torch_file

CHECKPOINT_ENDS = ('.index', '.meta', '.data-00000-of-00001')


@dataclass(frozen=True)
class Source:
    """
    A file with weights.

    Attributes
    ----------
    path : str
        As a person named it.
    arrays : dict of str to StoredArray
        What is in it, by name.
    kind : str
        ``npz``, ``npy``, ``safetensors``, ``torch`` or ``checkpoint``.

    """

    path: str
    arrays: Dict[str, StoredArray]
    kind: str


def read_source(path):
    """
    Return what is in a file with weights.

    Parameters
    ----------
    path : str
        ``.npz``, the ``.npy`` of a dictionary, a PyTorch or safetensors file, or the prefix of a
        TensorFlow checkpoint (what its ``.index`` and ``.data-*`` have in common).

    Returns
    -------
    Source

    Raises
    ------
    WeightsError
        When it is missing, damaged, hostile or of another kind.

    """
    path = str(path)
    for end in CHECKPOINT_ENDS:
        if path.endswith(end):
            return Source(path, read_tf_checkpoint(path.removesuffix(end)), 'checkpoint')
    if not Path(path).is_file():
        if Path(path).is_dir():
            found = sorted(str(file)[:-len('.index')] for file in Path(path).glob('*.index'))
            raise WeightsError(f'{path} is a folder; name the checkpoint in it'
                               + (f', such as {found[0]}' if found else ''))
        return Source(path, read_tf_checkpoint(path), 'checkpoint')
    try:
        with open(path, 'rb') as file:
            start = file.read(9)
            file.seek(-min(FOOTER_SIZE, Path(path).stat().st_size), 2)
            end = file.read()
    except OSError as error:
        raise WeightsError(f'cannot read {path}: {error.strerror}') from error
    if start[:6] == b'\x93NUMPY':
        return Source(path, read_npy_dictionary(path), 'npy')
    if start[8:] == b'{' and start[:2] not in (b'PK', b'\x80\x02'):
        return Source(path, read_safetensors(path), 'safetensors')
    if start[:2] == b'PK' and _is_npz(path):
        return Source(path, read_npz(path), 'npz')
    if start[:2] in (b'PK', b'\x80\x02'):
        return Source(path, read_torch_file(path), 'torch')
    if end[-8:] == MAGIC.to_bytes(8, 'little'):
        raise WeightsError(f'{path} is a TensorFlow checkpoint of version 1, which is not read '
                           'here; restore it in TensorFlow and save it again, or save its '
                           'variables with numpy.savez')
    raise WeightsError(f'{path} holds no weights of a kind that is known here: .npz, .npy, '
                       '.safetensors, TensorFlow checkpoint or PyTorch file')


def _is_npz(path):
    """Tell an archive of arrays from one of PyTorch's."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise WeightsError(f'cannot read {path}: {error}; copy it again') from error
    return all(name.endswith('.npy') for name in names)
