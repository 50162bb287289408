# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""An array in a file of another program: what it says about itself, before it is read."""

from dataclasses import dataclass
import math
from typing import Callable, Tuple

import numpy as np

# The element types that weights come in.
KINDS = ('float16', 'float32', 'float64')


@dataclass(frozen=True)
class StoredArray:
    """
    An array that is read when it is wanted, once its shape is known to be right.

    Attributes
    ----------
    path : str
        The file, for messages.
    shape : tuple of int
        In the layout of the file.
    kind : str
        Element type: one of NumPy's names, or what the file calls it.
    load : callable
        Returns the array; raises WeightsError when it is damaged.

    """

    path: str
    shape: Tuple[int, ...]
    kind: str
    load: Callable[[], np.ndarray]

    @property
    def size(self):
        """Return the number of elements that it claims to have."""
        return math.prod(self.shape)
