# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""How far predicted depth is off on one image (sfmlearner.md section 6.1)."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch

from geo_perception.errors import ConfigurationError
from geo_perception.geometry.camera import Camera
from geo_perception.geometry.sampling import sample

# Of one image, in this order; the first three are no shares.
METRICS = ('abs_rel', 'sq_rel', 'rmse_m', 'rmse_log', 'a1', 'a2', 'a3')
# Metres: below it lidars and renderers write zeros.
NEAREST = 1e-3
# Ends of the distances that errors are listed by, metres.
DISTANCES = np.array([0.0, 1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 40, 60, 80, np.inf])
# Whole metres that pixels are counted by; where those of each of `DISTANCES` begin.
_METRES = int(DISTANCES[-2]) + 1
_FIRST_METRES = DISTANCES[:-1].astype(int)
# Neighbours have one distance, and adding to one sum again and again waits for each addition.
_LANES = 8
# Of the pixels that the median is looked for among: so many, and so many of them on both sides.
_SAMPLES, _NEAR = 4096, 128
# Shares of height and width: first and last row, first and last column.
CROPS = {'none': (0.0, 1.0, 0.0, 1.0),
         'garg': (0.40810811, 0.99189189, 0.03594771, 0.96405229),
         'eigen': (0.3324324, 0.91351351, 0.0359477, 0.96405229)}


@dataclass(frozen=True)
class DepthRules:
    """
    Which pixels count.

    The published numbers on KITTI's Eigen split are those of ``garg`` and 80 m, scaled by the
    median.

    Attributes
    ----------
    crop : str
        ``none``, ``garg`` or ``eigen`` (the latter for comparison with old supervised papers).
    cap : float
        Metres. Pixels that are farther away in truth are left out; predictions are clamped.
    cap_truth : bool
        False keeps them, as the numbers on KITTI 2015 do (monodepth.md section 13).

    Raises
    ------
    ConfigurationError
        When a value is none of those.

    """

    crop: str = 'none'
    cap: float = 80.0
    cap_truth: bool = True

    def __post_init__(self):
        """Refuse what would leave no pixel."""
        if self.crop not in CROPS:
            raise ConfigurationError(f"the crop '{self.crop}' is unknown; choose "
                                     f"{', '.join(CROPS)}")
        if not self.cap > NEAREST:
            raise ConfigurationError(f'the cap is {self.cap} m; it has to be above {NEAREST} m')

    def scored(self, truth):
        """
        Return the pixels of a true depth image that count.

        Parameters
        ----------
        truth : np.ndarray
            Metres, shape (H, W), 0 or NaN where unknown.

        Returns
        -------
        np.ndarray
            Bool, shape (H, W).

        """
        inside = np.zeros(truth.shape, bool)
        inside[crop_slices(self.crop, *truth.shape)] = True
        inside &= truth > NEAREST
        return inside & (truth < self.cap) if self.cap_truth else inside


@dataclass(frozen=True)
class DepthComparison:
    """
    Errors of one image.

    Attributes
    ----------
    errors : np.ndarray
        `METRICS` of the depth as it is, shape (7,); NaN where it is not in metres.
    errors_scaled : np.ndarray
        The same after multiplying by `ratio`.
    ratio : float
        Median true over median predicted depth; NaN where no pixel counts.
    coverage : float
        Share of the counting pixels that have a prediction, 0..1.
    flat_abs_rel : float
        ``abs_rel`` of a flat picture at the true median: what knows nothing but the scale.
    distance_pixels, distance_errors, distance_errors_scaled : np.ndarray
        Pixels, and sums of their relative errors, for each of `DISTANCES`, shape (14,).

    """

    errors: np.ndarray
    errors_scaled: np.ndarray
    ratio: float
    coverage: float
    flat_abs_rel: float
    distance_pixels: np.ndarray
    distance_errors: np.ndarray
    distance_errors_scaled: np.ndarray


def crop_slices(name, height, width):
    """
    Return the rows and columns of a published crop, products truncated to integers.

    Parameters
    ----------
    name : str
        Of `CROPS`.
    height, width : int
        Pixels.

    Returns
    -------
    tuple of slice
        Rows and columns.

    """
    top, bottom, left, right = CROPS[name]
    return (slice(int(top * height), int(bottom * height)),
            slice(int(left * width), int(right * width)))


def _errors(truth, ratio, relative):
    """Return `METRICS`; the ratio is predicted over true depth, and how far it is from one."""
    squared = np.square(relative)
    squared *= truth
    means = [_mean(relative), _mean(squared)]
    squared *= truth
    means.append(np.sqrt(_mean(squared)))
    # OpenCV's logarithm: NumPy's takes six times as long where there is no AVX-512.
    logarithm = cv2.log(ratio).ravel()
    means.append(np.sqrt(_mean(np.square(logarithm, out=logarithm))))
    either_way = np.divide(1.0, ratio, out=squared)
    np.maximum(either_way, ratio, out=either_way)
    return np.array([*means, *(np.count_nonzero(either_way < 1.25 ** k) / len(truth)
                               for k in (1, 2, 3))])


def _mean(values):
    return np.mean(values, dtype=float)


def _median(values):
    """Return what ``np.median`` does, sooner: only what is near it is put in order."""
    few = np.sort(values[::max(1, len(values) // _SAMPLES)])
    middle = len(few) // 2
    low, high = few[max(0, middle - _NEAR)], few[min(len(few) - 1, middle + _NEAR)]
    near = values[(values >= low) & (values <= high)]
    below = np.count_nonzero(values < low)
    first, last = (len(values) - 1) // 2 - below, len(values) // 2 - below
    if first < 0 or last >= len(near):
        return float(np.median(values))
    near.partition((first, last))
    return (float(near[first]) + float(near[last])) / 2


@lru_cache(maxsize=1)
def _lanes(pixels):
    """Return where the sums of each pixel's lane begin."""
    return np.arange(pixels) % _LANES * _METRES


class _Distances:
    """Sums over the pixels of each of `DISTANCES`."""

    def __init__(self, truth):
        self._places = _lanes(len(truth)) + np.minimum(truth, _METRES - 1).astype(np.uint8)

    def sums(self, values=None):
        """Return the sums of something, shape (14,), or the counts."""
        sums = np.bincount(self._places, values, _LANES * _METRES)
        return np.add.reduceat(sums.reshape(_LANES, _METRES).sum(0), _FIRST_METRES)


def compare_depth(predicted, truth, metric, rules=DepthRules()):
    """
    Return the errors of one image, as it is and after median scaling.

    Parameters
    ----------
    predicted : np.ndarray
        At the pixels of the truth, shape (H, W), NaN where there is none.
    truth : np.ndarray
        Metres, shape (H, W), 0 or NaN where unknown.
    metric : bool
        Whether the prediction is in metres.
    rules : DepthRules
        Which pixels count.

    Returns
    -------
    DepthComparison
        All NaN where no pixel counts.

    """
    counting = rules.scored(truth)
    scored = counting & np.isfinite(predicted) & (predicted > 0)
    bins, unknown = len(DISTANCES) - 1, np.full(len(METRICS), np.nan)
    pixels = np.count_nonzero(counting)
    coverage = np.count_nonzero(scored) / pixels if pixels else np.nan
    if not coverage > 0:
        return DepthComparison(unknown, unknown, np.nan, coverage, np.nan,
                               *np.zeros((3, bins)))
    g, p = truth[scored], predicted[scored]
    median = _median(g)
    ratio = median / _median(p)
    distances = _Distances(g)
    errors, sums = [], []
    for scale in (1.0 if metric else np.nan, ratio):
        if not np.isfinite(scale):
            errors.append(unknown)
            sums.append(np.full(bins, np.nan))
            continue
        of_truth = np.multiply(p, scale, dtype=np.result_type(g, p, np.float32))
        np.clip(of_truth, NEAREST, rules.cap, out=of_truth)
        of_truth /= g
        relative = of_truth - 1.0
        np.abs(relative, out=relative)
        errors.append(_errors(g, of_truth, relative))
        sums.append(distances.sums(relative))
    flat = np.subtract(g, median)
    np.abs(flat, out=flat)
    flat /= g
    return DepthComparison(*errors, ratio, coverage, _mean(flat), distances.sums(), *sums)


def depth_at_truth(estimate, camera, shape):
    """
    Return predicted depth at the pixels of a true depth image.

    A prediction of the whole image is resized with OpenCV's bilinear filter, as published
    (depth, not disparity). One of a crop, or of an undistorted image, is sampled along the rays
    of the true pixels.

    Parameters
    ----------
    estimate : DepthEstimate
        From the pipeline: ``depth`` and its ``camera``.
    camera : Camera
        Of the image that the truth is registered to.
    shape : tuple of int
        (H, W) of the truth.

    Returns
    -------
    np.ndarray
        float32, shape (H, W), NaN where the prediction does not look.

    """
    depth, (height, width) = np.asarray(estimate.depth, np.float32), shape
    whole = camera.resized(depth.shape[1], depth.shape[0])
    if not camera.distorts and np.allclose(whole.K, estimate.camera.K, atol=1e-3):
        return cv2.resize(depth, (width, height), interpolation=cv2.INTER_LINEAR)
    pixels = _pixels(_frozen(camera.resized(width, height)), _frozen(estimate.camera))
    values, valid = sample(torch.from_numpy(depth)[None, None], pixels)
    return np.where(valid[0, 0].numpy(), values[0, 0].numpy(), np.float32(np.nan))


def _frozen(camera):
    """Return what says where a camera looks, hashable."""
    return (camera.K.tobytes(), camera.width, camera.height, camera.distortion.tobytes(),
            camera.distortion_model)


@lru_cache(maxsize=4)   # of the truth, and of small pictures
def _pixels(source, target):
    """Return where the pixels of one camera lie in a straight one, shape (1, 2, H, W)."""
    K, width, height, distortion, model = source
    camera = Camera(np.frombuffer(K).reshape(3, 3), width, height, np.frombuffer(distortion),
                    model)
    v, u = np.mgrid[:height, :width]
    pixels = camera.undistort_pixels(np.stack([u, v], -1).reshape(-1, 2))
    A = np.frombuffer(target[0]).reshape(3, 3) @ np.linalg.inv(camera.K)
    pixels = (pixels @ A[:2, :2].T + A[:2, 2]).reshape(height, width, 2)
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
