# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception infer``: run a model over images and keep the answers."""

from inspect import signature
from typing import Literal, Optional

from geo_perception.commands.engine_options import engine_options

# What is an option for models of one kind alone.
_OPTIONS = {
    'relocalization': ('samples', 'dense', 'verify'),
    'geometry': ('scale', 'metres_per_unit', 'camera_height', 'camera_pitch', 'camera_roll',
                 'flow', 'motion', 'odometry'),
    'stereo_depth': ('post_process', 'camera_policy', 'depth_scale')}


def infer(model: str, images: str, *, output: str, json: Optional[str] = None,
          image_topic: Optional[str] = None, camera_info_topic: Optional[str] = None,
          samples: int = 40, dense: bool = False, scale: str = 'model',
          metres_per_unit: float = 1.0, camera_height: float = 0.0, camera_pitch: float = 0.0,
          camera_roll: float = 0.0, flow: bool = False, motion: bool = False,
          post_process: bool = False,
          camera_policy: Literal['resize', 'canonical_crop'] = 'resize', depth_scale: float = 1.0,
          odometry: str = 'hybrid', verify: bool = True, **engine):
    """
    Run a model over images and keep its answers.

    A relocalization model gives a CSV file with one row an image: name, stamp (ns), x y z
    (metres), qw qx qy qz, standard deviations (metres, radians), score 0..1, accepted (0 or 1)
    and the reason if not. A geometry model gives a folder: depth_png (16 bits, millimetres, 0 =
    unknown; only with a scale), depth_npy (float32, NaN = unknown), preview, trajectory_tum.txt
    and trajectory_kitti.txt (further pieces where the odometry had to start anew), frames.csv,
    camera.json. A model trained on stereo pairs gives the same without trajectories. An image
    that cannot be decoded gets a row with the reason and nothing else. What an earlier run left
    under this name is replaced; when interrupted, the answers so far are kept.

    Parameters
    ----------
    model : str
        Model file (.safetensors).
    images : str
        Image, folder of images, video or recording, with an optional slice: ``drive[::10]``.
    output : str
        CSV file or folder to write.
    json : str, optional
        Write a summary to this file.
    image_topic : str, optional
        Image topic of a bag; by default the only one that fits.
    camera_info_topic : str, optional
        Calibration topic of a bag; by default the one that belongs to the images.
    samples : int
        Relocalization: Monte-Carlo samples for the covariance; 0 for none.
    dense : bool
        Relocalization: average 128 crops of each image (Kendall 2015); slow.
    scale : str
        Geometry: where metres come from: ``model``, ``camera_height``, ``constant`` or ``none``.
    metres_per_unit : float
        Geometry: for ``constant``.
    camera_height : float
        Geometry: metres over the ground, for ``camera_height``.
    camera_pitch : float
        Geometry: how far the camera looks down, radians, for ``camera_height``.
    camera_roll : float
        Geometry: how far it is turned clockwise about its axis, radians, for ``camera_height``.
    flow : bool
        Geometry: optical flow from each image to the next as well: flow_flo, flow_png (KITTI's
        form), flow_preview.
    motion : bool
        Geometry: what moves by itself as well: motion_mask (255 where it does), motion_score.
    post_process : bool
        Trained on stereo pairs: look at the mirror image as well, which mends the left border.
    camera_policy : str
        Trained on stereo pairs: ``resize`` shows the network the whole image and rescales depth
        for the focal length; ``canonical_crop`` what the camera of training would have seen.
    depth_scale : float
        Trained on stereo pairs: factor on depth, measured for this camera.
    odometry : str
        Geometry: ``hybrid`` follows corners, at the scale of the depth network; ``network`` finds
        motions by what the model was trained with, alone.
    verify : bool
        Relocalization: whether to use the place memory of a place file.
    **engine
        See `engine_options`.

    Returns
    -------
    dict
        What was done, in numbers.

    """
    chosen = locals()
    from geo_perception.commands.outcome import require_writable, write_outcome
    from geo_perception.datasets.recording import open_images
    from geo_perception.errors import ConfigurationError, ModelFileError
    from geo_perception.inference.scale import ScaleOptions
    from geo_perception.model_file import load_model_file

    given = [name for name, parameter in signature(infer).parameters.items()
             if name in chosen and chosen[name] != parameter.default]
    options = engine_options(**engine)
    sequence = open_images(images, image_topic=image_topic, camera_info_topic=camera_info_topic,
                           beside=())
    loaded = load_model_file(model)
    job = loaded.metadata.job
    for kind, names in _OPTIONS.items():
        others = [f'--{name}' for name in given if name in names and job != kind]
        if others:
            raise ConfigurationError(f'only models of {kind} have {" and ".join(others)}, and '
                                     f'{model} is for {job}')
    if job == 'relocalization':
        require_writable(output, json)
    else:
        require_writable(json, folder=output)
    if job == 'relocalization':
        summary = _relocalize(loaded, sequence, output, dense, verify=verify, samples=samples,
                              **options)
    elif job == 'geometry':
        if scale == 'odometry':
            raise ConfigurationError('scale "odometry" needs true distances, which only the node '
                                     'gets; choose model, camera_height, constant or none')
        metres = ScaleOptions(scale, metres_per_unit, camera_height, camera_pitch, camera_roll)
        summary = _see(loaded, sequence, output, flow, motion, scale=metres, odometry=odometry,
                       **options)
    elif job == 'stereo_depth':
        summary = _see_stereo(loaded, sequence, output, post_process=post_process,
                              camera_policy=camera_policy, scale=depth_scale, **options)
    else:
        raise ModelFileError(f'model file {model} is for {job}, which infer does not know')
    write_outcome(json, summary)
    return summary


def _see(model, sequence, output, flow, motion, **options):
    """Write depth and odometry, and flow and what moves where they are wanted."""
    from geo_perception.commands.geometry_output import summary_sentence, write_geometry
    from geo_perception.inference.geometry import GeometryPipeline

    summary = write_geometry(GeometryPipeline(model, **options), sequence, output, flow, motion)
    print(summary_sentence(summary))
    return summary


def _see_stereo(model, sequence, output, **options):
    """Write the depth of single images."""
    from geo_perception.commands.stereo_output import summary_sentence, write_stereo_depth
    from geo_perception.inference.stereo_depth import StereoDepthPipeline
    from geo_perception.inference.tape_scale import read_tape_scale

    scale = read_tape_scale(model)
    options['scale'] *= scale.factor
    summary = write_stereo_depth(StereoDepthPipeline(model, **options), sequence, output)
    if scale.samples:
        print(scale.sentence())
    print(summary_sentence(summary))
    return summary


def _relocalize(model, sequence, output, dense, **options):
    """Write the table of poses."""
    import csv
    import io

    from geo_perception.atomic_files import write_atomically
    from geo_perception.commands.outcome import kept_when_interrupted
    from geo_perception.errors import CalibrationError, ImageError, RecordingError
    from geo_perception.inference.verified import make_relocalizer
    from geo_perception.progress import track

    relocalizer = make_relocalizer(model, **options)
    counts = {'images': len(sequence), 'accepted': 0, 'refused': 0, 'failed': 0}
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(['name', 'stamp_ns', 'x', 'y', 'z', 'qw', 'qx', 'qy', 'qz',
                     *(f'sigma_{axis}' for axis in ('x', 'y', 'z', 'rot_x', 'rot_y', 'rot_z')),
                     'score', 'accepted', 'reason'])
    stamps = sequence.stamps

    def keep():
        done = counts['accepted'] + counts['refused'] + counts['failed']
        if not done:
            return
        write_atomically(output, table.getvalue().encode())
        images = f'{done} images' if done == len(sequence) else f'{done} of {len(sequence)} images'
        print(f"{images}: {counts['accepted']} accepted, {counts['refused']} refused, "
              f"{counts['failed']} unreadable; wrote {output}")

    with kept_when_interrupted(keep):
        for i in track(range(len(sequence)), 'Relocalizing'):
            try:
                frame = sequence[i]
                fix = (relocalizer.dense(frame.image) if dense
                       else relocalizer(frame.image, frame.camera))
            except (CalibrationError, ImageError, RecordingError) as error:
                counts['failed'] += 1
                writer.writerow([f'frame {i}', stamps[i]] + [''] * 14 + [0, str(error)])
                continue
            counts['accepted' if fix.accepted else 'refused'] += 1
            writer.writerow([frame.name, stamps[i], *_pose_cells(fix), f'{fix.score:.3f}',
                             int(fix.accepted), fix.reason])
    keep()
    return {**counts, 'output': output, 'world_frame': relocalizer.world_frame}


def _pose_cells(fix):
    """Return position, quaternion and standard deviations as text."""
    import numpy as np

    from geo_perception.geometry.se3 import quaternion_from_matrix

    T = fix.T_world_camera
    numbers = np.concatenate([T[:3, 3], quaternion_from_matrix(T[:3, :3]),
                              np.sqrt(np.diag(fix.covariance))])
    return [f'{number:.6f}' for number in numbers]
