# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The node ``relocalize`` in a replay: its poses, scored."""

from dataclasses import replace
import time

from geometry_msgs.msg import PoseWithCovarianceStamped
import numpy as np

from geo_perception.evaluation.run import unanswered_result, with_baselines
from geo_perception.inference.retrieval import Retrieval
from geo_perception.ros.messages import LOST_VARIANCE, matrix_from_pose, stamp_to_ns
from geo_perception.ros.replayed_node import QUEUE, ReplayedNode
from geo_perception.ros.validators import fix_problems


class ReplayedRelocalizer(ReplayedNode):
    """
    Listens to ``~/pose_with_covariance``, and to ``~/coarse_pose`` of a place file.

    Parameters as for `ReplayedNode`.
    """

    kind = 'relocalize'

    def __init__(self, model, module=None):
        super().__init__(model, module)
        self._poses, self._coarse = {}, {}   # stamp -> T_world_camera, covariance

    def listen(self, peer):
        """Subscribe to the poses."""
        peer.create_subscription(PoseWithCovarianceStamped, f'/{self.name}/pose_with_covariance',
                                 self._on_pose, QUEUE)
        if self.model.metadata.place:
            peer.create_subscription(PoseWithCovarianceStamped, f'/{self.name}/coarse_pose',
                                     self._on_coarse, QUEUE)

    def parameters(self):
        """Let refused poses come out, too, marked: every image has an answer to wait for."""
        return {'gate': 'inflate'}

    def result(self, names, mode, published):
        """
        Return what was answered.

        Parameters
        ----------
        names, mode, published
            See `ReplayedNode.result`.

        Returns
        -------
        RelocalizationResult

        """
        metadata = self.model.metadata
        result, coarse = (unanswered_result(self.sequence, np.array(metadata.T_map_world),
                                            metadata.world_frame, mode) for _ in range(2))
        for poses, part in ((self._poses, result), (self._coarse, coarse)):
            part.names[:] = names
            for i, stamp in enumerate(part.stamps.tolist()):
                if stamp in poses and stamp in published:
                    _enter(part, i, *poses[stamp])
                    if stamp in self.answered:
                        part.delay_ms[i] = 1e-6 * (self.answered[stamp] - published[stamp])
        if metadata.place:
            result = replace(result, coarse=coarse)
        result.moments.fill_in(self.sequence)
        return with_baselines(result, self.sequence, Retrieval.from_model(self.model))

    def _on_pose(self, message):
        received, stamp = time.monotonic_ns(), stamp_to_ns(message.header.stamp)
        self.validate('pose_with_covariance', fix_problems(message))
        self._poses[stamp] = _pose(message)
        self.answer(stamp, received)

    def _on_coarse(self, message):
        self._coarse[stamp_to_ns(message.header.stamp)] = _pose(message)


def _pose(message):
    """Return pose and covariance of a message."""
    return (matrix_from_pose(message.pose.pose), np.reshape(message.pose.covariance, (6, 6)))


def _enter(result, i, T, covariance):
    """Write down what was answered to one image."""
    result.processed[i] = True
    result.T_estimate[i] = T
    if covariance[0, 0] == LOST_VARIANCE:
        result.reasons[i] = 'refused by the gate of the node'
    else:
        result.accepted[i] = True
        result.covariance[i] = covariance
