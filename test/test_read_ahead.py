# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What is read ahead, or done beside, is the same, whatever the order of asking."""

import threading

import numpy as np
import pytest

from geo_perception.datasets import read_ahead as module
from geo_perception.datasets.read_ahead import ReadAhead
from geo_perception.datasets.readable import first_readable, readable_frames
from geo_perception.errors import ImageError
from geo_perception.evaluation.beside import Beside, read_ahead

SECOND = 1_000_000_000
# Two images and two depths a tick, the second of each with the same time as the first.
MESSAGES = [(topic, tick * SECOND // 10, ('kind', f'{topic} {tick} {repeat}'.encode()))
            for tick in range(60) for topic in ('image', 'depth') for repeat in range(2)]


class Bag:
    """Counts how often it is asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self, topics, start, stop):
        """Yield what was recorded in a span."""
        self.asked += 1
        for topic, time, content in MESSAGES:
            if topic in topics and start <= time < stop:
                yield topic, time, content


def content(topic, tick, repeat):
    """Return what a message holds."""
    return 'kind', f'{topic} {tick} {repeat}'.encode()


@pytest.mark.parametrize('order', ['forth', 'back', 'random'])
def test_every_message_is_found(order):
    """Also the second of a time, and in any order."""
    wanted = [(topic, tick, repeat) for tick in range(60) for topic in ('image', 'depth')
              for repeat in range(2)]
    if order == 'back':
        wanted = wanted[::-1]
    if order == 'random':
        np.random.default_rng(0).shuffle(wanted)
        wanted = [(str(topic), int(tick), int(repeat)) for topic, tick, repeat in wanted]
    bag = Bag()
    ahead = ReadAhead(bag)
    for topic, tick, repeat in wanted:
        assert ahead.get(topic, tick * SECOND // 10, repeat) == content(topic, tick, repeat)
    if order == 'forth':   # six seconds, and once more for the second topic
        assert bag.asked <= 8


def test_memory_does_not_grow(monkeypatch):
    """And what was let go is read again."""
    monkeypatch.setattr(module, 'KEPT_BYTES', 50)
    ahead = ReadAhead(Bag())
    for tick in (*range(60), *range(60)):
        assert ahead.get('image', tick * SECOND // 10, 0) == content('image', tick, 0)
        assert sum(len(raw) for _, raw in ahead._kept.values()) == ahead._bytes <= 50


def test_what_is_not_there_is_none():
    """Between two messages, after the last, and one repeat too many."""
    ahead = ReadAhead(Bag())
    for topic, time, repeat in (('image', 5, 0), ('image', 99 * SECOND, 0), ('image', 0, 2),
                                ('sound', 0, 0)):
        assert ahead.get(topic, time, repeat) is None
    assert ahead.get('image', SECOND, 1) == content('image', 10, 1)


class Damaged(list):
    """Frames of which some cannot be read, and one fails otherwise."""

    def __getitem__(self, index):
        """Read one."""
        if index in (0, 7):
            raise ImageError(f'frame {index} is damaged')
        if index == 12:
            raise KeyError('no frame')
        return super().__getitem__(index)


def test_frames_come_in_order_without_those_that_cannot_be_read(caplog):
    """One warning in the end says how many; only where all are damaged that is an error."""
    seen = []
    for i, frame in read_ahead(Damaged(range(10, 20))):
        seen.append((i, frame))
    assert seen == [(i, 10 + i) for i in (1, 2, 3, 4, 5, 6, 8, 9)]
    with Beside() as beside:
        assert list(beside.read_ahead(Damaged(range(10, 20)), str)) == [
            (i, str(frame)) for i, frame in seen]
    assert [record.message for record in caplog.records] == [
        '2 of 10 images cannot be read and are left out; the first: frame 0 is damaged']
    assert first_readable(Damaged([1, 2])) == 2
    assert [i for i, _ in readable_frames(Damaged(range(10)), [0])] == []
    with pytest.raises(ImageError, match='frame 0'):
        list(read_ahead(Damaged([1])))
    assert list(read_ahead([])) == []


def test_other_faults_come_where_they_are():
    """After the frames before, and no thread is left."""
    seen = []
    with pytest.raises(KeyError, match='no frame'):
        for i, _ in read_ahead(Damaged(range(20))):
            seen.append(i)
    assert seen == [1, 2, 3, 4, 5, 6, 8, 9, 10, 11]
    assert not [t for t in threading.enumerate() if t.name.startswith('beside')]


def test_work_beside_is_done_in_order_and_its_faults_come_out():
    """At the end at the latest; a fault outside is not hidden by it."""
    done = []
    with Beside() as beside:
        for i in range(50):
            beside.do(done.append, i)
    assert done == list(range(50))
    with pytest.raises(ImageError, match='seven'), Beside() as beside:
        def fail(i):
            if i == 7:
                raise ImageError('seven')

        for i in range(10):
            beside.do(fail, i)
    told = threading.Event()
    with pytest.raises(KeyError), Beside() as beside:
        beside.do(lambda: told.wait(10) and fail(7))
        told.set()
        raise KeyError
