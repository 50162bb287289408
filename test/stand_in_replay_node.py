# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
The real node around a pipeline that tests can read: brighter images lie further along x.

``python -m stand_in_replay_node``; behaviour is set by the environment variable STAND_IN.
"""

import os
import sys
import time
from types import SimpleNamespace

import numpy as np

from geo_perception.errors import ImageError, ModelFileError
from geo_perception.nodes.relocalize import RelocalizeNode
from geo_perception.ros.run import run_node

BLACK, WHITE = 0, 255
COVARIANCE = np.diag([0.01, 0.02, 0.03, 0.001, 0.002, 0.003])


def pose_of(brightness):
    """Return the pose that answers an image of one grey value."""
    T = np.eye(4)
    T[:3, 3] = brightness / 10.0, 2.0, 3.0
    return T


class StandIn:
    """Refuses white images, cannot use black ones."""

    world_frame = 'map'
    model = SimpleNamespace(sha256='', metadata=SimpleNamespace(training_camera=None))

    def __init__(self, behaviour):
        self._behaviour = behaviour

    def describe(self):
        """Return what the real one says about its engine."""
        return 'stand-in'

    def __call__(self, image, camera=None):
        """Return a pose that tells the brightness."""
        if self._behaviour == 'die':
            print('[FATAL] [1.0] [relocalize]: out of memory', file=sys.stderr, flush=True)
            os._exit(3)
        if self._behaviour == 'slow':
            time.sleep(0.15)
        brightness = float(image[0, 0, 0])
        if brightness == BLACK:
            raise ImageError('the lid is on')
        return SimpleNamespace(T_world_camera=pose_of(brightness), covariance=COVARIANCE,
                               score=0.9, accepted=brightness != WHITE, reason='too bright')


class StandInNode(RelocalizeNode):
    """The real node with the stand-in for a pipeline."""

    def load_pipeline(self):
        """Load nothing."""
        behaviour = os.environ.get('STAND_IN', '')
        if behaviour == 'no model':
            raise ModelFileError('the model file is a cake')
        return StandIn(behaviour)


if __name__ == '__main__':
    sys.exit(run_node(StandInNode))
