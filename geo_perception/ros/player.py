# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Plays the images of a ROS 2 bag, and what belongs to them, byte for byte as recorded."""

from dataclasses import dataclass
import importlib
from pathlib import Path
import struct
from typing import Optional

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.rosbag2 import Reader
from rosgraph_msgs.msg import Clock

from geo_perception.errors import RecordingError

_TF_TOPICS = ('/tf', '/tf_static')
_TAIL_NS = 1_000_000_000   # TF may be wanted beyond the last image, to interpolate
_COMPRESSED = 'sensor_msgs/msg/CompressedImage'


@dataclass(frozen=True)
class BagMessage:
    """
    One message of a bag.

    Attributes
    ----------
    topic : str
        Name.
    time : int
        When it was recorded, nanoseconds.
    stamp : int, optional
        Stamp of an image, nanoseconds; None for all other messages.
    data : bytes
        Serialised (CDR).

    """

    topic: str
    time: int
    stamp: Optional[int]
    data: bytes


class BagPlayer:
    """
    Publisher of one image topic of a bag, with its camera_info, ``/tf`` and ``/tf_static``.

    Everything is offered reliable. Messages whose type this ROS installation lacks are left out.

    Parameters
    ----------
    node : rclpy.node.Node
        Owner of the publishers.
    path : str or Path
        Folder of a ROS 2 bag.
    image_topic : str
        ``sensor_msgs/Image`` or ``CompressedImage``.
    stamps : iterable of int
        Stamps of the images to play, nanoseconds; others are left out.
    info_topic : str, optional
        Calibration of the images; by default ``camera_info`` beside them.

    Attributes
    ----------
    transport : str
        ``raw`` or ``compressed``.
    info_topic : str
        Where the camera_info of the image is, played or not.

    Raises
    ------
    RecordingError
        When it is not a ROS 2 bag or has no such topic.

    """

    def __init__(self, node, path, image_topic, stamps, info_topic=None):
        self._path = Path(path)
        self._stamps = {int(stamp) for stamp in stamps}
        if self._path.suffix == '.bag':
            raise RecordingError(f'{path} is a ROS 1 bag; convert it once with: rosbags-convert '
                                 f'--src {path} --dst {self._path.with_suffix("")}')
        with Reader(self._path) as reader:
            types = {connection.topic: connection.msgtype for connection in reader.connections}
        if image_topic not in types:
            raise RecordingError(f"{path} has no topic '{image_topic}'; it has: "
                                 f"{', '.join(sorted(types))}")
        self._image_topic = image_topic
        self.transport = 'compressed' if types[image_topic] == _COMPRESSED else 'raw'
        camera = image_topic.removesuffix('/compressed').rpartition('/')[0]
        self.info_topic = info_topic or f'{camera}/camera_info'
        self._publishers = {}
        for topic in (image_topic, self.info_topic, *_TF_TOPICS):
            message_class = _message_class(types.get(topic))
            if message_class is not None:
                self._publishers[topic] = node.create_publisher(
                    message_class, topic, _qos(latched=topic == '/tf_static'))
        self._clock = node.create_publisher(Clock, '/clock', 10)

    def is_heard(self, listeners=1):
        """
        Tell whether so many subscribe to the images and, where there is one, to the calibration.

        Parameters
        ----------
        listeners : int
            How many.

        Returns
        -------
        bool

        """
        return all(self._publishers[topic].get_subscription_count() >= listeners
                   for topic in (self._image_topic, self.info_topic) if topic in self._publishers)

    def introduce(self):
        """Publish the first calibration, which may have been recorded after the first image."""
        with Reader(self._path) as reader:
            connections = [connection for connection in reader.connections
                           if connection.topic == self.info_topic in self._publishers]
            for _, _, data in reader.messages(connections=connections) if connections else ():
                self._publishers[self.info_topic].publish(bytes(data))
                return

    def messages(self):
        """
        Yield what is to be published, in the order of recording.

        Yields
        ------
        BagMessage

        """
        wanted, last = set(self._stamps), 0
        with Reader(self._path) as reader:
            played = [connection for connection in reader.connections
                      if connection.topic in self._publishers]
            for connection, time, data in reader.messages(connections=played):
                if not wanted and time > last + _TAIL_NS:
                    return
                stamp = None
                if connection.topic == self._image_topic:
                    stamp = _header_stamp(data)
                    if stamp not in wanted:
                        continue
                    wanted.remove(stamp)   # of two images with one stamp the first is played
                    last = time
                yield BagMessage(connection.topic, time, stamp, bytes(data))

    def publish(self, message):
        """
        Publish a message, and its time on ``/clock`` before it.

        Parameters
        ----------
        message : BagMessage
            From :meth:`messages`.

        """
        self.set_clock(message.time)
        self._publishers[message.topic].publish(message.data)

    def set_clock(self, time):
        """
        Publish ``/clock``.

        Parameters
        ----------
        time : int
            Nanoseconds.

        """
        clock = Clock()
        clock.clock.sec, clock.clock.nanosec = divmod(int(time), 10**9)
        self._clock.publish(clock)


def _header_stamp(data):
    """Read the stamp from serialised bytes: encapsulation (4 bytes), then the header."""
    sec, nanosec = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    return sec * 10**9 + nanosec


def _message_class(type_name):
    """Return the class of a message type, or None where the installation lacks it."""
    if type_name is None:
        return None
    package, _, name = type_name.partition('/msg/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), name)
    except ImportError:
        return None


def _qos(latched):
    return QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE,
                      durability=DurabilityPolicy.TRANSIENT_LOCAL if latched
                      else DurabilityPolicy.VOLATILE)
