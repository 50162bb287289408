# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The map of a run, and its errors over time: pictures on which a moment can be pointed at."""

from matplotlib.collections import EllipseCollection
import numpy as np

from geo_perception.evaluation.charts import (
    BOUND, chart, FAINT, legend_below, many, MUTED, ODOMETRY, OURS, REFUSED)
from geo_perception.evaluation.run_map import ellipse
from geo_perception.evaluation.trajectory_charts import broken, links

_AXES = 'xyz'
# Ellipses lie apart by this part of the map, so that each can be seen.
_ELLIPSES_APART = 0.045
_MOST_ELLIPSES = 60
# Of answers so many percent are within the map; the others would make it tiny.
_SHOWN_PERCENT = 98.0


def map_picture(place, training=None):
    """
    Draw truth, fixes with their 95 % ellipses, refusals and odometry from above.

    Parameters
    ----------
    place : RunMap
        Not empty.
    training : np.ndarray, optional
        Where the training images were taken, shape (M, 4, 4).

    Returns
    -------
    Chart

    """
    a, b = place.axes
    low, high = _limits(place, training)
    span = (high - low).max()
    with chart(6.4, 5.5) as (axes, picture):
        if training is not None:
            axes.plot(training[:, a, 3], training[:, b, 3], '.', color=FAINT, markersize=3.5,
                      label='training images', rasterized=many(training))
        if np.isfinite(place.truth).all(1).any():
            axes.plot(*broken(place.truth, a, b), color=MUTED, linewidth=1.4, label='truth')
        if np.isfinite(place.odometry).all(1).any():
            axes.plot(*broken(place.odometry, a, b), color=ODOMETRY, linewidth=1.3,
                      label='odometry')
            _ellipses(axes, place.odometry, place.odometry_covariance, place.axes, span,
                      ODOMETRY, '95 % of odometry')
        if np.isfinite(place.fixes).all(1).any():
            if np.isfinite(place.truth).any():
                axes.plot(*links(place.truth, place.fixes, a, b), color=BOUND, linewidth=0.5,
                          rasterized=many(place.fixes))
            axes.plot(place.fixes[:, a], place.fixes[:, b], '.', color=OURS,
                      markersize=2.5 if many(place.fixes) else 4.5, markeredgewidth=0,
                      label='fixes', zorder=3, rasterized=many(place.fixes))
            _ellipses(axes, place.fixes, place.fix_covariance, place.axes, span, OURS,
                      '95 % of fixes')
        _marks(axes, place.refused_at[place.refused], place.axes, 'x', REFUSED, 'refused')
        _marks(axes, place.odometry[place.reset], place.axes, 'D', REFUSED, 'restarted')
        axes.set(xlabel=f'{_AXES[a]} (m)', ylabel=f'{_AXES[b]} (m)')
        axes.set_xlim(low[0], high[0], auto=True)   # of which one is widened, for equal scales
        axes.set_ylim(low[1], high[1], auto=True)
        axes.set_aspect('equal', adjustable='datalim')
        legend_below(axes, columns=4)
    return picture


def strip_picture(t, values, name, marks):
    """
    Draw one number over the time of the recording, flat and wide.

    Parameters
    ----------
    t : np.ndarray
        Seconds, shape (N,).
    values : np.ndarray
        Shape (N,), NaN where unknown.
    name : str
        What it is, with its unit.
    marks : list of (str, str, np.ndarray)
        Name, colour and bool (N,) of what is marked below.

    Returns
    -------
    Chart

    """
    with chart(10.4, 1.75) as (axes, picture):
        axes.plot(t, values, '.', color=OURS, markersize=3.5 if len(t) > 300 else 6,
                  markeredgewidth=0, rasterized=many(t))
        for row, (label, colour, chosen) in enumerate(marks):
            if chosen.any():
                axes.plot(t[chosen], np.full(chosen.sum(), 0.04 + 0.07 * row), '|', color=colour,
                          markersize=6, transform=axes.get_xaxis_transform(), label=label,
                          rasterized=many(t[chosen]))
        known = values[np.isfinite(values)]
        top = np.percentile(known, 99.5) if len(known) else 1.0
        margin = max(0.005 * (t[-1] - t[0]), 1e-3)
        axes.set(xlabel='time in the recording (s)', ylabel=name, ylim=(0, 1.15 * top or 1.0),
                 xlim=(t[0] - margin, t[-1] + margin))
        if axes.get_legend_handles_labels()[1]:
            legend_below(axes, columns=4)
    return picture


def _limits(place, training):
    """Return the corners of the map, metres."""
    axes = list(place.axes)
    firm = [place.truth[:, axes]]
    if training is not None:
        firm.append(training[:, axes, 3])
    firm = np.concatenate(firm)
    firm = firm[np.isfinite(firm).all(1)]
    loose = [points[np.isfinite(points).all(1)] for points in (
        place.fixes[:, axes], place.odometry[:, axes])]
    loose = [points for points in loose if len(points)]
    parts = [firm] if len(firm) else []
    parts += [np.percentile(points, [100 - _SHOWN_PERCENT, _SHOWN_PERCENT], axis=0)
              if len(firm) else points for points in loose]
    corners = np.concatenate(parts)
    low, high = corners.min(0), corners.max(0)
    margin = 0.06 * max((high - low).max(), 0.2)
    return low - margin, high + margin


def _ellipses(axes, points, covariance, view, span, colour, label):
    """Draw ellipses that lie apart."""
    known = np.flatnonzero(np.isfinite(points).all(1) & np.isfinite(covariance).all((1, 2)))
    shapes, centres = [], []
    apart = _ELLIPSES_APART * span
    for i in known:
        centre = points[i, list(view)]
        if centres and min(np.hypot(*(np.array(centres) - centre).T)) < apart:
            continue
        shape = ellipse(covariance[i], view)
        if shape is not None:
            shapes.append(shape)
            centres.append(centre)
        if len(shapes) == _MOST_ELLIPSES:
            break
    if not shapes:
        return
    a, b, angle = np.array(shapes).T
    axes.add_collection(EllipseCollection(
        2 * a, 2 * b, angle, units='xy', offsets=np.array(centres),
        offset_transform=axes.transData, facecolors=colour + '18', edgecolors=colour + '90',
        linewidths=0.7, zorder=2.5))
    axes.plot([], [], 'o', markerfacecolor=colour + '18', markeredgecolor=colour, label=label,
              markersize=4)


def _marks(axes, points, view, marker, colour, label):
    if len(points) and np.isfinite(points).any():
        axes.plot(points[:, view[0]], points[:, view[1]], marker, color=colour,
                  markersize=2 if many(points) else 4.5,
                  markeredgewidth=0.5 if many(points) else 0.9, zorder=4, label=label,
                  rasterized=many(points))
