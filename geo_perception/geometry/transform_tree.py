# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A tree of coordinate frames that move over time: what tf2's buffer does, without ROS."""

from bisect import bisect_left
import threading

import numpy as np

from geo_perception.errors import TransformError
from geo_perception.geometry.se3 import interpolate_transform, inverse_transform


class TransformTree:
    """
    Transforms between frames, interpolated in time.

    Every frame has at most one parent (REP 105). Leading slashes of frame names are ignored. It
    may be filled from one thread and read from another.

    Parameters
    ----------
    history_ns : int, optional
        Transforms older than this before the newest of their link are forgotten; None keeps all.
    max_gap_ns : int, optional
        Longest time between two neighbouring transforms of a link that is interpolated over.

    """

    def __init__(self, history_ns=None, max_gap_ns=None):
        self._history_ns = history_ns
        self._max_gap_ns = max_gap_ns
        self._links = {}    # child: its _Link
        self._lock = threading.Lock()

    @property
    def frames(self):
        """Names of all frames, sorted."""
        with self._lock:
            return sorted({*self._links, *(link.parent for link in self._links.values())})

    def connected(self, a, b):
        """
        Tell whether two frames belong to one tree, at whatever time.

        Parameters
        ----------
        a, b : str
            Frame names; an unknown frame is connected to nothing but itself.

        Returns
        -------
        bool

        """
        with self._lock:
            return self._ancestors(a.lstrip('/'))[-1] == self._ancestors(b.lstrip('/'))[-1]

    def root(self, frame):
        """
        Return the topmost ancestor of a frame, the frame itself if it has no parent.

        Parameters
        ----------
        frame : str
            Frame name.

        Returns
        -------
        str

        """
        with self._lock:
            return self._ancestors(frame.lstrip('/'))[-1]

    def add(self, parent, child, stamp, T_parent_child, static=False):
        """
        Add one transform; the order of stamps does not matter.

        Parameters
        ----------
        parent, child : str
            The two frames.
        stamp : int
            Nanoseconds; without meaning for a static transform.
        T_parent_child : np.ndarray
            Pose of the child in the parent, 4x4, metres.
        static : bool
            It holds for ever and replaces what was known of the link.

        Raises
        ------
        TransformError
            When it is not finite, has a nameless frame, closes a loop, or gives the child a
            second parent. The tree is then as it was before.

        """
        parent, child = parent.lstrip('/'), child.lstrip('/')
        T = np.array(T_parent_child, float)
        if not parent or not child:
            raise TransformError(f"a transform from '{parent}' to '{child}' lacks a frame name")
        if not np.all(np.isfinite(T)):
            raise TransformError(f"the transform from '{parent}' to '{child}' at "
                                 f'{_seconds(stamp)} s holds a NaN or infinite number')
        with self._lock:
            link = self._links.get(child)
            if link is not None and link.parent != parent:
                raise TransformError(f"frame '{child}' has two parents, '{link.parent}' and "
                                     f"'{parent}'; only one node may publish its transform")
            if child in self._ancestors(parent):
                raise TransformError(f"the transform from '{parent}' to '{child}' closes a loop")
            if link is None or static or link.static:
                link = self._links[child] = _Link(parent, child, static)
            link.insert(int(stamp), T, self._history_ns)

    def clear(self):
        """Forget all but the static transforms, for when time jumped back."""
        with self._lock:
            self._links = {child: link for child, link in self._links.items() if link.static}

    def lookup(self, target, source, stamp, tolerance_ns=0):
        """
        Return the transform that maps points of one frame to another at one instant.

        Between two transforms of a link the position is interpolated linearly and the rotation
        on the sphere (slerp). Nothing is extrapolated: beyond the ends of what is known, the
        nearest transform is held for the tolerance and no longer.

        Parameters
        ----------
        target, source : str
            The two frames.
        stamp : int
            Nanoseconds.
        tolerance_ns : int
            How far outside the known time of a link the stamp may lie.

        Returns
        -------
        np.ndarray
            ``T_target_source``, 4x4.

        Raises
        ------
        TransformError
            When a frame is unknown, the two are not connected, or a link is not known at the
            stamp; the sentence names the link and the time that is missing.

        """
        with self._lock:
            up, down = self._way(target.lstrip('/'), source.lstrip('/'))
            T_common_source = self._chain(up, stamp, tolerance_ns)
            T_common_target = self._chain(down, stamp, tolerance_ns)
        return inverse_transform(T_common_target) @ T_common_source

    def newest(self, target, source):
        """
        Return until when the transform between two frames is known.

        Parameters
        ----------
        target, source : str
            The two frames.

        Returns
        -------
        int or None
            Nanoseconds; None where nothing between them moves.

        Raises
        ------
        TransformError
            When a frame is unknown or the two are not connected.

        """
        with self._lock:
            links = [self._links[child] for way in self._way(target.lstrip('/'),
                                                             source.lstrip('/')) for child in way]
            return min((link.stamps[-1] for link in links if not link.static), default=None)

    def _way(self, target, source):
        """Return the frames from the source, and from the target, up to below the common one."""
        up, down = self._ancestors(source), self._ancestors(target)
        common = next((frame for frame in up if frame in down), None)
        if common is None:
            self._explain_missing(target, source, up, down)
        return up[:up.index(common)], down[:down.index(common)]

    def _ancestors(self, frame):
        """Return the frame, its parent, and so on to the root."""
        frames = [frame]
        while frames[-1] in self._links:
            frames.append(self._links[frames[-1]].parent)
        return frames

    def _chain(self, children, stamp, tolerance_ns):
        T = np.eye(4)
        for child in children:
            T = self._links[child].at(stamp, tolerance_ns, self._max_gap_ns) @ T
        return T

    def _explain_missing(self, target, source, up, down):
        known = {*self._links, *(link.parent for link in self._links.values())}
        for frame in (target, source):
            if frame not in known:
                names = ', '.join(sorted(known)) or 'none'
                raise TransformError(f"no transform mentions the frame '{frame}' "
                                     f'(known frames: {names})')
        raise TransformError(f"frames '{target}' and '{source}' are not connected: a transform "
                             f"between '{down[-1]}' and '{up[-1]}' is missing")


class _Link:
    """All transforms of one child to its parent."""

    def __init__(self, parent, child, static):
        self.parent, self.child, self.static = parent, child, static
        self.stamps = []
        self.transforms = []

    def insert(self, stamp, T, history_ns):
        i = bisect_left(self.stamps, stamp)
        if i < len(self.stamps) and self.stamps[i] == stamp:
            self.transforms[i] = T
            return
        self.stamps.insert(i, stamp)
        self.transforms.insert(i, T)
        if history_ns is not None:
            old = bisect_left(self.stamps, self.stamps[-1] - history_ns)
            del self.stamps[:old], self.transforms[:old]

    def at(self, stamp, tolerance_ns, max_gap_ns):
        if self.static:
            return self.transforms[0]
        first, last = self.stamps[0], self.stamps[-1]
        name = f"the transform from '{self.parent}' to '{self.child}'"
        if stamp < first - tolerance_ns:
            raise TransformError(f'{name} begins at {_seconds(first)} s, '
                                 f'{_seconds(first - stamp)} s after the stamp '
                                 f'{_seconds(stamp)} s')
        if stamp > last + tolerance_ns:
            raise TransformError(f'{name} is known until {_seconds(last)} s, '
                                 f'{_seconds(stamp - last)} s before the stamp '
                                 f'{_seconds(stamp)} s')
        i = bisect_left(self.stamps, stamp)
        if i == len(self.stamps):
            return self.transforms[-1]
        if i == 0 or self.stamps[i] == stamp:
            return self.transforms[i]
        before, after = self.stamps[i - 1], self.stamps[i]
        if max_gap_ns is not None and after - before > max_gap_ns:
            raise TransformError(f'{name} has a gap of {_seconds(after - before)} s around the '
                                 f'stamp {_seconds(stamp)} s')
        return interpolate_transform(self.transforms[i - 1], self.transforms[i],
                                     (stamp - before) / (after - before))


def _seconds(nanoseconds):
    """Return decimal seconds, exact to a millisecond where floats of epoch size are not."""
    sign, value = ('-', -nanoseconds) if nanoseconds < 0 else ('', nanoseconds)
    seconds, rest = divmod(int(value), 10**9)
    return f'{sign}{seconds}.{rest // 10**6:03d}'
