# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
What tests need to talk to a node: a graph of their own, a peer, and waits with an end.

The environment (isolated discovery, field checks) is set by ``conftest.py``, which also leaves
out the test modules that import this one where rclpy is not installed.
"""

import os
from pathlib import Path
import socket
import subprocess
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy

import geo_perception
from geo_perception.ros.messages import image_message

TIMEOUT = 20.0   # s; only ever used up by a test that fails
RESERVATION_PORT = 32768   # that of the first domain, by ROS's own domain_coordinator


def reserve_domain():
    """Return a domain that no other test run and no replay uses, and what keeps it so."""
    for i in range(100):
        domain = 1 + (os.getpid() + i) % 100
        reservation = socket.socket()
        try:
            reservation.bind(('', RESERVATION_PORT + domain))
            return domain, reservation
        except OSError:
            reservation.close()
    raise RuntimeError('all ROS domains from 1 to 100 are in use')


# For tests of several processes or contexts.
DOMAIN, _RESERVATION = reserve_domain()


class Graph:
    """
    One ROS context with one executor, seen by nobody else.

    Attributes
    ----------
    peer : rclpy.node.Node
        Plays cameras and listeners.

    """

    def __init__(self, peer='peer'):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, args=[])
        self.executor = SingleThreadedExecutor(context=self.context)
        self._nodes = []
        self.peer = self.add(Node(peer, context=self.context))

    def add(self, node):
        """Put a node into the executor; it is destroyed at the end."""
        self.executor.add_node(node)
        self._nodes.append(node)
        return node

    def make(self, node_class, **parameters):
        """Return a node of a class with these parameters, unconfigured."""
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        return self.add(node_class(context=self.context, parameter_overrides=overrides))

    def spin_until(self, condition, timeout=TIMEOUT, what='the condition'):
        """Work until the condition holds; fail when it does not in time."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f'{what} did not come about in {timeout} s'
            self.executor.spin_once(timeout_sec=0.02)

    def spin_for(self, seconds):
        """Work for a while, to see that something does not happen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def listen(self, message_class, topic, reliable=True, depth=50):
        """Return the list that the messages of a topic go into."""
        received = []
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        self.peer.create_subscription(message_class, topic, received.append,
                                      QoSProfile(depth=depth, reliability=reliability))
        return received

    def advertise(self, message_class, topic, reliable=True, depth=5):
        """Return a publisher."""
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        return self.peer.create_publisher(message_class, topic,
                                          QoSProfile(depth=depth, reliability=reliability))

    def diagnosis(self, node, matches=lambda status: True):
        """Return the first status of a node from now on that matches, without waiting seconds."""
        found = []

        def look(message):
            found.extend(status for status in message.status
                         if status.name.startswith(node.get_fully_qualified_name() + ':')
                         and matches(status))

        subscription = self.peer.create_subscription(DiagnosticArray, '/diagnostics', look, 10)

        def seen():
            node.diagnostics.publish()
            return found

        self.spin_until(seen, what='the diagnosis')
        self.peer.destroy_subscription(subscription)
        return found[0]

    def change_state(self, node, transition):
        """Ask a node for a transition by service, as a manager does; return its success."""
        name = node if isinstance(node, str) else node.get_fully_qualified_name()
        return self.call(ChangeState, f'{name}/change_state',
                         transition=Transition(id=transition)).success

    def call(self, kind, service, **request):
        """Return what a service answers."""
        client = self.peer.create_client(kind, service)
        self.spin_until(client.service_is_ready, what='the service')
        future = client.call_async(kind.Request(**request))
        self.spin_until(future.done, what='the answer')
        self.peer.destroy_client(client)
        return future.result()

    def close(self):
        """Destroy everything."""
        for node in reversed(self._nodes):
            self.executor.remove_node(node)
            node.destroy_node()
        self.executor.shutdown()
        self.context.try_shutdown()


def picture(seed=0, height=48, width=64):
    """Return a random (H, W, 3) uint8 RGB image."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def picture_message(stamp, encoding='rgb8', frame_id='camera', **how):
    """Return an image message with a stamp in nanoseconds; `how` is for `picture`."""
    image = picture(**how)
    if encoding == 'bgr8':
        image = image[..., ::-1]
    elif encoding == 'mono8':
        image = image[..., 0]
    return image_message(stamp, frame_id, image, encoding)


def start_process(arguments, **environment):
    """
    Start ``python <arguments>`` in a process group of its own, visible on this machine only.

    Parameters
    ----------
    arguments : list of str
        For the interpreter.
    **environment
        Further variables.

    Returns
    -------
    subprocess.Popen

    """
    root = str(Path(geo_perception.__file__).parents[1])
    values = {**os.environ, 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
              'ROS_DOMAIN_ID': str(DOMAIN), 'PYTHONUNBUFFERED': '1',
              'PYTHONPATH': os.pathsep.join([root, os.environ.get('PYTHONPATH', '')]),
              **environment}
    return subprocess.Popen([sys.executable, *arguments], env=values, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            start_new_session=True)
