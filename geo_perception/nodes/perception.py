# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

r"""
The nodes ``relocalize`` and ``geometry`` in one process, which decode each image once.

    python -m geo_perception.nodes.perception --relocalize -p model:=X --geometry -p model:=Y \
        --ros-args -r image:=/camera/image_raw

ROS arguments after the name of a node are its own, those after ``--ros-args`` are of both. A node
that is not named is not made; where none is, both are. They work side by side, so each gets its
share of the processor cores: more threads would only wait for each other.
"""

import os
import sys

import cv2
from rclpy._rclpy_pybind11 import RCLInvalidROSArgsError, UnknownROSArgsError

from geo_perception.errors import ConfigurationError
from geo_perception.nodes.geometry import GeometryNode
from geo_perception.nodes.relocalize import RelocalizeNode
from geo_perception.ros.run import run_nodes
from geo_perception.ros.shared_images import SharedImages

# Seconds after which a thread that computes in Python lets another. Both nodes call libraries
# hundreds of times an image, after each of which they want the interpreter back: at Python's 5 ms
# they answer some 4 % less often.
SWITCH_INTERVAL = 5e-4
NODES = {'relocalize': RelocalizeNode, 'geometry': GeometryNode}


def split_arguments(words):
    """
    Return whose the words of a command line are.

    Parameters
    ----------
    words : list of str
        Without the program.

    Returns
    -------
    own : dict of str to list of str
        ROS arguments by the name of the node, of those to be made.
    common : list of str
        From ``--ros-args`` on. The others are not for ``rclpy.init``: it takes every word with a
        ``:=`` in it for one of the process.

    Raises
    ------
    ConfigurationError
        When a word belongs to no node, or a node is named twice.

    """
    end = words.index('--ros-args') if '--ros-args' in words else len(words)
    words, common = words[:end], words[end:]
    own, current = {}, None
    for word in words:
        name = word.removeprefix('--')
        if word.startswith('--') and name in NODES:
            if name in own:
                raise ConfigurationError(f'{word} is there twice')
            current = own[name] = []
        elif current is None:
            raise ConfigurationError(
                f"'{word}' belongs to no node; begin with {' or '.join(f'--{n}' for n in NODES)}, "
                'or with --ros-args for both')
        else:
            current.append(word)
    return own or {name: [] for name in NODES}, common


def make_node(name, arguments, images, threads):
    """
    Return a node with arguments of its own.

    Parameters
    ----------
    name : str
        One of `NODES`.
    arguments : list of str
        ROS arguments; they win over those of the process.
    images : SharedImages
        Of the process.
    threads : int
        CPU threads of its network, unless its parameters say otherwise.

    Returns
    -------
    PerceptionNode

    Raises
    ------
    ConfigurationError
        When arguments or parameters are wrong.

    """
    try:
        return NODES[name](images=images, threads=threads, cli_args=['--ros-args', *arguments])
    except (RCLInvalidROSArgsError, UnknownROSArgsError) as error:
        reason = str(error).split(', at /')[0]
        raise ConfigurationError(f'wrong ROS arguments of {name}: {reason}') from error
    except ConfigurationError as error:
        raise ConfigurationError(f'{name}: {error}') from error


def main(args=None):
    """Run the nodes; the console script."""
    program, *words = sys.argv if args is None else args
    if {'-h', '--help'} & set(words):
        print(__doc__.strip(), '\nThe parameters of each: relocalize --help, geometry --help.')
        sys.exit(0)
    try:
        own, common = split_arguments(words)
    except ConfigurationError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    sys.setswitchinterval(SWITCH_INTERVAL)
    images, threads = SharedImages(), max(1, len(os.sched_getaffinity(0)) // len(own))
    cv2.setNumThreads(threads)
    sys.exit(run_nodes([
        lambda name=name: make_node(name, own[name], images, threads) for name in own],
        [program, *common]))


if __name__ == '__main__':
    main()
