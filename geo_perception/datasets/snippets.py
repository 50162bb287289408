# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Short runs of consecutive frames, which networks learn depth and ego-motion from.

Removing the frames of a standing camera, and never joining frames across a cut, is what decides
whether such training works (sfmlearner.md sections 5.2 and 9).
"""

import cv2
import numpy as np

from geo_perception.errors import RecordingError

# Neighbours farther apart than this many usual intervals are a cut.
LARGEST_GAP = 1.8
# Mean change of brightness from frame to frame, of 255, below which the camera stands still. Noise
# of a good camera is below 2 after averaging over blocks of pixels; driving changes 5 and more.
SMALLEST_CHANGE = 2.5
# Of the blocks along the shorter side.
BLOCKS = 24


def usual_interval(stamps):
    """
    Return the usual time between frames.

    Parameters
    ----------
    stamps : np.ndarray
        Nanoseconds, shape (N,).

    Returns
    -------
    float
        Seconds; NaN where no frame follows another.

    """
    intervals = np.diff(np.asarray(stamps, np.int64))
    forward = intervals[intervals > 0]
    return float(np.median(forward)) * 1e-9 if len(forward) else float('nan')


def consecutive_snippets(stamps, length=3, step=1):
    """
    Return the runs of frames that follow each other in time.

    Parameters
    ----------
    stamps : np.ndarray
        Nanoseconds, shape (N,).
    length : int
        Frames of a snippet, odd: the target is the one in the middle.
    step : int
        Every how many frames one is taken; more for slow cameras and high frame rates.

    Returns
    -------
    np.ndarray
        Indices in order of time, shape (M, length). No run crosses a gap, a repeated stamp or a
        jump back.

    Raises
    ------
    RecordingError
        When there is no such run.

    """
    stamps = np.asarray(stamps, np.int64)
    intervals = np.diff(stamps)
    forward = intervals[intervals > 0]
    span = (length - 1) * step
    if len(forward):
        usual = np.median(forward)
        joined = (intervals > 0) & (intervals <= LARGEST_GAP * usual)
        # Running sums: all joints of a run are good when their number is the length of the run.
        good = np.concatenate([[0], np.cumsum(joined)])
        starts = np.flatnonzero(good[span:] - good[:len(good) - span] == span)
        if len(starts):
            return starts[:, None] + step * np.arange(length)
    raise RecordingError(f'no {length} frames follow each other with step {step} in these '
                         f'{len(stamps)} frames; check the stamps, or take a whole drive instead '
                         'of single frames')


def brightness_changes(images):
    """
    Return how much each frame differs from the one before.

    Parameters
    ----------
    images : np.ndarray
        uint8, shape (N, H, W, 3).

    Returns
    -------
    np.ndarray
        Mean absolute change of blocks of pixels, 0..255, shape (N,); 0 for the first.

    """
    changes, before = np.zeros(len(images)), None
    for i, image in enumerate(images):
        blocks = block_brightness(image)
        if before is not None:
            changes[i] = np.abs(blocks - before).mean()
        before = blocks
    return changes


def block_brightness(image):
    """
    Return the mean brightness of square blocks of pixels, which hides the noise of the camera.

    Parameters
    ----------
    image : np.ndarray
        uint8, shape (H, W, 3).

    Returns
    -------
    np.ndarray
        0..255, float32, about `BLOCKS` along the shorter side.

    """
    side = max(min(image.shape[:2]) // BLOCKS, 1)
    rows, columns = (n // side for n in image.shape[:2])
    # OpenCV averages areas; NumPy takes ten times as long.
    blocks = cv2.resize(image[:rows * side, :columns * side], (columns, rows),
                        interpolation=cv2.INTER_AREA)
    return blocks.mean(2, dtype=np.float32)


def moving_snippets(snippets, changes):
    """
    Return the snippets of a moving camera.

    Parameters
    ----------
    snippets : np.ndarray
        From `consecutive_snippets`, shape (M, length).
    changes : np.ndarray
        From `brightness_changes`, shape (N,).

    Returns
    -------
    np.ndarray
        Those that change everywhere along the way, shape (K, length).

    Raises
    ------
    RecordingError
        When none is left.

    """
    standing = np.concatenate([[0], np.cumsum(changes < SMALLEST_CHANGE)])
    kept = standing[snippets[:, -1] + 1] == standing[snippets[:, 0] + 1]
    if not kept.any():
        raise RecordingError('the camera hardly moves in this recording: no frame differs from '
                             f'the one before by {SMALLEST_CHANGE} of 255 levels; depth is '
                             'learned from motion, so drive while recording, or raise data.step')
    return snippets[kept]
