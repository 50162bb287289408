# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The node ``relocalize`` in a replay: its poses, scored."""

import time

from geometry_msgs.msg import PoseWithCovarianceStamped
import numpy as np

from geo_perception.evaluation.run import unanswered_result, with_baselines
from geo_perception.inference.retrieval import Retrieval
from geo_perception.ros.messages import LOST_VARIANCE, matrix_from_pose, stamp_to_ns
from geo_perception.ros.replayed_node import QUEUE, ReplayedNode


class ReplayedRelocalizer(ReplayedNode):
    """Listens to ``~/pose_with_covariance``; parameters as for `ReplayedNode`."""

    kind = 'relocalize'

    def __init__(self, model, module=None):
        super().__init__(model, module)
        self._poses = {}   # stamp -> T_world_camera, covariance

    def listen(self, peer):
        """Subscribe to the poses."""
        peer.create_subscription(PoseWithCovarianceStamped, f'/{self.name}/pose_with_covariance',
                                 self._on_pose, QUEUE)

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
        result = unanswered_result(self.sequence, np.array(metadata.T_map_world),
                                   metadata.world_frame, mode)
        result.names[:] = names
        for i, stamp in enumerate(result.stamps.tolist()):
            if stamp not in self._poses or stamp not in published:
                continue
            T, covariance = self._poses[stamp]
            result.processed[i] = True
            result.delay_ms[i] = 1e-6 * (self.answered[stamp] - published[stamp])
            result.T_estimate[i] = T
            if covariance[0, 0] == LOST_VARIANCE:
                result.reasons[i] = 'refused by the gate of the node'
            else:
                result.accepted[i] = True
                result.covariance[i] = covariance
        return with_baselines(result, self.sequence, Retrieval.from_model(self.model))

    def _on_pose(self, message):
        received, stamp = time.monotonic_ns(), stamp_to_ns(message.header.stamp)
        self._poses[stamp] = (matrix_from_pose(message.pose.pose),
                              np.reshape(message.pose.covariance, (6, 6)))
        self.answer(stamp, received)
