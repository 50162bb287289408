# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A simulated camera and a real ``relocalize`` node in a process of its own, over DDS."""

import json
import threading
import time

from geometry_msgs.msg import PoseWithCovarianceStamped
import numpy as np
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from untrained_model import camera_image

from geo_perception.errors import ReplayError
from geo_perception.image_codec import image_fields
from geo_perception.ros.messages import ns_to_stamp, stamp_to_ns
from geo_perception.ros.node_process import NodeProcess

IMAGE_TOPIC = '/camera/image_raw'
POSE_TOPIC = '/relocalize/pose_with_covariance'
START_TIMEOUT = 300.0   # s, on a busy machine
_POLL = 0.002


class RelocalizeProcess(NodeProcess):
    """
    The node, listening to the simulated camera.

    Parameters
    ----------
    model : str or pathlib.Path
        Model file.

    """

    def __init__(self, model):
        super().__init__('geo_perception.nodes.relocalize', [
            '--ros-args', '-r', f'image:={IMAGE_TOPIC}', '-p', f'model:={json.dumps(str(model))}',
            # Also poses of low confidence are published: the weights are random.
            '-p', 'gate:=inflate'])

    def resident_bytes(self):
        """
        Return the memory that the node occupies.

        Returns
        -------
        int

        """
        with open(f'/proc/{self._process.pid}/status') as status:
            for line in status:
                if line.startswith('VmRSS:'):
                    return 1024 * int(line.split()[1])
        raise ReplayError('the node has ended')

    def wait_for(self, condition):
        """
        Return when something about the node has become true.

        Parameters
        ----------
        condition : callable
            Polled; without arguments.

        Returns
        -------
        float
            ``time.perf_counter()`` of that instant.

        Raises
        ------
        ReplayError
            When the node ends or takes too long.

        """
        deadline = time.perf_counter() + START_TIMEOUT
        while not condition():
            self.check()
            if time.perf_counter() > deadline:
                raise ReplayError(f'the node was not ready after {START_TIMEOUT:g} s: '
                                  f'{self.last_error()}')
            time.sleep(_POLL)
        return time.perf_counter()


class Camera:
    """
    Publishes one VGA image over and over, best effort, and takes the time of the poses.

    Parameters
    ----------
    peer : rclpy.node.Node
        Spun by somebody else.

    """

    def __init__(self, peer):
        self._image = Image(**image_fields(camera_image(), 'rgb8'))
        self._image.header.frame_id = 'camera_optical_frame'
        self._publisher = peer.create_publisher(Image, IMAGE_TOPIC, qos_profile_sensor_data)
        peer.create_subscription(PoseWithCovarianceStamped, POSE_TOPIC, self._on_pose, 100)
        self._sent, self._ages = {}, {}
        self._answered = threading.Condition()

    def is_heard(self):
        """
        Tell whether the node listens, which it does when it is active.

        Returns
        -------
        bool

        """
        return self._publisher.get_subscription_count() > 0

    def run(self, rate, images, grace=5.0):
        """
        Publish images at a steady rate.

        Parameters
        ----------
        rate : float
            Images a second.
        images : int
            How many.
        grace : float
            Seconds to wait for the pose of the last image.

        Returns
        -------
        np.ndarray
            Seconds from the publication of an image to the arrival of its pose, in the order of
            arrival; images without a pose have no entry.

        """
        with self._answered:
            self._sent, self._ages = {}, {}
        started = time.perf_counter()
        for i in range(images):
            time.sleep(max(0.0, started + i / rate - time.perf_counter()))
            stamp = time.time_ns()
            self._image.header.stamp = ns_to_stamp(stamp)
            self._sent[stamp] = time.perf_counter()
            self._publisher.publish(self._image)
        with self._answered:
            self._answered.wait_for(lambda: stamp in self._ages, grace)
            return np.array(list(self._ages.values()))

    def _on_pose(self, message):
        now = time.perf_counter()
        stamp = stamp_to_ns(message.header.stamp)
        with self._answered:
            if stamp in self._sent:   # else it is late, from an earlier run
                self._ages[stamp] = now - self._sent[stamp]
                self._answered.notify_all()
