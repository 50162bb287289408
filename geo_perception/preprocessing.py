# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
From a camera image to what a network sees (posenet.md section 7).

The model file states it, training and inference apply it with this code, no caller knows it.
"""

from dataclasses import dataclass
from typing import Optional, Tuple

import cv2
import numpy as np
from PIL import Image

from geo_perception.errors import ConfigurationError

INTERPOLATIONS = ('area', 'linear', 'bilinear', 'lanczos')
_OPENCV = {'area': cv2.INTER_AREA, 'linear': cv2.INTER_LINEAR}
_PILLOW = ('bilinear', 'lanczos')
CHANNEL_ORDERS = ('rgb', 'bgr')
LARGEST_SIDE = 8192     # pixels
SMALLEST_STD = 1e-3     # of levels from 0 to 255; less overflows in a network


@dataclass(frozen=True)
class Preprocessing:
    """
    Resize the shorter side, crop the centre, subtract a mean, divide.

    Attributes
    ----------
    short_side : int
        Length of the shorter side after resizing, pixels; the aspect is kept.
    crop : tuple of int
        (height, width) of the centre crop, pixels.
    interpolation : str
        ``area`` (antialiased), ``linear`` (OpenCV's bilinear, as Caffe-trained weights want),
        ``bilinear`` or ``lanczos`` (Pillow's, antialiased: slow, and what published networks for
        depth are trained and measured with).
    channel_order : str
        ``rgb`` or ``bgr``: what the network was trained on.
    mean : tuple of float
        Subtracted from 0..255 values, in ``channel_order``.
    std : tuple of float
        Divisor, in ``channel_order``.
    mean_image : np.ndarray, optional
        Replaces ``mean``: float32 at the resized size, (short side, W, 3), in
        ``channel_order``, subtracted at matching pixels before the crop.
    stretch : bool
        Resize to the crop whatever the aspect, as SfMLearner does (sfmlearner.md section 5);
        ``short_side`` means nothing then.
    offset : tuple of int, optional
        (left, top) of the crop in the resized image, as far as that reaches, instead of the
        centre: what a published network was trained with (posenet.md section 7).

    Raises
    ------
    ConfigurationError
        When a value is none of those.

    """

    short_side: int = 256
    crop: Tuple[int, int] = (224, 224)
    interpolation: str = 'area'
    channel_order: str = 'rgb'
    mean: Tuple[float, float, float] = (127.0, 127.0, 127.0)
    std: Tuple[float, float, float] = (1.0, 1.0, 1.0)
    mean_image: Optional[np.ndarray] = None
    stretch: bool = False
    offset: Optional[Tuple[int, int]] = None

    def __post_init__(self):
        """Refuse what would fail later, on an image."""
        if self.interpolation not in INTERPOLATIONS:
            raise ConfigurationError(f'preprocessing.interpolation "{self.interpolation}" is '
                                     f'unknown; choose {", ".join(INTERPOLATIONS[:-1])} or '
                                     f'{INTERPOLATIONS[-1]}')
        if self.channel_order not in CHANNEL_ORDERS:
            raise ConfigurationError(f'preprocessing.channel_order "{self.channel_order}" is '
                                     f'unknown; choose {" or ".join(CHANNEL_ORDERS)}')
        sides = self.short_side, *self.crop
        if len(sides) != 3 or not all(1 <= side <= LARGEST_SIDE for side in sides):
            raise ConfigurationError(f'preprocessing.short_side {self.short_side} and crop '
                                     f'{tuple(self.crop)} must be positive numbers of pixels, '
                                     f'at most {LARGEST_SIDE}')
        if self.offset is not None and (len(self.offset) != 2 or min(self.offset) < 0):
            raise ConfigurationError(f'preprocessing.offset {tuple(self.offset)} must be the left '
                                     'and the top of the crop, pixels, not below 0')
        if (len(self.mean) != 3 or len(self.std) != 3 or not np.isfinite(self.mean).all()
                or not all(value >= SMALLEST_STD for value in self.std)):
            raise ConfigurationError(f'preprocessing.mean {tuple(self.mean)} and std '
                                     f'{tuple(self.std)} must be three numbers, std above zero '
                                     f'({SMALLEST_STD} or more)')
        object.__setattr__(self, '_uploaded', {})
        if self.mean_image is not None and (
                self.mean_image.ndim != 3 or self.mean_image.shape[2] != 3
                or self.mean_image.shape[0] < self.crop[0]
                or self.mean_image.shape[1] < self.crop[1]):
            raise ConfigurationError(f'the mean image has shape {self.mean_image.shape}, smaller '
                                     f'than the crop {tuple(self.crop)} or without 3 channels')

    def __getstate__(self):
        """Leave the constants on a device to the process that uploaded them."""
        return {**self.__dict__, '_uploaded': {}}

    def resized_size(self, width, height):
        """
        Return the size after resizing, before the crop.

        Parameters
        ----------
        width, height : int
            Size of the camera image, pixels.

        Returns
        -------
        tuple of int
            (width, height); never smaller than the crop.

        """
        if self.stretch:
            return self.crop[1], self.crop[0]
        scale = self.short_side / min(width, height)
        # An aspect that is nearer to square than the crop would leave nothing to crop from.
        scale = max(scale, self.crop[1] / width, self.crop[0] / height)
        return (max(round(width * scale), self.crop[1]), max(round(height * scale), self.crop[0]))

    def resize(self, image):
        """
        Return the resized image.

        Parameters
        ----------
        image : np.ndarray
            (H, W, 3) uint8 RGB.

        Returns
        -------
        np.ndarray
            uint8 RGB.

        """
        size = self.resized_size(image.shape[1], image.shape[0])
        if size == (image.shape[1], image.shape[0]):
            return image
        if self.interpolation in _PILLOW:
            how = getattr(Image, self.interpolation.upper())
            return np.asarray(Image.fromarray(image).resize(size, how))
        return cv2.resize(image, size, interpolation=_OPENCV[self.interpolation])

    def centre(self, width, height):
        """
        Return the offset of the crop: the centre, integer halves, or ``offset``.

        Parameters
        ----------
        width, height : int
            Size of the resized image, pixels.

        Returns
        -------
        tuple of int
            (left, top), pixels.

        """
        left, top = width - self.crop[1], height - self.crop[0]
        if self.offset is not None:
            return min(self.offset[0], left), min(self.offset[1], top)
        return left // 2, top // 2

    def centre_crop(self, resized):
        """
        Return the centre of a resized image.

        Parameters
        ----------
        resized : np.ndarray
            Shape (H, W, 3).

        Returns
        -------
        np.ndarray
            Shape (*crop, 3), a view.

        """
        left, top = self.centre(resized.shape[1], resized.shape[0])
        return resized[top:top + self.crop[0], left:left + self.crop[1]]

    def normalise(self, images, offset=None):
        """
        Return network inputs.

        Parameters
        ----------
        images : torch.Tensor
            Crops, RGB, 0..255, shape (B, h, w, 3).
        offset : torch.Tensor, optional
            (left, top) of each crop in the resized image, pixels, shape (B, 2); the centre by
            default. Beyond a mean image of another aspect the nearest part of it counts.

        Returns
        -------
        torch.Tensor
            float32, channels in ``channel_order``, shape (B, 3, h, w).

        """
        import torch

        x = images.to(torch.float32)
        if self.channel_order == 'bgr':
            x = x.flip(-1)
        mean, std = self._constants(x.device)
        if self.mean_image is not None and offset is not None:
            mean = self._mean_at(offset.to(x.device).long())
        return ((x - mean) / std).permute(0, 3, 1, 2)

    def _constants(self, device):
        """Return mean and divisor of a centre crop; a CUDA graph cannot capture an upload."""
        import torch

        if device not in self._uploaded:
            mean = self.mean if self.mean_image is None else self.centre_crop(self.mean_image)
            with torch.inference_mode(False):   # training may use them too
                self._uploaded[device] = tuple(
                    torch.tensor(values, dtype=torch.float32, device=device)
                    for values in (mean, self.std))
        return self._uploaded[device]

    def _mean_at(self, offset):
        """Return the parts of the mean image at offsets, shape (B, h, w, 3)."""
        import torch

        mean = torch.tensor(self.mean_image, dtype=torch.float32, device=offset.device)
        lefts, tops = offset.unbind(1)
        rows = (tops.clamp(0, mean.shape[0] - self.crop[0])[:, None]
                + torch.arange(self.crop[0], device=offset.device))
        columns = (lefts.clamp(0, mean.shape[1] - self.crop[1])[:, None]
                   + torch.arange(self.crop[1], device=offset.device))
        return mean[rows[:, :, None], columns[:, None, :]]
