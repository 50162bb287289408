# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Flow and what moves compared with the truth, image by image: the same offline and live."""

from dataclasses import dataclass, field
from itertools import islice
from typing import Dict

import cv2
import numpy as np

from geo_perception.datasets.readable import readable_frames
from geo_perception.evaluation.flow import compare_flow, flow_at_truth, FlowScore
from geo_perception.evaluation.motion_segmentation import MotionCounts, ScoreCurve
from geo_perception.geometry.flow_inverse import inverse_flow

# Of each image; shares of what moves are 0..1.
COLUMNS = ('flow_epe_px', 'flow_fl_percent', 'rigid_epe_px', 'rigid_fl_percent', 'motion_iou',
           'motion_precision', 'motion_recall', 'motion_false_alarm_rate')


@dataclass
class FlowScores:
    """
    Errors of many images.

    Attributes
    ----------
    scores : dict of str to FlowScore
        ``flow``, ``rigid`` (of a scene that stands still), ``network`` (before it is refined, not
        of live recordings), and perhaps other methods.
    motion : MotionCounts
        Of the masks, where it is known what moves.
    curve : ScoreCurve
        Of the scores.
    masks : int
        Images of which it is known what moves.
    images : dict of int to dict of str to float
        `COLUMNS` of each image, by its index.

    """

    scores: Dict[str, FlowScore] = field(
        default_factory=lambda: {'flow': FlowScore(), 'rigid': FlowScore()})
    motion: MotionCounts = field(default_factory=MotionCounts)
    curve: ScoreCurve = field(default_factory=ScoreCurve)
    masks: int = 0
    images: Dict[int, Dict[str, float]] = field(default_factory=dict)

    def add(self, index, found, found_camera, camera, flow, moving, visible=None, **enlargement):
        """
        Compare one image.

        Parameters
        ----------
        index : int
            Of the image in its recording.
        found : FlowField
            What was said of it.
        found_camera : Camera
            Of the pixels of that, without distortion.
        camera : Camera
            Of the pixels of the truth.
        flow : np.ndarray
            True flow, pixels, NaN where unknown, shape (H, W, 2).
        moving : np.ndarray or None
            Not zero where the surface truly moves by itself, shape (H, W).
        visible : np.ndarray, optional
            Where the surface is seen in both images, bool, shape (H, W).
        **enlargement
            Of `geo_perception.evaluation.flow.enlarge_flow`.

        """
        columns = self.images[index] = {}
        for name, predicted in (('flow', found.flow), ('rigid', found.rigid),
                                ('network', found.network)):
            if predicted is None:
                continue
            predicted = flow_at_truth(predicted, found_camera, camera, flow.shape[:2],
                                      **enlargement)
            comparison = compare_flow(predicted, flow, visible)
            self.scores.setdefault(name, FlowScore()).images.append(comparison)
            columns[f'{name}_epe_px'] = comparison.total.epe
            columns[f'{name}_fl_percent'] = 100 * comparison.total.outliers
        if moving is None:
            return
        # At the pixels of the network: there it was decided.
        truth = seen_by(found_camera, camera, moving)
        counts = MotionCounts()
        counts.add(found.moving, truth)
        self.motion.include(counts)
        columns.update({f'motion_{name}': value for name, value in counts.summary().items()})
        self.curve.add(found.score, truth)
        self.masks += 1

    def add_newest(self, index, found, found_camera, before, frame):
        """
        Compare the newest image, whose flow leads back, as a node publishes it.

        The truth is the flow of the frame before turned round: it is known of what is seen in
        both images.

        Parameters
        ----------
        index, found, found_camera
            See `add`.
        before, frame : Frame
            Neighbours in a recording, the latter the newest one.

        Returns
        -------
        np.ndarray
            True flow, see `geo_perception.geometry.flow_inverse.inverse_flow`.

        """
        flow = flow_back(before)
        self.add(index, found, found_camera, frame.camera, flow, frame.motion_mask)
        return flow

    def flow_summary(self):
        """
        Return the figures of flow, see `geo_perception.evaluation.flow.FlowScore.summary`.

        Returns
        -------
        dict
            Those of full flow, and dictionaries of the others by name.

        """
        return {**self.scores['flow'].summary(),
                **{name: score.summary() for name, score in self.scores.items()
                   if name != 'flow'}}

    def table(self, n):
        """
        Return the per-image table.

        Parameters
        ----------
        n : int
            Images of the recording.

        Returns
        -------
        dict of str to np.ndarray
            `COLUMNS`, shape (n,), NaN where there is nothing to tell a figure by.

        """
        return {name: np.array([self.images.get(i, {}).get(name, np.nan) for i in range(n)])
                for name in COLUMNS}

    def motion_summary(self):
        """
        Return the figures of what moves.

        Returns
        -------
        dict
            See `geo_perception.evaluation.motion_segmentation`; None where there is nothing to
            tell a figure by.

        """
        values = {**self.motion.summary(), 'average_precision': self.curve.average_precision()}
        return {**{name: value if np.isfinite(value) else None for name, value in values.items()},
                'images': self.masks}


def has_flow_truth(sequence):
    """
    Tell whether flow or what moves can be compared, by the first frames.

    Parameters
    ----------
    sequence : Sequence
        A recording.

    Returns
    -------
    bool

    """
    first = [frame for _, frame in islice(readable_frames(sequence), 3)]
    return any((frame.flow is not None or frame.motion_mask is not None)
               # True flow is of the pixels as they were recorded, ours of undistorted ones.
               and frame.camera is not None and not frame.camera.distorts
               for frame in first)


def flow_back(frame):
    """
    Return the true flow from the next frame of a recording to this one.

    Parameters
    ----------
    frame : Frame
        The earlier one.

    Returns
    -------
    np.ndarray
        At the pixels of the next image, shape (H, W, 2), NaN where unknown.

    """
    if frame.flow is None:
        return np.full((*frame.image.shape[:2], 2), np.nan, np.float32)
    same_size = frame.depth is not None and frame.depth.shape == frame.flow.shape[:2]
    return inverse_flow(frame.flow, frame.depth if same_size else None)


def seen_by(camera, whole, array, interpolation=cv2.INTER_NEAREST):
    """
    Return an array at the pixels of a camera that sees a part of the image.

    Parameters
    ----------
    camera, whole : Camera
        Of the result, and of the image that the array is of, at any size.
    array : np.ndarray
        Shape (H, W) or (H, W, C).
    interpolation : int
        OpenCV's.

    Returns
    -------
    np.ndarray

    """
    whole = whole.resized(array.shape[1], array.shape[0])
    scale = np.diag(whole.K)[:2] / np.diag(camera.K)[:2]
    offset = whole.K[:2, 2] - scale * camera.K[:2, 2]
    x, y = (np.arange(n) * s + o for n, s, o in zip((camera.width, camera.height), scale, offset))
    x, y = (n.astype(np.float32) for n in np.meshgrid(x, y))
    return cv2.remap(array, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE)
