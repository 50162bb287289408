# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A simulated camera and a real node in a process of its own, over DDS."""

from itertools import cycle
import json
import os
from pathlib import Path
import threading
import time

from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
import numpy as np
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from untrained_model import camera_image, camera_video, video_camera

from geo_perception.errors import ReplayError
from geo_perception.image_codec import image_fields
from geo_perception.ros.messages import camera_info_message, ns_to_stamp, stamp_to_ns
from geo_perception.ros.node_process import NodeProcess

IMAGE_TOPIC = '/camera/image_raw'
INFO_TOPIC = '/camera/camera_info'
# Node, its arguments, and what it publishes, the last of one image at the end.
NODES = {
    # Also poses of low confidence are published: the weights are random.
    'relocalization': ('relocalize', ['-p', 'gate:=inflate'], {
        '/relocalize/pose_with_covariance': PoseWithCovarianceStamped}),
    'geometry': ('geometry', ['-p', "base_frame:=''"], {
        '/geometry/odometry': Odometry, '/geometry/depth': Image})}
START_TIMEOUT = 300.0   # s, on a busy machine
_POLL = 0.002


class MeasuredProcess(NodeProcess):
    """A node process that can be waited for, and whose use of the machine can be read."""

    def processor_seconds(self):
        """
        Return the processor time that it has used.

        Returns
        -------
        float

        """
        with open(f'/proc/{self._process.pid}/stat') as stat:
            user, system = stat.read().rpartition(')')[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf('SC_CLK_TCK')

    def resources(self):
        """
        Return what the node occupies.

        Returns
        -------
        memory : int
            Resident, bytes.
        threads, files : int
            Numbers; files are open ones.

        """
        process = Path('/proc', str(self._process.pid))
        try:
            status = dict(line.split(':', 1) for line in
                          (process / 'status').read_text().splitlines())
            return (1024 * int(status['VmRSS'].split()[0]), int(status['Threads']),
                    len(list((process / 'fd').iterdir())))
        except (OSError, KeyError):
            raise ReplayError(f'the node has ended: {self.last_error()}') from None

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


class CameraNodeProcess(MeasuredProcess):
    """
    The node, listening to the simulated camera.

    Parameters
    ----------
    job : str
        One of `NODES`.
    model : str or pathlib.Path
        Model file.

    """

    def __init__(self, job, model):
        name, arguments, _ = NODES[job]
        super().__init__(f'geo_perception.nodes.{name}', [
            '--ros-args', '-r', f'image:={IMAGE_TOPIC}', '-r', f'camera_info:={INFO_TOPIC}',
            '-p', f'model:={json.dumps(str(model))}', *arguments])


class Camera:
    """
    Publishes VGA images over and over, best effort, and takes the time of the answers.

    Parameters
    ----------
    peer : rclpy.node.Node
        Spun by somebody else.
    job : str
        One of `NODES`, whose answers are awaited.

    Attributes
    ----------
    others : int
        Messages on its other topics.

    """

    def __init__(self, peer, job):
        self._images = cycle([
            Image(**image_fields(image, 'rgb8'))
            for image in (camera_video() if job == 'geometry' else [camera_image()])])
        self._publisher = peer.create_publisher(Image, IMAGE_TOPIC, qos_profile_sensor_data)
        self._info_publisher = peer.create_publisher(CameraInfo, INFO_TOPIC,
                                                     qos_profile_sensor_data)
        *others, (topic, kind) = NODES[job][2].items()
        peer.create_subscription(kind, topic, self._on_answer, 100)
        for other, kind in others:   # so that the node works for them
            peer.create_subscription(kind, other, self._on_other, 100)
        self._sent, self._ages = {}, {}
        self.others = 0
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
            Seconds to wait for the answer to the last image.

        Returns
        -------
        np.ndarray
            Seconds from the publication of an image to the arrival of its answer, in the order
            of arrival; images without an answer have no entry.

        """
        with self._answered:
            self._sent, self._ages = {}, {}
        started = time.perf_counter()
        for i in range(images):
            time.sleep(max(0.0, started + i / rate - time.perf_counter()))
            stamp = time.time_ns()
            image = next(self._images)
            image.header.frame_id = 'camera_optical_frame'
            image.header.stamp = ns_to_stamp(stamp)
            self._info_publisher.publish(camera_info_message(stamp, 'camera_optical_frame',
                                                             video_camera()))
            self._sent[stamp] = time.perf_counter()
            self._publisher.publish(image)
        with self._answered:
            self._answered.wait_for(lambda: stamp in self._ages, grace)
            return np.array(list(self._ages.values()))

    def _on_other(self, message):
        self.others += 1

    def _on_answer(self, message):
        now = time.perf_counter()
        stamp = stamp_to_ns(message.header.stamp)
        with self._answered:
            if stamp in self._sent:   # else it is late, from an earlier run
                self._ages[stamp] = now - self._sent[stamp]
                self._answered.notify_all()
