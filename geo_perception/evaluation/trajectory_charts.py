# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Pictures of where the camera was and where the relocalizer said it was, as data URIs."""

from matplotlib.ticker import MaxNLocator
import numpy as np

from geo_perception.evaluation.charts import BOUND, chart, FAINT, legend_below, many, MUTED
from geo_perception.evaluation.charts import REFUSED
from geo_perception.evaluation.run_map import view_axes

_AXES = 'xyz'


def top_view(result, training_poses=None):
    """
    Draw truth and answers from above, answers coloured by error.

    Parameters
    ----------
    result : RelocalizationResult
        With some truth.
    training_poses : np.ndarray, optional
        Where the training images were taken, shape (M, 4, 4).

    Returns
    -------
    str
        Data URI.

    """
    shown = _Shown(result)
    a, b, _, _ = shown.axes
    with chart(height=4.4) as (axes, picture):
        if training_poses is not None:
            axes.plot(training_poses[:, a, 3], training_poses[:, b, 3], '.', color=FAINT,
                      markersize=3.5, label='training images', rasterized=many(training_poses))
        axes.plot(*broken(shown.truth, a, b), color=MUTED, linewidth=1.2, label='truth')
        axes.plot(*links(shown.truth, shown.estimate, a, b), color=BOUND, linewidth=0.5,
                  rasterized=many(shown.truth))
        points = axes.scatter(shown.estimate[:, a], shown.estimate[:, b], c=shown.error, s=9,
                              **shown.colours, zorder=3, label='answers',
                              rasterized=many(shown.estimate))
        if len(shown.refused):
            axes.plot(shown.refused[:, a], shown.refused[:, b], 'x', color=REFUSED, markersize=4,
                      markeredgewidth=0.9, zorder=4, label='refused (at the truth)')
        axes.set(xlabel=f'{_AXES[a]} (m)', ylabel=f'{_AXES[b]} (m)')
        axes.set_aspect('equal', adjustable='datalim')
        legend_below(axes, columns=4)
        _error_scale(axes, points)
    return picture.src


def space_view(result):
    """
    Draw truth and answers in three dimensions, the vertical axis up.

    Parameters
    ----------
    result : RelocalizationResult
        With some truth.

    Returns
    -------
    str
        Data URI.

    """
    shown = _Shown(result)
    a, b, c, sign = shown.axes
    with chart(height=4.4, projection='3d') as (axes, picture):
        x, y, z = broken(shown.truth, a, b, c)
        axes.plot(x, y, sign * z, color=MUTED, linewidth=1.2)
        x, y, z = links(shown.truth, shown.estimate, a, b, c)
        axes.plot(x, y, sign * z, color=BOUND, linewidth=0.5, rasterized=many(shown.truth))
        axes.scatter(shown.estimate[:, a], shown.estimate[:, b], sign * shown.estimate[:, c],
                     c=shown.error, s=9, depthshade=False, **shown.colours,
                     rasterized=many(shown.estimate))
        axes.plot(shown.refused[:, a], shown.refused[:, b], sign * shown.refused[:, c], 'x',
                  color=REFUSED, markersize=4, markeredgewidth=0.9)
        _dress_space(axes, np.concatenate([shown.truth, shown.estimate]), shown.axes)
    return picture.src


def ways_from_above(ways, T_truth):
    """
    Draw several trajectories from above.

    Parameters
    ----------
    ways : list of (str, str, str, np.ndarray)
        Name, colour, line style and positions, metres, shape (N, 3), NaN where unknown.
    T_truth : np.ndarray
        ``T_world_camera``, shape (N, 4, 4), NaN where unknown.

    Returns
    -------
    str
        Data URI.

    """
    known = np.isfinite(T_truth).all((1, 2))
    view = view_axes(T_truth[known])
    a, b, _, _ = view
    with chart(height=4.4) as (axes, picture):
        axes.plot(*broken(T_truth[:, :3, 3], a, b), color=MUTED, linewidth=2.4, alpha=0.6,
                  label='truth')
        for name, colour, style, points in ways:
            axes.plot(points[:, a], points[:, b], style, color=colour, linewidth=1.3, label=name)
        axes.plot(*T_truth[known][0, [a, b], 3], 'o', color=MUTED, markersize=5, label='start')
        axes.set(xlabel=f'{_AXES[a]} (m)', ylabel=f'{_AXES[b]} (m)')
        axes.set_aspect('equal', adjustable='datalim')
        legend_below(axes, columns=5)
    return picture.src


def ways_in_space(ways, T_truth):
    """
    Draw several trajectories in three dimensions, the vertical axis up.

    Parameters
    ----------
    ways, T_truth
        See `ways_from_above`.

    Returns
    -------
    str
        Data URI.

    """
    known = np.isfinite(T_truth).all((1, 2))
    view = view_axes(T_truth[known])
    a, b, c, sign = view
    with chart(height=4.4, projection='3d') as (axes, picture):
        x, y, z = broken(T_truth[:, :3, 3], a, b, c)
        axes.plot(x, y, sign * z, color=MUTED, linewidth=2.4, alpha=0.6)
        for _, colour, style, points in ways:
            axes.plot(points[:, a], points[:, b], sign * points[:, c], style, color=colour,
                      linewidth=1.3)
        _dress_space(axes, np.concatenate([T_truth[:, :3, 3], *(way[3] for way in ways)]), view)
    return picture.src


def broken(points, *axes):
    """
    Return one line through points, broken where a slice of the recording jumps.

    Parameters
    ----------
    points : np.ndarray
        Metres, shape (N, 3), NaN where unknown.
    *axes : int
        The coordinates wanted.

    Returns
    -------
    list of np.ndarray
        One array a coordinate.

    """
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    usual = np.nanmedian(steps) if np.isfinite(steps).any() else 0.0
    jumps = np.flatnonzero(steps > max(20.0 * usual, 0.3)) + 1
    return [np.insert(points[:, axis], jumps, np.nan) for axis in axes]


def links(start, end, *axes):
    """
    Return one line that holds a separate stroke for each pair of points.

    Parameters
    ----------
    start, end : np.ndarray
        Metres, shape (N, 3).
    *axes : int
        The coordinates wanted.

    Returns
    -------
    list of np.ndarray
        One array a coordinate.

    """
    gap = np.full(len(start), np.nan)
    return [np.stack([start[:, axis], end[:, axis], gap], 1).ravel() for axis in axes]


class _Shown:
    """Positions of truth, answers and refusals as the trajectory pictures need them."""

    def __init__(self, result):
        known = np.isfinite(result.T_truth).all((1, 2))
        self.axes = view_axes(result.T_truth[known])
        self.truth = result.T_truth[:, :3, 3]
        self.estimate = np.where(result.accepted[:, None], result.T_estimate[:, :3, 3], np.nan)
        self.error = np.where(result.accepted, result.errors()[0], np.nan)
        self.refused = self.truth[result.processed & ~result.accepted]
        finite = self.error[np.isfinite(self.error)]
        self.colours = {'cmap': 'viridis', 'vmin': 0.0,
                        'vmax': np.percentile(finite, 95) if len(finite) else 1.0}


def _dress_space(axes, points, view):
    """Name the axes, and give them the same scale."""
    a, b, c, sign = view
    minus = '' if sign > 0 else '−'
    axes.set(xlabel=f'{_AXES[a]} (m)', ylabel=f'{_AXES[b]} (m)',
             zlabel=f'{minus}{_AXES[c]} (m), up')
    _equal_scales(axes, points[:, [a, b, c]] * [1, 1, sign])
    axes.view_init(elev=28, azim=-60)
    axes.xaxis.labelpad = axes.yaxis.labelpad = 14
    axes.zaxis.labelpad = 1


def _equal_scales(axes, points):
    """Give a metre the same length along all three axes, and the box the size of the points."""
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    span = np.maximum(high - low, 0.15 * max((high - low).max(), 0.1))
    middle = (low + high) / 2
    for axis, m, s in zip((axes.xaxis, axes.yaxis, axes.zaxis), middle, span):
        axis.set_view_interval(m - 0.55 * s, m + 0.55 * s, ignore=True)
        axis.set_major_locator(MaxNLocator(2 + round(4 * s / span.max())))
        axis.set_pane_color('#ffffff')
    axes.set_box_aspect(span, zoom=0.88)


def _error_scale(axes, points):
    bar = axes.figure.colorbar(points, ax=axes, shrink=0.75, aspect=28, pad=0.02, extend='max')
    bar.outline.set_visible(False)
    bar.set_label('position error (m)')
