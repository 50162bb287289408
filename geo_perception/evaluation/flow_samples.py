# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A few pictures of flow and of what moves, kept as it comes."""

from dataclasses import dataclass

import cv2
import numpy as np

from geo_perception.evaluation.flow_scores import seen_by
from geo_perception.inference.flow import FlowField

# Of a recording; in each the pictures with most and with least of what moves are kept.
PARTS = 12
# In the report; of those with least one.
SHOWN = 4


@dataclass(frozen=True)
class FlowSample:
    """
    Pictures of one frame, at the size of the network.

    Attributes
    ----------
    index : int
        Of the frame.
    image : np.ndarray
        RGB uint8, shape (h, w, 3).
    found : FlowField
        What was said.
    flow : np.ndarray
        True flow, pixels of this size, NaN where unknown, shape (h, w, 2).
    moving : np.ndarray
        True mask, zero where nobody says what moves, shape (h, w).
    share : float
        Of the pixels that truly move, 0..1.

    """

    index: int
    image: np.ndarray
    found: FlowField
    flow: np.ndarray
    moving: np.ndarray
    share: float


def score_flow(recording, index, before, frame, found, camera):
    """
    Compare the flow of a frame to the one before with the truth, and maybe keep its pictures.

    Parameters
    ----------
    recording : GeometryRecording
        Filled in; with flow.
    index : int
        Of the frame.
    before, frame : Frame
        Neighbours in the recording.
    found : FlowField
        What was said of the frame.
    camera : Camera
        Of the pixels of that.

    """
    flow = recording.flow.add_newest(index, found, camera, before, frame)
    keep_flow_sample(recording.flow_samples, len(recording), index, frame, found, camera, flow)


def keep_flow_sample(samples, count, index, frame, found, camera, flow):
    """
    Keep the pictures of a frame where they tell more than those kept already.

    Parameters
    ----------
    samples : list of FlowSample
        Changed.
    count : int
        Frames of the recording.
    index : int
        Of the frame.
    frame : Frame
        With its camera.
    found : FlowField
        What was said.
    camera : Camera
        Of the pixels of that.
    flow : np.ndarray
        True flow at the pixels of the frame.

    """
    share = 0.0 if frame.motion_mask is None else float((frame.motion_mask != 0).mean())
    part = [sample for sample in samples if _part(sample.index, count) == _part(index, count)]
    if part and min(s.share for s in part) <= share <= max(s.share for s in part):
        return
    moving = np.zeros(frame.image.shape[:2], np.uint8) if frame.motion_mask is None else \
        frame.motion_mask
    whole = frame.camera
    factors = np.diag(camera.K)[:2] / np.diag(whole.resized(*flow.shape[1::-1]).K)[:2]
    sample = FlowSample(
        index, seen_by(camera, whole, frame.image, cv2.INTER_LINEAR), found,
        seen_by(camera, whole, flow) * factors.astype(np.float32),
        seen_by(camera, whole, moving), share)
    kept = sorted([*part, sample], key=lambda s: s.share)
    samples[:] = sorted([s for s in samples if s not in part] + kept[:1] + kept[1:][-1:],
                        key=lambda s: s.index)


def chosen_flow_samples(samples):
    """
    Return the pictures for the report.

    Parameters
    ----------
    samples : list of FlowSample
        Kept during the run.

    Returns
    -------
    list of FlowSample
        Those with most of what moves, and the one with least, in order of time.

    """
    by_share = sorted(samples, key=lambda s: s.share)
    chosen = by_share[1 - SHOWN:] + [s for s in by_share[:1] if len(by_share) >= SHOWN]
    return sorted(chosen, key=lambda s: s.index)


def _part(index, count):
    return index * PARTS // count
