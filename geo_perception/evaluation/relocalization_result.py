# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What a relocalizer answered on each frame of a recording, beside the truth."""

from dataclasses import dataclass, field
from typing import Optional

import numpy as np

from geo_perception.evaluation.moments import Moments
from geo_perception.evaluation.table import pose_columns, write_table
from geo_perception.geometry import se3


def pose_errors(T_estimate, T_truth):
    """
    Return position and orientation errors of poses.

    Parameters
    ----------
    T_estimate, T_truth : np.ndarray
        ``T_world_camera``, shapes (..., 4, 4) that broadcast; NaN where unknown.

    Returns
    -------
    position : np.ndarray
        Metres, shape (...); NaN where either pose is unknown.
    orientation : np.ndarray
        Angle between the rotations, degrees in [0, 180], shape (...), NaN likewise
        (posenet.md section 3).

    """
    T_estimate, T_truth = np.broadcast_arrays(np.asarray(T_estimate, float),
                                              np.asarray(T_truth, float))
    position = np.linalg.norm(T_estimate[..., :3, 3] - T_truth[..., :3, 3], axis=-1)
    orientation = np.degrees(se3.rotation_angle(T_estimate[..., :3, :3], T_truth[..., :3, :3]))
    known = np.isfinite(T_estimate).all((-2, -1)) & np.isfinite(T_truth).all((-2, -1))
    return np.where(known, position, np.nan), np.where(known, orientation, np.nan)


@dataclass(frozen=True)
class RelocalizationResult:
    """
    What a relocalizer answered on each frame of a recording, beside the truth.

    Attributes
    ----------
    stamps : np.ndarray
        Nanoseconds, shape (N,).
    names : list of str
        Where each frame came from.
    T_truth : np.ndarray
        ``T_world_camera`` of the recording, shape (N, 4, 4), NaN where unknown.
    T_estimate : np.ndarray
        ``T_world_camera`` answered, shape (N, 4, 4), NaN where there is none.
    covariance : np.ndarray
        Of the answer, order (x, y, z, rot X, rot Y, rot Z), shape (N, 6, 6), NaN likewise.
    processed : np.ndarray
        Bool, shape (N,): the pipeline saw the frame; False for frames dropped on the way.
    accepted : np.ndarray
        Bool, shape (N,): the answer passed the gate.
    score : np.ndarray
        Confidence 0..1, shape (N,), NaN where unknown.
    reasons : list of str
        Why the gate refused, empty where it did not.
    delay_ms : np.ndarray
        Milliseconds from handing over the image to having the answer, shape (N,), NaN likewise.
    T_retrieval : np.ndarray, optional
        What the retrieval baseline answered, shape (N, 4, 4).
    T_nearest : np.ndarray, optional
        Nearest training pose to the truth, shape (N, 4, 4).
    coarse : RelocalizationResult, optional
        What the network alone answered, where a place memory was asked as well.
    world_frame : str
        Name of the frame of all poses.
    mode : str
        How the frames were fed, for people: ``offline``, ``live replay, lock step`` ...
    moments : Moments
        Small pictures over time.

    """

    stamps: np.ndarray
    names: list
    T_truth: np.ndarray
    T_estimate: np.ndarray
    covariance: np.ndarray
    processed: np.ndarray
    accepted: np.ndarray
    score: np.ndarray
    reasons: list
    delay_ms: np.ndarray
    T_retrieval: Optional[np.ndarray] = None
    T_nearest: Optional[np.ndarray] = None
    coarse: Optional['RelocalizationResult'] = None
    world_frame: str = ''
    mode: str = ''
    moments: Moments = field(default_factory=Moments)

    @classmethod
    def unanswered(cls, stamps, names, T_truth=None, **others):
        """
        Return a result that is still to be filled in: no frame processed yet.

        Parameters
        ----------
        stamps : np.ndarray
            Nanoseconds, shape (N,).
        names : list of str
            Where each frame came from.
        T_truth : np.ndarray, optional
            Shape (N, 4, 4).
        **others
            Further attributes.

        Returns
        -------
        RelocalizationResult

        """
        n = len(stamps)
        unknown = np.full((n, 4, 4), np.nan)
        return cls(
            stamps=np.asarray(stamps, np.int64), names=list(names),
            T_truth=unknown if T_truth is None else np.array(T_truth, float),
            moments=Moments.of(n),
            T_estimate=unknown.copy(), covariance=np.full((n, 6, 6), np.nan),
            processed=np.zeros(n, bool), accepted=np.zeros(n, bool),
            score=np.full(n, np.nan), reasons=[''] * n, delay_ms=np.full(n, np.nan), **others)

    def __len__(self):
        """Return the number of frames."""
        return len(self.stamps)

    def errors(self):
        """
        Return position (m) and orientation (deg) errors of all estimates, refused ones too.

        Returns
        -------
        position, orientation : np.ndarray
            Shape (N,), NaN where there is no estimate or no truth.

        """
        return pose_errors(self.T_estimate, self.T_truth)

    def table(self):
        """
        Return the per-frame table.

        Returns
        -------
        dict
            Column name (with unit) to a list or array of N values. Quaternions (w, x, y, z).

        """
        position, orientation = self.errors()
        columns = {'stamp_ns': self.stamps, 'name': self.names,
                   'processed': self.processed.astype(int),
                   'accepted': self.accepted.astype(int), 'score': self.score,
                   'reason': self.reasons,
                   'position_error_m': position, 'orientation_error_deg': orientation,
                   'position_sigma_m': _sigma(self.covariance[:, :3, :3]),
                   'orientation_sigma_deg': np.degrees(_sigma(self.covariance[:, 3:, 3:])),
                   'delay_ms': self.delay_ms}
        columns.update(pose_columns('', self.T_estimate))
        columns.update(pose_columns('true_', self.T_truth))
        if self.T_retrieval is not None:
            position, orientation = pose_errors(self.T_retrieval, self.T_truth)
            columns.update({'retrieval_position_error_m': position,
                            'retrieval_orientation_error_deg': orientation})
        if self.coarse is not None:
            position, orientation = self.coarse.errors()
            columns.update({'coarse_accepted': self.coarse.accepted.astype(int),
                            'coarse_position_error_m': position,
                            'coarse_orientation_error_deg': orientation})
            columns.update(pose_columns('coarse_', self.coarse.T_estimate))
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


def _sigma(covariance):
    """Return the root of the expected squared error, from 3x3 blocks."""
    return np.sqrt(np.trace(covariance, axis1=1, axis2=2))
