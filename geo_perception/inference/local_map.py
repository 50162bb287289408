# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
A short window of key frames and the points that they share: where the camera is in it.

Corners are followed from image to image. Each belongs to the key frame that saw it first and has
an inverse depth there: at first what the depth network said, later what parallax makes of it. A
frame is located among these points (`geo_perception.geometry.resection`); once it sees other
things than the last key frame did, it becomes one, and the window is adjusted
(`geo_perception.geometry.bundle_adjustment`).
"""

from dataclasses import replace

import cv2
import numpy as np

from geo_perception.geometry.bundle_adjustment import (
    adjust, DEPTH_SIGMA, FRAME_SIGMA, Prior, Window, without_oldest)
from geo_perception.geometry.perspective_n_point import solve_pose
from geo_perception.geometry.resection import locate, pose_covariance
from geo_perception.geometry.se3 import inverse_transform, make_transform, transform_points
from geo_perception.inference.feature_tracks import find_corners, follow, place_roots
from geo_perception.inference.patches import Patches
from geo_perception.inference.turn_alignment import turn_between

# Key frames of the window.
KEY_FRAMES = 7
# A key frame is made once so large a part of the width has passed by (half of the corners), or
# of the corners only that part is left.
LARGEST_FLOW, SMALLEST_SHARE = 0.2, 0.5
# Or once the camera has gone so far, in parts of the depth, though it turned so that all stayed in
# sight.
LARGEST_WAY = 0.25
# The second one sooner: until then nothing but the network says how deep points are.
FIRST_FLOW, FIRST_WAY = 0.1, 0.08
# Where less than this part of the corners is found the whole images tell how the camera turned.
FEW_FOUND = 0.5
# Fewer corners that agree do not tell a pose.
FEWEST = 20
# Of those that the pose was found by, that part has to agree.
SMALLEST_AGREEMENT = 0.4
# Where fewer agree a pose is looked for without a guess, too, among corners this near (pixels).
USUAL_AGREEMENT, SEARCH_RADIUS = 0.9, 1.0
# Of two poses that one is taken which more corners fit within that many standard deviations.
CLOSE = 1.0
# A pose is found by points that several key frames have seen, where there are that many.
FEWEST_PLACED = 25
# Standard deviations within which a point agrees; a corner that does not twice in a row is left.
AGREEMENT, LARGEST_FAULTS = 4.0, 2
# The other points help to find a pose where half of them fit it within that many standard
# deviations: the network is right there, and nothing large moves.
CONFIRMED = 1.3
# Depths of two frames are compared where that many points have one.
FEWEST_DEPTHS = 10
# The network is asked anew in each key frame, but errs alike in those that see the same: no more
# than so many count as opinions of their own.
MOST_OPINIONS = 25
# A point is not taken to be nearer to a camera than by that factor of what its host says.
SMALLEST_DEPTH_RATIO = 0.1
# Errors of places over the usual ones, for corners of new key frames: how fast the estimate
# follows, and its limits.
NOISE_GAIN, SMALLEST_NOISE, LARGEST_NOISE = 0.15, 0.4, 2.0


class LocalMap:
    """
    The window, and the corners that are followed.

    Parameters
    ----------
    image : FeatureImage
        The first one.
    depth : np.ndarray
        Of the network, shape (h, w).
    K : np.ndarray
        Intrinsics of the depth, 3x3.

    Attributes
    ----------
    T : np.ndarray
        Pose ``T_map_camera`` of the last frame, 4x4, unit of the depth. The first is the origin.
    image : FeatureImage
        The last one.
    agreeing : int
        Corners that agreed with the pose of the last frame.
    scale_ratio : float
        How many times deeper the map is than the network says, for the last key frame.

    """

    def __init__(self, image, depth, K):
        self.T, self.image = np.eye(4), image
        self._velocity = np.eye(4)
        none = np.zeros((0, 2))
        self._window = Window(
            self.T[None], np.zeros(1), np.zeros(0, int), none, np.zeros(0), np.zeros((0, 2, 2)),
            np.zeros((0, 1, 2)), np.zeros((0, 1)), Prior.origin(self.T))
        self._variances, self._pixels = np.zeros(0), none
        # How often in a row a point did not agree; beyond the limit it is not followed.
        self._faults = np.zeros(0, int)
        self._patches = Patches.of(image, none)
        # Points that agreed with the pose of the last frame.
        self._agreed = np.zeros(0, int)
        self._key_frames = 1
        # Sharp images tell places better than blurred ones.
        self._noise = 1.0
        self._add_points(depth, K)
        self.agreeing = self._fresh

    @property
    def size(self):
        """Number of corners that are followed."""
        return int(self._followed().sum())

    @property
    def scale_ratio(self):
        """How many times deeper the map is than the network says, for the last key frame."""
        return float(np.exp(self._window.factors[-1]))

    @property
    def scale_spread(self):
        """Relative standard deviation of the scale, which is the mean of what the network said."""
        return FRAME_SIGMA / min(self._key_frames, MOST_OPINIONS) ** 0.5

    def follow(self, image, guess=None):
        """
        Find the pose of the next frame.

        Parameters
        ----------
        image : FeatureImage
            Of the size of those before.
        guess : np.ndarray or None
            Motion since the last frame, ``T_last_current``; None goes on as before.

        Returns
        -------
        str
            Why there is no pose, empty if there is; ``T`` and all else is as before then.

        """
        chosen = np.flatnonzero(self._followed())
        expected, pixels, good = self._search(
            image, chosen, self._velocity if guess is None else guess)
        if guess is None and good.sum() < FEW_FOUND * len(chosen):
            # The camera turns otherwise than before, and fast.
            turn = turn_between(self.image, image, self._velocity[:3, :3])
            if turn is not None:
                found = self._search(image, chosen, make_transform(turn, self._velocity[:3, 3]))
                if found[2].sum() > good.sum():
                    expected, pixels, good = found
        if good.sum() < FEWEST:
            return f'only {int(good.sum())} corners were found again'
        found, pixels = chosen[good], pixels[good]
        try:
            exact, alike = self._patches.chosen(found).align(
                image, self._warps(found, expected), pixels)
            pixels = np.where(alike[:, None], exact, pixels)
            T, agreeing = self._locate(image, found, pixels, expected)
        except np.linalg.LinAlgError:
            return 'the corners do not span a pose'
        if not np.isfinite(T).all():
            return 'the corners do not span a pose'
        # Of the others all may lie on one thing that moves: a part of the trusted has to agree.
        # How many these are does not matter where many of all do.
        agree = agreeing[self._trusted(found)]
        if agreeing.sum() < FEWEST or agree.sum() < SMALLEST_AGREEMENT * len(agree):
            return f'only {int(agree.sum())} of {len(agree)} corners agree on a motion'
        self._faults[chosen[~good]] = LARGEST_FAULTS
        self._pixels[found] = pixels
        self._faults[found] = np.where(agreeing, 0, self._faults[found] + 1)
        self._agreed = found[agreeing]
        self._velocity = inverse_transform(self.T) @ T
        self.T, self.image, self.agreeing = T, image, int(agreeing.sum())
        return ''

    def covariance(self):
        """
        Return how far the pose of the last frame that was followed may be off.

        Returns
        -------
        np.ndarray
            See `pose_covariance`.

        """
        chosen = self._agreed
        return pose_covariance(self._window.points(chosen), self._variances[chosen],
                               self.image.rays(self._pixels[chosen]), self.T)

    def is_key_frame(self):
        """
        Tell whether the last frame sees enough else to become a key frame.

        Returns
        -------
        bool

        """
        newest = self._followed() & np.isfinite(self._window.seen[:, -1, 0])
        if newest.sum() < max(FEWEST, SMALLEST_SHARE * self._fresh):
            return True
        seen = self._window.seen[newest, -1] * self.image.K[[0, 1], [0, 1]] + self.image.K[:2, 2]
        flow = np.linalg.norm(self._pixels[newest] - seen, axis=1)
        first = len(self._window.T) == 1
        way = (np.linalg.norm(self.T[:3, 3] - self._window.T[-1, :3, 3])
               * np.median(self._window.inverse_depths[newest]))
        return bool(np.median(flow) > (FIRST_FLOW if first else LARGEST_FLOW)
                    * self.image.even.shape[1] or way > (FIRST_WAY if first else LARGEST_WAY))

    def add_key_frame(self, depth, K):
        """
        Make the last frame a key frame, and adjust the window.

        Parameters
        ----------
        depth, K
            As in the constructor.

        Returns
        -------
        np.ndarray
            How frames since the key frame before have moved with that, ``T_map_before``, 4x4: what
            the whole window moves by is no motion of the camera.

        """
        if len(self._window.T) == KEY_FRAMES:
            self._window, kept = without_oldest(self._window)
            self._variances, self._pixels, self._faults = (
                values[kept] for values in (self._variances, self._pixels, self._faults))
            self._patches = self._patches.chosen(kept)
        window = self._window
        trusted = np.flatnonzero(self._faults == 0)
        seen, network = np.full((len(window.rays), 1, 2), np.nan), np.full(
            (len(window.rays), 1), np.nan)
        seen[trusted, 0] = self.image.rays(self._pixels[trusted])
        network[trusted, 0] = self._network_inverse_depths(depth, K, seen[trusted, 0])
        ahead = transform_points(inverse_transform(self.T), self._points(trusted))[:, 2]
        with np.errstate(invalid='ignore', divide='ignore'):
            factors = np.log(ahead * network[trusted, 0])
        factors = factors[np.isfinite(factors)]
        factor = float(np.median(factors)) if len(factors) >= FEWEST_DEPTHS else 0.0
        window = replace(
            window, T=np.concatenate([window.T, self.T[None]]),
            factors=np.append(window.factors, factor),
            seen=np.concatenate([window.seen, seen], 1),
            network=np.concatenate([window.network, network], 1),
            prior=window.prior.with_frame(self.T))
        adjusted = adjust(window, threshold=AGREEMENT)
        self._window = adjusted.window
        self._window.seen[adjusted.wrong] = np.nan
        self._noise = float(np.clip(self._noise * adjusted.noise ** NOISE_GAIN, SMALLEST_NOISE,
                                    LARGEST_NOISE))
        self._variances = np.minimum(adjusted.variances,
                                     (self._window.inverse_depths * DEPTH_SIGMA) ** 2)
        self.T = self._window.T[-1]
        self._key_frames += 1
        self._add_points(depth, K)
        return self._window.T[-2] @ inverse_transform(window.T[-2])

    def points_ahead(self):
        """
        Return the points that several key frames see, as the last frame sees them.

        Returns
        -------
        np.ndarray
            Unit of the map, shape (N, 3).

        """
        shared = np.flatnonzero(np.isfinite(self._window.seen[..., 0]).sum(1) > 1)
        return transform_points(inverse_transform(self.T), self._points(shared))

    def leave_out(self, moving, K):
        """
        Follow no corner any longer that lies on what moves by itself.

        Parameters
        ----------
        moving : np.ndarray
            Bool, of the last frame, shape (h, w).
        K : np.ndarray
            Intrinsics of that mask, 3x3.

        """
        rays = self.image.rays(self._pixels)
        x, y = np.round(rays * K[[0, 1], [0, 1]] + K[:2, 2]).astype(int).T
        height, width = moving.shape
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        self._faults[inside & moving[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]] = (
            LARGEST_FAULTS)

    def _locate(self, image, found, pixels, expected):
        """Return the pose of an image, and which of the corners found agree with it."""
        window, trusted = self._window.points(found), self._trusted(found)

        def locate_from(start, trusted=trusted, **options):
            return locate(window, self._variances[found], image.rays(pixels), start, trusted,
                          **options)

        T, errors = locate_from(expected)
        if (errors[trusted] < AGREEMENT).mean() < USUAL_AGREEMENT:
            # What moves by itself may have won, or have been met half-way: a few corners at a
            # time tell the others from it, and those fit closely.
            other = solve_pose(self._points(found[trusted]), pixels[trusted], image.K,
                               SEARCH_RADIUS)
            if other is not None:
                found_so = locate_from(other.T_world_camera, wide=0)
                closely, before = ((e[trusted] < CLOSE).sum() for e in (found_so[1], errors))
                if closely > before:
                    T, errors = found_so
        if not trusted.all() and np.median(errors[~trusted]) < CONFIRMED:
            T, errors = locate_from(T, np.ones(len(found), bool), wide=0, iterations=4)
        return T, errors < AGREEMENT

    def _search(self, image, chosen, motion):
        """Return the pose after a motion, where corners are found from there, and which are."""
        expected, points = self.T @ motion, self._points(chosen)
        before, now = (self.image.pixels(transform_points(inverse_transform(T), points))
                       for T in (self.T, expected))
        shift = now - before
        # Points that may be behind, or very near, are looked for where they were.
        shift[~(np.abs(shift) < max(image.even.shape)).all(1)] = 0.0
        return expected, *follow(self.image, image, self._pixels[chosen],
                                 self._pixels[chosen] + shift)

    def _warps(self, chosen, T):
        """
        Return how pixels around points in their hosts become pixels of a camera, shape (n, 2, 2).

        What is around a point is taken to be as deep as it, as seen by the host.
        """
        hosts = self._window.T[self._window.host[chosen]]
        R = T[:3, :3].T @ hosts[:, :3, :3]
        points = transform_points(inverse_transform(T), self._points(chosen))
        points *= self._window.inverse_depths[chosen, None]
        x, y, z = np.moveaxis(points, -1, 0)
        z = np.maximum(z, SMALLEST_DEPTH_RATIO)
        by_point = np.zeros((len(points), 2, 3))
        by_point[:, 0, 0] = by_point[:, 1, 1] = 1.0 / z
        by_point[:, 0, 2], by_point[:, 1, 2] = -x / z ** 2, -y / z ** 2
        focal = self.image.K[[0, 1], [0, 1]]
        return focal[:, None] * (by_point @ R[:, :, :2]) / focal

    def _trusted(self, found):
        """
        Return which points tell where the camera is, bool, shape (n,).

        Those whose depth parallax has told, where there are enough: a depth of the network alone
        is free enough to agree with any motion, and so is what moves by itself.
        """
        placed = np.isfinite(self._window.seen[found, :, 0]).sum(1) > 1
        return placed if placed.sum() >= FEWEST_PLACED else np.ones(len(found), bool)

    def _followed(self):
        return self._faults < LARGEST_FAULTS

    def _points(self, chosen):
        """Return points in the map, shape (n, 3)."""
        window = self._window
        T = window.T[window.host[chosen]]
        rays = np.concatenate([window.rays[chosen], np.ones((len(chosen), 1))], 1)
        inverse = window.inverse_depths[chosen][:, None]
        return (T[:, :3, :3] @ (rays / inverse)[:, :, None])[..., 0] + T[:, :3, 3]

    def _add_points(self, depth, K):
        """Let the newest key frame host the corners that no other has."""
        window, slot = self._window, len(self._window.T) - 1
        pixels = find_corners(self.image, self._pixels[self._followed()])
        rays = self.image.rays(pixels)
        network = self._network_inverse_depths(depth, K, rays)
        known = np.isfinite(network)
        pixels, rays, network = pixels[known], rays[known], network[known]
        n = len(pixels)
        inverse = network * np.exp(-window.factors[slot])
        seen, told = np.full((n, slot + 1, 2), np.nan), np.full((n, slot + 1), np.nan)
        seen[:, slot], told[:, slot] = rays, network
        self._window = replace(
            window, **{name: np.concatenate([getattr(window, name), values]) for name, values in (
                ('host', np.full(n, slot)), ('rays', rays), ('inverse_depths', inverse),
                ('roots', place_roots(self.image, pixels) / self._noise), ('seen', seen),
                ('network', told))})
        self._variances = np.append(self._variances, (inverse * DEPTH_SIGMA) ** 2)
        self._pixels = np.concatenate([self._pixels, pixels])
        self._patches = self._patches.joined(Patches.of(self.image, pixels))
        self._faults = np.append(self._faults, np.zeros(n, int))
        # Corners that were there when the last key frame was made.
        self._fresh = self.size

    @staticmethod
    def _network_inverse_depths(depth, K, rays):
        """Return inverse depths of the network, NaN outside of its image, shape (N,)."""
        if not len(rays):
            return np.zeros(0)
        x, y = np.float32(rays * K[[0, 1], [0, 1]] + K[:2, 2]).T
        inverse = cv2.remap(np.float32(1.0 / depth), x[:, None], y[:, None], cv2.INTER_LINEAR,
                            borderMode=cv2.BORDER_REPLICATE)[:, 0].astype(float)
        height, width = depth.shape
        # Half a pixel around the centres of the outer ones belongs to the image.
        inside = (x > -0.5) & (y > -0.5) & (x < width - 0.5) & (y < height - 0.5)
        return np.where(inside & (inverse > 0) & np.isfinite(inverse), inverse, np.nan)
