# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Reading weights that PyTorch wrote; files that want code to be run are refused."""

import io
from pathlib import Path
import pickle
import struct
import zipfile

import torch

from geo_perception.errors import WeightsError
from geo_perception.importers.stored import StoredArray


def read_torch_file(path):
    """
    Return the tensors of a ``.pth.tar``, ``.pth`` or ``.pt`` file.

    Parameters
    ----------
    path : str
        The file: a dictionary of tensors, or one that has it under ``state_dict``.

    Returns
    -------
    dict of str to StoredArray
        By parameter name, without ``module.`` in front.

    Raises
    ------
    WeightsError
        When it is damaged, wants code to be run, or holds no tensors.

    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise WeightsError(f'cannot read {path}: {error.strerror}') from error
    try:
        _check_sizes(data)
        content = torch.load(io.BytesIO(data), map_location='cpu', weights_only=True)
        content = content.get('state_dict', content)
        tensors = {str(name).removeprefix('module.'): value for name, value in content.items()
                   if isinstance(value, torch.Tensor)}
    # All of these were seen on damaged files; the first on those with code.
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError, LookupError, TypeError,
            ValueError, AttributeError, MemoryError, AssertionError, struct.error,
            zipfile.BadZipFile) as error:
        raise WeightsError(f'{path} is no file of weights by PyTorch: it is damaged, holds other '
                           f'things, or wants code to be run ({_first_line(error)})') from error
    if not tensors:
        raise WeightsError(f'{path} holds no tensors')
    return {name: StoredArray(path, tuple(value.shape), str(value.dtype).removeprefix('torch.'),
                              value.detach().numpy) for name, value in tensors.items()}


def _check_sizes(data):
    """Refuse an archive whose parts claim to be larger than it is."""
    if data[:2] != b'PK':
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > len(data):
                raise ValueError(f'{member.filename} claims {member.file_size} bytes')


def _first_line(error):
    """Return what an error says, without the advice to switch safety off."""
    return str(error).split('\n', 1)[0].split('. ', 1)[0][:200] or type(error).__name__
