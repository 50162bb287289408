# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""A run to go through by time: pictures of each moment, and where it is on the map."""

import json

import cv2
import numpy as np

from geo_perception.evaluation.charts import BOUND, jpeg_source, REFUSED, source_of
from geo_perception.evaluation.map_chart import map_picture, strip_picture
from geo_perception.evaluation.moments import decoded_depth, MOVING, UNKNOWN
from geo_perception.evaluation.number_text import (
    angle_text, length_text, milliseconds_text, number_text, relative_text)
from geo_perception.evaluation.relocalization_result import pose_errors
from geo_perception.evaluation.report import templates
from geo_perception.evaluation.run_map import ellipse, run_map
from geo_perception.inference.preview import depth_picture, depth_range

# Of all pictures together, as they stand in the page; more moments are left out.
LARGEST = 12_000_000
_QUALITY = 70
_MASK_COLOUR = (48, 48, 230)   # BGR
_POINTS_OF_ELLIPSE = 24
# Of images so much wider than high no two stand side by side.
_WIDE = 1.9


def scrubber_section(run):
    """
    Return the map of a run with everything to go through it by time.

    Parameters
    ----------
    run : Run
        After the run.

    Returns
    -------
    str
        HTML; empty where there is neither a map nor a picture.

    """
    place = run_map(run)
    moments = _pictures(run)
    if place.empty and not moments:
        return ''
    chart = None if place.empty else map_picture(place, run.training)
    strip, seconds = _strip(run, place)
    if moments:
        _point_at(moments, run, place, chart, strip, seconds)
    return templates('scrubber.html.j2').module.scrubber(
        chart, strip, '' if place.empty else _note(place), _data(moments), bool(moments),
        {kind: any(kind in moment for moment in moments) for kind in ('depth', 'mask')},
        bool(moments) and _aspect(run.moments.taken[0].image) > _WIDE)


def _aspect(jpeg):
    height, width = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE).shape
    return width / height


def _data(moments):
    """Return JSON that can stand inside a script element."""
    return json.dumps(moments, allow_nan=False, separators=(',', ':')).replace('<', '\\u003c')


def _pictures(run):
    """Return a dictionary for each moment, with its pictures."""
    taken = sorted(run.moments.taken, key=lambda moment: moment.index)
    depths = [decoded_depth(moment.depth[::4, ::4]) for moment in taken
              if moment.depth is not None]
    depths = [depth for depth in depths if np.isfinite(depth).any()]
    limits = depth_range(depths) if depths else None
    moments = [_of_moment(moment, limits) for moment in taken]
    size = sum(len(text) for moment in moments for text in moment.values()
               if isinstance(text, str))
    if size > LARGEST:
        kept = max(1, int(len(moments) * LARGEST / size))
        moments = [moments[round(i)] for i in np.linspace(0, len(moments) - 1, kept)]
    return moments


def _of_moment(moment, limits):
    found = {'index': moment.index, 'image': source_of(moment.image, 'jpeg')}
    if moment.depth is not None and limits is not None:
        found['depth'] = jpeg_source(depth_picture(decoded_depth(moment.depth), limits), _QUALITY)
    if moment.moving is not None:
        found['mask'] = _mask_source(moment.moving)
    return found


def _mask_source(state):
    """Return a mask as a picture to lie over that of the camera: red where something moves."""
    picture = np.zeros((*state.shape, 4), np.uint8)
    picture[state == MOVING] = (*_MASK_COLOUR, 150)
    picture[state == UNKNOWN] = (120, 120, 120, 110)
    return source_of(cv2.imencode('.png', picture)[1].tobytes(), 'png')


def _strip(run, place):
    """Return a chart of the number that tells most over time, and the seconds of all frames."""
    seconds = (run.stamps - run.stamps[0]) * 1e-9
    position = np.linalg.norm(place.fixes - place.truth, axis=1)
    drift = np.linalg.norm(place.odometry - place.truth, axis=1)
    if np.isfinite(position).any():
        values, name = position, 'fix off by (m)'
    elif np.isfinite(drift).any():
        values, name = drift, 'odometry off by (m)'
    elif run.geometry is not None and np.isfinite(run.geometry.depth.errors_scaled[:, 0]).any():
        values, name = 100 * run.geometry.depth.errors_scaled[:, 0], 'depth off by (%)'
    else:
        values, name = run.results[-1].delay_ms, 'delay (ms)'
    marks = [('refused', REFUSED, place.refused), ('dropped', BOUND, place.dropped),
             ('odometry restarted', REFUSED, place.reset)]
    return strip_picture(seconds, values, name, marks), seconds


def _note(place):
    parts = ['From above.']
    if np.isfinite(place.fix_covariance).any() or np.isfinite(place.odometry_covariance).any():
        parts.append('The truth should lie inside 95 % of the ellipses; of all of them those '
                     'are drawn that can be told apart.')
    if place.refused.any():
        parts.append('A refused fix is marked where the camera truly was, if that is known.')
    return ' '.join([*parts, *([place.laid] if place.laid else [])])


def _point_at(moments, run, place, chart, strip, seconds):
    """Add to each moment where it is on the map and on the strip, and what is known of it."""
    a, b = place.axes
    result, recording = run.relocalization, run.geometry
    rows = None
    if result is not None:
        rows = {stamp: i for i, stamp in enumerate(result.stamps.tolist())}
        errors = result.errors()
        table = result.table()
    drift = np.linalg.norm(place.odometry - place.truth, axis=1)
    for moment in moments:
        i = moment['index']
        moment['time_s'] = round(float(seconds[i]), 3)
        moment['strip'] = _rounded(strip.places([[seconds[i], 0.0]])[0, 0])
        if chart is not None:
            for name, points in (('truth', place.truth), ('fix', place.fixes),
                                 ('odometry', place.odometry),
                                 ('refused', np.where(place.refused[:, None], place.refused_at,
                                                      np.nan))):
                if np.isfinite(points[i, [a, b]]).all():
                    moment[name] = [_rounded(x) for x in chart.places(points[i, [a, b]])]
            for name, points, covariance in (
                    ('fix_ellipse', place.fixes, place.fix_covariance),
                    ('odometry_ellipse', place.odometry, place.odometry_covariance)):
                outline = _outline(points[i, [a, b]], ellipse(covariance[i], place.axes))
                if outline is not None:
                    moment[name] = [[_rounded(x) for x in point]
                                    for point in chart.places(outline)]
        lines = moment['lines'] = []
        if rows is not None and int(run.stamps[i]) in rows:
            lines += _fix_lines(result, rows[int(run.stamps[i])], errors, table)
        if recording is not None:
            lines += _geometry_lines(recording, i, drift[i], place)
        names = [r.names[i] for r in run.results if len(r.names) > i and r.names[i]]
        # Names of files tell a person more than those of messages.
        moment['name'] = (f'image {i}' if not names or '@' in names[0]
                          else '/'.join(names[0].split('/')[-2:]))


def _rounded(value):
    return round(float(value), 4)


def _outline(centre, shape):
    if shape is None or not np.isfinite(centre).all():
        return None
    a, b, angle = shape
    turn = np.linspace(0, 2 * np.pi, _POINTS_OF_ELLIPSE, endpoint=False)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    x, y = a * np.cos(turn), b * np.sin(turn)
    return np.stack([centre[0] + c * x - s * y, centre[1] + s * x + c * y], 1)


def _fix_lines(result, i, errors, table):
    """Return what is known of the fix of one frame: names and values."""
    if not result.processed[i]:
        return [['Fix', 'dropped on the way']]
    if not result.accepted[i]:
        lines = [['Fix', f"refused{': ' + result.reasons[i] if result.reasons[i] else ''}"]]
        if np.isfinite(errors[0][i]):
            lines.append(['It would be', f'{length_text(errors[0][i])}, '
                                         f'{angle_text(errors[1][i])} off'])
    else:
        known = np.isfinite(errors[0][i])
        lines = [['Fix', f'{length_text(errors[0][i])}, {angle_text(errors[1][i])} off' if known
                  else 'answered']]
        if np.isfinite(table['position_sigma_m'][i]):
            lines.append(['It states', f"± {length_text(table['position_sigma_m'][i])}, "
                                       f"{angle_text(table['orientation_sigma_deg'][i])}"])
    if result.T_retrieval is not None:
        position, orientation = pose_errors(result.T_retrieval[i], result.T_truth[i])
        if np.isfinite(position):
            lines.append(['Retrieval', f'{length_text(float(position))}, '
                                       f'{angle_text(float(orientation))} off'])
    if np.isfinite(result.delay_ms[i]):
        lines.append(['Delay of the fix', milliseconds_text(float(result.delay_ms[i]))])
    return lines


def _geometry_lines(recording, i, drift, place):
    """Return what is known of depth and odometry at one frame: names and values."""
    if not recording.processed[i]:
        return [['Depth, odometry', 'dropped on the way']]
    lines = []
    if np.isfinite(drift):
        lines.append(['Odometry', f'{length_text(float(drift))} off'])
    elif np.isfinite(place.odometry).any() and not np.isfinite(place.odometry[i]).all():
        lines.append(['Odometry', 'no motion told'])
    if recording.resets[i]:
        lines.append(['Started anew', recording.resets[i]])
    if recording.states and recording.states[i]:
        lines.append(['Motion by', recording.states[i]])
    error, ratio = recording.depth.errors_scaled[i, 0], recording.depth.ratio[i]
    if np.isfinite(error):
        lines.append(['Depth', f'{relative_text(float(error))} off after scaling'])
    if np.isfinite(ratio) and recording.metric[i]:
        lines.append(['True over said', number_text(float(ratio))])
    if np.isfinite(recording.delay_ms[i]):
        lines.append(['Delay of depth', milliseconds_text(float(recording.delay_ms[i]))])
    return lines
