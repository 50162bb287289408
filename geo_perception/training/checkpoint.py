# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Reading the checkpoints of training runs, with nothing but PyTorch."""

import io
from pathlib import Path
import pickle

import torch

from geo_perception.errors import ModelFileError

CONTENT_KEY = 'geo_perception'


def read_checkpoint(path):
    """
    Read a checkpoint of a training run; no code in it is run.

    Parameters
    ----------
    path : str or pathlib.Path
        The file (.ckpt).

    Returns
    -------
    dict
        Lightning's entries, and ours under ``CONTENT_KEY``: ``metadata`` as a dictionary and
        further ``tensors``.

    Raises
    ------
    ModelFileError
        When it is missing, damaged or of another program.

    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ModelFileError(f'cannot read checkpoint {path}: {error.strerror}') from error
    try:
        content = torch.load(io.BytesIO(data), map_location='cpu', weights_only=True)
        if not {'metadata', 'tensors'} <= content[CONTENT_KEY].keys():
            raise KeyError(CONTENT_KEY)
    # All of these were seen on damaged files.
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError, LookupError, TypeError,
            ValueError, AttributeError) as error:
        raise ModelFileError(f'{path} is not a checkpoint of "geo_perception train": it is '
                             'damaged, or of another program') from error
    return content
