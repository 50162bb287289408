# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What of predicted depth is no surface, marked before a cloud is made (monodepth.md 18.1)."""

from dataclasses import dataclass

import numpy as np

from geo_perception.inference.stereo_depth import RAMP_FROM


@dataclass(frozen=True)
class CleaningOptions:
    """
    What is left out.

    Attributes
    ----------
    nearest, farthest : float
        Metres: nearer is -inf, farther is +inf (REP 117).
    edge : float
        Relative jump of depth to a neighbour beyond which a pixel hangs between two surfaces and
        is unknown; 0 keeps all.
    least_confidence : float
        Below it depth is unknown.
    left_border : bool
        Whether the left border, which only one eye saw in training, is unknown; for depth
        without post-processing.

    """

    nearest: float = 0.0
    farthest: float = 80.0
    edge: float = 0.0
    least_confidence: float = 0.0
    left_border: bool = False


def clean_depth(estimate, options):
    """
    Return depth as it may be published.

    Parameters
    ----------
    estimate : StereoDepthEstimate
        In metres.
    options : CleaningOptions
        What is left out.

    Returns
    -------
    np.ndarray
        float32, metres, NaN unknown, -inf nearer and +inf farther than the limits, same shape.

    """
    depth, result = estimate.depth, estimate.depth.copy()
    result[depth > options.farthest] = np.inf
    result[depth < options.nearest] = -np.inf
    if options.edge > 0:
        for axis in (0, 1):
            first, second = (np.take(depth, range(*ends), axis) for ends in (
                (0, depth.shape[axis] - 1), (1, depth.shape[axis])))
            jump = np.abs(first - second) > options.edge * np.minimum(first, second)
            before = np.zeros(depth.shape, bool)
            after = np.zeros(depth.shape, bool)
            if axis == 0:
                before[:-1], after[1:] = jump, jump
            else:
                before[:, :-1], after[:, 1:] = jump, jump
            result[before | after] = np.nan
    if options.least_confidence > 0:
        result[estimate.confidence < options.least_confidence] = np.nan
    if options.left_border:
        result[:, :round(RAMP_FROM * depth.shape[1])] = np.nan
    return result
