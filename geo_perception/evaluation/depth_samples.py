# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Score depth as it comes, and keep a few pictures of it: the best, the worst, and usual ones."""

import cv2
import numpy as np

from geo_perception.evaluation.depth import compare_depth, depth_at_truth
from geo_perception.evaluation.geometry_result import DepthSample

# Of a recording; in each the best, the worst and the first picture are kept, so that memory does
# not grow and the pictures chosen at the end are of different places.
PARTS = 12
PICTURE_WIDTH = 416


def score_depth(recording, index, frame, estimate):
    """
    Compare the depth of a frame with the truth, keep its errors, and maybe its pictures.

    Parameters
    ----------
    recording : GeometryRecording
        Filled in.
    index : int
        Of the frame.
    frame : Frame
        With its camera; without depth nothing is done.
    estimate : DepthEstimate
        What the pipeline, or a node, said.

    """
    if frame.depth is None or frame.camera is None:
        return
    predicted = depth_at_truth(estimate, frame.camera, frame.depth.shape)
    comparison = compare_depth(predicted, frame.depth, estimate.metric, recording.depth.rules)
    recording.depth.put(index, comparison)
    error = comparison.errors_scaled[0]
    if not np.isfinite(error):
        return
    part = [sample for sample in recording.samples
            if _part(sample.index, len(recording)) == _part(index, len(recording))]
    errors = [sample.abs_rel for sample in part]
    if part and min(errors) <= error <= max(errors):
        return
    sample = _sample(index, frame, comparison.ratio * predicted, error)
    kept = [*part, sample]
    wanted = {min(s.index for s in kept), min(kept, key=lambda s: s.abs_rel).index,
              max(kept, key=lambda s: s.abs_rel).index}
    recording.samples[:] = sorted(
        [s for s in recording.samples if s not in part] + [s for s in kept if s.index in wanted],
        key=lambda s: s.index)


def chosen_samples(recording):
    """
    Return the pictures that show how good the depth is.

    Parameters
    ----------
    recording : GeometryRecording
        After the run.

    Returns
    -------
    list of (str, DepthSample)
        What each shows, with the sample: best, typical (nearest to the median error), worst.

    """
    errors = recording.depth.errors_scaled[:, 0]
    samples = sorted(recording.samples, key=lambda s: s.abs_rel)
    if not samples:
        return []
    median = np.nanmedian(errors)
    typical = sorted(samples, key=lambda s: abs(s.abs_rel - median))
    chosen, seen = [], set()
    for name, candidates, count in (('best', samples, 1), ('worst', samples[::-1], 2),
                                    ('typical', typical, 2)):
        for sample in candidates:
            if count and sample.index not in seen:
                seen.add(sample.index)
                chosen.append((name, sample))
                count -= 1
    order = {'best': 0, 'typical': 1, 'worst': 2}
    return sorted(chosen, key=lambda item: (order[item[0]], item[1].abs_rel))


def _part(index, n):
    return index * PARTS // n


def _sample(index, frame, predicted, error):
    height, width = frame.image.shape[:2]
    scale = min(1.0, PICTURE_WIDTH / width)
    size = round(width * scale), max(1, round(height * scale))
    image = cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA)
    return DepthSample(index, image, _shrunk(predicted, size), _shrunk(frame.depth, size), error)


def _shrunk(depth, size):
    """Return the nearest of the depths that fall on each pixel; a mean would fill gaps."""
    width, height = size
    nearest = np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))
    for axis, pixels in enumerate((height, width)):
        if pixels != nearest.shape[axis]:
            place = np.arange(nearest.shape[axis]) * pixels // nearest.shape[axis]
            places, first = np.unique(place, return_index=True)
            shrunk = np.fmin.reduceat(nearest, first, axis)
            nearest = np.full((height, width if axis else nearest.shape[1]), np.nan, np.float32)
            nearest[(slice(None), places) if axis else places] = shrunk
    return nearest.astype(np.float32, copy=False)
