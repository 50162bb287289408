# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What is usual where nothing moves, measured on flow as the pipeline gives it."""

import numpy as np

from geo_perception.datasets.frame import needed_camera
from geo_perception.errors import RecordingError
from geo_perception.evaluation.beside import read_ahead
from geo_perception.evaluation.flow_scores import seen_by
from geo_perception.inference.motion_score import fit_motion_score
from geo_perception.progress import track

# Neighbouring pixels say the same.
PIXEL_STEP = 2


def calibrate_motion_score(pipeline, sequence):
    """
    Fit when something is said to move by itself, on both images of each pair of neighbours.

    Parameters
    ----------
    pipeline : GeometryPipeline
        With a flow network; scores are not carried along here.
    sequence : Sequence
        A recording that the model did not learn from, of which it is known what moves, or in
        which little does.

    Returns
    -------
    dict of str to float
        Entries of the calibration in the model file.

    Raises
    ------
    RecordingError
        When too little of the recording has flow, or it has no intrinsics.

    """
    pipeline.prepare_flow()
    pipeline.reset()
    lacks, parallaxes, truths, hears = [], [], [], []
    before = None
    for _, frame in track(read_ahead(sequence), 'Motion score', total=len(sequence)):
        camera = needed_camera(frame, 'there is no rigid flow')
        estimate = pipeline(frame.image, camera, frame.stamp, flow=True).flow
        if estimate is not None and estimate.earlier_stamp == before.stamp:
            for field, own in ((estimate.forward, before), (estimate.backward, frame)):
                moving = (np.full(field.valid.shape, np.nan) if own.motion_mask is None
                          else seen_by(estimate.camera, own.camera, own.motion_mask) != 0)
                parts = [field.flow - field.rigid, field.parallax, moving,
                         np.nan_to_num(field.score) > 0]
                valid = field.valid[::PIXEL_STEP, ::PIXEL_STEP]
                for kept, part in zip((lacks, parallaxes, truths, hears), parts):
                    kept.append(part[::PIXEL_STEP, ::PIXEL_STEP][valid])
            width = estimate.camera.width
        if estimate is not None or before is None:
            before = frame
    score = None
    if lacks:
        score = fit_motion_score(np.concatenate(lacks), np.concatenate(parallaxes), width,
                                 np.concatenate(truths), heard=np.concatenate(hears))
    if score is None:
        raise RecordingError(f'too little of the {len(sequence)} images has flow to learn from '
                             'what is usual where nothing moves; take a longer recording')
    return score.entries()
