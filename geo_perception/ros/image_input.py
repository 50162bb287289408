# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""An image topic, raw or compressed, that can say why nothing comes out of it."""

from functools import partial

from rclpy.qos import DurabilityPolicy, HistoryPolicy, qos_check_compatible
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from geo_perception.datasets.bag_topics import is_computed

_TYPES = {'raw': (Image, 'sensor_msgs/msg/Image'),
          'compressed': (CompressedImage, 'sensor_msgs/msg/CompressedImage')}


class ImageInput:
    """
    One image topic, listened to from `listen` to `close`.

    The base topic is the remapped name; ``compressed`` listens on ``<base>/compressed`` as
    image_transport publishes it.

    Parameters
    ----------
    node : rclpy.node.Node
        Owner.
    name : str
        Relative topic name, e.g. ``image``.
    transport : str
        ``raw`` or ``compressed``.
    reliable : bool
        Ask for reliable delivery; then a best-effort camera is not heard at all.
    depth : int
        Number of images the middleware keeps.
    images : SharedImages
        Of the process.
    callback : callable
        Called with each `ReceivedImage`.

    Attributes
    ----------
    topic : str
        Full name of the topic listened on.
    info_topics : tuple of str
        Full names that the calibration topic may have, the best first: ``camera_info`` where that
        is remapped, else the one beside the image, as image_transport has it. ``camera_info`` is
        second then, for ROS does not tell a remapping to its own name from none.

    """

    def __init__(self, node, name, transport, reliable, depth, images, callback):
        self._node = node
        self._name = name
        self._transport = transport
        message_class, self._type = _TYPES[transport]
        base = node.resolve_topic_name(name)
        if transport == 'compressed' and not base.endswith('/compressed'):
            self.topic = base + '/compressed'
        else:
            self.topic = base
        info = node.resolve_topic_name('camera_info')
        self.info_topics = (info,)
        if info == node.resolve_topic_name('camera_info', only_expand=True):
            beside = base.removesuffix('/compressed').rpartition('/')[0] + '/camera_info'
            self.info_topics = (beside, info)
        self._qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST, depth=depth, durability=DurabilityPolicy.VOLATILE,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT)
        self._join = partial(images.join, node, message_class, self.topic, self._qos, callback)
        self._leave = None

    def listen(self):
        """Listen from now on."""
        self._leave = self._join()

    def close(self):
        """Stop listening."""
        if self._leave is not None:
            self._leave()
            self._leave = None

    def why_silent(self):
        """
        Return the most likely reason that no image arrives, and the mend.

        Returns
        -------
        str
            One sentence without a full stop.

        """
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        ours = [info for info in publishers if info.topic_type == self._type]
        if not publishers:
            return f'nobody publishes {self.topic}; {self._suggestion()}'
        if not ours:
            return (f'{_names(publishers)} publishes {self.topic} as '
                    f'{publishers[0].topic_type}, but {self._type} is expected; '
                    f'{self._suggestion()}')
        refused = [info for info in ours if qos_check_compatible(
            info.qos_profile, self._qos)[0] == QoSCompatibility.ERROR]
        if len(refused) == len(ours):
            return (f'{_names(refused)} publishes {self.topic} best effort, but reliable is '
                    'asked for; set image_reliability:=best_effort')
        return (f'{_names(ours)} publishes {self.topic}, but nothing arrives: it is idle, or '
                'its images are too large for the shared memory of the middleware (start it '
                'with FASTRTPS_DEFAULT_PROFILES_FILE=fastdds_large_images.xml)')

    def _suggestion(self):
        """Return what to set, from the image topics that do exist."""
        found = {'raw': set(), 'compressed': set()}
        ours = self._node.get_name(), self._node.get_namespace()
        for topic, types in self._node.get_topic_names_and_types():
            for transport, (_, type_name) in _TYPES.items():
                if type_name in types and not is_computed(topic) and any(
                        (publisher.node_name, publisher.node_namespace) != ours
                        for publisher in self._node.get_publishers_info_by_topic(topic)):
                    found[transport].add(topic.removesuffix('/compressed'))
        other = 'compressed' if self._transport == 'raw' else 'raw'
        if self.topic.removesuffix('/compressed') in found[other]:
            return f'set image_transport:={other}'
        remap = f"remap '{self._name}' to one of: "
        if found[self._transport]:
            return remap + ', '.join(sorted(found[self._transport]))
        if found[other]:
            return f'set image_transport:={other} and {remap}' + ', '.join(sorted(found[other]))
        return ('no camera image is published at all; start the camera, or give both sides the '
                'same ROS_DOMAIN_ID')


def _names(publishers):
    # Right after discovery the node behind an endpoint is not known yet.
    return ', '.join(sorted({
        'somebody' if 'UNKNOWN' in info.node_name
        else f'{info.node_namespace.rstrip("/")}/{info.node_name}' for info in publishers}))
