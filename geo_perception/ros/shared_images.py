# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Images that several nodes of one process listen to: received once, decoded once."""

import threading

from geo_perception.errors import GeoPerceptionError
from geo_perception.image_codec import decode_rgb
from geo_perception.ros.messages import stamp_to_ns


class ReceivedImage:
    """
    An image message that is decoded when it is first asked for, and only then.

    Parameters
    ----------
    message : sensor_msgs.msg.Image or sensor_msgs.msg.CompressedImage
        As it came.

    Attributes
    ----------
    stamp : int
        Nanoseconds.
    frame_id : str
        Of the camera.

    """

    def __init__(self, message):
        self.stamp = stamp_to_ns(message.header.stamp)
        self.frame_id = message.header.frame_id
        self._message = message
        self._lock = threading.Lock()
        self._picture = self._error = None

    def decode(self):
        """
        Return the picture; whoever asks while another decodes it waits for that.

        Returns
        -------
        picture : np.ndarray
            (H, W, 3) uint8 RGB. Others read the same array: nobody may write to it.
        first : bool
            Whether this call did the work.

        Raises
        ------
        ImageError
            When the message is damaged or not a picture; to everybody who asks.

        """
        with self._lock:
            first = self._message is not None
            if first:
                try:
                    self._picture = decode_rgb(self._message)
                except GeoPerceptionError as error:
                    self._error = error
                self._message = None
        if self._error is not None:
            raise self._error
        return self._picture, first


class SharedImages:
    """
    The image subscriptions of a process: one for each topic and quality of service.

    The first node that listens holds the subscription; when it stops listening, the next one
    takes over.
    """

    def __init__(self):
        # Held while an image is handed out: nobody gets one after having left.
        self._lock = threading.Lock()
        self._streams = {}

    def join(self, node, message_class, topic, qos, callback):
        """
        Listen to a topic.

        Parameters
        ----------
        node : rclpy.node.Node
            Who listens.
        message_class : type
            Message.
        topic : str
            Full name.
        qos : rclpy.qos.QoSProfile
            Of the subscription.
        callback : callable
            Called with each `ReceivedImage`, in a thread of the executor.

        Returns
        -------
        callable
            Without arguments: stop listening.

        """
        key = message_class, topic, qos.reliability, qos.depth
        with self._lock:
            stream = self._streams.get(key)
            if stream is None:
                stream = self._streams[key] = _Stream(message_class, topic, qos, self._lock)
            stream.add(node, callback)

        def leave():
            with self._lock:
                if stream.remove(node):
                    del self._streams[key]
        return leave


class _Stream:
    """One subscription and those who listen to it; call with the lock of the process."""

    def __init__(self, message_class, topic, qos, lock):
        self._message_class, self._topic, self._qos, self._lock = message_class, topic, qos, lock
        self._callbacks = {}   # node -> callback; the first one holds the subscription
        self._subscription = None

    def add(self, node, callback):
        """Add a listener."""
        self._callbacks[node] = callback
        if self._subscription is None:
            self._subscribe(node)

    def remove(self, node):
        """Remove a listener, the subscription with it if it holds that; tell if it was last."""
        held = next(iter(self._callbacks)) is node
        del self._callbacks[node]
        if held:
            node.destroy_subscription(self._subscription)
            self._subscription = None
            # At the end of the process there is nothing to be handed over.
            if self._callbacks and node.context.ok():
                self._subscribe(next(iter(self._callbacks)))
        return not self._callbacks

    def _subscribe(self, node):
        self._subscription = node.create_subscription(
            self._message_class, self._topic, self._on_message, self._qos)

    def _on_message(self, message):
        image = ReceivedImage(message)
        with self._lock:
            for callback in self._callbacks.values():
                callback(image)
