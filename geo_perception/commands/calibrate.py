# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception calibrate``: how large depth is, how far to trust motion and verified poses."""

from typing import Optional

from geo_perception.commands.engine_options import engine_options


def scale(model: str, *, image: Optional[str] = None, distance: float = 0.0, region: str = '',
          reset: bool = False, image_topic: Optional[str] = None,
          camera_info_topic: Optional[str] = None, json: Optional[str] = None, **engine):
    """
    Correct the depth of a model that was trained on stereo pairs by measured distances.

    Measure from the lens to something flat that faces the camera, along the optical axis, and
    say where it is in the image. Each call adds a distance; the factor that fits them all is kept
    beside the model (.scale.json), from where the node and all verbs take it. It mends another
    camera or mount as a whole; it cannot mend depth that is wrong in shape.

    Parameters
    ----------
    model : str
        Model file (.safetensors).
    image : str, optional
        An image of a recording with intrinsics: ``bag[120]``, ``folder[3]``.
    distance : float
        From the lens to what was measured, metres.
    region : str
        Where it was measured: ``left,top,width,height`` in pixels; by default the tenth of width
        and height in the middle.
    reset : bool
        Forget earlier distances first; without an image that is all.
    image_topic : str, optional
        Image topic of a bag; by default the only one that fits.
    camera_info_topic : str, optional
        Calibration topic of a bag; by default the one beside the images.
    json : str, optional
        Write a summary to this file.
    **engine
        See `engine_options`.

    Returns
    -------
    dict
        The factor and all distances.

    """
    from dataclasses import asdict

    from geo_perception.commands.outcome import write_outcome
    from geo_perception.datasets.frame import needed_camera
    from geo_perception.datasets.recording import open_images
    from geo_perception.errors import ConfigurationError, RecordingError
    from geo_perception.inference.stereo_depth import JOB, StereoDepthPipeline
    from geo_perception.inference.tape_scale import (
        measure, parse_region, read_tape_scale, TapeScale, write_tape_scale)
    from geo_perception.model_file import load_model_file

    loaded = load_model_file(model, JOB)
    tape = TapeScale() if reset else read_tape_scale(loaded)
    if image is None and not reset:
        raise ConfigurationError('give an --image and the --distance to something in it, or '
                                 '--reset')
    if image is not None:
        sequence = open_images(image, image_topic, camera_info_topic, beside=())
        if len(sequence) != 1:
            raise RecordingError(f'{image} holds {len(sequence)} images; name the one that was '
                                 f'measured in, such as {image}[0]')
        frame = sequence[0]
        camera = needed_camera(frame, 'depth has no metres')
        pipeline = StereoDepthPipeline(loaded, **engine_options(**engine), post_process=True)
        estimate = pipeline(frame.image, camera)
        sample = measure(estimate.depth, distance, parse_region(region), frame.name)
        tape = TapeScale((*tape.samples, sample))
        print(f'{sample.predicted:.3f} m without correction, {sample.measured:.3f} m by tape.')
        if estimate.warning:
            print(estimate.warning)
    path = write_tape_scale(loaded, tape)
    if tape.samples:
        print(f'{tape.sentence()} Kept in {path}.')
    else:
        print(f'No distances are kept any more ({path}).')
    summary = {'factor': tape.factor, 'file': str(path),
               'samples': [asdict(sample) for sample in tape.samples]}
    write_outcome(json, summary)
    return summary


def motion(model: str, recording: str, *, image_topic: Optional[str] = None,
           camera_info_topic: Optional[str] = None, **options):
    """
    Fit when a geometry model says that something moves, on a recording it did not learn from.

    The whole pipeline runs over the recording. Training fits the same to the flow of the network
    alone; that of the pipeline is sharper, and its errors are others. Where the recording says
    what moves, 2 % of what stands still may be said to move; otherwise most of it must stand.

    Parameters
    ----------
    model : str
        Model file (.safetensors) for geometry, with a flow network.
    recording : str
        A recording with intrinsics, with an optional slice: ``drive[0:100]``.
    image_topic : str, optional
        Image topic of a bag; by default the only one that fits.
    camera_info_topic : str, optional
        Calibration topic of a bag; by default the one beside the images.
    **options
        See `_fitted`.

    Returns
    -------
    dict
        The new entries of the calibration.

    """
    from geo_perception.datasets.recording import open_images
    from geo_perception.evaluation.motion_calibration import calibrate_motion_score

    # The mask of what moves comes with the flow.
    sequence = open_images(recording, image_topic, camera_info_topic, beside=('flow',))
    return _fitted(model, recording, sequence, calibrate_motion_score, **options)


def odometry(model: str, recording: str, *, image_topic: Optional[str] = None,
             camera_info_topic: Optional[str] = None, pose_topic: Optional[str] = None,
             pose_frame: Optional[str] = None, **options):
    """
    Fit the covariance of hybrid odometry, on a recording that the model did not learn from.

    Training fits that of the network alone; corners err otherwise. Take the validation recording,
    not that of the test.

    Parameters
    ----------
    model : str
        Model file (.safetensors) for geometry, or for depth from stereo pairs.
    recording : str
        A recording with poses and intrinsics, with an optional slice: ``drive[0:100]``.
    image_topic : str, optional
        Image topic of a bag; by default the only one that fits.
    camera_info_topic : str, optional
        Calibration topic of a bag; by default the one beside the images.
    pose_topic : str, optional
        Pose, odometry or TF topic of a bag; by default the only one that fits.
    pose_frame : str, optional
        Frame whose pose the pose topic gives, where it is not the camera.
    **options
        See `_fitted`.

    Returns
    -------
    dict
        The new entries of the calibration.

    """
    from geo_perception.datasets.recording import open_recording
    from geo_perception.evaluation.odometry_calibration import calibrate_hybrid_motion

    sequence = open_recording(recording, image_topic, pose_topic, camera_info_topic,
                              pose_frame=pose_frame, beside=())
    return _fitted(model, recording, sequence, calibrate_hybrid_motion, **options)


def place(model: str, recording: str, *, output: str, image_topic: Optional[str] = None,
          camera_info_topic: Optional[str] = None, pose_topic: Optional[str] = None,
          pose_frame: Optional[str] = None, json: Optional[str] = None, **engine):
    """
    Fit the covariance of verified poses, on a second recording of the place.

    The map learned it by forgetting parts of itself, which says nothing of another day, and is
    careful where the map is dense. Take the validation recording, not that of the test.

    Parameters
    ----------
    model : str
        Place file (.place).
    recording : str
        A recording with poses in the world of the map, with an optional slice: ``drive[0:100]``.
    output : str
        Place file to write; it may be the same.
    image_topic : str, optional
        Image topic of a bag; by default the only one that fits.
    camera_info_topic : str, optional
        Calibration topic of a bag; by default the one beside the images.
    pose_topic : str, optional
        Pose, odometry or TF topic of a bag; by default the only one that fits.
    pose_frame : str, optional
        Frame whose pose the pose topic gives, where it is not the camera.
    json : str, optional
        Write the new entries to this file.
    **engine
        See `engine_options`.

    Returns
    -------
    dict
        The new entries of the calibration.

    """
    from dataclasses import asdict, replace
    from pathlib import Path

    from geo_perception.commands.outcome import require_writable
    from geo_perception.datasets.recording import open_recording
    from geo_perception.errors import ConfigurationError
    from geo_perception.evaluation.fix_calibration import calibrate_fixes
    from geo_perception.evaluation.training_overlap import refuse_training_data
    from geo_perception.inference.verified import load_relocalizer, VerifiedRelocalizer

    require_writable(output, json)
    relocalizer = load_relocalizer(model, **engine_options(**engine))
    if not isinstance(relocalizer, VerifiedRelocalizer):
        raise ConfigurationError(f'{model} has no place memory, and what a relocalizer says alone '
                                 'is calibrated in training; make a place file of it with '
                                 '"geo_perception map"')
    if Path(recording).name in relocalizer.place.summary['recordings']:
        raise ConfigurationError(f'the map of {model} was made of {recording}, which fits it '
                                 'better than what a robot will see; give another recording')
    sequence = open_recording(recording, image_topic, pose_topic, camera_info_topic,
                              pose_frame=pose_frame, beside=())
    loaded = relocalizer.model
    refuse_training_data(loaded, recording, sequence)
    calibration = calibrate_fixes(relocalizer, sequence)
    header = replace(relocalizer.place, calibration=calibration).header()
    return _write(output, json, replace(loaded.metadata, place=header), loaded.tensors,
                  asdict(calibration))


def _fitted(model, recording, sequence, fit, *, output: str, json: Optional[str] = None,
            **engine):
    """
    Write a model file with what a function finds; its options are those of both verbs.

    Parameters
    ----------
    model, recording : str
        As the user named them.
    sequence : Sequence
        The latter.
    fit : callable
        Takes the pipeline and the sequence, returns entries of the calibration.
    output : str
        Model file to write; it may be the same.
    json : str, optional
        Write the new entries to this file.
    **engine
        See `engine_options`.

    Returns
    -------
    dict
        The new entries.

    """
    from dataclasses import replace

    from geo_perception.commands.outcome import require_writable
    from geo_perception.evaluation.training_overlap import refuse_training_data
    from geo_perception.inference.geometry import GeometryPipeline
    from geo_perception.inference.geometry_model import geometry_of, JOB
    from geo_perception.inference.stereo_depth import JOB as STEREO_DEPTH
    from geo_perception.model_file import load_model_file

    require_writable(output, json)
    loaded = load_model_file(model, (JOB, STEREO_DEPTH))
    pipeline = GeometryPipeline(geometry_of(loaded), **engine_options(**engine))
    refuse_training_data(loaded, recording, sequence)
    entries = fit(pipeline, sequence)
    metadata = replace(loaded.metadata, calibration={**loaded.metadata.calibration, **entries})
    return _write(output, json, metadata, loaded.tensors, entries)


def _write(output, json, metadata, tensors, entries):
    """Write a model file and what is new in it, and return the latter."""
    from geo_perception.commands.outcome import write_outcome
    from geo_perception.model_file import save_model_file

    save_model_file(output, metadata, tensors)
    for name, value in entries.items():
        print(f'{name}: {value:.4g}')
    print(f'wrote {output}')
    write_outcome(json, entries)
    return entries
