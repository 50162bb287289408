# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""How far optical flow is off: the protocol of KITTI 2015 (geonet.md section 6)."""

from dataclasses import dataclass, field
from typing import List

import cv2
import numpy as np

from geo_perception.datasets.flow_files import UNITS, ZERO
from geo_perception.errors import ConfigurationError

# An outlier misses by more than both: pixels, and part of the true length.
OUTLIER_PIXELS, OUTLIER_PART = 3.0, 0.05
# Of the pixels with truth: all, those seen in both images, those hidden in the second.
REGIONS = ('total', 'noc', 'occ')
ENLARGEMENTS = ('bilinear', 'nearest')


@dataclass(frozen=True)
class FlowErrors:
    """
    Errors of one image over some of its pixels.

    Attributes
    ----------
    pixels : int
        How many.
    epe : float
        Mean distance of the end points, pixels; NaN without any.
    outliers : float
        Share of outliers, 0..1; NaN without any.

    """

    pixels: int
    epe: float
    outliers: float


@dataclass(frozen=True)
class FlowComparison:
    """
    Errors of one image.

    Attributes
    ----------
    total, noc, occ : FlowErrors
        Of `REGIONS`; the last two have no pixels where nobody says what is hidden.
    coverage : float
        Share of the pixels with truth that have a prediction, 0..1; NaN without truth.

    """

    total: FlowErrors
    noc: FlowErrors
    occ: FlowErrors
    coverage: float


def flow_errors(predicted, truth):
    """
    Return the errors of some pixels.

    Parameters
    ----------
    predicted, truth : np.ndarray
        Pixels, finite, shape (N, 2).

    Returns
    -------
    FlowErrors

    """
    if not len(truth):
        return FlowErrors(0, np.nan, np.nan)
    truth = np.asarray(truth, float)
    error = np.linalg.norm(predicted - truth, axis=1)
    outlier = (error > OUTLIER_PIXELS) & (error > OUTLIER_PART * np.linalg.norm(truth, axis=1))
    return FlowErrors(len(error), float(error.mean()), float(outlier.mean()))


def compare_flow(predicted, truth, visible=None):
    """
    Return the errors of one image.

    Parameters
    ----------
    predicted : np.ndarray
        At the pixels of the truth, shape (H, W, 2), NaN where there is none.
    truth : np.ndarray
        Pixels, shape (H, W, 2), NaN where unknown; it may be unknown everywhere.
    visible : np.ndarray, optional
        Where the surface is seen in both images, bool, shape (H, W).

    Returns
    -------
    FlowComparison

    Raises
    ------
    ConfigurationError
        When prediction and truth have different sizes.

    """
    if predicted.shape != truth.shape:
        raise ConfigurationError(f'flow of shape {predicted.shape} cannot be compared with truth '
                                 f'of shape {truth.shape}; bring it to that size first')
    known = np.isfinite(truth).all(-1)
    scored = known & np.isfinite(predicted).all(-1)
    regions = [scored]
    regions += [np.zeros_like(known)] * 2 if visible is None else [scored & visible,
                                                                   scored & ~visible]
    coverage = scored.sum() / known.sum() if known.any() else np.nan
    return FlowComparison(*(flow_errors(predicted[region], truth[region]) for region in regions),
                          coverage)


def enlarge_flow(flow, height, width, enlargement='bilinear', quantise=False):
    """
    Return flow at another size.

    Parameters
    ----------
    flow : np.ndarray
        Of the whole image, pixels of its own size, float32, shape (h, w, 2).
    height, width : int
        Pixels of the result.
    enlargement : str
        ``bilinear``, or ``nearest`` as GeoNet's authors do it.
    quantise : bool
        Cut down to 1/64 pixels before, as they do, too.

    Returns
    -------
    np.ndarray
        Pixels of the new size, shape (H, W, 2).

    Raises
    ------
    ConfigurationError
        When the enlargement is unknown.

    """
    if enlargement not in ENLARGEMENTS:
        raise ConfigurationError(f"the enlargement '{enlargement}' is unknown; choose one of "
                                 f"{', '.join(ENLARGEMENTS)}")
    if quantise:
        # Their cast to 16 bits truncates, and nothing there is below zero.
        flow = (np.floor(flow * UNITS + ZERO) - ZERO) / np.float32(UNITS)
    method = cv2.INTER_LINEAR if enlargement == 'bilinear' else cv2.INTER_NEAREST
    factors = width / flow.shape[1], height / flow.shape[0]
    return cv2.resize(np.asarray(flow, np.float32), (width, height), interpolation=method) \
        * np.array(factors, np.float32)


def flow_at_truth(flow, flow_camera, camera, shape, **options):
    """
    Return predicted flow at the pixels of true flow.

    Parameters
    ----------
    flow : np.ndarray
        Of the network's image, pixels, float32, shape (h, w, 2).
    flow_camera : Camera or None
        Of that image, without distortion; None where it shows the whole image.
    camera : Camera or None
        Of the image that the truth belongs to.
    shape : tuple of int
        (H, W) of the truth.
    **options
        Of `enlarge_flow`, where the network's image shows all of the other.

    Returns
    -------
    np.ndarray
        Pixels of the truth, float32, shape (H, W, 2), NaN where the prediction does not look.

    Raises
    ------
    ConfigurationError
        When the camera has a distortion: true flow is then of other pixels than the prediction.

    """
    height, width = shape
    if flow_camera is None or camera is None:
        return enlarge_flow(flow, height, width, **options)
    if camera.distorts:
        raise ConfigurationError('flow is predicted in undistorted images, and the truth is of '
                                 'distorted ones; undistort both first')
    camera = camera.resized(width, height)
    if np.allclose(camera.resized(flow.shape[1], flow.shape[0]).K, flow_camera.K, atol=1e-3):
        return enlarge_flow(flow, height, width, **options)
    # Pixels of the truth in the network's image; both look along the same axis.
    scale = np.diag(flow_camera.K)[:2] / np.diag(camera.K)[:2]
    offset = flow_camera.K[:2, 2] - scale * camera.K[:2, 2]
    x, y = (np.arange(n) * s + o for n, s, o in zip((width, height), scale, offset))
    x, y = (n.astype(np.float32) for n in np.meshgrid(x, y))
    found = cv2.remap(np.asarray(flow, np.float32), x, y, cv2.INTER_LINEAR,
                      borderMode=cv2.BORDER_REPLICATE) / scale.astype(np.float32)
    inside = (x >= 0) & (x <= flow.shape[1] - 1) & (y >= 0) & (y <= flow.shape[0] - 1)
    return np.where(inside[..., None], found, np.float32(np.nan))


@dataclass
class FlowScore:
    """
    Errors of many images.

    Attributes
    ----------
    images : list of FlowComparison
        One each; images without a known pixel count for nothing.

    """

    images: List[FlowComparison] = field(default_factory=list)

    def summary(self):
        """
        Return the published figures.

        Returns
        -------
        dict of str to float
            ``epe_px`` and ``fl_percent``: the mean of the means of the images, as GeoNet reports
            them; ``*_noc`` and ``*_occ`` of what is visible and hidden, where that is known;
            ``*_pooled``: over all pixels at once, as KITTI's own table has them; ``coverage`` and
            ``images``.

        """
        result = {'images': sum(image.total.pixels > 0 for image in self.images)}
        for region in REGIONS:
            errors = [getattr(image, region) for image in self.images]
            errors = [e for e in errors if e.pixels]
            if not errors:
                continue
            pixels = np.array([e.pixels for e in errors], float)
            end = '' if region == 'total' else f'_{region}'
            for name, values in (('epe_px', [e.epe for e in errors]),
                                 ('fl_percent', [100 * e.outliers for e in errors])):
                result[name + end] = float(np.mean(values))
                result[f'{name}{end}_pooled'] = float(np.average(values, weights=pixels))
        coverage = [image.coverage for image in self.images if np.isfinite(image.coverage)]
        if coverage:
            result['coverage'] = float(np.mean(coverage))
        return result
