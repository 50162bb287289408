# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""From any camera to the pinhole image that a geometry network takes."""

import cv2
import numpy as np

from geo_perception.errors import ConfigurationError, ImageError
from geo_perception.geometry.camera import same_camera

# Resizing an image that is longer than that many times its width takes gigabytes.
LARGEST_ASPECT = 16
# Details are for flow, which takes some 35 ms of a core for 100 000 pixels and one direction.
LARGEST_DETAIL = 160_000


def checked_image(image):
    """
    Return an image, or say what is wrong with it.

    Parameters
    ----------
    image : np.ndarray
        What may be an image.

    Returns
    -------
    np.ndarray
        The same: (H, W, 3) uint8.

    Raises
    ------
    ImageError
        When it is no RGB image, or too narrow.

    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ImageError(f'expected an RGB image (H, W, 3) of uint8, got {image.shape} '
                         f'of {image.dtype}')
    if max(image.shape[:2]) > LARGEST_ASPECT * min(image.shape[:2]):
        raise ImageError(f'an image of {image.shape[1]}x{image.shape[0]} pixels is too narrow '
                         'to be cropped')
    return image


class Rectifier:
    """
    Undistorts, resizes and crops the images of one camera.

    What depends on the camera alone is computed when a new one comes.

    Parameters
    ----------
    preprocessing : Preprocessing
        Says the size.

    """

    def __init__(self, preprocessing):
        self._preprocessing = preprocessing
        self._source, self._maps, self._camera = None, None, None

    def __call__(self, image, camera):
        """
        Return what the network sees.

        Parameters
        ----------
        image : np.ndarray
            (H, W, 3) uint8 RGB.
        camera : Camera or None
            Of that image; None where unknown: it is taken as undistorted then.

        Returns
        -------
        crop : np.ndarray
            uint8 RGB, contiguous and writable.
        camera : Camera or None
            Of the crop, without distortion.

        Raises
        ------
        ImageError
            When it is no image, or not of the size that its camera has.
        ConfigurationError
            When the intrinsics are absurd.

        """
        crop = self.crop(self.straighten(image, camera))
        return crop, None if camera is None else self._camera

    @property
    def camera(self):
        """Camera of what the network sees of the last camera, None before the first."""
        return self._camera

    def straighten(self, image, camera):
        """
        Return the whole image without distortion.

        Parameters
        ----------
        image, camera
            As of a call.

        Returns
        -------
        np.ndarray
            Of the same size and, without its distortion, the same camera.

        Raises
        ------
        ImageError
            When it is no image, or not of the size that its camera has.
        ConfigurationError
            When the intrinsics are absurd.

        """
        checked_image(image)
        if camera is None:
            return image
        if self._source is None or not same_camera(camera, self._source):
            self._prepare(camera)
        if image.shape[:2] != (camera.height, camera.width):
            raise ImageError(f'the image has {image.shape[1]}x{image.shape[0]} pixels, its '
                             f'camera_info is for {camera.width}x{camera.height}')
        return image if self._maps is None else cv2.remap(image, *self._maps, cv2.INTER_LINEAR)

    def crop(self, image):
        """
        Return what the network sees of an image without distortion.

        Parameters
        ----------
        image : np.ndarray
            From `straighten`.

        Returns
        -------
        np.ndarray
            uint8 RGB, contiguous and writable.

        """
        # A copy: PyTorch wants arrays that it may write to, and decoded images are not.
        return np.array(self._preprocessing.centre_crop(self._preprocessing.resize(image)),
                        order='C')

    def detail(self, straight):
        """
        Return the same view as the network's, in more pixels where the camera has them.

        Parameters
        ----------
        straight : np.ndarray
            From `straighten`.

        Returns
        -------
        np.ndarray
            Grey, uint8.

        """
        height, width = straight.shape[:2]
        size = self._preprocessing.resized_size(width, height)
        rows, columns = self._preprocessing.crop
        zoom = max(1.0, min(width / size[0], height / size[1],
                            (LARGEST_DETAIL / (rows * columns)) ** 0.5))
        wanted = [round(zoom * n) for n in size]
        grey = cv2.cvtColor(straight, cv2.COLOR_RGB2GRAY)
        if wanted != [width, height]:
            grey = cv2.resize(grey, wanted, interpolation=cv2.INTER_AREA)
        left, top = (round(zoom * n) for n in self._preprocessing.centre(*size))
        return np.ascontiguousarray(grey[top:top + round(zoom * rows),
                                         left:left + round(zoom * columns)])

    def _prepare(self, camera):
        """Take another camera."""
        self._maps = None
        self._camera = self.network_camera(camera)
        self._maps = camera.undistortion()
        self._source = camera

    def network_camera(self, camera):
        """
        Return the camera of the crop.

        Parameters
        ----------
        camera : Camera
            Of the whole image.

        Returns
        -------
        Camera
            Without distortion.

        Raises
        ------
        ConfigurationError
            When the intrinsics are absurd.

        """
        problem = camera.problem()
        if problem:
            raise ConfigurationError(f'the intrinsics cannot be right: {problem}; calibrate the '
                                     'camera')
        width, height = self._preprocessing.resized_size(camera.width, camera.height)
        left, top = self._preprocessing.centre(width, height)
        rows, columns = self._preprocessing.crop
        return camera.resized(width, height).cropped(left, top, columns, rows).straight()
