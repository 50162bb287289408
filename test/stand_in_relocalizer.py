# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
A relocalizer without a network, and the real node around it.

As a script it is the node process: ``python stand_in_relocalizer.py --ros-args ...``.
"""

import sys
import threading
from types import SimpleNamespace

import numpy as np

from geo_perception.geometry import se3
from geo_perception.model_file import TrainingCamera
from geo_perception.nodes.relocalize import RelocalizeNode
from geo_perception.ros.run import run_node

T_MAP_CAMERA = se3.make_transform(
    se3.matrix_from_rotation_vector([0.0, 0.0, 0.3]) @ se3.R_BODY_OPTICAL, [1.0, 2.0, 1.5])
COVARIANCE = np.diag([0.01, 0.02, 0.03, 0.001, 0.002, 0.003])


class StandInRelocalizer:
    """Has the interface of `geo_perception.inference.relocalizer.Relocalizer`."""

    def __init__(self):
        self.world_frame = 'office'
        camera = TrainingCamera(width=64, height=48, fx=60.0, fy=60.0, cx=31.5, cy=23.5)
        self.model = SimpleNamespace(sha256='0123456789abcdef',
                                     metadata=SimpleNamespace(training_camera=camera))
        self.T_world_camera = T_MAP_CAMERA
        self.images = []
        self.threads = set()
        self.accepted = True
        self.error = None
        self.gate = threading.Event()   # an inference takes until this is set
        self.gate.set()

    def describe(self):
        """Return what the real one says about its engine."""
        return 'stand-in'

    def __call__(self, image, camera=None):
        """Return the pose it was given, whatever the image."""
        self.threads.add(threading.get_ident())
        self.images.append(image)
        assert self.gate.wait(20.0)
        if self.error is not None:
            raise self.error
        return SimpleNamespace(
            T_world_camera=self.T_world_camera, covariance=COVARIANCE, score=0.4,
            accepted=self.accepted, reason='' if self.accepted else 'the place is unknown')


class StandInNode(RelocalizeNode):
    """The real node with the stand-in for a pipeline."""

    def load_pipeline(self):
        """Load nothing."""
        return StandInRelocalizer()


if __name__ == '__main__':
    sys.exit(run_node(StandInNode))
