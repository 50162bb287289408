# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The node ``geometry`` with a camera before it and listeners behind it."""

from nav_msgs.msg import Odometry
import numpy as np
from ros_harness import picture_message
from sensor_msgs.msg import CameraInfo, Image
from stand_in_geometry import StandInNode

from geo_perception.geometry.camera import Camera
from geo_perception.ros.messages import camera_info_message, stamp_to_ns
from geo_perception.ros.validators import depth_problems, odometry_problems

SECOND = 1_000_000_000
CAMERA = Camera(np.array([[60.0, 0, 31.5], [0, 60, 23.5], [0, 0, 1]]), 64, 48,
                frame_id='camera_optical_frame')


class Scene:
    """A node under test with a camera before it and listeners behind it."""

    def __init__(self, graph, *, listen=('depth', 'odometry'), node_class=StandInNode,
                 calibrated=True, base_frame='', **parameters):
        self.graph = graph
        self.node = graph.make(node_class, base_frame=base_frame, **parameters)
        self.suffix = '_relative' if parameters.get('scale_source') == 'none' else ''
        self.depths, self.infos, self.odometry = [], [], []
        if 'depth' in listen:
            self.depths = graph.listen(Image, f'/geometry/depth{self.suffix}')
            self.infos = graph.listen(CameraInfo, '/geometry/camera_info')
        if 'odometry' in listen:
            self.odometry = graph.listen(Odometry, f'/geometry/odometry{self.suffix}')
        self.listens, self.calibrated = bool(listen), calibrated
        self.stamp = 100 * SECOND

    def start(self, reliable=True):
        """Bring the node up and connect a camera."""
        assert self.node.start(), self.node.last_failure
        self.camera = self.graph.advertise(Image, '/image', reliable)
        self.info = self.graph.advertise(CameraInfo, '/camera_info', reliable)
        self.graph.spin_until(lambda: self.camera.get_subscription_count() > 0, what='the match')
        self.graph.spin_until(lambda: self.info.get_subscription_count() > 0, what='the match')
        wanted = [topic for topic, heard in (
            (self.node._depth, self.depths), (self.node._odometry, self.odometry))
            if heard is not None]
        self.graph.spin_until(
            lambda: not self.listens or self.node.is_wanted(), what='the listener')
        self.graph.spin_until(lambda: all(
            topic.get_subscription_count() == self.graph.peer.count_subscribers(topic.topic_name)
            for topic in wanted), what='all listeners')
        if self.calibrated:
            self.calibrate(CAMERA)
        return self

    def calibrate(self, camera, **changes):
        """Publish calibration and wait until it has arrived."""
        message = camera_info_message(self.stamp, camera.frame_id, camera)
        for name, value in changes.items():
            setattr(message, name, value)
        known = self.node._calibration._info
        self.info.publish(message)
        self.graph.spin_until(lambda: self.node._calibration._info is not known,
                              what='the calibration')

    @property
    def pipeline(self):
        """The stand-in inside the node."""
        return self.node.pipeline

    def send(self, message=None, frame_id='camera_optical_frame', **how):
        """Publish an image; return its stamp."""
        self.stamp += SECOND // 10
        self.camera.publish(message or picture_message(self.stamp, frame_id=frame_id, **how))
        return self.stamp

    def count(self, name):
        """Return a counter of the node."""
        return self.node.statistics.count(name)

    def process(self, message=None, **how):
        """Publish an image and wait until the node is done with it; return its stamp."""
        done = self.count('processed')
        stamp = self.send(message, **how)
        self.graph.spin_until(lambda: self.count('processed') > done, what='the frame')
        return stamp

    def move(self, **how):
        """Publish an image and return the odometry that comes of it."""
        stamp = self.process(**how)
        self.graph.spin_until(lambda: is_newest(self.odometry, stamp), what='the odometry')
        assert odometry_problems(self.odometry[-1]) == []
        return self.odometry[-1]

    def look(self, **how):
        """Publish an image and return depth and calibration that come of it."""
        stamp = self.process(**how)
        self.graph.spin_until(lambda: is_newest(self.depths, stamp)
                              and is_newest(self.infos, stamp), what='the depth')
        assert depth_problems(self.depths[-1], self.infos[-1]) == []
        return self.depths[-1], self.infos[-1]

    def diagnosis(self, text, level=None):
        """Wait for a diagnosis that holds a text; return its key-values."""
        status = self.graph.diagnosis(self.node, lambda status: text in status.message)
        assert level in (None, status.level)
        return {pair.key: pair.value for pair in status.values}


def is_newest(messages, stamp):
    """Tell whether the last message has a stamp."""
    return bool(messages) and stamp_to_ns(messages[-1].header.stamp) == stamp
