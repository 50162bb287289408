# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Numbers that meet tensors of any device."""

from functools import lru_cache

import torch


def constant(like, *values):
    """
    Return numbers as a tensor, uploaded to its device once.

    An upload waits for everything that a GPU has to do, and no CUDA graph can hold one.

    Parameters
    ----------
    like : torch.Tensor
        Whose dtype and device it gets.
    *values : float or tuple of float
        One row each, where they are tuples.

    Returns
    -------
    torch.Tensor
        Shared: not to be written to.

    """
    return _uploaded(values, like.dtype, like.device)


@lru_cache(maxsize=256)
def _uploaded(values, dtype, device):
    with torch.inference_mode(False):   # training may use it too
        return torch.tensor(values, dtype=dtype, device=device)
