# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception evaluate``: measure a model on a recording with known poses."""

from typing import Optional


def relocalization(model: str, recording: str, *, json: Optional[str] = None,
                   report: Optional[str] = None, output: Optional[str] = None,
                   image_topic: Optional[str] = None, pose_topic: Optional[str] = None,
                   pose_frame: Optional[str] = None, quaternion: Optional[str] = None,
                   device: str = 'auto', precision: str = 'auto', samples: int = 40,
                   threads: int = 0):
    """
    Relocalize every image of a recording offline and compare with its poses.

    The pipeline is the one that the node runs; image retrieval is measured beside it.

    Parameters
    ----------
    model : str
        Model file (.safetensors).
    recording : str
        Bag, dataset folder or file, with an optional slice: ``drive[0:500]``.
    json : str, optional
        Write the metrics to this file.
    report : str, optional
        Write report.html and frames.csv into this folder.
    output : str, optional
        Write one row per image to this CSV file.
    image_topic : str, optional
        Image topic of a bag; by default the only one that fits.
    pose_topic : str, optional
        Pose, odometry or TF topic of a bag; by default the only one that fits.
    pose_frame : str, optional
        Frame whose pose the pose topic of a bag gives, where it is not the camera.
    quaternion : str, optional
        ``world_to_camera`` or ``camera_to_world``, for label lists in PoseNet's text format.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    precision : str
        ``auto``, ``fp32``, ``bf16`` or ``fp16``.
    samples : int
        Monte-Carlo samples for the covariance.
    threads : int
        CPU threads of the network; 0 leaves it to the engine.

    Returns
    -------
    dict
        The metrics: metres, degrees, milliseconds, shares 0..1.

    """
    from geo_perception.commands.relocalization_output import present
    from geo_perception.datasets.recording import open_recording
    from geo_perception.evaluation.run import evaluate_relocalizer
    from geo_perception.inference.relocalizer import Relocalizer

    relocalizer = Relocalizer.load(model, device=device, precision=precision, samples=samples,
                                   threads=threads)
    sequence = open_recording(recording, image_topic=image_topic, pose_topic=pose_topic,
                              pose_frame=pose_frame, quaternion=quaternion)
    result = evaluate_relocalizer(relocalizer, sequence)
    return present(result, sequence, relocalizer.retrieval, relocalizer.model, recording,
                   json=json, report=report, output=output)
