# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Offline evaluation: a recording through the same geometry pipeline that the node runs."""

from collections import deque
from dataclasses import replace
import time

import numpy as np

from geo_perception.datasets.frame import needed_camera
from geo_perception.evaluation.beside import Beside, read_ahead
from geo_perception.evaluation.classical_odometry import (
    chain, constant_motion, FivePointOdometry)
from geo_perception.evaluation.depth import DepthRules
from geo_perception.evaluation.depth_samples import score_depth
from geo_perception.evaluation.flow_samples import score_flow
from geo_perception.evaluation.flow_scores import FlowScores, has_flow_truth
from geo_perception.evaluation.geometry_result import GeometryRecording
from geo_perception.evaluation.snippet_errors import snippet_poses
from geo_perception.geometry import se3
from geo_perception.geometry.camera import same_camera
from geo_perception.progress import track


def run_geometry(pipeline, sequence, rules=DepthRules(), flow=False):
    """
    Send every frame of a recording through the pipeline.

    The next frame is looked at while the pipeline follows the last one. Where the pipeline starts
    anew its pose goes on from the last one: nothing is known of the motion in between, so what
    was missed counts as error. A scale from odometry is learned from the recording's own poses.

    Parameters
    ----------
    pipeline : GeometryPipeline
        Fresh.
    sequence : Sequence
        Frames with intrinsics; with poses and depth as far as known.
    rules : DepthRules
        Which pixels of the depth count.
    flow : bool
        Whether flow is made as well, and compared where it is known.

    Returns
    -------
    GeometryRecording
        ``delay_ms`` is the time of the pipeline while the next frame is looked at beside it; one
        frame by itself takes less.

    Raises
    ------
    RecordingError
        When a frame has no intrinsics.

    """
    recording = GeometryRecording.unanswered(
        sequence.stamps, sequence.poses, rules, mode='offline',
        flow=FlowScores() if flow and has_flow_truth(sequence) else None)
    T_last, T_odom_start = np.eye(4), None
    scale = before = None

    def look(frame):
        needed_camera(frame, 'neither depth nor odometry can be compared')
        started = time.perf_counter()
        view = pipeline.look(frame.image, frame.camera, frame.stamp)
        return frame, view, time.perf_counter() - started

    def score(i, before, frame, result):
        score_depth(recording, i, frame, result.depth)
        found = (result.flow.backward, result.flow.camera) if result.flow else None
        recording.moments.take(i, frame, result.depth, *((found[0].moving, found[1]) if found
                                                         else ()))
        if found and recording.flow is not None and result.flow.earlier_stamp == before.stamp:
            score_flow(recording, i, before, frame, *found)

    with Beside() as beside:
        for i, (frame, view, seconds) in track(beside.read_ahead(sequence, look), 'Looking',
                                               total=len(sequence)):
            recording.names[i] = frame.name
            started = time.perf_counter()
            result = pipeline.follow(view, flow)
            recording.delay_ms[i] = 1e3 * (seconds + time.perf_counter() - started)
            scale, odometry = result.scale, result.odometry
            recording.processed[i] = True
            recording.metric[i] = scale.metres_per_unit is not None
            recording.metres_per_unit[i] = (np.nan if scale.metres_per_unit is None
                                            else scale.metres_per_unit)
            recording.resets[i] = result.reset
            # A covered lens begins nothing.
            if result.reset or T_odom_start is None and np.isfinite(result.depth.depth).any():
                T_odom_start = recording.T_odom_camera[i] = T_last
            if odometry is not None:
                recording.T_odom_camera[i] = T_last = T_odom_start @ odometry.T_odom_camera
                recording.motion_covariance[i] = odometry.motion_covariance
                recording.pose_covariance[i] = se3.rotate_pose_covariance(
                    odometry.covariance, T_odom_start[:3, :3])
                recording.states[i] = odometry.state
                _tell_distance(pipeline, recording, i, odometry)
            beside.do(score, i, before, frame, result)
            before = frame
    return replace(recording, scale='' if scale is None else scale.sentence)


def with_baselines(recording, sequence, pipeline=None):
    """
    Return the recording together with what other systems answer.

    The five-point method takes the length of its steps from our odometry, so it is measured at
    our scale; the constant motion is the mean of the true one.

    Parameters
    ----------
    recording : GeometryRecording
        Of this sequence.
    sequence : Sequence
        Its frames.
    pipeline : GeometryPipeline or None
        Whose network alone is measured, too, where it is not what was run.

    Returns
    -------
    GeometryRecording

    """
    baselines = {}
    if pipeline is not None and pipeline.tracking:
        baselines['network'] = run_geometry(pipeline.network_alone(), sequence).T_odom_camera
    method = FivePointOdometry()
    seen, references, motions = map(list, zip(*(
        (i, *method(frame.image, frame.camera)) for i, frame in
        track(read_ahead(sequence), 'Following corners', total=len(sequence)))))
    five_point = np.full((len(sequence), 4, 4), np.nan)
    five_point[seen] = chain(references, motions, recording.T_odom_camera[seen])
    return replace(recording, baselines={
        **baselines, 'five_point': five_point,
        'constant_motion': constant_motion(recording.stamps, recording.T_truth)})


def with_snippets(recording, pipeline, sequence):
    """
    Return the recording together with the snippets that the ego-motion network predicts.

    They are what published numbers are of (sfmlearner.md section 6.2): every frame with all its
    neighbours is a target once, whatever the odometry makes of it.

    Parameters
    ----------
    recording : GeometryRecording
        Of this sequence.
    pipeline : GeometryPipeline
        Its state is left alone.
    sequence : Sequence
        Frames with intrinsics.

    Returns
    -------
    GeometryRecording

    """
    length = pipeline.snippet_length
    snippets = np.full((len(sequence), length, 4, 4), np.nan)
    if not length:
        return replace(recording, snippets=snippets)
    frames, following = deque(maxlen=length), 0
    for i, frame in track(read_ahead(sequence), 'Looking at snippets', total=len(sequence)):
        if i != following:
            frames.clear()   # One in between cannot be read.
        following = i + 1
        frames.append(frame)
        camera = frames[0].camera
        if len(frames) == length and all(same_camera(f.camera, camera) for f in frames):
            snippets[i - length + 1] = snippet_poses(
                pipeline.snippet([f.image for f in frames], camera))
    return replace(recording, snippets=snippets)


def _tell_distance(pipeline, recording, i, odometry):
    """Let the pipeline know how far the camera truly went, which it uses if so asked."""
    before = recording.stamps[i] - round(1e9 * odometry.interval)
    j = int(np.argmin(np.abs(recording.stamps[:i] - before)))
    distance = np.linalg.norm(recording.T_truth[i, :3, 3] - recording.T_truth[j, :3, 3])
    if np.isfinite(distance):
        pipeline.observe_distance(float(distance))
