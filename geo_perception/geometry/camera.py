# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The pinhole camera. Integer pixel coordinates are pixel centres."""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

# How many coefficients OpenCV takes for each ROS name of a distortion model.
COEFFICIENTS = {'plumb_bob': (4, 5), 'rational_polynomial': (8, 12, 14), 'equidistant': (4,)}


@dataclass(frozen=True)
class Camera:
    """
    Intrinsics of one image.

    Attributes
    ----------
    K : np.ndarray
        3x3 pinhole matrix in pixels; the centre of the top left pixel is (0, 0).
    width, height : int
        Size of the image that K belongs to, pixels.
    distortion : np.ndarray
        Coefficients in OpenCV's order; empty for a rectified image.
    distortion_model : str
        ROS name, of `COEFFICIENTS`.
    frame_id : str
        Name of the optical frame (x right, y down, z forward), empty if unknown.

    """

    K: np.ndarray
    width: int
    height: int
    distortion: np.ndarray = field(default_factory=lambda: np.zeros(0))
    distortion_model: str = 'plumb_bob'
    frame_id: str = ''

    @property
    def distorts(self):
        """Whether it differs from a pinhole; an equidistant lens does, even where all are zero."""
        return bool(self.distortion.any()
                    or self.distortion_model == 'equidistant' and self.distortion.size)

    def problem(self):
        """
        Say why these intrinsics cannot be those of any camera.

        Returns
        -------
        str
            Half a sentence with the number, empty if nothing is wrong.

        """
        (fx, skew, cx), (zero, fy, cy), last = self.K
        if not np.isfinite(self.K).all() or not np.isfinite(self.distortion).all():
            return 'they hold a NaN or an infinite number'
        if min(self.width, self.height) < 1:
            return f'the image has {self.width}x{self.height} pixels'
        if fx <= 0 or fy <= 0:
            return f'the focal lengths are {fx:g} and {fy:g} pixels, not above zero'
        if fx < self.width / 50 or fy < self.height / 50:
            return (f'the focal lengths {fx:g} and {fy:g} are far too small for '
                    f'{self.width}x{self.height} pixels (are they parts of the image size?)')
        if not (-self.width <= cx <= 2 * self.width and -self.height <= cy <= 2 * self.height):
            return (f'the principal point ({cx:g}, {cy:g}) is far outside of '
                    f'{self.width}x{self.height} pixels')
        if zero != 0 or abs(skew) > fx or not np.array_equal(last, [0, 0, 1]):
            return f'the rows of K are {self.K.tolist()}, not fx 0 cx, 0 fy cy, 0 0 1'
        count = len(self.distortion)
        if self.distorts and count not in COEFFICIENTS.get(self.distortion_model, ()):
            known = ', '.join(f'{name} ({", ".join(map(str, counts))})'
                              for name, counts in COEFFICIENTS.items())
            return (f'they have {count} coefficients of the distortion model '
                    f"'{self.distortion_model}'; known are {known}")
        return ''

    def resized(self, width, height):
        """
        Return the camera of the same image resampled to another size.

        Resamplers keep the outer edges of the image, so pixel centres move by half a pixel:
        ``x' + 0.5 = (x + 0.5) * width' / width``.

        Parameters
        ----------
        width, height : int
            New size, pixels.

        Returns
        -------
        Camera

        """
        sx, sy = width / self.width, height / self.height
        A = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]])
        return replace(self, K=A @ self.K, width=width, height=height)

    def cropped(self, left, top, width, height):
        """
        Return the camera of a crop.

        Parameters
        ----------
        left, top : int
            First column and row kept, pixels.
        width, height : int
            Size of the crop, pixels.

        Returns
        -------
        Camera

        """
        K = self.K.copy()
        K[:2, 2] -= left, top
        return replace(self, K=K, width=width, height=height)

    def undistortion(self):
        """
        Return where each pixel of the undistorted image lies in the distorted one.

        Returns
        -------
        tuple of np.ndarray or None
            Maps for ``cv2.remap``; None where there is nothing to undo.

        """
        return self.maps_from(self) if self.distorts else None

    def maps_from(self, other):
        """
        Return where each pixel of another camera at the same place lies in this one's image.

        Parameters
        ----------
        other : Camera
            Of any size; its image is taken as undistorted.

        Returns
        -------
        tuple of np.ndarray
            Maps for ``cv2.remap``.

        """
        module, distortion = self._lens()
        return module.initUndistortRectifyMap(self.K, distortion, np.eye(3), other.K,
                                              (other.width, other.height), cv2.CV_16SC2)

    def _lens(self):
        """Return the module of OpenCV that has the model of the lens, and its coefficients."""
        if not self.distorts:
            return cv2, np.zeros(4)
        module = cv2.fisheye if self.distortion_model == 'equidistant' else cv2
        return module, self.distortion

    def undistort(self, image):
        """
        Return an image as a pinhole camera of the same intrinsics would have taken it.

        Parameters
        ----------
        image : np.ndarray
            Shape (height, width, ...).

        Returns
        -------
        image : np.ndarray
            Same shape and dtype, black where nothing was seen.
        camera : Camera
            Without distortion.

        """
        maps = self.undistortion()
        image = image if maps is None else cv2.remap(image, *maps, cv2.INTER_LINEAR)
        return image, self.straight()

    def undistort_pixels(self, pixels):
        """
        Return where pixels of the image as taken lie in the undistorted image.

        Parameters
        ----------
        pixels : np.ndarray
            (u, v), shape (N, 2).

        Returns
        -------
        np.ndarray
            (u, v) of the pinhole camera of the same intrinsics, float64, shape (N, 2).

        """
        pixels = np.asarray(pixels, dtype=np.float64)
        if not self.distorts or not len(pixels):
            return pixels
        module, distortion = self._lens()
        return module.undistortPoints(pixels[:, None], self.K, distortion, P=self.K)[:, 0]

    def straight(self):
        """
        Return the pinhole camera of the same intrinsics.

        Returns
        -------
        Camera
            Without distortion.

        """
        return replace(self, distortion=np.zeros(0), distortion_model='plumb_bob')

    def rays(self):
        """
        Return for each pixel the point at depth 1 that it sees, undistorted image assumed.

        Returns
        -------
        np.ndarray
            Shape (H, W, 3), z = 1: multiplied by depth it is the point in the optical frame.

        """
        v, u = np.mgrid[:self.height, :self.width].astype(float)
        pixels = np.stack([u, v, np.ones_like(u)], -1)
        return pixels @ np.linalg.inv(self.K).T

    def project(self, points):
        """
        Return pixel coordinates of points, undistorted image assumed.

        Parameters
        ----------
        points : np.ndarray
            In the optical frame, metres, shape (..., 3).

        Returns
        -------
        np.ndarray
            (u, v) pixels, shape (..., 2); NaN for points at or behind the camera plane.

        """
        z = np.where(points[..., 2:] > 1e-9, points[..., 2:], np.nan)
        return (points / z) @ self.K[:2].T


def same_camera(a, b):
    """
    Return whether two cameras have the same intrinsics.

    Parameters
    ----------
    a, b : Camera
        To be compared.

    Returns
    -------
    bool

    """
    return a is b or (
        (a.width, a.height, a.distortion_model) == (b.width, b.height, b.distortion_model)
        and np.array_equal(a.K, b.K) and np.array_equal(a.distortion, b.distortion))
