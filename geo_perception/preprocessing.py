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

INTERPOLATIONS = {'area': cv2.INTER_AREA, 'linear': cv2.INTER_LINEAR}


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
        ``area`` (antialiased) or ``linear`` (OpenCV's bilinear, as Caffe-trained weights want).
    channel_order : str
        ``rgb`` or ``bgr``: what the network was trained on.
    mean : tuple of float
        Subtracted from 0..255 values, in ``channel_order``.
    std : tuple of float
        Divisor, in ``channel_order``.
    mean_image : np.ndarray, optional
        Replaces ``mean``: float32 at the resized size, (short side, W, 3), in
        ``channel_order``, subtracted at matching pixels before the crop.

    """

    short_side: int = 256
    crop: Tuple[int, int] = (224, 224)
    interpolation: str = 'area'
    channel_order: str = 'rgb'
    mean: Tuple[float, float, float] = (127.0, 127.0, 127.0)
    std: Tuple[float, float, float] = (1.0, 1.0, 1.0)
    mean_image: Optional[np.ndarray] = None

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
        return cv2.resize(image, size, interpolation=INTERPOLATIONS[self.interpolation])

    def centre(self, width, height):
        """
        Return the offset of the centre crop, integer halves.

        Parameters
        ----------
        width, height : int
            Size of the resized image, pixels.

        Returns
        -------
        tuple of int
            (left, top), pixels.

        """
        return (width - self.crop[1]) // 2, (height - self.crop[0]) // 2

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

    def normalise(self, images, left=None, top=None):
        """
        Return network inputs.

        Parameters
        ----------
        images : torch.Tensor
            Crops, RGB, 0..255, shape (B, h, w, 3).
        left, top : int, optional
            Where the crops were taken from the resized image; the centre by default.

        Returns
        -------
        torch.Tensor
            float32, channels in ``channel_order``, shape (B, 3, h, w).

        """
        import torch

        x = images.to(torch.float32)
        if self.channel_order == 'bgr':
            x = x.flip(-1)
        mean = self.mean
        if self.mean_image is not None:
            if left is None:
                left, top = self.centre(self.mean_image.shape[1], self.mean_image.shape[0])
            mean = self.mean_image[top:top + x.shape[1], left:left + x.shape[2]].copy()
        x = (x - torch.as_tensor(mean, device=x.device)) / torch.as_tensor(
            self.std, device=x.device)
        return x.permute(0, 3, 1, 2)
