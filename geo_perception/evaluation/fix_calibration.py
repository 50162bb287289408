# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""How far to trust verified poses, from a second recording of the place with true poses."""

from dataclasses import replace

import numpy as np

from geo_perception.errors import RecordingError
from geo_perception.evaluation.relocalization import pose_differences
from geo_perception.evaluation.run import evaluate_relocalizer
from geo_perception.geometry.se3 import inverse_transform
from geo_perception.inference.fix_covariance import fit_fix_calibration, UNCALIBRATED
from geo_perception.inference.verified import VerifiedRelocalizer

SMALLEST_SAMPLE = 30


def calibrate_fixes(relocalizer, sequence):
    """
    Fit how wrong verified poses are.

    Parameters
    ----------
    relocalizer : VerifiedRelocalizer
        Its gate stays as it is.
    sequence : Sequence
        Neither of the map nor for test, with poses in the world of the map.

    Returns
    -------
    FixCalibration

    Raises
    ------
    RecordingError
        When too few frames are answered and have a known pose, or the poses are in another
        frame than the map.

    """
    place = replace(relocalizer.place, calibration=UNCALIBRATED)
    result = evaluate_relocalizer(VerifiedRelocalizer(relocalizer.coarse, place), sequence)
    usable = result.accepted & np.isfinite(result.T_truth).all((1, 2))
    if usable.sum() < SMALLEST_SAMPLE:
        raise RecordingError(f'only {usable.sum()} of {len(sequence)} frames are answered and '
                             f'have a known pose; a calibration takes {SMALLEST_SAMPLE} or more')
    T = result.T_estimate[usable]
    place.refuse_other_frame(T, result.T_truth[usable])
    views = place.view_distances(inverse_transform(relocalizer.T_map_world) @ T).min(1)
    return fit_fix_calibration(pose_differences(T, result.T_truth[usable]),
                               result.covariance[usable], views)
