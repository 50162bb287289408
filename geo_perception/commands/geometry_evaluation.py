# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What the verbs that measure geometry leave behind: tables, JSON, CSV and a report."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from geo_perception.commands.run_output import write_run
from geo_perception.commands.tables import print_table
from geo_perception.datasets.bag import BESIDE
from geo_perception.datasets.kitti_raw import open_eigen_test
from geo_perception.datasets.recording import open_with_poses_if_any
from geo_perception.errors import ConfigurationError
from geo_perception.evaluation.flow_summary import (
    flow_note, flow_table, flow_verdict, motion_note, motion_table, motion_verdict)
from geo_perception.evaluation.geometry_score import (
    score_of_depth, score_of_flow, score_of_motion, score_of_odometry)
from geo_perception.evaluation.geometry_summary import (
    depth_note, depth_table, depth_verdict, odometry_note, odometry_table, odometry_verdict)
from geo_perception.evaluation.run_record import Run, with_geometry
from geo_perception.evaluation.training_overlap import (
    refuse_split_training_data, refuse_training_data)

# Name -> whether the truth is annotated depth.
SPLITS = {'eigen': False, 'eigen_benchmark': True}
_WORDS = {'depth': (score_of_depth, depth_verdict, depth_table, depth_note),
          'odometry': (score_of_odometry, odometry_verdict, odometry_table, odometry_note),
          'flow': (score_of_flow, flow_verdict, flow_table, flow_note),
          'motion': (score_of_motion, motion_verdict, motion_table, motion_note)}


def present_geometry(recording, model, name, jobs, json=None, report=None, output=None,
                     others=None):
    """
    Print the result and write the files that were asked for.

    Parameters
    ----------
    recording : GeometryRecording
        What happened.
    model : ModelFile
        What was measured.
    name : str
        Of the recording, as the user named it.
    jobs : tuple of str
        Of ``depth``, ``odometry``, ``flow`` and ``motion``.
    json : str, optional
        File for the metrics.
    report : str, optional
        Folder for the page and all that belongs to it, see `write_run`.
    output : str, optional
        File for the per-frame table, CSV.
    others : dict, optional
        Further metrics for the file.

    Returns
    -------
    dict
        Job to metrics, see `geo_perception.evaluation.geometry_score`.

    """
    console = Console()
    metrics = {**print_geometry(console, recording, jobs), **(others or {})}
    _write(console, recording, model, name, jobs, metrics, json, report, output)
    return metrics


def report_geometry(recording, model, name, job, others, report):
    """
    Write the report of a run whose result was told otherwise.

    Parameters
    ----------
    recording, model, name
        See `present_geometry`.
    job : str
        One of its ``jobs``.
    others : dict
        Further metrics of the job, for the file.
    report : str
        Folder for the page and all that belongs to it.

    """
    score = _WORDS[job][0]
    _write(Console(), recording, model, name, (job,), {job: {**score(recording), **others}},
           report=report)


def _write(console, recording, model, name, jobs, metrics, json=None, report=None, output=None):
    write_run(console, with_geometry(Run(str(name)), recording, model, jobs), metrics,
              {'model': model.path, 'model_sha256': model.sha256, 'run': recording.mode,
               'scale': recording.scale}, json, report, output)


def scored_jobs(recording):
    """
    Return what can be said about a live run.

    Parameters
    ----------
    recording : GeometryRecording
        What was answered.

    Returns
    -------
    tuple of str
        ``depth`` and ``odometry``, and of ``flow`` and ``motion`` what there is truth for.

    """
    flow = recording.flow
    return ('depth', 'odometry',
            *(('flow',) if flow is not None and flow.flow_summary()['images'] else ()),
            *(('motion',) if flow is not None and flow.masks else ()))


def open_scored(spec, model, image_topic, camera_info_topic, pose_topic, pose_frame,
                beside=BESIDE):
    """
    Return a recording with its poses where it has any, without where it has none.

    Parameters
    ----------
    spec : str
        As the user named it.
    model : ModelFile
        To be measured on it.
    image_topic, camera_info_topic, pose_topic, pose_frame : str or None
        Of a bag, see `geo_perception.datasets.recording.open_recording`.
    beside : collection of str
        What else is read of it: of ``depth``, ``flow`` and ``right``.

    Returns
    -------
    Sequence

    Raises
    ------
    RecordingError
        When it cannot be read.
    ConfigurationError
        When the model was trained on it.

    """
    sequence = open_with_poses_if_any(
        spec, image_topic, pose_topic, camera_info_topic, pose_frame=pose_frame, beside=beside)
    refuse_training_data(model, spec, sequence)
    return sequence


def open_split(root, split, model, **topics):
    """
    Return a published test split of KITTI raw.

    Parameters
    ----------
    root : str
        Folder of the dates.
    split : str
        Of `SPLITS`.
    model : ModelFile
        To be measured on it.
    **topics
        Of a bag; refused unless None.

    Returns
    -------
    FileSequence

    Raises
    ------
    ConfigurationError
        When there is no such split, the model was trained on it, or a topic is given.
    RecordingError
        When part of it is missing.

    """
    if split not in SPLITS:
        raise ConfigurationError(f"the split '{split}' is unknown; choose {' or '.join(SPLITS)}")
    refuse_topics(split, topics)
    refuse_split_training_data(model, 'eigen', root)
    return open_eigen_test(Path(root).expanduser(), SPLITS[split])


def refuse_topics(split, topics):
    """
    Raise when a topic is named for a published split.

    Parameters
    ----------
    split : str
        Which.
    topics : dict
        Name of the option to topic or None.

    Raises
    ------
    ConfigurationError
        When one is not None.

    """
    for name, value in topics.items():
        if value is not None:
            raise ConfigurationError(f"{name} '{value}' belongs to a bag, split {split} to files "
                                     'of KITTI; leave one out')


def resized_as_published(model):
    """
    Return a model whose images are resized as those that published depth is measured on.

    Parameters
    ----------
    model : ModelFile
        Any.

    Returns
    -------
    ModelFile
        With Lanczos' filter (sfmlearner.md section 6.1); size and crop stay its own.

    """
    preprocessing = replace(model.metadata.preprocessing, interpolation='lanczos')
    return replace(model, metadata=replace(model.metadata, preprocessing=preprocessing))


def print_geometry(console, recording, jobs):
    """
    Print the result.

    Parameters
    ----------
    console : rich.console.Console
        Where to.
    recording : GeometryRecording
        What happened.
    jobs : tuple of str
        Of ``depth``, ``odometry``, ``flow`` and ``motion``.

    Returns
    -------
    dict
        Job to metrics.

    """
    found = {}
    for job in jobs:
        score, verdict, table, note = _WORDS[job]
        metrics = found[job] = score(recording)
        console.print(verdict(metrics), highlight=False, soft_wrap=True)
        if metrics.get('images_scored') or metrics.get('ate_sim3_m') is not None:
            print_table(console, *table(metrics))
            console.print(note(metrics), highlight=False, soft_wrap=True, style='dim')
    console.print(_frames_sentence(recording, metrics), highlight=False, soft_wrap=True)
    return found


def _frames_sentence(recording, metrics):
    sentence = (f"{metrics['frames_in']} images, {metrics['frames_processed']} processed, "
                f"{metrics['frames_dropped']} dropped")
    if metrics['delay_p50_ms'] is not None:
        sentence += (f"; delay {metrics['delay_p50_ms']:.1f} ms, 95th percentile "
                     f"{metrics['delay_p95_ms']:.1f} ms")
    return f'{sentence} ({recording.mode}). {recording.scale}'
