# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A geometry pipeline over pairs of images whose flow is known, or what moves in them."""

from dataclasses import dataclass, field
import time
from typing import Dict, List

import cv2
import numpy as np

from geo_perception.datasets.flow_pairs import RecordedPairs
from geo_perception.errors import RecordingError
from geo_perception.evaluation.classical_flow import METHODS
from geo_perception.evaluation.flow import compare_flow, flow_at_truth, FlowScore
from geo_perception.evaluation.motion_segmentation import MotionCounts, ScoreCurve
from geo_perception.progress import track


@dataclass
class FlowRun:
    """
    What was measured.

    Attributes
    ----------
    scores : dict of str to FlowScore
        ``flow``, ``rigid`` (of a scene that stands still), and `classical_flow.METHODS`.
    motion : MotionCounts
        Of the masks, where it is known what moves.
    curve : ScoreCurve
        Of the scores.
    delays_ms : list of float
        Of both images of a pair, depth, motion, flow both ways and mask.
    reasons : dict of str to int
        Why pairs have no flow, or no mask, and how many.
    pairs : int
        All of them.

    """

    scores: Dict[str, FlowScore] = field(default_factory=dict)
    motion: MotionCounts = field(default_factory=MotionCounts)
    curve: ScoreCurve = field(default_factory=ScoreCurve)
    delays_ms: List[float] = field(default_factory=list)
    reasons: Dict[str, int] = field(default_factory=dict)
    pairs: int = 0

    def flow_summary(self):
        """
        Return the figures of flow, see `geo_perception.evaluation.flow.FlowScore.summary`.

        Returns
        -------
        dict
            Those of full flow, and dictionaries of the others by name.

        """
        return {**self.scores['flow'].summary(), **self._run(),
                **{name: score.summary() for name, score in self.scores.items()
                   if name != 'flow'}}

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
                **self._run()}

    def _run(self):
        delays = np.array(self.delays_ms) if self.delays_ms else np.array([np.nan])
        low, high = np.quantile(delays, [0.5, 0.95])
        return {'pairs': self.pairs, 'pairs_processed': len(self.delays_ms),
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
    run = FlowRun({name: FlowScore() for name in ('flow', 'rigid', *(METHODS if baselines
                                                                      else ()))})
    run.pairs = len(pairs)
    pipeline.prepare_flow()
    pipeline.reset()
    in_order = isinstance(pairs, RecordedPairs)
    for i in track(range(len(pairs)), 'Flow'):
        pair = pairs[i]
        if pair.camera is None:
            raise RecordingError(f'{pair.name} has no intrinsics, and rigid flow needs them; '
                                 'write them to cam.txt beside the images')
        if in_order and i == 0:
            pipeline(pair.image, pair.camera, pair.stamps[0], flow=True)
        start = time.perf_counter()
        if in_order:
            result = pipeline(pair.other, pair.camera, pair.stamps[1], flow=True)
            estimate, reason = result.flow, result.reason
        else:
            interval = (pair.stamps[1] - pair.stamps[0]) * 1e-9
            estimate = pipeline.flow_of_pair(pair.image, pair.other, pair.camera, interval)
            reason = ''
        delay = 1e3 * (time.perf_counter() - start)
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
        _compare(run, estimate, pair, enlargement)
    return run


def _compare(run, estimate, pair, enlargement):
    """Add one pair."""
    known, shape = estimate.forward, pair.flow.shape[:2]
    for name, flow in (('flow', known.flow), ('rigid', known.rigid)):
        found = flow_at_truth(flow, estimate.camera, pair.camera, shape, **enlargement)
        run.scores[name].images.append(compare_flow(found, pair.flow, pair.visible))
    if pair.motion_mask is None:
        return
    # At the pixels of the network: there it was decided.
    truth = _seen_by(estimate.camera, pair.camera, pair.motion_mask)
    run.motion.add(known.moving, truth)
    run.curve.add(known.score, truth)


def _seen_by(camera, whole, mask):
    """Return a mask at the pixels of a camera that sees a part of the image."""
    whole = whole.resized(mask.shape[1], mask.shape[0])
    scale = np.diag(whole.K)[:2] / np.diag(camera.K)[:2]
    offset = whole.K[:2, 2] - scale * camera.K[:2, 2]
    x, y = (np.arange(n) * s + o for n, s, o in zip((camera.width, camera.height), scale, offset))
    x, y = (n.astype(np.float32) for n in np.meshgrid(x, y))
    return cv2.remap(mask, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
