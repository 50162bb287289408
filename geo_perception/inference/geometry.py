# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The geometry pipeline: depth and odometry of a camera, everything computed once a frame."""

from dataclasses import dataclass
from typing import Optional

from geo_perception.inference.depth import DepthEstimate
from geo_perception.inference.scale import Scale, ScaleOptions
from geo_perception.inference.visual_odometry import OdometryEstimate
from geo_perception.model_file import load_model_file

JOB = 'geometry'


@dataclass(frozen=True)
class GeometryResult:
    """
    What one frame says.

    Attributes
    ----------
    depth : DepthEstimate
        Of this image.
    odometry : OdometryEstimate or None
        None where there is no motion to tell: the first frame after a (re)start, a covered
        lens, a repeated stamp, a frame too soon after the last.
    reset : str
        Why earlier frames were thrown away by this one, one sentence; empty if they were not.
    scale : Scale
        What depth and odometry are scaled with.
    reason : str
        Why ``odometry`` is None, one sentence; empty if it is not.
    warning : str
        What makes the results doubtful though there are some, one sentence; mostly empty.

    """

    depth: DepthEstimate
    odometry: Optional[OdometryEstimate]
    reset: str
    scale: Scale
    reason: str = ''
    warning: str = ''


class GeometryPipeline:
    """
    Depth and odometry from one camera.

    Parameters
    ----------
    model : ModelFile
        A model for geometry.
    device, precision, threads
        As in `Engine`.
    scale : ScaleOptions
        Where metres come from.

    Attributes
    ----------
    model : ModelFile
        What it was made from.

    """

    def __init__(self, model, device='auto', precision='auto', threads=0, scale=ScaleOptions()):
        self.model = model

    @classmethod
    def load(cls, path, **options):
        """
        Load a pipeline from a model file.

        Parameters
        ----------
        path : str or pathlib.Path
            The model file.
        **options
            As in the constructor.

        Returns
        -------
        GeometryPipeline

        """
        return cls(load_model_file(path, JOB), **options)

    def describe(self):
        """
        Return device, library and precision in words.

        Returns
        -------
        str

        """
        raise NotImplementedError

    def __call__(self, image, camera, stamp):
        """
        Process the next image of the camera.

        Parameters
        ----------
        image : np.ndarray
            (H, W, 3) uint8 RGB.
        camera : Camera
            Of that image; distortion is removed here.
        stamp : int
            Nanoseconds.

        Returns
        -------
        GeometryResult

        """
        raise NotImplementedError

    def depth_only(self, image, camera):
        """
        Return the depth of an image by itself; nothing is remembered.

        Parameters
        ----------
        image : np.ndarray
            (H, W, 3) uint8 RGB.
        camera : Camera or None
            Of that image, None where unknown.

        Returns
        -------
        DepthEstimate

        """
        raise NotImplementedError

    def observe_distance(self, true_distance):
        """
        Learn the scale from how far the camera moved between the frames of the last odometry.

        Parameters
        ----------
        true_distance : float
            From wheels or TF, metres.

        """
        raise NotImplementedError

    def reset(self):
        """Forget earlier frames; the next one is the new origin of odometry."""
        raise NotImplementedError
