# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The frames of a recording that can be read: a damaged image ends no work of hours."""

from functools import cache
import logging

from geo_perception.errors import ImageError, RecordingError

_logger = logging.getLogger(__name__)


def readable_frames(sequence, indices=None):
    """
    Yield the frames that can be read; in the end a warning says how many cannot.

    Parameters
    ----------
    sequence : Sequence
        The recording; or pairs of frames, of anything that is read by index.
    indices : iterable of int, optional
        Which frames; by default all.

    Yields
    ------
    index : int
    frame : Frame

    Raises
    ------
    ImageError, RecordingError
        The first of the errors, when no frame of the recording can be read.

    """
    indices = range(len(sequence)) if indices is None else indices
    errors = []
    for i in indices:
        try:
            frame = sequence[int(i)]
        except (ImageError, RecordingError) as error:
            errors.append(error)
        else:
            yield int(i), frame
    if errors and len(errors) == len(sequence):
        raise errors[0]
    if errors:
        _warn_once(f'{len(errors)} of {len(indices)} images cannot be read and are left out; '
                   f'the first: {errors[0]}')


def first_readable(sequence):
    """
    Return the first frame that can be read; cameras that start leave broken ones before it.

    Parameters
    ----------
    sequence : Sequence
        The recording.

    Returns
    -------
    Frame

    Raises
    ------
    ImageError, RecordingError
        When none can be read.

    """
    return next(readable_frames(sequence))[1]


@cache
def _warn_once(sentence):
    """Say what would be said after every pass over the same recording."""
    _logger.warning(sentence)
