# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Pictures of the errors of depth and odometry, as data URIs."""

import matplotlib
import numpy as np

from geo_perception.evaluation.charts import BASELINE, BOUND, chart, INK, legend_below, many, OURS
from geo_perception.evaluation.charts import REFUSED
from geo_perception.evaluation.geometry_score import (
    compared_frames, depth_by_distance, drift_by_length)
from geo_perception.evaluation.odometry import absolute_errors, path_length, step_ratios
from geo_perception.inference.preview import depth_picture, UNKNOWN

# A class of distances that holds less of the pixels says nothing.
_SMALLEST_SHARE = 0.002
# Relative errors from here on have one colour.
LARGEST_ERROR = 0.3
SYSTEMS = {'ours': ('odometry', OURS, '-'), 'network': ('network alone', OURS, ':'),
           'five_point': ('five-point', BASELINE, '-'),
           'constant_motion': ('constant motion', BOUND, '--')}


def errors_by_distance(recording):
    """
    Draw the relative error over the true distance.

    Parameters
    ----------
    recording : GeometryRecording
        With some scored depth.

    Returns
    -------
    str
        Data URI.

    """
    rows = depth_by_distance(recording.depth)
    pixels = sum(row['pixels'] for row in rows)
    rows = [row for row in rows if row['pixels'] > _SMALLEST_SHARE * pixels]
    names = [f"{row['from_m']:g}–{'∞' if row['to_m'] is None else format(row['to_m'], 'g')}\n"
             f"{100 * row['pixels'] / pixels:.0f} %" for row in rows]
    series = [('as it is', 'abs_rel', OURS),
              ('after median scaling', 'abs_rel_median_scaled', BASELINE)]
    series = [(label, key, colour) for label, key, colour in series
              if rows and rows[0][key] is not None]
    width = 0.8 / max(len(series), 1)
    with chart() as (axes, picture):
        for k, (label, key, colour) in enumerate(series):
            place = np.arange(len(rows)) + width * (k - 0.5 * (len(series) - 1))
            axes.bar(place, [100 * row[key] for row in rows], width, color=colour, label=label)
        axes.set_xticks(np.arange(len(rows)), names)
        axes.tick_params(axis='x', labelsize=8)
        axes.set(xlabel='true distance (m) and share of the pixels',
                 ylabel='relative error (%)')
        axes.grid(axis='x', visible=False)
        legend_below(axes, columns=2)
    return picture.src


def depth_over_time(recording):
    """
    Draw the relative error of each image over the time of the recording.

    Parameters
    ----------
    recording : GeometryRecording
        With some scored depth.

    Returns
    -------
    str
        Data URI.

    """
    depth, t = recording.depth, _seconds(recording)
    with chart() as (axes, picture):
        for label, errors, colour in (('as it is', depth.errors, OURS),
                                      ('after median scaling', depth.errors_scaled, BASELINE)):
            if np.isfinite(errors[:, 0]).any():
                axes.plot(t, 100 * errors[:, 0], '.', color=colour, markersize=4,
                          markeredgewidth=0, label=label, rasterized=many(t))
        axes.set(xlabel='time in the recording (s)', ylabel='relative error (%)',
                 ylim=(0, None))
        legend_below(axes, columns=2)
    return picture.src


def scale_over_time(recording):
    """
    Draw how many times deeper, and longer, the truth is than what was said.

    Parameters
    ----------
    recording : GeometryRecording
        With scored depth, or with odometry and its truth.

    Returns
    -------
    str or None
        Data URI; None where there is nothing to draw.

    """
    t = _seconds(recording)
    used, _ = compared_frames(recording, recording.T_odom_camera)
    with chart() as (axes, picture):
        if np.isfinite(recording.depth.ratio).any():
            axes.plot(t, recording.depth.ratio, '.', color=OURS, markersize=4,
                      markeredgewidth=0, label='depth', rasterized=many(t))
        if len(used) > 2:
            middle, ratio = step_ratios(recording.T_odom_camera[used], recording.T_truth[used])
            axes.plot(t[used[middle]], ratio, color=BASELINE, linewidth=1.2, label='path')
        heights = _heights(axes)
        if not heights.size:
            return None
        axes.axhline(1.0, color=INK, linewidth=0.9)
        _mark_resets(axes, recording, t)
        axes.set(xlabel='time in the recording (s)', ylabel='true over said', ylim=(0, None))
        low, high = axes.get_ylim()
        axes.set_ylim(low, min(high, 3.0 * np.median(heights)))
        legend_below(axes, columns=3)
    return picture.src


def drift(recording, quantity, with_scale):
    """
    Draw drift over the length of segments, of the odometry and of other systems.

    Parameters
    ----------
    recording : GeometryRecording
        With some drift.
    quantity : int
        0 for translation (percent), 1 for rotation (degrees per 100 m).
    with_scale : bool
        Whether one scale is fitted to each first.

    Returns
    -------
    str
        Data URI.

    """
    with chart() as (axes, picture):
        for name, T in trajectories(recording):
            rows = drift_by_length(recording, T, with_scale)
            label, colour, style = SYSTEMS[name]
            if rows:
                axes.plot([row[0] for row in rows], [row[1 + quantity] for row in rows],
                          style, marker='o', markersize=4, color=colour, label=label)
        axes.set(xlabel='length of the segment (m)', ylim=(0, None), xlim=(0, None),
                 ylabel=('drift (% of the path)', 'rotation drift (deg / 100 m)')[quantity])
        legend_below(axes, columns=3)
    return picture.src


def position_error_over_way(recording, with_scale):
    """
    Draw how far each position is off once the whole is aligned, along the path.

    Parameters
    ----------
    recording : GeometryRecording
        With odometry and its truth.
    with_scale : bool
        Sim(3), or SE(3).

    Returns
    -------
    str
        Data URI.

    """
    with chart() as (axes, picture):
        for name, T in trajectories(recording):
            used, _ = compared_frames(recording, T)
            if len(used) < 2:
                continue
            label, colour, style = SYSTEMS[name]
            axes.plot(path_length(recording.T_truth[used]),
                      absolute_errors(T[used], recording.T_truth[used], with_scale), style,
                      color=colour, label=label, rasterized=many(used))
        axes.set(xlabel='path length (m)', ylabel='position error (m)', ylim=(0, None))
        legend_below(axes, columns=3)
    return picture.src


def trajectories(recording):
    """
    Return all systems of a recording.

    Parameters
    ----------
    recording : GeometryRecording
        After the run.

    Returns
    -------
    list of (str, np.ndarray)
        Names in `SYSTEMS` and poses, ours first.

    """
    return [('ours', recording.T_odom_camera), *recording.baselines.items()]


def error_picture(sample):
    """
    Return the relative error in colours, unknown grey.

    Parameters
    ----------
    sample : DepthSample
        One frame.

    Returns
    -------
    np.ndarray
        RGB uint8.

    """
    error = np.abs(sample.predicted - sample.truth) / sample.truth
    return _error_colours(error / LARGEST_ERROR)


def colour_bars():
    """
    Return the colours of depth and of errors from low to high.

    Returns
    -------
    tuple of np.ndarray
        RGB uint8, shape (12, 256, 3).

    """
    ramp = np.tile(np.linspace(0, 1, 256), (12, 1))
    return depth_picture(np.exp(ramp), (1.0, np.e)), _error_colours(ramp)


def _error_colours(values):
    known = np.isfinite(values)
    rgb = matplotlib.colormaps['YlOrRd'](np.where(known, values, 0.0).clip(0, 1), bytes=True)
    return np.where(known[..., None], rgb[..., :3], np.uint8(UNKNOWN))


def _mark_resets(axes, recording, t):
    resets = t[[bool(reset) for reset in recording.resets]]
    if len(resets):
        axes.plot(resets, np.full(len(resets), 0.02), '|', color=REFUSED, markersize=6,
                  transform=axes.get_xaxis_transform(), label='restarted', clip_on=False)


def _heights(axes):
    heights = np.concatenate([[], *(line.get_ydata() for line in axes.lines
                                    if line.get_label() in ('depth', 'path'))])
    return heights[np.isfinite(heights)]


def _seconds(recording):
    return (recording.stamps - recording.stamps[0]) * 1e-9
