# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Whether a verified pose is believed: evidence, weighed as frames left out of the map taught.

A logistic regression between poses that were right and poses that were wrong, with a threshold
for a stated share of wrong poses that pass.
"""

from dataclasses import astuple, dataclass
from typing import Tuple

import numpy as np

# The image is cut into so many cells along each side to tell how spread the points are.
CELLS = 4


@dataclass(frozen=True)
class Evidence:
    """
    What speaks for a pose found from points of the map.

    Attributes
    ----------
    first_inliers, first_share : float
        Points that agreed with the pose of the robust estimator, and their share of the matches.
    inliers, share : float
        The same of the matches near the refined pose.
    spread : float
        Share of the cells of the image that hold such points, 0..1.
    error : float
        Median error of these points, radians.
    disagreement : float
        Difference to the coarse pose over its standard deviation, the larger one of position and
        orientation.
    uncertainty : float
        Standard deviation of the solver, the larger one of position over depth and orientation,
        radians.

    """

    first_inliers: float
    first_share: float
    inliers: float
    share: float
    spread: float
    error: float
    disagreement: float
    uncertainty: float

    def numbers(self):
        """
        Return the evidence on scales that a straight line can cut.

        Returns
        -------
        np.ndarray
            Shape (8,).

        """
        return np.array([np.log1p(self.first_inliers), self.first_share, np.log1p(self.inliers),
                         self.share, self.spread, np.log(max(self.error, 1e-5)),
                         np.log1p(self.disagreement), np.log(max(self.uncertainty, 1e-5))])


@dataclass(frozen=True)
class Gate:
    """
    Weighs evidence.

    Attributes
    ----------
    usual : tuple of float
        Mean of the numbers of right poses.
    weights : tuple of float
        How much each number says, per unit.
    threshold : float
        What the weighed difference to the usual needs to be.
    smallest_inliers : float
        Fewer points are never believed.
    false_accept_rate : float
        Share of the wrong poses that pass by the fit.

    """

    usual: Tuple
    weights: Tuple
    threshold: float
    smallest_inliers: float
    false_accept_rate: float

    def problem(self):
        """
        Say what is wrong with these numbers.

        Returns
        -------
        str
            Half a sentence, empty if nothing is.

        """
        numbers = [*self.usual, *self.weights, *astuple(self)[2:]]
        if len(self.usual) != 8 or len(self.weights) != 8 or not np.isfinite(numbers).all():
            return f'its gate has the numbers {numbers}'
        return ''

    def score(self, evidence):
        """
        Return how much a pose is believed.

        Parameters
        ----------
        evidence : Evidence
            For it.

        Returns
        -------
        float
            0..1; from 0.5 on wrong poses pass at the stated rate.

        """
        if evidence.inliers < self.smallest_inliers:
            return 0.0
        weighed = self._contributions(evidence).sum() - self.threshold
        return float(1.0 / (1.0 + np.exp(np.clip(-weighed, -50.0, 50.0))))

    def reason(self, evidence):
        """
        Return what speaks most against a pose.

        Parameters
        ----------
        evidence : Evidence
            For it.

        Returns
        -------
        str
            Half a sentence.

        """
        usual = np.array(self.usual)
        sentences = (
            f'only {evidence.first_inliers:.0f} points of the map agree on a pose '
            f'(usual {np.expm1(usual[0]):.0f})',
            f'only {100 * evidence.first_share:.0f} % of the matches agree on a pose '
            f'(usual {100 * usual[1]:.0f} %)',
            f'only {evidence.inliers:.0f} points of the map fit (usual {np.expm1(usual[2]):.0f})',
            f'only {100 * evidence.share:.0f} % of the matches fit (usual {100 * usual[3]:.0f} %)',
            f'the points that fit fill {100 * evidence.spread:.0f} % of the image '
            f'(usual {100 * usual[4]:.0f} %)',
            f'points lie {np.degrees(evidence.error):.2f} deg off '
            f'(usual {np.degrees(np.exp(usual[5])):.2f})',
            f'it is {evidence.disagreement:.1f} standard deviations from the coarse pose '
            f'(usual {np.expm1(usual[6]):.1f})',
            f'the points that fit leave {np.degrees(evidence.uncertainty):.2f} deg open '
            f'(usual {np.degrees(np.exp(usual[7])):.2f})')
        if evidence.inliers < self.smallest_inliers:
            return sentences[2]
        return sentences[int(np.argmin(self._contributions(evidence)))]

    def _contributions(self, evidence):
        """Return what each number adds."""
        return np.array(self.weights) * (evidence.numbers() - np.array(self.usual))
