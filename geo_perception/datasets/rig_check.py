# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Whether stereo pairs are what training takes them for (monodepth.md section 11.4).

A rig that is not rectified, or whose eyes are swapped, trains without complaint and to no depth
at all. What the images themselves say is compared with what the calibration says.
"""

from dataclasses import dataclass, field
from typing import List, Optional

import cv2
import numpy as np

from geo_perception.errors import ImageError, RecordingError

# Pairs that are looked at, and the width that they are looked at with.
PAIRS, WIDTH = 12, 512
# Matches that a pair needs for its numbers to count.
FEWEST_MATCHES = 20
# Pixels at that width: rows farther apart than the first leave nothing to learn from; the second
# is what a good calibration reaches.
WORST_ROWS, GOOD_ROWS = 1.0, 0.5
# Shares of the matches: an eye that sees things to the left of where the left one sees them.
SWAPPED, MIXED = 0.75, 0.25
# Pixels at that width: smaller disparity has no sign.
SIGNIFICANT = 0.5
# Parts of the width.
SMALLEST_DISPARITY = 0.005
# Metres.
SHORTEST, LONGEST = 0.005, 3.0
# Seconds between the eyes: a robot that turns with 1 rad/s moves its image by a pixel in the
# first, and by ten in the second.
GOOD_TIME, WORST_TIME = 0.002, 0.02
# Brightness of 255, and its spread, of an eye that sees something.
DARK, BRIGHT, FLAT = 8, 247, 4.0
# Ratio of brightness between the eyes that photometric losses suffer from.
LARGEST_GAIN = 1.25
# How far the baseline may be from what true depth says.
WRONG_BASELINE = 0.1


@dataclass(frozen=True)
class RigReport:
    """
    What was found.

    Attributes
    ----------
    pairs : int
        Looked at.
    faults : list of str
        What makes training worthless, a sentence each.
    warnings : list of str
        What costs accuracy, a sentence each.
    size : tuple of int
        Width and height of the left image, pixels.
    matches : int
        Points seen by both eyes, in all pairs.
    vertical_px, vertical_spread_px : float
        Median distance of the rows of a point in both images (right lower is positive), and the
        90th percentile of its size, pixels of the recording; NaN where unknown.
    disparity_px : tuple of float
        Median and 99th percentile, pixels of the recording.
    positive : float
        Share of the significant disparities that are positive.
    baseline : float or None
        Metres, as the recording says.
    time_offset : float or None
        Median of right minus left stamp, seconds; None where the eyes have one stamp.
    gain : float
        Median brightness of the right over the left eye.

    """

    pairs: int
    faults: List[str]
    warnings: List[str]
    size: tuple = (0, 0)
    matches: int = 0
    vertical_px: float = float('nan')
    vertical_spread_px: float = float('nan')
    disparity_px: tuple = (float('nan'), float('nan'))
    positive: float = float('nan')
    baseline: Optional[float] = None
    time_offset: Optional[float] = None
    gain: float = float('nan')

    @property
    def hopeless(self):
        """Whether nothing can be learned from it."""
        return bool(self.faults)

    def measurements(self):
        """
        Return what was measured, in words.

        Returns
        -------
        list of str
            A line each.

        """
        lines = [f'{self.pairs} pairs of {self.size[0]}x{self.size[1]} pixels, {self.matches} '
                 'points seen by both eyes']
        if np.isfinite(self.vertical_px):
            lines += [
                f'rows: the right image is {abs(self.vertical_px):.2f} pixels '
                f'{"lower" if self.vertical_px > 0 else "higher"} (median); 90 % of the points '
                f'within {self.vertical_spread_px:.2f}',
                f'disparity: median {self.disparity_px[0]:.1f}, 99th percentile '
                f'{self.disparity_px[1]:.1f} pixels; {100 * self.positive:.0f} % positive']
        lines.append('baseline: ' + ('unknown' if self.baseline is None else
                                     f'{self.baseline:.4f} m'))
        lines.append('time: ' + ('one stamp for both eyes' if not self.time_offset else
                                 f'the right eye is {1e3 * self.time_offset:+.1f} ms off'))
        if np.isfinite(self.gain):
            lines.append(f'brightness: right over left {self.gain:.2f}')
        return lines

    def verdict(self):
        """
        Return the verdict, one sentence for each finding.

        Returns
        -------
        str

        """
        if self.faults:
            return ' '.join(['The rig is not fit to learn from:', *self.faults, *self.warnings])
        if self.warnings:
            return ' '.join(['The rig can be learned from, but:', *self.warnings])
        return 'The rig is good.'


@dataclass
class _Findings:
    """What the pairs said, gathered."""

    read: int = 0
    usable: int = 0
    without_right: int = 0
    unreadable: List[str] = field(default_factory=list)
    sizes: List[tuple] = field(default_factory=list)
    blind: dict = field(default_factory=lambda: {'left': [], 'right': []})
    same: int = 0
    few: int = 0
    rows: List[np.ndarray] = field(default_factory=list)
    columns: List[np.ndarray] = field(default_factory=list)
    expected: List[np.ndarray] = field(default_factory=list)
    offsets: List[float] = field(default_factory=list)
    gains: List[float] = field(default_factory=list)
    distorted: int = 0


def check_rig(sequence, max_disparity=0.3, pairs=PAIRS):
    """
    Look at some pairs of a recording.

    Parameters
    ----------
    sequence : Sequence
        From `geo_perception.datasets.recording.open_stereo`.
    max_disparity : float
        The largest one that the network can say, parts of the width.
    pairs : int
        How many are looked at, evenly spread; about 0.1 s each.

    Returns
    -------
    RigReport

    """
    found, baseline, size = _Findings(), None, (0, 0)
    chosen = np.unique(np.linspace(0, len(sequence) - 1, pairs).round().astype(int))
    for i in chosen:
        try:
            frame = sequence[int(i)]
        except (ImageError, RecordingError) as error:
            found.unreadable.append(str(error))
            continue
        found.read += 1
        size = frame.image.shape[1::-1] if size == (0, 0) else size
        if frame.right is None:
            found.without_right += 1
            continue
        baseline = frame.baseline if baseline is None else baseline
        _look(frame, found)
    return _judge(found, len(chosen), size, baseline, max_disparity)


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


def _judge(found, count, size, baseline, max_disparity):
    """Turn findings into a report."""
    faults, warnings = [], []
    _judge_presence(found, count, faults, warnings)
    numbers = {}
    if found.rows:
        rows, columns = np.concatenate(found.rows), np.concatenate(found.columns)
        factor = max(1.0, size[0] / WIDTH)
        significant = np.abs(columns) > SIGNIFICANT * factor
        positive = float((columns[significant] > 0).mean()) if significant.any() else float('nan')
        numbers = {
            'matches': len(rows), 'vertical_px': float(np.median(rows)),
            'vertical_spread_px': float(np.quantile(np.abs(rows), 0.9)),
            'disparity_px': tuple(np.quantile(columns, [0.5, 0.99]).tolist()),
            'positive': positive}
        _judge_geometry(numbers, size, factor, max_disparity, faults, warnings)
    _judge_baseline(found, baseline, numbers.get('positive'), faults, warnings)
    offset = float(np.median(found.offsets)) if found.offsets else None
    _judge_time(found.offsets, faults, warnings)
    gain = float(np.median(found.gains)) if found.gains else float('nan')
    if max(gain, 1 / gain) > LARGEST_GAIN if gain > 0 else False:
        warnings.append(f'The right eye is {gain:.2f} times as bright as the left one, and a '
                        'difference of light looks like one of depth: couple exposure and gain.')
    if found.distorted:
        warnings.append('The calibration has distortion, so the images are not rectified: record '
                        'image_rect (image_proc).')
    return RigReport(found.read, faults, warnings, size, baseline=baseline, time_offset=offset,
                     gain=gain, **numbers)


def _judge_presence(found, count, faults, warnings):
    """Is there a pair at all, and does it show something."""
    if found.unreadable:
        (faults if not found.read else warnings).append(
            f'{len(found.unreadable)} of {count} pairs cannot be read ({found.unreadable[0]}).')
    if found.read and found.without_right == found.read:
        faults.append('There is no right image: this is a recording of one camera, or the topic '
                      'of the right one is not known (name it), or its stamps are more than '
                      '100 ms off.')
    elif found.without_right:
        warnings.append(f'{found.without_right} of {found.read} left images have no right one '
                        'near in time; they are left out.')
    if found.sizes:
        (left, right) = found.sizes[0]
        faults.append(f'The images differ in size, left {left[0]}x{left[1]}, right '
                      f'{right[0]}x{right[1]} pixels: set both cameras alike, and rectify.')
    for name, blind in found.blind.items():
        if blind:
            most = 2 * len(blind) > found.read - found.without_right
            (faults if most else warnings).append(
                f'The {name} eye is {max(set(blind), key=blind.count)} in {len(blind)} of '
                f'{found.read} pairs.')
    if found.same:
        faults.append('Both eyes have the same image: the right topic, or the second column of '
                      'the list, is that of the left camera.')
    seen = found.usable - found.same
    if found.few and found.few == seen:
        faults.append('The eyes have too little in common to be compared: they look elsewhere, '
                      'or one is upside down.')
    elif found.few:
        warnings.append(f'{found.few} of {seen} pairs show too little to be compared.')


def _judge_geometry(numbers, size, factor, max_disparity, faults, warnings):
    """Are rows aligned, and is disparity what a network can say."""
    vertical, spread = numbers['vertical_px'], numbers['vertical_spread_px']
    _, largest = numbers['disparity_px']
    positive = numbers['positive']
    words = (f'the right image is {abs(vertical):.1f} pixels '
             f'{"lower" if vertical > 0 else "higher"} and 90 % of the points lie within '
             f'{spread:.1f}')
    if abs(vertical) > WORST_ROWS * factor or spread > 3 * WORST_ROWS * factor:
        faults.append(f'The rows are not aligned ({words}): the pairs are not rectified, or the '
                      'calibration is off; calibrate the rig again and rectify.')
    elif abs(vertical) > GOOD_ROWS * factor:
        warnings.append(f'The rows are not quite aligned ({words}).')
    if positive < 1 - SWAPPED:
        faults.append(f'{100 * (1 - positive):.0f} % of the points lie farther right in the '
                      'right image: the eyes are swapped, exchange both topics or columns.')
        return
    if positive < 1 - MIXED:
        faults.append(f'{100 * (1 - positive):.0f} % of the points lie farther right in the '
                      'right image, the others farther left: far points are not at zero '
                      'disparity, as those of eyes that converge or are not rectified.')
        return
    if np.isnan(positive) or largest < SMALLEST_DISPARITY * size[0]:
        warnings.append(f'Disparity is hardly there ({largest:.1f} pixels at most of '
                        f'{size[0]}): everything is too far for a baseline this short.')
    elif largest > 0.9 * max_disparity * size[0]:
        warnings.append(f'Disparity reaches {100 * largest / size[0]:.0f} % of the width, and '
                        f'the network says at most {100 * max_disparity:.0f} %: raise '
                        'max_disparity.')


def _judge_baseline(found, baseline, positive, faults, warnings):
    """Is there a baseline, of the right sign and length."""
    if found.without_right == found.read:
        return
    if not baseline:
        faults.append('The baseline is '
                      + ('unknown' if baseline is None else 'zero')
                      + ': P[3] of the right camera_info says it (-fx times metres), or TF '
                      'between both cameras, or the calibration file.')
        return
    if baseline < 0 and positive is not None and positive >= 1 - MIXED:
        warnings.append(f'The baseline is {baseline:.3f} m, with the wrong sign: the images have '
                        'the right camera on the right, but P[3] of its calibration is positive. '
                        'Its size is used.')
    elif baseline < 0:
        faults.append(f'The baseline is {baseline:.3f} m: the calibration has the right camera '
                      'to the left of the left one.')
    if not SHORTEST < abs(baseline) < LONGEST:
        warnings.append(f'A baseline of {abs(baseline):g} m is no usual one: are those metres?')
    if found.expected and len(values := np.concatenate(found.expected)) >= FEWEST_MATCHES:
        times = float(np.median(values))
        if abs(np.log(times)) > WRONG_BASELINE:
            warnings.append(f'By the true depth in this recording the baseline is {times:.2f} '
                            'times as long as it should be.')


def _judge_time(offsets, faults, warnings):
    """Do both eyes look at the same time."""
    if not offsets:
        return
    worst = float(np.quantile(np.abs(offsets), 0.9))
    if worst > WORST_TIME:
        faults.append(f'The eyes look {1e3 * worst:.0f} ms apart: whatever moves, or the robot '
                      'when it moves, is seen at two places; synchronise the cameras.')
    elif worst > GOOD_TIME:
        warnings.append(f'The eyes look {1e3 * worst:.1f} ms apart, which counts when the robot '
                        'turns.')
