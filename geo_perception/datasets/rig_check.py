# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Whether stereo pairs are what training takes them for (monodepth.md section 11.4).

A rig that is not rectified, or whose eyes are swapped, trains without complaint and to no depth
at all. What the images themselves say is compared with what the calibration says.
"""

from dataclasses import dataclass
from typing import List, Optional

import numpy as np

from geo_perception.datasets.rig_measurement import (
    FEWEST_MATCHES, measure_rig, SIGNIFICANT, WIDTH)

# Pairs that are looked at.
PAIRS = 12
# Pixels at the width that they are looked at with: rows farther apart than the first leave nothing
# to learn from; the second is what a good calibration reaches.
WORST_ROWS, GOOD_ROWS = 1.0, 0.5
# Shares of the matches: an eye that sees things to the left of where the left one sees them.
SWAPPED, MIXED = 0.75, 0.25
# Parts of the width.
SMALLEST_DISPARITY = 0.005
# Metres.
SHORTEST, LONGEST = 0.005, 3.0
# Seconds between the eyes: a robot that turns with 1 rad/s moves its image by a pixel in the
# first, and by ten in the second.
GOOD_TIME, WORST_TIME = 0.002, 0.02
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


def check_rig(sequence, max_disparity=0.3, pairs=PAIRS):
    """
    Check the rig of a recording by some of its pairs.

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
    found = measure_rig(sequence, pairs)
    faults, warnings = [], []
    _judge_presence(found, faults, warnings)
    numbers = {}
    if found.rows:
        rows, columns = np.concatenate(found.rows), np.concatenate(found.columns)
        factor = max(1.0, found.size[0] / WIDTH)
        significant = np.abs(columns) > SIGNIFICANT * factor
        positive = float((columns[significant] > 0).mean()) if significant.any() else float('nan')
        numbers = {
            'matches': len(rows), 'vertical_px': float(np.median(rows)),
            'vertical_spread_px': float(np.quantile(np.abs(rows), 0.9)),
            'disparity_px': tuple(np.quantile(columns, [0.5, 0.99]).tolist()),
            'positive': positive}
        _judge_geometry(numbers, found.size, factor, max_disparity, faults, warnings)
    _judge_baseline(found, numbers.get('positive'), faults, warnings)
    offset = float(np.median(found.offsets)) if found.offsets else None
    _judge_time(found.offsets, faults, warnings)
    gain = float(np.median(found.gains)) if found.gains else float('nan')
    if max(gain, 1 / gain) > LARGEST_GAIN if gain > 0 else False:
        warnings.append(f'The right eye is {gain:.2f} times as bright as the left one, and a '
                        'difference of light looks like one of depth: couple exposure and gain.')
    if found.distorted:
        warnings.append('The calibration has distortion, so the images are not rectified: record '
                        'image_rect (image_proc).')
    return RigReport(found.read, faults, warnings, found.size, baseline=found.baseline,
                     time_offset=offset, gain=gain, **numbers)


def _judge_presence(found, faults, warnings):
    """Is there a pair at all, and does it show something."""
    if found.unreadable:
        (faults if not found.read else warnings).append(
            f'{len(found.unreadable)} of {found.chosen} pairs cannot be read '
            f'({found.unreadable[0]}).')
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


def _judge_baseline(found, positive, faults, warnings):
    """Is there a baseline, of the right sign and length."""
    baseline = found.baseline
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
