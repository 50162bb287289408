# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Live evaluation: a bag played over DDS into the real node, its answers recorded and scored.

The node runs in a process of its own, as on a robot. What is measured here and what
``geo_perception.evaluation.run`` measures offline differ only by DDS.
"""

import json
import os
from pathlib import Path
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
import numpy as np
from rclpy.qos import QoSProfile

from geo_perception.datasets.bag import BagSequence
from geo_perception.datasets.frame import SlicedSequence
from geo_perception.errors import ConfigurationError, RecordingError, ReplayError
from geo_perception.evaluation.run import unanswered_result, with_baselines
from geo_perception.inference.retrieval import Retrieval
from geo_perception.progress import track
from geo_perception.ros.messages import LOST_VARIANCE, matrix_from_pose, stamp_to_ns
from geo_perception.ros.node_process import NodeProcess
from geo_perception.ros.player import BagPlayer
from geo_perception.ros.private_graph import private_graph

_CLOCK_PERIOD = 0.02   # s


def replay(sequence, model, rate=1.0, lock_step=False, start_timeout=60.0, frame_timeout=10.0,
           node='geo_perception.nodes.relocalize'):
    """
    Play a bag into a live ``relocalize`` node and record its answers.

    Parameters
    ----------
    sequence : Sequence
        Frames of a ROS 2 bag, opened by ``open_recording``; only these images are played.
    model : ModelFile
        For relocalization; the node loads it from ``model.path``.
    rate : float
        Speed of the playback, 1 as recorded; without meaning in lock step.
    lock_step : bool
        Play the next image when the last one is answered, so that no image is dropped.
    start_timeout : float
        Seconds for the node to become active.
    frame_timeout : float
        Seconds without an answer after which an image counts as dropped in lock step, and the
        end of the playback as reached otherwise.
    node : str
        Module that is run as the node.

    Returns
    -------
    RelocalizationResult
        ``delay_ms`` from publishing the image to receiving the pose.

    Raises
    ------
    RecordingError
        When the recording is not a ROS 2 bag.
    ReplayError
        When the node does not start, or dies.

    """
    if not rate > 0:
        raise ConfigurationError(f'the rate of the playback is {rate}; set a number above 0')
    bag, image_topic = _bag_of(sequence)
    result = unanswered_result(
        sequence, np.array(model.metadata.T_map_world), model.metadata.world_frame,
        'live replay in lock step' if lock_step else
        f"live replay at {'' if rate == 1 else f'{rate:g} times '}the recorded pace")
    result.names[:] = [f'{image_topic}@{stamp}' for stamp in sequence.stamps]
    with private_graph() as peer:
        player = BagPlayer(peer, bag, image_topic, sequence.stamps)
        # A name of its own: should a node have been left on the domain, it is not listened to.
        name = f'relocalize_{os.getpid()}'
        listener = _Listener(peer, name)
        arguments = _node_arguments(name, model, player, image_topic, lock_step)
        with NodeProcess(node, arguments) as process:
            session = _Session(player, listener, process, frame_timeout)
            session.wait_until_active(start_timeout)
            if lock_step:
                session.play_in_lock_step(len(sequence))
            else:
                session.play_at_pace(len(sequence), rate)
    _fill_in(result, session.published, listener.answers)
    return with_baselines(result, sequence, Retrieval.from_model(model))


def _bag_of(sequence):
    """Return path and image topic of the bag behind a sequence, sliced or not."""
    while isinstance(sequence, SlicedSequence):
        sequence = sequence.whole
    if not isinstance(sequence, BagSequence):
        raise RecordingError('only a ROS 2 bag can be played into a node; measure other '
                             'recordings offline with: geo_perception evaluate relocalization')
    return sequence.path, sequence.image_topic


class _Session:
    """One playback: what was published when, and the waits for the other side."""

    def __init__(self, player, listener, process, frame_timeout):
        self.published = {}   # stamp -> steady nanoseconds
        self._player, self._listener, self._process = player, listener, process
        self._frame_timeout = frame_timeout

    def wait_until_active(self, timeout):
        """Return when the node listens, or say why it does not."""
        deadline = time.monotonic() + timeout
        while not (self._player.is_heard() and self._listener.state == 'active'):
            self._process.check()
            listener = self._listener
            if listener.state not in ('', 'active') and listener.level == DiagnosticStatus.ERROR:
                raise ReplayError(f'the node did not start: {listener.sentence}')
            if time.monotonic() > deadline:
                why = self._process.last_error() or listener.sentence or 'it says nothing'
                raise ReplayError(f'the node was not active after {timeout:g} s: {why}')
            listener.wait_for_news(0.1)

    def play_in_lock_step(self, total):
        """Publish each image when the one before is done with."""
        for message in track(self._images(self._player.messages()), 'Replaying', total=total):
            self._wait_for_answer(message)

    def play_at_pace(self, total, rate):
        """Publish everything when it is due, and wait for the last answer."""
        message = None
        for message in track(self._images(self._paced(rate)), 'Replaying', total=total):
            self._process.check()
        if message is not None:
            self._wait_for_answer(message, rate)

    def _images(self, messages):
        """Publish all messages; yield the images just published."""
        for message in messages:
            if message.stamp is not None:
                self.published[message.stamp] = time.monotonic_ns()
            self._player.publish(message)
            if message.stamp is not None:
                yield message

    def _paced(self, rate):
        """Yield messages when they are due, the clock going on in between."""
        first = started = None
        for message in self._player.messages():
            if first is None:
                first, started = message.time, time.monotonic()
            due = started + 1e-9 * (message.time - first) / rate
            while (wait := due - time.monotonic()) > 0:
                time.sleep(min(wait, _CLOCK_PERIOD))
                self._player.set_clock(message.time - 1e9 * rate * (due - time.monotonic()))
            yield message

    def _wait_for_answer(self, message, clock_rate=0.0):
        """Return when an image is answered, was done with unanswered, or takes too long."""
        started = time.monotonic()
        while message.stamp not in self._listener.answers:
            self._process.check()
            elapsed = time.monotonic() - started
            if elapsed > self._frame_timeout or self._listener.is_idle_since(started):
                return
            if clock_rate:
                self._player.set_clock(message.time + 1e9 * clock_rate * elapsed)
            self._listener.wait_for_news(_CLOCK_PERIOD)


class _Listener:
    """What the node says: poses and diagnostics, received in a thread of their own."""

    def __init__(self, node, name):
        self._status_prefix = f'/{name}:'
        self.answers = {}   # stamp -> steady nanoseconds, T_world_camera, covariance
        self.state = self.sentence = ''
        self.level = DiagnosticStatus.OK
        self._idle_reports = []   # when those came that say that nothing is in work
        self._news = threading.Condition()
        node.create_subscription(PoseWithCovarianceStamped, f'/{name}/pose_with_covariance',
                                 self._on_pose, QoSProfile(depth=100))
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics,
                                 QoSProfile(depth=100))

    def wait_for_news(self, timeout):
        """Return on the next message or after ``timeout`` seconds."""
        with self._news:
            self._news.wait(timeout)

    def is_idle_since(self, instant):
        """
        Tell whether the node has had nothing in work since an instant.

        The first report after it may have been on its way before the last image arrived.
        """
        with self._news:
            return sum(arrival > instant for arrival in self._idle_reports) >= 2

    def _on_pose(self, message):
        received = time.monotonic_ns()
        with self._news:
            self.answers[stamp_to_ns(message.header.stamp)] = (
                received, matrix_from_pose(message.pose.pose),
                np.reshape(message.pose.covariance, (6, 6)))
            self._news.notify_all()

    def _on_diagnostics(self, message):
        with self._news:
            for status in message.status:
                if status.name.startswith(self._status_prefix):
                    self._on_status(status)
            self._news.notify_all()

    def _on_status(self, status):
        values = {entry.key: entry.value for entry in status.values}
        self.state, self.sentence, self.level = values['state'], status.message, status.level
        done = sum(int(values[name]) for name in ('processed', 'dropped', 'skipped'))
        idle = done == int(values['received'])
        self._idle_reports = [*self._idle_reports, time.monotonic()][-2:] if idle else []


def _fill_in(result, published, answers):
    """Write the recorded answers into a result."""
    for i, stamp in enumerate(result.stamps.tolist()):
        if stamp not in answers or stamp not in published:
            continue
        received, T, covariance = answers[stamp]
        result.processed[i] = True
        result.delay_ms[i] = 1e-6 * (received - published[stamp])
        result.T_estimate[i] = T
        if covariance[0, 0] == LOST_VARIANCE:
            result.reasons[i] = 'refused by the gate of the node'
        else:
            result.accepted[i] = True
            result.covariance[i] = covariance


def _node_arguments(name, model, player, image_topic, lock_step):
    """Return the command line of the node."""
    parameters = {
        # A quoted string is one for YAML too, whatever the path looks like.
        'model': json.dumps(str(Path(model.path).resolve())), 'use_sim_time': 'true',
        'image_transport': player.transport, 'image_reliability': 'reliable',
        'queue': 'lock_step' if lock_step else 'newest',
        # Also refused poses come out, marked: every image has an answer to wait for.
        'gate': 'inflate'}
    arguments = ['--ros-args', '-r', f'__node:={name}', '-r', f'image:={image_topic}',
                 '-r', f'camera_info:={player.info_topic}']
    for parameter, value in parameters.items():
        arguments += ['-p', f'{parameter}:={value}']
    return arguments
