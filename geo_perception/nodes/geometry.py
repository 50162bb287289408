# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
How far is everything, how do I move, and what else does: depth, odometry and flow of one camera.

    python -m geo_perception.nodes.geometry --ros-args -p model:=X -r image:=/camera/image_raw
"""

from collections import deque
from copy import copy
from dataclasses import dataclass
import sys

from nav_msgs.msg import Odometry
import numpy as np
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from geo_perception.errors import (
    CalibrationError, ConfigurationError, PoseError, TransformError)
from geo_perception.geometry.point_cloud import coloured_points
from geo_perception.ros.calibration import CameraInfoInput
from geo_perception.ros.flow_output import FlowOutput
from geo_perception.ros.localization import uncouple_plane
from geo_perception.ros.messages import (
    camera_info_message, image_message, odometry_message, point_cloud_message)
from geo_perception.ros.node import (
    broken_rule, NothingDue, PerceptionNode, PerceptionParameters, Rejection)
from geo_perception.ros.odometry import body_frame_of, OdometryFrame
from geo_perception.ros.parameters import parameter
from geo_perception.ros.run import run_node
from geo_perception.ros.transforms import TransformBroadcaster, TransformListener
from geo_perception.ros.true_motion import TransformMotion, WheelMotion
from geo_perception.ros.validators import depth_problems, odometry_problems

_INFO_TIMEOUT = 0.5   # s; cameras publish it with each image, some a little later
_DOUBTS = 10   # images that have to be doubtful in their majority
_USUAL_PAUSE_NS = 1_000_000_000   # between two motions; the pipeline's largest gap


@dataclass(frozen=True)
class GeometryParameters(PerceptionParameters):
    """The parameters of the node ``geometry``."""

    rectified: bool = parameter(
        False, 'The images are rectified: their intrinsics are P of camera_info. false takes K '
        'and removes the distortion.')
    scale_source: str = parameter(
        'model', 'Where metres come from: model is what validation measured, camera_height the '
        'ground under a camera of known height, odometry the wheels or TF, constant the parameter '
        'scale; none publishes without unit, as ~/depth_relative and ~/odometry_relative.',
        choices=('model', 'camera_height', 'odometry', 'constant', 'none'))
    scale: float = parameter(
        1.0, 'For scale_source constant: metres per unit of the networks.', unit='m',
        minimum=1e-6, maximum=1e6)
    camera_height: float = parameter(
        0.0, 'For scale_source camera_height: of the lens over the ground.', unit='m',
        minimum=0.0, maximum=1000.0)
    camera_pitch: float = parameter(
        0.0, 'For scale_source camera_height: how far the camera looks down.', unit='rad',
        minimum=-1.6, maximum=1.6)
    camera_roll: float = parameter(
        0.0, 'For scale_source camera_height: how far the camera is turned clockwise about its '
        'axis.', unit='rad', minimum=-3.2, maximum=3.2)
    scale_frame: str = parameter(
        '', 'For scale_source odometry: take the distances from TF, of the camera in this frame '
        '(odom); empty takes them from the topic wheel_odometry.')
    base_frame: str = parameter(
        'base_link', 'Robot frame whose odometry is published, through TF from the camera frame; '
        'empty publishes that of the camera itself, with body axes (x forward), in a frame named '
        "like the camera's without _optical.")
    camera_frame: str = parameter(
        '', "Optical frame of the camera; empty takes the image's frame_id.")
    odom_frame: str = parameter(
        'odom', 'Frame of the odometry.')
    publish_tf: bool = parameter(
        False, 'Broadcast odom_frame -> base_frame. Only when neither wheels nor a filter do so.')
    two_d: bool = parameter(
        False, 'The robot moves in a plane: in the covariances of the odometry z, roll and pitch '
        'are correlated with nothing, as filters of a plane want it.')
    odometry: str = parameter(
        'hybrid', 'How motion is found. hybrid follows corners of the whole image, at the scale '
        'of the depth network, and asks the network where they fail; network asks it alone.',
        choices=('hybrid', 'network'))
    refine_flow: bool = parameter(
        True, 'Make the flow of the network sharp in the image of the camera: small motions are '
        'seen better, for more processor time. For models with a flow network.')
    motion_smoothing: float = parameter(
        0.0, 'How much of the motion score of the frame before is carried along: more of it is '
        'calmer and later. For models with a flow network.', minimum=0.0, maximum=0.99)
    confirmed_depth: bool = parameter(
        False, 'Leave out depth that the frame before does not confirm: it is NaN where '
        '~/flow_valid is 0. Takes a model with a flow network, and its time.')
    tf_timeout_s: float = parameter(
        0.2, 'How long to wait for a transform at the stamp of the image.', unit='s',
        minimum=0.0, maximum=10.0)

    def __post_init__(self):
        """Check what concerns more than one parameter."""
        super().__post_init__()
        if self.publish_tf and not self.base_frame:
            raise ConfigurationError("publish_tf needs 'base_frame', the frame that odometry "
                                     'moves, e.g. base_link')
        if self.publish_tf and self.scale_source == 'none':
            raise ConfigurationError('publish_tf needs metres, but scale_source is none; TF must '
                                     'not hold what has no unit')
        if self.scale_source == 'camera_height' and self.camera_height == 0:
            raise ConfigurationError("scale_source camera_height needs 'camera_height', metres "
                                     'from the ground to the lens')
        if self.publish_tf and self.scale_frame == self.odom_frame:
            raise ConfigurationError(f"scale_frame and odom_frame are both '{self.odom_frame}': "
                                     'the scale would be measured by what it scales')
        for name in ('scale_frame', 'base_frame', 'camera_frame', 'odom_frame'):
            if getattr(self, name).startswith('/'):
                raise ConfigurationError(f"parameter '{name}' is {getattr(self, name)!r}; "
                                         'frame names have no leading slash')


class GeometryNode(PerceptionNode):
    """
    Publishes depth, odometry and, while somebody looks, coloured points, flow and what moves.

    Flow is that of the newest image, to the frame before. It takes a model with a flow network,
    which is loaded when the node is configured, so that the first listener is served at once.
    """

    parameters_class = GeometryParameters
    subsystem = 'geometry'

    def __init__(self, **options):
        self._listener = self._broadcaster = self._calibration = self._true_motion = None
        self._flow = None
        self._frame = OdometryFrame()   # goes on after a pause and with another model
        self._forget()
        super().__init__('geometry', **options)

    def cleanup(self):
        """Release everything; configured again, ``odom`` is elsewhere."""
        super().cleanup()
        self._frame = OdometryFrame()

    def load_pipeline(self):
        """Load the pipeline; nothing heavy is imported before."""
        from geo_perception.inference.geometry import GeometryPipeline
        from geo_perception.inference.scale import ScaleOptions

        chosen = self.parameters
        pipeline = GeometryPipeline.load(
            chosen.model, device=chosen.device, precision=chosen.precision,
            threads=self.threads, odometry=chosen.odometry, scale=ScaleOptions(
                source=chosen.scale_source, constant=chosen.scale,
                camera_height=chosen.camera_height, camera_pitch=chosen.camera_pitch,
                camera_roll=chosen.camera_roll),
            refine_flow=chosen.refine_flow)
        if pipeline.has_flow:
            pipeline.prepare_flow(chosen.motion_smoothing, newest_only=True)
        elif chosen.confirmed_depth:
            raise ConfigurationError('confirmed_depth needs flow, and model file '
                                     f'{chosen.model} has no flow network; set it to false')
        return pipeline

    def open_outputs(self):
        """Create publishers and, where asked for, the TF side."""
        self._metric = self.parameters.scale_source != 'none'
        if not self._metric:
            self._frame = OdometryFrame()   # every model has a unit of its own
        # What has no unit must not be taken for metres (ros2_conventions.md section 5).
        suffix = '' if self._metric else '_relative'
        self.verb = ('Depth, odometry and flow' if self.pipeline.has_flow else
                     'Depth and odometry') + ('' if self._metric else ' up to scale')
        self._depth = self.add_output(Image, f'~/depth{suffix}')
        self._info = self.add_output(CameraInfo, '~/camera_info')
        self._odometry = self.add_output(Odometry, f'~/odometry{suffix}')
        self._points = self.add_output(PointCloud2, f'~/points{suffix}')
        if self.pipeline.has_flow:
            self._flow = FlowOutput(self)
        if self.parameters.base_frame or self.parameters.scale_source == 'odometry':
            self._listener = TransformListener(self)
        if self.parameters.publish_tf:
            self._broadcaster = TransformBroadcaster(self)
        if self.parameters.scale_source == 'odometry':
            self._true_motion = WheelMotion(
                self, 'wheel_odometry', self.parameters.base_frame, self._mounting) \
                if not self.parameters.scale_frame else TransformMotion(
                    self._listener, self.parameters.scale_frame, lambda: self._camera_frame)

    def close_outputs(self):
        """Destroy what ``open_outputs`` made."""
        for entity in (self._true_motion, self._listener, self._broadcaster):
            if entity is not None:
                entity.close()
        self._true_motion = self._listener = self._broadcaster = self._flow = None
        super().close_outputs()

    def open_inputs(self):
        """Subscribe to calibration."""
        self._forget()
        self._calibration = CameraInfoInput(self, self._input.info_topics,
                                            self.parameters.rectified)

    def close_inputs(self):
        """Unsubscribe."""
        if self._calibration is not None:
            self._calibration.close()
            self._calibration = None

    def is_wanted(self):
        """Work for subscribers and for TF; camera_info alone says nothing."""
        return self.parameters.publish_tf or self._flow_is_wanted() or any(
            output.get_subscription_count()
            for output in (self._depth, self._odometry, self._points))

    def on_arrival(self, stamp):
        """Note what interrupts the odometry (executor's thread)."""
        self._calibration.find_publisher()
        if not self.is_wanted():
            self._interrupted = True

    def process(self, stamp, frame_id, image):
        """Find depth and motion of one image and publish what is wanted."""
        frame_id = frame_id.lstrip('/')
        self._camera_frame = self.parameters.camera_frame or frame_id
        if not self._camera_frame:
            raise CalibrationError('the image has no frame_id; set camera_frame')
        height, width = image.shape[:2]
        camera = self._calibration.camera_of_image(
            width, height, (frame_id, self._camera_frame), _INFO_TIMEOUT)
        published, refusals, reason = self._published, [], ''
        self._informed = False
        if self._needs_motion():
            result = self._follow(stamp, image, camera)
            confirmed = self.parameters.confirmed_depth
            depth = result.confirmed_depth() if confirmed else result.depth
            reason = result.reason.rstrip('.')
            self._scale = result.scale
            refusals = [self._publish_odometry(stamp, result.odometry, reason),
                        self._publish_flow(stamp, result, reason)]
        else:
            depth, self._scale = self.pipeline.depth_only(image, camera), self.pipeline.scale()
            self._interrupted = True
            self._doubts.clear()
        # The depth comes last: who waits for it has all the rest.
        refusals.insert(0, self._publish_depth(stamp, depth, image, camera, reason))
        # What is merely not due is told only where nothing is withheld.
        refusals = sorted((refusal for refusal in refusals if refusal is not None),
                          key=lambda refusal: isinstance(refusal, NothingDue))
        self._withheld = f'{refusals[0]}.' \
            if refusals and not isinstance(refusals[0], NothingDue) else ''
        if refusals and self._published == published:
            raise refusals[0]

    def resize(self):
        """Let motion start anew, for images of two sizes show none; odometry goes on."""
        self._restart()
        self._resets += 1

    def reset(self):
        """Forget everything from before a jump in time."""
        self.resize()
        self._frame = OdometryFrame()
        for entity in (self._listener, self._true_motion):
            if entity is not None:
                entity.reset()

    def describe(self):
        """Say what is published, from which model, and where the metres come from."""
        values = {'model': self.parameters.model}
        # A doubt about one image in between is no state of the node.
        doubts = [doubt for doubt in self._doubts.copy() if doubt]
        warning = self._withheld or (doubts[-1] if 2 * len(doubts) > len(self._doubts) else '')
        if self.pipeline is not None:
            values['engine'] = self.pipeline.describe()
            values['model sha256'] = self.pipeline.model.sha256
            values['scale source'] = self.parameters.scale_source
        if self._scale is not None:
            values.update(_describe_scale(self._scale))
            values['odometry of'] = self._child_frame()
        values['resets'] = str(self._resets)
        if self._last_reset:
            values['last reset'] = self._last_reset
        if self._residual is not None:
            values['photometric residual'] = f'{self._residual:.3f}'
        values.update(self._tracking)
        if self._moving is not None:
            values['what moves'] = self._moving
        if self._calibration is not None and not warning:
            warning = self._calibration.doubt(self._input.topic, self._camera_frame)
        return values, self._camera_frame, warning

    def _forget(self):
        self._camera_frame = self._withheld = self._last_reset = self._scale_problem = ''
        self._doubts = deque(maxlen=_DOUBTS)
        self._published = self._resets = 0
        self._residual = self._scale = self._moving = None
        self._tracking = {}         # how corners are followed
        self._last_told = {}        # what -> stamp of the last motion that was published
        self._informed = False      # whether the calibration of this image is out
        self._last_motion = None    # stamps of the two frames whose true distance is asked for
        self._interrupted = True    # images were left out, so that motion has to start anew

    def _restart(self):
        """Let motion start anew, from where the robot was last."""
        self.pipeline.reset()
        self._frame.restart()
        self._last_motion = None
        self._last_told = {}
        self._interrupted = False

    def _odometry_is_wanted(self):
        return self.parameters.publish_tf or self._odometry.get_subscription_count() > 0

    def _flow_is_wanted(self):
        return self._flow is not None and self._flow.is_wanted()

    def _flow_is_needed(self):
        return self._flow_is_wanted() or self.parameters.confirmed_depth and any(
            output.get_subscription_count() for output in (self._depth, self._points))

    def _needs_motion(self):
        """Tell whether depth alone would do; these two scales are learned on the way."""
        return (self._odometry_is_wanted() or self._flow_is_needed()
                or self.parameters.scale_source in ('camera_height', 'odometry'))

    def _follow(self, stamp, image, camera):
        """Return what the pipeline makes of the next image of the video."""
        if self._interrupted:
            self._restart()
        self._learn_scale()
        result = self.pipeline(image, camera, stamp, flow=self._flow_is_needed())
        undecided = '' if result.flow is None else result.flow.reason
        if result.flow is not None:
            self._moving = undecided or 'told'
        self._doubts.append(result.warning or undecided and
                            f'It cannot be told what moves: {undecided}.')
        if result.reset:
            self._frame.restart()
            self._resets += 1
            self._last_reset = result.reset
            self.get_logger().warning(
                f'{result.reset.rstrip(".")}; odometry goes on from the last pose',
                throttle_duration_sec=5.0)
        if result.odometry is not None:
            self._residual = result.odometry.residual
            self._tracking = {'tracking': result.odometry.state, **self.pipeline.tracking}
            self._last_motion = (stamp - round(1e9 * result.odometry.interval), stamp)
        return result

    def _learn_scale(self):
        """Tell the pipeline the true length of its last motion; wheels may come after images."""
        if self._true_motion is None or self._last_motion is None:
            return
        try:
            self.pipeline.observe_distance(self._true_motion.distance(*self._last_motion))
            self._scale_problem = ''
        except TransformError as error:
            self._scale_problem = f': {error}'
        self._last_motion = None

    def _publish_odometry(self, stamp, estimate, reason):
        """Publish a motion, or return why not, if anybody listens."""
        if estimate is not None and estimate.metric != self._metric:
            self._frame.restart()   # what is added up so far has another unit
        if not self._odometry_is_wanted():
            return None
        if estimate is None:
            return self._no_motion('odometry', stamp, reason)
        if estimate.metric != self._metric:
            return self._no_scale()
        child = self._child_frame()
        try:
            before, now = (self._mounting(child, instant) for instant in (
                stamp - round(1e9 * estimate.interval), stamp))
        except TransformError as error:
            return Rejection('transform', f'the odometry waits for TF: {error}')
        frame = copy(self._frame)
        try:
            base = frame.update(estimate, now, before)
            covariances = base.covariance, base.twist_covariance
            if self.parameters.two_d:
                covariances = map(uncouple_plane, covariances)
            pose_covariance, twist_covariance = covariances
            message = odometry_message(stamp, self.parameters.odom_frame, child, base.T_odom_base,
                                       pose_covariance, base.twist, twist_covariance)
            broken = broken_rule(odometry_problems(message))
        except PoseError as error:
            broken = broken_rule([str(error)])
        if broken:
            self._interrupted = True   # it must not be added to
            return broken
        self._frame = frame
        self._odometry.publish(message)
        if self._broadcaster is not None:
            self._broadcaster.send(stamp, self.parameters.odom_frame, child, base.T_odom_base)
        self._published += 1
        self._last_told['odometry'] = stamp
        return None

    def _publish_flow(self, stamp, result, reason):
        """Publish flow and what moves, or return why not, if anybody listens."""
        if not self._flow_is_wanted():
            return None
        if result.flow is None:
            # Who came while the image was in work is served with the next one.
            return None if result.odometry else self._no_motion('flow', stamp, reason)
        self._inform(stamp, result.flow.camera)
        self._flow.publish(self._camera_frame, result.flow)
        self._published += 1
        self._last_told['flow'] = stamp
        return None

    def _no_motion(self, what, stamp, reason):
        """Return that there is none: a fault if it has been missing for long."""
        # Networks want frames some time apart; motion then comes with every second or third.
        late = stamp - self._last_told.setdefault(what, stamp) > _USUAL_PAUSE_NS
        return (Rejection if late else NothingDue)('motion', reason)

    def _inform(self, stamp, camera):
        """Publish the calibration of depth and flow, once an image."""
        if not self._informed:
            self._info.publish(camera_info_message(stamp, self._camera_frame, camera))
            self._informed = True

    def _publish_depth(self, stamp, estimate, image, camera, reason):
        """Publish depth and points, or return why not, if anybody listens."""
        depth, points = (output.get_subscription_count() > 0
                         for output in (self._depth, self._points))
        if not (depth or points):
            return None
        if estimate is None:
            return self._no_motion('depth', stamp, reason)
        if estimate.metric != self._metric:
            return self._no_scale()
        if not np.isfinite(estimate.depth).any():
            return Rejection('depth', reason or (
                'the frame before confirms none of it' if self.parameters.confirmed_depth else
                'the image shows nothing'))
        message = image_message(stamp, self._camera_frame, estimate.depth, '32FC1')
        broken = broken_rule(depth_problems(message, camera_info_message(
            stamp, self._camera_frame, estimate.camera)))
        if broken:
            return broken
        if depth:
            self._inform(stamp, estimate.camera)
            self._depth.publish(message)
        if points:
            self._points.publish(point_cloud_message(stamp, self._camera_frame, coloured_points(
                estimate.depth, estimate.camera, image, camera)))
        self._published += 1
        self._last_told['depth'] = stamp
        return None

    def _no_scale(self):
        return Rejection('scale', self._scale.sentence.rstrip('.') + self._scale_problem)

    def _child_frame(self):
        return self.parameters.base_frame or body_frame_of(self._camera_frame)[0]

    def _mounting(self, frame, stamp):
        """Return where the camera sits on a frame."""
        if not self.parameters.base_frame and frame == self._child_frame():
            return body_frame_of(self._camera_frame)[1]
        return self._listener.lookup(frame, self._camera_frame, stamp,
                                     self.parameters.tf_timeout_s)


def _describe_scale(scale):
    """Return key-values of the diagnostics."""
    values = {'scale': scale.sentence, 'scale confidence': f'{scale.confidence:.2f}'}
    if scale.metres_per_unit is not None:
        values['scale [m/unit]'] = f'{scale.metres_per_unit:.6g}'
    if scale.spread is not None:
        values['scale spread'] = f'{scale.spread:.3f}'
    return values


def main(args=None):
    """Run the node; the console script."""
    sys.exit(run_node(GeometryNode, args))


if __name__ == '__main__':
    main()
