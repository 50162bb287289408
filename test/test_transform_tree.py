# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The transform tree against composition by hand."""

import threading
import time

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from geo_perception.errors import TransformError
from geo_perception.geometry.transform_tree import TransformTree

SECOND = 10**9
EPOCH = 1_700_000_000 * SECOND


def pose(seed):
    """Return a random pose."""
    rng = np.random.default_rng(seed)
    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    T[:3, 3] = rng.normal(size=3)
    return T


def robot():
    """Return map -> odom -> base -> camera and base -> lidar, moving over one second."""
    tree = TransformTree()
    tree.add('map', 'odom', EPOCH, pose(0))
    tree.add('map', 'odom', EPOCH + SECOND, pose(0))
    tree.add('odom', 'base', EPOCH, pose(1))
    tree.add('odom', 'base', EPOCH + SECOND, pose(2))
    tree.add('base', 'camera', 0, pose(3), static=True)
    tree.add('base', 'lidar', 0, pose(4), static=True)
    return tree


def test_composes_up_down_and_across():
    tree = robot()
    np.testing.assert_allclose(tree.lookup('map', 'camera', EPOCH), pose(0) @ pose(1) @ pose(3))
    np.testing.assert_allclose(tree.lookup('camera', 'map', EPOCH),
                               np.linalg.inv(pose(0) @ pose(1) @ pose(3)), atol=1e-12)
    np.testing.assert_allclose(tree.lookup('camera', 'lidar', 0),
                               np.linalg.inv(pose(3)) @ pose(4), atol=1e-12)
    np.testing.assert_allclose(tree.lookup('base', 'base', 0), np.eye(4))
    assert tree.frames == ['base', 'camera', 'lidar', 'map', 'odom']


@settings(max_examples=30, deadline=None)
@given(alpha=st.integers(0, SECOND), seeds=st.tuples(st.integers(0, 999), st.integers(1000, 1999)))
def test_interpolates_linearly_and_by_slerp(alpha, seeds):
    A, B = (pose(seed) for seed in seeds)
    tree = TransformTree()
    tree.add('a', 'b', EPOCH + SECOND, B)
    tree.add('a', 'b', EPOCH, A)       # out of order
    got = tree.lookup('a', 'b', EPOCH + alpha)
    slerp = Slerp([0, SECOND], Rotation.from_matrix([A[:3, :3], B[:3, :3]]))
    np.testing.assert_allclose(got[:3, :3], slerp(alpha).as_matrix(), atol=1e-7)
    np.testing.assert_allclose(got[:3, 3], A[:3, 3] + (B - A)[:3, 3] * alpha / SECOND, atol=1e-9)


def test_never_extrapolates_but_holds_for_the_tolerance():
    tree = robot()
    for stamp, words in ((EPOCH - 5 * 10**7, ['begins at 1700000000.000', '0.050 s after']),
                         (EPOCH + SECOND + 5 * 10**7, ['until 1700000001.000', '0.050 s before'])):
        with pytest.raises(TransformError) as caught:
            tree.lookup('odom', 'camera', stamp, tolerance_ns=5 * 10**7 - 1)
        for word in ["'odom' to 'base'", *words]:
            assert word in str(caught.value)
        held = tree.lookup('odom', 'base', stamp, tolerance_ns=5 * 10**7)
        np.testing.assert_array_equal(held, pose(1 if stamp < EPOCH else 2))


def test_gap_is_not_bridged():
    tree = TransformTree(max_gap_ns=SECOND)
    for seconds in (0, 1, 3):
        tree.add('a', 'b', seconds * SECOND, pose(seconds))
    tree.lookup('a', 'b', SECOND // 2)
    tree.lookup('a', 'b', 3 * SECOND)
    with pytest.raises(TransformError, match=r'gap of 2\.000 s around the stamp 1\.500 s'):
        tree.lookup('a', 'b', 3 * SECOND // 2)


def test_tells_until_when_it_is_known():
    """The oldest end of the links between two frames; static ones have none."""
    tree = TransformTree()
    tree.add('map', 'odom', EPOCH + 3 * SECOND, np.eye(4))
    for second in (2, 1):
        tree.add('odom', 'base', EPOCH + second * SECOND, np.eye(4))
    tree.add('base', 'camera', 0, np.eye(4), static=True)
    assert tree.newest('map', 'camera') == tree.newest('camera', 'map') == EPOCH + 2 * SECOND
    assert tree.newest('map', 'odom') == EPOCH + 3 * SECOND
    assert tree.newest('base', 'camera') is None
    with pytest.raises(TransformError, match='no transform mentions'):
        tree.newest('odom', 'wheel')


def test_says_what_is_missing():
    tree = robot()
    tree.add('world', 'marker', 0, pose(5), static=True)
    with pytest.raises(TransformError, match="mentions the frame 'gripper'.*frames: base, cam"):
        tree.lookup('gripper', 'base', EPOCH)
    with pytest.raises(TransformError, match="between 'world' and 'map' is missing"):
        tree.lookup('marker', 'camera', EPOCH)
    with pytest.raises(TransformError, match='known frames: none'):
        TransformTree().lookup('map', 'camera', EPOCH)


def test_refuses_what_would_break_the_tree_and_stays_intact():
    tree = robot()
    bad = pose(9)
    bad[0, 3] = np.nan
    for arguments, words in [(('map', 'base', EPOCH, pose(8)), "two parents, 'odom' and 'map'"),
                             (('camera', 'map', EPOCH, pose(8)), 'closes a loop'),
                             (('map', 'map', EPOCH, pose(8)), 'closes a loop'),
                             (('odom', 'base', EPOCH, bad), 'NaN'),
                             (('', 'base', EPOCH, pose(8)), 'lacks a frame name')]:
        with pytest.raises(TransformError, match=words):
            tree.add(*arguments)
    np.testing.assert_allclose(tree.lookup('map', 'camera', EPOCH), pose(0) @ pose(1) @ pose(3))


def test_history_is_bounded_and_clear_keeps_static():
    tree = TransformTree(history_ns=2 * SECOND)
    tree.add('b', 'c', 0, pose(7), static=True)
    for seconds in range(10):
        tree.add('a', 'b', seconds * SECOND, pose(seconds))
    tree.lookup('a', 'b', 7 * SECOND)
    with pytest.raises(TransformError, match=r'begins at 7\.000'):
        tree.lookup('a', 'b', 7 * SECOND - 1)
    tree.clear()
    assert tree.frames == ['b', 'c']
    tree.add('a', 'b', 0, pose(1))     # time jumped back
    np.testing.assert_allclose(tree.lookup('a', 'c', 0), pose(1) @ pose(7))


def test_leading_slashes_and_repeated_stamps():
    tree = TransformTree()
    tree.add('/map', '/base', 5, pose(0))
    tree.add('map', 'base', 5, pose(1))
    np.testing.assert_array_equal(tree.lookup('/map', 'base', 5), pose(1))


def test_a_given_matrix_may_change_afterwards():
    tree = TransformTree()
    T = pose(0)
    tree.add('a', 'b', 0, T)
    T[0, 3] = 99.0
    np.testing.assert_array_equal(tree.lookup('a', 'b', 0), pose(0))


def test_reading_while_another_thread_writes():
    class Slow(list):
        """Let the other thread in whenever an item is read."""

        def __getitem__(self, index):
            time.sleep(0)
            return super().__getitem__(index)

    tree = TransformTree(history_ns=40)
    tree.add('a', 'b', 0, np.eye(4))
    tree._links['b'].stamps = Slow(tree._links['b'].stamps)
    newest = [0]

    def write():
        for stamp in range(10, 6000, 10):
            T = np.eye(4)
            T[0, 3] = stamp
            tree.add('a', 'b', stamp, T)
            newest[0] = stamp

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        stamp = newest[0] - 15
        try:
            assert tree.lookup('a', 'b', stamp)[0, 3] == pytest.approx(stamp)
        except TransformError:
            pass    # forgotten meanwhile
    writer.join()
