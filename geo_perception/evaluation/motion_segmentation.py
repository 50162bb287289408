# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""How well it is told what moves by itself."""

from dataclasses import dataclass, field

import numpy as np

from geo_perception.errors import ConfigurationError

# Ends of the scores that the curve is drawn for.
SCORES = np.concatenate([[-np.inf], np.geomspace(1e-2, 1e3, 251), [np.inf]])
# In a frame with less of it nothing moves.
SMALLEST_SHARE = 1e-3


def ratio(part, whole):
    """Return a share, NaN of nothing."""
    return float(part / whole) if whole else float('nan')


@dataclass
class MotionCounts:
    """
    Pixels by what was said and what is true, of many images.

    Attributes
    ----------
    found, missed, false, quiet : int
        Moving and said so, moving and not said so, still but said to move, still and said so.
    false_in_still_frames, pixels_in_still_frames : int
        The third one, and all pixels, of frames in which nothing moves.

    """

    found: int = 0
    missed: int = 0
    false: int = 0
    quiet: int = 0
    false_in_still_frames: int = 0
    pixels_in_still_frames: int = 0

    def add(self, mask, truth):
        """
        Count one image.

        Parameters
        ----------
        mask, truth : np.ndarray
            Not zero where something moves, shape (H, W).

        Raises
        ------
        ConfigurationError
            When the sizes differ.

        """
        mask, truth = _checked(mask, truth)
        self.found += int((mask & truth).sum())
        self.missed += int((~mask & truth).sum())
        false, quiet = int((mask & ~truth).sum()), int((~mask & ~truth).sum())
        self.false += false
        self.quiet += quiet
        if truth.mean() < SMALLEST_SHARE:
            self.false_in_still_frames += false
            self.pixels_in_still_frames += false + quiet

    def include(self, other):
        """
        Count the images that others have counted.

        Parameters
        ----------
        other : MotionCounts
            Left alone.

        """
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)

    def summary(self):
        """
        Return what is made of the counts.

        Returns
        -------
        dict of str to float
            ``iou``, ``precision``, ``recall``, ``f``, ``false_alarm_rate`` (share of still pixels
            that are said to move), and the last one in frames in which nothing moves; NaN where
            there is nothing to tell it by.

        """
        return {
            'iou': ratio(self.found, self.found + self.missed + self.false),
            'precision': ratio(self.found, self.found + self.false),
            'recall': ratio(self.found, self.found + self.missed),
            'f': ratio(2 * self.found, 2 * self.found + self.missed + self.false),
            'false_alarm_rate': ratio(self.false, self.false + self.quiet),
            'false_alarm_rate_still_frames': ratio(self.false_in_still_frames,
                                                   self.pixels_in_still_frames)}


@dataclass
class ScoreCurve:
    """
    What each threshold on a score would find, of many images.

    Attributes
    ----------
    moving, still : np.ndarray
        Pixels by score, between neighbours of `SCORES`.

    """

    moving: np.ndarray = field(default_factory=lambda: np.zeros(len(SCORES) - 1, np.int64))
    still: np.ndarray = field(default_factory=lambda: np.zeros(len(SCORES) - 1, np.int64))

    def add(self, score, truth):
        """
        Count one image.

        Parameters
        ----------
        score : np.ndarray
            More where motion is likelier, NaN where nothing is said, shape (H, W).
        truth : np.ndarray
            Not zero where something moves, shape (H, W).

        Raises
        ------
        ConfigurationError
            When the sizes differ.

        """
        if score.shape != truth.shape:
            _checked(score, truth)
        for counts, pixels in ((self.moving, truth != 0), (self.still, truth == 0)):
            values = score[pixels & np.isfinite(score)]
            which = np.searchsorted(SCORES, values, side='right') - 1
            counts += np.bincount(which, minlength=len(counts))[:len(counts)]

    def curve(self):
        """
        Return precision, recall and false alarms at each threshold.

        Returns
        -------
        thresholds, precision, recall, false_alarm_rate : np.ndarray
            Ascending thresholds; NaN where nothing is left.

        """
        found, false = (np.cumsum(counts[::-1])[::-1] for counts in (self.moving, self.still))
        with np.errstate(invalid='ignore', divide='ignore'):
            return (SCORES[:-1], found / (found + false), found / self.moving.sum(),
                    false / self.still.sum())

    def average_precision(self):
        """Return the area under precision over recall, NaN where nothing moves."""
        _, precision, recall, _ = self.curve()
        if not np.isfinite(recall).all():
            return float('nan')
        gained = recall - np.append(recall[1:], 0.0)
        return float(np.nansum(precision * gained))


def _checked(mask, truth):
    """Return both as bool."""
    if np.shape(mask) != np.shape(truth):
        raise ConfigurationError(f'a motion mask of shape {np.shape(mask)} cannot be compared '
                                 f'with truth of shape {np.shape(truth)}; bring both to one size')
    return np.asarray(mask) != 0, np.asarray(truth) != 0
