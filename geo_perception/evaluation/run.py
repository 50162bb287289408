# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Offline evaluation: a recording through the same pipeline object that the node runs."""

from dataclasses import replace
import time

import numpy as np

from geo_perception.datasets.readable import readable_frames
from geo_perception.evaluation.beside import Beside
from geo_perception.evaluation.relocalization import nearest_poses
from geo_perception.evaluation.relocalization_result import RelocalizationResult
from geo_perception.progress import track


def evaluate_relocalizer(relocalizer, sequence):
    """
    Relocalize every frame of a recording.

    Parameters
    ----------
    relocalizer : Relocalizer
        The pipeline.
    sequence : Sequence
        Frames, with or without poses; the world of its poses is that of the training labels.

    Returns
    -------
    RelocalizationResult
        Refused frames keep their estimate; those that cannot be read are not processed.
        ``delay_ms`` is the time of the pipeline alone. With a place memory ``coarse`` is what the
        network said, whose delay is not known apart.

    """
    result = unanswered_result(sequence, relocalizer.T_map_world, relocalizer.world_frame,
                               mode='offline')
    retrieval = relocalizer.retrieval
    T_retrieval = None if retrieval is None else np.full((len(sequence), 4, 4), np.nan)

    def look_beside(i, frame):
        result.moments.take(i, frame)
        if retrieval is not None:
            T_retrieval[i] = retrieval(frame.image)

    with Beside() as beside:
        for i, frame in track(beside.read_ahead(sequence), 'Relocalizing', total=len(sequence)):
            beside.do(look_beside, i, frame)
            started = time.perf_counter()
            fix = relocalizer(frame.image, frame.camera)
            result.delay_ms[i] = 1e3 * (time.perf_counter() - started)
            result.names[i] = frame.name
            _enter(result, i, fix)
            if fix.coarse is not None:
                if result.coarse is None:
                    result = replace(result, coarse=unanswered_result(
                        sequence, relocalizer.T_map_world, relocalizer.world_frame,
                        mode='offline'))
                _enter(result.coarse, i, fix.coarse)
    return _beside_baselines(result, retrieval, T_retrieval)


def _enter(result, i, fix):
    """Write down the answer for one frame."""
    result.T_estimate[i], result.covariance[i] = fix.T_world_camera, fix.covariance
    result.score[i], result.accepted[i] = fix.score, fix.accepted
    result.reasons[i] = fix.reason
    result.processed[i] = True


def unanswered_result(sequence, T_map_world, world_frame, mode):
    """
    Return the result of a run that has not begun.

    Parameters
    ----------
    sequence : Sequence
        Frames to come.
    T_map_world : np.ndarray
        From the world of the recorded poses to the frame that answers are in, 4x4.
    world_frame : str
        Name of the frame that answers are in.
    mode : str
        How the frames will be fed.

    Returns
    -------
    RelocalizationResult

    """
    poses = sequence.poses
    return RelocalizationResult.unanswered(
        sequence.stamps, [''] * len(sequence), None if poses is None else T_map_world @ poses,
        world_frame=world_frame, mode=mode)


def with_baselines(result, sequence, retrieval):
    """
    Return the result together with what retrieval would have answered.

    Parameters
    ----------
    result : RelocalizationResult
        Of this sequence.
    sequence : Sequence
        Its frames.
    retrieval : Retrieval or None
        The baseline; None where the training images are unknown.

    Returns
    -------
    RelocalizationResult

    """
    if retrieval is None:
        return result
    T_retrieval = np.full((len(sequence), 4, 4), np.nan)
    for i, frame in track(readable_frames(sequence), 'Retrieving', total=len(sequence)):
        T_retrieval[i] = retrieval(frame.image)
    return _beside_baselines(result, retrieval, T_retrieval)


def _beside_baselines(result, retrieval, T_retrieval):
    if retrieval is None:
        return result
    baselines = {'T_retrieval': T_retrieval,
                 'T_nearest': nearest_poses(retrieval.poses, result.T_truth)}
    coarse = None if result.coarse is None else replace(result.coarse, **baselines)
    return replace(result, coarse=coarse, **baselines)
