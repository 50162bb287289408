# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Which fixes of a localizer are believed, given how the robot moved between them."""

from dataclasses import dataclass

import numpy as np

from geo_perception.geometry import se3
from geo_perception.ros.localization import correction_of_odometry, uncouple_plane

# What odometry is trusted to do: errors grow with the way, this much of it; wheels on a floor and
# our own odometry are both better on the sample world (docs/results.md).
_DRIFT = 0.1            # m per m, one standard deviation
_TURNING_DRIFT = 0.05   # rad per m
_PLANAR = [0, 1, 5]     # x, y and yaw


@dataclass(frozen=True)
class FixLimits:
    """
    When a fix contradicts odometry.

    Attributes
    ----------
    jump : float
        Metres between a fix and where odometry says the robot is; 0 sets no limit.
    innovation : float
        The same as Mahalanobis distance, of pose and orientation, by the covariances of both fixes
        and what odometry drifts in between; 0 sets no limit.
    to_start : int
        Fixes in a row that must agree before the first is believed.
    to_recover : int
        Fixes in a row that must agree on another place before they win over the old one.
    two_d : bool
        Compare x, y and yaw only.

    """

    jump: float = 0.0
    innovation: float = 0.0
    to_start: int = 1
    to_recover: int = 3
    two_d: bool = False

    @property
    def needs_odometry(self):
        """Whether fixes are compared with odometry at all."""
        return self.jump > 0 or self.innovation > 0


@dataclass(frozen=True)
class _Place:
    """A fix with the odometry of the same instant."""

    T_map_base: np.ndarray
    covariance: np.ndarray
    T_odom_base: np.ndarray
    way: float   # metres that odometry had counted by then

    def predict(self, T_odom_base, way):
        """Return pose and covariance of the base now, as odometry continues this fix."""
        moved = se3.inverse_transform(self.T_odom_base) @ T_odom_base
        T_map_base = self.T_map_base @ moved
        way -= self.way
        drift = np.diag([(_DRIFT * way) ** 2] * 3 + [(_TURNING_DRIFT * way) ** 2] * 3)
        lever_arm = T_map_base[:3, 3] - self.T_map_base[:3, 3]
        return T_map_base, se3.move_pose_covariance(self.covariance, lever_arm) + drift


class FixTrack:
    """
    Follows the fixes of a localizer by odometry, and tells which do not fit.

    The way is counted from call to call: the more often it is asked, the less is cut short. One
    that does not fit is an outlier, unless the next ones agree with it: then the robot was
    carried away, or the track was wrong from the beginning, and the new place wins.

    Parameters
    ----------
    limits : FixLimits
        What fits.

    Attributes
    ----------
    waiting : list of tuple
        Fixes to judge once their odometry has come, oldest first: stamp (ns), ``T_map_base``
        (4x4), covariance (6x6). Its owner fills it; a reset empties it.

    """

    def __init__(self, limits):
        self._limits = limits
        self.reset()

    def reset(self):
        """Forget where the robot is."""
        self._last = self._candidate = self._T_odom_base = None
        self._agreeing = 0
        self._way = 0.0   # metres, along the path: odometry drifts on the way back, too
        self.waiting = []

    def predict(self, T_odom_base):
        """
        Return where the robot is, as odometry carries the last believed fix.

        Parameters
        ----------
        T_odom_base : np.ndarray
            4x4, odometry now.

        Returns
        -------
        T_map_base : np.ndarray or None
            4x4; in the plane, height and tilt are those of odometry. None without a fix.
        covariance : np.ndarray or None
            6x6, order (x, y, z, rot X, rot Y, rot Z), fixed axes of the map: that of the fix, and
            what odometry drifts on the way since.

        """
        if self._last is None:
            return None, None
        self._go_on(T_odom_base)
        T_map_odom = correction_of_odometry(self._last.T_map_base, self._last.T_odom_base,
                                            self._limits.two_d)
        _, covariance = self._last.predict(T_odom_base, self._way)
        # The lever arm of the way couples what is tilted with what is in the plane.
        return (T_map_odom @ T_odom_base,
                uncouple_plane(covariance) if self._limits.two_d else covariance)

    def judge(self, T_map_base, covariance, T_odom_base):
        """
        Take a fix in.

        Parameters
        ----------
        T_map_base : np.ndarray
            4x4, the fix.
        covariance : np.ndarray
            6x6, order (x, y, z, rot X, rot Y, rot Z), fixed axes of the map.
        T_odom_base : np.ndarray
            4x4, odometry at the stamp of the fix.

        Returns
        -------
        doubt : str
            Why the fix is not believed; empty when it is.
        news : str
            That another place won, the moment it does; else empty.

        """
        self._go_on(T_odom_base)
        fix = _Place(T_map_base, covariance, T_odom_base, self._way)
        contradiction = self._contradiction(self._last, fix) if self._last else ''
        if self._last and not contradiction:
            self._believe(fix)
            return '', ''
        agrees = self._candidate is not None and not self._contradiction(self._candidate, fix)
        self._agreeing = self._agreeing + 1 if agrees else 1
        self._candidate = fix
        needed = self._limits.to_recover if self._last else self._limits.to_start
        if self._agreeing < needed:
            what = contradiction or 'where the robot starts is not certain yet'
            return f'{what} ({self._agreeing} of {needed} fixes agree)', ''
        news = ''
        if contradiction:
            news = (f'{needed} fixes in a row agree with each other but {contradiction}: the '
                    'robot was carried away, or was believed in a wrong place; going on from the '
                    'new one')
        self._believe(fix)
        return '', news

    def _go_on(self, T_odom_base):
        """Count the way to where odometry is now."""
        if self._T_odom_base is not None:
            self._way += np.linalg.norm(T_odom_base[:3, 3] - self._T_odom_base[:3, 3])
        self._T_odom_base = T_odom_base

    def _believe(self, fix):
        self._last, self._candidate, self._agreeing = fix, None, 0

    def _contradiction(self, place, fix):
        """Return how a fix contradicts an earlier one, or ''."""
        T_expected, covariance = place.predict(fix.T_odom_base, fix.way)
        shift = fix.T_map_base[:3, 3] - T_expected[:3, 3]
        turn = se3.rotation_vector_from_matrix(fix.T_map_base[:3, :3] @ T_expected[:3, :3].T)
        axes = _PLANAR if self._limits.two_d else slice(None)
        error = np.concatenate([shift, turn])[axes]
        spread = (covariance + fix.covariance)[axes][:, axes]
        distance = np.linalg.norm(shift[:2] if self._limits.two_d else shift)
        innovation = np.sqrt(error @ np.linalg.solve(spread, error))
        if 0 < self._limits.jump < distance:
            return f'the fix is {distance:.2f} m from where odometry has the robot'
        if 0 < self._limits.innovation < innovation:
            return (f'the fix is {innovation:.1f} standard deviations from where odometry has the '
                    'robot')
        return ''
