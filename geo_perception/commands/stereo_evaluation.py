# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``evaluate depth`` with a model that was trained on stereo pairs."""

from dataclasses import replace
from pathlib import Path

from geo_perception.commands.geometry_evaluation import (
    open_split, present_geometry, refuse_topics, SPLITS)
from geo_perception.commands.outcome import require_writable
from geo_perception.datasets.recording import open_stereo
from geo_perception.datasets.stereo_lists import open_kitti_2015
from geo_perception.errors import ConfigurationError, RecordingError
from geo_perception.evaluation.depth import DepthRules
from geo_perception.evaluation.stereo_run import run_stereo_depth
from geo_perception.evaluation.training_overlap import (
    refuse_split_training_data, refuse_training_data)
from geo_perception.inference.stereo_depth import StereoDepthPipeline
from geo_perception.inference.tape_scale import read_tape_scale, TapeScale

_KITTI_2015 = 'kitti_2015'
_NAMES = {'network': 'one eye', 'sgbm': 'SGBM, both eyes'}


def evaluate_stereo_depth(model, recording, split, crop, cap, matching, topics, json=None,
                          report=None, output=None, **options):
    """
    Measure depth and disparity, print them, and write what was asked for.

    Parameters
    ----------
    model : ModelFile
        For depth from stereo pairs.
    recording : str
        As the user named it.
    split : str or None
        ``eigen``, ``eigen_benchmark`` or ``kitti_2015``, as published.
    crop : str or None
        Of `geo_perception.evaluation.depth.CROPS`; by default that of the split.
    cap : float
        Metres.
    matching : bool
        Whether to measure OpenCV's matching beside it.
    topics : dict
        Of a bag, see `geo_perception.datasets.recording.open_stereo`.
    json, report, output : str, optional
        See `geo_perception.commands.geometry_evaluation.present_geometry`.
    **options
        Of the pipeline.

    Returns
    -------
    dict
        Metrics of the depth, and ``disparity``.

    Raises
    ------
    RecordingError
        When there is nothing to compare with.
    ConfigurationError
        When there is no such split, or the model was trained on it.

    """
    require_writable(json, output, folder=report)
    rules = DepthRules(crop or ('garg' if split == 'eigen' else 'none'), cap,
                       cap_truth=split != _KITTI_2015)
    sequence = _open(model, recording, split, topics)
    # Published numbers are those of the file.
    tape = TapeScale() if split else read_tape_scale(model)
    pipeline = StereoDepthPipeline(model, scale=tape.factor, **options)
    result, scores, warnings = run_stereo_depth(pipeline, sequence, rules, matching, split or '')
    if not (result.depth.coverage > 0).any():
        raise RecordingError(
            f'no pixel of {recording} was scored: none of its {len(result)} images has true depth '
            f'or disparity between 0 and {rules.cap:g} m where the model looks (crop '
            f'{rules.crop})')
    result = replace(result, scale=f'{result.scale} {tape.sentence()}'.strip())
    disparity = {name: score.summary() for name, score in scores.items()}
    metrics = present_geometry(result, model, recording, ('depth',), json=json, report=report,
                               output=output, others={'disparity': disparity})
    for name, found in disparity.items():
        if found['images']:
            print(f"disparity of {_NAMES[name]}: {found['d1_all_percent']:.1f} % wrong (D1-all), "
                  f"off by {found['off_px']:.2f} pixels, at {100 * found['coverage']:.0f} % of "
                  'the pixels')
    for warning in warnings:
        print(warning)
    return {**metrics['depth'], 'disparity': disparity}


def _open(model, recording, split, topics):
    """Return what is measured, after making sure that the model has not seen it."""
    if split is None:
        sequence = open_stereo(recording, **topics)
        refuse_training_data(model, recording, sequence)
        return sequence
    if split != _KITTI_2015:
        if split not in SPLITS:
            raise ConfigurationError(f"the split '{split}' is unknown; choose "
                                     f"{', '.join(SPLITS)} or {_KITTI_2015}")
        return open_split(recording, split, model, **topics)
    refuse_topics(split, topics)
    refuse_split_training_data(model, split, recording)
    return open_kitti_2015(Path(recording).expanduser())
