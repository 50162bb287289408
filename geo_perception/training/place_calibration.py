# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Gate and covariance of a place memory, fitted on frames that it is made to forget.

Each of some frames of the map is looked for in what is left of it without its own stretch of the
drive and without all that looks alike: from a coarse pose as wrong as coarse poses are, from a
wrong place, and from where it seems to be by its features; its mirror image, which shows a place
that is not in the map, likewise.
"""

from dataclasses import dataclass
from typing import Optional

import numpy as np

from geo_perception.datasets.frame import needed_camera
from geo_perception.datasets.readable import readable_frames
from geo_perception.errors import RecordingError
from geo_perception.geometry.se3 import (
    matrix_from_rotation_vector, rotation_vector_from_matrix)
from geo_perception.inference.fix_covariance import fit_fix_calibration
from geo_perception.inference.gate import Gate
from geo_perception.inference.verification import Verification, Verifier, WIDE_WINDOW
from geo_perception.progress import track

FRAMES = 200
# Each is looked for so often, with other parts of the map forgotten: the nearest key frame left
# looks different by an angle up to this; no frame within this part of the recording before or
# after is left, for poses of one stretch of a recording err alike.
SEARCHES = 6
FARTHEST_VIEW = 0.7
LONGEST_STRETCH = 0.15
# Coarse poses err by so many of their standard deviations: networks are too sure of themselves.
COARSE_FACTORS = (0.5, 16.0)
# A pose is right within this part of the depth of the scene and this angle, wrong beyond three
# times that (half a metre or 15 degrees in a room); what lies in between teaches the gate nothing:
# the covariance says that it is inexact, and a few of these would decide where the gate is.
RIGHT_PART, RIGHT_ANGLE = 0.08, np.deg2rad(5.0)
WRONG = 3.0
# Each is looked for in so many wrong places as well, which look different by this at least,
# radians; its mirror image is looked for so often.
WRONG_SEARCHES, WRONG_VIEW = 3, 0.8
MIRRORED_SEARCHES = 2
FALSE_ACCEPT_RATE = 3e-4
SMALLEST_INLIERS = 12
# Weights of evidence do not grow beyond what so few frames can know.
REGULARISATION = 0.02
# Evidence that speaks for a pose when it is large, and against it.
SIGNS = np.array([1, 1, 1, 1, 1, -1, -1, -1])
# The rarest tenth of wrong poses tells how their tail goes on.
TAIL = 0.1
SMALLEST_TRIALS = 20
# Bounds between which shares of answered frames are reported, radians.
VIEW_BOUNDS = (0.0, 0.1, 0.2, 0.35, 0.5)


@dataclass(frozen=True)
class Trial:
    """
    One search in the memory.

    Attributes
    ----------
    found : Verification or None
        None where no pose was found.
    error : np.ndarray
        ``[x_true - x; Log(R_true R^T)]``, metres and radians, shape (6,).
    fair : bool
        Whether the frame was looked for where it was taken.
    again : bool
        Whether the frame was looked for before: the gate weighs each once.

    """

    found: Optional[Verification]
    error: np.ndarray
    fair: bool
    again: bool = False

    @property
    def misplaced(self):
        """Error in units of what counts as right; infinite where no pose was found."""
        if self.found is None:
            return np.inf
        return max(np.linalg.norm(self.error[:3]) / (RIGHT_PART * self.found.depth),
                   np.linalg.norm(self.error[3:]) / RIGHT_ANGLE)


def run_trials(place, sequence, frame_indices, relocalizer):
    """
    Look for frames of the map in what is left without them.

    Parameters
    ----------
    place : Place
        The memory; its gate is not asked.
    sequence : Sequence
        The recording.
    frame_indices : np.ndarray
        Frame of the recording that each key frame is, -1 for those of other recordings, shape
        (M,).
    relocalizer : Relocalizer
        Whose coarse poses there will be.

    Returns
    -------
    list of Trial

    """
    random = np.random.default_rng(0)
    verifier, trials = Verifier(place), []
    chosen = np.unique(np.linspace(0, len(sequence) - 1, FRAMES).astype(int))
    for i, frame in track(readable_frames(sequence, chosen), 'Leaving out frames',
                          total=len(chosen)):
        T = frame.T_world_camera
        view = place.view_distances(T)
        camera = needed_camera(frame, 'no place is recognized')
        covariance = relocalizer(frame.image).covariance
        stated = tuple(np.sqrt(np.diag(covariance).reshape(2, 3).sum(1)))
        query = verifier.look(frame.image, camera)
        # Without a frame, its image is searched several times: looking at it costs the most.
        for search in range(SEARCHES):
            coarse = _moved(T, _coarse_error(covariance, random))
            stretch = random.uniform(0.0, LONGEST_STRETCH) * len(sequence)
            forgotten = (view < random.uniform(0.0, FARTHEST_VIEW)) | (
                (frame_indices >= 0) & (np.abs(frame_indices - i) < stretch))
            if not forgotten.all():
                trials.append(_trial(verifier(query, coarse, coarse, stated, forgotten), T, True,
                                     search > 0))
        if forgotten.all():
            continue
        far = np.flatnonzero((view > WRONG_VIEW) & ~forgotten)
        for wrong in random.permutation(far)[:WRONG_SEARCHES]:
            wrong = place.poses[wrong]
            trials.append(_trial(verifier(query, wrong, wrong, stated, forgotten), T, False))
        recognised = verifier.recognise(query, forgotten)
        if recognised is not None:
            trials.append(_trial(verifier(query, recognised, coarse, stated, forgotten,
                                          WIDE_WINDOW), T, False))
        # Whatever is found of the mirror image is wrong.
        mirrored = verifier.look(frame.image[:, ::-1], frame.camera)
        for _ in range(MIRRORED_SEARCHES):
            coarse = _moved(T, _coarse_error(covariance, random))
            trials.append(_trial(verifier(mirrored, coarse, coarse, stated), None, False))
        recognised = verifier.recognise(mirrored)
        if recognised is not None:
            trials.append(_trial(verifier(mirrored, recognised, coarse, stated,
                                          window=WIDE_WINDOW), None, False))
    return trials


def _coarse_error(covariance, random):
    """Return by how much a coarse pose may be off."""
    factor = np.exp(random.uniform(*np.log(COARSE_FACTORS)))
    return random.normal(size=6) * np.sqrt(np.diag(covariance)) * factor


def _moved(T, change):
    """Return a pose moved and turned about the axes of the world."""
    moved = T.copy()
    moved[:3, 3] += change[:3]
    moved[:3, :3] = matrix_from_rotation_vector(change[3:]) @ T[:3, :3]
    return moved


def _trial(found, T_true, fair, again=False):
    """Return what a search came to; without a true pose whatever was found is wrong."""
    error = np.full(6, np.inf)
    if found is not None and T_true is not None:
        T = found.T_world_camera
        error = np.concatenate([T_true[:3, 3] - T[:3, 3], rotation_vector_from_matrix(
            T_true[:3, :3] @ T[:3, :3].T)])
    return Trial(found, error, fair, again)


def fit_gate(trials):
    """
    Fit the gate.

    Parameters
    ----------
    trials : list of Trial
        From `run_trials`.

    Returns
    -------
    Gate

    Raises
    ------
    RecordingError
        When too few frames were found again to learn from.

    """
    from scipy.optimize import minimize

    trials = [t for t in trials if not t.again]
    right = np.array([t.found.evidence.numbers() for t in trials if t.misplaced <= 1.0])
    attempts = [t for t in trials if t.misplaced > WRONG]
    wrong = np.array([t.found.evidence.numbers() for t in attempts if t.found is not None])
    if len(right) < SMALLEST_TRIALS:
        raise RecordingError(
            f'only {len(right)} of {len(trials)} searches for frames in the map without them '
            f'found the right pose, {SMALLEST_TRIALS} are needed to tell right poses from wrong '
            'ones: the place has too little texture or was passed too fast; record it again, '
            'slowly and more than once')
    usual = right.mean(0)
    scale = np.maximum(right.std(0), 0.05)
    if len(wrong) == 0:   # Nothing wrong was ever found: the fewest points decide alone.
        wrong = right.min(0, keepdims=True) - SIGNS * scale
    x = np.concatenate([right, wrong]) - usual
    x /= scale
    y = np.repeat([1.0, 0.0], [len(right), len(wrong)])
    # Both kinds weigh the same, however many there are of each.
    weight = np.repeat([0.5 / len(right), 0.5 / len(wrong)], [len(right), len(wrong)])

    def cost(parameters):
        logit = x @ parameters[:-1] + parameters[-1]
        p = 1.0 / (1.0 + np.exp(-np.clip(logit, -50, 50)))
        loss = weight @ (np.logaddexp(0.0, logit) - y * logit)
        slope = weight * (p - y)
        return (loss + REGULARISATION * parameters[:-1] @ parameters[:-1],
                np.append(x.T @ slope + 2 * REGULARISATION * parameters[:-1], slope.sum()))

    bounds = [(0, None) if s > 0 else (None, 0) for s in SIGNS] + [(None, None)]
    weights = minimize(cost, np.append(0.1 * SIGNS, 0.0), jac=True, bounds=bounds).x[:-1] / scale
    weighed = (wrong - usual) @ weights
    # Exceedances of a high quantile are exponential, to begin with; those of no pose are none.
    high = float(np.quantile(weighed, 1.0 - TAIL))
    mean_excess = float(np.mean(weighed[weighed >= high] - high))
    share = TAIL * len(weighed) / max(len(attempts), len(weighed))
    threshold = high + max(mean_excess, 1e-3) * np.log(max(share / FALSE_ACCEPT_RATE, 1.0))
    return Gate(tuple(usual.tolist()), tuple(weights.tolist()), float(threshold),
                SMALLEST_INLIERS, FALSE_ACCEPT_RATE)


def fit_covariance(trials):
    """
    Fit how much larger real errors are than those of the solver.

    Poses that the gate would refuse count as well: of another drive it lets others pass.

    Parameters
    ----------
    trials : list of Trial
        From `run_trials`.

    Returns
    -------
    FixCalibration

    """
    counted = [t for t in trials if t.fair and t.misplaced <= 2.0]
    return fit_fix_calibration(np.array([t.error for t in counted]),
                               np.array([t.found.covariance for t in counted]),
                               np.array([t.found.view for t in counted]))


def fit_focal_error(trials, place):
    """
    Return what residuals of right poses say about the focal length.

    Parameters
    ----------
    trials : list of Trial
        From `run_trials`.
    place : Place
        With a fitted gate and calibration.

    Returns
    -------
    tuple of float
        Median and spread (1.48 times the median deviation) of relative errors.

    """
    errors = np.array([t.found.focal_error for t in trials if t.fair and t.misplaced <= 2.0
                       and place.judge(t.found)[0] >= 0.5])
    errors = errors[np.isfinite(errors)]
    if not len(errors):
        return 0.0, 1.0
    median = float(np.median(errors))
    return median, float(max(1.4826 * np.median(np.abs(errors - median)), 1e-3))


def coverage(trials, place):
    """
    Return what share of left out frames is answered, by how far the map is.

    Parameters
    ----------
    trials : list of Trial
        From `run_trials`.
    place : Place
        With a fitted gate and calibration.

    Returns
    -------
    list of dict
        ``from_deg``, ``to_deg`` (view distance to the nearest key frame), ``frames``,
        ``answered`` and the median errors ``position_m`` and ``orientation_deg`` of those.

    """
    fair, rows = [t for t in trials if t.fair and t.found is not None], []
    for low, high in zip(VIEW_BOUNDS, (*VIEW_BOUNDS[1:], np.inf)):
        here = [t for t in fair if low <= t.found.view < high]
        passed = [t for t in here if place.judge(t.found)[0] >= 0.5]
        if not here:
            continue
        errors = np.array([t.error for t in passed]).reshape(-1, 6)
        rows.append({
            'from_deg': round(float(np.degrees(low)), 1),
            'to_deg': None if np.isinf(high) else round(float(np.degrees(high)), 1),
            'frames': len(here), 'answered': len(passed),
            'position_m': _median(np.linalg.norm(errors[:, :3], axis=1)),
            'orientation_deg': _median(np.degrees(np.linalg.norm(errors[:, 3:], axis=1)))})
    return rows


def _median(values):
    """Return the median, None of nothing."""
    return round(float(np.median(values)), 4) if len(values) else None
