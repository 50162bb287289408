# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What an import gives: a model, and an account of what was taken."""

from dataclasses import dataclass
from typing import Dict, Tuple

import numpy as np

from geo_perception.errors import WeightsError
from geo_perception.model_file import Metadata


@dataclass(frozen=True)
class Imported:
    """
    A model made of published weights.

    Attributes
    ----------
    metadata : Metadata
        Header of the model file.
    tensors : dict of str to np.ndarray
        Its weights.
    taken : dict of str to tuple of str
        Names of the variables that were taken, by the path of their file.
    ignored : dict of str to tuple of str
        Names of those that were not.
    account : tuple of str
        Sentences: what was found, and what of it is as published or corrected.

    """

    metadata: Metadata
    tensors: Dict[str, np.ndarray]
    taken: Dict[str, Tuple[str, ...]]
    ignored: Dict[str, Tuple[str, ...]]
    account: Tuple[str, ...]


class Account:
    """
    Keeps the books of an import.

    Parameters
    ----------
    sources : sequence of Source
        The files.

    Raises
    ------
    WeightsError
        When there are none.

    """

    def __init__(self, sources):
        if not sources:
            raise WeightsError('no file with weights was given')
        self._sources = list(sources)
        self._taken = {source.path: set() for source in sources}
        self.sentences = []

    def take(self, source, plan, what):
        """
        Note that variables were taken.

        Parameters
        ----------
        source : Source
            Their file.
        plan : dict of str to Wanted
            What they became.
        what : str
            Name of the network, in words.

        """
        names = {wanted.name for wanted in plan.values()}
        self.add(source, names)
        self.sentences.append(f'{what}: {len(names)} variables of {source.path}')

    def add(self, source, names):
        """
        Note names of variables that were taken, without a sentence.

        Parameters
        ----------
        source : Source
            Their file.
        names : iterable of str
            The names.

        """
        self._taken[source.path] |= set(names)

    def close(self, metadata, tensors):
        """
        Return the import.

        Parameters
        ----------
        metadata : Metadata
            Header of the model file.
        tensors : dict of str to np.ndarray
            Its weights.

        Returns
        -------
        Imported

        """
        taken = {path: tuple(sorted(names)) for path, names in self._taken.items()}
        ignored = {source.path: tuple(sorted(source.arrays.keys() - self._taken[source.path]))
                   for source in self._sources}
        return Imported(metadata, tensors, taken, ignored, tuple(self.sentences))


def first_with(sources, name):
    """
    Return the first file that has a variable.

    Parameters
    ----------
    sources : sequence of Source
        The files.
    name : str
        Of the variable.

    Returns
    -------
    Source or None

    """
    return next((source for source in sources if name in source.arrays), None)
