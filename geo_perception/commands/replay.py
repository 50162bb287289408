# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception replay``: play a bag into live nodes and measure what comes out."""

from typing import Optional


def replay(bag: str, *, relocalizer: Optional[str] = None, geometry: Optional[str] = None,
           rate: float = 1.0, lockstep: bool = False, json: Optional[str] = None,
           report: Optional[str] = None, output: Optional[str] = None,
           image_topic: Optional[str] = None, camera_info_topic: Optional[str] = None,
           pose_topic: Optional[str] = None, pose_frame: Optional[str] = None,
           start_timeout: float = 180.0, frame_timeout: float = 10.0):
    """
    Play a ROS 2 bag over DDS into live nodes, record their answers and score them.

    Each node runs in a process of its own, all on a private ROS domain of this machine: with both
    models both nodes, at the same time. Without ROS 2 the same is measured offline. A model with
    flow makes flow, too, for what moves is shown in the report.

    Parameters
    ----------
    bag : str
        ROS 2 bag with images and poses, with an optional slice: ``drive[0:500]``.
    relocalizer : str, optional
        Model file (.safetensors) or place file (.place) for the node ``relocalize``.
    geometry : str, optional
        Model file for the node ``geometry``; the bag needs camera_info, and what it has of depth,
        poses, flow and masks of what moves is compared.
    rate : float
        Speed of the playback, 1 as recorded. A node that cannot keep up drops images.
    lockstep : bool
        Play the next image when the last one is answered: no image is dropped, and the numbers
        do not depend on the speed of the machine.
    json : str, optional
        Write the metrics to this file.
    report : str, optional
        Write report.html, metrics.json, frames.csv (with both nodes also geometry_frames.csv), and
        run.npz, of which "geo_perception report" makes the page again, into this folder.
    output : str, optional
        Write one row per image to this CSV file; for one node only.
    image_topic : str, optional
        Image topic; by default the only one that fits.
    camera_info_topic : str, optional
        Calibration topic; by default the one that belongs to the images.
    pose_topic : str, optional
        Pose, odometry or TF topic of the truth; by default the only one that fits.
    pose_frame : str, optional
        Frame whose pose the pose topic gives, where it is not the camera.
    start_timeout : float
        Seconds for the nodes to load their models and become active.
    frame_timeout : float
        Seconds without an answer after which an image counts as dropped.

    Returns
    -------
    dict
        Job (``relocalization``, ``depth``, ``odometry``, and ``flow`` and ``motion`` where the
        model has flow and the bag its truth) to metrics: metres, degrees, pixels, milliseconds,
        shares 0..1.

    """
    from geo_perception.errors import ConfigurationError

    if not (relocalizer or geometry):
        raise ConfigurationError('no model to replay into: give --relocalizer, --geometry or both')
    if relocalizer and geometry and output:
        raise ConfigurationError('--output is the table of one node; with both give --report, '
                                 'which writes both tables')
    from geo_perception.commands.geometry_evaluation import open_scored
    from geo_perception.commands.outcome import require_writable
    from geo_perception.commands.replay_output import present_replay
    from geo_perception.datasets.recording import open_recording
    from geo_perception.inference.geometry_model import load_geometry_model
    from geo_perception.model_file import load_model_file

    require_writable(json, output, folder=report)
    place = load_model_file(relocalizer, 'relocalization') if relocalizer else None
    way = load_geometry_model(geometry) if geometry else None
    topics = {'image_topic': image_topic, 'camera_info_topic': camera_info_topic,
              'pose_topic': pose_topic, 'pose_frame': pose_frame}
    sequence = open_recording(bag, **topics) if place else open_scored(bag, way, **topics)
    if has_ros():
        results = play(sequence, place, way, rate=rate, lock_step=lockstep,
                       start_timeout=start_timeout, frame_timeout=frame_timeout)
    else:
        print('This Python finds no ROS 2, so the pipelines of the nodes are measured without '
              'them: no image is dropped, and delays are those of the pipelines alone.')
        results = measure_without_ros(sequence, place, way)
    return present_replay(sequence, bag, **results, json=json, report=report, output=output)


def has_ros():
    """
    Tell whether there is ROS 2.

    Returns
    -------
    bool

    """
    from importlib.util import find_spec

    return find_spec('rclpy') is not None


def require_ros():
    """
    Raise where there is no ROS 2.

    Raises
    ------
    ConfigurationError
        What to do about it.

    """
    from geo_perception.errors import ConfigurationError

    if not has_ros():
        raise ConfigurationError('demo needs ROS 2, which this Python does not find; source a '
                                 'distribution (source /opt/ros/jazzy/setup.bash) or install the '
                                 'wheels, or measure offline with: geo_perception replay')


def measure_without_ros(sequence, relocalizer=None, geometry=None):
    """
    Send a recording through the pipelines of some models, as their nodes would.

    Parameters
    ----------
    sequence : Sequence
        Frames of any recording.
    relocalizer, geometry : ModelFile, optional
        Of the pipelines.

    Returns
    -------
    dict
        As `play` returns it.

    """
    from geo_perception.evaluation.geometry_run import run_geometry
    from geo_perception.evaluation.run import evaluate_relocalizer
    from geo_perception.inference.geometry import GeometryPipeline
    from geo_perception.inference.verified import make_relocalizer

    results = {}
    if relocalizer is not None:
        results['relocalization'] = relocalizer, evaluate_relocalizer(
            make_relocalizer(relocalizer), sequence)
    if geometry is not None:
        pipeline = GeometryPipeline(geometry)
        results['geometry'] = geometry, run_geometry(pipeline, sequence, flow=pipeline.has_flow)
    return results


def play(sequence, relocalizer=None, geometry=None, **how):
    """
    Play a bag into the nodes of some models.

    Parameters
    ----------
    sequence : Sequence
        Frames of a ROS 2 bag.
    relocalizer, geometry : ModelFile, optional
        For the nodes.
    **how
        As for `geo_perception.ros.replay.replay`.

    Returns
    -------
    dict
        ``relocalization`` and ``geometry``, as far as given: model and what its node answered.

    """
    from geo_perception.ros.replay import replay as play_into
    from geo_perception.ros.replayed_geometry import ReplayedGeometry
    from geo_perception.ros.replayed_relocalizer import ReplayedRelocalizer

    nodes = {}
    if relocalizer is not None:
        nodes['relocalization'] = ReplayedRelocalizer(relocalizer)
    if geometry is not None:
        nodes['geometry'] = ReplayedGeometry(geometry)
    answers = play_into(sequence, list(nodes.values()), **how)
    return {name: (node.model, answer) for (name, node), answer in zip(nodes.items(), answers)}
