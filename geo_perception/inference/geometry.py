# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The geometry pipeline: depth and odometry of a camera, everything computed once a frame."""

from copy import copy
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np

from geo_perception.errors import ConfigurationError
from geo_perception.geometry.se3 import make_transform
from geo_perception.inference.corner_uncertainty import CornerCalibration
from geo_perception.inference.depth import DepthEstimate, DepthNetwork
from geo_perception.inference.feature_tracks import FeatureImage
from geo_perception.inference.flow import FlowEstimate, FlowNetwork, has_flow
from geo_perception.inference.geometry_model import load_geometry_model, trained_interval
from geo_perception.inference.hybrid_motion import HybridMotion
from geo_perception.inference.motion import build_motion, View
from geo_perception.inference.motion_uncertainty import MotionCalibration
from geo_perception.inference.rectification import Rectifier
from geo_perception.inference.scale import Scale, ScaleEstimator, ScaleOptions
from geo_perception.inference.visual_odometry import is_blank, OdometryEstimate, VisualOdometry

# Ways to find motions.
ODOMETRY = ('hybrid', 'network')
# Sources of the scale that are measured in the map of hybrid odometry.
MEASURED_IN_MAP = ('camera_height', 'odometry')
# Cameras whose focal length is within this factor of the training camera's pass as alike.
USUAL_FOCAL_RATIO = 1.2


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
    flow : FlowEstimate or None
        From and to the frame before, where it was asked for; None without odometry.

    """

    depth: DepthEstimate
    odometry: Optional[OdometryEstimate]
    reset: str
    scale: Scale
    reason: str = ''
    warning: str = ''
    flow: Optional[FlowEstimate] = None

    def confirmed_depth(self):
        """
        Return what the frame before confirms of the depth.

        Returns
        -------
        DepthEstimate or None
            NaN where flow there and back disagree, or the surface was not seen before; None
            where there is no flow.

        """
        if self.flow is None:
            return None
        return replace(self.depth, depth=np.where(self.flow.backward.valid, self.depth.depth,
                                                  np.float32(np.nan)))


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
    refine_flow : bool
        Whether flow is made sharp in the image of the camera, see
        `geo_perception.inference.flow_refinement`.
    odometry : str
        ``hybrid``: corners of the whole image, among points of the depth network's scale;
        ``network``: what the model was trained with, alone.

    Attributes
    ----------
    model : ModelFile
        What it was made from.

    """

    def __init__(self, model, device='auto', precision='auto', threads=0, scale=ScaleOptions(),
                 odometry='hybrid', refine_flow=True):
        if odometry not in ODOMETRY:
            raise ConfigurationError(f"odometry is '{odometry}'; expected {' or '.join(ODOMETRY)}")
        metadata = model.metadata
        self.model = model
        self._rectifier = Rectifier(metadata.preprocessing)
        self._scale_options, self._scale = scale, ScaleEstimator(scale, model)
        self._depth_network = DepthNetwork(model, device, precision, threads)
        self._motion = build_motion(model, device, precision, threads)
        self._follow_by(odometry)
        self._flow_options = {'device': device, 'precision': precision, 'threads': threads,
                              'refine': refine_flow}
        self._flow_network, self._view = None, None
        self._last = None

    @classmethod
    def load(cls, path, **options):
        """
        Load a pipeline from a model file.

        Parameters
        ----------
        path : str or pathlib.Path
            The model file, see `geo_perception.inference.geometry_model.load_geometry_model`.
        **options
            As in the constructor.

        Returns
        -------
        GeometryPipeline

        """
        return cls(load_geometry_model(path), **options)

    def describe(self):
        """
        Return device, library and precision in words.

        Returns
        -------
        str

        """
        return self._depth_network.describe()

    @property
    def tracking(self):
        """
        Return what following corners came to, for people; empty where only the network is asked.

        Returns
        -------
        dict
            Name to text.

        """
        return {} if self._hybrid is None else self._hybrid.describe()

    @property
    def corner_covariance(self):
        """See `HybridMotion`; None where only the network is asked."""
        return None if self._hybrid is None else self._hybrid.covariance

    def network_alone(self):
        """
        Return a pipeline with the same networks that finds motions by the model's way alone.

        Returns
        -------
        GeometryPipeline
            Fresh.

        """
        other = copy(self)
        other._scale = ScaleEstimator(self._scale_options, self.model)
        other._follow_by('network')
        other._flow_network = other._view = other._last = None
        return other

    @property
    def has_flow(self):
        """Whether the model holds a flow network."""
        return has_flow(self.model)

    def prepare_flow(self, smoothing=0.0, newest_only=False):
        """
        Load the flow network; otherwise that happens with the first flow that is asked for.

        Parameters
        ----------
        smoothing : float
            How much of the motion score of the frame before is carried along, 0..1.
        newest_only : bool
            Whether only the newest image's flow has to be as good as it can, which is faster.

        Raises
        ------
        ModelFileError
            When the model has none, or it is damaged.

        """
        self._flow_network = FlowNetwork(self.model, **self._flow_options, smoothing=smoothing,
                                         newest_only=newest_only)

    def __call__(self, image, camera, stamp, flow=False):
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
        flow : bool
            Whether flow from and to the frame before is wanted, and what moves by itself.

        Returns
        -------
        GeometryResult

        Raises
        ------
        ImageError, ConfigurationError
            See `look`.

        """
        return self.follow(self.look(image, camera, stamp), flow)

    def look(self, image, camera, stamp):
        """
        Return an image as the networks see it, and its depth; nothing is remembered.

        One thread may look at the next image while another follows the last one.

        Parameters
        ----------
        image, camera, stamp
            As of a call.

        Returns
        -------
        View

        Raises
        ------
        ImageError
            When it is no image, or not of the size that its camera has.
        ConfigurationError
            When the intrinsics are absurd.

        """
        straight = self._rectifier.straighten(image, camera)
        features = None if self._hybrid is None else FeatureImage.of(straight, camera.straight())
        crop, camera = self._rectifier.crop(straight), self._rectifier.camera
        ratio = self._depth_network.focal_ratio(camera)
        detail = (self._rectifier.detail(straight)
                  if self.has_flow and self._flow_options['refine'] else None)
        return View(crop, self._depth_of(crop, ratio), camera, stamp, ratio, detail, features)

    def follow(self, view, flow=False):
        """
        Go on from the frame before to the next one.

        Parameters
        ----------
        view : View
            From `look`.
        flow : bool
            As of a call.

        Returns
        -------
        GeometryResult

        """
        if self._last is not None and view.stamp == self._last[0]:
            return replace(self._last[1], odometry=None, reset='',
                           reason='a frame with this stamp was there already')
        depth, camera, ratio = view.depth, view.camera, view.focal_ratio
        self._scale.observe_depth(depth, camera)
        scale = self._scale.current()
        step = self._odometry.update(view, scale.metres_per_unit)
        points = None if self._hybrid is None else self._hybrid.news()
        if points is not None:
            self._scale.observe_points(points)
        begins = step.estimate is None and self._odometry.last is view
        if self._flow_network is not None and (begins or not flow):
            # What is carried along is of the frame before, and of no other.
            self._flow_network.reset()
        result = GeometryResult(
            _scaled_depth(depth, camera, scale), step.estimate, step.reset, scale, step.reason,
            ' '.join(filter(None, [_focal_warning(ratio), step.warning])),
            self._flow(view, step, scale) if flow else None)
        if self._hybrid is not None and result.flow is not None:
            self._hybrid.leave_out(result.flow.backward.moving, result.flow.camera.K)
        if step.estimate is not None or self._odometry.last is view:
            self._view = view
        self._last = view.stamp, result
        return result

    def flow_of_pair(self, image, other, camera, interval):
        """
        Return the flow between two images by themselves; nothing is remembered.

        Parameters
        ----------
        image, other : np.ndarray
            The earlier and the later one, (H, W, 3) uint8 RGB.
        camera : Camera
            Of both.
        interval : float
            Seconds between them.

        Returns
        -------
        FlowEstimate

        """
        views = [self.look(picture, camera, round(i * interval * 1e9))
                 for i, picture in enumerate((image, other))]
        if self._flow_network is None:
            self.prepare_flow()
        self._flow_network.reset()
        return self._flow_network(*views, self._motion((), *views, np.eye(4)))

    def _flow(self, view, step, scale):
        """Return the flow from and to the frame before, None where there is no motion."""
        if self._flow_network is None:
            self.prepare_flow()
        if step.estimate is None:
            return None
        T = step.estimate.motion
        # The networks have a unit of their own.
        units = scale.metres_per_unit if step.estimate.metric else 1.0
        return self._flow_network(self._view, view, make_transform(T[:3, :3], T[:3, 3] / units))

    def depth_only(self, image, camera):
        """
        Return the depth of an image by itself; nothing is remembered.

        Parameters
        ----------
        image : np.ndarray
            (H, W, 3) uint8 RGB.
        camera : Camera or None
            Of that image, None where unknown: no depth is metric then, for the same image may
            be of a near thing by a wide camera or of a far one by a narrow camera.

        Returns
        -------
        DepthEstimate

        """
        crop, camera = self._rectifier(image, camera)
        depth = self._depth_of(crop, self._depth_network.focal_ratio(camera))
        return _scaled_depth(depth, camera, self._scale.current())

    @property
    def snippet_length(self):
        """Frames whose poses the ego-motion network predicts at once, 0 without a network."""
        return self._motion.snippet_length

    def snippet(self, images, camera):
        """
        Return what the ego-motion network predicts for a snippet; nothing is remembered.

        Parameters
        ----------
        images : sequence of np.ndarray
            ``snippet_length`` frames in order of time, (H, W, 3) uint8 RGB.
        camera : Camera
            Of all of them.

        Returns
        -------
        np.ndarray
            ``T_frame_target``, shape (L, 4, 4), see `MotionNetwork.snippet`.

        """
        crops, cameras = zip(*(self._rectifier(image, camera) for image in images))
        return self._motion.snippet(crops, self._depth_network.focal_ratio(cameras[0]))

    def scale(self):
        """
        Return the scale as it is known now.

        Returns
        -------
        Scale

        """
        return self._scale.current()

    def observe_distance(self, true_distance):
        """
        Learn the scale from how far the camera moved between the frames of the last odometry.

        Parameters
        ----------
        true_distance : float
            From wheels or TF, metres.

        """
        if self._odometry.distance is not None:
            self._scale.observe_motion(self._odometry.distance, true_distance)

    def reset(self):
        """Forget earlier frames; the next one is the new origin of odometry."""
        self._odometry.reset()
        self._view, self._last = None, None
        if self._flow_network is not None:
            self._flow_network.reset()

    def _follow_by(self, odometry):
        """Choose the way to find motions."""
        self._hybrid = HybridMotion(
            self._motion, self._scale_options.source not in MEASURED_IN_MAP
        ) if odometry == 'hybrid' else None
        self._odometry = VisualOdometry(
            self._hybrid or self._motion, MotionCalibration.from_model(self.model),
            trained_interval(self.model),
            None if self._hybrid is None else CornerCalibration.from_model(self.model))

    def _depth_of(self, crop, ratio):
        """Return the depth in units of the network; of a covered lens nothing is known."""
        if is_blank(crop):
            return np.full(crop.shape[:2], np.nan, np.float32)
        return self._depth_network(crop, ratio)


def _scaled_depth(depth, camera, scale):
    """Return depth in metres where scale and intrinsics are known."""
    metric = scale.metres_per_unit is not None and camera is not None
    return DepthEstimate(depth * np.float32(scale.metres_per_unit) if metric else depth, camera,
                         metric)


def _focal_warning(ratio):
    """Return what is wrong with the focal length, mostly nothing."""
    if 1 / USUAL_FOCAL_RATIO < ratio < USUAL_FOCAL_RATIO:
        return ''
    return (f'The focal length of this camera is {ratio:.2f} times that of the training camera; '
            'depth and motion are corrected for it, but less accurate.')
