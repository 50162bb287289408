# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The part of an image that the training camera would have seen (monodepth.md section 18.1)."""

from dataclasses import dataclass

import cv2
import numpy as np

# More of the view than this outside of the image is not worth it.
LARGEST_PADDING = 0.3


@dataclass(frozen=True)
class CanonicalView:
    """
    A window of an image, in parts of whose size focal lengths are those of training.

    Attributes
    ----------
    left, top, width, height : int
        Of the window, pixels; it may reach beyond the image.
    padding : float
        Share of the window that lies outside of the image, 0..1.

    """

    left: int
    top: int
    width: int
    height: int
    padding: float

    @classmethod
    def of(cls, camera, trained):
        """
        Return the view for a camera.

        Parameters
        ----------
        camera : Camera
            Whose distortion has been removed from the image.
        trained : Camera
            Of the images of training.

        Returns
        -------
        CanonicalView

        """
        starts, sizes, inside = [], [], 1.0
        for axis, (length, trained_length) in enumerate(
                ((camera.width, trained.width), (camera.height, trained.height))):
            zoom = camera.K[axis, axis] / trained.K[axis, axis]
            size = max(1, round(zoom * trained_length))
            # Pixel centres are half a pixel from the edges.
            start = round(camera.K[axis, 2] + 0.5 - zoom * (trained.K[axis, 2] + 0.5))
            inside *= max(0, min(start + size, length) - max(start, 0)) / size
            starts.append(start)
            sizes.append(size)
        return cls(*starts, *sizes, 1.0 - inside)

    def cut(self, image):
        """
        Return what the window shows; beyond the image its border is repeated.

        Parameters
        ----------
        image : np.ndarray
            Shape (H, W, 3), some of it in the window.

        Returns
        -------
        np.ndarray
            Shape (height, width, 3).

        """
        rows, columns = image.shape[:2]
        right, bottom = self.left + self.width, self.top + self.height
        part = image[max(self.top, 0):bottom, max(self.left, 0):right]
        return cv2.copyMakeBorder(part, max(-self.top, 0), max(bottom - rows, 0),
                                  max(-self.left, 0), max(right - columns, 0),
                                  cv2.BORDER_REPLICATE)

    def camera(self, camera):
        """
        Return the camera of the window.

        Parameters
        ----------
        camera : Camera
            Of the whole image.

        Returns
        -------
        Camera
            Without distortion.

        """
        return camera.cropped(self.left, self.top, self.width, self.height).straight()


def is_outside(seen, camera):
    """
    Return which pixels of a view lie beyond the image that it was cut from.

    Parameters
    ----------
    seen : Camera
        Of the view, or of a part of it at another size.
    camera : Camera
        Of the image.

    Returns
    -------
    np.ndarray
        Bool, shape (h, w) of the view.

    """
    beyond = []
    for axis, (count, length) in enumerate(((seen.width, camera.width),
                                            (seen.height, camera.height))):
        ray = (np.arange(count) - seen.K[axis, 2]) / seen.K[axis, axis]
        pixel = ray * camera.K[axis, axis] + camera.K[axis, 2]
        beyond.append((pixel < -0.5) | (pixel > length - 0.5))
    return beyond[1][:, None] | beyond[0]
