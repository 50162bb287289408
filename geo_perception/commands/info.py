# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception info``: what is in a model file or a recording."""

from typing import Optional


def info(file: str, *, image_topic: Optional[str] = None, pose_topic: Optional[str] = None,
         camera_info_topic: Optional[str] = None, pose_frame: Optional[str] = None,
         quaternion: Optional[str] = None, json: Optional[str] = None):
    """
    Say what a model file or a recording holds, and what looks wrong with it.

    Of a recording it says what other verbs would take of it: images, intrinsics, poses, depth.
    Poses are compared with gravity, motion and images, as training does it.

    Parameters
    ----------
    file : str
        Model file (.safetensors), place file (.place), or anything with images: bag, dataset,
        folder, video, with an optional slice: ``drive[0:500]``.
    image_topic : str, optional
        Image topic of a bag; by default the only one that fits.
    pose_topic : str, optional
        Pose, odometry or TF topic of a bag; by default the only one that fits.
    camera_info_topic : str, optional
        Calibration topic of a bag; by default the one beside the images.
    pose_frame : str, optional
        Frame whose pose the pose topic of a bag gives, where it is not the camera.
    quaternion : str, optional
        ``world_to_camera`` or ``camera_to_world``, for label lists in PoseNet's text format.
    json : str, optional
        Write the same to this file.

    Returns
    -------
    dict
        What is printed: name to text, and ``findings``, a list of sentences.

    """
    from pathlib import Path

    from geo_perception.commands.outcome import write_outcome
    from geo_perception.datasets.recording import open_with_poses_if_any
    from geo_perception.model_file import is_model_file, load_model_file

    # What is named like a model or a checkpoint is told what it lacks as one.
    if is_model_file(file) or Path(file).suffix in ('.safetensors', '.place', '.ckpt'):
        found, findings = _of_model(load_model_file(file)), []
    else:
        sequence = open_with_poses_if_any(file, image_topic, pose_topic, camera_info_topic,
                                          quaternion, pose_frame)
        found, findings = _of_recording(sequence)
    width = max(map(len, found)) + 2
    for name, value in found.items():
        print(f'{name:{width}}{value}')
    for sentence in findings:
        print(f'note: {sentence}')
    outcome = {**found, 'findings': findings}
    write_outcome(json, outcome)
    return outcome


def _of_model(model):
    """Return the header of a model file in words."""
    from geo_perception.evaluation.run_record import brief, ModelCard
    from geo_perception.inference.place import Place

    metadata, place = model.metadata, Place.from_model(model)
    found = {'For': metadata.job, **dict(ModelCard.of(model).rows)}
    crop = metadata.preprocessing.crop
    found['Network sees'] = f'{crop[1]} × {crop[0]} pixels'
    if metadata.calibration:
        found['Calibration'] = brief(metadata.calibration)
    if place is not None:
        summary = place.summary
        found['Place memory'] = (f"{summary['key_frames']} key frames, {summary['points']} points "
                                 f"from {summary['points_from']}")
    return found


def _of_recording(sequence):
    """Return what a recording has in words, and what is doubtful about its poses."""
    import numpy as np

    from geo_perception.datasets.pose_image_check import check_recording
    from geo_perception.datasets.readable import first_readable
    from geo_perception.datasets.snippets import usual_interval

    frame, steps = first_readable(sequence), np.diff(sequence.stamps) * 1e-9
    height, width = frame.image.shape[:2]
    found = {'Frames': f'{len(sequence)}, {width} × {height} pixels, the first {frame.name}'}
    if len(steps):
        found['Time'] = (f'{steps.sum():.1f} s, usually {usual_interval(sequence.stamps):.3f} s '
                         f'from frame to frame, at most {steps.max():.3f} s')
    camera = frame.camera
    found['Intrinsics'] = 'none' if camera is None else (
        f'fx {camera.K[0, 0]:.1f}, fy {camera.K[1, 1]:.1f}, cx {camera.K[0, 2]:.1f}, '
        f'cy {camera.K[1, 2]:.1f}, '
        + (camera.distortion_model if camera.distorts else 'no distortion')
        + (f', frame {camera.frame_id}' if camera.frame_id else ''))
    beside = [name for name, value in (
        ('depth', frame.depth), ('optical flow', frame.flow), ('mask of what moves',
                                                               frame.motion_mask),
        ('right image', frame.right)) if value is not None]
    if frame.baseline:
        beside[-1] += f', {frame.baseline:.3f} m to the right'
    found['Beside the first'] = ', '.join(beside) or 'nothing'
    if sequence.poses is None:
        return {**found, 'Poses': 'none'}, []
    positions = sequence.poses[:, :3, 3]
    path = np.linalg.norm(np.diff(positions, axis=0), axis=1).sum()
    topic = getattr(sequence, 'pose_topic', None)
    found['Poses'] = ((f'of {topic} ' if topic else '')
                      + f"in the frame '{sequence.world_frame}', path {path:.1f} m, within "
                      + ' × '.join(f'{size:.1f}' for size in np.ptp(positions, axis=0)) + ' m')
    return found, check_recording(sequence).findings
