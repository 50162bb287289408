# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How far is everything, in metres, from one eye: depth by a network trained on stereo pairs.

    python -m geo_perception.nodes.stereo_depth --ros-args -p model:=X -r image:=/left/image_rect
"""

from collections import deque
from dataclasses import dataclass
import sys

import numpy as np
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger
from stereo_msgs.msg import DisparityImage

from geo_perception.errors import CalibrationError, ConfigurationError, GeoPerceptionError
from geo_perception.ros.calibration import CameraInfoInput
from geo_perception.ros.disparity import disparity_message, right_camera_info
from geo_perception.ros.image_input import ImageInput
from geo_perception.ros.messages import camera_info_message, image_message
from geo_perception.ros.node import (
    broken_rule, PerceptionNode, PerceptionParameters, Rejection)
from geo_perception.ros.parameters import parameter
from geo_perception.ros.run import run_node
from geo_perception.ros.validators import depth_problems

_INFO_TIMEOUT = 0.5   # s; cameras publish it with each image, some a little later
_CHECK_PERIOD_NS = 1_000_000_000   # between two looks at both eyes
_CHECK_LOST_NS = 3 * _CHECK_PERIOD_NS   # after which the last look says nothing any more
_PAIR_NS = 5_000_000   # stamps of both eyes of one instant
_WAITING = 4   # images that wait for that of the other eye


@dataclass(frozen=True)
class StereoDepthParameters(PerceptionParameters):
    """The parameters of the node ``stereo_depth``."""

    rectified: bool = parameter(
        True, 'The images are rectified: their intrinsics are P of camera_info. false takes K '
        'and removes the distortion.')
    post_process: bool = parameter(
        True, 'Look at the mirror image as well, in the same batch: mends the left border and '
        'what is left of near things, and costs less than twice the time.')
    camera_policy: str = parameter(
        'resize', 'Of a camera unlike that of training: resize shows the network the whole image '
        'and rescales depth for the focal length; canonical_crop shows it what the camera of '
        'training would have seen, and ~/depth is of that part.',
        choices=('resize', 'canonical_crop'))
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
    delta_d: float = parameter(
        0.125, 'Least difference that ~/disparity claims to mean anything; a network has none of '
        'its own.', unit='pixels', minimum=0.0, maximum=100.0)
    measured_distance: float = parameter(
        0.0, 'What a tape measure says, along the optical axis, for the service '
        '~/calibrate_scale; may be changed at any time.', unit='m', minimum=0.0, maximum=1000.0,
        live=True)
    measured_region: str = parameter(
        '', 'Where in the depth image that is: left,top,width,height in pixels; empty is the '
        'tenth in the middle. May be changed at any time.', live=True)
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
    """
    Publishes depth, how far it is to be trusted, and the same as a stereo camera would say it.

    Where images of the other eye come in, one pair a second is compared with what depth says.
    """

    parameters_class = StereoDepthParameters
    subsystem = 'stereo_depth'
    verb = 'Depth'

    def __init__(self, **options):
        self._calibration, self._right, self._right_calibration = None, None, None
        self._scale_services = []
        self._forget()
        super().__init__('stereo_depth', **options)

    def load_pipeline(self):
        """Load the pipeline; nothing heavy is imported before."""
        from geo_perception.inference.stereo_depth import StereoDepthPipeline

        chosen = self.parameters
        pipeline = StereoDepthPipeline.load(
            chosen.model, device=chosen.device, precision=chosen.precision,
            threads=self.threads, post_process=chosen.post_process,
            scale=chosen.scale_correction, camera_policy=chosen.camera_policy)
        self.get_logger().info(
            f'trained with a baseline of {pipeline.baseline:.4f} m; nearest depth with that '
            f'camera {pipeline.nearest():.2f} m')
        return pipeline

    def open_outputs(self):
        """Create publishers."""
        self._depth = self.add_output(Image, '~/depth')
        self._info = self.add_output(CameraInfo, '~/camera_info')
        self._confidence = self.add_output(Image, '~/confidence')
        self._disparity = self.add_output(DisparityImage, '~/disparity')
        self._right_info = self.add_output(CameraInfo, '~/right/camera_info')
        self._scale_services = [
            self.create_service(Trigger, '~/calibrate_scale', self._on_calibrate),
            self.create_service(Trigger, '~/reset_scale', self._on_reset_scale)]

    def close_outputs(self):
        """Destroy what ``open_outputs`` made."""
        for service in self._scale_services:
            self.destroy_service(service)
        self._scale_services = []
        super().close_outputs()

    def open_inputs(self):
        """Subscribe to the other eye and to calibration."""
        self._forget()
        self._calibration = CameraInfoInput(self, self._input.info_topics,
                                            self.parameters.rectified)
        self._right = ImageInput(
            self, 'right_image', self.parameters.image_transport,
            self.parameters.image_reliability == 'reliable', 1, self.images, self._on_right)
        self._right.listen()
        self._right_calibration = CameraInfoInput(
            self, (_beside(self._right.topic),), self.parameters.rectified)

    def close_inputs(self):
        """Unsubscribe."""
        for entity in (self._calibration, self._right, self._right_calibration):
            if entity is not None:
                entity.close()
        self._calibration = self._right = self._right_calibration = None

    def is_wanted(self):
        """Work for subscribers; camera_info alone says nothing."""
        return any(output.get_subscription_count()
                   for output in (self._depth, self._confidence, self._disparity))

    def on_arrival(self, stamp):
        """Look for calibration (executor's thread)."""
        self._calibration.find_publisher()
        self._right_calibration.find_publisher()

    def reset(self):
        """Forget the eyes from before a jump in time."""
        self._forget()

    def resize(self):
        """Forget the eyes of another size."""
        self._forget()

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
        pipeline, chosen = self.pipeline, self.parameters
        estimate = self._newest = pipeline(image, camera)
        self._doubt = estimate.warning
        if not np.isfinite(estimate.depth).any():
            reason = estimate.warning or 'The image shows nothing.'
            raise Rejection('depth', reason[0].lower() + reason[1:].rstrip('.'))
        self._info.publish(camera_info_message(stamp, frame, estimate.camera))
        baseline = pipeline.baseline * estimate.scale
        if self._depth.get_subscription_count() or self._disparity.get_subscription_count():
            depth = clean_depth(estimate, CleaningOptions(
                chosen.min_depth, chosen.max_depth, chosen.edge_rel, chosen.min_confidence,
                left_border=not chosen.post_process))
            message = image_message(stamp, frame, depth, '32FC1')
            broken = broken_rule(depth_problems(
                message, camera_info_message(stamp, frame, estimate.camera)))
            if broken:
                raise broken
            self._publish_disparity(stamp, frame, depth, estimate.camera, baseline)
            self._depth.publish(message)
        if self._confidence.get_subscription_count():
            self._confidence.publish(image_message(
                stamp, frame, estimate.confidence.astype(np.float32), '32FC1'))
        if self._rights:
            self._waiting.append((stamp, image, camera, estimate))
            try:
                self._check_eyes()
            except GeoPerceptionError as error:   # which is no fault of this eye
                self._check, self._check_problem = None, (
                    f'The image of the other eye cannot be used: {error}; depth is not checked.')
        if 0 <= self._checked_ns < stamp - _CHECK_LOST_NS:
            self._check, self._check_problem = None, (
                'No image of the other eye comes any more with the stamp of one of ours: depth '
                'is not checked.')

    def _publish_disparity(self, stamp, frame, depth, camera, baseline):
        """Publish the same depth as a stereo camera with that baseline would."""
        if not self._disparity.get_subscription_count():
            return
        from geo_perception.inference.stereo_depth import RAMP_FROM

        chosen = self.parameters
        nearest = max(chosen.min_depth, self.pipeline.nearest(camera))
        border = 0 if chosen.post_process else round(RAMP_FROM * camera.width)
        self._right_info.publish(right_camera_info(stamp, frame, camera, baseline))
        self._disparity.publish(disparity_message(
            stamp, frame, depth, camera, baseline, (nearest, chosen.max_depth), chosen.delta_d,
            border))

    def _check_eyes(self):
        """Compare depth with the other eye, where one came with the same stamp, now and then."""
        from geo_perception.inference.eye_check import check_eyes

        pairs = [(left, right) for left in self._waiting for right in list(self._rights)
                 if abs(left[0] - right.stamp) <= _PAIR_NS]
        if not pairs or 0 <= pairs[-1][0][0] - self._checked_ns < _CHECK_PERIOD_NS:
            return
        (stamp, image, camera, estimate), other = pairs[-1]
        self._waiting.clear()
        self._checked_ns = stamp
        (right, _), self._check, self._check_problem = other.decode(), None, ''
        if right.shape != image.shape:
            self._check_problem = 'The images of both eyes differ in size: depth is not checked.'
        elif camera.distorts:
            self._check_problem = ('The images are not rectified, so that both eyes cannot be '
                                   'compared: depth is not checked.')
        else:
            height, width = estimate.depth.shape
            left, right = (_middle(self.pipeline.view(eye, camera)[0], height, width)
                           for eye in (image, right))
            reach = estimate.camera.K[0, 0] / width * self._live_baseline()
            self._check = check_eyes(left, right, reach / estimate.depth)

    def _live_baseline(self):
        """Return the baseline of the eyes that look now, metres; that of training if unknown."""
        baseline = self._right_calibration.baseline()
        return self.pipeline.baseline if not baseline else baseline

    def _on_right(self, image):
        """Keep an image of the other eye for a while (executor's thread)."""
        self._rights.append(image)

    def _on_calibrate(self, request, response):
        """Take the measured distance into the scale (executor's thread)."""
        from geo_perception.inference.tape_scale import (
            measure, parse_region, read_tape_scale, TapeScale, write_tape_scale)

        try:
            newest = self._newest
            if newest is None:
                raise ConfigurationError('there is no depth yet: subscribe to ~/depth, and see '
                                         'that images come')
            distance, region = (self.get_parameter(f'measured_{name}').value
                                for name in ('distance', 'region'))
            sample = measure(newest.depth / newest.scale, distance, parse_region(region))
            model = self.pipeline.model
            scale = TapeScale((*read_tape_scale(model).samples, sample))
            path = write_tape_scale(model, scale)
        except GeoPerceptionError as error:
            response.success, response.message = False, f'{error}.'
            return response
        self.pipeline.scale = self.parameters.scale_correction * scale.factor
        response.success, response.message = True, (
            f'{sample.predicted:.3f} m without correction, {sample.measured:.3f} m by tape. '
            f'{scale.sentence()} Kept in {path}, beside the model, which is read at every start.')
        self.get_logger().info(response.message)
        return response

    def _on_reset_scale(self, request, response):
        """Forget all measured distances (executor's thread)."""
        from geo_perception.inference.tape_scale import TapeScale, write_tape_scale

        try:
            path = write_tape_scale(self.pipeline.model, TapeScale())
        except GeoPerceptionError as error:
            response.success, response.message = False, f'{error}.'
            return response
        self.pipeline.scale = self.parameters.scale_correction
        response.success, response.message = True, f'No distances are kept any more ({path}).'
        return response

    def _forget(self):
        """Forget what was seen."""
        self._camera_frame = self._doubt = self._check_problem = ''
        self._newest = self._check = None
        self._checked_ns = -_CHECK_PERIOD_NS
        self._rights, self._waiting = deque(maxlen=_WAITING), deque(maxlen=_WAITING)

    def describe(self):
        """Say what is published, from which model, and what the other eye says."""
        values, warning = {'model': self.parameters.model}, self._doubt or self._check_problem
        if self.pipeline is not None:
            values['engine'] = self.pipeline.describe()
            values['model sha256'] = self.pipeline.model.sha256
            values['training baseline [m]'] = f'{self.pipeline.baseline:.4f}'
            values['nearest depth [m]'] = f'{self.pipeline.nearest():.2f}'
            values['scale correction'] = f'{self.pipeline.scale:.4f}'
        check = self._check
        if check is not None:
            values['left-right error'] = f'{check.error:.4f}'
            values['left-right error of block matching'] = f'{check.matched_error:.4f}'
            values['depth over that of both eyes'] = f'{check.ratio:.3f}'
            warning = warning or check.warning()
        if self._calibration is not None and not warning:
            warning = self._calibration.doubt(self._input.topic, self._camera_frame)
        return values, self._camera_frame, warning


def _middle(image, height, width):
    """Return the part of an image that the network sees."""
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top:top + height, left:left + width]


def _beside(topic):
    """Return the calibration topic beside an image topic."""
    return topic.removesuffix('/compressed').rpartition('/')[0] + '/camera_info'


def main(args=None):
    """Run the node; the console script."""
    sys.exit(run_node(StereoDepthNode, args))


if __name__ == '__main__':
    main()
