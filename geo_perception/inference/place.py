# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
The memory of a place: key frames, the features they showed, and where those lie in the world.

It stands in the model file of a relocalizer, as tensors ``place.*`` and the entry ``place`` of
the header; a file without them is a plain relocalizer.
"""

from dataclasses import asdict, dataclass, replace
from typing import Dict

import numpy as np

from geo_perception.errors import ModelFileError, RecordingError
from geo_perception.geometry.camera import Camera
from geo_perception.inference.fix_covariance import FixCalibration
from geo_perception.inference.gate import Gate
from geo_perception.inference.local_features import FeatureDetector, KINDS
from geo_perception.model_file import is_number

VERSION = 3
# A fix that may be off by more than this part of the depth, or this angle (standard deviations),
# is of no use.
LARGEST_PART, LARGEST_ANGLE = 0.06, np.deg2rad(4.0)
# Nor is one of which a larger part of the points may as well be others.
LARGEST_AMBIGUITY = 0.5
# Poses of a recording that put the picture (radians) so far from where the map sees it are in
# another frame; so few frames do not tell.
OTHER_FRAME, FEW_FOUND = 0.3, 5
PREFIX = 'place.'
TENSORS = 'poses', 'depths', 'first', 'points', 'descriptors', 'repeats'


@dataclass(frozen=True)
class Place:
    """
    Key frames of one place.

    Attributes
    ----------
    features : str
        Kind of the descriptors, ``sift`` or ``orb``.
    camera : Camera
        Of the images of the map, for queries whose camera is unknown.
    poses : np.ndarray
        ``T_world_camera`` of the key frames, world of the training labels, shape (M, 4, 4).
    depths : np.ndarray
        Median depth of the points of each, metres, shape (M,).
    first : np.ndarray
        The points of key frame i are rows ``first[i]`` to ``first[i + 1]``, shape (M + 1,).
    points : np.ndarray
        In the world, metres, float32, shape (N, 3).
    descriptors : np.ndarray
        uint8, shape (N, C).
    repeats : np.ndarray
        How far away another point looks the same, metres, infinite where none does, shape (N,).
    gate : Gate
        Which verified poses are believed.
    calibration : FixCalibration
        From covariances of the solver to real ones.
    focal_error : tuple of float
        Relative error of the focal length that residuals of held-out frames of the map showed:
        median and spread from frame to frame.
    summary : dict
        For people: recordings, counts, coverage.

    """

    features: str
    camera: Camera
    poses: np.ndarray
    depths: np.ndarray
    first: np.ndarray
    points: np.ndarray
    descriptors: np.ndarray
    repeats: np.ndarray
    gate: Gate
    calibration: FixCalibration
    focal_error: tuple
    summary: Dict

    @classmethod
    def from_model(cls, model):
        """
        Return the place memory of a model file.

        Parameters
        ----------
        model : ModelFile
            For relocalization.

        Returns
        -------
        Place or None
            None where it has none.

        Raises
        ------
        ModelFileError
            When it is damaged, or of a later version.

        """
        header = dict(model.metadata.place)
        if not header:
            return None
        version = header.pop('version', None)
        if version != VERSION:
            raise ModelFileError(f'the place memory of {model.path} has version {version}, this '
                                 f'package reads version {VERSION}; make it again with '
                                 '"geo_perception map"')
        try:
            camera = dict(header['camera'])
            place = cls(
                features=header['features'],
                camera=Camera(np.array(camera['K'], float).reshape(3, 3), int(camera['width']),
                              int(camera['height']), np.array(camera['distortion'], float).ravel(),
                              camera['distortion_model']),
                gate=Gate(**header['gate']), calibration=FixCalibration(**header['calibration']),
                focal_error=tuple(header['focal_error']), summary=dict(header['summary']),
                **{name: model.tensors[PREFIX + name] for name in TENSORS})
            problem = place.problem()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelFileError(f'the place memory of {model.path} is incomplete ({error}); make '
                                 'it again with "geo_perception map"') from error
        if problem:
            raise ModelFileError(f'the place memory of {model.path} is damaged: {problem}; make '
                                 'it again with "geo_perception map"')
        return place

    def covariance(self, found):
        """
        Return the calibrated covariance of a verified pose.

        Parameters
        ----------
        found : Verification
            From a `Verifier` of this place.

        Returns
        -------
        np.ndarray
            6x6, world of the training labels.

        """
        return self.calibration.covariance(found.covariance, found.view)

    def judge(self, found):
        """
        Return how much a verified pose is believed.

        Parameters
        ----------
        found : Verification
            From a `Verifier` of this place.

        Returns
        -------
        score : float
            0..1; from 0.5 on wrong poses pass at the rate of the gate.
        reason : str
            What speaks most against it, half a sentence.

        """
        if found.ambiguity > LARGEST_AMBIGUITY:
            share = 100 * found.ambiguity
            return 0.0, (f'{share:.0f} % of the points that fit are seen elsewhere as well, '
                         'nearer than the coarse pose can tell: the place repeats itself')
        score = self.gate.score(found.evidence)
        variances = np.diag(self.covariance(found))
        position, angle = np.sqrt(variances[:3].sum()), np.sqrt(variances[3:].sum())
        excess = max(position / (LARGEST_PART * found.depth), angle / LARGEST_ANGLE)
        limit = float(1.0 / (1.0 + min(excess, 1e3) ** 4))
        if limit < score:
            return limit, (f'it may be off by {position:.2f} m and {np.degrees(angle):.1f} deg '
                           '(standard deviations)')
        return score, self.gate.reason(found.evidence)

    def problem(self):
        """
        Say what is wrong with the arrays and numbers.

        Returns
        -------
        str
            Half a sentence, empty if nothing is.

        """
        count, total = len(self.poses), len(self.points)
        if self.features not in KINDS:
            return f'its features are {self.features!r}'
        width = FeatureDetector(self.features).width
        if (not count or self.poses.shape != (count, 4, 4) or self.depths.shape != (count,)
                or self.first.shape != (count + 1,) or self.points.shape != (total, 3)
                or self.descriptors.shape != (total, width) or self.repeats.shape != (total,)
                or self.descriptors.dtype != np.uint8):
            return (f'{self.poses.shape} poses, {self.depths.shape} depths, {self.first.shape} '
                    f'bounds, {self.points.shape} points and {self.descriptors.shape} '
                    'descriptors do not belong together')
        if self.first[0] != 0 or self.first[-1] != total or (np.diff(self.first) < 0).any():
            return 'the points of its key frames overlap'
        if not all(np.isfinite(x).all() for x in (self.poses, self.depths, self.points)) or (
                np.isnan(self.repeats).any()):
            return 'a pose or point is not finite'
        if not self.depths.min() > 0:
            return f'a key frame has its points {self.depths.min():g} m before it'
        if len(self.focal_error) != 2 or not all(map(is_number, self.focal_error)):
            return f'the errors of its focal length are {self.focal_error}'
        if (not isinstance(self.summary.get('recordings'), list)
                or not self.summary.keys() >= {'key_frames', 'points', 'points_from'}):
            return 'its summary does not say what it was made of'
        return self.camera.problem() or self.gate.problem() or self.calibration.problem()

    def header(self):
        """
        Return the entry of the header of a model file.

        Returns
        -------
        dict
            Plain numbers, strings, lists and dictionaries.

        """
        camera = {'K': self.camera.K.tolist(), 'width': self.camera.width,
                  'height': self.camera.height, 'distortion': self.camera.distortion.tolist(),
                  'distortion_model': self.camera.distortion_model}
        return {'version': VERSION, 'features': self.features, 'camera': camera,
                'gate': asdict(self.gate), 'calibration': asdict(self.calibration),
                'focal_error': list(self.focal_error), 'summary': self.summary}

    def tensors(self):
        """
        Return the arrays of a model file.

        Returns
        -------
        dict of str to np.ndarray

        """
        return {PREFIX + name: getattr(self, name) for name in TENSORS}

    def rows(self, frames):
        """
        Return which points belong to some key frames.

        Parameters
        ----------
        frames : np.ndarray
            Indices of key frames.

        Returns
        -------
        np.ndarray
            Indices of points.

        """
        return np.concatenate([np.arange(self.first[i], self.first[i + 1]) for i in frames])

    def without(self, frames):
        """
        Return the place with some key frames forgotten.

        Parameters
        ----------
        frames : np.ndarray
            Bool, shape (M,).

        Returns
        -------
        Place

        """
        kept = np.flatnonzero(~frames)
        counts = np.diff(self.first)[kept]
        rows = self.rows(kept)
        return replace(
            self, poses=self.poses[kept], depths=self.depths[kept],
            first=np.concatenate([[0], np.cumsum(counts)]).astype(self.first.dtype),
            points=self.points[rows], descriptors=self.descriptors[rows],
            repeats=self.repeats[rows])

    def view_distances(self, T_world_camera):
        """
        Return how different key frames look from a view.

        Parameters
        ----------
        T_world_camera : np.ndarray
            4x4, or poses of many views (V, 4, 4).

        Returns
        -------
        np.ndarray
            See `view_distance`, shape (M,) or (V, M).

        """
        T = np.asarray(T_world_camera)[..., None, :, :]
        return view_distance(T, self.poses, self.depths)

    def refuse_other_frame(self, T_found, T_recorded):
        """
        Raise where a recording has its poses in another frame than the key frames.

        Parameters
        ----------
        T_found : np.ndarray
            ``T_world_camera`` of its frames by this memory, shape (N, 4, 4).
        T_recorded : np.ndarray
            What the recording says, shape (N, 4, 4).

        Raises
        ------
        RecordingError
            When most of them contradict each other.

        """
        depth = np.median(self.depths)
        if len(T_found) < FEW_FOUND or np.median(
                view_distance(T_found, T_recorded, depth)) < OTHER_FRAME:
            return
        metres = np.linalg.norm(T_found[:, :3, 3] - T_recorded[:, :3, 3], axis=1)
        degrees = np.degrees(view_distance(T_found, T_recorded, np.inf))
        raise RecordingError(
            f'the poses of the recording are not in the frame of the map: {len(T_found)} of its '
            f'frames are known to the map, which sees them {np.median(metres):.2f} m and '
            f'{np.median(degrees):.0f} deg (median) away; record it localized in the map that the '
            'poses of the first recording were in')


def view_distance(T_a, T_b, depth):
    """
    Return by what angle the picture of a scene moves between views.

    Parameters
    ----------
    T_a, T_b : np.ndarray
        ``T_world_camera``, shapes that broadcast to (..., 4, 4).
    depth : float or np.ndarray
        How far the scene is, metres, shape (...).

    Returns
    -------
    np.ndarray
        Radians: the turn, and the step over the depth, shape (...).

    """
    step = np.linalg.norm(T_a[..., :3, 3] - T_b[..., :3, 3], axis=-1)
    trace = np.einsum('...ij,...ij->...', T_a[..., :3, :3], T_b[..., :3, :3])
    return np.arccos(np.clip((trace - 1.0) / 2.0, -1.0, 1.0)) + step / depth
