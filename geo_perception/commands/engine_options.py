# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Options of every verb that runs networks."""


def engine_options(*, device: str = 'auto', precision: str = 'auto', threads: int = 0):
    """
    Return how networks are to be run.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda`` or ``cuda:1``; ``auto`` takes the first GPU if there is one.
    precision : str
        ``fp32``, ``bf16`` or ``fp16``; ``auto`` takes the fastest that keeps the accuracy.
    threads : int
        CPU threads of the networks; 0 leaves it to the engine.

    Returns
    -------
    dict
        Arguments of the pipelines.

    """
    return {'device': device, 'precision': precision, 'threads': threads}
