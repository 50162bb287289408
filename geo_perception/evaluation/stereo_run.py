# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Offline evaluation of depth from single images, and of its disparity (monodepth.md 13)."""

from dataclasses import dataclass, field, replace
import time
from typing import List

import numpy as np

from geo_perception.datasets.frame import needed_camera
from geo_perception.evaluation.beside import Beside
from geo_perception.evaluation.depth import depth_at_truth, DepthRules
from geo_perception.evaluation.depth_samples import score_depth
from geo_perception.evaluation.geometry_result import GeometryRecording
from geo_perception.geometry.block_matching import block_matching
from geo_perception.progress import track

# A disparity is wrong when it is off by this many pixels and by this part (KITTI 2015).
D1_PIXELS, D1_SHARE = 3.0, 0.05
# Parts of the width that block matching looks for.
LARGEST_MATCHED = 0.3


@dataclass
class DisparityScores:
    """
    Errors of disparity, a number an image.

    Attributes
    ----------
    d1_percent, off_px : list of float
        Share of wrong pixels, and mean error.
    coverage : list of float
        Share of the pixels with truth that have an answer.

    """

    d1_percent: List[float] = field(default_factory=list)
    off_px: List[float] = field(default_factory=list)
    coverage: List[float] = field(default_factory=list)

    def add(self, predicted, truth):
        """
        Take in one image.

        Parameters
        ----------
        predicted, truth : np.ndarray
            Pixels, shape (H, W), NaN where unknown.

        """
        known = np.isfinite(truth)
        both = known & np.isfinite(predicted)
        if not both.any():
            return
        error = np.abs(predicted[both] - truth[both])
        self.d1_percent.append(100 * float(d1_wrong(error, truth[both]).mean()))
        self.off_px.append(float(error.mean()))
        self.coverage.append(float(both.sum() / known.sum()))

    def summary(self):
        """
        Return means over images.

        Returns
        -------
        dict
            None where there is nothing to count.

        """
        return {'images': len(self.d1_percent), 'd1_all_percent': _mean(self.d1_percent),
                'off_px': _mean(self.off_px), 'coverage': _mean(self.coverage)}


def d1_wrong(error, truth):
    """
    Return which disparities count as wrong, by KITTI's rule with ``at least`` for ``more than``.

    Parameters
    ----------
    error, truth : np.ndarray
        Pixels, same shape.

    Returns
    -------
    np.ndarray
        Bool.

    """
    return (error >= D1_PIXELS) & (error >= D1_SHARE * truth)


def run_stereo_depth(pipeline, sequence, rules=DepthRules(), matching=True, split=''):
    """
    Send every image of a recording through the pipeline.

    Parameters
    ----------
    pipeline : StereoDepthPipeline
        What is measured; it sees the left image alone.
    sequence : Sequence
        Frames with intrinsics and true depth; those with a right image and a baseline have a true
        disparity, too.
    rules : DepthRules
        Which pixels count.
    matching : bool
        Whether to measure OpenCV's semi-global matching beside it, which sees both eyes.
    split : str
        The published test split that the recording is, empty for others. As published, depth is
        made of disparity with the baseline of the split, not with that of training.

    Returns
    -------
    recording : GeometryRecording
        Depth only; ``delay_ms`` is the time of the pipeline alone.
    disparity : dict of str to DisparityScores
        ``network``, and ``sgbm`` where there are pairs.
    warnings : list of str
        What the pipeline said, each once.

    Raises
    ------
    RecordingError
        When a frame has no intrinsics.

    """
    recording = GeometryRecording.unanswered(
        sequence.stamps, None, rules,
        mode=f'offline, split {split} as published' if split else 'offline',
        scale=f'The scale is that of the stereo camera of training, whose baseline was '
              f'{pipeline.baseline:.3f} m'
              + (', brought to the baseline of the split.' if split else '.'))
    scores = {'network': DisparityScores()}
    warnings: List[str] = []

    def look_beside(i, frame, estimate):
        score_depth(recording, i, frame, estimate)
        recording.moments.take(i, frame, estimate)
        if frame.depth is not None and frame.right is not None and frame.baseline:
            _score_disparity(scores, frame, estimate, rules, matching)

    with Beside() as beside:
        for i, frame in track(beside.read_ahead(sequence), 'Looking', total=len(sequence)):
            recording.names[i] = frame.name
            needed_camera(frame, 'depth cannot be compared')
            started = time.perf_counter()
            estimate = pipeline(frame.image, frame.camera)
            recording.delay_ms[i] = 1e3 * (time.perf_counter() - started)
            if split:
                estimate = replace(estimate, depth=estimate.depth * np.float32(
                    frame.baseline / pipeline.baseline))
            recording.processed[i] = recording.metric[i] = True
            recording.metres_per_unit[i] = 1.0
            if estimate.warning and estimate.warning not in warnings:
                warnings.append(estimate.warning)
            beside.do(look_beside, i, frame, estimate)
    return recording, scores, warnings


def _score_disparity(scores, frame, estimate, rules, matching):
    """Compare disparity, pixels of the left image, of everything but what rules leave out."""
    height, width = frame.depth.shape
    reach = frame.camera.resized(width, height).K[0, 0] * abs(frame.baseline)
    truth = np.where(rules.scored(frame.depth), reach / frame.depth, np.nan)
    predicted = depth_at_truth(estimate, frame.camera, frame.depth.shape)
    scores['network'].add(reach / predicted, truth)
    if matching and frame.right.shape[:2] == (height, width):
        matched = block_matching(frame.image, frame.right, LARGEST_MATCHED * width)
        scores.setdefault('sgbm', DisparityScores()).add(matched, truth)


def _mean(values):
    return float(np.mean(values)) if values else None
