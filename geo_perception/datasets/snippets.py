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
# Median way of the picture from frame to frame, pixels of the size that is learned from, below
# which a camera stands or teaches nothing. Camera noise moves corners by less than 0.15 pixels.
SMALLEST_MOTION = 0.25
# Corners that are followed, how many it takes to tell, and the parts of either side with a vote.
_CORNERS, _FEWEST, _PARTS = 200, 8, 4


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


def image_motion(images):
    """
    Return how far the picture has moved since the frame before.

    Corners are followed from frame to frame, and the median is taken over parts of the picture:
    that is the way of the scene, even where people or cars pass a standing camera.

    Parameters
    ----------
    images : iterable of np.ndarray
        uint8 RGB, shape (H, W, 3) each, in the size that is learned from.

    Returns
    -------
    np.ndarray
        Pixels, shape (N,): 0 for the first and where nothing can be seen, infinite where nothing
        can be followed.

    """
    motion, before = [], None
    for image in images:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        motion.append(0.0 if before is None else _median_motion(before, grey))
        before = grey
    return np.array(motion)


def _median_motion(before, after):
    corners = cv2.goodFeaturesToTrack(before, _CORNERS, 0.01, max(min(before.shape) // BLOCKS, 3))
    if corners is None or len(corners) < _FEWEST:
        return 0.0
    moved, status, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, winSize=(15, 15),
                                                maxLevel=3)
    followed = status[:, 0] > 0
    if followed.sum() < _FEWEST:
        return np.inf
    ways = np.linalg.norm((moved - corners)[followed, 0], axis=1)
    # One car may have more corners than the street: every part of the picture has one vote.
    column, row = (corners[followed, 0] * _PARTS / before.shape[::-1]).astype(int).T
    part = row * _PARTS + column
    return float(np.median([np.median(ways[part == i]) for i in np.unique(part)]))


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


def moving_snippets(snippets, motion):
    """
    Return the snippets of a moving camera.

    Parameters
    ----------
    snippets : np.ndarray
        From `consecutive_snippets`, shape (M, length).
    motion : np.ndarray
        From `image_motion`, shape (N,).

    Returns
    -------
    np.ndarray
        Those that move by `SMALLEST_MOTION` from each of their frames to the next, shape
        (K, length).

    Raises
    ------
    RecordingError
        When none is left.

    """
    # What cannot be followed has moved farther than any image is wide.
    way = np.cumsum(np.minimum(motion, 1e6))
    kept = (np.diff(way[snippets], axis=1) >= SMALLEST_MOTION).all(1)
    if not kept.any():
        raise RecordingError('the camera hardly moves in this recording: in no snippet does the '
                             f'picture move by {SMALLEST_MOTION} pixels from frame to frame; '
                             'depth is learned from motion, so drive while recording, or raise '
                             'data.step')
    return snippets[kept]
