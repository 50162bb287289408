# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Which fixes are believed: drives made up of odometry and fixes with known errors."""

import numpy as np
import pytest

from geo_perception.geometry import se3
from geo_perception.ros.fix_track import FixLimits, FixTrack
from geo_perception.ros.localization import uncouple_plane

COVARIANCE = np.diag([0.01, 0.01, 0.01, 1e-4, 1e-4, 1e-4])   # 0.1 m, 0.01 rad


def pose(x, y=0.0, yaw=0.0, z=0.0):
    """Return a pose in the plane."""
    return se3.make_transform(se3.matrix_from_rotation_vector([0.0, 0.0, yaw]), [x, y, z])


# Where odometry began, in the map: everything is tested in a frame that is not the map.
T_MAP_ODOM = pose(3.0, -2.0, 2.0)


def judged(track, where, odometry, covariance=COVARIANCE):
    """Give a track a fix of a robot; return doubt and news."""
    return track.judge(T_MAP_ODOM @ where, covariance, odometry)


@pytest.mark.parametrize('limits', [
    FixLimits(jump=0.5), FixLimits(innovation=5.0), FixLimits(innovation=5.0, two_d=True)])
def test_what_odometry_explains_is_believed(limits):
    """A turning drive with exact fixes, however far."""
    track = FixTrack(limits)
    for step in range(20):
        where = pose(step, 0.3 * step, 0.2 * step)
        assert judged(track, where, where) == ('', '')


def test_an_outlier_is_withheld_and_forgotten():
    """With the distance in words; the track goes on from the last good fix."""
    track = FixTrack(FixLimits(jump=0.5))
    assert judged(track, pose(0.0), pose(0.0)) == ('', '')
    doubt, news = judged(track, pose(3.0), pose(1.0))
    assert '2.00 m from where odometry has the robot (1 of 3 fixes agree)' in doubt and not news
    assert judged(track, pose(2.0), pose(2.0)) == ('', '')
    doubt, _ = judged(track, pose(4.0, 1.0), pose(3.0))
    assert '(1 of 3 fixes agree)' in doubt


def test_a_carried_robot_is_found_again_and_that_is_said_once():
    """Fixes that agree with each other win; outliers in between begin the count anew."""
    track = FixTrack(FixLimits(jump=0.5, to_recover=3))
    judged(track, pose(0.0), pose(0.0))
    doubts = [judged(track, pose(10.0 + x), pose(x))[0] for x in (0.1, 0.2)]
    assert '(2 of 3' in doubts[-1]
    assert '(1 of 3' in judged(track, pose(-20.0), pose(0.3))[0]
    for x in (0.4, 0.5):
        assert judged(track, pose(10.0 + x), pose(x))[0]
    doubt, news = judged(track, pose(10.6), pose(0.6))
    assert not doubt and '3 fixes in a row' in news and '10.00 m' in news
    assert judged(track, pose(10.7), pose(0.7)) == ('', '')
    assert judged(track, pose(0.8), pose(0.8))[0]


def test_the_first_fix_may_need_witnesses():
    """Nothing is believed before; a jump alone starts no track."""
    track = FixTrack(FixLimits(jump=0.5, to_start=2))
    assert 'starts is not certain yet (1 of 2' in judged(track, pose(50.0), pose(0.0))[0]
    assert judged(track, pose(0.1), pose(0.1))[0]
    assert judged(track, pose(0.2), pose(0.2)) == ('', '')
    track.reset()
    assert judged(track, pose(0.3), pose(0.3))[0]


def test_innovation_counts_in_standard_deviations_of_both_fixes():
    """By hand: 0.1 m each are 0.1414 m together; 0.6 m are 4.24 of those."""
    track = FixTrack(FixLimits(innovation=4.2))
    judged(track, pose(0.0), pose(0.0))
    assert '4.2 standard deviations' in judged(track, pose(0.6), pose(0.0))[0]
    assert judged(track, pose(0.59), pose(0.0)) == ('', '')


@pytest.mark.parametrize('ahead, sideways, fits', [
    (5.0, 0.0, True), (10.0, 0.0, False), (0.0, 10.0, True), (0.0, 12.0, False)])
def test_innovation_knows_lever_arms_and_drift(ahead, sideways, fits):
    """
    By hand, after 20 m: odometry drifts by 2 m, and 0.1 rad of yaw sweep 2 m across the way.

    That is 2 m along and 2.83 m across; the limit is 4 of them.
    """
    unsure = np.diag([0.0001] * 3 + [1e-6, 1e-6, 0.01])
    track = FixTrack(FixLimits(innovation=4.0))
    judged(track, pose(0.0), pose(0.0), unsure)
    doubt, _ = judged(track, pose(20.0 + ahead, sideways), pose(20.0), unsure)
    assert (not doubt) == fits


@pytest.mark.parametrize('limits', [FixLimits(), FixLimits(innovation=3.0)])
def test_odometry_drifts_on_the_way_back_too(limits):
    """After a circle of 40 m it is 4 m and 2 rad unsure, though the robot is where it began."""
    track = FixTrack(limits)
    judged(track, pose(0.0), pose(0.0))
    radius = 40 / (2 * np.pi)
    for angle in np.linspace(0.0, 2 * np.pi, 201):
        _, covariance = track.predict(
            pose(radius * np.sin(angle), radius * (1 - np.cos(angle)), angle))
    assert np.allclose(np.sqrt(np.diag(covariance)), [4.0] * 3 + [2.0] * 3, rtol=2e-3)
    assert judged(track, pose(2.0), pose(0.0)) == ('', '')   # a right fix, odometry 2 m off
    _, covariance = track.predict(pose(0.0))
    assert np.allclose(covariance, COVARIANCE)


def test_only_fixes_in_a_row_win():
    """A good one in between begins the count anew, also at the same wrong place."""
    track = FixTrack(FixLimits(jump=0.5, to_recover=2))
    for _ in range(3):
        assert judged(track, pose(0.0), pose(0.0)) == ('', '')
        assert '(1 of 2' in judged(track, pose(10.0), pose(0.0))[0]


def test_orientation_counts_too():
    """A fix in the right place that looks the wrong way."""
    track = FixTrack(FixLimits(innovation=5.0))
    judged(track, pose(0.0), pose(0.0))
    assert judged(track, pose(0.0, yaw=1.0), pose(0.0))[0]


def test_on_a_floor_height_and_tilt_do_not_count():
    """They are noise of the network there."""
    for two_d in (False, True):
        track = FixTrack(FixLimits(jump=0.5, innovation=5.0, two_d=two_d))
        judged(track, pose(0.0), pose(0.0))
        tilted = pose(0.0, z=1.0)
        tilted[:3, :3] = se3.matrix_from_rotation_vector([0.3, 0.0, 0.0])
        assert bool(judged(track, tilted, pose(0.0))[0]) != two_d


@pytest.mark.parametrize('two_d', [False, True])
def test_the_last_fix_is_carried_on_by_odometry(two_d):
    """On a floor, noise of the fix in height and tilt does not reach the prediction."""
    track = FixTrack(FixLimits(two_d=two_d))
    assert track.predict(pose(0.0)) == (None, None)
    tilt = se3.make_transform(se3.matrix_from_rotation_vector([0.02, -0.01, 0.0]), [0, 0, 0.1])
    start, now = pose(1.0, yaw=0.3), pose(3.0, 1.0, 0.8)
    judged(track, start @ tilt, start)
    T, covariance = track.predict(now)
    expected = T_MAP_ODOM @ (now if two_d else start @ tilt @ se3.inverse_transform(start) @ now)
    assert np.allclose(T, expected, atol=1e-3 if two_d else 1e-9)
    way2 = 2.0 ** 2 + 1.0
    assert np.allclose(np.diag(covariance)[3:], 1e-4 + 0.05 ** 2 * way2)
    assert covariance[2, 2] == pytest.approx(0.01 + 0.01 * way2 + 1e-4 * way2, rel=1e-3)
    # A filter of the plane cannot read what couples the two.
    assert np.array_equal(covariance, uncouple_plane(covariance)) == two_d
