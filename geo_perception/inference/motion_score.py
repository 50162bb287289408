# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How sure it is that something moves by itself: what rigid flow lacks, in parts of what is usual.

Rigid flow is wrong by the noise of all images, and along the parallax by a part of it: depth that
is wrong by a tenth shifts a point by a tenth of the way that its distance gives it, and never
across that way (the epipolar line). So the score is the Mahalanobis distance

    ``sqrt(along^2 / (noise^2 + (depth_error |parallax|)^2) + across^2 / noise^2)``

of what full flow has beside rigid flow, with both numbers measured on the validation recording. It
is 0 where full flow does not explain the images better than rigid flow does: bare walls have any
flow. The published bounds (geonet.md section 8, improvement 4) know none of this.
"""

from dataclasses import asdict, dataclass, replace
from statistics import NormalDist

import cv2
import numpy as np
from torch.nn import functional as F

from geo_perception.errors import ModelFileError
from geo_perception.geometry.sampling import flow_warp

PREFIX = 'moving_'
# Rigid flow is refuted where images warped by it are that many times as wrong, and by that much
# more (of 2, the range of [-1, 1]), in the mean over windows of so many pixels.
REFUTED, REFUTED_FLOOR, WINDOW = 1.1, 0.004, 5
# In parts of the width: what is narrower is noise (few things of that size can be told from it),
# and gaps up to the other one are filled, for the plain parts of a thing tell nothing by
# themselves. At 128 pixels 5 and 17.
NARROWEST, WIDEST_GAP = 0.04, 0.13
# Of still pixels, that may be said to move.
FALSE_ALARMS = 0.02
# Parts of the pixels by parallax that the two numbers are fitted to.
_BINS = 12
# In parts of the width.
SMALLEST_NOISE = 1e-4
# Standard deviations.
SMALLEST_THRESHOLD = 1.0
_FEWEST = 200


@dataclass(frozen=True)
class MotionScore:
    """
    What is usual where nothing moves.

    Attributes
    ----------
    noise : float
        Standard deviation of a component of flow, in parts of the width of the image.
    depth_error : float
        The same in parts of the parallax, along it alone.
    threshold : float
        Score above which something moves.
    false_alarms : float
        Share of still pixels above it, 0..1.

    """

    noise: float = 0.004
    depth_error: float = 0.1
    threshold: float = 4.0
    false_alarms: float = FALSE_ALARMS

    @classmethod
    def from_model(cls, model):
        """
        Return what a model file says, or the defaults.

        Parameters
        ----------
        model : ModelFile
            For geometry.

        Returns
        -------
        MotionScore

        Raises
        ------
        ModelFileError
            When an entry is no positive number.

        """
        entries = {name[len(PREFIX):]: value for name, value in model.metadata.calibration.items()
                   if name.startswith(PREFIX)}
        known = {name: value for name, value in entries.items()
                 if name in cls.__dataclass_fields__}
        for name, value in known.items():
            if not isinstance(value, (int, float)) or not 0 <= value < np.inf:
                raise ModelFileError(f'model file {model.path} has a damaged calibration: '
                                     f'{PREFIX}{name} is {value!r}')
        return cls(**known)

    def entries(self):
        """
        Return the entries of the calibration in a model file.

        Returns
        -------
        dict of str to float

        """
        return {f'{PREFIX}{name}': value for name, value in asdict(self).items()}

    def __call__(self, flow, rigid, parallax):
        """
        Return the score of each pixel.

        Parameters
        ----------
        flow, rigid : np.ndarray
            Full and rigid flow, pixels, shape (..., H, W, 2).
        parallax : np.ndarray
            The part of rigid flow that depends on depth, pixels, same shape.

        Returns
        -------
        np.ndarray
            float32, shape (..., H, W).

        """
        return self.of_pixels(flow - rigid, parallax, flow.shape[-2]).astype(np.float32)

    def of_pixels(self, lack, parallax, width):
        """
        Return the score of pixels of any number of images.

        Parameters
        ----------
        lack, parallax : np.ndarray
            What full flow has beside rigid flow, and the part of that that depends on depth,
            pixels, shape (..., 2).
        width : int
            Of the images.

        Returns
        -------
        np.ndarray
            Shape (...).

        """
        along, across, far = _split(lack, parallax)
        noise = max(self.noise, SMALLEST_NOISE) * width
        return np.hypot(along / np.hypot(noise, self.depth_error * far), across / noise)


def refuted(image, other, flow, rigid):
    """
    Return where rigid flow explains an image worse than full flow does.

    Parameters
    ----------
    image, other : torch.Tensor
        In [-1, 1], shape (B, 3, H, W).
    flow, rigid : torch.Tensor
        From ``image`` to ``other``, pixels, shape (B, 2, H, W).

    Returns
    -------
    torch.Tensor
        Bool, shape (B, 1, H, W).

    """
    wrong, wrong_rigid = (
        F.avg_pool2d((flow_warp(other, f)[0] - image).abs().mean(1, keepdim=True), WINDOW, 1,
                     WINDOW // 2, count_include_pad=False) for f in (flow, rigid))
    return wrong_rigid > REFUTED * wrong + REFUTED_FLOOR


def solid(moving):
    """
    Return a mask without specks and gaps.

    Parameters
    ----------
    moving : np.ndarray
        Bool, shape (H, W).

    Returns
    -------
    np.ndarray
        Bool, same shape.

    """
    mask = moving.astype(np.uint8)
    for operation, part in ((cv2.MORPH_OPEN, NARROWEST), (cv2.MORPH_CLOSE, WIDEST_GAP)):
        # Odd, so that nothing is shifted.
        size = 2 * round(0.5 * (part * mask.shape[1] - 1)) + 1
        if size > 1:
            mask = cv2.morphologyEx(mask, operation, cv2.getStructuringElement(
                cv2.MORPH_ELLIPSE, (size, size)))
    return mask > 0


def fit_motion_score(lack, parallax, width, moving=None, false_alarms=FALSE_ALARMS,
                     heard=None):
    """
    Return what is usual, from pixels of many images of which most stand still.

    Parameters
    ----------
    lack, parallax : np.ndarray
        What full flow has beside rigid flow, and the part of that that depends on depth, pixels,
        shape (N, 2).
    width : int
        Of the images.
    moving : np.ndarray, optional
        Whether a pixel moves by itself, NaN where nobody knows, shape (N,). Where it is known of
        some pixels, they alone count. Where it is known of none, medians make sure that few moving
        ones change little, and the threshold is that of a normal distribution.
    false_alarms : float
        Wanted share of still pixels above the threshold.
    heard : np.ndarray, optional
        Pixels whose score is not 0 anyway, see `refuted`, bool, shape (N,).

    Returns
    -------
    MotionScore or None
        None where there are too few pixels.

    """
    usable = np.isfinite(lack).all(1) & np.isfinite(parallax).all(1)
    known = moving is not None and np.isfinite(moving).any()
    still = usable & (moving == 0) if known else usable
    if still.sum() < _FEWEST:
        return None
    lack, parallax = lack[still], parallax[still]
    heard = np.ones_like(still) if heard is None else heard
    # Where it is known what moves, the tail tells, for that is where false alarms come from: depth
    # is wrong at edges. Otherwise the median, for then the tail is what moves.
    quantile = 1 - false_alarms if known else 0.5
    deviations = NormalDist().inv_cdf(0.5 + 0.5 * quantile)
    along, across, far = _split(lack, parallax)
    edges = np.quantile(far, np.linspace(0, 1, _BINS + 1)[1:-1])
    which = np.searchsorted(edges, far)
    bins = [which == i for i in np.unique(which)]
    # Across it is noise alone, along it noise and a part of the parallax.
    squared = np.array([0.0] * len(bins) + [np.median(far[b] ** 2) for b in bins])
    variance = np.array([(np.quantile(np.abs(length[b]), quantile) / deviations) ** 2
                         for length in (across, along) for b in bins])
    # Relative errors of the variance count: a bin of large ones must not outweigh the others.
    weight = np.sqrt([b.sum() for b in bins] * 2) / np.maximum(variance, 1e-12)
    A = np.stack([np.ones_like(squared), squared], 1) * weight[:, None]
    noise, part = np.sqrt(_non_negative(A, variance * weight))
    score = MotionScore(max(float(noise / width), SMALLEST_NOISE), float(part),
                        float(np.sqrt(-2 * np.log(false_alarms))), false_alarms)
    if not known:
        return score
    scores = score.of_pixels(lack, parallax, width) * heard[still]
    # Where hardly any still pixel is heard, so low a threshold as is wanted says nothing.
    return replace(score, threshold=max(float(np.quantile(scores, 1 - false_alarms)),
                                        SMALLEST_THRESHOLD))


def _split(lack, parallax):
    """Return the parts of vectors along the parallax and across it, and its length."""
    far = np.hypot(parallax[..., 0], parallax[..., 1])
    # Without parallax every direction is as good.
    u = np.where(far > 1e-9, parallax[..., 0] / np.maximum(far, 1e-9), 1.0)
    v = parallax[..., 1] / np.maximum(far, 1e-9)
    return (u * lack[..., 0] + v * lack[..., 1], u * lack[..., 1] - v * lack[..., 0], far)


def _non_negative(A, b):
    """Return the least squares solution of two unknowns that are not negative."""
    x = np.linalg.lstsq(A, b, rcond=None)[0]
    if (x >= 0).all():
        return x
    alone = [np.where(np.arange(2) == i, A[:, i] @ b / max(A[:, i] @ A[:, i], 1e-30), 0.0)
             for i in range(2)]
    return min(alone, key=lambda y: np.square(A @ y - b).sum())
