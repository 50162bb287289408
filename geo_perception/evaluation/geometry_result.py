# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What the geometry pipeline answered on each frame of a recording, beside the truth."""

from dataclasses import dataclass, field
from typing import List, Optional

import numpy as np

from geo_perception.evaluation.depth import DepthRules, DISTANCES, METRICS
from geo_perception.evaluation.flow_samples import FlowSample
from geo_perception.evaluation.flow_scores import FlowScores
from geo_perception.evaluation.moments import Moments
from geo_perception.evaluation.table import pose_columns, write_table


@dataclass(frozen=True)
class DepthScores:
    """
    Errors of the depth of every frame; the depth itself is not kept.

    Attributes
    ----------
    errors, errors_scaled : np.ndarray
        `geo_perception.evaluation.depth.METRICS`, as it is and after median scaling, shape
        (N, 7), NaN where there is no truth (or, unscaled, no metre).
    ratio : np.ndarray
        Median true over median predicted depth, shape (N,).
    coverage : np.ndarray
        Share of the counting pixels that have a prediction, shape (N,).
    flat_abs_rel : np.ndarray
        ``abs_rel`` of a flat picture at the true median, shape (N,).
    distance_pixels, distance_errors, distance_errors_scaled : np.ndarray
        Pixels, and sums of their relative errors, by distance, shape (N, B).
    rules : DepthRules
        Which pixels counted.

    """

    errors: np.ndarray
    errors_scaled: np.ndarray
    ratio: np.ndarray
    coverage: np.ndarray
    flat_abs_rel: np.ndarray
    distance_pixels: np.ndarray
    distance_errors: np.ndarray
    distance_errors_scaled: np.ndarray
    rules: DepthRules

    @classmethod
    def unscored(cls, n, rules=DepthRules()):
        """
        Return scores that are still to be filled in.

        Parameters
        ----------
        n : int
            Frames.
        rules : DepthRules
            Which pixels will count.

        Returns
        -------
        DepthScores

        """
        bins, metrics = len(DISTANCES) - 1, len(METRICS)
        return cls(*np.full((2, n, metrics), np.nan), *np.full((3, n), np.nan),
                   *np.zeros((3, n, bins)), rules)

    def put(self, index, comparison):
        """
        Keep the errors of one frame.

        Parameters
        ----------
        index : int
            Of the frame.
        comparison : DepthComparison
            From `geo_perception.evaluation.depth.compare_depth`.

        """
        for name, value in vars(comparison).items():
            getattr(self, name)[index] = value


@dataclass(frozen=True)
class DepthSample:
    """
    Pictures of one frame.

    Attributes
    ----------
    index : int
        Of the frame.
    image : np.ndarray
        RGB uint8, shape (h, w, 3), what the depth belongs to.
    predicted : np.ndarray
        Metres, brought to the true scale by the median, shape (h, w), NaN where unknown.
    truth : np.ndarray
        Metres, shape (h, w), NaN where unknown.
    abs_rel : float
        Of the frame, after median scaling.

    """

    index: int
    image: np.ndarray
    predicted: np.ndarray
    truth: np.ndarray
    abs_rel: float


@dataclass(frozen=True)
class GeometryRecording:
    """
    What a run of the geometry pipeline produced, offline or live; arrays are filled in place.

    Attributes
    ----------
    stamps : np.ndarray
        Nanoseconds, shape (N,).
    names : list of str
        Where each frame came from.
    T_truth : np.ndarray
        ``T_world_camera`` of the recording, shape (N, 4, 4), NaN where unknown.
    T_odom_camera : np.ndarray
        Pose of the optical frame in the odometry frame as a user of the odometry sees it: it
        does not jump back when the pipeline starts anew, but goes on from the last pose. Shape
        (N, 4, 4), NaN where there is none.
    motion_covariance : np.ndarray
        Stated for the motion from the frame answered before, axes of that camera, order (x, y, z,
        rot X, rot Y, rot Z), SI units squared, shape (N, 6, 6), NaN where there is none.
    pose_covariance : np.ndarray
        Stated for ``T_odom_camera`` since the last start, axes of the odometry frame, likewise;
        NaN at the start itself.
    processed : np.ndarray
        Bool, shape (N,): the pipeline saw the frame; False for frames dropped on the way.
    metric : np.ndarray
        Bool, shape (N,): what was answered is in metres.
    metres_per_unit : np.ndarray
        Scale in use, shape (N,), NaN where unknown.
    resets : list of str
        Why the pipeline started anew at a frame, empty where it did not.
    states : list of str
        What the motion at each frame is of, see `OdometryEstimate.state`; empty where there is
        none, or it was not heard.
    delay_ms : np.ndarray
        Milliseconds from handing over the image to having the answer, shape (N,), NaN likewise.
    depth : DepthScores
        Errors of the depth of each frame.
    scale : str
        Where the scale came from, one sentence.
    mode : str
        How the frames were fed, for people: ``offline``, ``live replay, lock step`` ...
    samples : list of DepthSample
        A few pictures.
    baselines : dict
        Name to poses like ``T_odom_camera``, of other systems on the same frames.
    snippets : np.ndarray or None
        ``T_first_frame`` of the snippet that starts at each frame, as the ego-motion network
        predicts it at once, units of the network, shape (N, L, 4, 4), NaN where there is none.
        L is 0 where the model has no such network; None where nobody asked.
    flow : FlowScores or None
        Errors of the flow of each image to the one before, and of what moves; None where there
        is none, or nothing to compare it with.
    flow_samples : list of FlowSample
        A few pictures of that.
    moments : Moments
        Small pictures over time.

    """

    stamps: np.ndarray
    names: List[str]
    T_truth: np.ndarray
    T_odom_camera: np.ndarray
    motion_covariance: np.ndarray
    pose_covariance: np.ndarray
    processed: np.ndarray
    metric: np.ndarray
    metres_per_unit: np.ndarray
    resets: List[str]
    delay_ms: np.ndarray
    depth: DepthScores
    states: List[str] = field(default_factory=list)
    scale: str = ''
    mode: str = ''
    samples: List[DepthSample] = field(default_factory=list)
    baselines: dict = field(default_factory=dict)
    snippets: Optional[np.ndarray] = None
    flow: Optional[FlowScores] = None
    flow_samples: List[FlowSample] = field(default_factory=list)
    moments: Moments = field(default_factory=Moments)

    @classmethod
    def unanswered(cls, stamps, T_truth=None, rules=DepthRules(), **others):
        """
        Return a recording that is still to be filled in: no frame processed yet.

        Parameters
        ----------
        stamps : np.ndarray
            Nanoseconds, shape (N,).
        T_truth : np.ndarray, optional
            Shape (N, 4, 4).
        rules : DepthRules
            Which pixels of the depth will count.
        **others
            Further attributes.

        Returns
        -------
        GeometryRecording

        """
        n = len(stamps)
        unknown = np.full((n, 4, 4), np.nan)
        return cls(
            stamps=np.asarray(stamps, np.int64), names=[''] * n,
            T_truth=unknown if T_truth is None else np.array(T_truth, float),
            T_odom_camera=unknown.copy(), motion_covariance=np.full((n, 6, 6), np.nan),
            pose_covariance=np.full((n, 6, 6), np.nan), processed=np.zeros(n, bool),
            metric=np.zeros(n, bool), metres_per_unit=np.full(n, np.nan), resets=[''] * n,
            delay_ms=np.full(n, np.nan), depth=DepthScores.unscored(n, rules), states=[''] * n,
            moments=Moments.of(n), **others)

    def __len__(self):
        """Return the number of frames."""
        return len(self.stamps)

    def table(self):
        """
        Return the per-frame table.

        Returns
        -------
        dict
            Column name (with unit) to a list or array of N values. Quaternions (w, x, y, z).

        """
        columns = {'stamp_ns': self.stamps, 'name': self.names,
                   'processed': self.processed.astype(int), 'metric': self.metric.astype(int),
                   'metres_per_unit': self.metres_per_unit, 'reset': self.resets,
                   'tracking': self.states,
                   'delay_ms': self.delay_ms}
        for suffix, errors in (('', self.depth.errors), ('_median_scaled',
                                                         self.depth.errors_scaled)):
            columns.update({f'{name}{suffix}': errors[:, i] for i, name in enumerate(METRICS)})
        columns.update({'scale_ratio': self.depth.ratio, 'coverage': self.depth.coverage})
        if self.flow is not None:
            columns.update(self.flow.table(len(self)))
        columns.update(pose_columns('', self.T_odom_camera))
        columns.update(pose_columns('true_', self.T_truth))
        return columns

    def to_csv(self, path):
        """
        Write the per-frame table, unknown numbers as empty cells.

        Parameters
        ----------
        path : str or Path
            A file; its folder is made.

        """
        write_table(path, self.table())
