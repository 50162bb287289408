# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What a node knows about its own work, and how it says so on ``/diagnostics`` (REP 107)."""

import collections
from enum import Enum
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
from rclpy.clock import Clock, ClockType

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class Outcome(Enum):
    """What became of one frame."""

    PUBLISHED = 'published'
    REJECTED = 'rejected'   # a result was computed, and withheld for a reason
    FAILED = 'failed'       # no result: the image or our own code was bad
    LEFT_OUT = 'left out'   # no result was due, and all is well


class FrameStatistics:
    """
    Counts and durations of the frames of one node; safe to use from two threads.

    Rates and durations are those of the last ``window`` seconds of steady time.

    Parameters
    ----------
    window : float
        Seconds.
    now : callable
        Steady clock, seconds; given by tests.

    """

    def __init__(self, window, now=time.monotonic):
        self._window = window
        self._now = now
        self._lock = threading.Lock()
        self._started = now()
        self._arrivals = collections.deque()
        self._outcomes = collections.deque()
        self._last_arrival = None
        self._counts = collections.Counter()
        self._reasons = collections.Counter()

    def received(self, dropped=False, skipped=False):
        """
        Count a frame that arrived.

        Parameters
        ----------
        dropped : bool
            An older frame was dropped for it.
        skipped : bool
            It is not worked on because nobody listens.

        """
        with self._lock:
            self._last_arrival = self._now()
            self._arrivals.append(self._last_arrival)
            self._counts.update(received=1, dropped=int(dropped), skipped=int(skipped))

    def decoded(self, here):
        """
        Count a frame that was decoded.

        Parameters
        ----------
        here : bool
            Rather than before, for another node of the process.

        """
        with self._lock:
            self._counts['decoded'] += int(here)

    def finished(self, outcome, category='', sentence='', duration=0.0, delay=0.0):
        """
        Count a frame that was worked on.

        Parameters
        ----------
        outcome : Outcome
            What became of it.
        category : str
            One word for the reason, where there was no result; counted.
        sentence : str
            The reason for a person.
        duration : float
            Seconds of work.
        delay : float
            Age of the image when its result was published, seconds of ROS time.

        """
        sentence = ' '.join(sentence.split())   # it may quote a name with a line break in it
        with self._lock:
            self._outcomes.append((self._now(), outcome, sentence, duration, delay))
            self._counts.update(['processed', outcome.value])
            if category:
                self._reasons[category] += 1

    def silence(self):
        """
        Return the time since the last frame, or since the beginning.

        Returns
        -------
        float
            Seconds.

        """
        with self._lock:
            return self._now() - (self._last_arrival or self._started)

    def count(self, name):
        """
        Return a total since the beginning.

        Parameters
        ----------
        name : str
            ``received``, ``dropped``, ``skipped``, ``decoded``, ``processed`` or a value of
            `Outcome`.

        Returns
        -------
        int

        """
        with self._lock:
            return self._counts[name]

    def recent(self, outcome):
        """
        Return the sentences of the recent frames with one outcome, oldest first.

        Parameters
        ----------
        outcome : Outcome
            Which.

        Returns
        -------
        list of str

        """
        with self._lock:
            self._forget()
            return [sentence for _, kind, sentence, _, _ in self._outcomes if kind == outcome]

    def values(self):
        """
        Return everything as text, for the key-values of a diagnostic status.

        Returns
        -------
        dict
            Text by name.

        """
        with self._lock:
            self._forget()
            span = max(min(self._window, self._now() - self._started), 1e-3)
            published = [entry for entry in self._outcomes if entry[1] == Outcome.PUBLISHED]
            values = {name: str(self._counts[name]) for name in
                      ('received', 'dropped', 'skipped', 'decoded', 'processed', 'published')}
            values['image rate [Hz]'] = f'{len(self._arrivals) / span:.1f}'
            values['result rate [Hz]'] = f'{len(published) / span:.1f}'
            values.update(_percentiles('work', [entry[3] for entry in self._outcomes]))
            values.update(_percentiles('delay', [entry[4] for entry in published]))
            values.update({f'no result: {category}': str(number)
                           for category, number in sorted(self._reasons.items())})
        return values

    def _forget(self):
        oldest = self._now() - self._window
        while self._arrivals and self._arrivals[0] < oldest:
            self._arrivals.popleft()
        # The last outcome stays: with a frame longer in work than the window it is still true.
        while len(self._outcomes) > 1 and self._outcomes[0][0] < oldest:
            self._outcomes.popleft()


def _percentiles(name, seconds):
    if not seconds:
        return {}
    p50, p95 = 1e3 * np.percentile(seconds, [50, 95])
    return {f'{name} p50 [ms]': f'{p50:.1f}', f'{name} p95 [ms]': f'{p95:.1f}'}


def summarize(statistics, verb):
    """
    Return level and sentence for a node of which the watchdog says nothing.

    Parameters
    ----------
    statistics : FrameStatistics
        Of that node.
    verb : str
        What it does with an image, e.g. ``Relocalizing``.

    Returns
    -------
    level : bytes
        A level of ``diagnostic_msgs/DiagnosticStatus``.
    sentence : str
        For a person.

    """
    published = len(statistics.recent(Outcome.PUBLISHED))
    rejected = statistics.recent(Outcome.REJECTED)
    failed = statistics.recent(Outcome.FAILED)
    useless = len(rejected) + len(failed)
    if published == useless == 0:
        return OK, ('Images arrive; the first one is in work.' if statistics.count('received')
                    else 'No image has come yet.')
    reason = (failed or rejected or [''])[-1]
    if failed and not published and len(failed) >= len(rejected):
        return ERROR, f'Images arrive but none can be used: {reason}.'
    if not published:
        return WARN, f'Images arrive but nothing is published: {rejected[-1]}.'
    values = statistics.values()
    sentence = (f"{verb} at {values['result rate [Hz]']} Hz "
                f"from images at {values['image rate [Hz]']} Hz")
    if useless > published:
        return WARN, (f'{sentence}; {useless} of the last {useless + published} images '
                      f'gave no result: {reason}.')
    return OK, sentence + '.'


class DiagnosticsPublisher:
    """
    Publish one status every second, whatever the state and the clock of the node.

    Parameters
    ----------
    node : rclpy.node.Node
        Whose status it is.
    subsystem : str
        Name after the node's, e.g. ``relocalization``.
    report : callable
        Returns level, sentence, values and hardware id.

    """

    def __init__(self, node, subsystem, report):
        self._node = node
        self._name = f'{node.get_fully_qualified_name()}: {subsystem}'
        self._report = report
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # A steady clock: with use_sim_time and no /clock, that is what has to be reported.
        node.create_timer(1.0, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self):
        """Publish the status now."""
        level, sentence, values, hardware_id = self._report()
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.status = [DiagnosticStatus(
            level=level, name=self._name, message=sentence, hardware_id=hardware_id,
            values=[KeyValue(key=key, value=value) for key, value in values.items()])]
        self._publisher.publish(message)
