# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""One look for all charts of a report: small vector pictures that can be put into a page."""

import base64
from contextlib import contextmanager
import io

import matplotlib
from matplotlib.figure import Figure
import numpy as np

from geo_perception.evaluation.moments import jpeg

INK, MUTED, FAINT, RULE = '#1f2933', '#66727f', '#bcc5cd', '#dfe4e8'
OURS, BASELINE, BOUND, REFUSED = '#1f6091', '#c9822e', '#8d98a4', '#b23a48'
ODOMETRY = '#2f7d5b'
_FONTS = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# Above this many points a chart embeds them as pixels: a page of long drives stays small.
_MANY = 2000

_STYLE = {
    'svg.fonttype': 'none', 'svg.hashsalt': 'geo_perception', 'font.family': 'DejaVu Sans',
    'font.size': 9.5, 'axes.labelsize': 9.5, 'axes.titlesize': 10, 'legend.fontsize': 9,
    'xtick.labelsize': 9, 'ytick.labelsize': 9, 'text.color': INK, 'axes.labelcolor': INK,
    'xtick.color': MUTED, 'ytick.color': MUTED, 'axes.edgecolor': RULE, 'axes.linewidth': 0.8,
    'axes.grid': True, 'grid.color': RULE, 'grid.linewidth': 0.6, 'axes.axisbelow': True,
    'axes.spines.top': False, 'axes.spines.right': False, 'xtick.major.size': 0,
    'ytick.major.size': 0, 'legend.frameon': False, 'lines.linewidth': 1.5,
    'legend.handlelength': 1.6, 'axes.formatter.useoffset': False}


class Chart:
    """A picture that is ready for an ``img`` element, and where things are in it."""

    def __init__(self):
        self.src = ''
        self._axes = None

    def places(self, points):
        """
        Return where points are in the finished picture.

        Parameters
        ----------
        points : np.ndarray
            In the coordinates of the axes, shape (..., 2).

        Returns
        -------
        np.ndarray
            Parts of the width from the left and of the height from the top, shape (..., 2); NaN
            of what is NaN.

        """
        points = np.asarray(points, float)
        box = self._axes.figure.bbox
        placed = self._axes.transData.transform(points.reshape(-1, 2)).reshape(points.shape)
        return np.stack([placed[..., 0] / box.width, 1 - placed[..., 1] / box.height], -1)

    @property
    def margins(self):
        """What is above and below the axes, parts of the height."""
        box = self._axes.get_position()
        return 1 - box.y1, box.y0

    @property
    def aspect(self):
        """Width over height."""
        return self._axes.figure.bbox.width / self._axes.figure.bbox.height


@contextmanager
def chart(width=5.2, height=3.3, **subplot):
    """
    Give axes to draw on, and afterwards the picture.

    Parameters
    ----------
    width, height : float
        Inches; half the width of the page by default.
    **subplot
        For ``Figure.add_subplot``.

    Yields
    ------
    axes : matplotlib.axes.Axes
        To draw on.
    picture : Chart
        Its ``src`` is a data URI once the block has ended.

    """
    picture = Chart()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout='constrained')
        picture._axes = figure.add_subplot(**subplot)
        yield picture._axes, picture
        svg = io.StringIO()
        figure.savefig(svg, format='svg', dpi=200, metadata={'Date': None, 'Creator': None})
    # Matplotlib lays out with its own font; the page's fonts are narrower, so they fit.
    text = svg.getvalue().replace("'DejaVu Sans'", _FONTS)
    picture.src = 'data:image/svg+xml;base64,' + base64.b64encode(text.encode()).decode()


def many(points):
    """
    Tell whether so many points should be drawn as pixels (``rasterized=``).

    Parameters
    ----------
    points : sized
        What is drawn.

    Returns
    -------
    bool

    """
    return len(points) > _MANY


def legend_below(axes, columns):
    """
    Put the legend under the chart, where it covers nothing.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        From :func:`chart`.
    columns : int
        Entries a row; fewer where they would be wider than the picture.

    """
    figure = axes.figure
    while True:
        legend = figure.legend(loc='outside lower center', ncols=columns, markerscale=2,
                               columnspacing=1.2, handletextpad=0.4)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()
        columns -= 1


def jpeg_source(rgb, quality=80):
    """
    Return an image as a data URI.

    Parameters
    ----------
    rgb : np.ndarray
        (H, W, 3) or (H, W) uint8.
    quality : int
        JPEG quality, 0..100.

    Returns
    -------
    str

    """
    return source_of(jpeg(rgb, quality), 'jpeg')


def source_of(data, kind):
    """
    Return a picture as a data URI.

    Parameters
    ----------
    data : bytes
        The file.
    kind : str
        ``jpeg`` or ``png``.

    Returns
    -------
    str

    """
    return f'data:image/{kind};base64,' + base64.b64encode(data).decode()
