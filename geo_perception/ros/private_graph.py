# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A ROS graph of one's own: a domain that nobody else uses, on this machine only."""

from contextlib import contextmanager, ExitStack
import os
import random
import signal
import socket
import threading

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from geo_perception.errors import ReplayError
from geo_perception.share import share_file

_PROFILE = 'config/fastdds_large_images.xml'
# The ports that ROS's own domain_coordinator reserves: tests and replays respect each other.
_RESERVATION_PORT = 32768


@contextmanager
def private_graph():
    """
    Open a graph that nobody else on the machine or network sees.

    Meanwhile the environment of this process is that of the graph, for the processes it starts,
    and SIGTERM ends the block like Ctrl-C.

    Yields
    ------
    rclpy.node.Node
        Spun in a thread of its own.

    """
    with ExitStack() as stack:
        stack.enter_context(_ended_by_sigterm())
        domain = stack.enter_context(_reserved_domain())
        stack.enter_context(_environment({**_local_graph(domain), **_large_image_profile()}))
        context = rclpy.Context()
        rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(context.try_shutdown)
        node = Node('replay', context=context, use_global_arguments=False,
                    start_parameter_services=False)
        stack.callback(node.destroy_node)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        thread = threading.Thread(target=_spin, args=(executor,), name='replay listener')
        thread.start()
        stack.callback(thread.join)
        stack.callback(executor.shutdown, 0.0)
        yield node


def _spin(executor):
    try:
        executor.spin()
    except ExternalShutdownException:
        pass


@contextmanager
def _ended_by_sigterm():
    """Let SIGTERM unwind the stack like Ctrl-C, so that the node is ended too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _large_image_profile():
    """Return the variable that makes shared memory large enough for images, where it is free."""
    variable = 'FASTRTPS_DEFAULT_PROFILES_FILE'
    return {} if variable in os.environ else {variable: str(share_file(_PROFILE))}


@contextmanager
def _reserved_domain():
    """Yield a ROS domain, 1 to 100, that no other replay or test on this machine uses."""
    # In random order: people who set a domain by hand, and nodes left behind, have low ones.
    for domain in random.sample(range(1, 101), 100):
        with socket.socket() as reservation:
            try:
                reservation.bind(('', _RESERVATION_PORT + domain))
            except OSError:
                continue
            yield domain
            return
    raise ReplayError('all ROS domains from 1 to 100 are in use by other replays or tests')


def _local_graph(domain):
    """Return the variables of a graph on this machine only; None for one to unset."""
    # Humble knows only the older variable; later distributions warn about it.
    humble = os.environ.get('ROS_DISTRO') == 'humble'
    return {'ROS_DOMAIN_ID': str(domain), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'ROS_LOCALHOST_ONLY': '1' if humble else None}


@contextmanager
def _environment(variables):
    """Set environment variables for a while; None unsets one."""
    before = {name: os.environ.get(name) for name in variables}
    _set_environment(variables)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(variables):
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
