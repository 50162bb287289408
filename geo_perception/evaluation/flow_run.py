# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A geometry pipeline over pairs of images whose flow is known, or what moves in them."""

from dataclasses import dataclass, field, replace
import time
from typing import Dict, List, Optional

import numpy as np

from geo_perception.datasets.flow_pairs import RecordedPairs
from geo_perception.datasets.frame import needed_camera
from geo_perception.datasets.readable import readable_frames
from geo_perception.evaluation.classical_flow import METHODS
from geo_perception.evaluation.flow import compare_flow, FlowScore
from geo_perception.evaluation.flow_samples import score_flow
from geo_perception.evaluation.flow_scores import FlowScores
from geo_perception.evaluation.geometry_result import GeometryRecording
from geo_perception.evaluation.table import write_table
from geo_perception.progress import track


@dataclass
class FlowRun(FlowScores):
    """
    What was measured.

    Attributes
    ----------
    recording : GeometryRecording or None
        What the pipeline answered to each frame: there the later image of a pair is scored, whose
        flow leads back, as the node publishes it. None for pairs that are no recording.
    delays_ms : list of float
        Of both images of a pair, depth, motion, flow both ways and mask.
    reasons : dict of str to int
        Why pairs have no flow, or no mask, and how many.
    names : list of str
        Of all pairs.

    """

    recording: Optional[GeometryRecording] = None
    delays_ms: List[float] = field(default_factory=list)
    reasons: Dict[str, int] = field(default_factory=dict)
    names: List[str] = field(default_factory=list)

    @property
    def newest(self):
        """Scores of the later images."""
        return None if self.recording is None else self.recording.flow

    def flow_summary(self):
        """Return the figures of flow, with those of the newest images by themselves."""
        newest = {} if self.newest is None else {'newest': self.newest.flow_summary()}
        return {**super().flow_summary(), **self._run(), **newest}

    def motion_summary(self):
        """Return the figures of what moves, with those of the newest images by themselves."""
        newest = {} if self.newest is None else {'newest': self.newest.motion_summary()}
        return {**super().motion_summary(), **self._run(), **newest}

    def to_csv(self, path):
        """
        Write a table, one row a pair, unknown numbers as empty cells.

        Parameters
        ----------
        path : str or Path
            A file; its folder is made.

        """
        n = len(self.names)
        newest = {} if self.newest is None else self.newest.table(n + 1)
        write_table(path, {'name': self.names, **self.table(n), **{
            f'newest_{name}': values[1:] for name, values in newest.items()}})

    def _run(self):
        delays = np.array(self.delays_ms) if self.delays_ms else np.array([np.nan])
        low, high = np.quantile(delays, [0.5, 0.95])
        return {'pairs': len(self.names), 'pairs_processed': len(self.delays_ms),
                'delay_p50_ms': float(low), 'delay_p95_ms': float(high),
                'reasons': self.reasons}


def evaluate_flow(pipeline, pairs, baselines=True, **enlargement):
    """
    Run a pipeline over pairs.

    Frames of a recording go through it in order of time, as on the robot; other pairs by
    themselves.

    Parameters
    ----------
    pipeline : GeometryPipeline
        With a flow network.
    pairs : FlowPairs or RecordedPairs
        See `geo_perception.datasets.flow_pairs`.
    baselines : bool
        Whether OpenCV's flow is measured as well.
    **enlargement
        Of `geo_perception.evaluation.flow.enlarge_flow`.

    Returns
    -------
    FlowRun

    Raises
    ------
    RecordingError
        When the images have no intrinsics.

    """
    names = ('flow', 'rigid', *(METHODS if baselines else ()))
    run = FlowRun({name: FlowScore() for name in names})
    pipeline.prepare_flow()
    pipeline.reset()
    in_order = isinstance(pairs, RecordedPairs)
    if in_order:
        run.recording = GeometryRecording.unanswered(
            pairs.sequence.stamps, mode='offline', flow=FlowScores())
    run.names, last = [''] * len(pairs), None
    for i, pair in track(readable_frames(pairs), 'Flow', total=len(pairs)):
        run.names[i] = pair.name
        needed_camera(pair, 'there is no rigid flow')
        if in_order and last != i:
            _note(run.recording, i, pairs.sequence[i], pipeline(
                pair.image, pair.camera, pair.stamps[0], flow=True))
        last = i + 1
        start = time.perf_counter()
        if in_order:
            result = pipeline(pair.other, pair.camera, pair.stamps[1], flow=True)
            estimate, reason = result.flow, result.reason
        else:
            interval = (pair.stamps[1] - pair.stamps[0]) * 1e-9
            estimate = pipeline.flow_of_pair(pair.image, pair.other, pair.camera, interval)
            reason = ''
        delay = 1e3 * (time.perf_counter() - start)
        if in_order:
            before, frame = pairs.sequence[i], pairs.sequence[i + 1]
            _note(run.recording, i + 1, frame, result, delay)
        if estimate is None or estimate.earlier_stamp != (pair.stamps[0] if in_order else 0):
            run.reasons[reason] = run.reasons.get(reason, 0) + 1
            continue
        run.delays_ms.append(delay)
        if estimate.reason:
            run.reasons[estimate.reason] = run.reasons.get(estimate.reason, 0) + 1
        if baselines and np.isfinite(pair.flow).any():
            for name, method in METHODS.items():
                run.scores[name].images.append(compare_flow(
                    method(pair.image, pair.other), pair.flow, pair.visible))
        run.add(i, estimate.forward, estimate.camera, pair.camera, pair.flow, pair.motion_mask,
                pair.visible, **enlargement)
        if in_order:
            score_flow(run.recording, i + 1, before, frame, estimate.backward, estimate.camera)
    if in_order:
        run.recording = replace(run.recording, scale=pipeline.scale().sentence)
    return run


def _note(recording, index, frame, result, delay_ms=np.nan):
    """Keep what was answered to a frame."""
    recording.names[index], recording.delay_ms[index] = frame.name, delay_ms
    recording.processed[index], recording.resets[index] = True, result.reset
    moving = () if result.flow is None else (result.flow.backward.moving, result.flow.camera)
    recording.moments.take(index, frame, result.depth, *moving)
