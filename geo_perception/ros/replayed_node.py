# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A node that a bag is played into: how it is started, and what it says."""

import json
import logging
import os
from pathlib import Path
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import QoSProfile

from geo_perception.errors import ReplayError
from geo_perception.ros.node_process import NodeProcess

_log = logging.getLogger(__name__)

# No answer of a replay is lost to a short queue.
QUEUE = QoSProfile(depth=100)


class ReplayedNode:
    """
    One node under test, in a process of its own.

    A subclass gives ``kind``, listens in :meth:`listen`, calls :meth:`answer`, and makes a
    :meth:`result` of it. Messages come in the thread of the listening node.

    Parameters
    ----------
    model : ModelFile
        The node loads it from ``model.path``.
    module : str
        What is run as the node.

    Attributes
    ----------
    model : ModelFile
        As given.
    answered : dict of int to int
        Stamp of the image to the steady nanoseconds when its answer came.
    sequence : Sequence
        The frames that are played, once connected.
    state, sentence, level
        Of the last diagnosis.
    values : dict of str to str
        Key-values of the last diagnosis.

    """

    kind = ''

    def __init__(self, model, module=None):
        self.model = model
        self.sequence = None
        self.answered = {}
        self.state = self.sentence = ''
        self.level = DiagnosticStatus.OK
        self.values = {}
        # A name of its own: should a node have been left on the domain, it is not listened to.
        self.name = f'{self.kind}_{os.getpid()}'
        self._module = module or f'geo_perception.nodes.{self.kind}'
        self._reported = 0.0      # when the last diagnosis came, steady seconds
        self._idle_reports = []   # when those came that say that nothing is in work
        self._news = threading.Condition()
        self._process = None
        self._refused = set()     # what was said of messages that others would not take

    def connect(self, peer, sequence, news):
        """
        Listen to the node, which need not be there yet.

        Parameters
        ----------
        peer : rclpy.node.Node
            Whose subscriptions they are.
        sequence : Sequence
            The frames that will be played.
        news : threading.Condition
            Notified with every message.

        """
        self.sequence, self._news = sequence, news
        peer.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, QUEUE)
        self.listen(peer)

    def process(self, player, image_topic, lock_step):
        """
        Return the process of the node, to be entered.

        Parameters
        ----------
        player : BagPlayer
            Where its images come from.
        image_topic : str
            As in the bag.
        lock_step : bool
            Whether every image is to be answered.

        Returns
        -------
        NodeProcess

        """
        parameters = {
            # A quoted string is one for YAML too, whatever the path looks like.
            'model': json.dumps(str(Path(self.model.path).resolve())), 'use_sim_time': 'true',
            'image_transport': player.transport, 'image_reliability': 'reliable',
            'queue': 'lock_step' if lock_step else 'newest', **self.parameters()}
        arguments = ['--ros-args', '-r', f'__node:={self.name}', '-r', f'image:={image_topic}',
                     '-r', f'camera_info:={player.info_topic}']
        for parameter, value in parameters.items():
            arguments += ['-p', f'{parameter}:={value}']
        self._process = NodeProcess(self._module, arguments)
        return self._process

    def listen(self, peer):
        """
        Subscribe to the answers.

        Parameters
        ----------
        peer : rclpy.node.Node
            Whose subscriptions they are.

        """
        raise NotImplementedError

    def parameters(self):
        """
        Return further parameters of the node.

        Returns
        -------
        dict of str to str

        """
        return {}

    def result(self, names, mode, published):
        """
        Return what was answered; the node runs no more.

        Parameters
        ----------
        names : list of str
            Of the frames.
        mode : str
            How they were played.
        published : dict of int to int
            Stamp of each image to the steady nanoseconds when it was played.

        Returns
        -------
        object
            ``delay_ms`` from publishing the image to receiving the answer.

        """
        raise NotImplementedError

    def answer(self, stamp, received):
        """
        Note that an image is answered.

        Parameters
        ----------
        stamp : int
            Of the image, nanoseconds.
        received : int
            Steady nanoseconds.

        """
        with self._news:
            self.answered[stamp] = received
            self._news.notify_all()

    def validate(self, topic, problems):
        """
        Warn of what is wrong with an answer for those who live on it, once for each topic.

        Parameters
        ----------
        topic : str
            Where it came.
        problems : list of str
            From :mod:`geo_perception.ros.validators`.

        """
        if problems and topic not in self._refused:
            self._refused.add(topic)
            _log.warning('the node %s published on %s what filters or Nav2 would not take: %s',
                         self.kind, topic, '; '.join(problems))

    def check(self):
        """
        Raise when the node has ended.

        Raises
        ------
        ReplayError
            With its own last error sentence.

        """
        self._process.check()

    def check_start(self, late):
        """
        Return whether the node is active.

        Parameters
        ----------
        late : bool
            Whether it should be by now.

        Returns
        -------
        bool

        Raises
        ------
        ReplayError
            When it has ended, failed to start or is late, in its own words.

        """
        self.check()
        if self.state == 'active':
            return True
        if self.state and self.level == DiagnosticStatus.ERROR:
            raise ReplayError(f'the node {self.kind} did not start: {self.sentence}')
        if late:
            why = self._process.last_error() or self.sentence or 'it says nothing'
            raise ReplayError(f'the node {self.kind} was not active in time: {why}')
        return False

    def is_done_with(self, stamp, since):
        """
        Tell whether an image is answered, or will not be.

        Parameters
        ----------
        stamp : int
            Of the image, nanoseconds.
        since : float
            Steady seconds: the image was out by then.

        Returns
        -------
        bool

        """
        # The first idle report may have been on its way before the image arrived.
        return stamp in self.answered or sum(
            arrival > since for arrival in self._idle_reports) >= 2

    def has_reported(self, since):
        """
        Tell whether the node has reported on its work.

        Parameters
        ----------
        since : float
            Steady seconds.

        Returns
        -------
        bool

        """
        return self._reported > since

    def _on_diagnostics(self, message):
        with self._news:
            for status in message.status:
                if status.name.startswith(f'/{self.name}:'):
                    self._on_status(status)
            self._news.notify_all()

    def _on_status(self, status):
        self.values = {entry.key: entry.value for entry in status.values}
        self.state, self.sentence, self.level = (
            self.values['state'], status.message, status.level)
        done = sum(int(self.values[name]) for name in ('processed', 'dropped', 'skipped'))
        self._reported = time.monotonic()
        idle = done == int(self.values['received'])
        self._idle_reports = [*self._idle_reports, self._reported][-2:] if idle else []
