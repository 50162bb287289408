# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Coarse, verify, gate, fix: a relocalizer with a place memory behind it."""

from collections import deque
from dataclasses import replace

import numpy as np

from geo_perception.errors import CalibrationError
from geo_perception.geometry.se3 import inverse_transform, rotate_pose_covariance
from geo_perception.inference.place import Place
from geo_perception.inference.rectification import checked_image
from geo_perception.inference.relocalizer import JOB, Relocalization, Relocalizer
from geo_perception.inference.verification import Verifier, WIDE_WINDOW, WINDOW
from geo_perception.model_file import load_model_file

# What rounding may cost a pose that only says where to look, as in `Engine`: a centimetre or so.
ROUGH = 0.1
# A score from which no other hypothesis is asked: wrong poses that pass are near the gate, and the
# right one is found from elsewhere.
SURE = 0.9
# An image whose sides are in another proportion than the map's is of another camera.
ASPECT_TOLERANCE = 0.01
# Fixes that the focal length is judged by, and what is worth a warning.
FIXES, SMALLEST_FOCAL_ERROR = 30, 0.03


class VerifiedRelocalizer:
    """
    A relocalizer whose answers are looked up in a place memory; same interface.

    Parameters
    ----------
    relocalizer : Relocalizer
        For the coarse pose.
    place : Place
        The memory.

    Attributes
    ----------
    model, world_frame, T_map_world, retrieval, gate
        Of the relocalizer.
    coarse : Relocalizer
        The same.
    place : Place
        The memory.

    """

    def __init__(self, relocalizer, place):
        self.coarse, self.place = relocalizer, place
        self.model, self.world_frame = relocalizer.model, relocalizer.world_frame
        self.T_map_world, self.retrieval = relocalizer.T_map_world, relocalizer.retrieval
        self.gate = relocalizer.gate
        self._verifier = Verifier(place)
        self._focal_errors = deque(maxlen=FIXES)

    def describe(self):
        """
        Return device, library and precision in words, and the size of the memory.

        Returns
        -------
        str

        """
        return (f'{self.coarse.describe()}; {len(self.place.poses)} key frames, '
                f'{len(self.place.points)} points')

    def __call__(self, image, camera=None):
        """
        Relocalize one image.

        Parameters
        ----------
        image : np.ndarray
            (H, W, 3) uint8 RGB, any size.
        camera : Camera, optional
            Its intrinsics; by default those of the map.

        Returns
        -------
        Relocalization
            The verified pose where the gate lets one pass, else the coarse one, not accepted.

        Raises
        ------
        ImageError
            When the array is no image.
        CalibrationError
            When the camera is unknown and cannot be that of the map, or is of another image.

        """
        image = checked_image(image)
        camera = self._camera_of(image, camera)
        coarse = self.coarse(image)
        T_coarse = inverse_transform(self.T_map_world) @ coarse.T_world_camera
        variances = np.diag(coarse.covariance)
        sigmas = np.sqrt(variances[:3].sum()), np.sqrt(variances[3:].sum())
        query = self._verifier.look(image, camera)
        best, best_score, why = None, -1.0, ''
        for hypothesis, window in self._hypotheses(query, T_coarse):
            found = self._verifier(query, hypothesis, T_coarse, sigmas, window=window)
            if found is None:
                continue
            score, reason = self.place.judge(found)
            if score > best_score:
                best, best_score, why = found, score, reason
            if score >= max(SURE, self.gate):
                break
        if best_score >= self.gate:
            return self._fix(best, best_score, coarse)
        if best is None:
            reason = (f'no pose agrees with the map: {len(query.pixels)} features, of which fewer '
                      'than 6 fit any one pose')
        else:
            reason = (f'not verified: {why} (score {best_score:.2f}, gate {self.gate:.2f})')
        return replace(coarse, score=max(best_score, 0.0), accepted=False, reason=reason,
                       coarse=coarse)

    def dense(self, image):
        """
        Relocalize one image from 128 crops, not verified; see `Relocalizer.dense`.

        Parameters
        ----------
        image : np.ndarray
            (H, W, 3) uint8 RGB.

        Returns
        -------
        Relocalization

        """
        return self.coarse.dense(image)

    def warning(self):
        """
        Say whether the intrinsics seem wrong, from the residuals of the last fixes.

        Returns
        -------
        str
            One sentence, empty if nothing is wrong.

        """
        if len(self._focal_errors) < FIXES:
            return ''
        usual, spread = self.place.focal_error
        error = float(np.median(self._focal_errors)) - usual
        # The median of so many; frames of one view err alike, so that they count as few.
        if abs(error) < max(SMALLEST_FOCAL_ERROR, 3.0 * spread / np.sqrt(FIXES / 5)):
            return ''
        return (f'The focal length of the camera seems {100 * abs(error):.0f} % too '
                f'{"small" if error > 0 else "large"}, judged by how points of the map lie in the '
                f'last {FIXES} fixes: positions may be off; check camera_info.')

    def _hypotheses(self, query, T_coarse):
        """Return where to look, and how wide; the second only costs where it is needed."""
        yield T_coarse, WINDOW
        recognised = self._verifier.recognise(query)
        if recognised is not None:
            yield recognised, WIDE_WINDOW

    def _fix(self, found, score, coarse):
        """Return a verified pose."""
        if np.isfinite(found.focal_error):
            self._focal_errors.append(found.focal_error)
        return Relocalization(
            self.T_map_world @ found.T_world_camera,
            rotate_pose_covariance(self.place.covariance(found), self.T_map_world[:3, :3]), score,
            True, '', coarse)

    def _camera_of(self, image, camera):
        """Return the camera of an image."""
        height, width = image.shape[:2]
        if camera is not None:
            if (camera.width, camera.height) != (width, height):
                raise CalibrationError(
                    f'the intrinsics are for {camera.width}x{camera.height} pixels, the image has '
                    f'{width}x{height}')
            problem = camera.problem()
            if problem:
                raise CalibrationError(f'the intrinsics are absurd: {problem}')
            return camera
        known = self.place.camera
        if abs(width * known.height / (height * known.width) - 1.0) > ASPECT_TOLERANCE:
            raise CalibrationError(
                f'the image has {width}x{height} pixels and the map was made with a camera of '
                f'{known.width}x{known.height}: its intrinsics do not fit; give the camera_info '
                'of this camera')
        return known if (width, height) == (known.width, known.height) else known.resized(
            width, height)


def make_relocalizer(model, verify=True, **options):
    """
    Return the best pipeline that a model file has.

    Parameters
    ----------
    model : ModelFile
        For relocalization, with or without a place memory.
    verify : bool
        Whether to use the memory.
    **options
        As for `Relocalizer`.

    Returns
    -------
    VerifiedRelocalizer or Relocalizer
        The latter where there is no memory, or it is not to be used.

    """
    place = Place.from_model(model) if verify else None
    if place is None:
        return Relocalizer(model, **options)
    return VerifiedRelocalizer(Relocalizer(model, accurate=ROUGH, **options), place)


def load_relocalizer(path, verify=True, **options):
    """
    Load the best pipeline that a model file has.

    Parameters
    ----------
    path : str or pathlib.Path
        The model file.
    verify, **options
        As for `make_relocalizer`.

    Returns
    -------
    VerifiedRelocalizer or Relocalizer

    """
    return make_relocalizer(load_model_file(path, JOB), verify, **options)
