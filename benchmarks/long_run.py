# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A run of an hour, made up: what the report has to bear without anybody driving so long."""

from dataclasses import replace

import numpy as np

from geo_perception.datasets.frame import Frame
from geo_perception.environment import describe_machine
from geo_perception.evaluation.geometry_result import DepthSample, GeometryRecording
from geo_perception.evaluation.moments import MOVING, STILL
from geo_perception.evaluation.relocalization_result import RelocalizationResult
from geo_perception.evaluation.run_record import ModelCard, Run
from geo_perception.evaluation.worst_frames import worst_frames
from geo_perception.geometry import se3

RATE = 30.0
_WIDTH, _HEIGHT = 640, 480


class Pictures:
    """
    Frames with as much in them as a camera's: clouds, edges and noise.

    Parameters
    ----------
    stamps : np.ndarray
        Nanoseconds.

    """

    def __init__(self, stamps):
        self.stamps = stamps
        rng = np.random.default_rng(0)
        self._clouds = np.kron(rng.integers(0, 255, (30, 40, 3)), np.ones((64, 64, 1))).astype(
            np.uint8)
        self._noise = rng.integers(0, 40, (_HEIGHT, _WIDTH, 3)).astype(np.uint8)

    def __len__(self):
        """Return the number of frames."""
        return len(self.stamps)

    def __getitem__(self, index):
        """Return a frame."""
        x, y = 37 * index % 1900, 17 * index % 1400
        image = self._clouds[y:y + _HEIGHT, x:x + _WIDTH] // 2 + self._noise
        return Frame(int(self.stamps[index]), image)


def long_run(minutes):
    """
    Return a run of both pipelines with fixes, refusals, drops, restarts, depth and masks.

    Parameters
    ----------
    minutes : float
        Of 30 images a second.

    Returns
    -------
    Run

    """
    rng = np.random.default_rng(1)
    n = round(60 * minutes * RATE)
    stamps = (np.arange(n) * (1e9 / RATE)).astype(np.int64)
    angle = np.arange(n) / RATE / 20
    T = se3.make_transform(
        se3.matrix_from_rotation_vector(np.outer(angle, [0, 0, 1])) @ se3.R_BODY_OPTICAL,
        np.stack([40 * np.sin(angle), 25 * np.sin(1.37 * angle), 1.5 + 0 * angle], 1))
    pictures = Pictures(stamps)
    result = _fixes(rng, stamps, T)
    worst = worst_frames(result, pictures)
    recording = _geometry(rng, stamps, T, pictures)
    card = ModelCard('made_up.safetensors', 'none', [('File', 'made up')])
    return Run(f'{minutes:g} minutes, made up', result, card, T[:2000:4], worst, recording, card,
               ['depth', 'odometry'], 'benchmarks/report.py', describe_machine())


def _fixes(rng, stamps, T):
    n = len(stamps)
    off = T.copy()
    off[:, :3, 3] += rng.normal(0, 0.05, (n, 3)) * rng.lognormal(0, 0.5, (n, 1))
    off[:, :3, :3] = se3.matrix_from_rotation_vector(rng.normal(0, 0.01, (n, 3))) @ off[:, :3, :3]
    processed = rng.random(n) > 0.02
    accepted = processed & (rng.random(n) > 0.05)
    retrieval = T.copy()
    retrieval[:, :3, 3] += rng.normal(0, 0.4, (n, 3))
    result = RelocalizationResult.unanswered(stamps, [f'/camera@{stamp}' for stamp in stamps], T,
                                             world_frame='map', mode='made up')
    return replace(
        result, T_estimate=off, covariance=np.tile(np.diag([4e-3] * 3 + [2e-4] * 3), (n, 1, 1)),
        processed=processed, accepted=accepted, score=rng.random(n),
        reasons=['' if ok else 'looks like no place in the map' for ok in accepted],
        delay_ms=rng.gamma(9, 4, n), T_retrieval=retrieval, T_nearest=retrieval)


def _geometry(rng, stamps, T, pictures):
    n = len(stamps)
    recording = GeometryRecording.unanswered(stamps, T, mode='made up', scale='As made up.')
    recording.names[:] = [f'/camera@{stamp}' for stamp in stamps]
    drift = np.cumsum(rng.normal(0, 2e-3, (n, 3)), 0)
    recording.T_odom_camera[:] = se3.inverse_transform(T[0]) @ T
    recording.T_odom_camera[:, :3, 3] += drift
    recording.motion_covariance[1:] = np.diag([4e-6] * 3 + [1e-6] * 3)
    recording.pose_covariance[:] = 4e-6 * np.arange(n)[:, None, None] * np.eye(6)
    recording.processed[:] = rng.random(n) > 0.01
    recording.metric[:] = True
    recording.metres_per_unit[:] = 1.1
    recording.delay_ms[:] = rng.gamma(12, 5, n)
    for i in range(0, n, 20_000):
        recording.resets[i] = 'no usable image for 2.00 s'
    depth = recording.depth
    depth.errors[:] = depth.errors_scaled[:] = rng.gamma(4, 0.03, depth.errors.shape)
    for array in (depth.ratio, depth.coverage, depth.flat_abs_rel):
        array[:] = rng.normal(1, 0.05, n).clip(0.5, 1)
    depth.distance_pixels[:] = 1000
    depth.distance_errors[:] = depth.distance_errors_scaled[:] = 100
    ramp = np.linspace(1, 20, _WIDTH // 2, dtype=np.float32)
    plane = np.tile(ramp, (_HEIGHT // 2, 1)) + rng.normal(0, 0.2, (_HEIGHT // 2, _WIDTH // 2))
    for i in range(0, n, recording.moments.stride):
        recording.moments.take(i, pictures[i])
    codes = [_coded(plane, i) for i in range(8)]
    state = np.full(plane.shape, STILL, np.uint8)
    state[60:140, 100:200] = MOVING
    recording.moments.taken[:] = [
        replace(moment, depth=codes[k % len(codes)], moving=np.roll(state, 5 * k, 1))
        for k, moment in enumerate(recording.moments.taken)]
    small = pictures[0].image[::2, ::2]
    recording.samples[:] = [DepthSample(i, small, plane, plane, 0.1 + 1e-4 * i)
                            for i in range(6)]
    return recording


def _coded(plane, shift):
    from geo_perception.evaluation.moments import coded_depth

    return coded_depth(np.roll(plane, 13 * shift, 1))
