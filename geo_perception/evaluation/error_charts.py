# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Pictures of the errors, confidence and delay of a relocalizer, as data URIs."""

from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
import numpy as np

from geo_perception.evaluation.charts import BASELINE, BOUND, chart, INK, legend_below, many
from geo_perception.evaluation.charts import MUTED, OURS, REFUSED
from geo_perception.evaluation.relocalization import recall_curve
from geo_perception.evaluation.relocalization_result import pose_errors


def error_over_time(result, quantity):
    """
    Draw errors over the time of the recording, retrieval's behind.

    Parameters
    ----------
    result : RelocalizationResult
        With some truth.
    quantity : int
        0 for position (m), 1 for orientation (deg).

    Returns
    -------
    str
        Data URI.

    """
    t = _seconds(result)
    errors = result.errors()[quantity]
    answered = result.accepted
    with chart() as (axes, picture):
        if result.T_retrieval is not None:
            axes.plot(t, pose_errors(result.T_retrieval, result.T_truth)[quantity], '.',
                      color=BASELINE, alpha=0.6, markersize=4, markeredgewidth=0,
                      label='retrieval', rasterized=many(t))
        axes.plot(t[answered], errors[answered], '.', color=OURS, markersize=4,
                  markeredgewidth=0, label='relocalizer', rasterized=many(t))
        refused = result.processed & ~result.accepted
        _rug(axes, t[refused], REFUSED, 'refused', 0.0)
        _rug(axes, t[~result.processed], BOUND, 'dropped', 0.04)
        axes.set(xlabel='time in the recording (s)', ylabel=_label(quantity), yscale='log')
        _plain_ticks(axes.yaxis)
        legend_below(axes, columns=4)
    return picture.src


def error_histogram(result, quantity):
    """
    Draw how often each error occurs, with the median.

    Parameters
    ----------
    result : RelocalizationResult
        With some truth.
    quantity : int
        0 for position (m), 1 for orientation (deg).

    Returns
    -------
    str
        Data URI.

    """
    errors = result.errors()[quantity][result.accepted]
    errors = errors[np.isfinite(errors)]
    limit = _robust_limit(errors)
    beyond = int((errors > limit).sum())
    with chart(height=2.9) as (axes, picture):
        axes.hist(errors[errors <= limit], bins=40, range=(0, limit), color=OURS,
                  edgecolor='white', linewidth=0.4)
        if len(errors):
            median = np.median(errors)
            axes.axvline(median, color=INK, linewidth=1)
            left = median > 0.7 * limit   # of the line there is more room
            axes.annotate(f'median {median:.3g} {_unit(quantity)}', (median, 1),
                          (-4 if left else 4, 9), xycoords=('data', 'axes fraction'),
                          textcoords='offset points', va='top', ha='right' if left else 'left')
        if beyond:
            axes.annotate(f'{beyond} beyond {limit:.2g} {_unit(quantity)}', (1, 0.5),
                          xycoords='axes fraction', ha='right', color=MUTED)
        axes.set(xlabel=_label(quantity), ylabel='frames', xlim=(0, limit))
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis='x', visible=False)
    return picture.src


def recall(result, quantity):
    """
    Draw the share of frames within each error: relocalizer, retrieval, nearest training pose.

    Parameters
    ----------
    result : RelocalizationResult
        With some truth.
    quantity : int
        0 for position (m), 1 for orientation (deg).

    Returns
    -------
    str
        Data URI.

    """
    counted = result.processed & np.isfinite(result.T_truth).all((1, 2))
    ours = np.where(result.accepted, result.errors()[quantity], np.nan)
    curves = [('relocalizer', ours, OURS, '-'),
              ('retrieval', result.T_retrieval, BASELINE, '-'),
              ('nearest training pose', result.T_nearest, BOUND, '--')]
    curves = [(name, values if values.ndim == 1 else
               pose_errors(values, result.T_truth)[quantity], colour, style)
              for name, values, colour, style in curves if values is not None]
    limit = max(_robust_limit(values[counted & np.isfinite(values)]) for _, values, _, _ in curves)
    with chart(height=3.2) as (axes, picture):
        for name, values, colour, style in curves:
            error, share = recall_curve(values[counted], counted.sum())
            axes.step([*error, limit], [*(100 * share), 100 * share[-1]], style, where='post',
                      color=colour, label=name)
        axes.set(xlabel=_label(quantity), ylabel='frames within (%)', ylim=(0, 101),
                 xlim=(0, limit))
        legend_below(axes, columns=3)
    return picture.src


def confidence(result, quantity):
    """
    Draw errors against the standard deviation that the relocalizer stated.

    Parameters
    ----------
    result : RelocalizationResult
        With some truth and covariances.
    quantity : int
        0 for position (m), 1 for orientation (deg).

    Returns
    -------
    str
        Data URI.

    """
    table = result.table()
    name = ('position', 'orientation')[quantity]
    unit = _unit(quantity)
    sigma, errors = table[f'{name}_sigma_{unit}'], table[f'{name}_error_{unit}']
    shown = np.isfinite(sigma) & np.isfinite(errors)
    with chart(height=3.2) as (axes, picture):
        for accepted, colour, label in ((True, OURS, 'answered'), (False, REFUSED, 'refused')):
            chosen = shown & (result.accepted == accepted)
            if chosen.any():
                axes.plot(sigma[chosen], errors[chosen], '.', color=colour, markersize=4,
                          markeredgewidth=0, alpha=0.7, label=label, rasterized=many(sigma))
        limits = np.array([max(min(sigma[shown].min(), errors[shown].min()), 1e-4),
                           max(sigma[shown].max(), errors[shown].max())])
        axes.plot(limits, limits, color=MUTED, linewidth=0.9, label='error = stated')
        axes.set(xscale='log', yscale='log', xlabel=f'stated standard deviation ({unit})',
                 ylabel=_label(quantity))
        _plain_ticks(axes.xaxis)
        _plain_ticks(axes.yaxis)
        legend_below(axes, columns=3)
    return picture.src


def delay(result):
    """
    Draw the delay of each frame over the recording, dropped frames marked.

    Parameters
    ----------
    result : RelocalizationResult
        With some delays.

    Returns
    -------
    str
        Data URI.

    """
    t = _seconds(result)
    known = result.delay_ms[np.isfinite(result.delay_ms)]
    p50, p95 = np.percentile(known, [50, 95])
    with chart(height=2.9) as (axes, picture):
        axes.plot(t, result.delay_ms, '.', color=OURS, markersize=4, markeredgewidth=0,
                  rasterized=many(t))
        for value, style, label in ((p50, '-', 'median'), (p95, '--', '95th percentile')):
            axes.axhline(value, color=INK, linewidth=0.9, linestyle=style,
                         label=f'{label} {value:.1f} ms')
        _rug(axes, t[~result.processed], BOUND, 'dropped', 0.0)
        axes.set(xlabel='time in the recording (s)', ylabel='delay (ms)',
                 ylim=(0, 1.15 * known.max()))
        legend_below(axes, columns=3)
    return picture.src


def delay_histogram(result):
    """
    Draw how often each delay occurs.

    Parameters
    ----------
    result : RelocalizationResult
        With some delays.

    Returns
    -------
    str
        Data URI.

    """
    known = result.delay_ms[np.isfinite(result.delay_ms)]
    with chart(height=2.9) as (axes, picture):
        axes.hist(known, bins=40, range=(0, 1.02 * known.max()), color=OURS, edgecolor='white',
                  linewidth=0.4)
        axes.set(xlabel='delay (ms)', ylabel='frames', xlim=(0, None))
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis='x', visible=False)
    return picture.src


def _seconds(result):
    return (result.stamps - result.stamps[0]) * 1e-9


def _unit(quantity):
    return ('m', 'deg')[quantity]


def _label(quantity):
    return ('position error (m)', 'orientation error (deg)')[quantity]


def _robust_limit(errors):
    """Return where an error axis ends: a few outliers shall not squeeze everything else."""
    if len(errors) == 0 or errors.max() <= 0:
        return 1.0
    return min(errors.max(), 2.0 * np.percentile(errors, 97)) * 1.02


def _plain_ticks(axis):
    """Write 0.05 instead of 5 x 10^-2 on a logarithmic axis."""
    low, high = axis.get_view_interval()
    subs = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 5, 6, 8)
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axis.set_minor_locator(NullLocator())


def _rug(axes, times, colour, label, height):
    """Mark times at the bottom of a chart."""
    if len(times):
        axes.plot(times, np.full(len(times), height + 0.02), '|', color=colour, markersize=6,
                  transform=axes.get_xaxis_transform(), label=label, clip_on=False,
                  rasterized=many(times))
