# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""How far to trust motions by corners, from a recording with true poses."""

import numpy as np

from geo_perception.datasets.frame import needed_camera
from geo_perception.errors import RecordingError
from geo_perception.evaluation.beside import read_ahead
from geo_perception.geometry.se3 import inverse_transform, make_transform
from geo_perception.inference.corner_uncertainty import fit_corner_calibration
from geo_perception.inference.hybrid_motion import HYBRID
from geo_perception.inference.motion_uncertainty import motion_errors, SMALLEST_SAMPLE
from geo_perception.progress import track


def calibrate_hybrid_motion(pipeline, sequence):
    """
    Fit how wrong motions by corners are.

    Parameters
    ----------
    pipeline : GeometryPipeline
        Fresh, with a scale.
    sequence : Sequence
        Neither for training nor for test, with poses.

    Returns
    -------
    dict of str to float
        Entries of the calibration in the model file, ``corner_motion_...``.

    Raises
    ------
    RecordingError
        When there are too few motions by corners with a known truth, or no intrinsics.

    """
    motions, true_motions, raw = [], [], []
    index = {int(stamp): i for i, stamp in enumerate(sequence.stamps)}
    for i, frame in track(read_ahead(sequence), 'Following corners', total=len(sequence)):
        camera = needed_camera(frame, 'there is no odometry')
        result = pipeline(frame.image, camera, frame.stamp)
        odometry, scale = result.odometry, result.scale.metres_per_unit
        if odometry is None or odometry.state != HYBRID or odometry.standing or scale is None:
            continue
        before = index.get(frame.stamp - round(1e9 * odometry.interval))
        if before is None:
            continue
        motions.append(make_transform(odometry.motion[:3, :3], odometry.motion[:3, 3] / scale))
        true = inverse_transform(sequence.poses[before]) @ sequence.poses[i]
        true_motions.append(make_transform(true[:3, :3], true[:3, 3] / scale))
        raw.append(pipeline.corner_covariance)
    motions, true_motions = (np.reshape(T, (-1, 4, 4)) for T in (motions, true_motions))
    known = np.isfinite(true_motions).all((1, 2))
    if known.sum() < SMALLEST_SAMPLE:
        raise RecordingError(f'only {known.sum()} motions by corners have a known truth; a '
                             f'calibration takes {SMALLEST_SAMPLE} or more')
    return fit_corner_calibration(
        motion_errors(motions[known], true_motions[known], 1.0), motions[known],
        np.array(raw)[known]).entries()
