# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The base of the nodes: images in, newest one worked on in one thread, everything reported."""

from dataclasses import dataclass, replace
import time
import traceback

from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions

from geo_perception.errors import ConfigurationError, GeoPerceptionError
from geo_perception.ros.diagnostics import DiagnosticsPublisher, ERROR, FrameStatistics, OK
from geo_perception.ros.diagnostics import Outcome, summarize, WARN
from geo_perception.ros.image_input import ImageInput
from geo_perception.ros.image_stream import ImageStream
from geo_perception.ros.lifecycle import GuardedLifecycleNode
from geo_perception.ros.parameters import declare_parameters, NodeParameters, parameter
from geo_perception.ros.parameters import read_parameters
from geo_perception.ros.shared_images import SharedImages
from geo_perception.ros.worker import LatestFrameWorker

# In lock step the player waits for results; this many images may wait in between.
_LOCK_STEP_CAPACITY = 32
_STOP_TIMEOUT = 10.0   # s; an inference on a slow and busy machine


@dataclass(frozen=True)
class PerceptionParameters(NodeParameters):
    """The parameters that every node of this package has."""

    model: str = parameter(
        '', 'Model file (.safetensors). Must be given. May be changed at any time: the file is '
        'loaded while the old model waits, which goes on if it cannot be.', live=True)
    device: str = parameter(
        'auto', 'Where the network runs: cpu, cuda or cuda:1; auto takes the first GPU if there '
        'is one.')
    precision: str = parameter(
        'auto', 'Number format of the network; auto takes the fastest that keeps the accuracy.',
        choices=('auto', 'fp32', 'fp16', 'bf16'))
    threads: int = parameter(
        0, 'CPU threads of the network; 0 leaves it to the engine.', minimum=0, maximum=256)
    image_transport: str = parameter(
        'raw', 'compressed listens on <image>/compressed.', choices=('raw', 'compressed'))
    image_reliability: str = parameter(
        'best_effort', 'best_effort hears every camera; reliable loses nothing, but hears only '
        'reliable publishers (bag replay).', choices=('best_effort', 'reliable'))
    queue: str = parameter(
        'newest', 'newest drops images that come too fast; lock_step works on every image in '
        'order, asks for reliable delivery, and is for a player that waits for the results.',
        choices=('newest', 'lock_step'))
    watchdog_s: float = parameter(
        5.0, 'Without an image for this long the diagnostics say why.', unit='s',
        minimum=0.1, maximum=3600.0)
    autostart: bool = parameter(
        True, 'Configure and activate at start; false leaves that to a lifecycle manager.',
        read_only=True)


class Rejection(Exception):
    """
    A result that was computed and is withheld.

    Parameters
    ----------
    category : str
        One word, counted in the diagnostics.
    sentence : str
        Why.

    """

    outcome = Outcome.REJECTED

    def __init__(self, category, sentence):
        super().__init__(sentence)
        self.category = category


def broken_rule(problems):
    """
    Return the rejection of a result that its readers would refuse or be misled by.

    Parameters
    ----------
    problems : list of str
        From `geo_perception.ros.validators`.

    Returns
    -------
    Rejection or None
        None without problems.

    """
    return Rejection('rule', f'what was found would mislead its readers: {problems[0]}') \
        if problems else None


class NothingDue(Rejection):
    """A frame without a result while results come as often as they should."""

    outcome = Outcome.LEFT_OUT


class PerceptionNode(GuardedLifecycleNode):
    """
    A lifecycle node that turns images of one topic into results.

    A subclass gives ``parameters_class``, ``subsystem`` and ``verb`` and fills in
    :meth:`load_pipeline`, :meth:`open_outputs`, :meth:`process` and, where there is something
    to do, the other methods of the second half. The pipeline is loaded and run in one and the
    same worker thread.

    Parameters
    ----------
    name : str
        Node name.
    images : SharedImages, optional
        Of the process, where other nodes in it listen to the same camera.
    threads : int
        CPU threads of the network where the parameter leaves their number open; 0 leaves it to
        the engine.
    **options
        For ``rclpy.node.Node``.

    Attributes
    ----------
    images : SharedImages
        As given, or one of its own.
    parameters : PerceptionParameters
        As they were when the node was configured.
    pipeline : object
        What ``load_pipeline`` returned; None while unconfigured.
    statistics : FrameStatistics
        Of the images since activation.
    diagnostics : DiagnosticsPublisher
        Publishes every second.

    Raises
    ------
    ConfigurationError
        When a parameter is unknown, of the wrong type or out of range.

    """

    parameters_class = PerceptionParameters
    subsystem = 'perception'
    verb = 'Working'

    def __init__(self, name, images=None, threads=0, **options):
        super().__init__(name, **options)
        self.images = SharedImages() if images is None else images
        self._share_of_threads = threads
        self.pipeline = None
        self._worker = None
        self._input = None
        self._outputs = []
        self._last_stamp = self._last_size = None
        self._last_clock = None
        self._last_level = OK
        self._stream = ImageStream()
        try:
            declare_parameters(self, self.parameters_class, self._on_parameters)
        except ConfigurationError:
            self.destroy_node()
            raise
        self.parameters = read_parameters(self, self.parameters_class)
        self.statistics = FrameStatistics(self.parameters.watchdog_s)
        self.diagnostics = DiagnosticsPublisher(self, self.subsystem, self._report)

    # Lifecycle

    def configure(self):
        """Load the pipeline in the worker thread and create the publishers."""
        self.parameters = read_parameters(self, self.parameters_class)
        capacity = _LOCK_STEP_CAPACITY if self._lock_step else 1
        self._worker = LatestFrameWorker(self._work, self._on_unexpected, capacity)
        self.pipeline = self._worker.call(self.load_pipeline)
        self.open_outputs()
        self.get_logger().info(f'configured with {self.parameters}')

    def activate(self):
        """Subscribe to the images."""
        self.statistics = FrameStatistics(self.parameters.watchdog_s)
        self._last_stamp = self._last_size = None
        self._stream = ImageStream()
        self._input = ImageInput(
            self, 'image', self.parameters.image_transport,
            self._lock_step or self.parameters.image_reliability == 'reliable',
            _LOCK_STEP_CAPACITY if self._lock_step else 1, self.images, self._on_image)
        self.open_inputs()
        # Last: the thread that hands out shared images may be another node's.
        self._input.listen()
        self.get_logger().info(f'listening on {self._input.topic}')

    def deactivate(self):
        """Unsubscribe, drop what waits and let the image in work finish."""
        if self._input is not None:
            self._input.close()
            self._input = None
        if self._worker is not None and not self._worker.clear(_STOP_TIMEOUT):
            self.get_logger().warning('the image in work takes very long; its result is dropped')
        self.close_inputs()

    def cleanup(self):
        """Release pipeline, publishers and worker."""
        if self._worker is not None:
            self._worker.stop(_STOP_TIMEOUT)
            self._worker = None
        self.close_outputs()
        self.pipeline = None

    def _on_parameters(self, parameters, names):
        """Swap the model under the running node; refuse by raising (executor's thread)."""
        if 'model' not in names or self.pipeline is None:
            return
        before, active = self.parameters, self.phase == 'active'
        self.parameters = replace(before, model=parameters.model)
        if active:
            self._input.close()   # another node of the process gets images meanwhile
        try:
            pipeline = self._worker.call(self.load_pipeline)
        except BaseException:
            self.parameters = before
            if active:
                self._input.listen()
            raise
        # Another model may have other outputs, frames and units; inputs and state start anew.
        if active:
            self.deactivate()
        self.close_outputs()
        self.pipeline = pipeline
        self.open_outputs()
        if active:
            self.activate()
            for publisher in self._outputs:
                publisher.on_activate(None)
        self.get_logger().info(f'the model is now {parameters.model}')

    def destroy_node(self):
        """Stop the worker before the publishers go, then destroy the node."""
        self._release()
        super().destroy_node()

    # For subclasses

    def load_pipeline(self):
        """
        Return the pipeline for ``self.parameters``; runs in the worker thread.

        Returns
        -------
        object

        """
        raise NotImplementedError

    def open_outputs(self):
        """Create the publishers."""

    def close_outputs(self):
        """Destroy the publishers made by :meth:`add_output`."""
        for publisher in self._outputs:
            self.destroy_lifecycle_publisher(publisher)
        self._outputs = []

    def open_inputs(self):
        """Forget what was seen and subscribe to what comes beside the images."""

    def close_inputs(self):
        """End what ``open_inputs`` began; must work when that stopped half way."""

    def process(self, stamp, frame_id, image):
        """
        Work on one image in the worker thread and publish the result.

        Parameters
        ----------
        stamp : int
            Nanoseconds, of the image.
        frame_id : str
            Of the image.
        image : np.ndarray
            (H, W, 3) uint8 RGB.

        Raises
        ------
        Rejection
            When there is a result, but it is not to be published.
        GeoPerceptionError
            When there is no result.

        """
        raise NotImplementedError

    def is_wanted(self):
        """
        Tell whether anybody wants a result.

        Returns
        -------
        bool

        """
        return any(publisher.get_subscription_count() for publisher in self._outputs)

    def on_arrival(self, stamp):
        """
        Do what must be done for each image that arrives, in the executor's thread; be quick.

        Parameters
        ----------
        stamp : int
            Nanoseconds.

        """

    def reset(self):
        """Forget what depends on earlier images, for time jumped back (worker's thread)."""

    def resize(self):
        """Forget what depends on the size of the images before (worker's thread)."""

    def describe(self):
        """
        Return what the diagnostics should say beside the counters.

        Returns
        -------
        values : dict
            Text by name.
        hardware_id : str
            E.g. the camera frame.
        warning : str
            One sentence, empty if all is well; told while results are wanted.

        """
        return {}, '', ''

    def add_output(self, message_class, topic, depth=5):
        """
        Create a reliable lifecycle publisher whose QoS users may override by parameters.

        Parameters
        ----------
        message_class : type
            Message.
        topic : str
            Name.
        depth : int
            Number of messages kept for a slow reader.

        Returns
        -------
        rclpy.lifecycle.LifecyclePublisher

        """
        publisher = self.create_lifecycle_publisher(
            message_class, topic, QoSProfile(depth=depth),
            qos_overriding_options=QoSOverridingOptions.with_default_policies())
        self._outputs.append(publisher)
        return publisher

    @property
    def threads(self):
        """Return the CPU threads of the network, 0 for as many as the engine likes."""
        return self.parameters.threads or self._share_of_threads

    # The way of an image

    @property
    def _lock_step(self):
        return self.parameters.queue == 'lock_step'

    def _on_image(self, image):
        """Store the image for the worker; nothing that takes time (executor's thread)."""
        now = self.get_clock().now().nanoseconds
        category, sentence = self._stream.arrival(image.stamp, now)
        if category:
            self.statistics.received()
            self.statistics.finished(Outcome.REJECTED, category, sentence)
            return
        self.on_arrival(image.stamp)
        if self.is_wanted():
            self.statistics.received(dropped=self._worker.put(image))
        else:
            self.statistics.received(skipped=True)

    def _work(self, image):
        """Turn one image into a result and count what became of it (worker's thread)."""
        started = time.perf_counter()
        delay, outcome, category, sentence = 0.0, Outcome.PUBLISHED, '', ''
        try:
            picture, first = image.decode()
            self.statistics.decoded(first)
            self._check_continuity(image.stamp, picture.shape[1::-1])
            self._stream.picture(image.stamp, picture)
            self.process(image.stamp, image.frame_id, picture)
            delay = 1e-9 * (self.get_clock().now().nanoseconds - image.stamp)
        except Rejection as rejection:
            outcome, category = rejection.outcome, rejection.category
            sentence = str(rejection)
        except GeoPerceptionError as error:
            outcome, category, sentence = Outcome.FAILED, type(error).__name__, str(error)
            self.get_logger().warning(sentence, throttle_duration_sec=5.0)
        self.statistics.finished(outcome, category, sentence,
                                 time.perf_counter() - started, delay)

    def _on_unexpected(self, error):
        """Survive an error of our own (worker's thread)."""
        if not self.context.ok():
            return   # a signal ended the context; publishing into it fails
        self.statistics.finished(Outcome.FAILED, 'internal error', f'internal error: {error!r}')
        trace = ''.join(traceback.format_exception(type(error), error, error.__traceback__))
        self.get_logger().error(f'internal error on an image:\n{trace}',
                                throttle_duration_sec=5.0)

    def _check_continuity(self, stamp, size):
        """Reset on a jump back in time, resize with the images; one line of log for each."""
        before, size_before = self._last_stamp, self._last_size
        self._last_stamp, self._last_size = stamp, size
        if before is not None and stamp < before:
            self.get_logger().warning(
                f'time jumped back by {1e-9 * (before - stamp):.3f} s; starting anew')
            self.reset()
        elif before is not None and size != size_before:
            self.get_logger().warning(
                'image size changed from {}x{} to {}x{}'.format(*size_before, *size))
            self.resize()

    # Diagnostics

    def _report(self):
        values, hardware_id, warning = self.describe()
        level, sentence = self._condition()
        active = self.phase == 'active'
        if not (active and self.is_wanted()):
            warning = ''   # it is of results that there were once
        warning = self._namesake() or warning or active and self._stream.warning(
            self.get_parameter('use_sim_time').value)
        if warning and level == OK:
            level, sentence = WARN, warning
        if level != self._last_level and active:
            # Two lines: rclpy ties the severity to the place of the call.
            if level == OK:
                self.get_logger().info(sentence)
            else:
                self.get_logger().warning(sentence)
        self._last_level = level
        values = {'state': self.phase, **values, **self.statistics.values()}
        return level, sentence, values, hardware_id

    def _namesake(self):
        """Return that another node has the same name, or nothing."""
        ours = self.get_name(), self.get_namespace()
        if self.get_node_names_and_namespaces().count(ours) < 2:
            return ''
        return (f'Another node is called {self.get_fully_qualified_name()}, too, so that topics, '
                'parameters and diagnostics of both are mixed up: end one of them, or rename it '
                'with -r __node:=other. One that was killed is remembered for half a minute.')

    def _condition(self):
        """Return level and sentence: the first thing that keeps results from coming out."""
        clock = self.get_clock().now().nanoseconds
        stands_still, self._last_clock = clock == self._last_clock, clock
        if self.last_failure:
            return ERROR, (f'The node is {self.phase} because the last transition failed: '
                           f'{self.last_failure}.')
        if self.phase != 'active':
            return OK, f'The node is {self.phase}; it does nothing until activated.'
        # While time stands at zero no timer of ours runs, images or not.
        if clock == 0 and not self.count_publishers('/clock'):
            return ERROR, ('use_sim_time is true, but nobody publishes /clock; play the bag with '
                           '--clock or set use_sim_time:=false.')
        if self.statistics.silence() > self.parameters.watchdog_s:
            if stands_still:
                return OK, '/clock stands still: the playback is paused or over.'
            silence = f'No image for {self.statistics.silence():.1f} s: '
            return ERROR, silence + self._input.why_silent() + '.'
        if not self.is_wanted():
            return OK, 'Nobody subscribes to a result, so nothing is computed.'
        return summarize(self.statistics, self.verb)
