# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The node ``geometry`` in a replay: its odometry recorded, depth and flow scored as they come."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
import time

from nav_msgs.msg import Odometry
import numpy as np
from sensor_msgs.msg import CameraInfo, Image, TimeReference

from geo_perception.evaluation.depth_samples import score_depth
from geo_perception.evaluation.flow_samples import score_flow
from geo_perception.evaluation.flow_scores import FlowScores, has_flow_truth
from geo_perception.evaluation.geometry_result import GeometryRecording
from geo_perception.geometry import se3
from geo_perception.image_codec import decode_array
from geo_perception.inference.depth import DepthEstimate
from geo_perception.inference.flow import FlowField, has_flow
from geo_perception.ros.calibration import checked_camera
from geo_perception.ros.flow_output import FLOW_IMAGES, REFERENCE
from geo_perception.ros.messages import matrix_from_pose, stamp_to_ns
from geo_perception.ros.odometry import body_frame_of
from geo_perception.ros.replayed_node import QUEUE, ReplayedNode
from geo_perception.ros.validators import depth_problems, odometry_problems


class ReplayedGeometry(ReplayedNode):
    """
    Listens to depth, its calibration and odometry; parameters as for `ReplayedNode`.

    A depth image is compared with the bag's as it arrives, in a thread of its own, and let go; so
    is flow, where the model has it and the bag its truth. A model without metres is run without
    unit.
    """

    kind = 'geometry'

    def __init__(self, model, module=None):
        super().__init__(model, module)
        self._metric = 'metres_per_unit' in model.metadata.calibration
        self._recording = self._rows = self._info = None
        self._odometry = {}   # stamp -> message
        self._flow = {}       # stamp -> topic -> message, until all are there
        self._masks = {}      # row -> what moves, and the camera of its pixels
        self._scorer = ThreadPoolExecutor(1, 'depth scorer')
        self._scores = []
        self._resets = 0

    def listen(self, peer):
        """Subscribe to all that comes with an image."""
        poses = self.sequence.poses
        self._recording = GeometryRecording.unanswered(self.sequence.stamps, poses)
        self._rows = {stamp: i for i, stamp in enumerate(self.sequence.stamps.tolist())}
        suffix = '' if self._metric else '_relative'
        for message_class, topic, callback in (
                (CameraInfo, 'camera_info', self._on_info),
                (Odometry, f'odometry{suffix}', self._on_odometry),
                (Image, f'depth{suffix}', self._on_depth)):
            peer.create_subscription(message_class, f'/{self.name}/{topic}', callback, QUEUE)
        if not has_flow(self.model):
            return
        if has_flow_truth(self.sequence):
            self._recording = replace(self._recording, flow=FlowScores())
            for topic in (*FLOW_IMAGES, REFERENCE):
                peer.create_subscription(
                    TimeReference if topic == REFERENCE else Image, f'/{self.name}/{topic}',
                    partial(self._on_flow, topic), QUEUE)
        else:   # for the pictures of the report
            peer.create_subscription(Image, f'/{self.name}/motion_mask', self._on_mask, QUEUE)

    def parameters(self):
        """Ask for the odometry of the camera itself, which needs no TF in the bag."""
        return {'base_frame': "''", 'scale_source': 'model' if self._metric else 'none'}

    def result(self, names, mode, published):
        """
        Return what was answered.

        Parameters
        ----------
        names, mode, published
            See `ReplayedNode.result`.

        Returns
        -------
        GeometryRecording

        """
        self._scorer.shutdown()
        for score in self._scores:
            score.result()   # raises what went wrong there
        recording = self._recording
        recording.names[:] = names
        for stamp, received in self.answered.items():
            if stamp in published:
                i = self._rows[stamp]
                recording.processed[i] = True
                recording.metric[i] = self._metric
                recording.delay_ms[i] = 1e-6 * (received - published[stamp])
        recording.metres_per_unit[recording.processed] = float(
            self.values.get('scale [m/unit]', 'nan'))
        self._fill_in_odometry()
        recording.moments.fill_in(self.sequence)
        for i, (moving, camera) in self._masks.items():
            recording.moments.add_moving(i, moving, camera, self.sequence[i].camera)
        return replace(recording, mode=mode, scale=self.values.get('scale', ''))

    def _fill_in_odometry(self):
        """Write poses of the camera and the covariances of poses and motions down."""
        recording, before = self._recording, min(self.answered, default=None)
        if before is None:
            return
        # The odometry frame is the body as it was at the first image that was answered; here, as
        # offline, it is the camera.
        T_body_camera = body_frame_of('camera')[1]
        T_start_odom = se3.inverse_transform(T_body_camera)
        recording.T_odom_camera[self._rows[before]] = np.eye(4)
        for stamp in sorted(self._odometry):
            message, i = self._odometry[stamp], self._rows[stamp]
            T_start_body = T_start_odom @ matrix_from_pose(message.pose.pose)
            recording.T_odom_camera[i] = T_start_body @ T_body_camera
            recording.pose_covariance[i] = se3.rotate_pose_covariance(
                np.reshape(message.pose.covariance, (6, 6)), T_start_odom[:3, :3])
            # The twist is the motion over the time since the message before.
            covariance = np.reshape(message.twist.covariance, (6, 6)) * (
                1e-9 * (stamp - before)) ** 2
            R_start_before = recording.T_odom_camera[self._rows[before], :3, :3]
            recording.motion_covariance[i] = se3.rotate_pose_covariance(
                covariance, R_start_before.T @ T_start_body[:3, :3])
            before = stamp

    def _on_info(self, message):
        self._info = message
        if self._recording.flow is not None:
            self._on_flow('camera_info', message)

    def _on_odometry(self, message):
        self.validate('odometry', odometry_problems(message))
        self._odometry[stamp_to_ns(message.header.stamp)] = message

    def _on_depth(self, message):
        received, stamp = time.monotonic_ns(), stamp_to_ns(message.header.stamp)
        if stamp in self._rows:
            self._scores.append(self._scorer.submit(self._score, self._rows[stamp], message,
                                                    self._info))
        self.answer(stamp, received)

    def _score(self, i, message, info):
        """Compare a depth image with the truth, if the recording has it."""
        if info is not None:
            if info.header == message.header:   # else that of the image before, while one is late
                self.validate('depth', depth_problems(message, info))
            frame, estimate = self.sequence[i], DepthEstimate(
                decode_array(message), checked_camera(info), self._metric)
            score_depth(self._recording, i, frame, estimate)
            self._recording.moments.take(i, frame, estimate)

    def _on_flow(self, topic, message):
        """Note what is known of an image, and score it once all has come."""
        stamp = stamp_to_ns(message.header.stamp)
        known = self._flow.setdefault(stamp, {})
        known[topic] = message
        if len(known) == len(FLOW_IMAGES) + 2 and stamp in self._rows:
            self._scores.append(self._scorer.submit(self._score_flow, self._rows[stamp],
                                                    self._flow.pop(stamp)))

    def _score_flow(self, i, messages):
        """Compare the flow of an image with the truth, if that is of the same two images."""
        earlier = stamp_to_ns(messages[REFERENCE].time_ref)
        if i == 0 or self.sequence.stamps[i - 1] != earlier:
            return
        before, frame = self.sequence[i - 1], self.sequence[i]
        found, camera = _field_of(messages), checked_camera(messages['camera_info'])
        score_flow(self._recording, i, before, frame, found, camera)
        self._keep_mask(i, found.moving, camera)

    def _on_mask(self, message):
        """Keep what moves for the pictures."""
        stamp = stamp_to_ns(message.header.stamp)
        if stamp in self._rows and self._info is not None:
            self._keep_mask(self._rows[stamp], decode_array(message), checked_camera(self._info))

    def _keep_mask(self, i, moving, camera):
        if self._recording.moments.wants(i):
            self._masks[i] = moving, camera

    def _on_status(self, status):
        """Note at which frame the node started anew, as nearly as diagnostics tell."""
        super()._on_status(status)
        resets = int(self.values.get('resets', 0))
        if resets > self._resets and self.answered:
            newest = self._rows[max(self.answered)]
            self._recording.resets[newest] = self.values.get('last reset', 'started anew')
        self._resets = resets


def _field_of(messages):
    """Return what the messages of one image say."""
    arrays = {name: decode_array(messages[name]) for name in FLOW_IMAGES}
    return FlowField(arrays['flow'], arrays['rigid_flow'], arrays['flow_valid'] != 0,
                     arrays['motion_score'], arrays['motion_mask'] != 0)
