# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""One thread that works on the newest item, so that a slow machine drops and never lags."""

import collections
import concurrent.futures
import threading


class LatestFrameWorker:
    """
    Run a function on each item in one thread, dropping the oldest when it cannot keep up.

    With ``capacity`` 1 only the newest waiting item is kept; a larger capacity keeps them all
    in order as long as the producer waits for results (lock step). Everything runs in the same
    thread, also :meth:`call`: thread settings of a numerical library made there hold for every
    item, which they do not when made elsewhere (ros2_runtime.md section 7).

    Parameters
    ----------
    process : callable
        Called with each item. It must handle its own errors: what it raises ends up in
        ``on_error``.
    on_error : callable
        Called with the exception when ``process`` raised one; the worker goes on.
    capacity : int
        Number of waiting items kept.

    """

    def __init__(self, process, on_error, capacity=1):
        self._process = process
        self._on_error = on_error
        self._items = collections.deque(maxlen=capacity)
        self._calls = collections.deque()
        self._changed = threading.Condition()
        self._busy = False
        self._stopping = False
        # A daemon, so that a library call that never returns cannot keep a process alive.
        self._thread = threading.Thread(target=self._run, name='frame worker', daemon=True)
        self._thread.start()

    def put(self, item):
        """
        Hand over an item; never blocks.

        Parameters
        ----------
        item : object
            What ``process`` gets.

        Returns
        -------
        bool
            True when an older waiting item was dropped for it.

        """
        with self._changed:
            dropped = len(self._items) == self._items.maxlen
            self._items.append(item)
            self._changed.notify_all()
        return dropped

    def call(self, function):
        """
        Run a function in the worker's thread and return what it returns.

        Parameters
        ----------
        function : callable
            Without arguments. It goes before waiting items.

        Returns
        -------
        object
            Its result; what it raises is raised here.

        """
        result = concurrent.futures.Future()
        with self._changed:
            self._calls.append((function, result))
            self._changed.notify_all()
        return result.result()

    def clear(self, timeout):
        """
        Forget the waiting items and wait for the one in work.

        Parameters
        ----------
        timeout : float
            Seconds to wait at most.

        Returns
        -------
        bool
            True when nothing is in work any more.

        """
        with self._changed:
            self._items.clear()
            return self._changed.wait_for(lambda: not self._busy, timeout)

    def stop(self, timeout):
        """
        End the thread after the item in work.

        Parameters
        ----------
        timeout : float
            Seconds to wait at most.

        Returns
        -------
        bool
            True when the thread has ended.

        """
        with self._changed:
            self._stopping = True
            self._items.clear()
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self):
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._calls or self._items or self._stopping)
                if self._stopping:
                    break
                self._busy = True
                call = self._calls.popleft() if self._calls else None
                item = None if call else self._items.popleft()
            if call:
                _fulfil(*call)
            else:
                try:
                    self._process(item)
                except Exception as error:
                    self._on_error(error)
            call = item = None   # an idle worker holds no image and no pipeline


def _fulfil(function, result):
    """Run a function and store what it returns or raises."""
    try:
        result.set_result(function())
    except BaseException as error:
        result.set_exception(error)
