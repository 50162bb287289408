# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The node ``relocalize`` with a camera before it and a listener behind it."""

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from ros_harness import picture_message
from sensor_msgs.msg import CompressedImage, Image
from stand_in_relocalizer import StandInNode

from geo_perception.ros.messages import stamp_to_ns
from geo_perception.ros.validators import fix_problems

SECOND = 1_000_000_000


class Scene:
    """A node under test with a camera before it and a listener behind it."""

    def __init__(self, graph, *, listen=True, node_class=StandInNode, **parameters):
        self.graph = graph
        self.node = graph.make(node_class, **parameters)
        self.message_class = (CompressedImage if parameters.get('image_transport') == 'compressed'
                              else Image)
        self.camera = None
        self.poses, self.covariances = [], []
        if listen:
            self.poses = graph.listen(PoseStamped, '/relocalize/pose')
            self.covariances = graph.listen(PoseWithCovarianceStamped,
                                            '/relocalize/pose_with_covariance')
        self.stamp = 100 * SECOND

    def start(self, reliable=True):
        """Bring the node up and connect a camera."""
        assert self.node.start(), self.node.last_failure
        topic = '/image' + ('/compressed' if self.message_class is CompressedImage else '')
        self.camera = self.graph.advertise(self.message_class, topic, reliable)
        self.graph.spin_until(lambda: self.camera.get_subscription_count() > 0, what='the match')
        if self.poses is not None:
            self.graph.spin_until(lambda: self.node.is_wanted() or not self._listening(),
                                  what='the listener')
        return self

    def _listening(self):
        return self.graph.peer.count_subscribers('/relocalize/pose') > 0

    @property
    def pipeline(self):
        """The stand-in inside the node."""
        return self.node.pipeline

    def send(self, message=None, **how):
        """Publish an image; return its stamp."""
        self.stamp += SECOND // 10
        self.camera.publish(message or picture_message(self.stamp, **how))
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

    def fix(self, **how):
        """Publish an image and return the two messages that come of it."""
        known = len(self.poses)
        stamp = self.send(**how)
        self.graph.spin_until(lambda: len(self.poses) > known
                              and len(self.covariances) == len(self.poses), what='the pose')
        assert stamp_to_ns(self.poses[-1].header.stamp) == stamp
        assert self.covariances[-1].header == self.poses[-1].header
        assert fix_problems(self.covariances[-1]) == []
        return self.poses[-1], self.covariances[-1]

    def diagnosis(self, text):
        """Wait for a diagnosis that holds a text; return the status."""
        return self.graph.diagnosis(self.node, lambda status: text in status.message)


def values_of(status):
    """Return the key-values of a status."""
    return {pair.key: pair.value for pair in status.values}
