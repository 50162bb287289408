# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What stereo pairs show of their rig: which points both eyes see, where, and when."""

from dataclasses import dataclass, field
from typing import List, Optional

import cv2
import numpy as np

from geo_perception.errors import ImageError, RecordingError

# The width that pairs are looked at with, pixels.
WIDTH = 512
# Matches that a pair needs for its numbers to count.
FEWEST_MATCHES = 20
# Pixels at that width: smaller disparity has no sign.
SIGNIFICANT = 0.5
# Brightness of 255, and its spread, of an eye that sees something.
DARK, BRIGHT, FLAT = 8, 247, 4.0


@dataclass
class RigMeasurement:
    """
    What the pairs of a recording show, gathered.

    Attributes
    ----------
    chosen, read, without_right : int
        Frames that were to be looked at, those of them that can be read, and those of the latter
        that have no right image.
    unreadable : list of str
        Why each of the others cannot be read.
    size : tuple of int
        Width and height of the first left image, pixels.
    baseline : float or None
        Metres, as the first pair that says one says it.
    sizes : list of tuple
        Sizes of the left and the right image, of pairs where they differ.
    offsets : list of float
        Right minus left stamp, seconds, of pairs with two stamps.
    distorted : int
        Pairs whose calibration has distortion.
    blind : dict
        ``left`` and ``right`` to why that eye sees nothing, of pairs where it does not.
    usable, same, few : int
        Pairs where both eyes see something, those of them where they see the same image, and
        those with too few matches.
    gains : list of float
        Median brightness of the right over the left eye, of usable pairs.
    rows, columns : list of np.ndarray
        Rows of points in the right image minus those in the left (right lower is positive), and
        disparities, pixels of the recording, shape (N,) for each pair with enough matches.
    expected : list of np.ndarray
        How many times too long the baseline is by true depth, at points of such pairs.

    """

    chosen: int
    read: int = 0
    without_right: int = 0
    unreadable: List[str] = field(default_factory=list)
    size: tuple = (0, 0)
    baseline: Optional[float] = None
    sizes: List[tuple] = field(default_factory=list)
    offsets: List[float] = field(default_factory=list)
    distorted: int = 0
    blind: dict = field(default_factory=lambda: {'left': [], 'right': []})
    usable: int = 0
    same: int = 0
    few: int = 0
    gains: List[float] = field(default_factory=list)
    rows: List[np.ndarray] = field(default_factory=list)
    columns: List[np.ndarray] = field(default_factory=list)
    expected: List[np.ndarray] = field(default_factory=list)


def measure_rig(sequence, pairs):
    """
    Look at some pairs of a recording.

    Parameters
    ----------
    sequence : Sequence
        From `geo_perception.datasets.recording.open_stereo`.
    pairs : int
        How many are looked at, evenly spread.

    Returns
    -------
    RigMeasurement

    """
    chosen = np.unique(np.linspace(0, len(sequence) - 1, pairs).round().astype(int))
    found = RigMeasurement(len(chosen))
    for i in chosen:
        try:
            frame = sequence[int(i)]
        except (ImageError, RecordingError) as error:
            found.unreadable.append(str(error))
            continue
        found.read += 1
        if found.size == (0, 0):
            found.size = frame.image.shape[1::-1]
        if frame.right is None:
            found.without_right += 1
            continue
        if found.baseline is None:
            found.baseline = frame.baseline
        _look(frame, found)
    return found


def _look(frame, found):
    """Take in one pair."""
    left, right = frame.image, frame.right
    if left.shape != right.shape:
        found.sizes.append((left.shape[1::-1], right.shape[1::-1]))
        return
    if frame.right_stamp is not None:
        found.offsets.append(1e-9 * (frame.right_stamp - frame.stamp))
    if frame.camera is not None and frame.camera.distorts:
        found.distorted += 1
    scale = min(1.0, WIDTH / left.shape[1])
    size = round(left.shape[1] * scale), round(left.shape[0] * scale)
    eyes = [cv2.resize(cv2.cvtColor(eye, cv2.COLOR_RGB2GRAY), size,
                       interpolation=cv2.INTER_AREA) for eye in (left, right)]
    seeing = True
    for name, eye in zip(('left', 'right'), eyes):
        blind = _blindness(eye)
        if blind:
            found.blind[name].append(blind)
            seeing = False
    if not seeing:
        return
    found.usable += 1
    found.gains.append(float(np.median(eyes[1])) / max(float(np.median(eyes[0])), 1.0))
    if np.array_equal(*eyes):
        found.same += 1
        return
    points = _matches(*eyes)
    if len(points) < FEWEST_MATCHES:
        found.few += 1
        return
    factor = left.shape[1] / size[0]
    disparity, rows = factor * (points[:, 0] - points[:, 2]), factor * (points[:, 3]
                                                                        - points[:, 1])
    found.rows.append(rows)
    found.columns.append(disparity)
    if frame.depth is not None and frame.camera is not None and frame.baseline:
        found.expected.append(_baseline_factors(frame, factor * points[:, :2], disparity))


def _blindness(eye):
    """Return why an eye sees nothing, or an empty string."""
    if np.mean(eye <= DARK) > 0.9:
        return 'black'
    if np.mean(eye >= BRIGHT) > 0.6:
        return 'saturated'
    return 'without any texture' if eye.std() < FLAT else ''


def _matches(left, right):
    """Return points (x, y) of the left and of the right eye, shape (N, 4)."""
    sift = cv2.SIFT_create(nfeatures=800)
    (points, words), (others, other_words) = (sift.detectAndCompute(eye, None)
                                              for eye in (left, right))
    if words is None or other_words is None or len(other_words) < 2:
        return np.zeros((0, 4))
    matcher = cv2.BFMatcher()
    there = [pair[0] for pair in matcher.knnMatch(words, other_words, k=2)
             if len(pair) == 2 and pair[0].distance < 0.8 * pair[1].distance]
    back = {m.queryIdx: m.trainIdx for m in matcher.match(other_words, words)}
    found = np.array([[*points[m.queryIdx].pt, *others[m.trainIdx].pt] for m in there
                      if back[m.trainIdx] == m.queryIdx]).reshape(-1, 4)
    if not len(found):
        return found
    # Wrong matches lie anywhere; right ones, even of a bad rig, near the most common row.
    rows = found[:, 3] - found[:, 1]
    return found[np.abs(rows - np.median(rows)) < 0.1 * left.shape[0]]


def _baseline_factors(frame, points, disparity):
    """Return how many times too long the baseline is, by the true depth at points."""
    height, width = frame.depth.shape
    column, row = (points * [width / frame.image.shape[1], height / frame.image.shape[0]]
                   ).astype(int).T
    depth = frame.depth[row.clip(0, height - 1), column.clip(0, width - 1)]
    known = np.isfinite(depth) & (depth > 0) & (disparity > 2 * SIGNIFICANT)
    return (frame.camera.K[0, 0] * abs(frame.baseline)
            / (depth[known] * disparity[known]))
