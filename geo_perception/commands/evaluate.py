# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception evaluate``: measure a model on a recording with known poses or depth."""

from typing import List, Literal, Optional, Union

from geo_perception.commands.engine_options import engine_options


def relocalization(model: str, recordings: Union[str, List[str]], *, jobs: int = 1,
                   json: Optional[str] = None, report: Optional[str] = None,
                   output: Optional[str] = None, image_topic: Optional[str] = None,
                   pose_topic: Optional[str] = None,
                   camera_info_topic: Optional[str] = None, pose_frame: Optional[str] = None,
                   quaternion: Optional[str] = None, samples: int = 40, verify: bool = True,
                   **options):
    """
    Relocalize every image of a recording offline and compare with its poses.

    The pipeline is the one that the node runs; image retrieval is measured beside it. Of a place
    file poses are verified: coarse, verified and refused stand side by side.

    Parameters
    ----------
    model : str
        Model file (.safetensors) or place file (.place).
    recordings : str or list of str
        Bag, dataset folder or file, with an optional slice: ``drive[0:500]``; several
        are measured each by itself, and are listed side by side.
    jobs : int
        How many recordings are measured at a time, each in a process of its own.
    json : str, optional
        Write the metrics to this file.
    report : str, optional
        Write report.html, metrics.json, frames.csv, and run.npz, of which "geo_perception report"
        makes the page again, into this folder; of several recordings into a folder for each in
        it, with an index.html.
    output : str, optional
        Write one row per image to this CSV file.
    image_topic : str, optional
        Image topic of a bag; by default the only one that fits.
    pose_topic : str, optional
        Pose, odometry or TF topic of a bag; by default the only one that fits.
    camera_info_topic : str, optional
        Calibration topic of a bag, for a place file; by default the one beside the images.
    pose_frame : str, optional
        Frame whose pose the pose topic of a bag gives, where it is not the camera.
    quaternion : str, optional
        ``world_to_camera`` or ``camera_to_world``, for label lists in PoseNet's text format.
    samples : int
        Monte-Carlo samples for the covariance.
    verify : bool
        Whether to use the place memory of a place file.
    **options
        See `engine_options`.

    Returns
    -------
    dict
        Job (``relocalization``, with a place memory ``verified``) to metrics: metres, degrees,
        milliseconds, shares 0..1. Of several recordings name to ``metrics.json``.

    """
    given = dict(locals())
    from geo_perception.commands.many import evaluate_many, one_recording, options_of
    from geo_perception.commands.outcome import require_writable
    from geo_perception.commands.relocalization_output import present
    from geo_perception.datasets.recording import open_recording
    from geo_perception.evaluation.run import evaluate_relocalizer
    from geo_perception.inference.verified import load_relocalizer

    if (recording := one_recording(recordings, jobs)) is None:
        return evaluate_many('relocalization', model, recordings, jobs, options_of(given))
    require_writable(json, output, folder=report)
    relocalizer = load_relocalizer(model, verify, samples=samples, **engine_options(**options))
    sequence = open_recording(recording, image_topic, pose_topic, camera_info_topic, quaternion,
                              pose_frame, beside=())
    result = evaluate_relocalizer(relocalizer, sequence)
    return present(result, sequence, relocalizer.retrieval, relocalizer.model, recording,
                   json=json, report=report, output=output)


def depth(model: str, recordings: Union[str, List[str]], *, jobs: int = 1,
          split: Optional[str] = None, crop: Optional[str] = None, cap: float = 80.0,
          post_process: bool = False,
          camera_policy: Literal['resize', 'canonical_crop'] = 'resize', matching: bool = True,
          right_topic: Optional[str] = None, **options):
    """
    Compare the depth of every image of a recording with its true depth.

    Errors are given as they are, in metres, and after median scaling as published results are.
    For the published numbers of KITTI give --split eigen and the folder of KITTI raw. A model
    trained on stereo pairs is in metres by itself, so it takes no --scale; of recordings with
    both eyes its disparity is compared as well (D1-all of KITTI 2015), with OpenCV's semi-global
    matching, which sees both.

    Parameters
    ----------
    model : str
        Model file (.safetensors).
    recordings : str or list of str
        Bag, dataset folder or file, with an optional slice: ``drive[0:500]``; with ``split`` the
        folder of KITTI raw that holds those of the dates, or that of KITTI 2015. Several are
        measured each by itself, and are listed side by side.
    jobs : int
        How many recordings are measured at a time, each in a process of its own.
    split : str, optional
        ``eigen``: Eigen's 697 test images of KITTI raw, in all as published: resized by Lanczos'
        filter, compared with the laser scan at their original size. ``eigen_benchmark``: the 652
        of them that have annotated depth, compared with that. Trained on stereo pairs, images are
        resized as in training, depth is made with the baseline of KITTI, and there is
        ``kitti_2015``, too: its 200 training pairs, compared with ``disp_noc_0``, whose D1-all
        counts what is off by at least 3 pixels and 5 %. Without a split that of ``disp_occ_0``
        is taken, as KITTI does.
    crop : str, optional
        Pixels that count: ``none`` (all), ``garg`` or ``eigen``; by default all, with split
        ``eigen`` those of ``garg``.
    cap : float
        Metres; true depths beyond are left out (not of kitti_2015), predictions are clamped to
        it.
    post_process : bool
        Trained on stereo pairs: look at the mirror image as well.
    camera_policy : str
        Trained on stereo pairs: ``resize`` shows the network the whole image and rescales depth
        for the focal length; ``canonical_crop`` what the camera of training would have seen.
    matching : bool
        Trained on stereo pairs: whether to measure OpenCV's matching.
    right_topic : str, optional
        Image topic of the right eye, for models trained on stereo pairs.
    **options
        See `_present`.

    Returns
    -------
    dict
        The metrics: metres, milliseconds, shares 0..1. Of several recordings name to
        ``metrics.json``.

    """
    given = dict(locals())
    from geo_perception.commands.many import evaluate_many, one_recording, options_of
    from geo_perception.model_file import load_model_file

    if (recording := one_recording(recordings, jobs)) is None:
        return evaluate_many('depth', model, recordings, jobs, options_of(given))
    loaded = load_model_file(model)
    if loaded.metadata.job == 'stereo_depth':
        from geo_perception.commands.stereo_evaluation import evaluate_stereo_depth

        def chosen(*names):
            return {name: options.pop(name) for name in names if name in options}

        topics = {**chosen('image_topic', 'camera_info_topic'), 'right_topic': right_topic}
        pipeline = chosen('json', 'report', 'output', 'device', 'precision', 'threads')
        _refuse_others(options, _present, f'{model} was trained on stereo pairs, is in metres by '
                       'itself and asks for no poses')
        return evaluate_stereo_depth(loaded, recording, split, crop, cap, matching, topics,
                                     post_process=post_process, camera_policy=camera_policy,
                                     **pipeline)
    _refuse_others({'post_process': post_process, 'camera_policy': camera_policy,
                    'matching': matching, 'right_topic': right_topic}, depth,
                   f'{model} was not trained on stereo pairs')

    def measure(pipeline, topics):
        from dataclasses import replace

        from geo_perception.commands.geometry_evaluation import open_scored, open_split
        from geo_perception.errors import RecordingError
        from geo_perception.evaluation.depth import DepthRules
        from geo_perception.evaluation.geometry_run import run_geometry

        rules = DepthRules(crop or ('garg' if split == 'eigen' else 'none'), cap)
        if split:
            sequence = open_split(recording, split, pipeline.model, **topics)
            result = run_geometry(pipeline, sequence, rules)
            # That the images do not follow each other is no event.
            result = replace(result, resets=[''] * len(result),
                             mode=f'offline, split {split} as published')
        else:
            sequence = open_scored(recording, pipeline.model, **topics, beside=('depth',))
            result = run_geometry(pipeline, sequence, rules)
        if not (result.depth.coverage > 0).any():
            raise RecordingError(
                f'no pixel of {recording} was scored: none of its {len(result)} images has true '
                f'depth between 0 and {cap:g} m where the model looks (crop {rules.crop}); a bag '
                'needs a depth topic in the frame of the camera')
        return result

    return _present('depth', measure, model, recording, split is not None, **options)


def odometry(model: str, recordings: Union[str, List[str]], *, jobs: int = 1,
             baselines: bool = True, **options):
    """
    Compare the visual odometry of a recording with its true poses.

    The model's own way to find motions, alone, is measured beside it, and two plain methods:
    OpenCV's five-point essential matrix, with steps as long as ours, and the constant motion that
    is the mean of the true one. Of a model with an ego-motion network the snippets that it
    predicts at once are measured too, as published. With a model trained on stereo pairs motion
    is found by alignment, in metres.

    Parameters
    ----------
    model : str
        Model file (.safetensors).
    recordings : str or list of str
        Bag, dataset folder or file, with an optional slice: ``drive[0:500]``; several
        are measured each by itself, and are listed side by side.
    jobs : int
        How many recordings are measured at a time, each in a process of its own.
    baselines : bool
        Whether to measure the plain methods, which takes longer than the networks.
    **options
        See `_present`.

    Returns
    -------
    dict
        The metrics: metres, degrees, percent, milliseconds. Of several recordings name to
        ``metrics.json``.

    """
    given = dict(locals())
    from geo_perception.commands.many import evaluate_many, one_recording, options_of

    if (recording := one_recording(recordings, jobs)) is None:
        return evaluate_many('odometry', model, recordings, jobs, options_of(given))

    def measure(pipeline, topics):
        from geo_perception.datasets.recording import open_recording
        from geo_perception.errors import RecordingError
        from geo_perception.evaluation.geometry_run import (
            run_geometry, with_baselines, with_snippets)
        from geo_perception.evaluation.geometry_score import compared_frames
        from geo_perception.evaluation.training_overlap import refuse_training_data

        sequence = open_recording(recording, **topics, beside=('depth',))
        refuse_training_data(pipeline.model, recording, sequence)
        result = run_geometry(pipeline, sequence)
        if len(compared_frames(result, result.T_odom_camera)[0]) < 2:
            raise RecordingError(f'there is no motion to compare: of the {len(result)} images of '
                                 f'{recording} fewer than two have odometry and a true pose')
        result = with_snippets(result, pipeline, sequence)
        return with_baselines(result, sequence, pipeline) if baselines else result

    return _present('odometry', measure, model, recording, False, **options)


def _refuse_others(options, function, reason):
    """Raise where an option is not what a function has by default, for it would be ignored."""
    import inspect

    from geo_perception.errors import ConfigurationError

    usual = inspect.signature(function).parameters
    for name, value in options.items():
        if value != usual[name].default:
            raise ConfigurationError(f'--{name} {value} has no meaning here: {reason}; leave it '
                                     'out')


def _present(job, measure, model, recording, published, *, json: Optional[str] = None,
             report: Optional[str] = None, output: Optional[str] = None, scale: str = 'model',
             metres_per_unit: float = 1.0, camera_height: float = 0.0, camera_pitch: float = 0.0,
             camera_roll: float = 0.0, image_topic: Optional[str] = None,
             camera_info_topic: Optional[str] = None, pose_topic: Optional[str] = None,
             pose_frame: Optional[str] = None, odometry: str = 'hybrid', **engine):
    """
    Measure a geometry model and present the result; its options are those of both verbs.

    Parameters
    ----------
    job : str
        ``depth`` or ``odometry``.
    measure : callable
        Takes the pipeline and the topics of a bag, returns a `GeometryRecording`.
    model, recording : str
        As the user named them.
    published : bool
        Whether images are resized as published ones are.
    json : str, optional
        Write the metrics to this file.
    report : str, optional
        Write report.html, metrics.json, frames.csv, and run.npz, of which "geo_perception report"
        makes the page again, into this folder; of several recordings into a folder for each in
        it, with an index.html.
    output : str, optional
        Write one row per image to this CSV file.
    scale : str
        Where metres come from: ``model``, ``camera_height``, ``odometry`` (here: the
        recording's poses), ``constant`` or ``none``.
    metres_per_unit : float
        Metres per unit of the network, for ``constant``.
    camera_height : float
        Of the camera over the ground, metres, for ``camera_height``.
    camera_pitch : float
        How far the camera looks down, radians, for ``camera_height``.
    camera_roll : float
        How far it is turned clockwise about its axis, radians, for ``camera_height``.
    image_topic : str, optional
        Image topic of a bag; by default the only one that fits.
    camera_info_topic : str, optional
        Calibration topic of a bag; by default the one beside the images.
    pose_topic : str, optional
        Pose, odometry or TF topic of a bag; by default the only one that fits. Depth needs poses
        for scale ``odometry`` only.
    pose_frame : str, optional
        Frame whose pose the pose topic of a bag gives, where it is not the camera.
    odometry : str
        How motion is found: ``hybrid``, by corners at the scale of the depth network; ``network``,
        by what the model was trained with, alone.
    **engine
        See `engine_options`.

    Returns
    -------
    dict
        The metrics.

    """
    from geo_perception.commands.geometry_evaluation import present_geometry, resized_as_published
    from geo_perception.commands.outcome import require_writable
    from geo_perception.inference.geometry import GeometryPipeline
    from geo_perception.inference.geometry_model import load_geometry_model
    from geo_perception.inference.scale import ScaleOptions

    require_writable(json, output, folder=report)
    loaded = load_geometry_model(model)
    pipeline = GeometryPipeline(
        resized_as_published(loaded) if published else loaded, **engine_options(**engine),
        scale=ScaleOptions(scale, metres_per_unit, camera_height, camera_pitch, camera_roll),
        odometry=odometry)
    result = measure(pipeline, {
        'image_topic': image_topic, 'camera_info_topic': camera_info_topic,
        'pose_topic': pose_topic, 'pose_frame': pose_frame})
    return present_geometry(result, loaded, recording, (job,), json=json, report=report,
                            output=output)[job]
