# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Work beside a pipeline: frames are read before it asks, and scored while it goes on."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

from geo_perception.datasets.readable import readable_frames

_AHEAD = 2
_WAITING = 4


def read_ahead(sequence):
    """
    Yield the frames of a recording that can be read, the next ones being read meanwhile.

    Parameters
    ----------
    sequence : Sequence
        See `Beside.read_ahead`.

    Yields
    ------
    index : int
    frame : Frame

    Raises
    ------
    ImageError, RecordingError
        See `readable_frames`.

    """
    with Beside() as beside:
        yield from beside.read_ahead(sequence)


class Beside:
    """
    A thread that does one thing after the other, to be entered.

    It falls behind by a few things at most, so that what waits needs little memory. What goes
    wrong there is raised here, at the latest when it is left. It both reads and scores: two
    threads would take turns at the interpreter with the pipeline more often.
    """

    def __enter__(self):
        """Begin."""
        self._worker, self._waiting = ThreadPoolExecutor(1, 'beside'), deque()
        return self

    def __exit__(self, kind, *_):
        """Finish, or leave everything when something has gone wrong outside."""
        self._worker.shutdown(cancel_futures=kind is not None)
        if kind is None:
            while self._waiting:
                self._waiting.popleft().result()

    def do(self, function, *arguments):
        """
        Have a function called.

        Parameters
        ----------
        function : callable
            Called in the thread, in the order of the calls of this.
        *arguments
            For it; not to be changed afterwards.

        """
        self._waiting.append(self._worker.submit(function, *arguments))
        while len(self._waiting) > _WAITING or self._waiting[0].done():
            self._waiting.popleft().result()
            if not self._waiting:
                return

    def read_ahead(self, sequence, prepared=None):
        """
        Yield the frames of a recording that can be read, the next ones being read meanwhile.

        Parameters
        ----------
        sequence : Sequence
            The recording; nobody else reads it meanwhile.
        prepared : callable, optional
            Called in the thread with each frame, for what can be done before its turn.

        Yields
        ------
        index : int
        frame : Frame, or what ``prepared`` returns of it

        Raises
        ------
        ImageError, RecordingError
            See `readable_frames`.

        """
        frames = readable_frames(sequence)
        if prepared is not None:
            frames = ((i, prepared(frame)) for i, frame in frames)
        waiting = deque(self._worker.submit(next, frames, None) for _ in range(_AHEAD))
        try:
            while (found := waiting.popleft().result()) is not None:
                waiting.append(self._worker.submit(next, frames, None))
                yield found
        finally:
            for future in waiting:
                future.cancel()
