# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""From command line to clean end of a node process."""

from contextlib import suppress
from pathlib import Path
import signal
import sys
import textwrap
import threading
import traceback

import rclpy
from rclpy._rclpy_pybind11 import RCLError, UnknownROSArgsError
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from geo_perception.errors import ConfigurationError
from geo_perception.ros.parameters import describe_parameters

_STOP_TIMEOUT = 30.0   # s; a node may be loading its model


def run_node(node_class, args=None):
    """
    Run one node until SIGINT or SIGTERM.

    Parameters
    ----------
    node_class : type
        Of `PerceptionNode`.
    args : list of str, optional
        Command line with the program; ``sys.argv`` by default.

    Returns
    -------
    int
        Exit code: 0 after a signal or ``--help``, 2 when parameters or arguments are wrong.

    """
    program, *words = sys.argv if args is None else args
    program, stray = Path(program).name, _outside_ros(words)
    if {'-h', '--help'} & set(stray):
        print(_help(program, node_class))
        return 0
    if stray:
        # ROS would ignore it, or take name:=value for the new name of a topic.
        name, assigned, _ = stray[0].partition(':=')
        known = [parameter['name'] for parameter in describe_parameters(
            node_class.parameters_class)]
        mended = f"-{'p' if name in known else 'r'} {stray[0]}" if assigned else '-p name:=value'
        print(f"error: '{stray[0]}' is outside of --ros-args; write {program} --ros-args {mended} "
              f'(all parameters: {program} --help)', file=sys.stderr)
        return 2
    return run_nodes([node_class], args)


def _outside_ros(words):
    """Return the words of a command line that are not between ``--ros-args`` and ``--``."""
    stray, inside = [], False
    for word in words:
        if word == '--ros-args':
            inside = True
        elif inside and word == '--':
            inside = False
        elif not inside:
            stray.append(word)
    return stray


def _help(program, node_class):
    """Return how a node is started, and its parameters."""
    lines = [f'usage: {program} --ros-args -p model:=<file> -r image:=<topic> [-p name:=value]',
             '', 'parameters:']
    for one in describe_parameters(node_class.parameters_class):
        facts = [one['type'], f"default {one['default']!r}", one['unit'], one['range']]
        lines += [f"  {one['name']} ({', '.join(filter(None, facts))})",
                  textwrap.indent(textwrap.fill(one['description'], 90), '      ')]
    return '\n'.join(lines)


def run_nodes(makers, args=None):
    """
    Run nodes in one process until SIGINT or SIGTERM.

    Each is served by an executor in a thread of its own, so that one that loads its model or
    waits for the image in work holds up no other. One with wrong parameters is left out, unless
    there is no other.

    Parameters
    ----------
    makers : list of callable
        Each makes a `PerceptionNode`.
    args : list of str, optional
        Command line; ``sys.argv`` by default.

    Returns
    -------
    int
        Exit code: 0 after a signal, 2 when parameters or ROS arguments are wrong.

    """
    nodes, threads = [], []
    try:
        try:
            _init(args)
            for make in makers:
                try:
                    nodes.append(make())
                except ConfigurationError as error:
                    print(f'error: {error}', file=sys.stderr)
            if not nodes:
                return 2
            threads = [threading.Thread(target=_serve, args=[node], name=node.get_name(),
                                        daemon=True) for node in nodes[1:]]
            for thread in threads:
                thread.start()
            _serve(nodes[0])   # in the main thread, where a signal is heard
        except RCLError:
            if rclpy.ok():
                raise
            # A signal came while a node was being made; Python's own word of it may follow.
    except KeyboardInterrupt:
        pass
    except ConfigurationError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    finally:
        # A second Ctrl-C must not break the clean-up.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        # This ends the other threads, too; rclpy's own thread may be doing so for the signal.
        with suppress(RCLError):
            rclpy.try_shutdown()
        for thread in threads:
            thread.join(_STOP_TIMEOUT)
        for node in nodes:
            node.destroy_node()
    return 0


def _serve(node):
    """Start a node and run its callbacks until the end."""
    try:
        # Left to the garbage collector, it may complain that what it holds has gone before it.
        with SingleThreadedExecutor() as executor:
            executor.add_node(node)
            if node.parameters.autostart:
                node.start()
            spin(executor, node.get_logger())
    except RCLError:
        if rclpy.ok():
            raise


def _init(args):
    """Initialise ROS, or say in one sentence what is wrong with the command line."""
    try:
        rclpy.init(args=args)
    except RuntimeError as error:   # rclpy has several classes for this, all of them of this kind
        reason = str(error).split(', at /')[0]
        if isinstance(error, UnknownROSArgsError):
            reason += '; a parameter is given as -p name:=value, a topic as -r name:=topic'
        raise ConfigurationError(f'wrong ROS arguments: {reason}') from error


def spin(executor, logger):
    """
    Spin until shutdown; an exception in a callback is logged and not the end of the node.

    Parameters
    ----------
    executor : rclpy.executors.Executor
        With its nodes.
    logger : rclpy.impl.rcutils_logger.RcutilsLogger
        For what the callbacks raise.

    """
    while executor.context.ok():
        try:
            executor.spin()
        except ExternalShutdownException:
            return
        except Exception:
            if not executor.context.ok():
                return   # a signal ended the context while a callback was publishing
            logger.error(f'internal error in a callback:\n{traceback.format_exc()}',
                         throttle_duration_sec=5.0)
