# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""All that a run leaves behind: from it the report is made, now or later."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

from geo_perception.environment import command_line, describe_machine
from geo_perception.errors import RunError
from geo_perception.evaluation.depth import DepthRules
from geo_perception.evaluation.depth_samples import chosen_samples
from geo_perception.evaluation.flow import FlowComparison, FlowErrors, FlowScore
from geo_perception.evaluation.flow_samples import chosen_flow_samples, FlowSample
from geo_perception.evaluation.flow_scores import FlowScores
from geo_perception.evaluation.geometry_result import (
    DepthSample, DepthScores, GeometryRecording)
from geo_perception.evaluation.moments import Moment, Moments
from geo_perception.evaluation.motion_segmentation import MotionCounts, ScoreCurve
from geo_perception.evaluation.relocalization_result import RelocalizationResult
from geo_perception.evaluation.stored import load, store
from geo_perception.evaluation.worst_frames import worst_frames, WorstFrame
from geo_perception.inference.flow import FlowField


@dataclass(frozen=True)
class ModelCard:
    """
    What a model file says about itself.

    Attributes
    ----------
    name : str
        Of the file.
    architecture : str
        Of the network.
    rows : list of (str, str)
        Names and values, for people.

    """

    name: str
    architecture: str
    rows: List

    @classmethod
    def of(cls, model):
        """
        Return the card of a model.

        Parameters
        ----------
        model : ModelFile
            What was evaluated.

        Returns
        -------
        ModelCard

        """
        metadata = model.metadata
        name = Path(model.path).name
        # Of a relocalizer alone there are a rotation and a world.
        rotation = metadata.rotation and f', rotation as {metadata.rotation}'
        rows = [('File', f'{name}, SHA-256 {model.sha256[:16]}'),
                ('Architecture', f'{metadata.architecture}{rotation}')]
        if metadata.world_frame:
            rows.append(('World frame', metadata.world_frame))
        camera = metadata.training_camera
        if camera is not None:
            rows.append(('Training camera', f'{camera.width} × {camera.height} pixels, '
                                            f'fx {camera.fx:.1f}, fy {camera.fy:.1f}'))
        for title, values in (('Training data', metadata.data), ('Validation', metadata.metrics),
                              ('Trained with', metadata.versions)):
            if values:
                rows.append((title, brief(values)))
        return cls(name, metadata.architecture, rows)


@dataclass(frozen=True)
class Run:
    """
    What was measured on one recording.

    Attributes
    ----------
    name : str
        Of the recording, as the user named it.
    relocalization : RelocalizationResult or None
        What the relocalizer answered.
    relocalizer : ModelCard or None
        Of its model.
    training : np.ndarray or None
        ``T_world_camera`` of the training images, shape (M, 4, 4).
    worst : list of WorstFrame
        Where the relocalizer was farthest off.
    geometry : GeometryRecording or None
        What the geometry pipeline answered.
    geometry_model : ModelCard or None
        Of its model.
    jobs : list of str
        Of ``depth``, ``odometry``, ``flow`` and ``motion``, what is reported of that.
    command : str
        The command line.
    machine : dict
        See `geo_perception.environment.describe_machine`.

    """

    name: str
    relocalization: Optional[RelocalizationResult] = None
    relocalizer: Optional[ModelCard] = None
    training: Optional[np.ndarray] = None
    worst: List[WorstFrame] = field(default_factory=list)
    geometry: Optional[GeometryRecording] = None
    geometry_model: Optional[ModelCard] = None
    jobs: List[str] = field(default_factory=list)
    command: str = field(default_factory=command_line)
    machine: Dict[str, str] = field(default_factory=describe_machine)

    @property
    def results(self):
        """What there is of the two results."""
        return [result for result in (self.relocalization, self.geometry) if result is not None]

    @property
    def moments(self):
        """Small pictures over time: those of the geometry pipeline show more."""
        return self.results[-1].moments

    @property
    def stamps(self):
        """Of all frames, nanoseconds."""
        return self.results[-1].stamps


def relocalization_run(name, result, sequence=None, retrieval=None, model=None):
    """
    Return the record of a relocalizer's run.

    Parameters
    ----------
    name : str
        Of the recording, as the user named it.
    result : RelocalizationResult
        What happened.
    sequence : Sequence, optional
        The frames of the result, for the pictures of the worst ones.
    retrieval : Retrieval, optional
        The baseline.
    model : ModelFile, optional
        What was evaluated.

    Returns
    -------
    Run

    """
    return Run(str(name), result, None if model is None else ModelCard.of(model),
               None if retrieval is None else retrieval.poses,
               [] if sequence is None else worst_frames(result, sequence, retrieval))


def with_geometry(run, recording, model, jobs):
    """
    Return the record with what the geometry pipeline answered.

    Parameters
    ----------
    run : Run
        Of the same recording.
    recording : GeometryRecording
        What happened.
    model : ModelFile
        What was evaluated.
    jobs : sequence of str
        See `Run`.

    Returns
    -------
    Run

    """
    return replace(run, geometry=recording, geometry_model=ModelCard.of(model), jobs=list(jobs))


def store_run(path, run):
    """
    Write a run to a file.

    Parameters
    ----------
    path : str or Path
        The file; its folder is made.
    run : Run
        Of its pictures those that are shown are kept.

    """
    geometry = run.geometry
    if geometry is not None:
        geometry = replace(geometry, samples=[sample for _, sample in chosen_samples(geometry)],
                           flow_samples=chosen_flow_samples(geometry.flow_samples))
    store(path, replace(run, geometry=geometry))


def load_run(path):
    """
    Read a run back.

    Parameters
    ----------
    path : str or Path
        From `store_run`.

    Returns
    -------
    Run

    Raises
    ------
    RunError
        When it cannot be read.

    """
    run = load(path, (Run, ModelCard, RelocalizationResult, WorstFrame, Moments, Moment,
                      GeometryRecording, DepthScores, DepthRules, DepthSample, FlowScores,
                      FlowScore, FlowComparison, FlowErrors, MotionCounts, ScoreCurve, FlowSample,
                      FlowField))
    if not isinstance(run, Run) or not run.results:
        raise RunError(f'{path} holds no run')
    return run


def brief(value):
    """
    Return an entry of the header of a model file in words.

    Parameters
    ----------
    value : object
        What JSON made of it.

    Returns
    -------
    str

    """
    if isinstance(value, dict):
        return ', '.join(f"{key.replace('_', ' ')} {brief(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ' '.join(map(brief, value)) or 'none'
    return f'{value:.3g}' if isinstance(value, float) else str(value)
