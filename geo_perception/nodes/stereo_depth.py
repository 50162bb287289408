# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How far is everything, in metres, from one eye: depth by a network trained on stereo pairs.

    python -m geo_perception.nodes.stereo_depth --ros-args -p model:=X -r image:=/left/image_rect
"""

from dataclasses import dataclass
import sys

import numpy as np
from sensor_msgs.msg import CameraInfo, Image

from geo_perception.errors import CalibrationError, ConfigurationError
from geo_perception.ros.calibration import CameraInfoInput
from geo_perception.ros.messages import camera_info_message, image_message
from geo_perception.ros.node import PerceptionNode, PerceptionParameters
from geo_perception.ros.parameters import parameter
from geo_perception.ros.run import run_node

_INFO_TIMEOUT = 0.5   # s; cameras publish it with each image, some a little later


@dataclass(frozen=True)
class StereoDepthParameters(PerceptionParameters):
    """The parameters of the node ``stereo_depth``."""

    rectified: bool = parameter(
        True, 'The images are rectified: their intrinsics are P of camera_info. false takes K '
        'and removes the distortion.')
    post_process: bool = parameter(
        True, 'Look at the mirror image as well, in the same batch: mends the left border and '
        'what is left of near things, and costs less than twice the time.')
    scale_correction: float = parameter(
        1.0, 'Factor on depth, from a measured distance.', minimum=1e-3, maximum=1e3)
    min_depth: float = parameter(
        0.0, 'Nearer is published as -inf.', unit='m', minimum=0.0, maximum=1000.0)
    max_depth: float = parameter(
        80.0, 'Farther is published as +inf.', unit='m', minimum=0.1, maximum=10000.0)
    edge_rel: float = parameter(
        0.1, 'Relative jump of depth to a neighbour beyond which a pixel hangs between two '
        'surfaces and is NaN; 0 keeps all.', minimum=0.0, maximum=100.0)
    min_confidence: float = parameter(
        0.0, 'Depth of less confidence is NaN.', minimum=0.0, maximum=1.0)
    camera_frame: str = parameter(
        '', "Optical frame of the camera; empty takes the image's frame_id.")

    def __post_init__(self):
        """Check what concerns more than one parameter."""
        super().__post_init__()
        if self.min_depth >= self.max_depth:
            raise ConfigurationError(f'min_depth {self.min_depth} is not below max_depth '
                                     f'{self.max_depth}')
        if self.camera_frame.startswith('/'):
            raise ConfigurationError(f"parameter 'camera_frame' is {self.camera_frame!r}; "
                                     'frame names have no leading slash')


class StereoDepthNode(PerceptionNode):
    """Publishes depth, and how far it is to be trusted."""

    parameters_class = StereoDepthParameters
    subsystem = 'stereo_depth'
    verb = 'Depth'

    def __init__(self, **options):
        self._calibration, self._camera_frame, self._doubt = None, '', ''
        super().__init__('stereo_depth', **options)

    def load_pipeline(self):
        """Load the pipeline; nothing heavy is imported before."""
        from geo_perception.inference.stereo_depth import StereoDepthPipeline

        chosen = self.parameters
        pipeline = StereoDepthPipeline.load(
            chosen.model, device=chosen.device, precision=chosen.precision,
            threads=chosen.threads, post_process=chosen.post_process,
            scale=chosen.scale_correction)
        self.get_logger().info(
            f'trained with a baseline of {pipeline.baseline:.4f} m; nearest depth with that '
            f'camera {pipeline.nearest:.2f} m')
        return pipeline

    def open_outputs(self):
        """Create publishers."""
        self._depth = self.add_output(Image, '~/depth')
        self._info = self.add_output(CameraInfo, '~/camera_info')
        self._confidence = self.add_output(Image, '~/confidence')

    def activate(self):
        """Subscribe to images and calibration."""
        self._camera_frame = self._doubt = ''
        super().activate()
        self._calibration = CameraInfoInput(self, self._input.info_topic,
                                            self.parameters.rectified)

    def deactivate(self):
        """Unsubscribe."""
        super().deactivate()
        if self._calibration is not None:
            self._calibration.close()
            self._calibration = None

    def is_wanted(self):
        """Work for subscribers; camera_info alone says nothing."""
        return any(output.get_subscription_count() for output in (self._depth, self._confidence))

    def on_arrival(self, stamp):
        """Take in calibration that is latched (executor's thread)."""
        self._calibration.hear_latched()

    def process(self, stamp, frame_id, image):
        """Find the depth of one image and publish what is wanted."""
        from geo_perception.inference.depth_cleaning import clean_depth, CleaningOptions

        frame_id = frame_id.lstrip('/')
        frame = self._camera_frame = self.parameters.camera_frame or frame_id
        if not frame:
            raise CalibrationError('the image has no frame_id; set camera_frame')
        height, width = image.shape[:2]
        camera = self._calibration.camera_of_image(width, height, (frame_id, frame),
                                                   _INFO_TIMEOUT)
        estimate = self.pipeline(image, camera)
        self._doubt = estimate.warning
        chosen = self.parameters
        self._info.publish(camera_info_message(stamp, frame, estimate.camera))
        if self._depth.get_subscription_count():
            depth = clean_depth(estimate, CleaningOptions(
                chosen.min_depth, chosen.max_depth, chosen.edge_rel, chosen.min_confidence,
                left_border=not chosen.post_process))
            self._depth.publish(image_message(stamp, frame, depth, '32FC1'))
        if self._confidence.get_subscription_count():
            self._confidence.publish(image_message(
                stamp, frame, estimate.confidence.astype(np.float32), '32FC1'))

    def describe(self):
        """Say what is published, and from which model."""
        values, warning = {'model': self.parameters.model}, self._doubt
        if self.pipeline is not None:
            values['engine'] = self.pipeline.describe()
            values['model sha256'] = self.pipeline.model.sha256
            values['training baseline [m]'] = f'{self.pipeline.baseline:.4f}'
            values['nearest depth [m]'] = f'{self.pipeline.nearest:.2f}'
        if self._calibration is not None and not warning:
            warning = self._calibration.doubt(self._input.topic)
        return values, self._camera_frame, warning


def main(args=None):
    """Run the node; the console script."""
    sys.exit(run_node(StereoDepthNode, args))


if __name__ == '__main__':
    main()
