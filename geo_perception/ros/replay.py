# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Live evaluation: a bag played over DDS into the real nodes, their answers recorded and scored.

Each node runs in a process of its own, as on a robot. What is measured here and what
``geo_perception.evaluation`` measures offline differ only by DDS.
"""

from contextlib import ExitStack
import threading
import time

from geo_perception.datasets.bag import BagSequence
from geo_perception.datasets.frame import SlicedSequence
from geo_perception.errors import ConfigurationError, RecordingError
from geo_perception.progress import track
from geo_perception.ros.player import BagPlayer
from geo_perception.ros.private_graph import private_graph

_CLOCK_PERIOD = 0.02   # s
_REPORT_TIMEOUT = 3.0  # s


def replay(sequence, nodes, rate=1.0, lock_step=False, start_timeout=60.0, frame_timeout=10.0):
    """
    Play a bag into live nodes and record their answers.

    Parameters
    ----------
    sequence : Sequence
        Frames of a ROS 2 bag, opened by ``open_recording``; only these images are played.
    nodes : list of ReplayedNode
        Each started in a process of its own, all on one graph that nobody else sees.
    rate : float
        Speed of the playback, 1 as recorded; without meaning in lock step.
    lock_step : bool
        Play the next image when the last one is answered by all, so that no image is dropped.
    start_timeout : float
        Seconds for the nodes to become active.
    frame_timeout : float
        Seconds without an answer after which an image counts as dropped in lock step, and the
        end of the playback as reached otherwise.

    Returns
    -------
    list
        What ``nodes`` make of the answers, in their order: see their ``result``. Delays are
        from publishing the image to receiving the answer.

    Raises
    ------
    RecordingError
        When the recording is not a ROS 2 bag.
    ReplayError
        When a node does not start, or dies.

    """
    if not rate > 0:
        raise ConfigurationError(f'the rate of the playback is {rate}; set a number above 0')
    bag = _bag_of(sequence)
    mode = 'live replay in lock step' if lock_step else \
        f"live replay at {'' if rate == 1 else f'{rate:g} times '}the recorded pace"
    with private_graph() as peer, ExitStack() as processes:
        player = BagPlayer(peer, bag.path, bag.image_topic, sequence.stamps,
                           bag.camera_info_topic)
        news = threading.Condition()
        for node in nodes:
            node.connect(peer, sequence, news)
        for node in nodes:
            processes.enter_context(node.process(player, bag.image_topic, lock_step))
        session = _Session(player, nodes, news, frame_timeout)
        session.wait_until_active(start_timeout)
        if lock_step:
            session.play_in_lock_step(len(sequence))
        else:
            session.play_at_pace(len(sequence), rate)
        session.wait_for_reports()
    names = [f'{bag.image_topic}@{stamp}' for stamp in sequence.stamps]
    return [node.result(names, mode, session.published) for node in nodes]


def _bag_of(sequence):
    """Return the bag behind a sequence, sliced or not."""
    while isinstance(sequence, SlicedSequence):
        sequence = sequence.whole
    if not isinstance(sequence, BagSequence):
        raise RecordingError('only a ROS 2 bag can be played into a node; make one of other '
                             'recordings with "geo_perception prepare bag", or measure them '
                             'offline with "geo_perception evaluate"')
    return sequence


class _Session:
    """One playback: what was published when, and the waits for the other side."""

    def __init__(self, player, nodes, news, frame_timeout):
        self.published = {}   # stamp -> steady nanoseconds
        self._player, self._nodes, self._news = player, nodes, news
        self._frame_timeout = frame_timeout

    def wait_until_active(self, timeout):
        """Return when all nodes listen, or say why one does not."""
        deadline = time.monotonic() + timeout
        # Every node is asked: the one that fails is to be heard though another is slow.
        while not all([node.check_start(time.monotonic() > deadline) for node in self._nodes]
                      + [self._player.is_heard(len(self._nodes))]):
            self._wait_for_news(0.1)
        self._player.introduce()

    def play_in_lock_step(self, total):
        """Publish each image when the one before is done with."""
        for message in track(self._images(self._player.messages()), 'Replaying', total=total):
            self._wait_for_answers(message)

    def play_at_pace(self, total, rate):
        """Publish everything when it is due, and wait for the last answers."""
        message = None
        for message in track(self._images(self._paced(rate)), 'Replaying', total=total):
            for node in self._nodes:
                node.check()
        if message is not None:
            self._wait_for_answers(message, rate)

    def wait_for_reports(self):
        """Return when all have said how the work went; they report every second."""
        ended = time.monotonic()
        while not all(node.has_reported(ended) for node in self._nodes):
            if time.monotonic() > ended + _REPORT_TIMEOUT:
                return
            self._wait_for_news(_CLOCK_PERIOD)

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

    def _wait_for_answers(self, message, clock_rate=0.0):
        """Return when all are done with an image, answered or not, or take too long."""
        started = time.monotonic()
        while not all(node.is_done_with(message.stamp, started) for node in self._nodes):
            for node in self._nodes:
                node.check()
            elapsed = time.monotonic() - started
            if elapsed > self._frame_timeout:
                return
            if clock_rate:
                self._player.set_clock(message.time + 1e9 * clock_rate * elapsed)
            self._wait_for_news(_CLOCK_PERIOD)

    def _wait_for_news(self, timeout):
        with self._news:
            self._news.wait(timeout)
