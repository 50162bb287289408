# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The newest-item worker: drops, order, one thread, survival."""

import threading

import pytest

from geo_perception.ros.worker import LatestFrameWorker

TIMEOUT = 10.0


class Bench:
    """A worker whose items wait at a gate."""

    def __init__(self, capacity):
        self.done, self.errors, self.threads = [], [], set()
        self.started, self.gate = threading.Event(), threading.Event()
        self.finished = threading.Semaphore(0)
        self.worker = LatestFrameWorker(self._process, self._on_error, capacity)

    def _process(self, item):
        self.threads.add(threading.get_ident())
        self.started.set()
        assert self.gate.wait(TIMEOUT)
        if item == 'bad':
            raise ValueError(item)
        self.done.append(item)
        self.finished.release()

    def _on_error(self, error):
        self.errors.append(error)
        self.finished.release()

    def wait_for(self, number):
        """Wait for a number of items to be done."""
        for _ in range(number):
            assert self.finished.acquire(timeout=TIMEOUT)


@pytest.fixture
def make_bench():
    """Yield a factory; the workers are stopped afterwards."""
    benches = []

    def make(capacity=1):
        benches.append(Bench(capacity))
        return benches[-1]

    yield make
    for bench in benches:
        bench.gate.set()
        assert bench.worker.stop(TIMEOUT)


def test_a_slow_worker_takes_the_newest_and_counts_what_it_dropped(make_bench):
    """Of the items that came meanwhile only the last is worked on."""
    bench = make_bench()
    dropped = [bench.worker.put(0)]
    assert bench.started.wait(TIMEOUT)
    dropped += [bench.worker.put(i) for i in range(1, 6)]
    bench.gate.set()
    bench.wait_for(2)
    assert bench.done == [0, 5]
    assert dropped == [False, False, True, True, True, True]


def test_with_capacity_every_item_is_worked_on_in_order(make_bench):
    """Lock step: nothing is dropped up to the capacity, then the oldest is."""
    bench = make_bench(capacity=3)
    bench.worker.put(0)
    assert bench.started.wait(TIMEOUT)
    dropped = [bench.worker.put(i) for i in range(1, 5)]
    bench.gate.set()
    bench.wait_for(4)
    assert bench.done == [0, 2, 3, 4]
    assert dropped == [False, False, False, True]


def test_calls_and_items_share_one_thread_that_is_not_the_callers(make_bench):
    """Thread settings made in a call hold for the items."""
    bench = make_bench()
    bench.gate.set()
    thread = bench.worker.call(threading.get_ident)
    bench.worker.put('item')
    bench.wait_for(1)
    assert bench.threads == {thread} != {threading.get_ident()}


def test_a_call_raises_what_the_function_raises(make_bench):
    """And the worker goes on."""
    bench = make_bench()
    with pytest.raises(ZeroDivisionError):
        bench.worker.call(lambda: 1 / 0)
    assert bench.worker.call(lambda: 'alive') == 'alive'


def test_an_exception_is_reported_and_the_next_item_is_worked_on(make_bench):
    """A worker does not die from an item."""
    bench = make_bench(capacity=2)
    bench.gate.set()
    bench.worker.put('bad')
    bench.worker.put('good')
    bench.wait_for(2)
    assert bench.done == ['good']
    assert [str(error) for error in bench.errors] == ['bad']


def test_clear_forgets_what_waits_and_waits_for_what_is_in_work(make_bench):
    """After a clear nothing happens any more until the next item."""
    bench = make_bench()
    bench.worker.put('in work')
    assert bench.started.wait(TIMEOUT)
    bench.worker.put('waiting')
    assert not bench.worker.clear(timeout=0.01)
    bench.gate.set()
    assert bench.worker.clear(TIMEOUT)
    assert bench.done == ['in work']
    bench.worker.put('next')
    bench.wait_for(2)
    assert bench.done == ['in work', 'next']


def test_stop_ends_the_thread_and_drops_what_waits(make_bench):
    """The item in work is finished."""
    bench = make_bench()
    bench.worker.put('in work')
    assert bench.started.wait(TIMEOUT)
    bench.worker.put('waiting')
    assert not bench.worker.stop(timeout=0.01)
    bench.gate.set()
    assert bench.worker.stop(TIMEOUT)
    assert bench.done == ['in work']
