# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
A geometry pipeline that knows the truth without a network, and the real node around it.

The robot drives forward at 0.5 m/s and turns left at 0.4 rad/s. As a module it is the node
process of a replay: ``python -m stand_in_geometry``; behaviour is set by STAND_IN.
"""

import os
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np

from geo_perception.errors import ModelFileError
from geo_perception.geometry import se3
from geo_perception.inference.depth import DepthEstimate
from geo_perception.inference.flow import FlowEstimate, FlowField
from geo_perception.inference.geometry import GeometryResult
from geo_perception.inference.scale import Scale
from geo_perception.inference.visual_odometry import OdometryEstimate
from geo_perception.nodes.geometry import GeometryNode
from geo_perception.ros.run import run_node

SPEED, TURN = 0.5, 0.4
DEPTH = 2.5
# Ahead of the base, to its left and above, looking down to the right.
T_BASE_CAMERA = se3.make_transform(
    se3.matrix_from_rotation_vector([0.05, 0.3, -0.2]) @ se3.R_BODY_OPTICAL, [0.4, 0.15, 0.8])
MOTION_COVARIANCE = np.diag([1.0, 2, 3, 4, 5, 6]) * 1e-6
COVARIANCE = np.diag([6.0, 5, 4, 3, 2, 1]) * 1e-4
RESIDUAL = 0.07


def base_at(stamp):
    """Return where the base is, in the world, at a stamp in nanoseconds."""
    yaw = TURN * 1e-9 * stamp
    radius = SPEED / TURN
    return se3.make_transform(se3.matrix_from_rotation_vector([0, 0, yaw]),
                              [radius * np.sin(yaw), radius * (1 - np.cos(yaw)), 0.0])


def camera_at(stamp):
    """Return where the camera is."""
    return base_at(stamp) @ T_BASE_CAMERA


class StandInGeometry:
    """Has the interface of `geo_perception.inference.geometry.GeometryPipeline`."""

    model = SimpleNamespace(sha256='0123456789abcdef')
    tracking = {'tracking': 'hybrid', 'corners': '123'}

    def __init__(self, source='model', camera_at=camera_at, pause=0.0, has_flow=False):
        self.source, self._camera_at, self._pause = source, camera_at, pause
        self.metres_per_unit = None if source in ('none', 'odometry') else 1.5
        self.has_flow = has_flow
        self.undecided = ''      # why it cannot be told what moves
        self.seen = []           # what was asked for: 'depth', 'all' or 'all and flow'
        self.cameras = []
        self.resets = 0
        self.distances = []
        self.next_reset = self.warning = ''
        self.threads = set()
        self.error = None
        self.gate = threading.Event()   # an inference takes until this is set
        self.gate.set()
        self._origin = self._before = None

    def describe(self):
        """Return what the real one says about its engine."""
        return 'stand-in'

    def scale(self):
        """Return the scale."""
        if self.metres_per_unit is None:
            return Scale(self.source, None, 0.0, None, 'No scale yet: it is a stand-in.')
        return Scale(self.source, self.metres_per_unit, 0.8, 0.1, '1.5 metres per unit.')

    def depth_only(self, image, camera):
        """Return a wall at a constant depth, unknown in one corner and where it is black."""
        self._work('depth', camera)
        return self._depth(image, camera)

    def __call__(self, image, camera, stamp, flow=False):
        """Return the true motion since the image before, and some flow."""
        self._work('all and flow' if flow else 'all', camera)
        result = {'depth': self._depth(image, camera), 'scale': self.scale(),
                  'reset': self.next_reset, 'warning': self.warning}
        self.next_reset = ''
        if image.max() < 5:
            return GeometryResult(odometry=None, reason='the image is black', **result)
        if result['reset'] or self._before is None:
            self._origin = self._before = stamp
            return GeometryResult(odometry=None, reason='the first frame', **result)
        ends = [self._camera_at(instant) for instant in (self._origin, self._before, stamp)]
        estimate = OdometryEstimate(
            stamp, se3.inverse_transform(ends[0]) @ ends[2],
            se3.inverse_transform(ends[1]) @ ends[2], 1e-9 * (stamp - self._before),
            MOTION_COVARIANCE, COVARIANCE, RESIDUAL, self.metres_per_unit is not None,
            state='hybrid')
        if flow:
            result['flow'] = flow_estimate(result['depth'].camera, self._before, stamp,
                                           self.undecided)
        self._before = stamp
        return GeometryResult(odometry=estimate, **result)

    def observe_distance(self, true_distance):
        """Take it for the truth."""
        self.distances.append(true_distance)
        self.metres_per_unit = 1.5

    def reset(self):
        """Forget earlier frames."""
        self.resets += 1
        self._origin = self._before = None

    def _work(self, what, camera):
        self.threads.add(threading.get_ident())
        self.seen.append(what)
        self.cameras.append(camera)
        assert self.gate.wait(20.0)
        time.sleep(self._pause)
        if self.error is not None:
            raise self.error

    def _depth(self, image, camera):
        small = camera.resized(camera.width // 2, camera.height // 2)
        depth = np.full((small.height, small.width), DEPTH, np.float32)
        depth[0, 0] = np.nan
        if image.max() < 5:
            depth[:] = np.nan
        return DepthEstimate(depth, small, self.metres_per_unit is not None)


def flow_estimate(camera, earlier, later, reason=''):
    """Return a flow in which a stripe of the newest image moves, and a row is unknown."""
    shape = camera.height, camera.width
    flow = np.empty((*shape, 2), np.float32)
    flow[..., 0], flow[..., 1] = np.arange(shape[1]), -0.5
    rigid = flow.copy()
    rigid[:, 4:8] += 3
    rigid[0] = np.nan
    valid = np.ones(shape, bool)
    valid[0] = False
    score = np.zeros(shape, np.float32)
    score[:, 4:8] = 9
    score[0] = np.nan
    newest = FlowField(flow, rigid, valid, score, (score > 4) & (not reason))
    before = FlowField(-flow, -rigid, ~valid, 2 * score, ~newest.moving)
    return FlowEstimate(before, newest, camera, earlier, later, reason)


class StandInNode(GeometryNode):
    """The real node with the stand-in for a pipeline."""

    def load_pipeline(self):
        """Load nothing."""
        behaviour = os.environ.get('STAND_IN', '')
        if behaviour == 'no model':
            raise ModelFileError('the model file is a cake')
        return StandInGeometry(self.parameters.scale_source,
                               pause=0.15 if behaviour == 'slow' else 0.0)


class StandInFlowNode(StandInNode):
    """The same with a model that has flow."""

    def load_pipeline(self):
        """Load nothing."""
        return StandInGeometry(self.parameters.scale_source, has_flow=True)


if __name__ == '__main__':
    sys.exit(run_node(StandInNode))
