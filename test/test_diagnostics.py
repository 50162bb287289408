# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Counters and sentences of the diagnostics."""

import pytest

from geo_perception.ros.diagnostics import ERROR, FrameStatistics, OK, Outcome, summarize, WARN


class Clock:
    """A clock that the test moves."""

    def __init__(self):
        self.time = 100.0

    def __call__(self):
        """Return the time."""
        return self.time


@pytest.fixture
def clock():
    """Return a clock at 100 s."""
    return Clock()


@pytest.fixture
def statistics(clock):
    """Return statistics with a window of five seconds on that clock."""
    return FrameStatistics(5.0, now=clock)


def feed(statistics, clock, outcomes, period=0.1, **details):
    """Let frames come with these outcomes."""
    for outcome in outcomes:
        clock.time += period
        statistics.received()
        statistics.finished(outcome, **details)


def test_counts_are_totals_and_rates_are_recent(statistics, clock):
    """Rates forget, totals do not."""
    feed(statistics, clock, [Outcome.PUBLISHED] * 100, duration=0.02, delay=0.03)
    statistics.received(dropped=True)
    statistics.received(skipped=True)
    values = statistics.values()
    assert (values['received'], values['dropped'], values['skipped']) == ('102', '1', '1')
    assert values['image rate [Hz]'] == '10.6' and values['result rate [Hz]'] == '10.2'
    assert values['work p50 [ms]'] == '20.0' and values['delay p95 [ms]'] == '30.0'
    clock.time += 60.0
    assert statistics.values()['image rate [Hz]'] == '0.0'
    assert statistics.count('received') == 102


def test_silence_counts_from_the_last_frame_or_the_start(statistics, clock):
    """That is what the watchdog looks at."""
    clock.time += 3.0
    assert statistics.silence() == 3.0
    statistics.received()
    clock.time += 1.0
    assert statistics.silence() == 1.0


def test_each_situation_has_its_sentence(statistics, clock):
    """From nothing yet over trouble to normal work."""
    assert summarize(statistics, 'Working') == (OK, 'No image has come yet.')
    statistics.received()
    assert summarize(statistics, 'Working') == (OK, 'Images arrive; the first one is in work.')
    feed(statistics, clock, [Outcome.FAILED] * 2, category='ImageError', sentence='wrong step')
    assert summarize(statistics, 'Working') == (
        ERROR, 'Images arrive but none can be used: wrong step.')
    feed(statistics, clock, [Outcome.REJECTED] * 3, category='gate', sentence='low score')
    assert summarize(statistics, 'Working') == (
        WARN, 'Images arrive but nothing is published: low score.')
    feed(statistics, clock, [Outcome.PUBLISHED])
    level, sentence = summarize(statistics, 'Working')
    assert level == WARN and '5 of the last 6 images gave no result' in sentence
    feed(statistics, clock, [Outcome.PUBLISHED] * 100)
    level, sentence = summarize(statistics, 'Working')
    assert level == OK and sentence.startswith('Working at 10.')
    assert statistics.values()['no result: gate'] == '3'
